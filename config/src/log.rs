//! What is logged, and how.

use crate::error::SettingsError;
use crate::layers::Layers;

/// The shape of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

/// What is logged, and how.
#[derive(Clone, Debug)]
pub struct LogSettings {
    /// The shape of a line.
    pub format: LogFormat,
    /// What to log, in the syntax of tracing's `EnvFilter`.
    pub filter: String,
}

impl LogSettings {
    pub(crate) fn read(layers: &Layers) -> Result<Self, SettingsError> {
        let filter = layers.text("log.filter").to_owned();
        if tracing_subscriber::EnvFilter::try_new(&filter).is_err() {
            return Err(layers.invalid("log.filter", "a filter such as \"info,hub_worker=debug\""));
        }
        Ok(Self {
            format: layers.choice(
                "log.format",
                &[("text", LogFormat::Text), ("json", LogFormat::Json)],
                "text or json",
            )?,
            filter,
        })
    }
}
