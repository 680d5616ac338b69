//! Blanking rectangles in the pixel data of one instance: exactly the samples within them change, in every frame.
//!
//! A rectangle becomes black as displayed. Unsigned grey samples take the end of their range (MONOCHROME1 or a negative
//! rescale slope: the upper end); signed ones take the darkest value that occurs in the image, because the end of a
//! 16-bit range overflows in programs that add the rescale intercept with 16 bits. RGB becomes 0, YBR 0 with neutral
//! colour, a palette index the darkest entry of its palette. Unused bits of a blanked cell are filled with the sign (or
//! zero), so that overlays in them are gone too. In YBR_FULL_422 two pixels share their colour: it becomes neutral
//! where either of them is blanked.
//!
//! Compressed pixel data are decoded first, and leave as Explicit VR Little Endian.

mod darkest;
mod decode;
mod grey;
#[cfg(test)]
mod tests;

use std::borrow::Cow;

use dicom_core::{DataElement, PrimitiveValue, VR};
use dicom_dictionary_std::tags;
use dicom_object::InMemDicomObject;
use dicom_object::mem::InMemElement;
use serde::{Deserialize, Serialize};

use super::guard::{Outline, PixelSpan};
use super::header::{integer, items, number, text};
use super::record::Fault;

pub use decode::decode;
pub use grey::grey;

/// A rectangle of pixels, counted from the first column and row of the image; may reach beyond it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(from = "[usize; 4]", into = "[usize; 4]")]
pub struct Rectangle {
    /// First column.
    pub x: usize,
    /// First row.
    pub y: usize,
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
}

impl From<[usize; 4]> for Rectangle {
    fn from([x, y, width, height]: [usize; 4]) -> Self {
        Self { x, y, width, height }
    }
}

impl From<Rectangle> for [usize; 4] {
    fn from(r: Rectangle) -> Self {
        [r.x, r.y, r.width, r.height]
    }
}

impl Rectangle {
    /// The part that lies in an image of this size; `None` where none does.
    pub fn clipped(self, rows: usize, columns: usize) -> Option<Self> {
        let right = self.x.saturating_add(self.width).min(columns);
        let bottom = self.y.saturating_add(self.height).min(rows);
        (self.x < right && self.y < bottom).then(|| Self { width: right - self.x, height: bottom - self.y, ..self })
    }
}

/// Rectangles that cover exactly what lies outside `regions` in an image of this size; they do not overlap.
pub fn outside(regions: &[Rectangle], rows: usize, columns: usize) -> Vec<Rectangle> {
    let kept: Vec<Rectangle> = regions.iter().filter_map(|r| r.clipped(rows, columns)).collect();
    let mut edges: Vec<usize> = kept.iter().flat_map(|r| [r.y, r.y + r.height]).chain([0, rows]).collect();
    edges.sort_unstable();
    edges.dedup();
    let mut out: Vec<Rectangle> = Vec::new();
    // Rectangles of the band above, which grow downwards where the next band leaves the same gaps.
    let mut above = 0..0;
    for band in edges.windows(2) {
        let &[top, bottom] = band else { continue };
        let mut spans: Vec<(usize, usize)> =
            kept.iter().filter(|r| r.y <= top && bottom <= r.y + r.height).map(|r| (r.x, r.x + r.width)).collect();
        spans.sort_unstable();
        let mut gaps = Vec::new();
        let mut from = 0;
        for (left, right) in spans.into_iter().chain([(columns, columns)]) {
            if left > from {
                gaps.push((from, left - from));
            }
            from = from.max(right);
        }
        let same = out.get(above.clone()).is_some_and(|rs| rs.iter().map(|r| (r.x, r.width)).eq(gaps.iter().copied()));
        if same && !gaps.is_empty() {
            for rectangle in out.get_mut(above.clone()).unwrap_or_default() {
                rectangle.height += bottom - top;
            }
            continue;
        }
        above = out.len()..out.len() + gaps.len();
        out.extend(gaps.into_iter().map(|(x, width)| Rectangle { x, y: top, width, height: bottom - top }));
    }
    out
}

/// What the samples of a pixel mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Photometric {
    /// Grey, the smallest value is white.
    Monochrome1,
    /// Grey, the smallest value is black.
    Monochrome2,
    /// An index into colour tables.
    PaletteColor,
    /// Red, green, blue.
    Rgb,
    /// Luminance and two colour differences.
    YbrFull,
    /// The same, with one pair of colour differences for two pixels.
    YbrFull422,
    /// JPEG 2000's irreversible transform; only within a codestream.
    YbrIct,
    /// JPEG 2000's reversible transform; only within a codestream.
    YbrRct,
}

impl Photometric {
    const NAMES: [(Self, &'static str); 8] = [
        (Self::Monochrome1, "MONOCHROME1"),
        (Self::Monochrome2, "MONOCHROME2"),
        (Self::PaletteColor, "PALETTE COLOR"),
        (Self::Rgb, "RGB"),
        (Self::YbrFull, "YBR_FULL"),
        (Self::YbrFull422, "YBR_FULL_422"),
        (Self::YbrIct, "YBR_ICT"),
        (Self::YbrRct, "YBR_RCT"),
    ];

    /// The defined term of Photometric Interpretation.
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(p, _)| *p == self).map_or("", |(_, name)| name)
    }

    fn samples(self) -> usize {
        if matches!(self, Self::Monochrome1 | Self::Monochrome2 | Self::PaletteColor) { 1 } else { 3 }
    }
}

/// How the pixels of an instance are stored, as far as blanking needs to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlankDescription {
    /// Rows of a frame.
    pub rows: usize,
    /// Columns of a frame.
    pub columns: usize,
    /// Frames.
    pub frames: usize,
    /// What the samples mean.
    pub photometric: Photometric,
    /// Colours lie in planes of their own, not pixel by pixel.
    pub planar: bool,
    /// Bits that a sample takes: 1, 8, 16 or 32.
    pub bits_allocated: u32,
    /// Bits that a sample uses.
    pub bits_stored: u32,
    /// Highest bit that a sample uses.
    pub high_bit: u32,
    /// Samples are two's complement.
    pub signed: bool,
    /// The rescale slope is negative: larger values are darker (MONOCHROME2).
    pub falling: bool,
    /// Index of the darkest entry of the palette; 0 where the tables are absent, segmented or unreadable.
    pub darkest_index: u32,
    /// Lossy Image Compression, where the header says it.
    pub lossy: Option<bool>,
}

fn bad(text: impl Into<String>) -> Fault {
    Fault::new("pixel-module", text)
}

impl BlankDescription {
    /// Reads it out of a header.
    ///
    /// # Errors
    /// `pixel-module` for values that are missing or contradict each other; `photometric` for an interpretation that
    /// cannot be blanked; `rescale` for slopes of both signs.
    pub fn of(header: &InMemDicomObject) -> Result<Self, Fault> {
        let need = |tag, name: &str| {
            integer(header, tag)
                .and_then(|n| u32::try_from(n).ok())
                .ok_or_else(|| bad(format!("{name} is missing or is no whole number")))
        };
        let name = text(header, tags::PHOTOMETRIC_INTERPRETATION).unwrap_or_default();
        let photometric = Photometric::NAMES.iter().find(|(_, n)| *n == name).map(|(p, _)| *p).ok_or_else(|| {
            Fault::new("photometric", "pixels of this photometric interpretation cannot be blanked (grey, palette, RGB, YBR_FULL, YBR_FULL_422 and those of JPEG 2000 can)")
        })?;
        let samples = integer(header, tags::SAMPLES_PER_PIXEL).unwrap_or(1);
        if usize::try_from(samples) != Ok(photometric.samples()) {
            return Err(bad(format!("the image has {samples} samples a pixel, which does not fit {name}")));
        }
        let (rows, columns) = (need(tags::ROWS, "Rows")?, need(tags::COLUMNS, "Columns")?);
        let bits_allocated = need(tags::BITS_ALLOCATED, "Bits Allocated")?;
        let bits_stored = need(tags::BITS_STORED, "Bits Stored")?;
        let high_bit = match integer(header, tags::HIGH_BIT) {
            None => bits_stored.saturating_sub(1),
            Some(_) => need(tags::HIGH_BIT, "High Bit")?,
        };
        let representation = match integer(header, tags::PIXEL_REPRESENTATION) {
            None => 0,
            Some(_) => need(tags::PIXEL_REPRESENTATION, "Pixel Representation")?,
        };
        let frames = match integer(header, tags::NUMBER_OF_FRAMES) {
            None => 1,
            Some(n) => usize::try_from(n).ok().filter(|&n| n > 0).ok_or_else(|| bad("Number of Frames is below 1"))?,
        };
        if !(1..=65535).contains(&rows) || !(1..=65535).contains(&columns) {
            return Err(bad(format!("the image has {rows} rows and {columns} columns")));
        }
        if !matches!(bits_allocated, 1 | 8 | 16 | 32) {
            return Err(bad(format!("Bits Allocated is {bits_allocated}, expected 1, 8, 16 or 32")));
        }
        if bits_allocated == 1 && samples != 1 {
            return Err(bad("colour with 1 bit a sample is not supported"));
        }
        if !(1..=bits_allocated).contains(&bits_stored) || high_bit >= bits_allocated || high_bit + 1 < bits_stored {
            return Err(bad(format!(
                "Bits Stored {bits_stored} and High Bit {high_bit} do not fit Bits Allocated {bits_allocated}"
            )));
        }
        if representation > 1 {
            return Err(bad(format!("Pixel Representation is {representation}, expected 0 or 1")));
        }
        if photometric == Photometric::YbrFull422 && columns % 2 == 1 {
            return Err(bad(format!("YBR_FULL_422 has pairs of pixels, but {columns} columns")));
        }
        let description = Self {
            rows: rows as usize,
            columns: columns as usize,
            frames,
            photometric,
            planar: samples == 3 && integer(header, tags::PLANAR_CONFIGURATION) == Some(1),
            bits_allocated,
            bits_stored,
            high_bit,
            signed: representation == 1,
            falling: falling(header)?,
            darkest_index: if photometric == Photometric::PaletteColor { darkest::index(header) } else { 0 },
            lossy: match text(header, tags::LOSSY_IMAGE_COMPRESSION).as_deref() {
                Some("01") => Some(true),
                Some("00") => Some(false),
                _ => None,
            },
        };
        description.size()?;
        Ok(description)
    }

    /// Pixels of a frame.
    pub fn pixels(&self) -> usize {
        self.rows * self.columns
    }

    /// Samples that a pixel takes in memory: 2 on average for YBR_FULL_422.
    fn cells_per_pixel(&self) -> usize {
        match self.photometric {
            Photometric::YbrFull422 => 2,
            other => other.samples(),
        }
    }

    /// Bytes of a sample; 1 also where eight samples share one.
    fn sample_bytes(&self) -> usize {
        (self.bits_allocated / 8).max(1) as usize
    }

    /// Bytes of an uncompressed frame. Frames of one bit a pixel follow each other without a gap.
    fn frame_bytes(&self) -> usize {
        self.pixels() * self.cells_per_pixel() * self.sample_bytes()
    }

    /// Bytes of all frames, uncompressed.
    ///
    /// # Errors
    /// `pixel-module` for more than an element can hold.
    pub fn size(&self) -> Result<usize, Fault> {
        let bits = self.pixels() as u128
            * self.cells_per_pixel() as u128
            * u128::from(self.bits_allocated)
            * self.frames as u128;
        let bytes = bits.div_ceil(8);
        if bytes > u128::from(u32::MAX - 1) {
            return Err(bad(format!("the pixel data have {bytes} bytes uncompressed, more than an element can hold")));
        }
        Ok(bytes as usize)
    }
}

/// Is the rescale slope negative?
fn falling(header: &InMemDicomObject) -> Result<bool, Fault> {
    let groups = [tags::SHARED_FUNCTIONAL_GROUPS_SEQUENCE, tags::PER_FRAME_FUNCTIONAL_GROUPS_SEQUENCE];
    let frames = groups.iter().flat_map(|&group| items(header, group));
    let transforms = frames.flat_map(|frame| items(frame, tags::PIXEL_VALUE_TRANSFORMATION_SEQUENCE));
    let mut signs =
        [header].into_iter().chain(transforms).filter_map(|o| number(o, tags::RESCALE_SLOPE)).map(|s| s < 0.0);
    let Some(first) = signs.next() else { return Ok(false) };
    if signs.any(|sign| sign != first) {
        return Err(Fault::new(
            "rescale",
            "frames have rescale slopes of both signs, so black is not one stored value",
        ));
    }
    Ok(first)
}

/// The pixel data of an instance.
#[derive(Debug, Clone)]
pub enum Pixels<'a> {
    /// Uncompressed, little endian.
    Native(Cow<'a, [u8]>),
    /// Compressed.
    Encapsulated {
        /// Transfer Syntax UID.
        transfer_syntax: &'a str,
        /// The fragments, without the offset table.
        fragments: Vec<&'a [u8]>,
        /// The basic offset table; empty where there is none.
        offsets: &'a [u32],
    },
}

impl<'a> Pixels<'a> {
    /// The pixel data of a walked file; big endian samples are turned.
    ///
    /// # Errors
    /// `no-pixel-data`, `float-pixels`, `pixel-length`
    pub fn of(outline: &'a Outline<'_>, description: &BlankDescription) -> Result<Self, Fault> {
        let lost = || Fault::new("pixel-length", "the pixel data do not lie in the file");
        match &outline.pixels {
            PixelSpan::Absent => Err(Fault::new("no-pixel-data", "the file has no pixel data")),
            PixelSpan::Float => Err(Fault::new("float-pixels", "floating point pixel data cannot be blanked")),
            PixelSpan::Native(range) => {
                let bytes = outline.data.get(range.clone()).ok_or_else(lost)?;
                if !outline.encoding.big_endian {
                    return Ok(Self::Native(Cow::Borrowed(bytes)));
                }
                // Words of VR OW are turned whole, also where they hold two samples of 8 bits or sixteen of one.
                let from = outline.header.end + 4;
                let words = outline.data.get(from..from + 2) == Some(b"OW");
                let unit = if words { description.sample_bytes().max(2) } else { description.sample_bytes() };
                let mut turned = bytes.to_vec();
                turned.chunks_exact_mut(unit).for_each(<[u8]>::reverse);
                Ok(Self::Native(Cow::Owned(turned)))
            }
            PixelSpan::Encapsulated { offsets, fragments } => {
                let fragments: Option<Vec<&[u8]>> = fragments.iter().map(|r| outline.data.get(r.clone())).collect();
                Ok(Self::Encapsulated {
                    transfer_syntax: &outline.transfer_syntax,
                    fragments: fragments.ok_or_else(lost)?,
                    offsets,
                })
            }
        }
    }
}

/// Pixel data after blanking.
#[derive(Debug, Clone, PartialEq)]
pub struct Blanked {
    /// How they are stored now.
    pub description: BlankDescription,
    /// Uncompressed, little endian, of even length.
    pub bytes: Vec<u8>,
    /// Elements to put into the data set in place of those there: none for pixel data that were not compressed.
    pub changed: Vec<InMemElement>,
}

/// Blanks rectangles in every frame. Rectangles are clipped to the image; what lies outside them keeps every byte.
///
/// # Errors
/// `undecodable-pixels` for compressed pixel data that cannot be decoded; `pixel-length` for uncompressed ones whose
/// length does not fit; `photometric` for uncompressed pixels that claim a colour space of JPEG 2000.
pub fn blank(description: &BlankDescription, pixels: Pixels<'_>, rectangles: &[Rectangle]) -> Result<Blanked, Fault> {
    let compressed = match &pixels {
        Pixels::Encapsulated { transfer_syntax, .. } => Some((*transfer_syntax).to_owned()),
        Pixels::Native(_) => None,
    };
    let (stored, bytes) = decode(description, pixels)?;
    let mut bytes = bytes.into_owned();
    let black = darkest::pixel(&stored, &bytes);
    for rectangle in rectangles.iter().filter_map(|r| r.clipped(stored.rows, stored.columns)) {
        for frame in 0..stored.frames {
            fill(&stored, &mut bytes, frame, rectangle, &black);
        }
    }
    if bytes.len() % 2 == 1 {
        bytes.push(0);
    }
    let changed = compressed.map(|syntax| changes(description, &stored, &syntax)).unwrap_or_default();
    Ok(Blanked { description: stored, bytes, changed })
}

/// What the data set must say after decoding.
fn changes(before: &BlankDescription, after: &BlankDescription, transfer_syntax: &str) -> Vec<InMemElement> {
    let mut changed = Vec::new();
    if after.photometric != before.photometric {
        changed.push(DataElement::new(tags::PHOTOMETRIC_INTERPRETATION, VR::CS, after.photometric.name()));
    }
    if after.photometric.samples() > 1 {
        changed.push(DataElement::new(tags::PLANAR_CONFIGURATION, VR::US, PrimitiveValue::from(0u16)));
    }
    if decode::was_lossy(transfer_syntax, before.lossy) && before.lossy != Some(true) {
        changed.push(DataElement::new(tags::LOSSY_IMAGE_COMPRESSION, VR::CS, "01"));
    }
    changed
}

/// Fills a clipped rectangle of one frame with `black`, the bytes of one pixel.
fn fill(d: &BlankDescription, bytes: &mut [u8], frame: usize, rectangle: Rectangle, black: &[u8]) {
    let Rectangle { x, y, width, height } = rectangle;
    let size = d.sample_bytes();
    let base = frame * d.frame_bytes();
    for row in y..y + height {
        let first = row * d.columns + x;
        if d.bits_allocated == 1 {
            let bit = black.first() == Some(&1);
            let from = frame * d.pixels() + first;
            for at in from..from + width {
                let Some(byte) = bytes.get_mut(at / 8) else { return };
                if bit { *byte |= 1 << (at % 8) } else { *byte &= !(1 << (at % 8)) }
            }
        } else if d.photometric == Photometric::YbrFull422 {
            let Some((luminance, colours)) = black.split_at_checked(size) else { return };
            for column in x..x + width {
                // Y1 Y2 Cb Cr for each pair.
                let pair = base + (row * d.columns + column) / 2 * 4 * size;
                put(bytes, pair + (column % 2) * size, size, luminance);
                put(bytes, pair + 2 * size, 2 * size, colours);
            }
        } else if d.planar {
            for (plane, value) in black.chunks_exact(size).enumerate() {
                put(bytes, base + (plane * d.pixels() + first) * size, width * size, value);
            }
        } else {
            put(bytes, base + first * black.len(), width * black.len(), black);
        }
    }
}

/// Repeats `pattern` over `length` bytes from `from`.
fn put(bytes: &mut [u8], from: usize, length: usize, pattern: &[u8]) {
    let Some(target) = bytes.get_mut(from..from + length) else { return };
    for piece in target.chunks_exact_mut(pattern.len().max(1)) {
        piece.copy_from_slice(pattern);
    }
}
