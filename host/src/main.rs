//! Parses the command line, dispatches, exits; nothing else.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser;
use gantry_host::cli::{self, command::CommandLine};

fn main() -> ExitCode {
    cli::log::start();
    cli::dispatch(CommandLine::parse())
}
