//! Inference against PyTorch and plain Candle: contestants take turns in one run, on the same weights and input.
//!
//! PyTorch runs in `tests/oracles/bench_torch.py`, by the interpreter that `GANTRY_ORACLE_PYTHON` names (else `python3`).
//! Times are medians; a ratio above 1 means faster than the contestant in the column's head. Errors are distances to
//! PyTorch's fp32 result.
#![deny(unsafe_code)]

mod cases;
mod contest;
#[allow(unsafe_code)]
mod peak;
mod plain_candle;
mod torch;
mod unet;

use std::cell::RefCell;
use std::process::ExitCode;
use std::rc::Rc;

use clap::{Parser, ValueEnum};
use contest::Peaks;
use gantry_plugin::Isa;
use peak::Units;
use torch::{TorchMode, TorchServer};

/// What is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Case {
    /// The 9-block generator of DuCoSy on one slice.
    Generator,
    /// 256 -> 256 channels, 3 x 3, 128 x 128.
    Conv2d,
    /// 32 -> 32 channels, 3 x 3 x 3, 32 x 64 x 64.
    Conv3d,
    /// An nnU-Net patch of 128 x 128 x 128.
    Unet,
}

/// How the generator's cost grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Grow {
    /// 1 to 8 slices of 256 x 256.
    Slices,
    /// Slices of 128 x 128 to 512 x 512.
    Size,
    /// One thread to as many as --threads says.
    Threads,
}

/// Compare inference with PyTorch and plain Candle, alternating in one run.
#[derive(Debug, Parser)]
struct Arguments {
    /// What is computed.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "conv2d,conv3d,generator,unet")]
    case: Vec<Case>,
    /// How often each contestant is timed, after once untimed.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Threads of every contestant.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..))]
    threads: u32,
    /// Edge of the generator's slice in pixels.
    #[arg(long, default_value_t = 512)]
    size: usize,
    /// Gantry: f32, f32x3, bf16 or int8, @avx512 or @avx2 for a restricted instruction set.
    #[arg(long, value_delimiter = ',', default_value = "f32,f32x3,bf16,int8")]
    ours: Vec<cases::Way>,
    /// PyTorch: fp32 or bf16, -last for channels last, @avx512 or @avx2 for a restricted instruction set. Errors are
    /// distances to the first.
    #[arg(long, value_delimiter = ',', default_value = "fp32,fp32-last,bf16-last")]
    torch: Vec<TorchMode>,
    /// Leave PyTorch out.
    #[arg(long, conflicts_with = "torch")]
    no_torch: bool,
    /// Leave plain Candle out.
    #[arg(long)]
    no_candle: bool,
    /// Instead: how the generator's cost grows.
    #[arg(long, value_enum, value_delimiter = ',', conflicts_with = "case")]
    grow: Vec<Grow>,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("error: {why}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), String> {
    let threads = arguments.threads as usize;
    let rivals = if arguments.no_torch { Vec::new() } else { servers(&arguments.torch, threads)? };
    let folder = tempfile::tempdir().map_err(|e| e.to_string())?;
    let rounds = arguments.rounds as usize;
    let setting = |threads, slices| cases::Setting {
        threads,
        slices,
        candle: !arguments.no_candle,
        ways: &arguments.ours,
        rivals: &rivals,
        folder: folder.path(),
    };
    let mut peaks = Peaks::new(threads);
    println!("{}, {}", processor(), load());
    for units in Units::ALL {
        if let Some(peak) = peaks.of(units) {
            println!("peak of {threads} threads: {:6.0} GFLOP/s {}", peak / 1e9, units.name());
        }
    }
    for grow in &arguments.grow {
        growth(*grow, arguments, rounds, &setting)?;
    }
    if arguments.grow.is_empty() {
        let setting = setting(threads, 1);
        for case in &arguments.case {
            let mut contest = match case {
                Case::Generator => cases::generator(&setting, arguments.size)?,
                Case::Conv2d => cases::conv2d(&setting, 256, 128)?,
                Case::Conv3d => cases::conv3d(&setting, 32, [32, 64, 64])?,
                Case::Unet => cases::unet(&setting, 128)?,
            };
            match contest.contestants.is_empty() {
                true => println!("\n{}: nobody takes part", contest.title),
                false => contest::table(&mut contest, rounds, &mut peaks)?,
            }
        }
    }
    println!("\n{}", load());
    Ok(())
}

/// One server for each instruction set that PyTorch is restricted to.
fn servers(modes: &[TorchMode], threads: usize) -> Result<cases::Rivals, String> {
    let python = std::env::var("GANTRY_ORACLE_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let mut started: Vec<(Option<Isa>, Rc<RefCell<TorchServer>>)> = Vec::new();
    let mut rivals = Vec::new();
    for mode in modes {
        let found = started.iter().find(|(isa, _)| *isa == mode.isa).map(|(_, server)| Rc::clone(server));
        let server = match found {
            Some(server) => server,
            None => {
                let server = TorchServer::start(&python, threads, mode.isa)?;
                println!("{}", server.introduction);
                let server = Rc::new(RefCell::new(server));
                started.push((mode.isa, Rc::clone(&server)));
                server
            }
        };
        rivals.push((mode.clone(), server));
    }
    Ok(rivals)
}

/// Medians of the generator's contestants along one quantity, per slice and per pixel.
fn growth<'a>(
    grow: Grow,
    arguments: &Arguments,
    rounds: usize,
    setting: &impl Fn(usize, usize) -> cases::Setting<'a>,
) -> Result<(), String> {
    let threads = arguments.threads as usize;
    // Threads, slices, edge.
    let steps: Vec<[usize; 3]> = match grow {
        Grow::Slices => [1, 2, 4, 8].map(|slices| [threads, slices, 256]).to_vec(),
        Grow::Size => [128, 256, 384, 512].map(|edge| [threads, 1, edge]).to_vec(),
        Grow::Threads => (1..=threads).map(|threads| [threads, 1, arguments.size]).collect(),
    };
    println!("\nThe generator as {grow:?} grow, medians of {rounds} alternating rounds");
    for [threads, slices, edge] in steps {
        let mut contest = cases::generator(&setting(threads, slices), edge)?;
        let times = contest::take_turns(&mut contest, rounds)?;
        println!("{}", contest.title);
        for (contestant, times) in contest.contestants.iter().zip(times) {
            let slice = times.median / slices as f64;
            let pixel = slice / (edge * edge) as f64;
            println!("  {:24} {:9.1} ms a slice {:7.2} us a pixel", contestant.name(), slice * 1e3, pixel * 1e6);
        }
    }
    Ok(())
}

/// The processor's name and cores.
fn processor() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = text.lines().find_map(|line| line.strip_prefix("model name")?.split(": ").nth(1));
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    format!("{}, {cores} cores, {}", name.unwrap_or("unknown processor"), Isa::best())
}

/// Whether others are using the machine: a time means little where they do.
fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    format!("load {}", text.split_whitespace().take(3).collect::<Vec<_>>().join(" "))
}
