//! The roles of a deployed hub: `api`, `worker`, `migrate`, each against a given database.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use hub_config::{Role, Settings, telemetry};
use hub_store::objects::Objects;
use hub_store::{Options, Store, schema};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::shutdown;

/// Samples of metrics are folded this often, whether anybody fetches them or not.
const METRICS_UPKEEP_EVERY: Duration = Duration::from_secs(5);

/// How long writing the last counts of usage may take.
const USAGE_WITHIN: Duration = Duration::from_secs(1);

/// The settings of a role, complete or refused in one sentence; turns logging on.
pub fn load(role: Role) -> Result<Settings> {
    let settings = Settings::load(|name| std::env::var(name).ok())?;
    settings.require(role)?;
    telemetry::init(&settings.log);
    if role != Role::Migrate {
        for warning in settings.warnings() {
            tracing::warn!("{warning}");
        }
    }
    Ok(settings)
}

/// The async runtime of a verb.
pub fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("the async runtime did not start")
}

/// Opens the store these settings name.
pub async fn open(settings: &Settings) -> Result<Store> {
    let database_url = settings
        .database
        .url
        .clone()
        .context("DATABASE_URL is not set")?;
    Ok(Store::open(Options {
        database_url,
        connections_max: settings.database.pool_size,
        readers_max: settings.database.readers,
        redis_url: settings.redis.url.clone(),
        encryption_key: settings.auth.encryption_key.clone(),
    })
    .await?)
}

/// Where media are kept: in the bucket these settings name, else in their folder.
pub fn objects(settings: &Settings) -> Result<Objects> {
    Ok(match &settings.media.bucket {
        Some(bucket) => Objects::in_store(hub_bucket::open(bucket)?),
        None => Objects::in_folder(&settings.media.dir),
    })
}

/// Collects the metrics of this process, from now on and on this runtime.
pub fn metrics() -> Result<PrometheusHandle> {
    let handle = PrometheusBuilder::new()
        .install_recorder()
        .context("metrics cannot be recorded")?;
    let kept = handle.clone();
    tokio::spawn(async move {
        // Samples that nobody fetches would pile up.
        loop {
            tokio::time::sleep(METRICS_UPKEEP_EVERY).await;
            kept.run_upkeep();
        }
    });
    Ok(handle)
}

/// Listens where the settings say.
pub async fn listen(settings: &Settings) -> Result<TcpListener> {
    let address = (settings.server.host, settings.server.port);
    TcpListener::bind(address).await.with_context(|| {
        format!(
            "port {} cannot be used; set PORT to another one",
            settings.server.port
        )
    })
}

/// `hub api`
pub fn api() -> Result<()> {
    let settings = Arc::new(load(Role::Api)?);
    runtime()?.block_on(async {
        let stop = shutdown::on_signals()?;
        let metrics = metrics()?;
        let store = open(&settings).await?;
        let listener = listen(&settings).await?;
        tracing::info!(address = %listener.local_addr()?, "API listening");
        let api = hub_api::Api::open(
            store,
            Arc::clone(&settings),
            Some(metrics),
            objects(&settings)?,
        )?;
        if !api.store().bus().crosses_processes() {
            // No worker in this process publishes changes, so this one looks for them itself.
            tokio::spawn(hub_api::live::tail(api.clone(), wait(stop.clone())));
        }
        Ok(hub_api::serve(listener, api, wait(stop)).await?)
    })
}

/// `hub worker`
pub fn worker() -> Result<()> {
    let settings = load(Role::Worker)?;
    runtime()?.block_on(async {
        let stop = shutdown::on_signals()?;
        let store = open(&settings).await?;
        let observed = match settings.worker.listen {
            Some(address) => Some(observe(address, &store, &stop).await?),
            None => None,
        };
        tracing::info!("worker running");
        let outcome = work(store, &settings, stop.clone()).await;
        stop.cancel();
        if let Some(observed) = observed {
            observed.await?;
        }
        outcome
    })
}

/// Shows the metrics and the health of a worker that runs alone, until it stops.
async fn observe(
    address: SocketAddr,
    store: &Store,
    stop: &CancellationToken,
) -> Result<JoinHandle<()>> {
    let listener = TcpListener::bind(address).await.with_context(|| {
        format!("{address} cannot be used; set HUB_WORKER_LISTEN to another address and port")
    })?;
    tracing::info!(address = %listener.local_addr()?, "metrics and health of this worker");
    let stop = wait(stop.clone());
    let serving = hub_api::serve_observed(listener, store.clone(), metrics()?, stop);
    Ok(tokio::spawn(serving))
}

/// Runs the worker in this process until it is stopped.
pub async fn work(store: Store, settings: &Settings, stop: CancellationToken) -> Result<()> {
    let context = hub_worker::Context::open(store.clone(), settings, objects(settings)?)?;
    let outcome = hub_worker::run(context, wait(stop)).await;
    // What is lost of it is not worth a shutdown that hangs.
    let _written = timeout(USAGE_WITHIN, store.usage().write()).await;
    outcome.map_err(anyhow::Error::msg)
}

/// A future that ends when the process is asked to stop.
pub async fn wait(stop: CancellationToken) {
    stop.cancelled().await;
}

/// `hub migrate`
pub fn migrate() -> Result<()> {
    let settings = load(Role::Migrate)?;
    runtime()?.block_on(async {
        let url = settings
            .database
            .url
            .clone()
            .context("DATABASE_URL is not set")?;
        let pool = hub_store::connect(&url, 2).await?;
        schema::prepare(&pool, settings.database.shards).await?;
        println!("The database is ready.");
        Ok(())
    })
}

/// `hub settings`
pub fn settings() -> Result<()> {
    let settings = Settings::for_inspection(|name| std::env::var(name).ok())?;
    for line in settings.describe() {
        println!("{line}");
    }
    for warning in settings.warnings() {
        println!("warning: {warning}");
    }
    Ok(())
}
