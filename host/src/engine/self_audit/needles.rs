//! [`Needles`]: finds every place where one of many byte strings stands, upper and lower case of ASCII apart, in one pass.
//!
//! An automaton for the millions of spellings of a large study's values takes gigabytes and minutes. Here a string is known by
//! its last bytes, the window: of as many as 8, 4, 2 or 1. Where the text has a window of some string, the strings that end so
//! are looked up by their lengths and a hash of all their bytes, then compared. So memory is the strings and a few words for
//! each, building is one sort, and strings that end alike do not slow the search down.

use std::collections::HashMap;
use std::ops::Range;

/// How long windows are; of a string, the longest that it has room for.
const WIDTHS: [usize; 4] = [8, 4, 2, 1];
/// The least number of bits of the filter, as a power of two.
const FILTER_BITS: u32 = 16;
/// The most.
const MOST_FILTER_BITS: u32 = 26;
/// An odd number whose bits look random: 2^64 divided by the golden ratio.
const MIX: u64 = 0x9e37_79b9_7f4a_7c15;
/// No string follows.
const NONE: u32 = u32::MAX;

/// Strings to be found.
#[derive(Default)]
pub struct Needles {
    /// All strings, one behind the other, as they were given.
    bytes: Vec<u8>,
    /// Where each of them ends there.
    ends: Vec<usize>,
    /// The next string with the same hash.
    next: Vec<u32>,
    /// Hash of a whole string to the first that has it.
    whole: HashMap<u64, u32>,
    levels: Vec<Level>,
}

/// The strings with windows of one width.
struct Level {
    /// What of the last eight bytes is the window.
    mask: u64,
    /// One bit for every value of a mixed window: whether any window has it.
    filter: Vec<u64>,
    shift: u32,
    /// Window to the lengths of the strings that end so, in `lengths`.
    windows: HashMap<u64, Range<u32>>,
    lengths: Vec<u32>,
}

/// A window of the last bytes before `end`, letters small.
fn window(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |all, b| all << 8 | u64::from(b.to_ascii_lowercase()))
}

/// A hash of a whole string, letters small.
fn hash(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(bytes.len() as u64, |all, b| (all.rotate_left(7) ^ u64::from(b.to_ascii_lowercase())).wrapping_mul(MIX))
}

impl Level {
    /// `ends`: windows with the lengths of strings. The filter has a bit for every value that [`Level::bit`] gives.
    fn new(width: usize, mut ends: Vec<(u64, u32)>) -> Level {
        ends.sort_unstable();
        ends.dedup();
        let bits = (usize::BITS - (ends.len() * 16).leading_zeros()).clamp(FILTER_BITS, MOST_FILTER_BITS);
        let mut level = Level {
            mask: u64::MAX >> (64 - 8 * width),
            filter: vec![0; 1 << (bits - 6)],
            shift: 64 - bits,
            windows: HashMap::new(),
            lengths: Vec::with_capacity(ends.len()),
        };
        for (window, length) in ends {
            let at = level.bit(window);
            level.filter[at >> 6] |= 1 << (at & 63);
            let from = level.lengths.len() as u32;
            level.lengths.push(length);
            level.windows.entry(window).or_insert(from..from).end = from + 1;
        }
        level
    }

    fn bit(&self, window: u64) -> usize {
        (window.wrapping_mul(MIX) >> self.shift) as usize
    }

    /// Whether a string may end so.
    fn may_end(&self, window: u64) -> bool {
        let bit = self.bit(window);
        self.filter[bit >> 6] & 1 << (bit & 63) != 0
    }

    /// The lengths of the strings that end so.
    fn ending(&self, window: u64) -> &[u32] {
        let range = match self.may_end(window) {
            true => self.windows.get(&window).cloned().unwrap_or_default(),
            false => return &[],
        };
        self.lengths.get(range.start as usize..range.end as usize).unwrap_or_default()
    }
}

impl Needles {
    /// For these strings; empty ones are never found.
    pub fn new(strings: impl IntoIterator<Item = impl AsRef<[u8]>>) -> Needles {
        let mut needles = Needles::default();
        for string in strings {
            needles.push(string.as_ref());
        }
        needles.index();
        needles
    }

    /// Adds a string; it is found after [`Needles::index`].
    pub fn push(&mut self, string: &[u8]) {
        self.bytes.extend_from_slice(string);
        self.ends.push(self.bytes.len());
    }

    /// How many strings there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Bytes of all strings.
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    /// A string as it was given.
    pub fn get(&self, index: usize) -> &[u8] {
        let from = index.checked_sub(1).and_then(|i| self.ends.get(i)).copied().unwrap_or(0);
        self.ends.get(index).and_then(|&to| self.bytes.get(from..to)).unwrap_or_default()
    }

    /// Prepares the search for everything that was added.
    pub fn index(&mut self) {
        let mut ends: [Vec<(u64, u32)>; WIDTHS.len()] = Default::default();
        self.next = vec![NONE; self.len()];
        self.whole = HashMap::with_capacity(self.len());
        for index in 0..self.len() {
            let string = self.get(index);
            let length = string.len();
            let Some((level, width)) = WIDTHS.iter().enumerate().find(|(_, width)| **width <= length) else { continue };
            ends[level].push((window(&string[length - width..]), length as u32));
            let hash = hash(string);
            let before = self.whole.insert(hash, index as u32);
            self.next[index] = before.unwrap_or(NONE);
        }
        let levels = WIDTHS.into_iter().zip(ends).filter(|(_, ends)| !ends.is_empty());
        self.levels = levels.map(|(width, ends)| Level::new(width, ends)).collect();
    }

    /// Every place where a string stands, with its index; places may overlap.
    pub fn find<'a>(&'a self, text: &'a [u8]) -> impl Iterator<Item = (usize, Range<usize>)> + 'a {
        let mut found: Vec<(usize, Range<usize>)> = Vec::new();
        let (mut at, mut last) = (0, 0u64);
        std::iter::from_fn(move || {
            if self.levels.is_empty() {
                return None;
            }
            while found.is_empty() {
                (at, last) = self.advance(text, at, last)?;
                for level in &self.levels {
                    for &length in level.ending(last & level.mask) {
                        self.ending_at(text, at, length as usize, &mut found);
                    }
                }
            }
            found.pop()
        })
    }

    /// The next place at which some string may end, with the bytes before it.
    fn advance(&self, text: &[u8], at: usize, mut last: u64) -> Option<(usize, u64)> {
        for (behind, byte) in text.get(at..)?.iter().enumerate() {
            last = last << 8 | u64::from(byte.to_ascii_lowercase());
            if self.levels.iter().any(|level| level.may_end(last & level.mask)) {
                return Some((at + behind + 1, last));
            }
        }
        None
    }

    /// The strings of a length that end at a place.
    fn ending_at(&self, text: &[u8], end: usize, length: usize, found: &mut Vec<(usize, Range<usize>)>) {
        let Some(there) = end.checked_sub(length).and_then(|start| text.get(start..end)) else { return };
        let mut next = self.whole.get(&hash(there)).copied().unwrap_or(NONE);
        while let Some(&after) = self.next.get(next as usize) {
            if self.get(next as usize).eq_ignore_ascii_case(there) {
                found.push((next as usize, end - length..end));
            }
            next = after;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What an automaton finds.
    fn by_automaton(strings: &[Vec<u8>], text: &[u8]) -> Vec<(usize, Range<usize>)> {
        let given: Vec<usize> = (0..strings.len()).filter(|&i| !strings[i].is_empty()).collect();
        let automaton = aho_corasick::AhoCorasick::builder()
            .ascii_case_insensitive(true)
            .build(given.iter().map(|&i| &strings[i]))
            .unwrap();
        automaton.find_overlapping_iter(text).map(|m| (given[m.pattern().as_usize()], m.range())).collect()
    }

    fn sorted(mut found: Vec<(usize, Range<usize>)>) -> Vec<(usize, Range<usize>)> {
        found.sort_by_key(|(i, range)| (*i, range.start));
        found
    }

    #[test]
    fn strings_that_overlap_or_are_equal_are_all_found() {
        let strings: Vec<Vec<u8>> = ["abcdefghij", "EFGHIJ", "efghij", "ghij", "", "j", "ij", "zz", "xabcdefghij"]
            .iter()
            .map(|s| s.as_bytes().to_vec())
            .collect();
        let text = b"..AbCdEfGhIj..j";
        let found = sorted(Needles::new(&strings).find(text).collect());
        assert_eq!(found, sorted(by_automaton(&strings, text)));
        assert_eq!(found.len(), 7);
        assert_eq!(Needles::default().find(text).count(), 0);
    }

    proptest! {
        #[test]
        fn nothing_is_missed_and_nothing_made_up(
            strings in proptest::collection::vec(proptest::collection::vec(prop_oneof![Just(b'a'), Just(b'B'), Just(0), Just(0xe4)], 0..20), 0..60),
            text in proptest::collection::vec(prop_oneof![Just(b'a'), Just(b'A'), Just(b'b'), Just(0), Just(0xe4)], 0..300),
        ) {
            let found = sorted(Needles::new(&strings).find(&text).collect());
            prop_assert_eq!(found, sorted(by_automaton(&strings, &text)));
        }
    }
}
