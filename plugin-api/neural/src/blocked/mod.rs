//! Activations as the kernels want them: channels in blocks, one block of a pixel side by side.
//!
//! * [`Blocked`]: f32 `[N][C / 16][D][H][W][16]`, what convolutions give and what is normalised, added and pooled;
//! * [`Cells`]: `[part][N][C / b][D + 2d][H + 2h][W + 2w][b]` in the element of the next convolution with its border
//!   inside, what convolutions take.
//!
//! Two-dimensional networks have D = 1. Channels beyond C in the last block are zeros.

pub(crate) mod buffer;
mod cells;
mod enlarge;
mod finish;
mod pixels;
mod planes;
mod pool;
mod statistics;

pub use cells::{Cells, Edge, Entry};
pub use enlarge::Enlarge;
pub use finish::Finish;
pub use pixels::pixel_gate;
pub(crate) use planes::Window;
pub use pool::{Pool, Pooling};
pub use statistics::Statistics;
pub(crate) use statistics::{Partial, rows_partial};

use crate::kernels::LANES;
use buffer::{Buffer, Store, Target};
use candle_core::{Result, bail};
use rayon::prelude::*;

/// Widest border of a layer, in pixels.
pub(crate) const MOST_PADDING: usize = 100;

/// Shape of an activation: pictures, channels, and `[depth, height, width]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Pictures of the batch.
    pub pictures: usize,
    /// Channels.
    pub channels: usize,
    /// `[depth, height, width]`; depth is 1 for pictures.
    pub size: [usize; 3],
}

impl Shape {
    /// Pixels of one channel of one picture.
    pub fn pixels(&self) -> usize {
        self.size.iter().product()
    }

    /// Whether there is something, and it can be addressed with any border that a layer may add.
    pub(crate) fn check(&self) -> Result<()> {
        let sides = self.size.map(|side| side.checked_add(2 * MOST_PADDING + 16).filter(|_| side > 0));
        let channels = self.channels.checked_next_multiple_of(64).filter(|&channels| channels > 0);
        let all = [Some(self.pictures), channels].into_iter().chain(sides);
        // Two buffers of f32 or bf16 each.
        match all.into_iter().try_fold(8usize, |bytes, factor| bytes.checked_mul(factor?)) {
            Some(bytes) if bytes > 0 && isize::try_from(bytes).is_ok() => Ok(()),
            _ => bail!("{self:?} is empty or too large"),
        }
    }

    /// Blocks of 16 channels of one picture.
    pub(crate) fn blocks(&self) -> usize {
        self.channels.div_ceil(LANES)
    }
}

/// f32 activations in blocks of 16 channels, `[N][C / 16][D][H][W][16]`.
pub struct Blocked {
    pub(crate) shape: Shape,
    pub(crate) data: Buffer,
    /// Of every picture and channel, where the layer that made this gathered them.
    pub(crate) statistics: Option<Statistics>,
}

impl Blocked {
    /// Memory for `shape`, not yet written.
    pub(crate) fn take(store: &Store, shape: Shape) -> Self {
        let bytes = shape.pictures * shape.blocks() * shape.pixels() * LANES * 4;
        Self { shape, data: store.take(bytes), statistics: None }
    }

    /// Blocks of `shape` that `task(picture, number, memory)` writes, `tasks` of them to a picture, side by side. Each gives
    /// the statistics of what it wrote, one part per block, or nothing where they are not wanted.
    pub(crate) fn by_tasks(
        store: &Store,
        shape: Shape,
        tasks: usize,
        statistics: bool,
        task: impl Fn(usize, usize, Target<f32>) -> Vec<Partial> + Sync,
    ) -> Self {
        let mut blocked = Self::take(store, shape);
        let memory = Target(blocked.data.as_mut_ptr().cast::<f32>());
        let parts: Vec<Vec<Partial>> =
            (0..shape.pictures * tasks).into_par_iter().map(|at| task(at / tasks, at % tasks, memory)).collect();
        if statistics {
            blocked.statistics = Some(Statistics::merge(&parts.concat(), shape.pictures, shape.blocks()));
        }
        blocked
    }

    /// Its shape.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// Mean, variance and extremes of every channel, where the layer that made this gathered them.
    pub fn statistics(&self) -> Option<&Statistics> {
        self.statistics.as_ref()
    }

    /// f32 between blocks.
    pub(crate) fn block_stride(&self) -> usize {
        self.shape.pixels() * LANES
    }
}
