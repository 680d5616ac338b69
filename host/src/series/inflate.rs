//! Inflating with a limit that is checked before anything is kept.

use flate2::{Decompress, FlushDecompress, Status};

use super::record::Fault;

/// Never more than this many bytes.
const MAX_BYTES: u64 = 2 << 30;
/// Never more than this many times the compressed size …
const MAX_RATIO: u64 = 200;
/// … except that this much is always allowed: a blank image deflates a thousandfold.
const FREE_BYTES: u64 = 64 << 20;

/// Inflates a raw deflate stream: the dataset of a Deflated Explicit VR Little Endian file.
///
/// # Errors
/// `inflate-limit` for more than min(2 GiB, max(200 x compressed, 64 MiB)), found without keeping the bytes; `inflate`
/// for a stream that is broken or cut off.
pub fn dataset(compressed: &[u8]) -> Result<Vec<u8>, Fault> {
    let limit = (compressed.len() as u64).saturating_mul(MAX_RATIO).clamp(FREE_BYTES, MAX_BYTES);
    // Once to learn the size, keeping nothing; then, if that is bearable, once more.
    let size = inflate(compressed, limit + 1, None)?;
    if size > limit {
        return Err(Fault::new(
            "inflate-limit",
            format!("{} deflated bytes inflate to more than the limit of {limit}", compressed.len()),
        ));
    }
    let mut out = Vec::with_capacity(size as usize);
    inflate(compressed, limit + 1, Some(&mut out))?;
    Ok(out)
}

/// Inflates a raw deflate stream that must hold `size` bytes (and at most one more, for an even length).
///
/// # Errors
/// `inflate`
pub fn frame(compressed: &[u8], size: usize) -> Result<Vec<u8>, Fault> {
    let mut out = Vec::new();
    let found = inflate(compressed, size as u64 + 2, Some(&mut out))?;
    if found != size as u64 && found != size as u64 + 1 {
        return Err(Fault::new("inflate", format!("the frame inflates to {found} bytes, expected {size}")));
    }
    out.truncate(size);
    Ok(out)
}

/// Inflates until the end of the stream or until at least `most` bytes; gives how many.
fn inflate(compressed: &[u8], most: u64, mut keep: Option<&mut Vec<u8>>) -> Result<u64, Fault> {
    let mut stream = Decompress::new(false);
    let mut block = vec![0u8; 1 << 16];
    loop {
        let (read, written) = (stream.total_in(), stream.total_out());
        let input = compressed.get(read as usize..).unwrap_or(&[]);
        let status = stream
            .decompress(input, &mut block, FlushDecompress::None)
            .map_err(|_| Fault::new("inflate", "the deflated data are damaged"))?;
        let new = (stream.total_out() - written) as usize;
        if let Some(out) = keep.as_deref_mut() {
            out.extend_from_slice(block.get(..new).unwrap_or(&block));
        }
        if status == Status::StreamEnd || stream.total_out() >= most {
            return Ok(stream.total_out());
        }
        if new == 0 && stream.total_in() == read {
            return Err(Fault::new("inflate", "the deflated data are cut off"));
        }
    }
}
