//! What of an arriving header does not survive a change of the pixels.
//!
//! Private elements go at every depth: what a vendor's private block says of the old pixels cannot be known. So do
//! digital signatures, which the change makes invalid.

use dicom_core::header::Header;
use dicom_core::value::{DataSetSequence, Value};
use dicom_core::{DataElement, Tag, VR};
use dicom_dictionary_std::tags;
use dicom_object::InMemDicomObject;

use crate::series::record::Fault;

/// Deepest nesting of sequences that is written (the limit DCMTK reads).
const MAX_DEPTH: usize = 64;

/// Gone from the data set itself, each because it describes the old pixels or the old instance.
const STALE: [Tag; 20] = [
    tags::INSTANCE_CREATOR_UID,
    tags::REFERENCED_RAW_DATA_SEQUENCE,
    tags::ALTERNATE_REPRESENTATION_SEQUENCE,
    Tag(0x0028, 0x0104), // smallest and largest valid pixel value (retired)
    Tag(0x0028, 0x0105),
    tags::SMALLEST_PIXEL_VALUE_IN_SERIES,
    tags::LARGEST_PIXEL_VALUE_IN_SERIES,
    Tag(0x0028, 0x0110), // smallest and largest image pixel value in plane (retired)
    Tag(0x0028, 0x0111),
    tags::PIXEL_DATA_PROVIDER_URL,
    tags::HISTOGRAM_SEQUENCE,
    tags::ICON_IMAGE_SEQUENCE,
    tags::STORAGE_MEDIA_FILE_SET_ID,
    tags::STORAGE_MEDIA_FILE_SET_UID,
    tags::SOP_INSTANCE_STATUS,
    tags::SOP_AUTHORIZATION_DATE_TIME,
    tags::SOP_AUTHORIZATION_COMMENT,
    tags::AUTHORIZATION_EQUIPMENT_CERTIFICATION_NUMBER,
    tags::RETRIEVE_AE_TITLE,
    tags::INSTANCE_AVAILABILITY,
];

/// A copy of `header` without everything that is stale, private, or no part of a data set.
///
/// # Errors
/// `dicom-depth` for sequences nested deeper than 64.
pub(in crate::series) fn without_stale(header: &InMemDicomObject) -> Result<InMemDicomObject, Fault> {
    let kept = header.iter().filter(|e| !is_stale(e.tag()));
    let mut elements = Vec::new();
    for element in kept {
        elements.extend(cleaned(element, 1)?);
    }
    Ok(InMemDicomObject::from_element_iter(elements))
}

fn is_stale(tag: Tag) -> bool {
    let overlay_or_curve = |base: u16| (base..base + 0x100).contains(&tag.group());
    STALE.contains(&tag)
        || tag.group() < 0x0008
        || tag.group() == 0x7FE0
        || overlay_or_curve(0x5000)
        || overlay_or_curve(0x6000)
}

/// Goes at every depth.
fn is_never_kept(tag: Tag) -> bool {
    tag.group() % 2 == 1
        || tag.element() == 0
        || tag.group() == 0xFFFA
        || tag.group() == 0xFFFC
        || tag == tags::MAC_PARAMETERS_SEQUENCE
}

/// The element, its items cleaned; `None` if it goes.
fn cleaned(
    element: &DataElement<InMemDicomObject>,
    depth: usize,
) -> Result<Option<DataElement<InMemDicomObject>>, Fault> {
    if is_never_kept(element.tag()) {
        return Ok(None);
    }
    let Value::Sequence(sequence) = element.value() else { return Ok(Some(element.clone())) };
    if depth > MAX_DEPTH {
        return Err(Fault::new("dicom-depth", format!("sequences are nested deeper than {MAX_DEPTH}")));
    }
    let mut items = Vec::with_capacity(sequence.items().len());
    for item in sequence.items() {
        let mut kept = Vec::new();
        for inner in item.iter() {
            kept.extend(cleaned(inner, depth + 1)?);
        }
        items.push(InMemDicomObject::from_element_iter(kept));
    }
    Ok(Some(DataElement::new(element.tag(), VR::SQ, DataSetSequence::from(items))))
}
