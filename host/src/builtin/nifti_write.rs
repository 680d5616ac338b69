//! `nifti-write`: voxels or labels as a compressed NIfTI file, laid out as dcm2niix does; no headers.

use gantry_plugin::abi::v1::dtype;
use gantry_plugin::{Call, Element, Error, Inputs, Outputs, Result, VolumeStage, Voxels};
use serde::Deserialize;

use super::services::{arriving, padding, refuse};
use crate::series::Geometry;
use crate::series::nifti::{RowOrder, encode_image, encode_labels};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Params {
    name: String,
}

struct NiftiWrite {
    params: Params,
}

impl VolumeStage for NiftiWrite {
    type Params = Params;

    fn create(params: Params) -> Result<Self> {
        Ok(NiftiWrite { params })
    }

    fn process(&mut self, call: &Call, inputs: &Inputs, _: &mut Outputs) -> Result<()> {
        let bytes = match inputs.labels("image") {
            Ok(labels) => {
                let geometry = arriving(labels.geometry()?);
                let voxels = labels.voxels::<u8>()?;
                encode_labels(&geometry, &flat(&voxels, |v| v), rows(&geometry)).map_err(refuse)?
            }
            Err(_) => {
                let image = inputs.image("image")?;
                let geometry = arriving(image.geometry()?);
                let found = image.dtype();
                let (channels, mut voxels) = match found {
                    dtype::F32 => (image.voxels::<f32>()?.channels(), flat(&image.voxels::<f32>()?, |v| v)),
                    dtype::I16 => (image.voxels::<i16>()?.channels(), flat(&image.voxels::<i16>()?, f32::from)),
                    dtype::U16 => (image.voxels::<u16>()?.channels(), flat(&image.voxels::<u16>()?, f32::from)),
                    dtype::U8 => (image.voxels::<u8>()?.channels(), flat(&image.voxels::<u8>()?, f32::from)),
                    other => {
                        let name = dtype::name(other).unwrap_or("unknown");
                        return Err(Error::unsupported(format!("voxels of type {name} as NIfTI")));
                    }
                };
                self.restore_padding(call, &geometry, &mut voxels)?;
                encode_image(&geometry, channels, &voxels, rows(&geometry)).map_err(refuse)?
            }
        };
        call.emit("file", &format!("{}.nii.gz", self.params.name), &bytes)
    }
}

impl NiftiWrite {
    /// Padding goes out as the physical value it came in with.
    fn restore_padding(&self, call: &Call, geometry: &Geometry, voxels: &mut [f32]) -> Result<()> {
        let [slices, rows, columns] = geometry.size;
        for z in 0..slices {
            for run in padding(call, z)? {
                let first = z * rows * columns + run.first;
                if let Some(padded) = voxels.get_mut(first..first + run.count) {
                    padded.fill(run.physical);
                }
            }
        }
        Ok(())
    }
}

fn flat<T: Element, U>(voxels: &Voxels<T>, convert: impl Fn(T) -> U) -> Vec<U> {
    voxels.planes().flat_map(|(c, z)| voxels.plane(c, z).iter().map(|&v| convert(v))).collect()
}

/// dcm2niix's order: an affine of negative determinant. A volume that came from such a file goes out as it came in.
fn rows(geometry: &Geometry) -> RowOrder {
    let a = &geometry.affine;
    let determinant =
        a[0] * (a[5] * a[10] - a[6] * a[9]) - a[1] * (a[4] * a[10] - a[6] * a[8]) + a[2] * (a[4] * a[9] - a[5] * a[8]);
    if determinant > 0.0 { RowOrder::Flipped } else { RowOrder::AsStored }
}

gantry_plugin::stage!("nifti-write", volume, NiftiWrite);
