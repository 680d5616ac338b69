//! The convolution against a plain f64 sum, for every padding, stride, kernel and instruction set; and its promise that
//! threads, batch and vector width do not change a bit.

use candle_core::{Device, Result, Tensor};
use gantry_neural::{
    Activation, Border, Conv2d, Conv2dConfig, Isa, Padding, Workers, instance_norm, pool_channels, pool_planes,
    reflection_pad2d, upsample_nearest2x,
};

/// Deterministic values in [-1, 1).
fn noise(seed: u64, shape: &[usize]) -> Tensor {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let values: Vec<f32> = (0..shape.iter().product::<usize>())
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 40) as f32 / 8_388_608.0 - 1.0
        })
        .collect();
    Tensor::from_vec(values, shape, &Device::Cpu).expect("shape and values agree")
}

/// The definition: `[N, Cout, H', W']` of an already padded picture, summed in f64.
fn reference(input: &Tensor, weight: &Tensor, bias: &Tensor, stride: usize) -> Result<Vec<f64>> {
    let (n, cin, h, w) = input.dims4()?;
    let (cout, _, kh, kw) = weight.dims4()?;
    let (x, k) = (input.flatten_all()?.to_vec1::<f32>()?, weight.flatten_all()?.to_vec1::<f32>()?);
    let bias = bias.to_vec1::<f32>()?;
    let (oh, ow) = ((h - kh) / stride + 1, (w - kw) / stride + 1);
    let mut out = Vec::with_capacity(n * cout * oh * ow);
    for b in 0..n {
        for o in 0..cout {
            for y in 0..oh {
                for column in 0..ow {
                    let mut sum = f64::from(bias[o]);
                    for c in 0..cin {
                        for dy in 0..kh {
                            for dx in 0..kw {
                                let at = ((b * cin + c) * h + y * stride + dy) * w + column * stride + dx;
                                sum += f64::from(x[at]) * f64::from(k[((o * cin + c) * kh + dy) * kw + dx]);
                            }
                        }
                    }
                    out.push(sum);
                }
            }
        }
    }
    Ok(out)
}

fn padded(input: &Tensor, config: Conv2dConfig) -> Result<Tensor> {
    let large = if config.upsample { upsample_nearest2x(input)? } else { input.clone() };
    match config.padding {
        Padding::Zero(p) => large.pad_with_zeros(2, p, p)?.pad_with_zeros(3, p, p),
        Padding::Reflect(p) => reflection_pad2d(&large, Border::all(p)),
    }
}

fn values(tensor: &Tensor) -> Result<Vec<f32>> {
    tensor.flatten_all()?.to_vec1()
}

#[test]
fn agrees_with_the_definition() -> Result<()> {
    let mut worst = 0f64;
    let cases = [
        // N, Cin, Cout, H, W, kernel, stride, padding, upsample
        (1, 1, 8, 20, 33, 7, 1, Padding::Reflect(3), false),
        (2, 3, 16, 17, 50, 7, 1, Padding::Reflect(3), false),
        (1, 70, 9, 9, 66, 3, 1, Padding::Reflect(1), false),
        (1, 40, 24, 11, 31, 3, 2, Padding::Zero(1), false),
        (2, 8, 16, 10, 32, 3, 2, Padding::Zero(1), false),
        (1, 33, 17, 7, 9, 3, 1, Padding::Zero(1), true),
        (1, 16, 1, 12, 49, 7, 1, Padding::Reflect(3), false),
        (1, 2, 1, 5, 64, 7, 1, Padding::Zero(3), false),
        (1, 5, 3, 8, 8, 1, 1, Padding::Zero(0), false),
        (1, 4, 8, 6, 7, 4, 3, Padding::Zero(2), false),
    ];
    for (n, cin, cout, h, w, kernel, stride, padding, upsample) in cases {
        let config = Conv2dConfig { padding, stride, upsample };
        let (input, weight, bias) =
            (noise(1, &[n, cin, h, w]), noise(2, &[cout, cin, kernel, kernel]), noise(3, &[cout]));
        let expected = reference(&padded(&input, config)?, &weight, &bias, stride)?;
        for isa in Isa::all() {
            let got = Conv2d::new(&weight, Some(&bias), config)?.with_isa(isa).forward(&input)?;
            let got = values(&got)?;
            assert_eq!(got.len(), expected.len(), "{config:?}");
            for (&got, &expected) in got.iter().zip(&expected) {
                worst = worst.max((f64::from(got) - expected).abs());
            }
        }
    }
    println!("conv2d against f64: max abs {worst:.2e}");
    assert!(worst < 2e-5);
    Ok(())
}

#[test]
fn threads_batch_and_vector_width_change_no_bit() -> Result<()> {
    let config = Conv2dConfig { padding: Padding::Reflect(1), stride: 1, upsample: false };
    let input = noise(5, &[3, 40, 23, 70]);
    let conv = Conv2d::new(&noise(6, &[20, 40, 3, 3]), None, config)?;
    let run = |threads| {
        let result = Workers::default().run(threads, || -> Result<_> {
            let out = instance_norm(&conv.forward(&input)?, 1e-5, Activation::Relu)?;
            Ok((values(&out)?, values(&pool_planes(&out)?)?, values(&pool_channels(&out)?)?))
        });
        result.expect("threads start")
    };
    let one = run(1)?;
    for threads in [2, 3, 7] {
        assert!(run(threads)? == one, "{threads} threads differ from one");
    }
    for picture in 0..3 {
        let alone = values(&conv.forward(&input.narrow(0, picture, 1)?)?)?;
        let together = values(&conv.forward(&input)?.narrow(0, picture, 1)?)?;
        assert!(alone == together, "picture {picture} differs in a batch");
    }
    let fused: Vec<_> = Isa::all().into_iter().filter(|&isa| isa != Isa::Portable).collect();
    for isa in fused {
        let narrow = Conv2d::new(&noise(6, &[20, 40, 3, 3]), None, config)?.with_isa(isa);
        assert!(values(&narrow.forward(&input)?)? == values(&conv.forward(&input)?)?, "{isa:?} differs");
    }
    Ok(())
}

#[test]
fn refusals_name_expected_and_found() -> Result<()> {
    let conv = Conv2d::new(&noise(1, &[8, 3, 3, 3]), None, Conv2dConfig::default())?;
    let text = |input: &Tensor| conv.forward(input).expect_err("must be refused").to_string();
    assert!(text(&noise(1, &[1, 2, 9, 9])).contains("expected C = 3, got 2"));
    assert!(text(&noise(1, &[1, 3, 2, 9])).contains("larger than the padded picture"));
    assert!(text(&noise(1, &[1, 3, 9, 9]).to_dtype(candle_core::DType::F64)?).contains("expected f32"));
    assert!(Conv2d::new(&noise(1, &[8, 3, 3, 3]), Some(&noise(1, &[7])), Conv2dConfig::default()).is_err());
    let reflect = Conv2dConfig { padding: Padding::Reflect(3), ..Conv2dConfig::default() };
    let conv = Conv2d::new(&noise(1, &[8, 3, 3, 3]), None, reflect)?;
    assert!(conv.forward(&noise(1, &[1, 3, 3, 9])).expect_err("3 px").to_string().contains("the picture has 3"));
    Ok(())
}

/// The largest layer of a published network: prints how fast it is, and demands the same bits on one and two threads and
/// from every instruction set with fused multiply-add.
#[test]
fn the_largest_layer_keeps_its_bits_and_is_timed() -> Result<()> {
    let config = Conv2dConfig { padding: Padding::Reflect(1), stride: 1, upsample: false };
    let (weight, input) = (noise(1, &[256, 256, 3, 3]), noise(2, &[1, 256, 128, 128]));
    let mut reference: Option<Vec<f32>> = None;
    for isa in Isa::all().into_iter().filter(|&isa| isa != Isa::Portable) {
        let conv = Conv2d::new(&weight, None, config)?.with_isa(isa);
        for threads in [1, 2] {
            let start = std::time::Instant::now();
            let out = Workers::default().run(threads, || conv.forward(&input)).expect("threads start")?;
            let seconds = start.elapsed().as_secs_f64();
            println!("{isa:?}, {threads} threads: {:.0} ms, {:.0} GFLOP/s", seconds * 1e3, 19.33 / seconds);
            let out = values(&out)?;
            assert!(reference.get_or_insert_with(|| out.clone()) == &out, "{isa:?} on {threads} threads differs");
        }
    }
    Ok(())
}
