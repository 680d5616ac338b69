//! Recognising DICOM by content: preamble, bare meta group, bare dataset.

use dicom_core::dictionary::DataDictionary;
use dicom_core::{Tag, VR};
use dicom_dictionary_std::{StandardDataDictionary, uids};

use super::{EXPLICIT_BE, Encoding, UNDEFINED, Walk, bad};
use crate::series::record::Fault;

/// Where a dataset begins, by content.
pub(super) struct Start {
    pub dataset: usize,
    pub transfer_syntax: Option<String>,
    pub media_sop_class: String,
    pub marked: bool,
}

/// Whether the first bytes of a file look like DICOM; 132 bytes and more are needed for certainty.
pub fn looks_like_dicom(head: &[u8]) -> bool {
    head.get(128..132) == Some(b"DICM") || is_bare_meta(head) || guess_encoding(head).is_some()
}

fn is_bare_meta(bytes: &[u8]) -> bool {
    matches!(bytes.get(..6), Some(&[2, 0, 0 | 1, 0, b'U' | b'O', b'L' | b'B']))
}

/// Tells whether bytes are DICOM, and where the dataset begins.
pub(super) fn recognise(bytes: &[u8]) -> Result<Option<Start>, Fault> {
    let marked = bytes.get(128..132) == Some(b"DICM");
    if !marked && !is_bare_meta(bytes) {
        return Ok(guess_encoding(bytes).map(|_| Start {
            dataset: 0,
            transfer_syntax: None,
            media_sop_class: String::new(),
            marked,
        }));
    }
    let mut at = if marked { 132 } else { 0 };
    let (mut transfer_syntax, mut media_sop_class, mut group_end) = (None, String::new(), None);
    let mut reader = Walk::new(bytes, Encoding::EXPLICIT_LE, at);
    while bytes.len() - at >= 8 && group_end.is_none_or(|end| at < end) {
        if bytes[at..at + 2] != [2, 0] {
            break;
        }
        let header = reader.element_header(at, true)?;
        if header.len == UNDEFINED {
            return Err(bad(at, header.tag, "has an undefined length in the file meta group"));
        }
        let value = reader.value(at, header, bytes.len())?;
        let uid = || String::from_utf8_lossy(&bytes[value.clone()]).trim_matches(['\0', ' ']).to_owned();
        match header.tag {
            Tag(2, 0) => {
                let length = bytes[value.clone()].try_into().map(u32::from_le_bytes).unwrap_or(0) as usize;
                group_end = value.end.checked_add(length).filter(|&end| end <= bytes.len());
            }
            Tag(2, 0x0002) => media_sop_class = uid(),
            Tag(2, 0x0010) => transfer_syntax = Some(uid()),
            _ => {}
        }
        at = value.end;
        reader.count()?;
    }
    Ok(Some(Start { dataset: at, transfer_syntax, media_sop_class, marked }))
}

/// How the dataset of a file that is certainly DICOM, but names no transfer syntax, is encoded.
pub(super) fn plain_encoding(bytes: &[u8]) -> (String, Encoding) {
    match bytes {
        [_, _, _, _, a, b, ..] if VR::from_binary([*a, *b]).is_none() => {
            (uids::IMPLICIT_VR_LITTLE_ENDIAN.to_owned(), Encoding::IMPLICIT_LE)
        }
        _ => (uids::EXPLICIT_VR_LITTLE_ENDIAN.to_owned(), Encoding::EXPLICIT_LE),
    }
}

/// How a dataset without a meta group is encoded, told by its first element, which must be of group 0008.
pub(super) fn guess_encoding(bytes: &[u8]) -> Option<(String, Encoding)> {
    let head: &[u8; 8] = bytes.get(..8)?.try_into().ok()?;
    let vr = VR::from_binary([head[4], head[5]]);
    match (head[0], head[1], vr) {
        (8, 0, Some(_)) => Some((uids::EXPLICIT_VR_LITTLE_ENDIAN.to_owned(), Encoding::EXPLICIT_LE)),
        (0, 8, Some(_)) => Some((EXPLICIT_BE.to_owned(), Encoding { explicit: true, big_endian: true })),
        (8, 0, None) => {
            let length = u32::from_le_bytes([head[4], head[5], head[6], head[7]]) as usize;
            let known = StandardDataDictionary.by_tag(Tag(8, u16::from_le_bytes([head[2], head[3]]))).is_some();
            (known && length <= 1024).then(|| (uids::IMPLICIT_VR_LITTLE_ENDIAN.to_owned(), Encoding::IMPLICIT_LE))
        }
        _ => None,
    }
}
