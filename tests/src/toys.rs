//! Small generators with weights drawn by rule, in a folder of checkpoints made by a test.

use std::path::Path;

use gantry_weights::{Architecture, Card, Checkpoint, Hyper, StateDict, Tensor};

use crate::staging::workspace;

/// Sizes of a generator: the least that has every kind of layer.
const SIZES: [(&str, i64); 4] = [("width", 4), ("cin", 1), ("blocks", 1), ("cbam", 1)];

/// Writes a toy generator called `name` for the window `hu_min..hu_max` to `checkpoints/<name>`. The same `seed` gives
/// the same weights; `nudge` is added to the very first one.
///
/// # Panics
/// If it cannot be written.
pub fn write(checkpoints: &Path, name: &str, window_hu: [f64; 2], seed: u64, nudge: f32) {
    let architecture = Architecture::load(workspace().join("plugins/cyclegan-generator/arch/ducosy-generator.toml"))
        .unwrap_or_else(|e| panic!("{e}"));
    let mut state = seed;
    let mut draw = move || {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 40) as f32 / 8_388_608.0 - 1.0
    };
    let mut weights = StateDict::new();
    let mut nudge = Some(nudge);
    for tensor in architecture.expected(&Hyper::new(SIZES)).unwrap_or_else(|e| panic!("{e}")) {
        let fan = tensor.shape.iter().skip(1).product::<usize>().max(1) as f32;
        let factor = if tensor.shape.len() == 1 { 0.125 } else { (3.0 / fan).sqrt() };
        let mut values: Vec<f32> = (0..tensor.shape.iter().product()).map(|_| factor * draw()).collect();
        if let (Some(first), Some(nudge)) = (values.first_mut(), nudge.take()) {
            *first += nudge;
        }
        let made = Tensor::from_f32(tensor.shape, &values).and_then(|t| weights.insert(tensor.key, t));
        made.unwrap_or_else(|e| panic!("{e}"));
    }
    let [low, high] = window_hu;
    let text = format!(
        "card = 1\nname = \"{name}\"\narchitecture = \"ducosy-generator\"\nsummary = \"made by a test\"\n\
         licence = \"CC0-1.0\"\ntrained_with = \"not trained\"\ntoy = true\nnature = \"synthetic\"\n\
         intended_use = \"tests\"\n[[files]]\npath = \"weights.safetensors\"\nsha256 = \"{}\"\n\
         [caps.image]\nquantity = \"normalized\"\nwindow = [{low:?}, {high:?}]\nmodality = \"CT\"\n\
         [caps.masks]\nnames = []\n[caps.out]\nquantity = \"normalized\"\n\
         [run]\nnormalisation = \"linear\"\nresize = []\n",
        "0".repeat(64)
    );
    let card = Card::parse(&text).unwrap_or_else(|e| panic!("{e}"));
    Checkpoint::install(checkpoints, card, &weights, true).unwrap_or_else(|e| panic!("{e}"));
}

/// The two of the DuCoSy chain, under the names of the toys.
pub fn pair(checkpoints: &Path) {
    write(checkpoints, "toy-soft", [-150.0, 250.0], 1, 0.0);
    write(checkpoints, "toy-lung", [-1000.0, -150.0], 2, 0.0);
}
