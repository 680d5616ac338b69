//! Frames of enhanced multi-frame files that are written as classic single-frame images: only where the classic object
//! can be made valid.

use dicom_core::VR;
use dicom_core::header::Header;
use dicom_core::value::PrimitiveValue;
use dicom_dictionary_std::{tags, uids};
use dicom_object::InMemDicomObject;

use super::{put, text_of};
use crate::series::record::Fault;

/// Completes the header of a frame, whose functional groups have been resolved, to an image of `sop_class`: attributes
/// that must be present but may be empty (Type 2) are added empty; those of the multi-frame modules go.
///
/// # Errors
/// `sop-class` where the frame does not tell what a classic object must (Type 1): nothing is made up.
pub(super) fn make_classic(out: &mut InMemDicomObject, sop_class: &str) -> Result<(), Fault> {
    let (must, may_be_empty): (&[_], &[_]) = match sop_class {
        uids::CT_IMAGE_STORAGE => (
            &[(tags::RESCALE_SLOPE, "Rescale Slope"), (tags::RESCALE_INTERCEPT, "Rescale Intercept")],
            &[(tags::KVP, VR::DS), (tags::ACQUISITION_NUMBER, VR::IS)],
        ),
        uids::MR_IMAGE_STORAGE => (
            &[(tags::SCANNING_SEQUENCE, "Scanning Sequence"), (tags::SEQUENCE_VARIANT, "Sequence Variant")],
            &[
                (tags::SCAN_OPTIONS, VR::CS),
                (tags::MR_ACQUISITION_TYPE, VR::CS),
                (tags::ECHO_TIME, VR::DS),
                (tags::ECHO_TRAIN_LENGTH, VR::IS),
            ],
        ),
        _ => {
            return Err(Fault::new(
                "sop-class",
                "frames of an enhanced PET file cannot be written as single PET images: the series and isotope \
                 modules differ",
            ));
        }
    };
    for &(tag, name) in must {
        if text_of(out, tag).is_empty() {
            return Err(Fault::new(
                "sop-class",
                format!("frames of this enhanced file cannot be written as single images: it does not tell {name}"),
            ));
        }
    }
    let everywhere = [
        (tags::SLICE_THICKNESS, VR::DS),
        (tags::POSITION_REFERENCE_INDICATOR, VR::LO),
        (tags::PATIENT_POSITION, VR::CS),
        (tags::LATERALITY, VR::CS),
    ];
    for &(tag, vr) in may_be_empty.iter().chain(&everywhere) {
        if out.get(tag).is_none() {
            put(out, tag, vr, PrimitiveValue::Empty);
        }
    }
    for tag in [
        tags::NUMBER_OF_FRAMES,
        tags::SHARED_FUNCTIONAL_GROUPS_SEQUENCE,
        tags::PER_FRAME_FUNCTIONAL_GROUPS_SEQUENCE,
        tags::DIMENSION_ORGANIZATION_SEQUENCE,
        tags::DIMENSION_ORGANIZATION_TYPE,
        tags::DIMENSION_INDEX_SEQUENCE,
        tags::CONCATENATION_UID,
        tags::IN_CONCATENATION_NUMBER,
        tags::IN_CONCATENATION_TOTAL_NUMBER,
        tags::CONCATENATION_FRAME_OFFSET_NUMBER,
        tags::SOP_INSTANCE_UID_OF_CONCATENATION_SOURCE,
        tags::REPRESENTATIVE_FRAME_NUMBER,
        tags::PIXEL_PRESENTATION,
        tags::VOLUMETRIC_PROPERTIES,
        tags::VOLUME_BASED_CALCULATION_TECHNIQUE,
    ] {
        out.remove_element(tag);
    }
    // The supplemental colours of an enhanced image have no place in a monochrome classic one.
    out.retain(|e| !(e.tag().group() == 0x0028 && (0x1101..=0x1224).contains(&e.tag().element())));
    Ok(())
}
