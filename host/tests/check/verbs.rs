//! The verbs `check`, `graph`, `inspect` and `plugins`, as a user meets them.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Parser;
use gantry_host::cli::reply::Reply;
use gantry_host::cli::{check, graph, inspect, plugins};
use serde_json::Value as Json;

use crate::bench::root;

#[derive(Parser)]
enum Line {
    Check(check::CheckArgs),
    Graph(graph::GraphArgs),
    Inspect(inspect::InspectArgs),
    Plugins(plugins::PluginsArgs),
}

struct Room {
    folder: tempfile::TempDir,
}

impl Room {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for entry in fs::read_dir(root().join("plugins")).unwrap() {
            let from = entry.unwrap().path();
            if from.join("plugin.toml").is_file() {
                let to = folder.path().join("plugins").join(from.file_name().unwrap());
                fs::create_dir_all(&to).unwrap();
                fs::copy(from.join("plugin.toml"), to.join("plugin.toml")).unwrap();
            }
        }
        copy(&root().join("tests/data/checkpoints"), &folder.path().join("checkpoints"));
        fs::write(folder.path().join("site.toml"), "[policy]\nwriters_must_be_deidentified = true\n").unwrap();
        fs::write(folder.path().join("key"), [7; 32]).unwrap();
        fs::copy(root().join("config/pipelines/ducosy.toml"), folder.path().join("ducosy.toml")).unwrap();
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn plugins(&self) -> usize {
        fs::read_dir(self.path("plugins")).unwrap().count()
    }

    fn run(&self, line: &str) -> Reply {
        let mut words = vec!["gantry".to_owned()];
        words.extend(line.split_whitespace().map(|w| w.replace("ROOM", self.folder.path().to_str().unwrap())));
        let installed = ["--plugins", "ROOM/plugins", "--checkpoints", "ROOM/checkpoints"];
        words.extend(installed.map(|w| w.replace("ROOM", self.folder.path().to_str().unwrap())));
        match Line::try_parse_from(words).unwrap_or_else(|e| panic!("{e}")) {
            Line::Check(args) => check::run(&args),
            Line::Graph(args) => graph::run(&args),
            Line::Inspect(args) => inspect::run(&args),
            Line::Plugins(args) => plugins::run(&args),
        }
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() { copy(&path, &target) } else { fs::copy(&path, &target).map(|_| ()).unwrap() }
    }
}

fn json(reply: &Reply) -> Json {
    serde_json::from_str(&reply.stdout).unwrap_or_else(|e| panic!("{e}: {}", reply.stdout))
}

#[test]
fn check_says_sound_or_lists_every_error_with_its_place() {
    let room = Room::new();
    let reply = room.run("check ROOM/ducosy.toml --site ROOM/site.toml --key ROOM/key --deep");
    assert_eq!((reply.code, reply.stderr.as_str()), (0, ""));
    assert!(reply.stdout.ends_with("ducosy.toml: sound, 13 nodes\n"), "{}", reply.stdout);

    let reply = room.run(
        "check ROOM/ducosy.toml --site ROOM/site.toml --set soft.checkpoint=ducosy-lung --set lung-window.hu_min=-5000",
    );
    assert_eq!(reply.code, 2);
    assert!(reply.stdout.ends_with("ducosy.toml: 3 errors\n"), "{}", reply.stdout);
    for code in
        ["error[card-mismatch]", "error[parameter-range]", "error[key-missing]", "--set lung-window.hu_min=-5000:1:20"]
    {
        assert!(reply.stderr.contains(code), "{code}: {}", reply.stderr);
    }
    assert!(!reply.stderr.contains('\u{1b}'), "no colours on a pipe");

    let reply = room
        .run("check ROOM/ducosy.toml --site ROOM/site.toml --key ROOM/key --set soft.checkpoint=ducosy-lung --json");
    let out = json(&reply);
    assert_eq!((reply.code, &out["ok"]), (2, &Json::Bool(false)));
    let finding = &out["pipelines"][0]["diagnostics"][0];
    assert_eq!(finding["code"], "card-mismatch");
    assert_eq!(finding["line"], 18, "where the edge is connected");
    assert_eq!(finding["column"], 10);
    assert!(finding["labels"].as_array().unwrap().len() >= 2, "both ends");

    assert_eq!(room.run("check ROOM/none.toml --site ROOM/site.toml").code, 3);
    fs::write(room.path("bad-site.toml"), "[policy]\nwriters = true\n").unwrap();
    assert_eq!(room.run("check ROOM/ducosy.toml --key ROOM/key --site ROOM/bad-site.toml").code, 2);
    fs::write(room.path("checkpoints/ducosy-soft/weights.safetensors"), "x").unwrap();
    assert_eq!(room.run("check ROOM/ducosy.toml --key ROOM/key --site ROOM/site.toml").code, 0);
    let reply = room.run("check ROOM/ducosy.toml --key ROOM/key --site ROOM/site.toml --deep");
    assert_eq!(reply.code, 4);
    assert!(reply.stderr.contains("weights-mismatch"), "{}", reply.stderr);
}

#[test]
fn toys_are_a_warning_until_the_input_is_known() {
    let room = Room::new();
    let line = "check ROOM/ducosy.toml --site ROOM/site.toml --key ROOM/key --set soft.checkpoint=toy-soft";
    let reply = room.run(line);
    assert_eq!(reply.code, 0);
    assert!(reply.stderr.contains("warning[toy-checkpoint]"), "{}", reply.stderr);
    assert_eq!(room.run(&format!("{line} --allow-toy")).stderr, "");
}

#[test]
fn graph_draws_both_formats() {
    let room = Room::new();
    let mermaid = room.run("graph ROOM/ducosy.toml");
    assert_eq!(mermaid.code, 0, "{}", mermaid.stderr);
    assert!(mermaid.stdout.starts_with("flowchart LR\n"));
    assert!(mermaid.stdout.contains("window [-150, 250]") && mermaid.stdout.contains("patches.1: image hu CT f32"));
    let dot = room.run("graph ROOM/ducosy.toml --format dot");
    assert!(dot.stdout.starts_with("digraph \"ducosy\" {") && dot.stdout.ends_with("}\n"));
    assert_eq!(dot.stdout.matches(" -> ").count(), mermaid.stdout.matches("-->").count());
    let reply = room.run("graph ROOM/ducosy.toml --set soft.checkpoint=ducosy-lung");
    assert_eq!((reply.code, reply.stdout.as_str()), (2, ""));
    assert!(reply.stderr.contains("card-mismatch"));
}

#[test]
fn inspect_shows_stages_plugins_and_cards() {
    let room = Room::new();
    let stage = room.run("inspect hu-window");
    assert_eq!(stage.code, 0);
    for word in [
        "hu-window 1.0.0",
        "quantity normalized",
        "window [\"$hu_min\",\"$hu_max\"]",
        "between -1024 and 3071 HU",
        "required",
    ] {
        assert!(stage.stdout.contains(word), "{word}: {}", stage.stdout);
    }
    let out = json(&room.run("inspect dicom-read --json"));
    assert_eq!(out["origin"], "built in");
    assert_eq!(out["outputs"][0]["caps"]["grid"], "new");
    assert_eq!(out["sees_identity"], true);
    let out = json(&room.run("inspect ROOM/plugins/anonymizer --json"));
    assert_eq!(out["plugin"], "anonymizer");
    assert_eq!(out["stages"][0]["services"][0], "gantry.pseudonym/1");
    assert_eq!(out["files"].as_object().unwrap().len(), 1);
    let card = room.run("inspect ROOM/checkpoints/toy-soft/card.toml");
    assert!(
        card.stdout.contains("a toy: phantoms only") && card.stdout.contains("ducosy-generator"),
        "{}",
        card.stdout
    );
    assert_eq!(
        json(&room.run("inspect toy-lung --json"))["card"]["caps"]["image"]["window"],
        serde_json::json!([-1000.0, -150.0])
    );
    let unknown = room.run("inspect hu-windw");
    assert_eq!(unknown.code, 2);
    assert!(unknown.stderr.contains("did you mean `hu-window`?"), "{}", unknown.stderr);
    fs::write(room.path("plugins/hu-window/plugin.toml"), "manifest = 1\n[stage.hu-window]\nscpe = 1\n").unwrap();
    for what in ["ROOM/plugins/hu-window", "hu-window"] {
        let refused = room.run(&format!("inspect {what}"));
        assert_eq!(refused.code, 2);
        assert!(refused.stderr.contains("did you mean `scope`?"), "{}", refused.stderr);
    }
}

#[test]
fn plugins_are_listed_pinned_and_verified() {
    let room = Room::new();
    let list = room.run("plugins list");
    for word in [
        "--plugins",
        "  hu-window 1.0.0: hu-window  ",
        "(library missing)",
        "toy-soft: ducosy-generator, toy",
        "built in\n",
    ] {
        assert!(list.stdout.contains(word), "{word}: {}", list.stdout);
    }
    assert_eq!(json(&room.run("plugins list --json"))["plugins"].as_array().unwrap().len(), room.plugins());

    assert_eq!(room.run("plugins verify --lock ROOM/plugins.lock").code, 3, "no lock yet");
    let locked = room.run("plugins lock --lock ROOM/plugins.lock");
    assert_eq!(locked.code, 0, "{}", locked.stderr);
    assert!(locked.stdout.ends_with(&format!("{} plugins pinned\n", room.plugins())));
    assert!(fs::read_to_string(room.path("plugins.lock")).unwrap().contains("[[plugin]]\nname = \"anatomical-masks\""));
    assert_eq!(room.run("plugins verify --lock ROOM/plugins.lock").code, 0);

    fs::write(room.path("site.toml"), "[plugins]\nrequire_lock = true\n").unwrap();
    let check = "check ROOM/ducosy.toml --site ROOM/site.toml --key ROOM/key --deep";
    assert_eq!(room.run(check).code, 0, "the lock lies beside the site");
    fs::write(room.path("plugins/denormalise/added.bin"), "x").unwrap();
    let reply = room.run(check);
    assert_eq!(reply.code, 4);
    assert!(
        reply.stderr.contains("error[lock-mismatch]: plugin `denormalise` is not the pinned one: added added.bin"),
        "{}",
        reply.stderr
    );
    fs::remove_dir_all(room.path("plugins/difference-map")).unwrap();
    let reply = room.run("plugins verify --lock ROOM/plugins.lock");
    assert_eq!(reply.code, 4);
    assert!(
        reply.stdout.contains("denormalise: changed: added added.bin\n")
            && reply.stdout.contains("difference-map: missing")
    );
    fs::remove_file(room.path("plugins.lock")).unwrap();
    let reply = room.run(check);
    assert_eq!(reply.code, 2);
    assert!(reply.stderr.contains("not-pinned"));
}

#[test]
fn every_code_is_documented() {
    let documented = fs::read_to_string(root().join("docs/diagnostics.md")).unwrap();
    let pattern = r#"(?:Diagnostic::(?:error|warning)\(\s*|code: |let code = )"([a-z-]+(?:/[a-z_]+)?)"|"(caps-mismatch/[a-z_]+)""#;
    let pattern = regex::Regex::new(pattern).unwrap();
    let mut codes = vec!["unknown-element".to_owned(), "card-mismatch".to_owned()];
    for folder in ["pipeline", "registry", "graph"] {
        for entry in fs::read_dir(root().join("host/src").join(folder)).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() && !path.ends_with("library.rs") {
                let text = fs::read_to_string(&path).unwrap();
                let found =
                    pattern.captures_iter(&text).filter_map(|c| c.get(1).or(c.get(2)).map(|m| m.as_str().to_owned()));
                codes.extend(found);
            }
        }
    }
    assert!(codes.len() > 60, "{codes:?}");
    for code in codes {
        assert!(documented.contains(&format!("`{code}`")), "{code} is not in docs/diagnostics.md");
    }
}
