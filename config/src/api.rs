//! Limits and waits of the API.

use std::time::Duration;

use crate::error::SettingsError;
use crate::layers::Layers;

/// Limits and waits of the API.
#[derive(Clone, Debug)]
pub struct ApiSettings {
    /// Largest request body, in bytes.
    pub body_bytes: usize,
    /// Largest webhook body, in bytes.
    pub webhook_body_bytes: usize,
    /// How long a write waits until its own effect can be read.
    pub read_wait: Duration,
    /// How long a send waits for the platform's answer before it is reported as queued.
    pub send_wait: Duration,
    /// How long an OAuth callback waits for the account.
    pub oauth_callback_wait: Duration,
    /// How long a request waits for an account to be polled.
    pub poll_wait: Duration,
    /// Requests one user may make per window.
    pub rate_limit_requests: u32,
    /// Requests to sensitive routes one user may make per window.
    pub strict_rate_limit_requests: u32,
    /// The window of both limits.
    pub rate_limit_window: Duration,
}

impl ApiSettings {
    pub(crate) fn read(layers: &Layers) -> Result<Self, SettingsError> {
        Ok(Self {
            body_bytes: layers.number("api.body_bytes", 1024..=1 << 30)?,
            webhook_body_bytes: layers.number("api.webhook_body_bytes", 1024..=1 << 30)?,
            read_wait: layers.millis("api.read_wait_ms")?,
            send_wait: layers.millis("api.send_wait_ms")?,
            oauth_callback_wait: layers.millis("api.oauth_callback_wait_ms")?,
            poll_wait: layers.millis("api.poll_wait_ms")?,
            rate_limit_requests: layers.number("api.rate_limit_requests", 1..=1_000_000)?,
            strict_rate_limit_requests: layers
                .number("api.strict_rate_limit_requests", 1..=1_000_000)?,
            rate_limit_window: layers.millis("api.rate_limit_window_ms")?,
        })
    }
}
