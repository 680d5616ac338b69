//! TotalSegmentator's `--higher_order_resampling`: nnU-Net's export, with every class but the first only where it can be.

use half::f16;
use rayon::prelude::*;

use super::{Decision, Logits, grid, label};
use crate::bounds::Bounds;
use crate::error::{Result, voxels};
use crate::half_round::{rounded, to_f16};
use crate::interpolate::AxisOrder;
use crate::linear::{Grid, linear};
use crate::taps::{Alignment, Taps, coordinates};

/// The labels at `new_size`: class 0 resampled as nnU-Net does; then, ascending, each class that is greatest somewhere on
/// the network's grid, inside the box of those voxels and three more: interpolated linearly at coordinates rounded to
/// single precision, taken where it exceeds the best so far, which is kept in half precision.
///
/// Needs one half-precision volume at `new_size` besides the labels. `separate` is as for [`super::labels`] and concerns
/// class 0 alone.
///
/// # Errors
/// An empty axis, or an axis number beyond 2.
pub fn higher_order(logits: &Logits<'_>, new_size: [usize; 3], separate: Option<usize>) -> Result<Vec<u8>> {
    let n = voxels("labels", new_size)?;
    super::expect_axis(separate)?;
    let size = logits.size();
    let mut low = vec![0; voxels("logits", size)?];
    Decision::Greatest.every(logits, &mut low);
    let mut best = vec![f16::ZERO; n];
    if size == new_size {
        best.copy_from_slice(logits.class(0));
    } else {
        linear(logits.class(0), &grid(size, new_size, separate), &mut best, |v, out| *out = to_f16(v));
    }
    let mut cells: Vec<(f16, u8)> = best.into_iter().map(|value| (value, 0)).collect();
    for class in 1..logits.classes() {
        let Some(bounds) = Bounds::of(&low, size, |v| v == label(class))? else { continue };
        let bounds = bounds.grown([3; 3], size);
        let part = bounds.cut(logits.class(class), size)?;
        let ranges = [0, 1, 2].map(|a| range(bounds.low[a], bounds.high[a], size[a], new_size[a]));
        let axes = [0, 1, 2].map(|a| {
            let (from, to) = ranges[a];
            let single = coordinates(Alignment::Faces, size[a], new_size[a])
                .skip(from)
                .take(to - from)
                .map(|c| f64::from((c - bounds.low[a] as f64) as f32));
            Taps::linear_at(single, bounds.size()[a])
        });
        let grid = Grid { size: bounds.size(), axes, order: AxisOrder::Zyx };
        let [_, ny, nx] = grid.new_size();
        let mut values = vec![0.0_f32; voxels("class", grid.new_size())?];
        linear(&part, &grid, &mut values, |v, out| *out = v as f32);
        let [(first_z, _), (first_y, _), (first_x, _)] = ranges;
        cells.par_chunks_mut(new_size[1] * new_size[2]).skip(first_z).zip(values.par_chunks(ny * nx)).for_each(
            |(plane, values)| {
                for (y, values) in values.chunks(nx).enumerate() {
                    let row = &mut plane[(first_y + y) * new_size[2] + first_x..][..nx];
                    for ((best, out), &value) in row.iter_mut().map(|c| (&mut c.0, &mut c.1)).zip(values) {
                        if value > best.to_f32() {
                            *best = f16::from_f64(rounded(f64::from(value)));
                            *out = label(class);
                        }
                    }
                }
            },
        );
    }
    Ok(cells.into_iter().map(|(_, label)| label).collect())
}

/// The output voxels that a box of the network's grid covers along one axis.
#[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an axis")]
fn range(low: usize, high: usize, old: usize, new: usize) -> (usize, usize) {
    let scale = new as f64 / old as f64;
    let from = (low as f64 * scale).floor() as usize;
    let to = ((high as f64 * scale).ceil() as usize).min(new);
    (from.min(new - 1), to.max(from.min(new - 1) + 1))
}
