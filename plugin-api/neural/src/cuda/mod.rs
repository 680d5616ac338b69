//! Networks on NVIDIA cards, out of Candle tensors: what Candle lacks there, each operation once for every device.
//!
//! * [`PictureOp`]: an operation on pictures. Candle runs it on the CPU by plain loops, on a card by a kernel of
//!   `cuda/kernels.cu`; a [`Plan`] says which kernel, how often, with which arguments, and is made without a card, so
//!   that tests run the kernels' own source by it;
//! * [`PictureConv`]: a convolution by cuDNN (feature `cudnn`) or in strips through cuBLAS;
//! * `open_device` (feature `cuda`): the card the host chose.
//!
//! Everything but opening a device is compiled without the feature too: the same network then runs on the CPU, which is
//! how its formulation is tested. For speed on the CPU there is the rest of this crate.
//!
//! In 32-bit arithmetic nothing uses TF32: Candle leaves it off for matrix products, and convolutions by cuDNN ask for
//! plain multiply-add.

mod convolution;
#[cfg(feature = "cudnn")]
#[allow(unsafe_code)]
mod cudnn;
#[cfg(feature = "cuda")]
mod device;
#[cfg(feature = "cuda")]
#[allow(unsafe_code)]
mod launch;
mod on_cpu;
mod op;
mod plan;

pub use convolution::PictureConv;
#[cfg(feature = "cuda")]
pub use device::open_device;
pub use op::{Frame, PictureOp, apply};
pub use plan::{Argument, KERNELS_PTX, Picture, Plan};
