//! [`Audit`]: what was done, in counts and attribute tags, never in values. Record schema `gantry.deid-audit/1`.

use crate::options::Choice;
use crate::profile::{Profile, Reason, Rule, Verdict};
use crate::table::Actions;
use crate::tag_map::FastHash;
use dicom_core::Tag;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};

/// The record's schema.
pub const SCHEMA: &str = "gantry.deid-audit/1";

/// What happened to an attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// Stayed as it was; of a sequence, that it stayed.
    Kept,
    /// Taken out.
    Removed,
    /// Value now of zero length.
    Emptied,
    /// A label that may stay, emptied because it repeated a name or number of the patient.
    EmptiedEcho,
    /// Value replaced by a dummy.
    Dummied,
    /// UIDs replaced by mapped ones.
    MappedUids,
    /// Identifier replaced by a pseudonym.
    Pseudonymised,
    /// Date moved by the patient's offset.
    Shifted,
    /// Text of which only harmless words stayed.
    CleanedText,
    /// Age above 89 replaced by 90.
    CappedAge,
    /// Value replaced by the site's constant.
    Constant,
}

/// One kind of thing that happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Entry {
    /// The attribute.
    pub tag: Tag,
    /// What happened to it.
    pub action: Action,
    /// By which rule.
    pub rule: Rule,
    /// By which option, if one decided.
    pub option: Option<Choice>,
}

/// Counts over one data set, or over all of a case ([`Audit::add`]).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Audit {
    /// Data sets cleaned.
    pub datasets: u64,
    /// What happened, and how often. Private attributes that went are only counted in `removed`.
    pub entries: HashMap<Entry, u64, FastHash>,
    /// Attributes removed, by reason.
    pub removed: BTreeMap<Reason, u64>,
    /// Direct identifiers (names, numbers) for which kept labels were searched.
    pub searched: u64,
    /// Instances left out, by the code of their refusal.
    pub refused: BTreeMap<&'static str, u64>,
    /// Instances of which pixels are blanked.
    pub blanked: u64,
}

impl Audit {
    /// Notes a removal.
    pub fn removed(&mut self, tag: Tag, reason: Reason, verdict: Verdict) {
        *self.removed.entry(reason).or_default() += 1;
        if reason != Reason::Private {
            self.note(tag, Action::Removed, verdict);
        }
    }

    /// Notes anything else.
    pub fn note(&mut self, tag: Tag, action: Action, verdict: Verdict) {
        *self.entries.entry(Entry { tag, action, rule: verdict.rule, option: verdict.option }).or_default() += 1;
    }

    /// Attributes kept as they were, at every level.
    pub fn kept(&self) -> u64 {
        self.entries.iter().filter(|(entry, _)| entry.action == Action::Kept).map(|(_, n)| n).sum()
    }

    /// Adds the counts of another data set.
    pub fn add(&mut self, other: &Self) {
        self.datasets += other.datasets;
        self.searched += other.searched;
        self.blanked += other.blanked;
        for (entry, n) in &other.entries {
            *self.entries.entry(*entry).or_default() += n;
        }
        for (reason, n) in &other.removed {
            *self.removed.entry(*reason).or_default() += n;
        }
        for (code, n) in &other.refused {
            *self.refused.entry(code).or_default() += n;
        }
    }

    /// The record.
    pub fn to_json(&self, profile: &Profile) -> Value {
        let code = |(value, meaning): (&str, &str)| json!({"value": value, "scheme": "DCM", "meaning": meaning});
        let removed: BTreeMap<&str, u64> = self.removed.iter().map(|(r, n)| (reason_name(*r), *n)).collect();
        let mut entries: Vec<(&Entry, &u64)> = self.entries.iter().collect();
        entries.sort();
        let attributes: Vec<Value> = entries
            .into_iter()
            .map(|(entry, n)| {
                json!({
                    "tag": entry.tag.to_string(),
                    "action": action_name(entry.action),
                    "rule": rule_name(entry.rule),
                    "option": entry.option.map(Choice::name),
                    "count": n,
                })
            })
            .collect();
        json!({
            "schema": SCHEMA,
            "profile": profile.name,
            "options": profile.options.iter().map(Choice::name).collect::<Vec<_>>(),
            "edition": profile.table().edition(),
            "method": profile.method(),
            "codes": profile.codes(self.blanked > 0).map(code).collect::<Vec<_>>(),
            "datasets": self.datasets,
            "refused": self.refused,
            "blanked": self.blanked,
            "kept": self.kept(),
            "searched_identifiers": self.searched,
            "removed": removed,
            "attributes": attributes,
        })
    }
}

fn reason_name(reason: Reason) -> &'static str {
    match reason {
        Reason::Listed => "listed",
        Reason::Private => "private",
        Reason::Unknown => "unknown",
        Reason::WrongVr => "wrong_vr",
        Reason::GroupLength => "group_length",
        Reason::Graphics => "graphics",
        Reason::Unbounded => "unbounded",
        Reason::Stray => "stray",
        Reason::Hollow => "hollow",
        Reason::Site => "site",
    }
}

fn action_name(action: Action) -> &'static str {
    match action {
        Action::Kept => "kept",
        Action::Removed => "removed",
        Action::Emptied => "emptied",
        Action::EmptiedEcho => "emptied_echo",
        Action::Dummied => "dummied",
        Action::MappedUids => "mapped_uids",
        Action::Pseudonymised => "pseudonymised",
        Action::Shifted => "shifted",
        Action::CleanedText => "cleaned_text",
        Action::CappedAge => "capped_age",
        Action::Constant => "constant",
    }
}

/// The basic profile's cell of Table E.1-1, or a word.
fn rule_name(rule: Rule) -> String {
    let cell = |a: Actions| {
        let letters = [(a.remove, "X"), (a.empty, "Z"), (a.dummy, "D"), (a.map_uid, "U")];
        letters.iter().filter(|(set, _)| *set).map(|(_, letter)| *letter).collect::<Vec<_>>().join("/")
    };
    match rule {
        Rule::Table(actions) => cell(actions),
        Rule::Unlisted => "unlisted".into(),
        Rule::Private => "private".into(),
        Rule::Group => "group".into(),
        Rule::Site => "site".into(),
        Rule::Content(actions) => format!("content {}", cell(actions)),
        Rule::UnlistedContent => "content unlisted".into(),
    }
}
