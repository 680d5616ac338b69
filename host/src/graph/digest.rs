//! The graph as canonical JSON, for digests: the same meaning gives the same bytes, whatever the layout of the document.

use serde_json::{Map, Value as Json, json};

use crate::registry::hashes::sha256;

use super::{Graph, Node};

impl Graph {
    /// Stages and their versions, parameters, checkpoints with the hashes on their cards, selections, promises and links, as
    /// JSON with sorted keys and no white space. Nodes stand in topological order; neither comments nor places matter.
    pub fn canonical_json(&self) -> String {
        let nodes: Vec<Json> = self.nodes.iter().map(|node| self.node_json(node)).collect();
        sorted(&json!({ "format": 1, "name": self.name, "nodes": nodes })).to_string()
    }

    /// sha256 of [`Graph::canonical_json`], lower-case hex.
    pub fn digest(&self) -> String {
        sha256(self.canonical_json().as_bytes())
    }

    fn node_json(&self, node: &Node) -> Json {
        let id_of = |n: usize| self.nodes.get(n).map(|n| n.id.as_str());
        let port_of = |n: usize, o: usize| self.nodes.get(n).and_then(|n| n.outputs.get(o)).map(|o| o.port.as_str());
        let links: Map<String, Json> = node
            .inputs
            .iter()
            .map(|input| {
                let list = input.links.iter().map(|l| {
                    json!({ "name": l.name, "node": id_of(l.node), "port": port_of(l.node, l.output), "element": l.element })
                });
                (input.port.clone(), Json::Array(list.collect()))
            })
            .collect();
        let checkpoints: Map<String, Json> = node
            .checkpoints
            .iter()
            .map(|(param, checkpoint)| {
                let files: Map<String, Json> =
                    checkpoint.card.files.iter().map(|f| (f.path.clone(), json!(f.sha256))).collect();
                (param.clone(), json!({ "card": checkpoint.card.json, "files": files }))
            })
            .collect();
        let asserts: Vec<Json> = node
            .asserts
            .iter()
            .map(|a| {
                let output = node.outputs.get(a.output).map(|o| o.port.as_str());
                json!({ "output": output, "node": id_of(a.node), "port": port_of(a.node, a.of), "element": a.element })
            })
            .collect();
        json!({
            "id": node.id,
            "stage": node.entry.spec.id,
            "version": node.entry.spec.version,
            "params": node.params,
            "checkpoints": checkpoints,
            "select": node.select,
            "asserts": asserts,
            "inputs": links,
            "outputs": node.outputs.iter().map(|o| json!({ "port": o.port, "caps": o.caps })).collect::<Vec<_>>(),
        })
    }
}

/// The same value with the keys of every object sorted.
fn sorted(value: &Json) -> Json {
    match value {
        Json::Object(map) => {
            let mut entries: Vec<(&String, &Json)> = map.iter().collect();
            entries.sort_by_key(|(key, _)| *key);
            Json::Object(entries.into_iter().map(|(k, v)| (k.clone(), sorted(v))).collect())
        }
        Json::Array(items) => Json::Array(items.iter().map(sorted).collect()),
        other => other.clone(),
    }
}
