//! Attributes that may be present only together with others.
//!
//! Where the others are missing, or are always removed, even a dummy would be invalid (PS3.3): such an attribute goes
//! although Table E.1-1 would have a dummy stand in for it. Removing more than the profile asks is always safe.

use crate::value;
use dicom_core::Tag;
use dicom_dictionary_std::tags;
use dicom_object::InMemDicomObject;

/// Clinical Trial Protocol Ethics Committee Name is permitted only beside the committee's approval number, which the
/// profile removes.
const COMMITTEE_NAME: Tag = tags::CLINICAL_TRIAL_PROTOCOL_ETHICS_COMMITTEE_NAME;
const COMMITTEE_APPROVAL: Tag = tags::CLINICAL_TRIAL_PROTOCOL_ETHICS_COMMITTEE_APPROVAL_NUMBER;
/// A container and its issuer belong to the Specimen Module, of which the specimens' descriptions are the heart.
const CONTAINER: [Tag; 2] = [tags::CONTAINER_IDENTIFIER, tags::ISSUER_OF_THE_CONTAINER_IDENTIFIER_SEQUENCE];
const SPECIMENS: Tag = tags::SPECIMEN_DESCRIPTION_SEQUENCE;

/// Whether `tag`, found in `dataset` inside the sequences `place`, cannot stay for want of its companions.
pub fn is_stray(dataset: &InMemDicomObject, place: &[Tag], tag: Tag) -> bool {
    let holds = |tag| dataset.get(tag).is_some_and(|e| !value::is_empty(e.value()));
    if tag == COMMITTEE_NAME {
        return holds(COMMITTEE_APPROVAL);
    }
    place.is_empty() && CONTAINER.contains(&tag) && !holds(SPECIMENS)
}
