//! From documents to a [`Graph`]: look up, order, connect, resolve, check policies, and put together.

use serde_json::{Map, Value as Json};

use crate::diagnostic::{Diagnostic, any_error, did_you_mean};
use crate::pipeline::{Document, Reference};
use crate::registry::{Registry, Site};

use super::connect::{Connecting, DraftLink};
use super::draft::Draft;
use super::matching::Edge;
use super::order::{Needs, order};
use super::policy::Policies;
use super::resolve::{Resolved, ResolvedOutput, Resolving};
use super::value::{Grid, Offer};
use super::{Assert, Element, Graph, GridToken, Input, Link, Node, Output, Undecided, advice};

/// Checks `document` against what is installed and what the site lays down. The graph is `None` if there is any error.
/// Opens no library and reads no file but to ask whether weights and the key are there.
pub fn build(document: &Document, registry: &Registry, site: &Site) -> (Option<Graph>, Vec<Diagnostic>) {
    let mut diagnostics = Vec::new();
    let drafts: Vec<Draft<'_>> =
        document.nodes.values().map(|doc| Draft::new(doc, registry, site, &mut diagnostics)).collect();
    let names: Vec<&str> = drafts.iter().map(Draft::id).collect();
    let needs: Vec<Needs> = drafts.iter().map(|d| needs_of(d, &names, &mut diagnostics)).collect();
    let (sorted, broken) = order(&needs, &names, &mut diagnostics);
    let advice = |edge: &Edge<'_>, key: &str| advice::advise(edge, key, registry);
    let mut resolved: Vec<Option<Resolved>> = drafts.iter().map(|_| None).collect();
    for node in &sorted {
        let Some(draft) = drafts.get(*node) else { continue };
        let Some(spec) = draft.spec() else { continue };
        let connected =
            Connecting { draft, drafts: &drafts, resolved: &resolved, diagnostics: &mut diagnostics }.connect();
        if broken.contains(node) {
            continue;
        }
        let mut done = Resolving::new(draft, spec, &names, &advice, &mut diagnostics).resolve(connected);
        absent_outputs(draft, &drafts, &resolved, &done, &mut diagnostics);
        believe_asserts(draft, &drafts, &resolved, &mut done, &mut diagnostics);
        if let Some(place) = resolved.get_mut(*node) {
            *place = Some(done);
        }
    }
    Policies { document, drafts: &drafts, resolved: &resolved, site, registry, diagnostics: &mut diagnostics }.check();
    super::precision::check(document, &drafts, site, &mut diagnostics);
    if any_error(&diagnostics) {
        // What nothing reads may only be unread because of an error.
        diagnostics.retain(|d| d.code != "unused-node");
        in_document_order(&mut diagnostics);
        return (None, diagnostics);
    }
    let graph = assemble(document, &drafts, &sorted, &resolved);
    (Some(graph), diagnostics)
}

/// Errors before warnings, each in the order of the places they lead with.
fn in_document_order(diagnostics: &mut [Diagnostic]) {
    diagnostics.sort_by_key(|d| (d.severity, d.labels.first().map(|l| (l.file, l.span.start))));
}

/// What a node must wait for; names of nodes that do not exist are reported here, once each.
fn needs_of(draft: &Draft<'_>, names: &[&str], diagnostics: &mut Vec<Diagnostic>) -> Needs {
    let from = draft.doc.from.iter().flat_map(|f| f.form.references());
    let asserts = draft.doc.asserts.iter().map(|a| &a.grid);
    let mut needs = Needs::new();
    for reference in from.chain(draft.bound.values()).chain(asserts) {
        match names.iter().position(|n| *n == reference.node) {
            Some(node) => needs.push((node, reference.at.clone())),
            None => diagnostics.push(
                Diagnostic::error(
                    "unknown-node",
                    format!("there is no node `{}`", reference.node),
                    reference.at.label("no such node"),
                )
                .help_if(did_you_mean(
                    &reference.node,
                    "nodes",
                    names.iter().copied().filter(|n| *n != draft.id()),
                )),
            ),
        }
    }
    needs
}

/// Something that a case may lack cannot feed an input that must have it.
fn absent_outputs(
    draft: &Draft<'_>,
    drafts: &[Draft<'_>],
    resolved: &[Option<Resolved>],
    done: &Resolved,
    diagnostics: &mut Vec<Diagnostic>,
) {
    let Some(spec) = draft.spec() else { return };
    for (slot, input) in done.inputs.iter().enumerate() {
        let Some(port) = draft.inputs.get(slot).and_then(|i| spec.inputs.get(*i)) else { continue };
        if port.count == crate::registry::Count::Optional {
            continue;
        }
        for link in &input.links {
            let giving = output_of(resolved, link.node, link.output);
            let Some(giver) = drafts.get(link.node).filter(|_| giving.is_some_and(|o| o.may_be_absent)) else {
                continue;
            };
            diagnostics.push(
                Diagnostic::error(
                    "absent-output",
                    format!(
                        "`{}` may be absent in a case, but `{}.{}` must be there",
                        giver.id(),
                        draft.id(),
                        port.name
                    ),
                    link.at.label("may be absent"),
                )
                .with(giver.absence_at().label("because of this"))
                .with(port.at.label("this input is not optional"))
                .help(match giver.absent.first() {
                    Some(param) => format!("install the checkpoint that `{param}` of node `{}` names", giver.id()),
                    None => {
                        format!(
                            "set `optional = false` at node `{}`; a case without it is then quarantined",
                            giver.id()
                        )
                    }
                }),
            );
        }
    }
}

fn output_of(resolved: &[Option<Resolved>], node: usize, output: Option<usize>) -> Option<&ResolvedOutput> {
    resolved.get(node)?.as_ref()?.outputs.get(output?)
}

/// Gives an output the grid that the pipeline promises for it.
fn believe_asserts(
    draft: &Draft<'_>,
    drafts: &[Draft<'_>],
    resolved: &[Option<Resolved>],
    done: &mut Resolved,
    diagnostics: &mut Vec<Diagnostic>,
) {
    for assert in &draft.doc.asserts {
        let Some(output) = done.outputs.iter_mut().find(|o| o.port == assert.port.text) else {
            let known = draft.spec().map(|s| s.outputs.iter().map(|p| p.name.as_str()).collect::<Vec<_>>());
            diagnostics.push(
                Diagnostic::error(
                    "unknown-port",
                    format!("node `{}` has no output `{}`", draft.id(), assert.port.text),
                    assert.port.at.label("no such output"),
                )
                .help_if(did_you_mean(&assert.port.text, "outputs", known.unwrap_or_default())),
            );
            continue;
        };
        let Some(node) = drafts.iter().position(|d| d.id() == assert.grid.node) else { continue };
        let grid = match asserted_output(drafts, resolved, node, &assert.grid) {
            Some((slot, element)) => output_of(resolved, node, Some(slot))
                .and_then(|o| o.each.get(element.unwrap_or(0)))
                .map_or(Grid::Unknown, |o| o.grid.clone()),
            None if resolved.get(node).is_none_or(Option::is_none) => Grid::Unknown,
            None => {
                diagnostics.push(Diagnostic::error(
                    "unknown-port",
                    format!("`{}` does not name one output", assert.grid.text),
                    assert.grid.at.label("expected \"node.port\""),
                ));
                Grid::Unknown
            }
        };
        if grid == Grid::None {
            diagnostics.push(Diagnostic::error(
                "bad-assert",
                format!("`{}` lies on no grid", assert.grid.text),
                assert.grid.at.label("has no grid"),
            ));
            continue;
        }
        for each in &mut output.each {
            each.grid = grid.clone();
        }
    }
}

/// Which output of `node` an `assert` names: the position in its draft's outputs, and the element.
fn asserted_output(
    drafts: &[Draft<'_>],
    resolved: &[Option<Resolved>],
    node: usize,
    reference: &Reference,
) -> Option<(usize, Option<usize>)> {
    let outputs = &resolved.get(node)?.as_ref()?.outputs;
    let slot = match (&reference.port, outputs.as_slice()) {
        (Some(port), _) => outputs.iter().position(|o| o.port == *port)?,
        (None, [_]) => 0,
        (None, _) => return None,
    };
    drafts.get(node)?;
    Some((slot, reference.element))
}

fn assemble(document: &Document, drafts: &[Draft<'_>], sorted: &[usize], resolved: &[Option<Resolved>]) -> Graph {
    let place = |node: usize| sorted.iter().position(|n| *n == node).unwrap_or(usize::MAX);
    let read = |node: usize, output: usize| {
        let links = resolved.iter().flatten().flat_map(|r| &r.inputs).flat_map(|i| &i.links);
        links.into_iter().any(|l| l.node == node && l.output == Some(output))
    };
    let link =
        |l: &DraftLink| Some(Link { name: l.name.clone(), node: place(l.node), output: l.output?, element: l.element });
    let mut graph = Graph { name: document.name.text.clone(), nodes: Vec::new(), undecided: Vec::new() };
    for node in sorted {
        let (Some(draft), Some(Some(done))) = (drafts.get(*node), resolved.get(*node)) else { continue };
        let (Some(entry), Some(spec)) = (draft.entry.clone(), draft.spec()) else { continue };
        let port_name = |i: Option<&usize>, inputs: bool| {
            let list = if inputs { &spec.inputs } else { &spec.outputs };
            i.and_then(|i| list.get(*i)).map(|p| p.name.clone()).unwrap_or_default()
        };
        let inputs = done.inputs.iter().enumerate().map(|(slot, input)| Input {
            port: port_name(draft.inputs.get(slot), true),
            spec: draft.inputs.get(slot).copied().unwrap_or_default(),
            caps: arrived_caps(input),
            links: input.links.iter().filter_map(link).collect(),
        });
        let outputs = done.outputs.iter().enumerate().map(|(slot, output)| Output {
            port: port_name(draft.outputs.get(slot), false),
            spec: draft.outputs.get(slot).copied().unwrap_or_default(),
            caps: common(output.each.iter().map(Offer::to_json)),
            grid: common_grid(&output.each),
            read: read(*node, slot),
            elements: output.count.unwrap_or(0),
            each: output.each.iter().map(|o| Element { caps: o.to_json(), grid: token(&o.grid) }).collect(),
            may_be_absent: output.may_be_absent,
        });
        for (slot, input) in done.inputs.iter().enumerate() {
            for (index, keys) in &input.undecided {
                let Some(from) = input.links.get(*index) else { continue };
                graph.undecided.push(Undecided {
                    from: place(from.node),
                    output: from.output.unwrap_or_default(),
                    to: place(*node),
                    input: slot,
                    keys: keys.clone(),
                });
            }
        }
        let (inputs, outputs) = (inputs.collect(), outputs.collect());
        graph.nodes.push(Node {
            id: draft.id().to_owned(),
            entry,
            params: draft.params.clone(),
            checkpoints: draft.checkpoints.clone(),
            select: draft.doc.select.clone(),
            asserts: asserts(draft, drafts, resolved, done, &place),
            inputs,
            outputs,
        });
    }
    graph
}

fn asserts(
    draft: &Draft<'_>,
    drafts: &[Draft<'_>],
    resolved: &[Option<Resolved>],
    done: &Resolved,
    place: &impl Fn(usize) -> usize,
) -> Vec<Assert> {
    let one = |assert: &crate::pipeline::AssertDoc| {
        let node = drafts.iter().position(|d| d.id() == assert.grid.node)?;
        let (of, element) = asserted_output(drafts, resolved, node, &assert.grid)?;
        let output = done.outputs.iter().position(|o| o.port == assert.port.text)?;
        Some(Assert { output, node: place(node), of, element })
    };
    draft.doc.asserts.iter().filter_map(one).collect()
}

/// What arrives, as far as all links agree; otherwise what is demanded.
fn arrived_caps(input: &super::resolve::ResolvedInput) -> Json {
    let mut caps = Map::new();
    for (key, known) in &input.demand {
        match &known.cap {
            super::value::Cap::Value(value) => {
                caps.insert(key.clone(), value.clone());
            }
            super::value::Cap::Dynamic => {
                caps.insert(key.clone(), Json::from("dynamic"));
            }
            _ => {}
        }
    }
    if let Json::Object(agreed) = common(input.links.iter().map(|l| l.offer.to_json())) {
        caps.extend(agreed);
    }
    Json::Object(caps)
}

/// The keys on which all agree.
fn common(mut all: impl Iterator<Item = Json>) -> Json {
    let Some(Json::Object(mut first)) = all.next() else { return Json::Object(Map::new()) };
    for other in all {
        first.retain(|key, value| other.get(key.as_str()) == Some(value));
    }
    Json::Object(first)
}

fn token(grid: &Grid) -> Option<GridToken> {
    match grid {
        Grid::Token(token) => Some(token.clone()),
        _ => None,
    }
}

fn common_grid(each: &[Offer]) -> Option<GridToken> {
    let first = each.first()?;
    each.iter().all(|o| o.grid == first.grid).then(|| token(&first.grid)).flatten()
}
