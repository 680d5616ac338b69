//! The permutation and flips that bring a volume closest to RAS+ (first axis to the right, second to the front, third
//! upward), as nibabel's `as_closest_canonical` finds them.

use crate::error::{Error, Result};
use crate::permute::permute;

/// How the axes `[z, y, x]` of a volume become those of the closest RAS+ volume.
///
/// In the canonical volume x runs from left to right, y from back to front, z from foot to head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Orientation {
    /// Axis of the volume (0 z, 1 y, 2 x) that becomes canonical axis z, y, x.
    pub axes: [usize; 3],
    /// Whether canonical axis z, y, x runs against it.
    pub flips: [bool; 3],
}

impl Orientation {
    /// From an affine (3x4, row by row; voxel x, y, z to LPS millimetres).
    ///
    /// The direction matrix is replaced by the nearest rotation (the polar factor, which nibabel takes from the singular
    /// value decomposition); its axes are assigned in the order of how well each fits one of the patient's.
    ///
    /// # Errors
    /// Columns that are not finite or do not span space.
    pub fn of(affine: &[f64; 12]) -> Result<Self> {
        let found = [0, 1, 2, 4, 5, 6, 8, 9, 10].map(|i| affine[i]);
        let wrong = Error::Affine { found };
        // To RAS, with columns of length one.
        let mut matrix = [[0.0; 3]; 3];
        for column in 0..3 {
            let raw = [-affine[column], -affine[4 + column], affine[8 + column]];
            let length = norm(raw);
            if !length.is_finite() || length == 0.0 {
                return Err(wrong);
            }
            for row in 0..3 {
                matrix[row][column] = raw[row] / length;
            }
        }
        if determinant(&matrix).abs() < 1e-6 {
            return Err(wrong);
        }
        let mut rotation = polar(matrix);
        // Columns by their greatest component, best fit first; equal fits in the order of the axes.
        let fit = |r: &[[f64; 3]; 3], c: usize| (0..3).map(|row| r[row][c] * r[row][c]).fold(0.0, f64::max);
        let mut order = [0, 1, 2];
        let fits = order.map(|c| fit(&rotation, c));
        order.sort_by(|&a, &b| fits[b].total_cmp(&fits[a]));
        let mut axes = [0; 3];
        let mut flips = [false; 3];
        for column in order {
            let mut row = 0;
            for other in 1..3 {
                if rotation[other][column].abs() > rotation[row][column].abs() {
                    row = other;
                }
            }
            // Columns and rows count x first, arrays count z first.
            axes[2 - row] = 2 - column;
            flips[2 - row] = rotation[row][column] < 0.0;
            rotation[row] = [0.0; 3];
        }
        Ok(Self { axes, flips })
    }

    /// The canonical volume and its size.
    ///
    /// # Errors
    /// A length that does not fit the size.
    pub fn apply<T: Copy + Default + Send + Sync>(
        &self,
        values: &[T],
        size: [usize; 3],
    ) -> Result<(Vec<T>, [usize; 3])> {
        permute(values, size, self.axes, self.flips)
    }

    /// The volume as it was, from the canonical one (`size` is the canonical size).
    ///
    /// # Errors
    /// A length that does not fit the size.
    pub fn undo<T: Copy + Default + Send + Sync>(
        &self,
        values: &[T],
        size: [usize; 3],
    ) -> Result<(Vec<T>, [usize; 3])> {
        let back = [0, 1, 2].map(|a| self.axes.iter().position(|&axis| axis == a).unwrap_or(a));
        permute(values, size, back, back.map(|a| self.flips[a]))
    }

    /// What stands along z, y, x of the volume (a size, a spacing), along z, y, x of the canonical one.
    #[must_use]
    pub fn reorder<T: Copy>(&self, values: [T; 3]) -> [T; 3] {
        self.axes.map(|a| values[a])
    }

    /// The affine (3x4, voxel x, y, z to LPS millimetres) of the canonical volume, from that of a volume of `size`.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "axes are far shorter than 2^52")]
    pub fn canonical_affine(&self, affine: &[f64; 12], size: [usize; 3]) -> [f64; 12] {
        let mut out = [0.0; 12];
        for row in 0..3 {
            let mut origin = affine[row * 4 + 3];
            for (axis, (&from, &flip)) in self.axes.iter().zip(&self.flips).enumerate() {
                let step = affine[row * 4 + 2 - from];
                out[row * 4 + 2 - axis] = if flip { -step } else { step };
                if flip {
                    origin += step * (size[from] as f64 - 1.0);
                }
            }
            out[row * 4 + 3] = origin;
        }
        out
    }
}

/// The voxel's edges in millimetres (z, y, x) as nibabel reports them: norms of the columns, in single precision.
#[must_use]
#[expect(clippy::cast_possible_truncation, reason = "NIfTI stores spacings in single precision")]
pub fn spacing_f32(affine: &[f64; 12]) -> [f32; 3] {
    [2, 1, 0].map(|c| norm([affine[c], affine[4 + c], affine[8 + c]]) as f32)
}

fn norm([a, b, c]: [f64; 3]) -> f64 {
    (a * a + b * b + c * c).sqrt()
}

fn determinant(m: &[[f64; 3]; 3]) -> f64 {
    m[0][0] * cofactor(m, 0, 0) + m[0][1] * cofactor(m, 0, 1) + m[0][2] * cofactor(m, 0, 2)
}

fn cofactor(m: &[[f64; 3]; 3], row: usize, column: usize) -> f64 {
    let (r, s) = ((row + 1) % 3, (row + 2) % 3);
    let (c, d) = ((column + 1) % 3, (column + 2) % 3);
    m[r][c] * m[s][d] - m[r][d] * m[s][c]
}

/// The orthogonal matrix nearest to a regular one: Newton's iteration of the mean with the inverse's transpose.
fn polar(mut m: [[f64; 3]; 3]) -> [[f64; 3]; 3] {
    for _ in 0..60 {
        let det = determinant(&m);
        let mut next = m;
        let mut change = 0.0_f64;
        for (row, line) in next.iter_mut().enumerate() {
            for (column, value) in line.iter_mut().enumerate() {
                let mean = f64::midpoint(*value, cofactor(&m, row, column) / det);
                change = change.max((mean - *value).abs());
                *value = mean;
            }
        }
        m = next;
        if change < 1e-15 {
            break;
        }
    }
    m
}
