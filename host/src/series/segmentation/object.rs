//! The data set of a segmentation: what is the patient's from the arriving headers, and every module of PS3.3 A.51.

use dicom_core::header::Header;
use dicom_core::value::{C, PrimitiveValue};
use dicom_core::{Tag, VR};
use dicom_dictionary_std::{tags, uids};
use dicom_object::InMemDicomObject;
use dicom_object::meta::FileMetaTableBuilder;

use super::frames::{self, Frame};
use super::{Encoding, Segment, SegmentationContext, place, segments};
use crate::series::derive::text::{self, Moment};
use crate::series::derive::{
    self, IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME, MANUFACTURER, MODEL_NAME, Nature, cannot_encode,
    dcm_code, put, put_sequence, series_description, text_of,
};
use crate::series::geometry::{Geometry, dot};
use crate::series::record::Fault;

/// Attributes of the study, the frame of reference and the de-identification that are those of the source. Groups 0010
/// and 0012 (patient, clinical trial, de-identification) are kept whole.
const KEPT: [Tag; 22] = [
    tags::SPECIFIC_CHARACTER_SET,
    tags::TIMEZONE_OFFSET_FROM_UTC,
    tags::STUDY_DATE,
    tags::STUDY_TIME,
    tags::ACCESSION_NUMBER,
    tags::ISSUER_OF_ACCESSION_NUMBER_SEQUENCE,
    tags::REFERRING_PHYSICIAN_NAME,
    tags::REFERRING_PHYSICIAN_IDENTIFICATION_SEQUENCE,
    tags::CONSULTING_PHYSICIAN_NAME,
    tags::STUDY_DESCRIPTION,
    tags::PROCEDURE_CODE_SEQUENCE,
    tags::PHYSICIANS_OF_RECORD,
    tags::NAME_OF_PHYSICIANS_READING_STUDY,
    tags::ADMITTING_DIAGNOSES_DESCRIPTION,
    tags::REFERENCED_STUDY_SEQUENCE,
    tags::CONTRIBUTING_EQUIPMENT_SEQUENCE,
    tags::STUDY_INSTANCE_UID,
    tags::STUDY_ID,
    tags::FRAME_OF_REFERENCE_UID,
    tags::POSITION_REFERENCE_INDICATOR,
    tags::BODY_PART_EXAMINED,
    tags::LONGITUDINAL_TEMPORAL_INFORMATION_MODIFIED,
];
/// What must be there and may be empty (Type 2).
const MAY_BE_EMPTY: [(Tag, VR); 11] = [
    (tags::PATIENT_NAME, VR::PN),
    (tags::PATIENT_ID, VR::LO),
    (tags::PATIENT_BIRTH_DATE, VR::DA),
    (tags::PATIENT_SEX, VR::CS),
    (tags::STUDY_DATE, VR::DA),
    (tags::STUDY_TIME, VR::TM),
    (tags::ACCESSION_NUMBER, VR::SH),
    (tags::REFERRING_PHYSICIAN_NAME, VR::PN),
    (tags::STUDY_ID, VR::SH),
    (tags::POSITION_REFERENCE_INDICATOR, VR::LO),
    (tags::CONTENT_CREATOR_NAME, VR::PN),
];

/// Slices stacked further off their normal than this are those of a tilted gantry.
const MAX_TILT_DEGREES: f64 = 0.1;

/// A finished segmentation.
#[derive(Debug)]
pub struct Segmented {
    /// The bytes of the file: zero preamble, file meta, data set, Explicit VR Little Endian.
    pub bytes: Vec<u8>,
    /// Its new SOP Instance UID.
    pub sop_instance: String,
    /// Voxels of each segment, in rising order of their values.
    pub voxels: Vec<u64>,
    /// Whether its frames name the images they were made from. Not where the arriving headers have no SOP Instance UIDs of
    /// their own, one a slice (as the frames of one multi-frame file have).
    pub referenced: bool,
}

/// The segmentation of a series.
///
/// `headers` are the series' as they arrive, without pixels, one a slice in slice order; `slices` hold the label of every
/// voxel `[z][y, x]` on `grid`, which the headers must agree with; `table` says what the values mean (0 is the background).
/// An object without any voxel is a whole one: it says that nothing was segmented.
///
/// # Errors
/// A [`Fault`] whose text holds no patient text: `headers`, `grid`, `no-labels`, `label-unknown`, `too-large`,
/// `slice-size`, `missing-uid`, `description`, `content-label`, `dicom-depth`, `dicom-encode`.
pub fn write(
    headers: &[InMemDicomObject],
    slices: &[&[u8]],
    grid: &Geometry,
    table: &[Segment],
    ctx: &SegmentationContext,
) -> Result<Segmented, Fault> {
    super::content_label(&ctx.content_label)?;
    place::check(headers, grid)?;
    let mut table: Vec<Segment> = table.iter().filter(|s| s.value != 0).cloned().collect();
    table.sort_by_key(|s| s.value);
    let (Some(first), false) = (headers.first(), table.is_empty()) else {
        return Err(Fault::new("no-labels", "the label table names nothing but the background"));
    };
    let pixels = grid.size[1] * grid.size[2];
    if slices.len() != headers.len() || slices.iter().any(|s| s.len() != pixels) {
        return Err(Fault::new("slice-size", format!("expected {} slices of {pixels} voxels", headers.len())));
    }
    let frames = frames::encode(slices, &table, ctx.encoding)?;

    let derivation = &ctx.derivation;
    let arriving_series = text_of(first, tags::SERIES_INSTANCE_UID);
    let mut out = kept(first)?;
    derive::repair_uids(&mut out, derivation)?;
    if text_of(&out, tags::FRAME_OF_REFERENCE_UID).is_empty() {
        let text = "the arriving header has no Frame of Reference UID (0020,0052); repair = [\"uids\"] at the source makes one";
        return Err(Fault::new("missing-uid", text));
    }
    let sop_class = match ctx.encoding {
        Encoding::Binary => uids::SEGMENTATION_STORAGE,
        Encoding::Labelmap => uids::LABEL_MAP_SEGMENTATION_STORAGE,
    };
    let sop_instance = derivation.uids.instance(&arriving_series, 0);
    put(&mut out, tags::SOP_CLASS_UID, VR::UI, sop_class);
    put(&mut out, tags::SOP_INSTANCE_UID, VR::UI, sop_instance.as_str());
    put(&mut out, tags::SERIES_INSTANCE_UID, VR::UI, derivation.uids.series(&arriving_series));
    series(&mut out, headers, ctx)?;
    put_sequence(&mut out, tags::SEGMENT_SEQUENCE, segments::sequence(&table, ctx, &arriving_series));
    let references = references(headers);
    functional_groups(&mut out, headers, grid, &frames.list, references.as_deref());
    dimensions(&mut out, ctx, grid, &arriving_series);
    if let Some(references) = &references {
        common_references(&mut out, references, &arriving_series);
    }
    pixels_of(&mut out, ctx.encoding, grid, frames.list.len(), frames.bytes);

    let meta = FileMetaTableBuilder::new()
        .transfer_syntax(uids::EXPLICIT_VR_LITTLE_ENDIAN)
        .implementation_class_uid(IMPLEMENTATION_CLASS_UID)
        .implementation_version_name(IMPLEMENTATION_VERSION_NAME);
    let object = out.with_meta(meta).map_err(|_| cannot_encode())?;
    let mut bytes = Vec::new();
    object.write_all(&mut bytes).map_err(|_| cannot_encode())?;
    Ok(Segmented { bytes, sop_instance, voxels: frames.voxels, referenced: references.is_some() })
}

/// What of the source's header is the patient's and the study's, and so the segmentation's too.
fn kept(header: &InMemDicomObject) -> Result<InMemDicomObject, Fault> {
    let cleaned = derive::stale::without_stale(header)?;
    let keep = |tag: Tag| matches!(tag.group(), 0x0010 | 0x0012) || KEPT.contains(&tag);
    let mut out = InMemDicomObject::from_element_iter(cleaned.into_iter().filter(|e| keep(e.tag())));
    for (tag, vr) in MAY_BE_EMPTY {
        if out.get(tag).is_none() {
            put(&mut out, tag, vr, PrimitiveValue::Empty);
        }
    }
    Ok(out)
}

/// Series, equipment, and what the host says about the making.
fn series(out: &mut InMemDicomObject, headers: &[InMemDicomObject], ctx: &SegmentationContext) -> Result<(), Fault> {
    let derivation = &ctx.derivation;
    let any = |tag: Tag, value: &str| headers.iter().any(|h| text_of(h, tag) == value);
    // A mask of an image that is synthetic is no more a measurement than the image.
    let synthetic = derivation.nature == Nature::Synthetic || any(tags::SYNTHETIC_DATA, "YES");
    let description = series_description(&derivation.series_description, derivation.toy, synthetic)?;
    let words = text::derivation(derivation, synthetic, "segmentation");
    let moment = Moment::new(derivation.run_time, &text_of(out, tags::TIMEZONE_OFFSET_FROM_UTC));
    put(out, tags::MODALITY, VR::CS, "SEG");
    put(out, tags::SERIES_NUMBER, VR::IS, derivation.series_number.to_string());
    put(out, tags::SERIES_DESCRIPTION, VR::LO, description);
    put(out, tags::INSTANCE_NUMBER, VR::IS, "1");
    put(out, tags::IMAGE_TYPE, VR::CS, PrimitiveValue::Strs(C::from_vec(vec!["DERIVED".into(), "PRIMARY".into()])));
    for (tag, vr, value) in [
        (tags::INSTANCE_CREATION_DATE, VR::DA, &moment.date),
        (tags::INSTANCE_CREATION_TIME, VR::TM, &moment.time),
        (tags::CONTENT_DATE, VR::DA, &moment.date),
        (tags::CONTENT_TIME, VR::TM, &moment.time),
        (tags::CONTENT_LABEL, VR::CS, &ctx.content_label),
        (tags::DERIVATION_DESCRIPTION, VR::ST, &words),
    ] {
        put(out, tag, vr, value.as_str());
    }
    put(out, tags::CONTENT_DESCRIPTION, VR::LO, text::plain(&format!("Pipeline {}", derivation.pipeline), 64));
    put(out, tags::MANUFACTURER, VR::LO, MANUFACTURER);
    put(out, tags::MANUFACTURER_MODEL_NAME, VR::LO, MODEL_NAME);
    put(out, tags::DEVICE_SERIAL_NUMBER, VR::LO, text::plain(&ctx.serial, 64));
    let versions = derivation.software_versions.iter().map(|v| text::plain(v, 64)).filter(|v| !v.is_empty()).collect();
    put(out, tags::SOFTWARE_VERSIONS, VR::LO, PrimitiveValue::Strs(C::from_vec(versions)));
    derive::equipment(out, derivation, &words, &moment);
    if synthetic {
        put(out, tags::SYNTHETIC_DATA, VR::CS, "YES");
        put(out, tags::IMAGE_COMMENTS, VR::LT, derive::SYNTHETIC_COMMENT);
    }
    // Lossy once, lossy for ever: the labels are those of images that lost something.
    let lossy = derivation.lossy_source || any(tags::LOSSY_IMAGE_COMPRESSION, "01");
    put(out, tags::LOSSY_IMAGE_COMPRESSION, VR::CS, if lossy { "01" } else { "00" });
    if lossy {
        for tag in [tags::LOSSY_IMAGE_COMPRESSION_RATIO, tags::LOSSY_IMAGE_COMPRESSION_METHOD] {
            if let Some(element) = headers.iter().find_map(|h| h.get(tag)) {
                out.put(element.clone());
            }
        }
    }
    Ok(())
}

/// SOP Class and Instance UID of every source slice; `None` unless each slice has an instance of its own.
fn references(headers: &[InMemDicomObject]) -> Option<Vec<[String; 2]>> {
    let all: Vec<[String; 2]> =
        headers.iter().map(|h| [tags::SOP_CLASS_UID, tags::SOP_INSTANCE_UID].map(|tag| text_of(h, tag))).collect();
    let unique: std::collections::BTreeSet<&String> = all.iter().map(|[_, instance]| instance).collect();
    (unique.len() == all.len() && all.iter().flatten().all(|uid| !uid.is_empty())).then_some(all)
}

fn reference([class, instance]: &[String; 2]) -> InMemDicomObject {
    let mut item = InMemDicomObject::new_empty();
    put(&mut item, tags::REFERENCED_SOP_CLASS_UID, VR::UI, class.as_str());
    put(&mut item, tags::REFERENCED_SOP_INSTANCE_UID, VR::UI, instance.as_str());
    item
}

/// Common Instance Reference: the source series and its instances.
fn common_references(out: &mut InMemDicomObject, references: &[[String; 2]], series: &str) {
    if series.is_empty() {
        return;
    }
    let mut item = InMemDicomObject::new_empty();
    put(&mut item, tags::SERIES_INSTANCE_UID, VR::UI, series);
    put_sequence(&mut item, tags::REFERENCED_INSTANCE_SEQUENCE, references.iter().map(reference).collect());
    put_sequence(out, tags::REFERENCED_SERIES_SEQUENCE, vec![item]);
}

/// Whether the slices make a volume of right angles: several, evenly spaced, and stacked along their normal.
fn is_regular(grid: &Geometry) -> bool {
    grid.size[0] > 1 && grid.slice_origins_mm.is_none() && grid.tilt_degrees() < MAX_TILT_DEGREES
}

/// Shared: orientation and spacing. Of each frame: its place, its segment, and the image it was made from. Numbers that
/// place a frame are copied as the arriving header writes them.
fn functional_groups(
    out: &mut InMemDicomObject,
    headers: &[InMemDicomObject],
    grid: &Geometry,
    frames: &[Frame],
    references: Option<&[[String; 2]]>,
) {
    let copy = |item: &mut InMemDicomObject, header: &InMemDicomObject, tag: Tag| {
        if let Some(element) = header.get(tag) {
            item.put(element.clone());
        }
    };
    let mut shared = InMemDicomObject::new_empty();
    if let Some(first) = headers.first() {
        let (mut measures, mut orientation) = (InMemDicomObject::new_empty(), InMemDicomObject::new_empty());
        copy(&mut measures, first, tags::PIXEL_SPACING);
        let step = derive::decimal_string(dot([2, 6, 10].map(|i| grid.affine[i]), grid.normal()).abs());
        let thickness = text_of(first, tags::SLICE_THICKNESS);
        let thick = thickness.parse::<f64>().is_ok_and(|t| t > 0.0);
        put(&mut measures, tags::SLICE_THICKNESS, VR::DS, if thick { thickness } else { step.clone() });
        if is_regular(grid) {
            put(&mut measures, tags::SPACING_BETWEEN_SLICES, VR::DS, step);
        }
        copy(&mut orientation, first, tags::IMAGE_ORIENTATION_PATIENT);
        put_sequence(&mut shared, tags::PIXEL_MEASURES_SEQUENCE, vec![measures]);
        put_sequence(&mut shared, tags::PLANE_ORIENTATION_SEQUENCE, vec![orientation]);
    }
    put_sequence(out, tags::SHARED_FUNCTIONAL_GROUPS_SEQUENCE, vec![shared]);

    let each = frames.iter().map(|frame| {
        let mut item = InMemDicomObject::new_empty();
        // Numbers of segments and slices in the order of the dimensions, counted from 1.
        let mut index: Vec<u32> = frame.segment.iter().map(|s| *s as u32 + 1).collect();
        index.push(frame.z as u32 + 1);
        let mut content = InMemDicomObject::new_empty();
        put(&mut content, tags::DIMENSION_INDEX_VALUES, VR::UL, PrimitiveValue::U32(C::from_vec(index)));
        put_sequence(&mut item, tags::FRAME_CONTENT_SEQUENCE, vec![content]);
        let mut position = InMemDicomObject::new_empty();
        if let Some(header) = headers.get(frame.z) {
            copy(&mut position, header, tags::IMAGE_POSITION_PATIENT);
        }
        put_sequence(&mut item, tags::PLANE_POSITION_SEQUENCE, vec![position]);
        if let Some(segment) = frame.segment {
            let mut identification = InMemDicomObject::new_empty();
            let number = PrimitiveValue::from(segment as u16 + 1);
            put(&mut identification, tags::REFERENCED_SEGMENT_NUMBER, VR::US, number);
            put_sequence(&mut item, tags::SEGMENT_IDENTIFICATION_SEQUENCE, vec![identification]);
        }
        if let Some(source) = references.and_then(|r| r.get(frame.z)) {
            let mut source = reference(source);
            put(&mut source, tags::SPATIAL_LOCATIONS_PRESERVED, VR::CS, "YES");
            let purpose = dcm_code("121322", "Source image for image processing operation");
            put_sequence(&mut source, tags::PURPOSE_OF_REFERENCE_CODE_SEQUENCE, vec![purpose]);
            let mut derivation = InMemDicomObject::new_empty();
            put_sequence(&mut derivation, tags::SOURCE_IMAGE_SEQUENCE, vec![source]);
            put_sequence(&mut derivation, tags::DERIVATION_CODE_SEQUENCE, vec![dcm_code("113076", "Segmentation")]);
            put_sequence(&mut item, tags::DERIVATION_IMAGE_SEQUENCE, vec![derivation]);
        }
        item
    });
    let each = each.collect();
    put_sequence(out, tags::PER_FRAME_FUNCTIONAL_GROUPS_SEQUENCE, each);
}

/// Frames are told apart by segment (where each has its own) and position.
fn dimensions(out: &mut InMemDicomObject, ctx: &SegmentationContext, grid: &Geometry, arriving: &str) {
    let organization = ctx.derivation.uids.dimension_organization(arriving);
    let mut named = InMemDicomObject::new_empty();
    put(&mut named, tags::DIMENSION_ORGANIZATION_UID, VR::UI, organization.as_str());
    put_sequence(out, tags::DIMENSION_ORGANIZATION_SEQUENCE, vec![named]);
    let dimension = |pointer: Tag, group: Tag, label: &str| {
        let mut item = InMemDicomObject::new_empty();
        put(&mut item, tags::DIMENSION_ORGANIZATION_UID, VR::UI, organization.as_str());
        let at = |tag: Tag| PrimitiveValue::Tags(C::from_slice(&[tag]));
        put(&mut item, tags::DIMENSION_INDEX_POINTER, VR::AT, at(pointer));
        put(&mut item, tags::FUNCTIONAL_GROUP_POINTER, VR::AT, at(group));
        put(&mut item, tags::DIMENSION_DESCRIPTION_LABEL, VR::LO, label);
        item
    };
    let by_segment =
        dimension(tags::REFERENCED_SEGMENT_NUMBER, tags::SEGMENT_IDENTIFICATION_SEQUENCE, "Referenced Segment Number");
    let by_position =
        dimension(tags::IMAGE_POSITION_PATIENT, tags::PLANE_POSITION_SEQUENCE, "Image Position (Patient)");
    match ctx.encoding {
        Encoding::Binary => put_sequence(out, tags::DIMENSION_INDEX_SEQUENCE, vec![by_segment, by_position]),
        Encoding::Labelmap => {
            put_sequence(out, tags::DIMENSION_INDEX_SEQUENCE, vec![by_position]);
            if is_regular(grid) {
                put(out, tags::DIMENSION_ORGANIZATION_TYPE, VR::CS, "3D");
            }
        }
    }
}

/// Segmentation image and image pixel modules.
fn pixels_of(out: &mut InMemDicomObject, encoding: Encoding, grid: &Geometry, frames: usize, bytes: Vec<u8>) {
    let (kind, bits) = match encoding {
        Encoding::Binary => ("BINARY", 1u16),
        Encoding::Labelmap => ("LABELMAP", 8),
    };
    put(out, tags::SEGMENTATION_TYPE, VR::CS, kind);
    put(out, tags::SEGMENTS_OVERLAP, VR::CS, "NO");
    put(out, tags::PHOTOMETRIC_INTERPRETATION, VR::CS, "MONOCHROME2");
    put(out, tags::NUMBER_OF_FRAMES, VR::IS, frames.to_string());
    for (tag, value) in [
        (tags::SAMPLES_PER_PIXEL, 1),
        // The grid was compared with headers, whose rows and columns have 16 bits.
        (tags::ROWS, grid.size[1] as u16),
        (tags::COLUMNS, grid.size[2] as u16),
        (tags::BITS_ALLOCATED, bits),
        (tags::BITS_STORED, bits),
        (tags::HIGH_BIT, bits - 1),
        (tags::PIXEL_REPRESENTATION, 0),
    ] {
        put(out, tag, VR::US, PrimitiveValue::from(value));
    }
    if encoding == Encoding::Labelmap {
        put(out, tags::PIXEL_PADDING_VALUE, VR::US, PrimitiveValue::from(0u16));
    }
    put(out, tags::PIXEL_DATA, VR::OB, PrimitiveValue::U8(C::from_vec(bytes)));
}
