//! [`cleaned`]: of a text that people type, the words of an allow-list and technical numbers; everything else goes.
//!
//! The list (data/descriptor_words.txt) holds words of anatomy, modalities, protocols, orientations, phases, contrast and
//! reconstruction, no names. A word that is part of a name or number of the patient goes although it is on the list.
//! A number stays with a unit, or after a word that stays and before nothing that goes: `5 mm`, `Phase 2`, but neither a
//! date nor an age. Reconstruction kernels (`B30f`, `Br40`, `FC52`) stay.

use std::collections::HashSet;
use std::sync::OnceLock;

const WORDS: &str = include_str!("../data/descriptor_words.txt");

/// Units that a technical number may have.
const UNITS: [&str; 30] = [
    "mm", "cm", "m", "kv", "kvp", "kev", "mev", "ma", "mas", "ms", "s", "sec", "min", "ml", "mgy", "gy", "cgy", "bq",
    "mbq", "hz", "mhz", "khz", "t", "hu", "deg", "bpm", "mw", "db", "%", "x",
];

/// Families of reconstruction kernels that are written with two digits.
const KERNELS: [&str; 22] = [
    "Br", "Bl", "Bf", "Bv", "Bm", "Bu", "Bz", "Hr", "Hp", "Hc", "Hf", "Hv", "Hn", "Hd", "Qr", "Ub", "Sa", "Sb", "Sd",
    "Sh", "Ur", "FC",
];

fn words() -> &'static HashSet<&'static str> {
    static SET: OnceLock<HashSet<&'static str>> = OnceLock::new();
    SET.get_or_init(|| WORDS.lines().collect())
}

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token {
    /// On the list, a kernel, or a number with its unit.
    Harmless,
    /// A bare number of at most three digits and two decimals.
    Number,
    /// A unit, which stays only after a number.
    Unit,
    /// Anything else.
    Unknown,
}

/// The harmless words of a text in their order, separated by single spaces; empty where there is none. `is_part` tells
/// whether a word, in lower case, is part of a name or number of the patient.
pub fn cleaned(text: &str, is_part: &dyn Fn(&str) -> bool) -> String {
    let separates = |c: char| !(c.is_alphanumeric() || matches!(c, '.' | '%'));
    let texts: Vec<&str> = text.split(separates).map(|t| t.trim_matches('.')).filter(|t| !t.is_empty()).collect();
    let tokens: Vec<Token> = texts
        .iter()
        .map(|text| {
            let lower = text.to_lowercase();
            if is_part(&lower) { Token::Unknown } else { kind(text, &lower) }
        })
        .collect();
    let mut kept: Vec<&str> = Vec::new();
    // Whether the token before stayed.
    let mut after_kept = false;
    for (n, (text, token)) in texts.iter().zip(&tokens).enumerate() {
        let (before, next) = (n.checked_sub(1).and_then(|n| tokens.get(n)), tokens.get(n + 1));
        let stays = match token {
            Token::Harmless => true,
            Token::Number if before == Some(&Token::Number) => false,
            Token::Number => match next {
                Some(Token::Unit) => true,
                Some(Token::Number | Token::Unknown) => false,
                Some(Token::Harmless) | None => after_kept,
            },
            Token::Unit => after_kept && before == Some(&Token::Number),
            Token::Unknown => false,
        };
        if stays {
            kept.push(text);
        }
        after_kept = stays;
    }
    // Numbers and units alone say nothing.
    let says = |text: &&str| text.chars().any(char::is_alphabetic) && words().contains(text.to_lowercase().as_str());
    if kept.iter().any(says) || kept.iter().any(|t| kind(t, &t.to_lowercase()) == Token::Harmless) {
        kept.join(" ")
    } else {
        String::new()
    }
}

fn kind(text: &str, lower: &str) -> Token {
    if is_number(text) {
        Token::Number
    } else if words().contains(lower) || is_kernel(text) {
        Token::Harmless
    } else if UNITS.contains(&lower) {
        Token::Unit
    } else {
        let digits = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(0);
        let (number, unit) = lower.split_at_checked(digits).unwrap_or(("", lower));
        if is_number(number) && UNITS.contains(&unit) { Token::Harmless } else { Token::Unknown }
    }
}

fn is_number(text: &str) -> bool {
    let digits = |text: &str, most: usize| (1..=most).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    match text.split_once('.') {
        Some((whole, decimals)) => digits(whole, 3) && digits(decimals, 2),
        None => digits(text, 3),
    }
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
            ("Liver phase 2", "Liver phase 2"),
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
        for text in ["Thorax^CTA_Heart 5 mm (Adult)", "MRI brain 12.03.2020 3 T", "Example 1 CT 2 x", "Liver 3 of 4"] {
            let once = clean(text);
            assert_eq!(clean(&once), once, "{text}");
        }
    }
}
