//! [`Differences`]: which values of arriving data sets are gone from those that left, and how much each says of a person.
//!
//! A value that stands at the same place unchanged was kept by rule. Every other text-like value that arrived was taken away,
//! so it may identify: names, numbers, UIDs, dates, words, printable bytes of unknown kind, at every depth. Nothing here
//! asks a de-identifier what it did; only the bytes before and after count.
//!
//! What is collected are patients' identities. None of these types can be printed or serialised.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use dicom_core::{Tag, VR};
use dicom_dictionary_std::tags;

use super::derive::MANUFACTURER;
pub use super::element_texts::LONGEST;
use super::element_texts::{Charset, Values, ends, parts, trimmed, values};
use super::elements::number;

/// What kind of thing a value is; decides how it is searched.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// A person's name.
    Name,
    /// A number of a patient, a visit or an order.
    Identifier,
    /// A UID.
    Uid,
    /// A date, a time, or both.
    Moment,
    /// Any other text.
    Text,
    /// A word out of a text.
    Word,
}

impl Class {
    /// Whether a value of this class names a person or a record by itself, whatever else repeats it.
    pub fn direct(self) -> bool {
        matches!(self, Class::Name | Class::Identifier | Class::Uid)
    }
}

/// Attributes whose values number a person, a visit or an order.
const NUMBERS: [Tag; 14] = [
    tags::ACCESSION_NUMBER,
    tags::PATIENT_ID,
    Tag(0x0010, 0x1000), // Other Patient IDs (retired)
    tags::PATIENT_TELEPHONE_NUMBERS,
    Tag(0x0010, 0x1090), // Medical Record Locator (retired)
    Tag(0x0010, 0x1050), // Insurance Plan Identification (retired)
    tags::STUDY_ID,
    tags::ADMISSION_ID,
    tags::SERVICE_EPISODE_ID,
    tags::REQUESTED_PROCEDURE_ID,
    tags::SCHEDULED_PROCEDURE_STEP_ID,
    tags::PERFORMED_PROCEDURE_STEP_ID,
    tags::PLACER_ORDER_NUMBER_IMAGING_SERVICE_REQUEST,
    tags::FILLER_ORDER_NUMBER_IMAGING_SERVICE_REQUEST,
];

/// Numbers of fewer digits occur by chance.
const DIGITS: usize = 4;
/// But for those with letters, if they have so many of both.
const LETTERS_AND_DIGITS: usize = 6;

/// A value that is gone, as it stood in the file.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Gone {
    /// As in the file, without padding.
    pub raw: Vec<u8>,
    /// The same in UTF-8, where the file's character set makes it another.
    pub text: Option<String>,
    /// What it is.
    pub class: Class,
}

/// What one or more pairs of data sets differ in.
#[derive(Default)]
pub struct Differences {
    /// Values that are gone, and the attribute of the first that had it.
    pub gone: BTreeMap<Gone, Tag>,
    /// Values that stayed where they were.
    pub kept: HashSet<Vec<u8>>,
    /// Values that stand where others or none had stood.
    pub written: HashSet<Vec<u8>>,
    /// Attributes that name or number somebody and stand unchanged, with the value.
    pub unchanged: BTreeSet<(Tag, Vec<u8>)>,
}

impl Differences {
    /// Compares one data set that arrived with the one that left in its place (empty: left out), both Explicit VR Little
    /// Endian. `None` if one of them cannot be read.
    pub fn note(&mut self, arrived: &[u8], left: &[u8]) -> Option<()> {
        let (arrived, left) = (values(arrived)?, values(left)?);
        let charset = Charset::of(&arrived);
        let own = own_items(&arrived);
        // Items of a sequence move up where one before them is taken away.
        let mut elsewhere: HashMap<(Vec<u32>, Tag), HashSet<&[u8]>> = HashMap::new();
        for ((path, tag), (vr, value)) in left.iter().filter(|((path, _), (vr, _))| !path.is_empty() && !counts(*vr)) {
            elsewhere.entry((sequences(path), *tag)).or_default().extend(parts(*tag, vr, value).unwrap_or_default());
        }
        for place in arrived.places() {
            let (path, tag) = place;
            let mut stays: Option<HashSet<&[u8]>> = None;
            for (vr, value) in arrived.at(place) {
                // Numbers of images and contours are compared nowhere else.
                if counts(vr) && !NUMBERS.contains(tag) && left.holds(place, (vr, value)) {
                    continue;
                }
                let Some(texts) = parts(*tag, vr, value) else { continue };
                let stays = stays.get_or_insert_with(|| left.texts(place));
                let moved = (!path.is_empty()).then(|| elsewhere.get(&(sequences(path), *tag))).flatten();
                for part in texts {
                    if is_own(path, *tag, &own) {
                        self.kept.insert(part.to_vec());
                    } else if stays.contains(part) {
                        if vr == VR::PN || NUMBERS.contains(tag) {
                            self.unchanged.insert((*tag, part.to_vec()));
                        }
                        self.kept.insert(part.to_vec());
                    } else if !class(*tag, vr, part).direct() && moved.is_some_and(|parts| parts.contains(part)) {
                        self.kept.insert(part.to_vec());
                    } else {
                        self.add(*tag, vr, part, &charset);
                    }
                }
            }
        }
        for place in left.places() {
            let mut before: Option<HashSet<&[u8]>> = None;
            for (vr, value) in left.at(place).filter(|value| !arrived.holds(place, *value)) {
                let before = before.get_or_insert_with(|| arrived.texts(place));
                let new = parts(place.1, vr, value).unwrap_or_default();
                self.written.extend(new.into_iter().filter(|part| !before.contains(*part)).map(<[u8]>::to_vec));
            }
        }
        Some(())
    }

    /// Takes every direct identifier of a data set of which nothing left.
    pub fn note_lost(&mut self, arrived: &[u8]) {
        let Some(arrived) = values(arrived) else { return };
        let charset = Charset::of(&arrived);
        for ((_, tag), (vr, value)) in arrived.iter() {
            let texts = parts(*tag, vr, value).unwrap_or_default();
            for part in texts.into_iter().filter(|part| class(*tag, vr, part).direct()) {
                self.add(*tag, vr, part, &charset);
            }
        }
    }

    /// Joins what was found elsewhere.
    pub fn join(&mut self, other: Differences) {
        for (gone, tag) in other.gone {
            self.goes(gone, tag);
        }
        self.kept.extend(other.kept);
        self.written.extend(other.written);
        self.unchanged.extend(other.unchanged);
    }

    /// A day on which somebody was born stays one, wherever else it stands.
    fn goes(&mut self, gone: Gone, tag: Tag) {
        let place = self.gone.entry(gone).or_insert(tag);
        if is_birth(tag) {
            *place = tag;
        }
    }

    fn add(&mut self, tag: Tag, vr: VR, part: &[u8], charset: &Charset) {
        let class = class(tag, vr, part);
        // The groups of a name (alphabetic, ideographic, phonetic) are names of their own.
        let groups: Vec<&[u8]> = match class {
            Class::Name => part.split(|&b| b == b'=').collect(),
            _ => vec![part],
        };
        for group in groups {
            for piece in ends(group) {
                let raw = trimmed(piece);
                if !raw.is_empty() {
                    let gone = Gone { raw: raw.to_vec(), text: charset.decoded(raw), class };
                    self.goes(gone, tag);
                }
            }
        }
    }
}

/// Whether an attribute says when somebody was born.
pub fn is_birth(tag: Tag) -> bool {
    matches!(tag, Tag(0x0010, 0x0030 | 0x0032 | 0x0033 | 0x0034))
}

/// Numbers written as text.
fn counts(vr: VR) -> bool {
    matches!(vr, VR::DS | VR::IS)
}

/// The tags of a path without the numbers of the items.
fn sequences(path: &[u32]) -> Vec<u32> {
    path.iter().step_by(2).copied().collect()
}

/// Items of Contributing Equipment Sequence that Gantry wrote itself, and would write again.
fn own_items(values: &Values) -> BTreeSet<u32> {
    let mut own = BTreeSet::new();
    for ((path, tag), (_, value)) in values.iter() {
        if let [sequence, item] = path.as_slice()
            && *sequence == number(tags::CONTRIBUTING_EQUIPMENT_SEQUENCE)
            && *tag == tags::MANUFACTURER
            && trimmed(value) == MANUFACTURER.as_bytes()
        {
            own.insert(*item);
        }
    }
    own
}

/// Whether a text is Gantry's own, of an object that it derived: how it was derived, and by what.
fn is_own(path: &[u32], tag: Tag, own: &BTreeSet<u32>) -> bool {
    match path {
        [] => tag == tags::DERIVATION_DESCRIPTION && !own.is_empty(),
        [sequence, item, ..] => *sequence == number(tags::CONTRIBUTING_EQUIPMENT_SEQUENCE) && own.contains(item),
        _ => false,
    }
}

fn class(tag: Tag, vr: VR, part: &[u8]) -> Class {
    match vr {
        // A maker called like a patient is left in peace: a name has at least two parts.
        VR::PN if part.split(|b| matches!(b, b'^' | b' ' | b'=')).filter(|p| !p.is_empty()).count() >= 2 => Class::Name,
        VR::PN if !part.is_ascii() => Class::Name,
        VR::UI => Class::Uid,
        VR::DA | VR::DT | VR::TM => Class::Moment,
        _ if NUMBERS.contains(&tag) && is_number(part) => Class::Identifier,
        _ => Class::Text,
    }
}

/// Whether a value has digits enough for somebody's number, or letters and digits that are enough together.
fn is_number(part: &[u8]) -> bool {
    let digits = part.iter().filter(|b| b.is_ascii_digit()).count();
    let letters = part.iter().filter(|b| b.is_ascii_alphabetic()).count();
    digits >= DIGITS || (digits > 0 && letters > 0 && digits + letters >= LETTERS_AND_DIGITS)
}

#[cfg(test)]
mod tests {
    use super::super::element_texts::END;
    use super::*;
    use dicom_core::DataElement;
    use dicom_core::value::PrimitiveValue;
    use dicom_object::InMemDicomObject;
    use dicom_transfer_syntax_registry::entries::EXPLICIT_VR_LITTLE_ENDIAN;

    fn data_set(elements: &[(Tag, VR, &[u8])]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (tag, vr, value) in elements {
            let long = matches!(vr, VR::UN | VR::OB | VR::UT | VR::UC);
            let mut value = value.to_vec();
            if value.len() % 2 == 1 {
                value.push(b' ');
            }
            bytes.extend(tag.group().to_le_bytes());
            bytes.extend(tag.element().to_le_bytes());
            bytes.extend(vr.to_bytes());
            match long {
                true => bytes.extend([[0, 0].as_slice(), &(value.len() as u32).to_le_bytes()].concat()),
                false => bytes.extend((value.len() as u16).to_le_bytes()),
            }
            bytes.extend(value);
        }
        bytes
    }

    fn gone(differences: &Differences) -> Vec<String> {
        differences.gone.keys().map(|g| String::from_utf8_lossy(&g.raw).into_owned()).collect()
    }

    #[test]
    fn what_left_its_place_is_gone_and_what_stayed_is_kept() {
        let arrived = data_set(&[
            (tags::IMAGE_TYPE, VR::CS, b"ORIGINAL\\SECRET"),
            (tags::MANUFACTURER, VR::LO, b"MAKER"),
            (tags::PATIENT_NAME, VR::PN, b"Miller^Ann=\xe4"),
            (tags::PATIENT_ID, VR::LO, b"ID-4711"),
            (Tag(0x0009, 0x1001), VR::UN, b"printable words"),
            (Tag(0x0009, 0x1002), VR::OB, &[1, 2, 3, 4]),
        ]);
        let left = data_set(&[
            (tags::IMAGE_TYPE, VR::CS, b"ORIGINAL\\OTHER"),
            (tags::MANUFACTURER, VR::LO, b"MAKER "),
            (tags::PATIENT_NAME, VR::PN, b"GXYZ"),
            (tags::PATIENT_ID, VR::LO, b"ID-4711"),
        ]);
        let mut differences = Differences::default();
        differences.note(&arrived, &left).expect("readable");
        let mut found = gone(&differences);
        found.sort();
        assert_eq!(found, ["Miller^Ann", "SECRET", "printable words", "\u{fffd}"]);
        assert!(differences.kept.contains(b"MAKER".as_slice()) && differences.kept.contains(b"ORIGINAL".as_slice()));
        assert!(differences.written.contains(b"GXYZ".as_slice()) && differences.written.contains(b"OTHER".as_slice()));
        let unchanged: Vec<_> = differences.unchanged.iter().map(|(tag, _)| *tag).collect();
        assert_eq!(unchanged, [tags::PATIENT_ID]);
        assert!(differences.note(&arrived[..arrived.len() - 3], &left).is_none());
    }

    #[test]
    fn numbers_with_few_digits_identify_by_their_letters() {
        for (value, identifies) in [
            ("QWERTZ12", true),
            ("PID-955", true),
            ("4711", true),
            ("AB-471", false),
            ("471", false),
            ("QWERTZ", false),
            ("", false),
        ] {
            for tag in [tags::PATIENT_ID, tags::ACCESSION_NUMBER] {
                let class = class(tag, VR::LO, value.as_bytes());
                assert!((class == Class::Identifier) == identifies, "{value}");
            }
            assert!(class(tags::CONVOLUTION_KERNEL, VR::LO, value.as_bytes()) == Class::Text, "{value}");
        }
    }

    #[test]
    fn a_tag_that_stands_twice_is_seen_twice() {
        let twice = |first: &[u8], second: &[u8]| {
            data_set(&[(tags::PATIENT_NAME, VR::PN, first), (tags::PATIENT_NAME, VR::PN, second)])
        };
        let arrived = twice(b"Miller^Ann", b"Kuehn^Ida");
        let mut differences = Differences::default();
        differences.note(&arrived, &data_set(&[(tags::PATIENT_NAME, VR::PN, b"GXYZ")])).expect("readable");
        assert_eq!(gone(&differences), ["Kuehn^Ida", "Miller^Ann"]);
        let mut differences = Differences::default();
        differences.note(&arrived, &twice(b"GXYZ", b"Miller^Ann")).expect("readable");
        assert_eq!(gone(&differences), ["Kuehn^Ida"]);
        assert!(differences.unchanged.contains(&(tags::PATIENT_NAME, b"Miller^Ann".to_vec())));
        assert!(differences.written.contains(b"GXYZ".as_slice()));
        let mut differences = Differences::default();
        differences.note_lost(&arrived);
        assert_eq!(gone(&differences), ["Kuehn^Ida", "Miller^Ann"]);
    }

    #[test]
    fn a_tag_that_stands_very_often_is_compared_quickly() {
        let many = |from: u32| -> Vec<Vec<u8>> { (from..from + 50_000).map(|i| format!("{i:06}").into()).collect() };
        let of = |values: &[Vec<u8>]| {
            let elements: Vec<_> = values.iter().map(|v| (tags::STUDY_DESCRIPTION, VR::LO, v.as_slice())).collect();
            data_set(&elements)
        };
        let mut differences = Differences::default();
        let started = std::time::Instant::now();
        differences.note(&of(&many(0)), &of(&many(25_000))).expect("readable");
        assert_eq!((differences.gone.len(), differences.written.len()), (25_000, 25_000));
        assert!(started.elapsed().as_secs() < 10, "{:?}", started.elapsed());
    }

    #[test]
    fn of_long_private_texts_the_ends_are_known() {
        let filling = "and so on ".repeat(500);
        let long =
            format!("Written for Miller^Ann on the first of May: {filling} signed by the doctor Ida Kuehn-Berger.");
        let list = format!("Miller^Ann\\0\\1.5\\{}\\2.5\\0\\Kuehn^Ida", "4711\\".repeat(2000));
        for (text, wanted) in [
            (&long, vec![long[..END].trim(), long[long.len() - END..].trim()]),
            (&list, vec!["0", "1.5", "2.5", "4711", "Kuehn^Ida", "Miller^Ann"]),
        ] {
            let arrived = data_set(&[(Tag(0x0009, 0x1001), VR::UN, text.as_bytes())]);
            let mut differences = Differences::default();
            differences.note(&arrived, &[]).expect("readable");
            let found = gone(&differences);
            assert!(wanted.iter().all(|w| found.iter().any(|f| f == w)), "{found:?}");
            assert!(found.len() <= wanted.len() && found.iter().all(|f| f.len() <= END), "{found:?}");
        }
    }

    #[test]
    fn many_values_of_one_attribute_are_compared_quickly() {
        let many =
            |from: u32| -> Vec<u8> { (from..from + 9000).map(|i| format!("{i:06}\\")).collect::<String>().into() };
        let text = Tag(0x0040, 0xA160);
        let before = data_set(&[(text, VR::UT, b"x"), (tags::CONTOUR_DATA, VR::UC, &many(0))]);
        let after = data_set(&[(text, VR::UT, b"x"), (tags::CONTOUR_DATA, VR::UC, &many(4500))]);
        let same = data_set(&[(tags::CONTOUR_DATA, VR::DS, b"1.25\\2.5")]);
        let started = std::time::Instant::now();
        let mut differences = Differences::default();
        for _ in 0..20 {
            differences.note(&before, &after).expect("readable");
            differences.note(&same, &same).expect("readable");
        }
        assert_eq!((differences.gone.len(), differences.written.len()), (4500, 4500));
        assert!(!differences.kept.contains(b"1.25".as_slice()));
        assert!(started.elapsed().as_secs() < 20, "{:?}", started.elapsed());
    }

    #[test]
    fn a_value_of_another_character_set_is_known_both_ways() {
        let object = InMemDicomObject::from_element_iter([
            DataElement::new(tags::SPECIFIC_CHARACTER_SET, VR::CS, PrimitiveValue::from("ISO_IR 100")),
            DataElement::new(tags::INSTITUTION_NAME, VR::LO, PrimitiveValue::from("Klinik Süd")),
        ]);
        let mut arrived = Vec::new();
        object.write_dataset_with_ts(&mut arrived, &EXPLICIT_VR_LITTLE_ENDIAN.erased()).unwrap();
        let mut differences = Differences::default();
        differences.note(&arrived, &[]).expect("readable");
        let only = differences.gone.keys().next().expect("one value");
        assert_eq!((only.raw.as_slice(), only.text.as_deref()), (b"Klinik S\xfcd".as_slice(), Some("Klinik Süd")));
    }

    #[test]
    fn of_a_data_set_that_never_left_the_direct_identifiers_are_known() {
        let arrived = data_set(&[
            (tags::MODALITY, VR::CS, b"CT"),
            (tags::PATIENT_NAME, VR::PN, b"Miller^Ann"),
            (tags::PATIENT_ID, VR::LO, b"4711"),
        ]);
        let mut differences = Differences::default();
        differences.note_lost(&arrived);
        assert_eq!(gone(&differences), ["4711", "Miller^Ann"]);
    }
}
