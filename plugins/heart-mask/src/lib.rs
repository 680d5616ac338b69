//! The stages `nnunet-segmenter`, labels by any nnU-Net v2 model or TotalSegmentator's set of them, and `heart-mask`, a
//! mask of the heart and its great vessels made of such labels.
#![deny(unsafe_code)]

pub mod heart;
pub mod published;
pub mod segmenter;
mod voxels;

use gantry_plugin::export_plugin;

use heart::HeartMask;
use segmenter::NnunetSegmenter;

export_plugin! { manifest: "../plugin.toml", stages: { "nnunet-segmenter" => volume NnunetSegmenter, "heart-mask" => volume HeartMask } }
