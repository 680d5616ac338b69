//! `gantry graph PIPELINE`: the pipeline as mermaid or dot, each edge with what flows along it.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::diagnostic::{Sources, any_error};
use crate::graph;
use crate::pipeline::Document;
use crate::registry::Site;
use crate::registry::site::Toys;

use super::places::PlacesArgs;
use super::reply::{Reply, colour};

/// Arguments of `gantry graph`.
#[derive(Debug, Clone, Args)]
pub struct GraphArgs {
    /// Pipeline to draw
    #[arg(value_name = "PIPELINE")]
    pub pipeline: PathBuf,
    /// What to write
    #[arg(long, value_enum, default_value_t = Format::Mermaid)]
    pub format: Format,
    /// Change a parameter (may be given several times)
    #[arg(long, value_name = "NODE.PARAM=VALUE")]
    pub set: Vec<String>,
    /// Where things are installed.
    #[command(flatten)]
    pub places: PlacesArgs,
}

/// What to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// A mermaid flow chart
    Mermaid,
    /// A Graphviz document
    Dot,
}

/// Draws a pipeline. A drawing needs no key and no permission of the site; a pipeline with errors cannot be drawn (2).
pub fn run(args: &GraphArgs) -> Reply {
    let mut sources = Sources::new();
    let registry = args.places.open(&mut sources);
    let site = Site { key_made: true, toys: Toys::Allow, ..Site::default() };
    let mut found = Vec::new();
    let document = match Document::load(&args.pipeline, &args.set, &mut sources, &mut found) {
        Ok(document) => document,
        Err(error) => return Reply::refuse(3, format!("{}: {error}", args.pipeline.display())),
    };
    let graph = document.and_then(|document| {
        let (graph, more) = graph::build(&document, &registry, &site);
        found.extend(more);
        graph
    });
    let stderr = sources.render(&found, colour());
    match graph.filter(|_| !any_error(&found)) {
        None => Reply { stdout: String::new(), stderr, code: 2 },
        Some(graph) => {
            let stdout = match args.format {
                Format::Mermaid => graph.mermaid(),
                Format::Dot => graph.dot(),
            };
            Reply { stdout, stderr, code: 0 }
        }
    }
}
