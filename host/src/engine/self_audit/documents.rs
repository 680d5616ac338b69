//! The run's own documents: journal, run.json, names below the output folder, and what was said, searched for the values of
//! every case of this run; and taking out what is found.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use rayon::prelude::*;

use super::artefact;
use super::figures::Figures;
use super::records;
use super::search::{Hit, Numbers, Searcher};
use super::withheld::{Value, Withheld};
use crate::engine::failure::Failure;

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

    /// Whether the values of a case are known.
    pub fn has(&self, case: &str) -> bool {
        self.cases.contains_key(case)
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
    pub fn sweep(&self, folder: &Path, finished: &[(String, Vec<String>)]) -> (Vec<Finding>, usize) {
        // What else was found may stand in the results of another by chance, and these would be lost.
        let leaked: Vec<&Value> = self.leaked.values().iter().filter(|v| v.telling()).collect();
        if leaked.is_empty() {
            return (Vec::new(), 0);
        }
        let parts: Vec<Searcher> = Searcher::parts(leaked.iter().copied()).collect();
        let holds = |(case, files): &(String, Vec<String>)| -> (Option<Finding>, bool) {
            let mut unread = false;
            for (i, file) in files.iter().enumerate() {
                let Ok(artefact) = artefact::read(&folder.join(case).join(file)) else {
                    unread = true;
                    continue;
                };
                for stream in &artefact.streams {
                    if let Some(hit) = parts.iter().find_map(|p| p.hits(&stream.bytes, stream.numbers).next()) {
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
        (swept.into_iter().filter_map(|(finding, _)| finding).collect(), unread)
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

    /// Searches the documents. One finding a case at most; whatever is found, of whomever, is then taken out by
    /// [`Documents::redacted`].
    pub fn search(&mut self, texts: &Texts) -> (Vec<Finding>, Figures) {
        let names = texts.names;
        let (journal, manifest) = (records::told(texts.journal), records::told(texts.manifest));
        let joined: Vec<u8> = names.iter().flat_map(|n| [n.as_bytes(), b"\0"].concat()).collect();
        // Where the host has words of its own, only what cannot well be one of them counts.
        let streams: [(&str, &[u8], Numbers, bool); 6] = [
            ("journal.jsonl", texts.journal, Numbers::No, true),
            ("journal.jsonl", &journal, Numbers::Long, false),
            ("run.json", texts.manifest, Numbers::No, true),
            ("run.json", &manifest, Numbers::Long, false),
            ("a name below the output folder", &joined, Numbers::Long, false),
            ("what was said on a standard stream", texts.said, Numbers::Long, false),
        ];
        let (mut findings, mut leaked): (Vec<Finding>, BTreeMap<usize, Value>) = Default::default();
        let mut seen = BTreeSet::new();
        let values = self.values();
        for searcher in Searcher::parts(values.iter().map(|(value, _)| *value)) {
            let found = streams.par_iter().flat_map_iter(|(what, bytes, numbers, only)| {
                searcher.hits(bytes, *numbers).map(move |hit| (*what, *only, hit))
            });
            for (what, only_telling, hit) in found.collect::<Vec<(&str, bool, Hit)>>() {
                let Some((value, cases)) = values.get(hit.value) else { continue };
                if only_telling && !value.telling() {
                    continue;
                }
                leaked.entry(hit.value).or_insert_with(|| (*value).clone());
                let named = what.starts_with("a name") && value.telling();
                let holders = if named { folder_at(&joined, &hit) } else { None };
                let text = || format!("{what} holds {}, {}", value.origin(), hit.form.words());
                for case in cases.iter().copied().chain(holders) {
                    if seen.insert(case.to_owned()) {
                        findings.push(Finding { case: case.to_owned(), failure: Failure::host(super::LEAK, text()) });
                    }
                }
            }
        }
        leaked.into_values().for_each(|value| self.leaked.join(Withheld::from(value)));
        let mut figures = Figures { files: names.len() + 2, findings: findings.len(), ..Figures::default() };
        figures.bytes = streams.iter().map(|(_, bytes, ..)| bytes.len() as u64).sum();
        figures.searched = self.cases.values().map(|w| w.values().len()).sum();
        (findings, figures)
    }

    /// The journal without the values that were found anywhere.
    pub fn journal_without(&self, journal: &str) -> String {
        let (all, telling) = self.found();
        records::journal_without(journal, &all, &telling)
    }

    /// run.json without the values that were found anywhere.
    pub fn manifest_without(&self, manifest: &str) -> String {
        let (all, telling) = self.found();
        records::manifest_without(manifest, &all, &telling)
    }

    /// Searchers for all values that were found, and for those that tell by themselves.
    fn found(&self) -> (Vec<Searcher>, Vec<Searcher>) {
        let values = self.leaked.values();
        let telling = values.iter().filter(|value| value.telling());
        (Searcher::parts(values).collect(), Searcher::parts(telling).collect())
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

    fn documents(case: &str, values: &[&str]) -> Documents {
        let mut differences = Differences::default();
        for value in values {
            let gone = Gone { raw: value.as_bytes().to_vec(), text: None, class: Class::Identifier };
            differences.gone.insert(gone, dicom_core::Tag(0x0010, 0x0020));
        }
        let noon: jiff::Timestamp = "2026-03-01T12:30:15Z".parse().unwrap();
        let mut documents = Documents::default();
        documents.add(case, Withheld::of(&differences, &BTreeSet::new(), &Public::new("", noon, noon)));
        documents
    }

    #[test]
    fn a_value_in_a_document_a_name_or_the_log_is_a_finding_of_its_case() {
        let mut documents = documents("c-1", &["Canary471112"]);
        let mut search = |journal: &str, manifest: &str, said: &str, names: &[String]| {
            let (journal, manifest, said) = (journal.as_bytes(), manifest.as_bytes(), said.as_bytes());
            documents.search(&Texts { journal, manifest, said, names }).0
        };
        assert!(search("{}", "{}", "", &[]).is_empty());
        for (journal, manifest, said) in [
            ("{\"a\":\"xCanary471112\"}", "{}", ""),
            ("{}", "{\"cases\": [{\"x\": \"\\u0043anary471112\"}]}", ""),
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
    fn whatever_was_found_is_taken_out_of_a_document_and_nothing_else() {
        let mut documents = documents("c-1", &["Canary471112", "Second47111213", "Third47111213", "output"]);
        let text = concat!(
            r#"{"event":"case-failed","failure":{"code":"x","text":"see Canary471112"},"warnings":[{"text":"Second47111213"}]}"#,
            "\n{\"event\":\"b\",\"output\":1}\n{\"event\":\"c\",\"node\":\"Canary471112\"}\n"
        );
        let wanted = concat!(
            r#"{"event":"case-failed","failure":{"code":"x","text":"see (withheld)"},"warnings":[{"text":"(withheld)"}]}"#,
            "\n{\"event\":\"b\",\"output\":1}\n"
        );
        let texts = Texts { journal: text.as_bytes(), manifest: b"{}", said: b"", names: &[] };
        let (findings, _) = documents.search(&texts);
        assert_eq!(findings.len(), 1);
        assert_eq!(documents.leaked.values().len(), 2);
        let sorted =
            |text: &str| -> Vec<serde_json::Value> { text.lines().map(|l| serde_json::from_str(l).unwrap()).collect() };
        assert_eq!(sorted(&documents.journal_without(text)), sorted(wanted));
    }
}
