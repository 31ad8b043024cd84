//! What is wrong with the settings, in one sentence a person can act on.

use std::path::PathBuf;

/// Why the settings cannot be used. Never shows the value of a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// A value cannot be read as what the setting is.
    #[error("{name} is \"{value}\": expected {expected}.")]
    Value {
        /// The setting as the person wrote it: the environment's name, or the key and its file.
        name: String,
        /// What they wrote.
        value: String,
        /// What would be right.
        expected: &'static str,
    },
    /// The same for a value that must not be shown.
    #[error("{name} is set to something unusable (not shown): expected {expected}.")]
    SecretValue {
        /// The setting as the person wrote it.
        name: String,
        /// What would be right.
        expected: &'static str,
    },
    /// The settings file has a key nobody reads.
    #[error(
        "{key} in {} is not a setting: remove it or correct its name (config/default.toml lists \
         all).",
        file.display()
    )]
    UnknownKey {
        /// The full key.
        key: String,
        /// The file it is in.
        file: PathBuf,
    },
    /// The settings file cannot be read at all.
    #[error("HUB_CONFIG names {}, which cannot be used: {reason}.", file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// Why not.
        reason: String,
    },
    /// Something a role cannot work without is not set.
    #[error("{name} is not set: {advice}.")]
    Missing {
        /// The environment name of the setting.
        name: &'static str,
        /// What to do.
        advice: &'static str,
    },
    /// A secret that everybody knows, or that can be guessed, in production.
    #[error(
        "{name} {reason}: set it to a random value of at least 16 bytes, for example from `openssl rand -hex 32`."
    )]
    WeakSecret {
        /// The environment name of the setting.
        name: &'static str,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Two settings contradict each other.
    #[error("{0}")]
    Conflict(String),
    /// The generated development secrets cannot be kept.
    #[error("{} cannot be used for the development secrets: {reason}.", file.display())]
    DevSecrets {
        /// The file.
        file: PathBuf,
        /// Why not.
        reason: String,
    },
}
