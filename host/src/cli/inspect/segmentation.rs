//! What `gantry inspect` shows of a checkpoint of nnU-Net models beyond its card: the models, how they are run, their classes.

use std::fmt::Write as _;
use std::path::Path;

use gantry_weights::nnunet::{Encoder, Model, Part, Segmentation, Way};
use serde_json::{Value as Json, json};

use super::table;

/// The documents of a checkpoint, read and compared with each other; nothing is hashed.
pub(super) struct Models {
    segmentation: Segmentation,
    /// In the order of [`Segmentation::models`].
    models: Vec<Model>,
}

impl Models {
    /// Reads the documents in a checkpoint's folder.
    ///
    /// # Errors
    /// In words, which document is missing or wrong.
    pub fn read(folder: &Path) -> Result<Self, String> {
        let text = |file: &str| std::fs::read_to_string(folder.join(file)).map_err(|e| format!("{file}: {e}"));
        let segmentation = Segmentation::parse(&text(Segmentation::FILE)?).map_err(|e| e.to_string())?;
        let model = |part: &Part| {
            let (plans, dataset) = (text(&part.file("plans.json"))?, text(&part.file("dataset.json"))?);
            Model::of_part(part, &plans, &dataset).map_err(|e| e.to_string())
        };
        let models = segmentation.models().map(model).collect::<Result<_, _>>()?;
        Ok(Self { segmentation, models })
    }

    fn way(&self) -> &'static str {
        match self.segmentation.way {
            Way::Nnunet => "nnU-Net",
            Way::Totalsegmentator => "TotalSegmentator",
        }
    }

    fn pairs(&self) -> impl Iterator<Item = (&Part, &Model, bool)> {
        let parts = self.segmentation.parts.len();
        self.segmentation.models().zip(&self.models).enumerate().map(move |(i, (p, m))| (p, m, i >= parts))
    }

    pub fn json(&self) -> Json {
        let models: Vec<Json> = self
            .pairs()
            .map(|(part, model, rough)| {
                let run = &model.configuration;
                json!({
                    "folder": part.folder, "rough": rough, "dataset": part.dataset, "trainer": part.trainer,
                    "configuration": part.configuration, "folds": part.folds, "mirror_axes": part.mirror_axes,
                    "spacing_mm": run.spacing_mm, "patch": run.patch, "transpose": run.transpose_forward,
                    "network": run.network.encoder.class(), "features": run.network.features,
                    "channels": model.dataset.channels, "weights": numbers(model),
                    "classes": model.dataset.values().len(),
                })
            })
            .collect();
        let labels: Vec<Json> = self
            .segmentation
            .labels
            .iter()
            .map(|l| json!({ "value": l.value, "name": l.name, "scheme": l.scheme, "code": l.code, "meaning": l.meaning }))
            .collect();
        json!({
            "way": self.way(), "step": self.segmentation.step, "spacing_mm": self.segmentation.spacing_mm,
            "models": models, "labels": labels,
        })
    }

    pub fn text(&self) -> String {
        let own = &self.segmentation;
        let mut out = format!("\nrun as {} runs them, windows {} of a patch apart\n", self.way(), own.step);
        let mut rows = vec![
            ["model", "folds", "spacing mm", "patch", "network", "weights", "mirrored"].map(str::to_owned).to_vec(),
        ];
        for (part, model, rough) in self.pairs() {
            let run = &model.configuration;
            let network = &run.network;
            let kind = match network.encoder {
                Encoder::Plain { .. } => "plain",
                Encoder::Residual { .. } => "residual",
            };
            let mirrored = match &part.mirror_axes {
                Some(axes) => format!("axes {}", joined(axes, ", ")),
                None => "never".to_owned(),
            };
            rows.push(vec![
                format!("{}{}", part.folder, if rough { " (looks first)" } else { "" }),
                joined(&part.folds, ", "),
                joined(&run.spacing_mm, " x "),
                joined(&run.patch, " x "),
                format!("{kind}, {}", joined(&network.features, "-")),
                format!("{:.1} million", numbers(model) as f64 / 1e6),
                mirrored,
            ]);
        }
        let _ = write!(out, "{}\nclasses\n", table(rows));
        let classes = own.labels.iter().map(|label| {
            let code = if label.code.is_empty() { String::new() } else { format!("{} {}", label.scheme, label.code) };
            vec![label.value.to_string(), label.name.clone(), code, label.meaning.clone()]
        });
        out + &table(classes.collect())
    }
}

/// How many numbers one fold's weights are.
fn numbers(model: &Model) -> usize {
    let expected = model.configuration.network.expected(model.dataset.channels.len(), model.dataset.heads());
    expected.iter().map(|tensor| tensor.shape.iter().product::<usize>()).sum()
}

fn joined<T: ToString>(items: &[T], between: &str) -> String {
    items.iter().map(T::to_string).collect::<Vec<_>>().join(between)
}
