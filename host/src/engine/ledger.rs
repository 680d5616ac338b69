//! [`Ledger`]: the supervisor's books: the journal, commits, what became of every case, and how the books of a run that takes
//! identity away are ended.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::cases::Case;
use super::failure::{Failure, Outcome};
use super::journal::{Journal, Record};
use super::node::Warning;
use super::output::Output;
use super::protocol::{Completion, Private};
use super::run_json::{self, RunRecord};
use super::self_audit::{self, Finding, Public, Texts, Withheld};
use super::supervisor::{RunError, Summary, Watcher, environment};
use crate::identity::{MappingFile, MappingRow};

/// The supervisor's books: journal, commits, and what became of every case.
pub struct Ledger<'a> {
    output: &'a Output,
    journal: Journal,
    watcher: &'a dyn Watcher,
    /// Last word on every case of this folder, by name.
    pub known: BTreeMap<String, Record>,
    /// Counts, but for those of `kept` and `done`.
    counts: Summary,
    /// Cases of this run that an earlier one finished.
    kept: BTreeSet<String>,
    /// Cases that a worker of this run was given.
    begun: BTreeSet<String>,
    /// Names of cases that this run finished.
    done: BTreeSet<String>,
    /// Values that must stand in none of the run's documents; in memory only.
    pub documents: self_audit::Documents,
    /// What stands for whom, where it was asked for.
    pub mapping: Option<MappingFile>,
}

impl<'a> Ledger<'a> {
    /// Books that begin with what an earlier run in this folder wrote.
    pub fn new(output: &'a Output, journal: Journal, history: Vec<Record>, watcher: &'a dyn Watcher) -> Ledger<'a> {
        let mut known = BTreeMap::new();
        for record in history {
            match &record {
                Record::CaseFinished { case, .. }
                | Record::CaseFailed { case, .. }
                | Record::CaseStarted { case, .. } => {
                    known.insert(case.clone(), record);
                }
                Record::RunStarted { .. } | Record::RunFinished { .. } => {}
            }
        }
        let documents = self_audit::Documents::default();
        Ledger {
            output,
            journal,
            watcher,
            known,
            counts: Summary::default(),
            kept: BTreeSet::new(),
            begun: BTreeSet::new(),
            done: BTreeSet::new(),
            documents,
            mapping: None,
        }
    }

    /// Takes what a worker told of a case for this process's memory alone.
    pub fn take_private(&mut self, case: &Case, private: &Private) {
        if let Some(withheld) = Withheld::unpacked(&private.withheld)
            && !withheld.values().is_empty()
        {
            self.documents.add(&case.name, withheld);
        }
        if let Some(leaked) = Withheld::unpacked(&private.leaked) {
            self.documents.add_leaked(leaked);
        }
    }

    /// Takes what the scan knew of the cases of this folder that no worker of this run compared: refused ones, those whose
    /// worker died or was interrupted, and those that an earlier run finished, perhaps without searching its documents.
    pub fn take_unread<'c>(&mut self, cases: impl Iterator<Item = &'c Case>, roots: &[PathBuf], public: &Public) {
        for case in cases {
            let touched = self.known.contains_key(&case.name) || self.begun.contains(&case.name);
            if touched && !self.documents.has(&case.name) {
                self.documents.add(&case.name, self_audit::known_to_scan(&case.series(), roots, public));
            }
        }
    }

    /// What the run did so far.
    pub fn summary(&self) -> Summary {
        Summary { kept: self.kept.len(), done: self.done.len(), ..self.counts }
    }

    fn append(&mut self, record: &Record) -> Result<(), RunError> {
        self.journal.append(record).map_err(|e| environment("writing the journal", &e))
    }

    /// Indices of the cases that must be run; says why a known one is not skipped.
    ///
    /// # Errors
    /// The system's.
    pub fn skip_finished(&mut self, cases: &[Case]) -> Result<Vec<usize>, RunError> {
        let mut todo = Vec::new();
        for (i, case) in cases.iter().enumerate() {
            let why = match self.known.get(&case.name) {
                None => None,
                Some(Record::CaseFinished { digest, completion, .. }) if *digest == case.digest => {
                    let there = |f: &super::sink::OutputFile| {
                        let path = self.output.folder.join(&case.name).join(&f.path);
                        path.metadata().is_ok_and(|m| m.len() == f.bytes)
                    };
                    if completion.outputs.iter().all(there) {
                        self.kept.insert(case.name.clone());
                        continue;
                    }
                    Some("its results are no longer complete")
                }
                Some(Record::CaseFinished { .. }) => Some("the pipeline, plugins, weights or inputs changed"),
                Some(Record::CaseFailed { .. }) => Some("it failed before"),
                Some(_) => Some("it was interrupted before"),
            };
            if let Some(why) = why {
                self.watcher.remark(&format!("{}: run again, {why}", case.name));
            }
            todo.push(i);
        }
        match self.kept.len() {
            0 => {}
            1 => self.watcher.remark("1 case is done and unchanged"),
            several => self.watcher.remark(&format!("{several} cases are done and unchanged")),
        }
        Ok(todo)
    }

    /// A case is handed to a worker.
    ///
    /// # Errors
    /// The system's.
    pub fn started(&mut self, case: &Case) -> Result<(), RunError> {
        self.begun.insert(case.name.clone());
        self.append(&Record::CaseStarted { case: case.name.clone(), digest: case.digest.clone() })
    }

    /// A case is complete: it comes into place and into the journal.
    ///
    /// # Errors
    /// The system's.
    pub fn finished(&mut self, case: &Case, completion: Completion, private: Private) -> Result<(), RunError> {
        self.output.commit(&case.name).map_err(|e| environment("moving a finished case into place", &e))?;
        if let Some(mapping) = &mut self.mapping {
            let row = |(kind, original, replacement, date_offset_days)| MappingRow {
                kind,
                original,
                replacement,
                date_offset_days,
            };
            // Before the journal: a case that counts as finished has its rows.
            let rows: Vec<MappingRow> = private.mapping.into_iter().map(row).collect();
            mapping.append(&case.name, &rows).map_err(|e| environment("writing the mapping", &e))?;
        }
        let (expected, measured) = &mut self.counts.peak_bytes;
        *expected = completion.expected_peak_bytes.max(*expected);
        *measured = completion.peak_rss_bytes.max(*measured);
        let record = Record::CaseFinished {
            case: case.name.clone(),
            digest: case.digest.clone(),
            inputs: case.inputs.clone(),
            completion: Box::new(completion),
        };
        self.append(&record)?;
        self.known.insert(case.name.clone(), record);
        self.done.insert(case.name.clone());
        self.watcher.case(&case.name, None);
        Ok(())
    }

    /// A case failed: what it left is removed.
    ///
    /// # Errors
    /// The system's.
    pub fn failed(&mut self, case: &Case, failure: Failure, warnings: Vec<Warning>) -> Result<(), RunError> {
        self.output.discard(&case.name).map_err(|e| environment("removing a failed case", &e))?;
        match failure.outcome {
            Outcome::Quarantined => self.counts.quarantined += 1,
            _ => self.counts.failed += 1,
        }
        self.watcher.case(&case.name, Some(&failure));
        let record = Record::CaseFailed {
            case: case.name.clone(),
            digest: case.digest.clone(),
            inputs: case.inputs.clone(),
            failure,
            warnings,
        };
        self.append(&record)?;
        self.known.insert(case.name.clone(), record);
        Ok(())
    }

    /// The run ended.
    ///
    /// # Errors
    /// The system's.
    pub fn close(&mut self, complete: bool) -> Result<(), RunError> {
        self.append(&Record::RunFinished { complete })
    }

    /// Takes the rows of cases that failed or were only started out of the mapping. What other runs know stays.
    ///
    /// # Errors
    /// The system's.
    pub fn settle_mapping(&mut self) -> Result<(), RunError> {
        let Some(mapping) = self.mapping.take() else { return Ok(()) };
        let drops =
            |case: &str| matches!(self.known.get(case), Some(Record::CaseFailed { .. } | Record::CaseStarted { .. }));
        mapping.settle(&drops).map_err(|e| RunError { exit: 3, text: e.to_string() })
    }

    /// Writes run.json.
    ///
    /// # Errors
    /// The system's.
    pub fn manifest(&self, text: &str) -> Result<(), RunError> {
        self.output.write("run.json", text.as_bytes()).map_err(|e| environment("writing run.json", &e))
    }

    /// Cases that are finished, with the paths of their files.
    fn finished_files(&self) -> Vec<(String, Vec<String>)> {
        let finished = self.known.values().filter_map(|record| match record {
            Record::CaseFinished { case, completion, .. } => {
                Some((case.clone(), completion.outputs.iter().map(|f| f.path.clone()).collect()))
            }
            _ => None,
        });
        finished.collect()
    }

    /// A case that was finished is not: something of its patient stands where it must not.
    fn withdraw(&mut self, finding: &Finding) -> Result<(), RunError> {
        let finished = match self.known.get(&finding.case) {
            Some(Record::CaseFinished { digest, inputs, .. }) => (digest.clone(), inputs.clone()),
            // It counts as no result already, or is no case of Gantry's.
            _ => return Ok(()),
        };
        let discarded = self.output.discard(&finding.case).map_err(|e| environment("removing a failed case", &e));
        // It may also have been finished by an earlier run, and not been reached or not been asked for now.
        self.kept.remove(&finding.case);
        self.done.remove(&finding.case);
        self.counts.failed += 1;
        self.watcher.case(&finding.case, Some(&finding.failure));
        let (case, failure) = (finding.case.clone(), finding.failure.clone());
        let (digest, inputs) = finished;
        let record = Record::CaseFailed { case: case.clone(), digest, inputs, failure, warnings: Vec::new() };
        let appended = self.append(&record);
        self.known.insert(case, record);
        discarded.and(appended)
    }
}

/// Ends the books of a run that takes identity away: the run's documents are searched for what the cases were to lose, cases
/// of which something is found are withdrawn, and the documents are written without it.
///
/// # Errors
/// The system's.
pub fn close_audited(ledger: &mut Ledger, run: &RunRecord) -> Result<(), RunError> {
    let failed = |e: std::io::Error| environment("the self-audit of the run's documents", &e);
    let path = ledger.output.folder.join("journal.jsonl");
    let manifest = run_json::render(run, ledger, None);
    // A journal that cannot be read fails the run, but its manifest is searched and written all the same.
    let journal = std::fs::read(&path).map_err(failed);
    let said = self_audit::said::take();
    let names = written_names(&ledger.finished_files());
    let text = journal.as_deref().unwrap_or_default();
    let texts = Texts { journal: text, manifest: manifest.as_bytes(), said: &said, names: &names };
    let codes = ledger.known.values().filter_map(|record| match record {
        Record::CaseFailed { failure, .. } => Some(failure.code.clone()),
        _ => None,
    });
    ledger.documents.forget_names(&codes.collect());
    let (mut findings, mut figures) = ledger.documents.search(&texts);
    figures.files -= usize::from(journal.is_err());
    let mut ended = journal.map(|_| ());
    for finding in &findings {
        ended = ended.and(ledger.withdraw(finding));
    }
    let (others, unread) = ledger.documents.sweep(&ledger.output.folder, &ledger.finished_files());
    if unread > 0 {
        ledger.watcher.remark(&format!(
            "{unread} cases could not be searched for identifying values of other cases: files of theirs cannot be read"
        ));
    }
    for finding in others {
        ended = ended.and(ledger.withdraw(&finding));
        findings.push(finding);
    }
    if !findings.is_empty() {
        ledger.counts.leaks = findings.len();
        ledger.watcher.remark(&format!(
            "identifying values were found in the run's own documents or words, of {} cases (identity-leak)",
            findings.len()
        ));
    }
    ended = ended.and(ledger.close(run.complete));
    let manifest = run_json::render(run, ledger, Some(&figures));
    if findings.is_empty() {
        return ledger.manifest(&manifest).and(ended);
    }
    let written = ledger.manifest(&ledger.documents.manifest_without(&manifest));
    let journal = std::fs::read_to_string(&path).map_err(failed).and_then(|journal| {
        let clean = ledger.documents.journal_without(&journal);
        ledger.output.write("journal.jsonl", clean.as_bytes()).map_err(failed)
    });
    written.and(ended).and(journal)
}

/// Paths below the output folder that cases and the run itself wrote; what else lies there is not Gantry's.
fn written_names(finished: &[(String, Vec<String>)]) -> Vec<String> {
    let mut names = vec!["journal.jsonl".to_owned(), "run.json".to_owned()];
    for (case, files) in finished {
        names.push(case.clone());
        names.extend(files.iter().map(|file| format!("{case}/{file}")));
    }
    names
}
