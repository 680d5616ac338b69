//! Writes phantoms as a tree of DICOM patients: `{dataset}/{patient}/{POST VUE, POST STD}/*.dcm` with ground truth
//! beside the series.

use super::label_file::write_label_volume;
use super::slice_file::{PhantomSeries, slice_object};
use super::{ChestPhantom, HEART_LABELS, PhantomError, PhantomGrid, TISSUES};
use rayon::prelude::*;
use std::fs;
use std::path::{Path, PathBuf};

/// Folder of the data set inside the output folder.
pub const DATASET_FOLDER: &str = "phantom";
/// Folder of the series without contrast medium.
pub const PLAIN_FOLDER: &str = "POST VUE";
/// Folder of the series with contrast medium.
pub const CONTRAST_FOLDER: &str = "POST STD";
/// All labels (values of [`TISSUES`]), in the patient's folder.
pub const LABELS_FILE: &str = "labels.nii.gz";
/// The heart (1) and everything else (0), in the patient's folder.
pub const HEART_FILE: &str = "heart.nii.gz";
/// The table of labels, in the data set's folder.
const TABLE_FILE: &str = "labels.csv";

/// Where one patient was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrittenPatient {
    /// The patient's folder.
    pub folder: PathBuf,
    /// Folders of the series that were written: without contrast medium first.
    pub series: Vec<PathBuf>,
}

fn writing(path: &Path) -> impl FnOnce(std::io::Error) -> PhantomError {
    let path = path.display().to_string();
    move |source| PhantomError::Write { path, source }
}

/// Writes `patients` patients of the population `seed` to `out/phantom/patient-001`, … and the table of labels.
///
/// Nothing of the result appears under its final name before all of it is written; an existing data set is never
/// overwritten. `written` is told after each patient how many are complete.
///
/// # Errors
/// [`PhantomError::Size`] for no patients or more than 9999, [`PhantomError::Exists`] if the data set is there already,
/// [`PhantomError::Write`] and [`PhantomError::Encode`] from writing.
pub fn write_dicom_tree(
    out: &Path,
    seed: u64,
    patients: u32,
    grid: &PhantomGrid,
    mut written: impl FnMut(u32),
) -> Result<Vec<WrittenPatient>, PhantomError> {
    if !(1..=9999).contains(&patients) {
        return Err(PhantomError::Size { what: "patients", expected: "1 to 9999", found: patients.to_string() });
    }
    let dataset = out.join(DATASET_FOLDER);
    if dataset.exists() {
        return Err(PhantomError::Exists { path: dataset.display().to_string() });
    }
    fs::create_dir_all(out).map_err(writing(out))?;
    let staging = tempfile::Builder::new().prefix(".phantom-").tempdir_in(out).map_err(writing(out))?;
    let mut done = Vec::new();
    for patient in 0..patients {
        let name = format!("patient-{:03}", patient + 1);
        let phantom = ChestPhantom::new(seed, patient);
        let staged = write_patient(&staging.path().join(&name), &phantom, grid, &[false, true])?;
        let folder = dataset.join(&name);
        let series = staged.series.iter().filter_map(|path| path.file_name()).map(|leaf| folder.join(leaf)).collect();
        done.push(WrittenPatient { folder, series });
        written(patient + 1);
    }
    let table = staging.path().join(TABLE_FILE);
    fs::write(&table, label_table()).map_err(writing(&table))?;
    // A temporary folder is private to its owner; the data set has the usual permissions of a new folder.
    fs::create_dir(&dataset).map_err(writing(&dataset))?;
    for entry in fs::read_dir(staging.path()).map_err(writing(staging.path()))? {
        let entry = entry.map_err(writing(staging.path()))?;
        let to = dataset.join(entry.file_name());
        fs::rename(entry.path(), &to).map_err(writing(&to))?;
    }
    Ok(done)
}

/// Writes one patient into `folder`: the series asked for (`false` without, `true` with contrast medium), `labels.nii.gz`
/// and `heart.nii.gz`.
///
/// # Errors
/// [`PhantomError::Write`] and [`PhantomError::Encode`].
pub fn write_patient(
    folder: &Path,
    phantom: &ChestPhantom,
    grid: &PhantomGrid,
    contrasts: &[bool],
) -> Result<WrittenPatient, PhantomError> {
    fs::create_dir_all(folder).map_err(writing(folder))?;
    let labels = phantom.labels(grid);
    write_label_volume(&folder.join(LABELS_FILE), grid, &labels)?;
    let heart: Vec<u8> = labels.iter().map(|label| u8::from(HEART_LABELS.contains(label))).collect();
    write_label_volume(&folder.join(HEART_FILE), grid, &heart)?;
    let mut written = Vec::new();
    for &contrast in contrasts {
        let path = folder.join(if contrast { CONTRAST_FOLDER } else { PLAIN_FOLDER });
        fs::create_dir_all(&path).map_err(writing(&path))?;
        let series = PhantomSeries { phantom, contrast, grid: *grid };
        (0..grid.slices).into_par_iter().try_for_each(|z| {
            let object = slice_object(&series, z, &phantom.slice(contrast, grid, z))?;
            let file = path.join(format!("{:04}.dcm", series.instance_number(z)));
            object
                .write_to_file(&file)
                .map_err(|error| PhantomError::Encode { path: file.display().to_string(), reason: error.to_string() })
        })?;
        written.push(path);
    }
    Ok(WrittenPatient { folder: folder.to_owned(), series: written })
}

/// The table of labels as comma-separated text.
fn label_table() -> String {
    let mut text = String::from("label,name,snomed_ct,plain_hu,contrast_hu\n");
    for tissue in &TISSUES {
        let code = tissue.snomed.unwrap_or("");
        text.push_str(&format!("{},{},{code},{},{}\n", tissue.label, tissue.name, tissue.plain_hu, tissue.contrast_hu));
    }
    text
}
