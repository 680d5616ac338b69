//! What a worker hands over to the supervisor of a case's values, and how it is packed for the pipe between them.

use std::collections::BTreeMap;

use super::withheld::{Value, Withheld};
use crate::series::identifying::Class;

/// Values of a case that go to the supervisor, at most, unless more than these tell who somebody is. The worker searched what the
/// case left for all of them.
pub(super) const HANDED_OVER: usize = 400;

const CLASSES: [Option<Class>; 7] = [
    None,
    Some(Class::Name),
    Some(Class::Identifier),
    Some(Class::Uid),
    Some(Class::Moment),
    Some(Class::Text),
    Some(Class::Word),
];

impl Withheld {
    /// What the supervisor knows of a case: everything that tells who somebody is, and of the rest what identifies the patient
    /// before what identifies one file.
    pub fn bounded(mut self) -> Withheld {
        let mut met: BTreeMap<(u32, bool), usize> = BTreeMap::new();
        self.values.sort_by_cached_key(|v| {
            let nth = met.entry((v.tag, v.class.is_none())).or_default();
            *nth += 1;
            (!v.tells_who(), *nth, !v.class.is_some_and(Class::direct))
        });
        let who = self.values.iter().take_while(|v| v.tells_who()).count();
        self.values.truncate(who.max(HANDED_OVER));
        self
    }

    /// For the pipe to the supervisor, and for nothing else.
    pub fn packed(&self) -> String {
        let mut bytes = Vec::new();
        for value in &self.values {
            let class = CLASSES.iter().position(|c| *c == value.class).unwrap_or_default();
            bytes.push(class as u8);
            bytes.extend(value.tag.to_le_bytes());
            for part in [Some(value.raw.as_slice()), value.text.as_deref().map(str::as_bytes)] {
                let part = part.unwrap_or_default();
                bytes.extend((part.len() as u32).to_le_bytes());
                bytes.extend(part);
            }
        }
        hex::encode(bytes)
    }

    /// What [`Withheld::packed`] gave; `None` where it is none.
    pub fn unpacked(text: &str) -> Option<Withheld> {
        let bytes = hex::decode(text).ok()?;
        let mut rest = bytes.as_slice();
        let mut withheld = Withheld::default();
        while !rest.is_empty() {
            let class = *CLASSES.get(usize::from(*take(&mut rest, 1)?.first()?))?;
            let tag = u32::from_le_bytes(take(&mut rest, 4)?.try_into().ok()?);
            let mut part = || {
                let length = u32::from_le_bytes(take(&mut rest, 4)?.try_into().ok()?);
                Some(take(&mut rest, length as usize)?.to_vec())
            };
            let (raw, text) = (part()?, String::from_utf8(part()?).ok()?);
            withheld.values.push(Value::new(raw, Some(text).filter(|t| !t.is_empty()), class, tag));
        }
        Some(withheld)
    }
}

fn take<'b>(rest: &mut &'b [u8], count: usize) -> Option<&'b [u8]> {
    let (head, tail) = rest.split_at_checked(count)?;
    *rest = tail;
    Some(head)
}
