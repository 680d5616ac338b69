//! The widest vector instructions that this processor has, for loops the compiler vectorises by itself.

/// Runs `work` compiled for this processor's widest vectors (AVX-512, AVX2, else the target's own).
///
/// Only what is inlined into `work` gains: the loops stand in functions marked `#[inline(always)]`. Bits do not depend on
/// it, for multiplications and additions are never fused unless the source says so.
#[inline]
pub(crate) fn vectorised<R>(work: impl FnOnce() -> R) -> R {
    pulp::Arch::new().dispatch(work)
}
