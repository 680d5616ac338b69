//! `gantry phantom`: writes the built-in chest phantom as a tree of DICOM patients.

pub use crate::builtin::phantom::PhantomError;
use crate::builtin::phantom::{PhantomGrid, WrittenPatient, write_dicom_tree};
use std::path::PathBuf;

/// Write the built-in chest phantom as DICOM patients with ground-truth labels.
#[derive(Debug, clap::Args)]
pub struct PhantomArgs {
    /// Folder to write to; the patients appear in its sub-folder `phantom`
    #[arg(short, long, value_name = "DIR")]
    pub output: PathBuf,
    /// Number of patients
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=9999))]
    pub patients: u32,
    /// Rows and columns of a slice; the field of view stays the same
    #[arg(long, value_name = "ROWS", default_value_t = 128, value_parser = clap::value_parser!(u16).range(16..=1024))]
    pub size: u16,
    /// Slices of a series
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub slices: u16,
    /// Which population of patients
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    pub seed: u64,
}

/// Writes the phantoms; `written` is told after each patient how many are complete.
///
/// # Errors
/// As [`write_dicom_tree`].
pub fn run(args: &PhantomArgs, written: impl FnMut(u32)) -> Result<Vec<WrittenPatient>, PhantomError> {
    let grid = PhantomGrid::chest(usize::from(args.size), usize::from(args.slices))?;
    write_dicom_tree(&args.output, args.seed, args.patients, &grid, written)
}
