//! Convolution in two and three dimensions over blocked activations: plain, transposed, and after a nearest enlargement.
//!
//! A network makes its [`Conv`]s once, which packs their weights, and then passes [`Cells`] from one to the next. How a
//! convolution is computed (directly, or by Winograd's transforms; how few channels at either end are folded into the
//! kernel's lanes) is private to this module.

mod columns;
mod direct;
mod packed;
mod phases;
mod winograd;

use crate::blocked::MOST_PADDING;
use crate::blocked::buffer::MOST_STRIDE;
use crate::blocked::{Blocked, Cells, Edge, Entry, Shape, Window};
use crate::engine::{Engine, Precision};
use crate::kernels::{Element, LANES};
use candle_core::{DType, Result, Tensor, bail};
use columns::Columns;
use direct::Direct;
use packed::Packed;
use phases::Phases;
use winograd::Winograd;

/// What a convolution does besides multiplying.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The kernel slides over the input.
    Plain,
    /// Every input pixel spreads the kernel over the output; `extra` pixels are added at the end of each axis.
    Transposed {
        /// PyTorch's `output_padding`.
        extra: [usize; 3],
    },
    /// The input is enlarged by two (nearest) along these axes, then the kernel slides over it.
    Enlarged {
        /// `[depth, height, width]`.
        axes: [bool; 3],
    },
}

/// Settings of a convolution, `[depth, height, width]`; pictures have depth 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ConvConfig {
    /// Plain, transposed or enlarged.
    pub kind: Kind,
    /// Step of the kernel over the input (plain), or of the input over the output (transposed).
    pub stride: [usize; 3],
    /// Border around the (enlarged) input; of a transposed convolution, what is cut off the output.
    pub padding: [usize; 3],
    /// What the border holds.
    pub edge: Edge,
    /// Whether this is a network's first layer, which reads planes: of few channels, each then gets cells that hold what
    /// lies under a row of the kernel.
    pub first: bool,
    /// Largest absolute value of the input, for `int8`; without it the layer is computed in bf16.
    pub activation: Option<f32>,
    /// Whether the input has no negative values, as after a ReLU: `int8` then has twice as many steps for it.
    pub not_negative: bool,
    /// Whether the mean, variance and extremes of the output's channels are wanted.
    pub statistics: bool,
    /// Size of the input that will come, where it is known: weights are then kept for the one way of computing that suits
    /// it. Other sizes work, perhaps slower; and where Winograd's transforms are used, a value that is not finite spreads to
    /// its neighbours instead of being computed around.
    pub expected: Option<[usize; 3]>,
}

impl Default for ConvConfig {
    fn default() -> Self {
        Self {
            kind: Kind::Plain,
            stride: [1; 3],
            padding: [0; 3],
            edge: Edge::Zero,
            first: false,
            activation: None,
            not_negative: false,
            statistics: false,
            expected: None,
        }
    }
}

/// A convolution with its packed weights.
///
/// The same input gives the same bits for any number of threads and any batch.
pub struct Conv {
    engine: Engine,
    config: ConvConfig,
    outputs: usize,
    /// Channels of each input: several are as if concatenated.
    inputs: Vec<usize>,
    kernel: [usize; 3],
    entry: Entry,
    /// Per channel, rounded up to blocks.
    bias: Vec<f32>,
    route: Route,
}

enum Route {
    Direct(Direct),
    Winograd(Box<Winograd>),
    /// A cell holds what lies under a row of the kernel.
    Rows(Direct, Window),
    /// The kernel's columns are output channels.
    Columns(Columns),
}

impl Conv {
    /// Packs `weight [Cout, Cin, (kD,) kH, kW]` (transposed: `[Cin, Cout, ...]`) and `bias [Cout]`. `inputs` are the
    /// channels of each input where several are concatenated; empty is one input of `Cin`.
    ///
    /// # Errors
    /// If the weight is not of rank 4 or 5, an axis is empty, the bias has another length, the inputs do not add up, or
    /// the settings cannot be met.
    pub fn new(
        engine: &Engine,
        weight: &Tensor,
        bias: Option<&Tensor>,
        inputs: &[usize],
        config: ConvConfig,
    ) -> Result<Self> {
        let (a, b, kernel) = match *weight.dims() {
            [a, b, h, w] => (a, b, [1, h, w]),
            [a, b, d, h, w] => (a, b, [d, h, w]),
            _ => bail!("convolution: a weight of rank 4 or 5 expected, got {:?}", weight.shape()),
        };
        let transposed = matches!(config.kind, Kind::Transposed { .. });
        let (outputs, channels) = if transposed { (b, a) } else { (a, b) };
        if weight.elem_count() == 0 || config.stride.contains(&0) {
            bail!("convolution: weight {:?} with stride {:?} has an empty axis", weight.shape(), config.stride)
        }
        let (enlarged, edge) = (matches!(config.kind, Kind::Enlarged { .. }), config.edge);
        if transposed && edge != Edge::Zero || enlarged && config.stride != [1; 3] {
            bail!("convolution: {:?} with stride {:?} and {edge:?} is none", config.kind, config.stride)
        }
        if config.padding.iter().any(|&padding| padding > MOST_PADDING) {
            bail!("convolution: padding {:?} is more than {MOST_PADDING}", config.padding)
        }
        if config.activation.is_some_and(|largest| !(1e-30..=1e30).contains(&largest)) {
            bail!("convolution: {:?} is no largest value of activations", config.activation)
        }
        if config.stride[2] > MOST_STRIDE {
            bail!("convolution: a stride of {} along rows is more than {MOST_STRIDE}", config.stride[2])
        }
        let inputs = if inputs.is_empty() { vec![channels] } else { inputs.to_vec() };
        if inputs.iter().sum::<usize>() != channels || inputs.contains(&0) {
            bail!("convolution: inputs of {inputs:?} channels are not the {channels} of the weight")
        }
        let dense = weight.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
        let given = match bias {
            Some(bias) if bias.dims() != [outputs] => {
                bail!("convolution: bias expected [{outputs}], got {:?}", bias.shape())
            }
            Some(bias) => bias.to_dtype(DType::F32)?.to_vec1::<f32>()?,
            None => vec![0.0; outputs],
        };
        let mut bias = given.clone();
        bias.resize(outputs.next_multiple_of(LANES), 0.0);

        let phases = Phases::new(&config, kernel)?;
        let winograd = engine.winograd(&config, kernel, channels);
        let mut entry = engine.entry(&config);
        if winograd.is_some() && entry.element == Element::Bf16 && config.kind == Kind::Plain && !engine.tiles() {
            // Without a matrix unit a quarter of the products in fp32 is faster than all of them in bf16.
            entry.element = Element::F32;
        }
        entry.halo = phases.halo;
        entry.edge = phases.edge;
        let taps: usize = kernel.iter().product();
        if entry.element == Element::U8 && channels * taps > 60_000 {
            bail!("convolution: {channels} channels times {taps} taps overflow the sums of int8")
        }
        // One element of the kernel, by output, input and place in `[kD][kH][kW]`.
        let at = |output: usize, input: usize, element: usize| {
            let (first, second) = if transposed { (input, output) } else { (output, input) };
            dense[(first * b + second) * taps + element]
        };
        let plain = config.kind == Kind::Plain;
        let rows = config.first && plain && inputs.len() == 1 && channels < 8 && kernel[2] <= LANES;
        let columns = plain && !rows && kernel[2] > 1 && config.stride == [1; 3] && outputs * kernel[2] <= LANES;
        let route = if rows {
            // One cell holds a row of the kernel.
            let window = Window { kernel, stride: config.stride, pad: config.padding, edge: config.edge };
            let rows = ConvConfig {
                stride: [config.stride[0], config.stride[1], 1],
                padding: [config.padding[0], config.padding[1], 0],
                ..config
            };
            let phases = Phases::new(&rows, [kernel[0], kernel[1], 1])?;
            entry = Entry { halo: phases.halo, edge: phases.edge, ..entry };
            let lanes = entry.element.channels();
            let weight = |output: usize, lane: usize, row: usize| match lane % lanes {
                column if column < kernel[2] => at(output, lane / lanes, row * kernel[2] + column),
                _ => 0.0,
            };
            let packed =
                vec![Packed::new(&entry, outputs, &[channels * lanes], kernel[0] * kernel[1], &weight, &given)];
            Route::Rows(Direct { phases, packed }, window)
        } else if columns {
            Route::Columns(Columns::new(&entry, outputs, &inputs, kernel, &at)?)
        } else {
            let packed = || {
                let pack = |phase: &phases::Phase| {
                    let weight = |output: usize, input: usize, tap: usize| {
                        phase.sources[tap].iter().map(|&element| at(output, input, element)).sum::<f32>()
                    };
                    Packed::new(&entry, outputs, &inputs, phase.taps.len(), &weight, &given)
                };
                phases.all.iter().map(pack).collect::<Vec<_>>()
            };
            let winograd = winograd.filter(|_| entry.element == Element::F32);
            let few = match config.expected {
                Some(size) => winograd::few(phases::output(&config, kernel, size)?, kernel[0]),
                None => false,
            };
            match winograd {
                Some(enlarged) if !few => {
                    let direct = config.expected.is_none().then(&packed);
                    let direct = direct.map(|packed| Direct { phases, packed });
                    Route::Winograd(Box::new(Winograd::new(&entry, outputs, &inputs, kernel[0], enlarged, &at, direct)))
                }
                _ => {
                    let packed = packed();
                    Route::Direct(Direct { phases, packed })
                }
            }
        };
        Ok(Self { engine: engine.clone(), config, outputs, inputs, kernel, entry, bias, route })
    }

    /// What this convolution wants at its door: the target of [`crate::Finish::cells`].
    pub fn entry(&self) -> &Entry {
        &self.entry
    }

    /// Channels of the output.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// Channels of all inputs.
    pub fn channels(&self) -> usize {
        self.inputs.iter().sum()
    }

    /// Bytes of the packed weights.
    pub fn bytes(&self) -> usize {
        match &self.route {
            Route::Direct(direct) | Route::Rows(direct, _) => direct.bytes(),
            Route::Winograd(winograd) => winograd.bytes(),
            Route::Columns(columns) => columns.bytes(),
        }
    }

    /// Most bytes that a thread holds between the inputs and an output of `size`, roughly.
    pub(crate) fn scratch(&self, size: [usize; 3]) -> usize {
        match &self.route {
            Route::Winograd(winograd) => winograd.scratch(size, self.channels(), self.outputs),
            _ => 0,
        }
    }

    /// Shape of the output for an input of `shape`.
    ///
    /// # Errors
    /// If the kernel is larger than the padded input.
    pub fn output(&self, shape: Shape) -> Result<Shape> {
        let size = phases::output(&self.config, self.kernel, shape.size)?;
        Ok(Shape { channels: self.outputs, size, ..shape })
    }

    /// Convolves the concatenation of `inputs`.
    ///
    /// # Errors
    /// If the inputs are not those this convolution was made for, or the kernel is larger than they are.
    pub fn forward(&self, inputs: &[&Cells]) -> Result<Blocked> {
        let channels: Vec<usize> = inputs.iter().map(|input| input.shape.channels).collect();
        if channels != self.inputs || matches!(self.route, Route::Rows(..)) {
            bail!("convolution: inputs of {:?} channels expected, got {channels:?}", self.inputs)
        }
        for input in inputs {
            let [first, this] = [inputs[0].shape, input.shape];
            if input.entry != self.entry || (first.pictures, first.size) != (this.pictures, this.size) {
                bail!("convolution: an input of {this:?} was made for another layer")
            }
        }
        let out = self.output(inputs[0].shape)?;
        out.check()?;
        let (engine, statistics) = (&self.engine, self.config.statistics);
        Ok(match &self.route {
            Route::Direct(direct) | Route::Rows(direct, _) => direct.forward(engine, inputs, out, statistics),
            Route::Winograd(winograd) => winograd.forward(engine, inputs, out, &self.bias, statistics),
            Route::Columns(columns) => columns.forward(engine, inputs, out, &self.bias, statistics),
        })
    }

    /// Convolves planes `[N][C][D][H][W]`.
    ///
    /// # Errors
    /// As [`Conv::forward`].
    pub fn forward_planes(&self, planes: &[f32], shape: Shape) -> Result<Blocked> {
        if self.inputs != [shape.channels] {
            bail!("convolution: {:?} channels expected, got {}", self.inputs, shape.channels)
        }
        match &self.route {
            Route::Rows(direct, window) => {
                let out = self.output(shape)?;
                let cells = Cells::kernel_rows(self.engine.store(), planes, shape, &self.entry, window)?;
                Ok(direct.forward(&self.engine, &[&cells], out, self.config.statistics))
            }
            _ => {
                let cells = Cells::from_planes(self.engine.store(), planes, shape, &self.entry)?;
                self.forward(&[&cells])
            }
        }
    }
}

impl Engine {
    /// Whether a convolution may take Winograd's way: the axes `[height, width]` that are enlarged on it.
    fn winograd(&self, config: &ConvConfig, kernel: [usize; 3], channels: usize) -> Option<[bool; 2]> {
        let axes = match config.kind {
            Kind::Plain if config.stride == [1; 3] => [false; 2],
            Kind::Enlarged { axes: [false, rows, columns] } => [rows, columns],
            _ => return None,
        };
        let reads = |axis: usize| !axes[axis] || config.padding[axis + 1] == 1;
        let fits = kernel[1..] == [3, 3] && reads(0) && reads(1) && channels >= LANES;
        (self.precision() != Precision::F32 && fits).then_some(axes)
    }

    /// What a layer of this engine takes, without its border.
    fn entry(&self, config: &ConvConfig) -> Entry {
        let (element, split) = match (self.precision(), config.activation) {
            (Precision::F32, _) => (Element::F32, false),
            (Precision::F32x3, _) if self.tiles() => (Element::Bf16, true),
            (Precision::F32x3, _) => (Element::F32, false),
            (Precision::Int8, Some(largest)) if largest > 0.0 => (Element::U8, false),
            (Precision::Bf16 | Precision::Int8, _) => (Element::Bf16, false),
        };
        Entry {
            element,
            split,
            halo: [0; 3],
            edge: [Edge::Zero; 3],
            scale: config.activation.map_or(1.0, |largest| largest / if config.not_negative { 255.0 } else { 127.0 }),
            zero: if config.not_negative { 0 } else { 128 },
        }
    }
}
