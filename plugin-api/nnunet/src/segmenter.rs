//! [`Segmenter`]: an imported checkpoint that is ready to label images, whichever way its models are run.

use std::collections::BTreeMap;

use gantry_neural::Engine;
use gantry_volume::{Order, export};
use gantry_weights::nnunet::{Dataset, Label, Part, Plans, Segmentation, Way};

use crate::error::{Error, Result};
use crate::model::{Model, Settings};
use crate::scan::Scan;
use crate::totalsegmentator::{LabelsBack, TotalPart, TotalSegmentator, TotalSettings};
use crate::watch::Watch;

/// What a user may choose.
#[derive(Debug, Clone)]
pub struct Choices {
    /// Names of the labels wanted; empty: all.
    pub structures: Vec<String>,
    /// Folds to average; empty: all there are.
    pub folds: Vec<u32>,
    /// Distance of windows in patches; `None`: the checkpoint's.
    pub step: Option<f64>,
    /// Average over mirrored inputs.
    pub mirror: bool,
    /// nnU-Net's way: whether logits are interpolated everywhere on the way back; the labels are the same.
    pub export: export::Way,
    /// TotalSegmentator's way: ask the rough model where to look.
    pub rough_crop: bool,
    /// TotalSegmentator's way: order of the resampling to the models' spacing.
    pub order: Order,
    /// TotalSegmentator's way: how labels come back.
    pub labels_back: LabelsBack,
    /// TotalSegmentator's way: components up to this volume are removed, mm³.
    pub small_blobs_mm3: f64,
}

/// The models of a checkpoint and how they are run.
enum Models {
    /// One model, which resamples the image itself.
    Nnunet(Box<Model>),
    /// Several, TotalSegmentator's way.
    Total(Box<TotalSegmentator>),
}

/// An imported checkpoint that is ready to label images.
pub struct Segmenter {
    models: Models,
    choices: Choices,
    /// How each model is run.
    own: Settings,
    labels: Vec<Label>,
    wanted: Vec<u8>,
}

impl Segmenter {
    /// Loads the models that the wanted structures need. `file` gives the checkpoint's files by path.
    ///
    /// # Errors
    /// If a document or the weights are not what they should be, or a setting does not fit them.
    pub fn load<'f>(file: &dyn Fn(&str) -> Result<&'f [u8]>, engine: &Engine, choices: Choices) -> Result<Self> {
        let segmentation = Segmentation::parse(text(file, Segmentation::FILE)?)?;
        let wanted = wanted(&segmentation, &choices.structures)?;
        if let Some(step) = choices.step.filter(|step| !(0.1..=1.0).contains(step)) {
            return Err(Error::Setting(format!("step: 0.1 to 1.0 patches expected, found {step}")));
        }
        let load = |part: &Part| model(file, part, engine, &choices.folds);
        let mut own = Settings {
            step: choices.step.unwrap_or(segmentation.step),
            mirror_axes: Vec::new(),
            export: choices.export,
        };
        let models = match segmentation.way {
            Way::Nnunet => {
                refuse_totalsegmentators_choices(&choices)?;
                let [part] = &segmentation.parts[..] else {
                    return Err(Error::Model(format!("one model expected, found {}", segmentation.parts.len())));
                };
                if choices.mirror {
                    let without =
                        || format!("mirror: {} was trained without mirroring ({})", part.dataset, part.trainer);
                    own.mirror_axes = part.mirror_axes.clone().ok_or_else(|| Error::Setting(without()))?;
                }
                Models::Nnunet(Box::new(load(part)?))
            }
            Way::Totalsegmentator => {
                if choices.mirror {
                    return Err(Error::Setting("mirror: TotalSegmentator's models were trained without".to_owned()));
                }
                // As TotalSegmentator does: whoever names structures wants them looked for.
                let rough_crop = choices.rough_crop && !choices.structures.is_empty();
                Models::Total(Box::new(total(&segmentation, &wanted, rough_crop, &load)?))
            }
        };
        Ok(Self { models, choices, own, labels: segmentation.labels, wanted })
    }

    /// What the values of a result can mean, by value; 0 is background.
    pub fn labels(&self) -> &[Label] {
        &self.labels
    }

    /// The values of a result that were asked for.
    pub fn wanted(&self) -> &[u8] {
        &self.wanted
    }

    /// Channels of the images it takes.
    pub fn channels(&self) -> usize {
        match &self.models {
            Models::Nnunet(model) => model.channels(),
            Models::Total(_) => 1,
        }
    }

    /// Labels of a scan, `[z, y, x]` on its grid.
    ///
    /// # Errors
    /// If the scan cannot be segmented, or the work was to end.
    pub fn segment(&self, scan: &Scan<'_>, watch: &dyn Watch) -> Result<Vec<u8>> {
        if scan.channels != self.channels() {
            let text = format!("{} channels expected, found {}", self.channels(), scan.channels);
            return Err(Error::Unfit("image-channels", text));
        }
        scan.check()?;
        match &self.models {
            Models::Total(total) => total.segment(scan, &self.total_settings(), watch),
            Models::Nnunet(model) => {
                let mut labels = model.segment(&scan.image()?, &self.own, watch)?;
                if self.wanted.len() < self.labels.len() {
                    labels.iter_mut().filter(|label| !self.wanted.contains(label)).for_each(|label| *label = 0);
                }
                Ok(labels)
            }
        }
    }

    /// An upper bound of the bytes that [`Self::segment`] holds beside scan and result, weights included.
    ///
    /// # Errors
    /// If there is no such scan.
    pub fn memory(&self, size: [usize; 3], spacing_mm: [f64; 3]) -> Result<u64> {
        match &self.models {
            Models::Total(total) => total.memory(size, spacing_mm, &self.total_settings()),
            Models::Nnunet(model) => model.memory(size, spacing_mm, &self.own),
        }
    }

    fn total_settings(&self) -> TotalSettings {
        TotalSettings {
            wanted: self.wanted.clone(),
            order: self.choices.order,
            labels_back: self.choices.labels_back,
            small_blobs_mm3: self.choices.small_blobs_mm3,
            step: self.own.step,
        }
    }
}

/// The models that the wanted values need, and the rough one where it is of use.
fn total(
    segmentation: &Segmentation,
    wanted: &[u8],
    rough_crop: bool,
    load: &dyn Fn(&Part) -> Result<Model>,
) -> Result<TotalSegmentator> {
    let spacing = |of: Option<f64>, what: &str| of.ok_or_else(|| Error::Model(format!("{what}: no spacing is given")));
    let part = |part: &Part| Ok::<_, Error>(TotalPart { model: load(part)?, values: values(part)? });
    let needed = |part: &&Part| part.labels.iter().any(|[_, to]| wanted.iter().any(|&value| u32::from(value) == *to));
    let rough = segmentation.rough.as_ref().filter(|_| rough_crop);
    let rough = rough.map(|rough| Ok::<_, Error>((part(rough)?, spacing(rough.spacing_mm, "the rough model")?)));
    Ok(TotalSegmentator {
        spacing_mm: spacing(segmentation.spacing_mm, "the models")?,
        parts: segmentation.parts.iter().filter(needed).map(part).collect::<Result<_>>()?,
        rough: rough.transpose()?,
    })
}

fn refuse_totalsegmentators_choices(choices: &Choices) -> Result<()> {
    let said = [
        ("resampling_order", choices.order != Order::Linear),
        ("labels_back", choices.labels_back != LabelsBack::Nearest),
        ("small_blobs_mm3", choices.small_blobs_mm3 != 0.0),
    ];
    match said.iter().find(|(_, said)| *said) {
        None => Ok(()),
        Some((name, _)) => Err(Error::Setting(format!(
            "{name}: is for TotalSegmentator's models; this checkpoint is run the way nnU-Net runs it"
        ))),
    }
}

/// Values of the structures asked for, ascending.
fn wanted(segmentation: &Segmentation, structures: &[String]) -> Result<Vec<u8>> {
    let all: BTreeMap<&str, u32> = segmentation.labels.iter().map(|l| (l.name.as_str(), l.value)).collect();
    let narrow = |value: u32| u8::try_from(value).map_err(|_| Error::Model(format!("label {value} is above 255")));
    if structures.is_empty() {
        return all.values().map(|&value| narrow(value)).collect();
    }
    let mut wanted = Vec::new();
    for name in structures {
        match all.get(name.as_str()) {
            Some(&value) => wanted.push(narrow(value)?),
            None => {
                let known: Vec<&str> = all.keys().copied().collect();
                let text = format!("structures: the model knows no `{name}`; it knows {}", known.join(", "));
                return Err(Error::Setting(text));
            }
        }
    }
    wanted.sort_unstable();
    wanted.dedup();
    Ok(wanted)
}

/// A part's own values to those of the result.
fn values(part: &Part) -> Result<[u8; 256]> {
    let mut values = [0; 256];
    for &[own, to] in &part.labels {
        let narrow = |value: u32| u8::try_from(value).map_err(|_| Error::Model(format!("label {value} is above 255")));
        values[usize::from(narrow(own)?)] = narrow(to)?;
    }
    Ok(values)
}

/// One model of a checkpoint with the chosen folds.
fn model<'f>(file: &dyn Fn(&str) -> Result<&'f [u8]>, part: &Part, engine: &Engine, folds: &[u32]) -> Result<Model> {
    let plans = Plans::parse(text(file, &part.file(Plans::FILE))?)?;
    let dataset = Dataset::parse(text(file, &part.file(Dataset::FILE))?)?;
    let configuration = plans.configuration(&part.configuration)?;
    if let Some(absent) = folds.iter().find(|fold| !part.folds.contains(fold)) {
        let text = format!("folds: {} has the folds {:?}, not {absent}", part.dataset, part.folds);
        return Err(Error::Setting(text));
    }
    let chosen = if folds.is_empty() { &part.folds[..] } else { folds };
    let weights = chosen.iter().map(|&fold| file(&part.weights(fold))).collect::<Result<Vec<_>>>()?;
    Model::new(engine, &configuration, &dataset, &weights)
}

fn text<'f>(file: &dyn Fn(&str) -> Result<&'f [u8]>, path: &str) -> Result<&'f str> {
    std::str::from_utf8(file(path)?).map_err(|_| Error::Model(format!("`{path}` is no text")))
}
