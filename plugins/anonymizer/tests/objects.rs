//! The stage for every object of a study: patients, dates, options, classes, what is left out, pixels to blank.

mod keyed;

use anonymizer::case::{CaseError, CleanInstances, Refused, deidentify_instances};
use anonymizer::options::Options;
use anonymizer::pixel_rules::{PixelRule, Rectangle};
use anonymizer::profile::Profile;
use anonymizer::rules::Rules;
use anonymizer::{dataset, dummy, value};
use dicom_core::value::PrimitiveValue;
use dicom_core::{DataElement, Tag, VR};
use dicom_dictionary_std::tags;
use dicom_object::InMemDicomObject;

const CT: &str = "1.2.840.10008.5.1.4.1.1.2";
const US: &str = "1.2.840.10008.5.1.4.1.1.6.1";
const SR: &str = "1.2.840.10008.5.1.4.1.1.88.33";
const PDF: &str = "1.2.840.10008.5.1.4.1.1.104.1";
const GSPS: &str = "1.2.840.10008.5.1.4.1.1.11.1";

fn owned(list: &[&str]) -> Vec<String> {
    list.iter().map(|text| (*text).to_owned()).collect()
}

fn profile(retain: &[&str], clean: &[&str]) -> Profile {
    Profile::with(Options::named(&owned(retain), &owned(clean)).expect("options"), Rules::default(), vec![])
        .expect("profile")
}

fn ask(
    objects: &[InMemDicomObject],
    profile: &Profile,
    refused: Refused,
    service: impl FnOnce(&str) -> Result<String, String>,
) -> Result<CleanInstances, CaseError<String>> {
    let bytes: Vec<Vec<u8>> = objects.iter().map(|o| dataset::write(o).expect("written")).collect();
    let views: Vec<&[u8]> = bytes.iter().map(Vec::as_slice).collect();
    deidentify_instances(&views, profile, refused, service, |_, _| true)
}

fn clean(objects: &[InMemDicomObject], profile: &Profile) -> Vec<InMemDicomObject> {
    let clean = ask(objects, profile, Refused::Case, |r| keyed::service(1, r)).expect("cleaned");
    clean.instances.iter().flatten().map(|i| dataset::read(&i.bytes).expect("read")).collect()
}

fn one(object: InMemDicomObject, profile: &Profile) -> InMemDicomObject {
    clean(&[object], profile).remove(0)
}

fn refused(objects: &[InMemDicomObject], profile: &Profile) -> (&'static str, String) {
    match ask(objects, profile, Refused::Case, |r| keyed::service(1, r)) {
        Err(CaseError::Refused(refusal)) => (refusal.code, refusal.text),
        other => panic!("not refused: {other:?}"),
    }
}

fn object(class: &str, n: usize) -> InMemDicomObject {
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

fn with(mut object: InMemDicomObject, elements: Vec<((u16, u16), VR, &str)>) -> InMemDicomObject {
    for (tag, vr, text) in elements {
        object.put(dummy::text(tag, vr, text));
    }
    object
}

fn text(object: &InMemDicomObject, tag: (u16, u16)) -> String {
    value::first_text(object, Tag::from(tag))
}

fn codes(object: &InMemDicomObject) -> Vec<String> {
    let items = object.get(tags::DEIDENTIFICATION_METHOD_CODE_SEQUENCE).and_then(|e| e.items()).expect("codes");
    items.iter().map(|item| value::first_text(item, tags::CODE_VALUE)).collect()
}

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
    assert_eq!(text, "instance 1: objects of the class Encapsulated PDF Storage cannot be de-identified");
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
fn safe_private_attributes_stay_with_their_creators() {
    let private = |object: &mut InMemDicomObject| {
        let bytes = |tag, bytes: &[u8]| DataElement::new(tag, VR::UN, PrimitiveValue::U8(bytes.into()));
        for element in [
            dummy::text((0x0019, 0x0010), VR::LO, "SIEMENS MR HEADER"),
            dummy::text((0x0019, 0x100C), VR::IS, "800"),
            bytes(Tag(0x0019, 0x100D), b"DIRECTIONAL "),
            dummy::text((0x0019, 0x1008), VR::CS, "SECRET"),
            // Another block of the same group.
            dummy::text((0x0019, 0x0011), VR::LO, "SIEMENS MR HEADERS"),
            dummy::text((0x0019, 0x110C), VR::IS, "4711"),
            // A creator of which nothing stays.
            dummy::text((0x0043, 0x0010), VR::LO, "GEMS_PARM_01"),
            dummy::text((0x0043, 0x1001), VR::LO, "SECRET"),
            // Another VR; bytes that are none of the VR; a label that repeats the patient.
            dummy::text((0x00E1, 0x0010), VR::LO, "ELSCINT1"),
            dummy::text((0x00E1, 0x1021), VR::LO, "SECRET"),
            dummy::text((0x01F1, 0x0010), VR::LO, "ELSCINT1"),
            bytes(Tag(0x01F1, 0x1026), b"Secret"),
            dummy::text((0x0019, 0x0012), VR::LO, "GEMS_ACQU_01"),
            dummy::text((0x0019, 0x129E), VR::LO, "for Erika Example"),
            dummy::text((0x0021, 0x100C), VR::IS, "12"),
        ] {
            object.put(element);
        }
    };
    let (mut source, mut inner) = (object(CT, 1), InMemDicomObject::new_empty());
    private(&mut source);
    private(&mut inner);
    source.put(dummy::sequence(Tag(0x0018, 0x9321), vec![inner]));
    let left = |object: &InMemDicomObject| object.tags().filter(|t| t.group() % 2 == 1).collect::<Vec<_>>();
    let safe = [Tag(0x0019, 0x0010), Tag(0x0019, 0x100C), Tag(0x0019, 0x100D)];
    let after = one(source.clone(), &profile(&["safe-private"], &[]));
    assert_eq!(left(&after), safe);
    let direction = after.get(Tag(0x0019, 0x100D)).expect("kept");
    assert_eq!((direction.vr(), value::first_text_of(direction).as_str()), (VR::CS, "DIRECTIONAL"));
    let nested = &after.get(Tag(0x0018, 0x9321)).and_then(|e| e.items()).expect("items")[0];
    assert_eq!(left(nested), safe);
    assert_eq!(left(&one(source, &profile(&[], &[]))), []);
}

fn content(value_type: &str, code: (&str, &str), elements: Vec<((u16, u16), VR, &str)>) -> InMemDicomObject {
    let mut item = InMemDicomObject::from_element_iter([
        dummy::text((0x0040, 0xA010), VR::CS, "CONTAINS"),
        dummy::text((0x0040, 0xA040), VR::CS, value_type),
        dummy::sequence(tags::CONCEPT_NAME_CODE_SEQUENCE, vec![dummy::code(code.0, code.1, "Concept")]),
    ]);
    for (tag, vr, text) in elements {
        item.put(dummy::text(tag, vr, text));
    }
    item
}

fn report() -> InMemDicomObject {
    let text = (0x0040, 0xA160);
    let container = |items| {
        let mut item = content("CONTAINER", ("126010", "DCM"), vec![]);
        item.put(dummy::sequence(tags::CONTENT_SEQUENCE, items));
        item
    };
    let mut number = content("NUM", ("121033", "DCM"), vec![]);
    let mut age = InMemDicomObject::from_element_iter([dummy::text((0x0040, 0xA30A), VR::DS, "1105")]);
    age.put(dummy::sequence(tags::MEASUREMENT_UNITS_CODE_SEQUENCE, vec![dummy::code("mo", "UCUM", "month")]));
    number.put(dummy::sequence(tags::MEASURED_VALUE_SEQUENCE, vec![age]));
    let mut report = object(SR, 1);
    let items = vec![
        content("TEXT", ("121022", "DCM"), vec![(text, VR::UT, "ACC-4711")]),
        content("PNAME", ("121008", "DCM"), vec![((0x0040, 0xA123), VR::PN, "Reader^Rita")]),
        number,
        container(vec![
            content("TEXT", ("121071", "DCM"), vec![(text, VR::UT, "nodule of Erika Example in right lung")]),
            content("TEXT", ("1", "99CLINIC"), vec![(text, VR::UT, "seen by Rita")]),
            content("DATE", ("111060", "DCM"), vec![((0x0040, 0xA121), VR::DA, "20200301")]),
            content("UIDREF", ("112040", "DCM"), vec![((0x0040, 0xA124), VR::UI, "1.2.3.5")]),
        ]),
        container(vec![content("TEXT", ("121106", "DCM"), vec![(text, VR::UT, "Example")])]),
    ];
    report.put(dummy::sequence(tags::CONTENT_SEQUENCE, items));
    report
}

fn items(object: &InMemDicomObject) -> Vec<InMemDicomObject> {
    object.get(tags::CONTENT_SEQUENCE).and_then(|e| e.items()).map(<[_]>::to_vec).unwrap_or_default()
}

#[test]
fn a_report_keeps_its_tree_and_loses_what_its_table_says() {
    let after =
        one(report(), &profile(&["modified-dates", "patient-characteristics"], &["structured-content", "descriptors"]));
    let top = items(&after);
    // The accession number and the empty container's comment: one gone, one a dummy.
    assert_eq!(top.len(), 4);
    assert_eq!(text(&top[0], (0x0040, 0xA123)), dummy::TEXT);
    let age = &top[1].get(tags::MEASURED_VALUE_SEQUENCE).and_then(|e| e.items()).expect("items")[0];
    assert_eq!(text(age, (0x0040, 0xA30A)), "90");
    let inner = items(&top[2]);
    assert_eq!(text(&inner[0], (0x0040, 0xA160)), "nodule of in right lung");
    assert_eq!(text(&inner[1], (0x0040, 0xA160)), "by");
    assert!(inner.iter().all(|item| item.get(tags::CONCEPT_NAME_CODE_SEQUENCE).is_some()));
    assert_eq!(text(&inner[2], (0x0040, 0xA121)), text(&after, (0x0008, 0x0020)));
    assert!(text(&inner[3], (0x0040, 0xA124)).starts_with("2.25."));
    assert_eq!(text(&items(&top[3])[0], (0x0040, 0xA160)), dummy::TEXT);
    // Without the option the table of attributes leaves a dummy tree; without the others dates and ages go.
    let basic = one(report(), &profile(&[], &[]));
    assert_eq!(items(&basic).len(), 1);
    let structured = one(report(), &profile(&[], &["structured-content"]));
    let top = items(&structured);
    assert_eq!(top.len(), 3, "accession number and age are gone, a comment leaves its container empty");
    assert_eq!(text(&items(&top[1])[0], (0x0040, 0xA160)), dummy::TEXT);
    assert_eq!(items(&top[2]).len(), 0);
    for object in [&basic, &structured, &after] {
        let bytes = dataset::write(object).expect("written");
        for secret in ["4711", "Example", "Erika", "Rita", "20200301", "1105", "99CLINIC"] {
            assert!(!bytes.windows(secret.len()).any(|w| w == secret.as_bytes()), "{secret}");
        }
    }
}

#[test]
fn items_referred_to_by_position_keep_their_places() {
    let mut source = report();
    let mut list = items(&source);
    list.push(InMemDicomObject::from_element_iter([
        dummy::text((0x0040, 0xA010), VR::CS, "INFERRED FROM"),
        DataElement::new(Tag(0x0040, 0xDB73), VR::UL, PrimitiveValue::U32([1, 4, 1].as_slice().into())),
    ]));
    source.put(dummy::sequence(tags::CONTENT_SEQUENCE, list));
    let after = one(source, &profile(&[], &["structured-content"]));
    let top = items(&after);
    assert_eq!(top.len(), 6);
    assert_eq!(text(&top[0], (0x0040, 0xA160)), dummy::TEXT);
    let target = top[5].get(Tag(0x0040, 0xDB73)).expect("reference").value().to_multi_int::<u32>().expect("numbers");
    assert_eq!(target, [1, 4, 1]);
    assert_eq!(text(&items(&top[3])[0], (0x0040, 0xA160)), dummy::TEXT);
}

#[test]
fn annotations_keep_what_is_drawn_and_harmless_words() {
    let note = |text: &str| {
        InMemDicomObject::from_element_iter([
            dummy::text((0x0070, 0x0004), VR::CS, "PIXEL"),
            dummy::text((0x0070, 0x0006), VR::ST, text),
        ])
    };
    let line = InMemDicomObject::from_element_iter([dummy::text((0x0070, 0x0023), VR::CS, "POLYLINE")]);
    let annotation = |texts: &[&str], drawn: bool| {
        let mut item = InMemDicomObject::from_element_iter([dummy::text((0x0070, 0x0002), VR::CS, "LAYER")]);
        item.put(dummy::sequence(tags::TEXT_OBJECT_SEQUENCE, texts.iter().map(|t| note(t)).collect()));
        if drawn {
            item.put(dummy::sequence(tags::GRAPHIC_OBJECT_SEQUENCE, vec![line.clone()]));
        }
        item
    };
    let mut source = object(GSPS, 1);
    let all = vec![annotation(&["liver lesion Example", "Example"], true), annotation(&["Example"], false)];
    source.put(dummy::sequence(tags::GRAPHIC_ANNOTATION_SEQUENCE, all));
    let annotations = |clean: &[&str]| {
        let after = one(source.clone(), &profile(&[], clean));
        after.get(tags::GRAPHIC_ANNOTATION_SEQUENCE).and_then(|e| e.items()).map(<[_]>::to_vec).unwrap_or_default()
    };
    let both = annotations(&["graphics", "descriptors"]);
    assert_eq!(both.len(), 1);
    assert!(both[0].get(tags::GRAPHIC_OBJECT_SEQUENCE).is_some());
    let texts = both[0].get(tags::TEXT_OBJECT_SEQUENCE).and_then(|e| e.items()).expect("texts");
    assert_eq!(texts.iter().map(|t| text(t, (0x0070, 0x0006))).collect::<Vec<_>>(), ["liver lesion"]);
    let graphics = annotations(&["graphics"]);
    assert!(graphics.len() == 1 && graphics[0].get(tags::TEXT_OBJECT_SEQUENCE).is_none());
    assert_eq!(text(&annotations(&[])[0], (0x0070, 0x0002)), dummy::TEXT);
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

#[test]
fn names_in_any_character_set_are_gone_in_their_bytes() {
    for (charset, name) in [
        (
            "\\ISO 2022 IR 149",
            &b"Hong^Gildong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7=\x1b$)C\xc8\xab^\x1b$)C\xb1\xe6\xb5\xbf"[..],
        ),
        ("\\ISO 2022 IR 87", b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B=\x1b$B$d$^$@\x1b(B^\x1b$B$?$m$&\x1b(B"),
        ("ISO 2022 IR 13\\ISO 2022 IR 87", b"\xd4\xcf\xc0\xde^\xc0\xdb\xb3=\x1b$B;3ED\x1b(J^\x1b$BB@O:\x1b(J"),
        ("GB18030", b"Wang^XiaoDong=\xcd\xf5^\xd0\xa1\xb6\xab"),
        ("GBK", b"Zhang^XiaoDong=\xd5\xc5^\xd0\xa1\xb6\xab"),
        ("ISO_IR 192", "Wang^XiaoDong=王^小東=".as_bytes()),
        ("ISO 2022 IR 100\\ISO 2022 IR 144", b"M\xfcller^\x1b-L\xbb\xee\xda"),
    ] {
        let raw =
            |tag, vr, bytes: &[u8]| DataElement::new(tag, vr, PrimitiveValue::U8(bytes.iter().copied().collect()));
        let mut label = name.to_vec();
        label.retain(|b| !b"^=\\".contains(b));
        let mut source = with(object(CT, 1), vec![((0x0008, 0x0005), VR::CS, charset)]);
        source.put(raw(tags::PATIENT_NAME, VR::PN, name));
        source.put(raw(Tag(0x0010, 0x1001), VR::PN, name));
        // A kept label with the same letters in another order is nobody, and is not garbled.
        let mut kept = b"x".to_vec();
        kept.extend(&label);
        kept.push(b'x');
        if kept.len() % 2 == 1 {
            kept.push(b' ');
        }
        source.put(raw(tags::MANUFACTURER, VR::LO, &kept));
        let after = one(source, &profile(&[], &[]));
        let mut bytes = dataset::write(&after).expect("written");
        let at = bytes.windows(kept.len()).position(|w| w == kept).unwrap_or_else(|| panic!("{charset}: garbled"));
        bytes.drain(at..at + kept.len());
        for part in name.split(|b| b"^=".contains(b)).filter(|part| part.len() >= 2) {
            assert!(!bytes.windows(part.len()).any(|w| w == part), "{charset}: {part:02x?} is left");
        }
        assert!(text(&after, (0x0010, 0x0010)).starts_with('G'));
    }
}
