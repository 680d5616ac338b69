//! Threads, workers and batches do not change a byte of the results.

use gantry_tests::launch::{end, gantry, results, run_json};
use gantry_tests::staging::workspace;
use gantry_tests::{small_ct, toys};

const CASES: u32 = 3;

#[test]
fn threads_and_workers_do_not_change_a_byte() {
    let root = tempfile::tempdir().unwrap();
    let path = |name: &str| root.path().join(name);
    if !small_ct::cohort(&path("in"), CASES, 5, 64) {
        return;
    }
    toys::pair(&path("checkpoints"));
    end(gantry().args(["key", "new"]).arg(path("site.key"))).expect(0);
    let mut trees = Vec::new();
    for (threads, jobs) in [("1", "1"), ("2", "1"), ("1", "2"), ("2", "2")] {
        let out = path(&format!("out-{threads}-{jobs}"));
        let mut command = gantry();
        command.arg("run").arg(workspace().join("config/pipelines/ducosy.toml")).arg("-i").arg(path("in"));
        command.arg("-o").arg(&out).arg("--key").arg(path("site.key")).arg("--checkpoints").arg(path("checkpoints"));
        command.args(["--set", "soft.checkpoint=toy-soft", "--set", "lung.checkpoint=toy-lung", "--allow-toy"]);
        command.args(["--run-time", "2026-01-31T10:15:00Z", "--threads", threads, "--jobs", jobs]);
        end(&mut command).expect(0);
        assert_eq!(run_json(&out)["cases"].as_array().unwrap().len(), CASES as usize);
        trees.push(results(&out));
    }
    assert_eq!(trees[0].len(), 5 * CASES as usize);
    assert!(trees.windows(2).all(|pair| pair[0] == pair[1]), "threads or workers changed the results");
}
