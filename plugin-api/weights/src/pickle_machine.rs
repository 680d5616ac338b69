//! The opcodes of a pickle: bytes to values, on a stack, with a memo. What a name stands for is decided in
//! [`crate::pickle_objects`].

use std::collections::HashMap;

use crate::error::{Error, Result};
use crate::pickle::{Id, Value};

/// Values a pickle may hold; a trainer's checkpoint of a large network holds some ten thousands.
const MAX_VALUES: usize = 2_000_000;
/// References held by tuples, lists, dictionaries and the stack together.
const MAX_REFERENCES: usize = 8_000_000;

/// The stack machine, part way through a pickle.
pub(crate) struct Machine<'a> {
    bytes: &'a [u8],
    /// The next byte.
    pub at: usize,
    /// The byte of the opcode at work, for error texts.
    pub opcode_at: usize,
    pub values: Vec<Value>,
    stack: Vec<Id>,
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
    pub references: usize,
}

impl<'a> Machine<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            at: 0,
            opcode_at: 0,
            values: Vec::new(),
            stack: Vec::new(),
            marks: Vec::new(),
            memo: HashMap::new(),
            references: 0,
        }
    }

    /// Reads up to and with STOP; the value on top of the stack.
    pub(crate) fn run(&mut self) -> Result<Id> {
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

    pub(crate) fn push(&mut self, value: Value) -> Result<()> {
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

    pub(crate) fn value(&self, id: Id) -> &Value {
        self.values.get(id as usize).unwrap_or(&Value::None)
    }

    pub(crate) fn at_index(&self, ids: &[Id], index: usize) -> &Value {
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

    /// An error at the opcode at work.
    pub(crate) fn wrong(&self, problem: impl std::fmt::Display) -> Error {
        Error::Malformed(format!("pickle, byte {}: {problem}", self.opcode_at))
    }
}
