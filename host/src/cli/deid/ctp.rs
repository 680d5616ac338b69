//! Import of de-identification scripts of RSNA's Clinical Trial Processor (CTP): what a script asks for, in Gantry's terms.
//!
//! The profile of PS3.15 stays the floor. A script can make it stricter (rules), or ask for one of its options; it cannot
//! keep what the profile takes away. Every statement ends up in exactly one of four places: done by the profile, a rule,
//! a note (something the reader should know), or refused (something that will not happen).

mod action;
mod decide;
mod statement;
mod table;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use dicom_core::Tag;

pub use table::Table;

use action::Action;
use decide::Outcome;
use statement::{Kind, Statement};

/// Something to tell about a statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// Line in the script, counted from 1.
    pub line: usize,
    /// The attribute; empty for a statement about a group or the whole script.
    pub tag: String,
    /// What is to be told.
    pub text: String,
}

/// What a script comes to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Script {
    /// Options that the script itself asks for, for the parameter `retain`: `modified-dates` where it shifts dates.
    pub retain: Vec<&'static str>,
    /// Options for the parameter `clean`.
    pub clean: Vec<&'static str>,
    /// For the parameter `rules`.
    pub rules: Vec<String>,
    /// Statements of which the reader should know something.
    pub notes: Vec<Note>,
    /// Statements that are not followed.
    pub refused: Vec<Note>,
    /// How many statements the profile does anyway, or that are switched off, or only name a parameter.
    pub done: usize,
    /// How many statements the script has: as many as `done`, `rules`, `notes` and `refused` together.
    pub statements: usize,
}

/// A script that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {text}")]
pub struct CtpError {
    /// Line in the script, counted from 1.
    pub line: usize,
    /// What is wrong.
    pub text: String,
}

/// Longest script, bytes.
const MAX_BYTES: usize = 8 << 20;

/// Reads a script, XML or the older properties.
///
/// # Errors
/// Text that is neither: with the line at which that shows.
pub fn import(text: &str, table: &Table) -> Result<Script, CtpError> {
    if text.len() > MAX_BYTES {
        return Err(CtpError { line: 1, text: format!("the script has {} bytes, more than any script", text.len()) });
    }
    let text = text.trim_start_matches('\u{feff}');
    let statements =
        if text.trim_start().starts_with('<') { statement::xml(text)? } else { statement::properties(text)? };
    Ok(judge(&statements, table))
}

fn judge(statements: &[Statement], table: &Table) -> Script {
    let parameters: BTreeMap<&str, &str> = statements
        .iter()
        .filter_map(|s| match &s.kind {
            Kind::Parameter { name, value } => Some((name.as_str(), value.as_str())),
            _ => None,
        })
        .collect();
    let read = |s: &Statement| match &s.kind {
        Kind::Attribute { tag: Ok(tag), action } if s.enabled => Some((*tag, Action::read(action, *tag, &parameters))),
        _ => None,
    };
    let actions: Vec<Option<(Tag, Action)>> = statements.iter().map(read).collect();
    // Options first: what the profile does depends on them.
    let shifts = |(tag, action): &(Tag, Action)| *action == Action::Shift && table.has(*tag, "modified-dates");
    let mut script = Script { statements: statements.len(), ..Script::default() };
    if actions.iter().flatten().any(shifts) {
        script.retain.push("modified-dates");
    }
    let mut seen = BTreeSet::new();
    for (statement, action) in statements.iter().zip(actions) {
        let tag = action.as_ref().map(|(tag, _)| *tag);
        let outcome = match (&statement.kind, action) {
            (_, Some((tag, _))) if !seen.insert(tag) => {
                Outcome::Refused("the attribute has a statement already; the first one counts".to_owned())
            }
            (_, Some((tag, action))) => decide::attribute(tag, &action, table, &script.retain),
            (kind, None) => decide::other(kind, statement.enabled),
        };
        let place = tag.map(|tag| tag.to_string()).unwrap_or_default();
        let note = |text| Note { line: statement.line, tag: place.clone(), text };
        match outcome {
            Outcome::Done => script.done += 1,
            Outcome::Rule(rule) => script.rules.push(format!("{place} {rule}")),
            Outcome::Note(text) => script.notes.push(note(text)),
            Outcome::Refused(text) => script.refused.push(note(text)),
        }
    }
    script
}
