//! [`ModelFolder`]: a folder in which nnU-Net v2 left a trained model: `plans.json`, `dataset.json`, and
//! `fold_*/checkpoint_final.pth`.

use std::path::{Path, PathBuf};

use crate::error::{Error, Result, io};
use crate::state::{StateDict, Tensor};
use crate::weight_file::WeightFile;

use super::dataset::Dataset;
use super::model::Model;
use super::plans::Plans;
use super::trained::Trained;

/// What a model's folder consists of, for errors.
const CONSISTS: &str = "a model folder of nnU-Net v2 has plans.json, dataset.json and fold_*/checkpoint_final.pth";

/// Which folds of a model are taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Folds {
    /// Every `fold_<number>` that has a checkpoint, ascending.
    Every,
    /// These, in this order.
    Numbers(Vec<u32>),
    /// `fold_all`, which trained on everything; it is kept as fold 0.
    All,
}

impl std::str::FromStr for Folds {
    type Err = String;

    /// Reads `0,1,4` or `all`.
    fn from_str(text: &str) -> Result<Self, String> {
        if text == "all" {
            return Ok(Self::All);
        }
        let wrong = || format!("{text:?}: numbers such as 0,1,4, each once, or `all` expected");
        let numbers: Vec<u32> =
            text.split(',').map(|n| n.trim().parse().map_err(|_| wrong())).collect::<Result<_, _>>()?;
        match numbers.iter().enumerate().all(|(i, n)| numbers.iter().skip(i + 1).all(|m| m != n)) {
            true => Ok(Self::Numbers(numbers)),
            false => Err(wrong()),
        }
    }
}

/// One fold as it was read.
#[derive(Debug, Clone, PartialEq)]
pub struct FoldRead {
    /// The number it is kept under.
    pub number: u32,
    /// What the trainer says; its weights have moved to `weights`.
    pub trained: Trained,
    /// What inference needs, as `f32`.
    pub weights: StateDict,
    /// Name of the fold's folder.
    pub folder: String,
    /// SHA-256 of the checkpoint file, lower-case hexadecimal.
    pub sha256: String,
}

/// A model's folder whose documents have been read.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelFolder {
    path: PathBuf,
    /// The plans.
    pub plans: Plans,
    /// The text of `plans.json`.
    pub plans_text: String,
    /// The data set.
    pub dataset: Dataset,
    /// Number it is kept under, and folder, of each fold chosen.
    folds: Vec<(u32, PathBuf)>,
}

impl ModelFolder {
    /// Reads the documents and looks for the folds; no checkpoint is read yet.
    ///
    /// # Errors
    /// If a document or a fold's checkpoint is missing, or a document is not one of nnU-Net v2.
    pub fn open(path: &Path, folds: &Folds) -> Result<Self> {
        if !std::fs::metadata(path).map_err(io(path))?.is_dir() {
            return Err(Error::Unsupported(format!("not a folder; {CONSISTS}")).in_file(path));
        }
        let document = |name: &str| {
            let file = path.join(name);
            if !file.is_file() {
                let found = match path.join("plans.pkl").is_file() || path.join("postprocessing.json").is_file() {
                    true => "this is a model of nnU-Net version 1",
                    false => "that file is missing",
                };
                return Err(Error::Unsupported(format!("{name}: {found}; {CONSISTS}")).in_file(path));
            }
            std::fs::read_to_string(&file).map_err(io(&file))
        };
        let plans_text = document(Plans::FILE)?;
        let dataset_text = document(Dataset::FILE)?;
        let plans = Plans::parse(&plans_text).map_err(|e| e.in_file(&path.join(Plans::FILE)))?;
        let dataset = Dataset::parse(&dataset_text).map_err(|e| e.in_file(&path.join(Dataset::FILE)))?;
        let folds = find_folds(path, folds)?;
        Ok(Self { path: path.to_owned(), plans, plans_text, dataset, folds })
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The data set's name: as the plans say, or as the folder is called that holds this one.
    pub fn dataset_name(&self) -> String {
        let folder = self.path.parent().and_then(Path::file_name).and_then(|name| name.to_str()).unwrap_or_default();
        match self.plans.dataset_name() {
            "" => folder.to_owned(),
            name => name.to_owned(),
        }
    }

    /// Reads the chosen folds one after the other and gives each to `use_fold`, with the model in the configuration that
    /// the first was trained in. Only one is in memory at a time.
    ///
    /// # Errors
    /// If a checkpoint cannot be read, is not of this network, or belongs to another way of running than the first.
    pub fn read_folds(&self, mut use_fold: impl FnMut(&Model, FoldRead) -> Result<()>) -> Result<Model> {
        let mut first: Option<(Model, Trained)> = None;
        for (number, folder) in &self.folds {
            let file = folder.join(Trained::FILE);
            let content = WeightFile::open(&file)?;
            let in_file = |e: Error| e.in_file(&file);
            let mut trained = Trained::read(&content).map_err(in_file)?;
            let sha256 = content.sha256();
            drop(content);
            let weights = std::mem::take(&mut trained.weights);
            let model = match &first {
                None => {
                    let plans = self.path.join(Plans::FILE);
                    let model = Model::new(&self.plans, self.dataset.clone(), &trained.configuration);
                    first.insert((model.map_err(|e| e.in_file(&plans))?, trained.clone())).0.clone()
                }
                Some((model, before)) => {
                    disagreement(before, &trained).map_or(Ok(()), |text| Err(in_file(Error::Unsupported(text))))?;
                    model.clone()
                }
            };
            let (channels, heads) = (model.dataset.channels.len(), model.dataset.heads());
            let weights = model.configuration.network.select(weights, channels, heads).map_err(in_file)?;
            let folder = folder.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
            use_fold(&model, FoldRead { number: *number, trained, weights: as_f32(weights)?, folder, sha256 })?;
        }
        match first {
            Some((model, _)) => Ok(model),
            None => Err(Error::Unsupported(format!("no fold is chosen; {CONSISTS}")).in_file(&self.path)),
        }
    }
}

/// In what two folds of one model differ.
fn disagreement(a: &Trained, b: &Trained) -> Option<String> {
    let rows = [
        ("configuration", a.configuration.clone(), b.configuration.clone()),
        ("trainer", a.trainer.clone(), b.trainer.clone()),
        ("mirroring axes", format!("{:?}", a.mirror_axes), format!("{:?}", b.mirror_axes)),
    ];
    let (what, first, this) = rows.into_iter().find(|(_, first, this)| first != this)?;
    Some(format!("the folds were not trained alike: {what} of the first is {first}, of this one {this}"))
}

fn as_f32(weights: StateDict) -> Result<StateDict> {
    let mut converted = StateDict::new();
    for (key, tensor) in weights {
        let tensor = match tensor.dtype() {
            crate::DType::F32 => tensor,
            _ => Tensor::from_f32(tensor.shape().to_vec(), &tensor.to_f32())?,
        };
        converted.insert(key, tensor)?;
    }
    Ok(converted)
}

fn find_folds(path: &Path, wanted: &Folds) -> Result<Vec<(u32, PathBuf)>> {
    let has = |folder: &Path| folder.join(Trained::FILE).is_file();
    let mut found: Vec<(String, PathBuf)> = Vec::new();
    for entry in std::fs::read_dir(path).map_err(io(path))? {
        let folder = entry.map_err(io(path))?.path();
        let name = folder.file_name().and_then(|n| n.to_str()).and_then(|n| n.strip_prefix("fold_"));
        if let Some(name) = name.filter(|_| has(&folder)) {
            found.push((name.to_owned(), folder.clone()));
        }
    }
    found.sort();
    let missing = |what: String| {
        let there: Vec<String> = found.iter().map(|(name, _)| format!("fold_{name}")).collect();
        let best = std::fs::read_dir(path).into_iter().flatten().flatten();
        let best = best.filter(|e| e.path().join("checkpoint_best.pth").is_file()).count();
        let list = match (there.is_empty(), best) {
            (false, _) => format!("there are: {}", there.join(", ")),
            (true, 0) => "there is no fold with one".to_owned(),
            (true, _) => {
                "there are only checkpoint_best.pth, which nnU-Net does not run; finish the training".to_owned()
            }
        };
        Error::Unsupported(format!("{what}: no {}; {list}", Trained::FILE)).in_file(path)
    };
    let folder_of = |name: &str| found.iter().find(|(n, _)| n == name).map(|(_, folder)| folder.clone());
    match wanted {
        Folds::All => Ok(vec![(0, folder_of("all").ok_or_else(|| missing("fold_all".to_owned()))?)]),
        Folds::Numbers(numbers) => numbers
            .iter()
            .map(|n| folder_of(&n.to_string()).map(|f| (*n, f)).ok_or_else(|| missing(format!("fold_{n}"))))
            .collect(),
        Folds::Every => {
            let mut numbered: Vec<(u32, PathBuf)> =
                found.iter().filter_map(|(name, folder)| Some((name.parse().ok()?, folder.clone()))).collect();
            numbered.sort();
            match (numbered.is_empty(), folder_of("all")) {
                (false, _) => Ok(numbered),
                (true, Some(_)) => {
                    Err(missing("fold_<number> (fold_all is taken when asked for: --folds all)".to_owned()))
                }
                (true, None) => Err(missing("fold_*".to_owned())),
            }
        }
    }
}
