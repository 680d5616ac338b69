//! From a walked file to the stored values of one frame.
//!
//! Every decoder gets sizes that were compared beforehand, and what it returns must be exactly Rows x Columns samples.

use std::borrow::Cow;

use dicom_dictionary_std::{tags, uids};
use dicom_object::InMemDicomObject;

use super::guard::{self, Outline, PixelSpan};
use super::header::{integer, text};
use super::record::Fault;
use super::{inflate, jpeg, jpeg_ls, jpeg2000, rle};

/// Largest frame that is always accepted, pixels …
pub(super) const FREE_PIXELS: usize = 4 << 20;
/// … and how many pixels a compressed byte may stand for in larger ones.
pub(super) const MAX_PIXELS_PER_BYTE: usize = 1000;
/// Deflated Image Frame Compression.
const DEFLATED_FRAME: &str = "1.2.840.10008.1.2.8.1";

/// How the pixels of a file are stored (DICOM Image Pixel module).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PixelModule {
    /// Rows of a frame, pixels.
    pub rows: usize,
    /// Columns of a frame, pixels.
    pub columns: usize,
    /// Bits that a sample takes: 8, 16 or 32.
    pub bits_allocated: u32,
    /// Bits that a sample uses.
    pub bits_stored: u32,
    /// Highest bit that a sample uses.
    pub high_bit: u32,
    /// Samples are two's complement.
    pub signed: bool,
    /// `MONOCHROME1` or `MONOCHROME2`.
    pub photometric: String,
    /// Frames in the file.
    pub frames: usize,
}

impl PixelModule {
    /// Reads the module and refuses what cannot be decoded into one stored value a pixel.
    ///
    /// # Errors
    /// `colour`, `photometric`, `pixel-module`
    pub fn of(header: &InMemDicomObject) -> Result<Self, Fault> {
        let need = |tag, name: &str| {
            integer(header, tag)
                .and_then(|n| u32::try_from(n).ok())
                .ok_or_else(|| Fault::new("pixel-module", format!("{name} is missing or is no whole number")))
        };
        let samples = integer(header, tags::SAMPLES_PER_PIXEL).unwrap_or(1);
        let photometric = text(header, tags::PHOTOMETRIC_INTERPRETATION).unwrap_or_default();
        if samples != 1 {
            return Err(Fault::new("colour", format!("the image has {samples} samples a pixel, expected 1 (grey)")));
        }
        if photometric != "MONOCHROME1" && photometric != "MONOCHROME2" {
            let known =
                ["PALETTE COLOR", "RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT", "HSV", "ARGB", "CMYK"];
            let name = known.into_iter().find(|&k| k == photometric).unwrap_or("unknown or missing");
            return Err(Fault::new(
                "photometric",
                format!("the photometric interpretation is {name}, expected MONOCHROME1 or MONOCHROME2"),
            ));
        }
        let (rows, columns) = (need(tags::ROWS, "Rows")?, need(tags::COLUMNS, "Columns")?);
        let bits_allocated = need(tags::BITS_ALLOCATED, "Bits Allocated")?;
        let bits_stored = need(tags::BITS_STORED, "Bits Stored")?;
        let high_bit = match integer(header, tags::HIGH_BIT) {
            None => bits_stored.saturating_sub(1),
            Some(_) => need(tags::HIGH_BIT, "High Bit")?,
        };
        let representation = need(tags::PIXEL_REPRESENTATION, "Pixel Representation")?;
        let bad = |text: String| Err(Fault::new("pixel-module", text));
        if rows == 0 || columns == 0 {
            return bad(format!("the image has {rows} rows and {columns} columns"));
        }
        if !matches!(bits_allocated, 8 | 16 | 32) {
            return bad(format!("Bits Allocated is {bits_allocated}, expected 8, 16 or 32"));
        }
        if !(1..=bits_allocated).contains(&bits_stored) || high_bit >= bits_allocated || high_bit + 1 < bits_stored {
            return bad(format!(
                "Bits Stored {bits_stored} and High Bit {high_bit} do not fit Bits Allocated {bits_allocated}"
            ));
        }
        if representation > 1 {
            return bad(format!("Pixel Representation is {representation}, expected 0 or 1"));
        }
        let frames = integer(header, tags::NUMBER_OF_FRAMES).and_then(|n| usize::try_from(n).ok()).unwrap_or(1).max(1);
        Ok(Self {
            rows: rows as usize,
            columns: columns as usize,
            bits_allocated,
            bits_stored,
            high_bit,
            signed: representation == 1,
            photometric,
            frames,
        })
    }

    /// Pixels of a frame.
    pub fn pixels(&self) -> usize {
        self.rows * self.columns
    }

    /// Bytes of an uncompressed frame.
    fn frame_bytes(&self) -> usize {
        self.pixels() * (self.bits_allocated / 8) as usize
    }

    /// Smallest and largest stored value.
    pub fn range(&self) -> (i64, i64) {
        let span = 1i64 << self.bits_stored;
        if self.signed { (-span / 2, span / 2 - 1) } else { (0, span - 1) }
    }

    /// The sample in an allocated cell: the bits from High Bit down, sign-extended; whatever else the cell holds
    /// (overlays in unused bits) is dropped.
    fn sample(&self, cell: u32) -> i64 {
        let code = u64::from(cell) >> (self.high_bit + 1 - self.bits_stored);
        extend(code, self.bits_stored, self.signed)
    }

    /// An allocated cell read as a number, unused bits included.
    fn whole_cell(&self, cell: u32) -> i64 {
        extend(u64::from(cell), self.bits_allocated, self.signed)
    }
}

/// The low `bits` of `code` as a number.
pub(super) fn extend(code: u64, bits: u32, signed: bool) -> i64 {
    let shift = 64 - bits;
    if signed { (code << shift) as i64 >> shift } else { (code << shift >> shift) as i64 }
}

/// One decoded frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Stored values, row by row.
    pub values: Vec<i32>,
    /// Where unused bits of the cells were not empty: the cells as they stand, for telling padding.
    pub cells: Option<Vec<i32>>,
}

/// How a transfer syntax is decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Codec {
    Native,
    DeflatedFrame,
    Rle,
    Jpeg,
    JpegLs,
    Jpeg2000,
}

/// The codec of a transfer syntax.
///
/// # Errors
/// `transfer-syntax`
pub(super) fn codec(transfer_syntax: &str) -> Result<Codec, Fault> {
    Ok(match transfer_syntax {
        uids::IMPLICIT_VR_LITTLE_ENDIAN
        | uids::EXPLICIT_VR_LITTLE_ENDIAN
        | guard::EXPLICIT_BE
        | uids::DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN => Codec::Native,
        DEFLATED_FRAME => Codec::DeflatedFrame,
        uids::RLE_LOSSLESS => Codec::Rle,
        uids::JPEG_BASELINE8_BIT | uids::JPEG_EXTENDED12_BIT | uids::JPEG_LOSSLESS | uids::JPEG_LOSSLESS_SV1 => {
            Codec::Jpeg
        }
        uids::JPEGLS_LOSSLESS | uids::JPEGLS_NEAR_LOSSLESS => Codec::JpegLs,
        uids::JPEG2000_LOSSLESS | uids::JPEG2000 | uids::HTJ2K_LOSSLESS | uids::HTJ2K_LOSSLESS_RPCL | uids::HTJ2K => {
            Codec::Jpeg2000
        }
        other => {
            let plain =
                !other.is_empty() && other.len() <= 64 && other.bytes().all(|b| b == b'.' || b.is_ascii_digit());
            let known = other.starts_with("1.2.840.10008.1.2") && plain;
            let name = if known { other } else { "a private or malformed one" };
            return Err(Fault::new("transfer-syntax", format!("the transfer syntax is not supported ({name})")));
        }
    })
}

/// Refuses a transfer syntax that cannot be decoded.
///
/// # Errors
/// `transfer-syntax`
pub fn check_transfer_syntax(transfer_syntax: &str) -> Result<(), Fault> {
    codec(transfer_syntax).map(|_| ())
}

/// Compares what the header promises with the pixel data that are there, without decoding.
///
/// # Errors
/// `no-pixel-data`, `float-pixels`, `pixel-length`, `too-large`, `transfer-syntax`, `frame-boundaries`
pub fn check(outline: &Outline<'_>, module: &PixelModule) -> Result<(), Fault> {
    check_span(outline, module)?;
    (0..module.frames).try_for_each(|frame| check_frame(outline, module, frame))
}

/// A large frame must have a compressed size that is in proportion: sizes are claimed, memory is real.
fn check_frame(outline: &Outline<'_>, module: &PixelModule, frame: usize) -> Result<(), Fault> {
    let bytes = frame_bytes(outline, module, frame)?.len();
    if module.pixels() > FREE_PIXELS.max(bytes.saturating_mul(MAX_PIXELS_PER_BYTE)) {
        return Err(Fault::new(
            "too-large",
            format!("{bytes} bytes claim to be {} x {} pixels", module.rows, module.columns),
        ));
    }
    Ok(())
}

fn check_span(outline: &Outline<'_>, module: &PixelModule) -> Result<(), Fault> {
    let codec = codec(&outline.transfer_syntax)?;
    match &outline.pixels {
        PixelSpan::Absent => Err(Fault::new("no-pixel-data", "the file has no pixel data")),
        PixelSpan::Float => Err(Fault::new("float-pixels", "floating point pixel data are not supported")),
        PixelSpan::Native(range) => {
            if codec != Codec::Native {
                return Err(Fault::new(
                    "pixel-length",
                    "the pixel data are not encapsulated, but the transfer syntax is a compressed one",
                ));
            }
            let expected = module.frame_bytes() as u128 * module.frames as u128;
            let found = range.len() as u128;
            let bytes = outline.data.get(range.clone()).unwrap_or(&[]);
            // A value of odd length is padded; a few writers pad more, with zeros.
            let padding = || bytes.get(expected as usize..).unwrap_or(&[]).iter().all(|&b| b == 0);
            if found < expected || (found > expected + 1 && !padding()) {
                return Err(Fault::new(
                    "pixel-length",
                    format!("the pixel data have {found} bytes, expected {expected}"),
                ));
            }
            Ok(())
        }
        PixelSpan::Encapsulated { .. } => {
            if codec == Codec::Native {
                return Err(Fault::new(
                    "pixel-length",
                    "the pixel data are encapsulated, but the transfer syntax is an uncompressed one",
                ));
            }
            Ok(())
        }
    }
}

/// Decodes one frame, counted from 0.
///
/// # Errors
/// As [`check`]; `frames` beyond the last frame; `rle`, `jpeg`, `jpeg-ls`, `jpeg-2000`, `inflate` for a damaged frame;
/// `sample-range` for a 32-bit value that does not fit.
pub fn decode(outline: &Outline<'_>, module: &PixelModule, frame: usize) -> Result<Stored, Fault> {
    check_span(outline, module)?;
    if frame >= module.frames {
        return Err(Fault::new("frames", format!("frame {frame} was asked for, the file has {}", module.frames)));
    }
    check_frame(outline, module, frame)?;
    let codec = codec(&outline.transfer_syntax)?;
    let bytes = frame_bytes(outline, module, frame)?;
    let stored = match codec {
        Codec::Native => {
            let big = outline.encoding.big_endian;
            // 8-bit samples of VR OW lie in swapped pairs.
            let swapped = big
                && module.bits_allocated == 8
                && outline.data.get(outline.header.end + 4..outline.header.end + 6) == Some(b"OW");
            if swapped {
                let PixelSpan::Native(range) = &outline.pixels else { return Err(lost()) };
                let all = outline.data.get(range.clone()).unwrap_or(&[]);
                let from = frame * module.pixels();
                let pairs: Option<Vec<u8>> = (from..from + module.pixels()).map(|i| all.get(i ^ 1).copied()).collect();
                cells(&pairs.ok_or_else(lost)?, module, false)?
            } else {
                cells(&bytes, module, big)?
            }
        }
        Codec::DeflatedFrame => cells(&inflate::frame(&bytes, module.frame_bytes())?, module, false)?,
        Codec::Rle => {
            let plain = rle::decode(&bytes, module.pixels(), (module.bits_allocated / 8) as usize)?;
            cells(&plain, module, false)?
        }
        Codec::Jpeg => {
            let image = jpeg::decode(&bytes, &outline.transfer_syntax, module.rows, module.columns)?;
            coded(image.codes.into_iter().map(u64::from), image.precision, module)?
        }
        Codec::JpegLs => {
            let image = jpeg_ls::decode(&bytes, module.rows, module.columns)?;
            let precision = u32::from(image.precision);
            coded(image.samples.iter().map(|&s| u64::from(s)), precision, module)?
        }
        Codec::Jpeg2000 => {
            let image = jpeg2000::decode(&bytes, module.rows, module.columns)?;
            if image.signed == module.signed {
                Stored { values: image.samples, cells: None }
            } else {
                coded(image.samples.iter().map(|&s| s as u64), image.precision, module)?
            }
        }
    };
    if stored.values.len() != module.pixels() {
        return Err(lost());
    }
    Ok(stored)
}

fn lost() -> Fault {
    Fault::new("pixel-length", "the decoded image does not have Rows x Columns samples")
}

/// The fragments of one frame; `len` tells the bytes of one. Offsets count from the item tag of the first fragment, and
/// every item has a header of 8 bytes.
///
/// # Errors
/// `frame-boundaries`: nothing says where the frame ends; `no-pixel-data`.
pub(super) fn fragments_of<'f, T>(
    fragments: &'f [T],
    len: impl Fn(&T) -> usize,
    offsets: &[u32],
    frames: usize,
    frame: usize,
) -> Result<&'f [T], Fault> {
    let ambiguous = || {
        let text = format!("{frames} frames lie in {} fragments without a table of offsets", fragments.len());
        Fault::new("frame-boundaries", text)
    };
    let of_frame = if frames == fragments.len() {
        fragments.get(frame..frame + 1)
    } else if frames == 1 {
        fragments.get(..)
    } else if offsets.len() == frames && fragments.len() > frames {
        let at = |offset: u32| {
            let mut from = 0usize;
            fragments.iter().position(|fragment| {
                let found = from == offset as usize;
                from += len(fragment) + 8;
                found
            })
        };
        let from = offsets.get(frame).copied().and_then(at).ok_or_else(ambiguous)?;
        let to = match offsets.get(frame + 1) {
            Some(&offset) => at(offset).ok_or_else(ambiguous)?,
            None => fragments.len(),
        };
        fragments.get(from..to)
    } else {
        None
    };
    match of_frame.ok_or_else(ambiguous)? {
        [] => Err(Fault::new("no-pixel-data", format!("frame {frame} has no bytes"))),
        some => Ok(some),
    }
}

/// The bytes of one frame, compressed or not.
fn frame_bytes<'a>(outline: &'a Outline<'_>, module: &PixelModule, frame: usize) -> Result<Cow<'a, [u8]>, Fault> {
    let slice = |range: std::ops::Range<usize>| outline.data.get(range).ok_or_else(lost);
    match &outline.pixels {
        PixelSpan::Native(range) => {
            let from = range.start + frame * module.frame_bytes();
            slice(from..from + module.frame_bytes()).map(Cow::Borrowed)
        }
        PixelSpan::Encapsulated { offsets, fragments } => {
            let of_frame = fragments_of(fragments, std::ops::Range::len, offsets, module.frames, frame)?;
            match of_frame {
                [one] => slice(one.clone()).map(Cow::Borrowed),
                several => {
                    let parts: Result<Vec<&[u8]>, Fault> = several.iter().map(|r| slice(r.clone())).collect();
                    Ok(Cow::Owned(parts?.concat()))
                }
            }
        }
        PixelSpan::Absent | PixelSpan::Float => Err(Fault::new("no-pixel-data", "the file has no pixel data")),
    }
}

/// Stored values out of uncompressed cells.
fn cells(bytes: &[u8], module: &PixelModule, big_endian: bool) -> Result<Stored, Fault> {
    let raw: Vec<u32> = match (module.bits_allocated, big_endian) {
        (8, _) => bytes.iter().map(|&b| u32::from(b)).collect(),
        (16, false) => bytes.chunks_exact(2).map(|b| u32::from(u16::from_le_bytes([b[0], b[1]]))).collect(),
        (16, true) => bytes.chunks_exact(2).map(|b| u32::from(u16::from_be_bytes([b[0], b[1]]))).collect(),
        (_, false) => bytes.chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect(),
        (_, true) => bytes.chunks_exact(4).map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]])).collect(),
    };
    let values = raw.iter().map(|&cell| narrow(module.sample(cell))).collect::<Result<Vec<i32>, Fault>>()?;
    let whole = |cell: u32| module.whole_cell(cell);
    let unused_bits = module.bits_stored < module.bits_allocated
        && raw.iter().zip(&values).any(|(&cell, &value)| whole(cell) != i64::from(value));
    let cells = if unused_bits {
        Some(raw.iter().map(|&cell| narrow(whole(cell))).collect::<Result<Vec<i32>, Fault>>()?)
    } else {
        None
    };
    Ok(Stored { values, cells })
}

fn narrow(value: i64) -> Result<i32, Fault> {
    i32::try_from(value).map_err(|_| Fault::new("sample-range", format!("stored value {value} is above 2147483647")))
}

/// Stored values out of the codes of a codec that knows a precision, but no sign.
fn coded(codes: impl Iterator<Item = u64>, precision: u32, module: &PixelModule) -> Result<Stored, Fault> {
    if precision > module.bits_allocated {
        return Err(Fault::new(
            "pixel-module",
            format!("the compressed image has {precision} bits a sample, Bits Allocated is {}", module.bits_allocated),
        ));
    }
    let bits = precision.min(module.bits_stored);
    let values = codes.map(|code| narrow(extend(code, bits, module.signed))).collect::<Result<Vec<i32>, Fault>>()?;
    Ok(Stored { values, cells: None })
}
