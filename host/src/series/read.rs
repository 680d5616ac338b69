//! Decoding the slices of a series that a scan found: stored values, HU, padding and header of each.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use dicom_core::{DataElement, PrimitiveValue, Tag, VR};
use dicom_dictionary_std::{tags, uids};
use dicom_object::InMemDicomObject;

use super::facts::{Facts, FrameFacts};
use super::guard::{self, Outline};
use super::pixel::{self, PixelModule, Stored};
use super::record::{Fault, InstanceRecord, SeriesKind, SeriesRecord};
use super::{header, input};

/// Pixels that lie outside what was measured (Pixel Padding Value, Pixel Padding Range Limit).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Padding {
    /// Smallest and largest padding value, as the header gives them, sign-extended like the stored values.
    pub range: (i32, i32),
    /// Indices of the padded pixels in the slice, as runs in ascending order.
    pub runs: Vec<std::ops::Range<usize>>,
}

impl Padding {
    /// Number of padded pixels.
    pub fn pixels(&self) -> usize {
        self.runs.iter().map(ExactSizeIterator::len).sum()
    }

    /// One flag a pixel of a slice of `pixels` pixels.
    pub fn mask(&self, pixels: usize) -> Vec<bool> {
        let mut mask = vec![false; pixels];
        for run in &self.runs {
            if let Some(run) = mask.get_mut(run.clone()) {
                run.fill(true);
            }
        }
        mask
    }
}

/// One decoded slice.
#[derive(Debug, Clone)]
pub struct DecodedSlice {
    /// Rows, pixels.
    pub rows: usize,
    /// Columns, pixels.
    pub columns: usize,
    /// Stored values, `[y, x]`.
    pub stored: Vec<i32>,
    /// `stored as f32 * slope + intercept` in f32, `[y, x]`. Hounsfield units for CT. Padded pixels are treated alike.
    pub hu: Vec<f32>,
    /// Padded pixels; `None` where the header names no padding value.
    pub padding: Option<Padding>,
    /// Rescale Slope.
    pub slope: f64,
    /// Rescale Intercept.
    pub intercept: f64,
    /// The header without group 0002 and without pixel data; what stood after the pixel data is not in it. Missing
    /// UIDs are filled in where the scan repaired them; a frame of an enhanced file has its own values at the top.
    pub header: InMemDicomObject,
    /// How the pixels were stored.
    pub pixel_module: PixelModule,
    /// What is worth saying, such as `rescale-missing`.
    pub warnings: Vec<Fault>,
}

/// Decodes slice `z` of a series. For many slices of one multi-frame file a [`SliceReader`] is faster.
///
/// # Errors
/// As [`SliceReader::read`].
pub fn read_slice(record: &SeriesRecord, z: usize) -> Result<DecodedSlice, Fault> {
    SliceReader::new(record).read(z)
}

/// Decodes the slices of one series; keeps the last multi-frame file open in memory. Can be shared between threads.
#[derive(Debug)]
pub struct SliceReader<'a> {
    record: &'a SeriesRecord,
    held: Mutex<Option<(PathBuf, Arc<LoadedFile>)>>,
}

#[derive(Debug)]
struct LoadedFile {
    outline: Outline<'static>,
    header: InMemDicomObject,
    facts: Facts,
    module: PixelModule,
}

impl<'a> SliceReader<'a> {
    /// A reader for the slices of `record`.
    pub fn new(record: &'a SeriesRecord) -> Self {
        Self { record, held: Mutex::new(None) }
    }

    /// Decodes slice `z`. The text of an error names the input as `#n`.
    ///
    /// # Errors
    /// `slice-index`, `nifti`; `changed` where the file is no longer the one that was scanned; everything that the
    /// guard, the header, the pixel module and the decoders refuse.
    pub fn read(&self, z: usize) -> Result<DecodedSlice, Fault> {
        let slices = self.record.slices();
        let Some(instance) = self.record.instances.get(z) else {
            return Err(Fault::new("slice-index", format!("slice {z} was asked for, the series has {slices}")));
        };
        if self.record.kind == SeriesKind::Nifti {
            return Err(Fault::new("nifti", "a NIfTI file has no DICOM slices"));
        }
        self.file(instance)
            .and_then(|file| decode(&file, self.record, instance))
            .map_err(|fault| fault.at(format_args!("#{}", instance.input)))
    }

    fn file(&self, instance: &InstanceRecord) -> Result<Arc<LoadedFile>, Fault> {
        if instance.frame.is_none() {
            return load(instance).map(Arc::new);
        }
        let mut held = self.held.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some((path, file)) = held.as_ref()
            && *path == instance.path
        {
            return Ok(file.clone());
        }
        let file = Arc::new(load(instance)?);
        *held = Some((instance.path.clone(), file.clone()));
        Ok(file)
    }
}

fn load(instance: &InstanceRecord) -> Result<LoadedFile, Fault> {
    let changed = || Fault::new("changed", "the file is not the one that was scanned");
    let bytes = input::read(&instance.path)?;
    if input::sha256(&bytes) != instance.digest {
        return Err(changed());
    }
    let outline = guard::walk(bytes)?.ok_or_else(changed)?;
    let header = header::parse(&outline)?;
    let facts = Facts::of(&header)?;
    let module = PixelModule::of(&header)?;
    Ok(LoadedFile { outline, header, facts, module })
}

fn decode(file: &LoadedFile, record: &SeriesRecord, instance: &InstanceRecord) -> Result<DecodedSlice, Fault> {
    let frame = instance.frame.unwrap_or(0) as usize;
    let module = &file.module;
    let missing = || Fault::new("frames", format!("frame {frame} was asked for, the file describes fewer"));
    let facts = file.facts.frames.get(frame).ok_or_else(missing)?;
    let rescale = facts.rescale.clone()?;
    let stored = pixel::decode(&file.outline, module, frame)?;
    let (slope, intercept) = (rescale.slope as f32, rescale.intercept as f32);
    let hu = stored.values.iter().map(|&v| v as f32 * slope + intercept).collect();
    let mut warnings = Vec::new();
    if rescale.missing {
        warnings.push(Fault::new("rescale-missing", "no rescale slope and intercept: 1 and 0 are assumed"));
    }
    let mut own = file.header.clone();
    if instance.frame.is_some() {
        flatten(&mut own, facts, record, frame);
    }
    fill_uids(&mut own, record, instance);
    Ok(DecodedSlice {
        rows: module.rows,
        columns: module.columns,
        padding: padding(&file.header, module, &stored),
        stored: stored.values,
        hu,
        slope: rescale.slope,
        intercept: rescale.intercept,
        header: own,
        pixel_module: module.clone(),
        warnings,
    })
}

/// Which pixels are padding. The header's value is compared with the stored values or, where it does not fit in Bits
/// Stored (a frequent fault of scanners), with the whole allocated cells.
fn padding(header: &InMemDicomObject, module: &PixelModule, stored: &Stored) -> Option<Padding> {
    // The VR of the value may contradict Pixel Representation: only its bits count.
    let value = |tag| {
        let number = header::number(header, tag)? as i64;
        let shift = 64 - module.bits_allocated;
        Some(if module.signed { number << shift >> shift } else { ((number as u64) << shift >> shift) as i64 })
    };
    let first = value(tags::PIXEL_PADDING_VALUE)?;
    let last = value(tags::PIXEL_PADDING_RANGE_LIMIT).unwrap_or(first);
    let (low, high) = (first.min(last), first.max(last));
    let (least, most) = module.range();
    let fits = (least..=most).contains(&low) && (least..=most).contains(&high);
    let compared = match &stored.cells {
        Some(cells) if !fits => cells,
        _ => &stored.values,
    };
    let mut runs: Vec<std::ops::Range<usize>> = Vec::new();
    for (at, &value) in compared.iter().enumerate() {
        if (low..=high).contains(&i64::from(value)) {
            match runs.last_mut() {
                Some(run) if run.end == at => run.end = at + 1,
                _ => runs.push(at..at + 1),
            }
        }
    }
    let narrow = |v: i64| v.clamp(i64::from(i32::MIN), i64::from(i32::MAX)) as i32;
    Some(Padding { range: (narrow(low), narrow(high)), runs })
}

/// Puts the UIDs of the record where the header has none: the scan made them, if it was allowed to.
fn fill_uids(header: &mut InMemDicomObject, record: &SeriesRecord, instance: &InstanceRecord) {
    for (tag, uid) in [
        (tags::SOP_CLASS_UID, &record.sop_class),
        (tags::SOP_INSTANCE_UID, &instance.sop_instance),
        (tags::STUDY_INSTANCE_UID, &record.study),
        (tags::SERIES_INSTANCE_UID, &record.series),
    ] {
        if header::text(header, tag).is_none() && !uid.is_empty() {
            header.put(DataElement::new(tag, VR::UI, uid.as_str()));
        }
    }
}

/// Makes the header of an enhanced multi-frame file that of one of its frames, as a single-frame image: own position,
/// orientation, spacing and rescale at the top, no functional groups. The SOP Instance UID stays the file's.
fn flatten(header: &mut InMemDicomObject, facts: &FrameFacts, record: &SeriesRecord, frame: usize) {
    for tag in [
        tags::SHARED_FUNCTIONAL_GROUPS_SEQUENCE,
        tags::PER_FRAME_FUNCTIONAL_GROUPS_SEQUENCE,
        tags::NUMBER_OF_FRAMES,
        tags::DIMENSION_ORGANIZATION_SEQUENCE,
        tags::DIMENSION_ORGANIZATION_TYPE,
        tags::DIMENSION_INDEX_SEQUENCE,
    ] {
        header.remove_element(tag);
    }
    let single = match record.sop_class.as_str() {
        uids::ENHANCED_CT_IMAGE_STORAGE | uids::LEGACY_CONVERTED_ENHANCED_CT_IMAGE_STORAGE => uids::CT_IMAGE_STORAGE,
        uids::ENHANCED_MR_IMAGE_STORAGE | uids::LEGACY_CONVERTED_ENHANCED_MR_IMAGE_STORAGE => uids::MR_IMAGE_STORAGE,
        uids::ENHANCED_PET_IMAGE_STORAGE | uids::LEGACY_CONVERTED_ENHANCED_PET_IMAGE_STORAGE => {
            uids::POSITRON_EMISSION_TOMOGRAPHY_IMAGE_STORAGE
        }
        other => other,
    };
    let mut put = |tag: Tag, vr: VR, values: &[f64]| {
        let values = values.iter().map(|v| decimal(*v)).collect();
        header.put(DataElement::new(tag, vr, PrimitiveValue::Strs(values)));
    };
    if let Some(plane) = &facts.plane {
        put(tags::IMAGE_POSITION_PATIENT, VR::DS, &plane.position_mm);
        put(tags::IMAGE_ORIENTATION_PATIENT, VR::DS, &plane.orientation);
        put(tags::PIXEL_SPACING, VR::DS, &plane.spacing_mm);
    }
    if let Ok(rescale) = &facts.rescale
        && !rescale.missing
    {
        put(tags::RESCALE_SLOPE, VR::DS, &[rescale.slope]);
        put(tags::RESCALE_INTERCEPT, VR::DS, &[rescale.intercept]);
    }
    put(tags::INSTANCE_NUMBER, VR::IS, &[frame as f64 + 1.0]);
    header.put(DataElement::new(tags::SOP_CLASS_UID, VR::UI, single));
}

/// A number in the at most 16 characters that DS and IS allow.
fn decimal(value: f64) -> String {
    let plain = value.to_string();
    if plain.len() <= 16 {
        return plain;
    }
    let fits = |text: &String| text.len() <= 16;
    let fixed = (0..=14).rev().map(|digits| format!("{value:.digits$}")).find(fits);
    let scientific = (0..=10).rev().map(|digits| format!("{value:.digits$e}")).find(fits);
    // Small numbers keep more digits in scientific notation.
    let (fixed, scientific) = (fixed.unwrap_or_default(), scientific.unwrap_or_default());
    if fixed.is_empty() || value.abs() < 1e-3 { scientific } else { fixed }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_fit_in_sixteen_characters() {
        for (value, text) in [
            (1.5, "1.5"),
            (-0.333_333_333_333_333_3, "-0.3333333333333"),
            (1_234_567.123_456_789, "1234567.12345679"),
            (-1.234_567_890_123e-7, "-1.2345678901e-7"),
        ] {
            assert_eq!(decimal(value), text);
            assert!(decimal(value).len() <= 16);
        }
    }

    #[test]
    fn padding_runs_make_the_mask() {
        let padding = Padding { range: (-2000, -2000), runs: vec![0..2, 5..6] };
        assert_eq!(padding.pixels(), 3);
        assert_eq!(padding.mask(6), [true, true, false, false, false, true]);
    }
}
