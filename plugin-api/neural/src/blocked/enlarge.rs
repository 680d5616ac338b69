//! Enlargement by two, nearest or linear, in the pass that makes a convolution's input: the large picture exists only
//! there.

use super::finish::{Form, Job, Row, finish_row};
use crate::kernels::LANES;
use crate::kernels::lanes::{Lanes, for_lanes};

/// Doubles the picture along some axes, `[depth, height, width]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Enlarge {
    /// Every pixel twice.
    Nearest([bool; 3]),
    /// Between the pixels' centres (PyTorch's bi- and trilinear with `align_corners=False`): three quarters of the
    /// nearer pixel and one of the other; at the edges the edge pixel alone, whatever lies beside it.
    Linear([bool; 3]),
}

/// Up to two pixels of an axis with their weights.
#[derive(Clone, Copy)]
struct Taps {
    at: [usize; 2],
    weights: [f32; 2],
    count: usize,
}

impl Enlarge {
    fn axes(self) -> [bool; 3] {
        let (Self::Nearest(axes) | Self::Linear(axes)) = self;
        axes
    }

    /// Size of the picture of `size` enlarged.
    pub(super) fn output(self, size: [usize; 3]) -> [usize; 3] {
        let axes = self.axes();
        std::array::from_fn(|axis| size[axis] * if axes[axis] { 2 } else { 1 })
    }

    /// What pixel `at` of the enlarged axis is made of.
    fn taps(self, axis: usize, at: usize, size: usize) -> Taps {
        let one = |at: usize| Taps { at: [at; 2], weights: [1.0, 0.0], count: 1 };
        let two = |a: usize, b: usize| Taps { at: [a, b], weights: [0.75, 0.25], count: 2 };
        if !self.axes()[axis] {
            return one(at);
        }
        let near = at / 2;
        match self {
            Self::Nearest(_) => one(near),
            Self::Linear(_) if at.is_multiple_of(2) && near > 0 => two(near, near - 1),
            Self::Linear(_) if !at.is_multiple_of(2) && near + 1 < size => two(near, near + 1),
            Self::Linear(_) => one(near),
        }
    }
}

impl Job<'_> {
    /// One row of one block of the enlarged picture.
    pub(super) fn enlarged_row(&self, enlarge: Enlarge, picture: usize, block: usize, [z, y]: [usize; 2]) -> Vec<f32> {
        let shape = self.input.shape;
        let [depth, height, width] = shape.size;
        let affine = self.finish.block(picture, block);
        let mut row = vec![0f32; width * LANES];
        let mut one = vec![0f32; width * LANES];
        let (planes, rows) = (enlarge.taps(0, z, depth), enlarge.taps(1, y, height));
        for plane in 0..planes.count {
            for line in 0..rows.count {
                let at = planes.at[plane] * height + rows.at[line];
                let from = (picture * shape.blocks() + block) * self.input.block_stride() + at * width * LANES;
                let source = |data: &[f32]| data[from..from + width * LANES].as_ptr();
                let gate = self.finish.gate.map(|gate| &gate[picture * shape.pixels() + at * width..][..width]);
                let job = Row {
                    input: source(self.input.data.as_f32()),
                    addend: self.finish.addend.map(|addend| source(addend.data.as_f32())),
                    gate: gate.map(<[f32]>::as_ptr),
                    affine: &affine,
                    slope: self.finish.slope,
                    pixels: width,
                    out: one.as_mut_ptr().cast(),
                    form: Form::Single,
                };
                // SAFETY: input, addend and output hold `width` pixels of 16 channels, the gate one value each.
                unsafe { finish_row(self.isa, &job) };
                if planes.count * rows.count == 1 {
                    std::mem::swap(&mut row, &mut one);
                } else {
                    // SAFETY: the instruction set is the engine's.
                    unsafe { add_weighted(self.isa, &mut row, &one, planes.weights[plane] * rows.weights[line]) };
                }
            }
        }
        if !enlarge.axes()[2] {
            return row;
        }
        let mut wide = vec![0f32; 2 * width * LANES];
        for (x, cell) in wide.chunks_exact_mut(LANES).enumerate() {
            let taps = enlarge.taps(2, x, width);
            cell.copy_from_slice(&row[taps.at[0] * LANES..][..LANES]);
            if taps.count == 2 {
                let other = &row[taps.at[1] * LANES..][..LANES];
                for (x, other) in cell.iter_mut().zip(other) {
                    *x = *x * taps.weights[0] + other * taps.weights[1];
                }
            }
        }
        wide
    }
}

for_lanes! {
    /// Adds `weight * from`, cells of the same number.
    ///
    /// # Safety
    /// The instruction set must be there.
    unsafe fn add_weighted(to: &mut [f32], from: &[f32], weight: f32) = add_weighted_body
}

#[inline(always)]
unsafe fn add_weighted_body<L: Lanes>(to: &mut [f32], from: &[f32], weight: f32) {
    for (to, from) in to.chunks_exact_mut(LANES).zip(from.chunks_exact(LANES)) {
        // SAFETY: chunks of sixteen; the instruction set is the caller's contract.
        unsafe { L::load(to.as_ptr()).add(L::load(from.as_ptr()).mul(L::splat(weight))).store(to.as_mut_ptr()) };
    }
}
