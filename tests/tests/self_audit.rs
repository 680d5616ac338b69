//! The self-audit: a patient's value that comes out anywhere makes the run fail and stands nowhere in the output folder.

mod bench;

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use bench::{Patient, Run, build_c, run_among, sources};
use gantry_tests::launch::walk;

/// The patient's id, and so a part of the name and the name of the folder.
const CANARY: &str = "qx7canary4wz";

/// A patient of twelve characters, and one beside whose results must stay.
fn patients() -> &'static Path {
    static FOLDER: OnceLock<tempfile::TempDir> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        Patient { name: CANARY, z_mm: 0.0, slices: 3, seed: 1 }.write(folder.path());
        Patient { name: "neighbour-2", z_mm: 10.0, slices: 3, seed: 2 }.write(folder.path());
        folder
    });
    folder.path()
}

fn leaky() -> &'static Path {
    static FOLDER: OnceLock<tempfile::TempDir> = OnceLock::new();
    FOLDER
        .get_or_init(|| {
            let plugins = tempfile::tempdir().unwrap();
            let manifest = std::fs::read_to_string(sources().join("leaky.toml")).unwrap();
            build_c(&sources().join("leaky.c"), &manifest, plugins.path(), "leaky", &[]);
            plugins
        })
        .path()
}

/// A chain that takes identity away and writes, under a name and with more nodes.
fn chain(name: &str, more: &str) -> String {
    format!(
        "format = 1\nname = \"{name}\"\n[nodes.ct]\nstage = \"dicom-read\"\n\
         params = {{ modality = \"CT\", quantity = \"hu\" }}\n[nodes.anonymous]\nstage = \"anonymizer\"\nfrom = \"ct\"\n\
         [nodes.write]\nstage = \"dicom-write\"\nfrom = \"anonymous.series\"\n{more}"
    )
}

/// A node that says or writes these bytes.
fn leak(id: &str, how: &str, name: &str, bytes: &[u8]) -> String {
    format!(
        "[nodes.{id}]\nstage = \"org.example.leaky\"\nfrom = \"anonymous.series\"\n\
         params = {{ how = \"{how}\", name = \"{name}\", hex = \"{}\" }}\n",
        hex::encode(bytes)
    )
}

fn go(pipeline: &str, more: &[&str]) -> Run {
    run_among(pipeline, &[leaky()], patients(), more, &[("GANTRY_LOG", "trace"), ("RUST_BACKTRACE", "full")])
}

/// Places below a folder, names included, that hold a text in any of the plain forms.
fn holders(folder: &Path, text: &str) -> Vec<String> {
    let wide: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let forms = [text.as_bytes().to_vec(), wide, hex::encode(text).into_bytes()];
    let holds = |bytes: &[u8]| forms.iter().any(|f| bytes.windows(f.len()).any(|w| w.eq_ignore_ascii_case(f)));
    let mut found = Vec::new();
    walk(folder, &mut |path| {
        let name = path.strip_prefix(folder).unwrap().to_string_lossy().into_owned();
        if holds(name.as_bytes()) || holds(&std::fs::read(path).unwrap()) {
            found.push(name);
        }
    });
    found
}

/// The run failed of a leak, said so, and left the value nowhere.
fn found(what: &str, run: &Run, in_words: bool) {
    assert_eq!(run.code, 1, "{what}: {}", run.words);
    let leaked: Vec<_> = run.unfinished().into_iter().filter(|c| c["code"] == "identity-leak").collect();
    assert!(!leaked.is_empty(), "{what}: {:?}\n{}", run.unfinished(), run.words);
    assert!(run.words.contains("identity-leak"), "{what}: {}", run.words);
    assert_eq!(holders(&run.out, CANARY), Vec::<String>::new(), "{what}");
    assert!(in_words || !run.words.contains(CANARY), "{what}: {}", run.words);
    for case in leaked {
        assert!(!run.out.join(case["case"].as_str().unwrap()).exists(), "{what}: its outputs are discarded");
    }
    // What is left can still be read.
    for line in std::fs::read_to_string(run.out.join("journal.jsonl")).unwrap().lines() {
        serde_json::from_str::<serde_json::Value>(line).unwrap();
    }
}

/// Why cases failed; those that hold the value of another case last.
fn reasons(run: &Run) -> Vec<String> {
    let mut all: Vec<String> = run.unfinished().iter().map(|c| c["reason"].as_str().unwrap().to_owned()).collect();
    all.sort_by_key(|reason| reason.contains("of another case"));
    all
}

#[test]
fn a_clean_run_says_what_it_searched() {
    let run = go(&chain("clean", &leak("more", "file", "words.txt", b"nobody here")), &[]);
    assert_eq!(run.code, 0, "{}", run.words);
    let json = run.json();
    for case in json["cases"].as_array().unwrap() {
        let audit = &case["self_audit"];
        assert!(audit["searched"].as_u64().unwrap() >= 5, "{audit}");
        assert_eq!((&audit["findings"], &audit["files"]), (&0.into(), &4.into()), "{audit}");
        assert!(audit["bytes"].as_u64().unwrap() > 1000, "{audit}");
    }
    assert_eq!(json["self_audit"]["findings"], 0);
    assert!(json["self_audit"]["bytes"].as_u64().unwrap() > 1000);
    assert_eq!(holders(&run.out, CANARY), Vec::<String>::new());
}

#[test]
fn whole_studies_are_audited_too() {
    let out = tempfile::tempdir().unwrap();
    deid(patients(), out.path(), bench::key(), &[]).expect(0);
    let json = gantry_tests::launch::run_json(out.path());
    assert_eq!(json["cases"].as_array().unwrap().len(), 2);
    for case in json["cases"].as_array().unwrap() {
        assert!(case["self_audit"]["searched"].as_u64().unwrap() >= 5, "{case}");
        assert_eq!(case["self_audit"]["files"], 4, "{case}");
    }
    assert_eq!(holders(out.path(), CANARY), Vec::<String>::new());
}

fn nifti(words: &str) -> Vec<u8> {
    let mut bytes = vec![0; 352];
    bytes[..4].copy_from_slice(&348u32.to_le_bytes());
    bytes[108..112].copy_from_slice(&352f32.to_le_bytes());
    bytes[148..148 + words.len()].copy_from_slice(words.as_bytes());
    bytes[344..348].copy_from_slice(b"n+1\0");
    bytes
}

fn png(words: &str) -> Vec<u8> {
    let mut bytes = b"\x89PNG\r\n\x1a\n".to_vec();
    for (name, data) in [(b"tEXt", format!("Comment\0{words}")), (b"IEND", String::new())] {
        bytes.extend((data.len() as u32).to_be_bytes());
        bytes.extend(name);
        bytes.extend(data.as_bytes());
        bytes.extend([0; 4]);
    }
    bytes
}

#[test]
fn a_value_in_a_file_of_any_kind_fails_the_case_and_whoever_else_holds_it() {
    let wide: Vec<u8> = format!("to {CANARY}").encode_utf16().flat_map(u16::to_le_bytes).collect();
    let percent: String = CANARY.bytes().map(|b| format!("%{b:02x}")).collect();
    for (name, bytes) in [
        ("text.txt", format!("about {CANARY}.").into_bytes()),
        ("data.json", format!("{{\"schema\": \"x/1\", \"list\": [1, {{\"{CANARY}\": 2}}]}}").into_bytes()),
        ("escaped.json", format!("[\"\\u0071{}\"]", &CANARY[1..]).into_bytes()),
        ("volume.nii", nifti(CANARY)),
        ("picture.png", png(CANARY)),
        ("wide.bin", wide),
        ("percent.txt", percent.into_bytes()),
        ("digits.txt", hex::encode_upper(format!("a{CANARY}")).into_bytes()),
    ] {
        let run = go(&chain("leaks", &leak("more", "file", name, &bytes)), &[]);
        found(name, &run, false);
        let reasons = reasons(&run);
        // The stage wrote the same into both.
        assert_eq!(reasons.len(), 2, "{name}: {reasons:?}");
        assert!(reasons[1].contains("of another case"), "{name}: {reasons:?}");
        let reason = &reasons[0];
        assert!(reason.contains("file 1 of 4") && reason.contains("(0010,0020)"), "{name}: {reason}");
    }
}

#[test]
fn a_value_that_a_parameter_brings_into_dicom_files_fails_the_case() {
    let text = chain("leaks", "").replace(
        "stage = \"dicom-write\"\n",
        &format!("stage = \"dicom-write\"\nparams = {{ series_description = \"of {CANARY}\" }}\n"),
    );
    let run = go(&text, &[]);
    found("series description", &run, false);
    assert!(reasons(&run)[0].contains("(DICOM)"), "{:?}", reasons(&run));
}

#[test]
fn a_value_in_a_name_fails_every_case_that_has_the_name() {
    let run = go(&chain("leaks", &leak("more", "file", &format!("{CANARY}.txt"), b"x")), &[]);
    found("file name", &run, false);
    let run = go(&chain("leaks", &leak(CANARY, "file", "x.txt", b"x")), &[]);
    // The node's name stands in the neighbour's folder and in the words of its log too.
    found("folder name", &run, true);
    assert_eq!(run.unfinished().len(), 2, "{:?}", run.unfinished());
}

#[test]
fn a_value_in_the_manifest_or_in_the_words_of_a_stage_fails_the_case() {
    let run = go(&chain(&format!("leaks {CANARY}"), ""), &[]);
    found("pipeline name", &run, false);
    let run = go(&chain("leaks", &leak("more", "warn", "x", format!("see {CANARY}").as_bytes())), &[]);
    found("warning", &run, true);
    let run = go(&chain("leaks", &leak("more", "log", "x", format!("see {CANARY}").as_bytes())), &[]);
    found("log", &run, true);
    assert!(run.words.contains(CANARY), "the log was written where nobody can take it back: {}", run.words);
}

#[test]
fn a_failed_case_leaves_no_value_either() {
    let words = format!("see {CANARY}");
    let reason = |run: &Run| -> String {
        let all = run.unfinished().into_iter().filter(|c| c["code"] == "identity-leak");
        all.map(|c| c["reason"].as_str().unwrap().to_owned()).collect()
    };
    let run = go(&chain("leaks", &leak("more", "refuse", "x", words.as_bytes())), &[]);
    assert_eq!(run.code, 1, "{}", run.words);
    assert_eq!(holders(&run.out, CANARY), Vec::<String>::new(), "{}", run.words);
    assert!(run.words.contains("identity-leak"), "{}", run.words);
    // The worker found it before it could be told: the patient's own case says why it failed without it.
    assert!(reason(&run).starts_with("the reason for which the case failed holds the value of"), "{}", reason(&run));
    let run = go(&chain("leaks", &leak("more", "warn-refuse", "x", words.as_bytes())), &[]);
    found("warning of a failed case", &run, true);
    assert!(reason(&run).starts_with("a warning of the case"), "{}", reason(&run));
    let run = go(&chain("leaks", &leak("more", "log-refuse", "x", words.as_bytes())), &[]);
    found("log of a failed case", &run, true);
    assert!(reason(&run).starts_with("the log holds"), "{}", reason(&run));
}

/// A folder with these patients, of so many slices.
fn cohort(patients: &[(&'static str, u16)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (i, (name, slices)) in patients.iter().enumerate() {
        Patient { name, z_mm: 0.0, slices: *slices, seed: i as u16 + 1 }.write(folder.path());
    }
    folder
}

#[test]
fn the_values_of_a_case_that_no_worker_compared_are_searched_in_those_of_others() {
    // The first case says it of the second, of which the worker dies.
    let run = go(&chain("leaks", &leak("more", "warn-die", "x", format!("see {CANARY}").as_bytes())), &["--jobs", "1"]);
    assert_eq!((run.code, holders(&run.out, CANARY)), (1, vec![]), "{}", run.words);
    assert!(run.unfinished().iter().any(|c| c["code"] == "worker-died"), "{:?}", run.unfinished());
    assert!(run.words.contains("identity-leak"), "{}", run.words);
    // A case that no worker is given: a slice is missing.
    let folder = cohort(&[(CANARY, 6), ("neighbour-2", 3)]);
    std::fs::remove_file(folder.path().join(CANARY).join("002.dcm")).unwrap();
    let text = chain("leaks", &leak("more", "warn", "x", format!("see {CANARY}").as_bytes()));
    let run = run_among(&text, &[leaky()], folder.path(), &[], &[]);
    assert_eq!((run.code, holders(&run.out, CANARY)), (1, vec![]), "{}", run.words);
    assert!(run.unfinished().iter().any(|c| c["status"] == "quarantined"), "{:?}", run.unfinished());
    assert!(run.words.contains("identity-leak"), "{}", run.words);
}

/// `gantry run` of a chain over three patients, whose stage says `words` of the second and waits in the third for as long as
/// there is a file `wait`.
struct Waiting {
    folder: tempfile::TempDir,
    patients: tempfile::TempDir,
}

impl Waiting {
    fn new(words: &str) -> Waiting {
        let folder = tempfile::tempdir().unwrap();
        let wait = folder.path().join("wait");
        std::fs::write(&wait, "").unwrap();
        let text = chain("waits", &leak("more", "warn-wait", wait.to_str().unwrap(), words.as_bytes()));
        std::fs::write(folder.path().join("p.toml"), text).unwrap();
        Waiting { folder, patients: cohort(&[(CANARY, 3), ("r-neighbour", 3), ("s-neighbour", 3)]) }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn command(&self) -> std::process::Command {
        let mut command = gantry_tests::launch::gantry();
        command.arg("run").arg(self.path("p.toml")).arg("-i").arg(self.patients.path()).arg("-o").arg(self.path("out"));
        command.arg("--plugins").arg(leaky()).arg("--key").arg(bench::key()).args(["--jobs", "1"]);
        command
    }

    /// Starts it and comes back when it waits in its third case.
    fn start(&self) -> std::process::Child {
        use std::process::Stdio;
        let child = self.command().stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
        let journal = || std::fs::read_to_string(self.path("out/journal.jsonl")).unwrap_or_default();
        while journal().matches("case-started").count() < 3 {
            assert!(std::time::Instant::now() < deadline, "{}", journal());
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        child
    }
}

#[test]
fn a_run_that_resumes_a_killed_one_searches_for_the_values_of_its_cases() {
    let waiting = Waiting::new(&format!("see {CANARY}"));
    let mut child = waiting.start();
    child.kill().unwrap();
    child.wait().unwrap();
    let journal = std::fs::read_to_string(waiting.path("out/journal.jsonl")).unwrap();
    assert!(journal.contains(CANARY) && !journal.contains("run-finished"), "{journal}");
    std::fs::remove_file(waiting.path("wait")).unwrap();
    let ended = gantry_tests::launch::end(&mut waiting.command()).expect(1);
    assert!(ended.stderr.contains("identity-leak"), "{}", ended.stderr);
    assert_eq!(holders(&waiting.path("out"), CANARY), Vec::<String>::new());
    // Both of the killed run's cases were kept until then: the patient's is withdrawn, that of the others stands.
    let json = gantry_tests::launch::run_json(&waiting.path("out"));
    let done = json["cases"].as_array().unwrap().iter().filter(|c| c["status"] == "done").count();
    assert_eq!(done, 2, "{json}");
    // Run again, nothing is wrong any more.
    gantry_tests::launch::end(&mut waiting.command()).expect(0);
}

#[test]
fn a_journal_that_cannot_be_read_at_the_end_fails_the_run_and_its_manifest_is_written() {
    for (words, leaks) in [("nobody", 0), (CANARY, 1)] {
        let waiting = Waiting::new(words);
        let mut child = waiting.start();
        std::fs::remove_file(waiting.path("out/journal.jsonl")).unwrap();
        std::fs::remove_file(waiting.path("wait")).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(3));
        let json = gantry_tests::launch::run_json(&waiting.path("out"));
        assert_eq!(json["self_audit"]["findings"], leaks, "{json}");
        assert_eq!(holders(&waiting.path("out"), CANARY), Vec::<String>::new());
    }
}

#[test]
fn a_patient_number_that_a_stage_writes_as_a_number_fails_the_case() {
    let folder = cohort(&[("4711002", 3), ("neighbour-2", 3)]);
    let run = |json: &str| {
        let text = chain("leaks", &leak("more", "file", "figures.json", json.as_bytes()));
        run_among(&text, &[leaky()], folder.path(), &[], &[])
    };
    run(r#"{"voxels": 14711002, "share": 0.4711002, "sum": 47110020}"#).ended(0);
    for json in [r#"{"x": 4711002}"#, "[4711002.0]", "[{\"x\": -4.711002e6}]"] {
        let run = run(json).ended(1);
        let reasons = reasons(&run);
        assert!(reasons[0].contains("(0010,0020) of the source, as a number"), "{json}: {reasons:?}");
        assert!(!reasons[0].contains("4711002"), "{reasons:?}");
    }
}

#[test]
fn a_resumed_run_searches_the_whole_journal() {
    let out = tempfile::tempdir().unwrap();
    let pipeline = out.path().join("p.toml");
    std::fs::write(&pipeline, chain("again", "")).unwrap();
    let start = |more: &[&str]| {
        let mut command = gantry_tests::launch::gantry();
        command.arg("run").arg(&pipeline).arg("-i").arg(patients()).arg("-o").arg(out.path().join("out"));
        command.arg("--key").arg(bench::key()).args(more);
        gantry_tests::launch::end(&mut command)
    };
    start(&["--limit", "1"]).expect(0);
    let journal: PathBuf = out.path().join("out/journal.jsonl");
    let before = std::fs::read_to_string(&journal).unwrap();
    // As if a version without self-audit had written it: the next run's patient in an old warning.
    let planted = before.replacen(
        "\"warnings\":[]",
        &format!("\"warnings\":[{{\"node\":\"n\",\"code\":\"c\",\"text\":\"{CANARY}\"}}]"),
        1,
    );
    assert_ne!(before, planted);
    std::fs::write(&journal, planted).unwrap();
    let ended = start(&["--fresh"]);
    assert_eq!(ended.code, 0, "a fresh journal holds nothing: {}", ended.stderr);
    let fresh = std::fs::read_to_string(&journal).unwrap();
    std::fs::write(
        &journal,
        fresh.replacen(
            "\"warnings\":[]",
            &format!("\"warnings\":[{{\"node\":\"n\",\"code\":\"c\",\"text\":\"{CANARY}\"}}]"),
            2,
        ),
    )
    .unwrap();
    for case in std::fs::read_dir(out.path().join("out"))
        .unwrap()
        .flatten()
        .filter(|e| e.file_name().to_string_lossy().starts_with("c-"))
    {
        std::fs::remove_dir_all(case.path()).unwrap();
    }
    let ended = start(&[]).expect(1);
    assert!(ended.stderr.contains("identity-leak"), "{}", ended.stderr);
    assert_eq!(holders(&out.path().join("out"), CANARY), Vec::<String>::new());
}

/// `gantry deid` of a folder, with more arguments.
fn deid(input: &Path, out: &Path, key: &Path, more: &[&str]) -> gantry_tests::launch::Ended {
    let mut command = gantry_tests::launch::gantry();
    command.arg("deid").arg("-i").arg(input).arg("-o").arg(out).arg("--key").arg(key).args(more);
    gantry_tests::launch::end(&mut command)
}

fn folders(out: &Path) -> usize {
    std::fs::read_dir(out)
        .unwrap()
        .filter(|e| e.as_ref().unwrap().file_name().to_string_lossy().starts_with("c-"))
        .count()
}

#[test]
fn a_value_that_stands_somewhere_by_chance_harms_its_own_case_alone() {
    // The day of the study, which stays; and a code that every result holds.
    for (id, more) in [("20260102", &["--profile", "basic+full-dates"][..]), ("113100", &[])] {
        let folder = cohort(&[("a-neighbour", 3), ("b-neighbour", 3)]);
        let out = tempfile::tempdir().unwrap();
        deid(folder.path(), out.path(), bench::key(), more).expect(0);
        Patient { name: id, z_mm: 0.0, slices: 3, seed: 7 }.write(folder.path());
        for again in ["the new one", "once more"] {
            let ended = deid(folder.path(), out.path(), bench::key(), more);
            assert_eq!((ended.code, folders(out.path())), (1, 2), "{id}, {again}: {}{}", ended.stdout, ended.stderr);
            assert!(ended.stdout.contains("2 done before") && ended.stdout.contains("1 failed"), "{}", ended.stdout);
        }
    }
}

#[test]
fn of_whole_studies_that_are_kept_id_and_name_are_searched_in_the_journal() {
    for planted in [CANARY.to_owned(), format!("{CANARY}^Test")] {
        let out = tempfile::tempdir().unwrap();
        deid(patients(), out.path(), bench::key(), &[]).expect(0);
        let journal = out.path().join("journal.jsonl");
        let before = std::fs::read_to_string(&journal).unwrap();
        let warning = format!("\"warnings\":[{{\"node\":\"n\",\"code\":\"c\",\"text\":\"{planted}\"}}]");
        let after = before.replacen("\"warnings\":[]", &warning, 1);
        assert_ne!(before, after);
        std::fs::write(&journal, after).unwrap();
        let ended = deid(patients(), out.path(), bench::key(), &[]);
        assert_eq!(ended.code, 1, "{}{}", ended.stdout, ended.stderr);
        assert_eq!(holders(out.path(), CANARY), Vec::<String>::new());
        // The case runs again, and all is well.
        deid(patients(), out.path(), bench::key(), &[]).expect(0);
    }
}

#[test]
fn another_key_is_refused_in_a_folder_that_was_begun() {
    let out = tempfile::tempdir().unwrap();
    deid(patients(), out.path(), bench::key(), &[]).expect(0);
    let other = out.path().join("other.key");
    let mut command = gantry_tests::launch::gantry();
    gantry_tests::launch::end(command.args(["key", "new"]).arg(&other)).expect(0);
    let ended = deid(patients(), out.path(), &other, &[]);
    assert_eq!((ended.code, folders(out.path())), (2, 2), "{}", ended.stderr);
    assert!(ended.stderr.contains("another key"), "{}", ended.stderr);
}
