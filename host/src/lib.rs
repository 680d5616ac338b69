//! The Gantry host: from a pipeline's text to finished cases, every stage loaded from a plugin.
//!
//! The modules are the life of a run: `pipeline` (text → document) → `registry` (document → known stages) → `graph`
//! (stages → typed graph) → `plan` (graph → order of work) → `engine` (plan → finished cases), with `series` at both ends
//! and `builtin` for the sources and sinks that are always there. `diagnostic`, `identity`, `machine` and `series` are
//! leaves; each of the others uses only what stands before it: pipeline, registry, graph, plan, engine, builtin, cli. The
//! built-in stages stand behind the engine because they share what it says of an edge; `cli` hands them to its workers.
#![deny(unsafe_code)]

pub mod builtin;
pub mod cli;
pub mod diagnostic;
pub mod engine;
pub mod graph;
pub mod identity;
pub mod machine;
pub mod pipeline;
pub mod plan;
pub mod registry;
pub mod series;
