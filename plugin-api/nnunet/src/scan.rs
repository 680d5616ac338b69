//! [`Scan`]: voxels on their grid as a segmenter is given them, and why some grids cannot be segmented.

use gantry_volume::{Orientation, spacing_f32};

use crate::error::{Error, Result};
use crate::model::Image;

/// Columns of an affine may differ from a right angle by this cosine: more is a sheared grid, such as a tilted gantry's.
const SHEAR: f64 = 1e-3;

/// The voxels of one case on their grid.
#[derive(Debug, Clone, Copy)]
pub struct Scan<'a> {
    /// `[C, Z, Y, X]`, in the physical units the model was trained for (Hounsfield units).
    pub voxels: &'a [f32],
    /// How many channels.
    pub channels: usize,
    /// Voxels along `[z, y, x]`.
    pub size: [usize; 3],
    /// 3x4 row-major: `(x, y, z, 1)` of a voxel's centre to `(L, P, S)` mm.
    pub affine: [f64; 12],
}

impl<'a> Scan<'a> {
    /// Distances of neighbouring voxels along `[z, y, x]` in mm: lengths of the affine's columns in f32, as NIfTI keeps them.
    pub fn spacing_mm(&self) -> [f64; 3] {
        spacing_f32(&self.affine).map(f64::from)
    }

    /// As a model takes it.
    ///
    /// # Errors
    /// If the affine spans no space.
    pub fn image(&self) -> Result<Image<'a>> {
        let orientation = Orientation::of(&self.affine)?;
        Ok(Image { voxels: self.voxels, size: self.size, spacing_mm: self.spacing_mm(), orientation })
    }

    /// Refuses what has no right answer.
    ///
    /// # Errors
    /// If voxels are missing or not finite, or the grid's axes are not at right angles.
    pub fn check(&self) -> Result<()> {
        let expected = self.size.iter().product::<usize>() * self.channels;
        if self.voxels.len() != expected || expected == 0 {
            return Err(Error::Unfit("image-size", format!("{expected} voxels expected, found {}", self.voxels.len())));
        }
        if self.affine.iter().any(|a| !a.is_finite()) || self.spacing_mm().iter().any(|&s| s <= 0.0) {
            return Err(Error::Unfit("image-grid", "the grid has no volume".to_owned()));
        }
        let column = |j: usize| [self.affine[j], self.affine[4 + j], self.affine[8 + j]];
        let dot = |a: [f64; 3], b: [f64; 3]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        for (a, b) in [(0, 1), (0, 2), (1, 2)] {
            let (a, b) = (column(a), column(b));
            let cosine = dot(a, b) / (dot(a, a) * dot(b, b)).sqrt();
            if cosine.abs() > SHEAR {
                let degrees = cosine.abs().min(1.0).asin().to_degrees();
                let text = format!(
                    "the grid's axes are {degrees:.2} degrees off a right angle (a tilted gantry?); resample the series to a right-angled grid first"
                );
                return Err(Error::Unfit("sheared-grid", text));
            }
        }
        match self.voxels.iter().all(|v| v.is_finite()) {
            true => Ok(()),
            false => Err(Error::Unfit("not-finite", "the image holds NaN or infinity".to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AFFINE: [f64; 12] = [-0.7, 0.0, 0.0, 0.0, 0.0, 1.8, 0.0, 0.0, 0.0, 0.0, 3.0, 0.0];

    #[test]
    fn spacing_has_the_precision_of_nifti() {
        let image = Scan { voxels: &[0.0], channels: 1, size: [1; 3], affine: AFFINE };
        assert_eq!(image.spacing_mm(), [3.0, 1.7999999523162842, 0.699999988079071]);
        assert!(image.check().is_ok());
    }

    #[test]
    fn grids_and_voxels_without_a_right_answer_are_refused() {
        let image = Scan { voxels: &[0.0, 1.0], channels: 1, size: [1, 1, 2], affine: AFFINE };
        let mut tilted = image;
        tilted.affine[6] = 0.2;
        let mut flat = image;
        flat.affine[10] = 0.0;
        let says = |image: Scan| image.check().expect_err("refused").to_string();
        assert!(says(tilted).contains("degrees off a right angle"), "{}", says(tilted));
        assert!(says(flat).contains("no volume"));
        assert!(says(Scan { size: [1, 1, 3], ..image }).contains("3 voxels expected, found 2"));
        assert!(says(Scan { voxels: &[0.0, f32::NAN], ..image }).contains("NaN"));
    }
}
