//! [`deidentify`]: rewrites one data set in place under a [`Profile`], at every nesting level.
//!
//! The data set is built anew from what may stay; nothing is edited inside old bytes, so no remnant of a removed value
//! can be left.

use crate::audit::{Audit, Change};
use crate::codes;
use crate::dummy;
use crate::profile::{Decision, Profile, Reason};
use crate::pseudonyms::{self, Pseudonyms, is_well_known};
use crate::refusal::{self, Refusal};
use crate::strays;
use crate::value;
use dicom_core::value::{PrimitiveValue, Value};
use dicom_core::{DataElement, Tag, VR};
use dicom_dictionary_std::tags;
use dicom_object::InMemDicomObject;
use dicom_object::mem::InMemElement;

/// Sequences deeper than this are refused.
const MAX_DEPTH: usize = 32;

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

/// De-identifies a data set (without file meta; pixels, if any, are dropped).
///
/// `map` must know every UID and patient identifier of the data set ([`pseudonyms::Wanted::collect`]).
///
/// # Errors
/// A [`Refusal`]: the pixels may show the patient, a UID cannot be mapped, a pseudonym is missing, sequences nest too
/// deep. The data set is then left empty: nothing half-cleaned can be taken for clean.
pub fn deidentify(dataset: &mut InMemDicomObject, map: &dyn Pseudonyms, profile: &Profile) -> Result<Audit, Refusal> {
    let source = std::mem::replace(dataset, InMemDicomObject::new_empty());
    refusal::check_pixels(&source)?;
    pseudonyms::check_instance_uids(&source)?;
    let mut cleaner = Cleaner {
        map,
        profile,
        sop_class: value::first_text(&source, tags::SOP_CLASS_UID),
        place: Vec::new(),
        audit: Audit { datasets: 1, ..Audit::default() },
    };
    let mut clean = cleaner.clean(source)?;
    mark(&mut clean, profile);
    *dataset = clean;
    Ok(cleaner.audit)
}

/// Says in the data set itself what was done to it.
fn mark(dataset: &mut InMemDicomObject, profile: &Profile) {
    dataset.put(dummy::text((0x0012, 0x0062), VR::CS, "YES"));
    let mut methods = dataset.get(tags::DEIDENTIFICATION_METHOD).map(|e| value::texts(e.value())).unwrap_or_default();
    methods.retain(|method| !method.is_empty());
    methods.push(profile.method());
    let methods = PrimitiveValue::Strs(methods.into_iter().collect());
    dataset.put(DataElement::new(tags::DEIDENTIFICATION_METHOD, VR::LO, methods));
    let sequence = tags::DEIDENTIFICATION_METHOD_CODE_SEQUENCE;
    let mut items = dataset.take(sequence).and_then(|e| e.into_value().into_items()).unwrap_or_default().into_vec();
    items.extend(profile.codes.iter().map(|code| dummy::code(code.value, "DCM", code.meaning)));
    dataset.put(dummy::sequence(sequence, items));
    dataset.put(dummy::text((0x0028, 0x0303), VR::CS, "REMOVED"));
}

struct Cleaner<'a> {
    map: &'a dyn Pseudonyms,
    profile: &'a Profile,
    sop_class: String,
    /// The enclosing sequences, outermost first.
    place: Vec<Tag>,
    audit: Audit,
}

impl Cleaner<'_> {
    fn clean(&mut self, source: InMemDicomObject) -> Result<InMemDicomObject, Refusal> {
        if self.place.len() > MAX_DEPTH {
            return Err(Refusal::new("too-deep", format!("sequences nest deeper than {MAX_DEPTH} levels")));
        }
        let surroundings = Surroundings::of(&source);
        let strays: Vec<Tag> = source.tags().filter(|tag| strays::is_stray(&source, &self.place, *tag)).collect();
        let mut kept = Vec::new();
        for element in source {
            if strays.contains(&element.header().tag) {
                self.audit.removed(element.header().tag, Reason::Stray);
                continue;
            }
            kept.extend(self.element(element, &surroundings)?);
        }
        Ok(InMemDicomObject::from_element_iter(kept))
    }

    /// What becomes of one element.
    fn element(&mut self, element: InMemElement, near: &Surroundings) -> Result<Option<InMemElement>, Refusal> {
        let element = value::retyped(element);
        let (tag, vr) = (element.header().tag, element.vr());
        let decision = self.profile.decide(&self.sop_class, &self.place, tag, vr);
        let listed = matches!(decision, Decision::Empty | Decision::Dummy);
        if listed && tag == tags::PATIENT_ID {
            return self.pseudonymised(tag, VR::LO, Some((pseudonyms::PATIENT_ID, near.own_patient_id.clone())));
        }
        if listed && tag == tags::PATIENT_NAME {
            return self.pseudonymised(tag, VR::PN, near.patient.clone());
        }
        // The text of a content item is prose, but required where the item says that it is one.
        if tag == tags::TEXT_VALUE && matches!(decision, Decision::Remove(_)) && near.is_text_item {
            return Ok(Some(self.dummied(&element)));
        }
        match decision {
            Decision::Remove(reason) => Ok(self.remove(tag, reason)),
            Decision::Empty => {
                self.audit.changed(tag, Change::Emptied);
                Ok(Some(value::emptied(tag, proper_vr(tag, vr))))
            }
            Decision::Dummy => Ok(Some(self.dummied(&element))),
            Decision::MapUid => self.mapped(element),
            Decision::Recurse => self.recurse(element),
            Decision::References => self.references(element),
            Decision::Keep => Ok(self.keep(element, near)),
        }
    }

    fn remove(&mut self, tag: Tag, reason: Reason) -> Option<InMemElement> {
        self.audit.removed(tag, reason);
        None
    }

    fn dummied(&mut self, element: &InMemElement) -> InMemElement {
        let (tag, vr) = (element.header().tag, proper_vr(element.header().tag, element.vr()));
        // An empty value holds nothing; a dummy would pretend that there had been one.
        if value::is_empty(element.value()) {
            return value::emptied(tag, vr);
        }
        self.audit.changed(tag, Change::Dummied);
        dummy::element(tag, vr)
    }

    fn pseudonymised(
        &mut self,
        tag: Tag,
        vr: VR,
        original: Option<(&'static str, String)>,
    ) -> Result<Option<InMemElement>, Refusal> {
        let Some((kind, original)) = original.filter(|(_, value)| !value.is_empty()) else {
            self.audit.changed(tag, Change::Emptied);
            return Ok(Some(value::emptied(tag, vr)));
        };
        let pseudonym = self.map.id(kind, &original).ok_or_else(|| missing(tag))?;
        self.audit.changed(tag, Change::Pseudonymised);
        Ok(Some(DataElement::new(tag, vr, PrimitiveValue::from(pseudonym))))
    }

    fn mapped(&mut self, element: InMemElement) -> Result<Option<InMemElement>, Refusal> {
        let tag = element.header().tag;
        if element.items().is_some() {
            return Ok(self.remove(tag, Reason::WrongVr));
        }
        let mut uids = value::texts(element.value());
        let mut changed = false;
        for uid in uids.iter_mut().filter(|uid| !uid.is_empty() && !is_well_known(uid)) {
            *uid = self.map.uid(uid).ok_or_else(|| missing(tag))?.to_owned();
            changed = true;
        }
        if changed {
            self.audit.changed(tag, Change::MappedUids);
        } else {
            self.audit.kept += 1;
        }
        let value = match uids.len() {
            0 => PrimitiveValue::Empty,
            _ => PrimitiveValue::Strs(uids.into_iter().collect()),
        };
        Ok(Some(DataElement::new(tag, VR::UI, value)))
    }

    fn recurse(&mut self, element: InMemElement) -> Result<Option<InMemElement>, Refusal> {
        let tag = element.header().tag;
        let Some(items) = element.into_value().into_items() else {
            return Ok(self.remove(tag, Reason::WrongVr));
        };
        let (mut cleaned, mut hollowed) = (Vec::with_capacity(items.len()), false);
        self.place.push(tag);
        for mut item in items {
            if tag == tags::CODING_SCHEME_IDENTIFICATION_SEQUENCE && codes::describes_local_scheme(&item) {
                hollowed = true;
                continue;
            }
            if codes::is_local(&item) {
                codes::replace(&mut item);
                self.audit.changed(tags::CODE_VALUE, Change::Dummied);
            }
            let held = item.iter().next().is_some();
            let item = self.clean(item)?;
            hollowed |= held && item.iter().next().is_none();
            cleaned.push(item);
        }
        self.place.pop();
        // Items that lost all they had would only be invalid; the rest of such a sequence keeps its full items.
        if hollowed {
            cleaned.retain(|item| item.iter().next().is_some());
            if cleaned.is_empty() {
                return Ok(self.remove(tag, Reason::Hollow));
            }
        }
        self.audit.kept += 1;
        Ok(Some(dummy::sequence(tag, cleaned)))
    }

    /// A `U*` sequence: items that refer to an instance stay, reduced to the reference. Without any, it is as listed: out.
    fn references(&mut self, element: InMemElement) -> Result<Option<InMemElement>, Refusal> {
        let tag = element.header().tag;
        let Some(items) = element.into_value().into_items() else {
            return Ok(self.remove(tag, Reason::WrongVr));
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
                    audit.removed(e.header().tag, Reason::Listed);
                }
                stays
            });
            cleaned.push(self.clean(item)?);
        }
        self.place.pop();
        if cleaned.is_empty() {
            return Ok(match self.profile.type_of(&self.sop_class, &self.place, tag) {
                crate::image_types::Type::Three => self.remove(tag, Reason::Listed),
                _ => {
                    self.audit.changed(tag, Change::Emptied);
                    Some(dummy::sequence(tag, vec![]))
                }
            });
        }
        self.audit.changed(tag, Change::MappedUids);
        Ok(Some(dummy::sequence(tag, cleaned)))
    }

    /// An unlisted attribute that may stay, unless what it holds cannot be what it says.
    fn keep(&mut self, element: InMemElement, near: &Surroundings) -> Option<InMemElement> {
        let (tag, vr) = (element.header().tag, element.vr());
        if !matches!(element.value(), Value::Primitive(_)) || !value::is_possible(vr, element.value()) {
            return self.remove(tag, Reason::WrongVr);
        }
        // A meaning without a code is prose.
        if tag == tags::CODE_MEANING && !near.has_code {
            return self.remove(tag, Reason::Unbounded);
        }
        if tag == tags::SPECIFIC_CHARACTER_SET && !value::texts(element.value()).iter().all(|t| is_charset(t)) {
            return self.remove(tag, Reason::WrongVr);
        }
        let label = matches!(vr, VR::LO | VR::LT | VR::SH | VR::ST | VR::UC | VR::UT);
        if label && value::texts(element.value()).iter().any(|text| self.map.echoes(text)) {
            self.audit.changed(tag, Change::EmptiedEcho);
            return Some(value::emptied(tag, vr));
        }
        self.audit.kept += 1;
        Some(element)
    }
}

/// What the neighbours of an element say that bears on it.
struct Surroundings {
    own_patient_id: String,
    patient: Option<(&'static str, String)>,
    has_code: bool,
    is_text_item: bool,
}

impl Surroundings {
    fn of(dataset: &InMemDicomObject) -> Self {
        let codes = [tags::CODE_VALUE, tags::LONG_CODE_VALUE, tags::URN_CODE_VALUE];
        Self {
            own_patient_id: value::first_text(dataset, tags::PATIENT_ID),
            patient: pseudonyms::patient(dataset),
            has_code: codes.iter().any(|tag| !value::first_text(dataset, *tag).is_empty()),
            is_text_item: value::first_text(dataset, tags::VALUE_TYPE) == "TEXT",
        }
    }
}

/// A defined term of Specific Character Set (PS3.3 C.12.1.1.2), or the empty first value of a list.
fn is_charset(term: &str) -> bool {
    let digits = |rest: &str| !rest.is_empty() && rest.len() <= 3 && rest.chars().all(|c| c.is_ascii_digit());
    matches!(term, "" | "GB18030" | "GBK")
        || ["ISO_IR ", "ISO 2022 IR "].iter().any(|p| term.strip_prefix(p).is_some_and(digits))
}

/// The dictionary's VR where it is certain, else the one found: a listed value hidden under another VR is put right.
fn proper_vr(tag: Tag, found: VR) -> VR {
    value::dictionary_vr(tag).unwrap_or(found)
}

fn missing(tag: Tag) -> Refusal {
    Refusal::new("pseudonym-missing", format!("no pseudonym was made for the value of {tag}"))
}
