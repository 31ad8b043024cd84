//! What every reactor and job needs.

use std::collections::HashMap;
use std::sync::Arc;

use hub_config::{Settings, WorkerSettings};
use hub_domain::platform::http::{HttpRequest, HttpResponse, TransportError};
use hub_domain::platform::{Adapter, App, Platform, adapter};
use hub_store::Store;
use hub_store::account::Owner;

use crate::http::Driver;
use crate::reference::References;

struct Inner {
    store: Store,
    settings: WorkerSettings,
    apps: HashMap<Platform, App>,
    http: Driver,
    references: References,
}

/// Shared by everything in a worker process. Cheap to clone.
#[derive(Clone)]
pub struct Context {
    inner: Arc<Inner>,
}

impl Context {
    /// Puts a worker together.
    pub fn new(store: Store, settings: &Settings) -> Result<Self, reqwest::Error> {
        Ok(Self {
            inner: Arc::new(Inner {
                store,
                settings: settings.worker.clone(),
                apps: Platform::ALL
                    .into_iter()
                    .map(|platform| (platform, settings.app(platform)))
                    .collect(),
                http: Driver::new(&settings.worker)?,
                references: References::new(&settings.auth.encryption_key),
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

    /// The HTTP driver.
    pub fn http(&self) -> &Driver {
        &self.inner.http
    }

    /// Makes a call in the name of a connected account. The one place where what such calls have in
    /// common belongs.
    pub async fn call_as(
        &self,
        _account: Owner,
        request: HttpRequest,
    ) -> Result<HttpResponse, TransportError> {
        self.inner.http.call(request).await
    }

    /// The references attached to sends.
    pub fn references(&self) -> &References {
        &self.inner.references
    }
}
