//! How a slice of any size meets a network that wants multiples of 4: mirrored and cropped back, or resized and back.

use candle_core::{Device, Result, Tensor};
use gantry_neural::{Border, reflection_pad2d, resize_antialiased, resize_nearest};

/// What the network's sizes are multiples of.
const MULTIPLE: usize = 4;
/// The smallest side the network takes: two halvings must leave two pixels to mirror.
pub const SMALLEST: usize = 5;

/// How slices are brought to the network's size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SliceSize {
    /// At their own size: mirrored below and to the right up to a multiple of 4, and cropped back.
    Native,
    /// Resized to `[rows, columns]` and back, as the published program does: antialiased bilinear, masks nearest.
    Resized([usize; 2]),
}

impl SliceSize {
    /// The network's input `[1, 1 + masks, H, W]` from planes of `size`.
    ///
    /// # Errors
    /// If the slice is too small to be mirrored.
    pub fn enter(self, image: &[f32], masks: &[&[u8]], size: [usize; 2]) -> Result<Tensor> {
        let channels = 1 + masks.len();
        match self {
            Self::Native => {
                let mut planes = image.to_vec();
                planes.extend(masks.iter().flat_map(|mask| mask.iter().map(|&value| one_or_zero(value))));
                let slice = Tensor::from_vec(planes, (1, channels, size[0], size[1]), &Device::Cpu)?;
                reflection_pad2d(&slice, Border::to_multiple(MULTIPLE, size))
            }
            Self::Resized(target) => {
                let mut planes = resize_antialiased(image, size, target);
                for mask in masks {
                    planes.extend(resize_nearest(mask, size, target).into_iter().map(one_or_zero));
                }
                Tensor::from_vec(planes, (1, channels, target[0], target[1]), &Device::Cpu)
            }
        }
    }

    /// The plane of `size` from the network's output `[1, 1, H', W']`.
    ///
    /// # Errors
    /// If the output is smaller than the slice.
    pub fn leave(self, output: &Tensor, size: [usize; 2]) -> Result<Vec<f32>> {
        let plane = output.squeeze(0)?.squeeze(0)?;
        match self {
            Self::Native => plane.narrow(0, 0, size[0])?.narrow(1, 0, size[1])?.flatten_all()?.to_vec1(),
            Self::Resized(_) => {
                let (rows, columns) = plane.dims2()?;
                Ok(resize_antialiased(&plane.flatten_all()?.to_vec1::<f32>()?, [rows, columns], size))
            }
        }
    }
}

/// A mask's meaning: any value above 0 is inside.
fn one_or_zero(value: u8) -> f32 {
    f32::from(u8::from(value > 0))
}
