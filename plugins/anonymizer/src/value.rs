//! Reading values as text, whatever VR they came under, without padding.

use dicom_core::value::{PrimitiveValue, Value};
use dicom_core::{DataElement, Tag, VR};
use dicom_object::InMemDicomObject;
use dicom_object::mem::InMemElement;

/// Any value of an in-memory data set.
pub type AnyValue = Value<InMemDicomObject, dicom_object::mem::InMemFragment>;

/// The single values as text without padding; empty for sequences. Bytes are read as ASCII with replacement.
pub fn texts(value: &AnyValue) -> Vec<String> {
    let Some(primitive) = value.primitive() else { return vec![] };
    let trim = |text: &str| text.trim_matches(|c: char| c.is_whitespace() || c == '\0').to_owned();
    match primitive {
        PrimitiveValue::U8(bytes) => String::from_utf8_lossy(bytes).split('\\').map(trim).collect(),
        other => other.to_multi_str().iter().map(|t| trim(t)).collect(),
    }
}

/// The first value as text, empty when there is none.
pub fn first_text(dataset: &InMemDicomObject, tag: Tag) -> String {
    dataset.get(tag).and_then(|e| texts(e.value()).into_iter().next()).unwrap_or_default()
}

/// Whether a value holds nothing but padding.
pub fn is_empty(value: &AnyValue) -> bool {
    match value {
        Value::Primitive(PrimitiveValue::Empty) => true,
        Value::Primitive(PrimitiveValue::Str(_) | PrimitiveValue::Strs(_)) => texts(value).iter().all(String::is_empty),
        Value::Primitive(primitive) => primitive.calculate_byte_len() == 0,
        Value::Sequence(sequence) => sequence.items().is_empty(),
        Value::PixelSequence(_) => false,
    }
}

/// An element of zero length.
pub fn emptied(tag: Tag, vr: VR) -> InMemElement {
    if vr == VR::SQ { crate::dummy::sequence(tag, vec![]) } else { DataElement::empty(tag, vr) }
}

/// Whether the characters of a kept value are possible for its VR. Only the VRs whose repertoire is narrow and whose
/// values are machine-made are checked: DS, IS (numbers).
pub fn is_possible(vr: VR, value: &AnyValue) -> bool {
    let number = |c: char| c.is_ascii_digit() || "+-.eE ".contains(c);
    match vr {
        VR::DS | VR::IS => texts(value).iter().all(|text| text.chars().all(number)),
        _ => true,
    }
}
