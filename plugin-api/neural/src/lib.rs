//! What Candle lacks for medical image networks: a convolution engine for the CPU, and checkpoints into Candle tensors.
//!
//! * [`Engine`] (instruction set, [`Precision`], memory), [`Conv`], [`Finish`], [`whole_network`]: networks whose
//!   activations stay in blocks of channels from the first layer to the last (docs/inference.md);
//! * [`reflection_pad2d`], [`resize_antialiased`], [`resize_nearest`]: what surrounds a network;
//! * [`NetworkCheckpoint`]: card and weights of a stage's checkpoint, checked against an architecture;
//! * [`Workers`]: the host's thread budget; [`ComputeDevice`]: where a network runs.
//!
//! Every operation gives the same bits for any number of threads and any batch size: work is cut up in a way that does
//! not depend on the threads, and what is summed over the cuts is summed in their order. There are no backward passes.
#![deny(unsafe_code)]

#[allow(unsafe_code)]
mod blocked;
mod checkpoint;
mod compute_device;
#[allow(unsafe_code)]
mod conv;
pub mod cuda;
mod dense;
mod engine;
#[allow(unsafe_code)]
mod kernels;
mod pad;
mod resize;
mod unet;
mod workers;

pub use blocked::{Blocked, Cells, Edge, Enlarge, Entry, Finish, Pool, Pooling, Shape, Statistics, pixel_gate};
pub use checkpoint::{NetworkCheckpoint, NetworkWeights};
pub use compute_device::ComputeDevice;
pub use conv::{Conv, ConvConfig, Kind};
pub use engine::{Engine, Planes, Precision, whole_network};
pub use gantry_plugin::Isa;
pub use pad::{Border, reflection_pad2d};
pub use resize::{resize_antialiased, resize_nearest};
pub use unet::{Unet, UnetEncoder, UnetPlan};
pub use workers::Workers;
