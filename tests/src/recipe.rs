//! Weights made by a recipe instead of by training, and checkpoints of them: the weights of the reference numbers.
//!
//! The recipe is that of the fixtures' README: a splitmix64 stream seeded with the FNV-1a hash of `<salt>/<key>`, scaled
//! by the fan-in.

use std::path::Path;

use gantry_weights::{Architecture, Card, Checkpoint, Hyper, StateDict, Tensor};

use crate::staging::workspace;

/// A generator of the published size (64 wide, 9 residual blocks, attention) without masks.
pub const PUBLISHED: [(&str, i64); 4] = [("width", 64), ("cin", 1), ("blocks", 9), ("cbam", 1)];

/// The stream of `count` numbers in [-1, 1) for `tag`.
pub fn uniform(tag: &str, count: usize) -> Vec<f32> {
    let fnv = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    let seed = tag.bytes().fold(0xcbf2_9ce4_8422_2325, fnv);
    let number = |i: u64| {
        let z = seed.wrapping_add(i.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 40) as f32 / 8_388_608.0 - 1.0
    };
    (1..=count as u64).map(number).collect()
}

/// Recipe weights of a DuCoSy generator with these sizes.
///
/// # Panics
/// If the architecture of the checkout cannot be read, or does not know the sizes.
pub fn generator(salt: &str, sizes: [(&str, i64); 4]) -> StateDict {
    let file = workspace().join("plugins/cyclegan-generator/arch/ducosy-generator.toml");
    let architecture = Architecture::load(file).expect("the architecture is in the checkout");
    let mut dict = StateDict::new();
    for tensor in architecture.expected(&Hyper::new(sizes)).expect("sizes of a generator") {
        let factor = match tensor.shape[..] {
            [_] => 0.125,
            _ => (3.0 / tensor.shape[1..].iter().product::<usize>() as f64).sqrt() as f32,
        };
        let values = uniform(&format!("{salt}/{}", tensor.key), tensor.shape.iter().product());
        let values: Vec<f32> = values.iter().map(|x| factor * x).collect();
        dict.insert(tensor.key, Tensor::from_f32(tensor.shape, &values).expect("a shape and its values"))
            .expect("keys differ");
    }
    dict
}

/// Installs a checkpoint without masks for slices in `window_hu`, resized to `resize` (`[rows, columns]`; empty: not).
///
/// # Panics
/// If the folder cannot be written.
pub fn install(checkpoints: &Path, name: &str, weights: &StateDict, window_hu: [f64; 2], resize: &[usize]) {
    let card = format!(
        "card = 1\nname = \"{name}\"\narchitecture = \"ducosy-generator\"\nsummary = \"Recipe weights.\"\n\
         licence = \"CC0-1.0\"\ntrained_with = \"not trained\"\ntoy = false\nnature = \"synthetic\"\n\
         intended_use = \"comparison with reference numbers\"\n\
         [[files]]\npath = \"weights.safetensors\"\nsha256 = \"{}\"\n\
         [caps.image]\nquantity = \"normalized\"\nwindow = {window_hu:?}\nmodality = \"CT\"\n\
         [caps.masks]\nnames = []\n[caps.out]\nquantity = \"normalized\"\n\
         [run]\nnormalisation = \"linear\"\nresize = {resize:?}\n",
        "0".repeat(64)
    );
    let card = Card::parse(&card).expect("a card");
    Checkpoint::install(checkpoints, card, weights, true).expect("checkpoints can be installed");
}

#[cfg(test)]
mod tests {
    use super::uniform;

    #[test]
    fn the_stream_is_the_documented_one() {
        // Numbers of the recipe's own program, in steps of 2^-23.
        let steps: Vec<f32> = uniform("soft/model.1.weight", 4).iter().map(|x| x * 8_388_608.0).collect();
        assert_eq!(steps, [5_697_002.0, -6_147_088.0, 5_063_252.0, 6_082_090.0]);
    }
}
