//! What the tests of Table E.1-1 plant: for each row of the table a value of its VR that can be recognised afterwards.

// Not every test needs everything.
#![allow(dead_code)]

#[path = "../keyed/mod.rs"]
pub mod keyed;

use anonymizer::options::Choice;
use anonymizer::{dummy, value};
use dicom_core::value::PrimitiveValue;
use dicom_core::{DataElement, Tag, VR};
use dicom_dictionary_std::tags;
use dicom_object::InMemDicomObject;
use dicom_object::mem::InMemElement;

pub const CT: &str = "1.2.840.10008.5.1.4.1.1.2";
/// The UID that a planted sequence refers to.
pub const REFERENCED: &str = "1.2.3.4711.9";
/// What every planted value that may be searched for holds, in lower case.
pub const SECRETS: [&str; 7] = ["secret", "4711", "20200131", "101112", "057y", "nested", "hidden"];

/// Rows that go although the table has a dummy or nothing stand in: validity needs companions (see `strays`).
pub const STRAYS: [Tag; 2] = [Tag(0x0040, 0x0512), Tag(0x0040, 0x0513)];

/// A row: its tag as written, the basic cell, and a cell for each option.
pub struct Row {
    pub tag: String,
    pub basic: String,
    pub cells: Vec<(Choice, String)>,
}

/// The table's 657 rows.
pub fn rows() -> Vec<Row> {
    let csv = include_str!("../../data/ps315_table_e1-1.csv");
    let mut reader = csv::Reader::from_reader(csv.as_bytes());
    let header = reader.headers().expect("header").clone();
    let column = |name: &str| header.iter().position(|h| h == name).expect(name);
    let options: Vec<(Choice, usize)> = Choice::ALL.iter().filter_map(|c| Some((*c, column(c.column()?)))).collect();
    assert_eq!(options.len(), 10);
    let row = |fields: csv::StringRecord| {
        let field = |column: usize| fields[column].to_owned();
        let cells = options.iter().map(|(choice, at)| (*choice, field(*at))).collect();
        Row { tag: field(column("tag")), basic: field(column("basic_profile")), cells }
    };
    let rows: Vec<Row> = reader.records().map(|record| row(record.expect("row"))).collect();
    assert_eq!(rows.len(), 657);
    rows
}

impl Row {
    /// The attribute that can be planted in a data set: none for the repeating groups and private attributes, and for
    /// groups 0000 and 0002, which cannot stand there (the writer makes the file's head anew).
    pub fn plantable(&self) -> Option<Tag> {
        self.tag.parse::<Tag>().ok().filter(|tag| !matches!(tag.group(), 0x0000 | 0x0002))
    }
}

pub fn vr_of(tag: Tag) -> VR {
    // Attributes younger than the dictionary are planted as text.
    value::dictionary_vr(tag).unwrap_or(VR::LO)
}

/// An element of a row. Texts hold a word that Clean Descriptors knows and one that it does not.
pub fn planted(tag: Tag, vr: VR) -> InMemElement {
    let text = match vr {
        VR::SQ => return dummy::sequence(tag, items()),
        VR::UI => "1.2.3.4711",
        VR::DA => "20200131",
        VR::TM => "101112",
        VR::DT => "20200131101112",
        VR::AS => "057Y",
        VR::DS | VR::IS => "4711",
        VR::AE | VR::CS => "SECRET",
        VR::SH if tag == tags::TIMEZONE_OFFSET_FROM_UTC => "+0545",
        VR::PN | VR::LO | VR::SH | VR::ST | VR::LT | VR::UT | VR::UC | VR::UR => "Thorax Secret",
        _ => return DataElement::new(tag, vr, PrimitiveValue::U8(b"Secret".as_slice().into())),
    };
    DataElement::new(tag, vr, PrimitiveValue::from(text))
}

/// The items of any sequence: a site's own code beside a reference, a description and somebody's name; and a code of a
/// published scheme.
fn items() -> Vec<InMemDicomObject> {
    let mut first = dummy::code("4711", "99SECRET", "Secret code");
    for element in [
        dummy::text((0x0008, 0x103E), VR::LO, "Thorax Secret"),
        dummy::text((0x0008, 0x1150), VR::UI, CT),
        dummy::text((0x0008, 0x1155), VR::UI, REFERENCED),
        dummy::text((0x0010, 0x0010), VR::PN, "Nested^Hidden"),
        dummy::text((0x0040, 0xA160), VR::UT, "Nested secret"),
    ] {
        first.put(element);
    }
    vec![first, dummy::code("51185008", "SCT", "Chest")]
}

/// A data set of a class to plant in.
pub fn base(class: &str) -> InMemDicomObject {
    InMemDicomObject::from_element_iter([
        dummy::text((0x0008, 0x0016), VR::UI, class),
        dummy::text((0x0008, 0x0018), VR::UI, "1.2.3.1"),
        dummy::text((0x0008, 0x0060), VR::CS, "CT"),
        dummy::text((0x0010, 0x0020), VR::LO, "P-99812"),
    ])
}

/// Whether a UID is one that the service made.
pub fn is_mapped(uid: &str) -> bool {
    uid.starts_with("2.25.") && uid != dummy::UID
}
