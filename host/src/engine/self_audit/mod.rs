//! The self-audit of a run that takes identity away: what it writes is read again and searched for the values that were to go.
//!
//! It knows nothing of the stage that removed them: it compares the data sets before and after (`withheld`), spells what is gone
//! in every form in which it may hide (`forms`), takes every file apart (`artefact`) and searches it (`search`). A worker
//! audits each case's files before the case counts as finished; the supervisor audits the run's own documents (`documents`).

mod artefact;
mod documents;
mod failed;
mod figures;
mod forms;
mod handed_over;
mod needles;
mod public;
mod records;
pub mod said;
mod search;
mod withheld;

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use dicom_dictionary_std::tags;
use rayon::prelude::*;

use super::failure::Failure;
use super::sink::OutputFile;
use crate::graph::{Graph, Node};
use crate::series::SeriesRecord;
use crate::series::identifying::{Class, Differences, Gone};

pub use documents::{Documents, Finding, Texts};
pub use failed::failed;
pub use figures::Figures;
pub use public::Public;
use search::{Hit, Numbers, Searcher};
use withheld::Value;
pub use withheld::Withheld;

/// The code of a case in whose traces the self-audit found what was to be gone.
pub const LEAK: &str = "identity-leak";

/// What stands where a value stood.
const IN_PLACE: &str = "(withheld)";

/// What a worker audits of one case.
pub struct CaseTraces<'a> {
    /// The case's folder in the staging area.
    pub staging: &'a Path,
    /// Its files.
    pub outputs: &'a [OutputFile],
    /// Its record, as the journal will hold it.
    pub record: &'a [u8],
    /// What was logged since the last case.
    pub log: &'a [u8],
}

/// Why a case is not clean.
pub struct Unclean {
    /// In words, without the value.
    pub failure: Box<Failure>,
    /// The value that was found; an identity, in memory only.
    pub value: Box<Withheld>,
}

impl From<Failure> for Unclean {
    fn from(failure: Failure) -> Unclean {
        Unclean { failure: Box::new(failure), value: Box::default() }
    }
}

fn leak(what: &str, withheld: &Withheld, hit: &Hit) -> Unclean {
    let origin = withheld.values().get(hit.value).map(Value::origin).unwrap_or_default();
    let failure = Failure::host(LEAK, format!("{what} holds {origin}, {}", hit.form.words()));
    Unclean { failure: Box::new(failure), value: Box::new(withheld.only(hit.value)) }
}

/// Searches everything that a case is about to leave. Files of nodes in `identifying` are meant to hold identities.
///
/// # Errors
/// `identity-leak`, saying which file and which attribute, never the value.
pub fn case(
    traces: &CaseTraces,
    withheld: &Withheld,
    identifying: &BTreeSet<&str>,
    pool: &rayon::ThreadPool,
) -> Result<Figures, Unclean> {
    let mut figures = withheld.figures();
    if let Some(tag) = withheld.unchanged().next() {
        let text = format!("attribute {tag} names or numbers somebody and left as it came");
        return Err(Failure::host(LEAK, text).into());
    }
    for searcher in Searcher::parts(withheld.values()) {
        let bytes = part(traces, withheld, &searcher, identifying, pool)?;
        // Every part is searched for in the same bytes.
        figures.bytes = bytes;
    }
    figures.files = traces.outputs.len();
    Ok(figures)
}

/// Searches everything for some of the values; how many bytes that is.
fn part(
    traces: &CaseTraces,
    withheld: &Withheld,
    searcher: &Searcher,
    identifying: &BTreeSet<&str>,
    pool: &rayon::ThreadPool,
) -> Result<u64, Unclean> {
    let telling = |hit: &Hit| withheld.values().get(hit.value).is_some_and(Value::telling);
    let earliest = |hit: &Hit| (hit.range.start, hit.value);
    let first = |bytes: &[u8], numbers| searcher.hits(bytes, numbers).min_by_key(earliest);
    let of = traces.outputs.len();
    let one = |(i, file): (usize, &OutputFile)| -> Result<u64, Unclean> {
        if let Some(hit) = first(file.path.as_bytes(), Numbers::Long) {
            return Err(leak(&format!("the name of file {} of {of}", i + 1), withheld, &hit));
        }
        if identifying.contains(file.path.split('/').next().unwrap_or_default()) {
            return Ok(0);
        }
        let artefact = artefact::read(&traces.staging.join(&file.path)).map_err(|e| match e.kind() {
            std::io::ErrorKind::InvalidData => Failure::host("self-audit", format!("file {} of {of}: {e}", i + 1)),
            _ => Failure::environment("reading a result again", &e),
        })?;
        let mut bytes = 0;
        for stream in &artefact.streams {
            if let Some(hit) = first(&stream.bytes, stream.numbers) {
                return Err(leak(&format!("file {} of {of} ({})", i + 1, artefact.kind), withheld, &hit));
            }
            bytes += stream.bytes.len() as u64;
        }
        Ok(bytes)
    };
    let results: Vec<Result<u64, Unclean>> = pool.install(|| traces.outputs.par_iter().enumerate().map(one).collect());
    let mut sum = 0;
    for result in results {
        sum += result?;
    }
    // Where the host has words of its own, only what cannot well be one of them counts.
    if let Some(hit) = searcher.hits(traces.record, Numbers::No).filter(telling).min_by_key(earliest) {
        return Err(leak("the record of the case", withheld, &hit));
    }
    for (what, bytes) in [("the record of the case", &*records::told(traces.record)), ("the log", traces.log)] {
        if let Some(hit) = first(bytes, Numbers::Long) {
            return Err(leak(what, withheld, &hit));
        }
    }
    Ok(sum + (traces.record.len() + traces.log.len()) as u64)
}

/// Whether a run takes identity away anywhere, so that it is audited.
pub fn wanted(graph: &Graph) -> bool {
    graph.nodes.iter().any(removes)
}

fn removes(node: &Node) -> bool {
    let declared = |o: &crate::graph::Output| {
        let Some(spec) = node.entry.spec.outputs.get(o.spec) else { return false };
        let headers = o.caps["kind"] == "headers" || spec.view != crate::registry::View::Pixels;
        headers && spec.caps.literal_texts("identity") == ["removed"]
    };
    node.outputs.iter().any(declared)
}

/// Nodes whose files hold identities because the pipeline leads them around the stage that takes them away.
pub fn identifying(graph: &Graph) -> BTreeSet<&str> {
    let leaves = |n: &&Node| {
        let arrives = n.inputs.iter().flat_map(|i| &i.links);
        let says = |o: &crate::graph::Output| o.caps["identity"].as_str() == Some("present");
        let mut arrives = arrives.filter_map(|l| graph.nodes.get(l.node)?.outputs.get(l.output));
        arrives.any(says)
    };
    let writes = |n: &&Node| n.outputs.iter().any(|o| o.caps["kind"] == "file" && !o.read);
    graph.nodes.iter().filter(writes).filter(leaves).map(|n| n.id.as_str()).collect()
}

/// What the scan knew of a case whose headers never arrived anywhere.
pub fn unread<'a>(series: impl IntoIterator<Item = &'a SeriesRecord>) -> Differences {
    let mut differences = Differences::default();
    let mut add = |text: &str, class, tag| {
        if !text.is_empty() {
            differences.gone.entry(Gone { raw: text.as_bytes().to_vec(), text: None, class }).or_insert(tag);
        }
    };
    for record in series {
        let (id, names) = record.patient_id_and_names();
        add(id, Class::Identifier, tags::PATIENT_ID);
        names.into_iter().for_each(|name| add(name, Class::Name, tags::PATIENT_NAME));
        add(&record.study, Class::Uid, tags::STUDY_INSTANCE_UID);
        add(&record.series, Class::Uid, tags::SERIES_INSTANCE_UID);
        for instance in &record.instances {
            add(&instance.sop_instance, Class::Uid, tags::SOP_INSTANCE_UID);
        }
    }
    differences
}

/// What must stand in none of the run's documents of a case that no worker compared: it was refused, its worker died, or an
/// earlier run finished it.
pub fn known_to_scan(series: &[&SeriesRecord], roots: &[PathBuf], public: &Public) -> Withheld {
    let mut known = unread(series.iter().copied());
    // What is one plain word names nobody where the pipeline says it too, as in a comparison.
    let word = |gone: &Gone| {
        let text = std::str::from_utf8(&gone.raw).ok()?;
        let plain = gone.class.direct() && text.bytes().all(|b| b.is_ascii_alphabetic());
        plain.then(|| Gone { class: Class::Text, ..gone.clone() })
    };
    known.gone = known.gone.into_iter().map(|(gone, tag)| (word(&gone).unwrap_or(gone), tag)).collect();
    Withheld::of(&known, &source_names(series.iter().copied(), roots), public).bounded()
}

/// Names of the folders and files that a case's series lie in, below the folders that were given and with their last names.
pub fn source_names<'a>(series: impl IntoIterator<Item = &'a SeriesRecord>, roots: &[PathBuf]) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut add = |path: &Path| {
        let parts =
            path.components().filter_map(|c| if let Component::Normal(name) = c { name.to_str() } else { None });
        names.extend(parts.map(str::to_owned));
    };
    for instance in series.into_iter().flat_map(|s| &s.instances) {
        let root = roots.iter().filter(|r| instance.path.starts_with(r)).max_by_key(|r| r.components().count());
        let below = root.and_then(|r| instance.path.strip_prefix(r.parent().unwrap_or(r)).ok());
        match below {
            Some(below) => add(below),
            None => add(Path::new(instance.path.file_name().unwrap_or_default())),
        }
    }
    names
}
