//! [`Site`]: what a hospital or laboratory lays down for every run, and what one invocation adds to it.

use std::path::{Path, PathBuf};

use crate::diagnostic::{At, Diagnostic, Sources};
use crate::pipeline::spanned::{self, Reader};

/// Is a toy checkpoint acceptable?
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Toys {
    /// An error: the input is real.
    #[default]
    Refuse,
    /// A warning: the input is not known yet.
    Warn,
    /// Accepted: `--allow-toy`, or the input is a phantom.
    Allow,
}

/// `site.toml`, and what the command line says about this invocation.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Site {
    /// The document; `None` where there is none.
    pub path: Option<PathBuf>,
    /// `[identity] key_file` or `--key`: the pseudonym key.
    pub key_file: Option<PathBuf>,
    /// Where `key_file` stands, if in the document.
    pub key_at: Option<At>,
    /// `[identity] pseudonyms`: the site's own list of pseudonyms.
    pub pseudonyms: Option<PathBuf>,
    /// True where the host makes a key of its own for this run (the demo).
    pub key_made: bool,
    /// `[policy] writers_must_be_deidentified`
    pub writers_must_be_deidentified: bool,
    /// Where that stands.
    pub policy_at: Option<At>,
    /// `[policy] permitted_options`: the options of PS3.15 Annex E that a de-identifying stage may be given; `None`: all.
    pub permitted_options: Option<Vec<String>>,
    /// Where that stands.
    pub permitted_at: Option<At>,
    /// `[plugins] require_lock`
    pub require_lock: bool,
    /// `[resources] memory_gb`
    pub memory_gb: Option<f64>,
    /// `[resources] jobs`
    pub jobs: Option<u32>,
    /// `[run] precision` or `--precision`: fills the parameter `precision` of every stage that has one and whose node
    /// does not set it.
    pub precision: Option<String>,
    /// Where that stands, if in the document.
    pub precision_at: Option<At>,
    /// `--allow-toy`, phantoms, or the plain check.
    pub toys: Toys,
}

/// The options of PS3.15 Annex E by the names that de-identifying stages have for them.
pub const OPTIONS: [&str; 11] = [
    "uids",
    "device",
    "institution",
    "patient-characteristics",
    "full-dates",
    "modified-dates",
    "safe-private",
    "descriptors",
    "graphics",
    "structured-content",
    "pixel-data",
];

/// The value of a parameter `precision` or `instructions` that leaves the choice to the stage.
pub const AUTO: &str = "auto";
/// The precisions a run can have.
pub const PRECISIONS: [&str; 4] = ["f32", "f32x3", "bf16", "int8"];

impl Site {
    /// Reads `--site FILE`, else the user's, else the machine's; the default where there is none.
    ///
    /// # Errors
    /// The operating system's for a file that was named or exists and cannot be read; the path is in the message.
    pub fn find(
        given: Option<&Path>,
        sources: &mut Sources,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> std::io::Result<Self> {
        let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|p| p.is_absolute());
        let config = absolute("XDG_CONFIG_HOME").or_else(|| absolute("HOME").map(|h| h.join(".config")));
        let usual =
            config.map(|c| c.join("gantry/site.toml")).into_iter().chain([PathBuf::from("/etc/gantry/site.toml")]);
        match given.map(Path::to_owned).or_else(|| usual.into_iter().find(|p| p.is_file())) {
            Some(path) => Self::load(&path, sources, diagnostics),
            None => Ok(Self::default()),
        }
    }

    /// What one invocation asks for by `--precision`, in place of the document's word.
    pub fn ask_precision(&mut self, asked: Option<&str>) {
        if let Some(asked) = asked {
            self.precision = Some(asked.to_owned());
            self.precision_at = None;
        }
    }

    /// The precision asked of stages that may choose: `auto` where nobody asks.
    pub fn precision(&self) -> &str {
        self.precision.as_deref().unwrap_or(AUTO)
    }

    /// Reads one site document. A relative `key_file` is taken from the document's folder.
    ///
    /// # Errors
    /// The operating system's, with the path in the message.
    pub fn load(path: &Path, sources: &mut Sources, diagnostics: &mut Vec<Diagnostic>) -> std::io::Result<Self> {
        let text = std::fs::read_to_string(path)
            .map_err(|e| std::io::Error::new(e.kind(), format!("{}: {e}", path.display())))?;
        let file = sources.add(path.display().to_string(), text.as_str());
        let mut site = Self::parse(&text, file, diagnostics);
        site.key_file = site.key_file.map(|key| path.parent().unwrap_or(Path::new("")).join(key));
        site.pseudonyms = site.pseudonyms.map(|list| path.parent().unwrap_or(Path::new("")).join(list));
        site.path = Some(path.to_owned());
        Ok(site)
    }

    /// Reads a site document already registered as file `file`.
    pub fn parse(text: &str, file: usize, diagnostics: &mut Vec<Diagnostic>) -> Self {
        let mut site = Self::default();
        let root = spanned::parse(text, file, diagnostics);
        let mut reader = Reader::new(&root, "a site");
        if let Some(table) = reader.table("identity", diagnostics) {
            let mut inner = Reader::new(table, "[identity]");
            if let Some(key) = inner.string("key_file", diagnostics) {
                site.key_file = Some(PathBuf::from(key.text));
                site.key_at = Some(key.at);
            }
            site.pseudonyms = inner.string("pseudonyms", diagnostics).map(|list| PathBuf::from(list.text));
            inner.finish(diagnostics);
        }
        if let Some(table) = reader.table("policy", diagnostics) {
            let mut inner = Reader::new(table, "[policy]");
            site.writers_must_be_deidentified =
                inner.boolean("writers_must_be_deidentified", diagnostics).unwrap_or(false);
            site.policy_at = table.get("writers_must_be_deidentified").map(|e| e.key_at.clone());
            if let Some(options) = inner.strings("permitted_options", diagnostics) {
                for unknown in options.iter().filter(|o| !OPTIONS.contains(&o.text.as_str())) {
                    let known = OPTIONS.map(|o| format!("\"{o}\"")).join(", ");
                    refuse_value(diagnostics, &unknown.at, format!("`permitted_options` are of {known}"));
                }
                site.permitted_options = Some(options.into_iter().map(|o| o.text).collect());
                site.permitted_at = table.get("permitted_options").map(|e| e.key_at.clone());
            }
            inner.finish(diagnostics);
        }
        if let Some(table) = reader.table("plugins", diagnostics) {
            let mut inner = Reader::new(table, "[plugins]");
            site.require_lock = inner.boolean("require_lock", diagnostics).unwrap_or(false);
            inner.finish(diagnostics);
        }
        if let Some(table) = reader.table("resources", diagnostics) {
            let mut inner = Reader::new(table, "[resources]");
            site.memory_gb = inner.number("memory_gb", diagnostics);
            if let (Some(gb), Some(entry)) = (site.memory_gb, table.get("memory_gb"))
                && (!gb.is_finite() || gb <= 0.0)
            {
                refuse_value(diagnostics, &entry.value.at, "`memory_gb` must be above 0".to_owned());
            }
            site.jobs = inner.unsigned("jobs", diagnostics).and_then(|n| u32::try_from(n).ok());
            if let (Some(0), Some(entry)) = (site.jobs, table.get("jobs")) {
                refuse_value(diagnostics, &entry.value.at, "`jobs` must be at least 1".to_owned());
            }
            inner.finish(diagnostics);
        }
        if let Some(table) = reader.table("run", diagnostics) {
            let mut inner = Reader::new(table, "[run]");
            if let Some(text) = inner.string("precision", diagnostics) {
                if !PRECISIONS.contains(&text.text.as_str()) {
                    let known = PRECISIONS.map(|p| format!("\"{p}\"")).join(", ");
                    refuse_value(diagnostics, &text.at, format!("`precision` is one of {known}"));
                }
                site.precision = Some(text.text);
                site.precision_at = Some(text.at);
            }
            inner.finish(diagnostics);
        }
        reader.finish(diagnostics);
        site
    }
}

fn refuse_value(diagnostics: &mut Vec<Diagnostic>, at: &At, message: String) {
    diagnostics.push(Diagnostic::error("bad-value", message, at.label("not allowed")));
}
