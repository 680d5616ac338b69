//! Checkpoints that may be missing, and the documents that say where they come from.

use std::fs;
use std::path::Path;

use gantry_host::diagnostic::Severity;
use gantry_host::registry::Place;

use crate::bench::{Bench, Outcome};

const PIPELINE: &str = r#"format = 1
name = "probe"

[nodes.ncct]
stage  = "dicom-read"
select = { modality = "CT" }
params = { modality = "CT", quantity = "hu" }

[nodes.heart]
stage  = "org.example.heart"
from   = "ncct"
params = { checkpoint = "example-heart", optional = true }

[nodes.masked]
stage  = "apply-mask"
from   = { image = "ncct", source = "ncct", mask = "heart" }
params = { inside = "source" }

[nodes.out]
stage = "nifti-write"
from  = "masked"
"#;

const PLUGIN: &str = r#"manifest = 1
[plugin]
id = "org.example.heart"
version = "1.0.0"
vendor = "Example"
licence = "MIT"
abi = 1
[library]
linux-x86_64.cpu = "libheart.so"
[stage."org.example.heart"]
version = "1.0.0"
summary = "Finds the heart."
licence = "MIT"
scope = "volume"
inputs.image = { caps = { kind = "image", quantity = "card", modality = "card", dtype = "f32" } }
outputs.mask = { count = "optional", caps = { kind = "labels", dtype = "u8", grid = "same:image", labels = "card" } }
params.checkpoint = { type = "checkpoint", architecture = "nnunet-v2", optional = "$optional" }
params.optional = { type = "bool", default = false }
"#;

const MODEL: &str = r#"format = 1
name = "example-heart"
title = "Heart model of the Example Institute"
size = 234_000_000
licence = "Apache-2.0"
source = "Downloaded by their program when it first runs."
import = "gantry weights import FOLDER --arch nnunet-v2 --name example-heart"
"#;

fn bench(folder: &Path, model: &str) -> Bench {
    let plugin = folder.join("org.example.heart");
    fs::create_dir_all(plugin.join("models")).unwrap();
    fs::write(plugin.join("plugin.toml"), PLUGIN).unwrap();
    fs::write(plugin.join("models/example-heart.toml"), model).unwrap();
    let mut bench = Bench::ducosy();
    bench.text = PIPELINE.to_owned();
    bench.places.plugins.insert(0, Place { path: folder.to_owned(), why: "test", what: "plugins" });
    bench
}

/// Installs a card of a checkpoint whose weights are one byte.
fn install(bench: &mut Bench, folder: &Path, caps: &str) {
    let checkpoint = folder.join("example-heart");
    fs::create_dir_all(&checkpoint).unwrap();
    fs::write(checkpoint.join("weights.safetensors"), "x").unwrap();
    let card = format!(
        "card = 1\nname = \"example-heart\"\narchitecture = \"nnunet-v2\"\nsummary = \"s\"\nlicence = \"l\"\n\
         trained_with = \"t\"\ntoy = false\nnature = \"derived\"\nintended_use = \"u\"\n\
         files = [{{ path = \"weights.safetensors\", sha256 = \"{}\" }}]\n{caps}",
        "0".repeat(64)
    );
    fs::write(checkpoint.join("card.toml"), card).unwrap();
    bench.use_checkpoints(folder);
}

fn text(outcome: &Outcome) -> String {
    outcome.sources.render(&outcome.diagnostics, false)
}

#[test]
fn a_missing_checkpoint_is_a_warning_where_the_pipeline_permits_it() {
    let temp = tempfile::tempdir().unwrap();
    let outcome = bench(temp.path(), MODEL).check();
    let [found] = outcome.diagnostics.as_slice() else { panic!("{}", text(&outcome)) };
    assert_eq!((found.code, found.severity), ("missing-checkpoint", Severity::Warning), "{}", text(&outcome));
    assert_eq!(found.message, "there is no checkpoint `example-heart`, so `heart` gives nothing");
    let help = found.help.as_deref().unwrap();
    for word in ["Heart model of the Example Institute", "234 MB", "licence: Apache-2.0", "when it first runs"] {
        assert!(help.contains(word), "{help}");
    }
    assert!(help.ends_with("To install it: gantry weights import FOLDER --arch nnunet-v2 --name example-heart"));
    let graph = outcome.graph.unwrap();
    let heart = graph.nodes.iter().find(|n| n.id == "heart").unwrap();
    assert_eq!(heart.params["checkpoint"], "");
    assert!(heart.checkpoints.is_empty());
    assert!(heart.outputs[0].may_be_absent);
}

#[test]
fn without_permission_it_is_an_error_with_the_same_help() {
    let temp = tempfile::tempdir().unwrap();
    let bench = bench(temp.path(), MODEL).change("optional = true", "optional = false");
    bench
        .one_error("unknown-checkpoint")
        .at("checkpoint = \"example-heart\"")
        .says(&["234 MB", "To install it: gantry"]);
    let other = bench.change("\"example-heart\"", "\"exmple-heart\"");
    other.one_error("unknown-checkpoint").says(&["gantry weights import FILE --arch nnunet-v2 --name exmple-heart"]);
}

#[test]
fn what_must_be_there_cannot_come_from_a_checkpoint_that_is_not() {
    let temp = tempfile::tempdir().unwrap();
    let extra = "\n[nodes.write-heart]\nstage = \"nifti-write\"\nfrom = \"heart\"\n";
    let mut bench = bench(temp.path(), MODEL);
    bench.text.push_str(extra);
    bench
        .one_error("absent-output")
        .at("from = \"heart\"")
        .says(&["`heart` may be absent", "install the checkpoint that `checkpoint` of node `heart` names"]);
}

#[test]
fn an_installed_checkpoint_is_used() {
    let temp = tempfile::tempdir().unwrap();
    let checkpoints = tempfile::tempdir().unwrap();
    let mut bench = bench(temp.path(), MODEL);
    let caps = "[caps.image]\nquantity = \"hu\"\nmodality = \"CT\"\n[caps.mask]\nlabels = [\"heart\"]\n";
    install(&mut bench, checkpoints.path(), caps);
    let outcome = bench.check();
    assert!(outcome.diagnostics.is_empty(), "{}", text(&outcome));
    let graph = outcome.graph.unwrap();
    let heart = graph.nodes.iter().find(|n| n.id == "heart").unwrap();
    assert_eq!(heart.params["checkpoint"], "example-heart");
    assert_eq!(heart.outputs[0].caps["labels"][0], "heart");
}

/// What `gantry weights import` writes for a model of one CT channel satisfies the stages that run it.
#[test]
fn the_shipped_stages_take_an_imported_checkpoint() {
    let caps = "[caps.image]\nquantity = \"hu\"\nmodality = \"CT\"\n[caps.labels]\nlabels = [\"heart\", \"aorta\"]\n";
    for (stage, optional) in [("heart-mask", ", optional = true"), ("nnunet-segmenter", "")] {
        let temp = tempfile::tempdir().unwrap();
        let checkpoints = tempfile::tempdir().unwrap();
        let mut bench = bench(temp.path(), MODEL)
            .change("\"org.example.heart\"", &format!("\"{stage}\""))
            .change(", optional = true", optional);
        install(&mut bench, checkpoints.path(), caps);
        let outcome = bench.check();
        assert!(outcome.diagnostics.is_empty(), "{stage}: {}", text(&outcome));
        assert!(outcome.graph.is_some());
    }
}

#[test]
fn a_card_that_is_wrong_is_no_absence() {
    let temp = tempfile::tempdir().unwrap();
    let checkpoints = tempfile::tempdir().unwrap();
    let mut bench = bench(temp.path(), MODEL);
    install(&mut bench, checkpoints.path(), "[caps.image]\ncolour = \"red\"\n");
    bench.one_error_with_refusals("unknown-checkpoint").says(&["its card was refused"]);
}

#[test]
fn documents_of_models_are_checked() {
    for (from, to, says) in [
        ("format = 1", "format = 2", "format"),
        ("title =", "titel =", "titel"),
        ("size = 234_000_000", "size = 0", "a number of bytes above 0, or text"),
        ("size = 234_000_000\n", "", "size"),
        ("name = \"example-heart\"\ntitle", "name = \"other\"\ntitle", "the document of `other` is called other.toml"),
    ] {
        let temp = tempfile::tempdir().unwrap();
        assert!(MODEL.contains(from));
        let bench = bench(temp.path(), &MODEL.replacen(from, to, 1));
        let mut sources = gantry_host::diagnostic::Sources::new();
        let registry = gantry_host::registry::Registry::open(&bench.places, &mut sources);
        let [refused] = registry.refused.as_slice() else { panic!("{to}: {:?}", registry.refused) };
        assert!(refused.path.ends_with("models/example-heart.toml"));
        let reasons = sources.render(&refused.reasons, false);
        assert!(reasons.contains(says), "{reasons}");
        assert!(!registry.models.contains_key("example-heart") && registry.stages.contains_key("org.example.heart"));
    }
    let temp = tempfile::tempdir().unwrap();
    let named = MODEL.replacen("234_000_000", "\"about 2 GB\"", 1);
    assert!(text(&bench(temp.path(), &named).check()).contains("(about 2 GB; licence"));
}
