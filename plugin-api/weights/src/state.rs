//! [`StateDict`]: named tensors as they lie in a checkpoint, in the order of the file.

use half::{bf16, f16};
use indexmap::IndexMap;

use crate::error::{Error, Result, printable};

/// The type of a tensor's elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // the names say it all
pub enum DType {
    F64,
    F32,
    F16,
    BF16,
    I64,
    I32,
    I16,
    I8,
    U64,
    U32,
    U16,
    U8,
    Bool,
}

impl DType {
    /// Bytes one element takes.
    pub fn size(self) -> usize {
        match self {
            Self::F64 | Self::I64 | Self::U64 => 8,
            Self::F32 | Self::I32 | Self::U32 => 4,
            Self::F16 | Self::BF16 | Self::I16 | Self::U16 => 2,
            Self::I8 | Self::U8 | Self::Bool => 1,
        }
    }

    /// Whether elements are floating-point numbers.
    pub fn is_float(self) -> bool {
        matches!(self, Self::F64 | Self::F32 | Self::F16 | Self::BF16)
    }

    /// The usual short name, such as `f32`.
    pub fn name(self) -> &'static str {
        match self {
            Self::F64 => "f64",
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::BF16 => "bf16",
            Self::I64 => "i64",
            Self::I32 => "i32",
            Self::I16 => "i16",
            Self::I8 => "i8",
            Self::U64 => "u64",
            Self::U32 => "u32",
            Self::U16 => "u16",
            Self::U8 => "u8",
            Self::Bool => "bool",
        }
    }
}

impl std::fmt::Display for DType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// A dense array: little-endian elements in C order (last axis fastest).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tensor {
    dtype: DType,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl Tensor {
    /// A tensor over little-endian `bytes` in C order.
    ///
    /// # Errors
    /// If the byte count is not the product of `shape` times the element size.
    pub fn new(dtype: DType, shape: Vec<usize>, bytes: Vec<u8>) -> Result<Self> {
        let expected = shape.iter().try_fold(dtype.size(), |n, &d| n.checked_mul(d)).ok_or_else(|| {
            Error::Malformed(format!("a tensor of shape {shape:?} has more elements than can be counted"))
        })?;
        if expected != bytes.len() {
            return Err(Error::Malformed(format!(
                "a tensor of {dtype} and shape {shape:?} takes {expected} bytes, {} were found",
                bytes.len()
            )));
        }
        Ok(Self { dtype, shape, bytes })
    }

    /// A tensor of `f32` values in C order.
    ///
    /// # Errors
    /// If there are not as many values as `shape` says.
    pub fn from_f32(shape: Vec<usize>, values: &[f32]) -> Result<Self> {
        Self::new(DType::F32, shape, values.iter().flat_map(|v| v.to_le_bytes()).collect())
    }

    /// The element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Lengths of the axes, slowest first; empty for a scalar.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The elements, little-endian, in C order.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// How many elements there are.
    pub fn len(&self) -> usize {
        self.bytes.len() / self.dtype.size()
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// All elements as `f32`, in C order. Integers and `f64` are rounded to nearest.
    pub fn to_f32(&self) -> Vec<f32> {
        fn map<const N: usize>(bytes: &[u8], convert: impl Fn([u8; N]) -> f32) -> Vec<f32> {
            bytes.as_chunks::<N>().0.iter().map(|&c| convert(c)).collect()
        }
        let b = self.bytes.as_slice();
        match self.dtype {
            DType::F64 => map(b, |c| f64::from_le_bytes(c) as f32),
            DType::F32 => map(b, f32::from_le_bytes),
            DType::F16 => map(b, |c| f16::from_le_bytes(c).to_f32()),
            DType::BF16 => map(b, |c| bf16::from_le_bytes(c).to_f32()),
            DType::I64 => map(b, |c| i64::from_le_bytes(c) as f32),
            DType::I32 => map(b, |c| i32::from_le_bytes(c) as f32),
            DType::I16 => map(b, |c| f32::from(i16::from_le_bytes(c))),
            DType::I8 => map(b, |c| f32::from(i8::from_le_bytes(c))),
            DType::U64 => map(b, |c| u64::from_le_bytes(c) as f32),
            DType::U32 => map(b, |c| u32::from_le_bytes(c) as f32),
            DType::U16 => map(b, |c| f32::from(u16::from_le_bytes(c))),
            DType::U8 | DType::Bool => map(b, |[c]| f32::from(c)),
        }
    }

    /// How many elements are NaN, infinite, or infinite once rounded to `f32`.
    pub fn count_non_finite(&self) -> usize {
        fn count<const N: usize>(bytes: &[u8], finite: impl Fn([u8; N]) -> bool) -> usize {
            bytes.as_chunks::<N>().0.iter().filter(|&&c| !finite(c)).count()
        }
        let b = self.bytes.as_slice();
        match self.dtype {
            DType::F64 => count(b, |c| (f64::from_le_bytes(c) as f32).is_finite()),
            DType::F32 => count(b, |c| f32::from_le_bytes(c).is_finite()),
            DType::F16 => count(b, |c| f16::from_le_bytes(c).is_finite()),
            DType::BF16 => count(b, |c| bf16::from_le_bytes(c).is_finite()),
            _ => 0,
        }
    }
}

/// Named tensors in the order of the file they came from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StateDict {
    tensors: IndexMap<String, Tensor>,
}

impl StateDict {
    /// A dictionary without tensors.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a tensor.
    ///
    /// # Errors
    /// If `key` is there already.
    pub fn insert(&mut self, key: impl Into<String>, tensor: Tensor) -> Result<()> {
        match self.tensors.entry(key.into()) {
            indexmap::map::Entry::Occupied(e) => {
                Err(Error::Malformed(format!("tensor `{}` occurs twice", printable(e.key()))))
            }
            indexmap::map::Entry::Vacant(e) => {
                e.insert(tensor);
                Ok(())
            }
        }
    }

    /// The tensor under `key`.
    pub fn get(&self, key: &str) -> Option<&Tensor> {
        self.tensors.get(key)
    }

    /// Takes the tensor under `key` out; the order of the others is kept.
    pub fn remove(&mut self, key: &str) -> Option<Tensor> {
        self.tensors.shift_remove(key)
    }

    /// Keys in order.
    pub fn keys(&self) -> impl ExactSizeIterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// Keys and tensors in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Tensor)> {
        self.tensors.iter().map(|(k, t)| (k.as_str(), t))
    }

    /// How many tensors there are.
    pub fn len(&self) -> usize {
        self.tensors.len()
    }

    /// Whether there is no tensor.
    pub fn is_empty(&self) -> bool {
        self.tensors.is_empty()
    }

    /// How many numbers all tensors hold together.
    pub fn elements(&self) -> usize {
        self.tensors.values().map(Tensor::len).sum()
    }

    /// Removes `prefix` from every key if every key has it (training on several GPUs leaves `module.`).
    pub(crate) fn without_common_prefix(self, prefix: &str) -> Self {
        // The prefix alone is no key of a parameter; such a dictionary keeps its names.
        if self.is_empty() || !self.keys().all(|k| k.len() > prefix.len() && k.starts_with(prefix)) {
            return self;
        }
        let short = |key: String| key.strip_prefix(prefix).map(str::to_owned).unwrap_or(key);
        Self { tensors: self.tensors.into_iter().map(|(k, t)| (short(k), t)).collect() }
    }
}

impl IntoIterator for StateDict {
    type Item = (String, Tensor);
    type IntoIter = indexmap::map::IntoIter<String, Tensor>;

    fn into_iter(self) -> Self::IntoIter {
        self.tensors.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_element_type_reads_as_f32() {
        let one = |dtype, bytes: &[u8]| Tensor::new(dtype, vec![1], bytes.to_vec()).unwrap().to_f32();
        assert_eq!(one(DType::F64, &(-2.5f64).to_le_bytes()), [-2.5]);
        assert_eq!(one(DType::F32, &1.25f32.to_le_bytes()), [1.25]);
        assert_eq!(one(DType::F16, &f16::from_f32(0.5).to_le_bytes()), [0.5]);
        assert_eq!(one(DType::BF16, &bf16::from_f32(-3.0).to_le_bytes()), [-3.0]);
        assert_eq!(one(DType::I64, &(-7i64).to_le_bytes()), [-7.0]);
        assert_eq!(one(DType::I32, &70000i32.to_le_bytes()), [70000.0]);
        assert_eq!(one(DType::I16, &(-300i16).to_le_bytes()), [-300.0]);
        assert_eq!(one(DType::I8, &[0xff]), [-1.0]);
        assert_eq!(one(DType::U8, &[0xff]), [255.0]);
        assert_eq!(one(DType::U16, &[0xff, 0xff]), [65535.0]);
    }

    #[test]
    fn byte_counts_are_checked_without_overflow() {
        assert!(Tensor::new(DType::F32, vec![2, 2], vec![0; 15]).is_err());
        assert!(Tensor::new(DType::F32, vec![usize::MAX, 2], vec![]).is_err());
        assert!(Tensor::new(DType::F32, vec![], vec![0; 4]).is_ok());
    }

    #[test]
    fn non_finite_values_are_counted() {
        let t = Tensor::from_f32(vec![3], &[1.0, f32::NAN, f32::INFINITY]).unwrap();
        assert_eq!(t.count_non_finite(), 2);
        let t = Tensor::new(DType::F64, vec![1], 1e300f64.to_le_bytes().to_vec()).unwrap();
        assert_eq!(t.count_non_finite(), 1, "infinite once rounded to f32");
    }

    #[test]
    fn a_prefix_goes_only_when_all_keys_have_it() {
        let dict = |keys: &[&str]| {
            let mut d = StateDict::new();
            for k in keys {
                d.insert(*k, Tensor::from_f32(vec![], &[0.0]).unwrap()).unwrap();
            }
            d.without_common_prefix("module.")
        };
        assert_eq!(dict(&["module.a", "module.b"]).keys().collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(dict(&["module.a", "b"]).keys().collect::<Vec<_>>(), ["module.a", "b"]);
    }
}
