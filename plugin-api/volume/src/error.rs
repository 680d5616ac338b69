//! What can be wrong with a volume handed in: every error names what was expected and what was found.

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a volume cannot be processed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The slice does not have as many values as its size says.
    #[error("{what}: expected {expected} values for size {size:?}, found {found}")]
    Length {
        /// Which argument.
        what: &'static str,
        /// The size given with it, slowest axis first.
        size: Vec<usize>,
        /// Number of values that this size has.
        expected: usize,
        /// Number of values given.
        found: usize,
    },
    /// An axis has no voxel.
    #[error("{what}: expected at least one voxel along every axis, found size {size:?} (z, y, x)")]
    Empty {
        /// Which argument.
        what: &'static str,
        /// The size given.
        size: [usize; 3],
    },
    /// The number of voxels does not fit the machine.
    #[error("{what}: size {size:?} (z, y, x) has more voxels than this machine can address")]
    TooLarge {
        /// Which argument.
        what: &'static str,
        /// The size given.
        size: [usize; 3],
    },
    /// Spacings, zooms or a step that are not positive finite numbers.
    #[error("{what}: expected positive finite numbers, found {found:?}")]
    NotPositive {
        /// Which argument.
        what: &'static str,
        /// What was given.
        found: Vec<f64>,
    },
    /// A whole number outside its range.
    #[error("{what}: expected {expected}, found {found}")]
    Range {
        /// Which argument.
        what: &'static str,
        /// What it may be.
        expected: String,
        /// What was given.
        found: usize,
    },
    /// A value that is not finite where finite values are needed.
    #[error("{what}: expected finite values, found {found} at position {at}")]
    NotFinite {
        /// Which argument.
        what: &'static str,
        /// Position in the slice.
        at: usize,
        /// The value.
        found: f64,
    },
    /// An affine whose columns do not span space.
    #[error("affine: expected three independent finite columns, found {found:?}")]
    Affine {
        /// The 3x3 part, row by row.
        found: [f64; 9],
    },
    /// Values outside what a normalisation scheme accepts.
    #[error("{what}: expected values from {low} to {high}, found {found}")]
    Values {
        /// Which scheme.
        what: &'static str,
        /// Least value accepted.
        low: f64,
        /// Greatest value accepted.
        high: f64,
        /// The value found.
        found: f64,
    },
}

/// Number of voxels of a grid `[z, y, x]`.
///
/// # Errors
/// [`Error::Empty`] for an axis of length 0, [`Error::TooLarge`] when the product does not fit.
pub fn voxels(what: &'static str, size: [usize; 3]) -> Result<usize> {
    if size.contains(&0) {
        return Err(Error::Empty { what, size });
    }
    let product = size.iter().try_fold(1_usize, |n, &axis| n.checked_mul(axis));
    product.filter(|&n| n <= isize::MAX as usize / 16).ok_or(Error::TooLarge { what, size })
}

/// Refuses a slice whose length is not that of its grid.
pub(crate) fn expect_length(what: &'static str, size: [usize; 3], found: usize) -> Result<()> {
    let expected = voxels(what, size)?;
    if expected == found { Ok(()) } else { Err(Error::Length { what, size: size.to_vec(), expected, found }) }
}

/// Refuses what is not a positive finite number.
pub(crate) fn expect_positive(what: &'static str, values: &[f64]) -> Result<()> {
    if values.iter().all(|v| v.is_finite() && *v > 0.0) {
        Ok(())
    } else {
        Err(Error::NotPositive { what, found: values.to_vec() })
    }
}
