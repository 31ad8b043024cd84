//! From the bus to the sockets: one task for all of them.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures::{Stream, StreamExt as _, stream};
use hub_domain::id::UserId;
use hub_store::bus::{Change, What};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use super::frame::Frame;
use super::lookup;
use super::seen::Seen;
use crate::Api;

/// Changes whose rows are read at the same time. Frames leave in the order of the changes.
const LOOKUPS_MAX: usize = 4;

/// Pauses before rows are asked for again, one more look than pauses: connections that broke cost no
/// change, a database that is away for longer does.
const PAUSES: [Duration; 3] = [
    Duration::ZERO,
    Duration::from_millis(100),
    Duration::from_millis(500),
];

/// Begins to tell this process's sockets what changes, unless that has begun already. The doors
/// call it for the first socket; it needs a Tokio runtime. It ends with
/// [`super::Sockets::close_all`].
pub fn start(api: &Api) {
    if !api.sockets().is_first_start() {
        return;
    }
    // Subscribed before the first client hears that it is authenticated.
    let changes = api.store().bus().subscribe();
    tokio::spawn(run(api.clone(), changes));
}

async fn run(api: Api, changes: broadcast::Receiver<Arc<Change>>) {
    let closing = api.sockets().closing().clone();
    let lookups = news(api.clone(), changes)
        // A task of its own: should a look-up panic, one change is lost and not the fan-out.
        .map(|news| tokio::spawn(look_up(api.clone(), news)))
        .buffered(LOOKUPS_MAX);
    let mut lookups = std::pin::pin!(lookups);
    loop {
        let looked_up = tokio::select! {
            () = closing.cancelled() => return,
            looked_up = lookups.next() => looked_up,
        };
        match looked_up {
            Some(Ok((user, frames))) => api.sockets().push(user, &frames),
            Some(Err(_panicked)) => lost(1),
            None => return,
        }
    }
}

/// A change worth looking up.
struct News {
    change: Arc<Change>,
    told_until: Option<DateTime<Utc>>,
}

fn news(api: Api, changes: broadcast::Receiver<Arc<Change>>) -> impl Stream<Item = News> {
    let state = (api, changes, Seen::default());
    stream::unfold(state, async |(api, mut changes, mut seen)| {
        loop {
            let change = match changes.recv().await {
                Ok(change) => change,
                Err(RecvError::Lagged(count)) => {
                    tracing::warn!(count, "live changes were skipped: too many at once");
                    lost(count);
                    continue;
                }
                Err(RecvError::Closed) => return None,
            };
            if !seen.is_new(&change) {
                continue;
            }
            if change.what.contains(&What::Farewell) {
                api.sockets().dismiss(change.user);
            }
            let told_until = seen.advance(&change);
            if api.sockets().has(change.user) {
                return Some((News { change, told_until }, (api, changes, seen)));
            }
        }
    })
}

async fn look_up(api: Api, news: News) -> (UserId, Vec<Frame>) {
    let News { change, told_until } = news;
    let mut pauses = PAUSES.into_iter();
    let frames = loop {
        let frames = lookup::frames(&api, &change, told_until).await;
        match (&frames, pauses.next()) {
            (Err(error), Some(pause)) if error.is_temporary() => tokio::time::sleep(pause).await,
            _ => break frames,
        }
    };
    let frames = frames.unwrap_or_else(|error| {
        tracing::warn!(%error, shard = %change.shard, position = change.position,
            "a live change was not told");
        lost(1);
        Vec::new()
    });
    (change.user, frames)
}

fn lost(changes: u64) {
    metrics::counter!("hub_live_lost_total").increment(changes);
}
