//! The generator on a card and on the CPU, on one slice: results and times, for tests/oracles/bench_cuda.py to compare.
//!
//! `cuda_bench WEIGHTS.safetensors INPUT.f32 CHANNELS ROWS COLUMNS ROUNDS FOLDER`: INPUT holds little-endian floats. For
//! each arithmetic a line of JSON, and FOLDER/<name>.f32. A time is from a slice in the host's memory to the result there.

use std::error::Error;
use std::path::Path;
use std::time::Instant;

use candle_core::{Device, Result as CandleResult, Tensor};
use cyclegan_generator::architecture;
use cyclegan_generator::cuda_network::{CudaEngine, CudaGenerator};
use cyclegan_generator::network::{Calibration, DucosyGenerator, Sizes};
use gantry_neural::{ComputeDevice, Engine, Isa, NetworkWeights, Precision};
use gantry_weights::StateDict;

fn main() -> Result<(), Box<dyn Error>> {
    let given: Vec<String> = std::env::args().skip(1).collect();
    let [weights, input, channels, rows, columns, rounds, folder] = &given[..] else {
        return Err("WEIGHTS INPUT CHANNELS ROWS COLUMNS ROUNDS FOLDER expected".into());
    };
    let rounds: usize = rounds.parse()?;
    let values: Vec<f32> =
        std::fs::read(input)?.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
    let shape: [usize; 4] = [1, channels.parse()?, rows.parse()?, columns.parse()?];
    let input = Tensor::from_vec(values, &shape, &Device::Cpu)?;
    let load = || -> Result<(NetworkWeights, Sizes), Box<dyn Error>> {
        let dict = StateDict::load(weights, None)?;
        let hyper = architecture()?.check(&dict)?;
        let sizes = Sizes::of(&hyper)?;
        Ok((NetworkWeights::new(dict, ComputeDevice::Cpu)?, sizes))
    };
    let none = Calibration::new();

    let (tensors, sizes) = load()?;
    let network = DucosyGenerator::new(&Engine::new(Isa::best(), Precision::F32)?, tensors, sizes, &none)?;
    report("cpu-f32", Path::new(folder), 1, &|| network.forward(&input, &mut |_, _, _| Ok(())))?;

    for precision in ["f32", "bf16"] {
        let (tensors, sizes) = load()?;
        let engine = CudaEngine::open(precision, "auto")?;
        let network = CudaGenerator::new(&engine, tensors, sizes, &none)?;
        let name = format!("cuda-{precision}");
        report(&name, Path::new(folder), rounds, &|| network.forward(&input, &mut |_, _, _| Ok(())))?;
    }
    Ok(())
}

fn report(
    name: &str,
    folder: &Path,
    rounds: usize,
    run: &dyn Fn() -> CandleResult<Tensor>,
) -> Result<(), Box<dyn Error>> {
    // The first rounds load kernels and choose algorithms.
    for _ in 0..rounds.min(3) {
        run()?;
    }
    let mut milliseconds = Vec::new();
    let mut last = run()?;
    for _ in 0..rounds {
        let started = Instant::now();
        last = run()?;
        milliseconds.push(1e3 * started.elapsed().as_secs_f64());
    }
    let bytes: Vec<u8> = last.flatten_all()?.to_vec1::<f32>()?.iter().flat_map(|x| x.to_le_bytes()).collect();
    std::fs::write(folder.join(format!("{name}.f32")), bytes)?;
    println!("{{\"name\": \"{name}\", \"milliseconds\": {milliseconds:?}}}");
    Ok(())
}
