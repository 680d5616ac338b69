//! TotalSegmentator's way of running nnU-Net models: the image is turned to RAS, brought to the models' spacing, labelled by
//! one model or several, and the labels are brought back to the image's grid. Wanted structures are found by a rough model
//! first, and the rest is done in a box around them.
//!
//! Numbers and their order of operations follow TotalSegmentator 2.18 (docs/heart-mask.md says in what this differs).

use gantry_volume::{AxisOrder, Bounds, Order, Orientation, export, remove_small, zoom, zoom_labels, zoom_size};

use crate::error::{Error, Result};
use crate::model::{Image, Model, Settings};
use crate::scan::Scan;
use crate::watch::Watch;

/// Tissue kept around what the rough model found, mm.
const AROUND_MM: f64 = 20.0;
/// As the axes lie: what has been turned already.
const UPRIGHT: Orientation = Orientation { axes: [0, 1, 2], flips: [false; 3] };

/// How labels at the models' spacing reach the image's grid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LabelsBack {
    /// By the nearest voxel.
    Nearest,
    /// Every label as a volume of 0 and 1 interpolated linearly: TotalSegmentator's legacy higher-order resampling.
    OneHot,
    /// The image is not resampled beforehand; the model's logits are, class by class: its higher-order resampling.
    Logits,
}

/// How the models are run.
#[derive(Debug, Clone)]
pub struct TotalSettings {
    /// Values of the result that are wanted; the others become background.
    pub wanted: Vec<u8>,
    /// Spline order of the resampling to the models' spacing.
    pub order: Order,
    /// How labels come back.
    pub labels_back: LabelsBack,
    /// Components of a class of at most this volume are removed, mm³; 0 keeps all.
    pub small_blobs_mm3: f64,
    /// Distance of windows in patches.
    pub step: f64,
}

/// A model of the set, with the values its labels get in the result.
pub struct TotalPart {
    /// The model.
    pub model: Model,
    /// `[own value]` to the value in the result; 0 is background.
    pub values: [u8; 256],
}

/// Models that TotalSegmentator runs together.
pub struct TotalSegmentator {
    /// The spacing the parts were trained for, mm.
    pub spacing_mm: f64,
    /// In order: where two find something, the later one is believed.
    pub parts: Vec<TotalPart>,
    /// The model that finds where to look, and the spacing it was trained for in mm. `None` looks everywhere.
    pub rough: Option<(TotalPart, f64)>,
}

impl TotalSegmentator {
    /// Labels of a scan, `[z, y, x]` on its grid.
    ///
    /// # Errors
    /// If the scan cannot be segmented, or the work was to end.
    pub fn segment(&self, scan: &Scan<'_>, settings: &TotalSettings, watch: &dyn Watch) -> Result<Vec<u8>> {
        let Some((rough, spacing)) = &self.rough else {
            return Ok(only(run(&self.parts, self.spacing_mm, scan, settings, watch)?, &settings.wanted));
        };
        let coarsely = TotalSettings {
            order: Order::Linear,
            labels_back: LabelsBack::Nearest,
            small_blobs_mm3: 0.0,
            ..settings.clone()
        };
        let found = run(std::slice::from_ref(rough), *spacing, scan, &coarsely, watch)?;
        match Bounds::of(&found, scan.size, |v| settings.wanted.contains(&v))? {
            Some(found) => self.segment_around(scan, found, settings, watch),
            None => Ok(vec![0; found.len()]),
        }
    }

    /// Labels of the part of a scan around a box (in its voxels) that a rough segmentation gave, 0 elsewhere.
    ///
    /// # Errors
    /// As [`Self::segment`].
    pub fn segment_around(
        &self,
        scan: &Scan<'_>,
        found: Bounds,
        settings: &TotalSettings,
        watch: &dyn Watch,
    ) -> Result<Vec<u8>> {
        let margin = scan.spacing_mm().map(|spacing| (AROUND_MM / spacing) as usize);
        let bounds = found.grown(margin, scan.size);
        // A cropped image is stored in whole Hounsfield units.
        let voxels: Vec<f32> = bounds.cut(scan.voxels, scan.size)?.into_iter().map(f32::trunc).collect();
        let cropped = Scan { voxels: &voxels, size: bounds.size(), ..*scan };
        let part = run(&self.parts, self.spacing_mm, &cropped, settings, watch)?;
        drop(voxels);
        let mut labels = vec![0; scan.size.iter().product()];
        bounds.paste(&only(part, &settings.wanted), &mut labels, scan.size)?;
        Ok(labels)
    }

    /// An upper bound of the bytes that [`Self::segment`] holds beside scan and result, weights included.
    ///
    /// # Errors
    /// If there is no such scan, or a setting means nothing.
    pub fn memory(&self, size: [usize; 3], spacing_mm: [f64; 3], settings: &TotalSettings) -> Result<u64> {
        let parts = self.parts.iter().map(|part| (part, self.spacing_mm));
        let rough = self.rough.iter().map(|(part, spacing)| (part, *spacing));
        let (mut weights, mut most) = (0, 0);
        for (part, target) in parts.chain(rough) {
            let held = held(&part.model, target, size, spacing_mm, settings)?;
            weights += part.model.weight_bytes();
            most = most.max(held.saturating_sub(part.model.weight_bytes()));
        }
        Ok(weights + most)
    }
}

/// An upper bound of the bytes held while one model labels a scan.
fn held(model: &Model, target: f64, size: [usize; 3], spacing_mm: [f64; 3], settings: &TotalSettings) -> Result<u64> {
    let voxels = size.iter().product::<usize>() as u64;
    let own = Settings { step: settings.step, ..Settings::default() };
    if settings.labels_back == LabelsBack::Logits {
        // The turned image, labels of this part and of all, and class 0 with the best so far at full resolution.
        return Ok((4 + 1 + 1 + 4) * voxels + model.memory(size, spacing_mm, &own)?);
    }
    let small = size_at(size, spacing_mm, target)?;
    let small_voxels = small.iter().product::<usize>() as u64;
    // Cropped and turned copies while the image is brought to the models' spacing, in f64 for the cubic spline; its whole
    // numbers and floats; labels of this part and of all there; labels on the image's grid, turned and not.
    let spline = if settings.order == Order::Cubic { 8 * voxels } else { 0 };
    let before = 8 * voxels + 8 * small_voxels + spline;
    let during =
        4 * voxels + 6 * small_voxels + model.memory(small, [target; 3], &own)?.saturating_sub(model.weight_bytes());
    let after = (4 + 2) * voxels + 2 * small_voxels;
    Ok(model.weight_bytes() + before.max(during).max(after))
}

/// Labels that are not wanted become background.
fn only(mut labels: Vec<u8>, wanted: &[u8]) -> Vec<u8> {
    let kept: [u8; 256] = std::array::from_fn(|value| if wanted.contains(&(value as u8)) { value as u8 } else { 0 });
    labels.iter_mut().for_each(|label| *label = kept[usize::from(*label)]);
    labels
}

/// Models of one spacing on a whole scan.
fn run(
    parts: &[TotalPart],
    target_mm: f64,
    scan: &Scan<'_>,
    settings: &TotalSettings,
    watch: &dyn Watch,
) -> Result<Vec<u8>> {
    let orientation = Orientation::of(&scan.affine)?;
    let (voxels, size) = orientation.apply(scan.voxels, scan.size)?;
    let spacing_mm = orientation.axes.map(|axis| scan.spacing_mm()[axis]);
    let labels = match settings.labels_back {
        LabelsBack::Logits => {
            let image = Image { voxels: &voxels, size, spacing_mm, orientation: UPRIGHT };
            let mut labels = united(parts, &image, settings, watch, higher_order)?;
            remove_blobs(&mut labels, size, spacing_mm, settings)?;
            labels
        }
        back => {
            let (small, small_size) = at_spacing(voxels, size, spacing_mm, target_mm, settings.order)?;
            asked(watch)?;
            let image = Image { voxels: &small, size: small_size, spacing_mm: [target_mm; 3], orientation: UPRIGHT };
            let mut labels = united(parts, &image, settings, watch, Model::segment)?;
            drop(small);
            remove_blobs(&mut labels, small_size, [target_mm; 3], settings)?;
            asked(watch)?;
            match back {
                _ if small_size == size => labels,
                LabelsBack::OneHot => export::one_hot(&labels, small_size, size)?,
                _ => zoom_labels(&labels, small_size, size)?,
            }
        }
    };
    Ok(orientation.undo(&labels, size)?.0)
}

/// A volume brought to the spacing of the models: as it is where that is its own, else in whole Hounsfield units.
fn at_spacing(
    voxels: Vec<f32>,
    size: [usize; 3],
    spacing_mm: [f64; 3],
    target_mm: f64,
    order: Order,
) -> Result<(Vec<f32>, [usize; 3])> {
    if spacing_mm == [target_mm; 3] {
        return Ok((voxels, size));
    }
    let small_size = size_at(size, spacing_mm, target_mm)?;
    let whole: Vec<i32> = zoom(&voxels, size, small_size, order, AxisOrder::Xyz)?;
    drop(voxels);
    Ok((whole.into_iter().map(|value| value as f32).collect(), small_size))
}

/// The size of a volume brought to the spacing of the models.
fn size_at(size: [usize; 3], spacing_mm: [f64; 3], target_mm: f64) -> Result<[usize; 3]> {
    if let Some(axis) = (0..3).find(|&axis| size[axis] as f64 * spacing_mm[axis] < target_mm) {
        let extent = size[axis] as f64 * spacing_mm[axis];
        let text = format!("the scan is {extent:.1} mm thick, and a voxel of the model {target_mm} mm");
        return Err(Error::Unfit("too-thin", text));
    }
    Ok(zoom_size(size, spacing_mm.map(|spacing| spacing / target_mm))?)
}

/// What runs one model on an image.
type RunModel = fn(&Model, &Image<'_>, &Settings, &dyn Watch) -> Result<Vec<u8>>;

/// What the parts find, with the values of the result; the later part is believed.
fn united(
    parts: &[TotalPart],
    image: &Image<'_>,
    settings: &TotalSettings,
    watch: &dyn Watch,
    run: RunModel,
) -> Result<Vec<u8>> {
    let own = Settings { step: settings.step, ..Settings::default() };
    let mut united = vec![0; image.voxels.len()];
    for part in parts {
        let found = run(&part.model, image, &own, watch)?;
        for (united, found) in united.iter_mut().zip(found) {
            let value = part.values[usize::from(found)];
            if value != 0 {
                *united = value;
            }
        }
    }
    Ok(united)
}

/// nnU-Net resamples the image itself; its logits come back class by class.
fn higher_order(model: &Model, image: &Image<'_>, settings: &Settings, watch: &dyn Watch) -> Result<Vec<u8>> {
    let logits = model.logits(image, settings, watch)?;
    let separate = logits.frame.separate_axis(model.configuration().probabilities.force_separate_z);
    let crop = export::higher_order(&logits.view()?, logits.frame.bounds.size(), separate)?;
    logits.frame.restored(crop)
}

/// Removes small components of every class.
fn remove_blobs(labels: &mut [u8], size: [usize; 3], spacing_mm: [f64; 3], settings: &TotalSettings) -> Result<()> {
    if settings.small_blobs_mm3 > 0.0 {
        let voxel_mm3: f64 = spacing_mm.iter().product();
        let most = (settings.small_blobs_mm3 / voxel_mm3) as usize;
        let mut present = [false; 256];
        labels.iter().for_each(|label| present[usize::from(*label)] = true);
        for label in (1..=u8::MAX).filter(|&label| present[usize::from(label)]) {
            remove_small(labels, size, label, most)?;
        }
    }
    Ok(())
}

fn asked(watch: &dyn Watch) -> Result<()> {
    if watch.go_on() { Ok(()) } else { Err(Error::Cancelled) }
}
