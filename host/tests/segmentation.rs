//! Segmentations written on grids of every orientation: every voxel and a marker in a corner of each axis must lie where
//! the source has them, by a small reader of its own here and by highdicom through `verify_segmentation.py`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use dicom_dictionary_std::tags;
use dicom_object::{InMemDicomObject, OpenFileOptions};
use gantry_host::series::Geometry;
use gantry_host::series::derive::{
    DerivationCodes, DerivationContext, ModelReference, Nature, Rounding, SlicePixels, derive_instance, new_ct_header,
};
use gantry_host::series::segmentation::{
    Algorithm, AlgorithmType, Category, Encoding, Segment, SegmentationContext, read, write,
};
use gantry_host::series::uid::UidMaker;
use gantry_host::series::{ScanOptions, SeriesRecord, scan};
use gantry_tests::oracle;
use serde_json::json;

/// Rows times columns is no multiple of 8: frames begin inside bytes.
const SIZE: [usize; 3] = [4, 5, 7];
/// Voxel values in rising order; the markers, each one voxel, come last.
const VALUES: [u8; 7] = [3, 7, 9, 200, 251, 252, 253];

fn derivation(sink: &str) -> DerivationContext {
    DerivationContext {
        uids: UidMaker::new(None, "plan", "inputs", sink),
        run_time: "2026-01-31T10:15:00Z".parse().unwrap(),
        series_number: 2003,
        series_description: "heart".to_owned(),
        pipeline: "heart".to_owned(),
        nature: Nature::Derived,
        toy: false,
        models: vec![ModelReference { name: "toy-heart".into(), version: String::new(), sha256: "00ff".repeat(16) }],
        codes: DerivationCodes::default(),
        contrast_removed: false,
        deidentified_by_gantry: false,
        software_versions: vec!["gantry 0.1.0".into(), "plan 0123456789abcdef".into()],
        lossy_source: false,
        repair: true,
    }
}

fn context(encoding: Encoding) -> SegmentationContext {
    SegmentationContext {
        derivation: derivation("seg"),
        encoding,
        category: Category::AnatomicalStructure,
        content_label: "HEART".to_owned(),
        algorithm: Algorithm { kind: AlgorithmType::Automatic, name: String::new(), version: String::new() },
        serial: "0123456789abcdef".to_owned(),
    }
}

fn table() -> Vec<Segment> {
    let segment = |&value: &u8| Segment {
        value,
        name: if value == 3 { "heart".to_owned() } else { format!("part_{value}") },
        scheme: if value == 3 { "SCT".to_owned() } else { String::new() },
        code: if value == 3 { "80891009".to_owned() } else { String::new() },
        rgba: if value == 7 { 0 } else { 0x80_20_40_ff },
    };
    // In no order, and with a background, as a stage may set it.
    let mut all: Vec<Segment> = VALUES.iter().rev().map(segment).collect();
    all.push(Segment { value: 0, name: "background".into(), ..segment(&1) });
    all
}

/// A grid whose rows and columns run along these directions and whose slices ascend along their normal.
fn grid(row: [f64; 3], column: [f64; 3]) -> Geometry {
    let six = |v: [f64; 3]| v.map(|d| (d * 1e6).round() / 1e6);
    let (row, column) = (six(row), six(column));
    let normal = [
        row[1] * column[2] - row[2] * column[1],
        row[2] * column[0] - row[0] * column[2],
        row[0] * column[1] - row[1] * column[0],
    ];
    let (origin, [dz, dy, dx]) = ([-31.25, 17.5, -402.0], [2.5, 0.75, 0.625]);
    let mut affine = [0.0; 12];
    for r in 0..3 {
        affine[4 * r..4 * r + 4].copy_from_slice(&[row[r] * dx, column[r] * dy, normal[r] * dz, origin[r]]);
    }
    Geometry {
        size: SIZE,
        affine,
        slice_origins_mm: None,
        frame_of_reference: Some("2.25.77".to_owned()),
        z_unknown: false,
    }
}

fn rotated(degrees: [f64; 3]) -> [[f64; 3]; 2] {
    let turn = |v: [f64; 3], axis: usize, degrees: f64| {
        let (s, c) = degrees.to_radians().sin_cos();
        let (a, b) = ((axis + 1) % 3, (axis + 2) % 3);
        let mut out = v;
        out[a] = c * v[a] - s * v[b];
        out[b] = s * v[a] + c * v[b];
        out
    };
    [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]].map(|v| (0..3).fold(v, |v, axis| turn(v, axis, degrees[axis])))
}

/// Name, row direction, column direction.
fn orientations() -> Vec<(&'static str, [f64; 3], [f64; 3])> {
    let [row, column] = rotated([13.0, -21.0, 34.0]);
    let [nearly, nearly_column] = rotated([0.4, -0.3, 178.0]);
    vec![
        ("axial", [1., 0., 0.], [0., 1., 0.]),
        ("columns-reversed-descending", [-1., 0., 0.], [0., 1., 0.]),
        ("rows-reversed-descending", [1., 0., 0.], [0., -1., 0.]),
        ("prone", [-1., 0., 0.], [0., -1., 0.]),
        ("transposed-descending", [0., 1., 0.], [1., 0., 0.]),
        ("sagittal", [0., 1., 0.], [0., 0., -1.]),
        ("sagittal-upward", [0., -1., 0.], [0., 0., 1.]),
        ("coronal", [1., 0., 0.], [0., 0., -1.]),
        ("oblique", row, column),
        ("nearly-prone", nearly, nearly_column),
    ]
}

/// Labels without symmetry, and a marker in the middle and at the end of each axis.
fn labels() -> (Vec<u8>, Vec<(u8, [usize; 3])>) {
    let [z, y, x] = SIZE;
    let mut state = 88_172_645_463_325_252_u64;
    let mut all: Vec<u8> = (0..z * y * x)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            [0, 3, 0, 7, 0, 200, 3][(state % 7) as usize]
        })
        .collect();
    // Value 9 is in the table and nowhere in the image.
    let markers = vec![(251, [z - 1, 0, 0]), (252, [0, y - 1, 1]), (253, [1, 2, x - 1])];
    for &(value, [k, j, i]) in &markers {
        all[(k * y + j) * x + i] = value;
    }
    (all, markers)
}

fn output(name: &str) -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("segmentation-{name}"));
    if dir.exists() {
        std::fs::remove_dir_all(&dir).unwrap();
    }
    std::fs::create_dir_all(dir.join("source")).unwrap();
    dir
}

/// A series on `grid`, written to `dir/source`, and its headers as an edge carries them.
fn source(grid: &Geometry, dir: &Path) -> Vec<InMemDicomObject> {
    let ctx = derivation("source");
    let values = vec![0.0; SIZE[1] * SIZE[2]];
    (0..SIZE[0])
        .map(|z| {
            let header = new_ct_header(grid, z, &ctx.uids).unwrap();
            let pixels =
                SlicePixels { index: z, values: &values, padding: &[], rounding: Rounding::Nearest, frame: None };
            let derived = derive_instance(&header, &ctx, &pixels).unwrap();
            // Names that say nothing of the order.
            std::fs::write(dir.join(format!("source/{}.dcm", (z * 7 + 3) % 11)), derived.to_bytes().unwrap()).unwrap();
            let mut header = derived.object.into_inner();
            header.remove_element(tags::PIXEL_DATA);
            header.remove_element(tags::CONTRIBUTING_EQUIPMENT_SEQUENCE);
            header
        })
        .collect()
}

/// The one series of a folder.
fn scanned(folder: &Path) -> SeriesRecord {
    let options = ScanOptions { include_derived: true, ..ScanOptions::default() };
    let report = scan(&[folder.to_owned()], &options, &|_| {}).unwrap();
    assert_eq!(report.series.len(), 1, "{:?}", report.skipped);
    report.series.into_iter().next().unwrap()
}

/// The grid with its slices and its rows the other way round.
fn turned(grid: &Geometry) -> Geometry {
    let mut out = grid.clone();
    let first = grid.position_mm([SIZE[0] as f64 - 1.0, SIZE[1] as f64 - 1.0, 0.0]);
    for (row, first) in out.affine.chunks_exact_mut(4).zip(first) {
        (row[1], row[2], row[3]) = (-row[1], -row[2], first);
    }
    out
}

fn turn(labels: &[u8]) -> Vec<u8> {
    labels.chunks_exact(SIZE[2]).rev().flatten().copied().collect()
}

fn text(object: &InMemDicomObject, tag: dicom_core::Tag) -> String {
    object.element(tag).unwrap().to_str().unwrap().trim_end_matches('\0').to_owned()
}

/// Every labelled voxel of the object: segment number, and its place rounded to a micrometre.
fn places(object: &InMemDicomObject) -> BTreeSet<(u16, [i64; 3])> {
    let items = |o: &InMemDicomObject, tag| o.element(tag).unwrap().items().unwrap().to_vec();
    let numbers = |o: &InMemDicomObject, tag| o.element(tag).unwrap().to_multi_float64().unwrap();
    let shared = &items(object, tags::SHARED_FUNCTIONAL_GROUPS_SEQUENCE)[0];
    let o = numbers(&items(shared, tags::PLANE_ORIENTATION_SEQUENCE)[0], tags::IMAGE_ORIENTATION_PATIENT);
    let spacing = numbers(&items(shared, tags::PIXEL_MEASURES_SEQUENCE)[0], tags::PIXEL_SPACING);
    let binary = text(object, tags::SEGMENTATION_TYPE) == "BINARY";
    let pixels = object.element(tags::PIXEL_DATA).unwrap().to_bytes().unwrap().into_owned();
    let (rows, columns) = (SIZE[1], SIZE[2]);
    let mut all = BTreeSet::new();
    for (f, frame) in items(object, tags::PER_FRAME_FUNCTIONAL_GROUPS_SEQUENCE).iter().enumerate() {
        let origin = numbers(&items(frame, tags::PLANE_POSITION_SEQUENCE)[0], tags::IMAGE_POSITION_PATIENT);
        let index: Vec<u32> = items(frame, tags::FRAME_CONTENT_SEQUENCE)[0]
            .element(tags::DIMENSION_INDEX_VALUES)
            .unwrap()
            .to_multi_int()
            .unwrap();
        assert_eq!(index.len(), if binary { 2 } else { 1 });
        for y in 0..rows {
            for x in 0..columns {
                let at = (f * rows + y) * columns + x;
                let number = match binary {
                    true if pixels[at / 8] >> (at % 8) & 1 == 1 => {
                        let segment = &items(frame, tags::SEGMENT_IDENTIFICATION_SEQUENCE)[0];
                        let number = segment.element(tags::REFERENCED_SEGMENT_NUMBER).unwrap().to_int().unwrap();
                        assert_eq!(u32::from(number), index[0]);
                        number
                    }
                    true => 0,
                    false => u16::from(pixels[at]),
                };
                if number > 0 {
                    let place = |r: usize| origin[r] + o[r] * spacing[1] * x as f64 + o[3 + r] * spacing[0] * y as f64;
                    all.insert((number, [0, 1, 2].map(|r| (place(r) * 1e3).round() as i64)));
                }
            }
        }
    }
    all
}

fn verify(arguments: &[&str]) {
    oracle::python("verify_segmentation.py", oracle::SEGMENTATION, arguments);
}

#[test]
fn every_voxel_lies_where_the_source_has_it() {
    let (labels, markers) = labels();
    for (name, row, column) in orientations() {
        let (grid, dir) = (grid(row, column), output(name));
        let headers = source(&grid, &dir);
        let slices: Vec<&[u8]> = labels.chunks_exact(SIZE[1] * SIZE[2]).collect();
        let raw = dir.join("labels.u8");
        std::fs::write(&raw, &labels).unwrap();
        let at = |[z, y, x]: [usize; 3]| grid.position_mm([z as f64, y as f64, x as f64]);
        let placed: Vec<_> =
            markers.iter().map(|&(v, index)| json!([v, at(index)[0], at(index)[1], at(index)[2]])).collect();
        let given = dir.join("labels.json");
        std::fs::write(&given, json!({ "labels": raw, "markers": placed }).to_string()).unwrap();
        for encoding in [Encoding::Binary, Encoding::Labelmap] {
            let written = write(&headers, &slices, &grid, &table(), &context(encoding)).unwrap();
            assert!(written.referenced);
            let path = dir.join(format!("{encoding:?}.dcm"));
            std::fs::write(&path, &written.bytes).unwrap();
            let object = OpenFileOptions::new().open_file(&path).unwrap();
            let mut expected = BTreeSet::new();
            for (at, &value) in labels.iter().enumerate().filter(|(_, v)| **v != 0) {
                let [z, y, x] = [at / (SIZE[1] * SIZE[2]), at / SIZE[2] % SIZE[1], at % SIZE[2]];
                let number = match encoding {
                    Encoding::Binary => VALUES.iter().position(|&v| v == value).unwrap() as u16 + 1,
                    Encoding::Labelmap => u16::from(value),
                };
                let place = grid.position_mm([z as f64, y as f64, x as f64]).map(|v| (v * 1e3).round() as i64);
                expected.insert((number, place));
            }
            assert_eq!(places(&object), expected, "{name} {encoding:?}");
            let series = scanned(&dir.join("source"));
            let back = read(&path, &series, &grid, "", 1e-3).unwrap();
            let mut renumbered = labels.clone();
            if encoding == Encoding::Binary {
                let number = |v: u8| VALUES.iter().position(|&value| value == v).map_or(0, |i| i as u8 + 1);
                renumbered.iter_mut().for_each(|v| *v = number(*v));
            }
            assert_eq!(back.voxels, renumbered, "{name} {encoding:?} read back");
            let heart = &back.table[0];
            assert_eq!((heart.name.as_str(), heart.code.as_str(), heart.rgba), ("heart", "80891009", 0x80_20_40_ff));
            assert_eq!(
                (back.table[1].name.as_str(), back.table[1].code.as_str(), back.table[1].rgba),
                ("part_7", "", 0)
            );
            // The same voxels in another order of slices and rows.
            assert_eq!(read(&path, &series, &turned(&grid), "", 1e-3).unwrap().voxels, turn(&renumbered));
            let alone = read(&path, &series, &grid, "part_251", 1e-3).unwrap();
            assert_eq!(alone.voxels.iter().map(|&v| usize::from(v)).sum::<usize>(), 1);
            assert_eq!(alone.voxels.iter().position(|&v| v == 1), labels.iter().position(|&v| v == 251));
            let [folder, path, given] =
                [dir.join("source"), path, given.clone()].map(|p| p.to_str().unwrap().to_owned());
            let values = VALUES.map(|v| v.to_string()).join(",");
            verify(&[&folder, &path, "--labels", &given, "--segments", &values]);
        }
    }
}

#[test]
fn nothing_segmented_is_a_whole_object() {
    let grid = grid([1., 0., 0.], [0., 1., 0.]);
    let dir = output("nothing");
    let headers = source(&grid, &dir);
    let labels = vec![0u8; SIZE.iter().product()];
    let slices: Vec<&[u8]> = labels.chunks_exact(SIZE[1] * SIZE[2]).collect();
    let raw = dir.join("labels.u8");
    std::fs::write(&raw, &labels).unwrap();
    let given = dir.join("labels.json");
    std::fs::write(&given, json!({ "labels": raw, "markers": [] }).to_string()).unwrap();
    for encoding in [Encoding::Binary, Encoding::Labelmap] {
        let written = write(&headers, &slices, &grid, &table(), &context(encoding)).unwrap();
        assert_eq!(written.voxels, [0; 7]);
        let path = dir.join(format!("{encoding:?}.dcm"));
        std::fs::write(&path, &written.bytes).unwrap();
        assert!(places(&OpenFileOptions::new().open_file(&path).unwrap()).is_empty());
        let [folder, path, given] = [dir.join("source"), path, given.clone()].map(|p| p.to_str().unwrap().to_owned());
        let values = VALUES.map(|v| v.to_string()).join(",");
        verify(&[&folder, &path, "--labels", &given, "--segments", &values]);
    }
}

#[test]
fn headers_that_lie_elsewhere_are_refused() {
    let here = grid([1., 0., 0.], [0., 1., 0.]);
    let headers = source(&here, &output("elsewhere"));
    let labels = vec![3u8; SIZE.iter().product()];
    let slices: Vec<&[u8]> = labels.chunks_exact(SIZE[1] * SIZE[2]).collect();
    let code = |headers: &[InMemDicomObject], grid: &Geometry| {
        write(headers, &slices, grid, &table(), &context(Encoding::Binary)).unwrap_err().code
    };
    let mut moved = here.clone();
    moved.affine[11] += 0.5;
    assert_eq!(code(&headers, &moved), "grid");
    assert_eq!(code(&headers, &grid([-1., 0., 0.], [0., -1., 0.])), "grid");
    let mut backwards = headers.clone();
    backwards.reverse();
    assert_eq!(code(&backwards, &here), "grid", "headers in the wrong order");
    assert_eq!(code(&headers[1..], &here), "headers");
    let mut without = headers.clone();
    without[2].remove_element(tags::IMAGE_POSITION_PATIENT);
    assert_eq!(code(&without, &here), "headers");
}

/// What a chain made synthetic, and what arrives so, stays so; lossy stays lossy; no two sinks share a UID.
#[test]
fn marks_and_identifiers() {
    let grid = grid([1., 0., 0.], [0., 1., 0.]);
    let mut headers = source(&grid, &output("marks"));
    let labels = vec![3u8; SIZE.iter().product()];
    let slices: Vec<&[u8]> = labels.chunks_exact(SIZE[1] * SIZE[2]).collect();
    let made = |headers: &[InMemDicomObject], ctx: &SegmentationContext| {
        let bytes = write(headers, &slices, &grid, &table(), ctx).unwrap().bytes;
        dicom_object::from_reader(&bytes[..]).unwrap().into_inner()
    };
    let plain = made(&headers, &context(Encoding::Binary));
    assert!(plain.get(tags::SYNTHETIC_DATA).is_none());
    assert_eq!(text(&plain, tags::LOSSY_IMAGE_COMPRESSION), "00");
    assert!(text(&plain, tags::DERIVATION_DESCRIPTION).contains("derived segmentation"));
    let mut ctx = context(Encoding::Binary);
    ctx.derivation.nature = Nature::Synthetic;
    ctx.derivation.uids = UidMaker::new(None, "plan", "inputs", "other");
    let synthetic = made(&headers, &ctx);
    assert_eq!(text(&synthetic, tags::SYNTHETIC_DATA), "YES");
    assert!(text(&synthetic, tags::SERIES_DESCRIPTION).contains("SYNTHETIC"));
    for tag in [tags::SOP_INSTANCE_UID, tags::SERIES_INSTANCE_UID] {
        assert_ne!(text(&plain, tag), text(&synthetic, tag));
        assert_ne!(text(&plain, tag), text(&headers[0], tag));
    }
    for tag in [tags::STUDY_INSTANCE_UID, tags::FRAME_OF_REFERENCE_UID] {
        assert_eq!(text(&plain, tag), text(&headers[0], tag));
    }
    let put = |h: &mut InMemDicomObject, tag, value: &str| {
        h.put(dicom_core::DataElement::new(tag, dicom_core::VR::CS, value));
    };
    put(&mut headers[3], tags::SYNTHETIC_DATA, "YES");
    put(&mut headers[1], tags::LOSSY_IMAGE_COMPRESSION, "01");
    let arrived = made(&headers, &context(Encoding::Labelmap));
    assert_eq!(text(&arrived, tags::SYNTHETIC_DATA), "YES");
    assert_eq!(text(&arrived, tags::LOSSY_IMAGE_COMPRESSION), "01");
}

/// Writes a file with some elements exchanged.
fn altered(bytes: &[u8], dir: &Path, change: impl FnOnce(&mut InMemDicomObject)) -> PathBuf {
    let mut file = dicom_object::from_reader(bytes).unwrap();
    change(&mut file);
    let path = dir.join("altered.dcm");
    file.write_to_file(&path).unwrap();
    path
}

/// Each refused by its own name, and no text of the patient in any word.
#[test]
fn what_is_not_of_this_series_is_refused() {
    let here = grid([1., 0., 0.], [0., 1., 0.]);
    let dir = output("refused");
    let headers = source(&here, &dir);
    let series = scanned(&dir.join("source"));
    let (labels, _) = labels();
    let slices: Vec<&[u8]> = labels.chunks_exact(SIZE[1] * SIZE[2]).collect();
    let bytes = write(&headers, &slices, &here, &table(), &context(Encoding::Binary)).unwrap().bytes;
    let set = |tag, vr, value: &'static str| {
        move |o: &mut InMemDicomObject| {
            o.put(dicom_core::DataElement::new(tag, vr, value));
        }
    };
    use dicom_core::VR;
    let refused = |path: &Path, grid: &Geometry, chosen: &str| {
        let fault = read(path, &series, grid, chosen, 1e-3).unwrap_err();
        assert!(!fault.text.contains("Secret"), "{fault}");
        fault.code
    };
    let mut patient = altered(&bytes, &dir, set(tags::PATIENT_NAME, VR::PN, "Secret^Name"));
    assert_eq!(refused(&patient, &here, ""), "other-patient");
    patient = altered(&bytes, &dir, set(tags::FRAME_OF_REFERENCE_UID, VR::UI, "2.25.78"));
    assert_eq!(refused(&patient, &here, ""), "frame-of-reference");
    patient = altered(&bytes, &dir, set(tags::SEGMENTATION_TYPE, VR::CS, "FRACTIONAL"));
    assert_eq!(refused(&patient, &here, ""), "fractional-segmentation");
    patient = altered(&bytes, &dir, set(tags::SOP_CLASS_UID, VR::UI, "1.2.840.10008.5.1.4.1.1.2"));
    assert_eq!(refused(&patient, &here, ""), "not-a-segmentation");
    patient = altered(&bytes, &dir, |o| {
        let data = o.element(tags::PIXEL_DATA).unwrap().to_bytes().unwrap()[..40].to_vec();
        o.put(dicom_core::DataElement::new(tags::PIXEL_DATA, VR::OB, dicom_core::PrimitiveValue::from(data)));
    });
    assert_eq!(refused(&patient, &here, ""), "pixel-length");
    let named = altered(&bytes, &dir, |o| {
        // The patient of this series has no name; one in the file alone counts as much.
        o.put(dicom_core::DataElement::new(tags::ACCESSION_NUMBER, VR::SH, "Secret"));
        let mut segments = o.element(tags::SEGMENT_SEQUENCE).unwrap().items().unwrap().to_vec();
        segments[1].put(dicom_core::DataElement::new(tags::SEGMENT_LABEL, VR::LO, "the Secret part"));
        let sequence = dicom_core::value::DataSetSequence::from(segments);
        o.put(dicom_core::DataElement::new(tags::SEGMENT_SEQUENCE, VR::SQ, sequence));
    });
    let map = read(&named, &series, &here, "", 1e-3).unwrap();
    assert_eq!((map.renamed, map.table[1].name.as_str()), (1, "segment 2"));
    let whole = altered(&bytes, &dir, |_| {});
    assert_eq!(refused(&whole, &here, "Secret"), "no-segment");
    assert_eq!(refused(&whole, &here, "17"), "no-segment");
    // A hundredth of a millimetre, half a voxel, another spacing, a smaller grid.
    for change in [
        |g: &mut Geometry| g.affine[3] += 0.01,
        |g: &mut Geometry| g.affine[7] += 0.375,
        |g: &mut Geometry| g.affine[10] *= 1.01,
        |g: &mut Geometry| g.size[2] -= 1,
    ] {
        let mut elsewhere = here.clone();
        change(&mut elsewhere);
        assert_eq!(refused(&whole, &elsewhere, ""), "grid");
    }
    read(&whole, &series, &here, "", 1e-3).unwrap();
}

/// What another program wrote, from the series in order and reversed, with one bit and one byte a voxel, compressed, and
/// in colours; and what it wrote and we refuse.
#[test]
fn what_highdicom_writes_is_read() {
    let Some(source) = gantry_tests::fixture::shared("data/chest-cta-heart/dicom") else { return };
    let dir = output("highdicom");
    let arguments = [source.to_str().unwrap(), dir.to_str().unwrap()];
    if oracle::python("make_segmentations.py", oracle::SEGMENTATION, &arguments).is_none() {
        return;
    }
    let series = scanned(&source);
    let grid = series.geometry.clone().unwrap();
    let expected = std::fs::read(dir.join("expected.u8")).unwrap();
    for name in ["binary", "labelmap", "rle", "reversed", "palette"] {
        let map = read(&dir.join(format!("{name}.dcm")), &series, &grid, "", 1e-3).unwrap();
        let differing = map.voxels.iter().zip(&expected).filter(|(a, b)| a != b).count();
        println!("{name}: {} labelled voxels, {differing} differ", map.voxels.iter().filter(|v| **v != 0).count());
        assert_eq!((map.voxels.len(), differing), (expected.len(), 0), "{name}");
        let rows: Vec<_> =
            map.table.iter().map(|r| (r.value, r.name.as_str(), r.scheme.as_str(), r.code.as_str())).collect();
        assert_eq!(rows, [(1, "heart", "SCT", "80891009"), (2, "aorta", "SCT", "15825003")], "{name}");
        let red = if name == "palette" { 0 } else { 0xff00_00ff };
        assert_eq!(map.table[0].rgba, red, "{name}");
    }
    let file = |name: &str| dir.join(format!("{name}.dcm"));
    let code = |name: &str, chosen: &str| read(&file(name), &series, &grid, chosen, 1e-3).unwrap_err().code;
    assert_eq!(code("overlapping", ""), "overlapping-segments");
    assert_eq!(code("fractional", ""), "fractional-segmentation");
    let ones = |chosen: &str| {
        let map = read(&file("overlapping"), &series, &grid, chosen, 1e-3).unwrap();
        map.voxels.iter().filter(|v| **v == 1).count()
    };
    assert_eq!(ones("heart"), expected.iter().filter(|v| **v == 1).count());
    assert_eq!(ones("2"), expected.iter().filter(|v| **v != 0).count());
}
