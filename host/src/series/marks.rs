//! The marks of a synthetic image, which no cleaning on the way may take away: what is left must not pass for a real one.

use dicom_core::{DataElement, PrimitiveValue, Tag, VR};
use dicom_dictionary_std::tags;
use dicom_object::InMemDicomObject;
use dicom_object::mem::InMemElement;

use super::derive::{SYNTHETIC_COMMENT, series_description};
use super::header::text;

/// Elements to put into the data set that leaves, where the one that came had a mark and this one has lost it: Synthetic
/// Data, the words SYNTHETIC and TOY of Series Description, and the warning of Image Comments.
pub fn lost(came: &InMemDicomObject, leaves: &InMemDicomObject) -> Vec<InMemElement> {
    let of = |object, tag| text(object, tag).unwrap_or_default();
    let mut elements = Vec::new();
    let mut put = |tag: Tag, vr, value: String| {
        elements.push(DataElement::new(tag, vr, PrimitiveValue::from(value)));
    };
    if of(came, tags::SYNTHETIC_DATA) == "YES" && of(leaves, tags::SYNTHETIC_DATA) != "YES" {
        put(tags::SYNTHETIC_DATA, VR::CS, "YES".to_owned());
    }
    let description = of(came, tags::SERIES_DESCRIPTION);
    let (toy, synthetic) = (description.starts_with("TOY"), description.contains("SYNTHETIC"));
    let left = of(leaves, tags::SERIES_DESCRIPTION);
    if (toy && !left.starts_with("TOY")) || (synthetic && !left.contains("SYNTHETIC")) {
        // What has no room beside the marks gives way to them.
        let marked = series_description(&left, toy, synthetic).or_else(|_| series_description("", toy, synthetic));
        if let Ok(marked) = marked {
            put(tags::SERIES_DESCRIPTION, VR::LO, marked);
        }
    }
    let comment = of(leaves, tags::IMAGE_COMMENTS);
    if of(came, tags::IMAGE_COMMENTS).contains(SYNTHETIC_COMMENT) && !comment.contains(SYNTHETIC_COMMENT) {
        let whole = match comment.is_empty() || !comment.is_ascii() {
            true => SYNTHETIC_COMMENT.to_owned(),
            false => format!("{SYNTHETIC_COMMENT}. {comment}"),
        };
        put(tags::IMAGE_COMMENTS, VR::LT, whole);
    }
    elements
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(synthetic: &str, description: &str, comment: &str) -> InMemDicomObject {
        let mut object = InMemDicomObject::new_empty();
        for (tag, vr, value) in [
            (tags::SYNTHETIC_DATA, VR::CS, synthetic),
            (tags::SERIES_DESCRIPTION, VR::LO, description),
            (tags::IMAGE_COMMENTS, VR::LT, comment),
        ] {
            if !value.is_empty() {
                object.put(DataElement::new(tag, vr, PrimitiveValue::from(value)));
            }
        }
        object
    }

    fn marked(came: &InMemDicomObject, mut leaves: InMemDicomObject) -> [String; 3] {
        lost(came, &leaves).into_iter().for_each(|element| drop(leaves.put(element)));
        [tags::SYNTHETIC_DATA, tags::SERIES_DESCRIPTION, tags::IMAGE_COMMENTS]
            .map(|tag| text(&leaves, tag).unwrap_or_default())
    }

    #[test]
    fn what_was_marked_stays_marked() {
        let came = object("YES", "TOY SYNTHETIC sCECT for J. Doe", "SYNTHETIC - not for diagnosis. Doe");
        let bare = marked(&came, object("", "", ""));
        assert_eq!(bare, ["YES", "TOY SYNTHETIC", "SYNTHETIC - not for diagnosis"]);
        let cleaned = marked(&came, object("", "sCECT", "thin slices"));
        assert_eq!(cleaned, ["YES", "TOY SYNTHETIC sCECT", "SYNTHETIC - not for diagnosis. thin slices"]);
        let long = marked(&came, object("YES", &"x".repeat(64), ""));
        assert_eq!(long[1], "TOY SYNTHETIC");
    }

    #[test]
    fn every_single_mark_is_found() {
        let bare = object("", "", "");
        for marked in [object("YES", "", ""), object("", "TOY x", ""), object("", "", SYNTHETIC_COMMENT)] {
            assert!(!lost(&marked, &bare).is_empty());
        }
        assert!(lost(&object("", "Thorax 1.0 B30f", "a comment"), &bare).is_empty());
    }

    #[test]
    fn a_real_image_is_left_alone() {
        for description in ["", "Thorax 1.0 B30f"] {
            let real = object("", description, "a comment");
            assert!(lost(&real, &object("", "", "")).is_empty());
        }
        let kept = object("YES", "SYNTHETIC sCECT", SYNTHETIC_COMMENT);
        assert!(lost(&kept, &kept).is_empty());
    }
}
