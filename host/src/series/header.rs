//! From an outlined file to its parsed header, and the plain accessors that bear what real headers contain.

use std::panic::{AssertUnwindSafe, catch_unwind};

use dicom_core::dictionary::{DataDictionary, DataDictionaryEntry, VirtualVr};
use dicom_core::header::Header;
use dicom_core::value::{PrimitiveValue, Value};
use dicom_core::{Tag, VR};
use dicom_dictionary_std::{StandardDataDictionary, uids};
use dicom_encoding::TransferSyntaxIndex;
use dicom_encoding::text::SpecificCharacterSet;
use dicom_object::InMemDicomObject;
use dicom_transfer_syntax_registry::TransferSyntaxRegistry;

use super::guard::{self, Outline};
use super::record::Fault;

/// Parses the dataset of a walked file up to its pixel data. Group 0002, the pixel data and what follows them are not
/// in it. Elements of VR UN whose tag the dictionary knows are given their VR.
///
/// # Errors
/// `bad-header`
pub fn parse(outline: &Outline<'_>) -> Result<InMemDicomObject, Fault> {
    parse_with(outline, SpecificCharacterSet::default())
}

/// [`parse`], where the dataset names no character set of its own and its text is to be read in this one.
///
/// # Errors
/// `bad-header`
pub fn parse_with(outline: &Outline<'_>, text: SpecificCharacterSet) -> Result<InMemDicomObject, Fault> {
    let plain = match (outline.encoding.explicit, outline.encoding.big_endian) {
        (false, _) => uids::IMPLICIT_VR_LITTLE_ENDIAN,
        (true, false) => uids::EXPLICIT_VR_LITTLE_ENDIAN,
        (true, true) => guard::EXPLICIT_BE,
    };
    let header = outline.data.get(outline.header.clone()).unwrap_or(&[]);
    if outline.un_sequences.is_empty() {
        let mut object = parse_bytes(header, plain, text.clone())?;
        name_unknown(&mut object, &text);
        return Ok(object);
    }
    // dicom-rs reads the inside of an UN element as explicit VR; the standard says implicit. Each is read by itself.
    let mut rest = Vec::with_capacity(header.len());
    let mut at = outline.header.start;
    let mut apart = Vec::new();
    for range in &outline.un_sequences {
        rest.extend_from_slice(outline.data.get(at..range.start).unwrap_or(&[]));
        at = range.end;
        if let Some([g0, g1, e0, e1, ..]) = outline.data.get(range.clone()) {
            // Tag and undefined length, as implicit VR has them, then the items.
            let mut element = vec![*g0, *g1, *e0, *e1, 0xff, 0xff, 0xff, 0xff];
            element.extend_from_slice(outline.data.get(range.start + 12..range.end).unwrap_or(&[]));
            apart.push(element);
        }
    }
    rest.extend_from_slice(outline.data.get(at..outline.header.end).unwrap_or(&[]));
    let mut object = parse_bytes(&rest, plain, text.clone())?;
    for element in apart {
        for element in parse_bytes(&element, uids::IMPLICIT_VR_LITTLE_ENDIAN, text.clone())? {
            object.put(element);
        }
    }
    name_unknown(&mut object, &text);
    Ok(object)
}

fn parse_bytes(bytes: &[u8], transfer_syntax: &str, text: SpecificCharacterSet) -> Result<InMemDicomObject, Fault> {
    let failed = |what: &str| Fault::new("bad-header", format!("the DICOM header cannot be read ({what})"));
    let syntax = TransferSyntaxRegistry.get(transfer_syntax).ok_or_else(|| failed("unknown transfer syntax"))?;
    // The text of dicom-rs' errors may quote values, so it is not passed on.
    catch_unwind(AssertUnwindSafe(|| InMemDicomObject::read_dataset_with_ts_cs(bytes, syntax, text)))
        .map_err(|_| failed("the parser failed"))?
        .map_err(|_| failed("a value does not fit its representation"))
}

/// Gives elements of VR UN with a tag of the dictionary that tag's VR (PS3.5 6.2.2: such values are encoded as in
/// implicit VR little endian). What does not parse stays UN.
fn name_unknown(object: &mut InMemDicomObject, text: &SpecificCharacterSet) {
    let named: Vec<_> = object
        .iter()
        .filter(|element| element.vr() == VR::UN)
        .filter_map(|element| {
            let entry = StandardDataDictionary.by_tag(element.tag())?;
            if entry.vr() == VirtualVr::Exact(VR::UN) {
                return None;
            }
            let Value::Primitive(PrimitiveValue::U8(value)) = element.value() else { return None };
            let Tag(group, number) = element.tag();
            let mut bytes = Vec::with_capacity(value.len() + 8);
            bytes.extend_from_slice(&group.to_le_bytes());
            bytes.extend_from_slice(&number.to_le_bytes());
            bytes.extend_from_slice(&u32::try_from(value.len()).ok()?.to_le_bytes());
            bytes.extend_from_slice(value);
            guard::walk_implicit(&bytes).ok()?;
            parse_bytes(&bytes, uids::IMPLICIT_VR_LITTLE_ENDIAN, text.clone()).ok()?.into_iter().next()
        })
        .collect();
    for element in named {
        object.put(element);
    }
}

/// Text of an element without padding; `None` where it is absent, empty or no text.
pub fn text(object: &InMemDicomObject, tag: Tag) -> Option<String> {
    let value = object.get(tag)?.to_str().ok()?;
    let value = value.trim_matches(['\0', ' ']);
    (!value.is_empty()).then(|| value.to_owned())
}

/// Values of a multi-valued text element, each trimmed.
pub fn texts(object: &InMemDicomObject, tag: Tag) -> Vec<String> {
    let Some(element) = object.get(tag) else { return Vec::new() };
    let Value::Primitive(value) = element.value() else { return Vec::new() };
    let all: Vec<String> = value
        .to_multi_str()
        .iter()
        .flat_map(|s| s.split('\\'))
        .map(|s| s.trim_matches(['\0', ' ']).to_owned())
        .collect();
    if all.iter().all(String::is_empty) { Vec::new() } else { all }
}

/// Numbers of an element; `None` where it is absent, empty, or one of its values is no number.
pub fn numbers(object: &InMemDicomObject, tag: Tag) -> Option<Vec<f64>> {
    let element = object.get(tag)?;
    let Value::Primitive(value) = element.value() else { return None };
    let all: Option<Vec<f64>> = match value {
        PrimitiveValue::Str(_) | PrimitiveValue::Strs(_) => texts(object, tag).iter().map(|s| s.parse().ok()).collect(),
        _ => value.to_multi_float64().ok(),
    };
    all.filter(|v| !v.is_empty())
}

/// The first number of an element.
pub fn number(object: &InMemDicomObject, tag: Tag) -> Option<f64> {
    numbers(object, tag)?.first().copied()
}

/// A whole number; `None` also where it is out of range.
pub fn integer(object: &InMemDicomObject, tag: Tag) -> Option<i32> {
    let value = number(object, tag)?;
    (value.fract() == 0.0 && value >= f64::from(i32::MIN) && value <= f64::from(i32::MAX)).then_some(value as i32)
}

/// Exactly `N` numbers.
pub fn vector<const N: usize>(object: &InMemDicomObject, tag: Tag) -> Option<[f64; N]> {
    numbers(object, tag)?.try_into().ok()
}

/// Items of a sequence; none where it is absent.
pub fn items(object: &InMemDicomObject, tag: Tag) -> &[InMemDicomObject] {
    object.get(tag).and_then(|element| element.items()).unwrap_or(&[])
}
