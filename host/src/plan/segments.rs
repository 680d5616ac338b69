//! Which nodes run together, and in which order.

use crate::graph::Graph;
use crate::registry::Scope;

/// Nodes that run together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// Nodes in topological order.
    pub nodes: Vec<usize>,
    /// Slice-scope nodes driven batch by batch; else exactly one node of another scope.
    pub fused: bool,
}

/// Orders the nodes of a graph, which are in topological order.
///
/// Every node gets a phase: even phases hold slice-scope nodes, odd phases the others. A node's phase is the smallest of
/// its parity that is not before its inputs' phases, so slice nodes that do not wait for a volume share a phase. Within an
/// even phase, nodes that are connected (and so walk the same slices) form one segment.
pub fn order(graph: &Graph) -> Vec<Segment> {
    let slice = |n: usize| graph.nodes[n].entry.spec.scope == Scope::Slice;
    let inputs = |n: usize| graph.nodes[n].inputs.iter().flat_map(|i| &i.links).map(|l| l.node);
    let count = graph.nodes.len();
    let mut phase = vec![0usize; count];
    for n in 0..count {
        let after = inputs(n).map(|i| phase[i]).max().unwrap_or(0);
        phase[n] = if slice(n) { after.next_multiple_of(2) } else { after | 1 };
    }
    let mut segments = Vec::new();
    for p in 0..=phase.iter().copied().max().unwrap_or(0) {
        let members: Vec<usize> = (0..count).filter(|&n| phase[n] == p).collect();
        if p % 2 == 1 {
            segments.extend(members.into_iter().map(|n| Segment { nodes: vec![n], fused: false }));
            continue;
        }
        // Connected groups among the members: by a common edge inside the phase, or by reading the same earlier edge.
        let mut group: Vec<usize> = (0..members.len()).collect();
        for i in 0..members.len() {
            for j in 0..i {
                let (a, b) = (members[i], members[j]);
                let joined = inputs(a).any(|n| n == b) || inputs(a).any(|n| inputs(b).any(|m| m == n));
                if joined && group[i] != group[j] {
                    let (from, to) = (group[i].max(group[j]), group[i].min(group[j]));
                    group.iter_mut().filter(|g| **g == from).for_each(|g| *g = to);
                }
            }
        }
        let mut seen = Vec::new();
        for &g in &group {
            if !seen.contains(&g) {
                seen.push(g);
            }
        }
        for g in seen {
            let nodes = members.iter().zip(&group).filter(|(_, x)| **x == g).map(|(n, _)| *n).collect();
            segments.push(Segment { nodes, fused: true });
        }
    }
    segments
}
