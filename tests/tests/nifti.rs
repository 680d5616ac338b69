//! DICOM to NIfTI, `dicom-read` -> `nifti-write` through the whole program, against dcm2niix.

use std::path::{Path, PathBuf};

use gantry_tests::fixture::shared;
use gantry_tests::launch::{end, gantry, run_json, walk};
use gantry_tests::oracle;

/// Writes the pipeline, runs it over `input`, and gives the one NIfTI file it made.
fn convert(scratch: &Path, source: &str, input: &Path) -> PathBuf {
    let pipeline = scratch.join("nifti.toml");
    let text = format!(
        "format = 1\nname = \"nifti\"\n[nodes.image]\nstage = \"dicom-read\"\nparams = {{ {source} }}\n\
         [nodes.write]\nstage = \"nifti-write\"\nfrom = \"image\"\n"
    );
    std::fs::write(&pipeline, text).unwrap();
    let out = scratch.join("out");
    end(gantry().arg("run").arg(&pipeline).arg("-i").arg(input).arg("-o").arg(&out)).expect(0);
    assert_eq!(run_json(&out)["complete"], true);
    let mut made = Vec::new();
    walk(&out, &mut |path| {
        if path.to_string_lossy().ends_with(".nii.gz") {
            made.push(path.to_owned());
        }
    });
    assert_eq!(made.len(), 1, "{made:?}");
    made.remove(0)
}

fn equals_dcm2niix(source: &str, input: &str) {
    let Some(input) = shared(input) else { return };
    let scratch = tempfile::tempdir().unwrap();
    let made = convert(scratch.path(), source, &input);
    oracle::python("compare_nifti.py", oracle::NIFTI, &[input.to_str().unwrap(), made.to_str().unwrap()]);
}

#[test]
fn chest_ct() {
    equals_dcm2niix("modality = \"CT\", quantity = \"hu\"", "data/chest-cta-heart/dicom");
}

#[test]
fn a_series_without_identifiers_in_jpeg_2000() {
    equals_dcm2niix("modality = \"CT\", quantity = \"hu\", repair = [\"uids\"]", "data/siemens-abdomen-j2k");
}

#[test]
fn every_compression_of_the_same_slices() {
    for folder in ["anatomical", "compressed", "compressed_rle", "compressed_jpeg", "compressed_j2k"] {
        println!("{folder}");
        let input = format!("data/transfer-syntaxes/dicom2nifti_series/generic/{folder}/001");
        equals_dcm2niix("modality = \"MR\", quantity = \"mr\"", &input);
    }
}

#[test]
fn other_vendors() {
    let folders = [
        "generic/anatomical/002_non_isotropic",
        "ge_anatomical/001",
        "hitachi_anatomical/001",
        "hyperfine_anatomical/001",
    ];
    for folder in folders {
        println!("{folder}");
        let input = format!("data/transfer-syntaxes/dicom2nifti_series/{folder}");
        equals_dcm2niix("modality = \"MR\", quantity = \"mr\"", &input);
    }
}

/// What dcm2niix cannot read (JPEG-LS) or comes as one multi-frame file: against the NIfTI that comes with the data.
#[test]
fn ground_truth_that_comes_with_the_data() {
    for folder in ["generic/compressed_jpegls", "philips_enhanced_anatomical", "siemens_multiframe_anatomical"] {
        println!("{folder}");
        let Some(input) = shared(&format!("data/transfer-syntaxes/dicom2nifti_series/{folder}")) else { return };
        let scratch = tempfile::tempdir().unwrap();
        let made = convert(scratch.path(), "modality = \"MR\", quantity = \"mr\"", &input.join("001"));
        let truth = input.join("001_ground_truth.nii.gz");
        let needs = "import nibabel, numpy";
        oracle::python("same_nifti.py", needs, &[made.to_str().unwrap(), truth.to_str().unwrap()]);
    }
}
