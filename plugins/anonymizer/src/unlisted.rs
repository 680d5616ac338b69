//! Attributes on which Table E.1-1 is silent: the allow-list that decides what of them may stay.
//!
//! The standard retains them. Gantry retains what the DICOM dictionary knows, under the dictionary's VR, if its kind is
//! bounded: numbers, codes, short labels, measured data, sequences (cleaned inside). What can hold anything is retained
//! only where it is named here: prose (ST, LT, UT, UC), names of persons, dates, addresses, opaque bytes.

use crate::profile::Reason;
use dicom_core::dictionary::{DataDictionary, DataDictionaryEntry, VirtualVr};
use dicom_core::{Tag, VR};
use dicom_dictionary_std::StandardDataDictionary;

/// What happens to an attribute that the table does not list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unlisted {
    /// Stays as it is.
    Keep,
    /// A sequence: its items are cleaned.
    Recurse,
    /// UIDs of instances or organisations: mapped.
    MapUid,
    /// Short, typed by people, and required of some objects, though empty is enough.
    Empty,
    /// The same, where a value is required.
    Dummy,
    /// Goes.
    Remove(Reason),
}

/// UIDs that name classes, encodings and coding schemes, never an instance, a person or a place.
const CLASS_UIDS: [Tag; 15] = [
    Tag(0x0008, 0x0016), // SOP Class UID
    Tag(0x0008, 0x001A), // Related General SOP Class UID
    Tag(0x0008, 0x001B), // Original Specialized SOP Class UID
    Tag(0x0008, 0x0062), // SOP Classes in Study
    Tag(0x0008, 0x010C), // Coding Scheme UID
    Tag(0x0008, 0x010D), // Context Group Extension Creator UID
    Tag(0x0008, 0x0117), // Context UID
    Tag(0x0008, 0x0118), // Mapping Resource UID
    Tag(0x0008, 0x040E), // Stored Instance Transfer Syntax UID
    Tag(0x0008, 0x1150), // Referenced SOP Class UID
    Tag(0x0008, 0x115A), // SOP Classes Supported
    Tag(0x0008, 0x3002), // Available Transfer Syntax UID
    Tag(0x0008, 0x9123), // Creator-Version UID
    Tag(0x3010, 0x0052), // Pertinent SOP Classes in Study
    Tag(0x3010, 0x0053), // Pertinent SOP Classes in Series
];

/// Prose, locators and opaque bytes that are technical by definition.
const TECHNICAL: [Tag; 15] = [
    Tag(0x0008, 0x010E), // Coding Scheme URL
    Tag(0x0008, 0x0114), // Coding Scheme External ID
    Tag(0x0008, 0x0115), // Coding Scheme Name
    Tag(0x0008, 0x0116), // Coding Scheme Responsible Organization
    Tag(0x0008, 0x0119), // Long Code Value
    Tag(0x0008, 0x0120), // URN Code Value
    Tag(0x0010, 0x0212), // Strain Description
    Tag(0x0016, 0x0017), // Spectral Sensitivity
    Tag(0x0018, 0x7008), // Detector Mode
    Tag(0x0018, 0x7040), // Grid Absorbing Material
    Tag(0x0018, 0x7041), // Grid Spacing Material
    Tag(0x0018, 0x9080), // Metabolite Map Description
    Tag(0x0018, 0x9941), // Image Filter Description
    Tag(0x0028, 0x2000), // ICC Profile
    Tag(0x0066, 0x0032), // Algorithm Parameters
];

/// Short but identifying, or meaningless once private elements and signatures are gone; none is required of an image.
const NEVER: [Tag; 43] = [
    Tag(0x0014, 0x0100), // Component Welder IDs
    Tag(0x0018, 0x1003), // Device ID
    Tag(0x0018, 0x9916), // Instruction Text
    Tag(0x0028, 0x7007), // status comment
    Tag(0x0028, 0x702A), // test comment
    Tag(0x0044, 0x0011), // Substance Administration Notes
    Tag(0x0070, 0x0207), // Graphic Group Label
    Tag(0x2110, 0x0030), // Printer Name
    Tag(0x0008, 0x0051), // Issuer of Accession Number Sequence
    Tag(0x0008, 0x0300), // Private Data Element Characteristics Sequence
    Tag(0x0008, 0x0310), // Private Data Element Definition Sequence
    Tag(0x0008, 0x0041), // Data Set Subtype (retired)
    Tag(0x0010, 0x0024), // Issuer of Patient ID Qualifiers Sequence
    Tag(0x0010, 0x0033), // Patient's Birth Date in Alternative Calendar
    Tag(0x0010, 0x0034), // Patient's Death Date in Alternative Calendar
    Tag(0x0010, 0x0214), // Strain Stock Number
    Tag(0x0010, 0x2294), // Breed Registration Sequence
    Tag(0x0010, 0x2298), // Responsible Person Role: not without the person, who goes
    Tag(0x0010, 0x2295), // Breed Registration Number
    Tag(0x0018, 0x1803), // NTP Source Address
    Tag(0x0038, 0x0016), // Route of Admissions
    Tag(0x0038, 0x0102), // Resource Description
    Tag(0x0040, 0x0026), // Order Placer Identifier Sequence
    Tag(0x0040, 0x0027), // Order Filler Identifier Sequence
    Tag(0x0040, 0x0036), // Assigning Facility Sequence
    Tag(0x0040, 0x0039), // Assigning Jurisdiction Code Sequence
    Tag(0x0040, 0x003A), // Assigning Agency or Department Code Sequence
    Tag(0x0040, 0x0255), // Performed Procedure Type Description
    Tag(0x0040, 0x1006), // Placer Order Number / Procedure (retired)
    Tag(0x0040, 0x1007), // Filler Order Number / Procedure (retired)
    Tag(0x0040, 0x1060), // Requested Procedure Description (Trial)
    Tag(0x0040, 0x2006), // Placer Order Number (retired)
    Tag(0x0040, 0x2007), // Filler Order Number (retired)
    Tag(0x0070, 0x0068), // Graphic Layer Description
    Tag(0x0074, 0x100C), // Contact Display Name
    Tag(0x0088, 0x0130), // Storage Media File-set ID
    Tag(0x2100, 0x0160), // Owner ID
    Tag(0x3004, 0x0006), // Dose Comment
    Tag(0x3006, 0x00C8), // Frame of Reference Transformation Comment
    Tag(0x0400, 0x0500), // Encrypted Attributes Sequence: the original identity, for whoever has its key
    Tag(0x0400, 0x0401), // Digital Signature Purpose Code Sequence
    Tag(0x4FFE, 0x0001), // MAC Parameters Sequence
    Tag(0x5400, 0x0100), // Waveform Sequence: may be a voice
];

/// Decides about an attribute that Table E.1-1 does not list.
pub fn judge(tag: Tag, vr: VR) -> Unlisted {
    let Some(entry) = StandardDataDictionary.by_tag(tag) else { return Unlisted::Remove(Reason::Unknown) };
    if tag.group() == 0x0004 {
        return Unlisted::Remove(Reason::Unknown);
    }
    // Source Image IDs (0020,31xx), retired.
    if NEVER.contains(&tag) || (tag.group() == 0x0020 && (0x3100..=0x31ff).contains(&tag.element())) {
        return Unlisted::Remove(Reason::Unbounded);
    }
    if !agrees(entry.vr(), vr) {
        return Unlisted::Remove(Reason::WrongVr);
    }
    match (tag.group(), tag.element()) {
        // Content Description: Type 2 in presentation states and segmentations
        (0x0070, 0x0081) => return Unlisted::Empty,
        // Radiation Machine Name: Type 2 in RT images
        (0x3002, 0x0020) => return Unlisted::Empty,
        // Tracking ID: Type 1C beside a Tracking UID
        (0x0062, 0x0020) => return Unlisted::Dummy,
        _ => {}
    }
    // A value may not be more than its attribute: prose is prose under whatever VR it came.
    if let VirtualVr::Exact(listed) = entry.vr()
        && is_unbounded(listed)
        && !TECHNICAL.contains(&tag)
    {
        return Unlisted::Remove(Reason::Unbounded);
    }
    match vr {
        VR::SQ => Unlisted::Recurse,
        VR::UI if CLASS_UIDS.contains(&tag) => Unlisted::Keep,
        VR::UI => Unlisted::MapUid,
        _ if is_unbounded(vr) && !TECHNICAL.contains(&tag) => Unlisted::Remove(Reason::Unbounded),
        _ => Unlisted::Keep,
    }
}

/// Value representations that can hold anything, or say when and who.
fn is_unbounded(vr: VR) -> bool {
    matches!(vr, VR::AE | VR::AS | VR::DA | VR::DT | VR::PN | VR::TM | VR::UN)
        || matches!(vr, VR::LT | VR::OB | VR::ST | VR::UC | VR::UR | VR::UT)
}

/// Whether an element of value representation `vr` may stand under the dictionary's entry for `tag`; anything bounded or
/// textual may where the dictionary does not know the attribute yet.
pub fn fits_dictionary(tag: Tag, vr: VR) -> bool {
    match StandardDataDictionary.by_tag(tag) {
        Some(entry) => agrees(entry.vr(), vr),
        None => !matches!(vr, VR::UN | VR::OB | VR::OW),
    }
}

/// Whether an element of value representation `found` may stand under an attribute of the dictionary's `listed`.
/// Character strings other than numbers, and signed and unsigned shorts, have changed places in past editions.
fn agrees(listed: VirtualVr, found: VR) -> bool {
    let text = |vr: VR| matches!(vr, VR::CS | VR::LO | VR::LT | VR::SH | VR::ST | VR::UC | VR::UT);
    let short = |vr: VR| matches!(vr, VR::SS | VR::US);
    match listed {
        VirtualVr::Exact(vr) => vr == found || (text(vr) && text(found)) || (short(vr) && short(found)),
        VirtualVr::Xs => short(found),
        VirtualVr::Lt => short(found) || found == VR::OW,
        VirtualVr::Ox | VirtualVr::Px => matches!(found, VR::OB | VR::OW),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::Table;

    #[test]
    fn what_stays_and_what_goes() {
        for (tag, vr, expected) in [
            ((0x0018, 0x0060), VR::DS, Unlisted::Keep),
            ((0x0020, 0x0011), VR::IS, Unlisted::Keep),
            ((0x0008, 0x0070), VR::LO, Unlisted::Keep),
            ((0x0008, 0x0016), VR::UI, Unlisted::Keep),
            ((0x0028, 0x0106), VR::SS, Unlisted::Keep),
            ((0x0028, 0x0106), VR::US, Unlisted::Keep),
            ((0x0028, 0x1201), VR::OW, Unlisted::Keep),
            ((0x0018, 0x9321), VR::SQ, Unlisted::Recurse),
            ((0x0020, 0x0242), VR::UI, Unlisted::MapUid),
            ((0x0018, 0x0060), VR::LT, Unlisted::Remove(Reason::WrongVr)),
            ((0x0018, 0x0060), VR::UN, Unlisted::Remove(Reason::WrongVr)),
            ((0x0018, 0x9321), VR::UN, Unlisted::Remove(Reason::WrongVr)),
            ((0x0018, 0xFEDC), VR::LO, Unlisted::Remove(Reason::Unknown)),
            ((0x0040, 0x0400), VR::LT, Unlisted::Remove(Reason::Unbounded)),
            ((0x0008, 0x1190), VR::UR, Unlisted::Remove(Reason::Unbounded)),
            ((0x0004, 0x1130), VR::CS, Unlisted::Remove(Reason::Unknown)),
            ((0x0020, 0x3101), VR::CS, Unlisted::Remove(Reason::Unbounded)),
        ] {
            assert_eq!(judge(Tag::from(tag), vr), expected, "{tag:04X?} {vr:?}");
        }
    }

    #[test]
    fn the_lists_here_do_not_contradict_the_table() {
        let table = Table::embedded().expect("table");
        for tag in CLASS_UIDS.iter().chain(&TECHNICAL).chain(&NEVER) {
            assert!(table.row(*tag).is_none(), "{tag} is in Table E.1-1");
            assert!(StandardDataDictionary.by_tag(*tag).is_some(), "{tag} is not in the dictionary");
        }
    }
}
