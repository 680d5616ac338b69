//! [`Echoes`]: the direct identifiers of a case, to find them again in labels that the table lets stay.
//!
//! People type names and numbers where they do not belong. A kept label that repeats a word of the patient's own names, a
//! family name of anybody together with a given name, or a number, is emptied, whatever the table says of it. Only whole
//! tokens count. Of the patient's own names one word is enough ([`own_names`](crate::own_names)): a maker called
//! like the patient is emptied too, while one called like a physician is left in peace. Numbers have at least four digits,
//! or letters and digits, five together; a PatientID may be a word. Names in scripts without spaces are found within words
//! ([`unspaced`](crate::unspaced)). Spelling is [folded](fold), and `OBrien` is `O'Brien`.
//!
//! Numbers and names are looked up by the tokens of a label, so a label costs its length however many are known.

use crate::fold::fold;
use crate::iso2022::decoded;
use crate::own_names::{OwnNames, identifies, numbers};
use crate::unspaced::UnspacedNames;
use dicom_core::{Tag, VR};
use dicom_dictionary_std::tags;
use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap, HashSet};

/// Shorter parts of names (initials) do not count; in other scripts than ours one letter may be a whole name.
const MIN_PART: usize = 2;
/// More values of one element are not noted.
pub const MAX_VALUES: usize = 1000;
/// Longer numbers than an attribute can hold are searched by their beginning.
const MAX_NUMBER: usize = 64;
/// Where two words need so many different further words to be a name, the two are enough.
const MAX_FURTHER: usize = 16;

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

/// The names of the patient, and of nobody else.
const OWN_NAMES: [Tag; 4] =
    [tags::PATIENT_NAME, tags::OTHER_PATIENT_NAMES, tags::PATIENT_BIRTH_NAME, tags::PATIENT_MOTHER_BIRTH_NAME];
/// Attributes that may name a patient by a word.
const OWN_IDS: [Tag; 2] = [tags::PATIENT_ID, Tag(0x0010, 0x1000)];

/// Direct identifiers, folded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Echoes {
    /// Every value that is searched for.
    searched: BTreeSet<String>,
    /// Numbers, and names written without a space; and whether each is only the beginning of a longer one.
    spans: HashMap<String, bool>,
    /// The lengths in bytes of the spans that begin with a token.
    lengths: HashMap<String, BTreeSet<usize>>,
    /// By a word of the family name and one of the given name: the sets of words that must stand beside the two.
    names: HashMap<String, HashMap<String, BTreeSet<BTreeSet<String>>>>,
    /// Words of the patient's own names.
    own: OwnNames,
    /// Names in scripts without spaces.
    unspaced: UnspacedNames,
    /// Every part of every name and number, however short.
    parts: BTreeSet<String>,
}

impl Echoes {
    /// Whether an attribute names or numbers somebody.
    pub fn names_or_numbers(tag: Tag, vr: VR) -> bool {
        vr == VR::PN || NUMBERS.contains(&tag)
    }

    /// Notes the values of an attribute, the first [`MAX_VALUES`] of them, if it names or numbers somebody.
    pub fn note(&mut self, tag: Tag, vr: VR, values: &[String]) {
        if !Self::names_or_numbers(tag, vr) {
            return;
        }
        // What parts two values may be half of a character where code extensions are in use.
        let values = values.iter().take(MAX_VALUES).map(String::as_str).collect::<Vec<_>>().join("\\");
        for value in decoded(&values).split('\\').map(fold) {
            for spelling in spellings(&value) {
                self.parts.extend(runs(&spelling).map(|(_, word)| word.to_owned()));
            }
            let searched = if vr == VR::PN {
                // Every group (letters, ideographs, sounds) is a name of its own.
                let own = OWN_NAMES.contains(&tag);
                value.split('=').filter(|group| self.note_name(group) | (own && self.note_words_of(group))).count() > 0
            } else {
                (numbers(&value) || (OWN_IDS.contains(&tag) && identifies(&value))) && self.note_span(&value)
            };
            if searched {
                self.searched.insert(value);
            }
        }
    }

    /// Notes one group of a name; says whether it is one to search for.
    fn note_name(&mut self, group: &str) -> bool {
        let counts = |word: &str| !word.is_ascii() || word.len() >= MIN_PART;
        let words = |spelling: &str| -> Vec<String> {
            runs(spelling).map(|(_, word)| word).filter(|word| counts(word)).map(str::to_owned).collect()
        };
        // Family, given and middle name, each in its spellings; the middle one counts where another is missing.
        let components: Vec<(&str, Vec<Vec<String>>)> = group
            .split('^')
            .take(3)
            .map(|component| (component, spellings(component).iter().map(|spelling| words(spelling)).collect()))
            .filter(|(_, spelled): &(_, Vec<Vec<String>>)| spelled.iter().any(|words| !words.is_empty()))
            .collect();
        match components.as_slice() {
            [(family, families), (given, givens), ..] => {
                let unspaced = self.unspaced.note(family, given);
                if !unspaced && !families.iter().chain(givens).flatten().any(|word| word.is_ascii()) {
                    let joined = |a: &str, b: &str| format!("{a}{b}").split_whitespace().collect::<String>();
                    self.note_span(&joined(family, given));
                    self.note_span(&joined(given, family));
                }
                let mut noted = unspaced;
                for family in families {
                    for given in givens.iter().flatten() {
                        noted |= self.note_words(family, given);
                    }
                }
                noted
            }
            // Written without its components: all words must be found.
            [(name, spelled)] => {
                let mut noted = self.unspaced.note_whole(name);
                for words in spelled {
                    if let Some((last, others)) = words.split_last() {
                        noted |= self.note_words(others, last);
                    }
                }
                noted
            }
            [] => false,
        }
    }

    /// Notes the words of one group of the patient's own name, each for itself.
    fn note_words_of(&mut self, group: &str) -> bool {
        let mut noted = false;
        for spelling in group.split('^').take(3).flat_map(spellings) {
            let (mut unspaced, mut words) = (false, Vec::new());
            for (_, word) in runs(&spelling) {
                match self.unspaced.note_word(word) {
                    Some(is_searched) => unspaced |= is_searched,
                    None => words.push(word),
                }
            }
            noted |= unspaced | self.own.note(&words);
        }
        noted
    }

    /// Notes words that make a name together.
    fn note_words(&mut self, family: &[String], given: &String) -> bool {
        let Some((first, others)) = family.split_first() else { return false };
        if family.contains(given) {
            return false;
        }
        let further = self.names.entry(first.clone()).or_default().entry(given.clone()).or_default();
        if further.len() >= MAX_FURTHER {
            further.clear();
            further.insert(BTreeSet::new());
        } else if !further.contains(&BTreeSet::new()) {
            further.insert(others.iter().cloned().collect());
        }
        true
    }

    /// Notes a text to be found whole.
    fn note_span(&mut self, text: &str) -> bool {
        let text = text.trim_matches(|c: char| !c.is_alphanumeric());
        let Some((_, token)) = runs(text).next() else { return false };
        let begins = text.char_indices().nth(MAX_NUMBER).and_then(|(at, _)| text.get(..at));
        let span = begins.unwrap_or(text);
        self.lengths.entry(token.to_owned()).or_default().insert(span.len());
        *self.spans.entry(span.to_owned()).or_default() |= begins.is_some();
        true
    }

    /// How many names and numbers are searched for.
    pub fn count(&self) -> usize {
        self.searched.len()
    }

    /// Whether a word is a part of any name or number.
    pub fn is_part(&self, word: &str) -> bool {
        self.parts.contains(&fold(word))
    }

    /// Whether a text repeats one of them.
    pub fn heard_in(&self, text: &str) -> bool {
        let text = fold(&decoded(text));
        if self.unspaced.heard_in(&text) {
            return true;
        }
        for (at, token) in runs(&text) {
            if self.lengths.get(token).is_some_and(|lengths| lengths.iter().any(|len| self.spans_at(&text, at, *len))) {
                return true;
            }
        }
        let spellings = spellings(&text);
        let words: HashSet<&str> = spellings.iter().flat_map(|text| runs(text)).map(|(_, word)| word).collect();
        self.own.heard_among(&words)
            || words.iter().any(|word| self.names.get(*word).is_some_and(|givens| completes(givens, &words)))
    }

    /// Whether a span of this length stands here, with no letter or digit after it. None stands before: a token begins.
    fn spans_at(&self, text: &str, at: usize, len: usize) -> bool {
        let Some((span, rest)) = text.get(at..).and_then(|text| text.split_at_checked(len)) else { return false };
        match self.spans.get(span) {
            Some(begins) => *begins || !rest.starts_with(char::is_alphanumeric),
            None => false,
        }
    }
}

/// Whether the words of a text hold a given name and what else makes the name.
fn completes(givens: &HashMap<String, BTreeSet<BTreeSet<String>>>, words: &HashSet<&str>) -> bool {
    let all = |further: &BTreeSet<BTreeSet<String>>| {
        further.iter().any(|further| further.iter().all(|word| words.contains(word.as_str())))
    };
    // The shorter list is gone through.
    if givens.len() < words.len() {
        givens.iter().any(|(given, further)| words.contains(given.as_str()) && all(further))
    } else {
        words.iter().any(|word| givens.get(*word).is_some_and(all))
    }
}

/// A folded text as it stands, without its apostrophes, and without its hyphens as well.
fn spellings(text: &str) -> Vec<Cow<'_, str>> {
    let mut all = vec![Cow::Borrowed(text)];
    for (mark, marks) in [('\'', &['\''][..]), ('-', &['\'', '-'])] {
        if text.contains(mark) {
            all.push(Cow::Owned(text.replace(marks, "")));
        }
    }
    all
}

/// The runs of letters and digits of a text, and where each begins.
fn runs(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let start = at + text.get(at..)?.find(char::is_alphanumeric)?;
        let tail = text.get(start..)?;
        let run = tail.get(..tail.find(|c: char| !c.is_alphanumeric()).unwrap_or(tail.len()))?;
        at = start + run.len();
        Some((start, run))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn echoes() -> Echoes {
        let mut echoes = Echoes::default();
        let values = |all: &[&str]| all.iter().map(|v| (*v).to_owned()).collect::<Vec<_>>();
        echoes.note(tags::NAME_OF_PHYSICIANS_READING_STUDY, VR::PN, &values(&["Sample^Chest^^Dr"]));
        echoes.note(tags::REFERRING_PHYSICIAN_NAME, VR::PN, &values(&["Müller-Lüdenscheidt^Ida", "Siemens"]));
        echoes.note(tags::PATIENT_ID, VR::LO, &values(&["ID-4711"]));
        echoes.note(tags::STUDY_ID, VR::SH, &values(&["1"]));
        echoes.note(tags::ACCESSION_NUMBER, VR::SH, &values(&["CHEST", "ct2x", "TANNHUBER"]));
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
            "ct2x",
            "TANNHUBER",
            "1",
            "Hospital 12345",
            "",
        ] {
            assert!(!echoes.heard_in(text), "{text}");
        }
        assert!(["sample", "dr", "4711", "id", "ida", "chest"].iter().all(|word| echoes.is_part(word)));
        assert!(!echoes.is_part("hospital") && !echoes.is_part("471"));
    }

    fn named(names: &[&str]) -> Echoes {
        let mut echoes = Echoes::default();
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        echoes.note(tags::REFERRING_PHYSICIAN_NAME, VR::PN, &names);
        echoes
    }

    #[test]
    fn one_word_of_the_patients_own_names_is_enough() {
        for (name, heard, not_heard) in [
            ("Tannhuber", &["Tannhuber", "TANNHUBER B30f", "b30f_tannhuber"][..], &["Tannhubers", "B30f"][..]),
            ("Zwickelbach^Hildegunde^Maria", &["Zwickelbach Maria", "ZWICKELBACH", "maria"], &["Mari", ""]),
            ("Yamada^Tarou=山田^太郎=やまだ^たろう", &["山田", "太郎様", "yamada", "ﾔﾏﾀﾞ"], &["患者", "山田線"]),
            ("Щукин^Ли", &["Щукин", "B30f щукин", "Ли CT"], &["Щукина"]),
            ("O'Brien^Ann-Marie^^Dr^MD", &["OBrien", "O’Brien 2", "Annmarie", "Marie"], &["O", "MD", "Dr"]),
            ("van der Berg^Jo", &["Berg", "JO"], &["van der", "Jo 3"]),
            ("Müller", &["MULLER", "Mu\u{308}ller filter"], &["Mueller"]),
            ("Li^Na", &["LI", "na"], &["Li B30f", "Lina"]),
            ("Head^Long", &["Long", "long head"], &["HEAD", "head soft"]),
            ("Chest^Patient", &["chest patient"], &["Chest", "Patient"]),
        ] {
            for tag in OWN_NAMES {
                let mut echoes = Echoes::default();
                echoes.note(tag, VR::PN, &[name.to_owned()]);
                assert_eq!(echoes.count(), 1, "{name}");
                for text in heard {
                    assert!(echoes.heard_in(text), "{name} in {text}");
                }
                for text in not_heard {
                    assert!(!echoes.heard_in(text), "{name} in {text}");
                }
            }
        }
    }

    #[test]
    fn family_and_given_name_are_enough_in_any_script_and_order() {
        for (name, heard, not_heard) in [
            (
                "Yamada^Tarou=山田^太郎=やまだ^たろう",
                &[
                    "Yamada Tarou",
                    "tarou_yamada",
                    "山田 太郎",
                    "山田太郎",
                    "太郎山田",
                    "CT 山田太郎",
                    "患者山田太郎",
                    "山田太郎様",
                    "やまだ　たろう",
                    "ﾔﾏﾀﾞﾀﾛｳ",
                ][..],
                &["Yamada", "山田", "患者太郎", "Yamada 太郎", "yamadatarou"][..],
            ),
            ("Roesler^Jane^Maria", &["Roesler Jane", "JANE ROESLER"], &["Jane Maria", "Roesler", "Roesler J"]),
            ("Li^Na", &["pat Li Na", "na, li"], &["Li", "Lina", "Li N"]),
            ("Roesler^J^Maria", &["Maria Roesler"], &["J Roesler"]),
            ("van der Berg^Ida Jo", &["Ida van der Berg", "VAN DER BERG, JO"], &["Ida Berg", "van der Berg"]),
            ("김^민", &["김민", "민 김", "환자김민님"], &["김", "김민수"]),
            ("김철수", &["환자 김철수", "김철수님"], &["김철", "김 철"]),
            (
                "O'Brien^Mary",
                &["OBrien Mary", "O’BRIEN, MARY", "mary o brien", "Mary Brien"],
                &["OBrien", "obrienmary"],
            ),
            ("OBrien^Mary", &["O'Brien Mary"], &["O'Brien"]),
            (
                "Müller-Lüdenscheidt^Ann-Marie",
                &["Muller Ludenscheidt, Annmarie", "MULLERLUDENSCHEIDT Ann", "Müller‑Lüdenscheidt Marie"],
                &["Müller Ann", "Annmarie Muller"],
            ),
            ("Erika Example", &["Example, Erika"], &["Erika"]),
            ("Siemens", &[], &["Siemens"]),
            ("Siemens^^^Dr", &[], &["Dr Siemens"]),
            ("Thomas^Thomas", &[], &["Thomas"]),
        ] {
            let echoes = named(&[name]);
            assert_eq!(echoes.count(), usize::from(!heard.is_empty()), "{name}");
            for text in heard {
                assert!(echoes.heard_in(text), "{name} in {text}");
            }
            for text in not_heard {
                assert!(!echoes.heard_in(text), "{name} in {text}");
            }
        }
    }

    #[test]
    fn numbers_are_heard_whole() {
        let mut echoes = Echoes::default();
        let long = "7".repeat(80);
        let numbers = ["#47-11/a", "(030) 1234", &long].map(str::to_owned);
        echoes.note(tags::PATIENT_ID, VR::LO, &numbers);
        assert_eq!(echoes.count(), 3);
        echoes.note(tags::ACCESSION_NUMBER, VR::SH, &["QWERTZ12", "PID-955", "dicom2nifti", "B30f"].map(str::to_owned));
        echoes.note(tags::PATIENT_ID, VR::LO, &["TANNHUBER", "STANDARD", "HSE"].map(str::to_owned));
        assert_eq!(echoes.count(), 7);
        for text in ["qwertz12", "x QWERTZ12 B30f", "pid-955", "DICOM2NIFTI", "Tannhuber"] {
            assert!(echoes.heard_in(text), "{text}");
        }
        for text in ["qwertz", "QWERTZ123", "pid", "955", "B30f", "STANDARD", "HSE"] {
            assert!(!echoes.heard_in(text), "{text}");
        }
        for text in ["47-11/A", "see 47 47-11/a.", "030) 1234", &format!("x {long}")] {
            assert!(echoes.heard_in(text), "{text}");
        }
        for text in ["47-11", "47-11/ab", "147-11/a", "47 11/a", "030 1234", &"7".repeat(63)] {
            assert!(!echoes.heard_in(text), "{text}");
        }
    }

    #[test]
    fn fifty_thousand_identifiers_are_told_apart() {
        let mut echoes = Echoes::default();
        for chunk in 0..50 {
            let all = |prefix: &str| (0..1000).map(|n| format!("{prefix}{:05}", chunk * 1000 + n)).collect::<Vec<_>>();
            echoes.note(tags::PATIENT_ID, VR::LO, &all("id-"));
            echoes.note(tags::REFERRING_PHYSICIAN_NAME, VR::PN, &all("Example^Given"));
        }
        assert_eq!(echoes.count(), 100_000);
        let quiet = "id id-4 example ".repeat(4000);
        assert!(quiet.len() > 60_000 && !echoes.heard_in(&quiet));
        for last in ["id-00000", "id-49999", "given31415"] {
            assert!(echoes.heard_in(&format!("{quiet}{last}")), "{last}");
        }
        for last in ["id-50000", "id-499990", "given50000"] {
            assert!(!echoes.heard_in(&format!("{quiet}{last}")), "{last}");
        }
    }

    #[test]
    fn the_first_thousand_values_of_an_element_are_noted() {
        let mut echoes = Echoes::default();
        let all: Vec<String> = (1000..3000).map(|n| format!("{n}")).collect();
        echoes.note(tags::PATIENT_ID, VR::LO, &all);
        assert_eq!(echoes.count(), MAX_VALUES);
        assert!(echoes.heard_in("1999") && !echoes.heard_in("2000"));
    }

    #[test]
    fn many_families_with_one_word_in_common_need_no_further_words() {
        let names: Vec<String> = (0..MAX_FURTHER).map(|n| format!("Van Example{n}^Ida")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        assert!(!named(&names).heard_in("Ida Van") && named(&names).heard_in("Ida van Example3"));
        let more = named(&[names.as_slice(), &["Van Dorn^Ida"]].concat());
        assert!(more.heard_in("Ida Van") && !more.heard_in("Ida"));
    }
}
