//! `hub bench`: how fast this hub is on this machine, next to something anybody can judge.
//!
//! Every run starts a private PostgreSQL with the settings of `cargo run` (fsync on, every commit on
//! disk), makes a database of its own in it and removes both at the end. Absolute numbers say more
//! about the machine than about the hub; what a row is worth is its ratio to the peer that was
//! measured in the same minute.

mod append;
mod ground;
mod history;
mod ingest;
mod load;
mod query;
mod replay;
mod send;
mod sockets;

use anyhow::Result;
use serde::Serialize;

use crate::cli::{Bench, BenchWishes};
use crate::roles;
use load::Measured;

/// One measured row.
#[derive(Serialize)]
struct Row {
    /// What was measured.
    name: String,
    /// Callers at the same time.
    clients: usize,
    /// Operations per second.
    per_s: f64,
    /// Half of them took at most this long.
    p50_ms: f64,
    /// 99 of 100 took at most this long.
    p99_ms: f64,
    /// What it is compared with.
    peer: String,
    /// Operations per second of that.
    peer_per_s: f64,
    /// How many times as fast as the peer; for latencies, how many times as long.
    ratio: f64,
}

impl Row {
    /// What was measured next to its peer, by their rates.
    fn beside(name: &str, measured: &Measured, peer: &str, other: &Measured) -> Self {
        Self {
            name: name.to_owned(),
            clients: measured.clients,
            per_s: measured.per_s,
            p50_ms: measured.quantile_ms(0.5),
            p99_ms: measured.quantile_ms(0.99),
            peer: peer.to_owned(),
            peer_per_s: other.per_s,
            ratio: measured.per_s / other.per_s,
        }
    }
}

/// Where rows go: a table for people, JSON lines for machines.
struct Report {
    json: bool,
    headed: bool,
}

impl Report {
    fn row(&mut self, row: &Row) -> Result<()> {
        if self.json {
            println!("{}", serde_json::to_string(row)?);
            return Ok(());
        }
        if !self.headed {
            self.headed = true;
            println!(
                "{:<34} {:>7} {:>11} {:>9} {:>9} {:>11} {:>7}  compared with",
                "what", "clients", "per second", "p50 ms", "p99 ms", "peer /s", "ratio"
            );
        }
        println!(
            "{:<34} {:>7} {:>11.0} {:>9.2} {:>9.2} {:>11.0} {:>7.2}  {}",
            row.name,
            row.clients,
            row.per_s,
            row.p50_ms,
            row.p99_ms,
            row.peer_per_s,
            row.ratio,
            row.peer
        );
        Ok(())
    }

    /// Something worth knowing that is no row.
    fn note(&self, text: &str) {
        if self.json {
            eprintln!("{text}");
        } else {
            println!("  {text}");
        }
    }
}

/// `hub bench`
pub fn run(which: Bench, wishes: &BenchWishes) -> Result<()> {
    if which == Bench::Sockets {
        sockets::raise_open_files(wishes.idle + wishes.busy)?;
    }
    let wishes = wishes.clone();
    // As a task, like every caller in a server: what blocks on the runtime is woken across threads.
    roles::runtime()?.block_on(async { tokio::spawn(measure(which, wishes)).await? })
}

async fn measure(which: Bench, wishes: BenchWishes) -> Result<()> {
    let wishes = &wishes;
    let mut report = Report {
        json: wishes.json,
        headed: false,
    };
    if let (Bench::Append, Some(url)) = (which, &wishes.beside) {
        return append::beside(url, wishes).await;
    }
    if let (Bench::Sockets, Some(url)) = (which, &wishes.beside) {
        return sockets::beside(url).await;
    }
    let ground = ground::Ground::new().await?;
    let outcome = match which {
        Bench::Append => append::run(&ground, wishes, &mut report).await,
        Bench::Ingest => ingest::run(&ground, wishes, &mut report).await,
        Bench::Send => send::run(&ground, wishes, &mut report).await,
        Bench::Replay => replay::run(&ground, wishes, &mut report).await,
        Bench::Query => query::run(&ground, wishes, &mut report).await,
        Bench::Sockets => sockets::run(&ground, wishes, &mut report).await,
    };
    ground.clear().await?;
    outcome
}
