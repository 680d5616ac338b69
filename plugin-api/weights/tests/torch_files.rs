//! Well-formed `.pth` files of every shape that occurs: views, shared storages, nested dictionaries, old formats.

mod torch_file;

use gantry_weights::{DType, Error, Format, StateDict, WeightFile};
use torch_file::{PickleWriter, archive, archive_with, counting, f32_bytes, torch_file, trainer_file};

fn one_tensor(elements: i64, offset: i64, shape: &[i64], stride: &[i64]) -> gantry_weights::Result<StateDict> {
    let pickle = PickleWriter::new()
        .op(b"}")
        .text("w")
        .tensor("FloatStorage", "0", elements, offset, shape, stride)
        .op(b"s")
        .stop();
    StateDict::from_bytes(torch_file(&pickle, &[("0", &counting(12))]), None)
}

fn values(dict: &StateDict, key: &str) -> Vec<f32> {
    dict.get(key).unwrap().to_f32()
}

#[test]
fn views_are_laid_out_in_c_order() {
    let dict = one_tensor(12, 0, &[4, 3], &[1, 4]).unwrap();
    assert_eq!(values(&dict, "w"), [0., 4., 8., 1., 5., 9., 2., 6., 10., 3., 7., 11.], "transposed");
    assert_eq!(dict.get("w").unwrap().shape(), [4, 3]);
    assert_eq!(values(&one_tensor(12, 1, &[2, 2], &[6, 2]).unwrap(), "w"), [1., 3., 7., 9.], "strided");
    assert_eq!(values(&one_tensor(12, 5, &[3], &[1]).unwrap(), "w"), [5., 6., 7.], "a slice");
    assert_eq!(values(&one_tensor(12, 11, &[], &[]).unwrap(), "w"), [11.], "a scalar");
    assert_eq!(values(&one_tensor(12, 4, &[1, 2, 1], &[999, 3, -0]).unwrap(), "w"), [4., 7.], "axes of length 1");
    assert!(one_tensor(12, 99, &[0, 3], &[3, 1]).unwrap().get("w").unwrap().is_empty());
    // [2, 3, 2] of a permuted [2, 2, 3]
    assert_eq!(
        values(&one_tensor(12, 0, &[2, 3, 2], &[6, 1, 3]).unwrap(), "w"),
        [0., 3., 1., 4., 2., 5., 6., 9., 7., 10., 8., 11.]
    );
}

#[test]
fn views_outside_their_storage_are_refused() {
    for (elements, offset, shape, stride) in [
        (12, 0, vec![13], vec![1]),
        (12, 12, vec![1], vec![1]),
        (12, 0, vec![2, 2], vec![11, 2]),
        (12, 0, vec![4, 4], vec![0, 0]),
        (12, 0, vec![1 << 40], vec![0]),
        (12, 0, vec![i64::MAX, i64::MAX], vec![1, 1]),
        (12, 0, vec![2], vec![i64::MAX]),
        (12, i64::MAX, vec![2], vec![i64::MAX]),
        (11, 0, vec![11], vec![1]), // the storage has 12
        (1 << 60, 0, vec![1], vec![1]),
        (12, -1, vec![1], vec![1]),
        (12, 0, vec![-1], vec![1]),
        (12, 0, vec![1, 2], vec![1]),
        (12, 0, vec![1; 17], vec![1; 17]),
    ] {
        let error = one_tensor(elements, offset, &shape, &stride).unwrap_err();
        assert!(matches!(error, Error::Malformed(_)), "{shape:?} {stride:?}: {error}");
    }
}

#[test]
fn parts_of_a_trainers_dictionary() {
    let file = WeightFile::from_bytes(trainer_file().0).unwrap();
    assert_eq!(file.format(), Format::TorchZip);
    let parts: Vec<_> = file.parts().unwrap().into_iter().map(|p| (p.name, p.tensors)).collect();
    assert_eq!(parts, [("nets.G".to_owned(), 2), ("nets.D".to_owned(), 1)]);
    let error = file.load(None).unwrap_err().to_string();
    assert!(error.ends_with("choose one with --part: nets.G (2 tensors), nets.D (1 tensor)"), "{error}");
    let error = file.load(Some("nets.X")).unwrap_err().to_string();
    assert!(error.starts_with("there is no part `nets.X`; the file holds: nets.G"), "{error}");
    let g = file.load(Some("nets.G")).unwrap();
    assert_eq!(g.keys().collect::<Vec<_>>(), ["a.weight", "a.bias"], "module. is removed");
    assert_eq!(values(&g, "a.weight"), (0..12).map(|i| i as f32).collect::<Vec<_>>());
    assert_eq!(values(&g, "a.bias"), [2., 6., 10.], "a view into the shared storage");
    assert_eq!(values(&file.load(Some("nets.D")).unwrap(), "t")[..4], [0., 4., 8., 1.]);
}

#[test]
fn parameters_sizes_and_element_types() {
    let pickle = PickleWriter::new()
        .op(b"}(")
        .text("p")
        .global("torch._utils", "_rebuild_parameter")
        .op(b"(")
        .tensor("FloatStorage", "0", 2, 0, &[2], &[1])
        .op(&[0x88])
        .global("collections", "OrderedDict")
        .op(b")RtR")
        .text("n")
        .tensor("LongStorage", "1", 1, 0, &[], &[])
        .text("b")
        .tensor("BFloat16Storage", "2", 1, 0, &[1], &[1])
        .op(b"u")
        .stop();
    let file = torch_file(&pickle, &[("0", &f32_bytes([1.5, -2.0])), ("1", &7i64.to_le_bytes()), ("2", &[0x40, 0xc0])]);
    let dict = StateDict::from_bytes(file, None).unwrap();
    assert_eq!(values(&dict, "p"), [1.5, -2.0]);
    assert_eq!((dict.get("n").unwrap().dtype(), values(&dict, "n")), (DType::I64, vec![7.0]));
    assert_eq!((dict.get("b").unwrap().dtype(), values(&dict, "b")), (DType::BF16, vec![-3.0]));
}

#[test]
fn something_else_among_the_tensors_is_named() {
    let pickle = PickleWriter::new()
        .op(b"}(")
        .text("w")
        .tensor("FloatStorage", "0", 12, 0, &[12], &[1])
        .text("epoch")
        .op(b"K\x01u")
        .stop();
    let error = StateDict::from_bytes(torch_file(&pickle, &[("0", &counting(12))]), None).unwrap_err().to_string();
    assert_eq!(error, "part .: `epoch` is a number, not a tensor");
}

#[test]
fn a_tensor_written_twice_is_refused() {
    let pickle = PickleWriter::new()
        .op(b"}(")
        .text("w")
        .tensor("FloatStorage", "0", 12, 0, &[12], &[1])
        .text("w")
        .tensor("FloatStorage", "0", 12, 0, &[12], &[1])
        .op(b"u")
        .stop();
    let error = StateDict::from_bytes(torch_file(&pickle, &[("0", &counting(12))]), None).unwrap_err().to_string();
    assert_eq!(error, "tensor `w` occurs twice");
}

#[test]
fn other_archives_are_refused_by_name() {
    let pickle = PickleWriter::new().op(b"}").stop();
    let refusal = |bytes: Vec<u8>| StateDict::from_bytes(bytes, None).unwrap_err().to_string();
    let big = archive(&[("w/data.pkl", &pickle), ("w/byteorder", b"big")]);
    assert_eq!(refusal(big), "byte order `big`; only little-endian files are read");
    assert!(refusal(archive(&[("a.txt", b"x")])).contains("no data.pkl"));
    assert!(refusal(archive(&[("w/data.pkl", &pickle), ("v/data.pkl", &pickle)])).contains("two pickles"));
    assert!(refusal(archive(&[("w/data.pkl", &pickle), ("w/constants.pkl", b"x")])).contains("TorchScript"));
    let zeros = vec![0u8; 1 << 16];
    let deflated = archive_with(zip::CompressionMethod::Deflated, &[("w/data.pkl", &zeros)]);
    assert!(refusal(deflated).contains("compressed"));
    assert!(refusal(torch_file(&pickle, &[])).contains("no dictionary of tensors"));
    assert!(refusal(torch_file(&PickleWriter::new().op(b"K\x01").stop(), &[])).contains("holds a number"));
}

#[test]
fn other_files_are_refused_by_name() {
    let mut tar = vec![0u8; 512];
    tar[257..262].copy_from_slice(b"ustar");
    for (bytes, says) in [
        (&b""[..], "empty"),
        (b"hello world, this is text\n", "neither safetensors nor"),
        (b"<!DOCTYPE html><html>", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "Git LFS pointer"),
        (b"\x89HDF\r\n\x1a\n", "HDF5"),
        (b"\x80\x02}.", "bare pickle"),
        (&tar, "tar archive"),
    ] {
        let error = WeightFile::from_bytes(bytes.to_vec()).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
    assert!(WeightFile::open("/dev/null").unwrap_err().to_string().contains("not a regular file"));
    assert!(matches!(WeightFile::open("/nowhere/w.pth"), Err(Error::Io { .. })));
}

/// What PyTorch wrote before 1.6.
fn legacy_file(little_endian: bool) -> Vec<u8> {
    let mut bytes = vec![0x80, 2, 0x8a, 10, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19, b'.'];
    bytes.extend(PickleWriter::new().op(b"M").op(&1001u16.to_le_bytes()).stop());
    let flag = [if little_endian { 0x88 } else { 0x89 }];
    bytes.extend(PickleWriter::new().op(b"}").text("little_endian").op(&flag).op(b"s").stop());
    bytes.extend(
        PickleWriter::new()
            .op(b"}(")
            .text("a")
            .tensor("FloatStorage", "94", 12, 0, &[4, 3], &[1, 4])
            .text("b")
            .tensor("HalfStorage", "95", 1, 0, &[1], &[1])
            .op(b"u")
            .stop(),
    );
    bytes.extend(PickleWriter::new().op(b"](").text("94").text("95").op(b"e").stop());
    bytes.extend(12i64.to_le_bytes());
    bytes.extend(counting(12));
    bytes.extend(1i64.to_le_bytes());
    bytes.extend([0x00, 0x3c]);
    bytes
}

#[test]
fn files_from_before_1_6() {
    let file = WeightFile::from_bytes(legacy_file(true)).unwrap();
    assert_eq!(file.format(), Format::TorchLegacy);
    let dict = file.load(None).unwrap();
    assert_eq!(values(&dict, "a")[..4], [0., 4., 8., 1.]);
    assert_eq!(values(&dict, "b"), [1.0]);
    let error = StateDict::from_bytes(legacy_file(false), None).unwrap_err().to_string();
    assert!(error.contains("big-endian"), "{error}");
    let whole = legacy_file(true);
    for end in 0..whole.len() {
        assert!(StateDict::from_bytes(whole[..end].to_vec(), None).is_err(), "cut at {end}");
    }
}
