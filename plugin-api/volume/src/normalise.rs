//! nnU-Net's intensity normalisation, in single precision and in its order of operations.

use crate::error::{Error, Result};

/// How the intensities of one channel are normalised before resampling.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Normalisation {
    /// `CTNormalization`: clip to `[low, high]` (the dataset's percentiles 0.5 and 99.5), subtract `mean`, divide by
    /// `max(deviation, 1e-8)`.
    Ct {
        /// Percentile 0.5 of the foreground, HU.
        low: f64,
        /// Percentile 99.5 of the foreground, HU.
        high: f64,
        /// Mean of the foreground, HU.
        mean: f64,
        /// Standard deviation of the foreground, HU.
        deviation: f64,
    },
    /// `ZScoreNormalization`: mean 0 and deviation 1 over the image, or over the mask where one is used.
    ZScore,
    /// `NoNormalization`.
    None,
    /// `RescaleTo01Normalization`: least value to 0, greatest to 1.
    RescaleTo01,
    /// `RGBTo01Normalization`: 0..255 to 0..1.
    RgbTo01,
}

impl Normalisation {
    /// Normalises one channel in place. `mask` (nought outside) only matters to [`Normalisation::ZScore`]: statistics are
    /// taken inside it, and only values inside it change.
    ///
    /// # Errors
    /// A mask of another length; values outside 0..255 for [`Normalisation::RgbTo01`].
    #[expect(clippy::cast_possible_truncation, reason = "the reference casts its bounds to single precision")]
    pub fn apply(&self, channel: &mut [f32], mask: Option<&[u8]>) -> Result<()> {
        match *self {
            Self::None => {}
            Self::Ct { low, high, mean, deviation } => {
                let (low, high, mean, deviation) = (low as f32, high as f32, mean as f32, deviation.max(1e-8) as f32);
                for value in channel {
                    *value = (value.max(low).min(high) - mean) / deviation;
                }
            }
            Self::ZScore => match mask {
                None => {
                    let (mean, deviation) = moments(channel);
                    channel.iter_mut().for_each(|v| *v = (*v - mean) / deviation);
                }
                Some(mask) => {
                    if mask.len() != channel.len() {
                        let (size, expected, found) = (vec![channel.len()], channel.len(), mask.len());
                        return Err(Error::Length { what: "mask", size, expected, found });
                    }
                    let inside: Vec<f32> =
                        channel.iter().zip(mask).filter(|(_, m)| **m != 0).map(|(&v, _)| v).collect();
                    let (mean, deviation) = moments(&inside);
                    for (value, _) in channel.iter_mut().zip(mask).filter(|(_, m)| **m != 0) {
                        *value = (*value - mean) / deviation;
                    }
                }
            },
            Self::RescaleTo01 => {
                let least = channel.iter().copied().fold(f32::INFINITY, f32::min);
                channel.iter_mut().for_each(|v| *v -= least);
                let greatest = channel.iter().copied().fold(f32::NEG_INFINITY, f32::max).max(1e-8);
                channel.iter_mut().for_each(|v| *v /= greatest);
            }
            Self::RgbTo01 => {
                if let Some(&wrong) = channel.iter().find(|v| !(0.0..=255.0).contains(*v)) {
                    let found = f64::from(wrong);
                    return Err(Error::Values { what: "RGBTo01Normalization", low: 0.0, high: 255.0, found });
                }
                channel.iter_mut().for_each(|v| *v /= 255.0);
            }
        }
        Ok(())
    }
}

/// Mean, and the greater of deviation and 1e-8, as numpy computes both of a single-precision array.
#[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "numpy divides so")]
fn moments(values: &[f32]) -> (f32, f32) {
    let n = values.len() as f64;
    let mean = (f64::from(pairwise(values, &|v| v)) / n) as f32;
    let variance = (f64::from(pairwise(values, &|v| (v - mean) * (v - mean))) / n) as f32;
    (mean, variance.sqrt().max(1e-8))
}

/// numpy's pairwise sum: halves down to blocks of 128, eight running sums in a block.
fn pairwise(values: &[f32], map: &impl Fn(f32) -> f32) -> f32 {
    let n = values.len();
    if n < 8 {
        return values.iter().fold(0.0, |sum, &v| sum + map(v));
    }
    if n > 128 {
        let half = n / 2 - (n / 2) % 8;
        return pairwise(&values[..half], map) + pairwise(&values[half..], map);
    }
    let mut sums = [0.0_f32; 8];
    let chunks = values.chunks_exact(8);
    let rest = chunks.remainder();
    for (k, chunk) in chunks.enumerate() {
        for (sum, &v) in sums.iter_mut().zip(chunk) {
            *sum = if k == 0 { map(v) } else { *sum + map(v) };
        }
    }
    let [a, b, c, d, e, f, g, h] = sums;
    rest.iter().fold(((a + b) + (c + d)) + ((e + f) + (g + h)), |sum, &v| sum + map(v))
}
