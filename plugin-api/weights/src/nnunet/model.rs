//! [`Model`]: one model of a checkpoint, its documents read and compared with each other.

use crate::error::{Error, Result};
use crate::state::StateDict;
use crate::weight_file::WeightFile;

use super::configuration::Configuration;
use super::dataset::Dataset;
use super::plans::Plans;
use super::segmentation::Part;

/// What is run of a model, and what it was trained with.
#[derive(Debug, Clone, PartialEq)]
pub struct Model {
    /// How it is run.
    pub configuration: Configuration,
    /// Its channels and labels.
    pub dataset: Dataset,
}

impl Model {
    /// Reads one configuration of the plans and compares it with the data set.
    ///
    /// # Errors
    /// As [`Plans::configuration`]; also if plans and data set have different numbers of channels.
    pub fn new(plans: &Plans, dataset: Dataset, configuration: &str) -> Result<Self> {
        let configuration = plans.configuration(configuration)?;
        let (plans, images) = (configuration.schemes.len(), dataset.channels.len());
        if plans != images {
            return Err(Error::Malformed(format!(
                "the plans normalise {plans} channel{}, dataset.json names {images}",
                if plans == 1 { "" } else { "s" }
            )));
        }
        Ok(Self { configuration, dataset })
    }

    /// Reads a part of an imported checkpoint from the texts of its `plans.json` and `dataset.json`.
    ///
    /// # Errors
    /// As [`Self::new`]; also if the part maps a label that the data set does not have.
    pub fn of_part(part: &Part, plans: &str, dataset: &str) -> Result<Self> {
        let named = |error| Error::Malformed(format!("part `{}`: {error}", part.folder));
        let model = Self::new(&Plans::parse(plans)?, Dataset::parse(dataset)?, &part.configuration).map_err(named)?;
        let known = model.dataset.values();
        let stranger = part.labels.iter().find(|[local, _]| known.iter().all(|(value, _)| value != local));
        match stranger {
            None => Ok(model),
            Some([local, _]) => Err(named(Error::Malformed(format!("its data set has no label {local}")))),
        }
    }

    /// Reads the weights of one fold and proves that they are this model's.
    ///
    /// # Errors
    /// If the content is no weight file, or [`Error::Mismatch`].
    pub fn weights(&self, content: Vec<u8>) -> Result<StateDict> {
        let weights = WeightFile::from_bytes(content)?.load(None)?;
        self.configuration.network.check(&weights, self.dataset.channels.len(), self.dataset.heads())?;
        Ok(weights)
    }
}
