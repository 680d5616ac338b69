//! Network weights without a network library: what a checkpoint holds, whether it is the right one, and its card.
//!
//! * [`WeightFile`] reads `.safetensors`, `.pth` and `.pth.tar`, told apart by content; a pickle is never executed.
//! * [`Architecture`] says, as data, which tensors a network has; it reads the sizes of a network off its weights and
//!   refuses a checkpoint with a missing, superfluous or mis-shaped tensor, or a value that is not finite.
//! * [`Card`] is `card.toml`, the document beside the weights; [`Checkpoint::install`] and [`Staging`] write both at
//!   once.
//! * [`nnunet`] reads the models of nnU-Net v2: plans, data set, trainer's checkpoint.
//!
//! Nothing here knows Candle, a plugin or the host.
#![forbid(unsafe_code)]

mod architecture;
mod architecture_document;
mod card;
mod check;
mod checkpoint;
mod error;
mod expression;
mod legacy;
pub mod nnunet;
mod pattern;
mod pickle;
mod pickle_global;
mod pickle_machine;
mod pickle_objects;
mod pth;
mod safetensors_file;
mod state;
mod weight_file;

pub use architecture::{Architecture, Expected, Hyper};
pub use card::{Card, CardFile, Nature, Normalisation, RunSettings, VerifiedFile};
pub use check::{Mismatch, Misshaped};
pub use checkpoint::{Checkpoint, Staging};
pub use error::{Error, Part, Result};
pub use safetensors_file::to_safetensors;
pub use state::{DType, StateDict, Tensor};
pub use weight_file::{Format, WeightFile};
