//! Identifiers that hide where their kind does not belong: under another VR, as a number, a code, a UID, beyond a length.

mod keyed;

use anonymizer::case::deidentify_case;
use anonymizer::dataset;
use anonymizer::dummy::{self, sequence, text};
use anonymizer::options::Options;
use anonymizer::profile::Profile;
use anonymizer::rules::Rules;
use dicom_core::{DataElement, PrimitiveValue, Tag, VR};
use dicom_dictionary_std::tags;
use dicom_object::InMemDicomObject;

fn ct(more: impl IntoIterator<Item = dicom_object::mem::InMemElement>) -> InMemDicomObject {
    let mut object = InMemDicomObject::from_element_iter([
        text((0x0008, 0x0016), VR::UI, "1.2.840.10008.5.1.4.1.1.2"),
        text((0x0008, 0x0018), VR::UI, "1.2.3.4"),
        text((0x0008, 0x0060), VR::CS, "CT"),
        text((0x0010, 0x0010), VR::PN, "Roesler^Jane"),
        text((0x0010, 0x0020), VR::LO, "PIDSECRET4711"),
    ]);
    more.into_iter().for_each(|element| drop(object.put(element)));
    object
}

/// Whether a label (Acquisition Protocol Name) stays beside a patient's name, both as bytes under a character set.
fn stays(charset: &str, name: &[u8], label: &[u8]) -> bool {
    let raw = |tag, vr, bytes: &[u8]| DataElement::new(tag, vr, PrimitiveValue::U8(bytes.into()));
    let object = ct([
        raw(tags::SPECIFIC_CHARACTER_SET, VR::CS, charset.as_bytes()),
        raw(tags::PATIENT_NAME, VR::PN, name),
        raw(tags::ACQUISITION_PROTOCOL_NAME, VR::LO, label),
    ]);
    let clean = dataset::write(&cleaned(&object)).expect("written");
    clean.windows(label.len()).any(|bytes| bytes == label)
}

#[test]
fn names_within_words_are_heard_in_every_encoding_and_other_labels_stay() {
    let utf_8 = "ISO_IR 192";
    let japanese = "\\ISO 2022 IR 87";
    let korean = "\\ISO 2022 IR 149";
    for (charset, name, label) in [
        (utf_8, "山田^太郎".as_bytes(), "患者山田太郎".as_bytes()),
        (utf_8, "김^철수".as_bytes(), "흉부 김철수님".as_bytes()),
        (utf_8, "Müller^Ida".as_bytes(), b"Thorax Muller, Ida"),
        (utf_8, "Müller^Ida".as_bytes(), b"Muller filter"),
        (utf_8, "Yamada^Tarou=山田^太郎".as_bytes(), "山田".as_bytes()),
        (utf_8, "Щукин^Пётр".as_bytes(), "ЩУКИН".as_bytes()),
        (utf_8, b"O'Brien^Mary", "Thorax OBrien Mary".as_bytes()),
        (utf_8, b"OBrien^Mary", "Mary O’Brien prone".as_bytes()),
        (japanese, b"Yamada^T=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B", b"\x1b$B45<T;3EDB@O:\x1b(B"),
        // Characters of which a byte is the mark between two values: 宮, 本.
        (japanese, b"Miyamoto^T=\x1b$B5\\K\\\x1b(B^\x1b$BB@O:\x1b(B", b"\x1b$B45<T5\\K\\B@O:\x1b(B"),
        (korean, b"Kim^C=\x1b$)C\xb1\xe8^\x1b$)C\xc3\xb6\xbc\xf6", b"\x1b$)C\xc8\xaf\xc0\xda\xb1\xe8\xc3\xb6\xbc\xf6"),
    ] {
        assert!(!stays(charset, name, label), "{charset} {name:02x?}");
    }
    for (charset, name, label) in [
        (utf_8, "山田^太郎".as_bytes(), "胸部単純 造影 3回目".as_bytes()),
        (utf_8, "高^峰".as_bytes(), "高峰期".as_bytes()),
        (utf_8, "方^向".as_bytes(), "投影方向".as_bytes()),
        (utf_8, "김^민".as_bytes(), "흉부 CT".as_bytes()),
        (utf_8, b"O'Brien^Mary", b"T1-W post-contrast"),
        (utf_8, "Müller^Ida".as_bytes(), b"Mullers filter"),
        (japanese, b"Yamada^T=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B", b"\x1b$B6;It\x1b(B"),
        (japanese, b"Miyamoto^T=\x1b$B5\\K\\\x1b(B^\x1b$BB@O:\x1b(B", b"3\x1b$B2sL\\\x1b(B\\CT"),
        (korean, b"Kim^C=\x1b$)C\xb1\xe8^\x1b$)C\xc3\xb6\xbc\xf6", b"\x1b$)C\xc8\xe4\xba\xce"),
    ] {
        assert!(stays(charset, name, label), "{charset} {name:02x?}");
    }
}

fn cleaned(object: &InMemDicomObject) -> InMemDicomObject {
    let bytes = dataset::write(object).expect("written");
    let profile = Profile::basic().expect("profile");
    let service = |request: &str| keyed::service(1, request);
    let case = deidentify_case(&[vec![&bytes]], profile, service, |_, _| true).expect("cleaned");
    dataset::read(&case.series[0][0]).expect("read")
}

#[test]
fn a_value_is_held_against_the_kind_of_its_attribute() {
    for (tag, vr, value) in [
        // Prose under another text VR
        ((0x3002, 0x0004), VR::LO, "Jane Roe ward 7"),
        ((0x0040, 0x0400), VR::SH, "HIDDENNOTE"),
        // The patient as a code string
        ((0x0018, 0x5100), VR::CS, "ROESLER JANE"),
        ((0x0018, 0x5100), VR::CS, "PIDSECRET4711"),
        ((0x0008, 0x0070), VR::CS, "ROESLER JANE"),
        // Text as a UID that is never mapped
        ((0x0008, 0x0117), VR::UI, "Roesler^Jane"),
        ((0x0020, 0x0052), VR::UI, "1.2.840.10008.5551234567"),
        // A number too long for its kind
        ((0x0020, 0x0012), VR::IS, "5551234567890123"),
        // Labels as long as a page
        ((0x0008, 0x1090), VR::LO, &"HIDDENNOTE ".repeat(60)),
        // Attributes that name devices and people
        ((0x3002, 0x0020), VR::SH, "HIDDENNAME"),
        ((0x0018, 0x1003), VR::LO, "HIDDENNAME"),
        ((0x0018, 0x7006), VR::LT, "Mrs Roe ward 7"),
    ] {
        let clean = cleaned(&ct([text(tag, vr, value)]));
        let left = dataset::write(&clean).expect("written");
        let needle = value.trim().as_bytes();
        assert!(!left.windows(needle.len()).any(|window| window == needle), "{tag:04X?} {vr:?} {value}");
    }
}

#[test]
fn what_is_what_it_says_stays() {
    for (tag, vr, value) in [
        ((0x0018, 0x5100), VR::CS, "HFS"),
        ((0x0018, 0x0050), VR::DS, "0.625000000000000001"),
        ((0x0020, 0x0012), VR::IS, "12"),
        ((0x0018, 0x1150), VR::IS, "500.5"),
        ((0x0008, 0x0070), VR::LO, "SIEMENS"),
        ((0x0020, 0x0052), VR::UI, "1.2.840.10008.1.4.1.1"),
    ] {
        let clean = cleaned(&ct([text(tag, vr, value)]));
        let kept = clean.get(Tag::from(tag)).map(|e| e.to_str().expect("text").trim_end_matches('\0').to_owned());
        assert_eq!(kept.as_deref(), Some(value), "{tag:04X?}");
    }
}

#[test]
fn frames_keep_their_places() {
    let private = || {
        let secret = DataElement::new(Tag(0x0029, 0x1001), VR::LO, PrimitiveValue::from("secret"));
        InMemDicomObject::from_element_iter([text((0x0029, 0x0010), VR::LO, "ACME 1.0"), secret])
    };
    let position = |z: &str| {
        let plane = InMemDicomObject::from_element_iter([text((0x0020, 0x0032), VR::DS, z)]);
        InMemDicomObject::from_element_iter([sequence(Tag(0x0020, 0x9113), vec![plane])])
    };
    let frames = |items: Vec<InMemDicomObject>| sequence(tags::PER_FRAME_FUNCTIONAL_GROUPS_SEQUENCE, items);
    let clean = cleaned(&ct([frames(vec![position("0"), private(), position("2")])]));
    let items = clean.element(tags::PER_FRAME_FUNCTIONAL_GROUPS_SEQUENCE).expect("frames").items().expect("items");
    assert_eq!(items.iter().map(|item| item.iter().count()).collect::<Vec<_>>(), [1, 0, 1]);
    let clean = cleaned(&ct([frames(vec![private(), private()])]));
    let items = clean.element(tags::PER_FRAME_FUNCTIONAL_GROUPS_SEQUENCE).expect("frames").items().expect("items");
    assert_eq!(items.len(), 2);
}

#[test]
fn codes_are_no_numbers_of_the_patient() {
    let code = dummy::code("113014", "DCM", "Study");
    let mut object = ct([sequence(Tag(0x0040, 0xA168), vec![code])]);
    object.put(text((0x0010, 0x0020), VR::LO, "113014"));
    let clean = cleaned(&object);
    let item = &clean.element(Tag(0x0040, 0xA168)).expect("kept").items().expect("items")[0];
    assert_eq!(item.element(tags::CODE_VALUE).expect("code").to_str().expect("text"), "113014");
    let mut object = ct([text((0x0062, 0x0005), VR::LO, "Lesion 2011")]);
    object.put(text((0x0010, 0x0020), VR::LO, "2011"));
    let label = cleaned(&object);
    assert_eq!(label.element(tags::SEGMENT_LABEL).expect("kept").to_str().expect("text"), "REMOVED");
}

/// A CT of a patient with this name and number, cleaned with these options, and the label in it.
fn label_of((name, number): (&str, &str), retain: &[&str], label: dicom_object::mem::InMemElement) -> Vec<String> {
    let tag = label.header().tag;
    let mut object = ct([text((0x0019, 0x0010), VR::LO, "GEMS_ACQU_01")]);
    let utf_8 = |element: dicom_object::mem::InMemElement| {
        let texts = anonymizer::value::texts(element.value()).join("\\");
        DataElement::new(element.header().tag, element.vr(), PrimitiveValue::U8(texts.as_bytes().into()))
    };
    object.put(utf_8(text((0x0010, 0x0010), VR::PN, name)));
    object.put(text((0x0010, 0x0020), VR::LO, number));
    object.put(text((0x0008, 0x0005), VR::CS, "ISO_IR 192"));
    object.put(utf_8(label));
    let retain: Vec<String> = retain.iter().map(|option| (*option).to_owned()).collect();
    let options = Options::named(&retain, &[]).expect("options");
    let profile = Profile::with(options, Rules::default(), vec![]).expect("profile");
    let bytes = dataset::write(&object).expect("written");
    let service = |request: &str| keyed::service(1, request);
    let case = deidentify_case(&[vec![&bytes]], &profile, service, |_, _| true).expect("cleaned");
    let clean = dataset::read(&case.series[0][0]).expect("read");
    clean.get(tag).map(|element| anonymizer::value::texts(element.value())).unwrap_or_default()
}

const BRANDS_AND_TERMS: [((u16, u16), VR); 7] = [
    ((0x0018, 0x1210), VR::SH), // Convolution Kernel
    ((0x0008, 0x0070), VR::LO), // Manufacturer
    ((0x0008, 0x1090), VR::LO), // Manufacturer's Model Name
    ((0x0018, 0x0015), VR::CS), // Body Part Examined
    ((0x0020, 0x1040), VR::LO), // Position Reference Indicator
    ((0x0008, 0x0008), VR::CS), // Image Type
    ((0x0018, 0x1160), VR::SH), // Filter Type
];
const KEPT_BY_OPTIONS: [(&str, (u16, u16), VR); 4] = [
    ("institution", (0x0008, 0x0080), VR::LO),
    ("device", (0x0018, 0x1000), VR::LO),
    ("patient-characteristics", (0x0010, 0x2160), VR::SH),
    ("safe-private", (0x0019, 0x109E), VR::LO),
];

/// Labels of every kind that is kept, by the table or by an option, of which one was given this value: what is left.
fn labels_of(patient: (&str, &str), value: &str) -> Vec<(Tag, Vec<String>)> {
    let by_table = BRANDS_AND_TERMS.map(|(tag, vr)| (vec![], tag, vr));
    let by_option = KEPT_BY_OPTIONS.map(|(option, tag, vr)| (vec![option], tag, vr));
    let all = by_table.into_iter().chain(by_option);
    all.map(|(retain, tag, vr)| (Tag::from(tag), label_of(patient, &retain, text(tag, vr, value)))).collect()
}

#[test]
fn a_part_of_the_patients_identity_is_enough() {
    for (name, number, value) in [
        ("Tannhuber", "1", "Tannhuber"),
        ("Tannhuber^Korbinian", "1", "TANNHUBER B30f"),
        ("Tannhuber^Korbinian", "1", "korbinian"),
        ("Zwickelbach^Hildegunde^Maria", "1", "Zwickelbach"),
        ("Zwickelbach^Hildegunde^Maria", "1", "Maria b30f"),
        ("Yamada^Tarou=山田^太郎", "1", "山田"),
        ("Щукин^Пётр", "1", "Щукин"),
        ("Li^Wei", "1", "LI"),
        ("Roesler^Jane", "QWERTZ12", "QWERTZ12"),
        ("Roesler^Jane", "PID-955", "PID-955"),
        ("Roesler^Jane", "PID-955", "PID-955 B30f"),
        ("Roesler^Jane", "TANNHUBER", "Tannhuber"),
    ] {
        for (tag, left) in labels_of((name, number), value) {
            assert!(!left.iter().any(|text| text == value), "{value} stays in {tag}: {left:?}");
        }
    }
    // A name of two parts in one label was never kept, nor one value among others.
    let both = labels_of(("Zwickelbach^Hildegunde^Maria", "1"), "Zwickelbach Maria");
    assert!(both.iter().all(|(_, left)| !left.concat().contains("Zwickelbach")), "{both:?}");
    let among = label_of(("Tannhuber^K", "1"), &[], text((0x0008, 0x0008), VR::CS, "ORIGINAL\\PRIMARY\\TANNHUBER"));
    assert!(!among.iter().any(|text| text == "TANNHUBER"), "{among:?}");
    for tag in [(0x0010, 0x1001), (0x0010, 0x1005), (0x0010, 0x1060)] {
        let mut object = ct([text(tag, VR::PN, "Tannhuber^K")]);
        object.put(text((0x0018, 0x1210), VR::SH, "TANNHUBER"));
        let left = cleaned(&object);
        let kernel = left.get(tags::CONVOLUTION_KERNEL).map(|kernel| kernel.to_str().expect("text").into_owned());
        assert_eq!(kernel.unwrap_or_default(), "", "{tag:04X?}");
    }
}

#[test]
fn words_of_the_trade_stay_whoever_is_called_alike() {
    for name in ["Head^Chest", "Long^Axial", "Lung^Soft", "Standard^Bone", "Primary^Original", "Derived"] {
        let words = ["HEAD", "CHEST", "LUNG", "STANDARD", "SOFT", "BONE", "AXIAL", "PRIMARY", "ORIGINAL", "DERIVED"];
        for (word, number) in words.iter().flat_map(|word| [(*word, "1"), (*word, *word)]) {
            for (tag, left) in labels_of((name, number), word) {
                assert_eq!(left, [word], "{tag} of {name}");
            }
        }
    }
    // Terms that the standard defines for the attribute.
    for (name, tag, vr, term) in [
        ("Hu^Wei", (0x0028, 0x1054), VR::LO, "HU"),
        ("No^Min", (0x0028, 0x0301), VR::CS, "NO"),
        ("Pt^Plan", (0x0008, 0x0060), VR::CS, "PT"),
        ("Palette^Color", (0x0028, 0x0004), VR::CS, "PALETTE COLOR"),
        ("Wedge^A", (0x0018, 0x1160), VR::SH, "WEDGE"),
    ] {
        assert_eq!(label_of((name, "1"), &[], text(tag, vr, term)), [term], "{name}");
    }
    // Other people's names are not searched by their words, nor are parts of words, particles, short numbers.
    for (name, number, value) in [
        ("Roesler^Jane", "1", "SIEMENS"),
        ("Roesler^Jane", "B30f", "B30f"),
        ("Tannhuber^Korbinian", "955", "TANNHUBERS"),
        ("van der Berg^Ida", "PID-955", "VAN DER"),
        ("Li^Wei", "PID-955", "LI 955"),
    ] {
        for (tag, left) in labels_of((name, number), value) {
            assert_eq!(left, [value], "{tag} of {name}");
        }
    }
    let mut object = ct([text((0x0008, 0x0090), VR::PN, "Siemens^Werner")]);
    object.put(text((0x0008, 0x0070), VR::LO, "SIEMENS"));
    let maker = cleaned(&object);
    assert_eq!(maker.element(tags::MANUFACTURER).expect("kept").to_str().expect("text"), "SIEMENS");
}
