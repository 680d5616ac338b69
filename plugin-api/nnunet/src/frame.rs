//! [`Frame`]: how an image lies in what the network sees of it, and labels from there back to the image.

use gantry_volume::{Bounds, Orientation, new_size, permute, separate_axis, voxels};
use gantry_weights::nnunet::Configuration;

use crate::error::{Error, Result};

/// From an image to the network's grid and back. The *array* is the image with its axes as the plans order them
/// (`transpose_forward`, after the reader's reorientation where there is one); the *crop* is the array's part that holds
/// something; the *grid* is the crop at the model's spacing. Nothing else here is in the image's own order of axes.
#[derive(Debug, Clone, PartialEq)]
pub struct Frame {
    /// Axis of the image (0 z, 1 y, 2 x) that is the array's axis.
    pub axes: [usize; 3],
    /// Whether the array's axis runs against it.
    pub flips: [bool; 3],
    /// Size of the image, `[z, y, x]`.
    pub image_size: [usize; 3],
    /// Size of the array.
    pub array_size: [usize; 3],
    /// Voxels of the array, mm.
    pub array_spacing_mm: [f64; 3],
    /// The crop, on the array.
    pub bounds: Bounds,
    /// Size of the grid.
    pub grid_size: [usize; 3],
    /// Voxels of the grid, mm.
    pub grid_spacing_mm: [f64; 3],
}

impl Frame {
    /// The frame of an image whose array is not cropped yet.
    pub(crate) fn new(
        configuration: &Configuration,
        size: [usize; 3],
        spacing_mm: [f64; 3],
        orientation: Orientation,
    ) -> Result<Self> {
        voxels("image", size)?;
        let turned = match configuration.reader.reorients() {
            true => orientation,
            false => Orientation { axes: [0, 1, 2], flips: [false; 3] },
        };
        if (0..3).any(|axis| !turned.axes.contains(&axis)) {
            return Err(Error::Image(format!("orientation {turned:?} is none")));
        }
        let axes = configuration.transpose_forward.map(|axis| turned.axes[axis]);
        let flips = configuration.transpose_forward.map(|axis| turned.flips[axis]);
        let array_size = axes.map(|axis| size[axis]);
        let array_spacing_mm = axes.map(|axis| spacing_mm[axis]);
        let whole = Bounds::all(array_size);
        let frame = Self {
            axes,
            flips,
            image_size: size,
            array_size,
            array_spacing_mm,
            bounds: whole,
            grid_size: array_size,
            grid_spacing_mm: configuration.spacing_mm,
        };
        frame.cropped(whole)
    }

    /// The same with this crop.
    pub(crate) fn cropped(mut self, bounds: Bounds) -> Result<Self> {
        self.bounds = bounds;
        self.grid_size = new_size(bounds.size(), self.array_spacing_mm, self.grid_spacing_mm)?;
        Ok(self)
    }

    /// Whether the array is the image as it lies in memory.
    pub(crate) fn array_is_image(&self) -> bool {
        self.axes == [0, 1, 2] && self.flips == [false; 3]
    }

    /// The axis along which planes are resampled apart from each other on the way back to the crop, if any.
    pub fn separate_axis(&self, force: Option<bool>) -> Option<usize> {
        separate_axis(self.grid_spacing_mm, self.array_spacing_mm, force)
    }

    /// Labels of the image from labels of the crop: 0 outside, axes as the image has them.
    ///
    /// # Errors
    /// If the labels are not as many as the crop has voxels.
    pub fn restored(&self, crop: Vec<u8>) -> Result<Vec<u8>> {
        let array = if self.bounds == Bounds::all(self.array_size) {
            crop
        } else {
            let mut array = vec![0; voxels("labels", self.array_size)?];
            self.bounds.paste(&crop, &mut array, self.array_size)?;
            array
        };
        if self.array_is_image() {
            return Ok(array);
        }
        let back = [0, 1, 2].map(|axis| self.axes.iter().position(|&a| a == axis).unwrap_or(axis));
        Ok(permute(&array, self.array_size, back, back.map(|axis| self.flips[axis]))?.0)
    }
}
