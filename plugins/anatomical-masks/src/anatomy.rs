//! Lung, mediastinum, bone and lung vessels of one chest CT slice, by thresholds and shape (`DuCoSy` specification,
//! section 4.4). Everything is two-dimensional: a slice does not see its neighbours.

use crate::hull::filled_hull;
use crate::mask::Mask;

/// Body is above, air at or below it.
const BODY_ABOVE_HU: f32 = -1000.0;
/// Lung is at or below it.
const LUNG_UP_TO_HU: f32 = -300.0;
/// A border pixel at or below it is air outside the patient (lung that a narrow field of view cuts is denser).
const OUTSIDE_SEED_HU: f32 = -950.0;
const MEDIASTINUM_UP_TO_HU: f32 = 450.0;
const VESSEL_UP_TO_HU: f32 = 600.0;
const BONE_FROM_HU: f32 = 200.0;
/// The hull, mediastinum and vessel steps need at least so many lung components ...
const LUNGS: usize = 2;
/// ... and lung to be at least this part of the body.
const LUNG_SHARE: f64 = 0.1;
/// Bone inside the hull is doubtful only above this part of the rows; below it is the spine.
const SPINE_FROM: f64 = 0.75;

/// The published frame, in pixels whatever their size.
const PUBLISHED_FRAME_PX: usize = 32;
/// The published minimum of a lung component, in pixels whatever their size.
const PUBLISHED_MINIMUM_PX: usize = 64;

/// Which rules to follow.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Rules {
    /// As published: a frame of 32 px, components of 64 px, and the air around the patient counts as lung wherever
    /// noise lifts it above -1000 HU.
    Published,
    /// Air joined to air at the image border is outside: neither lung nor body. Sizes are physical. The mediastinum
    /// never contains lung.
    Corrected {
        /// Width of the frame that is never lung, mm.
        frame_mm: f64,
        /// Smallest lung component, mm^2.
        minimum_mm2: f64,
        /// Distance of rows, then of columns, mm; both above 0.
        spacing_mm: [f64; 2],
    },
}

/// Which masks to make.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Wanted {
    /// The lungs.
    pub lung: bool,
    /// Soft tissue between the lungs.
    pub mediastinum: bool,
    /// Bone.
    pub bone: bool,
    /// Vessels inside the lungs.
    pub lung_vessel: bool,
}

/// The masks that were wanted.
#[derive(Debug, Default)]
pub struct Anatomy {
    /// The lungs.
    pub lung: Option<Mask>,
    /// Soft tissue between the lungs.
    pub mediastinum: Option<Mask>,
    /// Bone.
    pub bone: Option<Mask>,
    /// Vessels inside the lungs.
    pub lung_vessel: Option<Mask>,
}

/// Finds the wanted masks in a slice of `rows * columns` Hounsfield units, row by row.
///
/// # Errors
/// The index of the first voxel that is not a finite number.
pub fn find(hu: &[f32], rows: usize, columns: usize, rules: Rules, wanted: Wanted) -> Result<Anatomy, usize> {
    debug_assert_eq!(hu.len(), rows * columns);
    if let Some(index) = hu.iter().position(|v| !v.is_finite()) {
        return Err(index);
    }
    let (body, lung, lungs) = lung(hu, rows, columns, rules);
    let body_px = body.count();
    let is_chest = lungs >= LUNGS && body_px > 0 && lung.count() as f64 / body_px as f64 >= LUNG_SHARE;
    let hull = (is_chest && (wanted.mediastinum || wanted.bone)).then(|| filled_hull(&lung));
    let within = |i: usize, upper: f32| (LUNG_UP_TO_HU..=upper).contains(&hu[i]);

    let mediastinum = wanted.mediastinum.then(|| match &hull {
        Some(hull) => Mask::where_index(rows, columns, |i| {
            let between = match rules {
                // Published: the difference of two byte masks wraps, so lung outside the hull counts as well.
                Rules::Published => hull.has(i) != lung.has(i),
                Rules::Corrected { .. } => hull.has(i) && !lung.has(i),
            };
            between && within(i, MEDIASTINUM_UP_TO_HU)
        }),
        None => Mask::empty(rows, columns),
    });
    let lung_vessel = wanted.lung_vessel.then(|| {
        if !is_chest {
            return Mask::empty(rows, columns);
        }
        let filled = lung.filled();
        Mask::where_index(rows, columns, |i| filled.has(i) && !lung.has(i) && within(i, VESSEL_UP_TO_HU))
    });
    let bone = wanted.bone.then(|| bone(hu, rows, columns, &lung, hull.as_ref()));
    Ok(Anatomy { lung: wanted.lung.then_some(lung), mediastinum, bone, lung_vessel })
}

/// Body, lung, and the number of lung components.
fn lung(hu: &[f32], rows: usize, columns: usize, rules: Rules) -> (Mask, Mask, usize) {
    let (outside, frame_px, minimum_px) = match rules {
        Rules::Published => (None, [PUBLISHED_FRAME_PX; 2], PUBLISHED_MINIMUM_PX),
        Rules::Corrected { frame_mm, minimum_mm2, spacing_mm } => {
            let air = Mask::where_index(rows, columns, |i| hu[i] <= LUNG_UP_TO_HU);
            let outside = air.connected_to_border(|i| hu[i] <= OUTSIDE_SEED_HU);
            let frame_px = spacing_mm.map(|s| (frame_mm / s).round() as usize);
            (Some(outside), frame_px, (minimum_mm2 / (spacing_mm[0] * spacing_mm[1])).ceil() as usize)
        }
    };
    let is_outside = |i: usize| outside.as_ref().is_some_and(|o| o.has(i));
    let body = Mask::where_index(rows, columns, |i| hu[i] > BODY_ABOVE_HU && !is_outside(i));
    let mut lung = Mask::where_index(rows, columns, |i| body.has(i) && hu[i] <= LUNG_UP_TO_HU);
    lung.clear_frame(frame_px[0], frame_px[1]);
    let lungs = lung.remove_small(minimum_px);
    (body, lung, lungs)
}

/// Bone: dense components, without those that lie entirely between the lungs (contrast in the heart and great vessels).
fn bone(hu: &[f32], rows: usize, columns: usize, lung: &Mask, hull: Option<&Mask>) -> Mask {
    let dense = Mask::where_index(rows, columns, |i| hu[i] >= BONE_FROM_HU);
    let Some(hull) = hull else { return dense.filled() };
    let spine_row = (rows as f64 * SPINE_FROM) as usize;
    let certain =
        Mask::where_index(rows, columns, |i| dense.has(i) && !(hull.has(i) && !lung.has(i) && i / columns < spine_row));
    dense.components_touching(&certain).filled()
}

#[cfg(test)]
mod tests {
    use super::*;
    use gantry_tests::fixture::{npy, shared};

    const ALL: Wanted = Wanted { lung: true, mediastinum: true, bone: true, lung_vessel: true };
    const CORRECTED: Rules = Rules::Corrected { frame_mm: 24.0, minimum_mm2: 36.0, spacing_mm: [0.75, 0.75] };

    /// A chest of `rows` x `columns`: air with noise, an ellipse of soft tissue, two lungs, a bright heart, a spine.
    fn chest(rows: usize, columns: usize) -> Vec<f32> {
        let in_ellipse = |r: f64, c: f64, (cr, cc, hr, hc): (f64, f64, f64, f64)| {
            let (dr, dc) = ((r - cr) / hr, (c - cc) / hc);
            dr * dr + dc * dc <= 1.0
        };
        (0..rows * columns)
            .map(|i| {
                let (r, c) = ((i / columns) as f64 / rows as f64, (i % columns) as f64 / columns as f64);
                if in_ellipse(r, c, (0.78, 0.5, 0.04, 0.04)) {
                    400.0
                } else if in_ellipse(r, c, (0.5, 0.5, 0.07, 0.05)) {
                    300.0
                } else if in_ellipse(r, c, (0.5, 0.3, 0.2, 0.12)) || in_ellipse(r, c, (0.5, 0.7, 0.2, 0.12)) {
                    -820.0
                } else if in_ellipse(r, c, (0.5, 0.5, 0.38, 0.42)) {
                    40.0
                } else {
                    -1000.0 + if i % 3 == 0 { -8.0 } else { 9.0 }
                }
            })
            .collect()
    }

    #[test]
    fn equals_the_published_masks() {
        let Some(folder) = shared("fixtures/ducosy/masks") else { return };
        for name in ["real267", "real283", "phantom320", "phantom320_onelung", "phantom320_gatedout"] {
            let hu = npy::<i16>(folder.join(format!("{name}_hu_i16.npy")));
            let values: Vec<f32> = hu.data.iter().map(|&v| f32::from(v)).collect();
            let found = find(&values, hu.shape[0], hu.shape[1], Rules::Published, ALL).unwrap();
            for (what, mask) in [
                ("lung", found.lung),
                ("mediastinum", found.mediastinum),
                ("bone", found.bone),
                ("lung_vessel", found.lung_vessel),
            ] {
                let expected = npy::<u8>(folder.join(format!("{name}_{what}.npy"))).data;
                let mut labels = vec![9; values.len()];
                mask.unwrap().write_labels(&mut labels);
                let differ = labels.iter().zip(&expected).filter(|(a, b)| a != b).count();
                println!("{name} {what}: {differ} of {} pixels differ", expected.len());
                assert_eq!(labels.len(), expected.len());
                assert_eq!(differ, 0, "{name} {what}");
            }
        }
    }

    #[test]
    fn corrected_takes_the_air_around_the_patient_out() {
        let (rows, columns) = (480, 512);
        let hu = chest(rows, columns);
        let air_px = hu.iter().filter(|&&v| v == -991.0).count();
        let published = find(&hu, rows, columns, Rules::Published, ALL).unwrap();
        let corrected = find(&hu, rows, columns, CORRECTED, ALL).unwrap();
        let lung_px = hu.iter().filter(|&&v| v == -820.0).count();
        let (published_px, corrected_px) = (published.lung.unwrap().count(), corrected.lung.unwrap().count());
        println!("lung {lung_px}, air {air_px}; published finds {published_px}, corrected {corrected_px}");
        assert!(published_px > lung_px + 1000);
        assert_eq!(corrected_px, lung_px);

        // The heart between the lungs is no bone, the spine is; the mediastinum holds no lung.
        let bone = corrected.bone.unwrap();
        let at = |r: usize, c: usize| r * columns + c;
        assert!(!bone.has(at(240, 256)) && bone.has(at(374, 256)));
        let mediastinum = corrected.mediastinum.unwrap();
        assert!(mediastinum.has(at(240, 256)) && !mediastinum.has(at(240, 154)));
        assert_eq!(corrected.lung_vessel.unwrap().count(), 0);
    }

    #[test]
    fn corrected_sizes_follow_the_spacing() {
        // An air bubble of 6 x 6 px in soft tissue: 36 mm^2 at 1 mm, 9 mm^2 at 0.5 mm.
        let (rows, columns) = (96, 96);
        let hu: Vec<f32> = (0..rows * columns)
            .map(|i| if (45..51).contains(&(i / columns)) && (45..51).contains(&(i % columns)) { -800.0 } else { 0.0 })
            .collect();
        let wanted = Wanted { lung: true, ..Wanted::default() };
        for (spacing, frame_mm, expected) in [(1.0, 24.0, 36), (0.5, 24.0, 0), (1.0, 50.0, 0)] {
            let rules = Rules::Corrected { frame_mm, minimum_mm2: 36.0, spacing_mm: [spacing; 2] };
            let found = find(&hu, rows, columns, rules, wanted).unwrap();
            assert_eq!(found.lung.unwrap().count(), expected, "{spacing} mm, frame {frame_mm} mm");
            assert!(found.bone.is_none() && found.mediastinum.is_none() && found.lung_vessel.is_none());
        }
    }

    #[test]
    fn lung_cut_by_the_field_of_view_stays() {
        let (rows, columns) = (80, 80);
        let hu: Vec<f32> = (0..rows * columns).map(|i| if i % columns < 30 { -850.0 } else { 30.0 }).collect();
        let rules = Rules::Corrected { frame_mm: 0.0, minimum_mm2: 36.0, spacing_mm: [0.7, 0.7] };
        let found = find(&hu, rows, columns, rules, ALL).unwrap();
        assert_eq!(found.lung.unwrap().count(), rows * 30);
    }

    #[test]
    fn slices_smaller_than_the_frame_and_uniform_slices_give_empty_masks() {
        for (rows, columns) in [(20, 200), (64, 64), (1, 1), (0, 0)] {
            for rules in [Rules::Published, CORRECTED] {
                for value in [-1024.0, -800.0, 40.0] {
                    let found = find(&vec![value; rows * columns], rows, columns, rules, ALL).unwrap();
                    assert_eq!(found.lung.unwrap().count(), 0, "{rows}x{columns} {value}");
                    assert_eq!(found.mediastinum.unwrap().count() + found.lung_vessel.unwrap().count(), 0);
                    assert_eq!(found.bone.unwrap().count(), 0);
                }
            }
        }
    }

    #[test]
    fn a_voxel_that_is_no_number_is_named() {
        assert_eq!(find(&[0.0, f32::NAN], 1, 2, Rules::Published, ALL).unwrap_err(), 1);
    }
}
