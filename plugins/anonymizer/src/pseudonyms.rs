//! [`Wanted`]: the identifiers of a whole case, asked for in one request; [`Answered`]: what the host's service
//! `gantry.pseudonym/1` gave for them. The key stays in the host.

use crate::echo::Echoes;
use crate::refusal::Refusal;
use crate::value;
use dicom_core::{Tag, VR};
use dicom_dictionary_std::tags;
use dicom_object::InMemDicomObject;
use serde::Deserialize;
use serde_json::json;
use std::collections::{BTreeSet, HashMap};

/// The service's versioned name.
pub const SERVICE: &str = "gantry.pseudonym/1";
/// Kind of identifiers from PatientID.
pub const PATIENT_ID: &str = "patient-id";
/// Kind of identifiers from PatientName where there is no PatientID.
pub const PATIENT_NAME: &str = "patient-name";

/// Where replacements come from.
pub trait Pseudonyms {
    /// The replacement of a UID; `None` if it was never asked for.
    fn uid(&self, original: &str) -> Option<&str>;
    /// Whether a text repeats a direct identifier of the case.
    fn echoes(&self, text: &str) -> bool;
    /// Whether a word, in lower case, is a part of a direct identifier of the case.
    fn is_part(&self, word: &str) -> bool;
    /// The replacement of an identifier of a kind ([`PATIENT_ID`], [`PATIENT_NAME`]).
    fn id(&self, kind: &str, original: &str) -> Option<Replacement<'_>>;
    /// By how many days the patient's dates move, if they do.
    fn days(&self) -> Option<i64>;
}

/// What stands for a patient's identifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replacement<'a> {
    /// This pseudonym.
    Pseudonym(&'a str),
    /// Nothing: the site's list of pseudonyms has none for it.
    Unlisted,
}

/// Whether a UID is registered by the DICOM standard itself (classes, syntaxes, well-known instances): never mapped.
/// What only begins like one (letters, or components long enough for a telephone number) is none.
pub fn is_well_known(uid: &str) -> bool {
    let Some(rest) = uid.strip_prefix("1.2.840.10008.") else { return false };
    let short = |part: &str| (1..=6).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
    rest.len() <= 32 && rest.split('.').all(short)
}

/// Identifiers to be replaced.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    uids: BTreeSet<String>,
    ids: BTreeSet<(&'static str, String)>,
    /// The patient whose dates move.
    moved: Option<String>,
    echoes: Echoes,
}

impl Wanted {
    /// Asks for the date offset of a patient as well.
    pub fn move_dates_of(&mut self, patient: &str) {
        self.moved = Some(patient.to_owned());
    }

    /// Adds every UID and patient identifier of a data set, at every level. More than what is used in the end may be
    /// asked for; that costs nothing.
    pub fn collect(&mut self, dataset: &InMemDicomObject, lists_uid: &dyn Fn(Tag) -> bool) {
        for element in dataset {
            let tag = element.header().tag;
            if tag.group() % 2 == 1 {
                continue;
            }
            if let Some(items) = element.items() {
                items.iter().for_each(|item| self.collect(item, lists_uid));
                continue;
            }
            let vr = element.vr();
            if Echoes::names_or_numbers(tag, vr) {
                self.echoes.note(tag, vr, &value::texts(element.value()));
            }
            // What comes as UN is mapped under the dictionary's VR.
            if vr == VR::UI || lists_uid(tag) || (vr == VR::UN && value::dictionary_vr(tag) == Some(VR::UI)) {
                let uids = value::texts(element.value());
                self.uids.extend(uids.into_iter().filter(|uid| !uid.is_empty() && !is_well_known(uid)));
            } else if tag == tags::PATIENT_ID {
                self.ids.extend(held(PATIENT_ID, value::first_text(dataset, tag)));
            } else if tag == tags::PATIENT_NAME && value::first_text(dataset, tags::PATIENT_ID).is_empty() {
                self.ids.extend(held(PATIENT_NAME, value::first_text(dataset, tag)));
            }
        }
    }

    /// How many direct identifiers kept labels will be searched for.
    pub fn searched(&self) -> usize {
        self.echoes.count()
    }

    /// The request's JSON.
    pub fn request(&self) -> String {
        let ids: Vec<_> = self.ids.iter().map(|(kind, value)| json!({"kind": kind, "value": value})).collect();
        json!({"uids": self.uids, "ids": ids, "date_offsets": self.moved.iter().collect::<Vec<_>>()}).to_string()
    }

    /// Pairs the service's answer with what was asked.
    ///
    /// # Errors
    /// An answer of another shape or length, or one that leaves an identifier as it was.
    pub fn answered(self, response: &str) -> Result<Answered, String> {
        #[derive(Deserialize)]
        struct Response {
            uids: Vec<String>,
            ids: Vec<Option<String>>,
            #[serde(default)]
            date_offset_days: Vec<i64>,
        }
        // serde_json's message may quote the answer; only the fact is told.
        let response: Response = serde_json::from_str(response)
            .map_err(|_| format!("{SERVICE}: the answer is not an object with uids and ids"))?;
        if response.uids.len() != self.uids.len() || response.ids.len() != self.ids.len() {
            return Err(format!(
                "{SERVICE}: asked for {} UIDs and {} identifiers, got {} and {}",
                self.uids.len(),
                self.ids.len(),
                response.uids.len(),
                response.ids.len()
            ));
        }
        if response.date_offset_days.len() != usize::from(self.moved.is_some()) {
            return Err(format!("{SERVICE}: the answer holds another number of date offsets than were asked for"));
        }
        let answered = Answered {
            uids: self.uids.into_iter().zip(response.uids).collect(),
            echoes: self.echoes,
            days: response.date_offset_days.first().copied(),
            ids: self.ids.into_iter().map(|(kind, value)| (kind.to_owned(), value)).zip(response.ids).collect(),
        };
        let unchanged = answered.uids.iter().any(|(old, new)| old == new || new.is_empty())
            || answered.ids.iter().any(|((_, old), new)| new.as_ref().is_some_and(|new| old == new || new.is_empty()))
            || answered.days == Some(0);
        if unchanged {
            Err(format!("{SERVICE}: an identifier or date came back unchanged or empty"))
        } else {
            Ok(answered)
        }
    }
}

/// An identifier with its kind, if there is one.
fn held(kind: &'static str, value: String) -> Option<(&'static str, String)> {
    (!value.is_empty()).then_some((kind, value))
}

/// The service's answer.
#[derive(Debug, Clone, Default)]
pub struct Answered {
    uids: HashMap<String, String>,
    ids: HashMap<(String, String), Option<String>>,
    days: Option<i64>,
    echoes: Echoes,
}

impl Pseudonyms for Answered {
    fn uid(&self, original: &str) -> Option<&str> {
        self.uids.get(original).map(String::as_str)
    }

    fn echoes(&self, text: &str) -> bool {
        self.echoes.heard_in(text)
    }

    fn is_part(&self, word: &str) -> bool {
        self.echoes.is_part(word)
    }

    fn id(&self, kind: &str, original: &str) -> Option<Replacement<'_>> {
        let answer = self.ids.get(&(kind.to_owned(), original.to_owned()))?;
        Some(answer.as_deref().map_or(Replacement::Unlisted, Replacement::Pseudonym))
    }

    fn days(&self) -> Option<i64> {
        self.days
    }
}

/// The patient of a data set: PatientID, or PatientName where there is none, as (kind, value). `None` for nobody.
pub fn patient(dataset: &InMemDicomObject) -> Option<(&'static str, String)> {
    held(PATIENT_ID, value::first_text(dataset, tags::PATIENT_ID))
        .or_else(|| held(PATIENT_NAME, value::first_text(dataset, tags::PATIENT_NAME)))
}

/// Refuses instance UIDs under the standard's own root: they could not be told from well-known UIDs, so they would stay.
///
/// # Errors
/// `well-known-instance-uid`.
pub fn check_instance_uids(dataset: &InMemDicomObject) -> Result<(), Refusal> {
    for (tag, name) in [
        (tags::SOP_INSTANCE_UID, "SOPInstanceUID"),
        (tags::STUDY_INSTANCE_UID, "StudyInstanceUID"),
        (tags::SERIES_INSTANCE_UID, "SeriesInstanceUID"),
    ] {
        if is_well_known(&value::first_text(dataset, tag)) {
            return Err(Refusal::new(
                "well-known-instance-uid",
                format!("{name} lies under 1.2.840.10008, the root of the standard itself, where nothing is mapped"),
            ));
        }
    }
    Ok(())
}
