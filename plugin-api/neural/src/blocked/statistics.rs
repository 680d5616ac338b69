//! Mean, variance and extremes per channel, gathered while a layer's rows are still in the cache.
//!
//! Each task sums its rows about their own mean; the tasks are then merged in their order (Chan, Golub and LeVeque,
//! 1983), so the result depends on how the picture is cut, which is fixed, and not on the number of threads.

use crate::Isa;
use crate::kernels::LANES;
use crate::kernels::lanes::{Lanes, for_lanes};

/// Of one block of 16 channels over some pixels.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Partial {
    pub count: f64,
    pub mean: [f64; LANES],
    /// Sum of squared distances from the mean.
    pub spread: [f64; LANES],
    pub max: [f32; LANES],
    pub min: [f32; LANES],
}

impl Partial {
    pub(crate) const NONE: Self = Self {
        count: 0.0,
        mean: [0.0; LANES],
        spread: [0.0; LANES],
        max: [f32::NEG_INFINITY; LANES],
        min: [f32::INFINITY; LANES],
    };

    /// Adds the pixels of `other`.
    pub(crate) fn merge(&mut self, other: &Self) {
        let count = self.count + other.count;
        if count == 0.0 {
            return;
        }
        for lane in 0..LANES {
            let apart = other.mean[lane] - self.mean[lane];
            self.mean[lane] += apart * other.count / count;
            self.spread[lane] += other.spread[lane] + apart * apart * self.count * other.count / count;
            self.max[lane] = larger(self.max[lane], other.max[lane]);
            self.min[lane] = -larger(-self.min[lane], -other.min[lane]);
        }
        self.count = count;
    }
}

/// The larger; NaN if either is.
fn larger(a: f32, b: f32) -> f32 {
    if a.is_nan() || a > b { a } else { b }
}

for_lanes! {
    /// Statistics of `pixels` pixels of 16 channels from `row`, one after the other.
    ///
    /// # Safety
    /// The instruction set must be there, and `pixels * 16` readable elements.
    unsafe fn row_partial(row: *const f32, pixels: usize) -> Partial = row_partial_body
}

#[inline(always)]
unsafe fn row_partial_body<L: Lanes>(row: *const f32, pixels: usize) -> Partial {
    let mut partial = Partial { count: pixels as f64, ..Partial::NONE };
    // SAFETY: the caller's contract.
    unsafe {
        // Two chains of sums: a row has at most some hundred pixels, so f32 loses nothing that matters.
        let (mut even, mut odd) = (L::splat(0.0), L::splat(0.0));
        let (mut max, mut min) = (L::splat(f32::NEG_INFINITY), L::splat(f32::INFINITY));
        for at in 0..pixels {
            let x = L::load(row.add(at * LANES));
            if at % 2 == 0 {
                even = even.add(x)
            } else {
                odd = odd.add(x)
            }
            // `max` and `min` give their second operand where one is NaN; the mean shows NaN anyway.
            max = max.max(x);
            min = min.min(x);
        }
        let mut lanes = [0f32; LANES];
        even.add(odd).store(lanes.as_mut_ptr());
        let mean = lanes.map(|sum| sum / pixels as f32);
        let centre = L::load(mean.as_ptr());
        let (mut even, mut odd) = (L::splat(0.0), L::splat(0.0));
        let mut rest = L::splat(0.0);
        for at in 0..pixels {
            let apart = L::load(row.add(at * LANES)).sub(centre);
            rest = rest.add(apart);
            let square = apart.mul(apart);
            if at % 2 == 0 { even = even.add(square) } else { odd = odd.add(square) }
        }
        let (mut spread, mut off) = ([0f32; LANES], [0f32; LANES]);
        even.add(odd).store(spread.as_mut_ptr());
        rest.store(off.as_mut_ptr());
        max.store(partial.max.as_mut_ptr());
        min.store(partial.min.as_mut_ptr());
        for lane in 0..LANES {
            // `rest` is what rounding left of the mean.
            let off = f64::from(off[lane]) / partial.count;
            partial.mean[lane] = f64::from(mean[lane]) + off;
            partial.spread[lane] = f64::from(spread[lane]) - off * off * partial.count;
        }
    }
    partial
}

/// Statistics of `rows` rows of `pixels` pixels, `row_stride` f32 apart.
///
/// # Safety
/// As the rows' lengths say, all must be readable.
pub(crate) unsafe fn rows_partial(
    isa: Isa,
    first: *const f32,
    rows: usize,
    row_stride: usize,
    pixels: usize,
) -> Partial {
    let mut all = Partial::NONE;
    for row in 0..rows {
        // SAFETY: the caller's contract.
        all.merge(&unsafe { row_partial(isa, first.add(row * row_stride), pixels) });
    }
    all
}

/// Mean, variance (biased) and extremes of every picture and channel, `[N][C]` with C rounded up to blocks.
///
/// A channel that holds NaN has NaN for a mean and a variance; its extremes may be those of the rest.
///
/// # Panics
/// All methods, if there is no such picture or channel.
#[derive(Debug, Clone)]
pub struct Statistics {
    pub(crate) partials: Vec<Partial>,
    pub(crate) blocks: usize,
}

impl Statistics {
    /// Merges the tasks' parts, `[picture][task][block]`, in their order.
    pub(crate) fn merge(parts: &[Partial], pictures: usize, blocks: usize) -> Self {
        let mut partials = vec![Partial::NONE; pictures * blocks];
        let tasks = parts.len() / (pictures * blocks).max(1);
        for picture in 0..pictures {
            for task in 0..tasks {
                for block in 0..blocks {
                    partials[picture * blocks + block].merge(&parts[(picture * tasks + task) * blocks + block]);
                }
            }
        }
        Self { partials, blocks }
    }

    /// Mean of a channel.
    pub fn mean(&self, picture: usize, channel: usize) -> f64 {
        self.partials[picture * self.blocks + channel / LANES].mean[channel % LANES]
    }

    /// Biased variance of a channel.
    pub fn variance(&self, picture: usize, channel: usize) -> f64 {
        let partial = &self.partials[picture * self.blocks + channel / LANES];
        // Not below zero; and NaN stays NaN, unlike with `max`.
        let variance = partial.spread[channel % LANES] / partial.count;
        if variance < 0.0 { 0.0 } else { variance }
    }

    /// Largest value of a channel.
    pub fn max(&self, picture: usize, channel: usize) -> f32 {
        self.partials[picture * self.blocks + channel / LANES].max[channel % LANES]
    }

    /// Smallest value of a channel.
    pub fn min(&self, picture: usize, channel: usize) -> f32 {
        self.partials[picture * self.blocks + channel / LANES].min[channel % LANES]
    }
}
