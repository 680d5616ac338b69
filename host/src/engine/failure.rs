//! Why a case did not finish.

use gantry_abi::v1::status;
use serde::{Deserialize, Serialize};

/// What becomes of the case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Its data were refused: nothing is written, the run goes on.
    Quarantined,
    /// A stage or the host failed on it: nothing is written, the run goes on.
    Failed,
    /// The run was interrupted.
    Cancelled,
}

/// A failed case, or a failed preparation. Carries no patient text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{}{text} ({code})", node.as_ref().map(|n| format!("{n}: ")).unwrap_or_default())]
pub struct Failure {
    /// What becomes of the case.
    pub outcome: Outcome,
    /// Stable kebab-case code.
    pub code: String,
    /// Node where it happened.
    pub node: Option<String>,
    /// In words.
    pub text: String,
    /// Status of the ABI, where a stage returned one.
    pub status: i32,
    /// An error of the environment (disk, permission) that ends the run with exit 3.
    pub environment: bool,
}

impl Failure {
    /// More memory than the worker may use; `needed` says by what and how much.
    pub fn memory(needed: &str, limit: u64) -> Failure {
        let limit = crate::machine::megabytes(limit);
        let text = format!("{needed}, {limit} MB are allowed ([resources] memory_gb, or this machine's memory)");
        Failure::host("memory-estimate", text)
    }

    /// The host's own failure.
    pub fn host(code: &str, text: impl Into<String>) -> Failure {
        Failure {
            outcome: Outcome::Failed,
            code: code.to_owned(),
            node: None,
            text: text.into(),
            status: status::INTERNAL,
            environment: false,
        }
    }

    /// The case's data are refused.
    pub fn quarantine(code: &str, text: impl Into<String>) -> Failure {
        Failure { outcome: Outcome::Quarantined, status: status::BAD_INPUT, ..Failure::host(code, text) }
    }

    /// Disk full, permission and the like: no fault of the case.
    pub fn environment(what: &str, error: &std::io::Error) -> Failure {
        Failure { environment: true, ..Failure::host("environment", format!("{what}: {}", error.kind())) }
    }

    /// With the node where it happened.
    pub fn at(mut self, node: &str) -> Failure {
        self.node.get_or_insert_with(|| node.to_owned());
        self
    }

    /// What a status means for the case; `said` is the stage's last ERROR report.
    pub fn from_status(status: i32, said: Option<(String, String)>) -> Failure {
        // An unknown value is read as INTERNAL, and so its instance is made anew.
        let known = (status::INTERNAL..=status::PENDING).contains(&status);
        let returned = status;
        let status = if known && status != status::OK { status } else { status::INTERNAL };
        let (outcome, name) = match status {
            status::CANCELLED => (Outcome::Cancelled, "cancelled"),
            status::PENDING => (Outcome::Failed, "pending"),
            status::BAD_PARAMS => (Outcome::Failed, "bad-parameters"),
            status::BAD_INPUT => (Outcome::Quarantined, "bad-input"),
            status::UNSUPPORTED => (Outcome::Failed, "unsupported"),
            status::RESOURCE => (Outcome::Failed, "resource"),
            status::SERVICE => (Outcome::Failed, "service"),
            status::BAD_WEIGHTS => (Outcome::Failed, "bad-weights"),
            _ => (Outcome::Failed, "internal"),
        };
        let (code, text) = match said {
            Some((code, text)) if !code.is_empty() => (code, text),
            Some((_, text)) => (name.to_owned(), text),
            None => (name.to_owned(), format!("the stage returned status {returned} without a word")),
        };
        Failure { outcome, code, node: None, text, status, environment: false }
    }
}
