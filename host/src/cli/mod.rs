//! The command line: one module for each verb.

pub mod key;
pub mod series;
pub mod weights;
