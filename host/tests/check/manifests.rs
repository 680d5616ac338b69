//! Every rule of the manifest grammar, each broken once: one finding, in the right place.

use gantry_host::diagnostic::Sources;
use gantry_host::registry::manifest::{Kind, PluginManifest};

use crate::bench::root;

const BASE: &str = r#"manifest = 1
[plugin]
id = "org.example.one"
version = "1.0.0"
vendor = "Example"
licence = "MIT"
abi = 1
[library]
linux-x86_64.cpu = "libone.so"
[stage.one]
version = "1.0.0"
summary = "One."
licence = "MIT"
scope = "slice"
services = ["gantry.sql/1"]
resources = { batch_max = 4 }
inputs.image  = { caps = { kind = "image", quantity = ["hu", "mr"], dtype = "f32", spacing_mm = [1, 1, 1], window = "any" } }
inputs.masks  = { count = "named", min = 0, max = 3, names = "card", caps = { kind = "labels", grid = "same:image" } }
outputs.image = { caps = { like = "image", without = ["window"], dtype = "$dtype", channels = ["@image.channels", "$extra"], window = ["$low", 9] } }
outputs.more  = { when = "$more", count = "$n", size = "data", caps = { kind = "image", quantity = "card", grid = "sub:image", synthetic = true } }
params.dtype  = { type = "choice", of = ["f32", "f16"], default = "f32" }
params.extra  = { type = "string", default = "x", choices = ["x", "y"] }
params.low    = { type = "float", min = 0.0, max = 2.0, unit = "HU", default = 1 }
params.n      = { type = "int", min = 1, max = 9, multiple_of = 3, default = 3 }
params.more   = { type = "bool", default = false }
params.list   = { type = "list", of = "string", choices = ["a", "b"], default = ["a"] }
params.net    = { type = "checkpoint", architecture = "net" }
"#;

fn findings(text: &str) -> (Vec<(String, usize)>, String) {
    let mut sources = Sources::new();
    let file = sources.add("plugin.toml", text);
    let mut diagnostics = Vec::new();
    PluginManifest::parse(text, file, Kind::Plugin, &mut diagnostics);
    let list = diagnostics
        .iter()
        .map(|d| (format!("{}: {}", d.code, d.message), sources.line_column(file, d.labels[0].span.start).0))
        .collect();
    (list, sources.render(&diagnostics, false))
}

#[test]
fn the_base_is_sound() {
    let (found, text) = findings(BASE);
    assert!(found.is_empty(), "{text}");
}

#[test]
fn every_rule_broken_once_is_one_finding() {
    let mut failures = Vec::new();
    for (from, to, says) in [
        ("manifest = 1", "manifest = 2", "unsupported-format"),
        ("abi = 1", "abi = 2", "this host speaks ABI 1"),
        ("vendor = \"Example\"", "vender = \"Example\"\nvendor = \"E\"", "unknown-key"),
        ("id = \"org.example.one\"", "id = \"One Plugin\"", "bad-name"),
        ("\"libone.so\"", "\"../libone.so\"", "not the name of a file beside"),
        ("[stage.one]", "[stage.One]", "bad-name"),
        ("summary = \"One.\"\n", "", "missing-key: stage `one` has no `summary`"),
        ("scope = \"slice\"", "scope = \"slize\"", "`scope` cannot be \"slize\""),
        ("architecture = \"net\"", "optional = \"more\"", "`optional` names a bool parameter"),
        ("architecture = \"net\"", "optional = \"$n\"", "parameter `n` is int, but must be a bool"),
        ("architecture = \"net\"", "optional = \"$gone\"", "has no parameter `gone`"),
        ("architecture = \"net\"", "optional = \"$more\"", "output `image` needs `count = \"optional\"`"),
        (
            "type = \"bool\", default",
            "optional = \"$more\", type = \"bool\", default",
            "`optional` belongs to a parameter",
        ),
        ("scope = \"slice\"", "scope = \"slab\"", "a slab stage needs `halo`"),
        ("scope = \"slice\"", "scope = \"slice\"\nhalo = 3", "`halo` belongs to slab stages"),
        ("scope = \"slice\"", "scope = \"slice\"\ncases = \"input\"", "only a stage without required data inputs"),
        ("scope = \"slice\"", "scope = \"slice\"\neffects = [\"disk\"]", "`effects` cannot be \"disk\""),
        ("scope = \"slice\"", "scope = \"slice\"\ndevices = [\"gpu\"]", "`devices` cannot be \"gpu\""),
        ("scope = \"slice\"", "scope = \"slice\"\nconcurrency = \"some\"", "`concurrency` cannot be"),
        ("scope = \"slice\"", "scope = \"slice\"\ndeterminism = 1", "wrong-type"),
        ("scope = \"slice\"", "scope = \"slice\"\nprocess = { command = [\"x\"], wire = 2 }", "`wire = 1`"),
        ("\"gantry.sql/1\"", "\"gantry.sql\"", "not a name with a version"),
        ("batch_max = 4", "batch_mx = 4", "unknown-key"),
        ("kind = \"image\", quantity = [", "kind = \"picture\", quantity = [", "`kind` cannot be \"picture\""),
        ("kind = \"labels\", grid", "grid", "missing-key"),
        ("dtype = \"f32\", spacing", "dtype = \"f23\", spacing", "`dtype` cannot be \"f23\""),
        ("dtype = \"f32\", spacing", "dtyp = \"f32\", spacing", "unknown-key"),
        ("spacing_mm = [1, 1, 1]", "spacing_mm = [1, 1]", "wrong-type"),
        ("spacing_mm = [1, 1, 1]", "spacing_mm = 0", "above 0"),
        ("window = \"any\"", "window = [2, 1]", "starts at 2"),
        ("window = \"any\"", "window = \"all\"", "wrong-type"),
        ("window = \"any\"", "identity = \"gone\"", "`identity` cannot be \"gone\""),
        ("window = \"any\"", "synthetic = 1", "wrong-type"),
        ("window = \"any\"", "grid = \"new\"", "`grid` of an input"),
        ("window = \"any\"", "grid = \"same:image\"", "compared with itself"),
        ("window = \"any\"", "window = \"@masks.grid\"", "has not the form"),
        ("window = \"any\"", "like = \"masks\"", "unknown-key"),
        ("grid = \"same:image\"", "grid = \"same:imge\"", "has no input `imge`"),
        (", grid = \"same:image\"", "", "of a slice stage needs `grid"),
        ("count = \"named\"", "count = \"naned\"", "`count` is one of"),
        ("count = \"named\", min = 0, max = 3, names = \"card\"", "count = \"dataset\"", "belongs to stages of scope"),
        ("min = 0, max = 3", "min = 4, max = 3", "below `min = 4`"),
        ("count = \"named\", min = 0, max = 3, names", "count = \"many\", names", "`names` needs"),
        ("count = \"named\", min = 0, max = 3, names = \"card\"", "count = \"one\", min = 1", "`min` needs `count"),
        ("inputs.masks  = {", "inputs.masks  = { view = \"both\",", "`view` belongs to ports of kind \"image\""),
        ("inputs.masks  = {", "inputs.masks  = { host = \"person\",", "`host` can only be"),
        ("inputs.masks  = {", "inputs.masks  = { size = \"data\",", "unknown-key"),
        ("like = \"image\", ", "like = \"imag\", ", "has no input `imag`"),
        ("like = \"image\", without = [\"window\"], ", "kind = \"image\", ", "needs `grid`"),
        (
            "dtype = \"$dtype\", channels",
            "identity = \"removed\", channels",
            "the headers that follow `like` pass untouched",
        ),
        ("without = [\"window\"]", "without = [\"windw\"]", "unknown-key"),
        ("dtype = \"$dtype\"", "dtype = \"$dtyp\"", "has no parameter `dtyp`"),
        ("dtype = \"$dtype\"", "dtype = \"$extra\"", "can take values that `dtype` cannot"),
        ("dtype = \"$dtype\"", "dtype = \"any\"", "\"any\" is a demand"),
        ("dtype = \"$dtype\"", "dtype = [\"f32\", \"f16\"]", "is one value, not a list"),
        ("\"@image.channels\"", "\"@imag.channels\"", "has no input `imag`"),
        ("[\"$low\", 9]", "[\"$dtype\", 9]", "can take values that `window` cannot"),
        ("[\"$low\", 9]", "[\"$low\", 9, 10]", "wrong-type"),
        ("when = \"$more\"", "when = \"$n\"", "must be a bool"),
        ("when = \"$more\"", "when = \"more\"", "names a bool parameter"),
        ("count = \"$n\"", "count = \"$low\"", "must be an int"),
        ("count = \"$n\"", "count = \"like:imag\"", "has no input `imag`"),
        ("size = \"data\"", "size = \"big\"", "`size` is one of"),
        ("grid = \"sub:image\"", "grid = \"lattice:image\"", "`grid` of an output"),
        (
            "of = [\"f32\", \"f16\"], default = \"f32\"",
            "of = [\"f32\", \"f99\"], default = \"f32\"",
            "\"f99\" is not one of",
        ),
        (
            "of = [\"f32\", \"f16\"], default = \"f32\"",
            "of = [\"f32\", \"f16\"], default = \"f64\"",
            "default of `dtype` is not legal",
        ),
        ("params.extra  = { type = \"string\"", "params.extra  = { type = \"text\"", "no parameter type `text`"),
        ("min = 0.0, max = 2.0", "min = 3.0, max = 2.0", "below `min = 3`"),
        ("unit = \"HU\", default = 1", "unit = \"HU\", default = 7", "default of `low` is not legal"),
        ("unit = \"HU\", default = 1", "units = \"HU\", default = 1", "unknown-key"),
        ("multiple_of = 3, default = 3", "multiple_of = 3, default = 4", "must be a multiple of 3"),
        (
            "{ type = \"bool\", default",
            "{ type = \"bool\", min = 0, default",
            "`min` belongs to a parameter that is a number",
        ),
        ("of = \"string\", choices", "of = \"checkpoint\", choices", "wrong-type"),
        ("default = [\"a\"]", "default = [\"c\"]", "default of `list` is not legal"),
        ("params.net    = { type = \"checkpoint\", architecture = \"net\" }", "", "needs a checkpoint parameter"),
    ] {
        assert_eq!(BASE.matches(from).count(), 1, "`{from}` must stand in the manifest once");
        let changed = BASE.replacen(from, to, 1);
        let (found, text) = findings(&changed);
        // What refers to something refused is reported where it stands, too; every other mistake is one finding.
        let referred_to =
            ["params.extra  = { type", "params.net ", "min = 0.0, max"].iter().any(|d| from.starts_with(d));
        let wanted = BASE[..BASE.find(from).unwrap_or_default()].lines().count().max(1);
        let said = found.iter().any(|(f, line)| f.contains(says) && line.abs_diff(wanted) <= 2);
        let elsewhere = says.contains("missing-key") || says.contains("needs a checkpoint") || referred_to;
        let said = said || (elsewhere && found.iter().any(|(f, _)| f.contains(says)));
        if !said || (found.len() != 1 && !elsewhere) {
            failures.push(format!("`{to}` should say `{says}` at line {wanted}:\n{text}"));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n----\n"));
}

#[test]
fn the_examples_of_the_grammar_and_every_manifest_in_the_tree_are_sound() {
    let mut files = Vec::new();
    for folder in ["tests/data/brain-mr/plugins", "plugins"] {
        for entry in std::fs::read_dir(root().join(folder)).unwrap() {
            let path = entry.unwrap().path().join("plugin.toml");
            if path.is_file() {
                files.push(path);
            }
        }
    }
    assert!(files.len() >= 10, "{files:?}");
    for path in files {
        let (found, text) = findings(&std::fs::read_to_string(&path).unwrap());
        assert!(found.is_empty(), "{}:\n{text}", path.display());
    }
}

#[test]
fn broken_toml_is_reported_with_its_place_and_does_not_hide_the_rest() {
    let (found, text) = findings(&BASE.replace("abi = 1", "abi = ").replace("scope = \"slice\"", "scope = \"slize\""));
    assert!(found.iter().any(|(f, line)| f.starts_with("toml-syntax") && *line == 7), "{text}");
    assert!(found.iter().any(|(f, _)| f.contains("slize")), "{text}");
}
