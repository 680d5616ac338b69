//! The promises beyond the table: consistency, keys, idempotence, quarantine, character sets, the notes left behind.

mod keyed;

use anonymizer::audit::Audit;
use anonymizer::case::{CaseError, deidentify_case};
use anonymizer::profile::Profile;
use anonymizer::{dataset, dummy, value};
use dicom_core::value::PrimitiveValue;
use dicom_core::{DataElement, Tag, VR};
use dicom_dictionary_std::tags;
use dicom_object::InMemDicomObject;
use std::collections::HashSet;

const CT: &str = "1.2.840.10008.5.1.4.1.1.2";

type Cleaned = Result<(Vec<Vec<InMemDicomObject>>, Audit), CaseError<String>>;

fn clean(key: u8, series: &[Vec<InMemDicomObject>]) -> Cleaned {
    let bytes: Vec<Vec<Vec<u8>>> = series.iter().map(|s| s.iter().map(written).collect()).collect();
    let views: Vec<Vec<&[u8]>> = bytes.iter().map(|s| s.iter().map(Vec::as_slice).collect()).collect();
    let profile = Profile::basic().expect("profile");
    let case = deidentify_case(&views, profile, |r| keyed::service(key, r), |_, _| true)?;
    let read = |s: &Vec<Vec<u8>>| s.iter().map(|b| dataset::read(b).expect("read")).collect();
    Ok((case.series.iter().map(read).collect(), case.audit))
}

fn written(object: &InMemDicomObject) -> Vec<u8> {
    dataset::write(object).expect("written")
}

fn one(object: InMemDicomObject) -> InMemDicomObject {
    clean(1, &[vec![object]]).expect("cleaned").0.remove(0).remove(0)
}

fn refused(object: InMemDicomObject) -> &'static str {
    match clean(1, &[vec![object]]) {
        Err(CaseError::Refused(refusal)) => refusal.code,
        other => panic!("not refused: {other:?}"),
    }
}

/// Slice `z` of series `s`, referring to the slice before and to the other series.
fn slice(s: usize, z: usize) -> InMemDicomObject {
    let reference = |s: usize, z: usize| {
        InMemDicomObject::from_element_iter([
            dummy::text((0x0008, 0x1150), VR::UI, CT),
            dummy::text((0x0008, 0x1155), VR::UI, &format!("1.2.3.{s}.{z}")),
            dummy::text((0x0020, 0x4000), VR::LT, "seen with Mrs Example"),
        ])
    };
    InMemDicomObject::from_element_iter([
        dummy::text((0x0008, 0x0005), VR::CS, "ISO_IR 100"),
        DataElement::new(
            Tag(0x0008, 0x0008),
            VR::CS,
            PrimitiveValue::Strs(["ORIGINAL".to_owned(), "PRIMARY".into(), "AXIAL".into()].as_slice().into()),
        ),
        dummy::text((0x0008, 0x0016), VR::UI, CT),
        dummy::text((0x0008, 0x0018), VR::UI, &format!("1.2.3.{s}.{z}")),
        dummy::text((0x0008, 0x0020), VR::DA, "20200131"),
        dummy::text((0x0008, 0x0060), VR::CS, "CT"),
        dummy::text((0x0008, 0x0070), VR::LO, "Müller Werke"),
        dummy::text((0x0008, 0x0080), VR::LO, "Example Hospital"),
        dummy::sequence(Tag(0x0008, 0x1140), vec![reference(1 - s, z), reference(s, z)]),
        dummy::sequence(Tag(0x0008, 0x2112), vec![reference(s, z.saturating_sub(1))]),
        dummy::text((0x0010, 0x0010), VR::PN, "Example^Erika"),
        dummy::text((0x0010, 0x0020), VR::LO, "ID-4711"),
        dummy::text((0x0018, 0x0060), VR::DS, "120"),
        dummy::text((0x0020, 0x000D), VR::UI, "1.2.3"),
        dummy::text((0x0020, 0x000E), VR::UI, &format!("1.2.3.{s}")),
        dummy::text((0x0020, 0x0052), VR::UI, "1.2.840.10008.1.4.1.1"),
        DataElement::new(Tag(0x0028, 0x0010), VR::US, PrimitiveValue::from(512u16)),
    ])
}

fn case() -> Vec<Vec<InMemDicomObject>> {
    (0..2).map(|s| (0..3).map(|z| slice(s, z)).collect()).collect()
}

/// Every UID of the object that is not the standard's own.
fn uids(object: &InMemDicomObject, found: &mut HashSet<String>) {
    for element in object {
        if let Some(items) = element.items() {
            items.iter().for_each(|item| uids(item, found));
        } else if element.vr() == VR::UI {
            found.extend(value::texts(element.value()).into_iter().filter(|u| !u.starts_with("1.2.840.10008.")));
        }
    }
}

#[test]
fn references_are_resolved_within_and_across_series() {
    let (series, _) = clean(1, &case()).expect("cleaned");
    for (s, slices) in series.iter().enumerate() {
        for (z, object) in slices.iter().enumerate() {
            let sop = |s: usize, z: usize| value::first_text(&series[s][z], tags::SOP_INSTANCE_UID);
            let referenced = |sequence| -> Vec<String> {
                let items = object.get(sequence).and_then(|e| e.items()).expect("items");
                items.iter().map(|i| value::first_text(i, tags::REFERENCED_SOP_INSTANCE_UID)).collect()
            };
            assert_eq!(referenced(tags::REFERENCED_IMAGE_SEQUENCE), [sop(1 - s, z), sop(s, z)]);
            assert_eq!(referenced(tags::SOURCE_IMAGE_SEQUENCE), [sop(s, z.saturating_sub(1))]);
            assert!(sop(s, z).starts_with("2.25."));
            assert_eq!(value::first_text(object, tags::SOP_CLASS_UID), CT);
            assert_eq!(value::first_text(object, tags::FRAME_OF_REFERENCE_UID), "1.2.840.10008.1.4.1.1");
        }
    }
}

#[test]
fn one_key_gives_one_result_and_two_keys_share_no_uid() {
    let (first, first_audit) = clean(1, &case()).expect("cleaned");
    let (again, again_audit) = clean(1, &case()).expect("cleaned");
    assert_eq!(first_audit, again_audit);
    for (one, two) in first.iter().flatten().zip(again.iter().flatten()) {
        assert!(written(one) == written(two));
    }
    let (other, _) = clean(2, &case()).expect("cleaned");
    let (mut original, mut one, mut two) = (HashSet::new(), HashSet::new(), HashSet::new());
    case().iter().flatten().for_each(|o| uids(o, &mut original));
    first.iter().flatten().for_each(|o| uids(o, &mut one));
    other.iter().flatten().for_each(|o| uids(o, &mut two));
    assert_eq!((original.len(), one.len(), two.len()), (9, 9, 9));
    assert!(original.is_disjoint(&one) && one.is_disjoint(&two));
    let id = |case: &[Vec<InMemDicomObject>]| value::first_text(&case[0][0], tags::PATIENT_ID);
    assert_ne!(id(&first), id(&other));
    assert!(first.iter().flatten().all(|o| value::first_text(o, tags::PATIENT_NAME) == id(&first)));
}

#[test]
fn nothing_identifying_is_left_and_nothing_safe_is_changed() {
    let object = one(slice(0, 1));
    let bytes = written(&object);
    for secret in ["Example", "Erika", "4711", "20200131", "Mrs", "1.2.3.0"] {
        assert!(!bytes.windows(secret.len()).any(|w| w == secret.as_bytes()), "{secret} is left");
    }
    for tag in
        [(0x0008, 0x0005), (0x0008, 0x0008), (0x0008, 0x0016), (0x0008, 0x0070), (0x0018, 0x0060), (0x0028, 0x0010)]
    {
        let tag = Tag::from(tag);
        assert_eq!(
            object.get(tag).map(|e| value::texts(e.value())),
            slice(0, 1).get(tag).map(|e| value::texts(e.value()))
        );
    }
    // Latin-1, as the source said: one byte for the letter.
    assert!(bytes.windows(12).any(|w| w == b"M\xfcller Werke"));
}

#[test]
fn the_notes_are_written_and_appended() {
    let mut source = slice(0, 0);
    source.put(dummy::text((0x0012, 0x0063), VR::LO, "by hand"));
    let object = one(source);
    assert_eq!(value::first_text(&object, tags::PATIENT_IDENTITY_REMOVED), "YES");
    assert_eq!(value::first_text(&object, tags::LONGITUDINAL_TEMPORAL_INFORMATION_MODIFIED), "REMOVED");
    let methods = |o: &InMemDicomObject| value::texts(o.get(tags::DEIDENTIFICATION_METHOD).expect("method").value());
    assert_eq!(methods(&object), ["by hand".to_owned(), Profile::basic().expect("profile").method()]);
    let codes = |o: &InMemDicomObject| -> Vec<String> {
        let items = o.get(tags::DEIDENTIFICATION_METHOD_CODE_SEQUENCE).and_then(|e| e.items()).expect("codes");
        items.iter().map(|i| value::first_text(i, tags::CODE_VALUE)).collect()
    };
    assert_eq!(codes(&object), ["113100"]);
    let twice = one(object);
    assert_eq!((methods(&twice).len(), codes(&twice).len()), (3, 2));
}

#[test]
fn a_second_time_changes_only_identifiers_and_notes() {
    let first = one(slice(0, 1));
    let mut second = one(first.clone());
    let mut expected = first;
    for tag in [
        tags::DEIDENTIFICATION_METHOD,
        tags::DEIDENTIFICATION_METHOD_CODE_SEQUENCE,
        tags::PATIENT_ID,
        tags::PATIENT_NAME,
    ] {
        assert!(second.remove_element(tag) && expected.remove_element(tag));
    }
    fn blank(object: &mut InMemDicomObject) {
        let found: Vec<Tag> = object.tags().collect();
        for tag in found {
            let Some(mut element) = object.take(tag) else { continue };
            if element.vr() == VR::UI && !value::first_text_of(&element).starts_with("1.2.840.10008.") {
                element = dummy::text((tag.group(), tag.element()), VR::UI, "mapped");
            } else if let Some(items) = element.items_mut() {
                items.iter_mut().for_each(blank);
            }
            object.put(element);
        }
    }
    blank(&mut second);
    blank(&mut expected);
    assert!(written(&second) == written(&expected), "{second:?}\n{expected:?}");
}

#[test]
fn what_pixels_may_show_is_quarantined() {
    let with = |tag: (u16, u16), vr: VR, text: &str| {
        let mut object = slice(0, 0);
        object.put(dummy::text(tag, vr, text));
        object
    };
    for (tag, vr, text) in [
        ((0x0028, 0x0301), VR::CS, "YES"),
        ((0x0028, 0x0301), VR::CS, "yes "),
        ((0x0028, 0x0301), VR::CS, "MAYBE"),
        ((0x0008, 0x0016), VR::UI, "1.2.840.10008.5.1.4.1.1.7"),
        ((0x0008, 0x0016), VR::UI, "1.2.840.10008.5.1.4.1.1.7.4"),
        ((0x0008, 0x0016), VR::UI, "1.2.840.10008.5.1.4.1.1.6.1"),
        ((0x0008, 0x0060), VR::CS, "US"),
        ((0x0008, 0x0060), VR::CS, "OT"),
        ((0x0008, 0x0060), VR::CS, "XYZ"),
        ((0x0008, 0x0064), VR::CS, "SD"),
    ] {
        assert_eq!(refused(with(tag, vr, text)), "burned-in-annotation", "{tag:04X?} {text}");
    }
    let mut screen = slice(0, 0);
    screen.put(DataElement::new(
        Tag(0x0008, 0x0008),
        VR::CS,
        PrimitiveValue::Strs(["DERIVED".to_owned(), "SECONDARY".into(), "SCREEN SAVE".into()].as_slice().into()),
    ));
    assert_eq!(refused(screen), "burned-in-annotation");
    assert_eq!(refused(with((0x0008, 0x0060), VR::CS, "")), "unknown-modality");
    let mut none = slice(0, 0);
    none.remove_element(tags::MODALITY);
    assert_eq!(refused(none), "unknown-modality");
    one(with((0x0028, 0x0301), VR::CS, "NO"));
    // A digit more is another class: CT must not be taken for a capture by its beginning.
    one(with((0x0008, 0x0016), VR::UI, "1.2.840.10008.5.1.4.1.1.77.1.6"));
}

#[test]
fn a_case_holds_one_patient() {
    for (tag, text) in [((0x0010, 0x0020), "ID-4712"), ((0x0010, 0x0020), "")] {
        let mut series = case();
        series[1][2].put(dummy::text(tag, VR::LO, text));
        match clean(1, &series) {
            Err(CaseError::Refused(refusal)) => {
                assert_eq!(refusal.code, "mixed-patients");
                assert!(
                    refusal.text.starts_with("series 1, slice 2") && !refusal.text.contains("471"),
                    "{}",
                    refusal.text
                );
            }
            other => panic!("{other:?}"),
        }
    }
    // Padding is no difference.
    let mut series = case();
    series[1][2].put(dummy::text((0x0010, 0x0020), VR::LO, "ID-4711 "));
    clean(1, &series).expect("cleaned");
}

#[test]
fn empty_identifiers_stay_empty() {
    let mut object = slice(0, 0);
    for (tag, vr) in [
        ((0x0020, 0x000D), VR::UI),
        ((0x0020, 0x000E), VR::UI),
        ((0x0008, 0x0018), VR::UI),
        ((0x0010, 0x0020), VR::LO),
        ((0x0010, 0x0010), VR::PN),
    ] {
        object.put(dummy::text(tag, vr, ""));
    }
    let after = one(object);
    for tag in [
        tags::STUDY_INSTANCE_UID,
        tags::SERIES_INSTANCE_UID,
        tags::SOP_INSTANCE_UID,
        tags::PATIENT_ID,
        tags::PATIENT_NAME,
    ] {
        assert!(after.get(tag).is_some_and(|e| value::is_empty(e.value())), "{tag}");
    }
}

#[test]
fn a_patient_without_id_is_known_by_name() {
    let mut object = slice(0, 0);
    object.put(dummy::text((0x0010, 0x0020), VR::LO, ""));
    let after = one(object);
    let name = value::first_text(&after, tags::PATIENT_NAME);
    assert!(name.starts_with('G') && name.len() == 16, "{name}");
    assert_eq!(value::first_text(&after, tags::PATIENT_ID), "");
}

#[test]
fn instance_uids_under_the_standards_root_are_quarantined() {
    let mut object = slice(0, 0);
    object.put(dummy::text((0x0008, 0x0018), VR::UI, "1.2.840.10008.2020.4711"));
    assert_eq!(refused(object), "well-known-instance-uid");
    // What no UID of the standard looks like is mapped as any other.
    for uid in ["1.2.840.10008.20200131.4711", "1.2.840.10008.5551234567", "1.2.840.10008.Doe"] {
        let mut object = slice(0, 0);
        object.put(dummy::text((0x0020, 0x0052), VR::UI, uid));
        let clean = one(object);
        let frame = value::first_text(&clean, tags::FRAME_OF_REFERENCE_UID);
        assert!(frame.starts_with("2.25."), "{uid}: {frame}");
    }
}

#[test]
fn a_service_that_fails_or_lies_stops_the_case() {
    let bytes = written(&slice(0, 0));
    let profile = Profile::basic().expect("profile");
    let ask = |answer: &dyn Fn(&str) -> Result<String, String>| {
        deidentify_case(&[vec![&bytes]], profile, answer, |_, _| true)
    };
    assert!(matches!(ask(&|_| Err("down".into())), Err(CaseError::Service(_))));
    assert!(matches!(ask(&|_| Ok("{}".into())), Err(CaseError::BadAnswer(_))));
    assert!(matches!(ask(&|_| Ok(r#"{"uids":[],"ids":[]}"#.into())), Err(CaseError::BadAnswer(_))));
    // The identity is no pseudonym.
    let echo = |request: &str| {
        let request: serde_json::Value = serde_json::from_str(request).map_err(|e| e.to_string())?;
        let ids: Vec<_> = request["ids"].as_array().into_iter().flatten().map(|i| i["value"].clone()).collect();
        Ok(serde_json::json!({"uids": request["uids"], "ids": ids}).to_string())
    };
    assert!(matches!(ask(&echo), Err(CaseError::BadAnswer(_))));
}

#[test]
fn a_caller_can_stop_and_sees_progress() {
    let bytes = written(&slice(0, 0));
    let profile = Profile::basic().expect("profile");
    let mut seen = Vec::new();
    let series = [vec![bytes.as_slice(); 3]];
    deidentify_case(
        &series,
        profile,
        |r| keyed::service(1, r),
        |done, total| {
            seen.push((done, total));
            true
        },
    )
    .expect("cleaned");
    assert_eq!(seen, (1..=6).map(|n| (n, 6)).collect::<Vec<_>>());
    let stopped = deidentify_case(&series, profile, |r| keyed::service(1, r), |done, _| done < 4);
    assert!(matches!(stopped, Err(CaseError::Cancelled)));
}

#[test]
fn unreadable_headers_are_refused_without_quoting_them() {
    let profile = Profile::basic().expect("profile");
    let mut bytes = written(&slice(0, 0));
    bytes.truncate(bytes.len() - 3);
    match deidentify_case(&[vec![&bytes]], profile, |r| keyed::service(1, r), |_, _| true) {
        Err(CaseError::Refused(refusal)) => {
            assert_eq!(refusal.code, "bad-headers");
            assert!(!refusal.text.contains("Example"));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_audit_counts_and_names_no_value() {
    let (_, audit) = clean(1, &case()).expect("cleaned");
    let text = audit.to_json(Profile::basic().expect("profile")).to_string();
    let record: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(record["schema"], "gantry.deid-audit/1");
    assert_eq!(record["datasets"], 6);
    assert_eq!(record["edition"], "2026d");
    let of = |tag: &str| record["attributes"].as_array().expect("list").iter().find(|a| a["tag"] == tag).cloned();
    assert_eq!(of("(0008,0080)").expect("institution")["action"], "removed");
    assert_eq!(of("(0010,0020)").expect("id")["action"], "pseudonymised");
    assert_eq!(of("(0008,0020)").expect("date")["count"], 6);
    for secret in ["Example", "4711", "20200131", "1.2.3.", "Werke"] {
        assert!(!text.contains(secret), "{secret}");
    }
}

#[test]
fn content_items_keep_their_shape_without_their_prose() {
    let mut object = slice(0, 0);
    let item = |kind: &str| {
        InMemDicomObject::from_element_iter([
            dummy::text((0x0040, 0xA040), VR::CS, kind),
            dummy::text((0x0040, 0xA160), VR::UT, "Erika Example was here"),
            dummy::text((0x0008, 0x0104), VR::LO, "Erika Example as a meaning without code"),
        ])
    };
    // Protocol Context Sequence: not listed, holds content items.
    object.put(dummy::sequence(Tag(0x0040, 0x0440), vec![item("TEXT"), item("NUMERIC")]));
    let after = one(object);
    let items = after.get(Tag(0x0040, 0x0440)).and_then(|e| e.items()).expect("items");
    assert_eq!(value::first_text(&items[0], tags::TEXT_VALUE), dummy::TEXT);
    assert!(items[1].get(tags::TEXT_VALUE).is_none());
    assert!(items.iter().all(|i| i.get(tags::CODE_MEANING).is_none()));
}

#[test]
fn a_charset_that_is_no_charset_goes() {
    let mut object = slice(0, 0);
    object.put(dummy::text((0x0008, 0x0005), VR::CS, "ERIKA EXAMPLE"));
    object.put(dummy::text((0x0008, 0x0070), VR::LO, "Maker"));
    assert!(one(object).get(tags::SPECIFIC_CHARACTER_SET).is_none());
}

#[test]
fn a_label_that_repeats_the_patient_is_emptied() {
    let with = |text: &str| {
        let mut object = slice(0, 0);
        object.put(dummy::text((0x0018, 0x9423), VR::LO, text));
        object.put(dummy::text((0x0018, 0x0024), VR::SH, "Example"));
        object
    };
    let (cleaned, audit) =
        clean(1, &[vec![with("Thorax ID-4711"), with("Erika Example, prone"), with("Thorax prone")]]).expect("cleaned");
    let names: Vec<String> = cleaned[0].iter().map(|o| value::first_text(o, tags::ACQUISITION_PROTOCOL_NAME)).collect();
    assert_eq!(names, ["", "", "Thorax prone"]);
    // A name that stands for nobody is nobody's, though it is the patient's here.
    assert!(cleaned[0].iter().all(|o| value::first_text(o, tags::SEQUENCE_NAME) == "Example"));
    let record = audit.to_json(Profile::basic().expect("profile"));
    assert_eq!(record["searched_identifiers"], 2);
    let echo = record["attributes"].as_array().expect("list").iter().find(|a| a["action"] == "emptied_echo");
    assert_eq!(echo.expect("noted")["count"], 2);
}

#[test]
fn a_sites_own_codes_are_replaced_and_published_ones_stay() {
    let mut object = slice(0, 0);
    let codes = vec![
        dummy::code("P1", "99HOSPITAL", "Thorax, ward of Dr Example"),
        dummy::code("113691", "DCM", "IEC Body Dosimetry Phantom"),
    ];
    object.put(dummy::sequence(tags::PROCEDURE_CODE_SEQUENCE, codes));
    let scheme = |name: &str| {
        InMemDicomObject::from_element_iter([
            dummy::text((0x0008, 0x0102), VR::SH, name),
            dummy::text((0x0008, 0x0116), VR::ST, "Example Hospital"),
        ])
    };
    object.put(dummy::sequence(tags::CODING_SCHEME_IDENTIFICATION_SEQUENCE, vec![scheme("99HOSPITAL")]));
    let after = one(object);
    let items = after.get(tags::PROCEDURE_CODE_SEQUENCE).and_then(|e| e.items()).expect("codes");
    let meanings: Vec<String> = items.iter().map(|i| value::first_text(i, tags::CODE_MEANING)).collect();
    assert_eq!(meanings, ["REMOVED", "IEC Body Dosimetry Phantom"]);
    assert_eq!(value::first_text(&items[0], tags::CODING_SCHEME_DESIGNATOR), "99GANTRY");
    assert!(after.get(tags::CODING_SCHEME_IDENTIFICATION_SEQUENCE).is_none());
}
