//! [`Instance`]: one SOP instance of any class, on its way through without being decoded: its data set without pixels as
//! Explicit VR Little Endian, and its pixels as they will be written again.

use std::borrow::Cow;

use dicom_core::{Tag, VR};
use dicom_dictionary_std::{tags, uids};
use dicom_encoding::text::SpecificCharacterSet;
use dicom_object::mem::InMemElement;
use dicom_object::{FileMetaTableBuilder, InMemDicomObject};
use dicom_transfer_syntax_registry::entries::EXPLICIT_VR_LITTLE_ENDIAN;

use super::guard::{self, Outline, PixelSpan};
use super::record::{Fault, InstanceRecord};
use super::{header, input};

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
        let mut bytes = Vec::with_capacity(pixels.len() + 12);
        bytes.extend_from_slice(&[0xE0, 0x7F, 0x10, 0x00]);
        bytes.extend_from_slice(&vr.to_bytes());
        bytes.extend_from_slice(&[0, 0]);
        // The blanked pixel data were measured to fit an element.
        bytes.extend_from_slice(&(pixels.len() as u32).to_le_bytes());
        bytes.extend_from_slice(pixels);
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
        let end = match outline.pixel_group.is_empty() {
            true => outline.header.end,
            false => outline.header.end.min(outline.pixel_group.start),
        };
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
    /// byte; all others become Explicit VR Little Endian, their samples unchanged.
    ///
    /// # Errors
    /// `big-endian-pixels`: an element whose words cannot be told.
    pub fn pixel_group(&self) -> Result<PixelGroup<'_>, Fault> {
        let outline = &self.outline;
        let group = without_length(outline.data.get(outline.pixel_group.clone()).unwrap_or(&[]));
        let compressed = matches!(outline.pixels, PixelSpan::Encapsulated { .. });
        // Only the compressed ones keep their syntax; a deflated data set has been inflated by the walk.
        let syntax = if compressed { outline.transfer_syntax.as_str() } else { uids::EXPLICIT_VR_LITTLE_ENDIAN };
        let bytes = match (outline.encoding.explicit, outline.encoding.big_endian) {
            _ if group.is_empty() => Cow::Borrowed(group),
            (true, false) => Cow::Borrowed(group),
            (explicit, big_endian) => {
                // Samples of 32 bits lie in one piece, though OW is a string of 16-bit words.
                let bits = if big_endian { header::integer(&self.header()?, tags::BITS_ALLOCATED) } else { None };
                let words = if bits == Some(32) { 4 } else { 2 };
                Cow::Owned(little_endian_elements(group, explicit, big_endian, words)?)
            }
        };
        Ok(PixelGroup { transfer_syntax: syntax.to_owned(), bytes })
    }
}

/// The elements of a group without its retired length (gggg,0000), which has 12 bytes in every encoding.
fn without_length(group: &[u8]) -> &[u8] {
    match group {
        [_, _, 0, 0, ..] => group.get(12..).unwrap_or(&[]),
        _ => group,
    }
}

/// Rewrites native elements of group 7FE0 as Explicit VR Little Endian.
fn little_endian_elements(mut group: &[u8], explicit: bool, big_endian: bool, words: usize) -> Result<Vec<u8>, Fault> {
    let lost = || Fault::new("bad-structure", "the elements of the pixel data do not fit each other");
    let u16 = |b: [u8; 2]| if big_endian { u16::from_be_bytes(b) } else { u16::from_le_bytes(b) };
    let u32 = |b: [u8; 4]| if big_endian { u32::from_be_bytes(b) } else { u32::from_le_bytes(b) };
    let mut out = Vec::with_capacity(group.len() + 16);
    while let Some((head, rest)) = group.split_first_chunk::<8>() {
        let [g0, g1, e0, e1, a, b, c, d] = *head;
        let tag = Tag(u16([g0, g1]), u16([e0, e1]));
        let (vr, len, rest) = match explicit {
            false => (implied_vr(tag), u32([a, b, c, d]), rest),
            true => {
                let vr = VR::from_binary([a, b]).ok_or_else(lost)?;
                let (len, rest) = rest.split_first_chunk::<4>().ok_or_else(lost)?;
                (vr, u32(*len), rest)
            }
        };
        let (value, rest) = rest.split_at_checked(len as usize).ok_or_else(lost)?;
        out.extend_from_slice(&tag.group().to_le_bytes());
        out.extend_from_slice(&tag.element().to_le_bytes());
        out.extend_from_slice(&vr.to_bytes());
        out.extend_from_slice(&[0, 0]);
        out.extend_from_slice(&len.to_le_bytes());
        let from = out.len();
        out.extend_from_slice(value);
        let word = match vr {
            VR::OB | VR::UN => 1,
            VR::OW => words,
            VR::OF | VR::OL => 4,
            VR::OD | VR::OV => 8,
            _ => return Err(Fault::new("big-endian-pixels", format!("element {tag} has no VR of pixel data"))),
        };
        if big_endian {
            let swapped = out.get_mut(from..).unwrap_or_default();
            swapped.chunks_exact_mut(word).for_each(<[u8]>::reverse);
        }
        group = rest;
    }
    if group.is_empty() { Ok(out) } else { Err(lost()) }
}

/// The VR of an element of group 7FE0 in implicit VR (PS3.5 A.1).
fn implied_vr(tag: Tag) -> VR {
    match tag.element() {
        0x0001 | 0x0002 => VR::OV,
        0x0008 => VR::OF,
        0x0009 => VR::OD,
        _ => VR::OW,
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

    /// The whole file: preamble of zeros, new file meta information, data set, pixels.
    ///
    /// # Errors
    /// `bad-header`: UIDs that no file meta information can hold.
    pub fn file(&self, pixels: &PixelGroup) -> Result<Vec<u8>, Fault> {
        let meta = FileMetaTableBuilder::new()
            .transfer_syntax(&pixels.transfer_syntax)
            .media_storage_sop_class_uid(&self.sop_class)
            .media_storage_sop_instance_uid(&self.sop_instance)
            .build()
            .map_err(|_| unfit("allows no file meta information"))?;
        let mut bytes = Vec::with_capacity(1024 + self.data_set.len() + pixels.bytes.len());
        bytes.resize(128, 0);
        bytes.extend_from_slice(b"DICM");
        meta.write(&mut bytes).map_err(|_| unfit("allows no file meta information"))?;
        bytes.extend_from_slice(self.data_set);
        bytes.extend_from_slice(&pixels.bytes);
        Ok(bytes)
    }
}

fn unfit(what: &str) -> Fault {
    Fault::new("bad-header", format!("the data set to write {what}"))
}

/// Reads the file of an instance that was scanned and makes sure that it still is that file: by what the system says of
/// it, else by its hash.
///
/// # Errors
/// `unreadable`, `changed`.
pub fn read(record: &InstanceRecord) -> Result<Vec<u8>, Fault> {
    let at = |f: Fault| f.at(format_args!("#{}", record.input));
    let (file, size) = input::open(&record.path).map_err(at)?;
    let before = input::stamp(&file);
    let bytes = input::read_rest(&file, size, Vec::new()).map_err(at)?;
    let same = before.is_some() && before == record.stamp && before == input::stamp(&file);
    if !same && input::sha256(&bytes) != record.sha256 {
        return Err(Fault::new("changed", format!("#{} changed since it was scanned", record.input)));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use dicom_core::{DataElement, PrimitiveValue};

    const JAPANESE: &[u8] = b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B";

    fn element(tag: Tag, vr: &[u8], value: &[u8], explicit: bool, big: bool) -> Vec<u8> {
        let u16 = |n: u16| if big { n.to_be_bytes() } else { n.to_le_bytes() };
        let u32 = |n: u32| if big { n.to_be_bytes() } else { n.to_le_bytes() };
        let mut out = [u16(tag.group()), u16(tag.element())].concat();
        match (explicit, vr) {
            (false, _) => out.extend(u32(value.len() as u32)),
            (true, b"OW" | b"UN") => {
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

    fn sample(explicit: bool, big: bool) -> Vec<u8> {
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

    fn file_of(data_set: &[u8], syntax: &str) -> Vec<u8> {
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
            let (data_set, pixels) = (instance.data_set().unwrap(), instance.pixel_group().unwrap());
            assert_eq!(pixels.transfer_syntax, uids::EXPLICIT_VR_LITTLE_ENDIAN);
            let whole = [&data_set[..], &pixels.bytes[..]].concat();
            assert_eq!(whole, wanted, "{syntax}");
        }
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
        let bytes = outgoing.file(&instance.pixel_group().unwrap()).unwrap();
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
