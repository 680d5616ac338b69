//! What a run says while it works: a bar on a terminal, a line now and then on a pipe, JSON lines on request.

use std::io::{IsTerminal, Write};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use crate::engine::self_audit::said;
use crate::engine::{Failure, Watcher};

/// On a pipe, at most one progress line in this time.
const QUIET: Duration = Duration::from_secs(30);

/// `--progress`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum ProgressForm {
    /// A bar on a terminal, few lines on a pipe.
    #[default]
    Auto,
    /// One JSON object a line.
    Json,
    /// Nothing but errors.
    None,
}

/// Writes to stderr; never patient text, because everything it is told has none.
pub struct Progress {
    form: ProgressForm,
    bar: ProgressBar,
    last: Mutex<Option<Instant>>,
}

impl Progress {
    /// In the form asked for.
    pub fn new(form: ProgressForm) -> Progress {
        let bar = match form {
            ProgressForm::Auto if std::io::stderr().is_terminal() => ProgressBar::new_spinner(),
            _ => ProgressBar::hidden(),
        };
        Progress { form, bar, last: Mutex::default() }
    }

    fn line(&self, text: &str) {
        said::note(text.as_bytes());
        said::note(b"\n");
        if self.bar.is_hidden() {
            // A reader of stderr that went away is no reason to stop.
            let _ = writeln!(std::io::stderr().lock(), "{text}");
        } else {
            self.bar.println(text);
        }
    }

    fn json(&self, value: &serde_json::Value) -> bool {
        if self.form == ProgressForm::Json {
            self.line(&value.to_string());
        }
        self.form != ProgressForm::Auto
    }

    fn seldom(&self, text: impl FnOnce() -> String) {
        let mut last = self.last.lock().unwrap_or_else(|e| e.into_inner());
        if self.bar.is_hidden() && last.is_none_or(|t| t.elapsed() > QUIET) {
            // The first line waits too: a short run on a pipe is silent.
            if last.is_some() {
                self.line(&text());
            }
            *last = Some(Instant::now());
        }
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

impl Watcher for Progress {
    fn remark(&self, text: &str) {
        if !self.json(&json!({ "remark": text })) {
            self.line(&format!("note: {text}"));
        }
    }

    fn scanning(&self, files: usize) {
        if self.form == ProgressForm::Auto {
            self.bar.set_message(format!("looking at files: {files}"));
            self.bar.tick();
            self.seldom(|| format!("looking at files: {files}"));
        }
    }

    fn cases(&self, total: usize) {
        if !self.json(&json!({ "cases": total })) {
            let style = ProgressStyle::with_template("{bar:30} {pos}/{len} cases, {elapsed} {msg}");
            self.bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            self.bar.set_message("");
            self.bar.set_length(total as u64);
        }
    }

    fn case(&self, name: &str, failure: Option<&Failure>) {
        self.bar.inc(1);
        let value = match failure {
            None => json!({ "case": name, "status": "done" }),
            Some(f) => json!({ "case": name, "status": f.outcome, "code": f.code, "node": f.node, "reason": f.text }),
        };
        if self.json(&value) {
            return;
        }
        match failure {
            None => self.seldom(|| format!("{name}: done")),
            Some(f) => self.line(&format!("{name}: {}: {f}", word(f))),
        }
    }
}

fn word(failure: &Failure) -> &'static str {
    match failure.outcome {
        crate::engine::Outcome::Quarantined => "quarantined",
        crate::engine::Outcome::Failed => "failed",
        crate::engine::Outcome::Cancelled => "cancelled",
    }
}
