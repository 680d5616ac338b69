//! Where networks run: `--device` with plugins that have a CUDA library, no driver, and a driver made up in C. Everything is
//! decided, and said, before a patient's file is opened.

mod bench;

use std::path::{Path, PathBuf};
use std::process::Command;

use bench::{Run, build_c, cohort, run_among, sources, words};
use gantry_tests::staging::stage;
use tempfile::TempDir;

const CHAIN: &str = r#"
format = 1
name = "devices"
[nodes.ct]
stage  = "dicom-read"
select = { modality = "CT" }
params = { modality = "CT", quantity = "hu" }
[nodes.network]
stage  = "org.example.hostile"
from   = "ct"
params = { mode = "none" }
[nodes.file]
stage = "nifti-write"
from  = "network"
"#;

/// A plugin with libraries for two devices, and a place for a driver.
struct Site {
    folder: TempDir,
}

fn compile(source: &Path, to: &Path, flags: &[&str]) {
    let done = Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(to).arg(source).args(flags).output().unwrap();
    assert!(done.status.success(), "{}", words(&done));
}

impl Site {
    /// `cuda`: whether plugin.toml names a CUDA library at all.
    fn new(cuda: bool) -> Site {
        let site = Site { folder: tempfile::tempdir().unwrap() };
        std::fs::create_dir(site.folder.path().join("driver")).unwrap();
        build_c(&sources().join("hostile.c"), &manifest(cuda), &site.plugins(), "hostile", &[]);
        site
    }

    fn plugins(&self) -> PathBuf {
        self.folder.path().join("plugins")
    }

    fn driver(&self) -> PathBuf {
        self.folder.path().join("driver")
    }

    /// Installs a driver whose cuInit gives `code`.
    fn with_driver(self, code: i32) -> Site {
        let flags = ["-Wl,-soname,libcuda.so.1", &format!("-DREFUSE={code}")];
        compile(&sources().join("driver.c"), &self.driver().join("libcuda.so.1"), &flags);
        self
    }

    /// Installs a CUDA library: made with `manifest`, needing the driver, and perhaps a library that is not installed.
    fn with_library(self, manifest: &str, needs_more: bool) -> Site {
        let scratch = tempfile::tempdir().unwrap();
        let at = |name: &str| scratch.path().join(name).display().to_string();
        compile(&sources().join("driver.c"), Path::new(&at("libcuda.so")), &["-Wl,-soname,libcuda.so.1"]);
        compile(&sources().join("driver.c"), Path::new(&at("libmore.so")), &["-Wl,-soname,libmore.so.9"]);
        let told = format!("-DTOLD=\"{}\"", self.told().display());
        let on_card = sources().join("on_card.c").display().to_string();
        let folder = format!("-L{}", scratch.path().display());
        let mut flags = vec![on_card.as_str(), &told, &folder, "-Wl,--no-as-needed", "-lcuda"];
        if needs_more {
            flags.push("-lmore");
        }
        let built = build_c(&sources().join("hostile.c"), manifest, scratch.path(), "built", &flags);
        std::fs::copy(built, self.plugins().join("hostile/libhostile_cuda.so")).unwrap();
        self
    }

    /// A file in which the CUDA library tells that it was opened, and what it was shown.
    fn told(&self) -> PathBuf {
        self.folder.path().join("told")
    }

    fn run(&self, more: &[&str]) -> Run {
        let driver = self.driver().display().to_string();
        run_among(CHAIN, &[&self.plugins()], &cohort().1, more, &[("LD_LIBRARY_PATH", &driver)])
    }

    /// Refused with these words before anything was made or read.
    fn refused(&self, device: &str, code: i32, says: &[&str]) {
        let run = self.run(&["--device", device]).ended(code);
        for word in says {
            assert!(run.words.contains(word), "`{word}` is not in: {}", run.words);
        }
        assert!(!run.out.exists(), "the run began");
    }

    /// Ends well on the CPU, and says why.
    fn falls_back(&self, says: &[&str]) {
        let run = self.run(&["--device", "auto"]).ended(0);
        for word in says.iter().chain(&["`network` runs on the CPU"]) {
            assert!(run.words.contains(word), "`{word}` is not in: {}", run.words);
        }
        let json = run.json();
        assert_eq!((&json["device"], &json["devices"]["network"]), (&"cpu".into(), &"cpu".into()), "{json:#}");
        assert!(json["device_notes"][0].as_str().unwrap().contains("`network` runs on the CPU"), "{json:#}");
        assert_eq!(run.results().len(), 2);
    }
}

fn manifest(cuda: bool) -> String {
    let text = std::fs::read_to_string(sources().join("hostile.toml")).unwrap();
    if !cuda {
        return text;
    }
    let text = text.replacen("scope = \"slice\"\n", "scope = \"slice\"\ndevices = [\"cpu\", \"cuda\"]\n", 1);
    let cpu = "linux-x86_64.cpu = \"libhostile.so\"\n";
    text.replacen(cpu, &format!("{cpu}linux-x86_64.cuda = \"libhostile_cuda.so\"\n"), 1)
}

/// A machine with a driver of its own cannot show what happens without.
fn has_driver() -> bool {
    let driver = Path::new("/proc/driver/nvidia/version").exists();
    if driver {
        println!("skipped: this machine has an NVIDIA driver");
    }
    driver
}

#[test]
fn without_a_driver_cuda_is_refused_and_auto_says_so() {
    if has_driver() {
        return;
    }
    let site = Site::new(true).with_library(&manifest(true), false);
    site.refused("cuda", 3, &["--device cuda:0: libcuda.so.1 cannot be loaded: no NVIDIA driver"]);
    site.falls_back(&["libcuda.so.1 cannot be loaded: no NVIDIA driver"]);
    assert!(!site.told().exists(), "the CUDA library was opened without a driver");
}

#[test]
fn a_cuda_library_that_is_not_there_is_named() {
    let site = Site::new(true).with_driver(0);
    let says = ["the CUDA library `libhostile_cuda.so` of plugin `org.example.hostile` is not installed"];
    site.refused("cuda", 2, &says);
    site.falls_back(&says);
}

#[test]
fn a_pipeline_without_any_stage_for_cards_refuses_cuda_and_has_nothing_to_say_to_auto() {
    let site = Site::new(false).with_driver(0);
    site.refused("cuda", 2, &["no stage of this pipeline runs on CUDA"]);
    let run = site.run(&[]).ended(0);
    assert!(!run.words.contains("--device"), "{}", run.words);
    assert_eq!(run.json()["devices"]["network"], "cpu");
    site.refused("cuda:x", 2, &["no number of a card"]);
    site.refused("gpu", 2, &["expected cpu, auto, cuda or cuda:N"]);
}

#[test]
fn a_card_is_used_by_the_nodes_that_can_and_that_is_recorded() {
    let site = Site::new(true).with_driver(0).with_library(&manifest(true), false);
    let plain = site.run(&["--device", "cpu"]).ended(0);
    assert!(!site.told().exists() && plain.json()["device"] == "cpu", "{}", plain.words);
    for device in ["auto", "cuda", "cuda:0"] {
        let _ = std::fs::remove_file(site.told());
        let run = site.run(&["--device", device, "--jobs", "3"]).ended(0);
        assert!(run.words.contains("`network` runs on cuda:0 (Made-up Card A)"), "{}", run.words);
        assert!(run.words.contains("one case worker instead of 3"), "{}", run.words);
        let json = run.json();
        assert_eq!((&json["device"], &json["devices"]["ct"]), (&"cuda:0".into(), &"cpu".into()));
        assert_eq!((&json["devices"]["network"], &json["cuda"]["capability"]), (&"cuda:0".into(), &"9.0".into()));
        assert_ne!(json["plan_digest"], plain.json()["plan_digest"], "results of a card must not pass for the CPU's");
        assert_eq!(run.results().len(), plain.results().len());
        // On trial it was shown every card; the worker that uses it was shown the one, and both no TF32.
        let told = std::fs::read_to_string(site.told()).unwrap();
        assert_eq!(told, "all 0 0\n0 0 0\n", "{device}");
    }
}

#[test]
fn a_card_that_is_not_there_or_not_free_is_refused() {
    let site = Site::new(true).with_driver(0).with_library(&manifest(true), false);
    let says = ["there is no such card", "cuda:0 (Made-up Card A), cuda:1 (Made-up Card B)"];
    site.refused("cuda:2", 3, &says);
    site.refused("cuda:1", 3, &["in use by another process"]);
    let broken = Site::new(true).with_driver(100).with_library(&manifest(true), false);
    broken.refused("cuda", 3, &["no card that CUDA can use"]);
    broken.falls_back(&["no card that CUDA can use"]);
}

#[test]
fn a_cuda_library_the_loader_refuses_is_named_with_what_it_lacks() {
    let site = Site::new(true).with_driver(0).with_library(&manifest(true), true);
    site.refused("cuda", 3, &["plugin `org.example.hostile` is refused", "libmore.so.9"]);
    site.falls_back(&["libmore.so.9"]);
}

/// An old library is no reason to go on quietly on the CPU: somebody must look.
#[test]
fn a_cuda_library_of_another_manifest_is_refused_by_auto_too() {
    let other = manifest(true).replacen("1.0.0", "0.9.0", 1);
    let site = Site::new(true).with_driver(0).with_library(&other, false);
    for device in ["auto", "cuda"] {
        site.refused(device, 4, &["was built with another plugin.toml"]);
    }
    assert!(!site.told().exists(), "it was opened");
}

#[test]
fn doctor_tells_of_driver_and_cards() {
    let site = Site::new(true).with_driver(0);
    let doctor = |library_path: &Path| {
        let mut command = Command::new(&stage().gantry);
        command.env("XDG_CONFIG_HOME", "/nonexistent").env("XDG_DATA_HOME", "/nonexistent");
        let plugins = site.plugins();
        let out =
            command.arg("doctor").arg("--plugins").arg(plugins).env("LD_LIBRARY_PATH", library_path).output().unwrap();
        words(&out)
    };
    let found = doctor(&site.driver());
    for word in [
        "cpu, cuda:0, cuda:1",
        "NVIDIA, CUDA 13.0",
        "cuda:1 is Made-up Card B, compute capability 9.0, 80.0 GiB",
        "plugin org.example.hostile: CUDA library libhostile_cuda.so is not installed",
    ] {
        assert!(found.contains(word), "`{word}` is not in: {found}");
    }
    if !has_driver() {
        let found = doctor(Path::new("/nonexistent"));
        assert!(found.contains("no CUDA: libcuda.so.1 cannot be loaded") && found.contains("all is well"), "{found}");
    }
}
