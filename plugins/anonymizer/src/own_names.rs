//! [`OwnNames`]: single words of the patient's own names, which give the patient away without the rest of the name.
//!
//! A word counts where it stands as a whole word, unless it is harmless ([`is_harmless`]), a particle beside another word
//! (`van der Berg`), or short: Latin words have three letters and more, those of other scripts two. A Latin name of two
//! letters counts where a label holds nothing else.

use crate::descriptors::is_harmless;
use std::collections::HashSet;

/// Letters that a Latin word must have.
const LETTERS: usize = 3;
/// The same for other scripts; and for a Latin name that is a whole label.
const FEW_LETTERS: usize = 2;
/// Letters and digits that a word with digits must have.
const MIXED: usize = 5;
/// Digits that are enough.
const DIGITS: usize = 4;

/// Words that belong to many names; they count where nothing else stands beside them.
const PARTICLES: [&str; 22] = [
    "and", "aus", "bin", "bint", "das", "del", "della", "den", "der", "des", "dos", "ibn", "las", "los", "ten", "ter",
    "und", "van", "vom", "von", "zum", "zur",
];

/// Single words, folded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct OwnNames {
    words: HashSet<String>,
    /// Of two letters.
    whole: HashSet<String>,
}

impl OwnNames {
    /// Notes the words of one component of a name; says whether one of them is searched for.
    pub(crate) fn note(&mut self, words: &[&str]) -> bool {
        let mut noted = false;
        for word in words.iter().filter(|word| !is_harmless(word)) {
            if PARTICLES.contains(word) && words.iter().any(|other| !PARTICLES.contains(other)) {
                continue;
            }
            let letters = word.chars().filter(|c| c.is_alphabetic()).count();
            let enough = if word.is_ascii() { LETTERS } else { FEW_LETTERS };
            if letters >= enough || numbers(word) {
                self.words.insert((*word).to_owned());
                noted = true;
            } else if letters >= FEW_LETTERS {
                self.whole.insert((*word).to_owned());
                noted = true;
            }
        }
        noted
    }

    /// Whether one of the words of a label is such a word.
    pub(crate) fn heard_among(&self, words: &HashSet<&str>) -> bool {
        let is_whole = || words.len() == 1 && words.iter().any(|word| self.whole.contains(*word));
        words.iter().any(|word| self.words.contains(*word)) || is_whole()
    }
}

/// Whether a folded text holds digits enough, or some and letters enough, to be somebody's number.
pub(crate) fn numbers(text: &str) -> bool {
    let digits = text.chars().filter(char::is_ascii_digit).count();
    digits >= DIGITS || (digits > 0 && text.chars().filter(|c| c.is_alphanumeric()).count() >= MIXED)
}

/// Whether a folded text without digits, as a patient's identifier, says who it is: one of its words is not harmless.
pub(crate) fn identifies(text: &str) -> bool {
    let words = || text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    text.chars().filter(|c| c.is_alphabetic()).count() >= MIXED && !words().all(is_harmless)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_that_give_somebody_away_are_noted() {
        let mut names = OwnNames::default();
        assert!(names.note(&["tannhuber"]) && names.note(&["van", "der", "berg"]) && names.note(&["li"]));
        assert!(names.note(&["ли"]) && names.note(&["ng", "ab123"]));
        assert!(!names.note(&["head"]) && !names.note(&["j"]) && !names.note(&["ct"]) && !names.note(&["a1"]));
        for label in [&["b30f", "tannhuber"][..], &["berg"], &["li"], &["ли", "ct"], &["ng"], &["x", "ab123"]] {
            assert!(names.heard_among(&label.iter().copied().collect()), "{label:?}");
        }
        for label in [&["van", "der"][..], &["li", "ct"], &["head"], &["tannhubers"], &["j"], &[]] {
            assert!(!names.heard_among(&label.iter().copied().collect()), "{label:?}");
        }
        assert!(names.note(&["van"]) && names.heard_among(&HashSet::from(["van", "x"])));
    }

    #[test]
    fn numbers_are_told_from_what_occurs_by_chance() {
        assert!(["qwertz12", "pid-955", "4711", "a-4711", "ab123"].iter().all(|text| numbers(text)));
        assert!(!["1", "ct1", "b30f", "471", "chest", ""].iter().any(|text| numbers(text)));
        assert!(identifies("tannhuber") && identifies("chest-tannhuber") && identifies("щукин"));
        assert!(!["chest", "chest axial", "abcd", ""].iter().any(|text| identifies(text)));
    }
}
