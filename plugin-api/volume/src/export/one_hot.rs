//! TotalSegmentator's `--higher_order_resampling_LEGACY`: every label of a finished segmentation as a mask of its own,
//! interpolated linearly.

use rayon::prelude::*;

use super::expect_labels;
use crate::bounds::Bounds;
use crate::error::{Result, voxels};
use crate::interpolate::AxisOrder;
use crate::linear::{Grid, linear};
use crate::resample::present;
use crate::taps::{Alignment, Taps, coordinates};

/// Labels resampled to `new_size` by linear interpolation of each label's mask on centre-aligned grids; a voxel takes a
/// label where its mask, in single precision, reaches one half; of several the greatest label. Each mask is cropped to
/// its box and two voxels more first.
///
/// # Errors
/// A length that does not fit the size, or an empty axis.
pub fn one_hot(labels: &[u8], size: [usize; 3], new_size: [usize; 3]) -> Result<Vec<u8>> {
    expect_labels(labels, size)?;
    let mut out = vec![0; voxels("labels after resampling", new_size)?];
    for label in present(labels).into_iter().filter(|&l| l != 0) {
        let Some(bounds) = Bounds::of(labels, size, |v| v == label)? else { continue };
        let bounds = bounds.grown([2; 3], size);
        let mut mask = bounds.cut(labels, size)?;
        mask.iter_mut().for_each(|v| *v = u8::from(*v == label));
        let reached = [0, 1, 2].map(|a| reached(&bounds, a, size[a], new_size[a]));
        let axes = [0, 1, 2].map(|a| Taps::linear_at(reached[a].1.iter().copied(), bounds.size()[a]));
        // nibabel's arrays are x, y, z.
        let grid = Grid { size: bounds.size(), axes, order: AxisOrder::Xyz };
        let part = grid.new_size();
        if part.contains(&0) {
            continue;
        }
        let mut inside = vec![0_u8; voxels("mask", part)?];
        linear(&mask, &grid, &mut inside, |v, out| *out = u8::from(v as f32 >= 0.5));
        let [first_z, first_y, first_x] = [0, 1, 2].map(|a| reached[a].0);
        let planes = out.par_chunks_mut(new_size[1] * new_size[2]).skip(first_z);
        planes.zip(inside.par_chunks(part[1] * part[2])).for_each(|(plane, inside)| {
            for (row, inside) in plane.chunks_mut(new_size[2]).skip(first_y).zip(inside.chunks(part[2])) {
                for (out, &inside) in row[first_x..].iter_mut().zip(inside) {
                    *out = if inside != 0 { label } else { *out };
                }
            }
        });
    }
    Ok(out)
}

/// The output voxels of an axis whose coordinate lies on the cropped mask (beyond it the mask is nought): the first, and
/// the coordinates in the cropped mask.
#[expect(clippy::cast_precision_loss, reason = "axes are far shorter than 2^52")]
fn reached(bounds: &Bounds, axis: usize, old: usize, new: usize) -> (usize, Vec<f64>) {
    let (low, last) = (bounds.low[axis] as f64, bounds.high[axis] as f64 - 1.0);
    let from = if bounds.low[axis] == 0 { -0.5 } else { low };
    let to = if bounds.high[axis] == old { last + 0.5 } else { last };
    let first = coordinates(Alignment::Faces, old, new).take_while(|&c| c < from).count();
    let inside = coordinates(Alignment::Faces, old, new).skip(first).take_while(|&c| c <= to);
    (first, inside.map(|c| c - low).collect())
}
