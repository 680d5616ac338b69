//! Kernels by themselves: `cargo bench --workspace --bench kernels`. Convolutions count multiplications and additions,
//! passes count elements.
//!
//! Each runs on one thread and on two, with every precision and instruction set of the machine. Comparisons with others,
//! in turns and with errors, are made by `inference-bench`.

use std::fmt;
use std::hint::black_box;

use candle_core::{Device, Tensor};
use divan::Bencher;
use divan::counter::ItemsCount;
use gantry_neural::{Conv, ConvConfig, Edge, Engine, Finish, Isa, Kind, Precision, Shape, Workers, resize_antialiased};

fn main() {
    divan::main();
}

/// Numbers in [-1, 1) without a pattern.
fn noise(count: usize) -> Vec<f32> {
    let mut state = 1_u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

/// A way to compute.
#[derive(Clone, Copy)]
struct Way {
    isa: Isa,
    precision: Precision,
    threads: usize,
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:8} {:5} {} threads", self.isa, self.precision, self.threads)
    }
}

impl Way {
    fn engine(self) -> Engine {
        Engine::new(self.isa, self.precision).expect("an instruction set of this machine")
    }

    /// Times `work` on the way's threads.
    fn time<T: Send>(self, bencher: Bencher<'_, '_>, items: usize, work: impl Fn() -> T + Send + Sync) {
        let workers = Workers::default();
        let run = || workers.run(self.threads, || black_box(work())).expect("threads");
        bencher.counter(ItemsCount::new(items)).bench_local(run);
    }
}

/// Every instruction set and precision on one thread and on two.
fn ways() -> Vec<Way> {
    let precisions = [Precision::F32, Precision::F32x3, Precision::Bf16, Precision::Int8];
    let threads = [1, 2];
    let of_isa = |isa| precisions.map(|precision| threads.map(|threads| Way { isa, precision, threads })).concat();
    Isa::all().into_iter().flat_map(of_isa).collect()
}

/// Convolutions of the generator on a slice of 512 x 512 and of an nnU-Net patch, from cells to blocks.
#[divan::bench_group(sample_count = 5, sample_size = 1)]
mod convolution {
    use super::*;

    fn plain() -> ConvConfig {
        ConvConfig { padding: [0, 1, 1], activation: Some(1.0), statistics: true, ..ConvConfig::default() }
    }

    /// Channels in and out, size of the input, kernel.
    fn run(
        bencher: Bencher<'_, '_>,
        way: Way,
        channels: [usize; 2],
        size: [usize; 3],
        kernel: [usize; 3],
        config: ConvConfig,
    ) {
        let [inputs, outputs] = channels;
        let transposed = matches!(config.kind, Kind::Transposed { .. });
        let [first, second] = if transposed { [inputs, outputs] } else { [outputs, inputs] };
        let [d, h, w] = kernel;
        let taps = d * h * w;
        let weight = Tensor::from_vec(noise(inputs * outputs * taps), (first, second, d, h, w), &Device::Cpu);
        let engine = way.engine();
        let conv = Conv::new(&engine, &weight.expect("a weight"), None, &[], config).expect("a convolution");
        let shape = Shape { pictures: 1, channels: inputs, size };
        let planes = noise(inputs * shape.pixels());
        let out = conv.output(shape).expect("an output");
        // Of a transposed convolution each input is multiplied, of others each output is a sum.
        let sums = if transposed { shape.pixels() * outputs * inputs } else { out.pixels() * outputs * inputs };
        let items = 2 * sums * taps;
        if config.first {
            return way.time(bencher, items, || conv.forward_planes(&planes, shape).expect("a result"));
        }
        let blocked = engine.from_planes(&planes, shape).expect("blocks");
        let cells = engine.cells(&Finish::default(), &blocked, conv.entry()).expect("cells");
        way.time(bencher, items, || conv.forward(&[&cells]).expect("a result"));
    }

    #[divan::bench(args = ways())]
    fn residual_256_256_of_128(bencher: Bencher<'_, '_>, way: Way) {
        run(bencher, way, [256, 256], [1, 128, 128], [1, 3, 3], ConvConfig { edge: Edge::Reflect, ..plain() });
    }

    #[divan::bench(args = ways())]
    fn halving_64_128_of_512(bencher: Bencher<'_, '_>, way: Way) {
        run(bencher, way, [64, 128], [1, 512, 512], [1, 3, 3], ConvConfig { stride: [1, 2, 2], ..plain() });
    }

    #[divan::bench(args = ways())]
    fn enlarging_128_64_of_256(bencher: Bencher<'_, '_>, way: Way) {
        let kind = Kind::Enlarged { axes: [false, true, true] };
        run(bencher, way, [128, 64], [1, 256, 256], [1, 3, 3], ConvConfig { kind, ..plain() });
    }

    #[divan::bench(args = ways())]
    fn stem_3_64_7x7_of_512(bencher: Bencher<'_, '_>, way: Way) {
        let config = ConvConfig { first: true, padding: [0, 3, 3], edge: Edge::Reflect, ..plain() };
        run(bencher, way, [3, 64], [1, 512, 512], [1, 7, 7], config);
    }

    #[divan::bench(args = ways())]
    fn head_64_1_7x7_of_512(bencher: Bencher<'_, '_>, way: Way) {
        let config = ConvConfig { padding: [0, 3, 3], edge: Edge::Reflect, statistics: false, ..plain() };
        run(bencher, way, [64, 1], [1, 512, 512], [1, 7, 7], config);
    }

    #[divan::bench(args = ways())]
    fn volume_32_32_of_32x64x64(bencher: Bencher<'_, '_>, way: Way) {
        run(bencher, way, [32, 32], [32, 64, 64], [3; 3], ConvConfig { padding: [1; 3], ..plain() });
    }

    #[divan::bench(args = ways())]
    fn doubling_64_32_of_64x64x64(bencher: Bencher<'_, '_>, way: Way) {
        let kind = Kind::Transposed { extra: [0; 3] };
        let config = ConvConfig { kind, stride: [2; 3], padding: [0; 3], statistics: false, ..plain() };
        run(bencher, way, [64, 32], [64; 3], [2; 3], config);
    }

    /// A size that is a multiple of nothing.
    #[divan::bench(args = ways())]
    fn odd_37_53_of_101x103(bencher: Bencher<'_, '_>, way: Way) {
        run(bencher, way, [37, 53], [1, 101, 103], [1, 3, 3], plain());
    }
}

/// What lies between two convolutions, 256 channels of 128 x 128.
#[divan::bench_group(sample_count = 20)]
mod pass {
    use super::*;
    use gantry_neural::Blocked;

    const SHAPE: Shape = Shape { pictures: 1, channels: 256, size: [1, 128, 128] };

    /// The output of a convolution with its statistics, and the next convolution.
    fn prepared(way: Way) -> (Engine, Blocked, Conv) {
        let engine = way.engine();
        let weight = Tensor::from_vec(noise(256 * 256), (256, 256, 1, 1), &Device::Cpu).expect("a weight");
        let conv = |padding| {
            let config = ConvConfig { statistics: true, padding, activation: Some(1.0), ..ConvConfig::default() };
            Conv::new(&engine, &weight, None, &[], config).expect("a convolution")
        };
        let planes = noise(SHAPE.channels * SHAPE.pixels());
        let raw = conv([0; 3]).forward_planes(&planes, SHAPE).expect("a result");
        let next = conv([0, 1, 1]);
        (engine, raw, next)
    }

    fn norm(raw: &Blocked) -> Finish<'static> {
        Finish::instance_norm(raw.statistics().expect("statistics"), 1e-5, None)
    }

    #[divan::bench(args = ways())]
    fn norm_relu_border(bencher: Bencher<'_, '_>, way: Way) {
        let (engine, raw, next) = prepared(way);
        let work = || engine.cells(&norm(&raw).relu(), &raw, next.entry()).expect("cells");
        way.time(bencher, SHAPE.channels * SHAPE.pixels(), work);
    }

    #[divan::bench(args = ways())]
    fn norm_gate_sum_border(bencher: Bencher<'_, '_>, way: Way) {
        let (engine, raw, next) = prepared(way);
        let trunk = engine.from_planes(&noise(SHAPE.channels * SHAPE.pixels()), SHAPE).expect("blocks");
        let gate = noise(SHAPE.pixels());
        let work = || {
            let finish = norm(&raw).gate(&gate).adding(&trunk);
            engine.cells_and_blocked(&finish, &raw, next.entry()).expect("cells and blocks")
        };
        way.time(bencher, SHAPE.channels * SHAPE.pixels(), work);
    }

    #[divan::bench(args = ways())]
    fn mean_and_maximum_over_channels(bencher: Bencher<'_, '_>, way: Way) {
        let (engine, raw, _) = prepared(way);
        let work = || engine.pool_channels(&norm(&raw), &raw).expect("maps");
        way.time(bencher, SHAPE.channels * SHAPE.pixels(), work);
    }
}

/// A slice to another size, one thread.
#[divan::bench(args = [256, 512, 1024])]
fn resize_512_to(bencher: Bencher<'_, '_>, edge: usize) {
    let plane = noise(512 * 512);
    let work = || resize_antialiased(black_box(&plane), [512, 512], [edge, edge]);
    bencher.counter(ItemsCount::new(edge * edge)).bench_local(work);
}
