//! From recognised files to series: who belongs together, in which order, on which grid.
//!
//! By identifiers and geometry, never by file name; by folder only where identifiers are missing.

mod checks;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::facts::FrameFacts;
use super::geometry::{self, Layout, SAME_POSITION_MM, SlicePlane, dot};
use super::record::{Fault, InstanceRecord, SeriesKind, SeriesRecord, Skipped, common_folder};
use super::scan::{Damaged, ScannedImage, ScannedNifti};

/// Largest difference of direction cosines and of pixel spacings (relative) within a series.
const SAME_PLANE: f64 = 1e-3;

/// What all slices of a series have in common, as far as it can be compared exactly.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    patient: String,
    study: String,
    series: String,
    /// Folder, series and acquisition number, where the Series Instance UID is missing.
    instead: Option<(PathBuf, Option<i32>, Option<i32>)>,
    frame_of_reference: Option<String>,
    matrix: (usize, usize),
    sop_class: String,
    modality: String,
    localizer: bool,
}

/// One slice on its way into a series.
struct Slice<'a> {
    image: &'a ScannedImage,
    frame: &'a FrameFacts,
    number: usize,
}

/// Groups images into series, each ordered ascending along its normal.
pub(crate) fn group(
    mut images: Vec<ScannedImage>,
    damaged: &[Damaged],
    repair_uids: bool,
    skipped: &mut Vec<Skipped>,
) -> Vec<SeriesRecord> {
    let copies = drop_copies(&mut images, skipped);
    let studies = synthetic_studies(&images);
    let mut groups: BTreeMap<Key, Vec<Slice<'_>>> = BTreeMap::new();
    for image in &images {
        for (number, frame) in image.facts.frames.iter().enumerate() {
            groups.entry(key(image, &studies)).or_default().push(Slice { image, frame, number });
        }
    }
    let mut series = Vec::new();
    for (key, slices) in groups {
        for slices in by_plane(slices) {
            series.push(build(&key, slices, &copies, damaged, repair_uids));
        }
    }
    number_parts(&mut series);
    series.sort_by(|a, b| {
        (&a.patient, &a.study, a.series_number, &a.series, a.part).cmp(&(
            &b.patient,
            &b.study,
            b.series_number,
            &b.series,
            b.part,
        ))
    });
    series
}

/// Removes files whose bytes were already found; gives, for each kept input, the inputs that copied it.
fn drop_copies(images: &mut Vec<ScannedImage>, skipped: &mut Vec<Skipped>) -> HashMap<usize, Vec<usize>> {
    let mut first: HashMap<String, usize> = HashMap::new();
    let mut copies: HashMap<usize, Vec<usize>> = HashMap::new();
    images.retain(|image| {
        let kept = *first.entry(image.sha256.clone()).or_insert(image.input);
        if kept == image.input {
            return true;
        }
        copies.entry(kept).or_default().push(image.input);
        skipped.push(Skipped {
            input: image.input,
            path: image.path.clone(),
            code: "duplicate-file".to_owned(),
            text: format!("the same bytes as #{kept}"),
        });
        false
    });
    copies
}

fn folder(image: &ScannedImage) -> &Path {
    image.path.parent().unwrap_or(Path::new(""))
}

/// The patient of an image. Where the header names none: its study, or else the folder around its own.
fn patient(image: &ScannedImage) -> String {
    let facts = &image.facts;
    if !facts.patient.is_empty() {
        return facts.patient.clone();
    }
    if !facts.study.is_empty() {
        return format!("study:{}", facts.study);
    }
    let around = image.folder_parts.split_last().map_or(&[][..], |(_, around)| around);
    let around = if around.is_empty() { &image.folder_parts[..] } else { around };
    format!("folder:{}", around.join("/"))
}

/// For each patient, a study UID made from all of its files that lack one.
fn synthetic_studies(images: &[ScannedImage]) -> HashMap<String, String> {
    let mut hashes: HashMap<String, BTreeSet<&str>> = HashMap::new();
    for image in images.iter().filter(|i| i.facts.study.is_empty()) {
        hashes.entry(patient(image)).or_default().insert(&image.sha256);
    }
    hashes.into_iter().map(|(patient, hashes)| (patient, content_uid("study", hashes))).collect()
}

/// A UID under 2.25 from content hashes in ascending order.
pub(super) fn content_uid<'a>(what: &str, hashes: impl IntoIterator<Item = &'a str>) -> String {
    let mut hash = Sha256::new();
    hash.update(b"gantry content uid 1\0");
    hash.update(what.as_bytes());
    for part in hashes {
        hash.update(b"\0");
        hash.update(part.as_bytes());
    }
    let digest = hash.finalize();
    let number = digest.iter().take(16).fold(0u128, |n, &byte| n << 8 | u128::from(byte));
    format!("2.25.{number}")
}

fn key(image: &ScannedImage, studies: &HashMap<String, String>) -> Key {
    let facts = &image.facts;
    let patient = patient(image);
    let study = match facts.study.as_str() {
        "" => studies.get(&patient).cloned().unwrap_or_default(),
        study => study.to_owned(),
    };
    let instead = facts.series.is_empty().then(|| (folder(image).to_owned(), facts.series_number, facts.acquisition));
    Key {
        patient,
        study,
        series: facts.series.clone(),
        instead,
        frame_of_reference: facts.frame_of_reference.clone(),
        matrix: (facts.rows, facts.columns),
        sop_class: facts.sop_class.clone(),
        modality: facts.modality.clone(),
        localizer: facts.localizer,
    }
}

/// Splits slices by orientation and pixel spacing. Slices without either stay together.
fn by_plane(slices: Vec<Slice<'_>>) -> Vec<Vec<Slice<'_>>> {
    let mut clusters: Vec<Vec<Slice<'_>>> = Vec::new();
    let near = |a: &SlicePlane, b: &SlicePlane| {
        let turned = a.orientation.iter().zip(&b.orientation).any(|(x, y)| (x - y).abs() > SAME_PLANE);
        let scaled = a.spacing_mm.iter().zip(&b.spacing_mm).any(|(x, y)| (x - y).abs() > SAME_PLANE * x.abs());
        !turned && !scaled
    };
    for slice in slices {
        let home = clusters.iter_mut().find(|cluster| {
            match (cluster.first().and_then(|s| s.frame.plane.as_ref()), &slice.frame.plane) {
                (Some(a), Some(b)) => near(a, b),
                (None, None) => true,
                _ => false,
            }
        });
        match home {
            Some(cluster) => cluster.push(slice),
            None => clusters.push(vec![slice]),
        }
    }
    clusters
}

/// Numbers the parts of one Series Instance UID, the largest first.
fn number_parts(series: &mut [SeriesRecord]) {
    let mut by_uid: BTreeMap<(String, String, String), Vec<usize>> = BTreeMap::new();
    for (at, s) in series.iter().enumerate() {
        by_uid.entry((s.patient.clone(), s.study.clone(), s.series.clone())).or_default().push(at);
    }
    for mut parts in by_uid.into_values() {
        parts.sort_by_key(|&at| {
            series.get(at).map(|s| {
                let first = s.instances.first().map_or(0, |i| i.input);
                (s.localizer, std::cmp::Reverse(s.instances.len()), first)
            })
        });
        for (part, at) in parts.into_iter().enumerate() {
            if let Some(s) = series.get_mut(at) {
                s.part = part;
            }
        }
    }
}

/// Makes the record of one series.
fn build(
    key: &Key,
    mut slices: Vec<Slice<'_>>,
    copies: &HashMap<usize, Vec<usize>>,
    damaged: &[Damaged],
    repair_uids: bool,
) -> SeriesRecord {
    let (mut faults, mut warnings) = (Vec::new(), Vec::new());
    order(&mut slices);
    checks::file_faults(&slices, &mut faults);
    checks::header_faults(&slices, &mut faults, &mut warnings);
    checks::copy_warning(&slices, copies, &mut warnings);
    checks::damage_faults(&slices, damaged, &mut faults);
    let geometry = place(key, &slices, &mut faults, &mut warnings);

    let hashes: BTreeSet<&str> = slices.iter().map(|s| s.image.sha256.as_str()).collect();
    let lacking = slices.iter().any(|s| {
        let f = &s.image.facts;
        f.study.is_empty() || f.series.is_empty() || f.sop_instance.is_empty() || f.sop_class.is_empty()
    });
    if lacking && repair_uids {
        warnings.push(Fault::new("missing-uids", "missing UIDs were made from the content"));
    } else if lacking {
        faults.insert(
            0,
            Fault::new(
                "missing-uids",
                "SOP Class, SOP Instance, Study or Series Instance UIDs are empty or absent; `repair = [\"uids\"]` \
                 makes them from the content and groups such files by folder and geometry",
            ),
        );
    }
    let series = if key.series.is_empty() { content_uid("series", hashes.iter().copied()) } else { key.series.clone() };
    let sop_class = match (key.sop_class.as_str(), key.modality.as_str()) {
        ("", "CT") => dicom_dictionary_std::uids::CT_IMAGE_STORAGE,
        ("", "MR") => dicom_dictionary_std::uids::MR_IMAGE_STORAGE,
        ("", "PT") => dicom_dictionary_std::uids::POSITRON_EMISSION_TOMOGRAPHY_IMAGE_STORAGE,
        (class, _) => class,
    };
    let first = slices.first().map(|s| s.image);
    let all = |test: fn(&ScannedImage) -> bool| slices.iter().all(|s| test(s.image));
    let any = |test: fn(&ScannedImage) -> bool| slices.iter().any(|s| test(s.image));
    let folder = common_folder(slices.iter().map(|s| s.image.path.as_path()));
    SeriesRecord {
        kind: SeriesKind::Dicom,
        modality: key.modality.clone(),
        description: first.map(|i| i.facts.description.clone()).unwrap_or_default(),
        series_number: first.and_then(|i| i.facts.series_number),
        folder_parts: common_parts(slices.iter().map(|s| s.image.folder_parts.as_slice())),
        folder,
        study: key.study.clone(),
        series,
        part: 0,
        patient: key.patient.clone(),
        patient_names: Vec::new(),
        sop_class: sop_class.to_owned(),
        transfer_syntax: first.map(|i| i.transfer_syntax.clone()).unwrap_or_default(),
        rows: key.matrix.0,
        columns: key.matrix.1,
        geometry,
        derived_by_gantry: any(|i| i.facts.derived_by_gantry),
        localizer: key.localizer,
        deidentified: all(|i| i.facts.deidentified),
        burned_in_annotation: any(|i| i.facts.burned_in),
        faults,
        warnings,
        instances: slices.iter().map(instance).collect(),
    }
}

fn instance(slice: &Slice<'_>) -> InstanceRecord {
    let facts = &slice.image.facts;
    let sop_instance = match facts.sop_instance.as_str() {
        "" => content_uid("instance", [slice.image.sha256.as_str()]),
        uid => uid.to_owned(),
    };
    InstanceRecord {
        path: slice.image.path.clone(),
        input: slice.image.input,
        digest: slice.image.sha256.clone(),
        stamp: None,
        sop_instance,
        number: facts.instance_number,
        position_mm: slice.frame.plane.map(|p| p.position_mm),
        frame: facts.multi_frame.then_some(slice.number as u32),
    }
}

/// Folder components common to all slices.
fn common_parts<'a>(all: impl IntoIterator<Item = &'a [String]>) -> Vec<String> {
    let mut all = all.into_iter();
    let mut common = all.next().unwrap_or(&[]);
    for parts in all {
        let same = common.iter().zip(parts).take_while(|(a, b)| a == b).count();
        common = common.get(..same).unwrap_or(common);
    }
    common.to_vec()
}

/// Ascending along the normal of the first slice; equal positions by input.
fn order(slices: &mut [Slice<'_>]) {
    let Some(normal) = slices.first().and_then(|s| s.frame.plane).map(|p| p.normal()) else { return };
    let along = |s: &Slice<'_>| s.frame.plane.map_or(f64::NAN, |p| dot(p.position_mm, normal));
    slices
        .sort_by(|a, b| along(a).total_cmp(&along(b)).then((a.image.input, a.number).cmp(&(b.image.input, b.number))));
}

/// The grid of ordered slices.
fn place(
    key: &Key,
    slices: &[Slice<'_>],
    faults: &mut Vec<Fault>,
    warnings: &mut Vec<Fault>,
) -> Option<geometry::Geometry> {
    let planes: Option<Vec<SlicePlane>> = slices.iter().map(|s| s.frame.plane).collect();
    let Some(planes) = planes else {
        let at = slices.iter().find(|s| s.frame.plane.is_none()).map_or(0, |s| s.image.input);
        faults.push(Fault::new(
            "no-position",
            format!("#{at}: Image Position, Image Orientation or Pixel Spacing is missing or malformed"),
        ));
        return None;
    };
    let Layout { geometry, faults: mut found, warnings: said } =
        geometry::layout(&planes, key.matrix.0, key.matrix.1, key.frame_of_reference.clone());
    // Name the inputs that share a position: their pixels differ, for equal files were dropped.
    for fault in found.iter_mut().filter(|f| f.code == "duplicate-position") {
        let same = |w: &&[Slice<'_>]| match (w[0].frame.plane, w[1].frame.plane) {
            (Some(a), Some(b)) => (dot(b.position_mm, a.normal()) - a.along_mm()).abs() < SAME_POSITION_MM,
            _ => false,
        };
        let pairs: Vec<_> = slices.windows(2).filter(same).collect();
        if let Some([a, b]) = pairs.first() {
            fault.text = format!(
                "{} of {} slices lie where the one before lies, but are different files: first #{} and #{}",
                pairs.len(),
                slices.len(),
                a.image.input,
                b.image.input
            );
        }
    }
    faults.extend(found);
    warnings.extend(said);
    let tilt = slices.first().and_then(|s| s.image.facts.tilt_degrees).unwrap_or(0.0);
    if let Some(geometry) = &geometry
        && !geometry.z_unknown
        && tilt.abs() > 0.1
        && geometry.tilt_degrees() < 0.1
    {
        warnings.push(Fault::new(
            "tilt-tag",
            format!("the header says that the gantry was tilted by {tilt:.1} degrees, the positions say it was not"),
        ));
    }
    geometry
}

/// The record of a NIfTI file.
pub(crate) fn nifti_series(file: ScannedNifti) -> SeriesRecord {
    let (geometry, warnings, faults) = match file.grid {
        Ok(grid) => (Some(grid.geometry), grid.warnings, Vec::new()),
        Err(fault) => (None, Vec::new(), vec![fault.at(format_args!("#{}", file.input))]),
    };
    let name = file.path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let around = file.folder_parts.split_last().map_or(&[][..], |(_, around)| around);
    let around = if around.is_empty() { &file.folder_parts[..] } else { around };
    let uid = content_uid("series", [file.sha256.as_str()]);
    let size = geometry.as_ref().map_or([0; 3], |g| g.size);
    SeriesRecord {
        kind: SeriesKind::Nifti,
        modality: String::new(),
        description: name,
        series_number: None,
        folder: file.path.parent().map(Path::to_owned).unwrap_or_default(),
        study: content_uid("study", [file.sha256.as_str()]),
        part: 0,
        patient: format!("folder:{}", around.join("/")),
        patient_names: Vec::new(),
        folder_parts: file.folder_parts,
        sop_class: String::new(),
        transfer_syntax: String::new(),
        rows: size[1],
        columns: size[2],
        instances: vec![InstanceRecord {
            path: file.path,
            input: file.input,
            digest: file.sha256,
            stamp: None,
            sop_instance: uid.clone(),
            number: None,
            position_mm: geometry.as_ref().map(geometry::Geometry::origin_mm),
            frame: None,
        }],
        series: uid,
        geometry,
        derived_by_gantry: false,
        localizer: false,
        deidentified: false,
        burned_in_annotation: false,
        faults,
        warnings,
    }
}
