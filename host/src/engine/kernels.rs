//! The service `gantry.kernels/1`: a stage says in `prepare` or `begin` which arithmetic and which instructions it computes with, and
//! run.json tells it for every node of every case. A stage that was asked for something else than it computes is refused.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};

use crate::registry::site::{AUTO, PRECISIONS};

/// The service's name.
pub const SERVICE: &str = "gantry.kernels/1";

/// What a stage computes with: the request of the service, and the entry of a node in run.json.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kernels {
    /// One of `f32`, `f32x3`, `bf16`, `int8`.
    pub precision: String,
    /// `amx`, `avx512`, `avx2`, `portable`, or a device's own word such as `cuda-sm90`.
    pub instructions: String,
}

impl Kernels {
    /// Reads a request of a stage whose parameters are `params`.
    ///
    /// # Errors
    /// If it is malformed, or contradicts what the stage was asked for: nobody may get another arithmetic silently.
    pub fn read(request: &str, params: &Map<String, Json>) -> Result<Kernels, String> {
        let said: Kernels = serde_json::from_str(request).map_err(|e| e.to_string())?;
        if !PRECISIONS.contains(&said.precision.as_str()) {
            return Err(format!("`precision` is one of {}", PRECISIONS.join(", ")));
        }
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        if !((1..=16).contains(&said.instructions.len()) && said.instructions.bytes().all(plain)) {
            return Err("`instructions` is one word of at most 16 small letters, digits and hyphens".to_owned());
        }
        for (name, is) in [("precision", &said.precision), ("instructions", &said.instructions)] {
            let asked = params.get(name).and_then(Json::as_str).filter(|asked| *asked != AUTO);
            if let Some(asked) = asked.filter(|asked| asked != is) {
                return Err(format!("asked for {name} {asked}, the stage computes in {is}"));
            }
        }
        Ok(said)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(request: &str, params: &str) -> Result<Kernels, String> {
        Kernels::read(request, &serde_json::from_str(params).unwrap())
    }

    #[test]
    fn a_stage_says_what_it_resolved_to() {
        let said = read(r#"{"precision":"f32x3","instructions":"avx512"}"#, r#"{"precision":"auto"}"#).unwrap();
        assert_eq!((said.precision.as_str(), said.instructions.as_str()), ("f32x3", "avx512"));
        // A stage without such parameters may tell all the same.
        assert!(read(r#"{"precision":"bf16","instructions":"cuda-sm90"}"#, "{}").is_ok());
    }

    #[test]
    fn another_arithmetic_than_asked_for_is_refused() {
        let request = r#"{"precision":"f32","instructions":"avx2"}"#;
        assert!(read(request, r#"{"precision":"bf16"}"#).unwrap_err().contains("asked for precision bf16"));
        let asked = r#"{"precision":"f32","instructions":"amx"}"#;
        assert!(read(request, asked).unwrap_err().contains("asked for instructions amx"));
        assert!(read(request, r#"{"precision":"f32","instructions":"avx2"}"#).is_ok());
    }

    #[test]
    fn nothing_but_words_of_the_trade_gets_through() {
        for bad in [
            r#"{"precision":"f64","instructions":"avx2"}"#,
            r#"{"precision":"f32","instructions":"Jane Doe"}"#,
            r#"{"precision":"f32","instructions":""}"#,
            r#"{"precision":"f32","instructions":"aaaaaaaaaaaaaaaaa"}"#,
            r#"{"precision":"f32"}"#,
            r#"{"precision":"f32","instructions":"avx2","more":1}"#,
            "avx2",
        ] {
            assert!(read(bad, "{}").is_err(), "{bad}");
        }
    }
}
