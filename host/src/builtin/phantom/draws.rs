//! Counter-based random numbers: every value is a pure function of (seed, patient, purpose, index), so that neither
//! the number of threads nor the order of work can change a phantom.

/// Mixes 64 bits into 64 well-spread bits (the finaliser of SplitMix64, Steele, Lea and Flood 2014).
fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    bits ^ (bits >> 31)
}

/// What a stream of draws is for; streams of different purposes are independent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Sizes and positions of organs.
    Anatomy = 1,
    /// Points that the vessel and airway trees grow towards.
    Tree = 2,
    /// Noise of the scan without contrast medium.
    PlainNoise = 3,
    /// Noise of the scan with contrast medium.
    ContrastNoise = 4,
    /// Slow changes of attenuation within a tissue.
    Texture = 5,
}

/// A source of random numbers for one patient and purpose.
#[derive(Debug, Clone)]
pub(super) struct Draws {
    key: u64,
    next: u64,
}

impl Draws {
    pub(super) fn new(seed: u64, patient: u32, purpose: Purpose) -> Self {
        let step = 0x9E37_79B9_7F4A_7C15_u64;
        let key = mix(seed.wrapping_add(step))
            .wrapping_add(mix(u64::from(patient).wrapping_add(step.wrapping_mul(2))))
            .wrapping_add((purpose as u64).wrapping_mul(step));
        Self { key: mix(key), next: 0 }
    }

    /// 64 bits for `index`, independent of every other call.
    pub(super) fn bits_at(&self, index: u64) -> u64 {
        mix(self.key ^ mix(index.wrapping_add(0x9E37_79B9_7F4A_7C15)))
    }

    /// Approximately standard normal for `index`: the sum of four uniform numbers, so |value| < 3.47.
    pub(super) fn normal_at(&self, index: u64) -> f32 {
        let bits = self.bits_at(index);
        let sum = (bits & 0xFFFF) + ((bits >> 16) & 0xFFFF) + ((bits >> 32) & 0xFFFF) + (bits >> 48);
        // Four uniforms of variance 1/12 have standard deviation 1/sqrt(3).
        ((sum as f32 + 2.0) / 65536.0 - 2.0) * 1.732_050_8
    }

    /// The next uniform number of the stream in [lo, hi).
    pub(super) fn range(&mut self, lo: f32, hi: f32) -> f32 {
        let bits = self.bits_at(self.next);
        self.next = self.next.wrapping_add(1);
        lo + (hi - lo) * ((bits >> 40) as f32 / 16_777_216.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_differ_and_repeat() {
        let a = Draws::new(1, 0, Purpose::Anatomy);
        assert_eq!(a.bits_at(7), Draws::new(1, 0, Purpose::Anatomy).bits_at(7));
        for other in [
            Draws::new(2, 0, Purpose::Anatomy),
            Draws::new(1, 1, Purpose::Anatomy),
            Draws::new(1, 0, Purpose::Tree),
            Draws::new(0, 1, Purpose::Anatomy),
        ] {
            assert_ne!(a.bits_at(7), other.bits_at(7));
        }
    }

    #[test]
    fn normal_numbers_have_mean_zero_and_unit_variance() {
        let draws = Draws::new(5, 3, Purpose::PlainNoise);
        let count = 100_000_u64;
        let (mut sum, mut squares) = (0.0_f64, 0.0_f64);
        for index in 0..count {
            let value = f64::from(draws.normal_at(index));
            sum += value;
            squares += value * value;
        }
        let mean = sum / count as f64;
        assert!(mean.abs() < 0.02, "mean {mean}");
        assert!((squares / count as f64 - mean * mean - 1.0).abs() < 0.02);
    }
}
