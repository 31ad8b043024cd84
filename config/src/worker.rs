//! How the worker talks to platforms and how stubborn it is.

use std::net::SocketAddr;
use std::time::Duration;

use hub_domain::retry::Policy;

use crate::error::SettingsError;
use crate::layers::Layers;

/// How the worker talks to platforms and how stubborn it is.
#[derive(Clone, Debug)]
pub struct WorkerSettings {
    /// Jobs of each kind one process runs at a time.
    pub concurrency: usize,
    /// Conversations one process sends in at a time. A send mostly waits, for the disk and for the
    /// platform, so there may be many.
    pub sends: usize,
    /// Longest wait for a connection to a platform.
    pub http_connect_timeout: Duration,
    /// Longest a whole call may take. Shorter than `reconcile_window`, or a late answer meets a
    /// send that was already given up.
    pub http_timeout: Duration,
    /// How long an unclear send waits for the platform's echo before a person is asked.
    pub reconcile_window: Duration,
    /// Days that raw input is kept, so that history can be translated again.
    pub raw_input_days: u16,
    /// Days that content of messages can be read; 0 is for ever.
    pub message_retention_days: u16,
    /// Days that counts of usage are kept.
    pub usage_days: u16,
    /// Where a worker that runs alone serves its metrics and health.
    pub listen: Option<SocketAddr>,
    /// When a send is tried again, and how often.
    pub send_retry: Policy,
}

impl WorkerSettings {
    pub(crate) fn read(layers: &Layers) -> Result<Self, SettingsError> {
        Ok(Self {
            concurrency: layers.number("worker.concurrency", 1..=1024)?,
            sends: layers.number("worker.sends", 1..=1024)?,
            http_connect_timeout: layers.millis("worker.http_connect_timeout_ms")?,
            http_timeout: layers.millis("worker.http_timeout_ms")?,
            reconcile_window: layers.seconds("worker.reconcile_window_s", 1)?,
            raw_input_days: layers.number("worker.raw_input_days", 1..=3650)?,
            message_retention_days: layers.number("worker.message_retention_days", 0..=36_500)?,
            // The report is about 30 whole days.
            usage_days: layers.number("worker.usage_days", 31..=3650)?,
            listen: layers.socket_opt("worker.listen")?,
            send_retry: Policy {
                first: layers.millis("worker.send_retry_first_ms")?,
                cap: layers.seconds("worker.send_retry_cap_s", 1)?,
                attempts_max: layers.number("worker.send_retry_attempts", 1..=100)?,
            },
        })
    }
}
