//! How one slice stores its pixels: bits, sign, and the line that leads from stored values to physical ones.

use dicom_core::Tag;
use dicom_core::value::PrimitiveValue;
use dicom_dictionary_std::{tags, uids};
use dicom_object::InMemDicomObject;

use super::text_of;
use crate::series::record::Fault;

/// The pixel module of a slice, checked: one monochrome frame of 8 or 16 bits a sample.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PixelCoding {
    /// Rows, pixels.
    pub rows: usize,
    /// Columns, pixels.
    pub columns: usize,
    /// Bits Allocated: 8 or 16.
    pub bits_allocated: u16,
    /// Bits Stored: 1 to Bits Allocated.
    pub bits_stored: u16,
    /// High Bit: at least Bits Stored - 1.
    pub high_bit: u16,
    /// Pixel Representation 1: two's complement.
    pub signed: bool,
    /// Rescale Slope: finite, not 0; 1 where absent.
    pub slope: f64,
    /// Rescale Intercept: finite; 0 where absent.
    pub intercept: f64,
}

impl PixelCoding {
    /// Reads it from a header.
    ///
    /// # Errors
    /// `photometric`, `frames`, `bits`, `modality-lut`, `rescale`, `precision`, `slice-size`.
    pub fn from_header(header: &InMemDicomObject) -> Result<Self, Fault> {
        let samples = unsigned(header, tags::SAMPLES_PER_PIXEL)?.unwrap_or(1);
        let photometric = text_of(header, tags::PHOTOMETRIC_INTERPRETATION);
        if samples != 1 || !matches!(photometric.as_str(), "MONOCHROME1" | "MONOCHROME2") {
            return Err(Fault::new(
                "photometric",
                format!("expected one MONOCHROME1 or MONOCHROME2 sample a pixel, found {samples} of another kind"),
            ));
        }
        let frames = text_of(header, tags::NUMBER_OF_FRAMES);
        if !matches!(frames.as_str(), "" | "1") {
            return Err(Fault::new("frames", "expected one frame an instance, found a multi-frame header"));
        }
        if header.get(tags::MODALITY_LUT_SEQUENCE).is_some_and(|e| e.items().is_some_and(|i| !i.is_empty())) {
            return Err(Fault::new(
                "modality-lut",
                "the slice has a Modality LUT Sequence: new values cannot be stored through a table",
            ));
        }
        let needed = |tag: Tag, name: &str| {
            unsigned(header, tag)?.ok_or_else(|| Fault::new("bits", format!("the header has no {name}")))
        };
        let (rows, columns) = (needed(tags::ROWS, "Rows")?, needed(tags::COLUMNS, "Columns")?);
        if rows == 0 || columns == 0 {
            return Err(Fault::new("slice-size", format!("a slice of {rows} x {columns} pixels holds nothing")));
        }
        let bits_allocated = needed(tags::BITS_ALLOCATED, "Bits Allocated")?;
        let bits_stored = needed(tags::BITS_STORED, "Bits Stored")?;
        let high_bit = unsigned(header, tags::HIGH_BIT)?.unwrap_or(bits_stored.saturating_sub(1));
        let representation = needed(tags::PIXEL_REPRESENTATION, "Pixel Representation")?;
        let sound = matches!(bits_allocated, 8 | 16)
            && (1..=bits_allocated).contains(&bits_stored)
            && high_bit < bits_allocated
            && high_bit + 1 >= bits_stored
            && representation <= 1;
        if !sound {
            return Err(Fault::new(
                "bits",
                format!(
                    "expected 8 or 16 bits allocated with the stored bits inside them, found allocated \
                     {bits_allocated}, stored {bits_stored}, high bit {high_bit}, representation {representation}"
                ),
            ));
        }
        let slope = decimal(header, tags::RESCALE_SLOPE)?.unwrap_or(1.0);
        let intercept = decimal(header, tags::RESCALE_INTERCEPT)?.unwrap_or(0.0);
        if !slope.is_finite() || slope == 0.0 || !intercept.is_finite() {
            return Err(Fault::new(
                "rescale",
                format!("rescale slope must be finite and not 0, intercept finite; found {slope} and {intercept}"),
            ));
        }
        let signed = representation == 1;
        let (rows, columns) = (usize::from(rows), usize::from(columns));
        let coding = Self { rows, columns, bits_allocated, bits_stored, high_bit, signed, slope, intercept };
        coding.check_precision()?;
        Ok(coding)
    }

    /// Physical values travel as f32. Where that could move an untouched voxel by half a stored step, it might come
    /// back as another one: refused.
    fn check_precision(&self) -> Result<(), Fault> {
        let (lo, hi) = self.stored_range();
        if self.noise_steps(f64::from(lo)).max(self.noise_steps(f64::from(hi))) >= 0.5 {
            return Err(Fault::new(
                "precision",
                format!(
                    "with rescale slope {} and intercept {} neighbouring stored values are not told apart in 32-bit \
                     floating point",
                    self.slope, self.intercept
                ),
            ));
        }
        Ok(())
    }

    /// How far f32 arithmetic (`stored * slope + intercept`, the two constants and both results rounded) can have
    /// moved a stored value, in stored steps: five roundings of at most 2^-24 of a product, the intercept or a sum.
    pub(super) fn noise_steps(&self, stored: f64) -> f64 {
        let (product, intercept) = ((stored * self.slope).abs(), self.intercept.abs());
        2f64.powi(-24) * (3.0 * product + 2.0 * intercept) * (1.0 + 1e-6) / self.slope.abs()
    }

    /// Smallest and largest stored value that Bits Stored can hold.
    pub fn stored_range(&self) -> (i32, i32) {
        let bits = u32::from(self.bits_stored);
        if self.signed { (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) } else { (0, (1 << bits) - 1) }
    }

    /// Physical value of a stored one: `stored * slope + intercept` in f64, rounded once to f32.
    pub fn physical(&self, stored: i32) -> f32 {
        (f64::from(stored) * self.slope + self.intercept) as f32
    }
}

/// The 16 bits of a US or SS element, whichever of the two the header says.
pub(super) fn sample_bits(header: &InMemDicomObject, tag: Tag) -> Option<u16> {
    match header.get(tag)?.value().primitive()? {
        PrimitiveValue::U16(v) => v.first().copied(),
        PrimitiveValue::I16(v) => v.first().map(|&v| v as u16),
        other => other.to_int::<i32>().ok().map(|v| v as u16),
    }
}

/// A US element; `None` where it is absent or empty.
fn unsigned(header: &InMemDicomObject, tag: Tag) -> Result<Option<u16>, Fault> {
    let Some(value) = header.get(tag).map(|e| e.value()).filter(|v| v.multiplicity() > 0) else { return Ok(None) };
    value.to_int::<u16>().map(Some).map_err(|_| {
        Fault::new("bits", format!("({:04X},{:04X}) must be a number from 0 to 65535", tag.group(), tag.element()))
    })
}

/// A DS element; `None` where it is absent or empty.
fn decimal(header: &InMemDicomObject, tag: Tag) -> Result<Option<f64>, Fault> {
    let text = text_of(header, tag);
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|_| {
        Fault::new("rescale", format!("({:04X},{:04X}) must be one decimal number", tag.group(), tag.element()))
    })
}

/// The name of a SOP class for messages; an unknown UID is not repeated.
pub(super) fn sop_class_name(uid: &str) -> &'static str {
    match uid {
        uids::ENHANCED_CT_IMAGE_STORAGE => "Enhanced CT Image Storage",
        uids::LEGACY_CONVERTED_ENHANCED_CT_IMAGE_STORAGE => "Legacy Converted Enhanced CT Image Storage",
        uids::ENHANCED_MR_IMAGE_STORAGE => "Enhanced MR Image Storage",
        uids::ENHANCED_MR_COLOR_IMAGE_STORAGE => "Enhanced MR Color Image Storage",
        uids::LEGACY_CONVERTED_ENHANCED_MR_IMAGE_STORAGE => "Legacy Converted Enhanced MR Image Storage",
        uids::ENHANCED_PET_IMAGE_STORAGE => "Enhanced PET Image Storage",
        uids::LEGACY_CONVERTED_ENHANCED_PET_IMAGE_STORAGE => "Legacy Converted Enhanced PET Image Storage",
        uids::SECONDARY_CAPTURE_IMAGE_STORAGE => "Secondary Capture Image Storage",
        uids::MULTI_FRAME_GRAYSCALE_WORD_SECONDARY_CAPTURE_IMAGE_STORAGE => {
            "Multi-frame Grayscale Word Secondary Capture Image Storage"
        }
        uids::COMPUTED_RADIOGRAPHY_IMAGE_STORAGE => "Computed Radiography Image Storage",
        uids::DIGITAL_X_RAY_IMAGE_STORAGE_FOR_PRESENTATION => "Digital X-Ray Image Storage - For Presentation",
        uids::X_RAY_ANGIOGRAPHIC_IMAGE_STORAGE => "X-Ray Angiographic Image Storage",
        uids::NUCLEAR_MEDICINE_IMAGE_STORAGE => "Nuclear Medicine Image Storage",
        uids::ULTRASOUND_IMAGE_STORAGE => "Ultrasound Image Storage",
        uids::SEGMENTATION_STORAGE => "Segmentation Storage",
        uids::RT_DOSE_STORAGE => "RT Dose Storage",
        _ => "a SOP class without support here",
    }
}
