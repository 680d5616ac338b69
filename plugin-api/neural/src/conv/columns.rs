//! Convolution to very few channels, as at the end of a generator: the kernel's columns become output channels, and the
//! shifted sums of those are the outputs. Otherwise one lane in sixteen would work.

use super::direct::Direct;
use super::packed::{Dense, Packed};
use super::phases::Phases;
use super::{ConvConfig, Kind};
use crate::blocked::{Blocked, Cells, Entry, Shape, rows_partial};
use crate::engine::Engine;
use crate::kernels::LANES;
use candle_core::Result;

/// A convolution of kernel `[kD, kH, kW]` as one of `[kD, kH, 1]` with `kW` times the outputs.
pub(super) struct Columns {
    direct: Direct,
    outputs: usize,
    width: usize,
}

impl Columns {
    pub(super) fn new(
        entry: &Entry,
        outputs: usize,
        inputs: &[usize],
        kernel: [usize; 3],
        weight: &Dense<'_>,
    ) -> Result<Self> {
        let [depth, height, width] = kernel;
        let config = ConvConfig { kind: Kind::Plain, ..ConvConfig::default() };
        let phases = Phases::new(&config, [depth, height, 1])?;
        // Of one output the columns lie `outputs` lanes apart, so that the sum over a row runs through all lanes alike.
        let column =
            |lane: usize, input: usize, tap: usize| weight(lane % outputs, input, tap * width + lane / outputs);
        let packed = vec![Packed::new(entry, outputs * width, inputs, depth * height, &column, &[])];
        Ok(Self { direct: Direct { phases, packed }, outputs, width })
    }

    pub(super) fn bytes(&self) -> usize {
        self.direct.bytes()
    }

    pub(super) fn forward(
        &self,
        engine: &Engine,
        inputs: &[&Cells],
        out: Shape,
        bias: &[f32],
        statistics: bool,
    ) -> Blocked {
        let wide = out.size[2] + self.width - 1;
        let partial = Shape { channels: self.outputs * self.width, size: [out.size[0], out.size[1], wide], ..out };
        let partial = self.direct.forward(engine, inputs, partial, false);
        let rows = out.size[0] * out.size[1];
        Blocked::by_tasks(engine.store(), out, rows, statistics, |picture, row, target| {
            let row = picture * rows + row;
            let from = &partial.data.as_f32()[row * wide * LANES..(row + 1) * wide * LANES];
            // SAFETY: every iteration owns one row.
            let to =
                unsafe { std::slice::from_raw_parts_mut(target.at(row * out.size[2] * LANES), out.size[2] * LANES) };
            to.fill(0.0);
            for (x, to) in to.chunks_exact_mut(LANES).enumerate() {
                for (output, to) in to.iter_mut().enumerate().take(self.outputs) {
                    let column = |k: usize| from[(x + k) * LANES + k * self.outputs + output];
                    *to = (0..self.width).map(column).sum::<f32>() + bias[output];
                }
            }
            if !statistics {
                return Vec::new();
            }
            // SAFETY: the row written above.
            vec![unsafe { rows_partial(engine.isa(), to.as_ptr(), 1, 0, out.size[2]) }]
        })
    }
}
