//! Subscriptions: a platform that tells of an account only for a while is asked to go on.
//!
//! Promises: an account that is connected has a subscription as soon as the platform gives one, it
//! is renewed when half of its time is over, and made anew when it is gone; what happened meanwhile
//! is fetched by a poll. A platform that refuses is asked again later: until then the account is
//! polled and loses nothing but speed. Whatever goes wrong here ends no account.

use std::time::Duration;

use chrono::Utc;
use hub_domain::event::AccountConnected;
use hub_domain::id::{AccountId, Shard, UserId};
use hub_domain::platform::call::{CallFailure, SubscribeFlow, SubscribeStep, Subscription};
use hub_domain::platform::{Adapter, App, Credentials, Platform, adapter};
use hub_store::account::Owner;
use hub_store::jobs::{self, Job, NewJob, Outcome};
use hub_store::usage::Call;
use hub_store::{Result, subscriptions};
use serde::{Deserialize, Serialize};

use super::{Queue, accounts_behind, poll};
use crate::Context;
use crate::call::Called;

/// Steps of one subscription: LinkedIn's takes a list, a call for each of ten organizations, and an end.
const STEPS_MAX: usize = 13;

/// Accounts that one tick takes; the next one goes on.
const DUE_MAX: i64 = 2_000;

/// How soon a platform is asked again that was not reached for a while.
const AFTER_TROUBLE: Duration = Duration::from_secs(5 * 60);

/// How soon a platform is asked again that refused, or an installation that is not set up for it.
const AFTER_REFUSAL: Duration = Duration::from_secs(3600);

/// Ending one is a courtesy: it ends by itself.
const END_MAX: Duration = Duration::from_secs(5);

/// The queue of accounts to be told of.
#[derive(Clone)]
pub struct Subscribe {
    context: Context,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
struct Payload {
    user: UserId,
    account: AccountId,
}

/// The job that looks after an account's subscription.
pub fn job(shard: Shard, owner: Owner) -> NewJob {
    NewJob {
        shard,
        queue: Subscribe::NAME,
        key: owner.account.to_string(),
        payload: serde_json::json!(Payload {
            user: owner.user,
            account: owner.account,
        }),
        delay: Duration::ZERO,
    }
}

/// The first subscription of an account that was connected, now or again; `None` when its platform
/// has none.
pub fn first(shard: Shard, event: &AccountConnected) -> Option<NewJob> {
    let owner = Owner {
        user: event.user,
        account: event.account,
    };
    adapter(event.platform)?
        .subscribes()
        .then(|| job(shard, owner))
}

/// Enqueues the accounts whose subscription is due. Returns how many.
pub async fn enqueue_due(context: &Context) -> Result<u64> {
    let store = context.store();
    let platforms: Vec<&str> = Platform::ALL
        .into_iter()
        .filter(|platform| adapter(*platform).is_some_and(|it| it.subscribes()))
        .map(Platform::name)
        .collect();
    let due = subscriptions::due(store.pool(), &platforms, DUE_MAX).await?;
    let mut tx = hub_store::transaction::begin(store.pool()).await?;
    let due: Vec<_> = due
        .iter()
        .map(|(shard, owner)| job(*shard, *owner))
        .collect();
    jobs::enqueue_all(&mut tx, &due).await?;
    tx.commit().await?;
    store.signals().raise_queue(Subscribe::NAME);
    Ok(due.len() as u64)
}

/// Tells the platform that nobody listens any more, while the account's tokens are still there.
pub(super) async fn end(
    context: &Context,
    platform: Platform,
    owner: Owner,
    route: &str,
) -> Result<()> {
    let store = context.store();
    let Some(id) = store.subscription(owner).await?.id else {
        return Ok(());
    };
    let (Some((adapter, app)), Some(credentials)) = (
        context.platform(platform),
        store.credentials(owner, route).await?,
    ) else {
        return Ok(());
    };
    if let Some(request) = adapter.unsubscribe(app, &credentials, &id) {
        let call = Call {
            platform,
            endpoint: "unsubscribe",
            user: Some(owner.user),
            account: Some(owner.account),
        };
        let call = tokio::time::timeout(END_MAX, context.call(call, request));
        if !matches!(call.await, Ok(Ok(answer)) if answer.is_success()) {
            tracing::info!(%platform, "the platform did not confirm the end of a subscription");
        }
    }
    Ok(())
}

impl Subscribe {
    /// The queue, worked by this process.
    pub fn new(context: Context) -> Self {
        Self { context }
    }

    async fn turn(&self, job: &Job, owner: Owner) -> Result<Outcome> {
        let store = self.context.store();
        if let Some(later) = accounts_behind(&self.context, job.shard, owner.account).await? {
            return Ok(later);
        }
        let standing = store.poll_standing(owner).await?;
        let Some(standing) = standing.filter(|it| it.is_active && !it.needs_reconnect) else {
            return Ok(Outcome::Done);
        };
        let held = store.subscription(owner).await?;
        if !held.is_due {
            return Ok(Outcome::Done);
        }
        let platform = standing.platform;
        let Some((adapter, app)) = self.context.platform(platform) else {
            return Ok(Outcome::Done);
        };
        // One that holds for longer than that leaves the calls to what people wait for.
        if let Some(later) = self.context.spare_after(platform, owner).await
            && let Some(ends) = held.expires_at
            && Utc::now() + later < ends
        {
            store.renew_subscription_in(owner, later).await?;
            return Ok(Outcome::Done);
        }
        let access = self.context.access(platform, owner, &standing.route);
        let credentials = match access.await?.granted() {
            Ok(Some(held)) => held.credentials,
            Ok(None) => return Ok(Outcome::Done),
            Err(failure) => return self.failed(job, platform, owner, failure).await,
        };
        let Some(flow) = flow(adapter, app, &credentials, held.id.as_deref()) else {
            store.renew_subscription_in(owner, AFTER_REFUSAL).await?;
            return Ok(Outcome::Done);
        };
        match self.talk(platform, owner, flow).await? {
            Ok(made) => {
                let life = (made.expires_at - Utc::now()).to_std().unwrap_or_default();
                store
                    .put_subscription(platform, owner, &made, life / 2)
                    .await?;
                count(platform, "held");
                // There was a time without one: whatever happened then was told to nobody.
                if held.id.as_deref() != Some(&*made.id) {
                    self.catch_up(job.shard, owner).await?;
                }
                Ok(Outcome::Done)
            }
            Err(failure) => self.failed(job, platform, owner, failure).await,
        }
    }

    async fn talk(
        &self,
        platform: Platform,
        owner: Owner,
        mut flow: Box<dyn SubscribeFlow>,
    ) -> Result<std::result::Result<Subscription, CallFailure>> {
        let mut answer = None;
        for _ in 0..STEPS_MAX {
            match flow.next(answer.take()) {
                SubscribeStep::Call(request) => {
                    let called = self.context.call_as(platform, owner, "subscribe", request);
                    match called.await? {
                        Called::Answered(answered) => answer = Some(answered),
                        Called::NotNow(not_now) => return Ok(Err(not_now.failure())),
                    }
                }
                SubscribeStep::Done(made) => return Ok(Ok(made)),
                SubscribeStep::Failed(failure) => return Ok(Err(failure)),
            }
        }
        Ok(Err(CallFailure::Permanent {
            reason: "the subscription did not come to an end".to_owned(),
        }))
    }

    async fn catch_up(&self, shard: Shard, owner: Owner) -> Result<()> {
        let store = self.context.store();
        let mut tx = hub_store::transaction::begin(store.pool()).await?;
        jobs::hasten(&mut tx, &poll::job(shard, owner, Duration::ZERO)).await?;
        tx.commit().await?;
        store.signals().raise_queue(poll::Poll::NAME);
        Ok(())
    }

    /// The account stays as it is: whether its authorisation is gone is for those to say who read
    /// and write with it.
    async fn failed(
        &self,
        job: &Job,
        platform: Platform,
        owner: Owner,
        failure: CallFailure,
    ) -> Result<Outcome> {
        count(platform, "failed");
        let (pause, reason) = match failure {
            CallFailure::RetryAfter { wait, reason } => (wait, reason),
            CallFailure::Backoff { reason } => match super::again(job, reason.clone()) {
                Outcome::Park { .. } => (AFTER_TROUBLE, reason),
                again => return Ok(again),
            },
            CallFailure::Reconnect { reason } | CallFailure::Permanent { reason } => {
                (AFTER_REFUSAL, reason)
            }
        };
        tracing::warn!(%platform, account = %owner.account, reason, "no subscription for now");
        let store = self.context.store();
        store.renew_subscription_in(owner, pause).await?;
        Ok(Outcome::Done)
    }
}

fn flow(
    adapter: &'static dyn Adapter,
    app: &App,
    credentials: &Credentials,
    current: Option<&str>,
) -> Option<Box<dyn SubscribeFlow>> {
    adapter.subscribe(app, credentials, current, Utc::now())
}

fn count(platform: Platform, outcome: &'static str) {
    let platform = platform.name();
    metrics::counter!("hub_subscriptions_total", "platform" => platform, "outcome" => outcome)
        .increment(1);
}

impl Queue for Subscribe {
    const NAME: &'static str = "subscribe";

    async fn run(&self, job: &Job) -> Result<Outcome> {
        match serde_json::from_value::<Payload>(job.payload.clone()) {
            Ok(Payload { user, account }) => self.turn(job, Owner { user, account }).await,
            Err(error) => Ok(Outcome::Park {
                reason: error.to_string(),
            }),
        }
    }
}
