//! Winograd's convolution F(4x4, 3x3) in f32: a quarter of the products of a 3 x 3 convolution of stride 1; with F(2, 3)
//! along depth a sixth of those of a 3 x 3 x 3 convolution.
//!
//! Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks" (2016). A tile of 6 x 6 input cells (of 4 planes)
//! becomes 36 (144) transformed cells; each point is multiplied with its own transformed weights by the kernels that
//! serve the direct convolution; the sums become 4 x 4 outputs (of 2 planes). Kernels of another depth than 3 sum their
//! taps along depth between the transforms, so a plane is transformed once for the planes it serves. Nearest enlargement
//! costs nothing: tiles read each cell twice.
//!
//! A tile with a value that is not finite spreads it over all its outputs; such a chunk is computed directly where the
//! weights for that are kept.

mod transforms;

use super::direct::{Direct, Rows};
use super::packed::{Dense, Packed, block_offset};
use crate::blocked::buffer::{Buffer, Target};
use crate::blocked::{Blocked, Cells, Entry, Partial, Shape, rows_partial};
use crate::engine::Engine;
use crate::kernels::{Block, CELL, Element, Kernel, LANES, PANELS, Step, runs};
use rayon::prelude::*;
use transforms::{DEEP, DEEP_WEIGHTS, Enter, FLAT, IN, Leave, Lines, Mix, OUT, PAIR, Scratch, WEIGHTS};
use transforms::{enter, leave};

/// Fewer tiles than this in the whole picture, and reading the transformed weights takes longer than the convolution.
const FEW: usize = 8;
/// Fewer tasks than this, and a task's steps are spread over the threads as well.
const MANY: usize = 16;

/// Transformed weights and what is needed to do without them.
pub(super) struct Winograd {
    /// One per point, those along depth slowest.
    points: Vec<Packed>,
    /// Taps along depth that are summed between the transforms.
    taps: usize,
    /// Points along depth: 1, or [`DEEP`].
    deep: usize,
    /// Whether tiles read an input enlarged by two along `[height, width]`.
    enlarged: [bool; 2],
    /// Computes chunks with values that are not finite, and pictures of few tiles.
    direct: Option<Direct>,
}

/// How many tiles one task takes. A group is a plane of output, or a pair of planes that share points.
#[derive(Clone, Copy)]
struct Chunk {
    groups: usize,
    /// Planes of output of a group.
    planes: usize,
    rows: usize,
    /// Tiles across.
    columns: usize,
}

/// A task: its picture and where its tiles are.
#[derive(Clone, Copy)]
struct Part {
    picture: usize,
    /// First group and how many.
    group: usize,
    groups: usize,
    /// First row of tiles and how many.
    row: usize,
    rows: usize,
    columns: usize,
    /// Planes of output of a group.
    planes: usize,
    /// Whether its steps are spread over the threads.
    spread: bool,
}

impl Part {
    /// Tiles of a group.
    fn plane(&self) -> usize {
        self.rows * self.columns
    }

    /// Planes of output.
    fn depth(&self, out: Shape) -> std::ops::Range<usize> {
        let first = self.group * self.planes;
        first..(first + self.groups * self.planes).min(out.size[0])
    }
}

/// Calls `work` for 0 to `count`.
fn each(spread: bool, count: usize, work: impl Fn(usize) + Sync) {
    if spread { (0..count).into_par_iter().for_each(&work) } else { (0..count).for_each(work) }
}

/// Whether `out` has so few tiles that it is computed directly, by a kernel of `depth`.
pub(super) fn few(out: [usize; 3], depth: usize) -> bool {
    let planes = if depth == DEEP_WEIGHTS[0].len() { PAIR } else { 1 };
    out[0].div_ceil(planes) * out[1].div_ceil(OUT) * out[2].div_ceil(OUT) < FEW
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
        direct: Option<Direct>,
    ) -> Self {
        let entry = Entry { element: Element::F32, split: false, ..*entry };
        let (deep, taps) = if depth == DEEP_WEIGHTS[0].len() { (DEEP, 1) } else { (1, depth) };
        let channels: usize = inputs.iter().sum();
        // `[output][input][depth][3][3]`.
        let dense: Vec<f32> = (0..outputs * channels * depth * 9)
            .map(|at| weight(at / (depth * 9) / channels, at / (depth * 9) % channels, at % (depth * 9)))
            .collect();
        let flat: Vec<Vec<Packed>> = (0..FLAT)
            .into_par_iter()
            .map(|point| {
                let (row, column) = (WEIGHTS[point / IN], WEIGHTS[point % IN]);
                let factors: [f64; 9] = std::array::from_fn(|at| row[at / 3] * column[at % 3]);
                let plane = |plane: &[f32]| -> f64 {
                    plane.iter().zip(factors).fold(0.0, |sum, (&w, factor)| sum + factor * f64::from(w))
                };
                // `[output][input][depth]`: each serves all points along depth.
                let planes: Vec<f64> = dense.chunks_exact(9).map(plane).collect();
                let along = |at: usize| {
                    let transformed = |output: usize, input: usize, tap: usize| {
                        let planes = &planes[(output * channels + input) * depth..][..depth];
                        if deep == 1 {
                            return planes[tap] as f32;
                        }
                        let along = DEEP_WEIGHTS[at].iter().zip(planes);
                        along.filter(|(w, _)| **w != 0.0).map(|(w, plane)| w * plane).sum::<f64>() as f32
                    };
                    Packed::new(&entry, outputs, inputs, taps, &transformed, &[])
                };
                (0..deep).map(along).collect()
            })
            .collect();
        // Those along depth slowest.
        let mut flat: Vec<_> = flat.into_iter().map(Vec::into_iter).collect();
        let points = (0..deep).flat_map(|_| flat.iter_mut().filter_map(Iterator::next).collect::<Vec<_>>()).collect();
        Self { points, taps, deep, enlarged, direct }
    }

    /// Bytes of the weights.
    pub(super) fn bytes(&self) -> usize {
        self.points.iter().chain(self.direct.iter().flat_map(|direct| &direct.packed)).map(Packed::bytes).sum()
    }

    /// Bytes of one task's transformed tiles, to an output of size `out`.
    pub(super) fn scratch(&self, out: [usize; 3], channels: usize, outputs: usize) -> usize {
        let chunk = self.chunk(out, channels);
        let plane = chunk.rows * chunk.columns;
        // Several inputs may each leave lanes of their last block empty.
        let blocks_in = channels.div_ceil(LANES) + 1;
        let cells = blocks_in * (chunk.groups + self.taps - 1) * plane + outputs.div_ceil(LANES) * chunk.groups * plane;
        self.points.len() * (cells + 2) * CELL
    }

    fn chunk(&self, out: [usize; 3], channels: usize) -> Chunk {
        let (rows, columns) = (out[1].div_ceil(OUT), out[2].div_ceil(OUT));
        let planes = if self.deep == 1 { 1 } else { PAIR };
        let groups = out[0].div_ceil(planes);
        // Enough tiles that reading the weights is paid for, few enough that what lies between the transforms stays
        // in the cache.
        let tiles = match (self.deep, channels >= 128) {
            (1, false) => 96,
            (1, true) => 64,
            (_, false) => 28,
            (_, true) => 64,
        };
        // Taps that are summed between the transforms want neighbouring planes.
        let groups = match (self.deep, self.taps) {
            (1, 1) => 1,
            (1, _) => groups.min(if columns <= 4 { 8 } else { 4 }),
            _ => (tiles / (rows * columns)).clamp(1, groups),
        };
        let rows = (tiles / (columns * groups)).clamp(1, rows);
        Chunk { groups, planes, rows, columns }
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
        let channels: usize = inputs.iter().map(|input| input.shape.channels).sum();
        let chunk = self.chunk(out.size, channels);
        let (groups, rows) = (out.size[0].div_ceil(chunk.planes), out.size[1].div_ceil(OUT));
        if let Some(direct) = self.direct.as_ref().filter(|_| groups * rows * chunk.columns < FEW) {
            return direct.forward(engine, inputs, out, statistics);
        }
        let across = rows.div_ceil(chunk.rows);
        let tasks = groups.div_ceil(chunk.groups) * across;
        let spread = out.pictures * tasks < MANY;
        Blocked::by_tasks(engine.store(), out, tasks, statistics, |picture, task, target| {
            let (group, row) = (task / across * chunk.groups, task % across * chunk.rows);
            let part = Part {
                picture,
                group,
                groups: chunk.groups.min(groups - group),
                row,
                rows: chunk.rows.min(rows - row),
                columns: chunk.columns,
                planes: chunk.planes,
                spread,
            };
            self.task(engine, inputs, out, bias, &part, target);
            if !statistics && self.direct.is_none() {
                return Vec::new();
            }
            let parts = partials(engine, out, &part, target);
            let finite = |part: &Partial| part.mean.iter().all(|mean| mean.is_finite());
            let Some(direct) = self.direct.as_ref().filter(|_| !parts.iter().all(finite)) else {
                return if statistics { parts } else { Vec::new() };
            };
            self.directly(direct, engine, inputs, out, &part, target);
            if statistics { partials(engine, out, &part, target) } else { Vec::new() }
        })
    }

    /// One chunk: tiles in, products at every point, tiles out.
    fn task(&self, engine: &Engine, inputs: &[&Cells], out: Shape, bias: &[f32], part: &Part, target: Target<f32>) {
        let tiles = part.groups * part.plane();
        let blocks_in: usize = inputs.iter().map(|input| input.layout().blocks).sum();
        // Planes of transformed input that serve the groups.
        let planes_in = part.groups + self.taps - 1;
        let input_tiles = planes_in * part.plane();
        // An odd number of cells between points, lest all those of a tile meet in the same set of the cache.
        let point_in = (blocks_in * input_tiles) | 1;
        let point_out = (out.blocks() * tiles) | 1;
        let mut transformed = engine.store().take(self.points.len() * point_in * CELL);
        let mut sums = engine.store().take(self.points.len() * point_out * CELL);
        let to = Target(transformed.as_mut_ptr());
        let blocks: Vec<(&Cells, usize)> =
            inputs.iter().flat_map(|input| (0..input.layout().blocks).map(move |block| (*input, block))).collect();
        each(part.spread, blocks_in * planes_in, |at| {
            let (block, plane) = (at / planes_in, at % planes_in);
            // SAFETY: this block and plane of every point are written by this iteration alone.
            let to = unsafe { to.at((block * input_tiles + plane * part.plane()) * CELL) };
            self.enter(engine, blocks[block], part, plane, to, point_in);
        });
        self.multiply(engine, inputs, out, part, &transformed, point_in, &mut sums, point_out);
        drop(transformed);
        each(part.spread, out.blocks() * part.rows, |at| {
            let (block, row) = (at / part.rows, at % part.rows);
            let bias: [f32; LANES] = std::array::from_fn(|lane| bias[block * LANES + lane]);
            let mut scratch = Scratch::new();
            for (at, plane) in part.depth(out).enumerate() {
                let (group, second) = (at / part.planes, at % part.planes);
                let y = (part.row + row) * OUT;
                let from = ((part.picture * out.blocks() + block) * out.pixels()
                    + (plane * out.size[1] + y) * out.size[2])
                    * LANES;
                let tile = block * tiles + group * part.plane() + row * part.columns;
                let job = Leave {
                    sums: sums.as_ptr().wrapping_add((tile + second * FLAT * point_out) * CELL).cast(),
                    point_stride: point_out * LANES,
                    mix: [[Mix::Alone; PAIR], [Mix::Sum, Mix::Difference]][usize::from(self.deep > 1)][second],
                    tiles: part.columns,
                    bias: &bias,
                    // SAFETY: inside the output, at rows of this task.
                    out: unsafe { target.at(from) },
                    row_stride: out.size[2] * LANES,
                    rows: OUT.min(out.size[1] - y),
                    width: out.size[2],
                    scratch: scratch.as_mut_ptr(),
                };
                // SAFETY: `sums` holds every point of these tiles; the rows are this iteration's.
                unsafe { leave(engine.isa(), &job) };
            }
        });
    }

    /// Transforms one plane, or pair of planes, of one block of input cells into `[point][block][plane][tile]`.
    fn enter(
        &self,
        engine: &Engine,
        (input, block): (&Cells, usize),
        part: &Part,
        plane: usize,
        to: *mut u8,
        point_stride: usize,
    ) {
        let layout = input.layout();
        let [depth, height, width] = layout.padded;
        let start = part.picture * layout.picture_bytes + block * layout.block_bytes;
        let mut scratch = Scratch::new();
        for row in 0..part.rows {
            let lines = |z: usize| -> Lines {
                std::array::from_fn(|line| {
                    let first = (part.row + row) * OUT;
                    let line = if self.enlarged[0] { first / 2 + line.div_ceil(2) } else { first + line };
                    (z < depth && line < height).then(|| {
                        input.data.as_ptr().wrapping_add(start + z * layout.plane_bytes + line * layout.row_bytes)
                    })
                })
            };
            let z = (part.group + plane) * part.planes;
            let job = Enter {
                planes: std::array::from_fn(|at| lines(z + at)),
                deep: self.deep,
                tiles: part.columns,
                enlarged: self.enlarged[1],
                width,
                to: to.wrapping_add(row * part.columns * CELL).cast(),
                point_stride: point_stride * LANES,
                scratch: scratch.as_mut_ptr(),
            };
            // SAFETY: the lines are rows of the input, `to` has room for every point of these tiles.
            unsafe { enter(engine.isa(), &job) };
        }
    }

    /// The products at every point.
    #[allow(clippy::too_many_arguments)]
    fn multiply(
        &self,
        engine: &Engine,
        inputs: &[&Cells],
        out: Shape,
        part: &Part,
        transformed: &Buffer,
        point_in: usize,
        sums: &mut Buffer,
        point_out: usize,
    ) {
        let tiles = part.groups * part.plane();
        let input_tiles = (part.groups + self.taps - 1) * part.plane();
        let kernel = Kernel::of(engine.isa(), Element::F32);
        let most = kernel.pixels(CELL);
        let no_bias = [0f32; PANELS * LANES];
        let tables: [Vec<Step>; PANELS] = std::array::from_fn(|width| {
            let mut steps = Vec::new();
            let mut first = 0;
            for input in inputs {
                for block in 0..input.layout().blocks {
                    let groups = LANES.min(input.shape.channels - block * LANES);
                    for tap in 0..self.taps {
                        let at = (first + block) * input_tiles + tap * part.plane();
                        let weight = (first + block) * self.taps + tap;
                        let cell = transformed.as_ptr().wrapping_add(at * CELL);
                        steps.push(Step { cell, weight: block_offset(weight, width + 1), groups });
                    }
                }
                first += input.layout().blocks;
            }
            steps
        });
        let to = Target(sums.as_mut_ptr().cast::<f32>());
        debug_assert!(out.blocks() * tiles <= point_out);
        each(part.spread, self.points.len(), |point| {
            let packed = &self.points[point];
            kernel.task(|| {
                for set in 0..packed.sets() {
                    let panels = packed.width(set);
                    runs(tiles, most, |first, pixels| {
                        let block = Block {
                            steps: &tables[panels - 1],
                            offset: (point * point_in + first) * CELL,
                            pixel_stride: CELL,
                            pixels,
                            weights: packed.set(set),
                            panels,
                            // SAFETY: inside the sums, at a point of this iteration.
                            out: unsafe { to.at((point * point_out + set * PANELS * tiles + first) * LANES) },
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
            });
        });
    }

    /// The chunk's outputs by the definition.
    fn directly(
        &self,
        direct: &Direct,
        engine: &Engine,
        inputs: &[&Cells],
        out: Shape,
        part: &Part,
        target: Target<f32>,
    ) {
        let tables = direct.tables(inputs, part.picture);
        let step = direct.phases.step;
        let lattice: [usize; 3] = std::array::from_fn(|axis| out.size[axis].div_ceil(step[axis]));
        let depth = part.depth(out);
        let rows = part.row * OUT / step[1]..((part.row + part.rows) * OUT / step[1]).min(lattice[1]);
        for z in depth.start / step[0]..depth.end.div_ceil(step[0]).min(lattice[0]) {
            let rows = Rows { picture: part.picture, first: z * lattice[1] + rows.start, count: rows.len() };
            direct.task(engine, &tables, inputs, out, &rows, target);
        }
    }
}

/// Statistics of the chunk's output, one per block.
fn partials(engine: &Engine, out: Shape, part: &Part, target: Target<f32>) -> Vec<Partial> {
    let y = part.row * OUT;
    let rows = (part.rows * OUT).min(out.size[1] - y);
    let row = out.size[2];
    (0..out.blocks())
        .map(|block| {
            let mut all = Partial::NONE;
            for plane in part.depth(out) {
                let from =
                    ((part.picture * out.blocks() + block) * out.pixels() + (plane * out.size[1] + y) * row) * LANES;
                // SAFETY: rows of this chunk, written by its task.
                all.merge(&unsafe { rows_partial(engine.isa(), target.at(from), rows, row * LANES, row) });
            }
            all
        })
        .collect()
}
