//! Convolutions of every kind, shape, precision and instruction set against the definition summed in f64.

use candle_core::{Device, Tensor};
use gantry_neural::{Conv, ConvConfig, Edge, Engine, Finish, Isa, Kind, Precision, Shape, Workers};
use gantry_tests::recipe::uniform;
use proptest::prelude::*;

/// Deterministic values in [-1, 1).
fn noise(seed: u64, count: usize) -> Vec<f32> {
    uniform(&seed.to_string(), count)
}

#[derive(Debug, Clone)]
struct Case {
    config: ConvConfig,
    pictures: usize,
    inputs: Vec<usize>,
    outputs: usize,
    size: [usize; 3],
    kernel: [usize; 3],
    seed: u64,
}

impl Case {
    fn channels(&self) -> usize {
        self.inputs.iter().sum()
    }

    fn shape(&self) -> Shape {
        Shape { pictures: self.pictures, channels: self.channels(), size: self.size }
    }

    fn weight(&self) -> Vec<f32> {
        noise(self.seed + 1, self.channels() * self.outputs * self.kernel.iter().product::<usize>())
    }

    fn input(&self) -> Vec<f32> {
        noise(self.seed + 2, self.pictures * self.channels() * self.size.iter().product::<usize>())
    }

    fn bias(&self) -> Vec<f32> {
        noise(self.seed + 3, self.outputs)
    }

    fn transposed(&self) -> bool {
        matches!(self.config.kind, Kind::Transposed { .. })
    }

    fn conv(&self, engine: &Engine) -> candle_core::Result<Conv> {
        let [d, h, w] = self.kernel;
        let (a, b) = match self.transposed() {
            true => (self.channels(), self.outputs),
            false => (self.outputs, self.channels()),
        };
        let weight = Tensor::from_vec(self.weight(), (a, b, d, h, w), &Device::Cpu)?;
        let bias = Tensor::from_vec(self.bias(), self.outputs, &Device::Cpu)?;
        Conv::new(engine, &weight, Some(&bias), &self.inputs, self.config)
    }

    /// Through the engine; several inputs go in one by one.
    fn run(&self, engine: &Engine, input: &[f32]) -> candle_core::Result<(Vec<f32>, [usize; 3])> {
        let conv = self.conv(engine)?;
        let out = if self.inputs.len() == 1 {
            conv.forward_planes(input, self.shape())?
        } else {
            let pixels = self.size.iter().product::<usize>();
            let mut first = 0;
            let mut cells = Vec::new();
            for &channels in &self.inputs {
                let planes: Vec<f32> = (0..self.pictures)
                    .flat_map(|n| {
                        let from = (n * self.channels() + first) * pixels;
                        input[from..from + channels * pixels].to_vec()
                    })
                    .collect();
                let blocked = engine.from_planes(&planes, Shape { channels, ..self.shape() })?;
                cells.push(engine.cells(&Finish::default(), &blocked, conv.entry())?);
                first += channels;
            }
            conv.forward(&cells.iter().collect::<Vec<_>>())?
        };
        Ok((out.to_planes(), out.shape().size))
    }

    /// Value of the bordered, enlarged input.
    fn at(&self, input: &[f32], n: usize, c: usize, position: [isize; 3]) -> f64 {
        let mut source = [0; 3];
        for axis in 0..3 {
            let scale = match self.config.kind {
                Kind::Enlarged { axes } if axes[axis] => 2,
                _ => 1,
            };
            let size = (self.size[axis] * scale) as isize;
            let at = match self.config.edge {
                _ if (0..size).contains(&position[axis]) => position[axis],
                Edge::Zero => return 0.0,
                Edge::Reflect if position[axis] < 0 => -position[axis],
                Edge::Reflect => 2 * (size - 1) - position[axis],
                Edge::Replicate => position[axis].clamp(0, size - 1),
            };
            source[axis] = at as usize / scale;
        }
        let [z, y, x] = source;
        let at = ((n * self.channels() + c) * self.size[0] + z) * self.size[1] + y;
        f64::from(input[at * self.size[2] + x])
    }

    /// The definition, and for each output the sum of the products' sizes.
    fn reference(&self, input: &[f32], out: [usize; 3]) -> Vec<(f64, f64)> {
        let (weight, bias) = (self.weight(), self.bias());
        let [kd, kh, kw] = self.kernel;
        let mut all = Vec::new();
        let outputs = (0..self.pictures).flat_map(|n| (0..self.outputs).map(move |o| (n, o)));
        for (n, o) in outputs {
            for at in 0..out.iter().product::<usize>() {
                let position = [at / (out[1] * out[2]), at / out[2] % out[1], at % out[2]];
                let (mut sum, mut size) = (f64::from(bias[o]), 0f64);
                for element in 0..kd * kh * kw {
                    let k = [element / (kh * kw), element / kw % kh, element % kw];
                    let mut source = [0isize; 3];
                    let mut hit = true;
                    for axis in 0..3 {
                        let (pad, stride) = (self.config.padding[axis] as isize, self.config.stride[axis] as isize);
                        if self.transposed() {
                            let from = position[axis] as isize + pad - k[axis] as isize;
                            hit &= from.rem_euclid(stride) == 0
                                && (0..self.size[axis] as isize).contains(&from.div_euclid(stride));
                            source[axis] = from.div_euclid(stride);
                        } else {
                            source[axis] = position[axis] as isize * stride + k[axis] as isize - pad;
                        }
                    }
                    if !hit {
                        continue;
                    }
                    for c in 0..self.channels() {
                        let (first, second, count) = match self.transposed() {
                            true => (c, o, self.outputs),
                            false => (o, c, self.channels()),
                        };
                        let w = f64::from(weight[(first * count + second) * kd * kh * kw + element]);
                        let product = w * self.at(input, n, c, source);
                        sum += product;
                        size += product.abs();
                    }
                }
                all.push((sum, size));
            }
        }
        all
    }
}

fn kinds() -> impl Strategy<Value = (Kind, [usize; 3])> {
    let extra = prop::array::uniform3(0usize..2);
    prop_oneof![
        3 => prop::array::uniform3(1usize..3).prop_map(|stride| (Kind::Plain, stride)),
        2 => (extra, prop::array::uniform3(2usize..4))
            .prop_map(|(extra, stride)| (Kind::Transposed { extra }, stride)),
        2 => prop::array::uniform3(any::<bool>()).prop_map(|axes| (Kind::Enlarged { axes }, [1; 3])),
    ]
}

fn cases() -> impl Strategy<Value = Case> {
    let channels = prop_oneof![Just(1usize), Just(3), Just(16), Just(33), 1usize..70];
    let size = (1usize..5, 3usize..12, 3usize..20).prop_map(|(d, h, w)| [d, h, w]);
    let kernel = prop_oneof![
        Just([1usize, 3, 3]),
        Just([3, 3, 3]),
        Just([1, 1, 1]),
        Just([1, 7, 7]),
        prop::array::uniform3(1usize..4)
    ];
    let edge = prop_oneof![Just(Edge::Zero), Just(Edge::Reflect), Just(Edge::Replicate)];
    (kinds(), (1usize..3, prop::collection::vec(channels, 1..3), 1usize..50), size, kernel, edge, any::<(bool, u32)>())
        .prop_map(|((kind, stride), (pictures, inputs, outputs), size, kernel, edge, (first, seed))| {
            let mut padding: [usize; 3] = std::array::from_fn(|axis| kernel[axis] / 2);
            let mut edge = edge;
            match kind {
                Kind::Transposed { .. } => {
                    edge = Edge::Zero;
                    padding = std::array::from_fn(|axis| (kernel[axis] / 2).min(1));
                }
                Kind::Enlarged { .. } if edge != Edge::Zero => padding = padding.map(|pad| pad.min(1)),
                _ => {}
            }
            if edge == Edge::Reflect {
                padding = std::array::from_fn(|axis| padding[axis].min(size[axis] - 1));
            }
            let config = ConvConfig { kind, stride, padding, edge, first, ..ConvConfig::default() };
            Case { config, pictures, inputs, outputs, size, kernel, seed: u64::from(seed) }
        })
        // A kernel larger than the padded picture is another test.
        .prop_filter("the kernel fits", |case| {
            (0..3).all(|axis| {
                let (size, pad, kernel) = (case.size[axis], case.config.padding[axis], case.kernel[axis]);
                match case.transposed() {
                    true => (size - 1) * case.config.stride[axis] + kernel > 2 * pad,
                    false => size + 2 * pad >= kernel,
                }
            })
        })
}

fn close(case: &Case, precision: Precision, isa: Isa, tolerance: f64) -> Result<(), TestCaseError> {
    close_with(case, &Engine::new(isa, precision).unwrap(), tolerance)
}

fn close_with(case: &Case, engine: &Engine, tolerance: f64) -> Result<(), TestCaseError> {
    let (isa, precision) = (engine.isa(), engine.precision());
    let input = case.input();
    let (got, size) = case.run(engine, &input).unwrap();
    let reference = case.reference(&input, size);
    prop_assert_eq!(got.len(), reference.len());
    // Winograd's error is that of the tile, so it is measured against the largest sum of sizes.
    let largest = reference.iter().map(|(_, size)| *size).fold(1.0, f64::max);
    for (at, (got, (sum, _))) in got.iter().zip(&reference).enumerate() {
        let error = (f64::from(*got) - sum).abs();
        prop_assert!(error <= tolerance * largest, "{isa:?} {precision:?}: {at}: {got} is not {sum}");
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn fp32_is_the_definition(case in cases()) {
        for isa in Isa::all() {
            close(&case, Precision::F32, isa, 1e-6)?;
        }
    }

    #[test]
    fn fp32_grade_is_the_definition(case in cases()) {
        for isa in Isa::all() {
            close(&case, Precision::F32x3, isa, 3e-5)?;
        }
    }

    #[test]
    fn bf16_is_the_definition_within_its_rounding(case in cases()) {
        for isa in Isa::all() {
            close(&case, Precision::Bf16, isa, 8e-3)?;
        }
    }

    #[test]
    fn int8_is_the_definition_within_its_steps(case in cases()) {
        let case = Case { config: ConvConfig { activation: Some(1.0), ..case.config }, ..case };
        for isa in Isa::all() {
            close(&case, Precision::Int8, isa, 2e-2)?;
        }
    }

    /// An input without negative values has all 255 steps for itself.
    #[test]
    fn int8_of_what_is_not_negative(case in cases()) {
        let case = Case { config: ConvConfig { activation: Some(1.0), not_negative: true, ..case.config }, ..case };
        let input: Vec<f32> = case.input().into_iter().map(f32::abs).collect();
        for isa in Isa::all() {
            let (got, size) = case.run(&Engine::new(isa, Precision::Int8).unwrap(), &input).unwrap();
            let reference = case.reference(&input, size);
            let largest = reference.iter().map(|(_, size)| *size).fold(1.0, f64::max);
            for (got, (sum, _)) in got.iter().zip(&reference) {
                prop_assert!((f64::from(*got) - sum).abs() <= 2e-2 * largest, "{:?}: {} is not {}", isa, got, sum);
            }
        }
    }

    #[test]
    fn threads_and_batch_change_no_bit(case in cases()) {
        let case = Case { pictures: 2, ..case };
        for precision in [Precision::F32, Precision::F32x3, Precision::Bf16] {
            let engine = Engine::new(Isa::best(), precision).unwrap();
            let input = case.input();
            let run = |threads: usize| Workers::default().run(threads, || case.run(&engine, &input).unwrap().0).unwrap();
            let one = run(1);
            prop_assert_eq!(&run(3), &one);
            let second = Case { pictures: 1, ..case.clone() };
            let (alone, _) = second.run(&engine, &input[input.len() / 2..]).unwrap();
            prop_assert_eq!(&alone[..], &one[one.len() / 2..]);
        }
    }

    /// Exactly the outputs that a NaN or an infinity reaches show it, in f32 as the definition does.
    #[test]
    fn what_is_not_finite_goes_where_it_belongs(case in cases(), place in any::<prop::sample::Index>(), kind in 0..3) {
        let mut input = case.input();
        let place = place.index(input.len());
        input[place] = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY][kind as usize];
        for precision in [Precision::F32, Precision::F32x3, Precision::Bf16] {
            for isa in Isa::all() {
                let engine = Engine::new(isa, precision).unwrap();
                let (got, size) = case.run(&engine, &input).unwrap();
                for (at, (got, (sum, _))) in got.iter().zip(case.reference(&input, size)).enumerate() {
                    prop_assert_eq!(got.is_finite(), sum.is_finite(), "{:?} {:?}: {}: {} {}", isa, precision, at, got, sum);
                    // Summed taps may turn inf - inf into inf.
                    let summed = matches!(case.config.kind, Kind::Enlarged { .. });
                    if precision == Precision::F32 && !sum.is_finite() && !summed {
                        prop_assert_eq!(got.is_nan(), sum.is_nan());
                    }
                }
                // Where the size is known it may spread, and does not vanish; without it nothing changes.
                let config = ConvConfig { expected: Some(case.size), ..case.config };
                let known = Case { config, ..case.clone() };
                for (got, (sum, _)) in known.run(&engine, &input).unwrap().0.iter().zip(case.reference(&input, size)) {
                    prop_assert!(sum.is_finite() || !got.is_finite(), "{:?} {:?}: {} {}", isa, precision, got, sum);
                }
                let finite = case.input();
                prop_assert!(known.run(&engine, &finite).unwrap().0 == case.run(&engine, &finite).unwrap().0);
            }
        }
    }
}

/// The matrix unit, or the emulator where the machine has none.
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod tiles {
    use super::*;
    use gantry_amx_emulator::{AmxEmulator, Tiles};

    fn engine(precision: Precision) -> Engine {
        AmxEmulator::install();
        // SAFETY: tile instructions are executed by the processor or the emulator; what else the kernels use is AVX-512.
        unsafe { Engine::assuming(Isa::Amx, precision) }
    }

    fn small() -> impl Strategy<Value = Case> {
        cases().prop_map(|case| Case { pictures: 1, size: case.size.map(|side| side.min(9)), ..case })
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 10, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn three_products_are_fp32_grade(case in small()) {
            if Isa::best() >= Isa::Avx512 {
                close_with(&case, &engine(Precision::F32x3), 3e-5)?;
            }
        }

        #[test]
        fn bf16_is_the_definition_within_its_rounding(case in small()) {
            if Isa::best() >= Isa::Avx512 {
                close_with(&case, &engine(Precision::Bf16), 8e-3)?;
            }
        }

        #[test]
        fn int8_is_what_other_instructions_make_of_it(case in small()) {
            let case = Case { config: ConvConfig { activation: Some(1.0), ..case.config }, ..case };
            if Isa::best() >= Isa::Avx512 {
                let input = case.input();
                let (tiles, _) = case.run(&engine(Precision::Int8), &input).unwrap();
                let other = Engine::new(Isa::Avx512, Precision::Int8).unwrap();
                prop_assert_eq!(tiles, case.run(&other, &input).unwrap().0);
            }
        }
    }

    /// Rows longer than two tiles, an odd number of panels, and steps of two.
    #[test]
    fn long_rows_and_odd_panels() {
        if Isa::best() < Isa::Avx512 {
            return;
        }
        for (width, outputs, stride) in [(32, 16, 1), (33, 48, 1), (70, 33, 2), (16, 32, 3), (100, 5, 1)] {
            let config = ConvConfig { stride: [1, 1, stride], padding: [0, 1, 1], ..ConvConfig::default() };
            let size = [1, 2, width];
            let case = Case { config, pictures: 1, inputs: vec![40], outputs, size, kernel: [1, 3, 3], seed: 7 };
            close_with(&case, &engine(Precision::F32x3), 3e-5).unwrap();
            close_with(&case, &engine(Precision::Bf16), 8e-3).unwrap();
        }
        let native = AmxEmulator::install() == Tiles::Native;
        assert!(native || AmxEmulator::executed() > 0, "the kernels did not use tiles");
    }
}

#[test]
fn a_kernel_larger_than_the_picture_is_refused() {
    let engine = Engine::new(Isa::best(), Precision::F32).unwrap();
    let case = Case {
        config: ConvConfig::default(),
        pictures: 1,
        inputs: vec![2],
        outputs: 3,
        size: [1, 4, 4],
        kernel: [1, 5, 5],
        seed: 1,
    };
    let error = case.run(&engine, &case.input()).unwrap_err();
    assert!(error.to_string().contains("larger than the picture"), "{error}");
}

#[test]
fn settings_that_mean_nothing_are_refused() {
    let engine = Engine::new(Isa::best(), Precision::Int8).unwrap();
    let plain = ConvConfig { padding: [0, 1, 1], ..ConvConfig::default() };
    let transposed = Kind::Transposed { extra: [0; 3] };
    let enlarged = Kind::Enlarged { axes: [false, true, true] };
    for config in [
        ConvConfig { kind: transposed, edge: Edge::Reflect, ..plain },
        ConvConfig { kind: enlarged, stride: [1, 2, 2], ..plain },
        ConvConfig { padding: [0, 101, 1], ..plain },
        ConvConfig { stride: [1, 1, 17], ..plain },
        ConvConfig { stride: [1, 0, 1], ..plain },
        ConvConfig { activation: Some(f32::NAN), ..plain },
        ConvConfig { activation: Some(f32::INFINITY), ..plain },
        ConvConfig { activation: Some(1e-40), ..plain },
        ConvConfig { activation: Some(0.0), ..plain },
    ] {
        let case =
            Case { config, pictures: 1, inputs: vec![20], outputs: 3, size: [1, 4, 4], kernel: [1, 3, 3], seed: 1 };
        assert!(case.conv(&engine).is_err(), "{config:?}");
    }
}

#[test]
fn shapes_without_an_end_or_without_anything_are_refused() {
    let engine = Engine::new(Isa::best(), Precision::F32).unwrap();
    for first in [false, true] {
        for edge in [Edge::Zero, Edge::Reflect, Edge::Replicate] {
            let config = ConvConfig { padding: [0, 1, 1], edge, first, ..ConvConfig::default() };
            let case =
                Case { config, pictures: 1, inputs: vec![2], outputs: 3, size: [1, 4, 4], kernel: [1, 3, 3], seed: 1 };
            let conv = case.conv(&engine).unwrap();
            for size in [[1, 1 << 32, 1 << 32], [1, 0, 8], [1, 8, 0], [0, 8, 8], [usize::MAX, 1, 1]] {
                let shape = Shape { pictures: 1, channels: 2, size };
                assert!(conv.forward_planes(&[], shape).is_err(), "{shape:?} {edge:?}");
                assert!(engine.from_planes(&[], shape).is_err(), "{shape:?}");
            }
        }
    }
}

#[test]
fn a_mirrored_border_needs_a_larger_picture() {
    let engine = Engine::new(Isa::best(), Precision::F32).unwrap();
    let case = Case {
        config: ConvConfig { padding: [0, 3, 3], edge: Edge::Reflect, ..ConvConfig::default() },
        pictures: 1,
        inputs: vec![2],
        outputs: 3,
        size: [1, 3, 9],
        kernel: [1, 7, 7],
        seed: 1,
    };
    assert!(case.run(&engine, &case.input()).unwrap_err().to_string().contains("reflected"));
}
