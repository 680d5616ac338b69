//! Two-dimensional convolution on the CPU, with the padding and the nearest x2 enlargement before it folded in.
//!
//! This is the seam for faster engines: a network builds a [`Conv2d`] once and calls [`Conv2d::forward`]; how weights
//! are packed and which loop runs is private to this module.

mod rows;
mod tile;

use crate::isa::Isa;
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;
use rows::{RowPlan, Rows};
use tile::{LANES, MAX_STEPS, OUT_BLOCK, Tile};

/// What surrounds the picture before a convolution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Padding {
    /// Zeros on all four sides, in pixels.
    Zero(usize),
    /// The picture mirrored without repeating its edge, in pixels; each side must be longer than this.
    Reflect(usize),
}

impl Padding {
    /// Pixels added on each side.
    pub fn width(self) -> usize {
        match self {
            Self::Zero(width) | Self::Reflect(width) => width,
        }
    }
}

/// How a convolution walks over its picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conv2dConfig {
    /// Border added first (after the enlargement, if any).
    pub padding: Padding,
    /// Step between output pixels, both axes.
    pub stride: usize,
    /// Enlarge the picture by two (nearest) before padding.
    pub upsample: bool,
}

impl Default for Conv2dConfig {
    fn default() -> Self {
        Self { padding: Padding::Zero(0), stride: 1, upsample: false }
    }
}

/// A convolution `[N, Cin, H, W]` -> `[N, Cout, H', W']`, f32 on the CPU, weights packed for its inner loop.
///
/// The same input gives the same bits for any batch size and any number of threads. Work is spread over the current
/// rayon pool (see [`crate::Workers`]). There is no backward pass.
pub struct Conv2d {
    config: Conv2dConfig,
    shape: [usize; 4],
    packed: Vec<f32>,
    bias: Option<Vec<f32>>,
    isa: Isa,
}

impl Conv2d {
    /// Packs `weight [Cout, Cin, kH, kW]` and `bias [Cout]`.
    ///
    /// # Errors
    /// If the weight is not of rank 4, an axis is empty, the bias has another length, or the stride is 0.
    pub fn new(weight: &Tensor, bias: Option<&Tensor>, config: Conv2dConfig) -> Result<Self> {
        let (outputs, inputs, height, width) = weight.dims4()?;
        if outputs == 0 || inputs == 0 || height == 0 || width == 0 || config.stride == 0 {
            bail!("conv2d: weight {:?} with stride {} has an empty axis", weight.shape(), config.stride)
        }
        let bias = match bias {
            Some(bias) if bias.dims() != [outputs] => {
                bail!("conv2d: bias expected [{outputs}], got {:?}", bias.shape())
            }
            Some(bias) => Some(bias.to_dtype(candle_core::DType::F32)?.to_vec1::<f32>()?),
            None => None,
        };
        let dense = weight.to_dtype(candle_core::DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
        let packed = pack(&dense, outputs, inputs * height * width);
        Ok(Self { config, shape: [outputs, inputs, height, width], packed, bias, isa: Isa::best() })
    }

    /// Uses a narrower instruction set than the machine's best; one the machine lacks is ignored.
    pub fn with_isa(mut self, isa: Isa) -> Self {
        self.isa = isa.min(Isa::best());
        self
    }

    /// Shape of the weights, `[Cout, Cin, kH, kW]`.
    pub fn weight_shape(&self) -> [usize; 4] {
        self.shape
    }

    /// Convolves `input [N, Cin, H, W]`.
    ///
    /// # Errors
    /// If the input is not f32 of rank 4 with `Cin` channels on the CPU, a reflected border is not smaller than the
    /// picture, or the kernel is larger than the padded picture.
    pub fn forward(&self, input: &Tensor) -> Result<Tensor> {
        input.contiguous()?.apply_op1_no_bwd(&Forward(self))
    }

    fn plan(&self, height: usize, width: usize) -> Result<RowPlan> {
        let [_, channels, kernel_height, kernel_width] = self.shape;
        RowPlan::new(self.config, channels, [height, width], [kernel_height, kernel_width])
    }

    /// Convolves one picture `[Cin, H, W]` into `out [Cout, H', W']`.
    fn picture(&self, plan: &RowPlan, input: &[f32], out: &mut [f32]) {
        let [outputs, ..] = self.shape;
        let rows = Rows::gather(plan, input);
        let out = Planes { start: out.as_mut_ptr(), len: out.len() };
        let pitch = plan.sum_pitch();
        (0..plan.out_height).into_par_iter().for_each_init(
            || vec![0f32; outputs * pitch],
            |sums, y| {
                self.row(plan, &rows, y, sums);
                for (channel, sums) in sums.chunks_exact(pitch).enumerate() {
                    let bias = self.bias.as_ref().map_or(0.0, |bias| bias[channel]);
                    // SAFETY: row (channel, y) is written by this iteration only, each y being visited once.
                    let row = unsafe { out.row((channel * plan.out_height + y) * plan.out_width, plan.out_width) };
                    for (to, from) in row.iter_mut().zip(sums) {
                        *to = from + bias;
                    }
                }
            },
        );
    }

    /// The sums of output row `y`: `[Cout][pitch]`, without bias.
    ///
    /// Input channels are taken in blocks whose pixels and weights stay in the first-level cache; the block size
    /// depends on the kernel alone, so the order of the additions is always the same.
    fn row(&self, plan: &RowPlan, rows: &Rows, y: usize, sums: &mut [f32]) {
        let [outputs, inputs, kernel_height, kernel_width] = self.shape;
        let taps = kernel_height * kernel_width;
        let block = (288 / taps).clamp(1, inputs);
        let pitch = plan.sum_pitch();
        let input = rows.starting_at(plan, y * self.config.stride);
        for first in (0..inputs).step_by(block) {
            let channels = block.min(inputs - first);
            let mut x = 0;
            while x < pitch {
                let steps = steps_at((pitch - x) / LANES);
                let mut output = 0;
                while output < outputs {
                    let width = if outputs - output >= OUT_BLOCK { OUT_BLOCK } else { 1 };
                    let from = (output * inputs + first * width) * taps;
                    Tile {
                        input: &input[first * plan.channel_stride() + x..],
                        channel_stride: plan.channel_stride(),
                        taps: &plan.taps,
                        channels,
                        weights: &self.packed[from..from + channels * taps * width],
                        sums: &mut sums[output * pitch + x..],
                        sum_stride: pitch,
                        first: first == 0,
                    }
                    .run(self.isa, width, steps);
                    output += width;
                }
                x += steps * LANES;
            }
        }
    }
}

/// Vector steps of the next tile when `left` remain: threes, and twos at the end rather than a lonely one.
fn steps_at(left: usize) -> usize {
    match left {
        4 => 2,
        left => left.min(MAX_STEPS),
    }
}

/// `[Cout][K]` -> blocks of [`OUT_BLOCK`] output channels as `[K][8]`, what is left over as `[K]` each.
fn pack(dense: &[f32], outputs: usize, terms: usize) -> Vec<f32> {
    let mut packed = Vec::with_capacity(dense.len());
    let full = outputs / OUT_BLOCK * OUT_BLOCK;
    for block in dense[..full * terms].chunks_exact(OUT_BLOCK * terms) {
        for term in 0..terms {
            packed.extend(block.iter().skip(term).step_by(terms));
        }
    }
    packed.extend_from_slice(&dense[full * terms..]);
    packed
}

/// An output buffer whose rows are handed out to different threads.
struct Planes {
    start: *mut f32,
    len: usize,
}

// SAFETY: only `row` reaches the buffer, and its contract keeps rows apart.
unsafe impl Sync for Planes {}

impl Planes {
    /// # Safety
    /// No two live borrows may overlap.
    #[allow(clippy::mut_from_ref)]
    unsafe fn row(&self, from: usize, len: usize) -> &mut [f32] {
        assert!(from + len <= self.len);
        // SAFETY: inside the buffer (asserted), which outlives `self`; not aliased by the caller's contract.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(from), len) }
    }
}

struct Forward<'a>(&'a Conv2d);

impl CustomOp1 for Forward<'_> {
    fn name(&self) -> &'static str {
        "conv2d"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let conv = self.0;
        let (input, [count, channels, height, width]) = crate::dense::dense4("conv2d", storage, layout)?;
        if channels != conv.shape[1] {
            bail!("conv2d: input [N, C, H, W] expected C = {}, got {channels}", conv.shape[1])
        }
        let plan = conv.plan(height, width)?;
        let picture = conv.shape[0] * plan.out_height * plan.out_width;
        let mut out = vec![0f32; count * picture];
        for (input, out) in input.chunks_exact(channels * height * width).zip(out.chunks_exact_mut(picture)) {
            conv.picture(&plan, input, out);
        }
        Ok((CpuStorage::F32(out), Shape::from((count, conv.shape[0], plan.out_height, plan.out_width))))
    }
}
