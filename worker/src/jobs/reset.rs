//! Forgetting the conversations of a Telegram user account whose owner wants them fetched anew.
//!
//! Promises: killed anywhere and run again, it goes on where it was, because each conversation is
//! forgotten once for each request. The account's new epoch ([`AccountForgotten`]) comes after all of
//! them, and only in a new epoch does the session ask for what is known ([`crate::telegram_user`]):
//! so nothing that comes back is forgotten again, whoever else resets the account meanwhile. What
//! arrives in between is forgotten or not, and is there after the look at everything either way.

use std::time::Duration;

use futures::future::try_join_all;
use hub_domain::envelope::{Append, Meta};
use hub_domain::event::{AccountForgotten, ConversationForgotten, ResetRequested};
use hub_domain::id::{AccountId, Key, Place, Shard, UserId};
use hub_domain::platform::telegram_user::Wish;
use hub_store::account::Owner;
use hub_store::jobs::{Job, NewJob, Outcome};
use hub_store::project::Projection;
use hub_store::{Result, read};
use serde::{Deserialize, Serialize};

use super::{CATCH_UP_MAX, Queue};
use crate::Context;

/// Conversations forgotten at the same time.
const AT_ONCE: usize = 1_000;

/// A session that is not held for this long looks at everything when it is opened.
const LOOK_WITHIN: Duration = Duration::from_secs(30);

/// How soon a read model that is behind is looked at again.
const BEHIND: Duration = Duration::from_millis(100);

/// The queue of accounts to reset.
#[derive(Clone)]
pub struct Reset {
    context: Context,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
struct Payload {
    user: UserId,
    account: AccountId,
    position: i64,
}

/// The job that follows a request.
pub fn job(requested: Place, event: &ResetRequested) -> NewJob {
    NewJob {
        shard: requested.shard,
        queue: Reset::NAME,
        key: requested.to_string(),
        payload: serde_json::json!(Payload {
            user: event.user,
            account: event.account,
            position: requested.position,
        }),
        delay: Duration::ZERO,
    }
}

impl Reset {
    /// The queue, worked by this process.
    pub fn new(context: Context) -> Self {
        Self { context }
    }

    /// Whether the read models show everything up to here.
    async fn is_shown(&self, place: Place) -> Result<bool> {
        for projection in Projection::ALL {
            let store = self.context.store();
            let shown = store.wait_for_projection(projection, place, CATCH_UP_MAX);
            if !shown.await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Forgets every conversation, then begins the account's new epoch. Returns where that is.
    async fn forget(&self, owner: Owner, requested: Place) -> Result<Place> {
        let (store, shard) = (self.context.store(), requested.shard);
        let Owner { user, account } = owner;
        let meta = Meta {
            causation: Some(format!("e:{requested}")),
            ..Meta::default()
        };
        let name = requested.to_string();
        let conversations = store.remembered_conversations(owner).await?;
        for some in conversations.chunks(AT_ONCE) {
            let appends = some.iter().map(|conversation| {
                let event = ConversationForgotten {
                    user,
                    account,
                    conversation: *conversation,
                };
                let key = Key::of(&[b"forgotten", name.as_bytes(), conversation.0.as_bytes()]);
                let append = Append::one(shard, *conversation, event).once(key);
                store.append(append.because(meta.clone()))
            });
            try_join_all(appends).await?;
        }
        let event = AccountForgotten { user, account };
        let key = Key::of(&[b"forgotten", name.as_bytes(), account.0.as_bytes()]);
        let append = Append::one(shard, account, event).once(key).because(meta);
        Ok(store.append(append).await?.place())
    }
}

impl Queue for Reset {
    const NAME: &'static str = "reset";

    async fn run(&self, job: &Job) -> Result<Outcome> {
        let store = self.context.store();
        let Ok(payload) = serde_json::from_value::<Payload>(job.payload.clone()) else {
            return Ok(Outcome::Park {
                reason: "the payload is malformed".to_owned(),
            });
        };
        let (user, account) = (payload.user, payload.account);
        if store.vault().is_erased_now(user).await? {
            return Ok(Outcome::Done);
        }
        let shard: Shard = job.shard;
        let place = |position| Place { shard, position };
        let head = read::head(store.pool(), shard).await?;
        if !self.is_shown(place(head)).await? {
            return Ok(Outcome::Again(BEHIND));
        }
        let (owner, requested) = (Owner { user, account }, place(payload.position));
        let forgotten = self.forget(owner, requested).await?;
        if !self.is_shown(forgotten).await? {
            return Ok(Outcome::Again(BEHIND));
        }
        let look = store
            .wish_of_telegram(user, Some(account), &Wish::Sync {}, LOOK_WITHIN)
            .await?;
        store.tell_reset(requested, look).await?;
        Ok(Outcome::Done)
    }
}
