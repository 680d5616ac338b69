//! The pipeline document: text to [`Document`], with the place of everything in it.
//!
//! Knows TOML and the shape of the document, and no stage: what a stage id or a parameter means is the business of
//! `registry` and `graph`. [`spanned`] is the TOML reader that every other document of the host uses too.

pub mod document;
pub mod reference;
pub mod select;
pub mod spanned;
mod tests_section;

pub use document::{AssertDoc, CaseName, Document, FromDoc, FromForm, NodeDoc, OutputDoc, Override};
pub use reference::Reference;
pub use select::Select;
pub use tests_section::{ExpectDoc, TestDoc};
