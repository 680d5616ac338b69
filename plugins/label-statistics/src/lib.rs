//! The stage `label-statistics`.
#![forbid(unsafe_code)]
