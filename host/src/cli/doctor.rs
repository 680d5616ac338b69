//! `gantry doctor`: what this machine is, what is installed, and what is wrong with it. Opens no library.

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::Args;
use gantry_abi::v1::{ABI_MAJOR, ABI_MINOR};
use gantry_plugin::{Isa, IsaFeatures};
use gantry_weights::nnunet::{ARCHITECTURE, Segmentation};
use serde_json::{Value as Json, json};

use super::places::{PlacesArgs, SiteArgs, nothing_installed};
use super::reply::Reply;
use crate::diagnostic::{Diagnostic, Sources};
use crate::engine::devices;
use crate::identity::Key;
use crate::machine;
use crate::machine::cuda::{Card, Driver};
use crate::registry::model::megabytes;
use crate::registry::site::AUTO;
use crate::registry::{KnownModel, Registry, Site};

/// Arguments of `gantry doctor`.
#[derive(Debug, Clone, Default, Args)]
pub struct DoctorArgs {
    /// As JSON
    #[arg(long)]
    pub json: bool,
    /// The site's pseudonym key [default: key_file in the site configuration]
    #[arg(long, value_name = "FILE")]
    pub key: Option<PathBuf>,
    /// Where things are installed.
    #[command(flatten)]
    pub places: PlacesArgs,
    /// What the site lays down.
    #[command(flatten)]
    pub site: SiteArgs,
}

/// The devices that `--device` may name.
fn device_names(cuda: &Result<Driver, String>) -> Vec<String> {
    let cards = cuda.iter().flat_map(|driver| 0..driver.cards.len()).map(|i| format!("cuda:{i}"));
    std::iter::once("cpu".to_owned()).chain(cards).collect()
}

/// Plugins that have a library for cards: id, file name, and whether it is installed.
fn cuda_libraries(registry: &Registry) -> impl Iterator<Item = (&str, &str, bool)> {
    registry.plugins.iter().filter_map(|plugin| {
        let file = plugin.manifest.library_for("cuda")?;
        Some((plugin.manifest.id.as_str(), file, plugin.path.join(file).is_file()))
    })
}

/// Checkpoints that plugins know how to get and that are not here. That is no fault: not every chain needs them.
fn not_installed(registry: &Registry) -> impl Iterator<Item = &KnownModel> {
    registry.models.values().map(|model| &**model).filter(|model| !registry.checkpoints.contains_key(&model.name))
}

/// What the examination found.
struct Health {
    /// NVIDIA's driver, or why there is none to use. That is no fault: a machine may have no card.
    cuda: Result<Driver, String>,
    registry: Registry,
    /// The site document, or why it cannot be used.
    site: Result<Site, String>,
    /// The key in use: where, and what is wrong with it.
    key: Option<(PathBuf, Option<String>)>,
    /// Everything that is wrong, in words.
    wrong: Vec<String>,
}

/// Runs the verb. Exit code 0: all is well; 1: something is wrong, each thing named.
pub fn run(args: &DoctorArgs) -> Reply {
    let health = examine(args);
    let stdout = if args.json { format!("{:#}\n", report_json(&health)) } else { report(&health) };
    Reply { stdout, stderr: String::new(), code: u8::from(!health.wrong.is_empty()) }
}

fn examine(args: &DoctorArgs) -> Health {
    let mut sources = Sources::new();
    let mut findings = Vec::new();
    let site = args.site.open(&mut sources, &mut findings);
    let registry = args.places.open(&mut sources);
    let mut wrong = Vec::new();
    let said = |d: &Diagnostic| {
        let at = d.labels.first().map(|l| {
            let (line, column) = sources.line_column(l.file, l.span.start);
            format!("{}:{line}:{column}: ", sources.name(l.file).unwrap_or_default())
        });
        format!("{}{} ({})", at.unwrap_or_default(), d.message, d.code)
    };
    if let Err(words) = &site {
        wrong.push(format!("site configuration: {words}"));
    }
    wrong.extend(findings.iter().filter(|d| d.is_error()).map(|d| format!("site configuration: {}", said(d))));
    wrong.extend(nothing_installed(&registry));
    for refused in &registry.refused {
        let reasons: Vec<String> = refused.reasons.iter().filter(|d| d.is_error()).map(said).collect();
        wrong.push(format!("refused: {}: {}", refused.path.display(), reasons.join("; ")));
    }
    for plugin in &registry.plugins {
        if !plugin.library.as_os_str().is_empty() && !plugin.library.is_file() {
            wrong.push(format!("plugin {}: its library {} is not there", plugin.manifest.id, plugin.library.display()));
        }
    }
    for checkpoint in registry.checkpoints.values() {
        let missing: Vec<&str> = checkpoint.missing_files().iter().map(|f| f.path.as_str()).collect();
        if !missing.is_empty() {
            let at = checkpoint.path.display();
            wrong.push(format!("checkpoint {}: {} is not in {at}", checkpoint.name, missing.join(", ")));
        }
        if missing.is_empty() && checkpoint.card.architecture == ARCHITECTURE {
            let text = std::fs::read_to_string(checkpoint.path.join(Segmentation::FILE)).map_err(|e| e.to_string());
            if let Err(why) = text.and_then(|t| Segmentation::parse(&t).map_err(|e| e.to_string())) {
                wrong.push(format!("checkpoint {}: {why}", checkpoint.name));
            }
        }
    }
    let key = args.key.clone().or_else(|| site.as_ref().ok().and_then(|s| s.key_file.clone()));
    let key = key.map(|path| (Key::load(&path).err().map(|e| e.to_string()), path)).map(|(why, path)| (path, why));
    if let Some((_, Some(why))) = &key {
        wrong.push(format!("key: {why}"));
    }
    let cuda = devices::driver();
    Health { cuda, registry, site, key, wrong }
}

fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// The precision that the site asks of networks; `auto` where it asks for none.
fn precision(health: &Health) -> &str {
    health.site.as_ref().map_or(AUTO, Site::precision)
}

/// What kernels will run with, in words.
fn kernels(found: &IsaFeatures) -> String {
    let mut words = format!("{} instructions", found.best());
    let faster: Vec<&str> = [(found.has_avx512_bf16(), "bf16"), (found.has_avx512_vnni(), "int8")]
        .into_iter()
        .filter_map(|(has, name)| has.then_some(name))
        .collect();
    if found.best() == Isa::Avx512 && !faster.is_empty() {
        words += &format!(", dot products of {}", faster.join(" and "));
    }
    if found.has_amx() && !found.amx_is_granted() {
        words += "; the processor has a matrix unit (AMX), which the system does not let programs use";
    }
    words
}

fn report_json(health: &Health) -> Json {
    let Health { cuda, registry, site, key, wrong } = health;
    let (total, available) = machine::memory();
    json!({
        "ok": wrong.is_empty(),
        "gantry": env!("CARGO_PKG_VERSION"),
        "abi": { "major": ABI_MAJOR, "minor": ABI_MINOR },
        "machine": machine::describe(threads()),
        "kernels": {
            "instructions": Isa::best().name(),
            "available": Isa::all().iter().map(|i| i.name()).collect::<Vec<_>>(),
            "precision": precision(health),
        },
        "memory": { "total_bytes": total, "available_bytes": available },
        "devices": device_names(cuda),
        "cuda": cuda.is_ok(),
        "driver": match cuda {
            Ok(driver) => json!({ "cuda": driver.cuda, "cards": driver.cards, "kernel_module": machine::cuda::kernel_module() }),
            Err(why) => json!({ "why": why, "kernel_module": machine::cuda::kernel_module() }),
        },
        "cuda_libraries": cuda_libraries(registry)
            .map(|(id, file, there)| json!({ "plugin": id, "library": file, "installed": there })).collect::<Vec<_>>(),
        "searched": registry.searched.iter()
            .map(|p| json!({ "path": p.path, "what": p.what, "why": p.why, "exists": p.exists() })).collect::<Vec<_>>(),
        "plugins": registry.plugins.iter()
            .map(|p| json!({ "id": p.manifest.id, "version": p.manifest.version, "abi": p.manifest.abi, "path": p.path }))
            .collect::<Vec<_>>(),
        "checkpoints": registry.checkpoints.values()
            .map(|c| json!({
                "name": c.name, "architecture": c.card.architecture, "bytes": c.bytes_on_disk(),
                "licence": c.card.licence, "toy": c.card.toy, "path": c.path,
            })).collect::<Vec<_>>(),
        "models_not_installed": not_installed(registry)
            .map(|m| json!({
                "name": m.name, "title": m.title, "size": m.size, "licence": m.licence, "source": m.source,
                "import": m.import,
            })).collect::<Vec<_>>(),
        "refused": registry.refused.iter().map(|r| json!(r.path)).collect::<Vec<_>>(),
        "site": site.as_ref().ok().and_then(|s| s.path.clone()),
        "key": key.as_ref().map(|(path, why)| json!({ "path": path, "usable": why.is_none() })),
        "wrong": wrong,
    })
}

fn report(health: &Health) -> String {
    let Health { cuda, registry, site, key, wrong } = health;
    let gib = |bytes: u64| bytes as f64 / f64::from(1u32 << 30);
    let (total, available) = machine::memory();
    let features = machine::features();
    let features = if features.is_empty() { "no vector extensions known".to_owned() } else { features.join(" ") };
    let mut out = String::new();
    let mut line = |name: &str, text: String| {
        let _ = writeln!(out, "{name:12} {text}");
    };
    line("gantry", env!("CARGO_PKG_VERSION").to_owned());
    line("stage ABI", format!("{ABI_MAJOR}.{ABI_MINOR}"));
    line("processor", format!("{}, {} threads", machine::cpu(), threads()));
    line("features", features);
    line("kernels", format!("{}; precision {}", kernels(&IsaFeatures::found()), precision(health)));
    line("memory", format!("{:.1} GiB, {:.1} GiB free", gib(total), gib(available)));
    line("devices", device_names(cuda).join(", "));
    let module = machine::cuda::kernel_module().map(|v| format!("; kernel module {v}")).unwrap_or_default();
    match cuda {
        Ok(driver) => {
            line("driver", format!("NVIDIA, CUDA {}{module}", driver.cuda));
            for (i, card) in driver.cards.iter().enumerate() {
                let Card { name, capability, memory_bytes } = card;
                line("", format!("cuda:{i} is {name}, compute capability {capability}, {:.1} GiB", gib(*memory_bytes)));
            }
        }
        Err(why) => line("driver", format!("no CUDA: {why}{module}")),
    }
    for (id, file, there) in cuda_libraries(registry) {
        let there = if there { "installed" } else { "not installed" };
        line("", format!("plugin {id}: CUDA library {file} is {there}"));
    }
    line(
        "site",
        match site {
            Ok(Site { path: Some(path), .. }) => path.display().to_string(),
            Ok(_) => "no configuration".to_owned(),
            Err(_) => "unreadable".to_owned(),
        },
    );
    line(
        "key",
        match key {
            None => "none (`gantry key new FILE` makes one)".to_owned(),
            Some((path, None)) => format!("{}, only its owner has access", path.display()),
            Some((path, Some(_))) => format!("{}, unusable", path.display()),
        },
    );
    for place in &registry.searched {
        let there = if place.exists() { "" } else { ", not there" };
        line(place.what, format!("{} ({}{there})", place.path.display(), place.why));
    }
    let builtin = registry.stages.values().filter(|e| matches!(e.origin, crate::registry::Origin::Builtin)).count();
    line("found", format!("{builtin} built-in stages"));
    let plugins = registry.plugins.iter().map(|p| format!("plugin {} {}", p.manifest.id, p.manifest.version));
    let checkpoints = registry.checkpoints.values().map(|c| {
        let (toy, size) = (if c.card.toy { " (toy)" } else { "" }, megabytes(c.bytes_on_disk()));
        format!("checkpoint {}{toy}: {}, {size}, licence {}", c.name, c.card.architecture, c.card.licence)
    });
    let hidden = registry.shadowed.iter().map(|s| format!("hidden: {} in {}, by {}", s.name, s.path.display(), s.by));
    for found in plugins.chain(checkpoints).chain(hidden) {
        line("", found);
    }
    for model in not_installed(registry) {
        line("missing", format!("checkpoint {}: {}", model.name, model.advice()));
    }
    for problem in wrong {
        line("WRONG", problem.clone());
    }
    line("verdict", if wrong.is_empty() { "all is well".to_owned() } else { format!("{} wrong", wrong.len()) });
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLUGIN: &str = include_str!("../../../plugins/hu-window/plugin.toml");

    fn installed(name: &str, text: &str) -> (tempfile::TempDir, DoctorArgs) {
        let temp = tempfile::tempdir().unwrap();
        let folder = temp.path().join(name);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("plugin.toml"), text).unwrap();
        std::fs::write(folder.join("libhu_window.so"), b"not opened").unwrap();
        std::fs::write(temp.path().join("site.toml"), "").unwrap();
        let places = PlacesArgs { plugins: vec![temp.path().to_owned()], checkpoints: Vec::new() };
        let site = SiteArgs { site: Some(temp.path().join("site.toml")) };
        (temp, DoctorArgs { json: true, key: None, places, site })
    }

    #[test]
    fn a_sound_installation_is_well() {
        let (_temp, args) = installed("hu-window", PLUGIN);
        let reply = run(&args);
        let found: Json = serde_json::from_str(&reply.stdout).unwrap();
        assert_eq!(reply.code, 0, "{found:#}");
        assert_eq!(found["abi"]["major"], 1);
        assert_eq!(found["devices"][0], "cpu");
        assert!(found["plugins"].as_array().unwrap().iter().any(|p| p["id"] == "hu-window"));
        let words = report(&examine(&args));
        assert!(words.contains("driver") && words.contains("all is well"), "{words}");
    }

    #[test]
    fn checkpoints_are_listed_with_what_they_are_and_those_missing_with_how_to_get_them() {
        let (temp, mut args) = installed("hu-window", PLUGIN);
        let models = temp.path().join("hu-window/models");
        std::fs::create_dir_all(&models).unwrap();
        for name in ["toy-soft", "totalseg-heart"] {
            let text = include_str!("../../../plugins/heart-mask/models/totalseg-heart.toml");
            let own = text.replace("name    = \"totalseg-heart\"", &format!("name = \"{name}\""));
            std::fs::write(models.join(format!("{name}.toml")), own).unwrap();
        }
        args.places.checkpoints = vec![concat!(env!("CARGO_MANIFEST_DIR"), "/../checkpoints").into()];
        let found: Json = serde_json::from_str(&run(&args).stdout).unwrap();
        let toy = found["checkpoints"].as_array().unwrap().iter().find(|c| c["name"] == "toy-soft").unwrap();
        assert_eq!((&toy["architecture"], &toy["toy"]), (&json!("ducosy-generator"), &json!(true)));
        assert!(toy["bytes"].as_u64().unwrap() > 100_000 && toy["licence"].is_string(), "{toy}");
        let missing = found["models_not_installed"].as_array().unwrap();
        assert_eq!(missing.iter().map(|m| &m["name"]).collect::<Vec<_>>(), ["totalseg-heart"]);
        assert_eq!(found["ok"], true, "what is not installed is no fault");
        let words = report(&examine(&args));
        let line = words.lines().find(|l| l.contains("checkpoint toy-soft")).unwrap();
        assert!(line.contains("(toy): ducosy-generator, ") && line.contains(" MB, licence "), "{line}");
        let line = words.lines().find(|l| l.starts_with("missing")).unwrap();
        assert!(line.contains("totalseg-heart") && line.contains("--models 293,298"), "{line}");
    }

    #[test]
    fn it_says_what_kernels_run_with() {
        let (temp, args) = installed("hu-window", PLUGIN);
        let found: Json = serde_json::from_str(&run(&args).stdout).unwrap();
        let best = Isa::best().name();
        assert_eq!((&found["kernels"]["instructions"], &found["kernels"]["precision"]), (&json!(best), &json!("auto")));
        assert_eq!(found["machine"]["instructions"], best);
        let available = found["kernels"]["available"].as_array().unwrap();
        assert_eq!((&available[0], available.last().unwrap()), (&json!("portable"), &json!(best)));
        std::fs::write(temp.path().join("site.toml"), "[run]\nprecision = \"bf16\"\n").unwrap();
        let words = report(&examine(&args));
        let line = words.lines().find(|l| l.starts_with("kernels")).unwrap();
        assert!(line.contains(best) && line.contains("precision bf16") && words.contains("all is well"), "{words}");
    }

    #[test]
    fn what_is_wrong_is_named() {
        let (temp, mut args) = installed("hu-window", &PLUGIN.replace("scope", "scoop"));
        let key = temp.path().join("key");
        std::fs::write(&key, [7; 12]).unwrap();
        args.key = Some(key);
        let reply = run(&args);
        let found: Json = serde_json::from_str(&reply.stdout).unwrap();
        assert_eq!((reply.code, &found["ok"]), (1, &json!(false)));
        let wrong = found["wrong"].to_string();
        assert!(wrong.contains("scoop") && wrong.contains("plugin.toml:") && wrong.contains("key: "), "{wrong}");
    }
}
