//! From compressed pixel data to uncompressed ones, colour included.

use std::borrow::Cow;

use dicom_dictionary_std::uids;

use super::super::pixel::{Codec, FREE_PIXELS, MAX_PIXELS_PER_BYTE, codec, extend, fragments_of};
use super::super::record::Fault;
use super::super::{inflate, jpeg, jpeg_colour, jpeg_ls, jpeg2000, rle};
use super::{BlankDescription, Photometric, Pixels, darkest};

/// Uncompressed little endian pixel data, and how they are stored: colour lies pixel by pixel after decoding, without
/// sub-sampling. Uncompressed ones come back as they are.
///
/// # Errors
/// `undecodable-pixels`, `pixel-length`, `photometric`
pub fn decode<'a>(
    description: &BlankDescription,
    pixels: Pixels<'a>,
) -> Result<(BlankDescription, Cow<'a, [u8]>), Fault> {
    match pixels {
        Pixels::Native(bytes) => {
            check_native(description, &bytes)?;
            Ok((description.clone(), bytes))
        }
        Pixels::Encapsulated { transfer_syntax, fragments, offsets } => {
            let (stored, bytes) = frames(description, transfer_syntax, &fragments, offsets).map_err(|fault| {
                Fault::new("undecodable-pixels", format!("the pixel data cannot be decoded: {fault}"))
            })?;
            Ok((stored, Cow::Owned(bytes)))
        }
    }
}

/// Did this syntax lose something? Those that may hold either do, unless the header says otherwise.
pub(super) fn was_lossy(transfer_syntax: &str, said: Option<bool>) -> bool {
    match transfer_syntax {
        uids::JPEG_BASELINE8_BIT | uids::JPEG_EXTENDED12_BIT => true,
        uids::JPEGLS_NEAR_LOSSLESS | uids::JPEG2000 | uids::HTJ2K => said != Some(false),
        _ => false,
    }
}

fn check_native(d: &BlankDescription, bytes: &[u8]) -> Result<(), Fault> {
    if matches!(d.photometric, Photometric::YbrIct | Photometric::YbrRct) {
        return Err(Fault::new("photometric", format!("uncompressed pixels claim to be {}", d.photometric.name())));
    }
    let expected = d.size()?;
    let found = bytes.len();
    // A value of odd length is padded; a few writers pad more, with zeros.
    let padding = || bytes.get(expected..).unwrap_or(&[]).iter().all(|&b| b == 0);
    if found < expected || (found > expected + 1 && !padding()) {
        return Err(Fault::new("pixel-length", format!("the pixel data have {found} bytes, expected {expected}")));
    }
    Ok(())
}

/// All frames, one after the other.
fn frames(
    before: &BlankDescription,
    transfer_syntax: &str,
    fragments: &[&[u8]],
    offsets: &[u32],
) -> Result<(BlankDescription, Vec<u8>), Fault> {
    let codec = codec(transfer_syntax)?;
    let mut after = BlankDescription { planar: false, ..before.clone() };
    if matches!(codec, Codec::DeflatedFrame) {
        after.planar = before.planar;
    }
    let mut out = Vec::new();
    let mut bits = Vec::new();
    for frame in 0..before.frames {
        let bytes = frame_bytes(before.frames, fragments, offsets, frame)?;
        if before.pixels() > FREE_PIXELS.max(bytes.len().saturating_mul(MAX_PIXELS_PER_BYTE)) {
            let text = format!("{} bytes claim to be {} x {} pixels", bytes.len(), before.rows, before.columns);
            return Err(Fault::new("too-large", text));
        }
        let (photometric, plain) = one(before, codec, transfer_syntax, &bytes)?;
        if frame > 0 && photometric != after.photometric {
            return Err(Fault::new("photometric", "frames are coded in different colour spaces"));
        }
        after.photometric = photometric;
        match before.bits_allocated {
            1 => bits.extend(plain),
            _ => out.extend(plain),
        }
        // Whatever the header claims, no more is held than was decoded; and that must be as much as it claims.
        let expected = if before.bits_allocated == 1 { after.pixels() } else { after.frame_bytes() };
        if out.len().max(bits.len()) != (frame + 1) * expected {
            return Err(Fault::new("pixel-length", "a decoded frame does not have Rows x Columns samples"));
        }
    }
    if before.bits_allocated == 1 {
        out = bits.chunks(8).map(|b| b.iter().rev().fold(0u8, |byte, &bit| byte << 1 | (bit & 1))).collect();
    }
    after.size()?;
    Ok((after, out))
}

/// One frame: cells pixel by pixel (bits one a byte), and what its samples mean now.
fn one(
    d: &BlankDescription,
    codec: Codec,
    transfer_syntax: &str,
    bytes: &[u8],
) -> Result<(Photometric, Vec<u8>), Fault> {
    let samples = d.photometric.samples();
    let size = d.sample_bytes();
    let grey = |values: &mut dyn Iterator<Item = i64>| values.flat_map(|v| darkest::cell(d, v)).collect::<Vec<u8>>();
    match codec {
        Codec::Native => {
            Err(Fault::new("pixel-length", "the pixel data are encapsulated, but the transfer syntax is uncompressed"))
        }
        Codec::DeflatedFrame if d.bits_allocated == 1 => {
            let packed = inflate::frame(bytes, d.pixels().div_ceil(8))?;
            let bit = |i: usize| packed.get(i / 8).map_or(0, |byte| byte >> (i % 8) & 1);
            Ok((d.photometric, (0..d.pixels()).map(bit).collect()))
        }
        Codec::DeflatedFrame => Ok((d.photometric, inflate::frame(bytes, d.frame_bytes())?)),
        Codec::Rle if d.bits_allocated == 1 => Err(Fault::new("rle", "RLE of single bits is not supported")),
        Codec::Rle => {
            // Each sample has segments of its own, the first sample's first: read as one long little endian number,
            // the last sample lies in the lowest bytes.
            let mut plain = rle::decode(bytes, d.pixels(), samples * size)?;
            if samples > 1 {
                plain.chunks_exact_mut(samples * size).for_each(|pixel| {
                    pixel.reverse();
                    pixel.chunks_exact_mut(size).for_each(<[u8]>::reverse);
                });
            }
            Ok((full(d.photometric), plain))
        }
        Codec::Jpeg if samples == 1 => {
            let image = jpeg::decode(bytes, transfer_syntax, d.rows, d.columns)?;
            let bits = fitting(d, image.precision)?;
            Ok((d.photometric, grey(&mut image.codes.iter().map(|&code| extend(u64::from(code), bits, d.signed)))))
        }
        Codec::Jpeg => {
            let image = jpeg_colour::decode(bytes, d.rows, d.columns)?;
            if fitting(d, image.precision)? < image.precision || d.signed || d.high_bit + 1 != d.bits_stored {
                return Err(Fault::new("pixel-module", "the samples of the compressed image do not fit the header"));
            }
            let plain = image.samples.iter().flat_map(|s| s.to_le_bytes().into_iter().take(size)).collect();
            let said =
                if full(d.photometric) == Photometric::YbrFull { Photometric::YbrFull } else { Photometric::Rgb };
            let coded = image.luminance.map(|l| if l { Photometric::YbrFull } else { Photometric::Rgb });
            Ok((coded.unwrap_or(said), plain))
        }
        Codec::JpegLs if samples == 1 => {
            let image = jpeg_ls::decode(bytes, d.rows, d.columns)?;
            let bits = fitting(d, u32::from(image.precision))?;
            Ok((d.photometric, grey(&mut image.samples.iter().map(|&s| extend(u64::from(s), bits, d.signed)))))
        }
        Codec::JpegLs => Err(Fault::new("jpeg-ls", "JPEG-LS in colour is not supported")),
        Codec::Jpeg2000 => {
            let planes = jpeg2000::decode_planes(bytes, d.rows, d.columns, samples)?;
            let bits = fitting(d, planes.precision)?;
            let value = |sample: i32| {
                if planes.signed == d.signed { i64::from(sample) } else { extend(sample as u64, bits, d.signed) }
            };
            let mut plain = Vec::with_capacity(d.pixels() * samples * size);
            for pixel in 0..d.pixels() {
                for plane in &planes.samples {
                    let sample = plane.get(pixel).copied().unwrap_or_default();
                    plain.extend(darkest::cell(d, value(sample)));
                }
            }
            // The codestream's own transform is undone by its decoder.
            let photometric = match d.photometric {
                Photometric::YbrIct | Photometric::YbrRct => Photometric::Rgb,
                other => full(other),
            };
            Ok((photometric, plain))
        }
    }
}

/// Colour differences for every pixel.
fn full(photometric: Photometric) -> Photometric {
    if photometric == Photometric::YbrFull422 { Photometric::YbrFull } else { photometric }
}

/// Bits of a code that a stored sample takes.
fn fitting(d: &BlankDescription, precision: u32) -> Result<u32, Fault> {
    if precision > d.bits_allocated {
        let text =
            format!("the compressed image has {precision} bits a sample, Bits Allocated is {}", d.bits_allocated);
        return Err(Fault::new("pixel-module", text));
    }
    Ok(precision.min(d.bits_stored))
}

/// The bytes of one frame out of the fragments.
fn frame_bytes<'a>(
    frames: usize,
    fragments: &[&'a [u8]],
    offsets: &[u32],
    frame: usize,
) -> Result<Cow<'a, [u8]>, Fault> {
    match fragments_of(fragments, |fragment| fragment.len(), offsets, frames, frame)? {
        [one] => Ok(Cow::Borrowed(*one)),
        several => Ok(Cow::Owned(several.concat())),
    }
}
