//! Filling what a mask encloses.

use crate::components::{Components, Connectivity};
use crate::error::{Result, voxels};

/// Fills the holes of a mask in space: background (6 neighbours) that reaches no side of the volume becomes 1.
/// How many voxels that were. scipy's `binary_fill_holes`.
///
/// # Errors
/// A length that does not fit the size.
pub fn fill_holes(mask: &mut [u8], size: [usize; 3]) -> Result<usize> {
    fill(mask, size, Connectivity::Faces, &[0, 1, 2])
}

/// Fills the holes of every slice by itself: background (4 neighbours) that reaches no edge of the slice becomes 1.
/// How many voxels that were.
///
/// # Errors
/// A length that does not fit the size.
pub fn fill_holes_in_slices(mask: &mut [u8], size: [usize; 3]) -> Result<usize> {
    fill(mask, size, Connectivity::SidesInSlice, &[1, 2])
}

fn fill(mask: &mut [u8], size: [usize; 3], connectivity: Connectivity, axes: &[usize]) -> Result<usize> {
    voxels("mask", size)?;
    let background = Components::find(mask, size, connectivity, |v| v == 0)?;
    let enclosed: Vec<bool> = background
        .list()
        .iter()
        .map(|c| axes.iter().all(|&a| c.bounds.low[a] > 0 && c.bounds.high[a] < size[a]))
        .collect();
    let mut filled = 0;
    background.each_run(|component, voxels| {
        if enclosed[component] {
            filled += voxels.len();
            mask[voxels].fill(1);
        }
    });
    Ok(filled)
}
