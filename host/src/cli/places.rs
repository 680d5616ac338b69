//! Options that say where things are installed and what the site lays down, shared by several verbs.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::diagnostic::{Diagnostic, Sources};
use crate::registry::site::AUTO;
use crate::registry::{Places, Registry, Site};

/// Where plugins and checkpoints are looked for.
#[derive(Debug, Clone, Default, Args)]
pub struct PlacesArgs {
    /// Folder of plugins; looked into first (may be given several times)
    #[arg(long, value_name = "DIR")]
    pub plugins: Vec<PathBuf>,
    /// Folder of checkpoints; looked into first (may be given several times)
    #[arg(long, value_name = "DIR")]
    pub checkpoints: Vec<PathBuf>,
}

impl PlacesArgs {
    /// Reads everything installed.
    pub fn open(&self, sources: &mut Sources) -> Registry {
        Registry::open(&Places::find(&self.plugins, &self.checkpoints), sources)
    }
}

/// What the site lays down.
#[derive(Debug, Clone, Default, Args)]
pub struct SiteArgs {
    /// Site configuration [default: the user's, else /etc/gantry/site.toml]
    #[arg(long, value_name = "FILE")]
    pub site: Option<PathBuf>,
}

impl SiteArgs {
    /// Reads the site document.
    ///
    /// # Errors
    /// In words, where the file cannot be read.
    pub fn open(&self, sources: &mut Sources, diagnostics: &mut Vec<Diagnostic>) -> Result<Site, String> {
        Site::find(self.site.as_deref(), sources, diagnostics).map_err(|e| e.to_string())
    }
}

/// `--precision`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Precision {
    /// What each network takes by itself.
    Auto,
    /// Single precision, multiplied and added as such.
    F32,
    /// As exact as single precision, on matrix units where there are any.
    F32x3,
    /// Products of 8 significant bits.
    Bf16,
    /// Products of whole numbers; only for checkpoints whose card has [run.int8].
    Int8,
}

impl Precision {
    /// As parameters and documents write it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Auto => AUTO,
            Self::F32 => "f32",
            Self::F32x3 => "f32x3",
            Self::Bf16 => "bf16",
            Self::Int8 => "int8",
        }
    }
}

/// Where no plugin was found at all: where was looked, and what to do.
pub fn nothing_installed(registry: &Registry) -> Option<String> {
    if !registry.plugins.is_empty() {
        return None;
    }
    let places = registry.searched.iter().filter(|p| p.what == "plugins");
    let places: Vec<String> = places.map(|p| format!("{} ({})", p.path.display(), p.why)).collect();
    Some(format!(
        "no plugins are installed; looked in {}. In a checkout of Gantry, `cargo demo` builds them and stages them beside \
         the program; elsewhere name their folder with --plugins DIR or GANTRY_PLUGIN_PATH",
        places.join(", ")
    ))
}

/// [`nothing_installed`], where a pipeline was refused for a stage that is not there.
pub fn why_unknown(diagnostics: &[Diagnostic], registry: impl FnOnce() -> Registry) -> String {
    match diagnostics.iter().any(|d| d.code == "unknown-stage") {
        true => nothing_installed(&registry()).map(|words| format!("note: {words}\n")).unwrap_or_default(),
        false => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::Place;

    /// The command line, the site's document and the parameters of stages use the same words.
    #[test]
    fn precisions_have_one_spelling() {
        let words: Vec<_> = Precision::value_variants().iter().map(|p| p.word()).collect();
        let said: Vec<_> =
            Precision::value_variants().iter().map(|p| p.to_possible_value().unwrap().get_name().to_owned()).collect();
        assert_eq!(words, said);
        assert_eq!(words.split_first().unwrap(), (&AUTO, &crate::registry::site::PRECISIONS[..]));
    }

    #[test]
    fn an_empty_installation_is_told_what_to_do() {
        let mut registry = Registry::default();
        registry.searched.push(Place { path: "/opt/plugins".into(), why: "beside the program", what: "plugins" });
        let words = nothing_installed(&registry).unwrap();
        assert!(words.contains("/opt/plugins (beside the program)") && words.contains("cargo demo"), "{words}");
        let label = crate::diagnostic::At::new(0, 0..0).label("here");
        let other = [Diagnostic::error("cycle", "a cycle", label.clone())];
        assert_eq!(why_unknown(&other, || unreachable!()), "");
        let unknown = [Diagnostic::error("unknown-stage", "there is no stage `x`", label)];
        assert!(why_unknown(&unknown, || registry).starts_with("note: no plugins"));
    }
}
