//! Live changes without anybody who publishes them.
//!
//! An API in a process of its own and without Redis hears nothing from the worker's notifier. It
//! then reads the log itself: whatever the read models have passed since the last look becomes the
//! same changes, on the local bus.

use std::collections::HashMap;
use std::time::Duration;

use hub_domain::id::{Place, Shard};
use hub_domain::limits::REACTOR_BATCH_MAX;
use hub_store::bus::changes;
use hub_store::signal::Topic;
use hub_store::{Result, checkpoint, parked, read};

use crate::Api;

/// Looks this far apart while things happen, and after a signal.
const BUSY: Duration = Duration::from_millis(100);

/// Looks this far apart when nothing has happened for a while.
const IDLE: Duration = Duration::from_millis(500);

/// Signals do not make looks more frequent than this.
const GAP: Duration = Duration::from_millis(20);

/// Publishes changes on the local bus until `shutdown` resolves. Run it exactly where nobody else
/// does: no worker in this process and [`hub_store::bus::Bus::crosses_processes`] false.
pub async fn tail(api: Api, shutdown: impl Future<Output = ()>) {
    tokio::select! {
        () = shutdown => {}
        () = follow(api) => {}
    }
}

async fn follow(api: Api) {
    let mut projected = api.store().signals().listen(Topic::Projected);
    let mut appended = api.store().signals().listen(Topic::Events);
    let mut told: HashMap<Shard, i64> = HashMap::new();
    let mut pause = BUSY;
    loop {
        pause = match look(&api, &mut told).await {
            Ok(0) => (pause * 2).min(IDLE),
            Ok(_) => BUSY,
            Err(error) => {
                tracing::warn!(%error, "live changes are late: the log cannot be read");
                IDLE
            }
        };
        tokio::time::sleep(GAP).await;
        tokio::select! {
            () = projected.wait(pause) => {}
            () = appended.wait(pause) => {}
        }
        if projected.take() | appended.take() {
            pause = BUSY;
        }
    }
}

/// Publishes what read models have passed since the last look; returns how many events that were.
/// The first look at a shard publishes nothing: clients load what is by REST.
///
/// Shards that nobody here watches are followed by number only, so that whoever connects between
/// two looks misses nothing.
async fn look(api: &Api, told: &mut HashMap<Shard, i64>) -> Result<usize> {
    let mut events = 0;
    for Place { shard, position } in checkpoint::live_positions(api.store().pool()).await? {
        let from = told.get(&shard).copied().unwrap_or(position);
        if from < position && api.sockets().has_in(shard, api.store().sharding()) {
            match publish(api, shard, from, position).await {
                Ok(count) => events += count,
                Err(error) if error.is_temporary() => return Err(error),
                // What cannot be read now cannot be read later: the projections complain about it.
                Err(error) => tracing::warn!(%error, "live changes were skipped"),
            }
        }
        told.insert(shard, position);
    }
    Ok(events)
}

/// Publishes the changes of the events after `from`, up to and including `to`.
async fn publish(api: &Api, shard: Shard, mut from: i64, to: i64) -> Result<usize> {
    let first = from;
    while from < to {
        let limit = REACTOR_BATCH_MAX.min(to - from);
        let place = Place {
            shard,
            position: from,
        };
        let pool = api.store().pool();
        let entries = read::each_after(pool, place, limit).await?;
        let Some(last) = entries.last().map(read::place) else {
            break;
        };
        from = last.position;
        // Their rows are not there: clients find them by REST once they are.
        let invisible = parked::invisible(pool, &[(place, from)]).await?;
        let visible = entries
            .iter()
            .flatten()
            .filter(|recorded| !invisible.contains(&recorded.place));
        for change in visible.filter_map(changes) {
            api.store().bus().publish_locally(change);
        }
    }
    Ok(usize::try_from(from - first).unwrap_or(0))
}
