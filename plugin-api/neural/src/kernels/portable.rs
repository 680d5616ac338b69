//! The inner product in plain Rust, for every target.

use super::lanes::widened;
use super::{Block, CELL, Element, Kernel, LANES};

const MOST: usize = 8;

/// A 32-bit group times a panel's weights, added to 16 sums.
trait Product {
    type Sum: Copy + Default;
    /// # Safety
    /// `cell` has 4 readable bytes, `weights` [`CELL`].
    unsafe fn add(sums: &mut [Self::Sum; LANES], cell: *const u8, weights: *const u8);
    fn finish(sum: Self::Sum, scale: impl Fn() -> f32, bias: f32) -> f32;
}

struct Single;
struct Brain;
struct Byte;

impl Product for Single {
    type Sum = f32;

    #[inline(always)]
    unsafe fn add(sums: &mut [f32; LANES], cell: *const u8, weights: *const u8) {
        // SAFETY: the caller's contract.
        let (cell, weights) = unsafe { (cell.cast::<f32>().read_unaligned(), weights.cast::<[f32; LANES]>().read()) };
        for (sum, weight) in sums.iter_mut().zip(weights) {
            *sum += cell * weight;
        }
    }

    fn finish(sum: f32, _: impl Fn() -> f32, bias: f32) -> f32 {
        sum + bias
    }
}

impl Product for Brain {
    type Sum = f32;

    #[inline(always)]
    unsafe fn add(sums: &mut [f32; LANES], cell: *const u8, weights: *const u8) {
        // SAFETY: the caller's contract.
        let (cell, weights) =
            unsafe { (cell.cast::<[u16; 2]>().read_unaligned(), weights.cast::<[[u16; 2]; LANES]>().read()) };
        for (sum, weight) in sums.iter_mut().zip(weights) {
            *sum += widened(cell[0]) * widened(weight[0]);
            *sum += widened(cell[1]) * widened(weight[1]);
        }
    }

    fn finish(sum: f32, _: impl Fn() -> f32, bias: f32) -> f32 {
        sum + bias
    }
}

impl Product for Byte {
    type Sum = i32;

    #[inline(always)]
    unsafe fn add(sums: &mut [i32; LANES], cell: *const u8, weights: *const u8) {
        // SAFETY: the caller's contract.
        let (cell, weights) = unsafe { (cell.cast::<[u8; 4]>().read(), weights.cast::<[[i8; 4]; LANES]>().read()) };
        for (sum, weight) in sums.iter_mut().zip(weights) {
            for (cell, weight) in cell.into_iter().zip(weight) {
                *sum += i32::from(cell) * i32::from(weight);
            }
        }
    }

    fn finish(sum: i32, scale: impl Fn() -> f32, bias: f32) -> f32 {
        sum as f32 * scale() + bias
    }
}

unsafe fn run<T: Product>(block: &Block<'_>) {
    for panel in 0..block.panels {
        let mut sums = [[T::Sum::default(); LANES]; MOST];
        // SAFETY: the contract of `Kernel::run`.
        unsafe {
            for step in block.steps {
                let cells = step.cell.add(block.offset);
                let weights = block.weights.add(step.weight + panel * CELL);
                for group in 0..step.groups {
                    for (pixel, sums) in sums.iter_mut().enumerate().take(block.pixels) {
                        let cell = cells.add(pixel * block.pixel_stride + 4 * group);
                        T::add(sums, cell, weights.add(group * block.panels * CELL));
                    }
                }
            }
            for (pixel, sums) in sums.into_iter().enumerate().take(block.pixels) {
                let out = block.out.add(pixel * block.out_stride + panel * block.panel_stride);
                for (lane, sum) in sums.into_iter().enumerate() {
                    let at = panel * LANES + lane;
                    let base = if block.accumulate { out.add(lane) } else { block.bias.add(at) };
                    out.add(lane).write(T::finish(sum, || block.scale.add(at).read(), base.read()));
                }
            }
        }
    }
}

pub(super) fn kernel(element: Element) -> Kernel {
    let run = match element {
        Element::F32 => run::<Single>,
        Element::Bf16 => run::<Brain>,
        Element::U8 => run::<Byte>,
    };
    Kernel { run, near: MOST, far: MOST, tiles: false }
}
