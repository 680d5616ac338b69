//! TotalSegmentator's `--higher_order_resampling_LEGACY`: every label of a finished segmentation as a mask of its own,
//! interpolated linearly.

use super::expect_labels;
use crate::bounds::Bounds;
use crate::error::{Result, voxels};
use crate::resample::present;
use crate::taps::{Alignment, Taps, coordinates};

/// Labels resampled to `new_size` by linear interpolation of each label's mask on centre-aligned grids; a voxel takes a
/// label where its mask reaches one half, of several the greatest label. Each mask is cropped to its box and two voxels
/// more first.
///
/// # Errors
/// A length that does not fit the size, or an empty axis.
pub fn one_hot(labels: &[u8], size: [usize; 3], new_size: [usize; 3]) -> Result<Vec<u8>> {
    use rayon::prelude::*;
    expect_labels(labels, size)?;
    let mut out = vec![0; voxels("labels after resampling", new_size)?];
    for label in present(labels).into_iter().filter(|&l| l != 0) {
        let Some(bounds) = Bounds::of(labels, size, |v| v == label)? else { continue };
        let bounds = bounds.grown([2; 3], size);
        let part = bounds.size();
        // The output voxels whose coordinate lies on the cropped mask; beyond it the mask is nought.
        let axes: [Vec<(usize, f64)>; 3] = [0, 1, 2].map(|a| {
            let low = bounds.low[a] as f64;
            let last = bounds.high[a] as f64 - 1.0;
            let reach = (
                if bounds.low[a] == 0 { -0.5 } else { low },
                if bounds.high[a] == size[a] { last + 0.5 } else { last },
            );
            coordinates(Alignment::Faces, size[a], new_size[a])
                .enumerate()
                .filter(|(_, c)| *c >= reach.0 && *c <= reach.1)
                .map(|(k, c)| (k, c - low))
                .collect()
        });
        let taps = [0, 1, 2].map(|a| Taps::linear_at(axes[a].iter().map(|&(_, c)| c), part[a]));
        let [first_z, first_y, first_x] = [0, 1, 2].map(|a| axes[a].first().map_or(0, |&(k, _)| k));
        let [_, new_y, new_x] = new_size;
        let mask = |z: usize, y: usize, x: usize| {
            let at = ((bounds.low[0] + z) * size[1] + bounds.low[1] + y) * size[2] + bounds.low[2] + x;
            if labels[at] == label { 1.0 } else { 0.0 }
        };
        out.par_chunks_mut(new_y * new_x).skip(first_z).zip(0..taps[0].len()).for_each(|(plane, z)| {
            for y in 0..taps[1].len() {
                let row = &mut plane[(first_y + y) * new_x + first_x..][..taps[2].len()];
                for (x, out) in row.iter_mut().enumerate() {
                    let mut sum = 0.0;
                    for a in 0..2 {
                        for b in 0..2 {
                            for c in 0..2 {
                                let at = [(0, z, a), (1, y, b), (2, x, c)]
                                    .map(|(axis, k, n)| (taps[axis].first[k] + n).clamp(1, part[axis]) - 1);
                                sum += mask(at[0], at[1], at[2])
                                    * taps[0].weights[z][a]
                                    * taps[1].weights[y][b]
                                    * taps[2].weights[x][c];
                            }
                        }
                    }
                    if sum >= 0.5 {
                        *out = label;
                    }
                }
            }
        });
    }
    Ok(out)
}
