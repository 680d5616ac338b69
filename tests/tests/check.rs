//! `gantry check` on two chains with twelve kinds of mistake at once: everything is found in one pass, with its place, in
//! under a second, and no library is opened.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use gantry_tests::launch::{copy_folder, end, gantry};
use gantry_tests::staging::{stage, workspace};
use serde_json::Value;

/// A mistake: its code, the line it stands on (which stands in the pipeline once), and words of the finding.
struct Mistake {
    what: &'static str,
    code: &'static str,
    line: &'static str,
    says: &'static [&'static str],
    /// Files and lines that a label must show besides the first: `(file name, line's text)`; of cards and manifests the
    /// text is not asked for.
    other_end: &'static [(&'static str, &'static str)],
}

/// A folder with a pipeline, a site that forbids identifying outputs, a key, and what the chain needs.
struct Room {
    folder: tempfile::TempDir,
    text: String,
}

impl Room {
    fn new(pipeline: &str, changes: &[(&str, &str)], more: &str) -> Room {
        let mut text = std::fs::read_to_string(workspace().join(pipeline)).unwrap();
        for (from, to) in changes {
            assert_eq!(text.matches(from).count(), 1, "`{from}` must stand in {pipeline} once");
            text = text.replacen(from, to, 1);
        }
        text.push_str(more);
        let room = Room { folder: tempfile::tempdir().unwrap(), text };
        std::fs::write(room.path("pipeline.toml"), &room.text).unwrap();
        std::fs::write(room.path("site.toml"), "[policy]\nwriters_must_be_deidentified = true\n").unwrap();
        end(gantry().args(["key", "new"]).arg(room.path("key"))).expect(0);
        room
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn install(self, from: &str, to: &str) -> Room {
        copy_folder(&workspace().join(from), &self.path(to));
        self
    }

    /// The DuCoSy chain with a mistake in every way.
    fn ducosy() -> Room {
        let changes = [
            ("name   = \"ducosy\"\n", "name   = \"ducosy\"\nsede   = 1\n"),
            ("checkpoint = \"ducosy-soft\"", "checkpoint = \"ducosy-swap\""),
            ("checkpoint = \"ducosy-lung\"", "checkpoint = \"ducosy-soft\""),
            ("checkpoint = \"ducosy-swap\"", "checkpoint = \"ducosy-lung\""),
        ];
        let room = Room::new("config/pipelines/ducosy.toml", &changes, DUCOSY_MISTAKES)
            .install("tests/data/checkpoints", "checkpoints")
            .install("tests/data/brain-mr/plugins/brain-mr", "plugins/brain-mr");
        // A network of two phases, whose card says in which order it takes them.
        let card = std::fs::read_to_string(room.path("checkpoints/ducosy-soft/card.toml")).unwrap();
        let card = card
            .replace("\"ducosy-soft\"", "\"two-phases\"")
            .replace("[caps.image]\n", "[caps.image]\nchannels = [\"early\", \"late\"]\n");
        std::fs::create_dir(room.path("checkpoints/two-phases")).unwrap();
        std::fs::write(room.path("checkpoints/two-phases/card.toml"), card).unwrap();
        let weights = "checkpoints/ducosy-soft/weights.safetensors";
        std::fs::copy(room.path(weights), room.path("checkpoints/two-phases/weights.safetensors")).unwrap();
        room
    }

    /// The brain-MR chain (declared stages, nothing built) with a mistake in every way.
    fn brain_mr() -> Room {
        let changes = [
            ("seed   = 7", "sed    = 7"),
            ("checkpoint = \"whole-tumour\"", "checkpoint = \"swap\""),
            ("checkpoint = \"tumour-core\"", "checkpoint = \"whole-tumour\""),
            ("checkpoint = \"swap\"", "checkpoint = \"tumour-core\""),
        ];
        Room::new("tests/data/brain-mr/pipeline.toml", &changes, BRAIN_MISTAKES)
            .install("tests/data/brain-mr/checkpoints", "checkpoints")
            .install("tests/data/brain-mr/plugins/brain-mr", "plugins/brain-mr")
    }

    /// `check` in this room.
    fn check(&self, more: &[&str]) -> Command {
        let mut command = gantry();
        command.arg("check").args(self.arguments(more));
        command
    }

    fn arguments(&self, more: &[&str]) -> Vec<String> {
        let path = |name: &str| self.path(name).display().to_string();
        let mut all = vec![path("pipeline.toml")];
        for (option, name) in
            [("--site", "site.toml"), ("--key", "key"), ("--plugins", "plugins"), ("--checkpoints", "checkpoints")]
        {
            all.extend([option.to_owned(), path(name)]);
        }
        all.extend(more.iter().map(|&m| m.to_owned()));
        all
    }

    fn line(&self, text: &str) -> u64 {
        let lines: Vec<usize> =
            self.text.lines().enumerate().filter(|(_, l)| l.contains(text)).map(|(i, _)| i).collect();
        assert_eq!(lines.len(), 1, "`{text}` must stand on one line");
        lines[0] as u64 + 1
    }

    /// Demands that one pass of `check` finds these mistakes and no others.
    fn finds(&self, mistakes: &[Mistake]) {
        stage();
        let started = Instant::now();
        let ended = end(&mut self.check(&["--json"])).expect(2);
        let seconds = started.elapsed().as_secs_f64();
        println!("check: {seconds:.3} s for {} mistakes", mistakes.len());
        assert!(seconds < 1.0, "{seconds} s");
        let answer: Value = serde_json::from_str(&ended.stdout).unwrap();
        let found = answer["pipelines"][0]["diagnostics"].as_array().unwrap();
        let errors: Vec<&Value> = found.iter().filter(|d| d["severity"] == "error").collect();
        let text = end(&mut self.check(&[])).expect(2).stderr;
        for m in mistakes {
            let line = self.line(m.line);
            let at = |d: &&&Value| {
                d["code"] == m.code
                    && d["line"] == line
                    && d["file"].as_str().is_some_and(|f| f.ends_with("/pipeline.toml"))
            };
            let hits: Vec<_> = errors.iter().filter(at).collect();
            assert_eq!(hits.len(), 1, "{}: one `{}` on line {line} expected\n{text}", m.what, m.code);
            let column = hits[0]["column"].as_u64().unwrap();
            let width = self.text.lines().nth(line as usize - 1).unwrap().chars().count() as u64;
            assert!((1..=width).contains(&column), "{}: column {column}", m.what);
            assert!(text.contains(&format!("pipeline.toml:{line}:{column}")), "{}\n{text}", m.what);
            let whole = hits[0].to_string().replace("\\\"", "\"");
            for word in m.says {
                assert!(whole.contains(word), "{}: `{word}` is not said\n{whole}", m.what);
            }
            assert!(hits[0]["help"].as_str().is_some_and(|h| !h.is_empty()), "{}: no help\n{whole}", m.what);
            for (file, needle) in m.other_end {
                let labels = hits[0]["labels"].as_array().unwrap();
                let shown = labels.iter().any(|l| {
                    l["file"].as_str().is_some_and(|f| f.ends_with(file))
                        && (needle.is_empty() || l["line"] == self.line(needle))
                });
                assert!(shown, "{}: no label in {file} at `{needle}`\n{whole}", m.what);
            }
        }
        let codes: Vec<String> = errors.iter().map(|d| format!("{} at {}", d["code"], d["line"])).collect();
        assert_eq!(errors.len(), mistakes.len(), "{codes:#?}");
    }
}

const PIPELINE: &str = "pipeline.toml";

const DUCOSY_MISTAKES: &str = r#"
[nodes.mistake-stage]
stage = "denormalize"
from  = "lung"

[nodes.mistake-parameter]
stage  = "volume-postprocess"
from   = "ncct"
params = { ammount = 1.0 }

[nodes.mistake-range]
stage  = "volume-postprocess"
from   = "ncct"
params = { amount = 11.0 }

[nodes.cycle-a]
stage = "volume-postprocess"
from  = "cycle-b"

[nodes.cycle-b]
stage = "volume-postprocess"
from  = "cycle-a"

[nodes.mistake-missing]
stage = "difference-map"  # no difference
from  = { image = "ncct" }

[nodes.mistake-raw]
stage  = "cyclegan-generator"
from   = "ncct"  # raw
params = { checkpoint = "ducosy-soft" }

[nodes.other]
stage  = "dicom-read"
select = { modality = "CT", folder = "POST STD" }
params = { modality = "CT", quantity = "hu" }

[nodes.other-labels]
stage  = "labels-read"
params = { of = "other", path = "../heart.nii.gz" }

[nodes.mistake-grid]
stage = "apply-mask"
from  = { image = "ncct", source = "ncct", mask = "other-labels" }

[nodes.mr]
stage  = "dicom-read"
select = { modality = "MR" }
params = { modality = "MR", quantity = "hu" }

[nodes.mr-window]
stage  = "hu-window"
from   = "mr"
params = { hu_min = -150.0, hu_max = 250.0 }  # of MR

[nodes.mistake-modality]
stage  = "cyclegan-generator"
from   = "mr-window"
params = { checkpoint = "toy-soft" }

[nodes.early]
stage  = "dicom-read"
select = { description = "early" }
params = { modality = "CT", quantity = "hu", channel = "early" }

[nodes.late]
stage  = "dicom-read"
select = { description = "late" }
params = { modality = "CT", quantity = "hu", channel = "late" }
assert = { image = { grid = "early.image" } }

[nodes.phases]
stage = "org.example.stack"
from  = { image = "late", more = ["early"] }

[nodes.phases-window]
stage  = "hu-window"
from   = "phases"
params = { hu_min = -150.0, hu_max = 250.0 }  # of both

[nodes.mistake-order]
stage  = "cyclegan-generator"
from   = "phases-window"
params = { checkpoint = "two-phases" }

[nodes.mistake-identity]
stage = "dicom-write"
from  = "ncct"  # not de-identified
"#;

#[test]
fn twelve_mistakes_on_the_ducosy_chain() {
    Room::ducosy().finds(&[
        Mistake {
            what: "unknown key",
            code: "unknown-key",
            line: "sede   = 1",
            says: &["did you mean `seed`?"],
            other_end: &[],
        },
        Mistake {
            what: "unknown stage",
            code: "unknown-stage",
            line: "stage = \"denormalize\"",
            says: &["did you mean `denormalise`?"],
            other_end: &[],
        },
        Mistake {
            what: "unknown parameter",
            code: "unknown-parameter",
            line: "ammount = 1.0",
            says: &["did you mean `amount`?"],
            other_end: &[],
        },
        Mistake {
            what: "out of range",
            code: "parameter-range",
            line: "{ amount = 11.0 }",
            says: &["between 0 and 10"],
            other_end: &[("volume-postprocess/plugin.toml", "")],
        },
        Mistake {
            what: "cycle",
            code: "cycle",
            line: "from  = \"cycle-b\"",
            says: &["`cycle-a`", "`cycle-b`"],
            other_end: &[(PIPELINE, "from  = \"cycle-a\"")],
        },
        Mistake {
            what: "missing input",
            code: "missing-input",
            line: "# no difference",
            says: &["`difference`"],
            other_end: &[("difference-map/plugin.toml", "")],
        },
        Mistake {
            what: "raw HU into a generator",
            code: "caps-mismatch/quantity",
            line: "# raw",
            says: &["`ncct` gives hu", "takes normalized", "add `hu-window` between `ncct` and `mistake-raw`"],
            other_end: &[("cyclegan-generator/plugin.toml", "")],
        },
        Mistake {
            what: "soft weights swapped",
            code: "card-mismatch",
            line: "from   = \"soft-window\"",
            says: &["[-150, 250]", "[-1000, -150]", "there is checkpoint `ducosy-soft`"],
            other_end: &[("ducosy-lung/card.toml", "")],
        },
        Mistake {
            what: "lung weights swapped",
            code: "card-mismatch",
            line: "from   = \"lung-window\"",
            says: &["[-150, 250]", "[-1000, -150]", "there is checkpoint `ducosy-lung`"],
            other_end: &[(PIPELINE, "hu_min = -1000.0"), ("ducosy-soft/card.toml", "")],
        },
        Mistake {
            what: "mask on another grid",
            code: "caps-mismatch/grid",
            line: "mask = \"other-labels\"",
            says: &["that of other.image", "that of ncct.image"],
            other_end: &[("apply-mask/plugin.toml", "")],
        },
        Mistake {
            what: "wrong modality",
            code: "card-mismatch",
            line: "from   = \"mr-window\"",
            says: &["`mr-window` gives MR", "takes CT"],
            other_end: &[("toy-soft/card.toml", "")],
        },
        Mistake {
            what: "wrong channel order",
            code: "card-mismatch",
            line: "from   = \"phases-window\"",
            says: &["[late, early]", "[early, late]", "the order counts"],
            other_end: &[("two-phases/card.toml", "")],
        },
        Mistake {
            what: "identity",
            code: "identity-policy",
            line: "[nodes.mistake-identity]",
            says: &["ncct -> mistake-identity", "add `anonymizer`"],
            other_end: &[("site.toml", "")],
        },
    ]);
}

const BRAIN_MISTAKES: &str = r#"
[nodes.mistake-stage]
stage = "org.example.zscore"
from  = "core-stack"

[nodes.mistake-parameter]
stage  = "nifti-write"
from   = "faceless.images.0"
params = { nane = "twice" }

[nodes.mistake-range]
stage  = "org.example.unet3d"
from   = "scaled"  # in small steps
params = { checkpoint = "whole-tumour", step = 1.5 }

[nodes.cycle-a]
stage = "org.example.z-score"
from  = "cycle-b"

[nodes.cycle-b]
stage = "org.example.z-score"
from  = "cycle-a"

[nodes.mistake-missing]
stage = "org.example.uncrop"  # no reference
from  = { labels = "mistake-range" }

[nodes.mistake-raw]
stage  = "org.example.unet3d"
from   = "stacked"  # raw
params = { checkpoint = "whole-tumour" }

[nodes.t1]
stage  = "nifti-read"
select = { description = "_t1.nii" }
params = { modality = "MR", quantity = "mr", channel = "t1" }

[nodes.mistake-grid]
stage = "org.example.stack"
from  = { image = "flair", more = ["t1"] }

[nodes.ct]
stage  = "nifti-read"
select = { description = "_ct.nii" }
params = { modality = "CT", quantity = "mr", channel = "flair" }
assert = { image = { grid = "t1ce.image" } }

[nodes.mistake-modality]
stage = "org.example.stack"
from  = { image = "t2", more = ["ct"] }

[nodes.other-order]
stage = "org.example.stack"
from  = { image = "flair", more = ["t2", "t1ce"] }

[nodes.other-order-scaled]
stage = "org.example.slice-minmax"
from  = "other-order"

[nodes.mistake-order]
stage  = "org.example.unet3d"
from   = "other-order-scaled"
params = { checkpoint = "whole-tumour" }

[nodes.mistake-identity]
stage = "nifti-write"
from  = "t1ce"  # not de-identified
params = { name = "t1ce" }
"#;

#[test]
fn twelve_mistakes_on_a_foreign_chain() {
    Room::brain_mr().finds(&[
        Mistake {
            what: "unknown key",
            code: "unknown-key",
            line: "sed    = 7",
            says: &["did you mean `seed`?"],
            other_end: &[],
        },
        Mistake {
            what: "unknown stage",
            code: "unknown-stage",
            line: "org.example.zscore",
            says: &["did you mean `org.example.z-score`?"],
            other_end: &[],
        },
        Mistake {
            what: "unknown parameter",
            code: "unknown-parameter",
            line: "nane = \"twice\"",
            says: &["did you mean `name`?"],
            other_end: &[],
        },
        Mistake {
            what: "out of range",
            code: "parameter-range",
            line: "step = 1.5",
            says: &["between 0.1 and 1"],
            other_end: &[("brain-mr/plugin.toml", "")],
        },
        Mistake {
            what: "cycle",
            code: "cycle",
            line: "from  = \"cycle-b\"",
            says: &["`cycle-a`", "`cycle-b`"],
            other_end: &[(PIPELINE, "from  = \"cycle-a\"")],
        },
        Mistake {
            what: "missing input",
            code: "missing-input",
            line: "# no reference",
            says: &["`reference`"],
            other_end: &[("brain-mr/plugin.toml", "")],
        },
        Mistake {
            what: "raw intensities into a network",
            code: "card-mismatch",
            line: "# raw",
            says: &["`stacked` gives mr", "takes normalized", "org.example.slice-minmax"],
            other_end: &[("whole-tumour/card.toml", "")],
        },
        Mistake {
            what: "weights of the whole tumour swapped",
            code: "card-mismatch",
            line: "from   = \"cropped\"",
            says: &["[flair, t1ce, t2]", "[t1ce, t2]", "there is checkpoint `whole-tumour`"],
            other_end: &[("tumour-core/card.toml", "")],
        },
        Mistake {
            what: "weights of the core swapped",
            code: "card-mismatch",
            line: "from   = \"core-scaled\"",
            says: &["[flair, t1ce, t2]", "[t1ce, t2]", "there is checkpoint `tumour-core`"],
            other_end: &[("whole-tumour/card.toml", "")],
        },
        Mistake {
            what: "labels of the swapped weights",
            code: "caps-mismatch/labels",
            line: "labels = \"whole-back\", inside",
            says: &["[core]", "[enhancing]"],
            other_end: &[("tumour-core/card.toml", "")],
        },
        Mistake {
            what: "image on another grid",
            code: "caps-mismatch/grid",
            line: "more = [\"t1\"]",
            says: &["that of t1.image", "that of t1ce.image"],
            other_end: &[("brain-mr/plugin.toml", "")],
        },
        Mistake {
            what: "wrong modality",
            code: "caps-mismatch/modality",
            line: "more = [\"ct\"]",
            says: &["`ct` gives CT", "takes MR"],
            other_end: &[(PIPELINE, "modality = \"CT\"")],
        },
        Mistake {
            what: "wrong channel order",
            code: "card-mismatch",
            line: "from   = \"other-order-scaled\"",
            says: &["[flair, t2, t1ce]", "[flair, t1ce, t2]", "the order counts"],
            other_end: &[("whole-tumour/card.toml", "")],
        },
        Mistake {
            what: "identity",
            code: "identity-policy",
            line: "[nodes.mistake-identity]",
            says: &["t1ce -> mistake-identity", "`org.example.deface` before `mistake-identity`"],
            other_end: &[("site.toml", "")],
        },
    ]);
}

/// The system's tracer, where there is one.
fn strace() -> bool {
    let found = Command::new("strace").arg("-V").output().is_ok_and(|o| o.status.success());
    assert!(found || std::env::var_os("CI").is_none(), "strace is missing, and CI must have it");
    if !found {
        eprintln!("skipped: strace is not on this machine");
    }
    found
}

/// The libraries of plugin folders that a traced program opened.
fn opened(trace: &str, folders: &[&Path]) -> Vec<String> {
    // A relative path may be one below a folder that was opened before.
    let within = |path: &str| {
        path.ends_with(".so") && (!path.starts_with('/') || folders.iter().any(|f| Path::new(path).starts_with(f)))
    };
    let paths = trace.lines().filter(|l| !l.contains("ENOENT")).filter_map(|l| l.split('"').nth(1));
    paths.filter(|p| within(p)).map(str::to_owned).collect()
}

#[test]
fn no_library_is_opened() {
    if !strace() {
        return;
    }
    let room = Room::ducosy();
    let log = room.path("trace");
    let mut traced = Command::new("strace");
    traced.args(["-f", "-e", "trace=open,openat,openat2,execve", "-s", "4096", "-o"]).arg(&log).arg(&stage().gantry);
    end(traced.arg("check").args(room.arguments(&[]))).expect(2);
    let trace = std::fs::read_to_string(&log).unwrap();
    let plugins = [stage().plugins.as_path()];
    assert!(trace.contains("hu-window/plugin.toml"), "the trace sees what is opened");
    assert_eq!(opened(&trace, &plugins), Vec::<String>::new());
    // The same eyes see a library that is opened.
    let mut traced = Command::new("strace");
    traced.args(["-f", "-e", "trace=open,openat,openat2", "-s", "4096", "-o"]).arg(&log).arg("cat");
    end(traced.arg(stage().plugins.join("hu-window/libhu_window.so"))).expect(0);
    let trace = std::fs::read_to_string(&log).unwrap();
    assert!(!opened(&trace, &plugins).is_empty(), "a library that is read is seen");
}

#[test]
fn a_constructor_does_not_run() {
    let room = Room::ducosy();
    let (mark, source) = (room.path("constructed"), room.path("mark.c"));
    let code = format!(
        "#include <stdio.h>\n__attribute__((constructor)) static void mark(void) {{ \
         FILE *f = fopen(\"{}\", \"w\"); if (f) fclose(f); }}\n",
        mark.display()
    );
    std::fs::write(&source, code).unwrap();
    let folder = room.path("plugins/hu-window");
    std::fs::create_dir(&folder).unwrap();
    std::fs::copy(stage().plugins.join("hu-window/plugin.toml"), folder.join("plugin.toml")).unwrap();
    let library = folder.join("libhu_window.so");
    end(Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source)).expect(0);
    // The library does leave its mark where it is loaded.
    end(Command::new("/bin/true").env("LD_PRELOAD", &library)).expect(0);
    assert!(mark.exists());
    std::fs::remove_file(&mark).unwrap();
    let ended = end(&mut room.check(&["--json"])).expect(2);
    assert!(!ended.stdout.is_empty());
    let mut deep = gantry();
    deep.arg("check")
        .arg(workspace().join("config/pipelines/demo.toml"))
        .args(room.arguments(&["--deep"]).split_off(1));
    end(&mut deep);
    assert!(!mark.exists(), "check ran code of a plugin");
}
