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

use super::plain::widen;
use super::{Logits, label};
use crate::half_round::rounded;
use crate::interpolate::{LANES, each_block};
use crate::linear::Grid;

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

/// Takes the class where the neighbours agree, and interpolates all classes elsewhere.
pub(super) fn fast(logits: &Logits<'_>, grid: &Grid, out: &mut [u8]) {
    let certain = certain(logits);
    let [nz, ny, nx] = grid.size;
    let size = grid.new_size();
    let [z, y, x] = &grid.axes;
    let scratch = || (vec![0_u8; nx + 2], Vec::<usize>::with_capacity(size[2]));
    each_block(out, size, scratch, |(agreed, open), block, rows| {
        let planes = [0, 1].map(|a| (z.first[block.z] + a).clamp(1, nz) - 1);
        for (lane, row) in rows.chunks_mut(size[2]).enumerate() {
            debug_assert!(lane < LANES);
            let at = block.row(lane);
            let lines = [0, 1].map(|b| (y.first[at] + b).clamp(1, ny) - 1);
            let from = |a: usize, b: usize| (planes[a] * ny + lines[b]) * nx;
            let four = [from(0, 0), from(0, 1), from(1, 0), from(1, 1)].map(|f| &certain[f..f + nx]);
            for (i, agreed) in agreed[1..=nx].iter_mut().enumerate() {
                let [p, q, r, s] = four.map(|line| line[i]);
                *agreed = if p == q && q == r && r == s { p } else { DOUBT };
            }
            agreed[0] = agreed[1];
            agreed[nx + 1] = agreed[nx];
            open.clear();
            for (i, (out, &first)) in row.iter_mut().zip(&x.first).enumerate() {
                let (p, q) = (agreed[first], agreed[first + 1]);
                *out = p;
                if p != q || p == DOUBT {
                    open.push(i);
                }
            }
            let four = [from(0, 0), from(0, 1), from(1, 0), from(1, 1)];
            let (wz, wy) = (z.weights[block.z], y.weights[at]);
            let weights = [(wz[0], wy[0]), (wz[0], wy[1]), (wz[1], wy[0]), (wz[1], wy[1])];
            for &i in open.iter() {
                let pair = [0, 1].map(|c| (x.first[i] + c).clamp(1, nx) - 1);
                let wx = x.weights[i];
                let mut best = f64::NEG_INFINITY;
                for (class, values) in logits.each().enumerate() {
                    let mut sum = 0.0;
                    for (&(wz, wy), &from) in weights.iter().zip(&four) {
                        for (&at, &wx) in pair.iter().zip(&wx) {
                            sum += ((values[from + at].to_f64() * wz) * wy) * wx;
                        }
                    }
                    let half = rounded(sum);
                    if half > best {
                        best = half;
                        row[i] = label(class);
                    }
                }
            }
        }
    });
}
