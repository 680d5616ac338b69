//! [`each_element`]: every value of a data set as its bytes stand there, at every depth, with the place it stands at.
//!
//! Nothing is decoded and nothing is copied, so what a parser would mend or lose is seen too. Any bytes may be given: what is no
//! data set ends the walk, which then says so.

use dicom_core::dictionary::{DataDictionary, DataDictionaryEntry};
use dicom_core::{Tag, VR};
use dicom_dictionary_std::{StandardDataDictionary, tags};

use super::guard::{Encoding, MAX_DEPTH};

const ITEM: Tag = Tag(0xFFFE, 0xE000);
const ITEM_END: Tag = Tag(0xFFFE, 0xE00D);
const SEQUENCE_END: Tag = Tag(0xFFFE, 0xE0DD);
const UNDEFINED: u32 = u32::MAX;

/// One value and where it stands.
pub struct Element<'b, 'p> {
    /// Tags of the sequences around it, each followed by the number of the item in it, outermost first.
    pub path: &'p [u32],
    /// Its tag.
    pub tag: Tag,
    /// Its value representation; by the dictionary where the data set does not say it.
    pub vr: VR,
    /// Its bytes, padding included.
    pub value: &'b [u8],
}

struct Open {
    item: bool,
    end: usize,
    implicit: bool,
    items: u32,
}

/// A tag as one number.
pub fn number(tag: Tag) -> u32 {
    u32::from(tag.group()) << 16 | u32::from(tag.element())
}

/// Calls `see` with every value but those of sequences, in the order of the file, up to encapsulated pixel data. False if
/// the walk met what is no data set; what stood before it has been seen.
pub fn each_element<'b>(bytes: &'b [u8], encoding: Encoding, see: &mut dyn FnMut(Element<'b, '_>)) -> bool {
    let mut open: Vec<Open> = Vec::new();
    let mut path: Vec<u32> = Vec::new();
    let mut at = 0;
    loop {
        while open.last().is_some_and(|top| at >= top.end) {
            open.pop();
            path.pop();
        }
        if at >= bytes.len() {
            return open.is_empty() || open.iter().all(|o| o.end == bytes.len());
        }
        let limit = open.last().map_or(bytes.len(), |o| o.end);
        let implicit = open.last().map_or(!encoding.explicit, |o| o.implicit);
        let Some(header) = Header::read(bytes, at, encoding, implicit) else {
            // Zeros after the last element are padding.
            return open.is_empty() && bytes[at..].iter().all(|&b| b == 0);
        };
        let inside = at + header.size;
        let reach = |length: u32| match length {
            UNDEFINED => Some(limit),
            length => inside.checked_add(length as usize).filter(|&end| end <= limit),
        };
        let Some(end) = reach(header.length) else { return false };
        match header.tag {
            ITEM if open.last().is_some_and(|o| !o.item) => {
                let number = open.last_mut().map_or(0, |o| {
                    o.items += 1;
                    o.items - 1
                });
                open.push(Open { item: true, end, implicit, items: 0 });
                path.push(number);
                at = inside;
            }
            ITEM_END if open.last().is_some_and(|o| o.item) => {
                open.pop();
                path.pop();
                at = inside;
            }
            SEQUENCE_END if open.last().is_some_and(|o| !o.item) => {
                open.pop();
                path.pop();
                at = inside;
            }
            tag if tag.group() == 0xFFFE => return false,
            tags::PIXEL_DATA if header.length == UNDEFINED => return open.is_empty(),
            tag if header.vr == VR::SQ || header.length == UNDEFINED => {
                if open.len() / 2 >= MAX_DEPTH {
                    return false;
                }
                // What an element of unknown kind and undefined length holds has no kinds (PS3.5 6.2.2).
                open.push(Open { item: false, end, implicit: implicit || header.vr == VR::UN, items: 0 });
                path.push(number(tag));
                at = inside;
            }
            tag => {
                let value = bytes.get(inside..end).unwrap_or(&[]);
                see(Element { path: &path, tag, vr: header.vr, value });
                at = end;
            }
        }
    }
}

struct Header {
    tag: Tag,
    vr: VR,
    length: u32,
    size: usize,
}

impl Header {
    fn read(bytes: &[u8], at: usize, encoding: Encoding, implicit: bool) -> Option<Header> {
        let part = |from: usize| bytes.get(at + from..at + from + 2)?.try_into().ok().map(|b| encoding.u16(b));
        let long = |from: usize| bytes.get(at + from..at + from + 4)?.try_into().ok().map(|b| encoding.u32(b));
        let tag = Tag(part(0)?, part(2)?);
        if tag.group() == 0xFFFE {
            return Some(Header { tag, vr: VR::UN, length: long(4)?, size: 8 });
        }
        if implicit {
            let known = StandardDataDictionary.by_tag(tag).map(|entry| entry.vr().relaxed());
            return Some(Header { tag, vr: known.unwrap_or(VR::UN), length: long(4)?, size: 8 });
        }
        let vr = VR::from_binary(bytes.get(at + 4..at + 6)?.try_into().ok()?)?;
        let wide = matches!(
            vr,
            VR::OB
                | VR::OD
                | VR::OF
                | VR::OL
                | VR::OV
                | VR::OW
                | VR::SQ
                | VR::UC
                | VR::UN
                | VR::UR
                | VR::UT
                | VR::SV
                | VR::UV
        );
        match wide {
            true => Some(Header { tag, vr, length: long(8)?, size: 12 }),
            false => Some(Header { tag, vr, length: u32::from(part(6)?), size: 8 }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dicom_core::value::{DataSetSequence, PrimitiveValue, Value};
    use dicom_core::{DataElement, Length};
    use dicom_object::InMemDicomObject;
    use dicom_transfer_syntax_registry::entries::{EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN};

    fn nested() -> InMemDicomObject {
        let name = |text: &str| DataElement::new(Tag(0x0010, 0x0010), VR::PN, PrimitiveValue::from(text));
        let item = |text: &str| InMemDicomObject::from_element_iter([name(text)]);
        let sequence = |length| {
            let items = vec![item("In^First"), item("In^Second")];
            DataElement::new(Tag(0x0008, 0x1140), VR::SQ, Value::Sequence(DataSetSequence::new(items, length)))
        };
        InMemDicomObject::from_element_iter([name("Top^Name"), sequence(Length::UNDEFINED)])
    }

    fn walked(bytes: &[u8], encoding: Encoding) -> (Vec<(Vec<u32>, String)>, bool) {
        let mut seen = Vec::new();
        let whole = each_element(bytes, encoding, &mut |e| {
            seen.push((e.path.to_vec(), String::from_utf8_lossy(e.value).trim().to_owned()));
        });
        (seen, whole)
    }

    #[test]
    fn values_of_every_depth_have_their_place_in_both_encodings() {
        let wanted = vec![
            (vec![0x0008_1140, 0], "In^First".to_owned()),
            (vec![0x0008_1140, 1], "In^Second".to_owned()),
            (vec![], "Top^Name".to_owned()),
        ];
        let mut explicit = Vec::new();
        nested().write_dataset_with_ts(&mut explicit, &EXPLICIT_VR_LITTLE_ENDIAN.erased()).unwrap();
        assert_eq!(walked(&explicit, Encoding { explicit: true, big_endian: false }), (wanted.clone(), true));
        let mut implicit = Vec::new();
        nested().write_dataset_with_ts(&mut implicit, &IMPLICIT_VR_LITTLE_ENDIAN.erased()).unwrap();
        assert_eq!(walked(&implicit, Encoding { explicit: false, big_endian: false }), (wanted, true));
        for cut in 1..explicit.len() {
            // Nothing panics, and a data set cut inside an element does not pass for a whole one.
            walked(&explicit[..cut], Encoding { explicit: true, big_endian: false });
        }
        let (_, whole) = walked(&explicit[..explicit.len() - 3], Encoding { explicit: true, big_endian: false });
        assert!(!whole);
    }
}
