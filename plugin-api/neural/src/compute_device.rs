//! Where a network runs.

use candle_core::Device;

/// The device a stage was planned for. This build knows the CPU alone; a build for another device adds a variant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum ComputeDevice {
    /// The CPU, with the vector instructions found at run time.
    #[default]
    Cpu,
}

impl ComputeDevice {
    /// The device of a name as plugin.toml writes it.
    ///
    /// # Errors
    /// If this build has no such device; the text names those it has.
    pub fn named(name: &str) -> Result<Self, String> {
        match name {
            "cpu" => Ok(Self::Cpu),
            other => Err(format!("device: expected \"cpu\" (this build has no other), found \"{other}\"")),
        }
    }

    /// Candle's name for it.
    pub fn candle(self) -> Device {
        match self {
            Self::Cpu => Device::Cpu,
        }
    }
}
