//! What each role cannot work without, and which secrets production refuses.

use hub_domain::secret::Secret;

use crate::Settings;
use crate::development::FICTIONAL;
use crate::error::SettingsError;
use crate::keys::{KEYS, Shown, key};
use crate::server::Environment;

/// What a process does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Serves HTTP and sockets.
    Api,
    /// Folds, sends, retries.
    Worker,
    /// Changes the schema and ends.
    Migrate,
}

/// Values from samples of earlier installations, and what they fell back to.
const SAMPLES: &[&str] = &[
    "default-key-change-in-production!!",
    "your-32-character-encryption-key",
    "instagram_verify_token_123",
    "teams_webhook_secret",
];

/// Pieces that only a placeholder contains.
const PLACEHOLDERS: &[&str] = &[
    "change-me",
    "change_me",
    "changeme",
    "change-in-production",
    "change_in_production",
    "change-this",
    "replace-me",
    "your-",
    "your_",
];

const SECRET_BYTES_MIN: usize = 16;

pub(crate) fn require(settings: &Settings, role: Role) -> Result<(), SettingsError> {
    if settings.database.url.is_none() {
        return Err(SettingsError::Missing {
            name: "DATABASE_URL",
            advice: "set it to postgres://user:password@host:5432/name, or set DB_HOST, DB_NAME, \
                     DB_USER and DB_PASSWORD",
        });
    }
    for (path, secret) in own_secrets(settings, role) {
        if secret.is_empty() {
            return Err(SettingsError::Missing {
                name: name_of(path),
                advice: "set it to a random value that all processes share, for example from \
                         `openssl rand -hex 32`",
            });
        }
    }
    if settings.server.environment == Environment::Development || role == Role::Migrate {
        return Ok(());
    }
    for (path, secret) in own_secrets(settings, role) {
        refuse_weak(path, secret)?;
    }
    for (path, secret) in platform_secrets(settings) {
        refuse_weak(path, &secret)?;
    }
    Ok(())
}

/// A worker signs no tokens, so it is not asked for what it could only leak.
fn own_secrets(settings: &Settings, role: Role) -> Vec<(&'static str, &Secret)> {
    let auth = &settings.auth;
    let sealing = ("auth.encryption_key", &auth.encryption_key);
    match role {
        Role::Api => vec![
            ("auth.jwt_secret", &auth.jwt_secret),
            ("auth.jwt_refresh_secret", &auth.jwt_refresh_secret),
            sealing,
        ],
        Role::Worker => vec![sealing],
        Role::Migrate => vec![],
    }
}

/// As they were written: what one platform borrows from another is checked under its own name.
fn platform_secrets(settings: &Settings) -> impl Iterator<Item = (&'static str, Secret)> {
    KEYS.iter()
        .filter(|key| key.path.starts_with("platforms.") && key.shown == Shown::Masked)
        .map(|key| (key.path, settings.layers.secret(key.path)))
        .filter(|(_, secret)| !secret.is_empty())
}

fn refuse_weak(path: &str, secret: &Secret) -> Result<(), SettingsError> {
    let value = secret.expose();
    let lower = value.to_ascii_lowercase();
    let sample = SAMPLES.contains(&value)
        || FICTIONAL.iter().any(|(_, fictional)| *fictional == value)
        || PLACEHOLDERS.iter().any(|piece| lower.contains(piece));
    let reason = if sample {
        "is a sample value that everybody knows"
    } else if value.len() < SECRET_BYTES_MIN {
        "is too short"
    } else {
        return Ok(());
    };
    Err(SettingsError::WeakSecret {
        name: name_of(path),
        reason,
    })
}

fn name_of(path: &str) -> &'static str {
    key(path)
        .and_then(|key| key.names.first().copied())
        .unwrap_or("a secret")
}
