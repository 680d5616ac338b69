//! Every file of fixtures/nnunet/gaussian.

use gantry_volume::{importance_map, starts};
use serde_json::Value as Json;

use crate::files::{fixtures, npy_f16, same};

#[test]
fn importance_maps() {
    let Some(folder) = fixtures("gaussian") else { return };
    let bits = |values: &[half::f16]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
    for (file, window) in [("gauss_48x64x64_f16.npy", [48, 64, 64]), ("gauss_16x64x64_f16.npy", [16, 64, 64])] {
        let (shape, theirs) = npy_f16(folder.join(file));
        assert_eq!(shape, window);
        same(file, &bits(&importance_map(window).unwrap()), &bits(&theirs));
    }
    let file = "gauss_128_f16_center_lines.npy";
    let (shape, theirs) = npy_f16(folder.join(file));
    assert_eq!(shape, [5, 128]);
    let map = importance_map([128; 3]).unwrap();
    let line = |at: &dyn Fn(usize) -> [usize; 3]| {
        (0..128).map(at).map(|[z, y, x]| map[(z * 128 + y) * 128 + x]).collect::<Vec<_>>()
    };
    let lines = [
        line(&|k| [64, 64, k]),
        line(&|k| [64, k, 64]),
        line(&|k| [k, 64, 64]),
        line(&|k| [10, 10, k]),
        line(&|k| [0, 0, k]),
    ];
    same(file, &bits(&lines.concat()), &bits(&theirs));
}

#[test]
fn window_starts() {
    let Some(folder) = fixtures("gaussian") else { return };
    let steps: Json = serde_json::from_slice(&std::fs::read(folder.join("steps.json")).unwrap()).unwrap();
    let triple = |text: &str| -> [usize; 3] {
        let numbers: Vec<usize> = text.trim_matches(['(', ')']).split(',').map(|n| n.trim().parse().unwrap()).collect();
        numbers.try_into().unwrap()
    };
    let steps = steps.as_object().unwrap();
    assert!(steps.len() >= 4);
    for (key, theirs) in steps {
        let parts: Vec<&str> = key.split('|').collect();
        let ours = starts(triple(parts[0]), triple(parts[1]), parts[2].parse().unwrap()).unwrap();
        assert_eq!(serde_json::to_value(&ours).unwrap(), *theirs, "{key}");
    }
    println!("steps.json: {} entries, equal", steps.len());
}
