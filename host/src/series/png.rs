//! Grey pictures for people: one slice, or several side by side, through a display window.

use super::record::Fault;

/// Largest picture, pixels.
const MAX_PIXELS: usize = 256 << 20;
/// Grey of the gaps in a montage.
const GAP_GREY: u8 = 64;

/// Physical values that become black and white; between them grey rises linearly.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DisplayWindow {
    /// This value and everything below is black, in the image's unit (HU for CT).
    pub black: f32,
    /// This value and everything above is white. Below `black` for an inverted picture.
    pub white: f32,
}

impl DisplayWindow {
    /// A window by centre and width, as DICOM and radiologists name it.
    pub fn centred(centre: f32, width: f32) -> Self {
        Self { black: centre - width / 2.0, white: centre + width / 2.0 }
    }

    /// Grey 0 to 255 of a value, rounded to the nearest.
    pub fn grey(&self, value: f32) -> u8 {
        let part = (f64::from(value) - f64::from(self.black)) / (f64::from(self.white) - f64::from(self.black));
        (part.clamp(0.0, 1.0) * 255.0).round() as u8
    }

    fn check(&self) -> Result<(), Fault> {
        if self.black.is_finite() && self.white.is_finite() && self.black != self.white {
            return Ok(());
        }
        Err(Fault::new(
            "display-window",
            format!("black and white must be two different finite values, found {} and {}", self.black, self.white),
        ))
    }
}

/// A slice `[Y, X]` as the bytes of an 8-bit grey PNG.
///
/// # Errors
/// `slice-size`, `display-window`, `not-finite`.
pub fn encode_slice(values: &[f32], rows: usize, columns: usize, window: DisplayWindow) -> Result<Vec<u8>, Fault> {
    montage(&[values], rows, columns, 1, window)
}

/// Slices `[Y, X]` of one size side by side, `across` in a row from the top left, with a gap of one pixel between
/// them, as the bytes of an 8-bit grey PNG.
///
/// # Errors
/// `slice-size`, `display-window`, `not-finite`.
pub fn montage(
    slices: &[&[f32]],
    rows: usize,
    columns: usize,
    across: usize,
    window: DisplayWindow,
) -> Result<Vec<u8>, Fault> {
    window.check()?;
    let bad = |text: String| Fault::new("slice-size", text);
    if slices.is_empty() || rows == 0 || columns == 0 || across == 0 {
        return Err(bad(format!("nothing to draw: {} slices of {rows} x {columns} pixels", slices.len())));
    }
    let across = across.min(slices.len());
    let down = slices.len().div_ceil(across);
    let length = |n: usize, pixels: usize| n.checked_mul(pixels.checked_add(1)?).map(|l| l - 1);
    let size = length(across, columns).zip(length(down, rows));
    let (width, height) =
        size.filter(|&(w, h)| w.checked_mul(h).is_some_and(|n| n <= MAX_PIXELS)).ok_or_else(|| {
            bad(format!("a picture of {} slices of {rows} x {columns} pixels is too large", slices.len()))
        })?;
    let mut picture = vec![GAP_GREY; width * height];
    for (n, slice) in slices.iter().enumerate() {
        if slice.len() != rows * columns {
            return Err(bad(format!("slice {n}: expected {rows} x {columns} pixels, found {}", slice.len())));
        }
        if let Some(i) = slice.iter().position(|v| v.is_nan()) {
            let (row, column) = (i / columns, i % columns);
            return Err(Fault::new("not-finite", format!("slice {n}, row {row}, column {column}: not a number")));
        }
        let corner = (n / across) * (rows + 1) * width + (n % across) * (columns + 1);
        for (y, row) in slice.chunks_exact(columns).enumerate() {
            let start = corner + y * width;
            for (pixel, &value) in picture.iter_mut().skip(start).zip(row) {
                *pixel = window.grey(value);
            }
        }
    }
    let failed = |_| bad("the picture cannot be encoded".to_owned());
    let side = |n: usize| u32::try_from(n).map_err(|_| bad(format!("a picture {n} pixels long is too large")));
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, side(width)?, side(height)?);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.set_depth(png::BitDepth::Eight);
    let mut writer = encoder.write_header().map_err(failed)?;
    writer.write_image_data(&picture).map_err(failed)?;
    writer.finish().map_err(failed)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(bytes: &[u8]) -> (u32, u32, Vec<u8>) {
        let mut reader = png::Decoder::new(std::io::Cursor::new(bytes)).read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut pixels).unwrap();
        assert_eq!((info.color_type, info.bit_depth), (png::ColorType::Grayscale, png::BitDepth::Eight));
        (info.width, info.height, pixels)
    }

    #[test]
    fn window_is_linear_and_clips() {
        let window = DisplayWindow::centred(50.0, 400.0);
        let values = [-1000.0, -150.0, 50.0, 250.0, 3000.0, f32::NEG_INFINITY];
        let (w, h, pixels) = decode(&encode_slice(&values, 2, 3, window).unwrap());
        assert_eq!((w, h), (3, 2));
        assert_eq!(pixels, [0, 0, 128, 255, 255, 0]);
        let inverted = DisplayWindow { black: 250.0, white: -150.0 };
        assert_eq!(inverted.grey(-150.0), 255);
        assert_eq!(inverted.grey(250.0), 0);
    }

    #[test]
    fn montage_places_slices() {
        let slices = [[0.0; 2], [1.0; 2], [0.5; 2]];
        let slices: Vec<&[f32]> = slices.iter().map(|s| s.as_slice()).collect();
        let window = DisplayWindow { black: 0.0, white: 1.0 };
        let (w, h, pixels) = decode(&montage(&slices, 1, 2, 2, window).unwrap());
        assert_eq!((w, h), (5, 3));
        let g = GAP_GREY;
        assert_eq!(pixels, [0, 0, g, 255, 255, g, g, g, g, g, 128, 128, g, g, g]);
    }

    #[test]
    fn bad_pictures_are_named() {
        let window = DisplayWindow { black: 0.0, white: 1.0 };
        let code = |r: Result<Vec<u8>, Fault>| r.unwrap_err().code;
        assert_eq!(code(encode_slice(&[0.0; 3], 2, 2, window)), "slice-size");
        assert_eq!(code(encode_slice(&[], 0, 0, window)), "slice-size");
        assert_eq!(code(encode_slice(&[0.0], usize::MAX, 1, window)), "slice-size");
        assert_eq!(code(encode_slice(&[f32::NAN], 1, 1, window)), "not-finite");
        assert_eq!(code(encode_slice(&[0.0], 1, 1, DisplayWindow { black: 1.0, white: 1.0 })), "display-window");
    }
}
