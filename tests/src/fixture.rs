//! Reading the reference numbers that live outside the repository, in `../shared`.
//!
//! A test asks for the folder with [`shared`]. Where the folder is absent the test reports itself as skipped, except
//! under `CI`, where its absence is a failure.

use std::path::{Path, PathBuf};

/// The folder `../shared/<relative>` beside the checkout, or `None` (said on stderr) where a user has no such folder.
///
/// # Panics
/// Under `CI` when it is missing: there the reference data are mandatory.
pub fn shared(relative: &str) -> Option<PathBuf> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the workspace");
    let path = workspace.parent().unwrap_or(workspace).join("shared").join(relative);
    if path.exists() {
        return Some(path);
    }
    assert!(std::env::var_os("CI").is_none(), "{} is missing, and CI must have it", path.display());
    eprintln!("skipped: {} is not on this machine", path.display());
    None
}

/// An array from a `.npy` file: its shape, and its elements in C order.
#[derive(Debug, Clone)]
pub struct Array<T> {
    /// Lengths of the axes, slowest first.
    pub shape: Vec<usize>,
    /// Elements in C order.
    pub data: Vec<T>,
}

/// Reads a `.npy` file whose element type is exactly `T`.
///
/// # Panics
/// If the file is missing, malformed, in Fortran order or of another element type: a fixture is trusted input.
pub fn npy<T: npyz::Deserialize>(path: impl AsRef<Path>) -> Array<T> {
    let path = path.as_ref();
    let file = std::fs::File::open(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let npy = npyz::NpyFile::new(std::io::BufReader::new(file)).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    assert_eq!(npy.order(), npyz::Order::C, "{}: Fortran order", path.display());
    let shape = npy.shape().iter().map(|&n| n as usize).collect();
    let data = npy.into_vec::<T>().unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    Array { shape, data }
}
