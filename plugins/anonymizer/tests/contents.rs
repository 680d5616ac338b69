//! What is inside objects: private attributes, reports, annotations, text in any character set.

mod study;

use anonymizer::{dataset, dummy, value};
use dicom_core::value::PrimitiveValue;
use dicom_core::{DataElement, Tag, VR};
use dicom_dictionary_std::tags;
use dicom_object::InMemDicomObject;
use study::{CT, GSPS, SR, object, one, profile, text, with};

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
fn ages_above_89_in_a_report_are_90() {
    for (concept, scheme) in [("121033", "DCM"), ("30525-0", "LN"), ("397669002", "SCT"), ("424144002", "SCT")] {
        for (number, units, expected) in [
            ("95", "a", Some("90")),
            ("1105", "mo", Some("90")),
            ("4800", "wk", Some("90")),
            ("33000", "d", Some("90")),
            ("89", "a", Some("89")),
            ("95", "1", None),
        ] {
            let mut measured = InMemDicomObject::from_element_iter([dummy::text((0x0040, 0xA30A), VR::DS, number)]);
            let code = dummy::code(units, "UCUM", "unit");
            measured.put(dummy::sequence(tags::MEASUREMENT_UNITS_CODE_SEQUENCE, vec![code]));
            let mut item = content("NUM", (concept, scheme), vec![]);
            item.put(dummy::sequence(tags::MEASURED_VALUE_SEQUENCE, vec![measured]));
            let mut source = object(SR, 1);
            source.put(dummy::sequence(tags::CONTENT_SEQUENCE, vec![item]));
            let after = one(source, &profile(&["patient-characteristics"], &["structured-content"]));
            let left = items(&after).first().map(|item| {
                let value = &item.get(tags::MEASURED_VALUE_SEQUENCE).and_then(|e| e.items()).expect("items")[0];
                text(value, (0x0040, 0xA30A))
            });
            assert_eq!(left.as_deref(), expected, "{concept} {number} {units}");
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
        let families = name.split(|b| *b == b'=').filter_map(|group| group.split(|b| *b == b'^').next());
        let label: Vec<u8> = families.flatten().copied().collect();
        let mut source = with(object(CT, 1), vec![((0x0008, 0x0005), VR::CS, charset)]);
        source.put(raw(tags::PATIENT_NAME, VR::PN, name));
        source.put(raw(Tag(0x0010, 0x1001), VR::PN, name));
        // A kept label with the family name alone is nobody, and is not garbled.
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
