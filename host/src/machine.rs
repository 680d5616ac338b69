//! What this machine is: processor, features that decide arithmetic, memory. For run.json and `gantry doctor`.

use serde_json::{Value as Json, json};

/// Processor model, features and threads.
pub fn describe(threads: usize) -> Json {
    json!({ "cpu": cpu(), "features": features(), "threads": threads })
}

/// The processor's name, as the system gives it.
pub fn cpu() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = info.lines().find_map(|l| l.strip_prefix("model name"));
    line.and_then(|l| l.split_once(':')).map_or("unknown", |(_, name)| name.trim()).to_owned()
}

/// Instruction sets that kernels choose between, best first.
pub fn features() -> Vec<&'static str> {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let flags: Vec<&str> =
        info.lines().find_map(|l| l.strip_prefix("flags")).unwrap_or_default().split_whitespace().collect();
    let known =
        [("amx_bf16", "amx-bf16"), ("amx_int8", "amx-int8"), ("avx512f", "avx512f"), ("avx2", "avx2"), ("fma", "fma")];
    known.into_iter().filter(|(flag, _)| flags.contains(flag)).map(|(_, name)| name).collect()
}

/// Bytes of memory: total and available; 0 where the system does not say.
pub fn memory() -> (u64, u64) {
    let info = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let field = |name: &str| {
        let line = info.lines().find_map(|l| l.strip_prefix(name));
        line.and_then(|l| l.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()).unwrap_or(0) * 1024
    };
    (field("MemTotal:"), field("MemAvailable:"))
}
