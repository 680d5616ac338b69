//! Are the plugins and weights of a graph the ones that were pinned?

use std::collections::BTreeSet;
use std::path::Path;

use crate::diagnostic::Diagnostic;
use crate::registry::hashes::sha256_file;
use crate::registry::lock::Lock;
use crate::registry::{Origin, PluginFolder, Site};

use super::Graph;

impl Graph {
    /// The plugin folders in use, each once, in node order.
    pub fn plugins(&self) -> Vec<&PluginFolder> {
        let mut seen = BTreeSet::new();
        let folders = self.nodes.iter().filter_map(|n| match &n.entry.origin {
            Origin::Plugin(folder) => Some(&**folder),
            Origin::Builtin => None,
        });
        folders.filter(|f| seen.insert(f.path.clone())).collect()
    }

    /// Compares with the lock at `path`: is every plugin pinned (an error where the site requires it)? With `deep`, is every
    /// file of every pinned plugin the pinned one, and every weight file the one on its card? Opens no library.
    pub fn check_pins(&self, site: &Site, path: &Path, deep: bool) -> Vec<Diagnostic> {
        let mut out = Vec::new();
        let here =
            |plugin: &PluginFolder| plugin.manifest.stages.values().next().map(|s| s.at.clone()).unwrap_or_default();
        let lock = if path.is_file() { Lock::read(path).map(Some) } else { Ok(None) };
        let lock = match lock {
            Ok(lock) => lock,
            Err(error) => {
                let at = self.plugins().first().map(|p| here(p)).unwrap_or_default();
                out.push(Diagnostic::error("lock-unreadable", error, at.label("pinned there")));
                return out;
            }
        };
        for plugin in self.plugins() {
            let id = &plugin.manifest.id;
            let Some(pinned) = lock.as_ref().and_then(|l| l.pinned(id)) else {
                if site.require_lock {
                    out.push(
                        Diagnostic::error(
                            "not-pinned",
                            format!("the site requires pinned plugins, and `{id}` is not in {}", path.display()),
                            here(plugin).label("this plugin"),
                        )
                        .help("`gantry plugins lock` pins what is installed"),
                    );
                }
                continue;
            };
            if !deep {
                continue;
            }
            let text = match plugin.hashes() {
                Ok(now) if now.digest == pinned.sha256 => continue,
                Ok(now) => format!("plugin `{id}` is not the pinned one: {}", pinned.differences(now).join(", ")),
                Err(error) => format!("plugin `{id}` cannot be hashed: {error}"),
            };
            out.push(Diagnostic::error("lock-mismatch", text, here(plugin).label("this plugin")));
        }
        if deep {
            self.check_weights(&mut out);
        }
        out
    }

    fn check_weights(&self, out: &mut Vec<Diagnostic>) {
        let mut seen = BTreeSet::new();
        for checkpoint in self.nodes.iter().flat_map(|n| n.checkpoints.values()) {
            for file in checkpoint.card.files.iter().filter(|f| seen.insert((checkpoint.path.clone(), f.path.clone())))
            {
                let text = match sha256_file(&checkpoint.path.join(&file.path)) {
                    Ok(hash) if hash == file.sha256 => continue,
                    Ok(hash) => format!(
                        "`{}` of checkpoint `{}` is not the file on its card: sha256 {hash}",
                        file.path, checkpoint.name
                    ),
                    Err(error) => error,
                };
                out.push(Diagnostic::error(
                    "weights-mismatch",
                    text,
                    file.at.label(format!("expected {}", file.sha256)),
                ));
            }
        }
    }
}
