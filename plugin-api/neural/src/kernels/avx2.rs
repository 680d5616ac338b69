//! The inner product with AVX2 and fused multiply-add: up to 6 pixels by one panel of two vectors in 12 of the 16
//! registers; a second panel is a second pass.

use super::{Block, CELL, Element, Kernel, LANES};
use std::arch::x86_64::*;

const MOST: usize = 6;

/// Defines the loop of one element; `$dot` adds the product of a broadcast group and half a panel's weights to `$sum`.
macro_rules! element {
    ($name:ident, $sum:ty, $zero:expr, |$acc:ident, $cell:ident, $weight:ident| $dot:expr,
     |$done:ident, $scale:ident, $bias:ident| $finish:expr) => {
        mod $name {
            use super::*;

            #[target_feature(enable = "avx2,fma")]
            unsafe fn run<const P: usize, const S: usize>(block: &Block<'_>, panel: usize) {
                let stride = if S == 0 { block.pixel_stride } else { S };
                let mut sums: [[$sum; 2]; P] = [[$zero; 2]; P];
                // SAFETY: the contract of `Kernel::run`.
                unsafe {
                    for step in block.steps {
                        let cells = step.cell.add(block.offset);
                        let mut weights = block.weights.add(step.weight + panel * CELL);
                        for group in 0..step.groups {
                            let halves = [_mm256_load_si256(weights.cast()), _mm256_load_si256(weights.add(32).cast())];
                            for (pixel, sums) in sums.iter_mut().enumerate() {
                                let $cell =
                                    _mm256_set1_epi32(cells.add(pixel * stride + 4 * group).cast::<i32>().read());
                                for ($acc, &$weight) in sums.iter_mut().zip(&halves) {
                                    *$acc = $dot;
                                }
                            }
                            weights = weights.add(block.panels * CELL);
                        }
                    }
                    for (pixel, sums) in sums.into_iter().enumerate() {
                        for (half, $done) in sums.into_iter().enumerate() {
                            let at = panel * LANES + half * 8;
                            let out = block.out.add(pixel * block.out_stride + panel * block.panel_stride + half * 8);
                            let $bias = _mm256_loadu_ps(if block.accumulate { out } else { block.bias.add(at) });
                            let $scale = block.scale.wrapping_add(at);
                            _mm256_storeu_ps(out, $finish);
                        }
                    }
                }
            }

            /// # Safety
            /// As `Kernel::run`.
            pub(super) unsafe fn any(block: &Block<'_>) {
                for panel in 0..block.panels {
                    // SAFETY: the caller's contract.
                    unsafe {
                        match block.pixel_stride {
                            CELL => pixels!(run, CELL, block, panel),
                            128 => pixels!(run, 128, block, panel),
                            _ => pixels!(run, 0, block, panel),
                        }
                    }
                }
            }
        }
    };
}

macro_rules! pixels {
    ($run:ident, $stride:expr, $block:ident, $panel:ident) => {
        match $block.pixels {
            1 => $run::<1, { $stride }>($block, $panel),
            2 => $run::<2, { $stride }>($block, $panel),
            3 => $run::<3, { $stride }>($block, $panel),
            4 => $run::<4, { $stride }>($block, $panel),
            5 => $run::<5, { $stride }>($block, $panel),
            6 => $run::<6, { $stride }>($block, $panel),
            other => unreachable!("a run of {other} pixels"),
        }
    };
}

element!(
    single,
    __m256,
    _mm256_setzero_ps(),
    |sum, cell, weight| _mm256_fmadd_ps(_mm256_castsi256_ps(cell), _mm256_castsi256_ps(weight), *sum),
    |sum, _scale, bias| _mm256_add_ps(sum, bias)
);

element!(
    brain,
    __m256,
    _mm256_setzero_ps(),
    |sum, cell, weight| {
        let low = |x| _mm256_castsi256_ps(_mm256_slli_epi32::<16>(x));
        let high = |x| _mm256_castsi256_ps(_mm256_and_si256(x, _mm256_set1_epi32(-65536)));
        _mm256_fmadd_ps(high(cell), high(weight), _mm256_fmadd_ps(low(cell), low(weight), *sum))
    },
    |sum, _scale, bias| _mm256_add_ps(sum, bias)
);

element!(
    byte,
    __m256i,
    _mm256_setzero_si256(),
    |sum, cell, weight| {
        // Even and odd bytes as 16-bit words: their products fit 32 bits, unlike those of `vpmaddubsw`.
        let even = _mm256_madd_epi16(
            _mm256_and_si256(cell, _mm256_set1_epi16(0xff)),
            _mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(weight)),
        );
        let odd = _mm256_madd_epi16(_mm256_srli_epi16::<8>(cell), _mm256_srai_epi16::<8>(weight));
        _mm256_add_epi32(*sum, _mm256_add_epi32(even, odd))
    },
    |sum, scale, bias| _mm256_fmadd_ps(_mm256_cvtepi32_ps(sum), _mm256_loadu_ps(scale), bias)
);

pub(super) fn kernel(element: Element) -> Kernel {
    let run = match element {
        Element::F32 => single::any,
        Element::Bf16 => brain::any,
        Element::U8 => byte::any,
    };
    Kernel { run, near: MOST, far: MOST, tiles: false }
}
