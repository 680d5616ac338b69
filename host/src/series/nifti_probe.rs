//! What a scan needs to know of a NIfTI file: its grid. Reads the header only.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

use flate2::read::GzDecoder;
use nifti::{Endianness, NiftiHeader};

use super::geometry::{Geometry, cross, norm};
use super::input::unreadable;
use super::record::Fault;

const HEADER_BYTES: u64 = 352;

/// Whether a file of this name may be NIfTI.
pub fn is_named_nifti(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    name.ends_with(".nii") || name.ends_with(".nii.gz")
}

/// Reads the grid of an open `.nii` or `.nii.gz` file.
///
/// # Errors
/// `not-nifti` for another content, `nifti` for sizes or an orientation that make no volume.
pub fn grid(file: &File) -> Result<Geometry, Fault> {
    let mut file = file;
    file.seek(SeekFrom::Start(0)).map_err(|e| unreadable(&e))?;
    let mut head = Vec::new();
    file.take(2).read_to_end(&mut head).map_err(|e| unreadable(&e))?;
    file.seek(SeekFrom::Start(0)).map_err(|e| unreadable(&e))?;
    let zipped = head == [0x1f, 0x8b];
    let mut bytes = Vec::new();
    let read = if zipped {
        GzDecoder::new(file).take(HEADER_BYTES).read_to_end(&mut bytes)
    } else {
        file.take(HEADER_BYTES).read_to_end(&mut bytes)
    };
    let no = || Fault::new("not-nifti", "the file is named as NIfTI but is not a NIfTI-1 file");
    if read.is_err() || bytes.get(344..348) != Some(b"n+1\0") {
        return Err(no());
    }
    let header = NiftiHeader::from_reader(bytes.as_slice()).map_err(|_| no())?;
    if header.endianness != Endianness::Little && header.endianness != Endianness::Big {
        return Err(no());
    }
    geometry(&header)
}

fn geometry(header: &NiftiHeader) -> Result<Geometry, Fault> {
    let [axes, x, y, z, others @ ..] = header.dim;
    let extra = others.iter().take(usize::from(axes).saturating_sub(3)).any(|&n| n > 1);
    if !(3..=7).contains(&axes) || x == 0 || y == 0 || z == 0 || extra {
        return Err(Fault::new(
            "nifti",
            format!("the NIfTI file has {axes} axes ({x} x {y} x {z} voxels), expected one volume of 3"),
        ));
    }
    let ras = if header.sform_code > 0 {
        [header.srow_x, header.srow_y, header.srow_z].map(|row| row.map(f64::from))
    } else {
        quaternion_affine(header)
    };
    // NIfTI is RAS+, Gantry is LPS+.
    let mut affine = [0f64; 12];
    for (r, row) in ras.iter().enumerate() {
        let sign = if r < 2 { -1.0 } else { 1.0 };
        for (c, value) in row.iter().enumerate() {
            affine[r * 4 + c] = sign * value;
        }
    }
    let column = |c: usize| [affine[c], affine[4 + c], affine[8 + c]];
    let volume = norm(cross(column(0), column(1)));
    if affine.iter().any(|v| !v.is_finite()) || volume <= 0.0 || norm(column(2)) <= 0.0 {
        return Err(Fault::new("nifti", "the NIfTI file has no sound orientation"));
    }
    Ok(Geometry {
        size: [usize::from(z), usize::from(y), usize::from(x)],
        affine,
        slice_origins_mm: None,
        frame_of_reference: None,
        z_unknown: false,
    })
}

/// The affine of methods 1 and 2 of the NIfTI-1 standard (qform): rotation from a quaternion, then spacing and offset.
fn quaternion_affine(header: &NiftiHeader) -> [[f64; 4]; 3] {
    let [_, dx, dy, dz, ..] = header.pixdim.map(f64::from);
    if header.qform_code <= 0 {
        return [[dx, 0., 0., 0.], [0., dy, 0., 0.], [0., 0., dz, 0.]];
    }
    let (b, c, d) = (f64::from(header.quatern_b), f64::from(header.quatern_c), f64::from(header.quatern_d));
    let a = (1.0 - b * b - c * c - d * d).max(0.0).sqrt();
    let handed = if header.pixdim[0] < 0.0 { -1.0 } else { 1.0 };
    let rotation = [
        [a * a + b * b - c * c - d * d, 2. * (b * c - a * d), 2. * (b * d + a * c)],
        [2. * (b * c + a * d), a * a + c * c - b * b - d * d, 2. * (c * d - a * b)],
        [2. * (b * d - a * c), 2. * (c * d + a * b), a * a + d * d - b * b - c * c],
    ];
    let offset = [header.quatern_x, header.quatern_y, header.quatern_z].map(f64::from);
    let mut out = [[0f64; 4]; 3];
    for r in 0..3 {
        out[r] = [rotation[r][0] * dx, rotation[r][1] * dy, rotation[r][2] * dz * handed, offset[r]];
    }
    out
}
