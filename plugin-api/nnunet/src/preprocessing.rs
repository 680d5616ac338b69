//! From an image to what the network sees: axes, crop, normalisation, resampling, in nnU-Net's order.

use std::borrow::Cow;

use gantry_volume::{
    Bounds, Normalisation, Order, Resampling, bounds_of_nonzero, nonzero_mask, permute, resample, voxels,
};
use gantry_weights::nnunet::{self, Configuration, Scheme};

use crate::error::{Error, Result};
use crate::frame::Frame;
use crate::model::Image;

/// What a plan says of resampling, as the volume crate takes it.
///
/// # Errors
/// If planes that are resampled apart from each other are not to be taken from the nearest one.
pub(crate) fn resampling(planned: &nnunet::Resampling) -> Result<Resampling> {
    if planned.order_z != 0 {
        let found = planned.order_z;
        return Err(Error::Model(format!("plans: `order_z` is {found}; 0 (the nearest plane) is supported")));
    }
    Ok(Resampling { order: Order::try_from(usize::from(planned.order))?, force_separate: planned.force_separate_z })
}

fn normalisation(scheme: &Scheme) -> Normalisation {
    match scheme {
        Scheme::Ct(foreground) => Normalisation::Ct {
            low: foreground.percentile_00_5,
            high: foreground.percentile_99_5,
            mean: foreground.mean,
            deviation: foreground.std,
        },
        Scheme::ZScore { .. } => Normalisation::ZScore,
        Scheme::None => Normalisation::None,
        Scheme::RescaleTo01 => Normalisation::RescaleTo01,
        Scheme::RgbTo01 => Normalisation::RgbTo01,
    }
}

/// The network's input, `[channels][z][y][x]` on the grid of the frame that comes with it.
pub(crate) fn prepared(configuration: &Configuration, image: &Image<'_>) -> Result<(Vec<f32>, Frame)> {
    let frame = Frame::new(configuration, image.size, image.spacing_mm, image.orientation)?;
    let one = voxels("image", image.size)?;
    let channels = configuration.schemes.len();
    if Some(image.voxels.len()) != one.checked_mul(channels) {
        let found = image.voxels.len();
        return Err(Error::Image(format!("{channels} channels of {:?} voxels expected, found {found}", image.size)));
    }
    if let Some(at) = image.voxels.iter().position(|x| !x.is_finite()) {
        return Err(Error::Image(format!("voxel {} of channel {} is {}", at % one, at / one, image.voxels[at])));
    }
    let array: Cow<'_, [f32]> = if frame.array_is_image() {
        Cow::Borrowed(image.voxels)
    } else {
        let mut array = Vec::with_capacity(image.voxels.len());
        for channel in image.voxels.chunks_exact(one) {
            array.extend(permute(channel, image.size, frame.axes, frame.flips)?.0);
        }
        Cow::Owned(array)
    };
    let size = frame.array_size;
    let frame = frame.cropped(bounds_of_nonzero(&array, size)?)?;
    let masked = configuration.schemes.iter().any(|scheme| matches!(scheme, Scheme::ZScore { masked: true }));
    let mask = if masked { Some(frame.bounds.cut(&nonzero_mask(&array, size)?, size)?) } else { None };
    let how = resampling(&configuration.data)?;
    let crop = frame.bounds.size();
    let mut made = Vec::new();
    for (channel, scheme) in array.chunks_exact(one).zip(&configuration.schemes) {
        let mut values = match frame.bounds == Bounds::all(size) {
            true => channel.to_vec(),
            false => frame.bounds.cut(channel, size)?,
        };
        let mask = mask.as_deref().filter(|_| matches!(scheme, Scheme::ZScore { masked: true }));
        normalisation(scheme).apply(&mut values, mask)?;
        if frame.grid_size != crop {
            let (from, to) = (frame.array_spacing_mm, frame.grid_spacing_mm);
            values = resample(&values, crop, frame.grid_size, from, to, how)?;
        }
        match made.is_empty() {
            true => made = values,
            false => made.extend(values),
        }
    }
    Ok((made, frame))
}
