//! `gantry bench PIPELINE`: where the time and the memory of a chain go, node by node. Leaves nothing behind.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Args;
use comfy_table::{CellAlignment, Table, presets};
use serde::{Deserialize, Serialize};

use super::chain::ChainArgs;
use super::places::{PlacesArgs, Precision, SiteArgs};
use super::progress::ProgressForm;
use super::reply::Reply;
use super::run::{self, RunArgs, STALL_S};
use crate::builtin::phantom::{PhantomGrid, write_dicom_tree};
use crate::diagnostic::Sources;
use crate::engine::{Failure, Watcher, supervisor};
use crate::graph::Graph;
use crate::identity::Key;
use crate::plan::Asked;

/// Arguments of `gantry bench`.
#[derive(Debug, Clone, Args)]
pub struct BenchArgs {
    /// The pipeline
    #[arg(value_name = "PIPELINE")]
    pub pipeline: PathBuf,
    /// Input folder (may be given several times) [default: a built-in phantom]
    #[arg(short, long, value_name = "DIR", num_args = 1..)]
    pub input: Vec<PathBuf>,
    /// Rows and columns of the phantom's slices
    #[arg(long, value_name = "ROWS", default_value_t = 256, conflicts_with = "input", value_parser = clap::value_parser!(u16).range(16..=1024))]
    pub size: u16,
    /// Slices of the phantom
    #[arg(long, value_name = "N", default_value_t = 16, conflicts_with = "input", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub slices: u16,
    /// Runs, of which medians are told
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub repeat: u16,
    /// Results as JSON on stdout
    #[arg(long)]
    pub json: bool,
    /// Change a parameter (may be given several times)
    #[arg(long, value_name = "NODE.PARAM=VALUE")]
    pub set: Vec<String>,
    /// Where networks run
    #[arg(long, value_name = "DEVICE", default_value_t = Asked::Auto)]
    pub device: Asked,
    /// CPU threads [default: all]
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
    /// Arithmetic of networks, where the pipeline does not say it [default: the site's, else auto]
    #[arg(long, value_enum)]
    pub precision: Option<Precision>,
    /// Let toy checkpoints run on real scans; on the phantom they always may
    #[arg(long)]
    pub allow_toy: bool,
    /// The site's pseudonym key [default: one made for the bench]
    #[arg(long, value_name = "FILE")]
    pub key: Option<PathBuf>,
    /// Where things are installed.
    #[command(flatten)]
    pub places: PlacesArgs,
    /// What the site lays down.
    #[command(flatten)]
    pub site: SiteArgs,
}

/// What is read of run.json.
#[derive(Deserialize)]
struct Manifest {
    precision: String,
    machine: serde_json::Value,
    cases: Vec<CaseEntry>,
}

#[derive(Deserialize)]
struct CaseEntry {
    status: String,
    #[serde(default)]
    reason: Option<String>,
    #[serde(default)]
    node: Option<String>,
    #[serde(default)]
    seconds: f64,
    #[serde(default)]
    peak_rss_bytes: u64,
    #[serde(default)]
    nodes: BTreeMap<String, NodeEntry>,
}

#[derive(Deserialize)]
struct NodeEntry {
    seconds: f64,
    peak_bytes: u64,
    #[serde(default)]
    slices: u64,
    #[serde(default)]
    kernels: Option<serde_json::Value>,
}

/// One run, added up over its cases.
struct Round {
    wall: f64,
    manifest: Manifest,
}

/// One line of the report.
#[derive(Debug, PartialEq, Serialize)]
struct Line {
    node: String,
    stage: String,
    /// Whether it runs a network.
    network: bool,
    /// Median over the runs, all cases together.
    seconds: f64,
    /// Of the seconds of the cases.
    share: f64,
    /// Slices that the node walked; 0: it walks none.
    slices: u64,
    slices_per_second: Option<f64>,
    peak_bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    kernels: Option<serde_json::Value>,
}

/// The whole report; times are medians in seconds.
#[derive(Debug, Serialize)]
struct Report {
    pipeline: String,
    input: String,
    runs: u16,
    precision: String,
    machine: serde_json::Value,
    cases: usize,
    /// From the scan to the last case.
    run_seconds: f64,
    /// Scan, opening of plugins, loading of weights.
    start_seconds: f64,
    /// From a case's first byte read to its last byte on the disk.
    case_seconds: f64,
    network_seconds: f64,
    /// What the networks do not take of the cases' seconds: the rest of the chain, as far as it is not hidden behind them.
    other_seconds: f64,
    other_share: f64,
    peak_rss_bytes: u64,
    nodes: Vec<Line>,
}

/// Nobody is told anything before the report.
struct Silent;

impl Watcher for Silent {
    fn remark(&self, _: &str) {}

    fn scanning(&self, _: usize) {}

    fn cases(&self, _: usize) {}

    fn case(&self, _: &str, _: Option<&Failure>) {}
}

/// Runs the verb: exit code 1 if a case fails, else as `gantry run`.
pub fn run(args: &BenchArgs) -> Reply {
    match measure(args) {
        Ok(report) if args.json => {
            Reply { stdout: serde_json::to_string_pretty(&report).unwrap_or_default() + "\n", ..Reply::default() }
        }
        Ok(report) => Reply { stdout: report.words(), ..Reply::default() },
        Err(refused) => refused,
    }
}

fn measure(args: &BenchArgs) -> Result<Report, Reply> {
    let environment = |what: &str, why: &dyn std::fmt::Display| Reply::refuse(3, format!("{what}: {why}"));
    let scratch = tempfile::tempdir().map_err(|e| environment("a folder for the bench", &e))?;
    let (input, said) = match args.input.as_slice() {
        [] => {
            let grid = PhantomGrid::chest(args.size.into(), args.slices.into()).map_err(|e| Reply::refuse(2, e))?;
            let folder = scratch.path().join("in");
            write_dicom_tree(&folder, 0, 1, &grid, |_| ()).map_err(|e| environment("writing the phantom", &e))?;
            (vec![folder], format!("phantom, {} slices of {1} x {1}", args.slices, args.size))
        }
        given => (given.to_vec(), "given folders".to_owned()),
    };
    let key = match &args.key {
        Some(key) => key.clone(),
        None => {
            let key = scratch.path().join("key");
            Key::create(&key).map_err(|e| environment("a key for the bench", &e))?;
            key
        }
    };
    let arguments = run_args(args, input, key);
    let mut sources = Sources::new();
    let (request, planned, mut options) = run::plan(&arguments, run::text(&arguments)?, &mut sources)?;
    let interrupt = run::watch_signals().map_err(|e| environment("signals cannot be watched", &e))?;
    let mut rounds = Vec::new();
    for round in 0..args.repeat {
        options.output = scratch.path().join(format!("out-{round}"));
        let started = Instant::now();
        let ended = supervisor::run(&request, &planned, &options, &Silent, &interrupt);
        let wall = started.elapsed().as_secs_f64();
        ended.map_err(|error| Reply::refuse(error.exit, error.text))?;
        let manifest = read(&options.output).map_err(|why| environment("run.json", &why))?;
        std::fs::remove_dir_all(&options.output).map_err(|e| environment("removing the results of a run", &e))?;
        if let Some(case) = manifest.cases.iter().find(|c| c.status != "done") {
            let node = case.node.as_deref().map(|n| format!("node `{n}`: ")).unwrap_or_default();
            return Err(Reply::refuse(1, format!("a case failed: {node}{}", case.reason.as_deref().unwrap_or("?"))));
        }
        rounds.push(Round { wall, manifest });
    }
    Report::new(args, said, &planned.plan.graph, &rounds).ok_or_else(|| Reply::refuse(1, "no run was finished"))
}

/// What `gantry run` would be told.
fn run_args(args: &BenchArgs, input: Vec<PathBuf>, key: PathBuf) -> RunArgs {
    RunArgs {
        pipeline: args.pipeline.clone(),
        input,
        chain: ChainArgs {
            jobs: Some(1),
            threads: args.threads,
            fresh: true,
            key: Some(key),
            progress: ProgressForm::None,
            places: args.places.clone(),
            site: args.site.clone(),
            ..ChainArgs::default()
        },
        set: args.set.clone(),
        device: args.device,
        keep: Vec::new(),
        seed: None,
        run_time: None,
        precision: args.precision,
        allow_toy: args.allow_toy || args.input.is_empty(),
        include_derived: false,
        stall: STALL_S,
    }
}

fn read(output: &Path) -> Result<Manifest, String> {
    let text = std::fs::read_to_string(output.join("run.json")).map_err(|e| e.to_string())?;
    serde_json::from_str(&text).map_err(|e| e.to_string())
}

/// The middle one; of an even number the mean of the two in the middle. `None` of nothing.
fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut all: Vec<f64> = values.collect();
    all.sort_by(f64::total_cmp);
    let upper = *all.get(all.len() / 2)?;
    let lower = *all.get((all.len() - 1) / 2)?;
    Some((lower + upper) / 2.0)
}

impl Report {
    fn new(args: &BenchArgs, input: String, graph: &Graph, rounds: &[Round]) -> Option<Report> {
        let last = &rounds.last()?.manifest;
        let cases = |r: &Round| r.manifest.cases.iter().map(|c| c.seconds).sum::<f64>();
        let of = |r: &Round, wanted: &dyn Fn(&str) -> bool| {
            let nodes = r.manifest.cases.iter().flat_map(|c| &c.nodes).filter(|(id, _)| wanted(id));
            nodes.map(|(_, n)| n.seconds).sum::<f64>()
        };
        let is_network = |id: &str| graph.nodes.iter().any(|n| n.id == id && !n.checkpoints.is_empty());
        let other = |r: &Round| (cases(r) - of(r, &is_network)).max(0.0);
        let case_seconds = median(rounds.iter().map(cases))?;
        let nodes = graph.nodes.iter().map(|node| {
            let seconds = median(rounds.iter().map(|r| of(r, &|id| id == node.id)))?;
            let found: Vec<&NodeEntry> = last.cases.iter().filter_map(|c| c.nodes.get(&node.id)).collect();
            let slices = found.iter().map(|n| n.slices).sum::<u64>();
            Some(Line {
                node: node.id.clone(),
                stage: node.entry.spec.id.clone(),
                network: is_network(&node.id),
                seconds,
                share: seconds / case_seconds,
                slices,
                slices_per_second: (slices > 0 && seconds > 0.0).then(|| slices as f64 / seconds),
                peak_bytes: found.iter().map(|n| n.peak_bytes).max().unwrap_or(0),
                kernels: found.iter().find_map(|n| n.kernels.clone()),
            })
        });
        Some(Report {
            pipeline: graph.name.clone(),
            input,
            runs: args.repeat,
            precision: last.precision.clone(),
            machine: last.machine.clone(),
            cases: last.cases.len(),
            run_seconds: median(rounds.iter().map(|r| r.wall))?,
            start_seconds: median(rounds.iter().map(|r| r.wall - cases(r)))?,
            case_seconds,
            network_seconds: median(rounds.iter().map(|r| of(r, &is_network)))?,
            other_seconds: median(rounds.iter().map(other))?,
            other_share: median(rounds.iter().map(|r| other(r) / cases(r)))?,
            peak_rss_bytes: rounds.iter().flat_map(|r| &r.manifest.cases).map(|c| c.peak_rss_bytes).max()?,
            nodes: nodes.collect::<Option<_>>()?,
        })
    }

    fn words(&self) -> String {
        let mut table = Table::new();
        table.load_style(presets::ASCII_MARKDOWN).force_no_tty();
        table.set_header(["node", "stage", "seconds", "share", "slices/s", "peak MB", "kernels"]);
        for line in &self.nodes {
            let kernels =
                line.kernels.as_ref().map(|k| [&k["precision"], &k["instructions"]].map(|w| w.as_str().unwrap_or("?")));
            table.add_row([
                line.node.clone(),
                line.stage.clone(),
                format!("{:.3}", line.seconds),
                percent(line.share),
                line.slices_per_second.map(|s| format!("{s:.1}")).unwrap_or_default(),
                megabytes(line.peak_bytes),
                kernels.map(|[p, i]| format!("{p} {i}")).unwrap_or_default(),
            ]);
        }
        for column in table.column_iter_mut().skip(2).take(4) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        let machine = format!(
            "{}, {} threads, {}",
            self.machine["cpu"].as_str().unwrap_or("?"),
            self.machine["threads"],
            self.machine["instructions"].as_str().unwrap_or("?")
        );
        let mut out =
            format!("{}: {}; cases: {}; medians of {} runs\n", self.pipeline, self.input, self.cases, self.runs);
        out += &format!("{machine}; precision {}\n{table}\n", self.precision);
        let mut line = |name: &str, text: String| out += &format!("{name:20} {text}\n");
        line("cases", format!("{:.3} s", self.case_seconds));
        line("  networks", format!("{:.3} s", self.network_seconds));
        line("  everything else", format!("{:.3} s, {}", self.other_seconds, percent(self.other_share)));
        line("start", format!("{:.3} s (scan, plugins, weights)", self.start_seconds));
        line("peak memory", format!("{} MB resident", megabytes(self.peak_rss_bytes)));
        out += "Nodes that read and write work beside the others, so shares may add up to more than 100 %.\n";
        out
    }
}

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

fn megabytes(bytes: u64) -> String {
    format!("{:.0}", bytes as f64 / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median([3.0, 1.0, 2.0].into_iter()), Some(2.0));
        assert_eq!(median([4.0, 1.0, 2.0, 3.0].into_iter()), Some(2.5));
        assert_eq!(median([7.0].into_iter()), Some(7.0));
        assert_eq!(median(std::iter::empty()), None);
    }
}
