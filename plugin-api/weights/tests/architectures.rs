//! Architectures as data: what they expect, what they find, and what they say when it is something else.

use std::path::{Path, PathBuf};

use gantry_weights::{Architecture, Checkpoint, DType, Error, Hyper, StateDict, Tensor};

fn plugin_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../plugins/cyclegan-generator/arch")
}

fn arch(name: &str) -> Architecture {
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/arch");
    Architecture::find(name, &[plugin_folder(), here]).unwrap()
}

/// Weights exactly as expected: small numbers, counters of one.
fn weights(arch: &Architecture, hyper: &Hyper) -> StateDict {
    let mut dict = StateDict::new();
    for e in arch.expected(hyper).unwrap() {
        let n: usize = e.shape.iter().product();
        let tensor = if e.integer {
            Tensor::new(DType::I64, e.shape, vec![0; 8 * n]).unwrap()
        } else {
            Tensor::from_f32(e.shape, &vec![0.25; n]).unwrap()
        };
        dict.insert(e.key, tensor).unwrap();
    }
    dict
}

/// How many numbers a network learns: no running statistics, no counters.
fn parameters(arch: &Architecture, hyper: &Hyper) -> usize {
    let expected = arch.expected(hyper).unwrap();
    let learned = expected.iter().filter(|e| !e.integer && !e.key.contains("running_"));
    learned.map(|e| e.shape.iter().product::<usize>()).sum()
}

fn generator(cin: i64, blocks: i64, cbam: i64, width: i64) -> Hyper {
    Hyper::new([("width", width), ("cin", cin), ("blocks", blocks), ("cbam", cbam)])
}

#[test]
fn published_numbers_of_parameters() {
    let g = arch("ducosy-generator");
    for (cin, cbam, tensors, count) in [
        (1, 1, 75, 11_440_243),
        (2, 1, 75, 11_443_379),
        (3, 1, 75, 11_446_515),
        (1, 0, 48, 11_365_633),
        (2, 0, 48, 11_368_769),
        (3, 0, 48, 11_371_905),
    ] {
        let hyper = generator(cin, 9, cbam, 64);
        assert_eq!(parameters(&g, &hyper), count);
        assert_eq!(g.expected(&hyper).unwrap().len(), tensors);
        assert_eq!(g.masks(&hyper).unwrap(), Some(cin as usize - 1));
    }
    assert_eq!(parameters(&g, &generator(1, 1, 1, 64)), 1_932_643);
    assert_eq!(parameters(&arch("ducosy-discriminator"), &Hyper::new([("width", 64), ("cin", 1)])), 2_762_689);
    let unet = |c| Hyper::new([("c", c), ("cin", 1), ("out", 1)]);
    assert_eq!(parameters(&arch("nmodel-unet3d"), &unet(16)), 3_237_473);
    assert_eq!(parameters(&arch("nmodel-unet3d"), &unet(32)), 12_944_577);
    assert_eq!(parameters(&arch("nmodel-unet3d-light"), &unet(16)), 803_297);
}

#[test]
fn sizes_are_read_off_the_weights() {
    let g = arch("ducosy-generator");
    for (cin, blocks, cbam, width) in [(1, 9, 1, 16), (3, 1, 1, 64), (2, 4, 0, 6), (1, 12, 0, 8)] {
        let dict = weights(&g, &generator(cin, blocks, cbam, width));
        let found = g.check(&dict).unwrap();
        let names = ["cin", "blocks", "cbam", "width"];
        assert_eq!(names.map(|n| found.get(n).unwrap()), [cin, blocks, cbam, width]);
        assert_eq!(found.flag("cbam"), cbam == 1);
    }
    let narrow = weights(&g, &generator(1, 1, 1, 16));
    let fc = narrow.get("model.10.cbam.channel_attention.fc.0.weight").unwrap();
    assert_eq!(fc.shape(), [4, 64, 1, 1]);
    let unet = arch("nmodel-unet3d");
    let dict = weights(&unet, &Hyper::new([("c", 8), ("cin", 1), ("out", 1)]));
    assert_eq!(unet.check(&dict).unwrap().to_string(), "c 8, cin 1, out 1");
    assert_eq!(dict.get("up1.conv.double_conv.1.num_batches_tracked").unwrap().dtype(), DType::I64);
}

fn mismatch(arch: &Architecture, dict: &StateDict) -> (gantry_weights::Mismatch, String) {
    match arch.check(dict) {
        Err(Error::Mismatch(m)) => {
            let text = m.to_string();
            (*m, text)
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn differences_are_named_with_totals() {
    let g = arch("ducosy-generator");
    let mut dict = weights(&g, &generator(1, 9, 1, 16));
    let seven = ["10.block.1.bias", "11.block.1.bias", "12.block.5.bias", "13.block.1.bias", "14.block.1.bias"];
    for key in seven.iter().chain(&["4.weight", "28.bias"]) {
        dict.remove(&format!("model.{key}")).unwrap();
    }
    dict.insert("model.2.running_mean", Tensor::from_f32(vec![1], &[0.0]).unwrap()).unwrap();
    dict.remove("model.20.weight").unwrap();
    dict.insert("model.20.weight", Tensor::from_f32(vec![2, 3], &[0.0; 6]).unwrap()).unwrap();
    dict.remove("model.24.bias").unwrap();
    dict.insert("model.24.bias", Tensor::new(DType::I32, vec![16], vec![0; 64]).unwrap()).unwrap();
    dict.remove("model.7.bias").unwrap();
    let mut values = vec![0.5; 64];
    values[3] = f32::NAN;
    values[4] = f32::NEG_INFINITY;
    dict.insert("model.7.bias", Tensor::from_f32(vec![64], &values).unwrap()).unwrap();

    let (m, text) = mismatch(&g, &dict);
    assert_eq!((m.missing.len(), m.unexpected.len(), m.misshaped.len(), m.not_finite.len()), (7, 1, 2, 1));
    assert_eq!(
        text,
        "these are not the weights of a ducosy-generator (width 16, cin 1, blocks 9, cbam yes)
  missing (7):
    model.4.weight
    model.10.block.1.bias
    model.11.block.1.bias
    model.13.block.1.bias
    model.14.block.1.bias
    … and 2 more
  unexpected (1):
    model.2.running_mean
  wrong shape (2):
    model.20.weight: expected [32, 64, 3, 3], found [2, 3]
    model.24.bias: expected floating-point numbers, found i32
  NaN or infinite (1):
    model.7.bias (2 values)"
    );
}

#[test]
fn weights_of_another_network_are_refused() {
    let (g, d) = (arch("ducosy-generator"), arch("ducosy-discriminator"));
    let discriminator = weights(&d, &Hyper::new([("width", 4), ("cin", 1)]));
    let (m, text) = mismatch(&g, &discriminator);
    assert!(text.contains("`model.1.weight` is missing, which says `width`"), "{text}");
    assert!(text.contains("the file holds (10):\n    model.0.bias"), "{text}");
    assert!(m.missing.is_empty() && m.hyper.is_none());
    let (_, text) = mismatch(&d, &weights(&g, &generator(1, 1, 0, 4)));
    assert!(text.contains("`model.0.weight` is missing"), "{text}");
    assert!(g.check(&StateDict::new()).is_err());

    // A block number from a hostile file is bounded before a list of keys is made from it.
    let mut many = weights(&g, &generator(1, 1, 0, 4));
    many.insert("model.9000000000.block.1.weight", Tensor::from_f32(vec![], &[0.0]).unwrap()).unwrap();
    let (_, text) = mismatch(&g, &many);
    assert!(text.contains("`blocks` would be 8999999991") && text.contains("at most 64 is expected"), "{text}");

    // The hidden layer of the attention must come out as a whole number of channels.
    let mut odd = weights(&g, &generator(1, 1, 0, 6));
    odd.insert("model.10.cbam.x", Tensor::from_f32(vec![], &[0.0]).unwrap()).unwrap();
    let error = g.check(&odd).unwrap_err().to_string();
    assert!(error.contains("24 is not a multiple of 16"), "{error}");
}

#[test]
fn wrong_documents_are_refused() {
    let good = std::fs::read_to_string(plugin_folder().join("ducosy-discriminator.toml")).unwrap();
    assert!(Architecture::parse(&good, "x").is_ok());
    for (from, to, says) in [
        ("architecture = 1", "architecture = 2", "this program reads 1"),
        ("axis     = 0", "axes = 0", "unknown field `axes`"),
        ("axis     = 0", "", "`axis` is missing"),
        ("\"8*width\", 4, 4", "\"8*widht\", 4, 4", "`widht` is not defined"),
        ("\"8*width\", 4, 4", "\"8*\", 4, 4", "missing at the end"),
        ("key     = \"model.0\"", "key     = \"model.{i}\"", "`i` is not defined"),
        ("key     = \"model.0\"", "key     = \"model.{0\"", "brace is not closed"),
        ("name     = \"cin\"", "name     = \"width\"", "the name is taken"),
        ("[[layers]]", "[[layers]]\nuse = \"x\"", "`use`, or `tensors`"),
        ("shape_of = \"model.0.weight\"\naxis     = 0", "present = \"a*b\"", "at most one"),
        ("shape_of = \"model.0.weight\"\naxis     = 0", "value = 1\npresent = \"a\"", "exactly one"),
    ] {
        assert!(good.contains(from), "{from}");
        let error = Architecture::parse(&good.replacen(from, to, 1), "x").unwrap_err().to_string();
        assert!(error.starts_with("architecture x: ") && error.contains(says), "{to}: {error}");
    }
    let twice = good.replace("key     = \"model.2\"", "key     = \"model.0\"");
    let twice = Architecture::parse(&twice, "x").unwrap();
    let error = twice.expected(&Hyper::new([("width", 4), ("cin", 1)])).unwrap_err().to_string();
    assert!(error.contains("`model.0.bias` is described twice"), "{error}");
    let error = Architecture::find("ducosy", &[plugin_folder()]).unwrap_err().to_string();
    assert!(error.ends_with("there are: ducosy-discriminator, ducosy-generator"), "{error}");
}

#[test]
fn a_checkpoint_is_installed_whole_or_not_at_all() {
    let g = arch("ducosy-generator");
    let dict = weights(&g, &generator(1, 1, 1, 16));
    let text = r#"
card = 1
name = "tiny"
architecture = "ducosy-generator"
summary = "a test"
licence = "unknown"
trained_with = "unknown"
toy = true
nature = "synthetic"
intended_use = "tests"
files = [{ path = "w", sha256 = "0000000000000000000000000000000000000000000000000000000000000000" }]
"#;
    let card = gantry_weights::Card::parse(text).unwrap();
    let temp = tempfile::tempdir().unwrap();
    let checkpoints = temp.path().join("deep/checkpoints");
    let done = Checkpoint::install(&checkpoints, card.clone(), &dict, false).unwrap();
    assert_eq!(done.folder, checkpoints.join("tiny"));
    let open = Checkpoint::open(&done.folder).unwrap();
    assert_eq!(open, done);
    assert_eq!(open.verify().unwrap().len(), 1);
    let bytes = open.read_file(Checkpoint::WEIGHTS).unwrap();
    let back = StateDict::from_bytes(bytes.clone(), None).unwrap();
    assert!(dict.iter().all(|(k, t)| back.get(k) == Some(t)) && back.len() == dict.len());

    // The same tensors in another order give the same bytes.
    let mut reversed = StateDict::new();
    for (k, t) in dict.iter().collect::<Vec<_>>().into_iter().rev() {
        reversed.insert(k, t.clone()).unwrap();
    }
    assert_eq!(gantry_weights::to_safetensors(&reversed).unwrap(), bytes);

    let again = Checkpoint::install(&checkpoints, card.clone(), &dict, false);
    assert!(matches!(again, Err(Error::Exists(_))), "{again:?}");
    let other = weights(&g, &generator(2, 1, 1, 16));
    let replaced = Checkpoint::install(&checkpoints, card.clone(), &other, true).unwrap();
    assert_ne!(replaced.card.files, done.card.files);
    assert_eq!(std::fs::read_dir(&checkpoints).unwrap().count(), 1, "nothing is left beside it");

    // A folder that is no checkpoint is never replaced.
    std::fs::remove_file(done.folder.join("card.toml")).unwrap();
    assert!(Checkpoint::install(&checkpoints, card.clone(), &dict, true).is_err());
    assert!(done.folder.join(Checkpoint::WEIGHTS).exists());

    // A folder renamed by hand no longer agrees with its card.
    let fresh = Checkpoint::install(&temp.path().join("other"), card, &dict, false).unwrap();
    let moved = temp.path().join("other/moved");
    std::fs::rename(&fresh.folder, &moved).unwrap();
    assert!(Checkpoint::open(&moved).unwrap_err().to_string().contains("its folder is `moved`"));
}
