//! What the plugin boundary costs: four trivial slice stages over 300 x 512 x 512 voxels, run by the staged program, against
//! the same arithmetic in one loop of the same compiler. Prints medians and their ratio; asserts nothing about time.
//!
//! The stages' seconds are those of run.json: the calls themselves, poisoning of outputs before and inspection of every
//! voxel after each call included. Both sides use one thread.

use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Instant;

use gantry_tests::c_plugin::build_c;
use gantry_tests::staging::{Quiet, build_and_stage, workspace};

const SLICES: usize = 300;
const EDGE: usize = 512;
const ROUNDS: usize = 7;

fn pipeline() -> String {
    let mut text = format!(
        "format = 1\nname = \"boundary\"\n[nodes.ramp]\nstage = \"org.example.ramp\"\n\
         params = {{ slices = {SLICES}, rows = {EDGE}, columns = {EDGE} }}\n"
    );
    let mut from = "ramp".to_owned();
    for i in 1..=4 {
        text += &format!("[nodes.scale-{i}]\nstage = \"org.example.scale\"\nfrom = \"{from}\"\n");
        from = format!("scale-{i}");
    }
    text
}

/// Seconds in the calls of the four stages.
fn chain(gantry: &Path, folder: &Path, round: usize) -> Result<f64, String> {
    let out = folder.join(format!("out-{round}"));
    let run = Command::new(gantry)
        .arg("run")
        .arg(folder.join("pipeline.toml"))
        .arg("-i")
        .arg(folder)
        .arg("-o")
        .arg(&out)
        .args(["--threads", "1", "--progress", "none", "--plugins"])
        .arg(folder.join("plugins"))
        .output()
        .map_err(|e| e.to_string())?;
    if !run.status.success() {
        return Err(String::from_utf8_lossy(&run.stderr).into_owned());
    }
    let text = std::fs::read_to_string(out.join("run.json")).map_err(|e| e.to_string())?;
    let json: serde_json::Value = serde_json::from_str(&text).map_err(|e| e.to_string())?;
    (1..=4)
        .map(|i| json["cases"][0]["nodes"][format!("scale-{i}")]["seconds"].as_f64())
        .sum::<Option<f64>>()
        .ok_or_else(|| format!("run.json names no seconds: {json}"))
}

fn median(mut all: Vec<f64>) -> f64 {
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}

fn compare() -> Result<(), String> {
    let stage = build_and_stage(Quiet::No)?;
    let folder = tempfile::tempdir().map_err(|e| e.to_string())?;
    let source = workspace().join("tests/plugins");
    let manifest = std::fs::read_to_string(source.join("boundary.toml")).map_err(|e| e.to_string())?;
    build_c(&source.join("boundary.c"), &manifest, &folder.path().join("plugins"), "boundary", &[]);
    std::fs::write(folder.path().join("pipeline.toml"), pipeline()).map_err(|e| e.to_string())?;
    // The loop lives in a program of its own, built with the flags of the plugin.
    let loop_program = folder.path().join("one-loop");
    let main = "#include <stdint.h>\n#include <stdio.h>\n#include <stdlib.h>\n#include <time.h>\n\
        void boundary_one_loop(const float *from, float *to, uint64_t n);\n\
        static double now(void) { struct timespec t; clock_gettime(CLOCK_MONOTONIC, &t); return t.tv_sec + t.tv_nsec * 1e-9; }\n\
        int main(int c, char **v) { uint64_t n = strtoull(v[c - 1], 0, 10), i; float *a = malloc(n * 4), *b = malloc(n * 4); double t;\n\
        if (!a || !b) return 1; for (i = 0; i < n; i++) { a[i] = (float)(i & 1023); b[i] = 0.0f; }\n\
        t = now(); boundary_one_loop(a, b, n); t = now() - t; printf(\"%.9f %f\\n\", t, b[n / 2]); return 0; }\n";
    let main_c = folder.path().join("main.c");
    std::fs::write(&main_c, main).map_err(|e| e.to_string())?;
    let library = folder.path().join("plugins/boundary/libboundary.so");
    let built = Command::new("cc").args(["-O2", "-o"]).arg(&loop_program).arg(&main_c).arg(&library).status();
    if !built.is_ok_and(|s| s.success()) {
        return Err("the loop does not build".to_owned());
    }
    let voxels = SLICES * EDGE * EDGE;
    let (mut stages, mut loops) = (Vec::new(), Vec::new());
    let started = Instant::now();
    for round in 0..ROUNDS {
        stages.push(chain(&stage.gantry, folder.path(), round)?);
        let mut one = Command::new(&loop_program);
        one.arg(voxels.to_string()).env("LD_LIBRARY_PATH", library.parent().unwrap_or(folder.path()));
        let out = one.output().map_err(|e| e.to_string())?;
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        let seconds = text.split_whitespace().next().and_then(|t| t.parse().ok());
        loops.push(seconds.ok_or_else(|| format!("the loop said {text:?}"))?);
    }
    let (four, one) = (median(stages), median(loops));
    println!(
        "{SLICES} x {EDGE} x {EDGE} voxels, one thread, medians of {ROUNDS} alternating rounds in {:.0} s",
        started.elapsed().as_secs_f64()
    );
    println!("four stages  {:8.1} ms  ({:.2} ns a voxel and stage)", four * 1e3, four * 1e9 / voxels as f64 / 4.0);
    println!("one loop     {:8.1} ms", one * 1e3);
    println!("ratio        {:8.2}", four / one);
    Ok(())
}

fn main() -> ExitCode {
    match compare() {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("error: {why}");
            ExitCode::FAILURE
        }
    }
}
