//! What must hold between the keys of one stage: names that are referred to exist, values a parameter can take are legal
//! where it is used, and scope, ports and cases agree.

use crate::diagnostic::{At, Diagnostic};
use crate::pipeline::spanned::TomlTable;

use super::caps::{Side, Term, closed_set};
use super::manifest::{Cases, Halo, Scope, StageSpec};
use super::params::{ParamKind, ParamSpec};
use super::ports::{Count, Names, PortSpec, refuse};

/// Reports every violation in `spec`, whose table is `table`.
pub(super) fn check(spec: &StageSpec, table: &TomlTable, diagnostics: &mut Vec<Diagnostic>) {
    let key_at = |key: &str| table.get(key).map_or_else(|| spec.at.clone(), |e| e.value.at.clone());
    if spec.inputs.is_empty() && spec.outputs.is_empty() {
        refuse(diagnostics, &spec.at, format!("stage `{}` has neither inputs nor outputs", spec.id));
    }
    if let (Some(_), false) = (&spec.cases, spec.is_source()) {
        refuse(diagnostics, &key_at("cases"), "only a stage without required data inputs gives `cases`".to_owned());
    }
    if let Some(Cases::Param(param)) = &spec.cases {
        param_is(spec, param, &key_at("cases"), "an int", |k| *k == ParamKind::Int, diagnostics);
    }
    for (param, optional) in spec.checkpoint_params().filter_map(|p| Some((p, p.optional.as_ref()?))) {
        param_is(spec, optional, &param.at, "a bool", |k| *k == ParamKind::Bool, diagnostics);
        let is_bool = spec.params.get(optional).is_some_and(|p| p.kind == ParamKind::Bool);
        if let Some(port) = spec.outputs.iter().find(|port| is_bool && port.count != Count::Optional) {
            let text = format!(
                "output `{}` needs `count = \"optional\"`: checkpoint `{}` may be missing, and then there is none",
                port.name, param.name
            );
            refuse(diagnostics, &param.at, text);
        }
    }
    match (&spec.halo, spec.scope) {
        (None, Scope::Slab) => refuse(diagnostics, &key_at("scope"), "a slab stage needs `halo`".to_owned()),
        (Some(_), scope) if scope != Scope::Slab => {
            refuse(diagnostics, &key_at("halo"), format!("`halo` belongs to slab stages; this is `{}`", scope.word()))
        }
        (Some(Halo::Param(param)), _) => {
            param_is(spec, param, &key_at("halo"), "an int", |k| *k == ParamKind::Int, diagnostics)
        }
        _ => {}
    }
    for (port, side) in
        spec.inputs.iter().map(|p| (p, Side::Input)).chain(spec.outputs.iter().map(|p| (p, Side::Output)))
    {
        check_port(spec, port, side, diagnostics);
    }
    check_grids(spec, diagnostics);
}

fn check_port(spec: &StageSpec, port: &PortSpec, side: Side, diagnostics: &mut Vec<Diagnostic>) {
    if let Some(param) = &port.when {
        param_is(spec, param, &port.at, "a bool", |k| *k == ParamKind::Bool, diagnostics);
    }
    match &port.count {
        Count::Param(param) => param_is(spec, param, &port.at, "an int", |k| *k == ParamKind::Int, diagnostics),
        Count::Like(input) => input_is(spec, input, &port.at, diagnostics),
        Count::Dataset if spec.scope != Scope::Train => {
            refuse(diagnostics, &port.at, "`count = \"dataset\"` belongs to stages of scope \"train\"".to_owned())
        }
        _ => {}
    }
    if port.names == Some(Names::Card) {
        has_checkpoint(spec, &port.at, diagnostics);
    }
    if let Some((input, at)) = &port.caps.like {
        input_is(spec, input, at, diagnostics);
    }
    // The host carries headers along `like`. A stage that does not handle them cannot have removed anything from them.
    let claims_removed = !matches!(port.caps.literal_texts("identity").as_slice(), [] | ["present"]);
    if let (true, false, Some((_, at))) = (claims_removed, port.sees_headers(), &port.caps.like) {
        let input = port.caps.like.as_ref().and_then(|(name, _)| spec.input(name));
        if input.is_none_or(|(_, p)| p.caps.literal_texts("kind").contains(&"image")) {
            let text = format!(
                "output `{}` says that identity is gone, but the headers that follow `like` pass untouched: it needs \
                 `view = \"headers\"` or \"both\"",
                port.name
            );
            refuse(diagnostics, at, text);
        }
    }
    for (key, term, at) in port.caps.terms() {
        match term {
            Term::Param(param) => check_param_term(spec, key, param, at, diagnostics),
            Term::Input { port: input, .. } => input_is(spec, input, at, diagnostics),
            Term::Card => has_checkpoint(spec, at, diagnostics),
            Term::SameGrid(input) | Term::SubGrid(input) | Term::LatticeGrid(input) | Term::FrameGrid(input) => {
                input_is(spec, input, at, diagnostics);
                if side == Side::Input && *input == port.name {
                    refuse(diagnostics, at, format!("input `{input}` is compared with itself"));
                }
            }
            _ => {}
        }
    }
}

/// Slice and slab stages walk all their images together, and every image that leaves a stage lies on a known grid.
fn check_grids(spec: &StageSpec, diagnostics: &mut Vec<Diagnostic>) {
    for output in &spec.outputs {
        let kinds = output.caps.literal_texts("kind");
        let gridded = kinds.iter().any(|k| *k == "image" || *k == "labels");
        if gridded && output.caps.like.is_none() && !output.caps.keys.contains_key("grid") {
            refuse(
                diagnostics,
                &output.caps.at,
                format!("output `{}` needs `grid` (\"new\", \"same:<input>\", \"sub:<input>\") or `like`", output.name),
            );
        }
    }
    if !matches!(spec.scope, Scope::Slice | Scope::Slab) {
        return;
    }
    for input in spec.inputs.iter().filter(|p| p.is_gridded() && p.host.is_none()).skip(1) {
        if !matches!(input.caps.keys.get("grid").map(|c| &c.term), Some(Term::SameGrid(_))) {
            refuse(
                diagnostics,
                &input.caps.at,
                format!(
                    "input `{}` of a {} stage needs `grid = \"same:<input>\"`: its slices go with the first image's",
                    input.name,
                    spec.scope.word()
                ),
            );
        }
    }
}

fn param_is(
    spec: &StageSpec,
    name: &str,
    at: &At,
    what: &str,
    test: impl Fn(&ParamKind) -> bool,
    diagnostics: &mut Vec<Diagnostic>,
) {
    match spec.params.get(name) {
        None => refuse(diagnostics, at, format!("stage `{}` has no parameter `{name}`", spec.id)),
        Some(param) if !test(&param.kind) => {
            refuse(diagnostics, at, format!("parameter `{name}` is {}, but must be {what}", param.kind.word()))
        }
        Some(_) => {}
    }
}

fn input_is(spec: &StageSpec, name: &str, at: &At, diagnostics: &mut Vec<Diagnostic>) {
    if spec.input(name).is_none() {
        refuse(diagnostics, at, format!("stage `{}` has no input `{name}`", spec.id));
    }
}

fn has_checkpoint(spec: &StageSpec, at: &At, diagnostics: &mut Vec<Diagnostic>) {
    if spec.checkpoint_params().next().is_none() {
        refuse(diagnostics, at, format!("\"card\" needs a checkpoint parameter, and stage `{}` has none", spec.id));
    }
}

/// Every value the parameter permits must be legal for the key.
fn check_param_term(spec: &StageSpec, key: &str, name: &str, at: &At, diagnostics: &mut Vec<Diagnostic>) {
    let Some(param) = spec.params.get(name) else {
        refuse(diagnostics, at, format!("stage `{}` has no parameter `{name}`", spec.id));
        return;
    };
    if let Err(why) = legal_for(key, param) {
        refuse(diagnostics, at, format!("parameter `{name}` can take values that `{key}` cannot: {why}"));
    }
}

fn legal_for(key: &str, param: &ParamSpec) -> Result<(), String> {
    use ParamKind as K;
    if let Some(legal) = closed_set(key) {
        let permitted: &[String] = match &param.kind {
            K::Choice(of) => of,
            K::String if !param.choices.is_empty() => &param.choices,
            _ => return Err(format!("it must be a choice of {}", legal.join(", "))),
        };
        return match permitted.iter().find(|p| !legal.contains(&p.as_str())) {
            Some(bad) => Err(format!("\"{bad}\" is not one of {}", legal.join(", "))),
            None => Ok(()),
        };
    }
    let ok = match key {
        "window" => matches!(param.kind, K::Float | K::Int),
        "spacing_mm" => {
            let number = match &param.kind {
                K::List(of) => matches!(**of, K::Float | K::Int),
                kind => matches!(kind, K::Float | K::Int),
            };
            if number && param.min.is_none_or(|min| min <= 0.0) {
                return Err("a spacing is above 0; give the parameter a `min`".to_owned());
            }
            number
        }
        "channels" | "labels" => match &param.kind {
            K::List(of) => **of == K::String,
            kind => matches!(kind, K::String | K::Choice(_)),
        },
        "synthetic" => param.kind == K::Bool,
        "grid" => false,
        _ => matches!(param.kind, K::String | K::Choice(_)),
    };
    if ok { Ok(()) } else { Err(format!("it is {}", param.kind.word())) }
}
