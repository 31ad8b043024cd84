//! The API process of a measurement, seen from both sides of its pipe.
//!
//! It writes its port on its standard output, reads changes from its standard input, a JSON object
//! a line, and ends with it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use chrono::Utc;
use hub_api::auth::{Claims, issue};
use hub_config::Settings;
use hub_domain::id::UserId;
use hub_store::bus::Change;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpListener;
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::{Mutex, mpsc};
use tokio_util::sync::CancellationToken;

use super::client::get;
use crate::bench::ground;
use crate::roles;

fn settings() -> Result<Settings> {
    let environment = BTreeMap::from([
        ("HUB_ENV", "development"),
        ("JWT_SECRET", "signs access tokens of a measurement"),
        (
            "JWT_REFRESH_SECRET",
            "signs refresh tokens of a measurement",
        ),
        // A measurement may take longer than a real token lives.
        ("HUB_ACCESS_TTL_SECONDS", "86400"),
    ]);
    Ok(Settings::load(|name| {
        environment.get(name).map(ToString::to_string)
    })?)
}

/// The process: an API over this database, and no worker.
pub async fn run(url: &str) -> Result<()> {
    let metrics = roles::metrics()?;
    let store = ground::open(url, 10).await?;
    let api = hub_api::Api::new(store, Arc::new(settings()?), Some(metrics));
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    println!("{}", listener.local_addr()?.port());
    let stop = CancellationToken::new();
    let serving = hub_api::serve(listener, api.clone(), roles::wait(stop.clone()));
    let serving = tokio::spawn(serving);
    let (sender, mut lines) = mpsc::channel(16);
    std::thread::spawn(move || {
        let mut lines = std::io::stdin().lines().map_while(|line| line.ok());
        while lines
            .next()
            .is_some_and(|line| sender.blocking_send(line).is_ok())
        {}
    });
    while let Some(line) = lines.recv().await {
        let change: Change = serde_json::from_str(&line)?;
        api.store().bus().publish(vec![change]).await;
    }
    stop.cancel();
    Ok(serving.await??)
}

/// That process, for whoever started it.
pub struct Api {
    pub address: SocketAddr,
    pub pid: u32,
    settings: Settings,
    child: Child,
    changes: Mutex<ChildStdin>,
}

impl Api {
    /// Starts it and waits until it listens.
    pub async fn start(url: &str) -> Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["bench", "sockets", "--beside", url])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let changes = child.stdin.take().context("a pipe was asked for")?;
        let output = child.stdout.take().context("a pipe was asked for")?;
        let mut lines = BufReader::new(output).lines();
        let port = lines.next_line().await?.context("the API did not start")?;
        let port: u16 = port.trim().parse().context("no port")?;
        Ok(Self {
            address: ([127, 0, 0, 1], port).into(),
            pid: child.id().context("the API ended at once")?,
            settings: settings()?,
            child,
            changes: Mutex::new(changes),
        })
    }

    /// An access token of a user.
    pub fn token(&self, user: UserId) -> Result<String> {
        let email = format!("{user}@example.com");
        let claims = Claims { user, email };
        let made = issue(&self.settings.auth, &claims, Utc::now()).context("no secret")?;
        Ok(made.0.access)
    }

    /// Tells it what changed.
    pub async fn tell(&self, change: &Change) -> Result<()> {
        let line = serde_json::to_string(change)? + "\n";
        Ok(self.changes.lock().await.write_all(line.as_bytes()).await?)
    }

    /// Sockets it has open.
    pub async fn connections(&self) -> Result<usize> {
        let health: serde_json::Value = serde_json::from_str(&get(self.address, "/health").await?)?;
        let count = health["services"]["websocket"]["connections"].as_u64();
        Ok(usize::try_from(count.context("no number of connections")?)?)
    }

    /// Sockets it has closed because they were too slow.
    pub async fn closed_as_slow(&self) -> Result<u64> {
        let metrics = get(self.address, "/metrics").await?;
        let name = "hub_live_closed_total{code=\"4009\"} ";
        let value = metrics.lines().find_map(|line| line.strip_prefix(name));
        Ok(value.map_or(Ok(0), str::parse)?)
    }

    /// Lets it end.
    pub async fn stop(mut self) -> Result<()> {
        drop(self.changes);
        let status = self.child.wait().await?;
        ensure!(status.success(), "the API ended with {status}");
        Ok(())
    }
}
