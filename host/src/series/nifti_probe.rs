//! What a scan needs to know of a NIfTI file: its grid. Reads the header only.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

use flate2::read::GzDecoder;

use super::geometry::Geometry;
use super::input::unreadable;
use super::nifti;
use super::record::Fault;

/// The grid of a NIfTI file, and what is worth saying of it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct NiftiGrid {
    pub geometry: Geometry,
    pub warnings: Vec<Fault>,
}

/// Whether a file of this name may be NIfTI.
pub fn is_named_nifti(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    name.ends_with(".nii") || name.ends_with(".nii.gz")
}

/// Reads the grid of an open `.nii` or `.nii.gz` file.
///
/// # Errors
/// `unreadable`, and what reading the whole file would refuse in its header (`nifti-…`).
pub fn grid(mut file: &File) -> Result<NiftiGrid, Fault> {
    let mut mark = [0u8; 2];
    let start = |mut file: &File| file.seek(SeekFrom::Start(0)).map_err(|e| unreadable(&e));
    start(file)?;
    file.read_exact(&mut mark).map_err(|e| unreadable(&e))?;
    start(file)?;
    let mut bytes = [0u8; nifti::HEADER];
    let read =
        if mark == [0x1f, 0x8b] { GzDecoder::new(file).read_exact(&mut bytes) } else { file.read_exact(&mut bytes) };
    read.map_err(|_| Fault::new("nifti-format", "the file is cut off within its NIfTI header, or is no gzip file"))?;
    let (geometry, warnings) = nifti::header_grid(&bytes)?;
    Ok(NiftiGrid { geometry, warnings })
}
