//! Runs nnU-Net v2 models as their makers run them, in bounded memory.
//!
//! * [`Model`] is one configuration of a model with its folds: [`Model::segment`] takes an image to labels exactly as
//!   nnU-Net's own predictor does (crop, normalisation, resampling, Gaussian sliding window in half precision, mirroring,
//!   folds, export); [`Model::logits`] stops on the network's grid.
//! * [`TotalSegmentator`] runs several models the way TotalSegmentator does; [`Segmenter`] is an imported checkpoint run
//!   either way on a [`Scan`].
//! * [`Frame`] says how an image lies in what the network sees of it.
//! * [`Watch`] looks on and may end the work.
//!
//! Labels are decided plane by plane as soon as no window reaches a plane any more, so that a stack of logits exists only
//! where they are resampled afterwards or several folds are averaged.
#![forbid(unsafe_code)]

mod accumulator;
mod decision;
mod error;
mod frame;
mod memory;
mod model;
mod prediction;
mod preprocessing;
mod scan;
mod segmenter;
mod totalsegmentator;
mod watch;
mod windows;

pub use error::{Error, Result};
pub use frame::Frame;
pub use model::{GridLogits, Image, Model, Settings};
pub use scan::Scan;
pub use segmenter::{Choices, Segmenter};
pub use totalsegmentator::{LabelsBack, TotalPart, TotalSegmentator, TotalSettings};
pub use watch::Watch;
