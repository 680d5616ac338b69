//! What int8 needs to know of a generator: `calibrate CHECKPOINT_FOLDER IMAGE.nii.gz [MASK.nii.gz ...]` prints the
//! `[run.int8.activations]` table for the checkpoint's card, measured on up to 16 slices of the image.
//!
//! The image is what enters the stage, in [-1, 1]; `gantry run ... --keep NODE` writes it for the node before the generator.
//! Masks follow in the card's order. Use several patients' images, and take the largest of each layer's numbers.

use std::error::Error;
use std::path::Path;

use cyclegan_generator::network::Calibration;
use cyclegan_generator::{Generator, architecture};
use gantry_neural::{ComputeDevice, Engine, Isa, NetworkCheckpoint, Precision};
use gantry_weights::Card;
use nifti::{NiftiObject, NiftiVolume, ReaderOptions};

/// Slices measured at most.
const MOST: usize = 16;

fn main() -> Result<(), Box<dyn Error>> {
    let given: Vec<String> = std::env::args().skip(1).collect();
    let [checkpoint, image, masks @ ..] = &given[..] else {
        return Err("CHECKPOINT_FOLDER IMAGE.nii.gz [MASK.nii.gz ...] expected".into());
    };
    let generator = load(Path::new(checkpoint))?;
    if masks.len() != generator.masks().len() {
        return Err(format!("the card names {} masks, {} were given", generator.masks().len(), masks.len()).into());
    }
    let (image, [rows, columns, slices]) = volume(image)?;
    if let Some(value) = image.iter().find(|value| !(-1.0..=1.0).contains(*value)) {
        return Err(format!("the image holds {value}; what enters a generator lies in [-1, 1]").into());
    }
    let masks = masks.iter().map(|path| volume(path)).collect::<Result<Vec<_>, _>>()?;
    if masks.iter().any(|(_, size)| *size != [rows, columns, slices]) {
        return Err("a mask has another size than the image".into());
    }
    let mut largest = Calibration::new();
    for z in (0..slices).step_by(slices.div_ceil(MOST)) {
        let plane = z * rows * columns..(z + 1) * rows * columns;
        let inside: Vec<Vec<u8>> =
            masks.iter().map(|(mask, _)| mask[plane.clone()].iter().map(|&x| u8::from(x > 0.0)).collect()).collect();
        let inside: Vec<&[u8]> = inside.iter().map(Vec::as_slice).collect();
        for (layer, value) in generator.calibrate(&image[plane], &inside, [rows, columns])? {
            let entry = largest.entry(layer).or_insert(value);
            *entry = entry.max(value);
        }
    }
    println!("[run.int8.activations]");
    for (layer, value) in largest {
        println!("{layer:?} = {value:?}");
    }
    Ok(())
}

fn load(folder: &Path) -> Result<Generator, Box<dyn Error>> {
    let card = Card::parse(&std::fs::read_to_string(folder.join("card.toml"))?)?;
    let file = card.files.first().ok_or("the card names no file")?;
    let bytes = std::fs::read(folder.join(&file.path))?;
    let checkpoint = NetworkCheckpoint::from_parts(card, &bytes, &architecture()?, ComputeDevice::Cpu)?;
    Ok(Generator::new(checkpoint, &Engine::new(Isa::best(), Precision::F32x3)?)?)
}

/// Voxels, columns fastest, and `[rows, columns, slices]`.
fn volume(path: &str) -> Result<(Vec<f32>, [usize; 3]), Box<dyn Error>> {
    let object = ReaderOptions::new().read_file(path)?;
    let header = object.header();
    let (slope, intercept) = match header.scl_slope {
        0.0 => (1.0, 0.0),
        slope => (slope, header.scl_inter),
    };
    let volume = object.into_volume();
    let size = volume.dim().to_vec();
    let [columns, rows, slices] = size[..] else { return Err(format!("three axes expected, found {size:?}").into()) };
    let voxels = volume.into_nifti_typed_data::<f32>()?;
    let voxels = voxels.into_iter().map(|x| x * slope + intercept).collect();
    Ok((voxels, [usize::from(rows), usize::from(columns), usize::from(slices)]))
}
