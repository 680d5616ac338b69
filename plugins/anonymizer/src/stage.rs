//! [`Anonymizer`]: the stage around the pure part.

use crate::case::{CaseError, deidentify_case};
use crate::profile::Profile;
use crate::pseudonyms::SERVICE;
use gantry_plugin::{Call, CaseStage, Error, Inputs, Outputs, Ports, Result};

/// Parameters of the stage, completed by the host.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Params {
    profile: ProfileName,
}

#[derive(Debug, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
enum ProfileName {
    Basic,
}

/// The stage `anonymizer`.
pub struct Anonymizer {
    profile: &'static Profile,
    /// Whether somebody reads the audit record.
    audited: bool,
}

impl CaseStage for Anonymizer {
    type Params = Params;

    fn create(params: Params) -> Result<Self> {
        let profile = match params.profile {
            ProfileName::Basic => Profile::basic(),
        };
        Ok(Self { profile: profile.map_err(Error::internal)?, audited: false })
    }

    fn prepare(&mut self, _: &Call, ports: &Ports) -> Result<()> {
        self.audited = ports.connected("audit");
        Ok(())
    }

    fn process(&mut self, call: &Call, inputs: &Inputs, _: &mut Outputs) -> Result<()> {
        let headers = inputs.headers("series")?;
        let series: Vec<_> = headers.iter().map(|h| h.datasets.clone()).collect();
        let go_on = |done, total| {
            call.progress(done, total);
            !call.cancelled()
        };
        let clean = deidentify_case(&series, self.profile, |request| call.service(SERVICE, request), go_on).map_err(
            |error| match error {
                CaseError::Refused(refusal) => Error::bad_input(refusal.code, refusal.text),
                CaseError::Service(error) => error,
                CaseError::BadAnswer(text) => Error::service(text),
                CaseError::Cancelled => Error::Cancelled,
            },
        )?;
        for (headers, slices) in headers.iter().zip(&clean.series) {
            for slice in slices {
                call.emit("series", headers.name, slice)?;
            }
        }
        if self.audited {
            call.emit("audit", "", clean.audit.to_json(self.profile).to_string().as_bytes())?;
        }
        Ok(())
    }
}

gantry_plugin::export_plugin! { manifest: "../plugin.toml", stages: { "anonymizer" => case Anonymizer } }

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_strict() {
        let create = |json: &str| serde_json::from_str(json).map(Anonymizer::create);
        assert!(create(r#"{"profile": "basic"}"#).is_ok_and(|made| made.is_ok()));
        for bad in [r#"{}"#, r#"{"profile": "clean"}"#, r#"{"profile": "basic", "retain": []}"#] {
            assert!(create(bad).is_err(), "{bad}");
        }
    }
}
