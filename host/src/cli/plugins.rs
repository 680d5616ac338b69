//! `gantry plugins list|lock|verify`: what was searched, found, refused and shadowed; pinning it, and proving the pins.
//! Reads documents and hashes files; opens no library.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::{Value as Json, json};

use crate::diagnostic::Sources;
use crate::registry::lock::Lock;
use crate::registry::{Origin, PluginFolder, Registry};

use super::places::{PlacesArgs, SiteArgs};
use super::reply::{Reply, colour};

/// Arguments of `gantry plugins`.
#[derive(Debug, Clone, Args)]
pub struct PluginsArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: PluginsCommand,
}

/// The verbs of `gantry plugins`.
#[derive(Debug, Clone, Subcommand)]
pub enum PluginsCommand {
    /// Show where was searched, what was found, what was refused and why, and which copy hides which
    List(ListArgs),
    /// Pin the sha256 of every file of every plugin found
    Lock(LockArgs),
    /// Compare what is installed with the lock
    Verify(LockArgs),
}

/// Arguments of `gantry plugins list`.
#[derive(Debug, Clone, Default, Args)]
pub struct ListArgs {
    /// As JSON
    #[arg(long)]
    pub json: bool,
    /// Where things are installed.
    #[command(flatten)]
    pub places: PlacesArgs,
}

/// Arguments of `gantry plugins lock` and `verify`.
#[derive(Debug, Clone, Default, Args)]
pub struct LockArgs {
    /// Lock file [default: plugins.lock beside the site configuration, else in the working folder]
    #[arg(long, value_name = "FILE")]
    pub lock: Option<PathBuf>,
    /// As JSON
    #[arg(long)]
    pub json: bool,
    /// Where things are installed.
    #[command(flatten)]
    pub places: PlacesArgs,
    /// What the site lays down.
    #[command(flatten)]
    pub site: SiteArgs,
}

/// Runs one of the verbs. Exit code 0; 4 where something is not the pinned one; 3 for what cannot be read or written.
pub fn run(args: &PluginsArgs) -> Reply {
    match &args.command {
        PluginsCommand::List(args) => list(args),
        PluginsCommand::Lock(args) => lock(args),
        PluginsCommand::Verify(args) => verify(args),
    }
}

fn stages_of(plugin: &PluginFolder) -> Vec<&str> {
    plugin.manifest.stages.keys().map(String::as_str).collect()
}

fn list(args: &ListArgs) -> Reply {
    let mut sources = Sources::new();
    let registry = args.places.open(&mut sources);
    if args.json {
        return Reply { stdout: format!("{:#}\n", list_json(&registry, &sources)), ..Reply::default() };
    }
    let mut reply = Reply::default();
    let mut say = |line: String| {
        reply.stdout.push_str(&line);
        reply.stdout.push('\n');
    };
    say("searched".to_owned());
    for place in &registry.searched {
        let exists = if place.exists() { "" } else { ", not there" };
        say(format!("  {:11} {} ({}{exists})", place.what, place.path.display(), place.why));
    }
    let builtin: Vec<&str> = registry
        .stages
        .iter()
        .filter(|(_, e)| matches!(e.origin, Origin::Builtin))
        .map(|(id, _)| id.as_str())
        .collect();
    say(format!("built in\n  {}", builtin.join(", ")));
    say(format!("plugins ({})", registry.plugins.len()));
    for plugin in &registry.plugins {
        let m = &plugin.manifest;
        let missing =
            if plugin.library.as_os_str().is_empty() || plugin.library.is_file() { "" } else { " (library missing)" };
        say(format!("  {} {}: {}  {}{missing}", m.id, m.version, stages_of(plugin).join(", "), plugin.path.display()));
    }
    say(format!("checkpoints ({})", registry.checkpoints.len()));
    for checkpoint in registry.checkpoints.values() {
        let toy = if checkpoint.card.toy { ", toy" } else { "" };
        let missing = if checkpoint.missing_files().is_empty() { "" } else { ", weights missing" };
        let architecture = &checkpoint.card.architecture;
        say(format!("  {}: {architecture}{toy}{missing}  {}", checkpoint.name, checkpoint.path.display()));
    }
    for shadowed in &registry.shadowed {
        say(format!("hidden: {} in {}, by {}", shadowed.name, shadowed.path.display(), shadowed.by));
    }
    for refused in &registry.refused {
        say(format!("refused: {}", refused.path.display()));
    }
    for refused in &registry.refused {
        reply.stderr.push_str(&sources.render(&refused.reasons, colour()));
    }
    reply
}

fn list_json(registry: &Registry, sources: &Sources) -> Json {
    json!({
        "searched": registry.searched.iter()
            .map(|p| json!({ "path": p.path, "what": p.what, "why": p.why, "exists": p.exists() })).collect::<Vec<_>>(),
        "builtin": registry.stages.iter().filter(|(_, e)| matches!(e.origin, Origin::Builtin))
            .map(|(id, e)| json!({ "stage": id, "version": e.spec.version })).collect::<Vec<_>>(),
        "plugins": registry.plugins.iter().map(|p| json!({
            "id": p.manifest.id, "version": p.manifest.version, "vendor": p.manifest.vendor, "abi": p.manifest.abi,
            "path": p.path, "library": p.library, "library_present": p.library.is_file(), "stages": stages_of(p),
        })).collect::<Vec<_>>(),
        "checkpoints": registry.checkpoints.values().map(|c| json!({
            "name": c.name, "architecture": c.card.architecture, "toy": c.card.toy, "path": c.path,
            "weights_present": c.missing_files().is_empty(),
        })).collect::<Vec<_>>(),
        "shadowed": registry.shadowed.iter()
            .map(|s| json!({ "name": s.name, "path": s.path, "by": s.by })).collect::<Vec<_>>(),
        "refused": registry.refused.iter().map(|r| json!({
            "path": r.path, "would_give": r.would_give,
            "diagnostics": r.reasons.iter().map(|d| sources.to_json(d)).collect::<Vec<_>>(),
        })).collect::<Vec<_>>(),
    })
}

fn open(args: &LockArgs, sources: &mut Sources) -> Result<(Registry, PathBuf), String> {
    let mut findings = Vec::new();
    let site = args.site.open(sources, &mut findings)?;
    if crate::diagnostic::any_error(&findings) {
        return Err(sources.render(&findings, false));
    }
    Ok((args.places.open(sources), Lock::place(args.lock.as_deref(), &site)))
}

fn lock(args: &LockArgs) -> Reply {
    let mut sources = Sources::new();
    let (registry, path) = match open(args, &mut sources) {
        Ok(opened) => opened,
        Err(words) => return Reply::refuse(2, words),
    };
    let lock = match Lock::of(&registry) {
        Ok(lock) => lock,
        Err(words) => return Reply::refuse(4, words),
    };
    if let Err(words) = lock.write(&path) {
        return Reply::refuse(3, words);
    }
    let stdout = if args.json {
        let plugins: Vec<Json> = lock
            .plugin
            .iter()
            .map(
                |p| json!({ "name": p.name, "version": p.version, "abi": p.abi, "sha256": p.sha256, "files": p.files }),
            )
            .collect();
        format!("{:#}\n", json!({ "lock": path, "plugins": plugins }))
    } else {
        let each: String = lock.plugin.iter().map(|p| format!("{} {} {}\n", p.name, p.version, p.sha256)).collect();
        format!("{each}{}: {} plugins pinned\n", path.display(), lock.plugin.len())
    };
    Reply { stdout, ..Reply::default() }
}

fn verify(args: &LockArgs) -> Reply {
    let mut sources = Sources::new();
    let (registry, path) = match open(args, &mut sources) {
        Ok(opened) => opened,
        Err(words) => return Reply::refuse(2, words),
    };
    let lock = match Lock::read(&path) {
        Ok(lock) => lock,
        Err(words) => return Reply::refuse(if path.is_file() { 4 } else { 3 }, words),
    };
    let mut rows: Vec<(String, &str, Vec<String>)> = Vec::new();
    for pinned in &lock.plugin {
        match registry.plugins.iter().find(|p| p.manifest.id == pinned.name).map(|p| p.hashes()) {
            None => rows.push((pinned.name.clone(), "missing", vec!["pinned, and not installed".to_owned()])),
            Some(Ok(now)) if now.digest == pinned.sha256 => rows.push((pinned.name.clone(), "pinned", Vec::new())),
            Some(Ok(now)) => rows.push((pinned.name.clone(), "changed", pinned.differences(now))),
            Some(Err(words)) => rows.push((pinned.name.clone(), "unreadable", vec![words.to_owned()])),
        }
    }
    for plugin in registry.plugins.iter().filter(|p| lock.pinned(&p.manifest.id).is_none()) {
        rows.push((plugin.manifest.id.clone(), "not pinned", Vec::new()));
    }
    let bad = rows.iter().any(|(_, state, _)| matches!(*state, "missing" | "changed" | "unreadable"));
    let stdout = if args.json {
        let plugins: Vec<Json> =
            rows.iter().map(|(name, state, why)| json!({ "name": name, "state": state, "differences": why })).collect();
        format!("{:#}\n", json!({ "lock": path, "ok": !bad, "plugins": plugins }))
    } else {
        let line = |(name, state, why): &(String, &str, Vec<String>)| match why.as_slice() {
            [] => format!("{name}: {state}\n"),
            why => format!("{name}: {state}: {}\n", why.join(", ")),
        };
        rows.iter().map(line).collect()
    };
    Reply { stdout, stderr: String::new(), code: if bad { 4 } else { 0 } }
}
