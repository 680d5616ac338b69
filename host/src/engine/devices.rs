//! Where networks run: what the user asked for, what plugins have libraries for, and what the driver shows, decided before
//! any patient's file is opened. A worker asks the driver and opens the plugins' CUDA libraries on trial.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::hand::{Hand, HandError};
use super::protocol::{DevicesOrder, LibraryTrial};
use super::supervisor::RunError;
use crate::machine::cuda::Driver;
use crate::plan::{Asked, Cuda, Planned};
use crate::registry::library::{FolderBytes, Gate, LibraryError};
use crate::registry::{Origin, PluginFolder};

/// A driver that has not answered by then will not.
const PATIENCE: Duration = Duration::from_secs(120);

/// What was decided.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Choice {
    /// The card and its nodes, if any.
    pub cuda: Option<Cuda>,
    /// What the user must hear: what runs where, and why not on a card.
    pub notes: Vec<String>,
}

/// What a worker found.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Found {
    /// The driver, or why there is none to use.
    pub driver: Result<Driver, String>,
    /// Libraries that were refused, by plugin id.
    pub refused: BTreeMap<String, Refusal>,
}

/// Why a plugin's CUDA library was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// In words.
    pub why: String,
    /// 3: something of this machine is missing; 4: the plugin is not what it is said to be.
    pub exit: u8,
}

/// Asks the driver through a worker; nothing of a plugin is opened.
///
/// # Errors
/// In words, why there is no driver to use.
pub fn driver() -> Result<Driver, String> {
    ask(&DevicesOrder::default()).map_err(|e| e.text)?.driver
}

/// Opens `trial` on trial, through every gate.
pub(super) fn try_library(trial: &LibraryTrial, private: &std::path::Path) -> Result<(), Refusal> {
    let refusal = |e: LibraryError| match &e {
        LibraryError::Io { .. } | LibraryError::Refused { gate: Gate::Load, .. } => {
            Refusal { why: e.to_string(), exit: 3 }
        }
        LibraryError::Refused { .. } => Refusal { why: e.to_string(), exit: 4 },
    };
    let bytes = FolderBytes::read(&trial.plugin, &trial.folder).map_err(refusal)?;
    bytes.open(&trial.library, &trial.manifest, Some(&trial.sha256), private).map_err(refusal)?;
    Ok(())
}

fn ask(order: &DevicesOrder) -> Result<Found, RunError> {
    Hand::devices(order, PATIENCE).map_err(|e| {
        let text = match e {
            HandError::Died(how) => format!("the worker that asks for devices died: {how}"),
            HandError::Start(e) => format!("starting the worker that asks for devices: {}", e.kind()),
            HandError::Refused(failure, _) => failure.to_string(),
            HandError::Interrupted(_) => "interrupted".to_owned(),
        };
        RunError { exit: 3, text }
    })
}

/// A stage that can run on a card, as far as its plugin's documents say.
struct Able<'a> {
    node: &'a str,
    folder: &'a PluginFolder,
}

/// Decides where the nodes of a plan run.
///
/// # Errors
/// Of `--device cuda`: exit 2 where the pipeline or a plugin is not made for it, 3 where this machine lacks something. Of
/// `auto` too: 4 where a CUDA library is not what its plugin says.
pub fn choose(asked: Asked, planned: &Planned) -> Result<Choice, RunError> {
    let number = match asked {
        Asked::Cpu => return Ok(Choice::default()),
        Asked::Auto => 0,
        Asked::Cuda(number) => number,
    };
    let refuse = |exit, why: &str| RunError { exit, text: format!("--device {asked}: {why}") };
    let able: Vec<Able> = planned.plan.graph.nodes.iter().filter_map(able).collect();
    if able.is_empty() {
        return match asked {
            Asked::Cuda(_) => Err(refuse(2, "no stage of this pipeline runs on CUDA (`devices` in its plugin.toml)")),
            _ => Ok(Choice::default()),
        };
    }
    let mut choice = Choice::default();
    let mut left: BTreeMap<&str, Vec<Able>> = BTreeMap::new();
    for able in able {
        left.entry(&able.folder.manifest.id).or_default().push(able);
    }
    // A plugin that is not used on the card: said, or the end.
    let mut drop = |left: &mut BTreeMap<&str, Vec<Able>>, plugin: &str, why: String, exit: u8| {
        if matches!(asked, Asked::Cuda(_)) || exit == 4 {
            return Err(refuse(exit, &why));
        }
        let nodes = left.remove(plugin).unwrap_or_default();
        let nodes: Vec<&str> = nodes.iter().map(|a| a.node).collect();
        choice.notes.push(format!("--device {asked}: {} on the CPU: {why}", phrase(&nodes)));
        Ok(())
    };
    let mut trials = Vec::new();
    for plugin in left.keys().copied().collect::<Vec<_>>() {
        let folder = left[plugin][0].folder;
        match trial(folder) {
            Ok(trial) => {
                trials.push(LibraryTrial { sha256: planned.plugins.get(plugin).cloned().unwrap_or_default(), ..trial })
            }
            Err(why) => drop(&mut left, plugin, why, 2)?,
        }
    }
    if trials.is_empty() {
        return Ok(choice);
    }
    let found = ask(&DevicesOrder { open: Some(number), trials })?;
    let card = found.driver.and_then(|driver| match driver.cards.get(number as usize) {
        Some(card) => Ok((driver.cuda.clone(), card.clone())),
        None => Err(format!("there is no such card; this machine shows {}", cards(&driver))),
    });
    let (driver, card) = match card {
        Ok(card) => card,
        Err(why) => {
            for plugin in left.keys().copied().collect::<Vec<_>>() {
                drop(&mut left, plugin, why.clone(), 3)?;
            }
            return Ok(choice);
        }
    };
    for (plugin, Refusal { why, exit }) in found.refused {
        drop(&mut left, &plugin, why, exit)?;
    }
    let mut nodes: Vec<String> = left.values().flatten().map(|a| a.node.to_owned()).collect();
    nodes.sort();
    if !nodes.is_empty() {
        let cuda = Cuda { number, name: card.name, capability: card.capability, driver, nodes };
        let nodes: Vec<&str> = cuda.nodes.iter().map(String::as_str).collect();
        choice.notes.push(format!("--device {asked}: {} on {} ({})", phrase(&nodes), cuda.device(), cuda.name));
        choice.cuda = Some(cuda);
    }
    Ok(choice)
}

fn able(node: &crate::graph::Node) -> Option<Able<'_>> {
    let Origin::Plugin(folder) = &node.entry.origin else { return None };
    node.entry.spec.devices.iter().any(|d| d == "cuda").then_some(Able { node: &node.id, folder })
}

/// What a worker tries to open of a plugin.
fn trial(folder: &PluginFolder) -> Result<LibraryTrial, String> {
    let id = &folder.manifest.id;
    let Some(library) = folder.manifest.library_for("cuda") else {
        let target = crate::registry::manifest::this_target();
        return Err(format!("plugin `{id}` has no library for `{target}.cuda`"));
    };
    if !folder.path.join(library).is_file() {
        return Err(format!("the CUDA library `{library}` of plugin `{id}` is not installed"));
    }
    Ok(LibraryTrial {
        plugin: id.clone(),
        folder: folder.path.clone(),
        library: library.into(),
        manifest: folder.manifest_text.clone(),
        sha256: String::new(),
    })
}

fn phrase(nodes: &[&str]) -> String {
    match nodes {
        [one] => format!("`{one}` runs"),
        many => format!("`{}` run", many.join("`, `")),
    }
}

fn cards(driver: &Driver) -> String {
    let each = driver.cards.iter().enumerate().map(|(i, card)| format!("cuda:{i} ({})", card.name));
    each.collect::<Vec<_>>().join(", ")
}
