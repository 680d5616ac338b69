//! What the permitted names of a pickle make: tensors, storages, dictionaries. Nothing is called; data are arranged.

use crate::error::{Error, Result, printable};
use crate::pickle::{Id, StorageRef, TensorRef, Value};
use crate::pickle_global::{Global, permitted};
use crate::pickle_machine::Machine;

/// Bytes in the name of a storage; PyTorch writes a decimal number.
const MAX_STORAGE_NAME: usize = 64;

impl Machine<'_> {
    /// What `module.name` stands for, if it is permitted.
    pub(crate) fn global(&self, module: &str, name: &str) -> Result<Global> {
        permitted(module, name)
            .ok_or_else(|| Error::ForbiddenGlobal { name: printable(&format!("{module}.{name}")), at: self.opcode_at })
    }

    /// REDUCE, NEWOBJ: what Python would do by calling `ids[0](*ids[1])`.
    pub(crate) fn call(&mut self, ids: &[Id]) -> Result<()> {
        let Value::Global(global) = *self.at_index(ids, 0) else {
            let what = self.at_index(ids, 0).describe();
            return Err(self.wrong(format!("a call of {what}")));
        };
        let Value::Tuple(arguments) = self.at_index(ids, 1) else {
            return Err(self.wrong("a call without a tuple of arguments"));
        };
        let value = match global {
            Global::RebuildTensor => Value::Tensor(self.tensor(arguments)?),
            Global::RebuildParameter => match self.at_index(arguments, 0) {
                Value::Tensor(tensor) => Value::Tensor(tensor.clone()),
                other => return Err(self.wrong(format!("a parameter made of {}", other.describe()))),
            },
            Global::Dict => Value::Dict(self.dictionary(arguments)?),
            Global::Size => match self.at_index(arguments, 0) {
                Value::Tuple(sizes) | Value::List(sizes) => Value::Tuple(sizes.clone()),
                other => return Err(self.wrong(format!("a size made of {}", other.describe()))),
            },
            Global::Storage(_) => return Err(self.wrong("a storage inside the pickle itself")),
            Global::Opaque => Value::Opaque("an object"),
        };
        // Containers and shapes copied here count like references, so that copies of copies stay bounded.
        self.references += match &value {
            Value::Dict(d) => d.len(),
            Value::Tuple(t) => t.len(),
            Value::Tensor(t) => t.shape.len(),
            _ => 0,
        };
        self.push(value)
    }

    /// `OrderedDict()`, `OrderedDict([[key, value], ..])`, `defaultdict(factory)`, `dict(other)`.
    fn dictionary(&self, arguments: &[Id]) -> Result<Vec<(Id, Id)>> {
        match arguments.first().map(|&id| self.value(id)) {
            None | Some(Value::Global(_) | Value::None) => Ok(Vec::new()),
            Some(Value::Dict(pairs)) => Ok(pairs.clone()),
            Some(Value::List(items)) => items
                .iter()
                .map(|&id| match self.value(id) {
                    Value::Tuple(pair) | Value::List(pair) => match pair.as_slice() {
                        &[k, v] => Ok((k, v)),
                        _ => Err(self.wrong("a dictionary made of items that are not pairs")),
                    },
                    _ => Err(self.wrong("a dictionary made of items that are not pairs")),
                })
                .collect(),
            Some(other) => Err(self.wrong(format!("a dictionary made of {}", other.describe()))),
        }
    }

    /// `(storage, offset, size, stride, requires_grad, backward_hooks[, metadata])`.
    fn tensor(&self, arguments: &[Id]) -> Result<TensorRef> {
        let Value::Storage(storage) = self.at_index(arguments, 0) else {
            return Err(self.wrong(format!("a tensor over {}", self.at_index(arguments, 0).describe())));
        };
        let offset = self.natural(self.at_index(arguments, 1), "a tensor's offset")?;
        let shape = self.naturals(self.at_index(arguments, 2), "a tensor's size")?;
        let stride = self.naturals(self.at_index(arguments, 3), "a tensor's stride")?;
        if shape.len() != stride.len() {
            return Err(self.wrong(format!("a tensor with {} sizes and {} strides", shape.len(), stride.len())));
        }
        // Lazy negation or conjugation: the stored numbers are not the tensor's numbers.
        if matches!(self.at_index(arguments, 6), Value::Dict(flags) if !flags.is_empty()) {
            return Err(self.wrong("a tensor stored negated or conjugated"));
        }
        Ok(TensorRef { storage: storage.clone(), offset, shape, stride })
    }

    /// `('storage', class, key, location, elements[, view])`.
    pub(crate) fn storage(&self, id: Id) -> Result<StorageRef> {
        let Value::Tuple(parts) = self.value(id) else {
            return Err(self.wrong("a persistent object that is no tuple"));
        };
        if !matches!(self.at_index(parts, 0), Value::Str(kind) if kind == "storage") {
            return Err(
                self.wrong("a persistent object that is no storage (a whole module was saved, not its weights?)")
            );
        }
        let Value::Global(Global::Storage(dtype)) = *self.at_index(parts, 1) else {
            return Err(self.wrong("a storage without an element type"));
        };
        let Value::Str(key) = self.at_index(parts, 2) else {
            return Err(self.wrong("a storage without a name"));
        };
        if key.len() > MAX_STORAGE_NAME {
            return Err(self.wrong(format!("a storage's name has {} bytes", key.len())));
        }
        let elements = self.natural(self.at_index(parts, 4), "a storage's length")?;
        if !matches!(self.at_index(parts, 5), Value::None) {
            return Err(self.wrong("a storage that is a view of another"));
        }
        Ok(StorageRef { key: key.clone(), dtype, elements })
    }

    fn natural(&self, value: &Value, what: &str) -> Result<u64> {
        match value {
            Value::Int(n) => u64::try_from(*n).map_err(|_| self.wrong(format!("{what} of {n}"))),
            other => Err(self.wrong(format!("{what} is {}", other.describe()))),
        }
    }

    fn naturals(&self, value: &Value, what: &str) -> Result<Vec<u64>> {
        const MAX_AXES: usize = 16;
        match value {
            Value::Tuple(ids) | Value::List(ids) if ids.len() <= MAX_AXES => {
                ids.iter().map(|&id| self.natural(self.value(id), what)).collect()
            }
            Value::Tuple(ids) | Value::List(ids) => Err(self.wrong(format!("{what} has {} axes", ids.len()))),
            other => Err(self.wrong(format!("{what} is {}", other.describe()))),
        }
    }
}
