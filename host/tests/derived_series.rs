//! Real series through deriving and writing: read back here, and by dciodvfy, dcentvfy, dcmdump, gdcmdump, pydicom,
//! nibabel and dcm2niix through the scripts in `tests/oracles`.
//!
//! The scripts run where `GANTRY_ORACLE_PYTHON` (or else `python3`) can import what they need; elsewhere that part
//! says it was skipped. The reader here is a small one of its own, so that nothing is proved against itself.

use std::path::{Path, PathBuf};
use std::process::Command;

use dicom_core::Tag;
use dicom_dictionary_std::{tags, uids};
use dicom_object::{InMemDicomObject, OpenFileOptions};
use dicom_pixeldata::PixelDecoder;
use gantry_host::series::Geometry;
use gantry_host::series::derive::{
    DerivationCodes, DerivationContext, ModelReference, Nature, PaddingRun, PixelCoding, Rounding, SlicePixels,
    derive_instance, new_ct_header,
};
use gantry_host::series::geometry::{SlicePlane, layout};
use gantry_host::series::nifti::{Limits, NiftiFile, RowOrder, encode_image, match_grid};
use gantry_host::series::uid::UidMaker;
use gantry_host::series::write::Folder;
use gantry_tests::fixture::shared;

struct Slice {
    header: InMemDicomObject,
    coding: PixelCoding,
    /// Stored values `[Y, X]`.
    stored: Vec<i32>,
    plane: SlicePlane,
}

fn numbers<const N: usize>(header: &InMemDicomObject, tag: Tag) -> [f64; N] {
    header.element(tag).unwrap().to_multi_float64().unwrap().try_into().unwrap()
}

/// The image slices of a folder, ascending along the normal.
fn read(folder: &Path) -> Vec<Slice> {
    let mut slices = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let Ok(file) = OpenFileOptions::new().open_file(&path) else { continue };
        let stored = if file.meta().transfer_syntax().trim_end_matches('\0') == uids::JPEG2000_LOSSLESS {
            file.decode_pixel_data().unwrap().data().chunks_exact(2).map(|b| u16::from_le_bytes([b[0], b[1]])).collect()
        } else {
            let bytes = file.element(tags::PIXEL_DATA).unwrap().to_bytes().unwrap().into_owned();
            bytes.chunks_exact(2).map(|b| u16::from_le_bytes([b[0], b[1]])).collect::<Vec<u16>>()
        };
        let mut header = file.into_inner();
        header.remove_element(tags::PIXEL_DATA);
        let coding = PixelCoding::from_header(&header).unwrap();
        let stored = stored.iter().map(|&s| if coding.signed { i32::from(s as i16) } else { i32::from(s) }).collect();
        let plane = SlicePlane {
            position_mm: numbers(&header, tags::IMAGE_POSITION_PATIENT),
            orientation: numbers(&header, tags::IMAGE_ORIENTATION_PATIENT),
            spacing_mm: numbers(&header, tags::PIXEL_SPACING),
        };
        slices.push(Slice { header, coding, stored, plane });
    }
    slices.sort_by(|a, b| a.plane.along_mm().total_cmp(&b.plane.along_mm()));
    assert!(!slices.is_empty(), "no slices");
    slices
}

fn grid(slices: &[Slice]) -> Geometry {
    let planes: Vec<_> = slices.iter().map(|s| s.plane).collect();
    layout(&planes, slices[0].coding.rows, slices[0].coding.columns, None).geometry.unwrap()
}

fn physical(slice: &Slice) -> Vec<f32> {
    slice.stored.iter().map(|&s| slice.coding.physical(s)).collect()
}

fn padding(slice: &Slice) -> Vec<PaddingRun> {
    let Some(value) = slice.header.get(tags::PIXEL_PADDING_VALUE) else { return Vec::new() };
    let stored = value.to_int::<i32>().unwrap();
    let is = |&(_, &s): &(usize, &i32)| s == stored;
    slice.stored.iter().enumerate().filter(is).map(|(start, _)| PaddingRun { start, len: 1, stored }).collect()
}

fn context(repair: bool) -> DerivationContext {
    DerivationContext {
        uids: UidMaker::new(None, "plan", "inputs", "write"),
        run_time: "2026-01-31T10:15:00Z".parse().unwrap(),
        series_number: 1003,
        series_description: "sCECT (DuCoSy)".to_owned(),
        pipeline: "ducosy".to_owned(),
        nature: Nature::Synthetic,
        toy: true,
        models: vec![ModelReference { name: "toy-soft".into(), version: "1".into(), sha256: "00ff".repeat(16) }],
        codes: DerivationCodes { masked: true, gaussian: true, unsharp: true },
        contrast_removed: false,
        deidentified_by_gantry: false,
        software_versions: vec!["0.1.0".into(), "plan 0123456789abcdef".into()],
        lossy_source: false,
        repair,
    }
}

fn output(name: &str) -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    if dir.exists() {
        std::fs::remove_dir_all(&dir).unwrap();
    }
    std::fs::create_dir_all(&dir).unwrap();
    dir
}

/// Runs an oracle script; `false` where its interpreter is not on this machine.
fn oracle(script: &str, needs: &str, arguments: &[&str]) -> bool {
    let python = std::env::var("GANTRY_ORACLE_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let probe = Command::new(&python).args(["-c", needs]).output();
    if !probe.is_ok_and(|p| p.status.success()) {
        eprintln!("skipped: {python} cannot run `{needs}` for {script}");
        return false;
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/oracles").join(script);
    let done = Command::new(&python).arg(script).args(arguments).output().unwrap();
    let text = String::from_utf8_lossy(&done.stdout);
    println!("{text}");
    assert!(done.status.success(), "{text}{}", String::from_utf8_lossy(&done.stderr));
    true
}

const DICOM_NEEDS: &str = "import pydicom, numpy, shutil, pathlib, sys; \
    assert shutil.which('dciodvfy') or (pathlib.Path(sys.executable).parent / 'dciodvfy').exists()";
const NIFTI_NEEDS: &str = "import nibabel, pydicom, shutil; assert shutil.which('dcm2niix')";

/// Changes the left half of every slice, keeps the right half, writes the series, reads it back.
fn derive_series(name: &str, folder: &Path, repair: bool) {
    let slices = read(folder);
    let dir = output(name);
    let out = Folder::open(&dir).unwrap();
    let ctx = context(repair);
    let mut largest_error = 0f64;
    for (index, slice) in slices.iter().enumerate() {
        let columns = slice.coding.columns;
        let mut values = physical(slice);
        for row in values.chunks_exact_mut(columns) {
            for value in &mut row[..columns / 2] {
                *value = *value * 1.01 + 12.34;
            }
        }
        let padding = padding(slice);
        let pixels =
            SlicePixels { index, values: &values, padding: &padding, rounding: Rounding::Nearest, frame: None };
        let derived = derive_instance(&slice.header, &ctx, &pixels).unwrap();
        out.write(&format!("{:04}.dcm", index + 1), &derived.to_bytes().unwrap()).unwrap();
        let is_padding = |i: usize| padding.iter().any(|p| p.start == i);
        let back = derived.object.element(tags::PIXEL_DATA).unwrap().to_bytes().unwrap().into_owned();
        for (i, b) in back.chunks_exact(2).enumerate() {
            let raw = u16::from_le_bytes([b[0], b[1]]);
            let stored = if slice.coding.signed { i32::from(raw as i16) } else { i32::from(raw) };
            if i % columns >= columns / 2 || is_padding(i) {
                assert_eq!(stored, slice.stored[i], "slice {index}, voxel {i} was not touched");
            } else {
                let (lo, hi) = slice.coding.stored_range();
                let error = f64::from((slice.coding.physical(stored) - values[i]).abs()) / slice.coding.slope.abs();
                if stored > lo && stored < hi {
                    largest_error = largest_error.max(error);
                }
            }
        }
    }
    out.sync().unwrap();
    println!("{name}: {} slices, largest storing error {largest_error:.4} steps", slices.len());
    assert!(largest_error <= 0.5 + 1e-3, "{largest_error}");
    // Written again: the same bytes.
    let again = read(folder);
    let values = physical(&again[0]);
    let once = |s: &Slice| {
        let pixels = SlicePixels { index: 0, values: &values, padding: &[], rounding: Rounding::Nearest, frame: None };
        derive_instance(&s.header, &ctx, &pixels).unwrap().to_bytes().unwrap()
    };
    assert_eq!(once(&slices[0]), once(&again[0]));
    let paths = [folder.to_str().unwrap(), dir.to_str().unwrap(), "--synthetic"];
    oracle("verify_derived.py", DICOM_NEEDS, &paths);
}

#[test]
fn chest_ct() {
    let Some(folder) = shared("data/chest-cta-heart/dicom") else { return };
    derive_series("chest", &folder, false);
}

#[test]
fn abdomen_ct_with_empty_uids() {
    let Some(folder) = shared("data/siemens-abdomen-j2k") else { return };
    derive_series("abdomen", &folder, true);
}

#[test]
fn tilted_ct() {
    let Some(folder) = shared("data/odd-series/dicom2nifti_ct_series/gantrytilting/001") else { return };
    derive_series("tilted", &folder, false);
}

#[test]
fn magnetic_resonance() {
    for (name, folder) in [
        ("mr-siemens", "generic/anatomical/001"),
        ("mr-slopes", "generic/anatomical/002_non_isotropic"),
        ("mr-sagittal", "ge_anatomical/001"),
        ("mr-oblique-implicit", "hitachi_anatomical/001"),
    ] {
        let Some(folder) = shared("data/transfer-syntaxes/dicom2nifti_series").map(|f| f.join(folder)) else { return };
        derive_series(name, &folder, false);
    }
}

#[test]
fn padded_ct_single_files() {
    let Some(folder) = shared("data/transfer-syntaxes/pydicom") else { return };
    for name in ["CT_small.dcm", "693_UNCR.dcm", "MR_small.dcm", "MR_small_implicit.dcm"] {
        let dir = output(&format!("source-{name}"));
        std::fs::copy(folder.join(name), dir.join(name)).unwrap();
        derive_series(name.trim_end_matches(".dcm"), &dir, false);
    }
}

/// Voxels, slice order, row order and affine of what we write are dcm2niix's.
#[test]
fn nifti_is_dcm2niixs() {
    for (name, folder) in [
        ("chest", "chest-cta-heart/dicom"),
        ("abdomen", "siemens-abdomen-j2k"),
        ("mr-siemens", "transfer-syntaxes/dicom2nifti_series/generic/anatomical/001"),
        ("mr-slopes", "transfer-syntaxes/dicom2nifti_series/generic/anatomical/002_non_isotropic"),
        ("mr-sagittal", "transfer-syntaxes/dicom2nifti_series/ge_anatomical/001"),
        ("mr-oblique", "transfer-syntaxes/dicom2nifti_series/hitachi_anatomical/001"),
        ("tilted", "odd-series/dicom2nifti_ct_series/gantrytilting/001"),
    ] {
        let Some(folder) = shared("data").map(|d| d.join(folder)) else { return };
        let slices = read(&folder);
        let geometry = grid(&slices);
        let voxels: Vec<f32> = slices.iter().flat_map(physical).collect();
        let bytes = encode_image(&geometry, 1, &voxels, RowOrder::Flipped).unwrap();
        let path = output(&format!("nifti-{name}")).join("ours.nii.gz");
        std::fs::write(&path, bytes).unwrap();
        // Back onto the DICOM grid, voxel for voxel.
        let read = NiftiFile::open(&path, Limits::default()).unwrap().image().unwrap();
        assert_ne!(read.voxels, voxels);
        assert_eq!(read.reorient_to(&geometry, 1e-3).unwrap().voxels, voxels, "{name}");
        println!("{name}: {:?}", geometry.size);
        let mut arguments = vec![folder.to_str().unwrap(), path.to_str().unwrap()];
        arguments.extend((name == "tilted").then_some("--tilted"));
        oracle("compare_nifti.py", NIFTI_NEEDS, &arguments);
    }
}

/// The reference NIfTI files lie on the DICOM series' grid.
#[test]
fn reference_nifti_on_the_dicom_grid() {
    let Some(folder) = shared("data/chest-cta-heart") else { return };
    let slices = read(&folder.join("dicom"));
    let geometry = grid(&slices);
    let voxels: Vec<f32> = slices.iter().flat_map(physical).collect();
    let open = |name: &str| NiftiFile::open(&folder.join(name), Limits::default()).unwrap();
    let ct = open("ct_cropped.nii.gz");
    println!("ct_cropped.nii.gz: {:.1e} mm", match_grid(ct.geometry(), &geometry, 1e-3).unwrap().distance_mm);
    assert_eq!(ct.image().unwrap().reorient_to(&geometry, 1e-3).unwrap().voxels, voxels);
    let heart = open("heart.nii.gz").labels::<u8>().unwrap().reorient_to(&geometry, 1e-3).unwrap();
    assert_eq!(heart.voxels.iter().filter(|&&v| v != 0).count(), 198_176);
}

/// A NIfTI volume written as DICOM is a series of its own.
#[test]
fn nifti_becomes_a_series() {
    let Some(folder) = shared("data/chest-cta-heart") else { return };
    let ct = NiftiFile::open(&folder.join("ct_cropped.nii.gz"), Limits::default()).unwrap().image().unwrap();
    let dir = output("from-nifti");
    let out = Folder::open(&dir).unwrap();
    let ctx = DerivationContext { nature: Nature::Derived, toy: false, ..context(true) };
    let plane = ct.geometry.size[1] * ct.geometry.size[2];
    for (index, values) in ct.voxels.chunks_exact(plane).enumerate() {
        let header = new_ct_header(&ct.geometry, index, &ctx.uids).unwrap();
        let pixels = SlicePixels { index, values, padding: &[], rounding: Rounding::Nearest, frame: None };
        let derived = derive_instance(&header, &ctx, &pixels).unwrap();
        assert_eq!(derived.clamped, 0);
        out.write(&format!("{:04}.dcm", index + 1), &derived.to_bytes().unwrap()).unwrap();
    }
    let slices = read(&dir);
    assert_eq!(slices.iter().flat_map(physical).collect::<Vec<_>>(), ct.voxels);
    assert!(match_grid(&ct.geometry, &grid(&slices), 1e-3).unwrap().is_identity());
    // The chest series has the same grid but for its f32 affine: as good a source to compare with as any.
    let script = "import pydicom, sys, subprocess, pathlib\n\
        tool = str(pathlib.Path(sys.executable).parent / 'dciodvfy')\n\
        text = subprocess.run([tool, sys.argv[1]], capture_output=True, text=True).stderr\n\
        print(text)\n\
        sys.exit('CTImage' not in text or 'Error' in text)";
    let python = std::env::var("GANTRY_ORACLE_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    if Command::new(&python).args(["-c", DICOM_NEEDS]).output().is_ok_and(|p| p.status.success()) {
        let done = Command::new(&python).args(["-c", script]).arg(dir.join("0001.dcm")).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stdout));
    } else {
        eprintln!("skipped: no dciodvfy beside {python}");
    }
}
