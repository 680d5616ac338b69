//! Every row of Table E.1-1: the outcome must be one that the table permits, and at every nesting level.

mod keyed;

use anonymizer::case::deidentify_case;
use anonymizer::profile::Profile;
use anonymizer::{dataset, dummy, value};
use dicom_core::dictionary::{DataDictionary, DataDictionaryEntry, VirtualVr};
use dicom_core::value::PrimitiveValue;
use dicom_core::{DataElement, Tag, VR};
use dicom_dictionary_std::{StandardDataDictionary, tags};
use dicom_object::InMemDicomObject;
use dicom_object::mem::InMemElement;

const CT: &str = "1.2.840.10008.5.1.4.1.1.2";
const PET: &str = "1.2.840.10008.5.1.4.1.1.128";
const ENHANCED_MR: &str = "1.2.840.10008.5.1.4.1.1.4.1";

/// A class whose IOD is not in the facts.
const RETIRED_NM: &str = "1.2.840.10008.5.1.4.1.1.5";

/// Rows that go although the table has a dummy or nothing stand in: validity needs companions (see `strays`).
const STRAYS: [Tag; 2] = [Tag(0x0040, 0x0512), Tag(0x0040, 0x0513)];

fn rows() -> Vec<(Tag, String)> {
    let csv = include_str!("../data/ps315_table_e1-1.csv");
    let header: Vec<&str> = csv.lines().next().expect("header").split(',').collect();
    let column = header.iter().position(|h| *h == "basic_profile").expect("column");
    let mut rows = Vec::new();
    for line in csv.lines().skip(1).filter(|l| l.starts_with('"') && !l.contains("xx,")) {
        let (tag, rest) = line[1..].split_once("\",").expect("tag");
        // The name is the only further field that may hold a comma.
        let rest = if let Some(quoted) = rest.strip_prefix('"') {
            quoted.split_once("\",").expect("name").1
        } else {
            rest.split_once(',').expect("name").1
        };
        let action = rest.split(',').nth(column - 2).expect("action").to_owned();
        rows.push((tag.parse().expect("tag"), action));
    }
    assert_eq!(rows.len(), 653);
    rows
}

fn vr_of(tag: Tag) -> VR {
    match StandardDataDictionary.by_tag(tag).map(DataDictionaryEntry::vr) {
        Some(VirtualVr::Exact(vr)) => vr,
        // Attributes younger than the dictionary.
        _ => VR::LO,
    }
}

fn planted(tag: Tag, vr: VR) -> InMemElement {
    let text = match vr {
        VR::SQ => {
            let reference = [
                dummy::text((0x0008, 0x1150), VR::UI, CT),
                dummy::text((0x0008, 0x1155), VR::UI, "1.2.3.4711.9"),
                dummy::text((0x0010, 0x0010), VR::PN, "Nested^Secret"),
                dummy::text((0x0040, 0xA160), VR::UT, "Nested secret"),
            ];
            return dummy::sequence(tag, vec![InMemDicomObject::from_element_iter(reference)]);
        }
        VR::UI => "1.2.3.4711",
        VR::DA => "20200131",
        VR::TM => "101112",
        VR::DT => "20200131101112",
        VR::AS => "097Y",
        VR::DS | VR::IS => "4711",
        VR::AE | VR::CS => "SECRET",
        VR::PN | VR::LO | VR::SH | VR::ST | VR::LT | VR::UT | VR::UC | VR::UR => "Secret",
        _ => return DataElement::new(tag, vr, PrimitiveValue::U8(b"Secret".as_slice().into())),
    };
    DataElement::new(tag, vr, PrimitiveValue::from(text))
}

fn base(class: &str) -> InMemDicomObject {
    InMemDicomObject::from_element_iter([
        dummy::text((0x0008, 0x0016), VR::UI, class),
        dummy::text((0x0008, 0x0018), VR::UI, "1.2.3.1"),
        dummy::text((0x0008, 0x0060), VR::CS, "CT"),
    ])
}

fn cleaned(object: &InMemDicomObject) -> InMemDicomObject {
    let bytes = dataset::write(object).expect("written");
    let profile = Profile::basic().expect("profile");
    let clean = deidentify_case(&[vec![&bytes]], profile, |r| keyed::service(1, r), |_, _| true).expect("cleaned");
    dataset::read(&clean.series[0][0]).expect("read")
}

/// What happened to the planted element.
fn outcome(tag: Tag, planted: &InMemElement, after: &InMemDicomObject) -> &'static str {
    let Some(element) = after.get(tag) else { return "X" };
    if value::is_empty(element.value()) {
        return "Z";
    }
    assert_ne!(element.value(), planted.value(), "{tag} is as it was");
    if element.items().is_some() {
        let bytes = format!("{element:?}");
        assert!(!bytes.contains("ecret") && !bytes.contains("4711"), "{tag}: {bytes}");
    }
    let before = value::texts(planted.value());
    let uid = |t: &str| t.starts_with("2.25.") && t != dummy::UID;
    match planted.vr() {
        VR::UI if value::texts(element.value()).iter().all(|t| uid(t)) && !before.is_empty() => "U",
        VR::SQ
            if element
                .items()
                .is_some_and(|i| i.iter().all(|i| uid(&value::first_text(i, tags::REFERENCED_SOP_INSTANCE_UID)))) =>
        {
            "U*"
        }
        _ => "D",
    }
}

#[test]
fn every_row_has_a_permitted_outcome() {
    let mut tried = 0;
    for class in [CT, PET, ENHANCED_MR, RETIRED_NM] {
        for (tag, action) in rows() {
            // Groups 0000 and 0002 cannot stand in a data set; the writer makes the file's head anew.
            if matches!(tag.group(), 0x0000 | 0x0002) {
                continue;
            }
            let element = planted(tag, vr_of(tag));
            let mut object = base(class);
            object.put(element.clone());
            let after = outcome(tag, &element, &cleaned(&object));
            let permitted: Vec<&str> = action.split('/').collect();
            // Z permits a dummy; a mapped UID or pseudonym is a dummy.
            let fits = permitted.iter().any(|p| match *p {
                "Z" => matches!(after, "Z" | "D" | "U" | "U*"),
                "D" => matches!(after, "D" | "U" | "U*"),
                p => p == after,
            });
            let stray = STRAYS.contains(&tag) && after == "X";
            assert!(fits || stray, "{tag} in {class}: `{action}` permits no {after}");
            tried += 1;
        }
    }
    println!("{tried} outcomes permitted");
    assert!(tried > 4 * 640);
}

#[test]
fn every_row_holds_inside_sequences_the_table_does_not_list() {
    let mut item = InMemDicomObject::new_empty();
    for (tag, _) in rows().into_iter().filter(|(tag, _)| !matches!(tag.group(), 0x0000 | 0x0002)) {
        item.put(planted(tag, vr_of(tag)));
    }
    // CT Exposure Sequence and Derivation Code Sequence by turns, four levels deep.
    let mut object = item.clone();
    for level in 0..4 {
        let sequence = if level % 2 == 0 { Tag(0x0018, 0x9321) } else { Tag(0x0008, 0x9215) };
        let mut outer = if level == 3 { base(CT) } else { item.clone() };
        outer.put(dummy::sequence(sequence, vec![object]));
        object = outer;
    }
    let before = dataset::write(&object).expect("written");
    let after = dataset::write(&cleaned(&object)).expect("written");
    for secret in ["ecret", "SECRET", "4711", "20200131", "101112", "097Y"] {
        let holds = |bytes: &[u8]| bytes.windows(secret.len()).any(|w| w == secret.as_bytes());
        assert!(holds(&before), "{secret} was not planted");
        assert!(!holds(&after), "{secret} is left");
    }
}

#[test]
fn private_unknown_and_repeating_groups_go() {
    let mut object = base(CT);
    let planted = [
        ((0x0009, 0x0010), VR::LO, "ACME SECRET"),
        ((0x0009, 0x1001), VR::LO, "Secret with creator"),
        ((0x0031, 0x1001), VR::PN, "Secret without creator"),
        ((0x0018, 0xFEDC), VR::LO, "Secret of the future"),
        ((0x0010, 0x9999), VR::UN, "Secret unknown"),
        ((0x5000, 0x2500), VR::LO, "Secret curve"),
        ((0x6002, 0x4000), VR::LT, "Secret overlay comment"),
        ((0x6002, 0x1500), VR::LO, "Secret overlay label"),
        ((0x601E, 0x3000), VR::OB, "Secret overlay data"),
        ((0xFFFC, 0xFFFC), VR::OB, "Secret padding"),
    ];
    for (tag, vr, text) in planted {
        let value = match vr {
            VR::OB | VR::UN => PrimitiveValue::U8(text.as_bytes().into()),
            _ => PrimitiveValue::from(text),
        };
        object.put(DataElement::new(Tag::from(tag), vr, value));
    }
    object.put(DataElement::new(Tag(0x0008, 0x0000), VR::UL, PrimitiveValue::from(42u32)));
    let after = cleaned(&object);
    for (tag, ..) in planted {
        assert!(after.get(Tag::from(tag)).is_none(), "{tag:04X?}");
    }
    assert!(after.get(Tag(0x0008, 0x0000)).is_none());
    let bytes = dataset::write(&after).expect("written");
    assert!(!bytes.windows(6).any(|w| w.eq_ignore_ascii_case(b"secret")));
}
