//! nnU-Net's resampling: centre-aligned grids whose outer faces coincide, planes apart from each other where the voxels
//! are far longer along one axis than along the others.
//!
//! What nnU-Net calls `resample_data_or_seg_to_shape`, which is scikit-image's `resize` with mode `edge`, which is scipy's
//! `zoom` with mode `nearest` and `grid_mode`.

use rayon::prelude::*;

use crate::cubic::{cubic, cubic_plane};
use crate::error::{Error, Result, expect_length, expect_positive, voxels};
use crate::interpolate::AxisOrder;
use crate::linear::{Grid, linear};
use crate::nearest::{indices, nearest};
use crate::permute::permute;
use crate::sample::Sample;
use crate::taps::{Alignment, Taps};

/// Degree of the interpolating spline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Order {
    /// The nearest voxel (order 0).
    Nearest,
    /// Linear (order 1).
    Linear,
    /// Cubic B-spline (order 3).
    Cubic,
}

impl TryFrom<usize> for Order {
    type Error = Error;

    fn try_from(order: usize) -> Result<Self> {
        match order {
            0 => Ok(Self::Nearest),
            1 => Ok(Self::Linear),
            3 => Ok(Self::Cubic),
            found => Err(Error::Range { what: "spline order", expected: "0, 1 or 3".into(), found }),
        }
    }
}

/// How nnU-Net's plans ask for resampling.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resampling {
    /// Degree of the spline in space, or within the planes when they are apart.
    pub order: Order,
    /// `force_separate_z` of the plans: planes apart always, never, or (`None`) when the spacings say so. Across planes
    /// that are apart the nearest one is taken (`order_z = 0`, the only one nnU-Net's plans use).
    pub force_separate: Option<bool>,
}

impl Resampling {
    /// For images: cubic.
    pub const IMAGE: Self = Self { order: Order::Cubic, force_separate: None };
    /// For logits and probabilities: linear.
    pub const LOGITS: Self = Self { order: Order::Linear, force_separate: None };
}

/// The number of voxels (z, y, x) after resampling: `round_half_even(current / new * n)` in this order of operations.
///
/// # Errors
/// Spacings that are not positive; an axis that would have no or too many voxels.
#[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked")]
pub fn new_size(size: [usize; 3], current_mm: [f64; 3], new_mm: [f64; 3]) -> Result<[usize; 3]> {
    expect_positive("current spacing in mm (z, y, x)", &current_mm)?;
    expect_positive("new spacing in mm (z, y, x)", &new_mm)?;
    let mut out = [0; 3];
    for axis in 0..3 {
        // Beyond 2^52 the count below is refused for its product.
        out[axis] = (current_mm[axis] / new_mm[axis] * size[axis] as f64).round_ties_even() as usize;
    }
    voxels("size after resampling", out)?;
    Ok(out)
}

/// The axis (of z, y, x) whose planes are resampled apart from each other, if any.
///
/// Without `force`: where the greatest spacing is more than three times the least, first of the current then of the new
/// grid, the axis of the greatest; none if two axes share it. With `force`: as it says, the axis from the current grid.
#[must_use]
pub fn separate_axis(current_mm: [f64; 3], new_mm: [f64; 3], force: Option<bool>) -> Option<usize> {
    let greatest = |mm: [f64; 3]| mm.into_iter().fold(f64::MIN, f64::max);
    let least = |mm: [f64; 3]| mm.into_iter().fold(f64::MAX, f64::min);
    let anisotropic = |mm: [f64; 3]| greatest(mm) / least(mm) > 3.0;
    let from = match force {
        Some(true) => current_mm,
        Some(false) => return None,
        None if anisotropic(current_mm) => current_mm,
        None if anisotropic(new_mm) => new_mm,
        None => return None,
    };
    let longest = greatest(from);
    let mut axes = (0..3).filter(|&axis| from[axis] == longest);
    let axis = axes.next();
    if axes.next().is_some() { None } else { axis }
}

/// Resamples one channel `[z, y, x]` as nnU-Net does an image; unchanged if the size is.
///
/// Cubic results are clipped to the range of the channel (of each plane, where planes are apart).
///
/// # Errors
/// Lengths that do not fit, an empty axis, or spacings that are not positive.
pub fn resample(
    image: &[f32],
    size: [usize; 3],
    new_size: [usize; 3],
    current_mm: [f64; 3],
    new_mm: [f64; 3],
    how: Resampling,
) -> Result<Vec<f32>> {
    expect_length("image", size, image.len())?;
    expect_positive("current spacing in mm (z, y, x)", &current_mm)?;
    expect_positive("new spacing in mm (z, y, x)", &new_mm)?;
    voxels("size after resampling", new_size)?;
    if size == new_size {
        return Ok(image.to_vec());
    }
    match separate_axis(current_mm, new_mm, how.force_separate) {
        None => resize(image, size, new_size, how.order),
        Some(axis) => separately(image, size, new_size, how.order, axis),
    }
}

/// Resamples one channel in space: scikit-image's `resize` with mode `edge`, without anti-aliasing, clipped.
///
/// # Errors
/// Lengths that do not fit, or an empty axis.
pub fn resize(image: &[f32], size: [usize; 3], new_size: [usize; 3], order: Order) -> Result<Vec<f32>> {
    expect_length("image", size, image.len())?;
    let mut out = vec![0.0; voxels("size after resampling", new_size)?];
    match order {
        Order::Nearest => {
            let axes = [0, 1, 2].map(|a| indices(Alignment::Faces, size[a], new_size[a]));
            nearest(image, size, &axes, &mut out, |v| v);
        }
        Order::Linear => {
            let axes = [0, 1, 2].map(|a| Taps::linear(Alignment::Faces, size[a], new_size[a]));
            linear(image, &Grid { size, axes, order: AxisOrder::Zyx }, &mut out, |v, out| *out = v as f32);
        }
        Order::Cubic => {
            let (low, high) = range(image);
            cubic(image, size, new_size, Alignment::Faces, AxisOrder::Zyx, &mut out, |v| v.max(low).min(high) as f32);
        }
    }
    Ok(out)
}

/// Least and greatest value.
fn range(values: &[f32]) -> (f64, f64) {
    let pair = values
        .par_chunks(1 << 16)
        .map(|part| part.iter().fold((f32::INFINITY, f32::NEG_INFINITY), |(l, h), &v| (l.min(v), h.max(v))))
        .reduce(|| (f32::INFINITY, f32::NEG_INFINITY), |a, b| (a.0.min(b.0), a.1.max(b.1)));
    (f64::from(pair.0), f64::from(pair.1))
}

/// Resamples every plane across `axis` by itself, then takes the nearest plane.
fn separately(image: &[f32], size: [usize; 3], new_size: [usize; 3], order: Order, axis: usize) -> Result<Vec<f32>> {
    // `axis` first, the others in their order: moving an axis to the front and back.
    let (forward, backward) = match axis {
        0 => ([0, 1, 2], [0, 1, 2]),
        1 => ([1, 0, 2], [1, 0, 2]),
        _ => ([2, 0, 1], [1, 2, 0]),
    };
    let turned;
    let (planes, [count, ny, nx]) = if axis == 0 {
        (image, size)
    } else {
        let (values, size) = permute(image, size, forward, [false; 3])?;
        turned = values;
        (turned.as_slice(), size)
    };
    let [new_count, new_ny, new_nx] = forward.map(|a| new_size[a]);
    let mut resized = vec![0.0_f32; voxels("size after resampling", [count, new_ny, new_nx])?];
    match order {
        Order::Nearest | Order::Linear => {
            let flat = [count, ny, nx];
            let y = (ny, new_ny);
            let x = (nx, new_nx);
            if order == Order::Nearest {
                let axes =
                    [(0..count).collect(), indices(Alignment::Faces, y.0, y.1), indices(Alignment::Faces, x.0, x.1)];
                nearest(planes, flat, &axes, &mut resized, |v| v);
            } else {
                let axes = [
                    Taps::nearest(Alignment::Faces, count, count),
                    Taps::linear(Alignment::Faces, y.0, y.1),
                    Taps::linear(Alignment::Faces, x.0, x.1),
                ];
                linear(planes, &Grid { size: flat, axes, order: AxisOrder::Zyx }, &mut resized, |v, out| {
                    *out = v as f32
                });
            }
        }
        Order::Cubic => {
            resized.par_chunks_mut(new_ny * new_nx).zip(planes.par_chunks(ny * nx)).for_each(|(out, plane)| {
                let (low, high) = range(plane);
                let clip = |v: f64| v.max(low).min(high) as f32;
                cubic_plane(plane, [ny, nx], [new_ny, new_nx], Alignment::Faces, out, clip);
            });
        }
    }
    let across = indices(Alignment::Faces, count, new_count);
    let mut out = Vec::with_capacity(new_count * new_ny * new_nx);
    for &k in &across {
        out.extend_from_slice(&resized[k * new_ny * new_nx..][..new_ny * new_nx]);
    }
    drop(resized);
    if axis == 0 {
        return Ok(out);
    }
    Ok(permute(&out, [new_count, new_ny, new_nx], backward, [false; 3])?.0)
}

/// The labels that occur, ascending.
pub(crate) fn present<S: Sample + Into<u8>>(labels: &[S]) -> Vec<u8> {
    let mut seen = [false; 256];
    for &label in labels {
        seen[usize::from(label.into())] = true;
    }
    (0..=u8::MAX).filter(|&l| seen[usize::from(l)]).collect()
}
