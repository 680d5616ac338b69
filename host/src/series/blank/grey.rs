//! One frame of uncompressed pixel data as grey values, for looking at it.

use super::{BlankDescription, Photometric, darkest};

/// Grey values of a frame, row by row: stored values, the luminance of colour, the index of a palette. `description` and
/// `bytes` are those that [`decode`](super::decode) gave. Empty where the frame does not exist.
pub fn grey(description: &BlankDescription, bytes: &[u8], frame: usize) -> Vec<i32> {
    let d = description;
    if frame >= d.frames {
        return Vec::new();
    }
    if d.bits_allocated == 1 {
        let bits = (frame * d.pixels()..(frame + 1) * d.pixels()).map(|i| bytes.get(i / 8).map(|b| b >> (i % 8) & 1));
        return bits.map_while(|b| b.map(i32::from)).collect();
    }
    let size = d.frame_bytes();
    let Some(bytes) = bytes.get(frame * size..(frame + 1) * size) else { return Vec::new() };
    let narrow = |value: i64| value.clamp(i64::from(i32::MIN), i64::from(i32::MAX)) as i32;
    let value = |cell: &[u8]| narrow(darkest::value(d, cell));
    let unit = d.sample_bytes();
    let luminance =
        |r: i32, g: i32, b: i32| narrow((i64::from(r) * 299 + i64::from(g) * 587 + i64::from(b) * 114) / 1000);
    match (d.photometric, d.planar) {
        (Photometric::Monochrome1 | Photometric::Monochrome2 | Photometric::PaletteColor, _) => {
            if unit == 2 && d.bits_stored == 16 {
                let cells = bytes.chunks_exact(2).map(|b| u16::from_le_bytes([b[0], b[1]]));
                return if d.signed {
                    cells.map(|v| i32::from(v as i16)).collect()
                } else {
                    cells.map(i32::from).collect()
                };
            }
            bytes.chunks_exact(unit).map(value).collect()
        }
        (Photometric::YbrFull422, _) => {
            bytes.chunks_exact(4 * unit).flat_map(|pair| pair.chunks_exact(unit).take(2)).map(value).collect()
        }
        (Photometric::YbrFull, true) => bytes.chunks_exact(unit).take(d.pixels()).map(value).collect(),
        (Photometric::YbrFull, false) => {
            bytes.chunks_exact(3 * unit).map(|p| value(p.get(..unit).unwrap_or(p))).collect()
        }
        (_, false) => {
            let pixels = bytes.chunks_exact(3 * unit);
            pixels
                .map(|pixel| {
                    let mut samples = pixel.chunks_exact(unit).map(value);
                    let mut next = || samples.next().unwrap_or_default();
                    luminance(next(), next(), next())
                })
                .collect()
        }
        (_, true) => {
            let plane = |n: usize| bytes.chunks_exact(unit).skip(n * d.pixels()).take(d.pixels()).map(value);
            plane(0).zip(plane(1)).zip(plane(2)).map(|((r, g), b)| luminance(r, g, b)).collect()
        }
    }
}
