//! `--precision` and the site's precision: which node gets what, and what is refused or said.

use std::path::Path;

use gantry_host::registry::site::Site;

use crate::bench::{Bench, Outcome, root};

/// The DuCoSy chain with a mask from a file, with a precision asked for on the command line.
fn asking(precision: &str) -> Bench {
    let mut bench = Bench::own_mask();
    bench.site.ask_precision(Some(precision));
    bench
}

/// The same, asked for by a site's document.
fn site_asking(precision: &str) -> Bench {
    let mut bench = Bench::own_mask();
    let mut ignored = Vec::new();
    // The place points into the first file the check registers; what counts is that there is one.
    let asked = Site::parse(&format!("[run]\nprecision = \"{precision}\"\n"), 0, &mut ignored);
    assert!(ignored.is_empty());
    (bench.site.precision, bench.site.precision_at) = (asked.precision, asked.precision_at);
    bench
}

fn precision_of(outcome: &Outcome, node: &str) -> String {
    let graph = outcome.graph.as_ref().unwrap_or_else(|| panic!("{}", said(outcome)));
    let node = graph.nodes.iter().find(|n| n.id == node).unwrap();
    node.params["precision"].as_str().unwrap().to_owned()
}

fn said(outcome: &Outcome) -> String {
    outcome.sources.render(&outcome.diagnostics, false)
}

fn codes(outcome: &Outcome) -> Vec<&'static str> {
    outcome.diagnostics.iter().map(|d| d.code).collect()
}

#[test]
fn it_fills_what_the_nodes_leave_open() {
    let silent = Bench::own_mask().check();
    assert_eq!((precision_of(&silent, "soft"), precision_of(&silent, "lung")), ("auto".into(), "auto".into()));
    for bench in [asking("bf16"), site_asking("bf16")] {
        let outcome = bench.check();
        assert_eq!((precision_of(&outcome, "soft"), precision_of(&outcome, "lung")), ("bf16".into(), "bf16".into()));
        assert!(outcome.diagnostics.is_empty(), "{}", said(&outcome));
        assert_ne!(outcome.graph.unwrap().digest(), silent.graph.as_ref().unwrap().digest());
    }
    // The command line comes before the site.
    let mut both = site_asking("bf16");
    both.site.ask_precision(Some("f32"));
    assert_eq!(precision_of(&both.check(), "lung"), "f32");
    both.site.ask_precision(Some("auto"));
    assert_eq!(precision_of(&both.check(), "lung"), "auto");
}

#[test]
fn a_node_that_sets_its_own_keeps_it_and_that_is_said() {
    let outcome = asking("bf16").set("soft.precision=f32").check();
    assert_eq!((precision_of(&outcome, "soft"), precision_of(&outcome, "lung")), ("f32".into(), "bf16".into()));
    assert_eq!(codes(&outcome), ["precision-kept"], "{}", said(&outcome));
    assert!(said(&outcome).contains("--set soft.precision=bf16"), "{}", said(&outcome));
    // The same value is no contradiction, and a site lays down what happens where nobody says anything.
    assert!(asking("f32").set("soft.precision=f32").check().diagnostics.is_empty());
    assert!(site_asking("bf16").set("soft.precision=f32").check().diagnostics.is_empty());
}

#[test]
fn a_chain_that_nothing_of_it_would_change_is_refused() {
    let chain = "format = 1\nname = \"copy\"\n[nodes.ct]\nstage = \"dicom-read\"\nselect = { modality = \"CT\" }\n\
        params = { modality = \"CT\", quantity = \"hu\" }\n[nodes.write]\nstage = \"nifti-write\"\nfrom = \"ct\"\n";
    let mut bench = asking("bf16");
    bench.text = chain.to_owned();
    bench.one_error("precision-unused").at("\"copy\"");
    // A site lays it down for every chain, also for those without a network.
    let mut bench = site_asking("bf16");
    bench.text = chain.to_owned();
    assert!(bench.check().diagnostics.is_empty());
}

#[test]
fn int8_needs_the_card() {
    for bench in [asking("int8"), site_asking("int8")] {
        bench.check_codes(
            &["int8-not-calibrated", "int8-not-calibrated"],
            &["`ducosy-soft`", "`ducosy-lung`", "[run.int8]", "docs/checkpoints.md", "card.toml"],
        );
    }
    Bench::ducosy().set("soft.precision=int8").one_error("int8-not-calibrated");
    // The heart's networks do not compute in int8, whatever a card says.
    let mut heart = Bench::ducosy();
    heart.site.ask_precision(Some("int8"));
    heart.check_codes(
        &["int8-not-calibrated", "int8-not-calibrated", "precision-not-offered"],
        &["node `heart` does not compute in int8", "set `precision` in the params of node `heart`"],
    );

    let folder = tempfile::tempdir().unwrap();
    for name in ["ducosy-soft", "ducosy-lung"] {
        copy_calibrated(name, folder.path(), "activations = { \"model.1\" = 1, \"model.4\" = 12.5 }");
    }
    let mut bench = asking("int8");
    bench.use_checkpoints(folder.path());
    assert_eq!(precision_of(&bench.check(), "soft"), "int8");
}

#[test]
fn a_table_of_activations_that_cannot_be_used_is_refused_with_its_place() {
    for (table, says) in [
        ("activations = { \"model.1\" = 0.0 }", "above 0"),
        ("activations = { \"model.1\" = \"x\" }", "above 0"),
        ("activations = { \"model.1\" = inf }", "finite"),
        ("activations = {}", "at least one layer"),
        ("activation = { a = 1.0 }", "activation"),
        ("", "activations"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        copy_calibrated("ducosy-soft", folder.path(), table);
        let mut sources = gantry_host::diagnostic::Sources::new();
        let refused =
            gantry_host::registry::CheckpointRef::read(&folder.path().join("ducosy-soft"), &mut sources).unwrap_err();
        let text = sources.render(&refused.reasons, false);
        assert!(text.contains(says) && text.contains("card.toml:"), "{table}: {text}");
    }
}

#[test]
fn a_stage_that_cannot_is_refused_and_one_that_has_no_choice_is_told() {
    // The stage without bf16: refused with both places. Without the parameter: computes as it always does, which is said.
    let manifest = std::fs::read_to_string(root().join("plugins/cyclegan-generator/plugin.toml")).unwrap();
    let without_bf16 = manifest.replace(", \"bf16\"", "");
    assert_ne!(manifest, without_bf16);
    for bench in [asking("bf16"), site_asking("bf16")] {
        let (mut bench, plugins) = (bench, with_manifest(&without_bf16));
        bench.use_plugins(plugins.path());
        bench.check_codes(
            &["precision-not-offered", "precision-not-offered"],
            &["does not compute in bf16", "node `soft`", "auto, f32, f32x3, int8", "plugin.toml"],
        );
    }
    let silent: String =
        manifest.lines().filter(|l| !l.starts_with("params.precision")).map(|l| format!("{l}\n")).collect();
    let plugins = with_manifest(&silent);
    let mut bench = site_asking("bf16");
    bench.use_plugins(plugins.path());
    let outcome = bench.check();
    assert_eq!(codes(&outcome), ["precision-not-taken", "precision-not-taken"], "{}", said(&outcome));
    assert!(outcome.graph.is_some());
    let mut bench = asking("bf16");
    bench.use_plugins(plugins.path());
    bench.check_codes(&["precision-unused"], &["would change nothing"]);
}

/// A copy of a test checkpoint whose card has `[run.int8]` with these lines.
fn copy_calibrated(name: &str, to: &Path, table: &str) {
    let from = root().join("tests/data/checkpoints").join(name);
    let folder = to.join(name);
    std::fs::create_dir_all(&folder).unwrap();
    for entry in std::fs::read_dir(&from).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, folder.join(path.file_name().unwrap())).unwrap();
    }
    let card = std::fs::read_to_string(folder.join("card.toml")).unwrap();
    std::fs::write(folder.join("card.toml"), format!("{card}\n[run.int8]\n{table}\n")).unwrap();
}

/// The plugins of the repository, the generator's with another manifest.
fn with_manifest(generator: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(root().join("plugins")).unwrap() {
        let path = entry.unwrap().path();
        let Ok(manifest) = std::fs::read_to_string(path.join("plugin.toml")) else { continue };
        let name = path.file_name().unwrap().to_owned();
        let manifest = if name == "cyclegan-generator" { generator.to_owned() } else { manifest };
        std::fs::create_dir_all(folder.path().join(&name)).unwrap();
        std::fs::write(folder.path().join(&name).join("plugin.toml"), manifest).unwrap();
    }
    folder
}
