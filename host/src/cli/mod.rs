//! The command line: one module for each verb. stdout carries results, stderr everything else.

pub mod check;
pub mod command;
pub mod graph;
pub mod inspect;
pub mod key;
pub mod log;
pub mod phantom;
pub mod places;
pub mod plugins;
pub mod progress;
pub mod reply;
pub mod run;
pub mod series;
pub mod weights;
pub mod worker;

use std::process::ExitCode;

use command::{CommandLine, Verb};
use reply::Reply;

/// Runs the verb that was given.
pub fn dispatch(line: CommandLine) -> ExitCode {
    match line.verb {
        Verb::Run(args) => run::run(&args).print(),
        Verb::Check(args) => check::run(&args).print(),
        Verb::Graph(args) => graph::run(&args).print(),
        Verb::Inspect(args) => inspect::run(&args).print(),
        Verb::Plugins(args) => plugins::run(&args).print(),
        Verb::Series(args) => series::run(&args),
        Verb::Weights(args) => weights(&args).print(),
        Verb::Key(args) => match key::run(&args) {
            Ok(text) => Reply { stdout: format!("{text}\n"), ..Reply::default() }.print(),
            Err(e) => Reply::refuse(3, e).print(),
        },
        Verb::Phantom(args) => phantom(&args).print(),
        Verb::Worker(args) => worker::run(&args),
    }
}

/// Architectures lie in the `arch` folder of the plugins that run them.
fn weights(args: &weights::WeightsArgs) -> Reply {
    let places = crate::registry::Places::find(&[], &[]);
    let plugins = places.plugins.iter().filter_map(|p| std::fs::read_dir(&p.path).ok()).flatten().flatten();
    let mut folders: Vec<_> = plugins.map(|e| e.path().join("arch")).filter(|p| p.is_dir()).collect();
    folders.sort();
    let default = places.checkpoints.iter().find(|p| p.exists()).map(|p| p.path.clone());
    match weights::run(args, &folders, default.as_deref()) {
        Ok(stdout) => Reply { stdout, ..Reply::default() },
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
