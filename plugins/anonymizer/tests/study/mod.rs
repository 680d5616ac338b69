//! Small studies to clean: objects of several classes of one patient.

// Not every test needs everything.
#![allow(dead_code)]

#[path = "../keyed/mod.rs"]
pub mod keyed;

use anonymizer::case::{CaseError, CleanInstances, Refused, deidentify_instances};
use anonymizer::options::Options;
use anonymizer::profile::Profile;
use anonymizer::rules::Rules;
use anonymizer::{dataset, dummy, value};
use dicom_core::value::PrimitiveValue;
use dicom_core::{DataElement, Tag, VR};
use dicom_dictionary_std::tags;
use dicom_object::InMemDicomObject;

pub const CT: &str = "1.2.840.10008.5.1.4.1.1.2";
pub const US: &str = "1.2.840.10008.5.1.4.1.1.6.1";
pub const SR: &str = "1.2.840.10008.5.1.4.1.1.88.33";
pub const PDF: &str = "1.2.840.10008.5.1.4.1.1.104.1";
pub const GSPS: &str = "1.2.840.10008.5.1.4.1.1.11.1";

pub fn owned(list: &[&str]) -> Vec<String> {
    list.iter().map(|text| (*text).to_owned()).collect()
}

pub fn profile(retain: &[&str], clean: &[&str]) -> Profile {
    Profile::with(Options::named(&owned(retain), &owned(clean)).expect("options"), Rules::default(), vec![])
        .expect("profile")
}

pub fn ask(
    objects: &[InMemDicomObject],
    profile: &Profile,
    refused: Refused,
    service: impl FnOnce(&str) -> Result<String, String>,
) -> Result<CleanInstances, CaseError<String>> {
    let bytes: Vec<Vec<u8>> = objects.iter().map(|o| dataset::write(o).expect("written")).collect();
    let views: Vec<&[u8]> = bytes.iter().map(Vec::as_slice).collect();
    deidentify_instances(&views, profile, refused, service, |_, _| true)
}

pub fn clean(objects: &[InMemDicomObject], profile: &Profile) -> Vec<InMemDicomObject> {
    let clean = ask(objects, profile, Refused::Case, |r| keyed::service(1, r)).expect("cleaned");
    clean.instances.iter().flatten().map(|i| dataset::read(&i.bytes).expect("read")).collect()
}

pub fn one(object: InMemDicomObject, profile: &Profile) -> InMemDicomObject {
    clean(&[object], profile).remove(0)
}

pub fn refused(objects: &[InMemDicomObject], profile: &Profile) -> (&'static str, String) {
    match ask(objects, profile, Refused::Case, |r| keyed::service(1, r)) {
        Err(CaseError::Refused(refusal)) => (refusal.code, refusal.text),
        other => panic!("not refused: {other:?}"),
    }
}

pub fn object(class: &str, n: usize) -> InMemDicomObject {
    let modality = match class {
        CT => "CT",
        US => "US",
        SR => "SR",
        _ => "OT",
    };
    let mut object = InMemDicomObject::from_element_iter([
        dummy::text((0x0008, 0x0016), VR::UI, class),
        dummy::text((0x0008, 0x0018), VR::UI, &format!("1.2.3.{n}")),
        dummy::text((0x0008, 0x0020), VR::DA, "20200301"),
        dummy::text((0x0008, 0x0030), VR::TM, "235959.5"),
        dummy::text((0x0008, 0x0060), VR::CS, modality),
        dummy::text((0x0010, 0x0010), VR::PN, "Example^Erika"),
        dummy::text((0x0010, 0x0020), VR::LO, "ID-4711"),
        dummy::text((0x0020, 0x000D), VR::UI, "1.2.3"),
        dummy::text((0x0020, 0x000E), VR::UI, &format!("1.2.3.9{n}")),
    ]);
    if matches!(class, CT | US) {
        object.put(DataElement::new(tags::ROWS, VR::US, PrimitiveValue::from(480u16)));
        object.put(DataElement::new(tags::COLUMNS, VR::US, PrimitiveValue::from(640u16)));
    }
    object
}

pub fn with(mut object: InMemDicomObject, elements: Vec<((u16, u16), VR, &str)>) -> InMemDicomObject {
    for (tag, vr, text) in elements {
        object.put(dummy::text(tag, vr, text));
    }
    object
}

pub fn text(object: &InMemDicomObject, tag: (u16, u16)) -> String {
    value::first_text(object, Tag::from(tag))
}

pub fn codes(object: &InMemDicomObject) -> Vec<String> {
    let items = object.get(tags::DEIDENTIFICATION_METHOD_CODE_SEQUENCE).and_then(|e| e.items()).expect("codes");
    items.iter().map(|item| value::first_text(item, tags::CODE_VALUE)).collect()
}
