//! A reader of Python pickles that can arrange data and nothing else.
//!
//! It understands the opcodes PyTorch's checkpoints are written with (protocols 2 to 5), keeps every value in one arena
//! (so hostile nesting, cycles and shared values cost neither stack nor exponential memory), and refuses by name every
//! global outside [`crate::pickle_global`]. Nothing is imported, called or executed. Every length is compared with the
//! bytes that are there before anything is allocated.
//!
//! Opcodes: CPython's `Lib/pickletools.py` (their documentation); tensors: `torch/_utils.py`, `_rebuild_tensor_v2`.

use crate::error::Result;
use crate::pickle_global::Global;
use crate::pickle_machine::Machine;
use crate::state::DType;

/// Index of a value in its [`Pickle`].
pub(crate) type Id = u32;

/// One value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    Str(String),
    Tuple(Vec<Id>),
    List(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    /// A permitted name that has not been called.
    Global(Global),
    Storage(StorageRef),
    Tensor(TensorRef),
    /// Something harmless that is not looked into.
    Opaque(&'static str),
}

impl Value {
    /// What it is, for error texts.
    pub(crate) fn describe(&self) -> &'static str {
        match self {
            Self::None => "None",
            Self::Bool(_) => "a truth value",
            Self::Int(_) | Self::Float(_) => "a number",
            Self::Str(_) => "text",
            Self::Tuple(_) => "a tuple",
            Self::List(_) => "a list",
            Self::Dict(_) => "a dictionary",
            Self::Global(_) => "a class or function",
            Self::Storage(_) => "a bare storage",
            Self::Tensor(_) => "a tensor",
            Self::Opaque(what) => what,
        }
    }
}

/// A block of elements stored outside the pickle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StorageRef {
    /// Name of the block.
    pub key: String,
    pub dtype: DType,
    /// How many elements the pickle says it has.
    pub elements: u64,
}

/// A view of a storage: element `[i, j, ..]` lies at `offset + i * stride[0] + j * stride[1] + ..`, in elements.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TensorRef {
    pub storage: StorageRef,
    pub offset: u64,
    pub shape: Vec<u64>,
    pub stride: Vec<u64>,
}

/// All values of one pickle.
#[derive(Debug)]
pub(crate) struct Pickle {
    values: Vec<Value>,
    root: Id,
    /// Bytes read, up to and with the final STOP.
    pub consumed: usize,
}

impl Pickle {
    /// Reads one pickle from the start of `bytes`.
    pub(crate) fn read(bytes: &[u8]) -> Result<Self> {
        let mut machine = Machine::new(bytes);
        let root = machine.run()?;
        Ok(Self { consumed: machine.at, values: machine.values, root })
    }

    /// The value the pickle is about.
    pub(crate) fn root(&self) -> &Value {
        self.get(self.root)
    }

    /// Every value, in the order of its making.
    pub(crate) fn values(&self) -> &[Value] {
        &self.values
    }

    /// The value under `id`.
    pub(crate) fn get(&self, id: Id) -> &Value {
        self.values.get(id as usize).unwrap_or(&Value::None)
    }
}
