//! Group commit: callers that wait at the same time share one transaction.
//!
//! A few tasks own disjoint shards. Each takes everything that is queued, without a timer, and
//! commits it as one batch; while it commits, the next batch gathers. Idle this costs nothing (a
//! batch of one is one statement), and with many callers it saves them most of their commits.

use std::sync::Arc;

use hub_domain::id::Shard;
use hub_domain::limits::{APPEND_BATCH_MAX, APPEND_QUEUE_MAX};
use sqlx::{PgConnection, PgPool};
use tokio::sync::{mpsc, oneshot};

use crate::error::{Error, Result};

/// Tasks that write at the same time. Two keep the disk busy; more fight for the cores.
const WRITERS: usize = 2;

/// Something that commits many writes at once.
pub trait Batch: Clone + Send + Sync + 'static {
    /// One caller's write.
    type Item: Send + 'static;
    /// What the caller gets for it.
    type Done: Send + 'static;

    /// The shard of a write; a shard is always handled by the same task.
    fn shard(item: &Self::Item) -> Shard;

    /// Commits all of these, one result each, in order.
    fn commit(
        &self,
        connection: &mut PgConnection,
        items: Vec<Self::Item>,
    ) -> impl Future<Output = Vec<Result<Self::Done>>> + Send;
}

struct Waiting<B: Batch> {
    item: B::Item,
    done: oneshot::Sender<Result<B::Done>>,
}

/// The writers of one log. Clones share them; they end when the last clone is gone.
pub struct Group<B: Batch> {
    writers: Arc<Vec<mpsc::Sender<Waiting<B>>>>,
}

impl<B: Batch> Clone for Group<B> {
    fn clone(&self) -> Self {
        Self {
            writers: Arc::clone(&self.writers),
        }
    }
}

impl<B: Batch> Group<B> {
    /// Starts the writers.
    pub fn start(pool: PgPool, batch: B) -> Self {
        let writers = (0..WRITERS)
            .map(|_| {
                let (sender, receiver) = mpsc::channel(APPEND_QUEUE_MAX);
                tokio::spawn(write(pool.clone(), batch.clone(), receiver));
                sender
            })
            .collect();
        Self {
            writers: Arc::new(writers),
        }
    }

    /// Hands a write in and waits until it is on disk or refused.
    pub async fn submit(&self, item: B::Item) -> Result<B::Done> {
        let index = B::shard(&item).0.unsigned_abs() as usize % self.writers.len();
        let (done, outcome) = oneshot::channel();
        self.writers[index]
            .try_send(Waiting { item, done })
            .map_err(|_| Error::Busy)?;
        outcome
            .await
            .unwrap_or_else(|_| Err(Error::Unavailable(sqlx::Error::WorkerCrashed)))
    }
}

async fn write<B: Batch>(pool: PgPool, batch: B, mut queue: mpsc::Receiver<Waiting<B>>) {
    // The connection is kept between batches: taking one from the pool costs a round trip.
    let mut held = None;
    let mut waiting = Vec::with_capacity(APPEND_BATCH_MAX);
    loop {
        let received = tokio::select! {
            received = queue.recv_many(&mut waiting, APPEND_BATCH_MAX) => received,
            // Whoever closes the pool waits for the connection that is held here.
            () = pool.close_event(), if held.is_some() => {
                held = None;
                continue;
            }
        };
        if received == 0 {
            return;
        }
        let (items, callers): (Vec<_>, Vec<_>) = waiting
            .drain(..)
            .map(|waiting| (waiting.item, waiting.done))
            .unzip();
        let mut connection = match held.take() {
            Some(connection) => connection,
            None => match pool.acquire().await {
                Ok(connection) => connection,
                Err(error) => {
                    tracing::warn!(%error, "no database connection for appending");
                    for caller in callers {
                        let _ = caller.send(Err(Error::Unavailable(sqlx::Error::PoolTimedOut)));
                    }
                    continue;
                }
            },
        };
        let outcomes = batch.commit(&mut connection, items).await;
        let broken = outcomes
            .iter()
            .any(|outcome| matches!(outcome, Err(Error::Unavailable(_) | Error::Unknown(_))));
        if broken {
            // Never reuse a connection whose state is in doubt.
            drop(connection.detach());
        } else {
            held = Some(connection);
        }
        for (caller, outcome) in callers.into_iter().zip(outcomes) {
            // A caller that went away does not undo its write.
            let _ = caller.send(outcome);
        }
        // Those who have more to write join the next batch, and not the one after it.
        tokio::task::yield_now().await;
    }
}
