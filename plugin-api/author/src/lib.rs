//! What the author of a Gantry stage implements in Rust.
//!
//! The trait you implement *is* the scope of the stage: [`SliceStage`], [`SlabStage`], [`VolumeStage`], [`CaseStage`] or
//! [`CohortStage`]. Everything else about it (ports, caps, parameters with their defaults and ranges) stands in the
//! `plugin.toml` beside the library, which the host checks before any of your code runs. [`export_plugin!`] embeds that
//! document and exports the library's one symbol. This crate turns the C structs of `gantry-abi` into checked views,
//! catches panics, and never lets a Rust type cross the boundary.
//!
//! ```
//! use gantry_plugin::{Call, Inputs, Outputs, Result, SliceStage};
//!
//! #[derive(serde::Deserialize)]
//! #[serde(deny_unknown_fields)]
//! struct Params {
//!     factor: f32, // no default here: the host fills it from plugin.toml
//! }
//!
//! struct Scale(Params);
//!
//! impl SliceStage for Scale {
//!     type Params = Params;
//!     fn create(params: Params) -> Result<Self> {
//!         Ok(Scale(params))
//!     }
//!     fn process(&self, _: &Call, inputs: &Inputs, outputs: &mut Outputs) -> Result<()> {
//!         let image = inputs.image("image")?.voxels::<f32>()?;
//!         let mut scaled = outputs.image("image")?.voxels_mut::<f32>()?;
//!         for (c, z) in image.planes() {
//!             for (to, from) in scaled.plane_mut(c, z).iter_mut().zip(image.plane(c, z)) {
//!                 *to = from * self.0.factor;
//!             }
//!         }
//!         Ok(())
//!     }
//! }
//! // gantry_plugin::export_plugin! { manifest: "../plugin.toml", stages: { "scale" => slice Scale } }
//! # fn main() {}
//! ```

mod call;
mod error;
mod export;
mod geometry;
mod inputs;
mod instance;
mod isa;
mod label;
mod opening;
mod outputs;
mod scope;
mod voxels;

pub use call::Call;
pub use error::{Error, Result};
pub use export::{Registration, entry, section};
pub use gantry_abi as abi;
pub use gantry_abi::v1::{Map, Needs};
pub use geometry::Geometry;
pub use inputs::{Headers, Image, Inputs};
#[doc(hidden)]
pub use instance::{Instance, Ports};
#[doc(hidden)]
pub use inventory;
pub use isa::{Isa, IsaFeatures};
pub use label::Label;
pub use opening::{Opening, OutputOpening};
pub use outputs::{OutputImage, Outputs};
pub use scope::{CaseStage, CohortStage, SlabStage, SliceStage, VolumeStage};
pub use voxels::{Element, Voxels, VoxelsMut};

/// One constructor for each scope; used by [`stage!`].
#[doc(hidden)]
pub mod scope_of {
    pub use crate::instance::{case, cohort, slab, slice, volume};
}
