//! [`Places`]: the folders in which plugins and checkpoints are looked for, in order, and why each of them is.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// A folder that is looked into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The folder.
    pub path: PathBuf,
    /// What named it: `--plugins`, `GANTRY_PLUGIN_PATH`, `beside the program`, `user data`.
    pub why: &'static str,
    /// `plugins` or `checkpoints`.
    pub what: &'static str,
}

impl Place {
    /// True if there is such a folder.
    pub fn exists(&self) -> bool {
        self.path.is_dir()
    }
}

/// Where plugins and checkpoints are looked for; earlier goes before later.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Places {
    /// Plugin folders' parents.
    pub plugins: Vec<Place>,
    /// Checkpoint folders' parents.
    pub checkpoints: Vec<Place>,
}

/// What of the surroundings decides places.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Surroundings {
    /// `GANTRY_PLUGIN_PATH`
    pub plugin_path: Option<OsString>,
    /// `GANTRY_CHECKPOINTS`
    pub checkpoints: Option<OsString>,
    /// Folder of the running program.
    pub program: Option<PathBuf>,
    /// `XDG_DATA_HOME`, or `~/.local/share`.
    pub data_home: Option<PathBuf>,
}

impl Surroundings {
    /// This process's.
    pub fn of_this_process() -> Self {
        let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|p| p.is_absolute());
        Self {
            plugin_path: std::env::var_os("GANTRY_PLUGIN_PATH"),
            checkpoints: std::env::var_os("GANTRY_CHECKPOINTS"),
            program: std::env::current_exe().ok().and_then(|p| p.parent().map(Path::to_owned)),
            data_home: absolute("XDG_DATA_HOME").or_else(|| absolute("HOME").map(|h| h.join(".local/share"))),
        }
    }
}

impl Places {
    /// The search order for this process, with the folders given on the command line first.
    pub fn find(plugins: &[PathBuf], checkpoints: &[PathBuf]) -> Self {
        Self::from_surroundings(plugins, checkpoints, &Surroundings::of_this_process())
    }

    /// The search order for given surroundings.
    pub fn from_surroundings(plugins: &[PathBuf], checkpoints: &[PathBuf], around: &Surroundings) -> Self {
        Self {
            plugins: order("plugins", plugins, "--plugins", around.plugin_path.as_ref(), "GANTRY_PLUGIN_PATH", around),
            checkpoints: order(
                "checkpoints",
                checkpoints,
                "--checkpoints",
                around.checkpoints.as_ref(),
                "GANTRY_CHECKPOINTS",
                around,
            ),
        }
    }
}

fn order(
    what: &'static str,
    given: &[PathBuf],
    option: &'static str,
    variable: Option<&OsString>,
    variable_name: &'static str,
    around: &Surroundings,
) -> Vec<Place> {
    let mut places: Vec<Place> = given.iter().map(|path| Place { path: path.clone(), why: option, what }).collect();
    let listed = variable.map(|v| std::env::split_paths(v).collect::<Vec<_>>()).unwrap_or_default();
    places.extend(listed.into_iter().filter(|p| !p.as_os_str().is_empty()).map(|path| Place {
        path,
        why: variable_name,
        what,
    }));
    places.extend(around.program.iter().map(|p| Place { path: p.join(what), why: "beside the program", what }));
    places.extend(around.data_home.iter().map(|p| Place { path: p.join("gantry").join(what), why: "user data", what }));
    places
}
