//! Per-pixel attention: mean and maximum over the channels of every pixel, and a small convolution over those maps.

use super::{Blocked, Finish};
use crate::Isa;
use crate::kernels::LANES;
use crate::kernels::lanes::{Lanes, for_lanes};
use candle_core::{Result, bail};
use rayon::prelude::*;

impl Blocked {
    /// Mean and maximum over the channels of every pixel of `finish(self)`, `[N][2][D * H * W]`, means first; `finish`
    /// may have a map per channel only.
    ///
    /// # Errors
    /// If `finish` does not fit.
    pub(crate) fn pool_channels(&self, isa: Isa, finish: &Finish<'_>) -> Result<Vec<f32>> {
        finish.check(self)?;
        let (shape, pixels) = (self.shape, self.shape.pixels());
        let width = shape.size[2];
        let rows = pixels / width;
        let affine: Vec<[[f32; LANES]; 3]> = (0..shape.pictures * shape.blocks())
            .map(|at| finish.block(at / shape.blocks(), at % shape.blocks()))
            .collect();
        let pooled: Vec<Vec<f32>> = (0..shape.pictures * rows)
            .into_par_iter()
            .with_min_len(4)
            .map(|row| {
                let picture = row / rows;
                let from = picture * shape.blocks() * pixels * LANES + (row % rows) * width * LANES;
                let mut out = vec![0f32; 2 * width];
                let job = Pool {
                    input: self.data.as_f32()[from..].as_ptr(),
                    block_stride: pixels * LANES,
                    affine: &affine[picture * shape.blocks()..(picture + 1) * shape.blocks()],
                    channels: shape.channels,
                    pixels: width,
                };
                // SAFETY: every block has this row; the output holds two values per pixel.
                unsafe { pool_row(isa, &job, &mut out) };
                out
            })
            .collect();
        let mut maps = vec![0f32; shape.pictures * 2 * pixels];
        for (row, values) in pooled.iter().enumerate() {
            let at = row / rows * 2 * pixels + row % rows * width;
            maps[at..at + width].copy_from_slice(&values[..width]);
            maps[at + pixels..at + pixels + width].copy_from_slice(&values[width..]);
        }
        Ok(maps)
    }
}

struct Pool<'a> {
    input: *const f32,
    block_stride: usize,
    affine: &'a [[[f32; LANES]; 3]],
    channels: usize,
    pixels: usize,
}

for_lanes! {
    /// # Safety
    /// The instruction set must be there; every block must hold the row.
    unsafe fn pool_row(job: &Pool<'_>, out: &mut [f32]) = pool_row_body
}

#[inline(always)]
unsafe fn pool_row_body<L: Lanes>(job: &Pool<'_>, out: &mut [f32]) {
    let (means, maxima) = out.split_at_mut(job.pixels);
    // Block by block, so that memory is read in order; the lanes' sums and maxima of the row wait in the cache.
    let mut sums = vec![[0f32; LANES]; job.pixels];
    let mut largest = vec![[f32::NEG_INFINITY; LANES]; job.pixels];
    for (block, affine) in job.affine.iter().enumerate() {
        let missing = ((block + 1) * LANES).saturating_sub(job.channels);
        // Lanes beyond the channels are no pixels: they add nothing to a maximum.
        let beyond: [f32; LANES] =
            std::array::from_fn(|lane| if lane + missing < LANES { f32::INFINITY } else { f32::NEG_INFINITY });
        // SAFETY: the caller's contract; the row's buffers hold `pixels` times 16 lanes.
        unsafe {
            let [mean, scale, shift] = affine.each_ref().map(|values| L::load(values.as_ptr()));
            let beyond = L::load(beyond.as_ptr());
            for (at, (sum, largest)) in sums.iter_mut().zip(&mut largest).enumerate() {
                let x = L::load(job.input.add(block * job.block_stride + at * LANES));
                let y = x.sub(mean).mul(scale).add(shift);
                L::load(sum.as_ptr()).add(y).store(sum.as_mut_ptr());
                L::load(largest.as_ptr()).max(beyond.min(y)).store(largest.as_mut_ptr());
            }
        }
    }
    for ((mean, maximum), (sums, largest)) in means.iter_mut().zip(maxima).zip(sums.iter_mut().zip(&mut largest)) {
        // In halves, as a tree: the order is the same for every instruction set.
        for half in [8, 4, 2, 1] {
            for lane in 0..half {
                sums[lane] += sums[lane + half];
                largest[lane] = if largest[lane] > largest[lane + half] { largest[lane] } else { largest[lane + half] };
            }
        }
        *mean = sums[0] / job.channels as f32;
        *maximum = largest[0];
    }
}

/// `sigmoid(conv(maps))` of maps `[N][C][H][W]` with an odd square kernel `[C][k][k]` and a border of zeros: `[N][H][W]`.
///
/// # Errors
/// If the kernel is not odd and square, or the maps are not of that shape.
pub fn pixel_gate(maps: &[f32], channels: usize, [height, width]: [usize; 2], kernel: &[f32]) -> Result<Vec<f32>> {
    let side = (kernel.len() / channels.max(1)).isqrt();
    let pixels = height * width;
    let odd = side * side * channels == kernel.len() && !side.is_multiple_of(2);
    if !odd || pixels == 0 || !maps.len().is_multiple_of(channels * pixels) {
        bail!("pixel gate: kernel of {} elements over {channels} maps of {height} x {width}", kernel.len())
    }
    let pad = side / 2;
    let mut gate = vec![0f32; maps.len() / channels];
    gate.par_chunks_exact_mut(width).enumerate().with_min_len(8).for_each(|(row, out)| {
        let (picture, y) = (row / height, row % height);
        let mut line = vec![0f32; width + 2 * pad];
        for channel in 0..channels {
            for ky in 0..side {
                let Some(source) = (y + ky).checked_sub(pad).filter(|&source| source < height) else { continue };
                let from = (picture * channels + channel) * pixels + source * width;
                line[pad..pad + width].copy_from_slice(&maps[from..from + width]);
                for kx in 0..side {
                    let weight = kernel[(channel * side + ky) * side + kx];
                    for (out, x) in out.iter_mut().zip(&line[kx..kx + width]) {
                        *out += weight * x;
                    }
                }
            }
        }
        for out in out.iter_mut() {
            *out = 1.0 / (1.0 + (-*out).exp());
        }
    });
    Ok(gate)
}
