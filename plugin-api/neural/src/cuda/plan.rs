//! A kernel's launch as data: made from shapes alone, without a card.

use candle_core::{DType, Result, bail};

/// The compiled kernels, checked in beside their source (`cuda/kernels.cu`).
pub const KERNELS_PTX: &str = include_str!("../../cuda/kernels.ptx");

/// Threads of a block; the kernels that reduce a plane take exactly [`REDUCERS`].
const THREADS: u32 = 256;
/// `REDUCERS` of kernels.cu.
const REDUCERS: u32 = 512;
/// `HIDDEN` of kernels.cu.
pub(super) const HIDDEN: usize = 512;
/// What the y axis of a grid can count.
const MAX_GRID_Y: usize = 65_535;

/// Shape and type of a dense tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    /// Lengths of the axes, in C order.
    pub shape: Vec<usize>,
    /// Type of the elements.
    pub dtype: DType,
}

impl Picture {
    /// A picture.
    pub fn new(shape: &[usize], dtype: DType) -> Self {
        Self { shape: shape.to_vec(), dtype }
    }

    /// Elements.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// `[N, C, H, W]`, with no empty axis.
    ///
    /// # Errors
    /// If the rank is another or an axis is empty.
    pub fn dims4(&self, op: &str) -> Result<[usize; 4]> {
        match <[usize; 4]>::try_from(self.shape.as_slice()) {
            Ok(dims) if !dims.contains(&0) => Ok(dims),
            _ => bail!("{op}: expected [N, C, H, W] without an empty axis, got {:?}", self.shape),
        }
    }
}

/// One argument of a kernel.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Argument {
    /// The elements of this input.
    Input(usize),
    /// The elements of the output.
    Output,
    /// No elements: NULL.
    Nothing,
    /// A whole number, 32 bits.
    Int(i32),
    /// A float, 32 bits.
    Float(f32),
}

/// Which kernel to run, how often, and with what.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// Its name in kernels.cu.
    pub kernel: &'static str,
    /// Blocks along x and y.
    pub grid: [u32; 2],
    /// Threads of a block.
    pub threads: u32,
    /// What it is given, in order.
    pub arguments: Vec<Argument>,
    /// What it makes; every element is written.
    pub output: Picture,
}

impl Plan {
    /// One thread for every pixel of each of `planes` planes.
    ///
    /// # Errors
    /// If there are more planes or pixels than a grid counts.
    pub(super) fn per_pixel(
        kernel: &'static str,
        planes: usize,
        pixels: usize,
        arguments: Vec<Argument>,
        output: Picture,
    ) -> Result<Self> {
        let blocks = int(kernel, pixels)? as u32;
        Self::new(kernel, planes, blocks.div_ceil(THREADS), THREADS, arguments, output)
    }

    /// One block for every plane.
    ///
    /// # Errors
    /// If there are more planes than a grid counts.
    pub(super) fn per_plane(
        kernel: &'static str,
        planes: usize,
        arguments: Vec<Argument>,
        output: Picture,
    ) -> Result<Self> {
        Self::new(kernel, planes, 1, REDUCERS, arguments, output)
    }

    fn new(
        kernel: &'static str,
        planes: usize,
        blocks: u32,
        threads: u32,
        arguments: Vec<Argument>,
        output: Picture,
    ) -> Result<Self> {
        if planes > MAX_GRID_Y {
            bail!("{kernel}: {planes} planes at once; a grid counts {MAX_GRID_Y}")
        }
        Ok(Self { kernel, grid: [blocks, planes as u32], threads, arguments, output })
    }
}

/// A length as kernels count it.
///
/// # Errors
/// If it needs more than 31 bits.
pub(super) fn int(op: &str, length: usize) -> Result<i32> {
    i32::try_from(length).map_err(|_| candle_core::Error::Msg(format!("{op}: {length} elements in one plane")))
}
