//! What happens to values that stay: each is checked against its VR and searched for the patient; dates move, texts are
//! cleaned, ages are capped.

use crate::audit::Action;
use crate::dates;
use crate::defined_terms::is_defined;
use crate::deidentify::{Cleaner, Surroundings};
use crate::descriptors;
use crate::dummy;
use crate::iso2022;
use crate::profile::{Reason, Verdict};
use crate::refusal::Refusal;
use crate::value;
use dicom_core::value::{PrimitiveValue, Value};
use dicom_core::{DataElement, VR};
use dicom_dictionary_std::tags;
use dicom_object::mem::InMemElement;

type Outcome = Result<Option<InMemElement>, Refusal>;

impl Cleaner<'_> {
    /// An unlisted attribute that may stay, unless what it holds cannot be what it says.
    pub(crate) fn keep(
        &mut self,
        element: InMemElement,
        near: &Surroundings,
        verdict: Verdict,
    ) -> Option<InMemElement> {
        let (tag, vr) = (element.header().tag, element.vr());
        if !matches!(element.value(), Value::Primitive(_)) || !value::is_possible(vr, element.value()) {
            return self.remove(tag, Reason::WrongVr, verdict);
        }
        // A meaning without a code is prose.
        if tag == tags::CODE_MEANING && !near.has_code {
            return self.remove(tag, Reason::Unbounded, verdict);
        }
        if tag == tags::SPECIFIC_CHARACTER_SET && !value::texts(element.value()).iter().all(|t| is_charset(t)) {
            return self.remove(tag, Reason::WrongVr, verdict);
        }
        // A code of a published scheme is no number of the patient, though it may have the same digits.
        let coded = matches!(tag, tags::CODE_VALUE | tags::CODING_SCHEME_DESIGNATOR);
        if !coded && self.repeats(&element) {
            self.audit.note(tag, Action::EmptiedEcho, verdict);
            // What an object cannot do without gets a dummy.
            let needed = matches!(tag, tags::CODE_MEANING | tags::SEGMENT_LABEL | tags::CONTENT_LABEL);
            return Some(if needed { dummy::element(tag, vr) } else { value::emptied(tag, vr) });
        }
        self.audit.note(tag, Action::Kept, verdict);
        Some(element)
    }

    /// Whether a label repeats the patient. Short whole numbers do by chance, and a defined term says nothing of anybody.
    fn repeats(&self, element: &InMemElement) -> bool {
        let tag = element.header().tag;
        let (vr, texts) = (element.vr(), value::texts(element.value()));
        let counts = |text: &str| (vr != VR::IS || text.len() >= 6) && !is_defined(tag, text);
        // With code extensions, the mark between two values may be half of a character.
        let whole = texts.iter().any(|text| iso2022::is_escaped(text)).then(|| texts.join("\\"));
        is_label(vr) && texts.iter().chain(&whole).any(|text| counts(text) && self.map.echoes(text))
    }

    /// A listed attribute that an option keeps: only with values possible for its VR that do not repeat the patient.
    /// Ages above 89 become 90 years.
    pub(crate) fn retain(&mut self, element: InMemElement, near: &Surroundings, verdict: Verdict) -> Outcome {
        let (tag, vr) = (element.header().tag, element.vr());
        let Value::Primitive(_) = element.value() else { return self.without_options(element, near) };
        let texts = || value::texts(element.value()).into_iter().filter(|text| !text.is_empty());
        let possible = match vr {
            VR::DA => texts().all(|text| dates::is_date(&text)),
            VR::TM => texts().all(|text| dates::is_time(&text)),
            VR::DT => texts().all(|text| dates::is_datetime(&text)),
            VR::AS => texts().all(|text| dates::capped_age(&text).is_some()),
            _ if tag == tags::TIMEZONE_OFFSET_FROM_UTC => texts().all(|text| dates::is_timezone(&text)),
            _ => value::is_possible(vr, element.value()),
        };
        if !possible || self.repeats(&element) {
            return self.without_options(element, near);
        }
        if vr == VR::AS {
            let capped: Vec<String> = texts().filter_map(|text| dates::capped_age(&text)).collect();
            if !capped.iter().eq(texts().collect::<Vec<_>>().iter()) {
                self.audit.note(tag, Action::CappedAge, verdict);
                return Ok(Some(DataElement::new(tag, vr, PrimitiveValue::Strs(capped.into_iter().collect()))));
            }
        }
        self.audit.note(tag, Action::Kept, verdict);
        Ok(Some(element))
    }

    /// A date that moves with its patient. Times of day and time zones stay: whole days are moved.
    pub(crate) fn shift(&mut self, element: InMemElement, near: &Surroundings, verdict: Verdict) -> Outcome {
        let (tag, vr) = (element.header().tag, element.vr());
        let (Value::Primitive(_), Some(days)) = (element.value(), self.map.days()) else {
            return self.without_options(element, near);
        };
        if value::is_empty(element.value()) {
            self.audit.note(tag, Action::Kept, verdict);
            return Ok(Some(value::emptied(tag, vr)));
        }
        let moved = |text: String| match vr {
            _ if text.is_empty() => Some(text),
            VR::DA => dates::shift_date(&text, days),
            VR::DT => dates::shift_datetime(&text, days),
            VR::TM => dates::is_time(&text).then_some(text),
            _ => dates::is_timezone(&text).then_some(text),
        };
        let Some(moved) = value::texts(element.value()).into_iter().map(moved).collect::<Option<Vec<String>>>() else {
            return self.without_options(element, near);
        };
        let action = if matches!(vr, VR::DA | VR::DT) { Action::Shifted } else { Action::Kept };
        self.audit.note(tag, action, verdict);
        Ok(Some(DataElement::new(tag, vr, PrimitiveValue::Strs(moved.into_iter().collect()))))
    }

    /// A text of which the harmless words stay; without any, the basic action.
    pub(crate) fn clean_text(&mut self, element: InMemElement, near: &Surroundings, verdict: Verdict) -> Outcome {
        let (tag, vr) = (element.header().tag, element.vr());
        let Value::Primitive(_) = element.value() else { return self.without_options(element, near) };
        let part = |word: &str| self.map.is_part(word);
        let cleaned: Vec<String> =
            value::texts(element.value()).iter().map(|text| descriptors::cleaned(text, &part)).collect();
        if cleaned.iter().all(String::is_empty) {
            return self.without_options(element, near);
        }
        self.audit.note(tag, Action::CleanedText, verdict);
        Ok(Some(DataElement::new(tag, vr, PrimitiveValue::Strs(cleaned.into_iter().collect()))))
    }
}

/// Whether people type into values of this kind.
fn is_label(vr: VR) -> bool {
    matches!(vr, VR::CS | VR::IS | VR::LO | VR::LT | VR::SH | VR::ST | VR::UC | VR::UR | VR::UT)
}

/// A defined term of Specific Character Set (PS3.3 C.12.1.1.2), or the empty first value of a list.
fn is_charset(term: &str) -> bool {
    let digits = |rest: &str| !rest.is_empty() && rest.len() <= 3 && rest.chars().all(|c| c.is_ascii_digit());
    matches!(term, "" | "GB18030" | "GBK" | "GB2312")
        || ["ISO_IR ", "ISO_IR_", "ISO 2022 IR "].iter().any(|p| term.strip_prefix(p).is_some_and(digits))
}
