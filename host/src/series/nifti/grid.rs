//! Are two grids the same, and are they the same but for the order of their axes?

use crate::series::geometry::{Geometry, norm};
use crate::series::record::Fault;

/// Whether both grids have the same size and the same voxel centres within `tolerance_mm`, checked at the four corners
/// of every slice. Frames of reference are not compared.
pub fn same_grid(a: &Geometry, b: &Geometry, tolerance_mm: f64) -> bool {
    a.distance_mm(b).is_some_and(|distance| distance <= tolerance_mm)
}

/// Which voxel of one grid (the source) is which voxel of another (the target).
#[derive(Debug, Clone, PartialEq)]
pub struct GridMatch {
    /// Size of the target, `[z, y, x]`.
    size: [usize; 3],
    /// Size of the source, `[z, y, x]`.
    source_size: [usize; 3],
    /// For target axis z, y, x: the source axis (0 = z, 1 = y, 2 = x) that runs along it.
    axes: [usize; 3],
    /// For target axis z, y, x: whether the source runs against it.
    flipped: [bool; 3],
    /// Largest distance between voxel centres that are matched, millimetres.
    pub distance_mm: f64,
}

/// Finds the order and direction of axes in which `source` has the voxel centres of `target` within `tolerance_mm`
/// (checked at the four corners of every slice of `target`, so uneven slices count).
///
/// # Errors
/// `grid`: sizes that fit in no order, or the smallest distance that any order reaches.
pub fn match_grid(source: &Geometry, target: &Geometry, tolerance_mm: f64) -> Result<GridMatch, Fault> {
    let mut best: Option<GridMatch> = None;
    for axes in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        if axes.map(|a| source.size[a]) != target.size {
            continue;
        }
        for flips in 0..8u8 {
            let flipped = [flips & 4 != 0, flips & 2 != 0, flips & 1 != 0];
            let mut candidate =
                GridMatch { size: target.size, source_size: source.size, axes, flipped, distance_mm: f64::INFINITY };
            candidate.distance_mm = candidate.distance(source, target);
            if best.as_ref().is_none_or(|b| candidate.distance_mm < b.distance_mm) {
                best = Some(candidate);
            }
        }
    }
    let [z, y, x] = target.size;
    let [sz, sy, sx] = source.size;
    match best {
        Some(found) if found.distance_mm <= tolerance_mm => Ok(found),
        Some(found) => Err(Fault::new(
            "grid",
            format!(
                "the grids are not the same: voxel centres are {:.4} mm apart in the best order of axes, expected at \
                 most {tolerance_mm} mm",
                found.distance_mm
            ),
        )),
        None => Err(Fault::new(
            "grid",
            format!(
                "the grids are not the same: expected {x} x {y} x {z} voxels in some order, found {sx} x {sy} x {sz}"
            ),
        )),
    }
}

impl GridMatch {
    /// Whether nothing is to be moved.
    pub fn is_identity(&self) -> bool {
        self.axes == [0, 1, 2] && self.flipped == [false; 3]
    }

    /// Source index `[z, y, x]` of a target index.
    fn source_index(&self, target: [usize; 3]) -> [usize; 3] {
        let mut source = [0; 3];
        for axis in 0..3 {
            let along = target[axis];
            source[self.axes[axis]] =
                if self.flipped[axis] { self.size[axis].saturating_sub(1 + along) } else { along };
        }
        source
    }

    fn distance(&self, source: &Geometry, target: &Geometry) -> f64 {
        let [slices, rows, columns] = self.size;
        if slices == 0 || rows == 0 || columns == 0 {
            return f64::INFINITY;
        }
        let mut worst = 0f64;
        for z in 0..slices {
            for (y, x) in [(0, 0), (0, columns - 1), (rows - 1, 0), (rows - 1, columns - 1)] {
                let (a, b) = (place(target, [z, y, x]), place(source, self.source_index([z, y, x])));
                let apart = norm([a[0] - b[0], a[1] - b[1], a[2] - b[2]]);
                // A distance that is no number is no match.
                worst = if apart.is_nan() { f64::INFINITY } else { worst.max(apart) };
            }
        }
        worst
    }

    /// The voxels `[C, Z, Y, X]` of the source in the order of the target.
    ///
    /// # Errors
    /// `grid` when `voxels` does not have the source's size.
    pub fn apply<T: Copy>(&self, voxels: &[T], channels: usize) -> Result<Vec<T>, Fault> {
        let [sz, sy, sx] = self.source_size;
        let volume = sz * sy * sx;
        if volume == 0 || voxels.len() != volume * channels {
            return Err(Fault::new("grid", format!("expected {channels} x {volume} voxels, found {}", voxels.len())));
        }
        let source_strides = [(sy * sx) as isize, sx as isize, 1];
        let strides: [isize; 3] = std::array::from_fn(|axis| {
            let stride = source_strides[self.axes[axis]];
            if self.flipped[axis] { -stride } else { stride }
        });
        let first = self.source_index([0, 0, 0]);
        let first = (first[0] * sy + first[1]) * sx + first[2];
        let mut out = Vec::with_capacity(voxels.len());
        for channel in voxels.chunks_exact(volume) {
            for z in 0..self.size[0] {
                for y in 0..self.size[1] {
                    let row = first as isize + z as isize * strides[0] + y as isize * strides[1];
                    // In bounds: the strides and sizes are those of a permutation of the source's axes.
                    out.extend((0..self.size[2]).map(|x| channel[(row + x as isize * strides[2]) as usize]));
                }
            }
        }
        Ok(out)
    }
}

/// LPS millimetres of a voxel, by the slice's own origin.
fn place(geometry: &Geometry, [z, y, x]: [usize; 3]) -> [f64; 3] {
    let a = &geometry.affine;
    let origin = geometry.slice_origin_mm(z);
    std::array::from_fn(|r| origin[r] + a[4 * r] * x as f64 + a[4 * r + 1] * y as f64)
}
