//! What this machine is: processor, features that decide arithmetic, memory. For run.json and `gantry doctor`.

use gantry_plugin::{Isa, IsaFeatures};
pub mod cuda;

use serde_json::{Value as Json, json};

/// Processor model, features, the instructions that kernels choose by themselves, and threads.
pub fn describe(threads: usize) -> Json {
    json!({ "cpu": cpu(), "features": features(), "instructions": Isa::best().name(), "threads": threads })
}

/// The processor's name, as the system gives it.
pub fn cpu() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = info.lines().find_map(|l| l.strip_prefix("model name"));
    line.and_then(|l| l.split_once(':')).map_or("unknown", |(_, name)| name.trim()).to_owned()
}

/// Features of the processor that decide which kernels run, best first; matrix instructions only where they may be used.
pub fn features() -> Vec<&'static str> {
    IsaFeatures::found().names()
}

/// Bytes of memory: total and available; 0 where the system does not say.
pub fn memory() -> (u64, u64) {
    let info = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    (kilobytes(&info, "MemTotal:"), kilobytes(&info, "MemAvailable:"))
}

/// Resident memory of this process in bytes: now, and at its most so far; 0 where the system does not say.
pub fn resident() -> (u64, u64) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    (kilobytes(&status, "VmRSS:"), kilobytes(&status, "VmHWM:"))
}

/// Whole megabytes that hold these bytes.
pub fn megabytes(bytes: u64) -> u64 {
    bytes.div_ceil(1_000_000)
}

/// The field `name` of a document of `/proc`, in bytes.
fn kilobytes(document: &str, name: &str) -> u64 {
    let line = document.lines().find_map(|l| l.strip_prefix(name));
    line.and_then(|l| l.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()).unwrap_or(0) * 1024
}
