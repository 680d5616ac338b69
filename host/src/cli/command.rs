//! The whole command line: one definition for parsing, help, man page and completions.

use clap::{Parser, Subcommand};

use super::{check, graph, inspect, key, phantom, plugins, run, series, weights, worker};

/// The plugin host for medical imaging pipelines.
#[derive(Debug, Parser)]
#[command(
    name = "gantry",
    version,
    about,
    max_term_width = 100,
    subcommand_required = true,
    arg_required_else_help = true
)]
pub struct CommandLine {
    /// What to do
    #[command(subcommand)]
    pub verb: Verb,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Check a pipeline, then run it over every case found
    Run(Box<run::RunArgs>),
    /// Find every static error of a pipeline at once, without running any plugin code
    Check(check::CheckArgs),
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
    /// Make the site's pseudonym key
    Key(key::KeyArgs),
    /// Write the built-in chest phantom as DICOM patients with ground-truth labels
    Phantom(phantom::PhantomArgs),
    #[command(hide = true)]
    /// What the supervisor starts
    Worker(worker::WorkerArgs),
}
