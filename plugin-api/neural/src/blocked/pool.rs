//! Maximum and average over windows, in two and three dimensions.

use super::buffer::{Store, Target};
use super::{Blocked, MOST_PADDING, Shape};
use crate::Isa;
use crate::engine::Engine;
use crate::kernels::LANES;
use crate::kernels::lanes::for_lanes;
use candle_core::{Result, bail};
use rayon::prelude::*;

/// What becomes of a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pooling {
    /// The largest value; NaN if there is one. The border counts as minus infinity.
    Max,
    /// The sum divided by the pixels of the window, border included: PyTorch's `count_include_pad=True`.
    Average,
    /// The sum divided by those pixels of the window that lie in the picture: `count_include_pad=False`.
    AverageInside,
}

/// A window that slides over a picture, `[depth, height, width]`; the picture's size is rounded down
/// (`ceil_mode=False`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pool {
    /// What becomes of a window.
    pub pooling: Pooling,
    /// Size of the window.
    pub kernel: [usize; 3],
    /// Step of the window.
    pub stride: [usize; 3],
    /// Border, at most half the window.
    pub padding: [usize; 3],
}

impl Pool {
    /// A window of one pixel.
    pub fn new(pooling: Pooling) -> Self {
        Self { pooling, kernel: [1; 3], stride: [1; 3], padding: [0; 3] }
    }

    /// Shape of the output for an input of `shape`.
    ///
    /// # Errors
    /// If the window is empty, the border more than half of it, or the window larger than the bordered picture.
    pub fn output(&self, shape: Shape) -> Result<Shape> {
        let mut size = [0; 3];
        for (axis, size) in size.iter_mut().enumerate() {
            let (kernel, stride, pad) = (self.kernel[axis], self.stride[axis], self.padding[axis]);
            if kernel == 0 || stride == 0 || pad > MOST_PADDING || 2 * pad > kernel {
                bail!("pooling: window {:?}, step {:?}, border {:?}", self.kernel, self.stride, self.padding)
            }
            match (shape.size[axis] + 2 * pad).checked_sub(kernel) {
                Some(room) if shape.size[axis] > 0 => *size = room / stride + 1,
                _ => bail!("pooling: window {:?} larger than the picture {:?}", self.kernel, shape.size),
            }
        }
        Ok(Shape { size, ..shape })
    }

    fn run(&self, isa: Isa, store: &Store, input: &Blocked) -> Result<Blocked> {
        let (from, out) = (input.shape, self.output(input.shape)?);
        out.check()?;
        let mut blocked = Blocked::take(store, out);
        let target = Target(blocked.data.as_mut_ptr().cast::<f32>());
        let [depth, height, width] = out.size;
        (0..out.pictures * out.blocks() * depth * height).into_par_iter().with_min_len(4).for_each(|row| {
            let (y, rest) = (row % height, row / height);
            let (z, block) = (rest % depth, rest / depth);
            // The part of the window that lies in the picture.
            let range = |axis: usize, at: usize| {
                let first = at * self.stride[axis];
                let last = (first + self.kernel[axis]).saturating_sub(self.padding[axis]).min(from.size[axis]);
                first.saturating_sub(self.padding[axis])..last
            };
            let job = Line {
                block: &input.data.as_f32()[block * input.block_stride()..(block + 1) * input.block_stride()],
                size: from.size,
                planes: range(0, z),
                rows: range(1, y),
                columns: &|x| range(2, x),
                pooling: self.pooling,
                window: self.kernel.iter().product(),
            };
            // SAFETY: every iteration owns one row.
            let line = unsafe { std::slice::from_raw_parts_mut(target.at(row * width * LANES), width * LANES) };
            // SAFETY: the instruction set is the engine's.
            unsafe { pool_line(isa, &job, line) };
        });
        Ok(blocked)
    }
}

impl Engine {
    /// Pools `input`.
    ///
    /// # Errors
    /// As [`Pool::output`].
    pub fn pool(&self, input: &Blocked, pool: &Pool) -> Result<Blocked> {
        pool.run(self.isa(), self.store(), input)
    }
}

/// A row of windows.
struct Line<'a> {
    block: &'a [f32],
    size: [usize; 3],
    planes: std::ops::Range<usize>,
    rows: std::ops::Range<usize>,
    columns: &'a dyn Fn(usize) -> std::ops::Range<usize>,
    pooling: Pooling,
    window: usize,
}

for_lanes! {
    /// # Safety
    /// The instruction set must be there.
    unsafe fn pool_line(line: &Line<'_>, out: &mut [f32]) = pool_line_body
}

/// Plain Rust over whole cells, which each instruction set compiles into its own vectors.
#[inline(always)]
unsafe fn pool_line_body<L: crate::kernels::lanes::Lanes>(line: &Line<'_>, out: &mut [f32]) {
    for (x, out) in out.chunks_exact_mut(LANES).enumerate() {
        let columns = (line.columns)(x);
        let start = if line.pooling == Pooling::Max { f32::NEG_INFINITY } else { 0.0 };
        let mut all = [start; LANES];
        for z in line.planes.clone() {
            for y in line.rows.clone() {
                let row = (z * line.size[1] + y) * line.size[2];
                let cells = &line.block[(row + columns.start) * LANES..(row + columns.end) * LANES];
                for cell in cells.chunks_exact(LANES) {
                    for (all, &x) in all.iter_mut().zip(cell) {
                        *all = match line.pooling {
                            // NaN stays, and comes in: it is not smaller than anything.
                            Pooling::Max if all.is_nan() || *all >= x => *all,
                            Pooling::Max => x,
                            Pooling::Average | Pooling::AverageInside => *all + x,
                        };
                    }
                }
            }
        }
        let count = match line.pooling {
            Pooling::Max => 1,
            Pooling::Average => line.window,
            Pooling::AverageInside => line.planes.len() * line.rows.len() * columns.len(),
        };
        for (out, all) in out.iter_mut().zip(all) {
            *out = all / count as f32;
        }
    }
}
