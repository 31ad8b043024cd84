//! What sending is measured against (`hub bench send`): jobs of the same table that do nothing.

use std::time::{Duration, Instant};

use apalis::prelude::Monitor;
use hub_config::WorkerSettings;
use hub_domain::id::Shard;
use hub_store::jobs::{self, Job, NewJob, Outcome};
use hub_store::{Error, Result, Store, transaction};
use tokio::sync::oneshot;

use crate::Context;
use crate::jobs::send::Send;
use crate::jobs::{Queue, queue};

/// Ends every job at once.
#[derive(Clone)]
struct Nothing;

impl Queue for Nothing {
    const NAME: &'static str = "nothing";

    fn at_once(settings: &WorkerSettings) -> usize {
        Send::at_once(settings)
    }

    async fn run(&self, _: &Job) -> Result<Outcome> {
        Ok(Outcome::Done)
    }
}

/// Enqueues so many jobs in all shards, works them off like any queue, and returns how long that
/// took.
pub async fn drain(context: &Context, count: u64) -> Result<Duration> {
    let store = context.store();
    enqueue(store, count).await?;
    let began = Instant::now();
    let (stop, stopped) = oneshot::channel::<()>();
    let run = queue(Monitor::new(), context, Nothing).run_with_signal(async {
        let _ = stopped.await;
        Ok(())
    });
    let run = tokio::spawn(run);
    while hub_store::peer::jobs(store.pool(), Nothing::NAME).await? > 0 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let took = began.elapsed();
    let _ = stop.send(());
    match run.await {
        Ok(Ok(())) => Ok(took),
        ended => Err(Error::Refused(format!("the queue ended: {ended:?}"))),
    }
}

async fn enqueue(store: &Store, count: u64) -> Result<()> {
    let shards = u64::try_from(store.sharding().count).unwrap_or(1);
    let job = |number: u64| NewJob {
        shard: Shard((number % shards) as i16),
        queue: Nothing::NAME,
        key: number.to_string(),
        payload: serde_json::Value::Null,
        delay: Duration::ZERO,
    };
    let mut tx = transaction::begin(store.pool()).await?;
    jobs::enqueue_all(&mut tx, &(0..count).map(job).collect::<Vec<_>>()).await?;
    tx.commit().await?;
    store.signals().raise_queue(Nothing::NAME);
    Ok(())
}
