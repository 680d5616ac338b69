//! Reflection padding: the picture mirrored without repeating its edge.

use crate::dense::dense;
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

/// Pixels to add on each side of a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Border {
    /// Rows above.
    pub top: usize,
    /// Rows below.
    pub bottom: usize,
    /// Columns before.
    pub left: usize,
    /// Columns after.
    pub right: usize,
}

impl Border {
    /// The same on all four sides.
    pub fn all(width: usize) -> Self {
        Self { top: width, bottom: width, left: width, right: width }
    }

    /// What makes `[height, width]` a multiple of `multiple`, added below and to the right.
    pub fn to_multiple(multiple: usize, [height, width]: [usize; 2]) -> Self {
        let missing = |size: usize| size.next_multiple_of(multiple) - size;
        Self { bottom: missing(height), right: missing(width), ..Self::default() }
    }
}

/// Source index of position `at` along an axis of `size` mirrored by `before`; at most `size - 1` may lie outside on
/// either side.
pub(crate) fn reflected(at: usize, before: usize, size: usize) -> usize {
    let mirrored = at.abs_diff(before);
    if at > before && mirrored >= size { 2 * (size - 1) - mirrored } else { mirrored }
}

/// Reflection padding of `[N, C, H, W]`.
///
/// # Errors
/// If a side is not longer than its border, or the tensor is not f32 of rank 4 on the CPU.
pub fn reflection_pad2d(input: &Tensor, border: Border) -> Result<Tensor> {
    let (_, _, height, width) = input.dims4()?;
    for (axis, size, before, after) in
        [("height", height, border.top, border.bottom), ("width", width, border.left, border.right)]
    {
        if before.max(after) >= size {
            bail!("reflection_pad2d: {axis} of {size} px cannot be mirrored by {} px", before.max(after))
        }
    }
    input.contiguous()?.apply_op1_no_bwd(&border)
}

impl CustomOp1 for Border {
    fn name(&self) -> &'static str {
        "reflection_pad2d"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (input, _, _) = dense(self.name(), storage, layout)?;
        let (n, c, h, w) = layout.shape().dims4()?;
        let (height, width) = (h + self.top + self.bottom, w + self.left + self.right);
        let mut out = vec![0f32; n * c * height * width];
        out.par_chunks_exact_mut(height * width).zip(input.par_chunks_exact(h * w)).for_each(|(out, input)| {
            for (y, out) in out.chunks_exact_mut(width).enumerate() {
                let row = &input[reflected(y, self.top, h) * w..][..w];
                for (x, out) in out.iter_mut().enumerate() {
                    *out = row[reflected(x, self.left, w)];
                }
            }
        });
        Ok((CpuStorage::F32(out), Shape::from((n, c, height, width))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn mirrors_without_repeating_the_edge() {
        let line = |before, size, len| (0..len).map(|at| reflected(at, before, size)).collect::<Vec<_>>();
        assert_eq!(line(3, 4, 10), [3, 2, 1, 0, 1, 2, 3, 2, 1, 0]);
        assert_eq!(line(0, 3, 5), [0, 1, 2, 1, 0]);
        assert_eq!(line(1, 2, 4), [1, 0, 1, 0]);
        assert_eq!(line(0, 1, 1), [0]);
    }

    #[test]
    fn pads_a_picture() -> Result<()> {
        let input = Tensor::new(&[[[[1f32, 2., 3.], [4., 5., 6.]]]], &Device::Cpu)?;
        let border = Border { top: 1, bottom: 0, left: 2, right: 1 };
        let out = reflection_pad2d(&input, border)?.squeeze(0)?.squeeze(0)?.to_vec2::<f32>()?;
        let expected = [[6., 5., 4., 5., 6., 5.], [3., 2., 1., 2., 3., 2.], [6., 5., 4., 5., 6., 5.]];
        assert_eq!(out, expected.map(|row| row.to_vec()));
        Ok(())
    }

    #[test]
    fn refuses_a_border_as_long_as_the_picture() -> Result<()> {
        let input = Tensor::zeros((1, 1, 3, 8), candle_core::DType::F32, &Device::Cpu)?;
        let error = reflection_pad2d(&input, Border::all(3)).expect_err("3 px cannot be mirrored by 3 px");
        assert!(error.to_string().contains("height of 3 px"), "{error}");
        Ok(())
    }

    #[test]
    fn the_missing_rows_make_a_multiple() {
        assert_eq!(Border::to_multiple(4, [66, 88]), Border { bottom: 2, ..Border::default() });
        assert_eq!(Border::to_multiple(4, [5, 7]), Border { bottom: 3, right: 1, ..Border::default() });
    }
}
