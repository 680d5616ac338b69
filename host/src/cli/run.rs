//! `gantry run PIPELINE -i DIR… -o DIR`: checks, then executes over every case found.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use clap::Args;

use super::chain::ChainArgs;
use super::places::{PlacesArgs, Precision, why_unknown};
use super::progress::{Progress, ProgressForm};
use super::reply::{Reply, colour};
use crate::diagnostic::Sources;
use crate::engine::self_audit::said;
use crate::engine::{RunOptions, Summary, Watcher, devices, supervisor};
use crate::plan::{Arithmetic, Asked, Planned, Refused, Request};
use crate::registry::lock::Lock;
use crate::registry::{Origin, Site};

/// A worker that shows no life for this long is killed, and its case is lost.
pub const STALL_S: u64 = 900;

/// Arguments of `gantry run`.
#[derive(Debug, Clone, Args)]
pub struct RunArgs {
    /// The pipeline
    #[arg(value_name = "PIPELINE")]
    pub pipeline: PathBuf,
    /// Input folder: a series, a study, a patient tree (may be given several times)
    #[arg(short, long, value_name = "DIR", num_args = 1.., required = true)]
    pub input: Vec<PathBuf>,
    /// How it is run.
    #[command(flatten)]
    pub chain: ChainArgs,
    /// Change a parameter (may be given several times)
    #[arg(long, value_name = "NODE.PARAM=VALUE")]
    pub set: Vec<String>,
    /// Where networks run: cpu, cuda[:N] (a card, or the run is refused), auto (a card where it can be used; says why not)
    #[arg(long, value_name = "DEVICE", default_value_t = Asked::Auto)]
    pub device: Asked,
    /// Write an edge out too, as NIfTI: a node or node.port (may be given several times)
    #[arg(long, value_name = "NODE")]
    pub keep: Vec<String>,
    /// Seed of stages that draw random numbers [default: the pipeline's, else 0]
    #[arg(long)]
    pub seed: Option<u64>,
    /// Time written into results, RFC 3339 [default: now, or the time of the run being resumed]
    #[arg(long, value_name = "TIME")]
    pub run_time: Option<jiff::Timestamp>,
    /// Arithmetic of networks, where the pipeline does not say it [default: the site's, else auto]
    #[arg(long, value_enum)]
    pub precision: Option<Precision>,
    /// Let toy checkpoints run on real scans; results say TOY
    #[arg(long)]
    pub allow_toy: bool,
    /// Take series that Gantry itself derived
    #[arg(long)]
    pub include_derived: bool,
    /// Kill a worker that shows no sign of life for this many seconds
    #[arg(long, value_name = "SECONDS", hide = true, default_value_t = STALL_S, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub stall: u64,
}

/// Runs the verb.
pub fn run(args: &RunArgs) -> Reply {
    match text(args) {
        Ok(text) => run_text(args, text),
        Err(refused) => refused,
    }
}

/// The pipeline's text.
///
/// # Errors
/// If its file cannot be read.
pub fn text(args: &RunArgs) -> Result<String, Reply> {
    let read = std::fs::read_to_string(&args.pipeline);
    read.map_err(|e| Reply::refuse(3, format!("{}: {e}", args.pipeline.display())))
}

/// Runs a pipeline by its text; what `args` says of its file is only a name for it.
pub fn run_text(args: &RunArgs, text: String) -> Reply {
    let mut sources = Sources::new();
    match plan(args, text, &mut sources) {
        Ok((request, planned, options)) => execute(&request, &planned, &options, args.chain.progress, &sources),
        Err(refused) => refused,
    }
}

/// Checks and plans what the command line asks for; says where networks run.
///
/// # Errors
/// Why it is refused, with the exit code.
pub fn plan(args: &RunArgs, text: String, sources: &mut Sources) -> Result<(Request, Planned, RunOptions), Reply> {
    let mut request = request(args, text, sources)?;
    let site = args.chain.site.site.as_deref().map(|path| ("--site", path));
    let key = request.key.as_deref().map(|path| ("the key", path));
    let list = request.pseudonyms.as_deref().map(|path| ("the list of pseudonyms", path));
    let named: Vec<_> =
        [Some(("the pipeline", args.pipeline.as_path())), site, key, list].into_iter().flatten().collect();
    args.chain.identity.apart(&named)?;
    let mut planned = request.plan(sources).map_err(|refused| refusal(refused, sources, &args.chain.places))?;
    let pinned = pinned(&planned)?;
    let mut choice = devices::choose(args.device, &planned).map_err(|error| Reply::refuse(error.exit, error.text))?;
    let mut jobs = jobs(args, &planned.site);
    if choice.cuda.is_some() {
        if jobs > 1 {
            choice.notes.push(format!("one case worker instead of {jobs}: there is one for each card"));
            jobs = 1;
        }
        // Planned again, with the card: it is part of what decides the results.
        request.threads = args.chain.threads.unwrap_or_else(all_threads).max(1);
        request.arithmetic.cuda = choice.cuda;
        let again = request.plan(&mut Sources::new());
        planned = again.map_err(|refused| refusal(refused, sources, &args.chain.places))?;
    }
    let notes = Progress::new(args.chain.progress);
    choice.notes.iter().for_each(|note| notes.remark(note));
    let options = RunOptions {
        inputs: args.input.clone(),
        output: args.chain.output.clone(),
        limit: args.chain.limit,
        only: args.chain.only.clone(),
        jobs,
        fresh: args.chain.fresh,
        seed: args.seed.or(planned.document.seed).unwrap_or(0),
        run_time: args.run_time,
        include_derived: args.include_derived,
        stall: Duration::from_secs(args.stall),
        memory_limit: memory_limit(&planned.site, jobs),
        pinned,
        device_notes: choice.notes,
        mapping: args.chain.identity.mapping.clone(),
    };
    Ok((request, planned, options))
}

/// Runs a planned request and puts its end into words.
pub fn execute(
    request: &Request,
    planned: &Planned,
    options: &RunOptions,
    form: ProgressForm,
    sources: &Sources,
) -> Reply {
    let interrupt = match watch_signals() {
        Ok(interrupt) => interrupt,
        Err(e) => return Reply::refuse(3, format!("signals cannot be watched: {e}")),
    };
    let progress = Progress::new(form);
    let warnings = sources.render(&planned.warnings, colour());
    if !warnings.is_empty() && form == ProgressForm::Auto {
        eprint!("{warnings}");
        said::note(warnings.as_bytes());
    }
    if options.pinned.values().any(|p| !p) && form == ProgressForm::Auto {
        eprintln!("note: plugins are not pinned; `gantry plugins lock` pins them");
    }
    let result = supervisor::run(request, planned, options, &progress, &interrupt);
    progress.finish();
    match result {
        Ok(summary) => finished(summary, &options.output),
        Err(error) => Reply::refuse(error.exit, error.text),
    }
}

fn finished(summary: Summary, output: &Path) -> Reply {
    let Summary { done, kept, failed, quarantined, leaks, peak_bytes: (expected, measured) } = summary;
    let mut parts = vec![format!("{done} done")];
    for (count, word) in [(kept, "done before"), (failed, "failed"), (quarantined, "quarantined")] {
        if count > 0 {
            parts.push(format!("{count} {word}"));
        }
    }
    let memory = match measured {
        0 => String::new(),
        _ => format!("; memory at its most {} MB, {} MB expected", measured / 1_000_000, expected / 1_000_000),
    };
    let stdout = format!("{}: {}{memory}\n", output.display(), parts.join(", "));
    Reply { stdout, stderr: String::new(), code: u8::from(failed + quarantined + leaks > 0) }
}

/// SIGINT and SIGTERM become a word to the supervisor, which ends the workers and rolls back.
pub fn watch_signals() -> std::io::Result<Arc<Mutex<Option<i32>>>> {
    use signal_hook::consts::{SIGINT, SIGTERM};
    let interrupt = Arc::new(Mutex::new(None));
    let told = Arc::clone(&interrupt);
    let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM])?;
    std::thread::spawn(move || {
        for signal in signals.forever() {
            *told.lock().unwrap_or_else(|e| e.into_inner()) = Some(signal);
        }
    });
    Ok(interrupt)
}

/// A refused request in words, with the exit code of its kind.
pub fn refusal(refused: Refused, sources: &Sources, places: &PlacesArgs) -> Reply {
    match refused {
        Refused::Documents(diagnostics) => {
            let mut stderr = sources.render(&diagnostics, colour());
            stderr.push_str(&why_unknown(&diagnostics, || places.open(&mut Sources::new())));
            Reply { stdout: String::new(), stderr, code: 2 }
        }
        Refused::Environment(text) => Reply::refuse(3, text),
        Refused::Integrity(text) => Reply::refuse(4, text),
        Refused::Pseudonyms(text) => Reply::refuse(2, text),
    }
}

fn request(args: &RunArgs, text: String, sources: &mut Sources) -> Result<Request, Reply> {
    let mut ignored = Vec::new();
    let site = args.chain.site.open(sources, &mut ignored).map_err(|words| Reply::refuse(3, words))?;
    let absolute =
        |paths: &[PathBuf]| paths.iter().map(|p| std::path::absolute(p).unwrap_or_else(|_| p.clone())).collect();
    let key = args.chain.key.clone().or_else(|| site.key_file.clone());
    Ok(Request {
        pipeline: args.pipeline.display().to_string(),
        pipeline_text: text,
        set: args.set.clone(),
        keep: args.keep.clone(),
        plugins: absolute(&args.chain.places.plugins),
        checkpoints: absolute(&args.chain.places.checkpoints),
        site: args.chain.site.site.clone(),
        key: key.map(|k| std::path::absolute(&k).unwrap_or(k)),
        pseudonyms: args.chain.identity.list(&site),
        toys: args.allow_toy,
        arithmetic: Arithmetic { precision: args.precision.map(|p| p.word().to_owned()), cuda: None },
        threads: args.chain.threads.unwrap_or(all_threads() / jobs(args, &site)).max(1),
    })
}

fn all_threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Bytes a case may need: the site's word, else this machine's memory, divided among the workers.
pub fn memory_limit(site: &Site, jobs: usize) -> Option<u64> {
    let machine = crate::machine::memory().0;
    let all = site.memory_gb.map(|gb| (gb * 1e9) as u64).or((machine > 0).then_some(machine))?;
    Some(all / jobs.max(1) as u64)
}

fn jobs(args: &RunArgs, site: &Site) -> usize {
    args.chain.jobs.or(site.jobs.map(|j| j as usize)).unwrap_or(1).max(1)
}

/// Which plugins in use plugins.lock pins.
///
/// # Errors
/// Exit 4 if a pinned one differs, exit 2 if the site demands a lock and one is not pinned.
pub fn pinned(planned: &Planned) -> Result<BTreeMap<String, bool>, Reply> {
    let path = Lock::place(None, &planned.site);
    let lock = match path.exists() {
        true => Some(Lock::read(&path).map_err(|why| Reply::refuse(4, format!("{}: {why}", path.display())))?),
        false => None,
    };
    let mut all = BTreeMap::new();
    for node in &planned.plan.graph.nodes {
        let Origin::Plugin(folder) = &node.entry.origin else { continue };
        let id = &folder.manifest.id;
        let pin = lock.as_ref().and_then(|l| l.pinned(id));
        if let (Some(pin), Ok(hashes)) = (pin, folder.hashes()) {
            let differences = pin.differences(hashes);
            if !differences.is_empty() {
                let text = format!("plugin `{id}` is not what plugins.lock pins: {}", differences.join("; "));
                return Err(Reply::refuse(4, text));
            }
        }
        if pin.is_none() && planned.site.require_lock {
            return Err(Reply::refuse(
                2,
                format!("the site requires pinned plugins, and `{id}` is not pinned (`gantry plugins lock`)"),
            ));
        }
        all.insert(id.clone(), pin.is_some());
    }
    Ok(all)
}
