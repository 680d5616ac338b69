//! How much memory a model holds while it segments an image.

use gantry_volume::{Order, Orientation, separate_axis};

use crate::accumulator::Accumulator;
use crate::error::Result;
use crate::frame::Frame;
use crate::model::{Model, Settings};
use crate::prediction::mirrored;
use crate::windows::Windows;

/// Voxels that the volume crate replicates on either side before it fits cubic splines.
const SPLINE_BORDER: usize = 12;

/// The orders that three axes may have.
const ORDERS: [[usize; 3]; 6] = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];

fn voxels(size: [usize; 3]) -> u64 {
    size.iter().map(|&n| n as u64).product()
}

/// Threads that work may spread over: of the caller's pool, or all of the machine.
fn threads() -> usize {
    match rayon::current_thread_index() {
        Some(_) => rayon::current_num_threads(),
        None => std::thread::available_parallelism().map_or(1, usize::from),
    }
}

impl Model {
    /// Most bytes that [`Model::segment`] holds beside the image and the labels it gives, the weights included: for images
    /// of `size` and `spacing_mm` `[z, y, x]`, however they are cropped, and oriented if the model reorients them.
    ///
    /// # Errors
    /// If there is no such image, or a setting means nothing.
    pub fn memory(&self, size: [usize; 3], spacing_mm: [f64; 3], settings: &Settings) -> Result<u64> {
        let orders = if self.configuration().reader.reorients() { &ORDERS[..] } else { &ORDERS[..1] };
        let mut most = 0;
        for &axes in orders {
            let orientation = Orientation { axes, flips: [false; 3] };
            let frame = Frame::new(self.configuration(), size, spacing_mm, orientation)?;
            most = most.max(self.held(&frame, settings, !self.configuration().reader.reorients())?);
        }
        Ok(self.weight_bytes() + most)
    }

    /// The same for one frame, without the weights. `upright`: only the plans' transposition may move axes.
    fn held(&self, frame: &Frame, settings: &Settings, upright: bool) -> Result<u64> {
        let windows = Windows::new(frame.grid_size, self.configuration().patch, settings.step)?;
        let mirrors = mirrored(&settings.mirror_axes)?.len() > 1;
        let (channels, heads) = (self.channels() as u64, self.heads() as u64);
        let (image, grid) = (voxels(frame.image_size), voxels(frame.grid_size));
        let resampled = frame.grid_size != frame.array_size;
        let input = 4 * channels * grid;

        // One channel is cropped and normalised, then resampled, beside those that are finished.
        let moved = if upright && frame.array_is_image() { 0 } else { 4 * channels * image };
        let how = &self.configuration().data;
        let apart = separate_axis(frame.array_spacing_mm, frame.grid_spacing_mm, how.force_separate_z);
        let splines = match (resampled, apart, Order::try_from(usize::from(how.order))) {
            (false, ..) => 0,
            (true, None, Ok(Order::Cubic)) => 8 * voxels(frame.array_size.map(|n| n + 2 * SPLINE_BORDER)),
            (true, None, _) => 4 * grid,
            // Planes turned to the front, resampled within, and taken from there; each thread has a plane's splines.
            (true, Some(axis), _) => {
                let count = frame.array_size[axis] as u64;
                let planes = count * grid / (frame.grid_size[axis] as u64).max(1);
                let plane = image / count.max(1);
                4 * (image + planes + 2 * grid) + 16 * threads() as u64 * (2 * plane + (1 << 20))
            }
        };
        // A mask of what is not nought takes a byte for each voxel, twice.
        let preparing = moved + 2 * image + 4 * image + splines + input + if channels > 1 { 4 * grid } else { 0 };

        // The networks run on windows of the input.
        let window = voxels(windows.patch);
        let plane = [windows.padded[1], windows.padded[2]];
        let ring = Accumulator::bytes(self.heads(), windows.reach(), plane);
        let stack = Accumulator::bytes(self.heads(), windows.padded[0], plane);
        let sums = match (self.folds(), resampled) {
            (1, false) => ring,
            (1, true) => stack,
            _ => stack + ring,
        };
        let mean = if mirrors { 4 * window * heads } else { 0 };
        let network = self.activation_bytes(threads()) as u64;
        let predicting = input + sums + 4 * window * channels + mean + network + image;

        // Labels of the crop, of the array and of the image beside the logits.
        let exporting = if resampled { 2 * heads * grid + grid } else { 0 } + 3 * image;
        Ok(4 * window + preparing.max(predicting).max(exporting))
    }
}
