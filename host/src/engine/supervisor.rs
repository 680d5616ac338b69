//! The supervisor: runs no plugin code and parses no DICOM. It scans through a worker, hands cases to workers, and alone
//! writes the journal and moves finished cases into place.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use super::cases::{self, Case};
use super::failure::{Failure, Outcome};
use super::hand::{Hand, HandError, Preparing};
use super::journal::{Journal, Record};
use super::ledger::{Ledger, close_audited};
use super::node::Warning;
use super::output::{Output, OutputError};
use super::protocol::{CaseOrder, Completion, PrepareOrder, Private, ScanOrder};
use super::run_json::{self, RunRecord};
use super::self_audit::{self, Public};
use crate::identity::{Key, MappingError, MappingFile};
use crate::pipeline::CaseName;
use crate::plan::{Plan, Planned, Request, estimate};
use crate::series::{Repair, ScanReport, SeriesRecord};

/// What the command line asked for beyond the request.
#[derive(Debug, Clone)]
pub struct RunOptions {
    /// `-i`.
    pub inputs: Vec<PathBuf>,
    /// `-o`.
    pub output: PathBuf,
    /// `--limit`.
    pub limit: Option<usize>,
    /// `--only`.
    pub only: Vec<String>,
    /// `--jobs`.
    pub jobs: usize,
    /// `--fresh`.
    pub fresh: bool,
    /// `--seed`.
    pub seed: u64,
    /// `--run-time`.
    pub run_time: Option<jiff::Timestamp>,
    /// `--include-derived`.
    pub include_derived: bool,
    /// A worker that shows no life for this long is killed.
    pub stall: Duration,
    /// Memory a case may need by the plan's estimate, bytes.
    pub memory_limit: Option<u64>,
    /// Pinned plugins: id to whether plugins.lock pins it.
    pub pinned: BTreeMap<String, bool>,
    /// What was said about devices.
    pub device_notes: Vec<String>,
    /// `--mapping`: where what stands for whom is written.
    pub mapping: Option<PathBuf>,
}

/// Why a run ended before its cases, with the exit code.
#[derive(Debug)]
pub struct RunError {
    /// 2 configuration, 3 environment, 4 integrity, 130/143 interrupted.
    pub exit: u8,
    /// In words.
    pub text: String,
}

/// What a run did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Summary {
    /// Cases finished now.
    pub done: usize,
    /// Cases finished by an earlier run.
    pub kept: usize,
    /// Cases failed.
    pub failed: usize,
    /// Cases quarantined.
    pub quarantined: usize,
    /// Cases of which an identifying value was found in the run's own documents or words.
    pub leaks: usize,
    /// Memory of the worker at the worst moment of the cases finished now, bytes: expected before, and measured.
    pub peak_bytes: (u64, u64),
}

/// What is told to whoever watches.
pub trait Watcher: Sync {
    /// A remark without patient text.
    fn remark(&self, text: &str);
    /// The scan looked at one more file.
    fn scanning(&self, files: usize);
    /// The cases are known.
    fn cases(&self, total: usize);
    /// A case came to its end; `failure` is why it failed.
    fn case(&self, name: &str, failure: Option<&Failure>);
}

/// An error of the system that ends the run.
pub(super) fn environment(what: &str, e: &std::io::Error) -> RunError {
    let disk = if e.kind() == std::io::ErrorKind::StorageFull { " (the disk is full)" } else { "" };
    RunError { exit: 3, text: format!("{what}: {}{disk}", e.kind()) }
}

/// Runs a pipeline over every case of the inputs.
///
/// # Errors
/// What ended the run before or besides its cases; failed cases are counted in the summary.
pub fn run(
    request: &Request,
    planned: &Planned,
    options: &RunOptions,
    watcher: &dyn Watcher,
    interrupt: &Arc<Mutex<Option<i32>>>,
) -> Result<Summary, RunError> {
    let roots = roots(options)?;
    let output = Output::open(&options.output).map_err(|e| match &e {
        OutputError::Locked => RunError { exit: 3, text: e.to_string() },
        OutputError::Io { what, source } => environment(what, source),
    })?;
    let mut request = request.clone();
    let key = key(&mut request, &output)?;
    let mapping = match &options.mapping {
        None => None,
        Some(_) if !self_audit::wanted(&planned.plan.graph) => {
            let text = "--mapping: nothing in this pipeline takes identity away, so nothing stands for anybody";
            return Err(RunError { exit: 2, text: text.to_owned() });
        }
        Some(path) => {
            output.private().map_err(|e| environment("making OUT/private", &e))?;
            let opened = MappingFile::open(path, &output.folder);
            Some(opened.map_err(|e| {
                let exit = if matches!(e, MappingError::Locked { .. }) { 3 } else { 2 };
                RunError { exit, text: e.to_string() }
            })?)
        }
    };
    let journal_path = output.folder.join("journal.jsonl");
    if options.fresh && journal_path.exists() {
        std::fs::remove_file(&journal_path).map_err(|e| environment("removing the old journal", &e))?;
    }
    let (mut journal, history) = Journal::open(&journal_path)
        .map_err(|e| RunError { exit: 3, text: format!("journal.jsonl: {e}; `--fresh` starts anew") })?;
    let first = history.iter().find_map(|r| match r {
        Record::RunStarted { run_time, .. } => Some(*run_time),
        _ => None,
    });
    // Of a keyed digest nobody learns the key.
    let of_key = key.1.then(|| hex::encode(&key.0.digest("key-of-run", &[])[..8]));
    let other =
        |r: &Record| matches!(r, Record::RunStarted { key: Some(before), .. } if Some(before) != of_key.as_ref());
    if history.iter().any(other) {
        let text = "this output folder was begun with another key: every patient would lie in it twice; \
                    use the key of before, or another output";
        return Err(RunError { exit: 2, text: text.to_owned() });
    }
    let run_time = options.run_time.or(first).unwrap_or_else(now);
    if let (Some(asked), Some(before)) = (options.run_time, first)
        && asked != before
    {
        let text = format!(
            "--run-time {asked} differs from {before}, the time of the run being resumed; use --fresh or another output"
        );
        return Err(RunError { exit: 2, text });
    }
    let private =
        tempfile::Builder::new().prefix("gantry-").tempdir().map_err(|e| environment("making a private folder", &e))?;
    let prepare = PrepareOrder {
        request: request.clone(),
        plan_digest: planned.plan.digest.clone(),
        plugins: planned.plugins.clone(),
        private: private.path().to_owned(),
        pulse: PathBuf::new(),
        memory_limit: options.memory_limit,
        seed: options.seed,
        run_time,
        mapping: options.mapping.is_some(),
    };
    // A first run has cases to do, most likely: its worker gets ready while the inputs are looked through.
    let preparing = if history.is_empty() { Some(prepare_one(&prepare, &output, 0)?) } else { None };
    let all = match cases::made_of_nothing(&planned.plan.graph) {
        Some(count) => cases::from_nothing(&planned.plan, count),
        None => {
            let report = scan(planned, options, &roots, &output, watcher, interrupt)?;
            said(&report, watcher);
            if report.series.is_empty() {
                let text = format!(
                    "no case found: {} files looked at, no series among them{}",
                    report.inputs,
                    why_none(&report)
                );
                return Err(RunError { exit: 2, text });
            }
            write_index(&planned.plan.graph, &output, &report)?;
            let naming = planned.document.output.case_name;
            let naming = if key.1 && naming == CaseName::Folder { CaseName::Pseudonym } else { naming };
            let all = cases::of(&planned.plan, &report, &key.0, naming).map_err(|text| RunError { exit: 2, text })?;
            if all.is_empty() {
                let text = format!(
                    "no case found: {} files looked at, and no series of a kind that this pipeline reads",
                    report.inputs
                );
                return Err(RunError { exit: 2, text });
            }
            all
        }
    };
    let (chosen, others) = choose(all, options)?;
    watcher.cases(chosen.len());
    let record = Record::RunStarted {
        run_time,
        plan_digest: planned.plan.digest.clone(),
        gantry: env!("CARGO_PKG_VERSION").to_owned(),
        seed: options.seed,
        key: of_key,
    };
    journal.append(&record).map_err(|e| environment("writing the journal", &e))?;

    let mut ledger = Ledger::new(&output, journal, history, watcher);
    ledger.mapping = mapping;
    let todo = ledger.skip_finished(&chosen)?;
    let plan = &planned.plan;
    let ended = drive(plan, &prepare, preparing, options, &roots, &output, &chosen, todo, &mut ledger, interrupt);
    let complete = ended.is_ok();
    let record = RunRecord { request: &request, planned, options, run_time, cases: &chosen, complete };
    let written = match self_audit::wanted(&planned.plan.graph) {
        true => {
            let public = Public::of_run(&request.pipeline_text, &planned.plan.graph, run_time);
            ledger.take_unread(chosen.iter().chain(&others), &roots, &public);
            close_audited(&mut ledger, &record)
        }
        false => ledger.close(complete).and_then(|()| ledger.manifest(&run_json::render(&record, &ledger, None))),
    };
    let mapped = ledger.settle_mapping();
    let summary = ledger.summary();
    // What ended the run is what the user must hear, even where its last words cannot be written either.
    ended.and(written).and(mapped)?;
    Ok(summary)
}

fn now() -> jiff::Timestamp {
    let now = jiff::Timestamp::now();
    jiff::Timestamp::from_second(now.as_second()).unwrap_or(now)
}

/// The input folders, absolute; an output that is one of them, holds one or lies in one is refused.
fn roots(options: &RunOptions) -> Result<Vec<PathBuf>, RunError> {
    let mut roots = Vec::new();
    // The output need not be there yet: where it will be is told by the deepest folder that is.
    let output = std::path::absolute(&options.output).unwrap_or_else(|_| options.output.clone());
    let there = output.ancestors().find_map(|folder| folder.canonicalize().ok());
    for (i, path) in options.inputs.iter().enumerate() {
        let root = path.canonicalize().map_err(|e| {
            let why = match e.kind() {
                std::io::ErrorKind::NotFound => "does not exist".to_owned(),
                kind => format!("cannot be read: {kind}"),
            };
            RunError { exit: 2, text: format!("input folder {} (-i) {why}", i + 1) }
        })?;
        if options.output.canonicalize().is_ok_and(|o| o == root || root.starts_with(&o)) {
            return Err(RunError {
                exit: 2,
                text: "the output folder is or holds an input folder; results need a folder of their own".into(),
            });
        }
        if there.as_ref().is_some_and(|folder| folder.starts_with(&root)) {
            let text = format!(
                "the output folder lies in input folder {} (-i), where a later run would take results for input; \
                 name one outside of it",
                i + 1
            );
            return Err(RunError { exit: 2, text });
        }
        roots.push(root);
    }
    Ok(roots)
}

/// The key: the site's, or one made for this output where nothing is de-identified. True if the site gave it.
fn key(request: &mut Request, output: &Output) -> Result<(Key, bool), RunError> {
    let wrong = |e: crate::identity::KeyError| RunError { exit: 2, text: e.to_string() };
    if let Some(path) = &request.key {
        return Ok((Key::load(path).map_err(wrong)?, true));
    }
    let private = output.private().map_err(|e| environment("making OUT/private", &e))?;
    let path = private.join("case-names.key");
    let key = if path.exists() { Key::load(&path) } else { Key::create(&path) };
    Ok((key.map_err(wrong)?, false))
}

fn why_none(report: &ScanReport) -> String {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for skipped in &report.skipped {
        *counts.entry(&skipped.code).or_default() += 1;
    }
    let each: Vec<String> = counts.iter().map(|(code, n)| format!("{n} {code}")).collect();
    if each.is_empty() { String::new() } else { format!(" (files passed over: {})", each.join(", ")) }
}

fn said(report: &ScanReport, watcher: &dyn Watcher) {
    if !report.skipped.is_empty() {
        watcher.remark(why_none(report).trim_matches([' ', '(', ')']));
    }
    for series in &report.series {
        let first = series.instances.first().map_or(0, |i| i.input);
        for warning in &series.warnings {
            watcher.remark(&format!("series from #{first}: {}", warning.text));
        }
    }
}

/// `OUT/private/index.jsonl`: what input index and case stand for. Not written when the pipeline de-identifies.
fn write_index(graph: &crate::graph::Graph, output: &Output, report: &ScanReport) -> Result<(), RunError> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    if graph.nodes.iter().any(|n| n.entry.spec.services.iter().any(|s| s == "gantry.pseudonym/1")) {
        return Ok(());
    }
    let written = (|| {
        let path = output.private()?.join("index.jsonl");
        let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
        for instance in report.series.iter().flat_map(|s| &s.instances) {
            writeln!(file, "{}", serde_json::json!({ "input": instance.input, "path": instance.path }))?;
        }
        for skipped in &report.skipped {
            let line = serde_json::json!({ "input": skipped.input, "path": skipped.path, "skipped": skipped.code });
            writeln!(file, "{line}")?;
        }
        file.sync_all()
    })();
    written.map_err(|e| environment("writing OUT/private/index.jsonl", &e))
}

/// The cases that are asked for, and the others.
fn choose(all: Vec<Case>, options: &RunOptions) -> Result<(Vec<Case>, Vec<Case>), RunError> {
    if let Some(unknown) = options.only.iter().find(|o| !all.iter().any(|c| &c.name == *o)) {
        return Err(RunError { exit: 2, text: format!("--only {unknown}: there is no such case") });
    }
    let asked = |case: &Case| options.only.is_empty() || options.only.contains(&case.name);
    let (mut chosen, mut others): (Vec<Case>, Vec<Case>) = all.into_iter().partition(asked);
    if let Some(limit) = options.limit {
        others.extend(chosen.drain(limit.min(chosen.len())..));
    }
    Ok((chosen, others))
}

/// Scans through a worker. A file on which the worker dies is left out and the scan is begun again.
fn scan(
    planned: &Planned,
    options: &RunOptions,
    roots: &[PathBuf],
    output: &Output,
    watcher: &dyn Watcher,
    interrupt: &Arc<Mutex<Option<i32>>>,
) -> Result<ScanReport, RunError> {
    let repair = planned.plan.graph.nodes.iter().filter_map(|n| n.params.get("repair"));
    let repair: Vec<Repair> =
        repair.flat_map(|r| serde_json::from_value::<Vec<Repair>>(r.clone()).unwrap_or_default()).collect();
    let mut order = ScanOrder {
        roots: roots.to_vec(),
        exclude: vec![output.folder.clone()],
        include_derived: options.include_derived,
        repair,
        poisonous: Vec::new(),
        instances: cases::reads_instances(&planned.plan.graph),
        careful: false,
    };
    loop {
        let mut files = 0;
        let mut last: Option<PathBuf> = None;
        let outcome = Hand::scan(&order, options.stall, interrupt, &mut |path: &Path| {
            files += 1;
            last = Some(path.to_owned());
            watcher.scanning(files);
        });
        match outcome {
            Ok(report) => return Ok(report),
            Err(HandError::Interrupted(signal)) => return Err(interrupted(signal)),
            Err(HandError::Died(_)) if !order.careful => order.careful = true,
            Err(HandError::Died(how)) => match last {
                Some(path) if order.poisonous.len() < 100 => {
                    watcher.remark(&format!("the scan died ({how}) on one file, which is passed over"));
                    order.poisonous.push(path);
                }
                _ => return Err(RunError { exit: 3, text: format!("the scan died: {how}") }),
            },
            Err(HandError::Start(e)) => return Err(environment("starting the scan", &e)),
            Err(HandError::Refused(failure, exit)) => return Err(RunError { exit, text: failure.to_string() }),
        }
    }
}

fn interrupted(signal: i32) -> RunError {
    RunError { exit: 128u8.wrapping_add(signal as u8), text: "interrupted; the same command resumes".to_owned() }
}

/// What came back for one case.
enum Back {
    /// A worker begins with it.
    Started(usize),
    /// The worker said.
    Case(usize, Private, Result<Box<Completion>, (Failure, Vec<Warning>)>),
    /// No worker can be had any more.
    Lost(RunError),
}

/// Hands cases to `jobs` workers until none is left.
#[allow(clippy::too_many_arguments, reason = "the parts of one run, all borrowed")]
fn drive(
    plan: &Plan,
    prepare: &PrepareOrder,
    preparing: Option<Preparing>,
    options: &RunOptions,
    roots: &[PathBuf],
    output: &Output,
    chosen: &[Case],
    todo: Vec<usize>,
    ledger: &mut Ledger,
    interrupt: &Arc<Mutex<Option<i32>>>,
) -> Result<(), RunError> {
    // Refusals need no worker.
    let refusal = |case: &Case| match &case.sources {
        Err(refused) => Some(refused.failure.clone()),
        Ok(sources) => too_large(plan, sources, options.memory_limit),
    };
    let (refused, todo): (Vec<usize>, Vec<usize>) = todo.into_iter().partition(|&i| refusal(&chosen[i]).is_some());
    for i in refused {
        if let Some(failure) = refusal(&chosen[i]) {
            ledger.failed(&chosen[i], failure, Vec::new())?;
        }
    }
    if todo.is_empty() {
        return Ok(());
    }
    // The first worker proves that every plugin opens and every checkpoint loads, before any case is touched.
    let first = preparing.map_or_else(|| prepare_one(prepare, output, 0), Ok)?;
    let first = ready(first, options.stall, interrupt)?;
    let queue = Mutex::new(VecDeque::from(todo.clone()));
    let stop = AtomicBool::new(false);
    let (sender, receiver) = mpsc::channel::<Back>();
    let mut ended = Ok(());
    std::thread::scope(|scope| {
        let mut first = Some(first);
        for job in 0..options.jobs.clamp(1, todo.len()) {
            let mut hand = first.take();
            let (queue, stop, sender) = (&queue, &stop, sender.clone());
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let Some(i) = queue.lock().unwrap_or_else(|e| e.into_inner()).pop_front() else { break };
                    if sender.send(Back::Started(i)).is_err() {
                        break;
                    }
                    let back = one(i, &chosen[i], &mut hand, prepare, options, roots, output, job, interrupt);
                    let lost = matches!(back, Back::Lost(_));
                    if sender.send(back).is_err() || lost {
                        break;
                    }
                }
            });
        }
        drop(sender);
        for back in receiver {
            if let Back::Case(i, private, _) = &back {
                ledger.take_private(&chosen[*i], private);
            }
            let result = match back {
                Back::Started(i) => ledger.started(&chosen[i]),
                Back::Case(i, private, Ok(completion)) => ledger.finished(&chosen[i], *completion, private),
                Back::Case(i, _, Err((failure, warnings)))
                    if failure.outcome != Outcome::Cancelled && !failure.environment =>
                {
                    ledger.failed(&chosen[i], failure, warnings)
                }
                Back::Case(_, _, Err((failure, _))) if failure.environment => {
                    Err(RunError { exit: 3, text: failure.to_string() })
                }
                Back::Case(..) => Err(interrupted(interrupt.lock().unwrap_or_else(|e| e.into_inner()).unwrap_or(2))),
                Back::Lost(error) => Err(error),
            };
            if let Err(error) = result {
                stop.store(true, Ordering::Relaxed);
                if ended.is_ok() {
                    ended = Err(error);
                }
            }
        }
    });
    ended
}

/// An honest refusal before a patient is decoded: the plan's estimate against what there is.
fn too_large(plan: &Plan, sources: &BTreeMap<String, SeriesRecord>, limit: Option<u64>) -> Option<Failure> {
    let limit = limit?;
    let largest = sources.values().max_by_key(|s| s.slices() * s.rows * s.columns)?;
    let needed = estimate(plan, largest.slices(), largest.rows, largest.columns).peak_bytes;
    (needed > limit).then(|| {
        let megabytes = crate::machine::megabytes(needed);
        Failure::memory(&format!("the case needs about {megabytes} MB by the plan's estimate"), limit)
    })
}

fn prepare_one(prepare: &PrepareOrder, output: &Output, job: usize) -> Result<Preparing, RunError> {
    let mut order = prepare.clone();
    order.pulse = output.scratch(&format!("pulse-{job}"));
    let copies = tempfile::Builder::new()
        .prefix("worker-")
        .tempdir_in(&prepare.private)
        .map_err(|e| environment("making a private folder", &e))?;
    order.private = copies.path().to_owned();
    Hand::prepare(&order, copies).map_err(not_ready)
}

fn ready(preparing: Preparing, stall: Duration, interrupt: &Arc<Mutex<Option<i32>>>) -> Result<Hand, RunError> {
    preparing.ready(stall, interrupt).map_err(not_ready)
}

fn not_ready(e: HandError) -> RunError {
    match e {
        HandError::Refused(failure, exit) => RunError { exit, text: failure.to_string() },
        HandError::Died(how) => {
            RunError { exit: 4, text: format!("the worker died while it opened plugins and checkpoints: {how}") }
        }
        HandError::Interrupted(signal) => interrupted(signal),
        HandError::Start(e) => environment("starting a worker", &e),
    }
}

#[allow(clippy::too_many_arguments, reason = "the parts of one run, all borrowed")]
fn one(
    i: usize,
    case: &Case,
    hand: &mut Option<Hand>,
    prepare: &PrepareOrder,
    options: &RunOptions,
    roots: &[PathBuf],
    output: &Output,
    job: usize,
    interrupt: &Arc<Mutex<Option<i32>>>,
) -> Back {
    if let Some(signal) = *interrupt.lock().unwrap_or_else(|e| e.into_inner()) {
        return Back::Lost(interrupted(signal));
    }
    if hand.is_none() {
        let started = prepare_one(prepare, output, job);
        match started.and_then(|preparing| ready(preparing, options.stall, interrupt)) {
            Ok(started) => *hand = Some(started),
            Err(error) => return Back::Lost(error),
        }
    }
    let staging = match output.stage(&case.name) {
        Ok(staging) => staging,
        Err(e) => return Back::Lost(environment("making a staging folder", &e)),
    };
    let order = CaseOrder {
        case_no: i as u64,
        case: case.name.clone(),
        sources: case.sources.clone().unwrap_or_default(),
        digest: case.digest.clone(),
        roots: roots.to_vec(),
        staging,
    };
    let Some(worker) = hand.as_mut() else { return Back::Lost(RunError { exit: 3, text: "no worker".into() }) };
    match worker.case(&order, options.stall, interrupt) {
        Ok((private, back)) => Back::Case(i, private, back),
        Err(HandError::Interrupted(signal)) => Back::Lost(interrupted(signal)),
        Err(HandError::Died(how)) => {
            let nodes = hand.take().map(|mut h| h.last_nodes()).unwrap_or_default();
            let died = |more: String| Failure::host("worker-died", format!("the worker died: {how}{more}"));
            let failure = match nodes.as_slice() {
                [] => died(String::new()),
                [node] => died(String::new()).at(node),
                // Which of them it was, nobody knows.
                several => died(format!("; at work were {}", several.join(", "))),
            };
            Back::Case(i, Private::default(), Err((failure, Vec::new())))
        }
        Err(HandError::Start(e)) => Back::Lost(environment("talking to a worker", &e)),
        Err(HandError::Refused(failure, exit)) => Back::Lost(RunError { exit, text: failure.to_string() }),
    }
}
