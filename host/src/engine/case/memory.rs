//! What a case is expected to hold at its worst moment, known as soon as a segment's stages have seen the geometry: told
//! beside what it did hold, and a reason to refuse before the segment computes anything.

use gantry_abi::v1::kind;

use super::CaseRun;
use crate::engine::failure::Failure;
use crate::engine::pulse::LANES;
use crate::machine;
use crate::plan::Segment;

impl CaseRun<'_> {
    /// Expects the memory of a segment that has begun: what the process holds now (weights loaded before the first case are in
    /// it), the voxels the segment will fill, and what its stages said they hold of their own, less what they loaded
    /// before.
    ///
    /// # Errors
    /// Code `memory-estimate` where that is more than the worker may use.
    pub(super) fn expect_memory(&mut self, segment: &Segment) -> Result<(), Failure> {
        let figures = self.figures.lock().unwrap_or_else(|e| e.into_inner());
        let more = |n: usize| figures[n].own_bytes.saturating_sub(self.live[n].loaded_bytes);
        let own: u64 = segment.nodes.iter().map(|&n| more(n)).sum();
        drop(figures);
        let voxels: u64 = segment.nodes.iter().map(|&n| self.voxels_to_come(n, segment.fused)).sum();
        let expected = machine::resident().0 + voxels + own;
        self.expected_bytes = self.expected_bytes.max(expected);
        match self.context.memory_limit.filter(|&limit| expected > limit) {
            None => Ok(()),
            Some(limit) => {
                let nodes: Vec<&str> = segment.nodes.iter().map(|&n| self.node(n).id.as_str()).collect();
                let needed =
                    format!("{} would bring the worker to about {} MB", nodes.join(", "), machine::megabytes(expected));
                Err(Failure::memory(&needed, limit))
            }
        }
    }

    /// Bytes of voxels that node `n` will fill and that do not exist yet. Slices that pass through a fused segment exist in as
    /// many copies as there are lanes.
    fn voxels_to_come(&self, n: usize, fused: bool) -> u64 {
        let mut bytes = 0;
        for (o, output) in self.edges[n].iter().enumerate() {
            let voxels = output.iter().filter(|e| matches!(e.kind, kind::IMAGE | kind::LABELS) && e.volume.is_none());
            for edge in voxels {
                let depth = edge.shape[1].max(1) as u64;
                let whole = edge.byte_len() as u64;
                let passing = (self.plan.batch as u64 * LANES as u64).min(depth);
                bytes += if fused && !self.plan.materialised[n][o] { whole / depth * passing } else { whole };
            }
        }
        bytes
    }
}
