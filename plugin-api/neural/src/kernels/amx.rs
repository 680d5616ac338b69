//! The inner product on the matrix unit: 32 pixels by two panels in four tiles, one `asm!` block per table of steps.
//!
//! A tile of cells is 16 pixels of 64 bytes, a tile of weights 16 groups of 64 bytes, and their product 16 pixels of a
//! panel. Rust has no stable intrinsics for tiles, so the loop is written out. Runs that do not fill their tiles compute
//! on whatever follows the last pixel (buffers have room for it) and only their own pixels are kept.

use super::{Block, Element, Kernel, LANES, PANELS, Step};
use std::arch::asm;
use std::arch::x86_64::*;

/// Pixels of two tiles.
const MOST: usize = 32;

/// What `ldtilecfg` reads: palette 1 and eight tiles of 16 rows of 64 bytes.
#[repr(C, align(64))]
struct TileConfig {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

static CONFIG: TileConfig = TileConfig {
    palette: 1,
    start_row: 0,
    reserved: [0; 14],
    row_bytes: [64, 64, 64, 64, 64, 64, 64, 64, 0, 0, 0, 0, 0, 0, 0, 0],
    rows: [16, 16, 16, 16, 16, 16, 16, 16, 0, 0, 0, 0, 0, 0, 0, 0],
};

/// This thread's tiles, configured; released when dropped.
pub(super) struct Tiles(());

impl Tiles {
    /// # Safety
    /// The machine must have tiles, and the process the permission to use them.
    pub(super) unsafe fn configure() -> Self {
        // SAFETY: reads 64 bytes of a valid configuration.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const CONFIG, options(nostack, readonly, preserves_flags)) };
        Self(())
    }
}

impl Drop for Tiles {
    fn drop(&mut self) {
        // SAFETY: whoever configured tiles may release them.
        unsafe { asm!("tilerelease", options(nostack, nomem, preserves_flags)) };
    }
}

static ZEROS: [f32; LANES] = [0.0; LANES];

/// What the loop reads besides the steps; in memory, for there are not registers enough.
#[repr(C)]
struct Fixed {
    offset: usize,              // 0
    weights: *const u8,         // 8
    second_cells: usize,        // 16: bytes from the first 16 pixels to the next
    end: *const Step,           // 24
    bias: [*const f32; PANELS], // 32, 40
    panel_bytes: usize,         // 48
}

/// One `asm!` block: sums start at the bias (every row of a tile the same) and end in the output.
macro_rules! tile_loop {
    ($block:ident, $fixed:ident, $out:ident, $out_bytes:ident, [$($start:expr,)*], [$($body:expr,)*], [$($end:expr,)*]) => {
        asm!(
            $($start,)*
            "2:",
            "mov {cell}, [{step}]",
            "mov {weight}, [{step} + 8]",
            "add {cell}, [{fixed}]",
            "add {weight}, [{fixed} + 8]",
            $($body,)*
            "add {step}, 24",
            "cmp {step}, [{fixed} + 24]",
            "jne 2b",
            "mov {weight}, {out_bytes}",
            "shl {weight}, 4",
            $($end,)*
            step = inout(reg) $block.steps.as_ptr() => _,
            cell = inout(reg) 0usize => _,
            weight = out(reg) _,
            fixed = in(reg) &raw const $fixed,
            weight_bytes = in(reg) $block.panels * 64,
            stride = in(reg) $block.pixel_stride,
            out = inout(reg) $out => _,
            out_bytes = in(reg) $out_bytes,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        )
    };
}

/// The loop over steps for `$product`.
macro_rules! products {
    ($name:ident, $product:literal) => {
        /// # Safety
        /// As `Kernel::run`, between [`Tiles::configure`] and its end; `out` has room for whole tiles, with `out_bytes`
        /// between pixels and `panel_bytes` between panels.
        unsafe fn $name(
            block: &Block<'_>,
            bias: [*const f32; PANELS],
            out: *mut f32,
            out_bytes: usize,
            panel_bytes: usize,
        ) {
            let fixed = Fixed {
                offset: block.offset,
                weights: block.weights,
                second_cells: block.pixel_stride * 16,
                end: block.steps.as_ptr_range().end,
                bias,
                panel_bytes,
            };
            // SAFETY: the caller's contract; a step is 24 bytes, `cell` first and `weight` second, and there is one.
            unsafe {
                match (block.pixels > 16, block.panels == 2) {
                    (true, true) => tile_loop!(
                        block,
                        fixed,
                        out,
                        out_bytes,
                        [
                            "mov {weight}, [{fixed} + 32]",
                            "tileloadd tmm0, [{weight} + {cell}*1]",
                            "tileloadd tmm2, [{weight} + {cell}*1]",
                            "mov {weight}, [{fixed} + 40]",
                            "tileloadd tmm1, [{weight} + {cell}*1]",
                            "tileloadd tmm3, [{weight} + {cell}*1]",
                        ],
                        [
                            "tileloadd tmm6, [{weight} + {weight_bytes}*1]",
                            "tileloadd tmm4, [{cell} + {stride}*1]",
                            "tileloadd tmm7, [{weight} + {weight_bytes}*1 + 64]",
                            "add {cell}, [{fixed} + 16]",
                            "tileloadd tmm5, [{cell} + {stride}*1]",
                            concat!($product, " tmm0, tmm4, tmm6"),
                            concat!($product, " tmm1, tmm4, tmm7"),
                            concat!($product, " tmm2, tmm5, tmm6"),
                            concat!($product, " tmm3, tmm5, tmm7"),
                        ],
                        [
                            "mov {cell}, {out}",
                            "add {cell}, [{fixed} + 48]",
                            "tilestored [{out} + {out_bytes}*1], tmm0",
                            "tilestored [{cell} + {out_bytes}*1], tmm1",
                            "add {out}, {weight}",
                            "add {cell}, {weight}",
                            "tilestored [{out} + {out_bytes}*1], tmm2",
                            "tilestored [{cell} + {out_bytes}*1], tmm3",
                        ]
                    ),
                    (true, false) => tile_loop!(
                        block,
                        fixed,
                        out,
                        out_bytes,
                        [
                            "mov {weight}, [{fixed} + 32]",
                            "tileloadd tmm0, [{weight} + {cell}*1]",
                            "tileloadd tmm2, [{weight} + {cell}*1]",
                        ],
                        [
                            "tileloadd tmm6, [{weight} + {weight_bytes}*1]",
                            "tileloadd tmm4, [{cell} + {stride}*1]",
                            "add {cell}, [{fixed} + 16]",
                            "tileloadd tmm5, [{cell} + {stride}*1]",
                            concat!($product, " tmm0, tmm4, tmm6"),
                            concat!($product, " tmm2, tmm5, tmm6"),
                        ],
                        [
                            "tilestored [{out} + {out_bytes}*1], tmm0",
                            "add {out}, {weight}",
                            "tilestored [{out} + {out_bytes}*1], tmm2",
                        ]
                    ),
                    (false, true) => tile_loop!(
                        block,
                        fixed,
                        out,
                        out_bytes,
                        [
                            "mov {weight}, [{fixed} + 32]",
                            "tileloadd tmm0, [{weight} + {cell}*1]",
                            "mov {weight}, [{fixed} + 40]",
                            "tileloadd tmm1, [{weight} + {cell}*1]",
                        ],
                        [
                            "tileloadd tmm6, [{weight} + {weight_bytes}*1]",
                            "tileloadd tmm4, [{cell} + {stride}*1]",
                            "tileloadd tmm7, [{weight} + {weight_bytes}*1 + 64]",
                            concat!($product, " tmm0, tmm4, tmm6"),
                            concat!($product, " tmm1, tmm4, tmm7"),
                        ],
                        [
                            "tilestored [{out} + {out_bytes}*1], tmm0",
                            "add {out}, [{fixed} + 48]",
                            "tilestored [{out} + {out_bytes}*1], tmm1",
                        ]
                    ),
                    (false, false) => tile_loop!(
                        block,
                        fixed,
                        out,
                        out_bytes,
                        ["mov {weight}, [{fixed} + 32]", "tileloadd tmm0, [{weight} + {cell}*1]",],
                        [
                            "tileloadd tmm6, [{weight} + {weight_bytes}*1]",
                            "tileloadd tmm4, [{cell} + {stride}*1]",
                            concat!($product, " tmm0, tmm4, tmm6"),
                        ],
                        ["tilestored [{out} + {out_bytes}*1], tmm0",]
                    ),
                }
            }
        }
    };
}

products!(brain_products, "tdpbf16ps");
products!(byte_products, "tdpbusd");

/// Room for the tiles of a run that does not fill them: `[panel][pixel][channel]`.
#[repr(align(64))]
struct Whole([f32; PANELS * MOST * LANES]);

unsafe fn brain(block: &Block<'_>) {
    // SAFETY: a second panel's bias is only there, and only read, where there is a second panel.
    unsafe {
        let second = if block.panels == 2 { block.bias.add(LANES) } else { ZEROS.as_ptr() };
        let bias = [block.bias, second];
        if block.pixels.is_multiple_of(16) {
            brain_products(block, bias, block.out, block.out_stride * 4, block.panel_stride * 4);
            return;
        }
        let mut whole = Whole([0.0; PANELS * MOST * LANES]);
        brain_products(block, bias, whole.0.as_mut_ptr(), LANES * 4, MOST * LANES * 4);
        for panel in 0..block.panels {
            for pixel in 0..block.pixels {
                let from = whole.0.as_ptr().add((panel * MOST + pixel) * LANES);
                let to = block.out.add(pixel * block.out_stride + panel * block.panel_stride);
                to.copy_from_nonoverlapping(from, LANES);
            }
        }
    }
}

#[target_feature(enable = "avx512f")]
unsafe fn byte(block: &Block<'_>) {
    let mut whole = Whole([0.0; PANELS * MOST * LANES]);
    // SAFETY: the caller's contract; the tiles hold 32-bit integers, which have the size of f32.
    unsafe {
        byte_products(block, [ZEROS.as_ptr(); PANELS], whole.0.as_mut_ptr(), LANES * 4, MOST * LANES * 4);
        for panel in 0..block.panels {
            let scale = _mm512_loadu_ps(block.scale.add(panel * LANES));
            let bias = _mm512_loadu_ps(block.bias.add(panel * LANES));
            for pixel in 0..block.pixels {
                let from = whole.0.as_ptr().add((panel * MOST + pixel) * LANES);
                let to = block.out.add(pixel * block.out_stride + panel * block.panel_stride);
                let sum = _mm512_cvtepi32_ps(_mm512_load_si512(from.cast()));
                _mm512_storeu_ps(to, _mm512_fmadd_ps(sum, scale, bias));
            }
        }
    }
}

/// The kernel of bf16 or u8.
pub(super) fn kernel(element: Element) -> Kernel {
    match element {
        Element::Bf16 => Kernel { run: brain, near: MOST, far: MOST, tiles: true },
        Element::U8 => Kernel { run: byte, near: MOST, far: MOST, tiles: true },
        Element::F32 => unreachable!("tiles multiply bf16 and bytes"),
    }
}
