//! Convolutions by cuDNN. Candle has them too, but lets cuDNN use TF32 in f32, which is not 32-bit arithmetic.

use std::cell::RefCell;
use std::sync::Arc;

use candle_core::cuda_backend::cudarc::cudnn::{ConvForward, Cudnn, CudnnDataType, sys};
use candle_core::cuda_backend::cudarc::driver::{CudaSlice, CudaView};
use candle_core::cuda_backend::{CudaDevice, CudaStorageSlice, DeviceId};
use candle_core::{CpuStorage, CudaStorage, CustomOp2, Layout, Result, Shape, Tensor, bail};
use half::bf16;

thread_local! {
    // A handle may be used by one thread only.
    static HANDLE: RefCell<Option<(DeviceId, Arc<Cudnn>)>> = const { RefCell::new(None) };
}

/// `input [N, Cin, H, W]` over `weight [Cout, Cin, k, k]` without border, both dense and of one type on one card.
///
/// # Errors
/// If types differ or cuDNN refuses.
pub(super) fn convolve(input: &Tensor, weight: &Tensor, stride: usize) -> Result<Tensor> {
    input.contiguous()?.apply_op2_no_bwd(weight, &Convolve { stride })
}

struct Convolve {
    stride: usize,
}

/// The lengths that cuDNN is told.
struct Sizes {
    input: [i32; 4],
    weight: [i32; 4],
    output: [i32; 4],
    stride: i32,
}

impl CustomOp2 for Convolve {
    fn name(&self) -> &'static str {
        "cudnn_convolution"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        bail!("cudnn_convolution: not on the CPU")
    }

    fn cuda_fwd(
        &self,
        input: &CudaStorage,
        l: &Layout,
        weight: &CudaStorage,
        wl: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        let (n, c, h, w) = l.shape().dims4()?;
        let (outputs, _, side, _) = wl.shape().dims4()?;
        let (rows, columns) = ((h - side) / self.stride + 1, (w - side) / self.stride + 1);
        let shape = Shape::from((n, outputs, rows, columns));
        let sizes = Sizes {
            input: [n, c, h, w].map(|x| x as i32),
            weight: [outputs, c, side, side].map(|x| x as i32),
            output: [n, outputs, rows, columns].map(|x| x as i32),
            stride: self.stride as i32,
        };
        let device = input.device.clone();
        let elements = shape.elem_count();
        let (from, weight_from) = (l.start_offset(), wl.start_offset());
        // SAFETY (both): cuDNN writes every element of the output, whose length is that of its descriptor.
        let slice = match (&input.slice, &weight.slice) {
            (CudaStorageSlice::F32(x), CudaStorageSlice::F32(k)) => {
                let mut out = unsafe { device.alloc::<f32>(elements)? };
                let math = sys::cudnnMathType_t::CUDNN_FMA_MATH;
                forward(&device, &sizes, math, &x.slice(from..), &k.slice(weight_from..), &mut out, (1.0, 0.0))?;
                CudaStorageSlice::F32(out)
            }
            (CudaStorageSlice::BF16(x), CudaStorageSlice::BF16(k)) => {
                let mut out = unsafe { device.alloc::<bf16>(elements)? };
                let math = sys::cudnnMathType_t::CUDNN_TENSOR_OP_MATH;
                let scaling = (bf16::ONE, bf16::ZERO);
                forward(&device, &sizes, math, &x.slice(from..), &k.slice(weight_from..), &mut out, scaling)?;
                CudaStorageSlice::BF16(out)
            }
            _ => bail!("cudnn_convolution: f32 or bf16 expected, both alike"),
        };
        Ok((CudaStorage { slice, device }, shape))
    }
}

/// Sums are made in f32, whatever `T` is.
fn forward<T: CudnnDataType>(
    device: &CudaDevice,
    sizes: &Sizes,
    math: sys::cudnnMathType_t,
    input: &CudaView<'_, T>,
    weight: &CudaView<'_, T>,
    out: &mut CudaSlice<T>,
    scaling: (T, T),
) -> Result<()> {
    let cudnn = HANDLE.with_borrow_mut(|kept| match kept {
        Some((id, handle)) if *id == device.id() => Ok(Arc::clone(handle)),
        _ => {
            let handle = Cudnn::new(device.cuda_stream())?;
            *kept = Some((device.id(), Arc::clone(&handle)));
            Ok::<_, candle_core::Error>(handle)
        }
    })?;
    let cross = sys::cudnnConvolutionMode_t::CUDNN_CROSS_CORRELATION;
    let nchw = sys::cudnnTensorFormat_t::CUDNN_TENSOR_NCHW;
    let mut conv = cudnn.create_conv2d::<f32>([0, 0], [sizes.stride, sizes.stride], [1, 1], cross)?;
    conv.set_math_type(math)?;
    let x = cudnn.create_4d_tensor::<T>(nchw, sizes.input)?;
    let w = cudnn.create_4d_filter::<T>(nchw, sizes.weight)?;
    let y = cudnn.create_4d_tensor::<T>(nchw, sizes.output)?;
    let call = ConvForward { conv: &conv, x: &x, w: &w, y: &y };
    let algorithm = call.pick_algorithm()?;
    let bytes = call.get_workspace_size(algorithm)?;
    // SAFETY: a workspace may hold anything; views and output have the lengths of their descriptors.
    unsafe {
        let mut workspace = device.alloc::<u8>(bytes.max(1))?;
        call.launch::<CudaSlice<u8>, _, _, _>(algorithm, Some(&mut workspace), scaling, input, weight, out)?;
    }
    Ok(())
}
