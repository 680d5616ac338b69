//! `gantry test PIPELINE`: the `[[tests]]` of a pipeline, run on built-in phantoms in a folder that is gone afterwards.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use clap::Args;

use super::places::{PlacesArgs, SiteArgs};
use super::reply::{Reply, colour};
use super::run;
use crate::builtin::phantom::{self, NAMED, write_patient};
use crate::diagnostic::{Diagnostic, Sources, any_error, did_you_mean};
use crate::engine::expectations::{self, Probes};
use crate::engine::{Failure, RunOptions, Watcher, supervisor};
use crate::identity::Key;
use crate::pipeline::{Document, TestDoc};
use crate::plan::{Arithmetic, Request};

/// Arguments of `gantry test`.
#[derive(Debug, Clone, Args)]
pub struct TestArgs {
    /// The pipeline
    #[arg(value_name = "PIPELINE")]
    pub pipeline: PathBuf,
    /// Change a parameter (may be given several times)
    #[arg(long, value_name = "NODE.PARAM=VALUE")]
    pub set: Vec<String>,
    /// Accept toy checkpoints; on phantoms they always are
    #[arg(long)]
    pub allow_toy: bool,
    /// CPU threads [default: all]
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
    /// Where things are installed.
    #[command(flatten)]
    pub places: PlacesArgs,
    /// What the site lays down.
    #[command(flatten)]
    pub site: SiteArgs,
}

/// Remembers why cases failed.
#[derive(Default)]
struct Listener {
    failures: Mutex<Vec<String>>,
}

impl Watcher for Listener {
    fn remark(&self, _: &str) {}

    fn scanning(&self, _: usize) {}

    fn cases(&self, _: usize) {}

    fn case(&self, _: &str, failure: Option<&Failure>) {
        let words = failure.map(ToString::to_string);
        self.failures.lock().unwrap_or_else(|e| e.into_inner()).extend(words);
    }
}

/// Runs every test: exit code 0 if all pass, 1 if one does not; 2, 3 and 4 as `gantry run`.
pub fn run(args: &TestArgs) -> Reply {
    let text = match std::fs::read_to_string(&args.pipeline) {
        Ok(text) => text,
        Err(e) => return Reply::refuse(3, format!("{}: {e}", args.pipeline.display())),
    };
    let name = args.pipeline.display().to_string();
    let (mut sources, mut found) = (Sources::new(), Vec::new());
    let document = Document::parse(&name, &text, &args.set, &mut sources, &mut found);
    if let Some(document) = &document {
        found.extend(document.tests.iter().flat_map(|test| faults(document, test)));
    }
    let Some(document) = document.filter(|_| !any_error(&found)) else {
        return Reply { code: 2, stderr: sources.render(&found, colour()), ..Reply::default() };
    };
    let interrupt = match run::watch_signals() {
        Ok(interrupt) => interrupt,
        Err(e) => return Reply::refuse(3, format!("signals cannot be watched: {e}")),
    };
    let mut reply = Reply::default();
    let mut failed = 0;
    for test in &document.tests {
        match one(args, &text, &document, test, &interrupt) {
            Err(refused) => return Reply { stdout: reply.stdout + &refused.stdout, ..refused },
            Ok(wrong) if wrong.is_empty() => reply.stdout.push_str(&format!("ok      {}\n", test.name.text)),
            Ok(wrong) => {
                failed += 1;
                reply.stdout.push_str(&format!("FAILED  {}: {}\n", test.name.text, wrong.join("; ")));
            }
        }
    }
    reply.stdout.push_str(&format!("{name}: {} tests, {failed} failed\n", document.tests.len()));
    reply.code = u8::from(failed > 0);
    reply
}

/// What is wrong with a test as it is written.
fn faults(document: &Document, test: &TestDoc) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    let known = || document.nodes.keys().map(String::as_str);
    let mut node = |id: &str, at: &crate::diagnostic::At| {
        let id = id.split('.').next().unwrap_or_default();
        if !document.nodes.contains_key(id) {
            found.push(
                Diagnostic::error("unknown-node", format!("there is no node `{id}`"), at.label("no such node"))
                    .help_if(did_you_mean(id, "nodes", known())),
            );
        }
    };
    for expect in &test.expect {
        node(&expect.node.text, &expect.node.at);
        expect.equals.iter().for_each(|n| node(&n.text, &n.at));
        if let Some(Ok(condition)) = expect.where_.as_ref().map(|w| expectations::Where::parse(&w.text)) {
            expect.where_.iter().for_each(|w| node(&condition.node, &w.at));
        }
    }
    for (source, phantom) in &test.inputs {
        node(source, &phantom.at);
    }
    let conditions = test.expect.iter().filter_map(|e| e.where_.as_ref());
    for condition in conditions {
        if let Err(why) = expectations::Where::parse(&condition.text) {
            found.push(Diagnostic::error("bad-value", why, condition.at.label("cannot be read")));
        }
    }
    for text in test.inputs.values() {
        if phantom_of(&text.text).is_none() {
            let list: Vec<String> = NAMED.iter().map(|n| format!("\"phantom:{n}\"")).collect();
            found.push(
                Diagnostic::error(
                    "unknown-phantom",
                    format!("`{}` is no phantom", text.text),
                    text.at.label("not known"),
                )
                .help(format!("one of {}", list.join(", "))),
            );
        }
    }
    if test.inputs.is_empty() {
        found.push(Diagnostic::error("missing-key", "a test needs `in`", test.at.label("on which phantom?")));
    }
    found
}

fn phantom_of(text: &str) -> Option<phantom::NamedPhantom> {
    phantom::named(text.strip_prefix("phantom:")?)
}

/// Runs one test: what is not as expected, in words.
fn one(
    args: &TestArgs,
    text: &str,
    document: &Document,
    test: &TestDoc,
    interrupt: &Arc<Mutex<Option<i32>>>,
) -> Result<Vec<String>, Reply> {
    let environment = |what: &str, why: &dyn std::fmt::Display| Reply::refuse(3, format!("{what}: {why}"));
    let scratch = tempfile::tempdir().map_err(|e| environment("a folder for the test", &e))?;
    let key = scratch.path().join("key");
    Key::create(&key).map_err(|e| environment("a key for the test", &e))?;
    let inputs = phantoms(test, &scratch.path().join("in"))?;
    let probes = Probes::of(test).map_err(|why| Reply::refuse(2, why))?;
    let mut sources = Sources::new();
    let mut ignored = Vec::new();
    let site = args.site.open(&mut sources, &mut ignored).map_err(|words| Reply::refuse(3, words))?;
    let absolute =
        |paths: &[PathBuf]| paths.iter().map(|p| std::path::absolute(p).unwrap_or_else(|_| p.clone())).collect();
    let all = std::thread::available_parallelism().map_or(1, usize::from);
    let request = Request {
        pipeline: args.pipeline.display().to_string(),
        pipeline_text: format!("{text}\n{}", probes.toml()),
        set: args.set.clone(),
        keep: Vec::new(),
        plugins: absolute(&args.places.plugins),
        checkpoints: absolute(&args.places.checkpoints),
        site: args.site.site.clone(),
        key: Some(key),
        pseudonyms: None,
        toys: true,
        arithmetic: Arithmetic { precision: None, cuda: None },
        threads: args.threads.unwrap_or(all).max(1),
    };
    let planned = request.plan(&mut sources).map_err(|refused| run::refusal(refused, &sources, &args.places))?;
    let pinned: BTreeMap<String, bool> = run::pinned(&planned)?;
    let output = scratch.path().join("out");
    let options = RunOptions {
        mapping: None,
        device_notes: Vec::new(),
        // The series alone: the label files beside them are no cases, but can be read by path.
        inputs: inputs.clone(),
        output: output.clone(),
        limit: None,
        only: Vec::new(),
        jobs: 1,
        fresh: true,
        seed: document.seed.unwrap_or(0),
        run_time: None,
        include_derived: false,
        stall: std::time::Duration::from_secs(run::STALL_S),
        memory_limit: run::memory_limit(&site, 1),
        pinned,
    };
    let listener = Listener::default();
    let summary = supervisor::run(&request, &planned, &options, &listener, interrupt);
    let summary = summary.map_err(|error| Reply::refuse(error.exit, error.text))?;
    let mut wrong = listener.failures.into_inner().unwrap_or_else(|e| e.into_inner());
    if wrong.is_empty() && summary.done != 1 {
        wrong.push(format!("one case expected, {} done", summary.done));
    }
    if !wrong.is_empty() {
        return Ok(wrong);
    }
    let case = finished(&output).ok_or_else(|| Reply::refuse(3, "the results of a test cannot be found"))?;
    let unmet = test.expect.iter().filter_map(|e| expectations::check(e, &probes, &case, &inputs).err());
    Ok(unmet.collect())
}

/// Writes the series that a test names, as one patient; their folders.
fn phantoms(test: &TestDoc, folder: &Path) -> Result<Vec<PathBuf>, Reply> {
    let named: Vec<phantom::NamedPhantom> = test.inputs.values().filter_map(|t| phantom_of(&t.text)).collect();
    let Some(first) = named.first() else { return Err(Reply::refuse(2, "a test needs a phantom")) };
    let mut contrasts: Vec<bool> = named.iter().map(|n| n.contrast).collect();
    contrasts.sort_unstable();
    contrasts.dedup();
    let written = write_patient(&folder.join("phantom"), &first.phantom, &first.grid, &contrasts);
    written.map(|w| w.series).map_err(|e| Reply::refuse(3, e))
}

/// The folder of the one finished case.
fn finished(output: &Path) -> Option<PathBuf> {
    let entries = std::fs::read_dir(output).ok()?;
    let hidden = |p: &Path| p.file_name().is_none_or(|n| n.to_string_lossy().starts_with('.') || n == "private");
    entries.flatten().map(|e| e.path()).find(|p| p.is_dir() && !hidden(p))
}
