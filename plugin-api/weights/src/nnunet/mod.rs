//! nnU-Net v2 models as their makers write them: what `plans.json`, `dataset.json` and `checkpoint_final.pth` say, as types;
//! and `segmentation.json`, by which an imported checkpoint says how it is run.
//!
//! * [`Plans`] reads `plans.json` in its old and its new form; a [`Configuration`] is one of its ways to preprocess and run.
//! * [`Network`] is the U-Net of a configuration, with the tensors it must have.
//! * [`Dataset`] is `dataset.json`: channels and labels.
//! * [`Trained`] is a trainer's checkpoint, read without executing anything and without its optimiser's state.
//! * [`Model`] joins them.
//! * [`Segmentation`] lists the models of an imported checkpoint and what their labels mean.
//! * [`ModelFolder`] and [`Package`] find them in the folders where nnU-Net and TotalSegmentator keep them, and write
//!   them as a checkpoint.
//!
//! What is not understood is refused by name: a model that is run in another way than it was trained for gives plausible,
//! wrong labels.

mod configuration;
mod dataset;
mod fields;
mod folder;
mod model;
mod network;
mod network_reader;
mod package;
mod plans;
mod segmentation;
pub mod totalsegmentator;
mod trained;

pub use configuration::{Configuration, Intensities, Reader, Resampling, Scheme};
pub use dataset::{Dataset, Labels, Region};
pub use folder::{FoldRead, Folds, ModelFolder};
pub use model::Model;
pub use network::{Encoder, Network};
pub use package::{Package, Written};
pub use plans::Plans;
pub use segmentation::{Label, Part, Segmentation, Way};
pub use trained::Trained;

/// The architecture's name on a card and in a manifest.
pub const ARCHITECTURE: &str = "nnunet-v2";
