//! Finding, grouping, ordering and placing series, on made-up and on real data.

mod ct;

use std::path::{Path, PathBuf};

use ct::{Ct, folder};
use gantry_host::series::{Repair, ScanOptions, ScanReport, Select, SeriesKind, SeriesRecord, read_slice, scan};

fn scan_one(root: &Path, options: &ScanOptions) -> ScanReport {
    scan(&[root.to_owned()], options, &|_| {}).unwrap()
}

fn scan_plain(root: &Path) -> ScanReport {
    scan_one(root, &ScanOptions::default())
}

fn codes(series: &SeriesRecord) -> Vec<&str> {
    series.faults.iter().map(|f| f.code.as_str()).collect()
}

fn only(report: &ScanReport) -> &SeriesRecord {
    let [series] = report.series.as_slice() else { panic!("{} series: {:#?}", report.series.len(), report.skipped) };
    series
}

fn shared(relative: &str) -> Option<PathBuf> {
    gantry_tests::fixture::shared(&format!("data/{relative}"))
}

#[test]
fn a_series_is_ordered_by_position_not_by_number_or_name() {
    let root = folder();
    for z in 0..10 {
        // Names and numbers fall while z rises.
        Ct { z_mm: f64::from(z) * 2.5, number: 100 - z, ..Ct::default() }.write(root.path(), &format!("{:03}", 50 - z));
    }
    let report = scan_plain(root.path());
    let series = only(&report);
    assert_eq!(codes(series), [""; 0]);
    let numbers: Vec<i32> = series.instances.iter().map(|i| i.number.unwrap()).collect();
    assert_eq!(numbers, (91..=100).rev().collect::<Vec<_>>());
    let geometry = series.geometry.as_ref().unwrap();
    assert_eq!(geometry.size, [10, 4, 5]);
    assert_eq!(geometry.spacing_mm(), [2.5, 0.7, 0.6]);
    assert_eq!(report.inputs, 10);
    // Same bytes, same report.
    assert_eq!(scan_plain(root.path()), report);
}

#[test]
fn hu_is_stored_times_slope_plus_intercept_in_f32() {
    let root = folder();
    Ct { slope: "0.1", intercept: "-1024.5", ..Ct::default() }.write(root.path(), "a");
    let report = scan_plain(root.path());
    let slice = read_slice(only(&report), 0).unwrap();
    assert_eq!(slice.stored, (0..20).collect::<Vec<i32>>());
    for (&stored, &hu) in slice.stored.iter().zip(&slice.hu) {
        assert_eq!(hu, stored as f32 * 0.1f32 + -1024.5f32);
    }
    assert!(slice.header.get(dicom_dictionary_std::tags::PIXEL_DATA).is_none());
    assert!(slice.header.get(dicom_dictionary_std::tags::TRANSFER_SYNTAX_UID).is_none());
    assert_eq!(only(&report).warnings[0].code, "single-slice");
}

#[test]
fn a_missing_slice_quarantines_unless_allowed() {
    let root = folder();
    for z in (0..20).filter(|&z| z != 7) {
        Ct { z_mm: f64::from(z) * 2.0, number: z, ..Ct::default() }.write(root.path(), &z.to_string());
    }
    let report = scan_plain(root.path());
    let fault = only(&report).check(&[]).unwrap_err();
    assert_eq!(fault.code, "series-gap");
    assert_eq!(fault.text, "slice spacing 2.0 mm, gap of 4.0 mm after slice 6");
    only(&report).check(&["series-gap".to_owned()]).unwrap();
    let geometry = only(&report).geometry.as_ref().unwrap();
    assert_eq!(geometry.slice_origin_mm(7)[2], 16.0);
}

#[test]
fn copies_are_dropped_and_conflicts_are_faults() {
    let root = folder();
    for z in 0..4 {
        Ct { z_mm: f64::from(z), number: z, ..Ct::default() }.write(root.path(), &z.to_string());
    }
    std::fs::copy(root.path().join("2"), root.path().join("2 copy")).unwrap();
    let report = scan_plain(root.path());
    assert_eq!(only(&report).slices(), 4);
    assert_eq!(codes(only(&report)), [""; 0]);
    assert_eq!(only(&report).warnings[0].code, "duplicate-file");
    assert_eq!(report.skipped[0].code, "duplicate-file");

    Ct { z_mm: 2.0, number: 9, offset: 5, ..Ct::default() }.write(root.path(), "other");
    let report = scan_plain(root.path());
    assert_eq!(codes(only(&report)), ["duplicate-position"]);
    let text = &only(&report).faults[0].text;
    assert!(text.contains("1 of 5 slices") && text.contains('#'), "{text}");
}

#[test]
fn a_mixed_folder_is_taken_apart() {
    let root = folder();
    for z in 0..5 {
        let name = format!("f{z}");
        Ct { z_mm: f64::from(z), number: z, ..Ct::default() }.write(root.path(), &name);
        let second = Ct { z_mm: f64::from(z), number: z, series: "2.25.77", ..Ct::default() };
        second.write(root.path(), &format!("second {name}"));
    }
    // A scout of the first series, seen from the side.
    let scout = Ct { orientation: "0\\1\\0\\0\\0\\-1", kind: "LOCALIZER", number: 90, ..Ct::default() };
    scout.write(root.path(), "scout");
    Ct { class: "1.2.840.10008.5.1.4.1.1.88.22", pixels: false, ..Ct::default() }.write(root.path(), "report");
    Ct { class: "1.2.840.10008.5.1.4.1.1.7", ..Ct::default() }.write(root.path(), "screen");
    std::fs::write(root.path().join("README.txt"), "Not an image. ".repeat(30)).unwrap();
    std::fs::write(root.path().join("nothing"), "").unwrap();
    let report = scan_plain(root.path());
    let found: Vec<_> = report.series.iter().map(|s| (s.slices(), s.part, s.localizer, codes(s).len())).collect();
    assert_eq!(found, [(5, 0, false, 0), (1, 1, true, 0), (5, 0, false, 0)]);
    let mut skipped: Vec<_> = report.skipped.iter().map(|s| s.code.as_str()).collect();
    skipped.sort_unstable();
    assert_eq!(skipped, ["empty", "not-a-volume-class", "not-an-image", "not-dicom"]);
    assert_eq!(Select::default().candidates(&report.series).len(), 2);
}

#[test]
fn links_and_special_files_are_listed_and_not_opened() {
    let root = folder();
    Ct::default().write(root.path(), "a");
    std::fs::create_dir(root.path().join("deep")).unwrap();
    std::os::unix::fs::symlink(root.path(), root.path().join("deep/loop")).unwrap();
    std::os::unix::fs::symlink(root.path().join("a"), root.path().join("link")).unwrap();
    let fifo = std::process::Command::new("mkfifo").arg(root.path().join("pipe")).status().unwrap();
    assert!(fifo.success());
    let _socket = std::os::unix::net::UnixListener::bind(root.path().join("socket")).unwrap();
    let report = scan_plain(root.path());
    assert_eq!(only(&report).slices(), 1);
    let mut skipped: Vec<_> = report.skipped.iter().map(|s| s.code.as_str()).collect();
    skipped.sort_unstable();
    assert_eq!(skipped, ["not-a-file", "not-a-file", "symlink", "symlink"]);
    assert!(scan(&[root.path().join("absent")], &ScanOptions::default(), &|_| {}).is_err());
}

#[test]
fn what_gantry_derived_is_left_out_and_said() {
    let root = folder();
    for z in 0..3 {
        Ct { z_mm: f64::from(z), number: z, ..Ct::default() }.write(root.path(), &format!("a{z}"));
        let made = Ct { z_mm: f64::from(z), number: z, series: "2.25.5", by_gantry: true, ..Ct::default() };
        made.write(root.path(), &format!("b{z}"));
    }
    let report = scan_plain(root.path());
    assert!(!only(&report).derived_by_gantry);
    assert_eq!(report.skipped[0].code, "derived-by-gantry");
    let options = ScanOptions { include_derived: true, ..ScanOptions::default() };
    let report = scan_one(root.path(), &options);
    assert_eq!(report.series.iter().filter(|s| s.derived_by_gantry).count(), 1);
    assert_eq!(report.series.len(), 2);
}

#[test]
fn header_faults_are_named() {
    for (ct, code) in [
        (Ct { slope: "0", ..Ct::default() }, "rescale"),
        (Ct { slope: "NaN", ..Ct::default() }, "rescale"),
        (Ct { slope: "1e50", ..Ct::default() }, "rescale"),
        (Ct { intercept: "", ..Ct::default() }, "rescale"),
        (Ct { orientation: "1\\0\\0\\0\\1", ..Ct::default() }, "no-position"),
        (Ct { orientation: "1\\0\\0\\0.1\\1\\0", ..Ct::default() }, "orientation"),
        (Ct { orientation: "1\\0\\0\\0\\nan\\0", ..Ct::default() }, "geometry"),
        (Ct { rows: 65535, ..Ct::default() }, "pixel-length"),
        (Ct { rows: 0, ..Ct::default() }, "pixel-module"),
        (Ct { bits: (16, 33), ..Ct::default() }, "pixel-module"),
        (Ct { bits: (0, 0), ..Ct::default() }, "pixel-module"),
        (Ct { series: "", ..Ct::default() }, "missing-uids"),
        (Ct { rescale_type: "OD", ..Ct::default() }, "rescale-type"),
    ] {
        let root = folder();
        ct.write(root.path(), "a");
        let report = scan_plain(root.path());
        let series = only(&report);
        assert_eq!(codes(series), [code], "{:?}", series.faults);
        assert!(series.faults[0].text.len() > 20);
    }
    let root = folder();
    Ct { slope: "", intercept: "", ..Ct::default() }.write(root.path(), "a");
    let report = scan_plain(root.path());
    assert_eq!(codes(only(&report)), [""; 0]);
    assert!(only(&report).warnings.iter().any(|w| w.code == "rescale-missing"));
}

#[test]
fn a_changed_file_is_not_read() {
    let root = folder();
    Ct::default().write(root.path(), "a");
    let report = scan_plain(root.path());
    read_slice(only(&report), 0).unwrap();
    Ct { offset: 1, ..Ct::default() }.write(root.path(), "a");
    assert_eq!(read_slice(only(&report), 0).unwrap_err().code, "changed");
    std::fs::remove_file(root.path().join("a")).unwrap();
    assert_eq!(read_slice(only(&report), 0).unwrap_err().code, "unreadable");
}

#[test]
fn padding_is_found_whatever_its_value_representation() {
    for (padding, limit, expected) in [(Some(3u16), None, 3..4), (Some(3), Some(5u16), 3..6), (None, None, 0..0)] {
        let root = folder();
        Ct { padding, padding_limit: limit, ..Ct::default() }.write(root.path(), "a");
        let slice = read_slice(only(&scan_plain(root.path())), 0).unwrap();
        match slice.padding {
            None => assert!(padding.is_none()),
            Some(found) => assert_eq!(found.runs, [expected]),
        }
    }
    // 63536 in a signed image is -2000.
    let root = folder();
    Ct { padding: Some(63536), offset: -2000, signed: true, ..Ct::default() }.write(root.path(), "a");
    let slice = read_slice(only(&scan_plain(root.path())), 0).unwrap();
    assert_eq!(slice.padding.unwrap().mask(3), [true, false, false]);
    assert_eq!(slice.stored[0], -2000);
}

#[test]
fn uids_are_made_from_content_only_on_request() {
    let make = |root: &Path| {
        for (sub, offset) in [("p/POST VUE", 0), ("p/POST STD", 50)] {
            for z in 0..3 {
                let ct = Ct {
                    z_mm: f64::from(z),
                    number: z,
                    series: "",
                    study: "",
                    instance: Some(""),
                    offset,
                    ..Ct::default()
                };
                std::fs::create_dir_all(root.join(sub)).unwrap();
                ct.write(&root.join(sub), &z.to_string());
            }
        }
    };
    let root = folder();
    make(root.path());
    let report = scan_plain(root.path());
    assert_eq!(report.series.len(), 2);
    assert!(report.series.iter().all(|s| codes(s) == ["missing-uids"]));
    assert!(report.series[0].faults[0].text.contains("repair = [\"uids\"]"));
    let options = ScanOptions { repair: vec![Repair::Uids], ..ScanOptions::default() };
    let report = scan_one(root.path(), &options);
    let [a, b] = report.series.as_slice() else { panic!() };
    assert!(codes(a).is_empty() && codes(b).is_empty());
    assert_eq!((&a.study, &a.patient), (&b.study, &b.patient));
    assert_ne!(a.series, b.series);
    let slice = read_slice(a, 1).unwrap();
    for tag in [
        dicom_dictionary_std::tags::SOP_INSTANCE_UID,
        dicom_dictionary_std::tags::SERIES_INSTANCE_UID,
        dicom_dictionary_std::tags::STUDY_INSTANCE_UID,
    ] {
        assert!(slice.header.element(tag).unwrap().to_str().unwrap().starts_with("2.25."));
    }
    let select: Select = toml::from_str("folder = 'POST VUE'").unwrap();
    assert_eq!(select.candidates(&report.series).len(), 1);
    // Elsewhere, the same content has the same UIDs.
    let other = folder();
    make(other.path());
    let again = scan_one(other.path(), &options);
    let uids = |r: &ScanReport| r.series.iter().map(|s| s.series.clone()).collect::<Vec<_>>();
    assert_eq!(uids(&again), uids(&report));
}

#[test]
fn chest_cta_is_one_ascending_series() {
    let Some(root) = shared("chest-cta-heart") else { return };
    let report = scan_plain(&root);
    let dicom: Vec<_> = report.series.iter().filter(|s| s.kind == SeriesKind::Dicom).collect();
    let [series] = dicom.as_slice() else { panic!("{} series", dicom.len()) };
    assert_eq!(codes(series), [""; 0]);
    assert_eq!(series.slices(), 112);
    let z: Vec<f64> = series.instances.iter().map(|i| i.position_mm.unwrap()[2]).collect();
    let numbers: Vec<i32> = series.instances.iter().map(|i| i.number.unwrap()).collect();
    assert!(z.windows(2).all(|w| w[1] > w[0]));
    assert!(numbers.windows(2).all(|w| w[1] < w[0]));
    let geometry = series.geometry.as_ref().unwrap();
    assert_eq!(geometry.size, [112, 102, 122]);
    assert!(geometry.spacing_mm().iter().all(|s| (s - 1.5).abs() < 1e-6));
    assert_eq!(report.series.iter().filter(|s| s.kind == SeriesKind::Nifti).count(), 3);
    assert_eq!(report.skipped.iter().filter(|s| s.code == "not-dicom").count(), 1);
    let mut range = (f32::MAX, f32::MIN);
    for z in 0..series.slices() {
        for hu in read_slice(series, z).unwrap().hu {
            range = (range.0.min(hu), range.1.max(hu));
        }
    }
    assert_eq!(range, (-1064.0, 3343.0));
}

#[test]
fn siemens_abdomen_is_refused_then_repaired() {
    let Some(root) = shared("siemens-abdomen-j2k") else { return };
    let report = scan_plain(&root);
    let fault = only(&report).check(&[]).unwrap_err();
    assert_eq!(fault.code, "missing-uids");
    assert!(fault.text.contains("repair"), "{fault}");
    let report = scan_one(&root, &ScanOptions { repair: vec![Repair::Uids], ..ScanOptions::default() });
    let series = only(&report);
    assert_eq!(codes(series), [""; 0]);
    let geometry = series.geometry.as_ref().unwrap();
    assert_eq!(geometry.size, [20, 512, 512]);
    assert!((geometry.spacing_mm()[0] - 2.0).abs() < 1e-6);
    let z: Vec<f64> = series.instances.iter().map(|i| i.position_mm.unwrap()[2]).collect();
    assert!(z.windows(2).all(|w| w[1] > w[0]));
    let slice = read_slice(series, 0).unwrap();
    assert_eq!(
        slice.header.element(dicom_dictionary_std::tags::SERIES_INSTANCE_UID).unwrap().to_str().unwrap(),
        series.series
    );
    assert_eq!(slice.intercept, -1024.0);
}

#[test]
fn odd_series_have_the_right_faults() {
    for (folder, code) in
        [("gantrytilting", "gantry-tilt"), ("notavolume", "not-a-volume"), ("sliceincrement", "series-gap")]
    {
        let Some(root) = shared(&format!("odd-series/dicom2nifti_ct_series/{folder}")) else { return };
        let report = scan_plain(&root);
        println!("{folder}: {:?}", only(&report).faults);
        assert_eq!(only(&report).check(&[]).unwrap_err().code, code);
    }
}

#[test]
fn odd_files_are_told_apart() {
    let Some(root) = shared("odd-series/pydicom") else { return };
    let report = scan_plain(&root);
    let mut told: Vec<(String, String)> = Vec::new();
    let name = |p: &Path| p.file_name().unwrap().to_string_lossy().into_owned();
    for s in &report.skipped {
        println!("{}: {} ({})", name(&s.path), s.text, s.code);
        told.push((name(&s.path), s.code.clone()));
    }
    for s in &report.series {
        for i in s.instances.iter().filter(|i| i.frame.unwrap_or(0) == 0) {
            println!("{}: {:?}", name(&i.path), s.faults);
            // The damaged DICOMDIR and plan beside it cannot be slices.
            let code = s.faults.first().map_or("ok", |f| f.code.as_str());
            told.push((name(&i.path), code.to_owned()));
        }
    }
    told.sort();
    let told: Vec<(&str, &str)> = told.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
    assert_eq!(
        told,
        [
            ("DICOMDIR", "not-an-image"),
            ("DICOMDIR-bigEnd", "not-an-image"),
            ("DICOMDIR-empty.dcm", "not-an-image"),
            ("DICOMDIR-implicit", "not-an-image"),
            ("DICOMDIR-nooffset", "truncated"),
            ("DICOMDIR-nopatient", "not-an-image"),
            ("DICOMDIR-reordered", "not-an-image"),
            ("J2K_pixelrep_mismatch.dcm", "ok"),
            ("MR_truncated.dcm", "truncated"),
            ("UN_sequence.dcm", "not-an-image"),
            ("badVR.dcm", "not-a-volume-class"),
            ("bad_sequence.dcm", "ok"),
            ("empty_charset_LEI.dcm", "not-an-image"),
            ("emri_small_jpeg_2k_lossless_too_short.dcm", "truncated"),
            ("explicit_VR-UN.dcm", "ok"),
            ("meta_missing_tsyntax.dcm", "not-a-volume-class"),
            ("nested_priv_SQ.dcm", "not-a-volume-class"),
            ("no_meta.dcm", "not-dicom"),
            ("no_meta_group_length.dcm", "not-an-image"),
            ("priv_SQ.dcm", "not-an-image"),
            ("rtplan_truncated.dcm", "truncated"),
        ]
    );
}

/// Every voxel of dicom2nifti's volume is found at the same place, with the same value, in the series that made it.
#[test]
fn volumes_lie_where_dicom2nifti_puts_them() {
    let Some(root) = shared("transfer-syntaxes/dicom2nifti_series") else { return };
    for (folder, truth) in [
        ("generic/anatomical/001", "generic/anatomical/001_ground_truth.nii.gz"),
        ("generic/anatomical/002_non_isotropic", "generic/anatomical/002_non_isotropic_ground_truth.nii.gz"),
        ("generic/compressed/001", "generic/compressed/001_ground_truth.nii.gz"),
        ("generic/compressed_jpeg/001", "generic/compressed_jpeg/001_ground_truth.nii.gz"),
        ("generic/compressed_jpegls/001", "generic/compressed_jpegls/001_ground_truth.nii.gz"),
        ("generic/compressed_rle/001", "generic/compressed_rle/001_ground_truth.nii.gz"),
        ("ge_anatomical/001", "ge_anatomical/001_ground_truth.nii.gz"),
        ("hitachi_anatomical/001", "hitachi_anatomical/001_ground_truth.nii.gz"),
        ("philips_enhanced_anatomical/001", "philips_enhanced_anatomical/001_ground_truth.nii.gz"),
        ("siemens_multiframe_anatomical/001", "siemens_multiframe_anatomical/001_ground_truth.nii.gz"),
    ] {
        let report = scan_plain(&root.join(folder));
        let series = only(&report);
        assert_eq!(codes(series), [""; 0], "{folder}: {:?}", series.faults);
        let geometry = series.geometry.as_ref().unwrap();
        let reader = gantry_host::series::SliceReader::new(series);
        let slices: Vec<_> = (0..series.slices()).map(|z| reader.read(z).unwrap()).collect();

        let truth = root.join(truth);
        let grid_report = scan_plain(&truth);
        let grid = only(&grid_report).geometry.as_ref().unwrap();
        let values = nifti_values(&truth);
        let mut worst_mm = 0f64;
        let mut worst_value = 0f32;
        for z in 0..grid.size[0] {
            for y in 0..grid.size[1] {
                for x in 0..grid.size[2] {
                    let place = grid.position_mm([z as f64, y as f64, x as f64]);
                    let index = voxel(geometry, place).map(f64::round);
                    let back = geometry.position_mm(index);
                    let off = (0..3).map(|i| (back[i] - place[i]).powi(2)).sum::<f64>().sqrt();
                    worst_mm = worst_mm.max(off);
                    let [z1, y1, x1] = index.map(|i| i as usize);
                    let ours = slices[z1].hu[y1 * slices[z1].columns + x1];
                    let theirs = values[(z * grid.size[1] + y) * grid.size[2] + x];
                    worst_value = worst_value.max((ours - theirs).abs());
                }
            }
        }
        println!("{folder}: largest distance {worst_mm:.2e} mm, largest difference {worst_value:.2e}");
        assert!(worst_mm < 1e-3 && worst_value < 1e-3, "{folder}");
    }
}

/// Voxel index `[z, y, x]` of a place: the inverse of the affine.
fn voxel(geometry: &gantry_host::series::Geometry, place: [f64; 3]) -> [f64; 3] {
    let spacing = geometry.spacing_mm();
    let from = geometry.origin_mm();
    // The axes of these volumes are perpendicular.
    let directions = geometry.directions();
    let mut out = [0f64; 3];
    for axis in 0..3 {
        out[axis] = (0..3).map(|i| (place[i] - from[i]) * directions[axis][i]).sum::<f64>() / spacing[axis];
    }
    out
}

fn nifti_values(path: &Path) -> Vec<f32> {
    use nifti::{NiftiObject, NiftiType, NiftiVolume, ReaderOptions};
    let volume = ReaderOptions::new().read_file(path).unwrap().into_volume();
    match volume.data_type() {
        NiftiType::Uint16 => volume.into_nifti_typed_data::<u16>().unwrap().into_iter().map(f32::from).collect(),
        NiftiType::Int16 => volume.into_nifti_typed_data::<i16>().unwrap().into_iter().map(f32::from).collect(),
        NiftiType::Float64 => volume.into_nifti_typed_data::<f64>().unwrap().into_iter().map(|v| v as f32).collect(),
        _ => volume.into_nifti_typed_data::<f32>().unwrap(),
    }
}
