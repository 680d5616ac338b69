//! `gantry inspect STAGE|FILE`: a stage's ports, caps and parameters; a plugin folder; a checkpoint's card.

mod segmentation;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use clap::Args;
use comfy_table::{Table, presets};
use gantry_weights::nnunet::ARCHITECTURE;
use serde_json::{Map, Value as Json, json};

use crate::diagnostic::{Diagnostic, Sources, did_you_mean};
use crate::registry::caps::{CapsSpec, Term};
use crate::registry::card::Card;
use crate::registry::model::megabytes;
use crate::registry::{
    CheckpointRef, Count, Origin, ParamKind, ParamSpec, PluginFolder, PortSpec, Refused, Registry, StageSpec, View,
    read_plugin,
};

use self::segmentation::Models;
use super::places::PlacesArgs;
use super::reply::{Reply, colour};

/// Arguments of `gantry inspect`.
#[derive(Debug, Clone, Args)]
pub struct InspectArgs {
    /// A stage, a checkpoint, or the path of a plugin's or checkpoint's folder or document
    #[arg(value_name = "STAGE|FILE")]
    pub what: String,
    /// As JSON
    #[arg(long)]
    pub json: bool,
    /// Hide paths, and what a card says of the data it was trained with
    #[arg(long)]
    pub redact: bool,
    /// Where things are installed.
    #[command(flatten)]
    pub places: PlacesArgs,
}

/// Shows one thing. Exit code 0; 2 where there is no such thing or its document is wrong (each reason on stderr).
pub fn run(args: &InspectArgs) -> Reply {
    let mut sources = Sources::new();
    let path = Path::new(&args.what);
    let looks_like_path = args.what.contains(['/', '\\']) || path.exists();
    if looks_like_path && let Some(folder) = document_folder(path, "plugin.toml") {
        return match read_plugin(&folder, &mut sources) {
            Ok(plugin) => show(args, || plugin_json(&plugin, args.redact), || plugin_text(&plugin, args.redact)),
            Err(refused) => refusal(args, &refused, &sources),
        };
    }
    if looks_like_path && let Some(folder) = document_folder(path, "card.toml") {
        return match CheckpointRef::read(&folder, &mut sources) {
            Ok(checkpoint) => card(args, &checkpoint, &args.places.open(&mut sources)),
            Err(refused) => refusal(args, &refused, &sources),
        };
    }
    let registry = args.places.open(&mut sources);
    if let Some(entry) = registry.stages.get(&args.what) {
        let origin = match &entry.origin {
            Origin::Builtin => "built in".to_owned(),
            Origin::Plugin(p) if args.redact => format!("plugin {} {}", p.manifest.id, p.manifest.version),
            Origin::Plugin(p) => format!("plugin {} {}, {}", p.manifest.id, p.manifest.version, p.path.display()),
        };
        return show(args, || stage_json(&entry.spec, &origin), || stage_text(&entry.spec, &origin));
    }
    if let Some(checkpoint) = registry.checkpoints.get(&args.what) {
        return card(args, checkpoint, &registry);
    }
    if let Some(refused) = registry.refused.iter().find(|r| r.would_give.contains(&args.what)) {
        return refusal(args, refused, &sources);
    }
    let known = registry.stages.keys().chain(registry.checkpoints.keys()).map(String::as_str);
    let help =
        did_you_mean(&args.what, "stages and checkpoints", known).map(|h| format!("\nhelp: {h}")).unwrap_or_default();
    Reply::refuse(2, format!("there is no stage, checkpoint or document `{}`{help}", args.what))
}

/// The folder of `document`, for a path that is the folder, the document, or another file beside it.
fn document_folder(path: &Path, document: &str) -> Option<PathBuf> {
    let folder = if path.is_dir() {
        path
    } else {
        path.parent().map(|p| if p.as_os_str().is_empty() { Path::new(".") } else { p })?
    };
    folder.join(document).is_file().then(|| folder.to_owned())
}

fn show(args: &InspectArgs, json: impl Fn() -> Json, text: impl Fn() -> String) -> Reply {
    let stdout = if args.json { format!("{:#}\n", json()) } else { text() };
    Reply { stdout, ..Reply::default() }
}

fn card(args: &InspectArgs, checkpoint: &CheckpointRef, registry: &Registry) -> Reply {
    let architecture = checkpoint.card.architecture.as_str();
    let models = (architecture == ARCHITECTURE).then(|| Models::read(&checkpoint.path));
    let stages: Vec<&str> = registry
        .stages
        .iter()
        .filter(|(_, e)| e.spec.checkpoint_params().any(|p| p.architecture.as_deref() == Some(architecture)))
        .map(|(id, _)| id.as_str())
        .collect();
    let json = || {
        let mut out = checkpoint_json(checkpoint, args.redact);
        out["stages"] = json!(stages);
        out["bytes"] = json!(checkpoint.bytes_on_disk());
        match &models {
            Some(Ok(models)) => out["segmentation"] = models.json(),
            Some(Err(why)) => out["wrong"] = json!(why),
            None => {}
        }
        out
    };
    let text = || {
        let mut out = checkpoint_text(checkpoint, args.redact);
        match &models {
            Some(Ok(models)) => out += &models.text(),
            Some(Err(why)) => out += &format!("\nWRONG {why}\n"),
            None => {}
        }
        let by = if stages.is_empty() { "no installed stage".to_owned() } else { stages.join(", ") };
        out + &format!("\nrun by {by}; {} on disk\n", megabytes(checkpoint.bytes_on_disk()))
    };
    Reply { code: if matches!(models, Some(Err(_))) { 4 } else { 0 }, ..show(args, json, text) }
}

fn refusal(args: &InspectArgs, refused: &Refused, sources: &Sources) -> Reply {
    if args.redact {
        // Messages name what is wrong; where the document lies, and its lines, stay hidden.
        let path = refused.path.display().to_string();
        let message = |d: &Diagnostic| d.message.replace(&path, "the folder");
        let found = refused.reasons.iter().map(|d| json!({ "code": d.code, "message": message(d) }));
        let out = json!({ "path": null, "ok": false, "diagnostics": found.collect::<Vec<_>>() });
        let words = refused.reasons.iter().map(|d| format!("{}[{}]: {}\n", d.severity.as_str(), d.code, message(d)));
        return match args.json {
            true => Reply { stdout: format!("{out:#}\n"), stderr: String::new(), code: 2 },
            false => Reply { stdout: String::new(), stderr: words.collect(), code: 2 },
        };
    }
    if args.json {
        let found: Vec<Json> = refused.reasons.iter().map(|d| sources.to_json(d)).collect();
        let out = json!({ "path": refused.path, "ok": false, "diagnostics": found });
        return Reply { stdout: format!("{out:#}\n"), stderr: String::new(), code: 2 };
    }
    Reply { stdout: String::new(), stderr: sources.render(&refused.reasons, colour()), code: 2 }
}

fn count_text(count: &Count) -> String {
    match count {
        Count::One => "one".into(),
        Count::Optional => "optional".into(),
        Count::Many => "many".into(),
        Count::Named => "named".into(),
        Count::Dataset => "dataset".into(),
        Count::Param(p) => format!("${p}"),
        Count::Like(i) => format!("like:{i}"),
    }
}

fn term_json(term: &Term) -> Json {
    match term {
        Term::Literal(json) => json.clone(),
        Term::Param(p) => json!(format!("${p}")),
        Term::Input { port, key } => json!(format!("@{port}.{key}")),
        Term::Card => json!("card"),
        Term::Any => json!("any"),
        Term::Dynamic => json!("dynamic"),
        Term::List(items) => Json::Array(items.iter().map(term_json).collect()),
        Term::NewGrid => json!("new"),
        Term::SameGrid(i) => json!(format!("same:{i}")),
        Term::SubGrid(i) => json!(format!("sub:{i}")),
        Term::LatticeGrid(i) => json!(format!("lattice:{i}")),
        Term::FrameGrid(i) => json!(format!("frame:{i}")),
    }
}

fn caps_json(caps: &CapsSpec) -> Json {
    let mut out = Map::new();
    if let Some((input, _)) = &caps.like {
        out.insert("like".into(), json!(input));
    }
    if !caps.without.is_empty() {
        out.insert("without".into(), json!(caps.without));
    }
    out.extend(caps.keys.iter().map(|(key, cap)| (key.clone(), term_json(&cap.term))));
    Json::Object(out)
}

fn caps_text(caps: &CapsSpec) -> String {
    let plain = |v: &Json| v.as_str().map_or_else(|| v.to_string(), str::to_owned);
    match caps_json(caps) {
        Json::Object(map) => map.iter().map(|(k, v)| format!("{k} {}", plain(v))).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

fn port_json(port: &PortSpec) -> Json {
    let view = match port.view {
        View::Pixels => "pixels",
        View::Headers => "headers",
        View::Both => "both",
    };
    json!({
        "name": port.name, "count": count_text(&port.count), "min": port.min, "max": port.max, "view": view,
        "when": port.when.as_ref().map(|p| format!("${p}")), "host": port.host,
        "size": if port.size_from_data { "data" } else { "caps" }, "caps": caps_json(&port.caps),
    })
}

fn param_json(param: &ParamSpec) -> Json {
    let of = match &param.kind {
        ParamKind::Choice(of) => json!(of),
        ParamKind::List(of) => json!(of.word()),
        _ => Json::Null,
    };
    json!({
        "name": param.name, "type": param.kind.word(), "of": of, "min": param.min, "max": param.max,
        "multiple_of": param.multiple_of, "unit": param.unit, "choices": param.choices, "default": param.default,
        "required": param.default.is_none(), "architecture": param.architecture, "optional": param.optional, "help": param.help,
    })
}

fn stage_json(spec: &StageSpec, origin: &str) -> Json {
    json!({
        "stage": spec.id, "version": spec.version, "summary": spec.summary, "licence": spec.licence, "origin": origin,
        "scope": spec.scope.word(), "devices": spec.devices, "effects": spec.effects, "services": spec.services,
        "extensions": spec.extensions, "sees_identity": spec.sees_identity(),
        "inputs": spec.inputs.iter().map(port_json).collect::<Vec<_>>(),
        "outputs": spec.outputs.iter().map(port_json).collect::<Vec<_>>(),
        "params": spec.params.values().map(param_json).collect::<Vec<_>>(),
    })
}

fn table(rows: Vec<Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    for row in rows {
        table.add_row(row);
    }
    table.trim_fmt() + "\n"
}

fn stage_text(spec: &StageSpec, origin: &str) -> String {
    let mut out = format!("{} {} ({origin})\n{}\n", spec.id, spec.version, spec.summary);
    let _ = writeln!(out, "scope {}, devices {}, licence {}", spec.scope.word(), spec.devices.join(" "), spec.licence);
    for (what, list) in [("effects", &spec.effects), ("services", &spec.services), ("extensions", &spec.extensions)] {
        if !list.is_empty() {
            let _ = writeln!(out, "{what} {}", list.join(" "));
        }
    }
    if spec.sees_identity() {
        out.push_str("sees headers: the text of its reports is held back\n");
    }
    for (what, ports) in [("inputs", &spec.inputs), ("outputs", &spec.outputs)] {
        if !ports.is_empty() {
            let rows = ports.iter().map(|p| vec![p.name.clone(), count_text(&p.count), caps_text(&p.caps)]).collect();
            let _ = write!(out, "\n{what}\n{}", table(rows));
        }
    }
    if !spec.params.is_empty() {
        let rows = spec.params.values().map(param_row).collect();
        let _ = write!(out, "\nparameters\n{}", table(rows));
    }
    out
}

fn param_row(param: &ParamSpec) -> Vec<String> {
    let kind = match &param.kind {
        ParamKind::Choice(of) => of.join(" | "),
        ParamKind::List(of) => format!("list of {}", of.word()),
        other => other.word().to_owned(),
    };
    let range =
        if param.min.is_some() || param.max.is_some() { param.range() } else { param.unit.clone().unwrap_or_default() };
    let default = param.default.as_ref().map_or_else(|| "required".to_owned(), |d| format!("default {d}"));
    vec![param.name.clone(), kind, range, default, param.help.clone().unwrap_or_default()]
}

fn plugin_json(plugin: &PluginFolder, redact: bool) -> Json {
    let m = &plugin.manifest;
    let path = (!redact).then_some(&plugin.path);
    let library = (!redact).then_some(&plugin.library);
    json!({
        "plugin": m.id, "version": m.version, "vendor": m.vendor, "licence": m.licence, "abi": m.abi, "path": path,
        "library": library, "library_present": plugin.library.is_file(),
        "sha256": plugin.hashes().ok().map(|h| h.digest.clone()), "files": plugin.hashes().ok().map(|h| h.files.clone()),
        "stages": m.stages.values().map(|s| stage_json(s, &m.id)).collect::<Vec<_>>(),
    })
}

fn plugin_text(plugin: &PluginFolder, redact: bool) -> String {
    let m = &plugin.manifest;
    let mut out = format!("plugin {} {} by {}, ABI {}, licence {}\n", m.id, m.version, m.vendor, m.abi, m.licence);
    let there = if plugin.library.is_file() { "" } else { " (not there)" };
    if !plugin.library.as_os_str().is_empty() {
        let shown = match redact {
            true => plugin.library.file_name().map(Path::new).unwrap_or(&plugin.library),
            false => &plugin.library,
        };
        let _ = writeln!(out, "library {}{there}", shown.display());
    }
    match plugin.hashes() {
        Ok(hashes) => {
            let _ = writeln!(out, "sha256 {} over {} files", hashes.digest, hashes.files.len());
        }
        Err(words) => {
            let _ = writeln!(out, "cannot be hashed: {words}");
        }
    }
    for spec in m.stages.values() {
        let _ = write!(out, "\n{}", stage_text(spec, &format!("plugin {}", m.id)));
    }
    out
}

fn caps_of_card(card: &Card) -> Vec<(String, String)> {
    let mut rows = Vec::new();
    for (port, caps) in &card.caps {
        let mut parts: Vec<String> = caps.iter().map(|(k, cap)| format!("{k} {}", cap.value)).collect();
        parts.extend(card.names.get(port).map(|(names, _)| format!("names {}", json!(names))));
        rows.push((port.clone(), parts.join(", ")));
    }
    rows
}

fn checkpoint_json(checkpoint: &CheckpointRef, redact: bool) -> Json {
    let missing: Vec<&str> = checkpoint.missing_files().iter().map(|f| f.path.as_str()).collect();
    let mut card = checkpoint.card.json.clone();
    if let (true, Some(card)) = (redact, card.as_object_mut()) {
        card.shift_remove("trained_with");
    }
    let path = (!redact).then_some(&checkpoint.path);
    json!({ "checkpoint": checkpoint.name, "path": path, "missing": missing, "card": card })
}

fn checkpoint_text(checkpoint: &CheckpointRef, redact: bool) -> String {
    let card = &checkpoint.card;
    let toy = if card.toy { ", a toy: phantoms only" } else { "" };
    let place = if redact { String::new() } else { format!(" ({})", checkpoint.path.display()) };
    let mut out = format!("checkpoint {}{place}{toy}\n{}\n", card.name, card.summary);
    let _ =
        writeln!(out, "architecture {}, output {}, licence {}", card.architecture, card.nature.word(), card.licence);
    let trained_with = if redact { "hidden" } else { card.trained_with.as_str() };
    let _ = writeln!(out, "trained with: {trained_with}\nintended use: {}", card.intended_use);
    let missing = checkpoint.missing_files();
    let files = card.files.iter().map(|f| {
        let there = if missing.contains(&f) { "not there" } else { "" };
        vec![f.path.clone(), f.sha256.clone(), there.to_owned()]
    });
    let _ = write!(out, "\nfiles\n{}", table(files.collect()));
    let rows: Vec<Vec<String>> = caps_of_card(card).into_iter().map(|(port, caps)| vec![port, caps]).collect();
    if !rows.is_empty() {
        let _ = write!(out, "\ncaps\n{}", table(rows));
    }
    out
}
