//! The input of a convolution: cells of its element, with the border inside the buffer.

use super::Shape;
use super::buffer::{Buffer, Store};
use crate::kernels::{CELL, Element};

/// What surrounds an activation before a convolution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Edge {
    /// Zeros.
    Zero,
    /// The picture mirrored without repeating its edge.
    Reflect,
    /// The edge repeated.
    Replicate,
}

impl Edge {
    /// Source index of position `at` of an axis of `size` elements with `width` more on each side; `None` is zero.
    pub(crate) fn source(self, at: usize, width: usize, size: usize) -> Option<usize> {
        match self {
            Self::Zero => (width..width + size).contains(&at).then(|| at - width),
            Self::Reflect => Some(crate::pad::reflected(at, width, size)),
            Self::Replicate => Some(at.saturating_sub(width).min(size - 1)),
        }
    }
}

/// What a convolution wants at its door.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Entry {
    pub(crate) element: Element,
    /// Whether a second buffer holds what bf16 leaves of each value: together 16 bits of mantissa.
    pub(crate) split: bool,
    /// Edge in pixels, `[depth, height, width]`.
    pub(crate) halo: [usize; 3],
    pub(crate) edge: [Edge; 3],
    /// For u8: a value is `(stored - zero) * scale`.
    pub(crate) scale: f32,
    pub(crate) zero: u8,
}

impl Entry {
    /// Buffers per activation.
    pub(crate) fn parts(&self) -> usize {
        1 + usize::from(self.split)
    }

    /// What 0 is stored as.
    pub(crate) fn zero_byte(&self) -> u8 {
        if self.element == Element::U8 { self.zero } else { 0 }
    }
}

/// Activations in the element and with the border of the convolution that takes them.
pub struct Cells {
    pub(crate) shape: Shape,
    pub(crate) entry: Entry,
    pub(crate) data: Buffer,
    /// Groups of every cell that hold something, where it does not follow from the channels.
    pub(crate) groups: Option<usize>,
}

impl Cells {
    /// Memory for `shape`, not yet written.
    pub(crate) fn take(store: &Store, shape: Shape, entry: Entry) -> Self {
        let layout = Layout::new(shape, &entry);
        Self { shape, entry, data: store.take(layout.part_bytes * entry.parts()), groups: None }
    }

    /// Shape without the border.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    pub(crate) fn layout(&self) -> Layout {
        Layout::new(self.shape, &self.entry)
    }
}

/// Distances in a buffer of cells, in bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Layout {
    /// `[depth, height, width]` with the border.
    pub padded: [usize; 3],
    /// Blocks of one picture.
    pub blocks: usize,
    pub row_bytes: usize,
    pub plane_bytes: usize,
    pub block_bytes: usize,
    pub picture_bytes: usize,
    pub part_bytes: usize,
}

impl Layout {
    pub(crate) fn new(shape: Shape, entry: &Entry) -> Self {
        let padded = std::array::from_fn(|axis| shape.size[axis] + 2 * entry.halo[axis]);
        let blocks = shape.channels.div_ceil(entry.element.channels());
        let row_bytes = padded[2] * CELL;
        let plane_bytes = padded[1] * row_bytes;
        let block_bytes = padded[0] * plane_bytes;
        let picture_bytes = blocks * block_bytes;
        Self {
            padded,
            blocks,
            row_bytes,
            plane_bytes,
            block_bytes,
            picture_bytes,
            part_bytes: shape.pictures * picture_bytes,
        }
    }
}
