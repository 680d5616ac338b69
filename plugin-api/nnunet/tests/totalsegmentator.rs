//! TotalSegmentator's six runs of the fixtures: what comes back equals theirs but for ties of logits.

use gantry_neural::{Precision, Workers};
use gantry_nnunet::{LabelsBack, Scan, TotalPart, TotalSegmentator, TotalSettings};
use gantry_tests::fixture::shared;
use gantry_volume::{Bounds, Order};
use model_folder::{Folder, Nifti};

mod model_folder;

/// Voxels that may have another label, of 345,600: those whose two largest logits are as good as equal.
const APART: f64 = 20.0 / 345_600.0;

/// A set of one model whose own values become others by adding `offset`.
fn set(dataset: &str, spacing_mm: f64, offset: u8) -> Option<TotalSegmentator> {
    let folder = shared("fixtures/nnunet/totalseg_weights")?;
    let found = std::fs::read_dir(&folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    let starts = |path: &std::path::PathBuf| path.file_name().is_some_and(|n| n.to_string_lossy().starts_with(dataset));
    let folder = found.into_iter().find(starts).expect("the data set");
    let model = Folder::open(&folder, &[0]).model(Precision::F32x3);
    let values = std::array::from_fn(|own| if own == 0 { 0 } else { (own as u8).wrapping_add(offset) });
    Some(TotalSegmentator { spacing_mm, parts: vec![TotalPart { model, values }], rough: None })
}

fn settings(order: Order, labels_back: LabelsBack, small_blobs_mm3: f64) -> TotalSettings {
    TotalSettings { wanted: (1..=255).collect(), order, labels_back, small_blobs_mm3, step: 0.8 }
}

/// Labels of the fixtures' image whose axes run up, to the right and to the back.
fn run(work: impl Fn(&Scan<'_>) -> Vec<u8> + Sync) -> Option<Vec<u8>> {
    let image = Nifti::read(&shared("fixtures/nnunet/inputs/ct_permuted_0000.nii.gz")?);
    let scan = Scan { voxels: &image.voxels, channels: 1, size: image.size, affine: image.affine };
    scan.check().expect("a scan to segment");
    Some(Workers::default().run(2, || work(&scan)).expect("threads"))
}

/// Compares with `final.nii.gz` of a run.
fn equals(found: &[u8], run: &str) {
    let path = shared(&format!("fixtures/nnunet/totalseg_e2e/{run}/final.nii.gz")).expect("the run");
    let expected = Nifti::read(&path).labels();
    assert_eq!(found.len(), expected.len());
    let present: std::collections::BTreeSet<u8> = expected.iter().copied().collect();
    assert!(present.len() >= 2, "{run}: the reference is not empty");
    let apart = found.iter().zip(&expected).filter(|(a, b)| a != b).count();
    println!("{run}: {apart} of {} voxels differ, {} labels", found.len(), present.len());
    assert!(apart as f64 <= APART * found.len() as f64, "{run}: {apart} of {} voxels differ", found.len());
}

#[test]
fn the_fast_model_in_every_way_of_resampling() {
    let Some(total) = set("Dataset297", 3.0, 0) else { return };
    for (name, settings) in [
        ("fast_3mm", settings(Order::Linear, LabelsBack::Nearest, 0.0)),
        ("fast_3mm_order3", settings(Order::Cubic, LabelsBack::Nearest, 0.0)),
        ("fast_3mm_rmblobs", settings(Order::Linear, LabelsBack::Nearest, 200.0)),
        ("fast_3mm_ho", settings(Order::Linear, LabelsBack::Logits, 0.0)),
        ("fast_3mm_holegacy", settings(Order::Linear, LabelsBack::OneHot, 0.0)),
    ] {
        let Some(found) = run(|scan| total.segment(scan, &settings, &()).expect("labels")) else { return };
        equals(&found, name);
    }
}

#[test]
fn the_heart_alone_around_what_the_rough_model_found() {
    let Some(total) = set("Dataset293", 1.5, 50) else { return };
    // The rough labels of the reference were edited by hand, so the box comes from its mask.
    let Some(mask) = shared("fixtures/nnunet/totalseg_e2e/roi_heart_1p5mm/03_crop_mask.nii.gz") else { return };
    let mask = Nifti::read(&mask);
    let found = Bounds::of(&mask.labels(), mask.size, |v| v != 0).expect("a mask").expect("something found");
    let wanted = TotalSettings { wanted: vec![51, 52], ..settings(Order::Linear, LabelsBack::Nearest, 0.0) };
    let Some(found) = run(|scan| total.segment_around(scan, found, &wanted, &()).expect("labels")) else { return };
    let heart_and_aorta = |v: &u8| [0, 51, 52].contains(v);
    assert!(found.iter().all(heart_and_aorta) && found.contains(&51) && found.contains(&52));
    equals(&found, "roi_heart_1p5mm");
}

#[test]
fn the_rough_model_says_where_to_look() {
    let (Some(mut total), Some(mut rough)) = (set("Dataset293", 1.5, 50), set("Dataset298", 6.0, 0)) else { return };
    total.rough = rough.parts.pop().map(|part| (part, 6.0));
    let wanted = TotalSettings { wanted: vec![51], ..settings(Order::Linear, LabelsBack::Nearest, 0.0) };
    let Some(found) = run(|scan| total.segment(scan, &wanted, &()).expect("labels")) else { return };
    assert!(found.contains(&51) && found.iter().all(|v| [0, 51].contains(v)));
    // What the rough model never finds is looked for no further.
    let absent = TotalSettings { wanted: vec![200], ..wanted };
    let Some(found) = run(|scan| total.segment(scan, &absent, &()).expect("labels")) else { return };
    assert!(found.iter().all(|&v| v == 0));
}
