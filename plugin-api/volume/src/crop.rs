//! nnU-Net's cropping to what is not nought.

use crate::bounds::Bounds;
use crate::error::{Error, Result, expect_length, voxels};
use crate::holes::fill_holes;

/// The box around every voxel that is not nought in some channel; the whole volume if there is none.
///
/// nnU-Net fills the holes of that mask first, which moves no side of the box. `channels` is `[channel, z, y, x]`.
///
/// # Errors
/// A length that is not a whole number of channels (at least one) of the size.
pub fn bounds_of_nonzero(channels: &[f32], size: [usize; 3]) -> Result<Bounds> {
    let mut found: Option<Bounds> = None;
    for channel in split("image", channels, size)? {
        if let Some(bounds) = Bounds::of(channel, size, |v| v != 0.0)? {
            found = Some(found.map_or(bounds, |f| f.united(bounds)));
        }
    }
    Ok(found.unwrap_or(Bounds::all(size)))
}

/// The mask that nnU-Net normalises within where a plan says so: voxels that are not nought in some channel, and the holes
/// they enclose; 1 inside, 0 outside.
///
/// # Errors
/// A length that is not a whole number of channels (at least one) of the size.
pub fn nonzero_mask(channels: &[f32], size: [usize; 3]) -> Result<Vec<u8>> {
    let mut mask = vec![0; voxels("image", size)?];
    for channel in split("image", channels, size)? {
        for (mask, &value) in mask.iter_mut().zip(channel) {
            *mask |= u8::from(value != 0.0);
        }
    }
    fill_holes(&mut mask, size)?;
    Ok(mask)
}

/// The channels of `[channel, z, y, x]`.
fn split<'a>(what: &'static str, channels: &'a [f32], size: [usize; 3]) -> Result<std::slice::ChunksExact<'a, f32>> {
    let n = voxels(what, size)?;
    if channels.is_empty() || !channels.len().is_multiple_of(n) {
        expect_length(what, size, channels.len())?;
        return Err(Error::Length { what, size: size.to_vec(), expected: n, found: channels.len() });
    }
    Ok(channels.chunks_exact(n))
}
