//! Sizing a node's outputs when a case is opened: what the caps and the inputs already decide, and what `begin` said.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use gantry_abi::v1::{Map, dtype, kind};
use gantry_plugin::Geometry;

use super::boundary::{GeometryCell, ItemParts, MapsRef, Opened};
use super::edge::{Companions, Edge, IDENTITY, LabelRow, LabelTable, Names, Shared};
use super::failure::Failure;
use crate::graph::{Link, Node};
use crate::registry::caps::Term;
use crate::registry::manifest::Halo;
use crate::registry::{Count, PortSpec, View};

/// Two grids that the pipeline asserted to be the same may differ by this much at their corners.
pub const ASSERTED_MM: f64 = 1e-4;
/// Voxels of one volume at most: beyond it a size is a mistake, not a volume.
const VOXEL_LIMIT: usize = 1 << 36;

static TOKENS: AtomicU64 = AtomicU64::new(1);

/// A geometry with fresh tokens where the stage left them 0.
pub fn tokened(mut geometry: Geometry) -> Geometry {
    let fresh = TOKENS.fetch_add(1, Ordering::Relaxed);
    if geometry.grid == 0 {
        geometry.grid = fresh;
    }
    if geometry.lattice == 0 {
        geometry.lattice = fresh;
    }
    geometry
}

/// The edges of a node's outputs before `begin`, `[output][element]`. Outputs that nobody reads and that may be missing
/// have no elements, so they are not computed.
///
/// # Errors
/// If caps of the graph cannot be understood, which is a bug of `check`.
pub fn outputs<'e>(node: &Node, find: impl Fn(&Link) -> Option<&'e Edge>) -> Result<Vec<Vec<Edge>>, Failure> {
    let input = |name: &str, element: Option<usize>| {
        let links = &node.inputs.iter().find(|i| i.port == name)?.links;
        find(links.get(element.unwrap_or(0))?)
    };
    let mut all = Vec::with_capacity(node.outputs.len());
    for output in &node.outputs {
        let spec = &node.entry.spec.outputs[output.spec];
        let wanted = output.read || !matches!(spec.count, Count::Optional);
        let count = match &spec.count {
            _ if !wanted => 0,
            Count::One | Count::Optional => 1,
            Count::Like(port) => node.inputs.iter().find(|i| &i.port == port).map_or(0, |i| i.links.len()),
            _ if spec.kind() == Some("file") => 1,
            _ => output.elements,
        };
        let edges = (0..count).map(|e| {
            let caps = &output.each.get(e).unwrap_or_else(|| &output.each[0]).caps;
            let of = |port: &str| match &spec.count {
                Count::Like(p) if p == port => input(port, Some(e)),
                _ => input(port, None),
            };
            edge(spec, caps, of).map_err(|why| Failure::host("internal", format!("output `{}`: {why}", output.port)))
        });
        all.push(edges.collect::<Result<_, _>>()?);
    }
    Ok(all)
}
fn edge<'e>(
    spec: &PortSpec,
    caps: &serde_json::Value,
    input: impl Fn(&str) -> Option<&'e Edge>,
) -> Result<Edge, String> {
    let item_kind = match caps["kind"].as_str() {
        Some("image") => kind::IMAGE,
        Some("labels") => kind::LABELS,
        Some("headers") => kind::HEADERS,
        Some("record") => kind::RECORD,
        Some("table") => kind::TABLE,
        Some("file") => kind::FILE,
        other => return Err(format!("kind {other:?}")),
    };
    let like = spec.caps.like.as_ref().and_then(|(port, _)| input(port));
    let grid = match spec.caps.keys.get("grid").map(|c| &c.term) {
        Some(Term::SameGrid(port)) => input(port),
        Some(_) => None,
        None => like,
    };
    let names = |key: &str| -> Option<Vec<String>> {
        caps[key].as_array().map(|a| a.iter().filter_map(|n| n.as_str().map(str::to_owned)).collect())
    };
    let channels = names("channels").map(Names::new).map(Arc::new).or_else(|| like.map(|l| Arc::clone(&l.channels)));
    let channels = channels.unwrap_or_else(|| Arc::new(Names::new([spec.name.clone()])));
    let labels = match item_kind {
        kind::LABELS => Arc::new(match names("labels") {
            // What is carried along keeps its values, codes and colours; caps know names alone.
            Some(names) if !names.is_empty() => match like.map(|l| &l.labels.rows) {
                Some(rows) if named(rows).eq(names.iter().map(String::as_str)) => LabelTable::new(rows.clone()),
                _ => table(&names),
            },
            _ => like.map_or_else(|| LabelTable::binary(&spec.name), |l| LabelTable::new(l.labels.rows.clone())),
        }),
        _ => Arc::default(),
    };
    let voxel = caps["dtype"].as_str().and_then(dtype::parse).or(like.map(|l| l.dtype)).unwrap_or(0);
    // A part of a grid lies on its lattice.
    let lattice = match spec.caps.keys.get("grid").map(|c| &c.term) {
        Some(Term::SubGrid(port)) => input(port).map_or(Ok(0), |i| i.geometry.get().map(|g| g.lattice))?,
        _ => 0,
    };
    let blank = || Arc::new(GeometryCell::new(&Geometry { lattice, ..Geometry::default() }));
    let geometry = grid.map_or_else(blank, |g| Arc::clone(&g.geometry));
    let [_, z, y, x] = grid.map_or([0; 4], |g| g.shape);
    let c = channels.iter().count();
    let maps = match like {
        Some(l) => Some(l.maps.read().clone()).filter(|maps| maps.len() == c * z),
        None => None,
    };
    let maps = Shared::new(maps.unwrap_or_else(|| vec![IDENTITY; c * z]));
    // Headers and padding follow `like`, else the grid, but never onto another grid, where they would be another slice's; a
    // port that shows headers gives its own.
    let carrier = like.or(grid).filter(|from| !spec.size_from_data && grid.is_some_and(|g| one_grid(from, g)));
    let companions = match (carrier, spec.view) {
        _ if item_kind == kind::HEADERS => Arc::default(),
        (Some(from), View::Pixels) => Arc::clone(&from.companions),
        (Some(from), _) => {
            Arc::new(Companions { padding: Arc::clone(&from.companions.padding), ..Companions::default() })
        }
        (None, _) => Arc::default(),
    };
    // A port that shows only headers leaves the pixels as they are: the output *is* the input's volume.
    let volume = (spec.view == View::Headers).then(|| like.and_then(|l| l.volume.clone())).flatten();
    Ok(Edge {
        kind: item_kind,
        dtype: voxel,
        shape: [c, z, y, x],
        geometry,
        channels,
        labels,
        maps,
        companions,
        volume,
        bytes: Shared::default(),
        files: Shared::default(),
    })
}

/// The names of a label table, without the background.
fn named(rows: &[LabelRow]) -> impl Iterator<Item = &str> {
    rows.iter().filter(|r| r.value != 0).map(|r| r.name.as_str())
}

/// Voxel value 0: in every label map, whether its stage names it or not.
fn background() -> LabelRow {
    LabelRow { value: 0, name: "background".to_owned(), scheme: String::new(), code: String::new(), rgba: 0 }
}

/// A label table from names: values 1, 2, … and 0 for the background.
fn table(names: &[String]) -> LabelTable {
    const PALETTE: [u32; 6] =
        [0xe6_4b_35_ff, 0x4d_bb_d5_ff, 0x00_a0_87_ff, 0xf3_9b_7f_ff, 0x84_91_b4_ff, 0x91_d1_c2_ff];
    let row = |value: i64, name: &str, rgba| LabelRow {
        value,
        name: name.to_owned(),
        scheme: String::new(),
        code: String::new(),
        rgba,
    };
    let named = names.iter().enumerate().map(|(i, n)| row(i as i64 + 1, n, PALETTE[i % PALETTE.len()]));
    LabelTable::new(std::iter::once(background()).chain(named).collect())
}

/// Whether what a case brought meets a demand that `check` could not decide.
///
/// # Errors
/// Expected and found, in words.
pub fn decided(edge: &Edge, demand: &PortSpec, keys: &[String]) -> Result<(), String> {
    for key in keys {
        let wanted: Vec<&str> = match demand.caps.keys.get(key).map(|c| &c.term) {
            Some(Term::Literal(serde_json::Value::String(text))) => vec![text],
            Some(Term::List(_)) => demand.caps.literal_texts(key),
            _ => continue,
        };
        let (found, met): (Vec<String>, bool) = match key.as_str() {
            "dtype" => {
                let found = dtype::name(edge.dtype).unwrap_or("unknown");
                (vec![found.to_owned()], wanted.contains(&found))
            }
            "channels" => {
                let found: Vec<String> = edge.channels.iter().map(str::to_owned).collect();
                let met = found.iter().map(String::as_str).eq(wanted.iter().copied());
                (found, met)
            }
            "labels" => {
                let found: Vec<String> = edge.labels.rows.iter().map(|r| r.name.clone()).collect();
                let met = wanted.iter().all(|w| found.iter().any(|f| f == w));
                (found, met)
            }
            _ => continue,
        };
        if !met {
            return Err(format!("`{key}` must be {}, found {}", wanted.join(", "), found.join(", ")));
        }
    }
    Ok(())
}

/// An item's parts with everything empty.
pub fn bare<'a>(port: u32, item_kind: u32) -> ItemParts<'a> {
    ItemParts {
        port,
        kind: item_kind,
        name: "",
        dtype: 0,
        shape: [0; 4],
        z0: 0,
        geometry: None,
        new_grid: false,
        channels: &[],
        maps: MapsRef::None,
        labels: &[],
        bytes: &[],
        parts: &[],
    }
}

/// A cell of its own with the same geometry, for a call to write into.
///
/// # Errors
/// In words, if the geometry is nonsense.
pub fn copied(cell: &GeometryCell) -> Result<GeometryCell, String> {
    Ok(GeometryCell::new(&cell.get()?))
}

/// Whether two maps are one, bit by bit.
pub fn same_map(a: &Map, b: &Map) -> bool {
    let bits = |m: &Map| [m.scale, m.offset, m.lo, m.hi].map(f64::to_bits);
    bits(a) == bits(b)
}

/// Whether two edges lie on one grid: by token, else numerically.
fn one_grid(a: &Edge, b: &Edge) -> bool {
    Arc::ptr_eq(&a.geometry, &b.geometry) || same_grid(a, b, ASSERTED_MM).is_ok()
}

/// An out item of `begin`: shape and geometry (which the stage may write), no voxels.
pub fn item<'a>(port: u32, edge: &'a Edge, geometry: &'a GeometryCell, name: &'a str) -> ItemParts<'a> {
    ItemParts {
        name,
        dtype: edge.dtype,
        shape: edge.shape,
        geometry: Some(geometry),
        // An inherited grid has its token already.
        new_grid: edge.geometry.get().is_ok_and(|g| g.grid == 0),
        channels: edge.channels.views(),
        labels: edge.labels.views(),
        ..bare(port, edge.kind)
    }
}

/// The name of an element: its decimal index on ports that give several, else empty.
pub fn element_name(node: &Node, output: usize, element: usize) -> String {
    match node.entry.spec.outputs[node.outputs[output].spec].count {
        Count::One | Count::Optional => String::new(),
        _ => element.to_string(),
    }
}

/// The halo a slab stage declares, in slices.
pub fn halo(halo: &Halo, params: &serde_json::Map<String, serde_json::Value>) -> u32 {
    match halo {
        Halo::Slices(n) | Halo::Max(n) => *n,
        Halo::Param(name) => params.get(name).and_then(|v| v.as_u64()).unwrap_or(0) as u32,
    }
}

/// Takes over what `begin` left in an output, and refuses what cannot be a volume.
///
/// # Errors
/// `bad-geometry` and `bad-output` (a voxel type, channels or labels that break the caps' promise), before anything is
/// allocated.
pub fn settle(
    node: &Node,
    output: usize,
    edge: &mut Edge,
    opened: Opened,
    written: &GeometryCell,
) -> Result<(), Failure> {
    let port = &node.outputs[output].port;
    let spec = &node.entry.spec.outputs[node.outputs[output].spec];
    let wrong = |code: &str, text: String| Failure::host(code, format!("output `{port}`: {text}"));
    if opened.absent {
        edge.kind = kind::ABSENT;
        return Ok(());
    }
    if spec.size_from_data {
        return Ok(());
    }
    if dtype::name(opened.dtype).is_none() {
        return Err(wrong("bad-output", "its voxel type is neither in the caps nor set in begin".into()));
    }
    if let Some(declared) = node.outputs[output].caps["dtype"].as_str().and_then(dtype::parse)
        && declared != opened.dtype
    {
        return Err(wrong("bad-output", "begin changed the voxel type that the caps promise".into()));
    }
    edge.dtype = opened.dtype;
    if let Some(names) = opened.channel_names.filter(|n| !n.is_empty()) {
        let same = edge.channels.iter().eq(names.iter().map(String::as_str));
        if !same && node.outputs[output].caps["channels"].is_array() {
            return Err(wrong("bad-output", "begin changed the channels that the caps promise".into()));
        }
        if !same {
            edge.channels = Arc::new(Names::new(names));
        }
    }
    if edge.kind == kind::LABELS && !opened.labels.is_empty() {
        let rows = opened.labels.into_iter();
        let mut rows: Vec<LabelRow> =
            rows.map(|(value, name, scheme, code, rgba)| LabelRow { value, name, scheme, code, rgba }).collect();
        if rows.iter().all(|r| r.value != 0) {
            rows.insert(0, background());
        }
        table_kept(&rows, &node.outputs[output].caps["labels"]).map_err(|why| wrong("bad-output", why))?;
        edge.labels = Arc::new(LabelTable::new(rows));
    }
    let geometry = written.get().map_err(|why| wrong("bad-geometry", why))?;
    sound(&geometry).map_err(|why| wrong("bad-geometry", why))?;
    let own = match spec.caps.keys.get("grid").map(|c| &c.term) {
        Some(term) => matches!(term, Term::NewGrid | Term::SubGrid(_)),
        None => spec.caps.like.is_none(),
    };
    let before = edge.geometry.get().map_err(|why| wrong("bad-geometry", why))?;
    let size = geometry.size;
    if own {
        // Tokens are the host's to give: one that a stage wrote could claim another's grid.
        let geometry = tokened(Geometry { grid: 0, lattice: before.lattice, ..geometry });
        edge.geometry = Arc::new(GeometryCell::new(&geometry));
    } else if (geometry.size, geometry.affine, &geometry.slice_origins_mm)
        != (before.size, before.affine, &before.slice_origins_mm)
    {
        return Err(wrong("bad-geometry", "begin changed a grid that the caps promise to be an input's".into()));
    }
    let [z, y, x] = size;
    let c = edge.channels.iter().count();
    edge.shape = [c, z, y, x];
    let mut maps = edge.maps.write();
    if maps.len() != c * z {
        *maps = vec![IDENTITY; c * z];
    }
    drop(maps);
    Ok(())
}

/// Refuses a label table that is ambiguous, or that has other names than the caps promise. Values are the stage's: caps
/// promise names alone. The background (value 0) may have any name.
///
/// # Errors
/// In words.
fn table_kept(rows: &[LabelRow], promised: &serde_json::Value) -> Result<(), String> {
    let mut values = BTreeSet::new();
    if let Some(twice) = rows.iter().find(|r| !values.insert(r.value)) {
        return Err(format!("its label table has the value {} twice", twice.value));
    }
    let mut found = BTreeSet::new();
    for row in rows.iter().filter(|r| r.value != 0) {
        if row.name.is_empty() {
            return Err(format!("its label table has no name for the value {}", row.value));
        }
        if !found.insert(row.name.as_str()) {
            return Err(format!("its label table has the name of the value {} twice", row.value));
        }
    }
    let promised: BTreeSet<&str> = promised.as_array().into_iter().flatten().filter_map(|n| n.as_str()).collect();
    // Where the caps name the background as a label, it is one.
    found.extend(rows.iter().filter(|r| r.value == 0 && promised.contains(r.name.as_str())).map(|r| r.name.as_str()));
    if promised.is_empty() || promised == found {
        return Ok(());
    }
    // Names out of the caps are the pipeline's; what a stage wrote into its table is not repeated.
    let missing: Vec<String> = promised.difference(&found).take(8).map(|n| format!("`{n}`")).collect();
    let more = found.difference(&promised).count();
    Err(match (missing.join(", ").as_str(), more) {
        (missing, 0) => format!("its label table lacks {missing}, which the caps promise"),
        ("", more) => format!("its label table has {more} names that the caps do not promise"),
        (missing, more) => format!("its label table has {more} other names where the caps promise {missing}"),
    })
}

/// Refuses a geometry no volume can have.
///
/// # Errors
/// In words.
pub fn sound(geometry: &Geometry) -> Result<(), String> {
    let [z, y, x] = geometry.size;
    if z == 0 || y == 0 || x == 0 {
        return Err(format!("a grid of {z} x {y} x {x} (z, y, x) voxels"));
    }
    if z.checked_mul(y).and_then(|n| n.checked_mul(x)).is_none_or(|n| n > VOXEL_LIMIT) {
        return Err(format!("a grid of {z} x {y} x {x} (z, y, x) voxels is beyond any scan"));
    }
    let a = &geometry.affine;
    let origins = geometry.slice_origins_mm.iter().flatten().flatten();
    if a.iter().chain(origins).any(|v| !v.is_finite()) {
        return Err("an affine that is not finite".to_owned());
    }
    let determinant =
        a[0] * (a[5] * a[10] - a[6] * a[9]) - a[1] * (a[4] * a[10] - a[6] * a[8]) + a[2] * (a[4] * a[9] - a[5] * a[8]);
    if determinant.abs() < 1e-9 {
        return Err("an affine that is singular".to_owned());
    }
    Ok(())
}

/// Whether two edges lie on one grid, numerically.
///
/// # Errors
/// The difference, in words.
pub fn same_grid(a: &Edge, b: &Edge, tolerance_mm: f64) -> Result<(), String> {
    let (a, b) = (a.geometry.get()?, b.geometry.get()?);
    if a.size != b.size {
        return Err(format!("it has {:?} (z, y, x) voxels, not {:?}", a.size, b.size));
    }
    let at = |g: &Geometry, corner: [f64; 3]| -> [f64; 3] {
        std::array::from_fn(|i| {
            let row = &g.affine[4 * i..4 * i + 4];
            row[0] * corner[0] + row[1] * corner[1] + row[2] * corner[2] + row[3]
        })
    };
    let last = a.size.map(|n| n.saturating_sub(1) as f64);
    let mut worst = 0f64;
    for i in 0..8 {
        let pick = |bit: usize, n: f64| if i >> bit & 1 == 1 { n } else { 0.0 };
        let corner = [pick(0, last[2]), pick(1, last[1]), pick(2, last[0])];
        let (p, q) = (at(&a, corner), at(&b, corner));
        worst = worst.max((0..3).map(|k| (p[k] - q[k]).powi(2)).sum::<f64>().sqrt());
    }
    if worst > tolerance_mm {
        return Err(format!("its corners are up to {worst:.4} mm away (tolerance {tolerance_mm} mm)"));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
