//! `instance-write`: the instances of the case as files, each the data set that arrives and the pixels that were read.

use std::collections::{BTreeMap, BTreeSet};

use gantry_plugin::{Call, CaseStage, Error, Inputs, Outputs, Result};
use rayon::prelude::*;
use serde::Deserialize;

use super::services::{Source, ask, refuse};
use crate::series::instance::{self, Instance, Outgoing};
use crate::series::{Fault, InstanceRecord, marks};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Params {}

struct InstanceWrite;

impl CaseStage for InstanceWrite {
    type Params = Params;

    fn create(_: Params) -> Result<Self> {
        Ok(InstanceWrite)
    }

    fn process(&mut self, call: &Call, inputs: &Inputs, _: &mut Outputs) -> Result<()> {
        let Source { source, mapped, .. } = ask(call, "gantry.source/1", "{}")?;
        let headers = inputs.headers("instances")?;
        let data_sets = headers.first().map(|h| h.datasets.as_slice()).unwrap_or_default();
        let records = source.instances.as_slice();
        if data_sets.len() != records.len() {
            let text = format!("{} data sets for {} instances that were read", data_sets.len(), records.len());
            return Err(Error::internal(text));
        }
        // An instance that was left out on the way has no data set.
        let all: Vec<usize> = (0..records.len()).filter(|&i| !data_sets[i].is_empty()).collect();
        let read = |&i: &usize| outgoing(&records[i], mapped.get(i), data_sets[i]);
        let outgoing = all.par_iter().map(read).collect::<std::result::Result<Vec<_>, Fault>>().map_err(refuse)?;
        let names = names(&outgoing).map_err(refuse)?;
        let written = all.par_iter().zip(&outgoing).zip(&names).map(|((&i, outgoing), name)| {
            call.go_on()?;
            call.emit("file", name, &file(&records[i], outgoing).map_err(refuse)?)
        });
        written.collect::<Result<()>>()
    }
}

/// Reads an arriving data set and makes sure that it is the one of this instance: an anonymizer may keep a SOP Instance UID
/// or replace it by what the host's service gives for it, and nothing else, or pixels could come under another's header.
fn outgoing<'a>(
    record: &InstanceRecord,
    mapped: Option<&String>,
    data_set: &'a [u8],
) -> std::result::Result<Outgoing<'a>, Fault> {
    let outgoing = Outgoing::read(data_set).map_err(|f| f.at(format_args!("#{}", record.input)))?;
    if outgoing.sop_instance != record.sop_instance && Some(&outgoing.sop_instance) != mapped {
        let text =
            format!("the data set that arrives for #{} is not one made of it (by its SOPInstanceUID)", record.input);
        return Err(Fault::new("other-instance", text));
    }
    Ok(outgoing)
}

fn file(record: &InstanceRecord, outgoing: &Outgoing) -> std::result::Result<Vec<u8>, Fault> {
    let at = |f: Fault| f.at(format_args!("#{}", record.input));
    let bytes = instance::read(record, true)?;
    let source = Instance::open(bytes.as_slice()).map_err(at)?;
    let lost = marks::lost(&source.header().map_err(at)?, &outgoing.header);
    let pixels = source.pixel_group().map_err(at)?;
    if lost.is_empty() {
        return outgoing.file(&pixels).map_err(at);
    }
    let marked = instance::with_elements(outgoing.data_set, lost).map_err(at)?;
    Outgoing::read(&marked).and_then(|outgoing| outgoing.file(&pixels)).map_err(at)
}

/// A name for each instance: modality, number of its series in the case, number of the instance in its series.
fn names(outgoing: &[Outgoing]) -> std::result::Result<Vec<String>, Fault> {
    let mut series: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    let mut names = Vec::with_capacity(outgoing.len());
    for instance in outgoing {
        if !seen.insert(&instance.sop_instance) {
            return Err(Fault::new("same-instance-uid", "two of the data sets to write have one SOPInstanceUID"));
        }
        let (uid, modality) = instance.series();
        let next = series.len() + 1;
        let (number, count) = series.entry(uid).or_insert((next, 0));
        *count += 1;
        names.push(format!("{modality}-{number:03}-{count:05}.dcm"));
    }
    Ok(names)
}

gantry_plugin::stage!("instance-write", case, InstanceWrite);
