//! How much memory a case will need at its peak, before it is decoded.

use gantry_abi::v1::dtype;

use super::Plan;

/// Predicted peak of one case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct MemoryEstimate {
    /// Bytes at the peak.
    pub peak_bytes: u64,
    /// Index of the segment where it occurs.
    pub segment: usize,
}

/// Predicts the peak for a volume of `slices x rows x columns`: live volumes plus what the stages say they need.
///
/// An estimate: grids that a stage makes anew are taken to be as large as the source.
pub fn estimate(plan: &Plan, slices: usize, rows: usize, columns: usize) -> MemoryEstimate {
    let plane = (rows * columns) as u64;
    let bytes = |node: usize, output: usize| {
        let caps = &plan.graph.nodes[node].outputs[output].caps;
        let kind = caps["kind"].as_str().unwrap_or_default();
        if kind != "image" && kind != "labels" {
            return 0;
        }
        let size = caps["dtype"].as_str().and_then(dtype::parse).map_or(4, dtype::size) as u64;
        let channels = caps["channels"].as_array().map_or(1, Vec::len).max(1) as u64;
        size * channels * plane
    };
    // What comes from a source or goes into a sink is in memory for up to three batches at once.
    let in_lanes = |node: usize, output: usize| {
        let nodes = &plan.graph.nodes;
        let source = nodes[node].inputs.iter().all(|i| i.links.is_empty());
        let mut sinks = nodes.iter().filter(|n| !n.outputs.iter().any(|o| o.read));
        let links = |n: &crate::graph::Node| {
            n.inputs.iter().flat_map(|i| &i.links).any(|l| l.node == node && l.output == output)
        };
        if plan.threads > 1 && (source || sinks.any(links)) { 3 } else { 1 }
    };
    let mut live = 0u64;
    let mut worst = MemoryEstimate { peak_bytes: 0, segment: 0 };
    for (s, segment) in plan.segments.iter().enumerate() {
        let mut working = 0;
        for &node in &segment.nodes {
            let resources = &plan.graph.nodes[node].entry.spec.resources;
            let in_call = if segment.fused { plan.batch.min(slices) } else { slices } as u64;
            working += resources.host_bytes + resources.host_bytes_per_slice * in_call;
            for (output, &whole) in plan.materialised[node].iter().enumerate() {
                if whole {
                    live += bytes(node, output) * slices as u64;
                } else {
                    working += bytes(node, output) * in_call * in_lanes(node, output);
                }
            }
        }
        if live + working > worst.peak_bytes {
            worst = MemoryEstimate { peak_bytes: live + working, segment: s };
        }
        for node in 0..plan.graph.nodes.len() {
            if plan.last_read[node] == s {
                for (output, &whole) in plan.materialised[node].iter().enumerate() {
                    if whole {
                        live = live.saturating_sub(bytes(node, output) * slices as u64);
                    }
                }
            }
        }
    }
    worst
}
