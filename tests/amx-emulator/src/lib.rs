//! AMX tile instructions in software, for tests of kernels on machines that lack them.
//!
//! Where a processor lacks AMX, a tile instruction ends in SIGILL. [`AmxEmulator::install`] answers that signal: it reads
//! the instruction, does in memory what the manual says it does to the tiles of the thread, and goes on behind it. Any
//! other illegal instruction, and a tile instruction that the processor would refuse, ends the process as before, the
//! latter with its reason on stderr. Where AMX exists nothing is installed and the instructions run natively.
//!
//! Known: `LDTILECFG STTILECFG TILELOADD TILELOADDT1 TILESTORED TILEZERO TILERELEASE TDPBF16PS TDPBSSD TDPBSUD TDPBUSD
//! TDPBUUD` of 64-bit code, with every register and every way of addressing but segment and address-size prefixes.
//! Numbers are those of Intel's description: `TDPBF16PS` sums the even and the odd products of a row in two chains of
//! fused multiply-adds, adds the chains, then adds that to the tile; to nearest even, subnormal numbers are zero on the
//! way in and out. The payload of a NaN is not specified here.
//!
//! A signal costs about 10 us on a virtual machine; tile instructions that directly follow each other share one, and then
//! cost about half a microsecond each.
//!
//! Linux on x86-64 alone; elsewhere the crate is empty.
#![cfg(all(target_arch = "x86_64", target_os = "linux"))]
#![deny(unsafe_code)]

mod decode;
#[allow(unsafe_code)]
mod dot;
#[allow(unsafe_code)]
mod machine;
#[allow(unsafe_code)]
mod signal;
mod tiles;

pub use machine::AmxEmulator;

/// Who executes tile instructions in this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tiles {
    /// The processor; the system has granted the process its tiles.
    Native,
    /// This crate.
    Emulated,
}
