//! What nnU-Net's sliding window needs: where windows start, and how much each voxel of one counts.

use half::f16;

use crate::error::{Error, Result, expect_positive, voxels};
use crate::half_round::to_f16;

/// The first voxel of every window along each axis (z, y, x): as few windows as a stride of at most `step` windows
/// allows, evenly spread.
///
/// # Errors
/// An axis shorter than the window (pad first), an empty one, or a step that is not in 0..=1.
#[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked")]
pub fn starts(size: [usize; 3], window: [usize; 3], step: f64) -> Result<[Vec<usize>; 3]> {
    voxels("image", size)?;
    voxels("window", window)?;
    expect_positive("step (of a window)", &[step, 1.0])?;
    if step > 1.0 {
        return Err(Error::Values { what: "step (of a window)", low: 0.0, high: 1.0, found: step });
    }
    let mut out = [vec![], vec![], vec![]];
    for axis in 0..3 {
        let Some(room) = size[axis].checked_sub(window[axis]) else {
            let expected = format!("at least {} voxels along axis {axis} for one window", window[axis]);
            return Err(Error::Range { what: "image", expected, found: size[axis] });
        };
        let stride = window[axis] as f64 * step;
        let n = (room as f64 / stride).ceil() as usize + 1;
        let stride = if n > 1 { room as f64 / (n as f64 - 1.0) } else { 0.0 };
        out[axis] = (0..n).map(|k| (stride * k as f64).round_ties_even() as usize).collect();
    }
    Ok(out)
}

/// One axis of the Gaussian: what a unit impulse in the middle (`n / 2`) becomes under scipy's `gaussian_filter1d` with a
/// deviation of an eighth of the axis, cut off at four deviations.
#[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small")]
fn bell(n: usize) -> Vec<f64> {
    let sigma = n as f64 / 8.0;
    let radius = (4.0 * sigma + 0.5) as usize;
    let weight = |d: usize| (-0.5 / (sigma * sigma) * (d * d) as f64).exp();
    let all: Vec<f64> = (0..=2 * radius).map(|k| weight(k.abs_diff(radius))).collect();
    let sum = pairwise(&all);
    (0..n).map(|k| k.abs_diff(n / 2)).map(|d| if d > radius { 0.0 } else { weight(d) / sum }).collect()
}

/// numpy's pairwise sum in double precision.
fn pairwise(values: &[f64]) -> f64 {
    let n = values.len();
    if n < 8 {
        return values.iter().sum();
    }
    if n > 128 {
        let half = n / 2 - (n / 2) % 8;
        return pairwise(&values[..half]) + pairwise(&values[half..]);
    }
    let mut sums = [0.0; 8];
    let chunks = values.chunks_exact(8);
    let rest = chunks.remainder();
    for chunk in chunks {
        for (sum, v) in sums.iter_mut().zip(chunk) {
            *sum += v;
        }
    }
    let [a, b, c, d, e, f, g, h] = sums;
    rest.iter().fold(((a + b) + (c + d)) + ((e + f) + (g + h)), |sum, v| sum + v)
}

/// How much each voxel of a window `[z, y, x]` counts: a Gaussian with 10 in the middle, rounded to half precision; where
/// it would be nought, the least that is not.
///
/// # Errors
/// An empty window.
pub fn importance_map(window: [usize; 3]) -> Result<Vec<f16>> {
    let n = voxels("window", window)?;
    let [z, y, x] = window.map(bell);
    let mut map = Vec::with_capacity(n);
    for &wz in &z {
        for &wy in &y {
            map.extend(x.iter().map(|&wx| wz * wy * wx));
        }
    }
    let greatest = map.iter().copied().fold(0.0, f64::max);
    let scale = greatest / 10.0;
    let map: Vec<f16> = map.iter().map(|&w| to_f16(w / scale)).collect();
    let least = map.iter().copied().filter(|w| w.to_bits() != 0).min_by_key(|w| w.to_bits()).unwrap_or(f16::ONE);
    Ok(map.into_iter().map(|w| if w.to_bits() == 0 { least } else { w }).collect())
}
