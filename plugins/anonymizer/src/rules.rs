//! [`Rules`]: a site's own rules for attributes, stricter than the profile: `(gggg,eeee) remove`, `(gggg,eeee) empty`,
//! `(gggg,eeee) = TEXT`. They hold at every nesting level and come before everything else.

use crate::dates;
use crate::tag_map::TagMap;
use crate::value;
use dicom_core::{Tag, VR};
use dicom_dictionary_std::tags;

/// What a rule does with an attribute that is present.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Takes it out.
    Remove,
    /// Leaves it with zero length.
    Empty,
    /// Puts a constant in its place.
    Constant(String),
}

/// The rules of a site, by attribute.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    by_tag: TagMap<Action>,
}

/// Attributes without which an object is none, or that say what was done to it.
const FIXED: [Tag; 9] = [
    tags::SPECIFIC_CHARACTER_SET,
    tags::SOP_CLASS_UID,
    tags::SOP_INSTANCE_UID,
    tags::STUDY_INSTANCE_UID,
    tags::SERIES_INSTANCE_UID,
    tags::PATIENT_IDENTITY_REMOVED,
    tags::DEIDENTIFICATION_METHOD,
    tags::DEIDENTIFICATION_METHOD_CODE_SEQUENCE,
    tags::LONGITUDINAL_TEMPORAL_INFORMATION_MODIFIED,
];

impl Rules {
    /// Reads the parameter `rules`.
    ///
    /// # Errors
    /// The number of the first rule that is wrong (from 1), and what is wrong, in words for the user.
    pub fn parse(rules: &[String]) -> Result<Self, String> {
        let mut all = Self::default();
        for (index, text) in rules.iter().enumerate() {
            let wrong = |what: String| format!("rules, number {}: {what}", index + 1);
            let (tag, action) = parse(text).map_err(wrong)?;
            if all.by_tag.insert(tag, action).is_some() {
                return Err(wrong(format!("{tag} has a rule already")));
            }
        }
        Ok(all)
    }

    /// The rule for an attribute.
    pub fn get(&self, tag: Tag) -> Option<&Action> {
        if self.by_tag.is_empty() { None } else { self.by_tag.get(&tag) }
    }
}

fn parse(text: &str) -> Result<(Tag, Action), String> {
    const SHAPE: &str = "expected `(gggg,eeee) remove`, `(gggg,eeee) empty` or `(gggg,eeee) = TEXT`";
    let text = text.trim();
    let (tag, rest) = text.split_at_checked(11).ok_or(SHAPE)?;
    let tag = tag.starts_with('(').then(|| tag.parse::<Tag>().ok()).flatten().ok_or(SHAPE)?;
    let rest = rest.trim();
    let action = match rest {
        "remove" => Action::Remove,
        "empty" => Action::Empty,
        _ => Action::Constant(rest.strip_prefix('=').ok_or(SHAPE)?.trim().to_owned()),
    };
    if FIXED.contains(&tag) || matches!(tag.group(), 0x0000 | 0x0002 | 0x0028 | 0x7fe0) {
        return Err(format!("{tag} is needed to read the object, or says what was done to it, and takes no rule"));
    }
    let private = tag.group() % 2 == 1;
    match &action {
        Action::Constant(_) | Action::Empty if private => {
            Err(format!("{tag} is private; the only rule for it is `remove`"))
        }
        Action::Constant(constant) => {
            if matches!(tag, tags::PATIENT_ID | tags::PATIENT_NAME) {
                return Err(format!("{tag} is replaced by a pseudonym and takes no constant"));
            }
            fits(tag, constant)?;
            Ok((tag, action))
        }
        _ => Ok((tag, action)),
    }
}

/// Whether a constant is a value of the attribute.
fn fits(tag: Tag, constant: &str) -> Result<(), String> {
    let vr =
        value::dictionary_vr(tag).ok_or_else(|| format!("{tag} is not in the dictionary and takes no constant"))?;
    if constant.is_empty() {
        return Err("the constant is empty; say `empty`".into());
    }
    // One value, in characters that every character set holds.
    let plain = |limit: usize| {
        constant.chars().count() <= limit && constant.chars().all(|c| (' '..='~').contains(&c) && c != '\\')
    };
    let code = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == ' ' || c == '_';
    let right = match vr {
        VR::SH | VR::AE => plain(16),
        VR::CS => plain(16) && constant.chars().all(code),
        VR::LO | VR::PN => plain(64),
        VR::ST | VR::LT | VR::UT | VR::UC => plain(1024),
        VR::DA => dates::is_date(constant),
        VR::TM => dates::is_time(constant),
        VR::DT => dates::is_datetime(constant),
        VR::AS => dates::capped_age(constant).is_some_and(|age| age == constant),
        VR::DS => plain(16) && constant.parse::<f64>().is_ok_and(f64::is_finite),
        VR::IS => plain(12) && constant.parse::<i32>().is_ok(),
        _ => return Err(format!("{tag} is of VR {vr}, which takes no constant")),
    };
    if right { Ok(()) } else { Err(format!("the constant is no value of VR {vr}, of which {tag} is")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> Result<(Tag, Action), String> {
        parse(text)
    }

    #[test]
    fn rules_are_read() {
        assert_eq!(one("(0008,0070) remove"), Ok((tags::MANUFACTURER, Action::Remove)));
        assert_eq!(one(" (0008,0070)  empty "), Ok((tags::MANUFACTURER, Action::Empty)));
        assert_eq!(one("(0008,0080) = Site 3"), Ok((tags::INSTITUTION_NAME, Action::Constant("Site 3".into()))));
        assert_eq!(one("(0008,0020)=20000101"), Ok((tags::STUDY_DATE, Action::Constant("20000101".into()))));
        assert_eq!(one("(0029,1010) remove"), Ok((Tag(0x0029, 0x1010), Action::Remove)));
        let rules = Rules::parse(&["(0008,0070) remove".to_owned()]).expect("rules");
        assert_eq!(rules.get(tags::MANUFACTURER), Some(&Action::Remove));
        assert_eq!(rules.get(tags::MODALITY), None);
    }

    #[test]
    fn malformed_rules_are_refused_by_number() {
        for (text, expected) in [
            ("", "expected `(gggg,eeee)"),
            ("0008,0070 remove", "expected `(gggg,eeee)"),
            ("(0008,0070)", "expected `(gggg,eeee)"),
            ("(0008,0070) keep", "expected `(gggg,eeee)"),
            ("(0008,007é) remove", "expected `(gggg,eeee)"),
            ("(0008,0018) remove", "takes no rule"),
            ("(0028,0010) empty", "takes no rule"),
            ("(0029,1010) = x", "private"),
            ("(0010,0020) = X", "pseudonym"),
            ("(0020,0052) = 1.2.3", "VR UI, which takes no constant"),
            ("(0008,1140) = x", "VR SQ, which takes no constant"),
            ("(0008,0080) =", "say `empty`"),
            ("(0008,0080) = a\\b", "no value of VR LO"),
            ("(0008,0020) = 2000", "no value of VR DA"),
            ("(0010,1010) = 099Y", "no value of VR AS"),
            ("(0008,0060) = ct", "no value of VR CS"),
            ("(0018,0060) = high", "no value of VR DS"),
            ("(0018,FEDC) = x", "not in the dictionary"),
        ] {
            let rules = ["(0008,0070) remove".to_owned(), text.to_owned()];
            let error = Rules::parse(&rules).expect_err(text);
            assert!(error.starts_with("rules, number 2: ") && error.contains(expected), "{text}: {error}");
        }
        let twice = ["(0008,0070) remove".to_owned(), "(0008,0070) empty".to_owned()];
        assert!(Rules::parse(&twice).expect_err("twice").contains("has a rule already"));
    }
}
