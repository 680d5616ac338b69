//! One node of the plan, alive in a worker: its instance, its checkpoints, and the host's side of its calls.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex};

use gantry_abi::v1::{self, dtype, level, status};

use super::boundary::{Allocated, Allocation, CallNumbers, HostSide, Instance, PortText};
use super::buffers::Buffer;
use super::checkpoint::CheckpointFiles;
use super::edge::Companions;
use super::failure::Failure;
use super::kernels::{self, Kernels};
use super::pulse::Pulse;
use super::scrutiny;
use super::services::Services;
use super::sink::SinkFiles;
use super::words;
use crate::graph::Node;
use crate::series::identifying::Differences;

/// A warning of a stage, for run.json.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Warning {
    /// Node.
    pub node: String,
    /// Code.
    pub code: String,
    /// Text; empty where the node sees identities.
    pub text: String,
}

/// A node with its live instance.
pub struct LiveNode {
    entry: &'static v1::Entry,
    instance: Option<Instance>,
    checkpoints: Arc<BTreeMap<String, CheckpointFiles>>,
    /// Bytes by which the process grew when the stage loaded what all cases share, beside the host's copy of its checkpoints.
    pub loaded_bytes: u64,
}

/// What every call of a case shares.
pub struct CaseContext<'a> {
    /// Index in the run.
    pub case_no: u64,
    /// Name of the case: a pseudonym.
    pub case: &'a str,
    /// Seed of the run.
    pub run_seed: u64,
    /// Threads of this worker.
    pub threads: usize,
    /// Bytes a stage may hold of its own; 0: unknown.
    pub host_budget: u64,
    /// Bytes the whole worker may hold; `None`: unknown.
    pub memory_limit: Option<u64>,
    /// Set when the run is interrupted.
    pub cancel: &'a AtomicBool,
    /// Proof of life for the supervisor.
    pub pulse: &'a Pulse,
    /// Services.
    pub services: &'a Services,
    /// Warnings of all nodes.
    pub warnings: &'a Mutex<Vec<Warning>>,
    /// What the case's headers lost on their way.
    pub differences: &'a Mutex<Differences>,
}

/// Bytes emitted by a call.
pub struct Emission {
    /// Port index.
    pub port: u32,
    /// Name.
    pub name: String,
    /// Bytes.
    pub bytes: Vec<u8>,
}

/// Voxels allocated by a call.
pub struct Grown {
    /// The request.
    pub request: Allocation,
    /// The voxels.
    pub buffer: Arc<Buffer>,
}

/// The host's side of one call.
pub struct NodeCall<'a> {
    node: &'a Node,
    live: Option<&'a LiveNode>,
    context: &'a CaseContext<'a>,
    arriving: Option<Arc<Companions>>,
    leaving: Option<Arc<Companions>>,
    /// Where a stage that is called once a case puts the files that no other reads: at once, so that a study never stands
    /// in memory. (Batches of slices end in another order than they began, and one file may take from several.)
    files: Option<Arc<SinkFiles>>,
    unwritten: Mutex<Option<Failure>>,
    emitted: Mutex<Vec<Emission>>,
    grown: Mutex<Vec<Grown>>,
    error: Mutex<Option<(String, String)>>,
    reserved: AtomicI64,
    checkpoints: Arc<BTreeMap<String, CheckpointFiles>>,
    /// The library has met no case yet: what it says can hold nobody.
    before_cases: bool,
}

/// What a call left behind.
pub struct CallResult {
    /// What it published.
    pub emitted: Vec<Emission>,
    /// What it allocated.
    pub grown: Vec<Grown>,
}

/// Warnings of one case that are kept: a stage that warns of every voxel must not fill the supervisor's memory.
const WARNINGS: usize = 1000;
/// Characters of one message that are kept.
const WORDS: usize = 2000;

/// A stage's words, fit for a terminal and a journal: no control characters, and not endless.
fn plain(text: &str) -> String {
    text.chars().take(WORDS).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|e| e.into_inner())
}

impl<'a> NodeCall<'a> {
    /// A call of `node` in `context`.
    pub fn new(
        node: &'a Node,
        live: &'a LiveNode,
        context: &'a CaseContext<'a>,
        arriving: Option<Arc<Companions>>,
        leaving: Option<Arc<Companions>>,
        files: &Arc<SinkFiles>,
    ) -> NodeCall<'a> {
        let checkpoints = Arc::clone(&live.checkpoints);
        let files = Some(Arc::clone(files));
        NodeCall { live: Some(live), arriving, leaving, files, ..NodeCall::bare(node, context, checkpoints) }
    }

    fn bare(
        node: &'a Node,
        context: &'a CaseContext<'a>,
        checkpoints: Arc<BTreeMap<String, CheckpointFiles>>,
    ) -> NodeCall<'a> {
        NodeCall {
            node,
            live: None,
            context,
            arriving: None,
            leaving: None,
            files: None,
            unwritten: Mutex::default(),
            emitted: Mutex::default(),
            grown: Mutex::default(),
            error: Mutex::default(),
            reserved: AtomicI64::new(0),
            checkpoints,
            before_cases: false,
        }
    }

    /// The instance to call.
    ///
    /// # Errors
    /// If it was destroyed after a failure and could not be made anew.
    pub fn instance(&self) -> Result<&'a Instance, Failure> {
        self.live
            .and_then(|l| l.instance.as_ref())
            .ok_or_else(|| Failure::host("internal", "the stage has no instance").at(&self.node.id))
    }

    /// The numbers of this call.
    pub fn numbers(&self, threads: usize, abandoned: bool) -> CallNumbers {
        CallNumbers {
            seed: super::seed::of(self.context.run_seed, self.context.case, &self.node.id),
            case_no: self.context.case_no,
            threads,
            host_budget: self.context.host_budget,
            abandoned,
        }
    }

    /// Reads the status of the call: what it left behind, or why it failed.
    ///
    /// # Errors
    /// What the status means for the case.
    pub fn finish(self, status: i32) -> Result<CallResult, Failure> {
        let said = self.error.into_inner().unwrap_or_else(|e| e.into_inner());
        if let Some(failure) = self.unwritten.into_inner().unwrap_or_else(|e| e.into_inner()) {
            return Err(failure.at(&self.node.id));
        }
        if status == status::CANCELLED && !self.context.cancel.load(Ordering::Relaxed) {
            // Only the host cancels: a stage that says so of itself must not end the run like an interrupt.
            let text = "the stage returned CANCELLED and nobody had cancelled";
            return Err(Failure::host("cancelled-unasked", text).at(&self.node.id));
        }
        if status != status::OK {
            return Err(Failure::from_status(status, said).at(&self.node.id));
        }
        let emitted = self.emitted.into_inner().unwrap_or_else(|e| e.into_inner());
        let grown = self.grown.into_inner().unwrap_or_else(|e| e.into_inner());
        Ok(CallResult { emitted, grown })
    }

    /// Notes what the stage computes with.
    fn tell_kernels(&self, request: &str) -> Result<String, i32> {
        let said = match self.withhold() {
            true => Err("not for stages that see identities".to_owned()),
            false => Kernels::read(request, &self.node.params),
        };
        match said {
            Ok(said) => {
                locked(&self.context.services.kernels).insert(self.node.id.clone(), said);
                Ok("{}".to_owned())
            }
            Err(why) => {
                self.report(level::ERROR, "service", -1, &format!("{}: {why}", kernels::SERVICE));
                Err(status::SERVICE)
            }
        }
    }

    /// A message about an instance of the case, told by its index in the scan.
    fn placed<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let input =
            words::instance(text).and_then(|(i, rest)| Some((self.context.services.input_of_instance(i)?, rest)));
        input.map_or(Cow::Borrowed(text), |(input, rest)| Cow::Owned(format!("#{input}: {rest}")))
    }

    /// Whether the stage's own words stay here.
    fn withhold(&self) -> bool {
        self.node.entry.spec.sees_identity() && matches!(self.node.entry.origin, crate::registry::Origin::Plugin(_))
    }
}

impl HostSide for NodeCall<'_> {
    fn report(&self, at: i32, code: &str, _port: i32, text: &str) {
        // A stage that sees headers could repeat a name: its words stay here, but for those that stand in its document and
        // those that it says before it was shown any.
        let fixed = || words::permitted(&self.node.entry.spec.messages, text);
        let text =
            if self.withhold() && !self.before_cases && !fixed() { String::new() } else { plain(&self.placed(text)) };
        let text = text.as_str();
        // A code goes out always, so it must be one: kebab-case and short.
        let sound = code.len() <= 64 && code.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        let code = if sound { code } else { "" };
        match at {
            level::ERROR => {
                let text = if text.is_empty() { "the stage refused (its words are withheld)" } else { text };
                *locked(&self.error) = Some((code.to_owned(), text.to_owned()));
            }
            level::WARN => {
                let mut warnings = locked(self.context.warnings);
                if warnings.len() < WARNINGS {
                    let (node, code) = (self.node.id.clone(), code.to_owned());
                    warnings.push(Warning { node, code, text: text.to_owned() });
                }
            }
            level::INFO => tracing::info!(node = self.node.id, code, "{text}"),
            _ => tracing::debug!(node = self.node.id, code, "{text}"),
        }
    }

    fn progress(&self, done: u64, _total: u64) {
        self.context.pulse.progress(done);
    }

    fn cancelled(&self) -> bool {
        self.context.cancel.load(Ordering::Relaxed)
    }

    fn checkpoint(&self, param: &str, file: &str) -> Option<&[u8]> {
        self.checkpoints.get(param)?.file(file)
    }

    fn allocate(&self, request: Allocation) -> Result<Allocated, i32> {
        let output = (request.port as usize).checked_sub(self.node.inputs.len()).and_then(|i| self.node.outputs.get(i));
        let allowed = output.is_some_and(|o| {
            let spec = &self.node.entry.spec.outputs[o.spec];
            spec.size_from_data || !matches!(spec.count, crate::registry::Count::One | crate::registry::Count::Optional)
        });
        if !allowed || dtype::name(request.dtype).is_none() {
            return Err(status::INTERNAL);
        }
        let count = request.shape.iter().try_fold(1usize, |n, &d| n.checked_mul(usize::try_from(d).ok()?));
        let bytes = count.and_then(|n| n.checked_mul(dtype::size(request.dtype))).ok_or(status::RESOURCE)?;
        let buffer = Buffer::new(bytes, scrutiny::poison(request.dtype)).map_err(|_| status::RESOURCE)?;
        let [_, z, y, x] = request.shape;
        let granted = Allocated { data: buffer.at(0), byte_len: bytes as u64, stride: [z * y * x, y * x] };
        locked(&self.grown).push(Grown { request, buffer: Arc::new(buffer) });
        Ok(granted)
    }

    fn emit(&self, port: u32, name: &str, bytes: &[u8]) -> i32 {
        let output = (port as usize).checked_sub(self.node.inputs.len()).and_then(|i| self.node.outputs.get(i));
        let Some(output) = output else { return status::INTERNAL };
        let at_once = self.node.entry.spec.scope == crate::registry::Scope::Case;
        let at_once = at_once && output.caps["kind"] == "file" && !output.read;
        if let Some(files) = self.files.as_ref().filter(|_| at_once) {
            return match files.write(&self.node.id, name, bytes) {
                Ok(()) => status::OK,
                Err(failure) => {
                    locked(&self.unwritten).get_or_insert(failure);
                    status::RESOURCE
                }
            };
        }
        locked(&self.emitted).push(Emission { port, name: name.to_owned(), bytes: bytes.to_vec() });
        status::OK
    }

    fn reserve(&self, device_type: i32, delta: i64) -> i32 {
        if device_type != v1::DEVICE_CPU {
            return status::RESOURCE;
        }
        let held = self.reserved.fetch_add(delta, Ordering::Relaxed) + delta;
        let budget = self.context.host_budget;
        if delta > 0 && budget != 0 && held > budget as i64 {
            self.reserved.fetch_sub(delta, Ordering::Relaxed);
            return status::RESOURCE;
        }
        status::OK
    }

    fn service(&self, name: &str, request: &str) -> Result<String, i32> {
        if !self.node.entry.spec.services.iter().any(|s| s == name) {
            self.report(level::ERROR, "service-not-granted", -1, &format!("plugin.toml does not list `{name}`"));
            return Err(status::SERVICE);
        }
        if name == kernels::SERVICE {
            return self.tell_kernels(request);
        }
        let answer = self.context.services.serve(
            &self.node.id,
            name,
            request,
            self.arriving.as_deref(),
            self.leaving.as_deref(),
        );
        answer.map_err(|(status, why)| {
            self.report(level::ERROR, "service", -1, &format!("{name}: {why}"));
            status
        })
    }
}

impl LiveNode {
    /// Makes and prepares an instance: reads and verifies its checkpoints, hands over parameters and ports.
    ///
    /// # Errors
    /// What the stage refused, or a checkpoint that is not what its card says.
    pub fn new(node: &Node, entry: &'static v1::Entry, context: &CaseContext) -> Result<LiveNode, Failure> {
        let mut checkpoints = BTreeMap::new();
        for (param, checkpoint) in &node.checkpoints {
            checkpoints.insert(param.clone(), CheckpointFiles::read(checkpoint).map_err(|f| f.at(&node.id))?);
        }
        let before = crate::machine::resident().0;
        let mut live = LiveNode { entry, instance: None, checkpoints: Arc::new(checkpoints), loaded_bytes: 0 };
        live.make(node, context, true)?;
        live.loaded_bytes = crate::machine::resident().0.saturating_sub(before);
        Ok(live)
    }

    /// Destroys the instance and makes a new one, as after INTERNAL.
    ///
    /// # Errors
    /// As [`LiveNode::new`]; the library has met a case by then, so its words are withheld as in one.
    pub fn revive(&mut self, node: &Node, context: &CaseContext) -> Result<(), Failure> {
        self.make(node, context, false)
    }

    fn make(&mut self, node: &Node, context: &CaseContext, before_cases: bool) -> Result<(), Failure> {
        self.instance = None;
        let params = serde_json::Value::Object(node.params.clone()).to_string();
        let call = NodeCall { before_cases, ..NodeCall::bare(node, context, Arc::clone(&self.checkpoints)) };
        let instance = match Instance::create(self.entry, &call, &node.entry.spec.id, &params) {
            Ok(instance) => instance,
            Err(status) => return Err(refusal(call, status, &node.id)),
        };
        let port = |name: &str, caps: &serde_json::Value, output, connected| PortText {
            name: name.to_owned(),
            caps: caps.to_string(),
            output,
            connected,
        };
        let ports: Vec<PortText> = node
            .inputs
            .iter()
            .map(|i| port(&i.port, &i.caps, false, !i.links.is_empty()))
            .chain(node.outputs.iter().map(|o| port(&o.port, &o.caps, true, o.read)))
            .collect();
        let call = NodeCall { before_cases, ..NodeCall::bare(node, context, Arc::clone(&self.checkpoints)) };
        let status = instance.prepare(&call, call.numbers(context.threads, false), &ports);
        if status != status::OK {
            return Err(refusal(call, status, &node.id));
        }
        self.instance = Some(instance);
        Ok(())
    }
}

fn refusal(call: NodeCall, status: i32, node: &str) -> Failure {
    match call.finish(status) {
        Err(failure) => failure,
        Ok(_) => Failure::host("internal", "the stage gave no instance").at(node),
    }
}
