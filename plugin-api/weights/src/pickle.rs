//! A reader of Python pickles that can arrange data and nothing else.
//!
//! It understands the opcodes PyTorch's checkpoints are written with (protocols 2 to 5), keeps every value in one arena
//! (so hostile nesting, cycles and shared values cost neither stack nor exponential memory), and refuses by name every
//! global outside [`crate::pickle_global`]. Nothing is imported, called or executed. Every length is compared with the
//! bytes that are there before anything is allocated.
//!
//! Opcodes: CPython's `Lib/pickletools.py` (their documentation); tensors: `torch/_utils.py`, `_rebuild_tensor_v2`.

use std::collections::HashMap;

use crate::error::{Error, Result};
use crate::pickle_global::{Global, permitted};
use crate::state::DType;

/// Index of a value in its [`Pickle`].
pub(crate) type Id = u32;

/// Values a pickle may hold; a trainer's checkpoint of a large network holds some ten thousands.
const MAX_VALUES: usize = 2_000_000;
/// References held by tuples, lists, dictionaries and the stack together.
const MAX_REFERENCES: usize = 8_000_000;

/// Bytes in the name of a storage; PyTorch writes a decimal number.
const MAX_STORAGE_NAME: usize = 64;

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
        let mut machine = Machine {
            bytes,
            at: 0,
            opcode_at: 0,
            values: Vec::new(),
            stack: Vec::new(),
            marks: Vec::new(),
            memo: HashMap::new(),
            references: 0,
        };
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

struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    opcode_at: usize,
    values: Vec<Value>,
    stack: Vec<Id>,
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
    references: usize,
}

impl<'a> Machine<'a> {
    fn run(&mut self) -> Result<Id> {
        loop {
            self.opcode_at = self.at;
            let [opcode] = self.array::<1>()?;
            match opcode {
                0x80 => {
                    let [protocol] = self.array::<1>()?;
                    if protocol > 5 {
                        return Err(self.wrong(format!("protocol {protocol}; 2 to 5 are read")));
                    }
                }
                0x95 => {
                    self.take(8)?; // FRAME: a hint for buffered readers
                }
                b'.' => {
                    let root = self.pop()?;
                    return Ok(root);
                }
                b'N' => self.push(Value::None)?,
                0x88 => self.push(Value::Bool(true))?,
                0x89 => self.push(Value::Bool(false))?,
                b'J' => {
                    let n = i32::from_le_bytes(self.array()?);
                    self.push(Value::Int(n.into()))?;
                }
                b'K' => {
                    let [n] = self.array::<1>()?;
                    self.push(Value::Int(n.into()))?;
                }
                b'M' => {
                    let n = u16::from_le_bytes(self.array()?);
                    self.push(Value::Int(n.into()))?;
                }
                0x8a => {
                    let [n] = self.array::<1>()?;
                    self.long(n.into())?;
                }
                0x8b => {
                    let n = self.length4()?;
                    self.long(n)?;
                }
                b'G' => {
                    let x = f64::from_be_bytes(self.array()?);
                    self.push(Value::Float(x))?;
                }
                b'X' => {
                    let n = self.length4()?;
                    self.text(n)?;
                }
                0x8c => {
                    let [n] = self.array::<1>()?;
                    self.text(n.into())?;
                }
                0x8d => {
                    let n = self.length8()?;
                    self.text(n)?;
                }
                b'U' => {
                    let [n] = self.array::<1>()?;
                    self.text(n.into())?; // Python 2 str: keys of very old files
                }
                b'T' => {
                    let n = self.length4()?;
                    self.text(n)?;
                }
                b'B' => {
                    let n = self.length4()?;
                    self.opaque_bytes(n)?;
                }
                b'C' => {
                    let [n] = self.array::<1>()?;
                    self.opaque_bytes(n.into())?;
                }
                0x8e | 0x96 => {
                    let n = self.length8()?;
                    self.opaque_bytes(n)?;
                }
                b')' => self.push(Value::Tuple(Vec::new()))?,
                b']' => self.push(Value::List(Vec::new()))?,
                b'}' => self.push(Value::Dict(Vec::new()))?,
                0x8f => self.push(Value::Opaque("a set"))?,
                b'(' => self.marks.push(self.stack.len()),
                b't' => {
                    let items = self.pop_to_mark()?;
                    self.push(Value::Tuple(items))?;
                }
                0x85..=0x87 => {
                    let items = self.pop_many(usize::from(opcode - 0x84))?;
                    self.push(Value::Tuple(items))?;
                }
                b'l' => {
                    let items = self.pop_to_mark()?;
                    self.push(Value::List(items))?;
                }
                b'd' => {
                    let items = self.pop_to_mark()?;
                    let pairs = self.pairs(&items)?;
                    self.push(Value::Dict(pairs))?;
                }
                b'a' => {
                    let items = self.pop_many(1)?;
                    self.extend_list(items)?;
                }
                b'e' => {
                    let items = self.pop_to_mark()?;
                    self.extend_list(items)?;
                }
                b's' => {
                    let items = self.pop_many(2)?;
                    self.extend_dict(&items)?;
                }
                b'u' => {
                    let items = self.pop_to_mark()?;
                    self.extend_dict(&items)?;
                }
                0x90 => {
                    self.pop_to_mark()?;
                    if !matches!(self.top()?, Value::Opaque(_)) {
                        return Err(self.wrong("ADDITEMS without a set"));
                    }
                }
                0x91 => {
                    self.pop_to_mark()?;
                    self.push(Value::Opaque("a set"))?;
                }
                b'0' => {
                    self.pop()?;
                }
                b'1' => {
                    self.pop_to_mark()?;
                }
                b'2' => {
                    let id = *self.stack.last().ok_or_else(|| self.wrong("DUP on an empty stack"))?;
                    self.push_id(id)?;
                }
                b'q' => {
                    let [n] = self.array::<1>()?;
                    self.put(n.into())?;
                }
                b'r' => {
                    let n = u32::from_le_bytes(self.array()?);
                    self.put(n)?;
                }
                0x94 => self.put(u32::try_from(self.memo.len()).unwrap_or(u32::MAX))?,
                b'h' => {
                    let [n] = self.array::<1>()?;
                    self.recall(n.into())?;
                }
                b'j' => {
                    let n = u32::from_le_bytes(self.array()?);
                    self.recall(n)?;
                }
                b'c' => {
                    let module = self.line()?;
                    let name = self.line()?;
                    let global = self.global(&module, &name)?;
                    self.push(Value::Global(global))?;
                }
                // INST creates an object of a class named in the text; only protocol 0 has it.
                b'i' => {
                    let module = self.line()?;
                    let name = self.line()?;
                    self.global(&module, &name)?;
                    self.pop_to_mark()?;
                    self.push(Value::Opaque("an object"))?;
                }
                0x93 => {
                    let ids = self.pop_many(2)?;
                    let global = match (self.at_index(&ids, 0), self.at_index(&ids, 1)) {
                        (Value::Str(module), Value::Str(name)) => self.global(module, name)?,
                        _ => return Err(self.wrong("STACK_GLOBAL without two texts")),
                    };
                    self.push(Value::Global(global))?;
                }
                b'R' | 0x81 => {
                    let ids = self.pop_many(2)?;
                    self.call(&ids)?;
                }
                0x92 => {
                    let ids = self.pop_many(3)?;
                    self.call(ids.get(..2).unwrap_or_default())?;
                }
                b'b' => {
                    // Sets attributes (such as `_metadata` of an OrderedDict); data never lives there.
                    self.pop()?;
                    match self.top()? {
                        Value::Dict(_) | Value::Opaque(_) => {}
                        other => {
                            let what = other.describe();
                            return Err(self.wrong(format!("BUILD on {what}")));
                        }
                    }
                }
                b'Q' => {
                    let id = self.pop()?;
                    let storage = self.storage(id)?;
                    self.push(Value::Storage(storage))?;
                }
                // EXT1, EXT2, EXT4 name globals by a number that only the writer's program knows.
                0x82..=0x84 => {
                    return Err(Error::ForbiddenGlobal {
                        name: format!("an extension number (opcode 0x{opcode:02x})"),
                        at: self.opcode_at,
                    });
                }
                other => {
                    return Err(self.wrong(format!("opcode 0x{other:02x} is not one that PyTorch's files use")));
                }
            }
        }
    }

    // ---- bytes -------------------------------------------------------------------------------------------------

    fn take(&mut self, n: usize) -> Result<&'a [u8]> {
        let bytes = self.bytes;
        let end = self.at.checked_add(n).filter(|&end| end <= bytes.len());
        let slice = end.and_then(|end| bytes.get(self.at..end));
        let Some(slice) = slice else {
            let left = bytes.len().saturating_sub(self.at);
            return Err(self.wrong(format!("{n} bytes are announced, {left} are left")));
        };
        self.at += n;
        Ok(slice)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    fn length4(&mut self) -> Result<usize> {
        Ok(u32::from_le_bytes(self.array()?) as usize)
    }

    fn length8(&mut self) -> Result<usize> {
        let n = u64::from_le_bytes(self.array()?);
        usize::try_from(n).map_err(|_| self.wrong(format!("{n} bytes are announced")))
    }

    fn line(&mut self) -> Result<String> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let n = rest.iter().position(|&b| b == b'\n').ok_or_else(|| self.wrong("a line without end"))?;
        let text = String::from_utf8_lossy(self.take(n)?).into_owned();
        self.take(1)?;
        Ok(text)
    }

    fn text(&mut self, n: usize) -> Result<()> {
        let text = String::from_utf8_lossy(self.take(n)?).into_owned();
        self.push(Value::Str(text))
    }

    fn opaque_bytes(&mut self, n: usize) -> Result<()> {
        self.take(n)?;
        self.push(Value::Opaque("bytes"))
    }

    /// A two's complement little-endian integer of `n` bytes; one that needs more than 64 bits stays opaque.
    fn long(&mut self, n: usize) -> Result<()> {
        let bytes = self.take(n)?;
        if n > 8 {
            return self.push(Value::Opaque("a large integer"));
        }
        let fill = if bytes.last().is_some_and(|b| b & 0x80 != 0) { 0xff } else { 0 };
        let mut array = [fill; 8];
        for (to, from) in array.iter_mut().zip(bytes) {
            *to = *from;
        }
        self.push(Value::Int(i64::from_le_bytes(array)))
    }

    // ---- stack and memo ----------------------------------------------------------------------------------------

    fn push(&mut self, value: Value) -> Result<()> {
        if self.values.len() >= MAX_VALUES {
            return Err(self.wrong(format!("more than {MAX_VALUES} values")));
        }
        let id = self.values.len() as Id; // below MAX_VALUES
        self.values.push(value);
        self.push_id(id)
    }

    fn push_id(&mut self, id: Id) -> Result<()> {
        self.references += 1;
        if self.references > MAX_REFERENCES {
            return Err(self.wrong(format!("more than {MAX_REFERENCES} references to values")));
        }
        self.stack.push(id);
        Ok(())
    }

    /// Where the current mark's values begin: nothing below may be popped.
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn pop(&mut self) -> Result<Id> {
        if self.stack.len() <= self.floor() {
            return Err(self.wrong("a value is missing on the stack"));
        }
        self.stack.pop().ok_or_else(|| self.wrong("a value is missing on the stack"))
    }

    fn pop_many(&mut self, n: usize) -> Result<Vec<Id>> {
        match self.stack.len().checked_sub(n) {
            Some(start) if start >= self.floor() => Ok(self.stack.split_off(start)),
            _ => Err(self.wrong("values are missing on the stack")),
        }
    }

    fn pop_to_mark(&mut self) -> Result<Vec<Id>> {
        let start = self.marks.pop().ok_or_else(|| self.wrong("a mark is missing"))?;
        if start > self.stack.len() {
            return Err(self.wrong("a mark above the stack"));
        }
        Ok(self.stack.split_off(start))
    }

    fn top(&self) -> Result<&Value> {
        match self.stack.last() {
            Some(&id) if self.stack.len() > self.floor() => Ok(self.value(id)),
            _ => Err(self.wrong("a value is missing on the stack")),
        }
    }

    fn top_mut(&mut self) -> Result<&mut Value> {
        let id = match self.stack.last() {
            Some(&id) if self.stack.len() > self.floor() => id,
            _ => return Err(self.wrong("a value is missing on the stack")),
        };
        let missing = self.wrong("a value is missing");
        self.values.get_mut(id as usize).ok_or(missing)
    }

    fn value(&self, id: Id) -> &Value {
        self.values.get(id as usize).unwrap_or(&Value::None)
    }

    fn at_index(&self, ids: &[Id], index: usize) -> &Value {
        ids.get(index).map_or(&Value::None, |&id| self.value(id))
    }

    fn put(&mut self, key: u32) -> Result<()> {
        let id = *self.stack.last().ok_or_else(|| self.wrong("nothing to remember"))?;
        self.memo.insert(key, id);
        Ok(())
    }

    fn recall(&mut self, key: u32) -> Result<()> {
        let id = *self.memo.get(&key).ok_or_else(|| self.wrong(format!("memo {key} was never written")))?;
        self.push_id(id)
    }

    // ---- containers --------------------------------------------------------------------------------------------

    fn pairs(&self, items: &[Id]) -> Result<Vec<(Id, Id)>> {
        let (pairs, rest) = items.as_chunks::<2>();
        if !rest.is_empty() {
            return Err(self.wrong("a dictionary key without a value"));
        }
        Ok(pairs.iter().map(|&[k, v]| (k, v)).collect())
    }

    fn extend_list(&mut self, items: Vec<Id>) -> Result<()> {
        let wrong = self.wrong("APPEND without a list");
        match self.top_mut()? {
            Value::List(list) => list.extend(items),
            Value::Opaque(_) => {}
            _ => return Err(wrong),
        }
        Ok(())
    }

    fn extend_dict(&mut self, items: &[Id]) -> Result<()> {
        let pairs = self.pairs(items)?;
        let wrong = self.wrong("SETITEM without a dictionary");
        match self.top_mut()? {
            Value::Dict(dict) => dict.extend(pairs),
            Value::Opaque(_) => {}
            _ => return Err(wrong),
        }
        Ok(())
    }

    // ---- names -------------------------------------------------------------------------------------------------

    fn global(&self, module: &str, name: &str) -> Result<Global> {
        permitted(module, name).ok_or_else(|| {
            // The name comes from the file: bounded, and free of control characters, before anybody sees it.
            let shown = format!("{module}.{name}").chars().take(120).filter(|c| !c.is_control()).collect();
            Error::ForbiddenGlobal { name: shown, at: self.opcode_at }
        })
    }

    /// REDUCE, NEWOBJ: what Python would do by calling `ids[0](*ids[1])`.
    fn call(&mut self, ids: &[Id]) -> Result<()> {
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
    fn storage(&self, id: Id) -> Result<StorageRef> {
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

    fn wrong(&self, problem: impl std::fmt::Display) -> Error {
        Error::Malformed(format!("pickle, byte {}: {problem}", self.opcode_at))
    }
}
