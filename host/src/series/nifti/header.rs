//! What a NIfTI-1 header says, checked: type, size, scaling, and where the voxels lie.

use nifti::NiftiHeader;

use crate::series::geometry::{Geometry, cross, dot, norm};
use crate::series::record::Fault;

/// Bytes of a NIfTI-1 header.
pub(in crate::series) const HEADER: usize = 348;

/// How the file stores a voxel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stored {
    U8,
    I8,
    I16,
    U16,
    I32,
    U32,
    I64,
    U64,
    F32,
    F64,
}

impl Stored {
    pub fn from_code(code: i16) -> Result<Self, Fault> {
        Ok(match code {
            2 => Self::U8,
            4 => Self::I16,
            8 => Self::I32,
            16 => Self::F32,
            64 => Self::F64,
            256 => Self::I8,
            512 => Self::U16,
            768 => Self::U32,
            1024 => Self::I64,
            1280 => Self::U64,
            other => {
                let name = match other {
                    1 => "one bit a voxel",
                    32 | 1792 | 2048 => "complex numbers",
                    128 | 2304 => "colours",
                    1536 => "128-bit floating point",
                    _ => "an unknown type",
                };
                return Err(Fault::new(
                    "nifti-type",
                    format!(
                        "NIfTI datatype {other} ({name}) is not read: expected whole numbers of 8 to 64 bits or \
                             32- or 64-bit floating point"
                    ),
                ));
            }
        })
    }

    pub fn bytes(self) -> usize {
        match self {
            Self::U8 | Self::I8 => 1,
            Self::I16 | Self::U16 => 2,
            Self::I32 | Self::U32 | Self::F32 => 4,
            Self::I64 | Self::U64 | Self::F64 => 8,
        }
    }

    pub fn is_integer(self) -> bool {
        !matches!(self, Self::F32 | Self::F64)
    }
}

pub(super) fn parse(bytes: &[u8; HEADER]) -> Result<NiftiHeader, Fault> {
    let bad = |text: &str| Err(Fault::new("nifti-format", text));
    let length = [bytes[0], bytes[1], bytes[2], bytes[3]];
    match (i32::from_le_bytes(length), i32::from_be_bytes(length)) {
        (348, _) | (_, 348) => {}
        (540, _) | (_, 540) => return bad("this is a NIfTI-2 file: expected NIfTI-1"),
        _ => return bad("this is no NIfTI-1 file: its header does not begin with its length, 348"),
    }
    match &bytes[HEADER - 4..] {
        b"n+1\0" => {}
        b"ni1\0" => return bad("the voxels are in another file (.hdr with .img): expected one .nii or .nii.gz file"),
        _ => return bad("this is no NIfTI-1 file: its magic code is missing"),
    }
    let header = NiftiHeader::from_reader(&bytes[..])
        .map_err(|_| Fault::new("nifti-format", "the NIfTI header cannot be read"))?;
    if header.sizeof_hdr != HEADER as i32 {
        return bad("the NIfTI header has two byte orders at once");
    }
    Ok(header)
}

/// `[z, y, x]` and channels.
pub(super) fn size(header: &NiftiHeader) -> Result<([usize; 3], usize), Fault> {
    let rank = usize::from(header.dim[0]);
    if !(1..=7).contains(&rank) {
        return Err(Fault::new("nifti-size", format!("expected 1 to 7 dimensions, found {rank}")));
    }
    let mut lengths = [1usize; 7];
    for (length, &claimed) in lengths.iter_mut().zip(&header.dim[1..]).take(rank) {
        if claimed == 0 || claimed > i16::MAX as u16 {
            return Err(Fault::new("nifti-size", format!("a dimension must be 1 to 32767, found {}", claimed as i16)));
        }
        *length = usize::from(claimed);
    }
    let [x, y, z, rest @ ..] = lengths;
    let channels = rest.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
    channels
        .map(|channels| ([z, y, x], channels))
        .ok_or_else(|| Fault::new("nifti-size", "the header claims more voxels than a file can hold"))
}

/// Slope and intercept; slope 0 means none (NIfTI-1 standard, `scl_slope`).
pub(super) fn scaling(header: &NiftiHeader) -> Result<(f64, f64), Fault> {
    let (slope, intercept) = (f64::from(header.scl_slope), f64::from(header.scl_inter));
    if slope == 0.0 || (slope.is_nan() && intercept.is_nan()) {
        return Ok((1.0, 0.0));
    }
    if !slope.is_finite() || !intercept.is_finite() {
        return Err(Fault::new(
            "nifti-scaling",
            format!("scl_slope and scl_inter must be finite, found {slope} and {intercept}"),
        ));
    }
    Ok((slope, intercept))
}

/// The grid: by sform where there is one, else by qform (nibabel's order), else refused: a place in the patient is
/// never made up.
pub(super) fn geometry(header: &NiftiHeader, size: [usize; 3], warnings: &mut Vec<Fault>) -> Result<Geometry, Fault> {
    let unit = match header.xyzt_units & 0x07 {
        0 | 2 => 1.0,
        1 => 1000.0,
        3 => 0.001,
        other => {
            return Err(Fault::new("nifti-orientation", format!("unknown unit of length, xyzt_units {other}")));
        }
    };
    let bad = |text: String| Err(Fault::new("nifti-orientation", text));
    let sform = (header.sform_code > 0).then(|| sform(header, unit)).filter(is_finite);
    let qform = if header.qform_code > 0 { qform(header, unit).filter(is_finite) } else { None };
    let ras = match (sform, qform) {
        (Some(s), Some(q)) => {
            let apart = Geometry { size, affine: s, ..blank() }.distance_mm(&Geometry { size, affine: q, ..blank() });
            let apart = apart.unwrap_or(f64::INFINITY);
            // A qform holds a rotation close to a half turn to about 5e-4 only, so small differences mean nothing.
            let smallest =
                [0, 1, 2].map(|c| norm([s[c], s[4 + c], s[8 + c]])).into_iter().fold(f64::INFINITY, f64::min);
            if apart > 0.5 * smallest {
                warnings.push(Fault::new(
                    "nifti-two-orientations",
                    format!("sform and qform place voxels up to {apart:.2} mm apart; sform is used"),
                ));
            }
            s
        }
        (Some(one), None) | (None, Some(one)) => one,
        (None, None) => {
            return bad(format!(
                "neither sform (code {}) nor qform (code {}) says where the voxels lie",
                header.sform_code, header.qform_code
            ));
        }
    };
    let mut affine = ras;
    for value in &mut affine[..8] {
        // No negative zeros.
        *value = 0.0 - *value;
    }
    let column = |c: usize| [affine[c], affine[4 + c], affine[8 + c]];
    let (x, y, z) = (column(0), column(1), column(2));
    let determinant = dot(cross(x, y), z);
    let lengths = [norm(x), norm(y), norm(z)];
    if lengths.iter().any(|&l| l <= 0.0) || determinant.abs() < 1e-3 * lengths.iter().product::<f64>() {
        return bad("the affine is singular: the voxel axes do not span space".to_owned());
    }
    Ok(Geometry { size, affine, ..blank() })
}

fn blank() -> Geometry {
    Geometry { size: [0; 3], affine: [0.0; 12], slice_origins_mm: None, frame_of_reference: None, z_unknown: false }
}

fn is_finite(affine: &[f64; 12]) -> bool {
    affine.iter().all(|v| v.is_finite())
}

fn sform(header: &NiftiHeader, unit: f64) -> [f64; 12] {
    let rows = [header.srow_x, header.srow_y, header.srow_z];
    std::array::from_fn(|i| f64::from(rows[i / 4][i % 4]) * unit)
}

/// NIfTI-1 standard, method 2: a unit quaternion (b, c, d given, a >= 0), the voxel sizes, and qfac (pixdim[0], -1 or
/// 1) on the third column. `None` where b, c, d are longer than a unit quaternion can be.
fn qform(header: &NiftiHeader, unit: f64) -> Option<[f64; 12]> {
    let (mut b, mut c, mut d) = (f64::from(header.quatern_b), f64::from(header.quatern_c), f64::from(header.quatern_d));
    let square = b * b + c * c + d * d;
    if square > 1.0 + 1e-5 {
        return None;
    }
    // f32 rounding may push a half turn over 1.
    if square > 1.0 {
        let length = square.sqrt();
        (b, c, d) = (b / length, c / length, d / length);
    }
    let a = (1.0 - (b * b + c * c + d * d)).max(0.0).sqrt();
    let qfac = if header.pixdim[0] < 0.0 { -1.0 } else { 1.0 };
    let [dx, dy, dz] = [1, 2, 3].map(|i| f64::from(header.pixdim[i]).abs() * unit);
    let r = [
        [a * a + b * b - c * c - d * d, 2.0 * (b * c - a * d), 2.0 * (b * d + a * c)],
        [2.0 * (b * c + a * d), a * a + c * c - b * b - d * d, 2.0 * (c * d - a * b)],
        [2.0 * (b * d - a * c), 2.0 * (c * d + a * b), a * a + d * d - c * c - b * b],
    ];
    let t = [header.quatern_x, header.quatern_y, header.quatern_z].map(|v| f64::from(v) * unit);
    Some(std::array::from_fn(|i| match (i / 4, i % 4) {
        (row, 0) => r[row][0] * dx,
        (row, 1) => r[row][1] * dy,
        (row, 2) => r[row][2] * dz * qfac,
        (row, _) => t[row],
    }))
}
