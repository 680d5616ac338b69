//! Checks over the whole graph: where cases come from, what leaves and whom it identifies, keys, and toys.

use crate::diagnostic::{At, Diagnostic, Severity, did_you_mean};
use crate::pipeline::{CaseName, Document, Reference};
use crate::registry::manifest::Cases;
use crate::registry::site::Toys;
use crate::registry::{Count, Registry, Site};

use super::draft::Draft;
use super::resolve::Resolved;
use super::value::{Cap, Offer, worst_identity};

/// Service that needs the site's key.
const PSEUDONYM: &str = "gantry.pseudonym/";

/// What only a case decides may identify; what is unknown was spoilt by an error already reported.
fn identifies(cap: &Cap) -> bool {
    match cap {
        Cap::Value(v) => v != "removed" && v != "none",
        Cap::Dynamic | Cap::Any => true,
        Cap::Unknown => false,
    }
}

pub(super) struct Policies<'a, 'b> {
    pub document: &'a Document,
    pub drafts: &'b [Draft<'a>],
    pub resolved: &'b [Option<Resolved>],
    pub site: &'b Site,
    pub registry: &'b Registry,
    pub diagnostics: &'b mut Vec<Diagnostic>,
}

impl Policies<'_, '_> {
    pub fn check(&mut self) {
        self.case_origin();
        self.sinks();
        self.options();
        self.key();
        self.toys();
        self.case_name();
        self.tests();
    }

    /// One origin of cases: the input folders, or one generator.
    fn case_origin(&mut self) {
        let mut by_input: Option<&Draft<'_>> = None;
        let mut by_count: Option<&Draft<'_>> = None;
        let mut unknown = false;
        for draft in self.drafts {
            let Some(spec) = draft.spec() else {
                unknown = true;
                continue;
            };
            let other = match &spec.cases {
                None => continue,
                Some(Cases::Input) => {
                    let first = *by_input.get_or_insert(draft);
                    let gives_instances = |d: &Draft<'_>| d.spec().is_some_and(|s| s.gives_instances());
                    // A case of whole studies and a case of one series for each source cannot be the same case.
                    let differs = gives_instances(first) != gives_instances(draft);
                    by_count.or(differs.then_some(first))
                }
                Some(Cases::Param(_)) => {
                    let other = by_input.or(by_count);
                    by_count = by_count.or(Some(draft));
                    other
                }
            };
            if let Some(other) = other {
                self.diagnostics.push(
                    Diagnostic::error(
                        "case-origin",
                        format!("both `{}` and `{}` say what the cases are", other.id(), draft.id()),
                        draft.doc.stage.at.label("a second origin of cases"),
                    )
                    .with(other.doc.stage.at.label("the first"))
                    .help(
                        "a pipeline has one origin of cases: series of its input folders, all instances there, or one \
                         generating node",
                    ),
                );
            }
        }
        if by_input.is_none() && by_count.is_none() && !unknown {
            let at = self.document.nodes.values().next().map_or(At::new(self.document.file, 0..0), |n| n.id.at.clone());
            self.diagnostics.push(
                Diagnostic::error("case-origin", "no node says what the cases are", at.label("no source"))
                    .help("add a source, such as `dicom-read`"),
            );
        }
    }

    fn readers(&self, node: usize, output: usize) -> bool {
        let links = self.resolved.iter().flatten().flat_map(|r| &r.inputs).flat_map(|i| &i.links);
        links.into_iter().any(|l| l.node == node && l.output == Some(output))
    }

    /// Nothing that identifies a patient is written where the site forbids it; and nothing is computed for nobody.
    fn sinks(&mut self) {
        for (node, draft) in self.drafts.iter().enumerate() {
            let (Some(spec), Some(Some(resolved))) = (draft.spec(), self.resolved.get(node)) else { continue };
            let arrived: Vec<&Offer> = resolved.inputs.iter().flat_map(|i| &i.links).map(|l| &l.offer).collect();
            let mut leaves: Vec<Option<Cap>> = Vec::new();
            let mut read = resolved.outputs.is_empty();
            for (slot, output) in resolved.outputs.iter().enumerate() {
                let is_file = output.each.iter().any(|o| o.text("kind") == Some("file"));
                let is_read = self.readers(node, slot);
                let wanted = draft.outputs.get(slot).and_then(|i| spec.outputs.get(*i));
                // An optional output that nothing reads is not made.
                let written = is_file && !is_read && wanted.is_none_or(|p| p.count != Count::Optional);
                read |= is_read || written;
                if written {
                    leaves.extend(output.each.iter().map(|o| o.cap("identity")));
                }
            }
            let outside = spec.effects.iter().any(|e| matches!(e.as_str(), "net" | "db-write" | "files"));
            if resolved.outputs.is_empty() || outside {
                leaves.push(worst_identity(arrived));
            }
            let identifying = leaves.iter().flatten().any(identifies);
            if identifying && self.site.writers_must_be_deidentified {
                let finding = self.identity_finding(node);
                self.diagnostics.push(finding);
            }
            if !read {
                self.diagnostics.push(
                    Diagnostic::warning(
                        "unused-node",
                        format!("nothing reads what `{}` gives", draft.id()),
                        draft.doc.id.at.label("not read, and it writes nothing"),
                    )
                    .help("connect it, or remove it"),
                );
            }
        }
    }

    /// Names the way from the source to the writer.
    fn identity_finding(&self, sink: usize) -> Diagnostic {
        let mut path = vec![sink];
        let mut node = sink;
        while let Some(Some(resolved)) = self.resolved.get(node) {
            let links = resolved.inputs.iter().flat_map(|i| &i.links);
            let identifying = |o: &Offer| o.cap("identity").is_some_and(|cap| identifies(&cap));
            let Some(link) = links.into_iter().find(|l| identifying(&l.offer) && !path.contains(&l.node)) else {
                break;
            };
            node = link.node;
            path.push(node);
        }
        path.reverse();
        let names: Vec<&str> = path.iter().filter_map(|n| self.drafts.get(*n)).map(Draft::id).collect();
        let at = |n: Option<&usize>| {
            n.and_then(|n| self.drafts.get(*n))
                .map(|d| d.doc.id.at.clone())
                .unwrap_or(At::new(self.document.file, 0..0))
        };
        let writer = names.last().copied().unwrap_or_default();
        let mut out = Diagnostic::error(
            "identity-policy",
            format!("`{writer}` would write what identifies the patient: {}", names.join(" -> ")),
            at(path.last()).label("this leaves the pipeline"),
        )
        .with(at(path.first()).label("the patient's identity comes from here"));
        if let Some(policy) = &self.site.policy_at {
            out = out.with(policy.label("the site forbids it here"));
        }
        let source = path.first().and_then(|n| self.drafts.get(*n)).and_then(Draft::spec);
        let instances = source.is_some_and(|spec| spec.gives_instances());
        let removers: Vec<String> = self
            .registry
            .stages
            .values()
            .filter(|e| e.spec.inputs.iter().any(|i| (i.kind() == Some("headers")) == instances))
            .filter(|e| {
                e.spec
                    .outputs
                    .iter()
                    .any(|o| o.caps.literal_texts("identity") == ["removed"] && o.kind() != Some("record"))
            })
            .map(|e| format!("`{}`", e.spec.id))
            .collect();
        let what = if removers.is_empty() { "a de-identifying stage".to_owned() } else { removers.join(" or ") };
        out.help(format!("add {what} before `{writer}`"))
    }

    /// Stages that make pseudonyms are given no option of PS3.15 Annex E that the site does not permit.
    fn options(&mut self) {
        let Some(permitted) = &self.site.permitted_options else { return };
        let deidentifies = |d: &&Draft| d.spec().is_some_and(|s| s.services.iter().any(|x| x.starts_with(PSEUDONYM)));
        for draft in self.drafts.iter().filter(deidentifies) {
            for (param, value) in draft.params.iter().filter(|(name, _)| matches!(name.as_str(), "retain" | "clean")) {
                let given = value.as_array().into_iter().flatten().filter_map(|v| v.as_str());
                for option in given.filter(|option| !permitted.iter().any(|p| p == option)) {
                    let mut out = Diagnostic::error(
                        "option-policy",
                        format!("the site does not permit the option `{option}` of `{}`", draft.id()),
                        draft.param_at(param).label("asked for here"),
                    )
                    .help(match permitted.as_slice() {
                        [] => "the site permits no option: the basic profile alone".to_owned(),
                        some => format!("the site permits {}", some.join(", ")),
                    });
                    out.labels.extend(
                        self.site.permitted_at.as_ref().map(|at| at.label("the site lists what it permits here")),
                    );
                    self.diagnostics.push(out);
                }
            }
        }
    }

    fn key(&mut self) {
        let asking = self
            .drafts
            .iter()
            .find(|d| d.spec().is_some_and(|s| s.services.iter().any(|service| service.starts_with(PSEUDONYM))));
        let Some(draft) = asking else { return };
        if self.site.key_made {
            return;
        }
        let label = draft.doc.stage.at.label("makes pseudonyms with the site's key");
        let finding = match &self.site.key_file {
            None => Diagnostic::error("key-missing", format!("node `{}` needs the site's key", draft.id()), label),
            Some(path) if !path.is_file() => {
                let mut out = Diagnostic::error(
                    "key-missing",
                    format!("node `{}` needs the site's key, and {} is not there", draft.id(), path.display()),
                    label,
                );
                out.labels.extend(self.site.key_at.as_ref().map(|at| at.label("the site names it here")));
                out
            }
            Some(_) => return,
        };
        self.diagnostics
            .push(finding.help("make one with `gantry key new FILE` and give it with `--key FILE` or in site.toml"));
    }

    fn toys(&mut self) {
        let severity = match self.site.toys {
            Toys::Allow => return,
            Toys::Warn => Severity::Warning,
            Toys::Refuse => Severity::Error,
        };
        for draft in self.drafts {
            for (param, checkpoint) in draft.checkpoints.iter().filter(|(_, c)| c.card.toy) {
                let finding = Diagnostic::error(
                    "toy-checkpoint",
                    format!("checkpoint `{}` is a toy: it runs on phantoms only", checkpoint.name),
                    draft.param_at(param).label("a toy"),
                )
                .with(checkpoint.card.at.label("its card says so"))
                .help("`--allow-toy` lets it run on other images; every series description then begins with TOY");
                self.diagnostics.push(Diagnostic { severity, ..finding });
            }
        }
    }

    fn case_name(&mut self) {
        if self.document.output.case_name != CaseName::Folder || !self.site.writers_must_be_deidentified {
            return;
        }
        let at = self.document.output.case_name_at.clone().unwrap_or_default();
        let mut out = Diagnostic::error(
            "identity-policy",
            "the names of patient folders may identify patients",
            at.label("the site demands de-identified output"),
        )
        .help("case_name = \"pseudonym\"");
        out.labels.extend(self.site.policy_at.as_ref().map(|at| at.label("here")));
        self.diagnostics.push(out);
    }

    /// The nodes that `[[tests]]` name exist, and phantoms go into sources.
    fn tests(&mut self) {
        for test in &self.document.tests {
            for (node, phantom) in &test.inputs {
                let source = self.drafts.iter().find(|d| d.id() == node);
                match source.map(|d| d.spec()) {
                    None => self.unknown_test_node(node, &phantom.at),
                    Some(Some(spec)) if spec.cases != Some(Cases::Input) => self.diagnostics.push(Diagnostic::error(
                        "bad-test",
                        format!("`{node}` reads no input, so no phantom can take its place"),
                        phantom.at.label("for a source only"),
                    )),
                    Some(_) => {}
                }
                if !phantom.text.starts_with("phantom:") {
                    self.diagnostics.push(Diagnostic::error(
                        "bad-test",
                        format!("\"{}\" is not a phantom", phantom.text),
                        phantom.at.label("expected \"phantom:<name>\", such as \"phantom:chest-ct\""),
                    ));
                }
            }
            for expect in &test.expect {
                let first_word =
                    expect.where_.as_ref().map(|w| (w.text.split_whitespace().next().unwrap_or(""), &w.at));
                let named = [Some((expect.node.text.as_str(), &expect.node.at))].into_iter();
                let named = named.chain([expect.equals.as_ref().map(|e| (e.text.as_str(), &e.at)), first_word]);
                for (text, at) in named.flatten() {
                    match Reference::parse(text, at) {
                        Some(r) if self.drafts.iter().any(|d| d.id() == r.node) => {}
                        _ => self.unknown_test_node(text, at),
                    }
                }
            }
        }
    }

    fn unknown_test_node(&mut self, name: &str, at: &At) {
        let help = did_you_mean(name, "nodes", self.drafts.iter().map(Draft::id));
        self.diagnostics.push(
            Diagnostic::error("unknown-node", format!("there is no node `{name}`"), at.label("no such node"))
                .help_if(help),
        );
    }
}
