//! What the supervisor and its workers say to each other: one JSON object a line, over a pipe that plugins do not have.
//!
//! A worker takes over its standard input and output for this before it opens any plugin, and gives the plugin code
//! `/dev/null` instead. Standard error too is `/dev/null` for plugin code unless it is a terminal, because a plugin may
//! print what it must not.

use std::collections::BTreeMap;
use std::io::{BufRead, Write};
use std::path::PathBuf;

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::case::NodeFigures;
use super::devices::Found;
use super::failure::Failure;
use super::node::Warning;
use super::self_audit::Figures;
use super::sink::OutputFile;
use crate::plan::Request;
use crate::series::{Repair, ScanReport, SeriesRecord};

/// Supervisor to worker.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "kebab-case")]
pub enum Order {
    /// Look for devices.
    Devices(DevicesOrder),
    /// Scan these folders.
    Scan(ScanOrder),
    /// Prepare for cases.
    Prepare(Box<PrepareOrder>),
    /// Run this case.
    Case(Box<CaseOrder>),
}

/// Which devices to look for.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct DevicesOrder {
    /// A card to open and let go again.
    pub open: Option<u32>,
    /// Libraries to open on trial, if there is a driver.
    pub trials: Vec<LibraryTrial>,
}

/// A plugin's library for a device.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LibraryTrial {
    /// Plugin id.
    pub plugin: String,
    /// Its folder.
    pub folder: PathBuf,
    /// The library's file name.
    pub library: PathBuf,
    /// The manifest's text.
    pub manifest: String,
    /// Digest of the folder.
    pub sha256: String,
}

/// What to scan.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ScanOrder {
    /// Folders, absolute.
    pub roots: Vec<PathBuf>,
    /// Folders that are not looked into: the run's own output.
    pub exclude: Vec<PathBuf>,
    /// Take series that Gantry itself derived.
    pub include_derived: bool,
    /// Faults that a source accepts to repair.
    pub repair: Vec<Repair>,
    /// Files on which an earlier scan worker died.
    pub poisonous: Vec<PathBuf>,
    /// Look for instances of every class, not for volumes.
    pub instances: bool,
    /// One file at a time, so that the file on which a worker dies is known.
    pub careful: bool,
}

/// What a case worker needs once.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PrepareOrder {
    /// The request; the worker makes the same plan of it.
    pub request: Request,
    /// The plan's digest, to be found again.
    pub plan_digest: String,
    /// Digests of plugin folders, to be found again.
    pub plugins: BTreeMap<String, String>,
    /// A private folder (0700) for verified copies of plugins.
    pub private: PathBuf,
    /// Pulse file.
    pub pulse: PathBuf,
    /// Bytes the worker may hold; `None`: unknown.
    pub memory_limit: Option<u64>,
    /// Seed of the run.
    pub seed: u64,
    /// Run time, RFC 3339.
    pub run_time: jiff::Timestamp,
    /// Whether the supervisor wants to know what stands for whom.
    pub mapping: bool,
}

/// One case.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CaseOrder {
    /// Index in the run.
    pub case_no: u64,
    /// Name: a pseudonym, or the patient folder's name where the pipeline says so.
    pub case: String,
    /// Series for every source node.
    pub sources: BTreeMap<String, SeriesRecord>,
    /// Digest of the plan and of all the case's inputs.
    pub digest: String,
    /// Folders of the run.
    pub roots: Vec<PathBuf>,
    /// Where results go.
    pub staging: PathBuf,
}

/// Worker to supervisor.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "kebab-case")]
pub enum Reply {
    /// What there is of devices.
    Devices(Box<Found>),
    /// The scan looks at this file now.
    Scanning {
        /// The file.
        path: PathBuf,
    },
    /// The scan is complete.
    Scanned(Box<ScanReport>),
    /// Every plugin is open and every stage prepared.
    Ready {
        /// Plugin id to what built it.
        built_by: BTreeMap<String, String>,
        /// Node ids by index in the plan, for reading the pulse.
        nodes: Vec<String>,
    },
    /// The preparation failed: the run ends.
    Refused {
        /// Why.
        failure: Failure,
        /// The process's exit code.
        exit: u8,
    },
    /// The case is complete in its staging folder.
    Finished {
        /// Proof, for the journal.
        completion: Box<Completion>,
        /// What must never be written down.
        private: Private,
    },
    /// The case failed.
    Failed {
        /// Which.
        case_no: u64,
        /// Why.
        failure: Failure,
        /// What stages warned of before.
        warnings: Vec<Warning>,
        /// What must never be written down.
        private: Private,
    },
}

/// What a worker tells the supervisor of a case for its memory alone: it holds identities, goes over the pipe, and stands in no
/// type that is journaled, logged or put into run.json.
#[derive(Default, Serialize, Deserialize)]
pub struct Private {
    /// The values that the run's own documents are searched for: what `Withheld::packed` gives.
    pub withheld: String,
    /// The value that the self-audit found, packed alike.
    pub leaked: String,
    /// What stands for whom, where that was asked for: kind, original, replacement, days.
    pub mapping: Vec<(String, String, String, Option<i64>)>,
}

impl std::fmt::Debug for Private {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Private(hidden)")
    }
}

/// Proof that a case is complete.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Completion {
    /// Which.
    pub case_no: u64,
    /// Its files.
    pub outputs: Vec<OutputFile>,
    /// Figures by node.
    pub nodes: BTreeMap<String, NodeFigures>,
    /// Warnings.
    pub warnings: Vec<Warning>,
    /// The memory the case was expected to need at its worst moment, bytes of the whole worker; 0 in older journals.
    #[serde(default)]
    pub expected_peak_bytes: u64,
    /// Largest resident memory of the worker so far, bytes.
    pub peak_rss_bytes: u64,
    /// From the case's first byte read to its last byte on the disk; 0 in journals of older versions.
    #[serde(default)]
    pub seconds: f64,
    /// What the self-audit searched, in a run that takes identity away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub self_audit: Option<Figures>,
}

/// Writes one message.
///
/// # Errors
/// The pipe's.
pub fn send(to: &mut impl Write, message: &impl Serialize) -> std::io::Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    to.write_all(&line)?;
    to.flush()
}

/// Reads one message; `None` at the end of the pipe.
///
/// # Errors
/// The pipe's, or a line that is no message.
pub fn receive<T: DeserializeOwned>(from: &mut impl BufRead) -> std::io::Result<Option<T>> {
    let mut line = Vec::new();
    if from.read_until(b'\n', &mut line)? == 0 {
        return Ok(None);
    }
    Ok(Some(serde_json::from_slice(&line)?))
}
