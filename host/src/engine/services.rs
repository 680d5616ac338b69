//! Host services: JSON in, JSON out, by versioned name, granted by plugin.toml.
//!
//! | name | who | what |
//! |---|---|---|
//! | `gantry.pseudonym/1` | any stage that lists it | keyed pseudonyms and UIDs; the key stays here |
//! | `gantry.source/1` | built-in sources | the series of the case that the node was given |
//! | `gantry.derive/1` | built-in sinks | what a derived object must say about this run |
//! | `gantry.kernels/1` | any stage that lists it and sees no identity | what it computes with, for run.json (module `kernels`) |
//! | `gantry.padding/1` | built-in sources and sinks | voxels that are no anatomy, carried along `like` |

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use gantry_abi::v1::status;
use serde_json::{Value as Json, json};

use super::edge::{Companions, Padding};
use super::kernels::Kernels;
use crate::identity;

/// What services need to know about one case.
pub struct Services {
    /// For each source node: the series it was given, as JSON.
    pub sources: BTreeMap<String, Json>,
    /// The folders of the run, for stages that read a file beside a series.
    pub roots: Vec<PathBuf>,
    /// For each sink node: what a derived object must say.
    pub derivations: BTreeMap<String, Json>,
    /// The site's key.
    pub key: Option<identity::Key>,
    /// The site's own list of pseudonyms.
    pub assigned: Option<Arc<identity::Assigned>>,
    /// What was answered in this case, where a mapping is asked for; identities, so in memory only.
    pub mapping: Option<Mutex<BTreeSet<identity::MappingRow>>>,
    /// What nodes said they compute with; kept from `prepare` over all cases of a worker.
    pub kernels: Arc<Mutex<BTreeMap<String, Kernels>>>,
}

/// An answer, or a status with a sentence for the report.
pub type Answer = Result<String, (i32, String)>;

impl Services {
    /// Answers a request of `node`, whose first image edges' companions are `arriving` (sinks) or `leaving` (sources).
    pub fn serve(
        &self,
        node: &str,
        name: &str,
        request: &str,
        arriving: Option<&Companions>,
        leaving: Option<&Companions>,
    ) -> Answer {
        match name {
            "gantry.source/1" => {
                let source = self.sources.get(node).ok_or_else(|| refused("this node has no series"))?;
                Ok(json!({ "source": source, "roots": self.roots, "mapped": self.mapped(source) }).to_string())
            }
            "gantry.derive/1" => {
                let known = self.derivations.get(node).ok_or_else(|| refused("this node derives nothing"))?;
                Ok(known.to_string())
            }
            "gantry.padding/1" => padding(request, arriving, leaving),
            "gantry.pseudonym/1" => {
                let key = self.key.as_ref().ok_or_else(|| refused("there is no pseudonym key"))?;
                let served =
                    identity::serve(key, self.assigned.as_deref(), request).map_err(|e| refused(&e.to_string()))?;
                if let Some(mapping) = &self.mapping {
                    mapping.lock().unwrap_or_else(|e| e.into_inner()).extend(served.rows);
                }
                Ok(served.answer)
            }
            other => Err(refused(&format!("this host has no service `{other}`"))),
        }
    }
}

impl Services {
    /// Index in the scan of an instance of the case, where the case is made of instances.
    pub fn input_of_instance(&self, index: usize) -> Option<u64> {
        let source = self.sources.values().find(|source| source["kind"] == "instances")?;
        source["instances"].get(index)?["input"].as_u64()
    }

    /// What the key makes of the SOP Instance UIDs of a series of any class; a sink proves by them whose pixels it writes.
    fn mapped(&self, source: &Json) -> Vec<String> {
        let instances = source["instances"].as_array().filter(|_| source["kind"] == "instances");
        let (Some(instances), Some(key)) = (instances, &self.key) else { return Vec::new() };
        instances.iter().filter_map(|i| i["sop_instance"].as_str()).map(|uid| key.uid(uid)).collect()
    }
}

fn refused(why: &str) -> (i32, String) {
    (status::SERVICE, why.to_owned())
}

/// `{"set": [padding]}` stores what a source found; `{"get": z}` answers what lies on the edge that arrives.
fn padding(request: &str, arriving: Option<&Companions>, leaving: Option<&Companions>) -> Answer {
    let request: Json = serde_json::from_str(request).map_err(|e| refused(&e.to_string()))?;
    if let Some(found) = request.get("set") {
        let found: Vec<Padding> = serde_json::from_value(found.clone()).map_err(|e| refused(&e.to_string()))?;
        let leaving = leaving.ok_or_else(|| refused("this node gives no image"))?;
        let mut all = leaving.padding.lock().unwrap_or_else(|e| e.into_inner());
        all.extend(found.into_iter().map(|p| (p.z, p)));
        return Ok("{}".to_owned());
    }
    let z = request["get"].as_u64().ok_or_else(|| refused("neither `set` nor `get`"))? as usize;
    let arriving = arriving.ok_or_else(|| refused("this node reads no image"))?;
    let all = arriving.padding.lock().unwrap_or_else(|e| e.into_inner());
    let runs = all.get(&z).map(|p| p.runs.as_slice()).unwrap_or_default();
    Ok(json!({ "runs": runs }).to_string())
}
