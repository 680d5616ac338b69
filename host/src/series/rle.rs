//! RLE Lossless frames (DICOM PS3.5 annex G).

use super::record::Fault;

fn damaged(what: impl std::fmt::Display) -> Fault {
    Fault::new("rle", format!("the RLE image {what}"))
}

/// Decodes a frame of one sample a pixel into little endian samples of `bytes` bytes, row by row.
///
/// # Errors
/// `rle` for a damaged or cut-off frame, or another number of segments than `bytes`.
pub fn decode(frame: &[u8], pixels: usize, bytes: usize) -> Result<Vec<u8>, Fault> {
    let word = |i: usize| {
        let b = frame.get(i * 4..i * 4 + 4).and_then(|b| b.try_into().ok());
        b.map(|b| u32::from_le_bytes(b) as usize).ok_or_else(|| damaged("is cut off in its header"))
    };
    let segments = word(0)?;
    if segments != bytes {
        return Err(damaged(format_args!("has {segments} segments, expected {bytes}")));
    }
    let mut out = vec![0u8; pixels * bytes];
    for segment in 0..segments {
        let from = word(1 + segment)?;
        let to = if segment + 1 < segments { word(2 + segment)? } else { frame.len() };
        let packed = frame.get(from..to).ok_or_else(|| damaged("has a segment beyond its end"))?;
        // The first segment holds the most significant bytes.
        unpack(packed, out.iter_mut().skip(bytes - 1 - segment).step_by(bytes))?;
    }
    Ok(out)
}

/// PackBits, until every byte of `out` is filled; what follows is padding.
fn unpack<'a>(packed: &[u8], mut out: impl Iterator<Item = &'a mut u8>) -> Result<(), Fault> {
    let cut = || damaged("has a segment that is cut off");
    let Some(mut slot) = out.next() else { return Ok(()) };
    let mut put = |value: u8| -> bool {
        *slot = value;
        match out.next() {
            Some(next) => {
                slot = next;
                true
            }
            None => false,
        }
    };
    let mut at = 0usize;
    loop {
        let control = *packed.get(at).ok_or_else(cut)?;
        at += 1;
        match control {
            0..=127 => {
                let length = usize::from(control) + 1;
                for i in 0..length {
                    let value = *packed.get(at + i).ok_or_else(cut)?;
                    if !put(value) {
                        return if i + 1 == length { Ok(()) } else { Err(damaged("has a segment that is too long")) };
                    }
                }
                at += length;
            }
            128 => {}
            129.. => {
                let value = *packed.get(at).ok_or_else(cut)?;
                let length = 257 - usize::from(control);
                at += 1;
                for i in 0..length {
                    if !put(value) {
                        return if i + 1 == length { Ok(()) } else { Err(damaged("has a segment that is too long")) };
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(segments: &[&[u8]]) -> Vec<u8> {
        let mut out = vec![0u8; 64];
        out[0] = segments.len() as u8;
        for (i, segment) in segments.iter().enumerate() {
            let at = (out.len() as u32).to_le_bytes();
            out[4 + i * 4..8 + i * 4].copy_from_slice(&at);
            out.extend_from_slice(segment);
        }
        out
    }

    #[test]
    fn two_segments_make_little_endian_words() {
        // Replicate 1 three times and one literal; then four literals, and padding.
        let frame = frame(&[&[254, 1, 0, 2], &[3, 10, 11, 12, 13, 0]]);
        assert_eq!(decode(&frame, 4, 2).unwrap(), [10, 1, 11, 1, 12, 1, 13, 2]);
    }

    #[test]
    fn short_long_and_cut_off_frames_are_refused() {
        let whole = frame(&[&[254, 1, 0, 2], &[3, 10, 11, 12, 13]]);
        for length in 0..whole.len() {
            assert!(decode(&whole[..length], 4, 2).is_err());
        }
        assert!(decode(&whole, 5, 2).is_err());
        assert!(decode(&whole, 2, 2).is_err());
        assert!(decode(&whole, 4, 1).is_err());
        assert!(decode(&[255; 64], 4, 2).is_err());
    }
}
