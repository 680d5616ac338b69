//! Whole runs against nnU-Net's own predictor: what the network sees and what becomes of its logits to the bit, its logits
//! within rounding, its labels but for ties.

use gantry_neural::{Precision, Workers};
use gantry_nnunet::{GridLogits, Model, Settings};
use gantry_tests::fixture::{npy, shared};
use gantry_volume::export::{self, Decision, Way};
use half::f16;
use model_folder::{Folder, Nifti, halves};

mod model_folder;

/// Voxels that may have another label, of 345,600.
const APART: f64 = 20.0 / 345_600.0;
/// The margin between the two largest logits below which a label may differ.
const MARGIN: f32 = 1e-3;

/// A model with an image of the fixtures.
struct Case {
    model: &'static str,
    dataset: &'static str,
    image: &'static str,
    folds: &'static [usize],
    /// Ways of running it, with whether each mirrors.
    tags: &'static [(&'static str, bool)],
}

const CASES: [Case; 5] = [
    Case {
        model: "A_plain_iso15",
        dataset: "Dataset901_HeartPlain",
        image: "ct_iso15",
        folds: &[0],
        tags: &[("nomirror", false), ("mirror", true)],
    },
    Case {
        model: "A_plain_iso15",
        dataset: "Dataset901_HeartPlain",
        image: "ct_iso15",
        folds: &[0, 1],
        tags: &[("folds01_nomirror", false)],
    },
    Case {
        model: "A_plain_iso15",
        dataset: "Dataset901_HeartPlain",
        image: "ct_sp19_zeroborder",
        folds: &[0],
        tags: &[("nomirror", false)],
    },
    Case {
        model: "B_resenc_iso15_transp",
        dataset: "Dataset902_HeartResEnc",
        image: "ct_permuted",
        folds: &[0],
        tags: &[("nomirror", false), ("mirror", true)],
    },
    Case {
        model: "C_plain_aniso",
        dataset: "Dataset903_HeartAniso",
        image: "ct_aniso_z5",
        folds: &[0],
        tags: &[("nomirror", false)],
    },
];

/// Halves in the order of their values.
fn rank(x: f16) -> i32 {
    let bits = i32::from(x.to_bits());
    if bits & 0x8000 == 0 { bits } else { 0x8000 - bits }
}

/// Where the two largest of the heads' values are less than [`MARGIN`] apart.
fn close(heads: &[Vec<f16>]) -> Vec<u8> {
    let largest = |at: usize| {
        let mut values: Vec<f32> = heads.iter().map(|head| head[at].to_f32()).collect();
        values.sort_by(f32::total_cmp);
        values
    };
    let apart = |at: usize| largest(at).windows(2).last().map_or(0.0, |two| two[1] - two[0]);
    (0..heads[0].len()).map(|at| u8::from(apart(at) < MARGIN)).collect()
}

/// What differs between labels, and how much of it where it must not.
fn differing(labels: &[u8], expected: &[u8], close: &[u8]) -> (usize, usize) {
    assert_eq!((labels.len(), close.len()), (expected.len(), expected.len()));
    let differing = || (0..labels.len()).filter(|&at| labels[at] != expected[at]);
    (differing().count(), differing().filter(|&at| close[at] == 0).count())
}

fn run(case: &Case, precision: Precision) {
    let Some(root) = shared("fixtures/nnunet") else { return };
    let folder = Folder::open(&root.join(case.model).join(case.dataset), case.folds);
    let model = folder.model(precision);
    let image = Nifti::read(&root.join(format!("inputs/{}_0000.nii.gz", case.image)));
    let outputs = root.join(case.model).join(case.image);
    let (input, frame) = model.input(&image.image()).expect("an input");
    let expected = npy::<f32>(outputs.join("preprocessed_f32.npy"));
    assert_eq!([&[1], &frame.grid_size[..]].concat(), expected.shape);
    let bits = |values: &[f32]| values.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
    assert!(bits(&input) == bits(&expected.data), "{} {}: the network's input differs", case.model, case.image);
    for &(tag, mirror) in case.tags {
        let mirror_axes = if mirror { folder.mirror_axes.clone() } else { Vec::new() };
        assert_eq!(mirror, !mirror_axes.is_empty());
        let settings = Settings { mirror_axes, export: Way::Exact, ..Settings::default() };
        let name = format!("{} {} {tag} {precision}", case.model, case.image);
        let seg = Nifti::read(&outputs.join(format!("seg_{tag}.nii.gz"))).labels();
        let workers = Workers::default();
        let started = std::time::Instant::now();
        let labels =
            workers.run(2, || model.segment(&image.image(), &settings, &())).expect("threads").expect("labels");
        let time = started.elapsed();
        let path = outputs.join(format!("logits_{tag}_f16.npy"));
        if !path.exists() {
            // Logits of several folds are not among the fixtures.
            let differing = labels.iter().zip(&seg).filter(|(a, b)| a != b).count();
            println!("{name}: {differing} of {} labels differ, {time:.1?}", seg.len());
            assert!(differing as f64 <= APART * seg.len() as f64);
            continue;
        }
        let reference = GridLogits { values: halves(&path), heads: 3, frame: frame.clone() };
        let logits = workers.run(1, || model.logits(&image.image(), &settings, &())).expect("threads").expect("logits");
        compare_logits(&name, &logits, &reference);

        // The reference's logits become the reference's labels.
        let view = reference.view().expect("logits");
        let (crop, separate) = (frame.bounds.size(), frame.separate_axis(None));
        for way in [Way::Exact, Way::Fast] {
            let made = export::labels(&view, crop, separate, Decision::Greatest, way).expect("labels");
            assert!(frame.restored(made).expect("labels") == seg, "{name}: the way back differs, {way:?}");
        }
        let heads: Vec<Vec<f16>> =
            (0..3).map(|head| export::resample_class(&view, head, crop, separate).expect("a class")).collect();
        let close = frame.restored(close(&heads)).expect("a mask");
        let (all, wrong) = differing(&labels, &seg, &close);
        println!("{name}: {all} of {} labels differ, {time:.1?}", seg.len());
        assert!(all as f64 <= APART * seg.len() as f64 && wrong == 0, "{name}: {all} differ, {wrong} of them clearly");
        // Mirroring takes eight times as long, and does nothing else with threads.
        for (threads, export) in [(3, Way::Exact), (2, Way::Fast)].into_iter().filter(|_| !mirror) {
            let settings = Settings { export, ..settings.clone() };
            let again = workers.run(threads, || model.segment(&image.image(), &settings, &())).expect("threads");
            assert!(again.expect("labels") == labels, "{name}: {threads} threads, {export:?}");
        }
    }
}

fn compare_logits(name: &str, found: &GridLogits, reference: &GridLogits) {
    assert_eq!(found.values.len(), reference.values.len());
    let pairs = || found.values.iter().zip(&reference.values);
    let changed = pairs().filter(|(a, b)| a != b).count();
    let apart = pairs().map(|(a, b)| (a.to_f32() - b.to_f32()).abs()).fold(0f32, f32::max);
    let steps = pairs().map(|(a, b)| (rank(*a) - rank(*b)).unsigned_abs()).max().unwrap_or(0);
    let share = changed as f64 / reference.values.len() as f64;
    println!("{name}: {:.2} % of the logits differ, by {apart:.1e} at most ({steps} steps)", 100.0 * share);
    // Noise of 1e-4 on every logit would change 14 %, by up to 0.33 where weights are subnormal.
    assert!(share < 0.06 && apart < 0.3, "{name}");
}

#[test]
fn in_f32_models_segment_as_nnunet_does() {
    CASES.iter().for_each(|case| run(case, Precision::F32));
}

#[test]
fn in_f32x3_models_segment_as_nnunet_does() {
    CASES.iter().for_each(|case| run(case, Precision::F32x3));
}

/// Tells how often it was asked, and says no after a while.
struct Impatient {
    asked: std::sync::atomic::AtomicUsize,
    most: usize,
    told: std::sync::Mutex<Vec<(usize, usize)>>,
}

impl gantry_nnunet::Watch for Impatient {
    fn go_on(&self) -> bool {
        self.asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed) < self.most
    }

    fn windows(&self, done: usize, total: usize) {
        self.told.lock().expect("unpoisoned").push((done, total));
    }
}

fn impatient(model: &Model, image: &Nifti, settings: &Settings, most: usize) -> (bool, Vec<(usize, usize)>) {
    let watch = Impatient { asked: 0.into(), most, told: std::sync::Mutex::default() };
    let result = model.segment(&image.image(), settings, &watch);
    let cancelled = match result {
        Ok(_) => false,
        Err(error) => {
            assert_eq!(error.to_string(), "cancelled");
            true
        }
    };
    (cancelled, watch.told.into_inner().expect("unpoisoned"))
}

#[test]
fn the_watch_sees_every_window_and_may_end_the_work() {
    let Some(root) = shared("fixtures/nnunet") else { return };
    let folder = Folder::open(&root.join("A_plain_iso15/Dataset901_HeartPlain"), &[0]);
    let model = folder.model(Precision::F32x3);
    let image = Nifti::read(&root.join("inputs/ct_iso15_0000.nii.gz"));
    let settings = Settings { mirror_axes: vec![2], ..Settings::default() };
    let total = model.runs(image.size, image.spacing_mm, &settings).expect("an image");
    assert_eq!(total, 16, "two windows along each axis, each mirrored as well");
    let (cancelled, told) = impatient(&model, &image, &settings, usize::MAX);
    assert!(!cancelled);
    assert_eq!(told, (1..=total).map(|done| (done, total)).collect::<Vec<_>>());
    let (cancelled, told) = impatient(&model, &image, &settings, 30);
    assert!(cancelled && (1..4).contains(&told.len()), "{told:?}");
}
