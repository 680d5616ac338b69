//! [`Withheld`]: the values of one case that must stand in nothing a run leaves.
//!
//! These are patients' identities, held in memory only. Neither [`Withheld`] nor [`Value`] can be printed or serialised; the
//! one way out of the process is [`Withheld::packed`], which the pipe between worker and supervisor uses and nothing else.

use std::collections::{BTreeSet, HashSet};

use dicom_core::Tag;

use super::figures::Figures;
use super::needles::Needles;
use super::public::{Public, holds_token, nobody, stands_alone, telling};
use super::search::whole_number;
use crate::series::elements::number;
use crate::series::identifying::{Class, Differences, LONGEST, is_birth};

/// Values lighter than this are compared with what left in their place and not searched.
pub(super) const LEAST: usize = 4;
/// Values of this weight are searched wherever they stand; lighter ones as whole tokens.
pub(super) const ANYWHERE: usize = 6;
/// A plain word of the pipeline's own text that is shorter than this is no sign of a patient.
pub(super) const PLAIN: usize = 12;
/// Names lighter than this are two short words that may meet by chance.
const NAME: usize = 8;

/// Where in a text a value counts.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Anywhere.
    Anywhere,
    /// With no letter or digit beside it.
    Token,
    /// A number: with nothing beside it that makes it part of a longer number, and not where the host writes numbers.
    Number,
    /// A UID, not as part of another.
    Uid,
}

/// One value.
#[derive(Clone)]
pub struct Value {
    /// As it stood in the file.
    pub(super) raw: Vec<u8>,
    /// In UTF-8.
    pub(super) text: Option<String>,
    /// What it is; `None`: a folder's or file's name.
    pub(super) class: Option<Class>,
    /// The attribute it came from.
    pub(super) tag: u32,
    pub(super) reach: Reach,
}

impl Value {
    pub(super) fn new(raw: Vec<u8>, text: Option<String>, class: Option<Class>, tag: u32) -> Value {
        let text = text.or_else(|| String::from_utf8(raw.clone()).ok());
        let reach = match class {
            Some(Class::Uid) => Reach::Uid,
            _ if is_number(&raw) => Reach::Number,
            None | Some(Class::Word) => Reach::Token,
            Some(_) if weight(&raw, text.as_deref()) < ANYWHERE => Reach::Token,
            Some(_) => Reach::Anywhere,
        };
        Value { raw, text, class, tag, reach }
    }

    /// Where it came from, in words without it.
    pub fn origin(&self) -> String {
        match self.class {
            None => "the name of a source folder or file".to_owned(),
            Some(_) => {
                format!("the value of attribute ({:04X},{:04X}) of the source", self.tag >> 16, self.tag & 0xffff)
            }
        }
    }

    /// Whether letters must stand as they stood: a word may occur in other letters by chance.
    pub(super) fn exact(&self) -> bool {
        let word = !self.raw.iter().any(u8::is_ascii_digit) && self.raw.len() < PLAIN;
        word || self.reach == Reach::Token || !self.class.is_some_and(Class::direct)
    }

    /// Whether it cannot well be anything but this patient's, wherever it stands: a UID, a name of some length, a number that
    /// is no date and has more digits than codes and counts, or letters and digits together. What else is found where the host
    /// or another patient may have it is there by chance.
    pub(super) fn telling(&self) -> bool {
        let text = self.text.as_deref().unwrap_or_default();
        let digits = text.bytes().filter(u8::is_ascii_digit).count();
        let letters = text.chars().filter(|c| c.is_alphabetic()).count();
        let mixed = |least: usize| letters > 0 && digits > 0 && letters + digits >= least;
        match self.class {
            Some(Class::Uid) => true,
            Some(Class::Name) => weight(&self.raw, self.text.as_deref()) >= NAME,
            Some(Class::Identifier) => {
                mixed(ANYWHERE) || letters >= PLAIN || letters == 0 && digits >= 8 && !is_date(text)
            }
            Some(Class::Text) => mixed(PLAIN),
            Some(Class::Word | Class::Moment) | None => false,
        }
    }

    /// Whether it tells by itself who somebody is: a name or a word of one, a number, a day of birth.
    pub(super) fn tells_who(&self) -> bool {
        let birth = is_birth(Tag((self.tag >> 16) as u16, self.tag as u16));
        birth || matches!(self.class, Some(Class::Name | Class::Identifier | Class::Word))
    }

    /// Its digits, where it numbers a person and its digits may stand somewhere as a number.
    pub(super) fn whole_number(&self) -> Option<Vec<u8>> {
        let digits = || self.raw.iter().copied().filter(u8::is_ascii_digit).collect::<Vec<u8>>();
        let numbers = self.class == Some(Class::Identifier) && self.reach == Reach::Number;
        numbers.then(digits).and_then(|digits| whole_number(&digits))
    }

    /// Whether it has so few digits that equal numbers are made by chance.
    pub(super) fn few_digits(&self) -> bool {
        self.raw.iter().filter(|b| b.is_ascii_digit()).count() < ANYWHERE
    }
}

/// What stands before a point in a value that a rule keeps: roots of UIDs among it, and nothing longer than a UID.
fn roots(differences: &Differences) -> HashSet<&[u8]> {
    let mut roots = HashSet::new();
    for kept in &differences.kept {
        let points = kept.iter().take(LONGEST + 1).enumerate().filter(|(_, b)| **b == b'.');
        roots.extend(points.filter_map(|(at, _)| kept.get(..at)));
    }
    roots
}

/// Those of these texts that stand in a text with no letter or digit on either side.
fn tokens_of<'t>(text: &str, wanted: impl Iterator<Item = &'t str>) -> HashSet<&'t str> {
    let wanted: Vec<&str> = wanted.collect::<HashSet<&str>>().into_iter().collect();
    let needles = Needles::new(&wanted);
    let found = needles.find(text.as_bytes()).filter(|(_, range)| stands_alone(text, range));
    found.filter_map(|(index, _)| wanted.get(index).copied()).collect()
}

/// Letters and digits of a text as it is searched; others than ASCII count double, for there are more of them.
pub(super) fn weight(raw: &[u8], text: Option<&str>) -> usize {
    text.map_or(raw.len(), |t| t.chars().map(|c| if c.is_ascii() { 1 } else { 2 }).sum())
}

/// Whether a de-identifier may write such a value elsewhere without having taken it over: a moment that is nobody's birth, and
/// what is short, or one plain word.
fn by_chance(value: &Value) -> bool {
    let text = value.text.as_deref().unwrap_or_default();
    let plain = text.len() < PLAIN && !text.is_empty() && text.chars().all(char::is_alphabetic);
    let birth = is_birth(Tag((value.tag >> 16) as u16, value.tag as u16));
    !birth && (value.class == Some(Class::Moment) || plain || weight(&value.raw, Some(text)) < ANYWHERE)
}

/// Whether a number can be a day, alone or with a time behind it.
fn is_date(text: &str) -> bool {
    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
    let part = |range| digits.get(range).and_then(|d: &str| d.parse::<u32>().ok()).unwrap_or_default();
    let day = (1900..2100).contains(&part(0..4)) && (1..=12).contains(&part(4..6)) && (1..=31).contains(&part(6..8));
    day && matches!(digits.len(), 8 | 12..)
}

fn is_number(raw: &[u8]) -> bool {
    raw.iter().any(u8::is_ascii_digit) && raw.iter().all(|b| b.is_ascii_digit() || b".+-:/ ".contains(b))
}

/// Values of one case that must not leave.
#[derive(Default, Clone)]
pub struct Withheld {
    pub(super) values: Vec<Value>,
    /// Attributes that name or number somebody and left as they came.
    unchanged: BTreeSet<Tag>,
    figures: Figures,
}

impl Withheld {
    /// What must not leave of a case: values that are gone and names of its source files, without what is no sign of anybody.
    pub fn of(differences: &Differences, names: &BTreeSet<String>, public: &Public) -> Withheld {
        let mut withheld = Withheld::default();
        let kept: String = differences
            .kept
            .iter()
            .fold(String::new(), |all, k| all + " " + &String::from_utf8_lossy(k).to_lowercase() + " ");
        let kept = format!("{kept} {}", kept.replace(|c: char| !c.is_alphanumeric(), " "));
        let (mut candidates, mut parts) = (Vec::new(), Vec::new());
        for (gone, tag) in &differences.gone {
            let value = Value::new(gone.raw.clone(), gone.text.clone(), Some(gone.class), number(*tag));
            parts.extend(further(&value));
            candidates.push(value);
        }
        // Behind the values they are part of: of two equal ones the first counts.
        candidates.append(&mut parts);
        candidates
            .extend(names.iter().filter_map(|n| telling(n)).map(|n| Value::new(n.as_bytes().to_vec(), None, None, 0)));
        let small: Vec<String> =
            candidates.iter().map(|v| v.text.as_deref().map(str::to_lowercase).unwrap_or_default()).collect();
        let (stay, roots) = (tokens_of(&kept, small.iter().map(String::as_str)), roots(differences));
        let mut seen = BTreeSet::new();
        for (value, small) in candidates.into_iter().zip(&small) {
            let text = value.text.clone().unwrap_or_default();
            let direct = value.class.is_some_and(Class::direct);
            let harmless = text.starts_with("1.2.840.10008.")
                || nobody(&text)
                || value.class == Some(Class::Moment) && public.is_now(&text)
                || public.says(&value)
                || value.class == Some(Class::Uid)
                    && (differences.kept.contains(&value.raw) || roots.contains(text.as_bytes()))
                || !direct && differences.written.contains(&value.raw) && by_chance(&value)
                || !direct && stay.contains(small.as_str());
            if weight(&value.raw, value.text.as_deref()) < LEAST {
                withheld.figures.by_comparison += 1;
            } else if harmless {
                withheld.figures.exempt += 1;
            } else if seen.insert((value.raw.clone(), value.text.clone())) {
                match value.reach {
                    Reach::Token => withheld.figures.as_tokens += 1,
                    _ if value.few_digits() && value.reach == Reach::Number => withheld.figures.as_tokens += 1,
                    _ => withheld.figures.searched += 1,
                }
                withheld.values.push(value);
            }
        }
        let unchanged = differences.unchanged.iter().filter(|(_, v)| !nobody(&String::from_utf8_lossy(v)));
        withheld.unchanged = unchanged.map(|(tag, _)| *tag).collect();
        withheld
    }

    /// One of the values alone.
    pub fn only(&self, index: usize) -> Withheld {
        Withheld { values: self.values.get(index).cloned().into_iter().collect(), ..Withheld::default() }
    }

    /// Drops short names of folders and files that are words of what the run says anyway.
    pub fn forget_names(&mut self, said: &BTreeSet<String>) {
        let word = |v: &Value| {
            let text = v.text.as_deref().filter(|t| v.class.is_none() && t.len() < PLAIN);
            text.is_some_and(|t| said.iter().any(|s| holds_token(s, t)))
        };
        self.values.retain(|v| !word(v));
    }

    /// Takes over values of another.
    pub fn join(&mut self, other: Withheld) {
        self.values.extend(other.values);
    }

    /// The values.
    pub fn values(&self) -> &[Value] {
        &self.values
    }

    /// Attributes that name or number somebody and left as they came.
    pub fn unchanged(&self) -> impl Iterator<Item = Tag> {
        self.unchanged.iter().copied()
    }

    /// How many values there are of each kind.
    pub fn figures(&self) -> Figures {
        self.figures.clone()
    }
}

impl From<Value> for Withheld {
    fn from(value: Value) -> Withheld {
        Withheld { values: vec![value], ..Withheld::default() }
    }
}

/// Parts of a value that tell as much: the long words of a name, the day of a moment, a time without its fraction.
fn further(value: &Value) -> Vec<Value> {
    let Some(text) = value.text.as_deref() else { return Vec::new() };
    let part = |text: &str, class| Value::new(text.as_bytes().to_vec(), None, Some(class), value.tag);
    match value.class {
        Some(Class::Name) => {
            let words = text.split(['^', ' ', '=']);
            let words = words.filter(|w| weight(w.as_bytes(), Some(w)) >= ANYWHERE);
            words.map(|w| part(w, Class::Word)).collect()
        }
        Some(Class::Moment) => {
            let digits = |n: usize| text.get(..n).filter(|d| d.bytes().all(|b| b.is_ascii_digit()));
            match (text.find('.'), digits(14).or(digits(12)), digits(6)) {
                (_, Some(_), _) => digits(8).map(|d| part(d, Class::Moment)).into_iter().collect(),
                (Some(6), None, Some(time)) => vec![part(time, Class::Moment)],
                _ => Vec::new(),
            }
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::handed_over::HANDED_OVER;
    use super::*;
    use crate::series::identifying::Gone;

    fn public(text: &str) -> Public {
        let noon: jiff::Timestamp = "2026-03-01T12:30:15Z".parse().expect("a time");
        Public::new(text, noon, noon)
    }

    fn gone(values: &[(&str, Class)]) -> Differences {
        let mut differences = Differences::default();
        for (text, class) in values {
            let raw = text.as_bytes().to_vec();
            differences.gone.insert(Gone { raw, text: None, class: *class }, Tag(0x0010, 0x0010));
        }
        differences
    }

    fn texts(withheld: &Withheld) -> Vec<String> {
        withheld.values.iter().filter_map(|v| v.text.clone()).collect()
    }

    #[test]
    fn what_is_no_sign_of_anybody_is_not_searched() {
        let mut differences = gone(&[
            ("1.2.840.10008.5.1.4.1.1.2", Class::Uid),
            ("1.2.276.0.7230010", Class::Uid),
            ("Anonymous", Class::Name),
            ("00000000", Class::Identifier),
            ("20260301", Class::Moment),
            ("133015.25", Class::Moment),
            ("CHEST", Class::Text),
            ("Lung", Class::Text),
            ("1500", Class::Identifier),
            ("REMOVED", Class::Text),
            ("M", Class::Text),
            ("MAKER", Class::Name),
            ("Radiology", Class::Text),
        ]);
        differences.kept.insert(b"CT CHEST, MAKER".to_vec());
        differences.kept.insert(b"1.2.276.0.7230010.3.1.4".to_vec());
        differences.written.insert(b"REMOVED".to_vec());
        let withheld = Withheld::of(&differences, &BTreeSet::new(), &public("stage Lung width 1500"));
        // A name stays a name wherever else it stands.
        let mut left = texts(&withheld);
        left.sort();
        assert_eq!(left, ["MAKER", "Radiology"]);
        let figures = withheld.figures();
        assert_eq!((figures.searched, figures.as_tokens, figures.by_comparison, figures.exempt), (1, 1, 1, 12));
    }

    #[test]
    fn twelve_characters_are_searched_though_the_pipeline_says_them() {
        let differences = gone(&[("Canaryxabcde", Class::Text), ("Canarylabcde", Class::Identifier)]);
        let withheld = Withheld::of(&differences, &BTreeSet::new(), &public("name = \"Canaryxabcde Canarylabcde\""));
        assert_eq!(withheld.values().len(), 2);
    }

    #[test]
    fn what_was_copied_elsewhere_is_searched_and_what_was_retained_is_not() {
        let mut differences = gone(&[
            ("Canary471112", Class::Text),
            ("20040119", Class::Moment),
            ("OTHER", Class::Text),
            ("1.2.276.0.7230010.3.1", Class::Uid),
            ("1.2.276.0.7230010.3.2", Class::Uid),
        ]);
        let born = Gone { raw: b"19610203".to_vec(), text: None, class: Class::Moment };
        differences.gone.insert(born, Tag(0x0010, 0x0030));
        for written in ["Canary471112", "20040119", "OTHER", "19610203", "1.2.276.0.7230010.3.2"] {
            differences.written.insert(written.as_bytes().to_vec());
        }
        differences.kept.insert(b"1.2.276.0.7230010.3.1".to_vec());
        let mut left = texts(&Withheld::of(&differences, &BTreeSet::new(), &public("")));
        left.sort();
        assert_eq!(left, ["1.2.276.0.7230010.3.2", "19610203", "Canary471112"]);
    }

    #[test]
    fn what_a_rule_keeps_elsewhere_is_told_as_one_by_one_however_much_there_is() {
        let kept = " ct chest, maker  m\u{fc}ller-s\u{fc}d  lungs  1.5 chest chestct ";
        let texts =
            ["chest", "ct", "lung", "lungs", "m\u{fc}ller", "s\u{fc}d", "ller", "maker", "", "5", "ct chest", "."];
        let one_by_one: HashSet<&str> = texts.into_iter().filter(|t| !t.is_empty() && holds_token(kept, t)).collect();
        assert_eq!(tokens_of(kept, texts.into_iter()), one_by_one);
        assert_eq!(one_by_one.len(), 8);
        let mut differences = Differences::default();
        for i in 0..40_000 {
            let raw = format!("Canary word {i:05} of a text");
            let class = if i % 2 == 0 { Class::Text } else { Class::Uid };
            differences.gone.insert(Gone { raw: raw.clone().into_bytes(), text: None, class }, Tag(8, 0x1030));
            let kept = if i % 4 == 0 { format!("has ({raw})") } else { format!("has {raw}s") };
            differences.kept.insert(kept.into_bytes());
        }
        let started = std::time::Instant::now();
        let withheld = Withheld::of(&differences, &BTreeSet::new(), &public(""));
        assert_eq!((withheld.figures().exempt, withheld.values().len()), (10_000, 30_000));
        assert!(started.elapsed().as_secs() < 10, "{:?}", started.elapsed());
    }

    #[test]
    fn a_folder_may_be_called_like_a_word_that_the_run_says() {
        let names = BTreeSet::from(["outputs", "burned-in", "Mueller_Hans"].map(str::to_owned));
        let mut withheld = Withheld::of(&Differences::default(), &names, &public(""));
        assert_eq!(texts(&withheld), ["Mueller_Hans", "burned-in"]);
        withheld.forget_names(&BTreeSet::from(["burned-in-annotation".to_owned()]));
        assert_eq!(texts(&withheld), ["Mueller_Hans"]);
    }

    #[test]
    fn what_goes_through_the_pipe_comes_back_and_is_bounded() {
        let mut differences =
            gone(&[("Miller^Ann", Class::Name), ("K\u{fc}hn^Ida", Class::Name), ("20040119", Class::Moment)]);
        for i in 0..1000 {
            let raw = format!("1.2.3.4.5.{i}").into_bytes();
            differences.gone.insert(Gone { raw, text: None, class: Class::Uid }, Tag(8, 0x18));
        }
        let withheld = Withheld::of(&differences, &BTreeSet::from(["Mueller_Hans".to_owned()]), &public(""));
        let back = Withheld::unpacked(&withheld.clone().bounded().packed()).expect("its own");
        assert_eq!(back.values.len(), HANDED_OVER);
        for text in ["Miller^Ann", "Miller", "K\u{fc}hn^Ida", "20040119", "Mueller_Hans"] {
            let value = back.values.iter().find(|v| v.text.as_deref() == Some(text));
            let before = withheld.values.iter().find(|v| v.text.as_deref() == Some(text));
            let (value, before) = (value.expect(text), before.expect(text));
            assert!(value.reach == before.reach && value.origin() == before.origin(), "{text}");
        }
        // Everybody who is named goes over, however many they are.
        for i in 0..500 {
            let raw = format!("Nobody^Number {i}").into_bytes();
            differences.gone.insert(Gone { raw, text: None, class: Class::Name }, Tag(0x0040, 0xA123));
            let raw = format!("ID-4711-{i}").into_bytes();
            differences.gone.insert(Gone { raw, text: None, class: Class::Identifier }, Tag(0x0040, 0x2017));
        }
        let all = texts(&Withheld::of(&differences, &BTreeSet::new(), &public("")).bounded());
        assert!((0..500).all(|i| all.contains(&format!("Nobody^Number {i}")) && all.contains(&format!("ID-4711-{i}"))));
        assert!(!all.iter().any(|text| text.starts_with("1.2.3.4.5.")));
        assert!(Withheld::unpacked("00ff").is_none() && Withheld::unpacked("not hex").is_none());
    }
}
