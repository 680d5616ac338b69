//! [`mark`]: says in a data set what was done to it: the four standard attributes. What earlier tools said stays and is
//! added to.

use crate::dummy;
use crate::options::Choice;
use crate::profile::Profile;
use crate::value;
use dicom_core::value::PrimitiveValue;
use dicom_core::{DataElement, VR};
use dicom_dictionary_std::tags;
use dicom_object::InMemDicomObject;

/// States of the dates, from the least to the most changed.
const DATES: [&str; 3] = ["UNMODIFIED", "MODIFIED", "REMOVED"];

/// Writes PatientIdentityRemoved, DeidentificationMethod with its codes and LongitudinalTemporalInformationModified; and
/// BurnedInAnnotation where pixels are blanked.
pub(crate) fn mark(dataset: &mut InMemDicomObject, profile: &Profile, blanked: bool) {
    dataset.put(dummy::text(tags::PATIENT_IDENTITY_REMOVED, VR::CS, "YES"));
    let mut methods = dataset.get(tags::DEIDENTIFICATION_METHOD).map(|e| value::texts(e.value())).unwrap_or_default();
    methods.retain(|method| !method.is_empty());
    methods.push(profile.method());
    let methods = PrimitiveValue::Strs(methods.into_iter().collect());
    dataset.put(DataElement::new(tags::DEIDENTIFICATION_METHOD, VR::LO, methods));
    let sequence = tags::DEIDENTIFICATION_METHOD_CODE_SEQUENCE;
    let mut items = dataset.take(sequence).and_then(|e| e.into_value().into_items()).unwrap_or_default().into_vec();
    items.extend(profile.codes(blanked).map(|(value, meaning)| dummy::code(value, "DCM", meaning)));
    dataset.put(dummy::sequence(sequence, items));
    // Dates that were moved or removed before are so still.
    let before = value::first_text(dataset, tags::LONGITUDINAL_TEMPORAL_INFORMATION_MODIFIED);
    let before = DATES.iter().position(|state| *state == before).unwrap_or(0);
    let now = match () {
        () if profile.has(Choice::FullDates) => 0,
        () if profile.has(Choice::ModifiedDates) => 1,
        () => 2,
    };
    let state = DATES.get(before.max(now)).copied().unwrap_or("REMOVED");
    dataset.put(dummy::text(tags::LONGITUDINAL_TEMPORAL_INFORMATION_MODIFIED, VR::CS, state));
    if blanked {
        dataset.put(dummy::text(tags::BURNED_IN_ANNOTATION, VR::CS, "NO"));
    }
}
