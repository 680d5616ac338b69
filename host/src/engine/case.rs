//! One case through the plan: segment by segment, from `begin` of the sources to the files of the sinks. How the batches
//! of a fused segment are driven stands in `lanes`.

mod lanes;
mod memory;
mod removed;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use gantry_abi::v1::{self, dtype, kind, status};

use super::boundary::{GeometryCell, ItemParts, Items, MapsRef, Window};
use super::buffers::Buffer;
use super::edge::{Edge, Shared};
use super::failure::Failure;
use super::kernels::Kernels;
use super::node::{CallResult, CaseContext, Emission, Grown, LiveNode, NodeCall};
use super::opening;
use super::scrutiny;
use super::sink::SinkFiles;
use crate::graph::{Link, Node};
use crate::plan::Plan;
use crate::registry::{Count, View};

/// What a finished case measured.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct NodeFigures {
    /// Seconds spent in calls of the node.
    pub seconds: f64,
    /// Bytes of voxel buffers alive at the node's worst moment.
    pub peak_bytes: u64,
    /// Bytes the stage said it would hold of its own, weights included, when it saw the case's geometry.
    #[serde(default)]
    pub own_bytes: u64,
    /// Slices the node walked; 0 where it walks none.
    #[serde(default)]
    pub slices: u64,
    /// Why the node produced nothing, where a case may lack its output.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub skipped: Option<String>,
    /// What the node said it computes with.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub kernels: Option<Kernels>,
}

/// A case on its way.
pub struct CaseRun<'a> {
    plan: &'a Plan,
    live: &'a [LiveNode],
    context: &'a CaseContext<'a>,
    pool: &'a rayon::ThreadPool,
    files: Arc<SinkFiles>,
    /// `[node][output][element]`; empty until the node is opened.
    edges: Vec<Vec<Vec<Edge>>>,
    /// Nodes whose `begin` was OK and whose `end` is owed.
    open: Vec<usize>,
    figures: Mutex<Vec<NodeFigures>>,
    /// The most that any segment so far was expected to bring the process to.
    expected_bytes: u64,
}

/// What a case leaves behind.
pub struct CaseDone {
    /// Its files, not yet synced.
    pub files: Arc<SinkFiles>,
    /// Figures by node.
    pub nodes: BTreeMap<String, NodeFigures>,
    /// The memory it was expected to need at its worst moment, bytes of the whole process.
    pub expected_bytes: u64,
}

/// Node, output, element.
type Place = (usize, usize, usize);

/// The slices that a segment walks in one step, and the buffers of edges that live for one step only.
#[derive(Clone, Copy)]
struct Batch<'b> {
    buffers: &'b BTreeMap<Place, Arc<Buffer>>,
    z0: usize,
    /// Slices that the buffers have room for.
    depth: usize,
}

/// The batch of calls outside fused segments: every edge is a volume.
static WHOLE: Batch<'static> = Batch { buffers: &BTreeMap::new(), z0: 0, depth: 0 };

/// The slices of one call: produced, and read (wider by the halo of a slab).
#[derive(Debug, Clone, Copy)]
struct Span {
    z0: usize,
    len: usize,
    below: usize,
    above: usize,
}

/// An input item and what it borrows for one call.
struct Held<'a> {
    port: u32,
    name: Cow<'a, str>,
    edge: &'a Edge,
    place: Place,
    view: View,
    z0: usize,
    len: usize,
    maps: Vec<v1::Map>,
    bytes: Vec<u8>,
    parts: Vec<u64>,
    /// Text of a record or table, as it is now.
    text: Arc<[u8]>,
    /// Files that have arrived so far.
    files: Vec<(String, Arc<[u8]>)>,
}

/// What one call of `process` gave.
struct Produced {
    maps: Vec<(usize, usize, Vec<v1::Map>)>,
    result: CallResult,
}

impl<'a> CaseRun<'a> {
    /// A case whose files go to `staging`.
    ///
    /// # Errors
    /// An error of the environment.
    pub fn new(
        plan: &'a Plan,
        live: &'a [LiveNode],
        context: &'a CaseContext<'a>,
        pool: &'a rayon::ThreadPool,
        staging: &Path,
    ) -> Result<CaseRun<'a>, Failure> {
        let count = plan.graph.nodes.len();
        Ok(CaseRun {
            plan,
            live,
            context,
            pool,
            files: Arc::new(SinkFiles::new(staging)?),
            edges: vec![Vec::new(); count],
            open: Vec::new(),
            figures: Mutex::new(vec![NodeFigures::default(); count]),
            expected_bytes: 0,
        })
    }

    /// Runs every segment.
    ///
    /// # Errors
    /// The first failure; every opened stage has then been told that the case is abandoned.
    pub fn run(mut self) -> Result<CaseDone, Failure> {
        for s in 0..self.plan.segments.len() {
            if let Err(failure) = self.segment(s) {
                self.note_lost();
                self.abandon();
                return Err(failure);
            }
        }
        self.context.pulse.enter(0, super::pulse::IDLE);
        let figures = self.figures.into_inner().unwrap_or_else(|e| e.into_inner());
        let nodes = self.plan.graph.nodes.iter().zip(figures).map(|(n, f)| (n.id.clone(), f)).collect();
        Ok(CaseDone { files: self.files, nodes, expected_bytes: self.expected_bytes })
    }

    /// Refuses to go on where the run was interrupted.
    fn go_on(&self) -> Result<(), Failure> {
        match self.context.cancel.load(std::sync::atomic::Ordering::Relaxed) {
            true => {
                let said = ("cancelled".into(), "the run was interrupted".into());
                Err(Failure::from_status(status::CANCELLED, Some(said)))
            }
            false => Ok(()),
        }
    }

    /// Changes the figures of a node.
    fn note(&self, n: usize, change: impl FnOnce(&mut NodeFigures)) {
        change(&mut self.figures.lock().unwrap_or_else(|e| e.into_inner())[n]);
    }

    fn segment(&mut self, s: usize) -> Result<(), Failure> {
        self.go_on()?;
        let segment = &self.plan.segments[s];
        let mut halo = (0, 0);
        for &n in &segment.nodes {
            halo = self.begin(n)?;
        }
        self.expect_memory(segment)?;
        if segment.fused {
            self.slices(segment)?;
        } else {
            let n = segment.nodes[0];
            self.volumes_for(n)?;
            match self.node(n).entry.spec.scope {
                crate::registry::Scope::Slab => self.slabs(n, halo)?,
                _ => self.whole(n)?,
            }
        }
        for &n in &segment.nodes {
            self.end(n)?;
        }
        for n in 0..self.edges.len() {
            if self.plan.last_read[n] <= s {
                for edge in self.edges[n].iter_mut().flatten() {
                    edge.volume = None;
                }
            }
        }
        Ok(())
    }

    fn node(&self, n: usize) -> &'a Node {
        &self.plan.graph.nodes[n]
    }

    fn edge(&self, link: &Link) -> Option<(&Edge, Place)> {
        let place = (link.node, link.output, link.element.unwrap_or(0));
        let edge = self.edges.get(place.0)?.get(place.1)?.get(place.2)?;
        (edge.kind != kind::ABSENT).then_some((edge, place))
    }

    /// What a link brings: one edge, or every element of a list, named by its index.
    fn each<'h>(&'h self, link: &'h Link) -> Vec<(Cow<'h, str>, &'h Edge, Place)> {
        let elements = self.edges.get(link.node).and_then(|n| n.get(link.output)).map_or(&[][..], Vec::as_slice);
        let whole_list = link.element.is_none() && elements.len() > 1;
        let chosen =
            if whole_list { 0..elements.len() } else { link.element.unwrap_or(0)..link.element.unwrap_or(0) + 1 };
        chosen
            .filter_map(|e| {
                let name = if whole_list { Cow::Owned(e.to_string()) } else { Cow::Borrowed(link.name.as_str()) };
                Some((name, elements.get(e)?, (link.node, link.output, e)))
            })
            .filter(|(_, edge, _)| edge.kind != kind::ABSENT)
            .collect()
    }

    fn arriving(&self, n: usize) -> Option<Arc<super::edge::Companions>> {
        let links = self.node(n).inputs.iter().flat_map(|i| &i.links);
        let images = links.filter_map(|l| self.edge(l)).filter(|(e, _)| e.kind == kind::IMAGE);
        images.map(|(e, _)| Arc::clone(&e.companions)).next()
    }

    fn call(&self, n: usize) -> NodeCall<'a> {
        let leaving = self.edges[n].iter().flatten().find(|e| e.kind == kind::IMAGE).map(|e| Arc::clone(&e.companions));
        NodeCall::new(self.node(n), &self.live[n], self.context, self.arriving(n), leaving, &self.files)
    }

    /// The inputs of a call; `span` is `None` in `begin` (whole volumes, no voxels) and in whole-volume calls.
    fn hold(&self, n: usize, span: Option<Span>) -> Result<Vec<Held<'_>>, Failure> {
        let node = self.node(n);
        let mut held = Vec::new();
        for (port, input) in node.inputs.iter().enumerate() {
            let spec = &node.entry.spec.inputs[input.spec];
            for link in &input.links {
                let found = self.each(link);
                if found.is_empty() && spec.count == Count::One {
                    let text = format!("input `{}` is absent in this case", input.port);
                    return Err(Failure::host("absent-input", text).at(&node.id));
                }
                for (name, edge, place) in found {
                    let depth = match edge.kind {
                        kind::HEADERS => edge.companions.headers.lock().unwrap_or_else(|e| e.into_inner()).len(),
                        _ => edge.shape[1],
                    };
                    let (z0, len) = match span {
                        None => (0, depth),
                        Some(s) => {
                            let z0 = s.z0.saturating_sub(s.below);
                            (z0, (s.z0 + s.len + s.above).min(depth) - z0)
                        }
                    };
                    let maps = part_of(&edge.maps.read(), edge.shape[0], depth, z0, len);
                    let (mut bytes, mut parts) = (Vec::new(), Vec::new());
                    if spec.sees_headers() {
                        let headers = edge.companions.headers.lock().unwrap_or_else(|e| e.into_inner());
                        if let Some(range) = headers.get(z0..z0 + len) {
                            parts.push(0);
                            for header in range {
                                bytes.extend_from_slice(header);
                                parts.push(bytes.len() as u64);
                            }
                        }
                    }
                    held.push(Held {
                        port: port as u32,
                        name,
                        edge,
                        place,
                        view: spec.view,
                        z0,
                        len,
                        maps,
                        bytes,
                        parts,
                        text: Arc::clone(&edge.bytes.read()),
                        files: edge.files.read().clone(),
                    });
                }
            }
        }
        Ok(held)
    }

    /// What a call is shown of its inputs: with the voxels of a batch, or without any.
    fn items<'h>(&'h self, held: &'h [Held<'h>], batch: Option<Batch<'h>>) -> Items<'h> {
        let mut items = Items::new();
        for h in held {
            let [c, _, y, x] = h.edge.shape;
            let pictured = matches!(h.edge.kind, kind::IMAGE | kind::LABELS);
            let parts = ItemParts {
                port: h.port,
                kind: h.edge.kind,
                name: &h.name,
                dtype: h.edge.dtype,
                shape: if pictured { [c, h.len, y, x] } else { [0; 4] },
                z0: h.z0,
                geometry: pictured.then_some(&*h.edge.geometry),
                new_grid: false,
                channels: h.edge.channels.views(),
                maps: MapsRef::Shared(&h.maps),
                labels: h.edge.labels.views(),
                bytes: if pictured || h.edge.kind == kind::HEADERS { &h.bytes } else { &h.text },
                parts: &h.parts,
            };
            if h.edge.kind == kind::FILE {
                for (name, bytes) in &h.files {
                    let file = ItemParts { name, bytes, maps: MapsRef::None, ..opening::bare(h.port, kind::FILE) };
                    items.push(file, None);
                }
                continue;
            }
            let shown = batch.filter(|_| pictured && h.view != View::Headers);
            let window = shown.and_then(|batch| window(batch, h.edge, h.place, h.z0));
            items.push(parts, window);
        }
        items
    }

    /// Opens a node for this case and sizes its outputs. Returns the halo it asks for.
    fn begin(&mut self, n: usize) -> Result<(usize, usize), Failure> {
        let node = self.node(n);
        self.context.pulse.enter(0, n as u64);
        let mut planned = opening::outputs(node, |link| self.edge(link).map(|(e, _)| e)).map_err(|f| f.at(&node.id))?;
        self.edges[n] = Vec::new();
        let resources = &node.entry.spec.resources;
        let mut needs = v1::Needs {
            batch_max: resources.batch_max.unwrap_or(0),
            host_bytes: resources.host_bytes,
            host_bytes_per_slice: resources.host_bytes_per_slice,
            ..v1::Needs::default()
        };
        if let Some(halo) = &node.entry.spec.halo {
            let n = opening::halo(halo, &node.params);
            (needs.halo_below, needs.halo_above) = (n, n);
        }
        let declared = (needs.halo_below, needs.halo_above);
        let held = self.hold(n, None)?;
        let inputs = self.items(&held, None);
        let voxels = |(_, e): &(usize, &Edge)| matches!(e.kind, kind::IMAGE | kind::LABELS);
        let sized: Vec<(usize, usize, String)> = planned
            .iter()
            .enumerate()
            .flat_map(|(o, output)| output.iter().enumerate().filter(voxels).map(move |(e, _)| (o, e)))
            .map(|(o, e)| (o, e, opening::element_name(node, o, e)))
            .collect();
        // A stage writes into a copy: what it is shown may be the geometry of another node's edge.
        let cells =
            sized.iter().map(|(o, e, _)| opening::copied(&planned[*o][*e].geometry)).collect::<Result<Vec<_>, _>>();
        let cells = cells.map_err(|why| Failure::host("bad-geometry", why).at(&node.id))?;
        let mut outputs = Items::new();
        for ((o, e, name), cell) in sized.iter().zip(&cells) {
            outputs.push(opening::item((node.inputs.len() + o) as u32, &planned[*o][*e], cell, name), None);
        }
        let call = self.call(n);
        let instance = call.instance()?;
        let started = Instant::now();
        let status =
            instance.begin(&call, call.numbers(self.context.threads, false), &inputs, &mut outputs, &mut needs);
        let seconds = started.elapsed().as_secs_f64();
        let scribbled = inputs.scribbled() | outputs.scribbled();
        let opened: Vec<_> = (0..sized.len()).map(|i| outputs.opened(i)).collect();
        let result = call.finish(status)?;
        drop((inputs, outputs));
        drop(held);
        self.note(n, |f| f.seconds += seconds);
        self.open.push(n);
        if scribbled {
            return Err(scribble().at(&node.id));
        }
        for (((o, e, _), opened), cell) in sized.into_iter().zip(opened).zip(&cells) {
            let wrong = |text: String| Failure::host("bad-output", text).at(&node.id);
            let opened = opened.map_err(wrong)?;
            let optional = matches!(node.entry.spec.outputs[node.outputs[o].spec].count, Count::Optional);
            if opened.absent && !optional {
                return Err(wrong(format!("output `{}` is required and was declared absent", node.outputs[o].port)));
            }
            if opened.absent {
                self.note(n, |f| f.skipped = Some("absent in this case".to_owned()));
            }
            opening::settle(node, o, &mut planned[o][e], opened, cell).map_err(|f| f.at(&node.id))?;
        }
        self.edges[n] = planned;
        let slices = self.depth(n).unwrap_or(0);
        let at_once =
            if self.node(n).entry.spec.scope == crate::registry::Scope::Slice { self.plan.batch } else { slices };
        let own_bytes = needs.host_bytes_per_slice.saturating_mul(at_once.min(slices) as u64);
        self.note(n, |f| {
            f.slices = slices as u64;
            f.own_bytes = needs.host_bytes.saturating_add(own_bytes);
        });
        self.publish(n, result.emitted)?;
        self.proved(n)?;
        if needs.halo_below > declared.0 || needs.halo_above > declared.1 {
            return Err(Failure::host("bad-needs", "a larger halo than plugin.toml permits").at(&node.id));
        }
        Ok((needs.halo_below as usize, needs.halo_above as usize))
    }

    /// Checks what the pipeline asserted and `check` believed: grids that must be numerically the same.
    fn proved(&self, n: usize) -> Result<(), Failure> {
        let node = self.node(n);
        for assert in &node.asserts {
            let this = self.edges[n].get(assert.output).and_then(|o| o.first());
            let other = self.edges.get(assert.node).and_then(|x| x.get(assert.of)?.get(assert.element.unwrap_or(0)));
            if let (Some(this), Some(other)) = (this, other) {
                opening::same_grid(this, other, opening::ASSERTED_MM).map_err(|why| {
                    let of = &self.node(assert.node).id;
                    Failure::quarantine("grid-mismatch", format!("asserted to lie on the grid of `{of}`, but {why}"))
                        .at(&node.id)
                })?;
            }
        }
        for undecided in self.plan.graph.undecided.iter().filter(|u| u.to == n) {
            let demand = &node.entry.spec.inputs[node.inputs[undecided.input].spec];
            let offered = self.edges.get(undecided.from).and_then(|x| x.get(undecided.output)).into_iter().flatten();
            for edge in offered.filter(|e| e.kind != kind::ABSENT) {
                opening::decided(edge, demand, &undecided.keys).map_err(|why| {
                    Failure::quarantine("caps-mismatch", format!("input `{}`: {why}", demand.name)).at(&node.id)
                })?;
            }
        }
        // Slice and slab stages walk several volumes in step: their sizes must agree whatever the tokens say.
        let mut shapes = node
            .inputs
            .iter()
            .flat_map(|i| &i.links)
            .filter_map(|l| self.edge(l))
            .filter(|(e, _)| matches!(e.kind, kind::IMAGE | kind::LABELS));
        if let (crate::registry::Scope::Slice | crate::registry::Scope::Slab, Some((first, _))) =
            (node.entry.spec.scope, shapes.next())
        {
            for (other, _) in shapes {
                if other.shape[1..] != first.shape[1..] {
                    let text =
                        format!("inputs of {:?} and {:?} (z, y, x) voxels", &first.shape[1..], &other.shape[1..]);
                    return Err(Failure::quarantine("grid-mismatch", text).at(&node.id));
                }
            }
        }
        Ok(())
    }

    /// Gives every voxel output of a node its volume.
    fn volumes_for(&mut self, n: usize) -> Result<(), Failure> {
        let materialised = &self.plan.materialised[n];
        for (o, output) in self.edges[n].iter_mut().enumerate() {
            let spec = &self.plan.graph.nodes[n].entry.spec.outputs[self.plan.graph.nodes[n].outputs[o].spec];
            let host_sized = materialised[o] && !spec.size_from_data;
            let voxels = |e: &&mut Edge| matches!(e.kind, kind::IMAGE | kind::LABELS);
            // The output of a port that shows only headers already is the input's volume, where there is one.
            for edge in output.iter_mut().filter(|e| host_sized && e.volume.is_none()).filter(voxels) {
                let buffer = Buffer::new(edge.byte_len(), scrutiny::poison(edge.dtype)).map_err(no_memory)?;
                edge.volume = Some(Arc::new(buffer));
            }
        }
        Ok(())
    }

    /// Slices a node walks: of its first voxel input, else of its first voxel output.
    fn depth(&self, n: usize) -> Option<usize> {
        let inputs = self.node(n).inputs.iter().flat_map(|i| &i.links).filter_map(|l| self.edge(l)).map(|(e, _)| e);
        let voxels = |e: &&Edge| matches!(e.kind, kind::IMAGE | kind::LABELS);
        inputs.chain(self.edges[n].iter().flatten()).find(voxels).map(|e| e.shape[1])
    }

    fn slabs(&mut self, n: usize, (below, above): (usize, usize)) -> Result<(), Failure> {
        let depth = self.depth(n).unwrap_or(0);
        self.note_peak(n, &[]);
        let step = self.plan.batch.max(1);
        for z0 in (0..depth).step_by(step) {
            self.context.pulse.enter(0, n as u64);
            let len = step.min(depth - z0);
            let started = Instant::now();
            let produced = self.process(n, Some(Span { z0, len, below, above }), self.context.threads, WHOLE)?;
            self.note(n, |f| f.seconds += started.elapsed().as_secs_f64());
            self.keep(n, z0, len, produced)?;
        }
        Ok(())
    }

    fn whole(&mut self, n: usize) -> Result<(), Failure> {
        self.context.pulse.enter(0, n as u64);
        self.note_peak(n, &[]);
        let started = Instant::now();
        let produced = self.process(n, None, self.context.threads, WHOLE)?;
        self.note(n, |f| f.seconds += started.elapsed().as_secs_f64());
        self.keep(n, 0, usize::MAX, produced)
    }

    /// What an output is `like`, in this case.
    fn like(&self, n: usize, o: usize, e: usize) -> Option<(&Edge, Place)> {
        let node = self.node(n);
        let spec = &node.entry.spec.outputs[node.outputs[o].spec];
        let (port, _) = spec.caps.like.as_ref()?;
        let element = if matches!(&spec.count, Count::Like(p) if p == port) { e } else { 0 };
        self.edge(node.inputs.iter().find(|i| &i.port == port)?.links.get(element)?)
    }

    /// The maps that a call finds in an output, `[C][Z]`: those of the input it is `like`. That input may be written in the
    /// same segment, batch by batch, so they are taken call by call.
    fn maps(&self, (n, o, e): Place, edge: &Edge, z0: usize, len: usize) -> Vec<v1::Map> {
        let [c, depth, ..] = edge.shape;
        let own = edge.maps.read().len();
        let of =
            self.like(n, o, e).filter(|(like, _)| like.shape[..2] == edge.shape[..2] && like.maps.read().len() == own);
        let maps = of.map_or(edge, |(like, _)| like).maps.read();
        part_of(&maps, c, depth, z0, len)
    }

    /// Passes the pixels of an output that shows only headers, where it is not the input's own memory.
    fn pass(&self, place: Place, edge: &Edge, z0: usize, len: usize, batch: Batch) -> Result<(), Failure> {
        let lost = || Failure::host("internal", "there are no pixels to pass beside the headers");
        let Some(to) = window(batch, edge, place, z0) else { return Ok(()) };
        let (like, from) = self.like(place.0, place.1, place.2).ok_or_else(lost)?;
        let from = window(batch, like, from, z0).ok_or_else(lost)?;
        if std::ptr::eq(to.buffer, from.buffer) {
            return Ok(());
        }
        if like.shape != edge.shape || like.dtype != edge.dtype {
            return Err(lost());
        }
        for c in 0..edge.shape[0] {
            let (at, pixels) = plane_at(edge, to, c, 0);
            let bytes = from.buffer.read::<u8>(plane_at(like, from, c, 0).0, len * pixels * dtype::size(edge.dtype));
            to.buffer.write(at, bytes);
        }
        Ok(())
    }

    /// One call of `process`: poisons the outputs, calls, and checks what was written.
    fn process(&self, n: usize, span: Option<Span>, threads: usize, batch: Batch) -> Result<Produced, Failure> {
        let node = self.node(n);
        let held = self.hold(n, span)?;
        let inputs = self.items(&held, Some(batch));
        let mut outputs = Items::new();
        let mut all_maps = Vec::new();
        let mut targets = Vec::new();
        let mut beside = Vec::new();
        for (o, output) in self.edges[n].iter().enumerate() {
            let headers_only = node.entry.spec.outputs[node.outputs[o].spec].view == View::Headers;
            for (e, edge) in output.iter().enumerate() {
                let place = (n, o, e);
                let (z0, len) = span.map_or((0, edge.shape[1]), |s| (s.z0, s.len));
                if !matches!(edge.kind, kind::IMAGE | kind::LABELS) {
                    continue;
                }
                let maps = self.maps(place, edge, z0, len);
                if headers_only {
                    all_maps.push((o, e, maps));
                    beside.push((place, z0, len));
                    continue;
                }
                let Some(window) = window(batch, edge, place, z0) else { continue };
                poison(edge, window, len);
                all_maps.push((o, e, maps));
                targets.push((o, e, window, z0, len));
            }
        }
        let names: Vec<String> = targets.iter().map(|&(o, e, ..)| opening::element_name(node, o, e)).collect();
        let cells = targets.iter().map(|&(o, e, ..)| opening::copied(&self.edges[n][o][e].geometry));
        let cells =
            cells.collect::<Result<Vec<_>, _>>().map_err(|why| Failure::host("bad-geometry", why).at(&node.id))?;
        let shown = all_maps.iter_mut().filter(|(o, e, _)| targets.iter().any(|t| (t.0, t.1) == (*o, *e)));
        for ((((o, e, window, z0, len), (_, _, maps)), name), cell) in targets.iter().zip(shown).zip(&names).zip(&cells)
        {
            let edge = &self.edges[n][*o][*e];
            let [c, _, y, x] = edge.shape;
            let parts = ItemParts {
                name,
                dtype: edge.dtype,
                shape: [c, *len, y, x],
                z0: *z0,
                geometry: Some(cell),
                channels: edge.channels.views(),
                maps: MapsRef::Exclusive(maps),
                labels: edge.labels.views(),
                ..opening::bare((node.inputs.len() + o) as u32, edge.kind)
            };
            outputs.push(parts, Some(*window));
        }
        let call = self.call(n);
        let instance = call.instance()?;
        let status = instance.process(&call, call.numbers(threads, false), &inputs, &mut outputs);
        let scribbled = inputs.scribbled() | outputs.scribbled();
        drop((inputs, outputs));
        let result = call.finish(status)?;
        if scribbled {
            return Err(scribble().at(&node.id));
        }
        for (o, e, window, _, len) in targets {
            let edge = &self.edges[n][o][e];
            scrutinise(edge, window, len).map_err(|(code, text)| {
                Failure::host(code, format!("output `{}`: {text}", node.outputs[o].port)).at(&node.id)
            })?;
        }
        for (place, z0, len) in beside {
            self.pass(place, &self.edges[n][place.1][place.2], z0, len, batch).map_err(|f| f.at(&node.id))?;
        }
        if let Some((o, _, _)) =
            all_maps.iter().find(|(_, _, maps)| maps.iter().any(|m| !(m.scale.is_finite() && m.offset.is_finite())))
        {
            let text = format!("output `{}`: a map back to physical units is not finite", node.outputs[*o].port);
            return Err(Failure::host("output-not-finite", text).at(&node.id));
        }
        Ok(Produced { maps: all_maps, result })
    }

    /// Takes over what a call gave.
    fn keep(&mut self, n: usize, z0: usize, len: usize, produced: Produced) -> Result<(), Failure> {
        self.keep_maps(n, z0, len, &produced);
        for grown in produced.result.grown {
            self.grow(n, grown)?;
        }
        self.publish(n, produced.result.emitted)
    }

    /// Takes over the maps that a call gave.
    fn keep_maps(&self, n: usize, z0: usize, len: usize, produced: &Produced) {
        for (o, e, from) in &produced.maps {
            let edge = &self.edges[n][*o][*e];
            let depth = edge.shape[1];
            let len = len.min(depth);
            let mut maps = edge.maps.write();
            for c in 0..edge.shape[0] {
                let from = from.get(c * len..(c + 1) * len);
                if let (Some(to), Some(from)) = (maps.get_mut(c * depth + z0..c * depth + z0 + len), from) {
                    to.copy_from_slice(from);
                }
            }
        }
    }

    /// The maps of voxels that a stage sized itself: those of what they are `like`, where a channel has the same in every
    /// slice (which slices they came from, nobody said).
    fn grown_maps(&self, (n, o, e): Place, [c, z, ..]: [usize; 4]) -> Vec<v1::Map> {
        let identity = || vec![super::edge::IDENTITY; c * z];
        let Some((like, _)) = self.like(n, o, e).filter(|(l, _)| l.shape[0] == c && l.shape[1] > 0) else {
            return identity();
        };
        let mut maps = Vec::with_capacity(c * z);
        for channel in like.maps.read().chunks_exact(like.shape[1]) {
            if channel.iter().any(|m| !opening::same_map(m, &channel[0])) {
                return identity();
            }
            maps.extend(std::iter::repeat_n(channel[0], z));
        }
        maps
    }

    /// Takes over voxels that a stage allocated.
    fn grow(&mut self, n: usize, grown: Grown) -> Result<(), Failure> {
        let node = self.node(n);
        let o = grown.request.port as usize - node.inputs.len();
        let e: usize = grown.request.name.parse().unwrap_or(0);
        let shape = grown.request.shape.map(|d| d as usize);
        let maps = self.grown_maps((n, o, e), shape);
        let elements = &mut self.edges[n][o];
        while elements.len() <= e && elements.len() < 4096 {
            let Some(like) = elements.first().cloned() else { break };
            elements.push(like);
        }
        let Some(edge) = elements.get_mut(e) else {
            return Err(Failure::host("bad-output", format!("element {e} of `{}`", node.outputs[o].port)).at(&node.id));
        };
        edge.shape = shape;
        edge.dtype = grown.request.dtype;
        edge.maps = Shared::new(maps);
        match grown.request.geometry {
            Some(geometry) => {
                opening::sound(&geometry).map_err(|why| Failure::host("bad-geometry", why).at(&node.id))?;
                if geometry.size != shape[1..] {
                    let text = format!("{:?} (z, y, x) voxels on a grid of {:?}", &shape[1..], geometry.size);
                    return Err(Failure::host("bad-geometry", text).at(&node.id));
                }
                edge.geometry = Arc::new(GeometryCell::new(&opening::tokened(geometry)));
            }
            None => {
                let size = edge.geometry.get().map_err(|why| Failure::host("bad-geometry", why).at(&node.id))?.size;
                if size != shape[1..] {
                    let text = format!("{:?} (z, y, x) voxels without a geometry of their own", &shape[1..]);
                    return Err(Failure::host("bad-geometry", text).at(&node.id));
                }
            }
        }
        let window = Window { buffer: &grown.buffer, depth: shape[1], first: 0 };
        scrutinise(edge, window, shape[1]).map_err(|(code, text)| {
            Failure::host(code, format!("output `{}`: {text}", node.outputs[o].port)).at(&node.id)
        })?;
        edge.volume = Some(grown.buffer);
        Ok(())
    }

    /// Files, records, tables and headers that a call published.
    fn publish(&self, n: usize, emitted: Vec<Emission>) -> Result<(), Failure> {
        let node = self.node(n);
        for emission in emitted {
            let o = emission.port as usize - node.inputs.len();
            let output = &node.outputs[o];
            let wrong =
                |text: String| Failure::host("bad-output", format!("output `{}`: {text}", output.port)).at(&node.id);
            let e: usize = if emission.name.is_empty() { 0 } else { emission.name.parse().unwrap_or(0) };
            let edges = self.edges[n].get(o).ok_or_else(|| wrong("was not opened".into()))?;
            match output.caps["kind"].as_str() {
                Some("image" | "labels" | "headers") => {
                    // A port that shows pixels shares its headers with the edge they follow.
                    let image = output.caps["kind"] != "headers";
                    if image && node.entry.spec.outputs[output.spec].view == View::Pixels {
                        return Err(wrong("shows pixels alone, so it has no headers to give".into()));
                    }
                    let edge = edges.get(e).ok_or_else(|| wrong(format!("has no element {e}")))?;
                    edge.companions.headers.lock().unwrap_or_else(|x| x.into_inner()).push(emission.bytes.into());
                }
                Some("record" | "table") => {
                    let json: Option<serde_json::Value> = serde_json::from_slice(&emission.bytes).ok();
                    if !json.is_some_and(|j| j["schema"].is_string()) {
                        return Err(wrong("is no JSON object with a `schema`".into()));
                    }
                    let edge = edges.get(e).ok_or_else(|| wrong(format!("has no element {e}")))?;
                    *edge.bytes.write() = emission.bytes.into();
                }
                Some("file") if output.read => {
                    let edge = edges.first().ok_or_else(|| wrong("was not opened".into()))?;
                    let mut files = edge.files.write();
                    // The same name again appends, as where files are written.
                    match files.iter_mut().find(|(name, _)| *name == emission.name) {
                        Some((_, bytes)) => *bytes = [&bytes[..], &emission.bytes].concat().into(),
                        None => files.push((emission.name, emission.bytes.into())),
                    }
                }
                Some("file") => {
                    let written = self.files.write(&node.id, &emission.name, &emission.bytes);
                    written.map_err(|f| f.at(&node.id))?;
                }
                _ => return Err(wrong("is of a kind that cannot be emitted".into())),
            }
        }
        Ok(())
    }

    fn end(&mut self, n: usize) -> Result<(), Failure> {
        self.context.pulse.enter(0, n as u64);
        let call = self.call(n);
        let started = Instant::now();
        let status = call.instance()?.end(&call, call.numbers(self.context.threads, false));
        self.note(n, |f| f.seconds += started.elapsed().as_secs_f64());
        self.open.retain(|&o| o != n);
        let result = call.finish(status)?;
        self.publish(n, result.emitted)?;
        self.complete(n)?;
        self.note_removed(n)
    }

    /// Whether every required output is there, and headers are as many as slices.
    fn complete(&self, n: usize) -> Result<(), Failure> {
        let node = self.node(n);
        for (o, output) in node.outputs.iter().enumerate() {
            let spec = &node.entry.spec.outputs[output.spec];
            let required = !matches!(spec.count, Count::Optional);
            for edge in &self.edges[n][o] {
                let missing = match edge.kind {
                    kind::RECORD | kind::TABLE => edge.bytes.read().is_empty(),
                    kind::IMAGE | kind::LABELS if spec.size_from_data => edge.volume.is_none(),
                    _ => false,
                };
                if missing && required {
                    let text = format!("output `{}` is required and was not given", output.port);
                    return Err(Failure::host("output-missing", text).at(&node.id));
                }
                if let (kind::HEADERS, Some((of, _))) = (edge.kind, self.like(n, o, 0)) {
                    let count = |e: &Edge| e.companions.headers.lock().unwrap_or_else(|e| e.into_inner()).len();
                    let (left, came) = (count(edge), count(of));
                    if left != came {
                        let text = format!("output `{}`: {left} data sets for {came} that came", output.port);
                        return Err(Failure::host("output-headers", text).at(&node.id));
                    }
                }
                if spec.view != View::Pixels && matches!(edge.kind, kind::IMAGE) {
                    let count = edge.companions.headers.lock().unwrap_or_else(|e| e.into_inner()).len();
                    if count != edge.shape[1] && (count != 0 || spec.view == View::Headers) {
                        let text = format!("output `{}`: {count} headers for {} slices", output.port, edge.shape[1]);
                        return Err(Failure::host("output-headers", text).at(&node.id));
                    }
                }
            }
        }
        Ok(())
    }

    fn abandon(&mut self) {
        for n in std::mem::take(&mut self.open) {
            let call = self.call(n);
            if let Ok(instance) = call.instance() {
                // The case is lost already; what a stage says while it cleans up changes nothing.
                let _ = instance.end(&call, call.numbers(self.context.threads, true));
            }
        }
    }

    /// Notes how much memory for voxels is alive now: volumes, and the buffers of a segment's batches.
    fn note_peak(&self, n: usize, buffers: &[BTreeMap<Place, Arc<Buffer>>]) {
        let volumes = self.edges.iter().flatten().flatten().filter_map(|e| e.volume.as_ref());
        let all = volumes.chain(buffers.iter().flat_map(BTreeMap::values));
        let unique: BTreeMap<_, usize> = all.map(|b| (Arc::as_ptr(b), b.len())).collect();
        let live = unique.values().sum::<usize>() as u64;
        self.note(n, |f| f.peak_bytes = f.peak_bytes.max(live));
    }
}

/// Where an edge's slices from `z0` lie: in its volume, or in the buffer of the batch.
fn window<'h>(batch: Batch<'h>, edge: &'h Edge, place: Place, z0: usize) -> Option<Window<'h>> {
    match &edge.volume {
        Some(volume) => Some(Window { buffer: volume, depth: edge.shape[1], first: z0 }),
        None => {
            let buffer = batch.buffers.get(&place)?;
            Some(Window { buffer, depth: batch.depth, first: z0 - batch.z0 })
        }
    }
}

/// The maps `[C][Z]` of some slices.
fn part_of(maps: &[v1::Map], channels: usize, depth: usize, z0: usize, len: usize) -> Vec<v1::Map> {
    (0..channels).flat_map(|c| maps.iter().skip(c * depth + z0).take(len)).copied().collect()
}

fn scribble() -> Failure {
    Failure::host("bad-output", "the stage wrote into a geometry that it was only lent")
}

fn no_memory(error: super::buffers::NoMemory) -> Failure {
    Failure { status: status::RESOURCE, ..Failure::host("memory", error.to_string()) }
}

/// Bytes of one plane of an edge, and the offset of plane `(c, z)` of a window.
fn plane_at(edge: &Edge, window: Window, c: usize, z: usize) -> (usize, usize) {
    let pixels = edge.shape[2] * edge.shape[3];
    let size = dtype::size(edge.dtype);
    ((c * window.depth + window.first + z) * pixels * size, pixels)
}

fn poison(edge: &Edge, window: Window, len: usize) {
    for c in 0..edge.shape[0] {
        let (offset, pixels) = plane_at(edge, window, c, 0);
        window.buffer.fill(offset, len * pixels * dtype::size(edge.dtype), scrutiny::poison(edge.dtype));
    }
}

fn scrutinise(edge: &Edge, window: Window, len: usize) -> Result<(), (&'static str, String)> {
    for c in 0..edge.shape[0] {
        for z in 0..len {
            let (offset, pixels) = plane_at(edge, window, c, z);
            scrutiny::plane(edge.kind, edge.dtype, &edge.labels, window.buffer, offset, pixels)?;
        }
    }
    Ok(())
}
