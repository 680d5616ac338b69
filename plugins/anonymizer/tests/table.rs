//! Every row of Table E.1-1: the outcome must be one that the table permits, and at every nesting level.

mod planted;

use anonymizer::case::deidentify_case;
use anonymizer::profile::Profile;
use anonymizer::{dataset, dummy, value};
use dicom_core::value::PrimitiveValue;
use dicom_core::{DataElement, Tag, VR};
use dicom_dictionary_std::tags;
use dicom_object::InMemDicomObject;
use dicom_object::mem::InMemElement;
use planted::{CT, SECRETS, STRAYS, base, is_mapped, keyed, planted, rows, vr_of};

const PET: &str = "1.2.840.10008.5.1.4.1.1.128";
const ENHANCED_MR: &str = "1.2.840.10008.5.1.4.1.1.4.1";

/// A class whose IOD is not in the facts.
const RETIRED_NM: &str = "1.2.840.10008.5.1.4.1.1.5";

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
        let bytes = format!("{element:?}").to_lowercase();
        assert!(SECRETS.iter().all(|secret| !bytes.contains(secret)), "{tag}: {bytes}");
    }
    let before = value::texts(planted.value());
    match planted.vr() {
        VR::UI if value::texts(element.value()).iter().all(|t| is_mapped(t)) && !before.is_empty() => "U",
        VR::SQ
            if element.items().is_some_and(|i| {
                i.iter().all(|i| is_mapped(&value::first_text(i, tags::REFERENCED_SOP_INSTANCE_UID)))
            }) =>
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
        for row in rows() {
            let Some(tag) = row.plantable() else { continue };
            let element = planted(tag, vr_of(tag));
            let mut object = base(class);
            object.put(element.clone());
            let after = outcome(tag, &element, &cleaned(&object));
            let permitted: Vec<&str> = row.basic.split('/').collect();
            // Z permits a dummy; a mapped UID or pseudonym is a dummy.
            let fits = permitted.iter().any(|p| match *p {
                "Z" => matches!(after, "Z" | "D" | "U" | "U*"),
                "D" => matches!(after, "D" | "U" | "U*"),
                p => p == after,
            });
            let stray = STRAYS.contains(&tag) && after == "X";
            assert!(fits || stray, "{tag} in {class}: `{}` permits no {after}", row.basic);
            tried += 1;
        }
    }
    println!("{tried} outcomes permitted");
    assert!(tried > 4 * 640);
}

#[test]
fn every_row_holds_inside_sequences_the_table_does_not_list() {
    let mut item = InMemDicomObject::new_empty();
    for tag in rows().iter().filter_map(planted::Row::plantable) {
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
    for secret in SECRETS {
        let holds = |bytes: &[u8]| bytes.windows(secret.len()).any(|w| w.eq_ignore_ascii_case(secret.as_bytes()));
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
