//! `gantry demo`: two phantom patients through the whole chain with the toy checkpoints, in one folder.
//!
//! The folder holds everything that was used and made: `input/`, `pipeline.toml`, `private/pseudonym.key`, `results/`.
//! A second run in the same folder finds its own files and resumes.

use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use clap::Args;

use super::chain::ChainArgs;
use super::phantom::{self, PhantomArgs, PhantomError};
use super::places::{PlacesArgs, Precision};
use super::progress::ProgressForm;
use super::reply::Reply;
use super::run::{self, RunArgs, STALL_S};
use crate::identity::Key;
use crate::plan::Asked;

/// The pipeline that the demo runs and leaves beside its results.
pub const PIPELINE: &str = include_str!("../../../config/pipelines/demo.toml");

/// Patients of the demo.
const PATIENTS: u32 = 2;

const INPUT: &str = "input";
const PART: &str = "input.part";
const PIPELINE_FILE: &str = "pipeline.toml";
const PRIVATE: &str = "private";
const KEY_FILE: &str = "pseudonym.key";
const RESULTS: &str = "results";

/// Arguments of `gantry demo`.
#[derive(Debug, Clone, Args)]
pub struct DemoArgs {
    /// Folder for everything the demo makes; an earlier demo there is resumed
    #[arg(short, long, value_name = "DIR", default_value = "gantry-demo")]
    pub output: PathBuf,
    /// How to tell progress on stderr
    #[arg(long, value_enum, default_value_t = ProgressForm::Auto)]
    pub progress: ProgressForm,
    /// Where things are installed.
    #[command(flatten)]
    pub places: PlacesArgs,
}

/// Runs the verb; exit codes as `gantry run`.
pub fn run(args: &DemoArgs) -> Reply {
    if let Err(reply) = prepare(&args.output) {
        return reply;
    }
    let mut reply = run::run(&run_args(args));
    if reply.code == 0 {
        reply.stdout.push_str(&tour(&args.output));
    }
    reply
}

/// What `gantry run` would be told: the toys are welcome, because the input is a phantom.
fn run_args(args: &DemoArgs) -> RunArgs {
    let folder = &args.output;
    RunArgs {
        pipeline: folder.join(PIPELINE_FILE),
        input: vec![folder.join(INPUT)],
        chain: ChainArgs {
            output: folder.join(RESULTS),
            key: Some(folder.join(PRIVATE).join(KEY_FILE)),
            progress: args.progress,
            places: args.places.clone(),
            ..ChainArgs::default()
        },
        set: Vec::new(),
        device: Asked::Cpu,
        keep: Vec::new(),
        seed: None,
        run_time: None,
        precision: Some(Precision::Auto),
        allow_toy: true,
        include_derived: false,
        stall: STALL_S,
    }
}

/// Where everything is: for each case, the folders of its sinks and how many files are in them.
fn tour(folder: &Path) -> String {
    let mut lines = vec![
        format!(
            "input      {} ({PATIENTS} phantom patients, each without and with contrast medium)",
            folder.join(INPUT).display()
        ),
        format!("pipeline   {}", folder.join(PIPELINE_FILE).display()),
    ];
    let subfolders = |path: &Path| {
        let entries = std::fs::read_dir(path).into_iter().flatten().flatten().map(|e| e.path());
        let mut found: Vec<PathBuf> = entries.filter(|p| p.is_dir()).collect();
        found.sort();
        found
    };
    let results = folder.join(RESULTS);
    let hidden = |p: &Path| p.ends_with(PRIVATE) || p.ends_with(".staging");
    for case in subfolders(&results).into_iter().filter(|p| !hidden(p)) {
        for sink in subfolders(&case) {
            let files = std::fs::read_dir(&sink).into_iter().flatten().flatten().count();
            lines.push(format!("result     {} ({files} files)", sink.display()));
        }
    }
    lines.push(format!("next       gantry graph {}", folder.join(PIPELINE_FILE).display()));
    lines.push(format!("           gantry verify {}", results.display()));
    lines.join("\n") + "\n"
}

/// Makes the input, the pipeline and the key, each only where it is not there yet.
fn prepare(folder: &Path) -> Result<(), Reply> {
    let io = |path: &Path| {
        let path = path.display().to_string();
        move |e: std::io::Error| Reply::refuse(3, format!("{path}: {e}"))
    };
    if let Some(stranger) = stranger(folder).map_err(io(folder))? {
        let text =
            format!("{} holds `{stranger}`, which no demo made; give an empty folder with -o DIR", folder.display());
        return Err(Reply::refuse(2, text));
    }
    std::fs::create_dir_all(folder).map_err(io(folder))?;
    let pipeline = folder.join(PIPELINE_FILE);
    match std::fs::read(&pipeline) {
        Ok(text) if text == PIPELINE.as_bytes() => {}
        Ok(_) => {
            let text = format!(
                "{} is not the pipeline of this demo any more; use it with `gantry run`, or give another folder with -o DIR",
                pipeline.display()
            );
            return Err(Reply::refuse(2, text));
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            std::fs::write(&pipeline, PIPELINE).map_err(io(&pipeline))?
        }
        Err(e) => return Err(io(&pipeline)(e)),
    }
    let private = folder.join(PRIVATE);
    std::fs::DirBuilder::new().mode(0o700).recursive(true).create(&private).map_err(io(&private))?;
    let key = private.join(KEY_FILE);
    if !key.exists() {
        Key::create(&key).map_err(|e| Reply::refuse(3, e))?;
    }
    let (input, part) = (folder.join(INPUT), folder.join(PART));
    if !input.exists() {
        // What an interrupted demo left goes; the patients come into place by one rename when all of them are written.
        if part.exists() {
            std::fs::remove_dir_all(&part).map_err(io(&part))?;
        }
        let phantom = PhantomArgs { output: part.clone(), patients: PATIENTS, size: 128, slices: 32, seed: 0 };
        phantom::run(&phantom, |_| ()).map_err(|e| match e {
            PhantomError::Write { .. } => Reply::refuse(3, e),
            e => Reply::refuse(2, e),
        })?;
        std::fs::rename(&part, &input).map_err(io(&input))?;
    }
    Ok(())
}

/// Something in the folder that no demo makes.
fn stranger(folder: &Path) -> std::io::Result<Option<String>> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e),
    };
    for entry in entries {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if ![INPUT, PART, PIPELINE_FILE, PRIVATE, RESULTS].contains(&name.as_str()) {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_prepared_once_and_nothing_of_others_is_touched() {
        let temp = tempfile::tempdir().unwrap();
        let folder = temp.path().join("demo");
        prepare(&folder).unwrap();
        let key = std::fs::read(folder.join("private/pseudonym.key")).unwrap();
        assert_eq!(key.len(), 32);
        let slices = std::fs::read_dir(folder.join("input/phantom/patient-002/POST VUE")).unwrap().count();
        assert_eq!(slices, 32);
        prepare(&folder).unwrap();
        assert_eq!(std::fs::read(folder.join("private/pseudonym.key")).unwrap(), key);

        std::fs::write(folder.join(PIPELINE_FILE), "format = 1\n").unwrap();
        let refused = prepare(&folder).unwrap_err();
        assert!(refused.code == 2 && refused.stderr.contains("gantry run"), "{refused:?}");
        assert_eq!(std::fs::read_to_string(folder.join(PIPELINE_FILE)).unwrap(), "format = 1\n");

        std::fs::write(temp.path().join("thesis.tex"), "words").unwrap();
        let refused = prepare(temp.path()).unwrap_err();
        assert!(refused.code == 2 && refused.stderr.contains("which no demo made"), "{refused:?}");
        assert!(!temp.path().join(INPUT).exists());
    }
}
