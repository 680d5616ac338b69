//! Convolution by the definition: every output is one chain of products over input cells and taps.

use super::packed::{Packed, block_offset};
use super::phases::Phases;
use crate::blocked::buffer::Target;
use crate::blocked::{Blocked, Cells, Partial, Shape, rows_partial};
use crate::engine::Engine;
use crate::kernels::{Block, CELL, Element, Kernel, LANES, PANELS, Step, runs};

/// Phases with their packed weights.
pub(super) struct Direct {
    pub phases: Phases,
    pub packed: Vec<Packed>,
}

/// The rows of the lattice that one task computes.
pub(super) struct Rows {
    pub picture: usize,
    pub first: usize,
    pub count: usize,
}

/// Steps whose f32 products are summed in one chain; sums of chains round less than one long chain does.
const CHAIN: usize = 18;

/// Rows a task takes: enough tasks for many threads, few enough that weights are read seldom.
fn rows_per_task(rows: usize) -> usize {
    (rows / 16).clamp(1, 8)
}

impl Direct {
    /// Bytes of the weights.
    pub(super) fn bytes(&self) -> usize {
        self.packed.iter().map(Packed::bytes).sum()
    }

    /// Convolves into new blocks of `out` and gathers their statistics if asked to.
    pub(super) fn forward(&self, engine: &Engine, inputs: &[&Cells], out: Shape, statistics: bool) -> Blocked {
        let lattice: [usize; 3] = std::array::from_fn(|axis| out.size[axis].div_ceil(self.phases.step[axis]));
        let rows = lattice[0] * lattice[1];
        let each = rows_per_task(rows);
        let tasks = rows.div_ceil(each);
        let tables: Vec<_> = (0..out.pictures).map(|picture| self.tables(inputs, picture)).collect();
        Blocked::by_tasks(engine.store(), out, tasks, statistics, |picture, task, target| {
            let part = Rows { picture, first: task * each, count: each.min(rows - task * each) };
            self.task(engine, &tables[picture], inputs, out, &part, target);
            if statistics { self.partials(engine, out, lattice, &part, target) } else { Vec::new() }
        })
    }

    /// For each phase and each width of a set, the steps over the cells of a picture.
    pub(super) fn tables(&self, inputs: &[&Cells], picture: usize) -> Vec<[Vec<Step>; PANELS]> {
        self.phases
            .all
            .iter()
            .map(|phase| std::array::from_fn(|width| steps(inputs, picture, &phase.taps, width + 1)))
            .collect()
    }

    /// Computes some rows of the lattice, all phases and all channels.
    pub(super) fn task(
        &self,
        engine: &Engine,
        tables: &[[Vec<Step>; PANELS]],
        inputs: &[&Cells],
        out: Shape,
        rows: &Rows,
        target: Target<f32>,
    ) {
        let Some(input) = inputs.first() else { return };
        let layout = input.layout();
        let kernel = Kernel::of(engine.isa(), input.entry.element);
        let pixel_stride = self.phases.stride[2] * CELL;
        let chain = if input.entry.element == Element::F32 { CHAIN } else { usize::MAX };
        let [depth, height, width] = out.size;
        let lattice_height = height.div_ceil(self.phases.step[1]);
        kernel.task(|| {
            let sets = self.packed.first().map_or(0, Packed::sets);
            for set in 0..sets {
                for ((phase, packed), tables) in self.phases.all.iter().zip(&self.packed).zip(tables) {
                    let panels = packed.width(set);
                    let steps = &tables[panels - 1];
                    let pixels = width.saturating_sub(phase.origin[2]).div_ceil(self.phases.step[2]);
                    for row in rows.first..rows.first + rows.count {
                        let (z, y) = (row / lattice_height, row % lattice_height);
                        let at_z = phase.origin[0] + z * self.phases.step[0];
                        let at_y = phase.origin[1] + y * self.phases.step[1];
                        if at_z >= depth || at_y >= height {
                            continue;
                        }
                        let from = z * self.phases.stride[0] * layout.plane_bytes
                            + y * self.phases.stride[1] * layout.row_bytes;
                        let to = ((rows.picture * out.blocks() + set * PANELS) * out.pixels()
                            + (at_z * height + at_y) * width
                            + phase.origin[2])
                            * LANES;
                        runs(pixels, kernel.pixels(pixel_stride), |first, pixels| {
                            let mut block = Block {
                                steps,
                                offset: from + first * pixel_stride,
                                pixel_stride,
                                pixels,
                                weights: packed.set(set),
                                panels,
                                // SAFETY: inside the output: see below.
                                out: unsafe { target.at(to + first * self.phases.step[2] * LANES) },
                                out_stride: self.phases.step[2] * LANES,
                                panel_stride: out.pixels() * LANES,
                                bias: packed.bias[set * PANELS * LANES..].as_ptr(),
                                accumulate: false,
                                scale: packed.scale[set * PANELS * LANES..].as_ptr(),
                            };
                            // The engine's instruction set is there. `Conv::forward` checked that the border
                            // holds every tap of every lattice point; buffers end in spare cells. The rows of this
                            // task are its own, in all blocks.
                            for chain in steps.chunks(chain).chain(steps.is_empty().then_some(&steps[..])) {
                                block.steps = chain;
                                // SAFETY: see above.
                                unsafe { kernel.run(&block) };
                                block.accumulate = true;
                            }
                        });
                    }
                }
            }
        });
    }

    /// Statistics of the output rows of a task, one per block.
    fn partials(
        &self,
        engine: &Engine,
        out: Shape,
        lattice: [usize; 3],
        rows: &Rows,
        target: Target<f32>,
    ) -> Vec<Partial> {
        let [depth, height, width] = out.size;
        (0..out.blocks())
            .map(|block| {
                let mut all = Partial::NONE;
                for row in rows.first..rows.first + rows.count {
                    let (z, y) = (row / lattice[1], row % lattice[1]);
                    for at_z in z * self.phases.step[0]..((z + 1) * self.phases.step[0]).min(depth) {
                        let first = y * self.phases.step[1];
                        let count = self.phases.step[1].min(height - first);
                        let from = ((rows.picture * out.blocks() + block) * out.pixels()
                            + (at_z * height + first) * width)
                            * LANES;
                        // SAFETY: rows of this task, written above.
                        all.merge(&unsafe { rows_partial(engine.isa(), target.at(from), count, width * LANES, width) });
                    }
                }
                all
            })
            .collect()
    }
}

/// One step per input cell, tap and product of parts, in the order of the packed weights.
pub(super) fn steps(inputs: &[&Cells], picture: usize, taps: &[[usize; 3]], panels: usize) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut block = 0;
    for input in inputs {
        let layout = input.layout();
        let per_cell = input.entry.element.channels();
        for cell in 0..layout.blocks {
            let channels = per_cell.min(input.shape.channels - cell * per_cell);
            let groups = input.groups.unwrap_or(channels.div_ceil(input.entry.element.group()));
            for tap in taps {
                let at = picture * layout.picture_bytes
                    + cell * layout.block_bytes
                    + tap[0] * layout.plane_bytes
                    + tap[1] * layout.row_bytes
                    + tap[2] * CELL;
                let mut step = |part: usize, weight: usize| {
                    let cell = input.data.as_ptr().wrapping_add(part * layout.part_bytes + at);
                    steps.push(Step { cell, weight: block_offset(weight, panels), groups });
                };
                step(0, block);
                if input.entry.split {
                    step(0, block + 1);
                    step(1, block);
                }
                block += input.entry.parts();
            }
        }
    }
    steps
}
