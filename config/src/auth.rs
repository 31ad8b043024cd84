//! Secrets and lifetimes of the hub's own tokens.

use std::time::Duration;

use hub_domain::secret::Secret;

use crate::error::SettingsError;
use crate::layers::Layers;

/// Secrets and lifetimes of the hub's own tokens. A secret that is not set is empty.
#[derive(Clone, Debug)]
pub struct AuthSettings {
    /// Signs access tokens.
    pub jwt_secret: Secret,
    /// Signs refresh tokens. The kinds are told apart by the secret alone, so it must differ.
    pub jwt_refresh_secret: Secret,
    /// Wraps the data keys; as written, the sealing code derives 32 bytes from it.
    pub encryption_key: Secret,
    /// Life of an access token.
    pub access_ttl: Duration,
    /// Life of a refresh token.
    pub refresh_ttl: Duration,
    /// How long a rotated refresh token is still accepted. Zero is strict.
    pub reuse_window: Duration,
}

impl AuthSettings {
    pub(crate) fn read(layers: &Layers) -> Result<Self, SettingsError> {
        let auth = Self {
            jwt_secret: layers.secret("auth.jwt_secret"),
            jwt_refresh_secret: layers.secret("auth.jwt_refresh_secret"),
            encryption_key: layers.secret("auth.encryption_key"),
            access_ttl: layers.seconds("auth.access_ttl_s", 1)?,
            refresh_ttl: layers.seconds("auth.refresh_ttl_s", 1)?,
            reuse_window: layers.seconds("auth.reuse_window_s", 0)?,
        };
        if !auth.jwt_secret.is_empty() && auth.jwt_secret == auth.jwt_refresh_secret {
            return Err(SettingsError::Conflict(
                "JWT_SECRET and JWT_REFRESH_SECRET are the same: give them different values, or an \
                 access token passes for a refresh token."
                    .to_owned(),
            ));
        }
        Ok(auth)
    }
}
