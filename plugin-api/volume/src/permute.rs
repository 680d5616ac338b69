//! Axes of a volume in another order, each possibly reversed.

use rayon::prelude::*;

use crate::error::{Error, Result, expect_length};

/// The volume whose axis `a` is the input's axis `axes[a]`, reversed where `flips[a]`; with its size.
///
/// # Errors
/// A length that does not fit the size, or `axes` that name an axis twice.
pub fn permute<T: Copy + Default + Send + Sync>(
    values: &[T],
    size: [usize; 3],
    axes: [usize; 3],
    flips: [bool; 3],
) -> Result<(Vec<T>, [usize; 3])> {
    expect_length("volume", size, values.len())?;
    for axis in 0..3 {
        if !axes.contains(&axis) {
            let found = axes[0] * 100 + axes[1] * 10 + axes[2];
            return Err(Error::Range { what: "order of axes", expected: "each of 0, 1, 2 once".into(), found });
        }
    }
    let strides = [size[1] * size[2], size[2], 1];
    let [nz, ny, nx] = axes.map(|a| size[a]);
    let [sz, sy, sx] = axes.map(|a| strides[a]);
    let at = |k: usize, n: usize, flip: bool, stride: usize| if flip { (n - 1 - k) * stride } else { k * stride };
    let mut out = vec![T::default(); values.len()];
    out.par_chunks_mut(ny * nx).enumerate().for_each(|(z, plane)| {
        let z = at(z, nz, flips[0], sz);
        for (y, row) in plane.chunks_mut(nx).enumerate() {
            let from = z + at(y, ny, flips[1], sy);
            match (sx, flips[2]) {
                (1, false) => row.copy_from_slice(&values[from..from + nx]),
                (1, true) => row.iter_mut().zip(values[from..from + nx].iter().rev()).for_each(|(o, &v)| *o = v),
                _ => row.iter_mut().enumerate().for_each(|(x, o)| *o = values[from + at(x, nx, flips[2], sx)]),
            }
        }
    });
    Ok((out, [nz, ny, nx]))
}
