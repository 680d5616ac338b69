//! [`Windows`]: where the patches of a sliding window lie on an image, and in which order they are predicted.

use gantry_volume::starts;

use crate::error::{Error, Result};

/// The windows of nnU-Net over an image. The image is surrounded by zeros up to the size of a patch where it is smaller;
/// windows lie on that padded image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Windows {
    /// Size of the image.
    pub size: [usize; 3],
    /// Size of a window.
    pub patch: [usize; 3],
    /// Size of the image with its border.
    pub padded: [usize; 3],
    /// Voxels of border before the image.
    pub below: [usize; 3],
    /// First voxels of the windows along each axis of the padded image, ascending.
    pub starts: [Vec<usize>; 3],
}

impl Windows {
    /// Windows of `patch` over an image of `size`, at most `step` patches from one to the next.
    ///
    /// # Errors
    /// If an axis is empty, the padded image cannot be addressed, or `step` is no step.
    pub fn new(size: [usize; 3], patch: [usize; 3], step: f64) -> Result<Self> {
        if !(step > 0.0 && step <= 1.0) {
            return Err(Error::Setting(format!("step: above 0 and at most 1 expected, found {step}")));
        }
        // Shorter steps would put two windows on one plane, where the first is already done with.
        if let Some(axis) = (0..3).find(|&axis| patch[axis] > 1 && step * (patch[axis] as f64) < 1.0) {
            let text = format!("step: {step} of a patch of {} voxels is less than a voxel", patch[axis]);
            return Err(Error::Setting(text));
        }
        let padded: [usize; 3] = std::array::from_fn(|axis| size[axis].max(patch[axis]));
        gantry_volume::voxels("padded image", padded)?;
        gantry_volume::voxels("image", size)?;
        let below = std::array::from_fn(|axis| (padded[axis] - size[axis]) / 2);
        let starts = starts(padded, patch, step)?;
        Ok(Self { size, patch, padded, below, starts })
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.starts.iter().map(Vec::len).product()
    }

    /// The windows that start on the same plane, for each such plane in their order: the plane, and the windows' first
    /// voxels along the other axes.
    pub fn rows(&self) -> impl Iterator<Item = (usize, impl Iterator<Item = [usize; 2]> + '_)> + '_ {
        let [planes, rows, columns] = &self.starts;
        let all = move || rows.iter().flat_map(move |&y| columns.iter().map(move |&x| [y, x]));
        planes.iter().map(move |&z| (z, all()))
    }

    /// The planes of the padded image that no window after those of `plane` reaches any more, from `done` on.
    pub fn finished(&self, plane: usize) -> usize {
        let later = self.starts[0].iter().find(|&&start| start > plane);
        later.copied().unwrap_or(self.padded[0])
    }

    /// Most planes that have windows on them and are not finished: those of one window.
    pub fn reach(&self) -> usize {
        self.patch[0].min(self.padded[0])
    }

    /// Copies the window at `first` out of `image` `[channels][z][y][x]`, mirrored along `axes`, with zeros where it lies
    /// on the border.
    pub fn cut(&self, image: &[f32], first: [usize; 3], axes: [bool; 3], patch: &mut [f32]) {
        let [depth, height, width] = self.patch;
        let [planes, rows, columns] = self.size;
        // Voxels of a row of the window that lie on the image.
        let from = self.below[2].saturating_sub(first[2]).min(width);
        let to = (self.below[2] + columns).saturating_sub(first[2]).clamp(from, width);
        let turned = |axis: usize, at: usize| if axes[axis] { self.patch[axis] - 1 - at } else { at };
        for (at, row) in patch.chunks_exact_mut(width).enumerate() {
            let (y, z, channel) = (at % height, at / height % depth, at / height / depth);
            let z = (first[0] + turned(0, z)).checked_sub(self.below[0]).filter(|&z| z < planes);
            let y = (first[1] + turned(1, y)).checked_sub(self.below[1]).filter(|&y| y < rows);
            row.fill(0.0);
            let (Some(z), Some(y)) = (z, y) else { continue };
            if to > from {
                let source = ((channel * planes + z) * rows + y) * columns + first[2] + from - self.below[2];
                row[from..to].copy_from_slice(&image[source..source + to - from]);
            }
            if axes[2] {
                row.reverse();
            }
        }
    }
}
