//! The published DuCoSy program against `config/pipelines/ducosy-published.toml`, from DICOM files to DICOM files.
//!
//! The reference numbers are six cropped slices that went through the published program with recipe weights (see the
//! README of the fixtures). It works in file-name order, Gantry in the order of positions, so slices are matched by
//! their position. Arithmetic differs in the order of sums within convolutions, so a voxel at a truncation's edge may
//! come out one stored unit away; what lies further apart must be explained by such a voxel within the reach of the
//! filters, or by the switch at the stored value 750.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use dicom_dictionary_std::tags;
use dicom_object::open_file;
use gantry_tests::fixture::{npy, shared};
use gantry_tests::launch::{end, gantry};
use gantry_tests::recipe;
use gantry_tests::staging::workspace;

const SLICES: usize = 6;
const ROWS: usize = 96;
const COLUMNS: usize = 80;
const PLANE: usize = ROWS * COLUMNS;
/// Reach of the filters along z: sigma 0.8 and then 0.7, both of radius 3.
const REACH_Z: usize = 6;
/// Reach in the plane: sigma 1.2 of the sharpening, radius 5.
const REACH_XY: usize = 5;
/// What the sharpening can make of a difference of 1: the sum of the sizes of its weights, rounded up.
const GAIN: f64 = 10.0;
/// Rescale intercept of the input; its slope is 1.
const INTERCEPT: f32 = -1024.0;

/// Stored values or Hounsfield units, slices in the order of the published program.
type Volume = Vec<f64>;

struct Published {
    written: Volume,
    edges: BTreeMap<&'static str, Volume>,
}

/// Positions of the input's slices along z, in file-name order.
fn positions(input: &Path) -> Vec<f64> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(input).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    files.iter().map(|f| position(&open_file(f).unwrap())).collect()
}

fn position(object: &dicom_object::DefaultDicomObject) -> f64 {
    object.element(tags::IMAGE_POSITION_PATIENT).unwrap().to_multi_float64().unwrap()[2]
}

/// Stored values of the written series, matched to `order` by position.
fn written(folder: &Path, order: &[f64]) -> Volume {
    let mut slices = BTreeMap::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let object = open_file(entry.unwrap().path()).unwrap();
        let value = |tag| object.element(tag).unwrap().to_float64().unwrap();
        assert_eq!((value(tags::RESCALE_SLOPE), value(tags::RESCALE_INTERCEPT)), (1.0, f64::from(INTERCEPT)));
        assert_eq!((value(tags::ROWS), value(tags::COLUMNS)), (ROWS as f64, COLUMNS as f64));
        let signed = value(tags::PIXEL_REPRESENTATION) == 1.0;
        let bytes = object.element(tags::PIXEL_DATA).unwrap().to_bytes().unwrap();
        let stored = |b: &[u8]| match signed {
            true => f64::from(i16::from_le_bytes([b[0], b[1]])),
            false => f64::from(u16::from_le_bytes([b[0], b[1]])),
        };
        let plane: Vec<f64> = bytes.chunks_exact(2).map(stored).collect();
        assert_eq!(plane.len(), PLANE);
        let at = order.iter().position(|z| (z - position(&object)).abs() < 1e-3).expect("a slice of the input");
        assert!(slices.insert(at, plane).is_none(), "two slices at one position");
    }
    assert_eq!(slices.len(), SLICES);
    slices.into_values().flatten().collect()
}

/// A kept edge in stored units, matched to `order` by the file's own affine.
fn kept(file: &Path, order: &[f64]) -> Volume {
    use nifti::{NiftiObject, NiftiVolume, RandomAccessNiftiVolume};
    let object = nifti::ReaderOptions::new().read_file(file).unwrap();
    let header = object.header().clone();
    let volume = object.into_volume();
    assert_eq!(volume.dim(), [COLUMNS as u16, ROWS as u16, SLICES as u16]);
    // RAS of the file: z upwards is superior; rows run towards posterior or, as dcm2niix does, towards anterior.
    let (z0, dz, dy) = (f64::from(header.srow_z[3]), f64::from(header.srow_z[2]), header.srow_y[1]);
    let mut out = vec![f64::NAN; SLICES * PLANE];
    for z in 0..SLICES {
        let at = order.iter().position(|p| (p - (z0 + dz * z as f64)).abs() < 1e-2).expect("a slice of the input");
        for y in 0..ROWS {
            let row = if dy > 0.0 { ROWS - 1 - y } else { y };
            for x in 0..COLUMNS {
                let hu = volume.get_f64(&[x as u16, y as u16, z as u16]).unwrap();
                out[at * PLANE + row * COLUMNS + x] = hu - f64::from(INTERCEPT);
            }
        }
    }
    assert!(out.iter().all(|v| v.is_finite()), "every voxel of the input is in the edge");
    out
}

/// Runs a pipeline over the fixture's input and reads what it wrote and kept.
fn run(pipeline: &str, input: &Path, scratch: &Path, keep: &[&'static str]) -> Published {
    let checkpoints = scratch.join("checkpoints");
    for (salt, window) in [("soft", [-150.0, 250.0]), ("lung", [-1000.0, -150.0])] {
        let weights = recipe::generator(salt, recipe::PUBLISHED);
        recipe::install(&checkpoints, &format!("ducosy-{salt}"), &weights, window, &[64, 64]);
    }
    let key = scratch.join("key");
    end(gantry().args(["key", "new"]).arg(&key)).expect(0);
    let out = scratch.join("out");
    let mut command = gantry();
    command
        .arg("run")
        .arg(workspace().join("config/pipelines").join(pipeline))
        .arg("-i")
        .arg(input)
        .arg("-o")
        .arg(&out);
    command.arg("--key").arg(&key).arg("--checkpoints").arg(&checkpoints);
    // The input names neither study nor series.
    command.args(["--set", "ncct.repair=[\"uids\"]"]);
    command.args(keep.iter().flat_map(|node| ["--keep", node]));
    end(&mut command).expect(0);
    let cases: Vec<PathBuf> =
        std::fs::read_dir(&out).unwrap().map(|e| e.unwrap().path()).filter(|p| p.join("write").is_dir()).collect();
    assert_eq!(cases.len(), 1, "one case");
    let order = positions(input);
    let written = written(&cases[0].join("write"), &order);
    let edges = keep.iter().map(|&node| {
        let name = node.split('.').next().unwrap();
        (node, kept(&cases[0].join(format!("keep-{name}/{name}.nii.gz")), &order))
    });
    Published { written, edges: edges.collect() }
}

fn reference<T: npyz::Deserialize + Into<f64>>(folder: &Path, name: &str) -> Volume {
    let array = npy::<T>(folder.join(name));
    assert_eq!(array.shape, [SLICES, ROWS, COLUMNS], "{name}");
    array.data.into_iter().map(Into::into).collect()
}

/// How many voxels differ by how much, in stored units.
#[derive(Debug, PartialEq)]
struct Differences {
    within_one: usize,
    beyond: usize,
    most: f64,
}

fn compare(name: &str, got: &[f64], expected: &[f64]) -> Differences {
    let all: Vec<f64> = got.iter().zip(expected).map(|(a, b)| (a - b).abs()).collect();
    let count = |low: f64, high: f64| all.iter().filter(|d| **d > low && **d <= high).count();
    let found = Differences {
        within_one: count(0.0, 1.0),
        beyond: count(1.0, f64::INFINITY),
        most: all.iter().copied().fold(0.0, f64::max),
    };
    println!(
        "{name}: {} voxels, equal {}, one stored unit away {}, further {}, largest difference {}",
        all.len(),
        all.len() - found.within_one - found.beyond,
        found.within_one,
        found.beyond,
        found.most
    );
    found
}

/// The largest difference of `inputs` within the filters' reach of voxel `i`.
fn reached(inputs: &[f64], i: usize) -> f64 {
    let (z, y, x) = (i / PLANE, i % PLANE / COLUMNS, i % COLUMNS);
    let around = |at: usize, reach: usize, end: usize| at.saturating_sub(reach)..(at + reach + 1).min(end);
    let mut most = 0f64;
    for z in around(z, REACH_Z, SLICES) {
        for y in around(y, REACH_XY, ROWS) {
            for x in around(x, REACH_XY, COLUMNS) {
                most = most.max(inputs[z * PLANE + y * COLUMNS + x]);
            }
        }
    }
    most
}

#[test]
fn the_published_chain_from_dicom() {
    let Some(folder) = shared("fixtures/ducosy/e2e") else { return };
    let scratch = tempfile::tempdir().unwrap();
    let input = folder.join("dicom/input");
    let keep = ["ncct", "soft-hu", "lung-hu", "integrated"];
    let got = run("ducosy-published.toml", &input, scratch.path(), &keep);

    let exact = Differences { within_one: 0, beyond: 0, most: 0.0 };
    assert_eq!(compare("read", &got.edges["ncct"], &reference::<u16>(&folder, "raw_stored_u16.npy")), exact);
    for (node, file) in [("soft-hu", "soft_stored_u16.npy"), ("lung-hu", "lung_stored_u16.npy")] {
        let found = compare(node, &got.edges[node], &reference::<u16>(&folder, file));
        assert_eq!(found.beyond, 0, "{node}: a truncation can move a voxel by one stored unit and no more");
    }
    let merged = reference::<f32>(&folder, "merged_f32.npy");
    assert_eq!(compare("integrated", &got.edges["integrated"], &merged).beyond, 0);

    let written = &got.written;
    let expected = reference::<u16>(&folder, "final_stored.npy");
    let found = compare("written", written, &expected);
    let near = 1.0 - found.beyond as f64 / expected.len() as f64;
    println!("written: {:.4} % of voxels within one stored unit", 100.0 * near);
    assert!(near >= 0.999);
    let flipped: Vec<f64> = got.edges["integrated"].iter().zip(&merged).map(|(a, b)| (a - b).abs()).collect();
    let smooth = reference::<f32>(&folder, "zsmooth_f32.npy");
    let (mut by_filter, mut by_switch) = (0, 0);
    for (i, (a, b)) in written.iter().zip(&expected).enumerate().filter(|(_, (a, b))| (*a - *b).abs() > 1.0) {
        let reached = reached(&flipped, i);
        assert!(reached > 0.0, "voxel {i}: {a} for {b}, and no input within reach of the filters differs");
        match (smooth[i] - 750.0).abs() <= reached {
            true => by_switch += 1,
            false => {
                assert!((a - b).abs() <= 1.0 + GAIN * reached, "voxel {i}: {a} for {b} is more than the filters make");
                by_filter += 1;
            }
        }
    }
    println!("written: further apart by the filters' reach {by_filter}, by the switch at 750 {by_switch}");
}
