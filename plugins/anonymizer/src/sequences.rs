//! What happens to sequences: their items are cleaned in turn, and what would be invalid afterwards goes.

use crate::audit::Action;
use crate::codes;
use crate::content::Plan;
use crate::deidentify::Cleaner;
use crate::dummy;
use crate::graphics;
use crate::iod_types::Type;
use crate::options::Choice;
use crate::profile::{Reason, Verdict};
use crate::refusal::Refusal;
use crate::value;
use dicom_core::Tag;
use dicom_dictionary_std::tags;
use dicom_object::InMemDicomObject;
use dicom_object::mem::InMemElement;

/// What of an item stays in a sequence of references (`U*`): which instance, which part of it, why.
const REFERENCE: [Tag; 8] = [
    tags::REFERENCED_SOP_CLASS_UID,
    tags::REFERENCED_SOP_INSTANCE_UID,
    tags::REFERENCED_FRAME_NUMBER,
    tags::REFERENCED_SEGMENT_NUMBER,
    tags::PURPOSE_OF_REFERENCE_CODE_SEQUENCE,
    tags::SPATIAL_LOCATIONS_PRESERVED,
    tags::PATIENT_ORIENTATION,
    tags::SIMPLE_FRAME_LIST,
];

impl Cleaner<'_> {
    /// `with_codes`: a site's own codes stay.
    pub(crate) fn recurse(
        &mut self,
        element: InMemElement,
        verdict: Verdict,
        with_codes: bool,
    ) -> Result<Option<InMemElement>, Refusal> {
        let tag = element.header().tag;
        let Some(items) = element.into_value().into_items() else {
            return Ok(self.remove(tag, Reason::WrongVr, verdict));
        };
        let (mut cleaned, mut hollowed) = (Vec::with_capacity(items.len()), false);
        self.place.push(tag);
        // The basic profile takes such sequences out; of what an option lets stay, an item without a code is none.
        let only_codes = verdict.option.is_some() && codes::is_code_sequence(tag);
        for mut item in items {
            if only_codes && !codes::is_coded(&item) {
                hollowed = true;
                continue;
            }
            if tag == tags::CODING_SCHEME_IDENTIFICATION_SEQUENCE && codes::describes_local_scheme(&item) {
                hollowed = true;
                continue;
            }
            if !with_codes && codes::is_local(&item) {
                codes::replace(&mut item);
                self.audit.note(tags::CODE_VALUE, Action::Dummied, verdict);
            }
            let planned = self.planned(&item);
            if let Some(planned) = planned.filter(|planned| planned.plan == Plan::Drop) {
                cleaned.extend(self.drop_item(planned, &item));
                hollowed = true;
                continue;
            }
            self.planned = planned;
            let held = item.iter().next().is_some();
            let mut item = self.clean(item)?;
            if planned.is_some_and(|planned| !self.cap_age(planned, &mut item)) || self.is_undrawn(tag, &item) {
                hollowed = true;
                continue;
            }
            hollowed |= held && item.iter().next().is_none();
            cleaned.push(item);
        }
        self.place.pop();
        // Items that lost all they had would only be invalid; the rest of such a sequence keeps its full items.
        // Functional groups are counted: the third item is the third frame's, whatever it still holds.
        let counted =
            matches!(tag, tags::SHARED_FUNCTIONAL_GROUPS_SEQUENCE | tags::PER_FRAME_FUNCTIONAL_GROUPS_SEQUENCE);
        if hollowed && !counted {
            cleaned.retain(|item| item.iter().next().is_some());
            if cleaned.is_empty() {
                return Ok(match self.profile.type_of(self.iod, &self.place, tag) {
                    Type::Two => {
                        self.audit.note(tag, Action::Emptied, verdict);
                        Some(dummy::sequence(tag, vec![]))
                    }
                    _ => self.remove(tag, Reason::Hollow, verdict),
                });
            }
        }
        self.audit.note(tag, Action::Kept, verdict);
        Ok(Some(dummy::sequence(tag, cleaned)))
    }

    fn is_undrawn(&self, tag: Tag, item: &InMemDicomObject) -> bool {
        self.profile.has(Choice::Graphics) && graphics::is_hollow(tag, item)
    }

    /// A `U*` sequence: items that refer to an instance stay, reduced to the reference. Without any, it is as listed: out.
    pub(crate) fn references(
        &mut self,
        element: InMemElement,
        verdict: Verdict,
    ) -> Result<Option<InMemElement>, Refusal> {
        let tag = element.header().tag;
        let Some(items) = element.into_value().into_items() else {
            return Ok(self.remove(tag, Reason::WrongVr, verdict));
        };
        let mut cleaned = Vec::with_capacity(items.len());
        self.place.push(tag);
        for mut item in items {
            if value::first_text(&item, tags::REFERENCED_SOP_INSTANCE_UID).is_empty() {
                continue;
            }
            let audit = &mut self.audit;
            item.retain(|e| {
                let stays = REFERENCE.contains(&e.header().tag);
                if !stays {
                    audit.removed(e.header().tag, Reason::Listed, verdict);
                }
                stays
            });
            cleaned.push(self.clean(item)?);
        }
        self.place.pop();
        if cleaned.is_empty() {
            return Ok(match self.profile.type_of(self.iod, &self.place, tag) {
                Type::Three => self.remove(tag, Reason::Listed, verdict),
                _ => {
                    self.audit.note(tag, Action::Emptied, verdict);
                    Some(dummy::sequence(tag, vec![]))
                }
            });
        }
        self.audit.note(tag, Action::MappedUids, verdict);
        Ok(Some(dummy::sequence(tag, cleaned)))
    }
}
