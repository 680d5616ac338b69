//! Whether this processor has tiles, and the emulator where it has none.

use std::arch::x86_64::{__cpuid, __cpuid_count};
use std::sync::OnceLock;
use std::sync::atomic::Ordering;

use crate::Tiles;
use crate::signal::{EXECUTED, install};

/// The emulator of a process: one signal handler for all threads, tiles for each.
pub struct AmxEmulator;

impl AmxEmulator {
    /// Makes tile instructions executable in every thread of this process, natively or emulated, and says which. A
    /// second call changes nothing.
    ///
    /// # Panics
    /// If the processor has neither AMX nor AVX2 and FMA (of which the emulation is made), or the system refuses a
    /// process its tiles or the handler.
    pub fn install() -> Tiles {
        static INSTALLED: OnceLock<Tiles> = OnceLock::new();
        *INSTALLED.get_or_init(|| {
            if has_amx() {
                ask_for_tiles();
                return Tiles::Native;
            }
            let able = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
            assert!(able, "the emulation of AMX needs AVX2 and FMA");
            install().unwrap_or_else(|why| panic!("no handler for SIGILL: {why}"));
            Tiles::Emulated
        })
    }

    /// How many instructions the emulator has executed in this process; 0 for ever where tiles are native. A test whose
    /// kernel was to use AMX, and did not, finds no difference.
    pub fn executed() -> u64 {
        EXECUTED.load(Ordering::Relaxed)
    }
}

/// AMX-TILE, AMX-BF16 and AMX-INT8 of the processor, and their state enabled by the system.
fn has_amx() -> bool {
    let os_saves_state = __cpuid(1).ecx & 1 << 27 != 0;
    let wanted = 1 << 24 | 1 << 22 | 1 << 25;
    os_saves_state
        && __cpuid(0).eax >= 7
        && __cpuid_count(7, 0).edx & wanted == wanted
        && enabled_state() >> 17 & 3 == 3
}

/// The register XCR0; bits 17 and 18 are tile configuration and tile data.
fn enabled_state() -> u32 {
    let low: u32;
    // SAFETY: called only where CPUID says that the system uses XSAVE; reads a register that user code may read.
    unsafe { std::arch::asm!("xgetbv", in("ecx") 0, out("eax") low, out("edx") _, options(nomem, nostack)) };
    low
}

/// Linux gives a process tile data only when asked: `arch_prctl(ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA)`.
fn ask_for_tiles() {
    const ARCH_REQ_XCOMP_PERM: libc::c_long = 0x1023;
    const XFEATURE_XTILEDATA: libc::c_long = 18;
    // SAFETY: the call takes two numbers and touches no memory of ours.
    let refused = unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) };
    assert!(refused == 0, "the system refuses tiles: {}", std::io::Error::last_os_error());
}
