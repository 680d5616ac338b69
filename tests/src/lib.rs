//! What the whole-system tests share: fixtures from `../shared`, the staging of plugins, and plugins built from C.
#![forbid(unsafe_code)]

pub mod c_plugin;
pub mod fixture;
pub mod freshness;
pub mod launch;
pub mod oracle;
pub mod own_mask;
pub mod recipe;
pub mod small_ct;
pub mod staging;
pub mod toys;
