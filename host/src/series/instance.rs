//! [`Instance`]: one SOP instance of any class, on its way through without being decoded: its data set without pixels as
//! Explicit VR Little Endian, and its pixels as they will be written again.

use std::borrow::Cow;
use std::ops::Range;

use dicom_core::{Tag, VR};
use dicom_dictionary_std::{tags, uids};
use dicom_encoding::text::SpecificCharacterSet;
use dicom_object::mem::InMemElement;
use dicom_object::{FileMetaTableBuilder, InMemDicomObject};
use dicom_transfer_syntax_registry::entries::EXPLICIT_VR_LITTLE_ENDIAN;

use super::guard::{self, Encoding, Outline, PixelSpan};
use super::header;
use super::record::Fault;
use super::samples::Samples;

/// One SOP instance.
pub struct Instance<'a> {
    outline: Outline<'a>,
}

/// The group 7FE0 of an instance, encoded for the transfer syntax in which the instance will be written.
pub struct PixelGroup<'a> {
    /// UID of that transfer syntax.
    pub transfer_syntax: String,
    /// The elements; empty where the instance has none.
    pub bytes: Cow<'a, [u8]>,
}

impl PixelGroup<'_> {
    /// Uncompressed little endian pixel data of even length.
    pub fn native(pixels: &[u8], bits_allocated: u32) -> PixelGroup<'static> {
        let vr = if bits_allocated > 8 { VR::OW } else { VR::OB };
        PixelGroup::plain([&element_header(tags::PIXEL_DATA, vr, pixels.len()), pixels].concat())
    }

    /// Uncompressed little endian pixel data of `found` bytes, which `read` appends to the header of their element.
    ///
    /// # Errors
    /// As [`Instance::pixel_group`], and those of `read`.
    pub fn read(
        (vr, encoding): (Option<VR>, Encoding),
        (found, samples): (usize, Samples),
        read: impl FnOnce(&mut Vec<u8>) -> Result<(), Fault>,
    ) -> Result<PixelGroup<'static>, Fault> {
        let vr = native_vr(tags::PIXEL_DATA, vr, encoding)?;
        let kept = kept(tags::PIXEL_DATA, found, samples)?;
        // One byte more tells the end of the file without another step.
        let mut bytes = Vec::with_capacity(12 + found + 1);
        bytes.extend_from_slice(&element_header(tags::PIXEL_DATA, vr, kept));
        read(&mut bytes)?;
        bytes.truncate(12 + kept);
        bytes.resize(12 + kept.next_multiple_of(2), 0);
        Ok(PixelGroup::plain(bytes))
    }

    /// The same, owned.
    pub fn into_owned(self) -> PixelGroup<'static> {
        PixelGroup { transfer_syntax: self.transfer_syntax, bytes: Cow::Owned(self.bytes.into_owned()) }
    }

    fn plain(bytes: Vec<u8>) -> PixelGroup<'static> {
        PixelGroup { transfer_syntax: uids::EXPLICIT_VR_LITTLE_ENDIAN.to_owned(), bytes: Cow::Owned(bytes) }
    }
}

impl<'a> Instance<'a> {
    /// Walks a file's bytes.
    ///
    /// # Errors
    /// What [`guard::walk`] refuses; `not-dicom`.
    pub fn open(bytes: impl Into<Cow<'a, [u8]>>) -> Result<Self, Fault> {
        let outline = guard::walk(bytes)?.ok_or_else(|| Fault::new("not-dicom", "the file is not DICOM"))?;
        Ok(Self { outline })
    }

    /// What stands before pixels that were not read.
    pub fn without_pixels(outline: Outline<'a>) -> Self {
        Self { outline }
    }

    /// What the walk found.
    pub fn outline(&self) -> &Outline<'a> {
        &self.outline
    }

    /// The data set up to the pixel data, parsed. See [`header::parse`].
    ///
    /// # Errors
    /// `bad-header`
    pub fn header(&self) -> Result<InMemDicomObject, Fault> {
        header::parse(&self.outline)
    }

    /// The data set without groups 0002 and 7FE0 and what stands behind them, Explicit VR Little Endian. Text keeps its
    /// bytes, whatever its character set.
    ///
    /// # Errors
    /// `bad-header`
    pub fn data_set(&self) -> Result<Cow<'_, [u8]>, Fault> {
        let outline = &self.outline;
        let first = outline.pixel_elements.first().map(|(_, range)| range.start);
        let end = first.map_or(outline.header.end, |first| first.min(outline.header.end));
        let all = outline.data.get(outline.header.start..end).unwrap_or(&[]);
        let plain = outline.encoding.explicit && !outline.encoding.big_endian;
        if plain && !outline.has_unknown_vr {
            return Ok(Cow::Borrowed(all));
        }
        self.rewritten(Vec::new()).map(Cow::Owned)
    }

    /// The data set in another encoding, or with other elements in place of its own. Text passes as Latin-1, in which every byte is one character, and the
    /// character set is put back afterwards: no text is decoded, so none can be garbled.
    fn rewritten(&self, others: Vec<InMemElement>) -> Result<Vec<u8>, Fault> {
        let failed = |_| Fault::new("bad-header", "the DICOM header cannot be written as Explicit VR Little Endian");
        let mut outline = self.outline.clone();
        let terms = header::parse(&self.outline)?.take(tags::SPECIFIC_CHARACTER_SET);
        if !outline.character_set.is_empty() {
            // Ranges behind the gap would shift: the walk of what is left finds them anew.
            let mut data = outline.data.into_owned();
            data.drain(outline.character_set.clone());
            let gap = outline.character_set.len();
            let shift = |at: usize| if at >= outline.character_set.end { at - gap } else { at };
            outline.header = outline.header.start..shift(outline.header.end);
            for range in &mut outline.un_sequences {
                *range = shift(range.start)..shift(range.end);
            }
            outline.data = Cow::Owned(data);
        }
        let latin_1 = SpecificCharacterSet::ISO_IR_100;
        let mut object = header::parse_with(&outline, latin_1.clone())?;
        for tag in object.tags().filter(|tag| tag.group() >= 0x7FE0).collect::<Vec<Tag>>() {
            object.remove_element(tag);
        }
        others.into_iter().for_each(|element| drop(object.put(element)));
        let mut bytes = Vec::new();
        let syntax = EXPLICIT_VR_LITTLE_ENDIAN.erased();
        let (mut before, mut after) = (InMemDicomObject::new_empty(), InMemDicomObject::new_empty());
        for element in object {
            let half = if element.header().tag < tags::SPECIFIC_CHARACTER_SET { &mut before } else { &mut after };
            half.put(element);
        }
        before.write_dataset_with_ts_cs(&mut bytes, &syntax, latin_1.clone()).map_err(failed)?;
        if let Some(terms) = terms {
            let only = InMemDicomObject::from_element_iter([terms]);
            only.write_dataset_with_ts_cs(&mut bytes, &syntax, SpecificCharacterSet::ISO_IR_6).map_err(failed)?;
        }
        after.write_dataset_with_ts_cs(&mut bytes, &syntax, latin_1).map_err(failed)?;
        Ok(bytes)
    }

    /// The group 7FE0, for the transfer syntax in which it is written again: compressed pixels keep theirs and every
    /// byte; all others become Explicit VR Little Endian, their samples unchanged. Nothing else passes: other elements of
    /// the group are left behind, and so is what follows the last sample.
    ///
    /// # Errors
    /// `pixel-length`: fewer bytes than samples; `pixel-module`: nobody says how many; `bad-structure`: uncompressed pixels under a compressed transfer syntax,
    /// or elements whose VR is none of pixel data.
    pub fn pixel_group(&self, samples: Samples) -> Result<PixelGroup<'_>, Fault> {
        let outline = &self.outline;
        let elements = || outline.pixel_elements.iter().filter(|(tag, _)| allowed_vrs(*tag).is_some());
        let bytes = |range: &Range<usize>| outline.data.get(range.clone()).unwrap_or(&[]);
        if matches!(outline.pixels, PixelSpan::Encapsulated { .. }) {
            let mut group = Vec::new();
            for (tag, range) in elements() {
                let element = bytes(range);
                let vr = element.get(4..6).and_then(|vr| VR::from_binary([*vr.first()?, *vr.get(1)?]));
                check_vr(*tag, vr)?;
                group.extend_from_slice(element);
            }
            return Ok(PixelGroup { transfer_syntax: outline.transfer_syntax.clone(), bytes: Cow::Owned(group) });
        }
        let plain = [
            uids::IMPLICIT_VR_LITTLE_ENDIAN,
            uids::EXPLICIT_VR_LITTLE_ENDIAN,
            uids::DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
            guard::EXPLICIT_BE,
        ];
        if outline.pixels != PixelSpan::Absent && !plain.contains(&outline.transfer_syntax.as_str()) {
            let text = "the pixel data are not in pieces, though the transfer syntax is a compressed one";
            return Err(Fault::new("bad-structure", text));
        }
        // Samples of 32 bits lie in one piece, though OW is a string of 16-bit words.
        let bits = match outline.encoding.big_endian {
            true => header::integer(&self.header()?, tags::BITS_ALLOCATED),
            false => None,
        };
        let words = if bits == Some(32) { 4 } else { 2 };
        let mut group = Vec::with_capacity(outline.pixel_elements.iter().map(|(_, r)| r.len()).sum::<usize>() + 16);
        // The tables of the others belong to compressed pixels.
        let of_samples = [tags::PIXEL_DATA, tags::FLOAT_PIXEL_DATA, tags::DOUBLE_FLOAT_PIXEL_DATA];
        for (tag, range) in elements().filter(|(tag, _)| of_samples.contains(tag)) {
            native_element(&mut group, *tag, bytes(range), outline.encoding, words, samples)?;
        }
        Ok(PixelGroup::plain(group))
    }
}

/// The elements that make up pixel data, with the VRs that they may have (PS3.6, PS3.5 A.4).
fn allowed_vrs(tag: Tag) -> Option<&'static [VR]> {
    match (tag.group(), tag.element()) {
        (0x7FE0, 0x0001 | 0x0002) => Some(&[VR::OV]),
        (0x7FE0, 0x0003) => Some(&[VR::UV]),
        (0x7FE0, 0x0008) => Some(&[VR::OF]),
        (0x7FE0, 0x0009) => Some(&[VR::OD]),
        (0x7FE0, 0x0010) => Some(&[VR::OB, VR::OW, VR::UN]),
        _ => None,
    }
}

fn check_vr(tag: Tag, vr: Option<VR>) -> Result<VR, Fault> {
    let wrong = || Fault::new("bad-structure", format!("element {tag} has no VR of pixel data"));
    vr.filter(|vr| allowed_vrs(tag).is_some_and(|allowed| allowed.contains(vr))).ok_or_else(wrong)
}

/// Appends an uncompressed element of group 7FE0 as Explicit VR Little Endian.
fn native_element(
    group: &mut Vec<u8>,
    tag: Tag,
    element: &[u8],
    encoding: Encoding,
    words: usize,
    samples: Samples,
) -> Result<(), Fault> {
    let vr = match encoding.explicit {
        false => None,
        true => element.get(4..6).and_then(|vr| VR::from_binary([*vr.first()?, *vr.get(1)?])),
    };
    // Every VR of pixel data has a length of 32 bits.
    let value = element.get(if encoding.explicit { 12 } else { 8 }..).unwrap_or(&[]);
    let vr = native_vr(tag, vr, encoding)?;
    let kept = kept(tag, value.len(), samples)?;
    let value = value.get(..kept).unwrap_or(value);
    group.extend_from_slice(&element_header(tag, vr, kept));
    let from = group.len();
    group.extend_from_slice(value);
    if encoding.big_endian {
        let unit = match vr {
            VR::OW => words,
            VR::OF => 4,
            VR::OD | VR::OV | VR::UV => 8,
            _ => 1,
        };
        group.get_mut(from..).unwrap_or_default().chunks_exact_mut(unit).for_each(<[u8]>::reverse);
    }
    group.resize(group.len() + kept % 2, 0);
    Ok(())
}

/// The VR under which an uncompressed element of group 7FE0 is written; `vr`: what the file says where it says any.
fn native_vr(tag: Tag, vr: Option<VR>, encoding: Encoding) -> Result<VR, Fault> {
    let vr = if encoding.explicit { vr } else { implied_vr(tag) };
    Ok(match check_vr(tag, vr)? {
        VR::UN => VR::OW,
        vr => vr,
    })
}

/// How many of `found` bytes are passed on: the samples; a byte that makes their length even stays as it is.
fn kept(tag: Tag, found: usize, samples: Samples) -> Result<usize, Fault> {
    Ok(found.min(samples.bytes(tag, found)?.next_multiple_of(2)))
}

/// The header of an element with a VR whose length has 32 bits, for a value of `length` bytes made even.
fn element_header(tag: Tag, vr: VR, length: usize) -> [u8; 12] {
    let ([g, h], [e, f], [v, w]) = (tag.group().to_le_bytes(), tag.element().to_le_bytes(), vr.to_bytes());
    // The values were read from elements, or measured to fit one.
    let [a, b, c, d] = (length.next_multiple_of(2) as u32).to_le_bytes();
    [g, h, e, f, v, w, 0, 0, a, b, c, d]
}

/// The VR of an element of group 7FE0 in implicit VR (PS3.5 A.1).
fn implied_vr(tag: Tag) -> Option<VR> {
    match tag.element() {
        0x0010 => Some(VR::OW),
        _ => allowed_vrs(tag)?.first().copied(),
    }
}

/// A data set (Explicit VR Little Endian, without group 7FE0) with other elements in place of its own; text keeps its
/// bytes.
///
/// # Errors
/// `bad-header`, and what [`guard::walk_data_set`] refuses.
pub fn with_elements(data_set: &[u8], others: Vec<InMemElement>) -> Result<Vec<u8>, Fault> {
    Instance { outline: guard::walk_data_set(data_set)? }.rewritten(others)
}

/// A data set on its way into a file, with what the file's head and name take from it.
pub struct Outgoing<'a> {
    /// The elements.
    pub data_set: &'a [u8],
    /// The same, parsed.
    pub header: InMemDicomObject,
    /// SOP Instance UID.
    pub sop_instance: String,
    sop_class: String,
}

impl<'a> Outgoing<'a> {
    /// Reads a data set (Explicit VR Little Endian, without group 7FE0).
    ///
    /// # Errors
    /// `bad-header`: it cannot be read, holds no SOP Class or Instance UID, or elements that belong into the file's head or
    /// to the pixels and behind them.
    pub fn read(data_set: &'a [u8]) -> Result<Self, Fault> {
        let header = InMemDicomObject::read_dataset_with_ts(data_set, &EXPLICIT_VR_LITTLE_ENDIAN.erased())
            .map_err(|_| unfit("cannot be read"))?;
        if header.tags().any(|tag| tag.group() <= 0x0002 || tag.group() >= 0x7FE0) {
            return Err(unfit("holds elements of groups 0002, or 7FE0 and above"));
        }
        let uid = |tag| header::text(&header, tag);
        let sop_class = uid(tags::SOP_CLASS_UID).ok_or_else(|| unfit("has no SOPClassUID"))?;
        let sop_instance = uid(tags::SOP_INSTANCE_UID).ok_or_else(|| unfit("has no SOPInstanceUID"))?;
        Ok(Self { data_set, header, sop_instance, sop_class })
    }

    /// Series Instance UID and Modality: the modality as far as it is a plain word, else `OT`.
    pub fn series(&self) -> (String, String) {
        let text = |tag| header::text(&self.header, tag).unwrap_or_default();
        let modality = text(tags::MODALITY);
        let plain = (2..=10).contains(&modality.len()) && modality.bytes().all(|b| b.is_ascii_uppercase());
        (text(tags::SERIES_INSTANCE_UID), if plain { modality } else { "OT".to_owned() })
    }

    /// The file up to the pixels, which follow it: preamble of zeros, new file meta information, data set.
    ///
    /// # Errors
    /// `bad-header`: UIDs that no file meta information can hold.
    pub fn head(&self, transfer_syntax: &str) -> Result<Vec<u8>, Fault> {
        let meta = FileMetaTableBuilder::new()
            .transfer_syntax(transfer_syntax)
            .media_storage_sop_class_uid(&self.sop_class)
            .media_storage_sop_instance_uid(&self.sop_instance)
            .build()
            .map_err(|_| unfit("allows no file meta information"))?;
        let mut bytes = Vec::with_capacity(1024 + self.data_set.len());
        bytes.resize(128, 0);
        bytes.extend_from_slice(b"DICM");
        meta.write(&mut bytes).map_err(|_| unfit("allows no file meta information"))?;
        bytes.extend_from_slice(self.data_set);
        Ok(bytes)
    }
}

fn unfit(what: &str) -> Fault {
    Fault::new("bad-header", format!("the data set to write {what}"))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::series::samples::tests::two_rows;
    use dicom_core::{DataElement, PrimitiveValue};

    const JAPANESE: &[u8] = b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B";

    pub fn element(tag: Tag, vr: &[u8], value: &[u8], explicit: bool, big: bool) -> Vec<u8> {
        let u16 = |n: u16| if big { n.to_be_bytes() } else { n.to_le_bytes() };
        let u32 = |n: u32| if big { n.to_be_bytes() } else { n.to_le_bytes() };
        let mut out = [u16(tag.group()), u16(tag.element())].concat();
        match (explicit, vr) {
            (false, _) => out.extend(u32(value.len() as u32)),
            (true, b"OB" | b"OW" | b"OV" | b"UN") => {
                out.extend(vr);
                out.extend([0, 0]);
                out.extend(u32(value.len() as u32));
            }
            (true, _) => {
                out.extend(vr);
                out.extend(u16(value.len() as u16));
            }
        }
        out.extend(value);
        out
    }

    pub fn sample(explicit: bool, big: bool) -> Vec<u8> {
        let rows: u16 = 2;
        let mut out = Vec::new();
        let mut put = |tag, vr: &[u8], value: &[u8]| out.extend(element(tag, vr, value, explicit, big));
        put(tags::SPECIFIC_CHARACTER_SET, b"CS", b"\\ISO 2022 IR 87 ");
        put(tags::SOP_CLASS_UID, b"UI", b"1.2.840.10008.5.1.4.1.1.2\0");
        put(tags::SOP_INSTANCE_UID, b"UI", b"1.2.3.4\0");
        put(tags::MODALITY, b"CS", b"CT");
        put(tags::PATIENT_NAME, b"PN", JAPANESE);
        put(tags::ROWS, b"US", &if big { rows.to_be_bytes() } else { rows.to_le_bytes() });
        let pixels = if big { [1, 2, 3, 4] } else { [2, 1, 4, 3] };
        put(tags::PIXEL_DATA, b"OW", &pixels);
        out
    }

    pub fn file_of(data_set: &[u8], syntax: &str) -> Vec<u8> {
        let meta = FileMetaTableBuilder::new()
            .transfer_syntax(syntax)
            .media_storage_sop_class_uid("1.2.840.10008.5.1.4.1.1.2")
            .media_storage_sop_instance_uid("1.2.3.4")
            .build()
            .unwrap();
        let mut bytes = vec![0; 128];
        bytes.extend(b"DICM");
        meta.write(&mut bytes).unwrap();
        bytes.extend(data_set);
        bytes
    }

    #[test]
    fn every_encoding_gives_the_same_data_set_and_pixels() {
        let wanted = sample(true, false);
        for (syntax, explicit, big) in [
            (uids::EXPLICIT_VR_LITTLE_ENDIAN, true, false),
            (uids::IMPLICIT_VR_LITTLE_ENDIAN, false, false),
            (guard::EXPLICIT_BE, true, true),
        ] {
            let bytes = file_of(&sample(explicit, big), syntax);
            let instance = Instance::open(bytes.as_slice()).unwrap();
            let (data_set, pixels) = (instance.data_set().unwrap(), instance.pixel_group(two_rows(1)).unwrap());
            assert_eq!(pixels.transfer_syntax, uids::EXPLICIT_VR_LITTLE_ENDIAN);
            let whole = [&data_set[..], &pixels.bytes[..]].concat();
            assert_eq!(whole, wanted, "{syntax}");
        }
    }

    #[test]
    fn nothing_but_pixels_passes_as_pixels() {
        let plain = sample(true, false);
        let (before, pixels) = plain.split_at(plain.len() - 16);
        let stranger = element(Tag(0x7FE0, 0x0020), b"LO", b"Doe^John", true, false);
        let private = element(Tag(0x7FE1, 0x1001), b"LO", b"Doe^John", true, false);
        let longer = element(tags::PIXEL_DATA, b"OW", b"\x02\x01\x04\x03Doe^John", true, false);
        for parts in [
            vec![before, pixels, &stranger, &private],
            vec![before, pixels, &private, &stranger],
            vec![before, &longer],
        ] {
            let bytes = file_of(&parts.concat(), uids::EXPLICIT_VR_LITTLE_ENDIAN);
            let instance = Instance::open(bytes.as_slice()).unwrap();
            assert_eq!(&*instance.pixel_group(two_rows(1)).unwrap().bytes, pixels);
            assert_eq!(&*instance.data_set().unwrap(), before);
        }
        let short = file_of(&plain, uids::EXPLICIT_VR_LITTLE_ENDIAN);
        let instance = Instance::open(short.as_slice()).unwrap();
        assert_eq!(instance.pixel_group(two_rows(2)).err().unwrap().code, "pixel-length");
        let late = [before, pixels, &element(tags::PATIENT_NAME, b"PN", b"Doe^John", true, false)].concat();
        assert!(Instance::open(file_of(&late, uids::EXPLICIT_VR_LITTLE_ENDIAN)).is_err());
        let table = element(Tag(0x7FE0, 0x0001), b"OV", &[0; 0], true, false);
        let inside = [before, &table, &element(tags::PATIENT_NAME, b"PN", b"Doe^John", true, false), pixels].concat();
        assert!(Instance::open(file_of(&inside, uids::EXPLICIT_VR_LITTLE_ENDIAN)).is_err());
        let compressed = file_of(&plain, uids::JPEG_BASELINE8_BIT);
        let instance = Instance::open(compressed.as_slice()).unwrap();
        assert_eq!(instance.pixel_group(two_rows(1)).err().unwrap().code, "bad-structure");
    }

    #[test]
    fn elements_are_replaced_and_no_text_is_touched() {
        let source = file_of(&sample(true, false), uids::EXPLICIT_VR_LITTLE_ENDIAN);
        let instance = Instance::open(source.as_slice()).unwrap();
        let data_set = instance.data_set().unwrap();
        let rows = DataElement::new(tags::ROWS, VR::US, PrimitiveValue::from(7u16));
        let changed = with_elements(&data_set, vec![rows]).unwrap();
        let mut wanted = data_set.to_vec();
        let at = wanted.len() - 2;
        wanted[at] = 7;
        assert_eq!(changed, wanted);
    }

    #[test]
    fn a_file_is_made_new_around_the_data_set() {
        let source = file_of(&sample(true, false), uids::EXPLICIT_VR_LITTLE_ENDIAN);
        let instance = Instance::open(source.as_slice()).unwrap();
        let data_set = instance.data_set().unwrap();
        let outgoing = Outgoing::read(&data_set).unwrap();
        assert_eq!(outgoing.series(), (String::new(), "CT".to_owned()));
        let pixels = instance.pixel_group(two_rows(1)).unwrap();
        let bytes = [outgoing.head(&pixels.transfer_syntax).unwrap(), pixels.bytes.into_owned()].concat();
        assert!(bytes[..128].iter().all(|&b| b == 0) && bytes.ends_with(&[2, 1, 4, 3]));
        let again = Instance::open(bytes.as_slice()).unwrap();
        assert_eq!(again.data_set().unwrap(), data_set);
    }

    #[test]
    fn what_does_not_belong_into_a_data_set_is_refused() {
        let put = |object: &mut InMemDicomObject, tag, text: &str| {
            object.put(DataElement::new(tag, VR::UI, PrimitiveValue::from(text)));
        };
        let written = |object: &InMemDicomObject| {
            let mut bytes = Vec::new();
            object.write_dataset_with_ts(&mut bytes, &EXPLICIT_VR_LITTLE_ENDIAN.erased()).unwrap();
            bytes
        };
        let mut object = InMemDicomObject::new_empty();
        assert_eq!(Outgoing::read(&written(&object)).err().unwrap().code, "bad-header");
        put(&mut object, tags::SOP_CLASS_UID, "1.2.840.10008.5.1.4.1.1.2");
        put(&mut object, tags::SOP_INSTANCE_UID, "1.2.3");
        assert!(Outgoing::read(&written(&object)).is_ok());
        object.put(DataElement::new(Tag(0xFFFC, 0xFFFC), VR::OB, PrimitiveValue::from([0u8, 0])));
        assert!(Outgoing::read(&written(&object)).is_err());
        assert!(Outgoing::read(&[1, 2, 3]).is_err());
    }
}
