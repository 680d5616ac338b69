//! The built-in chest phantom: a computed patient with known anatomy, scanned without and with contrast medium.
//!
//! It stands in for a patient wherever one may not be used: the demo, the `[[tests]]` of pipelines, the fitting of the
//! toy checkpoints. It knows nothing of the engine. Everything follows from (seed, patient, grid): a phantom is the
//! same on one thread and on many.
//!
//! The frame is LPS: x towards the patient's left, y towards the back, z towards the head, in millimetres, with the
//! origin in the middle of the grid. Volumes are [z, y, x] with z ascending towards the head.

mod anatomy;
mod draws;
mod label_file;
mod patient_tree;
mod render;
mod shape;
mod slice_file;
mod tissue;
mod tree;

#[cfg(test)]
mod tests;

pub use label_file::write_label_volume;
pub use patient_tree::{
    CONTRAST_FOLDER, DATASET_FOLDER, HEART_FILE, LABELS_FILE, PLAIN_FOLDER, WrittenPatient, write_dicom_tree,
    write_patient,
};
pub use slice_file::{PhantomSeries, slice_object};
pub use tissue::*;

use anatomy::Anatomy;
use rayon::prelude::*;

/// Why a phantom could not be made or written. Texts name only the phantom's own files.
#[derive(Debug, thiserror::Error)]
pub enum PhantomError {
    /// A size or count outside what a phantom can have.
    #[error("phantom {what}: expected {expected}, found {found}")]
    Size {
        /// Which size.
        what: &'static str,
        /// The permitted range.
        expected: &'static str,
        /// What was asked for.
        found: String,
    },
    /// The folder to write to already holds a phantom.
    #[error("{path} exists already; remove it or choose another folder")]
    Exists {
        /// The folder in the way.
        path: String,
    },
    /// A file or folder could not be written.
    #[error("cannot write {path}: {source}")]
    Write {
        /// The file or folder.
        path: String,
        /// The reason given by the system.
        source: std::io::Error,
    },
    /// A DICOM object or label file could not be built or encoded.
    #[error("cannot encode {path}: {reason}")]
    Encode {
        /// The file.
        path: String,
        /// The reason given by the encoder.
        reason: String,
    },
}

/// The sampling of a phantom: a box of voxels around the middle of the chest.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PhantomGrid {
    /// Pixels from front to back (y), 16..=1024.
    pub rows: usize,
    /// Pixels from right to left (x), 16..=1024.
    pub columns: usize,
    /// Slices from feet to head (z), 1..=1024.
    pub slices: usize,
    /// Distance between voxel centres [z, y, x] in mm.
    pub spacing_mm: [f64; 3],
}

/// Width in mm of the square field of view that [`PhantomGrid::chest`] covers: the whole body of every patient.
pub const FIELD_OF_VIEW_MM: f64 = 345.6;

impl PhantomGrid {
    /// A grid of `size` x `size` pixels over the whole body and `slices` slices over the heart and lungs.
    ///
    /// From 32 slices on the slices share 160 mm, but are never thinner than 0.6 mm; fewer slices are 5 mm thick and lie
    /// around the heart. `chest(128, 32)` is the demo's grid: 2.7 x 2.7 x 5 mm.
    ///
    /// # Errors
    /// `size` outside 16..=1024 or `slices` outside 1..=1024.
    pub fn chest(size: usize, slices: usize) -> Result<Self, PhantomError> {
        if !(16..=1024).contains(&size) {
            return Err(PhantomError::Size { what: "rows", expected: "16 to 1024", found: size.to_string() });
        }
        if !(1..=1024).contains(&slices) {
            return Err(PhantomError::Size { what: "slices", expected: "1 to 1024", found: slices.to_string() });
        }
        let in_plane = FIELD_OF_VIEW_MM / size as f64;
        // Whole hundredths of a millimetre, as scanners state them.
        let thickness = ((160.0 / slices as f64).clamp(0.6, 5.0) * 100.0).round() / 100.0;
        Ok(Self { rows: size, columns: size, slices, spacing_mm: [thickness, in_plane, in_plane] })
    }

    /// Number of voxels.
    pub fn voxels(&self) -> usize {
        self.rows * self.columns * self.slices
    }

    /// Voxel index to LPS mm: 3 x 4, row-major, for (x, y, z, 1).
    pub fn affine(&self) -> [f64; 12] {
        let [sz, sy, sx] = self.spacing_mm;
        let [ox, oy, oz] = self.origin_mm();
        [sx, 0.0, 0.0, ox, 0.0, sy, 0.0, oy, 0.0, 0.0, sz, oz]
    }

    /// Centre of voxel (0, 0, 0) as LPS [x, y, z] in mm.
    pub fn origin_mm(&self) -> [f64; 3] {
        let [sz, sy, sx] = self.spacing_mm;
        let start = |count: usize, spacing: f64| -0.5 * (count as f64 - 1.0) * spacing;
        [start(self.columns, sx), start(self.rows, sy), start(self.slices, sz)]
    }

    /// Position of voxel `index` along an axis of `count` voxels, from the middle.
    fn centred(&self, index: usize, count: usize, spacing: f32) -> f32 {
        (index as f32 - 0.5 * (count as f32 - 1.0)) * spacing
    }
}

impl Default for PhantomGrid {
    /// The demo's grid: 32 slices of 128 x 128 at 2.7 x 2.7 x 5 mm.
    fn default() -> Self {
        Self { rows: 128, columns: 128, slices: 32, spacing_mm: [5.0, 2.7, 2.7] }
    }
}

/// One computed patient.
#[derive(Debug, Clone)]
pub struct ChestPhantom {
    seed: u64,
    patient: u32,
    anatomy: Anatomy,
}

impl ChestPhantom {
    /// The patient numbered `patient` of the population `seed`. Patients differ in size, proportions, the position and
    /// size of heart, vessels and diaphragm, and in the branching of vessels and airways.
    pub fn new(seed: u64, patient: u32) -> Self {
        Self { seed, patient, anatomy: Anatomy::draw(seed, patient) }
    }

    /// The population.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// The patient's number, from 0.
    pub fn patient(&self) -> u32 {
        self.patient
    }

    /// Hounsfield values [z, y, x]. The scan with contrast medium shows the same anatomy under different noise.
    pub fn volume(&self, contrast: bool, grid: &PhantomGrid) -> Vec<i16> {
        (0..grid.slices).into_par_iter().flat_map_iter(|z| render::slice(self, contrast, grid, z)).collect()
    }

    /// Hounsfield values [y, x] of slice `z`, 0 being the one nearest the feet. Equal to that slice of
    /// [`volume`](Self::volume).
    pub fn slice(&self, contrast: bool, grid: &PhantomGrid, z: usize) -> Vec<i16> {
        render::slice(self, contrast, grid, z)
    }

    /// Ground truth [z, y, x]: values of [`TISSUES`].
    pub fn labels(&self, grid: &PhantomGrid) -> Vec<u8> {
        (0..grid.slices).into_par_iter().flat_map_iter(|z| render::labels(self, grid, z)).collect()
    }

    /// Ground truth [y, x] of slice `z`.
    pub fn label_slice(&self, grid: &PhantomGrid, z: usize) -> Vec<u8> {
        render::labels(self, grid, z)
    }
}

/// A phantom that pipelines can name as `phantom:<name>`.
#[derive(Debug, Clone)]
pub struct NamedPhantom {
    /// The name after `phantom:`.
    pub name: &'static str,
    /// The patient.
    pub phantom: ChestPhantom,
    /// Whether contrast medium was given.
    pub contrast: bool,
    /// The sampling: small, so that tests of pipelines take seconds.
    pub grid: PhantomGrid,
}

/// The names that [`named`] knows.
pub const NAMED: [&str; 2] = ["chest-ct", "chest-ct-contrast"];

/// The phantom behind `phantom:<name>`, or `None` for an unknown name; [`NAMED`] lists the known ones.
pub fn named(name: &str) -> Option<NamedPhantom> {
    let (index, name) = NAMED.iter().enumerate().find(|(_, known)| **known == name)?;
    // 12 slices through the heart at 64 x 64: every tissue a pipeline looks at is in it.
    let grid = PhantomGrid { rows: 64, columns: 64, slices: 12, spacing_mm: [5.0, 5.4, 5.4] };
    Some(NamedPhantom { name, phantom: ChestPhantom::new(0, 0), contrast: index == 1, grid })
}
