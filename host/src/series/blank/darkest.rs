//! Which bytes make a black pixel.

use dicom_core::Tag;
use dicom_dictionary_std::tags;
use dicom_object::InMemDicomObject;

use super::super::header::numbers;
use super::super::pixel::extend;
use super::{BlankDescription, Photometric};

/// The bytes of one black pixel, sample by sample (0 or 1 where a sample is a bit). `bytes` are the pixels before
/// blanking.
pub(super) fn pixel(d: &BlankDescription, bytes: &[u8]) -> Vec<u8> {
    let neutral = if d.signed { 0 } else { 1i64 << (d.bits_stored - 1) };
    let lowest = if d.signed { -(1i64 << (d.bits_stored - 1)) } else { 0 };
    let values = match d.photometric {
        Photometric::Monochrome1 => vec![grey(d, bytes, !d.falling)],
        Photometric::Monochrome2 => vec![grey(d, bytes, d.falling)],
        Photometric::PaletteColor => vec![i64::from(d.darkest_index)],
        Photometric::Rgb | Photometric::YbrIct | Photometric::YbrRct => vec![lowest; 3],
        Photometric::YbrFull | Photometric::YbrFull422 => vec![lowest, neutral, neutral],
    };
    values.into_iter().flat_map(|value| cell(d, value)).collect()
}

/// The darkest grey value, the largest where `large`.
fn grey(d: &BlankDescription, bytes: &[u8], large: bool) -> i64 {
    if !d.signed || d.bits_allocated == 1 {
        return if large { (1i64 << d.bits_stored) - 1 } else { 0 };
    }
    let size = (d.bits_allocated / 8) as usize;
    let wanted = d.pixels() * d.frames;
    let values = bytes.chunks_exact(size).take(wanted).map(|cell| value(d, cell));
    if large { values.max() } else { values.min() }.unwrap_or_default()
}

/// The sample in a cell.
pub(super) fn value(d: &BlankDescription, cell: &[u8]) -> i64 {
    let code = cell.iter().rev().fold(0u64, |code, &byte| code << 8 | u64::from(byte));
    extend(code >> (d.high_bit + 1 - d.bits_stored), d.bits_stored, d.signed)
}

/// The cell of a sample, its unused upper bits filled with the sign.
pub(super) fn cell(d: &BlankDescription, value: i64) -> Vec<u8> {
    if d.bits_allocated == 1 {
        return vec![(value & 1) as u8];
    }
    let shifted = value << (d.high_bit + 1 - d.bits_stored);
    shifted.to_le_bytes().into_iter().take((d.bits_allocated / 8) as usize).collect()
}

/// Index of the darkest entry of the palette by luminance, the first of several; 0 where the tables cannot be read.
pub(super) fn index(header: &InMemDicomObject) -> u32 {
    let table = |descriptor: Tag, data: Tag| -> Option<(u32, Vec<f64>)> {
        let described = numbers(header, descriptor)?;
        let &[entries, first, bits] = described.as_slice() else { return None };
        let entries = if entries == 0.0 { 65536 } else { entries as usize };
        let mut values = numbers(header, data)?;
        // Entries of 8 bits may be packed two to a word, the first in its low byte.
        if bits == 8.0 && values.len() == entries.div_ceil(2) && entries > 1 {
            values = values.iter().flat_map(|v| [f64::from(*v as u16 & 0xff), f64::from(*v as u16 >> 8)]).collect();
        }
        values.truncate(entries);
        (values.len() == entries && first >= 0.0).then_some((first as u32, values))
    };
    let red = table(tags::RED_PALETTE_COLOR_LOOKUP_TABLE_DESCRIPTOR, tags::RED_PALETTE_COLOR_LOOKUP_TABLE_DATA);
    let green = table(tags::GREEN_PALETTE_COLOR_LOOKUP_TABLE_DESCRIPTOR, tags::GREEN_PALETTE_COLOR_LOOKUP_TABLE_DATA);
    let blue = table(tags::BLUE_PALETTE_COLOR_LOOKUP_TABLE_DESCRIPTOR, tags::BLUE_PALETTE_COLOR_LOOKUP_TABLE_DATA);
    let (Some((first, red)), Some((_, green)), Some((_, blue))) = (red, green, blue) else { return 0 };
    let luminance = red.iter().zip(&green).zip(&blue).map(|((r, g), b)| 0.299 * r + 0.587 * g + 0.114 * b);
    let darkest = luminance.enumerate().min_by(|a, b| a.1.total_cmp(&b.1)).map_or(0, |(i, _)| i as u32);
    first + darkest
}
