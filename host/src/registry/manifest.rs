//! [`PluginManifest`]: `plugin.toml` as a type; its stages are in `stage`.
//!
//! Reading goes in two steps: each key by itself here, in `stage`, `ports`, `caps` and `params`; then in `rules` what must hold
//! between them. A manifest with an error is refused as a whole.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use indexmap::IndexMap;

use crate::diagnostic::{At, Diagnostic};
use crate::pipeline::document::read_format;
use crate::pipeline::spanned::{self, Reader, Text, Toml, wrong_type};

use super::ports::refuse;
use super::stage::read_stage;
pub use super::stage::{Cases, Concurrency, Determinism, Halo, Process, Resources, Scope, StageSpec};

/// Whose manifest it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The host's own stages: no `[plugin]`, no `[library]`.
    Builtin,
    /// A plugin folder's.
    Plugin,
}

/// `plugin.toml`.
#[derive(Debug, Clone, PartialEq)]
pub struct PluginManifest {
    /// `[plugin] id`; empty for built-in stages.
    pub id: String,
    /// `[plugin] version`.
    pub version: String,
    /// `[plugin] vendor`.
    pub vendor: String,
    /// `[plugin] licence`.
    pub licence: String,
    /// `[plugin] abi`, always 1.
    pub abi: u32,
    /// `[library]`: target -> device -> file name.
    pub library: IndexMap<String, IndexMap<String, Text>>,
    /// `[stage.<id>]`.
    pub stages: IndexMap<String, Arc<StageSpec>>,
    /// Where `[library]` (or the document) starts.
    pub library_at: At,
}

impl PluginManifest {
    /// Reads a manifest already registered as file `file`. `None` where nothing usable could be read; otherwise the caller
    /// decides by whether `diagnostics` holds an error.
    pub fn parse(text: &str, file: usize, kind: Kind, diagnostics: &mut Vec<Diagnostic>) -> Option<Self> {
        let root = spanned::parse(text, file, diagnostics);
        let mut reader = Reader::new(&root, "a manifest");
        let format = read_format(&mut reader, "manifest", diagnostics);
        let mut manifest = Self {
            id: String::new(),
            version: String::new(),
            vendor: String::new(),
            licence: String::new(),
            abi: 1,
            library: IndexMap::new(),
            stages: IndexMap::new(),
            library_at: root.at.clone(),
        };
        if kind == Kind::Plugin {
            manifest.read_plugin(&mut reader, diagnostics);
        }
        if reader.take("stage").is_none() {
            reader.missing("stage", diagnostics);
        }
        if let Some(stages) = reader.table("stage", diagnostics) {
            for entry in &stages.entries {
                let Some(body) = entry.value.as_table() else {
                    wrong_type(&entry.value, &entry.key, "a stage's table", diagnostics).unwrap_or(());
                    continue;
                };
                if let Some(spec) = read_stage(&entry.key, &entry.key_at, body, diagnostics) {
                    if kind == Kind::Plugin && spec.process.is_none() && manifest.library.is_empty() {
                        let at = &entry.key_at;
                        refuse(
                            diagnostics,
                            at,
                            format!("stage `{}` has neither a `[library]` nor a `process`", entry.key),
                        );
                    }
                    manifest.stages.insert(entry.key.clone(), Arc::new(spec));
                }
            }
        }
        reader.finish(diagnostics);
        format.map(|_| manifest)
    }

    fn read_plugin(&mut self, reader: &mut Reader<'_>, diagnostics: &mut Vec<Diagnostic>) {
        match reader.table("plugin", diagnostics) {
            None => {
                if reader.take("plugin").is_none() {
                    reader.missing("plugin", diagnostics);
                }
            }
            Some(table) => {
                let mut inner = Reader::new(table, "[plugin]");
                let mut text = |key, diagnostics: &mut Vec<Diagnostic>| inner.required_string(key, diagnostics);
                let id = text("id", diagnostics);
                if let Some(id) = &id
                    && !is_stage_id(&id.text)
                {
                    bad_id(&id.text, &id.at, "a plugin", diagnostics);
                }
                self.id = id.unwrap_or_default().text;
                self.version = text("version", diagnostics).unwrap_or_default().text;
                self.vendor = text("vendor", diagnostics).unwrap_or_default().text;
                self.licence = text("licence", diagnostics).unwrap_or_default().text;
                match inner.take("abi") {
                    None => inner.missing("abi", diagnostics),
                    Some(entry) if entry.value.data == Toml::Integer(1) => {}
                    Some(entry) => diagnostics.push(Diagnostic::error(
                        "unsupported-format",
                        "this host speaks ABI 1",
                        entry.value.at.label("expected 1"),
                    )),
                }
                inner.finish(diagnostics);
            }
        }
        let Some(library) = reader.table("library", diagnostics) else { return };
        self.library_at = library.at.clone();
        for target in &library.entries {
            let Some(devices) = target.value.as_table() else {
                wrong_type(&target.value, &target.key, "device = \"file\"", diagnostics).unwrap_or(());
                continue;
            };
            let mut files = IndexMap::new();
            for device in &devices.entries {
                match device.value.as_str() {
                    Some(name) if is_plain_file_name(name) => {
                        files.insert(device.key.clone(), Text { text: name.to_owned(), at: device.value.at.clone() });
                    }
                    Some(name) => refuse(
                        diagnostics,
                        &device.value.at,
                        format!("`{name}` is not the name of a file beside this document"),
                    ),
                    None => wrong_type(&device.value, &device.key, "a file name", diagnostics).unwrap_or(()),
                }
            }
            self.library.insert(target.key.clone(), files);
        }
    }

    /// The file name of the library for this machine and a device, if the plugin has one.
    pub fn library_for(&self, device: &str) -> Option<&str> {
        self.library.get(&this_target())?.get(device).map(|name| name.text.as_str())
    }

    /// The library for this machine's CPU, in `folder`; an empty path for a plugin of external processes only. Where the
    /// plugin has none for this machine, that is reported.
    pub fn library_for_this_machine(&self, folder: &Path, diagnostics: &mut Vec<Diagnostic>) -> Option<PathBuf> {
        if self.library.is_empty() {
            return Some(PathBuf::new());
        }
        let target = this_target();
        match self.library.get(&target).and_then(|devices| devices.get("cpu")) {
            Some(name) => Some(folder.join(&name.text)),
            None => {
                let has = self.library.keys().map(|k| format!("`{k}`")).collect::<Vec<_>>().join(", ");
                diagnostics.push(Diagnostic::error(
                    "no-library",
                    format!("the plugin has no library for `{target}.cpu`; it has {has}"),
                    self.library_at.label("libraries"),
                ));
                None
            }
        }
    }
}

/// This machine, as `[library]` names it: `linux-x86_64`.
pub fn this_target() -> String {
    format!("{}-{}", std::env::consts::OS, std::env::consts::ARCH)
}

/// The stage ids in a manifest's text, as far as they can be read: for refused manifests.
pub fn stage_ids(text: &str, file: usize) -> Vec<String> {
    let root = spanned::parse(text, file, &mut Vec::new());
    match root.get("stage").and_then(|e| e.value.as_table()) {
        Some(stages) => stages.entries.iter().map(|e| e.key.clone()).collect(),
        None => Vec::new(),
    }
}

fn is_plain_file_name(name: &str) -> bool {
    !name.is_empty() && name != "." && name != ".." && !name.contains(['/', '\\', '\0'])
}

/// Kebab-case words joined by points: `hu-window`, `org.example.denoise`.
pub fn is_stage_id(id: &str) -> bool {
    id.len() <= 128
        && id.split('.').all(|word| {
            word.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
                && !word.ends_with('-')
                && word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
        })
}

pub(super) fn bad_id(id: &str, at: &At, what: &str, diagnostics: &mut Vec<Diagnostic>) {
    diagnostics.push(Diagnostic::error(
        "bad-name",
        format!("`{id}` cannot be the id of {what}"),
        at.label("expected kebab-case, third parties with a reverse domain: `org.example.denoise`"),
    ));
}
