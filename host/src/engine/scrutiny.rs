//! Looking at what a stage wrote before anything downstream sees it: every voxel written, finite, and in the label table.
//!
//! Buffers are poisoned before a call: floating-point voxels with a NaN, integers with [`POISON_INT`]. So an output left
//! unwritten shows itself as NaN, as a label outside the table, or as a plane that is poison throughout.

use gantry_abi::v1::{dtype, kind};

use super::buffers::Buffer;
use super::edge::LabelTable;

/// Every byte of poisoned floating-point voxels: a NaN in every format.
pub const POISON_FLOAT: u8 = 0xff;
/// Every byte of poisoned integer voxels.
pub const POISON_INT: u8 = 0xa5;

/// The byte with which voxels of a type are poisoned.
pub fn poison(dtype: u32) -> u8 {
    match dtype {
        dtype::F16 | dtype::F32 | dtype::F64 | dtype::BF16 => POISON_FLOAT,
        _ => POISON_INT,
    }
}

/// Checks one plane that a stage was to write.
///
/// # Errors
/// `(code, sentence)`.
pub fn plane(
    item_kind: u32,
    voxel: u32,
    labels: &LabelTable,
    buffer: &Buffer,
    offset: usize,
    count: usize,
) -> Result<(), (&'static str, String)> {
    let not_finite = |bad: usize, unwritten: bool| match (bad, unwritten) {
        (0, _) => Ok(()),
        (n, true) if n == count => Err(("output-unwritten", "a slice was left unwritten".to_owned())),
        (n, _) => {
            Err(("output-not-finite", format!("{n} of {count} voxels of a slice are NaN, infinite or unwritten")))
        }
    };
    let unwritten_int = |all: bool| match all {
        true => Err(("output-unwritten", "a slice was left unwritten".to_owned())),
        false => Ok(()),
    };
    match voxel {
        dtype::F32 => {
            let data: &[f32] = buffer.read(offset, count);
            let bad = data.iter().filter(|v| !v.is_finite()).count();
            not_finite(bad, bad == count && data.iter().all(|v| v.to_bits() == u32::MAX))
        }
        dtype::F64 => {
            let data: &[f64] = buffer.read(offset, count);
            let bad = data.iter().filter(|v| !v.is_finite()).count();
            not_finite(bad, bad == count && data.iter().all(|v| v.to_bits() == u64::MAX))
        }
        dtype::F16 | dtype::BF16 => {
            let exponent = if voxel == dtype::F16 { 0x7c00 } else { 0x7f80 };
            let data: &[u16] = buffer.read(offset, count);
            let bad = data.iter().filter(|&&v| v & exponent == exponent).count();
            not_finite(bad, bad == count && data.iter().all(|&v| v == u16::MAX))
        }
        _ if item_kind == kind::LABELS => label_plane(voxel, labels, buffer, offset, count),
        _ => {
            let bytes: &[u8] = buffer.read(offset, count * dtype::size(voxel));
            unwritten_int(count > 0 && bytes.iter().all(|&b| b == POISON_INT))
        }
    }
}

fn label_plane(
    voxel: u32,
    labels: &LabelTable,
    buffer: &Buffer,
    offset: usize,
    count: usize,
) -> Result<(), (&'static str, String)> {
    let stranger: Option<i64> = match voxel {
        dtype::U8 => {
            // A table lookup per voxel would cost more than the stage: 256 answers are made once.
            let permitted: [bool; 256] = std::array::from_fn(|v| labels.permits(v as i64));
            buffer.read::<u8>(offset, count).iter().find(|&&v| !permitted[v as usize]).map(|&v| v.into())
        }
        dtype::I8 => find(buffer.read::<i8>(offset, count), labels),
        dtype::U16 => find(buffer.read::<u16>(offset, count), labels),
        dtype::I16 => find(buffer.read::<i16>(offset, count), labels),
        dtype::U32 => find(buffer.read::<u32>(offset, count), labels),
        dtype::I32 => find(buffer.read::<i32>(offset, count), labels),
        dtype::I64 => find(buffer.read::<i64>(offset, count), labels),
        _ => return Err(("output-type", "labels must be integers".to_owned())),
    };
    match stranger {
        None => Ok(()),
        Some(value) => Err((
            "output-unknown-label",
            format!("a voxel has the label {value}, which the label table does not know (or was left unwritten)"),
        )),
    }
}

fn find<T: Copy + Into<i64>>(voxels: &[T], labels: &LabelTable) -> Option<i64> {
    let mut last_good = None;
    for &v in voxels {
        let v: i64 = v.into();
        if last_good != Some(v) {
            if !labels.permits(v) {
                return Some(v);
            }
            last_good = Some(v);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buffer_of(bytes: &[u8]) -> Buffer {
        let buffer = Buffer::new(bytes.len(), 0).unwrap();
        for (i, &b) in bytes.iter().enumerate() {
            buffer.fill(i, 1, b);
        }
        buffer
    }

    #[test]
    fn poison_is_seen_in_every_type() {
        for voxel in [dtype::F32, dtype::F64, dtype::F16, dtype::BF16, dtype::I16, dtype::U8, dtype::I32] {
            let buffer = Buffer::new(64 * 8, poison(voxel)).unwrap();
            let binary = LabelTable::binary("x");
            let of = if voxel == dtype::U8 { kind::LABELS } else { kind::IMAGE };
            assert!(plane(of, voxel, &binary, &buffer, 0, 64).is_err(), "{:?}", dtype::name(voxel));
        }
    }

    #[test]
    fn one_infinite_voxel_is_seen() {
        let mut values = [1.0f32; 16];
        let none = LabelTable::default();
        let bytes = |v: &[f32]| v.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>();
        assert!(plane(kind::IMAGE, dtype::F32, &none, &buffer_of(&bytes(&values)), 0, 16).is_ok());
        values[7] = f32::INFINITY;
        let (code, text) = plane(kind::IMAGE, dtype::F32, &none, &buffer_of(&bytes(&values)), 0, 16).unwrap_err();
        assert_eq!(code, "output-not-finite");
        assert!(text.starts_with("1 of 16"), "{text}");
    }

    #[test]
    fn a_label_outside_the_table_is_seen() {
        let buffer = buffer_of(&[0, 1, 1, 0, 2]);
        assert!(plane(kind::LABELS, dtype::U8, &LabelTable::binary("x"), &buffer, 0, 4).is_ok());
        assert!(plane(kind::LABELS, dtype::U8, &LabelTable::binary("x"), &buffer, 0, 5).is_err());
    }
}
