//! PyTorch's format before 1.6: five pickles one after the other, then the storages.
//!
//! magic number, protocol version (1001), a note about the writer's machine, the object, the storages' keys; then for each
//! key its element count (i64) and its elements. Format: PyTorch's `torch/serialization.py`, `_legacy_save`.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;

use crate::error::{Error, Result};
use crate::pickle::{Pickle, StorageRef, Value};
use crate::state::DType;
use crate::weight_file::Storages;

/// How the first pickle begins: PROTO 2, LONG1 of ten bytes, 0x1950a86a20f9469cfc6c, STOP.
pub(crate) const MAGIC: [u8; 15] =
    [0x80, 2, 0x8a, 10, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19, b'.'];

/// The storages that follow the pickles.
pub(crate) struct LegacyStorages<'a> {
    bytes: &'a [u8],
    /// Where the elements of each storage lie; found while walking, because their size depends on their type.
    ranges: HashMap<String, Range<usize>>,
}

/// Reads the pickles and finds the storages.
pub(crate) fn open(bytes: &[u8]) -> Result<(LegacyStorages<'_>, Pickle)> {
    let mut at = MAGIC.len();
    let mut next = |what: &str| -> Result<(Pickle, usize)> {
        let rest = bytes.get(at..).unwrap_or_default();
        let pickle = Pickle::read(rest).map_err(|e| match e {
            Error::Malformed(text) => Error::Malformed(format!("legacy .pth, {what}: {text}")),
            other => other,
        })?;
        at += pickle.consumed;
        Ok((pickle, at))
    };
    let (protocol, _) = next("protocol version")?;
    if !matches!(protocol.root(), Value::Int(1001)) {
        return Err(Error::Unsupported("legacy .pth of another protocol than 1001".to_owned()));
    }
    let (machine, _) = next("machine")?;
    if let Value::Dict(pairs) = machine.root() {
        for &(k, v) in pairs {
            if matches!(machine.get(k), Value::Str(s) if s == "little_endian") && *machine.get(v) != Value::Bool(true) {
                return Err(Error::Unsupported("big-endian file; only little-endian files are read".to_owned()));
            }
        }
    }
    let (object, _) = next("object")?;
    let (keys, mut at) = next("list of storages")?;
    let types = storage_types(&object)?;
    let Value::List(keys_list) = keys.root() else {
        return Err(Error::Malformed("legacy .pth: the list of storages is no list".to_owned()));
    };
    let mut ranges = HashMap::new();
    for &id in keys_list {
        let Value::Str(key) = keys.get(id) else {
            return Err(Error::Malformed("legacy .pth: a storage's key is not text".to_owned()));
        };
        let dtype = types
            .get(key.as_str())
            .ok_or_else(|| Error::Malformed("legacy .pth: a storage that no tensor uses".to_owned()))?;
        let truncated = || Error::Malformed("legacy .pth: the file ends inside its storages".to_owned());
        let count = at
            .checked_add(8)
            .and_then(|end| bytes.get(at..end))
            .and_then(|b| <[u8; 8]>::try_from(b).ok())
            .map(i64::from_le_bytes)
            .ok_or_else(truncated)?;
        let start = at + 8;
        let end = usize::try_from(count)
            .ok()
            .and_then(|n| n.checked_mul(dtype.size()))
            .and_then(|n| start.checked_add(n))
            .filter(|&end| end <= bytes.len())
            .ok_or_else(truncated)?;
        ranges.insert(key.clone(), start..end);
        at = end;
    }
    Ok((LegacyStorages { bytes, ranges }, object))
}

fn storage_types(object: &Pickle) -> Result<HashMap<&str, DType>> {
    let mut types = HashMap::new();
    for value in object.values() {
        let storage = match value {
            Value::Storage(storage) => storage,
            _ => continue,
        };
        if types.insert(storage.key.as_str(), storage.dtype).is_some_and(|before| before != storage.dtype) {
            return Err(Error::Malformed("legacy .pth: a storage with two element types".to_owned()));
        }
    }
    Ok(types)
}

impl Storages for LegacyStorages<'_> {
    fn storage(&mut self, storage: &StorageRef) -> Result<Cow<'_, [u8]>> {
        self.ranges
            .get(&storage.key)
            .and_then(|range| self.bytes.get(range.clone()))
            .map(Cow::Borrowed)
            .ok_or_else(|| Error::Malformed(format!("legacy .pth: storage {} is missing", storage.key)))
    }
}
