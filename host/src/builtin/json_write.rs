//! `json-write`: a record or a table as a JSON file.

use gantry_plugin::{Call, CaseStage, Error, Inputs, Outputs, Result};
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Params {
    name: String,
}

struct JsonWrite {
    params: Params,
}

impl CaseStage for JsonWrite {
    type Params = Params;

    fn create(params: Params) -> Result<Self> {
        Ok(JsonWrite { params })
    }

    fn process(&mut self, call: &Call, inputs: &Inputs, _: &mut Outputs) -> Result<()> {
        let text = inputs.json("record")?.ok_or_else(|| Error::internal("no record arrived"))?;
        let value: serde_json::Value =
            serde_json::from_str(text).map_err(|e| Error::internal(format!("the record is no JSON: {e}")))?;
        let mut pretty = serde_json::to_string_pretty(&value).map_err(|e| Error::internal(e.to_string()))?;
        pretty.push('\n');
        call.emit("file", &format!("{}.json", self.params.name), pretty.as_bytes())
    }
}

gantry_plugin::stage!("json-write", case, JsonWrite);
