//! How much memory a U-Net holds while it runs.

use super::Unet;
use super::layer::Layer;
use crate::conv::Conv;
use crate::kernels::CELL;

/// Buffers of a stage's own size that exist at the same time, in use or kept for the next layer: two inputs of a
/// convolution and its result.
const PLAIN: usize = 3;
/// Of residual blocks: what goes around them as well, with what it is made of.
const RESIDUAL: usize = 6;
/// For buffers' ends, statistics, tables of steps, and memory that the system hands out in large pages.
const REST: usize = 64 << 20;

impl Unet {
    /// Most bytes that [`Unet::slabs`] holds on `threads` threads for one patch of `size`, `[depth, height, width]`, beside
    /// input and weights.
    pub fn activation_bytes(&self, size: [usize; 3], threads: usize) -> usize {
        let plan = &self.plan;
        let mut size = size;
        let mut total = REST;
        for (stage, &features) in plan.features.iter().enumerate() {
            size = std::array::from_fn(|axis| size[axis].div_ceil(plan.strides[stage][axis]));
            let padded: usize = (0..3).map(|axis| size[axis] + plan.kernels[stage][axis].max(3) - 1).product();
            // As f32, or as one or two parts of bf16.
            let cells = |channels: usize| CELL * channels.div_ceil(16).max(2 * channels.div_ceil(32));
            let buffers = if self.encoder.residual() { RESIDUAL } else { PLAIN };
            total = total.saturating_add(buffers * cells(features).saturating_mul(padded));
            if stage == 0 {
                // The first layer's input holds what lies under a row of the kernel: a cell for each channel.
                total = total.saturating_add((2 * CELL * plan.channels).saturating_mul(padded));
                let plane = size[1] * size[2] * cells(plan.classes.max(features));
                total = total.saturating_add(4 * plane.max(super::SLAB));
            }
            let scratch = self.stage(stage).map(|conv| conv.scratch(size)).max().unwrap_or(0);
            total = total.saturating_add(threads.max(1) * scratch);
        }
        total
    }

    /// Convolutions whose result has a stage's size.
    fn stage(&self, stage: usize) -> impl Iterator<Item = &Conv> {
        let step = (self.plan.stages() - 2).checked_sub(stage).and_then(|at| self.decoder.get(at));
        let decoder = step.into_iter().flat_map(|step| &step.layers).map(|layer: &Layer| &layer.conv);
        self.encoder.stage(stage).into_iter().chain(decoder)
    }
}
