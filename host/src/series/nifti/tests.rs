//! Unit tests, and reading of the reference scan. dcm2niix itself is compared in `tests/oracles/compare_nifti.py`.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use super::*;
use crate::series::geometry::norm;
use flate2::read::GzDecoder;
use proptest::prelude::*;

fn geometry(size: [usize; 3], affine: [f64; 12]) -> Geometry {
    Geometry { size, affine, slice_origins_mm: None, frame_of_reference: None, z_unknown: false }
}

/// An axial grid: 0.7 mm columns, 0.8 mm rows, 2.5 mm slices.
fn axial(size: [usize; 3]) -> Geometry {
    geometry(size, [0.7, 0., 0., -100., 0., 0.8, 0., -50., 0., 0., 2.5, 30.])
}

fn file(bytes: &[u8]) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("volume");
    std::fs::write(&path, bytes).unwrap();
    (dir, path)
}

fn open(bytes: &[u8]) -> Result<NiftiFile, Fault> {
    let (_dir, path) = file(bytes);
    NiftiFile::open(&path, Limits::default())
}

fn inflate(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    GzDecoder::new(bytes).read_to_end(&mut out).unwrap();
    out
}

fn code<T: std::fmt::Debug>(result: Result<T, Fault>) -> String {
    result.unwrap_err().code
}

#[test]
fn images_round_trip_in_both_row_orders() {
    let g = axial([3, 4, 5]);
    for (values, datatype) in [
        ((0..120).map(|v| v as f32 * 7.0 - 400.0).collect::<Vec<f32>>(), 4),
        ((0..120).map(|v| v as f32 * 0.37 - 4.0).collect(), 16),
        ((0..120).map(|v| v as f32 * 1000.0).collect(), 16),
    ] {
        for rows in [RowOrder::AsStored, RowOrder::Flipped] {
            let bytes = encode_image(&g, 2, &values, rows).unwrap();
            assert_eq!(inflate(&bytes)[70], datatype);
            assert_eq!(bytes, encode_image(&g, 2, &values, rows).unwrap());
            assert_eq!(bytes[4..8], [0; 4], "no time stamp");
            let opened = open(&bytes).unwrap();
            assert!(opened.warnings().is_empty());
            let back = opened.image().unwrap();
            assert_eq!(back.channels, 2);
            assert_eq!(back.voxels == values, rows == RowOrder::AsStored);
            let back = back.reorient_to(&g, 1e-4).unwrap();
            assert_eq!(back.voxels, values);
        }
    }
}

#[test]
fn labels_round_trip() {
    let g = axial([2, 3, 4]);
    let labels: Vec<u8> = (0..24).map(|v| v * 10).collect();
    let bytes = encode_labels(&g, &labels, RowOrder::Flipped).unwrap();
    let back = open(&bytes).unwrap().labels::<u8>().unwrap();
    assert_ne!(back.voxels, labels);
    assert_eq!(back.reorient_to(&g, 1e-4).unwrap().voxels, labels);
    assert_eq!(open(&bytes).unwrap().labels::<i32>().unwrap().voxels.iter().max(), Some(&230));
    let float = encode_image(&g, 1, &[1.5; 24], RowOrder::AsStored).unwrap();
    let fault = open(&float).unwrap().labels::<u8>().unwrap_err();
    assert_eq!(fault.code, "nifti-labels");
    let big = encode_image(&g, 1, &[300.0; 24], RowOrder::AsStored).unwrap();
    assert_eq!(code(open(&big).unwrap().labels::<u8>()), "nifti-labels");
    assert_eq!(open(&big).unwrap().labels::<u16>().unwrap().voxels, [300; 24]);
    let negative = encode_image(&g, 1, &[-1.0; 24], RowOrder::AsStored).unwrap();
    assert_eq!(code(open(&negative).unwrap().labels::<u16>()), "nifti-labels");
}

#[test]
fn dcm2niix_convention() {
    // dcm2niix on an axial series: RAS columns (-dx, 0, 0), (0, +dy, 0), (0, 0, +dz), origin of the bottom row.
    let bytes = inflate(&encode_labels(&axial([3, 4, 5]), &[0; 60], RowOrder::Flipped).unwrap());
    let float = |at: usize| f32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    let affine: Vec<f32> = (0..12).map(|i| float(280 + 4 * i)).collect();
    assert_eq!(affine, [-0.7, 0., 0., 100., 0., 0.8, 0., 47.6, 0., 0., 2.5, 30.]);
    assert_eq!((float(76), float(256), float(260), float(264)), (-1.0, 0.0, 1.0, 0.0), "qfac and quaternion");
    assert_eq!(bytes[252..256], [1, 0, 1, 0]);
    let fields = (76..92).chain(256..328).step_by(4);
    assert!(fields.into_iter().all(|at| float(at).to_bits() != (-0.0f32).to_bits()), "no negative zeros");
}

#[test]
fn qform_and_sform_agree_for_any_rotation() {
    let mut rng = 1u64;
    let mut uniform = || {
        rng = rng.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (rng >> 11) as f64 / (1u64 << 53) as f64 * 2.0 - 1.0
    };
    let mut worst = 0f64;
    for case in 0..400 {
        // A random unit quaternion; every fourth close to a half turn, where one component vanishes.
        let mut q = [uniform(), uniform(), uniform(), uniform()];
        if case % 4 == 0 {
            q[0] *= 1e-9;
        }
        let n = q.iter().map(|v| v * v).sum::<f64>().sqrt();
        let [a, b, c, d] = q.map(|v| v / n);
        let r = [
            [a * a + b * b - c * c - d * d, 2. * (b * c - a * d), 2. * (b * d + a * c)],
            [2. * (b * c + a * d), a * a + c * c - b * b - d * d, 2. * (c * d - a * b)],
            [2. * (b * d - a * c), 2. * (c * d + a * b), a * a + d * d - c * c - b * b],
        ];
        let affine = std::array::from_fn(|i| match i % 4 {
            3 => 10.0,
            x => r[i / 4][x] * [0.7, 0.8, 2.5][x],
        });
        let g = geometry([3, 4, 5], affine);
        for rows in [RowOrder::AsStored, RowOrder::Flipped] {
            let mut bytes = inflate(&encode_labels(&g, &[0; 60], rows).unwrap());
            let by_sform = open(&bytes).unwrap();
            assert!(by_sform.warnings().is_empty(), "sform and qform differ");
            bytes[254] = 0;
            let by_qform = open(&bytes).unwrap();
            worst = worst.max(by_sform.geometry().distance_mm(by_qform.geometry()).unwrap());
        }
    }
    println!("largest distance between sform and qform: {worst:.1e} mm");
    // a = sqrt(1 - b^2 - c^2 - d^2) of three f32: an error of about 5e-4 rad near a half turn, over a grid of 9 mm.
    assert!(worst < 5e-3, "{worst}");
}

#[test]
fn sheared_and_uneven_grids() {
    let sheared = geometry([3, 4, 5], [1., 0., 0., 0., 0., 1., 0.5, 0., 0., 0., 2., 0.]);
    let bytes = encode_labels(&sheared, &[0; 60], RowOrder::AsStored).unwrap();
    assert_eq!(inflate(&bytes)[252..256], [0, 0, 1, 0], "no qform");
    assert!(same_grid(open(&bytes).unwrap().geometry(), &sheared, 1e-5));
    // sform and qform far apart: said, and the sform is used.
    let mut two = inflate(&encode_labels(&axial([3, 4, 5]), &[0; 60], RowOrder::AsStored).unwrap());
    two[268..272].copy_from_slice(&7f32.to_le_bytes());
    let two = open(&two).unwrap();
    assert_eq!(two.warnings()[0].code, "nifti-two-orientations");
    assert!(same_grid(two.geometry(), &axial([3, 4, 5]), 1e-4));
    let uneven = Geometry { slice_origins_mm: Some(vec![[0.; 3]; 3]), ..axial([3, 4, 5]) };
    assert_eq!(code(encode_labels(&uneven, &[0; 60], RowOrder::AsStored)), "uneven-grid");
}

#[test]
fn what_cannot_be_written() {
    let g = axial([1, 2, 2]);
    assert_eq!(code(encode_image(&g, 1, &[0.0; 5], RowOrder::AsStored)), "nifti-size");
    let fault = encode_image(&g, 1, &[0.0, 0.0, f32::NAN, 0.0], RowOrder::AsStored).unwrap_err();
    assert!(fault.code == "not-finite" && fault.text.contains("row 1, column 0"), "{fault}");
    let mut bad = g;
    bad.affine[0] = f64::NAN;
    assert_eq!(code(encode_labels(&bad, &[0; 4], RowOrder::AsStored)), "nifti-orientation");
}

/// A plain `.nii` of 2x3x4 voxels with the given datatype, byte order, scaling and voxel bytes.
fn plain(datatype: i16, big: bool, slope: f32, intercept: f32, voxels: &[u8]) -> Vec<u8> {
    let mut h = inflate(&encode_labels(&axial([2, 3, 4]), &[0; 24], RowOrder::AsStored).unwrap());
    h.truncate(352);
    h[70..72].copy_from_slice(&datatype.to_le_bytes());
    h[112..116].copy_from_slice(&slope.to_le_bytes());
    h[116..120].copy_from_slice(&intercept.to_le_bytes());
    if big {
        let fields: Vec<(usize, usize)> = std::iter::empty()
            .chain([(0, 4), (32, 4)])
            .chain((36..38).step_by(2).map(|o| (o, 2)))
            .chain((40..56).step_by(2).map(|o| (o, 2)))
            .chain((56..68).step_by(4).map(|o| (o, 4)))
            .chain((68..76).step_by(2).map(|o| (o, 2)))
            .chain((76..120).step_by(4).map(|o| (o, 4)))
            .chain([(120, 2)])
            .chain((124..148).step_by(4).map(|o| (o, 4)))
            .chain([(252, 2), (254, 2)])
            .chain((256..328).step_by(4).map(|o| (o, 4)))
            .collect();
        for (offset, length) in fields {
            h[offset..offset + length].reverse();
        }
    }
    h.extend_from_slice(voxels);
    h
}

#[test]
fn every_number_type_in_both_byte_orders() {
    fn bytes<const N: usize>(values: &[[u8; N]], big: bool) -> Vec<u8> {
        values.iter().flat_map(|v| if big { v.iter().rev().copied().collect() } else { v.to_vec() }).collect()
    }
    let counts: Vec<i64> = (0..24).map(|v| v * 5).collect();
    for big in [false, true] {
        let signed: Vec<i64> = counts.iter().map(|v| v - 60).collect();
        let cases: Vec<(i16, Vec<u8>, &Vec<i64>)> = vec![
            (2, bytes(&counts.iter().map(|&v| [v as u8]).collect::<Vec<_>>(), big), &counts),
            (256, bytes(&signed.iter().map(|&v| (v as i8).to_le_bytes()).collect::<Vec<_>>(), big), &signed),
            (4, bytes(&signed.iter().map(|&v| (v as i16).to_le_bytes()).collect::<Vec<_>>(), big), &signed),
            (512, bytes(&counts.iter().map(|&v| (v as u16).to_le_bytes()).collect::<Vec<_>>(), big), &counts),
            (8, bytes(&signed.iter().map(|&v| (v as i32).to_le_bytes()).collect::<Vec<_>>(), big), &signed),
            (768, bytes(&counts.iter().map(|&v| (v as u32).to_le_bytes()).collect::<Vec<_>>(), big), &counts),
            (1024, bytes(&signed.iter().map(|&v| v.to_le_bytes()).collect::<Vec<_>>(), big), &signed),
            (1280, bytes(&counts.iter().map(|&v| (v as u64).to_le_bytes()).collect::<Vec<_>>(), big), &counts),
            (16, bytes(&signed.iter().map(|&v| (v as f32).to_le_bytes()).collect::<Vec<_>>(), big), &signed),
            (64, bytes(&signed.iter().map(|&v| (v as f64).to_le_bytes()).collect::<Vec<_>>(), big), &signed),
        ];
        for (datatype, voxels, expected) in cases {
            let labels = open(&plain(datatype, big, 1.0, 0.0, &voxels)).unwrap().labels::<i32>().unwrap();
            assert!(labels.voxels.iter().map(|&v| i64::from(v)).eq(expected.iter().copied()), "{datatype} {big}");
            assert_eq!(labels.geometry.size, [2, 3, 4]);
            assert!((labels.geometry.affine[3] + 100.0).abs() < 1e-6);
            let scaled = open(&plain(datatype, big, 0.5, -10.0, &voxels)).unwrap().image().unwrap();
            let expected: Vec<f32> = expected.iter().map(|&v| v as f32 * 0.5 - 10.0).collect();
            assert_eq!(scaled.voxels, expected, "{datatype} {big}");
            // Slope 0 means no scaling.
            let unscaled = open(&plain(datatype, big, 0.0, 5.0, &voxels)).unwrap().labels::<i32>().unwrap();
            assert_eq!(unscaled.voxels, labels.voxels);
        }
    }
}

#[test]
fn hostile_headers_are_named() {
    let good = plain(2, false, 1.0, 0.0, &[1; 24]);
    assert!(open(&good).unwrap().image().is_ok());
    let changed = |at: usize, bytes: &[u8]| {
        let mut h = good.clone();
        h[at..at + bytes.len()].copy_from_slice(bytes);
        let (_dir, path) = file(&h);
        code(NiftiFile::open(&path, Limits::default()).and_then(NiftiFile::image))
    };
    assert_eq!(changed(0, &540i32.to_le_bytes()), "nifti-format");
    assert_eq!(changed(0, &0i32.to_le_bytes()), "nifti-format");
    assert_eq!(changed(344, b"ni1\0"), "nifti-format");
    assert_eq!(changed(344, b"xxxx"), "nifti-format");
    assert_eq!(changed(40, &0i16.to_le_bytes()), "nifti-size");
    assert_eq!(changed(40, &8i16.to_le_bytes()), "nifti-format", "reads as the other byte order, and then is none");
    assert_eq!(changed(42, &0i16.to_le_bytes()), "nifti-size");
    assert_eq!(changed(42, &(-5i16).to_le_bytes()), "nifti-size");
    assert_eq!(changed(42, &[0xFF, 0x7F, 0xFF, 0x7F, 0xFF, 0x7F]), "nifti-size");
    assert_eq!(changed(42, &500i16.to_le_bytes()), "nifti-truncated");
    for datatype in [1i16, 32, 128, 1536, 1792, 2048, 2304, 0, -1, 77] {
        assert_eq!(changed(70, &datatype.to_le_bytes()), "nifti-type");
    }
    for offset in [100f32, 353.5, 1e9, f32::NAN, -352.0] {
        assert_eq!(changed(108, &offset.to_le_bytes()), "nifti-format", "{offset}");
    }
    assert_eq!(changed(108, &360f32.to_le_bytes()), "nifti-truncated");
    assert_eq!(changed(112, &f32::INFINITY.to_le_bytes()), "nifti-scaling");
    assert_eq!(changed(123, &[5]), "nifti-orientation");
    assert_eq!(changed(252, &[0; 4]), "nifti-orientation");
    assert_eq!(changed(280, &[0; 48]), "nifti-orientation");
    let mut long = [9i16; 8];
    long[0] = 7;
    let long: Vec<u8> = long.map(|_| 30000i16).iter().flat_map(|v| v.to_le_bytes()).collect();
    assert_eq!(changed(42, &long[..14]), "nifti-size");
    for cut in 0..good.len() {
        let (_dir, path) = file(&good[..cut]);
        assert_eq!(code(NiftiFile::open(&path, Limits::default()).and_then(NiftiFile::image)), "nifti-truncated");
    }
    let mut nan = plain(16, false, 1.0, 0.0, &[0; 96]);
    let at = nan.len() - 4;
    nan[at..].copy_from_slice(&f32::NAN.to_le_bytes());
    let fault = open(&nan).unwrap().image().unwrap_err();
    assert!(fault.code == "not-finite" && fault.text.contains("slice 1, row 2, column 3"), "{fault}");
}

#[test]
fn compressed_files_are_bounded_and_checked() {
    let g = axial([4, 64, 64]);
    let noise: Vec<f32> = (0..4 * 64 * 64u32).map(|v| (v.wrapping_mul(2654435761) >> 17) as f32).collect();
    let good = encode_image(&g, 1, &noise, RowOrder::AsStored).unwrap();
    let read = |bytes: &[u8], limits| {
        let (_dir, path) = file(bytes);
        NiftiFile::open(&path, limits).and_then(NiftiFile::image)
    };
    assert_eq!(read(&good, Limits::default()).unwrap().voxels, noise);
    assert_eq!(code(read(&good, Limits { voxel_bytes: 1000 })), "nifti-size");
    assert_eq!(code(read(&good[..good.len() / 2], Limits::default())), "nifti-truncated");
    let mut damaged = good.clone();
    let at = damaged.len() - 6; // in the checksum
    damaged[at] ^= 1;
    assert_eq!(code(read(&damaged, Limits::default())), "nifti-read");
    // A small stream that claims the largest image a NIfTI header can: refused by what deflate can hold.
    let mut header = inflate(&good)[..352].to_vec();
    header[42..48].copy_from_slice(&[0x00, 0x10, 0x00, 0x10, 0x00, 0x02]);
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gz.write_all(&header).unwrap();
    assert_eq!(code(read(&gz.finish().unwrap(), Limits { voxel_bytes: u64::MAX })), "nifti-truncated");
    // A bomb after the voxels.
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gz.write_all(&plain(2, false, 1.0, 0.0, &[1; 24])).unwrap();
    gz.write_all(&vec![0; 64 << 20]).unwrap();
    assert_eq!(code(read(&gz.finish().unwrap(), Limits::default())), "nifti-format");
}

#[test]
fn only_regular_files_are_opened() {
    let (dir, path) = file(&plain(2, false, 1.0, 0.0, &[1; 24]));
    let link = dir.path().join("link");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    let pipe = dir.path().join("pipe");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0).unwrap();
    for bad in [&link, &pipe, &dir.path().to_path_buf(), &dir.path().join("Meier^Anna")] {
        let fault = NiftiFile::open(bad, Limits::default()).unwrap_err();
        assert_eq!(fault.code, "nifti-open");
        assert!(!fault.text.contains("Meier"), "{fault}");
    }
}

#[test]
fn grids_that_differ_are_not_reoriented() {
    let a = axial([3, 4, 5]);
    let mut shifted = a.clone();
    shifted.affine[3] += 0.02;
    assert!(!same_grid(&a, &shifted, 1e-3) && same_grid(&a, &shifted, 0.021));
    let fault = match_grid(&a, &shifted, 1e-3).unwrap_err();
    assert!(fault.text.contains("0.0200 mm apart"), "{fault}");
    assert_eq!(code(match_grid(&a, &axial([3, 4, 6]), 1e-3)), "grid");
    let mut one_off = a.clone();
    one_off.slice_origins_mm =
        Some((0..3).map(|z| [-100., -50., 30. + 2.5 * f64::from(z) + f64::from(z == 1)]).collect());
    assert_eq!(code(match_grid(&a, &one_off, 1e-3)), "grid");
    let mut broken = a.clone();
    broken.affine[5] = f64::NAN;
    assert_eq!(code(match_grid(&a, &broken, 1e-3)), "grid");
    assert!(match_grid(&a, &a, 0.0).unwrap().is_identity());
}

proptest! {
    /// Any order and direction of the axes is undone exactly.
    #[test]
    fn any_axis_order_is_undone(order in 0usize..6, flips in 0usize..8, size in [1usize..5, 1..5, 1..5], channels in 1usize..3) {
        let axes = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]][order];
        let target = axial(size);
        let n = size.iter().product::<usize>() * channels;
        let voxels: Vec<u32> = (0..n as u32).collect();
        // The source grid: axis s of the source runs along axis axes[s] of the target, backwards where flips says.
        let source_size = axes.map(|a| size[a]);
        let columns = [2usize, 1, 0]; // affine column of axis z, y, x
        let mut affine = target.affine;
        let mut origin = [target.affine[3], target.affine[7], target.affine[11]];
        for s in 0..3 {
            let backwards = flips >> s & 1 == 1;
            for r in 0..3 {
                let step = target.affine[4 * r + columns[axes[s]]];
                affine[4 * r + columns[s]] = if backwards { -step } else { step };
                if backwards {
                    origin[r] += step * (source_size[s] - 1) as f64;
                }
            }
        }
        for r in 0..3 {
            affine[4 * r + 3] = origin[r];
        }
        let source = geometry(source_size, affine);
        let matched = match_grid(&source, &target, 1e-6).unwrap();
        let stored = match_grid(&target, &source, 1e-6).unwrap().apply(&voxels, channels).unwrap();
        prop_assert_eq!(matched.apply(&stored, channels).unwrap(), voxels.clone());
        // Independently: each stored voxel is the target voxel at the same place.
        for (i, &voxel) in stored.iter().enumerate().take(n / channels) {
            let index = |i: usize, s: [usize; 3]| [i / (s[1] * s[2]), i / s[2] % s[1], i % s[2]].map(|v| v as f64);
            let a = source.position_mm(index(i, source_size));
            let b = target.position_mm(index(voxel as usize, size));
            prop_assert!(norm([a[0] - b[0], a[1] - b[1], a[2] - b[2]]) < 1e-6);
        }
    }

    /// Random damage never panics.
    #[test]
    fn damaged_headers_never_panic(at in 0usize..352, value: u8, more in 0usize..352, other: u8) {
        let mut bytes = plain(4, false, 1.0, 0.0, &[1; 48]);
        bytes[at] = value;
        bytes[more] = other;
        if let Ok(file) = open(&bytes) {
            let _ = file.image();
        }
    }
}

fn reference(name: &str) -> Option<PathBuf> {
    gantry_tests::fixture::shared("data/chest-cta-heart").map(|dir| dir.join(name))
}

fn read_reference(path: &Path) -> NiftiFile {
    NiftiFile::open(path, Limits::default()).unwrap()
}

#[test]
fn reference_masks_and_grids() {
    let Some(path) = reference("heart.nii.gz") else { return };
    let heart = read_reference(&path).labels::<u8>().unwrap();
    assert_eq!(heart.voxels.iter().filter(|&&v| v == 1).count(), 198_176);
    assert_eq!(heart.voxels.iter().filter(|&&v| v > 1).count(), 0);
    assert_eq!(heart.geometry.size, [112, 102, 122]);
    let Some(ct) = reference("ct_cropped.nii.gz") else { return };
    let ct = read_reference(&ct).image().unwrap();
    assert!(same_grid(&heart.geometry, &ct.geometry, 1e-3));
    let (lo, hi) = ct.voxels.iter().fold((f32::MAX, f32::MIN), |(a, b), &v| (a.min(v), b.max(v)));
    assert_eq!((lo, hi), (-1064.0, 3343.0));
    // Through a file in dcm2niix's order and back.
    let written = encode_labels(&heart.geometry, &heart.voxels, RowOrder::Flipped).unwrap();
    let flipped = open(&written).unwrap().labels::<u8>().unwrap();
    assert_ne!(flipped.voxels, heart.voxels);
    assert_eq!(flipped.reorient_to(&heart.geometry, 1e-3).unwrap().voxels, heart.voxels);
}
