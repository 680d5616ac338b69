//! Volumes on their grids: resampling exactly as scipy, nnU-Net and TotalSegmentator do it, labels from logits,
//! orientation, cropping, components, holes, dilation, and what a sliding window needs.
//!
//! Everything here is a plain function over a slice in `[z, y, x]` order (x fastest) and its size `[z, y, x]`. Work is
//! spread over the caller's rayon pool; each voxel is computed by one thread in one fixed order of operations, so the
//! result has the same bits for any number of threads. Arithmetic is double precision unless a function says otherwise,
//! and is never contracted (no fused multiply-add), because the reference programs do not.
#![forbid(unsafe_code)]

mod bounds;
mod components;
mod crop;
mod cubic;
mod dilate;
mod error;
pub mod export;
mod half_round;
mod holes;
mod interpolate;
mod linear;
mod nearest;
mod normalise;
mod orientation;
pub mod outline;
mod permute;
mod resample;
mod sample;
mod spline;
mod taps;
mod vector;
mod window;
mod zoom;

pub use bounds::Bounds;
pub use components::{Component, Components, Connectivity, remove_small};
pub use crop::{bounds_of_nonzero, nonzero_mask};
pub use dilate::dilate;
pub use error::{Error, Result, voxels};
pub use half_round::to_f16;
pub use holes::{fill_holes, fill_holes_in_slices};
pub use interpolate::AxisOrder;
pub use normalise::Normalisation;
pub use orientation::{Orientation, spacing_f32};
pub use permute::permute;
pub use resample::{Order, Resampling, new_size, resample, resize, separate_axis};
pub use sample::{FromReal, Sample};
pub use window::{importance_map, starts};
pub use zoom::{zoom, zoom_labels, zoom_size};
