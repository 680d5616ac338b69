//! [`deidentify`]: rewrites one data set in place under a [`Profile`], at every nesting level.
//!
//! The data set is built anew from what may stay; nothing is edited inside old bytes, so no remnant of a removed value
//! can be left. What happens to kept values is in [`kept`](crate::kept), to sequences in [`sequences`](crate::sequences).

use crate::audit::{Action, Audit};
use crate::codes;
use crate::dummy;
use crate::graphics;
use crate::iod_types::Iod;
use crate::layout::MAX_DEPTH;
use crate::marks::mark;
use crate::options::Choice;
use crate::profile::{Decision, Profile, Reason, Rule, Verdict};
use crate::pseudonyms::{self, Pseudonyms, Replacement, is_well_known};
use crate::refusal::{Passed, Refusal};
use crate::rules;
use crate::safe_private;
use crate::strays;
use crate::structured::{self, Planned};
use crate::value;
use dicom_core::value::PrimitiveValue;
use dicom_core::{DataElement, Tag, VR};
use dicom_dictionary_std::tags;
use dicom_object::InMemDicomObject;
use dicom_object::mem::InMemElement;
use std::collections::BTreeMap;

/// De-identifies a data set (without file meta; pixels, if any, are dropped) that [`passed`](crate::refusal::check).
///
/// `map` must know every UID and patient identifier of the data set ([`pseudonyms::Wanted::collect`]).
///
/// # Errors
/// A [`Refusal`]: a UID cannot be mapped, a pseudonym is missing, sequences nest too deep. The data set is then left
/// empty: nothing half-cleaned can be taken for clean.
pub fn deidentify(
    dataset: &mut InMemDicomObject,
    passed: &Passed,
    map: &dyn Pseudonyms,
    profile: &Profile,
) -> Result<Audit, Refusal> {
    let source = std::mem::replace(dataset, InMemDicomObject::new_empty());
    let blanked = !passed.blank().is_empty();
    let mut cleaner = Cleaner {
        map,
        profile,
        iod: profile.iod(&value::first_text(&source, tags::SOP_CLASS_UID)),
        place: Vec::new(),
        planned: None,
        by_position: profile.has(Choice::StructuredContent) && structured::refers_by_position(&source),
        audit: Audit { datasets: 1, blanked: u64::from(blanked), ..Audit::default() },
    };
    let mut clean = cleaner.clean(source)?;
    mark(&mut clean, profile, blanked);
    *dataset = clean;
    Ok(cleaner.audit)
}

/// Cleans one data set.
pub(crate) struct Cleaner<'a> {
    pub(crate) map: &'a dyn Pseudonyms,
    pub(crate) profile: &'a Profile,
    pub(crate) iod: Iod,
    /// The enclosing sequences, outermost first.
    pub(crate) place: Vec<Tag>,
    /// What happens to the content item that is cleaned next.
    pub(crate) planned: Option<Planned>,
    /// Whether content items are referred to by their positions.
    pub(crate) by_position: bool,
    pub(crate) audit: Audit,
}

impl Cleaner<'_> {
    pub(crate) fn clean(&mut self, source: InMemDicomObject) -> Result<InMemDicomObject, Refusal> {
        if self.place.len() > MAX_DEPTH {
            return Err(Refusal::new("too-deep", format!("sequences nest deeper than {MAX_DEPTH} levels")));
        }
        let near = Surroundings::of(&source, self.planned.take(), self.profile);
        let safe = self.safe_private(&source);
        let strays: Vec<Tag> = source.tags().filter(|tag| strays::is_stray(&source, &self.place, *tag)).collect();
        let mut kept = Vec::new();
        for element in source {
            let tag = element.header().tag;
            if strays.contains(&tag) {
                let verdict = self.profile.decide(self.iod, &self.place, tag, element.vr());
                self.remove(tag, Reason::Stray, verdict);
                continue;
            }
            if tag.group() % 2 == 1 {
                kept.extend(self.private(element, &safe));
                continue;
            }
            kept.extend(self.element(element, &near)?);
        }
        Ok(InMemDicomObject::from_element_iter(kept))
    }

    /// What becomes of one element.
    fn element(&mut self, element: InMemElement, near: &Surroundings) -> Result<Option<InMemElement>, Refusal> {
        let element = value::retyped(element);
        let (tag, vr) = (element.header().tag, element.vr());
        let profile = self.profile;
        if let Some(action) = profile.rules.get(tag) {
            return Ok(self.by_site(action, &element));
        }
        if let Some(planned) = near.planned.filter(|_| structured::is_content_value(tag)) {
            return self.content_value(planned, element, near);
        }
        let verdict = profile.decide(self.iod, &self.place, tag, vr);
        let listed = matches!(verdict.decision, Decision::Empty | Decision::Dummy);
        if listed && tag == tags::PATIENT_ID {
            let own = Some((pseudonyms::PATIENT_ID, near.own_patient_id.clone()));
            return self.pseudonymised(tag, VR::LO, own, verdict);
        }
        if listed && tag == tags::PATIENT_NAME {
            return self.pseudonymised(tag, VR::PN, near.patient.clone(), verdict);
        }
        // The text of a content item is prose, but required where the item says that it is one.
        if tag == tags::TEXT_VALUE && matches!(verdict.decision, Decision::Remove(_)) && near.is_text_item {
            return Ok(Some(self.dummied(&element, verdict)));
        }
        self.act(verdict, element, near)
    }

    /// Carries a decision out.
    pub(crate) fn act(
        &mut self,
        verdict: Verdict,
        element: InMemElement,
        near: &Surroundings,
    ) -> Result<Option<InMemElement>, Refusal> {
        let (tag, vr) = (element.header().tag, element.vr());
        match verdict.decision {
            Decision::Remove(reason) => Ok(self.remove(tag, reason, verdict)),
            Decision::Empty => {
                self.audit.note(tag, Action::Emptied, verdict);
                Ok(Some(value::emptied(tag, proper_vr(tag, vr))))
            }
            Decision::Dummy => Ok(Some(self.dummied(&element, verdict))),
            Decision::MapUid => self.mapped(element, verdict),
            Decision::Recurse => self.recurse(element, verdict, false),
            Decision::RecurseWithCodes => self.recurse(element, verdict, true),
            Decision::References => self.references(element, verdict),
            Decision::Keep => Ok(self.keep(element, near, verdict)),
            Decision::Retain => self.retain(element, near, verdict),
            Decision::Shift => self.shift(element, near, verdict),
            Decision::CleanText => self.clean_text(element, near, verdict),
            Decision::Overlay => self.overlay(element, near, verdict),
        }
    }

    /// What the profile does without its options.
    pub(crate) fn without_options(
        &mut self,
        element: InMemElement,
        near: &Surroundings,
    ) -> Result<Option<InMemElement>, Refusal> {
        let (tag, vr) = (element.header().tag, element.vr());
        let verdict = self.profile.without_options(self.iod, &self.place, tag, vr);
        // A content item without its value would be none.
        if near.planned.is_some() && structured::is_content_value(tag) && tag != tags::UID {
            return Ok(Some(self.dummied(&element, verdict)));
        }
        self.act(verdict, element, near)
    }

    /// The private attributes of a data set that may stay, with their creators' elements.
    fn safe_private(&self, source: &InMemDicomObject) -> BTreeMap<Tag, Option<VR>> {
        if !self.profile.has(Choice::SafePrivate) {
            return BTreeMap::new();
        }
        let list = &self.profile.facts().safe_private;
        let mut safe = BTreeMap::new();
        for element in source.iter().filter(|e| e.header().tag.group() % 2 == 1) {
            let tag = element.header().tag;
            let (Some(creator), Some(at)) = (safe_private::creator(source, tag), safe_private::creator_tag(tag)) else {
                continue;
            };
            if let Some(vr) = list.vr(&creator, tag).filter(|vr| self.is_safe(element, *vr)) {
                safe.insert(tag, Some(vr));
                safe.insert(at, None);
            }
        }
        safe
    }

    /// Whether a listed private attribute has its VR (or bytes that are possible for it) and does not repeat the patient.
    fn is_safe(&self, element: &InMemElement, vr: VR) -> bool {
        let typed = (element.vr() == VR::UN).then(|| value::typed_as(element, vr)).flatten();
        let element = typed.as_ref().unwrap_or(element);
        element.vr() == vr
            && value::is_possible(vr, element.value())
            && self.profile.rules.get(element.header().tag).is_none()
            // Labels of machines are words, not sentences.
            && (!matches!(vr, VR::CS | VR::LO | VR::SH)
                || value::texts(element.value()).iter().all(|text| text.len() <= 16 && !text.contains([',', '^', '='])))
            && !value::texts(element.value()).iter().any(|text| self.map.echoes(text))
    }

    /// A private attribute: it goes, unless it is among the safe ones.
    fn private(&mut self, element: InMemElement, safe: &BTreeMap<Tag, Option<VR>>) -> Option<InMemElement> {
        let tag = element.header().tag;
        let Some(vr) = safe.get(&tag) else {
            let verdict = self.profile.decide(self.iod, &self.place, tag, element.vr());
            return self.remove(tag, Reason::Private, verdict);
        };
        let vr = vr.unwrap_or(VR::LO);
        let decision = Decision::Keep;
        let verdict = Verdict { decision, rule: Rule::Private, option: Some(Choice::SafePrivate) };
        self.audit.note(tag, Action::Kept, verdict);
        Some(if element.vr() == VR::UN { value::typed_as(&element, vr).unwrap_or(element) } else { element })
    }

    fn by_site(&mut self, action: &rules::Action, element: &InMemElement) -> Option<InMemElement> {
        let (tag, vr) = (element.header().tag, element.vr());
        let verdict = Verdict { decision: Decision::Remove(Reason::Site), rule: Rule::Site, option: None };
        match action {
            rules::Action::Remove => self.remove(tag, Reason::Site, verdict),
            rules::Action::Empty => {
                self.audit.note(tag, Action::Emptied, verdict);
                Some(value::emptied(tag, proper_vr(tag, vr)))
            }
            rules::Action::Constant(text) => {
                self.audit.note(tag, Action::Constant, verdict);
                Some(DataElement::new(tag, proper_vr(tag, vr), PrimitiveValue::from(text.as_str())))
            }
        }
    }

    pub(crate) fn remove(&mut self, tag: Tag, reason: Reason, verdict: Verdict) -> Option<InMemElement> {
        self.audit.removed(tag, reason, verdict);
        None
    }

    pub(crate) fn dummied(&mut self, element: &InMemElement, verdict: Verdict) -> InMemElement {
        let (tag, vr) = (element.header().tag, proper_vr(element.header().tag, element.vr()));
        // An empty value holds nothing; a dummy would pretend that there had been one.
        if value::is_empty(element.value()) {
            return value::emptied(tag, vr);
        }
        self.audit.note(tag, Action::Dummied, verdict);
        dummy::element(tag, vr)
    }

    fn pseudonymised(
        &mut self,
        tag: Tag,
        vr: VR,
        original: Option<(&'static str, String)>,
        verdict: Verdict,
    ) -> Result<Option<InMemElement>, Refusal> {
        let replacement = match original.filter(|(_, value)| !value.is_empty()) {
            Some((kind, original)) => self.map.id(kind, &original).ok_or_else(|| missing(tag))?,
            None => Replacement::Unlisted,
        };
        let Replacement::Pseudonym(pseudonym) = replacement else {
            self.audit.note(tag, Action::Emptied, verdict);
            return Ok(Some(value::emptied(tag, vr)));
        };
        let element = DataElement::new(tag, vr, PrimitiveValue::from(pseudonym));
        self.audit.note(tag, Action::Pseudonymised, verdict);
        Ok(Some(element))
    }

    pub(crate) fn mapped(&mut self, element: InMemElement, verdict: Verdict) -> Result<Option<InMemElement>, Refusal> {
        let tag = element.header().tag;
        if element.items().is_some() {
            return Ok(self.remove(tag, Reason::WrongVr, verdict));
        }
        let mut uids = value::texts(element.value());
        let mut changed = false;
        for uid in uids.iter_mut().filter(|uid| !uid.is_empty() && !is_well_known(uid)) {
            *uid = self.map.uid(uid).ok_or_else(|| missing(tag))?.to_owned();
            changed = true;
        }
        self.audit.note(tag, if changed { Action::MappedUids } else { Action::Kept }, verdict);
        let value = match uids.len() {
            0 => PrimitiveValue::Empty,
            _ => PrimitiveValue::Strs(uids.into_iter().collect()),
        };
        Ok(Some(DataElement::new(tag, VR::UI, value)))
    }
}

/// What the neighbours of an element say that bears on it.
pub(crate) struct Surroundings {
    own_patient_id: String,
    patient: Option<(&'static str, String)>,
    pub(crate) has_code: bool,
    is_text_item: bool,
    /// What happens to the content item whose attributes these are.
    planned: Option<Planned>,
    /// Groups of overlays that may stay.
    pub(crate) regions: Vec<u16>,
}

impl Surroundings {
    fn of(dataset: &InMemDicomObject, planned: Option<Planned>, profile: &Profile) -> Self {
        Self {
            own_patient_id: value::first_text(dataset, tags::PATIENT_ID),
            patient: pseudonyms::patient(dataset),
            has_code: codes::is_coded(dataset),
            is_text_item: value::first_text(dataset, tags::VALUE_TYPE) == "TEXT",
            planned,
            regions: if profile.has(Choice::Graphics) { graphics::regions(dataset) } else { vec![] },
        }
    }
}

/// The dictionary's VR where it is certain, else the one found: a listed value hidden under another VR is put right.
pub(crate) fn proper_vr(tag: Tag, found: VR) -> VR {
    value::dictionary_vr(tag).unwrap_or(found)
}

fn missing(tag: Tag) -> Refusal {
    Refusal::new("pseudonym-missing", format!("no pseudonym was made for the value of {tag}"))
}
