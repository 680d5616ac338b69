//! [`Document`]: a pipeline as written, every value with its place.

use std::path::Path;

use indexmap::IndexMap;

use crate::diagnostic::{At, Diagnostic, Sources, did_you_mean};

use super::reference::Reference;
use super::select::Select;
use super::spanned::{self, Reader, Text, Toml, TomlTable, TomlValue, wrong_type};
use super::tests_section::TestDoc;

/// A pipeline as written.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    /// Always 1.
    pub format: i64,
    /// `name`.
    pub name: Text,
    /// `[nodes.<id>]`, in document order.
    pub nodes: IndexMap<String, NodeDoc>,
    /// `[[tests]]`.
    pub tests: Vec<TestDoc>,
    /// `[output]`.
    pub output: OutputDoc,
    /// `seed`; `--seed` goes before it.
    pub seed: Option<u64>,
    /// The document itself, in [`Sources`].
    pub file: usize,
    /// The text, for hashing and for writing it out again.
    pub text: String,
}

/// One node.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeDoc {
    /// Its id, `[A-Za-z0-9][A-Za-z0-9_-]*`, at most 64 characters.
    pub id: Text,
    /// The stage.
    pub stage: Text,
    /// What is connected, in document order.
    pub from: Vec<FromDoc>,
    /// True where a part of `from` could not be read (reported); what is not in `from` was then not left out.
    pub from_faulty: bool,
    /// Parameters as written, or as `--set` gave them.
    pub params: IndexMap<String, TomlValue>,
    /// Where each parameter's key stands.
    pub param_keys: IndexMap<String, At>,
    /// `select`, for sources.
    pub select: Option<Select>,
    /// Where `select` stands.
    pub select_at: Option<At>,
    /// `assert`: promises about this node's outputs, by port.
    pub asserts: Vec<AssertDoc>,
    /// The node's table.
    pub at: At,
}

/// One connection of a node.
#[derive(Debug, Clone, PartialEq)]
pub struct FromDoc {
    /// The input port, `None` for `from = "node"`.
    pub port: Option<Text>,
    /// What is connected there.
    pub form: FromForm,
    /// Where it stands.
    pub at: At,
}

/// The three ways to connect a port.
#[derive(Debug, Clone, PartialEq)]
pub enum FromForm {
    /// `"node.port"`
    One(Reference),
    /// `["a", "b"]`
    Many(Vec<Reference>),
    /// `{ bone = "masks.bone" }`
    Named(Vec<(Text, Reference)>),
}

impl FromForm {
    /// Every reference in it.
    pub fn references(&self) -> Vec<&Reference> {
        match self {
            Self::One(r) => vec![r],
            Self::Many(list) => list.iter().collect(),
            Self::Named(list) => list.iter().map(|(_, r)| r).collect(),
        }
    }
}

/// `assert = { <port> = { grid = "node.port" } }`: believed by the check, verified numerically in every case.
#[derive(Debug, Clone, PartialEq)]
pub struct AssertDoc {
    /// Output port of this node.
    pub port: Text,
    /// Whose grid it has.
    pub grid: Reference,
}

/// `[output]`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct OutputDoc {
    /// How the folder of a case is called.
    pub case_name: CaseName,
    /// Where that is said; `None` for the default.
    pub case_name_at: Option<At>,
}

/// How the folder of a case is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CaseName {
    /// A keyed pseudonym.
    #[default]
    Pseudonym,
    /// The patient folder's name, made safe.
    Folder,
}

/// `--set node.param=value`.
#[derive(Debug, Clone, PartialEq)]
pub struct Override {
    /// The node.
    pub node: Text,
    /// The parameter.
    pub param: Text,
    /// Its value: TOML if it reads as TOML, else the bare text.
    pub value: TomlValue,
}

impl Override {
    /// Reads the argument of one `--set`; a wrong form is reported with code `bad-override`.
    pub fn parse(argument: &str, sources: &mut Sources, diagnostics: &mut Vec<Diagnostic>) -> Option<Self> {
        let file = sources.add(format!("--set {argument}"), argument);
        let parsed =
            argument.split_once('=').and_then(|(path, value)| path.split_once('.').map(|(n, p)| (n, p, value)));
        let Some((node, param, value)) = parsed.filter(|(n, p, _)| !n.is_empty() && !p.is_empty()) else {
            let whole = At::new(file, 0..argument.len());
            diagnostics.push(Diagnostic::error(
                "bad-override",
                format!("`--set {argument}` has not the form node.param=value"),
                whole.label("expected node.param=value"),
            ));
            return None;
        };
        let at = |start: usize, len: usize| At::new(file, start..start + len);
        let value_at = node.len() + param.len() + 2;
        Some(Self {
            node: Text { text: node.to_owned(), at: at(0, node.len()) },
            param: Text { text: param.to_owned(), at: at(node.len() + 1, param.len()) },
            value: spanned::parse_value(value, file, value_at, diagnostics),
        })
    }
}

impl Document {
    /// Reads the pipeline at `path` and applies the `--set` arguments.
    ///
    /// # Errors
    /// The operating system's, where the file cannot be read. Everything wrong *in* the file goes to `diagnostics`;
    /// the document is `None` only where so much is missing that nothing else can be checked.
    pub fn load(
        path: &Path,
        set: &[String],
        sources: &mut Sources,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> std::io::Result<Option<Self>> {
        let text = std::fs::read_to_string(path)?;
        Ok(Self::parse(&path.display().to_string(), &text, set, sources, diagnostics))
    }

    /// Reads a pipeline from text; `name` is what the user sees as the file's name.
    pub fn parse(
        name: &str,
        text: &str,
        set: &[String],
        sources: &mut Sources,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Option<Self> {
        let file = sources.add(name, text);
        let root = spanned::parse(text, file, diagnostics);
        let mut reader = Reader::new(&root, "a pipeline");
        let format = read_format(&mut reader, "format", diagnostics);
        let title = reader.required_string("name", diagnostics);
        let seed = reader.unsigned("seed", diagnostics);
        let output = reader.table("output", diagnostics).map(|t| read_output(t, diagnostics)).unwrap_or_default();
        let mut nodes = IndexMap::new();
        if reader.take("nodes").is_none() {
            reader.missing("nodes", diagnostics);
        }
        if let Some(table) = reader.table("nodes", diagnostics) {
            for entry in &table.entries {
                let Some(body) = entry.value.as_table() else {
                    wrong_type(&entry.value, &entry.key, "a node's table", diagnostics).unwrap_or(());
                    continue;
                };
                let id = Text { text: entry.key.clone(), at: entry.key_at.clone() };
                if let Some(node) = NodeDoc::read(id, body, diagnostics) {
                    nodes.insert(entry.key.clone(), node);
                }
            }
        }
        let tests = read_tests(&mut reader, diagnostics);
        reader.finish(diagnostics);
        let mut document = Self {
            format: format?,
            name: title.unwrap_or_default(),
            nodes,
            tests,
            output,
            seed,
            file,
            text: text.to_owned(),
        };
        for argument in set {
            if let Some(change) = Override::parse(argument, sources, diagnostics) {
                document.apply(change, diagnostics);
            }
        }
        Some(document)
    }

    /// Puts one `--set` in place of what the document says.
    fn apply(&mut self, change: Override, diagnostics: &mut Vec<Diagnostic>) {
        let known: Vec<&str> = self.nodes.keys().map(String::as_str).collect();
        let help = did_you_mean(&change.node.text, "nodes", known);
        match self.nodes.get_mut(&change.node.text) {
            Some(node) => {
                node.param_keys.insert(change.param.text.clone(), change.param.at);
                node.params.insert(change.param.text, change.value);
            }
            None => diagnostics.push(
                Diagnostic::error(
                    "unknown-node",
                    format!("there is no node `{}`", change.node.text),
                    change.node.at.label("no such node"),
                )
                .help_if(help),
            ),
        }
    }
}

/// The version number of a document: 1, or reported.
pub fn read_format(reader: &mut Reader<'_>, key: &'static str, diagnostics: &mut Vec<Diagnostic>) -> Option<i64> {
    let Some(entry) = reader.take(key) else {
        reader.missing(key, diagnostics);
        return None;
    };
    match entry.value.data {
        Toml::Integer(1) => Some(1),
        _ => {
            diagnostics.push(Diagnostic::error(
                "unsupported-format",
                format!("this version of Gantry reads `{key} = 1`"),
                entry.value.at.label("expected 1"),
            ));
            None
        }
    }
}

fn read_output(table: &TomlTable, diagnostics: &mut Vec<Diagnostic>) -> OutputDoc {
    let mut reader = Reader::new(table, "[output]");
    let mut out = OutputDoc::default();
    if let Some(name) = reader.string("case_name", diagnostics) {
        match name.text.as_str() {
            "pseudonym" => out.case_name = CaseName::Pseudonym,
            "folder" => out.case_name = CaseName::Folder,
            _ => diagnostics.push(Diagnostic::error(
                "bad-value",
                format!("`case_name` cannot be `{}`", name.text),
                name.at.label("expected \"pseudonym\" or \"folder\""),
            )),
        }
        out.case_name_at = Some(name.at);
    }
    reader.finish(diagnostics);
    out
}

fn read_tests(reader: &mut Reader<'_>, diagnostics: &mut Vec<Diagnostic>) -> Vec<TestDoc> {
    let Some(entry) = reader.take("tests") else { return Vec::new() };
    let Some(items) = entry.value.as_array() else {
        return wrong_type(&entry.value, "tests", "a list of tables ([[tests]])", diagnostics).unwrap_or_default();
    };
    let mut tests = Vec::new();
    for item in items {
        match item.as_table() {
            Some(table) => tests.extend(TestDoc::read(table, diagnostics)),
            None => wrong_type(item, "tests", "a table", diagnostics).unwrap_or(()),
        }
    }
    tests
}

impl NodeDoc {
    fn read(id: Text, table: &TomlTable, diagnostics: &mut Vec<Diagnostic>) -> Option<Self> {
        if !is_node_id(&id.text) {
            diagnostics.push(Diagnostic::error(
                "bad-name",
                format!("`{}` cannot be the name of a node", id.text),
                id.at.label("expected letters, digits, `-` and `_`, at most 64, starting with a letter or digit"),
            ));
        }
        let mut reader = Reader::new(table, format!("node `{}`", id.text));
        let stage = reader.required_string("stage", diagnostics);
        let before = diagnostics.len();
        let from = match reader.take("from") {
            Some(entry) => read_from(&entry.value, diagnostics),
            None => Vec::new(),
        };
        let from_faulty = diagnostics.len() > before;
        let mut params = IndexMap::new();
        let mut param_keys = IndexMap::new();
        if let Some(table) = reader.table("params", diagnostics) {
            for entry in &table.entries {
                params.insert(entry.key.clone(), entry.value.clone());
                param_keys.insert(entry.key.clone(), entry.key_at.clone());
            }
        }
        let select_at = reader.take("select").map(|entry| entry.key_at.clone());
        let select = reader.table("select", diagnostics).map(|t| Select::read(t, &id.text, diagnostics));
        let asserts = reader.table("assert", diagnostics).map(|t| read_asserts(t, diagnostics)).unwrap_or_default();
        reader.finish(diagnostics);
        Some(Self {
            id,
            stage: stage?,
            from,
            from_faulty,
            params,
            param_keys,
            select,
            select_at,
            asserts,
            at: table.at.clone(),
        })
    }
}

fn is_node_id(id: &str) -> bool {
    id.len() <= 64
        && id.starts_with(|c: char| c.is_ascii_alphanumeric())
        && id.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
}

fn read_from(value: &TomlValue, diagnostics: &mut Vec<Diagnostic>) -> Vec<FromDoc> {
    match &value.data {
        Toml::String(_) => Reference::read(value, diagnostics)
            .map(|r| FromDoc { port: None, form: FromForm::One(r), at: value.at.clone() })
            .into_iter()
            .collect(),
        Toml::Table(table) => table
            .entries
            .iter()
            .filter_map(|entry| {
                let port = Text { text: entry.key.clone(), at: entry.key_at.clone() };
                let form = read_form(&entry.value, diagnostics)?;
                Some(FromDoc { port: Some(port), form, at: entry.value.at.clone() })
            })
            .collect(),
        _ => {
            wrong_type(value, "from", "\"node\", \"node.port\" or { port = \"node\" }", diagnostics).unwrap_or_default()
        }
    }
}

fn read_form(value: &TomlValue, diagnostics: &mut Vec<Diagnostic>) -> Option<FromForm> {
    Some(match &value.data {
        Toml::Array(items) => {
            FromForm::Many(items.iter().map(|v| Reference::read(v, diagnostics)).collect::<Option<_>>()?)
        }
        Toml::Table(table) => FromForm::Named(
            table
                .entries
                .iter()
                .map(|e| {
                    let name = Text { text: e.key.clone(), at: e.key_at.clone() };
                    Some((name, Reference::read(&e.value, diagnostics)?))
                })
                .collect::<Option<_>>()?,
        ),
        _ => FromForm::One(Reference::read(value, diagnostics)?),
    })
}

fn read_asserts(table: &TomlTable, diagnostics: &mut Vec<Diagnostic>) -> Vec<AssertDoc> {
    let mut out = Vec::new();
    for entry in &table.entries {
        let Some(body) = entry.value.as_table() else {
            wrong_type(&entry.value, &entry.key, "a table such as { grid = \"node.port\" }", diagnostics).unwrap_or(());
            continue;
        };
        let mut reader = Reader::new(body, format!("assert of `{}`", entry.key));
        match reader.take("grid") {
            Some(grid) => {
                if let Some(grid) = Reference::read(&grid.value, diagnostics) {
                    out.push(AssertDoc { port: Text { text: entry.key.clone(), at: entry.key_at.clone() }, grid });
                }
            }
            None => reader.missing("grid", diagnostics),
        }
        reader.finish(diagnostics);
    }
    out
}
