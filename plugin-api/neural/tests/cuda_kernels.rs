//! The kernels for NVIDIA cards, without a card: `cuda/kernels.cu` is compiled as C++ (`cuda/emulate.h`) and every kernel
//! is run by the very plan that a card would be given, beside the same operation in plain Rust.

use std::ffi::c_void;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use candle_core::{DType, Device, Tensor};
use gantry_neural::cuda::{Argument, Frame, KERNELS_PTX, Picture, PictureOp, Plan, apply};
use gantry_neural::{Border, reflection_pad2d};
use gantry_tests::recipe::uniform;
use sha2::{Digest, Sha256};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("cuda")
}

fn source() -> String {
    std::fs::read_to_string(folder().join("kernels.cu")).expect("kernels.cu lies in the checkout")
}

/// The names of the kernels of a text, each after `mark`.
fn kernels(text: &str, mark: &str) -> Vec<String> {
    let mut names: Vec<String> = text
        .split(mark)
        .skip(1)
        .map(|rest| rest.trim_start_matches("void ").chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect())
        .filter(|name: &String| !name.is_empty() && name != "name")
        .collect();
    names.sort();
    names
}

#[test]
fn the_ptx_was_made_of_this_source() {
    let digest = hex::encode(Sha256::digest(source()));
    assert!(
        KERNELS_PTX.lines().nth(1).is_some_and(|line| line == format!("// sha256 of kernels.cu: {digest}")),
        "kernels.ptx is not of kernels.cu as it is; plugin-api/neural/cuda/build.sh --ptx makes it anew"
    );
    assert!(KERNELS_PTX.contains(".target sm_80") && KERNELS_PTX.contains(".version 9.0"));
    let mut written = kernels(&source(), "extern \"C\" __global__ ");
    written.extend(kernels(&source(), "\nPLACE("));
    written.sort();
    assert_eq!(kernels(KERNELS_PTX, ".entry "), written);
    assert_eq!(written.len(), 13);
}

/// kernels.cu as a library.
fn emulator() -> &'static libloading::Library {
    static LIBRARY: OnceLock<libloading::Library> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let made = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let mut text = format!("#include \"{}\"\n", folder().join("kernels.cu").display());
        for kernel in kernels(KERNELS_PTX, ".entry ") {
            text.push_str(&format!("LAUNCHER({kernel})\n"));
        }
        let (from, to) = (made.path().join("kernels.cpp"), made.path().join("kernels.so"));
        std::fs::write(&from, text).unwrap();
        let compiler = std::env::var("CXX").unwrap_or_else(|_| "c++".to_owned());
        let flags = ["-std=c++17", "-O1", "-ffp-contract=off", "-Wall", "-Werror", "-shared", "-fPIC", "-o"];
        let done = Command::new(compiler).args(flags).arg(&to).arg(&from).output().expect("a C++ compiler");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        // SAFETY: made just now of the checkout's own source; it has no constructors.
        unsafe { libloading::Library::new(to) }.unwrap()
    })
}

type Launcher = unsafe extern "C" fn(u32, u32, u32, *mut *mut c_void, u64) -> u64;

/// Runs a plan as a card would; dense inputs as f32 or bf16 bits. What is not written stays NaN.
fn emulate(plan: &Plan, inputs: &[Tensor]) -> Vec<f32> {
    let inputs: Vec<Vec<u8>> = inputs.iter().map(bytes).collect();
    let size = plan.output.dtype.size_in_bytes();
    let behind = 64;
    let mut out = vec![0xffu8; plan.output.elements() * size + behind];
    let mut values: Vec<u64> = plan
        .arguments
        .iter()
        .map(|argument| match *argument {
            Argument::Input(at) => inputs[at].as_ptr() as u64,
            Argument::Output => out.as_mut_ptr() as u64,
            Argument::Nothing => 0,
            Argument::Int(number) => u64::from(number as u32),
            Argument::Float(number) => u64::from(number.to_bits()),
        })
        .collect();
    let mut arguments: Vec<*mut c_void> = values.iter_mut().map(|v| std::ptr::from_mut(v).cast()).collect();
    let given = arguments.len() as u64;
    let [x, y] = plan.grid;
    // SAFETY: the function has this type (emulate.h); the kernel gets the arguments it has, which is checked after.
    let taken = unsafe {
        let launch = emulator().get::<Launcher>(format!("launch_{}", plan.kernel).as_bytes()).unwrap();
        launch(x, y, plan.threads, arguments.as_mut_ptr(), given)
    };
    assert_eq!(taken, given, "{}: arguments", plan.kernel);
    assert!(out[out.len() - behind..].iter().all(|&b| b == 0xff), "{}: wrote behind its output", plan.kernel);
    let out = &out[..out.len() - behind];
    match plan.output.dtype {
        DType::BF16 => {
            out.chunks_exact(2).map(|b| f32::from_bits(u32::from(b[0]) << 16 | u32::from(b[1]) << 24)).collect()
        }
        _ => out.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect(),
    }
}

/// The elements as a card would hold them.
fn bytes(tensor: &Tensor) -> Vec<u8> {
    let values = floats(tensor);
    match tensor.dtype() {
        DType::BF16 => values.iter().flat_map(|x| ((x.to_bits() >> 16) as u16).to_le_bytes()).collect(),
        _ => values.iter().flat_map(|x| x.to_le_bytes()).collect(),
    }
}

fn floats(tensor: &Tensor) -> Vec<f32> {
    tensor.to_dtype(DType::F32).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

/// Numbers in [-3, 3) by a name; every 97th is not finite where `broken`.
fn tensor(name: &str, shape: &[usize], dtype: DType, broken: bool) -> Tensor {
    let mut values: Vec<f32> = uniform(name, shape.iter().product()).iter().map(|x| 3.0 * x).collect();
    if broken {
        for (i, value) in values.iter_mut().step_by(97).enumerate() {
            *value = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY][i % 3];
        }
    }
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap().to_dtype(dtype).unwrap()
}

/// The kernel against the operation on the CPU: equal within `relative`, not finite where it is not finite.
fn compare(op: PictureOp, inputs: &[Tensor], relative: f32) -> f32 {
    let pictures: Vec<Picture> = inputs.iter().map(|x| Picture::new(x.dims(), x.dtype())).collect();
    let plan = op.plan(&pictures).unwrap();
    let expected = apply(op, &inputs.iter().collect::<Vec<_>>()).unwrap();
    assert_eq!((expected.dims(), expected.dtype()), (&plan.output.shape[..], plan.output.dtype), "{op:?}");
    let found = emulate(&plan, inputs);
    let mut worst = 0f32;
    for (i, (found, expected)) in found.iter().zip(floats(&expected)).enumerate() {
        if found.to_bits() == expected.to_bits() || (found.is_nan() && expected.is_nan()) {
            continue;
        }
        let error = (found - expected).abs() / expected.abs().max(1.0);
        assert!(error <= relative, "{op:?} of {pictures:?}: element {i} is {found}, expected {expected}");
        worst = worst.max(error);
    }
    worst
}

/// Sizes that are multiples of nothing: pictures, channels, rows, columns.
const SIZES: [[usize; 4]; 6] =
    [[1, 1, 5, 5], [2, 3, 7, 11], [1, 16, 33, 29], [3, 2, 1, 1], [1, 5, 64, 48], [2, 40, 9, 17]];

#[test]
fn pictures_are_framed_to_the_bit() {
    let mut cases = 0;
    for (number, shape) in SIZES.into_iter().enumerate() {
        for (from, to) in
            [(DType::F32, DType::F32), (DType::F32, DType::BF16), (DType::BF16, DType::BF16), (DType::BF16, DType::F32)]
        {
            for broken in [false, true] {
                let input = tensor(&format!("place/{number}"), &shape, from, broken);
                let odd = Border { top: 2, bottom: 1, left: 0, right: 3 };
                let frames = [
                    Frame::default(),
                    Frame::default().enlarged(),
                    Frame::zeros(1).enlarged(),
                    Frame { border: odd, ..Frame::zeros(0) },
                    Frame::mirrored(1),
                    Frame::mirrored(3).enlarged(),
                    Frame { border: odd, ..Frame::mirrored(0) },
                ];
                for frame in frames.into_iter().filter(|f| !f.mirror || shape[2].min(shape[3]) > 3) {
                    for relu in [false, true] {
                        let op = PictureOp::Place { frame, relu, dtype: to };
                        assert_eq!(compare(op, std::slice::from_ref(&input), 0.0), 0.0);
                        let statistics = tensor("statistics", &[shape[0], shape[1], 2], DType::F32, false);
                        assert_eq!(compare(op, &[input.clone(), statistics], 0.0), 0.0);
                        cases += 2;
                    }
                }
            }
        }
    }
    println!("{cases} framings, all equal to the bit");
}

#[test]
fn reductions_gates_and_sums_agree() {
    let mut worst = [0f32; 2];
    for (number, shape) in SIZES.into_iter().chain([[1, 2, 150, 131]]).enumerate() {
        let [n, c, h, w] = shape;
        let f32s = |name: &str, shape: &[usize]| tensor(&format!("{name}/{number}"), shape, DType::F32, false);
        for broken in [false, true] {
            for dtype in [DType::F32, DType::BF16] {
                let input = tensor(&format!("statistics/{number}"), &shape, dtype, broken);
                worst[0] = worst[0].max(compare(PictureOp::Statistics { eps: 1e-5 }, &[input], 2e-6));
            }
            let input = tensor(&format!("pool/{number}"), &shape, DType::F32, broken);
            worst[0] = worst[0].max(compare(PictureOp::PoolPlanes, std::slice::from_ref(&input), 1e-6));
            worst[0] = worst[0].max(compare(PictureOp::PoolChannels, std::slice::from_ref(&input), 0.0));
            compare(PictureOp::GatePlanes, &[input.clone(), f32s("gate", &[n, c])], 0.0);
            compare(PictureOp::Add, &[input.clone(), f32s("b", &shape)], 0.0);
            compare(PictureOp::AddGated, &[input.clone(), f32s("b", &shape), f32s("g", &[n, 1, h, w])], 0.0);
        }
        for hidden in [1, c.div_ceil(3), 70] {
            let inputs = [f32s("pooled", &[n, 2, c]), f32s("squeeze", &[hidden, c]), f32s("excite", &[c, hidden])];
            worst[1] = worst[1].max(compare(PictureOp::ChannelGate, &inputs, 1e-6));
        }
        for side in [1, 3, 7] {
            let inputs = [f32s("pooled", &[n, 2, h, w]), f32s("weight", &[1, 2, side, side])];
            worst[1] = worst[1].max(compare(PictureOp::SpatialGate, &inputs, 1e-6));
        }
    }
    println!("largest relative error: reductions {:.1e}, gates {:.1e}", worst[0], worst[1]);
}

/// A mean far from 0 beside a small deviation is what one pass over the plane could lose.
#[test]
fn a_plane_far_from_zero_keeps_its_deviation() {
    let small: Vec<f32> = uniform("far", 4 * 513).iter().map(|x| 4000.0 + 0.5 * x).collect();
    let input = Tensor::from_vec(small, (1, 4, 27, 19), &Device::Cpu).unwrap();
    let worst = compare(PictureOp::Statistics { eps: 1e-5 }, &[input], 1e-6);
    println!("largest relative error {worst:.1e}");
}

/// Instance normalisation out of Candle's operations.
fn normalised(x: &Tensor) -> candle_core::Result<Tensor> {
    let mean = x.mean_keepdim((2, 3))?;
    let centred = x.broadcast_sub(&mean)?;
    let deviation = (centred.sqr()?.mean_keepdim((2, 3))? + 1e-5)?.sqrt()?;
    centred.broadcast_div(&deviation)
}

/// The operations for cards mean what those of the CPU mean.
#[test]
fn they_are_the_operations_of_the_cpu() {
    let input = tensor("same", &[2, 3, 13, 10], DType::F32, false);
    let place = |frame, relu| PictureOp::Place { frame, relu, dtype: DType::F32 };
    let mirrored = apply(place(Frame::mirrored(3), false), &[&input]).unwrap();
    assert_eq!(floats(&mirrored), floats(&reflection_pad2d(&input, Border::all(3)).unwrap()));
    let enlarged = apply(place(Frame::default().enlarged(), false), &[&input]).unwrap();
    assert_eq!(floats(&enlarged), floats(&input.upsample_nearest2d(26, 20).unwrap()));
    let statistics = apply(PictureOp::Statistics { eps: 1e-5 }, &[&input]).unwrap();
    let normal = apply(place(Frame::default(), true), &[&input, &statistics]).unwrap();
    let expected = floats(&normalised(&input).and_then(|x| x.relu()).unwrap());
    let worst = floats(&normal).iter().zip(expected).fold(0f32, |worst, (a, b)| worst.max((a - b).abs()));
    assert!(worst <= 1e-6, "{worst:e}");
}

#[test]
fn wrong_shapes_are_refused_before_any_kernel() {
    let picture = |shape: &[usize]| Picture::new(shape, DType::F32);
    let mirror = |width| PictureOp::Place { frame: Frame::mirrored(width), relu: false, dtype: DType::F32 };
    let bad = [
        (mirror(4), vec![picture(&[1, 1, 4, 9])]),
        (mirror(1), vec![picture(&[1, 1, 4])]),
        (mirror(1), vec![picture(&[1, 0, 4, 4])]),
        (mirror(1), vec![picture(&[1, 2, 4, 4]), picture(&[1, 3, 2])]),
        (mirror(1), vec![Picture::new(&[1, 1, 4, 4], DType::F64)]),
        (PictureOp::Statistics { eps: 1e-5 }, vec![picture(&[70_000, 1, 2, 2])]),
        (PictureOp::PoolPlanes, vec![Picture::new(&[1, 1, 4, 4], DType::BF16)]),
        (PictureOp::Add, vec![picture(&[1, 2, 4, 4]), picture(&[1, 2, 4, 5])]),
        (PictureOp::Add, vec![picture(&[1, 2, 4, 4])]),
        (PictureOp::SpatialGate, vec![picture(&[1, 2, 4, 4]), picture(&[1, 2, 4, 4])]),
        (PictureOp::ChannelGate, vec![picture(&[1, 2, 4]), picture(&[600, 4]), picture(&[4, 600])]),
        (PictureOp::GatePlanes, vec![picture(&[1, 2, 4, 4]), picture(&[1, 3])]),
    ];
    for (op, pictures) in bad {
        assert!(op.plan(&pictures).is_err(), "{op:?} took {pictures:?}");
    }
}
