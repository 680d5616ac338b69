//! Stage `label-statistics`: volume and Hounsfield units of every label of a label map, as a table and a short record.
#![deny(unsafe_code)]

pub mod report;
pub mod statistics;

use gantry_plugin::{Call, Error, Inputs, Outputs, Ports, Result, VolumeStage, export_plugin};

use report::Row;
use statistics::Tally;

/// No parameters.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Params {}

/// The stage.
pub struct LabelStatistics {
    summary: bool,
}

impl VolumeStage for LabelStatistics {
    type Params = Params;

    fn create(_: Params) -> Result<Self> {
        Ok(Self { summary: false })
    }

    fn prepare(&mut self, _: &Call, ports: &Ports) -> Result<()> {
        self.summary = ports.connected("summary");
        Ok(())
    }

    fn process(&mut self, call: &Call, inputs: &Inputs, _: &mut Outputs) -> Result<()> {
        let (image, map) = (inputs.image("image")?, inputs.labels("labels")?);
        let (hu, labels) = (image.voxels::<f32>()?, map.voxels::<u8>()?);
        if hu.channels() != 1 || hu.shape() != labels.shape() {
            let (found, expected) = (labels.shape(), hu.shape());
            let text = format!(
                "labels are {found:?} and the image is {expected:?} (channels, slices, rows, columns), expected the same and one channel"
            );
            return Err(Error::bad_input("size-mismatch", text));
        }
        let geometry = image.geometry()?;
        let mut tally = Tally::new(geometry.size);
        for z in 0..hu.slices() {
            call.go_on()?;
            tally.add(z, hu.plane(0, z), labels.plane(0, z));
        }
        // One slice, or slices at uneven distances: no one volume of a voxel.
        let known = geometry.size[0] > 1 && geometry.slice_origins_mm.is_none();
        let voxel_mm3 = known.then(|| statistics::voxel_mm3(&geometry.affine));
        if !known {
            call.warn("volume-unknown", "the slices are not evenly spaced (or there is one): volumes are left empty");
        }
        let rows = report::rows(&map.label_table(), &tally);
        call.emit("table", "", table(&rows, voxel_mm3)?.as_bytes())?;
        if self.summary {
            call.emit("summary", "", report::summary(&rows, voxel_mm3).to_string().as_bytes())?;
        }
        Ok(())
    }
}

fn table(rows: &[Row], voxel_mm3: Option<f64>) -> Result<String> {
    serde_json::to_string(&report::table(rows, voxel_mm3)).map_err(|e| Error::internal(e.to_string()))
}

export_plugin! { manifest: "../plugin.toml", stages: { "label-statistics" => volume LabelStatistics } }
