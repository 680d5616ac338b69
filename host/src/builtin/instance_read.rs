//! `instance-read`: every SOP instance of one patient and study, of whatever class, as data sets without pixels.

use gantry_plugin::{Call, CaseStage, Inputs, Outputs, Result};
use rayon::prelude::*;
use serde::Deserialize;

use super::services::{Source, ask, refuse};
use crate::series::instance_file::InstanceFile;
use crate::series::{Fault, InstanceRecord};

/// Data sets in memory at once before they are handed on.
const TOGETHER: usize = 64;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Params {}

struct InstanceRead;

impl CaseStage for InstanceRead {
    type Params = Params;

    fn create(_: Params) -> Result<Self> {
        Ok(InstanceRead)
    }

    fn process(&mut self, call: &Call, _: &Inputs, _: &mut Outputs) -> Result<()> {
        let Source { source, .. } = ask(call, "gantry.source/1", "{}")?;
        let total = source.instances.len() as u64;
        for (i, some) in source.instances.chunks(TOGETHER).enumerate() {
            call.go_on()?;
            let data_sets: Vec<std::result::Result<Vec<u8>, Fault>> = some.par_iter().map(data_set).collect();
            for data_set in data_sets {
                call.emit("instances", "", &data_set.map_err(refuse)?)?;
            }
            call.progress((i * TOGETHER + some.len()) as u64, total);
        }
        Ok(())
    }
}

/// The data set of one instance.
fn data_set(record: &InstanceRecord) -> std::result::Result<Vec<u8>, Fault> {
    let data_set = || Ok(InstanceFile::open(record)?.instance()?.data_set()?.into_owned());
    data_set().map_err(|f: Fault| f.at(format_args!("#{}", record.input)))
}

gantry_plugin::stage!("instance-read", case, InstanceRead);
