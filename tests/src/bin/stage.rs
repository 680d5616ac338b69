//! Builds the workspace, stages the plugins, and runs the staged `gantry` with the arguments it was given:
//! `cargo demo` is `stage demo`.

use std::process::{Command, ExitCode};

use gantry_tests::staging::{Quiet, build_and_stage};

fn main() -> ExitCode {
    let stage = match build_and_stage(Quiet::No) {
        Ok(stage) => stage,
        Err(why) => {
            eprintln!("error: {why}");
            return ExitCode::FAILURE;
        }
    };
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    if arguments.is_empty() {
        println!("{}", stage.gantry.display());
        return ExitCode::SUCCESS;
    }
    match Command::new(&stage.gantry).args(arguments).status() {
        Ok(status) => ExitCode::from(status.code().and_then(|c| u8::try_from(c).ok()).unwrap_or(1)),
        Err(e) => {
            eprintln!("error: {}: {e}", stage.gantry.display());
            ExitCode::FAILURE
        }
    }
}
