//! Every cell of Table E.1-1: 657 rows under each of the 10 options alone, and under none. Each row's attribute is planted
//! at the top and inside a sequence that the table does not list; what comes of it must be what the cell allows.
//!
//! Where Gantry is stricter than the cell: sequences that K keeps are cleaned inside; times of day and time zones that C
//! would have modified stay, because dates move by whole days; AE titles and sequences that C would have cleaned under
//! Retain Device Identity take the basic action; curves and graphics overlays go although C would clean them.

mod keyed;

use anonymizer::case::deidentify_case;
use anonymizer::options::{Choice, Options};
use anonymizer::profile::{Decision, Profile};
use anonymizer::rules::Rules;
use anonymizer::{dataset, dummy, value};
use dicom_core::dictionary::{DataDictionary, DataDictionaryEntry, VirtualVr};
use dicom_core::value::PrimitiveValue;
use dicom_core::{DataElement, Tag, VR};
use dicom_dictionary_std::{StandardDataDictionary, tags};
use dicom_object::InMemDicomObject;
use dicom_object::mem::InMemElement;

const CT: &str = "1.2.840.10008.5.1.4.1.1.2";
/// CT Exposure Sequence, which the table does not list.
const OUTER: Tag = Tag(0x0018, 0x9321);

/// Rows that go although the table has a dummy or nothing stand in: validity needs companions.
const STRAYS: [Tag; 2] = [Tag(0x0040, 0x0512), Tag(0x0040, 0x0513)];

/// A row: its tag as written, the basic cell, and a cell for each option.
struct Row {
    tag: String,
    basic: String,
    cells: Vec<(Choice, String)>,
}

fn rows() -> Vec<Row> {
    let csv = include_str!("../data/ps315_table_e1-1.csv");
    let split = |line: &str| {
        let (mut all, mut quoted) = (vec![String::new()], false);
        for c in line.chars() {
            match c {
                '"' => quoted = !quoted,
                ',' if !quoted => all.push(String::new()),
                c => all.last_mut().expect("field").push(c),
            }
        }
        all
    };
    let header = split(csv.lines().next().expect("header"));
    let column = |name: &str| header.iter().position(|h| h == name).expect(name);
    let options: Vec<(Choice, usize)> = Choice::ALL.iter().filter_map(|c| Some((*c, column(c.column()?)))).collect();
    assert_eq!(options.len(), 10);
    let row = |line: &str| {
        let fields = split(line);
        let cells = options.iter().map(|(choice, at)| (*choice, fields[*at].clone())).collect();
        Row { tag: fields[column("tag")].clone(), basic: fields[column("basic_profile")].clone(), cells }
    };
    csv.lines().skip(1).map(row).collect()
}

fn vr_of(tag: Tag) -> VR {
    match StandardDataDictionary.by_tag(tag).map(DataDictionaryEntry::vr) {
        Some(VirtualVr::Exact(vr)) => vr,
        // Attributes younger than the dictionary.
        _ => VR::LO,
    }
}

fn planted(tag: Tag, vr: VR) -> InMemElement {
    let text = match vr {
        VR::SQ => {
            let reference = [
                dummy::text((0x0008, 0x0100), VR::SH, "4711"),
                dummy::text((0x0008, 0x0102), VR::SH, "99SECRET"),
                dummy::text((0x0008, 0x0104), VR::LO, "Secret code"),
                dummy::text((0x0008, 0x1150), VR::UI, CT),
                dummy::text((0x0008, 0x1155), VR::UI, "1.2.3.4711.9"),
                dummy::text((0x0010, 0x0010), VR::PN, "Nested^Secret"),
                dummy::text((0x0040, 0xA160), VR::UT, "Nested secret"),
            ];
            return dummy::sequence(tag, vec![InMemDicomObject::from_element_iter(reference)]);
        }
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

fn base() -> InMemDicomObject {
    InMemDicomObject::from_element_iter([
        dummy::text((0x0008, 0x0016), VR::UI, CT),
        dummy::text((0x0008, 0x0018), VR::UI, "1.2.3.1"),
        dummy::text((0x0008, 0x0060), VR::CS, "CT"),
        dummy::text((0x0010, 0x0020), VR::LO, "P-99812"),
    ])
}

fn cleaned(object: &InMemDicomObject, profile: &Profile) -> InMemDicomObject {
    let bytes = dataset::write(object).expect("written");
    let clean = deidentify_case(&[vec![&bytes]], profile, |r| keyed::service(1, r), |_, _| true).expect("cleaned");
    dataset::read(&clean.series[0][0]).expect("read")
}

/// What happened to a planted element.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
enum Outcome {
    Same,
    Gone,
    Empty,
    Mapped,
    /// A text whose harmless word stayed, a date that moved, a sequence cleaned inside.
    Cleaned,
    Dummy,
}

fn holds(element: &InMemElement, secret: &str) -> bool {
    let object = InMemDicomObject::from_element_iter([element.clone()]);
    let bytes = dataset::write(&object).expect("written");
    bytes.windows(secret.len()).any(|w| w.eq_ignore_ascii_case(secret.as_bytes()))
}

fn outcome(tag: Tag, planted: &InMemElement, after: &InMemDicomObject) -> Outcome {
    let Some(element) = after.get(tag) else { return Outcome::Gone };
    if value::is_empty(element.value()) {
        return Outcome::Empty;
    }
    let same_bytes = || Some(element.to_bytes().ok()? == planted.to_bytes().ok()?);
    if element.value() == planted.value() || (planted.vr() != VR::SQ && same_bytes() == Some(true)) {
        return Outcome::Same;
    }
    let own = |t: &str| t.starts_with("2.25.") && t != dummy::UID;
    let texts = value::texts(element.value());
    if let Some(items) = element.items() {
        // Whatever keeps a sequence, what is in it is cleaned.
        assert!(!holds(element, "nested"), "{tag}: {element:?}");
        let uids: Vec<String> = items.iter().map(|i| value::first_text(i, tags::REFERENCED_SOP_INSTANCE_UID)).collect();
        return match () {
            () if uids.iter().all(|uid| uid == "1.2.3.4711.9") => Outcome::Same,
            () if uids.iter().all(|uid| own(uid)) => Outcome::Mapped,
            () => Outcome::Dummy,
        };
    }
    let moved = |t: &String| t.starts_with("20") && t.len() == value::texts(planted.value())[0].len();
    match planted.vr() {
        VR::UI if texts.iter().all(|t| own(t)) => Outcome::Mapped,
        VR::DA | VR::DT if texts.iter().all(moved) => Outcome::Cleaned,
        _ if texts == ["Thorax"] => Outcome::Cleaned,
        _ => {
            assert!(!holds(element, "secret") && !holds(element, "4711"), "{tag}: {element:?}");
            Outcome::Dummy
        }
    }
}

/// Whether an outcome is one of those the basic cell allows.
fn fits_basic(basic: &str, is_sequence: bool, after: Outcome) -> bool {
    basic.split('/').any(|permitted| match permitted {
        "X" => after == Outcome::Gone,
        // Zero length or a dummy; a pseudonym and a mapped UID are dummies.
        "Z" => matches!(after, Outcome::Empty | Outcome::Dummy | Outcome::Mapped),
        "D" => matches!(after, Outcome::Dummy | Outcome::Mapped),
        "U" => after == Outcome::Mapped && !is_sequence,
        "U*" => after == Outcome::Mapped,
        other => panic!("unknown cell {other}"),
    })
}

/// Whether an outcome is one that the option's cell allows.
fn fits(choice: Choice, cell: &str, basic: &str, vr: VR, after: Outcome) -> bool {
    match cell {
        "" => fits_basic(basic, vr == VR::SQ, after),
        // A kept sequence keeps its items, of which the references are mapped unless UIDs are retained.
        "K" if vr == VR::SQ && choice != Choice::Uids => after == Outcome::Mapped,
        "K" => after == Outcome::Same,
        "C" if choice == Choice::ModifiedDates => match vr {
            VR::DA | VR::DT => after == Outcome::Cleaned,
            VR::TM | VR::SH => after == Outcome::Same,
            _ => fits_basic(basic, false, after),
        },
        "C" if vr == VR::SQ => matches!(after, Outcome::Mapped | Outcome::Gone | Outcome::Empty),
        "C" => after == Outcome::Cleaned || fits_basic(basic, false, after),
        other => panic!("unknown cell {other}"),
    }
}

fn profile(choice: Option<Choice>) -> Profile {
    let options = choice.map_or(Options::default(), |choice| Options::default().with(choice));
    Profile::with(options, Rules::default(), vec![]).expect("profile")
}

/// Private attributes, curves and overlays under an option.
fn check_group_row(row: &Row, choice: Option<Choice>, profile: &Profile) {
    let mut object = base();
    let mut plant = |element| drop(object.put(element));
    match row.tag.as_str() {
        "PRIVATE" => {
            plant(dummy::text((0x0019, 0x0010), VR::LO, "SIEMENS MR HEADER"));
            plant(dummy::text((0x0019, 0x100C), VR::IS, "800"));
            plant(dummy::text((0x0019, 0x1008), VR::CS, "SECRET"));
            plant(dummy::text((0x0021, 0x0010), VR::LO, "ACME SECRET"));
            plant(dummy::text((0x0021, 0x100C), VR::IS, "4711"));
        }
        "(50xx,xxxx)" => {
            plant(dummy::text((0x5000, 0x2500), VR::LO, "Secret"));
            plant(DataElement::new(Tag(0x5002, 0x3000), VR::OW, PrimitiveValue::from(4711u16)));
        }
        _ => {
            for (group, kind) in [(0x6000, "R"), (0x6002, "G")] {
                plant(dummy::text((group, 0x0040), VR::CS, kind));
                plant(DataElement::new(Tag(group, 0x0010), VR::US, PrimitiveValue::from(8u16)));
                plant(dummy::text((group, 0x1500), VR::LO, "Liver Secret"));
                plant(dummy::text((group, 0x4000), VR::LT, "Secret"));
                plant(DataElement::new(Tag(group, 0x3000), VR::OB, PrimitiveValue::U8(b"Secret".as_slice().into())));
            }
        }
    }
    let after = cleaned(&object, profile);
    let left: Vec<Tag> = after.tags().filter(|t| t.group() % 2 == 1 || (0x5000..0x6100).contains(&t.group())).collect();
    let expected: &[(u16, u16)] = match (row.tag.as_str(), choice) {
        ("PRIVATE", Some(Choice::SafePrivate)) => &[(0x0019, 0x0010), (0x0019, 0x100C)],
        ("(60xx,3000)" | "(60xx,4000)", Some(Choice::Graphics)) => {
            assert_eq!(value::first_text(&after, Tag(0x6000, 0x1500)), "Liver");
            &[(0x6000, 0x0010), (0x6000, 0x0040), (0x6000, 0x1500), (0x6000, 0x3000)]
        }
        _ => &[],
    };
    assert_eq!(left, expected.iter().map(|t| Tag::from(*t)).collect::<Vec<_>>(), "{} under {choice:?}", row.tag);
}

#[test]
fn every_cell_has_a_permitted_outcome() {
    let rows = rows();
    assert_eq!(rows.len(), 657);
    let mut wrong = Vec::new();
    let (mut option_cells, mut basic_cells, mut kept, mut words) = (0, 0, 0, 0);
    let choices = Choice::ALL.into_iter().filter(|choice| choice.column().is_some()).map(Some);
    for choice in choices.chain([None]) {
        let profile = profile(choice);
        for row in &rows {
            if choice.is_some() {
                option_cells += 1
            } else {
                basic_cells += 1
            }
            let Ok(tag) = row.tag.parse::<Tag>() else {
                check_group_row(row, choice, &profile);
                continue;
            };
            // Groups 0000 and 0002 cannot stand in a data set; the writer makes the file's head anew.
            if matches!(tag.group(), 0x0000 | 0x0002) {
                let decision = profile.decide(profile.iod(CT), &[], tag, vr_of(tag)).decision;
                assert!(matches!(decision, Decision::Remove(_)), "{tag}");
                continue;
            }
            let cell = choice.map_or("", |choice| {
                row.cells.iter().find(|(c, _)| *c == choice).map_or("", |(_, cell)| cell.as_str())
            });
            let vr = vr_of(tag);
            let element = planted(tag, vr);
            let mut object = base();
            object.put(element.clone());
            let inner = InMemDicomObject::from_element_iter([
                element.clone(),
                DataElement::new(Tag(0x0018, 0x9328), VR::FD, PrimitiveValue::from(1f64)),
            ]);
            object.put(dummy::sequence(OUTER, vec![inner]));
            let after = cleaned(&object, &profile);
            let nested = after.get(OUTER).and_then(|e| e.items()).and_then(|i| i.first()).expect("nested");
            for (place, after) in [("top", &after), ("nested", nested)] {
                let after = outcome(tag, &element, after);
                let stray = STRAYS.contains(&tag) && after == Outcome::Gone;
                let option = choice.unwrap_or(Choice::PixelData);
                if !stray && !fits(option, cell, &row.basic, vr, after) {
                    let basic = &row.basic;
                    wrong.push(format!("{tag} ({vr}) at the {place} under {choice:?}: `{basic}`, `{cell}`: {after:?}"));
                }
                kept += usize::from(after == Outcome::Same);
                words += usize::from(cell == "C" && after == Outcome::Cleaned && !matches!(vr, VR::DA | VR::DT));
            }
        }
    }
    println!("{option_cells} + {basic_cells} cells; {kept} values kept, {words} texts cleaned");
    assert!(wrong.is_empty(), "{} not permitted:\n{}", wrong.len(), wrong.join("\n"));
    assert_eq!((option_cells, basic_cells), (6570, 657));
    assert!(kept > 600 && words > 200, "{kept} {words}");
}
