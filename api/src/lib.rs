//! The API: axum over the store.
//!
//! It verifies, appends and reads. It never talks to a platform and has no HTTP client in its
//! dependency tree, so it could be firewalled from the outside.
//!
//! Where to look:
//! - [`router`]: every route; [`routes`]: one file per resource
//! - [`live`]: the WebSocket and Socket.IO doors
//! - [`auth`]: tokens and who is calling; [`password`]: their hashes
//! - [`limit`]: how much one person may ask for, and how often somebody may guess; `usage` counts
//!   what they did
//! - [`view`]: rows as clients see them; [`media`]: addresses of what came with them
//! - [`error`]: the one place that turns what went wrong into an envelope
//! - [`openapi`]: the document that describes all of it
//! - [`request`], [`input`]: what surrounds a handler and what it reads
//! - [`client`]: the built web client, when there is one
//! - [`serve()`]: the accept loop with its time-outs; `observe`: what a worker shows of itself

pub mod auth;
pub mod client;
pub mod error;
pub mod input;
pub mod limit;
pub mod live;
pub mod media;
mod observe;
pub mod openapi;
pub mod password;
pub mod range;
pub mod request;
pub mod routes;
mod serve;
mod usage;
pub mod view;

use std::sync::Arc;

use hub_config::Settings;
use hub_store::Store;
use hub_store::objects::Objects;
use metrics_exporter_prometheus::PrometheusHandle;

pub use routes::router;
pub use serve::{serve, serve_observed};

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
    client: Option<client::Client>,
    links: media::Links,
    objects: Objects,
}

impl Api {
    /// An API over this store. Without a metrics handle there is no `/metrics`. What the settings
    /// say of a web client is not read, and media are in a folder: see [`Api::open`].
    pub fn new(store: Store, settings: Arc<Settings>, metrics: Option<PrometheusHandle>) -> Self {
        let objects = Objects::in_folder(&settings.media.dir);
        Self::with(store, settings, metrics, objects, None)
    }

    /// The same, with the web client that the settings name, and with media where somebody has
    /// opened a place for them: the API cannot reach any other by itself.
    pub fn open(
        store: Store,
        settings: Arc<Settings>,
        metrics: Option<PrometheusHandle>,
        objects: Objects,
    ) -> Result<Self, client::ClientError> {
        let server = &settings.server;
        let client = server.static_dir.as_deref();
        let client = client.map(|dir| client::Client::read(dir, &server.public_url));
        let client = client.transpose()?;
        Ok(Self::with(store, settings, metrics, objects, client))
    }

    fn with(
        store: Store,
        settings: Arc<Settings>,
        metrics: Option<PrometheusHandle>,
        objects: Objects,
        client: Option<client::Client>,
    ) -> Self {
        let links = media::Links::new(
            &settings.auth.encryption_key,
            &settings.server.public_url,
            settings.media.url_ttl,
        );
        Self {
            inner: Arc::new(Inner {
                links,
                objects,
                store,
                settings,
                metrics,
                sockets: live::Sockets::default(),
                hasher: password::Hasher::default(),
                client,
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

    pub(crate) fn client(&self) -> Option<&client::Client> {
        self.inner.client.as_ref()
    }

    pub(crate) fn links(&self) -> &media::Links {
        &self.inner.links
    }

    pub(crate) fn objects(&self) -> &Objects {
        &self.inner.objects
    }

    pub(crate) fn hasher(&self) -> &password::Hasher {
        &self.inner.hasher
    }
}
