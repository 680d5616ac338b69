//! A request: everything a user asked of a run, as plain data. The supervisor and every worker make the same plan of it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Arithmetic, Plan};
use crate::diagnostic::{Diagnostic, Sources, any_error};
use crate::graph::{self, Graph};
use crate::identity::Assigned;
use crate::pipeline::Document;
use crate::registry::site::Toys;
use crate::registry::{Origin, Places, Registry, Scope, Site};

/// What a run was asked to do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// The pipeline's path, as messages show it.
    pub pipeline: String,
    /// The pipeline's text: a file that changes during the run changes nothing.
    pub pipeline_text: String,
    /// `--set`.
    pub set: Vec<String>,
    /// `--keep`: nodes whose first output is also written as NIfTI.
    pub keep: Vec<String>,
    /// `--plugins`, absolute.
    pub plugins: Vec<PathBuf>,
    /// `--checkpoints`, absolute.
    pub checkpoints: Vec<PathBuf>,
    /// `--site`.
    pub site: Option<PathBuf>,
    /// `--key` or the site's key file.
    pub key: Option<PathBuf>,
    /// `--pseudonyms` or the site's list of pseudonyms.
    #[serde(default)]
    pub pseudonyms: Option<PathBuf>,
    /// Toy checkpoints may be used: on phantoms, or because the user said so.
    pub toys: bool,
    /// Precision and device.
    pub arithmetic: Arithmetic,
    /// Threads of one case worker.
    pub threads: usize,
}

/// What a request turned into.
pub struct Planned {
    /// The document.
    pub document: Document,
    /// Site rules.
    pub site: Site,
    /// The plan.
    pub plan: Plan,
    /// Plugins in use: id, folder digest.
    pub plugins: BTreeMap<String, String>,
    /// Checkpoints in use: name, digest over its files.
    pub checkpoints: BTreeMap<String, String>,
    /// Warnings.
    pub warnings: Vec<Diagnostic>,
}

/// A refused request: diagnostics of documents, or an integrity failure of a plugin folder.
pub enum Refused {
    /// Exit 2: what is wrong in the documents.
    Documents(Vec<Diagnostic>),
    /// Exit 3: a document or folder cannot be read.
    Environment(String),
    /// Exit 4: a plugin folder cannot be hashed.
    Integrity(String),
    /// Exit 2: what is wrong in the site's list of pseudonyms.
    Pseudonyms(String),
}

/// The documents of a request, checked.
pub struct Checked {
    /// The document, if it could be read.
    pub document: Option<Document>,
    /// The graph, if there is no error.
    pub graph: Option<Graph>,
    /// Everything installed.
    pub registry: Registry,
    /// Site rules.
    pub site: Site,
    /// Errors and warnings.
    pub diagnostics: Vec<Diagnostic>,
}

impl Request {
    /// Reads and checks every document. No library is opened.
    ///
    /// # Errors
    /// If the site file that was asked for cannot be read.
    pub fn check(&self, sources: &mut Sources) -> Result<Checked, Refused> {
        let mut diagnostics = Vec::new();
        let mut site = Site::find(self.site.as_deref(), sources, &mut diagnostics)
            .map_err(|e| Refused::Environment(e.to_string()))?;
        if let Some(key) = &self.key {
            site.key_file = Some(key.clone());
        }
        site.ask_precision(self.arithmetic.precision.as_deref());
        if self.toys {
            site.toys = Toys::Allow;
        }
        let places = Places::find(&self.plugins, &self.checkpoints);
        let registry = Registry::open(&places, sources);
        let document = Document::parse(&self.pipeline, &self.pipeline_text, &self.set, sources, &mut diagnostics);
        let document = document.map(|d| self.with_kept(d, sources, &mut diagnostics));
        let mut graph = None;
        if let Some(document) = &document {
            let (built, found) = graph::build(document, &registry, &site);
            diagnostics.extend(found);
            graph = built.filter(|_| !any_error(&diagnostics));
        }
        Ok(Checked { document, graph, registry, site, diagnostics })
    }

    /// Adds a `nifti-write` node for every `--keep`.
    fn with_kept(&self, document: Document, sources: &mut Sources, diagnostics: &mut Vec<Diagnostic>) -> Document {
        let mut document = document;
        for (i, kept) in self.keep.iter().enumerate() {
            let node = kept.split('.').next().unwrap_or_default();
            let text = format!(
                "format = 1\nname = \"keep\"\n[nodes.keep-{node}]\nstage = \"nifti-write\"\nfrom = \"{kept}\"\nparams = {{ name = \"{node}\" }}\n"
            );
            let parsed = Document::parse(&format!("--keep {kept} (#{i})"), &text, &[], sources, diagnostics);
            document.nodes.extend(parsed.into_iter().flat_map(|d| d.nodes));
        }
        document
    }

    /// Checks, hashes what is installed, and plans.
    ///
    /// # Errors
    /// Everything wrong in the documents, or a plugin folder that cannot be hashed.
    pub fn plan(&self, sources: &mut Sources) -> Result<Planned, Refused> {
        let Checked { document, graph, site, diagnostics, .. } = self.check(sources)?;
        let (Some(document), Some(graph)) = (document, graph) else { return Err(Refused::Documents(diagnostics)) };
        let mut beyond = diagnostics.clone();
        for node in &graph.nodes {
            let spec = &node.entry.spec;
            let what = match (spec.scope, &spec.process) {
                (Scope::Cohort | Scope::Train, _) => format!("stages of scope `{}`", spec.scope.word()),
                (_, Some(_)) => "stages that are external processes".to_owned(),
                _ => continue,
            };
            beyond.push(Diagnostic::error(
                "not-run-yet",
                format!("node `{}` cannot be run: this version does not run {what}", node.id),
                spec.at.label("declared here"),
            ));
        }
        if any_error(&beyond) {
            return Err(Refused::Documents(beyond));
        }
        let mut plugins = BTreeMap::new();
        let mut checkpoints = BTreeMap::new();
        for node in &graph.nodes {
            if let Origin::Plugin(folder) = &node.entry.origin {
                let hashes = folder
                    .hashes()
                    .map_err(|why| Refused::Integrity(format!("plugin `{}`: {why}", folder.manifest.id)))?;
                plugins.insert(folder.manifest.id.clone(), hashes.digest.clone());
            }
            for checkpoint in node.checkpoints.values() {
                checkpoints.insert(checkpoint.name.clone(), checkpoint.digest());
            }
        }
        let mut pins: Vec<(String, String)> =
            plugins.iter().chain(&checkpoints).map(|(k, v)| (k.clone(), v.clone())).collect();
        if let Some(path) = &self.pseudonyms {
            let list = Assigned::load(path).map_err(|e| Refused::Pseudonyms(e.to_string()))?;
            pins.push(("pseudonyms".to_owned(), list.digest().to_owned()));
        }
        let plan = Plan::new(Arc::new(graph), self.threads, &self.arithmetic, &pins);
        Ok(Planned { document, site, plan, plugins, checkpoints, warnings: diagnostics })
    }
}
