//! Regions that may overlap: every channel decides for itself.

use half::f16;

use super::Logits;
use crate::half_round::rounded;
use crate::interpolate::each_block;
use crate::linear::{Grid, Scratch};

/// The greatest half-precision number whose sigmoid, in single precision, is still one half: 2^-24. Two of these and more
/// give more than one half.
const HALF_AT: f64 = 5.960_464_477_539_063e-8;

/// Each channel decides on every voxel of a row; `logits` gives the row of each.
pub(super) fn row<'l>(order: &[u8], logits: impl Fn(usize) -> &'l [f16], labels: &mut [u8]) {
    labels.fill(0);
    for (channel, &label) in order.iter().enumerate() {
        for (out, &value) in labels.iter_mut().zip(logits(channel)) {
            if inside(value) {
                *out = label;
            }
        }
    }
}

/// Whether the single-precision sigmoid exceeds one half.
fn inside(value: f16) -> bool {
    value.to_f64() > HALF_AT
}

/// Each channel interpolated and rounded to half precision.
pub(super) fn resampled(logits: &Logits<'_>, grid: &Grid, order: &[u8], out: &mut [u8]) {
    let size = grid.new_size();
    each_block(
        out,
        size,
        || Scratch::new(grid),
        |scratch, block, rows| {
            scratch.place(grid, block);
            for (values, &label) in logits.each().zip(order) {
                scratch.block(values, grid, block);
                for (lane, row) in rows.chunks_mut(size[2]).enumerate() {
                    for (out, sums) in row.iter_mut().zip(&scratch.sums.sums) {
                        if rounded(sums[lane]) > HALF_AT {
                            *out = label;
                        }
                    }
                }
            }
        },
    );
}
