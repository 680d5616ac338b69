//! Which vector instructions this process may use, found once at run time; nothing is compiled in unconditionally.

use std::sync::OnceLock;

/// The instruction set a CPU kernel is run with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Isa {
    /// No assumption beyond the target's baseline.
    Portable,
    /// x86-64 with AVX2 and fused multiply-add: 8 lanes of f32.
    Avx2,
    /// x86-64 with AVX-512F: 16 lanes of f32.
    Avx512,
}

impl Isa {
    /// The widest instruction set of this machine.
    pub fn best() -> Self {
        static BEST: OnceLock<Isa> = OnceLock::new();
        *BEST.get_or_init(|| Self::all().last().copied().unwrap_or(Self::Portable))
    }

    /// Every instruction set this machine can run, narrowest first.
    #[cfg(target_arch = "x86_64")]
    pub fn all() -> Vec<Self> {
        let mut found = vec![Self::Portable];
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            found.push(Self::Avx2);
            if is_x86_feature_detected!("avx512f") {
                found.push(Self::Avx512);
            }
        }
        found
    }

    /// Every instruction set this machine can run, narrowest first.
    #[cfg(not(target_arch = "x86_64"))]
    pub fn all() -> Vec<Self> {
        vec![Self::Portable]
    }
}

/// Defines a function whose body is compiled once per instruction set and dispatched on [`Isa::best`].
///
/// The bodies use plain Rust with a fixed order of operations; Rust neither reassociates nor contracts floating-point
/// arithmetic, so every version gives the same bits.
macro_rules! vectorised {
    ($(#[$meta:meta])* pub(crate) fn $name:ident($($arg:ident: $type:ty),* $(,)?) $(-> $ret:ty)? $body:block) => {
        $(#[$meta])*
        pub(crate) fn $name($($arg: $type),*) $(-> $ret)? {
            #[inline(always)]
            fn body($($arg: $type),*) $(-> $ret)? $body
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2,fma")]
                fn avx2($($arg: $type),*) $(-> $ret)? { body($($arg),*) }
                if $crate::isa::Isa::best() >= $crate::isa::Isa::Avx2 {
                    // SAFETY: `Isa::best` returns `Avx2` or more only where both features were detected.
                    #[allow(unsafe_code)]
                    return unsafe { avx2($($arg),*) };
                }
            }
            body($($arg),*)
        }
    };
}
pub(crate) use vectorised;
