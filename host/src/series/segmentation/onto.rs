//! Where the pixels of a frame lie on a grid: in which slice, in which direction, and proof that they lie on voxels.

use crate::series::geometry::{Geometry, SlicePlane, dot, norm};
use crate::series::record::Fault;

/// A frame on the grid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Placed {
    /// Voxel `[z, y, x]` of the frame's first pixel.
    first: [usize; 3],
    /// Step in voxels `[y, x]` to the next row.
    down: [isize; 2],
    /// Step in voxels `[y, x]` to the next column.
    right: [isize; 2],
}

impl Placed {
    /// Index of a pixel's voxel in a volume of `size` `[z, y, x]`. The four corners were proved to lie inside.
    pub fn index(&self, y: usize, x: usize, size: [usize; 3]) -> usize {
        let along = |axis: usize| {
            self.first[axis + 1]
                .wrapping_add_signed(self.down[axis] * y as isize)
                .wrapping_add_signed(self.right[axis] * x as isize)
        };
        (self.first[0] * size[1] + along(0)) * size[2] + along(1)
    }
}

/// Places a frame of `rows` x `columns`: parallel to the grid's slices, its rows along an axis of them.
///
/// # Errors
/// `grid` with the distance by which it misses, and what makes no plane.
pub(super) fn place(
    plane: &SlicePlane,
    [rows, columns]: [usize; 2],
    grid: &Geometry,
    tolerance_mm: f64,
) -> Result<Placed, Fault> {
    plane.check()?;
    let off = |text: String| Fault::new("grid", text);
    if rows == 0 || columns == 0 {
        return Err(off("a frame without pixels".to_owned()));
    }
    let position = |y: usize, x: usize| {
        let (row, column) = (plane.row(), plane.column());
        let (dx, dy) = (plane.spacing_mm[1] * x as f64, plane.spacing_mm[0] * y as f64);
        std::array::from_fn(|r| plane.position_mm[r] + row[r] * dx + column[r] * dy)
    };
    let far = (rows - 1, columns - 1);
    let corners = [(0, 0), (0, far.1), (far.0, 0), far];
    let mut voxels = [[0usize; 3]; 4];
    for (voxel, (y, x)) in voxels.iter_mut().zip(corners) {
        let (found, distance) = nearest(grid, position(y, x));
        if distance > tolerance_mm {
            return Err(off(format!(
                "it lies {distance:.4} mm beside the voxels of the series, expected at most {tolerance_mm} mm"
            )));
        }
        *voxel = found.ok_or_else(|| off("it goes beyond the voxels of the series".to_owned()))?;
    }
    // From corner to corner along one axis each, in whole steps.
    let step = |to: [usize; 3], steps: usize| -> Option<[isize; 2]> {
        let moved: [isize; 3] = std::array::from_fn(|a| to[a] as isize - voxels[0][a] as isize);
        if steps == 0 {
            // One pixel wide: there is nothing to step over.
            return Some([0, 0]);
        }
        let steps = steps as isize;
        (moved[0] == 0 && moved[1] % steps == 0 && moved[2] % steps == 0)
            .then_some([moved[1] / steps, moved[2] / steps])
            .filter(|s| s.iter().map(|v| v.abs()).sum::<isize>() == 1)
    };
    let right = step(voxels[1], far.1);
    let down = step(voxels[2], far.0);
    let (Some(right), Some(down)) = (right, down) else {
        return Err(off("its rows and columns do not run along those of the series, voxel by voxel".to_owned()));
    };
    Ok(Placed { first: voxels[0], down, right })
}

/// The voxel `[z, y, x]` nearest to a place, `None` beyond the grid, and how far its line of voxels is away. Holds for
/// slices at uneven distances and for stacks that are sheared.
fn nearest(grid: &Geometry, place: [f64; 3]) -> (Option<[usize; 3]>, f64) {
    let column = |c: usize| [0, 4, 8].map(|r| grid.affine[r + c]);
    let (x_step, y_step, normal) = (column(0), column(1), grid.normal());
    let from = |z: usize| {
        let origin = grid.slice_origin_mm(z);
        [place[0] - origin[0], place[1] - origin[1], place[2] - origin[2]]
    };
    let height = |z: usize| dot(from(z), normal).abs();
    let z = (0..grid.size[0]).min_by(|&a, &b| height(a).total_cmp(&height(b))).unwrap_or(0);
    let within = from(z);
    let steps = |axis: [f64; 3]| (dot(within, axis) / dot(axis, axis)).round();
    let (x, y) = (steps(x_step), steps(y_step));
    let rest: [f64; 3] = std::array::from_fn(|r| within[r] - x * x_step[r] - y * y_step[r]);
    let index = |v: f64, n: usize| (v >= 0.0 && v < n as f64).then_some(v as usize);
    let voxel = index(y, grid.size[1]).zip(index(x, grid.size[2])).map(|(y, x)| [z, y, x]);
    (voxel, norm(rest))
}
