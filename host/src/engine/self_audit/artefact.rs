//! What is searched of a file: everything but pixels, each kind of file taken apart so that nothing hides in its packing.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use dicom_core::VR;
use flate2::read::{MultiGzDecoder, ZlibDecoder};

use super::search::{Numbers, Stream, whole_number};
use crate::series::elements::each_element;
use crate::series::guard::{self, Beginning, Outline, PixelSpan};
use crate::series::header;

/// A file was taken apart.
pub struct Artefact {
    /// What it is, in words.
    pub kind: &'static str,
    /// What is searched of it.
    pub streams: Vec<Stream>,
}

/// The beginning of a file, in which the header of most DICOM files lies.
const HEAD: usize = 16 * 1024;
/// Most bytes that a compressed file may unfold to.
const UNFOLDED: u64 = 1 << 30;
/// Text of one element that is looked at as text.
const TEXT: usize = 1 << 20;

/// Reads what is searched of a file.
///
/// # Errors
/// The system's; `InvalidData` where a file is not what it begins like, so that it cannot be searched.
pub fn read(path: &Path) -> std::io::Result<Artefact> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    let mut head = Vec::new();
    Read::by_ref(&mut file).take(HEAD as u64).read_to_end(&mut head)?;
    if head.get(128..132) == Some(b"DICM") || guard::looks_like_dicom(&head) {
        return dicom(&mut file, head, length);
    }
    if head.starts_with(&[0x1f, 0x8b]) {
        return gzip(&mut file);
    }
    if let Some(voxels) = nifti_header(&head) {
        head = first(&mut file, voxels)?;
        return Ok(Artefact { kind: "NIfTI", streams: vec![Stream { bytes: head, numbers: Numbers::Long }] });
    }
    file.read_to_end(&mut head)?;
    if head.starts_with(b"\x89PNG\r\n\x1a\n") {
        return png(&head);
    }
    Ok(text(head))
}

fn broken(why: &'static str) -> std::io::Error {
    std::io::Error::new(std::io::ErrorKind::InvalidData, why)
}

/// A text or anything else: whole, and strings and numbers of JSON as they are meant.
fn text(bytes: Vec<u8>) -> Artefact {
    match json(&bytes) {
        Some(strings) => {
            let strings = Stream { bytes: strings, numbers: Numbers::All };
            let figures = Stream { bytes: whole_numbers(&bytes), numbers: Numbers::Whole };
            Artefact { kind: "JSON", streams: vec![Stream { bytes, numbers: Numbers::No }, strings, figures] }
        }
        None => Artefact { kind: "other", streams: vec![Stream { bytes, numbers: Numbers::Long }] },
    }
}

/// Keys and strings of a JSON document (or of one a line), each ended by a zero; `None` where it is none.
pub fn json(bytes: &[u8]) -> Option<Vec<u8>> {
    fn collect(value: &serde_json::Value, out: &mut Vec<u8>) {
        match value {
            serde_json::Value::String(text) => {
                out.extend(text.as_bytes());
                out.push(0);
            }
            serde_json::Value::Array(list) => list.iter().for_each(|v| collect(v, out)),
            serde_json::Value::Object(map) => {
                for (key, value) in map {
                    out.extend(key.as_bytes());
                    out.push(0);
                    collect(value, out);
                }
            }
            _ => {}
        }
    }
    if !matches!(bytes.iter().find(|b| !b.is_ascii_whitespace()), Some(b'{' | b'[')) {
        return None;
    }
    let mut out = Vec::new();
    for value in serde_json::Deserializer::from_slice(bytes).into_iter::<serde_json::Value>() {
        collect(&value.ok()?, &mut out);
    }
    Some(out)
}

/// The numbers of a JSON document that may number somebody, each ended by a zero. They are read as they are written: a number of
/// many digits is none of the processor's.
fn whole_numbers(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = bytes;
    while let Some((&first, after)) = rest.split_first() {
        rest = match first {
            b'"' => past_string(after),
            b'-' | b'0'..=b'9' => {
                let part = |b: &u8| b.is_ascii_digit() || matches!(b, b'+' | b'-' | b'.' | b'e' | b'E');
                let end = rest.iter().position(|b| !part(b)).unwrap_or(rest.len());
                let (number, after) = rest.split_at(end);
                if let Some(digits) = whole_number(number) {
                    out.extend(digits);
                    out.push(0);
                }
                after
            }
            _ => after,
        };
    }
    out
}

/// What follows the string of JSON that has begun.
fn past_string(mut bytes: &[u8]) -> &[u8] {
    while let Some((&first, after)) = bytes.split_first() {
        bytes = match first {
            b'"' => return after,
            b'\\' => after.get(1..).unwrap_or_default(),
            _ => after,
        };
    }
    bytes
}

/// Preamble, file meta information, data set and what follows the pixels.
fn dicom(file: &mut File, head: Vec<u8>, length: u64) -> std::io::Result<Artefact> {
    let unreadable = || broken("a DICOM file that was written cannot be read again");
    // The header is mostly in the beginning; where the pixels end is then said by their own length.
    if let Some(Beginning { outline, samples, .. }) = guard::walk_beginning(head.as_slice(), length) {
        let mut streams = header_streams(&outline, &head);
        file.seek(SeekFrom::Start(samples.end))?;
        let mut rest = Vec::new();
        file.read_to_end(&mut rest)?;
        streams.push(Stream { bytes: rest, numbers: Numbers::Long });
        return Ok(Artefact { kind: "DICOM", streams });
    }
    let mut whole = head;
    file.seek(SeekFrom::Start(whole.len() as u64))?;
    file.read_to_end(&mut whole)?;
    let outline = guard::walk(whole.as_slice()).ok().flatten().ok_or_else(unreadable)?;
    let mut streams = header_streams(&outline, &whole);
    let after = match &outline.pixels {
        PixelSpan::Absent | PixelSpan::Float => outline.data.len(),
        PixelSpan::Native(span) => span.end,
        PixelSpan::Encapsulated { fragments, .. } => fragments.last().map_or(outline.header.end, |f| f.end),
    };
    let rest = outline.data.get(after..).unwrap_or(&[]).to_vec();
    streams.push(Stream { bytes: rest, numbers: Numbers::Long });
    Ok(Artefact { kind: "DICOM", streams })
}

fn header_streams(outline: &Outline, file: &[u8]) -> Vec<Stream> {
    let data_set = outline.data.get(outline.header.clone()).unwrap_or(&[]);
    let (mut texts, mut counts) = (Vec::new(), Vec::new());
    each_element(data_set, outline.encoding, &mut |e| {
        let into = match e.vr {
            VR::DS | VR::IS => &mut counts,
            VR::AE | VR::AS | VR::CS | VR::DA | VR::DT | VR::LO | VR::LT | VR::PN | VR::SH => &mut texts,
            VR::ST | VR::TM | VR::UC | VR::UI | VR::UR | VR::UT | VR::UN | VR::OB => &mut texts,
            _ => return,
        };
        if e.value.len() <= TEXT {
            into.extend_from_slice(e.value);
            into.push(0);
        }
    });
    let stream = |bytes: &[u8], numbers| Stream { bytes: bytes.to_vec(), numbers };
    let mut streams = vec![stream(&texts, Numbers::All), stream(&counts, Numbers::No), stream(data_set, Numbers::No)];
    // A text that the character set hides from a search of bytes is searched as it is meant.
    if let Ok(object) = header::parse(outline) {
        let mut meant = Vec::new();
        spoken(&object, &mut meant);
        streams.push(Stream { bytes: meant, numbers: Numbers::No });
    }
    if let std::borrow::Cow::Borrowed(_) = outline.data {
        streams.push(stream(file.get(..outline.header.start).unwrap_or(&[]), Numbers::Long));
    }
    streams
}

/// Texts beyond ASCII of a data set, in UTF-8.
fn spoken(object: &dicom_object::InMemDicomObject, out: &mut Vec<u8>) {
    for element in object {
        for item in element.items().unwrap_or_default() {
            spoken(item, out);
        }
        if let Ok(text) = element.to_str()
            && !text.is_ascii()
        {
            out.extend(text.as_bytes());
            out.push(0);
        }
    }
}

/// The bytes before the voxels of a NIfTI file: header and extensions.
fn nifti_header(head: &[u8]) -> Option<u64> {
    let field = |at: usize| head.get(at..at + 8).and_then(|b| <[u8; 8]>::try_from(b).ok());
    let four = |at: usize| head.get(at..at + 4).and_then(|b| <[u8; 4]>::try_from(b).ok());
    let little = four(0).map(u32::from_le_bytes);
    let big = four(0).map(u32::from_be_bytes);
    match head.get(344..347) {
        Some(b"n+1") if little == Some(348) => Some(four(108).map(f32::from_le_bytes)? as u64),
        Some(b"n+1") if big == Some(348) => Some(four(108).map(f32::from_be_bytes)? as u64),
        _ if head.get(4..7) == Some(b"n+2") && little == Some(540) => field(168).map(u64::from_le_bytes),
        _ if head.get(4..7) == Some(b"n+2") && big == Some(540) => field(168).map(u64::from_be_bytes),
        _ => None,
    }
}

fn first(file: &mut File, count: u64) -> std::io::Result<Vec<u8>> {
    file.seek(SeekFrom::Start(0))?;
    let mut bytes = Vec::new();
    file.take(count).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// A compressed file: what its own header says, and what it unfolds to.
fn gzip(file: &mut File) -> std::io::Result<Artefact> {
    file.seek(SeekFrom::Start(0))?;
    let mut decoder = MultiGzDecoder::new(std::io::BufReader::new(file));
    let mut head = Vec::new();
    Read::by_ref(&mut decoder).take(1024).read_to_end(&mut head)?;
    let mut said = Vec::new();
    if let Some(header) = decoder.header() {
        for part in [header.filename(), header.comment(), header.extra()].into_iter().flatten() {
            said.extend_from_slice(part);
            said.push(0);
        }
    }
    let header = nifti_header(&head);
    let (limit, is_nifti) = (header.unwrap_or(UNFOLDED), header.is_some());
    decoder.take(limit.saturating_sub(head.len() as u64) + u64::from(!is_nifti)).read_to_end(&mut head)?;
    if is_nifti {
        head.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    }
    if head.len() as u64 > UNFOLDED {
        return Err(broken("a compressed file unfolds to more than can be searched"));
    }
    let mut artefact = match is_nifti {
        true => Artefact { kind: "NIfTI", streams: vec![Stream { bytes: head, numbers: Numbers::Long }] },
        false => text(head),
    };
    artefact.streams.push(Stream { bytes: said, numbers: Numbers::Long });
    Ok(artefact)
}

/// Every chunk but the pixels; compressed texts unfolded.
fn png(bytes: &[u8]) -> std::io::Result<Artefact> {
    let cut = || broken("a PNG file that was written cannot be read again");
    let mut found = Vec::new();
    let mut at = 8;
    while at < bytes.len() {
        let word = |from: usize| bytes.get(from..from + 4).and_then(|b| <[u8; 4]>::try_from(b).ok()).ok_or_else(cut);
        let (length, name) = (u32::from_be_bytes(word(at)?) as usize, word(at + 4)?);
        let data = bytes.get(at + 8..at + 8 + length).ok_or_else(cut)?;
        if &name != b"IDAT" {
            found.extend_from_slice(data);
            found.push(0);
            // Keyword, zero, then for some kinds how the rest is packed.
            let packed = data.iter().position(|&b| b == 0).map(|zero| match &name {
                b"zTXt" | b"iCCP" => data.get(zero + 2..),
                b"iTXt" if data.get(zero + 1) == Some(&1) => {
                    let texts = data.get(zero + 3..).unwrap_or(&[]);
                    texts.splitn(3, |&b| b == 0).nth(2)
                }
                _ => None,
            });
            if let Some(Some(packed)) = packed {
                ZlibDecoder::new(packed).take(UNFOLDED).read_to_end(&mut found)?;
                found.push(0);
            }
        }
        at += 12 + length;
    }
    Ok(Artefact { kind: "PNG", streams: vec![Stream { bytes: found, numbers: Numbers::Long }] })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn taken_apart(bytes: &[u8]) -> Artefact {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, bytes).unwrap();
        read(&path).unwrap()
    }

    fn holds(artefact: &Artefact, text: &str) -> bool {
        artefact.streams.iter().any(|s| s.bytes.windows(text.len()).any(|w| w == text.as_bytes()))
    }

    fn nifti(voxels: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; 352];
        bytes[..4].copy_from_slice(&348u32.to_le_bytes());
        bytes[344..348].copy_from_slice(b"n+1\0");
        bytes[148..160].copy_from_slice(b"Canary in it");
        bytes[108..112].copy_from_slice(&384f32.to_le_bytes());
        bytes.extend(b"An extension of thirty-two bytes");
        bytes.extend(voxels);
        bytes
    }

    #[test]
    fn headers_and_extensions_of_volumes_are_read_and_voxels_are_not() {
        let plain = nifti(b"voxels like words");
        let mut gz = flate2::GzBuilder::new().filename("Secret.nii").write(Vec::new(), flate2::Compression::fast());
        gz.write_all(&plain).unwrap();
        let gz = gz.finish().unwrap();
        for bytes in [&plain, &gz] {
            let artefact = taken_apart(bytes);
            assert_eq!(artefact.kind, "NIfTI");
            assert!(holds(&artefact, "Canary in it") && holds(&artefact, "thirty-two bytes"));
            assert!(!holds(&artefact, "voxels like"));
        }
        assert!(holds(&taken_apart(&gz), "Secret.nii"));
    }

    #[test]
    fn texts_of_pictures_are_unfolded() {
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, 1, 1);
        encoder.set_color(png::ColorType::Grayscale);
        encoder.add_text_chunk("Comment".into(), "plain canary".into()).unwrap();
        encoder.add_ztxt_chunk("Packed".into(), "packed canary ".repeat(9)).unwrap();
        encoder.write_header().unwrap().write_image_data(&[7]).unwrap();
        let artefact = taken_apart(&bytes);
        assert_eq!(artefact.kind, "PNG");
        assert!(holds(&artefact, "plain canary") && holds(&artefact, "packed canary packed canary"));
    }

    #[test]
    fn strings_of_json_are_read_as_they_are_meant() {
        let artefact = taken_apart(br#"{"M\u00fcller": ["a\/b", 4711, {"x": "4712"}]}"#);
        assert_eq!(artefact.kind, "JSON");
        let strings = &artefact.streams[1];
        assert_eq!(strings.bytes, "M\u{fc}ller\0a/b\0x\x004712\0".as_bytes());
        assert_eq!((artefact.streams[0].numbers, strings.numbers), (Numbers::No, Numbers::All));
        assert_eq!(taken_apart(b"{not json").kind, "other");
    }

    #[test]
    fn numbers_of_json_are_read_as_they_are_meant() {
        let artefact = taken_apart(
            br#"{"x": 4711002, "\"y 4711003": -4711004.0, "z": ["4711005", 4.711006e6, 4711007.5, 12345, 0.4711008,
                 98765432109876543210987]}"#,
        );
        let figures = &artefact.streams[2];
        assert_eq!(figures.numbers, Numbers::Whole);
        assert_eq!(figures.bytes, b"4711002\x004711004\x004711006\098765432109876543210987\0");
    }
}
