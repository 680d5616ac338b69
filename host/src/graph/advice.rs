//! The help line of an edge that does not fit: which stage, checkpoint or order would make it fit.

use serde_json::Value as Json;

use crate::registry::caps::Term;
use crate::registry::{PortSpec, Registry, StageSpec};

use super::matching::{Edge, same};
use super::value::{Cap, words};

/// What to do about `key` on `edge`, if something can be said.
pub(super) fn advise(edge: &Edge<'_>, key: &str, registry: &Registry) -> Option<String> {
    let demand = edge.demand.get(key);
    match key {
        "grid" => Some(
            "nothing is resampled silently: resample the image first, or, where both are known to lie on one grid, say so \
             at the source: assert = { <port> = { grid = \"node.port\" } }, which is proved in every case"
                .to_owned(),
        ),
        "channels" => {
            let Some(Cap::Value(wanted)) = demand.map(|d| &d.cap) else { return None };
            let fits = fitting_checkpoints(edge, key, registry);
            Some(fits.unwrap_or_else(|| format!("the order counts: put the channels in the order {}", words(wanted))))
        }
        _ => {
            if demand.is_some_and(|d| d.card.is_some())
                && let Some(fits) = fitting_checkpoints(edge, key, registry)
            {
                return Some(fits);
            }
            let stages = converters(edge, key, registry);
            match stages.as_slice() {
                [] => without_converter(key, demand.map(|d| &d.cap)),
                [one] => Some(format!("add `{one}` between `{}` and `{}`", edge.giver, edge.taker)),
                several => {
                    let list: Vec<String> = several.iter().map(|s| format!("`{s}`")).collect();
                    Some(format!("add one of {} between `{}` and `{}`", list.join(", "), edge.giver, edge.taker))
                }
            }
        }
    }
}

/// What to do where no stage turns one into the other.
fn without_converter(key: &str, wanted: Option<&Cap>) -> Option<String> {
    let Some(Cap::Value(wanted)) = wanted else { return None };
    match key {
        "modality" => Some(format!(
            "nothing turns one modality into another: `select` a series of {}, or take other weights",
            words(wanted)
        )),
        "labels" => Some(format!("connect an output, or take weights, that give {}", words(wanted))),
        _ => None,
    }
}

/// Installed checkpoints that take exactly what is offered.
fn fitting_checkpoints(edge: &Edge<'_>, key: &str, registry: &Registry) -> Option<String> {
    let own = edge.demand.get(key)?.card.as_deref()?;
    let card = &registry.checkpoints.get(own)?.card;
    let (architecture, is_toy) = (&card.architecture, card.toy);
    let Some(Cap::Value(offered)) = edge.link.offer.cap(key) else { return None };
    let fits: Vec<String> = registry
        .checkpoints
        .values()
        .filter(|c| c.card.architecture == *architecture && c.name != own && (!c.card.toy || is_toy))
        .filter(|c| {
            let said = c.card.input_caps(&edge.port.name).and_then(|caps| caps.get(key));
            said.is_some_and(|cap| same(key, &cap.value, &offered))
        })
        .map(|c| format!("`{}`", c.name))
        .collect();
    let given = words(&offered);
    (!fits.is_empty())
        .then(|| format!("`{}` gives {key} {given}, for which there is checkpoint {}", edge.giver, fits.join(", ")))
}

/// Installed stages that take what is offered and give what is demanded.
fn converters<'r>(edge: &Edge<'_>, key: &str, registry: &'r Registry) -> Vec<&'r str> {
    let Some(Cap::Value(wanted)) = edge.demand.get(key).map(|d| &d.cap) else { return Vec::new() };
    let wanted: Vec<&str> = match wanted {
        Json::Array(items) => items.iter().filter_map(Json::as_str).collect(),
        Json::String(text) => vec![text],
        _ => return Vec::new(),
    };
    let gives = |port: &PortSpec| match port.caps.keys.get(key).map(|c| &c.term) {
        Some(Term::Literal(Json::String(text))) => wanted.contains(&text.as_str()),
        Some(Term::Input { key: of, .. }) => edge.link.offer.text(of).is_some_and(|t| wanted.contains(&t)),
        _ => false,
    };
    let takes = |spec: &StageSpec| {
        let mut required = spec.inputs.iter().filter(|p| p.host.is_none() && p.is_required());
        let (Some(only), None) = (required.next(), required.next()) else { return false };
        ["kind", "quantity", "modality"].iter().all(|k| {
            let accepted = only.caps.literal_texts(k);
            accepted.is_empty() || edge.link.offer.text(k).is_none_or(|offered| accepted.contains(&offered))
        })
    };
    registry
        .stages
        .values()
        .map(|entry| &*entry.spec)
        .filter(|spec| spec.checkpoint_params().next().is_none() && takes(spec) && spec.outputs.iter().any(gives))
        .map(|spec| spec.id.as_str())
        .collect()
}
