//! What the whole-system tests share: fixtures from `../shared` and the staging of plugins.

pub mod fixture;
pub mod staging;
