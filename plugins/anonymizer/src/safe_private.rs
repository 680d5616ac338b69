//! [`SafePrivate`]: the private attributes that the option Retain Safe Private keeps: those of PS3.15 Table E.3.10-1
//! whose values are numbers, codes or short labels (data/README.md says how sure that is). Its opaque bytes and sequences are
//! left out: what they hold cannot be checked.

use crate::sheet::Sheet;
use crate::value;
use dicom_core::{Tag, VR};
use dicom_object::InMemDicomObject;
use std::collections::HashMap;

const CSV: &str = include_str!("../data/safe_private.csv");

/// The list: VR by creator, group and the element's low byte.
#[derive(Debug)]
pub struct SafePrivate {
    by_creator: HashMap<String, Vec<(u16, u8, VR)>>,
}

impl SafePrivate {
    /// The embedded list.
    ///
    /// # Errors
    /// A malformed file, with the line.
    pub fn embedded() -> Result<Self, String> {
        let mut by_creator: HashMap<String, Vec<_>> = HashMap::new();
        for row in Sheet::read("safe private attributes", CSV)?.rows() {
            let wrong = || row.wrong("expected creator, group, element, VR, name");
            let [creator, group, element, vr, _] = row.fields().ok_or_else(wrong)?;
            let group = u16::from_str_radix(group, 16).ok().filter(|g| g % 2 == 1).ok_or_else(wrong)?;
            let element = u8::from_str_radix(element, 16).map_err(|_| wrong())?;
            let vr = vr.parse::<VR>().map_err(|_| wrong())?;
            by_creator.entry(creator.to_owned()).or_default().push((group, element, vr));
        }
        Ok(Self { by_creator })
    }

    /// The VR of an attribute that may stay, by its creator.
    pub fn vr(&self, creator: &str, tag: Tag) -> Option<VR> {
        let low = (tag.element() & 0xff) as u8;
        let listed = self.by_creator.get(creator)?;
        listed.iter().find(|(group, element, _)| *group == tag.group() && *element == low).map(|(.., vr)| *vr)
    }

    /// Every listed attribute: creator, group, low byte, VR.
    pub fn rows(&self) -> impl Iterator<Item = (&str, u16, u8, VR)> {
        self.by_creator
            .iter()
            .flat_map(|(creator, rows)| rows.iter().map(move |(g, e, vr)| (creator.as_str(), *g, *e, *vr)))
    }
}

/// The element that names the creator of a private attribute's block; `None` for what lies in no block.
pub fn creator_tag(tag: Tag) -> Option<Tag> {
    let block = tag.element() >> 8;
    (tag.group() % 2 == 1 && block >= 0x10).then_some(Tag(tag.group(), block))
}

/// The creator of a private attribute, as the data set names it.
pub fn creator(dataset: &InMemDicomObject, tag: Tag) -> Option<String> {
    let creator = dataset.get(creator_tag(tag)?)?;
    // Found under UN where a writer did not know it; more than one value names nobody.
    let mut names = value::texts(creator.value());
    (matches!(creator.vr(), VR::LO | VR::UN) && names.len() == 1).then(|| names.remove(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dummy;

    #[test]
    fn attributes_are_found_by_their_creator() {
        let list = SafePrivate::embedded().expect("list");
        assert_eq!(list.vr("SIEMENS MR HEADER", Tag(0x0019, 0x100C)), Some(VR::IS));
        assert_eq!(list.vr("SIEMENS MR HEADER", Tag(0x0019, 0xFF0C)), Some(VR::IS));
        assert_eq!(list.vr("SIEMENS MR HEADER", Tag(0x0021, 0x100C)), None);
        assert_eq!(list.vr("SIEMENS CT HEADER", Tag(0x0019, 0x100C)), None);
        assert_eq!(list.vr("", Tag(0x0019, 0x100C)), None);
        // Only kinds of values that can be checked.
        assert!(list.rows().all(|(.., vr)| !matches!(vr, VR::OB | VR::UN | VR::SQ | VR::LT | VR::UI)));
        assert_eq!(list.rows().count(), CSV.lines().count() - 1);
    }

    #[test]
    fn a_block_belongs_to_the_creator_that_reserves_it() {
        let dataset = InMemDicomObject::from_element_iter([dummy::text((0x0019, 0x0011), VR::LO, "GEMS_ACQU_01 ")]);
        assert_eq!(creator(&dataset, Tag(0x0019, 0x1123)).as_deref(), Some("GEMS_ACQU_01"));
        assert_eq!(creator(&dataset, Tag(0x0019, 0x1023)), None);
        assert_eq!(creator(&dataset, Tag(0x0019, 0x0011)), None);
        assert_eq!(creator_tag(Tag(0x0018, 0x1123)), None);
    }
}
