//! Volumes on their grids: resampling, orientation, components, morphology.
#![forbid(unsafe_code)]
