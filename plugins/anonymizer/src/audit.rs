//! [`Audit`]: what was done, in counts and attribute tags, never in values. Record schema `gantry.deid-audit/1`.

use crate::profile::{MethodCode, Profile, Reason};
use dicom_core::Tag;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The record's schema.
pub const SCHEMA: &str = "gantry.deid-audit/1";

/// How an attribute that stayed was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    /// Value now of zero length.
    Emptied,
    /// A label that the table lets stay, emptied because it repeated a name or number of the patient.
    EmptiedEcho,
    /// Value replaced by a dummy.
    Dummied,
    /// UIDs replaced by mapped ones.
    MappedUids,
    /// Identifier replaced by a pseudonym.
    Pseudonymised,
}

/// Counts over one data set, or over all of a case ([`Audit::add`]).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Audit {
    /// Data sets seen.
    pub datasets: u64,
    /// Attributes removed, by reason.
    pub removed: BTreeMap<Reason, u64>,
    /// Changed attributes, by tag and kind.
    pub changed: BTreeMap<(Tag, Change), u64>,
    /// Public attributes removed, by tag. Private tags are only counted.
    pub removed_tags: BTreeMap<Tag, u64>,
    /// Direct identifiers (names, numbers) for which kept labels were searched.
    pub searched: u64,
    /// Attributes kept as they were, at every level.
    pub kept: u64,
}

impl Audit {
    /// Notes a removal.
    pub fn removed(&mut self, tag: Tag, reason: Reason) {
        *self.removed.entry(reason).or_default() += 1;
        if reason != Reason::Private {
            *self.removed_tags.entry(tag).or_default() += 1;
        }
    }

    /// Notes a change.
    pub fn changed(&mut self, tag: Tag, change: Change) {
        *self.changed.entry((tag, change)).or_default() += 1;
    }

    /// Adds the counts of another data set.
    pub fn add(&mut self, other: &Self) {
        self.datasets += other.datasets;
        self.kept += other.kept;
        self.searched += other.searched;
        for (reason, n) in &other.removed {
            *self.removed.entry(*reason).or_default() += n;
        }
        for (key, n) in &other.changed {
            *self.changed.entry(*key).or_default() += n;
        }
        for (tag, n) in &other.removed_tags {
            *self.removed_tags.entry(*tag).or_default() += n;
        }
    }

    /// The record.
    pub fn to_json(&self, profile: &Profile) -> Value {
        let code = |c: &MethodCode| json!({"value": c.value, "scheme": "DCM", "meaning": c.meaning});
        let removed: BTreeMap<&str, u64> = self.removed.iter().map(|(r, n)| (reason_name(*r), *n)).collect();
        let mut attributes: Vec<Value> = self
            .removed_tags
            .iter()
            .map(|(tag, n)| json!({"tag": tag.to_string(), "action": "removed", "count": n}))
            .collect();
        attributes.extend(
            self.changed
                .iter()
                .map(|((tag, c), n)| json!({"tag": tag.to_string(), "action": change_name(*c), "count": n})),
        );
        json!({
            "schema": SCHEMA,
            "profile": profile.name,
            "edition": profile.table().edition(),
            "method": profile.method(),
            "codes": profile.codes.iter().map(code).collect::<Vec<_>>(),
            "datasets": self.datasets,
            "kept": self.kept,
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
    }
}

fn change_name(change: Change) -> &'static str {
    match change {
        Change::Emptied => "emptied",
        Change::EmptiedEcho => "emptied_echo",
        Change::Dummied => "dummied",
        Change::MappedUids => "mapped_uids",
        Change::Pseudonymised => "pseudonymised",
    }
}
