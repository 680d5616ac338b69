//! `gantry weights import FILE --arch NAME`: takes a trainer's file (or, for nnU-Net, a folder) into the folder of
//! checkpoints, as safetensors with a card, after proving that it is exactly the weights of the architecture named. No pickle
//! is executed.

mod nnunet;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};
use gantry_weights::nnunet::{ARCHITECTURE, Folds};
use gantry_weights::{
    Architecture, Card, Checkpoint, Error, Hyper, Nature, Normalisation, RunSettings, StateDict, WeightFile,
};

/// What a card says of a licence that nobody named.
const UNKNOWN: &str = "unknown";

/// Arguments of `gantry weights`.
#[derive(Debug, Args)]
pub struct WeightsArgs {
    #[command(subcommand)]
    command: WeightsCommand,
}

#[derive(Debug, Subcommand)]
enum WeightsCommand {
    /// Read .pth, .pth.tar, .safetensors or a folder of nnU-Net, check every tensor, and write safetensors and a card; no
    /// pickle is executed
    Import(Box<ImportArgs>),
}

#[derive(Debug, Args)]
struct ImportArgs {
    /// The file with the weights; its format is told from its content
    file: PathBuf,
    /// Architecture the weights belong to (arch/NAME.toml of the plugin that runs them)
    #[arg(long, value_name = "NAME")]
    arch: String,
    /// Which weights, if the file holds several: keys joined by dots
    #[arg(long, value_name = "KEYS")]
    part: Option<String>,
    /// nnunet-v2: the folds to take, such as 0,1, or all for fold_all [default: every numbered one; of TotalSegmentator 0]
    #[arg(long, value_name = "NUMBERS")]
    folds: Option<Folds>,
    /// nnunet-v2: which of TotalSegmentator's models, such as 293,298 [default: those of 1.5 mm, and 298 to look first]
    #[arg(long, value_name = "NUMBERS", value_delimiter = ',')]
    models: Option<Vec<u32>>,
    /// Name of the checkpoint [default: the file's name]
    #[arg(long)]
    name: Option<String>,
    /// Folder of checkpoints to write into
    #[arg(long, value_name = "DIR")]
    checkpoints: Option<PathBuf>,
    /// Replace a checkpoint of the same name
    #[arg(long)]
    force: bool,
    /// One line about the weights [default: the architecture's]
    #[arg(long, value_name = "TEXT")]
    summary: Option<String>,
    /// Licence of the weights [default: unknown]
    #[arg(long, value_name = "TEXT")]
    licence: Option<String>,
    /// Data, program and settings of the training [default: unknown, with the file's name and sha256]
    #[arg(long, value_name = "TEXT")]
    trained_with: Option<String>,
    /// What the output may be used for
    #[arg(long, value_name = "TEXT", default_value = "research only")]
    intended_use: String,
    /// What the output is; decides the label written into the images [default: synthetic; of nnunet-v2 derived]
    #[arg(long, value_enum)]
    nature: Option<NatureArg>,
    /// How the training normalised its input [default: linear]
    #[arg(long, value_enum)]
    normalisation: Option<NormalisationArg>,
    /// Window of Hounsfield units the weights were trained for; joins the type check of pipelines
    #[arg(long, num_args = 2, value_names = ["LOW", "HIGH"], allow_negative_numbers = true)]
    window: Option<Vec<f64>>,
    /// DICOM modality the weights were trained for, such as CT
    #[arg(long, value_name = "CODE")]
    modality: Option<String>,
    /// Masks the network takes beside the image, in channel order, such as bone,mediastinum
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    masks: Vec<String>,
    /// Size every slice is brought to before the network [default: its own]
    #[arg(long, num_args = 2, value_names = ["ROWS", "COLUMNS"])]
    resize: Option<Vec<usize>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum NatureArg {
    Synthetic,
    Enhanced,
    Derived,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum NormalisationArg {
    Linear,
    Squeezed,
}

/// Why `gantry weights` refused.
#[derive(Debug, thiserror::Error)]
pub enum WeightsError {
    /// The options do not fit each other or the weights.
    #[error("{0}")]
    Usage(String),
    /// The file, the architecture or the place to write to.
    #[error(transparent)]
    Weights(#[from] Error),
}

impl WeightsError {
    /// The program's exit code: 2 usage, 3 environment, 4 weights that are malformed or not those named.
    pub fn exit_code(&self) -> u8 {
        let error = match self {
            Self::Usage(_) => return 2,
            Self::Weights(error) => error.root(),
        };
        match error {
            Error::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound => 2,
            Error::Io { .. } => 3,
            Error::Part { .. } | Error::Architecture(_) | Error::Card(_) | Error::Exists(_) => 2,
            _ => 4,
        }
    }
}

/// Runs `gantry weights`; the text returned is the command's result for stdout.
///
/// `architectures` are the folders with `<name>.toml` (`arch/` of every plugin, in search order); `checkpoints` is where to
/// write unless `--checkpoints` says so.
///
/// # Errors
/// [`WeightsError`]; nothing has been written then.
pub fn run(args: &WeightsArgs, architectures: &[PathBuf], checkpoints: Option<&Path>) -> Result<String, WeightsError> {
    match &args.command {
        WeightsCommand::Import(import) => import.run(architectures, checkpoints),
    }
}

impl ImportArgs {
    fn run(&self, architectures: &[PathBuf], checkpoints: Option<&Path>) -> Result<String, WeightsError> {
        let usage = |text: String| Err(WeightsError::Usage(text));
        let Some(checkpoints) = self.checkpoints.as_deref().or(checkpoints) else {
            return usage("say with --checkpoints DIR where to write".to_owned());
        };
        if self.arch == ARCHITECTURE {
            return self.run_nnunet(checkpoints);
        }
        let folder = self.file.is_dir();
        for (given, option) in
            [(self.folds.is_some(), "--folds"), (self.models.is_some(), "--models"), (folder, "a folder")]
        {
            if given {
                return usage(format!("{option}: only with --arch {ARCHITECTURE}; `{}` takes one file", self.arch));
            }
        }
        let architecture = Architecture::find(&self.arch, architectures)?;
        let name = self.checkpoint_name()?;
        // Asked before a large file is read; `install` asks again.
        let folder = checkpoints.join(&name);
        if folder.symlink_metadata().is_ok() && !self.force {
            return Err(Error::Exists(folder).into());
        }
        let file = WeightFile::open(&self.file)?;
        let named = |error: Error| Error::InFile { path: self.file.clone(), error: Box::new(error) };
        let weights = file.load(self.part.as_deref()).map_err(named)?;
        let hyper = architecture.check(&weights).map_err(named)?;
        let card = self.card(name, &architecture, &hyper, &file)?;
        let done = Checkpoint::install(checkpoints, card, &weights, self.force)?;
        Ok(report(&done, &hyper, &weights, &file))
    }

    fn checkpoint_name(&self) -> Result<String, WeightsError> {
        let name = match &self.name {
            Some(name) => name.clone(),
            None => {
                let file = self.file.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
                let mut stem = file.as_str();
                for suffix in [".tar", ".safetensors", ".pth", ".pt", ".ckpt"] {
                    stem = stem.strip_suffix(suffix).unwrap_or(stem);
                }
                let part = self.part.as_deref().filter(|p| *p != ".").map(|p| format!("-{p}")).unwrap_or_default();
                made_legal(&format!("{stem}{part}"))
            }
        };
        legal_name(name)
    }

    fn card(
        &self,
        name: String,
        architecture: &Architecture,
        hyper: &Hyper,
        file: &WeightFile,
    ) -> Result<Card, WeightsError> {
        let source = self.file.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        let origin = || format!("unknown; imported from {source}, sha256 {}", file.sha256());
        Ok(Card {
            card: 1,
            name,
            architecture: architecture.name().to_owned(),
            summary: self.summary.clone().unwrap_or_else(|| architecture.summary().to_owned()),
            licence: self.licence.clone().unwrap_or_else(|| UNKNOWN.to_owned()),
            trained_with: self.trained_with.clone().unwrap_or_else(origin),
            toy: false,
            nature: match self.nature {
                None | Some(NatureArg::Synthetic) => Nature::Synthetic,
                Some(NatureArg::Enhanced) => Nature::Enhanced,
                Some(NatureArg::Derived) => Nature::Derived,
            },
            intended_use: self.intended_use.clone(),
            files: Vec::new(), // `install` fills them in
            caps: self.caps(architecture, hyper)?,
            run: RunSettings {
                normalisation: match self.normalisation {
                    None | Some(NormalisationArg::Linear) => Normalisation::Linear,
                    Some(NormalisationArg::Squeezed) => Normalisation::Squeezed,
                },
                resize: self.resize.clone().unwrap_or_default(),
                int8: None, // measured on calibration images, which an import has none of
            },
        })
    }

    fn caps(&self, architecture: &Architecture, hyper: &Hyper) -> Result<BTreeMap<String, toml::Table>, WeightsError> {
        let mut caps = architecture.caps().clone();
        if let Some(window) = &self.window {
            if !matches!(window.as_slice(), [low, high] if low < high && low.is_finite() && high.is_finite()) {
                return Err(WeightsError::Usage(format!("--window {window:?}: LOW below HIGH is expected")));
            }
            caps.entry("image".to_owned()).or_default().insert("window".to_owned(), window.clone().into());
        }
        if let Some(modality) = &self.modality {
            caps.entry("image".to_owned()).or_default().insert("modality".to_owned(), modality.clone().into());
        }
        // A mask in the wrong channel gives a plausible, wrong image: the names are never guessed.
        let masks = architecture.masks(hyper)?;
        if self.masks.len() != masks.unwrap_or(0) || self.masks.iter().any(String::is_empty) {
            return Err(WeightsError::Usage(match masks.unwrap_or(0) {
                0 => "--masks: these weights take no masks".to_owned(),
                n => format!(
                    "these weights ({hyper}) take {n} mask channel{}; name exactly {n} with --masks, in channel order",
                    if n == 1 { "" } else { "s" }
                ),
            }));
        }
        if masks.is_some() {
            caps.entry("masks".to_owned()).or_default().insert("names".to_owned(), self.masks.clone().into());
        }
        Ok(caps)
    }
}

/// With other characters than a checkpoint's name has replaced.
fn made_legal(name: &str) -> String {
    let legal = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' };
    name.chars().map(legal).collect()
}

fn legal_name(name: String) -> Result<String, WeightsError> {
    if Card::is_name(&name) {
        return Ok(name);
    }
    Err(WeightsError::Usage(format!(
        "`{name}` cannot be a checkpoint's name; give --name, 1 to 64 of A-Z a-z 0-9 . _ - and no dot first"
    )))
}

fn report(done: &Checkpoint, hyper: &Hyper, weights: &StateDict, file: &WeightFile) -> String {
    let types: std::collections::BTreeSet<&str> = weights.iter().map(|(_, t)| t.dtype().name()).collect();
    let types: Vec<&str> = types.into_iter().collect();
    let mut text = format!(
        "{}: {} tensors, {} numbers ({}), read as {}\n  architecture {}: {hyper}\n  written to {}",
        done.card.name,
        weights.len(),
        weights.elements(),
        types.join(", "),
        file.format(),
        done.card.architecture,
        done.folder.display()
    );
    let window = done.card.caps.get("image").map(|image| image.contains_key("window"));
    if window == Some(false) {
        text.push_str(
            "\n  note: without --window the card does not say which window the weights were trained for, and `gantry check` \
             cannot notice when two checkpoints are swapped",
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use gantry_weights::{Tensor, to_safetensors};

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        weights: WeightsArgs,
    }

    fn architectures() -> Vec<PathBuf> {
        vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("../plugins/cyclegan-generator/arch")]
    }

    /// Runs `weights import FILE --arch ducosy-generator --checkpoints DIR` with more options.
    fn import(file: &Path, checkpoints: &Path, more: &[&str]) -> Result<String, WeightsError> {
        let mut line: Vec<std::ffi::OsString> = ["weights", "import"].map(Into::into).to_vec();
        line.push(file.into());
        line.extend(["--arch", "ducosy-generator", "--checkpoints"].map(Into::into));
        line.push(checkpoints.into());
        line.extend(more.iter().map(Into::into));
        let line = Line::try_parse_from(line).unwrap_or_else(|e| panic!("{e}"));
        run(&line.weights, &architectures(), None)
    }

    fn weight_file(folder: &Path, cin: i64, value: f32) -> PathBuf {
        let architecture = Architecture::find("ducosy-generator", &architectures()).unwrap();
        let hyper = Hyper::new([("width", 16), ("cin", cin), ("blocks", 1), ("cbam", 1)]);
        let mut dict = StateDict::new();
        for e in architecture.expected(&hyper).unwrap() {
            let n = e.shape.iter().product();
            dict.insert(e.key, Tensor::from_f32(e.shape, &vec![value; n]).unwrap()).unwrap();
        }
        let path = folder.join("G best (1).pth");
        std::fs::write(&path, to_safetensors(&dict).unwrap()).unwrap();
        path
    }

    #[test]
    fn an_import_leaves_weights_and_a_card() {
        let temp = tempfile::tempdir().unwrap();
        let (file, checkpoints) = (weight_file(temp.path(), 3, 0.5), temp.path().join("checkpoints"));
        let options = ["--masks", "bone,mediastinum", "--window", "-150", "250", "--normalisation", "squeezed"];
        let text = import(&file, &checkpoints, &options).unwrap();
        assert!(text.contains("width 16, cin 3, blocks 1, cbam yes"), "{text}");
        assert!(!text.contains("note:"), "{text}");
        let done = Checkpoint::open(checkpoints.join("G-best--1-")).unwrap();
        assert_eq!(done.verify().unwrap().len(), 1);
        let card = &done.card;
        assert_eq!((card.licence.as_str(), card.toy, card.nature), ("unknown", false, Nature::Synthetic));
        assert!(card.trained_with.starts_with("unknown; imported from G best (1).pth, sha256 "));
        assert_eq!(card.run.normalisation, Normalisation::Squeezed);
        assert_eq!(card.caps["image"]["quantity"].as_str(), Some("normalized"));
        assert_eq!(card.caps["image"]["window"].as_array().unwrap()[0].as_float(), Some(-150.0));
        assert_eq!(card.caps["masks"]["names"].as_array().unwrap().len(), 2);

        let again = import(&file, &checkpoints, &options).unwrap_err();
        assert!(again.to_string().contains("--force") && again.exit_code() == 2, "{again}");
        import(&file, &checkpoints, &[&options[..], &["--force"]].concat()).unwrap();
    }

    #[test]
    fn refusals_write_nothing() {
        let temp = tempfile::tempdir().unwrap();
        let checkpoints = temp.path().join("checkpoints");
        let file = weight_file(temp.path(), 3, 0.5);
        for (more, says) in [
            (&[][..], "take 2 mask channels; name exactly 2"),
            (&["--masks", "bone"], "name exactly 2"),
            (&["--masks", "bone,"], "name exactly 2"),
            (&["--masks", "a,b", "--window", "250", "-150"], "LOW below HIGH"),
            (&["--masks", "a,b", "--resize", "0", "512"], "`run.resize`"),
            (&["--masks", "a,b", "--name", "../x"], "cannot be a checkpoint's name"),
            (&["--part", "G"], "there is no part `G`"),
        ] {
            let error = import(&file, &checkpoints, more).unwrap_err();
            assert!(error.to_string().contains(says), "{error}");
            assert_eq!(error.exit_code(), 2, "{error}");
        }
        let one = weight_file(temp.path(), 1, 0.5);
        assert!(import(&one, &checkpoints, &["--masks", "bone"]).unwrap_err().to_string().contains("take no masks"));
        let nan = weight_file(temp.path(), 1, f32::NAN);
        let error = import(&nan, &checkpoints, &[]).unwrap_err();
        assert!(error.to_string().contains("NaN or infinite") && error.exit_code() == 4, "{error}");
        std::fs::write(&nan, b"\x80\x02cposix\nsystem\nX\x04\x00\x00\x00true\x85R.").unwrap();
        let error = import(&nan, &checkpoints, &[]).unwrap_err();
        assert!(error.to_string().contains("posix.system") && error.exit_code() == 4, "{error}");
        let error = import(&temp.path().join("absent.pth"), &checkpoints, &[]).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(!checkpoints.exists());
    }

    #[test]
    fn without_a_window_the_user_is_told() {
        let temp = tempfile::tempdir().unwrap();
        let text = import(&weight_file(temp.path(), 1, 0.5), temp.path(), &["--name", "g"]).unwrap();
        assert!(text.contains("note: without --window"), "{text}");
    }

    #[test]
    fn the_trainers_file_is_imported_by_part() {
        let Some(folder) = gantry_tests::fixture::shared("fixtures/ducosy/model") else { return };
        let temp = tempfile::tempdir().unwrap();
        let file = folder.join("checkpoint.pth.tar");
        let error = import(&file, temp.path(), &[]).unwrap_err();
        assert!(error.to_string().contains("choose one with --part: G_A2B_state_dict (19 tensors)"), "{error}");
        let text = import(&file, temp.path(), &["--part", "G_A2B_state_dict"]).unwrap();
        assert!(text.contains("19 tensors, 1932643 numbers (f32), read as PyTorch"), "{text}");
        let done = Checkpoint::open(temp.path().join("checkpoint-G_A2B_state_dict")).unwrap();
        let imported = StateDict::from_bytes(done.read_file(Checkpoint::WEIGHTS).unwrap(), None).unwrap();
        let published = StateDict::load(folder.join("G_c1_b1.safetensors"), None).unwrap();
        assert_eq!(imported.len(), published.len());
        assert!(published.iter().all(|(k, t)| imported.get(k) == Some(t)));
        let error = import(&file, temp.path(), &["--part", "D_A_state_dict", "--name", "d"]).unwrap_err();
        assert!(error.to_string().contains("these are not the weights of a ducosy-generator"), "{error}");
        assert_eq!(error.exit_code(), 4);
    }
}
