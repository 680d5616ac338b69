//! The journal: one JSON object a line, appended and synced. It is what a resumed run trusts.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Seek, SeekFrom, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::failure::Failure;
use super::node::Warning;
use super::protocol::Completion;

/// One line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Record {
    /// A run was started or resumed.
    RunStarted {
        /// Time of the run; a resumed run keeps the first.
        run_time: jiff::Timestamp,
        /// The plan's digest.
        plan_digest: String,
        /// Host version.
        gantry: String,
        /// Seed.
        seed: u64,
        /// Tells the site's key from another.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        key: Option<String>,
    },
    /// A case was handed to a worker.
    CaseStarted {
        /// Name.
        case: String,
        /// Digest of plan and inputs.
        digest: String,
    },
    /// A case is complete and in place.
    CaseFinished {
        /// Name.
        case: String,
        /// Digest of plan and inputs.
        digest: String,
        /// Input indices.
        inputs: Vec<usize>,
        /// Proof.
        completion: Box<Completion>,
    },
    /// A case failed or was quarantined.
    CaseFailed {
        /// Name.
        case: String,
        /// Digest of plan and inputs.
        digest: String,
        /// Input indices.
        inputs: Vec<usize>,
        /// Why.
        failure: Failure,
        /// What stages warned of.
        #[serde(default)]
        warnings: Vec<Warning>,
    },
    /// The run came to its end.
    RunFinished {
        /// Whether every case was attempted.
        complete: bool,
    },
}

/// The open journal.
pub struct Journal {
    file: File,
}

impl Journal {
    /// Opens `path` (mode 0600) and reads what is there. A last line that was cut off by a crash is dropped.
    ///
    /// # Errors
    /// The system's; or `InvalidData` naming the line, if a complete line is no record.
    pub fn open(path: &Path) -> std::io::Result<(Journal, Vec<Record>)> {
        use std::os::unix::fs::OpenOptionsExt;
        let mut file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)?;
        let mut records = Vec::new();
        let mut sound = 0u64;
        let mut reader = BufReader::new(&file);
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line)? > 0 {
            if line.last() != Some(&b'\n') {
                break;
            }
            let record = serde_json::from_slice(&line).map_err(|e| {
                let text = format!("line {} of the journal is no record of this version: {e}", records.len() + 1);
                std::io::Error::new(std::io::ErrorKind::InvalidData, text)
            })?;
            records.push(record);
            sound += line.len() as u64;
            line.clear();
        }
        file.set_len(sound)?;
        file.seek(SeekFrom::End(0))?;
        Ok((Journal { file }, records))
    }

    /// Appends and syncs.
    ///
    /// # Errors
    /// The system's.
    pub fn append(&mut self, record: &Record) -> std::io::Result<()> {
        let mut line = serde_json::to_vec(record)?;
        line.push(b'\n');
        self.file.write_all(&line)?;
        self.file.sync_data()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_torn_last_line_is_dropped_and_a_wrong_one_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal.jsonl");
        let record = Record::RunFinished { complete: true };
        let (mut journal, before) = Journal::open(&path).unwrap();
        assert!(before.is_empty());
        journal.append(&record).unwrap();
        drop(journal);
        let whole = std::fs::read(&path).unwrap();
        let mut torn = whole.clone();
        torn.extend_from_slice(&whole[..whole.len() / 2]);
        std::fs::write(&path, &torn).unwrap();
        let (mut journal, read) = Journal::open(&path).unwrap();
        assert_eq!(read, vec![record.clone()]);
        journal.append(&record).unwrap();
        assert_eq!(Journal::open(&path).unwrap().1.len(), 2);
        std::fs::write(&path, b"{\"event\":\"nonsense\"}\n").unwrap();
        assert!(Journal::open(&path).err().unwrap().to_string().contains("line 1"));
    }
}
