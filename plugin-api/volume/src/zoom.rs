//! TotalSegmentator's resampling: scipy's `zoom` with mode `nearest` and without `grid_mode`, so that the centres of the
//! first and last voxels coincide.

use crate::cubic::cubic;
use crate::error::{Result, expect_length, expect_positive, voxels};
use crate::interpolate::AxisOrder;
use crate::linear::{Grid, linear};
use crate::nearest::{indices, nearest};
use crate::resample::Order;
use crate::sample::{FromReal, Sample};
use crate::taps::{Alignment, Taps};

/// The number of voxels (z, y, x) that scipy's `zoom` gives: `round_half_even(n * zoom)`.
///
/// # Errors
/// Zooms that are not positive; an axis that would have no or too many voxels.
#[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked")]
pub fn zoom_size(size: [usize; 3], zoom: [f64; 3]) -> Result<[usize; 3]> {
    expect_positive("zoom (z, y, x)", &zoom)?;
    let mut out = [0; 3];
    for axis in 0..3 {
        out[axis] = (size[axis] as f64 * zoom[axis]).round_ties_even() as usize;
    }
    voxels("size after zooming", out)?;
    Ok(out)
}

/// Resamples a volume `[z, y, x]` to `new_size`; values are computed in double precision and not clipped.
///
/// An integer `O` takes the result truncated toward zero, as TotalSegmentator casts its image to `int32`. For its bits
/// `order` must be [`AxisOrder::Xyz`].
///
/// # Errors
/// Lengths that do not fit, or an empty axis.
pub fn zoom<S: Sample, O: FromReal>(
    volume: &[S],
    size: [usize; 3],
    new_size: [usize; 3],
    spline: Order,
    order: AxisOrder,
) -> Result<Vec<O>> {
    expect_length("volume", size, volume.len())?;
    let mut out = vec![O::default(); voxels("size after zooming", new_size)?];
    match spline {
        Order::Nearest => {
            let axes = [0, 1, 2].map(|a| indices(Alignment::Centres, size[a], new_size[a]));
            nearest(volume, size, &axes, &mut out, |v| O::from_real(v.real()));
        }
        Order::Linear => {
            let axes = [0, 1, 2].map(|a| Taps::linear(Alignment::Centres, size[a], new_size[a]));
            linear(volume, &Grid { size, axes, order }, &mut out, |v, out| *out = O::from_real(v));
        }
        Order::Cubic => cubic(volume, size, new_size, Alignment::Centres, order, &mut out, O::from_real),
    }
    Ok(out)
}

/// Resamples labels (or any values that must not be mixed) to `new_size` by the nearest voxel.
///
/// # Errors
/// Lengths that do not fit, or an empty axis.
pub fn zoom_labels<T: Copy + Default + Send + Sync>(
    labels: &[T],
    size: [usize; 3],
    new_size: [usize; 3],
) -> Result<Vec<T>> {
    expect_length("labels", size, labels.len())?;
    let mut out = vec![T::default(); voxels("size after zooming", new_size)?];
    let axes = [0, 1, 2].map(|a| indices(Alignment::Centres, size[a], new_size[a]));
    nearest(labels, size, &axes, &mut out, |v| v);
    Ok(out)
}
