//! A JPEG-LS decoder (ISO/IEC 14495-1, ITU-T T.87): one component, lossless and near-lossless, 2 to 16 bits.
//!
//! The steps and names follow Annex A of the standard. Safe code throughout: a hostile stream gives an error or wrong
//! samples, never more samples than the caller expects.

mod scan;

use self::scan::Scan;
use super::record::Fault;

/// A decoded image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Bits of a sample, 2 to 16.
    pub precision: u8,
    /// Samples, row by row.
    pub samples: Vec<u16>,
}

/// Thresholds and reset value (preset parameters, C.2.4.1.1).
#[derive(Debug, Clone, Copy)]
struct Preset {
    maxval: i32,
    t1: i32,
    t2: i32,
    t3: i32,
    reset: i32,
}

impl Preset {
    /// The defaults of C.2.4.1.1.1.
    fn standard(maxval: i32, near: i32) -> Self {
        let clamp = |i: i32, j: i32| if i > maxval || i < j { j } else { i };
        let (t1, t2, t3);
        if maxval >= 128 {
            let factor = (maxval.min(4095) + 128) >> 8;
            t1 = clamp(factor + 2 + 3 * near, near + 1);
            t2 = clamp(factor * 4 + 3 + 5 * near, t1);
            t3 = clamp(factor * 17 + 4 + 7 * near, t2);
        } else {
            let factor = 256 / (maxval + 1);
            t1 = clamp((3 / factor + 3 * near).max(2), near + 1);
            t2 = clamp((7 / factor + 5 * near).max(3), t1);
            t3 = clamp((21 / factor + 7 * near).max(4), t2);
        }
        Self { maxval, t1, t2, t3, reset: 64 }
    }
}

fn damaged(what: impl std::fmt::Display) -> Fault {
    Fault::new("jpeg-ls", format!("the JPEG-LS image {what}"))
}

/// Decodes a whole JPEG-LS stream of one component.
///
/// # Errors
/// `jpeg-ls` for a damaged or cut-off stream, a size other than `rows` x `columns`, more than one component, or an
/// option outside the baseline (point transform, mapping table, sub-sampling).
pub fn decode(stream: &[u8], rows: usize, columns: usize) -> Result<Image, Fault> {
    let mut markers = Markers { stream, at: 0 };
    if markers.marker()? != 0xD8 {
        return Err(damaged("has no start marker"));
    }
    let mut precision = None;
    let mut preset_bytes: Option<[u16; 5]> = None;
    let mut restart = 0usize;
    loop {
        let marker = markers.marker()?;
        match marker {
            0xF7 => {
                let s = markers.segment()?;
                let [p, y1, y0, x1, x0, components, _, sampling, ..] = *s else {
                    return Err(damaged("has a short frame header"));
                };
                let (y, x) = (u16::from_be_bytes([y1, y0]), u16::from_be_bytes([x1, x0]));
                if components != 1 || sampling != 0x11 {
                    return Err(damaged(format_args!("has {components} components, expected 1 without sub-sampling")));
                }
                if (usize::from(y), usize::from(x)) != (rows, columns) {
                    return Err(damaged(format_args!("has {y} x {x} samples, expected {rows} x {columns}")));
                }
                if !(2..=16).contains(&p) {
                    return Err(damaged(format_args!("has {p} bits a sample, expected 2 to 16")));
                }
                precision = Some(p);
            }
            0xF8 => {
                let s = markers.segment()?;
                match *s {
                    [1, ref values @ ..] if values.len() == 10 => {
                        let mut read = [0u16; 5];
                        for (value, pair) in read.iter_mut().zip(values.chunks_exact(2)) {
                            *value = u16::from_be_bytes([pair[0], pair[1]]);
                        }
                        preset_bytes = Some(read);
                    }
                    [id, ..] => return Err(damaged(format_args!("has a parameter segment of kind {id}"))),
                    [] => return Err(damaged("has an empty parameter segment")),
                }
            }
            0xDD => {
                restart = markers.segment()?.iter().fold(0usize, |n, &b| n.saturating_mul(256) + usize::from(b));
            }
            0xDA => {
                let Some(precision) = precision else { return Err(damaged("has a scan before its frame header")) };
                let s = markers.segment()?;
                let [components, _, mapping, near, interleave, transform] = *s else {
                    return Err(damaged("has a scan header of the wrong length"));
                };
                if components != 1 || mapping != 0 || interleave != 0 || transform & 0x0f != 0 {
                    return Err(damaged("uses an option that is not supported (several components, table, transform)"));
                }
                let preset = preset(precision, i32::from(near), preset_bytes)?;
                let scan = markers.rest();
                let samples = Scan::new(scan, preset, i32::from(near), rows, columns, restart)?.decode()?;
                return Ok(Image { precision, samples });
            }
            0xD9 => return Err(damaged("ends before its scan")),
            0xE0..=0xEF | 0xFE => {
                markers.segment()?;
            }
            other => return Err(damaged(format_args!("has an unexpected marker FF{other:02X}"))),
        }
    }
}

fn preset(precision: u8, near: i32, given: Option<[u16; 5]>) -> Result<Preset, Fault> {
    let most = (1i32 << precision) - 1;
    let given = given.unwrap_or_default().map(i32::from);
    let maxval = if given[0] == 0 { most } else { given[0] };
    if maxval > most || maxval < 1 {
        return Err(damaged(format_args!("claims a largest sample of {maxval} at {precision} bits")));
    }
    if near > 255.min(maxval / 2) {
        return Err(damaged(format_args!("claims an error bound of {near}, which is too large")));
    }
    let mut preset = Preset::standard(maxval, near);
    for (value, given) in [(&mut preset.t1, given[1]), (&mut preset.t2, given[2]), (&mut preset.t3, given[3])] {
        if given != 0 {
            *value = given;
        }
    }
    if given[4] != 0 {
        preset.reset = given[4];
    }
    let ordered = near < preset.t1 && preset.t1 <= preset.t2 && preset.t2 <= preset.t3 && preset.t3 <= maxval;
    if !ordered || !(3..=255.max(maxval)).contains(&preset.reset) {
        return Err(damaged("has impossible thresholds"));
    }
    Ok(preset)
}

struct Markers<'a> {
    stream: &'a [u8],
    at: usize,
}

impl<'a> Markers<'a> {
    fn byte(&mut self) -> Result<u8, Fault> {
        let byte = self.stream.get(self.at).copied().ok_or_else(|| damaged("is cut off in its headers"))?;
        self.at += 1;
        Ok(byte)
    }

    fn marker(&mut self) -> Result<u8, Fault> {
        if self.byte()? != 0xFF {
            return Err(damaged("has a byte where a marker belongs"));
        }
        loop {
            match self.byte()? {
                0xFF => {}
                marker => return Ok(marker),
            }
        }
    }

    fn segment(&mut self) -> Result<&'a [u8], Fault> {
        let length = usize::from(u16::from_be_bytes([self.byte()?, self.byte()?]));
        let body = self.stream.get(self.at..self.at + length.saturating_sub(2));
        let body = body.filter(|_| length >= 2).ok_or_else(|| damaged("is cut off in its headers"))?;
        self.at += body.len();
        Ok(body)
    }

    fn rest(&self) -> &'a [u8] {
        self.stream.get(self.at..).unwrap_or(&[])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of Annex H.3: 4 x 4 samples, 8 bits, lossless.
    const ANNEX_H: [u8; 46] = [
        0xFF, 0xD8, 0xFF, 0xF7, 0x00, 0x0B, 0x08, 0x00, 0x04, 0x00, 0x04, 0x01, 0x01, 0x11, 0x00, 0xFF, 0xDA, 0x00,
        0x08, 0x01, 0x01, 0x00, 0x00, 0x00, 0x00, 0xC0, 0x00, 0x00, 0x6C, 0x80, 0x20, 0x8E, 0x01, 0xC0, 0x00, 0x00,
        0x57, 0x40, 0x00, 0x00, 0x6E, 0xE6, 0x00, 0x00, 0x01, 0xBC,
    ];
    const ANNEX_H_SAMPLES: [u16; 16] = [0, 0, 90, 74, 68, 50, 43, 205, 64, 145, 145, 145, 100, 145, 145, 145];

    fn annex_h() -> Vec<u8> {
        let mut stream = ANNEX_H.to_vec();
        stream.extend([0x18, 0x00, 0x00, 0x05, 0xD8, 0x00, 0x00, 0x91, 0x60, 0xFF, 0xD9]);
        stream
    }

    #[test]
    fn the_example_of_the_standard() {
        let image = decode(&annex_h(), 4, 4).unwrap();
        assert_eq!(image.precision, 8);
        assert_eq!(image.samples, ANNEX_H_SAMPLES);
    }

    #[test]
    fn a_cut_off_stream_is_an_error_and_a_changed_one_no_panic() {
        let stream = annex_h();
        for length in 0..stream.len() - 3 {
            assert!(decode(&stream[..length], 4, 4).is_err(), "{length} bytes were accepted");
        }
        for at in 0..stream.len() {
            for bit in 0..8 {
                let mut changed = stream.clone();
                changed[at] ^= 1 << bit;
                let _ = decode(&changed, 4, 4);
            }
        }
        assert!(decode(&stream, 4, 5).is_err());
    }

    #[test]
    fn default_thresholds_of_the_standard() {
        for (maxval, near, expected) in [(255, 0, (3, 7, 21)), (255, 3, (12, 22, 42)), (4095, 0, (18, 67, 276))] {
            let p = Preset::standard(maxval, near);
            assert_eq!((p.t1, p.t2, p.t3), expected);
        }
    }
}
