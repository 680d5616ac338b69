//! What a stage that sees identities may say: sentences that stand in its document, and numbers. All else is withheld.

/// Digits that a number in a message may have: too few for an identity.
const DIGITS: usize = 6;

/// What a message may be led by, to say where: `instance 3: `, `series 0, slice 12: `.
const PLACES: [&str; 2] = ["instance {n}: ", "series {n}, slice {n}: "];

/// Whether `text` is one of the `messages` of the stage's document (in which `{n}` stands for a number), maybe led by a
/// place.
pub fn permitted(messages: &[String], text: &str) -> bool {
    let sentence = PLACES.iter().find_map(|place| after(place, text)).unwrap_or(text);
    messages.iter().any(|message| after(message, sentence) == Some(""))
}

/// The index of the instance that a message is led by, and the rest.
pub fn instance(text: &str) -> Option<(usize, &str)> {
    let rest = after(PLACES[0], text)?;
    let number = text.get("instance ".len()..text.len() - rest.len() - 2)?;
    Some((number.parse().ok()?, rest))
}

/// What follows `pattern` at the beginning of `text`.
fn after<'t>(pattern: &str, mut text: &'t str) -> Option<&'t str> {
    for (i, fixed) in pattern.split("{n}").enumerate() {
        if i > 0 {
            let digits = text.bytes().take_while(u8::is_ascii_digit).count();
            text = text.get(digits..).filter(|_| (1..=DIGITS).contains(&digits))?;
        }
        text = text.strip_prefix(fixed)?;
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_listed_sentences_and_short_numbers_pass() {
        let messages = ["the pixels show text".to_owned(), "{n} of {n} instances left out".to_owned()];
        for text in [
            "the pixels show text",
            "instance 3: the pixels show text",
            "series 0, slice 112: the pixels show text",
            "2 of 30 instances left out",
        ] {
            assert!(permitted(&messages, text), "{text}");
        }
        for text in [
            "",
            "Doe^John",
            "the pixels show text of Doe^John",
            "Doe^John: the pixels show text",
            "instance Doe: the pixels show text",
            "instance 4711123: the pixels show text",
            "instance : the pixels show text",
            "instance 3: instance 4: the pixels show text",
            " of 30 instances left out",
        ] {
            assert!(!permitted(&messages, text), "{text}");
        }
        assert_eq!(instance("instance 12: the pixels show text"), Some((12, "the pixels show text")));
        assert_eq!(instance("series 0, slice 1: the pixels show text"), None);
    }
}
