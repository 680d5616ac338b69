//! What the published DuCoSy program makes of labels before it masks: the heart is trimmed ([`trim`]: everything above its
//! top in each column, what lies far from its axis, and crumbs go), and every structure is widened ([`widen`]).
//!
//! Everything is counted in voxels, as published, on arrays whose axes point [up, to the back, to the left] (`[z, y, x]` of
//! LPS), whatever the size of a voxel.

use rayon::prelude::*;

use gantry_volume::outline::{stroke_four, stroke_two};
use gantry_volume::{Components, Connectivity, Result, remove_small};

/// The heart is at most this much wider than its lowest central slice.
const MARGIN: f64 = 1.15;
/// How much faster the limit is reached upwards than within a slice.
const UPWARD: f64 = 2.65;
/// How much more a distance to the back counts, at most, far to the side.
const SIDEWAYS: f64 = 0.4;
/// A component needs this many voxels to stay.
const WHOLE_VOXELS: usize = 1024;

/// Trims a heart (`[z, y, x]`, 1 inside, 0 outside) in place. Nothing happens to an empty one.
///
/// # Errors
/// If the voxels are not as many as `size` says.
pub fn trim(heart: &mut [u8], size: [usize; 3]) -> Result<()> {
    let components = Components::find(heart, size, Connectivity::Faces, |v| v != 0)?;
    let centres = components.list().iter().map(|component| component.centroid);
    let Some(axis) = centres.min_by(|a, b| a[0].total_cmp(&b[0])) else { return Ok(()) };
    let slice = axis[0] as usize;
    cut_above_gaps(heart, size, slice);
    if let Some(radius) = radius_in_slice(heart, size, slice, axis) {
        trim_far(heart, size, axis, MARGIN * radius);
    }
    remove_small(heart, size, 1, WHOLE_VOXELS - 1)?;
    Ok(())
}

/// Walks up every column from slice `from`: at the first two empty voxels in a row everything from the first of them on goes.
fn cut_above_gaps(heart: &mut [u8], [slices, rows, columns]: [usize; 3], from: usize) {
    let plane = rows * columns;
    for at in 0..plane {
        let empty = |z: usize| heart[z * plane + at] == 0;
        let gap = (from..slices.saturating_sub(1)).find(|&z| empty(z) && empty(z + 1));
        for z in gap.into_iter().flat_map(|z| z..slices) {
            heart[z * plane + at] = 0;
        }
    }
}

/// The largest distance in voxels of slice `z` from the axis, within the slice.
fn radius_in_slice(heart: &[u8], [_, rows, columns]: [usize; 3], z: usize, axis: [f64; 3]) -> Option<f64> {
    let plane = heart.get(z * rows * columns..(z + 1) * rows * columns)?;
    let inside = plane.iter().enumerate().filter(|(_, v)| **v != 0);
    let distance = |at: usize| {
        let (dy, dx) = ((at / columns) as f64 - axis[1], (at % columns) as f64 - axis[2]);
        (dx * dx + dy * dy).sqrt()
    };
    inside.map(|(at, _)| distance(at)).max_by(f64::total_cmp)
}

/// Removes voxels at `radius` and farther; distances upwards, and upwards to the back, count for more.
fn trim_far(heart: &mut [u8], size: [usize; 3], axis: [f64; 3], radius: f64) {
    let [_, rows, columns] = size;
    let offset = |at: usize| {
        let (z, y, x) = (at / (rows * columns), at / columns % rows, at % columns);
        [z as f64 - axis[0], y as f64 - axis[1], x as f64 - axis[2]]
    };
    let inside = heart.iter().enumerate().filter(|(_, v)| **v != 0);
    let widest = inside.map(|(at, _)| offset(at)[2].abs()).fold(0.0, f64::max);
    for (at, voxel) in heart.iter_mut().enumerate().filter(|(_, v)| **v != 0) {
        let [dz, dy, dx] = offset(at);
        let outward = 1.0 + SIDEWAYS * dx.abs() / (widest + 1e-5);
        let back = if dy > 0.0 && dz > 0.0 { dy * outward } else { dy };
        let up = if dz > 0.0 { UPWARD * dz } else { dz };
        if (dx * dx + back * back + up * up).sqrt() >= radius {
            *voxel = 0;
        }
    }
}

/// The mask (0 or 1) of labels: in every slice each of the `wanted` ones is filled and stroked, all are united, and the union
/// is stroked once more.
///
/// # Errors
/// If the voxels are not as many as `size` says.
pub fn widen(labels: &[u8], size: [usize; 3], wanted: &[u8]) -> Result<Vec<u8>> {
    let [_, rows, columns] = size;
    let slices = labels.par_chunks(rows * columns).map(|slice| {
        let mut union = vec![0; slice.len()];
        for &label in wanted.iter().filter(|label| slice.contains(label)) {
            let one: Vec<u8> = slice.iter().map(|&found| u8::from(found == label)).collect();
            for (union, stroked) in union.iter_mut().zip(stroke_two(&one, [rows, columns])?) {
                *union |= stroked;
            }
        }
        stroke_four(&union, [rows, columns])
    });
    Ok(slices.collect::<Result<Vec<_>>>()?.concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ball(size: [usize; 3], centre: [f64; 3], radius: f64) -> Vec<u8> {
        let [_, rows, columns] = size;
        let square = |at: usize, c: f64| (at as f64 - c).powi(2);
        (0..size.iter().product())
            .map(|at| {
                let (z, y, x) = (at / (rows * columns), at / columns % rows, at % columns);
                u8::from(square(z, centre[0]) + square(y, centre[1]) + square(x, centre[2]) <= radius * radius)
            })
            .collect()
    }

    #[test]
    fn a_column_ends_at_its_first_gap_of_two() {
        // One column: the single hole at 3 is bridged, the gap at 5 and 6 ends it; below the start nothing changes.
        let mut column = [1, 0, 1, 0, 1, 0, 0, 1, 1];
        cut_above_gaps(&mut column, [9, 1, 1], 2);
        assert_eq!(column, [1, 0, 1, 0, 1, 0, 0, 0, 0]);
        let mut empty_at_the_start = [1, 0, 0, 1];
        cut_above_gaps(&mut empty_at_the_start, [4, 1, 1], 1);
        assert_eq!(empty_at_the_start, [1, 0, 0, 0]);
    }

    #[test]
    fn a_ball_keeps_its_lower_half_and_loses_its_top() {
        let size = [40, 40, 40];
        let whole = ball(size, [20.0, 20.0, 20.0], 12.0);
        let mut heart = whole.clone();
        trim(&mut heart, size).expect("as many voxels as the size says");
        let plane = 40 * 40;
        let count = |v: &[u8], z: usize| v[z * plane..(z + 1) * plane].iter().filter(|&&v| v != 0).count();
        for z in 8..=20 {
            assert_eq!(count(&heart, z), count(&whole, z), "slice {z}");
        }
        // 2.65 * dz reaches 1.15 * 12 voxels above slice 25.
        assert!(count(&heart, 25) > 0 && count(&heart, 26) == 0);
        assert!(count(&heart, 24) < count(&whole, 24));
        assert!(heart.iter().zip(&whole).all(|(kept, was)| kept <= was));
    }

    #[test]
    fn the_back_far_to_the_side_is_trimmed_more_than_the_front() {
        let size = [40, 60, 60];
        let mut heart = ball(size, [10.0, 30.0, 30.0], 9.5);
        // A slab above the ball's middle, wide in front and behind.
        for y in 18..43 {
            for x in 18..43 {
                heart[(13 * 60 + y) * 60 + x] = 1;
            }
        }
        trim(&mut heart, size).expect("as many voxels as the size says");
        let rows =
            |behind: bool| (18..43).filter(|&y| (y > 30) == behind && heart[(13 * 60 + y) * 60 + 26] != 0).count();
        assert!(rows(true) < rows(false), "{} behind, {} in front", rows(true), rows(false));
    }

    #[test]
    fn structures_are_widened_slice_by_slice_and_only_the_wanted_ones() {
        let size = [3, 15, 15];
        let mut labels = vec![0; 3 * 225];
        labels[225 + 7 * 15 + 7] = 5;
        labels[2 * 225 + 7 * 15 + 7] = 6;
        let mask = widen(&labels, size, &[5]).expect("as many voxels as the size says");
        let count = |z: usize| mask[z * 225..(z + 1) * 225].iter().filter(|&&v| v != 0).count();
        // A single voxel becomes the cross of 5, and that the city-block ball of radius 1 + 2.
        assert_eq!([count(0), count(1), count(2)], [0, 25, 0]);
        assert_eq!(
            widen(&labels, size, &[5, 6]).expect("as before")[2 * 225..].iter().filter(|&&v| v != 0).count(),
            25
        );
    }

    #[test]
    fn crumbs_go_and_an_empty_heart_stays_empty() {
        let size = [30, 30, 60];
        let mut heart = ball(size, [14.0, 14.0, 14.0], 11.0);
        let crumb = (14 * 30 + 14) * 60 + 50;
        heart[crumb] = 1;
        trim(&mut heart, size).expect("as many voxels as the size says");
        assert_eq!(heart[crumb], 0);
        assert!(heart.iter().any(|&v| v != 0));
        let mut empty = vec![0; 27];
        trim(&mut empty, [3, 3, 3]).expect("27 voxels");
        assert!(empty.iter().all(|&v| v == 0));
    }
}
