//! `hub bench append`: one event an append, each on disk before the next, next to plain inserts of
//! the same rows into the same table.
//!
//! Every append is what the translator makes of an incoming message: one stream, one key. The peer
//! is a prepared single-row insert without stream, key, head or order.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use hub_store::{Store, peer};
use tokio::sync::Mutex;

use super::ground::{self, Ground};
use super::history::Person;
use super::load::{Measured, closed_loop};
use super::{Report, Row};
use crate::cli::BenchWishes;

/// Users whose messages are appended: enough for every shard to have some.
const PEOPLE: u64 = 128;

/// Connections of the peer.
const PEER_CLIENTS: usize = 32;

/// Conversations of each user.
const CONVERSATIONS: u64 = 50;

/// What people write.
const TEXT: &str = "Hi, is the blue teapot still in stock?";

pub async fn run(ground: &Ground, wishes: &BenchWishes, report: &mut Report) -> Result<()> {
    let url = ground.database().await?;
    let store = ground::open(&url, 10).await?;
    let crowd = Crowd::new(&store, 0).await?;
    let time = Duration::from_secs(wishes.seconds);

    let single = plain(&url, 1, time, &crowd).await?;
    peer::clear(store.pool()).await?;
    let peer = plain(&url, PEER_CLIENTS, time, &crowd).await?;
    peer::clear(store.pool()).await?;

    let alone = crowd.append(&store, 1, time).await?;
    let latency = alone.quantile_ms(0.5) / single.quantile_ms(0.5);
    report.row(&Row {
        ratio: latency,
        ..Row::beside(
            "append, latency alone",
            &alone,
            "one plain insert, p50",
            &single,
        )
    })?;
    let mut best: f64 = 0.0;
    for clients in [32, 256] {
        let measured = crowd.append(&store, clients, time).await?;
        best = best.max(measured.per_s);
        report.row(&Row::beside(
            &format!("append, {clients} at once"),
            &measured,
            "plain inserts, 32 connections",
            &peer,
        ))?;
    }
    two_processes(&url, wishes, &crowd, &store, best, report).await?;
    let events = peer::check(store.pool()).await?;
    report.note(&format!(
        "checked {events} events: no hole, every head and every version right"
    ));
    store.close().await;
    Ok(())
}

/// Another process at the same shards, as many callers each.
async fn two_processes(
    url: &str,
    wishes: &BenchWishes,
    crowd: &Crowd,
    store: &Store,
    best: f64,
    report: &mut Report,
) -> Result<()> {
    let seconds = wishes.seconds.to_string();
    let child = tokio::process::Command::new(std::env::current_exe()?)
        .args(["bench", "append", "--seconds", &seconds, "--beside", url])
        .stdout(std::process::Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .context("a second process did not start")?;
    let time = Duration::from_secs(wishes.seconds);
    let measured = crowd.append(store, 128, time).await?;
    let output = child.wait_with_output().await?;
    if !output.status.success() {
        bail!("the second process failed: {}", output.status);
    }
    let other: f64 = String::from_utf8_lossy(&output.stdout).trim().parse()?;
    let both = measured.per_s + other;
    report.row(&Row {
        name: "append, 2 processes of 128".to_owned(),
        clients: 256,
        per_s: both,
        p50_ms: measured.quantile_ms(0.5),
        p99_ms: measured.quantile_ms(0.99),
        peer: "one process's best".to_owned(),
        peer_per_s: best,
        ratio: both / best,
    })
}

/// What the second process does: appends beside the first one and prints its rate.
pub async fn beside(url: &str, wishes: &BenchWishes) -> Result<()> {
    let store = ground::open(url, 10).await?;
    let crowd = Crowd::new(&store, 1).await?;
    let time = Duration::from_secs(wishes.seconds);
    let measured = crowd.append(&store, 128, time).await?;
    println!("{}", measured.per_s);
    Ok(())
}

/// People whose messages are appended, each message once.
struct Crowd {
    people: Vec<Person>,
    next: AtomicU64,
}

impl Crowd {
    /// Processes of different numbers append different messages of the same people.
    async fn new(store: &Store, process: u64) -> Result<Self> {
        let mut people = Vec::new();
        for number in 0..PEOPLE {
            people.push(Person::new(store, number).await?);
        }
        Ok(Self {
            people,
            next: AtomicU64::new(process << 32),
        })
    }

    fn next(&self) -> (&Person, u64, u64) {
        let nth = self.next.fetch_add(1, Ordering::Relaxed);
        let person = &self.people[(nth % PEOPLE) as usize];
        (person, nth / PEOPLE % CONVERSATIONS, nth)
    }

    async fn append(&self, store: &Store, clients: usize, time: Duration) -> Result<Measured> {
        closed_loop(clients, time, |_, _| async {
            let (person, conversation, nth) = self.next();
            let appended = store
                .append(person.arrival(conversation, nth, TEXT))
                .await?;
            anyhow::ensure!(appended.is_new(), "a new message was taken for a known one");
            Ok(())
        })
        .await
    }
}

/// The same events as plain inserts.
async fn plain(url: &str, clients: usize, time: Duration, crowd: &Crowd) -> Result<Measured> {
    let mut inserters = Vec::new();
    for client in 0..clients {
        let client = u16::try_from(client)?;
        inserters.push(Mutex::new(peer::Inserter::connect(url, client).await?));
    }
    closed_loop(clients, time, |client, _| {
        let inserter = &inserters[client];
        async move {
            let (person, conversation, nth) = crowd.next();
            let event = person.arrival(conversation, nth, TEXT).events.remove(0);
            let mut inserter = inserter.lock().await;
            inserter
                .insert(event.kind(), &event.payload(), "{}")
                .await?;
            Ok(())
        }
    })
    .await
}
