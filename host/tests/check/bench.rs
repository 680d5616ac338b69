//! A pipeline, a registry and a site to try mistakes on.

use std::path::{Path, PathBuf};

use gantry_host::diagnostic::{Diagnostic, Sources, any_error};
use gantry_host::graph::{self, Graph};
use gantry_host::pipeline::Document;
use gantry_host::registry::site::Toys;
use gantry_host::registry::{Place, Places, Registry, Site};

/// The root of the repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("host/ lies in the workspace").to_owned()
}

/// A pipeline and what is installed.
pub struct Bench {
    pub text: String,
    pub set: Vec<String>,
    pub site: Site,
    pub places: Places,
}

/// What came out.
pub struct Outcome {
    pub graph: Option<Graph>,
    pub diagnostics: Vec<Diagnostic>,
    pub sources: Sources,
}

impl Bench {
    pub fn new(pipeline: &str, plugins: &str, checkpoints: &str) -> Self {
        let place = |path: &str, what| Place { path: root().join(path), why: "test", what };
        let places =
            Places { plugins: vec![place(plugins, "plugins")], checkpoints: vec![place(checkpoints, "checkpoints")] };
        let text = std::fs::read_to_string(root().join(pipeline)).expect("the pipeline is in the repository");
        let site = Site { key_made: true, toys: Toys::Refuse, ..Site::default() };
        Self { text, set: Vec::new(), site, places }
    }

    /// The chain of `config/pipelines/ducosy.toml`.
    pub fn ducosy() -> Self {
        Self::new("config/pipelines/ducosy.toml", "plugins", "tests/data/checkpoints")
    }

    /// The same with a mask from a file.
    pub fn own_mask() -> Self {
        Self::ducosy().change(
            "stage  = \"heart-mask\"\nfrom   = \"ncct\"\nparams = { checkpoint = \"totalseg-heart\", optional = true }\n",
            "stage  = \"labels-read\"\nparams = { of = \"ncct\", path = \"heart.nii.gz\", optional = true }\n",
        )
    }

    /// The chain of `tests/data/brain-mr`.
    pub fn brain_mr() -> Self {
        let folder = "tests/data/brain-mr";
        Self::new(&format!("{folder}/pipeline.toml"), &format!("{folder}/plugins"), &format!("{folder}/checkpoints"))
    }

    /// Replaces `from`, which must stand there exactly once, by `to`.
    pub fn change(mut self, from: &str, to: &str) -> Self {
        assert_eq!(self.text.matches(from).count(), 1, "`{from}` must stand in the pipeline once");
        self.text = self.text.replacen(from, to, 1);
        self
    }

    pub fn set(mut self, argument: &str) -> Self {
        self.set.push(argument.to_owned());
        self
    }

    pub fn forbid_identity(mut self) -> Self {
        self.site.writers_must_be_deidentified = true;
        self
    }

    pub fn use_plugins(&mut self, folder: &Path) {
        self.places.plugins = vec![Place { path: folder.to_owned(), why: "test", what: "plugins" }];
    }

    pub fn use_checkpoints(&mut self, folder: &Path) {
        self.places.checkpoints = vec![Place { path: folder.to_owned(), why: "test", what: "checkpoints" }];
    }

    /// Checks; nothing installed may have been refused.
    pub fn check(&self) -> Outcome {
        self.check_with(false)
    }

    fn check_with(&self, refusals: bool) -> Outcome {
        let mut sources = Sources::new();
        let registry = Registry::open(&self.places, &mut sources);
        let reasons: Vec<_> = registry.refused.iter().flat_map(|r| r.reasons.clone()).collect();
        assert_eq!(reasons.is_empty(), !refusals, "{}", sources.render(&reasons, false));
        let mut diagnostics = Vec::new();
        let document = Document::parse("pipeline.toml", &self.text, &self.set, &mut sources, &mut diagnostics);
        let graph = document.and_then(|document| {
            let (graph, found) = graph::build(&document, &registry, &self.site);
            diagnostics.extend(found);
            graph
        });
        let graph = graph.filter(|_| !any_error(&diagnostics));
        Outcome { graph, diagnostics, sources }
    }

    /// The one error there must be; prints all if there are others.
    pub fn one_error(&self, code: &str) -> Finding {
        self.one_error_of(self.check(), code)
    }

    /// The same where something installed was refused.
    pub fn one_error_with_refusals(&self, code: &str) -> Finding {
        self.one_error_of(self.check_with(true), code)
    }

    fn one_error_of(&self, outcome: Outcome, code: &str) -> Finding {
        let errors: Vec<&Diagnostic> = outcome.diagnostics.iter().filter(|d| d.is_error()).collect();
        let all = outcome.sources.render(&outcome.diagnostics, false);
        assert_eq!(errors.len(), 1, "expected one `{code}`:\n{all}");
        assert_eq!(errors[0].code, code, "{all}");
        assert!(outcome.graph.is_none());
        Finding { diagnostic: errors[0].clone(), text: self.text.clone(), rendered: all, sources: outcome.sources }
    }

    /// The codes of all errors, in order, and words that must stand in the rendered text.
    pub fn check_codes(&self, codes: &[&str], words: &[&str]) {
        let outcome = self.check();
        let text = outcome.sources.render(&outcome.diagnostics, false);
        let found: Vec<&str> = outcome.diagnostics.iter().filter(|d| d.is_error()).map(|d| d.code).collect();
        assert_eq!(found, codes, "{text}");
        for word in words {
            assert!(text.contains(word), "`{word}` is missing:\n{text}");
        }
    }
}

/// One error and where it stands.
pub struct Finding {
    pub diagnostic: Diagnostic,
    pub rendered: String,
    pub sources: Sources,
    text: String,
}

impl Finding {
    /// The primary place is the line of the pipeline that holds `needle` (which stands there once).
    pub fn at(&self, needle: &str) -> &Self {
        assert_eq!(self.text.matches(needle).count(), 1, "`{needle}` must stand in the pipeline once");
        let wanted = self.text.lines().position(|l| l.contains(needle.lines().next_back().unwrap())).unwrap() + 1;
        let label = &self.diagnostic.labels[0];
        assert_eq!(self.sources.name(label.file), Some("pipeline.toml"), "{}", self.rendered);
        let (line, column) = self.sources.line_column(label.file, label.span.start);
        assert_eq!(line, wanted, "{}", self.rendered);
        assert!(column >= 1);
        self
    }

    /// All of these words stand in the rendered finding.
    pub fn says(&self, words: &[&str]) -> &Self {
        for word in words {
            assert!(self.rendered.contains(word), "`{word}` is missing:\n{}", self.rendered);
        }
        self
    }

    /// The places named, first words of each label.
    pub fn names_files(&self, names: &[&str]) -> &Self {
        for name in names {
            let found =
                self.diagnostic.labels.iter().filter_map(|l| self.sources.name(l.file)).any(|n| n.ends_with(name));
            assert!(found, "no label in {name}:\n{}", self.rendered);
        }
        self
    }
}
