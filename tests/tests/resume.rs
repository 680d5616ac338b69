//! Interrupted at any moment and run again: the same results, and nothing done twice.

use std::collections::BTreeMap;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use gantry_tests::launch::{end, gantry, results, run_json, walk};
use gantry_tests::{small_ct, toys};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};

const CASES: u32 = 4;

/// A cohort, a key, and a chain with a small network in it.
struct Bench {
    root: tempfile::TempDir,
}

impl Bench {
    fn new() -> Option<Bench> {
        let bench = Bench { root: tempfile::tempdir().unwrap() };
        if !small_ct::cohort(&bench.path("in"), CASES, 6, 64) {
            return None;
        }
        toys::pair(&bench.path("checkpoints"));
        let text = "format = 1\nname = \"small\"\n\
             [nodes.ct]\nstage = \"dicom-read\"\nparams = { modality = \"CT\", quantity = \"hu\" }\n\
             [nodes.window]\nstage = \"hu-window\"\nfrom = \"ct\"\nparams = { hu_min = -150.0, hu_max = 250.0 }\n\
             [nodes.net]\nstage = \"cyclegan-generator\"\nfrom = \"window\"\nparams = { checkpoint = \"toy-soft\" }\n\
             [nodes.hu]\nstage = \"denormalise\"\nfrom = \"net\"\n\
             [nodes.smooth]\nstage = \"volume-postprocess\"\nfrom = \"hu\"\nparams = { method = \"gaussian3d\" }\n\
             [nodes.write]\nstage = \"dicom-write\"\nfrom = \"smooth\"\n";
        std::fs::write(bench.path("small.toml"), text).unwrap();
        end(gantry().args(["key", "new"]).arg(bench.path("site.key"))).expect(0);
        Some(bench)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn run(&self, out: &Path) -> Command {
        let mut command = gantry();
        command.arg("run").arg(self.path("small.toml")).arg("-i").arg(self.path("in")).arg("-o").arg(out);
        command.arg("--checkpoints").arg(self.path("checkpoints")).arg("--key").arg(self.path("site.key"));
        command.args(["--allow-toy", "--run-time", "2026-01-31T10:15:00Z"]);
        command
    }
}

/// A run in a process group of its own, so that all of it can be killed.
fn start(command: &mut Command) -> Child {
    command.process_group(0).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

fn pid(child: &Child) -> Pid {
    Pid::from_child(child)
}

/// Kills the supervisor and every worker it started.
fn kill_all(child: &mut Child) {
    // Workers lead groups of their own: they are found by their parent.
    let of = child.id().to_string();
    let mut workers = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Ok(stat) = std::fs::read_to_string(entry.path().join("stat")) else { continue };
        let parent = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(1)).unwrap_or_default();
        if parent == of {
            workers.extend(entry.file_name().to_string_lossy().parse().ok().and_then(Pid::from_raw));
        }
    }
    // Whoever is gone already needs no signal.
    let _ = kill_process_group(pid(child), Signal::KILL);
    for worker in workers {
        let _ = kill_process(worker, Signal::KILL);
    }
    child.wait().unwrap();
}

/// When every file of the cases that the journal calls finished was written.
fn finished(out: &Path) -> BTreeMap<PathBuf, SystemTime> {
    let journal = std::fs::read_to_string(out.join("journal.jsonl")).unwrap_or_default();
    let mut times = BTreeMap::new();
    for line in journal.lines() {
        let Ok(record) = serde_json::from_str::<serde_json::Value>(line) else { continue };
        if record["event"] == "case-finished" {
            walk(&out.join(record["case"].as_str().unwrap()), &mut |path| {
                times.insert(path.to_owned(), path.metadata().unwrap().modified().unwrap());
            });
        }
    }
    times
}

fn done(out: &Path) -> usize {
    let json = run_json(out);
    assert_eq!(json["complete"], true);
    json["cases"].as_array().unwrap().iter().filter(|c| c["status"] == "done").count()
}

#[test]
fn killed_at_any_moment_and_resumed_gives_the_same_tree() {
    let Some(bench) = Bench::new() else { return };
    let whole = bench.path("whole");
    let started = Instant::now();
    end(&mut bench.run(&whole)).expect(0);
    let took = started.elapsed();
    let expected = results(&whole);
    let mut seed = 7u64;
    let mut partial = 0;
    for kill in 0..12u32 {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        // Over the whole length of the run, each somewhere in its own twelfth.
        let part = (f64::from(kill) + (seed >> 40) as f64 / (1u64 << 24) as f64) / 12.0;
        let out = bench.path(&format!("killed-{kill}"));
        let mut child = start(&mut bench.run(&out));
        std::thread::sleep(Duration::from_secs_f64(took.as_secs_f64() * part));
        kill_all(&mut child);
        // What has its final name is whole, and right.
        let before = if out.exists() { results(&out) } else { BTreeMap::new() };
        assert!(before.iter().all(|(name, hash)| expected.get(name) == Some(hash)), "kill {kill}: partial results");
        let kept = finished(&out);
        partial += usize::from(!kept.is_empty() && before.len() < expected.len());
        let ended = end(&mut bench.run(&out)).expect(0);
        assert_eq!(results(&out), expected, "kill {kill}: {}", ended.stdout);
        for (path, time) in kept {
            assert_eq!(path.metadata().unwrap().modified().unwrap(), time, "kill {kill}: a finished case was redone");
        }
        assert_eq!(done(&out), CASES as usize);
    }
    println!("{partial} of 12 kills fell between two cases of a run of {took:?}");
}

#[test]
fn asked_to_stop_it_stops_soon_and_resumes() {
    let Some(bench) = Bench::new() else { return };
    let whole = bench.path("whole");
    end(&mut bench.run(&whole)).expect(0);
    for (signal, code) in [(Signal::TERM, 143), (Signal::INT, 130)] {
        let out = bench.path(&format!("stopped-{code}"));
        let mut child = start(&mut bench.run(&out));
        // As soon as the first case is being worked on.
        let deadline = Instant::now() + Duration::from_secs(30);
        let begun = || std::fs::read_to_string(out.join("journal.jsonl")).is_ok_and(|j| j.contains("case-started"));
        while !begun() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(2));
        }
        kill_process(pid(&child), signal).unwrap();
        let asked = Instant::now();
        let status = child.wait().unwrap();
        assert_eq!(status.code(), Some(code), "{status}");
        assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
        assert_eq!(run_json(&out)["complete"], false, "an interrupted run says that it is not complete");
        end(&mut bench.run(&out)).expect(0);
        assert_eq!(results(&out), results(&whole));
    }
}

#[test]
fn one_run_at_a_time_writes_to_an_output_folder() {
    let Some(bench) = Bench::new() else { return };
    let out = bench.path("out");
    let mut first = start(&mut bench.run(&out));
    let deadline = Instant::now() + Duration::from_secs(30);
    while !out.join("journal.jsonl").exists() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(2));
    }
    let ended = end(&mut bench.run(&out)).expect(3);
    assert!(ended.stderr.contains("another run"), "{}", ended.stderr);
    assert!(first.wait().unwrap().success(), "the first is unharmed");
    assert_eq!(done(&out), CASES as usize);
}

#[test]
fn again_does_nothing_and_a_changed_parameter_runs_again_saying_why() {
    let Some(bench) = Bench::new() else { return };
    let out = bench.path("out");
    end(&mut bench.run(&out)).expect(0);
    let before = finished(&out);
    assert_eq!(before.len(), 6 * CASES as usize);
    let again = end(&mut bench.run(&out)).expect(0);
    assert!(again.stdout.contains("0 done, 4 done before"), "{}", again.stdout);
    assert_eq!(finished(&out), before);
    assert_eq!(done(&out), CASES as usize);

    let tree = results(&out);
    let changed = end(bench.run(&out).args(["--set", "smooth.protect_above_hu=500.0"])).expect(0);
    assert!(changed.stdout.contains("4 done"), "{}", changed.stdout);
    assert!(changed.stderr.contains("changed"), "it says why it runs again: {}", changed.stderr);
    assert_ne!(results(&out), tree);

    // A result that was lost is made anew.
    let lost = results(&out).into_keys().next().unwrap();
    let tree = results(&out);
    std::fs::remove_file(out.join(&lost)).unwrap();
    let mended = end(bench.run(&out).args(["--set", "smooth.protect_above_hu=500.0"])).expect(0);
    assert!(mended.stdout.contains("1 done, 3 done before"), "{}", mended.stdout);
    assert_eq!(results(&out), tree);

    // Another time belongs to another run.
    let mut later = gantry();
    later.arg("run").arg(bench.path("small.toml")).arg("-i").arg(bench.path("in")).arg("-o").arg(&out);
    later.arg("--checkpoints").arg(bench.path("checkpoints")).arg("--key").arg(bench.path("site.key"));
    let ended = end(later.args(["--allow-toy", "--run-time", "2027-01-01T00:00:00Z"])).expect(2);
    assert!(ended.stderr.contains("--fresh"), "{}", ended.stderr);
}

#[test]
fn a_full_disk_ends_the_run_and_it_resumes_when_there_is_room() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can mount a small disk");
        return;
    }
    let Some(bench) = Bench::new() else { return };
    let whole = bench.path("whole");
    end(&mut bench.run(&whole)).expect(0);
    let disk = bench.path("disk");
    std::fs::create_dir(&disk).unwrap();
    // Each case is six slices of 64 x 64 in 16 bits: room for two or three of four.
    let mount = |options: &str| {
        Command::new("mount")
            .args(["-t", "tmpfs", "-o", options, "tmpfs"])
            .arg(&disk)
            .status()
            .is_ok_and(|s| s.success())
    };
    if !mount("size=192k") {
        eprintln!("skipped: no small disk can be mounted here");
        return;
    }
    let unmount = Unmount(disk.clone());
    let out = disk.join("out");
    let ended = end(&mut bench.run(&out)).expect(3);
    assert!(ended.stderr.contains("full") || ended.stderr.contains("space"), "{}", ended.stderr);
    let expected = results(&whole);
    let before = results(&out);
    assert!(before.len() < expected.len());
    assert!(before.iter().all(|(name, hash)| expected.get(name) == Some(hash)), "nothing partial under a final name");
    assert!(mount("remount,size=16m"));
    end(&mut bench.run(&out)).expect(0);
    assert_eq!(results(&out), expected);
    drop(unmount);
}

/// Takes a mount away, whatever becomes of the test.
struct Unmount(PathBuf);

impl Drop for Unmount {
    fn drop(&mut self) {
        // Nothing more can be done about a mount that stays.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}
