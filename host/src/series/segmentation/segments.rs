//! Segment Sequence: what every segment is, how it was made, and with which colour it is shown.

use dicom_core::VR;
use dicom_core::value::{C, PrimitiveValue};
use dicom_dictionary_std::tags;
use dicom_object::InMemDicomObject;

use super::{AlgorithmType, Encoding, Segment, SegmentationContext, colour};
use crate::series::derive::text::plain;
use crate::series::derive::{dcm_code, put, put_sequence};

/// Longest text of VR LO, characters.
const MAX_LO: usize = 64;

/// Its items, in rising order of segment numbers. `segments` ascend by value. A label map describes its background too.
/// `arriving` is the Series Instance UID of the source.
pub(super) fn sequence(segments: &[Segment], ctx: &SegmentationContext, arriving: &str) -> Vec<InMemDicomObject> {
    let mut all = Vec::with_capacity(segments.len() + 1);
    if ctx.encoding == Encoding::Labelmap {
        let mut item = InMemDicomObject::new_empty();
        put(&mut item, tags::SEGMENT_NUMBER, VR::US, PrimitiveValue::from(0u16));
        put(&mut item, tags::SEGMENT_LABEL, VR::LO, "Background");
        for tag in [tags::SEGMENTED_PROPERTY_CATEGORY_CODE_SEQUENCE, tags::SEGMENTED_PROPERTY_TYPE_CODE_SEQUENCE] {
            put_sequence(&mut item, tag, vec![dcm_code("125040", "Background")]);
        }
        algorithm(&mut item, ctx);
        all.push(item);
    }
    for (index, segment) in segments.iter().enumerate() {
        let number = match ctx.encoding {
            Encoding::Binary => index as u16 + 1,
            Encoding::Labelmap => u16::from(segment.value),
        };
        let mut item = InMemDicomObject::new_empty();
        put(&mut item, tags::SEGMENT_NUMBER, VR::US, PrimitiveValue::from(number));
        put(&mut item, tags::SEGMENT_LABEL, VR::LO, label(segment));
        let description = format!("Label value {}", segment.value);
        put(&mut item, tags::SEGMENT_DESCRIPTION, VR::ST, description);
        let (category, meaning) = ctx.category.code();
        put_sequence(
            &mut item,
            tags::SEGMENTED_PROPERTY_CATEGORY_CODE_SEQUENCE,
            vec![code("SCT", category, meaning.to_owned())],
        );
        // Without a code of its own a label is known to be of its category, and nothing more.
        let kind = own_code(segment).unwrap_or_else(|| code("SCT", category, meaning.to_owned()));
        put_sequence(&mut item, tags::SEGMENTED_PROPERTY_TYPE_CODE_SEQUENCE, vec![kind]);
        algorithm(&mut item, ctx);
        if segment.rgba != 0 {
            let lab = PrimitiveValue::U16(C::from_slice(&colour::to_dicom(segment.rgba)));
            put(&mut item, tags::RECOMMENDED_DISPLAY_CIE_LAB_VALUE, VR::US, lab);
        }
        put(&mut item, tags::TRACKING_ID, VR::UT, label(segment));
        let tracking = ctx.derivation.uids.tracking(arriving, usize::from(segment.value));
        put(&mut item, tags::TRACKING_UID, VR::UI, tracking);
        all.push(item);
    }
    all
}

/// The name as it is shown; of a label without one, its value.
fn label(segment: &Segment) -> String {
    match plain(&segment.name, MAX_LO) {
        name if name.is_empty() => format!("label {}", segment.value),
        name => name,
    }
}

/// SNOMED CT's attribute Laterality, in an expression such as `64033007:272741003=7771000` (left kidney).
pub(super) const LATERALITY: &str = ":272741003=";
/// The sides an expression may name, and how they are called.
pub(super) const SIDES: [(&str, &str); 2] = [("7771000", "Left"), ("24028007", "Right")];

/// The code of the label table, if there is one and it is well-formed; a side becomes its modifier (PS3.3 C.8.20.2, Segmented
/// Property Type Modifier). Its meaning in words is the label's name.
fn own_code(segment: &Segment) -> Option<InMemDicomObject> {
    let sound = |text: &str, max: usize| !text.is_empty() && plain(text, max) == text;
    if !sound(&segment.scheme, 16) || !sound(&segment.code, MAX_LO) {
        return None;
    }
    let named = label(segment).replace('_', " ");
    let sided = segment.code.split_once(LATERALITY).and_then(|(kind, side)| {
        let (value, meaning) = SIDES.iter().find(|(value, _)| *value == side)?;
        Some((kind, *value, *meaning))
    });
    let Some((kind, side, meaning)) = sided else {
        return Some(code(&segment.scheme, &segment.code, capital(&named)));
    };
    let without: Vec<&str> = named.split(' ').filter(|word| !word.eq_ignore_ascii_case(meaning)).collect();
    let mut item = code(&segment.scheme, kind, capital(&without.join(" ")));
    let modifier = vec![code(&segment.scheme, side, meaning.to_owned())];
    put_sequence(&mut item, tags::SEGMENTED_PROPERTY_TYPE_MODIFIER_CODE_SEQUENCE, modifier);
    Some(item)
}

/// The text with a capital first letter.
fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map(|c| c.to_ascii_uppercase()).into_iter().chain(letters).collect()
}

fn code(scheme: &str, value: &str, meaning: String) -> InMemDicomObject {
    let mut item = InMemDicomObject::new_empty();
    match value.len() {
        0..=16 => put(&mut item, tags::CODE_VALUE, VR::SH, value),
        _ => put(&mut item, tags::LONG_CODE_VALUE, VR::UC, value),
    }
    put(&mut item, tags::CODING_SCHEME_DESIGNATOR, VR::SH, scheme);
    put(&mut item, tags::CODE_MEANING, VR::LO, meaning);
    item
}

/// How the segment was made. Artificial intelligence is named as the family where a network took part; of other
/// algorithms the family is not known.
fn algorithm(item: &mut InMemDicomObject, ctx: &SegmentationContext) {
    let kind = match ctx.algorithm.kind {
        AlgorithmType::Automatic => "AUTOMATIC",
        AlgorithmType::Semiautomatic => "SEMIAUTOMATIC",
        AlgorithmType::Manual => "MANUAL",
    };
    put(item, tags::SEGMENT_ALGORITHM_TYPE, VR::CS, kind);
    if ctx.algorithm.kind == AlgorithmType::Manual {
        return;
    }
    let models = &ctx.derivation.models;
    let joined = |each: &dyn Fn(usize) -> String| (0..models.len()).map(each).collect::<Vec<_>>().join(", ");
    let name = match ctx.algorithm.name.as_str() {
        "" if models.is_empty() => plain(&ctx.derivation.pipeline, MAX_LO),
        "" => plain(&joined(&|m| models[m].name.clone()), MAX_LO),
        given => plain(given, MAX_LO),
    };
    put(item, tags::SEGMENT_ALGORITHM_NAME, VR::LO, name.as_str());
    if models.is_empty() {
        return;
    }
    let version = match ctx.algorithm.version.as_str() {
        "" => plain(&joined(&|m| models[m].sha256.chars().take(16).collect()), MAX_LO),
        given => plain(given, MAX_LO),
    };
    let mut identification = InMemDicomObject::new_empty();
    let family = vec![dcm_code("123110", "Artificial Intelligence")];
    put_sequence(&mut identification, tags::ALGORITHM_FAMILY_CODE_SEQUENCE, family);
    put(&mut identification, tags::ALGORITHM_NAME, VR::LO, name);
    put(&mut identification, tags::ALGORITHM_VERSION, VR::LO, version);
    put_sequence(item, tags::SEGMENTATION_ALGORITHM_IDENTIFICATION_SEQUENCE, vec![identification]);
}
