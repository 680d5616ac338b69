//! Pooling and gating as attention modules use them: one number per plane, or one number per pixel.

use crate::dense::dense4;
use crate::isa::vectorised;
use crate::norm::lane_sum;
use candle_core::{CpuStorage, CustomOp1, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

/// Mean and maximum of every plane: `[N, C, H, W]` -> `[N, 2, C, 1]`, means first.
///
/// # Errors
/// If the tensor is not f32 of rank 4 on the CPU.
pub fn pool_planes(input: &Tensor) -> Result<Tensor> {
    input.contiguous()?.apply_op1_no_bwd(&PoolPlanes)
}

/// Mean and maximum over the channels of every pixel: `[N, C, H, W]` -> `[N, 2, H, W]`, means first.
///
/// # Errors
/// If the tensor is not f32 of rank 4 on the CPU.
pub fn pool_channels(input: &Tensor) -> Result<Tensor> {
    input.contiguous()?.apply_op1_no_bwd(&PoolChannels)
}

/// Every plane of `input [N, C, H, W]` times its own factor, `gate [N, C, 1, 1]`.
///
/// # Errors
/// If shapes differ or a tensor is not f32 of rank 4 on the CPU.
pub fn gate_planes(input: &Tensor, gate: &Tensor) -> Result<Tensor> {
    input.contiguous()?.apply_op2_no_bwd(&gate.contiguous()?, &GatePlanes)
}

/// `base + branch * gate`: base and branch `[N, C, H, W]`, one factor per pixel in `gate [N, 1, H, W]`.
///
/// # Errors
/// If shapes differ or a tensor is not f32 of rank 4 on the CPU.
pub fn add_gated(base: &Tensor, branch: &Tensor, gate: &Tensor) -> Result<Tensor> {
    base.contiguous()?.apply_op3_no_bwd(&branch.contiguous()?, &gate.contiguous()?, &AddGated)
}

/// `a + b`, both `[N, C, H, W]`.
///
/// # Errors
/// If shapes differ or a tensor is not f32 of rank 4 on the CPU.
pub fn add(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    a.contiguous()?.apply_op2_no_bwd(&b.contiguous()?, &Add)
}

struct PoolPlanes;

impl CustomOp1 for PoolPlanes {
    fn name(&self) -> &'static str {
        "pool_planes"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (input, [n, c, h, w]) = dense4(self.name(), storage, layout)?;
        let pooled: Vec<(f32, f32)> = input.par_chunks_exact(h * w).map(mean_and_max).collect();
        let mut out = Vec::with_capacity(2 * pooled.len());
        for picture in pooled.chunks_exact(c) {
            out.extend(picture.iter().map(|pair| pair.0));
            out.extend(picture.iter().map(|pair| pair.1));
        }
        Ok((CpuStorage::F32(out), Shape::from((n, 2, c, 1))))
    }
}

vectorised! {
    /// Mean (summed in f64) and maximum of a plane; NaN if any element is.
    pub(crate) fn mean_and_max(plane: &[f32]) -> (f32, f32) {
        let mean = (lane_sum(plane, f64::from) / plane.len() as f64) as f32;
        let mut lanes = [f32::NEG_INFINITY; 8];
        let chunks = plane.chunks_exact(8);
        let rest = chunks.remainder();
        for chunk in chunks {
            for (lane, &x) in lanes.iter_mut().zip(chunk) {
                *lane = if x > *lane { x } else { *lane };
            }
        }
        let max = lanes.iter().chain(rest).fold(f32::NEG_INFINITY, |max, &x| if x > max { x } else { max });
        (mean, if mean.is_nan() { f32::NAN } else { max })
    }
}

struct PoolChannels;

impl CustomOp1 for PoolChannels {
    fn name(&self) -> &'static str {
        "pool_channels"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (input, [n, c, h, w]) = dense4(self.name(), storage, layout)?;
        let mut out = vec![0f32; n * 2 * h * w];
        for (picture, out) in input.chunks_exact(c * h * w).zip(out.chunks_exact_mut(2 * h * w)) {
            let (means, maxima) = out.split_at_mut(h * w);
            means
                .par_chunks_exact_mut(w)
                .zip(maxima.par_chunks_exact_mut(w))
                .enumerate()
                .for_each(|(y, (means, maxima))| pool_row(&picture[y * w..], h * w, means, maxima));
        }
        Ok((CpuStorage::F32(out), Shape::from((n, 2, h, w))))
    }
}

vectorised! {
    /// One row of pixels; `picture` begins at that row of the first channel, planes are `plane` elements apart.
    pub(crate) fn pool_row(picture: &[f32], plane: usize, means: &mut [f32], maxima: &mut [f32]) {
        let width = means.len();
        let mut sums = vec![0f64; width];
        maxima.fill(f32::NEG_INFINITY);
        let mut channels = 0u32;
        for start in (0..picture.len()).step_by(plane) {
            let row = &picture[start..start + width];
            for ((sum, max), &x) in sums.iter_mut().zip(maxima.iter_mut()).zip(row) {
                *sum += f64::from(x);
                *max = if x > *max { x } else { *max };
            }
            channels += 1;
        }
        for ((mean, max), sum) in means.iter_mut().zip(maxima).zip(sums) {
            *mean = (sum / f64::from(channels)) as f32;
            if mean.is_nan() {
                *max = f32::NAN;
            }
        }
    }
}

struct GatePlanes;

impl CustomOp2 for GatePlanes {
    fn name(&self) -> &'static str {
        "gate_planes"
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        let (input, [n, c, h, w]) = dense4(self.name(), s1, l1)?;
        let (gate, got) = dense4(self.name(), s2, l2)?;
        if got != [n, c, 1, 1] {
            bail!("gate_planes: gate expected {:?}, got {got:?}", [n, c, 1, 1])
        }
        let mut out = vec![0f32; input.len()];
        out.par_chunks_exact_mut(h * w).zip(input.par_chunks_exact(h * w)).zip(gate).for_each(
            |((out, input), &factor)| {
                for (out, &x) in out.iter_mut().zip(input) {
                    *out = x * factor;
                }
            },
        );
        Ok((CpuStorage::F32(out), Shape::from((n, c, h, w))))
    }
}

struct AddGated;

impl CustomOp3 for AddGated {
    fn name(&self) -> &'static str {
        "add_gated"
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
        let (base, [n, c, h, w]) = dense4(self.name(), s1, l1)?;
        let (branch, branch_shape) = dense4(self.name(), s2, l2)?;
        let (gate, gate_shape) = dense4(self.name(), s3, l3)?;
        if branch_shape != [n, c, h, w] || gate_shape != [n, 1, h, w] {
            bail!("add_gated: base {:?}, branch {branch_shape:?}, gate {gate_shape:?}", [n, c, h, w])
        }
        let plane = h * w;
        let mut out = vec![0f32; base.len()];
        out.par_chunks_exact_mut(plane)
            .zip(base.par_chunks_exact(plane))
            .zip(branch.par_chunks_exact(plane))
            .enumerate()
            .for_each(|(index, ((out, base), branch))| {
                let gate = &gate[index / c * plane..][..plane];
                for (((out, &base), &branch), &gate) in out.iter_mut().zip(base).zip(branch).zip(gate) {
                    *out = base + branch * gate;
                }
            });
        Ok((CpuStorage::F32(out), Shape::from((n, c, h, w))))
    }
}

struct Add;

impl CustomOp2 for Add {
    fn name(&self) -> &'static str {
        "add"
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        let (a, shape) = dense4(self.name(), s1, l1)?;
        let (b, got) = dense4(self.name(), s2, l2)?;
        if got != shape {
            bail!("add: expected {shape:?}, got {got:?}")
        }
        let mut out = vec![0f32; a.len()];
        let plane = shape[2] * shape[3];
        out.par_chunks_exact_mut(plane).zip(a.par_chunks_exact(plane)).zip(b.par_chunks_exact(plane)).for_each(
            |((out, a), b)| {
                for ((out, a), b) in out.iter_mut().zip(a).zip(b) {
                    *out = a + b;
                }
            },
        );
        Ok((CpuStorage::F32(out), Shape::from(&shape)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    fn picture() -> Result<Tensor> {
        Tensor::new(&[[[[1f32, -2.], [3., 4.]], [[5., 6.], [-7., 8.]]]], &Device::Cpu)
    }

    #[test]
    fn pools_planes_and_channels() -> Result<()> {
        let planes = pool_planes(&picture()?)?;
        assert_eq!(planes.dims(), [1, 2, 2, 1]);
        assert_eq!(planes.flatten_all()?.to_vec1::<f32>()?, [1.5, 3., 4., 8.]);
        let channels = pool_channels(&picture()?)?;
        assert_eq!(channels.dims(), [1, 2, 2, 2]);
        assert_eq!(channels.flatten_all()?.to_vec1::<f32>()?, [3., 2., -2., 6., 5., 6., 3., 8.]);
        Ok(())
    }

    #[test]
    fn gates_per_plane_and_per_pixel() -> Result<()> {
        let gate = Tensor::new(&[[[[2f32]], [[0.5]]]], &Device::Cpu)?;
        let gated = gate_planes(&picture()?, &gate)?.flatten_all()?.to_vec1::<f32>()?;
        assert_eq!(gated, [2., -4., 6., 8., 2.5, 3., -3.5, 4.]);
        let gate = Tensor::new(&[[[[1f32, 0.], [0., 2.]]]], &Device::Cpu)?;
        let sum = add_gated(&picture()?, &picture()?, &gate)?.flatten_all()?.to_vec1::<f32>()?;
        assert_eq!(sum, [2., -2., 3., 12., 10., 6., -7., 24.]);
        assert!(add_gated(&picture()?, &picture()?, &Tensor::new(&[[[[1f32]]]], &Device::Cpu)?).is_err());
        Ok(())
    }
}
