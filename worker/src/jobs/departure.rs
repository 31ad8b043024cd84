//! After a person took their permission back at the platform, or asked it to have what is known of
//! them deleted.
//!
//! **Permission taken back.** Every account that the person had connected needs to be connected again,
//! by the same event that a refused call would have brought, and nobody calls with its tokens any more.
//!
//! **Deletion.** Whoever connected an account is the user it belongs to here: that user is erased, as
//! if they had asked the hub itself ([`super::erase`]). Nothing less makes unreadable what came
//! through the account, because everything of a user is sealed under the same keys. A user who has, or
//! ever had, accounts that this person did not connect would lose them too, and for good: then the
//! permission counts as taken back, and the job waits parked for an operator, who erases the user and
//! retries, or discards it.
//!
//! Promises: what a request is about is written down before anything is done about it, so a crash
//! loses nobody; the same request again, however much later, does nothing again. A person whom nobody
//! knows is no failure.

use std::time::Duration;

use hub_domain::command::Departure as Wish;
use hub_domain::envelope::Meta;
use hub_domain::id::{Key, Place, UserId};
use hub_store::Result;
use hub_store::agreements::Departed;
use hub_store::jobs::{Job, NewJob, Outcome};
use serde::{Deserialize, Serialize};

use super::Queue;
use crate::Context;

/// What the owner of an account is told.
const TAKEN_BACK: &str = "The person who connected the account has taken the permission back.";

/// How soon to look again whether somebody is erased.
const ERASED_WITHIN: Duration = Duration::from_secs(1);

/// The queue of people who leave.
#[derive(Clone)]
pub struct Departure {
    context: Context,
}

#[derive(Serialize, Deserialize)]
struct Payload {
    person: Key,
    wish: Wish,
    request: Key,
    /// The command that said so.
    position: i64,
}

/// The job of somebody's wish to leave.
pub fn job(place: Place, person: Key, wish: Wish, request: Key) -> NewJob {
    NewJob {
        shard: place.shard,
        queue: Departure::NAME,
        key: format!("{request:?}"),
        payload: serde_json::json!(Payload {
            person,
            wish,
            request,
            position: place.position,
        }),
        delay: Duration::ZERO,
    }
}

/// What an operator has to know.
fn held(user: UserId) -> String {
    format!(
        "somebody asked Meta for the deletion of their data; user {user} also has accounts that this \
         person did not connect, and a user is erased as a whole: `hub erase user {user} --yes`, then \
         retry; or discard this"
    )
}

impl Departure {
    /// The queue, worked by this process.
    pub fn new(context: Context) -> Self {
        Self { context }
    }

    /// What the request is about, written down when it is first looked at.
    async fn begun(&self, it: &Payload) -> Result<Departed> {
        let store = self.context.store();
        if let Some(departed) = store.departed(it.request).await? {
            return Ok(departed);
        }
        let owners = store.agreed(it.person).await?;
        let mut users: Vec<UserId> = match it.wish {
            Wish::Deauthorized => Vec::new(),
            Wish::Deletion => owners.iter().map(|owner| owner.user).collect(),
        };
        users.sort_unstable();
        users.dedup();
        let found = i32::try_from(owners.len()).unwrap_or(i32::MAX);
        store.begin_departure(it.request, found, &users).await?;
        tracing::info!(wish = ?it.wish, accounts = found, "a person leaves a platform's app");
        Ok(Departed {
            found,
            users,
            done_at: None,
        })
    }

    async fn take_back(&self, person: Key) -> Result<()> {
        let store = self.context.store();
        for owner in store.agreed(person).await? {
            if let Some(state) = store.token_state(owner).await? {
                self.context
                    .refuse(owner, state.version, TAKEN_BACK)
                    .await?;
            }
        }
        Ok(())
    }

    /// Who would lose more than what this person has connected.
    async fn who_has_more(&self, person: Key, users: &[UserId]) -> Result<Option<UserId>> {
        let store = self.context.store();
        let agreed = store.agreed(person).await?;
        for user in users {
            let theirs = agreed.iter().filter(|owner| owner.user == *user);
            let theirs: Vec<_> = theirs.map(|owner| owner.account).collect();
            // An erasure that has begun takes the agreements away.
            let is_begun = theirs.is_empty();
            let all = store.connections(*user).await?;
            if !is_begun && all.iter().any(|it| !theirs.contains(&it.account)) {
                return Ok(Some(*user));
            }
        }
        Ok(None)
    }

    /// Begins to erase them; true once all of them are.
    async fn erase(&self, users: &[UserId], command: Place) -> Result<bool> {
        let store = self.context.store();
        let mut erased = true;
        for user in users {
            let meta = Meta {
                causation: Some(format!("c:{command}")),
                ..Meta::default()
            };
            store.begin_erasure(*user, meta).await?;
            erased &= store.vault().is_erased_now(*user).await?;
        }
        Ok(erased)
    }
}

impl Queue for Departure {
    const NAME: &'static str = "departure";

    async fn run(&self, job: &Job) -> Result<Outcome> {
        let Ok(it) = serde_json::from_value::<Payload>(job.payload.clone()) else {
            return Ok(Outcome::Park {
                reason: "the payload is malformed".to_owned(),
            });
        };
        let departed = self.begun(&it).await?;
        if departed.done_at.is_some() {
            return Ok(Outcome::Done);
        }
        let command = Place {
            shard: job.shard,
            position: it.position,
        };
        match it.wish {
            Wish::Deauthorized => self.take_back(it.person).await?,
            Wish::Deletion => {
                if let Some(user) = self.who_has_more(it.person, &departed.users).await? {
                    self.take_back(it.person).await?;
                    return Ok(Outcome::Park { reason: held(user) });
                }
                if !self.erase(&departed.users, command).await? {
                    return Ok(Outcome::Again(ERASED_WITHIN));
                }
            }
        }
        self.context.store().end_departure(it.request).await?;
        Ok(Outcome::Done)
    }
}
