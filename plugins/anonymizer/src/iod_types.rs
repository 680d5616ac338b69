//! [`IodTypes`]: of which Type (PS3.3) an attribute is at its place in an object of a given SOP Class.
//!
//! A compound action of Table E.1-1 (`X/Z/D`) may remove only what is Type 3, must keep Type 2 at least empty, and Type 1
//! with a value. The facts are embedded (made by tests/oracles/make_iod_types.py) and hold the Type 1 and 2 rows for the
//! attributes whose action depends on them; conditional Types count as their unconditional ones, because an attribute
//! that is present may be present because its condition holds.

use crate::sheet::Sheet;
use crate::tag_map::TagMap;
use dicom_core::Tag;
use dicom_dictionary_std::tags;
use std::collections::HashMap;

const CSV: &str = include_str!("../data/ps33_iod_types.csv");

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

/// The IOD of an object, by number; `None` for a SOP Class that is not in the facts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Iod(Option<u8>);

/// Types for the composite IODs of patients.
#[derive(Debug)]
pub struct IodTypes {
    classes: HashMap<String, u8>,
    types: TagMap<Vec<InIods>>,
}

/// A Type at a place, and the IODs in which it holds.
#[derive(Debug)]
struct InIods {
    place: Vec<Tag>,
    iods: IodSet,
    kind: Type,
}

/// Numbers of IODs, one bit each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct IodSet([u64; 4]);

impl IodSet {
    fn insert(&mut self, iod: u8) {
        self.0[usize::from(iod >> 6)] |= 1 << (iod & 63);
    }

    fn contains(&self, iod: u8) -> bool {
        self.0[usize::from(iod >> 6)] & 1 << (iod & 63) != 0
    }

    fn without(self, other: Self) -> Self {
        Self(std::array::from_fn(|n| self.0[n] & !other.0[n]))
    }
}

impl IodTypes {
    /// The embedded facts.
    ///
    /// # Errors
    /// A malformed file, with the line.
    pub fn embedded() -> Result<Self, String> {
        Self::parse(CSV)
    }

    fn parse(csv: &str) -> Result<Self, String> {
        let mut facts = Self { classes: HashMap::new(), types: TagMap::default() };
        let (mut iods, mut all): (HashMap<String, u8>, IodSet) = (HashMap::new(), IodSet::default());
        for row in Sheet::read("Types of attributes", csv)?.rows() {
            let wrong = |what: &str| row.wrong(what);
            let [tag, path, kind, names] = row.fields().ok_or_else(|| wrong("expected 4 fields"))?;
            if kind == "sop" {
                let iod = u8::try_from(iods.len()).map_err(|_| wrong("more than 256 IODs"))?;
                iods.insert(path.to_owned(), iod);
                all.insert(iod);
                facts.classes.extend(names.split(' ').map(|uid| (uid.to_owned(), iod)));
                continue;
            }
            let tag = parse_tag(tag).ok_or_else(|| wrong("malformed tag"))?;
            let place: Option<Vec<Tag>> = path.split('/').filter(|t| !t.is_empty()).map(parse_tag).collect();
            let kind = match kind {
                "1" => Type::One,
                "2" => Type::Two,
                _ => return Err(wrong("expected Type 1 or 2")),
            };
            let set = |list: &str| {
                list.split(' ').try_fold(IodSet::default(), |mut set, name| {
                    set.insert(*iods.get(name).ok_or_else(|| wrong("unknown IOD"))?);
                    Ok::<_, String>(set)
                })
            };
            let iods_of_row = match names.strip_prefix('!') {
                _ if names == "*" => all,
                Some(others) => all.without(set(others)?),
                None => set(names)?,
            };
            let place = place.ok_or_else(|| wrong("malformed path"))?;
            facts.types.entry(tag).or_default().push(InIods { place, iods: iods_of_row, kind });
        }
        Ok(facts)
    }

    /// The IOD of a SOP Class.
    pub fn iod(&self, sop_class: &str) -> Iod {
        Iod(self.classes.get(sop_class).copied())
    }

    /// The Type of `tag` inside the sequences `place` (outermost first) of an object of `iod`.
    pub fn of(&self, iod: Iod, place: &[Tag], tag: Tag) -> Type {
        let Some(iod) = iod.0 else { return Type::Unknown };
        let holds = |set: &&InIods| set.iods.contains(iod) && same_place(&set.place, place);
        self.types.get(&tag).and_then(|sets| sets.iter().find(holds)).map_or(Type::Three, |set| set.kind)
    }
}

/// Whether two places are one. Content items nest without end: one level of them stands for all.
fn same_place(listed: &[Tag], found: &[Tag]) -> bool {
    let repeats = |n: &usize| {
        *n > 0 && found.get(*n) == Some(&tags::CONTENT_SEQUENCE) && found.get(n - 1) == Some(&tags::CONTENT_SEQUENCE)
    };
    (0..found.len()).filter(|n| !repeats(n)).filter_map(|n| found.get(n)).eq(listed)
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
        let facts = IodTypes::embedded().expect("facts");
        struct By<'a>(&'a IodTypes);
        impl By<'_> {
            fn of(&self, class: &str, place: &[Tag], tag: Tag) -> Type {
                self.0.of(self.0.iod(class), place, tag)
            }
        }
        let types = By(&facts);
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
        const PLAN: &str = "1.2.840.10008.5.1.4.1.1.481.5";
        assert_eq!(types.of(PLAN, &[], Tag(0x300A, 0x0006)), Type::Two, "RT Plan Date");
        assert_eq!(types.of(PLAN, &[], Tag(0x0008, 0x0021)), Type::Three, "Series Date");
        let nested = [tags::CONTENT_SEQUENCE; 3];
        assert!(same_place(&[tags::CONTENT_SEQUENCE], &nested) && same_place(&[], &[]));
        assert!(!same_place(&[], &nested) && !same_place(&[tags::CONTENT_SEQUENCE], &[]));
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
            let error = IodTypes::parse(&format!("{head}{line}")).expect_err(expected);
            assert!(error.contains(expected), "{error}");
        }
    }
}
