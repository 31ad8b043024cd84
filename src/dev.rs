//! `hub dev`, which is what `cargo run` does: the whole hub on this machine.
//!
//! A private PostgreSQL in the data folder (unless DATABASE_URL names one), API, worker, the played
//! platforms, and a demo user whose accounts were connected through the same OAuth pages that
//! anybody else uses. Nothing here is special: the parts are those of `hub api` and `hub worker`.

use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, Result};
use hub_cluster::{Cluster, Options as ClusterOptions};
use hub_config::{Settings, telemetry};
use hub_domain::platform::Platform;
use hub_sandbox::Sandbox;
use hub_store::{Store, schema};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::{demo, roles, shutdown};

/// The database's name in the private cluster.
const DATABASE: &str = "hub";

pub fn run() -> Result<()> {
    let started = Instant::now();
    let mut settings = Settings::for_dev(|name| std::env::var(name).ok())?;
    telemetry::init(&settings.log);
    for warning in settings.warnings() {
        tracing::warn!("{warning}");
    }
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("the async runtime did not start")?
        .block_on(async {
            let stop = shutdown::on_signals()?;
            // Ports first: if one is taken, nothing has been started yet.
            let api = roles::listen(&settings).await?;
            let sandbox = listen_sandbox(&settings).await?;
            let cluster = database(&mut settings).await?;
            let outcome = hub(&settings, api, sandbox, stop, started, cluster.as_ref()).await;
            if let Some(cluster) = cluster {
                cluster.stop().await?;
            }
            outcome
        })
}

async fn listen_sandbox(settings: &Settings) -> Result<TcpListener> {
    TcpListener::bind(("127.0.0.1", settings.sandbox.port))
        .await
        .with_context(|| {
            format!(
                "port {} cannot be used for the sandbox; set SANDBOX_PORT to another one",
                settings.sandbox.port
            )
        })
}

/// The database that is set, or a private one in the data folder.
async fn database(settings: &mut Settings) -> Result<Option<Cluster>> {
    if settings.database.url.is_some() {
        return Ok(None);
    }
    let dir = settings.data.dir.join("pg");
    std::fs::create_dir_all(&dir)
        .with_context(|| format!("the folder {} cannot be made", dir.display()))?;
    let cluster = Cluster::start(&dir, ClusterOptions::default()).await?;
    cluster.ensure_database(DATABASE).await?;
    settings.use_database(&cluster.url(DATABASE));
    Ok(Some(cluster))
}

async fn hub(
    settings: &Settings,
    listener: TcpListener,
    sandbox_listener: TcpListener,
    stop: CancellationToken,
    started: Instant,
    cluster: Option<&Cluster>,
) -> Result<()> {
    let url = settings.database.url.clone().context("no database")?;
    let pool = hub_store::connect(&url, 2).await?;
    schema::prepare(&pool, settings.database.shards).await?;
    pool.close().await;
    let metrics = roles::metrics()?;
    let store = roles::open(settings).await?;
    let address = format!("http://localhost:{}", listener.local_addr()?.port());

    let sandbox = sandbox(settings, &address)?;
    let mut parts = JoinSet::new();
    let sandbox = sandbox.serve(sandbox_listener, roles::wait(stop.clone()));
    parts.spawn(async move { sandbox.await.context("the sandbox ended") });
    let objects = roles::objects(settings)?;
    let api = Arc::new(settings.clone());
    let api = hub_api::Api::open(store.clone(), api, Some(metrics), objects)?;
    let api = hub_api::serve(listener, api, roles::wait(stop.clone()));
    parts.spawn(async move { api.await.context("the API ended") });
    let worker = (store.clone(), settings.clone(), stop.clone());
    parts.spawn(async move {
        let (store, settings, stop) = worker;
        roles::work(store, &settings, stop).await
    });
    tokio::select! {
        made = demo::set_up(&store, settings, &address) => {
            // The hub is worth running without its demo.
            if let Err(error) = made && !stop.is_cancelled() {
                tracing::warn!(
                    error = format!("{error:#}"),
                    "the demo is not complete; it is tried again at the next start"
                );
            }
            greet(&store, settings, &address, started, cluster).await;
        }
        () = stop.cancelled() => {}
    }
    // A part that ends by itself ends the others: half a hub helps nobody.
    let first = parts.join_next().await;
    println!("\nStopping.");
    stop.cancel();
    let mut outcome = first.map_or(Ok(()), |ended| ended?);
    while let Some(ended) = parts.join_next().await {
        outcome = outcome.and(ended?);
    }
    outcome
}

fn sandbox(settings: &Settings, address: &str) -> Result<Sandbox> {
    let facebook = settings.app(Platform::Facebook);
    let instagram = settings.app(Platform::Instagram);
    let whatsapp = settings.app(Platform::Whatsapp);
    let telegram = settings.app(Platform::Telegram);
    let twitter = settings.app(Platform::Twitter);
    let linkedin = settings.app(Platform::Linkedin);
    let teams = settings.app(Platform::Teams);
    Ok(Sandbox::new(&hub_sandbox::Options {
        hub_webhook_base: address.to_owned(),
        facebook_app_id: facebook.client_id,
        facebook_app_secret: facebook.client_secret.expose().to_owned(),
        instagram_app_id: instagram.client_id,
        instagram_app_secret: instagram.client_secret.expose().to_owned(),
        whatsapp_app_id: whatsapp.client_id,
        whatsapp_app_secret: whatsapp.client_secret.expose().to_owned(),
        telegram_bot_token: telegram.bot_token.expose().to_owned(),
        telegram_bot_username: telegram.bot_username,
        telegram_webhook_secret: telegram.webhook_secret.expose().to_owned(),
        twitter: hub_sandbox::TwitterApp {
            client_id: twitter.client_id,
            client_secret: twitter.client_secret.expose().to_owned(),
            consumer_secret: twitter.webhook_secret.expose().to_owned(),
            bearer_token: twitter.bot_token.expose().to_owned(),
            app_id: twitter.app_id,
        },
        linkedin: hub_sandbox::LinkedinApp {
            client_id: linkedin.client_id,
            client_secret: linkedin.client_secret.expose().to_owned(),
            application_id: linkedin.app_id,
        },
        teams_client_id: teams.client_id,
        teams_client_secret: teams.client_secret.expose().to_owned(),
        customers: settings.sandbox.customers,
    })?)
}

async fn greet(
    store: &Store,
    settings: &Settings,
    address: &str,
    started: Instant,
    cluster: Option<&Cluster>,
) {
    let database = match cluster {
        Some(cluster) => format!(
            "PostgreSQL {} of its own, in {}",
            cluster.binaries().version,
            cluster.data_dir().display()
        ),
        None => "PostgreSQL as DATABASE_URL says".to_owned(),
    };
    let redis = match store.bus().is_redis_up().await {
        Some(_) => "Redis as REDIS_URL says",
        None => "no Redis: one process does its work in memory",
    };
    println!(
        "\n  Hub is running at {address}\n\
         \n  Log in as   {} / {}\
         \n  Platforms   played by the sandbox at {}\
         \n  Database    {database}\
         \n  Redis       {redis}\
         \n  Ready after {:.1} s. Ctrl-C stops everything.\n",
        demo::EMAIL,
        demo::PASSWORD,
        settings.sandbox.base_url(),
        started.elapsed().as_secs_f64(),
    );
}
