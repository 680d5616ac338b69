//! Why a call failed, and the status it becomes at the boundary.

use gantry_abi::v1::status;

/// The result of everything an author calls or implements.
pub type Result<T> = std::result::Result<T, Error>;

/// A failure. Texts must never hold patient text: the host may print and store them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Stopped because the host asked for it.
    #[error("cancelled")]
    Cancelled,
    /// A person must answer a request that was emitted.
    #[error("waiting for a decision")]
    Pending,
    /// Anything else: a status of the ABI, a kebab-case code and a sentence.
    #[error("{text}")]
    Failed {
        /// One of `gantry_abi::v1::status`.
        status: i32,
        /// Stable kebab-case id, e.g. `burned-in-annotation`.
        code: String,
        /// What was wrong, where, expected and found.
        text: String,
    },
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident => $status:ident, $code:literal;)*) => {
        $($(#[$doc])*
        pub fn $name(text: impl Into<String>) -> Error {
            Error::Failed { status: status::$status, code: $code.to_owned(), text: text.into() }
        })*
    };
}

impl Error {
    kinds! {
        /// The parameters do not make sense together (create, prepare): exit 2 before any case.
        bad_params => BAD_PARAMS, "bad-parameters";
        /// Legal input that this stage does not implement: the case fails.
        unsupported => UNSUPPORTED, "unsupported";
        /// Not enough memory or device: the host may repeat with a smaller batch.
        resource => RESOURCE, "resource";
        /// A host service failed.
        service => SERVICE, "service";
        /// The checkpoint is malformed: exit 4 before any case.
        bad_weights => BAD_WEIGHTS, "bad-weights";
        /// A bug, or a result that must not be used (NaN from a network): the case fails.
        internal => INTERNAL, "internal";
    }

    /// This case's data are refused: the case is quarantined under `code`.
    pub fn bad_input(code: &str, text: impl Into<String>) -> Error {
        Error::Failed { status: status::BAD_INPUT, code: code.to_owned(), text: text.into() }
    }

    /// The status at the boundary.
    pub fn status(&self) -> i32 {
        match self {
            Error::Cancelled => status::CANCELLED,
            Error::Pending => status::PENDING,
            Error::Failed { status, .. } => *status,
        }
    }

    /// The kebab-case code.
    pub fn code(&self) -> &str {
        match self {
            Error::Cancelled => "cancelled",
            Error::Pending => "pending",
            Error::Failed { code, .. } => code,
        }
    }

    /// The failure that a status of a host function means.
    pub(crate) fn from_status(status: i32, what: &str) -> Result<()> {
        match status {
            status::OK => Ok(()),
            status::CANCELLED => Err(Error::Cancelled),
            status::PENDING => Err(Error::Pending),
            other => Err(Error::Failed {
                status: other,
                code: what.to_owned(),
                text: format!("the host refused `{what}` (status {other})"),
            }),
        }
    }
}
