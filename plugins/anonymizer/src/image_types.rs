//! [`ImageTypes`]: of which Type (PS3.3) an attribute is at its place in an image of a given SOP Class.
//!
//! A compound action of Table E.1-1 (`X/Z/D`) may remove only what is Type 3, must keep Type 2 at least empty, and Type 1
//! with a value. The facts are embedded (made by tests/oracles/make_iod_types.py) and hold the Type 1 and 2 rows for the
//! attributes whose action depends on them; conditional Types count as their unconditional ones, because an attribute
//! that is present may be present because its condition holds.

use crate::table::fields;
use dicom_core::Tag;
use std::collections::{HashMap, HashSet};

const CSV: &str = include_str!("../data/ps33_image_types.csv");

/// The Type of an attribute at one place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    /// Must be present with a value.
    One,
    /// Must be present, may be empty.
    Two,
    /// Optional, or not part of the IOD there.
    Three,
    /// The SOP Class is not in the facts: be careful in both directions.
    Unknown,
}

/// Types for the image SOP Classes.
#[derive(Debug)]
pub struct ImageTypes {
    /// SOP Class UID to the index of its IOD.
    classes: HashMap<String, usize>,
    /// (attribute, place) to its Types.
    types: HashMap<(Tag, Vec<Tag>), Vec<InIods>>,
}

/// A Type, and the IODs (by index) in which it holds.
#[derive(Debug)]
struct InIods {
    iods: HashSet<usize>,
    kind: Type,
}

impl ImageTypes {
    /// The embedded facts.
    ///
    /// # Errors
    /// A malformed file, with the line.
    pub fn embedded() -> Result<Self, String> {
        Self::parse(CSV)
    }

    fn parse(csv: &str) -> Result<Self, String> {
        let mut facts = Self { classes: HashMap::new(), types: HashMap::new() };
        let mut iods: HashMap<String, usize> = HashMap::new();
        for (index, line) in csv.lines().enumerate().skip(1) {
            let wrong = |what: &str| format!("Types of image attributes, line {}: {what}", index + 1);
            let row = fields(line);
            let [tag, path, kind, names] = row.as_slice() else { return Err(wrong("expected 4 fields")) };
            if kind == "sop" {
                let iod = iods.len();
                iods.insert(path.clone(), iod);
                facts.classes.extend(names.split(' ').map(|uid| (uid.to_owned(), iod)));
                continue;
            }
            let tag = parse_tag(tag).ok_or_else(|| wrong("malformed tag"))?;
            let place: Option<Vec<Tag>> = path.split('/').filter(|t| !t.is_empty()).map(parse_tag).collect();
            let kind = match kind.as_str() {
                "1" => Type::One,
                "2" => Type::Two,
                _ => return Err(wrong("expected Type 1 or 2")),
            };
            let all = || iods.values().copied().collect::<HashSet<usize>>();
            let set = |list: &str| list.split(' ').map(|n| iods.get(n).copied()).collect::<Option<HashSet<usize>>>();
            let iods_of_row = match names.strip_prefix('!') {
                _ if names == "*" => all(),
                Some(others) => {
                    let others = set(others).ok_or_else(|| wrong("unknown IOD"))?;
                    all().difference(&others).copied().collect()
                }
                None => set(names).ok_or_else(|| wrong("unknown IOD"))?,
            };
            let place = place.ok_or_else(|| wrong("malformed path"))?;
            facts.types.entry((tag, place)).or_default().push(InIods { iods: iods_of_row, kind });
        }
        Ok(facts)
    }

    /// The Type of `tag` inside the sequences `place` (outermost first) of an image of `sop_class`.
    pub fn of(&self, sop_class: &str, place: &[Tag], tag: Tag) -> Type {
        let Some(iod) = self.classes.get(sop_class) else { return Type::Unknown };
        self.types
            .get(&(tag, place.to_vec()))
            .and_then(|sets| sets.iter().find(|set| set.iods.contains(iod)))
            .map_or(Type::Three, |set| set.kind)
    }
}

fn parse_tag(text: &str) -> Option<Tag> {
    let number = u32::from_str_radix(text, 16).ok().filter(|_| text.len() == 8)?;
    Some(Tag((number >> 16) as u16, (number & 0xffff) as u16))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CT: &str = "1.2.840.10008.5.1.4.1.1.2";
    const ENHANCED_CT: &str = "1.2.840.10008.5.1.4.1.1.2.1";
    const PET: &str = "1.2.840.10008.5.1.4.1.1.128";

    #[test]
    fn types_follow_ps3_3() {
        let types = ImageTypes::embedded().expect("facts");
        let content_date = Tag(0x0008, 0x0023);
        assert_eq!(types.of(CT, &[], content_date), Type::Two);
        assert_eq!(types.of(ENHANCED_CT, &[], content_date), Type::One);
        assert_eq!(types.of(CT, &[], Tag(0x0008, 0x0021)), Type::Three, "Series Date");
        assert_eq!(types.of(PET, &[], Tag(0x0008, 0x0021)), Type::One, "Series Date of a PET image");
        assert_eq!(types.of(CT, &[], Tag(0x0010, 0x0020)), Type::Two, "Patient ID");
        assert_eq!(types.of(ENHANCED_CT, &[], Tag(0x0018, 0x1000)), Type::One, "Device Serial Number");
        let shared = [Tag(0x5200, 0x9229)];
        assert_eq!(types.of(ENHANCED_CT, &shared, Tag(0x0008, 0x1140)), Type::Two, "Referenced Image Sequence");
        assert_eq!(types.of(CT, &shared, Tag(0x0008, 0x1140)), Type::Three);
        assert_eq!(types.of("1.2.3", &[], content_date), Type::Unknown);
    }

    #[test]
    fn malformed_facts_are_refused() {
        let head = "tag,path,type,iods\n,a,sop,1.2\n";
        for (line, expected) in [
            ("00080020,,1", "line 3: expected 4 fields"),
            ("xx,,1,a", "line 3: malformed tag"),
            ("00080020,0008,1,a", "line 3: malformed path"),
            ("00080020,,3,a", "line 3: expected Type 1 or 2"),
            ("00080020,,1,b", "line 3: unknown IOD"),
            ("00080020,,1,!b", "line 3: unknown IOD"),
        ] {
            let error = ImageTypes::parse(&format!("{head}{line}")).expect_err(expected);
            assert!(error.contains(expected), "{error}");
        }
    }
}
