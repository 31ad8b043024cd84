//! The API: axum over the store.
//!
//! It verifies, appends and reads. It never talks to a platform and has no HTTP client in its
//! dependency tree, so it could be firewalled from the outside.
//!
//! Where to look:
//! - [`router`]: every route; [`routes`]: one file per resource
//! - [`live`]: the WebSocket and Socket.IO doors
//! - [`auth`]: tokens and who is calling; [`password`]: their hashes
//! - [`limit`]: how much one person may ask for, and how often somebody may guess
//! - [`view`]: rows as clients see them
//! - [`error`]: the one place that turns what went wrong into an envelope
//! - [`openapi`]: the document that describes all of it
//! - [`request`], [`input`]: what surrounds a handler and what it reads
//! - [`serve()`]: the accept loop with its time-outs

pub mod auth;
pub mod error;
pub mod input;
pub mod limit;
pub mod live;
pub mod openapi;
pub mod password;
pub mod request;
pub mod routes;
mod serve;
pub mod view;

use std::sync::Arc;

use hub_config::Settings;
use hub_store::Store;
use metrics_exporter_prometheus::PrometheusHandle;

pub use routes::router;
pub use serve::serve;

/// What every handler shares. Cheap to clone.
#[derive(Clone)]
pub struct Api {
    inner: Arc<Inner>,
}

struct Inner {
    store: Store,
    settings: Arc<Settings>,
    metrics: Option<PrometheusHandle>,
    sockets: live::Sockets,
    hasher: password::Hasher,
}

impl Api {
    /// An API over this store. Without a metrics handle there is no `/metrics`.
    pub fn new(store: Store, settings: Arc<Settings>, metrics: Option<PrometheusHandle>) -> Self {
        Self {
            inner: Arc::new(Inner {
                store,
                settings,
                metrics,
                sockets: live::Sockets::default(),
                hasher: password::Hasher::default(),
            }),
        }
    }

    /// The store.
    pub fn store(&self) -> &Store {
        &self.inner.store
    }

    /// The settings.
    pub fn settings(&self) -> &Settings {
        &self.inner.settings
    }

    /// The open sockets of this process.
    pub fn sockets(&self) -> &live::Sockets {
        &self.inner.sockets
    }

    pub(crate) fn metrics(&self) -> Option<&PrometheusHandle> {
        self.inner.metrics.as_ref()
    }

    pub(crate) fn hasher(&self) -> &password::Hasher {
        &self.inner.hasher
    }
}
