//! The whole command line: one definition for parsing, help, man page and completions.

use clap::{CommandFactory, Parser, Subcommand};

use super::{
    bench, check, completions, deid, demo, doctor, graph, inspect, key, man, phantom, plugins, run, series, test,
    verify, weights, worker,
};

/// The plugin host for medical imaging pipelines.
#[derive(Debug, Parser)]
#[command(name = "gantry", version, about, max_term_width = 100)]
pub struct CommandLine {
    /// What to do
    #[command(subcommand)]
    pub verb: Option<Verb>,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Run a full chain over the built-in phantom; needs no data, network or GPU
    Demo(demo::DemoArgs),
    /// Write the built-in chest phantom as DICOM patients with ground-truth labels
    Phantom(phantom::PhantomArgs),
    /// Check a pipeline, then run it over every case found
    Run(Box<run::RunArgs>),
    /// De-identify DICOM objects of every class by PS3.15 Annex E
    Deid(Box<deid::DeidArgs>),
    /// Find every static error of a pipeline at once, without running any plugin code
    Check(check::CheckArgs),
    /// Run a pipeline's `[[tests]]` on built-in phantoms
    Test(test::TestArgs),
    /// Measure a chain node by node: time, slices a second, memory; leaves nothing behind
    Bench(bench::BenchArgs),
    /// Draw a pipeline, each edge with what flows along it
    Graph(graph::GraphArgs),
    /// Show a stage's ports and parameters, a plugin, or a checkpoint's card
    Inspect(inspect::InspectArgs),
    /// List, pin and verify what is installed
    Plugins(plugins::PluginsArgs),
    /// List the series in folders
    Series(series::SeriesArgs),
    /// Import weights
    Weights(weights::WeightsArgs),
    /// Hash the results of a finished run again and compare them with its manifest
    Verify(verify::VerifyArgs),
    /// Show this machine, what is installed, and what is wrong with it
    Doctor(doctor::DoctorArgs),
    /// Make the site's pseudonym key
    Key(key::KeyArgs),
    /// Write a completion script for a shell
    Completions(completions::CompletionsArgs),
    /// Write a man page
    Man(man::ManArgs),
    #[command(hide = true)]
    /// What the supervisor starts
    Worker(worker::WorkerArgs),
}

/// The command line as users see it: without hidden verbs, which completions and man pages would offer.
pub fn visible() -> clap::Command {
    let whole = CommandLine::command();
    let verbs: Vec<clap::Command> = whole.get_subcommands().filter(|c| !c.is_hide_set()).cloned().collect();
    let about = whole.get_about().cloned().unwrap_or_default();
    clap::Command::new("gantry").version(env!("CARGO_PKG_VERSION")).about(about).subcommands(verbs)
}
