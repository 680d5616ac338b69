//! [`Draft`]: a node whose stage, parameters and checkpoints have been looked up, before anything is connected.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::{Map, Value as Json};

use crate::diagnostic::{At, Diagnostic, Severity, did_you_mean};
use crate::pipeline::{NodeDoc, Reference};
use crate::registry::manifest::Cases;
use crate::registry::{CheckpointRef, ParamKind, PortSpec, Registry, Site, StageEntry, StageSpec};

use super::precision;

/// A node before it is connected.
pub(super) struct Draft<'a> {
    pub doc: &'a NodeDoc,
    /// `None` where the stage is not installed.
    pub entry: Option<Arc<StageEntry>>,
    /// Complete but for what was refused.
    pub params: Map<String, Json>,
    /// Parameters whose value was refused or is missing; what depends on them is unknown.
    pub doubtful: BTreeSet<String>,
    pub checkpoints: BTreeMap<String, Arc<CheckpointRef>>,
    /// Checkpoint parameters whose checkpoint may be missing, and is.
    pub absent: BTreeSet<String>,
    /// Inputs that exist (`when`), as indices in the stage's list.
    pub inputs: Vec<usize>,
    /// Outputs that exist, likewise.
    pub outputs: Vec<usize>,
    /// Inputs filled by a string parameter of the same name.
    pub bound: BTreeMap<usize, Reference>,
}

impl<'a> Draft<'a> {
    pub fn new(doc: &'a NodeDoc, registry: &Registry, site: &Site, diagnostics: &mut Vec<Diagnostic>) -> Self {
        let entry = registry.stages.get(&doc.stage.text).cloned();
        let mut draft = Self {
            doc,
            entry: entry.clone(),
            params: Map::new(),
            doubtful: BTreeSet::new(),
            checkpoints: BTreeMap::new(),
            absent: BTreeSet::new(),
            inputs: Vec::new(),
            outputs: Vec::new(),
            bound: BTreeMap::new(),
        };
        let Some(entry) = entry else {
            unknown_stage(doc, registry, diagnostics);
            return draft;
        };
        let spec = &entry.spec;
        draft.read_params(spec, site, diagnostics);
        draft.find_checkpoints(spec, registry, diagnostics);
        draft.inputs = draft.existing(&spec.inputs);
        draft.outputs = draft.existing(&spec.outputs);
        draft.bind(spec, diagnostics);
        if let (Some(at), false) = (&doc.select_at, spec.cases == Some(Cases::Input) && !spec.gives_instances()) {
            diagnostics.push(
                Diagnostic::error(
                    "select-misplaced",
                    format!("node `{}` selects a series, but `{}` reads none", doc.id.text, spec.id),
                    at.label("only a source has `select`"),
                )
                .help("remove `select`; the series is chosen at the node that reads it"),
            );
        }
        draft
    }

    pub fn id(&self) -> &'a str {
        &self.doc.id.text
    }

    pub fn spec(&self) -> Option<&StageSpec> {
        self.entry.as_ref().map(|e| &*e.spec)
    }

    /// Where the value of a parameter was said: in the pipeline, or its default in the manifest.
    pub fn param_at(&self, name: &str) -> At {
        match (self.doc.params.get(name), self.spec().and_then(|s| s.params.get(name))) {
            (Some(value), _) => value.at.clone(),
            (None, Some(param)) => param.at.clone(),
            (None, None) => self.doc.id.at.clone(),
        }
    }

    fn read_params(&mut self, spec: &StageSpec, site: &Site, diagnostics: &mut Vec<Diagnostic>) {
        for (name, value) in &self.doc.params {
            if !spec.params.contains_key(name) {
                let at = self.doc.param_keys.get(name).unwrap_or(&value.at);
                diagnostics.push(
                    Diagnostic::error(
                        "unknown-parameter",
                        format!("stage `{}` has no parameter `{name}`", spec.id),
                        at.label("no such parameter"),
                    )
                    .help_if(did_you_mean(
                        name,
                        "parameters",
                        spec.params.keys().map(String::as_str),
                    )),
                );
            }
        }
        for (name, param) in &spec.params {
            match (self.doc.params.get(name), &param.default) {
                (Some(value), _) => match param.check(value) {
                    Ok(json) => {
                        self.params.insert(name.clone(), json);
                    }
                    Err(refusal) => {
                        self.doubtful.insert(name.clone());
                        diagnostics.push(
                            Diagnostic::error(refusal.code, refusal.text, refusal.at.label("not allowed here"))
                                .with(param.at.label(format!("`{name}` is declared here: {}", param.kind.expected())))
                                .help_if(refusal.help),
                        );
                    }
                },
                (None, Some(default)) => {
                    let default = &precision::asked(self.doc, param, site, diagnostics).unwrap_or(default.clone());
                    self.params.insert(name.clone(), default.clone());
                }
                (None, None) => {
                    self.doubtful.insert(name.clone());
                    diagnostics.push(
                        Diagnostic::error(
                            "parameter-missing",
                            format!("node `{}` does not say `{name}`, which has no default", self.id()),
                            self.doc.stage.at.label(format!("`{}` needs `{name}`: {}", spec.id, param.kind.expected())),
                        )
                        .with(param.at.label("declared here"))
                        .help_if(param.help.clone()),
                    );
                }
            }
        }
    }

    fn find_checkpoints(&mut self, spec: &StageSpec, registry: &Registry, diagnostics: &mut Vec<Diagnostic>) {
        for param in spec.checkpoint_params() {
            let Some(name) = self.params.get(&param.name).and_then(Json::as_str) else { continue };
            let at = self.param_at(&param.name);
            match registry.checkpoints.get(name) {
                Some(checkpoint) => {
                    check_card(checkpoint, param.architecture.as_deref(), &param.at, &at, diagnostics);
                    self.checkpoints.insert(param.name.clone(), checkpoint.clone());
                }
                None => {
                    let mut found = unknown_checkpoint(name, param.architecture.as_deref(), &at, registry);
                    // A card that was refused is a fault, not an absence.
                    let refused = registry.refused.iter().any(|r| r.would_give.iter().any(|n| n == name));
                    match param.optional.as_deref().filter(|optional| self.is_set(optional) && !refused) {
                        Some(optional) => {
                            found.severity = Severity::Warning;
                            found.code = "missing-checkpoint";
                            found.message =
                                format!("there is no checkpoint `{name}`, so `{}` gives nothing", self.id());
                            diagnostics
                                .push(found.with(self.param_at(optional).label("the chain goes on because of this")));
                            self.params.insert(param.name.clone(), Json::String(String::new()));
                            self.absent.insert(param.name.clone());
                        }
                        None => {
                            diagnostics.push(found);
                            self.doubtful.insert(param.name.clone());
                        }
                    }
                }
            }
        }
    }

    fn existing(&self, ports: &[PortSpec]) -> Vec<usize> {
        let exists = |port: &PortSpec| match &port.when {
            Some(param) => self.params.get(param) != Some(&Json::Bool(false)),
            None => true,
        };
        ports.iter().enumerate().filter(|(_, p)| exists(p)).map(|(i, _)| i).collect()
    }

    fn bind(&mut self, spec: &StageSpec, diagnostics: &mut Vec<Diagnostic>) {
        for param in spec.params.values() {
            let Some(input) = spec.bound_input(param) else { continue };
            let Some(text) = self.params.get(&param.name).and_then(Json::as_str) else { continue };
            let at = self.param_at(&param.name);
            match Reference::parse(text, &at) {
                Some(reference) => {
                    self.bound.insert(input, reference);
                }
                None => diagnostics.push(Diagnostic::error(
                    "bad-reference",
                    format!("`{text}` does not name a node's output"),
                    at.label("expected \"node\", \"node.port\" or \"node.port.0\""),
                )),
            }
        }
    }

    /// Where it was said that the outputs may be absent.
    pub fn absence_at(&self) -> At {
        let permits = |param: &String| self.spec()?.params.get(param)?.optional.clone();
        self.param_at(&self.absent.iter().find_map(permits).unwrap_or_else(|| "optional".to_owned()))
    }

    /// True where `param` is a bool parameter that is set.
    pub fn is_set(&self, param: &str) -> bool {
        self.spec().and_then(|s| s.params.get(param)).is_some_and(|p| p.kind == ParamKind::Bool)
            && self.params.get(param) == Some(&Json::Bool(true))
    }
}

fn unknown_stage(doc: &NodeDoc, registry: &Registry, diagnostics: &mut Vec<Diagnostic>) {
    let wanted = &doc.stage.text;
    let label = doc.stage.at.label("no such stage is installed");
    let mut diagnostic = Diagnostic::error("unknown-stage", format!("there is no stage `{wanted}`"), label);
    if let Some(refused) = registry.refused.iter().find(|r| r.would_give.contains(wanted)) {
        let first = refused.reasons.iter().find(|d| d.is_error());
        if let Some(reason) = first {
            diagnostic.labels.extend(reason.labels.first().cloned().map(|mut l| {
                l.text = format!("the plugin that has it was refused: {}", reason.message);
                l
            }));
        }
        diagnostic = diagnostic.help(format!("`gantry inspect {}` lists what is wrong there", refused.path.display()));
    } else {
        let known = registry.stages.keys().map(String::as_str);
        diagnostic = diagnostic.help_if(did_you_mean(wanted, "stages", known));
    }
    diagnostics.push(diagnostic);
}

fn unknown_checkpoint(name: &str, architecture: Option<&str>, at: &At, registry: &Registry) -> Diagnostic {
    let mut out =
        Diagnostic::error("unknown-checkpoint", format!("there is no checkpoint `{name}`"), at.label("not installed"));
    if let Some(refused) = registry.refused.iter().find(|r| r.would_give.iter().any(|n| n == name)) {
        if let Some(reason) = refused.reasons.iter().find(|d| d.is_error()) {
            out.labels.extend(reason.labels.first().cloned().map(|mut l| {
                l.text = format!("its card was refused: {}", reason.message);
                l
            }));
        }
        return out.help(format!("`gantry inspect {}` lists what is wrong there", refused.path.display()));
    }
    if let Some(model) = registry.models.get(name) {
        return out.help(model.advice());
    }
    let import = import_command(name, architecture);
    match crate::diagnostic::closest(name, registry.checkpoints.keys().map(String::as_str)) {
        Some(close) => out.help(format!("did you mean `{close}`? To install it: {import}")),
        None => out.help(format!("to install it: {import}")),
    }
}

fn import_command(name: &str, architecture: Option<&str>) -> String {
    format!("gantry weights import FILE --arch {} --name {name}", architecture.unwrap_or("NAME"))
}

fn check_card(
    checkpoint: &CheckpointRef,
    architecture: Option<&str>,
    declared: &At,
    at: &At,
    diagnostics: &mut Vec<Diagnostic>,
) {
    let card = &checkpoint.card;
    if let Some(wanted) = architecture
        && wanted != card.architecture
    {
        diagnostics.push(
            Diagnostic::error(
                "card-mismatch",
                format!("checkpoint `{}` is a `{}`, not a `{wanted}`", card.name, card.architecture),
                at.label("weights of another network"),
            )
            .with(card.architecture_at.label("the card says so here"))
            .with(declared.label(format!("the stage runs `{wanted}`"))),
        );
    }
    let missing = checkpoint.missing_files();
    if let Some(first) = missing.first() {
        diagnostics.push(
            Diagnostic::error(
                "missing-weights",
                format!("checkpoint `{}` has a card but no `{}`", card.name, first.path),
                at.label("its weights are not installed"),
            )
            .with(first.at.label("named here"))
            .help(format!("to install them: {}", import_command(&card.name, Some(&card.architecture)))),
        );
    }
}
