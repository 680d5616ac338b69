//! Double precision to half precision in one rounding (to nearest, ties to even), as numpy casts it.
//!
//! Going through single precision would round twice, and `f16::from_f64` drops the low half of the mantissa first; both
//! differ from numpy where a value lies just beside the middle between two halves.

use half::f16;

/// The value rounded to the nearest half-precision number, as double precision; ties to even, subnormals included.
///
/// For magnitudes below 65520 (beyond, half precision has only infinity, which [`to_f16`] gives). Adding and taking away
/// one and a half times the power of two whose last place is half precision's does the rounding in the adder.
#[inline(always)]
pub(crate) fn rounded(value: f64) -> f64 {
    const EXPONENT: u64 = 0x7FF0_0000_0000_0000;
    const SMALLEST_NORMAL: f64 = 6.103_515_625e-5; // 2^-14
    const SHIFT: f64 = 6_597_069_766_656.0; // 1.5 * 2^42: 52 - 10 places
    let power = f64::from_bits(value.to_bits() & EXPONENT);
    let power = if power > SMALLEST_NORMAL { power } else { SMALLEST_NORMAL };
    let shift = power * SHIFT;
    (value + shift) - shift
}

/// Rounds to half precision, ties to even, once.
#[must_use]
pub fn to_f16(value: f64) -> f16 {
    if value.abs() >= 65520.0 || value.is_nan() {
        return f16::from_f64(value);
    }
    // Eleven significant places: exact in single and in half precision.
    #[expect(clippy::cast_possible_truncation, reason = "the value has eleven significant places")]
    let single = rounded(value).copysign(value) as f32;
    f16::from_f32(single)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The nearest half by trying the neighbours of an estimate, in exact arithmetic of doubles.
    fn nearest(value: f64) -> f16 {
        let guess = f16::from_f32(value as f32).to_bits();
        let near = [guess.wrapping_sub(1), guess, guess.wrapping_add(1)].map(f16::from_bits);
        let mut finite: Vec<f16> = near.into_iter().filter(|h| h.is_finite()).collect();
        finite.sort_by(|a, b| {
            let (da, db) = ((a.to_f64() - value).abs(), (b.to_f64() - value).abs());
            da.total_cmp(&db).then((a.to_bits() & 1).cmp(&(b.to_bits() & 1)))
        });
        finite[0]
    }

    #[test]
    fn every_half_and_the_middles_between_them() {
        for bits in 0_u16..0x7BFF {
            let (low, high) = (f16::from_bits(bits).to_f64(), f16::from_bits(bits + 1).to_f64());
            let middle = f64::midpoint(low, high);
            let even = if bits & 1 == 0 { bits } else { bits + 1 };
            assert_eq!(to_f16(low).to_bits(), bits);
            assert_eq!(to_f16(middle).to_bits(), even, "{middle}");
            assert_eq!(to_f16(middle.next_up()).to_bits(), bits + 1, "{middle}");
            assert_eq!(to_f16(middle.next_down()).to_bits(), bits, "{middle}");
            assert_eq!(to_f16(-middle.next_up()).to_bits(), (bits + 1) | 0x8000);
        }
        assert_eq!(to_f16(65519.999), f16::MAX);
        assert_eq!(to_f16(65520.0), f16::INFINITY);
        assert!(to_f16(f64::NAN).is_nan());
        assert_eq!(to_f16(-1e-12).to_bits(), 0x8000);
    }

    proptest! {
        #[test]
        fn nearest_of_any(value in -70.0_f64..70.0, scale in -20_i32..9) {
            let value = value * f64::from(scale).exp2();
            prop_assert_eq!(to_f16(value), nearest(value));
        }
    }
}
