//! Putting patches into a base image, each inside its own window of the *base's* Hounsfield units. No ABI here.

/// One patch of a slice: what it is valid for, and its values.
#[derive(Debug, Clone, Copy)]
pub struct Patch<'a> {
    /// Lower end of its window, HU; belongs to it.
    pub lo_hu: f64,
    /// Upper end of its window, HU; belongs to it.
    pub hi_hu: f64,
    /// Values, HU, as many as the base has.
    pub hu: &'a [f32],
}

impl Patch<'_> {
    /// Why this window is none, if so.
    ///
    /// # Errors
    /// In words, if a bound is not finite or the window is empty.
    pub fn check(&self) -> Result<(), String> {
        let Self { lo_hu, hi_hu, .. } = *self;
        if lo_hu.is_finite() && hi_hu.is_finite() && lo_hu < hi_hu {
            Ok(())
        } else {
            Err(format!("the window {lo_hu} to {hi_hu} HU is none: it must be known, finite and not empty"))
        }
    }
}

/// Writes the base, with every voxel whose base value lies inside a patch's window taken from that patch; where several
/// windows hold the value, the last patch wins. `changed`, if wanted, becomes 1 where some patch was taken and 0 else.
///
/// All slices are equally long. Only the base decides; what the patches hold never does.
pub fn integrate(base_hu: &[f32], patches: &[Patch<'_>], out_hu: &mut [f32], changed: Option<&mut [u8]>) {
    out_hu.copy_from_slice(base_hu);
    for patch in patches {
        for ((out, &base), &value) in out_hu.iter_mut().zip(base_hu).zip(patch.hu) {
            if is_inside(base, patch) {
                *out = value;
            }
        }
    }
    if let Some(changed) = changed {
        for (label, &base) in changed.iter_mut().zip(base_hu) {
            *label = u8::from(patches.iter().any(|patch| is_inside(base, patch)));
        }
    }
}

fn is_inside(base_hu: f32, patch: &Patch<'_>) -> bool {
    (patch.lo_hu..=patch.hi_hu).contains(&f64::from(base_hu))
}

#[cfg(test)]
mod tests {
    use super::*;
    use gantry_tests::fixture::{npy, shared};

    const SOFT: (f64, f64) = (-150.0, 250.0);
    const LUNG: (f64, f64) = (-1000.0, -150.0);

    fn patch<'a>((lo_hu, hi_hu): (f64, f64), hu: &'a [f32]) -> Patch<'a> {
        Patch { lo_hu, hi_hu, hu }
    }

    #[test]
    fn equals_the_published_merge() {
        let Some(folder) = shared("fixtures/ducosy/e2e") else { return };
        let hu = |name: &str| -> Vec<f32> {
            npy::<u16>(folder.join(name)).data.into_iter().map(|s| f32::from(s) - 1024.0).collect()
        };
        let (raw, soft, lung) = (hu("raw_stored_u16.npy"), hu("soft_stored_u16.npy"), hu("lung_stored_u16.npy"));
        let expected = npy::<f32>(folder.join("merged_f32.npy")).data;
        let mut out = vec![f32::NAN; raw.len()];
        let mut changed = vec![9; raw.len()];
        integrate(&raw, &[patch(SOFT, &soft), patch(LUNG, &lung)], &mut out, Some(&mut changed));
        let differ = out.iter().zip(&expected).filter(|(hu, stored)| **hu + 1024.0 != **stored).count();
        let inside = changed.iter().filter(|&&l| l == 1).count();
        println!("merged: {differ} of {} voxels differ; {inside} inside a window", expected.len());
        assert_eq!((out.len(), differ), (expected.len(), 0));
        assert!(changed.iter().zip(&raw).all(|(&l, &v)| (l == 1) == (-1000.0..=250.0).contains(&v)));
    }

    #[test]
    fn both_ends_belong_to_a_window_and_the_later_patch_wins() {
        let base = [-1001.0, -1000.0, -151.0, -150.0, -149.0, 250.0, 251.0];
        let (soft, lung) = ([1.0; 7], [2.0; 7]);
        let mut out = [0.0; 7];
        integrate(&base, &[patch(SOFT, &soft), patch(LUNG, &lung)], &mut out, None);
        assert_eq!(out, [-1001.0, 2.0, 2.0, 2.0, 1.0, 1.0, 251.0]);
        integrate(&base, &[patch(LUNG, &lung), patch(SOFT, &soft)], &mut out, None);
        assert_eq!(out[3], 1.0);
    }

    #[test]
    fn patches_do_not_decide() {
        // The first patch lifts the voxel into the second's window; the base lies in the first only.
        let (first, second) = ([100.0], [5.0]);
        let mut out = [0.0];
        integrate(&[-500.0], &[patch(LUNG, &first), patch(SOFT, &second)], &mut out, None);
        assert_eq!(out, [100.0]);
    }

    #[test]
    fn without_patches_and_voxels_nothing_happens() {
        let (mut out, mut changed) = ([0.0; 2], [7; 2]);
        integrate(&[-0.0, 5.0], &[], &mut out, Some(&mut changed));
        assert_eq!((out[0].to_bits(), out[1], changed), ((-0.0_f32).to_bits(), 5.0, [0, 0]));
        integrate(&[], &[patch(SOFT, &[])], &mut [], Some(&mut []));
    }

    #[test]
    fn unknown_windows_are_refused() {
        for (lo, hi) in [(f64::NEG_INFINITY, f64::INFINITY), (5.0, 5.0), (5.0, -5.0), (f64::NAN, 1.0)] {
            assert!(patch((lo, hi), &[]).check().is_err(), "{lo} {hi}");
        }
        assert!(patch(SOFT, &[]).check().is_ok());
    }
}
