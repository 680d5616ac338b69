//! From a scan to cases: one patient and study with exactly one series for every source node.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::failure::Failure;
use crate::graph::{Graph, Node};
use crate::identity::Key;
use crate::pipeline::CaseName;
use crate::plan::Plan;
use crate::registry::manifest::Cases;
use crate::series::{ScanReport, Select, SeriesKind, SeriesRecord};

/// A case, before it is run.
#[derive(Debug, Clone)]
pub struct Case {
    /// Name of its folder.
    pub name: String,
    /// Input indices, ascending.
    pub inputs: Vec<usize>,
    /// Series for every source node, or why there is none.
    pub sources: Result<BTreeMap<String, SeriesRecord>, Refused>,
    /// Digest of the plan and of every input byte.
    pub digest: String,
}

/// Why a case is not run.
#[derive(Debug, Clone)]
pub struct Refused {
    /// In words.
    pub failure: Failure,
    /// The series it would have been made of.
    pub series: Vec<SeriesRecord>,
}

impl Case {
    /// What the scan knows of it.
    pub fn series(&self) -> Vec<&SeriesRecord> {
        match &self.sources {
            Ok(sources) => sources.values().collect(),
            Err(refused) => refused.series.iter().collect(),
        }
    }
}

/// The source node whose series a node is given: itself, or the one it is bound to (`labels-read`).
pub fn source_of(graph: &Graph, node: &Node) -> Option<String> {
    let services = &node.entry.spec.services;
    if !services.iter().any(|s| s == "gantry.source/1") {
        return None;
    }
    // What is bound to a stage in between (an anonymizer) is bound to what that stage was given.
    let mut at = node;
    while let Some(link) = at.inputs.first().and_then(|i| i.links.first()) {
        at = &graph.nodes[link.node];
    }
    Some(at.id.clone())
}

/// Source nodes that take a series of the case.
fn sources(graph: &Graph) -> impl Iterator<Item = &Node> {
    graph.nodes.iter().filter(|n| n.entry.spec.is_source() && matches!(n.entry.spec.cases, None | Some(Cases::Input)))
}

/// Whether a pipeline takes instances of every class rather than series that make volumes.
pub fn reads_instances(graph: &Graph) -> bool {
    sources(graph).any(|source| kind_of(source) == SeriesKind::Instances)
}

/// How many cases a pipeline makes of its own, where its source says `cases = "$param"`.
pub fn made_of_nothing(graph: &Graph) -> Option<u64> {
    graph.nodes.iter().find_map(|n| match &n.entry.spec.cases {
        Some(Cases::Param(param)) => n.params.get(param).and_then(|v| v.as_u64()),
        _ => None,
    })
}

/// Groups the series of a scan into cases, in the order of their first input.
///
/// # Errors
/// In words, if a `select` is malformed (which `check` would have said).
pub fn of(plan: &Plan, report: &ScanReport, key: &Key, naming: CaseName) -> Result<Vec<Case>, String> {
    let graph = &plan.graph;
    let mut groups: BTreeMap<(&str, &str), Vec<&SeriesRecord>> = BTreeMap::new();
    // A file of a kind that no source reads (a mask beside a DICOM series) is no case that lacks its series.
    let kinds: Vec<SeriesKind> = sources(graph).map(kind_of).collect();
    for series in report.series.iter().filter(|s| kinds.contains(&s.kind)) {
        groups.entry((&series.patient, &series.study)).or_default().push(series);
    }
    let mut selects = Vec::new();
    for node in sources(graph) {
        let select: Select = match &node.select {
            None => Select::default(),
            Some(select) => series_select(select).map_err(|e| format!("select of `{}`: {e}", node.id))?,
        };
        selects.push((node, select));
    }
    let mut cases = Vec::new();
    for ((patient, study), mut group) in groups {
        group.sort_by_key(|s| s.instances.iter().map(|i| i.input).min());
        let mut chosen = BTreeMap::new();
        let mut refused = None;
        for (node, select) in &selects {
            let found = one_series(node, select, &group);
            match found {
                Ok(series) => {
                    chosen.insert(node.id.clone(), series.clone());
                }
                Err(failure) => {
                    refused.get_or_insert(failure.at(&node.id));
                }
            }
        }
        let used: Vec<&SeriesRecord> = match refused {
            None => chosen.values().collect(),
            Some(_) => group.clone(),
        };
        let mut inputs: Vec<usize> = used.iter().flat_map(|s| &s.instances).map(|i| i.input).collect();
        inputs.sort_unstable();
        inputs.dedup();
        let name = match naming {
            CaseName::Pseudonym => format!("c-{}", &key.id("case", &format!("{patient}\u{0}{study}"))),
            CaseName::Folder => folder_name(group[0]),
        };
        let sources = match refused {
            None => Ok(chosen),
            Some(failure) => Err(Refused { failure, series: group.into_iter().cloned().collect() }),
        };
        let digest = digest(plan, sources.as_ref().ok(), &report.roots);
        cases.push((inputs.first().copied().unwrap_or(0), patient, study, Case { name, inputs, sources, digest }));
    }
    cases.sort_by_key(|(first, ..)| *first);
    // Never two patients under one name: later ones get a keyed suffix.
    let mut seen = std::collections::BTreeSet::new();
    for (_, patient, study, case) in &mut cases {
        if !seen.insert(case.name.clone()) {
            let suffix = key.id("case", &format!("{patient}\u{0}{study}"));
            case.name = format!("{}-{}", &case.name[..case.name.len().min(47)], &suffix[..suffix.len().min(16)]);
            seen.insert(case.name.clone());
        }
    }
    Ok(cases.into_iter().map(|(.., case)| case).collect())
}

/// A pipeline's `select` as conditions on a series.
fn series_select(select: &crate::pipeline::Select) -> Result<Select, String> {
    serde_json::to_value(select).and_then(serde_json::from_value).map_err(|e| e.to_string())
}

/// Cases of a pipeline that makes its images from nothing.
pub fn from_nothing(plan: &Plan, count: u64) -> Vec<Case> {
    let name = |i: u64| format!("case-{i:06}");
    let digest = |i: u64| hex::encode(Sha256::digest(format!("{}\n{}", plan.digest, name(i)).as_bytes()));
    (0..count)
        .map(|i| Case { name: name(i), inputs: Vec::new(), sources: Ok(BTreeMap::new()), digest: digest(i) })
        .collect()
}

/// The kind of series that a source reads.
fn kind_of(source: &Node) -> SeriesKind {
    match source.entry.spec.id.as_str() {
        "nifti-read" => SeriesKind::Nifti,
        _ if source.entry.spec.gives_instances() => SeriesKind::Instances,
        _ => SeriesKind::Dicom,
    }
}

fn one_series<'s>(node: &Node, select: &Select, group: &[&'s SeriesRecord]) -> Result<&'s SeriesRecord, Failure> {
    let wanted = kind_of(node);
    let matching: Vec<&SeriesRecord> =
        group.iter().copied().filter(|s| s.kind == wanted && select.matches(s)).collect();
    let describe = |all: &[&SeriesRecord]| -> String {
        let each = all.iter().take(8).map(|s| {
            let first = s.instances.first().map_or(0, |i| i.input);
            match s.kind {
                SeriesKind::Dicom => format!("#{first} ({}, {} slices)", s.modality, s.slices()),
                SeriesKind::Nifti => format!("#{first} (NIfTI, {} slices)", s.slices()),
                SeriesKind::Instances => format!("#{first} ({} instances)", s.instances.len()),
            }
        });
        each.collect::<Vec<_>>().join(", ")
    };
    match matching.as_slice() {
        [] => Err(Failure::host("source-none", format!("no series matches; candidates: {}", describe(group)))),
        [one] => match one.check(&allowed(node)) {
            Err(fault) => Err(Failure::quarantine(&fault.code, fault.text)),
            Ok(()) => {
                // `modality` is a promise of the pipeline about every case.
                let modality = node.params.get("modality").and_then(|m| m.as_str()).unwrap_or(&one.modality);
                if wanted == SeriesKind::Dicom && modality != one.modality {
                    let text = format!("the pipeline promises modality {modality}, the series says {}", one.modality);
                    return Err(Failure::quarantine("wrong-modality", text));
                }
                Ok(one)
            }
        },
        several => Err(Failure::host(
            "source-several",
            format!("{} series match; narrow `select`: {}", several.len(), describe(several)),
        )),
    }
}

/// Faults of a series that a source accepts (`allow`).
fn allowed(node: &Node) -> Vec<String> {
    let listed = node.params.get("allow").and_then(|a| a.as_array());
    listed.into_iter().flatten().filter_map(|v| v.as_str().map(str::to_owned)).collect()
}

/// The patient's folder: the parent of the series' folder, made safe.
fn folder_name(series: &SeriesRecord) -> String {
    let parts = &series.folder_parts;
    let raw = parts.len().checked_sub(2).and_then(|i| parts.get(i)).or(parts.last()).map_or("case", String::as_str);
    let safe: String = raw
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') { c } else { '_' })
        .take(64)
        .collect();
    let safe = safe.trim_start_matches('.').to_owned();
    if safe.is_empty() { "case".to_owned() } else { safe }
}

/// Digest of the plan and of every byte the case will read: its series, and the files beside them that nodes name.
fn digest(plan: &Plan, sources: Option<&BTreeMap<String, SeriesRecord>>, roots: &[PathBuf]) -> String {
    let mut hash = Sha256::new();
    hash.update(plan.digest.as_bytes());
    for (node, series) in sources.into_iter().flatten() {
        hash.update(format!("\nsource {node}"));
        for instance in &series.instances {
            hash.update(format!("\n{} {:?}", instance.digest, instance.frame));
        }
    }
    for node in &plan.graph.nodes {
        let beside = source_of(&plan.graph, node).and_then(|of| sources?.get(&of));
        if let (Some(series), Some(path)) = (beside, node.params.get("path").and_then(|p| p.as_str())) {
            let content = beside_series(series, path, roots).ok().and_then(|p| std::fs::read(p).ok());
            let content = content.map(|c| hex::encode(Sha256::digest(c)));
            hash.update(format!("\nbeside {} {}", node.id, content.as_deref().unwrap_or("absent")));
        }
    }
    hex::encode(hash.finalize())
}

/// The file at `path` relative to a series' folder, which must lie under one of the input folders.
///
/// # Errors
/// `path-outside` if it leaves them; the text names no path.
pub fn beside_series(series: &SeriesRecord, path: &str, roots: &[PathBuf]) -> Result<PathBuf, Failure> {
    let outside = || Failure::quarantine("path-outside", "the path leaves the input folders");
    let mut at: PathBuf = series.folder.clone();
    for part in Path::new(path).components() {
        match part {
            std::path::Component::Normal(name) => at.push(name),
            std::path::Component::ParentDir => {
                at.pop();
            }
            std::path::Component::CurDir => {}
            _ => return Err(outside()),
        }
    }
    // A link inside the input must not lead out of it either.
    let real = |p: &Path| p.canonicalize().unwrap_or_else(|_| p.to_owned());
    let target = real(&at);
    // The file may lie beside the folder that was given as input (`-i .../dicom` and `../heart.nii.gz`).
    let inside = roots
        .iter()
        .any(|root| target.starts_with(real(root)) || root.parent().is_some_and(|p| target.parent() == Some(&real(p))));
    if inside { Ok(at) } else { Err(outside()) }
}
