//! The option Clean Structured Content: content items of reports and contexts, by Table E.3.4-1.
//!
//! An item goes whole, or it stays with its concept and relationship and gets a harmless value, so that the tree stays a
//! valid report. Items that the table does not list are cleaned by the type of their value: texts to harmless words or a
//! dummy, names to a dummy, dates as the options say, codes of published schemes, measurements and coordinates as they
//! are, references mapped.

use crate::audit::Action;
use crate::content::Plan;
use crate::dates;
use crate::deidentify::{Cleaner, Surroundings};
use crate::dummy;
use crate::options::Choice;
use crate::profile::{Decision, Reason, Verdict};
use crate::refusal::Refusal;
use crate::value;
use dicom_core::value::PrimitiveValue;
use dicom_core::{DataElement, Tag, VR};
use dicom_dictionary_std::tags;
use dicom_object::InMemDicomObject;
use dicom_object::mem::InMemElement;

/// Concepts of a person's age, as code and scheme: Subject Age, Age (twice) and Current chronological age.
const AGES: [(&str, &str); 4] = [("121033", "DCM"), ("30525-0", "LN"), ("397669002", "SCT"), ("424144002", "SCT")];

/// What happens to the content item in hand.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Planned {
    pub(crate) plan: Plan,
    verdict: Verdict,
    is_age: bool,
}

/// Whether an attribute holds the value of a content item that is no code, number, coordinate or reference.
pub(crate) fn is_content_value(tag: Tag) -> bool {
    matches!(tag, tags::TEXT_VALUE | tags::PERSON_NAME | tags::DATE | tags::TIME | tags::DATE_TIME | tags::UID)
}

/// Whether a tree of content items refers to its own items by their positions.
pub(crate) fn refers_by_position(dataset: &InMemDicomObject) -> bool {
    dataset.get(tags::REFERENCED_CONTENT_ITEM_IDENTIFIER).is_some()
        || dataset
            .get(tags::CONTENT_SEQUENCE)
            .and_then(|e| e.items())
            .is_some_and(|items| items.iter().any(refers_by_position))
}

impl Cleaner<'_> {
    /// The plan for an item, if it is a content item and the option is chosen.
    pub(crate) fn planned(&self, item: &InMemDicomObject) -> Option<Planned> {
        if !self.profile.has(Choice::StructuredContent) {
            return None;
        }
        let value_type = value::first_text_of(item.get(tags::VALUE_TYPE)?);
        let concept = item.get(tags::CONCEPT_NAME_CODE_SEQUENCE).and_then(|e| e.items()?.first());
        let text = |tag| concept.map(|concept| value::first_text(concept, tag)).unwrap_or_default();
        let (code, scheme) = (text(tags::CODE_VALUE), text(tags::CODING_SCHEME_DESIGNATOR));
        let table = &self.profile.facts().content;
        let (plan, rule, option) = table.plan((&code, &scheme), &value_type, self.profile.options);
        let verdict = Verdict { decision: Decision::Dummy, rule, option };
        let is_age = AGES.contains(&(code.as_str(), scheme.as_str())) && value_type == "NUM";
        // Containers and numbers have no dummy.
        let plan = match (plan, value_type.as_str()) {
            (Plan::Dummy, "CONTAINER" | "NUM" | "SCOORD" | "SCOORD3D" | "TCOORD") => Plan::Drop,
            (plan, _) => plan,
        };
        Some(Planned { plan, verdict, is_age })
    }

    /// Notes that a content item goes. Where items are referred to by position, a comment without content takes its
    /// place, so that the others keep theirs.
    pub(crate) fn drop_item(&mut self, planned: Planned, item: &InMemDicomObject) -> Option<InMemDicomObject> {
        self.audit.removed(tags::CONTENT_SEQUENCE, Reason::Listed, planned.verdict);
        if !self.by_position {
            return None;
        }
        let relationship = value::first_text(item, tags::RELATIONSHIP_TYPE);
        Some(InMemDicomObject::from_element_iter([
            dummy::text(tags::RELATIONSHIP_TYPE, VR::CS, &relationship),
            dummy::text(tags::VALUE_TYPE, VR::CS, "TEXT"),
            dummy::sequence(tags::CONCEPT_NAME_CODE_SEQUENCE, vec![dummy::code("121106", "DCM", "Comment")]),
            dummy::text(tags::TEXT_VALUE, VR::UT, dummy::TEXT),
        ]))
    }

    /// The value of a content item.
    pub(crate) fn content_value(
        &mut self,
        planned: Planned,
        element: InMemElement,
        near: &Surroundings,
    ) -> Result<Option<InMemElement>, Refusal> {
        let (tag, vr) = (element.header().tag, element.vr());
        let is_uid = tag == tags::UID;
        let decision = match planned.plan {
            Plan::Keep => Decision::Retain,
            Plan::Shift => Decision::Shift,
            Plan::CleanText => Decision::CleanText,
            Plan::Dummy if is_uid => Decision::MapUid,
            Plan::Dummy | Plan::Drop => Decision::Dummy,
            Plan::ByType => match tag {
                tags::TEXT_VALUE if self.profile.has(Choice::Descriptors) => Decision::CleanText,
                tags::TEXT_VALUE | tags::PERSON_NAME => Decision::Dummy,
                _ if is_uid && self.profile.has(Choice::Uids) => Decision::Retain,
                _ => self.profile.decide(self.iod, &self.place, tag, vr).decision,
            },
        };
        // A name is nobody's words to keep.
        let decision = if tag == tags::PERSON_NAME { Decision::Dummy } else { decision };
        self.act(Verdict { decision, ..planned.verdict }, element, near)
    }

    /// Puts 90 years in place of an age above 89; says whether the item may stay.
    pub(crate) fn cap_age(&mut self, planned: Planned, item: &mut InMemDicomObject) -> bool {
        if !planned.is_age {
            return true;
        }
        let Some(mut sequence) = item.take(tags::MEASURED_VALUE_SEQUENCE) else { return true };
        let mut known = true;
        for value in sequence.items_mut().into_iter().flatten() {
            let units = value.get(tags::MEASUREMENT_UNITS_CODE_SEQUENCE).and_then(|e| e.items()?.first());
            let units = units.map(|units| value::first_text(units, tags::CODE_VALUE)).unwrap_or_default();
            let number = value::first_text(value, tags::NUMERIC_VALUE).parse::<f64>().ok();
            let Some(years) = number.and_then(|number| dates::years(number, &units)) else {
                known = false;
                continue;
            };
            if years >= 90.0 {
                for tag in
                    [tags::FLOATING_POINT_VALUE, tags::RATIONAL_NUMERATOR_VALUE, tags::RATIONAL_DENOMINATOR_VALUE]
                {
                    value.remove_element(tag);
                }
                let units = dummy::code("a", "UCUM", "year");
                value.put(dummy::sequence(tags::MEASUREMENT_UNITS_CODE_SEQUENCE, vec![units]));
                value.put(DataElement::new(tags::NUMERIC_VALUE, VR::DS, PrimitiveValue::from("90")));
                self.audit.note(tags::NUMERIC_VALUE, Action::CappedAge, planned.verdict);
            }
        }
        item.put(sequence);
        known
    }
}
