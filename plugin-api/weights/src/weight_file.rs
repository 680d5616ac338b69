//! [`WeightFile`]: a checkpoint of any of the formats read, its dictionaries of tensors, and their tensors.

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::Path;

use crate::error::{Error, Part, Result, io, printable};
use crate::pickle::{Id, Pickle, StorageRef, TensorRef, Value};
use crate::pth::TorchZip;
use crate::state::{StateDict, Tensor};
use crate::{legacy, safetensors_file};

/// The name of the top level of a file.
const TOP: &str = ".";
/// Dictionaries inside dictionaries that are looked into.
const MAX_DEPTH: usize = 16;
/// Dictionaries looked at while listing parts.
const MAX_DICTIONARIES: usize = 10_000;
/// Tensors may share storages, so a part may be larger than its file; beyond this factor it is an attack on memory.
const MAX_EXPANSION: u64 = 8;

/// The format of a weight file, told from its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// safetensors.
    Safetensors,
    /// What `torch.save` writes since PyTorch 1.6.
    TorchZip,
    /// What `torch.save` wrote before.
    TorchLegacy,
}

impl std::fmt::Display for Format {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Safetensors => "safetensors",
            Self::TorchZip => "PyTorch",
            Self::TorchLegacy => "PyTorch (before 1.6)",
        })
    }
}

/// Where the elements of a pickle's tensors lie.
pub(crate) trait Storages {
    /// All bytes of one storage.
    fn storage(&mut self, storage: &StorageRef) -> Result<Cow<'_, [u8]>>;
}

/// A weight file in memory. Opening it checks that its format is known; [`Self::load`] reads it.
#[derive(Debug)]
pub struct WeightFile {
    bytes: Vec<u8>,
    format: Format,
}

impl WeightFile {
    /// Reads a file. Its name does not matter.
    ///
    /// # Errors
    /// If it cannot be read, is not a regular file, or is not a weight file.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        // Asked first: opening a pipe would wait for a writer.
        if !std::fs::metadata(path).map_err(io(path))?.is_file() {
            return Err(Error::Unsupported("not a regular file".to_owned()).in_file(path));
        }
        let bytes = std::fs::read(path).map_err(io(path))?;
        Self::from_bytes(bytes).map_err(|e| e.in_file(path))
    }

    /// Takes the content of a weight file.
    ///
    /// # Errors
    /// If the content is of no format that is read; a bare pickle is scanned so that the error can say what it asks for.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self> {
        let format = recognise(&bytes)?;
        Ok(Self { bytes, format })
    }

    /// The content.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The format found.
    pub fn format(&self) -> Format {
        self.format
    }

    /// SHA-256 of the file, lower-case hexadecimal.
    pub fn sha256(&self) -> String {
        crate::card::sha256_hex(&self.bytes)
    }

    /// The dictionaries of tensors in the file, in the file's order.
    ///
    /// # Errors
    /// If the file is malformed or asks for a name that is not permitted.
    pub fn parts(&self) -> Result<Vec<Part>> {
        match self.format {
            Format::Safetensors => {
                let tensors = safetensors_file::read(&self.bytes)?.len();
                Ok(vec![Part { name: TOP.to_owned(), tensors }])
            }
            Format::TorchZip => Ok(shown(&find_parts(&TorchZip::open(&self.bytes)?.1)?)),
            Format::TorchLegacy => Ok(shown(&find_parts(&legacy::open(&self.bytes)?.1)?)),
        }
    }

    /// Reads the tensors of `part` (keys joined by dots; `.` is the top level), or of the only part there is. If every key
    /// begins with `module.`, that is removed.
    ///
    /// # Errors
    /// If the part is not there or not given although there are several, if it holds anything but tensors, or if the
    /// file is malformed.
    pub fn load(&self, part: Option<&str>) -> Result<StateDict> {
        let dict = match self.format {
            Format::Safetensors => {
                let dict = safetensors_file::read(&self.bytes)?;
                if let Some(name) = part.filter(|&name| name != TOP) {
                    let parts = vec![Part { name: TOP.to_owned(), tensors: dict.len() }];
                    return Err(Error::Part { requested: Some(name.to_owned()), parts });
                }
                dict
            }
            Format::TorchZip => {
                let (mut zip, pickle) = TorchZip::open(&self.bytes)?;
                load_part(&pickle, &mut zip, part, self.bytes.len() as u64)?
            }
            Format::TorchLegacy => {
                let (mut storages, pickle) = legacy::open(&self.bytes)?;
                load_part(&pickle, &mut storages, part, self.bytes.len() as u64)?
            }
        };
        Ok(dict.without_common_prefix("module."))
    }
}

impl StateDict {
    /// Reads `part` of a weight file: see [`WeightFile::load`].
    ///
    /// # Errors
    /// As [`WeightFile::open`] and [`WeightFile::load`]; they name the file.
    pub fn load(path: impl AsRef<Path>, part: Option<&str>) -> Result<Self> {
        let path = path.as_ref();
        WeightFile::open(path)?.load(part).map_err(|e| e.in_file(path))
    }

    /// Reads `part` of a weight file's content: see [`WeightFile::load`].
    ///
    /// # Errors
    /// As [`WeightFile::from_bytes`] and [`WeightFile::load`].
    pub fn from_bytes(bytes: Vec<u8>, part: Option<&str>) -> Result<Self> {
        WeightFile::from_bytes(bytes)?.load(part)
    }
}

fn recognise(bytes: &[u8]) -> Result<Format> {
    let no = |what: &str| Err(Error::Unsupported(what.to_owned()));
    if bytes.is_empty() {
        return no("the file is empty");
    }
    if bytes.starts_with(b"PK\x03\x04") {
        return Ok(Format::TorchZip);
    }
    if bytes.starts_with(&legacy::MAGIC) {
        return Ok(Format::TorchLegacy);
    }
    if safetensors_file::looks_like(bytes) {
        return Ok(Format::Safetensors);
    }
    if bytes.starts_with(b"version https://git-lfs") {
        return no("a Git LFS pointer, not the weights; fetch the file itself (git lfs pull)");
    }
    if bytes.starts_with(b"\x89HDF") {
        return no("an HDF5 (Keras) file; .pth and .safetensors are read");
    }
    if bytes.get(257..262) == Some(b"ustar") {
        return no("a tar archive (PyTorch before 0.1.10, or weights packed once more); unpack it first");
    }
    let start = bytes.trim_ascii_start();
    if start.starts_with(b"<") {
        return no("a web page, not weights; the download did not succeed");
    }
    // A pickle by itself, of protocol 2 or later, or of the textual protocol 0.
    if bytes.first() == Some(&0x80) || bytes.last() == Some(&b'.') {
        match Pickle::read(bytes) {
            Err(forbidden @ Error::ForbiddenGlobal { .. }) => return Err(forbidden),
            _ if bytes.first() == Some(&0x80) => {
                return no("a bare pickle, not a file of torch.save; save the state_dict with torch.save");
            }
            _ => {}
        }
    }
    no("neither safetensors nor a file of torch.save")
}

/// A dictionary with at least one tensor in it.
struct Candidate<'p> {
    name: String,
    pairs: &'p [(Id, Id)],
    tensors: usize,
}

fn shown(candidates: &[Candidate<'_>]) -> Vec<Part> {
    candidates.iter().map(|c| Part { name: c.name.clone(), tensors: c.tensors }).collect()
}

fn find_parts(pickle: &Pickle) -> Result<Vec<Candidate<'_>>> {
    let mut found = Vec::new();
    let mut looked_at = 0usize;
    let mut waiting: Vec<(String, &Value, usize)> = vec![(TOP.to_owned(), pickle.root(), 0)];
    while let Some((name, value, depth)) = waiting.pop() {
        let Value::Dict(pairs) = value else { continue };
        looked_at += 1;
        if looked_at > MAX_DICTIONARIES {
            return Err(Error::Malformed(format!("more than {MAX_DICTIONARIES} dictionaries inside each other")));
        }
        let tensors = pairs.iter().filter(|&&(_, v)| matches!(pickle.get(v), Value::Tensor(_))).count();
        if tensors > 0 {
            found.push(Candidate { name: name.clone(), pairs, tensors });
        }
        if depth >= MAX_DEPTH {
            continue;
        }
        // Pushed backwards, so that the first entry is looked at first.
        for &(k, v) in pairs.iter().rev() {
            if let (Value::Str(key), inner @ Value::Dict(_)) = (pickle.get(k), pickle.get(v)) {
                let path = if name == TOP { key.clone() } else { format!("{name}.{key}") };
                if path.len() <= 1024 && waiting.len() < MAX_DICTIONARIES {
                    waiting.push((path, inner, depth + 1));
                }
            }
        }
    }
    Ok(found)
}

fn load_part(pickle: &Pickle, storages: &mut dyn Storages, part: Option<&str>, file_bytes: u64) -> Result<StateDict> {
    // A saved module or a bare tensor is not a dictionary of tensors: say what it is.
    if !matches!(pickle.root(), Value::Dict(_)) {
        let what = pickle.root().describe();
        return Err(Error::Unsupported(format!("the file holds {what}, not a dictionary of tensors")));
    }
    let mut candidates = find_parts(pickle)?;
    let wrong =
        |candidates: &[Candidate<'_>]| Error::Part { requested: part.map(str::to_owned), parts: shown(candidates) };
    if let Some(name) = part {
        if !candidates.iter().any(|c| c.name == name) {
            return Err(wrong(&candidates));
        }
        candidates.retain(|c| c.name == name);
    }
    let [chosen] = candidates.as_slice() else { return Err(wrong(&candidates)) };
    let mut wanted: Vec<(&str, &TensorRef)> = Vec::with_capacity(chosen.tensors);
    for &(k, v) in chosen.pairs {
        let Value::Str(key) = pickle.get(k) else {
            let what = pickle.get(k).describe();
            return Err(Error::Malformed(format!("part {}: a key is {what}, not text", chosen.name)));
        };
        let Value::Tensor(tensor) = pickle.get(v) else {
            let what = pickle.get(v).describe();
            return Err(Error::Malformed(format!(
                "part {}: `{}` is {what}, not a tensor",
                chosen.name,
                printable(key)
            )));
        };
        wanted.push((key, tensor));
    }
    load_tensors(&chosen.name, &wanted, storages, file_bytes)
}

/// Reads these tensors of part `part`, after proving that they lie inside their storages and are not an attack on memory.
pub(crate) fn load_tensors(
    part: &str,
    wanted: &[(&str, &TensorRef)],
    storages: &mut dyn Storages,
    file_bytes: u64,
) -> Result<StateDict> {
    let mut total = 0u64;
    for &(key, tensor) in wanted {
        let bytes = byte_count(tensor).map_err(|e| of_tensor(key, e))?;
        total = total.saturating_add(bytes as u64);
        if total > file_bytes.saturating_mul(MAX_EXPANSION) {
            return Err(Error::Malformed(format!(
                "part {part}: its tensors would take more than {MAX_EXPANSION} times the file's {file_bytes} bytes"
            )));
        }
    }
    read_tensors(wanted, storages)
}

/// Reads each storage once, and keeps it only while another tensor needs it.
fn read_tensors(wanted: &[(&str, &TensorRef)], storages: &mut dyn Storages) -> Result<StateDict> {
    let mut users: HashMap<&str, usize> = HashMap::new();
    for (_, tensor) in wanted {
        *users.entry(tensor.storage.key.as_str()).or_default() += 1;
    }
    let mut kept: HashMap<&str, Vec<u8>> = HashMap::new();
    let mut dict = StateDict::new();
    for &(key, tensor) in wanted {
        let name = tensor.storage.key.as_str();
        let storage = match kept.remove(name) {
            Some(bytes) => bytes,
            None => storages.storage(&tensor.storage).map_err(|e| of_tensor(key, e))?.into_owned(),
        };
        let elements = storage.len() / tensor.storage.dtype.size();
        if elements as u64 != tensor.storage.elements || storage.len() % tensor.storage.dtype.size() != 0 {
            return Err(Error::Malformed(format!(
                "tensor `{}`: its storage has {} bytes, {} elements of {} were announced",
                printable(key),
                storage.len(),
                tensor.storage.elements,
                tensor.storage.dtype
            )));
        }
        let left = users.get_mut(name).map_or(0, |n| {
            *n = n.saturating_sub(1);
            *n
        });
        let shape = tensor.shape.iter().map(|&d| usize::try_from(d)).collect::<Result<Vec<_>, _>>();
        let shape =
            shape.map_err(|_| Error::Malformed(format!("tensor `{}`: shape {:?}", printable(key), tensor.shape)))?;
        let bytes = if left == 0 && covers_whole(tensor) {
            storage
        } else {
            let bytes = gather(tensor, &storage).map_err(|e| of_tensor(key, e))?;
            if left > 0 {
                kept.insert(name, storage);
            }
            bytes
        };
        let loaded = Tensor::new(tensor.storage.dtype, shape, bytes).map_err(|e| of_tensor(key, e))?;
        dict.insert(key, loaded)?;
    }
    Ok(dict)
}

fn of_tensor(key: &str, error: Error) -> Error {
    match error {
        Error::Malformed(text) => Error::Malformed(format!("tensor `{}`: {text}", printable(key))),
        Error::Unsupported(text) => Error::Unsupported(format!("tensor `{}`: {text}", printable(key))),
        other => other,
    }
}

/// Bytes of the dense tensor, after proving that every element lies inside its storage.
fn byte_count(tensor: &TensorRef) -> Result<usize> {
    let outside = || {
        Error::Malformed(format!(
            "shape {:?} with strides {:?} from element {} does not fit its storage of {} elements",
            tensor.shape, tensor.stride, tensor.offset, tensor.storage.elements
        ))
    };
    let elements = tensor.shape.iter().try_fold(1u64, |n, &d| n.checked_mul(d)).ok_or_else(outside)?;
    if elements > 0 {
        let last = tensor
            .shape
            .iter()
            .zip(&tensor.stride)
            .try_fold(tensor.offset, |at, (&d, &s)| at.checked_add((d - 1).checked_mul(s)?))
            .ok_or_else(outside)?;
        // More elements than the storage has: an expanded tensor, which no parameter is.
        if last >= tensor.storage.elements || elements > tensor.storage.elements {
            return Err(outside());
        }
    }
    usize::try_from(elements).ok().and_then(|n| n.checked_mul(tensor.storage.dtype.size())).ok_or_else(outside)
}

fn is_dense(tensor: &TensorRef) -> bool {
    let mut step = 1u64;
    tensor.shape.iter().zip(&tensor.stride).rev().all(|(&d, &s)| {
        let dense = d == 1 || s == step;
        step = step.saturating_mul(d);
        dense
    })
}

fn covers_whole(tensor: &TensorRef) -> bool {
    tensor.offset == 0 && is_dense(tensor) && tensor.shape.iter().product::<u64>() == tensor.storage.elements
}

/// Copies a view out of its storage into C order. `byte_count` has proved that the view fits the storage announced.
fn gather(tensor: &TensorRef, storage: &[u8]) -> Result<Vec<u8>> {
    let outside = || Error::Malformed("a view outside its storage".to_owned());
    let size = tensor.storage.dtype.size();
    let total = byte_count(tensor)?;
    let byte_of = |element: u64| usize::try_from(element).ok().and_then(|n| n.checked_mul(size)).ok_or_else(outside);
    if is_dense(tensor) {
        let start = byte_of(tensor.offset)?;
        let end = start.checked_add(total).ok_or_else(outside)?;
        // An empty view may begin past the end.
        return if total == 0 {
            Ok(Vec::new())
        } else {
            storage.get(start..end).map(<[u8]>::to_vec).ok_or_else(outside)
        };
    }
    let mut bytes = Vec::with_capacity(total);
    let mut index = vec![0u64; tensor.shape.len()];
    let mut element = tensor.offset;
    while bytes.len() < total {
        let start = byte_of(element)?;
        bytes.extend_from_slice(storage.get(start..start + size).ok_or_else(outside)?);
        // The last axis moves fastest; an axis that is through starts again and the next one moves.
        for ((i, &d), &s) in index.iter_mut().zip(&tensor.shape).zip(&tensor.stride).rev() {
            *i += 1;
            element += s;
            if *i < d {
                break;
            }
            *i = 0;
            element -= d * s;
        }
    }
    Ok(bytes)
}
