//! The arithmetic of the product instructions.

use std::arch::asm;
use std::arch::x86_64::{
    __m256i, _mm256_add_epi32, _mm256_madd_epi16, _mm256_set1_epi32, _mm256_slli_epi16, _mm256_srai_epi16,
    _mm256_srli_epi16,
};

use crate::tiles::{ROWS, Tile};

/// Nearest even, subnormal numbers are zero on the way in and out, all exceptions masked.
const CONTROL: u32 = 0x1f80 | 0x8000 | 0x0040;

/// `into[m][n] += sum over k of left[m][k] * right[k][n]`, where each dword of the factors is a pair of bfloat16.
///
/// `size` is rows and columns of the result and the length of the sums in dwords; all 16 columns are computed, and those
/// beyond are for the caller to zero.
///
/// # Safety
/// The processor has AVX2 and FMA.
pub(crate) unsafe fn bf16(into: &mut Tile, left: &Tile, right: &Tile, [rows, _, pairs]: [usize; 3]) {
    let (mut saved, control) = (0_u32, CONTROL);
    // A pair of the left row against one row of the right tile at a time: the even elements shifted into the high half of a
    // float, the odd ones masked. Even products are summed in ymm0 and ymm1, odd ones in ymm2 and ymm3.
    //
    // SAFETY: the pointers stay inside the three tiles, since there are at most 16 rows and 16 pairs, and tiles are
    // aligned to 64 bytes; the control word is restored; the caller vouches for the instructions.
    unsafe {
        asm!(
            "stmxcsr [{saved}]",
            "ldmxcsr [{control}]",
            "vpcmpeqd ymm15, ymm15, ymm15",
            "vpslld ymm15, ymm15, 16",
            "2:",
            "vxorps xmm0, xmm0, xmm0",
            "vxorps xmm1, xmm1, xmm1",
            "vxorps xmm2, xmm2, xmm2",
            "vxorps xmm3, xmm3, xmm3",
            "mov {at}, {right}",
            "xor {pair:e}, {pair:e}",
            "3:",
            "vpbroadcastd ymm4, [{left} + {pair}*4]",
            "vpslld ymm5, ymm4, 16",
            "vpand ymm4, ymm4, ymm15",
            "vmovdqa ymm6, [{at}]",
            "vpslld ymm7, ymm6, 16",
            "vpand ymm6, ymm6, ymm15",
            "vfmadd231ps ymm0, ymm5, ymm7",
            "vfmadd231ps ymm2, ymm4, ymm6",
            "vmovdqa ymm6, [{at} + 32]",
            "vpslld ymm7, ymm6, 16",
            "vpand ymm6, ymm6, ymm15",
            "vfmadd231ps ymm1, ymm5, ymm7",
            "vfmadd231ps ymm3, ymm4, ymm6",
            "add {at}, 64",
            "inc {pair}",
            "cmp {pair}, {pairs}",
            "jne 3b",
            "vaddps ymm0, ymm0, ymm2",
            "vaddps ymm1, ymm1, ymm3",
            "vmovaps ymm4, [{into}]",
            "vmovaps ymm5, [{into} + 32]",
            "vaddps ymm4, ymm4, ymm0",
            "vaddps ymm5, ymm5, ymm1",
            "vmovaps [{into}], ymm4",
            "vmovaps [{into} + 32], ymm5",
            "add {left}, 64",
            "add {into}, 64",
            "dec {rows}",
            "jnz 2b",
            "vzeroupper",
            "ldmxcsr [{saved}]",
            saved = in(reg) &raw mut saved,
            control = in(reg) &raw const control,
            left = inout(reg) left.0.as_ptr() => _,
            right = in(reg) right.0.as_ptr(),
            into = inout(reg) into.0.as_mut_ptr() => _,
            rows = inout(reg) rows.clamp(1, ROWS) => _,
            pairs = in(reg) pairs.clamp(1, ROWS),
            at = out(reg) _,
            pair = out(reg) _,
            out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _, out("xmm4") _, out("xmm5") _,
            out("xmm6") _, out("xmm7") _, out("xmm15") _,
            options(nostack)
        );
    }
}

/// The same for bytes: each dword of the factors is four of them, sums are 32-bit integers that wrap around.
///
/// # Safety
/// The processor has AVX2.
#[target_feature(enable = "avx2")]
pub(crate) unsafe fn bytes(into: &mut Tile, left: &Tile, right: &Tile, signed: [bool; 2], size: [usize; 3]) {
    let [rows, _, quads] = size;
    for (row, left) in into.0.iter_mut().zip(&left.0).take(rows) {
        let halves = row.as_mut_ptr().cast::<__m256i>();
        // SAFETY: a row is two vectors long.
        let mut sums = unsafe { [halves.read_unaligned(), halves.add(1).read_unaligned()] };
        for (&quad, right) in left.as_chunks::<4>().0.iter().zip(&right.0).take(quads) {
            let factor = words(_mm256_set1_epi32(i32::from_le_bytes(quad)), signed[0]);
            let halves = right.as_ptr().cast::<__m256i>();
            for (half, sum) in sums.iter_mut().enumerate() {
                // SAFETY: a row is two vectors long.
                let other = words(unsafe { halves.add(half).read_unaligned() }, signed[1]);
                for (factor, other) in factor.into_iter().zip(other) {
                    *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(factor, other));
                }
            }
        }
        // SAFETY: as above.
        unsafe {
            halves.write_unaligned(sums[0]);
            halves.add(1).write_unaligned(sums[1]);
        }
    }
}

/// The even and the odd bytes, widened to words.
#[target_feature(enable = "avx2")]
fn words(bytes: __m256i, signed: bool) -> [__m256i; 2] {
    let even = _mm256_slli_epi16(bytes, 8);
    if signed {
        [_mm256_srai_epi16(even, 8), _mm256_srai_epi16(bytes, 8)]
    } else {
        [_mm256_srli_epi16(even, 8), _mm256_srli_epi16(bytes, 8)]
    }
}
