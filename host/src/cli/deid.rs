//! `gantry deid`: the ready-made chain for people who only want de-identification. It takes every DICOM object.

pub mod ctp;
mod warned;

use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::Args;

use super::chain::ChainArgs;
use super::progress::Progress;
use super::reply::Reply;
use super::run::{self, RunArgs, STALL_S};
use crate::diagnostic::Sources;
use crate::engine::Watcher;
use crate::plan::Asked;

/// The pipeline that the verb runs.
pub const PIPELINE: &str = include_str!("../../../config/pipelines/deid.toml");

/// Which attributes the profile treats, for the import of scripts: the same facts that the anonymizer is built from.
const TABLE: &str = include_str!("../../../plugins/anonymizer/data/ps315_table_e1-1.csv");

/// What stands for its file in messages.
const PIPELINE_NAME: &str = "deid.toml (built in)";

/// The stage of its node `anonymous`, whose manifest says which options there are.
const STAGE: &str = "instance-anonymizer";

/// A profile of PS3.15 Annex E with its options: `basic`, or `basic+modified-dates+descriptors`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Profile {
    options: Vec<String>,
}

impl FromStr for Profile {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut words = text.split('+');
        if words.next() != Some("basic") {
            return Err("a profile begins with `basic`; options follow, each after a `+`".to_owned());
        }
        let mut options: Vec<String> = Vec::new();
        for word in words {
            if options.iter().any(|known| known == word) {
                return Err(format!("the option `{word}` is given twice"));
            }
            options.push(word.to_owned());
        }
        if ["full-dates", "modified-dates"].iter().all(|dates| options.iter().any(|word| word == dates)) {
            return Err("the options full-dates and modified-dates exclude each other".to_owned());
        }
        Ok(Self { options })
    }
}

/// Options by the parameter of the stage that takes them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Options {
    /// Those that keep what the basic profile removes.
    retain: Vec<String>,
    /// Those that clean it.
    clean: Vec<String>,
}

impl Options {
    /// Sorts the words of a profile by the choices of the two parameters.
    ///
    /// # Errors
    /// A word that neither knows.
    fn of(profile: &Profile, retain: &[String], clean: &[String]) -> Result<Self, String> {
        let mut options = Self::default();
        for word in &profile.options {
            match word {
                _ if retain.contains(word) => options.retain.push(word.clone()),
                _ if clean.contains(word) => options.clean.push(word.clone()),
                _ => {
                    let known = [retain, clean].concat().join(", ");
                    return Err(format!("there is no option `{word}`; there are: {known}"));
                }
            }
        }
        Ok(options)
    }

    /// Sorts them as the installed stage does.
    ///
    /// # Errors
    /// The stage is not installed, or does not know one.
    fn installed(args: &DeidArgs) -> Result<Self, Reply> {
        if args.profile.options.is_empty() {
            return Ok(Self::default());
        }
        let registry = args.chain.places.open(&mut Sources::new());
        let Some(stage) = registry.stages.get(STAGE) else {
            // Why it is not there is told by whoever plans the pipeline.
            let planned = run::plan(&run_args(args, &Self::default(), &[]), PIPELINE.to_owned(), &mut Sources::new());
            let missing = || Reply::refuse(2, format!("the stage `{STAGE}` is not installed"));
            return Err(planned.err().unwrap_or_else(missing));
        };
        let choices = |param: &str| stage.spec.params.get(param).map_or(&[][..], |param| &param.choices);
        Self::of(&args.profile, choices("retain"), choices("clean"))
            .map_err(|e| Reply::refuse(2, format!("--profile: {e}")))
    }
}

/// Arguments of `gantry deid`.
#[derive(Debug, Clone, Args)]
pub struct DeidArgs {
    /// Input folder: files of any DICOM class, nested arbitrarily (may be given several times)
    #[arg(short, long, value_name = "DIR", num_args = 1.., required = true)]
    pub input: Vec<PathBuf>,
    /// How the chain is run.
    #[command(flatten)]
    pub chain: ChainArgs,
    /// Profile of PS3.15 Annex E, with options: basic+OPTION+…; options are uids, device, institution,
    /// patient-characteristics, full-dates, modified-dates, safe-private (kept), descriptors, graphics,
    /// structured-content, pixel-data (cleaned)
    #[arg(long, value_name = "PROFILE", default_value = "basic")]
    pub profile: Profile,
    /// Leave out an instance that must not pass (text in its pixels, a class that cannot be cleaned) instead of
    /// quarantining its study
    #[arg(long)]
    pub leave_out: bool,
    /// A rule for blanking regions of pixels, such as "modality=US rows=480 blank=0,0,640,40" (may be given several times;
    /// needs the option pixel-data)
    #[arg(long, value_name = "RULE")]
    pub pixel_rule: Vec<String>,
    /// A script of the RSNA CTP DicomAnonymizer (XML or properties): what it removes, empties and sets beyond the profile is
    /// followed; a statement that would keep more is refused by its line
    #[arg(long, value_name = "FILE")]
    pub script: Option<PathBuf>,
    /// Run although statements of the script are refused: those attributes are treated as the profile says
    #[arg(long, requires = "script")]
    pub accept_refused: bool,
    /// Warn of pixels that look like text (nothing is blanked for that); takes the time of decoding
    #[arg(long)]
    pub detect_text: bool,
}

/// Runs the verb; exit codes as `gantry run`.
pub fn run(args: &DeidArgs) -> Reply {
    let mut options = match Options::installed(args) {
        Err(refused) => return refused,
        Ok(options) => options,
    };
    let mut rules = Vec::new();
    if let Some(path) = &args.script {
        if let Err(refused) = args.chain.identity.apart(&[("--script", path)]) {
            return refused;
        }
        match script(path, args.accept_refused) {
            Err(refused) => return refused,
            Ok(script) => {
                add(&mut options.retain, &script.retain);
                add(&mut options.clean, &script.clean);
                rules = script.rules;
            }
        }
    }
    let reply = run::run_text(&run_args(args, &options, &rules), PIPELINE.to_owned());
    // A result line stands there where the run came to its end: only then is the manifest this run's.
    if !reply.stdout.is_empty() {
        let progress = Progress::new(args.chain.progress);
        warned::words(&args.chain.output, args.detect_text).iter().for_each(|words| progress.remark(words));
    }
    reply
}

/// Adds the words that are not in the list yet.
fn add(list: &mut Vec<String>, words: &[&str]) {
    for word in words {
        if !list.iter().any(|known| known == word) {
            list.push((*word).to_owned());
        }
    }
}

/// Reads a script and says on stderr what of it is not simply done.
///
/// # Errors
/// A script that cannot be read, or has statements that are refused and were not accepted as such.
fn script(path: &Path, accept_refused: bool) -> Result<ctp::Script, Reply> {
    let name = path.display();
    let text = std::fs::read_to_string(path).map_err(|e| Reply::refuse(2, format!("{name}: {e}")))?;
    let table = ctp::Table::read(TABLE).map_err(|e| Reply::refuse(4, format!("Table E.1-1: {e}")))?;
    let script = ctp::import(&text, &table).map_err(|e| Reply::refuse(2, format!("{name}: {e}")))?;
    let line = |word: &str, note: &ctp::Note| {
        let tag = if note.tag.is_empty() { String::new() } else { format!("{}: ", note.tag) };
        format!("{word}: {name}:{}: {tag}{}\n", note.line, note.text)
    };
    let mut said: String = script.notes.iter().map(|note| line("note", note)).collect();
    said.extend(script.refused.iter().map(|note| line("refused", note)));
    let (all, rules) = (script.statements, script.rules.len());
    said.push_str(&format!(
        "{name}: {all} statements: {} done by the profile, {rules} rules, {} notes, {} refused\n",
        script.done,
        script.notes.len(),
        script.refused.len()
    ));
    if !script.refused.is_empty() && !accept_refused {
        let help = "take those statements out of the script, or accept with --accept-refused that the profile decides";
        said.push_str(&format!("error: statements of the script are refused; {help}\n"));
        return Err(Reply { stdout: String::new(), stderr: said, code: 2 });
    }
    eprint!("{said}");
    Ok(script)
}

/// What `gantry run` would be told.
fn run_args(args: &DeidArgs, options: &Options, rules: &[String]) -> RunArgs {
    let list = |texts: &[String]| toml::Value::from(texts.to_vec()).to_string();
    let mut set = Vec::new();
    for (param, texts) in [
        ("retain", options.retain.as_slice()),
        ("clean", &options.clean),
        ("pixel_rules", &args.pixel_rule),
        ("rules", rules),
    ] {
        if !texts.is_empty() {
            set.push(format!("anonymous.{param}={}", list(texts)));
        }
    }
    if args.detect_text {
        set.push("dicom.detect_text=true".to_owned());
    }
    if args.leave_out {
        set.push("anonymous.refused=instance".to_owned());
    }
    RunArgs {
        pipeline: PathBuf::from(PIPELINE_NAME),
        input: args.input.clone(),
        chain: args.chain.clone(),
        set,
        device: Asked::Cpu,
        keep: Vec::new(),
        seed: None,
        run_time: None,
        precision: None,
        allow_toy: false,
        include_derived: true,
        stall: STALL_S,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_is_basic_and_its_options() {
        let sorted = |text: &str| {
            let owned = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
            Options::of(&text.parse()?, &owned(&["uids", "modified-dates"]), &owned(&["descriptors"]))
        };
        let options = sorted("basic+descriptors+modified-dates").unwrap();
        assert_eq!(
            (options.retain, options.clean),
            (vec!["modified-dates".to_owned()], vec!["descriptors".to_owned()])
        );
        assert_eq!(sorted("basic").unwrap(), Options::default());
        for (bad, expected) in [
            ("", "begins with `basic`"),
            ("full", "begins with `basic`"),
            ("basic+", "no option ``"),
            ("basic+dates", "no option `dates`; there are: uids, modified-dates, descriptors"),
            ("basic+uids+uids", "given twice"),
            ("basic+full-dates+modified-dates", "exclude each other"),
        ] {
            let error = sorted(bad).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }

    /// The help names the options that the stage's manifest lists, and no others.
    #[test]
    fn the_help_names_the_options_of_the_stage() {
        let manifest: toml::Table = include_str!("../../../plugins/anonymizer/plugin.toml").parse().unwrap();
        let choices = |param: &str| {
            let list = manifest["stage"][STAGE]["params"][param]["choices"].as_array().unwrap();
            list.iter().map(|word| word.as_str().unwrap().to_owned()).collect::<Vec<_>>().join(", ")
        };
        let line = crate::cli::command::visible();
        let deid = line.get_subcommands().find(|verb| verb.get_name() == "deid").unwrap();
        let profile = deid.get_arguments().find(|arg| arg.get_id() == "profile").unwrap();
        let help = profile.get_help().unwrap().to_string();
        let expected = format!("options are {} (kept), {} (cleaned)", choices("retain"), choices("clean"));
        assert!(help.contains(&expected), "{help}\n{expected}");
    }
}
