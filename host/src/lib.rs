//! The Gantry host as a library: what the `gantry` binary is made of.

pub mod cli;
pub mod diagnostic;
pub mod graph;
pub mod pipeline;
pub mod registry;
