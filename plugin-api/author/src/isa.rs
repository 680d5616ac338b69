//! Which vector instructions this process may use, found once at run time. Kernels dispatch on it and the host reports
//! it, so both say the same; nothing is compiled in unconditionally.

use std::fmt;
use std::sync::OnceLock;

use crate::{Error, Result};

/// The instruction set a CPU kernel is run with; each includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Isa {
    /// No assumption beyond the target's baseline.
    Portable,
    /// x86-64 with AVX2 and fused multiply-add: 8 lanes of f32.
    Avx2,
    /// x86-64 with AVX-512 F, BW, DQ and VL: 16 lanes of f32.
    Avx512,
    /// AVX-512 and the matrix unit: tiles with bf16 and int8 products, granted to this process by the kernel.
    Amx,
}

impl Isa {
    /// Narrowest first.
    const EVERY: [Isa; 4] = [Isa::Portable, Isa::Avx2, Isa::Avx512, Isa::Amx];

    /// The widest instruction set of this machine.
    pub fn best() -> Isa {
        IsaFeatures::found().best()
    }

    /// Every instruction set this machine can run, narrowest first.
    pub fn all() -> Vec<Isa> {
        Isa::EVERY.into_iter().filter(|isa| *isa <= Isa::best()).collect()
    }

    /// The set called `name`, whether this machine has it or not.
    pub fn named(name: &str) -> Option<Isa> {
        Isa::EVERY.into_iter().find(|isa| isa.name() == name)
    }

    /// Its name in parameters and reports: `portable`, `avx2`, `avx512`, `amx`.
    pub fn name(self) -> &'static str {
        match self {
            Isa::Portable => "portable",
            Isa::Avx2 => "avx2",
            Isa::Avx512 => "avx512",
            Isa::Amx => "amx",
        }
    }

    /// What a parameter asks for: `auto` is the best of this machine, a name is that set.
    ///
    /// # Errors
    /// A name that is none, or a set that this machine lacks: a slower one is never taken silently.
    pub fn chosen(name: &str) -> Result<Isa> {
        if name == "auto" {
            return Ok(Isa::best());
        }
        let all = || Isa::all().iter().map(|i| i.name()).collect::<Vec<_>>().join(", ");
        match Isa::named(name) {
            Some(isa) if isa <= Isa::best() => Ok(isa),
            Some(isa) => Err(Error::bad_params(format!("this machine cannot run `{isa}` kernels; it has {}", all()))),
            None => Err(Error::bad_params(format!("`{name}` is no instruction set; this machine has {}", all()))),
        }
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What the processor says, and what the kernel grants.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct IsaFeatures {
    avx2: bool,
    fma: bool,
    avx512f: bool,
    avx512bw: bool,
    avx512dq: bool,
    avx512vl: bool,
    avx512_bf16: bool,
    avx512_vnni: bool,
    amx_tile: bool,
    amx_bf16: bool,
    amx_int8: bool,
    amx_granted: bool,
}

impl IsaFeatures {
    /// Those of this machine. The first call asks the kernel for the tile registers where the processor has them.
    pub fn found() -> IsaFeatures {
        static FOUND: OnceLock<IsaFeatures> = OnceLock::new();
        *FOUND.get_or_init(detect)
    }

    /// The widest instruction set these make up.
    pub fn best(&self) -> Isa {
        let avx2 = self.avx2 && self.fma;
        let avx512 = avx2 && self.avx512f && self.avx512bw && self.avx512dq && self.avx512vl;
        let amx = avx512 && self.has_amx() && self.amx_granted;
        match (amx, avx512, avx2) {
            (true, ..) => Isa::Amx,
            (_, true, _) => Isa::Avx512,
            (.., true) => Isa::Avx2,
            _ => Isa::Portable,
        }
    }

    /// Products of bf16 pairs in AVX-512 registers.
    pub fn has_avx512_bf16(&self) -> bool {
        self.avx512f && self.avx512_bf16
    }

    /// Products of int8 quadruples in AVX-512 registers.
    pub fn has_avx512_vnni(&self) -> bool {
        self.avx512f && self.avx512_vnni
    }

    /// The processor has tiles with bf16 and int8 products; [`Isa::Amx`] also needs [`Self::amx_is_granted`].
    pub fn has_amx(&self) -> bool {
        self.amx_tile && self.amx_bf16 && self.amx_int8
    }

    /// The kernel lets this process use the tile registers.
    pub fn amx_is_granted(&self) -> bool {
        self.amx_granted
    }

    /// Names of those that decide which kernels run, best first. Matrix instructions only where they may be used.
    pub fn names(&self) -> Vec<&'static str> {
        let named = [
            (self.amx_granted && self.amx_bf16, "amx-bf16"),
            (self.amx_granted && self.amx_int8, "amx-int8"),
            (self.avx512f, "avx512f"),
            (self.has_avx512_bf16(), "avx512-bf16"),
            (self.has_avx512_vnni(), "avx512-vnni"),
            (self.avx2, "avx2"),
            (self.fma, "fma"),
        ];
        named.into_iter().filter(|(found, _)| *found).map(|(_, name)| name).collect()
    }
}

#[cfg(target_arch = "x86_64")]
fn detect() -> IsaFeatures {
    let amx = matrix_bits();
    IsaFeatures {
        avx2: is_x86_feature_detected!("avx2"),
        fma: is_x86_feature_detected!("fma"),
        avx512f: is_x86_feature_detected!("avx512f"),
        avx512bw: is_x86_feature_detected!("avx512bw"),
        avx512dq: is_x86_feature_detected!("avx512dq"),
        avx512vl: is_x86_feature_detected!("avx512vl"),
        avx512_bf16: is_x86_feature_detected!("avx512bf16"),
        avx512_vnni: is_x86_feature_detected!("avx512vnni"),
        amx_tile: amx.tile,
        amx_bf16: amx.bf16,
        amx_int8: amx.int8,
        amx_granted: amx.tile && tiles_granted(),
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn detect() -> IsaFeatures {
    IsaFeatures::default()
}

/// Bits of the matrix unit in leaf 7 of cpuid.
#[cfg(target_arch = "x86_64")]
struct MatrixBits {
    tile: bool,
    bf16: bool,
    int8: bool,
}

/// `is_x86_feature_detected!` does not know the matrix unit in stable Rust. Leaf 7, edx: 22 bf16, 24 tiles, 25 int8
/// (Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2A, CPUID).
#[cfg(target_arch = "x86_64")]
fn matrix_bits() -> MatrixBits {
    use std::arch::x86_64::{__cpuid, __cpuid_count};
    let edx = if __cpuid(0).eax >= 7 { __cpuid_count(7, 0).edx } else { 0 };
    let bit = |n: u32| edx >> n & 1 == 1;
    MatrixBits { tile: bit(24), bf16: bit(22), int8: bit(25) }
}

/// Asks the kernel for the tile registers, once for the whole process: `arch_prctl(ARCH_REQ_XCOMP_PERM, XTILEDATA)`
/// (Documentation/arch/x86/xstate.rst of Linux). A kernel or sandbox that refuses answers with an error.
#[cfg(all(target_arch = "x86_64", target_os = "linux", not(miri)))]
fn tiles_granted() -> bool {
    const ARCH_PRCTL: i64 = 158;
    const ARCH_REQ_XCOMP_PERM: u64 = 0x1023;
    const XTILEDATA: u64 = 18;
    let mut answer = ARCH_PRCTL;
    // SAFETY: this system call reads its two arguments from registers and touches no memory of the process; the kernel
    // overwrites rax, rcx and r11, which are declared.
    unsafe {
        std::arch::asm!(
            "syscall",
            inlateout("rax") answer,
            in("rdi") ARCH_REQ_XCOMP_PERM,
            in("rsi") XTILEDATA,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    answer == 0
}

#[cfg(all(target_arch = "x86_64", any(not(target_os = "linux"), miri)))]
fn tiles_granted() -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine with everything but what the test takes away.
    fn full() -> IsaFeatures {
        IsaFeatures {
            avx2: true,
            fma: true,
            avx512f: true,
            avx512bw: true,
            avx512dq: true,
            avx512vl: true,
            avx512_bf16: true,
            avx512_vnni: true,
            amx_tile: true,
            amx_bf16: true,
            amx_int8: true,
            amx_granted: true,
        }
    }

    #[test]
    fn one_missing_feature_falls_to_the_next_set() {
        assert_eq!(full().best(), Isa::Amx);
        for without in [
            IsaFeatures { amx_tile: false, ..full() },
            IsaFeatures { amx_bf16: false, ..full() },
            IsaFeatures { amx_int8: false, ..full() },
            IsaFeatures { amx_granted: false, ..full() },
        ] {
            assert_eq!(without.best(), Isa::Avx512, "{without:?}");
        }
        for without in [
            IsaFeatures { avx512f: false, ..full() },
            IsaFeatures { avx512bw: false, ..full() },
            IsaFeatures { avx512dq: false, ..full() },
            IsaFeatures { avx512vl: false, ..full() },
        ] {
            assert_eq!(without.best(), Isa::Avx2, "{without:?}");
        }
        assert_eq!(IsaFeatures { fma: false, ..full() }.best(), Isa::Portable);
        assert_eq!(IsaFeatures { avx2: false, ..full() }.best(), Isa::Portable);
        assert_eq!(IsaFeatures::default().best(), Isa::Portable);
    }

    #[test]
    fn what_may_not_be_used_is_not_named() {
        assert_eq!(full().names(), ["amx-bf16", "amx-int8", "avx512f", "avx512-bf16", "avx512-vnni", "avx2", "fma"]);
        let refused = IsaFeatures { amx_granted: false, ..full() };
        assert!(refused.has_amx() && refused.names()[0] == "avx512f");
        assert!(!IsaFeatures { avx512f: false, ..full() }.has_avx512_bf16());
    }

    #[test]
    fn names_and_sets_are_one_to_one() {
        for isa in Isa::EVERY {
            assert_eq!(Isa::named(isa.name()), Some(isa));
        }
        assert_eq!(Isa::named("auto"), None);
        assert!(Isa::EVERY.is_sorted());
    }

    #[test]
    fn asking_for_what_the_machine_lacks_is_an_error() {
        assert_eq!(Isa::chosen("auto"), Ok(Isa::best()));
        for isa in Isa::EVERY {
            match Isa::chosen(isa.name()) {
                Ok(got) => assert!(got == isa && Isa::all().contains(&isa)),
                Err(error) => {
                    assert!(isa > Isa::best() && !Isa::all().contains(&isa));
                    assert!(error.to_string().contains("portable"), "{error}");
                }
            }
        }
        assert!(Isa::chosen("sse9").is_err());
    }

    /// The kernel lists a flag only where it supports it, so its list is a second opinion on what was found.
    #[test]
    #[cfg(target_os = "linux")]
    fn the_kernel_lists_what_was_found() {
        let info = std::fs::read_to_string("/proc/cpuinfo").expect("Linux tells its processor");
        let Some(flags) = info.lines().find_map(|l| l.strip_prefix("flags")) else { return };
        let listed = |flag: &str| flags.split_whitespace().any(|f| f == flag);
        let found = IsaFeatures::found();
        let pairs = [
            (found.avx2, "avx2"),
            (found.fma, "fma"),
            (found.avx512f, "avx512f"),
            (found.has_avx512_bf16(), "avx512_bf16"),
            (found.has_avx512_vnni(), "avx512_vnni"),
        ];
        for (ours, flag) in pairs {
            assert_eq!(ours, listed(flag), "{flag}");
        }
        assert!(!found.amx_granted || listed("amx_tile"), "{found:?}");
    }
}
