//! Finding the series in folders: walking, recognising by content, hashing, and handing over to grouping.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use dicom_dictionary_std::{tags, uids};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::facts::{Facts, is_volume_class, may_make_volume};
use super::instance_file::{Content, InstanceFile};
use super::instances::{self, InstanceFacts, ScannedInstance};
use super::nifti_probe::NiftiGrid;
use super::pixel::{self, PixelModule};
use super::record::{Fault, ScanReport, Skipped};
use super::{group, guard, header, input, nifti_probe};

/// What a scan may mend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Repair {
    /// Makes up UIDs, from the content, where they are missing; such files are grouped by folder and geometry.
    Uids,
}

/// How to scan.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScanOptions {
    /// Take also the series that Gantry itself derived.
    #[serde(default)]
    pub include_derived: bool,
    /// What may be mended.
    #[serde(default)]
    pub repair: Vec<Repair>,
    /// Look for SOP instances of every class, study by study, instead of series that make volumes.
    #[serde(default)]
    pub instances: bool,
    /// Folders that are not looked into, absolute: a run's own output.
    #[serde(default)]
    pub exclude: Vec<PathBuf>,
    /// Files that are passed over because an earlier scan died on them.
    #[serde(default)]
    pub poisonous: Vec<PathBuf>,
}

/// A file to look at.
#[derive(Debug, Clone)]
struct Candidate {
    path: PathBuf,
    /// Folder below its root, one component an element.
    folder_parts: Vec<String>,
    /// Why it is not even opened.
    passed_over: Option<Fault>,
}

/// One recognised DICOM image file.
#[derive(Debug, Clone)]
pub(crate) struct ScannedImage {
    pub path: PathBuf,
    pub folder_parts: Vec<String>,
    pub input: usize,
    pub sha256: String,
    pub transfer_syntax: String,
    pub facts: Facts,
    /// What keeps the file from being decoded.
    pub faults: Vec<Fault>,
}

/// One recognised NIfTI file.
#[derive(Debug, Clone)]
pub(crate) struct ScannedNifti {
    pub path: PathBuf,
    pub folder_parts: Vec<String>,
    pub input: usize,
    pub sha256: String,
    pub grid: Result<NiftiGrid, Fault>,
}

/// A DICOM file that is damaged in its header, so that it cannot be told which series it belongs to.
#[derive(Debug, Clone)]
pub(crate) struct Damaged {
    pub folder: PathBuf,
    pub input: usize,
}

#[derive(Debug)]
enum Found {
    Image(Box<ScannedImage>),
    Nifti(Box<ScannedNifti>),
    Instance(Box<ScannedInstance>),
    Skipped { fault: Fault, damaged: bool },
}

/// Scans folders (or single files) for series. Symbolic links below a root are not followed, special files are not
/// opened; each is listed in `skipped`, with everything else that is no image of a volume. `on_file` is
/// told each file before it is opened (of instances that may be copies, once more), and may be called from several threads.
///
/// # Errors
/// `no-input` for a root that does not exist or cannot be read. Everything else is told in the report.
pub fn scan(roots: &[PathBuf], options: &ScanOptions, on_file: &(dyn Fn(&Path) + Sync)) -> Result<ScanReport, Fault> {
    let candidates = candidates(roots, options)?;
    let total = candidates.len();
    let found: Vec<Found> = candidates
        .par_iter()
        .enumerate()
        .map(|(input, candidate)| {
            on_file(&candidate.path);
            look_at(candidate, input, options.instances).unwrap_or_else(|fault| {
                // What could not be looked into may be a slice, like what is damaged.
                let damaged = matches!(fault.code.as_str(), "unreadable" | "scan-crash" | "too-large");
                Found::Skipped { fault, damaged }
            })
        })
        .collect();
    let (mut images, mut niftis, mut damaged_files, mut skipped) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut all_instances = Vec::new();
    for (input, (found, candidate)) in found.into_iter().zip(candidates).enumerate() {
        match found {
            Found::Image(image) => images.push(*image),
            Found::Nifti(nifti) => niftis.push(*nifti),
            Found::Instance(instance) => all_instances.push(*instance),
            Found::Skipped { fault, damaged } => {
                if damaged {
                    let folder = candidate.path.parent().unwrap_or(Path::new("")).to_owned();
                    damaged_files.push(Damaged { folder, input });
                }
                skipped.push(Skipped { input, path: candidate.path, code: fault.code, text: fault.text });
            }
        }
    }
    let mut series = group::group(images, &damaged_files, options.repair.contains(&Repair::Uids), &mut skipped);
    if !options.include_derived {
        let derived = series.iter().filter(|s| s.derived_by_gantry);
        skipped.extend(derived.map(|s| Skipped {
            input: s.instances.first().map_or(0, |i| i.input),
            path: s.folder.clone(),
            code: "derived-by-gantry".to_owned(),
            text: format!("a series of {} slices that Gantry derived is left out", s.slices()),
        }));
        series.retain(|s| !s.derived_by_gantry);
    }
    series.extend(niftis.into_iter().map(group::nifti_series));
    instances::tell_copies(&mut all_instances, on_file);
    series.extend(instances::group(all_instances, &mut skipped));
    skipped.sort_by_key(|a| a.input);
    Ok(ScanReport { roots: roots.to_vec(), inputs: total, series, skipped })
}

/// Every file below the roots, sorted by root and path.
fn candidates(roots: &[PathBuf], options: &ScanOptions) -> Result<Vec<Candidate>, Fault> {
    let mut all = Vec::new();
    let mut seen: HashSet<PathBuf> = HashSet::new();
    for (n, root) in roots.iter().enumerate() {
        let no_input = |e: &std::io::Error| {
            let why = match e.kind() {
                std::io::ErrorKind::NotFound => "does not exist".to_owned(),
                kind => format!("cannot be read: {kind}"),
            };
            Fault::new("no-input", format!("input folder {} {why}", n + 1))
        };
        // Links in the path of the root itself are the user's choice.
        let root = root.canonicalize().map_err(|e| no_input(&e))?;
        for entry in walkdir::WalkDir::new(&root)
            .follow_links(false)
            .sort_by_file_name()
            .into_iter()
            .filter_entry(|e| !options.exclude.iter().any(|x| x == e.path()))
        {
            let entry = match entry {
                Ok(entry) => entry,
                Err(e) if e.depth() == 0 => {
                    return Err(e
                        .io_error()
                        .map_or_else(|| Fault::new("no-input", "a folder cannot be read"), no_input));
                }
                Err(e) => {
                    let fault = Fault::new("unreadable", "the folder cannot be read");
                    let path = e.path().map(Path::to_owned).unwrap_or_default();
                    all.push(Candidate { path, folder_parts: Vec::new(), passed_over: Some(fault) });
                    continue;
                }
            };
            let kind = entry.file_type();
            if kind.is_dir() || !seen.insert(entry.path().to_owned()) {
                continue;
            }
            let passed_over = if kind.is_symlink() {
                Some(Fault::new("symlink", "a symbolic link is not followed"))
            } else if options.poisonous.iter().any(|p| p == entry.path()) {
                Some(Fault::new("scan-crash", "an earlier attempt to read the file ended the reader"))
            } else if !kind.is_file() {
                Some(Fault::new("not-a-file", "not a regular file"))
            } else {
                None
            };
            let below = entry.path().strip_prefix(&root).ok().and_then(Path::parent).unwrap_or(Path::new(""));
            let folder_parts = below.iter().map(|part| part.to_string_lossy().into_owned()).collect();
            all.push(Candidate { path: entry.into_path(), folder_parts, passed_over });
        }
    }
    Ok(all)
}

/// Recognises one file.
fn look_at(candidate: &Candidate, input: usize, instances: bool) -> Result<Found, Fault> {
    if let Some(fault) = &candidate.passed_over {
        return Err(fault.clone());
    }
    let (file, size) = input::open(&candidate.path)?;
    if size == 0 {
        return Err(Fault::new("empty", "the file is empty"));
    }
    let stamp = input::stamp(&file);
    let head = input::read_head::<512>(&file)?;
    if guard::looks_like_dicom(&head) {
        return match instances {
            true => look_at_instance(candidate, input, InstanceFile::new(file, size, stamp, head)?),
            false => Ok(look_at_dicom(candidate, input, input::read_rest(&file, size, head)?)),
        };
    }
    let name = candidate.path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    if !nifti_probe::is_named_nifti(&name) {
        return Err(Fault::new("not-dicom", "neither DICOM nor NIfTI"));
    }
    let grid = nifti_probe::grid(&file);
    drop(file);
    Ok(Found::Nifti(Box::new(ScannedNifti {
        path: candidate.path.clone(),
        folder_parts: candidate.folder_parts.clone(),
        input,
        sha256: input::sha256_of(&candidate.path)?,
        grid,
    })))
}

/// An instance of whatever class. What is DICOM and cannot be read is no stranger to be passed over: it becomes a case that
/// is refused by name.
fn look_at_instance(candidate: &Candidate, input: usize, file: InstanceFile) -> Result<Found, Fault> {
    let skip = |code, text| Ok(Found::Skipped { fault: Fault::new(code, text), damaged: false });
    let facts_of = |outline: &guard::Outline| header::parse(outline).and_then(|header| InstanceFacts::of(&header));
    let mut damage = None;
    let (walked, bytes) = match file.content() {
        Content::Head(beginning) => (Ok(Some(beginning.outline.borrowed())), &[][..]),
        Content::Whole(bytes) => (guard::walk(bytes.as_slice()), bytes.as_slice()),
    };
    let (transfer_syntax, facts) = match walked {
        Ok(None) => return skip("not-dicom", "neither DICOM nor NIfTI"),
        Ok(Some(outline)) if outline.media_sop_class == uids::MEDIA_STORAGE_DIRECTORY_STORAGE => {
            return skip("dicomdir", "a DICOMDIR: an index of names that are not kept");
        }
        Ok(Some(outline)) => {
            let facts = facts_of(&outline);
            (outline.transfer_syntax, facts)
        }
        Err(fault) => match guard::walk_header(bytes) {
            Ok(Some(outline)) if outline.header.end < outline.data.len() => {
                damage = Some(fault);
                let facts = facts_of(&outline);
                (outline.transfer_syntax, facts)
            }
            _ => (String::new(), Err(fault)),
        },
    };
    let stamp = file.stamp().cloned();
    Ok(Found::Instance(Box::new(ScannedInstance {
        path: candidate.path.clone(),
        folder_parts: candidate.folder_parts.clone(),
        input,
        // What cannot be told by its header is told, also from its copies, by all of it.
        digest: match facts.as_ref().err().map(|_| file.whole()) {
            Some(Ok(bytes)) => input::sha256(&bytes),
            _ => file.digest(),
        },
        content: None,
        stamp,
        transfer_syntax,
        facts,
        damage,
    })))
}

fn look_at_dicom(candidate: &Candidate, input: usize, bytes: Vec<u8>) -> Found {
    let skip = |fault| Found::Skipped { fault, damaged: false };
    let (outline, damage) = match guard::walk(bytes.as_slice()) {
        Ok(Some(outline)) => (outline, None),
        Ok(None) => return skip(Fault::new("not-dicom", "neither DICOM nor NIfTI")),
        // Damaged in its pixel data: the header still tells which series is incomplete.
        Err(fault) => match guard::walk_header(bytes.as_slice()) {
            Ok(Some(outline)) if outline.header.end < outline.data.len() => (outline, Some(fault)),
            _ => {
                let class = guard::media_sop_class(&bytes);
                return Found::Skipped { fault, damaged: class.is_empty() || is_volume_class(&class) };
            }
        },
    };
    if outline.media_sop_class == uids::MEDIA_STORAGE_DIRECTORY_STORAGE {
        return skip(Fault::new("not-an-image", "a DICOMDIR, not an image"));
    }
    let parsed = header::parse(&outline);
    let no_pixels = damage.is_none() && outline.pixels == guard::PixelSpan::Absent;
    let header = match parsed {
        Ok(header) => header,
        Err(fault) => return Found::Skipped { fault, damaged: !no_pixels },
    };
    let class = header::text(&header, tags::SOP_CLASS_UID).unwrap_or_default();
    if no_pixels {
        return skip(Fault::new("not-an-image", format!("{} without pixel data, not an image", class_name(&class))));
    }
    if !may_make_volume(&header) {
        return skip(Fault::new("not-a-volume-class", format!("{} makes no volume", class_name(&class))));
    }
    let facts = match Facts::of(&header) {
        Ok(facts) => facts,
        Err(fault) => return skip(damage.unwrap_or(fault)),
    };
    let mut faults: Vec<Fault> = damage.into_iter().collect();
    if faults.is_empty()
        && let Err(fault) = PixelModule::of(&header).and_then(|module| pixel::check(&outline, &module))
    {
        faults.push(fault);
    }
    Found::Image(Box::new(ScannedImage {
        path: candidate.path.clone(),
        folder_parts: candidate.folder_parts.clone(),
        input,
        sha256: input::sha256(&bytes),
        transfer_syntax: outline.transfer_syntax.clone(),
        facts,
        faults,
    }))
}

/// A SOP class in words; never what a file claims beyond this list.
fn class_name(uid: &str) -> &'static str {
    match uid {
        uids::SECONDARY_CAPTURE_IMAGE_STORAGE
        | uids::MULTI_FRAME_GRAYSCALE_BYTE_SECONDARY_CAPTURE_IMAGE_STORAGE
        | uids::MULTI_FRAME_GRAYSCALE_WORD_SECONDARY_CAPTURE_IMAGE_STORAGE
        | uids::MULTI_FRAME_TRUE_COLOR_SECONDARY_CAPTURE_IMAGE_STORAGE => "a secondary capture",
        uids::SEGMENTATION_STORAGE => "a segmentation",
        uids::RT_DOSE_STORAGE => "a radiotherapy dose",
        uids::RT_PLAN_STORAGE | uids::RT_ION_PLAN_STORAGE => "a radiotherapy plan",
        uids::RT_STRUCTURE_SET_STORAGE => "a radiotherapy structure set",
        uids::ULTRASOUND_IMAGE_STORAGE | uids::ULTRASOUND_MULTI_FRAME_IMAGE_STORAGE => "an ultrasound image",
        uids::NUCLEAR_MEDICINE_IMAGE_STORAGE => "a nuclear medicine image",
        uids::GRAYSCALE_SOFTCOPY_PRESENTATION_STATE_STORAGE => "a presentation state",
        uids::ENCAPSULATED_PDF_STORAGE => "an encapsulated PDF",
        uids::RAW_DATA_STORAGE => "raw data",
        uids::COMPUTED_RADIOGRAPHY_IMAGE_STORAGE
        | uids::DIGITAL_X_RAY_IMAGE_STORAGE_FOR_PRESENTATION
        | uids::DIGITAL_X_RAY_IMAGE_STORAGE_FOR_PROCESSING => "a projection radiograph",
        _ if uid.starts_with("1.2.840.10008.5.1.4.1.1.88.") => "a structured report",
        _ => "an object of another class",
    }
}
