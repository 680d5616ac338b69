//! Sixteen f32 as one value, for everything between the inner products: Winograd's transforms, normalisation, borders.
//!
//! Additions, subtractions, products and roundings are those of IEEE 754 without contraction, so every implementation
//! gives the same bits.

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;

/// Sixteen lanes of f32.
///
/// # Safety
/// Every method needs the instruction set of the implementation and, where it takes a pointer, sixteen readable or
/// writable elements there, at any alignment.
pub(crate) trait Lanes: Copy {
    unsafe fn splat(x: f32) -> Self;
    unsafe fn load(from: *const f32) -> Self;
    unsafe fn store(self, to: *mut f32);
    unsafe fn add(self, other: Self) -> Self;
    unsafe fn sub(self, other: Self) -> Self;
    unsafe fn mul(self, other: Self) -> Self;
    /// The larger; where either is NaN, `other`.
    unsafe fn max(self, other: Self) -> Self;
    /// The smaller; where either is NaN, `other`.
    unsafe fn min(self, other: Self) -> Self;
    /// `self` where it is not below zero (or NaN), `slope * self` elsewhere.
    unsafe fn leaky(self, slope: Self) -> Self;
    /// Rounds to bf16, to nearest with ties to even; NaN stays NaN.
    unsafe fn store_bf16(self, to: *mut u16);
    /// Widens bf16.
    unsafe fn load_bf16(from: *const u16) -> Self;
    /// `self` rounded to an integer, to nearest with ties to even, and limited to 0..=255.
    unsafe fn store_u8(self, to: *mut u8);
}

/// For every target.
#[derive(Clone, Copy)]
pub(crate) struct Plain([f32; 16]);

impl Plain {
    #[inline(always)]
    fn with(self, other: Self, f: impl Fn(f32, f32) -> f32) -> Self {
        let mut out = self.0;
        for (out, other) in out.iter_mut().zip(other.0) {
            *out = f(*out, other);
        }
        Self(out)
    }
}

/// `x` rounded to bf16, to nearest with ties to even; NaN becomes a quiet NaN.
pub(crate) fn bf16(x: f32) -> u16 {
    let bits = x.to_bits();
    if x.is_nan() { (bits >> 16) as u16 | 0x40 } else { ((bits + 0x7fff + ((bits >> 16) & 1)) >> 16) as u16 }
}

/// The value of a bf16.
pub(crate) fn widened(x: u16) -> f32 {
    f32::from_bits(u32::from(x) << 16)
}

impl Lanes for Plain {
    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        Self([x; 16])
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the trait's contract.
        Self(unsafe { from.cast::<[f32; 16]>().read_unaligned() })
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the trait's contract.
        unsafe { to.cast::<[f32; 16]>().write_unaligned(self.0) }
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        self.with(other, |a, b| a + b)
    }
    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        self.with(other, |a, b| a - b)
    }
    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        self.with(other, |a, b| a * b)
    }
    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        self.with(other, |a, b| if a > b { a } else { b })
    }
    #[inline(always)]
    unsafe fn min(self, other: Self) -> Self {
        self.with(other, |a, b| if a < b { a } else { b })
    }
    #[inline(always)]
    unsafe fn leaky(self, slope: Self) -> Self {
        self.with(slope, |x, slope| if x < 0.0 { x * slope } else { x })
    }
    #[inline(always)]
    unsafe fn store_bf16(self, to: *mut u16) {
        for (at, x) in self.0.into_iter().enumerate() {
            // SAFETY: the trait's contract.
            unsafe { to.add(at).write_unaligned(bf16(x)) }
        }
    }
    #[inline(always)]
    unsafe fn load_bf16(from: *const u16) -> Self {
        // SAFETY: the trait's contract.
        Self(unsafe { from.cast::<[u16; 16]>().read_unaligned() }.map(widened))
    }
    #[inline(always)]
    unsafe fn store_u8(self, to: *mut u8) {
        for (at, x) in self.0.into_iter().enumerate() {
            // SAFETY: the trait's contract.
            unsafe { to.add(at).write(x.round_ties_even().clamp(0.0, 255.0) as u8) }
        }
    }
}

/// AVX2.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
pub(crate) struct Two([__m256; 2]);

#[cfg(target_arch = "x86_64")]
macro_rules! both {
    ($intrinsic:ident($a:expr, $b:expr)) => {
        // SAFETY: the trait's contract.
        unsafe { Two([$intrinsic($a.0[0], $b.0[0]), $intrinsic($a.0[1], $b.0[1])]) }
    };
}

#[cfg(target_arch = "x86_64")]
impl Lanes for Two {
    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        // SAFETY: the trait's contract.
        Self(unsafe { [_mm256_set1_ps(x); 2] })
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the trait's contract.
        Self(unsafe { [_mm256_loadu_ps(from), _mm256_loadu_ps(from.add(8))] })
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the trait's contract.
        unsafe {
            _mm256_storeu_ps(to, self.0[0]);
            _mm256_storeu_ps(to.add(8), self.0[1]);
        }
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        both!(_mm256_add_ps(self, other))
    }
    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        both!(_mm256_sub_ps(self, other))
    }
    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        both!(_mm256_mul_ps(self, other))
    }
    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        both!(_mm256_max_ps(self, other))
    }
    #[inline(always)]
    unsafe fn min(self, other: Self) -> Self {
        both!(_mm256_min_ps(self, other))
    }
    #[inline(always)]
    unsafe fn leaky(self, slope: Self) -> Self {
        // SAFETY: the trait's contract.
        unsafe {
            let low = self.mul(slope);
            let one = |x, low| {
                let below = _mm256_cmp_ps::<_CMP_LT_OQ>(x, _mm256_setzero_ps());
                _mm256_blendv_ps(x, low, below)
            };
            Self([one(self.0[0], low.0[0]), one(self.0[1], low.0[1])])
        }
    }
    #[inline(always)]
    unsafe fn store_bf16(self, to: *mut u16) {
        // SAFETY: the trait's contract.
        unsafe {
            let one = |x: __m256| {
                let bits = _mm256_castps_si256(x);
                let high = _mm256_srli_epi32::<16>(bits);
                let odd = _mm256_and_si256(high, _mm256_set1_epi32(1));
                let rounded = _mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7fff)), odd);
                let nan = _mm256_castps_si256(_mm256_cmp_ps::<_CMP_UNORD_Q>(x, x));
                let quiet = _mm256_or_si256(high, _mm256_set1_epi32(0x40));
                _mm256_blendv_epi8(_mm256_srli_epi32::<16>(rounded), quiet, nan)
            };
            let packed = _mm256_packus_epi32(one(self.0[0]), one(self.0[1]));
            _mm256_storeu_si256(to.cast(), _mm256_permute4x64_epi64::<0b11_01_10_00>(packed));
        }
    }
    #[inline(always)]
    unsafe fn load_bf16(from: *const u16) -> Self {
        // SAFETY: the trait's contract.
        unsafe {
            let one = |from: *const u16| {
                let wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(from.cast()));
                _mm256_castsi256_ps(_mm256_slli_epi32::<16>(wide))
            };
            Self([one(from), one(from.add(8))])
        }
    }
    #[inline(always)]
    unsafe fn store_u8(self, to: *mut u8) {
        // SAFETY: the trait's contract.
        unsafe {
            let limited = self.max(Self::splat(0.0)).min(Self::splat(255.0));
            let words = _mm256_packus_epi32(_mm256_cvtps_epi32(limited.0[0]), _mm256_cvtps_epi32(limited.0[1]));
            let words = _mm256_permute4x64_epi64::<0b11_01_10_00>(words);
            let bytes = _mm_packus_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256::<1>(words));
            _mm_storeu_si128(to.cast(), bytes);
        }
    }
}

/// AVX-512.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
pub(crate) struct One(__m512);

#[cfg(target_arch = "x86_64")]
impl Lanes for One {
    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        // SAFETY: the trait's contract.
        Self(unsafe { _mm512_set1_ps(x) })
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the trait's contract.
        Self(unsafe { _mm512_loadu_ps(from) })
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the trait's contract.
        unsafe { _mm512_storeu_ps(to, self.0) }
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        // SAFETY: the trait's contract.
        Self(unsafe { _mm512_add_ps(self.0, other.0) })
    }
    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        // SAFETY: the trait's contract.
        Self(unsafe { _mm512_sub_ps(self.0, other.0) })
    }
    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        // SAFETY: the trait's contract.
        Self(unsafe { _mm512_mul_ps(self.0, other.0) })
    }
    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        // SAFETY: the trait's contract.
        Self(unsafe { _mm512_max_ps(self.0, other.0) })
    }
    #[inline(always)]
    unsafe fn min(self, other: Self) -> Self {
        // SAFETY: the trait's contract.
        Self(unsafe { _mm512_min_ps(self.0, other.0) })
    }
    #[inline(always)]
    unsafe fn leaky(self, slope: Self) -> Self {
        // SAFETY: the trait's contract.
        unsafe {
            let below = _mm512_cmp_ps_mask::<_CMP_LT_OQ>(self.0, _mm512_setzero_ps());
            Self(_mm512_mask_mul_ps(self.0, below, self.0, slope.0))
        }
    }
    #[inline(always)]
    unsafe fn store_bf16(self, to: *mut u16) {
        // SAFETY: the trait's contract.
        unsafe {
            let bits = _mm512_castps_si512(self.0);
            let high = _mm512_srli_epi32::<16>(bits);
            let odd = _mm512_and_si512(high, _mm512_set1_epi32(1));
            let rounded = _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff)), odd);
            let nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(self.0, self.0);
            let quiet = _mm512_or_si512(high, _mm512_set1_epi32(0x40));
            let chosen = _mm512_mask_mov_epi32(_mm512_srli_epi32::<16>(rounded), nan, quiet);
            _mm256_storeu_si256(to.cast(), _mm512_cvtepi32_epi16(chosen));
        }
    }
    #[inline(always)]
    unsafe fn load_bf16(from: *const u16) -> Self {
        // SAFETY: the trait's contract.
        unsafe {
            let wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(from.cast()));
            Self(_mm512_castsi512_ps(_mm512_slli_epi32::<16>(wide)))
        }
    }
    #[inline(always)]
    unsafe fn store_u8(self, to: *mut u8) {
        // SAFETY: the trait's contract.
        unsafe {
            let limited = self.max(Self::splat(0.0)).min(Self::splat(255.0));
            _mm_storeu_si128(to.cast(), _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(limited.0)));
        }
    }
}

/// Defines `$name(isa, arguments)`, which runs the generic `$body::<L>(arguments)` compiled for `isa`.
macro_rules! for_lanes {
    ($(#[$meta:meta])* $vis:vis unsafe fn $name:ident($($arg:ident: $type:ty),* $(,)?) $(-> $ret:ty)? = $body:ident) => {
        $(#[$meta])*
        #[allow(clippy::too_many_arguments)]
        $vis unsafe fn $name(isa: $crate::Isa, $($arg: $type),*) $(-> $ret)? {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
                #[allow(clippy::too_many_arguments)]
                unsafe fn widest($($arg: $type),*) $(-> $ret)? {
                    // SAFETY: the features are enabled here; the rest is the caller's contract.
                    unsafe { $body::<$crate::kernels::lanes::One>($($arg),*) }
                }
                #[target_feature(enable = "avx2,fma")]
                #[allow(clippy::too_many_arguments)]
                unsafe fn wide($($arg: $type),*) $(-> $ret)? {
                    // SAFETY: as above.
                    unsafe { $body::<$crate::kernels::lanes::Two>($($arg),*) }
                }
                // SAFETY: an `Isa` other than `Portable` stands for features that were found; the rest as above.
                match isa {
                    $crate::Isa::Amx | $crate::Isa::Avx512 => return unsafe { widest($($arg),*) },
                    $crate::Isa::Avx2 => return unsafe { wide($($arg),*) },
                    $crate::Isa::Portable => {}
                }
            }
            let _ = isa;
            // SAFETY: plain Rust; the rest is the caller's contract.
            unsafe { $body::<$crate::kernels::lanes::Plain>($($arg),*) }
        }
    };
}
pub(crate) use for_lanes;
