//! Documents that are cut off, shuffled or nonsense: words and places, never a crash.

use gantry_host::diagnostic::Sources;
use gantry_host::pipeline::Document;
use gantry_host::registry::card::Card;
use gantry_host::registry::manifest::{Kind, PluginManifest};
use gantry_host::registry::{Place, Places, Registry, Site};
use proptest::prelude::*;

use crate::bench::root;

fn documents() -> Vec<String> {
    let files = [
        "config/pipelines/ducosy.toml",
        "config/site.toml",
        "tests/data/brain-mr/pipeline.toml",
        "tests/data/brain-mr/plugins/scenarios/plugin.toml",
        "tests/data/checkpoints/ducosy-soft-masks/card.toml",
    ];
    files.map(|f| std::fs::read_to_string(root().join(f)).unwrap()).to_vec()
}

/// Reads `text` as each kind of document, builds what can be built, and renders everything.
fn survive(text: &str, set: &[String], registry: &Registry, sources: &Sources) {
    let mut sources = sources.clone();
    let mut found = Vec::new();
    if let Some(document) = Document::parse("p.toml", text, set, &mut sources, &mut found) {
        let (graph, more) = gantry_host::graph::build(&document, registry, &Site::default());
        found.extend(more);
        if let Some(graph) = graph {
            assert!(!graph.canonical_json().is_empty() && !graph.mermaid().is_empty() && !graph.dot().is_empty());
        }
    }
    let file = sources.add("m.toml", text);
    PluginManifest::parse(text, file, Kind::Plugin, &mut found);
    Card::parse(text, file, &mut found);
    Site::parse(text, file, &mut found);
    let rendered = sources.render(&found, false);
    assert_eq!(rendered.is_empty(), found.is_empty());
    for finding in &found {
        assert!(!finding.labels.is_empty(), "{}: no place", finding.code);
        assert!(sources.to_json(finding)["line"].as_u64().is_some_and(|line| line >= 1));
    }
}

fn installed() -> (Registry, Sources) {
    let mut sources = Sources::new();
    let place = |path: &str, what| Place { path: root().join(path), why: "test", what };
    let places = Places {
        plugins: vec![place("plugins", "plugins"), place("tests/data/brain-mr/plugins", "plugins")],
        checkpoints: vec![
            place("tests/data/checkpoints", "checkpoints"),
            place("tests/data/brain-mr/checkpoints", "checkpoints"),
        ],
    };
    (Registry::open(&places, &mut sources), sources)
}

#[test]
fn documents_cut_off_anywhere() {
    let (registry, sources) = installed();
    for text in documents() {
        for end in (0..text.len()).step_by(17).filter(|i| text.is_char_boundary(*i)) {
            survive(&text[..end], &[], &registry, &sources);
        }
    }
}

#[test]
fn documents_without_one_of_their_lines() {
    let (registry, sources) = installed();
    for text in documents() {
        let lines: Vec<&str> = text.lines().collect();
        for left_out in 0..lines.len() {
            let rest: Vec<&str> = lines.iter().enumerate().filter(|(i, _)| *i != left_out).map(|(_, l)| *l).collect();
            survive(&rest.join("\n"), &[], &registry, &sources);
        }
    }
}

#[test]
fn a_document_nested_too_deeply_is_refused_in_words() {
    let (registry, sources) = installed();
    survive(&format!("a = {}{}", "[".repeat(10_000), "]".repeat(10_000)), &[], &registry, &sources);
    survive(&format!("{}x = 1", "a.".repeat(500_000)), &[], &registry, &sources);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn any_text_and_any_override(text in "\\PC{0,200}", set in "\\PC{0,40}", node in "(soft|heart|ncct|ü)\\.[a-zü]{0,8}=\\PC{0,12}") {
        let (registry, sources) = installed();
        survive(&text, std::slice::from_ref(&set), &registry, &sources);
        survive(&documents()[0], &[set, node], &registry, &sources);
    }

    #[test]
    fn a_pipeline_with_two_words_exchanged(a in 0usize..400, b in 0usize..400) {
        let (registry, sources) = installed();
        for text in documents() {
            let mut words: Vec<&str> = text.split_inclusive([' ', '\n']).collect();
            let n = words.len();
            words.swap(a % n, b % n);
            survive(&words.concat(), &[], &registry, &sources);
        }
    }
}
