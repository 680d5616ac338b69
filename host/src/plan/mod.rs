//! From a typed graph to the order of work: segments, the last reader of every edge, batches, and the plan's digest.
//!
//! Slice-scope nodes that can run side by side are fused into one segment and driven batch by batch; only an edge that
//! leaves its segment becomes a volume in memory, and it is dropped after its last reader.

mod device;
mod memory;
mod request;
mod segments;

use std::sync::Arc;

use serde_json::json;
use sha2::{Digest, Sha256};

use crate::graph::Graph;
use crate::registry::site::AUTO;

pub use device::{Asked, Cuda};
pub use memory::{MemoryEstimate, estimate};
pub use request::{Checked, Planned, Refused, Request};
pub use segments::Segment;

/// How a graph will be run.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The graph.
    pub graph: Arc<Graph>,
    /// In order of execution.
    pub segments: Vec<Segment>,
    /// For each node and output: whether it must be a volume (read outside its segment, or kept by its scope).
    pub materialised: Vec<Vec<bool>>,
    /// For each node: the index of the last segment that reads any of its outputs (its own if none does).
    pub last_read: Vec<usize>,
    /// Slices in one call at most.
    pub batch: usize,
    /// CPU threads of one case worker.
    pub threads: usize,
    /// SHA-256 over everything that decides the result: graph, parameters, plugins, weights, precision, host version.
    pub digest: String,
}

/// What besides the graph decides the result.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize, PartialEq, Eq)]
pub struct Arithmetic {
    /// `--precision`: what stages that may choose are asked for; else the site's word counts. What each stage was asked
    /// for stands in the parameters of its node.
    pub precision: Option<String>,
    /// The card and the nodes that run on it; else everything runs on the processor.
    pub cuda: Option<Cuda>,
}

/// The machine's instructions, where a node leaves the choice between kernels to its stage: kernels of different
/// instructions may round differently, so results of different machines must not pass for the same.
fn instructions(graph: &Graph) -> Option<&'static str> {
    let chooses = |n: &crate::graph::Node| n.params.get("instructions").is_some_and(|v| v == AUTO);
    graph.nodes.iter().any(chooses).then(|| gantry_plugin::Isa::best().name())
}

impl Plan {
    /// Orders a graph.
    ///
    /// `pins` lists what was loaded, `(name, sha256)` of plugins and checkpoints, in a stable order.
    pub fn new(graph: Arc<Graph>, threads: usize, arithmetic: &Arithmetic, pins: &[(String, String)]) -> Plan {
        let segments = segments::order(&graph);
        let home = |node: usize| segments.iter().position(|s| s.nodes.contains(&node)).unwrap_or(usize::MAX);
        let mut materialised: Vec<Vec<bool>> = graph.nodes.iter().map(|n| vec![false; n.outputs.len()]).collect();
        let mut last_read: Vec<usize> = (0..graph.nodes.len()).map(home).collect();
        for (reader, node) in graph.nodes.iter().enumerate() {
            for link in node.inputs.iter().flat_map(|i| &i.links) {
                let (at, from) = (home(reader), home(link.node));
                last_read[link.node] = last_read[link.node].max(at);
                if at != from || !segments[from].fused {
                    materialised[link.node][link.output] = true;
                }
            }
        }
        for segment in segments.iter().filter(|s| !s.fused) {
            for &node in &segment.nodes {
                materialised[node].fill(true);
            }
        }
        let batch = graph
            .nodes
            .iter()
            .filter_map(|n| n.entry.spec.resources.batch_max.filter(|&b| b > 0))
            .map(|b| b as usize)
            .min()
            .unwrap_or(8)
            .clamp(1, 8);
        let identity = json!({
            "gantry": env!("CARGO_PKG_VERSION"),
            "graph": graph.canonical_json(),
            "device": arithmetic.cuda.as_ref().map_or_else(|| "cpu".to_owned(), Cuda::identity),
            "instructions": instructions(&graph),
            "pins": pins,
        });
        let digest = hex::encode(Sha256::digest(identity.to_string().as_bytes()));
        Plan { graph, segments, materialised, last_read, batch, threads, digest }
    }
}
