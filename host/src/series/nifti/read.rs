//! Reading `.nii` and `.nii.gz` (recognised by content, not by name), with a bound on everything a header can claim.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use flate2::read::MultiGzDecoder;
use nifti::{Endianness, NiftiHeader};

use super::NiftiVolume;
use crate::series::geometry::{Geometry, cross, dot, norm};
use crate::series::record::Fault;

/// Bytes of a NIfTI-1 header and of the extension flag after it.
const HEADER: usize = 348;
/// Header extensions longer than this are refused, bytes.
const MAX_EXTENSIONS: u64 = 64 << 20;
/// What may follow the voxels, bytes; it is read only to reach the checksum of the compressed stream.
const MAX_TRAILING: u64 = 1 << 20;
/// No deflate stream grows more than this.
const MAX_INFLATION: u64 = 1032;

/// What a file may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most bytes of voxels, decompressed and as they are stored in the file or in memory, whichever is more.
    pub voxel_bytes: u64,
}

impl Default for Limits {
    /// 8 GiB.
    fn default() -> Self {
        Self { voxel_bytes: 8 << 30 }
    }
}

/// How the file stores a voxel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stored {
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
    fn from_code(code: i16) -> Result<Self, Fault> {
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

    fn bytes(self) -> usize {
        match self {
            Self::U8 | Self::I8 => 1,
            Self::I16 | Self::U16 => 2,
            Self::I32 | Self::U32 | Self::F32 => 4,
            Self::I64 | Self::U64 | Self::F64 => 8,
        }
    }

    fn is_integer(self) -> bool {
        !matches!(self, Self::F32 | Self::F64)
    }
}

/// An open NIfTI file whose header has been read and checked; the voxels follow with [`NiftiFile::image`] or
/// [`NiftiFile::labels`].
pub struct NiftiFile {
    reader: Box<dyn Read>,
    stored: Stored,
    big_endian: bool,
    slope: f64,
    intercept: f64,
    channels: usize,
    geometry: Geometry,
    warnings: Vec<Fault>,
    limits: Limits,
}

impl std::fmt::Debug for NiftiFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NiftiFile").field("stored", &self.stored).field("size", &self.geometry.size).finish()
    }
}

impl NiftiFile {
    /// Opens a regular file (a symlink, pipe or device is refused) and reads its header.
    ///
    /// # Errors
    /// `nifti-open`, `nifti-format`, `nifti-type`, `nifti-size`, `nifti-orientation`, `nifti-scaling`,
    /// `nifti-truncated`. No text holds the path.
    pub fn open(path: &Path, limits: Limits) -> Result<Self, Fault> {
        let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::CLOEXEC;
        let file = std::fs::OpenOptions::new()
            .read(true)
            .custom_flags(flags.bits() as i32)
            .open(path)
            .map_err(|e| Fault::new("nifti-open", format!("the NIfTI file cannot be opened: {}", kind(&e))))?;
        let about = file.metadata().map_err(|e| Fault::new("nifti-open", kind(&e)))?;
        if !about.is_file() {
            return Err(Fault::new("nifti-open", "expected a regular file"));
        }
        Self::from_file(file, about.len(), limits)
    }

    fn from_file(file: File, length: u64, limits: Limits) -> Result<Self, Fault> {
        let mut plain = BufReader::with_capacity(1 << 16, file);
        let mut start = [0u8; 2];
        read_exact(&mut plain, &mut start)?;
        let all = io::Cursor::new(start).chain(plain);
        if start == [0x1F, 0x8B] {
            Self::from_reader(Box::new(MultiGzDecoder::new(all)), length.saturating_mul(MAX_INFLATION), limits)
        } else {
            Self::from_reader(Box::new(all), length, limits)
        }
    }

    /// Reads a header from a decompressed stream that can hold at most `available` bytes.
    fn from_reader(mut reader: Box<dyn Read>, available: u64, limits: Limits) -> Result<Self, Fault> {
        let mut bytes = [0u8; HEADER];
        read_exact(&mut reader, &mut bytes)?;
        let header = parse(&bytes)?;
        let stored = Stored::from_code(header.datatype)?;
        let (size, channels) = size(&header)?;
        let voxels = size.iter().chain([&channels]).try_fold(1u64, |n, &d| n.checked_mul(d as u64));
        let needed = voxels.and_then(|n| n.checked_mul(stored.bytes() as u64));
        let in_memory = voxels.and_then(|n| n.checked_mul(4)).max(needed);
        let (Some(needed), Some(in_memory)) = (needed, in_memory) else {
            return Err(Fault::new("nifti-size", "the header claims more voxels than a file can hold"));
        };
        if in_memory > limits.voxel_bytes {
            return Err(Fault::new(
                "nifti-size",
                format!("the header claims {in_memory} bytes of voxels, the limit is {}", limits.voxel_bytes),
            ));
        }
        let offset = header.vox_offset;
        if !(offset == 0.0 || (offset >= 352.0 && f64::from(offset) <= MAX_EXTENSIONS as f64 && offset.fract() == 0.0))
        {
            return Err(Fault::new(
                "nifti-format",
                format!("vox_offset must be a whole number from 352 to {MAX_EXTENSIONS}, found {offset}"),
            ));
        }
        // 0 is what some writers leave in single-file headers; the voxels can only follow the extension flag.
        let offset = if offset == 0.0 { 352 } else { offset as u64 };
        if available < offset.saturating_add(needed) {
            return Err(truncated());
        }
        let extensions = offset - HEADER as u64;
        let skipped = io::copy(&mut reader.by_ref().take(extensions), &mut io::sink()).map_err(|e| unreadable(&e))?;
        if skipped != extensions {
            return Err(truncated());
        }
        let (slope, intercept) = scaling(&header)?;
        let mut warnings = Vec::new();
        let geometry = geometry(&header, size, &mut warnings)?;
        let big_endian = header.endianness == Endianness::Big;
        Ok(Self { reader, stored, big_endian, slope, intercept, channels, geometry, warnings, limits })
    }

    /// The grid, LPS.
    pub fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// Number of channels (the product of NIfTI dimensions 4 to 7).
    pub fn channels(&self) -> usize {
        self.channels
    }

    /// What is worth saying of the header.
    pub fn warnings(&self) -> &[Fault] {
        &self.warnings
    }

    /// Whether every voxel is a whole number by its type and scaling.
    pub fn holds_integers(&self) -> bool {
        self.stored.is_integer() && self.slope.fract() == 0.0 && self.intercept.fract() == 0.0
    }

    /// Reads the voxels as an image: `stored * slope + intercept` in f64, rounded once to f32.
    ///
    /// # Errors
    /// `nifti-truncated`, `nifti-read`, `not-finite`.
    pub fn image(self) -> Result<NiftiVolume<f32>, Fault> {
        let (slope, intercept) = (self.slope, self.intercept);
        self.voxels(|value| {
            let value = (value.as_f64() * slope + intercept) as f32;
            if value.is_finite() { Ok(value) } else { Err(Bad::NotFinite) }
        })
    }

    /// Reads the voxels as labels. Floating point and scaled files are read too, if every value is a whole number.
    ///
    /// # Errors
    /// `nifti-truncated`, `nifti-read`, `nifti-labels` for a value that is no whole number or does not fit `T`.
    pub fn labels<T: LabelValue>(self) -> Result<NiftiVolume<T>, Fault> {
        let (slope, intercept) = (self.slope, self.intercept);
        let scaled = slope != 1.0 || intercept != 0.0;
        self.voxels(|value| {
            let whole = match value {
                Raw::Integer(v) if !scaled => Some(v),
                Raw::Integer(_) | Raw::Float(_) => {
                    let v = value.as_f64() * slope + intercept;
                    // Whole numbers up to 2^53 are exact in f64.
                    (v.fract() == 0.0 && v.abs() <= 9_007_199_254_740_992.0).then_some(v as i128)
                }
            };
            whole.and_then(|v| T::try_from(v).ok()).ok_or(Bad::Label)
        })
    }

    fn voxels<T>(mut self, mut convert: impl FnMut(Raw) -> Result<T, Bad>) -> Result<NiftiVolume<T>, Fault> {
        let [_, rows, columns] = self.geometry.size;
        let planes = self.geometry.size[0] * self.channels;
        let (plane, width) = (rows * columns, self.stored.bytes());
        let mut voxels: Vec<T> = Vec::new();
        // Small steps: a file that ends early has not had the memory reserved that its header claims.
        let step = (1usize << 20).min((plane * width).max(width)) / width * width;
        let mut buffer = vec![0u8; step];
        let mut left = planes * plane * width;
        debug_assert!(left as u64 <= self.limits.voxel_bytes);
        while left > 0 {
            let bytes = buffer.get_mut(..step.min(left)).unwrap_or_default();
            read_exact(&mut self.reader, bytes)?;
            left -= bytes.len();
            voxels
                .try_reserve(bytes.len() / width)
                .map_err(|_| Fault::new("nifti-size", "there is not enough memory for the voxels of this file"))?;
            for sample in bytes.chunks_exact(width) {
                let value = convert(decode(self.stored, self.big_endian, sample)).map_err(|bad| {
                    let i = voxels.len();
                    let (z, y, x) = (i / plane.max(1), i / columns.max(1) % rows.max(1), i % columns.max(1));
                    bad.at(z, y, x, std::any::type_name::<T>())
                })?;
                voxels.push(value);
            }
        }
        // To the end of the stream, where the checksum of a compressed file is compared.
        let trailing =
            io::copy(&mut self.reader.by_ref().take(MAX_TRAILING + 1), &mut io::sink()).map_err(|e| unreadable(&e))?;
        if trailing > MAX_TRAILING {
            return Err(Fault::new("nifti-format", "more than 1 MiB of unknown data follows the voxels"));
        }
        Ok(NiftiVolume { channels: self.channels, geometry: self.geometry, voxels })
    }
}

/// An integer type that labels can be read as.
pub trait LabelValue: TryFrom<i128> + Copy {}
impl LabelValue for u8 {}
impl LabelValue for u16 {}
impl LabelValue for i32 {}

/// One stored value.
#[derive(Clone, Copy)]
enum Raw {
    Integer(i128),
    Float(f64),
}

impl Raw {
    fn as_f64(self) -> f64 {
        match self {
            Self::Integer(v) => v as f64,
            Self::Float(v) => v,
        }
    }
}

/// A value that cannot be taken.
enum Bad {
    NotFinite,
    Label,
}

impl Bad {
    fn at(self, z: usize, y: usize, x: usize, name: &str) -> Fault {
        let place = format!("slice {z}, row {y}, column {x}");
        match self {
            Self::NotFinite => Fault::new("not-finite", format!("{place}: the value is not a finite number")),
            Self::Label => {
                Fault::new("nifti-labels", format!("{place}: the value is no whole number that fits {name}"))
            }
        }
    }
}

fn decode(stored: Stored, big_endian: bool, bytes: &[u8]) -> Raw {
    // Right-aligned little endian.
    let mut raw = [0u8; 8];
    for (i, slot) in raw.iter_mut().take(bytes.len()).enumerate() {
        let from = if big_endian { bytes.len() - 1 - i } else { i };
        *slot = bytes.get(from).copied().unwrap_or(0);
    }
    let bits = u64::from_le_bytes(raw);
    match stored {
        Stored::U8 | Stored::U16 | Stored::U32 | Stored::U64 => Raw::Integer(bits.into()),
        Stored::I8 => Raw::Integer((bits as i8).into()),
        Stored::I16 => Raw::Integer((bits as i16).into()),
        Stored::I32 => Raw::Integer((bits as i32).into()),
        Stored::I64 => Raw::Integer((bits as i64).into()),
        Stored::F32 => Raw::Float(f32::from_bits(bits as u32).into()),
        Stored::F64 => Raw::Float(f64::from_bits(bits)),
    }
}

fn parse(bytes: &[u8; HEADER]) -> Result<NiftiHeader, Fault> {
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
fn size(header: &NiftiHeader) -> Result<([usize; 3], usize), Fault> {
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
fn scaling(header: &NiftiHeader) -> Result<(f64, f64), Fault> {
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
fn geometry(header: &NiftiHeader, size: [usize; 3], warnings: &mut Vec<Fault>) -> Result<Geometry, Fault> {
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

fn read_exact(reader: &mut impl Read, bytes: &mut [u8]) -> Result<(), Fault> {
    reader.read_exact(bytes).map_err(|e| match e.kind() {
        io::ErrorKind::UnexpectedEof => truncated(),
        _ => unreadable(&e),
    })
}

fn truncated() -> Fault {
    Fault::new("nifti-truncated", "the file ends before the voxels its header claims")
}

fn unreadable(error: &io::Error) -> Fault {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => truncated(),
        io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData => {
            Fault::new("nifti-read", "the compressed data is damaged")
        }
        _ => Fault::new("nifti-read", format!("reading failed: {}", kind(error))),
    }
}

/// The error without any path.
fn kind(error: &io::Error) -> String {
    error.kind().to_string()
}
