//! The way back from normalised numbers to physical units. No ABI here.
//!
//! An image says with its map (`physical = value * scale + offset`, true for `lo ..= hi`) how it was scaled. Nothing is
//! clamped: a network ends in tanh and stays inside by itself, and a value outside is a fact to be seen, not hidden.

/// Where the squeezed form leaves the linear one, as a fraction of the window.
const KNEE: f64 = 0.9;
/// Height of the squeezed part.
const HEADROOM: f64 = 0.1;
/// Slope inside its sigmoid (10 / 50).
const STEEPNESS: f64 = 0.2;

/// How the numbers were made; must be what the window stage used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Normalisation {
    /// The map alone is the inverse.
    Linear,
    /// The top tenth of the window was pressed into fractions 0.95 to 0.9505 by a sigmoid.
    Squeezed,
}

/// The inverse for one slice of one channel.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Inverse {
    /// -1 .. 1 came from a window: `(y + 1) / 2 * range + lo` in single precision, left to right.
    Window {
        /// What -1 stands for.
        lo: f32,
        /// What 1 stands for, minus `lo`.
        range: f32,
    },
    /// As `Window`, after undoing the squeeze.
    SqueezedWindow {
        /// What -1 stands for.
        lo: f64,
        /// What 1 stands for, minus `lo`.
        range: f64,
    },
    /// Any other linear map: `y * scale + offset` in double precision, rounded once.
    Linear {
        /// Physical units for one unit of value.
        scale: f64,
        /// Physical units at value 0.
        offset: f64,
    },
}

impl Inverse {
    /// The inverse that a map (`scale`, `offset`, `lo`, `hi`) and a normalisation stand for.
    ///
    /// # Errors
    /// In words, if the map is unusable: a number that is not finite, a zero scale, `lo >= hi`, the identity (the
    /// image then was never normalised, or its map was lost), or a squeezed image whose map does not send -1 .. 1
    /// to `lo .. hi`.
    pub fn new(scale: f64, offset: f64, lo: f64, hi: f64, normalisation: Normalisation) -> Result<Self, String> {
        if !(scale.is_finite() && offset.is_finite() && scale != 0.0) {
            return Err(format!("scale {scale} and offset {offset} do not lead back to physical units"));
        }
        if scale == 1.0 && offset == 0.0 {
            return Err("the map is the identity: the image was not normalised, or its map was lost on the way".into());
        }
        if lo.is_nan() || hi.is_nan() || lo >= hi {
            return Err(format!("the valid range {lo} to {hi} is empty"));
        }
        let tolerance = 1e-9 * (hi - lo);
        let is_window = (offset - scale - lo).abs() <= tolerance && (offset + scale - hi).abs() <= tolerance;
        match normalisation {
            Normalisation::Linear if is_window => Ok(Self::Window { lo: lo as f32, range: (hi - lo) as f32 }),
            Normalisation::Linear => Ok(Self::Linear { scale, offset }),
            Normalisation::Squeezed if is_window => Ok(Self::SqueezedWindow { lo, range: hi - lo }),
            Normalisation::Squeezed => Err(format!(
                "a squeezed image needs a map from -1..1 to {lo}..{hi}, and this one has scale {scale}, offset {offset}"
            )),
        }
    }

    /// Writes the physical values of `normalised` to `out` (equally long, any shape).
    ///
    /// # Errors
    /// The index of the first voxel that is not a finite number; `out` is then incomplete.
    pub fn apply(&self, normalised: &[f32], out: &mut [f32]) -> Result<(), usize> {
        debug_assert_eq!(normalised.len(), out.len());
        let mut finite = true;
        let pairs = out.iter_mut().zip(normalised);
        match *self {
            Self::Window { lo, range } => {
                for (out, &y) in pairs {
                    finite &= y.is_finite();
                    *out = (y + 1.0) / 2.0 * range + lo;
                }
            }
            Self::SqueezedWindow { lo, range } => {
                for (out, &y) in pairs {
                    finite &= y.is_finite();
                    *out = (unsqueeze(f64::midpoint(f64::from(y), 1.0)) * range + lo) as f32;
                }
            }
            Self::Linear { scale, offset } => {
                for (out, &y) in pairs {
                    finite &= y.is_finite();
                    *out = (f64::from(y) * scale + offset) as f32;
                }
            }
        }
        if finite { Ok(()) } else { Err(normalised.iter().position(|v| !v.is_finite()).unwrap_or(0)) }
    }
}

/// The fraction of the window that a squeezed fraction `s` stands for; never decreasing.
///
/// Exact where the squeeze has values (below 0.9, and 0.95 to 0.9505). In the gap, which it never produces but a
/// network may, it is 0.9; above, 1. The top tenth of the window therefore hangs on differences of 0.0005: a network
/// cannot resolve it, and its values there scatter over that tenth.
fn unsqueeze(s: f64) -> f64 {
    if s < KNEE {
        return s;
    }
    let gate = (s - KNEE) / HEADROOM;
    if gate <= 0.5 {
        return KNEE;
    }
    if gate >= 1.0 {
        return 1.0;
    }
    (KNEE + (gate / (1.0 - gate)).ln() / STEEPNESS).min(1.0)
}

/// The integers a DICOM series stores: physical = stored * slope + intercept.
#[derive(Debug, Clone, Copy)]
pub struct StoredGrid {
    slope: f32,
    intercept: f32,
}

impl StoredGrid {
    /// A grid of stored values, or the reason why these numbers are none.
    ///
    /// # Errors
    /// If a number is not finite or the slope is zero.
    pub fn new(slope: f64, intercept: f64) -> Result<Self, String> {
        let grid = Self { slope: slope as f32, intercept: intercept as f32 };
        if grid.slope.is_finite() && grid.intercept.is_finite() && grid.slope != 0.0 {
            Ok(grid)
        } else {
            Err(format!("stored_slope {slope} and stored_intercept {intercept} describe no stored values"))
        }
    }

    /// Replaces each physical value by that of the stored integer next to it *towards zero*, which is what writing
    /// and reading back in the published program does to a network's result.
    pub fn truncate(&self, physical: &mut [f32]) {
        for value in physical {
            *value = ((*value - self.intercept) / self.slope).trunc() * self.slope + self.intercept;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gantry_tests::fixture::{npy, shared};

    fn window(lo: f64, hi: f64, normalisation: Normalisation) -> Inverse {
        Inverse::new((hi - lo) / 2.0, (hi + lo) / 2.0, lo, hi, normalisation).unwrap()
    }

    /// The stored integers that `dicom-write` with truncation would write.
    fn stored(physical: &[f32], slope: f32, intercept: f32) -> Vec<i32> {
        physical.iter().map(|&v| ((v - intercept) / slope) as i32).collect()
    }

    #[test]
    fn a_sweep_of_network_outputs_gives_the_published_stored_values() {
        let Some(folder) = shared("fixtures/ducosy/hu") else { return };
        let sweep = npy::<f32>(folder.join("model_out_sweep.npy")).data;
        for (case, slope, intercept) in
            [("u16_s1_i-1024", 1.0_f32, -1024.0), ("i16_s1_i0", 1.0, 0.0), ("i16_s0.5_i-200.25", 0.5, -200.25)]
        {
            for (name, lo, hi) in [("soft", -150.0, 250.0), ("lung", -1000.0, -150.0)] {
                let path = folder.join(format!("{case}_{name}_denorm_stored.npy"));
                let expected: Vec<i32> = if case.starts_with('u') {
                    npy::<u16>(path).data.into_iter().map(i32::from).collect()
                } else {
                    npy::<i16>(path).data.into_iter().map(i32::from).collect()
                };
                let mut out = vec![f32::NAN; sweep.len()];
                window(lo, hi, Normalisation::Linear).apply(&sweep, &mut out).unwrap();
                let of_corrected = stored(&out, slope, intercept);
                StoredGrid::new(f64::from(slope), f64::from(intercept)).unwrap().truncate(&mut out);
                let of_published = stored(&out, slope, intercept);
                let differ = of_corrected.iter().zip(&expected).filter(|(a, b)| a != b).count();
                println!("{case} {name}: {differ} of {} stored values differ", expected.len());
                assert_eq!(of_corrected, expected, "{case} {name}: corrected, truncated by the writer");
                assert_eq!(of_published, expected, "{case} {name}: published");
            }
        }
    }

    #[test]
    fn linear_round_trip_is_within_rounding() {
        for (lo, hi) in [(-150.0, 250.0), (-1000.0, -150.0), (-1024.0, 3071.0), (-0.5, 0.25)] {
            let inverse = window(lo, hi, Normalisation::Linear);
            let hu: Vec<f32> = (0..=1000).map(|i| (lo + (hi - lo) * f64::from(i) / 1000.0) as f32).collect();
            let (l, r) = (lo as f32, (hi - lo) as f32);
            let normalised: Vec<f32> = hu.iter().map(|v| 2.0 * (v - l) / r - 1.0).collect();
            let mut back = vec![0.0; hu.len()];
            inverse.apply(&normalised, &mut back).unwrap();
            let error = hu.iter().zip(&back).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            println!("[{lo}, {hi}]: round trip error {error:e}");
            assert!(error <= r * 2.0_f32.powi(-22), "{error:e}");
        }
    }

    #[test]
    fn squeezed_round_trip_and_monotony() {
        let (lo, hi) = (-150.0_f64, 250.0);
        let inverse = window(lo, hi, Normalisation::Squeezed);
        let squeezed = |hu: f64| {
            let t = (hu - lo) / (hi - lo);
            let s = if t < 0.9 { t } else { 0.9 + 0.1 / (1.0 + (-0.2 * (t - 0.9)).exp()) };
            (2.0 * s - 1.0) as f32
        };
        let mut worst = [0.0_f64; 2];
        for i in 0..=4000 {
            let hu = lo + f64::from(i) / 10.0;
            let mut back = [0.0];
            inverse.apply(&[squeezed(hu)], &mut back).unwrap();
            let error = (f64::from(back[0]) - hu).abs();
            let at = usize::from(hu >= 210.0);
            worst[at] = worst[at].max(error);
        }
        println!("squeezed round trip: {:e} HU below the knee, {:e} HU above", worst[0], worst[1]);
        assert!(worst[0] < 1e-4 && worst[1] < 0.02, "{worst:?}");

        let sweep: Vec<f32> = (0..=20_000).map(|i| -1.0 + i as f32 * 1e-4).collect();
        let mut out = vec![0.0; sweep.len()];
        inverse.apply(&sweep, &mut out).unwrap();
        assert!(out.windows(2).all(|w| w[0] <= w[1]));
        assert_eq!((out[0], out[20_000]), (-150.0, 250.0));
    }

    #[test]
    fn other_maps_are_followed_and_unusable_ones_refused() {
        let n = Normalisation::Linear;
        let minmax = Inverse::new(500.0, -100.0, -100.0, 400.0, n).unwrap();
        assert_eq!(minmax, Inverse::Linear { scale: 500.0, offset: -100.0 });
        let mut out = [0.0; 2];
        minmax.apply(&[0.0, 1.0], &mut out).unwrap();
        assert_eq!(out, [-100.0, 400.0]);
        assert!(Inverse::new(1.0, 0.0, -1024.0, 3071.0, n).unwrap_err().contains("identity"));
        assert!(Inverse::new(0.0, 5.0, 0.0, 1.0, n).is_err());
        assert!(Inverse::new(f64::NAN, 5.0, 0.0, 1.0, n).is_err());
        assert!(Inverse::new(2.0, 5.0, 1.0, 1.0, n).unwrap_err().contains("empty"));
        assert!(Inverse::new(500.0, -100.0, -100.0, 400.0, Normalisation::Squeezed).is_err());
        assert_eq!(minmax.apply(&[0.0, f32::NAN], &mut out), Err(1));
        assert!(StoredGrid::new(0.0, 0.0).is_err());
    }

    #[test]
    fn truncation_is_towards_zero_of_the_stored_value() {
        let mut hu = [-1023.5, -1024.5, 10.9];
        StoredGrid::new(1.0, -1024.0).unwrap().truncate(&mut hu);
        assert_eq!(hu, [-1024.0, -1024.0, 10.0]);
    }
}
