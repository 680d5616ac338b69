//! JPEG frames of one component (baseline, extended of 8 bits, lossless), decoded by dicom-rs.

use dicom_core::{DataElement, PrimitiveValue, VR};
use dicom_dictionary_std::{tags, uids};
use dicom_object::{FileMetaTableBuilder, InMemDicomObject};
use dicom_pixeldata::PixelDecoder;

use super::record::Fault;

/// A decoded frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Bits of a sample.
    pub precision: u32,
    /// Samples without sign, row by row.
    pub codes: Vec<u16>,
}

/// Decodes a frame out of an object that holds nothing else. Its frame header is compared with `rows` and `columns`
/// first.
///
/// # Errors
/// `jpeg` for a damaged or cut-off frame, another size, or several components; `transfer-syntax` for lossy JPEG of
/// more than 8 bits.
pub fn decode(bytes: &[u8], transfer_syntax: &str, rows: usize, columns: usize) -> Result<Image, Fault> {
    let damaged = |what: String| Fault::new("jpeg", format!("the JPEG image {what}"));
    let size = jpeg_size(bytes).ok_or_else(|| damaged("has no frame header".to_owned()))?;
    if (size.rows, size.columns) != (rows, columns) {
        return Err(damaged(format!("has {} x {} samples, expected {} x {}", size.rows, size.columns, rows, columns)));
    }
    if size.components != 1 {
        return Err(damaged(format!("has {} components, expected 1", size.components)));
    }
    if !size.lossless && size.precision != 8 {
        return Err(Fault::new(
            "transfer-syntax",
            format!("lossy JPEG of {} bits is not supported (8 bits and lossless JPEG are)", size.precision),
        ));
    }
    let wide = size.precision > 8;
    let bits: u16 = if wide { 16 } else { 8 };
    let number = |tag, value: u16| DataElement::new(tag, VR::US, PrimitiveValue::from(value));
    let object = InMemDicomObject::from_element_iter([
        number(tags::SAMPLES_PER_PIXEL, 1),
        DataElement::new(tags::PHOTOMETRIC_INTERPRETATION, VR::CS, "MONOCHROME2"),
        number(tags::ROWS, rows as u16),
        number(tags::COLUMNS, columns as u16),
        number(tags::BITS_ALLOCATED, bits),
        number(tags::BITS_STORED, bits),
        number(tags::HIGH_BIT, bits - 1),
        number(tags::PIXEL_REPRESENTATION, 0),
        DataElement::new(
            tags::PIXEL_DATA,
            VR::OB,
            dicom_core::value::PixelFragmentSequence::new_fragments(vec![bytes.to_vec()]),
        ),
    ]);
    let meta = FileMetaTableBuilder::new()
        .transfer_syntax(transfer_syntax)
        .media_storage_sop_class_uid(uids::CT_IMAGE_STORAGE)
        .media_storage_sop_instance_uid("2.25.0");
    let object = object.with_meta(meta).map_err(|_| damaged("cannot be handed to its decoder".to_owned()))?;
    let decoded = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        object.decode_pixel_data().map(|decoded| decoded.data().to_vec())
    }));
    let Ok(Ok(decoded)) = decoded else { return Err(damaged("is damaged or cut off".to_owned())) };
    if decoded.len() != rows * columns * usize::from(bits / 8) {
        return Err(damaged("does not have as many samples as it says".to_owned()));
    }
    let codes = if wide {
        decoded.chunks_exact(2).map(|b| u16::from_le_bytes([b[0], b[1]])).collect()
    } else {
        decoded.iter().map(|&b| u16::from(b)).collect()
    };
    Ok(Image { precision: size.precision, codes })
}

/// What a frame header says.
pub(super) struct JpegSize {
    pub(super) rows: usize,
    pub(super) columns: usize,
    pub(super) components: u8,
    pub(super) precision: u32,
    pub(super) lossless: bool,
}

/// The frame header (SOF) of a JPEG stream.
pub(super) fn jpeg_size(bytes: &[u8]) -> Option<JpegSize> {
    let mut at = 2;
    if bytes.get(..2)? != [0xFF, 0xD8] {
        return None;
    }
    loop {
        if *bytes.get(at)? != 0xFF {
            return None;
        }
        let marker = *bytes.get(at + 1)?;
        if marker == 0xFF {
            at += 1;
            continue;
        }
        let length = usize::from(u16::from_be_bytes([*bytes.get(at + 2)?, *bytes.get(at + 3)?]));
        if matches!(marker, 0xC0..=0xC3 | 0xC5..=0xC7 | 0xC9..=0xCB | 0xCD..=0xCF) {
            let s = bytes.get(at + 4..at + 10)?;
            return Some(JpegSize {
                precision: u32::from(s[0]),
                rows: usize::from(u16::from_be_bytes([s[1], s[2]])),
                columns: usize::from(u16::from_be_bytes([s[3], s[4]])),
                components: s[5],
                lossless: marker == 0xC3,
            });
        }
        if marker == 0xD9 || marker == 0xDA {
            return None;
        }
        at += 2 + length;
    }
}
