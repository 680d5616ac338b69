//! [`walk`]: follows the layout of an Explicit VR Little Endian data set without reading values, so that what would
//! bring the parser down (sequences nested without end) is refused before it starts.

use crate::refusal::Refusal;
use crate::value;
use dicom_core::{Tag, VR};

/// Sequences deeper than this are refused.
pub(crate) const MAX_DEPTH: usize = 32;

const SEQUENCE_DELIMITER: Tag = Tag(0xfffe, 0xe0dd);
const UNDEFINED: u32 = u32::MAX;

/// VRs whose length takes four bytes.
const LONG: [&[u8; 2]; 13] =
    [b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"];

/// A sequence that is open.
struct Level {
    /// Where it ends; `None` for one that a delimiter ends.
    end: Option<usize>,
    /// Whether its items are in Implicit VR, as in a sequence that came as UN.
    implicit: bool,
}

/// Shows `visit` each element outside sequences of Implicit VR: its offset, tag and VR as written.
///
/// # Errors
/// `too-deep`; `bad-headers` where the layout cannot be followed.
pub(crate) fn walk(bytes: &[u8], visit: impl FnMut(usize, Tag, [u8; 2])) -> Result<(), Refusal> {
    follow(bytes, false, visit)
}

/// Follows a data set in Implicit VR Little Endian.
///
/// # Errors
/// As [`walk`].
pub(crate) fn walk_implicit(bytes: &[u8]) -> Result<(), Refusal> {
    follow(bytes, true, |_, _, _| ())
}

fn follow(bytes: &[u8], all_implicit: bool, mut visit: impl FnMut(usize, Tag, [u8; 2])) -> Result<(), Refusal> {
    let broken = || Refusal::new("bad-headers", "the headers are not a readable Explicit VR Little Endian data set");
    let word = |at: usize| {
        let four: Option<[u8; 4]> = bytes.get(at..at + 4).and_then(|b| b.try_into().ok());
        four.map(u32::from_le_bytes).ok_or_else(broken)
    };
    let mut levels: Vec<Level> = Vec::new();
    let mut at = 0;
    loop {
        while levels.last().is_some_and(|level| level.end.is_some_and(|end| end <= at)) {
            levels.pop();
        }
        if levels.len() > MAX_DEPTH {
            return Err(Refusal::new("too-deep", format!("sequences nest deeper than {MAX_DEPTH} levels")));
        }
        if at >= bytes.len() {
            return Ok(());
        }
        let tag = word(at)?;
        let tag = Tag((tag & 0xffff) as u16, (tag >> 16) as u16);
        let second = word(at + 4)?;
        if tag.group() == 0xfffe {
            if tag == SEQUENCE_DELIMITER && levels.last().is_some_and(|level| level.end.is_none()) {
                levels.pop();
            }
            at += 8;
            continue;
        }
        let implicit = all_implicit || levels.last().is_some_and(|level| level.implicit);
        let (length, nests, opens_implicit, start) = if implicit {
            let nests = second == UNDEFINED || value::dictionary_vr(tag) == Some(VR::SQ);
            (second, nests, true, at + 8)
        } else {
            let [v0, v1, l0, l1] = second.to_le_bytes();
            visit(at, tag, [v0, v1]);
            if LONG.contains(&&[v0, v1]) {
                let length = word(at + 8)?;
                let is_sequence = [v0, v1] == *b"SQ";
                (length, is_sequence || length == UNDEFINED, !is_sequence, at + 12)
            } else {
                (u32::from(u16::from_le_bytes([l0, l1])), false, false, at + 8)
            }
        };
        let end = usize::try_from(length).ok().and_then(|length| start.checked_add(length)).ok_or_else(broken)?;
        if length != UNDEFINED && end > bytes.len() {
            return Err(broken());
        }
        at = start;
        if nests {
            levels.push(Level { end: (length != UNDEFINED).then_some(end), implicit: opens_implicit });
        } else {
            at = end;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn element(tag: (u16, u16), vr: &[u8; 2], value: &[u8]) -> Vec<u8> {
        let mut bytes = [tag.0.to_le_bytes(), tag.1.to_le_bytes()].concat();
        bytes.extend(vr);
        if LONG.contains(&vr) {
            bytes.extend([0, 0]);
            bytes.extend((value.len() as u32).to_le_bytes());
        } else {
            bytes.extend((value.len() as u16).to_le_bytes());
        }
        bytes.extend(value);
        bytes
    }

    fn item(bytes: &[u8]) -> Vec<u8> {
        let mut all = vec![0xfe, 0xff, 0x00, 0xe0];
        all.extend((bytes.len() as u32).to_le_bytes());
        all.extend(bytes);
        all
    }

    #[test]
    fn elements_at_every_level_are_seen_in_order() {
        let inner = element((0x0008, 0x0100), b"SH", b"1 ");
        let mut bytes = element((0x0018, 0x9321), b"SQ", &item(&inner));
        bytes.extend(element((0x0020, 0x0010), b"SH", b"2 "));
        let mut seen = Vec::new();
        walk(&bytes, |_, tag, vr| seen.push((tag, vr))).expect("followed");
        let expected = [((0x0018, 0x9321), *b"SQ"), ((0x0008, 0x0100), *b"SH"), ((0x0020, 0x0010), *b"SH")];
        assert_eq!(seen, expected.map(|(tag, vr)| (Tag::from(tag), vr)));
        assert_eq!(walk(&bytes[..bytes.len() - 1], |_, _, _| ()).expect_err("cut").code, "bad-headers");
    }

    #[test]
    fn deep_sequences_are_refused_however_they_are_written() {
        let delimiter = [0xfe, 0xff, 0xdd, 0xe0, 0, 0, 0, 0];
        let code = |bytes: &[u8]| walk(bytes, |_, _, _| ()).err().map(|refusal| refusal.code);
        for (levels, expected) in [(1, None), (MAX_DEPTH, None), (MAX_DEPTH + 1, Some("too-deep"))] {
            let (mut defined, mut undefined, mut implicit) = (Vec::new(), Vec::new(), Vec::new());
            for level in 1..=levels {
                defined = element((0x0018, 0x9321), b"SQ", &item(&defined));
                let open = b"\x18\x00\x21\x93SQ\0\0\xff\xff\xff\xff";
                undefined = [&open[..], &item(&undefined), &delimiter].concat();
                // What is inside a sequence that came as UN has no VRs.
                let open: &[u8] = match level == levels {
                    true => b"\x18\x00\x21\x93UN\0\0\xff\xff\xff\xff",
                    false => b"\x18\x00\x21\x93\xff\xff\xff\xff",
                };
                implicit = [open, &item(&implicit), &delimiter].concat();
            }
            for bytes in [&defined, &undefined, &implicit] {
                assert_eq!(code(bytes), expected, "{levels}");
            }
            let mut bytes = Vec::new();
            for _ in 0..levels {
                let inside = item(&bytes);
                bytes = [&b"\x18\x00\x21\x93"[..], &(inside.len() as u32).to_le_bytes(), &inside].concat();
            }
            assert_eq!(walk_implicit(&bytes).err().map(|refusal| refusal.code), expected, "{levels}");
        }
    }
}
