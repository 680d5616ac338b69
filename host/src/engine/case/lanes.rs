//! A fused segment, batch by batch. Built-in sources read ahead of the batch that the stages are at, and built-in sinks
//! write behind it: decoding, computing and writing overlap, in three lanes at most.
//!
//! Every lane walks the batches in order and hands each on to the next lane; the last hands its buffers back to the
//! first. So what a batch is made of is the same as when one lane does everything, there are never more than
//! [`RING`] batches in memory, and where lanes fail, the failure that counts is the one that comes first in the order of
//! batches. Parallel stages of all lanes share the worker's threads.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Instant;

use gantry_abi::v1::{dtype, kind, status};
use rayon::prelude::*;

use super::{Batch, CaseRun, Place, Produced, Span, no_memory};
use crate::engine::buffers::Buffer;
use crate::engine::failure::Failure;
use crate::engine::pulse::{IDLE, LANES};
use crate::engine::scrutiny;
use crate::plan::Segment;
use crate::registry::manifest::Concurrency;
use crate::registry::{Count, Origin};

/// Batches in memory: one for each lane.
const RING: usize = LANES;

/// Buffers of a batch's edges.
type Buffers = BTreeMap<Place, Arc<Buffer>>;

/// A lane's end: the batch it failed at.
type Fault = (usize, Failure);

impl CaseRun<'_> {
    /// Drives a fused segment.
    pub(super) fn slices(&mut self, segment: &Segment) -> Result<(), Failure> {
        let depth = segment.nodes.iter().filter_map(|&n| self.depth(n)).max().unwrap_or(0);
        let batch = self.plan.batch.min(depth.max(1));
        for &n in &segment.nodes {
            self.volumes_for(n)?;
        }
        let lanes = self.lanes(segment, depth.div_ceil(batch));
        let ring = self.ring(&lanes, batch)?;
        for &n in &segment.nodes {
            self.note_peak(n, &ring);
        }
        let place = |index: usize| Batch { buffers: &ring[index % ring.len()], z0: index * batch, depth: batch };
        let count = depth.div_ceil(batch);
        match lanes.as_slice() {
            [all] => {
                for index in 0..count {
                    self.go_on()?;
                    for &n in all {
                        for (from, len, produced) in self.walk(0, n, place(index), depth)? {
                            self.keep(n, from, len, produced)?;
                        }
                    }
                }
                Ok(())
            }
            several => self.overlap(several, count, depth, &place),
        }
    }

    /// The nodes of a segment by lane, in order: one lane, or what reads ahead, what computes, and what writes behind.
    fn lanes(&self, segment: &Segment, batches: usize) -> Vec<Vec<usize>> {
        let node = |n: usize| &self.plan.graph.nodes[n];
        // What a stage sizes while it works changes the edge itself, which only one lane may.
        let grows = segment.nodes.iter().any(|&n| {
            let specs = &node(n).entry.spec.outputs;
            node(n)
                .outputs
                .iter()
                .any(|o| specs[o.spec].size_from_data || !matches!(specs[o.spec].count, Count::One | Count::Optional))
        });
        if self.context.threads < 2 || batches < 2 || grows {
            return vec![segment.nodes.clone()];
        }
        let mut lanes = vec![Vec::new(); LANES];
        for &n in &segment.nodes {
            let builtin = matches!(node(n).entry.origin, Origin::Builtin);
            let reads = node(n).inputs.iter().any(|i| !i.links.is_empty());
            let lane = match (builtin, reads, node(n).outputs.iter().any(|o| o.read)) {
                (true, false, _) => 0,
                (true, true, false) => 2,
                _ => 1,
            };
            lanes[lane].push(n);
        }
        lanes.retain(|l| !l.is_empty());
        lanes
    }

    /// The buffers of each batch in memory. An edge that stays within its lane needs only one.
    fn ring(&self, lanes: &[Vec<usize>], batch: usize) -> Result<Vec<Buffers>, Failure> {
        let mut ring = vec![Buffers::new(); if lanes.len() > 1 { RING } else { 1 }];
        for lane in lanes {
            for &n in lane {
                let elsewhere = |n: &usize| !lane.contains(n);
                let readers = lanes.iter().flatten().filter(|r| elsewhere(r));
                let leaves = readers.flat_map(|&r| &self.plan.graph.nodes[r].inputs).flat_map(|i| &i.links);
                let leaves: Vec<usize> = leaves.filter(|l| l.node == n).map(|l| l.output).collect();
                for (o, output) in self.edges[n].iter().enumerate() {
                    for (e, edge) in output.iter().enumerate() {
                        if edge.volume.is_some() || !matches!(edge.kind, kind::IMAGE | kind::LABELS) {
                            continue;
                        }
                        let [c, _, y, x] = edge.shape;
                        let bytes = c * batch * y * x * dtype::size(edge.dtype);
                        let new = || Buffer::new(bytes, scrutiny::poison(edge.dtype)).map(Arc::new).map_err(no_memory);
                        let mut buffer = new()?;
                        for (i, buffers) in ring.iter_mut().enumerate() {
                            if i > 0 && leaves.contains(&o) {
                                buffer = new()?;
                            }
                            buffers.insert((n, o, e), Arc::clone(&buffer));
                        }
                    }
                }
            }
        }
        Ok(ring)
    }

    /// Several lanes at once; the last runs on this thread.
    fn overlap<'b>(
        &self,
        lanes: &[Vec<usize>],
        count: usize,
        depth: usize,
        place: &(impl Fn(usize) -> Batch<'b> + Sync),
    ) -> Result<(), Failure> {
        let (first, free) = channel();
        for index in 0..count.min(RING) {
            // The receiver is right here.
            let _ = first.send(index);
        }
        let mut ends: Vec<Option<Fault>> = Vec::new();
        std::thread::scope(|scope| {
            let mut from = free;
            let mut threads = Vec::new();
            for (i, nodes) in lanes.iter().enumerate().take(lanes.len() - 1) {
                let (to, next) = channel();
                let from = std::mem::replace(&mut from, next);
                threads.push(scope.spawn(move || self.lane(i, nodes, count, depth, place, from, &to, 0)));
            }
            // A batch that is written makes room for another.
            let last = lanes.len() - 1;
            ends.push(self.lane(last, &lanes[last], count, depth, place, from, &first, RING));
            // Lanes that wait for room must not wait for ever.
            drop(first);
            for thread in threads {
                match thread.join() {
                    Ok(end) => ends.push(end),
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            }
        });
        match ends.into_iter().flatten().min_by_key(|(index, _)| *index) {
            Some((_, failure)) => Err(failure),
            None => Ok(()),
        }
    }

    /// One lane: takes each batch as it comes, and hands it on as batch `index + step`. Ends after the last batch, at a
    /// failure, or when a neighbour has ended.
    #[allow(clippy::too_many_arguments, reason = "the parts of one lane, all borrowed")]
    fn lane<'b>(
        &self,
        lane: usize,
        nodes: &[usize],
        count: usize,
        depth: usize,
        place: &impl Fn(usize) -> Batch<'b>,
        from: Receiver<usize>,
        to: &Sender<usize>,
        step: usize,
    ) -> Option<Fault> {
        for _ in 0..count {
            let Ok(index) = from.recv() else { break };
            for &n in nodes {
                let done = self.go_on().and_then(|()| self.walk(lane, n, place(index), depth));
                let kept =
                    done.and_then(|all| all.into_iter().try_for_each(|(z0, len, p)| self.keep_shared(n, z0, len, p)));
                if let Err(failure) = kept {
                    self.context.pulse.enter(lane, IDLE);
                    return Some((index, failure));
                }
            }
            self.context.pulse.enter(lane, IDLE);
            // A neighbour that ended has failed at an earlier batch, or needs no more.
            let _ = to.send(index + step);
        }
        None
    }

    /// Takes over what a call gave, while other nodes work.
    fn keep_shared(&self, n: usize, z0: usize, len: usize, produced: Produced) -> Result<(), Failure> {
        self.keep_maps(n, z0, len, &produced);
        if !produced.result.grown.is_empty() {
            let node = &self.plan.graph.nodes[n].id;
            return Err(Failure::host("internal", "voxels were allocated for an output of a known size").at(node));
        }
        self.publish(n, produced.result.emitted)
    }

    /// The slices of one batch through one node.
    fn walk(
        &self,
        lane: usize,
        n: usize,
        batch: Batch,
        depth: usize,
    ) -> Result<Vec<(usize, usize, Produced)>, Failure> {
        // Another volume of the segment may have fewer slices.
        let z0 = batch.z0;
        let len = batch.depth.min(self.depth(n).unwrap_or(depth).min(depth).saturating_sub(z0));
        if len == 0 {
            return Ok(Vec::new());
        }
        self.context.pulse.enter(lane, n as u64);
        let started = Instant::now();
        let parallel = self.node(n).entry.spec.concurrency == Concurrency::Parallel;
        let pieces = if parallel { self.context.threads.min(len).max(1) } else { 1 };
        let produced = if pieces == 1 {
            self.attempt(n, z0, len, self.context.threads, batch)
        } else {
            let cut = |i: usize| z0 + len * i / pieces;
            let all: Result<Vec<Vec<_>>, Failure> = self.pool.install(|| {
                (0..pieces).into_par_iter().map(|i| self.attempt(n, cut(i), cut(i + 1) - cut(i), 1, batch)).collect()
            });
            all.map(|all| all.into_iter().flatten().collect())
        };
        self.note(n, |f| f.seconds += started.elapsed().as_secs_f64());
        produced
    }

    /// One call, or two halves where the stage asks for a smaller batch.
    fn attempt(
        &self,
        n: usize,
        z0: usize,
        len: usize,
        threads: usize,
        batch: Batch,
    ) -> Result<Vec<(usize, usize, Produced)>, Failure> {
        match self.process(n, Some(Span { z0, len, below: 0, above: 0 }), threads, batch) {
            Ok(produced) => Ok(vec![(z0, len, produced)]),
            Err(failure) if failure.status == status::RESOURCE && len > 1 => {
                let half = len / 2;
                let mut all = self.attempt(n, z0, half, threads, batch)?;
                all.extend(self.attempt(n, z0 + half, len - half, threads, batch)?);
                Ok(all)
            }
            Err(failure) => Err(failure),
        }
    }
}
