//! Weights in the order in which the kernels read them: `[group of panels][step][32-bit group][panel][channel]`.

use crate::blocked::Entry;
use crate::blocked::buffer::{Buffer, Store};
use crate::kernels::lanes::{bf16, widened};
use crate::kernels::{CELL, Element, LANES, PANELS};

/// Packed weights of one dense kernel.
pub(super) struct Packed {
    data: Buffer,
    /// Blocks of weights per panel: steps, or for split bf16 high and low of each.
    blocks: usize,
    /// Per output channel, rounded up to panels: added to the sums.
    pub bias: Vec<f32>,
    /// Per output channel: for u8, what turns an integer sum into physical units.
    pub scale: Vec<f32>,
}

/// Dense weights by output channel, input channel (over all inputs), and tap.
pub(super) type Dense<'a> = dyn Fn(usize, usize, usize) -> f32 + Sync + 'a;

impl Packed {
    /// Packs `weight` for inputs of these channels.
    pub(super) fn new(
        entry: &Entry,
        outputs: usize,
        inputs: &[usize],
        taps: usize,
        weight: &Dense<'_>,
        bias: &[f32],
    ) -> Self {
        let parts = entry.parts();
        let cells: usize = inputs.iter().map(|channels| channels.div_ceil(entry.element.channels())).sum();
        let blocks = cells * taps * parts;
        let panels = outputs.div_ceil(LANES);
        let mut data = Store::default().take(panels * blocks * LANES * CELL);
        let mut padded_bias = vec![0f32; panels * LANES];
        padded_bias[..bias.len()].copy_from_slice(bias);
        let mut scale = vec![1f32; panels * LANES];
        if entry.element == Element::U8 {
            for (output, scale) in scale.iter_mut().enumerate().take(outputs) {
                let channels: usize = inputs.iter().sum();
                let all = (0..channels).flat_map(|input| (0..taps).map(move |tap| weight(output, input, tap)));
                let largest = all.fold(0f32, |largest, x| largest.max(x.abs()));
                *scale = if largest > 0.0 { largest / 127.0 } else { 1.0 };
            }
        }
        let bytes_len = panels * blocks * LANES * CELL;
        // SAFETY: the buffer has at least that many bytes and is this function's alone.
        let bytes = unsafe { std::slice::from_raw_parts_mut(data.as_mut_ptr(), bytes_len) };
        bytes.fill(0);
        let mut sums = vec![0i64; panels * LANES];
        let group = entry.element.group();
        for output in 0..outputs {
            let panel = output / LANES;
            let (set, within) = (panel / PANELS, panel % PANELS);
            let width = (panels - set * PANELS).min(PANELS);
            let start = set * PANELS * blocks * LANES * CELL;
            let mut block = 0;
            let mut first = 0;
            for &channels in inputs {
                for cell in 0..channels.div_ceil(entry.element.channels()) {
                    for tap in 0..taps {
                        for lane in 0..entry.element.channels().min(channels - cell * entry.element.channels()) {
                            let x = weight(output, first + cell * entry.element.channels() + lane, tap);
                            for part in 0..parts {
                                let row = (block + part) * LANES + lane / group;
                                let at = start + (row * width + within) * CELL + (output % LANES) * 4;
                                let element = lane % group;
                                match entry.element {
                                    Element::F32 => bytes[at..at + 4].copy_from_slice(&x.to_ne_bytes()),
                                    Element::Bf16 => {
                                        let high = bf16(x);
                                        let bits = if part == 0 { high } else { bf16(x - widened(high)) };
                                        bytes[at + 2 * element..at + 2 * element + 2]
                                            .copy_from_slice(&bits.to_ne_bytes());
                                    }
                                    Element::U8 => {
                                        let q = (x / scale[output]).round_ties_even().clamp(-127.0, 127.0) as i8;
                                        sums[output] += i64::from(q);
                                        bytes[at + element] = q as u8;
                                    }
                                }
                            }
                        }
                        block += parts;
                    }
                }
                first += channels;
            }
        }
        if entry.element == Element::U8 {
            for output in 0..outputs {
                scale[output] *= entry.scale;
                padded_bias[output] -= (f64::from(scale[output]) * f64::from(entry.zero) * sums[output] as f64) as f32;
            }
        }
        Self { data, blocks, bias: padded_bias, scale }
    }

    /// Panels that are computed together, starting with panel `PANELS * set`.
    pub(super) fn width(&self, set: usize) -> usize {
        (self.bias.len() / LANES - set * PANELS).min(PANELS)
    }

    /// Sets of panels.
    pub(super) fn sets(&self) -> usize {
        (self.bias.len() / LANES).div_ceil(PANELS)
    }

    /// Where a set's weights start.
    pub(super) fn set(&self, set: usize) -> *const u8 {
        // In bounds: sets before the last are full.
        self.data.as_ptr().wrapping_add(set * PANELS * self.blocks * LANES * CELL)
    }

    /// Bytes held.
    pub(super) fn bytes(&self) -> usize {
        self.data.bytes()
    }
}

/// Bytes from the start of a set to weight block `block`, where the set has `width` panels.
pub(super) fn block_offset(block: usize, width: usize) -> usize {
    block * LANES * width * CELL
}
