//! [`Searcher`]: one pass over bytes for every form of every value, and the rules by which an occurrence counts.

use std::collections::HashMap;
use std::ops::Range;

use super::forms::{self, Form};
use super::needles::Needles;
use super::withheld::{ANYWHERE, Reach, Value};

/// Bytes of all spellings that are searched at once: more values are searched one part after the other.
const AT_ONCE: usize = 16 << 20;

/// Which numbers count in a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Numbers {
    /// None: bytes whose numbers the host or a stage made.
    No,
    /// Those with so many digits that they are not made by chance.
    Long,
    /// All.
    All,
    /// Whole numbers, each ended by a zero as [`whole_number`] gives them, that number a person: nothing else counts.
    Whole,
}

/// Bytes to be searched.
pub struct Stream {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// Which numbers count in them.
    pub numbers: Numbers,
}

/// An occurrence that counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hit {
    /// Index of the value.
    pub value: usize,
    /// How it was written.
    pub form: Form,
    /// Where.
    pub range: Range<usize>,
}

struct Pattern {
    value: u32,
    form: Form,
    reach: Reach,
    few_digits: bool,
    /// Whether upper and lower case must be as they were.
    exact: bool,
}

#[derive(Default)]
struct Half {
    needles: Needles,
    patterns: Vec<Pattern>,
}

/// Every form of every value of a list, or of a part of it.
#[derive(Default)]
pub struct Searcher {
    words: Half,
    numbers: Half,
    /// Whole numbers that number a person, and whose they are.
    whole: HashMap<Vec<u8>, usize>,
    /// How many values of the list it has, and those before them.
    pub values: Range<usize>,
}

impl Searcher {
    /// For these values and as many as may be searched at once; there is a next part where not all are among them.
    fn part(values: &[&Value], from: usize) -> Searcher {
        let mut searcher = Searcher { values: from..from, ..Searcher::default() };
        for value in values.iter().skip(from) {
            if searcher.words.needles.size() + searcher.numbers.needles.size() > AT_ONCE {
                break;
            }
            searcher.add(value);
        }
        searcher.words.needles.index();
        searcher.numbers.needles.index();
        searcher
    }

    /// Searchers for these values, each made when the one before it is done with.
    pub fn parts<'v>(values: impl IntoIterator<Item = &'v Value>) -> impl Iterator<Item = Searcher> {
        let values: Vec<&Value> = values.into_iter().collect();
        let mut next = Some(0);
        std::iter::from_fn(move || {
            let searcher = Searcher::part(&values, next?);
            next = Some(searcher.values.end).filter(|end| *end < values.len());
            Some(searcher)
        })
    }

    fn add(&mut self, value: &Value) {
        let index = self.values.end;
        self.values.end += 1;
        let (exact, few_digits) = (value.exact(), value.few_digits());
        forms::each(value, &mut |form, bytes| {
            let plain = matches!(form, Form::Utf8 | Form::Utf16Le | Form::Utf16Be | Form::Raw | Form::Joined);
            let half = match value.reach == Reach::Number && plain {
                true => &mut self.numbers,
                false => &mut self.words,
            };
            let reach = if plain { value.reach } else { Reach::Anywhere };
            let exact = !matches!(form, Form::Hex | Form::Percent) && (form == Form::Base64 || exact);
            half.patterns.push(Pattern { value: (index - self.values.start) as u32, form, reach, few_digits, exact });
            half.needles.push(&bytes);
        });
        if let Some(number) = value.whole_number() {
            self.whole.entry(number).or_insert(index);
        }
    }

    /// Every occurrence that counts, in no particular order.
    pub fn hits<'a>(&'a self, bytes: &'a [u8], numbers: Numbers) -> impl Iterator<Item = Hit> + 'a {
        let words = (numbers != Numbers::Whole).then_some(&self.words);
        let digits = matches!(numbers, Numbers::Long | Numbers::All).then_some(&self.numbers);
        let found = [words, digits].into_iter().flatten().flat_map(move |half| {
            half.needles.find(bytes).filter_map(move |(needle, range)| {
                let pattern = half.patterns.get(needle)?;
                let spelt = !pattern.exact || bytes.get(range.clone())? == half.needles.get(needle);
                let long = numbers != Numbers::Long || !(pattern.reach == Reach::Number && pattern.few_digits);
                let counts =
                    spelt && long && stands(pattern, bytes, &range) && !of_the_host(pattern.form, bytes, &range);
                counts.then_some(Hit { value: self.values.start + pattern.value as usize, form: pattern.form, range })
            })
        });
        let whole = (numbers == Numbers::Whole && !self.whole.is_empty()).then(|| self.whole_numbers(bytes));
        found.chain(whole.into_iter().flatten())
    }

    fn whole_numbers<'a>(&'a self, bytes: &'a [u8]) -> impl Iterator<Item = Hit> + 'a {
        let mut at = 0;
        bytes.split(|&b| b == 0).filter_map(move |number| {
            let range = at..at + number.len();
            at = range.end + 1;
            let value = *self.whole.get(number)?;
            Some(Hit { value, form: Form::Number, range })
        })
    }

    /// A text with every occurrence replaced; `None` if there is none.
    pub fn redacted(&self, text: &str, numbers: Numbers, in_place: &str) -> Option<String> {
        let mut ranges: Vec<Range<usize>> = self.hits(text.as_bytes(), numbers).map(|hit| hit.range).collect();
        ranges.sort_by_key(|r| (r.start, std::cmp::Reverse(r.end)));
        let mut out = String::new();
        let mut at = 0;
        for range in &ranges {
            if range.start >= at {
                out.push_str(text.get(at..range.start).unwrap_or(""));
                out.push_str(in_place);
            }
            at = at.max(range.end);
        }
        out.push_str(text.get(at..).unwrap_or(""));
        (!ranges.is_empty()).then_some(out)
    }
}

/// A whole number as JSON may write it, its digits alone, without sign and leading zeros; `None` where it is none, or of so few
/// digits that equal ones occur by chance.
pub fn whole_number(text: &[u8]) -> Option<Vec<u8>> {
    let text = text.strip_prefix(b"-").unwrap_or(text);
    let point = text.iter().position(|b| !b.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at(point);
    let digits = match rest {
        [] => digits.to_vec(),
        [b'.', zeros @ ..] if zeros.iter().all(|&b| b == b'0') => digits.to_vec(),
        // What a writer of floating-point numbers made of it.
        _ => {
            let number: f64 = std::str::from_utf8(text).ok()?.parse().ok()?;
            (number.fract() == 0.0 && number < 1e18).then(|| format!("{number:.0}").into_bytes())?
        }
    };
    let first = digits.iter().position(|&b| b != b'0')?;
    digits.get(first..).filter(|d| d.len() >= ANYWHERE).map(<[u8]>::to_vec)
}

/// The character before and after a match, where it is of one byte (or of one unit of UTF-16).
fn beside(form: Form, bytes: &[u8], range: &Range<usize>, far: usize) -> [Option<u8>; 2] {
    let (unit, low) = match form {
        Form::Utf16Le => (2, 0),
        Form::Utf16Be => (2, 1),
        _ => (1, 0),
    };
    let wide = |from: Option<usize>| {
        let from = from?;
        let piece = bytes.get(from..from + unit)?;
        match unit {
            1 => piece.first().copied(),
            _ if piece.get(1 - low) == Some(&0) => piece.get(low).copied(),
            _ => None,
        }
    };
    [wide(range.start.checked_sub(unit * (far + 1))), wide(Some(range.end + unit * far))]
}

/// Whether what stands beside a match lets it count.
fn stands(pattern: &Pattern, bytes: &[u8], range: &Range<usize>) -> bool {
    let near = beside(pattern.form, bytes, range, 0);
    let far = beside(pattern.form, bytes, range, 1);
    let letter = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_alphanumeric());
    let digit = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_digit());
    match pattern.reach {
        Reach::Anywhere => true,
        Reach::Token => !near.into_iter().any(letter),
        Reach::Uid => {
            let goes_on = near[1] == Some(b'.') && range.len() < 20;
            !digit(near[0]) && near[0] != Some(b'.') && !digit(near[1]) && !goes_on
        }
        Reach::Number => {
            let joins = |b: Option<u8>| match pattern.few_digits {
                true => b.is_some_and(|b| b".-:/+,".contains(&b)),
                false => b == Some(b'.'),
            };
            let goes_on = |side: usize| if pattern.few_digits { letter(far[side]) } else { digit(far[side]) };
            !(0..2).any(|side| letter(near[side]) || joins(near[side]) && goes_on(side))
        }
    }
}

/// More bytes than any token of the host has.
const RUN: usize = 80;

/// Whether a match lies inside a token that the host makes: a UID from a hash, a hash itself, or the name of a file of
/// instances. Only what is spelt plainly can be there by chance.
fn of_the_host(form: Form, bytes: &[u8], range: &Range<usize>) -> bool {
    let run = |part: fn(&u8) -> bool| {
        // None of them is longer than a hash; a run that is, is cut, and then is none of them.
        let (least, most) = (range.start.saturating_sub(RUN), (range.end + RUN).min(bytes.len()));
        let start = bytes[least..range.start].iter().rposition(|b| !part(b)).map_or(least, |i| least + i + 1);
        let end = bytes[range.end..most].iter().position(|b| !part(b)).map_or(most, |i| range.end + i);
        start..end
    };
    if !matches!(form, Form::Utf8 | Form::Raw | Form::Joined) {
        return false;
    }
    let inside = &bytes[range.clone()];
    if inside.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.')) {
        let name = run(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'));
        if name != *range && is_file_name(&bytes[name]) {
            return true;
        }
    }
    if inside.iter().all(u8::is_ascii_hexdigit) {
        let hash = run(u8::is_ascii_hexdigit);
        if hash.len() == 64 && hash != *range {
            return true;
        }
    }
    if inside.iter().all(|b| b.is_ascii_digit() || *b == b'.') {
        let uid = run(|b| b.is_ascii_digit() || *b == b'.');
        return bytes[uid.clone()].starts_with(b"2.25.") && uid.start != range.start;
    }
    false
}

/// Whether this is a name as `instance-write` gives it: `CT-001-00001.dcm`.
fn is_file_name(name: &[u8]) -> bool {
    let Some(stem) = name.strip_suffix(b".dcm") else { return false };
    let parts: Vec<&[u8]> = stem.split(|&b| b == b'-').collect();
    let digits = |part: &[u8], least: usize| part.len() >= least && part.iter().all(u8::is_ascii_digit);
    match parts.as_slice() {
        [modality, series, instance] => {
            let kind = (2..=10).contains(&modality.len()) && modality.iter().all(u8::is_ascii_uppercase);
            kind && digits(series, 3) && digits(instance, 5)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::series::identifying::{Class, Differences, Gone};
    use base64::Engine;
    use dicom_core::Tag;
    use std::collections::BTreeSet;

    use super::super::public::Public;
    use super::super::withheld::Withheld;

    fn withheld(values: &[(&[u8], Option<&str>, Class)]) -> Withheld {
        let mut differences = Differences::default();
        for (raw, text, class) in values {
            let gone = Gone { raw: raw.to_vec(), text: text.map(str::to_owned), class: *class };
            differences.gone.insert(gone, Tag(0x0010, 0x0010));
        }
        let noon: jiff::Timestamp = "2026-03-01T12:30:15Z".parse().expect("a time");
        Withheld::of(&differences, &BTreeSet::new(), &Public::new("", noon, noon))
    }

    fn searcher(withheld: &Withheld) -> Searcher {
        Searcher::parts(withheld.values()).next().expect("a part")
    }

    fn found(value: &str, class: Class, text: &[u8]) -> Option<Form> {
        let withheld = withheld(&[(value.as_bytes(), None, class)]);
        let searcher = searcher(&withheld);
        searcher.hits(text, Numbers::All).next().map(|hit| hit.form)
    }

    #[test]
    fn every_form_is_found() {
        let wide = |order: fn(u16) -> [u8; 2]| "say Secretperson X".encode_utf16().flat_map(order).collect::<Vec<u8>>();
        let value = "Secretperson";
        let search = |text: &[u8]| found(value, Class::Text, text);
        assert_eq!(search(b"-- Secretperson --"), Some(Form::Utf8));
        assert_eq!(search(b"xxSecretpersonxx"), Some(Form::Utf8));
        for order in [u16::to_le_bytes, u16::to_be_bytes] {
            assert!(matches!(search(&wide(order)), Some(Form::Utf16Le | Form::Utf16Be)));
        }
        assert_eq!(search(hex::encode("say Secretperson").as_bytes()), Some(Form::Hex));
        assert_eq!(search(hex::encode_upper("say Secretperson").as_bytes()), Some(Form::Hex));
        for before in ["", "a", "ab", "abc"] {
            let text = base64::engine::general_purpose::STANDARD.encode(format!("{before}Secretperson!"));
            assert_eq!(search(text.as_bytes()), Some(Form::Base64), "{before}");
        }
        assert_eq!(found("Secret^Person Ann", Class::Text, b"a=Secret%5EPerson%20Ann&"), Some(Form::Percent));
        assert_eq!(found("Secret^Person", Class::Name, b"file-PersonSecret.dcm"), Some(Form::Joined));
        assert_eq!(found("20040119", Class::Moment, b"on 2004-01-19, at"), Some(Form::Joined));
        let raw = withheld(&[(b"Klinik S\xfcd", Some("Klinik S\u{fc}d"), Class::Text)]);
        let searcher = searcher(&raw);
        let form = |text: &[u8]| searcher.hits(text, Numbers::All).next().map(|h| h.form);
        assert_eq!(form(b"at Klinik S\xfcd."), Some(Form::Raw));
        assert_eq!(form("at Klinik S\u{fc}d.".as_bytes()), Some(Form::Utf8));
        assert_eq!(form(b"Klinik%20S%C3%BCd"), Some(Form::Percent));
        assert_eq!(form(b"Klinik Nord"), None);
        assert_eq!(search(b"Secretpersom"), None);
    }

    #[test]
    fn case_counts_for_words_and_not_for_identifiers() {
        assert_eq!(found("Radiology", Class::Text, b"the radiology"), None);
        assert!(found("AB-4711-77", Class::Identifier, b"the ab-4711-77").is_some());
        assert!(found("Secret^Longname", Class::Name, b"SECRET^LONGNAME").is_some());
        assert_eq!(found("Ma^Chine", Class::Name, b"\"machine\": 1"), None);
    }

    #[test]
    fn short_values_count_as_whole_tokens_only() {
        assert!(found("Meier", Class::Text, b"dr. Meier, ward").is_some());
        assert!(found("Meier", Class::Text, b"Meier").is_some());
        assert_eq!(found("Meier", Class::Text, b"Meiers"), None);
        let wide: Vec<u8> = "Meiers".encode_utf16().flat_map(u16::to_le_bytes).collect();
        assert_eq!(found("Meier", Class::Text, &wide), None);
        let wide: Vec<u8> = "Meier, ".encode_utf16().flat_map(u16::to_le_bytes).collect();
        assert!(found("Meier", Class::Text, &wide).is_some());
    }

    #[test]
    fn numbers_count_where_nobody_made_them() {
        for text in ["at 101530 h", "101530", "(101530)", "t=101530.", "ID-101530", "x_101530_y"] {
            assert!(found("101530", Class::Moment, text.as_bytes()).is_some(), "{text}");
        }
        let hash = "0".repeat(29) + "a101530b" + &"0".repeat(27);
        for text in ["2.25.3360101530244", "1.2.101530.4", "0.101530", "21015304", "a101530", "101530.25", &hash] {
            assert_eq!(found("101530", Class::Moment, text.as_bytes()), None, "{text}");
        }
        // Few digits are part of more: of a date, a time, a fraction.
        for text in ["2026-11-21", "4711-12", "12:4711", "-4711.5", "(4711,A001)", "(0008,4711)"] {
            assert_eq!(found("4711", Class::Identifier, text.as_bytes()), None, "{text}");
        }
        assert!(found("4711", Class::Identifier, b"patient 4711, ward").is_some());
        let few = withheld(&[(b"4711", None, Class::Identifier)]);
        let searcher = searcher(&few);
        assert_eq!(searcher.hits(b"4711 files", Numbers::Long).count(), 0);
        assert_eq!(searcher.hits(b"4711 files", Numbers::No).count(), 0);
    }

    #[test]
    fn names_of_files_that_the_host_makes_are_no_sign_of_a_machine() {
        for (value, class) in
            [("CT-001", Class::Text), ("CT-001-0", Class::Identifier), ("001-00012", Class::Identifier)]
        {
            assert_eq!(found(value, class, b"\"c-1/CT-001-00012.dcm\""), None, "{value}");
            for text in ["CT-001-00012", "CT-001-00012.dcm.old", "ct-001-00012.dcm", "CT-1-CT-001-00012.dcm"] {
                assert!(found(value, Class::Identifier, text.as_bytes()).is_some(), "{value} in {text}");
            }
        }
        // Hexadecimal digits of a text are no hash, however many stand around them.
        let hash = "0".repeat(20) + &hex::encode("Secretperson") + &"0".repeat(20);
        assert_eq!(found("Secretperson", Class::Text, hash.as_bytes()), Some(Form::Hex));
    }

    #[test]
    fn a_uid_counts_as_a_whole_and_with_what_was_put_behind_it() {
        let uid = "1.3.6.1.4.1.9590.100.1";
        assert!(found(uid, Class::Uid, b"=1.3.6.1.4.1.9590.100.1\0").is_some());
        assert!(found(uid, Class::Uid, b"1.3.6.1.4.1.9590.100.1.7").is_some());
        assert_eq!(found(uid, Class::Uid, b"1.3.6.1.4.1.9590.100.12"), None);
        assert_eq!(found("1.3.6.1", Class::Uid, b"1.3.6.1.4"), None);
        assert!(
            found(
                "2.25.336006600246269544752852400795246045209",
                Class::Uid,
                b"2.25.336006600246269544752852400795246045209"
            )
            .is_some()
        );
    }

    #[test]
    fn what_is_found_is_taken_out() {
        let withheld = withheld(&[(b"Secret^Person", None, Class::Name)]);
        let searcher = searcher(&withheld);
        let text = "a Secret^Person and PersonSecret, end";
        assert_eq!(
            searcher.redacted(text, Numbers::All, "(withheld)").as_deref(),
            Some("a (withheld) and (withheld), end")
        );
        assert_eq!(searcher.redacted("nobody here", Numbers::All, "(withheld)"), None);
    }

    #[test]
    fn a_large_study_is_searched_in_parts_of_bounded_size() {
        let mut differences = Differences::default();
        for i in 0..5000 {
            for k in 0..3 {
                let raw = format!("1.2.840.113619.2.55.3.60468{k}.4711.{i:05}").into_bytes();
                differences.gone.insert(Gone { raw, text: None, class: Class::Uid }, Tag(8, 0x18));
            }
            for k in 0..10 {
                let raw = format!("private value {k} of instance {i:05}").into_bytes();
                differences.gone.insert(Gone { raw, text: None, class: Class::Text }, Tag(9, 0x1000 + k));
            }
        }
        let noon: jiff::Timestamp = "2026-03-01T12:30:15Z".parse().expect("a time");
        let withheld = Withheld::of(&differences, &BTreeSet::new(), &Public::new("", noon, noon));
        let (mut of, mut found) = (Vec::new(), BTreeSet::new());
        let text = b"private value 9 of instance 04999, 1.2.840.113619.2.55.3.604680.4711.00000, private value 0 of instance 00001.";
        for searcher in Searcher::parts(withheld.values()) {
            let size = searcher.words.needles.size() + searcher.numbers.needles.size();
            assert!(size <= AT_ONCE + (1 << 16), "{size}");
            found.extend(searcher.hits(text, Numbers::All).map(|hit| hit.value));
            of.push(searcher.values);
        }
        assert!(of.len() > 1 && of.windows(2).all(|w| w[0].end == w[1].start), "{of:?}");
        assert_eq!((of[0].start, of[of.len() - 1].end), (0, 65_000));
        assert_eq!(found.len(), 3);
    }
}
