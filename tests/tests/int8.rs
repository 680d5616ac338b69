//! int8 from the first measurement to the result: an edge is kept, the generator is calibrated on it, the card permits
//! int8, and the chain runs with it.

use std::path::{Path, PathBuf};
use std::process::Command;

use gantry_tests::launch::{copy_folder, end, gantry, run_json};
use gantry_tests::staging::{stage, workspace};
use nifti::{NiftiObject, ReaderOptions};

const CHAIN: &str = r#"
format = 1
name = "one-window"
[nodes.in]
stage = "dicom-read"
select = { modality = "CT", not_folder = "POST STD" }
params = { modality = "CT", quantity = "hu" }
[nodes.window]
stage = "hu-window"
from = "in"
params = { hu_min = -150.0, hu_max = 250.0 }
[nodes.soft]
stage = "cyclegan-generator"
from = "window"
params = { checkpoint = "toy-soft" }
[nodes.hu]
stage = "denormalise"
from = "soft"
[nodes.out]
stage = "nifti-write"
from = "hu"
"#;

/// The example `calibrate`, which is built with the tests.
fn calibrate() -> PathBuf {
    let test = std::env::current_exe().expect("the path of this test");
    let folder = test.parent().and_then(Path::parent).expect("target/<profile>/deps");
    folder.join("examples/calibrate")
}

fn only_file(folder: &Path) -> PathBuf {
    let mut files: Vec<_> = std::fs::read_dir(folder).expect("a folder").map(|e| e.expect("an entry").path()).collect();
    files.retain(|path| path.to_string_lossy().ends_with(".nii.gz"));
    assert_eq!(files.len(), 1, "{files:?}");
    files.remove(0)
}

fn hu(file: &Path) -> Vec<f32> {
    let object = ReaderOptions::new().read_file(file).expect("a NIfTI file");
    let (slope, intercept) = (object.header().scl_slope, object.header().scl_inter);
    let stored = object.into_volume().into_nifti_typed_data::<f32>().expect("voxels");
    stored.into_iter().map(|x| if slope == 0.0 { x } else { x * slope + intercept }).collect()
}

#[test]
fn a_generator_is_calibrated_and_runs_in_int8() {
    let temp = tempfile::tempdir().expect("a folder");
    let path = |name: &str| temp.path().join(name);
    end(gantry().args(["phantom", "--patients", "1", "--size", "64", "--slices", "4", "-o"]).arg(path("in"))).expect(0);
    std::fs::write(path("chain.toml"), CHAIN).expect("written");
    copy_folder(&workspace().join("checkpoints/toy-soft"), &path("checkpoints/toy-soft"));
    let chain = |out: &str, precision: &str, more: &[&str]| -> Command {
        let mut command = gantry();
        command.arg("run").arg(path("chain.toml")).arg("-i").arg(path("in")).arg("-o").arg(path(out));
        command.arg("--plugins").arg(&stage().plugins).arg("--checkpoints").arg(path("checkpoints"));
        command.args(["--allow-toy", "--precision", precision]).args(more);
        command
    };
    let case = |out: &str| {
        let record = run_json(&path(out));
        let name = record["cases"][0]["case"].as_str().expect("a case").to_owned();
        (path(out).join(name), record)
    };
    end(&mut chain("exact", "f32x3", &["--keep", "window"])).expect(0);
    let (exact, _) = case("exact");

    // Without the table int8 is refused before anything is read.
    let refused = end(&mut chain("refused", "int8", &[])).expect(2);
    assert!(refused.stderr.contains("int8-not-calibrated"), "{}", refused.stderr);

    let mut calibrate = Command::new(calibrate());
    calibrate.arg(path("checkpoints/toy-soft")).arg(only_file(&exact.join("keep-window")));
    let table = end(&mut calibrate).expect(0).stdout;
    assert!(table.starts_with("[run.int8.activations]") && table.contains("\"model.10.block.5\" = "), "{table}");
    let card = path("checkpoints/toy-soft/card.toml");
    let text = std::fs::read_to_string(&card).expect("a card");
    std::fs::write(&card, format!("{text}\n{table}")).expect("written");

    end(&mut chain("bytes", "int8", &[])).expect(0);
    let (bytes, record) = case("bytes");
    let kernels = &record["cases"][0]["nodes"]["soft"]["kernels"];
    assert_eq!(kernels["precision"], "int8", "{record:#}");
    let (exact, bytes) = (hu(&only_file(&exact.join("out"))), hu(&only_file(&bytes.join("out"))));
    let mut apart: Vec<f32> = exact.iter().zip(&bytes).map(|(a, b)| (a - b).abs()).collect();
    apart.sort_by(f32::total_cmp);
    let mean = apart.iter().sum::<f32>() / apart.len() as f32;
    let largest = apart.last().expect("voxels");
    println!("int8 against f32x3 on a phantom: mean {mean:.2} HU, largest {largest:.1} HU");
    // Not the same arithmetic, and close to it.
    assert!(mean > 0.0 && mean < 4.0 && *largest < 80.0, "mean {mean}, largest {largest}");
}
