//! The files that the published program's own code wrote: all ways in give the same numbers.

use std::path::PathBuf;

use gantry_tests::fixture::shared;
use gantry_weights::{Architecture, DType, Error, Part, StateDict, WeightFile};

fn arch(name: &str) -> Architecture {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../plugins/cyclegan-generator/arch");
    Architecture::find(name, &[folder]).unwrap()
}

fn same_values(a: &StateDict, b: &StateDict) {
    assert_eq!(a.len(), b.len());
    for (key, tensor) in a.iter() {
        let other = b.get(key).unwrap_or_else(|| panic!("{key} is missing"));
        assert_eq!(tensor.shape(), other.shape(), "{key}");
        let (x, y) = (tensor.to_f32(), other.to_f32());
        let worst = x.iter().zip(&y).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
        assert_eq!(worst, 0.0, "{key}");
        assert!(x.iter().any(|v| *v != 0.0), "{key} is all zero");
    }
}

#[test]
fn every_format_gives_the_same_generator() {
    let Some(folder) = shared("fixtures/ducosy/model") else { return };
    let pth = StateDict::load(folder.join("G_c1_b1.pth"), None).unwrap();
    assert_eq!((pth.len(), pth.elements()), (19, 1_932_643));
    assert!(pth.iter().all(|(_, t)| t.dtype() == DType::F32));
    assert_eq!(pth.keys().next(), Some("model.1.weight"), "the file's order");
    let safetensors = StateDict::load(folder.join("G_c1_b1.safetensors"), None).unwrap();
    same_values(&pth, &safetensors);
    let module = StateDict::load(folder.join("G_c1_b1_module.pth"), None).unwrap();
    assert!(module.iter().all(|(k, t)| t.dtype() == DType::F16 && !k.starts_with("module.")));
    same_values(&pth, &module);
    let hyper = arch("ducosy-generator").check(&pth).unwrap();
    assert_eq!(hyper.to_string(), "width 64, cin 1, blocks 1, cbam yes");
    let wide = StateDict::load(folder.join("G_c3_b1_f16.safetensors"), None).unwrap();
    assert_eq!(arch("ducosy-generator").check(&wide).unwrap().get("cin"), Some(3));
}

#[test]
fn the_trainers_dictionary() {
    let Some(folder) = shared("fixtures/ducosy/model") else { return };
    let path = folder.join("checkpoint.pth.tar");
    let file = WeightFile::open(&path).unwrap();
    let parts = file.parts().unwrap();
    let part = |name: &str, tensors| Part { name: name.to_owned(), tensors };
    assert_eq!(
        parts,
        [
            part("G_A2B_state_dict", 19),
            part("G_B2A_state_dict", 19),
            part("D_A_state_dict", 10),
            part("D_B_state_dict", 10)
        ]
    );
    match StateDict::load(&path, None) {
        Err(Error::InFile { error, .. }) => {
            let text = error.to_string();
            assert!(text.contains("--part: G_A2B_state_dict (19 tensors), G_B2A_state_dict (19 tensors)"), "{text}");
        }
        other => panic!("{other:?}"),
    }
    let generator = file.load(Some("G_A2B_state_dict")).unwrap();
    same_values(&generator, &StateDict::load(folder.join("G_c1_b1.pth"), None).unwrap());
    let (d_a, d_b) = (file.load(Some("D_A_state_dict")).unwrap(), file.load(Some("D_B_state_dict")).unwrap());
    same_values(&d_a, &d_b); // they share storages
    assert_eq!(d_a.elements(), 2_762_689);
    assert_eq!(arch("ducosy-discriminator").check(&d_a).unwrap().to_string(), "width 64, cin 1");
    assert!(arch("ducosy-generator").check(&file.load(Some("G_B2A_state_dict")).unwrap()).is_ok());
}

#[test]
fn truncated_copies_are_refused() {
    let Some(folder) = shared("fixtures/ducosy/model") else { return };
    for (name, part) in [
        ("G_c1_b1.pth", None),
        ("G_c1_b1_module.pth", None),
        ("G_c1_b1.safetensors", None),
        ("checkpoint.pth.tar", Some("D_A_state_dict")),
    ] {
        let whole = std::fs::read(folder.join(name)).unwrap();
        for i in 0..60 {
            let end = whole.len() * i / 60;
            let cut = StateDict::from_bytes(whole.get(..end).unwrap().to_vec(), part);
            assert!(matches!(cut, Err(Error::Malformed(_) | Error::Unsupported(_))), "{name} cut at {end}");
        }
        assert!(StateDict::from_bytes(whole.get(..whole.len() - 1).unwrap().to_vec(), part).is_err());
    }
}

#[test]
fn a_safetensors_file_may_be_called_pth() {
    let Some(folder) = shared("fixtures/ducosy/model") else { return };
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("renamed.pth");
    std::fs::copy(folder.join("G_c1_b1.safetensors"), &path).unwrap();
    let dict = StateDict::load(&path, Some(".")).unwrap();
    assert_eq!(dict.len(), 19);
    assert!(matches!(StateDict::load(&path, Some("G")).unwrap_err().root(), Error::Part { .. }));
}
