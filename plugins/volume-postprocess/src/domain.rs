//! In which numbers the chain works, and what of its result is kept: the difference between corrected and published.

/// The behaviour of the stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compat {
    /// Works on HU; results are kept inside the given mask only, every other voxel keeps its exact value.
    Corrected,
    /// Works on stored values, compares them with a threshold meant in HU, truncates to 16 bits, keeps everything.
    Published,
}

/// The integers a DICOM series stores: HU = stored * slope + intercept.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Stored {
    slope: f32,
    intercept_hu: f32,
}

impl Stored {
    /// A rescale, or the reason why these numbers are none.
    ///
    /// # Errors
    /// If a number is not finite or the slope is zero.
    pub fn new(slope: f64, intercept_hu: f64) -> Result<Self, String> {
        let stored = Self { slope: slope as f32, intercept_hu: intercept_hu as f32 };
        if stored.slope.is_finite() && stored.intercept_hu.is_finite() && stored.slope != 0.0 {
            Ok(stored)
        } else {
            Err(format!("stored_slope {slope} and stored_intercept {intercept_hu} describe no stored values"))
        }
    }

    /// Stored values of HU, not rounded.
    pub fn from_hu(self, hu: &[f32], stored: &mut Vec<f32>) {
        stored.extend(hu.iter().map(|v| (v - self.intercept_hu) / self.slope));
    }

    /// HU of results cut towards zero to 16-bit integers (and held at the ends of their range).
    pub fn truncated_to_hu(self, results: &[f64], hu: &mut [f32]) {
        for (hu, &result) in hu.iter_mut().zip(results) {
            *hu = f32::from(result as i16) * self.slope + self.intercept_hu;
        }
    }
}

/// Writes `results` where `inside` (any label above 0) allows, and the untouched `input` elsewhere.
pub fn keep_inside(results: &[f64], input: &[f32], inside: Option<&[u8]>, out: &mut [f32]) {
    match inside {
        None => {
            for (out, &result) in out.iter_mut().zip(results) {
                *out = result as f32;
            }
        }
        Some(inside) => {
            for (((out, &result), &input), &label) in out.iter_mut().zip(results).zip(input).zip(inside) {
                *out = if label > 0 { result as f32 } else { input };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_truncates_stored_values_towards_zero() {
        let stored = Stored::new(1.0, -1024.0).unwrap();
        let mut hu = [0.0; 5];
        stored.truncated_to_hu(&[0.9, -0.9, 1023.99, 1024.0, 1e9], &mut hu);
        assert_eq!(hu, [-1024.0, -1024.0, -1.0, 0.0, 31743.0]);
        let mut back = Vec::new();
        stored.from_hu(&hu, &mut back);
        assert_eq!(back, [0.0, 0.0, 1023.0, 1024.0, 32767.0]);
        assert!(Stored::new(0.0, 0.0).is_err() && Stored::new(f64::NAN, 0.0).is_err());
    }

    #[test]
    fn outside_the_mask_nothing_changes() {
        let mut out = [0.0; 4];
        let input = [1.5, -0.0, 3.25, f32::MIN_POSITIVE];
        keep_inside(&[9.0; 4], &input, Some(&[0, 0, 2, 0]), &mut out);
        assert_eq!(out.map(f32::to_bits), [1.5, -0.0, 9.0, f32::MIN_POSITIVE].map(f32::to_bits));
        keep_inside(&[9.0; 4], &input, None, &mut out);
        assert_eq!(out, [9.0; 4]);
    }
}
