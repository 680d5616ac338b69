//! `gantry check PIPELINE...`: every static error at once. Runs no plugin code and opens no library.

use std::path::PathBuf;

use clap::Args;
use serde_json::{Value as Json, json};

use crate::diagnostic::{Diagnostic, Sources, any_error};
use crate::graph::{self, Graph};
use crate::pipeline::Document;
use crate::registry::lock::Lock;
use crate::registry::site::Toys;
use crate::registry::{Registry, Site};

use super::places::{PlacesArgs, Precision, SiteArgs, why_unknown};
use super::reply::{Reply, colour};

/// Arguments of `gantry check`.
#[derive(Debug, Clone, Default, Args)]
pub struct CheckArgs {
    /// Pipelines to check
    #[arg(required = true, value_name = "PIPELINE")]
    pub pipelines: Vec<PathBuf>,
    /// Change a parameter (may be given several times)
    #[arg(long, value_name = "NODE.PARAM=VALUE")]
    pub set: Vec<String>,
    /// Arithmetic of networks, where the pipeline does not say it [default: the site's, else auto]
    #[arg(long, value_enum)]
    pub precision: Option<Precision>,
    /// Hash the plugins and weights in use, and compare them with the lock and the cards
    #[arg(long)]
    pub deep: bool,
    /// Results as JSON on stdout
    #[arg(long)]
    pub json: bool,
    /// Accept toy checkpoints without a warning
    #[arg(long)]
    pub allow_toy: bool,
    /// The site's pseudonym key
    #[arg(long, value_name = "FILE")]
    pub key: Option<PathBuf>,
    /// Lock file [default: plugins.lock beside the site configuration, else in the working folder]
    #[arg(long, value_name = "FILE")]
    pub lock: Option<PathBuf>,
    /// Where things are installed.
    #[command(flatten)]
    pub places: PlacesArgs,
    /// What the site lays down.
    #[command(flatten)]
    pub site: SiteArgs,
}

/// Findings that mean that something installed is not what it is said to be.
const INTEGRITY: [&str; 3] = ["lock-mismatch", "lock-unreadable", "weights-mismatch"];

/// Checks each pipeline. Exit code 0, 2 for errors in documents or against the site's policy, 4 where nothing but hashes
/// are wrong, 3 for a file that cannot be read.
pub fn run(args: &CheckArgs) -> Reply {
    let mut sources = Sources::new();
    let mut site_findings = Vec::new();
    let mut site = match args.site.open(&mut sources, &mut site_findings) {
        Ok(site) => site,
        Err(words) => return Reply::refuse(3, words),
    };
    if let Some(key) = &args.key {
        site.key_file = Some(key.clone());
        site.key_at = None;
    }
    site.ask_precision(args.precision.map(Precision::word));
    site.toys = if args.allow_toy { Toys::Allow } else { Toys::Warn };
    let registry = args.places.open(&mut sources);
    let lock = Lock::place(args.lock.as_deref(), &site);
    let mut checked = Vec::new();
    for path in &args.pipelines {
        let mut found = Vec::new();
        let document = match Document::load(path, &args.set, &mut sources, &mut found) {
            Ok(document) => document,
            Err(error) => return Reply::refuse(3, format!("{}: {error}", path.display())),
        };
        let graph = document.and_then(|document| build(&document, &registry, &site, &mut found));
        if let Some(graph) = &graph {
            found.extend(graph.check_pins(&site, &lock, args.deep));
        }
        checked.push((path.display().to_string(), graph, found));
    }
    let mut reply = answer(args, &sources, &site_findings, &checked);
    let found: Vec<Diagnostic> = checked.into_iter().flat_map(|(_, _, found)| found).collect();
    reply.stderr.push_str(&why_unknown(&found, || registry));
    reply
}

fn build(document: &Document, registry: &Registry, site: &Site, found: &mut Vec<Diagnostic>) -> Option<Graph> {
    let (graph, more) = graph::build(document, registry, site);
    found.extend(more);
    graph.filter(|_| !any_error(found))
}

type Checked = (String, Option<Graph>, Vec<Diagnostic>);

fn answer(args: &CheckArgs, sources: &Sources, site: &[Diagnostic], checked: &[Checked]) -> Reply {
    let errors: Vec<&Diagnostic> =
        site.iter().chain(checked.iter().flat_map(|(_, _, found)| found)).filter(|d| d.is_error()).collect();
    let code = match errors.as_slice() {
        [] => 0,
        all if all.iter().all(|d| INTEGRITY.contains(&d.code)) => 4,
        _ => 2,
    };
    if args.json {
        let list = |found: &[Diagnostic]| found.iter().map(|d| sources.to_json(d)).collect::<Vec<_>>();
        let pipelines: Vec<Json> = checked
            .iter()
            .map(|(name, graph, found)| {
                json!({
                    "file": name,
                    "ok": !any_error(found),
                    "nodes": graph.as_ref().map(|g| g.nodes.len()),
                    "digest": graph.as_ref().map(Graph::digest),
                    "undecided": graph.as_ref().map(undecided).unwrap_or_default(),
                    "diagnostics": list(found),
                })
            })
            .collect();
        let out = json!({ "ok": code == 0, "site": list(site), "pipelines": pipelines });
        return Reply { stdout: format!("{out:#}\n"), stderr: String::new(), code };
    }
    let mut reply = Reply { code, ..Reply::default() };
    reply.stderr.push_str(&sources.render(site, colour()));
    for (name, graph, found) in checked {
        reply.stderr.push_str(&sources.render(found, colour()));
        let errors = found.iter().filter(|d| d.is_error()).count();
        match (errors, graph) {
            (0, Some(graph)) => {
                reply.stdout.push_str(&format!("{name}: sound, {} nodes\n", graph.nodes.len()));
                for edge in undecided(graph) {
                    reply.stdout.push_str(&format!("{name}: decided in each case: {edge}\n"));
                }
            }
            (1, _) => reply.stdout.push_str(&format!("{name}: 1 error\n")),
            (n, _) => reply.stdout.push_str(&format!("{name}: {n} errors\n")),
        }
    }
    reply
}

/// The edges that only a case decides: `a.image -> b.image: labels`.
fn undecided(graph: &Graph) -> Vec<String> {
    let name = |node: usize, input: Option<usize>, output: Option<usize>| {
        let node = graph.nodes.get(node);
        let port = match (input, output) {
            (Some(i), _) => node.and_then(|n| n.inputs.get(i)).map(|p| p.port.as_str()),
            (_, Some(o)) => node.and_then(|n| n.outputs.get(o)).map(|p| p.port.as_str()),
            _ => None,
        };
        format!("{}.{}", node.map(|n| n.id.as_str()).unwrap_or_default(), port.unwrap_or_default())
    };
    let edges = graph.undecided.iter().map(|u| {
        let from = name(u.from, None, Some(u.output));
        let to = name(u.to, Some(u.input), None);
        format!("{from} -> {to}: {}", u.keys.join(", "))
    });
    edges.collect()
}
