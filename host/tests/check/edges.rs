//! One edge between two stages, every key of caps in turn: what fits, what does not, what only a case decides.

use std::fs;

use gantry_host::diagnostic::Sources;
use gantry_host::graph;
use gantry_host::pipeline::Document;
use gantry_host::registry::{Place, Places, Registry, Site};

const PIPELINE: &str = r#"format = 1
name = "edge"
[nodes.a]
stage = "giver"
[nodes.b]
stage = "taker"
from = "a"
"#;

/// The error codes, or the undecided keys, of an edge from `offer` to `demand` (each the inside of a caps table).
fn edge(offer: &str, demand: &str) -> Result<Vec<String>, (Vec<&'static str>, String)> {
    let folder = tempfile::tempdir().unwrap();
    let plugin = folder.path().join("one");
    fs::create_dir_all(&plugin).unwrap();
    let head =
        |id: &str| format!("[stage.{id}]\nversion = \"1\"\nsummary = \"x\"\nlicence = \"MIT\"\nscope = \"volume\"\n");
    let text = format!(
        "manifest = 1\n[plugin]\nid = \"one\"\nversion = \"1\"\nvendor = \"x\"\nlicence = \"MIT\"\nabi = 1\n\
         [library]\n{}.cpu = \"libone.so\"\n{}cases = \"input\"\noutputs.x = {{ caps = {{ {offer} }} }}\n{}inputs.x = {{ caps = {{ {demand} }} }}\n",
        gantry_host::registry::manifest::this_target(),
        head("giver"),
        head("taker"),
    );
    fs::write(plugin.join("plugin.toml"), text).unwrap();
    let mut sources = Sources::new();
    let place = Place { path: folder.path().to_owned(), why: "test", what: "plugins" };
    let registry = Registry::open(&Places { plugins: vec![place], checkpoints: Vec::new() }, &mut sources);
    let reasons: Vec<_> = registry.refused.iter().flat_map(|r| r.reasons.clone()).collect();
    assert!(reasons.is_empty(), "{}", sources.render(&reasons, false));
    let mut found = Vec::new();
    let document = Document::parse("pipeline.toml", PIPELINE, &[], &mut sources, &mut found).unwrap();
    let (graph, more) = graph::build(&document, &registry, &Site::default());
    found.extend(more);
    match graph {
        Some(graph) => Ok(graph.undecided.into_iter().flat_map(|u| u.keys).collect()),
        None => Err((found.iter().map(|d| d.code).collect(), sources.render(&found, false))),
    }
}

/// Offer and demand of the rest of an image's caps.
fn image(key: &str) -> String {
    format!("kind = \"image\", grid = \"new\", {key}")
}

#[test]
fn each_key_that_differs_is_one_error_with_its_own_code() {
    for (code, offer, demand) in [
        ("quantity", "quantity = \"hu\"", "quantity = \"normalized\""),
        ("quantity", "quantity = \"hu\"", "quantity = [\"normalized\", \"suv\"]"),
        ("quantity", "dtype = \"f32\"", "quantity = \"any\""),
        ("modality", "modality = \"CT\"", "modality = \"MR\""),
        ("channels", "channels = [\"a\", \"b\"]", "channels = [\"b\", \"a\"]"),
        ("channels", "channels = [\"a\", \"b\"]", "channels = [\"a\"]"),
        ("window", "window = [0, 1]", "window = [0, 1.0000001]"),
        ("window", "window = \"per-slice\"", "window = [0, 1]"),
        ("physical", "physical = \"hu\"", "physical = \"mr\""),
        ("dtype", "dtype = \"f16\"", "dtype = [\"f32\", \"f64\"]"),
        ("spacing_mm", "spacing_mm = [1, 1, 2]", "spacing_mm = 1"),
        ("identity", "identity = \"present\"", "identity = \"removed\""),
        ("identity", "identity = \"removed\"", "identity = \"none\""),
        ("synthetic", "synthetic = true", "synthetic = false"),
    ] {
        let demand = format!("kind = \"image\", {demand}");
        let (codes, text) = edge(&image(offer), &demand).expect_err(demand.as_str());
        assert_eq!(codes, [format!("caps-mismatch/{code}")], "{text}");
        assert!(text.contains("`a`") && text.contains("`b.x`") && text.contains("plugin.toml"), "both ends: {text}");
    }
    let kinds = [
        ("kind", "kind = \"record\", schema = \"s/1\"", "kind = \"table\", schema = \"t/1\""),
        ("schema", "kind = \"record\", schema = \"s/1\"", "kind = \"record\", schema = \"s/2\""),
        ("media", "kind = \"file\", media = \"image/png\"", "kind = \"file\", media = [\"text/html\"]"),
        (
            "labels",
            "kind = \"labels\", grid = \"new\", labels = [\"a\"]",
            "kind = \"labels\", labels = [\"a\", \"heart\"]",
        ),
    ];
    for (code, offer, demand) in kinds {
        let (codes, text) = edge(offer, demand).expect_err(demand);
        assert_eq!(codes, [format!("caps-mismatch/{code}")], "{text}");
    }
}

#[test]
fn what_fits_fits() {
    for (offer, demand) in [
        ("quantity = \"hu\", dtype = \"f32\"", "dtype = [\"f16\", \"f32\"]"),
        ("quantity = \"hu\"", "quantity = \"any\""),
        ("window = [-1, 1]", "window = [-1.0, 1.0]"),
        ("window = [-1, 1]", "window = \"any\""),
        ("spacing_mm = [2, 2, 2]", "spacing_mm = 2.0"),
        ("identity = \"none\"", "identity = \"removed\""),
        ("dtype = \"f32\"", "synthetic = false"),
        ("channels = [\"a\", \"b\"]", "channels = [\"a\", \"b\"]"),
    ] {
        let demand = format!("kind = \"image\", {demand}");
        assert_eq!(edge(&image(offer), &demand), Ok(Vec::new()), "{demand}");
    }
    let labels = "kind = \"labels\", grid = \"new\", labels = [\"a\", \"heart\"]";
    assert_eq!(edge(labels, "kind = [\"image\", \"labels\"], labels = [\"heart\"]"), Ok(Vec::new()));
}

#[test]
fn what_only_a_case_decides_is_listed() {
    let demand = "kind = \"labels\", labels = [\"heart\"], dtype = \"u8\"";
    let offer = "kind = \"labels\", grid = \"new\", labels = \"dynamic\", dtype = \"u8\"";
    assert_eq!(edge(offer, demand), Ok(vec!["labels".to_owned()]));
    assert_eq!(
        edge("kind = \"image\", grid = \"new\", channels = \"dynamic\"", "kind = \"image\", channels = [\"a\"]"),
        Ok(vec!["channels".to_owned()])
    );
}

#[test]
fn several_keys_that_differ_are_still_one_error() {
    let (codes, text) =
        edge(&image("quantity = \"hu\", dtype = \"f16\""), "kind = \"image\", quantity = \"suv\", dtype = \"f32\"")
            .unwrap_err();
    assert_eq!(codes, ["caps-mismatch/quantity"]);
    assert!(text.contains("dtype: `a` gives f16"), "{text}");
}
