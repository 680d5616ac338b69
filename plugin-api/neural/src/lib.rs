//! What Candle lacks for medical image networks, in f32 on the CPU.
//!
//! * [`Conv2d`]: convolution with reflected or zero border and nearest enlargement folded in;
//! * [`instance_norm`], [`reflection_pad2d`], [`upsample_nearest2x`], attention pooling and gating;
//! * [`resize_antialiased`], [`resize_nearest`] for single planes;
//! * [`NetworkCheckpoint`]: card and weights of a stage's checkpoint, checked against an architecture;
//! * [`Workers`]: the host's thread budget; [`ComputeDevice`]: where a network runs.
//!
//! Every operation gives the same bits for any number of threads and any batch size: each output element is computed by
//! one thread in an order that its position in the picture does not change. Tensors are `[N, C, H, W]`, f32, on the CPU.
//! There are no backward passes.
#![deny(unsafe_code)]

mod attention;
#[allow(unsafe_code)]
mod blocked;
mod checkpoint;
mod compute_device;
#[allow(unsafe_code)]
mod conv;
#[allow(unsafe_code)]
mod conv2d;
mod dense;
mod engine;
mod isa;
#[allow(unsafe_code)]
mod kernels;
mod norm;
mod pad;
mod resize;
mod upsample;
mod workers;

pub use attention::{add, add_gated, gate_planes, pool_channels, pool_planes};
pub use blocked::{Blocked, Cells, Edge, Entry, Finish, Shape, Statistics, pixel_gate};
pub use checkpoint::{NetworkCheckpoint, NetworkWeights};
pub use compute_device::ComputeDevice;
pub use conv::{Conv, ConvConfig, Kind};
pub use conv2d::{Conv2d, Conv2dConfig, Padding};
pub use engine::{Engine, Precision, whole_network};
pub use isa::Isa;
pub use norm::{Activation, instance_norm};
pub use pad::{Border, reflection_pad2d};
pub use resize::{resize_antialiased, resize_nearest};
pub use upsample::upsample_nearest2x;
pub use workers::Workers;
