//! Explicit VR Little Endian data sets without preamble, file meta and pixels: the form in which headers travel.
//!
//! Text is decoded under its SpecificCharacterSet and encoded again under the same. Where its bytes are none of that
//! character set, or where code extensions (ISO 2022) are in use, they are taken byte for byte instead, so that text that
//! stays is never garbled.

use crate::dummy;
use crate::layout::{self, MAX_DEPTH};
use crate::refusal::Refusal;
use crate::value;
use dicom_core::value::{PrimitiveValue, Value};
use dicom_core::{DataElement, Tag, VR};
use dicom_dictionary_std::tags;
use dicom_object::InMemDicomObject;
use dicom_transfer_syntax_registry::entries::{EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN};

/// Reads a data set.
///
/// # Errors
/// `too-deep`, `bad-headers`; the parser's own message is not passed on, since it may quote values.
pub fn read(bytes: &[u8]) -> Result<InMemDicomObject, Refusal> {
    layout::walk(bytes, |_, _, _| ())?;
    let mut object = parse(bytes)?;
    if holds_escapes(&object) {
        object = parse(&without_character_sets(bytes)?)?;
        restore_character_sets(&mut object);
    }
    open_unknown_sequences(&mut object, 0);
    Ok(object)
}

/// Writes a data set; text is encoded under its SpecificCharacterSet.
///
/// # Errors
/// `bad-headers`: a text that its character set cannot hold.
pub fn write(dataset: &InMemDicomObject) -> Result<Vec<u8>, Refusal> {
    let mut bytes = Vec::new();
    dataset
        .write_dataset_with_ts(&mut bytes, &EXPLICIT_VR_LITTLE_ENDIAN.erased())
        .map_err(|_| Refusal::new("bad-headers", "the cleaned headers cannot be written under their character set"))?;
    Ok(bytes)
}

fn parse(bytes: &[u8]) -> Result<InMemDicomObject, Refusal> {
    InMemDicomObject::read_dataset_with_ts(bytes, &EXPLICIT_VR_LITTLE_ENDIAN.erased())
        .map_err(|_| Refusal::new("bad-headers", "the headers are not a readable Explicit VR Little Endian data set"))
}

/// Makes sequences of the dictionary that came as UN (converters write it for what they do not know) sequences again,
/// where their bytes are items in Implicit VR Little Endian. What is none stays UN, and later goes.
fn open_unknown_sequences(dataset: &mut InMemDicomObject, depth: usize) {
    if depth > MAX_DEPTH {
        return;
    }
    let unknown = |vr: VR, tag: Tag| vr == VR::UN && value::dictionary_vr(tag) == Some(VR::SQ);
    let (mut closed, mut open) = (Vec::new(), Vec::new());
    for element in dataset.iter() {
        let tag = element.header().tag;
        match element.vr() {
            VR::SQ => open.push(tag),
            vr if unknown(vr, tag) => closed.push(tag),
            _ => {}
        }
    }
    for tag in closed {
        let Some(element) = dataset.take(tag) else { continue };
        let items = match element.value() {
            Value::Primitive(PrimitiveValue::U8(bytes)) => implicit_items(tag, bytes),
            Value::Sequence(sequence) => Some(sequence.items().to_vec()),
            _ => None,
        };
        dataset.put(items.map_or(element, |items| dummy::sequence(tag, items)));
        open.push(tag);
    }
    for tag in open {
        dataset.update_value(tag, |value| {
            value.items_mut().into_iter().flatten().for_each(|item| open_unknown_sequences(item, depth + 1));
        });
    }
}

fn implicit_items(tag: Tag, bytes: &[u8]) -> Option<Vec<InMemDicomObject>> {
    let mut element = Vec::with_capacity(bytes.len() + 8);
    element.extend(tag.group().to_le_bytes());
    element.extend(tag.element().to_le_bytes());
    element.extend(u32::try_from(bytes.len()).ok()?.to_le_bytes());
    element.extend(bytes);
    layout::walk_implicit(&element).ok()?;
    let syntax = IMPLICIT_VR_LITTLE_ENDIAN.erased();
    let mut wrapped = InMemDicomObject::read_dataset_with_ts(element.as_slice(), &syntax).ok()?;
    wrapped.take(tag)?.into_value().into_items().map(|items| items.into_vec())
}

/// Whether a text holds what the decoder writes for a byte above 127 that is none of the character set: `\351`.
fn holds_escapes(dataset: &InMemDicomObject) -> bool {
    let escaped = |text: &str| {
        text.match_indices('\\')
            .any(|(at, _)| matches!(text.as_bytes().get(at + 1..at + 4), Some([b'2' | b'3', b'0'..=b'7', b'0'..=b'7'])))
    };
    dataset.iter().any(|element| match element.value().primitive() {
        Some(PrimitiveValue::Str(text)) => escaped(text),
        Some(PrimitiveValue::Strs(texts)) => texts.iter().any(|text| escaped(text)),
        Some(_) => false,
        None => element.items().is_some_and(|items| items.iter().any(holds_escapes)),
    })
}

/// The same data set with every SpecificCharacterSet, at every level, as VR LO: so the decoder does not act on it and takes
/// each byte for a character.
fn without_character_sets(bytes: &[u8]) -> Result<Vec<u8>, Refusal> {
    let mut hidden = bytes.to_vec();
    layout::walk(bytes, |at, tag, vr| {
        if tag == tags::SPECIFIC_CHARACTER_SET
            && vr == *b"CS"
            && let Some(found) = hidden.get_mut(at + 4..at + 6)
        {
            found.copy_from_slice(b"LO");
        }
    })?;
    Ok(hidden)
}

/// Puts SpecificCharacterSet back, as bytes: the encoder does not act on those.
fn restore_character_sets(dataset: &mut InMemDicomObject) {
    if let Some(element) = dataset.take(tags::SPECIFIC_CHARACTER_SET) {
        let mut text = element.value().primitive().map(PrimitiveValue::to_raw_str).unwrap_or_default().into_owned();
        if text.len() % 2 == 1 {
            text.push(' ');
        }
        dataset.put(DataElement::new(tags::SPECIFIC_CHARACTER_SET, VR::CS, PrimitiveValue::U8(text.bytes().collect())));
    }
    let sequences: Vec<Tag> = dataset.iter().filter(|e| e.vr() == VR::SQ).map(|e| e.header().tag).collect();
    for tag in sequences {
        dataset.update_value(tag, |value| {
            value.items_mut().into_iter().flatten().for_each(restore_character_sets);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A data set with these bytes as Manufacturer and as ManufacturerModelName.
    fn with_bytes(charset: &str, text: &[u8]) -> Vec<u8> {
        let raw = |tag| DataElement::new(tag, VR::LO, PrimitiveValue::U8(text.iter().copied().collect()));
        let item = InMemDicomObject::from_element_iter([
            dummy::text((0x0008, 0x0005), VR::CS, "ISO_IR 100"),
            raw(tags::MANUFACTURER_MODEL_NAME),
        ]);
        let object = InMemDicomObject::from_element_iter([
            dummy::text((0x0008, 0x0005), VR::CS, charset),
            raw(tags::MANUFACTURER),
            dummy::sequence(Tag(0x0018, 0x9321), vec![item]),
            raw(Tag(0x0018, 0x9423)),
        ]);
        write(&object).expect("written")
    }

    #[test]
    fn bytes_of_kept_text_come_back_whatever_the_character_set_says() {
        for (charset, text) in [
            ("ISO_IR 100", &b"M\xfcller"[..]),
            ("ISO_IR 192", "Müller 患者".as_bytes()),
            ("ISO_IR 192", b"M\xfcller is no UTF-8"),
            ("\\ISO 2022 IR 149", b"\x1b$)C\xb1\xe8\xc8\xf1\xc1\xdf"),
            ("ISO_IR 149", b"\xff\xfe no Korean"),
            ("\\ISO 2022 IR 87", b"\x1b$B;3ED\x1b(J \x1b$B\x42\x40\x4f\x3a\x1b(B"),
            ("ISO 2022 IR 13\\ISO 2022 IR 87", b"\xd4\xcf\xc0\xde \x1b$B;3ED\x1b(J"),
            ("GB18030", b"\xcd\xf5\xd0\xa1\xb6\xab"),
            ("GB18030", b"\xff\xff"),
            ("GBK", b"\xcd\xf5"),
            ("ISO_IR 101", b"\xa1\x80"),
            ("ISO_IR 109", b"\xa5"),
            ("NONSENSE", b"\xe9"),
        ] {
            let bytes = with_bytes(charset, text);
            let object = read(&bytes).expect("read");
            let again = write(&object).expect("written");
            assert!(bytes == again, "{charset}: {bytes:02x?}\n{again:02x?}");
            assert_eq!(
                value::texts(object.get(tags::SPECIFIC_CHARACTER_SET).expect("set").value()).join("\\"),
                charset
            );
        }
    }

    #[test]
    fn sequences_that_came_as_un_are_opened() {
        let item = InMemDicomObject::from_element_iter([
            dummy::text((0x0008, 0x1150), VR::UI, "1.2.840.10008.5.1.4.1.1.481.5"),
            dummy::text((0x0008, 0x1155), VR::UI, "1.2.3"),
            dummy::sequence(Tag(0x300C, 0x0020), vec![dummy::code("1", "DCM", "One")]),
        ]);
        let tag = Tag(0x300C, 0x0002);
        let whole = InMemDicomObject::from_element_iter([dummy::sequence(tag, vec![item])]);
        let mut implicit = Vec::new();
        whole.write_dataset_with_ts(&mut implicit, &IMPLICIT_VR_LITTLE_ENDIAN.erased()).expect("written");
        let unknown = |tag, bytes: &[u8]| DataElement::new(tag, VR::UN, PrimitiveValue::U8(bytes.into()));
        let object = InMemDicomObject::from_element_iter([
            unknown(tag, &implicit[8..]),
            unknown(Tag(0x300C, 0x0004), b"no item"),
        ]);
        let read = read(&write(&object).expect("written")).expect("read");
        let items = read.get(tag).and_then(|e| e.items()).expect("items");
        assert_eq!(value::first_text(&items[0], tags::REFERENCED_SOP_INSTANCE_UID), "1.2.3");
        assert!(items[0].get(Tag(0x300C, 0x0020)).and_then(|e| e.items()).is_some());
        assert_eq!(read.get(Tag(0x300C, 0x0004)).map(|e| e.vr()), Some(VR::UN));
    }

    #[test]
    fn text_is_decoded_where_it_can_be() {
        let object = read(&with_bytes("ISO_IR 192", "Müller".as_bytes())).expect("read");
        assert_eq!(value::first_text(&object, tags::MANUFACTURER), "Müller");
    }
}
