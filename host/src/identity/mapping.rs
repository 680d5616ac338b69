//! [`MappingFile`]: what stands for whom, written only where it was asked for, so that clinical tables can be joined and
//! their dates shifted alike.
//!
//! One CSV file, mode 0600, with the header `case,kind,original,replacement,date_offset_days,output`; `kind` is `patient-id`,
//! `patient-name` (a patient without an id) or `uid`; the days are empty where dates were not shifted; `output` is the folder
//! of the results. Rows are appended and synced when a case is finished, behind a row of the kind `withdrawn` where the case
//! had rows in the same folder, which count no longer; at the end of a run the file is written anew, sorted, with each row
//! that counts once, and without the rows of cases that came to nothing in that folder. Rows of other folders stay: several
//! may share one mapping, one run at a time.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use super::owned::{self, OwnedError};

const HEADER: [&str; 6] = ["case", "kind", "original", "replacement", "date_offset_days", "output"];

/// The kind of a row that takes back what stands above it of its case in its folder.
const WITHDRAWN: &str = "withdrawn";

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
    /// Another run has it open.
    #[error("{path}: another run is writing to this mapping")]
    Locked {
        /// The file.
        path: PathBuf,
    },
    /// It is a file with another purpose.
    #[error("{path}: the mapping cannot be the same file as {other}")]
    Taken {
        /// The file.
        path: PathBuf,
        /// What else the command takes it for.
        other: &'static str,
    },
    /// It holds something else.
    #[error(
        "{path}: this is neither an empty file nor a mapping (its first line is not `{}`); it was left as it is",
        HEADER.join(",")
    )]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// A row is none.
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

/// A row as it stands in the file.
type Record = Vec<String>;

/// The open mapping.
pub struct MappingFile {
    path: PathBuf,
    /// The folder of this run's results, as it stands in rows.
    output: String,
    /// Locked as long as it is open.
    file: File,
    /// Cases of this run's folder of which the file holds rows that count.
    listed: BTreeSet<String>,
}

impl MappingFile {
    /// Refuses a file that is also one of the `others` that a command names, by whatever path or link.
    ///
    /// # Errors
    /// [`MappingError::Taken`].
    pub fn apart(path: &Path, others: &[(&'static str, &Path)]) -> Result<(), MappingError> {
        let number = |path: &Path| std::fs::metadata(path).ok().map(|m| (m.dev(), m.ino()));
        let Some(own) = number(path) else { return Ok(()) };
        match others.iter().find(|(_, other)| number(other) == Some(own)) {
            None => Ok(()),
            Some((other, _)) => Err(MappingError::Taken { path: path.to_owned(), other }),
        }
    }

    /// Opens or makes the file for a run into the folder `output`; both folders must exist. A last row that was cut off by
    /// a crash is dropped. Nothing is written to a file that is not known to be a mapping.
    ///
    /// # Errors
    /// [`MappingError`].
    pub fn open(path: &Path, output: &Path) -> Result<MappingFile, MappingError> {
        let io = |source| MappingError::Io { path: path.to_owned(), source };
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let folder = folder.canonicalize().map_err(io)?;
        let real = folder
            .join(path.file_name().ok_or_else(|| MappingError::File(OwnedError::NotAFile { path: path.to_owned() }))?);
        // A link stays one: the file that it leads to is the mapping.
        let real = if real.is_symlink() { real.canonicalize().map_err(io)? } else { real };
        let output = output.canonicalize().map_err(|source| MappingError::Io { path: output.to_owned(), source })?;
        if real.starts_with(&output) && !real.starts_with(output.join("private")) {
            return Err(MappingError::AmongResults { path: path.to_owned() });
        }
        // Asked before opening: opening a named pipe would wait for a reader.
        if std::fs::metadata(&real).is_ok_and(|m| !m.is_file()) {
            return Err(MappingError::File(OwnedError::NotAFile { path: path.to_owned() }));
        }
        let mut file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(&real).map_err(io)?;
        let locked = || MappingError::Locked { path: path.to_owned() };
        flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|e| match e {
            rustix::io::Errno::WOULDBLOCK => locked(),
            other => io(other.into()),
        })?;
        // A run that just ended may have put a new file in its place.
        let (held, there) = (file.metadata().map_err(io)?, std::fs::metadata(&real).map_err(io)?);
        if (held.dev(), held.ino()) != (there.dev(), there.ino()) {
            return Err(locked());
        }
        let bytes = owned::read(&real, "the mapping")?;
        let header = line(HEADER);
        if !bytes.is_empty() && !bytes.starts_with(&header) {
            return Err(MappingError::Foreign { path: path.to_owned() });
        }
        let sound = whole(&bytes);
        let (kept, torn) = bytes.split_at(sound);
        let standing = standing(rows(kept, path)?);
        if holds_rows(torn) {
            // Quotation marks that do not close: what follows them was not cut off.
            let line = kept.iter().filter(|&&byte| byte == b'\n').count() as u64 + 1;
            return Err(MappingError::NoMapping { path: path.to_owned(), line });
        }
        file.set_len(sound as u64).map_err(io)?;
        if sound == 0 {
            file.write_all(&header).and_then(|()| file.sync_all()).map_err(io)?;
        }
        let output = output.to_string_lossy().into_owned();
        let listed =
            standing.iter().map(|row| place(row)).filter(|(of, _)| *of == output).map(|(_, case)| case.to_owned());
        Ok(MappingFile { path: real, file, listed: listed.collect(), output })
    }

    /// Appends the rows of a finished case, and syncs.
    ///
    /// # Errors
    /// The system's.
    pub fn append(&mut self, case: &str, rows: &[MappingRow]) -> std::io::Result<()> {
        let mut bytes = Vec::new();
        if self.listed.contains(case) {
            bytes.extend(line([case, WITHDRAWN, "", "", "", &self.output]));
        }
        for row in rows {
            let days = row.date_offset_days.map(|d| d.to_string()).unwrap_or_default();
            bytes.extend(line([case, &row.kind, &row.original, &row.replacement, &days, &self.output]));
        }
        self.file.write_all(&bytes)?;
        self.file.sync_data()?;
        match rows.is_empty() {
            true => self.listed.remove(case),
            false => self.listed.insert(case.to_owned()),
        };
        Ok(())
    }

    /// Writes the file anew: each row that counts once, in order, without those of this run's folder that belong to cases of
    /// which `drops` says that they came to nothing.
    ///
    /// # Errors
    /// The system's, or [`MappingError::NoMapping`].
    pub fn settle(self, drops: &dyn Fn(&str) -> bool) -> Result<(), MappingError> {
        let io = |source| MappingError::Io { path: self.path.clone(), source };
        let bytes = owned::read(&self.path, "the mapping")?;
        let all = standing(rows(&bytes, &self.path)?);
        let folder = self.path.parent().unwrap_or(Path::new("/"));
        let mut new = tempfile::Builder::new().prefix(".mapping-").tempfile_in(folder).map_err(io)?;
        let mut writer = std::io::BufWriter::new(new.as_file_mut());
        let written = (|| {
            writer.write_all(&line(HEADER))?;
            let stays = |row: &&Record| {
                let (output, case) = place(row);
                output != self.output || !drops(case)
            };
            for row in all.iter().filter(stays) {
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

/// The folder and the case that a row belongs to.
fn place(row: &[String]) -> (&str, &str) {
    (row.last().map_or("", String::as_str), row.first().map_or("", String::as_str))
}

/// The rows that count, in order.
fn standing(rows: Vec<Record>) -> BTreeSet<Record> {
    let takes_back = |row: &[String]| row.get(1).is_some_and(|kind| kind == WITHDRAWN);
    // From the end, so that a row meets what takes it back first.
    let mut taken_back: BTreeSet<(String, String)> = BTreeSet::new();
    let mut standing = BTreeSet::new();
    for row in rows.into_iter().rev() {
        let (output, case) = place(&row);
        let place = (output.to_owned(), case.to_owned());
        match takes_back(&row) {
            true => {
                taken_back.insert(place);
            }
            false if taken_back.contains(&place) => {}
            false => {
                standing.insert(row);
            }
        }
    }
    standing
}

/// How many bytes are whole records: a line may end inside quotation marks without ending its record.
fn whole(bytes: &[u8]) -> usize {
    let (mut quoted, mut end) = (false, 0);
    for (i, byte) in bytes.iter().enumerate() {
        match byte {
            b'"' => quoted = !quoted,
            b'\n' if !quoted => end = i + 1,
            _ => {}
        }
    }
    end
}

/// Whether lines behind the first of what looks like a torn row are rows themselves.
fn holds_rows(torn: &[u8]) -> bool {
    let mut lines = torn.split_inclusive(|&byte| byte == b'\n').skip(1).filter(|line| line.ends_with(b"\n"));
    lines.any(|line| {
        let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(line);
        let mut record = csv::ByteRecord::new();
        reader.read_byte_record(&mut record).is_ok_and(|read| read && record.len() == HEADER.len())
    })
}

/// One line of CSV.
fn line<T: AsRef<[u8]>>(fields: impl IntoIterator<Item = T>) -> Vec<u8> {
    let mut writer = csv::WriterBuilder::new().from_writer(Vec::new());
    // Writing into memory does not fail.
    let _ = writer.write_record(fields);
    writer.into_inner().unwrap_or_default()
}

/// The rows behind the header.
fn rows(bytes: &[u8], path: &Path) -> Result<Vec<Record>, MappingError> {
    let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(bytes);
    let mut all = Vec::new();
    for (index, record) in reader.records().enumerate() {
        let number = index as u64 + 1;
        let none = |line: u64| MappingError::NoMapping { path: path.to_owned(), line };
        let record = record.map_err(|e| none(e.position().map_or(number, csv::Position::line)))?;
        let at = record.position().map_or(number, csv::Position::line);
        let row: Record = record.iter().map(str::to_owned).collect();
        if index == 0 && row != HEADER || row.len() != HEADER.len() {
            return Err(none(at));
        }
        if index > 0 {
            all.push(row);
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
        let busy = MappingFile::open(&path, &out).err().map(|e| e.to_string()).unwrap_or_default();
        assert!(busy.contains("another run"), "{busy}");
        mapping.settle(&|case| case == "c-1").unwrap();
        let first = std::fs::read_to_string(&path).unwrap();
        let folder = out.canonicalize().unwrap().display().to_string();
        let header = "case,kind,original,replacement,date_offset_days,output";
        let rows =
            ["c-2,patient-id,\"a,\"\"b\"\"\",for-5,-17", "c-2,uid,1.2.3,for-5,"].map(|row| format!("{row},{folder}\n"));
        assert_eq!(first, format!("{header}\n{}", rows.concat()));
        assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o600);
        // A run that was cut off in the middle of a record, and one of another folder that goes on.
        for torn in ["c-3,uid,9.9", "c-3,patient-id,\"9\n9"] {
            std::fs::write(&path, first.clone() + torn).unwrap();
            let mapping = MappingFile::open(&path, &out).unwrap();
            mapping.settle(&|_| false).unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), first);
        }
    }

    #[test]
    fn rows_of_a_case_stand_in_place_of_its_older_ones() {
        let folder = tempfile::tempdir().unwrap();
        let (path, out) = (folder.path().join("map.csv"), folder.path().join("out"));
        std::fs::create_dir(&out).unwrap();
        let lines = |path: &Path| std::fs::read_to_string(path).unwrap().lines().count() - 1;
        let mut mapping = MappingFile::open(&path, &out).unwrap();
        mapping.append("c-1", &[row("patient-id", "4711", Some(-3)), row("uid", "1.2", None)]).unwrap();
        mapping.append("c-2", &[row("patient-id", "4712", Some(-5))]).unwrap();
        mapping.settle(&|_| false).unwrap();
        // The last case of the file, so that its rows stand together; and one that another run's rows follow.
        for (case, days) in [("c-2", 7), ("c-1", 9)] {
            let mut mapping = MappingFile::open(&path, &out).unwrap();
            mapping.append(case, &[row("patient-id", "4711", Some(days))]).unwrap();
            mapping.settle(&|_| false).unwrap();
        }
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(",9,") && text.contains(",7,") && lines(&path) == 2, "{text}");
        // A run that was cut off before it settled.
        let mut mapping = MappingFile::open(&path, &out).unwrap();
        mapping.append("c-1", &[row("patient-id", "4711", Some(11))]).unwrap();
        drop(mapping);
        MappingFile::open(&path, &out).unwrap().settle(&|_| false).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(",11,") && !text.contains(",9,") && lines(&path) == 2, "{text}");
    }

    #[test]
    fn what_comes_to_nothing_in_one_folder_stays_for_another() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("map.csv");
        let outs = ["first", "second"].map(|name| folder.path().canonicalize().unwrap().join(name));
        let append = |out: &Path, days: i64, drops: bool| {
            std::fs::create_dir_all(out).unwrap();
            let mut mapping = MappingFile::open(&path, out).unwrap();
            mapping.append("c-1", &[row("patient-id", "4711", Some(days))]).unwrap();
            mapping.settle(&|_| drops).unwrap();
        };
        let days = || {
            let text = std::fs::read_to_string(&path).unwrap();
            let of_row = |line: &str| line.split(',').nth(4).unwrap().to_owned();
            text.lines().skip(1).map(of_row).collect::<Vec<_>>()
        };
        append(&outs[0], 1, false);
        append(&outs[1], 2, false);
        assert_eq!(days(), ["1", "2"], "the same case finished in both");
        // It is run again in the second folder and withdrawn, or fails before it has rows.
        append(&outs[1], 3, true);
        assert_eq!(days(), ["1"]);
        append(&outs[1], 4, false);
        MappingFile::open(&path, &outs[1]).unwrap().settle(&|case| case == "c-1").unwrap();
        assert_eq!(days(), ["1"]);
        // And in the first.
        append(&outs[1], 5, false);
        append(&outs[0], 6, true);
        assert_eq!(days(), ["5"]);
    }

    #[test]
    fn folders_share_a_mapping_without_taking_rows_from_each_other() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        let path = root.join("map.csv");
        let of_case = |days| [row("patient-id", "4711", days), row("uid", "1.2", None), row("uid", "1.3", None)];
        let run = |name: &str, days: Option<i64>, cases: &[&str], failed: &str, ends: bool| {
            let out = root.join(name);
            std::fs::create_dir_all(&out).unwrap();
            let mut mapping = MappingFile::open(&path, &out).unwrap();
            cases.iter().for_each(|case| mapping.append(case, &of_case(days)).unwrap());
            if ends {
                mapping.settle(&|case| case == failed).unwrap();
            }
        };
        let figures = || {
            let text = std::fs::read_to_string(&path).unwrap();
            let of = |name: &str| text.lines().filter(|l| l.ends_with(&format!("/{name}"))).count();
            (of("a"), of("b"), of("c"), text.lines().filter(|l| l.contains(",7,")).count())
        };
        for name in ["a", "b", "c"] {
            run(name, Some(1), &["c-1", "c-2"], "", true);
        }
        assert_eq!(figures(), (6, 6, 6, 0));
        // Both again in one folder; a failing one in another; one that ends before it begins.
        run("a", Some(7), &["c-1", "c-2"], "", true);
        assert_eq!(figures(), (6, 6, 6, 2));
        run("b", Some(1), &["c-1"], "c-2", true);
        assert_eq!(figures(), (6, 3, 6, 2));
        run("c", Some(1), &[], "", true);
        assert_eq!(figures(), (6, 3, 6, 2));
        // One that is cut off before it settles, and a run elsewhere.
        run("c", Some(7), &["c-1"], "", false);
        run("b", Some(1), &["c-2"], "", true);
        assert_eq!(figures(), (6, 6, 6, 3));
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
        std::fs::write(&open_to_all, line(HEADER)).unwrap();
        std::fs::set_permissions(&open_to_all, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(open(&open_to_all).contains("chmod 600"));
    }

    #[test]
    fn a_file_that_is_no_mapping_is_left_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("out");
        std::fs::create_dir(&out).unwrap();
        let header = String::from_utf8(line(HEADER)).unwrap();
        let private = |name: &str, bytes: &[u8]| {
            let path = folder.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
            path
        };
        let foreign: [&[u8]; 7] = [
            &[0x93; 32],
            b"one line of text",
            b"\n",
            b"a,b\n1,2\n",
            header.trim_end().as_bytes(),
            b"case,kind,original,replacement,date_offset_days,output,more\n",
            b"\"case,kind,original,replacement,date_offset_days,output\n",
        ];
        for (i, bytes) in foreign.into_iter().enumerate() {
            let path = private(&format!("foreign-{i}"), bytes);
            let said = MappingFile::open(&path, &out).err().map(|e| e.to_string()).unwrap_or_default();
            assert!(said.contains("neither an empty file nor a mapping"), "{i}: {said}");
            assert_eq!(std::fs::read(&path).unwrap(), bytes, "{i}");
        }
        // Rows behind a quotation mark that does not close are no torn row.
        let quoted = format!("{header}c-1,uid,\"1.2,3,,/out\nc-2,uid,1.3,4,,/out\nc-3,uid,1.4,5,,/out\n");
        let path = private("quoted", quoted.as_bytes());
        let said = MappingFile::open(&path, &out).err().map(|e| e.to_string()).unwrap_or_default();
        assert!(said.contains("line 2 is no row"), "{said}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), quoted);
        let empty = private("empty", b"");
        assert!(MappingFile::open(&empty, &out).is_ok());
        assert_eq!(std::fs::read_to_string(&empty).unwrap(), header);
    }

    #[test]
    fn one_file_has_one_purpose_by_whatever_path() {
        let folder = tempfile::tempdir().unwrap();
        let (key, link, hard) = (folder.path().join("key"), folder.path().join("link"), folder.path().join("hard"));
        std::fs::write(&key, [1; 32]).unwrap();
        std::os::unix::fs::symlink(&key, &link).unwrap();
        std::fs::hard_link(&key, &hard).unwrap();
        let list = folder.path().join("list");
        for path in [&key, &link, &hard] {
            let others = [("--pseudonyms", list.as_path()), ("the key", key.as_path())];
            let said = MappingFile::apart(path, &others).err().map(|e| e.to_string()).unwrap_or_default();
            assert!(said.contains("cannot be the same file as the key"), "{said}");
        }
        std::fs::write(&list, "").unwrap();
        assert!(MappingFile::apart(&list, &[("the key", &key)]).is_ok());
        assert!(MappingFile::apart(&folder.path().join("new"), &[("the key", &key)]).is_ok());
    }
}
