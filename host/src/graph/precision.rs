//! The arithmetic of networks: what the site or the command line asks of every stage that has a parameter `precision`,
//! and whether it can be had. A wish that would change nothing is said, never dropped.

use serde_json::Value as Json;

use crate::diagnostic::Diagnostic;
use crate::pipeline::{Document, NodeDoc};
use crate::registry::site::AUTO;
use crate::registry::{ParamKind, ParamSpec, Site};

use super::draft::Draft;

/// The parameter's name.
const PRECISION: &str = "precision";

/// Whether a parameter is the one that the site and `--precision` fill: of this name, and a choice.
fn is_precision(param: &ParamSpec) -> bool {
    param.name == PRECISION && matches!(param.kind, ParamKind::Choice(_))
}

/// The value of a parameter that the node leaves open, where it is the precision and somebody asks for one.
pub(super) fn asked(doc: &NodeDoc, param: &ParamSpec, site: &Site, diagnostics: &mut Vec<Diagnostic>) -> Option<Json> {
    let wish = site.precision.as_deref()?;
    let ParamKind::Choice(of) = &param.kind else { return None };
    if !is_precision(param) {
        return None;
    }
    if of.iter().any(|c| c == wish) {
        return Some(Json::from(wish));
    }
    let at = &doc.stage.at;
    let mut refused = Diagnostic::error(
        "precision-not-offered",
        format!("stage `{}` of node `{}` does not compute in {wish}", doc.stage.text, doc.id.text),
        at.label(format!("computes in {}", of.join(", "))),
    )
    .with(param.at.label("declared here"));
    if let Some(asked_at) = &site.precision_at {
        refused = refused.with(asked_at.label("the site asks for it here"));
    }
    let help = format!("set `precision` in the params of node `{}`, or ask for another one", doc.id.text);
    diagnostics.push(refused.help(help));
    None
}

/// Checks what the nodes were asked for against their cards, and whether a wish reaches every network.
pub(super) fn check(document: &Document, drafts: &[Draft<'_>], site: &Site, diagnostics: &mut Vec<Diagnostic>) {
    for draft in drafts {
        cards(draft, diagnostics);
    }
    let Some(wish) = site.precision.as_deref() else { return };
    let by_hand = site.precision_at.is_none();
    let param =
        |draft: &Draft<'_>| draft.spec().and_then(|s| s.params.get(PRECISION)).filter(|p| is_precision(p)).is_some();
    for draft in drafts {
        let network = draft.spec().is_some_and(|s| s.checkpoint_params().next().is_some());
        if network && !param(draft) && wish != AUTO {
            diagnostics.push(
                Diagnostic::warning(
                    "precision-not-taken",
                    format!("precision {wish} does not reach node `{}`: its stage has no such parameter", draft.id()),
                    draft.doc.stage.at.label("computes as it always does"),
                )
                .help("its plugin decides the arithmetic; ask its maker for a parameter `precision`"),
            );
        }
        if let (true, true, Some(own)) = (by_hand, param(draft), draft.doc.params.get(PRECISION))
            && draft.params.get(PRECISION).is_some_and(|v| v != wish)
        {
            diagnostics.push(
                Diagnostic::warning(
                    "precision-kept",
                    format!("--precision {wish} changes nothing at node `{}`, which sets its own", draft.id()),
                    own.at.label("this counts"),
                )
                .help(format!("--set {}.precision={wish} changes it", draft.id())),
            );
        }
    }
    // Of a stage that is not installed nobody knows what it has.
    if by_hand && drafts.iter().all(|d| d.entry.is_some() && !param(d)) {
        diagnostics.push(
            Diagnostic::error(
                "precision-unused",
                format!("--precision {wish} would change nothing: no stage of this chain has a parameter `precision`"),
                document.name.at.label("this chain"),
            )
            .help("leave --precision out"),
        );
    }
}

/// `int8` needs numbers that stand on the card of each of the node's checkpoints.
fn cards(draft: &Draft<'_>, diagnostics: &mut Vec<Diagnostic>) {
    let Some(param) = draft.spec().and_then(|s| s.params.get(PRECISION)).filter(|p| is_precision(p)) else { return };
    if draft.params.get(PRECISION).is_none_or(|v| v != "int8") {
        return;
    }
    let (at, words) = match draft.doc.params.get(PRECISION) {
        Some(value) => (&value.at, "asked for here"),
        None => (&draft.doc.stage.at, "asked for by the site or --precision"),
    };
    for checkpoint in draft.checkpoints.values().filter(|c| !c.card.int8) {
        diagnostics.push(
            Diagnostic::error(
                "int8-not-calibrated",
                format!("the card of `{}` does not permit int8", checkpoint.name),
                at.label(words),
            )
            .with(checkpoint.card.at.label("the card has no [run.int8]"))
            .with(param.at.label("declared here"))
            .help(format!(
                "calibrate the checkpoint and write its largest activations into [run.int8] of the card \
                 (docs/checkpoints.md), or set another precision at node `{}`",
                draft.id()
            )),
        );
    }
}
