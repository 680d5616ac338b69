//! `gantry deid`: the ready-made chain for people who only want de-identification. It takes every DICOM object.

pub mod ctp;

use std::path::PathBuf;
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
    run::run_text(&run_args(args), PIPELINE.to_owned())
}

/// What `gantry run` would be told.
fn run_args(args: &DeidArgs) -> RunArgs {
    let list = |texts: &[String]| toml::Value::from(texts.to_vec()).to_string();
    let mut set = Vec::new();
    for (param, texts) in
        [("retain", &args.profile.retain), ("clean", &args.profile.clean), ("pixel_rules", &args.pixel_rule)]
    {
        if !texts.is_empty() {
            set.push(format!("anonymous.{param}={}", list(texts)));
        }
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
        ] {
            let error = bad.parse::<Profile>().unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }
}
