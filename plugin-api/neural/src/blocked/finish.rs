//! What lies between two convolutions, in one pass: normalise, add, activate, convert, and put the border around.

use super::buffer::{Store, Target};
use super::{Blocked, Cells, Entry, Statistics};
use crate::isa::Isa;
use crate::kernels::lanes::{Lanes, for_lanes};
use crate::kernels::{CELL, Element, LANES};
use candle_core::{Result, bail};
use rayon::prelude::*;

/// `activation((x - mean) * scale + shift + addend)` per channel.
pub struct Finish<'a> {
    /// Per picture and channel, channels rounded up to blocks; `None` leaves `x` as it is.
    affine: Option<Affine>,
    addend: Option<&'a Blocked>,
    /// What negative values are multiplied with: 1 is no activation, 0 a ReLU.
    slope: f32,
}

struct Affine {
    mean: Vec<f32>,
    scale: Vec<f32>,
    shift: Vec<f32>,
    channels: usize,
}

impl Default for Finish<'_> {
    fn default() -> Self {
        Self { affine: None, addend: None, slope: 1.0 }
    }
}

impl<'a> Finish<'a> {
    /// Instance normalisation, `(x - mean) / sqrt(variance + eps)`, then `gamma` and `beta` if the layer has them.
    pub fn instance_norm(statistics: &Statistics, eps: f64, gamma_beta: Option<(&[f32], &[f32])>) -> Self {
        let channels = statistics.blocks * LANES;
        let pictures = statistics.partials.len() / statistics.blocks.max(1);
        Self::affine(pictures, channels, |picture, channel| {
            let factor = 1.0 / (statistics.variance(picture, channel) + eps).sqrt();
            let (gamma, beta) = match gamma_beta {
                Some((gamma, beta)) => {
                    (gamma.get(channel).map_or(0.0, |&x| f64::from(x)), beta.get(channel).copied().unwrap_or(0.0))
                }
                None => (1.0, 0.0),
            };
            [statistics.mean(picture, channel) as f32, (factor * gamma) as f32, beta]
        })
    }

    /// Group normalisation: mean and variance over each of `groups` runs of `count / groups` channels.
    pub fn group_norm(
        statistics: &Statistics,
        count: usize,
        groups: usize,
        eps: f64,
        gamma_beta: (&[f32], &[f32]),
    ) -> Self {
        let channels = statistics.blocks * LANES;
        let pictures = statistics.partials.len() / statistics.blocks.max(1);
        let width = (count / groups.max(1)).max(1);
        Self::affine(pictures, channels, |picture, channel| {
            if channel >= count {
                return [0.0; 3];
            }
            let members = channel / width * width..(channel / width + 1) * width;
            let mean = members.clone().map(|c| statistics.mean(picture, c)).sum::<f64>() / width as f64;
            let variance = members
                .map(|c| statistics.variance(picture, c) + (statistics.mean(picture, c) - mean).powi(2))
                .sum::<f64>()
                / width as f64;
            let factor = 1.0 / (variance + eps).sqrt();
            [mean as f32, (factor * f64::from(gamma_beta.0[channel])) as f32, gamma_beta.1[channel]]
        })
    }

    /// The same `[mean, scale, shift]` for every picture: batch normalisation at inference, or a plain gain.
    pub fn per_channel(pictures: usize, channels: usize, of: impl Fn(usize) -> [f32; 3]) -> Self {
        let rounded = channels.next_multiple_of(LANES);
        Self::affine(pictures, rounded, |_, channel| if channel < channels { of(channel) } else { [0.0; 3] })
    }

    fn affine(pictures: usize, channels: usize, of: impl Fn(usize, usize) -> [f32; 3]) -> Self {
        let of = &of;
        let all: Vec<[f32; 3]> =
            (0..pictures).flat_map(|picture| (0..channels).map(move |channel| of(picture, channel))).collect();
        let pick = |at: usize| all.iter().map(|values| values[at]).collect();
        let affine = Affine { mean: pick(0), scale: pick(1), shift: pick(2), channels };
        Self { affine: Some(affine), ..Self::default() }
    }

    /// Adds `other` before the activation.
    pub fn add(mut self, other: &'a Blocked) -> Self {
        self.addend = Some(other);
        self
    }

    /// Then `max(x, 0)`; NaN stays NaN.
    pub fn relu(self) -> Self {
        self.leaky_relu(0.0)
    }

    /// Then `x`, or `slope * x` below zero.
    pub fn leaky_relu(mut self, slope: f32) -> Self {
        self.slope = slope;
        self
    }

    /// The affine map of 16 channels.
    fn block(&self, picture: usize, block: usize) -> [[f32; LANES]; 3] {
        match &self.affine {
            None => [[0.0; LANES], [1.0; LANES], [0.0; LANES]],
            Some(affine) => [&affine.mean, &affine.scale, &affine.shift].map(|values| {
                let from = picture * affine.channels + block * LANES;
                std::array::from_fn(|lane| values[from + lane])
            }),
        }
    }

    fn check(&self, input: &Blocked) -> Result<()> {
        if let Some(affine) = &self.affine
            && affine.mean.len() != input.shape.pictures * input.shape.blocks() * LANES
        {
            bail!("finish: an affine map of {} values does not fit {:?}", affine.mean.len(), input.shape)
        }
        if let Some(addend) = self.addend
            && addend.shape != input.shape
        {
            bail!("finish: cannot add {:?} to {:?}", addend.shape, input.shape)
        }
        Ok(())
    }

    /// Into the input of a convolution.
    pub(crate) fn cells(&self, isa: Isa, store: &Store, input: &Blocked, entry: &Entry) -> Result<Cells> {
        self.check(input)?;
        check_halo(input.shape.size, entry)?;
        let mut cells = Cells::take(store, input.shape, *entry);
        let layout = cells.layout();
        let out = Target(cells.data.as_mut_ptr());
        let [depth, height, _] = layout.padded;
        let rows = input.shape.pictures * layout.blocks * depth * height;
        (0..rows).into_par_iter().with_min_len(4).for_each(|row| {
            let (y, rest) = (row % height, row / height);
            let (z, rest) = (rest % depth, rest / depth);
            let (block, picture) = (rest % layout.blocks, rest / layout.blocks);
            let from = picture * layout.picture_bytes
                + block * layout.block_bytes
                + z * layout.plane_bytes
                + y * layout.row_bytes;
            let size = input.shape.size;
            let source = (
                entry.edge[0].source(z, entry.halo[0], size[0]),
                entry.edge[1].source(y, entry.halo[1], size[1]),
            );
            for part in 0..entry.parts() {
                // SAFETY: every iteration owns one padded row of every part.
                let row = unsafe {
                    let start = out.at(part * layout.part_bytes + from);
                    std::slice::from_raw_parts_mut(start, layout.row_bytes)
                };
                let (Some(z), Some(y)) = source else {
                    row.fill(entry.zero_byte());
                    continue;
                };
                let middle = &mut row[entry.halo[2] * CELL..][..size[2] * CELL];
                self.row(isa, input, entry, part, [picture, block, z, y], middle);
                surround(row, entry, size[2]);
            }
        });
        Ok(cells)
    }

    /// One row of cells without its border.
    fn row(
        &self,
        isa: Isa,
        input: &Blocked,
        entry: &Entry,
        part: usize,
        [picture, cell_block, z, y]: [usize; 4],
        out: &mut [u8],
    ) {
        let [_, height, width] = input.shape.size;
        let subs = entry.element.group();
        for sub in 0..subs {
            let block = cell_block * subs + sub;
            let lane_bytes = CELL / subs;
            if block >= input.shape.blocks() {
                for cell in out.chunks_exact_mut(CELL) {
                    cell[sub * lane_bytes..(sub + 1) * lane_bytes].fill(entry.zero_byte());
                }
                continue;
            }
            let from = (picture * input.shape.blocks() + block) * input.block_stride() + (z * height + y) * width * LANES;
            let affine = self.block(picture, block);
            let row = Row {
                input: input.data.as_f32()[from..from + width * LANES].as_ptr(),
                addend: self.addend.map(|addend| addend.data.as_f32()[from..from + width * LANES].as_ptr()),
                affine: &affine,
                slope: self.slope,
                pixels: width,
                out: out[sub * lane_bytes..].as_mut_ptr(),
                stride: CELL,
                form: match (entry.element, part) {
                    (Element::F32, _) => Form::Single,
                    (Element::Bf16, 0) => Form::Brain,
                    (Element::Bf16, _) => Form::Remainder,
                    (Element::U8, _) => Form::Byte { inverse: 1.0 / entry.scale, zero: f32::from(entry.zero) },
                },
            };
            // SAFETY: input and addend hold `width` pixels of 16 channels (sliced above), and the output as many cells.
            unsafe { finish_row(isa, &row) };
        }
    }

    /// Into f32, for what needs it later: the trunk of a residual network.
    pub(crate) fn blocked(&self, isa: Isa, store: &Store, input: &Blocked) -> Result<Blocked> {
        self.check(input)?;
        let mut blocked = Blocked::take(store, input.shape);
        let width = input.shape.size[2];
        let per_block = input.shape.size[0] * input.shape.size[1];
        let rows = input.shape.pictures * input.shape.blocks() * per_block;
        let out = Target(blocked.data.as_mut_ptr());
        (0..rows).into_par_iter().with_min_len(4).for_each(|row| {
            let block = row / per_block;
            let affine = self.block(block / input.shape.blocks(), block % input.shape.blocks());
            let from = row * width * LANES;
            let row = Row {
                input: input.data.as_f32()[from..from + width * LANES].as_ptr(),
                addend: self.addend.map(|addend| addend.data.as_f32()[from..from + width * LANES].as_ptr()),
                affine: &affine,
                slope: self.slope,
                pixels: width,
                // SAFETY: every iteration owns one row.
                out: unsafe { out.at(from * 4) },
                stride: CELL,
                form: Form::Single,
            };
            // SAFETY: as above.
            unsafe { finish_row(isa, &row) };
        });
        Ok(blocked)
    }
}

/// A mirrored border must be smaller than the picture.
pub(crate) fn check_halo(size: [usize; 3], entry: &Entry) -> Result<()> {
    for axis in 0..3 {
        if entry.edge[axis] == super::Edge::Reflect && entry.halo[axis] >= size[axis].max(1) {
            bail!(
                "a reflected border of {} px needs more than {} px, the picture has {}",
                entry.halo[axis],
                entry.halo[axis],
                size[axis]
            )
        }
    }
    Ok(())
}

/// Fills the cells left and right of a row.
pub(crate) fn surround(row: &mut [u8], entry: &Entry, width: usize) {
    let halo = entry.halo[2];
    for at in (0..halo).chain(halo + width..width + 2 * halo) {
        match entry.edge[2].source(at, halo, width) {
            Some(source) => row.copy_within((halo + source) * CELL..(halo + source + 1) * CELL, at * CELL),
            None => row[at * CELL..(at + 1) * CELL].fill(entry.zero_byte()),
        }
    }
}

/// How a value is stored.
#[derive(Clone, Copy)]
enum Form {
    Single,
    Brain,
    /// What bf16 leaves of it.
    Remainder,
    Byte {
        inverse: f32,
        zero: f32,
    },
}

/// One row of one block.
struct Row<'a> {
    input: *const f32,
    addend: Option<*const f32>,
    affine: &'a [[f32; LANES]; 3],
    slope: f32,
    pixels: usize,
    out: *mut u8,
    stride: usize,
    form: Form,
}

for_lanes! {
    /// # Safety
    /// The instruction set must be there; the row's addresses must hold `pixels` pixels.
    unsafe fn finish_row(row: &Row<'_>) = finish_row_body
}

#[inline(always)]
unsafe fn finish_row_body<L: Lanes>(row: &Row<'_>) {
    // SAFETY: the caller's contract.
    unsafe {
        let [mean, scale, shift] = row.affine.each_ref().map(|values| L::load(values.as_ptr()));
        let slope = L::splat(row.slope);
        let value = |at: usize| {
            let mut y = L::load(row.input.add(at * LANES)).sub(mean).mul(scale).add(shift);
            if let Some(addend) = row.addend {
                y = y.add(L::load(addend.add(at * LANES)));
            }
            if row.slope == 1.0 { y } else { y.leaky(slope) }
        };
        match row.form {
            Form::Single => {
                for at in 0..row.pixels {
                    value(at).store(row.out.add(at * row.stride).cast());
                }
            }
            Form::Brain => {
                for at in 0..row.pixels {
                    value(at).store_bf16(row.out.add(at * row.stride).cast());
                }
            }
            Form::Remainder => {
                let mut high = [0u16; LANES];
                for at in 0..row.pixels {
                    let y = value(at);
                    y.store_bf16(high.as_mut_ptr());
                    y.sub(L::load_bf16(high.as_ptr())).store_bf16(row.out.add(at * row.stride).cast());
                }
            }
            Form::Byte { inverse, zero } => {
                let (inverse, zero) = (L::splat(inverse), L::splat(zero));
                for at in 0..row.pixels {
                    value(at).mul(inverse).add(zero).store_u8(row.out.add(at * row.stride));
                }
            }
        }
    }
}
