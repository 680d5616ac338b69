//! NIfTI-1 in and out.
//!
//! *Axes.* A NIfTI voxel `(i, j, k)` is voxel `[z, y, x] = [k, j, i]` here: x runs fastest in both. NIfTI places voxels
//! in RAS millimetres, this program in LPS, so the first two rows of the affine change sign.
//!
//! *Reading* keeps the grid as it is stored: no axis is flipped or exchanged, and the affine may be left-handed.
//! [`GridMatch`] brings voxels onto another grid with the same voxel centres, exactly or not at all.
//!
//! *Writing* a volume of a DICOM series follows dcm2niix ([`RowOrder::Flipped`]): rows are stored bottom to top
//! (`j = rows - 1 - y`), slices stay in ascending order along the normal (row x column direction), columns stay, so the
//! RAS affine has a negative determinant. That is what dcm2niix does for every orientation when it is told not to
//! rotate 3D acquisitions (`-x i`; by default it turns sagittal and coronal 3D MR into axial order).
//!
//! *Precision.* The header holds the affine as f32: positions are good to about 3e-5 mm at 500 mm from the origin.

mod grid;
mod header;
mod read;
mod write;

pub(super) use header::HEADER;

pub use grid::{GridMatch, match_grid, same_grid};
pub use read::{LabelValue, Limits, NiftiFile};
pub use write::{RowOrder, encode_image, encode_labels};

use super::geometry::Geometry;
use super::record::Fault;

/// A volume read from NIfTI.
#[derive(Debug, Clone, PartialEq)]
pub struct NiftiVolume<T> {
    /// Number of channels (the product of NIfTI dimensions 4 to 7).
    pub channels: usize,
    /// The grid.
    pub geometry: Geometry,
    /// Voxels `[C, Z, Y, X]`, scaled by the file's slope and intercept.
    pub voxels: Vec<T>,
}

impl<T: Copy> NiftiVolume<T> {
    /// The same voxels in the order of `target`, whose voxel centres must be the same within `tolerance_mm`: axes are
    /// exchanged and flipped, nothing is interpolated. The geometry becomes `target`.
    ///
    /// # Errors
    /// `grid`, with the smallest distance any order of the axes reaches.
    pub fn reorient_to(self, target: &Geometry, tolerance_mm: f64) -> Result<Self, Fault> {
        let matched = match_grid(&self.geometry, target, tolerance_mm)?;
        let voxels = if matched.is_identity() { self.voxels } else { matched.apply(&self.voxels, self.channels)? };
        Ok(Self { channels: self.channels, geometry: target.clone(), voxels })
    }
}

/// The grid that a header of a NIfTI-1 file describes, and warnings.
///
/// # Errors
/// As [`NiftiFile::open`], as far as the header goes.
pub(super) fn header_grid(bytes: &[u8; HEADER]) -> Result<(Geometry, Vec<Fault>), Fault> {
    let header = header::parse(bytes)?;
    let (size, _) = header::size(&header)?;
    let mut warnings = Vec::new();
    let geometry = header::geometry(&header, size, &mut warnings)?;
    Ok((geometry, warnings))
}

#[cfg(test)]
mod tests;
