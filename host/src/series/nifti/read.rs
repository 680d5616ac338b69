//! Reading `.nii` and `.nii.gz` (recognised by content, not by name), with a bound on everything a header can claim.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use flate2::read::MultiGzDecoder;
use nifti::Endianness;

use super::NiftiVolume;
use super::header::{self, HEADER, Stored};
use crate::series::geometry::Geometry;
use crate::series::record::Fault;

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
        let header = header::parse(&bytes)?;
        let stored = Stored::from_code(header.datatype)?;
        let (size, channels) = header::size(&header)?;
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
        let (slope, intercept) = header::scaling(&header)?;
        let mut warnings = Vec::new();
        let geometry = header::geometry(&header, size, &mut warnings)?;
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

    fn voxels<T: Copy>(mut self, mut convert: impl FnMut(Raw) -> Result<T, Bad>) -> Result<NiftiVolume<T>, Fault> {
        let [_, rows, columns] = self.geometry.size;
        let planes = self.geometry.size[0] * self.channels;
        let (plane, width) = (rows * columns, self.stored.bytes());
        let mut voxels: Vec<T> = Vec::new();
        // Of one-byte samples, as label files mostly have, each value is decoded once.
        let table: Vec<Option<T>> = match width {
            1 => (0..=u8::MAX).map(|byte| convert(decode(self.stored, self.big_endian, &[byte])).ok()).collect(),
            _ => Vec::new(),
        };
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
                let known = sample.first().filter(|_| width == 1).and_then(|&byte| *table.get(usize::from(byte))?);
                let value = match known {
                    Some(value) => value,
                    None => convert(decode(self.stored, self.big_endian, sample)).map_err(|bad| {
                        let i = voxels.len();
                        let (z, y, x) = (i / plane.max(1), i / columns.max(1) % rows.max(1), i % columns.max(1));
                        bad.at(z, y, x, std::any::type_name::<T>())
                    })?,
                };
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
