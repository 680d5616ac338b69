//! The card the host chose.

use candle_core::Device;

/// Opens the first card this process may see; the host lets it see the one it chose (`CUDA_VISIBLE_DEVICES`).
///
/// # Errors
/// In words, where the driver finds none or refuses it.
pub fn open_device() -> Result<Device, String> {
    Device::new_cuda(0).map_err(|error| {
        // What follows the first line is a backtrace.
        let text = error.to_string();
        format!("the CUDA device cannot be opened: {}", text.lines().next().unwrap_or_default().trim_end())
    })
}
