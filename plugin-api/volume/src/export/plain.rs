//! The greatest logit of every voxel, each class interpolated everywhere.

use std::ops::Range;

use half::f16;
use half::slice::HalfFloatSliceExt;

use super::{Logits, label};
use crate::half_round::rounded;
use crate::interpolate::{Block, LANES, Lanes, each_block};
use crate::linear::{Grid, Scratch};
use crate::vector::vectorised;

/// The greatest logit of every voxel of a row, of equals the first; `logits` gives the row of each class.
pub(super) fn row<'l>(classes: usize, logits: impl Fn(usize) -> &'l [f16], labels: &mut [u8]) {
    let mut values = vec![0.0_f32; labels.len()];
    let mut best = vec![f32::NEG_INFINITY; labels.len()];
    // As wide as the logits, so that both go through the processor's lanes alike.
    let mut first = vec![0_u32; labels.len()];
    for class in 0..classes {
        widen(logits(class), &mut values);
        let number = u32::from(label(class));
        for ((first, best), &value) in first.iter_mut().zip(&mut best).zip(&values) {
            let better = value > *best;
            *best = if better { value } else { *best };
            *first = if better { number } else { *first };
        }
    }
    for (label, first) in labels.iter_mut().zip(&first) {
        #[expect(clippy::cast_possible_truncation, reason = "a class below 256")]
        let first = *first as u8;
        *label = first;
    }
}

/// Half to single precision.
pub(super) fn widen(from: &[f16], to: &mut [f32]) {
    from.convert_to_f32_slice(to);
}

/// Space for one block: interpolation, and the best value and its class so far of each voxel.
pub(super) struct Best {
    pub scratch: Scratch,
    value: Vec<Lanes>,
    class: Vec<Lanes>,
}

impl Best {
    /// For blocks on this grid.
    pub fn new(grid: &Grid) -> Self {
        let nx = grid.new_size()[2];
        Self { scratch: Scratch::new(grid), value: vec![[0.0; LANES]; nx], class: vec![[0.0; LANES]; nx] }
    }

    /// The labels of the voxels `x` of a block whose rows were placed, from the classes that `candidate` takes (at least
    /// one): every such class interpolated and rounded to half precision, the first of the greatest. `rows` are the
    /// block's rows of the output.
    pub fn decide(
        &mut self,
        logits: &Logits<'_>,
        grid: &Grid,
        block: Block,
        x: Range<usize>,
        candidate: impl Fn(usize) -> bool,
        rows: &mut [u8],
    ) {
        let n = x.len();
        self.value[..n].fill([f64::NEG_INFINITY; LANES]);
        for (class, values) in logits.each().enumerate().filter(|(class, _)| candidate(*class)) {
            self.scratch.stretch(values, grid, block, grid.axes[2].stretch(x.clone()));
            let number = f64::from(label(class));
            let sums = &self.scratch.sums.sums[..n];
            vectorised(|| contest(&mut self.value[..n], &mut self.class[..n], sums, number));
        }
        for (lane, row) in rows.chunks_mut(grid.axes[2].len()).enumerate() {
            for (out, class) in row[x.clone()].iter_mut().zip(&self.class) {
                #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a class below 256")]
                let class = class[lane] as u8;
                *out = class;
            }
        }
    }
}

/// Interpolates every class at every voxel, rounds to half precision, and takes the first of the greatest.
pub(super) fn exact(logits: &Logits<'_>, grid: &Grid, out: &mut [u8]) {
    let size = grid.new_size();
    each_block(
        out,
        size,
        || Best::new(grid),
        |best, block, rows| {
            best.scratch.place(grid, block);
            best.decide(logits, grid, block, 0..size[2], |_| true, rows);
        },
    );
}

/// Rounds the sums of a class to half precision; where they exceed the best so far, they and the class become that.
#[inline(always)]
fn contest(best: &mut [Lanes], classes: &mut [Lanes], sums: &[Lanes], number: f64) {
    for ((best, class), sums) in best.iter_mut().zip(classes).zip(sums) {
        for ((best, class), &sum) in best.iter_mut().zip(class).zip(sums) {
            let half = rounded(sum);
            let better = half > *best;
            *best = if better { half } else { *best };
            *class = if better { number } else { *class };
        }
    }
}
