//! Runs against a re-implementation by the definition, voxel by voxel over whole volumes: images smaller than a window, of
//! one slice, of thick slices, of two channels; regions, folds, mirroring, transposed axes.

use gantry_neural::{ComputeDevice, Engine, Isa, NetworkWeights, Precision, Shape, Unet, UnetPlan, Workers};
use gantry_nnunet::{Image, Model, Settings};
use gantry_tests::recipe::uniform;
use gantry_volume::{Orientation, importance_map};
use gantry_weights::StateDict;
use half::f16;
use recipe_model::{Made, Recipe, classes};
use serde_json::json;

mod recipe_model;

const UPRIGHT: Orientation = Orientation { axes: [0, 1, 2], flips: [false; 3] };

/// First voxels of the windows along one axis.
fn starts(size: usize, patch: usize, step: f64) -> Vec<usize> {
    let count = ((size - patch) as f64 / (patch as f64 * step)).ceil() as usize + 1;
    if count == 1 {
        return vec![0];
    }
    let stride = (size - patch) as f64 / (count - 1) as f64;
    (0..count).map(|at| (at as f64 * stride).round_ties_even() as usize).collect()
}

/// Logits `[heads][z][y][x]` of `input` `[channels][z][y][x]` by the definition.
fn naive(made: &Made, input: &[f32], size: [usize; 3], step: f64, mirrors: &[[bool; 3]]) -> Vec<f16> {
    let engine = Engine::new(Isa::best(), Precision::F32).expect("an engine");
    let (channels, heads) = (made.dataset.channels.len(), made.dataset.heads());
    let patch = made.configuration.patch;
    let padded: [usize; 3] = std::array::from_fn(|axis| size[axis].max(patch[axis]));
    let below: [usize; 3] = std::array::from_fn(|axis| (padded[axis] - size[axis]) / 2);
    let index = |size: [usize; 3], [z, y, x]: [usize; 3]| (z * size[1] + y) * size[2] + x;
    let all = |size: [usize; 3]| {
        (0..size[0]).flat_map(move |z| (0..size[1]).flat_map(move |y| (0..size[2]).map(move |x| [z, y, x])))
    };
    let volume = |size: [usize; 3]| size.iter().product::<usize>();
    let mut surrounded = vec![0f32; channels * volume(padded)];
    for channel in 0..channels {
        for at in all(size) {
            let to = std::array::from_fn(|axis| at[axis] + below[axis]);
            surrounded[channel * volume(padded) + index(padded, to)] = input[channel * volume(size) + index(size, at)];
        }
    }
    let map = importance_map(patch).expect("a map");
    let turned = |at: [usize; 3], axes: [bool; 3]| -> [usize; 3] {
        std::array::from_fn(|axis| if axes[axis] { patch[axis] - 1 - at[axis] } else { at[axis] })
    };
    let mut folds = Vec::new();
    for fold in &made.folds {
        let dict = StateDict::from_bytes(fold.clone(), None).expect("weights");
        let weights = NetworkWeights::new(dict, ComputeDevice::Cpu).expect("weights");
        let plan = UnetPlan::of(&made.configuration, &made.dataset);
        let network = Unet::new(&engine, weights, &plan).expect("a network");
        let mut sums = vec![f16::ZERO; heads * volume(padded)];
        let mut counts = vec![f16::ZERO; volume(padded)];
        let [zs, ys, xs] = [0, 1, 2].map(|axis| starts(padded[axis], patch[axis], step));
        let (ys, xs) = (&ys, &xs);
        let rows = zs.iter().flat_map(|&z| ys.iter().map(move |&y| [z, y]));
        for first in rows.flat_map(|[z, y]| xs.iter().map(move |&x| [z, y, x])) {
            let mut mean = vec![0f32; heads * volume(patch)];
            for &axes in mirrors {
                let mut window = vec![0f32; channels * volume(patch)];
                for channel in 0..channels {
                    for at in all(patch) {
                        let from: [usize; 3] = std::array::from_fn(|axis| first[axis] + turned(at, axes)[axis]);
                        window[channel * volume(patch) + index(patch, at)] =
                            surrounded[channel * volume(padded) + index(padded, from)];
                    }
                }
                let shape = Shape { pictures: 1, channels, size: patch };
                let (out, _) = network.logits(&window, shape).expect("logits");
                for head in 0..heads {
                    for at in all(patch) {
                        mean[head * volume(patch) + index(patch, at)] +=
                            out[head * volume(patch) + index(patch, turned(at, axes))];
                    }
                }
            }
            for at in all(patch) {
                let weight = map[index(patch, at)].to_f32();
                let to = index(padded, std::array::from_fn(|axis| first[axis] + at[axis]));
                for head in 0..heads {
                    let logit = mean[head * volume(patch) + index(patch, at)] / mirrors.len() as f32;
                    let sum = &mut sums[head * volume(padded) + to];
                    *sum = f16::from_f32(sum.to_f32() + logit * weight);
                }
                counts[to] = f16::from_f32(counts[to].to_f32() + weight);
            }
        }
        for (at, sum) in sums.iter_mut().enumerate() {
            *sum = f16::from_f32(sum.to_f32() / counts[at % volume(padded)].to_f32());
        }
        folds.push(sums);
    }
    let mut cropped = Vec::new();
    for head in 0..heads {
        for at in all(size) {
            let from = head * volume(padded) + index(padded, std::array::from_fn(|axis| at[axis] + below[axis]));
            let mut sum = folds[0][from];
            for fold in &folds[1..] {
                sum = f16::from_f32(sum.to_f32() + fold[from].to_f32());
            }
            cropped.push(if folds.len() > 1 { f16::from_f32(sum.to_f32() / folds.len() as f32) } else { sum });
        }
    }
    cropped
}

/// Labels of logits by the definition.
fn decided(logits: &[f16], heads: usize, regions: Option<&[u32]>) -> Vec<u8> {
    let voxels = logits.len() / heads;
    let logit = |head: usize, at: usize| logits[head * voxels + at].to_f32();
    let decide = |at: usize| match regions {
        None => (1..heads).fold(0, |best, head| if logit(head, at) > logit(best, at) { head } else { best }) as u8,
        Some(values) => {
            let inside = |head: &usize| 1.0 / (1.0 + (-logit(*head, at)).exp()) > 0.5;
            (0..heads).rev().find(inside).map_or(0, |head| values[head] as u8)
        }
    };
    (0..voxels).map(decide).collect()
}

/// Compares the model with the definition on an image of `size` that has the model's spacing; gives the share of the
/// labels that are not background.
fn compare(recipe: &Recipe<'_>, size: [usize; 3], step: f64, axes: &[usize], mirrors: &[[bool; 3]]) -> f64 {
    let made = recipe.make();
    let engine = Engine::new(Isa::best(), Precision::F32).expect("an engine");
    let folds: Vec<&[u8]> = made.folds.iter().map(Vec::as_slice).collect();
    let model = Model::new(&engine, &made.configuration, &made.dataset, &folds).expect("a model");
    let count: usize = size.iter().product();
    let noise = uniform(&format!("image {size:?}"), recipe.channels * count);
    let voxels: Vec<f32> = noise.iter().enumerate().map(|(at, x)| 60.0 * x + 30.0 * (at as f32 * 0.05).sin()).collect();
    let mut spacing_mm = [0.0; 3];
    for axis in 0..3 {
        spacing_mm[recipe.transpose[axis]] = recipe.spacing_mm[axis];
    }
    let image = Image { voxels: &voxels, size, spacing_mm, orientation: UPRIGHT };
    let settings = Settings { step, mirror_axes: axes.to_vec(), ..Settings::default() };
    let (input, frame) = model.input(&image).expect("an input");
    assert_eq!((frame.grid_size, frame.axes), (recipe.transpose.map(|axis| size[axis]), recipe.transpose));
    // Normalised, with axes moved, and nothing else.
    for (at, x) in input.iter().enumerate() {
        let (channel, at) = (at / count, at % count);
        let [_, rows, columns] = frame.grid_size;
        let place = [at / (rows * columns), at / columns % rows, at % columns];
        let mut from = [0; 3];
        for axis in 0..3 {
            from[recipe.transpose[axis]] = place[axis];
        }
        let voxel = voxels[channel * count + (from[0] * size[1] + from[1]) * size[2] + from[2]];
        let expected = match recipe.scheme {
            "CTNormalization" => (voxel.clamp(-80.0, 90.0) - 10.5) / 33.25,
            _ => voxel,
        };
        assert_eq!(x.to_bits(), expected.to_bits(), "{place:?}");
    }
    let expected = naive(&made, &input, frame.grid_size, step, mirrors);
    let workers = Workers::default();
    for threads in [1, 3] {
        let logits = workers.run(threads, || model.logits(&image, &settings, &())).expect("threads").expect("logits");
        assert!(logits.values == expected, "{size:?}: logits differ");
        let labels = workers.run(threads, || model.segment(&image, &settings, &())).expect("threads").expect("labels");
        let decided = decided(&expected, made.dataset.heads(), recipe.regions.as_deref());
        assert!(labels == frame.restored(decided).expect("labels"), "{size:?}: labels differ");
        if threads == 3 {
            return labels.iter().filter(|&&label| label != 0).count() as f64 / labels.len() as f64;
        }
    }
    0.0
}

fn small() -> Recipe<'static> {
    Recipe {
        channels: 1,
        labels: classes(4),
        regions: None,
        patch: [8, 16, 12],
        spacing_mm: [1.5; 3],
        transpose: [0, 1, 2],
        features: &[6, 17],
        strides: &[[1; 3], [1, 2, 2]],
        scheme: "CTNormalization",
        folds: 1,
    }
}

const ONCE: [[bool; 3]; 1] = [[false; 3]];

#[test]
fn images_of_any_size_are_predicted_by_the_definition() {
    // Several windows; one; smaller than a window along one axis or all; one slice; one voxel.
    for (size, step) in [
        ([13, 30, 25], 0.5),
        ([13, 30, 25], 0.8),
        ([8, 16, 12], 0.5),
        ([20, 7, 12], 0.5),
        ([5, 7, 9], 0.5),
        ([1, 20, 20], 0.5),
        ([1, 1, 1], 0.5),
    ] {
        let share = compare(&small(), size, step, &[], &ONCE);
        println!("{size:?}, step {step}: {:.0} % of the voxels have a label", 100.0 * share);
        assert!(size == [1, 1, 1] || (0.05..=1.0).contains(&share));
    }
}

#[test]
fn two_channels_regions_and_transposed_axes() {
    let regions = json!({ "background": 0, "whole": [1, 2, 3], "core": [2, 3], "spot": 3 });
    let recipe = Recipe {
        channels: 2,
        labels: regions,
        regions: Some(vec![1, 2, 3]),
        transpose: [2, 0, 1],
        spacing_mm: [5.0, 1.5, 1.0],
        scheme: "NoNormalization",
        ..small()
    };
    let share = compare(&recipe, [18, 13, 9], 0.5, &[], &ONCE);
    assert!((0.05..0.999).contains(&share), "{share}");
}

#[test]
fn folds_and_mirrored_windows_are_averaged_by_the_definition() {
    let mirrors = [[false; 3], [true, false, false], [false, false, true], [true, false, true]];
    let recipe = Recipe { folds: 3, ..small() };
    assert!(compare(&recipe, [11, 16, 20], 0.5, &[0, 2], &mirrors) > 0.05);
    assert!(compare(&recipe, [19, 10, 12], 0.5, &[], &ONCE) > 0.05);
}

#[test]
fn what_does_not_fit_is_refused_by_name() {
    let made = small().make();
    let engine = Engine::new(Isa::best(), Precision::F32).expect("an engine");
    let model = Model::new(&engine, &made.configuration, &made.dataset, &[&made.folds[0]]).expect("a model");
    let voxels = vec![1.0; 1000];
    let image = Image { voxels: &voxels, size: [10; 3], spacing_mm: [1.5; 3], orientation: UPRIGHT };
    let refused = |image: &Image<'_>, settings: &Settings, says: &str| {
        let error = model.segment(image, settings, &()).expect_err(says).to_string();
        assert!(error.contains(says), "{error}");
    };
    let usual = Settings::default();
    refused(&Image { size: [10, 10, 9], ..image }, &usual, "1 channels of [10, 10, 9] voxels expected, found 1000");
    refused(&Image { size: [0, 10, 9], ..image }, &usual, "image");
    refused(&Image { spacing_mm: [1.5, 0.0, 1.5], ..image }, &usual, "spacing");
    refused(&image, &Settings { step: 0.0, ..usual.clone() }, "step");
    refused(&image, &Settings { mirror_axes: vec![1, 1], ..usual.clone() }, "mirroring");
    let mut holes = voxels.clone();
    holes[77] = f32::NAN;
    refused(&Image { voxels: &holes, ..image }, &usual, "voxel 77 of channel 0 is NaN");

    let other = Recipe { labels: classes(5), ..small() }.make();
    let error = Model::new(&engine, &made.configuration, &other.dataset, &[&made.folds[0]]).err().expect("other heads");
    assert!(error.to_string().contains("decoder.seg_layers.0.weight"), "{error}");
    let error = Model::new(&engine, &made.configuration, &made.dataset, &[]).err().expect("no fold").to_string();
    assert!(error.contains("at least one fold"), "{error}");
    let truncated = &made.folds[0][..made.folds[0].len() - 5];
    assert!(Model::new(&engine, &made.configuration, &made.dataset, &[truncated]).is_err());
}
