//! The innermost loop of the convolution: a register tile of output channels by pixels, accumulated over a block of
//! input channels and all taps.
//!
//! Every output element is one chain of fused multiply-adds over (input channel, tap) in that order, whatever its place
//! in a tile, so results depend neither on how the picture is cut up nor on the vector width. (x86-64 processors without
//! FMA round products separately and so differ in the last bits.)

use crate::isa::Isa;

/// Pixels in one vector step; widths are rounded up to it.
pub(super) const LANES: usize = 16;
/// Most vector steps in one tile.
pub(super) const MAX_STEPS: usize = 3;
/// Output channels in a full tile.
pub(super) const OUT_BLOCK: usize = 8;

/// One register tile: what it reads and where it adds.
pub(super) struct Tile<'a> {
    /// First input channel of the block at the tile's first pixel: element `c * channel_stride + tap + pixel`.
    pub input: &'a [f32],
    /// Elements from one input channel to the next.
    pub channel_stride: usize,
    /// Offset of each tap from a channel's first element.
    pub taps: &'a [usize],
    /// Input channels in the block.
    pub channels: usize,
    /// `[channel][tap][output channel]`, dense.
    pub weights: &'a [f32],
    /// `[output channel][pixel]` with `sum_stride` elements from one output channel to the next.
    pub sums: &'a mut [f32],
    /// Elements from one output channel to the next in `sums`.
    pub sum_stride: usize,
    /// Overwrite `sums` instead of adding to it.
    pub first: bool,
}

impl Tile<'_> {
    /// Runs the tile for `outputs` (1 or [`OUT_BLOCK`]) output channels and `steps` (1 to [`MAX_STEPS`]) vectors.
    ///
    /// # Panics
    /// If the slices are shorter than the tile needs: a mistake in this crate, never in the data.
    pub(super) fn run(mut self, isa: Isa, outputs: usize, steps: usize) {
        let pixels = steps * LANES;
        let widest = self.taps.iter().copied().max().unwrap_or(0);
        assert!(self.channels >= 1 && (1..=MAX_STEPS).contains(&steps));
        assert!(self.input.len() >= (self.channels - 1) * self.channel_stride + widest + pixels);
        assert!(self.weights.len() >= self.channels * self.taps.len() * outputs);
        assert!(self.sums.len() >= (outputs - 1) * self.sum_stride + pixels);
        assert!(isa <= Isa::best());
        // SAFETY: the asserts above bound every read and write of the kernels, which touch exactly `channels` x taps x
        // `pixels` inputs, `channels` x taps x `outputs` weights and `outputs` x `pixels` sums; and `isa` was detected.
        unsafe {
            match (isa, outputs, steps) {
                #[cfg(target_arch = "x86_64")]
                (Isa::Avx512, OUT_BLOCK, 3) => x86::avx512::<OUT_BLOCK, 3>(self),
                #[cfg(target_arch = "x86_64")]
                (Isa::Avx512, OUT_BLOCK, 2) => x86::avx512::<OUT_BLOCK, 2>(self),
                #[cfg(target_arch = "x86_64")]
                (Isa::Avx512, OUT_BLOCK, 1) => x86::avx512::<OUT_BLOCK, 1>(self),
                #[cfg(target_arch = "x86_64")]
                (Isa::Avx512, 1, 3) => x86::avx512::<1, 3>(self),
                #[cfg(target_arch = "x86_64")]
                (Isa::Avx512, 1, 2) => x86::avx512::<1, 2>(self),
                #[cfg(target_arch = "x86_64")]
                (Isa::Avx512, 1, 1) => x86::avx512::<1, 1>(self),
                #[cfg(target_arch = "x86_64")]
                (Isa::Avx2, OUT_BLOCK, _) => {
                    x86::avx2::<OUT_BLOCK, 4>(&mut self, 0, steps);
                    x86::avx2::<OUT_BLOCK, 4>(&mut self, 4, steps);
                }
                #[cfg(target_arch = "x86_64")]
                (Isa::Avx2, 1, _) => x86::avx2::<1, 1>(&mut self, 0, steps),
                (_, OUT_BLOCK, _) => portable::<OUT_BLOCK>(self, steps),
                (_, 1, _) => portable::<1>(self, steps),
                _ => unreachable!("tiles have 1 or {OUT_BLOCK} output channels"),
            }
        }
    }
}

/// The same arithmetic in plain Rust, one vector step at a time.
fn portable<const OUTPUTS: usize>(tile: Tile<'_>, steps: usize) {
    for start in (0..steps * LANES).step_by(LANES) {
        let mut sums = [[0f32; LANES]; OUTPUTS];
        for channel in 0..tile.channels {
            for (index, &tap) in tile.taps.iter().enumerate() {
                let weights = &tile.weights[(channel * tile.taps.len() + index) * OUTPUTS..][..OUTPUTS];
                let pixels = &tile.input[channel * tile.channel_stride + tap + start..][..LANES];
                for (sums, &weight) in sums.iter_mut().zip(weights) {
                    for (sum, &pixel) in sums.iter_mut().zip(pixels) {
                        *sum = multiply_add(pixel, weight, *sum);
                    }
                }
            }
        }
        for (output, sums) in sums.iter().enumerate() {
            let at = output * tile.sum_stride + start;
            for (total, &sum) in tile.sums[at..at + LANES].iter_mut().zip(sums) {
                *total = if tile.first { sum } else { *total + sum };
            }
        }
    }
}

/// `a * b + c`, rounded once where the target has an instruction for it; its software emulation would be useless.
#[inline(always)]
fn multiply_add(a: f32, b: f32, c: f32) -> f32 {
    if cfg!(all(target_arch = "x86_64", not(target_feature = "fma"))) { a * b + c } else { a.mul_add(b, c) }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{LANES, Tile};
    use std::arch::x86_64::*;

    /// # Safety
    /// AVX-512F present; `tile` covers `STEPS` vectors and `OUTPUTS` output channels (checked by [`Tile::run`]).
    #[target_feature(enable = "avx512f")]
    pub(super) unsafe fn avx512<const OUTPUTS: usize, const STEPS: usize>(tile: Tile<'_>) {
        let mut sums = [[_mm512_setzero_ps(); STEPS]; OUTPUTS];
        let mut weight = tile.weights.as_ptr();
        let mut channel = tile.input.as_ptr();
        for _ in 0..tile.channels {
            for &tap in tile.taps {
                let mut pixels = [_mm512_setzero_ps(); STEPS];
                // SAFETY: inside `input`, by the caller's contract.
                unsafe {
                    for (step, pixel) in pixels.iter_mut().enumerate() {
                        *pixel = _mm512_loadu_ps(channel.add(tap + step * LANES));
                    }
                }
                for (output, sums) in sums.iter_mut().enumerate() {
                    // SAFETY: inside `weights`, by the caller's contract.
                    let factor = _mm512_set1_ps(unsafe { *weight.add(output) });
                    for (sum, pixel) in sums.iter_mut().zip(pixels) {
                        *sum = _mm512_fmadd_ps(pixel, factor, *sum);
                    }
                }
                // `wrapping_add`: after the last tap the pointer may stand one past the end; it is not read there.
                weight = weight.wrapping_add(OUTPUTS);
            }
            channel = channel.wrapping_add(tile.channel_stride);
        }
        for (output, sums) in sums.iter().enumerate() {
            for (step, &sum) in sums.iter().enumerate() {
                // SAFETY: inside `sums`, by the caller's contract.
                unsafe {
                    let at = tile.sums.as_mut_ptr().add(output * tile.sum_stride + step * LANES);
                    let total = if tile.first { sum } else { _mm512_add_ps(_mm512_loadu_ps(at), sum) };
                    _mm512_storeu_ps(at, total);
                }
            }
        }
    }

    /// Output channels `from .. from + OUTPUTS` of a tile whose weights have `WIDTH` output channels.
    ///
    /// # Safety
    /// AVX2 and FMA present; `tile` covers `steps` vectors and `WIDTH` output channels (checked by [`Tile::run`]), and
    /// `from + OUTPUTS <= WIDTH`.
    #[target_feature(enable = "avx2,fma")]
    pub(super) unsafe fn avx2<const WIDTH: usize, const OUTPUTS: usize>(
        tile: &mut Tile<'_>,
        from: usize,
        steps: usize,
    ) {
        for start in (0..steps * LANES).step_by(LANES) {
            let mut sums = [[_mm256_setzero_ps(); 2]; OUTPUTS];
            let mut weight = tile.weights.as_ptr().wrapping_add(from);
            let mut channel = tile.input.as_ptr().wrapping_add(start);
            for _ in 0..tile.channels {
                for &tap in tile.taps {
                    // SAFETY: inside `input`, by the caller's contract.
                    let pixels = unsafe { [_mm256_loadu_ps(channel.add(tap)), _mm256_loadu_ps(channel.add(tap + 8))] };
                    for (output, sums) in sums.iter_mut().enumerate() {
                        // SAFETY: inside `weights`, by the caller's contract.
                        let factor = _mm256_set1_ps(unsafe { *weight.add(output) });
                        sums[0] = _mm256_fmadd_ps(pixels[0], factor, sums[0]);
                        sums[1] = _mm256_fmadd_ps(pixels[1], factor, sums[1]);
                    }
                    weight = weight.wrapping_add(WIDTH);
                }
                channel = channel.wrapping_add(tile.channel_stride);
            }
            for (output, sums) in sums.iter().enumerate() {
                for (half, &sum) in sums.iter().enumerate() {
                    // SAFETY: inside `sums`, by the caller's contract.
                    unsafe {
                        let at = tile.sums.as_mut_ptr().add((from + output) * tile.sum_stride + start + half * 8);
                        let total = if tile.first { sum } else { _mm256_add_ps(_mm256_loadu_ps(at), sum) };
                        _mm256_storeu_ps(at, total);
                    }
                }
            }
        }
    }
}
