//! What a phantom promises: it repeats, patients differ, and its tissues have the stated attenuation.

use super::*;
use dicom_dictionary_std::tags;

/// For each label the mean and number of the voxels whose 6 neighbours all carry the same label.
fn eroded_means(grid: &PhantomGrid, labels: &[u8], hu: &[i16]) -> Vec<(f64, u32)> {
    let (rows, columns) = (grid.rows, grid.columns);
    let plane = rows * columns;
    let mut sums = vec![(0.0, 0); TISSUES.len()];
    for z in 1..grid.slices - 1 {
        for y in 1..rows - 1 {
            for x in 1..columns - 1 {
                let i = z * plane + y * columns + x;
                let neighbours = [i - 1, i + 1, i - columns, i + columns, i - plane, i + plane];
                if neighbours.iter().all(|k| labels[*k] == labels[i]) {
                    let (sum, count) = &mut sums[usize::from(labels[i])];
                    *sum += f64::from(hu[i]);
                    *count += 1;
                }
            }
        }
    }
    sums.into_iter().map(|(sum, count)| (sum / f64::from(count.max(1)), count)).collect()
}

#[test]
fn the_same_seed_gives_the_same_voxels_on_any_number_of_threads() {
    let grid = PhantomGrid::chest(48, 6).unwrap();
    let phantom = ChestPhantom::new(7, 2);
    let volume = phantom.volume(true, &grid);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    let alone = pool.install(|| (ChestPhantom::new(7, 2).volume(true, &grid), phantom.labels(&grid)));
    assert_eq!(alone.0, volume);
    assert_eq!(alone.1, phantom.labels(&grid));
    let plane = grid.rows * grid.columns;
    assert_eq!(phantom.slice(true, &grid, 3), volume[3 * plane..4 * plane]);
    assert_eq!(phantom.label_slice(&grid, 3), alone.1[3 * plane..4 * plane]);
}

#[test]
fn patients_and_seeds_differ_in_anatomy_and_the_two_scans_of_one_patient_only_in_contrast_and_noise() {
    let grid = PhantomGrid::chest(96, 8).unwrap();
    let one = ChestPhantom::new(7, 0);
    let differing = |a: &[u8], b: &[u8]| a.iter().zip(b).filter(|(a, b)| a != b).count() as f64 / a.len() as f64;
    let labels = one.labels(&grid);
    for other in [ChestPhantom::new(7, 1), ChestPhantom::new(8, 0)] {
        let share = differing(&labels, &other.labels(&grid));
        assert!(share > 0.02, "only {share} of the voxels differ");
    }
    let (plain, contrast) = (one.volume(false, &grid), one.volume(true, &grid));
    let (before, after) = (eroded_means(&grid, &labels, &plain), eroded_means(&grid, &labels, &contrast));
    for (label, expected) in [(FAT, 0.0), (LEFT_ATRIUM, 260.0)] {
        let label = usize::from(label);
        assert!(before[label].1 > 20, "label {label} has {} voxels inside", before[label].1);
        let brighter = after[label].0 - before[label].0;
        assert!((brighter - expected).abs() < 10.0, "label {label} brightened by {brighter}");
    }
    // Same anatomy, but not the same noise.
    let equal = plain.iter().zip(&contrast).filter(|(a, b)| a == b).count();
    assert!(equal < plain.len() / 5, "{equal} voxels are equal");
}

#[test]
fn tissues_have_the_stated_attenuation_inside() {
    // 1.8 x 1.8 x 1.5 mm from the spleen to the apices, so that every tissue is there and also thin ones have an inside.
    let grid = PhantomGrid { rows: 192, columns: 192, slices: 160, spacing_mm: [1.5, 1.8, 1.8] };
    for patient in [0, 1] {
        let phantom = ChestPhantom::new(0, patient);
        let labels = phantom.labels(&grid);
        for contrast in [false, true] {
            let hu = phantom.volume(contrast, &grid);
            for (tissue, (mean, count)) in TISSUES.iter().zip(eroded_means(&grid, &labels, &hu)) {
                let stated = tissue.hu(contrast);
                println!(
                    "patient {patient} contrast {contrast} {:20} {mean:8.1} of {stated:6.0} ({count})",
                    tissue.name
                );
                // Skin and the walls of airways are too thin to have an inside.
                let thin = [SKIN, AIRWAY_WALL].contains(&tissue.label);
                assert!(thin || count >= 20, "{}: only {count} voxels", tissue.name);
                let off = mean - f64::from(stated);
                assert!(count < 20 || off.abs() < 20.0, "{} in patient {patient}: off by {off}", tissue.name);
            }
        }
    }
}

#[test]
fn every_patient_fits_into_the_field_of_view_and_small_grids_hold_heart_lungs_and_vessels() {
    let grid = PhantomGrid::chest(64, 6).unwrap();
    for patient in 0..40 {
        let labels = ChestPhantom::new(11, patient).labels(&grid);
        for (i, label) in labels.iter().enumerate() {
            let (y, x) = (i / grid.columns % grid.rows, i % grid.columns);
            let edge = y == 0 || x == 0 || y == grid.rows - 1 || x == grid.columns - 1;
            assert!(!edge || *label == AIR, "patient {patient} touches the edge");
        }
        for wanted in [LUNG, LUNG_VESSEL, LEFT_ATRIUM, AORTA, MYOCARDIUM, VERTEBRA, FAT, MUSCLE] {
            assert!(labels.contains(&wanted), "patient {patient} lacks tissue {wanted}");
        }
    }
}

#[test]
fn table_of_tissues_is_indexed_by_label() {
    for (index, tissue) in TISSUES.iter().enumerate() {
        assert_eq!(usize::from(tissue.label), index);
    }
}

#[test]
fn names_resolve() {
    for name in NAMED {
        let found = named(name).unwrap();
        assert_eq!(found.name, name);
        assert_eq!(found.contrast, name.ends_with("contrast"));
    }
    assert!(named("chest").is_none());
}

#[test]
fn sizes_out_of_range_are_refused() {
    for (size, slices) in [(8, 10), (4096, 10), (128, 0), (128, 5000)] {
        assert!(matches!(PhantomGrid::chest(size, slices), Err(PhantomError::Size { .. })));
    }
}

#[test]
fn a_written_tree_reads_back_with_the_same_values_and_is_never_overwritten() {
    let out = tempfile::tempdir().unwrap();
    let grid = PhantomGrid::chest(32, 3).unwrap();
    let mut told = 0;
    let patients = write_dicom_tree(out.path(), 4, 2, &grid, |done| told = done).unwrap();
    assert_eq!((patients.len(), told), (2, 2));
    let mut instances = std::collections::BTreeSet::new();
    for (number, patient) in (0_u32..).zip(&patients) {
        assert!(patient.folder.join(LABELS_FILE).is_file() && patient.folder.join(HEART_FILE).is_file());
        let phantom = ChestPhantom::new(4, number);
        for (folder, contrast) in patient.series.iter().zip([false, true]) {
            let truth = phantom.volume(contrast, &grid);
            assert_eq!(std::fs::read_dir(folder).unwrap().count(), 3);
            for entry in std::fs::read_dir(folder).unwrap() {
                let object = dicom_object::open_file(entry.unwrap().path()).unwrap();
                let text = |tag| object.element(tag).unwrap().to_str().unwrap().into_owned();
                let z_mm: Vec<f64> =
                    text(tags::IMAGE_POSITION_PATIENT).split('\\').map(|part| part.parse().unwrap()).collect();
                let z = ((z_mm[2] - grid.origin_mm()[2]) / grid.spacing_mm[0]).round() as usize;
                let intercept: i32 = text(tags::RESCALE_INTERCEPT).parse().unwrap();
                let stored: Vec<u16> = object.element(tags::PIXEL_DATA).unwrap().to_multi_int().unwrap();
                let signed = object.element(tags::PIXEL_REPRESENTATION).unwrap().to_int::<u16>().unwrap() == 1;
                let hu: Vec<i32> = stored
                    .iter()
                    .map(|v| intercept + if signed { i32::from(v.cast_signed()) } else { i32::from(*v) })
                    .collect();
                let plane = grid.rows * grid.columns;
                let expected: Vec<i32> = truth[z * plane..(z + 1) * plane].iter().map(|v| i32::from(*v)).collect();
                assert_eq!(hu, expected);
                assert!(instances.insert(text(tags::SOP_INSTANCE_UID)));
            }
        }
    }
    assert!(matches!(write_dicom_tree(out.path(), 4, 1, &grid, |_| {}), Err(PhantomError::Exists { .. })));
    // Nothing but the data set is left behind.
    assert_eq!(std::fs::read_dir(out.path()).unwrap().count(), 1);
}
