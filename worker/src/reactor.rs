//! Running a reactor as an apalis worker whose backend tails the log.
//!
//! The backend yields a sweep whenever a signal says that there may be work, or after a pause;
//! the handler then works through every shard that is behind. One sweep at a time per process;
//! other processes sweep other shards (checkpoints are taken with SKIP LOCKED).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use apalis::prelude::{Monitor, WorkerBuilder, WorkerBuilderExt as _};
use futures::StreamExt as _;
use futures::stream::BoxStream;
use hub_domain::id::Shard;
use hub_store::signal::{Listener, Topic};
use hub_store::{Error, Result, Store};
use tokio::time::Instant;

/// A busy reactor sweeps no more often than this. Sweeps that follow each other at once find a single
/// event each and keep the processors busy with round trips: at 1,800 messages a second that alone
/// took all of two.
const PACE: Duration = Duration::from_millis(25);

/// A busy reactor looks again this soon, even without a signal.
const PAUSE_BUSY: Duration = Duration::from_millis(50);

/// An idle reactor looks again this soon, even without a signal.
const PAUSE_IDLE: Duration = Duration::from_millis(250);

/// Something that tails a log.
pub trait Reactor: Clone + Send + Sync + 'static {
    /// Its name.
    fn name(&self) -> &'static str;

    /// The store.
    fn store(&self) -> &Store;

    /// Raised when there may be work.
    fn wakes_on(&self) -> Topic;

    /// From the beginning of one sweep to the beginning of the next it takes this long at least,
    /// whatever is signalled meanwhile. Who is asleep still wakes at once.
    fn pace(&self) -> Duration {
        PACE
    }

    /// Turns one process has at the same time. Each holds a database connection, and the shards
    /// that are behind are divided among them.
    fn turns_at_once(&self) -> usize {
        2
    }

    /// The shards in which it is behind.
    fn behind(&self) -> impl Future<Output = Result<Vec<Shard>>> + Send;

    /// Works on one batch of each of these shards. False when there was nothing to do or others
    /// are at it. A shard that fails does not keep the others.
    fn turns(&self, shards: &[Shard]) -> impl Future<Output = Result<bool>> + Send;
}

/// Works on shards one after the other, for reactors that do not share a turn among them. True when
/// one of them got anywhere; the first failure is returned at the end.
pub async fn each<T: Future<Output = Result<bool>>>(
    shards: &[Shard],
    turn: impl Fn(Shard) -> T,
) -> Result<bool> {
    let mut moved = false;
    let mut failed = None;
    for shard in shards {
        match turn(*shard).await {
            Ok(one) => moved |= one,
            Err(error) => failed = failed.or(Some(error)),
        }
    }
    failed.map_or(Ok(moved), Err)
}

/// One look at all shards.
#[derive(Clone, Copy, Debug)]
pub struct Sweep;

/// Registers a reactor as an apalis worker.
pub fn register<R: Reactor>(monitor: Monitor, reactor: R) -> Monitor {
    let busy = Arc::new(AtomicBool::new(true));
    monitor.register(move |restarts| {
        let reactor = reactor.clone();
        let busy = Arc::clone(&busy);
        let listener = reactor.store().signals().listen(reactor.wakes_on());
        WorkerBuilder::new(format!(
            "{}-{}-{restarts}",
            reactor.name(),
            std::process::id()
        ))
        .backend(sweeps(listener, Arc::clone(&busy), reactor.pace()))
        .catch_panic()
        .concurrency(1)
        .build(move |_: Sweep| {
            let reactor = reactor.clone();
            let busy = Arc::clone(&busy);
            async move {
                let outcome = sweep(&reactor).await;
                busy.store(matches!(outcome, Ok(true)), Ordering::Relaxed);
                if let Err(error) = &outcome {
                    metrics::counter!("hub_reactor_errors_total", "reactor" => reactor.name())
                        .increment(1);
                    tracing::error!(reactor = reactor.name(), %error, "will try again");
                }
                outcome.map(|_| ())
            }
        })
    })
}

fn sweeps(
    listener: Listener,
    busy: Arc<AtomicBool>,
    pace: Duration,
) -> BoxStream<'static, std::result::Result<Sweep, Error>> {
    // The first sweep comes at once: there may be work from before the start.
    futures::stream::once(async { Ok(Sweep) })
        .chain(futures::stream::unfold(
            (listener, busy, Instant::now()),
            move |(mut listener, busy, began)| async move {
                tokio::time::sleep_until(began + pace).await;
                let pause = if busy.load(Ordering::Relaxed) {
                    PAUSE_BUSY
                } else {
                    PAUSE_IDLE
                };
                listener.wait(pause).await;
                Some((Ok(Sweep), (listener, busy, Instant::now())))
            },
        ))
        .boxed()
}

/// Works on one batch of every shard that is behind. True when there was something to do. Shards
/// that fail do not keep the others waiting; the first failure is returned at the end.
async fn sweep<R: Reactor>(reactor: &R) -> Result<bool> {
    let shards = reactor.behind().await?;
    let share = shards.len().div_ceil(reactor.turns_at_once()).max(1);
    let turns = shards.chunks(share).map(|shards| reactor.turns(shards));
    let turns = futures::future::join_all(turns).await;
    let mut progressed = false;
    for turn in turns {
        progressed |= turn?;
    }
    Ok(progressed)
}
