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

    /// How long it rests between two sweeps, whatever is signalled meanwhile: for work that nobody
    /// waits for.
    fn rest(&self) -> Duration {
        Duration::ZERO
    }

    /// Shards one process works on at the same time. Each turn holds a database connection.
    fn shards_at_once(&self) -> usize {
        4
    }

    /// The shards in which it is behind.
    fn behind(&self) -> impl Future<Output = Result<Vec<Shard>>> + Send;

    /// Works on one batch of a shard. False when there was nothing to do or another is at it.
    fn turn(&self, shard: Shard) -> impl Future<Output = Result<bool>> + Send;
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
        .backend(sweeps(listener, Arc::clone(&busy), reactor.rest()))
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
    rest: Duration,
) -> BoxStream<'static, std::result::Result<Sweep, Error>> {
    // The first sweep comes at once: there may be work from before the start.
    futures::stream::once(async { Ok(Sweep) })
        .chain(futures::stream::unfold(
            (listener, busy),
            move |(mut listener, busy)| async move {
                tokio::time::sleep(rest).await;
                let pause = if busy.load(Ordering::Relaxed) {
                    PAUSE_BUSY
                } else {
                    PAUSE_IDLE
                };
                listener.wait(pause).await;
                Some((Ok(Sweep), (listener, busy)))
            },
        ))
        .boxed()
}

/// Works until nothing is left. True when there was something to do. A shard that fails does not
/// keep the others waiting; the first failure is returned at the end.
async fn sweep<R: Reactor>(reactor: &R) -> Result<bool> {
    let mut worked = false;
    loop {
        let shards = reactor.behind().await?;
        let turns = futures::stream::iter(shards)
            .map(|shard| reactor.turn(shard))
            .buffer_unordered(reactor.shards_at_once())
            .collect::<Vec<_>>()
            .await;
        let mut progressed = false;
        let mut failed = None;
        for turn in turns {
            match turn {
                Ok(moved) => progressed |= moved,
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        worked |= progressed;
        if let Some(error) = failed {
            return Err(error);
        }
        if !progressed {
            return Ok(worked);
        }
    }
}
