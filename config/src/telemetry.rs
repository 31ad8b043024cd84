//! Turns the log on.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

use crate::log::{LogFormat, LogSettings};

/// Starts logging to standard error. A second call, or one after somebody else installed a
/// subscriber (tests do), changes nothing.
pub fn init(log: &LogSettings) {
    // The filter was checked when the settings were read; the fallback is for hand-made ones.
    let filter = EnvFilter::try_new(&log.filter).unwrap_or_else(|_| EnvFilter::new("info"));
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        // Colours are for people; a file or a collector would keep the codes.
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    // The only error is that a subscriber is already there.
    let _already_there = match log.format {
        LogFormat::Text => lines.try_init(),
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    };
}
