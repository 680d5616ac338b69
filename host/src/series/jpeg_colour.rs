//! JPEG frames of three components (baseline and extended of 8 bits, lossless), their samples as coded: the stream's
//! colour space is told, not converted.

use std::panic::{AssertUnwindSafe, catch_unwind};

use jpeg_decoder::{ColorTransform, Decoder};

use super::jpeg::jpeg_size;
use super::record::Fault;

/// A decoded frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Bits of a sample.
    pub precision: u32,
    /// Samples pixel by pixel, row by row; sub-sampled components are brought to full size.
    pub samples: Vec<u16>,
    /// Whether the stream says that it holds luminance and colour differences (or red, green and blue); `None` where
    /// it says nothing.
    pub luminance: Option<bool>,
}

/// Decodes a frame of three components. Its frame header is compared with `rows` and `columns` first.
///
/// # Errors
/// `jpeg` for a damaged or cut-off frame, another size, another number of components, or lossy JPEG of more than 8 bits.
pub fn decode(bytes: &[u8], rows: usize, columns: usize) -> Result<Image, Fault> {
    let damaged = |what: String| Fault::new("jpeg", format!("the JPEG image {what}"));
    let size = jpeg_size(bytes).ok_or_else(|| damaged("has no frame header".to_owned()))?;
    if (size.rows, size.columns) != (rows, columns) {
        return Err(damaged(format!("has {} x {} samples, expected {rows} x {columns}", size.rows, size.columns)));
    }
    if size.components != 3 {
        return Err(damaged(format!("has {} components, expected 3", size.components)));
    }
    if size.precision < 8 || (!size.lossless && size.precision != 8) {
        return Err(damaged(format!("has {} bits a sample, expected 8 (or more, lossless)", size.precision)));
    }
    let wide = size.precision > 8;
    let decoded = catch_unwind(AssertUnwindSafe(|| {
        let mut decoder = Decoder::new(bytes);
        // Red, green and blue are passed on as they are: nothing is converted, whatever the components mean.
        decoder.set_color_transform(ColorTransform::RGB);
        decoder.decode().map_err(|_| ())
    }));
    let Ok(Ok(decoded)) = decoded else { return Err(damaged("is damaged or cut off".to_owned())) };
    if decoded.len() != rows * columns * 3 * if wide { 2 } else { 1 } {
        return Err(damaged("does not have as many samples as it says".to_owned()));
    }
    let samples = if wide {
        decoded.chunks_exact(2).map(|b| u16::from_ne_bytes([b[0], b[1]])).collect()
    } else {
        decoded.iter().map(|&b| u16::from(b)).collect()
    };
    Ok(Image { precision: size.precision, samples, luminance: luminance(bytes) })
}

/// What the markers before the first scan say of the colour space: Adobe's transform flag first, then a JFIF mark, the
/// components' letters, and sub-sampling, which only colour differences bear.
fn luminance(bytes: &[u8]) -> Option<bool> {
    let mut at = 2;
    let (mut adobe, mut jfif, mut letters, mut sampled) = (None, false, false, false);
    while let &[0xFF, marker] = bytes.get(at..at + 2)? {
        if marker == 0xFF {
            at += 1;
            continue;
        }
        let length = usize::from(u16::from_be_bytes([*bytes.get(at + 2)?, *bytes.get(at + 3)?]));
        let body = bytes.get(at + 4..at + 2 + length.max(2))?;
        match (marker, body) {
            (0xEE, body) if body.starts_with(b"Adobe") => adobe = body.get(11).copied(),
            (0xE0, body) if body.starts_with(b"JFIF") => jfif = true,
            (0xC0..=0xC3, &[_, _, _, _, _, 3, a, sa, _, b, sb, _, c, sc, _, ..]) => {
                letters = [a, b, c].map(|id| id.to_ascii_uppercase()) == *b"RGB";
                sampled = sa != sb && sb == sc;
            }
            (0xDA, _) => break,
            _ => {}
        }
        at += 2 + length.max(2);
    }
    match adobe {
        Some(0) => Some(false),
        Some(1) => Some(true),
        _ if letters => Some(false),
        _ if jfif || sampled => Some(true),
        _ => None,
    }
}
