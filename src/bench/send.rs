//! `hub bench send`: messages from accepted to taken by the platform, over real HTTP.
//!
//! The platform is the sandbox in this process. It keeps what it took, and at the end that is held
//! against what was accepted: each message once, and each conversation's in order. The row counts
//! only if that is so. A message is accepted the way the API does it, by its event on disk; times are
//! those of the log, from `MessageQueued` to `MessageSent`.
//!
//! The conversations belong to eight accounts in shards of their own. Their budget of calls is set so
//! high that it is never the limit: this is about the mechanism, not about what a platform allows.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use futures::future::try_join_all;
use hub_config::Settings;
use hub_domain::envelope::Recorded;
use hub_domain::event::Event;
use hub_domain::id::{MessageId, Place, Shard};
use hub_domain::platform::Platform;
use hub_sandbox::Sandbox;
use hub_store::{Store, read};
use hub_worker::{Context, peer};
use serde::Deserialize;
use tokio::net::TcpListener;
use tokio::sync::{Mutex, Semaphore};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::ground::{self, ENCRYPTION_KEY, Ground};
use super::load::Measured;
use super::{Report, Row};
use crate::cli::BenchWishes;
use crate::roles;

mod line;

use line::Line;

/// Conversations that are written in at the same time.
const CONVERSATIONS: usize = 64;

/// Accounts they belong to.
const ACCOUNTS: usize = 8;

/// As many messages of a conversation wait at most while the sustained rate is measured.
const AHEAD: usize = 32;

/// Jobs that do nothing, for comparison.
const NOTHINGS: u64 = 10_000;

/// Events of a shard that are looked at together.
const PAGE: i64 = 1_000;

/// Nothing was sent for so long: it never will be.
const PATIENCE: Duration = Duration::from_secs(30);

/// The bot that all accounts are.
const BOT_TOKEN: &str = "7100000001:AAHub-the_bot_of_a_measurement_0123456789";

pub async fn run(ground: &Ground, wishes: &BenchWishes, report: &mut Report) -> Result<()> {
    let url = ground.database().await?;
    let hub = Hub::start(&url).await?;
    let time = Duration::from_secs(wishes.seconds);

    let took = peer::drain(&hub.context, NOTHINGS).await?;
    let concurrency = hub.context.settings().sends;
    let empty = Measured::counted(concurrency, NOTHINGS, took);
    let worker = hub.work();
    let sustained = hub.send(Pace::AsSent(time)).await?;
    report.row(&Row::beside(
        "sent, sustained",
        &sustained,
        "jobs that do nothing",
        &empty,
    ))?;
    let half = sustained.per_s / 2.0;
    let lag = hub.send(Pace::Steady(half, time)).await?;
    report.row(&Row {
        per_s: half,
        ratio: half / sustained.per_s,
        ..Row::beside(
            "accepted until sent, at half of that",
            &lag,
            "sent, sustained",
            &sustained,
        )
    })?;
    let taken = hub.compare().await?;
    report.note(&format!(
        "the sandbox took all {taken} messages, each once and each conversation's in order; the \
         budget of the {ACCOUNTS} accounts was no limit"
    ));
    hub.stop(worker).await
}

/// How messages are accepted.
#[derive(Clone, Copy)]
enum Pace {
    /// As soon as there is room behind what was sent, for this long.
    AsSent(Duration),
    /// This many a second, for this long.
    Steady(f64, Duration),
}

/// A worker and a sandbox in this process.
struct Hub {
    store: Store,
    settings: Settings,
    context: Context,
    lines: Vec<Line>,
    room: Vec<Semaphore>,
    accepted: AtomicU64,
    read: Mutex<HashMap<i16, i64>>,
    sandbox: String,
    played: JoinHandle<std::io::Result<()>>,
    stop: CancellationToken,
}

impl Hub {
    async fn start(url: &str) -> Result<Self> {
        let stop = CancellationToken::new();
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let sandbox = format!("http://{}", listener.local_addr()?);
        let environment = BTreeMap::from([
            ("HUB_ENV", "development"),
            ("DATABASE_URL", url),
            ("JWT_SECRET", "signs access tokens of a measurement"),
            (
                "JWT_REFRESH_SECRET",
                "signs refresh tokens of a measurement",
            ),
            ("ENCRYPTION_KEY", ENCRYPTION_KEY),
            ("TELEGRAM_BOT_TOKEN", BOT_TOKEN),
            ("TELEGRAM_API_BASE", &sandbox),
            ("HUB_BUDGET_TELEGRAM", "1000000/1"),
        ]);
        let settings = Settings::load(|name| environment.get(name).map(ToString::to_string))?;
        let store = ground::open(url, settings.database.pool_size).await?;
        let played = Sandbox::new(&hub_sandbox::Options {
            telegram_bot_token: BOT_TOKEN.to_owned(),
            ..hub_sandbox::Options::default()
        })?;
        let lines = (0..CONVERSATIONS).map(|nth| Line::open(&store, nth % ACCOUNTS, nth));
        let lines = try_join_all(lines).await?;
        Ok(Self {
            context: Context::new(store.clone(), &settings)?,
            store,
            settings,
            read: Mutex::new(lines.iter().map(|line| (line.shard.0, 0)).collect()),
            lines,
            room: (0..CONVERSATIONS).map(|_| Semaphore::new(AHEAD)).collect(),
            accepted: AtomicU64::new(0),
            sandbox,
            played: tokio::spawn(played.serve(listener, roles::wait(stop.clone()))),
            stop,
        })
    }

    fn work(&self) -> JoinHandle<Result<()>> {
        let worker = (self.store.clone(), self.settings.clone(), self.stop.clone());
        tokio::spawn(async move { roles::work(worker.0, &worker.1, worker.2).await })
    }

    async fn stop(self, worker: JoinHandle<Result<()>>) -> Result<()> {
        self.stop.cancel();
        worker.await??;
        self.played.await??;
        self.store.close().await;
        Ok(())
    }

    /// Accepts messages at a pace, until all of them were sent.
    async fn send(&self, pace: Pace) -> Result<Measured> {
        let began = Instant::now();
        let before = self.accepted.load(Ordering::Relaxed);
        let accepting = AtomicBool::new(true);
        let accept = async {
            let callers = (0..CONVERSATIONS).map(|nth| self.accept(nth, pace, began));
            let accepted = try_join_all(callers).await;
            accepting.store(false, Ordering::Relaxed);
            accepted
        };
        let (accepted, micros) = tokio::join!(accept, self.follow(before, &accepting));
        accepted?;
        Ok(Measured::of(CONVERSATIONS, micros?, began.elapsed()))
    }

    async fn accept(&self, nth: usize, pace: Pace, began: Instant) -> Result<()> {
        let mut due = nth;
        loop {
            let end = match pace {
                Pace::AsSent(time) => {
                    self.room[nth].acquire().await?.forget();
                    time
                }
                Pace::Steady(per_s, time) => {
                    let at = began + Duration::from_secs_f64(due as f64 / per_s);
                    tokio::time::sleep_until(at.into()).await;
                    due += CONVERSATIONS;
                    time
                }
            };
            if began.elapsed() >= end {
                self.room[nth].add_permits(usize::from(matches!(pace, Pace::AsSent(_))));
                return Ok(());
            }
            // Counted first: who follows must not see one more than there are.
            self.accepted.fetch_add(1, Ordering::Relaxed);
            self.lines[nth].accept(&self.store).await?;
        }
    }

    /// Reads the log until everything that was accepted was sent. Returns how long each took.
    async fn follow(&self, before: u64, accepting: &AtomicBool) -> Result<Vec<u32>> {
        let mut waiting = HashMap::new();
        let mut micros = Vec::new();
        let mut moved = Instant::now();
        loop {
            tokio::time::sleep(Duration::from_millis(20)).await;
            let is_over = !accepting.load(Ordering::Relaxed);
            let sent = micros.len();
            for event in self.news().await? {
                self.note(event, &mut waiting, &mut micros)?;
            }
            let accepted = self.accepted.load(Ordering::Relaxed) - before;
            if is_over && accepted == micros.len() as u64 {
                return Ok(micros);
            }
            if micros.len() > sent {
                moved = Instant::now();
            }
            ensure!(
                moved.elapsed() < PATIENCE,
                "{} of {accepted} messages were sent, and then none for {PATIENCE:?}",
                micros.len()
            );
        }
    }

    /// What the log has more than the last time.
    async fn news(&self) -> Result<Vec<Recorded>> {
        let mut read = self.read.lock().await;
        let mut news = Vec::new();
        for (shard, position) in read.iter_mut() {
            let from = Place {
                shard: Shard(*shard),
                position: *position,
            };
            let events = read::after(self.store.pool(), from, PAGE).await?;
            *position += i64::try_from(events.len())?;
            news.extend(events);
        }
        Ok(news)
    }

    fn note(
        &self,
        event: Recorded,
        waiting: &mut HashMap<MessageId, (Recorded, usize)>,
        micros: &mut Vec<u32>,
    ) -> Result<()> {
        match &event.event {
            Event::MessageQueued(it) => {
                let is_line = |line: &Line| line.at.conversation == it.at.conversation;
                if let Some(nth) = self.lines.iter().position(is_line) {
                    waiting.insert(it.message, (event, nth));
                }
            }
            Event::MessageSent(it) => {
                let Some((queued, nth)) = waiting.remove(&it.message) else {
                    bail!("the log has {:?} as sent twice", it.message);
                };
                let took = event.recorded_at - queued.recorded_at;
                let took = took.num_microseconds().unwrap_or(i64::MAX);
                micros.push(u32::try_from(took).unwrap_or(u32::MAX));
                self.room[nth].add_permits(1);
            }
            Event::SendDelayed(it) => bail!("a send was delayed: {}", it.reason),
            Event::SendFailed(it) => bail!("a send failed: {}", it.reason),
            Event::SendUncertain(it) => bail!("a send is uncertain: {}", it.reason),
            _ => {}
        }
        Ok(())
    }

    /// Holds what the sandbox took against what was accepted.
    async fn compare(&self) -> Result<u64> {
        #[derive(Deserialize)]
        struct Taken {
            messages: Vec<Message>,
            forgotten: u64,
        }
        #[derive(Deserialize)]
        struct Message {
            to: String,
            text: String,
        }
        let url = format!(
            "{}/control/sent?platform={}",
            self.sandbox,
            Platform::Telegram
        );
        let body = reqwest::get(url).await?.bytes().await?;
        let taken: Taken = serde_json::from_slice(&body)?;
        ensure!(
            taken.forgotten == 0,
            "the sandbox has forgotten messages: measure for fewer seconds"
        );
        let mut of_threads: HashMap<&str, Vec<&str>> = HashMap::new();
        for message in &taken.messages {
            let texts = of_threads.entry(&message.to).or_default();
            texts.push(&message.text);
        }
        for line in &self.lines {
            let texts = of_threads
                .remove(line.at.thread.as_str())
                .unwrap_or_default();
            line.compare(&texts)?;
        }
        ensure!(of_threads.is_empty(), "somebody got what nobody sent");
        let taken = taken.messages.len() as u64;
        let accepted = self.accepted.load(Ordering::Relaxed);
        ensure!(taken == accepted, "{accepted} accepted, {taken} taken");
        Ok(taken)
    }
}
