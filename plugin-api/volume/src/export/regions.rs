//! Regions that may overlap: every channel decides for itself.

use half::f16;
use rayon::prelude::*;

use super::Logits;
use crate::half_round::rounded;
use crate::interpolate::each_block;
use crate::linear::{Grid, Scratch};

/// The greatest half-precision number whose sigmoid, in single precision, is still one half: 2^-24. Two of these and more
/// give more than one half.
const HALF_AT: f64 = 5.960_464_477_539_063e-8;

/// Without resampling.
pub(super) fn same(logits: &Logits<'_>, order: &[u8], out: &mut [u8]) {
    const PART: usize = 1 << 14;
    out.par_chunks_mut(PART).enumerate().for_each(|(part, out)| {
        for (values, &label) in logits.each().zip(order) {
            for (out, &value) in out.iter_mut().zip(&values[part * PART..]) {
                if inside(value) {
                    *out = label;
                }
            }
        }
    });
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
