//! [`Anonymizer`] and [`InstanceAnonymizer`]: the two stages around the pure part.

use crate::case::{CaseError, Refused, deidentify_case, deidentify_instances};
use crate::options::{Choice, Options};
use crate::pixel_rules::PixelRule;
use crate::profile::Profile;
use crate::pseudonyms::SERVICE;
use crate::rules::Rules;
use gantry_plugin::{Call, CaseStage, Error, Inputs, Outputs, Ports, Result};
use serde_json::json;
use std::collections::BTreeMap;

/// Schema of the record that says which pixels are blanked.
pub const BLANK_REGIONS: &str = "gantry.blank-regions/1";

#[derive(Debug, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
enum ProfileName {
    Basic,
}

/// Parameters of the stage `anonymizer`, completed by the host.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Params {
    profile: ProfileName,
    retain: Vec<String>,
    clean: Vec<String>,
    rules: Vec<String>,
}

/// Parameters of the stage `instance-anonymizer`, completed by the host.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InstanceParams {
    profile: ProfileName,
    retain: Vec<String>,
    clean: Vec<String>,
    rules: Vec<String>,
    pixel_rules: Vec<String>,
    refused: RefusedName,
}

#[derive(Debug, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
enum RefusedName {
    Case,
    Instance,
}

fn profile(
    ProfileName::Basic: ProfileName,
    options: Options,
    rules: &[String],
    pixel_rules: Vec<PixelRule>,
) -> Result<Profile> {
    let rules = Rules::parse(rules).map_err(Error::bad_params)?;
    Profile::with(options, rules, pixel_rules).map_err(Error::internal)
}

/// The stage `anonymizer`: headers beside images.
pub struct Anonymizer {
    profile: Profile,
    /// Whether somebody reads the audit record.
    audited: bool,
}

impl CaseStage for Anonymizer {
    type Params = Params;

    fn create(params: Params) -> Result<Self> {
        let options = Options::named(&params.retain, &params.clean).map_err(Error::bad_params)?;
        if options.has(Choice::PixelData) {
            let text = "this stage never reaches the pixels; `clean` takes pixel-data only in instance-anonymizer";
            return Err(Error::bad_params(text));
        }
        Ok(Self { profile: profile(params.profile, options, &params.rules, vec![])?, audited: false })
    }

    fn prepare(&mut self, _: &Call, ports: &Ports) -> Result<()> {
        self.audited = ports.connected("audit");
        Ok(())
    }

    fn process(&mut self, call: &Call, inputs: &Inputs, _: &mut Outputs) -> Result<()> {
        let headers = inputs.headers("series")?;
        let series: Vec<_> = headers.iter().map(|h| h.datasets.clone()).collect();
        let service = |request: &str| call.service(SERVICE, request);
        let clean = spread(call, || deidentify_case(&series, &self.profile, service, progress(call)))?;
        for (headers, slices) in headers.iter().zip(&clean.series) {
            for slice in slices {
                call.emit("series", headers.name, slice)?;
            }
        }
        if self.audited {
            call.emit("audit", "", clean.audit.to_json(&self.profile).to_string().as_bytes())?;
        }
        Ok(())
    }
}

/// The stage `instance-anonymizer`: every object of a patient's study.
pub struct InstanceAnonymizer {
    profile: Profile,
    refused: Refused,
    audited: bool,
}

impl CaseStage for InstanceAnonymizer {
    type Params = InstanceParams;

    fn create(params: InstanceParams) -> Result<Self> {
        let options = Options::named(&params.retain, &params.clean).map_err(Error::bad_params)?;
        let pixel_rules = PixelRule::parse_all(&params.pixel_rules).map_err(Error::bad_params)?;
        if !pixel_rules.is_empty() && !options.has(Choice::PixelData) {
            return Err(Error::bad_params("`pixel_rules` are given, but `clean` does not name pixel-data"));
        }
        let refused = match params.refused {
            RefusedName::Case => Refused::Case,
            RefusedName::Instance => Refused::Instance,
        };
        Ok(Self { profile: profile(params.profile, options, &params.rules, pixel_rules)?, refused, audited: false })
    }

    fn prepare(&mut self, _: &Call, ports: &Ports) -> Result<()> {
        self.audited = ports.connected("audit");
        // The headers would say that text was blanked which still stands in the pixels.
        if self.profile.has(Choice::PixelData) && !ports.connected("blank") {
            return Err(Error::bad_params("`clean` names pixel-data, but the output `blank` is not connected"));
        }
        Ok(())
    }

    fn process(&mut self, call: &Call, inputs: &Inputs, _: &mut Outputs) -> Result<()> {
        let headers = inputs.headers("instances")?;
        let instances: Vec<&[u8]> = headers.iter().flat_map(|h| h.datasets.iter().copied()).collect();
        let name = headers.first().map_or("", |h| h.name);
        let service = |request: &str| call.service(SERVICE, request);
        let work = || deidentify_instances(&instances, &self.profile, self.refused, service, progress(call));
        let clean = spread(call, work)?;
        let mut blank: BTreeMap<usize, &[_]> = BTreeMap::new();
        for (index, instance) in clean.instances.iter().enumerate() {
            call.emit("instances", name, instance.as_ref().map_or(&[], |i| &i.bytes))?;
            if let Some(instance) = instance.as_ref().filter(|i| !i.blank.is_empty()) {
                blank.insert(index, &instance.blank);
            }
        }
        for (code, count) in &clean.audit.refused {
            call.warn(code, &format!("{count} of {} instances left out", instances.len()));
        }
        if self.profile.has(Choice::PixelData) {
            let record = json!({"schema": BLANK_REGIONS, "instances": blank});
            call.emit("blank", "", record.to_string().as_bytes())?;
        }
        if self.audited {
            call.emit("audit", "", clean.audit.to_json(&self.profile).to_string().as_bytes())?;
        }
        Ok(())
    }
}

/// Works on as many threads as the host gives.
fn spread<T: Send>(call: &Call, work: impl FnOnce() -> std::result::Result<T, CaseError<Error>> + Send) -> Result<T> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(call.threads()).build();
    let pool = pool.map_err(|error| Error::resource(format!("threads: {error}")))?;
    pool.install(work).map_err(failed)
}

fn progress<'a>(call: &'a Call) -> impl FnMut(u64, u64) -> bool + 'a {
    |done, total| {
        call.progress(done, total);
        !call.cancelled()
    }
}

fn failed(error: CaseError<Error>) -> Error {
    match error {
        CaseError::Refused(refusal) => Error::bad_input(refusal.code, refusal.text),
        CaseError::Service(error) => error,
        CaseError::BadAnswer(text) => Error::service(text),
        CaseError::Cancelled => Error::Cancelled,
    }
}

gantry_plugin::export_plugin! {
    manifest: "../plugin.toml",
    stages: { "anonymizer" => case Anonymizer, "instance-anonymizer" => case InstanceAnonymizer }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LISTS: &str = r#""profile": "basic", "retain": [], "clean": [], "rules": []"#;

    #[test]
    fn parameters_are_strict() {
        let create = |json: &str| serde_json::from_str(json).map(Anonymizer::create);
        assert!(create(&format!("{{{LISTS}}}")).is_ok_and(|made| made.is_ok()));
        for bad in [
            r#"{}"#.to_owned(),
            LISTS.replace("basic", "clean"),
            format!("{{{LISTS}, \"refused\": \"case\"}}"),
            format!("{{{LISTS}, \"pixel_rules\": []}}"),
        ] {
            assert!(create(&bad).is_err(), "{bad}");
        }
        let instances = |json: &str| serde_json::from_str(json).map(InstanceAnonymizer::create);
        assert!(
            instances(&format!("{{{LISTS}, \"pixel_rules\": [], \"refused\": \"case\"}}")).is_ok_and(|m| m.is_ok())
        );
        assert!(instances(&format!("{{{LISTS}}}")).is_err());
    }

    #[test]
    fn what_makes_no_sense_is_refused_before_any_case() {
        let instances = |clean: &[&str], retain: &[&str], rules: &[&str], pixel_rules: &[&str]| {
            let params = json!({
                "profile": "basic", "retain": retain, "clean": clean, "rules": rules, "pixel_rules": pixel_rules,
                "refused": "instance",
            });
            InstanceAnonymizer::create(serde_json::from_value(params).expect("shape")).map(|_| ())
        };
        assert_eq!(instances(&["pixel-data", "descriptors"], &["uids"], &[], &["blank=0,0,9,9"]), Ok(()));
        for (made, expected) in [
            (instances(&["text"], &[], &[], &[]), "does not know `text`"),
            (instances(&[], &["full-dates", "modified-dates"], &[], &[]), "both full-dates and modified-dates"),
            (instances(&[], &[], &["(0010,0010) remove", "(0008,0018) empty"], &[]), "rules, number 2: "),
            (instances(&["pixel-data"], &[], &[], &["blank=1"]), "pixel_rules, number 1: "),
            (instances(&[], &[], &[], &["blank=0,0,9,9"]), "does not name pixel-data"),
        ] {
            let error = made.expect_err(expected);
            assert!(error.code() == "bad-parameters" && error.to_string().contains(expected), "{error}");
        }
        let params = json!({"profile": "basic", "retain": [], "clean": ["pixel-data"], "rules": []});
        let made = Anonymizer::create(serde_json::from_value(params).expect("shape"));
        assert!(made.is_err_and(|error| error.code() == "bad-parameters"));
    }
}
