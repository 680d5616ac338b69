//! What is installed: stages from built-in documents and from plugin folders, and checkpoints by their cards.
//!
//! Everything here is read from documents. Only [`library`](self) opening (another file) touches a shared library, and
//! nothing in this module or in `graph` calls it: `gantry check` runs no plugin code.

pub mod builtin;
pub mod caps;
pub mod card;
pub mod hashes;
pub mod library;
pub mod lock;
pub mod manifest;
pub mod model;
pub mod params;
pub mod places;
pub mod ports;
mod rules;
pub mod site;
pub mod stage;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use crate::diagnostic::{Diagnostic, Sources};

pub use card::{Card, CheckpointRef};
pub use manifest::{PluginManifest, Scope, StageSpec};
pub use model::KnownModel;
pub use params::{ParamKind, ParamSpec};
pub use places::{Place, Places};
pub use ports::{Count, PortSpec, View};
pub use site::Site;

/// Everything installed that was found and accepted, and what was not.
#[derive(Debug, Default)]
pub struct Registry {
    /// Stages by id.
    pub stages: BTreeMap<String, Arc<StageEntry>>,
    /// Plugin folders that were accepted, in search order (shadowed ones too).
    pub plugins: Vec<Arc<PluginFolder>>,
    /// Checkpoints by name.
    pub checkpoints: BTreeMap<String, Arc<CheckpointRef>>,
    /// Checkpoints that plugins know of, installed or not, by name.
    pub models: BTreeMap<String, Arc<KnownModel>>,
    /// Every folder that was looked into, in search order.
    pub searched: Vec<Place>,
    /// What was refused, and why.
    pub refused: Vec<Refused>,
    /// Stages and checkpoints that lost to one found earlier.
    pub shadowed: Vec<Shadowed>,
}

/// A stage and where it comes from.
#[derive(Debug, Clone)]
pub struct StageEntry {
    /// Its description.
    pub spec: Arc<StageSpec>,
    /// Its home.
    pub origin: Origin,
}

/// Where a stage comes from.
#[derive(Debug, Clone)]
pub enum Origin {
    /// Part of the host.
    Builtin,
    /// A plugin folder.
    Plugin(Arc<PluginFolder>),
}

/// An installed plugin: one folder with `plugin.toml`, its libraries and its data.
#[derive(Debug)]
pub struct PluginFolder {
    /// The folder.
    pub path: PathBuf,
    /// Its manifest.
    pub manifest: PluginManifest,
    /// The manifest's text, byte for byte.
    pub manifest_text: String,
    /// The library for this machine; it may be missing on disk, which opening it reports.
    pub library: PathBuf,
    hashes: OnceLock<Result<hashes::FolderHashes, String>>,
}

impl PluginFolder {
    /// The sha256 of every file in the folder; computed at the first call.
    ///
    /// # Errors
    /// In words, where a file cannot be read or the folder holds something that is neither file nor folder.
    pub fn hashes(&self) -> Result<&hashes::FolderHashes, &str> {
        self.hashes.get_or_init(|| hashes::FolderHashes::of(&self.path)).as_ref().map_err(String::as_str)
    }
}

/// A plugin or checkpoint folder that was found and not accepted.
#[derive(Debug, Clone)]
pub struct Refused {
    /// The folder.
    pub path: PathBuf,
    /// Every reason, with places.
    pub reasons: Vec<Diagnostic>,
    /// Stage ids or the checkpoint name it would have given, as far as they could be read.
    pub would_give: Vec<String>,
}

/// A stage or checkpoint hidden by an earlier one of the same name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shadowed {
    /// The stage id or checkpoint name.
    pub name: String,
    /// Where the hidden one lies.
    pub path: PathBuf,
    /// Where the one in use lies, or `built in`.
    pub by: String,
}

impl Registry {
    /// Reads the built-in documents and every folder of `places`. Nothing that is wrong in an installed plugin or card is
    /// fatal here: it lands in [`Registry::refused`] and is reported when a pipeline wants it.
    pub fn open(places: &Places, sources: &mut Sources) -> Self {
        let mut registry = Self::default();
        for (name, text) in builtin::MANIFESTS {
            registry.add_builtin(name, text, sources);
        }
        registry.searched = places.plugins.iter().chain(&places.checkpoints).cloned().collect();
        for place in &places.plugins {
            for folder in subfolders_with(&place.path, "plugin.toml") {
                registry.add_plugin(&folder, sources);
            }
        }
        for place in &places.checkpoints {
            for folder in subfolders_with(&place.path, "card.toml") {
                registry.add_checkpoint(&folder, sources);
            }
        }
        registry
    }

    fn add_builtin(&mut self, name: &str, text: &str, sources: &mut Sources) {
        let mut diagnostics = Vec::new();
        let file = sources.add(format!("built in: {name}"), text);
        let manifest = PluginManifest::parse(text, file, manifest::Kind::Builtin, &mut diagnostics);
        match manifest {
            Some(manifest) if !crate::diagnostic::any_error(&diagnostics) => {
                for (id, spec) in manifest.stages {
                    self.stages.insert(id, Arc::new(StageEntry { spec, origin: Origin::Builtin }));
                }
            }
            _ => self.refused.push(Refused { path: PathBuf::from(name), reasons: diagnostics, would_give: Vec::new() }),
        }
    }

    /// Adds one plugin folder, as [`Registry::open`] does for each it finds.
    pub fn add_plugin(&mut self, folder: &Path, sources: &mut Sources) {
        match read_plugin(folder, sources) {
            Ok(plugin) => {
                let plugin = Arc::new(plugin);
                for (id, spec) in &plugin.manifest.stages {
                    if let Some(earlier) = self.stages.get(id) {
                        let by = match &earlier.origin {
                            Origin::Builtin => "built in".to_owned(),
                            Origin::Plugin(other) => other.path.display().to_string(),
                        };
                        self.shadowed.push(Shadowed { name: id.clone(), path: folder.to_owned(), by });
                        continue;
                    }
                    let entry = StageEntry { spec: spec.clone(), origin: Origin::Plugin(plugin.clone()) };
                    self.stages.insert(id.clone(), Arc::new(entry));
                }
                self.plugins.push(plugin);
                self.add_models(&folder.join(model::FOLDER), sources);
            }
            Err(refused) => self.refused.push(refused),
        }
    }

    /// Adds the documents of models in `folder`; the first of a name counts.
    fn add_models(&mut self, folder: &Path, sources: &mut Sources) {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let mut documents: Vec<PathBuf> =
            entries.map(|e| e.path()).filter(|p| p.extension().is_some_and(|e| e == "toml")).collect();
        documents.sort();
        for document in documents {
            match KnownModel::read(&document, sources) {
                Ok(model) => {
                    self.models.entry(model.name.clone()).or_insert_with(|| Arc::new(model));
                }
                Err(refused) => self.refused.push(refused),
            }
        }
    }

    /// Adds one checkpoint folder, as [`Registry::open`] does for each it finds.
    pub fn add_checkpoint(&mut self, folder: &Path, sources: &mut Sources) {
        match CheckpointRef::read(folder, sources) {
            Ok(checkpoint) => {
                if let Some(earlier) = self.checkpoints.get(&checkpoint.name) {
                    let by = earlier.path.display().to_string();
                    self.shadowed.push(Shadowed { name: checkpoint.name, path: folder.to_owned(), by });
                } else {
                    self.checkpoints.insert(checkpoint.name.clone(), Arc::new(checkpoint));
                }
            }
            Err(refused) => self.refused.push(refused),
        }
    }
}

/// Reads one plugin folder's manifest.
///
/// # Errors
/// Every reason why the folder is refused, with places.
pub fn read_plugin(folder: &Path, sources: &mut Sources) -> Result<PluginFolder, Refused> {
    let path = folder.join("plugin.toml");
    let mut diagnostics = Vec::new();
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) => {
            let file = sources.add(path.display().to_string(), "");
            let label = crate::diagnostic::At::new(file, 0..0).label("cannot be read");
            diagnostics.push(Diagnostic::error("unreadable", format!("{}: {error}", path.display()), label));
            return Err(Refused { path: folder.to_owned(), reasons: diagnostics, would_give: Vec::new() });
        }
    };
    let file = sources.add(path.display().to_string(), text.as_str());
    let manifest = PluginManifest::parse(&text, file, manifest::Kind::Plugin, &mut diagnostics);
    let library = manifest.as_ref().and_then(|m| m.library_for_this_machine(folder, &mut diagnostics));
    match (manifest, library) {
        (Some(manifest), Some(library)) if !crate::diagnostic::any_error(&diagnostics) => Ok(PluginFolder {
            path: folder.to_owned(),
            manifest,
            manifest_text: text,
            library,
            hashes: OnceLock::new(),
        }),
        _ => {
            Err(Refused { path: folder.to_owned(), reasons: diagnostics, would_give: manifest::stage_ids(&text, file) })
        }
    }
}

/// The folder itself if it holds `document`, and its direct sub-folders that do, by name.
fn subfolders_with(place: &Path, document: &str) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = match std::fs::read_dir(place) {
        Ok(entries) => {
            entries.filter_map(|e| e.ok()).map(|e| e.path()).filter(|p| p.join(document).is_file()).collect()
        }
        Err(_) => Vec::new(),
    };
    found.sort();
    if place.join(document).is_file() {
        found.insert(0, place.to_owned());
    }
    found
}
