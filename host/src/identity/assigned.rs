//! [`Assigned`]: the pseudonyms that a site gives its patients itself, from a CSV file with the header
//! `patient_id,pseudonym`.
//!
//! The file holds identities, so it is read like a key: only its owner may have access. Neither errors nor `Debug` show a
//! value of it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::owned::{self, OwnedError};

/// Longest pseudonym: what fits LO.
pub const LONGEST: usize = 64;
/// The header.
const HEADER: [&str; 2] = ["patient_id", "pseudonym"];

/// A site's list of pseudonyms.
#[derive(Clone)]
pub struct Assigned {
    by_patient: HashMap<String, String>,
    digest: String,
}

impl std::fmt::Debug for Assigned {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Assigned(hidden)")
    }
}

/// Why a list was refused. No value of it is repeated, only lines.
#[derive(Debug, thiserror::Error)]
pub enum AssignedError {
    /// Not a file that its owner alone may read.
    #[error(transparent)]
    File(#[from] OwnedError),
    /// What is wrong in it, line by line.
    #[error("{path}: {}", wrong.join("; "))]
    Content {
        /// The file.
        path: PathBuf,
        /// Each fault with its line.
        wrong: Vec<String>,
    },
}

impl Assigned {
    /// Reads a list.
    ///
    /// # Errors
    /// [`AssignedError`], naming every line that is wrong.
    pub fn load(path: &Path) -> Result<Assigned, AssignedError> {
        let bytes = owned::read(path, "the list of pseudonyms")?;
        Assigned::parse(&bytes).map_err(|wrong| AssignedError::Content { path: path.to_owned(), wrong })
    }

    /// Reads a list from its bytes.
    ///
    /// # Errors
    /// Every fault with its line.
    pub fn parse(bytes: &[u8]) -> Result<Assigned, Vec<String>> {
        let mut wrong = Vec::new();
        let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(bytes);
        let mut by_patient: BTreeMap<String, (u64, String)> = BTreeMap::new();
        let mut by_pseudonym: BTreeMap<String, u64> = BTreeMap::new();
        let mut header = false;
        for record in reader.records() {
            let record = match record {
                Ok(record) => record,
                Err(e) => {
                    let line = e.position().map_or(0, csv::Position::line);
                    wrong.push(format!("line {line}: not UTF-8, or no CSV"));
                    break;
                }
            };
            let line = record.position().map_or(0, csv::Position::line);
            let fields: Vec<&str> = record.iter().map(|f| f.trim_start_matches('\u{feff}').trim()).collect();
            if !header {
                if fields != HEADER {
                    return Err(vec![format!("line {line}: the header must be `{}`", HEADER.join(","))]);
                }
                header = true;
                continue;
            }
            let [patient, pseudonym] = fields.as_slice() else {
                wrong.push(format!("line {line}: {} fields, expected 2", fields.len()));
                continue;
            };
            if patient.is_empty() {
                wrong.push(format!("line {line}: the patient id is empty"));
            } else if let Some((first, _)) = by_patient.get(*patient) {
                wrong.push(format!("line {line}: the patient of line {first} again"));
            } else if let Err(why) = sound(pseudonym) {
                wrong.push(format!("line {line}: {why}"));
            } else if let Some(first) = by_pseudonym.get(&pseudonym.to_lowercase()) {
                wrong.push(format!("line {line}: the pseudonym of line {first} again, for another patient"));
            } else {
                by_pseudonym.insert(pseudonym.to_lowercase(), line);
                by_patient.insert((*patient).to_owned(), (line, (*pseudonym).to_owned()));
            }
        }
        if !header {
            wrong.push(format!("line 1: the header must be `{}`", HEADER.join(",")));
        }
        let patients: BTreeSet<String> = by_patient.keys().map(|p| p.to_lowercase()).collect();
        for (line, pseudonym) in by_patient.values() {
            if patients.contains(&pseudonym.to_lowercase()) {
                wrong.push(format!("line {line}: the pseudonym is a patient id of this list"));
            }
        }
        match wrong.is_empty() {
            true => Ok(Assigned {
                by_patient: by_patient.into_iter().map(|(patient, (_, pseudonym))| (patient, pseudonym)).collect(),
                digest: hex::encode(Sha256::digest(bytes)),
            }),
            false => Err(wrong),
        }
    }

    /// The pseudonym of a patient, if listed; padding of the patient id does not count.
    pub fn of(&self, patient: &str) -> Option<&str> {
        self.by_patient.get(patient.trim_matches(|c: char| c.is_whitespace() || c == '\0')).map(String::as_str)
    }

    /// SHA-256 of the file: another list gives other results.
    pub fn digest(&self) -> &str {
        &self.digest
    }
}

/// Whether a text can stand where a pseudonym stands: in LO and PN, and in every character set.
fn sound(pseudonym: &str) -> Result<(), String> {
    if pseudonym.is_empty() {
        return Err("the pseudonym is empty".to_owned());
    }
    if pseudonym.chars().count() > LONGEST {
        return Err(format!("the pseudonym has more than {LONGEST} characters"));
    }
    let fits = |b: u8| (b.is_ascii_graphic() || b == b' ') && !matches!(b, b'\\' | b'^' | b'=');
    match pseudonym.bytes().all(fits) {
        true => Ok(()),
        false => Err("a pseudonym has printable ASCII characters only, and neither \\, ^ nor =".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_sound_list_answers_for_its_patients_alone() {
        let list = Assigned::parse(b"patient_id,pseudonym\r\n4711,STUDY-001\n\"a,b\", X 2 \n").expect("sound");
        assert_eq!(
            (list.of("4711"), list.of(" 4711\0"), list.of("a,b"), list.of("4712")),
            (Some("STUDY-001"), Some("STUDY-001"), Some("X 2"), None)
        );
        assert_eq!(format!("{list:?}"), "Assigned(hidden)");
        let other = Assigned::parse(b"patient_id,pseudonym\n4711,STUDY-002\n").expect("sound");
        assert_ne!(list.digest(), other.digest());
    }

    #[test]
    fn every_fault_is_told_with_its_line_and_no_value() {
        let long = format!("patient_id,pseudonym\nSecret,{}\n", "x".repeat(65));
        for (text, wanted) in [
            ("", "line 1: the header"),
            ("id,pseudonym\nSecret,a\n", "line 1: the header"),
            ("Secret,A\n", "line 1: the header"),
            ("patient_id,pseudonym\nSecret\n", "line 2: 1 fields"),
            ("patient_id,pseudonym\nSecret,a,b\n", "line 2: 3 fields"),
            ("patient_id,pseudonym\nSecret,\n", "line 2: the pseudonym is empty"),
            ("patient_id,pseudonym\n,a\n", "line 2: the patient id is empty"),
            ("patient_id,pseudonym\nSecret,a\nSecret,b\n", "line 3: the patient of line 2"),
            ("patient_id,pseudonym\nSecret,a\nOther,A\n", "line 3: the pseudonym of line 2"),
            ("patient_id,pseudonym\nSecret,other\nOther,b\n", "line 2: the pseudonym is a patient id"),
            ("patient_id,pseudonym\nSecret,a\\b\n", "line 2: a pseudonym has printable"),
            ("patient_id,pseudonym\nSecret,M\u{fc}ller\n", "line 2: a pseudonym has printable"),
            (&long, "line 2: the pseudonym has more than 64"),
        ] {
            let wrong = Assigned::parse(text.as_bytes()).expect_err(text).join("; ");
            assert!(wrong.contains(wanted) && !wrong.contains("Secret"), "{wrong}");
        }
        let two = Assigned::parse(b"patient_id,pseudonym\nSecret,\nOther,\n").expect_err("both");
        assert_eq!(two.len(), 2);
    }

    #[test]
    fn a_list_that_others_may_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("list.csv");
        std::fs::write(&path, "patient_id,pseudonym\nSecret,a\n").unwrap();
        for (mode, fits) in [(0o600, true), (0o400, true), (0o640, false), (0o604, false)] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            let loaded = Assigned::load(&path);
            assert_eq!(loaded.is_ok(), fits, "{mode:o}");
            assert!(loaded.is_ok() || loaded.err().unwrap().to_string().contains("chmod 600"));
        }
    }
}
