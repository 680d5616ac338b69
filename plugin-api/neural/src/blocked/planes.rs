//! Between Candle's planes `[N, C, D, H, W]` and blocks: at the door of a network and at its end.

use super::buffer::{Store, Target};
use super::finish::{check_halo, surround};
use super::{Blocked, Cells, Entry, Shape};
use crate::kernels::lanes::{bf16, widened};
use crate::kernels::{CELL, Element, LANES};
use candle_core::{Result, bail};
use rayon::prelude::*;

impl Entry {
    /// Stores `x`, as what part 0 or 1 holds, in `lane` of a cell.
    fn put(&self, x: f32, part: usize, cell: &mut [u8], lane: usize) {
        match self.element {
            Element::F32 => cell[4 * lane..4 * lane + 4].copy_from_slice(&x.to_ne_bytes()),
            Element::Bf16 => {
                let high = bf16(x);
                let bits = if part == 0 { high } else { bf16(x - widened(high)) };
                cell[2 * lane..2 * lane + 2].copy_from_slice(&bits.to_ne_bytes());
            }
            Element::U8 => {
                let stored = (x * (1.0 / self.scale) + f32::from(self.zero)).round_ties_even();
                cell[lane] = stored.clamp(0.0, 255.0) as u8;
            }
        }
    }
}

impl Cells {
    /// Cells of planes `[N][C][D][H][W]`.
    pub(crate) fn from_planes(store: &Store, planes: &[f32], shape: Shape, entry: &Entry) -> Result<Self> {
        shape.check()?;
        if planes.len() != shape.pictures * shape.channels * shape.pixels() {
            bail!("{} elements are not {shape:?}", planes.len())
        }
        check_halo(shape.size, entry)?;
        let [_, height, width] = shape.size;
        let per_cell = entry.element.channels();
        Ok(Self::rows(store, shape, entry, |part, [picture, block, z, y], row| {
            row.fill(entry.zero_byte());
            for lane in 0..per_cell.min(shape.channels - block * per_cell) {
                let channel = picture * shape.channels + block * per_cell + lane;
                let from = channel * shape.pixels() + (z * height + y) * width;
                for (cell, &x) in row.chunks_exact_mut(CELL).zip(&planes[from..from + width]) {
                    entry.put(x, part, cell, lane);
                }
            }
        }))
    }

    /// The pixels under each row of a kernel as one cell per channel, of planes `[N][C][D][H][W]`: a convolution of few
    /// channels becomes one over the kernel's rows, without lanes that hold nothing.
    ///
    /// `entry` is that of the convolution of kernel `[kD, kH, 1]`, whose border has no columns.
    pub(crate) fn kernel_rows(
        store: &Store,
        planes: &[f32],
        shape: Shape,
        entry: &Entry,
        window: &Window,
    ) -> Result<Self> {
        shape.check()?;
        if planes.len() != shape.pictures * shape.channels * shape.pixels() {
            bail!("{} elements are not {shape:?}", planes.len())
        }
        check_halo(shape.size, &Entry { halo: window.pad, edge: [window.edge; 3], ..*entry })?;
        let [depth, height, width] = shape.size;
        let kernel = window.kernel[2];
        let across = window.output(shape.size)?[2];
        let rows =
            Shape { channels: shape.channels * entry.element.channels(), size: [depth, height, across], ..shape };
        let bytes = CELL / entry.element.channels();
        let mut cells = Self::rows(store, rows, entry, |part, [picture, channel, z, y], row| {
            let from = (picture * shape.channels + channel) * shape.pixels() + (z * height + y) * width;
            let source = &planes[from..from + width];
            let mut line = vec![0u8; (width + 2 * window.pad[2]) * bytes];
            for (at, to) in line.chunks_exact_mut(bytes).enumerate() {
                let x = window.edge.source(at, window.pad[2], width).map_or(0.0, |x| source[x]);
                entry.put(x, part, to, 0);
            }
            row.fill(entry.zero_byte());
            for (x, cell) in row.chunks_exact_mut(CELL).enumerate() {
                let from = x * window.stride[2] * bytes;
                cell[..kernel * bytes].copy_from_slice(&line[from..from + kernel * bytes]);
            }
        });
        cells.groups = Some(kernel.div_ceil(entry.element.group()));
        Ok(cells)
    }

    /// Cells whose rows without border are written by `fill(part, [picture, block, z, y], row)`.
    fn rows(store: &Store, shape: Shape, entry: &Entry, fill: impl Fn(usize, [usize; 4], &mut [u8]) + Sync) -> Self {
        let mut cells = Self::take(store, shape, *entry);
        let layout = cells.layout();
        let out = Target(cells.data.as_mut_ptr());
        let [depth, height, _] = layout.padded;
        let rows = entry.parts() * shape.pictures * layout.blocks * depth * height;
        (0..rows).into_par_iter().with_min_len(4).for_each(|row| {
            // SAFETY: every iteration owns one padded row.
            let bytes = unsafe { std::slice::from_raw_parts_mut(out.at(row * layout.row_bytes), layout.row_bytes) };
            let (y, rest) = (row % height, row / height);
            let (z, rest) = (rest % depth, rest / depth);
            let (block, rest) = (rest % layout.blocks, rest / layout.blocks);
            let (picture, part) = (rest % shape.pictures, rest / shape.pictures);
            let source = (
                entry.edge[0].source(z, entry.halo[0], shape.size[0]),
                entry.edge[1].source(y, entry.halo[1], shape.size[1]),
            );
            let (Some(z), Some(y)) = source else {
                bytes.fill(entry.zero_byte());
                return;
            };
            let middle = &mut bytes[entry.halo[2] * CELL..][..shape.size[2] * CELL];
            fill(part, [picture, block, z, y], middle);
            surround(bytes, entry, shape.size[2]);
        });
        cells
    }
}

/// Where a kernel lies over planes.
pub(crate) struct Window {
    pub kernel: [usize; 3],
    pub stride: [usize; 3],
    pub pad: [usize; 3],
    pub edge: super::Edge,
}

impl Window {
    /// Positions of the kernel over a picture of `size`.
    pub(crate) fn output(&self, size: [usize; 3]) -> Result<[usize; 3]> {
        let mut out = [0; 3];
        for axis in 0..3 {
            let padded = size[axis] + 2 * self.pad[axis];
            if padded < self.kernel[axis] || self.stride[axis] == 0 {
                bail!("kernel {:?} larger than the padded picture {size:?} + 2 * {:?}", self.kernel, self.pad)
            }
            out[axis] = (padded - self.kernel[axis]) / self.stride[axis] + 1;
        }
        Ok(out)
    }
}

/// Pixels that are turned from cells into planes together: their cells stay in the nearest cache for all 16 channels.
const RUN: usize = 256;

impl Blocked {
    /// Blocks of planes `[N][C][D][H][W]`.
    pub(crate) fn from_planes(store: &Store, planes: &[f32], shape: Shape) -> Result<Self> {
        shape.check()?;
        if planes.len() != shape.pictures * shape.channels * shape.pixels() {
            bail!("{} elements are not {shape:?}", planes.len())
        }
        let mut blocked = Self::take(store, shape);
        let out = Target(blocked.data.as_mut_ptr().cast::<f32>());
        let (blocks, pixels) = (shape.blocks(), shape.pixels());
        (0..shape.pictures * blocks).into_par_iter().for_each(|at| {
            let (picture, block) = (at / blocks, at % blocks);
            // SAFETY: every iteration owns one block.
            let cells = unsafe { std::slice::from_raw_parts_mut(out.at(at * pixels * LANES), pixels * LANES) };
            cells.fill(0.0);
            for lane in 0..LANES.min(shape.channels - block * LANES) {
                let from = (picture * shape.channels + block * LANES + lane) * pixels;
                for (cell, &x) in cells.chunks_exact_mut(LANES).zip(&planes[from..from + pixels]) {
                    cell[lane] = x;
                }
            }
        });
        Ok(blocked)
    }

    /// Planes `[N][C][D][H][W]` of these blocks.
    pub fn to_planes(&self) -> Vec<f32> {
        let (shape, pixels) = (self.shape, self.shape.pixels());
        let mut planes = vec![0f32; shape.pictures * shape.channels * pixels];
        let target = Target(planes.as_mut_ptr());
        let runs = pixels.div_ceil(RUN);
        (0..shape.pictures * shape.blocks() * runs).into_par_iter().for_each(|at| {
            let (first, block) = (at % runs * RUN, at / runs);
            let (picture, block) = (block / shape.blocks(), block % shape.blocks());
            let count = RUN.min(pixels - first);
            let from = (picture * shape.blocks() + block) * self.block_stride() + first * LANES;
            let cells = &self.data.as_f32()[from..from + count * LANES];
            for lane in 0..LANES.min(shape.channels - block * LANES) {
                let to = (picture * shape.channels + block * LANES + lane) * pixels + first;
                // SAFETY: every iteration owns these pixels of its planes.
                let out = unsafe { std::slice::from_raw_parts_mut(target.at(to), count) };
                for (out, cell) in out.iter_mut().zip(cells.chunks_exact(LANES)) {
                    *out = cell[lane];
                }
            }
        });
        planes
    }
}
