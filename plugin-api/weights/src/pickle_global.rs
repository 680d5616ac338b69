//! The short list of names a pickle may mention, and what each one means to the reader.
//!
//! Python would import and call these; here a name only selects how the reader arranges data it already has.

use crate::state::DType;

/// What a permitted name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Global {
    /// `torch._utils._rebuild_tensor_v2` (and the older `_rebuild_tensor`).
    RebuildTensor,
    /// `torch._utils._rebuild_parameter`: its first argument is the tensor.
    RebuildParameter,
    /// Something that makes a dictionary, such as `collections.OrderedDict`.
    Dict,
    /// `torch.Size`: its argument is the tuple.
    Size,
    /// A storage class, such as `torch.FloatStorage`.
    Storage(DType),
    /// A harmless object whose content does not matter here: options, counters, random states.
    Opaque,
}

/// Looks a name up; `None` means that the file is refused.
pub(crate) fn permitted(module: &str, name: &str) -> Option<Global> {
    use Global::*;
    Some(match (module, name) {
        ("torch._utils", "_rebuild_tensor_v2" | "_rebuild_tensor") => RebuildTensor,
        ("torch._utils", "_rebuild_parameter") => RebuildParameter,
        ("collections", "OrderedDict" | "defaultdict") | ("builtins" | "__builtin__", "dict") => Dict,
        ("torch", "Size") => Size,
        // Very old files written from a GPU name the class of the GPU.
        ("torch" | "torch.cuda", storage) if storage.ends_with("Storage") => Storage(storage_type(storage)?),
        ("torch", "device") => Opaque,
        (
            "torch",
            "float16" | "float32" | "float64" | "bfloat16" | "int8" | "int16" | "int32" | "int64" | "uint8" | "bool",
        ) => Opaque,
        ("argparse", "Namespace") | ("types", "SimpleNamespace") | ("collections", "Counter" | "deque") => Opaque,
        (
            "builtins" | "__builtin__",
            "list" | "tuple" | "set" | "frozenset" | "int" | "float" | "bool" | "str" | "bytes" | "bytearray"
            | "complex" | "slice" | "range",
        ) => Opaque,
        ("numpy" | "numpy.dtypes", "dtype" | "ndarray") => Opaque,
        ("numpy", "bool_" | "float16" | "float32" | "float64" | "int32" | "int64" | "uint8") => Opaque,
        (
            "numpy.core.multiarray" | "numpy._core.multiarray",
            "scalar" | "_reconstruct", // scalars and arrays in a trainer's dictionary
        ) => Opaque,
        ("_codecs", "encode") => Opaque, // how protocol 2 writes bytes
        ("pathlib" | "pathlib._local", "Path" | "PosixPath" | "PurePosixPath" | "WindowsPath" | "PureWindowsPath") => {
            Opaque
        }
        ("datetime", "datetime" | "date" | "timedelta") => Opaque,
        _ => return None,
    })
}

fn storage_type(class: &str) -> Option<DType> {
    Some(match class {
        "DoubleStorage" => DType::F64,
        "FloatStorage" => DType::F32,
        "HalfStorage" => DType::F16,
        "BFloat16Storage" => DType::BF16,
        "LongStorage" => DType::I64,
        "IntStorage" => DType::I32,
        "ShortStorage" => DType::I16,
        "CharStorage" => DType::I8,
        "ByteStorage" => DType::U8,
        "BoolStorage" => DType::Bool,
        _ => return None, // complex, quantised: refused by name
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_runs_code_is_permitted() {
        for (module, name) in [
            ("posix", "system"),
            ("nt", "system"),
            ("os", "system"),
            ("subprocess", "Popen"),
            ("builtins", "eval"),
            ("builtins", "exec"),
            ("builtins", "getattr"),
            ("builtins", "__import__"),
            ("torch", "load"),
            ("torch.hub", "load"),
            ("torch", "ComplexFloatStorage"),
            ("torch._utils", "_rebuild_qtensor"),
            ("functools", "partial"),
            ("", ""),
        ] {
            assert_eq!(permitted(module, name), None, "{module}.{name}");
        }
    }
}
