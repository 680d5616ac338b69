//! The memory a model says it needs is what it needs at most, on the published 1.5 mm network's shape.
//!
//! One test alone in its process: what is measured is the process's.
#![cfg(target_os = "linux")]

use gantry_neural::{Engine, Isa, Precision, Workers};
use gantry_nnunet::{Image, Model, Settings};
use gantry_tests::recipe::uniform;
use gantry_volume::Orientation;
use recipe_model::{Recipe, classes};

mod recipe_model;

/// A line of `/proc/self/status`, in bytes.
fn status(name: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").expect("a status");
    let line = text.lines().find(|line| line.starts_with(name)).expect("a line");
    1024 * line.split_whitespace().nth(1).and_then(|number| number.parse::<u64>().ok()).expect("a number")
}

#[test]
fn the_memory_told_is_kept() {
    let features = [32, 64, 128, 256, 320, 320];
    let strides = [[1; 3], [2; 3], [2; 3], [2; 3], [2; 3], [2; 3]];
    let recipe = Recipe {
        channels: 1,
        labels: classes(19),
        regions: None,
        patch: [128; 3],
        spacing_mm: [1.5; 3],
        transpose: [0, 1, 2],
        features: &features,
        strides: &strides,
        scheme: "CTNormalization",
        folds: 1,
    };
    let made = recipe.make();
    let engine = Engine::new(Isa::best(), Precision::F32x3).expect("an engine");
    let workers = Workers::default();
    let load = || Model::new(&engine, &made.configuration, &made.dataset, &[&made.folds[0]]);
    let model = workers.run(2, load).expect("threads").expect("a model");
    println!("weights: {} MB", model.weight_bytes() >> 20);
    let settings = Settings { step: 0.8, ..Settings::default() };
    let orientation = Orientation { axes: [0, 1, 2], flips: [false; 3] };
    // At the model's spacing, two windows; coarser, one window and labels interpolated back.
    for (size, spacing_mm) in [([130, 120, 128], [1.5; 3]), ([60, 64, 70], [3.0, 3.0, 2.0])] {
        let voxels: Vec<f32> = uniform("memory", size.iter().product()).iter().map(|x| 100.0 * x).collect();
        let image = Image { voxels: &voxels, size, spacing_mm, orientation };
        let told = workers.run(2, || model.memory(size, spacing_mm, &settings)).expect("threads").expect("bytes");
        // Sets the peak back to what is held now.
        std::fs::write("/proc/self/clear_refs", "5").expect("a reset");
        let before = status("VmRSS");
        let started = std::time::Instant::now();
        let labels = workers.run(2, || model.segment(&image, &settings, &())).expect("threads").expect("labels");
        let (peak, after) = (status("VmHWM") - before + model.weight_bytes(), status("VmRSS"));
        println!(
            "{size:?} at {spacing_mm:?} mm: told {} MB, held {} MB, {} MB of them left, {:.1?}",
            told >> 20,
            peak >> 20,
            after.saturating_sub(before) >> 20,
            started.elapsed()
        );
        assert_eq!(labels.len(), voxels.len());
        assert!(peak <= told, "held {peak}, told {told}");
        assert!(told < 2 * peak, "a bound that says nothing: {told} for {peak}");
        // The allocator keeps some for the next time; a stack of logits would be most of what was held.
        assert!(after.saturating_sub(before) < peak / 4, "memory is kept");
    }
}
