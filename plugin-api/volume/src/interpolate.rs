//! The sum of weighted neighbours, in scipy's order, for several output rows at once.
//!
//! scipy adds the neighbours of a voxel in raster order (first axis slowest), each as `((value * w0) * w1) * w2`. Which
//! axis is the first depends on how the reference program holds its array: see [`AxisOrder`]. Here [`LANES`] output rows
//! are computed together: they share the neighbours along x and keep that order each for itself, so the sums have scipy's
//! bits while the processor works on all rows in one instruction.

use rayon::prelude::*;

use crate::taps::Taps;

/// The order of axes in the array that the reference program resamples. The volume here is `[z, y, x]` either way; the
/// order decides in which order neighbours are added, and so the last bit of a sum, and what truncation makes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AxisOrder {
    /// `array[z, y, x]`: nnU-Net, SimpleITK.
    Zyx,
    /// `array[x, y, z]`: nibabel, and so TotalSegmentator.
    Xyz,
}

/// Output rows computed together.
pub(crate) const LANES: usize = 8;

/// One value of each of [`LANES`] rows.
pub(crate) type Lanes = [f64; LANES];

/// The rows of one block: output plane `z`, rows `y..y + rows`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Block {
    pub z: usize,
    pub y: usize,
    pub rows: usize,
}

impl Block {
    /// Output row of a lane; lanes beyond the last row repeat it.
    pub fn row(&self, lane: usize) -> usize {
        self.y + lane.min(self.rows - 1)
    }
}

/// Runs over the output in blocks of rows, in parallel; `work` gets scratch space, the block and its rows of the output.
pub(crate) fn each_block<O: Send, S: Send>(
    out: &mut [O],
    size: [usize; 3],
    scratch: impl Fn() -> S + Sync + Send,
    work: impl Fn(&mut S, Block, &mut [O]) + Sync + Send,
) {
    let [_, ny, nx] = size;
    out.par_chunks_mut(ny * nx)
        .enumerate()
        .flat_map(|(z, plane)| plane.par_chunks_mut(LANES * nx).enumerate().map(move |(b, rows)| (z, b, rows)))
        .for_each_init(scratch, |scratch, (z, b, rows)| {
            work(scratch, Block { z, y: b * LANES, rows: rows.len() / nx }, rows);
        });
}

/// Space for one block: the sums (one per output voxel of a row), and one line of weighted values.
#[derive(Debug)]
pub(crate) struct Sums {
    line: Vec<Lanes>,
    /// Lines as they are, for the order x, y, z: `[a][b][x]`.
    lines: Vec<Lanes>,
    padded: usize,
    /// The sums, `[x][lane]`.
    pub sums: Vec<Lanes>,
}

impl Sums {
    /// For lines of `padded` values and output rows of `new` voxels.
    pub fn new(padded: usize, new: usize) -> Self {
        Self { line: vec![[0.0; LANES]; padded], lines: Vec::new(), padded, sums: vec![[0.0; LANES]; new] }
    }

    /// Interpolates one block in the given order. `row(a, lane, b)` is the padded line of neighbour plane `a` and
    /// neighbour row `b` of a lane; `wz` the weights of the planes, `wy` those of the rows of each lane.
    pub fn fill<'a, const N: usize>(
        &mut self,
        order: AxisOrder,
        row: impl Fn(usize, usize, usize) -> &'a [f64],
        wz: &[f64; N],
        wy: &[[f64; N]; LANES],
        x: &Taps<N>,
    ) {
        match order {
            AxisOrder::Zyx => self.fill_zyx(row, wz, wy, x),
            AxisOrder::Xyz => self.fill_xyz(row, wz, wy, x),
        }
    }

    /// With x the first axis: no product of weights is shared along a row.
    fn fill_xyz<'a, const N: usize>(
        &mut self,
        row: impl Fn(usize, usize, usize) -> &'a [f64],
        wz: &[f64; N],
        wy: &[[f64; N]; LANES],
        x: &Taps<N>,
    ) {
        self.lines.resize(self.padded * N * N, [0.0; LANES]);
        for (n, lines) in self.lines.chunks_exact_mut(self.padded).enumerate() {
            for lane in 0..LANES {
                for (line, &value) in lines.iter_mut().zip(row(n / N, lane, n % N)) {
                    line[lane] = value;
                }
            }
        }
        // [b][lane]
        let wy: [Lanes; N] = std::array::from_fn(|b| std::array::from_fn(|lane| wy[lane][b]));
        for ((sum, &first), wx) in self.sums.iter_mut().zip(&x.first).zip(&x.weights) {
            *sum = [0.0; LANES];
            for (c, &wx) in wx.iter().enumerate() {
                for (b, wy) in wy.iter().enumerate() {
                    for (a, &wz) in wz.iter().enumerate() {
                        let values = &self.lines[(a * N + b) * self.padded + first + c];
                        for ((sum, &value), &wy) in sum.iter_mut().zip(values).zip(wy) {
                            *sum += ((value * wx) * wy) * wz;
                        }
                    }
                }
            }
        }
    }

    /// With z the first axis (of one plane, `A = 1`, y).
    pub fn fill_zyx<'a, const A: usize, const N: usize>(
        &mut self,
        row: impl Fn(usize, usize, usize) -> &'a [f64],
        wz: &[f64; A],
        wy: &[[f64; N]; LANES],
        x: &Taps<N>,
    ) {
        self.sums.fill([0.0; LANES]);
        for (a, &wz) in wz.iter().enumerate() {
            for b in 0..N {
                for (lane, wy) in wy.iter().enumerate() {
                    let wy = wy[b];
                    for (line, &value) in self.line.iter_mut().zip(row(a, lane, b)) {
                        line[lane] = (value * wz) * wy;
                    }
                }
                add(&mut self.sums, &self.line, x);
            }
        }
    }

    /// Copies a lane's sums into a row of the output.
    pub fn put<O>(&self, lane: usize, out: &mut [O], convert: impl Fn(f64) -> O) {
        for (out, sums) in out.iter_mut().zip(&self.sums) {
            *out = convert(sums[lane]);
        }
    }
}

/// Adds the neighbours along x of one weighted line.
fn add<const N: usize>(sums: &mut [Lanes], line: &[Lanes], x: &Taps<N>) {
    for ((sum, &first), weights) in sums.iter_mut().zip(&x.first).zip(&x.weights) {
        let taps = &line[first..first + N];
        for (tap, &weight) in taps.iter().zip(weights) {
            for (sum, &value) in sum.iter_mut().zip(tap) {
                *sum += value * weight;
            }
        }
    }
}
