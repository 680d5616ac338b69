//! One slice of a phantom as a CT Image Storage object.
//!
//! The header is complete (no verifier complains) and holds what a real one would: a name, a birth date, an
//! institution, physicians, a device. That the person is made up is said in `PatientComments` and `ImageComments`, and
//! `SyntheticData` is YES. Identifiers are `2.25.` and a number that follows from seed, patient and series.

use super::{ChestPhantom, PhantomError, PhantomGrid};
use dicom_core::value::PrimitiveValue;
use dicom_core::{DataElement, Tag, VR};
use dicom_dictionary_std::{tags, uids};
use dicom_object::{FileDicomObject, FileMetaTableBuilder, InMemDicomObject};
use sha2::{Digest, Sha256};

/// Which of a patient's series, and how it is stored.
#[derive(Debug, Clone)]
pub struct PhantomSeries<'a> {
    /// The patient.
    pub phantom: &'a ChestPhantom,
    /// With contrast medium ("POST STD") or without ("POST VUE").
    pub contrast: bool,
    /// The sampling.
    pub grid: PhantomGrid,
}

impl PhantomSeries<'_> {
    /// Whether pixels are stored as 12-bit unsigned numbers with intercept -1024 (every second patient, as some
    /// scanners do) instead of 16-bit signed ones with intercept 0.
    pub fn stored_unsigned(&self) -> bool {
        self.phantom.patient % 2 == 1
    }

    /// InstanceNumber of slice `z`: counted from the head for every second patient, else from the feet.
    pub fn instance_number(&self, z: usize) -> usize {
        if self.phantom.patient % 2 == 1 { self.grid.slices - z.min(self.grid.slices - 1) } else { z + 1 }
    }

    /// What the series is called, "POST STD" or "POST VUE".
    pub fn description(&self) -> &'static str {
        if self.contrast { "POST STD" } else { "POST VUE" }
    }

    /// `2.25.` and a decimal number made from seed, patient and `what` (a UUID of version 8, DICOM PS3.5 B.2).
    fn uid(&self, what: &str) -> String {
        let PhantomGrid { rows, columns, slices, spacing_mm } = self.grid;
        let text = format!(
            "gantry chest phantom 1/{}/{}/{rows}x{columns}x{slices}/{spacing_mm:?}/{what}",
            self.phantom.seed, self.phantom.patient
        );
        let digest = Sha256::digest(text.as_bytes());
        let mut bytes = [0_u8; 16];
        for (byte, digest) in bytes.iter_mut().zip(digest.iter()) {
            *byte = *digest;
        }
        let number = u128::from_be_bytes(bytes);
        let version = (number & !(0xF_u128 << 76)) | (8_u128 << 76);
        let variant = (version & !(0b11_u128 << 62)) | (0b10_u128 << 62);
        format!("2.25.{variant}")
    }
}

/// "One", "Two", … as far as words are kept, then digits.
fn number_word(patient: u32) -> String {
    const WORDS: [&str; 10] = ["One", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight", "Nine", "Ten"];
    WORDS.get(patient as usize).map_or_else(|| (patient + 1).to_string(), |word| (*word).to_owned())
}

/// A decimal string of at most 16 characters.
fn decimal(value: f64) -> String {
    let text = format!("{value:.6}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" { "0".to_owned() } else { text.to_owned() }
}

/// Builds the object of slice `z` (0 nearest the feet) from its Hounsfield values [y, x].
///
/// # Errors
/// [`PhantomError::Size`] if `hu` does not fit the grid, [`PhantomError::Encode`] if the encoder refuses.
pub fn slice_object(
    series: &PhantomSeries<'_>,
    z: usize,
    hu: &[i16],
) -> Result<FileDicomObject<InMemDicomObject>, PhantomError> {
    let grid = &series.grid;
    if hu.len() != grid.rows * grid.columns || z >= grid.slices {
        return Err(PhantomError::Size {
            what: "slice",
            expected: "rows x columns pixels of a slice inside the grid",
            found: format!("{} pixels for slice {z}", hu.len()),
        });
    }
    let mut object = InMemDicomObject::new_empty();
    let mut put = |tag: Tag, vr: VR, text: &str| {
        object.put(DataElement::new(tag, vr, PrimitiveValue::from(text)));
    };
    patient_and_study(&mut put, series);
    let folder = series.description();
    let [sz, sy, sx] = grid.spacing_mm;
    let [ox, oy, oz] = grid.origin_mm();
    let z_mm = decimal(oz + z as f64 * sz);
    let number = series.instance_number(z).to_string();
    let instance = series.uid(&format!("{folder}/{z}"));

    put(tags::SOP_CLASS_UID, VR::UI, uids::CT_IMAGE_STORAGE);
    put(tags::SOP_INSTANCE_UID, VR::UI, &instance);
    put(tags::IMAGE_TYPE, VR::CS, "ORIGINAL\\PRIMARY\\AXIAL");
    put(tags::SYNTHETIC_DATA, VR::CS, "YES");
    put(tags::INSTANCE_NUMBER, VR::IS, &number);
    put(tags::ACQUISITION_NUMBER, VR::IS, "1");
    put(tags::IMAGE_COMMENTS, VR::LT, "Computed phantom: no person was scanned.");
    put(tags::IMAGE_POSITION_PATIENT, VR::DS, &format!("{}\\{}\\{z_mm}", decimal(ox), decimal(oy)));
    put(tags::IMAGE_ORIENTATION_PATIENT, VR::DS, "1\\0\\0\\0\\1\\0");
    put(tags::SLICE_LOCATION, VR::DS, &z_mm);
    put(tags::SLICE_THICKNESS, VR::DS, &decimal(sz));
    put(tags::PIXEL_SPACING, VR::DS, &format!("{}\\{}", decimal(sy), decimal(sx)));
    put(tags::KVP, VR::DS, "120");
    put(tags::CONVOLUTION_KERNEL, VR::SH, "SOFT");
    put(tags::PHOTOMETRIC_INTERPRETATION, VR::CS, "MONOCHROME2");
    put(tags::RESCALE_SLOPE, VR::DS, "1");
    put(tags::RESCALE_INTERCEPT, VR::DS, if series.stored_unsigned() { "-1024" } else { "0" });
    put(tags::RESCALE_TYPE, VR::LO, "HU");
    put(tags::WINDOW_CENTER, VR::DS, "40");
    put(tags::WINDOW_WIDTH, VR::DS, "400");
    pixels(&mut object, series, hu)?;

    let encode = |reason: String| PhantomError::Encode { path: format!("slice {number} of {folder}"), reason };
    object
        .with_meta(FileMetaTableBuilder::new().transfer_syntax(uids::EXPLICIT_VR_LITTLE_ENDIAN))
        .map_err(|error| encode(error.to_string()))
}

fn patient_and_study(put: &mut impl FnMut(Tag, VR, &str), series: &PhantomSeries<'_>) {
    let patient = series.phantom.patient;
    let word = number_word(patient);
    let sex = if patient.is_multiple_of(2) { "F" } else { "M" };
    let series_number = if series.contrast { "3" } else { "2" };
    let time = if series.contrast { "101700" } else { "101500" };
    put(tags::SPECIFIC_CHARACTER_SET, VR::CS, "ISO_IR 100");
    put(tags::PATIENT_NAME, VR::PN, &format!("Phantom^{word}"));
    put(tags::PATIENT_ID, VR::LO, &format!("PHANTOM-{}-{:04}", series.phantom.seed, patient + 1));
    put(tags::PATIENT_BIRTH_DATE, VR::DA, &format!("{}0{}17", 1940 + patient % 50, 1 + patient % 9));
    put(tags::PATIENT_SEX, VR::CS, sex);
    put(tags::PATIENT_AGE, VR::AS, &format!("{:03}Y", 80 - patient % 50));
    put(tags::PATIENT_COMMENTS, VR::LT, "Not a person: a computed chest phantom.");
    put(tags::STUDY_INSTANCE_UID, VR::UI, &series.uid("study"));
    put(tags::STUDY_DATE, VR::DA, "20210115");
    put(tags::STUDY_TIME, VR::TM, "101000");
    put(tags::STUDY_ID, VR::SH, &format!("PH{:04}", patient + 1));
    put(tags::STUDY_DESCRIPTION, VR::LO, "Chest phantom");
    put(tags::ACCESSION_NUMBER, VR::SH, &format!("ACC{:05}", 40_000 + patient % 10_000));
    put(tags::REFERRING_PHYSICIAN_NAME, VR::PN, "Referrer^Rowan");
    put(tags::PERFORMING_PHYSICIAN_NAME, VR::PN, "Performer^Perry");
    put(tags::INSTITUTION_NAME, VR::LO, "Phantom General Hospital");
    put(tags::STATION_NAME, VR::SH, "PHANTOMCT1");
    put(tags::MANUFACTURER, VR::LO, "Gantry");
    put(tags::MANUFACTURER_MODEL_NAME, VR::LO, "Chest phantom");
    put(tags::DEVICE_SERIAL_NUMBER, VR::LO, "SN-PHANTOM-1");
    put(tags::SOFTWARE_VERSIONS, VR::LO, env!("CARGO_PKG_VERSION"));
    put(tags::MODALITY, VR::CS, "CT");
    put(tags::SERIES_INSTANCE_UID, VR::UI, &series.uid(series.description()));
    put(tags::SERIES_NUMBER, VR::IS, series_number);
    put(tags::SERIES_DESCRIPTION, VR::LO, series.description());
    put(tags::SERIES_DATE, VR::DA, "20210115");
    put(tags::SERIES_TIME, VR::TM, time);
    put(tags::ACQUISITION_DATE, VR::DA, "20210115");
    put(tags::ACQUISITION_TIME, VR::TM, time);
    put(tags::CONTENT_DATE, VR::DA, "20210115");
    put(tags::CONTENT_TIME, VR::TM, time);
    put(tags::BODY_PART_EXAMINED, VR::CS, "CHEST");
    put(tags::PATIENT_POSITION, VR::CS, "HFS");
    put(tags::FRAME_OF_REFERENCE_UID, VR::UI, &series.uid("frame of reference"));
    put(tags::POSITION_REFERENCE_INDICATOR, VR::LO, "");
}

fn pixels(object: &mut InMemDicomObject, series: &PhantomSeries<'_>, hu: &[i16]) -> Result<(), PhantomError> {
    let unsigned = series.stored_unsigned();
    let size = |count: usize| {
        u16::try_from(count).map_err(|_| PhantomError::Size {
            what: "rows or columns",
            expected: "at most 65535",
            found: count.to_string(),
        })
    };
    let bits: u16 = if unsigned { 12 } else { 16 };
    for (tag, value) in [
        (tags::SAMPLES_PER_PIXEL, 1),
        (tags::ROWS, size(series.grid.rows)?),
        (tags::COLUMNS, size(series.grid.columns)?),
        (tags::BITS_ALLOCATED, 16),
        (tags::BITS_STORED, bits),
        (tags::HIGH_BIT, bits - 1),
        (tags::PIXEL_REPRESENTATION, u16::from(!unsigned)),
    ] {
        object.put(DataElement::new(tag, VR::US, PrimitiveValue::from(value)));
    }
    let stored: Vec<u16> = if unsigned {
        // The phantom lies in -1024..=3071, so the sum lies in 0..=4095.
        hu.iter().map(|value| (i32::from(*value) + 1024).clamp(0, 4095) as u16).collect()
    } else {
        hu.iter().map(|value| value.cast_unsigned()).collect()
    };
    object.put(DataElement::new(tags::PIXEL_DATA, VR::OW, PrimitiveValue::U16(stored.into())));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimal_strings_are_short_and_exact_enough() {
        for (value, text) in [(2.7, "2.7"), (-171.45, "-171.45"), (-0.0, "0"), (5.0, "5"), (345.6 / 512.0, "0.675")] {
            assert_eq!(decimal(value), text);
        }
        assert!(decimal(-345.6 / 1024.0 * 511.5).len() <= 16);
    }

    #[test]
    fn identifiers_differ_between_series_and_repeat() {
        let grid = PhantomGrid::default();
        let (one, two) = (ChestPhantom::new(3, 0), ChestPhantom::new(3, 1));
        let series = |phantom, contrast| PhantomSeries { phantom, contrast, grid };
        let uid = series(&one, false).uid("a");
        assert_eq!(uid, series(&one, true).uid("a"));
        assert_ne!(uid, series(&one, false).uid("b"));
        assert_ne!(uid, series(&two, false).uid("a"));
        assert!(uid.len() <= 64 && uid.starts_with("2.25."));
    }
}
