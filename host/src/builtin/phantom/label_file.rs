//! Ground truth as a NIfTI label file (`.nii.gz`, unsigned bytes).

use super::{PhantomError, PhantomGrid};
use crate::series::Geometry;
use crate::series::nifti::{RowOrder, encode_labels};
use std::path::Path;

/// Writes `labels` [z, y, x] to `path`; equal labels give equal files. Rows go from back to front, as converters of
/// DICOM series store them.
///
/// # Errors
/// [`PhantomError::Encode`] if `labels` does not fit the grid, [`PhantomError::Write`] if the file cannot be written.
pub fn write_label_volume(path: &Path, grid: &PhantomGrid, labels: &[u8]) -> Result<(), PhantomError> {
    let geometry = Geometry {
        size: [grid.slices, grid.rows, grid.columns],
        affine: grid.affine(),
        slice_origins_mm: None,
        frame_of_reference: None,
        z_unknown: false,
    };
    let bytes = encode_labels(&geometry, labels, RowOrder::Flipped)
        .map_err(|fault| PhantomError::Encode { path: path.display().to_string(), reason: fault.text })?;
    std::fs::write(path, bytes).map_err(|source| PhantomError::Write { path: path.display().to_string(), source })
}
