//! Trying again what is parked, and giving up on sends.
//!
//! Operators ask by a job of this queue (`hub dlq`); what was parked for want of newer code is tried
//! by whoever has that code, when it starts and by the clock. A retry is a turn of the reactor over
//! the parked events of one stream, in order, and may be repeated: what was processed stands in
//! `parked` no more.
//!
//! What a projection has made up for is published then, because the notifier has passed it by.

use std::time::Duration;

use hub_domain::id::{Place, Shard, StreamId};
use hub_store::dlq::{self, QUEUE, Taken, Wish};
use hub_store::follow::{self, Retried};
use hub_store::jobs::{Job, Outcome};
use hub_store::project::{self, Projection};
use hub_store::signal::Topic;
use hub_store::{Result, bus, checkpoint, parked};

use super::Queue;
use super::send::{self, GivenUp};
use crate::Context;
use crate::reactors::{dispatch, notify, translate};

/// How long a discarded conversation's read model may take to show what the log has.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// The gauge is this old at most.
const GAUGE_EVERY: Duration = Duration::from_secs(15);

/// The queue of wishes about dead letters.
#[derive(Clone)]
pub struct DeadLetters {
    context: Context,
}

impl DeadLetters {
    /// The queue, worked by this process.
    pub fn new(context: Context) -> Self {
        Self { context }
    }
}

impl Queue for DeadLetters {
    const NAME: &'static str = QUEUE;

    async fn run(&self, job: &Job) -> Result<Outcome> {
        match serde_json::from_value::<Wish>(job.payload.clone()) {
            Ok(Wish::Retry {
                reactor,
                stream,
                position,
            }) => retry(&self.context, job.shard, &reactor, stream, position).await,
            Ok(Wish::DiscardSends { key, reason }) => {
                discard_sends(&self.context, job.shard, &key, &reason).await
            }
            Err(error) => Ok(Outcome::Park {
                reason: hub_domain::event::shape(&error),
            }),
        }
    }
}

/// Tries again what this build can read and the one that parked it could not. Returns how many
/// streams and commands that were.
pub async fn heal(context: &Context) -> Result<u64> {
    let mut tried = 0;
    for (shard, wish) in dlq::readable_now(context.store().pool()).await? {
        if let Wish::Retry {
            reactor,
            stream,
            position,
        } = wish
        {
            match retry(context, shard, &reactor, stream, position).await {
                Ok(_) => tried += 1,
                // One that another holds for long keeps nobody from the others.
                Err(error) => tracing::warn!(reactor, %error, "will be tried by the clock"),
            }
        }
    }
    Ok(tried)
}

/// Tries again, once, what this build can read: by this process and not by a job, which an older
/// build could take. Then shows for ever in the metrics how much is parked.
pub async fn watch(context: &Context) {
    if let Err(error) = heal(context).await {
        tracing::warn!(%error, "what is parked will be tried by the clock");
    }
    loop {
        if let Ok(counts) = dlq::counts(context.store().pool()).await {
            for (reactor, parked) in counts {
                metrics::gauge!("hub_parked", "reactor" => reactor).set(parked as f64);
            }
        }
        tokio::time::sleep(GAUGE_EVERY).await;
    }
}

async fn retry(
    context: &Context,
    shard: Shard,
    reactor: &str,
    stream: Option<StreamId>,
    position: i64,
) -> Result<Outcome> {
    let pool = context.store().pool();
    let Some(stream) = stream else {
        if reactor == translate::NAME.name {
            let place = Place { shard, position };
            translate::Translate::new(context.clone())
                .retry(place)
                .await?;
        }
        return Ok(Outcome::Done);
    };
    for generation in dlq::generations(pool, reactor, shard, Some(stream), position).await? {
        loop {
            let retried = if let Some(projection) = Projection::from_name(reactor) {
                fold(context, projection, generation, shard, stream).await?
            } else if reactor == dispatch::NAME.name {
                let enqueue = dispatch::Enqueue::default();
                let retried = follow::retry(pool, &enqueue, shard, stream).await?;
                context.store().signals().raise(Topic::Jobs);
                retried
            } else if reactor == notify::NAME.name {
                let publish = notify::Publish::new(context.clone());
                follow::retry(pool, &publish, shard, stream).await?
            } else {
                let reason = format!("this build cannot retry for {reactor}");
                return Ok(Outcome::Park { reason });
            };
            tracing::info!(
                reactor,
                generation,
                shard = shard.0,
                stream = %stream,
                processed = retried.processed.len(),
                failed = retried.failed,
                "parked stream tried again"
            );
            if !retried.more {
                break;
            }
        }
    }
    Ok(Outcome::Done)
}

async fn fold(
    context: &Context,
    projection: Projection,
    generation: i16,
    shard: Shard,
    stream: StreamId,
) -> Result<Retried> {
    let store = context.store();
    let retried = project::retry(store.pool(), projection, generation, shard, stream).await?;
    let live = checkpoint::live_generation(store.pool(), projection.name()).await?;
    let ends = (retried.processed.first(), retried.processed.last());
    if generation == live
        && let (Some(first), Some(last)) = ends
    {
        store.signals().raise(Topic::Projected);
        let (first, last) = (first.place, last.place);
        let before = Place {
            position: first.position - 1,
            ..first
        };
        // What another read model still holds back is told once that has it too.
        let invisible = parked::invisible(store.pool(), &[(before, last.position)]).await?;
        let visible = retried
            .processed
            .iter()
            .filter(|recorded| !invisible.contains(&recorded.place));
        let changes = visible.filter_map(bus::changes).collect();
        store.bus().publish(changes).await;
    }
    Ok(retried)
}

async fn discard_sends(
    context: &Context,
    shard: Shard,
    key: &str,
    reason: &str,
) -> Result<Outcome> {
    let store = context.store();
    // What is asked for from here on raises seq, and then has a run of its own.
    let Some((seq, payload)) = store.parked_sends(shard, key).await? else {
        return Ok(Outcome::Done);
    };
    let send = send::Send::new(context.clone());
    match send.give_up_all(shard, &payload).await? {
        GivenUp::NotYet => return Ok(Outcome::Again(LOOK_AGAIN)),
        GivenUp::Malformed | GivenUp::Told => {}
    }
    let taken = store.discard_sends(shard, key, seq, reason).await?;
    if taken == Taken::Due {
        store.signals().raise(Topic::Jobs);
    }
    Ok(Outcome::Done)
}
