//! What the series reader gives goes through deriving and comes back: headers, padding, frames, voxels.

use std::path::{Path, PathBuf};

use dicom_dictionary_std::uids;
use gantry_host::series::derive::{
    DerivationCodes, DerivationContext, Nature, PaddingRun, Rounding, SlicePixels, SourceFrame, derive_instance,
};
use gantry_host::series::uid::UidMaker;
use gantry_host::series::{Fault, ScanOptions, ScanReport, SeriesRecord, SliceReader, scan};
use gantry_tests::fixture::shared;

fn scanned(folder: &Path, options: &ScanOptions) -> ScanReport {
    scan(&[folder.to_path_buf()], options, &|_| {}).unwrap()
}

fn context() -> DerivationContext {
    DerivationContext {
        uids: UidMaker::new(Some(&[5; 32]), "plan", "inputs", "write"),
        run_time: "2026-01-31T10:15:00Z".parse().unwrap(),
        series_number: 1003,
        series_description: "through the reader".to_owned(),
        pipeline: "identity".to_owned(),
        nature: Nature::Derived,
        toy: false,
        models: Vec::new(),
        codes: DerivationCodes::default(),
        contrast_removed: false,
        deidentified_by_gantry: false,
        software_versions: vec!["0.1.0".into()],
        lossy_source: false,
        repair: true,
    }
}

/// Writes every slice unchanged into `dir`.
fn write_unchanged(record: &SeriesRecord, dir: &Path) -> Result<usize, Fault> {
    let reader = SliceReader::new(record);
    for index in 0..record.slices() {
        let slice = reader.read(index)?;
        let padding = slice.padding.as_ref().map_or_else(Vec::new, |p| PaddingRun::of(&p.runs, p.range, &slice.stored));
        let frame = record.instances[index].frame.map(|index| SourceFrame { sop_class: &record.sop_class, index });
        let pixels = SlicePixels { index, values: &slice.hu, padding: &padding, rounding: Rounding::Nearest, frame };
        let derived = derive_instance(&slice.header, &context(), &pixels)?;
        assert_eq!(derived.clamped, 0, "an unchanged voxel was clamped");
        std::fs::write(dir.join(format!("{index:04}.dcm")), derived.to_bytes()?).unwrap();
    }
    Ok(record.slices())
}

fn through(folder: &Path) -> Vec<(SeriesRecord, Result<PathBuf, Fault>)> {
    let mut out = Vec::new();
    for record in
        scanned(folder, &ScanOptions { repair: vec![gantry_host::series::Repair::Uids], ..Default::default() }).series
    {
        let dir = tempfile::tempdir().unwrap().keep();
        let written = write_unchanged(&record, &dir);
        if let Ok(slices) = written {
            let again = scanned(&dir, &ScanOptions { include_derived: true, ..Default::default() });
            assert!(again.skipped.is_empty(), "{:?}", again.skipped);
            let [back] = again.series.as_slice() else { panic!("{} series came back", again.series.len()) };
            assert!(back.derived_by_gantry);
            assert_eq!((back.slices(), back.transfer_syntax.as_str()), (slices, uids::EXPLICIT_VR_LITTLE_ENDIAN));
            if let (Some(a), Some(b)) = (&record.geometry, &back.geometry) {
                assert!(a.distance_mm(b).unwrap() < 1e-6);
            }
            let (a, b) = (SliceReader::new(&record), SliceReader::new(back));
            for z in 0..slices {
                let (a, b) = (a.read(z).unwrap(), b.read(z).unwrap());
                assert_eq!(a.stored, b.stored);
                assert_eq!(a.hu, b.hu);
                assert_eq!(a.padding, b.padding);
            }
        }
        out.push((record, written.map(|_| dir)));
    }
    out
}

/// The folders of `../shared/data` that hold at least one file.
fn folders(under: &Path) -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> = std::fs::read_dir(under)
        .unwrap()
        .map(|e| e.unwrap().path())
        .filter(|p| p.is_dir())
        .flat_map(|p| folders(&p))
        .collect();
    if std::fs::read_dir(under).unwrap().any(|e| e.unwrap().path().is_file()) {
        all.push(under.to_path_buf());
    }
    all.sort();
    all
}

/// Every series of every real file that can be decoded comes back with every stored value, or is refused by name.
#[test]
fn every_real_series_comes_back_or_is_refused() {
    let Some(data) = shared("data") else { return };
    let (mut came_back, mut refused) = (0, Vec::new());
    let all = folders(&data);
    for folder in &all {
        // A folder is scanned with those below it; the leaves are enough.
        if all.iter().any(|other| other != folder && other.starts_with(folder)) {
            continue;
        }
        for (record, outcome) in through(folder) {
            if record.kind != gantry_host::series::SeriesKind::Dicom {
                continue;
            }
            let name = folder.strip_prefix(&data).unwrap().display().to_string();
            match outcome {
                Ok(dir) => {
                    came_back += 1;
                    println!("{name}: {} slices of {} came back", record.slices(), record.sop_class);
                    std::fs::remove_dir_all(dir).unwrap();
                }
                Err(fault) => {
                    println!("{name}: {fault}");
                    refused.push(fault.code);
                }
            }
        }
    }
    println!("{came_back} series came back, {} were refused", refused.len());
    assert!(came_back >= 25, "{came_back}");
    refused.sort();
    // Two enhanced MR files whose frames lack what a classic MR image must have, and a truncated file.
    assert_eq!(refused, ["sop-class", "sop-class", "truncated"]);
}
