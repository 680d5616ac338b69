//! The operations, for Candle: shapes are checked here, once for every device.

#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::{CpuStorage, CustomOp1, CustomOp2, CustomOp3, DType, Layout, Result, Shape, Tensor, bail};
use half::bf16;

use super::on_cpu;
use super::plan::{Argument, HIDDEN, Picture, Plan, int};
use crate::Border;

/// How a picture is put into a frame: enlarged or not, and what surrounds it then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Frame {
    /// Every pixel becomes a 2 x 2 square first.
    pub enlarge: bool,
    /// Pixels added on each side.
    pub border: Border,
    /// The border mirrors the picture without repeating its edge; else it is zeros.
    pub mirror: bool,
}

impl Frame {
    /// Mirrored by `width` px on all sides.
    pub fn mirrored(width: usize) -> Self {
        Self { border: Border::all(width), mirror: true, enlarge: false }
    }

    /// Zeros, `width` px on all sides.
    pub fn zeros(width: usize) -> Self {
        Self { border: Border::all(width), ..Self::default() }
    }

    /// The same, enlarged by two before the border.
    pub fn enlarged(self) -> Self {
        Self { enlarge: true, ..self }
    }

    /// The size that `[height, width]` has in it.
    pub fn size(self, [height, width]: [usize; 2]) -> [usize; 2] {
        let scale = 1 + usize::from(self.enlarge);
        let Border { top, bottom, left, right } = self.border;
        [height * scale + top + bottom, width * scale + left + right]
    }
}

/// An operation on pictures. Unless a line says otherwise, tensors are f32; shapes of inputs -> output.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum PictureOp {
    /// `[N, C, H, W]` f32 or bf16 (and, to normalise, its [`PictureOp::Statistics`]) -> `[N, C, H', W']`: into `frame`,
    /// after normalising and ReLU where wanted; NaN stays NaN.
    Place {
        /// Border and enlargement.
        frame: Frame,
        /// Negative values become 0.
        relu: bool,
        /// Type of the result, f32 or bf16.
        dtype: DType,
    },
    /// `[N, C, H, W]` f32 or bf16 -> `[N, C, 2]`: mean and `1 / sqrt(biased variance + eps)` of every plane.
    Statistics {
        /// Added to the variance.
        eps: f32,
    },
    /// `[N, C, H, W]` -> `[N, 2, C]`: mean and maximum of every plane.
    PoolPlanes,
    /// `[N, 2, C]`, squeeze `[h, C]`, excite `[C, h]` -> `[N, C]`: `sigmoid(mlp(mean) + mlp(max))`, ReLU between the layers.
    ChannelGate,
    /// `[N, C, H, W]`, gate `[N, C]` -> `[N, C, H, W]`: every plane times its factor.
    GatePlanes,
    /// `[N, C, H, W]` -> `[N, 2, H, W]`: mean and maximum over the channels.
    PoolChannels,
    /// `[N, 2, H, W]`, weight `[1, 2, k, k]` with k odd -> `[N, 1, H, W]`: sigmoid of the convolution, zeros around.
    SpatialGate,
    /// `[N, C, H, W]`, the same, gate `[N, 1, H, W]` -> `[N, C, H, W]`: `base + branch * gate`.
    AddGated,
    /// `[N, C, H, W]`, the same -> `[N, C, H, W]`: the sum.
    Add,
}

/// Runs an operation on one to three dense or strided tensors of one device.
///
/// # Errors
/// If shapes or types are not those the operation takes.
pub fn apply(op: PictureOp, inputs: &[&Tensor]) -> Result<Tensor> {
    let dense = inputs.iter().map(|x| x.contiguous()).collect::<Result<Vec<_>>>()?;
    match dense.as_slice() {
        [a] => a.apply_op1_no_bwd(&op),
        [a, b] => a.apply_op2_no_bwd(b, &op),
        [a, b, c] => a.apply_op3_no_bwd(b, c, &op),
        _ => bail!("{op:?}: {} inputs", inputs.len()),
    }
}

impl PictureOp {
    fn label(&self) -> &'static str {
        match self {
            Self::Place { .. } => "place",
            Self::Statistics { .. } => "statistics",
            Self::PoolPlanes => "pool_planes",
            Self::ChannelGate => "channel_gate",
            Self::GatePlanes => "gate_planes",
            Self::PoolChannels => "pool_channels",
            Self::SpatialGate => "spatial_gate",
            Self::AddGated => "add_gated",
            Self::Add => "add",
        }
    }

    /// The launch for inputs of these shapes and types.
    ///
    /// # Errors
    /// If they are not those the operation takes.
    pub fn plan(&self, inputs: &[Picture]) -> Result<Plan> {
        use Argument::{Float, Input, Int, Nothing, Output};
        let op = self.label();
        let single = |shape: &[usize]| Picture::new(shape, DType::F32);
        let expect = |at: usize, shape: &[usize]| match inputs.get(at) {
            Some(found) if *found == single(shape) => Ok(()),
            found => bail!("{op}: input {at} expected {shape:?} f32, got {found:?}"),
        };
        let Some(first) = inputs.first() else { bail!("{op}: no input") };
        let count = match self {
            Self::Place { .. } => inputs.len().clamp(1, 2),
            Self::Statistics { .. } | Self::PoolPlanes | Self::PoolChannels => 1,
            Self::GatePlanes | Self::SpatialGate | Self::Add => 2,
            Self::ChannelGate | Self::AddGated => 3,
        };
        if inputs.len() != count {
            bail!("{op}: {count} inputs expected, got {}", inputs.len())
        }
        if let Self::ChannelGate = self {
            let (&[n, 2, c], Some(&[hidden, _])) = (&first.shape[..], inputs.get(1).map(|p| &p.shape[..])) else {
                bail!("{op}: expected [N, 2, C] and [h, C], got {inputs:?}")
            };
            expect(0, &[n, 2, c])?;
            expect(1, &[hidden, c])?;
            expect(2, &[c, hidden])?;
            if n * c * hidden == 0 || hidden > HIDDEN {
                bail!("{op}: a hidden layer of 1..={HIDDEN} expected, got {hidden}")
            }
            let arguments = vec![Input(0), Input(1), Input(2), Output, Int(int(op, c)?), Int(int(op, hidden)?)];
            return Plan::per_plane(op, n, arguments, single(&[n, c]));
        }
        let [n, c, h, w] = first.dims4(op)?;
        let (planes, pixels) = (n * c, h * w);
        let (size, channels) = (Int(int(op, pixels)?), Int(int(op, c)?));
        match *self {
            Self::Place { frame, relu, dtype } => {
                let kernel = match (first.dtype, dtype) {
                    (DType::F32, DType::F32) => "place_f32_f32",
                    (DType::F32, DType::BF16) => "place_f32_bf16",
                    (DType::BF16, DType::BF16) => "place_bf16_bf16",
                    (DType::BF16, DType::F32) => "place_bf16_f32",
                    (from, to) => bail!("place: from {from:?} to {to:?}"),
                };
                if inputs.len() == 2 {
                    expect(1, &[n, c, 2])?;
                }
                let Border { top, bottom, left, right } = frame.border;
                let scale = 1 + usize::from(frame.enlarge);
                for (axis, size, before, after) in
                    [("height", scale * h, top, bottom), ("width", scale * w, left, right)]
                {
                    if frame.mirror && before.max(after) >= size {
                        bail!("place: {axis} of {size} px cannot be mirrored by {} px", before.max(after))
                    }
                }
                let [height, width] = frame.size([h, w]);
                let numbers =
                    [h, w, height, width, top, left, usize::from(frame.enlarge), frame.mirror.into(), relu.into()];
                let statistics = if inputs.len() == 2 { Input(1) } else { Nothing };
                let mut arguments = vec![Input(0), statistics, Output];
                for number in numbers {
                    arguments.push(Int(int(op, number)?));
                }
                Plan::per_pixel(kernel, planes, height * width, arguments, Picture::new(&[n, c, height, width], dtype))
            }
            Self::Statistics { eps } => {
                let kernel = match first.dtype {
                    DType::F32 => "statistics_f32",
                    DType::BF16 => "statistics_bf16",
                    other => bail!("statistics: of {other:?}"),
                };
                Plan::per_plane(kernel, planes, vec![Input(0), Output, size, Float(eps)], single(&[n, c, 2]))
            }
            Self::PoolPlanes => {
                expect(0, &[n, c, h, w])?;
                Plan::per_plane(op, planes, vec![Input(0), Output, size, channels], single(&[n, 2, c]))
            }
            Self::GatePlanes => {
                expect(0, &[n, c, h, w])?;
                expect(1, &[n, c])?;
                Plan::per_pixel(op, planes, pixels, vec![Input(0), Input(1), Output, size], first.clone())
            }
            Self::PoolChannels => {
                expect(0, &[n, c, h, w])?;
                Plan::per_pixel(op, n, pixels, vec![Input(0), Output, size, channels], single(&[n, 2, h, w]))
            }
            Self::SpatialGate => {
                let side = inputs[1].shape.last().copied().unwrap_or(0);
                expect(0, &[n, 2, h, w])?;
                expect(1, &[1, 2, side, side])?;
                if side % 2 == 0 {
                    bail!("{op}: an odd kernel expected, got {side}")
                }
                let numbers = [Int(int(op, h)?), Int(int(op, w)?), Int(int(op, side)?)];
                let arguments = [&[Input(0), Input(1), Output][..], &numbers].concat();
                Plan::per_pixel(op, n, pixels, arguments, single(&[n, 1, h, w]))
            }
            Self::AddGated => {
                expect(0, &[n, c, h, w])?;
                expect(1, &[n, c, h, w])?;
                expect(2, &[n, 1, h, w])?;
                let arguments = vec![Input(0), Input(1), Input(2), Output, size, channels];
                Plan::per_pixel(op, planes, pixels, arguments, first.clone())
            }
            Self::Add => {
                expect(0, &[n, c, h, w])?;
                expect(1, &[n, c, h, w])?;
                Plan::per_pixel(op, planes, pixels, vec![Input(0), Input(1), Output, size], first.clone())
            }
            Self::ChannelGate => bail!("{op}: planned above"),
        }
    }

    /// On the CPU: in f32, by plain loops.
    fn cpu(&self, inputs: &[(&CpuStorage, &Layout)]) -> Result<(CpuStorage, Shape)> {
        let pictures: Vec<Picture> = inputs.iter().map(|(s, l)| picture(s, l)).collect();
        let plan = self.plan(&pictures)?;
        let values = inputs.iter().map(|(s, l)| floats(self.label(), s, l)).collect::<Result<Vec<_>>>()?;
        let out = on_cpu::run(*self, &pictures, &values, &plan.output);
        let storage = match plan.output.dtype {
            DType::BF16 => CpuStorage::BF16(out.into_iter().map(bf16::from_f32).collect()),
            _ => CpuStorage::F32(out),
        };
        Ok((storage, Shape::from(plan.output.shape)))
    }

    #[cfg(feature = "cuda")]
    fn cuda(&self, inputs: &[(&CudaStorage, &Layout)]) -> Result<(CudaStorage, Shape)> {
        use candle_core::backend::BackendStorage;
        let pictures: Vec<Picture> = inputs.iter().map(|(s, l)| Picture::new(l.dims(), s.dtype())).collect();
        super::launch::launch(&self.plan(&pictures)?, inputs)
    }
}

fn picture(storage: &CpuStorage, layout: &Layout) -> Picture {
    use candle_core::backend::BackendStorage;
    Picture::new(layout.dims(), storage.dtype())
}

/// The elements as f32, in C order.
fn floats(op: &str, storage: &CpuStorage, layout: &Layout) -> Result<Vec<f32>> {
    let Some((from, to)) = layout.contiguous_offsets() else { bail!("{op}: expected a dense tensor") };
    match storage {
        CpuStorage::F32(all) => Ok(all[from..to].to_vec()),
        CpuStorage::BF16(all) => Ok(all[from..to].iter().map(|x| x.to_f32()).collect()),
        _ => bail!("{op}: expected f32 or bf16"),
    }
}

impl CustomOp1 for PictureOp {
    fn name(&self) -> &'static str {
        self.label()
    }

    fn cpu_fwd(&self, s: &CpuStorage, l: &Layout) -> Result<(CpuStorage, Shape)> {
        self.cpu(&[(s, l)])
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(&self, s: &CudaStorage, l: &Layout) -> Result<(CudaStorage, Shape)> {
        self.cuda(&[(s, l)])
    }
}

impl CustomOp2 for PictureOp {
    fn name(&self) -> &'static str {
        self.label()
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        self.cpu(&[(s1, l1), (s2, l2)])
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(&self, s1: &CudaStorage, l1: &Layout, s2: &CudaStorage, l2: &Layout) -> Result<(CudaStorage, Shape)> {
        self.cuda(&[(s1, l1), (s2, l2)])
    }
}

impl CustomOp3 for PictureOp {
    fn name(&self) -> &'static str {
        self.label()
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
        s3: &CpuStorage,
        l3: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        self.cpu(&[(s1, l1), (s2, l2), (s3, l3)])
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        s1: &CudaStorage,
        l1: &Layout,
        s2: &CudaStorage,
        l2: &Layout,
        s3: &CudaStorage,
        l3: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        self.cuda(&[(s1, l1), (s2, l2), (s3, l3)])
    }
}
