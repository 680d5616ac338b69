//! Small made-up CT slices for tests.
#![allow(dead_code)]

use std::path::Path;

use dicom_core::{DataElement, PrimitiveValue, VR};
use dicom_dictionary_std::{tags, uids};
use dicom_object::{FileMetaTableBuilder, InMemDicomObject};

/// A temporary folder that is removed again.
pub fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

/// One slice of 4 x 5 pixels whose stored values count up from `offset`.
#[derive(Clone)]
pub struct Ct {
    pub z_mm: f64,
    pub number: i32,
    pub study: &'static str,
    pub series: &'static str,
    /// SOP Instance UID; made from `number`, `series` and `offset` where `None`.
    pub instance: Option<&'static str>,
    pub class: &'static str,
    pub kind: &'static str,
    pub orientation: &'static str,
    pub slope: &'static str,
    pub intercept: &'static str,
    pub rescale_type: &'static str,
    pub rows: u16,
    pub bits: (u16, u16),
    pub offset: i32,
    pub signed: bool,
    pub padding: Option<u16>,
    pub padding_limit: Option<u16>,
    pub pixels: bool,
    pub by_gantry: bool,
}

impl Default for Ct {
    fn default() -> Self {
        Self {
            z_mm: 0.0,
            number: 1,
            study: "2.25.1",
            series: "2.25.11",
            instance: None,
            class: uids::CT_IMAGE_STORAGE,
            kind: "AXIAL",
            orientation: "1\\0\\0\\0\\1\\0",
            slope: "1",
            intercept: "-1024",
            rescale_type: "HU",
            rows: 4,
            bits: (16, 16),
            offset: 0,
            signed: false,
            padding: None,
            padding_limit: None,
            pixels: true,
            by_gantry: false,
        }
    }
}

impl Ct {
    /// The dataset.
    pub fn object(&self) -> InMemDicomObject {
        let text = |tag, vr, value: &str| DataElement::new(tag, vr, PrimitiveValue::from(value));
        let word = |tag, value: u16| DataElement::new(tag, VR::US, PrimitiveValue::from(value));
        let instance = match self.instance {
            Some(uid) => uid.to_owned(),
            None => format!(
                "{}.{}.{}",
                if self.series.is_empty() { "2.25.3" } else { self.series },
                self.number,
                9000 + self.offset
            ),
        };
        let mut object = InMemDicomObject::from_element_iter([
            text(tags::IMAGE_TYPE, VR::CS, &format!("ORIGINAL\\PRIMARY\\{}", self.kind)),
            text(tags::SOP_CLASS_UID, VR::UI, self.class),
            text(tags::SOP_INSTANCE_UID, VR::UI, &instance),
            text(tags::MODALITY, VR::CS, "CT"),
            text(tags::STUDY_INSTANCE_UID, VR::UI, self.study),
            text(tags::SERIES_INSTANCE_UID, VR::UI, self.series),
            text(tags::INSTANCE_NUMBER, VR::IS, &self.number.to_string()),
            text(tags::IMAGE_POSITION_PATIENT, VR::DS, &format!("-100\\-200\\{}", self.z_mm)),
            text(tags::IMAGE_ORIENTATION_PATIENT, VR::DS, self.orientation),
            text(tags::FRAME_OF_REFERENCE_UID, VR::UI, "2.25.4"),
            word(tags::SAMPLES_PER_PIXEL, 1),
            text(tags::PHOTOMETRIC_INTERPRETATION, VR::CS, "MONOCHROME2"),
            word(tags::ROWS, self.rows),
            word(tags::COLUMNS, 5),
            text(tags::PIXEL_SPACING, VR::DS, "0.7\\0.6"),
            word(tags::BITS_ALLOCATED, self.bits.0),
            word(tags::BITS_STORED, self.bits.1),
            word(tags::HIGH_BIT, self.bits.1.saturating_sub(1)),
            word(tags::PIXEL_REPRESENTATION, u16::from(self.signed)),
            text(tags::RESCALE_INTERCEPT, VR::DS, self.intercept),
            text(tags::RESCALE_SLOPE, VR::DS, self.slope),
            text(tags::RESCALE_TYPE, VR::LO, self.rescale_type),
        ]);
        for (tag, value) in
            [(tags::PIXEL_PADDING_VALUE, self.padding), (tags::PIXEL_PADDING_RANGE_LIMIT, self.padding_limit)]
        {
            if let Some(value) = value {
                object.put(word(tag, value));
            }
        }
        if self.by_gantry {
            let code = InMemDicomObject::from_element_iter([text(tags::CODE_VALUE, VR::SH, "109102")]);
            let item = InMemDicomObject::from_element_iter([
                text(tags::MANUFACTURER, VR::LO, "Gantry"),
                DataElement::new(
                    tags::PURPOSE_OF_REFERENCE_CODE_SEQUENCE,
                    VR::SQ,
                    dicom_core::value::DataSetSequence::from(vec![code]),
                ),
            ]);
            object.put(DataElement::new(
                tags::CONTRIBUTING_EQUIPMENT_SEQUENCE,
                VR::SQ,
                dicom_core::value::DataSetSequence::from(vec![item]),
            ));
        }
        if self.pixels {
            let words: Vec<u16> = (0..20).map(|i| (i + self.offset) as u16).collect();
            object.put(DataElement::new(tags::PIXEL_DATA, VR::OW, PrimitiveValue::U16(words.into())));
        }
        object
    }

    /// Writes the slice as a DICOM file.
    pub fn write(&self, folder: &Path, name: &str) {
        let object = self.object();
        let meta = FileMetaTableBuilder::new()
            .transfer_syntax(uids::EXPLICIT_VR_LITTLE_ENDIAN)
            .media_storage_sop_class_uid(self.class)
            .media_storage_sop_instance_uid("2.25.9");
        object.with_meta(meta).unwrap().write_to_file(folder.join(name)).unwrap();
    }
}
