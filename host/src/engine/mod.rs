//! Running a plan: a supervisor that never runs plugin code, workers that do, and the journal between them.
//!
//! `supervisor` → `hand` → (process border) → `worker` → `case` → `boundary` → a stage.

pub mod boundary;
pub mod buffers;
mod case;
mod cases;
mod checkpoint;
mod derivation;
pub mod devices;
mod edge;
pub mod expectations;
mod failure;
mod hand;
mod journal;
mod kernels;
mod ledger;
mod node;
mod opening;
mod output;
mod protocol;
mod pulse;
mod run_json;
mod scrutiny;
mod seed;
pub mod self_audit;
mod services;
mod sink;
pub mod supervisor;
mod words;
pub mod worker;

pub use cases::beside_series;
pub use edge::{Padding, PaddingRun};
pub use failure::{Failure, Outcome};
pub use supervisor::{RunError, RunOptions, Summary, Watcher};
