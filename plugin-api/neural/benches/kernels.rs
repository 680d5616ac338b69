//! Kernels by themselves: `cargo bench --workspace --bench kernels`. Throughput counts multiplications and additions.
//!
//! Each runs on one thread and on two, with every instruction set of the machine. Comparisons with others, in turns and
//! with errors, are made by `inference-bench`.

use std::hint::black_box;

use candle_core::{Device, Tensor};
use divan::Bencher;
use divan::counter::ItemsCount;
use gantry_neural::{
    Activation, Conv2d, Conv2dConfig, Isa, Padding, Workers, add_gated, gate_planes, instance_norm, pool_channels,
    pool_planes, reflection_pad2d, resize_antialiased, upsample_nearest2x,
};

fn main() {
    divan::main();
}

/// Numbers in [-1, 1) without a pattern.
fn tensor(shape: &[usize]) -> Tensor {
    let mut state = 1_u64;
    let values: Vec<f32> = (0..shape.iter().product::<usize>())
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1 << 23) as f32 - 1.0
        })
        .collect();
    Tensor::from_vec(values, shape, &Device::Cpu).expect("as many values as elements")
}

/// Runs `work` on `threads` threads.
fn on(threads: usize, work: impl Fn() -> candle_core::Result<Tensor> + Send + Sync) -> impl Fn() -> Tensor {
    let workers = Workers::default();
    move || workers.run(threads, || black_box(work())).expect("threads").expect("shapes agree")
}

/// Convolutions of the generator on a slice of 512 x 512: channels in and out, edge of the input, kernel.
mod conv2d {
    use super::*;

    fn run(bencher: Bencher, (isa, threads): (Isa, usize), shape: [usize; 4], config: Conv2dConfig) {
        let [inputs, outputs, edge, kernel] = shape;
        let weight = tensor(&[outputs, inputs, kernel, kernel]);
        let conv = Conv2d::new(&weight, Some(&tensor(&[outputs])), config).expect("a convolution").with_isa(isa);
        let input = tensor(&[1, inputs, edge, edge]);
        let pixels = conv.forward(&input).expect("shapes agree").elem_count();
        let operations = 2 * pixels * inputs * kernel * kernel;
        let forward = on(threads, move || conv.forward(&input));
        bencher.counter(ItemsCount::new(operations)).bench(forward);
    }

    /// Every instruction set on one thread and on two.
    fn ways() -> impl Iterator<Item = (Isa, usize)> {
        Isa::all().into_iter().flat_map(|isa| [1, 2].map(|threads| (isa, threads)))
    }

    /// [`ways`] as divan shows its arguments.
    #[derive(Clone, Copy)]
    struct Way(Isa, usize);

    impl std::fmt::Display for Way {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            write!(f, "{:?}, {} threads", self.0, self.1)
        }
    }

    fn all() -> Vec<Way> {
        ways().map(|(isa, threads)| Way(isa, threads)).collect()
    }

    const SAME: Conv2dConfig = Conv2dConfig { padding: Padding::Reflect(1), stride: 1, upsample: false };

    #[divan::bench(args = all(), sample_count = 10)]
    fn residual_256_256_3x3_128(bencher: Bencher, way: Way) {
        run(bencher, (way.0, way.1), [256, 256, 128, 3], SAME);
    }

    #[divan::bench(args = all(), sample_count = 10)]
    fn strided_64_128_3x3_512(bencher: Bencher, way: Way) {
        let config = Conv2dConfig { padding: Padding::Zero(1), stride: 2, upsample: false };
        run(bencher, (way.0, way.1), [64, 128, 512, 3], config);
    }

    #[divan::bench(args = all(), sample_count = 10)]
    fn enlarging_128_64_3x3_256(bencher: Bencher, way: Way) {
        let config = Conv2dConfig { padding: Padding::Zero(1), stride: 1, upsample: true };
        run(bencher, (way.0, way.1), [128, 64, 256, 3], config);
    }

    #[divan::bench(args = all(), sample_count = 10)]
    fn stem_3_64_7x7_512(bencher: Bencher, way: Way) {
        let config = Conv2dConfig { padding: Padding::Reflect(3), ..Conv2dConfig::default() };
        run(bencher, (way.0, way.1), [3, 64, 512, 7], config);
    }

    #[divan::bench(args = all(), sample_count = 10)]
    fn head_64_1_7x7_512(bencher: Bencher, way: Way) {
        let config = Conv2dConfig { padding: Padding::Reflect(3), ..Conv2dConfig::default() };
        run(bencher, (way.0, way.1), [64, 1, 512, 7], config);
    }

    /// A size that is a multiple of nothing.
    #[divan::bench(args = all(), sample_count = 10)]
    fn odd_37_53_3x3_101(bencher: Bencher, way: Way) {
        run(bencher, (way.0, way.1), [37, 53, 101, 3], SAME);
    }
}

/// What passes over a tensor once, 256 channels of 128 x 128; throughput counts elements.
mod passes {
    use super::*;

    const SHAPE: [usize; 4] = [1, 256, 128, 128];

    fn run(bencher: Bencher, threads: usize, work: impl Fn(&Tensor) -> candle_core::Result<Tensor> + Send + Sync) {
        let input = tensor(&SHAPE);
        let elements = input.elem_count();
        bencher.counter(ItemsCount::new(elements)).bench(on(threads, move || work(&input)));
    }

    #[divan::bench(args = [1, 2])]
    fn instance_norm_relu(bencher: Bencher, threads: usize) {
        run(bencher, threads, |x| instance_norm(x, 1e-5, Activation::Relu));
    }

    #[divan::bench(args = [1, 2])]
    fn mean_and_maximum_of_planes(bencher: Bencher, threads: usize) {
        run(bencher, threads, pool_planes);
    }

    #[divan::bench(args = [1, 2])]
    fn mean_and_maximum_over_channels(bencher: Bencher, threads: usize) {
        run(bencher, threads, pool_channels);
    }

    #[divan::bench(args = [1, 2])]
    fn gate_of_channels(bencher: Bencher, threads: usize) {
        let gate = tensor(&[1, 256, 1, 1]);
        run(bencher, threads, move |x| gate_planes(x, &gate));
    }

    #[divan::bench(args = [1, 2])]
    fn gated_sum(bencher: Bencher, threads: usize) {
        let gate = tensor(&[1, 1, 128, 128]);
        run(bencher, threads, move |x| add_gated(x, x, &gate));
    }

    #[divan::bench(args = [1, 2])]
    fn mirrored_border(bencher: Bencher, threads: usize) {
        run(bencher, threads, |x| reflection_pad2d(x, gantry_neural::Border::all(1)));
    }

    #[divan::bench(args = [1, 2])]
    fn enlargement(bencher: Bencher, threads: usize) {
        run(bencher, threads, upsample_nearest2x);
    }
}

/// A slice to another size and back, one thread.
#[divan::bench(args = [256, 512, 1024])]
fn resize_512_to(bencher: Bencher, edge: usize) {
    let plane = tensor(&[512, 512]).flatten_all().and_then(|t| t.to_vec1::<f32>()).expect("a plane");
    let work = || resize_antialiased(black_box(&plane), [512, 512], [edge, edge]);
    bencher.counter(ItemsCount::new(edge * edge)).bench_local(work);
}
