//! The workers: processes that parse patient files and run plugin code, so that what goes wrong there costs one case.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufReader, IsTerminal};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Instant;

use gantry_abi::v1::{self, status};
use serde_json::json;

use super::case::{CaseDone, CaseRun};
use super::devices::{Found, Refusal, try_library};
use super::failure::Failure;
use super::kernels::Kernels;
use super::node::{CaseContext, LiveNode, Warning};
use super::protocol::{CaseOrder, Completion, Order, PrepareOrder, Private, Reply, receive, send};
use super::pulse::Pulse;
use super::self_audit::{self, CaseTraces, Figures, Public, Unclean, Withheld};
use super::services::Services;
use super::sink::Syncing;
use crate::diagnostic::Sources;
use crate::identity::{Assigned, Key, MappingRow};
use crate::plan::{Plan, Refused};
use crate::registry::Origin;
use crate::registry::library::{FolderBytes, LibraryError};
use crate::series;
use crate::series::identifying::Differences;

/// The pipes to the supervisor, taken from standard input and output before any plugin could see them.
struct Channel {
    orders: mpsc::Receiver<Order>,
    replies: File,
}

/// Takes the pipes over; plugin code gets `/dev/null` for all three standard streams, but a terminal stays for errors.
fn claim() -> std::io::Result<Channel> {
    let null = || -> std::io::Result<OwnedFd> { Ok(File::options().read(true).write(true).open("/dev/null")?.into()) };
    let orders = File::from(rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?);
    let replies = File::from(rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdout(), 3)?);
    rustix::stdio::dup2_stdin(null()?)?;
    rustix::stdio::dup2_stdout(null()?)?;
    if !std::io::stderr().is_terminal() {
        rustix::stdio::dup2_stderr(null()?)?;
    }
    // Nobody is left to answer to when the supervisor dies.
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let mut orders = BufReader::new(orders);
        while let Ok(Some(order)) = receive::<Order>(&mut orders) {
            if sender.send(order).is_err() {
                return;
            }
        }
        // The supervisor closed the pipe: it wants this worker to end, whatever a stage is doing.
        std::process::exit(0);
    });
    Ok(Channel { orders: receiver, replies })
}

/// `gantry worker --role devices`.
pub fn devices() -> ExitCode {
    let Ok(mut channel) = claim() else { return ExitCode::from(3) };
    let Ok(Order::Devices(order)) = channel.orders.recv() else { return ExitCode::from(3) };
    let driver = crate::machine::cuda::look(order.open);
    let mut refused = BTreeMap::new();
    // Without a driver none of them can be opened, and that they cannot says nothing more.
    for trial in order.trials.iter().filter(|_| driver.is_ok()) {
        let tried = match tempfile::Builder::new().prefix("gantry-").tempdir() {
            Ok(private) => try_library(trial, private.path()),
            Err(e) => Err(Refusal { why: format!("making a private folder: {}", e.kind()), exit: 3 }),
        };
        if let Err(refusal) = tried {
            refused.insert(trial.plugin.clone(), refusal);
        }
    }
    match send(&mut channel.replies, &Reply::Devices(Box::new(Found { driver, refused }))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::from(3),
    }
}

/// `gantry worker --role scan`.
pub fn scan() -> ExitCode {
    let Ok(channel) = claim() else { return ExitCode::from(3) };
    let Ok(Order::Scan(order)) = channel.orders.recv() else { return ExitCode::from(3) };
    let options = series::ScanOptions {
        include_derived: order.include_derived,
        repair: order.repair,
        exclude: order.exclude,
        poisonous: order.poisonous,
        instances: order.instances,
    };
    let Ok(pool) = rayon::ThreadPoolBuilder::new().num_threads(if order.careful { 1 } else { 0 }).build() else {
        return ExitCode::from(3);
    };
    let replies = Mutex::new(channel.replies);
    let told = |path: &Path| {
        let mut replies = replies.lock().unwrap_or_else(|e| e.into_inner());
        // A supervisor that is gone kills this process; there is nothing else to do about a closed pipe.
        let _ = send(&mut *replies, &Reply::Scanning { path: path.to_owned() });
    };
    let report = pool.install(|| series::scan(&order.roots, &options, &told));
    let reply = match report {
        Ok(report) => Reply::Scanned(Box::new(report)),
        Err(fault) => Reply::Refused { failure: Failure::host(&fault.code, fault.text), exit: 2 },
    };
    match send(&mut *replies.lock().unwrap_or_else(|e| e.into_inner()), &reply) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::from(3),
    }
}

/// `gantry worker --role case`; `builtin` is the entry of the built-in stages.
pub fn case(builtin: &'static v1::Entry) -> ExitCode {
    let Ok(mut channel) = claim() else { return ExitCode::from(3) };
    let Ok(Order::Prepare(order)) = channel.orders.recv() else { return ExitCode::from(3) };
    let cancel = Arc::new(AtomicBool::new(false));
    if signal_hook::flag::register(signal_hook::consts::SIGTERM, Arc::clone(&cancel)).is_err() {
        return ExitCode::from(3);
    }
    let mut ready = match Ready::new(&order, builtin, &cancel) {
        Ok((ready, built_by)) => {
            let nodes = ready.plan.graph.nodes.iter().map(|n| n.id.clone()).collect();
            if send(&mut channel.replies, &Reply::Ready { built_by, nodes }).is_err() {
                return ExitCode::from(3);
            }
            ready
        }
        Err((failure, exit)) => {
            // The supervisor reads the refusal or finds the worker dead; either way it knows.
            let _ = send(&mut channel.replies, &Reply::Refused { failure, exit });
            return ExitCode::from(exit);
        }
    };
    while let Ok(Order::Case(case)) = channel.orders.recv() {
        let reply = ready.run(&case, &cancel);
        if send(&mut channel.replies, &reply).is_err() {
            return ExitCode::from(3);
        }
    }
    ExitCode::SUCCESS
}

/// A prepared case worker.
struct Ready {
    order: PrepareOrder,
    plan: Plan,
    live: Vec<LiveNode>,
    pool: rayon::ThreadPool,
    pulse: Pulse,
    key: Option<Key>,
    assigned: Option<Arc<Assigned>>,
    /// What nodes said they compute with.
    kernels: Arc<Mutex<BTreeMap<String, Kernels>>>,
}

impl Ready {
    #[allow(clippy::type_complexity, reason = "a pair and its refusal")]
    fn new(
        order: &PrepareOrder,
        builtin: &'static v1::Entry,
        cancel: &AtomicBool,
    ) -> Result<(Ready, BTreeMap<String, String>), (Failure, u8)> {
        let environment = |text: String| (Failure { environment: true, ..Failure::host("environment", text) }, 3);
        let integrity = |code: &str, text: String| (Failure::host(code, text), 4);
        let pulse = File::options()
            .write(true)
            .open(&order.pulse)
            .map_err(|e| environment(format!("pulse file: {}", e.kind())))?;
        let pulse = Pulse::new(Some(pulse));
        let planned = order.request.plan(&mut Sources::new()).map_err(|refused| match refused {
            Refused::Documents(_) => {
                integrity("changed-documents", "the installed documents changed while the run started".into())
            }
            Refused::Environment(text) => environment(text),
            Refused::Integrity(text) => integrity("plugin-integrity", text),
            Refused::Pseudonyms(text) => (Failure::host("pseudonyms", text), 2),
        })?;
        if planned.plan.digest != order.plan_digest {
            return Err(integrity(
                "changed-documents",
                "plugins, checkpoints or documents changed while the run started".into(),
            ));
        }
        let plan = planned.plan;
        let key = match &order.request.key {
            None => None,
            Some(path) => Some(Key::load(path).map_err(|e| (Failure::host("key", e.to_string()), 2))?),
        };
        let assigned = match &order.request.pseudonyms {
            None => None,
            Some(path) => {
                Some(Arc::new(Assigned::load(path).map_err(|e| (Failure::host("pseudonyms", e.to_string()), 2))?))
            }
        };
        // A plugin has a library for each device; nodes of one plugin may run on different ones.
        let mut entries: BTreeMap<(String, bool), &'static v1::Entry> = BTreeMap::new();
        let mut built_by = BTreeMap::new();
        let cuda = order.request.arithmetic.cuda.as_ref();
        let on_card = |node: &str| cuda.is_some_and(|cuda| cuda.nodes.iter().any(|n| n == node));
        for node in &plan.graph.nodes {
            let Origin::Plugin(folder) = &node.entry.origin else { continue };
            let id = &folder.manifest.id;
            let card = on_card(&node.id);
            if entries.contains_key(&(id.clone(), card)) {
                continue;
            }
            let refused = |e: LibraryError| match e {
                LibraryError::Io { .. } => environment(e.to_string()),
                LibraryError::Refused { gate, .. } => integrity(gate.code(), e.to_string()),
            };
            let bytes = FolderBytes::read(id, &folder.path).map_err(refused)?;
            let expected = order.plugins.get(id).map(String::as_str);
            let library = match card {
                false => folder.library.strip_prefix(&folder.path).unwrap_or(&folder.library),
                true => Path::new(folder.manifest.library_for("cuda").unwrap_or_default()),
            };
            let private = match card {
                false => order.private.clone(),
                true => {
                    card_copies(&order.private).map_err(|e| environment(format!("a private folder: {}", e.kind())))?
                }
            };
            let opened = bytes.open(library, &folder.manifest_text, expected, &private).map_err(refused)?;
            built_by.insert(id.clone(), opened.built_by.clone());
            entries.insert((id.clone(), card), opened.entry);
        }
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(plan.threads)
            .build()
            .map_err(|e| environment(format!("threads: {e}")))?;
        let kernels = Arc::default();
        let services = Services {
            sources: BTreeMap::new(),
            roots: Vec::new(),
            derivations: BTreeMap::new(),
            key: None,
            assigned: None,
            mapping: None,
            kernels,
        };
        let warnings = Mutex::default();
        let context = CaseContext {
            case_no: 0,
            case: "",
            run_seed: order.seed,
            threads: plan.threads,
            host_budget: 0,
            memory_limit: order.memory_limit,
            cancel,
            pulse: &pulse,
            services: &services,
            warnings: &warnings,
            differences: &Mutex::default(),
        };
        let mut live = Vec::new();
        for (index, node) in plan.graph.nodes.iter().enumerate() {
            pulse.enter(0, index as u64);
            let entry = match &node.entry.origin {
                Origin::Builtin => builtin,
                Origin::Plugin(folder) => entries[&(folder.manifest.id.clone(), on_card(&node.id))],
            };
            live.push(LiveNode::new(node, entry, &context).map_err(|failure| {
                let exit = match failure.status {
                    status::BAD_PARAMS => 2,
                    status::RESOURCE => 3,
                    _ => 4,
                };
                (failure.at(&node.id), exit)
            })?);
        }
        let kernels = services.kernels;
        Ok((Ready { order: order.clone(), plan, live, pool, pulse, key, assigned, kernels }, built_by))
    }

    fn run(&mut self, case: &CaseOrder, cancel: &AtomicBool) -> Reply {
        let started = Instant::now();
        let (warnings, differences) = (Mutex::default(), Mutex::default());
        let derive = |node: &str| super::derivation::of(&self.plan, node, case, &self.order, self.key.as_ref());
        let derivations =
            self.plan.graph.nodes.iter().filter(|n| n.entry.spec.services.iter().any(|s| s == "gantry.derive/1"));
        let derivations = derivations.map(|n| (n.id.clone(), derive(&n.id))).collect();
        let sources = self.plan.graph.nodes.iter().filter_map(|node| {
            let of = super::cases::source_of(&self.plan.graph, node)?;
            Some((node.id.clone(), json!(case.sources.get(&of)?)))
        });
        let kernels = Arc::clone(&self.kernels);
        let services = Services {
            sources: sources.collect(),
            roots: case.roots.clone(),
            derivations,
            key: self.key.clone(),
            assigned: self.assigned.clone(),
            mapping: self.order.mapping.then(Mutex::default),
            kernels,
        };
        let context = CaseContext {
            case_no: case.case_no,
            case: &case.case,
            run_seed: self.order.seed,
            threads: self.plan.threads,
            host_budget: 0,
            memory_limit: self.order.memory_limit,
            cancel,
            pulse: &self.pulse,
            services: &services,
            warnings: &warnings,
            differences: &differences,
        };
        let run = CaseRun::new(&self.plan, &self.live, &context, &self.pool, &case.staging);
        // The disk writes while what was written is audited.
        let mut syncing = None;
        let done = run.and_then(CaseRun::run).and_then(|CaseDone { files, nodes, expected_bytes }| {
            let (outputs, begun) = files.finish()?;
            syncing = Some(begun);
            Ok((outputs, nodes, expected_bytes))
        });
        let done = done.and_then(|done| match cancel.load(Ordering::Relaxed) {
            true => Err(Failure::from_status(status::CANCELLED, None)),
            false => Ok(done),
        });
        let result = match done {
            Ok((outputs, mut nodes, expected_bytes)) => {
                let told = self.kernels.lock().unwrap_or_else(|e| e.into_inner());
                for (node, figures) in &mut nodes {
                    figures.kernels = told.get(node).cloned();
                }
                Ok((outputs, nodes, expected_bytes))
            }
            Err(failure) => {
                // After INTERNAL an instance is in an unknown state: it is made anew before the next case.
                if failure.status == status::INTERNAL
                    && let Some(index) =
                        failure.node.as_ref().and_then(|n| self.plan.graph.nodes.iter().position(|x| &x.id == n))
                    && let Err(again) = self.live[index].revive(&self.plan.graph.nodes[index], &context)
                {
                    tracing::warn!(node = self.plan.graph.nodes[index].id, "could not be made anew: {again}");
                }
                Err(failure)
            }
        };
        let mut warnings: Vec<Warning> = warnings.into_inner().unwrap_or_else(|e| e.into_inner());
        // Nodes that work at the same time warn in any order; those of one node stay in theirs.
        let place = |id: &str| self.plan.graph.nodes.iter().position(|n| n.id == id);
        warnings.sort_by_key(|w| place(&w.node));
        let completion = result.map(|(outputs, nodes, expected_peak_bytes)| Completion {
            case_no: case.case_no,
            outputs,
            nodes,
            warnings: warnings.clone(),
            expected_peak_bytes,
            peak_rss_bytes: crate::machine::resident().1,
            seconds: started.elapsed().as_secs_f64(),
            self_audit: None,
        });
        let synced = || syncing.map_or(Ok(()), Syncing::wait);
        if !self_audit::wanted(&self.plan.graph) {
            let private = Private::default();
            let completion = completion.and_then(|completion| {
                synced()?;
                Ok(Completion { seconds: started.elapsed().as_secs_f64(), ..completion })
            });
            return match completion {
                Ok(completion) => Reply::Finished { completion: Box::new(completion), private },
                Err(failure) => Reply::Failed { case_no: case.case_no, failure, warnings, private },
            };
        }
        let differences = differences.into_inner().unwrap_or_else(|e| e.into_inner());
        let mut withheld = self.withheld(case, &differences, completion.is_err());
        let mapping = mapping(services.mapping, &differences);
        let mut leaked = Withheld::default();
        let audited = completion.and_then(|completion| {
            self.pulse.progress(1);
            let figures = self.audit(case, &completion, &withheld).map_err(|unclean| {
                leaked.join(*unclean.value);
                *unclean.failure
            })?;
            synced()?;
            Ok(Completion { self_audit: Some(figures), seconds: started.elapsed().as_secs_f64(), ..completion })
        });
        let audited = audited.map_err(|failure| {
            let log = self_audit::said::take();
            let (failure, found) = self_audit::failed(failure, &mut warnings, &log, &mut withheld);
            leaked.join(found);
            failure
        });
        let private = Private { withheld: withheld.bounded().packed(), leaked: leaked.packed(), mapping };
        match audited {
            Ok(completion) => Reply::Finished { completion: Box::new(completion), private },
            Err(failure) => Reply::Failed { case_no: case.case_no, failure, warnings, private },
        }
    }

    /// What must not leave of a case; of one that failed before its headers were read, what the scan knew.
    fn withheld(&self, case: &CaseOrder, differences: &Differences, failed: bool) -> Withheld {
        let public = Public::of_run(&self.order.request.pipeline_text, &self.plan.graph, self.order.run_time);
        let names = self_audit::source_names(case.sources.values(), &case.roots);
        match failed && differences.gone.is_empty() {
            true => Withheld::of(&self_audit::unread(case.sources.values()), &names, &public),
            false => Withheld::of(differences, &names, &public),
        }
    }

    /// Reads everything again that the case is about to leave.
    fn audit(&self, case: &CaseOrder, completion: &Completion, withheld: &Withheld) -> Result<Figures, Unclean> {
        let record = serde_json::to_vec(completion).map_err(|e| Failure::host("self-audit", e.to_string()))?;
        let log = self_audit::said::take();
        let (outputs, staging) = (completion.outputs.as_slice(), case.staging.as_path());
        let traces = CaseTraces { staging, outputs, record: &record, log: &log };
        self_audit::case(&traces, withheld, &self_audit::identifying(&self.plan.graph), &self.pool)
    }
}

/// What stands for whom in what left: of the answers of the service, those that were used.
fn mapping(
    answered: Option<Mutex<BTreeSet<MappingRow>>>,
    differences: &Differences,
) -> Vec<(String, String, String, Option<i64>)> {
    let rows = answered.map(|rows| rows.into_inner().unwrap_or_else(|e| e.into_inner())).unwrap_or_default();
    let used = |row: &MappingRow| differences.written.contains(row.replacement.as_bytes());
    rows.into_iter().filter(used).map(|r| (r.kind, r.original, r.replacement, r.date_offset_days)).collect()
}

/// The folder for private copies of libraries for cards, made where it is not there; no plugin id begins with a point.
fn card_copies(private: &Path) -> std::io::Result<PathBuf> {
    use std::os::unix::fs::DirBuilderExt;
    let folder = private.join(".cuda");
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
    Ok(folder)
}
