//! Reading the fixtures: half-precision arrays and NIfTI volumes.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use half::f16;

pub use gantry_tests::fixture::npy;

/// A folder of the fixtures, or `None` where they are not on this machine.
pub fn fixtures(relative: &str) -> Option<PathBuf> {
    gantry_tests::fixture::shared(&format!("fixtures/nnunet/{relative}"))
}

/// Shape and values of a half-precision `.npy` file.
pub fn npy_f16(path: impl AsRef<Path>) -> (Vec<usize>, Vec<f16>) {
    let path = path.as_ref();
    let bytes = std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let header = usize::from(u16::from_le_bytes([bytes[8], bytes[9]])) + 10;
    let text = std::str::from_utf8(&bytes[10..header]).unwrap();
    assert!(text.contains("'<f2'") && text.contains("'fortran_order': False"), "{text}");
    let shape = text.split_once("'shape': (").unwrap().1.split_once(')').unwrap().0;
    let shape: Vec<usize> = shape.split(',').filter_map(|n| n.trim().parse().ok()).collect();
    let values: Vec<f16> = bytes[header..].chunks_exact(2).map(|b| f16::from_le_bytes([b[0], b[1]])).collect();
    assert_eq!(values.len(), shape.iter().product::<usize>());
    (shape, values)
}

/// A NIfTI volume: values as stored (scaling applied), size z, y, x, and the affine to LPS millimetres.
pub struct Nifti {
    pub values: Vec<f64>,
    pub size: [usize; 3],
    pub affine: [f64; 12],
    /// `pixdim` of z, y, x.
    pub spacing_mm: [f64; 3],
}

impl Nifti {
    pub fn labels(&self) -> Vec<u8> {
        self.values.iter().map(|&v| v as u8).collect()
    }
}

/// Reads a `.nii.gz` file with an sform.
pub fn nifti(path: impl AsRef<Path>) -> Nifti {
    let path = path.as_ref();
    let file = std::fs::File::open(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let mut bytes = Vec::new();
    flate2::read::GzDecoder::new(file).read_to_end(&mut bytes).unwrap();
    let short = |at: usize| i16::from_le_bytes([bytes[at], bytes[at + 1]]);
    let float = |at: usize| f32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    let size = [3, 2, 1].map(|d| short(40 + 2 * d) as usize);
    let n = size.iter().product::<usize>();
    let data = &bytes[float(108) as usize..];
    let raw: Vec<f64> = match short(70) {
        2 => data[..n].iter().map(|&b| f64::from(b)).collect(),
        4 => data[..n * 2].chunks_exact(2).map(|b| f64::from(i16::from_le_bytes([b[0], b[1]]))).collect(),
        8 => data[..n * 4].chunks_exact(4).map(|b| f64::from(i32::from_le_bytes(b.try_into().unwrap()))).collect(),
        16 => data[..n * 4].chunks_exact(4).map(|b| f64::from(f32::from_le_bytes(b.try_into().unwrap()))).collect(),
        64 => data[..n * 8].chunks_exact(8).map(|b| f64::from_le_bytes(b.try_into().unwrap())).collect(),
        other => panic!("{}: data type {other}", path.display()),
    };
    let (slope, intercept) = (f64::from(float(112)), f64::from(float(116)));
    let values = match slope {
        s if s == 0.0 || s.is_nan() => raw,
        s => raw.into_iter().map(|v| v * s + intercept).collect(),
    };
    assert!(short(254) > 0, "{}: no sform", path.display());
    let mut affine: [f64; 12] = std::array::from_fn(|i| f64::from(float(280 + 4 * i)));
    affine[..8].iter_mut().for_each(|v| *v = -*v);
    Nifti { values, size, affine, spacing_mm: [3, 2, 1].map(|d| f64::from(float(76 + 4 * d))) }
}

/// Panics unless both have the same bits, saying how many differ.
pub fn same_f32(name: &str, ours: &[f32], theirs: &[f32]) {
    assert_eq!(ours.len(), theirs.len(), "{name}");
    let differ: Vec<usize> = (0..ours.len()).filter(|&i| ours[i].to_bits() != theirs[i].to_bits()).collect();
    let greatest = ours.iter().zip(theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(
        differ.is_empty(),
        "{name}: {} of {} differ, by up to {greatest}; first {:?}",
        differ.len(),
        ours.len(),
        differ.first().map(|&i| (i, ours[i], theirs[i]))
    );
    println!("{name}: {} values, same bits", ours.len());
}

/// Panics unless both are equal, saying how many differ.
pub fn same<T: PartialEq + std::fmt::Debug>(name: &str, ours: &[T], theirs: &[T]) {
    assert_eq!(ours.len(), theirs.len(), "{name}");
    let differ: Vec<usize> = (0..ours.len()).filter(|&i| ours[i] != theirs[i]).collect();
    assert!(
        differ.is_empty(),
        "{name}: {} of {} differ; first {:?}",
        differ.len(),
        ours.len(),
        differ.first().map(|&i| (i, &ours[i], &theirs[i]))
    );
    println!("{name}: {} values, equal", ours.len());
}
