//! The run's own documents: journal, run.json, names below the output folder, and what was said, searched for the values of
//! every case of this run; and taking out what is found.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use rayon::prelude::*;
use serde_json::Value as Json;

use super::artefact;
use super::figures::Figures;
use super::search::{Hit, Numbers, Searcher};
use super::withheld::{Value, Withheld};
use crate::engine::failure::Failure;

/// Values of one automaton.
const AT_ONCE: usize = 2000;
/// What stands where a value stood.
const IN_PLACE: &str = "(withheld)";

/// A value with the cases that have it.
type Held<'a> = (&'a Value, Vec<&'a str>);

/// The values of every case of a run, in memory only.
#[derive(Default)]
pub struct Documents {
    cases: BTreeMap<String, Withheld>,
    /// Values that were found somewhere, whose ever they are.
    leaked: Withheld,
}

/// A finding in the run's documents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The case whose value it is, or whose folder has the name.
    pub case: String,
    /// What became of it.
    pub failure: Failure,
}

/// What the run's documents hold.
pub struct Texts<'a> {
    /// journal.jsonl.
    pub journal: &'a [u8],
    /// run.json.
    pub manifest: &'a [u8],
    /// What was written to the standard streams.
    pub said: &'a [u8],
    /// Paths below the output folder that the run's cases and the run itself wrote.
    pub names: &'a [String],
}

impl Documents {
    /// Takes the values of a case.
    pub fn add(&mut self, case: &str, withheld: Withheld) {
        self.cases.insert(case.to_owned(), withheld);
    }

    /// Names of source folders that are words of these codes are no sign of anybody.
    pub fn forget_names(&mut self, codes: &BTreeSet<String>) {
        self.cases.values_mut().for_each(|withheld| withheld.forget_names(codes));
    }

    /// Takes a value that was found in what a case was about to leave.
    pub fn add_leaked(&mut self, value: Withheld) {
        self.leaked.join(value);
    }

    /// Searches the files of finished cases for the values that were found anywhere: what leaks of one patient may stand in
    /// the results of others. `finished` are names of cases with the paths of their files. Also how many cases have files that
    /// cannot be read any more.
    ///
    /// # Errors
    /// In words why they cannot be searched.
    pub fn sweep(&self, folder: &Path, finished: &[(String, Vec<String>)]) -> std::io::Result<(Vec<Finding>, usize)> {
        // What is short may stand in the results of another by chance.
        let leaked: Vec<&Value> = self.leaked.values().iter().filter(|v| !v.short()).collect();
        if leaked.is_empty() {
            return Ok((Vec::new(), 0));
        }
        let searcher = Searcher::new(leaked.iter().copied()).map_err(std::io::Error::other)?;
        let holds = |(case, files): &(String, Vec<String>)| -> (Option<Finding>, bool) {
            let mut unread = false;
            for (i, file) in files.iter().enumerate() {
                let Ok(artefact) = artefact::read(&folder.join(case).join(file)) else {
                    unread = true;
                    continue;
                };
                for stream in &artefact.streams {
                    if let Some(hit) = searcher.hits(&stream.bytes, stream.numbers).next() {
                        let origin = leaked.get(hit.value).map(|v| v.origin()).unwrap_or_default();
                        let text = format!("file {} of {} holds {origin} of another case", i + 1, files.len());
                        let failure = Failure::host(super::LEAK, text);
                        return (Some(Finding { case: case.clone(), failure }), false);
                    }
                }
            }
            (None, unread)
        };
        let swept: Vec<(Option<Finding>, bool)> = finished.par_iter().map(holds).collect();
        let unread = swept.iter().filter(|(_, unread)| *unread).count();
        Ok((swept.into_iter().filter_map(|(finding, _)| finding).collect(), unread))
    }

    /// Every value once, with the cases that have it.
    fn values(&self) -> Vec<Held<'_>> {
        let mut all: BTreeMap<(&[u8], Option<u8>), Held> = BTreeMap::new();
        for (case, withheld) in &self.cases {
            for value in withheld.values() {
                let key = (value.raw.as_slice(), value.class.map(|c| c as u8));
                all.entry(key).or_insert((value, Vec::new())).1.push(case);
            }
        }
        all.into_values().collect()
    }

    /// Calls `each` with an automaton for some of the values at a time; false if one cannot be built.
    fn in_parts<T: Send>(&self, each: impl Fn(&[Held], &Searcher) -> Vec<T> + Sync) -> Option<Vec<T>> {
        let values = self.values();
        let parts: Vec<Option<Vec<T>>> = values
            .par_chunks(AT_ONCE)
            .map(|part| Searcher::new(part.iter().map(|(v, _)| *v)).ok().map(|searcher| each(part, &searcher)))
            .collect();
        parts.into_iter().collect::<Option<Vec<_>>>().map(|parts| parts.into_iter().flatten().collect())
    }

    /// Searches the documents. One finding a case at most.
    ///
    /// # Errors
    /// The system's, or in words why they cannot be searched.
    pub fn search(&mut self, texts: &Texts) -> std::io::Result<(Vec<Finding>, Figures)> {
        let names = texts.names;
        let strings = |bytes: &[u8]| artefact::json(bytes).unwrap_or_default();
        let (journal, manifest) = (strings(texts.journal), strings(texts.manifest));
        let joined: Vec<u8> = names.iter().flat_map(|n| [n.as_bytes(), b"\0"].concat()).collect();
        let streams: [(&str, &[u8], Numbers); 6] = [
            ("journal.jsonl", texts.journal, Numbers::No),
            ("journal.jsonl", &journal, Numbers::Long),
            ("run.json", texts.manifest, Numbers::No),
            ("run.json", &manifest, Numbers::Long),
            ("a name below the output folder", &joined, Numbers::Long),
            ("what was said on a standard stream", texts.said, Numbers::Long),
        ];
        let found = self.in_parts(|part, searcher| {
            let mut found = Vec::new();
            for (what, bytes, numbers) in streams {
                for hit in searcher.hits(bytes, numbers) {
                    let Some((value, cases)) = part.get(hit.value) else { continue };
                    let holders = if what.starts_with("a name") { folder_at(&joined, &hit) } else { None };
                    let failure =
                        Failure::host(super::LEAK, format!("{what} holds {}, {}", value.origin(), hit.form.words()));
                    for case in cases.iter().copied().chain(holders) {
                        found.push((Finding { case: case.to_owned(), failure: failure.clone() }, (*value).clone()));
                    }
                }
            }
            found
        });
        let Some(found) = found else {
            return Err(std::io::Error::other("there are more identifying values than can be searched for"));
        };
        let mut seen = BTreeSet::new();
        let found: Vec<_> = found.into_iter().filter(|(f, _)| seen.insert(f.case.clone())).collect();
        let (findings, leaked): (Vec<Finding>, Vec<Value>) = found.into_iter().unzip();
        leaked.into_iter().for_each(|value| self.leaked.join(Withheld::from(value)));
        let mut figures = Figures { files: names.len() + 2, findings: findings.len(), ..Figures::default() };
        figures.bytes = streams.iter().map(|(_, bytes, _)| bytes.len() as u64).sum();
        figures.searched = self.cases.values().map(|w| w.values().len()).sum();
        Ok((findings, figures))
    }

    /// A JSON document, or one a line, with every value replaced. What still holds one then (in a number, or across two
    /// strings) is left out as a whole line.
    ///
    /// # Errors
    /// In words why it cannot be searched.
    pub fn redacted(&self, text: &str, lines: bool) -> std::io::Result<String> {
        let fail = || std::io::Error::other("there are more identifying values than can be searched for");
        let values = self.values();
        let parts: Option<Vec<Searcher>> =
            values.par_chunks(AT_ONCE).map(|part| Searcher::new(part.iter().map(|(v, _)| *v)).ok()).collect();
        let parts = parts.ok_or_else(fail)?;
        if lines {
            let kept = text.lines().filter_map(|line| clean(line, &parts, false));
            return Ok(kept.fold(String::new(), |all, line| all + &line + "\n"));
        }
        Ok(clean(text, &parts, true).unwrap_or_else(|| "{}".to_owned()) + "\n")
    }
}

/// One JSON document without the values; `None` where they cannot be taken out.
fn clean(text: &str, parts: &[Searcher], pretty: bool) -> Option<String> {
    let mut value: Json = serde_json::from_str(text).ok()?;
    for searcher in parts {
        replace(&mut value, searcher);
    }
    let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) }.ok()?;
    let holds = parts.iter().any(|searcher| searcher.hits(text.as_bytes(), Numbers::No).next().is_some());
    (!holds).then_some(text)
}

fn replace(value: &mut Json, searcher: &Searcher) {
    match value {
        Json::String(text) => {
            if let Some(clean) = searcher.redacted(text, Numbers::Long, IN_PLACE) {
                *text = clean;
            }
        }
        Json::Array(list) => list.iter_mut().for_each(|v| replace(v, searcher)),
        Json::Object(map) => {
            let old = std::mem::take(map);
            for (key, mut value) in old {
                replace(&mut value, searcher);
                let key = searcher.redacted(&key, Numbers::Long, IN_PLACE).unwrap_or(key);
                map.insert(key, value);
            }
        }
        _ => {}
    }
}

/// The folder of a case in whose path a match in the list of names lies.
fn folder_at<'n>(names: &'n [u8], hit: &Hit) -> Option<&'n str> {
    let start = names.get(..hit.range.start)?.iter().rposition(|&b| b == 0).map_or(0, |i| i + 1);
    let name = names.get(start..)?.split(|&b| b == 0 || b == b'/').next()?;
    std::str::from_utf8(name).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::self_audit::Public;
    use crate::series::identifying::{Class, Differences, Gone};

    fn documents(case: &str, value: &str) -> Documents {
        let mut differences = Differences::default();
        let gone = Gone { raw: value.as_bytes().to_vec(), text: None, class: Class::Identifier };
        differences.gone.insert(gone, dicom_core::Tag(0x0010, 0x0020));
        let noon: jiff::Timestamp = "2026-03-01T12:30:15Z".parse().unwrap();
        let mut documents = Documents::default();
        documents.add(case, Withheld::of(&differences, &BTreeSet::new(), &Public::new("", noon, noon)));
        documents
    }

    #[test]
    fn a_value_in_a_document_a_name_or_the_log_is_a_finding_of_its_case() {
        let mut documents = documents("c-1", "Canary471112");
        let mut search = |journal: &str, manifest: &str, said: &str, names: &[String]| {
            let (journal, manifest, said) = (journal.as_bytes(), manifest.as_bytes(), said.as_bytes());
            documents.search(&Texts { journal, manifest, said, names }).unwrap().0
        };
        assert!(search("{}", "{}", "", &[]).is_empty());
        for (journal, manifest, said) in [
            ("{\"a\":\"xCanary471112\"}", "{}", ""),
            ("{}", "{\"\\u0043anary471112\": 1}", ""),
            ("{}", "{}", "canary471112!"),
        ] {
            let found = search(journal, manifest, said, &[]);
            assert_eq!(found.len(), 1);
            assert!(found[0].case == "c-1" && found[0].failure.code == "identity-leak");
            assert!(!found[0].failure.text.contains("anary4"));
        }
        let names = ["c-2".to_owned(), "c-2/Canary471112".to_owned()];
        let cases: Vec<String> = search("{}", "{}", "", &names).into_iter().map(|f| f.case).collect();
        assert_eq!(cases, ["c-1", "c-2"]);
    }

    #[test]
    fn a_document_is_written_again_without_it() {
        let documents = documents("c-1", "Canary471112");
        let text = "{\"event\":\"a\",\"Canary471112\":[\"see Canary471112\"]}\n{\"event\":\"b\"}\n";
        let wanted = "{\"(withheld)\":[\"see (withheld)\"],\"event\":\"a\"}\n{\"event\":\"b\"}\n";
        let sorted = |text: &str| -> Vec<Json> { text.lines().map(|l| serde_json::from_str(l).unwrap()).collect() };
        assert_eq!(sorted(&documents.redacted(text, true).unwrap()), sorted(wanted));
    }
}
