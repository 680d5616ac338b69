//! The greatest logit of every voxel, interpolating only where the neighbours leave a doubt.
//!
//! Why the labels are the same: an interpolated value is a sum of products with weights that are not negative, formed in
//! one order for all classes. Rounding is monotone, so a class whose value is at least another's at all eight neighbours
//! is so after interpolation and after rounding to half precision. Among equals the first class is taken, so a class `k`
//! must stay strictly above the classes before it: it does if at every neighbour it exceeds them by `2^-9` of the greater
//! magnitude and `2^-22`, because the weights sum to one and half precision's places are at most `2^-10` of a magnitude
//! (`2^-24` near nought) apart: more than one place remains between the two sums.

use half::f16;
use rayon::prelude::*;

use super::plain::{Best, widen};
use super::{Logits, label};
use crate::interpolate::each_block;
use crate::linear::Grid;
use crate::vector::vectorised;

/// Where the neighbours leave a doubt.
const DOUBT: u8 = u8::MAX;

/// The class that is greatest at each voxel of the network's grid by enough, else [`DOUBT`].
fn certain(logits: &Logits<'_>) -> Vec<u8> {
    const PART: usize = 1024;
    let mut out = vec![0; logits.each().next().map_or(0, <[f16]>::len)];
    out.par_chunks_mut(PART).enumerate().for_each_init(
        || (vec![0.0_f32; PART], vec![0.0_f32; PART]),
        |(best, values), (part, out)| {
            let (best, values) = (&mut best[..out.len()], &mut values[..out.len()]);
            for (class, all) in logits.each().enumerate() {
                widen(&all[part * PART..][..out.len()], values);
                if class == 0 {
                    best.copy_from_slice(values);
                    continue;
                }
                let label = label(class);
                for ((out, best), &value) in out.iter_mut().zip(best.iter_mut()).zip(values.iter()) {
                    let margin = value.abs().max(best.abs()) * (1.0 / 512.0) + 2.4e-7;
                    let state = if value - *best >= margin { label } else { DOUBT };
                    let better = value > *best;
                    *out = if better { state } else { *out };
                    *best = if better { value } else { *best };
                }
            }
        },
    );
    out
}

/// Takes the class where the neighbours agree; elsewhere interpolates the classes that can win there.
pub(super) fn fast(logits: &Logits<'_>, grid: &Grid, out: &mut [u8]) {
    /// Output voxels along x that are decided together.
    const PIECE: usize = 32;
    let certain = certain(logits);
    let [nz, ny, nx] = grid.size;
    let size = grid.new_size();
    let [z, y, x] = &grid.axes;
    let scratch = || {
        (Best::new(grid), vec![0_u8; nx + 2], vec![false; size[2].div_ceil(PIECE)], vec![(0.0, 0.0); logits.classes()])
    };
    each_block(out, size, scratch, |(best, agreed, open, ranges), block, rows| {
        let planes = [0, 1].map(|a| (z.first[block.z] + a).clamp(1, nz) - 1);
        open.fill(false);
        for (lane, row) in rows.chunks_mut(size[2]).enumerate() {
            let lines = [0, 1].map(|b| (y.first[block.row(lane)] + b).clamp(1, ny) - 1);
            let line = |a: usize, b: usize| &certain[(planes[a] * ny + lines[b]) * nx..][..nx];
            let four = [line(0, 0), line(0, 1), line(1, 0), line(1, 1)];
            vectorised(|| agree(&mut agreed[1..=nx], four));
            agreed[0] = agreed[1];
            agreed[nx + 1] = agreed[nx];
            for ((piece, firsts), open) in row.chunks_mut(PIECE).zip(x.first.chunks(PIECE)).zip(open.iter_mut()) {
                for (out, &first) in piece.iter_mut().zip(firsts) {
                    let (p, q) = (agreed[first], agreed[first + 1]);
                    *open |= p != q || p == DOUBT;
                    *out = p;
                }
            }
        }
        if !open.contains(&true) {
            return;
        }
        best.scratch.place(grid, block);
        for piece in (0..open.len()).filter(|&piece| open[piece]) {
            let voxels = piece * PIECE..((piece + 1) * PIECE).min(size[2]);
            for (range, values) in ranges.iter_mut().zip(logits.each()) {
                let needs = x.stretch(voxels.clone()).needs();
                *range =
                    best.scratch.inputs(values, grid, block, needs).fold((f32::INFINITY, f32::NEG_INFINITY), extent);
            }
            // No interpolated value leaves the range of its neighbours, not by rounding either (both ends of the range
            // are half-precision numbers): a class that stays below another's least value never wins.
            let floor = ranges.iter().map(|r| r.0).fold(f32::NEG_INFINITY, f32::max);
            best.decide(logits, grid, block, voxels, |class| ranges[class].1 >= floor, rows);
        }
    });
}

/// The label that four lines have in common, voxel by voxel.
#[inline(always)]
fn agree(out: &mut [u8], [a, b, c, d]: [&[u8]; 4]) {
    for ((((out, &a), &b), &c), &d) in out.iter_mut().zip(a).zip(b).zip(c).zip(d) {
        *out = if (a == b) & (b == c) & (c == d) { a } else { DOUBT };
    }
}

/// Least and greatest value, of what was and a row.
fn extent((low, high): (f32, f32), row: &[f16]) -> (f32, f32) {
    let mut part = [0.0_f32; 64];
    row.chunks(64).fold((low, high), |(low, high), row| {
        let part = &mut part[..row.len()];
        widen(row, part);
        part.iter()
            .fold((low, high), |(low, high), &v| (if v < low { v } else { low }, if v > high { v } else { high }))
    })
}
