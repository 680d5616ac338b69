//! Convolutions of a network on a card: by cuDNN, or in strips through cuBLAS; on the CPU by Candle, to be compared with.

use candle_core::{DType, Device, Result, Tensor, bail};

/// A convolution without border (see [`super::Frame`]): `[N, Cin, H, W]` -> `[N, Cout, H', W']`, in the type of its weights.
///
/// In bf16 products are summed in f32 and the result is rounded once.
pub struct PictureConv {
    weight: Tensor,
    stride: usize,
    strip_bytes: usize,
}

impl PictureConv {
    /// What a strip's rearranged input may take: without cuDNN a convolution is a matrix product, for which every pixel is
    /// copied once for every tap of the kernel, 3 GB for 7 x 7 taps of 64 channels at 512 x 512.
    const STRIP_BYTES: usize = 256 << 20;

    /// Moves `weight [Cout, Cin, k, k]` to `device` as `dtype`.
    ///
    /// # Errors
    /// If the weight has another rank or an empty axis, or the device has no room for it.
    pub fn new(weight: &Tensor, stride: usize, dtype: DType, device: &Device) -> Result<Self> {
        let (outputs, inputs, height, width) = weight.dims4()?;
        if outputs * inputs * height * width * stride == 0 || height != width {
            bail!("convolution: weight {:?} with stride {stride}: square and not empty expected", weight.shape())
        }
        let weight = weight.to_dtype(dtype)?.to_device(device)?.contiguous()?;
        Ok(Self { weight, stride, strip_bytes: Self::STRIP_BYTES })
    }

    /// Works in strips whose rearranged input takes at most `bytes` (at least one row), where it works in strips at all.
    pub fn with_strips_of(self, bytes: usize) -> Self {
        Self { strip_bytes: bytes, ..self }
    }

    /// Shape of the weights.
    pub fn weight_shape(&self) -> &[usize] {
        self.weight.dims()
    }

    /// Convolves.
    ///
    /// # Errors
    /// If the input has other channels or another type, or is smaller than the kernel.
    pub fn forward(&self, input: &Tensor) -> Result<Tensor> {
        let (_, channels, height, width) = input.dims4()?;
        let (_, inputs, side, _) = self.weight.dims4()?;
        if channels != inputs || height.min(width) < side {
            bail!("convolution: {:?} over {:?}", self.weight.shape(), input.shape())
        }
        #[cfg(feature = "cudnn")]
        if input.device().is_cuda() {
            return super::cudnn::convolve(input, &self.weight, self.stride);
        }
        self.in_strips(input)
    }

    /// One strip of output rows after the other.
    fn in_strips(&self, input: &Tensor) -> Result<Tensor> {
        let (count, channels, height, width) = input.dims4()?;
        let (_, _, side, _) = self.weight.dims4()?;
        let (rows, columns) = ((height - side) / self.stride + 1, (width - side) / self.stride + 1);
        let row_bytes = count * columns * channels * side * side * input.dtype().size_in_bytes();
        let strip = (self.strip_bytes / row_bytes.max(1)).clamp(1, rows);
        let mut strips = Vec::with_capacity(rows.div_ceil(strip));
        for first in (0..rows).step_by(strip) {
            let here = strip.min(rows - first);
            let part = input.narrow(2, first * self.stride, (here - 1) * self.stride + side)?;
            strips.push(self.whole(&part.contiguous()?)?);
        }
        match strips.len() {
            1 => Ok(strips.remove(0)),
            _ => Tensor::cat(&strips, 2),
        }
    }

    fn whole(&self, input: &Tensor) -> Result<Tensor> {
        if input.device().is_cpu() && input.dtype() == DType::BF16 {
            // Candle has no bf16 products on the CPU; these are the same numbers.
            let (input, weight) = (input.to_dtype(DType::F32)?, self.weight.to_dtype(DType::F32)?);
            return input.conv2d(&weight, 0, self.stride, 1, 1)?.to_dtype(DType::BF16);
        }
        input.conv2d(&self.weight, 0, self.stride, 1, 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strips_change_nothing() -> Result<()> {
        for (stride, side, dtype) in [(1, 3, DType::F32), (2, 3, DType::F32), (1, 7, DType::BF16), (2, 4, DType::F32)] {
            let input = Tensor::randn(0f32, 1., (2, 3, 23, 17), &Device::Cpu)?.to_dtype(dtype)?;
            let weight = Tensor::randn(0f32, 1., (5, 3, side, side), &Device::Cpu)?;
            let whole = PictureConv::new(&weight, stride, dtype, &Device::Cpu)?;
            let expected = whole.forward(&input)?.to_dtype(DType::F32)?;
            for bytes in [1, 20_000, 60_000] {
                let strips = PictureConv::new(&weight, stride, dtype, &Device::Cpu)?.with_strips_of(bytes);
                let found = strips.forward(&input)?.to_dtype(DType::F32)?;
                assert_eq!(found.dims(), expected.dims());
                let worst = (found - &expected)?.abs()?.max_all()?.to_scalar::<f32>()?;
                assert!(worst <= 1e-4, "stride {stride}, side {side}, {bytes} bytes: {worst}");
            }
        }
        Ok(())
    }

    #[test]
    fn another_number_of_channels_is_refused() -> Result<()> {
        let weight = Tensor::zeros((5, 3, 3, 3), DType::F32, &Device::Cpu)?;
        let conv = PictureConv::new(&weight, 1, DType::F32, &Device::Cpu)?;
        assert!(conv.forward(&Tensor::zeros((1, 2, 9, 9), DType::F32, &Device::Cpu)?).is_err());
        assert!(conv.forward(&Tensor::zeros((1, 3, 2, 9), DType::F32, &Device::Cpu)?).is_err());
        Ok(())
    }
}
