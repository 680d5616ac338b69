//! [`StageSpec`]: one `[stage.<id>]` of a manifest.

use indexmap::IndexMap;

use crate::diagnostic::{At, Diagnostic, did_you_mean};
use crate::pipeline::document::read_format;
use crate::pipeline::spanned::{self, Reader, Text, Toml, TomlTable, TomlValue, wrong_type};

use super::caps::Side;
use super::manifest::{bad_id, is_stage_id};
use super::params::{ParamKind, ParamSpec};
use super::ports::{PortSpec, read_ports, refuse};
use super::rules;

/// How much of a case a stage sees in one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scope {
    /// A batch of slices.
    Slice,
    /// A batch of slices and their neighbours.
    Slab,
    /// A whole volume.
    Volume,
    /// Every series of a case.
    Case,
    /// Every case of a run.
    Cohort,
    /// A training run.
    Train,
}

impl Scope {
    /// As the manifest writes it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Slice => "slice",
            Self::Slab => "slab",
            Self::Volume => "volume",
            Self::Case => "case",
            Self::Cohort => "cohort",
            Self::Train => "train",
        }
    }
}

/// May calls of one instance overlap?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Concurrency {
    /// One call at a time.
    Serial,
    /// Any number.
    Parallel,
}

/// What makes a result repeatable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Determinism {
    /// The same bytes everywhere.
    Bitwise,
    /// The same bytes for the same seed.
    Seeded,
    /// The same bytes on the same device only.
    Device,
}

/// Neighbouring slices a slab stage needs on each side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Halo {
    /// Always this many.
    Slices(u32),
    /// As the int parameter says.
    Param(String),
    /// At most this many; `begin` says how many.
    Max(u32),
}

/// Estimates for the plan, in bytes beyond the host's own buffers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Resources {
    /// Most slices a call, where limited.
    pub batch_max: Option<u32>,
    /// Main memory, once.
    pub host_bytes: u64,
    /// Main memory for each slice of a batch.
    pub host_bytes_per_slice: u64,
    /// Device memory, once.
    pub device_bytes: u64,
    /// Device memory for each slice of a batch.
    pub device_bytes_per_slice: u64,
}

/// Where a source's cases come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cases {
    /// The input folders.
    Input,
    /// As many as the int parameter says.
    Param(String),
}

/// An external process instead of a library.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Program and arguments.
    pub command: Vec<String>,
    /// Version of the wire format.
    pub wire: u32,
}

/// One stage.
#[derive(Debug, Clone, PartialEq)]
pub struct StageSpec {
    /// Its id.
    pub id: String,
    /// Its own version.
    pub version: String,
    /// One line for people.
    pub summary: String,
    /// SPDX expression.
    pub licence: String,
    /// How much it sees at once.
    pub scope: Scope,
    /// May calls overlap?
    pub concurrency: Concurrency,
    /// Where it can run.
    pub devices: Vec<String>,
    /// What makes it repeatable.
    pub determinism: Determinism,
    /// What it does besides computing; empty: pure.
    pub effects: Vec<String>,
    /// Host services it may ask for.
    pub services: Vec<String>,
    /// Sentences that it may say although it sees identities; `{n}` stands for a number.
    pub messages: Vec<String>,
    /// Extensions it may ask for.
    pub extensions: Vec<String>,
    /// Sources: where cases come from.
    pub cases: Option<Cases>,
    /// Slab stages: neighbours needed.
    pub halo: Option<Halo>,
    /// Estimates for the plan.
    pub resources: Resources,
    /// An external process instead of a library.
    pub process: Option<Process>,
    /// Inputs in document order.
    pub inputs: Vec<PortSpec>,
    /// Outputs in document order.
    pub outputs: Vec<PortSpec>,
    /// Parameters in document order.
    pub params: IndexMap<String, ParamSpec>,
    /// Where the stage's id stands.
    pub at: At,
}

impl StageSpec {
    /// The input called `name`.
    pub fn input(&self, name: &str) -> Option<(usize, &PortSpec)> {
        self.inputs.iter().enumerate().find(|(_, p)| p.name == name)
    }

    /// The output called `name`.
    pub fn output(&self, name: &str) -> Option<(usize, &PortSpec)> {
        self.outputs.iter().enumerate().find(|(_, p)| p.name == name)
    }

    /// True of a source that gives SOP instances as they are, not a series that makes a volume.
    pub fn gives_instances(&self) -> bool {
        self.cases.is_some() && self.outputs.iter().any(|port| port.kind() == Some("headers"))
    }

    /// True where a port shows headers: the text of the stage's reports is then held back.
    pub fn sees_identity(&self) -> bool {
        self.inputs.iter().chain(&self.outputs).any(PortSpec::sees_headers)
    }

    /// True for a stage that can run without any data input: it has none, or optional ones only.
    pub fn is_source(&self) -> bool {
        self.inputs.iter().all(|p| p.host.is_some() || !p.is_required())
    }

    /// The input that the string parameter `param` fills with a reference: the one of the same name.
    pub fn bound_input(&self, param: &ParamSpec) -> Option<usize> {
        match param.kind {
            ParamKind::String => self.input(&param.name).map(|(i, _)| i),
            _ => None,
        }
    }

    /// The checkpoint parameters, in document order.
    pub fn checkpoint_params(&self) -> impl Iterator<Item = &ParamSpec> {
        self.params.values().filter(|p| p.kind == ParamKind::Checkpoint)
    }
}

pub(super) fn read_stage(id: &str, at: &At, table: &TomlTable, diagnostics: &mut Vec<Diagnostic>) -> Option<StageSpec> {
    if !is_stage_id(id) {
        bad_id(id, at, "a stage", diagnostics);
    }
    let mut reader = Reader::new(table, format!("stage `{id}`"));
    let version = reader.required_string("version", diagnostics);
    let summary = reader.required_string("summary", diagnostics);
    let licence = reader.required_string("licence", diagnostics);
    let scope = reader.required_string("scope", diagnostics).and_then(|t| {
        let words = [Scope::Slice, Scope::Slab, Scope::Volume, Scope::Case, Scope::Cohort, Scope::Train];
        one_of(&t, "scope", &words.map(|s| (s.word(), s)), diagnostics)
    });
    let words = [("serial", Concurrency::Serial), ("parallel", Concurrency::Parallel)];
    let concurrency =
        reader.string("concurrency", diagnostics).and_then(|t| one_of(&t, "concurrency", &words, diagnostics));
    let words = [("bitwise", Determinism::Bitwise), ("seeded", Determinism::Seeded), ("device", Determinism::Device)];
    let determinism =
        reader.string("determinism", diagnostics).and_then(|t| one_of(&t, "determinism", &words, diagnostics));
    let devices = subset(&mut reader, "devices", &["cpu", "cuda"], diagnostics);
    let effects =
        subset(&mut reader, "effects", &["net", "db-read", "db-write", "files", "process", "human"], diagnostics);
    let services = versioned(&mut reader, "services", diagnostics);
    let messages = reader.strings("messages", diagnostics).map(|t| t.into_iter().map(|t| t.text).collect());
    let extensions = versioned(&mut reader, "extensions", diagnostics);
    let cases = reader.string("cases", diagnostics).and_then(|t| match t.text.as_str() {
        "input" => Some(Cases::Input),
        other if other.starts_with('$') => Some(Cases::Param(other[1..].to_owned())),
        _ => {
            refuse(diagnostics, &t.at, "`cases` is \"input\" or an int parameter, as in \"$count\"".to_owned());
            None
        }
    });
    let halo = reader.take("halo").and_then(|e| read_halo(&e.value, diagnostics));
    let resources = reader.table("resources", diagnostics).map(|t| read_resources(t, diagnostics)).unwrap_or_default();
    let process = reader.table("process", diagnostics).and_then(|t| read_process(t, diagnostics));
    let inputs = read_ports(reader.table("inputs", diagnostics), Side::Input, id, diagnostics);
    let outputs = read_ports(reader.table("outputs", diagnostics), Side::Output, id, diagnostics);
    let params = read_params(reader.table("params", diagnostics), id, diagnostics);
    reader.finish(diagnostics);
    let spec = StageSpec {
        id: id.to_owned(),
        version: version?.text,
        summary: summary?.text,
        licence: licence?.text,
        scope: scope?,
        concurrency: concurrency.unwrap_or(Concurrency::Serial),
        devices: if devices.is_empty() { vec!["cpu".to_owned()] } else { devices },
        determinism: determinism.unwrap_or(Determinism::Bitwise),
        effects,
        services,
        messages: messages.unwrap_or_default(),
        extensions,
        cases,
        halo,
        resources,
        process,
        inputs,
        outputs,
        params,
        at: at.clone(),
    };
    rules::check(&spec, table, diagnostics);
    Some(spec)
}

fn one_of<T: Copy>(text: &Text, key: &str, words: &[(&str, T)], diagnostics: &mut Vec<Diagnostic>) -> Option<T> {
    let found = words.iter().find(|(word, _)| *word == text.text).map(|(_, value)| *value);
    if found.is_none() {
        diagnostics.push(
            Diagnostic::error(
                "bad-manifest",
                format!("`{key}` cannot be \"{}\"", text.text),
                text.at.label("not allowed"),
            )
            .help_if(did_you_mean(&text.text, "values", words.iter().map(|(w, _)| *w))),
        );
    }
    found
}

fn subset(
    reader: &mut Reader<'_>,
    key: &'static str,
    words: &[&str],
    diagnostics: &mut Vec<Diagnostic>,
) -> Vec<String> {
    let pairs: Vec<(&str, ())> = words.iter().map(|w| (*w, ())).collect();
    let texts = reader.strings(key, diagnostics).unwrap_or_default();
    texts.into_iter().filter(|t| one_of(t, key, &pairs, diagnostics).is_some()).map(|t| t.text).collect()
}

/// A list of names with a version: `gantry.pseudonym/1`.
fn versioned(reader: &mut Reader<'_>, key: &'static str, diagnostics: &mut Vec<Diagnostic>) -> Vec<String> {
    let mut out = Vec::new();
    for text in reader.strings(key, diagnostics).unwrap_or_default() {
        match text.text.rsplit_once('/') {
            Some((name, version)) if !name.is_empty() && version.parse::<u32>().is_ok() => out.push(text.text),
            _ => refuse(
                diagnostics,
                &text.at,
                format!("`{}` is not a name with a version, such as \"gantry.sql/1\"", text.text),
            ),
        }
    }
    out
}

fn read_halo(value: &TomlValue, diagnostics: &mut Vec<Diagnostic>) -> Option<Halo> {
    match &value.data {
        Toml::Integer(n) if u32::try_from(*n).is_ok() => u32::try_from(*n).ok().map(Halo::Slices),
        Toml::String(s) if s.starts_with('$') => Some(Halo::Param(s[1..].to_owned())),
        Toml::Table(table) => {
            let mut reader = Reader::new(table, "halo");
            if reader.take("max").is_none() {
                reader.missing("max", diagnostics);
            }
            let max = reader.unsigned("max", diagnostics).and_then(|n| u32::try_from(n).ok());
            reader.finish(diagnostics);
            max.map(Halo::Max)
        }
        _ => wrong_type(value, "halo", "a number of slices, \"$param\" or { max = n }", diagnostics),
    }
}

fn read_resources(table: &TomlTable, diagnostics: &mut Vec<Diagnostic>) -> Resources {
    let mut reader = Reader::new(table, "resources");
    let batch_max = reader.unsigned("batch_max", diagnostics).and_then(|n| u32::try_from(n).ok()).filter(|n| *n > 0);
    let mut bytes = |key, diagnostics: &mut Vec<Diagnostic>| reader.unsigned(key, diagnostics).unwrap_or(0);
    let resources = Resources {
        batch_max,
        host_bytes: bytes("host_bytes", diagnostics),
        host_bytes_per_slice: bytes("host_bytes_per_slice", diagnostics),
        device_bytes: bytes("device_bytes", diagnostics),
        device_bytes_per_slice: bytes("device_bytes_per_slice", diagnostics),
    };
    reader.finish(diagnostics);
    resources
}

fn read_process(table: &TomlTable, diagnostics: &mut Vec<Diagnostic>) -> Option<Process> {
    let mut reader = Reader::new(table, "process");
    if reader.take("command").is_none() {
        reader.missing("command", diagnostics);
    }
    let command: Option<Vec<String>> = match reader.take("command").map(|e| &e.value) {
        Some(TomlValue { data: Toml::String(s), .. }) => Some(vec![s.clone()]),
        Some(value) => spanned::strings(value, "command", diagnostics).map(|l| l.into_iter().map(|t| t.text).collect()),
        None => None,
    };
    let wire = read_format(&mut reader, "wire", diagnostics);
    reader.finish(diagnostics);
    Some(Process { command: command?, wire: u32::try_from(wire?).ok()? })
}

fn read_params(
    table: Option<&TomlTable>,
    stage: &str,
    diagnostics: &mut Vec<Diagnostic>,
) -> IndexMap<String, ParamSpec> {
    let mut params = IndexMap::new();
    for entry in table.map(|t| t.entries.as_slice()).unwrap_or_default() {
        let Some(body) = entry.value.as_table() else {
            wrong_type(&entry.value, &entry.key, "a parameter's table", diagnostics).unwrap_or(());
            continue;
        };
        if let Some(spec) = ParamSpec::read(&entry.key, &entry.key_at, body, stage, diagnostics) {
            params.insert(entry.key.clone(), spec);
        }
    }
    params
}
