//! The Gantry host.

pub mod cli;
pub mod identity;
