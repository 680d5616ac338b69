//! The stage `nnunet-segmenter`, and what it shares with `heart-mask`: a checkpoint made ready, and an image through it.

use std::sync::atomic::{AtomicU64, Ordering};

use gantry_neural::{Engine, Isa, Precision, Workers};
use gantry_nnunet::{Choices, LabelsBack, Scan, Segmenter, Watch};
use gantry_plugin::{Call, Error, Inputs, Label, Opening, Outputs, Ports, Result, VolumeStage};

use gantry_volume::Order;
use gantry_volume::export::Way;
use gantry_weights::nnunet::Label as Named;

use crate::voxels::{dense, write};

/// Parameters of `nnunet-segmenter`, complete and validated by the host.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// The checkpoint's name; the host hands over its files.
    #[serde(rename = "checkpoint")]
    _checkpoint: String,
    structures: Vec<String>,
    folds: Vec<u32>,
    step: f64,
    mirror: bool,
    rough_crop: bool,
    resampling_order: String,
    labels_back: String,
    export: String,
    small_blobs_mm3: f64,
    precision: String,
    instructions: String,
}

/// The stage.
pub struct NnunetSegmenter {
    params: Params,
    segmenter: Option<Segmenter>,
    workers: Workers,
}

impl VolumeStage for NnunetSegmenter {
    type Params = Params;

    fn create(params: Params) -> Result<Self> {
        Ok(Self { params, segmenter: None, workers: Workers::default() })
    }

    fn prepare(&mut self, call: &Call, _: &Ports) -> Result<()> {
        let params = &self.params;
        let choices = Choices {
            structures: params.structures.clone(),
            folds: params.folds.clone(),
            step: (params.step != 0.0).then_some(params.step),
            mirror: params.mirror,
            export: if params.export == "exact" { Way::Exact } else { Way::Fast },
            rough_crop: params.rough_crop,
            order: order(&params.resampling_order),
            labels_back: match params.labels_back.as_str() {
                "one-hot" => LabelsBack::OneHot,
                "logits" => LabelsBack::Logits,
                _ => LabelsBack::Nearest,
            },
            small_blobs_mm3: params.small_blobs_mm3,
        };
        self.segmenter = Some(load(call, &params.precision, &params.instructions, choices)?);
        Ok(())
    }

    fn begin(&mut self, _: &Call, opening: &mut Opening) -> Result<()> {
        let segmenter = self.segmenter.as_ref().ok_or_else(not_prepared)?;
        announce(segmenter, opening)?;
        // Of what was not asked for nothing is said, not even that it is absent.
        let asked = |label: &&Named| segmenter.wanted().iter().any(|&value| u32::from(value) == label.value);
        let rows: Vec<Label> = segmenter.labels().iter().filter(asked).map(row).collect();
        if let Some(mut labels) = opening.output("labels")? {
            labels.set_labels(&rows);
        }
        Ok(())
    }

    fn process(&mut self, call: &Call, inputs: &Inputs, outputs: &mut Outputs) -> Result<()> {
        let segmenter = self.segmenter.as_ref().ok_or_else(not_prepared)?;
        let labels = segment(call, inputs, segmenter, &self.workers)?;
        write(&labels, outputs.labels("labels")?)
    }
}

/// A spline order by its parameter's word.
pub(crate) fn order(word: &str) -> Order {
    if word == "3" { Order::Cubic } else { Order::Linear }
}

/// Makes the checkpoint of parameter `checkpoint` ready, and says which arithmetic it will use.
pub(crate) fn load(call: &Call, precision: &str, instructions: &str, choices: Choices) -> Result<Segmenter> {
    let isa = Isa::chosen(instructions)?;
    let precision =
        Precision::named(precision).ok_or_else(|| Error::bad_params(format!("`{precision}` is no precision")))?;
    let engine = Engine::new(isa, precision).map_err(|error| Error::bad_params(error.to_string()))?;
    let absent = |path: &str| gantry_nnunet::Error::Model(format!("the checkpoint has no file `{path}`"));
    let file = |path: &str| call.checkpoint("checkpoint", path).map_err(|_| absent(path));
    let segmenter = Segmenter::load(&file, &engine, choices).map_err(refused)?;
    call.info("models loaded");
    call.kernels(engine.precision().name(), engine.isa().name())?;
    Ok(segmenter)
}

/// Refuses a grid that cannot be segmented before its voxels are read, and tells the host what the case will need.
pub(crate) fn announce(segmenter: &Segmenter, opening: &mut Opening) -> Result<()> {
    let image = opening.inputs().image("image")?;
    let geometry = image.geometry()?;
    if geometry.slice_origins_mm.is_some() {
        let text = "image: evenly spaced slices expected; resample the series to an even grid first";
        return Err(Error::bad_input("irregular-slices", text));
    }
    if geometry.size[0] == 1 {
        // A DICOM series of one slice does not say how far apart slices would be.
        let text = "image: one slice has no depth; a model of volumes needs more";
        return Err(Error::bad_input("one-slice", text));
    }
    let bytes = segmenter.memory(geometry.size, geometry.spacing_mm()).map_err(refused)?;
    let needs = opening.needs();
    needs.host_bytes = bytes;
    needs.host_bytes_per_slice = 0;
    Ok(())
}

/// Labels of the image that arrives, `[z, y, x]`.
pub(crate) fn segment(call: &Call, inputs: &Inputs, segmenter: &Segmenter, workers: &Workers) -> Result<Vec<u8>> {
    let image = inputs.image("image")?;
    let geometry = image.geometry()?;
    let voxels = image.voxels::<f32>()?;
    let dense = dense(&voxels);
    let scan = Scan { voxels: &dense, channels: voxels.channels(), size: geometry.size, affine: geometry.affine };
    let watch = Looking { call, windows: AtomicU64::new(0) };
    let labels = workers.run(call.threads(), || segmenter.segment(&scan, &watch));
    labels.map_err(|error| Error::resource(format!("threads: {error}")))?.map_err(refused)
}

/// Why a segmenter refused, as the host sorts reasons.
fn refused(error: gantry_nnunet::Error) -> Error {
    use gantry_nnunet::Error as Reason;
    let text = error.to_string();
    match error {
        Reason::Weights(_) | Reason::Model(_) => Error::bad_weights(text),
        Reason::Setting(_) => Error::bad_params(text),
        Reason::Unfit(code, _) => Error::bad_input(code, text),
        Reason::Cancelled => Error::Cancelled,
        Reason::Image(_) => Error::bad_input("image-unfit", text),
        Reason::Volume(_) => Error::bad_input("volume-unfit", text),
        Reason::NotFinite(_) => Error::bad_input("logits-not-finite", text),
        _ => Error::internal(text),
    }
}

/// The host looks on.
struct Looking<'c> {
    call: &'c Call<'c>,
    /// Windows of all models so far.
    windows: AtomicU64,
}

impl Watch for Looking<'_> {
    fn go_on(&self) -> bool {
        !self.call.cancelled()
    }

    fn windows(&self, done: usize, total: usize) {
        // Each model counts for itself; how many windows a later one takes depends on what this one finds.
        let all = 1 + self.windows.fetch_add(1, Ordering::Relaxed);
        self.call.progress(all, all + total.saturating_sub(done) as u64);
    }
}

/// A row of the table that travels with the labels.
fn row(label: &Named) -> Label<'_> {
    Label {
        value: i64::from(label.value),
        name: &label.name,
        scheme: &label.scheme,
        code: &label.code,
        rgba: label.rgba,
    }
}

pub(crate) fn not_prepared() -> Error {
    Error::internal("process before prepare")
}
