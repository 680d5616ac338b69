//! What the host tells a sink about the making of its object: the answer of `gantry.derive/1`, read back.

use gantry_plugin::{Call, Error, Result};
use serde::Deserialize;

use super::services::ask;
use crate::series::derive::{DerivationCodes, DerivationContext, ModelReference, Nature};
use crate::series::uid::UidMaker;

/// The answer of `gantry.derive/1`.
#[derive(Deserialize)]
pub struct Derivation {
    pipeline: String,
    plan_digest: String,
    case_digest: String,
    sink: String,
    run_time: jiff::Timestamp,
    nature: String,
    toy: bool,
    models: Vec<Model>,
    stages: Vec<String>,
    deidentified: bool,
    repaired: bool,
    gantry: String,
    uid_secret: Option<String>,
}

#[derive(Deserialize)]
struct Model {
    name: String,
    sha256: String,
}

impl Derivation {
    /// Asks the host.
    ///
    /// # Errors
    /// If it refuses.
    pub fn ask(call: &Call) -> Result<Derivation> {
        ask(call, "gantry.derive/1", "{}")
    }

    /// The first digits of the plan's digest: one installed pipeline with its plugins and weights.
    pub fn plan(&self) -> &str {
        self.plan_digest.get(..16).unwrap_or(&self.plan_digest)
    }

    /// As the functions of `series` want it. An empty description is the pipeline's name.
    ///
    /// # Errors
    /// If the host's answer is not of the wanted form.
    pub fn context(self, series_description: &str, series_number: i32) -> Result<DerivationContext> {
        let secret = match &self.uid_secret {
            None => None,
            Some(text) => {
                let bytes = hex::decode(text).ok().and_then(|b| <[u8; 32]>::try_from(b).ok());
                Some(bytes.ok_or_else(|| Error::service("gantry.derive/1: the secret is not 32 bytes"))?)
            }
        };
        let nature = match self.nature.as_str() {
            "synthetic" => Nature::Synthetic,
            "enhanced" => Nature::Enhanced,
            "derived" => Nature::Derived,
            other => return Err(Error::service(format!("gantry.derive/1: unknown nature `{other}`"))),
        };
        let description = match series_description {
            "" => self.pipeline.clone(),
            given => given.to_owned(),
        };
        let software = [format!("gantry {}", self.gantry), format!("plan {}", self.plan())];
        let models = self.models.into_iter();
        Ok(DerivationContext {
            uids: UidMaker::new(secret.as_ref(), &self.plan_digest, &self.case_digest, &self.sink),
            run_time: self.run_time,
            series_number,
            series_description: description,
            pipeline: self.pipeline,
            nature,
            toy: self.toy,
            models: models.map(|m| ModelReference { name: m.name, version: String::new(), sha256: m.sha256 }).collect(),
            codes: DerivationCodes::default(),
            contrast_removed: false,
            deidentified_by_gantry: self.deidentified,
            software_versions: software
                .into_iter()
                .chain(self.stages.into_iter().map(|s| s.chars().take(64).collect()))
                .collect(),
            lossy_source: false,
            repair: self.repaired,
        })
    }
}
