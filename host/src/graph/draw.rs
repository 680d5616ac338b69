//! The graph as text that others draw: mermaid or dot, each edge with what flows along it.

use std::fmt::Write as _;

use serde_json::Value as Json;

use super::value::words;
use super::{Graph, Link, Node};

impl Graph {
    /// As a mermaid flow chart.
    pub fn mermaid(&self) -> String {
        let mut out = String::from("flowchart LR\n");
        for (i, node) in self.nodes.iter().enumerate() {
            let (open, close) = match (node.inputs.is_empty(), is_sink(node)) {
                (true, _) => ("([", "])"),
                (_, true) => ("[[", "]]"),
                _ => ("[", "]"),
            };
            let _ = writeln!(out, "  n{i}{open}\"{}\"{close}", escape_mermaid(&title(node, "<br>")));
        }
        self.edges(|from, to, text| {
            let _ = writeln!(out, "  n{from} -->|\"{}\"| n{to}", escape_mermaid(text));
        });
        out
    }

    /// As a Graphviz document.
    pub fn dot(&self) -> String {
        let mut out = format!("digraph {} {{\n  rankdir=LR;\n  node [shape=box];\n", quote(&self.name));
        for (i, node) in self.nodes.iter().enumerate() {
            let shape = match (node.inputs.is_empty(), is_sink(node)) {
                (true, _) => ", shape=ellipse",
                (_, true) => ", peripheries=2",
                _ => "",
            };
            let _ = writeln!(out, "  n{i} [label={}{shape}];", quote(&title(node, "\n")));
        }
        self.edges(|from, to, text| {
            let _ = writeln!(out, "  n{from} -> n{to} [label={}];", quote(text));
        });
        out.push_str("}\n");
        out
    }

    fn edges(&self, mut draw: impl FnMut(usize, usize, &str)) {
        for (to, node) in self.nodes.iter().enumerate() {
            for input in &node.inputs {
                for link in &input.links {
                    let name =
                        if link.name.is_empty() { input.port.clone() } else { format!("{}.{}", input.port, link.name) };
                    draw(link.node, to, &format!("{name}: {}", self.flowing(link)));
                }
            }
        }
    }

    /// What flows along a link, in a few words: `image hu CT f32`, `window [-150, 250]`.
    fn flowing(&self, link: &Link) -> String {
        let output = self.nodes.get(link.node).and_then(|n| n.outputs.get(link.output));
        let caps = output.map(|o| o.each.get(link.element.unwrap_or(0)).map_or(&o.caps, |e| &e.caps));
        let Some(caps) = caps else { return String::new() };
        let mut parts: Vec<String> = Vec::new();
        for key in ["kind", "quantity", "modality", "dtype", "schema", "media"] {
            parts.extend(caps.get(key).map(words));
        }
        for key in ["window", "channels", "labels"] {
            parts.extend(caps.get(key).map(|v| format!("{key} {}", words(v))));
        }
        if caps.get("synthetic") == Some(&Json::Bool(true)) {
            parts.push("synthetic".to_owned());
        }
        if let Some(identity) = caps.get("identity").and_then(Json::as_str).filter(|i| *i != "none") {
            parts.push(format!("identity {identity}"));
        }
        parts.join(" ")
    }
}

fn is_sink(node: &Node) -> bool {
    node.outputs.iter().all(|o| !o.read && o.caps.get("kind").and_then(Json::as_str) == Some("file"))
}

fn title(node: &Node, line: &str) -> String {
    if node.id == node.entry.spec.id { node.id.clone() } else { format!("{}{line}{}", node.id, node.entry.spec.id) }
}

fn escape_mermaid(text: &str) -> String {
    text.replace('"', "#quot;")
}

fn quote(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}
