//! Growing a mask by whole voxels.

use rayon::prelude::*;

use crate::error::{Result, expect_length};

/// The mask (0 outside, else inside) after `iterations` dilations with the 6 neighbours: 1 wherever the city-block
/// distance to the mask is at most `iterations`. scipy's `binary_dilation` with its own structure.
///
/// # Errors
/// A length that does not fit the size.
pub fn dilate(mask: &[u8], size: [usize; 3], iterations: usize) -> Result<Vec<u8>> {
    const MOST: usize = 254;
    expect_length("mask", size, mask.len())?;
    let mut mask: Vec<u8> = mask.iter().map(|&m| u8::from(m != 0)).collect();
    let mut left = iterations.min(size[0] + size[1] + size[2]);
    while left > 0 {
        let step = u8::try_from(left.min(MOST)).unwrap_or(u8::MAX - 1);
        distances(&mut mask, size);
        mask.par_iter_mut().for_each(|d| *d = u8::from(*d <= step));
        left -= usize::from(step);
    }
    Ok(mask)
}

/// Replaces a mask by each voxel's city-block distance to it (255: at least that far), axis by axis.
fn distances(mask: &mut [u8], [nz, ny, nx]: [usize; 3]) {
    let closer = |to: &mut [u8], from: &[u8]| {
        for (to, &from) in to.iter_mut().zip(from) {
            *to = (*to).min(from.saturating_add(1));
        }
    };
    mask.par_chunks_mut(ny * nx).for_each(|plane| {
        for row in plane.chunks_mut(nx) {
            let mut near = u8::MAX;
            for d in row.iter_mut() {
                near = if *d != 0 { 0 } else { near.saturating_add(1) };
                *d = near;
            }
            for d in row.iter_mut().rev() {
                near = near.saturating_add(1).min(*d);
                *d = near;
            }
        }
        for y in 1..ny {
            let (before, this) = plane.split_at_mut(y * nx);
            closer(&mut this[..nx], &before[(y - 1) * nx..]);
        }
        for y in (0..ny - 1).rev() {
            let (this, after) = plane.split_at_mut((y + 1) * nx);
            closer(&mut this[y * nx..], &after[..nx]);
        }
    });
    let plane = ny * nx;
    for z in 1..nz {
        let (before, this) = mask.split_at_mut(z * plane);
        closer(&mut this[..plane], &before[(z - 1) * plane..]);
    }
    for z in (0..nz - 1).rev() {
        let (this, after) = mask.split_at_mut((z + 1) * plane);
        closer(&mut this[z * plane..], &after[..plane]);
    }
}
