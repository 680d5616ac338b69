//! What `dicom-write` makes of real series, judged by dciodvfy, dcentvfy, dcmdump, gdcmdump and pydicom.

use std::path::Path;

use gantry_tests::fixture::shared;
use gantry_tests::launch::{end, gantry, run_json};
use gantry_tests::oracle;

fn derive(source: &str, input: &Path) {
    let scratch = tempfile::tempdir().unwrap();
    let pipeline = scratch.path().join("copy.toml");
    let text = format!(
        "format = 1\nname = \"copy\"\n[nodes.image]\nstage = \"dicom-read\"\nparams = {{ {source} }}\n\
         [nodes.smooth]\nstage = \"volume-postprocess\"\nfrom = \"image\"\nparams = {{ method = \"gaussian3d\" }}\n\
         [nodes.write]\nstage = \"dicom-write\"\nfrom = \"smooth\"\n"
    );
    std::fs::write(&pipeline, text).unwrap();
    let out = scratch.path().join("out");
    end(gantry().arg("run").arg(&pipeline).arg("-i").arg(input).arg("-o").arg(&out)).expect(0);
    let case = run_json(&out)["cases"][0]["case"].as_str().unwrap().to_owned();
    let written = out.join(case).join("write");
    oracle::python("verify_derived.py", oracle::DICOM, &[input.to_str().unwrap(), written.to_str().unwrap(), "--json"]);
}

#[test]
fn chest_ct() {
    let Some(input) = shared("data/chest-cta-heart/dicom") else { return };
    derive("modality = \"CT\", quantity = \"hu\"", &input);
}

#[test]
fn a_series_without_identifiers() {
    let Some(input) = shared("data/siemens-abdomen-j2k") else { return };
    derive("modality = \"CT\", quantity = \"hu\", repair = [\"uids\"]", &input);
}
