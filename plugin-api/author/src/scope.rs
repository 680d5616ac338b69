//! The traits an author implements: one for each scope.
//!
//! | trait | the host calls `process` | typical |
//! |---|---|---|
//! | [`SliceStage`] | for batches of slices, all inputs at the same slices | window, generator, mask |
//! | [`SlabStage`] | for slabs, inputs wider than outputs by the halo | smoothing along z |
//! | [`VolumeStage`] | once a case, whole volumes | resampling, segmentation, a NIfTI writer |
//! | [`CaseStage`] | once a case, several series and their headers | anonymiser |
//! | [`CohortStage`] | once a case, emitting in `end` after the last | atlas, histogram |

use serde::de::DeserializeOwned;

use crate::{Call, Inputs, Opening, Outputs, Ports, Result};

macro_rules! scope {
    ($(#[$doc:meta])* $name:ident, $($self:tt)+) => {
        $(#[$doc])*
        pub trait $name: Sized + Send + Sync + 'static {
            /// Parameters: a plain serde struct without defaults; the host validates and completes them.
            type Params: DeserializeOwned;

            /// Makes an instance.
            fn create(params: Self::Params) -> Result<Self>;

            /// Loads what all cases share, such as weights. Called once, before any case.
            fn prepare(&mut self, call: &Call, ports: &Ports) -> Result<()> {
                let _ = (call, ports);
                Ok(())
            }

            /// A case is opened (cohort: the run): geometry is known, voxels are not there yet.
            fn begin(&mut self, call: &Call, opening: &mut Opening) -> Result<()> {
                let _ = (call, opening);
                Ok(())
            }

            /// Does the work: writes every voxel of every output it was given.
            fn process($($self)+, call: &Call, inputs: &Inputs, outputs: &mut Outputs) -> Result<()>;

            /// The case is closed; last emits. `call.abandoned()` tells whether it failed.
            fn end(&mut self, call: &Call) -> Result<()> {
                let _ = call;
                Ok(())
            }
        }
    };
}

scope! {
    /// Works slice by slice. With `concurrency = "parallel"` in plugin.toml, `process` runs on several threads at once.
    SliceStage, &self
}
scope! {
    /// Works on slabs: inputs are wider than outputs by the halo, less at the ends of the volume.
    SlabStage, &self
}
scope! {
    /// Works on the whole volume, once a case.
    VolumeStage, &mut self
}
scope! {
    /// Works on all series of a case at once, once a case.
    CaseStage, &mut self
}
scope! {
    /// Sees every case of the run and emits in `end`.
    CohortStage, &mut self
}
