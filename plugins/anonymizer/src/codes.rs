//! Coded values: codes of published coding schemes stay, a site's own codes do not.
//!
//! A hospital or vendor scheme (`99...`, or any designator that PS3.16 does not register) holds what its owner typed in:
//! procedure names with places and physicians, orders, comments. Its code is replaced by a dummy code, so that a
//! sequence in which the standard requires one stays valid.

use crate::dummy;
use crate::value;
use dicom_core::Tag;
use dicom_core::dictionary::{DataDictionary, DataDictionaryEntry};
use dicom_dictionary_std::{StandardDataDictionary, tags};
use dicom_object::InMemDicomObject;

/// Designators of published schemes (PS3.16 chapter 8).
const PUBLISHED: [&str; 64] = [
    "99SDM",
    "ACR",
    "ASTM-sigpurpose",
    "BARI",
    "BI",
    "C4",
    "C5",
    "CD2",
    "CDT",
    "CPT",
    "DC",
    "DCM",
    "DCMUID",
    "ECG",
    "FMA",
    "HCPT",
    "HL7",
    "HPC",
    "I10",
    "I10P",
    "I11",
    "I9",
    "I9C",
    "IBSI",
    "ICDO3",
    "IEC",
    "ISO3166_1",
    "ISO5218",
    "ISO639_1",
    "ISO639_2",
    "ISO_OID",
    "ITIS_TSN",
    "LN",
    "MDC",
    "MDNS",
    "MGI",
    "MSH",
    "NCDR",
    "NCIt",
    "NDC",
    "NEU",
    "NICIP",
    "POS",
    "PUBCHEM_CID",
    "RADELEMENT",
    "RADLEX",
    "RADPEER",
    "RFC3066",
    "RFC5646",
    "RO",
    "RXNORM",
    "SCPECG",
    "SCT",
    "SDM",
    "SNM",
    "SNM3",
    "SRT",
    "UBERON",
    "UCUM",
    "UMLS",
    "UNS",
    "UPC",
    "V3",
    "VANDF",
];

/// Whether a coding scheme is published.
pub fn is_published(designator: &str) -> bool {
    PUBLISHED.contains(&designator)
}

/// Whether an item holds a code.
pub fn is_coded(item: &InMemDicomObject) -> bool {
    let holds = |tag: Tag| !value::first_text(item, tag).is_empty();
    holds(tags::CODE_VALUE) || holds(tags::LONG_CODE_VALUE) || holds(tags::URN_CODE_VALUE)
}

/// Whether a sequence is by its name one of codes.
pub fn is_code_sequence(sequence: Tag) -> bool {
    StandardDataDictionary.by_tag(sequence).is_some_and(|entry| entry.alias().ends_with("CodeSequence"))
}

/// Whether an item holds a code that is not one of a published scheme.
pub fn is_local(item: &InMemDicomObject) -> bool {
    is_coded(item) && !is_published(&value::first_text(item, tags::CODING_SCHEME_DESIGNATOR))
}

/// Whether an item describes (Coding Scheme Identification Sequence) a scheme that is not published.
pub fn describes_local_scheme(item: &InMemDicomObject) -> bool {
    !is_published(&value::first_text(item, tags::CODING_SCHEME_DESIGNATOR))
}

/// Puts the dummy code in place of the item's own.
pub fn replace(item: &mut InMemDicomObject) {
    for tag in
        [tags::CODING_SCHEME_VERSION, tags::LONG_CODE_VALUE, tags::URN_CODE_VALUE, tags::EQUIVALENT_CODE_SEQUENCE]
    {
        item.remove_element(tag);
    }
    for element in dummy::removed_code() {
        item.put(element);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_published_codes_are_kept() {
        assert!(!is_local(&dummy::code("113691", "DCM", "IEC Body Dosimetry Phantom")));
        assert!(is_local(&dummy::code("4711", "99HOSPITAL", "Chest for Dr Example")));
        assert!(is_local(&dummy::code("4711", "", "Chest for Dr Example")));
        assert!(!is_local(&InMemDicomObject::new_empty()));
        assert!(is_code_sequence(tags::PROCEDURE_CODE_SEQUENCE) && !is_code_sequence(tags::REFERENCED_IMAGE_SEQUENCE));
        let mut item = dummy::code("4711", "EXAMPLE.PROCEDURES", "Chest for Dr Example");
        item.put(dummy::text((0x0008, 0x0103), dicom_core::VR::SH, "Example 1"));
        replace(&mut item);
        let texts: Vec<String> = item.iter().map(value::first_text_of).collect();
        assert_eq!(texts, ["REMOVED", "99GANTRY", "REMOVED"]);
    }
}
