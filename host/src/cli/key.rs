//! `gantry key new FILE`: makes the site's pseudonym key.

use crate::identity::{Key, KeyError};
use clap::{Args, Subcommand};
use std::path::PathBuf;

/// Arguments of `gantry key`.
#[derive(Debug, Args)]
pub struct KeyArgs {
    #[command(subcommand)]
    command: KeyCommand,
}

#[derive(Debug, Subcommand)]
enum KeyCommand {
    /// Make a new key: 32 random bytes that only you can read; an existing file is never overwritten
    New {
        /// Where to write the key
        file: PathBuf,
    },
}

/// Runs `gantry key`; the text it returns is the command's result for stdout.
///
/// # Errors
/// [`KeyError`]: the file exists already, or cannot be written.
pub fn run(args: &KeyArgs) -> Result<String, KeyError> {
    match &args.command {
        KeyCommand::New { file } => {
            Key::create(file)?;
            Ok(format!(
                "{}: new key written. Keep a copy in a safe place: without it the same patient gets another pseudonym.",
                file.display()
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        key: KeyArgs,
    }

    #[test]
    fn new_makes_a_key_once() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let path = dir.path().join("site.key");
        let line = Line::try_parse_from(["gantry-key", "new", &path.to_string_lossy()]).expect("arguments");
        let said = run(&line.key).expect("made");
        assert!(said.contains("new key written"));
        let first = std::fs::read(&path).expect("key");
        assert_eq!(first.len(), 32);
        assert!(matches!(run(&line.key), Err(KeyError::Exists { .. })));
        assert_eq!(std::fs::read(&path).expect("key"), first);
    }

    #[test]
    fn a_file_is_required() {
        assert!(Line::try_parse_from(["gantry-key", "new"]).is_err());
        assert!(Line::try_parse_from(["gantry-key"]).is_err());
    }
}
