//! Linear interpolation of a volume (order 1).

use crate::interpolate::{AxisOrder, Block, LANES, Sums, each_block};
use crate::sample::Sample;
use crate::taps::Taps;

/// How the output lies on the input, axis by axis (z, y, x).
#[derive(Debug, Clone)]
pub(crate) struct Grid {
    /// Size of the input.
    pub size: [usize; 3],
    /// Neighbours along each axis.
    pub axes: [Taps<2>; 3],
    /// The order in which neighbours are added.
    pub order: AxisOrder,
}

impl Grid {
    /// Size of the output.
    pub fn new_size(&self) -> [usize; 3] {
        [self.axes[0].len(), self.axes[1].len(), self.axes[2].len()]
    }
}

/// Space for interpolating one block.
#[derive(Debug)]
pub(crate) struct Scratch {
    /// The sums of the block.
    pub sums: Sums,
    /// Input rows (padded indices) that the block needs, ascending.
    needed: Vec<usize>,
    /// Position in `needed` of each lane's first and second row.
    position: [[usize; 2]; LANES],
    /// The needed rows of both planes as padded double precision: `[plane][needed][x]`.
    rows: Vec<f64>,
}

impl Scratch {
    /// For blocks on this grid.
    pub fn new(grid: &Grid) -> Self {
        let padded = grid.size[2] + 2;
        Self {
            sums: Sums::new(padded, grid.axes[2].len()),
            needed: Vec::with_capacity(2 * LANES),
            position: [[0; 2]; LANES],
            rows: vec![0.0; padded * 2 * 2 * LANES],
        }
    }

    /// Interpolates one block of one volume.
    pub fn block<S: Sample>(&mut self, volume: &[S], grid: &Grid, block: Block) {
        let [nz, ny, nx] = grid.size;
        let padded = nx + 2;
        let [z, y, x] = &grid.axes;
        self.needed.clear();
        for lane in 0..LANES {
            let first = y.first[block.row(lane)];
            for (b, position) in self.position[lane].iter_mut().enumerate() {
                // Rows ascend with the lane, so what is known already stands among the last two.
                let found = self.needed.iter().rposition(|&r| r == first + b);
                *position = found.unwrap_or_else(|| {
                    self.needed.push(first + b);
                    self.needed.len() - 1
                });
            }
        }
        for a in 0..2 {
            let plane = (z.first[block.z] + a).clamp(1, nz) - 1;
            for (n, &row) in self.needed.iter().enumerate() {
                let from = (plane * ny + row.clamp(1, ny) - 1) * nx;
                let out = &mut self.rows[(a * 2 * LANES + n) * padded..][..padded];
                S::widen(&volume[from..from + nx], &mut out[1..=nx]);
                out[0] = out[1];
                out[nx + 1] = out[nx];
            }
        }
        let (rows, position) = (&self.rows, &self.position);
        let row = |a: usize, lane: usize, b: usize| &rows[(a * 2 * LANES + position[lane][b]) * padded..][..padded];
        let wy = std::array::from_fn(|lane| y.weights[block.row(lane)]);
        self.sums.fill(grid.order, row, &z.weights[block.z], &wy, x);
    }
}

/// Interpolates a volume; each double-precision sum is stored by `convert`. The lengths were checked by the caller.
pub(crate) fn linear<S: Sample, O: Send>(
    volume: &[S],
    grid: &Grid,
    out: &mut [O],
    convert: impl Fn(f64, &mut O) + Sync + Send,
) {
    let size = grid.new_size();
    each_block(
        out,
        size,
        || Scratch::new(grid),
        |scratch, block, rows| {
            scratch.block(volume, grid, block);
            for (lane, row) in rows.chunks_mut(size[2]).enumerate() {
                for (out, sums) in row.iter_mut().zip(&scratch.sums.sums) {
                    convert(sums[lane], out);
                }
            }
        },
    );
}
