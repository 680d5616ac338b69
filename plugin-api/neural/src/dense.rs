//! Reading a dense f32 tensor inside a custom operation.

use crate::blocked::Shape;
use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, Layout, Result, bail};

/// The elements in C order, the shape, and the rank: 4 is `[N, C, H, W]`, 5 is `[N, C, D, H, W]`.
///
/// # Errors
/// If the tensor is not f32, not of rank 4 or 5, or not contiguous.
pub(crate) fn dense<'a>(op: &str, storage: &'a CpuStorage, layout: &Layout) -> Result<(&'a [f32], Shape, usize)> {
    let CpuStorage::F32(data) = storage else { bail!("{op}: expected f32, got {:?}", storage.dtype()) };
    let (pictures, channels, size) = match *layout.dims() {
        [n, c, h, w] => (n, c, [1, h, w]),
        [n, c, d, h, w] => (n, c, [d, h, w]),
        _ => bail!("{op}: rank 4 or 5 expected, got {:?}", layout.shape()),
    };
    let Some((from, to)) = layout.contiguous_offsets() else { bail!("{op}: expected a contiguous tensor") };
    match data.get(from..to) {
        Some(data) if !data.is_empty() => Ok((data, Shape { pictures, channels, size }, layout.dims().len())),
        _ => bail!("{op}: empty tensor {:?}", layout.shape()),
    }
}
