//! The resampling steps of the six TotalSegmentator runs, file after file.

use gantry_volume::export::one_hot;
use gantry_volume::{AxisOrder, Bounds, Order, Orientation, remove_small, spacing_f32, zoom, zoom_labels, zoom_size};
use serde_json::Value as Json;

use crate::files::{Nifti, fixtures, nifti, same};

/// The input in canonical orientation, cut to a box in its own orientation first.
fn canonical(file: &Nifti, bounds: Bounds) -> (Vec<f64>, [usize; 3], [f64; 3], Orientation) {
    let orientation = Orientation::of(&file.affine).unwrap();
    let part = bounds.cut(&file.values, file.size).unwrap();
    let (values, size) = orientation.apply(&part, bounds.size()).unwrap();
    let spacing = orientation.reorder(spacing_f32(&file.affine)).map(f64::from);
    (values, size, spacing, orientation)
}

fn shrink(file: &Nifti, bounds: Bounds, model_mm: f64, order: Order, theirs: &Nifti, name: &str) {
    let (values, size, spacing, _) = canonical(file, bounds);
    let to = zoom_size(size, spacing.map(|s| s / model_mm)).unwrap();
    assert_eq!(to, theirs.size, "{name}");
    let ours: Vec<i32> = zoom(&values, size, to, order, AxisOrder::Xyz).unwrap();
    let theirs: Vec<i32> = theirs.values.iter().map(|&v| v as i32).collect();
    same(name, &ours, &theirs);
}

#[test]
fn images_to_the_models_grid() {
    let (Some(runs), Some(inputs)) = (fixtures("totalseg_e2e"), fixtures("inputs")) else { return };
    let file = nifti(inputs.join("ct_permuted_0000.nii.gz"));
    let all = Bounds::all(file.size);
    for (run, name, order, mm) in [
        ("fast_3mm", "00_change_spacing_order1", Order::Linear, 3.0),
        ("fast_3mm_order3", "00_change_spacing_order3", Order::Cubic, 3.0),
        ("roi_heart_1p5mm", "00_change_spacing_order1", Order::Linear, 6.0),
    ] {
        let theirs = nifti(runs.join(run).join(format!("{name}.nii.gz")));
        shrink(&file, all, mm, order, &theirs, &format!("{run} {name}"));
    }
    // The crop around the rough mask: 20 mm in whole voxels of the input, in its own orientation.
    let run = runs.join("roi_heart_1p5mm");
    let mask = nifti(run.join("03_crop_mask.nii.gz")).labels();
    let spacing = spacing_f32(&file.affine).map(f64::from);
    let bounds = Bounds::of(&mask, file.size, |v| v != 0).unwrap().unwrap();
    let bounds = bounds.grown(spacing.map(|s| (20.0 / s) as usize), file.size);
    let theirs: Json = serde_json::from_slice(&std::fs::read(run.join("03_crop_bbox.json")).unwrap()).unwrap();
    println!("{theirs} {bounds:?}");
    let theirs = nifti(run.join("04_change_spacing_order1.nii.gz"));
    shrink(&file, bounds, 1.5, Order::Linear, &theirs, "roi_heart_1p5mm 04_change_spacing_order1");
}

#[test]
fn labels_back_to_the_image() {
    let (Some(runs), Some(inputs)) = (fixtures("totalseg_e2e"), fixtures("inputs")) else { return };
    let file = nifti(inputs.join("ct_permuted_0000.nii.gz"));
    let (_, size, _, orientation) = canonical(&file, Bounds::all(file.size));
    for (run, small, network) in [
        ("fast_3mm", None, "01_task297_out_s01"),
        ("fast_3mm_order3", None, "01_task297_out_s01"),
        ("fast_3mm_rmblobs", Some(200.0), "01_task297_out_s01"),
        ("roi_heart_1p5mm", None, "01_task298_out_s01"),
    ] {
        let folder = runs.join(run);
        let network = nifti(folder.join(format!("{network}.nii.gz")));
        let mut labels = network.labels();
        if let Some(mm3) = small {
            let volume = network.spacing_mm.iter().product::<f64>();
            let mut removed = 0;
            for label in 1..=255 {
                removed += remove_small(&mut labels, network.size, label, (mm3 / volume) as usize).unwrap();
            }
            assert!(removed > 0);
        }
        let ours = zoom_labels(&labels, network.size, size).unwrap();
        let theirs = nifti(folder.join("02_change_spacing_order0.nii.gz"));
        assert_eq!(theirs.size, size);
        same(&format!("{run} labels on the canonical grid"), &ours, &theirs.labels());
        if run != "roi_heart_1p5mm" {
            let theirs = nifti(folder.join("final.nii.gz"));
            let (ours, size) = orientation.undo(&ours, size).unwrap();
            assert_eq!(size, theirs.size);
            same(&format!("{run} final"), &ours, &theirs.labels());
        }
    }
}

#[test]
fn labels_back_as_masks() {
    let (Some(runs), Some(inputs)) = (fixtures("totalseg_e2e"), fixtures("inputs")) else { return };
    let file = nifti(inputs.join("ct_permuted_0000.nii.gz"));
    let (_, size, _, orientation) = canonical(&file, Bounds::all(file.size));
    let network = nifti(runs.join("fast_3mm/01_task297_out_s01.nii.gz"));
    let ours = one_hot(&network.labels(), network.size, size).unwrap();
    let folder = runs.join("fast_3mm_holegacy");
    same("holegacy", &ours, &nifti(folder.join("02_change_spacing_order1.nii.gz")).labels());
    let (ours, _) = orientation.undo(&ours, size).unwrap();
    same("holegacy final", &ours, &nifti(folder.join("final.nii.gz")).labels());
}
