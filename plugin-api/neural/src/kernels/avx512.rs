//! The inner product with AVX-512: up to 14 pixels by two panels in 28 of the 32 registers.
//!
//! bf16 uses `vdpbf16ps` and u8 `vpdpbusd` where the processor has them; without them the groups are taken apart.

use super::{Block, CELL, Element, Kernel};
use std::arch::x86_64::*;

const NEAR: usize = 14;
const FAR: usize = 6;

/// Defines the loop of one element; `$dot` adds the product of a broadcast group and a panel's weights to `$sum`.
macro_rules! element {
    ($name:ident, $feature:literal, $sum:ty, $zero:expr, |$acc:ident, $cell:ident, $weight:ident| $dot:expr,
     |$done:ident, $scale:ident, $bias:ident| $finish:expr) => {
        mod $name {
            use super::*;

            #[target_feature(enable = $feature)]
            unsafe fn run<const P: usize, const O: usize, const S: usize>(block: &Block<'_>) {
                let stride = if S == 0 { block.pixel_stride } else { S };
                let mut sums: [[$sum; O]; P] = [[$zero; O]; P];
                // SAFETY: the contract of `Kernel::run`.
                unsafe {
                    for step in block.steps {
                        let cells = step.cell.add(block.offset);
                        let mut weights = block.weights.add(step.weight);
                        for group in 0..step.groups {
                            let mut panels = [_mm512_setzero_si512(); O];
                            for (panel, at) in panels.iter_mut().enumerate() {
                                *at = _mm512_load_si512(weights.add(panel * CELL).cast());
                            }
                            for (pixel, sums) in sums.iter_mut().enumerate() {
                                let $cell =
                                    _mm512_set1_epi32(cells.add(pixel * stride + 4 * group).cast::<i32>().read());
                                for ($acc, &$weight) in sums.iter_mut().zip(&panels) {
                                    *$acc = $dot;
                                }
                            }
                            weights = weights.add(O * CELL);
                        }
                    }
                    for (pixel, sums) in sums.into_iter().enumerate() {
                        for (panel, $done) in sums.into_iter().enumerate() {
                            let out = block.out.add(pixel * block.out_stride + panel * block.panel_stride);
                            let base = if block.accumulate { out } else { block.bias.add(panel * 16) };
                            let $bias = _mm512_loadu_ps(base);
                            let $scale = block.scale.wrapping_add(panel * 16);
                            _mm512_storeu_ps(out, $finish);
                        }
                    }
                }
            }

            /// # Safety
            /// As `Kernel::run`.
            pub(super) unsafe fn any(block: &Block<'_>) {
                // SAFETY: the caller's contract.
                unsafe {
                    match (block.panels, block.pixel_stride) {
                        (2, CELL) => pixels!(run, 2, CELL, block, 1 2 3 4 5 6 7 8 9 10 11 12 13 14),
                        (1, CELL) => pixels!(run, 1, CELL, block, 1 2 3 4 5 6 7 8 9 10 11 12 13 14),
                        (2, 128) => pixels!(run, 2, 128, block, 1 2 3 4 5 6 7 8 9 10 11 12 13 14),
                        (1, 128) => pixels!(run, 1, 128, block, 1 2 3 4 5 6 7 8 9 10 11 12 13 14),
                        (2, _) => pixels!(run, 2, 0, block, 1 2 3 4 5 6),
                        (_, _) => pixels!(run, 1, 0, block, 1 2 3 4 5 6),
                    }
                }
            }
        }
    };
}

macro_rules! pixels {
    ($run:ident, $panels:literal, $stride:expr, $block:ident, $($count:literal)*) => {
        match $block.pixels {
            $($count => $run::<$count, $panels, { $stride }>($block),)*
            other => unreachable!("a run of {other} pixels"),
        }
    };
}

element!(
    single,
    "avx512f",
    __m512,
    _mm512_setzero_ps(),
    |sum, cell, weight| _mm512_fmadd_ps(_mm512_castsi512_ps(cell), _mm512_castsi512_ps(weight), *sum),
    |sum, _scale, bias| _mm512_add_ps(sum, bias)
);

element!(
    brain,
    "avx512f,avx512bf16",
    __m512,
    _mm512_setzero_ps(),
    |sum, cell, weight| _mm512_dpbf16_ps(
        *sum,
        std::mem::transmute::<__m512i, __m512bh>(cell),
        std::mem::transmute::<__m512i, __m512bh>(weight)
    ),
    |sum, _scale, bias| _mm512_add_ps(sum, bias)
);

element!(
    brain_widened,
    "avx512f",
    __m512,
    _mm512_setzero_ps(),
    |sum, cell, weight| {
        let low = |x| _mm512_castsi512_ps(_mm512_slli_epi32::<16>(x));
        let high = |x| _mm512_castsi512_ps(_mm512_and_si512(x, _mm512_set1_epi32(-65536)));
        _mm512_fmadd_ps(high(cell), high(weight), _mm512_fmadd_ps(low(cell), low(weight), *sum))
    },
    |sum, _scale, bias| _mm512_add_ps(sum, bias)
);

element!(
    byte,
    "avx512f,avx512vnni",
    __m512i,
    _mm512_setzero_si512(),
    |sum, cell, weight| _mm512_dpbusd_epi32(*sum, cell, weight),
    |sum, scale, bias| _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum), _mm512_loadu_ps(scale), bias)
);

element!(
    byte_widened,
    "avx512f,avx512bw",
    __m512i,
    _mm512_setzero_si512(),
    |sum, cell, weight| {
        // Even and odd bytes as 16-bit words: their products fit 32 bits, unlike those of `vpmaddubsw`.
        let even = _mm512_madd_epi16(
            _mm512_and_si512(cell, _mm512_set1_epi16(0xff)),
            _mm512_srai_epi16::<8>(_mm512_slli_epi16::<8>(weight)),
        );
        let odd = _mm512_madd_epi16(_mm512_srli_epi16::<8>(cell), _mm512_srai_epi16::<8>(weight));
        _mm512_add_epi32(*sum, _mm512_add_epi32(even, odd))
    },
    |sum, scale, bias| _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum), _mm512_loadu_ps(scale), bias)
);

pub(super) fn kernel(element: Element) -> Kernel {
    let run = match element {
        Element::F32 => single::any,
        Element::Bf16 if is_x86_feature_detected!("avx512bf16") => brain::any,
        Element::Bf16 => brain_widened::any,
        Element::U8 if is_x86_feature_detected!("avx512vnni") => byte::any,
        Element::U8 => byte_widened::any,
    };
    Kernel { run, near: NEAR, far: FAR, tiles: false }
}
