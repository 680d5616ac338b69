//! Instance normalisation without parameters, with the activation that follows folded in.

use crate::dense::dense4;
use crate::isa::vectorised;
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

/// What follows a normalisation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// Nothing.
    None,
    /// `max(x, 0)`; NaN stays NaN, so that a broken network is noticed.
    Relu,
}

/// `(x - mean) / sqrt(variance + eps)` for every plane of `[N, C, H, W]`, with the biased variance; then `activation`.
///
/// Mean and variance are summed in f64 in a fixed order.
///
/// # Errors
/// If the tensor is not f32 of rank 4 on the CPU.
pub fn instance_norm(input: &Tensor, eps: f64, activation: Activation) -> Result<Tensor> {
    input.contiguous()?.apply_op1_no_bwd(&InstanceNorm { eps, activation })
}

struct InstanceNorm {
    eps: f64,
    activation: Activation,
}

impl CustomOp1 for InstanceNorm {
    fn name(&self) -> &'static str {
        "instance_norm"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (input, [n, c, h, w]) = dense4(self.name(), storage, layout)?;
        let mut out = vec![0f32; input.len()];
        let relu = self.activation == Activation::Relu;
        out.par_chunks_exact_mut(h * w)
            .zip(input.par_chunks_exact(h * w))
            .for_each(|(out, input)| normalise(input, out, self.eps, relu));
        Ok((CpuStorage::F32(out), Shape::from((n, c, h, w))))
    }
}

vectorised! {
    /// One plane.
    pub(crate) fn normalise(input: &[f32], out: &mut [f32], eps: f64, relu: bool) {
        let count = input.len() as f64;
        let mean = lane_sum(input, f64::from) / count;
        let variance = lane_sum(input, |x| (f64::from(x) - mean) * (f64::from(x) - mean)) / count;
        let factor = (1.0 / (variance + eps).sqrt()) as f32;
        let mean = mean as f32;
        for (out, &x) in out.iter_mut().zip(input) {
            let y = (x - mean) * factor;
            *out = if relu && y < 0.0 { 0.0 } else { y };
        }
    }
}

/// Sum of `term` over the elements: 8 interleaved partial sums, then their sum from the first to the last.
#[inline(always)]
pub(crate) fn lane_sum(input: &[f32], term: impl Fn(f32) -> f64) -> f64 {
    let mut lanes = [0f64; 8];
    let chunks = input.chunks_exact(8);
    let rest = chunks.remainder();
    for chunk in chunks {
        for (lane, &x) in lanes.iter_mut().zip(chunk) {
            *lane += term(x);
        }
    }
    for (lane, &x) in lanes.iter_mut().zip(rest) {
        *lane += term(x);
    }
    lanes.iter().sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn uses_the_biased_variance_of_each_plane() -> Result<()> {
        let input = Tensor::new(&[[[[1f32, 3.], [1., 3.]], [[5., 5.], [5., 5.]]]], &Device::Cpu)?;
        let out = instance_norm(&input, 1e-5, Activation::None)?.flatten_all()?.to_vec1::<f32>()?;
        let one = (1.0 / (1.0f64 + 1e-5).sqrt()) as f32;
        assert_eq!(out, [-one, one, -one, one, 0., 0., 0., 0.]);
        let out = instance_norm(&input, 1e-5, Activation::Relu)?.flatten_all()?.to_vec1::<f32>()?;
        assert_eq!(out, [0., one, 0., one, 0., 0., 0., 0.]);
        Ok(())
    }

    #[test]
    fn a_broken_plane_stays_visible() -> Result<()> {
        let input = Tensor::new(&[[[[1f32, f32::NAN], [1., 3.]]]], &Device::Cpu)?;
        let out = instance_norm(&input, 1e-5, Activation::Relu)?.flatten_all()?.to_vec1::<f32>()?;
        assert!(out.iter().all(|x| x.is_nan()));
        Ok(())
    }

    #[test]
    fn the_version_for_wide_vectors_gives_the_same_bits() {
        let input: Vec<f32> = (0..1003).map(|i| ((i * 37 % 101) as f32).sin() * 50.0).collect();
        let (mut fast, mut plain) = (vec![0.0; input.len()], vec![0.0; input.len()]);
        normalise(&input, &mut fast, 1e-5, false);
        let count = input.len() as f64;
        let mean = lane_sum(&input, f64::from) / count;
        let variance = lane_sum(&input, |x| (f64::from(x) - mean).powi(2)) / count;
        let factor = (1.0 / (variance + 1e-5).sqrt()) as f32;
        for (out, x) in plain.iter_mut().zip(&input) {
            *out = (x - mean as f32) * factor;
        }
        assert_eq!(fast, plain);
    }
}
