//! Stored values of every sample equal pydicom's: checksums made by `tests/oracles/pydicom_pixels.py`.

use std::collections::BTreeMap;
use std::path::Path;

use gantry_host::series::pixel::{self, PixelModule};
use gantry_host::series::{Fault, guard, header};
use sha2::{Digest, Sha256};

#[derive(serde::Deserialize)]
struct Reference {
    path: String,
    transfer_syntax: String,
    frame: usize,
    rows: usize,
    columns: usize,
    sha256: String,
}

/// Stored values of one frame of a file.
fn stored(path: &Path, frame: usize) -> Result<(PixelModule, Vec<i32>), Fault> {
    let bytes = std::fs::read(path).unwrap();
    let outline = guard::walk(bytes)?.expect("a DICOM file");
    let header = header::parse(&outline)?;
    let module = PixelModule::of(&header)?;
    pixel::decode(&outline, &module, frame).map(|stored| (module, stored.values))
}

fn checksum(values: &[i32]) -> String {
    let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    hex::encode(Sha256::digest(bytes))
}

/// Files that the oracle reads and Gantry refuses, with the code of the refusal.
const REFUSED: [(&str, &str); 1] = [
    // Twelve-bit lossy JPEG.
    ("transfer-syntaxes/pydicom/JPGExtended.dcm", "transfer-syntax"),
];

fn compare(root: &Path, json: &str) -> BTreeMap<String, usize> {
    let references: Vec<Reference> = serde_json::from_str(json).unwrap();
    let mut counts = BTreeMap::new();
    let mut wrong = Vec::new();
    for reference in references {
        let found = stored(&root.join(&reference.path), reference.frame);
        if let Some((_, code)) = REFUSED.iter().find(|(path, _)| *path == reference.path) {
            assert_eq!(&found.unwrap_err().code, code, "{}", reference.path);
            continue;
        }
        match found {
            Err(fault) => wrong.push(format!("{} frame {}: {fault}", reference.path, reference.frame)),
            Ok((module, values)) => {
                assert_eq!((module.rows, module.columns), (reference.rows, reference.columns));
                if checksum(&values) != reference.sha256 {
                    wrong.push(format!("{} frame {}: other values", reference.path, reference.frame));
                }
                *counts.entry(reference.transfer_syntax).or_default() += 1;
            }
        }
    }
    println!("frames equal to pydicom's, by transfer syntax: {counts:#?}");
    assert!(wrong.is_empty(), "{wrong:#?}");
    counts
}

#[test]
fn shared_samples_equal_pydicom() {
    let Some(root) = gantry_tests::fixture::shared("data") else { return };
    let counts = compare(&root, include_str!("data/shared_pixels.json"));
    assert_eq!(counts.values().sum::<usize>(), 181);
}

#[test]
fn own_samples_equal_their_oracle() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    let counts = compare(&root, include_str!("data/own_pixels.json"));
    for syntax in ["1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.201"] {
        assert!(counts.contains_key(syntax), "no sample of {syntax}");
    }
}

#[test]
fn what_cannot_be_decoded_is_refused_by_name() {
    let Some(root) = gantry_tests::fixture::shared("data") else { return };
    for (path, code) in [
        ("transfer-syntaxes/pydicom/examples_jpeg2k.dcm", "colour"),
        ("transfer-syntaxes/pydicom/ExplVR_BigEnd.dcm", "colour"),
        ("transfer-syntaxes/pydicom/SC_rgb_rle_16bit_2frame.dcm", "colour"),
        ("transfer-syntaxes/htj2k_deflate/HTJ2K_08_RGB.dcm", "colour"),
        ("transfer-syntaxes/pydicom/liver.dcm", "pixel-module"),
        ("transfer-syntaxes/pydicom/JPEG-lossy.dcm", "transfer-syntax"),
        ("transfer-syntaxes/enhanced/emri_small_jpeg_2k_lossless_too_short.dcm", "truncated"),
    ] {
        let mut found = None;
        for frame in 0..10 {
            if let Err(fault) = stored(&root.join(path), frame) {
                found = Some(fault);
                break;
            }
        }
        let fault = found.unwrap_or_else(|| panic!("{path} was decoded"));
        println!("{path}: {fault}");
        assert_eq!(fault.code, code, "{path}: {fault}");
    }
}
