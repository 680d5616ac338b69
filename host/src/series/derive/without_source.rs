//! A header to derive from for a volume that came with none: read from NIfTI, or generated.

use dicom_core::VR;
use dicom_core::value::{C, PrimitiveValue};
use dicom_dictionary_std::{tags, uids};
use dicom_object::InMemDicomObject;

use super::put;
use crate::series::geometry::{Geometry, dot, norm};
use crate::series::record::Fault;
use crate::series::uid::UidMaker;

/// Largest deviation of the slice's axes from a right angle, as a cosine.
const MAX_SKEW: f64 = 1e-3;

/// The header of slice `slice` of a CT volume in Hounsfield units that has a grid but no DICOM source, to be given to
/// `derive_instance` with `repair` set. It has no patient (Patient's Name and ID are empty, as PS3.3 C.7.1.1 allows),
/// no SOP Instance UID (so the derived file refers to no source), one new study and frame of reference per case, and
/// stores whole Hounsfield units in 16 signed bits.
///
/// # Errors
/// `geometry` when rows and columns are not at right angles, have no length, or do not fit 16 bits.
pub fn new_ct_header(geometry: &Geometry, slice: usize, uids_of_case: &UidMaker) -> Result<InMemDicomObject, Fault> {
    let a = &geometry.affine;
    let column = |c: usize| [a[c], a[4 + c], a[8 + c]];
    let (x, y) = (column(0), column(1));
    let (dx, dy) = (norm(x), norm(y));
    let [slices, rows, columns] = geometry.size;
    let fits = |n: usize| u16::try_from(n).ok().filter(|&n| n > 0);
    let (Some(rows), Some(columns)) = (fits(rows), fits(columns)) else {
        return Err(Fault::new("geometry", format!("a slice of {rows} x {columns} pixels does not fit a DICOM image")));
    };
    if slice >= slices {
        return Err(Fault::new("geometry", format!("slice {slice} of a volume with {slices} slices")));
    }
    let sound = dx.is_finite() && dy.is_finite() && dx > 0.0 && dy > 0.0;
    if !sound || (dot(x, y) / (dx * dy)).abs() > MAX_SKEW {
        return Err(Fault::new("geometry", "rows and columns must be at right angles and have a spacing above 0 mm"));
    }
    let mut header = InMemDicomObject::new_empty();
    for (tag, vr, value) in [
        (tags::SOP_CLASS_UID, VR::UI, uids::CT_IMAGE_STORAGE),
        (tags::MODALITY, VR::CS, "CT"),
        (tags::PHOTOMETRIC_INTERPRETATION, VR::CS, "MONOCHROME2"),
        (tags::RESCALE_INTERCEPT, VR::DS, "0"),
        (tags::RESCALE_SLOPE, VR::DS, "1"),
        (tags::RESCALE_TYPE, VR::LO, "HU"),
    ] {
        put(&mut header, tag, vr, value);
    }
    // Type 2: must be there, may be empty where nothing is known.
    for (tag, vr) in [
        (tags::STUDY_DATE, VR::DA),
        (tags::STUDY_TIME, VR::TM),
        (tags::ACCESSION_NUMBER, VR::SH),
        (tags::MANUFACTURER, VR::LO),
        (tags::REFERRING_PHYSICIAN_NAME, VR::PN),
        (tags::PATIENT_NAME, VR::PN),
        (tags::PATIENT_ID, VR::LO),
        (tags::PATIENT_BIRTH_DATE, VR::DA),
        (tags::PATIENT_SEX, VR::CS),
        (tags::SLICE_THICKNESS, VR::DS),
        (tags::KVP, VR::DS),
        (tags::PATIENT_POSITION, VR::CS),
        (tags::STUDY_ID, VR::SH),
        (tags::ACQUISITION_NUMBER, VR::IS),
        (tags::POSITION_REFERENCE_INDICATOR, VR::LO),
        (tags::LATERALITY, VR::CS),
    ] {
        put(&mut header, tag, vr, PrimitiveValue::Empty);
    }
    put(&mut header, tags::STUDY_INSTANCE_UID, VR::UI, uids_of_case.study());
    let frame = match &geometry.frame_of_reference {
        Some(uid) if !uid.is_empty() => uid.clone(),
        _ => uids_of_case.frame_of_reference(),
    };
    put(&mut header, tags::FRAME_OF_REFERENCE_UID, VR::UI, frame);
    let orientation = x.map(|v| v / dx).into_iter().chain(y.map(|v| v / dy));
    put(&mut header, tags::IMAGE_POSITION_PATIENT, VR::DS, decimals(geometry.slice_origin_mm(slice)));
    put(&mut header, tags::IMAGE_ORIENTATION_PATIENT, VR::DS, decimals(orientation));
    put(&mut header, tags::PIXEL_SPACING, VR::DS, decimals([dy, dx]));
    for (tag, value) in [
        (tags::SAMPLES_PER_PIXEL, 1),
        (tags::ROWS, rows),
        (tags::COLUMNS, columns),
        (tags::BITS_ALLOCATED, 16),
        (tags::BITS_STORED, 16),
        (tags::HIGH_BIT, 15),
        (tags::PIXEL_REPRESENTATION, 1),
    ] {
        put(&mut header, tag, VR::US, PrimitiveValue::from(value));
    }
    Ok(header)
}

fn decimals(values: impl IntoIterator<Item = f64>) -> PrimitiveValue {
    PrimitiveValue::Strs(C::from_vec(values.into_iter().map(decimal_string).collect()))
}

/// The most precise decimal string of at most 16 characters (VR DS).
pub(in crate::series) fn decimal_string(value: f64) -> String {
    let value = if value == 0.0 { 0.0 } else { value };
    let shortest = format!("{value}");
    if shortest.len() <= 16 {
        return shortest;
    }
    let trimmed = |text: String| match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    };
    let fixed = (0..=16).map(|digits| trimmed(format!("{value:.digits$}")));
    let scientific = (0..=16).map(|digits| format!("{value:.digits$e}"));
    fixed
        .chain(scientific)
        .filter(|text| text.len() <= 16)
        .min_by(|a, b| {
            let error = |t: &str| t.parse::<f64>().map_or(f64::INFINITY, |v| (v - value).abs());
            error(a).total_cmp(&error(b))
        })
        .unwrap_or_else(|| format!("{value:.8e}"))
}
