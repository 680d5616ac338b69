//! What a statement wants done with an attribute.

use std::collections::BTreeMap;

use dicom_core::Tag;

/// A wish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Action {
    /// `@remove()`
    Remove,
    /// `@empty()`, `@blank(n)`, nothing at all
    Empty,
    /// `@keep()`, `@skip()`
    Keep,
    /// `@require()`
    Require,
    /// `@hashuid(...)`
    MapUid,
    /// `@hash(...)`, `@hashname(...)`, `@hashptid(...)` and other one-way texts made of a value
    Hash,
    /// `@lookup(...)`: a list of the site
    Lookup,
    /// `@incrementdate(...)`
    Shift,
    /// `@modifydate(...)`: parts of a date
    Coarsen,
    /// `@date()`, `@time()`: when the script runs
    Now,
    /// A constant.
    Text(String),
    /// What will not be done, and why.
    Refused(String),
}

/// Functions whose name alone says what is wanted.
const NAMES: [(&str, Action); 16] = [
    ("remove", Action::Remove),
    ("empty", Action::Empty),
    ("blank", Action::Empty),
    ("keep", Action::Keep),
    ("skip", Action::Keep),
    ("require", Action::Require),
    ("hashuid", Action::MapUid),
    ("hash", Action::Hash),
    ("hashname", Action::Hash),
    ("hashptid", Action::Hash),
    ("hashdate", Action::Hash),
    ("lookup", Action::Lookup),
    ("incrementdate", Action::Shift),
    ("modifydate", Action::Coarsen),
    ("date", Action::Now),
    ("time", Action::Now),
];

impl Action {
    /// Reads the text of a statement about `tag`.
    pub(super) fn read(text: &str, tag: Tag, parameters: &BTreeMap<&str, &str>) -> Self {
        let text = text.trim();
        if text.is_empty() {
            return Self::Empty;
        }
        if !text.contains('@') {
            return Self::Text(text.to_owned());
        }
        let Some(call) = Call::read(text) else {
            return Self::Refused("a value put together of several parts is not supported".to_owned());
        };
        // Says that the rest holds also for attributes that are absent, which changes nothing here.
        if call.name == "always" {
            return match call.rest {
                "" => Self::Keep,
                rest => Self::read(rest, tag, parameters),
            };
        }
        if call.name == "if" {
            return match call.unconditional(tag) {
                Some(branch) => Self::read(branch, tag, parameters),
                None => Self::Refused("conditions (@if) are not supported".to_owned()),
            };
        }
        if !call.rest.is_empty() {
            return Self::Refused("a value put together of several parts is not supported".to_owned());
        }
        match call.name.as_str() {
            "param" => {
                let name = call.arguments.trim().trim_start_matches('@');
                match parameters.get(name) {
                    None => Self::Refused("the parameter that it names is not in the script".to_owned()),
                    Some(value) if value.contains('@') => {
                        Self::Refused("the parameter that it names is not a plain text".to_owned())
                    }
                    Some(value) if value.trim().is_empty() => Self::Empty,
                    Some(value) => Self::Text(value.trim().to_owned()),
                }
            }
            "require" if !call.arguments.trim().is_empty() => Self::Refused(
                "attributes are not filled with values from elsewhere (@require with arguments)".to_owned(),
            ),
            "quarantine" => Self::Refused("a quarantine of every object is not what a script can mean".to_owned()),
            name => {
                NAMES.iter().find(|(known, _)| *known == name).map(|(_, action)| action.clone()).unwrap_or_else(|| {
                    Self::Refused("this function, or this way of writing it, is not supported".to_owned())
                })
            }
        }
    }
}

/// `@name(arguments)rest`; the arguments and the rest may be absent.
struct Call<'a> {
    name: String,
    arguments: &'a str,
    rest: &'a str,
}

impl<'a> Call<'a> {
    fn read(text: &'a str) -> Option<Self> {
        let text = text.strip_prefix('@')?;
        let end = text.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(text.len());
        let (name, rest) = text.split_at(end);
        let (arguments, rest) = match enclosed(rest, '(', ')') {
            Some(parts) => parts,
            None if rest.starts_with('(') => return None,
            None => ("", rest),
        };
        Some(Self { name: name.to_ascii_lowercase(), arguments, rest: rest.trim() })
    }

    /// The branch of a condition that asks only whether the attribute itself is there, and does nothing where it is not:
    /// statements hold for attributes that are there anyway.
    fn unconditional(&self, tag: Tag) -> Option<&'a str> {
        let (of, condition) = self.arguments.rsplit_once(',')?;
        let own = [format!("[{:04x},{:04x}]", tag.group(), tag.element()), "this".to_owned()];
        let (yes, rest) = enclosed(self.rest, '{', '}')?;
        let (no, rest) = enclosed(rest.trim_start(), '{', '}').unwrap_or(("", rest));
        let trivial = own.contains(&of.trim().to_ascii_lowercase()) && condition.trim() == "exists";
        (trivial && no.trim().is_empty() && rest.trim().is_empty()).then_some(yes)
    }
}

/// What lies in the brackets with which a text begins, and what follows them.
fn enclosed(text: &str, open: char, close: char) -> Option<(&str, &str)> {
    if !text.starts_with(open) {
        return None;
    }
    let mut depth = 0usize;
    for (at, c) in text.char_indices() {
        if c == open {
            depth += 1;
        } else if c == close {
            depth -= 1;
            if depth == 0 {
                return Some((text.get(1..at)?, text.get(at + 1..)?));
            }
        }
    }
    None
}
