//! Outlines of masks in a slice, drawn as OpenCV draws contours: the published masker thickens its labels that way.
//!
//! The rules are stated for results, not for the drawing: see [`stroke_two`] and [`stroke_four`].

use crate::components::{Components, Connectivity};
use crate::error::Result;
use crate::holes::fill_holes_in_slices;

/// The set of a slice `[y, x]` (nought outside) filled inside its outer contours and stroked with thickness 2; 0 or 1.
///
/// Holes (background by 4 neighbours) are filled; the filled set is dilated with the 3x3 cross; and for every diagonal
/// step of the outer border's chain of 8 neighbours, with direction (dx, dy), the pixels (x + dy, y - dx) and
/// (x - dy, y + dx) of both its ends are set too. Away from the image's edge this is what `drawContours` gives.
///
/// # Errors
/// A length that does not fit the size.
pub fn stroke_two(set: &[u8], [ny, nx]: [usize; 2]) -> Result<Vec<u8>> {
    let filled = filled(set, [ny, nx])?;
    let mut out = crate::dilate(&filled, [1, ny, nx], 1)?;
    for ([y, x], [next_y, next_x]) in border_steps(&filled, [ny, nx])? {
        let (dy, dx) = (step(y, next_y), step(x, next_x));
        if dx == 0 || dy == 0 {
            continue;
        }
        for [y, x] in [[y, x], [next_y, next_x]] {
            for (to_y, to_x) in [(moved(y, -dx), moved(x, dy)), (moved(y, dx), moved(x, -dy))] {
                if let (Some(to_y), Some(to_x)) = (to_y, to_x)
                    && to_y < ny
                    && to_x < nx
                {
                    out[to_y * nx + to_x] = 1;
                }
            }
        }
    }
    Ok(out)
}

/// The set of a slice `[y, x]` (nought outside) with its outer contours stroked with thickness 4; 0 or 1. Holes stay.
///
/// The set, and all within city-block distance 2 of the outline: the pixels of the filled set that lose a neighbour
/// (of 4) outside it.
///
/// # Errors
/// A length that does not fit the size.
pub fn stroke_four(set: &[u8], [ny, nx]: [usize; 2]) -> Result<Vec<u8>> {
    let filled = filled(set, [ny, nx])?;
    let inside = |y: Option<usize>, x: Option<usize>| match (y, x) {
        (Some(y), Some(x)) => y < ny && x < nx && filled[y * nx + x] != 0,
        _ => false,
    };
    let mut outline = vec![0; filled.len()];
    for y in 0..ny {
        for x in 0..nx {
            let near = [(-1, 0), (1, 0), (0, -1), (0, 1)];
            let whole = near.into_iter().all(|(dy, dx)| inside(moved(y, dy), moved(x, dx)));
            outline[y * nx + x] = u8::from(filled[y * nx + x] != 0 && !whole);
        }
    }
    let mut out = crate::dilate(&outline, [1, ny, nx], 2)?;
    for (out, &set) in out.iter_mut().zip(set) {
        *out |= u8::from(set != 0);
    }
    Ok(out)
}

/// 0 or 1, with the holes filled.
fn filled(set: &[u8], [ny, nx]: [usize; 2]) -> Result<Vec<u8>> {
    let mut filled: Vec<u8> = set.iter().map(|&v| u8::from(v != 0)).collect();
    fill_holes_in_slices(&mut filled, [1, ny, nx])?;
    Ok(filled)
}

/// -1, 0 or 1: which way a coordinate went.
fn step(from: usize, to: usize) -> isize {
    match to.cmp(&from) {
        std::cmp::Ordering::Less => -1,
        std::cmp::Ordering::Equal => 0,
        std::cmp::Ordering::Greater => 1,
    }
}

/// A coordinate one further, or `None` below nought.
fn moved(at: usize, by: isize) -> Option<usize> {
    at.checked_add_signed(by)
}

/// The eight neighbours (dy, dx), clockwise on the screen from the west.
const AROUND: [(isize, isize); 8] = [(0, -1), (-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1)];

/// The steps of the outer borders of a slice's components (8 neighbours), each border once around.
///
/// Border following after Suzuki and Abe (1985): from the first pixel in raster order, around each pixel anticlockwise
/// from where the border came from.
pub fn border_steps(set: &[u8], [ny, nx]: [usize; 2]) -> Result<Vec<([usize; 2], [usize; 2])>> {
    let inside = |[y, x]: [usize; 2], direction: usize| {
        let (dy, dx) = AROUND[direction];
        let (y, x) = (moved(y, dy)?, moved(x, dx)?);
        (y < ny && x < nx && set[y * nx + x] != 0).then_some([y, x])
    };
    let components = Components::find(set, [1, ny, nx], Connectivity::CornersInSlice, |v| v != 0)?;
    let mut firsts: Vec<Option<[usize; 2]>> = vec![None; components.list().len()];
    components.each_run(|component, pixels| {
        firsts[component].get_or_insert([pixels.start / nx, pixels.start % nx]);
    });
    let mut steps = Vec::new();
    for first in firsts.into_iter().flatten() {
        // Clockwise from the west, which is background: the pixel the border comes back from.
        let Some((back, last)) = (0..8).find_map(|d| inside(first, d).map(|p| (d, p))) else { continue };
        let (mut here, mut from) = (first, back);
        // Anticlockwise from the one after where we came from.
        let onward = |here, from| (1..=8).map(|k| (from + 8 - k) % 8).find_map(|d| inside(here, d).map(|p| (d, p)));
        while let Some((direction, next)) = onward(here, from) {
            steps.push((here, next));
            if next == first && here == last {
                break;
            }
            from = (direction + 4) % 8;
            here = next;
        }
    }
    Ok(steps)
}
