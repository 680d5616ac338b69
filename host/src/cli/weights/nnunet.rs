//! `gantry weights import FOLDER --arch nnunet-v2`: models of nnU-Net v2 and of TotalSegmentator, as one checkpoint.

use std::collections::BTreeMap;
use std::path::Path;

use gantry_weights::nnunet::{ARCHITECTURE, Folds, Package, Segmentation, Written};
use gantry_weights::{Card, Checkpoint, Nature, RunSettings, Staging};

use super::{ImportArgs, NatureArg, UNKNOWN, WeightsError, legal_name, made_legal};

impl ImportArgs {
    /// Imports a model's folder, or TotalSegmentator's.
    pub(super) fn run_nnunet(&self, checkpoints: &Path) -> Result<String, WeightsError> {
        self.refuse_what_a_model_says_itself()?;
        if self.file.is_file() {
            return Err(WeightsError::Usage(format!(
                "{}: a file; --arch {ARCHITECTURE} takes the model's folder, with plans.json, dataset.json and \
                 fold_*/checkpoint_final.pth: the weights alone do not say how they are run",
                self.file.display()
            )));
        }
        let package = Package::open(&self.file, self.models.as_deref(), self.folds.as_ref().unwrap_or(&Folds::Every))?;
        let name = legal_name(self.name.clone().unwrap_or_else(|| made_legal(&package.name())))?;
        let mut staging = Staging::begin(checkpoints, &name, self.force)?;
        let written = package.write(&mut staging)?;
        let done = staging.finish(self.card_of(name, &package, &written)?)?;
        Ok(report(&done, &package, &written, self.licence.is_none()))
    }

    /// The plans say these things; another word for them would be a contradiction.
    fn refuse_what_a_model_says_itself(&self) -> Result<(), WeightsError> {
        let plans = "the model's plans say how its input is made";
        for (given, option, why) in [
            (self.part.is_some(), "--part", "all of a model is taken; --models and --folds choose"),
            (self.normalisation.is_some(), "--normalisation", plans),
            (self.window.is_some(), "--window", plans),
            (self.resize.is_some(), "--resize", plans),
            (!self.masks.is_empty(), "--masks", "such a model takes no masks"),
            (self.nature.is_some_and(|n| n != NatureArg::Derived), "--nature", "labels are derived from an image"),
        ] {
            if given {
                return Err(WeightsError::Usage(format!("{option}: not with --arch {ARCHITECTURE}; {why}")));
            }
        }
        Ok(())
    }

    fn card_of(&self, name: String, package: &Package, written: &Written) -> Result<Card, WeightsError> {
        let origin = || format!("unknown; imported from {}", written.origins.join("; "));
        Ok(Card {
            card: 1,
            name,
            architecture: ARCHITECTURE.to_owned(),
            summary: self.summary.clone().unwrap_or_else(|| summary(package, &written.segmentation)),
            licence: self.licence.clone().unwrap_or_else(|| UNKNOWN.to_owned()),
            trained_with: self.trained_with.clone().unwrap_or_else(origin),
            toy: false,
            nature: Nature::Derived,
            intended_use: self.intended_use.clone(),
            files: Vec::new(), // those that have been written
            caps: self.caps_of(written)?,
            run: RunSettings::default(),
        })
    }

    fn caps_of(&self, written: &Written) -> Result<BTreeMap<String, toml::Table>, WeightsError> {
        let mut image = toml::Table::new();
        let mut modality = self.modality.clone();
        if written.ct {
            if modality.as_deref().is_some_and(|given| given != "CT") {
                let text = "--modality: the model's only channel is CT, normalised as Hounsfield units are";
                return Err(WeightsError::Usage(text.to_owned()));
            }
            image.insert("quantity".to_owned(), "hu".into());
            modality = Some("CT".to_owned());
        }
        if modality.is_none() && written.channels.len() == 1 {
            return Err(WeightsError::Usage(format!(
                "say with --modality which images the model's channel `{}` is for, such as MR: `gantry check` could not \
                 notice otherwise that it is given others",
                written.channels.first().map(String::as_str).unwrap_or_default()
            )));
        }
        if modality.as_deref() == Some("MR") {
            image.insert("quantity".to_owned(), "mr".into());
        }
        image.extend(modality.map(|modality| ("modality".to_owned(), modality.into())));
        if written.channels.len() > 1 {
            image.insert("channels".to_owned(), written.channels.clone().into());
        }
        let names: Vec<String> = written.segmentation.labels.iter().map(|label| label.name.clone()).collect();
        let labels = toml::Table::from_iter([("labels".to_owned(), names.into())]);
        let mut caps = BTreeMap::from([("labels".to_owned(), labels)]);
        if !image.is_empty() {
            caps.insert("image".to_owned(), image);
        }
        Ok(caps)
    }
}

fn summary(package: &Package, segmentation: &Segmentation) -> String {
    const SHOWN: usize = 6;
    let names: Vec<&str> = segmentation.labels.iter().map(|label| label.name.as_str()).collect();
    let more = names.len().saturating_sub(SHOWN);
    let mut list = names.get(..names.len().min(SHOWN)).unwrap_or_default().join(", ");
    if more > 0 {
        list.push_str(&format!(" and {more} more"));
    }
    match (package.is_totalsegmentator(), &segmentation.rough) {
        (false, _) => format!("nnU-Net model {}: {list}", package.name()),
        (true, rough) => {
            let parts: Vec<&str> = segmentation.parts.iter().map(|part| part.folder.as_str()).collect();
            let rough = rough.as_ref().map(|part| format!(", looking first with {}", part.folder)).unwrap_or_default();
            format!(
                "TotalSegmentator total ({}{rough}): {list}. Its makers say that this task's models may be used commercially too; \
                 read the licence text of the release",
                parts.join(", ")
            )
        }
    }
}

fn report(done: &Checkpoint, package: &Package, written: &Written, no_licence: bool) -> String {
    let Written { segmentation, size, .. } = written;
    let mut text = format!(
        "{}: {} tensors, {} numbers, of {}\n  architecture {ARCHITECTURE}: {} labels, step {}",
        done.card.name,
        size.0,
        size.1,
        if package.is_totalsegmentator() { "TotalSegmentator" } else { "nnU-Net v2" },
        segmentation.labels.len(),
        segmentation.step,
    );
    for part in segmentation.models() {
        let folds: Vec<String> = part.folds.iter().map(u32::to_string).collect();
        let mirrored = match &part.mirror_axes {
            Some(axes) => format!("may be mirrored along {axes:?}"),
            None => "never mirrored".to_owned(),
        };
        let looks = if part.spacing_mm.is_some() { ", looks first" } else { "" };
        text.push_str(&format!(
            "\n  {}: {}, {}, fold {}, {mirrored}{looks}",
            part.folder,
            part.dataset,
            part.configuration,
            folds.join(", ")
        ));
    }
    text.push_str(&format!("\n  written to {}", done.folder.display()));
    for note in &written.notes {
        text.push_str(&format!("\n  note: {note}"));
    }
    if no_licence {
        text.push_str("\n  note: the card says `licence = \"unknown\"`; name the weights' licence with --licence");
    }
    text
}

#[cfg(test)]
mod tests;
