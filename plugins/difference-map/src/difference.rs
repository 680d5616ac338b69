//! Adding a difference to an image. No ABI here.

/// How a difference is added.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Rule {
    /// Differences below the threshold count as 0, larger ones are added, at most `maximum_hu`.
    Corrected {
        /// Smallest difference that counts, HU.
        threshold_hu: f32,
        /// Largest that is added, HU.
        maximum_hu: f32,
    },
    /// Differences below the threshold count as 0; the rest is cut to a whole number and wraps at 256, so that 300
    /// adds 44.
    Published {
        /// Smallest difference that counts.
        threshold_hu: f32,
    },
}

/// Writes `image + difference` by `rule`; all equally long, any shape.
///
/// # Errors
/// The index of the first voxel where image or difference is not a finite number; `out` is then incomplete.
pub fn add(image_hu: &[f32], difference_hu: &[f32], rule: Rule, out_hu: &mut [f32]) -> Result<(), usize> {
    let is_bad = |(a, b): (&f32, &f32)| !(a.is_finite() && b.is_finite());
    if let Some(at) = image_hu.iter().zip(difference_hu).position(is_bad) {
        return Err(at);
    }
    let voxels = out_hu.iter_mut().zip(image_hu).zip(difference_hu);
    match rule {
        Rule::Corrected { threshold_hu, maximum_hu } => {
            for ((out, &image), &difference) in voxels {
                *out = image + if difference < threshold_hu { 0.0 } else { difference.min(maximum_hu) };
            }
        }
        Rule::Published { threshold_hu } => {
            for ((out, &image), &difference) in voxels {
                let counted = if difference < threshold_hu { 0.0 } else { difference };
                // Through 64 bits, so that every finite value wraps and none is held at an end. (Threshold below 0:
                // -1 becomes 255, as in two's complement.)
                *out = image + f32::from(counted as i64 as u8);
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use gantry_tests::fixture::{npy, shared};

    const PUBLISHED: Rule = Rule::Published { threshold_hu: 8.0 };
    const CORRECTED: Rule = Rule::Corrected { threshold_hu: 8.0, maximum_hu: 4000.0 };

    #[test]
    fn published_equals_the_reference_in_every_type() {
        let Some(folder) = shared("fixtures/ducosy/diffmap") else { return };
        let path = |name: &str| folder.join(format!("{name}.npy"));
        let volume: Vec<f32> = npy::<i16>(path("vol_i16")).data.into_iter().map(f32::from).collect();
        let i16s = |name: &str| npy::<i16>(path(name)).data.into_iter().map(f32::from).collect::<Vec<f32>>();
        for (name, difference, expected) in [
            ("out_i16", "diff_f32", i16s("out_i16")),
            ("out_u16", "diff_f32", npy::<u16>(path("out_u16")).data.into_iter().map(f32::from).collect()),
            ("out_f32", "diff_f32", npy::<f32>(path("out_f32")).data),
            ("out_i16_diff_0_255", "diff_0_255_f32", i16s("out_i16_diff_0_255")),
        ] {
            let difference = npy::<f32>(path(difference)).data;
            let mut out = vec![f32::NAN; volume.len()];
            add(&volume, &difference, PUBLISHED, &mut out).unwrap();
            let differ = out.iter().zip(&expected).filter(|(a, b)| a.to_bits() != b.to_bits()).count();
            println!("{name}: {differ} of {} voxels differ", expected.len());
            assert_eq!((out.len(), differ), (expected.len(), 0), "{name}");
        }
    }

    #[test]
    fn the_two_rules_differ_where_they_should() {
        let image = [100.0; 6];
        let difference = [7.99, 8.0, 8.75, 300.0, 5000.0, -400.0];
        let mut out = [0.0; 6];
        add(&image, &difference, PUBLISHED, &mut out).unwrap();
        assert_eq!(out, [100.0, 108.0, 108.0, 144.0, 236.0, 100.0]);
        add(&image, &difference, CORRECTED, &mut out).unwrap();
        assert_eq!(out, [100.0, 108.0, 108.75, 400.0, 4100.0, 100.0]);
    }

    #[test]
    fn voxels_that_are_no_numbers_are_named() {
        let mut out = [0.0; 3];
        assert_eq!(add(&[0.0, f32::NAN, 0.0], &[0.0; 3], CORRECTED, &mut out), Err(1));
        assert_eq!(add(&[0.0; 3], &[0.0, 0.0, f32::INFINITY], PUBLISHED, &mut out), Err(2));
        assert_eq!(add(&[], &[], PUBLISHED, &mut []), Ok(()));
    }
}
