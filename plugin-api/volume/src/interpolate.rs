//! The sum of weighted neighbours, in scipy's order, for several output rows at once.
//!
//! scipy adds the neighbours of a voxel in raster order (first axis slowest), each as `((value * w0) * w1) * w2`. Which
//! axis is the first depends on how the reference program holds its array: see [`AxisOrder`]. Here [`LANES`] output rows
//! are computed together: they share the neighbours along x and keep that order each for itself, so the sums have scipy's
//! bits while the processor works on all rows in one instruction.

use rayon::prelude::*;

use crate::taps::Stretch;
use crate::vector::vectorised;

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

/// The padded lines (or the needed part of them) of a block's neighbours: `[plane][lane][row]`.
pub(crate) type Lines<'a, const A: usize, const N: usize> = [[[&'a [f64]; N]; LANES]; A];

/// Space for one block: the sums (one per output voxel of a row), and lines whose elements are those of all lanes.
#[derive(Debug)]
pub(crate) struct Sums {
    /// Length of a padded line.
    padded: usize,
    /// One line, or all of a block: `[plane][row][x]`.
    lines: Vec<Lanes>,
    /// The sums, `[x][lane]`.
    pub sums: Vec<Lanes>,
}

impl Sums {
    /// For lines of `padded` values and output rows of `new` voxels.
    pub fn new(padded: usize, new: usize) -> Self {
        Self { padded, lines: Vec::new(), sums: vec![[0.0; LANES]; new] }
    }

    /// Interpolates one block, or a stretch of it (the first of the sums), in the given order; `wz` are the weights of the planes, `wy` those of the rows of each lane.
    pub fn fill<const N: usize>(
        &mut self,
        order: AxisOrder,
        lines: &Lines<'_, N, N>,
        wz: &[f64; N],
        wy: &[[f64; N]; LANES],
        x: Stretch<'_, N>,
    ) {
        match order {
            AxisOrder::Zyx => self.fill_zyx(lines, wz, wy, x),
            AxisOrder::Xyz => {
                self.lines.resize(self.padded * N * N, [0.0; LANES]);
                vectorised(|| xyz(&mut self.sums, &mut self.lines, self.padded, lines, wz, wy, x));
            }
        }
    }

    /// With z the first axis (of one plane, `A = 1`, y).
    pub fn fill_zyx<const A: usize, const N: usize>(
        &mut self,
        lines: &Lines<'_, A, N>,
        wz: &[f64; A],
        wy: &[[f64; N]; LANES],
        x: Stretch<'_, N>,
    ) {
        self.lines.resize(self.padded, [0.0; LANES]);
        vectorised(|| zyx(&mut self.sums, &mut self.lines, lines, wz, wy, x));
    }

    /// Copies a lane's sums into a row of the output.
    pub fn put<O>(&self, lane: usize, out: &mut [O], convert: impl Fn(f64) -> O) {
        for (out, sums) in out.iter_mut().zip(&self.sums) {
            *out = convert(sums[lane]);
        }
    }
}

/// Turns lines upright: element x of every lane, each times `weights[lane]` after `weight`.
#[inline(always)]
fn turn(out: &mut [Lanes], lines: [&[f64]; LANES], weight: f64, weights: &Lanes) {
    let n = out.len().min(lines[0].len());
    let [a, b, c, d, e, f, g, h] = lines.map(|line| &line[..n]);
    for (x, out) in out[..n].iter_mut().enumerate() {
        let values = [a[x], b[x], c[x], d[x], e[x], f[x], g[x], h[x]];
        for ((out, value), &own) in out.iter_mut().zip(values).zip(weights) {
            *out = (value * weight) * own;
        }
    }
}

/// Products of the first two weights are formed once for a line, then the neighbours along x are added.
#[inline(always)]
fn zyx<const A: usize, const N: usize>(
    sums: &mut [Lanes],
    line: &mut [Lanes],
    lines: &Lines<'_, A, N>,
    wz: &[f64; A],
    wy: &[[f64; N]; LANES],
    x: Stretch<'_, N>,
) {
    sums.fill([0.0; LANES]);
    for (plane, &wz) in lines.iter().zip(wz) {
        for b in 0..N {
            turn(line, std::array::from_fn(|lane| plane[lane][b]), wz, &wy.map(|w| w[b]));
            for ((sum, &first), weights) in sums.iter_mut().zip(x.first).zip(x.weights) {
                let taps = &line[first - x.base..][..N];
                for (tap, &weight) in taps.iter().zip(weights) {
                    for (sum, &value) in sum.iter_mut().zip(tap) {
                        *sum += value * weight;
                    }
                }
            }
        }
    }
}

/// With x the first axis no product of weights is shared along a row.
#[inline(always)]
fn xyz<const N: usize>(
    sums: &mut [Lanes],
    turned: &mut [Lanes],
    padded: usize,
    lines: &Lines<'_, N, N>,
    wz: &[f64; N],
    wy: &[[f64; N]; LANES],
    x: Stretch<'_, N>,
) {
    for (n, turned) in turned.chunks_exact_mut(padded).enumerate() {
        turn(turned, std::array::from_fn(|lane| lines[n / N][lane][n % N]), 1.0, &[1.0; LANES]);
    }
    let wy: [Lanes; N] = std::array::from_fn(|b| wy.map(|w| w[b]));
    for ((sum, &first), wx) in sums.iter_mut().zip(x.first).zip(x.weights) {
        let mut total = [0.0; LANES];
        for (c, &wx) in wx.iter().enumerate() {
            for (b, wy) in wy.iter().enumerate() {
                for (a, &wz) in wz.iter().enumerate() {
                    let values = &turned[(a * N + b) * padded + first - x.base + c];
                    for ((total, &value), &wy) in total.iter_mut().zip(values).zip(wy) {
                        *total += ((value * wx) * wy) * wz;
                    }
                }
            }
        }
        *sum = total;
    }
}
