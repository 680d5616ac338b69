//! A walk over the bytes of a DICOM file that proves them harmless before a parser sees them.
//!
//! It recognises DICOM by content, follows every element without recursion, and refuses by name what would make a
//! parser overflow its stack, allocate what the file does not hold, or read half a file as a whole one. It also says
//! where things lie: the header that a parser may read, and the pixel data, which no parser needs to touch.

mod start;

use std::borrow::Cow;
use std::ops::Range;

use dicom_core::dictionary::{DataDictionary, DataDictionaryEntry};
use dicom_core::{Tag, VR};
use dicom_dictionary_std::{StandardDataDictionary, tags, uids};

use self::start::{guess_encoding, plain_encoding, recognise};
use super::inflate;
use super::record::Fault;

pub use self::start::looks_like_dicom;

/// Deepest nesting of sequences.
pub const MAX_DEPTH: usize = 64;
/// Most elements, items and fragments in one file.
pub const MAX_ELEMENTS: usize = 1_000_000;
const UNDEFINED: u32 = u32::MAX;
const ITEM: Tag = Tag(0xFFFE, 0xE000);
const ITEM_END: Tag = Tag(0xFFFE, 0xE00D);
const SEQUENCE_END: Tag = Tag(0xFFFE, 0xE0DD);
/// Explicit VR Big Endian (retired).
pub(crate) const EXPLICIT_BE: &str = "1.2.840.10008.1.2.2";

/// How the elements of a dataset are encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Encoding {
    /// Elements carry their value representation.
    pub explicit: bool,
    /// Numbers have their most significant byte first.
    pub big_endian: bool,
}

impl Encoding {
    const EXPLICIT_LE: Self = Self { explicit: true, big_endian: false };
    const IMPLICIT_LE: Self = Self { explicit: false, big_endian: false };

    /// The encoding that a transfer syntax prescribes for the dataset.
    fn of(transfer_syntax: &str) -> Self {
        match transfer_syntax {
            uids::IMPLICIT_VR_LITTLE_ENDIAN => Self::IMPLICIT_LE,
            EXPLICIT_BE => Self { explicit: true, big_endian: true },
            _ => Self::EXPLICIT_LE,
        }
    }

    pub(super) fn u16(self, b: [u8; 2]) -> u16 {
        if self.big_endian { u16::from_be_bytes(b) } else { u16::from_le_bytes(b) }
    }

    pub(super) fn u32(self, b: [u8; 4]) -> u32 {
        if self.big_endian { u32::from_be_bytes(b) } else { u32::from_le_bytes(b) }
    }
}

/// Where the pixel data lie in [`Outline::data`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PixelSpan {
    /// There are none.
    Absent,
    /// Uncompressed samples.
    Native(Range<usize>),
    /// Compressed fragments, without the offset table.
    Encapsulated {
        /// Basic offset table: byte offsets of the frames from the first fragment's item tag. Empty if there is none.
        offsets: Vec<u32>,
        /// The fragments.
        fragments: Vec<Range<usize>>,
    },
    /// Float or Double Float Pixel Data.
    Float,
}

/// A file that was found harmless, and where its parts lie.
#[derive(Debug, Clone)]
pub struct Outline<'a> {
    /// Transfer Syntax UID; the plain one that fits the bytes where the file has no meta group.
    pub transfer_syntax: String,
    /// How the dataset is encoded.
    pub encoding: Encoding,
    /// What the ranges point into: the file, or its inflated dataset.
    pub data: Cow<'a, [u8]>,
    /// The dataset up to the pixel data.
    pub header: Range<usize>,
    /// Elements in `header` of VR UN and undefined length (implicit VR inside, PS3.5 6.2.2 note 2), tag included.
    pub un_sequences: Vec<Range<usize>>,
    /// The pixel data.
    pub pixels: PixelSpan,
    /// The elements of group 7FE0, each whole: the pixel data, and whatever else a file has there.
    pub pixel_elements: Vec<(Tag, Range<usize>)>,
    /// Specific Character Set of the whole dataset, header and value; empty where there is none.
    pub character_set: Range<usize>,
    /// An element says that its VR is unknown (UN), at any level.
    pub has_unknown_vr: bool,
    /// The file has the 128-byte preamble and the `DICM` mark.
    pub marked: bool,
    /// Media Storage SOP Class UID, where the file has a meta group.
    pub media_sop_class: String,
}

impl Outline<'_> {
    /// The same, with its bytes borrowed.
    pub fn borrowed(&self) -> Outline<'_> {
        Outline {
            transfer_syntax: self.transfer_syntax.clone(),
            data: Cow::Borrowed(&self.data),
            header: self.header.clone(),
            un_sequences: self.un_sequences.clone(),
            pixels: self.pixels.clone(),
            pixel_elements: self.pixel_elements.clone(),
            character_set: self.character_set.clone(),
            media_sop_class: self.media_sop_class.clone(),
            ..*self
        }
    }
}

/// Walks a whole file. `None`: these bytes are not DICOM.
///
/// # Errors
/// `truncated`, `value-length`, `nesting-depth`, `bad-vr`, `bad-structure`, `duplicate-element`, `too-many-elements`,
/// `inflate-limit`, `inflate`, `un-sequence`, each saying at which byte and element.
pub fn walk<'a>(bytes: impl Into<Cow<'a, [u8]>>) -> Result<Option<Outline<'a>>, Fault> {
    outline(bytes.into(), false)
}

/// Walks a file only up to its pixel data, to tell what a file is whose pixel data are damaged. The outline then has
/// no pixel data.
///
/// # Errors
/// As [`walk`].
pub fn walk_header<'a>(bytes: impl Into<Cow<'a, [u8]>>) -> Result<Option<Outline<'a>>, Fault> {
    outline(bytes.into(), true)
}

/// The beginning of a file whose uncompressed pixel data were not looked at.
#[derive(Debug, Clone)]
pub struct Beginning<'a> {
    /// Everything before the pixel data; it has none itself.
    pub outline: Outline<'a>,
    /// The VR of the pixel data, where the file says one.
    pub vr: Option<VR>,
    /// Where the samples lie in the file.
    pub samples: Range<u64>,
}

/// Walks the first bytes of a file of `size` bytes. `None` where they do not hold all that stands before uncompressed,
/// little endian pixel data, or where these do not fit into the file: then only [`walk`] of the whole file can tell.
pub fn walk_beginning<'a>(head: impl Into<Cow<'a, [u8]>>, size: u64) -> Option<Beginning<'a>> {
    let outline = walk_header(head).ok()??;
    let plain = [uids::EXPLICIT_VR_LITTLE_ENDIAN, uids::IMPLICIT_VR_LITTLE_ENDIAN];
    if !outline.marked || !plain.contains(&outline.transfer_syntax.as_str()) || !outline.pixel_elements.is_empty() {
        return None;
    }
    let at = outline.header.end;
    let explicit = outline.encoding.explicit;
    let element = Walk::new(&outline.data, outline.encoding, at).element_header(at, explicit).ok()?;
    let from = (at + element.size) as u64;
    let samples = from..from + u64::from(element.len);
    let here = element.tag == tags::PIXEL_DATA && element.len != UNDEFINED && samples.end <= size;
    here.then_some(Beginning { vr: explicit.then_some(element.vr), samples, outline })
}

/// Media Storage SOP Class UID of a file that may be damaged further on; empty where there is none.
pub fn media_sop_class(bytes: &[u8]) -> String {
    recognise(bytes).ok().flatten().map(|start| start.media_sop_class).unwrap_or_default()
}

fn outline(bytes: Cow<'_, [u8]>, stop_at_pixels: bool) -> Result<Option<Outline<'_>>, Fault> {
    let Some(start) = recognise(&bytes)? else { return Ok(None) };
    let rest = bytes.get(start.dataset..).unwrap_or(&[]);
    let (transfer_syntax, encoding) = match start.transfer_syntax {
        Some(uid) if !uid.is_empty() => {
            let encoding = Encoding::of(&uid);
            (uid, encoding)
        }
        _ => guess_encoding(rest).unwrap_or_else(|| plain_encoding(rest)),
    };
    let deflated = transfer_syntax == uids::DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN;
    let (data, from) = if deflated { (Cow::Owned(inflate::dataset(rest)?), 0) } else { (bytes, start.dataset) };
    let walked = Walk::new(&data, encoding, from).run(stop_at_pixels)?;
    Ok(Some(Outline {
        transfer_syntax,
        encoding,
        header: from..walked.header_end,
        un_sequences: walked.un_sequences,
        pixels: walked.pixels,
        pixel_elements: walked.pixel_elements,
        character_set: walked.character_set,
        has_unknown_vr: walked.has_unknown_vr,
        data,
        marked: start.marked,
        media_sop_class: start.media_sop_class,
    }))
}

/// Walks a bare dataset of explicit VR little endian elements, as it travels along edges.
///
/// # Errors
/// As [`walk`].
pub fn walk_data_set(bytes: &[u8]) -> Result<Outline<'_>, Fault> {
    let encoding = Encoding::EXPLICIT_LE;
    let walked = Walk::new(bytes, encoding, 0).run(false)?;
    Ok(Outline {
        transfer_syntax: uids::EXPLICIT_VR_LITTLE_ENDIAN.to_owned(),
        encoding,
        header: 0..walked.header_end,
        un_sequences: walked.un_sequences,
        pixels: walked.pixels,
        pixel_elements: walked.pixel_elements,
        character_set: walked.character_set,
        has_unknown_vr: walked.has_unknown_vr,
        data: Cow::Borrowed(bytes),
        marked: false,
        media_sop_class: String::new(),
    })
}

/// Walks a bare dataset of implicit VR little endian elements, such as the contents of an UN element.
pub(crate) fn walk_implicit(bytes: &[u8]) -> Result<(), Fault> {
    Walk::new(bytes, Encoding::IMPLICIT_LE, 0).run(false).map(|_| ())
}

#[derive(Debug, Clone, Copy)]
struct ElementHeader {
    tag: Tag,
    vr: VR,
    len: u32,
    /// Bytes of the header itself.
    size: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Level {
    Sequence,
    Item,
}

#[derive(Debug, Clone, Copy)]
struct Open {
    level: Level,
    /// `None`: closed by a delimiter.
    end: Option<usize>,
    /// No element within may reach beyond this byte.
    limit: usize,
    implicit: bool,
    /// Where the element begins, for an UN element of undefined length at the root.
    un_from: Option<usize>,
}

struct Walked {
    header_end: usize,
    un_sequences: Vec<Range<usize>>,
    pixels: PixelSpan,
    pixel_elements: Vec<(Tag, Range<usize>)>,
    character_set: Range<usize>,
    has_unknown_vr: bool,
}

struct Walk<'a> {
    data: &'a [u8],
    encoding: Encoding,
    from: usize,
    elements: usize,
}

impl<'a> Walk<'a> {
    fn new(data: &'a [u8], encoding: Encoding, from: usize) -> Self {
        Self { data, encoding, from, elements: 0 }
    }

    fn run(mut self, stop_at_pixels: bool) -> Result<Walked, Fault> {
        let end = self.data.len();
        let mut out = Walked {
            header_end: end,
            un_sequences: Vec::new(),
            pixels: PixelSpan::Absent,
            pixel_elements: Vec::new(),
            character_set: 0..0,
            has_unknown_vr: false,
        };
        let mut open: Vec<Open> = Vec::new();
        let mut root_tags: Vec<Tag> = Vec::new();
        let mut at = self.from;
        loop {
            let top = open.last().copied();
            if let Some(Open { end: Some(closed), un_from, .. }) = top
                && at >= closed
            {
                if let Some(from) = un_from {
                    out.un_sequences.push(from..at);
                }
                open.pop();
                continue;
            }
            let limit = top.map_or(end, |o| o.limit);
            let Some(top) = top else {
                if at == end || self.data[at..].iter().all(|&b| b == 0) {
                    break;
                }
                let header = self.element_header(at, self.encoding.explicit)?;
                let from = at;
                self.count()?;
                out.has_unknown_vr |= header.vr == VR::UN;
                root_tags.push(header.tag);
                let past_pixels = out.pixels != PixelSpan::Absent;
                if !out.pixel_elements.is_empty() && header.tag.group() < 0x7FE0 {
                    return Err(bad(at, header.tag, "stands after elements of the pixel data's group"));
                }
                if past_pixels && header.tag < tags::PIXEL_DATA {
                    return Err(bad(at, header.tag, "stands after the pixel data"));
                }
                match header.tag {
                    tags::PIXEL_DATA | tags::FLOAT_PIXEL_DATA | tags::DOUBLE_FLOAT_PIXEL_DATA if stop_at_pixels => {
                        out.header_end = at;
                        break;
                    }
                    tags::PIXEL_DATA if !past_pixels => {
                        out.header_end = at;
                        (out.pixels, at) = self.pixel_data(at, header)?;
                    }
                    tags::FLOAT_PIXEL_DATA | tags::DOUBLE_FLOAT_PIXEL_DATA if !past_pixels => {
                        out.header_end = at;
                        out.pixels = PixelSpan::Float;
                        at = self.value(at, header, end)?.end;
                    }
                    _ => at = self.enter(at, header, end, &mut open, past_pixels)?,
                }
                if header.tag.group() == 0x7FE0 {
                    out.pixel_elements.push((header.tag, from..at));
                } else if header.tag == tags::SPECIFIC_CHARACTER_SET {
                    out.character_set = from..at;
                }
                continue;
            };
            self.count()?;
            let (tag, len) = self.item_header(at, limit)?;
            match (top.level, tag) {
                (Level::Sequence, ITEM) => {
                    let inside = at + 8;
                    let closed = self.reach(at, tag, inside, len, limit)?;
                    let item =
                        Open { level: Level::Item, end: closed, limit: closed.unwrap_or(limit), un_from: None, ..top };
                    open.push(item);
                    at = inside;
                }
                (Level::Sequence, SEQUENCE_END) if top.end.is_none() => {
                    at += 8;
                    if let Some(from) = top.un_from {
                        out.un_sequences.push(from..at);
                    }
                    open.pop();
                }
                (Level::Item, ITEM_END) if top.end.is_none() => {
                    at += 8;
                    open.pop();
                }
                (Level::Item, tag) if tag.group() != 0xFFFE => {
                    let header = self.element_header(at, !top.implicit && self.encoding.explicit)?;
                    out.has_unknown_vr |= header.vr == VR::UN;
                    at = self.enter(at, header, limit, &mut open, false)?;
                }
                (level, tag) => {
                    let place = if level == Level::Sequence { "where an item belongs" } else { "inside an item" };
                    return Err(bad(at, tag, place));
                }
            }
        }
        root_tags.sort_unstable();
        if let Some(pair) = root_tags.windows(2).find(|w| w[0] == w[1]) {
            return Err(Fault::new("duplicate-element", format!("element {} stands twice in the file", pair[0])));
        }
        Ok(out)
    }

    fn count(&mut self) -> Result<(), Fault> {
        self.elements += 1;
        if self.elements > MAX_ELEMENTS {
            return Err(Fault::new("too-many-elements", format!("the file has more than {MAX_ELEMENTS} elements")));
        }
        Ok(())
    }

    /// Passes over a plain element, or opens a sequence; gives where to go on.
    fn enter(
        &mut self,
        at: usize,
        header: ElementHeader,
        limit: usize,
        open: &mut Vec<Open>,
        past_pixels: bool,
    ) -> Result<usize, Fault> {
        let inside = at + header.size;
        let undefined = header.len == UNDEFINED;
        if header.tag.group() == 0xFFFE {
            return Err(bad(at, header.tag, "outside a sequence"));
        }
        if header.tag == tags::PIXEL_DATA && undefined {
            return Ok(self.pixel_data(at, header)?.1);
        }
        if header.vr != VR::SQ && !undefined {
            return Ok(self.value(at, header, limit)?.end);
        }
        if open.len() / 2 >= MAX_DEPTH {
            return Err(Fault::new(
                "nesting-depth",
                format!("sequences nested deeper than {MAX_DEPTH} levels, at byte {at}"),
            ));
        }
        let in_implicit = open.last().is_some_and(|o| o.implicit);
        let un = undefined && header.vr == VR::UN && self.encoding.explicit && !in_implicit;
        if un && !open.is_empty() {
            return Err(Fault::new(
                "un-sequence",
                format!(
                    "element {} at byte {at}: a sequence of unknown VR inside another is not supported",
                    header.tag
                ),
            ));
        }
        if undefined && !un && !matches!(header.vr, VR::SQ) && !in_implicit && self.encoding.explicit {
            return Err(bad(at, header.tag, "has an undefined length but is no sequence"));
        }
        let closed = self.reach(at, header.tag, inside, header.len, limit)?;
        open.push(Open {
            level: Level::Sequence,
            end: closed,
            limit: closed.unwrap_or(limit),
            implicit: in_implicit || un,
            un_from: (un && !past_pixels).then_some(at),
        });
        Ok(inside)
    }

    fn pixel_data(&mut self, at: usize, header: ElementHeader) -> Result<(PixelSpan, usize), Fault> {
        let end = self.data.len();
        if header.len != UNDEFINED {
            let inside = at + header.size;
            let closed = self.reach(at, header.tag, inside, header.len, end)?.unwrap_or(inside);
            return Ok((PixelSpan::Native(inside..closed), closed));
        }
        if !self.encoding.explicit {
            return Err(bad(at, header.tag, "is compressed, which implicit VR does not allow"));
        }
        let mut at = at + header.size;
        let mut offsets = None;
        let mut fragments = Vec::new();
        loop {
            self.count()?;
            let (tag, len) = self.item_header(at, end)?;
            let inside = at + 8;
            match tag {
                SEQUENCE_END => {
                    let offsets = offsets.unwrap_or_default();
                    return Ok((PixelSpan::Encapsulated { offsets, fragments }, inside));
                }
                ITEM => {
                    let Some(closed) = self.reach(at, tag, inside, len, end)? else {
                        return Err(bad(at, tag, "has an undefined length inside the pixel data"));
                    };
                    if offsets.is_none() {
                        let table = self.data[inside..closed].chunks_exact(4);
                        offsets = Some(table.map(|b| self.encoding.u32([b[0], b[1], b[2], b[3]])).collect());
                    } else {
                        fragments.push(inside..closed);
                    }
                    at = closed;
                }
                _ => return Err(bad(at, tag, "inside the pixel data")),
            }
        }
    }

    /// Where `len` bytes from `inside` end; `None` for an undefined length.
    fn reach(&self, at: usize, tag: Tag, inside: usize, len: u32, limit: usize) -> Result<Option<usize>, Fault> {
        if len == UNDEFINED {
            return Ok(None);
        }
        let left = limit.saturating_sub(inside);
        if len as usize <= left && inside <= limit {
            return Ok(Some(inside + len as usize));
        }
        let file = limit == self.data.len();
        let (code, whose) = if file { ("truncated", "the file") } else { ("value-length", "the item around it") };
        Err(Fault::new(code, format!("element {tag} at byte {at} claims {len} bytes, {left} are left in {whose}")))
    }

    /// The value of an element of defined length. A value of fixed-size numbers must hold whole ones: a parser that
    /// rounds down would go on at the wrong byte.
    fn value(&self, at: usize, header: ElementHeader, limit: usize) -> Result<Range<usize>, Fault> {
        let inside = at + header.size;
        let Some(closed) = self.reach(at, header.tag, inside, header.len, limit)? else {
            return Err(bad(at, header.tag, "has an undefined length but is no sequence"));
        };
        let unit = match header.vr {
            VR::US | VR::SS | VR::OW => 2,
            VR::UL | VR::SL | VR::FL | VR::AT | VR::OL | VR::OF => 4,
            VR::FD | VR::OD | VR::SV | VR::UV | VR::OV => 8,
            _ => 1,
        };
        if !header.len.is_multiple_of(unit) {
            return Err(Fault::new(
                "value-length",
                format!(
                    "element {} at byte {at} has {} bytes, expected a multiple of {unit} for VR {}",
                    header.tag,
                    header.len,
                    header.vr.to_string()
                ),
            ));
        }
        Ok(inside..closed)
    }

    fn bytes<const N: usize>(&self, at: usize) -> Result<[u8; N], Fault> {
        self.data.get(at..at.saturating_add(N)).and_then(|b| b.try_into().ok()).ok_or_else(|| {
            Fault::new("truncated", format!("the file ends at byte {}, within an element header", self.data.len()))
        })
    }

    fn tag(&self, at: usize) -> Result<Tag, Fault> {
        let b: [u8; 4] = self.bytes(at)?;
        Ok(Tag(self.encoding.u16([b[0], b[1]]), self.encoding.u16([b[2], b[3]])))
    }

    /// Tag and length of an item or delimiter (or the first 8 bytes of an element).
    fn item_header(&self, at: usize, limit: usize) -> Result<(Tag, u32), Fault> {
        if at.saturating_add(8) > limit && limit < self.data.len() {
            return Err(Fault::new("value-length", format!("an item ends within an element header, at byte {at}")));
        }
        let tag = self.tag(at)?;
        Ok((tag, self.encoding.u32(self.bytes(at + 4)?)))
    }

    fn element_header(&self, at: usize, explicit: bool) -> Result<ElementHeader, Fault> {
        let tag = self.tag(at)?;
        let raw: [u8; 4] = self.bytes(at + 4)?;
        if !explicit || tag.group() == 0xFFFE {
            return Ok(ElementHeader { tag, vr: implicit_vr(tag), len: self.encoding.u32(raw), size: 8 });
        }
        let Some(vr) = VR::from_binary([raw[0], raw[1]]) else {
            return Err(Fault::new(
                "bad-vr",
                // What stands there may be a piece of a value.
                format!("element {tag} at byte {at} has no known value representation"),
            ));
        };
        if is_short(vr) {
            let len = u32::from(self.encoding.u16([raw[2], raw[3]]));
            return Ok(ElementHeader { tag, vr, len, size: 8 });
        }
        Ok(ElementHeader { tag, vr, len: self.encoding.u32(self.bytes(at + 8)?), size: 12 })
    }
}

/// The VR that dicom-rs assumes for an element without one.
fn implicit_vr(tag: Tag) -> VR {
    if tag == tags::PIXEL_DATA || (tag.group() >> 8 == 0x60 && tag.element() == 0x3000) {
        return VR::OW;
    }
    StandardDataDictionary.by_tag(tag).map_or(VR::UN, |entry| entry.vr().relaxed())
}

/// VRs whose length field has 16 bits (PS3.5 7.1.2).
fn is_short(vr: VR) -> bool {
    use VR::*;
    matches!(vr, AE | AS | AT | CS | DA | DS | DT | FL | FD | IS | LO | LT | PN | SH | SL | SS | ST | TM | UI | UL | US)
}

fn bad(at: usize, tag: Tag, what: &str) -> Fault {
    Fault::new("bad-structure", format!("element {tag} at byte {at} {what}"))
}
