//! After a person was erased: take leave of the platforms, then do what the database can do.
//!
//! Tokens are needed to say goodbye and gone afterwards, so platforms come first, as well as they
//! answer. Then the steps of [`hub_store::erase`], and once more when no process can have a key in
//! memory any more: what was written meanwhile, with such a key, goes too.

use std::time::Duration;

use chrono::Utc;
use hub_domain::event::UserErased;
use hub_domain::id::{Place, UserId};
use hub_store::Result;
use hub_store::account::Owner;
use hub_store::jobs::{Job, NewJob, Outcome};
use serde::{Deserialize, Serialize};

use super::{Queue, disconnect};
use crate::Context;

/// Platforms together get this long: the person is waiting to be forgotten.
const FAREWELL_MAX: Duration = Duration::from_secs(20);

/// The translator is rarely behind for longer.
const TRANSLATED_WITHIN: Duration = Duration::from_secs(1);

/// The queue of people to forget.
#[derive(Clone)]
pub struct Erase {
    context: Context,
}

#[derive(Serialize, Deserialize)]
struct Payload {
    user: UserId,
    position: i64,
}

/// The job that follows an erasure.
pub fn job(place: Place, event: &UserErased) -> NewJob {
    NewJob {
        shard: place.shard,
        queue: Erase::NAME,
        key: event.user.to_string(),
        payload: serde_json::json!(Payload {
            user: event.user,
            position: place.position,
        }),
        delay: Duration::ZERO,
    }
}

impl Erase {
    /// The queue, worked by this process.
    pub fn new(context: Context) -> Self {
        Self { context }
    }

    /// Takes permissions back where nobody else here needs them.
    async fn farewell(&self, user: UserId) -> Result<()> {
        let store = self.context.store();
        for it in store.connections(user).await? {
            let owner = Owner {
                user,
                account: it.account,
            };
            super::subscribe::end(&self.context, it.platform, owner, &it.route).await?;
            if store.leave_directory(user, &it).await? {
                disconnect::revoke(&self.context, it.platform, owner, &it.route).await?;
            }
        }
        Ok(())
    }
}

impl Queue for Erase {
    const NAME: &'static str = "erase";

    async fn run(&self, job: &Job) -> Result<Outcome> {
        let store = self.context.store();
        let Ok(Payload { user, position }) = serde_json::from_value(job.payload.clone()) else {
            return Ok(Outcome::Park {
                reason: "the payload is malformed".to_owned(),
            });
        };
        let begun = Place {
            shard: job.shard,
            position,
        };
        match tokio::time::timeout(FAREWELL_MAX, self.farewell(user)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) if error.is_temporary() => return Err(error),
            // A platform or a token that does not play along must not keep anybody here.
            Ok(Err(error)) => tracing::warn!(%error, "a platform was not told of an erasure"),
            Err(_) => tracing::warn!("platforms took too long over an erasure"),
        }
        let erased = store.finish_erasure(user, begun).await?;
        // Nobody can open them any more; a store that does not answer keeps nobody here.
        match self.context.objects().erase(user).await {
            Ok(0) => {}
            Ok(objects) => tracing::info!(objects, "media of an erased person were deleted"),
            Err(error) => tracing::warn!(%error, "media of an erased person were not deleted"),
        }
        tracing::info!(place = %begun, keys = erased.keys, "a person was erased");
        if erased.waiting > 0 {
            return Ok(Outcome::Again(TRANSLATED_WITHIN));
        }
        let left = store
            .settled_at(user)
            .await?
            .and_then(|settled_at| (settled_at - Utc::now()).to_std().ok());
        Ok(match left {
            Some(left) if !left.is_zero() => Outcome::Again(left + Duration::from_secs(1)),
            _ => Outcome::Done,
        })
    }
}
