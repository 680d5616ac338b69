//! The forms in which a value may hide: spellings of it, each in several encodings.

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;

use super::withheld::{Reach, Value};
use crate::series::identifying::Class;

/// How a value was written where it was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// UTF-8.
    Utf8,
    /// UTF-16, least significant byte first.
    Utf16Le,
    /// UTF-16, most significant byte first.
    Utf16Be,
    /// The bytes of the source, in its own character set.
    Raw,
    /// Percent-encoded.
    Percent,
    /// Base64.
    Base64,
    /// Hexadecimal.
    Hex,
    /// A name or date with its parts joined otherwise.
    Joined,
    /// A number of JSON.
    Number,
}

impl Form {
    /// In words.
    pub fn words(self) -> &'static str {
        match self {
            Form::Utf8 => "as text",
            Form::Utf16Le | Form::Utf16Be => "as UTF-16 text",
            Form::Raw => "in the character set of the source",
            Form::Percent => "percent-encoded",
            Form::Base64 => "as base64",
            Form::Hex => "as hexadecimal digits",
            Form::Joined => "with its parts joined otherwise",
            Form::Number => "as a number",
        }
    }
}

/// Shorter spellings are not searched.
const LEAST: usize = 4;
/// Shorter values are searched as text alone: their base64 or hexadecimal digits occur by chance.
const ENCODED: usize = 6;
/// What stands between the parts of a name.
const SEPARATORS: [&str; 9] = ["", " ", ", ", ",", "_", "-", ".", "+", "/"];

/// Gives every form of a value.
pub fn each(value: &Value, give: &mut dyn FnMut(Form, Vec<u8>)) {
    let Some(text) = value.text.as_deref() else {
        give(Form::Raw, value.raw.clone());
        encoded(&value.raw, give);
        return;
    };
    if value.raw != text.as_bytes() {
        give(Form::Raw, value.raw.clone());
        encoded(&value.raw, give);
    }
    spelt(text, Form::Utf8, give);
    for other in otherwise(value.class, text) {
        if other.chars().count() >= LEAST && other != text {
            spelt(&other, Form::Joined, give);
        }
    }
    if value.reach == Reach::Anywhere && text.contains(' ') {
        spelt(&text.replace(' ', "_"), Form::Joined, give);
    }
}

/// One spelling in every encoding.
fn spelt(text: &str, form: Form, give: &mut dyn FnMut(Form, Vec<u8>)) {
    give(form, text.as_bytes().to_vec());
    give(Form::Utf16Le, text.encode_utf16().flat_map(u16::to_le_bytes).collect());
    give(Form::Utf16Be, text.encode_utf16().flat_map(u16::to_be_bytes).collect());
    encoded(text.as_bytes(), give);
}

fn encoded(bytes: &[u8], give: &mut dyn FnMut(Form, Vec<u8>)) {
    let percent = percent(bytes);
    if percent != bytes {
        give(Form::Percent, percent);
    }
    if bytes.len() < ENCODED {
        return;
    }
    give(Form::Hex, hex::encode(bytes).into_bytes());
    give(Form::Percent, bytes.iter().flat_map(|b| escaped(*b)).collect());
    for before in 0..3 {
        if let Some(base64) = base64(bytes, before) {
            give(Form::Base64, base64);
        }
    }
}

/// Percent-encoded: everything but the unreserved characters of RFC 3986.
fn percent(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    for &b in bytes {
        match b {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(b),
            _ => out.extend(escaped(b)),
        }
    }
    out
}

/// One byte, percent-encoded.
fn escaped(byte: u8) -> [u8; 3] {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    [b'%', DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]
}

/// The base64 digits that depend on these bytes alone where `before` (0 to 2) bytes stand before them in their group.
fn base64(bytes: &[u8], before: usize) -> Option<Vec<u8>> {
    let shifted = [vec![0; before], bytes.to_vec()].concat();
    let digits = STANDARD_NO_PAD.encode(&shifted).into_bytes();
    let from = (before * 8).div_ceil(6);
    let to = shifted.len() * 8 / 6;
    digits.get(from..to).map(<[u8]>::to_vec)
}

/// The parts of a name joined without `^`, in both orders; a day with hyphens.
fn otherwise(class: Option<Class>, text: &str) -> Vec<String> {
    match class {
        Some(Class::Name) => {
            let parts: Vec<&str> = text.split(['^', ' ']).filter(|p| !p.is_empty()).collect();
            let Some(([family, given], _)) = parts.split_first_chunk::<2>() else { return Vec::new() };
            let pairs = SEPARATORS.iter().flat_map(|s| [format!("{family}{s}{given}"), format!("{given}{s}{family}")]);
            let mut all: Vec<String> = pairs.collect();
            if parts.len() > 2 {
                let reversed: Vec<&str> = parts.iter().rev().copied().collect();
                all.extend([parts.concat(), parts.join(" "), reversed.concat(), reversed.join(" ")]);
            }
            all
        }
        Some(Class::Moment) if text.len() == 8 && text.bytes().all(|b| b.is_ascii_digit()) => {
            vec![format!("{}-{}-{}", &text[..4], &text[4..6], &text[6..])]
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digits_of_base64_are_those_that_neighbours_cannot_change() {
        for (before, after) in [("", ""), ("x", ""), ("xy", "z"), ("xyz", "qq"), ("xyzw", "q")] {
            let whole = STANDARD_NO_PAD.encode(format!("{before}Canary{after}"));
            let found =
                (0..3).filter_map(|b| base64(b"Canary", b)).any(|d| whole.contains(std::str::from_utf8(&d).unwrap()));
            assert!(found, "{before}|{after}: {whole}");
        }
    }

    #[test]
    fn names_are_joined_in_both_orders() {
        let all = otherwise(Some(Class::Name), "Miller^Ann^Maria");
        for wanted in
            ["MillerAnn", "AnnMiller", "Miller, Ann", "Ann Miller", "Ann_Miller", "MillerAnnMaria", "Maria Ann Miller"]
        {
            assert!(all.iter().any(|s| s == wanted), "{wanted}");
        }
        assert_eq!(otherwise(Some(Class::Moment), "20040119"), ["2004-01-19"]);
        assert!(otherwise(Some(Class::Text), "a b").is_empty());
    }
}
