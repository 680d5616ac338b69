//! The typed graph: stages connected, parameters complete, caps resolved and checked.
//!
//! [`build`] is pure: documents in, [`Graph`] and diagnostics out. Every error is reported at once; a failed edge gives
//! unknown caps, which match everything, so that one mistake is one diagnostic.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value as Json};

use crate::pipeline::Select;
use crate::registry::{CheckpointRef, StageEntry};

mod advice;
mod build;
mod connect;
mod digest;
mod draft;
pub mod draw;
mod matching;
mod order;
pub mod pins;
mod policy;
mod precision;
mod resolve;
mod value;

pub use build::build;

/// A checked pipeline.
#[derive(Debug, Clone)]
pub struct Graph {
    /// The pipeline's name.
    pub name: String,
    /// Nodes in topological order; document order where that is free.
    pub nodes: Vec<Node>,
    /// Edges that can only be checked when a case is open.
    pub undecided: Vec<Undecided>,
}

/// An edge that can only be checked when a case is open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Undecided {
    /// Giving node.
    pub from: usize,
    /// Its output.
    pub output: usize,
    /// Receiving node.
    pub to: usize,
    /// Its input, an index in [`Node::inputs`].
    pub input: usize,
    /// The keys of caps not decided.
    pub keys: Vec<String>,
}

/// A node.
#[derive(Debug, Clone)]
pub struct Node {
    /// Its id in the pipeline.
    pub id: String,
    /// The stage.
    pub entry: Arc<StageEntry>,
    /// Every parameter, defaults filled in, floats as floats.
    pub params: Map<String, Json>,
    /// Checkpoint parameter -> checkpoint.
    pub checkpoints: BTreeMap<String, Arc<CheckpointRef>>,
    /// `select` of a source.
    pub select: Option<Select>,
    /// Grids promised by the pipeline, to be proved in every case.
    pub asserts: Vec<Assert>,
    /// Inputs in manifest order; those whose `when` is false are left out.
    pub inputs: Vec<Input>,
    /// Outputs in manifest order; those whose `when` is false are left out.
    pub outputs: Vec<Output>,
}

/// A promise that an output lies on the grid of another node's output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assert {
    /// Index in [`Node::outputs`] of the promising node.
    pub output: usize,
    /// The other node.
    pub node: usize,
    /// Its output, an index in its [`Node::outputs`].
    pub of: usize,
    /// The element of that output.
    pub element: Option<usize>,
}

/// An input port of a node.
#[derive(Debug, Clone)]
pub struct Input {
    /// Its name.
    pub port: String,
    /// Index in the stage's `inputs`.
    pub spec: usize,
    /// What arrives, as far as all links agree, over what is demanded: the caps a stage is shown in `prepare`.
    pub caps: Json,
    /// What is connected; none for an unconnected optional port.
    pub links: Vec<Link>,
}

/// A connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Element name; decimal index for `many`; empty otherwise.
    pub name: String,
    /// The giving node, an index in [`Graph::nodes`].
    pub node: usize,
    /// Its output, an index in its [`Node::outputs`].
    pub output: usize,
    /// The element of an output that gives a list; `None` with a list: all of it, of a length only a case decides.
    pub element: Option<usize>,
}

/// An output port of a node.
#[derive(Debug, Clone)]
pub struct Output {
    /// Its name.
    pub port: String,
    /// Index in the stage's `outputs`.
    pub spec: usize,
    /// The offer (where the elements differ: what they have in common); a key not known before a case is open is
    /// `"dynamic"`.
    pub caps: Json,
    /// The grid, where all elements share one.
    pub grid: Option<GridToken>,
    /// True where something reads it.
    pub read: bool,
    /// How many things it gives; 0 where only a case decides (`each` then holds one example).
    pub elements: usize,
    /// Each of them.
    pub each: Vec<Element>,
    /// True where a case may lack it.
    pub may_be_absent: bool,
}

/// One thing an output gives.
#[derive(Debug, Clone, PartialEq)]
pub struct Element {
    /// Its offer.
    pub caps: Json,
    /// Its grid.
    pub grid: Option<GridToken>,
}

/// The identity of a grid before any image is open: `node.port`, with `/node.port` for each part taken of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GridToken(pub String);

impl GridToken {
    /// The lattice: the token up to the first `/`. Grids of one lattice are whole voxels apart.
    pub fn lattice(&self) -> &str {
        self.0.split('/').next().unwrap_or_default()
    }
}
