//! Nearest-neighbour resampling (order 0): every output voxel is a copy of one input voxel.

use rayon::prelude::*;

use crate::taps::{Alignment, coordinates, nearest_index};

/// For each output voxel of an axis the input voxel that is copied.
pub(crate) fn indices(alignment: Alignment, old: usize, new: usize) -> Vec<usize> {
    coordinates(alignment, old, new).map(|c| nearest_index(c, old)).collect()
}

/// Copies along three index lists. The lengths were checked by the caller.
pub(crate) fn nearest<S: Copy + Sync, O: Copy + Send>(
    volume: &[S],
    size: [usize; 3],
    [z, y, x]: &[Vec<usize>; 3],
    out: &mut [O],
    convert: impl Fn(S) -> O + Sync,
) {
    let [_, ny, nx] = size;
    let (new_y, new_x) = (y.len(), x.len());
    out.par_chunks_mut(new_y * new_x).zip(z).for_each(|(plane, &z)| {
        for (row, &iy) in y.iter().enumerate() {
            let at = row * new_x;
            if row > 0 && y[row - 1] == iy {
                plane.copy_within(at - new_x..at, at);
                continue;
            }
            let from = &volume[(z * ny + iy) * nx..][..nx];
            for (out, &ix) in plane[at..at + new_x].iter_mut().zip(x) {
                *out = convert(from[ix]);
            }
        }
    });
}
