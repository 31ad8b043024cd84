//! `hub bench sockets`: many open sockets on one API process, most of them idle.
//!
//! The API is a process of its own (this program again, with `--beside`), so that its memory is its
//! own. The load generator holds all sockets and tells it over a pipe what changed, as the notifier
//! would over the bus. So what is measured is a look-up, the fan-out, and the way to the client:
//! from the change on the pipe until a socket has all three frames of it.
//!
//! It fails when a socket misses a frame, when the API drops one that listens, or when the reader
//! who never reads is not dropped by the rule of `hub_api::live`: a full queue ends its connection
//! with 4009, and no other.

mod beside;
mod client;
mod machine;

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use hub_domain::id::{ConversationId, MessageId, Shard, UserId};
use hub_store::bus::{Change, What};
use hub_store::checkpoint::live_generation;
use hub_store::project::{Projection, step};
use tokio::sync::watch;
use tokio::task::JoinSet;
use uuid::Uuid;

use super::ground::{self, Ground};
use super::history::Person;
use super::load::{Measured, closed_loop};
use super::{Report, Row};
use crate::cli::BenchWishes;

pub use beside::run as beside;
pub use machine::raise_open_files;

use beside::Api;
use client::{Heard, Socket};

/// Connections that are opened at the same time.
const CLIENTS: usize = 64;

/// Sockets of one person: a dashboard, some threads, a telephone.
const SOCKETS_EACH: usize = 5;

/// Changes a second, of all people together.
const CHANGES_PER_S: f64 = 100.0;

/// How long the last frame of a phase may take, and dropping somebody.
const ALL_WITHIN: Duration = Duration::from_secs(30);

/// What is pushed at the reader who never reads, this often.
const FLOOD_BYTES: usize = 64 * 1024;
const FLOOD_EVERY: Duration = Duration::from_millis(10);

/// Positions of made-up changes, behind every real one.
const FIRST_POSITION: i64 = 1 << 40;

pub async fn run(ground: &Ground, wishes: &BenchWishes, report: &mut Report) -> Result<()> {
    let url = ground.database().await?;
    let people = people(&url, wishes).await?;
    let api = Api::start(&url).await?;
    let load = Load::new(api, people);
    let time = Duration::from_secs(wishes.seconds);
    let (idle, busy) = (wishes.idle, wishes.busy);
    let mut open = JoinSet::new();

    let short = time.min(Duration::from_secs(2));
    let http = closed_loop(CLIENTS, short, async |_, _| {
        load.api.connections().await.map(drop)
    });
    let http = http.await?;
    load.open_busy(busy, &mut open).await?;
    let alone = load.phase(time, busy).await?;

    let before = machine::resident_bytes(load.api.pid);
    let began = Instant::now();
    let opened = load.open_idle(idle, &mut open).await?;
    let took = began.elapsed().as_secs_f64();
    // What connecting needed for a moment is given back by then, as far as it ever is.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let after = machine::resident_bytes(load.api.pid);
    let name = "sockets opened";
    report.row(&Row::beside(
        name,
        &opened,
        "GET /health, a connection each",
        &http,
    ))?;
    report.note(&format!("{idle} idle sockets opened in {took:.1} s"));
    report.note(&memory(idle, before, after));

    let crowded = load.phase(time, busy).await?;
    let name = format!("fan-out, {idle} idle beside");
    report.row(&latencies(&name, &crowded, "without them", &alone))?;
    let listening = load.api.connections().await?;
    ensure!(
        listening == busy + idle,
        "only {listening} sockets are left"
    );

    let slow = load.open_slow().await?;
    let flooding = load.flood(busy + idle);
    let (dropped, measured) = tokio::join!(flooding, load.phase(time, busy));
    let (dropped, measured) = (dropped?, measured?);
    drop(slow);
    let name = "fan-out, one never reads";
    report.row(&latencies(name, &measured, "the same before", &crowded))?;
    report.note(&format!(
        "who never reads was dropped with 4009 after {:.1} s and {} frames of {} KiB",
        dropped.after.as_secs_f64(),
        dropped.frames,
        FLOOD_BYTES / 1024
    ));
    open.shutdown().await;
    load.api.stop().await
}

/// People with one message each, in the read model; and those who only connect, who exist.
async fn people(url: &str, wishes: &BenchWishes) -> Result<Vec<Busy>> {
    let store = ground::open(url, 10).await?;
    let idle = (0..wishes.idle.div_ceil(SOCKETS_EACH)).map(idle);
    for user in idle.chain([SLOW]) {
        store.vault().user(user).await?;
    }
    let count = wishes.busy.div_ceil(SOCKETS_EACH);
    let mut people = Vec::with_capacity(count);
    for number in 0..count as u64 {
        let person = Person::new(&store, number).await?;
        store
            .append(person.arrival(0, 0, "Hi, is the blue teapot still in stock?"))
            .await?;
        people.push(Busy {
            user: person.user,
            shard: person.shard,
            conversation: person.conversation(0),
            message: person.received(0, 0, "").0.message,
            told: Mutex::default(),
        });
    }
    for projection in Projection::ALL {
        let generation = live_generation(store.pool(), projection.name()).await?;
        for shard in 0..store.sharding().count {
            while step(store.pool(), projection, generation, Shard(shard)).await? > 0 {}
        }
    }
    store.close().await;
    Ok(people)
}

/// Somebody to whom nothing happens.
fn idle(person: usize) -> UserId {
    UserId(Uuid::from_u128((1 << 100) | person as u128))
}

/// Somebody to whom something happens.
struct Busy {
    user: UserId,
    shard: Shard,
    conversation: ConversationId,
    message: MessageId,
    /// When the API was told of each of their changes.
    told: Mutex<Vec<Instant>>,
}

/// The API process and everybody who is connected to it.
struct Load {
    api: Api,
    people: Arc<Vec<Busy>>,
    position: AtomicI64,
    heard: Arc<Mutex<Vec<u32>>>,
    /// How much was heard, for whoever waits for it.
    count: watch::Sender<usize>,
}

/// How a reader who never reads was dropped.
struct Dropped {
    after: Duration,
    frames: usize,
}

impl Load {
    fn new(api: Api, people: Vec<Busy>) -> Self {
        Self {
            api,
            people: Arc::new(people),
            position: AtomicI64::new(FIRST_POSITION),
            heard: Arc::default(),
            count: watch::Sender::new(0),
        }
    }

    /// Sockets that hear of changes, both doors in turn.
    async fn open_busy(&self, count: usize, open: &mut JoinSet<()>) -> Result<()> {
        for number in 0..count {
            let person = number / SOCKETS_EACH;
            let token = self.api.token(self.people[person].user)?;
            let mut socket =
                Socket::open(self.api.address, &token, number.is_multiple_of(2)).await?;
            let (people, heard) = (Arc::clone(&self.people), Arc::clone(&self.heard));
            let count = self.count.clone();
            open.spawn(async move {
                let mut nth = 0;
                while let Ok(Heard::Text(text)) = socket.hear().await {
                    // The last of the three frames of a change.
                    if !text.contains("\"conversation_update\"") {
                        continue;
                    }
                    let now = Instant::now();
                    let told = lock(&people[person].told)[nth];
                    nth += 1;
                    let micros = (now - told).as_micros();
                    lock(&heard).push(u32::try_from(micros).unwrap_or(u32::MAX));
                    count.send_modify(|count| *count += 1);
                }
            });
        }
        Ok(())
    }

    /// Sockets that hear nothing but heartbeats.
    async fn open_idle(&self, count: usize, open: &mut JoinSet<()>) -> Result<Measured> {
        let began = Instant::now();
        let connecting = (0..count).map(|number| async move {
            let token = self.api.token(idle(number / SOCKETS_EACH))?;
            let began = Instant::now();
            let is_plain = number.is_multiple_of(2);
            let socket = Socket::open(self.api.address, &token, is_plain).await?;
            let micros = u32::try_from(began.elapsed().as_micros()).unwrap_or(u32::MAX);
            anyhow::Ok((socket, micros))
        });
        let mut connected = stream::iter(connecting).buffer_unordered(CLIENTS);
        let mut micros = Vec::with_capacity(count);
        while let Some((mut socket, it)) = connected.try_next().await? {
            micros.push(it);
            // At once: heartbeats come while others are still connecting.
            open.spawn(async move { while let Ok(Heard::Text(_)) = socket.hear().await {} });
        }
        Ok(Measured::of(CLIENTS, micros, began.elapsed()))
    }

    /// Somebody who connects and never reads again.
    async fn open_slow(&self) -> Result<Socket> {
        let token = self.api.token(SLOW)?;
        Socket::open(self.api.address, &token, true).await
    }

    /// Changes at a steady rate for this long; how long each took to each socket.
    async fn phase(&self, time: Duration, sockets: usize) -> Result<Measured> {
        lock(&self.heard).clear();
        self.count.send_replace(0);
        let began = Instant::now();
        let changes = (CHANGES_PER_S * time.as_secs_f64()).max(1.0) as usize;
        let mut expected = 0;
        for nth in 0..changes {
            let due = began + Duration::from_secs_f64(nth as f64 / CHANGES_PER_S);
            tokio::time::sleep_until(due.into()).await;
            let person = nth % self.people.len();
            let busy = &self.people[person];
            expected += SOCKETS_EACH.min(sockets - person * SOCKETS_EACH);
            lock(&busy.told).push(Instant::now());
            let what = vec![
                What::NewMessage {
                    message: busy.message,
                },
                What::UnreadCounts,
                What::Conversation,
            ];
            self.tell(busy.shard, busy.user, Some(busy.conversation), what)
                .await?;
        }
        let mut count = self.count.subscribe();
        let all = count.wait_for(|count| *count >= expected);
        let heard = tokio::time::timeout(ALL_WITHIN, all).await.is_ok();
        let micros = lock(&self.heard).clone();
        ensure!(heard, "{} of {expected} changes were heard", micros.len());
        Ok(Measured::of(sockets, micros, began.elapsed()))
    }

    /// Pushes large frames at the reader who never reads until it is dropped; so many sockets must be
    /// left then.
    async fn flood(&self, left: usize) -> Result<Dropped> {
        let began = Instant::now();
        let mut frames = 0;
        while self.api.closed_as_slow().await? == 0 {
            ensure!(
                began.elapsed() < ALL_WITHIN,
                "who never reads is still connected after {frames} frames"
            );
            let (text, code) = ("x".repeat(FLOOD_BYTES), "BENCH".to_owned());
            let what = vec![What::Error { text, code }];
            self.tell(Shard(0), SLOW, None, what).await?;
            frames += 1;
            tokio::time::sleep(FLOOD_EVERY).await;
        }
        let after = began.elapsed();
        // It has a moment to take its close frame, and only then is it gone.
        loop {
            let connected = self.api.connections().await?;
            if connected == left {
                return Ok(Dropped { after, frames });
            }
            ensure!(
                connected > left && began.elapsed() < ALL_WITHIN,
                "{connected} sockets are left of {left}"
            );
            tokio::time::sleep(FLOOD_EVERY).await;
        }
    }

    async fn tell(
        &self,
        shard: Shard,
        user: UserId,
        conversation: Option<ConversationId>,
        what: Vec<What>,
    ) -> Result<()> {
        let position = self.position.fetch_add(1, Ordering::Relaxed);
        self.api
            .tell(&Change {
                shard,
                position,
                user,
                conversation,
                what,
            })
            .await
    }
}

/// Whoever never reads.
const SLOW: UserId = UserId(Uuid::from_u128(1 << 101));

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Latencies next to those of another phase: the ratio is that of the slowest of a hundred.
fn latencies(name: &str, measured: &Measured, peer: &str, other: &Measured) -> Row {
    let (own, others) = (measured.quantile_ms(0.99), other.quantile_ms(0.99));
    let peer = format!("{peer}: p99 {others:.2} ms");
    Row {
        ratio: own / others,
        ..Row::beside(name, measured, &peer, other)
    }
}

fn memory(sockets: usize, before: Option<u64>, after: Option<u64>) -> String {
    let (Some(before), Some(after)) = (before, after) else {
        return "memory of another process can only be read on Linux".to_owned();
    };
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let each = after.saturating_sub(before) as f64 / sockets.max(1) as f64 / 1024.0;
    format!(
        "{each:.1} KiB of memory for each idle socket ({:.1} MiB before, {:.1} MiB after)",
        mib(before),
        mib(after)
    )
}
