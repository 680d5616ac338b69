//! Random volumes against scipy, scikit-image, nnU-Net, nibabel and numpy themselves: tests/oracles/verify_volume.py.

use std::path::Path;

use gantry_volume::export::{Decision, Logits, Way, labels, resample_class};
use gantry_volume::{
    AxisOrder, Components, Connectivity, Normalisation, Order, Orientation, Resampling, dilate, fill_holes,
    fill_holes_in_slices, importance_map, resample, resize, separate_axis, zoom,
};
use half::f16;
use serde_json::{Value as Json, json};

/// Modules that the script needs.
const NEEDS: &str = "import nibabel, numpy, scipy, skimage";

/// Numbers that repeat: a linear congruential generator.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as f64 / f64::from(1_u32 << 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() * n as f64) as usize
    }

    fn size(&mut self, least: usize, most: usize) -> [usize; 3] {
        [0; 3].map(|_| least + self.below(most - least + 1))
    }

    /// Steps and noise, with flat parts, in whole HU.
    fn image(&mut self, n: usize) -> Vec<f32> {
        let mut level = -1024.0;
        (0..n)
            .map(|_| {
                if self.next() < 0.05 {
                    level = if self.next() < 0.5 { -1024.0 } else { (self.next() * 1500.0).floor() };
                }
                (level + if level > -1000.0 { (self.next() * 40.0).floor() } else { 0.0 }) as f32
            })
            .collect()
    }

    fn mask(&mut self, n: usize, fraction: f64) -> Vec<u8> {
        (0..n).map(|_| u8::from(self.next() < fraction)).collect()
    }
}

/// The cases so far, and the folder their arrays are in.
struct Cases<'a> {
    folder: &'a Path,
    list: Vec<Json>,
    files: usize,
}

impl Cases<'_> {
    fn array(&mut self, shape: &[usize], kind: &str, bytes: Vec<u8>) -> Json {
        let file = format!("{}.raw", self.files);
        self.files += 1;
        std::fs::write(self.folder.join(&file), bytes).unwrap();
        json!({ "file": file, "type": kind, "shape": shape })
    }

    fn f32(&mut self, shape: &[usize], values: &[f32]) -> Json {
        self.array(shape, "<f4", values.iter().flat_map(|v| v.to_le_bytes()).collect())
    }

    fn f16(&mut self, shape: &[usize], values: &[f16]) -> Json {
        self.array(shape, "<f2", values.iter().flat_map(|v| v.to_le_bytes()).collect())
    }

    fn i32(&mut self, shape: &[usize], values: &[i32]) -> Json {
        self.array(shape, "<i4", values.iter().flat_map(|v| v.to_le_bytes()).collect())
    }

    fn u8(&mut self, shape: &[usize], values: &[u8]) -> Json {
        self.array(shape, "|u1", values.to_vec())
    }

    fn add(&mut self, kind: &str, arguments: Json, inputs: Vec<Json>, output: Json) {
        let mut case = arguments;
        case["kind"] = kind.into();
        case["inputs"] = inputs.into();
        case["output"] = output;
        self.list.push(case);
    }
}

fn order_number(order: Order) -> usize {
    match order {
        Order::Nearest => 0,
        Order::Linear => 1,
        Order::Cubic => 3,
    }
}

fn images(cases: &mut Cases<'_>, noise: &mut Noise) {
    for round in 0..30 {
        let (from, to) = (noise.size(1, 30), noise.size(1, 40));
        let image = noise.image(from.iter().product());
        for spline in [Order::Nearest, Order::Linear, Order::Cubic] {
            let order = order_number(spline);
            let axes = if round % 3 == 0 { AxisOrder::Zyx } else { AxisOrder::Xyz };
            let name = if axes == AxisOrder::Zyx { "zyx" } else { "xyz" };
            let arguments = json!({ "order": order, "axes": name, "new_size": to });
            let input = cases.f32(&from, &image);
            let ours: Vec<i32> = zoom(&image, from, to, spline, axes).unwrap();
            let output = cases.i32(&to, &ours);
            cases.add("zoom", arguments.clone(), vec![input.clone()], output);
            let ours: Vec<f32> = zoom(&image, from, to, spline, axes).unwrap();
            let output = cases.f32(&to, &ours);
            cases.add("zoom", arguments.clone(), vec![input.clone()], output);
            let output = cases.f32(&to, &resize(&image, from, to, spline).unwrap());
            cases.add("resized", arguments, vec![input], output);
        }
    }
}

fn as_nnunet_does(cases: &mut Cases<'_>, noise: &mut Noise) {
    for round in 0..30 {
        let (from, to) = (noise.size(2, 24), noise.size(2, 30));
        let mut current = [0.0; 3].map(|_: f64| 0.5 + noise.next());
        if round % 2 == 0 {
            current[noise.below(3)] *= 8.0;
        }
        let new = [0, 1, 2].map(|a| current[a] * from[a] as f64 / to[a] as f64);
        let force = [None, Some(true), Some(false)][round % 3];
        let spline = [Order::Cubic, Order::Linear, Order::Nearest][noise.below(3)];
        let with = |order: usize| json!({ "order": order, "new_size": to, "current_mm": current, "new_mm": new, "force": force });
        let image = noise.image(from.iter().product());
        let how = Resampling { order: spline, force_separate: force };
        let ours = resample(&image, from, to, current, new, how).unwrap();
        let (input, output) =
            (cases.f32(&[&[1], &from[..]].concat(), &image), cases.f32(&[&[1], &to[..]].concat(), &ours));
        cases.add("resample", with(order_number(spline)), vec![input], output);

        let classes = 2 + noise.below(4);
        let values: Vec<f16> = (0..classes * from.iter().product::<usize>())
            .map(|_| f16::from_f64((noise.next() * 20.0).floor() * 0.3 - 3.0 + noise.next() * 0.01))
            .collect();
        let logits = Logits::new(&values, classes, from).unwrap();
        let separate = separate_axis(current, new, force);
        let ours: Vec<f16> =
            (0..classes).flat_map(|class| resample_class(&logits, class, to, separate).unwrap()).collect();
        let input = cases.f16(&[&[classes], &from[..]].concat(), &values);
        let output = cases.f16(&[&[classes], &to[..]].concat(), &ours);
        cases.add("resample", with(1), vec![input.clone()], output);
        for way in [Way::Exact, Way::Fast] {
            let output = cases.u8(&to, &labels(&logits, to, separate, Decision::Greatest, way).unwrap());
            cases.add("labels", with(1), vec![input.clone()], output);
        }
    }
}

fn masks(cases: &mut Cases<'_>, noise: &mut Noise) {
    for round in 0..20 {
        let size = noise.size(1, 24);
        let fraction = 0.1 + 0.8 * noise.next();
        let mask = noise.mask(size.iter().product(), fraction);
        let input = cases.u8(&size, &mask);
        let mut filled = mask.clone();
        let slices = round % 2 == 0;
        if slices { fill_holes_in_slices(&mut filled, size) } else { fill_holes(&mut filled, size) }.unwrap();
        let output = cases.u8(&size, &filled);
        cases.add("holes", json!({ "slices": slices }), vec![input.clone()], output);
        let found = Components::find(&mask, size, Connectivity::Faces, |v| v != 0).unwrap();
        let mut painted = vec![0_i32; mask.len()];
        found.each_run(|component, voxels| painted[voxels].fill(component as i32 + 1));
        let centroids: Vec<[f64; 3]> = found.list().iter().map(|c| c.centroid).collect();
        let output = cases.i32(&size, &painted);
        cases.add("components", json!({ "centroids": centroids }), vec![input], output);
        let sparse = noise.mask(size.iter().product(), 0.02);
        let (input, output) = (cases.u8(&size, &sparse), cases.u8(&size, &dilate(&sparse, size, round / 3).unwrap()));
        cases.add("dilate", json!({ "iterations": round / 3 }), vec![input], output);
    }
}

fn intensities_and_windows(cases: &mut Cases<'_>, noise: &mut Noise) {
    for round in 0..12 {
        let size = noise.size(1, 40);
        let image = noise.image(size.iter().product());
        let mut mask = noise.mask(image.len(), 0.6);
        mask[0] = 1;
        let masked = round % 2 == 0;
        let mut ours = image.clone();
        Normalisation::ZScore.apply(&mut ours, masked.then_some(&mask[..])).unwrap();
        let inputs = vec![cases.f32(&size, &image), cases.u8(&size, &mask)];
        let output = cases.f32(&size, &ours);
        cases.add("zscore", json!({ "masked": masked }), inputs, output);
    }
    for window in [[48, 64, 64], [20, 33, 47], [1, 40, 56], [96, 80, 112], [160, 24, 8]] {
        let output = cases.f16(&window, &importance_map(window).unwrap());
        let input = cases.u8(&[1], &[0]);
        cases.add("importance", json!({ "window": window }), vec![input], output);
    }
}

fn orientations(cases: &mut Cases<'_>, noise: &mut Noise) {
    for round in 0..60 {
        let size = noise.size(1, 6);
        let volume: Vec<i32> = (0..size.iter().product::<usize>() as i32).collect();
        // Anything from slightly oblique to any matrix at all.
        let affine: [f64; 12] = std::array::from_fn(|i| {
            let axis = f64::from(u8::from(i / 4 == (i % 4 + round) % 3)) * if round & 4 == 0 { 1.0 } else { -1.0 };
            let strength = [0.05, 0.5, 5.0][round % 3];
            if i % 4 == 3 {
                noise.next() * 100.0
            } else {
                (axis + strength * (noise.next() - 0.5)) * [0.7, 0.9, 2.5][i % 4]
            }
        });
        let orientation = Orientation::of(&affine).unwrap();
        let (ours, new) = orientation.apply(&volume, size).unwrap();
        let (input, output) = (cases.i32(&size, &volume), cases.i32(&new, &ours));
        let arguments = json!({ "affine": affine, "canonical": orientation.canonical_affine(&affine, size) });
        cases.add("canonical", arguments, vec![input], output);
    }
}

#[test]
fn every_bit_of_the_references() {
    let folder = tempfile::tempdir().unwrap();
    let mut cases = Cases { folder: folder.path(), list: Vec::new(), files: 0 };
    let mut noise = Noise(20);
    images(&mut cases, &mut noise);
    as_nnunet_does(&mut cases, &mut noise);
    masks(&mut cases, &mut noise);
    intensities_and_windows(&mut cases, &mut noise);
    orientations(&mut cases, &mut noise);
    std::fs::write(folder.path().join("cases.json"), serde_json::to_vec(&cases.list).unwrap()).unwrap();
    gantry_tests::oracle::python("verify_volume.py", NEEDS, &[folder.path().to_str().unwrap()]);
}
