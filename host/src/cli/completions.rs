//! `gantry completions SHELL`: a completion script, made from the one definition of the command line.

use clap::Args;
use clap_complete::Shell;

use super::command::visible;
use super::reply::Reply;

/// Arguments of `gantry completions`.
#[derive(Debug, Clone, Args)]
pub struct CompletionsArgs {
    /// For which shell
    #[arg(value_enum)]
    pub shell: Shell,
}

/// The script, for stdout.
pub fn run(args: &CompletionsArgs) -> Reply {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut visible(), "gantry", &mut script);
    Reply { stdout: String::from_utf8_lossy(&script).into_owned(), ..Reply::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::ValueEnum;

    #[test]
    fn every_shell_has_a_script_without_hidden_verbs() {
        for &shell in Shell::value_variants() {
            let script = run(&CompletionsArgs { shell }).stdout;
            assert!(script.contains("verify") && script.contains("include-derived"), "{shell}: {script}");
            assert!(!script.contains("supervisor"), "{shell} offers the worker");
        }
    }
}
