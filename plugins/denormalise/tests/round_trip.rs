//! For any window: normalising and coming back loses no more than rounding, and the published mode lands on stored values.

use denormalise::inverse::{Inverse, Normalisation, StoredGrid};
use proptest::prelude::*;

proptest! {
    #[test]
    fn any_window_comes_back(lo in -1024.0_f64..2900.0, width in 1.0_f64..4095.0, at in 0.0_f64..=1.0) {
        // Bounds as a pipeline states them: single precision on the way.
        let (lo, hi) = (f64::from(lo as f32), f64::from((lo + width) as f32));
        let hu = (lo + (hi - lo) * at).clamp(lo, hi) as f32;
        let normalised = 2.0 * (hu - lo as f32) / (hi - lo) as f32 - 1.0;
        let inverse = Inverse::new((hi - lo) / 2.0, f64::midpoint(hi, lo), lo, hi, Normalisation::Linear).unwrap();
        let mut back = [f32::NAN];
        inverse.apply(&[normalised], &mut back).unwrap();
        // Half a unit in the last place for each of five operations on numbers up to the largest bound.
        let largest = lo.abs().max(hi.abs()).max(hi - lo) as f32;
        prop_assert!((back[0] - hu).abs() <= 5.0 * largest * f32::EPSILON, "{hu} -> {normalised} -> {}", back[0]);
    }

    #[test]
    fn any_other_map_is_followed(scale in 1e-3_f64..1e4, offset in -2e3_f64..2e3, value in -4.0_f32..4.0) {
        let inverse = Inverse::new(scale, offset, offset - 0.5 * scale, offset + 3.0 * scale, Normalisation::Linear).unwrap();
        let mut physical = [f32::NAN];
        inverse.apply(&[value], &mut physical).unwrap();
        prop_assert_eq!(physical[0], (f64::from(value) * scale + offset) as f32);
    }

    #[test]
    fn truncation_lands_on_a_stored_value_nearer_to_zero(stored in 0.0_f32..4095.0) {
        let grid = StoredGrid::new(1.0, -1024.0).unwrap();
        let mut hu = [stored - 1024.0];
        grid.truncate(&mut hu);
        let landed = hu[0] + 1024.0;
        prop_assert_eq!(landed, landed.trunc());
        prop_assert!(landed <= stored + 1e-3 && landed > stored - 1.001);
        let again = hu;
        grid.truncate(&mut hu);
        prop_assert_eq!(hu, again);
    }
}
