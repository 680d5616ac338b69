//! [`cleaned`]: of a text that people type, the words of an allow-list and technical numbers; everything else goes.
//!
//! The list (data/descriptor_words.txt) holds words of anatomy, modalities, protocols, orientations, phases, contrast and
//! reconstruction, no names. A word that is part of a name or number of the patient goes although it is on the list.
//! An integer stays with a unit only, a short decimal also after a word that stays and before nothing that goes: `5 mm`,
//! `Abdomen 5.0`, but neither a date nor an age. Reconstruction kernels (`B30f`, `Br40`, `FC52`) stay. What follows a title
//! is a name, although it may be a word of the list: up to two words go with the title.

use crate::fold::fold;
use std::collections::HashSet;
use std::sync::OnceLock;

const WORDS: &str = include_str!("../data/descriptor_words.txt");

/// Units that a technical number may have. Metres are missing: `95 M` is a man of 95 years.
const UNITS: [&str; 28] = [
    "mm", "cm", "kv", "kvp", "kev", "mev", "ma", "mas", "ms", "s", "sec", "min", "ml", "mgy", "gy", "cgy", "bq", "mbq",
    "hz", "mhz", "khz", "t", "hu", "deg", "bpm", "mw", "db", "%",
];

/// Tesla: the field strengths of scanners.
const FIELDS: std::ops::RangeInclusive<f64> = 0.2..=11.0;
/// Above this a decimal without a unit is no thickness of a slice, but may be an age or a weight.
const MOST_BARE: f64 = 20.0;

/// Words after which somebody is named.
const TITLES: [&str; 19] = [
    "dr",
    "drs",
    "dra",
    "doctor",
    "doktor",
    "prof",
    "professor",
    "mr",
    "mrs",
    "ms",
    "miss",
    "herr",
    "frau",
    "mme",
    "mlle",
    "monsieur",
    "madame",
    "sr",
    "sra",
];
/// So many words go with a title.
const NAMES_AFTER_TITLE: usize = 2;

/// Families of reconstruction kernels that are written with two digits.
const KERNELS: [&str; 22] = [
    "Br", "Bl", "Bf", "Bv", "Bm", "Bu", "Bz", "Hr", "Hp", "Hc", "Hf", "Hv", "Hn", "Hd", "Qr", "Ub", "Sa", "Sb", "Sd",
    "Sh", "Ur", "FC",
];

fn words() -> &'static HashSet<&'static str> {
    static SET: OnceLock<HashSet<&'static str>> = OnceLock::new();
    SET.get_or_init(|| WORDS.lines().collect())
}

/// Words of names that stand for nobody.
const NOBODY: [&str; 8] =
    ["anonymised", "anonymized", "anonymous", "example", "patient", "phantom", "sample", "unknown"];

/// Whether a [folded](fold) word is on the list, so that it says nothing of a patient who is called alike.
pub fn is_harmless(word: &str) -> bool {
    static FOLDED: OnceLock<HashSet<String>> = OnceLock::new();
    FOLDED.get_or_init(|| WORDS.lines().chain(NOBODY).map(fold).collect()).contains(word)
}

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token {
    /// On the list, a kernel, or a number with its unit.
    Harmless,
    /// A bare integer of at most three digits.
    Integer,
    /// A bare number of at most three digits and two decimals that is no day of a year.
    Decimal,
    /// A unit, which stays only after a number.
    Unit,
    /// Anything else.
    Unknown,
}

/// The harmless words of a text in their order, separated by single spaces; empty where there is none. `is_part` tells
/// whether a word, in lower case, is part of a name or number of the patient.
pub fn cleaned(text: &str, is_part: &dyn Fn(&str) -> bool) -> String {
    let separates = |c: char| !(c.is_alphanumeric() || matches!(c, '.' | '%'));
    let raw = text.split(separates).map(|t| t.trim_start_matches('.')).filter(|t| !t.is_empty());
    // `24.1.` is a day, not a decimal at the end of a sentence.
    let is_day = |raw: &str| raw.trim_end_matches('.').contains('.') && raw.ends_with('.');
    let (texts, mut tokens): (Vec<&str>, Vec<Token>) = raw
        .map(|raw| {
            let (text, lower) = (raw.trim_end_matches('.'), raw.trim_end_matches('.').to_lowercase());
            let unknown = is_part(&lower) || is_day(raw);
            (text, if unknown { Token::Unknown } else { kind(text, &lower) })
        })
        .unzip();
    drop_the_named(&texts, &mut tokens);
    let mut kept: Vec<&str> = Vec::new();
    // Whether the token before stayed.
    let mut after_kept = false;
    for (n, (text, token)) in texts.iter().zip(&tokens).enumerate() {
        let before = n.checked_sub(1).and_then(|n| Some((*texts.get(n)?, *tokens.get(n)?)));
        let next = texts.get(n + 1).zip(tokens.get(n + 1));
        let has_number = before.is_some_and(|(_, before)| is_bare(before));
        let stays = match token {
            Token::Harmless => true,
            Token::Integer | Token::Decimal if has_number => false,
            Token::Integer | Token::Decimal => match next {
                Some((unit, Token::Unit)) => measures(text, unit, " "),
                // Some units are words of the list.
                Some((unit, Token::Harmless)) if UNITS.contains(&unit.to_lowercase().as_str()) => true,
                Some((_, Token::Harmless)) | None => {
                    *token == Token::Decimal && after_kept && text.parse::<f64>().is_ok_and(|n| n <= MOST_BARE)
                }
                Some(_) => false,
            },
            Token::Unit => after_kept && has_number,
            Token::Unknown => false,
        };
        if stays {
            kept.push(text);
        }
        after_kept = stays;
    }
    // Numbers and units alone say nothing.
    if kept.iter().any(|text| kind(text, &text.to_lowercase()) == Token::Harmless) {
        kept.join(" ")
    } else {
        String::new()
    }
}

fn is_bare(token: Token) -> bool {
    matches!(token, Token::Integer | Token::Decimal)
}

/// Titles and the names after them become unknown. Initials and particles (`von`) are not counted; a word of the list in
/// lower case or a number ends the name.
fn drop_the_named(texts: &[&str], tokens: &mut [Token]) {
    let is_lower = |text: &str| text.to_lowercase() == text;
    let mut names = 0;
    let mut before = None;
    for n in 0..texts.len().min(tokens.len()) {
        let next = texts.get(n + 1).zip(tokens.get(n + 1));
        let before_word = next.is_some_and(|(text, token)| *token == Token::Harmless && is_lower(text));
        let (Some(text), Some(token)) = (texts.get(n), tokens.get_mut(n)) else { return };
        let lower = text.to_lowercase();
        let is_title = TITLES.contains(&lower.as_str())
            && match lower.as_str() {
                // Magnetic resonance and structured reports are written in capitals, or before a word of the trade.
                "mr" | "sr" => *text != lower.to_uppercase() && !(is_lower(text) && before_word),
                _ => !before.is_some_and(is_bare),
            };
        before = Some(*token);
        if is_title {
            (*token, names) = (Token::Unknown, NAMES_AFTER_TITLE);
        } else if is_bare(*token) || (*token == Token::Harmless && is_lower(text)) {
            names = 0;
        } else if names > 0 {
            *token = Token::Unknown;
            names -= usize::from(text.chars().count() > 1 && !is_lower(text));
        }
    }
}

fn kind(text: &str, lower: &str) -> Token {
    if let Some(number) = number(text) {
        number
    } else if words().contains(lower) || is_kernel(text) || is_matrix(lower) {
        Token::Harmless
    } else if UNITS.contains(&lower) {
        Token::Unit
    } else {
        let digits = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(0);
        let Some((value, unit)) = text.split_at_checked(digits) else { return Token::Unknown };
        let measured = number(value).is_some() && UNITS.contains(&unit.to_lowercase().as_str());
        if measured && measures(value, unit, "") { Token::Harmless } else { Token::Unknown }
    }
}

/// Whether a number and a unit, written with this between them, are a technical measure rather than an age and a sex.
fn measures(number: &str, unit: &str, between: &str) -> bool {
    match unit {
        "T" | "t" => number.parse().is_ok_and(|tesla| FIELDS.contains(&tesla)),
        "s" => !between.is_empty() || number.contains('.'),
        "S" => false,
        _ => true,
    }
}

/// An integer or a decimal; `24.12` is a day.
fn number(text: &str) -> Option<Token> {
    let digits = |text: &str, most: usize| (1..=most).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    let Some((whole, decimals)) = text.split_once('.') else { return digits(text, 3).then_some(Token::Integer) };
    let within = |text: &str, most: u8| text.len() == 2 && text.parse::<u8>().is_ok_and(|n| (1..=most).contains(&n));
    let is_day = within(whole, 31) && within(decimals, 12);
    (digits(whole, 3) && digits(decimals, 2) && !is_day).then_some(Token::Decimal)
}

/// `2x2`, `256x256x64`.
fn is_matrix(lower: &str) -> bool {
    let sides: Vec<&str> = lower.split('x').collect();
    let is_side = |side: &&str| (1..=3).contains(&side.len()) && side.bytes().all(|b| b.is_ascii_digit());
    (2..=3).contains(&sides.len()) && sides.iter().all(is_side)
}

/// `B30f` (a letter, two digits, a letter), `Br40`, `FC52`.
fn is_kernel(text: &str) -> bool {
    let two_digits = |text: &str| text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit());
    let old = || match text.as_bytes() {
        [family, tens, ones, speed] => {
            b"BHTUDJI".contains(family) && tens.is_ascii_digit() && ones.is_ascii_digit() && b"fhsu".contains(speed)
        }
        _ => false,
    };
    old() || KERNELS.iter().any(|family| text.strip_prefix(family).is_some_and(two_digits))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clean(text: &str) -> String {
        cleaned(text, &|word| ["chest", "sample", "471"].contains(&word))
    }

    #[test]
    fn the_list_is_sorted_in_lower_case_and_without_doubles() {
        let lines: Vec<&str> = WORDS.lines().collect();
        assert!(lines.len() > 800, "{}", lines.len());
        for pair in lines.windows(2) {
            assert!(pair[0] < pair[1], "{pair:?}");
        }
        assert!(lines.iter().all(|w| w.to_lowercase() == *w && !w.contains(char::is_whitespace)));
    }

    #[test]
    fn words_of_the_trade_stay_and_others_go() {
        for (text, expected) in [
            ("Thorax^CTA_Heart (Adult)", "Thorax CTA Heart Adult"),
            ("Abdomen 5.0 B30f", "Abdomen 5.0 B30f"),
            ("Thorax 1.0 Br40 S3", "Thorax 1.0 Br40 S3"),
            ("LUNG 5mm, 120 kV", "LUNG 5mm 120 kV"),
            ("Liver phase 2", "Liver phase"),
            ("Matrix 2x2 1.5T 3T 3 T", "Matrix 2x2 1.5T 3T 3 T"),
            ("reference 95 min 80 mAs", "reference 95 min 80 mAs"),
            ("CT abdomen for Mrs Example, ward 7", "CT abdomen for"),
            ("MRI brain 12.03.2020", "MRI brain"),
            ("MRI brain 12/03/20", "MRI brain"),
            ("MRI brain 12 03 20", "MRI brain"),
            ("CT head 95 years old", "CT head"),
            ("Thorax 4711", "Thorax"),
            ("Thorax 471", "Thorax"),
            ("Chest sample thin", "thin"),
            ("Example", ""),
            ("Example 12", ""),
            ("12", ""),
            ("5 mm", ""),
            ("030 123 45", ""),
            ("B12 Dr. B. Müller", ""),
            ("T2 FLAIR axial 3D", "T2 FLAIR axial 3D"),
            ("", ""),
            ("患者 thorax", "thorax"),
        ] {
            assert_eq!(clean(text), expected, "{text}");
        }
    }

    #[test]
    fn cleaning_twice_changes_nothing() {
        for text in [
            "Thorax^CTA_Heart 5 mm (Adult)",
            "MRI brain 12.03.2020 3 T",
            "Example 1 CT 2 x",
            "Liver 3 of 4",
            "mr 12 Neck",
            "4 5 MS Head",
            "Dr mr brain",
        ] {
            let once = clean(text);
            assert_eq!(clean(&once), once, "{text}");
        }
    }

    #[test]
    fn ages_and_days_go() {
        for age in
            ["95M", "92 M", "97F", "97 F", "95", "95.5", "95s", "95 S", "95S", "95t", "95 T", "12T", "95x", "95 x", "0"]
        {
            assert_eq!(clean(&format!("CT head {age}")), "CT head", "{age}");
            assert_eq!(clean(&format!("CT {age} head")), "CT head", "{age}");
        }
        for day in ["24.12", "24.12.", "1.5.", "24.12.93", "24/12", "24-12", "31.01 mm"] {
            assert_eq!(clean(&format!("CT head {day}")).replace(" mm", ""), "CT head", "{day}");
        }
        assert_eq!(clean("CT head 31.13 mm 5.0"), "CT head 31.13 mm 5.0");
        assert_eq!(clean("CT head delay 30 s 1.5s"), "CT head delay 30 s 1.5s");
    }

    #[test]
    fn names_go_with_their_title() {
        for (text, expected) in [
            ("CT Dr. Foot", "CT"),
            ("CT Dr. B. Hand Neck", "CT"),
            ("CT Prof. Dr. Hand", "CT"),
            ("CT Frau von der Hand", "CT"),
            ("CT Mrs Anna Head, right hand", "CT right hand"),
            ("CT Mr Neck Foot Hand", "CT Hand"),
            ("CT dr head", "CT head"),
            ("MR Head", "MR Head"),
            ("mr head", "mr head"),
            ("mr Head", ""),
            ("brain 5 ms Head", "brain 5 ms Head"),
            ("brain Ms Head", "brain"),
        ] {
            assert_eq!(clean(text), expected, "{text}");
        }
    }

    #[test]
    fn surnames_are_not_on_the_list() {
        for name in
            "Stone Wall Bravo Field Small Grey Gray Bold Root Crane Fine Key Ma Mas Min Sharp Shim Shin Swan Early Child \
             Young Long Little White Black Brown Green King Page Price Rose Cross Day May March April June Sommer"
                .split_whitespace()
        {
            assert_eq!(clean(&format!("CT {name}")), "CT", "{name}");
        }
        assert_eq!(clean("Neck hand foot head"), "Neck hand foot head");
    }
}
