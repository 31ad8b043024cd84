//! Pictures, videos and files of messages.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::SettingsError;
use crate::layers::Layers;

/// Pictures, videos and files of messages.
#[derive(Clone, Debug)]
pub struct MediaSettings {
    /// The folder they are kept in.
    pub dir: PathBuf,
    /// Largest one that is fetched.
    pub bytes_max: usize,
    /// Largest one that is taken from a client.
    pub upload_bytes_max: usize,
    /// Longest a download may take, and an upload. Shorter than a job's lease, or two workers fetch the same.
    pub timeout: Duration,
    /// How long an address stays good that a client was given, at least.
    pub url_ttl: Duration,
    /// Origins that are fetched from without a question.
    pub trusted_origins: Vec<String>,
}

impl MediaSettings {
    pub(crate) fn read(layers: &Layers, data: &Path) -> Result<Self, SettingsError> {
        let timeout = layers.number("media.timeout_ms", 100..=75_000)?;
        let trusted_origins = layers.origins("media.trusted_origins")?;
        if trusted_origins.iter().any(|it| it == "*") {
            let expected = "origins such as http://127.0.0.1:4100, each by its name";
            return Err(layers.invalid("media.trusted_origins", expected));
        }
        Ok(Self {
            dir: match layers.text_opt("media.dir") {
                Some(dir) => PathBuf::from(dir),
                None => data.join("media"),
            },
            bytes_max: layers.number("media.bytes", 1024..=1024 * 1024 * 1024)?,
            upload_bytes_max: layers.number("media.upload_bytes", 1024..=100_000_000)?,
            timeout: Duration::from_millis(timeout),
            url_ttl: layers.seconds("media.url_ttl_s", 60)?,
            trusted_origins,
        })
    }
}
