//! [`Echoes`]: the direct identifiers of a case, to find them again in labels that the table lets stay.
//!
//! People type names and numbers where they do not belong. A kept label that repeats a whole name or a number of the
//! patient is emptied, whatever the table says of it. Only whole tokens count, numbers with at least [`MIN_DIGITS`] digits,
//! and names of at least two parts, so that a maker called like a patient is left in peace.

use dicom_core::{Tag, VR};
use dicom_dictionary_std::tags;
use std::collections::BTreeSet;

/// Shorter numbers occur by chance.
pub const MIN_DIGITS: usize = 4;
/// Shorter parts of names (initials, titles) do not count.
const MIN_PART: usize = 3;

/// Attributes whose values number a person, a visit or an order.
const NUMBERS: [Tag; 14] = [
    tags::ACCESSION_NUMBER,
    tags::PATIENT_ID,
    Tag(0x0010, 0x1000), // Other Patient IDs (retired)
    tags::PATIENT_TELEPHONE_NUMBERS,
    Tag(0x0010, 0x1090), // Medical Record Locator (retired)
    Tag(0x0010, 0x1050), // Insurance Plan Identification (retired)
    tags::STUDY_ID,
    tags::ADMISSION_ID,
    tags::SERVICE_EPISODE_ID,
    tags::REQUESTED_PROCEDURE_ID,
    tags::SCHEDULED_PROCEDURE_STEP_ID,
    tags::PERFORMED_PROCEDURE_STEP_ID,
    tags::PLACER_ORDER_NUMBER_IMAGING_SERVICE_REQUEST,
    tags::FILLER_ORDER_NUMBER_IMAGING_SERVICE_REQUEST,
];

/// Direct identifiers, in lower case.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Echoes {
    numbers: BTreeSet<String>,
    /// Each name as its parts.
    names: BTreeSet<BTreeSet<String>>,
    /// Every part of every name and number, however short.
    parts: BTreeSet<String>,
}

impl Echoes {
    /// Whether an attribute names or numbers somebody.
    pub fn names_or_numbers(tag: Tag, vr: VR) -> bool {
        vr == VR::PN || NUMBERS.contains(&tag)
    }

    /// Notes the values of an attribute if it names or numbers somebody.
    pub fn note(&mut self, tag: Tag, vr: VR, values: &[String]) {
        if vr == VR::PN {
            for name in values {
                self.parts.extend(words(name).map(str::to_lowercase));
                let parts: BTreeSet<String> =
                    words(name).filter(|part| part.chars().count() >= MIN_PART).map(str::to_lowercase).collect();
                if parts.len() >= 2 {
                    self.names.insert(parts);
                }
            }
        } else if NUMBERS.contains(&tag) {
            self.parts.extend(values.iter().flat_map(|v| words(v)).map(str::to_lowercase));
            let telling = |v: &&String| v.chars().filter(char::is_ascii_digit).count() >= MIN_DIGITS;
            self.numbers.extend(values.iter().filter(telling).map(|v| v.to_lowercase()));
        }
    }

    /// How many identifiers are known.
    pub fn count(&self) -> usize {
        self.numbers.len() + self.names.len()
    }

    /// Whether a word, in lower case, is a part of any name or number.
    pub fn is_part(&self, word: &str) -> bool {
        self.parts.contains(word)
    }

    /// Whether a text repeats one of them.
    pub fn heard_in(&self, text: &str) -> bool {
        let text = text.to_lowercase();
        let parts: BTreeSet<&str> = words(&text).collect();
        self.names.iter().any(|name| name.iter().all(|part| parts.contains(part.as_str())))
            || self.numbers.iter().any(|number| holds_token(&text, number))
    }
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty())
}

/// Whether `token` stands in `text` with no letter or digit on either side.
fn holds_token(text: &str, token: &str) -> bool {
    text.match_indices(token).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        let after = text[at + token.len()..].chars().next();
        !before.is_some_and(char::is_alphanumeric) && !after.is_some_and(char::is_alphanumeric)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn echoes() -> Echoes {
        let mut echoes = Echoes::default();
        let values = |all: &[&str]| all.iter().map(|v| (*v).to_owned()).collect::<Vec<_>>();
        echoes.note(tags::PATIENT_NAME, VR::PN, &values(&["Sample^Chest^^Dr"]));
        echoes.note(tags::REFERRING_PHYSICIAN_NAME, VR::PN, &values(&["Müller-Lüdenscheidt^Ida", "Siemens"]));
        echoes.note(tags::PATIENT_ID, VR::LO, &values(&["ID-4711"]));
        echoes.note(tags::STUDY_ID, VR::SH, &values(&["1"]));
        echoes.note(tags::ACCESSION_NUMBER, VR::SH, &values(&["CHEST", "dicom2nifti"]));
        echoes.note(tags::INSTITUTION_NAME, VR::LO, &values(&["Hospital 12345"]));
        echoes
    }

    #[test]
    fn names_and_numbers_are_heard_as_whole_tokens() {
        let echoes = echoes();
        assert_eq!(echoes.count(), 3);
        for text in ["CHEST SAMPLE thin", "sample, chest", "for id-4711", "(ID-4711)", "Ida Müller-Lüdenscheidt"] {
            assert!(echoes.heard_in(text), "{text}");
        }
        for text in [
            "SAMPLE",
            "Chest",
            "samples of chests",
            "ID-47112",
            "XID-4711",
            "Siemens",
            "dicom2nifti",
            "1",
            "Hospital 12345",
            "",
        ] {
            assert!(!echoes.heard_in(text), "{text}");
        }
        assert!(["sample", "dr", "4711", "id", "ida", "chest"].iter().all(|word| echoes.is_part(word)));
        assert!(!echoes.is_part("hospital") && !echoes.is_part("471"));
    }
}
