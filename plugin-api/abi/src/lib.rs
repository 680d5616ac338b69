//! The stage ABI of Gantry, version 1: frozen `#[repr(C)]` structs and the same contract as a C header.
//!
//! This crate is data layout and nothing else: no allocation, no I/O, no policy. A host and a plugin that were built years
//! apart, by different compilers or in different languages, agree on what is written here.
//!
//! * [`v1`] mirrors `include/gantry_v1.h`, member by member; tests pin every size and offset, and a hash of both files.
//! * [`section`] is the read-only ELF section a library carries, readable before the library is opened.
//! * [`layout`] is the extension through which two Rust sides compare their `abi_stable` type layouts.
//!
//! The version of this crate is the version of the ABI. A change of a v1 struct is not a new minor version: it is ABI 2.

pub mod layout;
pub mod section;
pub mod v1;

/// The text of the C header, for programs that want to unpack it beside a plugin.
pub const C_HEADER: &str = include_str!("../include/gantry_v1.h");
