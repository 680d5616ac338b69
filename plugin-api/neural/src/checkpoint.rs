//! A checkpoint as a stage sees it: the card, the sizes read off the weights, and the tensors, all checked.

use std::collections::HashMap;

use candle_core::Tensor;
use gantry_plugin::{Call, Error, Result};
use gantry_weights::{Architecture, Card, Hyper, StateDict};

use crate::ComputeDevice;

/// The card's name among the files of a checkpoint.
const CARD: &str = "card.json";

/// A checkpoint whose weights are exactly those of an architecture.
pub struct NetworkCheckpoint {
    /// The card.
    pub card: Card,
    /// Sizes read off the weights.
    pub hyper: Hyper,
    /// The tensors.
    pub weights: NetworkWeights,
}

impl NetworkCheckpoint {
    /// Loads the checkpoint chosen by parameter `param`: its card, and the first file the card names.
    ///
    /// # Errors
    /// [`Error::bad_weights`] if the card or the weights are malformed, or are not of `architecture`.
    pub fn load(call: &Call, param: &str, architecture: &Architecture, device: ComputeDevice) -> Result<Self> {
        let card = Card::from_json(call.checkpoint(param, CARD)?).map_err(bad)?;
        let file = card.files.first().ok_or_else(|| Error::bad_weights("card: names no file"))?;
        let bytes = call.checkpoint(param, &file.path)?;
        Self::from_parts(card, bytes, architecture, device)
    }

    /// Puts a card and the bytes of its weight file together.
    ///
    /// # Errors
    /// As [`NetworkCheckpoint::load`].
    pub fn from_parts(card: Card, bytes: &[u8], architecture: &Architecture, device: ComputeDevice) -> Result<Self> {
        if card.architecture != architecture.name() {
            return Err(Error::bad_weights(format!(
                "card: architecture expected {}, found {}",
                architecture.name(),
                card.architecture
            )));
        }
        let dict = StateDict::from_bytes(bytes.to_vec(), None).map_err(bad)?;
        let hyper = architecture.check(&dict).map_err(bad)?;
        let names = mask_names(&card)?;
        if let Some(expected) = architecture.masks(&hyper).map_err(bad)?
            && names.len() != expected
        {
            return Err(Error::bad_weights(format!(
                "card: these weights take {expected} masks, `caps.masks.names` lists {}",
                names.len()
            )));
        }
        Ok(Self { card, hyper, weights: NetworkWeights::new(dict, device)? })
    }

    /// Names of the masks the network takes, in channel order.
    ///
    /// # Errors
    /// If the card's `caps.masks.names` is not a list of names.
    pub fn masks(&self) -> Result<Vec<String>> {
        mask_names(&self.card)
    }
}

fn mask_names(card: &Card) -> Result<Vec<String>> {
    let Some(names) = card.caps.get("masks").and_then(|caps| caps.get("names")) else { return Ok(Vec::new()) };
    let names = names.as_array().map(|names| names.iter().map(|name| name.as_str().map(str::to_owned)).collect());
    names.flatten().ok_or_else(|| Error::bad_weights("card: `caps.masks.names` is not a list of names"))
}

fn bad(error: impl std::fmt::Display) -> Error {
    Error::bad_weights(error.to_string())
}

/// The tensors of a network by key, in f32; a layer takes what it needs.
pub struct NetworkWeights {
    tensors: HashMap<String, Tensor>,
}

impl NetworkWeights {
    /// Converts every tensor to f32, on `device`.
    ///
    /// # Errors
    /// If a tensor cannot be made.
    pub fn new(dict: StateDict, device: ComputeDevice) -> Result<Self> {
        let tensors = dict.into_iter().map(|(key, tensor)| {
            let made = Tensor::from_vec(tensor.to_f32(), tensor.shape(), &device.candle());
            Ok((key, made.map_err(|error| Error::bad_weights(error.to_string()))?))
        });
        Ok(Self { tensors: tensors.collect::<Result<_>>()? })
    }

    /// Bytes of the tensors not yet taken.
    pub fn bytes(&self) -> u64 {
        self.tensors.values().map(|tensor| 4 * tensor.elem_count() as u64).sum()
    }

    /// Takes the tensor under `key`.
    ///
    /// # Errors
    /// If it is not there, or was taken before.
    pub fn take(&mut self, key: &str) -> candle_core::Result<Tensor> {
        match self.tensors.remove(key) {
            Some(tensor) => Ok(tensor),
            None => candle_core::bail!("weights: no tensor `{key}`, or it was used twice"),
        }
    }

    /// Demands that every tensor was taken: a tensor no layer used means that the network is not the one trained.
    ///
    /// # Errors
    /// Naming one that was left.
    pub fn finish(self) -> candle_core::Result<()> {
        match self.tensors.keys().min() {
            None => Ok(()),
            Some(key) => candle_core::bail!("weights: {} tensors are unused, such as `{key}`", self.tensors.len()),
        }
    }
}
