//! One edge: does what is offered meet what is demanded, key by key?

use std::collections::BTreeSet;

use indexmap::IndexMap;
use serde_json::Value as Json;

use crate::diagnostic::{At, Diagnostic};
use crate::registry::PortSpec;
use crate::registry::caps::is_set_key;

use super::connect::DraftLink;
use super::value::{Cap, Grid, Known, words};

/// An edge to be checked.
pub(super) struct Edge<'e> {
    pub link: &'e DraftLink,
    /// The giving node.
    pub giver: &'e str,
    /// The receiving node.
    pub taker: &'e str,
    /// The receiving input.
    pub port: &'e PortSpec,
    pub demand: &'e IndexMap<String, Known>,
    /// Whose grid is demanded.
    pub grid_of: Option<&'e DraftLink>,
    /// Where the grid is demanded.
    pub grid_at: &'e At,
    /// Whole voxels apart is enough.
    pub lattice: bool,
}

/// A key that does not fit.
pub(super) struct Mismatch {
    pub key: &'static str,
    /// What is demanded, in words.
    pub demanded: String,
    /// What is offered, in words.
    pub offered: String,
    /// Where the demand stands.
    pub demand_at: At,
    /// Where the offer stands, if it stands anywhere.
    pub offer_at: Option<At>,
    /// The card that demands it.
    pub card: Option<String>,
}

/// What came out.
pub(super) struct Verdict {
    pub mismatches: Vec<Mismatch>,
    pub undecided: Vec<String>,
}

/// Compares every key.
pub(super) fn check(edge: &Edge<'_>) -> Verdict {
    let mut verdict = Verdict { mismatches: Vec::new(), undecided: Vec::new() };
    for key in crate::registry::caps::KEYS.into_iter().filter(|k| *k != "grid") {
        let Some(demand) = edge.demand.get(key) else { continue };
        let offer = edge.link.offer.cap(key);
        let offered = match (&demand.cap, &offer) {
            (Cap::Unknown, _) | (_, Some(Cap::Unknown)) => continue,
            (_, None) => "nothing".to_owned(),
            (Cap::Dynamic, _) | (_, Some(Cap::Dynamic)) => {
                verdict.undecided.push(key.to_owned());
                continue;
            }
            (Cap::Any, Some(_)) | (_, Some(Cap::Any)) => continue,
            (Cap::Value(d), Some(Cap::Value(o))) if accepts(key, d, o) => continue,
            (Cap::Value(_), Some(Cap::Value(o))) => words(o),
        };
        verdict.mismatches.push(Mismatch {
            key,
            demanded: match &demand.cap {
                Cap::Value(v) => words(v),
                _ => "any, but known".to_owned(),
            },
            offered,
            demand_at: demand.at.clone(),
            offer_at: edge.link.offer.keys.get(key).map(|k| k.at.clone()),
            card: demand.card.clone(),
        });
        if key == "kind" {
            // Another kind of thing has other keys; saying so for each of them helps nobody.
            return verdict;
        }
    }
    verdict.mismatches.extend(check_grid(edge));
    verdict
}

fn check_grid(edge: &Edge<'_>) -> Option<Mismatch> {
    let wanted = edge.grid_of?;
    let (demanded, offered) = match (&wanted.offer.grid, &edge.link.offer.grid) {
        (Grid::Unknown, _) | (_, Grid::Unknown) | (Grid::None, _) => return None,
        (Grid::Token(w), Grid::Token(o)) if w == o || (edge.lattice && w.lattice() == o.lattice()) => return None,
        (Grid::Token(w), Grid::Token(o)) => (w.0.clone(), o.0.clone()),
        (Grid::Token(w), Grid::None) => (w.0.clone(), "nothing".to_owned()),
    };
    Some(Mismatch {
        key: "grid",
        demanded: format!("that of {demanded}"),
        offered: if offered == "nothing" { offered } else { format!("that of {offered}") },
        demand_at: edge.grid_at.clone(),
        offer_at: None,
        card: None,
    })
}

/// Is offer `o` among what demand `d` takes?
fn accepts(key: &str, d: &Json, o: &Json) -> bool {
    match (key, d) {
        (_, Json::Array(alternatives)) if is_set_key(key) => alternatives.iter().any(|a| a == o),
        ("labels", Json::Array(wanted)) => {
            let has: BTreeSet<&str> = o.as_array().into_iter().flatten().filter_map(Json::as_str).collect();
            wanted.iter().filter_map(Json::as_str).all(|w| has.contains(w))
        }
        ("identity", Json::String(text)) if text == "removed" => o == "removed" || o == "none",
        _ => same(key, d, o),
    }
}

/// Equal as values of `key`: whole numbers equal floats, and one spacing means three.
pub(super) fn same(key: &str, a: &Json, b: &Json) -> bool {
    let number = |v: &Json| v.as_f64();
    let list = |v: &Json| match v {
        Json::Array(items) => items.clone(),
        single if key == "spacing_mm" => vec![single.clone(); 3],
        single => vec![single.clone()],
    };
    if matches!(a, Json::Array(_)) || matches!(b, Json::Array(_)) {
        let (a, b) = (list(a), list(b));
        return a.len() == b.len() && a.iter().zip(&b).all(|(x, y)| same("", x, y));
    }
    match (number(a), number(b)) {
        (Some(x), Some(y)) => x == y,
        _ => a == b,
    }
}

/// The one diagnostic of an edge that does not fit: the first key leads, the others are mentioned.
pub(super) fn report(edge: &Edge<'_>, first: &Mismatch, others: &[Mismatch], help: Option<String>) -> Diagnostic {
    let giver = format!("`{}`", edge.giver);
    let input = match edge.link.name.as_str() {
        "" => format!("`{}.{}`", edge.taker, edge.port.name),
        name => format!("`{}.{}` ({name})", edge.taker, edge.port.name),
    };
    let message = |m: &Mismatch| {
        let offered = if m.offered == "nothing" { "does not say".to_owned() } else { format!("gives {}", m.offered) };
        format!("{}: {giver} {offered}, {input} takes {}", m.key, m.demanded)
    };
    let code = if first.card.is_some() { "card-mismatch" } else { code_of(first.key) };
    let taken = match &first.card {
        Some(card) => format!("{input} takes {} {}, says the card of `{card}`", first.key, first.demanded),
        None => format!("{input} takes {} {}", first.key, first.demanded),
    };
    let mut out = Diagnostic::error(code, message(first), edge.link.at.label(taken));
    if let Some(at) = &first.offer_at {
        out = out.with(at.label(format!("{giver} gives {} {}", first.key, first.offered)));
    }
    out = out.with(first.demand_at.label(format!("{} is demanded here", first.key)));
    if let (true, Some(grid)) = (first.key == "grid", edge.grid_of) {
        out = out.with(grid.at.label(format!("{} comes from here", first.demanded)));
    }
    let further: Vec<String> = others.iter().map(message).collect();
    if !further.is_empty() {
        out.message = format!("{} (and {})", out.message, further.join("; "));
    }
    out.help_if(help)
}

/// `caps-mismatch/<key>`.
pub(super) fn code_of(key: &str) -> &'static str {
    match key {
        "kind" => "caps-mismatch/kind",
        "quantity" => "caps-mismatch/quantity",
        "modality" => "caps-mismatch/modality",
        "channels" => "caps-mismatch/channels",
        "window" => "caps-mismatch/window",
        "physical" => "caps-mismatch/physical",
        "dtype" => "caps-mismatch/dtype",
        "spacing_mm" => "caps-mismatch/spacing_mm",
        "labels" => "caps-mismatch/labels",
        "schema" => "caps-mismatch/schema",
        "media" => "caps-mismatch/media",
        "identity" => "caps-mismatch/identity",
        "synthetic" => "caps-mismatch/synthetic",
        "grid" => "caps-mismatch/grid",
        _ => "caps-mismatch",
    }
}
