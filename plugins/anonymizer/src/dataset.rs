//! Explicit VR Little Endian data sets without preamble, file meta and pixels: the form in which headers travel.

use crate::refusal::Refusal;
use dicom_object::InMemDicomObject;
use dicom_transfer_syntax_registry::entries::EXPLICIT_VR_LITTLE_ENDIAN;

/// Reads a data set.
///
/// # Errors
/// `bad-headers`; the parser's own message is not passed on, since it may quote values.
pub fn read(bytes: &[u8]) -> Result<InMemDicomObject, Refusal> {
    InMemDicomObject::read_dataset_with_ts(bytes, &EXPLICIT_VR_LITTLE_ENDIAN.erased())
        .map_err(|_| Refusal::new("bad-headers", "the headers are not a readable Explicit VR Little Endian data set"))
}

/// Writes a data set; text is encoded under its SpecificCharacterSet.
///
/// # Errors
/// `bad-headers`: a text that its character set cannot hold.
pub fn write(dataset: &InMemDicomObject) -> Result<Vec<u8>, Refusal> {
    let mut bytes = Vec::new();
    dataset
        .write_dataset_with_ts(&mut bytes, &EXPLICIT_VR_LITTLE_ENDIAN.erased())
        .map_err(|_| Refusal::new("bad-headers", "the cleaned headers cannot be written under their character set"))?;
    Ok(bytes)
}
