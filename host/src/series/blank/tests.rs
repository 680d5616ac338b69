//! Blanking, byte by byte, in every layout and in real files.

use std::path::PathBuf;

use dicom_core::header::Header;
use dicom_core::value::C;
use dicom_dictionary_std::uids;
use proptest::prelude::*;
use sha2::{Digest, Sha256};

use super::*;
use crate::series::{guard, header, pixel};

fn describe(photometric: Photometric, bits_allocated: u32) -> BlankDescription {
    BlankDescription {
        rows: 7,
        columns: 10,
        frames: 3,
        photometric,
        planar: false,
        bits_allocated,
        bits_stored: bits_allocated,
        high_bit: bits_allocated - 1,
        signed: false,
        falling: false,
        darkest_index: 0,
        lossy: None,
    }
}

fn noise(length: usize, seed: u32) -> Vec<u8> {
    let mut state = seed | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        (state >> 11) as u8
    };
    std::iter::repeat_with(next).take(length).collect()
}

fn native(bytes: &[u8]) -> Pixels<'_> {
    Pixels::Native(Cow::Borrowed(bytes))
}

const RECTANGLES: [Rectangle; 3] = [
    Rectangle { x: 1, y: 2, width: 4, height: 3 },
    Rectangle { x: 8, y: 0, width: 100, height: 1 },
    Rectangle { x: 30, y: 2, width: 4, height: 3 },
];

fn inside(x: usize, y: usize) -> bool {
    ((1..5).contains(&x) && (2..5).contains(&y)) || ((8..10).contains(&x) && y == 0)
}

/// Where sample `channel` of a pixel lies, in bytes: written down apart from the code under test.
fn place(d: &BlankDescription, frame: usize, y: usize, x: usize, channel: usize) -> usize {
    let size = (d.bits_allocated / 8) as usize;
    let (rows, columns) = (d.rows, d.columns);
    let sample = match (d.photometric, d.planar) {
        (Photometric::YbrFull422, _) => {
            let pair = ((frame * rows + y) * columns + x) / 2 * 4;
            [pair + x % 2, pair + 2, pair + 3][channel]
        }
        (Photometric::Rgb | Photometric::YbrFull, false) => ((frame * rows + y) * columns + x) * 3 + channel,
        (Photometric::Rgb | Photometric::YbrFull, true) => ((frame * 3 + channel) * rows + y) * columns + x,
        _ => (frame * rows + y) * columns + x,
    };
    sample * size
}

/// Blanks noise and compares every byte with what `black` (bytes of each sample) makes of it.
fn exactly(d: &BlankDescription, black: &[&[u8]]) {
    let before = noise(d.size().unwrap(), 7);
    let mut expected = before.clone();
    for frame in 0..d.frames {
        for y in 0..d.rows {
            for x in (0..d.columns).filter(|&x| inside(x, y)) {
                for (channel, value) in black.iter().enumerate() {
                    let at = place(d, frame, y, x, channel);
                    expected[at..at + value.len()].copy_from_slice(value);
                }
            }
        }
    }
    assert_ne!(before, expected);
    let blanked = blank(d, native(&before), &RECTANGLES).unwrap();
    assert!(blanked.bytes == expected, "{d:?}");
    assert!(blanked.changed.is_empty());
}

#[test]
fn unsigned_grey_becomes_the_end_of_its_range() {
    exactly(&describe(Photometric::Monochrome2, 8), &[&[0]]);
    exactly(&describe(Photometric::Monochrome1, 8), &[&[255]]);
    exactly(&describe(Photometric::Monochrome2, 16), &[&[0, 0]]);
    exactly(&describe(Photometric::Monochrome1, 16), &[&[255, 255]]);
    exactly(&describe(Photometric::Monochrome2, 32), &[&[0; 4]]);
    exactly(&describe(Photometric::Monochrome1, 32), &[&[255; 4]]);
    let twelve = BlankDescription { bits_stored: 12, high_bit: 11, ..describe(Photometric::Monochrome1, 16) };
    exactly(&twelve, &[&[0xff, 0x0f]]);
    let shifted = BlankDescription { bits_stored: 12, high_bit: 15, ..describe(Photometric::Monochrome1, 16) };
    exactly(&shifted, &[&[0xf0, 0xff]]);
    let falling = BlankDescription { falling: true, ..describe(Photometric::Monochrome2, 8) };
    exactly(&falling, &[&[255]]);
    let falling = BlankDescription { falling: true, ..describe(Photometric::Monochrome1, 8) };
    exactly(&falling, &[&[0]]);
}

#[test]
fn signed_grey_becomes_the_darkest_value_of_the_image() {
    for (photometric, falling, large) in [
        (Photometric::Monochrome2, false, false),
        (Photometric::Monochrome2, true, true),
        (Photometric::Monochrome1, false, true),
        (Photometric::Monochrome1, true, false),
    ] {
        let d = BlankDescription { signed: true, falling, ..describe(photometric, 16) };
        let bytes = noise(d.size().unwrap(), 7);
        let values = bytes.chunks(2).map(|b| i16::from_le_bytes([b[0], b[1]]));
        let black = if large { values.max() } else { values.min() }.unwrap();
        exactly(&d, &[&black.to_le_bytes()]);

        // Twelve bits of the cell, the rest an overlay: the blanked cell has the sign in its place.
        let d = BlankDescription { bits_stored: 12, high_bit: 11, ..d };
        let values = bytes.chunks(2).map(|b| i16::from_le_bytes([b[0], b[1]]) << 4 >> 4);
        let black = if large { values.max() } else { values.min() }.unwrap();
        exactly(&d, &[&black.to_le_bytes()]);
    }
}

#[test]
fn colour_becomes_black_in_every_layout() {
    for planar in [false, true] {
        let layout = |photometric, bits| BlankDescription { planar, ..describe(photometric, bits) };
        exactly(&layout(Photometric::Rgb, 8), &[&[0], &[0], &[0]]);
        exactly(&layout(Photometric::Rgb, 16), &[&[0, 0], &[0, 0], &[0, 0]]);
        exactly(&layout(Photometric::YbrFull, 8), &[&[0], &[128], &[128]]);
        exactly(&layout(Photometric::YbrFull, 16), &[&[0, 0], &[0, 128], &[0, 128]]);
    }
    exactly(&describe(Photometric::YbrFull422, 8), &[&[0], &[128], &[128]]);
    let palette = BlankDescription { darkest_index: 9, ..describe(Photometric::PaletteColor, 8) };
    exactly(&palette, &[&[9]]);
    let palette = BlankDescription { darkest_index: 0x0109, ..describe(Photometric::PaletteColor, 16) };
    exactly(&palette, &[&[9, 1]]);
}

#[test]
fn single_bits_run_on_from_frame_to_frame() {
    let d = describe(Photometric::Monochrome2, 1);
    // 7 x 10 x 3 bits end within a byte; an even length is padded.
    assert_eq!(d.size().unwrap(), 27);
    let before = noise(27, 3);
    let after = blank(&d, native(&before), &RECTANGLES).unwrap().bytes;
    assert_eq!(after.len(), 28);
    let bit = |bytes: &[u8], i: usize| bytes[i / 8] >> (i % 8) & 1;
    for i in 0..27 * 8 {
        let (x, y) = (i % 10, i / 10 % 7);
        let expected = if i < 210 && inside(x, y) { 0 } else { bit(&before, i) };
        assert_eq!(bit(&after, i), expected, "bit {i}");
    }
    let inverted = describe(Photometric::Monochrome1, 1);
    let after = blank(&inverted, native(&before), &RECTANGLES).unwrap().bytes;
    assert!((0..210).filter(|i| inside(i % 10, i / 10 % 7)).all(|i| bit(&after, i) == 1));
}

#[test]
fn wrong_lengths_and_odd_descriptions_are_refused_by_name() {
    let d = describe(Photometric::Monochrome2, 8);
    let code = |d: &BlankDescription, bytes: &[u8]| blank(d, native(bytes), &RECTANGLES).unwrap_err().code;
    assert_eq!(code(&d, &[0; 209]), "pixel-length");
    assert_eq!(code(&d, &[1; 212]), "pixel-length");
    // One byte more is padding, zeros are as well.
    assert_eq!(blank(&d, native(&[1; 211]), &[]).unwrap().bytes, [[1; 211].as_slice(), &[0]].concat());
    assert_eq!(blank(&d, native(&[0; 300]), &[]).unwrap().bytes, [0; 300]);
    assert_eq!(code(&describe(Photometric::YbrRct, 8), &[0; 630]), "photometric");

    let element = |tag, value: u16| DataElement::new(tag, VR::US, PrimitiveValue::from(value));
    let sound = InMemDicomObject::from_element_iter([
        element(tags::SAMPLES_PER_PIXEL, 1),
        DataElement::new(tags::PHOTOMETRIC_INTERPRETATION, VR::CS, "MONOCHROME2"),
        element(tags::ROWS, 7),
        element(tags::COLUMNS, 9),
        element(tags::BITS_ALLOCATED, 16),
        element(tags::BITS_STORED, 12),
        element(tags::HIGH_BIT, 11),
        element(tags::PIXEL_REPRESENTATION, 1),
    ]);
    let read = BlankDescription::of(&sound).unwrap();
    assert_eq!((read.rows, read.columns, read.frames, read.bits_stored, read.signed), (7, 9, 1, 12, true));
    let with = |change: InMemElement| {
        let mut header = sound.clone();
        header.put(change);
        BlankDescription::of(&header)
    };
    for change in [
        element(tags::SAMPLES_PER_PIXEL, 3),
        element(tags::ROWS, 0),
        element(tags::BITS_ALLOCATED, 12),
        element(tags::BITS_STORED, 17),
        element(tags::HIGH_BIT, 3),
        element(tags::PIXEL_REPRESENTATION, 2),
        DataElement::new(tags::NUMBER_OF_FRAMES, VR::IS, "0"),
    ] {
        assert_eq!(with(change).unwrap_err().code, "pixel-module");
    }
    let odd = DataElement::new(tags::PHOTOMETRIC_INTERPRETATION, VR::CS, "HSV");
    assert_eq!(with(odd).unwrap_err().code, "photometric");
    assert!(with(DataElement::new(tags::RESCALE_SLOPE, VR::DS, "-0.5")).unwrap().falling);
    assert!(!with(DataElement::new(tags::RESCALE_SLOPE, VR::DS, "0.5")).unwrap().falling);
}

#[test]
fn the_darkest_entry_of_a_palette() {
    let words = |tag, values: &[u16]| DataElement::new(tag, VR::US, PrimitiveValue::U16(C::from_slice(values)));
    let mut header = InMemDicomObject::new_empty();
    assert_eq!(darkest::index(&header), 0);
    for tag in [
        tags::RED_PALETTE_COLOR_LOOKUP_TABLE_DESCRIPTOR,
        tags::GREEN_PALETTE_COLOR_LOOKUP_TABLE_DESCRIPTOR,
        tags::BLUE_PALETTE_COLOR_LOOKUP_TABLE_DESCRIPTOR,
    ] {
        header.put(words(tag, &[4, 10, 16]));
    }
    header.put(words(tags::RED_PALETTE_COLOR_LOOKUP_TABLE_DATA, &[65535, 100, 40, 0]));
    header.put(words(tags::GREEN_PALETTE_COLOR_LOOKUP_TABLE_DATA, &[65535, 100, 40, 60000]));
    header.put(words(tags::BLUE_PALETTE_COLOR_LOOKUP_TABLE_DATA, &[65535, 100, 50, 0]));
    assert_eq!(darkest::index(&header), 12);
}

proptest! {
    #[test]
    fn what_lies_outside_regions_is_covered_once(
        regions in proptest::collection::vec((0usize..14, 0usize..14, 0usize..8, 0usize..8), 0..5)
    ) {
        let regions: Vec<Rectangle> = regions.iter().map(|&(x, y, w, h)| [x, y, w, h].into()).collect();
        let covers = |r: &Rectangle, x, y| (r.x..r.x + r.width).contains(&x) && (r.y..r.y + r.height).contains(&y);
        let out = outside(&regions, 11, 12);
        for y in 0..11 {
            for x in 0..12 {
                let wanted = usize::from(!regions.iter().any(|r| covers(r, x, y)));
                prop_assert_eq!(out.iter().filter(|r| covers(r, x, y)).count(), wanted);
            }
        }
        prop_assert!(out.iter().all(|r| r.clipped(11, 12) == Some(*r)));
    }
}

#[test]
fn rectangles_outside_a_region_are_few() {
    let out = outside(&[[2, 3, 4, 5].into()], 10, 20);
    assert_eq!(out.len(), 4);
    assert_eq!(outside(&[], 10, 20), [Rectangle { x: 0, y: 0, width: 20, height: 10 }]);
    assert_eq!(outside(&[[0, 0, 50, 50].into()], 10, 20), []);
}

/// Every file below the folder of example files that can be walked, by its path there.
fn real_files() -> Vec<(PathBuf, Vec<u8>)> {
    let Some(root) = gantry_tests::fixture::shared("data/transfer-syntaxes") else { return Vec::new() };
    let files = walkdir::WalkDir::new(&root).sort_by_file_name().into_iter().filter_map(Result::ok);
    files
        .filter(|f| f.file_type().is_file())
        .map(|f| (f.path().strip_prefix(&root).unwrap().to_owned(), std::fs::read(f.path()).unwrap()))
        .collect()
}

fn open<'a>(outline: &'a guard::Outline<'_>) -> Option<(BlankDescription, Pixels<'a>)> {
    let description = BlankDescription::of(&header::parse(outline).ok()?).ok()?;
    let pixels = Pixels::of(outline, &description).ok()?;
    Some((description, pixels))
}

#[test]
fn real_files_of_every_syntax_change_only_within_the_rectangles() {
    let rectangle = Rectangle { x: 2, y: 1, width: 9, height: 6 };
    let (mut grey, mut colour, mut bits, mut refused) = (0, 0, 0, Vec::new());
    for (path, bytes) in real_files() {
        let Ok(Some(outline)) = guard::walk(bytes) else { continue };
        let Some((d, pixels)) = open(&outline) else { continue };
        let (stored, before) = match decode(&d, pixels.clone()) {
            Ok((stored, before)) => (stored, before.into_owned()),
            Err(fault) => {
                println!("{}: {fault}", path.display());
                assert_eq!(fault.code, "undecodable-pixels", "{}", path.display());
                refused.push(path.file_name().unwrap().to_string_lossy().into_owned());
                continue;
            }
        };
        let after = blank(&d, pixels, &[rectangle]).unwrap();
        let clipped = rectangle.clipped(d.rows, d.columns).unwrap();
        if d.bits_allocated == 1 {
            bits += 1;
        } else if stored.photometric.samples() == 3 {
            colour += 1;
            assert_eq!(stored.photometric, Photometric::Rgb, "{}", path.display());
        } else {
            grey += 1;
            // The reader of images decodes to the same values.
            let module = pixel::PixelModule::of(&header::parse(&outline).unwrap()).unwrap();
            for frame in 0..d.frames {
                let values = pixel::decode(&outline, &module, frame).unwrap().values;
                let size = d.sample_bytes();
                let cells = before.chunks_exact(size).skip(frame * d.pixels());
                let here = cells.zip(&values).filter(|(cell, v)| darkest::value(&d, cell) != i64::from(**v)).count();
                assert_eq!((here, values.len()), (0, d.pixels()), "{}", path.display());
            }
        }
        // Bits or cells that differ all lie within the rectangle.
        let cells = stored.cells_per_pixel();
        let unit = if d.bits_allocated == 1 { 1 } else { d.bits_allocated as usize };
        for at in (0..before.len()).filter(|&at| before[at] != after.bytes[at]) {
            for bit in (0..8).filter(|bit| (before[at] ^ after.bytes[at]) >> bit & 1 == 1) {
                let sample = (at * 8 + bit) / unit;
                let pixel = if stored.planar { sample % d.pixels() } else { sample / cells % d.pixels() };
                let (x, y) = (pixel % d.columns, pixel / d.columns);
                let hit =
                    x >= clipped.x && x < clipped.x + clipped.width && y >= clipped.y && y < clipped.y + clipped.height;
                assert!(hit, "{}: byte {at}", path.display());
            }
        }
        assert!(after.bytes.len() - before.len() < 2 && after.bytes.len().is_multiple_of(2));
    }
    if gantry_tests::fixture::shared("data/transfer-syntaxes").is_some() {
        println!("{grey} grey, {colour} colour, {bits} of single bits, refused {refused:?}");
        assert!(grey >= 60 && colour >= 5 && bits >= 4, "{grey} {colour} {bits}");
        // Lossy JPEG of 12 bits, RLE of single bits, and a codestream whose size is damaged.
        refused.sort();
        let expected =
            ["JPEG-lossy.dcm", "JPEG2000-embedded-sequence-delimiter.dcm", "JPGExtended.dcm", "liver_rle.dcm"];
        assert_eq!(refused, expected);
    }
}

fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// SHA-256 of the samples, pixel by pixel, as pydicom 3 decodes them.
#[test]
fn colour_decodes_to_what_another_reader_sees() {
    let Some(root) = gantry_tests::fixture::shared("data/transfer-syntaxes") else { return };
    for (path, expected) in [
        ("pydicom/SC_rgb_rle_16bit_2frame.dcm", "d7e2338dd240b58cd8ca13452ab8f21fa3e0779575eda0677568b5ce88247271"),
        ("pydicom/examples_jpeg2k.dcm", "e16892020c73095e42ff4cf7368de5206f11012e25feaed53cc2bc614602bb9a"),
        ("htj2k_deflate/HTJ2K_08_RGB.dcm", "16463ac9d0b0c70eed678971adf2076815b73148cff485ade090beb64868f7e3"),
        (
            "dicom2nifti_series/generic/rgb/001/IM-0001-0001-0001.dcm",
            "0a16b79a91d11fdfe5c397c91e46140ab8b33e0250b9e89e48b199bc389eca6a",
        ),
        ("pydicom/ExplVR_BigEnd.dcm", "1583c4339dd36e91dd2c30d278ef1ed95f3ea9a6de4401868d5712a76036ef2d"),
    ] {
        let outline = guard::walk(std::fs::read(root.join(path)).unwrap()).unwrap().unwrap();
        let (d, pixels) = open(&outline).unwrap();
        let (stored, bytes) = decode(&d, pixels).unwrap();
        let mut bytes = bytes.into_owned();
        if stored.planar {
            let plane = stored.pixels() * stored.sample_bytes();
            assert_eq!((stored.frames, stored.sample_bytes()), (1, 1), "{path}");
            bytes = (0..3 * plane).map(|i| bytes[i % 3 * plane + i / 3]).collect();
        }
        assert_eq!(sha256(&bytes), expected, "{path}");
    }
}

#[test]
fn a_syntax_without_decoder_is_refused_and_what_changes_is_told() {
    let d = BlankDescription { frames: 1, ..describe(Photometric::Rgb, 8) };
    let refuse = |transfer_syntax, fragments: Vec<&'static [u8]>| {
        blank(&d, Pixels::Encapsulated { transfer_syntax, fragments, offsets: &[] }, &RECTANGLES).unwrap_err()
    };
    for syntax in ["1.2.840.10008.1.2.4.102", uids::JPEGLS_LOSSLESS, uids::JPEG_BASELINE8_BIT, uids::RLE_LOSSLESS] {
        assert_eq!(refuse(syntax, vec![&[0xff, 0xd8, 0xff, 0xd9]]).code, "undecodable-pixels", "{syntax}");
    }
    assert_eq!(refuse(uids::RLE_LOSSLESS, vec![]).code, "undecodable-pixels");
}

/// 16 x 8 pixels, left half one colour and right half another, luminance and colour differences with one pair of
/// differences for two pixels across (a JFIF stream).
const SUBSAMPLED: &str = "ffd8ffe000104a46494600010100000100010000ffdb0043000302020302020303030304030304050805050404050a07\
0706080c0a0c0c0b0a0b0b0d0e12100d0e110e0b0b1016101113141515150c0f171816141812141514ffdb00430103040405040509050509140d\
0b0d1414141414141414141414141414141414141414141414141414141414141414141414141414141414141414141414141414ffc000110800\
08001003012100021101031101ffc40014000100000000000000000000000000000007ffc40014100100000000000000000000000000000000ff\
c4001501010100000000000000000000000000000406ffc4001c110001030500000000000000000000000000050843458183c1c3ffda000c0301\
0002110311003f002420241723be84384a566e47ffd9";

#[test]
fn sub_sampled_jpeg_keeps_its_luminance_and_gets_full_colour() {
    let stream = hex::decode(SUBSAMPLED).unwrap();
    for (said, lossy) in [(Photometric::YbrFull422, None), (Photometric::Rgb, Some(false))] {
        let d = BlankDescription { rows: 8, columns: 16, frames: 2, photometric: said, lossy, ..describe(said, 8) };
        let pixels = Pixels::Encapsulated {
            transfer_syntax: uids::JPEG_BASELINE8_BIT,
            fragments: vec![&stream, &stream],
            offsets: &[],
        };
        let blanked = blank(&d, pixels, &[[14, 6, 9, 9].into()]).unwrap();
        assert_eq!(blanked.bytes.len(), 8 * 16 * 3 * 2);
        for frame in 0..2 {
            for y in 0..8 {
                for x in 0..16 {
                    let at = ((frame * 8 + y) * 16 + x) * 3;
                    let near = |colour: [u8; 3]| {
                        let found = &blanked.bytes[at..at + 3];
                        assert!(found.iter().zip(colour).all(|(a, b)| a.abs_diff(b) <= 2), "{x} {y}: {found:?}");
                    };
                    match x {
                        14.. if y >= 6 => assert_eq!(blanked.bytes[at..at + 3], [0, 128, 128]),
                        // Colour differences are interpolated across the edge.
                        ..=6 => near([94, 126, 203]),
                        9.. => near([118, 95, 59]),
                        _ => {}
                    }
                }
            }
        }
        // The stream says what it holds, whatever the header claims.
        let [photometric, planar, lossy] = blanked.changed.as_slice() else { panic!("{:?}", blanked.changed) };
        assert_eq!(photometric.to_str().unwrap(), "YBR_FULL");
        assert_eq!((planar.tag(), planar.to_int::<u16>().unwrap()), (tags::PLANAR_CONFIGURATION, 0));
        assert_eq!((lossy.tag(), lossy.to_str().unwrap().as_ref()), (tags::LOSSY_IMAGE_COMPRESSION, "01"));
    }
}
