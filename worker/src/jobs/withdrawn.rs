//! Deleting the media of messages that were withdrawn.
//!
//! At once, so that addresses given out earlier lead nowhere; and once more when no run that fetches
//! media of the message can still be at it ([`super::media`] begins none for a withdrawn message).
//! What is deleted is named by the message alone, so nobody has to remember which media there were.

use std::time::Duration;

use chrono::{DateTime, Utc};
use hub_domain::event::MessageDeleted;
use hub_domain::id::{Place, Shard, object_id};
use hub_store::jobs::{Job, NewJob, Outcome};
use hub_store::project::Projection;
use hub_store::{Error, Result, parked, read};
use serde::{Deserialize, Serialize};

use super::media::MEDIA_MAX;
use super::{CATCH_UP_MAX, HELD_LOOK, Queue};
use crate::Context;

/// A run that fetches media has ended after this long.
const FETCHED_WITHIN: Duration = Duration::from_secs(120);

/// How soon to try again what the object store did not do.
pub(super) const STORE_LOOK: Duration = Duration::from_secs(30);

/// The queue of withdrawn messages.
#[derive(Clone)]
pub struct Withdrawn {
    context: Context,
}

#[derive(Serialize, Deserialize)]
struct Payload {
    #[serde(flatten)]
    event: MessageDeleted,
    told_at: DateTime<Utc>,
}

/// The job that deletes the media of a message whose withdrawal the hub was told of then.
pub fn job(shard: Shard, event: &MessageDeleted, told_at: DateTime<Utc>) -> NewJob {
    let key = format!("{}/{}", event.conversation, event.platform_message_id);
    let event = event.clone();
    NewJob {
        shard,
        queue: Withdrawn::NAME,
        key,
        payload: serde_json::json!(Payload { event, told_at }),
        delay: Duration::ZERO,
    }
}

impl Withdrawn {
    /// The queue, worked by this process.
    pub fn new(context: Context) -> Self {
        Self { context }
    }

    async fn turn(&self, job: &Job, payload: &Payload) -> Result<Outcome> {
        let (store, event) = (self.context.store(), &payload.event);
        let position = read::head(store.pool(), job.shard).await?;
        let shard = job.shard;
        let is_shown = store
            .wait_for_projection(Projection::Inbox, Place { shard, position }, CATCH_UP_MAX)
            .await?;
        if !is_shown {
            return Ok(Outcome::Again(Duration::from_millis(200)));
        }
        let stream = event.conversation.into();
        if parked::is_held(store.pool(), Projection::Inbox.name(), shard, stream).await? {
            return Ok(Outcome::Again(HELD_LOOK));
        }
        let named = event.platform_message_id.as_str();
        let found = store.withdrawn_message(event.user, event.conversation, named);
        let Some(message) = found.await? else {
            return Ok(Outcome::Done);
        };
        let last = u16::try_from(MEDIA_MAX).unwrap_or(u16::MAX);
        let objects: Vec<_> = (0..last).map(|index| object_id(message, index)).collect();
        self.context
            .objects()
            .remove_all(event.user, &objects)
            .await?;
        let settled_at = payload.told_at + FETCHED_WITHIN;
        Ok(match (settled_at - Utc::now()).to_std() {
            Ok(left) if !left.is_zero() => Outcome::Again(left + Duration::from_secs(1)),
            _ => Outcome::Done,
        })
    }
}

impl Queue for Withdrawn {
    const NAME: &'static str = "withdrawn";

    async fn run(&self, job: &Job) -> Result<Outcome> {
        let payload = match serde_json::from_value(job.payload.clone()) {
            Ok(payload) => payload,
            Err(error) => {
                return Ok(Outcome::Park {
                    reason: error.to_string(),
                });
            }
        };
        match self.turn(job, &payload).await {
            Err(Error::Objects(_)) => Ok(Outcome::Again(STORE_LOOK)),
            ended => ended,
        }
    }
}
