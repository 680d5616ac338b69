//! Which frames are written, in which order, and their voxels.

use super::{Encoding, Segment};
use crate::series::record::Fault;

/// Most bytes of Pixel Data: its length is a 32-bit number, even, and not the one that means "undefined".
const MAX_BYTES: usize = 0xffff_fffe;

/// One frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Frame {
    /// Index in the list of segments; `None`: the frame holds all of them.
    pub segment: Option<usize>,
    /// Slice.
    pub z: usize,
}

/// The frames and their voxels.
#[derive(Debug)]
pub(super) struct Frames {
    /// In the order in which they are stored.
    pub list: Vec<Frame>,
    /// Pixel Data, of even length.
    pub bytes: Vec<u8>,
    /// Voxels of each segment.
    pub voxels: Vec<u64>,
}

/// Encodes slices of labels `[z][y, x]`. Binary frames are ordered by segment, then by slice; frames without a voxel are
/// left out, except that a map without any voxel gets a frame of zeros for its first segment on every slice: it says of
/// each that nothing is there.
///
/// # Errors
/// `label-unknown` for a voxel value that no segment has, `too-large` beyond 4 GiB.
pub(super) fn encode(slices: &[&[u8]], segments: &[Segment], encoding: Encoding) -> Result<Frames, Fault> {
    let mut index = [None; 256];
    for (i, segment) in segments.iter().enumerate() {
        index[usize::from(segment.value)] = Some(i);
    }
    // Voxels by slice and value: says which frames there are before any is packed.
    let counts: Vec<[u64; 256]> = slices.iter().map(|slice| histogram(slice)).collect();
    let mut voxels = vec![0; segments.len()];
    for (z, count) in counts.iter().enumerate() {
        for (value, &n) in count.iter().enumerate().skip(1).filter(|(_, n)| **n > 0) {
            let unknown = || Fault::new("label-unknown", format!("slice {z}: the label table has no value {value}"));
            voxels[index[value].ok_or_else(unknown)?] += n;
        }
    }
    let pixels = slices.first().map_or(0, |s| s.len());
    let too_large = |bytes: Option<usize>| match bytes {
        Some(bytes) if bytes <= MAX_BYTES => Ok(bytes),
        _ => Err(Fault::new("too-large", "the segmentation needs more than 4 GiB, which no DICOM object holds")),
    };
    let mut list: Vec<Frame> = Vec::new();
    if encoding == Encoding::Labelmap {
        let length = too_large(pixels.checked_mul(slices.len()))?;
        let mut bytes = Vec::with_capacity(length + 1);
        for (z, slice) in slices.iter().enumerate() {
            list.push(Frame { segment: None, z });
            bytes.extend_from_slice(slice);
        }
        bytes.resize(length.next_multiple_of(2), 0);
        return Ok(Frames { list, bytes, voxels });
    }
    for (i, segment) in segments.iter().enumerate() {
        let has = |z: &usize| counts[*z][usize::from(segment.value)] > 0;
        list.extend((0..slices.len()).filter(has).map(|z| Frame { segment: Some(i), z }));
    }
    if list.is_empty() {
        list.extend((0..slices.len()).map(|z| Frame { segment: Some(0), z }));
    }
    let length = too_large(pixels.checked_mul(list.len()).map(|bits| bits.div_ceil(8)))?;
    let mut packer = Packer { bytes: Vec::with_capacity(length + 1), byte: 0, bits: 0 };
    for frame in &list {
        let value = frame.segment.and_then(|i| segments.get(i)).map_or(0, |s| s.value);
        packer.push(slices[frame.z], value);
    }
    Ok(Frames { list, bytes: packer.finish(), voxels })
}

fn histogram(slice: &[u8]) -> [u64; 256] {
    let mut counts = [0; 256];
    for &value in slice {
        counts[usize::from(value)] += 1;
    }
    counts
}

/// Bits one after the other, the first in the lowest bit of a byte (PS3.5 8.1.1), across the borders of frames.
struct Packer {
    bytes: Vec<u8>,
    byte: u8,
    bits: u32,
}

impl Packer {
    /// A frame: 1 where a voxel has this value.
    fn push(&mut self, frame: &[u8], value: u8) {
        let mut rest = frame;
        if self.bits == 0 {
            // Whole bytes at once: nearly all frames begin at one.
            let (whole, tail) = frame.as_chunks::<8>();
            let pack = |eight: &[u8; 8]| (0..8).fold(0, |byte, i| byte | u8::from(eight[i] == value) << i);
            self.bytes.extend(whole.iter().map(pack));
            rest = tail;
        }
        for &voxel in rest {
            self.byte |= u8::from(voxel == value) << self.bits;
            self.bits += 1;
            if self.bits == 8 {
                self.bytes.push(self.byte);
                (self.byte, self.bits) = (0, 0);
            }
        }
    }

    fn finish(mut self) -> Vec<u8> {
        if self.bits > 0 {
            self.bytes.push(self.byte);
        }
        if self.bytes.len() % 2 == 1 {
            self.bytes.push(0);
        }
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segments(values: &[u8]) -> Vec<Segment> {
        let segment = |&value: &u8| Segment {
            value,
            name: format!("s{value}"),
            scheme: String::new(),
            code: String::new(),
            rgba: 0,
        };
        values.iter().map(segment).collect()
    }

    #[test]
    fn bits_run_on_over_the_borders_of_frames() {
        // Two frames of five pixels: ten bits, the second frame begins at bit 5 of the first byte.
        let slices: [&[u8]; 3] = [&[9, 0, 0, 0, 9], &[0; 5], &[9, 9, 0, 9, 0]];
        let frames = encode(&slices, &segments(&[9]), Encoding::Binary).unwrap();
        assert_eq!(frames.list, [Frame { segment: Some(0), z: 0 }, Frame { segment: Some(0), z: 2 }]);
        assert_eq!(frames.bytes, [0b0111_0001, 0b0000_0001]);
        assert_eq!(frames.voxels, [5]);
    }

    #[test]
    fn frames_go_by_segment_then_slice() {
        let slices: [&[u8]; 2] = [&[2, 7], &[7, 2]];
        let frames = encode(&slices, &segments(&[2, 5, 7]), Encoding::Binary).unwrap();
        let order: Vec<_> = frames.list.iter().map(|f| (f.segment.unwrap(), f.z)).collect();
        assert_eq!(order, [(0, 0), (0, 1), (2, 0), (2, 1)]);
        assert_eq!(frames.bytes, [0b0110_1001, 0]);
        assert_eq!(frames.voxels, [2, 0, 2]);
        let map = encode(&slices, &segments(&[2, 5, 7]), Encoding::Labelmap).unwrap();
        assert_eq!((map.bytes.as_slice(), map.list.len()), (&[2, 7, 7, 2][..], 2));
    }

    #[test]
    fn nothing_segmented_is_said_of_every_slice() {
        let slices: [&[u8]; 3] = [&[0; 4]; 3];
        let frames = encode(&slices, &segments(&[3, 4]), Encoding::Binary).unwrap();
        assert_eq!(frames.list, [0, 1, 2].map(|z| Frame { segment: Some(0), z }));
        assert_eq!((frames.bytes, frames.voxels), (vec![0, 0], vec![0, 0]));
    }

    #[test]
    fn a_value_without_a_segment_is_refused() {
        for encoding in [Encoding::Binary, Encoding::Labelmap] {
            let fault = encode(&[&[0, 1], &[2, 0]], &segments(&[1]), encoding).unwrap_err();
            assert_eq!((fault.code.as_str(), fault.text.contains("slice 1")), ("label-unknown", true));
        }
    }
}
