//! Reading ahead and writing behind: a series of many batches gives the same bytes, warnings and failures as with one
//! thread, where everything happens in turn.

mod bench;

use std::path::Path;

use bench::{MARK_MM, Patient, Run, hostile, run};
use dicom_core::value::{PixelFragmentSequence, Value};
use dicom_core::{DataElement, VR};
use dicom_dictionary_std::{tags, uids};
use gantry_tests::launch::{end, gantry, results};
use gantry_tests::staging::workspace;
use gantry_tests::toys;
use serde_json::Value as Json;

/// Five batches of eight, and some.
const SLICES: u16 = 45;

fn chain(mode: &str) -> String {
    format!(
        "format = 1\nname = \"lanes\"\n[nodes.ct]\nstage = \"dicom-read\"\nselect = {{ modality = \"CT\" }}\n\
         params = {{ modality = \"CT\", quantity = \"hu\" }}\n\
         [nodes.bad]\nstage = \"org.example.hostile\"\nfrom = \"ct\"\nparams = {{ mode = \"{mode}\" }}\n\
         [nodes.dicom]\nstage = \"dicom-write\"\nfrom = \"bad\"\nparams = {{ series_description = \"x\" }}\n\
         [nodes.nifti]\nstage = \"nifti-write\"\nfrom = \"bad\"\n"
    )
}

/// A marked patient of many slices; the pixels of slice `broken` are no RLE, which only their reader finds out.
fn patient(broken: Option<u16>) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    Patient { name: "bert", z_mm: MARK_MM, slices: SLICES, seed: 2 }.write(root.path());
    if let Some(slice) = broken {
        let path = root.path().join("bert").join(format!("{slice:03}.dcm"));
        let mut object = dicom_object::open_file(&path).unwrap();
        let garbage = PixelFragmentSequence::new_fragments(vec![vec![0xa5_u8; 200]]);
        object.put(DataElement::new(tags::PIXEL_DATA, VR::OB, Value::PixelSequence(garbage)));
        object.update_meta(|meta| meta.transfer_syntax = uids::RLE_LOSSLESS.to_owned());
        object.write_to_file(&path).unwrap();
    }
    root
}

/// The same with one thread, and with two at work in three lanes.
fn both(mode: &str, input: &Path) -> [Run; 2] {
    ["1", "2"].map(|threads| run(&chain(mode), &[hostile()], input, &["--threads", threads]))
}

#[test]
fn lanes_change_no_byte_and_no_warning() {
    let input = patient(None);
    let [alone, lanes] = both("bad-text", input.path());
    let (alone, lanes) = (alone.ended(0), lanes.ended(0));
    assert_eq!(alone.results().len(), usize::from(SLICES) + 1);
    assert!(alone.results() == lanes.results());
    let warnings = |run: &Run| run.json()["cases"][0]["warnings"].clone();
    assert!(warnings(&alone).as_array().is_some_and(|w| w.len() >= 6), "{}", warnings(&alone));
    assert_eq!(warnings(&alone), warnings(&lanes));
    let slices = |run: &Run, node: &str| run.json()["cases"][0]["nodes"][node]["slices"].clone();
    assert_eq!((slices(&lanes, "ct"), slices(&lanes, "dicom")), (SLICES.into(), SLICES.into()));
}

#[test]
fn the_chain_with_volumes_between_gives_the_same_bytes() {
    let root = tempfile::tempdir().unwrap();
    let path = |name: &str| root.path().join(name);
    end(gantry().args(["phantom", "--size", "32", "--slices", "37", "-o"]).arg(path("in"))).expect(0);
    toys::pair(&path("checkpoints"));
    end(gantry().args(["key", "new"]).arg(path("site.key"))).expect(0);
    let trees = ["1", "2", "5"].map(|threads| {
        let out = path(&format!("out-{threads}"));
        let mut command = gantry();
        command.arg("run").arg(workspace().join("config/pipelines/ducosy.toml")).arg("-i").arg(path("in"));
        command.arg("-o").arg(&out).arg("--key").arg(path("site.key")).arg("--checkpoints").arg(path("checkpoints"));
        command.args(["--set", "soft.checkpoint=toy-soft", "--set", "lung.checkpoint=toy-lung", "--allow-toy"]);
        command.args(["--run-time", "2026-01-31T10:15:00Z", "--threads", threads]);
        end(&mut command).expect(0);
        results(&out)
    });
    assert_eq!(trees[0].len(), 37);
    assert!(trees.windows(2).all(|pair| pair[0] == pair[1]));
}

/// Status, code, node and reason of the one case, which must have failed and left nothing.
fn failure(run: Run) -> [Json; 4] {
    let run = run.ended(1);
    let case = run.json()["cases"][0].clone();
    assert!(!run.out.join(case["case"].as_str().unwrap()).exists(), "a failed case left files");
    ["status", "code", "node", "reason"].map(|key| case[key].clone())
}

#[test]
fn the_failure_that_comes_first_in_the_order_of_slices_counts() {
    // The reader stumbles over slice 20 while the stage fails at the first batch: it is the stage's failure.
    for broken in [9, 20, SLICES - 1] {
        let input = patient(Some(broken));
        let [alone, lanes] = both("nan", input.path()).map(failure);
        assert_eq!(alone, lanes, "{broken}");
        assert_eq!((&lanes[1], &lanes[2]), (&"output-not-finite".into(), &"bad".into()), "{lanes:?}");
        // Where nobody else fails, it is the reader's.
        let [alone, lanes] = both("none", input.path()).map(failure);
        assert_eq!(alone, lanes, "{broken}");
        assert_eq!(lanes[2], "ct", "{lanes:?}");
    }
}

#[test]
fn a_dead_worker_is_blamed_on_nobody_but_those_at_work() {
    let input = patient(None);
    for run in both("segfault", input.path()) {
        let [_, code, node, reason] = failure(run);
        assert_eq!(code, "worker-died");
        let named = match node.as_str() {
            Some(node) => node == "bad",
            None => reason.as_str().unwrap().contains("at work were") && reason.as_str().unwrap().contains("bad"),
        };
        assert!(named, "{node} {reason}");
    }
}
