//! The safetensors format, through the crate of that name.

use safetensors::tensor::{Dtype, Metadata, TensorView};
use safetensors::{SafeTensors, serialize};

use crate::error::{Error, Result, printable};
use crate::state::{DType, StateDict, Tensor};

/// Whether `bytes` begin like a safetensors file: the header's length, then a JSON object.
pub(crate) fn looks_like(bytes: &[u8]) -> bool {
    bytes.get(8) == Some(&b'{') && bytes.get(6..8) == Some(&[0, 0])
}

/// Reads all tensors, in the order of their bytes in the file.
///
/// # Errors
/// If the header or the sizes are wrong, or an element type is not one that weights have.
pub(crate) fn read(bytes: &[u8]) -> Result<StateDict> {
    let broken = |e| Error::Malformed(format!("safetensors: {e}"));
    let (_, header): (usize, Metadata) = SafeTensors::read_metadata(bytes).map_err(broken)?;
    let file = SafeTensors::deserialize(bytes).map_err(broken)?;
    let mut dict = StateDict::new();
    for key in header.offset_keys() {
        let view = file.tensor(&key).map_err(broken)?;
        let dtype = dtype_of(view.dtype()).ok_or_else(|| {
            Error::Unsupported(format!("tensor `{}` has the element type {:?}", printable(&key), view.dtype()))
        })?;
        dict.insert(key, Tensor::new(dtype, view.shape().to_vec(), view.data().to_vec())?)?;
    }
    Ok(dict)
}

/// The bytes of a safetensors file with these tensors. Equal dictionaries give equal bytes, whatever their order: tensors are
/// laid out by element size, then by name.
///
/// # Errors
/// If the format cannot hold them (it can hold every [`StateDict`] made by this crate).
pub fn to_safetensors(dict: &StateDict) -> Result<Vec<u8>> {
    let mut keys: Vec<&str> = dict.keys().collect();
    keys.sort_unstable();
    let mut views = Vec::with_capacity(keys.len());
    for key in keys {
        let Some(tensor) = dict.get(key) else { continue };
        let view = TensorView::new(dtype_as(tensor.dtype()), tensor.shape().to_vec(), tensor.bytes())
            .map_err(|e| Error::Malformed(format!("tensor `{key}`: {e}")))?;
        views.push((key, view));
    }
    // One entry only: the crate writes metadata in the order of a hash map.
    let metadata = std::collections::HashMap::from([("format".to_owned(), "pt".to_owned())]);
    serialize(views, Some(metadata)).map_err(|e| Error::Malformed(format!("safetensors: {e}")))
}

fn dtype_of(dtype: Dtype) -> Option<DType> {
    Some(match dtype {
        Dtype::F64 => DType::F64,
        Dtype::F32 => DType::F32,
        Dtype::F16 => DType::F16,
        Dtype::BF16 => DType::BF16,
        Dtype::I64 => DType::I64,
        Dtype::I32 => DType::I32,
        Dtype::I16 => DType::I16,
        Dtype::I8 => DType::I8,
        Dtype::U64 => DType::U64,
        Dtype::U32 => DType::U32,
        Dtype::U16 => DType::U16,
        Dtype::U8 => DType::U8,
        Dtype::BOOL => DType::Bool,
        _ => return None,
    })
}

fn dtype_as(dtype: DType) -> Dtype {
    match dtype {
        DType::F64 => Dtype::F64,
        DType::F32 => Dtype::F32,
        DType::F16 => Dtype::F16,
        DType::BF16 => Dtype::BF16,
        DType::I64 => Dtype::I64,
        DType::I32 => Dtype::I32,
        DType::I16 => Dtype::I16,
        DType::I8 => Dtype::I8,
        DType::U64 => Dtype::U64,
        DType::U32 => Dtype::U32,
        DType::U16 => Dtype::U16,
        DType::U8 => Dtype::U8,
        DType::Bool => Dtype::BOOL,
    }
}
