//! What every reactor and job needs.

use std::collections::HashMap;
use std::sync::Arc;

use hub_config::{MediaSettings, Settings, WorkerSettings};
use hub_domain::link::Links;
use hub_domain::platform::http::{HttpRequest, HttpResponse, TransportError};
use hub_domain::platform::{Adapter, App, Platform, adapter};
use hub_store::Store;
use hub_store::objects::Objects;
use hub_store::usage::Call;

use crate::fetch::Fetcher;
use crate::http::Driver;
use crate::jobs::send::Handles;
use crate::reference::References;
use crate::telegram_user::Sessions;

struct Inner {
    store: Store,
    settings: WorkerSettings,
    media: MediaSettings,
    objects: Objects,
    fetcher: Fetcher,
    apps: HashMap<Platform, App>,
    http: Driver,
    references: References,
    telegram: Sessions,
    handles: Handles,
    links: Links,
}

/// Shared by everything in a worker process. Cheap to clone.
#[derive(Clone)]
pub struct Context {
    inner: Arc<Inner>,
}

impl Context {
    /// Puts a worker together. Media are in the folder of the settings: see [`Context::open`].
    pub fn new(store: Store, settings: &Settings) -> Result<Self, reqwest::Error> {
        Self::open(store, settings, Objects::in_folder(&settings.media.dir))
    }

    /// The same, with media where somebody has opened a place for them.
    pub fn open(
        store: Store,
        settings: &Settings,
        objects: Objects,
    ) -> Result<Self, reqwest::Error> {
        Ok(Self {
            inner: Arc::new(Inner {
                store,
                settings: settings.worker.clone(),
                media: settings.media.clone(),
                objects,
                fetcher: Fetcher::new(settings)?,
                apps: Platform::ALL
                    .into_iter()
                    .map(|platform| (platform, settings.app(platform)))
                    .collect(),
                http: Driver::new(&settings.worker)?,
                references: References::new(&settings.auth.encryption_key),
                telegram: Sessions::default(),
                handles: Handles::default(),
                links: Links::new(
                    &settings.auth.encryption_key,
                    &settings.server.public_url,
                    settings.media.url_ttl,
                ),
            }),
        })
    }

    /// The store.
    pub fn store(&self) -> &Store {
        &self.inner.store
    }

    /// How the worker behaves.
    pub fn settings(&self) -> &WorkerSettings {
        &self.inner.settings
    }

    /// A platform's adapter with the installation's registration, when there is an adapter.
    pub fn platform(&self, platform: Platform) -> Option<(&'static dyn Adapter, &App)> {
        Some((adapter(platform)?, self.inner.apps.get(&platform)?))
    }

    /// Makes a call to a platform, and counts it when it succeeded.
    pub async fn call(
        &self,
        what: Call,
        request: HttpRequest,
    ) -> Result<HttpResponse, TransportError> {
        let answer = self.inner.http.call(request).await;
        if answer.as_ref().is_ok_and(HttpResponse::is_success) {
            self.inner.store.usage().call(what);
        }
        answer
    }

    /// The sessions of Telegram user accounts that this process holds.
    pub fn telegram(&self) -> &Sessions {
        &self.inner.telegram
    }

    /// What platforms gave for files that were handed over.
    pub(crate) fn handles(&self) -> &Handles {
        &self.inner.handles
    }

    /// Addresses of media, for platforms that load them.
    pub(crate) fn links(&self) -> &Links {
        &self.inner.links
    }

    /// Limits of media.
    pub fn media(&self) -> &MediaSettings {
        &self.inner.media
    }

    /// Where media are kept.
    pub fn objects(&self) -> &Objects {
        &self.inner.objects
    }

    /// Fetches what is at an address from outside.
    pub fn fetcher(&self) -> &Fetcher {
        &self.inner.fetcher
    }

    /// The references attached to sends.
    pub fn references(&self) -> &References {
        &self.inner.references
    }
}
