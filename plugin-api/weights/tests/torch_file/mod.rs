//! Writes small files as `torch.save` does, and files as it never would.
#![allow(dead_code)] // each test program uses its part

use std::io::{Cursor, Write};

/// A pickle under construction; values are written in the order of Python's stack machine.
#[derive(Clone)]
pub struct PickleWriter(pub Vec<u8>);

impl PickleWriter {
    pub fn new() -> Self {
        Self(vec![0x80, 2])
    }
    pub fn op(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }
    pub fn global(self, module: &str, name: &str) -> Self {
        self.op(format!("c{module}\n{name}\n").as_bytes())
    }
    pub fn text(self, text: &str) -> Self {
        self.op(b"X").op(&(text.len() as u32).to_le_bytes()).op(text.as_bytes())
    }
    pub fn int(self, n: i64) -> Self {
        self.op(&[0x8a, 8]).op(&n.to_le_bytes())
    }
    pub fn tuple(mut self, items: &[i64]) -> Self {
        self = self.op(b"(");
        for &n in items {
            self = self.int(n);
        }
        self.op(b"t")
    }
    /// `_rebuild_tensor_v2` over the storage `key` of class `class`.
    pub fn tensor(self, class: &str, key: &str, elements: i64, offset: i64, shape: &[i64], stride: &[i64]) -> Self {
        self.global("torch._utils", "_rebuild_tensor_v2")
            .op(b"((")
            .text("storage")
            .global("torch", class)
            .text(key)
            .text("cpu")
            .int(elements)
            .op(b"tQ")
            .int(offset)
            .tuple(shape)
            .tuple(stride)
            .op(&[0x89]) // requires_grad
            .global("collections", "OrderedDict")
            .op(b")RtR")
    }
    pub fn stop(self) -> Vec<u8> {
        self.op(b".").0
    }
}

/// A zip archive without compression, as `torch.save` writes it.
pub fn archive(entries: &[(&str, &[u8])]) -> Vec<u8> {
    archive_with(zip::CompressionMethod::Stored, entries)
}

pub fn archive_with(method: zip::CompressionMethod, entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let options = zip::write::SimpleFileOptions::default().compression_method(method);
    for (name, bytes) in entries {
        zip.start_file(*name, options).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

/// A file with this `data.pkl` and these storages.
pub fn torch_file(pickle: &[u8], storages: &[(&str, &[u8])]) -> Vec<u8> {
    let names: Vec<String> = storages.iter().map(|(k, _)| format!("w/data/{k}")).collect();
    let mut entries: Vec<(&str, &[u8])> = vec![("w/data.pkl", pickle), ("w/byteorder", b"little")];
    entries.extend(names.iter().zip(storages).map(|(n, (_, b))| (n.as_str(), *b)));
    entries.push(("w/version", b"3\n"));
    archive(&entries)
}

pub fn f32_bytes(values: impl IntoIterator<Item = f32>) -> Vec<u8> {
    values.into_iter().flat_map(f32::to_le_bytes).collect()
}

/// 0, 1, 2, .. as f32.
pub fn counting(n: usize) -> Vec<u8> {
    f32_bytes((0..n).map(|i| i as f32))
}

/// A well-formed file with nested dictionaries, shared storages, options and a random state; small enough to damage
/// thousands of times.
pub fn trainer_file() -> (Vec<u8>, Vec<u8>) {
    let storage = counting(12);
    let pickle = PickleWriter::new()
        .op(b"}(")
        .text("epoch")
        .op(b"K\x04")
        .text("args")
        .global("argparse", "Namespace")
        .op(&[b')', 0x81, b'}', b'('])
        .text("lr")
        .op(b"G")
        .op(&2e-4f64.to_be_bytes())
        .op(b"ub")
        .text("best")
        .global("numpy.core.multiarray", "scalar")
        .global("numpy", "dtype")
        .text("f8")
        .op(&[0x89, 0x88, 0x87, b'R'])
        .global("_codecs", "encode")
        .text("12345678")
        .text("latin1")
        .op(&[0x86, b'R', 0x86, b'R'])
        .text("nets")
        .op(b"}(")
        .text("G")
        .global("collections", "OrderedDict")
        .op(b")Rq\x01(")
        .text("module.a.weight")
        .tensor("FloatStorage", "0", 12, 0, &[3, 4], &[4, 1])
        .text("module.a.bias")
        .tensor("FloatStorage", "0", 12, 2, &[3], &[4])
        .op(b"u}")
        .text("_metadata")
        .global("collections", "OrderedDict")
        .op(b")Rsb")
        .text("D")
        .op(b"}")
        .text("t")
        .tensor("FloatStorage", "0", 12, 0, &[4, 3], &[1, 4])
        .op(b"s")
        .op(b"u")
        .op(b"u")
        .stop();
    (torch_file(&pickle, &[("0", &storage)]), pickle)
}
