//! What a network computes with: instruction set, precision, and memory that goes from layer to layer.

use std::fmt;

use crate::Isa;
use crate::blocked::buffer::Store;
use crate::blocked::{Blocked, Cells, Entry, Finish, Shape};
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Tensor, bail};

/// How exactly a network computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Precision {
    /// Every product and sum in fp32, in the order of the definition.
    F32,
    /// As exact as fp32 for practical purposes, by other means: three bf16 products on the matrix unit (16 bits of
    /// mantissa), or Winograd's transforms in fp32.
    F32x3,
    /// Weights and activations rounded to bf16, sums in fp32; where there is no matrix unit, layers for which Winograd's
    /// transforms in fp32 are faster are computed so.
    Bf16,
    /// Weights of 8 bits per output channel and activations of 8 bits, calibrated per layer, sums in integers; layers
    /// without calibration in bf16.
    Int8,
}

impl Precision {
    const EVERY: [Self; 4] = [Self::F32, Self::F32x3, Self::Bf16, Self::Int8];

    /// Its name in parameters and reports: `f32`, `f32x3`, `bf16`, `int8`.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F32x3 => "f32x3",
            Self::Bf16 => "bf16",
            Self::Int8 => "int8",
        }
    }

    /// What a parameter asks for; `auto` is [`Precision::F32x3`].
    pub fn named(name: &str) -> Option<Self> {
        if name == "auto" {
            return Some(Self::F32x3);
        }
        Self::EVERY.into_iter().find(|precision| precision.name() == name)
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Instruction set, precision and memory of a network. All networks of a library share the memory: their layers run one
/// after the other.
#[derive(Clone)]
pub struct Engine {
    isa: Isa,
    precision: Precision,
    store: Store,
}

impl Engine {
    /// An engine of `precision` for instructions that this machine has (see [`Isa::all`]).
    ///
    /// # Errors
    /// If the machine lacks them.
    pub fn new(isa: Isa, precision: Precision) -> Result<Self> {
        if isa > Isa::best() {
            bail!("this machine has no {isa:?} instructions; its best are {:?}", Isa::best())
        }
        Ok(Self { isa, precision, store: Store::shared() })
    }

    /// An engine for instructions that something else provides: an emulator, in tests.
    ///
    /// # Safety
    /// Executing them must be defined.
    #[allow(unsafe_code)]
    pub unsafe fn assuming(isa: Isa, precision: Precision) -> Self {
        Self { isa, precision, store: Store::shared() }
    }

    /// The instruction set.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// The precision.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// Whether products are made by the matrix unit.
    pub(crate) fn tiles(&self) -> bool {
        self.isa == Isa::Amx
    }

    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    /// Gives the memory that no layer uses at the moment back to the system.
    pub fn release(&self) {
        self.store.clear();
    }

    /// Blocks of planes `[N][C][D][H][W]`.
    ///
    /// # Errors
    /// If the elements are not of that shape.
    pub fn from_planes(&self, planes: &[f32], shape: Shape) -> Result<Blocked> {
        Blocked::from_planes(&self.store, planes, shape)
    }

    /// `finish` of `input` as the input of a convolution.
    ///
    /// # Errors
    /// If the parts do not fit, or the picture is smaller than a mirrored border.
    pub fn cells(&self, finish: &Finish<'_>, input: &Blocked, entry: &Entry) -> Result<Cells> {
        match finish.run(self.isa, &self.store, input, Some(entry), false)? {
            (Some(cells), _) => Ok(cells),
            (None, _) => bail!("finish: no cells were made"),
        }
    }

    /// `finish` of `input`, in f32.
    ///
    /// # Errors
    /// If the parts do not fit.
    pub fn blocked(&self, finish: &Finish<'_>, input: &Blocked) -> Result<Blocked> {
        match finish.run(self.isa, &self.store, input, None, true)? {
            (_, Some(blocked)) => Ok(blocked),
            (_, None) => bail!("finish: no blocks were made"),
        }
    }

    /// Mean and maximum over the channels of every pixel of `finish(input)`, `[N][2][D * H * W]`, means first; of
    /// `finish` only the map per channel counts.
    ///
    /// # Errors
    /// If `finish` does not fit.
    pub fn pool_channels(&self, finish: &Finish<'_>, input: &Blocked) -> Result<Vec<f32>> {
        input.pool_channels(self.isa, finish)
    }

    /// Both in one pass: for a residual network, whose trunk is convolved and added to.
    ///
    /// # Errors
    /// As [`Engine::cells`].
    pub fn cells_and_blocked(&self, finish: &Finish<'_>, input: &Blocked, entry: &Entry) -> Result<(Cells, Blocked)> {
        match finish.run(self.isa, &self.store, input, Some(entry), true)? {
            (Some(cells), Some(blocked)) => Ok((cells, blocked)),
            _ => bail!("finish: not everything was made"),
        }
    }
}

/// A network over planes `[N][C][D][H][W]`: what comes out, and its shape.
pub type Planes<'a> = dyn Fn(&[f32], Shape) -> Result<(Vec<f32>, Shape)> + 'a;

/// Runs `network` over a dense f32 tensor `[N, C, (D,) H, W]` as one Candle operation: planes go in and come out, and
/// what lies between never becomes a tensor.
///
/// # Errors
/// If the tensor is not f32 of rank 4 or 5 on the CPU, or `network` fails.
pub fn whole_network(input: &Tensor, network: &Planes<'_>) -> Result<Tensor> {
    input.contiguous()?.apply_op1_no_bwd(&WholeNetwork(network))
}

struct WholeNetwork<'a>(&'a Planes<'a>);

impl CustomOp1 for WholeNetwork<'_> {
    fn name(&self) -> &'static str {
        "whole-network"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, candle_core::Shape)> {
        let (planes, shape, rank) = crate::dense::dense(self.name(), storage, layout)?;
        let (out, Shape { pictures, channels, size: [depth, height, width] }) = (self.0)(planes, shape)?;
        let dims = match rank {
            4 if depth == 1 => candle_core::Shape::from((pictures, channels, height, width)),
            _ => candle_core::Shape::from((pictures, channels, depth, height, width)),
        };
        if out.len() != dims.elem_count() {
            bail!("{}: {} elements are not {dims:?}", self.name(), out.len())
        }
        Ok((CpuStorage::F32(out), dims))
    }
}
