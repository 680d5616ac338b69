//! What the DuCoSy chain costs besides its two networks, DICOM in to DICOM out: `gantry bench` of `config/pipelines/ducosy.toml`
//! on phantoms of 512x512 pixels with 50, 100 and 200 slices in turn, with two generators of random weights. Prints
//! medians, the share of each node, and how peak memory grows with slices; asserts nothing about time.
//!
//! Small generators (4 wide, 1 block) stand for the networks, because the rest of the chain does not depend on them;
//! `--full` takes the published size (64 wide, 9 blocks) on 100 slices, some minutes, and prints the rest's share of the time.
//! Further arguments go to `gantry bench`, such as `--precision bf16` or `--threads 1`.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use gantry_tests::recipe::{PUBLISHED, generator, install};
use gantry_tests::staging::{Quiet, build_and_stage, workspace};
use serde_json::Value as Json;

const EDGE: usize = 512;
const SMALL: [(&str, i64); 4] = [("width", 4), ("cin", 1), ("blocks", 1), ("cbam", 1)];

/// A volume of floats of one series, bytes.
fn volume_bytes(slices: usize) -> f64 {
    (slices * EDGE * EDGE * 4) as f64
}

fn median(mut all: Vec<f64>) -> f64 {
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}

struct Bench {
    gantry: PathBuf,
    folder: PathBuf,
    more: Vec<String>,
}

impl Bench {
    /// A phantom patient; its folder.
    fn patient(&self, slices: usize) -> Result<PathBuf, String> {
        let folder = self.folder.join(format!("in-{slices}"));
        let mut phantom = Command::new(&self.gantry);
        phantom.args(["phantom", "--size", &EDGE.to_string(), "--slices", &slices.to_string(), "-o"]).arg(&folder);
        said(&mut phantom)?;
        Ok(folder)
    }

    /// One run over a patient.
    fn round(&self, input: &Path) -> Result<Json, String> {
        let mut bench = Command::new(&self.gantry);
        bench.arg("bench").arg(workspace().join("config/pipelines/ducosy.toml")).arg("-i").arg(input);
        bench.args(["--repeat", "1", "--json", "--checkpoints"]).arg(self.folder.join("checkpoints")).args(&self.more);
        // A configuration of this machine's user must not change what is measured.
        bench.env("XDG_CONFIG_HOME", &self.folder);
        serde_json::from_str(&said(&mut bench)?).map_err(|e| e.to_string())
    }
}

/// stdout of a program that must succeed.
fn said(command: &mut Command) -> Result<String, String> {
    let out = command.output().map_err(|e| e.to_string())?;
    match out.status.success() {
        true => Ok(String::from_utf8_lossy(&out.stdout).into_owned()),
        false => Err(String::from_utf8_lossy(&out.stderr).into_owned()),
    }
}

fn number(json: &Json, key: &str) -> Result<f64, String> {
    json[key].as_f64().ok_or_else(|| format!("the bench says no `{key}`"))
}

fn middle(rounds: &[Json], key: &str) -> Result<f64, String> {
    Ok(median(rounds.iter().map(|r| number(r, key)).collect::<Result<_, _>>()?))
}

fn compare() -> Result<(), String> {
    let mut more: Vec<String> = std::env::args().skip(1).collect();
    let full = more.iter().any(|a| a == "--full");
    more.retain(|a| a != "--full");
    let stage = build_and_stage(Quiet::No)?;
    let folder = tempfile::tempdir().map_err(|e| e.to_string())?;
    let bench = Bench { gantry: stage.gantry.clone(), folder: folder.path().to_owned(), more };
    let sizes = if full { PUBLISHED } else { SMALL };
    let checkpoints = folder.path().join("checkpoints");
    install(&checkpoints, "ducosy-soft", &generator("soft", sizes), [-150.0, 250.0], &[]);
    install(&checkpoints, "ducosy-lung", &generator("lung", sizes), [-1000.0, -150.0], &[]);
    let (slices, rounds): (&[usize], usize) = if full { (&[100], 1) } else { (&[50, 100, 200], 5) };
    let patients = slices.iter().map(|&n| bench.patient(n)).collect::<Result<Vec<_>, _>>()?;
    let mut results: Vec<Vec<Json>> = vec![Vec::new(); slices.len()];
    for _ in 0..rounds {
        for (patient, results) in patients.iter().zip(&mut results) {
            results.push(bench.round(patient)?);
        }
    }
    let network = format!("{} wide, {} blocks", sizes[0].1, sizes[2].1);
    println!("DuCoSy, {EDGE} x {EDGE}, two generators ({network}), medians of {rounds} alternating rounds");
    println!("{}", results[0][0]["machine"]);
    for (&slices, results) in slices.iter().zip(&results) {
        let (other, networks) = (middle(results, "other_seconds")?, middle(results, "network_seconds")?);
        let memory = middle(results, "peak_rss_bytes")?;
        println!(
            "{slices:4} slices: case {:7.2} s, networks {networks:7.2} s, everything else {other:6.2} s = {:5.2} % (start {:.2} s); \
             peak memory {:5.0} MB = {:4.1} volumes",
            middle(results, "case_seconds")?,
            other / (other + networks) * 100.0,
            middle(results, "start_seconds")?,
            memory / 1e6,
            memory / volume_bytes(slices),
        );
    }
    let largest = &results[slices.len() / 2];
    println!("by node, {} slices:", slices[slices.len() / 2]);
    for (i, node) in largest[0]["nodes"].as_array().into_iter().flatten().enumerate() {
        let seconds = median(largest.iter().filter_map(|r| r["nodes"][i]["seconds"].as_f64()).collect());
        println!(
            "  {:16} {:24} {seconds:8.3} s",
            node["node"].as_str().unwrap_or("?"),
            node["stage"].as_str().unwrap_or("?")
        );
    }
    if let [(first, a), .., (last, b)] = slices.iter().zip(&results).collect::<Vec<_>>().as_slice() {
        let grown = middle(b, "peak_rss_bytes")? - middle(a, "peak_rss_bytes")?;
        let per_slice = grown / (**last - **first) as f64;
        println!(
            "each further slice: {:.2} MB of memory, {:.1} slices of floats",
            per_slice / 1e6,
            per_slice / volume_bytes(1)
        );
    }
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
