//! [`decoded`]: text with code extensions (ISO 2022), for comparing it. Headers carry such text byte for byte, each byte a
//! character, so that what stays is never garbled; the same name would be other characters in the midst of a sentence.

use dicom_encoding::text::{SpecificCharacterSet, TextCodec};
use std::borrow::Cow;

const ESCAPE: char = '\u{1b}';

/// What an escape sequence switches to.
#[derive(Clone, Copy)]
enum Switch {
    /// Characters of two bytes (Japanese).
    Double,
    /// Characters of one byte.
    Single,
    /// Characters of two bytes above 127, beside those of one byte: by the defined term of their set.
    Upper(&'static str),
}

/// Escape sequences (PS3.3 C.12.1.1.2), without the escape.
const SWITCHES: [(&str, Switch); 7] = [
    ("$B", Switch::Double),
    ("$@", Switch::Double),
    ("(B", Switch::Single),
    ("(J", Switch::Single),
    (")I", Switch::Single),
    ("$)C", Switch::Upper("ISO 2022 IR 149")),
    ("$)A", Switch::Upper("ISO 2022 IR 58")),
];

/// Whether a text has escape sequences.
pub fn is_escaped(text: &str) -> bool {
    text.contains(ESCAPE)
}

/// A text without its escape sequences; what cannot be decoded stays as it is.
pub fn decoded(text: &str) -> Cow<'_, str> {
    let mut parts = text.split(ESCAPE);
    let Some(first) = parts.next().filter(|first| first.len() < text.len()) else { return Cow::Borrowed(text) };
    let mut all = first.to_owned();
    let (mut double, mut upper) = (false, None);
    for part in parts {
        let found = SWITCHES.iter().find_map(|(code, switch)| Some((part.strip_prefix(code)?, *switch)));
        let part = match found {
            Some((rest, Switch::Upper(term))) => {
                upper = SpecificCharacterSet::from_code(term);
                rest
            }
            Some((rest, switch)) => {
                double = matches!(switch, Switch::Double);
                rest
            }
            None => part,
        };
        let decoded = match &upper {
            _ if double => japanese(part),
            Some(set) if !part.is_ascii() => bytes(part).and_then(|bytes| set.decode(&bytes).ok()),
            _ => None,
        };
        all.push_str(decoded.as_deref().unwrap_or(part));
    }
    Cow::Owned(all)
}

fn japanese(part: &str) -> Option<String> {
    let escaped = [b"\x1b$B", bytes(part)?.as_slice(), b"\x1b(B"].concat();
    SpecificCharacterSet::from_code("ISO 2022 IR 87")?.decode(&escaped).ok()
}

/// The bytes for which the characters stand.
fn bytes(text: &str) -> Option<Vec<u8>> {
    text.chars().map(|c| u8::try_from(u32::from(c)).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_with_escapes_are_read() {
        let latin = |bytes: &[u8]| bytes.iter().map(|b| char::from(*b)).collect::<String>();
        for (bytes, expected) in [
            (&b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B"[..], "Yamada^Tarou=山田^太郎"),
            (b"CT \x1b$B%=\x1b(J 3", "CT ソ 3"),
            (b"\x1b$)C\xb1\xe8^\x1b$)C\xc3\xb6\xbc\xf6 CT", "김^철수 CT"),
            (b"\x1b$)A\xcd\xf5\xd0\xa1\xc3\xf7", "王小明"),
            (b"\x1b-A plain", "-A plain"),
            (b"plain", "plain"),
        ] {
            assert_eq!(decoded(&latin(bytes)), expected, "{expected}");
        }
    }
}
