//! What flows along one edge for one case.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, RwLock, RwLockReadGuard, RwLockWriteGuard};

use gantry_abi::v1::{self, Map};

use super::boundary::{GeometryCell, Views};
use super::buffers::Buffer;

/// A map that changes nothing and holds everywhere.
pub const IDENTITY: Map = Map { scale: 1.0, offset: 0.0, lo: f64::NEG_INFINITY, hi: f64::INFINITY };

/// Names with their C views.
#[derive(Default)]
pub struct Names(Views<v1::Str>);

impl Names {
    /// From owned names.
    pub fn new(names: impl IntoIterator<Item = String>) -> Names {
        Names(Views::names(names))
    }

    /// As C texts.
    pub fn views(&self) -> &[v1::Str] {
        self.0.as_slice()
    }

    /// As texts.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.texts()
    }
}

/// One row of a label table.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct LabelRow {
    /// Voxel value.
    pub value: i64,
    /// Name.
    pub name: String,
    /// Coding scheme, or empty.
    pub scheme: String,
    /// Code, or empty.
    pub code: String,
    /// `0xRRGGBBAA`.
    pub rgba: u32,
}

/// A label table with its C view.
#[derive(Default)]
pub struct LabelTable {
    /// Rows.
    pub rows: Vec<LabelRow>,
    views: Views<v1::Label>,
}

impl LabelTable {
    /// From owned rows.
    pub fn new(rows: Vec<LabelRow>) -> LabelTable {
        let views =
            Views::labels(rows.iter().map(|r| (r.value, [&r.name, &r.scheme, &r.code].map(String::as_str), r.rgba)));
        LabelTable { rows, views }
    }

    /// A table {0 background, 1 name}.
    pub fn binary(name: &str) -> LabelTable {
        let row = |value, name: &str, rgba| LabelRow {
            value,
            name: name.to_owned(),
            scheme: String::new(),
            code: String::new(),
            rgba,
        };
        LabelTable::new(vec![row(0, "background", 0), row(1, name, 0xff00_00ff)])
    }

    /// As C rows.
    pub fn views(&self) -> &[v1::Label] {
        self.views.as_slice()
    }

    /// Whether a voxel value is in the table; an empty table permits all.
    pub fn permits(&self, value: i64) -> bool {
        self.rows.is_empty() || self.rows.iter().any(|r| r.value == value)
    }
}

/// Voxels of a slice that are no anatomy.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Padding {
    /// Slice.
    pub z: usize,
    /// Runs of equal padding, in row order.
    pub runs: Vec<PaddingRun>,
}

/// Neighbouring padding pixels with one value.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct PaddingRun {
    /// First pixel, counted row by row.
    pub first: usize,
    /// How many.
    pub count: usize,
    /// Stored value.
    pub stored: i32,
    /// The same in physical units.
    pub physical: f32,
}

/// What follows pixels along `like` besides caps and maps: headers of each slice and padding.
#[derive(Default)]
pub struct Companions {
    /// One dataset a slice, Explicit VR Little Endian without pixels, in slice order.
    pub headers: Mutex<Vec<Arc<[u8]>>>,
    /// Padding by slice.
    pub padding: Arc<Mutex<BTreeMap<usize, Padding>>>,
}

/// A part of an edge that calls publish while others read it: the nodes of a segment may work on different slices at once.
#[derive(Default)]
pub struct Shared<T>(RwLock<T>);

impl<T> Shared<T> {
    /// Holding `value`.
    pub fn new(value: T) -> Shared<T> {
        Shared(RwLock::new(value))
    }

    /// As it is now. Hold one at a time.
    pub fn read(&self) -> RwLockReadGuard<'_, T> {
        self.0.read().unwrap_or_else(|e| e.into_inner())
    }

    /// To change it.
    pub fn write(&self) -> RwLockWriteGuard<'_, T> {
        self.0.write().unwrap_or_else(|e| e.into_inner())
    }
}

impl<T: Clone> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Shared::new(self.read().clone())
    }
}

/// The value of one output element for one case.
#[derive(Clone)]
pub struct Edge {
    /// One of `gantry_abi::v1::kind`; ABSENT where the case has no such output.
    pub kind: u32,
    /// Voxel type.
    pub dtype: u32,
    /// `[C, Z, Y, X]` of the whole volume.
    pub shape: [usize; 4],
    /// Geometry.
    pub geometry: Arc<GeometryCell>,
    /// Channel names.
    pub channels: Arc<Names>,
    /// Label table.
    pub labels: Arc<LabelTable>,
    /// Maps, `[C][Z]`.
    pub maps: Shared<Vec<Map>>,
    /// Headers and padding.
    pub companions: Arc<Companions>,
    /// The whole volume, where the plan keeps it.
    pub volume: Option<Arc<Buffer>>,
    /// Text of a record or table.
    pub bytes: Shared<Arc<[u8]>>,
    /// Files: name and bytes.
    pub files: Shared<Vec<(String, Arc<[u8]>)>>,
}

impl Edge {
    /// Bytes of the whole volume.
    pub fn byte_len(&self) -> usize {
        self.shape.iter().product::<usize>() * v1::dtype::size(self.dtype)
    }
}
