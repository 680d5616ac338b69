//! Stage `complementary-integrator`: patches replace a base image, each inside its own window.
#![deny(unsafe_code)]

pub mod integrate;

use gantry_plugin::{Call, Error, Inputs, Outputs, Result, SliceStage, export_plugin};

use integrate::Patch;

/// This stage has no parameters.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Params {}

/// The stage.
pub struct ComplementaryIntegrator;

impl SliceStage for ComplementaryIntegrator {
    type Params = Params;

    fn create(Params {}: Params) -> Result<Self> {
        Ok(Self)
    }

    fn process(&self, _: &Call, inputs: &Inputs, outputs: &mut Outputs) -> Result<()> {
        let base = inputs.image("base")?;
        let z0 = base.z0();
        let base = base.voxels::<f32>()?;
        let patches = inputs.images("patches")?;
        let voxels = patches.iter().map(|p| p.voxels::<f32>()).collect::<Result<Vec<_>>>()?;
        let mut out = outputs.image("image")?.voxels_mut::<f32>()?;
        let mut changed = outputs.optional_labels("changed")?.map(|o| o.voxels_mut::<u8>()).transpose()?;

        for (i, patch) in voxels.iter().enumerate() {
            if patch.shape() != base.shape() {
                let (found, expected) = (patch.shape(), base.shape());
                let text =
                    format!("patches {i} is {found:?}, and base is {expected:?} (channels, slices, rows, columns)");
                return Err(Error::bad_input("size-mismatch", text));
            }
        }
        if out.shape() != base.shape() {
            return Err(Error::internal("the output has another size than the base"));
        }
        if changed.as_ref().is_some_and(|l| l.shape()[1..] != base.shape()[1..] || l.channels() != 1) {
            return Err(Error::internal("`changed` has another size than the base"));
        }
        if changed.is_some() && base.channels() != 1 {
            let text = format!("base has {} channels, and `changed` can speak of one", base.channels());
            return Err(Error::bad_input("channels", text));
        }
        let finite = |what: &str, c: usize, z: usize, plane: &[f32]| match plane.iter().position(|v| !v.is_finite()) {
            None => Ok(()),
            Some(at) => {
                let (slice, row, column) = (z0 + z, at / base.columns(), at % base.columns());
                let text =
                    format!("{what}: channel {c}, slice {slice}, row {row}, column {column} is not a finite number");
                Err(Error::bad_input("not-finite", text))
            }
        };
        for (c, z) in base.planes() {
            finite("base", c, z, base.plane(c, z))?;
            let mut of_slice = Vec::with_capacity(patches.len());
            for (i, (image, voxels)) in patches.iter().zip(&voxels).enumerate() {
                let hu = voxels.plane(c, z);
                finite(&format!("patches {i}"), c, z, hu)?;
                let (lo_hu, hi_hu) = image.map(c, z).map_or((f64::NAN, f64::NAN), |m| (m.lo, m.hi));
                let patch = Patch { lo_hu, hi_hu, hu };
                patch.check().map_err(|why| {
                    Error::bad_input("window-unknown", format!("patches {i}: channel {c}, slice {}: {why}", z0 + z))
                })?;
                of_slice.push(patch);
            }
            let labels = changed.as_mut().map(|l| l.plane_mut(0, z));
            integrate::integrate(base.plane(c, z), &of_slice, out.plane_mut(c, z), labels);
        }
        Ok(())
    }
}

export_plugin! { manifest: "../plugin.toml", stages: { "complementary-integrator" => slice ComplementaryIntegrator } }
