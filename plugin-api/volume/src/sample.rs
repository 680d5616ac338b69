//! The element types of volumes: how they become double precision, and how double precision becomes them.

use half::f16;
use half::slice::HalfFloatSliceExt;

use crate::half_round::to_f16;

/// An element that is read as double precision.
pub trait Sample: Copy + Send + Sync {
    /// The value, exactly.
    fn real(self) -> f64;

    /// Writes a row as double precision; both slices have one length.
    fn widen(row: &[Self], out: &mut [f64]) {
        for (out, &value) in out.iter_mut().zip(row) {
            *out = value.real();
        }
    }
}

macro_rules! exact {
    ($($t:ty),*) => {$(
        impl Sample for $t {
            fn real(self) -> f64 {
                f64::from(self)
            }
        }
    )*};
}
exact!(f32, i32, u32, i16, u16, i8, u8);

impl Sample for f64 {
    fn real(self) -> f64 {
        self
    }
}

impl Sample for f16 {
    fn real(self) -> f64 {
        self.to_f64()
    }

    fn widen(row: &[Self], out: &mut [f64]) {
        let mut part = [0.0_f32; 64];
        for (row, out) in row.chunks(64).zip(out.chunks_mut(64)) {
            let part = &mut part[..row.len()];
            row.convert_to_f32_slice(part);
            for (out, &value) in out.iter_mut().zip(part.iter()) {
                *out = f64::from(value);
            }
        }
    }
}

/// An element that an interpolated value is stored as.
pub trait FromReal: Copy + Default + Send + Sync {
    /// The stored value: rounded to nearest even for floats, truncated toward zero for integers (as numpy's `astype`).
    fn from_real(value: f64) -> Self;
}

impl FromReal for f64 {
    fn from_real(value: f64) -> Self {
        value
    }
}

impl FromReal for f32 {
    #[expect(clippy::cast_possible_truncation, reason = "rounding to single precision is what is asked for")]
    fn from_real(value: f64) -> Self {
        value as f32
    }
}

impl FromReal for f16 {
    fn from_real(value: f64) -> Self {
        to_f16(value)
    }
}

impl FromReal for i32 {
    #[expect(clippy::cast_possible_truncation, reason = "truncation toward zero is what is asked for")]
    fn from_real(value: f64) -> Self {
        value as i32
    }
}

impl FromReal for i16 {
    #[expect(clippy::cast_possible_truncation, reason = "truncation toward zero is what is asked for")]
    fn from_real(value: f64) -> Self {
        value as i16
    }
}
