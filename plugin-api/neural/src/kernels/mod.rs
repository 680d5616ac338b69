//! What the processor does: the inner product of blocked cells with packed weights, once per instruction set.
//!
//! A *cell* is the 64 bytes that one pixel holds of a block of channels: 16 f32, 32 bf16 or 64 u8, which is sixteen
//! 32-bit *groups* of 1, 2 or 4 channels. A *panel* is 16 output channels. Every kernel computes, for a run of pixels and
//! one or two panels, `out[pixel][channel] = bias + sum over steps and groups of cell group . weight group`: a fused
//! multiply-add, `vdpbf16ps`, `vpdpbusd` or a tile product differ only in the group. Convolutions of all shapes, and the
//! products inside Winograd's, are tables of [`Step`]s over this one loop.
//!
//! The order of additions within an output is that of the steps, whatever the run and the panel.

#[cfg(target_arch = "x86_64")]
mod amx;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
pub(crate) mod lanes;
mod portable;

use crate::Isa;

/// Bytes of a cell.
pub(crate) const CELL: usize = 64;
/// 32-bit groups of a cell, output channels of a panel, and f32 of a vector of the widest kind.
pub(crate) const LANES: usize = 16;
/// Panels that one call computes at most.
pub(crate) const PANELS: usize = 2;

/// What a cell holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Element {
    /// 16 channels of f32.
    F32,
    /// 32 channels of bf16.
    Bf16,
    /// 64 channels of u8, with weights of i8.
    U8,
}

impl Element {
    /// Channels of a 32-bit group.
    pub(crate) fn group(self) -> usize {
        match self {
            Self::F32 => 1,
            Self::Bf16 => 2,
            Self::U8 => 4,
        }
    }

    /// Channels of a cell.
    pub(crate) fn channels(self) -> usize {
        self.group() * LANES
    }
}

/// One cell of every pixel with its weights. The tile loops know its layout.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub(crate) struct Step {
    /// The cell of the pixel at offset 0.
    pub cell: *const u8,
    /// Bytes from the start of the weights to this step's `[group][panel][channel]`.
    pub weight: usize,
    /// Groups that hold channels; the others' weights are zeros and may be left out.
    pub groups: usize,
}

// SAFETY: a step is an address; whoever builds a table keeps the buffers alive while it is used.
unsafe impl Send for Step {}
// SAFETY: as above.
unsafe impl Sync for Step {}

/// A run of pixels times one or two panels.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Block<'a> {
    /// The table.
    pub steps: &'a [Step],
    /// Bytes from each step's cell to the first pixel's.
    pub offset: usize,
    /// Bytes between the cells of neighbouring pixels.
    pub pixel_stride: usize,
    /// Pixels, 1 to what [`Kernel::pixels`] allows.
    pub pixels: usize,
    /// Packed weights.
    pub weights: *const u8,
    /// Panels, 1 to [`PANELS`].
    pub panels: usize,
    /// The first pixel's first panel.
    pub out: *mut f32,
    /// f32 between output pixels.
    pub out_stride: usize,
    /// f32 between output panels.
    pub panel_stride: usize,
    /// One value per channel of the panels, added to the sum.
    pub bias: *const f32,
    /// Whether the sum is added to what the output holds instead; for f32 alone.
    pub accumulate: bool,
    /// For u8: what turns the integer sum into physical units, per channel of the panels.
    pub scale: *const f32,
}

/// The inner loop of one instruction set and element.
#[derive(Clone, Copy)]
pub(crate) struct Kernel {
    run: unsafe fn(&Block<'_>),
    /// Pixels per call where neighbours are [`CELL`] or twice [`CELL`] apart.
    near: usize,
    /// Pixels per call at any other distance.
    far: usize,
    /// Whether it computes in tiles, which a thread must configure first.
    tiles: bool,
}

impl Kernel {
    /// The kernel of `isa` for `element`.
    pub(crate) fn of(isa: Isa, element: Element) -> Self {
        match isa {
            #[cfg(target_arch = "x86_64")]
            Isa::Amx if element != Element::F32 => amx::kernel(element),
            #[cfg(target_arch = "x86_64")]
            Isa::Amx | Isa::Avx512 => avx512::kernel(element),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => avx2::kernel(element),
            _ => portable::kernel(element),
        }
    }

    /// Most pixels of one call.
    pub(crate) fn pixels(&self, pixel_stride: usize) -> usize {
        if pixel_stride == CELL || pixel_stride == 2 * CELL { self.near } else { self.far }
    }

    /// Runs `task`, within which this thread may call [`Kernel::run`].
    #[inline]
    pub(crate) fn task<R>(&self, task: impl FnOnce() -> R) -> R {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: kernels with tiles are made where `Isa::Amx` was found, or asked for by a test that emulates it.
        let _tiles = self.tiles.then(|| unsafe { amx::Tiles::configure() });
        task()
    }

    /// Runs a block.
    ///
    /// # Safety
    /// Only inside [`Kernel::task`]. The instruction set must be there; every cell that the steps, the offset and the pixels name must be readable,
    /// and with tiles 15 pixels more; weights, bias and scale must hold what `panels` says; the outputs must be
    /// writable and nobody else's.
    #[inline]
    pub(crate) unsafe fn run(&self, block: &Block<'_>) {
        debug_assert!((1..=self.pixels(block.pixel_stride)).contains(&block.pixels));
        debug_assert!((1..=PANELS).contains(&block.panels));
        debug_assert!(!(block.accumulate && (self.tiles || block.steps.is_empty())));
        if block.steps.is_empty() {
            // SAFETY: the caller's contract.
            return unsafe { bias_alone(block) };
        }
        // SAFETY: the caller's contract.
        unsafe { (self.run)(block) }
    }
}

/// A block without products.
///
/// # Safety
/// As [`Kernel::run`].
unsafe fn bias_alone(block: &Block<'_>) {
    for panel in 0..block.panels {
        for pixel in 0..block.pixels {
            // SAFETY: the caller's contract.
            unsafe {
                let to = block.out.add(pixel * block.out_stride + panel * block.panel_stride);
                to.copy_from_nonoverlapping(block.bias.add(panel * LANES), LANES);
            }
        }
    }
}

/// Cuts `total` pixels into runs of at most `most`, as even as they go, and calls `run(first, pixels)` for each.
#[inline]
pub(crate) fn runs(total: usize, most: usize, mut run: impl FnMut(usize, usize)) {
    let count = total.div_ceil(most);
    let (each, longer) = (total / count.max(1), total % count.max(1));
    let mut first = 0;
    for at in 0..count {
        let pixels = each + usize::from(at < longer);
        run(first, pixels);
        first += pixels;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_cover_everything_once_and_none_is_too_long() {
        for total in 0..200 {
            for most in 1..33 {
                let mut next = 0;
                runs(total, most, |first, pixels| {
                    assert_eq!(first, next);
                    assert!((1..=most).contains(&pixels));
                    next += pixels;
                });
                assert_eq!(next, total);
            }
        }
    }
}
