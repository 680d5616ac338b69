//! [`UnspacedNames`]: names in scripts that are written without spaces (Han, Kana, Hangul), as they stand in the midst of
//! other words: `患者山田太郎様`.
//!
//! A whole name of three and more letters is found anywhere, family or given name first, with or without separators
//! between its letters. One of two letters may be an ordinary word or part of one (高峰, a peak; 方向, a direction): it is
//! found where it stands alone but for a word that introduces or addresses somebody.

use std::collections::{HashMap, HashSet};

/// Letters that a name must have to be found in the midst of others.
const LONG: usize = 3;

/// Words beside a name: patient, name, and forms of address.
const BESIDE: [&str; 19] = [
    "患者", "病人", "姓名", "氏名", "名前", "先生", "女士", "小姐", "様", "殿", "氏", "君", "さん", "さま", "환자",
    "성명", "이름", "님", "씨",
];

/// Whether a letter is of such a script.
fn is_unspaced(c: char) -> bool {
    matches!(c, '々' | '\u{3041}'..='\u{3096}' | '\u{30a1}'..='\u{30fa}' | '\u{30fc}'..='\u{30fe}' | '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}')
        || matches!(c, '\u{ac00}'..='\u{d7a3}' | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{323af}')
}

/// Names, or words of them, of which every letter is of such a script; folded, without separators.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct UnspacedNames {
    /// Those of [`LONG`] letters and more, by their first [`LONG`].
    long: HashMap<String, HashSet<String>>,
    /// Those of two letters, and others that are found only alone.
    alone: HashSet<String>,
}

impl UnspacedNames {
    /// Notes a name that is given by its components; says whether it is one to search for.
    pub(crate) fn note(&mut self, family: &str, given: &str) -> bool {
        let (Some(family), Some(given)) = (letters(family), letters(given)) else { return false };
        self.add(format!("{family}{given}"));
        self.add(format!("{given}{family}"));
        true
    }

    /// Notes a name that is written without its components; says whether it is long enough to be a whole one.
    pub(crate) fn note_whole(&mut self, name: &str) -> bool {
        let whole = letters(name).filter(|name| name.chars().count() >= LONG);
        whole.map(|name| self.add(name)).is_some()
    }

    /// Notes a single word of a name; says whether it is one to search for, `None` if it is of another script. Syllables
    /// of Kana and Hangul may be part of any word: those are found where they stand alone, as words of two letters are.
    pub(crate) fn note_word(&mut self, word: &str) -> Option<bool> {
        let word = letters(word)?;
        let is_syllable = |c| matches!(c, '\u{3041}'..='\u{30fe}' | '\u{ac00}'..='\u{d7a3}');
        if word.chars().nth(1).is_none() {
            return Some(false);
        }
        if word.chars().any(is_syllable) {
            self.alone.insert(word);
        } else {
            self.add(word);
        }
        Some(true)
    }

    fn add(&mut self, name: String) {
        if let Some(first) = beginning(&name) {
            self.long.entry(first.to_owned()).or_default().insert(name);
        } else {
            self.alone.insert(name);
        }
    }

    /// Whether a folded text holds one of them.
    pub(crate) fn heard_in(&self, text: &str) -> bool {
        if text.is_ascii() {
            return false;
        }
        if !self.alone.is_empty() && text.split(|c| !is_unspaced(c)).any(|run| self.alone.contains(alone(run))) {
            return true;
        }
        // Letters and digits of other scripts part words; spaces and marks do not.
        let joined = text.chars().filter(|c| c.is_alphanumeric()).collect::<String>();
        !self.long.is_empty() && joined.split(|c| !is_unspaced(c)).any(|run| self.begins_in(run))
    }

    fn begins_in(&self, run: &str) -> bool {
        let tails = run.char_indices().filter_map(|(at, _)| run.get(at..));
        let begins = |tail: &str| {
            let names = beginning(tail).and_then(|first| self.long.get(first));
            names.is_some_and(|names| names.iter().any(|name| tail.starts_with(name.as_str())))
        };
        tails.into_iter().any(begins)
    }
}

/// The letters of a text, if all are of such a script and there is one.
fn letters(text: &str) -> Option<String> {
    let letters: String = text.chars().filter(|c| c.is_alphanumeric()).collect();
    (!letters.is_empty() && letters.chars().all(is_unspaced)).then_some(letters)
}

/// The first [`LONG`] letters.
fn beginning(text: &str) -> Option<&str> {
    let (last, c) = text.char_indices().nth(LONG - 1)?;
    text.get(..last + c.len_utf8())
}

/// A run without the words beside a name.
fn alone(run: &str) -> &str {
    let before = BESIDE.iter().find_map(|word| run.strip_prefix(word)).unwrap_or(run);
    BESIDE.iter().find_map(|word| before.strip_suffix(word)).unwrap_or(before)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fold::fold;

    #[test]
    fn whole_names_are_heard_in_the_midst_of_words() {
        let mut names = UnspacedNames::default();
        assert!(names.note("山田", "太郎") && names.note("김", "철수") && names.note_whole("王小明"));
        assert!(names.note(&fold("ヤマダ"), &fold("タロウ")));
        for text in [
            "患者山田太郎",
            "CT山田太郎様3回目",
            "太郎山田",
            "山田・太郎",
            "(山田 太郎)",
            "김철수환자 흉부",
            "철수 김",
            "病人王小明头部",
            "ﾔﾏﾀﾞﾀﾛｳ様",
        ] {
            assert!(names.heard_in(&fold(text)), "{text}");
        }
        for text in ["山田", "太郎", "山田3太郎", "김철", "王明", "胸部単純", "흉부 전산화", "Yamada Tarou", ""]
        {
            assert!(!names.heard_in(&fold(text)), "{text}");
        }
    }

    #[test]
    fn names_of_two_letters_are_no_parts_of_words() {
        let mut names = UnspacedNames::default();
        assert!(names.note("高", "峰") && names.note("方", "向") && names.note("김", "민"));
        assert!(!names.note("Li", "Na") && !names.note("高", "Feng") && !names.note_whole("山田"));
        for text in ["高峰", "患者高峰", "CT 高峰様", "患者:方向", "환자김민님", "김민씨", "峰高"]
        {
            assert!(names.heard_in(text), "{text}");
        }
        assert_eq!(
            [names.note_word("鈴木"), names.note_word("金"), names.note_word("li")],
            [Some(true), Some(false), None]
        );
        assert!(
            names.heard_in("鈴木") && names.heard_in("CT 鈴木様") && !names.heard_in("鈴木線") && !names.heard_in("金")
        );
        assert_eq!([names.note_word("長谷川"), names.note_word("はせがわ")], [Some(true), Some(true)]);
        for text in ["胸部長谷川", "はせがわ様", "CT はせがわ"] {
            assert!(names.heard_in(text), "{text}");
        }
        assert!(!names.heard_in("はせがわら"));
        for text in ["高峰期", "投影方向", "方向性", "김민수", "高 CT 峰", "峰", "高"] {
            assert!(!names.heard_in(text), "{text}");
        }
    }
}
