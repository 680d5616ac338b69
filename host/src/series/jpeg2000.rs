//! JPEG 2000 and High-Throughput JPEG 2000 frames, decoded by OpenJPEG's Rust port.

use std::panic::{AssertUnwindSafe, catch_unwind};

use jpeg2k::{DecodeParameters, Image};

use super::record::Fault;

/// A decoded frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Bits of a sample.
    pub precision: u32,
    /// The codestream says that its samples are signed (the DICOM header may say otherwise).
    pub signed: bool,
    /// Samples, row by row.
    pub samples: Vec<i32>,
}

/// What the SIZ segment of a codestream says.
struct Size {
    columns: u32,
    rows: u32,
    components: u16,
    precision: u32,
    signed: bool,
}

fn damaged(what: impl std::fmt::Display) -> Fault {
    Fault::new("jpeg-2000", format!("the JPEG 2000 image {what}"))
}

/// Decodes one frame. The codestream's size is compared before the decoder allocates anything.
///
/// # Errors
/// `jpeg-2000` for a damaged or cut-off stream, a size other than `rows` x `columns`, or several components.
pub fn decode(stream: &[u8], rows: usize, columns: usize) -> Result<Frame, Fault> {
    let planes = decode_planes(stream, rows, columns, 1)?;
    let samples = planes.samples.into_iter().next().ok_or_else(|| damaged("has no component"))?;
    Ok(Frame { precision: planes.precision, signed: planes.signed, samples })
}

/// A decoded frame of several components.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planes {
    /// Bits of a sample.
    pub precision: u32,
    /// The codestream says that its samples are signed.
    pub signed: bool,
    /// Samples of each component, row by row, after the codestream's own colour transform was undone.
    pub samples: Vec<Vec<i32>>,
}

/// Decodes one frame of `components` components of one size.
///
/// # Errors
/// `jpeg-2000` for a damaged or cut-off stream, a size other than `rows` x `columns`, another number of components, or
/// components of different size.
pub fn decode_planes(stream: &[u8], rows: usize, columns: usize, components: usize) -> Result<Planes, Fault> {
    let codestream = codestream(stream)?;
    let size = size(codestream)?;
    if (size.rows as usize, size.columns as usize) != (rows, columns) {
        return Err(damaged(format_args!("has {} x {} samples, expected {rows} x {columns}", size.rows, size.columns)));
    }
    if usize::from(size.components) != components {
        return Err(damaged(format_args!("has {} components, expected {components}", size.components)));
    }
    if !(1..=31).contains(&size.precision) {
        return Err(damaged(format_args!("has {} bits a sample", size.precision)));
    }
    let decoded = catch_unwind(AssertUnwindSafe(|| {
        let image = Image::from_bytes_with(codestream, DecodeParameters::new().strict(true)).map_err(|_| ())?;
        let mut samples = Vec::with_capacity(components);
        for component in image.components() {
            let right_size = (component.height() as usize, component.width() as usize) == (rows, columns);
            let alike = component.precision() == size.precision && component.is_signed() == size.signed;
            if !right_size || !alike || component.data().len() != rows * columns {
                return Err(());
            }
            samples.push(component.data().to_vec());
        }
        if samples.len() == components { Ok(samples) } else { Err(()) }
    }));
    match decoded {
        Ok(Ok(samples)) => Ok(Planes { precision: size.precision, signed: size.signed, samples }),
        _ => Err(damaged("is damaged or cut off")),
    }
}

/// The codestream itself, where it is wrapped in the boxes of a JP2 file (which DICOM does not allow, but occurs).
fn codestream(stream: &[u8]) -> Result<&[u8], Fault> {
    let mut at = 0usize;
    if stream.starts_with(&[0xFF, 0x4F]) {
        return Ok(stream);
    }
    while let Some([l0, l1, l2, l3, kind @ ..]) = stream.get(at..at + 8) {
        let length = u32::from_be_bytes([*l0, *l1, *l2, *l3]) as usize;
        let body = stream.get(at + 8..).unwrap_or(&[]);
        if kind == b"jp2c" {
            return Ok(body);
        }
        at = match length {
            8.. => at.saturating_add(length),
            _ => break,
        };
    }
    Err(damaged("has no codestream"))
}

fn size(codestream: &[u8]) -> Result<Size, Fault> {
    let cut = || damaged("is cut off in its headers");
    let u32_at =
        |at: usize| codestream.get(at..at + 4).and_then(|b| b.try_into().ok()).map(u32::from_be_bytes).ok_or_else(cut);
    let u16_at =
        |at: usize| codestream.get(at..at + 2).and_then(|b| b.try_into().ok()).map(u16::from_be_bytes).ok_or_else(cut);
    if u32_at(0)? != 0xFF4F_FF51 {
        return Err(damaged("does not begin with its size"));
    }
    // SOC 2, SIZ 2, Lsiz 2, Rsiz 2, then Xsiz, Ysiz, XOsiz, YOsiz, four of the tiles, Csiz, Ssiz (A.5.1).
    let (x, y, x0, y0) = (u32_at(8)?, u32_at(12)?, u32_at(16)?, u32_at(20)?);
    let depth = *codestream.get(42).ok_or_else(cut)?;
    Ok(Size {
        columns: x.saturating_sub(x0),
        rows: y.saturating_sub(y0),
        components: u16_at(40)?,
        precision: u32::from(depth & 0x7f) + 1,
        signed: depth & 0x80 != 0,
    })
}
