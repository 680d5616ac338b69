//! How long each resampling step takes: one step of a raw file, timed, for tests/oracles/bench_resampling.py to compare.
//!
//!     resampling_times CASE INPUT OUTPUT THREADS ROUNDS  Z Y X  NEW_Z NEW_Y NEW_X
//!
//! Cases: `zoom1`, `zoom3` (f32 to i32, TotalSegmentator's), `labels` (u8, nearest), `image3` (f32 to f32, nnU-Net's),
//! `logits` (f16 of one class to f16), `exact` and `fast` (f16 `[class, z, y, x]` to u8 labels). Prints the seconds of
//! every round, then on a line the processor seconds of all rounds and the greatest resident memory in MiB. OUTPUT gets the result of the last round.

use std::time::Instant;

use gantry_volume::export::{Decision, Logits, Way, labels, resample_class};
use gantry_volume::{AxisOrder, Order, resize, zoom, zoom_labels};
use half::f16;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [case, input, output, threads, rounds, size @ ..] = arguments.as_slice() else {
        return Err("see the head of this file".into());
    };
    let size: Vec<usize> = size.iter().map(|n| n.parse()).collect::<Result<_, _>>()?;
    let [z, y, x, new_z, new_y, new_x] = size.try_into().map_err(|_| "six sizes")?;
    let (from, to) = ([z, y, x], [new_z, new_y, new_x]);
    let bytes = std::fs::read(input)?;
    rayon::ThreadPoolBuilder::new().num_threads(threads.parse()?).build_global()?;
    let f32s = || bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect::<Vec<_>>();
    let f16s = || bytes.chunks_exact(2).map(|b| f16::from_le_bytes([b[0], b[1]])).collect::<Vec<_>>();
    let rounds: usize = rounds.parse()?;
    let out: Vec<u8> = match case.as_str() {
        "zoom1" | "zoom3" => {
            let spline = if case == "zoom1" { Order::Linear } else { Order::Cubic };
            let image = f32s();
            let out = timed(rounds, || zoom::<f32, i32>(&image, from, to, spline, AxisOrder::Xyz))?;
            out.into_iter().flat_map(i32::to_le_bytes).collect()
        }
        "image3" => {
            let image = f32s();
            let out = timed(rounds, || resize(&image, from, to, Order::Cubic))?;
            out.into_iter().flat_map(f32::to_le_bytes).collect()
        }
        "labels" => timed(rounds, || zoom_labels(&bytes, from, to))?,
        "logits" => {
            let values = f16s();
            let logits = Logits::new(&values, 1, from)?;
            let out = timed(rounds, || resample_class(&logits, 0, to, None))?;
            out.into_iter().flat_map(f16::to_le_bytes).collect()
        }
        "exact" | "fast" => {
            let values = f16s();
            let classes = values.len() / (z * y * x).max(1);
            let way = if case == "exact" { Way::Exact } else { Way::Fast };
            timed(rounds, || {
                let logits = Logits::new(&values, classes, from)?;
                labels(&logits, to, None, Decision::Greatest, way)
            })?
        }
        other => return Err(format!("unknown case {other}").into()),
    };
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).and_then(|l| l.trim().split(' ').next());
    println!("{}", peak.and_then(|kib| kib.parse::<f64>().ok()).map_or(0.0, |kib| kib / 1024.0));
    std::fs::write(output, out)?;
    Ok(())
}

/// Runs a step several times, printing the seconds of each; the last result.
fn timed<T>(rounds: usize, step: impl Fn() -> gantry_volume::Result<T>) -> gantry_volume::Result<T> {
    let before = processor_seconds();
    for _ in 1..rounds {
        let start = Instant::now();
        let result = step()?;
        print!("{} ", start.elapsed().as_secs_f64());
        drop(result);
    }
    let start = Instant::now();
    let result = step()?;
    print!("{} \n{} ", start.elapsed().as_secs_f64(), processor_seconds() - before);
    Ok(result)
}

/// Processor time of this process so far, all threads; Linux counts it in hundredths.
fn processor_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |field: usize| fields.get(field).and_then(|t| t.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(11) + ticks(12)) / 100.0
}
