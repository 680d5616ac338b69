//! The log: `GANTRY_LOG` takes `RUST_LOG` syntax and is silent without. It carries no patient text.

use tracing_subscriber::EnvFilter;

/// Starts logging to stderr where `GANTRY_LOG` asks for it.
pub fn start() {
    let Ok(filter) = EnvFilter::try_from_env("GANTRY_LOG") else { return };
    // A second start (in tests) keeps the first.
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).try_init();
}
