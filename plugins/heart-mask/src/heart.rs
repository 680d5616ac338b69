//! The stage `heart-mask`: chosen structures united to one mask.

use gantry_neural::Workers;
use gantry_nnunet::{Choices, LabelsBack, Segmenter};
use gantry_plugin::{Call, Error, Inputs, Label, Opening, Outputs, Ports, Result, VolumeStage};
use gantry_volume::Orientation;
use gantry_volume::export::Way;

use crate::published;
use crate::segmenter::{announce, load, not_prepared, order, segment};
use crate::voxels::write;

/// What the published post-processing trims.
const HEART: &str = "heart";
/// Colour of the mask.
const RED: u32 = 0xd400_00ff;

/// Parameters of `heart-mask`, complete and validated by the host.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// The checkpoint's name; empty where it is not installed and need not be.
    checkpoint: String,
    #[serde(rename = "optional")]
    _optional: bool,
    structures: Vec<String>,
    outline: String,
    rough_crop: bool,
    resampling_order: String,
    precision: String,
    instructions: String,
}

/// The stage.
pub struct HeartMask {
    params: Params,
    /// `None` without a checkpoint: then there is no mask.
    segmenter: Option<Segmenter>,
    workers: Workers,
}

impl VolumeStage for HeartMask {
    type Params = Params;

    fn create(params: Params) -> Result<Self> {
        if params.structures.is_empty() {
            return Err(Error::bad_params("structures: at least one name expected"));
        }
        if params.outline == "published" && !params.structures.iter().any(|name| name == HEART) {
            return Err(Error::bad_params("outline: `published` trims the heart, which `structures` leaves out"));
        }
        Ok(Self { params, segmenter: None, workers: Workers::default() })
    }

    fn prepare(&mut self, call: &Call, _: &Ports) -> Result<()> {
        let params = &self.params;
        if params.checkpoint.is_empty() {
            return Ok(());
        }
        let choices = Choices {
            structures: params.structures.clone(),
            folds: Vec::new(),
            step: None,
            mirror: false,
            export: Way::Fast,
            rough_crop: params.rough_crop,
            order: order(&params.resampling_order),
            labels_back: LabelsBack::Nearest,
            small_blobs_mm3: 0.0,
        };
        self.segmenter = Some(load(call, &params.precision, &params.instructions, choices)?);
        Ok(())
    }

    fn begin(&mut self, call: &Call, opening: &mut Opening) -> Result<()> {
        let Some(segmenter) = &self.segmenter else {
            call.warn("no-heart-model", "no model of the heart is installed: nothing is masked");
            if let Some(mut mask) = opening.output("mask")? {
                mask.absent();
            }
            return Ok(());
        };
        announce(segmenter, opening)?;
        if let Some(mut mask) = opening.output("mask")? {
            let heart = segmenter.labels().iter().find(|label| label.name == HEART);
            let (scheme, code) = heart.map(|label| (label.scheme.as_str(), label.code.as_str())).unwrap_or_default();
            mask.set_labels(&[Label { value: 1, name: HEART, scheme, code, rgba: RED }]);
        }
        Ok(())
    }

    fn process(&mut self, call: &Call, inputs: &Inputs, outputs: &mut Outputs) -> Result<()> {
        let Some(output) = outputs.optional_labels("mask")? else { return Ok(()) };
        let segmenter = self.segmenter.as_ref().ok_or_else(not_prepared)?;
        let mut labels = segment(call, inputs, segmenter, &self.workers)?;
        if labels.iter().all(|&label| label == 0) {
            call.warn("no-heart-found", "none of the structures was found: the mask is empty");
        } else if self.params.outline == "published" {
            let geometry = inputs.image("image")?.geometry()?;
            labels = outlined(labels, geometry.size, &geometry.affine, segmenter)?;
        }
        labels.iter_mut().for_each(|label| *label = u8::from(*label != 0));
        write(&labels, output)
    }
}

/// The published mask of structures: the heart trimmed, every structure's outline stroked, all united and stroked once more.
/// It looks at axial slices from the feet up, so the volume is turned and turned back.
fn outlined(labels: Vec<u8>, size: [usize; 3], affine: &[f64; 12], segmenter: &Segmenter) -> Result<Vec<u8>> {
    let failed = |error: gantry_volume::Error| Error::internal(error.to_string());
    let ras = Orientation::of(affine).map_err(failed)?;
    let [up, front, right] = ras.flips;
    let upright = Orientation { flips: [up, !front, !right], ..ras };
    let (mut labels, turned) = upright.apply(&labels, size).map_err(failed)?;
    if let Some(heart) = segmenter.labels().iter().find(|label| label.name == HEART).map(|label| label.value) {
        let is_heart = |label: u8| u32::from(label) == heart;
        let mut trimmed: Vec<u8> = labels.iter().map(|&label| u8::from(is_heart(label))).collect();
        published::trim(&mut trimmed, turned).map_err(failed)?;
        for (label, kept) in labels.iter_mut().zip(trimmed) {
            if is_heart(*label) && kept == 0 {
                *label = 0;
            }
        }
    }
    let mask = published::widen(&labels, turned, segmenter.wanted()).map_err(failed)?;
    Ok(upright.undo(&mask, turned).map_err(failed)?.0)
}
