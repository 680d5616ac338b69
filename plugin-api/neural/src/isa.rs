//! Plain Rust compiled once per instruction set; which there are is [`gantry_plugin::Isa`]'s to say.

pub use gantry_plugin::Isa;

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
