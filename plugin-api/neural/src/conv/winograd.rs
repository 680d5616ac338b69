//! Winograd's convolution F(4x4, 3x3) in f32: a quarter of the products of a 3 x 3 convolution of stride 1.
//!
//! Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks" (2016). A tile of 6 x 6 input cells becomes 36
//! transformed cells; each of the 36 is multiplied with its own transformed weights by the kernels that serve the direct
//! convolution; 36 sums become 4 x 4 outputs. In space, the taps along depth are summed between the transforms, so a
//! plane is transformed once for the planes it serves. Nearest enlargement costs nothing: tiles read each cell twice.
//!
//! A tile with a value that is not finite would spread it over all its outputs; such a chunk is computed directly.

use super::direct::{Direct, Rows};
use super::packed::{Dense, Packed, block_offset};
use crate::blocked::buffer::{Buffer, Target};
use crate::blocked::{Blocked, Cells, Entry, Partial, Shape, Statistics, rows_partial};
use crate::engine::Engine;
use crate::kernels::lanes::{Lanes, for_lanes};
use crate::kernels::{Block, CELL, Element, Kernel, LANES, PANELS, Step, runs};
use rayon::prelude::*;

/// Outputs of a tile along an axis.
const OUT: usize = 4;
/// Inputs of a tile along an axis.
const IN: usize = 6;
const POINTS: usize = IN * IN;

/// `G` of F(4, 3): weights to points.
const WEIGHTS: [[f64; 3]; IN] = [
    [1.0 / 4.0, 0.0, 0.0],
    [-1.0 / 6.0, -1.0 / 6.0, -1.0 / 6.0],
    [-1.0 / 6.0, 1.0 / 6.0, -1.0 / 6.0],
    [1.0 / 24.0, 1.0 / 12.0, 1.0 / 6.0],
    [1.0 / 24.0, -1.0 / 12.0, 1.0 / 6.0],
    [0.0, 0.0, 1.0],
];

/// Transformed weights and what is needed to do without them.
pub(super) struct Winograd {
    /// One per point.
    points: Vec<Packed>,
    /// Taps along depth.
    depth: usize,
    /// Whether tiles read an input enlarged by two along `[height, width]`.
    enlarged: [bool; 2],
    /// Computes chunks with values that are not finite.
    direct: Direct,
}

/// How many tiles of rows and planes one task takes.
#[derive(Clone, Copy)]
struct Chunk {
    planes: usize,
    rows: usize,
    /// Tiles across.
    columns: usize,
    /// Planes of input that serve `planes` of output.
    input_planes: usize,
}

impl Winograd {
    /// `weight(output, input, tap)` with taps `[depth][3][3]`.
    pub(super) fn new(
        entry: &Entry,
        outputs: usize,
        inputs: &[usize],
        depth: usize,
        enlarged: [bool; 2],
        weight: &Dense<'_>,
        direct: Direct,
    ) -> Self {
        let entry = Entry { element: Element::F32, split: false, ..*entry };
        let points = (0..POINTS)
            .into_par_iter()
            .map(|point| {
                let (row, column) = (WEIGHTS[point / IN], WEIGHTS[point % IN]);
                let transformed = |output: usize, input: usize, z: usize| {
                    let mut sum = 0f64;
                    for (y, row) in row.iter().enumerate() {
                        for (x, column) in column.iter().enumerate() {
                            sum += row * column * f64::from(weight(output, input, (z * 3 + y) * 3 + x));
                        }
                    }
                    sum as f32
                };
                Packed::new(&entry, outputs, inputs, depth, &transformed, &[])
            })
            .collect();
        Self { points, depth, enlarged, direct }
    }

    /// Bytes of the weights.
    pub(super) fn bytes(&self) -> usize {
        self.points.iter().map(Packed::bytes).sum::<usize>() + self.direct.bytes()
    }

    fn chunk(&self, out: [usize; 3], channels: usize) -> Chunk {
        let (rows, columns) = (out[1].div_ceil(OUT), out[2].div_ceil(OUT));
        // Enough tiles that reading the weights is paid for, few enough that what lies between the transforms stays
        // in the cache.
        let tiles = if channels >= 128 { 64 } else { 96 };
        let planes = if self.depth == 1 { 1 } else { out[0].min(if columns <= 4 { 8 } else { 4 }) };
        let rows = (tiles / (columns * planes)).clamp(1, rows);
        Chunk { planes, rows, columns, input_planes: planes + self.depth - 1 }
    }

    /// Convolves into new blocks of `out`; `bias` is per channel, rounded up to blocks.
    pub(super) fn forward(
        &self,
        engine: &Engine,
        inputs: &[&Cells],
        out: Shape,
        bias: &[f32],
        statistics: bool,
    ) -> Blocked {
        let mut blocked = Blocked::take(engine.store(), out);
        let target = Target(blocked.data.as_mut_ptr().cast::<f32>());
        let channels: usize = inputs.iter().map(|input| input.shape.channels).sum();
        let chunk = self.chunk(out.size, channels);
        let across = out.size[1].div_ceil(OUT).div_ceil(chunk.rows);
        let tasks = out.size[0].div_ceil(chunk.planes) * across;
        let parts: Vec<Vec<Partial>> = (0..out.pictures * tasks)
            .into_par_iter()
            .map(|at| {
                let (picture, task) = (at / tasks, at % tasks);
                let corner = [task / across * chunk.planes, task % across * chunk.rows];
                self.task(engine, inputs, out, bias, chunk, picture, corner, target);
                let parts = partials(engine, out, chunk, picture, corner, target);
                let finite = |part: &Partial| part.mean.iter().all(|mean| mean.is_finite());
                if parts.iter().all(finite) {
                    return if statistics { parts } else { Vec::new() };
                }
                self.directly(engine, inputs, out, chunk, picture, corner, target);
                if statistics { partials(engine, out, chunk, picture, corner, target) } else { Vec::new() }
            })
            .collect();
        if statistics {
            blocked.statistics = Some(Statistics::merge(&parts.concat(), out.pictures, out.blocks()));
        }
        blocked
    }

    /// One chunk: tiles in, products at every point, tiles out.
    #[allow(clippy::too_many_arguments)]
    fn task(
        &self,
        engine: &Engine,
        inputs: &[&Cells],
        out: Shape,
        bias: &[f32],
        chunk: Chunk,
        picture: usize,
        [first_plane, first_row]: [usize; 2],
        target: Target<f32>,
    ) {
        let planes = chunk.planes.min(out.size[0] - first_plane);
        let rows = chunk.rows.min(out.size[1].div_ceil(OUT) - first_row);
        let plane_tiles = rows * chunk.columns;
        let tiles = planes * plane_tiles;
        let blocks_in: usize = inputs.iter().map(|input| input.layout().blocks).sum();
        // An odd number of cells between points, lest all 36 of a tile meet in the same set of the cache.
        let input_tiles = chunk.input_planes * plane_tiles;
        let point_in = (blocks_in * input_tiles) | 1;
        let point_out = (out.blocks() * tiles) | 1;
        let mut transformed = engine.store().take(POINTS * point_in * CELL);
        let mut sums = engine.store().take(POINTS * point_out * CELL);

        let mut block_at = 0;
        for input in inputs {
            for block in 0..input.layout().blocks {
                self.enter(
                    engine,
                    input,
                    picture,
                    block,
                    chunk,
                    rows,
                    [first_plane, first_row],
                    &mut transformed,
                    (block_at + block) * input_tiles,
                    point_in,
                );
            }
            block_at += input.layout().blocks;
        }

        let kernel = Kernel::of(engine.isa(), Element::F32);
        let most = kernel.pixels(CELL);
        let no_bias = [0f32; PANELS * LANES];
        kernel.task(|| {
            for (point, packed) in self.points.iter().enumerate() {
                let cells = transformed.as_ptr().wrapping_add(point * point_in * CELL);
                let to = sums.as_mut_ptr().wrapping_add(point * point_out * CELL).cast::<f32>();
                for set in 0..packed.sets() {
                    let panels = packed.width(set);
                    let mut steps: Vec<Step> = Vec::with_capacity(blocks_in * self.depth);
                    let mut first = 0;
                    for input in inputs {
                        for block in 0..input.layout().blocks {
                            let groups = LANES.min(input.shape.channels - block * LANES);
                            for tap in 0..self.depth {
                                let at = (first + block) * input_tiles + tap * plane_tiles;
                                let weight = (first + block) * self.depth + tap;
                                let cell = cells.wrapping_add(at * CELL);
                                steps.push(Step { cell, weight: block_offset(weight, panels), groups });
                            }
                        }
                        first += input.layout().blocks;
                    }
                    runs(tiles, most, |first, pixels| {
                        let block = Block {
                            steps: &steps,
                            offset: first * CELL,
                            pixel_stride: CELL,
                            pixels,
                            weights: packed.set(set),
                            panels,
                            out: to.wrapping_add((set * PANELS * tiles + first) * LANES),
                            out_stride: LANES,
                            panel_stride: tiles * LANES,
                            bias: no_bias.as_ptr(),
                            accumulate: false,
                            scale: no_bias.as_ptr(),
                        };
                        // SAFETY: the instruction set is the engine's; cells and sums lie in this task's own buffers,
                        // which are as large as the strides say.
                        unsafe { kernel.run(&block) };
                    });
                }
            }
        });

        for block in 0..out.blocks() {
            let bias: [f32; LANES] = std::array::from_fn(|lane| bias[block * LANES + lane]);
            for plane in 0..planes {
                for row in 0..rows {
                    let at = plane * plane_tiles + row * chunk.columns;
                    let y = (first_row + row) * OUT;
                    let from = ((picture * out.blocks() + block) * out.pixels()
                        + ((first_plane + plane) * out.size[1] + y) * out.size[2])
                        * LANES;
                    let job = Leave {
                        sums: sums.as_ptr().wrapping_add((block * tiles + at) * CELL).cast(),
                        point_stride: point_out * LANES,
                        tiles: chunk.columns,
                        bias: &bias,
                        // SAFETY: inside the output, at rows of this task.
                        out: unsafe { target.at(from) },
                        row_stride: out.size[2] * LANES,
                        rows: OUT.min(out.size[1] - y),
                        width: out.size[2],
                    };
                    // SAFETY: `sums` holds every point of these tiles; the rows are this task's.
                    unsafe { leave(engine.isa(), &job) };
                }
            }
        }
    }

    /// Transforms one block of input cells into `[point][block][plane][tile]`.
    #[allow(clippy::too_many_arguments)]
    fn enter(
        &self,
        engine: &Engine,
        input: &Cells,
        picture: usize,
        block: usize,
        chunk: Chunk,
        rows: usize,
        [first_plane, first_row]: [usize; 2],
        to: &mut Buffer,
        first: usize,
        point_stride: usize,
    ) {
        let layout = input.layout();
        let [depth, height, width] = layout.padded;
        for plane in 0..chunk.input_planes {
            let z = first_plane + plane;
            for row in 0..rows {
                let at = first + (plane * rows + row) * chunk.columns;
                let sources = |enlarged: bool, tile: usize, size: usize| -> [usize; IN] {
                    let lines = if enlarged {
                        [0, 1, 1, 2, 2, 3].map(|line| tile * OUT / 2 + line)
                    } else {
                        std::array::from_fn(|line| tile * OUT + line)
                    };
                    lines.map(|line| line.min(size)) // `size` itself is beyond the border: zeros
                };
                let lines = sources(self.enlarged[0], first_row + row, height);
                let start = picture * layout.picture_bytes + block * layout.block_bytes;
                let addresses = lines.map(|line| {
                    (z < depth && line < height).then(|| {
                        input.data.as_ptr().wrapping_add(start + z * layout.plane_bytes + line * layout.row_bytes)
                    })
                });
                let job = Enter {
                    lines: addresses,
                    tiles: chunk.columns,
                    enlarged: self.enlarged[1],
                    width,
                    to: to.as_mut_ptr().wrapping_add(at * CELL).cast(),
                    point_stride: point_stride * LANES,
                };
                // SAFETY: the lines are rows of the input, `to` has room for every point of these tiles.
                unsafe { enter(engine.isa(), &job) };
            }
        }
    }

    /// The chunk's outputs by the definition.
    #[allow(clippy::too_many_arguments)]
    fn directly(
        &self,
        engine: &Engine,
        inputs: &[&Cells],
        out: Shape,
        chunk: Chunk,
        picture: usize,
        [first_plane, first_row]: [usize; 2],
        target: Target<f32>,
    ) {
        let tables = self.direct.tables(inputs, picture);
        let step = self.direct.phases.step;
        let lattice: [usize; 3] = std::array::from_fn(|axis| out.size[axis].div_ceil(step[axis]));
        let planes = first_plane / step[0]..(first_plane + chunk.planes).div_ceil(step[0]).min(lattice[0]);
        let rows = first_row * OUT / step[1]..((first_row + chunk.rows) * OUT / step[1]).min(lattice[1]);
        for z in planes {
            let rows = Rows { picture, first: z * lattice[1] + rows.start, count: rows.len() };
            self.direct.task(engine, &tables, inputs, out, &rows, target);
        }
    }
}

/// Statistics of the chunk's output, one per block.
fn partials(
    engine: &Engine,
    out: Shape,
    chunk: Chunk,
    picture: usize,
    [first_plane, first_row]: [usize; 2],
    target: Target<f32>,
) -> Vec<Partial> {
    let planes = chunk.planes.min(out.size[0] - first_plane);
    let y = first_row * OUT;
    let rows = (chunk.rows * OUT).min(out.size[1] - y);
    (0..out.blocks())
        .map(|block| {
            let mut all = Partial::NONE;
            for plane in first_plane..first_plane + planes {
                let from =
                    ((picture * out.blocks() + block) * out.pixels() + (plane * out.size[1] + y) * out.size[2]) * LANES;
                let row = out.size[2];
                // SAFETY: rows of this chunk, written by its task.
                all.merge(&unsafe { rows_partial(engine.isa(), target.at(from), rows, row * LANES, row) });
            }
            all
        })
        .collect()
}

/// A row of tiles on its way in.
struct Enter {
    /// Six rows of cells; `None` is a row beyond the border, of zeros.
    lines: [Option<*const u8>; IN],
    tiles: usize,
    enlarged: bool,
    /// Cells of a row with its border.
    width: usize,
    to: *mut f32,
    /// f32 between points.
    point_stride: usize,
}

for_lanes! {
    /// # Safety
    /// The instruction set must be there; lines and target must be as long as the job says.
    unsafe fn enter(job: &Enter) = enter_body
}

/// `B^T` of F(4, 3) along one axis.
#[inline(always)]
unsafe fn enter_axis<L: Lanes>(d: [L; IN]) -> [L; IN] {
    // SAFETY: the caller's contract.
    unsafe {
        let (two, four, five) = (L::splat(2.0), L::splat(4.0), L::splat(5.0));
        let a = d[4].sub(four.mul(d[2]));
        let b = d[3].sub(four.mul(d[1]));
        let c = d[4].sub(d[2]);
        let e = two.mul(d[3].sub(d[1]));
        [
            four.mul(d[0]).sub(five.mul(d[2])).add(d[4]),
            a.add(b),
            a.sub(b),
            c.add(e),
            c.sub(e),
            four.mul(d[1]).sub(five.mul(d[3])).add(d[5]),
        ]
    }
}

#[inline(always)]
unsafe fn enter_body<L: Lanes>(job: &Enter) {
    // SAFETY: the caller's contract.
    unsafe {
        let zero = L::splat(0.0);
        for tile in 0..job.tiles {
            let columns: [usize; IN] = if job.enlarged {
                [0, 1, 1, 2, 2, 3].map(|column| tile * OUT / 2 + column)
            } else {
                std::array::from_fn(|column| tile * OUT + column)
            };
            let mut rows = [[zero; IN]; IN];
            for (line, row) in job.lines.iter().zip(&mut rows) {
                let Some(line) = line else { continue };
                let mut cells = [zero; IN];
                for (cell, &column) in cells.iter_mut().zip(&columns) {
                    if column < job.width {
                        *cell = L::load(line.add(column * CELL).cast());
                    }
                }
                *row = enter_axis(cells);
            }
            for column in 0..IN {
                let points = enter_axis([
                    rows[0][column],
                    rows[1][column],
                    rows[2][column],
                    rows[3][column],
                    rows[4][column],
                    rows[5][column],
                ]);
                for (row, point) in points.into_iter().enumerate() {
                    point.store(job.to.add((row * IN + column) * job.point_stride + tile * LANES));
                }
            }
        }
    }
}

/// A row of tiles on its way out.
struct Leave<'a> {
    sums: *const f32,
    /// f32 between points.
    point_stride: usize,
    tiles: usize,
    bias: &'a [f32; LANES],
    out: *mut f32,
    row_stride: usize,
    /// Rows of the output that are there.
    rows: usize,
    /// Pixels of an output row.
    width: usize,
}

for_lanes! {
    /// # Safety
    /// The instruction set must be there; sums and output must be as long as the job says.
    unsafe fn leave(job: &Leave<'_>) = leave_body
}

/// `A^T` of F(4, 3) along one axis.
#[inline(always)]
unsafe fn leave_axis<L: Lanes>(m: [L; IN]) -> [L; OUT] {
    // SAFETY: the caller's contract.
    unsafe {
        let (even, odd) = (m[1].add(m[2]), m[1].sub(m[2]));
        let (even2, odd2) = (m[3].add(m[4]), m[3].sub(m[4]));
        [
            m[0].add(even).add(even2),
            odd.add(L::splat(2.0).mul(odd2)),
            even.add(L::splat(4.0).mul(even2)),
            odd.add(L::splat(8.0).mul(odd2)).add(m[5]),
        ]
    }
}

#[inline(always)]
unsafe fn leave_body<L: Lanes>(job: &Leave<'_>) {
    // SAFETY: the caller's contract.
    unsafe {
        let bias = L::load(job.bias.as_ptr());
        for tile in 0..job.tiles {
            let mut columns = [[L::splat(0.0); OUT]; IN];
            for (column, to) in columns.iter_mut().enumerate() {
                let load = |row: usize| L::load(job.sums.add((row * IN + column) * job.point_stride + tile * LANES));
                *to = leave_axis([load(0), load(1), load(2), load(3), load(4), load(5)]);
            }
            for row in 0..job.rows {
                let values = leave_axis([
                    columns[0][row],
                    columns[1][row],
                    columns[2][row],
                    columns[3][row],
                    columns[4][row],
                    columns[5][row],
                ]);
                for (column, value) in values.into_iter().enumerate() {
                    let x = tile * OUT + column;
                    if x < job.width {
                        value.add(bias).store(job.out.add(row * job.row_stride + x * LANES));
                    }
                }
            }
        }
    }
}
