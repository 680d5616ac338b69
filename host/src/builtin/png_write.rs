//! `png-write`: slices of a display-ready image as PNG files.

use gantry_plugin::abi::v1::dtype;
use gantry_plugin::{Call, Error, Inputs, Outputs, Ports, Result, SliceStage};
use serde::Deserialize;

use super::services::refuse;
use crate::series::png::{DisplayWindow, encode_slice};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Params {
    every: usize,
}

struct PngWrite {
    params: Params,
    /// What is black and what is white: 0..1 for display values, -1..1 for normalised ones, 0..255 for bytes.
    window: DisplayWindow,
}

impl SliceStage for PngWrite {
    type Params = Params;

    fn create(params: Params) -> Result<Self> {
        Ok(PngWrite { params, window: DisplayWindow { black: 0.0, white: 1.0 } })
    }

    fn prepare(&mut self, _: &Call, ports: &Ports) -> Result<()> {
        let caps = ports.caps("image");
        self.window = match (caps["quantity"].as_str(), caps["dtype"].as_str()) {
            (_, Some("u8")) => DisplayWindow { black: 0.0, white: 255.0 },
            (Some("normalized"), _) => DisplayWindow { black: -1.0, white: 1.0 },
            _ => DisplayWindow { black: 0.0, white: 1.0 },
        };
        Ok(())
    }

    fn process(&self, call: &Call, inputs: &Inputs, _: &mut Outputs) -> Result<()> {
        let image = inputs.image("image")?;
        let [_, slices, rows, columns] = image.shape();
        for k in (0..slices).filter(|k| (image.z0() + k).is_multiple_of(self.params.every.max(1))) {
            let plane: Vec<f32> = match image.dtype() {
                dtype::U8 => image.voxels::<u8>()?.plane(0, k).iter().map(|&v| v.into()).collect(),
                dtype::F32 => image.voxels::<f32>()?.plane(0, k).to_vec(),
                other => return Err(Error::unsupported(format!("voxels of type {other:#x} as PNG"))),
            };
            let bytes = encode_slice(&plane, rows, columns, self.window).map_err(refuse)?;
            call.emit("file", &format!("{:04}.png", image.z0() + k + 1), &bytes)?;
        }
        Ok(())
    }
}

gantry_plugin::stage!("png-write", slice, PngWrite);
