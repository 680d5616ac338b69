//! [`Configuration`]: how the images of one model are read, resampled and normalised, in which patches they are predicted
//! and by which network.

use serde_json::Value;

use crate::error::Result;

use super::fields::{Fields, class, count, shown};
use super::network::Network;

/// The longest side of a patch, in voxels.
const MAX_PATCH: usize = 4096;
/// Most voxels of a patch: sixty times those of the largest published ones.
const MAX_PATCH_VOXELS: usize = 1 << 27;

/// Which of nnU-Net's readers made the arrays the model was trained on: it decides the axes before `transpose_forward`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reader {
    /// `SimpleITKIO`: the voxels as stored, z y x; direction and origin are ignored.
    SimpleItk,
    /// `SimpleITKIOWithReorient`: as above, after turning the axes to RAS.
    SimpleItkReoriented,
    /// `NibabelIO`: the voxels as stored, axes reversed to z y x.
    Nibabel,
    /// `NibabelIOWithReorient`: as above, after turning the axes to RAS.
    NibabelReoriented,
}

impl Reader {
    /// Whether axes are permuted and flipped to RAS before anything else.
    pub fn reorients(self) -> bool {
        matches!(self, Self::SimpleItkReoriented | Self::NibabelReoriented)
    }

    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "SimpleITKIO" => Self::SimpleItk,
            "SimpleITKIOWithReorient" => Self::SimpleItkReoriented,
            "NibabelIO" => Self::Nibabel,
            "NibabelIOWithReorient" => Self::NibabelReoriented,
            _ => return None,
        })
    }
}

/// What the training data's foreground voxels were like, in one channel (Hounsfield units for CT).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Intensities {
    /// Mean.
    pub mean: f64,
    /// Standard deviation.
    pub std: f64,
    /// 0.5th percentile.
    pub percentile_00_5: f64,
    /// 99.5th percentile.
    pub percentile_99_5: f64,
}

/// How one channel is normalised.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Scheme {
    /// `CTNormalization`: clipped to the percentiles, then (x - mean) / max(std, 1e-8).
    Ct(Intensities),
    /// `ZScoreNormalization`: mean and deviation of the image itself.
    ZScore {
        /// Only of the voxels inside the mask of nonzero voxels (`use_mask_for_norm`); the others stay.
        masked: bool,
    },
    /// `NoNormalization`.
    None,
    /// `RescaleTo01Normalization`: minimum to 0, maximum to 1.
    RescaleTo01,
    /// `RGBTo01Normalization`: divided by 255.
    RgbTo01,
}

/// Settings of nnU-Net's `resample_data_or_seg_to_shape`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resampling {
    /// Order of the spline: 0, 1 or 3.
    pub order: u8,
    /// Order along the axis of thick slices, where that one is resampled by itself: 0, 1 or 3.
    pub order_z: u8,
    /// Whether an axis is resampled by itself; `None`: where its spacing is more than 3 times another's.
    pub force_separate_z: Option<bool>,
}

impl Resampling {
    /// What nnU-Net's planner writes for images.
    pub const DATA: Self = Self { order: 3, order_z: 0, force_separate_z: None };
    /// What nnU-Net's planner writes for the network's output.
    pub const PROBABILITIES: Self = Self { order: 1, order_z: 0, force_separate_z: None };
}

/// One way of running a model. Everything spatial but the transpositions is in the order of axes after
/// `transpose_forward`: `[z, y, x]` where that is the identity.
#[derive(Debug, Clone, PartialEq)]
pub struct Configuration {
    /// Its name, such as `3d_fullres`.
    pub name: String,
    /// Distance of voxels in the network's input, mm.
    pub spacing_mm: [f64; 3],
    /// Voxels the network sees at once.
    pub patch: [usize; 3],
    /// Axis `i` of the network's input is axis `transpose_forward[i]` of the reader's array.
    pub transpose_forward: [usize; 3],
    /// The inverse permutation.
    pub transpose_backward: [usize; 3],
    /// How images are read.
    pub reader: Reader,
    /// How each channel is normalised, in order.
    pub schemes: Vec<Scheme>,
    /// How images are resampled to `spacing_mm`.
    pub data: Resampling,
    /// How the network's output is resampled back.
    pub probabilities: Resampling,
    /// The network.
    pub network: Network,
}

impl Configuration {
    /// `top` is the whole document, `own` the configuration after inheritance.
    pub(super) fn read(name: &str, top: &Fields<'_>, own: &Fields<'_>) -> Result<Self> {
        if let Some(stage) = own.get("previous_stage") {
            let stage = shown(stage);
            return Err(own.unsupported(format!(
                "a cascade (`previous_stage` is {stage}); a configuration that needs no other's result expected"
            )));
        }
        let preprocessor = own.text("preprocessor_name")?;
        if preprocessor != "DefaultPreprocessor" {
            return Err(own.unsupported(format!("preprocessor `{preprocessor}`; DefaultPreprocessor expected")));
        }
        if let Some(manager) = top.get("label_manager")
            && manager.as_str().map(class) != Some("LabelManager")
        {
            return Err(top.unsupported(format!("label manager {}; LabelManager expected", shown(manager))));
        }
        let spacing_mm = spacing(own)?;
        let patch: [usize; 3] = own
            .counts("patch_size", 3, MAX_PATCH)?
            .try_into()
            .map_err(|_| own.wrong("`patch_size`: 3 whole numbers expected"))?;
        if patch.iter().product::<usize>() > MAX_PATCH_VOXELS {
            return Err(own.wrong(format!("`patch_size` {patch:?}: at most {MAX_PATCH_VOXELS} voxels expected")));
        }
        let transpose_forward = permutation(top, "transpose_forward")?;
        let transpose_backward = permutation(top, "transpose_backward")?;
        if (0..3).any(|axis| transpose_backward.get(transpose_forward[axis]) != Some(&axis)) {
            return Err(top.wrong(format!(
                "`transpose_backward` {transpose_backward:?} does not undo `transpose_forward` {transpose_forward:?}"
            )));
        }
        let reader = top.text("image_reader_writer")?;
        let Some(reader) = Reader::named(class(reader)) else {
            return Err(top.unsupported(format!(
                "image reader `{reader}`; SimpleITKIO, SimpleITKIOWithReorient, NibabelIO or NibabelIOWithReorient \
                 expected"
            )));
        };
        let network = Network::read(own)?;
        let multiple = network.multiple();
        if (0..3).any(|axis| !patch[axis].is_multiple_of(multiple[axis])) {
            return Err(own.wrong(format!(
                "`patch_size` {patch:?} cannot be halved as often as the network does; multiples of {multiple:?} expected"
            )));
        }
        Ok(Self {
            name: name.to_owned(),
            spacing_mm,
            patch,
            transpose_forward,
            transpose_backward,
            reader,
            schemes: schemes(top, own)?,
            data: resampling(own, "resampling_fn_data", Resampling::DATA)?,
            probabilities: resampling(own, "resampling_fn_probabilities", Resampling::PROBABILITIES)?,
            network,
        })
    }
}

fn spacing(own: &Fields<'_>) -> Result<[f64; 3]> {
    let items = own.list("spacing")?;
    if items.len() == 2 {
        return Err(own.unsupported("a 2-D configuration (its spacing has 2 numbers); a 3-D one expected"));
    }
    let numbers: Vec<f64> = items.iter().filter_map(Value::as_f64).filter(|n| n.is_finite() && *n > 0.0).collect();
    match (numbers.as_slice(), items.len()) {
        (&[z, y, x], 3) => Ok([z, y, x]),
        _ => Err(own.wrong(format!("`spacing`: 3 numbers above 0 expected, found {}", shown(own.need("spacing")?)))),
    }
}

fn permutation(top: &Fields<'_>, key: &str) -> Result<[usize; 3]> {
    let items = top.list(key)?;
    let axes: Vec<usize> = items.iter().filter_map(Value::as_u64).filter_map(|n| usize::try_from(n).ok()).collect();
    match axes.as_slice() {
        &[a, b, c] if items.len() == 3 && (0..3).all(|axis| axes.contains(&axis)) => Ok([a, b, c]),
        _ => Err(top.wrong(format!("`{key}`: 0, 1 and 2 in some order expected, found {}", shown(top.need(key)?)))),
    }
}

fn resampling(own: &Fields<'_>, key: &str, planned: Resampling) -> Result<Resampling> {
    const FUNCTION: &str = "resample_data_or_seg_to_shape";
    match own.get(key) {
        None => {}
        Some(value) if value.as_str().map(class) == Some(FUNCTION) => {}
        Some(other) => {
            return Err(own.unsupported(format!("`{key}` is {}; {FUNCTION} expected", shown(other))));
        }
    }
    let key = format!("{key}_kwargs");
    if own.get(&key).is_none() {
        return Ok(planned);
    }
    let settings = Fields::new(own.object(&key)?, format!("{}: `{key}`", own.place));
    for (name, value) in settings.map {
        let known = match name.as_str() {
            "order" | "order_z" | "force_separate_z" => true,
            "is_seg" => value.as_bool() == Some(false),
            "separate_z_anisotropy_threshold" => value.as_f64() == Some(3.0),
            _ => false,
        };
        if !known {
            return Err(settings.unsupported(format!("`{name}` = {} is not supported", shown(value))));
        }
    }
    let order = |key: &str| {
        let value = settings.need(key)?;
        match value.as_u64() {
            Some(0) => Ok(0),
            Some(order @ (1 | 3)) => Ok(order as u8),
            _ => Err(settings.unsupported(format!("`{key}` is {}; 0, 1 or 3 expected", shown(value)))),
        }
    };
    let force_separate_z = match settings.map.get("force_separate_z") {
        Some(Value::Null) => None,
        Some(Value::Bool(force)) => Some(*force),
        Some(other) => {
            return Err(
                settings.wrong(format!("`force_separate_z`: true, false or null expected, found {}", shown(other)))
            );
        }
        None => return Err(settings.wrong("`force_separate_z` is missing")),
    };
    let (order, order_z) = (order("order")?, order("order_z")?);
    if order_z != 0 {
        return Err(settings.unsupported(format!("`order_z` is {order_z}; 0 expected")));
    }
    if planned.order == Resampling::PROBABILITIES.order && order != planned.order {
        return Err(settings.unsupported(format!("`order` of probabilities is {order}; {} expected", planned.order)));
    }
    Ok(Resampling { order, order_z, force_separate_z })
}

fn schemes(top: &Fields<'_>, own: &Fields<'_>) -> Result<Vec<Scheme>> {
    let names = own.list("normalization_schemes")?;
    if names.is_empty() {
        return Err(own.wrong("`normalization_schemes` is empty; one for each channel expected"));
    }
    let masked = match own.get("use_mask_for_norm") {
        None => vec![false; names.len()],
        Some(Value::Bool(all)) => vec![*all; names.len()],
        Some(Value::Array(items)) if items.len() == names.len() && items.iter().all(Value::is_boolean) => {
            items.iter().map(|item| item.as_bool() == Some(true)).collect()
        }
        Some(other) => {
            return Err(own.wrong(format!(
                "`use_mask_for_norm`: true or false for each of {} channels expected, found {}",
                names.len(),
                shown(other)
            )));
        }
    };
    let scheme = |(channel, (name, masked)): (usize, (&Value, bool))| {
        Ok(match name.as_str().map(class) {
            Some("CTNormalization") => Scheme::Ct(intensities(top, channel)?),
            Some("ZScoreNormalization") => Scheme::ZScore { masked },
            Some("NoNormalization") => Scheme::None,
            Some("RescaleTo01Normalization") => Scheme::RescaleTo01,
            Some("RGBTo01Normalization") => Scheme::RgbTo01,
            _ => {
                return Err(own.unsupported(format!(
                    "normalisation {} of channel {channel}; CTNormalization, ZScoreNormalization, NoNormalization, \
                     RescaleTo01Normalization or RGBTo01Normalization expected",
                    shown(name)
                )));
            }
        })
    };
    names.iter().zip(masked).enumerate().map(scheme).collect()
}

fn intensities(top: &Fields<'_>, channel: usize) -> Result<Intensities> {
    const KEYS: [&str; 2] =
        ["foreground_intensity_properties_per_channel", "foreground_intensity_properties_by_modality"];
    let key = KEYS.into_iter().find(|key| top.get(key).is_some()).unwrap_or(KEYS[0]);
    let all = Fields::new(top.object(key)?, format!("{}: `{key}`", top.place));
    let own = all.object(&channel.to_string())?;
    let own = Fields::new(own, format!("{} of channel {channel}", all.place));
    let found = Intensities {
        mean: own.number("mean")?,
        std: own.number("std")?,
        percentile_00_5: own.number("percentile_00_5")?,
        percentile_99_5: own.number("percentile_99_5")?,
    };
    if found.percentile_00_5 > found.percentile_99_5 || found.std < 0.0 {
        return Err(own.wrong(format!("cannot be: {found:?}")));
    }
    Ok(found)
}

/// For the network's reader: how many entries a list of stages has.
pub(super) fn stages(own: &Fields<'_>, key: &str, max: usize) -> Result<usize> {
    let n = own.list(key)?.len();
    count(&Value::from(n), max).ok_or_else(|| own.wrong(format!("`{key}` has {n} stages; 1 to {max} expected")))
}
