//! The arithmetic of an intensity window: Hounsfield units to [-1, 1]. No ABI here.
//!
//! All of it is single precision, evaluated left to right as written, because trained weights were made with exactly
//! these roundings (`DuCoSy` specification, section 4.2).

/// Up to here the squeezed form equals the linear one, as a fraction of the window.
const KNEE: f32 = 0.9;
/// Height of the squeezed part: `f32(1.0 - 0.9)`, computed in double precision and then rounded.
const HEADROOM: f32 = (1.0_f64 - 0.9_f64) as f32;
/// Slope inside the sigmoid of the squeezed part (10 / 50).
const STEEPNESS: f32 = 0.2;

/// How a clipped value becomes a number in [-1, 1].
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Normalisation {
    /// `n = 2 (v - lo) / (hi - lo) - 1`.
    Linear,
    /// The form some weights were trained on: linear up to 0.9 of the window, then a sigmoid that jumps to 0.95 and
    /// holds everything above between 0.95 and 0.9505. Reproduced for such weights; it is neither continuous nor, to
    /// any practical precision, invertible over the top tenth of the window.
    Squeezed,
}

/// A window `lo_hu ..= hi_hu` with `lo_hu < hi_hu`, both finite.
#[derive(Debug, Clone, Copy)]
pub struct Window {
    lo_hu: f32,
    hi_hu: f32,
    range_hu: f32,
    normalisation: Normalisation,
}

impl Window {
    /// A window, or the reason why these bounds are none.
    ///
    /// # Errors
    /// If a bound is not finite, if `lo_hu >= hi_hu`, or if they coincide in single precision.
    pub fn new(lo_hu: f64, hi_hu: f64, normalisation: Normalisation) -> Result<Self, String> {
        // The difference is taken in double precision and rounded once, like the numbers in a script.
        let window = Self { lo_hu: lo_hu as f32, hi_hu: hi_hu as f32, range_hu: (hi_hu - lo_hu) as f32, normalisation };
        if window.lo_hu.is_finite() && window.hi_hu.is_finite() && window.lo_hu < window.hi_hu {
            Ok(window)
        } else {
            Err(format!("hu_min must be below hu_max, and these are {lo_hu} and {hi_hu} HU"))
        }
    }

    /// Lower bound, HU.
    pub fn lo_hu(&self) -> f32 {
        self.lo_hu
    }

    /// Upper bound, HU.
    pub fn hi_hu(&self) -> f32 {
        self.hi_hu
    }

    /// The linear way back: physical HU = value * scale + offset.
    pub fn scale_and_offset_hu(&self) -> (f64, f64) {
        let (lo, hi) = (f64::from(self.lo_hu), f64::from(self.hi_hu));
        ((hi - lo) / 2.0, f64::midpoint(hi, lo))
    }

    /// Writes the normalised form of `hu` to `out` (equally long, any shape).
    ///
    /// # Errors
    /// The index of the first voxel that is not a finite number; `out` is then incomplete.
    pub fn normalise(&self, hu: &[f32], out: &mut [f32]) -> Result<(), usize> {
        debug_assert_eq!(hu.len(), out.len());
        let (lo, hi, range) = (self.lo_hu, self.hi_hu, self.range_hu);
        let mut finite = true;
        match self.normalisation {
            Normalisation::Linear => {
                for (out, &v) in out.iter_mut().zip(hu) {
                    finite &= v.is_finite();
                    *out = 2.0 * (v.clamp(lo, hi) - lo) / range - 1.0;
                }
            }
            Normalisation::Squeezed => {
                for (out, &v) in out.iter_mut().zip(hu) {
                    finite &= v.is_finite();
                    *out = 2.0 * squeeze((v.clamp(lo, hi) - lo) / range) - 1.0;
                }
            }
        }
        if finite { Ok(()) } else { Err(hu.iter().position(|v| !v.is_finite()).unwrap_or(0)) }
    }
}

/// The squeezed fraction of a fraction `t` of the window.
fn squeeze(t: f32) -> f32 {
    if t < KNEE {
        return t;
    }
    // The sigmoid alone is taken in double precision and rounded once, so that it does not hang on a library's exp.
    let sigmoid = 1.0 / (1.0 + (-f64::from(STEEPNESS * (t - KNEE))).exp());
    KNEE + HEADROOM * sigmoid as f32
}

#[cfg(test)]
mod tests {
    use super::*;
    use gantry_tests::fixture::{npy, shared};

    fn hu_of_case(folder: &std::path::Path, case: &str, slope: f32, intercept: f32) -> Vec<f32> {
        let path = folder.join(format!("{case}_stored.npy"));
        if case.starts_with('u') {
            npy::<u16>(path).data.into_iter().map(|s| f32::from(s) * slope + intercept).collect()
        } else {
            npy::<i16>(path).data.into_iter().map(|s| f32::from(s) * slope + intercept).collect()
        }
    }

    #[test]
    fn equals_the_published_program_on_every_stored_value() {
        let Some(folder) = shared("fixtures/ducosy/hu") else { return };
        for (case, slope, intercept) in
            [("u16_s1_i-1024", 1.0, -1024.0), ("i16_s1_i0", 1.0, 0.0), ("i16_s0.5_i-200.25", 0.5, -200.25)]
        {
            let hu = hu_of_case(&folder, case, slope, intercept);
            for (name, lo, hi) in [("soft", -150.0, 250.0), ("lung", -1000.0, -150.0)] {
                for (form, normalisation, tolerance) in
                    [("linear", Normalisation::Linear, 0.0), ("squeezed", Normalisation::Squeezed, 1.2e-7)]
                {
                    let expected = npy::<f32>(folder.join(format!("{case}_{name}_{form}.npy"))).data;
                    let mut out = vec![f32::NAN; hu.len()];
                    Window::new(lo, hi, normalisation).unwrap().normalise(&hu, &mut out).unwrap();
                    let error = out.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                    let unequal = out.iter().zip(&expected).filter(|(a, b)| a.to_bits() != b.to_bits()).count();
                    println!("{case} {name} {form}: max error {error:e}, {unequal} of {} differ", hu.len());
                    assert_eq!(expected.len(), out.len());
                    assert!(error <= tolerance, "{case} {name} {form}: {error:e}");
                }
            }
        }
    }

    #[test]
    fn bounds_map_to_the_ends_and_padding_is_clipped() {
        let window = Window::new(-150.0, 250.0, Normalisation::Linear).unwrap();
        let mut out = [0.0; 5];
        window.normalise(&[-3024.0, -150.0, 50.0, 250.0, 3071.0], &mut out).unwrap();
        assert_eq!(out, [-1.0, -1.0, 0.0, 1.0, 1.0]);
        assert_eq!(window.scale_and_offset_hu(), (200.0, 50.0));
    }

    #[test]
    fn squeezing_jumps_at_nine_tenths() {
        let window = Window::new(0.0, 100.0, Normalisation::Squeezed).unwrap();
        let mut out = [0.0; 4];
        window.normalise(&[50.0, 89.99, 90.01, 100.0], &mut out).unwrap();
        assert!(out[0].abs() < 1e-6 && out[1] < 0.8);
        assert!((0.8999..0.9001).contains(&out[2]) && (0.9009..0.9011).contains(&out[3]));
    }

    #[test]
    fn unusable_bounds_and_voxels_are_named() {
        assert!(Window::new(250.0, -150.0, Normalisation::Linear).is_err());
        assert!(Window::new(10.0, 10.0, Normalisation::Linear).is_err());
        assert!(Window::new(f64::NAN, 10.0, Normalisation::Linear).is_err());
        let window = Window::new(0.0, 1.0, Normalisation::Linear).unwrap();
        assert_eq!(window.normalise(&[0.0, f32::NAN, 1.0], &mut [0.0; 3]), Err(1));
        assert_eq!(window.normalise(&[0.0, 1.0, f32::INFINITY], &mut [0.0; 3]), Err(2));
    }
}
