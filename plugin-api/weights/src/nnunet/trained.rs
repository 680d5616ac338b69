//! [`Trained`]: `checkpoint_final.pth`, what nnU-Net's trainer leaves: the weights, and which way of running they belong to.
//!
//! The optimiser's state, as large as the weights, is not loaded. The trainer saves many tensors under several names (each
//! convolution again as a member of its block, the whole encoder again as a part of the decoder); such a copy is
//! recognised by the storage it shares with the original, compared where it has its own, and left out.

use std::collections::HashMap;
use std::path::Path;

use crate::error::{Error, Result, printable};
use crate::legacy;
use crate::pickle::{Pickle, TensorRef, Value};
use crate::pth::TorchZip;
use crate::state::StateDict;
use crate::weight_file::{Format, Storages, WeightFile, load_tensors};

/// Prefixes that wrappers around a module leave in its tensors' names.
const PREFIXES: [&str; 2] = ["module.", "_orig_mod."];

/// A trainer's checkpoint.
#[derive(Debug, Clone, PartialEq)]
pub struct Trained {
    /// The configuration it was trained in, such as `3d_fullres`: the one to run, whatever its folder is called.
    pub configuration: String,
    /// The trainer's class, such as `nnUNetTrainer`; empty where the file does not say.
    pub trainer: String,
    /// The fold it was trained in, such as `0` or `all`; empty where the file does not say.
    pub fold: String,
    /// Axes (0 to 2, in the network's order) along which the training mirrored, so that inference may; empty where it must
    /// not.
    pub mirror_axes: Vec<usize>,
    /// The weights by canonical name, as stored: with all heads, without copies.
    pub weights: StateDict,
}

impl Trained {
    /// The file's name in a fold's folder.
    pub const FILE: &str = "checkpoint_final.pth";

    /// Reads a file.
    ///
    /// # Errors
    /// If it cannot be read, is no checkpoint of nnU-Net's trainer, asks for anything but data, is truncated, or a copy of
    /// a tensor differs from the original.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        Self::read(&WeightFile::open(path)?).map_err(|e| e.in_file(path))
    }

    /// Reads a file already in memory.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn read(file: &WeightFile) -> Result<Self> {
        match file.format() {
            Format::TorchZip => {
                let (mut zip, pickle) = TorchZip::open(file.bytes())?;
                from_pickle(&pickle, &mut zip, file.bytes().len() as u64)
            }
            Format::TorchLegacy => {
                let (mut storages, pickle) = legacy::open(file.bytes())?;
                from_pickle(&pickle, &mut storages, file.bytes().len() as u64)
            }
            Format::Safetensors => {
                Err(Error::Unsupported("safetensors; a checkpoint of nnU-Net's trainer (.pth) expected".to_owned()))
            }
        }
    }
}

fn from_pickle(pickle: &Pickle, storages: &mut dyn Storages, file_bytes: u64) -> Result<Trained> {
    let not_a_trainers = |problem: &str| {
        Error::Unsupported(format!("{problem}; a checkpoint of nnU-Net v2's trainer expected (checkpoint_final.pth)"))
    };
    let root = pickle.root();
    if !matches!(root, Value::Dict(_)) {
        return Err(not_a_trainers(&format!("the file holds {}", root.describe())));
    }
    if field(pickle, root, "plans").is_some() && field(pickle, root, "state_dict").is_some() {
        return Err(not_a_trainers("a checkpoint of nnU-Net version 1"));
    }
    let need = |key: &str| field(pickle, root, key).ok_or_else(|| not_a_trainers(&format!("the file has no `{key}`")));
    let init = need("init_args")?;
    let configuration = field(pickle, init, "configuration")
        .and_then(text)
        .ok_or_else(|| not_a_trainers("`init_args` names no `configuration`"))?;
    let fold = match field(pickle, init, "fold") {
        Some(Value::Int(n)) => n.to_string(),
        Some(Value::Str(name)) => printable(name),
        _ => String::new(),
    };
    Ok(Trained {
        configuration,
        trainer: field(pickle, root, "trainer_name").and_then(text).unwrap_or_default(),
        fold,
        mirror_axes: mirror_axes(pickle, field(pickle, root, "inference_allowed_mirroring_axes"))?,
        weights: weights(pickle, need("network_weights")?, storages, file_bytes)?,
    })
}

fn field<'p>(pickle: &'p Pickle, dict: &'p Value, key: &str) -> Option<&'p Value> {
    let Value::Dict(pairs) = dict else { return None };
    // The last one counts, as in Python.
    let found = pairs.iter().rev().find(|&&(k, _)| matches!(pickle.get(k), Value::Str(name) if name == key));
    found.map(|&(_, v)| pickle.get(v))
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::Str(text) => Some(printable(text)),
        _ => None,
    }
}

fn mirror_axes(pickle: &Pickle, value: Option<&Value>) -> Result<Vec<usize>> {
    let wrong = || {
        Error::Unsupported("`inference_allowed_mirroring_axes`: None or different axes from 0 to 2 expected".to_owned())
    };
    let ids = match value {
        None | Some(Value::None) => return Ok(Vec::new()),
        Some(Value::Tuple(ids) | Value::List(ids)) => ids,
        Some(_) => return Err(wrong()),
    };
    let mut axes = Vec::new();
    for &id in ids {
        match pickle.get(id) {
            &Value::Int(axis @ 0..=2) if !axes.contains(&(axis as usize)) => axes.push(axis as usize),
            _ => return Err(wrong()),
        }
    }
    axes.sort_unstable();
    Ok(axes)
}

/// The name without wrappers' prefixes.
fn stripped(mut name: &str) -> &str {
    while let Some(rest) = PREFIXES.iter().find_map(|prefix| name.strip_prefix(prefix)) {
        name = rest;
    }
    name
}

/// The canonical name of a tensor that is registered a second time; `None` for an original.
fn original(name: &str) -> Option<String> {
    let encoder = name.strip_prefix("decoder.encoder.").map(|rest| format!("encoder.{rest}"));
    let plain = encoder.as_deref().unwrap_or(name);
    // A block's members in their order: convolution, normalisation. (With dropout or another order its plans are refused.)
    let member = [(".all_modules.0.", ".conv."), (".all_modules.1.", ".norm.")]
        .into_iter()
        .find(|(copy, _)| plain.contains(copy))
        .map(|(copy, original)| plain.replace(copy, original));
    member.or(encoder)
}

fn weights(pickle: &Pickle, value: &Value, storages: &mut dyn Storages, file_bytes: u64) -> Result<StateDict> {
    let Value::Dict(pairs) = value else {
        let what = value.describe();
        return Err(Error::Unsupported(format!("`network_weights` is {what}, not a dictionary of tensors")));
    };
    let mut originals: Vec<(&str, &TensorRef)> = Vec::new();
    let mut copies: Vec<(String, &str, &TensorRef)> = Vec::new();
    for &(k, v) in pairs {
        let (Value::Str(key), Value::Tensor(tensor)) = (pickle.get(k), pickle.get(v)) else {
            let (k, v) = (pickle.get(k), pickle.get(v));
            return Err(Error::Malformed(format!("`network_weights` has {} under {}", v.describe(), k.describe())));
        };
        let name = stripped(key);
        match original(name) {
            Some(of) => copies.push((of, name, tensor)),
            None => originals.push((name, tensor)),
        }
    }
    let by_name: HashMap<&str, &TensorRef> = originals.iter().copied().collect();
    let mut apart: Vec<(&str, &TensorRef)> = Vec::new();
    let mut pairs_apart: Vec<(&str, &str)> = Vec::new();
    for (of, name, tensor) in &copies {
        match by_name.get(of.as_str()) {
            // Where the original is missing, the network's check says so.
            None => {}
            Some(original) if original == tensor => {}
            Some(_) => {
                apart.push((name, tensor));
                pairs_apart.push((of, name));
            }
        }
    }
    let loaded = load_tensors("network_weights", &originals, storages, file_bytes)?;
    if !apart.is_empty() {
        let second = load_tensors("network_weights", &apart, storages, file_bytes)?;
        for (of, name) in pairs_apart {
            if loaded.get(of) != second.get(name) {
                return Err(Error::Malformed(format!(
                    "`{}` is stored twice with different values (again as `{}`)",
                    printable(of),
                    printable(name)
                )));
            }
        }
    }
    Ok(loaded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_lead_back_to_their_originals() {
        for (copy, of) in [
            ("encoder.stages.0.0.convs.1.all_modules.0.weight", "encoder.stages.0.0.convs.1.conv.weight"),
            ("decoder.encoder.stem.convs.0.norm.bias", "encoder.stem.convs.0.norm.bias"),
            (
                "decoder.encoder.stages.1.blocks.0.skip.1.all_modules.1.bias",
                "encoder.stages.1.blocks.0.skip.1.norm.bias",
            ),
            ("decoder.stages.0.convs.0.all_modules.1.weight", "decoder.stages.0.convs.0.norm.weight"),
        ] {
            assert_eq!(original(copy).as_deref(), Some(of));
            assert_eq!(original(of), None);
        }
        assert_eq!(stripped("module._orig_mod.encoder.x"), "encoder.x");
    }
}
