//! Dummy values: fixed, valid for their VR, the same for every patient, so that they say nothing.
//!
//! Text `REMOVED`; dates 1900-01-01, times midnight; age `000Y`; numbers 0; bytes two zeros; UIDs `2.25.0`, URI
//! `about:blank`. Sequences get one item with what their definition requires.

use dicom_core::value::{DataSetSequence, PrimitiveValue, Value};
use dicom_core::{DataElement, Length, Tag, VR};
use dicom_dictionary_std::tags;
use dicom_object::InMemDicomObject;
use dicom_object::mem::InMemElement;

/// The dummy of every text VR.
pub const TEXT: &str = "REMOVED";
/// The dummy of UI; mapped UIDs never take this value (theirs are version-8 UUIDs).
pub const UID: &str = "2.25.0";

const MPPS_CLASS: &str = "1.2.840.10008.3.1.2.3.3";

/// An element of `tag` with the dummy for `vr`.
pub fn element(tag: Tag, vr: VR) -> InMemElement {
    if vr == VR::SQ {
        return sequence(tag, vec![item(tag)]);
    }
    let value = match vr {
        VR::AE | VR::CS | VR::LO | VR::LT | VR::PN | VR::SH | VR::ST | VR::UC | VR::UT => PrimitiveValue::from(TEXT),
        VR::AS => PrimitiveValue::from("000Y"),
        VR::DA => PrimitiveValue::from("19000101"),
        VR::TM => PrimitiveValue::from("000000"),
        VR::DT => PrimitiveValue::from("19000101000000"),
        VR::DS | VR::IS => PrimitiveValue::from("0"),
        VR::UI => PrimitiveValue::from(UID),
        VR::UR => PrimitiveValue::from("about:blank"),
        VR::AT => PrimitiveValue::Tags([Tag(0, 0)].as_slice().into()),
        VR::FL | VR::OF => PrimitiveValue::from(0f32),
        VR::FD | VR::OD => PrimitiveValue::from(0f64),
        VR::SL => PrimitiveValue::from(0i32),
        VR::SS => PrimitiveValue::from(0i16),
        VR::SV => PrimitiveValue::from(0i64),
        VR::UL | VR::OL => PrimitiveValue::from(0u32),
        VR::US | VR::OW => PrimitiveValue::from(0u16),
        VR::UV | VR::OV => PrimitiveValue::from(0u64),
        _ => PrimitiveValue::U8([0u8, 0u8].as_slice().into()),
    };
    DataElement::new(tag, vr, value)
}

/// A sequence element of these items, of undefined length.
pub fn sequence(tag: Tag, items: Vec<InMemDicomObject>) -> InMemElement {
    DataElement::new(tag, VR::SQ, Value::Sequence(DataSetSequence::new(items, Length::UNDEFINED)))
}

/// A text element.
pub fn text(tag: impl Into<Tag>, vr: VR, value: &str) -> InMemElement {
    DataElement::new(tag.into(), vr, PrimitiveValue::from(value))
}

/// A code: value, scheme, meaning.
pub fn code(value: &str, scheme: &str, meaning: &str) -> InMemDicomObject {
    InMemDicomObject::from_element_iter([
        text(tags::CODE_VALUE, VR::SH, value),
        text(tags::CODING_SCHEME_DESIGNATOR, VR::SH, scheme),
        text(tags::CODE_MEANING, VR::LO, meaning),
    ])
}

/// The dummy code, of a scheme of Gantry's own.
pub fn removed_code() -> InMemDicomObject {
    code(TEXT, "99GANTRY", TEXT)
}

/// One item that satisfies the definition of sequence `tag`; an empty item where the definition requires nothing.
fn item(tag: Tag) -> InMemDicomObject {
    let elements = match (tag.group(), tag.element()) {
        // Institution Code Sequence, Person Identification Code Sequence
        (0x0008, 0x0082) | (0x0040, 0x1101) => return removed_code(),
        // Operator Identification Sequence
        (0x0008, 0x1072) => {
            vec![sequence(Tag(0x0040, 0x1101), vec![removed_code()]), text((0x0008, 0x0080), VR::LO, TEXT)]
        }
        // Referenced Performed Procedure Step Sequence
        (0x0008, 0x1111) => {
            vec![text((0x0008, 0x1150), VR::UI, MPPS_CLASS), text((0x0008, 0x1155), VR::UI, UID)]
        }
        // Flow Identifier Sequence
        (0x0034, 0x0001) => vec![element(Tag(0x0034, 0x0002), VR::OB)],
        // Verifying Observer Sequence
        (0x0040, 0xA073) => vec![
            text((0x0040, 0xA027), VR::LO, TEXT),
            element(Tag(0x0040, 0xA030), VR::DT),
            text((0x0040, 0xA075), VR::PN, TEXT),
            sequence(Tag(0x0040, 0xA088), vec![]),
        ],
        // Content Sequence: a comment
        (0x0040, 0xA730) => vec![
            text((0x0040, 0xA010), VR::CS, "CONTAINS"),
            text((0x0040, 0xA040), VR::CS, "TEXT"),
            sequence(Tag(0x0040, 0xA043), vec![code("121106", "DCM", "Comment")]),
            text((0x0040, 0xA160), VR::UT, TEXT),
        ],
        // Waveform Annotation Sequence
        (0x0040, 0xB020) => vec![
            text((0x0070, 0x0006), VR::ST, TEXT),
            DataElement::new(Tag(0x0040, 0xA0B0), VR::US, PrimitiveValue::U16([1u16, 0u16].as_slice().into())),
        ],
        // Graphic Annotation Sequence: a text at the corner
        (0x0070, 0x0001) => vec![
            text((0x0070, 0x0002), VR::CS, TEXT),
            sequence(
                Tag(0x0070, 0x0008),
                vec![InMemDicomObject::from_element_iter([
                    text((0x0070, 0x0004), VR::CS, "PIXEL"),
                    text((0x0070, 0x0006), VR::ST, TEXT),
                    DataElement::new(Tag(0x0070, 0x0014), VR::FL, PrimitiveValue::F32([1.0, 1.0].as_slice().into())),
                    text((0x0070, 0x0015), VR::CS, "N"),
                ])],
            ),
        ],
        _ => vec![],
    };
    InMemDicomObject::from_element_iter(elements)
}
