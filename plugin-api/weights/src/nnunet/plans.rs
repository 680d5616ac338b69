//! [`Plans`]: `plans.json`, in the form nnU-Net v2 writes now and in the one it wrote first.

use serde_json::{Map, Value};

use crate::error::{Error, Result, printable};

use super::configuration::Configuration;
use super::fields::{Fields, parse, shown};

/// What the document is called in errors.
const DOCUMENT: &str = "plans";

/// A parsed `plans.json`. Configurations are read one by one: those that are not run may be of any kind.
#[derive(Debug, Clone, PartialEq)]
pub struct Plans {
    document: Map<String, Value>,
}

impl Plans {
    /// The file's name.
    pub const FILE: &str = "plans.json";

    /// Reads the text of `plans.json`.
    ///
    /// # Errors
    /// If it is not JSON, or not plans of nnU-Net v2.
    pub fn parse(text: &str) -> Result<Self> {
        let document = parse(text, DOCUMENT)?;
        let top = Fields::new(&document, DOCUMENT);
        if top.get("plans_per_stage").is_some() || top.get("num_stages").is_some() {
            return Err(top.unsupported("plans of nnU-Net version 1; plans of version 2 expected"));
        }
        if top.get("configurations").is_none() {
            let keys: Vec<String> = document.keys().take(8).map(|key| printable(key)).collect();
            return Err(top.unsupported(format!(
                "not plans of nnU-Net version 2: `configurations` expected, found {}",
                if keys.is_empty() { "nothing".to_owned() } else { keys.join(", ") }
            )));
        }
        top.object("configurations")?;
        Ok(Self { document })
    }

    /// The plans' name, such as `nnUNetPlans`; empty where they do not say.
    pub fn name(&self) -> &str {
        self.document.get("plans_name").and_then(Value::as_str).unwrap_or_default()
    }

    /// The data set's name, such as `Dataset293_TotalSegmentator_part3_cardiac_1559subj`; empty where they do not say.
    pub fn dataset_name(&self) -> &str {
        self.document.get("dataset_name").and_then(Value::as_str).unwrap_or_default()
    }

    /// Names of the configurations, in the document's order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.configurations().into_iter().flat_map(Map::keys).map(String::as_str)
    }

    /// Reads one configuration, with what it inherits.
    ///
    /// # Errors
    /// If there is none of this name, it inherits from itself, lacks something, or is of a kind that is not run: two
    /// dimensions, a cascade, another preprocessor, resampling or architecture. The error names what was found.
    pub fn configuration(&self, name: &str) -> Result<Configuration> {
        let own = self.inherited(name)?;
        let place = format!("{DOCUMENT}: configuration `{}`", printable(name));
        Configuration::read(name, &Fields::new(&self.document, DOCUMENT), &Fields::new(&own, place))
    }

    fn configurations(&self) -> Option<&Map<String, Value>> {
        self.document.get("configurations").and_then(Value::as_object)
    }

    /// The configuration with everything its ancestors say and it does not.
    fn inherited(&self, name: &str) -> Result<Map<String, Value>> {
        let wrong = |problem: String| Error::Malformed(format!("{DOCUMENT}: {problem}"));
        let mut chain: Vec<&str> = Vec::new();
        let mut next = Some(name);
        let mut merged = Map::new();
        while let Some(name) = next {
            if chain.contains(&name) {
                let circle = chain.iter().map(|n| printable(n)).collect::<Vec<_>>().join(" -> ");
                return Err(wrong(format!("configurations inherit in a circle: {circle} -> {}", printable(name))));
            }
            let Some(own) = self.configurations().and_then(|all| all.get(name)) else {
                let known: Vec<String> = self.names().map(printable).collect();
                let asked = chain.last().map(|child| format!(", from which `{}` inherits", printable(child)));
                return Err(wrong(format!(
                    "there is no configuration `{}`{}; there are: {}",
                    printable(name),
                    asked.unwrap_or_default(),
                    known.join(", ")
                )));
            };
            let Some(own) = own.as_object() else {
                return Err(wrong(format!(
                    "configuration `{}`: an object expected, found {}",
                    printable(name),
                    shown(own)
                )));
            };
            for (key, value) in own {
                merged.entry(key.clone()).or_insert_with(|| value.clone());
            }
            chain.push(name);
            next = match own.get("inherits_from") {
                None | Some(Value::Null) => None,
                Some(Value::String(parent)) => Some(parent),
                Some(other) => {
                    return Err(wrong(format!(
                        "configuration `{}`: `inherits_from`: a name expected, found {}",
                        printable(name),
                        shown(other)
                    )));
                }
            };
        }
        Ok(merged)
    }
}
