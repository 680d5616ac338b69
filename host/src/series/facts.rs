//! What a scan keeps of one DICOM file: the few header values that grouping, order and checks need.

use dicom_core::Tag;
use dicom_dictionary_std::{tags, uids};
use dicom_object::InMemDicomObject;

use super::geometry::SlicePlane;
use super::header::{integer, items, number, text, texts, vector};
use super::record::Fault;

/// Manufacturer that Gantry writes into the ContributingEquipmentSequence item of what it derives …
pub const GANTRY: &str = "Gantry";
/// … with this purpose: Processing Equipment.
pub const PROCESSING_EQUIPMENT: &str = "109102";

/// Rescale of one slice: `hu = stored * slope + intercept`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rescale {
    /// Rescale Slope (0028,1053).
    pub slope: f64,
    /// Rescale Intercept (0028,1052).
    pub intercept: f64,
    /// Neither was in the header: 1 and 0 are assumed.
    pub missing: bool,
}

/// One slice of a file.
#[derive(Debug, Clone, PartialEq)]
pub struct FrameFacts {
    /// Where it lies; `None` where the header does not say.
    pub plane: Option<SlicePlane>,
    /// Its rescale, or why there is no sound one.
    pub rescale: Result<Rescale, Fault>,
    /// Rescale Type (0028,1054): the unit, `HU` where it is that.
    pub rescale_type: Option<String>,
}

/// Header values of one file.
#[derive(Debug, Clone, PartialEq)]
pub struct Facts {
    pub modality: String,
    pub description: String,
    pub series_number: Option<i32>,
    pub acquisition: Option<i32>,
    pub instance_number: Option<i32>,
    pub study: String,
    pub series: String,
    pub sop_instance: String,
    pub sop_class: String,
    pub patient: String,
    pub frame_of_reference: Option<String>,
    pub localizer: bool,
    pub rows: usize,
    pub columns: usize,
    pub multi_frame: bool,
    pub frames: Vec<FrameFacts>,
    pub modality_lut: bool,
    pub derived_by_gantry: bool,
    pub deidentified: bool,
    pub burned_in: bool,
    pub tilt_degrees: Option<f64>,
}

/// Most frames that one file may claim.
const MAX_FRAMES: i32 = 65_536;

impl Facts {
    /// Reads the facts out of a header.
    ///
    /// # Errors
    /// `frames` for an impossible Number of Frames, `enhanced-multiframe` where frames and their descriptions differ
    /// in number.
    pub fn of(header: &InMemDicomObject) -> Result<Self, Fault> {
        let get = |tag| text(header, tag).unwrap_or_default();
        let count = match integer(header, tags::NUMBER_OF_FRAMES) {
            None => 1,
            Some(n @ 1..=MAX_FRAMES) => n,
            Some(n) => {
                return Err(Fault::new("frames", format!("the file claims {n} frames, expected 1 to {MAX_FRAMES}")));
            }
        };
        let per_frame = items(header, tags::PER_FRAME_FUNCTIONAL_GROUPS_SEQUENCE);
        let multi_frame = !per_frame.is_empty() || count > 1;
        let frames = if multi_frame {
            if per_frame.len() != count as usize {
                return Err(Fault::new(
                    "enhanced-multiframe",
                    format!("the file has {count} frames but describes the places of {}", per_frame.len()),
                ));
            }
            let shared = items(header, tags::SHARED_FUNCTIONAL_GROUPS_SEQUENCE).first();
            per_frame.iter().map(|frame| frame_facts(header, Some(frame), shared)).collect()
        } else {
            vec![frame_facts(header, None, None)]
        };
        let image_type = texts(header, tags::IMAGE_TYPE);
        let size = |tag| integer(header, tag).and_then(|n| usize::try_from(n).ok()).unwrap_or(0);
        Ok(Self {
            modality: get(tags::MODALITY),
            description: get(tags::SERIES_DESCRIPTION),
            series_number: integer(header, tags::SERIES_NUMBER),
            acquisition: integer(header, tags::ACQUISITION_NUMBER),
            instance_number: integer(header, tags::INSTANCE_NUMBER),
            study: get(tags::STUDY_INSTANCE_UID),
            series: get(tags::SERIES_INSTANCE_UID),
            sop_instance: get(tags::SOP_INSTANCE_UID),
            sop_class: get(tags::SOP_CLASS_UID),
            patient: patient_key(header),
            frame_of_reference: text(header, tags::FRAME_OF_REFERENCE_UID),
            localizer: image_type.get(2).is_some_and(|t| t.eq_ignore_ascii_case("LOCALIZER")),
            rows: size(tags::ROWS),
            columns: size(tags::COLUMNS),
            multi_frame,
            frames,
            modality_lut: !items(header, tags::MODALITY_LUT_SEQUENCE).is_empty(),
            derived_by_gantry: derived_by_gantry(header),
            deidentified: get(tags::PATIENT_IDENTITY_REMOVED) == "YES",
            burned_in: get(tags::BURNED_IN_ANNOTATION) == "YES",
            tilt_degrees: number(header, tags::GANTRY_DETECTOR_TILT),
        })
    }
}

/// Whether a header is that of an image that can be a slice of a volume; by modality where the class is missing.
pub fn may_make_volume(header: &InMemDicomObject) -> bool {
    match text(header, tags::SOP_CLASS_UID) {
        Some(class) => is_volume_class(&class),
        None => matches!(text(header, tags::MODALITY).as_deref(), Some("CT" | "MR" | "PT")),
    }
}

/// Whether images of a SOP class can be slices of a volume.
pub fn is_volume_class(sop_class: &str) -> bool {
    const CLASSES: [&str; 10] = [
        uids::CT_IMAGE_STORAGE,
        uids::ENHANCED_CT_IMAGE_STORAGE,
        uids::LEGACY_CONVERTED_ENHANCED_CT_IMAGE_STORAGE,
        uids::MR_IMAGE_STORAGE,
        uids::ENHANCED_MR_IMAGE_STORAGE,
        uids::LEGACY_CONVERTED_ENHANCED_MR_IMAGE_STORAGE,
        uids::POSITRON_EMISSION_TOMOGRAPHY_IMAGE_STORAGE,
        uids::ENHANCED_PET_IMAGE_STORAGE,
        uids::LEGACY_CONVERTED_ENHANCED_PET_IMAGE_STORAGE,
        uids::X_RAY3_D_ANGIOGRAPHIC_IMAGE_STORAGE,
    ];
    CLASSES.contains(&sop_class)
}

/// Patient ID and name, each led by its length so that no two patients share a key; empty where both are.
fn patient_key(header: &InMemDicomObject) -> String {
    let id = text(header, tags::PATIENT_ID).unwrap_or_default();
    let issuer = text(header, tags::ISSUER_OF_PATIENT_ID).unwrap_or_default();
    let name = text(header, tags::PATIENT_NAME).unwrap_or_default();
    if id.is_empty() && name.is_empty() {
        return String::new();
    }
    format!("{}:{id}|{}:{issuer}|{name}", id.len(), issuer.len())
}

/// Position, orientation, spacing and rescale of one frame: its own functional group, then the shared one, then the
/// top of the header.
fn frame_facts(
    header: &InMemDicomObject,
    frame: Option<&InMemDicomObject>,
    shared: Option<&InMemDicomObject>,
) -> FrameFacts {
    let group = |sequence: Tag| {
        [frame, shared].into_iter().flatten().find_map(|g| items(g, sequence).first()).unwrap_or(header)
    };
    let plane = || {
        Some(SlicePlane {
            position_mm: vector(group(tags::PLANE_POSITION_SEQUENCE), tags::IMAGE_POSITION_PATIENT)?,
            orientation: vector(group(tags::PLANE_ORIENTATION_SEQUENCE), tags::IMAGE_ORIENTATION_PATIENT)?,
            spacing_mm: vector(group(tags::PIXEL_MEASURES_SEQUENCE), tags::PIXEL_SPACING)?,
        })
    };
    let values = group(tags::PIXEL_VALUE_TRANSFORMATION_SEQUENCE);
    FrameFacts { plane: plane(), rescale: rescale(values), rescale_type: text(values, tags::RESCALE_TYPE) }
}

/// Rescale Slope and Intercept of a header or a functional group item.
///
/// # Errors
/// `rescale` for a slope that is 0, not finite or no number, for an intercept that is not finite or no number, and for
/// one given without the other.
pub fn rescale(object: &InMemDicomObject) -> Result<Rescale, Fault> {
    let value = |tag| match text(object, tag) {
        None => Ok(None),
        Some(_) => number(object, tag).filter(|v| (*v as f32).is_finite()).map(Some).ok_or(()),
    };
    let bad = |what: &str| Fault::new("rescale", what.to_owned());
    let slope = value(tags::RESCALE_SLOPE).map_err(|()| bad("the rescale slope is not a finite number"))?;
    let intercept = value(tags::RESCALE_INTERCEPT).map_err(|()| bad("the rescale intercept is not a finite number"))?;
    match (slope, intercept) {
        (None, None) => Ok(Rescale { slope: 1.0, intercept: 0.0, missing: true }),
        (Some(slope), Some(_)) if slope as f32 == 0.0 => Err(bad("the rescale slope is 0")),
        (Some(slope), Some(intercept)) => Ok(Rescale { slope, intercept, missing: false }),
        (Some(_), None) => Err(bad("there is a rescale slope but no rescale intercept")),
        (None, Some(_)) => Err(bad("there is a rescale intercept but no rescale slope")),
    }
}

fn derived_by_gantry(header: &InMemDicomObject) -> bool {
    items(header, tags::CONTRIBUTING_EQUIPMENT_SEQUENCE).iter().any(|item| {
        text(item, tags::MANUFACTURER).as_deref() == Some(GANTRY)
            && items(item, tags::PURPOSE_OF_REFERENCE_CODE_SEQUENCE)
                .iter()
                .any(|code| text(code, tags::CODE_VALUE).as_deref() == Some(PROCESSING_EQUIPMENT))
    })
}
