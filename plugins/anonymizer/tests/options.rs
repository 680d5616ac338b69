//! Every cell of Table E.1-1: 657 rows under each of the 10 options alone, and under none. Each row's attribute is planted
//! at the top and inside a sequence that the table does not list, and one outcome is right:
//!
//! * an empty cell: to the byte what comes of it without options, which must be what the basic cell allows;
//! * K: the value as it was; of a sequence its items, cleaned inside;
//! * C: exactly what the cleaning leaves of the planted value, so that one that stopped working shows;
//! * C where nothing can be cleaned ([`NOT_CLEANED`], with the reasons): as an empty cell.

mod planted;

use anonymizer::case::deidentify_case;
use anonymizer::options::{Choice, Options};
use anonymizer::profile::{Decision, Profile};
use anonymizer::rules::Rules;
use anonymizer::{dataset, dates, dummy, value};
use dicom_core::value::PrimitiveValue;
use dicom_core::{DataElement, Tag, VR};
use dicom_dictionary_std::tags;
use dicom_object::InMemDicomObject;
use dicom_object::mem::InMemElement;
use planted::{CT, REFERENCED, Row, STRAYS, base, is_mapped, keyed, planted, rows, vr_of};
use std::collections::BTreeMap;

/// CT Exposure Sequence, which the table does not list.
const OUTER: Tag = Tag(0x0018, 0x9321);

/// Where C takes the basic action: the option, the kind of value (or the row) and why cleaning could not be told from
/// leaving it.
const NOT_CLEANED: [(Choice, &str, &str); 5] = [
    (Choice::Descriptors, "CS", "code strings are defined terms, of which no part is harmless by itself"),
    (Choice::Descriptors, "OB", "opaque bytes hold no words that could be looked up"),
    (Choice::ModifiedDates, "OB", "timestamps in opaque bytes, or signed by a third party, cannot be moved"),
    (Choice::Device, "AE", "the title of an application is the hospital's own word for a machine"),
    (Choice::Graphics, "(50xx,xxxx)", "a curve may be a drawing of letters"),
];

/// How many cells have which outcome; the words of an outcome are those that the test gives it.
const COUNTS: [(&str, &str, usize); 17] = [
    ("", "as without options", 5907),
    ("", "in no data set", 27),
    ("C", "a moved date", 114),
    ("C", "a sequence, cleaned inside", 14),
    ("C", "as without options", 17),
    ("C", "the harmless part of a group", 3),
    ("C", "the harmless words", 134),
    ("C", "the value as it was", 53),
    ("K", "a sequence, cleaned inside", 16),
    ("K", "in no data set", 3),
    ("K", "the value as it was", 282),
    ("no option", "as a group: gone", 4),
    ("no option", "dummy", 94),
    ("no option", "empty", 46),
    ("no option", "gone", 455),
    ("no option", "in no data set", 3),
    ("no option", "mapped", 55),
];

/// What a cell asks for.
enum Expected {
    /// What comes of the attribute without options.
    WithoutOptions,
    /// The planted value.
    Same,
    /// This text.
    Text(String),
    /// A sequence that holds these values, and nothing else but pseudonyms.
    Holds(Vec<String>),
}

/// What the service gave for what was planted.
struct Given {
    uid: String,
    date: String,
}

fn profile(choice: Option<Choice>) -> Profile {
    let options = choice.map_or(Options::default(), |choice| Options::default().with(choice));
    Profile::with(options, Rules::default(), vec![]).expect("profile")
}

fn cleaned(object: &InMemDicomObject, profile: &Profile) -> (InMemDicomObject, Given) {
    let bytes = dataset::write(object).expect("written");
    let (mut uids, mut days) = (BTreeMap::new(), None);
    let service = |request: &str| {
        let answer = keyed::service(1, request)?;
        let list = |json: &str, name: &str| {
            let json: serde_json::Value = serde_json::from_str(json).expect("json");
            json[name].as_array().expect(name).clone()
        };
        let texts = |json, name| list(json, name).into_iter().map(|uid| uid.as_str().expect("text").to_owned());
        uids = texts(request, "uids").zip(texts(&answer, "uids")).collect();
        days = list(&answer, "date_offset_days").first().and_then(serde_json::Value::as_i64);
        Ok::<_, String>(answer)
    };
    let clean = deidentify_case(&[vec![&bytes]], profile, service, |_, _| true).expect("cleaned");
    let date = days.and_then(|days| dates::shift_date("20200131", days)).unwrap_or_default();
    let given = Given { uid: uids.get(REFERENCED).cloned().unwrap_or_default(), date };
    (dataset::read(&clean.series[0][0]).expect("read"), given)
}

/// A drawn line with a text beside it.
fn annotation(tag: Tag) -> InMemElement {
    let line = InMemDicomObject::from_element_iter([
        dummy::text((0x0070, 0x0005), VR::CS, "PIXEL"),
        DataElement::new(Tag(0x0070, 0x0022), VR::FL, PrimitiveValue::F32([1.0, 2.0, 3.0, 4.0].as_slice().into())),
        dummy::text((0x0070, 0x0023), VR::CS, "POLYLINE"),
    ]);
    let text = InMemDicomObject::from_element_iter([dummy::text((0x0070, 0x0006), VR::ST, "Thorax Secret")]);
    let item = InMemDicomObject::from_element_iter([
        dummy::sequence(tags::TEXT_OBJECT_SEQUENCE, vec![text]),
        dummy::sequence(tags::GRAPHIC_OBJECT_SEQUENCE, vec![line]),
    ]);
    dummy::sequence(tag, vec![item])
}

/// Content items: a finding as a code, one as a text, and an accession number.
fn content(tag: Tag) -> InMemElement {
    let item = |kind: &str, concept: (&str, &str), value: InMemElement| {
        InMemDicomObject::from_element_iter([
            dummy::text((0x0040, 0xA040), VR::CS, kind),
            dummy::sequence(tags::CONCEPT_NAME_CODE_SEQUENCE, vec![dummy::code(concept.0, "DCM", concept.1)]),
            value,
        ])
    };
    let chest = dummy::sequence(tags::CONCEPT_CODE_SEQUENCE, vec![dummy::code("51185008", "SCT", "Chest")]);
    let text = || dummy::text((0x0040, 0xA160), VR::UT, "Thorax Secret");
    let (finding, accession) = (("121071", "Finding"), ("121022", "Accession Number"));
    dummy::sequence(
        tag,
        vec![item("CODE", finding, chest), item("TEXT", finding, text()), item("TEXT", accession, text())],
    )
}

/// What is planted for a cell: items of the kind that the option cleans, where it cleans a kind of its own.
fn planted_for(choice: Choice, cell: &str, tag: Tag, vr: VR) -> InMemElement {
    match (choice, cell, vr) {
        (Choice::Graphics, "C", VR::SQ) => annotation(tag),
        (Choice::StructuredContent, "C", VR::SQ) => content(tag),
        _ => planted(tag, vr),
    }
}

/// What of a planted sequence must be there.
fn items_under(choice: Choice, cell: &str, given: &Given) -> Vec<String> {
    let owned = |values: &[&str]| values.iter().map(|value| (*value).to_owned()).collect::<Vec<_>>();
    match (choice, cell) {
        // Of a text only Clean Descriptors knows the words.
        (Choice::Graphics, "C") => return owned(&["00700005=PIXEL", "00700022=1\\2\\3\\4", "00700023=POLYLINE"]),
        (Choice::StructuredContent, "C") => {
            let finding = ["00080100=121071", "00080102=DCM", "00080104=Finding"];
            let chest = ["00080100=51185008", "00080102=SCT", "00080104=Chest"];
            let text = ["0040A160=REMOVED"];
            return owned(&[&["0040A040=CODE"][..], &finding, &chest, &["0040A040=TEXT"], &finding, &text].concat());
        }
        _ => {}
    }
    let mut all = match choice {
        // What the options keep, they keep with the site's own codes for it.
        Choice::Device | Choice::Institution => owned(&["00080100=4711", "00080102=99SECRET", "00080104=Secret code"]),
        _ => owned(&["00080100=REMOVED", "00080102=99GANTRY", "00080104=REMOVED"]),
    };
    if choice == Choice::Descriptors {
        all.push("0008103E=Thorax".to_owned());
    }
    let uid = if choice == Choice::Uids { REFERENCED } else { &given.uid };
    all.extend([format!("00081150={CT}"), format!("00081155={uid}")]);
    all.extend(owned(&["00080100=51185008", "00080102=SCT", "00080104=Chest"]));
    all
}

/// The values of a sequence at every depth, but names, for which pseudonyms stand.
fn values(items: &[InMemDicomObject]) -> Vec<String> {
    let of = |element: &InMemElement| match element.items() {
        Some(items) => values(items),
        None if element.vr() == VR::PN => vec![],
        None => {
            let tag = element.header().tag;
            vec![format!("{:04X}{:04X}={}", tag.group(), tag.element(), value::texts(element.value()).join("\\"))]
        }
    };
    items.iter().flat_map(|item| item.iter().flat_map(of).collect::<Vec<_>>()).collect()
}

fn is_not_cleaned(choice: Choice, kind: &str) -> bool {
    NOT_CLEANED.iter().any(|(option, listed, _)| *option == choice && *listed == kind)
}

fn expected(choice: Choice, cell: &str, tag: Tag, vr: VR, given: &Given) -> Expected {
    match (cell, vr) {
        ("", _) => Expected::WithoutOptions,
        ("K" | "C", VR::SQ) => Expected::Holds(items_under(choice, cell, given)),
        ("K", _) => Expected::Same,
        _ if is_not_cleaned(choice, vr.to_string()) => Expected::WithoutOptions,
        _ => match (choice, vr) {
            (Choice::ModifiedDates, VR::DA) => Expected::Text(given.date.clone()),
            (Choice::ModifiedDates, VR::DT) => Expected::Text(format!("{}101112", given.date)),
            // Dates move by whole days.
            (Choice::ModifiedDates, VR::TM) => Expected::Same,
            (Choice::ModifiedDates, VR::SH) if tag == tags::TIMEZONE_OFFSET_FROM_UTC => Expected::Same,
            (
                Choice::Descriptors | Choice::PatientCharacteristics,
                VR::LO | VR::LT | VR::SH | VR::ST | VR::UC | VR::UT,
            ) => Expected::Text("Thorax".to_owned()),
            _ => panic!("{tag} ({vr}) under {choice:?}: nothing says what cleaning means"),
        },
    }
}

fn bytes(element: &InMemElement) -> Vec<u8> {
    dataset::write(&InMemDicomObject::from_element_iter([element.clone()])).expect("written")
}

/// Whether an element is as expected; `bare` is what comes of it without options.
fn is_right(
    expected: &Expected,
    planted: &InMemElement,
    after: Option<&InMemElement>,
    bare: Option<&InMemElement>,
) -> bool {
    match (expected, after) {
        (Expected::WithoutOptions, after) => after.map(bytes) == bare.map(bytes),
        (_, None) => false,
        (Expected::Same, Some(after)) => bytes(after) == bytes(planted),
        (Expected::Text(text), Some(after)) => value::texts(after.value()) == [text.as_str()],
        (Expected::Holds(all), Some(after)) => after.items().is_some_and(|items| values(items) == *all),
    }
}

/// What the basic profile did, and whether its cell allows it.
fn basic_outcome(basic: &str, planted: &InMemElement, after: Option<&InMemElement>) -> (&'static str, bool) {
    let tag = planted.header().tag;
    let uids = |element: &InMemElement| match element.items() {
        Some(items) => items.iter().map(|i| value::first_text(i, tags::REFERENCED_SOP_INSTANCE_UID)).collect(),
        None if element.vr() == VR::UI => value::texts(element.value()),
        None => vec![],
    };
    let outcome = match after {
        None => "gone",
        Some(element) if value::is_empty(element.value()) => "empty",
        Some(element) => {
            let text = String::from_utf8_lossy(&bytes(element)).to_lowercase();
            assert!(planted::SECRETS.iter().all(|secret| !text.contains(secret)), "{tag}: {text}");
            let uids = uids(element);
            if !uids.is_empty() && uids.iter().all(|uid| is_mapped(uid)) { "mapped" } else { "dummy" }
        }
    };
    let allowed = basic.split('/').any(|permitted| match permitted {
        "X" => outcome == "gone",
        // Zero length or a dummy; a pseudonym and a mapped UID are dummies.
        "Z" => outcome != "gone",
        "D" => matches!(outcome, "dummy" | "mapped"),
        "U" => outcome == "mapped" && planted.vr() != VR::SQ,
        "U*" => outcome == "mapped",
        other => panic!("unknown cell {other}"),
    });
    (outcome, allowed || (STRAYS.contains(&tag) && outcome == "gone"))
}

/// Private attributes, curves and overlays under an option; says whether something stayed.
fn check_group_row(row: &Row, choice: Option<Choice>, profile: &Profile) -> bool {
    let mut object = base(CT);
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
    let (after, _) = cleaned(&object, profile);
    let is_of_group = |tag: &Tag| tag.group() % 2 == 1 || (0x5000..0x6100).contains(&tag.group());
    let left: Vec<InMemElement> = after.iter().filter(|e| is_of_group(&e.header().tag)).cloned().collect();
    let right: &[&str] = match (row.tag.as_str(), choice) {
        ("PRIVATE", Some(Choice::SafePrivate)) => &["00190010=SIEMENS MR HEADER", "0019100C=800"],
        ("(60xx,3000)" | "(60xx,4000)", Some(Choice::Graphics)) => {
            &["60000010=8", "60000040=R", "60001500=Liver", "60003000=Secret"]
        }
        _ => &[],
    };
    assert_eq!(values(&[InMemDicomObject::from_element_iter(left)]), right, "{} under {choice:?}", row.tag);
    !right.is_empty()
}

/// An attribute of a message or of the file's head, which no data set holds.
fn check_head_row(tag: Tag, profile: &Profile) {
    let decision = profile.decide(profile.iod(CT), &[], tag, vr_of(tag)).decision;
    assert!(matches!(decision, Decision::Remove(_)), "{tag}");
}

/// A data set with the element at the top and inside a sequence.
fn twice(element: &InMemElement) -> InMemDicomObject {
    let beside = DataElement::new(Tag(0x0018, 0x9328), VR::FD, PrimitiveValue::from(1f64));
    let mut object = base(CT);
    object.put(element.clone());
    object.put(dummy::sequence(OUTER, vec![InMemDicomObject::from_element_iter([element.clone(), beside])]));
    object
}

/// The element at both places.
fn both(object: &InMemDicomObject, tag: Tag) -> [(&'static str, Option<&InMemElement>); 2] {
    let nested = object.get(OUTER).and_then(|e| e.items()).and_then(|i| i.first()).expect("nested");
    [("top", object.get(tag)), ("nested", nested.get(tag))]
}

#[test]
fn every_cell_has_its_outcome() {
    let rows = rows();
    let mut wrong = Vec::new();
    let mut counts: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    let without = profile(None);
    for row in &rows {
        let outcome = match (row.plantable(), row.tag.parse::<Tag>()) {
            (Some(tag), _) => {
                let element = planted(tag, vr_of(tag));
                let (after, _) = cleaned(&twice(&element), &without);
                let outcomes = both(&after, tag).map(|(place, after)| {
                    let (outcome, allowed) = basic_outcome(&row.basic, &element, after);
                    if !allowed {
                        wrong.push(format!("{tag} at the {place}: `{}`: {outcome}", row.basic));
                    }
                    outcome
                });
                outcomes[0]
            }
            (None, Ok(tag)) => {
                check_head_row(tag, &without);
                "in no data set"
            }
            (None, Err(_)) => {
                assert!(!check_group_row(row, None, &without));
                "as a group: gone"
            }
        };
        *counts.entry(("no option", outcome)).or_default() += 1;
    }
    for choice in Choice::ALL.into_iter().filter(|choice| choice.column().is_some()) {
        let profile = profile(Some(choice));
        for row in &rows {
            let cell = row.cells.iter().find(|(c, _)| *c == choice).map_or("", |(_, cell)| cell.as_str());
            let outcome = match (row.plantable(), row.tag.parse::<Tag>()) {
                (Some(tag), _) => {
                    let vr = vr_of(tag);
                    let element = planted_for(choice, cell, tag, vr);
                    let (bare, _) = cleaned(&twice(&element), &without);
                    let (after, given) = cleaned(&twice(&element), &profile);
                    let expected = expected(choice, cell, tag, vr, &given);
                    for ((place, after), (_, bare)) in both(&after, tag).into_iter().zip(both(&bare, tag)) {
                        if !is_right(&expected, &element, after, bare) {
                            let after = after.map(|e| value::texts(e.value()));
                            wrong.push(format!("{tag} ({vr}) at the {place} under {choice:?}: `{cell}`: {after:?}"));
                        }
                    }
                    match expected {
                        Expected::WithoutOptions => "as without options",
                        Expected::Same => "the value as it was",
                        Expected::Text(text) if text == "Thorax" => "the harmless words",
                        Expected::Text(_) => "a moved date",
                        Expected::Holds(_) => "a sequence, cleaned inside",
                    }
                }
                (None, Ok(tag)) => {
                    check_head_row(tag, &profile);
                    "in no data set"
                }
                (None, Err(_)) => {
                    let stays = check_group_row(row, Some(choice), &profile);
                    assert_eq!(stays, cell == "C" && !is_not_cleaned(choice, &row.tag), "{} under {choice:?}", row.tag);
                    if stays { "the harmless part of a group" } else { "as without options" }
                }
            };
            *counts.entry((cell, outcome)).or_default() += 1;
        }
    }
    assert!(wrong.is_empty(), "{} not as expected:\n{}", wrong.len(), wrong.join("\n"));
    let counts: Vec<(&str, &str, usize)> = counts.into_iter().map(|((cell, outcome), n)| (cell, outcome, n)).collect();
    for (cell, outcome, count) in &counts {
        println!("{count:5} cells `{cell}`: {outcome}");
    }
    assert_eq!(counts, COUNTS);
    assert_eq!(COUNTS.iter().map(|(.., n)| n).sum::<usize>(), 6570 + 657);
}

#[test]
fn what_is_not_cleaned_stands_in_the_table() {
    let rows = rows();
    for (choice, kind, why) in NOT_CLEANED {
        let is_meant = |row: &&Row| {
            let cleans = row.cells.iter().any(|(c, cell)| *c == choice && cell == "C");
            cleans && (row.tag == kind || row.plantable().is_some_and(|tag| vr_of(tag).to_string() == kind))
        };
        let count = rows.iter().filter(is_meant).count();
        assert!(count > 0, "{choice:?} cleans nothing of kind {kind}");
        println!("{count:2} cells of {choice:?}, {kind}: {why}");
    }
}
