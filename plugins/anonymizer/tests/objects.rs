//! The stage for every object of a study: patients, dates, options, classes, what is left out, pixels to blank, rules.

mod study;

use anonymizer::case::{CaseError, Refused};
use anonymizer::options::Options;
use anonymizer::pixel_rules::{PixelRule, Rectangle};
use anonymizer::profile::Profile;
use anonymizer::rules::Rules;
use anonymizer::{dataset, dummy, value};
use dicom_core::{Tag, VR};
use dicom_dictionary_std::tags;
use dicom_object::InMemDicomObject;
use study::{CT, PDF, SR, US, ask, clean, codes, keyed, object, one, owned, profile, refused, text, with};

#[test]
fn the_object_says_which_options_were_used() {
    let longitudinal = (0x0028, 0x0303);
    for (retain, clean, expected, dates) in [
        (&[][..], &[][..], &["113100"][..], "REMOVED"),
        (&["full-dates"], &["descriptors"], &["113100", "113105", "113106"], "UNMODIFIED"),
        (&["modified-dates", "uids"], &["graphics"], &["113100", "113103", "113107", "113110"], "MODIFIED"),
        (
            &["institution", "safe-private", "device", "patient-characteristics"],
            &["structured-content", "pixel-data"],
            // Clean Pixel Data is claimed only where pixels are blanked.
            &["113100", "113104", "113108", "113109", "113111", "113112"],
            "REMOVED",
        ),
    ] {
        let after = one(object(CT, 1), &profile(retain, clean));
        assert_eq!(codes(&after), expected);
        assert_eq!(text(&after, longitudinal), dates);
        let methods = value::texts(after.get(tags::DEIDENTIFICATION_METHOD).expect("method").value());
        assert!(methods.len() == 1 && methods.iter().all(|m| m.len() <= 64));
        let twice = one(after.clone(), &profile(retain, clean));
        assert_eq!(codes(&twice).len(), 2 * expected.len());
        assert_eq!(text(&twice, longitudinal), dates);
        // What is gone does not come back by saying so.
        let full = one(after, &profile(&["full-dates"], &[]));
        assert_eq!(text(&full, longitudinal), dates);
    }
}

#[test]
fn a_patients_dates_move_together() {
    let moved = profile(&["modified-dates"], &[]);
    let nested = InMemDicomObject::from_element_iter([
        dummy::text((0x0008, 0x0020), VR::DA, "20200229"),
        dummy::text((0x0008, 0x002A), VR::DT, "20200229235959.500000+0100"),
    ]);
    let mut first = with(
        object(CT, 1),
        vec![
            ((0x0008, 0x0021), VR::DA, "2020.02.29"),
            ((0x0008, 0x0022), VR::DA, "20200131-20200201"),
            ((0x0008, 0x0023), VR::DA, "yesterday"),
            ((0x0008, 0x0031), VR::TM, "noon"),
            ((0x0008, 0x002A), VR::DT, "202002"),
            ((0x0008, 0x0201), VR::SH, "+0100"),
            ((0x0010, 0x0030), VR::DA, "19500101"),
        ],
    );
    first.put(dummy::sequence(Tag(0x0018, 0x9321), vec![nested]));
    let objects = [first, object(SR, 2)];
    let after = clean(&objects, &moved);
    let day = |text: &str| {
        let date = jiff::civil::Date::strptime("%Y%m%d", text).expect("date");
        i64::from((date - jiff::civil::date(2020, 3, 1)).get_days())
    };
    let offset = day(&text(&after[0], (0x0008, 0x0020)));
    assert!((-3652..0).contains(&offset));
    assert_eq!(text(&after[1], (0x0008, 0x0020)), text(&after[0], (0x0008, 0x0020)));
    assert_eq!(text(&after[0], (0x0008, 0x0030)), "235959.5");
    assert_eq!(day(&text(&after[0], (0x0008, 0x0021)).replace('.', "")), offset - 1);
    let inner = after[0].get(Tag(0x0018, 0x9321)).and_then(|e| e.items()).expect("items")[0].clone();
    assert_eq!(day(&text(&inner, (0x0008, 0x0020))), offset - 1);
    let moment = text(&inner, (0x0008, 0x002A));
    assert_eq!((day(&moment[..8]), &moment[8..]), (offset - 1, "235959.500000+0100"));
    assert_eq!(text(&after[0], (0x0008, 0x0201)), "+0100");
    assert_eq!(text(&after[0], (0x0008, 0x002A)).len(), 6);
    // What is no date gets the basic action, and so does the date of birth.
    assert!(after[0].get(Tag(0x0008, 0x0022)).is_none() && after[0].get(Tag(0x0008, 0x0031)).is_none());
    assert_eq!(text(&after[0], (0x0008, 0x0023)), "");
    assert_eq!(text(&after[0], (0x0010, 0x0030)), "");
    // Another case of the same patient moves by the same.
    assert_eq!(text(&one(object(CT, 7), &moved), (0x0008, 0x0020)), text(&after[0], (0x0008, 0x0020)));
    let nobody = with(object(CT, 1), vec![((0x0010, 0x0010), VR::PN, ""), ((0x0010, 0x0020), VR::LO, "")]);
    assert_eq!(refused(std::slice::from_ref(&nobody), &moved).0, "no-patient");
    one(nobody, &profile(&[], &[]));
}

#[test]
fn one_patient_a_case_by_number_or_else_by_name() {
    let basic = profile(&[], &[]);
    let spelt = |name: &str, id: &str| {
        with(object(SR, 2), vec![((0x0010, 0x0010), VR::PN, name), ((0x0010, 0x0020), VR::LO, id)])
    };
    assert_eq!(clean(&[object(CT, 1), spelt("EXAMPLE^ERIKA^^DR", "ID-4711 ")], &basic).len(), 2);
    assert_eq!(refused(&[object(CT, 1), spelt("Example^Erika", "ID-4712")], &basic).0, "mixed-patients");
    assert_eq!(clean(&[spelt("Example^Erika", ""), spelt("Example^Erika", "")], &basic).len(), 2);
    assert_eq!(refused(&[spelt("Example^Erika", ""), spelt("Example^Eva", "")], &basic).0, "mixed-patients");
}

#[test]
fn a_patient_who_is_not_on_the_sites_list_is_refused() {
    let nobody = |request: &str| {
        let mut answer: serde_json::Value =
            serde_json::from_str(&keyed::service(1, request)?).map_err(|e| e.to_string())?;
        answer["ids"] = answer["ids"].as_array().into_iter().flatten().map(|_| serde_json::Value::Null).collect();
        Ok(answer.to_string())
    };
    for refused in [Refused::Case, Refused::Instance] {
        match ask(&[object(CT, 1)], &profile(&[], &[]), refused, nobody) {
            Err(CaseError::Refused(refusal)) => assert_eq!(refusal.code, "unlisted-patient"),
            other => panic!("{other:?}"),
        }
    }
    // A number of somebody inside a sequence, of whom the list says nothing, is emptied.
    let mut nested = object(CT, 1);
    let inner = InMemDicomObject::from_element_iter([dummy::text((0x0010, 0x0020), VR::LO, "ZZ-1")]);
    nested.put(dummy::sequence(Tag(0x0018, 0x9321), vec![inner]));
    let only_first = |request: &str| {
        let mut answer: serde_json::Value =
            serde_json::from_str(&keyed::service(1, request)?).map_err(|e| e.to_string())?;
        answer["ids"][1] = serde_json::Value::Null;
        Ok(answer.to_string())
    };
    let clean = ask(&[nested], &profile(&[], &[]), Refused::Case, only_first).expect("cleaned");
    let after = dataset::read(&clean.instances[0].as_ref().expect("kept").bytes).expect("read");
    let inner = &after.get(Tag(0x0018, 0x9321)).and_then(|e| e.items()).expect("items")[0];
    assert!(inner.get(tags::PATIENT_ID).is_some_and(|e| value::is_empty(e.value())));
}

#[test]
fn what_cannot_be_cleaned_spoils_the_case_or_is_left_out() {
    let basic = profile(&[], &[]);
    let objects = [object(CT, 1), object(PDF, 2), object(US, 3), object("1.3.46.1", 4), object(SR, 5)];
    let (code, text) = refused(&objects[..2], &basic);
    assert_eq!(code, "unsupported-class");
    assert_eq!(text, "instance 1: objects of this class (documents, waveforms, raw data) cannot be cleaned");
    assert_eq!(refused(&objects[2..3], &basic).0, "burned-in-annotation");
    let clean = ask(&objects, &basic, Refused::Instance, |r| keyed::service(1, r)).expect("cleaned");
    let left: Vec<bool> = clean.instances.iter().map(Option::is_some).collect();
    assert_eq!(left, [true, false, false, false, true]);
    assert_eq!(clean.audit.datasets, 2);
    let record = clean.audit.to_json(&basic);
    assert_eq!(record["refused"], serde_json::json!({"burned-in-annotation": 1, "unsupported-class": 2}));
    match ask(&objects[1..4], &basic, Refused::Instance, |r| keyed::service(1, r)) {
        Err(CaseError::Refused(refusal)) => assert_eq!(refusal.code, "unsupported-class"),
        other => panic!("{other:?}"),
    }
    // Another patient is no matter of one instance.
    let other = with(object(PDF, 6), vec![((0x0010, 0x0020), VR::LO, "ID-1")]);
    let mixed = ask(&[object(CT, 1), other], &basic, Refused::Instance, |r| keyed::service(1, r));
    assert!(matches!(mixed, Err(CaseError::Refused(refusal)) if refusal.code == "mixed-patients"));
}

#[test]
fn pixels_are_ordered_blank_by_the_rules_of_their_device() {
    let rules =
        PixelRule::parse_all(&owned(&["modality=US manufacturer=ACME blank=0,0,640,40", "modality=OT blank=0,0,9,9"]));
    let options = Options::named(&[], &owned(&["pixel-data"])).expect("options");
    let profile = Profile::with(options, Rules::default(), rules.expect("rules")).expect("profile");
    let acme = with(object(US, 3), vec![((0x0008, 0x0070), VR::LO, "ACME"), ((0x0028, 0x0301), VR::CS, "YES")]);
    let clean = ask(&[object(CT, 1), acme], &profile, Refused::Case, |r| keyed::service(1, r)).expect("cleaned");
    let blank: Vec<&[Rectangle]> = clean.instances.iter().flatten().map(|i| i.blank.as_slice()).collect();
    assert_eq!(blank, [&[][..], &[Rectangle { x: 0, y: 0, width: 640, height: 40 }]]);
    let read = |n: usize| dataset::read(&clean.instances[n].as_ref().expect("kept").bytes).expect("read");
    assert_eq!((codes(&read(0)), codes(&read(1))), (owned(&["113100"]), owned(&["113100", "113101"])));
    assert_eq!((text(&read(0), (0x0028, 0x0301)), text(&read(1), (0x0028, 0x0301))), ("".into(), "NO".into()));
    assert_eq!(clean.audit.to_json(&profile)["blanked"], 1);
    // Without a rule for the device the risk stays.
    let other = with(object(US, 3), vec![((0x0008, 0x0070), VR::LO, "Other")]);
    assert_eq!(refused(&[other], &profile).0, "burned-in-annotation");
}

#[test]
fn retained_uids_are_the_same_everywhere() {
    let reference = InMemDicomObject::from_element_iter([
        dummy::text((0x0008, 0x1150), VR::UI, CT),
        dummy::text((0x0008, 0x1155), VR::UI, "1.2.3.2"),
        dummy::text((0x0010, 0x0010), VR::PN, "Example^Erika"),
    ]);
    let mut source = with(object(CT, 1), vec![((0x0020, 0x0242), VR::UI, "1.2.3.77")]);
    source.put(dummy::sequence(tags::SOURCE_IMAGE_SEQUENCE, vec![reference]));
    let after = one(source, &profile(&["uids"], &[]));
    assert_eq!(text(&after, (0x0008, 0x0018)), "1.2.3.1");
    assert_eq!(text(&after, (0x0020, 0x0242)), "1.2.3.77");
    let item = &after.get(tags::SOURCE_IMAGE_SEQUENCE).and_then(|e| e.items()).expect("items")[0];
    assert_eq!(text(item, (0x0008, 0x1155)), "1.2.3.2");
    assert!(!text(item, (0x0010, 0x0010)).contains("Example"));
    assert!(!text(&after, (0x0010, 0x0020)).contains("4711"));
}

#[test]
fn characteristics_devices_and_institutions_stay_but_the_patient_does_not() {
    let source = with(
        object(CT, 1),
        vec![
            ((0x0010, 0x1010), VR::AS, "094Y"),
            ((0x0010, 0x0040), VR::CS, "F"),
            ((0x0010, 0x2110), VR::LO, "contrast iodine, Dr Example"),
            ((0x0018, 0x1000), VR::LO, "SN 4711"),
            ((0x0008, 0x1010), VR::SH, "ID-4711"),
            ((0x0008, 0x0080), VR::LO, "Clinic of Erika Example"),
            ((0x0008, 0x1040), VR::LO, "Radiology"),
        ],
    );
    let mut source = source;
    let code = dummy::code("H1", "99CLINIC", "Clinic North");
    source.put(dummy::sequence(Tag(0x0008, 0x0082), vec![code.clone()]));
    source.put(dummy::sequence(tags::PROCEDURE_CODE_SEQUENCE, vec![code]));
    let after = one(source, &profile(&["patient-characteristics", "device", "institution"], &[]));
    assert_eq!(text(&after, (0x0010, 0x1010)), "090Y");
    assert_eq!(text(&after, (0x0010, 0x0040)), "F");
    assert_eq!(text(&after, (0x0010, 0x2110)), "contrast iodine");
    assert_eq!(text(&after, (0x0018, 0x1000)), "SN 4711");
    // A label that repeats the patient is not kept.
    assert_eq!((text(&after, (0x0008, 0x1010)), text(&after, (0x0008, 0x0080))), (String::new(), String::new()));
    assert_eq!(text(&after, (0x0008, 0x1040)), "Radiology");
    let meaning = |tag| {
        let item = after.get(tag).and_then(|e| e.items()).expect("items")[0].clone();
        value::first_text(&item, tags::CODE_MEANING)
    };
    assert_eq!(meaning(Tag(0x0008, 0x0082)), "Clinic North");
    assert_eq!(meaning(tags::PROCEDURE_CODE_SEQUENCE), dummy::TEXT);
}

#[test]
fn a_sites_rules_come_before_everything() {
    let rules = owned(&["(0008,0070) remove", "(0008,1090) empty", "(0008,0080) = Site 3", "(0018,0060) = 100"]);
    let options = Options::named(&owned(&["institution"]), &[]).expect("options");
    let profile = Profile::with(options, Rules::parse(&rules).expect("rules"), vec![]).expect("profile");
    let elements = || {
        vec![
            ((0x0008, 0x0070), VR::LO, "Maker"),
            ((0x0008, 0x1090), VR::LO, "Model"),
            ((0x0008, 0x0080), VR::LO, "Clinic"),
            ((0x0018, 0x0060), VR::DS, "120"),
        ]
    };
    let mut source = with(object(CT, 1), elements());
    source.put(dummy::sequence(Tag(0x0018, 0x9321), vec![with(InMemDicomObject::new_empty(), elements())]));
    let after = one(source, &profile);
    let nested = after.get(Tag(0x0018, 0x9321)).and_then(|e| e.items()).expect("items")[0].clone();
    for object in [&after, &nested] {
        assert!(object.get(tags::MANUFACTURER).is_none());
        assert!(object.get(tags::MANUFACTURER_MODEL_NAME).is_some_and(|e| value::is_empty(e.value())));
        assert_eq!((text(object, (0x0008, 0x0080)), text(object, (0x0018, 0x0060))), ("Site 3".into(), "100".into()));
    }
    // An attribute that is not there is not made.
    assert!(one(object(CT, 1), &profile).get(tags::INSTITUTION_NAME).is_none());
}
