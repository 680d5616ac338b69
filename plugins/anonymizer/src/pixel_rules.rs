//! [`PixelRule`]: where devices write text into pixels, and what is blanked there.
//!
//! `modality=US manufacturer="ACME Corp" model=X100 rows=480 columns=640 blank=0,0,640,40;0,440,640,40`: what is not
//! named matches everything, `*` stands for any text, letter case does not count. `blank` is a list of rectangles
//! `x,y,width,height` in pixels, or `outside-ultrasound-regions`, which blanks everything outside the regions that the
//! image itself describes.

use crate::value;
use dicom_core::Tag;
use dicom_dictionary_std::tags;
use dicom_object::InMemDicomObject;
use std::collections::BTreeSet;

/// A rectangle of pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(into = "[u32; 4]")]
pub struct Rectangle {
    /// Left edge.
    pub x: u32,
    /// Upper edge.
    pub y: u32,
    /// Columns.
    pub width: u32,
    /// Rows.
    pub height: u32,
}

impl From<Rectangle> for [u32; 4] {
    fn from(r: Rectangle) -> Self {
        [r.x, r.y, r.width, r.height]
    }
}

/// What a rule blanks.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Blank {
    Rectangles(Vec<Rectangle>),
    OutsideUltrasoundRegions,
}

/// A rule of the site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PixelRule {
    texts: Vec<(Tag, String)>,
    rows: Option<u32>,
    columns: Option<u32>,
    blank: Blank,
}

/// The keys that compare a text.
const TEXTS: [(&str, Tag); 6] = [
    ("modality", tags::MODALITY),
    ("manufacturer", tags::MANUFACTURER),
    ("model", tags::MANUFACTURER_MODEL_NAME),
    ("software", tags::SOFTWARE_VERSIONS),
    ("class", tags::SOP_CLASS_UID),
    ("image-type", tags::IMAGE_TYPE),
];

impl PixelRule {
    /// Reads the parameter `pixel_rules`.
    ///
    /// # Errors
    /// The number of the first rule that is wrong (from 1), and what is wrong, in words for the user.
    pub fn parse_all(rules: &[String]) -> Result<Vec<Self>, String> {
        let numbered = rules.iter().enumerate();
        numbered.map(|(n, text)| Self::parse(text).map_err(|e| format!("pixel_rules, number {}: {e}", n + 1))).collect()
    }

    fn parse(text: &str) -> Result<Self, String> {
        let (mut texts, mut rows, mut columns, mut blank) = (Vec::new(), None, None, None);
        let mut seen = BTreeSet::new();
        for (key, value) in words(text)? {
            if !seen.insert(key.clone()) {
                return Err(format!("`{key}` stands twice"));
            }
            let count = || match value.parse::<u32>() {
                Ok(n) if (1..=65535).contains(&n) => Ok(Some(n)),
                _ => Err(format!("`{key}` must be a number from 1 to 65535, not `{value}`")),
            };
            match key.as_str() {
                "rows" => rows = count()?,
                "columns" => columns = count()?,
                "blank" if value == "outside-ultrasound-regions" => blank = Some(Blank::OutsideUltrasoundRegions),
                "blank" => blank = Some(Blank::Rectangles(rectangles(&value)?)),
                _ => match TEXTS.iter().find(|(name, _)| *name == key) {
                    Some((_, tag)) => texts.push((*tag, value.to_lowercase())),
                    None => {
                        let known: Vec<&str> = TEXTS.iter().map(|(name, _)| *name).collect();
                        return Err(format!(
                            "`{key}` is not known; a rule takes {}, rows, columns and blank",
                            known.join(", ")
                        ));
                    }
                },
            }
        }
        let blank = blank.ok_or("`blank` is missing: say what is blanked")?;
        if let Blank::Rectangles(rectangles) = &blank {
            for r in rectangles {
                if columns.is_some_and(|c| r.x + r.width > c) || rows.is_some_and(|h| r.y + r.height > h) {
                    return Err(format!(
                        "the rectangle {},{},{},{} lies outside the image of the rule",
                        r.x, r.y, r.width, r.height
                    ));
                }
            }
        }
        Ok(Self { texts, rows, columns, blank })
    }

    /// What the rule blanks in an image: `None` where it does not match, or where nothing of its rectangles lies in the
    /// image, or the image does not describe its regions.
    pub fn blanks(&self, dataset: &InMemDicomObject) -> Option<Vec<Rectangle>> {
        let (width, height) = (count(dataset, tags::COLUMNS)?, count(dataset, tags::ROWS)?);
        let right_size = self.rows.is_none_or(|r| r == height) && self.columns.is_none_or(|c| c == width);
        let right_texts = self.texts.iter().all(|(tag, pattern)| {
            let text = dataset.get(*tag).map(|e| value::texts(e.value()).join("\\")).unwrap_or_default();
            matches_pattern(pattern, &text.to_lowercase())
        });
        if !right_size || !right_texts {
            return None;
        }
        let found = match &self.blank {
            Blank::Rectangles(all) => all.iter().filter_map(|r| clipped(*r, width, height)).collect(),
            Blank::OutsideUltrasoundRegions => outside(&regions(dataset, width, height)?, width, height),
        };
        Some(found).filter(|found: &Vec<_>| !found.is_empty())
    }
}

/// What all rules together blank in an image; nothing where none applies.
pub fn blanks(rules: &[PixelRule], dataset: &InMemDicomObject) -> Vec<Rectangle> {
    let all: BTreeSet<Rectangle> = rules.iter().filter_map(|rule| rule.blanks(dataset)).flatten().collect();
    all.into_iter().collect()
}

/// Splits `key=value` words; a value in double quotes may hold spaces.
fn words(text: &str) -> Result<Vec<(String, String)>, String> {
    let mut all = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let (key, after) = rest.split_once('=').ok_or("expected `key=value` words")?;
        if key.is_empty() || !key.chars().all(|c| c.is_ascii_lowercase() || c == '-') {
            return Err("expected `key=value` words with keys of small letters".into());
        }
        let (value, after) = match after.strip_prefix('"') {
            Some(quoted) => {
                let (value, after) = quoted.split_once('"').ok_or("a quotation mark is not closed")?;
                if after.starts_with(|c: char| !c.is_whitespace()) {
                    return Err("expected a space after a closing quotation mark".into());
                }
                (value, after)
            }
            None => after.split_once(char::is_whitespace).unwrap_or((after, "")),
        };
        if value.is_empty() {
            return Err(format!("`{key}` has no value"));
        }
        all.push((key.to_owned(), value.to_owned()));
        rest = after.trim_start();
    }
    Ok(all)
}

fn rectangles(text: &str) -> Result<Vec<Rectangle>, String> {
    let one = |text: &str| -> Option<Rectangle> {
        let numbers: Option<Vec<u32>> =
            text.split(',').map(|n| n.trim().parse().ok().filter(|n| *n <= 65535)).collect();
        let [x, y, width, height] = numbers?.try_into().ok()?;
        (width > 0 && height > 0).then_some(Rectangle { x, y, width, height })
    };
    let wrong = |text: &str| format!("expected a rectangle `x,y,width,height` of whole numbers, found `{text}`");
    text.split(';').map(|part| one(part).ok_or_else(|| wrong(part))).collect()
}

/// Whether a text is what a pattern with `*` says.
fn matches_pattern(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else { return rest.is_empty() };
    for part in parts {
        // An empty part stands between two stars and matches where it is.
        let Some((_, after)) = rest.split_once(part) else { return false };
        rest = after;
    }
    rest.ends_with(last)
}

fn count(dataset: &InMemDicomObject, tag: Tag) -> Option<u32> {
    dataset.get(tag)?.to_int::<u32>().ok().filter(|n| *n > 0)
}

fn clipped(r: Rectangle, width: u32, height: u32) -> Option<Rectangle> {
    let (right, below) = ((r.x + r.width).min(width), (r.y + r.height).min(height));
    (r.x < right && r.y < below).then(|| Rectangle { width: right - r.x, height: below - r.y, ..r })
}

/// The regions of Sequence of Ultrasound Regions, inside the image; `None` where there are none, or one is malformed.
fn regions(dataset: &InMemDicomObject, width: u32, height: u32) -> Option<Vec<Rectangle>> {
    let items = dataset.get(tags::SEQUENCE_OF_ULTRASOUND_REGIONS)?.items()?;
    let region = |item: &InMemDicomObject| {
        let edge = |tag: Tag| item.get(tag)?.to_int::<u32>().ok().filter(|n| *n <= 65535);
        let (left, top) = (edge(tags::REGION_LOCATION_MIN_X0)?, edge(tags::REGION_LOCATION_MIN_Y0)?);
        // Both corners belong to the region.
        let (right, bottom) = (edge(tags::REGION_LOCATION_MAX_X1)?, edge(tags::REGION_LOCATION_MAX_Y1)?);
        if right < left || bottom < top {
            return None;
        }
        clipped(Rectangle { x: left, y: top, width: right - left + 1, height: bottom - top + 1 }, width, height)
    };
    let all: Option<Vec<Rectangle>> = items.iter().map(region).collect();
    all.filter(|all| !all.is_empty())
}

/// Rectangles that cover everything outside the regions, band by band.
fn outside(regions: &[Rectangle], width: u32, height: u32) -> Vec<Rectangle> {
    let mut edges: BTreeSet<u32> = regions.iter().flat_map(|r| [r.y, r.y + r.height]).collect();
    edges.extend([0, height]);
    let edges: Vec<u32> = edges.into_iter().collect();
    let mut all = Vec::new();
    for band in edges.windows(2) {
        let &[top, bottom] = band else { continue };
        let mut inside: Vec<(u32, u32)> =
            regions.iter().filter(|r| r.y <= top && bottom <= r.y + r.height).map(|r| (r.x, r.x + r.width)).collect();
        inside.sort_unstable();
        let mut x = 0;
        for (left, right) in inside.into_iter().chain([(width, width)]) {
            if left > x {
                all.push(Rectangle { x, y: top, width: left - x, height: bottom - top });
            }
            x = x.max(right);
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dummy;
    use dicom_core::{DataElement, PrimitiveValue, VR};

    fn number(tag: Tag, n: u32) -> dicom_object::mem::InMemElement {
        DataElement::new(tag, VR::UL, PrimitiveValue::from(n))
    }

    fn image() -> InMemDicomObject {
        let region = |x0: u32, y0: u32, x1: u32, y1: u32| {
            InMemDicomObject::from_element_iter([
                number(tags::REGION_LOCATION_MIN_X0, x0),
                number(tags::REGION_LOCATION_MIN_Y0, y0),
                number(tags::REGION_LOCATION_MAX_X1, x1),
                number(tags::REGION_LOCATION_MAX_Y1, y1),
            ])
        };
        InMemDicomObject::from_element_iter([
            dummy::text((0x0008, 0x0060), VR::CS, "US"),
            dummy::text((0x0008, 0x0070), VR::LO, "ACME Corp"),
            dummy::text((0x0008, 0x1090), VR::LO, "X100 Pro"),
            DataElement::new(tags::ROWS, VR::US, PrimitiveValue::from(20u16)),
            DataElement::new(tags::COLUMNS, VR::US, PrimitiveValue::from(30u16)),
            dummy::sequence(
                tags::SEQUENCE_OF_ULTRASOUND_REGIONS,
                vec![region(5, 4, 14, 15), region(10, 8, 40, 11), region(2, 18, 3, 18)],
            ),
        ])
    }

    fn rule(text: &str) -> PixelRule {
        PixelRule::parse(text).expect(text)
    }

    #[test]
    fn rules_match_what_they_name() {
        let one = Some(vec![Rectangle { x: 0, y: 0, width: 30, height: 4 }]);
        for text in [
            "blank=0,0,30,4",
            "modality=us blank=0,0,30,4",
            "modality=US manufacturer=\"acme corp\" model=X100* rows=20 columns=30 blank=0,0,30,4",
            "model=*100*pro blank=0,0,30,4",
            "model=* blank=0,0,30,4",
            "model=x**o blank=0,0,300,4",
        ] {
            assert_eq!(rule(text).blanks(&image()), one, "{text}");
        }
        for text in [
            "modality=U blank=0,0,30,4",
            "modality=CT blank=0,0,30,4",
            "model=X100 blank=0,0,30,4",
            "model=*pro*100* blank=0,0,30,4",
            "model=*x blank=0,0,30,4",
            "rows=21 blank=0,0,30,4",
            "columns=20 blank=0,0,20,4",
            "software=1 blank=0,0,30,4",
            "blank=30,0,5,5",
        ] {
            assert_eq!(rule(text).blanks(&image()), None, "{text}");
        }
        let both = blanks(&[rule("blank=0,0,1,1"), rule("blank=1,1,1,1"), rule("modality=CT blank=2,2,1,1")], &image());
        assert_eq!(both.len(), 2);
        assert_eq!(blanks(&[], &image()), []);
    }

    #[test]
    fn everything_outside_the_regions_is_blanked_and_nothing_inside() {
        let rule = rule("blank=outside-ultrasound-regions");
        let found = rule.blanks(&image()).expect("blanked");
        for y in 0..20 {
            for x in 0..30 {
                let in_first = (5..=14).contains(&x) && (4..=15).contains(&y);
                let in_second = (10..30).contains(&x) && (8..=11).contains(&y);
                let in_third = (2..=3).contains(&x) && y == 18;
                let times = found
                    .iter()
                    .filter(|r| (r.x..r.x + r.width).contains(&x) && (r.y..r.y + r.height).contains(&y))
                    .count();
                assert_eq!(times, usize::from(!(in_first || in_second || in_third)), "{x}, {y}");
            }
        }
        let mut none = image();
        none.remove_element(tags::SEQUENCE_OF_ULTRASOUND_REGIONS);
        assert_eq!(rule.blanks(&none), None);
    }

    #[test]
    fn malformed_rules_are_refused_by_number() {
        for (text, expected) in [
            ("", "`blank` is missing"),
            ("modality=US", "`blank` is missing"),
            ("US", "expected `key=value`"),
            ("Modality=US blank=0,0,1,1", "small letters"),
            ("station=A blank=0,0,1,1", "`station` is not known"),
            ("modality= blank=0,0,1,1", "`modality` has no value"),
            ("modality=US modality=CT blank=0,0,1,1", "`modality` stands twice"),
            ("manufacturer=\"ACME blank=0,0,1,1", "not closed"),
            ("manufacturer=\"A\"B blank=0,0,1,1", "expected a space"),
            ("rows=0 blank=0,0,1,1", "from 1 to 65535"),
            ("rows=x blank=0,0,1,1", "from 1 to 65535"),
            ("blank=0,0,1", "expected a rectangle"),
            ("blank=0,0,0,1", "expected a rectangle"),
            ("blank=0,0,1,99999999999", "expected a rectangle"),
            ("blank=-1,0,1,1", "expected a rectangle"),
            ("columns=10 blank=5,0,6,1", "lies outside"),
            ("blank=everything", "expected a rectangle"),
        ] {
            let rules = ["blank=0,0,1,1".to_owned(), text.to_owned()];
            let error = PixelRule::parse_all(&rules).expect_err(text);
            assert!(error.starts_with("pixel_rules, number 2: ") && error.contains(expected), "{text}: {error}");
        }
    }
}
