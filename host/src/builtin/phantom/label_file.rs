//! Ground truth as a NIfTI-1 label file (`.nii.gz`, unsigned bytes).

use super::{PhantomError, PhantomGrid};
use flate2::{Compression, GzBuilder};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

/// The 352 bytes before the voxels: a NIfTI-1 header without extensions, u8 voxels, positions through the sform.
///
/// NIfTI counts x to the right and y to the front; the grid's LPS affine is turned by negating its first two rows.
fn header(grid: &PhantomGrid) -> Result<[u8; 352], PhantomError> {
    let mut bytes = [0_u8; 352];
    let mut put = |at: usize, value: &[u8]| {
        for (byte, value) in bytes.iter_mut().skip(at).zip(value) {
            *byte = *value;
        }
    };
    put(0, &348_i32.to_le_bytes());
    let mut dims = [3_i16, 0, 0, 0, 1, 1, 1, 1];
    for (dim, size) in dims.iter_mut().skip(1).zip([grid.columns, grid.rows, grid.slices]) {
        *dim = i16::try_from(size).map_err(|_| PhantomError::Size {
            what: "label volume",
            expected: "at most 32767 voxels along an axis",
            found: size.to_string(),
        })?;
    }
    for (i, dim) in dims.iter().enumerate() {
        put(40 + 2 * i, &dim.to_le_bytes());
    }
    put(70, &2_i16.to_le_bytes()); // datatype: unsigned char
    put(72, &8_i16.to_le_bytes()); // bits per voxel
    let [sz, sy, sx] = grid.spacing_mm;
    for (i, size) in [1.0, sx, sy, sz, 0.0, 0.0, 0.0, 0.0].iter().enumerate() {
        put(76 + 4 * i, &(*size as f32).to_le_bytes());
    }
    put(108, &352.0_f32.to_le_bytes()); // where the voxels begin
    put(112, &1.0_f32.to_le_bytes()); // slope
    put(123, &[2]); // millimetres
    let affine = grid.affine();
    // qform: a half turn about z takes LPS to RAS, quaternion (b, c, d) = (0, 0, 1).
    put(252, &1_i16.to_le_bytes());
    put(254, &1_i16.to_le_bytes());
    for (i, value) in [0.0, 0.0, 1.0, -affine[3], -affine[7], affine[11]].iter().enumerate() {
        put(256 + 4 * i, &(*value as f32).to_le_bytes());
    }
    for (i, value) in affine.iter().enumerate() {
        let value = if i < 8 { -value } else { *value };
        put(280 + 4 * i, &(value as f32).to_le_bytes());
    }
    put(344, b"n+1\0");
    Ok(bytes)
}

/// Writes `labels` [z, y, x] to `path`, compressed, without a time stamp: equal labels give equal files.
///
/// # Errors
/// [`PhantomError::Size`] if `labels` does not fit the grid, [`PhantomError::Write`] if the file cannot be written.
pub fn write_label_volume(path: &Path, grid: &PhantomGrid, labels: &[u8]) -> Result<(), PhantomError> {
    if labels.len() != grid.voxels() {
        return Err(PhantomError::Size {
            what: "label volume",
            expected: "one value for each voxel of the grid",
            found: labels.len().to_string(),
        });
    }
    let header = header(grid)?;
    let write = || -> std::io::Result<()> {
        let file = BufWriter::new(File::create(path)?);
        let mut gz = GzBuilder::new().mtime(0).write(file, Compression::default());
        gz.write_all(&header)?;
        gz.write_all(labels)?;
        gz.finish()?.into_inner().map_err(std::io::IntoInnerError::into_error)?.sync_all()
    };
    write().map_err(|source| PhantomError::Write { path: path.display().to_string(), source })
}
