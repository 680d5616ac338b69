//! [`TagMap`]: a map by attribute tag, with a hash that costs next to nothing. It is asked for every element.

use dicom_core::Tag;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// A map by attribute tag.
pub type TagMap<V> = HashMap<Tag, V, FastHash>;

/// The hash of [`TagMap`], for keys that begin with a tag.
pub type FastHash = BuildHasherDefault<TagHasher>;

/// Multiplies group, element and what follows into a 64-bit word. Keys come from the standard's own tables, so nobody
/// can choose them to collide.
#[derive(Debug, Clone, Copy, Default)]
pub struct TagHasher(u64);

impl TagHasher {
    fn mix(&mut self, number: u64) {
        self.0 = (self.0.rotate_left(16) ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

impl Hasher for TagHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.mix(u64::from(*byte)));
    }

    fn write_u8(&mut self, number: u8) {
        self.mix(u64::from(number));
    }

    fn write_u16(&mut self, number: u16) {
        self.mix(u64::from(number));
    }

    fn write_isize(&mut self, number: isize) {
        self.mix(number as u64);
    }
}
