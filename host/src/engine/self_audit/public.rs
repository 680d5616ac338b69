//! What is no sign of anybody: what is known before a patient's file is opened, words that name nobody, and names of folders
//! and files that everybody uses.

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::Path;

use super::withheld::{ANYWHERE, LEAST, PLAIN, Value, weight};
use crate::graph::Graph;
use crate::series::identifying::Class;

/// Words of journal and manifest that stand there whoever the patient is.
const KEYS: &str = "annotation bytes cards case cases checkpoint checkpoints code codes complete completion cuda device \
    devices digest document environment error event events exempt expected failed failure files findings finished first \
    format gantry inputs instances instructions journal kernels library machine memory name names node nodes outcome \
    outputs path peak pinned pipeline plan plugin plugins portable precision quarantined reason record resident run \
    searched seconds seed self slices started status synthetic text threads time token tokens version warning warnings \
    worker";

/// What everybody may know before a patient's file is opened.
pub struct Public {
    /// The pipeline's text and what it refers to.
    words: BTreeSet<String>,
    /// The days that the host itself may write.
    dates: BTreeSet<String>,
    /// The times of day that the host itself may write.
    times: BTreeSet<String>,
}

impl Public {
    /// Of a run: the pipeline's text, and what its graph and the documents of its stages say.
    pub fn of_run(pipeline: &str, graph: &Graph, run_time: jiff::Timestamp) -> Public {
        let mut text = pipeline.to_owned() + &graph.canonical_json();
        // What a stage's document lets it say is known before any patient is.
        for message in graph.nodes.iter().flat_map(|node| &node.entry.spec.messages) {
            text.push(' ');
            text.push_str(message);
        }
        Public::new(&text, run_time, jiff::Timestamp::now())
    }

    /// From the pipeline's text with its graph, and the time of the run; `now` is the clock's.
    pub fn new(text: &str, run_time: jiff::Timestamp, now: jiff::Timestamp) -> Public {
        let all = text.split(|c: char| !c.is_alphanumeric()).chain(KEYS.split_whitespace());
        let words = all.filter(|w| w.len() >= LEAST).map(str::to_owned).collect();
        let (mut dates, mut times) = (BTreeSet::new(), BTreeSet::new());
        // Derived objects say the time of the run in the time zone of the images.
        for quarter in -56..=56i64 {
            let Ok(moment) = run_time.checked_add(jiff::SignedDuration::from_mins(quarter * 15)) else { continue };
            times.insert(moment.strftime("%H%M%S").to_string());
            dates.insert(moment.strftime("%Y%m%d").to_string());
        }
        dates.insert(now.strftime("%Y%m%d").to_string());
        Public { words, dates, times }
    }

    pub(super) fn says(&self, value: &Value) -> bool {
        let Some(text) = value.text.as_deref() else { return false };
        let plain = text.len() < PLAIN && text.split_whitespace().all(|w| w.chars().all(char::is_alphabetic));
        let short = text.len() < ANYWHERE && text.bytes().all(|b| b.is_ascii_digit());
        let direct = value.class.is_some_and(Class::direct);
        let tokens = || text.split(|c: char| !c.is_alphanumeric()).filter(|w| w.len() >= LEAST);
        let known = || tokens().next().is_some() && tokens().all(|w| self.words.contains(w));
        (short || plain && !direct || value.class.is_none()) && known()
    }

    pub(super) fn is_now(&self, text: &str) -> bool {
        let date = text.get(..8).is_some_and(|d| self.dates.contains(d));
        let time = |t: &str| t.get(..6).is_some_and(|t| self.times.contains(t));
        match text.len() {
            8 if !text.contains('.') => date,
            14.. if date => text.get(8..).is_some_and(time),
            _ => time(text),
        }
    }
}

/// What stands where no value is: dummies, and words that name nobody.
const NOBODY: [&str; 33] = [
    "2.25.0",
    "about blank",
    "anon",
    "anonym",
    "anonymise",
    "anonymised",
    "anonymize",
    "anonymized",
    "anonymous",
    "blank",
    "de identified",
    "deidentified",
    "default",
    "dummy",
    "empty",
    "gantry",
    "gantry plugin host",
    "n a",
    "name",
    "no name",
    "nobody",
    "none",
    "noname",
    "not available",
    "null",
    "patient",
    "phantom",
    "private",
    "removed",
    "subject",
    "test",
    "unknown",
    "unnamed",
];

/// Whether a text names nobody: one of [`NOBODY`], or one character over and over.
pub(super) fn nobody(text: &str) -> bool {
    let same = text.chars().next().is_some_and(|first| text.chars().all(|c| c == first || "^ .-/:".contains(c)));
    let mut plain = text.to_lowercase().replace(['^', '-', '_', '/', ':', '='], " ");
    if text.contains('.') && text.starts_with("2.25") {
        plain = text.to_owned();
    }
    let plain = plain.split_whitespace().collect::<Vec<_>>().join(" ");
    same || NOBODY.contains(&plain.as_str())
}

/// Words of file systems that say nothing.
const GENERIC: [&str; 40] = [
    "abdomen",
    "archive",
    "axial",
    "chest",
    "cohort",
    "coronal",
    "cranial",
    "dataset",
    "default",
    "derived",
    "dicom",
    "dicomdir",
    "exported",
    "export",
    "exports",
    "frame",
    "image",
    "images",
    "import",
    "incoming",
    "input",
    "inputs",
    "lossless",
    "neuro",
    "original",
    "originals",
    "patient",
    "patients",
    "phantom",
    "public",
    "result",
    "results",
    "sagittal",
    "series",
    "slices",
    "source",
    "sources",
    "studies",
    "subject",
    "subjects",
];

/// The part of a file's or folder's name that may tell whose it is, if it is long enough and neither a generic word nor a
/// counted one.
pub(super) fn telling(name: &str) -> Option<&str> {
    let stem = match Path::new(name).extension().and_then(|e| e.to_str()) {
        Some("dcm" | "DCM" | "ima" | "IMA" | "gz" | "nii" | "dicom") => {
            Path::new(name).file_stem().and_then(|s| s.to_str())?
        }
        _ => name,
    };
    let lower = stem.to_lowercase();
    let word = lower.trim_end_matches(|c: char| c.is_ascii_digit() || matches!(c, '-' | '_' | '.' | ' ' | '(' | ')'));
    let counted = stem.bytes().filter(u8::is_ascii_digit).count();
    let generic =
        word.is_empty() || word.len() <= 5 && word.chars().all(char::is_alphabetic) || GENERIC.contains(&word);
    // As `instance-write` names what it writes.
    let own = stem.split('-').collect::<Vec<_>>();
    let number = |t: &str| !t.is_empty() && t.bytes().all(|b| b.is_ascii_digit());
    if let [kind, series, instance] = own.as_slice()
        && kind.len() <= 16
        && kind.bytes().all(|b| b.is_ascii_uppercase())
        && (number(series) && series.len() <= 5)
        && (number(instance) && instance.len() == 5)
    {
        return None;
    }
    // A generic word with a long number is a patient's or an order's.
    let says = !generic || counted >= ANYWHERE && !stem.contains("000");
    (weight(stem.as_bytes(), Some(stem)) >= ANYWHERE && says).then_some(stem)
}

/// Whether `token` stands in `text` with no letter or digit on either side.
pub(super) fn holds_token(text: &str, token: &str) -> bool {
    text.match_indices(token).any(|(at, _)| stands_alone(text, &(at..at + token.len())))
}

/// Whether no letter or digit stands on either side of a part of a text.
pub(super) fn stands_alone(text: &str, part: &Range<usize>) -> bool {
    let before = text.get(..part.start).and_then(|t| t.chars().next_back());
    let after = text.get(part.end..).and_then(|t| t.chars().next());
    !before.is_some_and(char::is_alphanumeric) && !after.is_some_and(char::is_alphanumeric)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_files_count_where_they_tell_something() {
        for name in ["Mueller_Hans", "Vgr7777_Hnk", "patient-20031234", "1977123456.dcm", "HERZBILD"] {
            assert!(telling(name).is_some(), "{name}");
        }
        for name in [
            "dicom",
            "IM0001",
            "IM000123.dcm",
            "slice_0001.dcm",
            "series-12",
            "ct",
            "000123.dcm",
            "images",
            "Patient-0001",
            "I.123",
            "RTSTRUCT-001-00001.dcm",
        ] {
            assert!(telling(name).is_none(), "{name}");
        }
    }
}
