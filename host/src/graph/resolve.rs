//! What a node demands on its inputs and offers on its outputs, once its parameters, cards and what arrives are known.

use indexmap::IndexMap;
use serde_json::{Value as Json, json};

use crate::diagnostic::{At, Diagnostic};
use crate::registry::caps::{KEYS, Term, is_set_key};
use crate::registry::card::{CardCap, Nature};
use crate::registry::{Count, PortSpec, StageSpec};

use super::GridToken;
use super::connect::{Connected, DraftLink};
use super::draft::Draft;
use super::matching::{self, Edge};
use super::value::{Cap, Grid, Known, Offer, words, worst_identity};

/// A node after resolving; the lists are parallel to the draft's `inputs` and `outputs`.
pub(super) struct Resolved {
    pub inputs: Vec<ResolvedInput>,
    pub outputs: Vec<ResolvedOutput>,
}

pub(super) struct ResolvedInput {
    pub links: Vec<DraftLink>,
    pub demand: IndexMap<String, Known>,
    /// Link -> keys that only a case decides.
    pub undecided: Vec<(usize, Vec<String>)>,
}

pub(super) struct ResolvedOutput {
    pub port: String,
    /// A reference without an element means a list.
    pub list: bool,
    /// How many, where that is known before a case is open.
    pub count: Option<usize>,
    pub each: Vec<Offer>,
    pub may_be_absent: bool,
}

/// Resolves one node whose predecessors are resolved.
pub(super) struct Resolving<'a, 'b> {
    pub draft: &'b Draft<'a>,
    pub spec: &'b StageSpec,
    pub names: &'b [&'a str],
    pub advice: &'b dyn Fn(&Edge<'_>, &str) -> Option<String>,
    pub diagnostics: &'b mut Vec<Diagnostic>,
    inputs: Vec<ResolvedInput>,
}

impl<'a, 'b> Resolving<'a, 'b> {
    pub fn new(
        draft: &'b Draft<'a>,
        spec: &'b StageSpec,
        names: &'b [&'a str],
        advice: &'b dyn Fn(&Edge<'_>, &str) -> Option<String>,
        diagnostics: &'b mut Vec<Diagnostic>,
    ) -> Self {
        Self { draft, spec, names, advice, diagnostics, inputs: Vec::new() }
    }

    pub fn resolve(mut self, connected: Vec<Connected>) -> Resolved {
        self.inputs = connected
            .into_iter()
            .map(|c| {
                let mut links = c.links;
                if c.faulty && links.is_empty() {
                    // Something was meant here: what it would have brought is unknown, not absent.
                    links.push(DraftLink {
                        name: String::new(),
                        at: self.draft.doc.stage.at.clone(),
                        node: usize::MAX,
                        output: None,
                        element: None,
                        offer: Offer::unknown(),
                    });
                }
                ResolvedInput { links, demand: IndexMap::new(), undecided: Vec::new() }
            })
            .collect();
        for slot in 0..self.inputs.len() {
            self.resolve_input(slot);
        }
        let outputs = self.draft.outputs.iter().filter_map(|i| self.spec.outputs.get(*i).map(|p| (*i, p)));
        let outputs: Vec<ResolvedOutput> = outputs.map(|(i, port)| self.resolve_output(i, port)).collect();
        Resolved { inputs: self.inputs, outputs }
    }

    fn port_of(&self, slot: usize) -> Option<&'b PortSpec> {
        self.draft.inputs.get(slot).and_then(|i| self.spec.inputs.get(*i))
    }

    fn links_of(&self, input: &str) -> &[DraftLink] {
        let slot = (0..self.inputs.len()).find(|slot| self.port_of(*slot).is_some_and(|p| p.name == input));
        slot.and_then(|s| self.inputs.get(s)).map(|i| i.links.as_slice()).unwrap_or_default()
    }

    fn resolve_input(&mut self, slot: usize) {
        let Some(port) = self.port_of(slot) else { return };
        let demand = self.demand(port);
        let grid = port.caps.keys.get("grid");
        let reference = match grid.map(|c| &c.term) {
            Some(Term::SameGrid(input) | Term::LatticeGrid(input)) => self.links_of(input).first().cloned(),
            // Slices of several images on one input walk together too.
            None if self.walks_slices() && port.is_gridded() => {
                self.inputs.get(slot).and_then(|i| i.links.first()).cloned()
            }
            _ => None,
        };
        let lattice = matches!(grid.map(|c| &c.term), Some(Term::LatticeGrid(_)));
        let Some(input) = self.inputs.get_mut(slot) else { return };
        for (index, link) in input.links.iter_mut().enumerate() {
            let edge = Edge {
                link,
                giver: self.names.get(link.node).copied().unwrap_or("?"),
                taker: self.draft.id(),
                port,
                demand: &demand,
                grid_of: reference.as_ref(),
                grid_at: grid.map_or(&port.at, |c| &c.at),
                lattice,
            };
            let verdict = matching::check(&edge);
            if let Some((first, others)) = verdict.mismatches.split_first() {
                let help = (self.advice)(&edge, first.key);
                self.diagnostics.push(matching::report(&edge, first, others, help));
                link.offer = Offer::unknown();
            } else if !verdict.undecided.is_empty() {
                input.undecided.push((index, verdict.undecided));
            }
        }
        input.demand = demand;
    }

    fn walks_slices(&self) -> bool {
        use crate::registry::Scope;
        matches!(self.spec.scope, Scope::Slice | Scope::Slab)
    }

    /// The demands of an input but for its grid: the stage's, narrowed and completed by the card's.
    fn demand(&mut self, port: &PortSpec) -> IndexMap<String, Known> {
        let mut demand = IndexMap::new();
        for key in KEYS.into_iter().filter(|k| *k != "grid") {
            let said = port.caps.keys.get(key).map(|c| (&c.term, &c.at));
            let card = self.card_cap(|checkpoint| checkpoint.card.input_caps(&port.name)?.get(key));
            let known = match (said, card) {
                (None, None) => None,
                (None, Some((card, cap))) => Some(by_card(card, cap)),
                (Some((Term::Card, at)), None) => Some(self.card_is_silent(key, at, &format!("input `{}`", port.name))),
                (Some((Term::Card | Term::Any, _)), Some((card, cap))) => Some(by_card(card, cap)),
                (Some((term, at)), None) => self.resolve_term(key, term, at),
                (Some((term, at)), Some((card, cap))) => {
                    let own = self.resolve_term(key, term, at);
                    Some(self.narrow(key, own, at, &card, &cap))
                }
            };
            if let Some(known) = known {
                demand.insert(key.to_owned(), known);
            }
        }
        demand
    }

    /// What a card of this node says, with the checkpoint's name.
    fn card_cap<'c>(
        &self,
        look: impl Fn(&'c crate::registry::CheckpointRef) -> Option<&'c CardCap>,
    ) -> Option<(String, CardCap)>
    where
        'b: 'c,
    {
        let draft: &'b Draft<'a> = self.draft;
        self.spec.checkpoint_params().find_map(|param| {
            let checkpoint: &'c crate::registry::CheckpointRef = draft.checkpoints.get(&param.name)?;
            look(checkpoint).map(|cap| (checkpoint.name.clone(), cap.clone()))
        })
    }

    /// `"card"` where no card says anything about it.
    fn card_is_silent(&mut self, key: &str, at: &At, what: &str) -> Known {
        let mut cards = self.draft.checkpoints.values();
        let Some(checkpoint) = cards.next() else { return Known::unknown(at) };
        let param = self.spec.checkpoint_params().next().map(|p| self.draft.param_at(&p.name)).unwrap_or_default();
        self.diagnostics.push(
            Diagnostic::error(
                "card-mismatch",
                format!(
                    "the card of `{}` does not say `{key}` for {what} of stage `{}`",
                    checkpoint.name, self.spec.id
                ),
                param.label("this checkpoint"),
            )
            .with(at.label("the stage leaves it to the card"))
            .with(checkpoint.card.at.label("the card")),
        );
        Known::unknown(at)
    }

    /// The card's demand where the stage has one of its own: it must be one the stage takes.
    fn narrow(&mut self, key: &str, own: Option<Known>, at: &At, card: &str, cap: &CardCap) -> Known {
        if let Some(Known { cap: Cap::Value(own), .. }) = &own
            && !permits(key, own, &cap.value)
        {
            self.diagnostics.push(
                Diagnostic::error(
                    "card-mismatch",
                    format!(
                        "the card of `{card}` says {key} {}, but stage `{}` takes {}",
                        words(&cap.value),
                        self.spec.id,
                        words(own)
                    ),
                    cap.at.label("the card says so here"),
                )
                .with(at.label("the stage says so here")),
            );
            return Known::unknown(at);
        }
        match own {
            // The card only repeats it: the demand is the stage's.
            Some(own) if matches!(&own.cap, Cap::Value(v) if matching::same(key, v, &cap.value)) => own,
            _ => by_card(card.to_owned(), cap.clone()),
        }
    }

    /// A term of a demand or an offer; `None` where what it refers to says nothing.
    fn resolve_term(&self, key: &str, term: &Term, at: &At) -> Option<Known> {
        Some(match term {
            Term::Literal(json) => Known::new(Cap::Value(json.clone()), at),
            Term::Param(name) => match self.draft.params.get(name) {
                Some(json) => Known::new(Cap::Value(json.clone()), &self.draft.param_at(name)),
                None => Known::unknown(at),
            },
            Term::Input { port, key } => {
                let offer = &self.links_of(port).first()?.offer;
                match offer.keys.get(key) {
                    Some(known) => known.clone(),
                    None if offer.wild => Known::unknown(at),
                    None => return None,
                }
            }
            Term::Any => Known::new(Cap::Any, at),
            Term::Dynamic => Known::new(Cap::Dynamic, at),
            Term::Card => Known::unknown(at),
            Term::List(items) => return self.resolve_list(key, items, at),
            Term::NewGrid | Term::SameGrid(_) | Term::SubGrid(_) | Term::LatticeGrid(_) | Term::FrameGrid(_) => {
                return None;
            }
        })
    }

    /// A list: alternatives for a set key; otherwise one value, into which lists are spliced.
    fn resolve_list(&self, key: &str, items: &[Term], at: &At) -> Option<Known> {
        let mut out = Vec::new();
        let mut place = at.clone();
        for item in items {
            match item {
                Term::Input { port, key: wanted } if !is_set_key(key) => {
                    for link in self.links_of(port) {
                        match (link.offer.keys.get(wanted).map(|k| &k.cap), wanted.as_str()) {
                            (Some(Cap::Value(Json::Array(values))), _) => out.extend(values.iter().cloned()),
                            (Some(Cap::Value(value)), _) => out.push(value.clone()),
                            (Some(Cap::Dynamic | Cap::Any), _) => return Some(Known::new(Cap::Dynamic, at)),
                            (Some(Cap::Unknown), _) => return Some(Known::unknown(at)),
                            (None, _) if link.offer.wild => return Some(Known::unknown(at)),
                            (None, "channels") if !link.name.is_empty() => out.push(json!(link.name)),
                            (None, _) => return None,
                        }
                    }
                }
                item => match self.resolve_term(key, item, at)? {
                    Known { cap: Cap::Value(Json::Array(values)), .. } => out.extend(values),
                    Known { cap: Cap::Value(value), at: said, .. } => {
                        if matches!(item, Term::Param(_)) && place == *at {
                            place = said;
                        }
                        out.push(value);
                    }
                    other => return Some(other),
                },
            }
        }
        Some(Known::new(Cap::Value(Json::Array(out)), &place))
    }

    fn resolve_output(&mut self, index: usize, port: &PortSpec) -> ResolvedOutput {
        let (list, count) = match &port.count {
            Count::Param(param) => {
                let n = self.draft.params.get(param).and_then(Json::as_u64).and_then(|n| usize::try_from(n).ok());
                (true, n)
            }
            Count::Like(input) => {
                let links = self.links_of(input);
                let known = !links.iter().any(|l| l.offer.wild && l.node == usize::MAX);
                (true, known.then_some(links.len()))
            }
            Count::Many | Count::Named | Count::Dataset => (true, None),
            Count::One | Count::Optional => (false, Some(1)),
        };
        // A thousand elements of one port are a thousand cases of the same rule; a hundred thousand are a mistake.
        let made = count.unwrap_or(1).min(4096);
        let each = (0..made).map(|element| self.offer(index, port, list, count, element)).collect();
        let absent = self.draft.is_set("optional") || !self.draft.absent.is_empty();
        let may_be_absent = port.count == Count::Optional && absent;
        ResolvedOutput { port: port.name.clone(), list, count, each, may_be_absent }
    }

    fn offer(&mut self, index: usize, port: &PortSpec, list: bool, count: Option<usize>, element: usize) -> Offer {
        let mut offer = Offer::empty();
        if let Some((input, _)) = &port.caps.like {
            let links = self.links_of(input);
            let nth = if matches!(&port.count, Count::Like(of) if of == input) { element } else { 0 };
            offer = links.get(nth).map(|l| l.offer.clone()).unwrap_or_else(Offer::unknown);
            for key in &port.caps.without {
                if key == "grid" {
                    offer.grid = Grid::None;
                }
                offer.keys.shift_remove(key);
            }
        }
        let shadowed = self.spec.input(&port.name).is_some();
        for key in KEYS.into_iter().filter(|k| *k != "grid") {
            let said = port.caps.keys.get(key).map(|c| (&c.term, &c.at));
            let card = self.card_cap(|c| c.card.output_caps(&port.name, shadowed, index == 0)?.get(key));
            let known = match (said, card) {
                (None, None) => continue,
                (None | Some((Term::Card, _)), Some((card, cap))) => Some(by_card(card, cap)),
                // Left to a card that does not say: what `like` brought stands.
                (Some((Term::Card, _)), None) if offer.keys.contains_key(key) || offer.wild => continue,
                (Some((Term::Card, at)), None) => {
                    Some(self.card_is_silent(key, at, &format!("output `{}`", port.name)))
                }
                (Some((Term::Param(name), _)), Some((card, cap))) if key == "labels" => {
                    Some(self.chosen_labels(name, card, cap))
                }
                (Some((term, at)), None) => self.resolve_term(key, term, at),
                (Some((term, at)), Some((card, cap))) => {
                    let own = self.resolve_term(key, term, at);
                    Some(self.narrow(key, own, at, &card, &cap))
                }
            };
            match known {
                Some(known) => {
                    let known = self.ordered_window(key, known);
                    offer.keys.insert(key.to_owned(), known);
                }
                None => {
                    offer.keys.shift_remove(key);
                }
            }
        }
        self.identity(port, &mut offer);
        self.synthetic(port, &mut offer);
        self.grid(port, &mut offer, list, count, element);
        offer
    }

    /// Labels that a parameter chooses from those the weights give: all of them where it chooses none.
    fn chosen_labels(&mut self, param: &str, card: String, cap: CardCap) -> Known {
        let chosen = self.draft.params.get(param).and_then(Json::as_array).filter(|names| !names.is_empty());
        let Some(chosen) = chosen else { return by_card(card, cap) };
        let at = self.draft.param_at(param);
        let given: Vec<&str> = cap.value.as_array().into_iter().flatten().filter_map(Json::as_str).collect();
        let unknown = chosen.iter().filter_map(Json::as_str).find(|name| !given.contains(name));
        let Some(unknown) = unknown else { return Known::new(Cap::Value(json!(chosen)), &at) };
        let mut diagnostic = Diagnostic::error(
            "card-mismatch",
            format!("the weights of `{card}` know no label `{unknown}`"),
            at.label("asked for here"),
        )
        .with(cap.at.label(format!("they know {}", given.join(", "))));
        if let Some(close) = crate::diagnostic::closest(unknown, given.iter().copied()) {
            diagnostic = diagnostic.help(format!("did you mean `{close}`?"));
        }
        self.diagnostics.push(diagnostic);
        Known::unknown(&at)
    }

    /// A window that parameters turned round is reported where the parameter stands.
    fn ordered_window(&mut self, key: &str, known: Known) -> Known {
        if let ("window", Cap::Value(Json::Array(ends))) = (key, &known.cap)
            && let [low, high] = ends.as_slice()
            && low.as_f64() >= high.as_f64()
        {
            self.diagnostics.push(Diagnostic::error(
                "parameter-range",
                format!("the window of node `{}` starts at {low} and ends at {high}", self.draft.id()),
                known.at.label("the lower end must come first"),
            ));
            return Known::unknown(&known.at);
        }
        known
    }

    /// Not stated: the worst of all inputs; of a source: present.
    fn identity(&self, port: &PortSpec, offer: &mut Offer) {
        if port.caps.keys.contains_key("identity") {
            return;
        }
        let arrived = self.inputs.iter().flat_map(|i| &i.links).map(|l| &l.offer);
        let cap = worst_identity(arrived).unwrap_or(Cap::Value(json!("present")));
        offer.keys.insert("identity".to_owned(), Known::new(cap, &port.at));
    }

    /// Images and labels are synthetic if anything they come from is, or a card of the stage says so; nothing but a payload
    /// of another kind can state otherwise.
    fn synthetic(&self, port: &PortSpec, offer: &mut Offer) {
        let voxels = port.caps.like.is_some() || port.is_gridded();
        let stated = match self.resolve_stated("synthetic", port) {
            Some(Cap::Value(v)) => v.as_bool(),
            _ => None,
        };
        if !voxels && stated.is_some() {
            return;
        }
        let card = self.draft.checkpoints.values().any(|c| c.card.nature == Nature::Synthetic);
        let arrived = self.inputs.iter().flat_map(|i| &i.links).map(|l| l.offer.cap("synthetic"));
        let mut doubt = !self.draft.doubtful.is_empty() && self.spec.checkpoint_params().next().is_some();
        let mut synthetic = card || stated == Some(true);
        for cap in arrived {
            match cap {
                Some(Cap::Value(v)) => synthetic |= v == true,
                Some(Cap::Unknown) => doubt = true,
                _ => {}
            }
        }
        let cap = if synthetic || !doubt { Cap::Value(json!(synthetic)) } else { Cap::Unknown };
        offer.keys.insert("synthetic".to_owned(), Known::new(cap, &port.at));
    }

    fn resolve_stated(&self, key: &str, port: &PortSpec) -> Option<Cap> {
        let cap = port.caps.keys.get(key)?;
        self.resolve_term(key, &cap.term, &cap.at).map(|k| k.cap)
    }

    fn grid(&self, port: &PortSpec, offer: &mut Offer, list: bool, count: Option<usize>, element: usize) {
        let own = || {
            let base = format!("{}.{}", self.draft.id(), port.name);
            if list && count != Some(1) { format!("{base}.{element}") } else { base }
        };
        let of = |input: &str| self.links_of(input).first().map_or(Grid::Unknown, |l| l.offer.grid.clone());
        match port.caps.keys.get("grid").map(|c| &c.term) {
            Some(Term::NewGrid) => offer.grid = Grid::Token(GridToken(own())),
            Some(Term::SameGrid(input)) => offer.grid = of(input),
            Some(Term::SubGrid(input)) => {
                offer.grid = match of(input) {
                    Grid::Token(token) => Grid::Token(GridToken(format!("{}/{}", token.0, own()))),
                    other => other,
                }
            }
            _ => {}
        }
    }
}

fn by_card(card: String, cap: CardCap) -> Known {
    Known { cap: Cap::Value(cap.value), at: cap.at, card: Some(card) }
}

/// Does what a stage takes (`own`) permit what its card says?
fn permits(key: &str, own: &Json, card: &Json) -> bool {
    let alternatives = |v: &Json| match v {
        Json::Array(items) if is_set_key(key) => items.clone(),
        other => vec![other.clone()],
    };
    let own = alternatives(own);
    alternatives(card).iter().all(|c| own.iter().any(|o| matching::same(key, o, c)))
}
