//! Writing `.nii.gz`: one file, little endian, the same bytes for the same voxels.

use std::io::Write;

use flate2::{Compression, GzBuilder};

use crate::series::geometry::{Geometry, cross, dot, norm};
use crate::series::record::Fault;

/// Offset of the voxels: header and an empty extension flag.
const VOXEL_OFFSET: usize = 352;
/// Axes further from right angles than this cosine are not told by a qform (0.05 mm over half a metre).
const MAX_SKEW: f64 = 1e-4;
/// NIFTI_XFORM_SCANNER_ANAT.
const SCANNER: i16 = 1;

/// In which order rows are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowOrder {
    /// Bottom to top, as dcm2niix writes a DICOM series. For volumes that came from DICOM.
    Flipped,
    /// As they are. For volumes that came from NIfTI: they go out in the order they came in.
    AsStored,
}

/// An image as the bytes of a `.nii.gz` file. `voxels` is `[C, Z, Y, X]` in physical units (Hounsfield units for CT);
/// channels become the fourth dimension. Stored as i16 when every voxel is a whole number that fits, else as f32;
/// slope 1, intercept 0. sform and qform are both written; a sheared grid (tilted gantry) has an sform only.
///
/// # Errors
/// `nifti-size`, `not-finite`, `uneven-grid` (slices that no affine places), `nifti-orientation`.
pub fn encode_image(geometry: &Geometry, channels: usize, voxels: &[f32], rows: RowOrder) -> Result<Vec<u8>, Fault> {
    let layout = Layout::new(geometry, channels, voxels.len(), rows)?;
    if let Some(i) = voxels.iter().position(|v| !v.is_finite()) {
        let [_, height, width] = geometry.size;
        let (z, y, x) = (i / (height * width) % geometry.size[0], i / width % height, i % width);
        return Err(Fault::new(
            "not-finite",
            format!("slice {z}, row {y}, column {x}: the value is not a finite number"),
        ));
    }
    let whole = |v: f32| v.fract() == 0.0 && (f32::from(i16::MIN)..=f32::from(i16::MAX)).contains(&v);
    if voxels.iter().all(|&v| whole(v)) {
        layout.encode(4, 16, voxels, |v| (v as i16).to_le_bytes())
    } else {
        layout.encode(16, 32, voxels, |v| v.to_le_bytes())
    }
}

/// Labels `[Z, Y, X]` as the bytes of a `.nii.gz` file of unsigned 8-bit voxels.
///
/// # Errors
/// `nifti-size`, `uneven-grid`, `nifti-orientation`.
pub fn encode_labels(geometry: &Geometry, voxels: &[u8], rows: RowOrder) -> Result<Vec<u8>, Fault> {
    Layout::new(geometry, 1, voxels.len(), rows)?.encode(2, 8, voxels, |v| [v])
}

/// Where voxels go in the file.
struct Layout {
    size: [usize; 3],
    channels: usize,
    rows: RowOrder,
    /// Rows of the 3x4 affine from `(i, j, k, 1)` to RAS millimetres.
    ras: [f64; 12],
}

impl Layout {
    fn new(geometry: &Geometry, channels: usize, voxels: usize, rows: RowOrder) -> Result<Self, Fault> {
        let size = geometry.size;
        let count = size.iter().chain([&channels]).try_fold(1usize, |n, &d| n.checked_mul(d));
        if count != Some(voxels) || voxels == 0 {
            let [z, y, x] = size;
            return Err(Fault::new(
                "nifti-size",
                format!("expected {channels} x {z} x {y} x {x} voxels, found {voxels}"),
            ));
        }
        if let Some(&length) = size.iter().chain([&channels]).find(|&&d| d > i16::MAX as usize) {
            return Err(Fault::new("nifti-size", format!("a NIfTI axis holds at most 32767 voxels, found {length}")));
        }
        if geometry.slice_origins_mm.is_some() {
            return Err(Fault::new(
                "uneven-grid",
                "the slices are unevenly spaced: NIfTI places all slices by one affine and cannot hold them",
            ));
        }
        let mut ras = geometry.affine;
        if rows == RowOrder::Flipped {
            let last = (size[1] - 1) as f64;
            for row in ras.chunks_exact_mut(4) {
                if let [_, y, _, origin] = row {
                    *origin += *y * last;
                    *y = 0.0 - *y;
                }
            }
        }
        for value in &mut ras[..8] {
            *value = 0.0 - *value;
        }
        if ras.iter().any(|v| !v.is_finite() || v.abs() > f64::from(f32::MAX)) {
            return Err(Fault::new("nifti-orientation", "the affine holds a value that is not a finite number"));
        }
        Ok(Self { size, channels, rows, ras })
    }

    fn encode<T: Copy, const N: usize>(
        &self,
        datatype: i16,
        bits: i16,
        voxels: &[T],
        bytes: impl Fn(T) -> [u8; N],
    ) -> Result<Vec<u8>, Fault> {
        let failed = |_| Fault::new("nifti-size", "the voxels cannot be compressed");
        // No time stamp, no name: the same voxels give the same bytes.
        let mut out = GzBuilder::new().mtime(0).write(Vec::new(), Compression::default());
        out.write_all(&self.header(datatype, bits)).map_err(failed)?;
        let [_, height, width] = self.size;
        let mut row_bytes = Vec::with_capacity(width * N);
        for slice in voxels.chunks_exact(height * width) {
            for y in 0..height {
                let y = if self.rows == RowOrder::Flipped { height - 1 - y } else { y };
                row_bytes.clear();
                let row = slice.get(y * width..(y + 1) * width).unwrap_or_default();
                row_bytes.extend(row.iter().flat_map(|&v| bytes(v)));
                out.write_all(&row_bytes).map_err(failed)?;
            }
        }
        out.finish().map_err(failed)
    }

    /// The 348 bytes of a NIfTI-1 header and 4 of an empty extension flag (offsets: the standard's `nifti1.h`).
    fn header(&self, datatype: i16, bits: i16) -> [u8; VOXEL_OFFSET] {
        let mut h = [0u8; VOXEL_OFFSET];
        let mut put = |offset: usize, bytes: &[u8]| {
            if let Some(slot) = h.get_mut(offset..offset + bytes.len()) {
                slot.copy_from_slice(bytes);
            }
        };
        // Adding 0 leaves no negative zeros.
        let float = |v: f64| (v as f32 + 0.0).to_le_bytes();
        let [z, y, x] = self.size.map(|n| n as i16);
        let rank = if self.channels > 1 { 4 } else { 3 };
        let column = |c: usize| [self.ras[c], self.ras[4 + c], self.ras[8 + c]];
        let spacing = [norm(column(0)), norm(column(1)), norm(column(2))];
        let quaternion = quaternion([column(0), column(1), column(2)], spacing);

        put(0, &348i32.to_le_bytes());
        put(38, b"r");
        for (i, n) in [rank, x, y, z, self.channels as i16, 1, 1, 1].into_iter().enumerate() {
            put(40 + 2 * i, &n.to_le_bytes());
        }
        put(70, &datatype.to_le_bytes());
        put(72, &bits.to_le_bytes());
        let qfac = quaternion.map_or(1.0, |q| q.1);
        for (i, v) in [qfac, spacing[0], spacing[1], spacing[2]].into_iter().enumerate() {
            put(76 + 4 * i, &float(v));
        }
        put(108, &(VOXEL_OFFSET as f32).to_le_bytes());
        put(112, &1f32.to_le_bytes()); // scl_slope
        put(123, &[2]); // xyzt_units: millimetres
        put(148, b"Gantry"); // descrip
        if let Some(([b, c, d], _)) = quaternion {
            put(252, &SCANNER.to_le_bytes());
            for (i, v) in [b, c, d, self.ras[3], self.ras[7], self.ras[11]].into_iter().enumerate() {
                put(256 + 4 * i, &float(v));
            }
        }
        put(254, &SCANNER.to_le_bytes());
        for (i, v) in self.ras.into_iter().enumerate() {
            put(280 + 4 * i, &float(v));
        }
        put(344, b"n+1\0");
        h
    }
}

/// Components b, c, d of the unit quaternion (a >= 0) and qfac for three orthogonal columns of the given lengths;
/// `None` where they are not orthogonal.
fn quaternion(columns: [[f64; 3]; 3], lengths: [f64; 3]) -> Option<([f64; 3], f64)> {
    if lengths.iter().any(|&l| l <= 0.0) {
        return None;
    }
    let [x, y, mut z]: [[f64; 3]; 3] = std::array::from_fn(|i| columns[i].map(|v| v / lengths[i]));
    if [dot(x, y), dot(y, z), dot(x, z)].iter().any(|d| d.abs() > MAX_SKEW) {
        return None;
    }
    let qfac = if dot(cross(x, y), z) < 0.0 { -1.0 } else { 1.0 };
    z = z.map(|v| v * qfac);
    // R = [x y z]. The largest of the four components is computed from the diagonal, the others from it
    // (Shepperd's method), so that no small number is divided by.
    let (r00, r11, r22) = (x[0], y[1], z[2]);
    let squares = [
        1.0 + r00 + r11 + r22, // 4 a^2
        1.0 + r00 - r11 - r22, // 4 b^2
        1.0 - r00 + r11 - r22, // 4 c^2
        1.0 - r00 - r11 + r22, // 4 d^2
    ];
    let largest = (0..4).max_by(|&i, &j| squares[i].total_cmp(&squares[j])).unwrap_or(0);
    let twice = squares[largest].max(0.0).sqrt();
    let (bc, bd, cd) = (x[1] + y[0], x[2] + z[0], y[2] + z[1]); // 4bc, 4bd, 4cd
    let (ab, ac, ad) = (y[2] - z[1], z[0] - x[2], x[1] - y[0]); // 4ab, 4ac, 4ad
    let [a, b, c, d] = match largest {
        0 => [twice * twice, ab, ac, ad],
        1 => [ab, twice * twice, bc, bd],
        2 => [ac, bc, twice * twice, cd],
        _ => [ad, bd, cd, twice * twice],
    }
    .map(|v| v / (2.0 * twice));
    let sign = if a < 0.0 { -1.0 } else { 1.0 };
    Some(([b * sign, c * sign, d * sign], qfac))
}
