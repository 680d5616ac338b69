//! Pooling, normalisation and enlargement in the blocked layout against their definitions in f64.

use candle_core::{Device, Tensor};
use gantry_neural::{Conv, ConvConfig, Edge, Engine, Enlarge, Finish, Isa, Pool, Pooling, Precision, Shape, Workers};
use gantry_tests::recipe::uniform;
use proptest::prelude::*;

/// Deterministic values in [-1, 1).
fn noise(seed: u64, count: usize) -> Vec<f32> {
    uniform(&seed.to_string(), count)
}

fn engines() -> impl Iterator<Item = Engine> {
    Isa::all().into_iter().map(|isa| Engine::new(isa, Precision::F32).unwrap())
}

fn shapes() -> impl Strategy<Value = Shape> {
    (1usize..3, 1usize..40, 1usize..6, 1usize..9, 1usize..12).prop_map(|(pictures, channels, d, h, w)| Shape {
        pictures,
        channels,
        size: [d, h, w],
    })
}

fn on<T: Send>(threads: usize, work: impl FnOnce() -> T + Send) -> T {
    Workers::default().run(threads, work).unwrap()
}

/// Both not a number, or equally far on the same side, or close.
fn same(got: f32, expected: f64, tolerance: f64) -> bool {
    match expected.is_finite() {
        true => (f64::from(got) - expected).abs() <= tolerance,
        false => got.is_nan() == expected.is_nan() && (got.is_nan() || f64::from(got) == expected),
    }
}

/// PyTorch's definition of pooling.
fn pooled(input: &[f32], shape: Shape, pool: &Pool, out: Shape) -> Vec<f64> {
    let mut all = Vec::new();
    for plane in 0..shape.pictures * shape.channels {
        for at in 0..out.pixels() {
            let at = [at / (out.size[1] * out.size[2]), at / out.size[2] % out.size[1], at % out.size[2]];
            let mut inside = Vec::new();
            for k in 0..pool.kernel.iter().product() {
                let k =
                    [k / (pool.kernel[1] * pool.kernel[2]), k / pool.kernel[2] % pool.kernel[1], k % pool.kernel[2]];
                let source: Vec<usize> = (0..3)
                    .filter_map(|axis| (at[axis] * pool.stride[axis] + k[axis]).checked_sub(pool.padding[axis]))
                    .collect();
                if let [z, y, x] = source[..]
                    && z < shape.size[0]
                    && y < shape.size[1]
                    && x < shape.size[2]
                {
                    let from = ((plane * shape.size[0] + z) * shape.size[1] + y) * shape.size[2] + x;
                    inside.push(f64::from(input[from]));
                }
            }
            let sum = inside.iter().sum::<f64>();
            all.push(match pool.pooling {
                Pooling::Max if inside.iter().any(|x| x.is_nan()) => f64::NAN,
                Pooling::Max => inside.iter().copied().fold(f64::NEG_INFINITY, f64::max),
                Pooling::Average => sum / pool.kernel.iter().product::<usize>() as f64,
                Pooling::AverageInside => sum / inside.len() as f64,
            });
        }
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn pooling_is_pytorchs(
        shape in shapes(),
        kernel in prop::array::uniform3(1usize..4),
        stride in prop::array::uniform3(1usize..4),
        border in prop::array::uniform3(any::<bool>()),
        kind in 0usize..3,
        odd in prop::option::of((any::<prop::sample::Index>(), 0usize..3)),
        seed in any::<u32>(),
    ) {
        let kernel: [usize; 3] = std::array::from_fn(|axis| kernel[axis].min(shape.size[axis]));
        let padding = std::array::from_fn(|axis| if border[axis] { kernel[axis] / 2 } else { 0 });
        let pooling = [Pooling::Max, Pooling::Average, Pooling::AverageInside][kind];
        let pool = Pool { pooling, kernel, stride, padding };
        let mut input = noise(u64::from(seed), shape.pictures * shape.channels * shape.pixels());
        if let Some((place, value)) = odd {
            let place = place.index(input.len());
            input[place] = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY][value];
        }
        let out = pool.output(shape).unwrap();
        let expected = pooled(&input, shape, &pool, out);
        for engine in engines() {
            let run = || {
                let blocked = engine.from_planes(&input, shape).unwrap();
                engine.pool(&blocked, &pool).unwrap().to_planes()
            };
            let got = on(1, run);
            prop_assert_eq!(got.len(), expected.len());
            for (at, (got, expected)) in got.iter().zip(&expected).enumerate() {
                prop_assert!(same(*got, *expected, 1e-6), "{:?} {:?}: {}: {} {}", engine.isa(), pool, at, got, expected);
            }
            let bits = |values: Vec<f32>| values.into_iter().map(f32::to_bits).collect::<Vec<_>>();
            prop_assert_eq!(bits(on(3, run)), bits(got));
        }
    }
}

#[test]
fn windows_that_make_no_sense_are_refused() {
    let engine = Engine::new(Isa::best(), Precision::F32).unwrap();
    let shape = Shape { pictures: 1, channels: 2, size: [1, 4, 4] };
    let input = engine.from_planes(&noise(1, 32), shape).unwrap();
    let pool = Pool::new(Pooling::Max);
    for (pool, says) in [
        (Pool { kernel: [1, 5, 1], ..pool }, "larger than the picture"),
        (Pool { kernel: [1, 3, 3], padding: [0, 2, 1], ..pool }, "border [0, 2, 1]"),
        (Pool { kernel: [1, 0, 3], ..pool }, "window [1, 0, 3]"),
        (Pool { stride: [1, 1, 0], ..pool }, "step [1, 1, 0]"),
    ] {
        let error = engine.pool(&input, &pool).err().expect(says).to_string();
        assert!(error.contains(says), "{error}");
    }
}

/// What follows a convolution.
#[derive(Debug, Clone, Copy)]
enum Norm {
    Instance { affine: bool },
    Group { groups: usize },
    Batch,
}

/// A convolution whose statistics its norm uses, and the norm of its output in f64.
struct Normed {
    raw: Vec<f32>,
    got: Vec<f32>,
    expected: Vec<f64>,
}

#[derive(Debug, Clone)]
struct Case {
    shape: Shape,
    outputs: usize,
    kernel: [usize; 3],
    norm: Norm,
    slope: f32,
    residual: bool,
    /// Added to every value of the convolution's output.
    offset: f32,
    seed: u64,
}

fn cases() -> impl Strategy<Value = Case> {
    let norm = prop_oneof![
        any::<bool>().prop_map(|affine| Norm::Instance { affine }),
        (1usize..4).prop_map(|groups| Norm::Group { groups }),
        Just(Norm::Batch),
    ];
    let shape = (1usize..3, 16usize..36, 1usize..6, 3usize..9, 5usize..19)
        .prop_map(|(pictures, channels, d, h, w)| Shape { pictures, channels, size: [d, h, w] });
    // Winograd (with and without depth), direct, and few outputs (columns).
    let kernel = prop_oneof![Just([1usize, 3, 3]), Just([3, 3, 3]), Just([1, 1, 1])];
    let outputs = prop_oneof![Just(1usize), Just(3), 4usize..40];
    let slope = prop_oneof![Just(1f32), Just(0.0), Just(0.01)];
    (shape, outputs, kernel, norm, slope, any::<(bool, u32)>()).prop_map(
        |(shape, outputs, kernel, norm, slope, (residual, seed))| {
            let outputs = if let Norm::Group { groups } = norm { outputs.next_multiple_of(groups) } else { outputs };
            Case { shape, outputs, kernel, norm, slope, residual, offset: 0.0, seed: u64::from(seed) }
        },
    )
}

const EPS: f64 = 1e-5;

impl Case {
    fn run(&self, engine: &Engine, input: &[f32]) -> Normed {
        let Self { shape, outputs, kernel, .. } = *self;
        let [d, h, w] = kernel;
        let weight = noise(self.seed + 1, outputs * shape.channels * d * h * w);
        let weight = Tensor::from_vec(weight, (outputs, shape.channels, d, h, w), &Device::Cpu).unwrap();
        let bias = Tensor::full(self.offset, outputs, &Device::Cpu).unwrap();
        let padding = kernel.map(|k| k / 2);
        let config = ConvConfig { padding, statistics: true, ..ConvConfig::default() };
        let conv = Conv::new(engine, &weight, Some(&bias), &[], config).unwrap();
        let raw = conv.forward_planes(input, shape).unwrap();
        let (gamma, beta) = (noise(self.seed + 2, outputs), noise(self.seed + 3, outputs));
        let statistics = raw.statistics().unwrap();
        let finish = match self.norm {
            Norm::Instance { affine } => Finish::instance_norm(statistics, EPS, affine.then_some((&gamma, &beta))),
            Norm::Group { groups } => Finish::group_norm(statistics, outputs, groups, EPS, (&gamma, &beta)).unwrap(),
            Norm::Batch => Finish::per_channel(shape.pictures, outputs, |c| [0.1, gamma[c], beta[c]]),
        };
        let addend = noise(self.seed + 4, shape.pictures * outputs * shape.pixels());
        let blocked = engine.from_planes(&addend, raw.shape()).unwrap();
        let finish = if self.residual { finish.adding(&blocked) } else { finish };
        let got = engine.blocked(&finish.leaky_relu(self.slope), &raw).unwrap().to_planes();
        let raw = raw.to_planes();
        let pixels = shape.pixels();
        let mut expected = vec![0f64; raw.len()];
        for picture in 0..shape.pictures {
            for channel in 0..outputs {
                let members = match self.norm {
                    Norm::Group { groups } => {
                        let width = outputs / groups;
                        channel / width * width..(channel / width + 1) * width
                    }
                    _ => channel..channel + 1,
                };
                let all: Vec<f64> = raw[(picture * outputs + members.start) * pixels..][..members.len() * pixels]
                    .iter()
                    .map(|&x| f64::from(x))
                    .collect();
                let mean = all.iter().sum::<f64>() / all.len() as f64;
                let variance = all.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / all.len() as f64;
                let (gamma, beta) = (f64::from(gamma[channel]), f64::from(beta[channel]));
                for at in (picture * outputs + channel) * pixels..(picture * outputs + channel + 1) * pixels {
                    let x = f64::from(raw[at]);
                    let mut y = match self.norm {
                        Norm::Instance { affine: false } => (x - mean) / (variance + EPS).sqrt(),
                        Norm::Batch => (x - f64::from(0.1f32)) * gamma + beta,
                        _ => (x - mean) / (variance + EPS).sqrt() * gamma + beta,
                    };
                    if self.residual {
                        y += f64::from(addend[at]);
                    }
                    expected[at] = if y < 0.0 { y * f64::from(self.slope) } else { y };
                }
            }
        }
        Normed { raw, got, expected }
    }

    fn input(&self) -> Vec<f32> {
        noise(self.seed, self.shape.pictures * self.shape.channels * self.shape.pixels())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    /// However the output was computed, the statistics are those of what was stored: the norm in f64 of the output
    /// itself is the norm that the pass applies.
    #[test]
    fn norms_are_those_of_the_output(case in cases()) {
        let input = case.input();
        for precision in [Precision::F32, Precision::F32x3, Precision::Bf16] {
            for isa in Isa::all() {
                let engine = Engine::new(isa, precision).unwrap();
                let Normed { got, expected, .. } = on(1, || case.run(&engine, &input));
                for (at, (got, expected)) in got.iter().zip(&expected).enumerate() {
                    prop_assert!(same(*got, *expected, 2e-5), "{:?} {:?} {}: {} {}", isa, precision, at, got, expected);
                }
                prop_assert_eq!(on(3, || case.run(&engine, &input)).got, got);
            }
        }
    }

    /// One value that is not finite spoils the channels that it reaches, and is not hidden by the activation.
    #[test]
    fn nan_stays_visible(case in cases(), place in any::<prop::sample::Index>(), nan in any::<bool>()) {
        let case = Case { norm: Norm::Instance { affine: true }, residual: false, ..case };
        let mut input = case.input();
        let place = place.index(input.len());
        input[place] = if nan { f32::NAN } else { f32::INFINITY };
        let picture = place / (input.len() / case.shape.pictures);
        for precision in [Precision::F32, Precision::F32x3] {
            for isa in Isa::all() {
                let engine = Engine::new(isa, precision).unwrap();
                let Normed { raw, got, .. } = case.run(&engine, &input);
                let one = got.len() / case.shape.pictures;
                for (at, got) in got.iter().enumerate() {
                    prop_assert_eq!(got.is_nan(), at / one == picture, "{:?} {:?} {}: {} of {}", isa, precision, at, got, raw[at]);
                }
            }
        }
    }
}

/// A mean a thousand times the deviation: the deviation is still known to five digits; what is lost is what f32 keeps of
/// the values themselves.
#[test]
fn a_large_mean_does_not_spoil_the_variance() {
    for kernel in [[1, 3, 3], [3, 3, 3], [1, 1, 1]] {
        let shape = Shape { pictures: 1, channels: 20, size: [4, 24, 24] };
        let norm = Norm::Instance { affine: false };
        let case = Case { shape, outputs: 18, kernel, norm, slope: 1.0, residual: false, offset: 3000.0, seed: 5 };
        for isa in Isa::all() {
            let engine = Engine::new(isa, Precision::F32x3).unwrap();
            let Normed { got, expected, .. } = case.run(&engine, &case.input());
            let worst = got.iter().zip(&expected).map(|(a, b)| (f64::from(*a) - b).abs()).fold(0.0, f64::max);
            println!("{kernel:?} {isa}: {worst:.1e}");
            assert!(worst < 2e-4, "{worst:e}");
        }
    }
}

/// PyTorch's index and weights of enlargement by two with `align_corners=False`, the edge clamped.
fn source(enlarge: Enlarge, axis: usize, at: usize, size: usize) -> Vec<(usize, f64)> {
    let (axes, linear) = match enlarge {
        Enlarge::Nearest(axes) => (axes, false),
        Enlarge::Linear(axes) => (axes, true),
    };
    match (axes[axis], linear) {
        (false, _) => vec![(at, 1.0)],
        (true, false) => vec![(at / 2, 1.0)],
        (true, true) => {
            let centre = (at as f64 + 0.5) / 2.0 - 0.5;
            let (low, part) = (centre.floor(), centre - centre.floor());
            let clamped = |at: f64| at.clamp(0.0, size as f64 - 1.0) as usize;
            match clamped(low) == clamped(low + 1.0) {
                true => vec![(clamped(low), 1.0)],
                false => vec![(clamped(low), 1.0 - part), (clamped(low + 1.0), part)],
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn enlargement_is_pytorchs(
        shape in shapes(),
        axes in prop::array::uniform3(any::<bool>()),
        linear in any::<bool>(),
        edge in prop_oneof![Just(Edge::Zero), Just(Edge::Replicate)],
        odd in prop::option::of(any::<prop::sample::Index>()),
        seed in any::<u32>(),
    ) {
        let enlarge = if linear { Enlarge::Linear(axes) } else { Enlarge::Nearest(axes) };
        let seed = u64::from(seed);
        let count = shape.pictures * shape.channels * shape.pixels();
        let (mut input, addend) = (noise(seed, count), noise(seed + 1, count));
        if let Some(place) = odd {
            input[place.index(count)] = f32::NAN;
        }
        let gate = noise(seed + 2, shape.pictures * shape.pixels());
        let [gain, shift] = [3, 4].map(|at| noise(seed + at, shape.channels));
        // What the pass does before it enlarges.
        let small: Vec<f64> = (0..count)
            .map(|at| {
                let (channel, pixel) = (at / shape.pixels() % shape.channels, at % shape.pixels());
                let gate = f64::from(gate[at / (shape.channels * shape.pixels()) * shape.pixels() + pixel]);
                let y = (f64::from(input[at]) - f64::from(0.2f32)) * f64::from(gain[channel]) + f64::from(shift[channel]);
                let y = y * gate + f64::from(addend[at]);
                if y < 0.0 { y * f64::from(0.1f32) } else { y }
            })
            .collect();
        let size: [usize; 3] = std::array::from_fn(|axis| shape.size[axis] * if axes[axis] { 2 } else { 1 });
        let mut expected = Vec::new();
        for plane in 0..shape.pictures * shape.channels {
            for at in 0..size.iter().product() {
                let at = [at / (size[1] * size[2]), at / size[2] % size[1], at % size[2]];
                let taps: Vec<_> = (0..3).map(|axis| source(enlarge, axis, at[axis], shape.size[axis])).collect();
                let mut sum = 0f64;
                for (z, wz) in &taps[0] {
                    for (y, wy) in &taps[1] {
                        for (x, wx) in &taps[2] {
                            let from = ((plane * shape.size[0] + z) * shape.size[1] + y) * shape.size[2] + x;
                            sum += wz * wy * wx * small[from];
                        }
                    }
                }
                expected.push(sum);
            }
        }
        for precision in [Precision::F32, Precision::F32x3, Precision::Bf16] {
            for isa in Isa::all() {
                let engine = Engine::new(isa, precision).unwrap();
                let blocked = engine.from_planes(&input, shape).unwrap();
                let added = engine.from_planes(&addend, shape).unwrap();
                let finish = || {
                    let map = Finish::per_channel(shape.pictures, shape.channels, |c| [0.2, gain[c], shift[c]]);
                    map.gate(&gate).adding(&added).leaky_relu(0.1).enlarged(enlarge)
                };
                let large = on(1, || engine.blocked(&finish(), &blocked).unwrap());
                prop_assert_eq!(large.shape(), Shape { size, ..shape });
                for (at, (got, expected)) in large.to_planes().iter().zip(&expected).enumerate() {
                    prop_assert!(same(*got, *expected, 2e-6), "{isa:?} {:?}: {}: {} {}", enlarge, at, got, expected);
                }
                // As the input of a convolution it is the same, border and all.
                let weight = noise(seed + 5, 5 * shape.channels * 27);
                let weight = Tensor::from_vec(weight, (5, shape.channels, 3, 3, 3), &Device::Cpu).unwrap();
                let config = ConvConfig { padding: [1; 3], edge, ..ConvConfig::default() };
                let conv = Conv::new(&engine, &weight, None, &[], config).unwrap();
                let fused = || {
                    let cells = engine.cells(&finish(), &blocked, conv.entry()).unwrap();
                    conv.forward(&[&cells]).unwrap().to_planes()
                };
                let bits = |values: Vec<f32>| values.into_iter().map(f32::to_bits).collect::<Vec<_>>();
                let cells = engine.cells(&Finish::default(), &large, conv.entry()).unwrap();
                let apart = bits(conv.forward(&[&cells]).unwrap().to_planes());
                prop_assert_eq!(bits(on(3, fused)), apart);
            }
        }
    }
}

#[test]
fn a_relu_of_minus_infinity_is_zero() {
    for isa in Isa::all() {
        let engine = Engine::new(isa, Precision::F32).unwrap();
        let shape = Shape { pictures: 1, channels: 1, size: [1, 1, 4] };
        let input = engine.from_planes(&[f32::NEG_INFINITY, -1.0, f32::NAN, f32::INFINITY], shape).unwrap();
        let out = engine.blocked(&Finish::default().relu(), &input).unwrap().to_planes();
        assert!(out[..2] == [0.0, 0.0] && out[2].is_nan() && out[3] == f32::INFINITY, "{isa}: {out:?}");
    }
}

#[test]
fn maps_of_another_size_are_refused() {
    let engine = Engine::new(Isa::best(), Precision::F32).unwrap();
    let shape = Shape { pictures: 1, channels: 32, size: [1, 2, 2] };
    let input = engine.from_planes(&[1.0; 128], shape).unwrap();
    let map = |pictures, channels| Finish::per_channel(pictures, channels, |_| [0.0, 1.0, 0.0]);
    assert!(engine.blocked(&map(1, 32), &input).is_ok());
    // As many values, other pictures.
    assert!(engine.blocked(&map(2, 16), &input).is_err());
    assert!(engine.blocked(&map(1, 32).gain(&[1.0; 31]), &input).is_err());
    assert!(engine.blocked(&Finish::default().gain(&[1.0; 32]), &input).is_err());
    assert!(engine.blocked(&map(1, 32).gate(&[1.0; 3]), &input).is_err());
}
