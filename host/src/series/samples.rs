//! [`Samples`]: how many bytes of uncompressed pixel data are samples, by what a header says; what stands behind them is none.

use dicom_core::Tag;
use dicom_dictionary_std::tags;
use dicom_object::InMemDicomObject;

use super::header::{integer, text};
use super::record::Fault;

/// What a header says of its samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Samples {
    /// Pixels of all frames; `None` where the header does not say.
    pixels: Option<usize>,
    /// Bits of a pixel, all samples together.
    bits: Option<usize>,
    /// The same where colours are not stored for every other pixel, as the header says that they are.
    full_bits: Option<usize>,
}

impl Samples {
    /// Reads a header: Rows, Columns, Number of Frames, Samples per Pixel, Bits Allocated, Photometric Interpretation.
    pub fn of(header: &InMemDicomObject) -> Samples {
        let count = |tag| integer(header, tag).and_then(|n| usize::try_from(n).ok()).filter(|&n| n > 0);
        // One is meant where these two are not there, not where they make no sense.
        let or_one = |tag| if header.get(tag).is_some() { count(tag) } else { Some(1) };
        let product = |factors: &[Option<usize>]| factors.iter().try_fold(1usize, |all, n| all.checked_mul((*n)?));
        let pixels = product(&[count(tags::ROWS), count(tags::COLUMNS), or_one(tags::NUMBER_OF_FRAMES)]);
        let (samples, allocated) = (or_one(tags::SAMPLES_PER_PIXEL), count(tags::BITS_ALLOCATED));
        let halved = text(header, tags::PHOTOMETRIC_INTERPRETATION).is_some_and(|p| p.ends_with("_422"));
        // Two pixels share their colours (PS3.3 C.7.6.3.1.2).
        let stored = if halved { samples.map(|n| n.min(2)) } else { samples };
        Samples { pixels, bits: product(&[stored, allocated]), full_bits: product(&[samples, allocated]) }
    }

    /// How many of the `found` bytes of a pixel data element are samples: they follow one another without gaps (PS3.5 8.1.1).
    ///
    /// # Errors
    /// `pixel-module` where the header does not say it, `pixel-length` where there are fewer.
    pub fn bytes(self, tag: Tag, found: usize) -> Result<usize, Fault> {
        let bits = match tag {
            tags::FLOAT_PIXEL_DATA => [Some(32), None],
            tags::DOUBLE_FLOAT_PIXEL_DATA => [Some(64), None],
            _ => [self.full_bits, self.bits],
        };
        let sizes = bits.map(|bits| Some(self.pixels?.checked_mul(bits?)?.div_ceil(8)));
        let least = sizes.into_iter().flatten().min().ok_or_else(|| {
            let text = "the header does not say how many bytes of the pixel data are pixels, so what else they hold is not known";
            Fault::new("pixel-module", text)
        })?;
        let fits = sizes.into_iter().flatten().find(|&size| size <= found);
        fits.ok_or_else(|| Fault::new("pixel-length", format!("the pixel data have {found} bytes, expected {least}")))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use dicom_core::{DataElement, PrimitiveValue, VR};

    /// What an image of two rows, with so many columns of 16 bits, has.
    pub fn two_rows(columns: usize) -> Samples {
        Samples { pixels: Some(2 * columns), bits: Some(16), full_bits: Some(16) }
    }

    fn of(numbers: &[(Tag, u16)], photometric: &str, frames: &str) -> Samples {
        let mut header = InMemDicomObject::new_empty();
        for (tag, n) in numbers {
            header.put(DataElement::new(*tag, VR::US, PrimitiveValue::from(*n)));
        }
        header.put(DataElement::new(tags::PHOTOMETRIC_INTERPRETATION, VR::CS, PrimitiveValue::from(photometric)));
        if !frames.is_empty() {
            header.put(DataElement::new(tags::NUMBER_OF_FRAMES, VR::IS, PrimitiveValue::from(frames)));
        }
        Samples::of(&header)
    }

    #[test]
    fn sizes_follow_from_the_header() {
        let (rows, columns, samples, bits) = (tags::ROWS, tags::COLUMNS, tags::SAMPLES_PER_PIXEL, tags::BITS_ALLOCATED);
        let bytes = |s: Samples, found| s.bytes(tags::PIXEL_DATA, found).map_err(|f| f.code);
        let grey = of(&[(rows, 3), (columns, 5), (samples, 1), (bits, 16)], "MONOCHROME2", "");
        assert_eq!((bytes(grey, 30), bytes(grey, 99)), (Ok(30), Ok(30)));
        assert_eq!(bytes(grey, 29), Err("pixel-length".into()));
        assert_eq!(grey.bytes(tags::FLOAT_PIXEL_DATA, 60).ok(), Some(60));
        assert_eq!(grey.bytes(tags::DOUBLE_FLOAT_PIXEL_DATA, 130).ok(), Some(120));
        let packed = of(&[(rows, 3), (columns, 5), (samples, 1), (bits, 1)], "MONOCHROME2", "3");
        assert_eq!(bytes(packed, 100), Ok(6));
        let colour = of(&[(rows, 2), (columns, 4), (samples, 3), (bits, 8)], "YBR_FULL_422", "2");
        assert_eq!((bytes(colour, 32), bytes(colour, 47), bytes(colour, 50)), (Ok(32), Ok(32), Ok(48)));
        for unknown in [
            of(&[(columns, 5), (samples, 1), (bits, 16)], "MONOCHROME2", ""),
            of(&[(rows, 3), (columns, 5), (samples, 1)], "MONOCHROME2", ""),
            of(&[(rows, 3), (columns, 5), (samples, 0), (bits, 16)], "MONOCHROME2", ""),
            of(&[(rows, 3), (columns, 5), (samples, 1), (bits, 16)], "MONOCHROME2", "0"),
        ] {
            assert_eq!(bytes(unknown, 1000), Err("pixel-module".into()));
        }
    }
}
