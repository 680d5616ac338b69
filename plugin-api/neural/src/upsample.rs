//! Nearest enlargement by two: every pixel becomes a 2 x 2 square.

use crate::dense::dense4;
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

/// `[N, C, H, W]` -> `[N, C, 2H, 2W]`. Where a convolution follows, let it enlarge instead
/// ([`crate::Conv2dConfig::upsample`]): the large tensor is then never made.
///
/// # Errors
/// If the tensor is not f32 of rank 4 on the CPU.
pub fn upsample_nearest2x(input: &Tensor) -> Result<Tensor> {
    input.contiguous()?.apply_op1_no_bwd(&Nearest2x)
}

struct Nearest2x;

impl CustomOp1 for Nearest2x {
    fn name(&self) -> &'static str {
        "upsample_nearest2x"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (input, [n, c, h, w]) = dense4(self.name(), storage, layout)?;
        let mut out = vec![0f32; input.len() * 4];
        out.par_chunks_exact_mut(4 * h * w).zip(input.par_chunks_exact(h * w)).for_each(|(out, input)| {
            for (pair, row) in out.chunks_exact_mut(4 * w).zip(input.chunks_exact(w)) {
                let (upper, lower) = pair.split_at_mut(2 * w);
                for (square, &pixel) in upper.chunks_exact_mut(2).zip(row) {
                    square.fill(pixel);
                }
                lower.copy_from_slice(upper);
            }
        });
        Ok((CpuStorage::F32(out), Shape::from((n, c, 2 * h, 2 * w))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn every_pixel_becomes_a_square() -> Result<()> {
        let input = Tensor::new(&[[[[1f32, 2.], [3., 4.]]]], &Device::Cpu)?;
        let out = upsample_nearest2x(&input)?.squeeze(0)?.squeeze(0)?.to_vec2::<f32>()?;
        assert_eq!(out, [[1., 1., 2., 2.], [1., 1., 2., 2.], [3., 3., 4., 4.], [3., 3., 4., 4.]]);
        Ok(())
    }
}
