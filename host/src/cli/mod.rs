//! The command line: one module for each verb. stdout carries results, stderr everything else.

pub mod bench;
pub mod chain;
pub mod check;
pub mod command;
pub mod completions;
pub mod deid;
pub mod demo;
pub mod doctor;
pub mod graph;
pub mod identity;
pub mod inspect;
pub mod key;
pub mod log;
pub mod man;
pub mod phantom;
pub mod places;
pub mod plugins;
pub mod progress;
pub mod reply;
pub mod run;
pub mod series;
pub mod test;
pub mod verify;
pub mod weights;
pub mod worker;

use std::process::ExitCode;

use command::{CommandLine, Verb};
use reply::Reply;

use crate::diagnostic::Sources;
use crate::registry::{Places, Registry};

/// Runs the verb that was given.
pub fn dispatch(line: CommandLine) -> ExitCode {
    let Some(verb) = line.verb else { return welcome().print() };
    match verb {
        Verb::Demo(args) => demo::run(&args).print(),
        Verb::Run(args) => run::run(&args).print(),
        Verb::Deid(args) => deid::run(&args).print(),
        Verb::Check(args) => check::run(&args).print(),
        Verb::Graph(args) => graph::run(&args).print(),
        Verb::Inspect(args) => inspect::run(&args).print(),
        Verb::Test(args) => test::run(&args).print(),
        Verb::Bench(args) => bench::run(&args).print(),
        Verb::Plugins(args) => plugins::run(&args).print(),
        Verb::Series(args) => series::run(&args),
        Verb::Weights(args) => weights(&args).print(),
        Verb::Key(args) => match key::run(&args) {
            Ok(text) => Reply { stdout: format!("{text}\n"), ..Reply::default() }.print(),
            Err(e) => Reply::refuse(3, e).print(),
        },
        Verb::Phantom(args) => phantom(&args).print(),
        Verb::Verify(args) => verify::run(&args).print(),
        Verb::Doctor(args) => doctor::run(&args).print(),
        Verb::Completions(args) => completions::run(&args).print(),
        Verb::Man(args) => man::run(&args).print(),
        Verb::Worker(args) => worker::run(&args),
    }
}

/// A bare `gantry`: the help, and where no plugins are installed, what to do about that.
fn welcome() -> Reply {
    let mut stderr = command::visible().render_help().to_string();
    let registry = Registry::open(&Places::find(&[], &[]), &mut Sources::new());
    if let Some(words) = places::nothing_installed(&registry) {
        stderr.push_str(&format!("\nnote: {words}\n"));
    }
    Reply { stdout: String::new(), stderr, code: 2 }
}

/// Architectures lie in the `arch` folder of the plugins that run them.
fn weights(args: &weights::WeightsArgs) -> Reply {
    let places = Places::find(&[], &[]);
    let mut folders = Vec::new();
    for place in &places.plugins {
        let plugins = std::fs::read_dir(&place.path).into_iter().flatten().flatten();
        let mut here: Vec<_> = plugins.map(|e| e.path().join("arch")).filter(|p| p.is_dir()).collect();
        here.sort();
        folders.append(&mut here);
    }
    let default = places.checkpoints.iter().find(|p| p.exists()).map(|p| p.path.clone());
    match weights::run(args, &folders, default.as_deref()) {
        Ok(report) => Reply { stdout: report + "\n", ..Reply::default() },
        Err(e) => Reply::refuse(e.exit_code(), e),
    }
}

fn phantom(args: &phantom::PhantomArgs) -> Reply {
    match phantom::run(args, |_| ()) {
        Ok(patients) => {
            let lines = patients.iter().map(|p| format!("{}\n", p.folder.display()));
            Reply { stdout: lines.collect(), ..Reply::default() }
        }
        Err(e @ phantom::PhantomError::Write { .. }) => Reply::refuse(3, e),
        Err(e) => Reply::refuse(2, e),
    }
}
