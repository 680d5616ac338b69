//! A box of voxels, half open: cut out of a volume and put back.

use crate::error::{Error, Result, expect_length};

/// The voxels `low <= index < high` along z, y, x.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Bounds {
    /// First voxel inside, per axis.
    pub low: [usize; 3],
    /// First voxel beyond, per axis.
    pub high: [usize; 3],
}

impl Bounds {
    /// The whole of a volume.
    #[must_use]
    pub fn all(size: [usize; 3]) -> Self {
        Self { low: [0; 3], high: size }
    }

    /// The smallest box with every voxel that `inside` accepts, or `None` if there is none.
    ///
    /// # Errors
    /// A length that does not fit the size.
    pub fn of<T: Copy + Sync>(
        values: &[T],
        size: [usize; 3],
        inside: impl Fn(T) -> bool + Sync,
    ) -> Result<Option<Self>> {
        use rayon::prelude::*;
        expect_length("volume", size, values.len())?;
        let [_, ny, nx] = size;
        let plane = |(z, plane): (usize, &[T])| {
            let mut found: Option<Self> = None;
            for (y, row) in plane.chunks(nx).enumerate() {
                let Some(first) = row.iter().position(|&v| inside(v)) else { continue };
                let last = row.iter().rposition(|&v| inside(v)).unwrap_or(first);
                let row = Self { low: [z, y, first], high: [z + 1, y + 1, last + 1] };
                found = Some(found.map_or(row, |f| f.united(row)));
            }
            found
        };
        let unite = |a: Option<Self>, b: Option<Self>| match (a, b) {
            (Some(a), Some(b)) => Some(a.united(b)),
            (a, b) => a.or(b),
        };
        Ok(values.par_chunks(ny * nx).enumerate().map(plane).reduce(|| None, unite))
    }

    /// Number of voxels along each axis.
    #[must_use]
    pub fn size(&self) -> [usize; 3] {
        [0, 1, 2].map(|a| self.high[a].saturating_sub(self.low[a]))
    }

    /// The smallest box with both.
    #[must_use]
    pub fn united(self, other: Self) -> Self {
        Self {
            low: [0, 1, 2].map(|a| self.low[a].min(other.low[a])),
            high: [0, 1, 2].map(|a| self.high[a].max(other.high[a])),
        }
    }

    /// Grown by `margin` voxels (z, y, x) on both sides, within a volume of `size`.
    #[must_use]
    pub fn grown(self, margin: [usize; 3], size: [usize; 3]) -> Self {
        Self {
            low: [0, 1, 2].map(|a| self.low[a].saturating_sub(margin[a])),
            high: [0, 1, 2].map(|a| self.high[a].saturating_add(margin[a]).min(size[a])),
        }
    }

    /// Refuses a box that is empty or reaches beyond a volume of `size`.
    fn within(&self, size: [usize; 3]) -> Result<()> {
        for (axis, ((low, high), size)) in self.low.into_iter().zip(self.high).zip(size).enumerate() {
            if low >= high {
                let expected = format!("a box with voxels along axis {axis}, its low bound below {high}");
                return Err(Error::Range { what: "box", expected, found: low });
            }
            if high > size {
                let expected = format!("a high bound of at most {size} along axis {axis}");
                return Err(Error::Range { what: "box", expected, found: high });
            }
        }
        Ok(())
    }

    /// A copy of the voxels inside.
    ///
    /// # Errors
    /// A length that does not fit the size, an empty box, or one that reaches beyond the volume.
    pub fn cut<T: Copy>(&self, values: &[T], size: [usize; 3]) -> Result<Vec<T>> {
        expect_length("volume", size, values.len())?;
        self.within(size)?;
        let [nz, ny, nx] = self.size();
        let mut out = Vec::with_capacity(nz * ny * nx);
        for z in self.low[0]..self.high[0] {
            for y in self.low[1]..self.high[1] {
                let row = (z * size[1] + y) * size[2];
                out.extend_from_slice(&values[row + self.low[2]..row + self.high[2]]);
            }
        }
        Ok(out)
    }

    /// Writes `part` (of this box's size) into the volume.
    ///
    /// # Errors
    /// Lengths that do not fit, an empty box, or one that reaches beyond the volume.
    pub fn paste<T: Copy>(&self, part: &[T], values: &mut [T], size: [usize; 3]) -> Result<()> {
        expect_length("volume", size, values.len())?;
        self.within(size)?;
        expect_length("part", self.size(), part.len())?;
        let mut rows = part.chunks(self.size()[2]);
        for z in self.low[0]..self.high[0] {
            for y in self.low[1]..self.high[1] {
                let row = (z * size[1] + y) * size[2];
                if let Some(part) = rows.next() {
                    values[row + self.low[2]..row + self.high[2]].copy_from_slice(part);
                }
            }
        }
        Ok(())
    }
}
