//! `gantry worker` (hidden): what the supervisor starts.

use std::process::ExitCode;

use clap::{Args, ValueEnum};

use crate::engine::worker;

/// Arguments of the hidden verb.
#[derive(Debug, Args)]
pub struct WorkerArgs {
    /// What this worker does
    #[arg(long)]
    pub role: Role,
}

/// Roles of a worker.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Role {
    /// Asks for devices.
    Devices,
    /// Reads headers.
    Scan,
    /// Runs cases.
    Case,
}

/// Serves the supervisor until it closes the pipe.
pub fn run(args: &WorkerArgs) -> ExitCode {
    match args.role {
        Role::Devices => worker::devices(),
        Role::Scan => worker::scan(),
        Role::Case => worker::case(&crate::builtin::ENTRY),
    }
}
