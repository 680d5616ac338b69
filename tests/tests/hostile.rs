//! A plugin that misbehaves costs one case: the run goes on, names node and code, and the neighbours' results are the
//! bytes of a run without the marked case.

mod bench;

use std::collections::BTreeMap;
use std::path::Path;

use bench::{Run, cohort, hostile, out_of_tree, run};

/// How a case must end.
enum End {
    /// Like any other.
    Done,
    /// Failed with a code; a part of its reason.
    Failed(&'static str, &'static str),
    /// Quarantined with a code.
    Quarantined(&'static str),
}
use End::{Done, Failed, Quarantined};

fn chain(stage: &str, params: &str, sinks: &[&str]) -> String {
    let mut text = format!(
        "format = 1\nname = \"hostile\"\n[nodes.ct]\nstage = \"dicom-read\"\nselect = {{ modality = \"CT\" }}\n\
         params = {{ modality = \"CT\", quantity = \"hu\" }}\n[nodes.bad]\nstage = \"{stage}\"\nfrom = \"ct\"\n{params}\n"
    );
    for sink in sinks {
        let params = if *sink == "dicom-write" { "params = { series_description = \"x\" }\n" } else { "" };
        text += &format!("[nodes.to-{sink}]\nstage = \"{sink}\"\nfrom = \"bad\"\n{params}");
    }
    text
}

fn mode(mode: &str) -> String {
    format!("params = {{ mode = \"{mode}\" }}")
}

fn nifti(run: &Run) -> BTreeMap<String, Vec<u8>> {
    run.results().into_iter().filter(|(path, _)| path.ends_with(".nii.gz")).collect()
}

/// Runs every mode of one stage and compares its neighbours with a run without the marked case.
fn misbehaves(stage: &str, modes: &[(&str, End)]) {
    let (all, healthy) = cohort();
    let plugins: &[&Path] = &[hostile()];
    let without = nifti(&run(&chain(stage, &mode("none"), &["nifti-write"]), plugins, healthy, &[]).ended(0));
    assert_eq!(without.len(), 2);
    for (name, end) in modes {
        let run = run(
            &chain(stage, &mode(name), &["nifti-write"]),
            plugins,
            all,
            if *name == "loop" { &["--stall", "5"] } else { &[] },
        );
        let code = if matches!(end, Done) { 0 } else { 1 };
        assert_eq!(run.code, code, "{name}: {}", run.words);
        assert_eq!(run.json()["complete"], true, "{name}");
        let results = nifti(&run);
        for (path, bytes) in &without {
            assert!(results.get(path) == Some(bytes), "{name}: {path} is not what it is without the marked case");
        }
        let unfinished = run.unfinished();
        let (status, wanted, reason) = match end {
            Done => {
                assert!(unfinished.is_empty() && results.len() == 3, "{name}: {unfinished:?}");
                continue;
            }
            Failed(code, reason) => ("failed", *code, *reason),
            Quarantined(code) => ("quarantined", *code, ""),
        };
        assert_eq!((unfinished.len(), results.len()), (1, 2), "{name}: {unfinished:?}");
        let case = &unfinished[0];
        assert_eq!(
            (&case["status"], &case["code"], &case["node"]),
            (&status.into(), &wanted.into(), &"bad".into()),
            "{name}: {case}"
        );
        assert!(case["reason"].as_str().unwrap().contains(reason), "{name}: {case}");
        assert!(!run.out.join(case["case"].as_str().unwrap()).exists(), "{name}: a failed case left files");
        assert!(run.words.contains(wanted), "{name}: the user is not told: {}", run.words);
    }
}

#[test]
fn a_stage_that_kills_its_process_costs_one_case() {
    misbehaves(
        "org.example.hostile",
        &[
            ("segfault", Failed("worker-died", "segmentation fault")),
            ("stack", Failed("worker-died", "")),
            ("abort", Failed("worker-died", "abort")),
            ("exit-0", Failed("worker-died", "exit status 0")),
            ("quick-exit", Failed("worker-died", "exit status 0")),
            ("loop", Failed("worker-died", "no sign of life for 5 s")),
            ("begin-segfault", Failed("worker-died", "segmentation fault")),
            ("end-segfault", Failed("worker-died", "segmentation fault")),
        ],
    );
}

#[test]
fn an_output_that_must_not_be_used_costs_one_case() {
    misbehaves(
        "org.example.hostile",
        &[
            ("nan", Failed("output-not-finite", "")),
            ("infinite", Failed("output-not-finite", "")),
            ("map-nan", Failed("output-not-finite", "map")),
            ("unwritten", Failed("output-unwritten", "")),
            ("scribble-input", Failed("bad-output", "only lent")),
            ("scribble-output", Failed("bad-output", "only lent")),
            ("scribble-late", Failed("bad-output", "only lent")),
            ("absent-required", Failed("bad-output", "")),
            ("dtype-changed", Failed("bad-output", "")),
            ("halo", Failed("bad-needs", "")),
        ],
    );
    misbehaves("org.example.hostile-labels", &[("label-outside", Failed("output-unknown-label", "9"))]);
}

#[test]
fn every_status_has_its_effect() {
    misbehaves(
        "org.example.hostile",
        &[
            ("status-cancelled", Failed("cancelled-unasked", "")),
            ("status-pending", Failed("pending", "")),
            ("status-bad-params", Failed("bad-parameters", "")),
            ("status-bad-input", Quarantined("bad-input")),
            ("status-unsupported", Failed("unsupported", "")),
            ("status-resource", Failed("resource", "")),
            ("resource-batch", Done),
            ("status-service", Failed("service", "")),
            ("status-bad-weights", Failed("bad-weights", "")),
            ("status-internal", Failed("internal", "")),
            ("status-99", Failed("internal", "99")),
            ("status-minus-99", Failed("internal", "-99")),
            ("begin-99", Failed("internal", "99")),
            ("end-internal", Failed("internal", "")),
            ("word", Quarantined("its-own-code")),
        ],
    );
}

#[test]
fn what_a_stage_asks_of_the_host_is_bounded() {
    misbehaves(
        "org.example.hostile",
        &[
            ("service", Failed("service-not-granted", "gantry.pseudonym/1")),
            ("emit-wrong-port", Failed("internal", "")),
            ("checkpoint", Failed("bad-weights", "")),
            ("stdout", Done),
            ("bad-text", Done),
            ("warn-endlessly", Done),
        ],
    );
}

#[test]
fn a_grid_no_volume_can_have_is_refused_before_memory_is_taken() {
    misbehaves(
        "org.example.hostile-grid",
        &[
            ("none", Done),
            ("grid-empty", Failed("bad-geometry", "")),
            ("grid-negative", Failed("bad-geometry", "")),
            ("grid-huge", Failed("bad-geometry", "")),
            ("grid-nan", Failed("bad-geometry", "not finite")),
            ("grid-singular", Failed("bad-geometry", "singular")),
            ("grid-irregular", Failed("bad-geometry", "")),
        ],
    );
}

#[test]
fn a_size_found_while_working_is_checked() {
    misbehaves(
        "org.example.hostile-data",
        &[
            ("none", Done),
            ("grow-nothing", Failed("output-missing", "")),
            ("grow-few", Failed("bad-geometry", "")),
            ("grow-negative", Failed("resource", "")),
            ("grow-huge", Failed("resource", "")),
            ("grow-port", Failed("internal", "")),
            ("grow-dtype", Failed("internal", "")),
            ("grow-unwritten", Failed("output-unwritten", "")),
        ],
    );
}

#[test]
fn the_neighbours_are_byte_identical_with_their_uids_and_with_two_workers() {
    let (all, healthy) = cohort();
    for name in ["segfault", "nan", "exit-0"] {
        let text = chain("org.example.hostile", &mode(name), &["nifti-write", "dicom-write"]);
        let without = run(&text, &[hostile()], healthy, &[]).ended(0).results();
        assert_eq!(without.len(), 2 + 5 + 6);
        for more in [&["--jobs", "1"], &["--jobs", "2"], &["--threads", "2"]] {
            let with = run(&text, &[hostile()], all, more).ended(1);
            assert!(with.results() == without, "{name} {more:?}");
        }
    }
}

#[test]
fn words_of_a_stage_are_kept_from_the_terminal_and_few() {
    let plugins: &[&Path] = &[hostile()];
    let text = |name| chain("org.example.hostile", &mode(name), &["nifti-write"]);
    let odd = run(&text("bad-text"), plugins, &cohort().0, &[]).ended(0);
    let json = odd.json();
    let warnings: Vec<_> =
        json["cases"].as_array().unwrap().iter().flat_map(|c| c["warnings"].as_array()).flatten().collect();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert_eq!((&warnings[0]["code"], &warnings[0]["text"]), (&"odd".into(), &"a [31mred line".into()));
    assert!(!odd.words.contains('\u{1b}'));
    let many = run(&text("warn-endlessly"), plugins, &cohort().0, &[]).ended(0);
    let json = many.json();
    let count = json["cases"].as_array().unwrap().iter().flat_map(|c| c["warnings"].as_array()).flatten().count();
    assert!((1..=1000).contains(&count), "{count}");
}

#[test]
fn a_panic_of_a_rust_stage_costs_one_case() {
    let (all, healthy) = cohort();
    let text = chain("org.example.panics", "", &["nifti-write", "dicom-write"]);
    let without = run(&text, &[out_of_tree()], healthy, &[]).ended(0).results();
    let with = run(&text, &[out_of_tree()], all, &[]).ended(1);
    assert!(with.results() == without);
    let unfinished = with.unfinished();
    assert_eq!(unfinished.len(), 1);
    assert_eq!((&unfinished[0]["code"], &unfinished[0]["node"]), (&"panic".into(), &"bad".into()));
    assert_eq!(unfinished[0]["reason"], "the author did not think of this");
}

#[test]
fn a_stage_that_cannot_be_made_ends_the_run_before_any_case() {
    for (name, code, word) in [
        ("create-null", 4, "bad"),
        ("create-bad-params", 2, "bad-parameters"),
        ("create-segfault", 4, "segmentation fault"),
        ("prepare-bad-weights", 4, "bad-weights"),
    ] {
        let run = run(&chain("org.example.hostile", &mode(name), &["nifti-write"]), &[hostile()], &cohort().0, &[]);
        assert_eq!(run.code, code, "{name}: {}", run.words);
        assert!(run.words.contains(word), "{name}: {}", run.words);
        assert!(run.results().is_empty() && run.json()["complete"] == false, "{name}");
    }
}

#[test]
fn what_a_stage_computes_with_is_told_and_must_be_what_was_asked_for() {
    let (_, healthy) = cohort();
    let chain =
        |params: &str| chain("org.example.hostile-kernels", &format!("params = {{ {params} }}"), &["nifti-write"]);
    let told = |params: &str, more: &[&str]| {
        let run = run(&chain(params), &[hostile()], healthy, more).ended(0).json();
        let kernels: Vec<_> =
            run["cases"].as_array().unwrap().iter().map(|c| c["nodes"]["bad"]["kernels"].clone()).collect();
        assert_eq!(kernels.len(), 2);
        assert_eq!(kernels[0], kernels[1], "the worker's second case is told like its first");
        (run["precision"].clone(), kernels[0].clone(), run["cases"][0]["nodes"]["ct"]["kernels"].clone())
    };
    let bf16 = serde_json::json!({ "precision": "bf16", "instructions": "portable" });
    assert_eq!(told("mode = \"bf16\"", &[]), ("auto".into(), bf16.clone(), serde_json::Value::Null));
    assert_eq!(told("mode = \"bf16\"", &["--precision", "bf16"]), ("bf16".into(), bf16, serde_json::Value::Null));
    // Asked for f32 by the command line or the node, it would compute in bf16: no case is touched.
    for (params, more) in
        [("mode = \"bf16\"", &["--precision", "f32"][..]), ("mode = \"bf16\", precision = \"f32\"", &[])]
    {
        let run = run(&chain(params), &[hostile()], healthy, more).ended(4);
        assert!(run.words.contains("asked for precision f32, the stage computes in bf16"), "{}", run.words);
    }
    // A word that is none never reaches a file.
    let run = run(&chain("mode = \"Jane-Doe\""), &[hostile()], healthy, &[]).ended(4);
    assert!(run.words.contains("`precision` is one of") && !run.words.contains("Jane"), "{}", run.words);
}
