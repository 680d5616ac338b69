//! What the processor's arithmetic units reach when nothing waits for memory: independent chains of one instruction.

use std::arch::asm;
use std::time::Instant;

use gantry_plugin::{Isa, IsaFeatures};

/// What a contestant computes with: its peak is what its speed is a share of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Units {
    /// Fused multiply-add of f32 in vectors of 8.
    Avx2,
    /// Fused multiply-add of f32 in vectors of 16.
    Avx512,
    /// Products of bfloat16 pairs in vectors.
    Avx512Bf16,
    /// Products of four bytes in vectors.
    Avx512Vnni,
    /// Products of bfloat16 tiles.
    AmxBf16,
    /// Products of byte tiles.
    AmxInt8,
}

impl Units {
    /// All, narrowest first.
    pub const ALL: [Units; 6] =
        [Units::Avx2, Units::Avx512, Units::Avx512Bf16, Units::Avx512Vnni, Units::AmxBf16, Units::AmxInt8];

    /// The widest f32 units of an instruction set.
    pub fn of_f32(isa: Isa) -> Option<Self> {
        match isa {
            Isa::Portable => None,
            Isa::Avx2 => Some(Self::Avx2),
            Isa::Avx512 | Isa::Amx => Some(Self::Avx512),
        }
    }

    /// The fastest units for bfloat16 of an instruction set on this machine; those for f32 where it has no others.
    pub fn of_bf16(isa: Isa) -> Option<Self> {
        match isa {
            Isa::Amx => Some(Self::AmxBf16),
            Isa::Avx512 if IsaFeatures::found().has_avx512_bf16() => Some(Self::Avx512Bf16),
            other => Self::of_f32(other),
        }
    }

    /// The fastest units for bytes of an instruction set on this machine; those for f32 where it has no others.
    pub fn of_int8(isa: Isa) -> Option<Self> {
        match isa {
            Isa::Amx => Some(Self::AmxInt8),
            Isa::Avx512 if IsaFeatures::found().has_avx512_vnni() => Some(Self::Avx512Vnni),
            other => Self::of_f32(other),
        }
    }

    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Avx2 => "AVX2 fp32",
            Self::Avx512 => "AVX-512 fp32",
            Self::Avx512Bf16 => "AVX-512 bf16",
            Self::Avx512Vnni => "AVX-512 int8",
            Self::AmxBf16 => "AMX bf16",
            Self::AmxInt8 => "AMX int8",
        }
    }

    /// Operations per second of `threads` threads together, the best of many; `None` where the machine lacks the units.
    pub fn peak(self, threads: usize) -> Option<f64> {
        let found = IsaFeatures::found();
        let best = Isa::best();
        let (present, chain, operations): (bool, unsafe fn(u64), f64) = match self {
            Self::Avx2 => (best >= Isa::Avx2, avx2, 12.0 * 8.0 * 2.0),
            Self::Avx512 => (best >= Isa::Avx512, avx512, 12.0 * 16.0 * 2.0),
            Self::Avx512Bf16 => (found.has_avx512_bf16(), avx512_bf16, 12.0 * 16.0 * 4.0),
            Self::Avx512Vnni => (found.has_avx512_vnni(), avx512_vnni, 12.0 * 16.0 * 8.0),
            Self::AmxBf16 => (best >= Isa::Amx, amx_bf16, 4.0 * 16.0 * 16.0 * 64.0),
            Self::AmxInt8 => (best >= Isa::Amx, amx_int8, 4.0 * 16.0 * 16.0 * 128.0),
        };
        if !present {
            return None;
        }
        // Short and often: one of them finds both cores free even where others work.
        let rounds = 500_000;
        let once = || {
            let started = Instant::now();
            std::thread::scope(|scope| {
                for _ in 0..threads {
                    // SAFETY: the instructions were found above.
                    scope.spawn(|| unsafe { chain(rounds) });
                }
            });
            threads as f64 * operations * rounds as f64 / started.elapsed().as_secs_f64()
        };
        Some((0..40).map(|_| once()).fold(0.0, f64::max))
    }
}

/// Twelve independent chains of a three-operand instruction, `rounds` times: enough to hide its latency.
macro_rules! chains {
    ($name:ident, $instruction:literal, $clear:literal, $vector:literal) => {
        unsafe fn $name(rounds: u64) {
            macro_rules! clear {
                ($n:literal) => {
                    concat!($clear, " ", $vector, $n, ", ", $vector, $n, ", ", $vector, $n)
                };
            }
            macro_rules! step {
                ($n:literal) => {
                    concat!($instruction, " ", $vector, $n, ", ", $vector, "12, ", $vector, "13")
                };
            }
            // SAFETY: the caller has the instructions; registers alone are touched.
            unsafe {
                asm!(
                    clear!(0), clear!(1), clear!(2), clear!(3), clear!(4), clear!(5), clear!(6),
                    clear!(7), clear!(8), clear!(9), clear!(10), clear!(11), clear!(12), clear!(13),
                    "2:",
                    step!(0), step!(1), step!(2), step!(3), step!(4), step!(5),
                    step!(6), step!(7), step!(8), step!(9), step!(10), step!(11),
                    "dec {rounds}",
                    "jnz 2b",
                    "vzeroupper",
                    rounds = inout(reg) rounds => _,
                    out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _, out("xmm4") _, out("xmm5") _,
                    out("xmm6") _, out("xmm7") _, out("xmm8") _, out("xmm9") _, out("xmm10") _, out("xmm11") _,
                    out("xmm12") _, out("xmm13") _,
                    options(nomem, nostack)
                );
            }
        }
    };
}

chains!(avx2, "vfmadd231ps", "vpxor", "ymm");
chains!(avx512, "vfmadd231ps", "vpxord", "zmm");
chains!(avx512_bf16, "vdpbf16ps", "vpxord", "zmm");
chains!(avx512_vnni, "vpdpbusd", "vpxord", "zmm");

/// Four tiles of sums from two and two tiles of factors.
macro_rules! tiles {
    ($name:ident, $instruction:literal) => {
        unsafe fn $name(rounds: u64) {
            let mut config = [0_u8; 64];
            config[0] = 1;
            for tile in 0..8 {
                config[48 + tile] = 16;
                config[16 + 2 * tile] = 64;
            }
            // SAFETY: the caller has the instructions and the system's leave; the configuration zeroes the tiles.
            unsafe {
                asm!(
                    "ldtilecfg [{config}]",
                    "2:",
                    concat!($instruction, " tmm0, tmm4, tmm6"),
                    concat!($instruction, " tmm1, tmm4, tmm7"),
                    concat!($instruction, " tmm2, tmm5, tmm6"),
                    concat!($instruction, " tmm3, tmm5, tmm7"),
                    "dec {rounds}",
                    "jnz 2b",
                    "tilerelease",
                    config = in(reg) &config,
                    rounds = inout(reg) rounds => _,
                    out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                    out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                    options(nostack, readonly)
                );
            }
        }
    };
}

tiles!(amx_bf16, "tdpbf16ps");
tiles!(amx_int8, "tdpbusd");

#[cfg(test)]
mod tests {
    use gantry_amx_emulator::{AmxEmulator, Tiles};

    use super::*;

    #[test]
    fn peaks_are_those_of_a_processor() {
        for units in Units::ALL {
            let peak = units.peak(1);
            // Between a tenth of an operation per cycle and a thousand times what any core does today.
            assert!(peak.is_none_or(|peak| (1e8..1e17).contains(&peak)), "{units:?}: {peak:?}");
        }
        let f32_units = Units::of_f32(Isa::best());
        assert!(f32_units.is_none_or(|units| units.peak(1).is_some()), "no peak for {f32_units:?}");
    }

    /// Where the processor has no tiles, their loops are at least known to be legal and to run as often as they say.
    #[test]
    fn loops_of_tiles_execute_what_is_counted() {
        if AmxEmulator::install() == Tiles::Native {
            assert!(Units::AmxBf16.peak(1) > Units::Avx512.peak(1));
            return;
        }
        for chain in [amx_bf16, amx_int8] {
            let before = AmxEmulator::executed();
            // SAFETY: the emulator executes tile instructions.
            unsafe { chain(25) };
            // Four products a round, and configuration and release.
            assert_eq!(AmxEmulator::executed() - before, 4 * 25 + 2);
        }
    }
}
