//! [`Values`]: what stands in a data set, and which texts that are, as their bytes stand there.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};

use dicom_core::{Tag, VR};
use dicom_dictionary_std::tags;
use dicom_encoding::text::{SpecificCharacterSet, TextCodec};

use super::elements::{Element, each_element};
use super::guard::Encoding;

/// Longer texts are known by their beginning and their end.
pub const LONGEST: usize = 64;
/// What is known of a longer text at each end.
pub const END: usize = 48;
/// Opaque bytes that are text throughout are taken apart up to this length; of longer ones the two ends are known.
const OPAQUE: usize = 4096;

/// Where an element stands: its path and its tag.
pub type Place = (Vec<u32>, Tag);

/// What the walk over a data set gives. No data set may hold a tag twice, but one may; then each of them counts.
#[derive(Default)]
pub struct Values<'b> {
    first: HashMap<Place, (VR, &'b [u8])>,
    again: HashMap<Place, HashSet<(VR, &'b [u8])>>,
}

impl<'b> Values<'b> {
    /// Every place where something stands, in no order.
    pub fn places(&self) -> impl Iterator<Item = &Place> {
        self.first.keys()
    }

    /// What stands at one place.
    pub fn at(&self, place: &Place) -> impl Iterator<Item = (VR, &'b [u8])> {
        self.first.get(place).into_iter().chain(self.again.get(place).into_iter().flatten()).copied()
    }

    /// Whether this stands at a place.
    pub fn holds(&self, place: &Place, value: (VR, &[u8])) -> bool {
        self.first.get(place) == Some(&value) || self.again.get(place).is_some_and(|all| all.contains(&value))
    }

    /// Everything with its place, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&Place, (VR, &'b [u8]))> {
        self.places().flat_map(|place| self.at(place).map(move |value| (place, value)))
    }

    /// The texts that stand at one place.
    pub fn texts(&self, place: &Place) -> HashSet<&'b [u8]> {
        self.at(place).filter_map(|(vr, value)| parts(place.1, vr, value)).flatten().collect()
    }
}

const EDGE: Encoding = Encoding { explicit: true, big_endian: false };

/// Reads a data set, Explicit VR Little Endian; `None` if it is none.
pub fn values(bytes: &[u8]) -> Option<Values<'_>> {
    let mut all = Values::default();
    let whole = each_element(bytes, EDGE, &mut |e: Element| {
        let (place, value) = ((e.path.to_vec(), e.tag), (e.vr, e.value));
        match all.first.entry(place) {
            Entry::Vacant(place) => {
                place.insert(value);
            }
            Entry::Occupied(place) => {
                all.again.entry(place.key().clone()).or_default().insert(value);
            }
        }
    });
    whole.then_some(all)
}

/// The character set of a data set.
pub struct Charset(Vec<SpecificCharacterSet>);

impl Charset {
    /// Of a data set.
    pub fn of(values: &Values) -> Charset {
        let place = (Vec::new(), tags::SPECIFIC_CHARACTER_SET);
        let codes = values.at(&place).flat_map(|(_, code)| code.split(|&b| b == b'\\'));
        let codes = codes.map(trimmed).filter(|c| !c.is_empty());
        Charset(codes.filter_map(|c| SpecificCharacterSet::from_code(std::str::from_utf8(c).ok()?)).collect())
    }

    /// In UTF-8, where that differs from the bytes and the character set can tell.
    pub fn decoded(&self, raw: &[u8]) -> Option<String> {
        if raw.is_ascii() && !raw.contains(&0x1b) {
            return None;
        }
        // With code extensions a value may be in any of the sets; the one is right that leaves no escape and no gap.
        let texts = || self.0.iter().filter_map(|set| set.decode(raw).ok());
        let whole = texts().find(|text| !text.contains(['\u{1b}', '\u{fffd}']));
        let text = whole.or_else(|| texts().next())?.trim().to_owned();
        (text.as_bytes() != raw && !text.is_empty()).then_some(text)
    }
}

/// A whole text, or the ends of a long one.
pub fn ends(value: &[u8]) -> Vec<&[u8]> {
    match value.len() {
        0..=LONGEST => vec![value],
        len => vec![&value[..END], &value[len - END..]],
    }
}

/// The parts at both ends of a long text of several; none that is cut.
fn outer(text: &[u8]) -> Vec<&[u8]> {
    let (head, tail) = (&text[..END], &text[text.len() - END..]);
    let separator = |b: &u8| *b == b'\\';
    let head = head.iter().rposition(separator).map_or(head, |at| &head[..at]);
    let tail = tail.iter().position(separator).map_or(tail, |at| &tail[at + 1..]);
    let parts = [head, tail].into_iter().flat_map(|end| end.split(separator)).map(trimmed);
    parts.filter(|part| !part.is_empty()).collect()
}

/// Without the padding at both ends.
pub fn trimmed(value: &[u8]) -> &[u8] {
    let padding = |b: &u8| matches!(b, 0 | b' ' | b'\t' | b'\r' | b'\n');
    let start = value.iter().position(|b| !padding(b)).unwrap_or(value.len());
    let end = value.iter().rposition(|b| !padding(b)).map_or(start, |e| e + 1);
    &value[start..end]
}

/// The texts of a value; `None` where it holds none. The character set itself is no text.
pub fn parts(tag: Tag, vr: VR, value: &[u8]) -> Option<Vec<&[u8]>> {
    if tag == tags::SPECIFIC_CHARACTER_SET {
        return None;
    }
    let several = match vr {
        VR::AE
        | VR::AS
        | VR::CS
        | VR::DA
        | VR::DS
        | VR::DT
        | VR::IS
        | VR::LO
        | VR::PN
        | VR::SH
        | VR::TM
        | VR::UC
        | VR::UI => true,
        VR::LT | VR::ST | VR::UR | VR::UT => false,
        VR::UN | VR::OB => {
            let text = trimmed(value);
            let printable =
                std::str::from_utf8(text).is_ok_and(|t| t.chars().all(|c| !c.is_control() || c.is_whitespace()));
            if text.len() < 4 || !printable {
                return None;
            }
            if text.len() > OPAQUE && text.contains(&b'\\') {
                return Some(outer(text));
            }
            text.contains(&b'\\')
        }
        _ => return None,
    };
    let list: Vec<&[u8]> = match several {
        true => value.split(|&b| b == b'\\').map(trimmed).collect(),
        false => vec![trimmed(value)],
    };
    let list: Vec<&[u8]> = list.into_iter().filter(|p| !p.is_empty()).collect();
    (!list.is_empty()).then_some(list)
}

#[cfg(test)]
mod tests {
    use super::*;
    use dicom_core::DataElement;
    use dicom_core::value::PrimitiveValue;
    use dicom_object::InMemDicomObject;
    use dicom_transfer_syntax_registry::entries::EXPLICIT_VR_LITTLE_ENDIAN;

    #[test]
    fn a_name_is_read_in_whichever_of_its_sets_it_is_written() {
        let header = |codes: &str| {
            let element = DataElement::new(tags::SPECIFIC_CHARACTER_SET, VR::CS, PrimitiveValue::from(codes));
            InMemDicomObject::from_element_iter([element])
        };
        let kanji = b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B";
        for codes in ["\\ISO 2022 IR 87", "ISO 2022 IR 13\\ISO 2022 IR 87"] {
            let mut bytes = Vec::new();
            header(codes).write_dataset_with_ts(&mut bytes, &EXPLICIT_VR_LITTLE_ENDIAN.erased()).expect("written");
            let charset = Charset::of(&values(&bytes).expect("readable"));
            assert_eq!(charset.decoded(kanji).as_deref(), Some("Yamada^Tarou=山田^太郎"), "{codes}");
        }
    }
}
