//! A worker as the supervisor holds it: started, spoken to, watched, and ended.

use std::fs::File;
use std::io::BufReader;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::devices::Found;
use super::failure::Failure;
use super::node::Warning;
use super::protocol::{
    CaseOrder, Completion, DevicesOrder, Order, PrepareOrder, Private, Reply, ScanOrder, receive, send,
};
use super::pulse;
use crate::plan::Cuda;
use crate::series::ScanReport;

/// How often the supervisor looks whether it was interrupted and whether the worker lives.
const LOOK: Duration = Duration::from_millis(100);
/// A worker that was asked to stop gets this long.
const GRACE: Duration = Duration::from_secs(3);

/// Which cards a process may see.
const VISIBLE: &str = "CUDA_VISIBLE_DEVICES";

/// Why a worker gave no answer.
#[derive(Debug)]
pub enum HandError {
    /// It could not be started or spoken to.
    Start(std::io::Error),
    /// It died or was killed, in words.
    Died(String),
    /// It refused to prepare; the exit code of the run.
    Refused(Failure, u8),
    /// The run was interrupted by this signal.
    Interrupted(i32),
}

/// What became of a case, as the worker said.
pub type CaseReply = (Private, Result<Box<Completion>, (Failure, Vec<Warning>)>);

/// A running worker; killed when dropped.
pub struct Hand {
    child: Child,
    orders: Option<ChildStdin>,
    replies: mpsc::Receiver<Reply>,
    pulse: Option<File>,
    nodes: Vec<String>,
    _copies: Option<TempDir>,
}

impl Hand {
    fn start(role: &str, pulse: Option<File>, copies: Option<TempDir>, cuda: Option<&Cuda>) -> Result<Hand, HandError> {
        let program = std::env::current_exe().map_err(HandError::Start)?;
        let mut command = Command::new(program);
        if let Some(cuda) = cuda {
            let seen = std::env::var_os(VISIBLE).map(|v| v.to_string_lossy().into_owned());
            command.env(VISIBLE, cuda.visible(seen.as_deref()));
        }
        // 32-bit arithmetic on a card is 32-bit arithmetic, whatever the surroundings say.
        command.env("NVIDIA_TF32_OVERRIDE", "0");
        let mut child = command
            .args(["worker", "--role", role])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            // An interrupt typed at the terminal goes to the supervisor, which decides.
            .process_group(0)
            .spawn()
            .map_err(HandError::Start)?;
        let orders = child.stdin.take();
        let stdout = child.stdout.take().ok_or_else(|| HandError::Start(std::io::Error::other("no pipe")))?;
        let (sender, replies) = mpsc::channel();
        std::thread::spawn(move || {
            let mut stdout = BufReader::new(stdout);
            while let Ok(Some(reply)) = receive::<Reply>(&mut stdout) {
                if sender.send(reply).is_err() {
                    return;
                }
            }
        });
        Ok(Hand { child, orders, replies, pulse, nodes: Vec::new(), _copies: copies })
    }

    fn say(&mut self, order: &Order) -> Result<(), HandError> {
        let Some(pipe) = self.orders.as_mut() else { return Err(HandError::Died("its pipe is closed".into())) };
        match send(pipe, order) {
            Ok(()) => Ok(()),
            Err(_) => Err(HandError::Died(self.end())),
        }
    }

    /// The next reply; ends the worker if the run is interrupted or the worker stands still.
    fn hear(&mut self, stall: Duration, interrupt: &Arc<Mutex<Option<i32>>>) -> Result<Reply, HandError> {
        let mut beat = self.pulse.as_ref().map(pulse::read);
        let mut moved = Instant::now();
        loop {
            match self.replies.recv_timeout(LOOK) {
                Ok(reply) => return Ok(reply),
                Err(mpsc::RecvTimeoutError::Disconnected) => return Err(HandError::Died(self.end())),
                Err(mpsc::RecvTimeoutError::Timeout) => {}
            }
            if let Some(signal) = *interrupt.lock().unwrap_or_else(|e| e.into_inner()) {
                self.stop();
                return Err(HandError::Interrupted(signal));
            }
            let now = self.pulse.as_ref().map(pulse::read);
            if now != beat {
                (beat, moved) = (now, Instant::now());
            }
            if moved.elapsed() > stall {
                let seconds = stall.as_secs();
                self.kill();
                return Err(HandError::Died(format!("no sign of life for {seconds} s, so it was killed")));
            }
        }
    }

    /// What there is of devices.
    ///
    /// # Errors
    /// As [`HandError`].
    pub fn devices(order: &DevicesOrder, patience: Duration) -> Result<Found, HandError> {
        let mut hand = Hand::start("devices", None, None, None)?;
        hand.say(&Order::Devices(order.clone()))?;
        match hand.hear(patience, &Arc::default())? {
            Reply::Devices(found) => Ok(*found),
            _ => Err(HandError::Died("it gave a reply that was not asked for".into())),
        }
    }

    /// A whole scan.
    ///
    /// # Errors
    /// As [`HandError`].
    pub fn scan(
        order: &ScanOrder,
        stall: Duration,
        interrupt: &Arc<Mutex<Option<i32>>>,
        on_file: &mut dyn FnMut(&Path),
    ) -> Result<ScanReport, HandError> {
        let mut hand = Hand::start("scan", None, None, None)?;
        hand.say(&Order::Scan(order.clone()))?;
        loop {
            match hand.hear(stall, interrupt)? {
                Reply::Scanning { path } => on_file(&path),
                Reply::Scanned(report) => return Ok(*report),
                Reply::Refused { failure, exit } => return Err(HandError::Refused(failure, exit)),
                _ => return Err(HandError::Died("it gave a reply that was not asked for".into())),
            }
        }
    }

    /// Starts a case worker, which goes on to open every plugin and prepare every stage. `copies` holds its private plugin
    /// folder.
    ///
    /// # Errors
    /// As [`HandError`].
    pub fn prepare(order: &PrepareOrder, copies: TempDir) -> Result<Preparing, HandError> {
        let pulse = File::options().read(true).write(true).create(true).truncate(true).open(&order.pulse);
        let pulse = pulse.map_err(HandError::Start)?;
        let mut hand = Hand::start("case", Some(pulse), Some(copies), order.request.arithmetic.cuda.as_ref())?;
        hand.say(&Order::Prepare(Box::new(order.clone())))?;
        Ok(Preparing(hand))
    }

    /// One case.
    ///
    /// # Errors
    /// As [`HandError`]; afterwards the worker must not be used again.
    pub fn case(
        &mut self,
        order: &CaseOrder,
        stall: Duration,
        interrupt: &Arc<Mutex<Option<i32>>>,
    ) -> Result<CaseReply, HandError> {
        self.say(&Order::Case(Box::new(order.clone())))?;
        match self.hear(stall, interrupt)? {
            Reply::Finished { completion, private } if completion.case_no == order.case_no => {
                Ok((private, Ok(completion)))
            }
            Reply::Failed { case_no, failure, warnings, private } if case_no == order.case_no => {
                Ok((private, Err((failure, warnings))))
            }
            _ => Err(HandError::Died("it gave a reply that was not asked for".into())),
        }
    }

    /// The nodes the worker was in, by its pulse.
    pub fn last_nodes(&mut self) -> Vec<String> {
        let nodes = self.pulse.as_ref().map(|p| pulse::read(p).0).unwrap_or_default();
        nodes.into_iter().filter_map(|n| self.nodes.get(usize::try_from(n).ok()?).cloned()).collect()
    }

    /// Waits for a worker that closed its pipe, and says how it ended.
    fn end(&mut self) -> String {
        let deadline = Instant::now() + GRACE;
        while Instant::now() < deadline {
            match self.child.try_wait() {
                Ok(Some(status)) => return in_words(status),
                Ok(None) => std::thread::sleep(Duration::from_millis(10)),
                Err(_) => break,
            }
        }
        self.kill();
        "it closed its pipe and was killed".to_owned()
    }

    fn signal(&self, signal: Signal) {
        if let Some(pid) = Pid::from_raw(self.child.id() as i32) {
            // A worker that is gone already needs no signal.
            let _ = kill_process(pid, signal);
        }
    }

    /// Asks the worker to stop, then makes it.
    fn stop(&mut self) {
        self.signal(Signal::TERM);
        let deadline = Instant::now() + GRACE;
        while Instant::now() < deadline {
            // A worker that rolled its case back says so; one that is idle waits for orders.
            match self.replies.recv_timeout(Duration::from_millis(20)) {
                Err(mpsc::RecvTimeoutError::Timeout) => {}
                _ => break,
            }
        }
        self.kill();
    }

    fn kill(&mut self) {
        // Both fail only if the worker is gone already, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A case worker that is not ready yet; killed when dropped.
pub struct Preparing(Hand);

impl Preparing {
    /// Waits for it.
    ///
    /// # Errors
    /// As [`HandError`].
    pub fn ready(self, stall: Duration, interrupt: &Arc<Mutex<Option<i32>>>) -> Result<Hand, HandError> {
        let Preparing(mut hand) = self;
        match hand.hear(stall, interrupt)? {
            Reply::Ready { nodes, .. } => {
                hand.nodes = nodes;
                Ok(hand)
            }
            Reply::Refused { failure, exit } => Err(HandError::Refused(failure, exit)),
            _ => Err(HandError::Died("it gave a reply that was not asked for".into())),
        }
    }
}

impl Drop for Hand {
    fn drop(&mut self) {
        self.orders = None;
        self.kill();
    }
}

fn in_words(status: ExitStatus) -> String {
    match (status.signal(), status.code()) {
        (Some(11), _) => "segmentation fault (signal 11)".to_owned(),
        (Some(6), _) => "abort (signal 6)".to_owned(),
        (Some(9), _) => "killed (signal 9)".to_owned(),
        (Some(signal), _) => format!("signal {signal}"),
        (None, Some(code)) => format!("it left with exit status {code} without completing"),
        (None, None) => "unknown end".to_owned(),
    }
}
