//! The dispatcher: events that want an effect become jobs, in the transaction of the checkpoint.
//!
//! An effect is therefore enqueued exactly once; and because only this reactor enqueues, replaying
//! projections can never cause one.

use std::collections::BTreeSet;
use std::sync::{LazyLock, Mutex};

use hub_domain::envelope::Recorded;
use hub_domain::event::Event;
use hub_domain::id::Shard;
use hub_store::checkpoint::{self, Reactor as Name};
use hub_store::follow::{self, Batch, Glide, Handler};
use hub_store::jobs::{self, NewJob};
use hub_store::signal::Topic;
use hub_store::{Connection, Result, Store};

use crate::Context;
use crate::jobs::{
    contact, disconnect, erase, media, poll, reset, send, subscribe, uploads, withdrawn,
};
use crate::reactor::Reactor;

pub(crate) const NAME: Name = Name {
    name: "dispatch",
    generation: 0,
};

/// The dispatcher.
#[derive(Clone)]
pub struct Dispatch {
    context: Context,
}

impl Dispatch {
    /// The dispatcher of this process.
    pub fn new(context: Context) -> Self {
        Self { context }
    }
}

/// The job an event asks for, if any.
fn job(shard: Shard, recorded: &Recorded) -> Option<NewJob> {
    match &recorded.event {
        // The first word of somebody whose name did not come with it.
        Event::MessageReceived(it) if recorded.version == 1 && it.0.sender_name.is_none() => {
            Some(contact::job(shard, &it.0))
        }
        Event::MessageQueued(it) => Some(send::job(shard, &it.at)),
        Event::AccountConnected(it) => poll::first(shard, it),
        Event::AccountDisconnected(it) => Some(disconnect::job(shard, it)),
        Event::MediaAnnounced(it) => Some(media::job(shard, it)),
        Event::MessageDeleted(it) => Some(withdrawn::job(shard, it, recorded.recorded_at)),
        Event::MediaUploaded(it) => Some(uploads::job(shard, it)),
        Event::ResetRequested(it) => Some(reset::job(recorded.place, it)),
        Event::UserErased(it) => Some(erase::job(recorded.place, it)),
        Event::UserRegistered(_)
        | Event::SessionStarted(_)
        | Event::SessionRefreshed(_)
        | Event::SessionRevoked(_)
        | Event::AccountNeedsReconnect(_)
        | Event::AccountPolled(_)
        | Event::ConversationForgotten(_)
        | Event::AccountForgotten(_)
        | Event::ConnectFailed(_)
        | Event::AccountNoted(_)
        | Event::MessageReceived(_)
        | Event::MessageObserved(_)
        | Event::MessageEdited(_)
        | Event::ReactionChanged(_)
        | Event::ReceiptReceived(_)
        | Event::ContactNamed(_)
        | Event::MediaStored(_)
        | Event::MediaUnavailable(_)
        | Event::ConversationNoted(_)
        | Event::SendAttempted(_)
        | Event::MessageSent(_)
        | Event::SendDelayed(_)
        | Event::SendFailed(_)
        | Event::SendUncertain(_)
        | Event::ConversationImported(_)
        | Event::MessageImported(_)
        | Event::MessageRead(_)
        | Event::ConversationRead(_) => None,
    }
}

/// What a connected account asks for beside its first poll.
fn subscription(shard: Shard, recorded: &Recorded) -> Option<NewJob> {
    match &recorded.event {
        Event::AccountConnected(it) => subscribe::first(shard, it),
        _ => None,
    }
}

impl Reactor for Dispatch {
    fn name(&self) -> &'static str {
        NAME.name
    }

    fn store(&self) -> &Store {
        self.context.store()
    }

    fn wakes_on(&self) -> Topic {
        Topic::Events
    }

    fn turns_at_once(&self) -> usize {
        1
    }

    async fn behind(&self) -> Result<Vec<Shard>> {
        checkpoint::behind(self.store().pool(), NAME).await
    }

    async fn turns(&self, shards: &[Shard]) -> Result<bool> {
        let enqueue = Enqueue::default();
        let passed = follow::turns(self.store().pool(), &enqueue, shards).await?;
        if let Ok(queues) = enqueue.enqueued.lock() {
            for queue in &*queues {
                self.store().signals().raise_queue(queue);
            }
        }
        Ok(passed > 0)
    }
}

/// Enqueues what events ask for.
#[derive(Default)]
pub(crate) struct Enqueue {
    /// The queues that got something.
    enqueued: Mutex<BTreeSet<&'static str>>,
}

/// The kinds of events that ask for a job.
const CONCERNS: [&str; 8] = [
    "MessageQueued",
    "AccountConnected",
    "MediaAnnounced",
    "MessageDeleted",
    "MediaUploaded",
    "AccountDisconnected",
    "ResetRequested",
    "UserErased",
];

/// Those that ask for one only as the first of their stream.
const FIRST_ONLY: [&str; 1] = ["MessageReceived"];

static NEVER: LazyLock<Vec<&str>> = LazyLock::new(|| {
    let kinds = Event::KINDS.iter().map(|(kind, _)| *kind);
    kinds
        .filter(|it| !CONCERNS.contains(it) && !FIRST_ONLY.contains(it))
        .collect()
});

impl Handler for Enqueue {
    fn reactor(&self) -> Name {
        NAME
    }

    fn glide(&self) -> Option<Glide<'_>> {
        Some(Glide {
            never: &NEVER,
            first_only: &FIRST_ONLY,
            to: i64::MAX,
        })
    }

    async fn apply(&self, connection: &mut Connection, batches: &[Batch<'_>]) -> Result<()> {
        let mut asked = Vec::new();
        for batch in batches {
            for recorded in batch.events {
                asked.extend(job(batch.shard, recorded));
                asked.extend(subscription(batch.shard, recorded));
            }
        }
        if asked.is_empty() {
            return Ok(());
        }
        jobs::enqueue_all(connection, &asked).await?;
        if let Ok(mut enqueued) = self.enqueued.lock() {
            enqueued.extend(asked.iter().map(|job| job.queue));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use hub_domain::envelope::Meta;
    use hub_domain::id::{Place, StreamId};
    use uuid::Uuid;

    use super::*;

    #[test]
    fn what_is_passed_without_a_look_asks_for_no_job() {
        let mut asked = 0;
        for (kind, schema) in Event::KINDS {
            let file = format!(
                "{}/../domain/tests/golden_events/{kind}.v{schema}.json",
                env!("CARGO_MANIFEST_DIR")
            );
            let mut payload: serde_json::Value =
                serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
            if *kind == "MessageReceived" {
                payload["sender_name"] = serde_json::Value::Null;
            }
            let event = Event::read(kind, *schema, &payload.to_string()).unwrap();
            for version in [1, 2] {
                let shard = Shard(0);
                let recorded = Recorded {
                    place: Place { shard, position: 1 },
                    stream: StreamId(Uuid::nil()),
                    version,
                    event: event.clone(),
                    meta: Meta::default(),
                    recorded_at: DateTime::UNIX_EPOCH,
                };
                let passed = NEVER.contains(kind) || version > 1 && FIRST_ONLY.contains(kind);
                let job = job(shard, &recorded);
                assert!(!(passed && job.is_some()), "{kind} {version}");
                asked += usize::from(job.is_some());
            }
        }
        // Eight kinds at any version, one as the first.
        assert_eq!(asked, 17);
    }
}
