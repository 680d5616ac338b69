//! Reading values as text, whatever VR they came under, without padding.

use dicom_core::dictionary::{DataDictionary, DataDictionaryEntry, VirtualVr};
use dicom_core::value::{PrimitiveValue, Value};
use dicom_core::{DataElement, Tag, VR};
use dicom_dictionary_std::StandardDataDictionary;
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
    dataset.get(tag).map(first_text_of).unwrap_or_default()
}

/// The first value of an element as text, empty when there is none.
pub fn first_text_of(element: &InMemElement) -> String {
    texts(element.value()).into_iter().next().unwrap_or_default()
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

/// Whether a kept value is possible for its VR. Numbers and UIDs must be some; labels may be longer than the standard
/// allows, because many are, but not so long that they are something else.
pub fn is_possible(vr: VR, value: &AnyValue) -> bool {
    let all = |possible: fn(&str) -> bool| texts(value).iter().all(|text| text.is_empty() || possible(text));
    match vr {
        VR::DS => all(|text| text.len() <= 32 && text.trim().parse::<f64>().is_ok() && digits(text) <= 24),
        VR::IS => all(|text| {
            // Some write decimals here.
            let decimal = || text.contains('.') && digits(text) <= 9 && text.trim().parse::<f64>().is_ok();
            text.trim().trim_start_matches('+').parse::<i32>().is_ok() || decimal()
        }),
        VR::UI => all(is_uid),
        // A name has these, a code string has none of them.
        VR::CS => all(|text| text.len() <= 64 && !text.contains(['^', '=', '@', ','])),
        VR::SH => all(|text| text.chars().count() <= 64),
        VR::LO => all(|text| text.chars().count() <= 256),
        _ => true,
    }
}

fn digits(text: &str) -> usize {
    text.bytes().filter(u8::is_ascii_digit).count()
}

/// Digits and points, at most 64.
pub fn is_uid(text: &str) -> bool {
    text.len() <= 64 && text.bytes().all(|b| b.is_ascii_digit() || b == b'.')
}

/// Gives a public element that came as UN its dictionary VR, where the bytes prove to be possible for it: UIDs, code
/// strings, short labels and numbers. Converters write UN for all they do not know. Prose, names and dates under UN are
/// left as they are (and later go).
pub fn retyped(element: InMemElement) -> InMemElement {
    let tag = element.header().tag;
    let Some(vr) = dictionary_vr(tag).filter(|vr| element.vr() == VR::UN && *vr != VR::SQ) else { return element };
    let value = match element.value() {
        Value::Primitive(PrimitiveValue::U8(bytes)) => typed(vr, bytes),
        Value::Primitive(PrimitiveValue::Empty) => Some(PrimitiveValue::Empty),
        _ => None,
    };
    match value {
        Some(value) => DataElement::new(tag, vr, value),
        None => element,
    }
}

/// An element that came as UN under a VR that it is known to have, where the bytes prove to be possible for it.
pub fn typed_as(element: &InMemElement, vr: VR) -> Option<InMemElement> {
    match element.value() {
        Value::Primitive(PrimitiveValue::U8(bytes)) => {
            typed(vr, bytes).map(|value| DataElement::new(element.header().tag, vr, value))
        }
        _ => None,
    }
}

fn typed(vr: VR, bytes: &[u8]) -> Option<PrimitiveValue> {
    let text = |possible: fn(u8) -> bool| {
        let text = std::str::from_utf8(bytes).ok()?.trim_end_matches(['\0', ' ']);
        let plain = text.bytes().all(|b| b == b'\\' || possible(b));
        plain.then(|| PrimitiveValue::Strs(text.split('\\').map(str::to_owned).collect()))
    };
    macro_rules! numbers {
        ($number:ty, $variant:ident) => {{
            const SIZE: usize = size_of::<$number>();
            let (chunks, rest) = bytes.as_chunks::<SIZE>();
            rest.is_empty()
                .then(|| PrimitiveValue::$variant(chunks.iter().map(|c| <$number>::from_le_bytes(*c)).collect()))
        }};
    }
    if bytes.is_empty() {
        return Some(PrimitiveValue::Empty);
    }
    match vr {
        VR::UI => text(|b| b.is_ascii_digit() || b == b'.'),
        VR::CS => text(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b' ' || b == b'_'),
        VR::DS | VR::IS => text(|b| b.is_ascii_digit() || b"+-.eE ".contains(&b)),
        VR::LO if bytes.len() <= 64 => text(|b| (0x20..0x7f).contains(&b)),
        VR::SH if bytes.len() <= 16 => text(|b| (0x20..0x7f).contains(&b)),
        VR::AT => {
            let (chunks, rest) = bytes.as_chunks::<4>();
            let tag = |c: &[u8; 4]| Tag(u16::from_le_bytes([c[0], c[1]]), u16::from_le_bytes([c[2], c[3]]));
            rest.is_empty().then(|| PrimitiveValue::Tags(chunks.iter().map(tag).collect()))
        }
        VR::US => numbers!(u16, U16),
        VR::SS => numbers!(i16, I16),
        VR::UL => numbers!(u32, U32),
        VR::SL => numbers!(i32, I32),
        VR::FL => numbers!(f32, F32),
        VR::FD => numbers!(f64, F64),
        _ => None,
    }
}

/// The dictionary's VR of an attribute, where it is certain.
pub fn dictionary_vr(tag: Tag) -> Option<VR> {
    match StandardDataDictionary.by_tag(tag).map(DataDictionaryEntry::vr) {
        Some(VirtualVr::Exact(vr)) => Some(vr),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unknown(tag: (u16, u16), bytes: &[u8]) -> InMemElement {
        DataElement::new(Tag::from(tag), VR::UN, PrimitiveValue::U8(bytes.into()))
    }

    #[test]
    fn what_came_as_un_is_typed_where_the_bytes_allow_it() {
        let rows = retyped(unknown((0x0028, 0x0010), &[0, 2]));
        assert_eq!((rows.vr(), rows.to_int::<u16>().ok()), (VR::US, Some(512)));
        let class = retyped(unknown((0x0008, 0x0016), b"1.2.840.10008.5.1.4.1.1.2\0"));
        assert_eq!((class.vr(), texts(class.value())), (VR::UI, vec!["1.2.840.10008.5.1.4.1.1.2".to_owned()]));
        let image_type = retyped(unknown((0x0008, 0x0008), b"ORIGINAL\\PRIMARY"));
        assert_eq!(texts(image_type.value()), ["ORIGINAL", "PRIMARY"]);
        let pointer = retyped(unknown((0x0028, 0x0009), &[0x18, 0x00, 0x63, 0x10]));
        assert_eq!(pointer.value().to_tag().ok(), Some(Tag(0x0018, 0x1063)));
        let thickness = retyped(DataElement::empty(Tag(0x0018, 0x0050), VR::UN));
        assert_eq!(thickness.vr(), VR::DS);
        let maker = retyped(unknown((0x0008, 0x0070), b"Maker "));
        assert_eq!((maker.vr(), texts(maker.value())), (VR::LO, vec!["Maker".to_owned()]));
        let kvp = retyped(unknown((0x0018, 0x0060), b"120 "));
        assert_eq!((kvp.vr(), texts(kvp.value())), (VR::DS, vec!["120".to_owned()]));
    }

    #[test]
    fn what_is_impossible_or_prose_stays_unknown() {
        for (tag, bytes) in [
            ((0x0028, 0x0010), &b"abc"[..]),
            ((0x0008, 0x0016), b"John Smith"),
            ((0x0008, 0x0060), b"Smith^John"),
            ((0x0018, 0x0060), b"Smith"),
            ((0x0040, 0x0400), b"Comment"),
            ((0x0008, 0x0070), b"M\xc3\xbcller"),
            ((0x0018, 0xFEDC), b"12"),
        ] {
            assert_eq!(retyped(unknown(tag, bytes)).vr(), VR::UN, "{tag:04X?}");
        }
    }
}
