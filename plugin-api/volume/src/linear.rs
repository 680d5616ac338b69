//! Linear interpolation of a volume (order 1).

use std::array::from_fn;
use std::ops::Range;

use crate::interpolate::{AxisOrder, Block, LANES, Sums, each_block};
use crate::sample::Sample;
use crate::taps::{Stretch, Taps};

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

    /// Finds the input rows that a block needs: before any other call for the block.
    pub fn place(&mut self, grid: &Grid, block: Block) {
        self.needed.clear();
        for lane in 0..LANES {
            let first = grid.axes[1].first[block.row(lane)];
            for (b, position) in self.position[lane].iter_mut().enumerate() {
                // Rows ascend with the lane, so what is known already stands among the last two.
                let found = self.needed.iter().rposition(|&r| r == first + b);
                *position = found.unwrap_or_else(|| {
                    self.needed.push(first + b);
                    self.needed.len() - 1
                });
            }
        }
    }

    /// The part `needs` of every padded input row that a block needs, without the replicated ends.
    pub fn inputs<'a, S: Sample>(
        &'a self,
        volume: &'a [S],
        grid: &'a Grid,
        block: Block,
        needs: Range<usize>,
    ) -> impl Iterator<Item = &'a [S]> {
        let [nz, ny, nx] = grid.size;
        let span = needs.start.max(1) - 1..needs.end.min(nx + 1) - 1;
        [0, 1].into_iter().flat_map(move |a| {
            let plane = (grid.axes[0].first[block.z] + a).clamp(1, nz) - 1;
            let span = span.clone();
            self.needed.iter().map(move |&row| &volume[(plane * ny + row.clamp(1, ny) - 1) * nx..][span.clone()])
        })
    }

    /// Interpolates the output voxels `x` of one block of one volume into the first of the sums.
    pub fn stretch<S: Sample>(&mut self, volume: &[S], grid: &Grid, block: Block, x: Stretch<'_, 2>) {
        let nx = grid.size[2];
        let needs = x.needs();
        let length = needs.len();
        // One replicated value where the part begins or ends with the line.
        let (before, after) = (usize::from(needs.start == 0), usize::from(needs.end == nx + 2));
        let mut rows = std::mem::take(&mut self.rows);
        for (out, input) in rows.chunks_mut(length).zip(self.inputs(volume, grid, block, needs)) {
            S::widen(input, &mut out[before..length - after]);
            out[0] = out[before];
            out[length - 1] = out[length - 1 - after];
        }
        let (count, position) = (self.needed.len(), &self.position);
        let row = |a: usize, lane: usize, b: usize| &rows[(a * count + position[lane][b]) * length..][..length];
        let lines = from_fn(|a| from_fn(|lane| from_fn(|b| row(a, lane, b))));
        let wy = from_fn(|lane| grid.axes[1].weights[block.row(lane)]);
        self.sums.fill(grid.order, &lines, &grid.axes[0].weights[block.z], &wy, x);
        self.rows = rows;
    }

    /// Interpolates one block of one volume.
    pub fn block<S: Sample>(&mut self, volume: &[S], grid: &Grid, block: Block) {
        self.stretch(volume, grid, block, grid.axes[2].stretch(0..grid.axes[2].len()));
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
    if size[2] < grid.size[2] {
        // Fewer voxels than the lines have: fetching the neighbours is less work than turning whole lines upright.
        return scattered(volume, grid, out, convert);
    }
    each_block(
        out,
        size,
        || Scratch::new(grid),
        |scratch, block, rows| {
            scratch.place(grid, block);
            scratch.block(volume, grid, block);
            for (lane, row) in rows.chunks_mut(size[2]).enumerate() {
                for (out, sums) in row.iter_mut().zip(&scratch.sums.sums) {
                    convert(sums[lane], out);
                }
            }
        },
    );
}

/// [`linear`], voxel by voxel.
fn scattered<S: Sample, O: Send>(
    volume: &[S],
    grid: &Grid,
    out: &mut [O],
    convert: impl Fn(f64, &mut O) + Sync + Send,
) {
    let [nz, ny, nx] = grid.size;
    let size = grid.new_size();
    let [z, y, x] = &grid.axes;
    let pairs: Vec<[usize; 2]> = x.first.iter().map(|&first| [0, 1].map(|c| (first + c).clamp(1, nx) - 1)).collect();
    let turned = |a: usize, b: usize, c: usize| match grid.order {
        AxisOrder::Zyx => (a, b, c),
        AxisOrder::Xyz => (c, b, a),
    };
    each_block(
        out,
        size,
        || vec![0.0; size[2]],
        |sums, block, rows| {
            for (lane, row) in rows.chunks_mut(size[2]).enumerate() {
                let at = block.row(lane);
                let line = |a: usize, b: usize| {
                    let (z, y) = ((z.first[block.z] + a).clamp(1, nz) - 1, (y.first[at] + b).clamp(1, ny) - 1);
                    &volume[(z * ny + y) * nx..][..nx]
                };
                let lines = [[line(0, 0), line(0, 1)], [line(1, 0), line(1, 1)]];
                let (wz, wy) = (&z.weights[block.z], &y.weights[at]);
                // The eight neighbours in the order of the sum: which of each axis' two they are.
                let order: [(usize, usize, usize); 8] = from_fn(|i| turned(i >> 2, i >> 1 & 1, i & 1));
                match grid.order {
                    AxisOrder::Zyx => {
                        let (first, second) = (order.map(|o| wz[o.0]), order.map(|o| wy[o.1]));
                        for ((sum, pair), wx) in sums.iter_mut().zip(&pairs).zip(&x.weights) {
                            let third = [wx[0], wx[1], wx[0], wx[1], wx[0], wx[1], wx[0], wx[1]];
                            *sum = eight(order.map(|(a, b, c)| lines[a][b][pair[c]].real()), &first, &second, &third);
                        }
                    }
                    AxisOrder::Xyz => {
                        let (second, third) = (order.map(|o| wy[o.1]), order.map(|o| wz[o.0]));
                        for ((sum, pair), wx) in sums.iter_mut().zip(&pairs).zip(&x.weights) {
                            let first = [wx[0], wx[0], wx[0], wx[0], wx[1], wx[1], wx[1], wx[1]];
                            *sum = eight(order.map(|(a, b, c)| lines[a][b][pair[c]].real()), &first, &second, &third);
                        }
                    }
                }
                for (out, &sum) in row.iter_mut().zip(sums.iter()) {
                    convert(sum, out);
                }
            }
        },
    );
}

/// The sum of eight weighted neighbours, one after another.
#[inline(always)]
fn eight(values: [f64; 8], first: &[f64; 8], second: &[f64; 8], third: &[f64; 8]) -> f64 {
    let mut products = values;
    for (((product, first), second), third) in products.iter_mut().zip(first).zip(second).zip(third) {
        *product = ((*product * first) * second) * third;
    }
    products.iter().fold(0.0, |sum, product| sum + product)
}
