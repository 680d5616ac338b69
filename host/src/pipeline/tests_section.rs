//! The `[[tests]]` blocks of a pipeline: which phantom goes into which source, and what must be true of a node's output.

use std::collections::BTreeMap;

use crate::diagnostic::{At, Diagnostic};

use super::spanned::{Reader, Text, Toml, TomlTable, wrong_type};

/// One `[[tests]]` block.
#[derive(Debug, Clone, PartialEq)]
pub struct TestDoc {
    /// What the test is called.
    pub name: Text,
    /// `in`: source node -> phantom (`"phantom:chest-ct"`).
    pub inputs: BTreeMap<String, Text>,
    /// What must hold afterwards.
    pub expect: Vec<ExpectDoc>,
    /// Where the block starts.
    pub at: At,
}

/// One expectation: `{ node, absent }` or `{ node, where, equals }`.
#[derive(Debug, Clone, PartialEq)]
pub struct ExpectDoc {
    /// The node (or `node.port`) looked at.
    pub node: Text,
    /// DICOM attributes that must be absent or empty in the node's headers.
    pub absent: Vec<Text>,
    /// Which voxels are compared, `"ncct > 250 HU"`; all where absent.
    pub where_: Option<Text>,
    /// The node whose voxels must be equal there.
    pub equals: Option<Text>,
    /// Where it stands.
    pub at: At,
}

impl TestDoc {
    pub(super) fn read(table: &TomlTable, diagnostics: &mut Vec<Diagnostic>) -> Option<Self> {
        let mut reader = Reader::new(table, "a test");
        let name = reader.required_string("name", diagnostics);
        let mut inputs = BTreeMap::new();
        if let Some(sources) = reader.table("in", diagnostics) {
            for entry in &sources.entries {
                match &entry.value.data {
                    Toml::String(s) => {
                        inputs.insert(entry.key.clone(), Text { text: s.clone(), at: entry.value.at.clone() });
                    }
                    _ => wrong_type(&entry.value, &entry.key, "a string such as \"phantom:chest-ct\"", diagnostics)
                        .unwrap_or(()),
                }
            }
        }
        let mut expect = Vec::new();
        match reader.take("expect") {
            None => reader.missing("expect", diagnostics),
            Some(entry) => match entry.value.as_array() {
                None => wrong_type(&entry.value, "expect", "a list of tables", diagnostics).unwrap_or(()),
                Some(items) => {
                    for item in items {
                        match item.as_table() {
                            Some(t) => expect.extend(ExpectDoc::read(t, diagnostics)),
                            None => wrong_type(item, "expect", "a table", diagnostics).unwrap_or(()),
                        }
                    }
                }
            },
        }
        reader.finish(diagnostics);
        Some(Self { name: name?, inputs, expect, at: table.at.clone() })
    }
}

impl ExpectDoc {
    fn read(table: &TomlTable, diagnostics: &mut Vec<Diagnostic>) -> Option<Self> {
        let mut reader = Reader::new(table, "an expectation");
        let node = reader.required_string("node", diagnostics);
        let absent = reader.strings("absent", diagnostics).unwrap_or_default();
        let where_ = reader.string("where", diagnostics);
        let equals = reader.string("equals", diagnostics);
        if absent.is_empty() && equals.is_none() {
            diagnostics.push(Diagnostic::error(
                "missing-key",
                "an expectation says neither `absent` nor `equals`",
                table.at.label("nothing is expected here"),
            ));
        }
        if let (Some(w), None) = (&where_, &equals) {
            diagnostics.push(Diagnostic::error("missing-key", "`where` needs `equals`", w.at.label("equal to what?")));
        }
        reader.finish(diagnostics);
        Some(Self { node: node?, absent, where_, equals, at: table.at.clone() })
    }
}
