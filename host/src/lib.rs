//! Placeholder.
pub mod series;
