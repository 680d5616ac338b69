//! Small valid CT series cut out of the real chest CT: a few rows, columns and slices, for an invented patient.

use std::path::{Path, PathBuf};

use dicom_core::{DataElement, PrimitiveValue, VR};
use dicom_dictionary_std::tags;
use dicom_object::{InMemDicomObject, OpenFileOptions};

use crate::fixture::shared;

/// What is cut out, and for whom.
#[derive(Debug, Clone)]
pub struct SmallCt {
    /// Patient, made up; it goes into the name, the id and every identifier.
    pub patient: u32,
    /// First slice along z, counted from the lowest.
    pub first: usize,
    /// How many slices.
    pub slices: usize,
    /// Rows and columns, cut out of the middle.
    pub size: usize,
}

/// The files of the real series, ascending in z, or `None` where it is absent.
pub fn chest() -> Option<Vec<PathBuf>> {
    let folder = shared("data/chest-cta-heart/dicom")?;
    let mut files: Vec<(f64, PathBuf)> = std::fs::read_dir(folder)
        .ok()?
        .flatten()
        .filter_map(|e| {
            let path = e.path();
            let header = OpenFileOptions::new().read_until(tags::PIXEL_DATA).open_file(&path).ok()?;
            let position = header.element(tags::IMAGE_POSITION_PATIENT).ok()?.to_multi_float64().ok()?;
            Some((*position.get(2)?, path))
        })
        .collect();
    files.sort_by(|a, b| a.0.total_cmp(&b.0));
    Some(files.into_iter().map(|(_, path)| path).collect())
}

fn text(object: &mut InMemDicomObject, tag: dicom_core::Tag, vr: VR, value: &str) {
    object.put(DataElement::new(tag, vr, PrimitiveValue::from(value)));
}

impl SmallCt {
    /// Writes the series to `folder`, one file a slice; `false` where the real series is absent.
    ///
    /// # Panics
    /// If the real series is not what its README says, or nothing can be written.
    pub fn write(&self, folder: &Path) -> bool {
        let Some(files) = chest() else { return false };
        std::fs::create_dir_all(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
        for (number, path) in files[self.first..self.first + self.slices].iter().enumerate() {
            self.write_slice(path, number, &folder.join(format!("{:03}.dcm", self.slices - number)));
        }
        true
    }

    fn write_slice(&self, from: &Path, number: usize, to: &Path) {
        let say = |e: &dyn std::fmt::Display| -> ! { panic!("{}: {e}", from.display()) };
        let mut object = OpenFileOptions::new().open_file(from).unwrap_or_else(|e| say(&e));
        let length = |tag| object.element(tag).ok().and_then(|e| e.to_int::<usize>().ok()).unwrap_or(0);
        let (rows, columns) = (length(tags::ROWS), length(tags::COLUMNS));
        let pixels = object.element(tags::PIXEL_DATA).unwrap_or_else(|e| say(&e)).to_bytes();
        let pixels = pixels.unwrap_or_else(|e| say(&e)).into_owned();
        let (top, left) = ((rows - self.size) / 2, (columns - self.size) / 2);
        let mut cut = Vec::with_capacity(self.size * self.size * 2);
        for row in top..top + self.size {
            let start = (row * columns + left) * 2;
            cut.extend_from_slice(&pixels[start..start + self.size * 2]);
        }
        let size = PrimitiveValue::from(self.size as u16);
        object.put(DataElement::new(tags::ROWS, VR::US, size.clone()));
        object.put(DataElement::new(tags::COLUMNS, VR::US, size));
        object.put(DataElement::new(tags::PIXEL_DATA, VR::OW, PrimitiveValue::from(cut)));
        let root = format!("1.2.826.0.1.3680043.8.498.77.{}", self.patient);
        let instance = format!("{root}.3.{}", number + 1);
        text(&mut object, tags::PATIENT_ID, VR::LO, &format!("SMALL-{:04}", self.patient));
        text(&mut object, tags::PATIENT_NAME, VR::PN, &format!("Small^Number{}", self.patient));
        text(&mut object, tags::STUDY_INSTANCE_UID, VR::UI, &format!("{root}.1"));
        text(&mut object, tags::SERIES_INSTANCE_UID, VR::UI, &format!("{root}.2"));
        text(&mut object, tags::FRAME_OF_REFERENCE_UID, VR::UI, &format!("{root}.4"));
        text(&mut object, tags::SOP_INSTANCE_UID, VR::UI, &instance);
        object.update_meta(|meta| meta.media_storage_sop_instance_uid = instance.clone());
        object.write_to_file(to).unwrap_or_else(|e| say(&e));
    }
}

/// `count` patients, each `slices` slices of `size` x `size`, in `folder/p<n>/series`; `false` where the real series is
/// absent.
pub fn cohort(folder: &Path, count: u32, slices: usize, size: usize) -> bool {
    (1..=count).all(|patient| {
        let first = 20 + 10 * patient as usize;
        SmallCt { patient, first, slices, size }.write(&folder.join(format!("p{patient}/series")))
    })
}
