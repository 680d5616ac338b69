//! What becomes of a statement.

use dicom_core::dictionary::{DataDictionary, DataDictionaryEntry};
use dicom_core::{Tag, VR};
use dicom_dictionary_std::{StandardDataDictionary, tags};

use super::action::Action;
use super::statement::Kind;
use super::table::{Row, Table};

/// Where a statement ends up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The profile does it, or as much.
    Done,
    /// A rule without its tag: `remove`, `empty`, `= TEXT`.
    Rule(String),
    /// Something to know.
    Note(String),
    /// It will not happen.
    Refused(String),
}

fn done_by(what: &str) -> Outcome {
    Outcome::Note(what.to_owned())
}

/// Attributes that say what was done to an object, which Gantry writes itself.
const OWN: [Tag; 4] = [
    tags::PATIENT_IDENTITY_REMOVED,
    tags::DEIDENTIFICATION_METHOD,
    tags::DEIDENTIFICATION_METHOD_CODE_SEQUENCE,
    tags::LONGITUDINAL_TEMPORAL_INFORMATION_MODIFIED,
];

/// A statement about one attribute; `retain` are the options asked for.
pub(super) fn attribute(tag: Tag, action: &Action, table: &Table, retain: &[&str]) -> Outcome {
    if let Action::Refused(why) = action {
        return Outcome::Refused(why.clone());
    }
    let group = tag.group();
    if matches!(group, 0x0000 | 0x0002) {
        return done_by("this group is written anew");
    }
    if OWN.contains(&tag) {
        return done_by("Gantry writes this attribute itself, after what was done");
    }
    if group % 2 == 1 {
        return private(action);
    }
    if repeating(tag) {
        return match action {
            Action::Remove | Action::Empty => Outcome::Done,
            Action::Keep | Action::Require => Outcome::Refused(
                "curves and overlays are removed; the option `graphics` cleans some of them".to_owned(),
            ),
            _ => Outcome::Refused("curves and overlays are removed and get no value".to_owned()),
        };
    }
    match table.row(tag) {
        Some(row) => listed(tag, action, row, retain),
        None => unlisted(tag, action),
    }
}

/// Curves and overlays.
fn repeating(tag: Tag) -> bool {
    let group = tag.group();
    ((0x5000..=0x50ff).contains(&group) || (0x6000..=0x60ff).contains(&group)) && group.is_multiple_of(2)
}

fn private(action: &Action) -> Outcome {
    match action {
        Action::Remove | Action::Empty => Outcome::Done,
        Action::Keep | Action::Require => {
            done_by("private attributes are removed; the option `safe-private` keeps those known to be safe")
        }
        _ => Outcome::Refused("private attributes are removed and get no value".to_owned()),
    }
}

/// May a rule name the attribute?
fn takes_rules(tag: Tag) -> bool {
    let fixed = [
        tags::SPECIFIC_CHARACTER_SET,
        tags::SOP_CLASS_UID,
        tags::SOP_INSTANCE_UID,
        tags::STUDY_INSTANCE_UID,
        tags::SERIES_INSTANCE_UID,
    ];
    !fixed.contains(&tag) && !matches!(tag.group(), 0x0028 | 0x7fe0)
}

/// A rule, or where none may be: why.
fn rule(tag: Tag, text: &str) -> Outcome {
    if takes_rules(tag) {
        return Outcome::Rule(text.to_owned());
    }
    Outcome::Refused("the object cannot be read without this attribute; it follows the profile".to_owned())
}

/// An attribute of the table.
fn listed(tag: Tag, action: &Action, row: &Row, retain: &[&str]) -> Outcome {
    // What an option keeps in some form is not gone any more.
    let kept = retain.iter().any(|option| row.options.contains(option));
    let removed = row.basic.starts_with('X');
    let patient = matches!(tag, tags::PATIENT_ID | tags::PATIENT_NAME);
    match action {
        Action::Remove if kept && removed => rule(tag, "remove"),
        Action::Empty if kept && (removed || row.basic == "Z") => rule(tag, "empty"),
        Action::Remove if removed => Outcome::Done,
        Action::Empty if removed || row.basic.starts_with('Z') => Outcome::Done,
        Action::Remove | Action::Empty if patient => done_by(
            "a pseudonym made with the site's key stands in its place, so that a patient's objects stay together",
        ),
        Action::Remove | Action::Empty => Outcome::Note(format!(
            "the profile replaces the value ({}); the attribute stays because objects need it",
            row.basic
        )),
        Action::Keep | Action::Require => keep(row, patient),
        Action::MapUid if row.basic.contains('U') => Outcome::Done,
        Action::MapUid if removed => Outcome::Done,
        Action::Hash if patient => Outcome::Done,
        Action::Lookup if patient => {
            done_by("pseudonyms that the site gives come from its own list (a CSV file), not from the script's")
        }
        Action::MapUid | Action::Hash | Action::Lookup => {
            Outcome::Note(format!("no text is made of the value: the profile takes it away ({})", row.basic))
        }
        Action::Shift if row.options.contains(&"modified-dates") => done_by(
            "asks for the option `modified-dates`; the offset comes from the site's key and differs from patient to patient",
        ),
        Action::Shift | Action::Coarsen | Action::Now => Outcome::Note(format!(
            "the profile takes the value away ({}); no other date stands in its place",
            row.basic
        )),
        Action::Text(_) if patient => {
            Outcome::Refused("one text for all patients would mix them; a pseudonym stands here".to_owned())
        }
        Action::Text(_) if row.basic.contains('U') => {
            Outcome::Refused("one UID for all objects would mix them; UIDs are mapped with the site's key".to_owned())
        }
        Action::Text(text) => constant(tag, text),
        Action::Refused(why) => Outcome::Refused(why.clone()),
    }
}

/// Keeping what the profile takes away is a matter of its options, on which a person decides.
fn keep(row: &Row, patient: bool) -> Outcome {
    let options: Vec<String> = row.options.iter().map(|option| format!("`{option}`")).collect();
    match options.as_slice() {
        _ if patient => Outcome::Refused("the patient's identity is never kept".to_owned()),
        [] => Outcome::Refused(format!("the profile takes this away ({}), and no option keeps it", row.basic)),
        some => Outcome::Note(format!(
            "the profile takes this away ({}); to keep it, or what is safe of it, add the option {}",
            row.basic,
            some.join(" or ")
        )),
    }
}

/// An attribute that the table does not list: kept where its kind is bounded.
fn unlisted(tag: Tag, action: &Action) -> Outcome {
    let vr = StandardDataDictionary.by_tag(tag).map(|entry| entry.vr().relaxed());
    let bounded = vr.is_some_and(|vr| {
        !matches!(
            vr,
            VR::DA | VR::DT | VR::TM | VR::PN | VR::LT | VR::ST | VR::UT | VR::UC | VR::UN | VR::OB | VR::AE | VR::UR
        )
    });
    match action {
        Action::Remove => rule(tag, "remove"),
        Action::Empty => rule(tag, "empty"),
        Action::Keep if bounded => Outcome::Done,
        Action::Require if bounded => done_by("kept where it is; attributes that are absent are not made up"),
        Action::Keep | Action::Require => done_by(
            "the table does not list this attribute; its kind can hold a person's data, so it stays only where it is known to be safe",
        ),
        Action::MapUid if vr == Some(VR::UI) => {
            done_by("the table does not list this UID: those that DICOM itself defines stay, others are mapped or go")
        }
        Action::Shift | Action::Coarsen | Action::Now => {
            done_by("the table does not list this attribute: dates and times that it does not list are removed")
        }
        Action::MapUid | Action::Hash | Action::Lookup => {
            Outcome::Refused("no text is made of the value; a script that says `@remove()` here is followed".to_owned())
        }
        Action::Text(text) => constant(tag, text),
        Action::Refused(why) => Outcome::Refused(why.clone()),
    }
}

/// A constant, where the attribute can hold it.
fn constant(tag: Tag, text: &str) -> Outcome {
    let plain = text.chars().all(|c| (' '..='~').contains(&c) && c != '\\');
    let length = text.chars().count();
    let digits = |n: usize| text.len() == n && text.bytes().all(|b| b.is_ascii_digit());
    let fits = match StandardDataDictionary.by_tag(tag).map(|entry| entry.vr().relaxed()) {
        None => return Outcome::Refused("the attribute is not in the dictionary, so no value is written".to_owned()),
        Some(VR::SH | VR::AE) => length <= 16,
        Some(VR::CS) => {
            length <= 16 && text.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == ' ' || c == '_')
        }
        Some(VR::LO | VR::PN) => length <= 64,
        Some(VR::ST | VR::LT | VR::UT | VR::UC) => length <= 1024,
        Some(VR::DA) => digits(8) && text.parse::<jiff::civil::Date>().is_ok(),
        Some(VR::TM) => {
            digits(6) && text.get(..2) < Some("24") && text.get(2..4) < Some("60") && text.get(4..) < Some("60")
        }
        Some(VR::DS) => length <= 16 && text.parse::<f64>().is_ok_and(f64::is_finite),
        Some(VR::IS) => length <= 12 && text.parse::<i32>().is_ok(),
        Some(_) => false,
    };
    if !(fits && plain) {
        return Outcome::Refused("the text is no value of this attribute".to_owned());
    }
    rule(tag, &format!("= {text}"))
}

/// A statement that is about no single attribute, or switched off.
pub(super) fn other(kind: &Kind, enabled: bool) -> Outcome {
    if !enabled {
        return match kind {
            Kind::Remove { what } if what == "privategroups" => done_by(
                "private attributes are removed all the same; the option `safe-private` keeps those known to be safe",
            ),
            Kind::Remove { what } if matches!(what.as_str(), "overlays" | "curves") => {
                done_by("curves and overlays are removed all the same")
            }
            _ => Outcome::Done,
        };
    }
    match kind {
        Kind::Parameter { name, .. } if name == "DATEINC" => {
            done_by("dates are not shifted by a number out of a script: the offset comes from the site's key")
        }
        Kind::Parameter { name, .. } if name == "UIDROOT" => {
            done_by("new UIDs begin with 2.25, whatever root the script names")
        }
        Kind::Parameter { .. } => Outcome::Done,
        Kind::Attribute { .. } => Outcome::Refused("the tag cannot be read".to_owned()),
        Kind::Keep { group } => Outcome::Note(format!(
            "group {} follows the profile: what that takes away is not kept, all else is",
            plain(group)
        )),
        Kind::Remove { what } => match what.as_str() {
            "privategroups" | "overlays" | "curves" => Outcome::Done,
            "unspecifiedelements" => done_by(
                "attributes that the script does not name stay where the profile keeps them: it keeps only those whose kind \
                 is known to be safe",
            ),
            _ => Outcome::Refused("this kind of removal is not known".to_owned()),
        },
        Kind::Unknown => Outcome::Refused("this is no statement that Gantry knows".to_owned()),
    }
}

/// A word of the script as it may be shown.
fn plain(word: &str) -> String {
    word.chars().filter(char::is_ascii_alphanumeric).take(8).collect()
}
