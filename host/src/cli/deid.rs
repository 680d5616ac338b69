//! `gantry deid`: the ready-made chain for people who only want de-identification. It takes every DICOM object.

pub mod ctp;

use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::Args;

use super::identity::IdentityArgs;
use super::places::{PlacesArgs, SiteArgs};
use super::progress::ProgressForm;
use super::reply::Reply;
use super::run::{self, RunArgs, STALL_S};
use crate::plan::Asked;

/// The pipeline that the verb runs.
pub const PIPELINE: &str = include_str!("../../../config/pipelines/deid.toml");

/// Which attributes the profile treats, for the import of scripts: the same facts that the anonymizer is built from.
const TABLE: &str = include_str!("../../../plugins/anonymizer/data/ps315_table_e1-1.csv");

/// What stands for its file in messages.
const PIPELINE_NAME: &str = "deid.toml (built in)";

/// The options of PS3.15 Annex E that keep what the basic profile removes.
const RETAIN: [&str; 7] =
    ["uids", "device", "institution", "patient-characteristics", "full-dates", "modified-dates", "safe-private"];

/// Those that clean what the basic profile removes.
const CLEAN: [&str; 4] = ["descriptors", "graphics", "structured-content", "pixel-data"];

/// A profile of PS3.15 Annex E with its options: `basic`, or `basic+modified-dates+descriptors`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Profile {
    retain: Vec<String>,
    clean: Vec<String>,
}

impl FromStr for Profile {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut words = text.split('+');
        if words.next() != Some("basic") {
            return Err("a profile begins with `basic`; options follow, each after a `+`".to_owned());
        }
        let mut profile = Self::default();
        for word in words {
            let list = match word {
                _ if RETAIN.contains(&word) => &mut profile.retain,
                _ if CLEAN.contains(&word) => &mut profile.clean,
                _ => {
                    let known = RETAIN.iter().chain(&CLEAN).copied().collect::<Vec<_>>().join(", ");
                    return Err(format!("there is no option `{word}`; there are: {known}"));
                }
            };
            if list.iter().any(|known| known == word) {
                return Err(format!("the option `{word}` is given twice"));
            }
            list.push(word.to_owned());
        }
        if ["full-dates", "modified-dates"].iter().all(|dates| profile.retain.iter().any(|word| word == dates)) {
            return Err("the options full-dates and modified-dates exclude each other".to_owned());
        }
        Ok(profile)
    }
}

/// Arguments of `gantry deid`.
#[derive(Debug, Clone, Args)]
pub struct DeidArgs {
    /// Input folder: files of any DICOM class, nested arbitrarily (may be given several times)
    #[arg(short, long, value_name = "DIR", num_args = 1.., required = true)]
    pub input: Vec<PathBuf>,
    /// Output folder
    #[arg(short, long, value_name = "DIR")]
    pub output: PathBuf,
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
    /// The site's pseudonym key [default: key_file in the site configuration]
    #[arg(long, value_name = "FILE")]
    pub key: Option<PathBuf>,
    /// Pseudonyms and their mapping.
    #[command(flatten)]
    pub identity: IdentityArgs,
    /// Run at most N cases (studies)
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
    /// Run only this case, by its name in OUT (may be given several times)
    #[arg(long, value_name = "CASE")]
    pub only: Vec<String>,
    /// Case workers [default: the site's, else 1]
    #[arg(long, value_name = "N")]
    pub jobs: Option<usize>,
    /// CPU threads of each case worker [default: all, divided among the workers]
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
    /// Ignore what an earlier run finished
    #[arg(long)]
    pub fresh: bool,
    /// How to tell progress on stderr
    #[arg(long, value_enum, default_value_t = ProgressForm::Auto)]
    pub progress: ProgressForm,
    /// Where things are installed.
    #[command(flatten)]
    pub places: PlacesArgs,
    /// What the site lays down.
    #[command(flatten)]
    pub site: SiteArgs,
}

/// Runs the verb; exit codes as `gantry run`.
pub fn run(args: &DeidArgs) -> Reply {
    let mut options = args.clone();
    let mut rules = Vec::new();
    if let Some(path) = &args.script {
        match script(path, args.accept_refused) {
            Err(refused) => return refused,
            Ok(script) => {
                add(&mut options.profile.retain, &script.retain);
                add(&mut options.profile.clean, &script.clean);
                rules = script.rules;
            }
        }
    }
    run::run_text(&run_args(&options, &rules), PIPELINE.to_owned())
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
    let text = std::fs::read_to_string(path).map_err(|e| Reply::refuse(3, format!("{name}: {e}")))?;
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
fn run_args(args: &DeidArgs, rules: &[String]) -> RunArgs {
    let list = |texts: &[String]| toml::Value::from(texts.to_vec()).to_string();
    let mut set = Vec::new();
    for (param, texts) in [
        ("retain", args.profile.retain.as_slice()),
        ("clean", &args.profile.clean),
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
        output: args.output.clone(),
        limit: args.limit,
        only: args.only.clone(),
        set,
        device: Asked::Cpu,
        jobs: args.jobs,
        threads: args.threads,
        keep: Vec::new(),
        fresh: args.fresh,
        seed: None,
        run_time: None,
        key: args.key.clone(),
        identity: args.identity.clone(),
        precision: None,
        allow_toy: false,
        include_derived: true,
        stall: STALL_S,
        progress: args.progress,
        places: args.places.clone(),
        site: args.site.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_is_basic_and_its_options() {
        let parsed: Profile = "basic+modified-dates+descriptors".parse().unwrap();
        assert_eq!((parsed.retain, parsed.clean), (vec!["modified-dates".to_owned()], vec!["descriptors".to_owned()]));
        assert_eq!("basic".parse::<Profile>().unwrap(), Profile::default());
        for (bad, expected) in [
            ("", "begins with `basic`"),
            ("full", "begins with `basic`"),
            ("basic+", "no option ``"),
            ("basic+dates", "no option `dates`; there are: uids"),
            ("basic+uids+uids", "given twice"),
            ("basic+full-dates+modified-dates", "exclude each other"),
        ] {
            let error = bad.parse::<Profile>().unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }
}
