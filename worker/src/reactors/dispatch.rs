//! The dispatcher: events that want an effect become jobs, in the transaction of the checkpoint.
//!
//! An effect is therefore enqueued exactly once; and because only this reactor enqueues, replaying
//! projections can never cause one.

use hub_domain::envelope::Recorded;
use hub_domain::event::Event;
use hub_domain::id::Shard;
use hub_domain::limits::REACTOR_BATCH_MAX;
use hub_store::checkpoint::{self, Reactor as Name};
use hub_store::jobs::{self, NewJob};
use hub_store::signal::Topic;
use hub_store::{Result, Store, read};

use crate::Context;
use crate::jobs::{contact, disconnect, erase, send};
use crate::reactor::Reactor;

const NAME: Name = Name {
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
        Event::AccountDisconnected(it) => Some(disconnect::job(shard, it)),
        Event::UserErased(it) => Some(erase::job(recorded.place, it)),
        Event::UserRegistered(_)
        | Event::SessionStarted(_)
        | Event::SessionRefreshed(_)
        | Event::SessionRevoked(_)
        | Event::AccountConnected(_)
        | Event::AccountNeedsReconnect(_)
        | Event::ConnectFailed(_)
        | Event::AccountNoted(_)
        | Event::MessageReceived(_)
        | Event::MessageObserved(_)
        | Event::MessageEdited(_)
        | Event::MessageDeleted(_)
        | Event::ReactionChanged(_)
        | Event::ReceiptReceived(_)
        | Event::ContactNamed(_)
        | Event::ConversationNoted(_)
        | Event::SendAttempted(_)
        | Event::MessageSent(_)
        | Event::SendDelayed(_)
        | Event::SendFailed(_)
        | Event::SendUncertain(_)
        | Event::MessageRead(_)
        | Event::ConversationRead(_) => None,
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

    async fn behind(&self) -> Result<Vec<Shard>> {
        checkpoint::behind(self.store().pool(), NAME).await
    }

    async fn turn(&self, shard: Shard) -> Result<bool> {
        let Some(mut turn) = checkpoint::begin(self.store().pool(), NAME, shard).await? else {
            return Ok(false);
        };
        let events = read::after(&mut *turn.tx, turn.from, REACTOR_BATCH_MAX).await?;
        let Some(last) = events.last() else {
            turn.leave().await?;
            return Ok(false);
        };
        let to = last.place.position;
        let mut enqueued = false;
        for recorded in &events {
            if let Some(job) = job(shard, recorded) {
                jobs::enqueue(&mut turn.tx, &job).await?;
                enqueued = true;
            }
        }
        turn.finish(to).await?;
        if enqueued {
            self.store().signals().raise(Topic::Jobs);
        }
        Ok(true)
    }
}
