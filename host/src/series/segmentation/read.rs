//! Reading a segmentation back: its frames onto a grid that they must lie on, its segments as a label table.

use std::path::Path;

use dicom_core::Tag;
use dicom_dictionary_std::{tags, uids};
use dicom_object::InMemDicomObject;

use super::Segment;
use super::colour;
use super::onto::{Placed, place};
use super::segments::{LATERALITY, SIDES};
use crate::series::facts::Facts;
use crate::series::geometry::Geometry;
use crate::series::guard::{self, Outline, PixelSpan};
use crate::series::header::{integer, items, numbers, text};
use crate::series::input;
use crate::series::pixel::{self, PixelModule};
use crate::series::record::{Fault, SeriesKind, SeriesRecord};

/// Segmented Property Type of a label map's background.
const BACKGROUND: &str = "125040";
/// Shortest word of a patient's name or identifier that a label's name is searched for, characters.
const SHORTEST: usize = 2;
/// … and from this length on also inside longer words. Words in other than Latin letters are short and run together: they
/// are searched for inside others at any length.
const LONG: usize = 5;

/// A label map read from a segmentation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelMap {
    /// Labels on the grid that was asked for, `[z, y, x]`; 0 where no frame has a segment.
    pub voxels: Vec<u8>,
    /// What the values mean, ascending. Values are segment numbers, but 1 for a segment that was chosen.
    pub table: Vec<Segment>,
    /// How many segments had a name that repeats the patient's, and got another.
    pub renamed: usize,
}

/// Whether a file is a DICOM file (PS3.10): it has the mark after its preamble.
///
/// # Errors
/// `unreadable`, `not-a-file`
pub fn is_dicom(path: &Path) -> Result<bool, Fault> {
    let (file, _) = input::open(path)?;
    let head = input::read_head::<132>(&file)?;
    Ok(head.get(128..) == Some(b"DICM"))
}

/// Reads a segmentation of `series` (one patient, one frame of reference) onto `grid`. `chosen` takes one segment alone,
/// by its number or else its label; empty: all of them, which must not overlap. Frames may be in any order and direction,
/// and lack where nothing is; each must lie on voxels of the grid within `tolerance_mm`.
///
/// # Errors
/// A [`Fault`] whose text holds no patient text: `unreadable`, `not-a-segmentation`, `fractional-segmentation`,
/// `other-patient`, `frame-of-reference`, `grid`, `overlapping-segments`, `no-segment`, `too-many-segments`,
/// `label-unknown`, `transfer-syntax`, `pixel-length`, `frames`, `segments`, and what the guard refuses.
pub fn read(
    path: &Path,
    series: &SeriesRecord,
    grid: &Geometry,
    chosen: &str,
    tolerance_mm: f64,
) -> Result<LabelMap, Fault> {
    let not = |what: &str| Fault::new("not-a-segmentation", what.to_owned());
    let outline = guard::walk(input::read(path)?)?.ok_or_else(|| not("the file is not DICOM"))?;
    let mut header = crate::series::header::parse(&outline)?;
    let class = text(&header, tags::SOP_CLASS_UID).unwrap_or_default();
    if class != uids::SEGMENTATION_STORAGE && class != uids::LABEL_MAP_SEGMENTATION_STORAGE {
        return Err(not("the DICOM file is no segmentation: expected Segmentation or Label Map Segmentation Storage"));
    }
    let facts = Facts::of(&header)?;
    same_patient(&facts, series)?;
    let segments = Segments::of(&header, chosen, series)?;
    let placed = facts
        .frames
        .iter()
        .enumerate()
        .map(|(f, frame)| {
            let missing = || Fault::new("frames", format!("frame {f} does not say where it lies"));
            place(&frame.plane.ok_or_else(missing)?, [facts.rows, facts.columns], grid, tolerance_mm)
                .map_err(|fault| fault.at(format_args!("frame {f}")))
        })
        .collect::<Result<Vec<Placed>, Fault>>()?;
    let mut map = Map { voxels: vec![0; grid.size.iter().product()], grid };
    match text(&header, tags::SEGMENTATION_TYPE).as_deref() {
        Some("BINARY") => binary(&header, &outline, &facts, &segments, &placed, &mut map)?,
        Some("LABELMAP") => {
            // Colours of a palette are for showing; the values are the labels all the same.
            header.put(dicom_core::DataElement::new(
                tags::PHOTOMETRIC_INTERPRETATION,
                dicom_core::VR::CS,
                "MONOCHROME2",
            ));
            labelmap(&header, &outline, &segments, &placed, &mut map)?;
        }
        Some("FRACTIONAL") => {
            let text = "the segmentation is FRACTIONAL (probabilities or occupancies), expected BINARY or LABELMAP";
            return Err(Fault::new("fractional-segmentation", text));
        }
        _ => return Err(not("its Segmentation Type is none of BINARY, LABELMAP and FRACTIONAL")),
    }
    Ok(LabelMap { voxels: map.voxels, table: segments.table(), renamed: segments.renamed })
}

/// A segmentation of another patient, or in another frame of reference, is not of this series, wherever it lies. Of a
/// NIfTI file nobody knows either; there the grid has to do.
fn same_patient(facts: &Facts, series: &SeriesRecord) -> Result<(), Fault> {
    if series.kind == SeriesKind::Dicom && !facts.patient.is_empty() && facts.patient != series.patient {
        return Err(Fault::new("other-patient", "the segmentation is of another patient than the series"));
    }
    let source = series.geometry.as_ref().and_then(|g| g.frame_of_reference.as_ref()).filter(|uid| !uid.is_empty());
    match (facts.frame_of_reference.as_ref(), source) {
        (Some(ours), Some(theirs)) if ours != theirs => Err(Fault::new(
            "frame-of-reference",
            "the segmentation is in another frame of reference than the series: places cannot be compared",
        )),
        _ => Ok(()),
    }
}

/// Segment numbers, the values they get, and their rows of the table.
struct Segments {
    rows: Vec<(u16, Segment)>,
    /// Numbers that mean background.
    background: Vec<u16>,
    /// All but one segment are to be passed over.
    chosen: bool,
    /// Every number that is described.
    described: Vec<u16>,
    renamed: usize,
}

impl Segments {
    fn of(header: &InMemDicomObject, chosen: &str, series: &SeriesRecord) -> Result<Segments, Fault> {
        let words = words_of_patient(header, series);
        let mut all = Segments {
            rows: Vec::new(),
            background: integer(header, tags::PIXEL_PADDING_VALUE)
                .and_then(|v| u16::try_from(v).ok())
                .into_iter()
                .collect(),
            chosen: !chosen.is_empty(),
            described: Vec::new(),
            renamed: 0,
        };
        for item in items(header, tags::SEGMENT_SEQUENCE) {
            let number = integer(item, tags::SEGMENT_NUMBER).and_then(|n| u16::try_from(n).ok());
            let number = number.ok_or_else(|| Fault::new("segments", "a segment has no number"))?;
            if all.described.contains(&number) {
                return Err(Fault::new("segments", format!("the segment number {number} is used twice")));
            }
            all.described.push(number);
            let category = code(item, tags::SEGMENTED_PROPERTY_CATEGORY_CODE_SEQUENCE);
            let own = code(item, tags::SEGMENTED_PROPERTY_TYPE_CODE_SEQUENCE);
            if own == ("DCM".to_owned(), BACKGROUND.to_owned()) {
                all.background.push(number);
                continue;
            }
            if all.background.contains(&number) {
                continue;
            }
            let label = text(item, tags::SEGMENT_LABEL).unwrap_or_default();
            let is_chosen = match chosen.parse::<u16>() {
                Ok(wanted) => wanted == number,
                Err(_) => label == chosen,
            };
            if all.chosen && !is_chosen {
                continue;
            }
            let repeats = repeats(&label, &words);
            all.renamed += usize::from(repeats);
            let name = if label.is_empty() || repeats { format!("segment {number}") } else { label };
            // A type that only repeats the category says nothing of its own.
            let (scheme, code) = if own == category { (String::new(), String::new()) } else { own };
            let lab = numbers(item, tags::RECOMMENDED_DISPLAY_CIE_LAB_VALUE)
                .and_then(|v| <[f64; 3]>::try_from(v).ok())
                .map(|v| v.map(|n| n.clamp(0.0, 65535.0) as u16));
            let value = match all.chosen {
                true => 1,
                false => u8::try_from(number).map_err(|_| {
                    let text =
                        format!("segment number {number}: labels go up to 255; `segment` reads one segment alone");
                    Fault::new("too-many-segments", text)
                })?,
            };
            let rgba = lab.map_or(0, colour::to_rgba);
            all.rows.push((number, Segment { value, name, scheme, code, rgba }));
        }
        if all.chosen && all.rows.len() != 1 {
            let text = format!("{} of its {} segments are the one to read", all.rows.len(), all.described.len());
            return Err(Fault::new("no-segment", text));
        }
        if let Some((number, _)) = all.rows.iter().find(|(_, row)| row.value == 0) {
            return Err(Fault::new("segments", format!("segment number {number} is no background")));
        }
        if all.rows.is_empty() {
            return Err(Fault::new("no-segment", "the segmentation describes no segment"));
        }
        Ok(all)
    }

    /// The value of a segment number: `None` where it is to be passed over.
    fn value(&self, number: u16) -> Result<Option<u8>, Fault> {
        if let Some((_, row)) = self.rows.iter().find(|(n, _)| *n == number) {
            return Ok(Some(row.value));
        }
        let known = self.background.contains(&number) || number == 0 || self.described.contains(&number);
        if known {
            return Ok(None);
        }
        Err(Fault::new(
            "label-unknown",
            format!("the segmentation uses the segment number {number} and does not describe it"),
        ))
    }

    /// Rows in rising order; names that are used twice are told apart by their number.
    fn table(&self) -> Vec<Segment> {
        let twice = |name: &str| self.rows.iter().filter(|(_, row)| row.name == name).count() > 1;
        let mut all: Vec<Segment> = self
            .rows
            .iter()
            .map(|(number, row)| match twice(&row.name) {
                true => Segment { name: format!("{} {number}", row.name), ..row.clone() },
                false => row.clone(),
            })
            .collect();
        all.sort_by_key(|row| row.value);
        all
    }
}

/// Scheme and value of the code in a sequence.
fn code(item: &InMemDicomObject, sequence: Tag) -> (String, String) {
    let Some(code) = items(item, sequence).first() else { return Default::default() };
    let value = |code: &InMemDicomObject| {
        text(code, tags::CODE_VALUE).or_else(|| text(code, tags::LONG_CODE_VALUE)).unwrap_or_default()
    };
    let modifier = items(code, tags::SEGMENTED_PROPERTY_TYPE_MODIFIER_CODE_SEQUENCE).first().map(value);
    let side = modifier.filter(|modifier| SIDES.iter().any(|(side, _)| side == modifier));
    let value = value(code) + &side.map(|side| format!("{LATERALITY}{side}")).unwrap_or_default();
    (text(code, tags::CODING_SCHEME_DESIGNATOR).unwrap_or_default(), value)
}

/// Whether a label has one of these words, or a long one of them inside another word.
fn repeats(label: &str, words: &[String]) -> bool {
    let label = label.to_lowercase();
    let has = |word: &String| label.split(|c: char| !c.is_alphanumeric()).any(|own| own == word);
    words.iter().any(|word| has(word) || ((word.chars().count() >= LONG || !word.is_ascii()) && label.contains(word)))
}

/// Words of the patient's name and identifiers, in small letters: no label may carry them on.
fn words_of_patient(header: &InMemDicomObject, series: &SeriesRecord) -> Vec<String> {
    let mut texts = vec![series.patient.clone()];
    for tag in [tags::PATIENT_NAME, tags::PATIENT_ID, tags::OTHER_PATIENT_NAMES, tags::ACCESSION_NUMBER] {
        texts.extend(text(header, tag));
    }
    let words = texts.iter().flat_map(|t| t.split(|c: char| !c.is_alphanumeric()));
    let telling = |word: &&str| word.chars().count() >= if word.is_ascii() { SHORTEST } else { 1 };
    words.filter(telling).map(str::to_lowercase).collect()
}

/// The labels that are being put together.
struct Map<'g> {
    voxels: Vec<u8>,
    grid: &'g Geometry,
}

impl Map<'_> {
    /// Puts `value` at a voxel of a frame.
    fn put(&mut self, placed: &Placed, y: usize, x: usize, value: u8) -> Result<(), Fault> {
        let at = placed.index(y, x, self.grid.size);
        let voxel = self.voxels.get_mut(at).ok_or_else(|| Fault::new("grid", "a frame leaves the grid"))?;
        if *voxel != 0 && *voxel != value {
            return Err(Fault::new(
                "overlapping-segments",
                "segments overlap, and a label map has one label a voxel: `segment` reads one of them alone",
            ));
        }
        *voxel = value;
        Ok(())
    }
}

/// One bit a voxel, frames one after the other without filling up bytes.
fn binary(
    header: &InMemDicomObject,
    outline: &Outline<'_>,
    facts: &Facts,
    segments: &Segments,
    placed: &[Placed],
    map: &mut Map<'_>,
) -> Result<(), Fault> {
    let little = !outline.encoding.big_endian;
    let bytes = match &outline.pixels {
        PixelSpan::Native(range) if little => outline.data.get(range.clone()).unwrap_or(&[]),
        PixelSpan::Absent => return Err(Fault::new("no-pixel-data", "the file has no pixel data")),
        _ => {
            let text = "a BINARY segmentation is read from uncompressed little endian transfer syntaxes only";
            return Err(Fault::new("transfer-syntax", text));
        }
    };
    if integer(header, tags::BITS_ALLOCATED) != Some(1) {
        return Err(Fault::new("bits", "a BINARY segmentation must have 1 bit allocated"));
    }
    let pixels = facts.rows * facts.columns;
    let needed = (pixels * placed.len()).div_ceil(8);
    if bytes.len() < needed {
        let text = format!("the pixel data have {} bytes, expected {needed}", bytes.len());
        return Err(Fault::new("pixel-length", text));
    }
    let shared = items(header, tags::SHARED_FUNCTIONAL_GROUPS_SEQUENCE).first();
    let per_frame = items(header, tags::PER_FRAME_FUNCTIONAL_GROUPS_SEQUENCE);
    for (f, placed) in placed.iter().enumerate() {
        let group = [per_frame.get(f), shared].into_iter().flatten();
        let mut identified = group.filter_map(|g| items(g, tags::SEGMENT_IDENTIFICATION_SEQUENCE).first());
        let number = identified.next().and_then(|i| integer(i, tags::REFERENCED_SEGMENT_NUMBER));
        let number = number.and_then(|n| u16::try_from(n).ok());
        let number = number.ok_or_else(|| Fault::new("segments", format!("frame {f} names no segment")))?;
        let Some(value) = segments.value(number)? else { continue };
        let first = f * pixels;
        for p in 0..pixels {
            let bit = first + p;
            if bytes[bit / 8] >> (bit % 8) & 1 == 1 {
                map.put(placed, p / facts.columns, p % facts.columns, value)?;
            }
        }
    }
    Ok(())
}

/// Eight or sixteen bits a voxel, in any lossless transfer syntax.
fn labelmap(
    header: &InMemDicomObject,
    outline: &Outline<'_>,
    segments: &Segments,
    placed: &[Placed],
    map: &mut Map<'_>,
) -> Result<(), Fault> {
    const LOSSY: [&str; 5] =
        [uids::JPEG_BASELINE8_BIT, uids::JPEG_EXTENDED12_BIT, uids::JPEGLS_NEAR_LOSSLESS, uids::JPEG2000, uids::HTJ2K];
    if LOSSY.contains(&outline.transfer_syntax.as_str()) {
        return Err(Fault::new("transfer-syntax", "labels in a transfer syntax that may be lossy are not labels"));
    }
    let module = PixelModule::of(header)?;
    if module.signed || module.frames != placed.len() {
        return Err(Fault::new("pixel-module", "a LABELMAP must have unsigned samples and one place for each frame"));
    }
    pixel::check(outline, &module)?;
    for (f, placed) in placed.iter().enumerate() {
        let frame = pixel::decode(outline, &module, f)?;
        let mut last = (0, None);
        for (p, &stored) in frame.values.iter().enumerate() {
            if stored != last.0 {
                let number = u16::try_from(stored)
                    .map_err(|_| Fault::new("label-unknown", format!("frame {f} has the value {stored}")))?;
                last = (stored, segments.value(number)?);
            }
            if let Some(value) = last.1 {
                map.put(placed, p / module.columns, p % module.columns, value)?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_that_repeat_the_patient_are_known() {
        let words = ["Ana", "Meiers", "77001"].map(str::to_lowercase);
        for label in ["ANA", "tumour of Ana", "ana_heart", "Meiersheart", "x77001"] {
            assert!(repeats(label, &words), "{label}");
        }
        for label in ["", "anatomy", "canal", "heart", "meier", "7700"] {
            assert!(!repeats(label, &words), "{label}");
        }
    }
}
