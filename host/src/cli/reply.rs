//! [`Reply`]: what a verb answers, before it is printed: results for stdout, words for people on stderr, an exit code.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

/// What a verb answers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reply {
    /// Results.
    pub stdout: String,
    /// Findings and remarks.
    pub stderr: String,
    /// 0, or one of the codes of the command line's contract.
    pub code: u8,
}

impl Reply {
    /// A refusal in words.
    pub fn refuse(code: u8, words: impl std::fmt::Display) -> Self {
        Self { stdout: String::new(), stderr: format!("error: {words}\n"), code }
    }

    /// Prints both and gives the exit code. A reader that went away is no error.
    pub fn print(self) -> ExitCode {
        let _ = std::io::stderr().lock().write_all(self.stderr.as_bytes());
        let mut out = std::io::stdout().lock();
        let _ = out.write_all(self.stdout.as_bytes()).and_then(|()| out.flush());
        ExitCode::from(self.code)
    }
}

/// Are colours wanted on stderr? Not with `NO_COLOR`, not on a pipe.
pub fn colour() -> bool {
    colour_on(&std::io::stderr())
}

/// Are colours wanted on this stream?
pub fn colour_on(stream: &impl IsTerminal) -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty()) && stream.is_terminal()
}
