//! What a stage took away that declares an output without identity: found by comparing what arrived with what left.

use rayon::prelude::*;

use super::CaseRun;
use crate::engine::failure::Failure;
use crate::graph::Node;
use crate::series::identifying::Differences;

/// Outputs of a node that its stage declares free of identity.
fn removing(node: &Node) -> impl Iterator<Item = usize> {
    let declared = |o: &usize| {
        let spec = node.outputs.get(*o).and_then(|output| node.entry.spec.outputs.get(output.spec));
        spec.is_some_and(|spec| spec.caps.literal_texts("identity") == ["removed"])
    };
    (0..node.outputs.len()).filter(declared)
}

impl CaseRun<'_> {
    /// Compares the data sets that arrived at a node with those that left it, where it took identity away.
    pub(super) fn note_removed(&self, n: usize) -> Result<(), Failure> {
        let node = self.node(n);
        for o in removing(node) {
            for (e, edge) in self.edges[n].get(o).into_iter().flatten().enumerate() {
                let Some((like, _)) = self.like(n, o, e) else { continue };
                let arrived = like.companions.headers.lock().unwrap_or_else(|x| x.into_inner()).clone();
                let left = edge.companions.headers.lock().unwrap_or_else(|x| x.into_inner()).clone();
                let pairs = arrived.par_iter().enumerate().map(|(i, arrived)| {
                    let mut differences = Differences::default();
                    let left = left.get(i).map_or(&[][..], |l| l);
                    differences.note(arrived, left).map(|()| differences).ok_or_else(|| {
                        let text = format!("output `{}`: data set {i} cannot be read", node.outputs[o].port);
                        Failure::host("output-headers", text).at(&node.id)
                    })
                });
                let joined = self.pool.install(|| {
                    pairs.try_reduce(Differences::default, |mut one, other| {
                        one.join(other);
                        Ok(one)
                    })
                })?;
                self.context.differences.lock().unwrap_or_else(|x| x.into_inner()).join(joined);
            }
        }
        Ok(())
    }

    /// Notes the direct identifiers that arrived where a case failed before anything was taken away.
    pub(super) fn note_lost(&self) {
        let mut differences = self.context.differences.lock().unwrap_or_else(|x| x.into_inner());
        if !differences.gone.is_empty() {
            return;
        }
        for n in (0..self.plan.graph.nodes.len()).filter(|&n| removing(self.node(n)).next().is_some()) {
            for (edge, _) in self.node(n).inputs.iter().flat_map(|i| &i.links).filter_map(|l| self.edge(l)) {
                for header in edge.companions.headers.lock().unwrap_or_else(|x| x.into_inner()).iter() {
                    differences.note_lost(header);
                }
            }
        }
    }
}
