//! The command line as its users meet it: verbs, listings, exit codes, the demo.

use std::path::{Path, PathBuf};

use gantry_tests::fixture::shared;
use gantry_tests::launch::{Ended, copy_folder, end, gantry, run_json};
use gantry_tests::staging::{stage, workspace};
use gantry_tests::toys;
use serde_json::Value as Json;

/// The verbs of the contract that have arrived, as `gantry --help` lists them.
const VERBS: [&str; 17] = [
    "demo",
    "phantom",
    "run",
    "deid",
    "check",
    "test",
    "bench",
    "graph",
    "inspect",
    "plugins",
    "series",
    "weights",
    "verify",
    "doctor",
    "key",
    "completions",
    "man",
];

/// Verbs that arrive later: until then they do not exist.
const LATER: [&str; 5] = ["conform", "new-plugin", "train", "metrics", "report"];

fn run(arguments: &[&str]) -> Ended {
    end(gantry().args(arguments))
}

/// Runs in a folder of its own, so that nothing lies in the working folder by chance.
fn run_in(folder: &Path, arguments: &[&str]) -> Ended {
    end(gantry().current_dir(folder).args(arguments))
}

fn json(ended: &Ended) -> Json {
    serde_json::from_str(&ended.stdout).unwrap_or_else(|e| panic!("{e}: {}", ended.stdout))
}

fn shown(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

fn write(path: PathBuf, text: &str) -> PathBuf {
    std::fs::write(&path, text).expect("written");
    path
}

/// A chain of two built-in stages: what goes in comes out.
fn copy_pipeline(folder: &Path) -> PathBuf {
    let text = "format = 1\nname = \"copy\"\n[nodes.in]\nstage = \"dicom-read\"\n\
                select = { modality = \"CT\", not_folder = \"POST STD\" }\n\
                params = { modality = \"CT\", quantity = \"hu\" }\n[nodes.out]\nstage = \"nifti-write\"\nfrom = \"in\"\n";
    write(folder.join("copy.toml"), text)
}

/// The same through one plugin.
fn window_pipeline(folder: &Path) -> PathBuf {
    let text = "format = 1\nname = \"window\"\n[nodes.in]\nstage = \"dicom-read\"\n\
                select = { modality = \"CT\", not_folder = \"POST STD\" }\n\
                params = { modality = \"CT\", quantity = \"hu\" }\n[nodes.window]\nstage = \"hu-window\"\nfrom = \"in\"\n\
                params = { hu_min = -150.0, hu_max = 250.0 }\n[nodes.out]\nstage = \"nifti-write\"\nfrom = \"window\"\n";
    write(folder.join("window.toml"), text)
}

fn phantoms(folder: &Path, patients: u32) -> PathBuf {
    let input = folder.join("in");
    let patients = patients.to_string();
    run(&["phantom", "-o", shown(&input), "--patients", &patients, "--size", "16", "--slices", "4"]).expect(0);
    input
}

#[test]
fn the_verbs_are_those_of_the_contract() {
    let help = run(&["--help"]).expect(0).stdout;
    let listed: Vec<&str> = help
        .lines()
        .skip_while(|l| *l != "Commands:")
        .skip(1)
        .take_while(|l| !l.is_empty())
        .filter_map(|l| l.strip_prefix("  ")?.split(' ').next().filter(|w| !w.is_empty()))
        .filter(|w| *w != "help")
        .collect();
    assert_eq!(listed, VERBS);
    for verb in VERBS {
        let own = run(&[verb, "--help"]).expect(0);
        assert!(own.stdout.contains("Usage: gantry") && own.stderr.is_empty(), "{verb}: {own:?}");
        assert!(!own.stdout.contains('\u{1b}'), "{verb} colours a pipe");
    }
    for verb in LATER {
        run(&[verb]).expect(2);
    }
    run(&["--version"]).expect(0);
}

#[test]
fn a_bare_gantry_says_what_to_do() {
    let bare = run(&[]).expect(2);
    assert!(bare.stderr.contains("Usage: gantry") && !bare.stderr.contains("no plugins"), "{}", bare.stderr);
    // A program that was built and not staged.
    let temp = tempfile::tempdir().expect("a folder");
    let alone = temp.path().join("gantry");
    std::fs::copy(&stage().gantry, &alone).expect("copied");
    let start = |arguments: &[&str]| {
        let mut command = std::process::Command::new(&alone);
        command
            .env_remove("GANTRY_PLUGIN_PATH")
            .env("XDG_DATA_HOME", "/nonexistent")
            .env("XDG_CONFIG_HOME", "/nonexistent");
        end(command.args(arguments))
    };
    let bare = start(&[]).expect(2);
    assert!(bare.stderr.contains("cargo demo") && bare.stderr.contains("GANTRY_PLUGIN_PATH"), "{}", bare.stderr);
    let pipeline = window_pipeline(temp.path());
    for verb in
        [&["check", shown(&pipeline)][..], &["run", shown(&pipeline), "-i", "/", "-o", shown(&temp.path().join("o"))]]
    {
        let refused = start(verb).expect(2);
        assert!(refused.stderr.contains("there is no stage `hu-window`"), "{}", refused.stderr);
        assert!(refused.stderr.contains("cargo demo"), "{}", refused.stderr);
    }
    start(&["doctor"]).expect(1);
}

#[test]
fn listings_are_json_where_asked() {
    let temp = tempfile::tempdir().expect("a folder");
    let input = phantoms(temp.path(), 1);
    let pipeline = window_pipeline(temp.path());
    let series = run(&["series", shown(&input), "--json"]).expect(0);
    assert_eq!(json(&series)["series"].as_array().map(Vec::len), Some(4), "two CT series, two label volumes");
    assert_eq!(json(&run(&["check", shown(&pipeline), "--json"]).expect(0))["ok"], true);
    assert_eq!(json(&run(&["inspect", "hu-window", "--json"]).expect(0))["scope"], "slice");
    let plugins = json(&run(&["plugins", "list", "--json"]).expect(0));
    assert!(plugins["plugins"].as_array().is_some_and(|p| p.len() >= 9), "{plugins:#}");
    let doctor = json(&run(&["doctor", "--json"]).expect(0));
    assert_eq!(doctor["ok"], Json::Bool(true), "{doctor:#}");
    // Whether there is a card is the machine's matter.
    assert!(doctor["cuda"].is_boolean() && doctor["driver"].is_object(), "{doctor:#}");
    // A pipe is never coloured, and NO_COLOR is heeded.
    for arguments in
        [&["series", shown(&input)][..], &["plugins", "list"], &["doctor"], &["check", "/nonexistent.toml"]]
    {
        let plain = run(arguments);
        assert!(!plain.stdout.contains('\u{1b}') && !plain.stderr.contains('\u{1b}'), "{plain:?}");
    }
    for words in ["completions bash", "man", "man run"] {
        let made = run(&words.split(' ').collect::<Vec<_>>()).expect(0);
        assert!(made.stdout.replace('\\', "").contains("allow-toy") || words == "man", "{words}");
    }
}

#[test]
fn redacted_listings_hide_text_and_paths() {
    let temp = tempfile::tempdir().expect("a folder");
    let input = phantoms(temp.path(), 1);
    let checkpoints = temp.path().join("checkpoints");
    toys::pair(&checkpoints);
    let folder = checkpoints.join("toy-soft");
    let plugin = stage().plugins.join("hu-window");
    for arguments in [&["series", shown(&input)][..], &["inspect", shown(&folder)], &["inspect", shown(&plugin)]] {
        for form in [&["--redact"][..], &["--redact", "--json"]] {
            let hidden = run(&[arguments, form].concat()).expect(0);
            let root = shown(temp.path().parent().expect("a parent"));
            assert!(!hidden.stdout.contains(root) && !hidden.stdout.contains("POST VUE"), "{}", hidden.stdout);
            assert!(!hidden.stdout.contains(shown(&stage().root)), "{}", hidden.stdout);
            assert!(!hidden.stdout.contains("not trained"), "{}", hidden.stdout);
        }
    }
    assert!(run(&["inspect", shown(&folder)]).expect(0).stdout.contains("not trained"));
    let series = run(&["series", shown(&input), "--json"]).expect(0);
    assert!(series.stdout.contains("POST VUE"), "{}", series.stdout);
    std::fs::write(folder.join("card.toml"), "card = 1\nnane = \"x\"\n").expect("written");
    let refused = run(&["inspect", shown(&folder), "--redact"]).expect(2);
    assert!(refused.stderr.contains("nane") && !refused.stderr.contains(shown(temp.path())), "{}", refused.stderr);
}

#[test]
fn pipelines_are_drawn_and_stages_shown() {
    let temp = tempfile::tempdir().expect("a folder");
    let pipeline = window_pipeline(temp.path());
    let mermaid = run(&["graph", shown(&pipeline)]).expect(0).stdout;
    assert!(mermaid.starts_with("flowchart") && mermaid.contains("hu-window"), "{mermaid}");
    let dot = run(&["graph", shown(&pipeline), "--format", "dot"]).expect(0).stdout;
    assert!(dot.starts_with("digraph") && dot.contains("->"), "{dot}");
    let stage = run(&["inspect", "hu-window"]).expect(0).stdout;
    assert!(stage.contains("hu_min") && stage.contains("outputs"), "{stage}");
    let misspelt = run(&["inspect", "hu-windw"]).expect(2);
    assert!(misspelt.stderr.contains("hu-window"), "{}", misspelt.stderr);
}

#[test]
fn every_exit_code_has_its_meaning() {
    let temp = tempfile::tempdir().expect("a folder");
    let input = phantoms(temp.path(), 2);
    let copy = copy_pipeline(temp.path());
    let out = temp.path().join("out");
    let chain = |more: &[&str]| {
        let fixed = ["run", shown(&copy), "-i", shown(&input), "-o", shown(&out)];
        run_in(temp.path(), &[&fixed[..], more].concat())
    };
    // 2: usage, an unknown case, no case at all; nothing is written.
    run(&["run"]).expect(2);
    run(&["run", shown(&copy), "-i", "/nonexistent", "-o", shown(&out)]).expect(2);
    chain(&["--set", "out.nane=1"]).expect(2);
    let empty = temp.path().join("empty");
    std::fs::create_dir(&empty).expect("made");
    let none = run(&["run", shown(&copy), "-i", shown(&empty), "-o", shown(&temp.path().join("none"))]).expect(2);
    assert!(none.stderr.contains("no case found"), "{}", none.stderr);
    // 3: the environment.
    run(&["run", "/nonexistent.toml", "-i", shown(&input), "-o", shown(&out)]).expect(3);
    run(&["run", shown(&copy), "-i", shown(&input), "-o", "/proc/gantry-cannot-write-here"]).expect(3);
    run(&["plugins", "verify", "--lock", shown(&temp.path().join("no.lock"))]).expect(3);
    // 0, and again: done before.
    chain(&["--run-time", "2026-01-31T10:15:00Z"]).expect(0);
    let record = run_json(&out);
    assert_eq!((&record["complete"], &record["run_time"]), (&Json::Bool(true), &Json::from("2026-01-31T10:15:00Z")));
    let again = chain(&[]).expect(0);
    assert!(again.stdout.contains("2 done before"), "{again:?}");
    run(&["verify", shown(&out)]).expect(0);
    chain(&["--run-time", "2026-01-31T10:15:01Z"]).expect(2);
    chain(&["--only", "c-nobody"]).expect(2);
    assert!(chain(&["--fresh"]).expect(0).stdout.contains("2 done"));
    // 4: what was written is not what lies there.
    let case = record["cases"][0]["case"].as_str().expect("a name").to_owned();
    let file = record["cases"][0]["outputs"][0]["path"].as_str().expect("a path");
    let mut bytes = std::fs::read(out.join(file)).expect("a result");
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(out.join(file), bytes).expect("written");
    let changed = run(&["verify", shown(&out), "--json"]).expect(4);
    assert_eq!(json(&changed)["changed"], Json::from(vec![file]), "{changed:?}");
    // 1: one of two cases is bad.
    std::fs::remove_file(input.join("phantom/patient-001/POST VUE/0002.dcm")).expect("removed");
    let partly = chain(&["--fresh"]).expect(1);
    assert!(partly.stderr.contains("quarantined") && partly.stdout.contains("1 done, 1 quarantined"), "{partly:?}");
    assert!(!partly.stderr.contains("patient-001") && !partly.stderr.contains("POST VUE"), "{}", partly.stderr);
    assert!(!case.is_empty());
}

#[test]
fn a_run_is_narrowed_and_edges_are_kept() {
    let temp = tempfile::tempdir().expect("a folder");
    let input = phantoms(temp.path(), 3);
    let window = window_pipeline(temp.path());
    let go = |out: &str, more: &[&str]| {
        let out = temp.path().join(out);
        let fixed = ["run", shown(&window), "-i", shown(&input), "-o", shown(&out)];
        let ended = run_in(temp.path(), &[&fixed[..], more].concat()).expect(0);
        (run_json(&out), ended, out)
    };
    let (record, ended, out) = go("limited", &["--limit", "1", "--keep", "in", "--seed", "7"]);
    assert!(ended.stdout.contains("1 done"), "{ended:?}");
    assert_eq!(record["seed"], 7);
    let cases = record["cases"].as_array().expect("cases");
    assert_eq!(cases.len(), 1);
    let name = cases[0]["case"].as_str().expect("a name");
    let kept = std::fs::read_dir(out.join(name).join("keep-in")).expect("the kept edge");
    assert_eq!(kept.count(), 1);
    // --only names the case as OUT does: the same key gives the same name.
    let more = ["--only", name];
    let (record, ended, _) = go("limited", &more);
    assert_eq!(record["cases"].as_array().map(Vec::len), Some(1), "{ended:?}");
}

#[test]
fn pins_are_made_and_hold() {
    let temp = tempfile::tempdir().expect("a folder");
    let input = phantoms(temp.path(), 1);
    let window = window_pipeline(temp.path());
    let plugins = temp.path().join("plugins");
    copy_folder(&stage().plugins.join("hu-window"), &plugins.join("hu-window"));
    let site = write(temp.path().join("site.toml"), "[plugins]\nrequire_lock = true\n");
    let out = temp.path().join("out");
    let with = |words: &[&str]| {
        run_in(temp.path(), &[words, &["--plugins", shown(&plugins), "--site", shown(&site)]].concat())
    };
    let go = || with(&["run", shown(&window), "-i", shown(&input), "-o", shown(&out)]);
    // Without a lock the site's policy refuses.
    let refused = go().expect(2);
    assert!(refused.stderr.contains("gantry plugins lock"), "{}", refused.stderr);
    let locked = with(&["plugins", "lock"]).expect(0);
    assert!(locked.stdout.contains("hu-window") && temp.path().join("plugins.lock").is_file(), "{locked:?}");
    with(&["plugins", "verify"]).expect(0);
    go().expect(0);
    let record = run_json(&out);
    assert_eq!(record["plugins"][0]["pinned"], true, "{record:#}");
    // One flipped bit.
    let library = plugins.join("hu-window/libhu_window.so");
    let mut bytes = std::fs::read(&library).expect("a library");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&library, bytes).expect("written");
    let changed = with(&["plugins", "verify"]).expect(4);
    assert!(changed.stdout.contains("changed libhu_window.so"), "{changed:?}");
    let refused = go().expect(4);
    assert!(refused.stderr.contains("plugins.lock"), "{}", refused.stderr);
    with(&["check", shown(&window), "--deep"]).expect(4);
}

#[test]
fn imported_weights_pass_the_check() {
    let Some(model) = shared("fixtures/ducosy/model") else { return };
    let temp = tempfile::tempdir().expect("a folder");
    let checkpoints = temp.path().join("checkpoints");
    let file = model.join("G_c1_b1.pth");
    for (name, low, high) in [("ducosy-soft", "-150", "250"), ("ducosy-lung", "-1000", "-150")] {
        let fixed = ["weights", "import", shown(&file), "--arch", "ducosy-generator", "--name", name];
        let more = ["--checkpoints", shown(&checkpoints), "--modality", "CT", "--window", low, high];
        run(&[&fixed[..], &more].concat()).expect(0);
    }
    let key = temp.path().join("key");
    run(&["key", "new", shown(&key)]).expect(0);
    run(&["key", "new", shown(&key)]).expect(3);
    let pipeline = workspace().join("config/pipelines/ducosy.toml");
    let check = |more: &[&str]| {
        let fixed = ["check", shown(&pipeline), "--key", shown(&key), "--checkpoints", shown(&checkpoints)];
        run(&[&fixed[..], more].concat())
    };
    check(&["--deep"]).expect(0);
    let swapped = check(&["--set", "soft.checkpoint=ducosy-lung"]).expect(2);
    assert!(swapped.stderr.contains("window"), "{}", swapped.stderr);
    let wrong = run(&["weights", "import", shown(&model.join("in_1x1x32x32.npy")), "--arch", "ducosy-generator"]);
    assert!(wrong.code == 4 || wrong.code == 2, "{wrong:?}");
}

#[test]
fn the_demo_runs_resumes_and_leaves_others_alone() {
    let temp = tempfile::tempdir().expect("a folder");
    let checkpoints = temp.path().join("checkpoints");
    toys::pair(&checkpoints);
    let folder = temp.path().join("demo");
    let demo = |at: &Path| run(&["demo", "-o", shown(at), "--checkpoints", shown(&checkpoints)]);
    let first = demo(&folder).expect(0);
    assert!(
        first.stdout.contains("2 done") && first.stdout.contains(shown(&folder.join("results"))),
        "{}",
        first.stdout
    );
    let record = run_json(&folder.join("results"));
    assert_eq!(record["checkpoints"][0]["toy"], true);
    let written: Vec<&str> =
        record["cases"][0]["outputs"].as_array().expect("outputs").iter().filter_map(|o| o["path"].as_str()).collect();
    let count = |end: &str| written.iter().filter(|p| p.ends_with(end)).count();
    assert_eq!((count(".dcm"), count(".png")), (32, 4), "{written:?}");
    run(&["verify", shown(&folder.join("results"))]).expect(0);
    assert!(demo(&folder).expect(0).stdout.contains("2 done before"));
    let other = demo(temp.path()).expect(2);
    assert!(other.stderr.contains("which no demo made"), "{}", other.stderr);
}

#[test]
fn a_bench_says_where_time_and_memory_go_and_leaves_nothing() {
    let temp = tempfile::tempdir().unwrap();
    toys::pair(&temp.path().join("checkpoints"));
    let demo = workspace().join("config/pipelines/demo.toml");
    let scratch = temp.path().join("scratch");
    std::fs::create_dir(&scratch).unwrap();
    let bench = |more: &[&str]| {
        let mut command = gantry();
        command.current_dir(temp.path()).env("TMPDIR", &scratch).arg("bench").arg(&demo);
        command.args(["--checkpoints", "checkpoints", "--size", "32", "--slices", "9", "--repeat", "2"]);
        end(command.args(more))
    };
    let found = json(&bench(&["--json"]).expect(0));
    let nodes = found["nodes"].as_array().unwrap();
    let node = |id: &str| nodes.iter().find(|n| n["node"] == id).unwrap_or_else(|| panic!("{id}: {found:#}"));
    let networks: Vec<_> = nodes.iter().filter(|n| n["network"] == true).map(|n| n["stage"].clone()).collect();
    assert_eq!(networks, ["cyclegan-generator", "cyclegan-generator"]);
    for node in nodes {
        assert!(node["seconds"].as_f64().unwrap() > 0.0 && node["share"].as_f64().unwrap() > 0.0, "{node}");
    }
    assert_eq!(node("soft")["slices"], 9);
    assert!(node("soft")["peak_bytes"].as_u64().unwrap() >= 9 * 32 * 32 * 4);
    let number = |key: &str| found[key].as_f64().unwrap();
    // The networks are not overlapped by each other, so what is left of the case is everything else.
    assert!((number("network_seconds") + number("other_seconds") - number("case_seconds")).abs() < 0.5);
    assert!(number("case_seconds") < number("run_seconds") && (0.0..=1.0).contains(&number("other_share")));
    assert!(number("peak_rss_bytes") > 1e6);
    assert_eq!((&found["runs"], &found["cases"]), (&2.into(), &1.into()));

    let words = bench(&[]).expect(0).stdout;
    for word in ["soft", "slices/s", "everything else", "peak memory", "medians of 2 runs", "9 slices of 32 x 32"] {
        assert!(words.contains(word), "{word}: {words}");
    }
    // A case that fails is no measurement.
    let failed = bench(&["--set", "ncct.modality=MR"]);
    assert!(failed.code != 0 && failed.stdout.is_empty(), "{failed:?}");
    let left: Vec<_> = std::fs::read_dir(&scratch).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(left.is_empty(), "{left:?}");
    let here: Vec<_> = std::fs::read_dir(temp.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(here.len(), 2, "{here:?}");
}
