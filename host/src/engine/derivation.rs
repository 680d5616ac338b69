//! What a derived object must say about this run, for one sink: gathered from the nodes its image went through.

use std::collections::BTreeSet;

use serde_json::{Value as Json, json};

use super::protocol::{CaseOrder, PrepareOrder};
use crate::identity::Key;
use crate::plan::Plan;
use crate::registry::card::Nature;

/// The answer to `gantry.derive/1` for `sink`; `builtin::derivation` reads it back.
pub fn of(plan: &Plan, sink: &str, case: &CaseOrder, order: &PrepareOrder, key: Option<&Key>) -> Json {
    let graph = &plan.graph;
    let mut chain = BTreeSet::new();
    let mut todo: Vec<usize> = graph.nodes.iter().position(|n| n.id == sink).into_iter().collect();
    while let Some(n) = todo.pop() {
        if chain.insert(n) {
            todo.extend(graph.nodes[n].inputs.iter().flat_map(|i| &i.links).map(|l| l.node));
        }
    }
    let nodes = || chain.iter().map(|&n| &graph.nodes[n]);
    let cards: Vec<_> = nodes().flat_map(|n| n.checkpoints.values()).collect();
    let nature = match () {
        () if cards.iter().any(|c| c.card.nature == Nature::Synthetic) => "synthetic",
        () if cards.iter().any(|c| c.card.nature == Nature::Enhanced) => "enhanced",
        () => "derived",
    };
    let mut seen = BTreeSet::new();
    let models: Vec<Json> = cards
        .iter()
        .filter(|c| seen.insert(&c.name))
        .map(|c| json!({ "name": c.name, "sha256": c.digest() }))
        .collect();
    let stages: Vec<String> = nodes().map(|n| format!("{} {}", n.entry.spec.id, n.entry.spec.version)).collect();
    // A node takes identity away if it is handed headers that name a patient and gives headers that do not.
    let deidentified = nodes().any(|n| n.entry.spec.services.iter().any(|s| s == "gantry.pseudonym/1"));
    json!({
        "pipeline": graph.name,
        "plan_digest": plan.digest,
        "case_digest": case.digest,
        "sink": sink,
        "run_time": order.run_time,
        "nature": nature,
        "toy": cards.iter().any(|c| c.card.toy),
        "models": models,
        "stages": stages,
        "deidentified": deidentified,
        "gantry": env!("CARGO_PKG_VERSION"),
        "repaired": nodes().filter_map(|n| n.params.get("repair")?.as_array()).any(|r| !r.is_empty()),
        "uid_secret": key.filter(|_| deidentified).map(|k| hex::encode(k.digest("derived-uid", &[]))),
    })
}
