//! Kernels by themselves: `cargo bench --workspace --bench kernels`. Throughput counts the multiplications and additions of
//! the definition, so Winograd's transforms may exceed the processor's peak.
//!
//! Each runs on one thread and on two, with every instruction set and precision. Comparisons with others, in turns and
//! with errors, are made by `inference-bench`.

use std::fmt;
use std::hint::black_box;

use candle_core::{Device, Result, Tensor};
use divan::Bencher;
use divan::counter::ItemsCount;
use gantry_neural::{Conv, ConvConfig, Edge, Engine, Finish, Isa, Kind, Precision, Shape, Workers, resize_antialiased};

fn main() {
    divan::main();
}

/// Numbers in [-1, 1) without a pattern.
fn numbers(count: usize) -> Vec<f32> {
    let mut state = 1_u64;
    (0..count)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1 << 23) as f32 - 1.0
        })
        .collect()
}

/// What a kernel is run with.
#[derive(Clone, Copy)]
struct Way {
    isa: Isa,
    precision: Precision,
    threads: usize,
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.precision, self.isa, self.threads)
    }
}

impl fmt::Debug for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// Every precision with every instruction set but the portable one, on one thread and on two.
fn ways() -> Vec<Way> {
    let mut ways = Vec::new();
    for isa in Isa::all().into_iter().filter(|isa| *isa != Isa::Portable) {
        for precision in [Precision::F32, Precision::F32x3, Precision::Bf16, Precision::Int8] {
            ways.extend([1, 2].map(|threads| Way { isa, precision, threads }));
        }
    }
    ways
}

/// A convolution `[outputs, inputs, kernel]` over an input of `size`, from planes of its input's blocks to blocks.
fn conv(
    bencher: Bencher,
    way: Way,
    [outputs, inputs]: [usize; 2],
    kernel: [usize; 3],
    size: [usize; 3],
    config: ConvConfig,
) {
    let run = || -> Result<()> {
        let engine = Engine::new(way.isa, way.precision)?;
        let [d, h, w] = kernel;
        let weight = Tensor::from_vec(numbers(outputs * inputs * d * h * w), (outputs, inputs, d, h, w), &Device::Cpu)?;
        let config = ConvConfig { activation: Some(1.0), statistics: true, ..config };
        let conv = Conv::new(&engine, &weight, None, &[], config)?;
        let shape = Shape { pictures: 1, channels: inputs, size };
        let planes = numbers(inputs * shape.pixels());
        let cells = engine.cells(&Finish::default(), &engine.from_planes(&planes, shape)?, conv.entry());
        let pixels = conv.output(shape)?.pixels();
        let workers = Workers::default();
        let forward = || {
            let out = match &cells {
                Ok(cells) if !config.first => conv.forward(&[cells]),
                _ => conv.forward_planes(&planes, shape),
            };
            black_box(out).map(drop)
        };
        bencher
            .counter(ItemsCount::new(2 * outputs * inputs * d * h * w * pixels))
            .bench(|| workers.run(way.threads, forward).expect("threads").expect("shapes agree"));
        Ok(())
    };
    run().expect("a convolution");
}

/// Layers of the generator on a slice of 512 x 512.
mod conv2d {
    use super::*;

    const SAME: ConvConfig = ConvConfig {
        kind: Kind::Plain,
        stride: [1; 3],
        padding: [0, 1, 1],
        edge: Edge::Reflect,
        first: false,
        activation: None,
        not_negative: false,
        statistics: false,
    };

    #[divan::bench(args = ways(), sample_count = 10)]
    fn residual_256_256_3x3_128(bencher: Bencher, way: Way) {
        conv(bencher, way, [256, 256], [1, 3, 3], [1, 128, 128], SAME);
    }

    #[divan::bench(args = ways(), sample_count = 10)]
    fn strided_64_128_3x3_512(bencher: Bencher, way: Way) {
        conv(bencher, way, [128, 64], [1, 3, 3], [1, 512, 512], ConvConfig { stride: [1, 2, 2], ..SAME });
    }

    #[divan::bench(args = ways(), sample_count = 10)]
    fn enlarging_128_64_3x3_256(bencher: Bencher, way: Way) {
        let config = ConvConfig { kind: Kind::Enlarged { axes: [false, true, true] }, ..SAME };
        conv(bencher, way, [64, 128], [1, 3, 3], [1, 256, 256], config);
    }

    #[divan::bench(args = ways(), sample_count = 10)]
    fn stem_3_64_7x7_512(bencher: Bencher, way: Way) {
        let config = ConvConfig { padding: [0, 3, 3], first: true, ..SAME };
        conv(bencher, way, [64, 3], [1, 7, 7], [1, 512, 512], config);
    }

    #[divan::bench(args = ways(), sample_count = 10)]
    fn head_64_1_7x7_512(bencher: Bencher, way: Way) {
        conv(bencher, way, [1, 64], [1, 7, 7], [1, 512, 512], ConvConfig { padding: [0, 3, 3], ..SAME });
    }

    /// A size that is a multiple of nothing.
    #[divan::bench(args = ways(), sample_count = 10)]
    fn odd_37_53_3x3_101(bencher: Bencher, way: Way) {
        conv(bencher, way, [53, 37], [1, 3, 3], [1, 101, 101], SAME);
    }
}

/// Layers of an nnU-Net.
mod conv3d {
    use super::*;

    const SAME: ConvConfig = ConvConfig {
        kind: Kind::Plain,
        stride: [1; 3],
        padding: [1; 3],
        edge: Edge::Zero,
        first: false,
        activation: None,
        not_negative: false,
        statistics: false,
    };

    #[divan::bench(args = ways(), sample_count = 10)]
    fn same_32_32_3x3x3_32x64x64(bencher: Bencher, way: Way) {
        conv(bencher, way, [32, 32], [3; 3], [32, 64, 64], SAME);
    }

    #[divan::bench(args = ways(), sample_count = 10)]
    fn strided_32_64_3x3x3_32x64x64(bencher: Bencher, way: Way) {
        conv(bencher, way, [64, 32], [3; 3], [32, 64, 64], ConvConfig { stride: [2; 3], ..SAME });
    }
}

/// What passes over an activation once, 256 channels of 128 x 128; throughput counts elements.
mod passes {
    use super::*;

    #[divan::bench(args = ways(), sample_count = 10)]
    fn normalise_activate_and_surround(bencher: Bencher, way: Way) {
        let engine = Engine::new(way.isa, way.precision).expect("an instruction set of this machine");
        let shape = Shape { pictures: 1, channels: 256, size: [1, 128, 128] };
        let weight = Tensor::zeros((256, 256, 3, 3), candle_core::DType::F32, &Device::Cpu).expect("memory");
        let config =
            ConvConfig { padding: [0, 1, 1], edge: Edge::Reflect, activation: Some(1.0), ..ConvConfig::default() };
        let next = Conv::new(&engine, &weight, None, &[], config).expect("a convolution");
        let input = engine.from_planes(&numbers(256 * shape.pixels()), shape).expect("shapes agree");
        let workers = Workers::default();
        bencher.counter(ItemsCount::new(256 * shape.pixels())).bench(|| {
            let pass = || {
                let finish = Finish::per_channel(1, 256, |_| [0.1, 2.0, 0.0]).relu();
                black_box(engine.cells(&finish, &input, next.entry())).map(drop)
            };
            workers.run(way.threads, pass).expect("threads").expect("shapes agree");
        });
    }
}

/// A slice to another size and back, one thread.
mod resizing {
    use super::*;

    #[divan::bench(args = [[256, 256], [512, 512], [500, 700]])]
    fn antialiased_512(bencher: Bencher, to: [usize; 2]) {
        let slice = numbers(512 * 512);
        bencher.bench(|| black_box(resize_antialiased(&slice, [512, 512], to)));
    }
}
