//! [`Watch`]: who looks on while a model runs, and may end it.

/// Told how far the work is, and asked whether it is still wanted.
pub trait Watch: Sync {
    /// Whether to go on; asked between layers, often. After `false` the work ends with [`crate::Error::Cancelled`].
    fn go_on(&self) -> bool {
        true
    }

    /// `done` of `total` windows are predicted: of all folds, and each mirrored one counts.
    fn windows(&self, done: usize, total: usize) {
        let _ = (done, total);
    }
}

/// Nobody looks on.
impl Watch for () {}
