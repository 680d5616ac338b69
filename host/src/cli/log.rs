//! The log: `GANTRY_LOG` takes `RUST_LOG` syntax and is silent without. It carries no patient text.

use std::fs::File;
use std::sync::Mutex;

use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::prelude::*;
use tracing_subscriber::{EnvFilter, fmt};

use crate::engine::self_audit::said::Noted;

/// Starts logging to stderr where `GANTRY_LOG` asks for it.
pub fn start() {
    let Ok(filter) = EnvFilter::try_from_env("GANTRY_LOG") else { return };
    // A worker takes standard error away from plugin code; the log keeps an end of its own.
    let Ok(own) = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stderr(), 3) else { return };
    // Libraries do not know what must not be told: a parser quotes the value at which it stumbles.
    let ours = filter_fn(|about| about.target().starts_with("gantry"));
    let lines = fmt::layer().with_ansi(false).with_writer(Mutex::new(Noted(File::from(own)))).with_filter(ours);
    let log = tracing_subscriber::registry().with(lines).with(filter);
    // A second start (in tests) keeps the first.
    let _ = log.try_init();
}
