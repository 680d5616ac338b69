//! [`Profile`]: what happens to an attribute, from the table, the Types and the allow-list of unlisted attributes.

use crate::image_types::{ImageTypes, Type};
use crate::table::{Actions, Table};
use crate::unlisted::{self, Unlisted};
use dicom_core::{Tag, VR};
use std::sync::OnceLock;

/// A coded de-identification method (DCM codes, PS3.16 CID 7050).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MethodCode {
    /// Code value.
    pub value: &'static str,
    /// Code meaning.
    pub meaning: &'static str,
}

/// The decision for one attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// The value stays as it is.
    Keep,
    /// The attribute goes.
    Remove(Reason),
    /// The value becomes zero length.
    Empty,
    /// The value becomes a dummy.
    Dummy,
    /// Every UID in the value is mapped.
    MapUid,
    /// A sequence whose items are cleaned in turn.
    Recurse,
    /// A sequence of references to instances: nothing but the references stays, with mapped UIDs.
    References,
}

/// Why an attribute was removed; the keys of the audit's counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// Table E.1-1 says X (or the Type permits it).
    Listed,
    /// Odd group.
    Private,
    /// Not in the DICOM dictionary, or not an attribute of an image data set (groups 0000, 0002, 0004).
    Unknown,
    /// Its VR is not the dictionary's, or its content is not possible for its VR.
    WrongVr,
    /// (gggg,0000).
    GroupLength,
    /// Curves 50xx, overlays 60xx, pixel data.
    Graphics,
    /// Unlisted, but of a kind that can hold anything: prose, names, dates, addresses, opaque bytes.
    Unbounded,
    /// Not permitted without attributes that are missing or were removed.
    Stray,
    /// A sequence in which cleaning left nothing.
    Hollow,
}

/// A de-identification profile.
#[derive(Debug)]
pub struct Profile {
    table: Table,
    types: ImageTypes,
    /// The profile's name in parameters and audit.
    pub name: &'static str,
    /// The codes written to DeidentificationMethodCodeSequence.
    pub codes: &'static [MethodCode],
}

/// The Basic Application Level Confidentiality Profile.
const BASIC: [MethodCode; 1] = [MethodCode { value: "113100", meaning: "Basic Application Confidentiality Profile" }];

impl Profile {
    /// The basic profile without options.
    ///
    /// # Errors
    /// The embedded facts are malformed (a fault of the build, caught by its tests).
    pub fn basic() -> Result<&'static Self, String> {
        static BASIC_PROFILE: OnceLock<Result<Profile, String>> = OnceLock::new();
        BASIC_PROFILE
            .get_or_init(|| {
                let (table, types) = (Table::embedded("basic_profile")?, ImageTypes::embedded()?);
                Ok(Profile { table, types, name: "basic", codes: &BASIC })
            })
            .as_ref()
            .map_err(Clone::clone)
    }

    /// The table behind it.
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// The text appended to DeidentificationMethod (LO: at most 64 characters).
    pub fn method(&self) -> String {
        format!("Gantry {}: PS3.15 {} {} profile", env!("CARGO_PKG_VERSION"), self.table.edition(), self.name)
    }

    /// The Type of `tag` inside the sequences `place` of an image of `sop_class`.
    pub fn type_of(&self, sop_class: &str, place: &[Tag], tag: Tag) -> Type {
        self.types.of(sop_class, place, tag)
    }

    /// Decides about `tag` with value representation `vr`, inside the sequences `place` of an image of `sop_class`.
    pub fn decide(&self, sop_class: &str, place: &[Tag], tag: Tag, vr: VR) -> Decision {
        let (group, element) = (tag.group(), tag.element());
        if group % 2 == 1 {
            return Decision::Remove(Reason::Private);
        }
        // Element 0000 of a group is its length, whatever else a table may say. Groups 0000 and 0002 belong to messages
        // and to the file's head, which the writer makes anew; 0004 belongs to a DICOMDIR.
        if element == 0 {
            return Decision::Remove(Reason::GroupLength);
        }
        if matches!(group, 0x0000 | 0x0002) {
            return Decision::Remove(Reason::Unknown);
        }
        if matches!(group, 0x5000..=0x50ff | 0x6000..=0x60ff | 0x7f00..=0x7fff) {
            return Decision::Remove(Reason::Graphics);
        }
        if let Some(actions) = self.table.actions(tag) {
            return resolve(actions, self.types.of(sop_class, place, tag), vr);
        }
        match unlisted::judge(tag, vr) {
            Unlisted::Keep => Decision::Keep,
            Unlisted::Recurse => Decision::Recurse,
            Unlisted::MapUid => Decision::MapUid,
            Unlisted::Remove(reason) => Decision::Remove(reason),
        }
    }
}

/// Chooses among the permitted actions by Type: the least that the IOD allows to remain.
fn resolve(actions: Actions, kind: Type, vr: VR) -> Decision {
    if actions.map_uid {
        // `U*` stands for a sequence whose references are kept and mapped.
        return if actions.is_single() && vr != VR::SQ { Decision::MapUid } else { Decision::References };
    }
    let remove = actions.remove.then_some(Decision::Remove(Reason::Listed));
    let empty = actions.empty.then_some(Decision::Empty);
    let dummy = actions.dummy.then_some(Decision::Dummy);
    let chosen = match kind {
        Type::Three => remove.or(empty).or(dummy),
        Type::Two => empty.or(dummy).or(remove),
        // Z permits a dummy too, and Type 1 needs one. Unknown SOP Classes are treated as if it were needed wherever
        // the table offers it.
        Type::One => dummy.or(actions.empty.then_some(Decision::Dummy)).or(remove),
        Type::Unknown => dummy.or(empty).or(remove),
    };
    chosen.unwrap_or(Decision::Remove(Reason::Listed))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CT: &str = "1.2.840.10008.5.1.4.1.1.2";
    const PET: &str = "1.2.840.10008.5.1.4.1.1.128";

    fn decide(class: &str, tag: (u16, u16), vr: VR) -> Decision {
        Profile::basic().expect("profile").decide(class, &[], Tag::from(tag), vr)
    }

    #[test]
    fn the_type_chooses_among_compound_actions() {
        // Series Date is X/D: Type 3 in CT, Type 1 in PET. Content Date is Z/D. Acquisition Date X/Z.
        assert_eq!(decide(CT, (0x0008, 0x0021), VR::DA), Decision::Remove(Reason::Listed));
        assert_eq!(decide(PET, (0x0008, 0x0021), VR::DA), Decision::Dummy);
        assert_eq!(decide("1.2.3", (0x0008, 0x0021), VR::DA), Decision::Dummy);
        assert_eq!(decide(CT, (0x0008, 0x0023), VR::DA), Decision::Empty);
        assert_eq!(decide(CT, (0x0008, 0x0022), VR::DA), Decision::Remove(Reason::Listed));
        assert_eq!(decide(PET, (0x0008, 0x0022), VR::DA), Decision::Empty);
        assert_eq!(decide(CT, (0x0008, 0x2112), VR::SQ), Decision::References);
        assert_eq!(decide(CT, (0x0020, 0x0052), VR::UI), Decision::MapUid);
    }

    #[test]
    fn groups_that_never_pass() {
        assert_eq!(decide(CT, (0x0029, 0x1010), VR::OB), Decision::Remove(Reason::Private));
        assert_eq!(decide(CT, (0x0031, 0x0001), VR::LO), Decision::Remove(Reason::Private));
        assert_eq!(decide(CT, (0x0008, 0x0000), VR::UL), Decision::Remove(Reason::GroupLength));
        assert_eq!(decide(CT, (0x0002, 0x0016), VR::AE), Decision::Remove(Reason::Unknown));
        assert_eq!(decide(CT, (0x6002, 0x1500), VR::LO), Decision::Remove(Reason::Graphics));
        assert_eq!(decide(CT, (0x50fe, 0x2500), VR::LO), Decision::Remove(Reason::Graphics));
        assert_eq!(decide(CT, (0x7fe0, 0x0010), VR::OW), Decision::Remove(Reason::Graphics));
        assert_eq!(decide(CT, (0xfffc, 0xfffc), VR::OB), Decision::Remove(Reason::Listed));
        assert_eq!(decide(CT, (0xfffa, 0xfffa), VR::SQ), Decision::Remove(Reason::Listed));
    }

    #[test]
    fn the_method_fits_a_long_string() {
        let method = Profile::basic().expect("profile").method();
        assert!(method.len() <= 64 && method.contains("2026d"), "{method}");
    }
}
