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
/// The name of what is inside the mask.
const MASK: &str = "heart-mask";
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
    empty: String,
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
            // Several structures together are none that has a code.
            let only = match &self.params.structures[..] {
                [one] => segmenter.labels().iter().find(|label| label.name == *one),
                _ => None,
            };
            let (scheme, code) = only.map(|label| (label.scheme.as_str(), label.code.as_str())).unwrap_or_default();
            mask.set_labels(&[Label { value: 1, name: MASK, scheme, code, rgba: RED }]);
        }
        Ok(())
    }

    fn process(&mut self, call: &Call, inputs: &Inputs, outputs: &mut Outputs) -> Result<()> {
        let Some(output) = outputs.optional_labels("mask")? else { return Ok(()) };
        let segmenter = self.segmenter.as_ref().ok_or_else(not_prepared)?;
        let mut labels = segment(call, inputs, segmenter, &self.workers)?;
        self.demand(call, segmenter, &labels)?;
        if self.params.outline == "published" {
            let geometry = inputs.image("image")?.geometry()?;
            labels = self.outlined(call, segmenter, labels, geometry.size, &geometry.affine)?;
        }
        labels.iter_mut().for_each(|label| *label = u8::from(*label != 0));
        write(&labels, output)
    }
}

impl HeartMask {
    /// A mask without the heart protects nothing: that is refused, or said.
    fn demand(&self, call: &Call, segmenter: &Segmenter, labels: &[u8]) -> Result<()> {
        let heart = self.params.structures.iter().any(|name| name == HEART);
        let value = segmenter.labels().iter().find(|label| heart && label.name == HEART).map(|label| label.value);
        let found = labels.iter().any(|&label| match value {
            Some(value) => u32::from(label) == value,
            None => label != 0,
        });
        let what = if heart { "the heart" } else { "any of the structures" };
        match (found, self.params.empty == "allow") {
            (true, _) => Ok(()),
            (false, true) => {
                call.warn("no-heart-found", &format!("the model did not find {what}"));
                Ok(())
            }
            (false, false) => {
                let text = format!("the model did not find {what}; `empty = \"allow\"` would go on without");
                Err(Error::bad_input("no-heart-found", text))
            }
        }
    }

    /// The published mask of structures: the heart trimmed, every structure's outline stroked, all united and stroked once
    /// more. It looks at axial slices from the feet up, so the volume is turned and turned back.
    fn outlined(
        &self,
        call: &Call,
        segmenter: &Segmenter,
        labels: Vec<u8>,
        size: [usize; 3],
        affine: &[f64; 12],
    ) -> Result<Vec<u8>> {
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
            // Trimming may leave nothing of a heart that was hardly one.
            self.demand(call, segmenter, &labels)?;
        }
        let mask = published::widen(&labels, turned, segmenter.wanted()).map_err(failed)?;
        Ok(upright.undo(&mask, turned).map_err(failed)?.0)
    }
}
