//! What is connected to each input of a node: references become links to outputs, lists are spread out, names are put in
//! order.

use crate::diagnostic::{At, Diagnostic, did_you_mean};
use crate::pipeline::{FromDoc, FromForm, Reference};
use crate::registry::ports::Names;
use crate::registry::{Count, PortSpec, StageSpec};

use super::draft::Draft;
use super::resolve::Resolved;
use super::value::Offer;

/// A link while the graph is being resolved.
#[derive(Debug, Clone)]
pub(super) struct DraftLink {
    pub name: String,
    /// Where the reference stands.
    pub at: At,
    pub node: usize,
    /// Index in the giving draft's `outputs`; `None` where it could not be found (reported).
    pub output: Option<usize>,
    pub element: Option<usize>,
    pub offer: Offer,
}

/// The links of each existing input, and whether something about it has been reported already.
pub(super) struct Connected {
    pub links: Vec<DraftLink>,
    pub faulty: bool,
}

/// Everything the connecting of one node looks at.
pub(super) struct Connecting<'a, 'b> {
    pub draft: &'b Draft<'a>,
    pub drafts: &'b [Draft<'a>],
    pub resolved: &'b [Option<Resolved>],
    pub diagnostics: &'b mut Vec<Diagnostic>,
}

impl Connecting<'_, '_> {
    /// Links by existing input, in the order of `draft.inputs`.
    pub fn connect(&mut self) -> Vec<Connected> {
        let draft = self.draft;
        let Some(spec) = draft.spec() else { return Vec::new() };
        let mut taken: Vec<Option<&FromDoc>> = vec![None; draft.inputs.len()];
        let mut faulty = vec![draft.doc.from_faulty; draft.inputs.len()];
        for from in &draft.doc.from {
            let Some(slot) = self.input_of(spec, from) else {
                // What was meant for a misspelt port must not be reported as missing on the right one.
                faulty.iter_mut().for_each(|f| *f = true);
                continue;
            };
            if let Some(place) = taken.get_mut(slot) {
                *place = Some(from);
            }
        }
        let mut out = Vec::new();
        for (slot, index) in draft.inputs.iter().enumerate() {
            let Some(port) = spec.inputs.get(*index) else { continue };
            let already = faulty.get(slot).copied().unwrap_or(false);
            let connected = match (draft.bound.get(index), taken.get(slot).copied().flatten()) {
                (Some(reference), None) => self.links(port, &FromForm::One(reference.clone()), &reference.at),
                (Some(reference), Some(from)) => {
                    self.diagnostics.push(
                        Diagnostic::error(
                            "count-mismatch",
                            format!("input `{}` of node `{}` is connected twice", port.name, draft.id()),
                            from.at.label("here"),
                        )
                        .with(reference.at.label("and by this parameter")),
                    );
                    Connected { links: Vec::new(), faulty: true }
                }
                (None, Some(from)) => self.links(port, &from.form, &from.at),
                (None, None) => Connected { links: Vec::new(), faulty: already },
            };
            let connected = self.check_number(spec, port, connected);
            out.push(connected);
        }
        out
    }

    /// The existing input a `from` means, as a position in `draft.inputs`.
    fn input_of(&mut self, spec: &StageSpec, from: &FromDoc) -> Option<usize> {
        let draft = self.draft;
        let open: Vec<(usize, &PortSpec)> = draft
            .inputs
            .iter()
            .enumerate()
            .filter_map(|(slot, i)| spec.inputs.get(*i).map(|p| (slot, *i, p)))
            .filter(|(_, i, p)| {
                p.host.is_none() && !spec.params.values().any(|param| spec.bound_input(param) == Some(*i))
            })
            .map(|(slot, _, p)| (slot, p))
            .collect();
        if let Some(name) = &from.port {
            let existing = draft.inputs.iter().position(|i| spec.inputs.get(*i).is_some_and(|p| p.name == name.text));
            if existing.is_none() {
                self.diagnostics.push(
                    Diagnostic::error(
                        "unknown-port",
                        format!("stage `{}` has no input `{}`", spec.id, name.text),
                        name.at.label("no such input"),
                    )
                    .help_if(did_you_mean(
                        &name.text,
                        "inputs",
                        open.iter().map(|(_, p)| p.name.as_str()),
                    )),
                );
            }
            return existing;
        }
        let required: Vec<usize> = open.iter().filter(|(_, p)| p.is_required()).map(|(slot, _)| *slot).collect();
        match (open.as_slice(), required.as_slice()) {
            ([(slot, _)], _) | (_, [slot]) => Some(*slot),
            ([], _) => {
                self.diagnostics.push(Diagnostic::error(
                    "unknown-port",
                    format!("stage `{}` has no inputs to connect", spec.id),
                    from.at.label("nothing can be connected here"),
                ));
                None
            }
            _ => {
                let names: Vec<String> = open.iter().map(|(_, p)| format!("`{}`", p.name)).collect();
                self.diagnostics.push(
                    Diagnostic::error(
                        "ambiguous-port",
                        format!("stage `{}` has several inputs: {}", spec.id, names.join(", ")),
                        from.at.label("to which of them?"),
                    )
                    .help(format!(
                        "from = {{ {} = \"...\" }}",
                        open.first().map(|(_, p)| p.name.as_str()).unwrap_or_default()
                    )),
                );
                None
            }
        }
    }

    fn links(&mut self, port: &PortSpec, form: &FromForm, at: &At) -> Connected {
        let several = matches!(port.count, Count::Many | Count::Dataset);
        let mut links = Vec::new();
        let mut faulty = false;
        match (form, &port.count) {
            (FromForm::One(_), Count::Named) => {
                self.wrong_form(port, at, "names for what is connected: { name = \"node.port\" }");
                return Connected { links, faulty: true };
            }
            (FromForm::Many(_), Count::One | Count::Optional | Count::Named) => {
                let wanted = if port.count == Count::Named { "names: { name = \"node.port\" }" } else { "one node" };
                self.wrong_form(port, at, wanted);
                return Connected { links, faulty: true };
            }
            (FromForm::Named(_), count) if *count != Count::Named => {
                self.wrong_form(port, at, if several { "a list: [\"a\", \"b\"]" } else { "one node" });
                return Connected { links, faulty: true };
            }
            _ => {}
        }
        let named: Vec<(String, &Reference)> = match form {
            FromForm::One(reference) => vec![(String::new(), reference)],
            FromForm::Many(list) => list.iter().map(|r| (String::new(), r)).collect(),
            FromForm::Named(list) => list.iter().map(|(name, r)| (name.text.clone(), r)).collect(),
        };
        for (name, reference) in named {
            match self.targets(reference, several) {
                Some(found) => links.extend(found.into_iter().map(|mut link| {
                    link.name = name.clone();
                    link
                })),
                None => faulty = true,
            }
        }
        if several {
            for (i, link) in links.iter_mut().enumerate() {
                link.name = i.to_string();
            }
        }
        if let (FromForm::Named(list), false) = (form, faulty) {
            faulty = !self.put_names_in_order(port, list.iter().map(|(n, _)| (n.text.as_str(), &n.at)), &mut links);
        }
        Connected { links, faulty }
    }

    fn wrong_form(&mut self, port: &PortSpec, at: &At, wanted: &str) {
        self.diagnostics.push(
            Diagnostic::error(
                "count-mismatch",
                format!("input `{}` of node `{}` takes {wanted}", port.name, self.draft.id()),
                at.label(format!("expected {wanted}")),
            )
            .with(port.at.label("declared here")),
        );
    }

    /// The outputs a reference means: one, or each element of a list where the input takes a list.
    fn targets(&mut self, reference: &Reference, several: bool) -> Option<Vec<DraftLink>> {
        let node = self.drafts.iter().position(|d| d.id() == reference.node)?;
        let giving = self.drafts.get(node)?;
        let link = |output, element, offer| DraftLink {
            name: String::new(),
            at: reference.at.clone(),
            node,
            output,
            element,
            offer,
        };
        let Some(spec) = giving.spec() else { return Some(vec![link(None, None, Offer::unknown())]) };
        let output = self.output_of(giving, spec, reference)?;
        let Some(resolved) = self.resolved.get(node).and_then(Option::as_ref).and_then(|r| r.outputs.get(output))
        else {
            return Some(vec![link(Some(output), None, Offer::unknown())]);
        };
        let count = resolved.count;
        match (reference.element, count) {
            (Some(element), Some(n)) if element >= n => {
                self.count_error(reference, format!("`{}` has {n} element(s), numbered from 0", resolved.port));
                None
            }
            (Some(element), _) if !resolved.list => {
                self.count_error(
                    reference,
                    format!("`{}` gives one thing, not a list; leave out `.{element}`", resolved.port),
                );
                None
            }
            (Some(element), _) => {
                let offer = resolved.each.get(element).or(resolved.each.first()).cloned();
                Some(vec![link(Some(output), Some(element), offer.unwrap_or_else(Offer::unknown))])
            }
            (None, Some(n)) if resolved.list && several => Some(
                (0..n)
                    .map(|e| link(Some(output), Some(e), resolved.each.get(e).cloned().unwrap_or_else(Offer::unknown)))
                    .collect(),
            ),
            (None, Some(1)) | (None, None) if resolved.list && (count == Some(1) || several) => {
                let offer = resolved.each.first().cloned().unwrap_or_else(Offer::unknown);
                Some(vec![link(Some(output), count.map(|_| 0), offer)])
            }
            (None, n) if resolved.list => {
                let n = n.map_or("a list of unknown length".to_owned(), |n| format!("{n} things"));
                self.count_error(
                    reference,
                    format!(
                        "`{}` gives {n}, and one is wanted; choose with `{}.{}.0`",
                        resolved.port, reference.node, resolved.port
                    ),
                );
                None
            }
            (None, _) => {
                let offer = resolved.each.first().cloned().unwrap_or_else(Offer::unknown);
                Some(vec![link(Some(output), None, offer)])
            }
        }
    }

    fn count_error(&mut self, reference: &Reference, text: String) {
        self.diagnostics.push(Diagnostic::error("count-mismatch", text, reference.at.label("here")));
    }

    /// The output a reference means, as a position in the giving draft's `outputs`. Without a name: the only output, or the
    /// only one that is not optional.
    fn output_of(&mut self, giving: &Draft<'_>, spec: &StageSpec, reference: &Reference) -> Option<usize> {
        let outputs: Vec<(usize, &PortSpec)> =
            giving.outputs.iter().enumerate().filter_map(|(slot, i)| Some((slot, spec.outputs.get(*i)?))).collect();
        let names = || outputs.iter().map(|(_, p)| p.name.as_str());
        if let Some(wanted) = &reference.port {
            let found = outputs.iter().find(|(_, p)| p.name == *wanted).map(|(slot, _)| *slot);
            if found.is_none() {
                let help = match spec.output(wanted).and_then(|(_, p)| p.when.as_ref()) {
                    Some(param) => Some(format!("set `{param} = true` at node `{}`", giving.id())),
                    None => did_you_mean(wanted, "outputs", names()),
                };
                self.diagnostics.push(
                    Diagnostic::error(
                        "unknown-port",
                        format!("node `{}` (stage `{}`) has no output `{wanted}`", giving.id(), spec.id),
                        reference.at.label("no such output"),
                    )
                    .help_if(help),
                );
            }
            return found;
        }
        let certain: Vec<usize> =
            outputs.iter().filter(|(_, p)| p.count != Count::Optional).map(|(slot, _)| *slot).collect();
        match (outputs.as_slice(), certain.as_slice()) {
            ([(slot, _)], _) | (_, [slot]) => Some(*slot),
            ([], _) => {
                self.diagnostics.push(Diagnostic::error(
                    "unknown-port",
                    format!("node `{}` (stage `{}`) has no outputs", giving.id(), spec.id),
                    reference.at.label("gives nothing"),
                ));
                None
            }
            _ => {
                let choices: Vec<String> = names().map(|n| format!("\"{}.{n}\"", giving.id())).collect();
                self.diagnostics.push(
                    Diagnostic::error(
                        "ambiguous-port",
                        format!("node `{}` (stage `{}`) has several outputs", giving.id(), spec.id),
                        reference.at.label("which of them?"),
                    )
                    .help(format!("one of {}", choices.join(", "))),
                );
                None
            }
        }
    }

    /// Puts the elements of a named port in the order of `names`; false where one is unknown or missing (reported).
    fn put_names_in_order<'n>(
        &mut self,
        port: &PortSpec,
        given: impl Iterator<Item = (&'n str, &'n At)>,
        links: &mut [DraftLink],
    ) -> bool {
        let Some((names, said_at, card)) = self.names_of(port) else { return true };
        let mut ok = true;
        for (name, at) in given {
            if !names.iter().any(|n| n == name) {
                ok = false;
                let help = if names.is_empty() {
                    "it takes none".to_owned()
                } else {
                    did_you_mean(name, "elements", names.iter().map(String::as_str)).unwrap_or_default()
                };
                let code = if card.is_some() { "card-mismatch" } else { "unknown-element" };
                self.diagnostics.push(
                    Diagnostic::error(
                        code,
                        format!("input `{}` of node `{}` has no element `{name}`", port.name, self.draft.id()),
                        at.label("no such element"),
                    )
                    .with(said_at.label(match &card {
                        Some(card) => format!("the card of `{card}` lists the elements here"),
                        None => "the elements are listed here".to_owned(),
                    }))
                    .help(help),
                );
            }
        }
        links.sort_by_key(|l| names.iter().position(|n| *n == l.name).unwrap_or(usize::MAX));
        ok
    }

    /// The element names of a named port, where they stand, and the checkpoint whose card lists them.
    fn names_of(&self, port: &PortSpec) -> Option<(Vec<String>, At, Option<String>)> {
        match port.names.as_ref()? {
            Names::List(names) => Some((names.clone(), port.at.clone(), None)),
            Names::Card => self.draft.checkpoints.values().find_map(|checkpoint| {
                let (names, at) = checkpoint.card.names.get(&port.name)?;
                Some((names.clone(), at.clone(), Some(checkpoint.name.clone())))
            }),
        }
    }

    /// Are there as many things as the port demands?
    fn check_number(&mut self, spec: &StageSpec, port: &PortSpec, connected: Connected) -> Connected {
        if connected.faulty || port.host.is_some() {
            return connected;
        }
        let bound = spec.params.values().any(|p| p.name == port.name && spec.bound_input(p).is_some());
        if bound && self.draft.doubtful.contains(&port.name) {
            return Connected { faulty: true, ..connected };
        }
        let n = connected.links.len();
        let id = self.draft.id();
        if let (Some(Names::Card), Some((names, said_at, card))) = (&port.names, self.names_of(port)) {
            let lacking: Vec<String> = names
                .iter()
                .filter(|w| !connected.links.iter().any(|l| l.name == **w))
                .map(|w| format!("`{w}`"))
                .collect();
            if let Some(first) = lacking.first() {
                let checkpoint = card.unwrap_or_default();
                self.diagnostics.push(
                    Diagnostic::error(
                        "missing-input",
                        format!("node `{id}` lacks {} on input `{}`", lacking.join(", "), port.name),
                        self.draft.doc.stage.at.label("not connected"),
                    )
                    .with(said_at.label(format!("the network of `{checkpoint}` was trained with these")))
                    .help(format!(
                        "from = {{ {} = {{ {} = \"node.port\" }} }}",
                        port.name,
                        first.trim_matches('`')
                    )),
                );
                return Connected { faulty: true, ..connected };
            }
            return connected;
        }
        let (min, max) = match port.count {
            Count::Optional => (0, 1),
            Count::Many | Count::Named => (port.min.unwrap_or(1), port.max.unwrap_or(usize::MAX)),
            _ => (1, 1),
        };
        let max = if port.count == Count::Dataset { usize::MAX } else { max };
        if n < min {
            let message = if n == 0 {
                format!("nothing is connected to input `{}` of node `{id}`", port.name)
            } else {
                format!("input `{}` of node `{id}` needs at least {min}, and has {n}", port.name)
            };
            self.diagnostics.push(
                Diagnostic::error("missing-input", message, self.draft.doc.stage.at.label("an input is missing"))
                    .with(port.at.label(format!("`{}` is declared here", port.name)))
                    .help(format!("from = {{ {} = \"node.port\" }}", port.name)),
            );
            return Connected { faulty: true, ..connected };
        }
        if n > max {
            let at = connected.links.get(max).map(|l| l.at.clone()).unwrap_or_default();
            self.diagnostics.push(
                Diagnostic::error(
                    "count-mismatch",
                    format!("input `{}` of node `{id}` takes at most {max}, and has {n}", port.name),
                    at.label("one too many"),
                )
                .with(port.at.label("declared here")),
            );
            return Connected { faulty: true, ..connected };
        }
        connected
    }
}
