//! [`MappingFile`]: what stands for whom, written only where it was asked for, so that clinical tables can be joined and
//! their dates shifted alike.
//!
//! One CSV file, mode 0600, with the header `case,kind,original,replacement,date_offset_days`; `kind` is `patient-id`,
//! `patient-name` (a patient without an id) or `uid`; the days are empty where dates were not shifted. Rows are appended and
//! synced when a case is finished; at the end of a run the file is written anew, sorted, with each row once, and without the
//! rows of cases that are not finished.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::owned::{self, OwnedError};

const HEADER: [&str; 5] = ["case", "kind", "original", "replacement", "date_offset_days"];

/// One original and what stands in its place.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct MappingRow {
    /// `patient-id`, `patient-name`, `uid`.
    pub kind: String,
    /// As it was.
    pub original: String,
    /// What stands in its place.
    pub replacement: String,
    /// How many days the patient's dates moved, where they did.
    pub date_offset_days: Option<i64>,
}

/// Why the mapping cannot be kept where it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum MappingError {
    /// It is a file that others may read, or none.
    #[error(transparent)]
    File(#[from] OwnedError),
    /// It would lie among the results.
    #[error("{path}: the mapping must lie outside the output folder, or in its folder `private`")]
    AmongResults {
        /// The file.
        path: PathBuf,
    },
    /// It holds something else.
    #[error("{path}: line {line} is no row of a mapping; another file was meant, or it was changed by hand")]
    NoMapping {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: u64,
    },
    /// Writing failed.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
}

/// The open mapping.
pub struct MappingFile {
    path: PathBuf,
    file: File,
}

impl MappingFile {
    /// Opens or makes the file; its folder must exist. A last line that was cut off by a crash is dropped.
    ///
    /// # Errors
    /// [`MappingError`].
    pub fn open(path: &Path, output: &Path) -> Result<MappingFile, MappingError> {
        let io = |source| MappingError::Io { path: path.to_owned(), source };
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let folder = folder.canonicalize().map_err(io)?;
        let real = folder
            .join(path.file_name().ok_or_else(|| MappingError::File(OwnedError::NotAFile { path: path.to_owned() }))?);
        if real.starts_with(output) && !real.starts_with(output.join("private")) {
            return Err(MappingError::AmongResults { path: path.to_owned() });
        }
        let mut options = OpenOptions::new();
        options.read(true).append(true).create_new(true).mode(0o600);
        let file = match options.open(&real) {
            Ok(mut file) => {
                file.write_all(line(HEADER).as_slice()).and_then(|()| file.sync_all()).map_err(io)?;
                file
            }
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {
                let bytes = owned::read(&real, "the mapping")?;
                let sound = bytes.iter().rposition(|&b| b == b'\n').map_or(0, |i| i + 1);
                rows(&bytes[..sound], path)?;
                let mut file = OpenOptions::new().read(true).append(true).open(&real).map_err(io)?;
                file.set_len(sound as u64).map_err(io)?;
                if sound == 0 {
                    file.write_all(line(HEADER).as_slice()).map_err(io)?;
                }
                file
            }
            Err(e) => return Err(io(e)),
        };
        Ok(MappingFile { path: real, file })
    }

    /// Appends the rows of a finished case, and syncs.
    ///
    /// # Errors
    /// The system's.
    pub fn append(&mut self, case: &str, rows: &[MappingRow]) -> std::io::Result<()> {
        let mut bytes = Vec::new();
        for row in rows {
            let days = row.date_offset_days.map(|d| d.to_string()).unwrap_or_default();
            bytes.extend(line([case, &row.kind, &row.original, &row.replacement, &days]));
        }
        self.file.write_all(&bytes)?;
        self.file.sync_data()
    }

    /// Writes the file anew: each row once, in order, and only those of cases that `finished` knows.
    ///
    /// # Errors
    /// The system's, or [`MappingError::NoMapping`].
    pub fn settle(self, finished: &dyn Fn(&str) -> bool) -> Result<(), MappingError> {
        let io = |source| MappingError::Io { path: self.path.clone(), source };
        let all = rows(&owned::read(&self.path, "the mapping")?, &self.path)?;
        let folder = self.path.parent().unwrap_or(Path::new("/"));
        let mut new = tempfile::Builder::new().prefix(".mapping-").tempfile_in(folder).map_err(io)?;
        let mut writer = std::io::BufWriter::new(new.as_file_mut());
        let written = (|| {
            writer.write_all(&line(HEADER))?;
            for row in all.iter().filter(|row| row.first().is_some_and(|case| finished(case))) {
                writer.write_all(&line(row))?;
            }
            writer.flush()
        })();
        written.map_err(io)?;
        drop(writer);
        new.as_file().sync_all().map_err(io)?;
        new.persist(&self.path).map_err(|e| io(e.error))?;
        File::open(folder).and_then(|f| f.sync_all()).map_err(io)
    }
}

/// One line of CSV.
fn line<T: AsRef<[u8]>>(fields: impl IntoIterator<Item = T>) -> Vec<u8> {
    let mut writer = csv::WriterBuilder::new().from_writer(Vec::new());
    // Writing into memory does not fail.
    let _ = writer.write_record(fields);
    writer.into_inner().unwrap_or_default()
}

fn rows(bytes: &[u8], path: &Path) -> Result<BTreeSet<Vec<String>>, MappingError> {
    let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(bytes);
    let mut all = BTreeSet::new();
    for (index, record) in reader.records().enumerate() {
        let number = index as u64 + 1;
        let none = |line: u64| MappingError::NoMapping { path: path.to_owned(), line };
        let record = record.map_err(|e| none(e.position().map_or(number, csv::Position::line)))?;
        let at = record.position().map_or(number, csv::Position::line);
        let row: Vec<String> = record.iter().map(str::to_owned).collect();
        if index == 0 && row != HEADER || row.len() != HEADER.len() {
            return Err(none(at));
        }
        if index > 0 {
            all.insert(row);
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    fn row(kind: &str, original: &str, days: Option<i64>) -> MappingRow {
        let replacement = format!("for-{}", original.len());
        MappingRow { kind: kind.to_owned(), original: original.to_owned(), replacement, date_offset_days: days }
    }

    #[test]
    fn rows_of_finished_cases_stay_over_runs_and_each_once() {
        let folder = tempfile::tempdir().unwrap();
        let (path, out) = (folder.path().join("map.csv"), folder.path().join("out"));
        std::fs::create_dir(&out).unwrap();
        let mut mapping = MappingFile::open(&path, &out).unwrap();
        mapping.append("c-2", &[row("uid", "1.2.3", None), row("patient-id", "a,\"b\"", Some(-17))]).unwrap();
        mapping.append("c-1", &[row("patient-id", "4711", Some(-3))]).unwrap();
        mapping.settle(&|case| case == "c-2").unwrap();
        let first = std::fs::read_to_string(&path).unwrap();
        assert_eq!(
            first,
            "case,kind,original,replacement,date_offset_days\nc-2,patient-id,\"a,\"\"b\"\"\",for-5,-17\nc-2,uid,1.2.3,for-5,\n"
        );
        assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o600);
        // A run that was cut off in the middle of a line, and one that goes on.
        std::fs::write(&path, first.clone() + "c-3,uid,9.9").unwrap();
        let mut mapping = MappingFile::open(&path, &out).unwrap();
        mapping.append("c-2", &[row("uid", "1.2.3", None)]).unwrap();
        mapping.settle(&|_| true).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), first);
    }

    #[test]
    fn it_lies_where_nobody_else_reads() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().canonicalize().unwrap().join("out");
        std::fs::create_dir_all(out.join("private")).unwrap();
        let open = |path: &Path| MappingFile::open(path, &out).err().map(|e| e.to_string()).unwrap_or_default();
        assert!(open(&out.join("map.csv")).contains("outside the output folder"));
        assert!(open(&out.join("private/../map.csv")).contains("outside the output folder"));
        assert_eq!(open(&out.join("private/map.csv")), "");
        let open_to_all = folder.path().join("open.csv");
        std::fs::write(&open_to_all, "case,kind,original,replacement,date_offset_days\n").unwrap();
        std::fs::set_permissions(&open_to_all, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(open(&open_to_all).contains("chmod 600"));
        let other = folder.path().join("other.csv");
        std::fs::write(&other, "a,b\n1,2\n").unwrap();
        std::fs::set_permissions(&other, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert!(open(&other).contains("line 1 is no row"));
        assert_eq!(std::fs::read_to_string(&other).unwrap(), "a,b\n1,2\n");
    }
}
