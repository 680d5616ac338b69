//! What can go wrong when a model runs.

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a model cannot be made, or an image not segmented.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The weights are not those of the network, or cannot be read.
    #[error(transparent)]
    Weights(#[from] gantry_weights::Error),
    /// Plans, data set or weights ask for what cannot be run.
    #[error("model: {0}")]
    Model(String),
    /// A setting that means nothing.
    #[error("{0}")]
    Setting(String),
    /// The image is not what the model takes.
    #[error("image: {0}")]
    Image(String),
    /// The scan has no right answer: a code for programs (kebab-case), and why. No patient data.
    #[error("{1}")]
    Unfit(&'static str, String),
    /// A volume cannot be processed.
    #[error(transparent)]
    Volume(#[from] gantry_volume::Error),
    /// A layer of the network failed.
    #[error("network: {0}")]
    Network(#[from] candle_core::Error),
    /// The network's output, or what half precision makes of it, is NaN or infinite.
    #[error("network: {0} logits are NaN or infinite")]
    NotFinite(usize),
    /// [`crate::Watch::go_on`] said no.
    #[error("cancelled")]
    Cancelled,
}
