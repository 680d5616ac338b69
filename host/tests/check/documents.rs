//! Sites, locks, places, shadowing, and cards that are wrong.

use std::fs;
use std::path::Path;

use gantry_host::diagnostic::Sources;
use gantry_host::registry::lock::Lock;
use gantry_host::registry::places::Surroundings;
use gantry_host::registry::{Place, Places, Registry, Site};

use crate::bench::{Bench, root};

#[test]
fn the_example_site_is_sound_and_unknown_keys_are_not() {
    let mut sources = Sources::new();
    let mut diagnostics = Vec::new();
    let site = Site::load(&root().join("config/site.toml"), &mut sources, &mut diagnostics).unwrap();
    assert!(diagnostics.is_empty(), "{}", sources.render(&diagnostics, false));
    assert!(site.writers_must_be_deidentified && site.require_lock);
    assert_eq!((site.memory_gb, site.jobs, site.precision.as_deref()), (Some(16.0), Some(1), Some("f32x3")));
    for (text, says) in [
        ("[policy]\nwriters_must_be_deidentifed = true", "did you mean `writers_must_be_deidentified`?"),
        ("[polcy]", "did you mean `policy`?"),
        ("[run]\nprecision = \"f64\"", "`precision` is one of"),
        ("[resources]\njobs = 0", "at least 1"),
        ("[resources]\nmemory_gb = nan", "above 0"),
        ("[policy]\nwriters_must_be_deidentified = \"yes\"", "true or false"),
    ] {
        let mut diagnostics = Vec::new();
        let file = sources.add("site.toml", text);
        Site::parse(text, file, &mut diagnostics);
        assert_eq!(diagnostics.len(), 1);
        assert!(sources.render(&diagnostics, false).contains(says), "{says}");
    }
}

#[test]
fn places_are_searched_in_the_documented_order() {
    let around = Surroundings {
        plugin_path: Some("/env/a:/env/b".into()),
        checkpoints: None,
        program: Some("/opt/gantry".into()),
        data_home: Some("/home/x/.local/share".into()),
    };
    let places = Places::from_surroundings(&["/given".into()], &[], &around);
    let plugins: Vec<&str> = places.plugins.iter().map(|p| p.path.to_str().unwrap()).collect();
    assert_eq!(plugins, ["/given", "/env/a", "/env/b", "/opt/gantry/plugins", "/home/x/.local/share/gantry/plugins"]);
    let checkpoints: Vec<&str> = places.checkpoints.iter().map(|p| p.path.to_str().unwrap()).collect();
    assert_eq!(checkpoints, ["/opt/gantry/checkpoints", "/home/x/.local/share/gantry/checkpoints"]);
}

fn install(to: &Path, name: &str) {
    let folder = to.join(name);
    fs::create_dir_all(&folder).unwrap();
    fs::copy(root().join("plugins").join(name).join("plugin.toml"), folder.join("plugin.toml")).unwrap();
    fs::write(folder.join("libfor_tests.so"), name).unwrap();
}

fn open(folders: &[&Path]) -> (Registry, Sources) {
    let mut sources = Sources::new();
    let place = |path: &&Path| Place { path: path.to_path_buf(), why: "test", what: "plugins" };
    let places = Places { plugins: folders.iter().map(place).collect(), checkpoints: Vec::new() };
    (Registry::open(&places, &mut sources), sources)
}

#[test]
fn earlier_goes_before_later_and_one_bad_plugin_harms_no_other() {
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    install(first.path(), "hu-window");
    install(second.path(), "hu-window");
    install(second.path(), "denormalise");
    let bad = second.path().join("broken");
    fs::create_dir_all(&bad).unwrap();
    fs::write(bad.join("plugin.toml"), "manifest = 1\n[stage.broken]\nscope = \"slice\"\n").unwrap();
    let (registry, _) = open(&[first.path(), second.path()]);
    assert!(registry.stages.contains_key("hu-window") && registry.stages.contains_key("denormalise"));
    assert_eq!(registry.shadowed.len(), 1);
    assert_eq!(registry.shadowed[0].path, second.path().join("hu-window"));
    assert_eq!(registry.shadowed[0].by, first.path().join("hu-window").display().to_string());
    assert_eq!(registry.refused.len(), 1);
    assert_eq!(registry.refused[0].would_give, ["broken"]);
    assert!(registry.refused[0].reasons.len() == 4, "every reason: {:?}", registry.refused[0].reasons);
}

#[test]
fn a_lock_tells_what_changed() {
    let folder = tempfile::tempdir().unwrap();
    let names = [
        "complementary-integrator",
        "anonymizer",
        "apply-mask",
        "cyclegan-generator",
        "denormalise",
        "heart-mask",
        "hu-window",
        "volume-postprocess",
    ];
    for name in names {
        install(folder.path(), name);
    }
    let (registry, _) = open(&[folder.path()]);
    let lock = Lock::of(&registry).unwrap();
    let path = folder.path().join("plugins.lock");
    lock.write(&path).unwrap();
    assert_eq!(Lock::read(&path).unwrap(), lock);
    assert_eq!(lock.pinned("hu-window").unwrap().files.len(), 2);

    let check = |site: &Site, deep: bool| {
        let mut bench = Bench::ducosy();
        bench.use_plugins(folder.path());
        let graph = bench.check().graph.unwrap();
        let found = graph.check_pins(site, &path, deep);
        (found.iter().map(|d| d.code).collect::<Vec<_>>(), found)
    };
    let strict = Site { require_lock: true, ..Site::default() };
    assert_eq!(check(&strict, true).0, Vec::<&str>::new());

    fs::write(folder.path().join("hu-window/libfor_tests.so"), "another").unwrap();
    fs::write(folder.path().join("hu-window/extra.bin"), "x").unwrap();
    assert_eq!(check(&strict, false).0, Vec::<&str>::new(), "a plain check hashes nothing");
    let (codes, found) = check(&strict, true);
    assert_eq!(codes, ["lock-mismatch"]);
    assert!(found[0].message.contains("changed libfor_tests.so") && found[0].message.contains("added extra.bin"));

    let text = fs::read_to_string(&path).unwrap();
    let fewer =
        Lock { plugin: lock.plugin.iter().filter(|p| p.name != "denormalise").cloned().collect(), ..lock.clone() };
    fewer.write(&path).unwrap();
    assert_eq!(check(&strict, false).0, ["not-pinned"]);
    assert_eq!(check(&Site::default(), false).0, Vec::<&str>::new());

    fs::write(&path, text.replacen("sha256 = \"", "sha256 = \"0", 1)).unwrap();
    assert_eq!(check(&strict, false).0, ["lock-unreadable"]);
}

#[test]
#[cfg(unix)]
fn a_link_in_a_plugin_folder_cannot_be_pinned() {
    let folder = tempfile::tempdir().unwrap();
    install(folder.path(), "hu-window");
    std::os::unix::fs::symlink("/etc/hostname", folder.path().join("hu-window/data")).unwrap();
    let (registry, _) = open(&[folder.path()]);
    let error = Lock::of(&registry).unwrap_err();
    assert!(error.contains("neither a file nor a folder"), "{error}");
}

#[test]
fn weights_are_compared_with_their_card() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["ducosy-soft", "ducosy-lung"] {
        let to = folder.path().join(name);
        fs::create_dir_all(&to).unwrap();
        for file in ["card.toml", "weights.safetensors"] {
            fs::copy(root().join("tests/data/checkpoints").join(name).join(file), to.join(file)).unwrap();
        }
    }
    let mut bench = Bench::ducosy();
    bench.use_checkpoints(folder.path());
    let pins = |bench: &Bench| {
        let graph = bench.check().graph.unwrap();
        graph.check_pins(&Site::default(), &folder.path().join("none.lock"), true)
    };
    assert!(pins(&bench).is_empty());
    fs::write(folder.path().join("ducosy-soft/weights.safetensors"), "changed").unwrap();
    let found = pins(&bench);
    assert_eq!(found.iter().map(|d| d.code).collect::<Vec<_>>(), ["weights-mismatch"]);
    fs::remove_file(folder.path().join("ducosy-soft/weights.safetensors")).unwrap();
    bench.one_error("missing-weights").says(&["gantry weights import FILE --arch ducosy-generator --name ducosy-soft"]);

    let card = folder.path().join("ducosy-soft/card.toml");
    let text = fs::read_to_string(&card).unwrap();
    fs::write(&card, text.replace("toy          = false", "toys = false")).unwrap();
    let finding = bench.one_error_with_refusals("unknown-checkpoint");
    finding.says(&["its card was refused", "gantry inspect"]);
}
