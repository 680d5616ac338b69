//! `run.json`: what a run was, what it used, and what became of every case. Its `complete` says whether it ended.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Value as Json, json};
use sha2::{Digest, Sha256};

use super::cases::Case;
use super::failure::Outcome;
use super::journal::Record;
use super::ledger::Ledger;
use super::self_audit::Figures;
use super::supervisor::RunOptions;
use crate::plan::{Cuda, Planned, Request};
use crate::registry::Origin;

/// What the manifest is made of.
pub struct RunRecord<'a> {
    /// The request.
    pub request: &'a Request,
    /// What it turned into.
    pub planned: &'a Planned,
    /// Command line.
    pub options: &'a RunOptions,
    /// Time of the run.
    pub run_time: jiff::Timestamp,
    /// The cases of this run.
    pub cases: &'a [Case],
    /// Whether every case was attempted.
    pub complete: bool,
}

/// One case in `run.json`.
#[derive(Serialize)]
struct CaseEntry<'a> {
    case: &'a str,
    inputs: &'a [usize],
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    node: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    nodes: Option<&'a BTreeMap<String, super::case::NodeFigures>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seconds: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expected_peak_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    peak_rss_bytes: Option<u64>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    warnings: &'a [super::node::Warning],
    outputs: Vec<Json>,
    #[serde(skip_serializing_if = "Option::is_none")]
    self_audit: Option<&'a Figures>,
}

/// The text of `run.json`; `audit`: what was searched of the run's own documents.
pub fn render(run: &RunRecord, ledger: &Ledger, audit: Option<&Figures>) -> String {
    let planned = run.planned;
    let mut plugins = BTreeMap::new();
    for node in &planned.plan.graph.nodes {
        if let Origin::Plugin(folder) = &node.entry.origin {
            let id = &folder.manifest.id;
            plugins.insert(
                id.clone(),
                json!({
                    "id": id,
                    "version": folder.manifest.version,
                    "sha256": planned.plugins.get(id),
                    "pinned": run.options.pinned.get(id).copied().unwrap_or(false),
                }),
            );
        }
    }
    let mut checkpoints = BTreeMap::new();
    for checkpoint in planned.plan.graph.nodes.iter().flat_map(|n| n.checkpoints.values()) {
        checkpoints.insert(
            checkpoint.name.clone(),
            json!({ "name": checkpoint.name, "sha256": checkpoint.digest(), "toy": checkpoint.card.toy }),
        );
    }
    let cuda = run.request.arithmetic.cuda.as_ref();
    let device = |node: &str| match cuda {
        Some(cuda) if cuda.nodes.iter().any(|n| n == node) => cuda.device(),
        _ => "cpu".to_owned(),
    };
    let devices: BTreeMap<&str, String> =
        planned.plan.graph.nodes.iter().map(|n| (n.id.as_str(), device(&n.id))).collect();
    let mut document = json!({
        "format": 1,
        "gantry": env!("CARGO_PKG_VERSION"),
        "pipeline": {
            "name": planned.document.name.text,
            "sha256": hex::encode(Sha256::digest(run.request.pipeline_text.as_bytes())),
            "set": run.request.set,
        },
        "plan_digest": planned.plan.digest,
        "run_time": run.run_time,
        "seed": run.options.seed,
        "precision": planned.site.precision(),
        "device": cuda.map_or_else(|| "cpu".to_owned(), Cuda::device),
        "devices": devices,
        "cuda": cuda,
        "device_notes": run.options.device_notes,
        "machine": crate::machine::describe(planned.plan.threads),
        "plugins": plugins.into_values().collect::<Vec<_>>(),
        "checkpoints": checkpoints.into_values().collect::<Vec<_>>(),
        "cases": run.cases.iter().filter_map(|c| entry(c, ledger)).collect::<Vec<_>>(),
        "complete": run.complete,
    });
    if let (Some(audit), Some(map)) = (audit, document.as_object_mut()) {
        map.insert("self_audit".to_owned(), json!(audit));
    }
    let mut text = serde_json::to_string_pretty(&document).unwrap_or_default();
    text.push('\n');
    text
}

fn entry(case: &Case, ledger: &Ledger) -> Option<Json> {
    let name = case.name.as_str();
    let blank = CaseEntry {
        case: name,
        inputs: &case.inputs,
        status: "not-run",
        code: None,
        node: None,
        reason: None,
        nodes: None,
        seconds: None,
        expected_peak_bytes: None,
        peak_rss_bytes: None,
        warnings: &[],
        outputs: Vec::new(),
        self_audit: None,
    };
    let entry = match ledger.known.get(name) {
        Some(Record::CaseFinished { completion, .. }) => CaseEntry {
            status: "done",
            nodes: Some(&completion.nodes),
            seconds: Some(completion.seconds),
            expected_peak_bytes: Some(completion.expected_peak_bytes),
            peak_rss_bytes: Some(completion.peak_rss_bytes),
            warnings: &completion.warnings,
            self_audit: completion.self_audit.as_ref(),
            outputs: completion
                .outputs
                .iter()
                .map(|f| json!({ "path": format!("{name}/{}", f.path), "sha256": f.sha256, "bytes": f.bytes }))
                .collect(),
            ..blank
        },
        Some(Record::CaseFailed { failure, warnings, .. }) => CaseEntry {
            status: if failure.outcome == Outcome::Quarantined { "quarantined" } else { "failed" },
            code: Some(&failure.code),
            node: failure.node.as_deref(),
            reason: Some(&failure.text),
            warnings,
            ..blank
        },
        _ => blank,
    };
    serde_json::to_value(entry).ok()
}
