//! Renewing tokens although nobody calls: because they expire soon, or because somebody asked.

use std::time::Duration;

use hub_domain::command::RenewAnswer;
use hub_domain::id::{AccountId, Key, Place, UserId};
use hub_domain::platform::{Platform, adapter};
use hub_store::account::Owner;
use hub_store::jobs::{self, Job, NewJob, Outcome};
use hub_store::{Result, transaction};
use serde::{Deserialize, Serialize};

use super::{Queue, entropy};
use crate::Context;
use crate::renewal::{Access, Attempt};

/// The schedule renews so much earlier than a call would: two of its turns.
const LEAD: Duration = Duration::from_secs(10 * 60);

/// What a turn of the schedule finds is spread over this time.
const SPREAD: Duration = Duration::from_secs(4 * 60);

/// Accounts of a platform that a turn of the schedule takes; the others come with the next.
const ACCOUNTS_MAX: i64 = 5_000;

/// The queue of renewals.
#[derive(Clone)]
pub struct Renew {
    context: Context,
}

#[derive(Serialize, Deserialize)]
struct Payload {
    user: UserId,
    account: AccountId,
    platform: Platform,
    /// Who waits for the outcome.
    answer: Option<Key>,
}

/// Somebody asked for a renewal, and waits for the answer under this key.
pub fn wish(place: Place, owner: Owner, platform: Platform, answer: Key) -> NewJob {
    NewJob {
        shard: place.shard,
        queue: Renew::NAME,
        key: place.to_string(),
        payload: serde_json::json!(Payload {
            user: owner.user,
            account: owner.account,
            platform,
            answer: Some(answer),
        }),
        delay: Duration::ZERO,
    }
}

/// Enqueues a renewal of every token that is about to expire. Returns how many.
pub(super) async fn enqueue_expiring(context: &Context) -> Result<u64> {
    let store = context.store();
    let mut found = 0;
    for platform in Platform::ALL {
        let Some(adapter) = adapter(platform) else {
            continue;
        };
        let within = adapter.renewal_margin() + LEAD;
        for it in store.expiring(platform, within, ACCOUNTS_MAX).await? {
            let job = NewJob {
                shard: it.shard,
                queue: Renew::NAME,
                key: it.owner.account.to_string(),
                payload: serde_json::json!(Payload {
                    user: it.owner.user,
                    account: it.owner.account,
                    platform,
                    answer: None,
                }),
                delay: SPREAD.mul_f64(entropy()),
            };
            let mut tx = transaction::begin(store.pool()).await?;
            jobs::enqueue(&mut tx, &job).await?;
            tx.commit().await?;
            found += 1;
        }
    }
    if found > 0 {
        store.signals().raise_queue(Renew::NAME);
    }
    Ok(found)
}

impl Renew {
    /// The queue, worked by this process.
    pub fn new(context: Context) -> Self {
        Self { context }
    }

    async fn renew(&self, it: &Payload) -> Result<RenewAnswer> {
        let owner = Owner {
            user: it.user,
            account: it.account,
        };
        let row = self.context.store().account(it.user, it.account).await?;
        let Some(row) = row.filter(|row| row.is_active) else {
            return Ok(RenewAnswer::NotNow);
        };
        let Some(renewal) = self.context.renewal(it.platform, owner, &row.route) else {
            return Ok(RenewAnswer::Good);
        };
        let lead = if it.answer.is_some() {
            Duration::ZERO
        } else {
            LEAD
        };
        let margin = renewal.adapter.renewal_margin() + lead;
        Ok(match renewal.within(margin).await? {
            Attempt::NotPossible(held) if held.state.is_expired() => {
                let reason = "The authorisation has expired.";
                self.context
                    .refuse(owner, held.state.version, reason)
                    .await?;
                RenewAnswer::Refused
            }
            Attempt::NotPossible(_) | Attempt::Made(Access::Granted(_)) => RenewAnswer::Good,
            Attempt::Made(Access::Refused { .. }) => RenewAnswer::Refused,
            Attempt::Made(Access::Wait { .. } | Access::Gone) => RenewAnswer::NotNow,
        })
    }
}

impl Queue for Renew {
    const NAME: &'static str = "tokens";

    async fn run(&self, job: &Job) -> Result<Outcome> {
        let Ok(it) = serde_json::from_value::<Payload>(job.payload.clone()) else {
            return Ok(Outcome::Park {
                reason: "the payload is malformed".to_owned(),
            });
        };
        // Trouble is no reason to come back at once: the schedule finds the token again.
        let answer = self.renew(&it).await?;
        if let Some(key) = it.answer {
            self.context
                .store()
                .put_answer(job.shard, key, &answer)
                .await?;
        }
        Ok(Outcome::Done)
    }
}
