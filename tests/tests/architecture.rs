//! The architecture as a test: which crate may depend on which, which module of the host may use which, where unsafe code
//! may stand, and what must not exist at all.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use gantry_tests::staging::workspace;
use serde_json::Value as Json;

// ---------------------------------------------------------------------------------------------------- crates

/// What `cargo metadata` knows of the workspace, with every dependency resolved.
fn metadata() -> &'static Json {
    static METADATA: OnceLock<Json> = OnceLock::new();
    METADATA.get_or_init(|| {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = Command::new(cargo);
        command.current_dir(workspace()).args(["metadata", "--format-version", "1", "--offline", "--locked"]);
        // Packages for other systems were never fetched.
        command.args(["--filter-platform", &format!("{}-unknown-linux-gnu", std::env::consts::ARCH)]);
        let output = command.output().expect("cargo runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).expect("cargo metadata answers with JSON")
    })
}

fn text(value: &Json) -> &str {
    value.as_str().expect("a text")
}

fn list(value: &Json) -> &[Json] {
    value.as_array().expect("a list")
}

/// The crates of this repository: name to its package in the metadata.
fn members() -> BTreeMap<&'static str, &'static Json> {
    let ids: BTreeSet<&str> = list(&metadata()["workspace_members"]).iter().map(text).collect();
    let packages = list(&metadata()["packages"]).iter().filter(|p| ids.contains(text(&p["id"])));
    packages.map(|p| (text(&p["name"]), p)).collect()
}

/// The plugins: the members below `plugins/`.
fn plugins() -> BTreeSet<&'static str> {
    let folder = workspace().join("plugins");
    let members = members().into_iter().filter(|(_, p)| Path::new(text(&p["manifest_path"])).starts_with(&folder));
    members.map(|(name, _)| name).collect()
}

/// Names of the direct dependencies of a member that are part of what it ships (neither tests nor build scripts).
fn shipped(package: &Json) -> BTreeSet<&str> {
    list(&package["dependencies"]).iter().filter(|d| d["kind"].is_null()).map(|d| text(&d["name"])).collect()
}

/// Names of everything that ends up in a member, however deep.
fn tree(name: &str) -> BTreeSet<&'static str> {
    let nodes: BTreeMap<&str, &Json> =
        list(&metadata()["resolve"]["nodes"]).iter().map(|n| (text(&n["id"]), n)).collect();
    let names: BTreeMap<&str, &str> =
        list(&metadata()["packages"]).iter().map(|p| (text(&p["id"]), text(&p["name"]))).collect();
    let mut open = vec![text(&members()[name]["id"])];
    let mut seen = BTreeSet::new();
    while let Some(id) = open.pop() {
        for dependency in list(&nodes[id]["deps"]) {
            let normal = list(&dependency["dep_kinds"]).iter().any(|k| k["kind"].is_null());
            if normal && seen.insert(text(&dependency["pkg"])) {
                open.push(text(&dependency["pkg"]));
            }
        }
    }
    seen.into_iter().map(|id| names[id]).collect()
}

/// `gantry-abi <- gantry-plugin <- gantry-neural <- gantry-nnunet <- plugins/*`, `gantry-weights <- gantry-neural, host`,
/// `gantry-volume <- gantry-nnunet, plugins/*`,
/// `gantry-abi, gantry-plugin <- host`. Plugins see neither the host nor each other; nobody but the tests sees the host.
#[test]
fn crates_depend_only_in_the_stated_direction() {
    let members = members();
    let plugins = plugins();
    assert!(plugins.len() >= 9, "{plugins:?}");
    for (name, package) in &members {
        let permitted: &[&str] = match *name {
            // The emulator of instructions serves tests alone and knows nothing of the rest.
            "gantry-abi" | "gantry-weights" | "gantry-volume" | "gantry-amx-emulator" => &[],
            "gantry-plugin" => &["gantry-abi"],
            "gantry-neural" => &["gantry-abi", "gantry-plugin", "gantry-weights"],
            "gantry-nnunet" => &["gantry-neural", "gantry-plugin", "gantry-volume", "gantry-weights"],
            "gantry-host" | "gantry-tests" => &["gantry-abi", "gantry-plugin", "gantry-weights"],
            // Measures a network of a plugin from outside, without the host.
            "gantry-inference-bench" => {
                &["cyclegan-generator", "gantry-neural", "gantry-plugin", "gantry-tests", "gantry-weights"]
            }
            plugin if plugins.contains(plugin) => {
                &["gantry-abi", "gantry-plugin", "gantry-weights", "gantry-volume", "gantry-neural", "gantry-nnunet"]
            }
            other => panic!("the dependency rule says nothing about crate `{other}`"),
        };
        for dependency in shipped(package).into_iter().filter(|d| members.contains_key(d)) {
            assert!(permitted.contains(&dependency), "{name} must not depend on {dependency}");
        }
    }
}

/// The host sees no plugin and not Candle: a site moves to another device by exchanging a plugin file.
#[test]
fn the_host_knows_no_plugin_and_no_candle() {
    let host = tree("gantry-host");
    let plugins = plugins();
    assert!(host.contains("dicom-object") && host.contains("gantry-weights"), "the tree is not the host's: {host:?}");
    let strangers: Vec<_> = host.iter().filter(|n| n.starts_with("candle") || plugins.contains(*n)).collect();
    assert!(strangers.is_empty(), "the host depends on {strangers:?}");
    assert!(!tree("gantry-weights").iter().any(|n| n.starts_with("candle")), "gantry-weights brings Candle");
    // Where Candle may be, the same walk finds it.
    assert!(tree("gantry-neural").contains("candle-core"));
}

/// Each package of the design has one home; the contract has nothing but its layouts.
#[test]
fn packages_live_where_they_belong() {
    assert_eq!(shipped(members()["gantry-abi"]).into_iter().collect::<Vec<_>>(), ["abi_stable"]);
    let homes: [(&str, &[&str]); 6] = [
        ("libloading", &["gantry-host"]),
        ("abi_stable", &["gantry-abi"]),
        ("inventory", &["gantry-plugin", "gantry-host"]),
        ("clap", &["gantry-host"]),
        ("candle-core", &["gantry-neural", "gantry-nnunet", "cyclegan-generator"]),
        ("dicom-object", &["gantry-host", "anonymizer"]),
    ];
    for (package, homes) in homes {
        let users: BTreeSet<&str> = members()
            .into_iter()
            .filter(|(name, p)| {
                !["gantry-tests", "gantry-inference-bench"].contains(name) && shipped(p).contains(package)
            })
            .map(|(name, _)| name)
            .collect();
        let strangers: Vec<_> = users.iter().filter(|u| !homes.contains(u)).collect();
        assert!(!users.is_empty(), "nobody uses {package}: the rule is out of date");
        assert!(strangers.is_empty(), "{package} is used by {strangers:?}");
    }
}

// ---------------------------------------------------------------------------------------------------- source text

/// A source file: its path in the repository, and its text with comments and literals blanked out.
struct Source {
    path: String,
    code: String,
}

/// Every Rust file below the given folders of the repository.
fn sources(folders: &[&str]) -> Vec<Source> {
    let mut open: Vec<PathBuf> = folders.iter().map(|f| workspace().join(f)).collect();
    let mut found = Vec::new();
    while let Some(path) = open.pop() {
        if path.is_dir() {
            let entries = std::fs::read_dir(&path).expect("a readable folder");
            open.extend(entries.map(|e| e.expect("an entry").path()).filter(|p| !p.ends_with("target")));
        } else if path.extension().is_some_and(|e| e == "rs") {
            let text = std::fs::read_to_string(&path).expect("a readable file");
            let path = path.strip_prefix(workspace()).expect("below the workspace").display().to_string();
            found.push(Source { path, code: code(&text) });
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(!found.is_empty(), "no source files below {folders:?}");
    found
}

/// The text with comments, texts and character literals replaced by spaces; line breaks stay.
fn code(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let at = |i: usize| chars.get(i).copied().unwrap_or('\0');
    let hashes = |from: usize| (from..).take_while(|&k| at(k) == '#').count();
    let mut out = String::with_capacity(text.len());
    let mut i = 0;
    while i < chars.len() {
        let start = i;
        let word_before = i > 0 && (at(i - 1).is_alphanumeric() || at(i - 1) == '_');
        if at(i) == '/' && at(i + 1) == '/' {
            while i < chars.len() && at(i) != '\n' {
                i += 1;
            }
        } else if at(i) == '/' && at(i + 1) == '*' {
            let mut depth = 0;
            while i < chars.len() {
                match (at(i), at(i + 1)) {
                    ('/', '*') => (depth, i) = (depth + 1, i + 2),
                    ('*', '/') => (depth, i) = (depth - 1, i + 2),
                    _ => i += 1,
                }
                if depth == 0 {
                    break;
                }
            }
        } else if at(i) == 'r' && !word_before && at(i + 1 + hashes(i + 1)) == '"' {
            let fence = hashes(i + 1);
            i += fence + 2;
            while i < chars.len() && !(at(i) == '"' && hashes(i + 1) >= fence) {
                i += 1;
            }
            i += 1 + fence;
        } else if at(i) == '"' {
            i += 1;
            while i < chars.len() && at(i) != '"' {
                i += if at(i) == '\\' { 2 } else { 1 };
            }
            i += 1;
        } else if at(i) == '\'' && (at(i + 1) == '\\' || at(i + 2) == '\'') {
            // An escape is at least two characters long, and the second may be the quote itself.
            i += if at(i + 1) == '\\' { 3 } else { 2 };
            while i < chars.len() && at(i) != '\'' {
                i += 1;
            }
            i += 1;
        } else {
            out.push(at(i));
            i += 1;
            continue;
        }
        out.extend(chars[start..i.min(chars.len())].iter().map(|&c| if c == '\n' { '\n' } else { ' ' }));
    }
    out
}

/// The part of a file that is shipped: without its `#[cfg(test)] mod tests { ... }` at the end.
fn without_tests(code: &str) -> &str {
    let end = code.find("#[cfg(test)]\nmod ").filter(|&at| code[at..].lines().nth(1).is_some_and(|l| l.contains('{')));
    &code[..end.unwrap_or(code.len())]
}

/// Is `word` in the text as a whole word?
fn has_word(code: &str, word: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(word).any(|(at, _)| {
        !code[..at].chars().next_back().is_some_and(part) && !code[at + word.len()..].chars().next().is_some_and(part)
    })
}

#[test]
fn the_reader_of_source_sees_code_alone() {
    let text = "let a = \"unsafe \\\" x\"; // unsafe\n/* unsafe /* y */ unsafe */ let b = r#\"unsafe \" \"#; \
                let c = '\\''; let d: &'static str = '\"'.into(); keep";
    let seen = code(text);
    assert!(!seen.contains("unsafe"), "{seen}");
    assert!(seen.contains("keep") && seen.contains("'static str") && seen.lines().count() == 2, "{seen}");
    assert!(has_word("unsafe { x }", "unsafe") && !has_word("#![allow(unsafe_code)]", "unsafe"));
    assert_eq!(without_tests("a\n#[cfg(test)]\nmod tests {\n b }"), "a\n");
    assert_eq!(without_tests("a\n#[cfg(test)]\nmod tests;\nb"), "a\n#[cfg(test)]\nmod tests;\nb");
}

/// The modules of the host in the order of a run. Each uses only what stands to its left; the leaves may be used by all
/// and use nothing but each other. `builtin` stands behind `engine` because its stages share what the engine says of an
/// edge; the engine is given the built-in stages by `cli` and never names them.
const RUN: [&str; 7] = ["pipeline", "registry", "graph", "plan", "engine", "builtin", "cli"];
const LEAVES: [&str; 4] = ["diagnostic", "identity", "machine", "series"];

#[test]
fn modules_of_the_host_use_only_those_to_their_left() {
    let sources = sources(&["host/src"]);
    let declared: BTreeSet<String> = sources
        .iter()
        .filter(|s| s.path == "host/src/lib.rs")
        .flat_map(|s| s.code.lines())
        .filter_map(|l| l.trim().strip_prefix("pub mod ")?.strip_suffix(';').map(str::to_owned))
        .collect();
    let known: BTreeSet<String> = RUN.iter().chain(&LEAVES).map(|m| (*m).to_owned()).collect();
    assert_eq!(declared, known, "a module of the host has no place in the order");

    let mut uses = 0;
    let mut wrong = Vec::new();
    for source in &sources {
        let inner = source.path.trim_start_matches("host/src/");
        let module = inner.split('/').next().unwrap_or_default().trim_end_matches(".rs");
        if matches!(module, "lib" | "main") {
            continue;
        }
        for used in used_modules(&source.code) {
            assert!(known.contains(&used), "{}: `crate::{used}` is no module of the host", source.path);
            uses += 1;
            let place = |name: &str| RUN.iter().position(|m| *m == name);
            let right = match (place(module), place(&used)) {
                _ if used == module => true,
                (Some(me), Some(other)) => other < me,
                (None, Some(_)) => false,
                (_, None) => true,
            };
            if !right {
                wrong.push(format!("{}: uses `crate::{used}`", source.path));
            }
        }
    }
    assert!(uses > 50, "only {uses} uses were found: the test reads nothing");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// First segments after `crate::`, also out of `crate::{a, b::{c}}`.
fn used_modules(code: &str) -> Vec<String> {
    let word = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let mut found = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        if code[..at].chars().next_back().is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '$') {
            continue;
        }
        let rest = &code[at + "crate::".len()..];
        let Some(group) = rest.strip_prefix('{') else {
            found.push(word(rest));
            continue;
        };
        let mut depth = 0;
        let mut first = true;
        for (i, c) in group.char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => first = true,
                c if first && (c.is_alphanumeric() || c == '_') => {
                    found.push(word(&group[i..]));
                    first = false;
                }
                _ => {}
            }
        }
    }
    found
}

#[test]
fn used_modules_are_read_out_of_groups() {
    assert_eq!(used_modules("use crate::a::b; use crate::{c::{d, e}, f}; $crate::g"), ["a", "c", "f"]);
}

/// Every folder with crates of this workspace.
const RUST: [&str; 6] = ["host", "plugin-api", "plugins", "tests/src", "tests/amx-emulator", "tests/inference-bench"];

/// Where unsafe code may stand. The emulator of AMX answers a signal in place of the processor, in tests alone; the peak
/// of a processor is measured by its bare instructions.
fn may_be_unsafe(path: &str) -> bool {
    [
        "plugin-api/abi/src/",
        "plugin-api/author/src/",
        // Loops over raw rows, which several threads write side by side.
        "plugin-api/neural/src/blocked/",
        "plugin-api/neural/src/conv/",
        "plugin-api/neural/src/kernels/",
    ]
    .iter()
    .any(|f| path.starts_with(f))
        || [
            "host/src/registry/library.rs",
            "host/src/engine/boundary.rs",
            "host/src/engine/buffers.rs",
            "plugin-api/neural/src/engine.rs",
            // Asks NVIDIA's driver, in a worker of its own.
            "host/src/machine/cuda.rs",
            // Launch what tests run on the CPU; convolutions by cuDNN.
            "plugin-api/neural/src/cuda/launch.rs",
            "plugin-api/neural/src/cuda/cudnn.rs",
            "tests/amx-emulator/src/dot.rs",
            "tests/amx-emulator/src/machine.rs",
            "tests/amx-emulator/src/signal.rs",
            "tests/inference-bench/src/peak.rs",
        ]
        .contains(&path)
}

#[test]
fn unsafe_code_stands_only_where_it_must() {
    let sources = sources(&RUST);
    // A test of a plugin may call its own entry the way a host does.
    let shipped = sources.iter().filter(|s| s.path.contains("/src/"));
    let used: Vec<&Source> = shipped.filter(|s| has_word(&s.code, "unsafe")).collect();
    let wrong: Vec<&str> = used.iter().map(|s| s.path.as_str()).filter(|p| !may_be_unsafe(p)).collect();
    assert!(wrong.is_empty(), "unsafe code in {wrong:?}");
    for needed in ["host/src/registry/library.rs", "host/src/engine/boundary.rs", "host/src/engine/buffers.rs"] {
        assert!(used.iter().any(|s| s.path == needed), "{needed} needs no permission any more");
    }
}

/// The compiler is told the same: a crate forbids unsafe code, or denies it and permits it file by file.
#[test]
fn the_compiler_enforces_it_too() {
    let mut roots = 0;
    for source in sources(&RUST) {
        if !(source.path.ends_with("src/lib.rs") || source.path.ends_with("src/main.rs")) {
            continue;
        }
        roots += 1;
        let wanted = match source.path.as_str() {
            // These two are the boundary.
            "plugin-api/abi/src/lib.rs" | "plugin-api/author/src/lib.rs" => continue,
            // Some of their files may.
            "host/src/lib.rs" | "plugin-api/neural/src/lib.rs" => "#![deny(unsafe_code)]",
            "tests/amx-emulator/src/lib.rs" | "tests/inference-bench/src/main.rs" => "#![deny(unsafe_code)]",
            // The macro that exports a plugin writes attributes which count as unsafe code, and permits them itself.
            plugin if plugin.starts_with("plugins/") => "#![deny(unsafe_code)]",
            _ => "#![forbid(unsafe_code)]",
        };
        assert!(source.code.contains(wanted), "{} does not say {wanted}", source.path);
    }
    assert!(roots >= 14, "only {roots} crates were looked at");
}

#[test]
fn no_file_is_a_drawer_for_odds_and_ends() {
    let forbidden = ["utils", "util", "common", "helpers", "helper", "types", "manager", "core", "misc"];
    for source in sources(&["host", "plugin-api", "plugins", "tests"]) {
        for part in source.path.split('/') {
            let stem = part.trim_end_matches(".rs");
            assert!(!forbidden.contains(&stem), "{}: `{part}` says nothing about what is in it", source.path);
        }
    }
}

/// stdout belongs to the results that the command line prints: a plugin or a library that prints would corrupt them.
#[test]
fn only_the_command_line_prints() {
    for source in sources(&["host/src", "plugin-api", "plugins"]) {
        let printing = source.path.starts_with("host/src/cli/");
        let test =
            ["/tests/", "/examples/"].iter().any(|f| source.path.contains(f)) || source.path.ends_with("/tests.rs");
        if printing || test {
            continue;
        }
        let shipped = without_tests(&source.code);
        for name in ["println", "print", "eprintln", "eprint", "dbg"] {
            let found = has_word(shipped, name) && shipped.contains(&format!("{name}!"));
            assert!(!found, "{}: {name}!", source.path);
        }
    }
}

/// No environment variable changes a result: those that are read name places, how to talk to the user, or which cards may be
/// seen (the kind of card that is used is part of the plan).
#[test]
fn the_environment_decides_nothing() {
    let readers = sources(&["host/src", "plugin-api", "plugins"]).into_iter().filter(|s| {
        s.path.contains("/src/") && !s.path.ends_with("/tests.rs") && without_tests(&s.code).contains("env::var")
    });
    let readers: Vec<String> = readers.map(|s| s.path).collect();
    let known = [
        "host/src/cli/reply.rs",
        "host/src/engine/hand.rs",
        "host/src/registry/places.rs",
        "host/src/registry/site.rs",
    ];
    assert_eq!(readers, known);
}
