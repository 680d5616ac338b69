//! [`Package`]: models in their makers' folders, chosen and arranged, and written as one checkpoint.

use std::path::{Path, PathBuf};

use serde_json::json;

use crate::checkpoint::Staging;
use crate::error::{Error, Result, io, printable};
use crate::safetensors_file::to_safetensors;

use super::configuration::Scheme;
use super::dataset::{Dataset, Labels};
use super::folder::{Folds, ModelFolder};
use super::model::Model;
use super::plans::Plans;
use super::segmentation::{Label, Part, Segmentation, Way};
use super::totalsegmentator::{Class, TOTAL, TotalModel, classes};

/// The largest value that a result is written with.
const MAX_VALUE: u32 = 255;
/// How far a model's plans may be from the spacing TotalSegmentator runs it at, mm.
const SPACING_TOLERANCE_MM: f64 = 1e-3;

/// Colours for labels whose makers name none, `0xRRGGBBAA`, one after the other and again from the start.
const COLOURS: [u32; 12] = [
    0xe041_3bff,
    0x3c7f_d9ff,
    0x44a8_54ff,
    0xe9a1_2eff,
    0x8e5b_c4ff,
    0x2fb3_b0ff,
    0xd85f_a0ff,
    0x8f7a_4bff,
    0x9ccb_3dff,
    0x5667_a8ff,
    0xf0d4_4cff,
    0x7d8a_93ff,
];

/// One model of a package.
#[derive(Debug, Clone, PartialEq)]
struct Source {
    folder: ModelFolder,
    /// Its name in the checkpoint.
    name: String,
    /// Of one of TotalSegmentator's models: which.
    total: Option<TotalModel>,
    rough: bool,
}

/// What is to be imported; no weights have been read.
#[derive(Debug, Clone, PartialEq)]
pub struct Package {
    way: Way,
    spacing_mm: Option<f64>,
    sources: Vec<Source>,
    labels: Vec<Label>,
}

/// What has been written of a package, for the card and for the person who asked for it.
#[derive(Debug, Clone, PartialEq)]
pub struct Written {
    /// `segmentation.json` as written.
    pub segmentation: Segmentation,
    /// Names of the image's channels.
    pub channels: Vec<String>,
    /// Whether the image is one channel of CT in Hounsfield units.
    pub ct: bool,
    /// Data set, trainer, fold and sha256 of every checkpoint read, one a line.
    pub origins: Vec<String>,
    /// Tensors, and numbers in them, of all models and folds together.
    pub size: (usize, usize),
    /// What a reader should know, one sentence each.
    pub notes: Vec<String>,
}

impl Package {
    /// Finds out what `folder` is: one model of nnU-Net (`plans.json` in it, or in its only sub-folder), or the folder in
    /// which TotalSegmentator keeps its models (`Dataset291_…` and so on). `models` chooses among TotalSegmentator's.
    ///
    /// # Errors
    /// If it is neither, what is chosen is not there, or a document is wrong.
    pub fn open(folder: &Path, models: Option<&[u32]>, folds: &Folds) -> Result<Self> {
        if !std::fs::metadata(folder).map_err(io(folder))?.is_dir() {
            return Err(Error::Unsupported("not a folder".to_owned()).in_file(folder));
        }
        let inside = subfolders(folder)?;
        let datasets: Vec<&PathBuf> = inside.iter().filter(|p| dataset_number(p).is_some()).collect();
        let is_model = folder.join(Plans::FILE).is_file() || folder.join(Dataset::FILE).is_file();
        if !is_model && !datasets.is_empty() {
            return Self::of_totalsegmentator(folder, &datasets, models, folds);
        }
        if models.is_some() {
            return Err(Error::Architecture(
                "nnunet-v2: --models chooses among TotalSegmentator's models; this folder has no Dataset29x_… in it"
                    .to_owned(),
            ));
        }
        let trained: Vec<&PathBuf> = inside.iter().filter(|p| p.join(Plans::FILE).is_file()).collect();
        match (is_model, trained.as_slice()) {
            (false, [one]) => Self::of_model(one, folds),
            (false, [_, _, ..]) => {
                let names: Vec<&str> = trained.iter().map(|path| name_of(path)).collect();
                Err(Error::Unsupported(format!("several models; name one of them: {}", names.join(", ")))
                    .in_file(folder))
            }
            (false, []) if std::fs::read_dir(folder).map_err(io(folder))?.next().is_none() => {
                Err(Error::Unsupported("the folder is empty; a model of nnU-Net v2 expected".to_owned())
                    .in_file(folder))
            }
            _ => Self::of_model(folder, folds),
        }
    }

    fn of_model(path: &Path, folds: &Folds) -> Result<Self> {
        let folder = ModelFolder::open(path, folds)?;
        let values = folder.dataset.values();
        if let Some((value, name)) = values.iter().find(|(value, _)| *value > MAX_VALUE) {
            return Err(Error::Unsupported(format!(
                "label `{name}` has the value {value} of {} labels; results hold values up to {MAX_VALUE}",
                values.len()
            ))
            .in_file(path));
        }
        let label = |((value, name), rgba): ((u32, &str), &u32)| Label {
            value,
            name: name.to_owned(),
            scheme: String::new(),
            code: String::new(),
            meaning: String::new(),
            rgba: *rgba,
        };
        let labels = values.into_iter().zip(COLOURS.iter().cycle()).map(label).collect();
        let source = Source { folder, name: "model".to_owned(), total: None, rough: false };
        Ok(Self { way: Way::Nnunet, spacing_mm: None, sources: vec![source], labels })
    }

    fn of_totalsegmentator(root: &Path, datasets: &[&PathBuf], models: Option<&[u32]>, folds: &Folds) -> Result<Self> {
        let there: Vec<u32> = datasets.iter().filter_map(|path| dataset_number(path)).collect();
        let (parts, rough) = choose(root, &there, models)?;
        // TotalSegmentator runs fold 0 unless told otherwise.
        let folds = if *folds == Folds::Every { &Folds::Numbers(vec![0]) } else { folds };
        let mut sources = Vec::new();
        for (model, rough) in parts.iter().map(|model| (model, false)).chain(rough.iter().map(|model| (model, true))) {
            let path = trained_folder(datasets, model)?;
            let folder = ModelFolder::open(&path, folds)?;
            check_total(&folder, model)?;
            sources.push(Source { folder, name: model.folder.to_owned(), total: Some(*model), rough });
        }
        let covered = |value: u32| parts.iter().any(|m| value > m.offset && value <= m.offset + m.classes);
        let labels = classes().iter().filter(|class| covered(class.value)).map(|class| Label {
            value: class.value,
            name: class.name.to_owned(),
            scheme: if class.region.is_some() { String::new() } else { "SCT".to_owned() },
            code: expression(class),
            meaning: class.kind.meaning.to_owned(),
            rgba: class.rgba,
        });
        let spacing_mm = parts.first().map(|model| model.spacing_mm);
        Ok(Self { way: Way::Totalsegmentator, spacing_mm, sources, labels: labels.collect() })
    }

    /// Whether these are TotalSegmentator's models.
    pub fn is_totalsegmentator(&self) -> bool {
        self.way == Way::Totalsegmentator
    }

    /// A name for the checkpoint, before it is made fit for one.
    pub fn name(&self) -> String {
        let parts: Vec<&Source> = self.sources.iter().filter(|source| !source.rough).collect();
        match (self.way, parts.as_slice()) {
            (Way::Nnunet, [one]) => one.folder.dataset_name(),
            (_, [one]) => format!("totalseg-{}", one.name),
            _ => "totalseg".to_owned(),
        }
    }

    /// Reads the weights and writes everything but the card.
    ///
    /// # Errors
    /// As [`ModelFolder::read_folds`], and if something cannot be written.
    pub fn write(&self, staging: &mut Staging) -> Result<Written> {
        let mut written = Written {
            segmentation: Segmentation {
                format: 1,
                way: self.way,
                step: if self.is_totalsegmentator() { 0.8 } else { 0.5 },
                spacing_mm: self.spacing_mm,
                parts: Vec::new(),
                rough: None,
                labels: self.labels.clone(),
            },
            channels: Vec::new(),
            ct: false,
            origins: Vec::new(),
            size: (0, 0),
            notes: Vec::new(),
        };
        for source in &self.sources {
            let part = source.write(staging, &mut written)?;
            match source.rough {
                true => written.segmentation.rough = Some(part),
                false => written.segmentation.parts.push(part),
            }
        }
        staging.add(Segmentation::FILE, written.segmentation.to_json()?.as_bytes())?;
        Ok(written)
    }
}

/// SNOMED CT's attribute Laterality.
const LATERALITY: &str = "272741003";

/// The class as an expression of SNOMED CT's compositional grammar: its code, refined by the side where it has one. What is in
/// another organ (a cyst) would need a region too; it goes without a code, so that no two classes share one.
fn expression(class: &Class) -> String {
    match (&class.region, &class.modifier) {
        (Some(_), _) => String::new(),
        (None, Some(side)) => format!("{}:{LATERALITY}={}", class.kind.code, side.code),
        (None, None) => class.kind.code.to_owned(),
    }
}

impl Source {
    fn write(&self, staging: &mut Staging, written: &mut Written) -> Result<Part> {
        let mut part = Part {
            folder: self.name.clone(),
            dataset: printable(&self.folder.dataset_name()),
            configuration: String::new(),
            trainer: String::new(),
            mirror_axes: None,
            folds: Vec::new(),
            labels: self.labels(),
            spacing_mm: self.total.filter(|_| self.rough).map(|model| model.spacing_mm),
        };
        staging.add(&part.file(Plans::FILE), self.folder.plans_text.as_bytes())?;
        staging.add(&part.file(Dataset::FILE), dataset_text(&self.folder.dataset).as_bytes())?;
        let model = self.folder.read_folds(|model, fold| {
            if let (Some(total), 0) = (&self.total, part.folds.len()) {
                check_spacing(&self.folder, model, total)?;
            }
            part.configuration.clone_from(&fold.trained.configuration);
            part.trainer.clone_from(&fold.trained.trainer);
            part.mirror_axes = Some(fold.trained.mirror_axes).filter(|axes| !axes.is_empty());
            part.folds.push(fold.number);
            written.size.0 += fold.weights.len();
            written.size.1 += fold.weights.elements();
            let (trainer, folder, sha256) = (&part.trainer, &fold.folder, &fold.sha256);
            written.origins.push(format!("{} {trainer} {folder} sha256 {sha256}", part.dataset));
            staging.add(&part.weights(fold.number), &to_safetensors(&fold.weights)?)
        })?;
        let ct = matches!(model.configuration.schemes.as_slice(), [Scheme::Ct(_)])
            && model.dataset.channels.iter().all(|name| name.eq_ignore_ascii_case("CT"));
        written.ct = ct && (written.ct || written.channels.is_empty());
        written.channels.clone_from(&model.dataset.channels);
        written.notes.extend(self.other_names());
        Ok(part)
    }

    /// The model's own values and those of the result.
    fn labels(&self) -> Vec<[u32; 2]> {
        let offset = self.total.map_or(0, |model| model.offset);
        self.folder.dataset.values().into_iter().map(|(value, _)| [value, value + offset]).collect()
    }

    /// TotalSegmentator goes by number; another name in the data set may mean another model.
    fn other_names(&self) -> Option<String> {
        let offset = self.total?.offset;
        let table = |value: u32| classes().iter().find(|class| class.value == value + offset);
        let values = self.folder.dataset.values();
        let (value, name) = values.into_iter().find(|(value, name)| table(*value).is_none_or(|c| c.name != *name))?;
        let listed = table(value).map_or("nothing", |class| class.name);
        Some(format!(
            "{}: dataset.json calls value {value} `{name}`; TotalSegmentator's table, which counts, `{listed}`",
            self.name
        ))
    }
}

/// What of `dataset.json` decides how the model is run. The rest, which may name patients and folders, stays where it was.
fn dataset_text(dataset: &Dataset) -> String {
    let channels: serde_json::Map<String, serde_json::Value> =
        dataset.channels.iter().enumerate().map(|(i, name)| (i.to_string(), json!(name))).collect();
    let mut labels = serde_json::Map::new();
    let mut order = None;
    match &dataset.labels {
        Labels::Classes(names) => labels.extend(names.iter().enumerate().map(|(i, name)| (name.clone(), json!(i)))),
        Labels::Regions(regions) => {
            labels.insert("background".to_owned(), json!(0));
            labels.extend(regions.iter().map(|region| (region.name.clone(), json!(region.members))));
            order = Some(regions.iter().map(|region| region.value).collect::<Vec<_>>());
        }
    }
    labels.extend(dataset.ignore.map(|value| ("ignore".to_owned(), json!(value))));
    let mut document = json!({ "channel_names": channels, "labels": labels });
    if let Some(order) = order {
        document["regions_class_order"] = json!(order);
    }
    format!("{document:#}\n")
}

/// Which models are run, and which one looks first.
fn choose(root: &Path, there: &[u32], models: Option<&[u32]>) -> Result<(Vec<TotalModel>, Option<TotalModel>)> {
    let known = || TOTAL.iter().map(|m| m.dataset.to_string()).collect::<Vec<_>>().join(", ");
    let chosen: Vec<TotalModel> = match models {
        Some(numbers) => numbers
            .iter()
            .map(|number| {
                let model = TOTAL.iter().find(|model| model.dataset == *number).copied();
                let model = model.ok_or_else(|| {
                    let text = format!(
                        "nnunet-v2: --models {number}: the models of TotalSegmentator's task total are {}",
                        known()
                    );
                    Error::Architecture(text)
                })?;
                match there.contains(number) {
                    true => Ok(model),
                    false => {
                        let text = format!(
                            "there is no Dataset{number}_…; TotalSegmentator has not downloaded that model yet"
                        );
                        Err(Error::Unsupported(text).in_file(root))
                    }
                }
            })
            .collect::<Result<_>>()?,
        None => {
            let all: Vec<TotalModel> = TOTAL.iter().filter(|m| there.contains(&m.dataset)).copied().collect();
            let whole = |spacing: f64| all.iter().find(|m| m.spacing_mm == spacing).copied();
            let mut chosen: Vec<TotalModel> = all.iter().filter(|m| m.spacing_mm == 1.5).copied().collect();
            match chosen.is_empty() {
                false => chosen.extend(whole(6.0).or(whole(3.0))),
                true => chosen.extend(whole(3.0).or(whole(6.0))),
            }
            chosen
        }
    };
    // A later part overwrites an earlier one: the order is TotalSegmentator's, whatever order they were named in.
    let mut parts: Vec<TotalModel> =
        TOTAL.iter().filter(|m| m.spacing_mm == 1.5 && chosen.contains(m)).copied().collect();
    let mut whole: Vec<TotalModel> =
        TOTAL.iter().filter(|m| m.spacing_mm > 1.5 && chosen.contains(m)).copied().collect();
    if parts.is_empty() && !whole.is_empty() {
        parts.push(whole.remove(0));
    }
    match (parts.is_empty(), whole.as_slice()) {
        (true, _) => {
            let found: Vec<String> = there.iter().map(u32::to_string).collect();
            let text = format!(
                "none of TotalSegmentator's models {} is there; found the data sets {}",
                known(),
                found.join(", ")
            );
            Err(Error::Unsupported(format!("{text}. To import a model of nnU-Net, name its own folder")).in_file(root))
        }
        (false, [_, _, ..]) => Err(Error::Architecture(
            "nnunet-v2: --models: beside the 1.5 mm models at most one of 297 and 298, which looks first".to_owned(),
        )),
        (false, rough) => Ok((parts, rough.first().copied())),
    }
}

/// The folder inside the data set's that TotalSegmentator runs, or the only one.
fn trained_folder(datasets: &[&PathBuf], model: &TotalModel) -> Result<PathBuf> {
    let Some(dataset) = datasets.iter().find(|path| dataset_number(path) == Some(model.dataset)) else {
        return Err(Error::Unsupported(format!("there is no Dataset{}_…", model.dataset)));
    };
    let own = dataset.join(model.trained_folder());
    if own.is_dir() {
        return Ok(own);
    }
    let others = subfolders(dataset)?;
    match others.as_slice() {
        [one] => Ok(one.clone()),
        others => {
            let found: Vec<&str> = others.iter().map(|path| name_of(path)).collect();
            let found = if found.is_empty() { "no folder".to_owned() } else { found.join(", ") };
            let text = format!("{} expected, found {found}", model.trained_folder());
            Err(Error::Unsupported(text).in_file(dataset))
        }
    }
}

fn check_total(folder: &ModelFolder, model: &TotalModel) -> Result<()> {
    let found = folder.dataset.values().len();
    let plain = matches!(folder.dataset.labels, Labels::Classes(_));
    if !plain || usize::try_from(model.classes) != Ok(found) {
        let text = format!(
            "{found} labels; TotalSegmentator's model {} ({}) has {}",
            model.dataset, model.folder, model.classes
        );
        return Err(Error::Unsupported(text).in_file(&folder.path().join(Dataset::FILE)));
    }
    if folder.dataset.channels.len() != 1 {
        let text = format!("{} channels; TotalSegmentator's models take 1", folder.dataset.channels.len());
        return Err(Error::Unsupported(text).in_file(&folder.path().join(Dataset::FILE)));
    }
    Ok(())
}

fn check_spacing(folder: &ModelFolder, model: &Model, total: &TotalModel) -> Result<()> {
    let own = model.configuration.spacing_mm;
    if own.iter().all(|mm| (mm - total.spacing_mm).abs() <= SPACING_TOLERANCE_MM) {
        return Ok(());
    }
    let text = format!(
        "the plans' spacing is {own:?} mm; TotalSegmentator's model {} has {} mm",
        total.dataset, total.spacing_mm
    );
    Err(Error::Unsupported(text).in_file(&folder.path().join(Plans::FILE)))
}

fn subfolders(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(io(folder))? {
        let path = entry.map_err(io(folder))?.path();
        if path.is_dir() {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

fn name_of(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
}

/// 293 of `Dataset293_TotalSegmentator_part3_cardiac_1559subj`.
fn dataset_number(path: &Path) -> Option<u32> {
    let digits = name_of(path).strip_prefix("Dataset")?.split('_').next()?;
    if digits.len() == 3 { digits.parse().ok() } else { None }
}
