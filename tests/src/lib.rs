//! What the whole-system tests share: fixtures from `../shared` and the staging of plugins.
#![forbid(unsafe_code)]

pub mod fixture;
pub mod freshness;
pub mod launch;
pub mod oracle;
pub mod recipe;
pub mod small_ct;
pub mod staging;
pub mod toys;
