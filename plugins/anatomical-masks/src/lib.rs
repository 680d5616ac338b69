//! Stage `anatomical-masks`: lung, mediastinum, bone and lung-vessel masks of chest CT slices.

pub mod anatomy;
pub mod hull;
pub mod mask;
