//! What lies between two convolutions, in one pass: normalise, add, activate, convert, and put the border around.

use super::buffer::{Store, Target};
use super::cells::Layout;
use super::{Blocked, Cells, Enlarge, Entry, Shape, Statistics};
use crate::Isa;
use crate::kernels::lanes::{Lanes, for_lanes};
use crate::kernels::{CELL, Element, LANES};
use candle_core::{Result, bail};
use rayon::prelude::*;
use std::ops::Range;

/// `activation(((x - mean) * scale + shift) * gate + addend)`: the map is per channel, the gate per pixel.
pub struct Finish<'a> {
    /// Per picture and channel, channels rounded up to blocks; `None` leaves `x` as it is.
    affine: Option<Affine>,
    /// Per picture and pixel.
    pub(super) gate: Option<&'a [f32]>,
    pub(super) addend: Option<&'a Blocked>,
    /// What negative values are multiplied with: 1 is no activation, 0 a ReLU.
    pub(super) slope: f32,
    enlarge: Option<Enlarge>,
    /// Planes of the input that are wanted; `None` is all.
    planes: Option<Range<usize>>,
    /// A gain that fits no map.
    misfit: bool,
}

/// The map that changes nothing.
const UNCHANGED: [[f32; LANES]; 3] = [[0.0; LANES], [1.0; LANES], [0.0; LANES]];

struct Affine {
    mean: Vec<f32>,
    scale: Vec<f32>,
    shift: Vec<f32>,
    pictures: usize,
    channels: usize,
}

impl Default for Finish<'_> {
    fn default() -> Self {
        Self { affine: None, gate: None, addend: None, slope: 1.0, enlarge: None, planes: None, misfit: false }
    }
}

impl<'a> Finish<'a> {
    /// Instance normalisation, `(x - mean) / sqrt(variance + eps)`, then `gamma` and `beta` if the layer has them. `eps` is
    /// at least 1e-30: lanes beyond the channels have no variance.
    pub fn instance_norm(statistics: &Statistics, eps: f64, gamma_beta: Option<(&[f32], &[f32])>) -> Self {
        let channels = statistics.blocks * LANES;
        let pictures = statistics.partials.len() / statistics.blocks.max(1);
        Self::affine(pictures, channels, |picture, channel| {
            let factor = 1.0 / (statistics.variance(picture, channel) + eps.max(1e-30)).sqrt();
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
    ///
    /// # Errors
    /// If the channels are not a multiple of the groups, more than the statistics have, or not as many as `gamma_beta`.
    pub fn group_norm(
        statistics: &Statistics,
        count: usize,
        groups: usize,
        eps: f64,
        gamma_beta: (&[f32], &[f32]),
    ) -> Result<Self> {
        let parted = groups > 0 && count.is_multiple_of(groups) && count <= statistics.blocks * LANES;
        if !parted || gamma_beta.0.len() != count || gamma_beta.1.len() != count {
            bail!("group norm: {count} channels in {groups} groups")
        }
        let channels = statistics.blocks * LANES;
        let pictures = statistics.partials.len() / statistics.blocks.max(1);
        let width = (count / groups).max(1);
        Ok(Self::affine(pictures, channels, |picture, channel| {
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
        }))
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
        let affine = Affine { mean: pick(0), scale: pick(1), shift: pick(2), pictures, channels };
        Self { affine: Some(affine), ..Self::default() }
    }

    /// Multiplies what the map gives for each picture and channel with `gain`, `[N][C]` with C rounded up to blocks.
    pub fn gain(mut self, gain: &[f32]) -> Self {
        self.misfit |= self.affine.as_ref().is_none_or(|affine| affine.scale.len() != gain.len());
        if let Some(affine) = &mut self.affine {
            for (values, gain) in affine.scale.iter_mut().zip(&mut affine.shift).zip(gain) {
                *values.0 *= gain;
                *values.1 *= gain;
            }
        }
        self
    }

    /// Multiplies every pixel with its own factor, `[N][D * H * W]`, before the addition.
    pub fn gate(mut self, gate: &'a [f32]) -> Self {
        self.gate = Some(gate);
        self
    }

    /// Adds `other` before the activation.
    pub fn adding(mut self, other: &'a Blocked) -> Self {
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

    /// Then enlarges the picture: gate and addend are those of the small one.
    pub fn enlarged(mut self, enlarge: Enlarge) -> Self {
        self.enlarge = Some(enlarge);
        self
    }

    /// Of these planes along depth alone: what is made has only them. The addend and the gate are those of the whole.
    pub fn planes(mut self, planes: Range<usize>) -> Self {
        self.planes = Some(planes);
        self
    }

    /// The affine map of 16 channels.
    pub(super) fn block(&self, picture: usize, block: usize) -> [[f32; LANES]; 3] {
        match &self.affine {
            None => UNCHANGED,
            Some(affine) => [&affine.mean, &affine.scale, &affine.shift].map(|values| {
                let from = picture * affine.channels + block * LANES;
                std::array::from_fn(|lane| values[from + lane])
            }),
        }
    }

    pub(super) fn check(&self, input: &Blocked) -> Result<()> {
        if let Some(affine) = &self.affine
            && (affine.pictures, affine.channels) != (input.shape.pictures, input.shape.blocks() * LANES)
        {
            bail!(
                "finish: a map for {} pictures of {} channels does not fit {:?}",
                affine.pictures,
                affine.channels,
                input.shape
            )
        }
        if self.misfit {
            bail!("finish: a gain has another size than the map it multiplies, or there is none")
        }
        if let Some(addend) = self.addend
            && addend.shape != input.shape
        {
            bail!("finish: cannot add {:?} to {:?}", addend.shape, input.shape)
        }
        if let Some(planes) = &self.planes
            && (planes.is_empty() || planes.end > input.shape.size[0] || self.enlarge.is_some())
        {
            bail!("finish: planes {planes:?} of {:?}, or planes of an enlarged picture", input.shape)
        }
        if let Some(gate) = self.gate
            && gate.len() != input.shape.pictures * input.shape.pixels()
        {
            bail!("finish: a gate of {} pixels does not fit {:?}", gate.len(), input.shape)
        }
        Ok(())
    }

    /// Into the input of a convolution, and into f32 as well where `keep` asks for what a residual adds to later.
    pub(crate) fn run(
        &self,
        isa: Isa,
        store: &Store,
        input: &Blocked,
        entry: Option<&Entry>,
        keep: bool,
    ) -> Result<(Option<Cells>, Option<Blocked>)> {
        self.check(input)?;
        let mut size = self.enlarge.map_or(input.shape.size, |enlarge| enlarge.output(input.shape.size));
        if let Some(planes) = &self.planes {
            size[0] = planes.len();
        }
        let shape = Shape { size, ..input.shape };
        shape.check()?;
        let mut cells = match entry {
            Some(entry) => {
                check_halo(shape.size, entry)?;
                Some(Cells::take(store, shape, *entry))
            }
            None => None,
        };
        let mut kept = keep.then(|| Blocked::take(store, shape));
        let group = entry.map_or(1, |entry| entry.element.group());
        let job = Job {
            finish: self,
            isa,
            input,
            shape,
            first: self.planes.as_ref().map_or(0, |planes| planes.start),
            group,
            copies: entry.map(|entry| Copies::new(shape, entry)),
            cells: cells.as_mut().map(|cells| Target(cells.data.as_mut_ptr())),
            kept: kept.as_mut().map(|kept| Target(kept.data.as_mut_ptr().cast())),
        };
        let [depth, height, _] = shape.size;
        let rows = shape.pictures * shape.blocks().div_ceil(group) * depth * height;
        (0..rows).into_par_iter().with_min_len(4).for_each(|row| job.row(row));
        if let Some(copies) = &job.copies {
            job.zero_rows(copies);
        }
        Ok((cells, kept))
    }
}

/// For each row and plane of the picture, the bordered ones that show it; and those that show none.
struct Copies {
    entry: Entry,
    layout: Layout,
    planes: Vec<Vec<usize>>,
    rows: Vec<Vec<usize>>,
    empty: Vec<[usize; 2]>,
}

impl Copies {
    fn new(shape: Shape, entry: &Entry) -> Self {
        let layout = Layout::new(shape, entry);
        let mut planes = vec![Vec::new(); shape.size[0]];
        let mut rows = vec![Vec::new(); shape.size[1]];
        let mut empty = Vec::new();
        for z in 0..layout.padded[0] {
            let plane = entry.edge[0].source(z, entry.halo[0], shape.size[0]);
            if let Some(plane) = plane {
                planes[plane].push(z);
            }
            for y in 0..layout.padded[1] {
                let row = entry.edge[1].source(y, entry.halo[1], shape.size[1]);
                if plane.is_none() || row.is_none() {
                    empty.push([z, y]);
                }
            }
        }
        for y in 0..layout.padded[1] {
            if let Some(row) = entry.edge[1].source(y, entry.halo[1], shape.size[1]) {
                rows[row].push(y);
            }
        }
        Self { entry: *entry, layout, planes, rows, empty }
    }
}

/// A pass over the rows of an activation.
pub(super) struct Job<'a> {
    pub finish: &'a Finish<'a>,
    pub isa: Isa,
    pub input: &'a Blocked,
    /// Of the result.
    shape: Shape,
    /// The input's plane that is the result's first.
    first: usize,
    /// Blocks of f32 per cell.
    group: usize,
    copies: Option<Copies>,
    cells: Option<Target<u8>>,
    kept: Option<Target<f32>>,
}

impl Job<'_> {
    /// One row of one cell's blocks, to everywhere it goes.
    fn row(&self, row: usize) {
        let shape = self.shape;
        let [depth, height, width] = shape.size;
        let cell_blocks = shape.blocks().div_ceil(self.group);
        let (y, rest) = (row % height, row / height);
        let (z, rest) = (rest % depth, rest / depth);
        let (cell_block, picture) = (rest % cell_blocks, rest / cell_blocks);
        let destinations = self.copies.as_ref().zip(self.cells).map(|(copies, cells)| {
            let layout = &copies.layout;
            let block = picture * layout.picture_bytes + cell_block * layout.block_bytes;
            (copies, cells, block)
        });
        for sub in 0..self.group {
            let block = cell_block * self.group + sub;
            let missing = block >= shape.blocks();
            let to = ((picture * shape.blocks() + block) * shape.pixels() + (z * height + y) * width) * LANES;
            let all = self.input.shape.pixels();
            let pixel = ((self.first + z) * height + y) * width;
            // Meaningless where the picture is enlarged, and not used there.
            let from = ((picture * shape.blocks() + block) * all + pixel) * LANES;
            let affine = (!missing).then(|| self.finish.block(picture, block));
            let large = match self.finish.enlarge {
                Some(enlarge) if !missing => Some(self.enlarged_row(enlarge, picture, block, [z, y])),
                _ => None,
            };
            let gate = self.finish.gate.filter(|_| self.finish.enlarge.is_none());
            let gate = gate.map(|gate| &gate[picture * all + pixel..]);
            let line = |data: &[f32]| data[from..from + width * LANES].as_ptr();
            // SAFETY: this iteration owns the row.
            let out = self.kept.map_or(std::ptr::null_mut(), |kept| unsafe { kept.at(to) }.cast());
            let form = Form::Single;
            let source = affine.as_ref().map(|affine| match &large {
                // Finished already.
                Some(large) => Row {
                    input: large.as_ptr(),
                    addend: None,
                    gate: None,
                    affine: &UNCHANGED,
                    slope: 1.0,
                    pixels: width,
                    out,
                    form,
                },
                None => Row {
                    input: line(self.input.data.as_f32()),
                    addend: self.finish.addend.map(|addend| line(addend.data.as_f32())),
                    gate: gate.map(|gate| gate[..width].as_ptr()),
                    affine,
                    slope: self.finish.slope,
                    pixels: width,
                    out,
                    form,
                },
            });
            if let (Some(source), Some(_)) = (&source, self.kept) {
                // SAFETY: input and addend hold `width` pixels of 16 channels (sliced above), and so does the output.
                unsafe { finish_row(self.isa, source) };
            }
            let Some((copies, cells, start)) = destinations else { continue };
            let (entry, layout) = (&copies.entry, &copies.layout);
            let first = copies.planes[z][0] * layout.plane_bytes + copies.rows[y][0] * layout.row_bytes;
            let lane_bytes = CELL / self.group;
            for part in 0..entry.parts() {
                let at = part * layout.part_bytes + start + first + entry.halo[2] * CELL + sub * lane_bytes;
                // SAFETY: this iteration owns the padded rows that show this row, of this block of cells.
                let out = unsafe { cells.at(at) };
                match &source {
                    Some(source) => {
                        let form = match (entry.element, part) {
                            (Element::F32, _) => Form::Single,
                            (Element::Bf16, 0) => Form::Brain,
                            (Element::Bf16, _) => Form::Remainder,
                            (Element::U8, _) => Form::Byte { inverse: 1.0 / entry.scale, zero: f32::from(entry.zero) },
                        };
                        // SAFETY: as above; the output holds as many cells.
                        unsafe { finish_row(self.isa, &Row { out, form, ..*source }) };
                    }
                    None => {
                        for pixel in 0..width {
                            // SAFETY: as above.
                            unsafe { out.add(pixel * CELL).write_bytes(entry.zero_byte(), lane_bytes) };
                        }
                    }
                }
            }
        }
        let Some((copies, cells, start)) = destinations else { return };
        let layout = &copies.layout;
        for part in 0..copies.entry.parts() {
            let at =
                |z: usize, y: usize| part * layout.part_bytes + start + z * layout.plane_bytes + y * layout.row_bytes;
            let first = at(copies.planes[z][0], copies.rows[y][0]);
            // SAFETY: as above.
            let row = unsafe { std::slice::from_raw_parts_mut(cells.at(first), layout.row_bytes) };
            surround(row, &copies.entry, width);
            for &z in &copies.planes[z] {
                for &y in &copies.rows[y] {
                    if at(z, y) != first {
                        // SAFETY: another padded row of this iteration.
                        unsafe { cells.at(at(z, y)).copy_from_nonoverlapping(row.as_ptr(), layout.row_bytes) };
                    }
                }
            }
        }
    }

    /// Fills the rows that show nothing of the picture.
    fn zero_rows(&self, copies: &Copies) {
        let Some(cells) = self.cells else { return };
        let layout = &copies.layout;
        let blocks = copies.entry.parts() * self.input.shape.pictures * layout.blocks;
        (0..blocks).into_par_iter().for_each(|block| {
            for [z, y] in &copies.empty {
                let at = block * layout.block_bytes + z * layout.plane_bytes + y * layout.row_bytes;
                // SAFETY: no picture row is copied here.
                unsafe { cells.at(at).write_bytes(copies.entry.zero_byte(), layout.row_bytes) };
            }
        });
    }
}

/// A mirrored border must be smaller than the picture.
pub(crate) fn check_halo(size: [usize; 3], entry: &Entry) -> Result<()> {
    for ((edge, halo), size) in entry.edge.into_iter().zip(entry.halo).zip(size) {
        if edge == super::Edge::Reflect && halo >= size.max(1) {
            bail!("a reflected border of {halo} px needs more than {halo} px, the picture has {size}")
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
pub(super) enum Form {
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
#[derive(Clone, Copy)]
pub(super) struct Row<'a> {
    pub input: *const f32,
    pub addend: Option<*const f32>,
    pub gate: Option<*const f32>,
    pub affine: &'a [[f32; LANES]; 3],
    pub slope: f32,
    pub pixels: usize,
    pub out: *mut u8,
    pub form: Form,
}

for_lanes! {
    /// # Safety
    /// The instruction set must be there; the row's addresses must hold `pixels` pixels.
    pub(super) unsafe fn finish_row(row: &Row<'_>) = finish_row_body
}

/// What does not change along a row.
struct Constants<L> {
    affine: [L; 3],
    slope: L,
}

/// Pixel `at`. A function, not a closure: closures are compiled without the caller's instruction set.
#[inline(always)]
unsafe fn value<L: Lanes>(row: &Row<'_>, constants: &Constants<L>, at: usize) -> L {
    // SAFETY: the caller's contract.
    unsafe {
        let [mean, scale, shift] = constants.affine;
        let mut y = L::load(row.input.add(at * LANES)).sub(mean).mul(scale).add(shift);
        if let Some(gate) = row.gate {
            y = y.mul(L::splat(gate.add(at).read()));
        }
        if let Some(addend) = row.addend {
            y = y.add(L::load(addend.add(at * LANES)));
        }
        match row.slope {
            1.0 => y,
            // Not a product: that of 0 and minus infinity is NaN. Of two operands `max` gives the second if either is NaN.
            0.0 => L::splat(0.0).max(y),
            _ => y.leaky(constants.slope),
        }
    }
}

#[inline(always)]
unsafe fn finish_row_body<L: Lanes>(row: &Row<'_>) {
    // SAFETY: the caller's contract.
    unsafe {
        let constants = Constants {
            affine: row.affine.each_ref().map(|values| L::load(values.as_ptr())),
            slope: L::splat(row.slope),
        };
        match row.form {
            Form::Single => {
                for at in 0..row.pixels {
                    value(row, &constants, at).store(row.out.add(at * CELL).cast());
                }
            }
            Form::Brain => {
                for at in 0..row.pixels {
                    value(row, &constants, at).store_bf16(row.out.add(at * CELL).cast());
                }
            }
            Form::Remainder => {
                let mut high = [0u16; LANES];
                for at in 0..row.pixels {
                    let y = value(row, &constants, at);
                    y.store_bf16(high.as_mut_ptr());
                    y.sub(L::load_bf16(high.as_ptr())).store_bf16(row.out.add(at * CELL).cast());
                }
            }
            Form::Byte { inverse, zero } => {
                let (inverse, zero) = (L::splat(inverse), L::splat(zero));
                for at in 0..row.pixels {
                    value(row, &constants, at).mul(inverse).add(zero).store_u8(row.out.add(at * CELL));
                }
            }
        }
    }
}
