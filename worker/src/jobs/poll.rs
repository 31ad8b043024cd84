//! Polling an account: what is new on the platform becomes raw input, then the cursor moves.
//!
//! Promises: one account is polled by one worker at a time, and one that lost its lease makes no
//! further call; a page is on disk before the cursor that skips it is in the log, so that a crash
//! in between fetches it again and changes nothing; a quiet account leaves no trace; whatever
//! happens, the account stays in the schedule. It leaves it when it is disconnected, and rests
//! while somebody has to connect it again.

mod wishes;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::Utc;
use hub_domain::command::{Command, NewCommand, PollAnswer};
use hub_domain::envelope::Append;
use hub_domain::event::{AccountConnected, AccountPolled};
use hub_domain::id::{Key, Shard};
use hub_domain::platform::call::{CallFailure, Occasion, PollFlow, PollStep};
use hub_domain::platform::fact::FactKind;
use hub_domain::platform::polling::{self, PollKind, Polling};
use hub_domain::platform::{Adapter, App, Credentials, Platform, adapter};
use hub_store::account::Owner;
use hub_store::jobs::{self, Job, NewJob, Outcome};
use hub_store::polls::{self, Ended, QUEUE, Standing};
use hub_store::{Result, Store};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::{LEASE, Queue, accounts_behind, entropy};
use crate::Context;
use crate::call::Called;
use crate::renewal::Access;
use wishes::Wishes;

/// Steps of one poll. Adapters end theirs earlier; this is for one that does not.
const STEPS_MAX: usize = 500;

/// The tick of the schedule looks this far ahead.
const LOOK_AHEAD: Duration = Duration::from_secs(30);

/// Accounts that one tick takes; the next one goes on.
const DUE_MAX: i64 = 2_000;

/// What a first poll looks back (contract 5.1), and so what `since` is given to adapters in.
const FIRST_LOOK_BACK: Duration = Duration::from_secs(24 * 3600);

/// The queue of accounts to poll.
#[derive(Clone)]
pub struct Poll {
    context: Context,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
struct Payload {
    user: hub_domain::id::UserId,
    account: hub_domain::id::AccountId,
}

/// The job that polls an account.
pub fn job(shard: Shard, owner: Owner, delay: Duration) -> NewJob {
    NewJob {
        shard,
        queue: Poll::NAME,
        key: owner.account.to_string(),
        payload: serde_json::json!(Payload {
            user: owner.user,
            account: owner.account,
        }),
        delay,
    }
}

/// The first poll of an account that was connected, now or again; `None` when its platform is not
/// polled.
pub fn first(shard: Shard, event: &AccountConnected) -> Option<NewJob> {
    adapter(event.platform)?.polling()?;
    let owner = Owner {
        user: event.user,
        account: event.account,
    };
    Some(job(shard, owner, Duration::ZERO))
}

/// Enqueues the accounts that become due before the next tick. Returns how many.
pub async fn enqueue_due(context: &Context) -> Result<u64> {
    let store = context.store();
    let is_polled =
        |platform: &Platform| adapter(*platform).is_some_and(|it| it.polling().is_some());
    let platforms: Vec<&str> = Platform::ALL
        .into_iter()
        .filter(is_polled)
        .map(Platform::name)
        .collect();
    let due = polls::due(store.pool(), &platforms, LOOK_AHEAD, DUE_MAX).await?;
    let mut tx = hub_store::transaction::begin(store.pool()).await?;
    let due: Vec<_> = due
        .iter()
        .map(|it| job(it.shard, it.owner, it.delay))
        .collect();
    jobs::enqueue_all(&mut tx, &due).await?;
    tx.commit().await?;
    store.signals().raise_queue(Poll::NAME);
    Ok(due.len() as u64)
}

/// One poll of one account.
struct Turn<'a> {
    context: &'a Context,
    job: &'a Job,
    owner: Owner,
    standing: Standing,
    polling: Polling,
    adapter: &'static dyn Adapter,
    app: &'a App,
    wishes: Wishes,
    /// Of the tokens it calls with.
    version: Option<i64>,
    /// Names that what its pages brought is kept under, when somebody waits for it.
    pages: Vec<Key>,
    kept: usize,
}

impl Poll {
    /// The queue, worked by this process.
    pub fn new(context: Context) -> Self {
        Self { context }
    }

    async fn turn(&self, job: &Job, Payload { user, account }: Payload) -> Result<Outcome> {
        let store = self.context.store();
        let owner = Owner { user, account };
        if let Some(later) = accounts_behind(&self.context, job.shard, account).await? {
            return Ok(later);
        }
        let wishes = Wishes::of(store, owner).await?;
        let standing = store.poll_standing(owner).await?;
        let Some(standing) = standing.filter(|it| it.is_active) else {
            store.forget_poll(owner).await?;
            return wishes.refuse(store, "The account is not connected").await;
        };
        if standing.needs_reconnect {
            let text = "The account must be connected again";
            return wishes.refuse(store, text).await;
        }
        let platform = standing.platform;
        let polled = self.context.platform(platform);
        let polled = polled.and_then(|(adapter, app)| Some((adapter, app, adapter.polling()?)));
        let Some((adapter, app, polling)) = polled else {
            let text = format!("{platform} pushes what is new: there is nothing to fetch");
            return wishes.refuse(store, &text).await;
        };
        if let Some(held) = standing.held {
            let text = format!("{platform} asked to be left alone for a while");
            return wishes.hold(store, &text, held).await;
        }
        let turn = Turn {
            context: &self.context,
            job,
            owner,
            standing,
            polling,
            adapter,
            app,
            wishes,
            version: None,
            pages: Vec::new(),
            kept: 0,
        };
        turn.run().await
    }
}

impl Turn<'_> {
    fn store(&self) -> &Store {
        self.context.store()
    }

    async fn run(mut self) -> Result<Outcome> {
        let platform = self.standing.platform;
        let renewal = self
            .context
            .renewal(platform, self.owner, &self.standing.route);
        let Some(renewal) = renewal else {
            return self.cannot("there is no adapter").await;
        };
        let mut outcome = self.ask(renewal.access().await?).await?;
        // A token the platform does not know may be one that can be renewed.
        if let Some(Err(CallFailure::Reconnect { .. })) = &outcome
            && let Some(version) = self.version
            && let Some(access) = renewal.after_refusal(version).await?
        {
            outcome = self.ask(access).await?;
        }
        let Some(outcome) = outcome else {
            return self.cannot("this account does not allow to ask").await;
        };
        let label = match &outcome {
            Ok(_) => "done",
            Err(CallFailure::RetryAfter { .. }) => "retry_after",
            Err(CallFailure::Backoff { .. }) => "backoff",
            Err(CallFailure::Reconnect { .. }) => "reconnect",
            Err(CallFailure::Permanent { .. }) => "permanent",
        };
        metrics::counter!("hub_polls_total", "platform" => platform.name(), "outcome" => label)
            .increment(1);
        match outcome {
            Ok(cursor) => self.done(cursor).await,
            Err(failure) => self.failed(failure).await,
        }
    }

    /// Asks with these tokens, if they may be used, and looks for what webhooks missed. `None` when the
    /// account cannot be asked at all.
    async fn ask(
        &mut self,
        access: Access,
    ) -> Result<Option<std::result::Result<Value, CallFailure>>> {
        let held = match access.granted() {
            Ok(Some(held)) => held,
            Ok(None) => return Ok(None),
            Err(failure) => return Ok(Some(Err(failure))),
        };
        self.version = Some(held.state.version);
        // Whoever looks further back than the cursor does not move it.
        let cursor = self.standing.cursor.clone();
        let (cursor, now) = match self.wishes.since() {
            Some(since) => (None, since.min(Utc::now()) + FIRST_LOOK_BACK),
            None => (cursor, Utc::now()),
        };
        let credentials = &held.credentials;
        let flow = self
            .adapter
            .poll(self.app, credentials, cursor.as_ref(), now);
        let polled = match flow {
            Some(flow) => Some(self.talk(flow, self.repairs()).await?),
            None => None,
        };
        let cursor = match &polled {
            Some(Ok(moved)) => Some(moved.clone()),
            // What the account may not be asked for does not keep it from the rest.
            None | Some(Err(CallFailure::Permanent { .. })) => cursor,
            Some(Err(_)) => return Ok(polled),
        };
        let swept = self.sweep(credentials, cursor.as_ref()).await?;
        Ok(match (polled, swept) {
            (polled, None) => polled,
            (Some(Ok(cursor)), Some(Err(_))) => Some(Ok(cursor)),
            (_, swept) => swept,
        })
    }

    /// Looks for what webhooks should have brought, if the adapter has a way and it is due. Left out
    /// while what is left of the account's calls should be kept for what people wait for.
    async fn sweep(
        &mut self,
        credentials: &Credentials,
        cursor: Option<&Value>,
    ) -> Result<Option<std::result::Result<Value, CallFailure>>> {
        let on = Occasion {
            now: Utc::now(),
            since: self.wishes.since(),
            is_wanted: !self.wishes.is_empty(),
        };
        let Some(flow) = self.adapter.sweep(self.app, credentials, cursor, on) else {
            return Ok(None);
        };
        let (platform, owner) = (self.standing.platform, self.owner);
        if let Some(wait) = self.context.spare_after(platform, owner).await {
            let reason = "what is left of the account's calls is kept for answers".to_owned();
            return Ok(Some(Err(CallFailure::RetryAfter { wait, reason })));
        }
        let goes_on = self.standing.cursor.is_some() && self.wishes.since().is_none();
        let swept = self.talk(flow, goes_on).await?;
        if let Err(failure) = &swept {
            tracing::info!(%platform, account = %owner.account, ?failure, "a sweep did not work");
        }
        Ok(Some(swept))
    }

    /// There is nothing to ask with; the account is looked at again from time to time.
    async fn cannot(&self, reason: &str) -> Result<Outcome> {
        let next = self.polling.interval(u32::MAX);
        self.ended(next, false, self.standing.idle, Some(reason))
            .await?;
        self.wishes.refuse(self.store(), reason).await
    }

    /// Talks with the platform until it has said everything; keeps what it says, as a repair where
    /// webhooks should have brought it.
    async fn talk(
        &mut self,
        mut flow: Box<dyn PollFlow>,
        repairs: bool,
    ) -> Result<std::result::Result<Value, CallFailure>> {
        let mut answer = None;
        for _ in 0..STEPS_MAX {
            // Adapters are pure: one that panics has only the platform's answer to blame.
            let step = catch_unwind(AssertUnwindSafe(|| flow.next(answer.take())));
            match step {
                Ok(PollStep::Call(request)) => {
                    // A worker that was believed dead finds out before it calls.
                    jobs::extend(self.store().pool(), self.job, LEASE).await?;
                    let platform = self.standing.platform;
                    match self
                        .context
                        .call_as(platform, self.owner, "poll", request)
                        .await?
                    {
                        Called::Answered(answered) => answer = Some(answered),
                        Called::NotNow(not_now) => return Ok(Err(not_now.failure())),
                    }
                }
                Ok(PollStep::Keep(body)) => self.keep(&body, repairs).await?,
                Ok(PollStep::Done { cursor }) => return Ok(Ok(cursor)),
                Ok(PollStep::Failed(failure)) => return Ok(Err(failure)),
                Err(_) => {
                    let reason = "the adapter panicked over an answer".to_owned();
                    return Ok(Err(CallFailure::Permanent { reason }));
                }
            }
        }
        let reason = "the poll did not end".to_owned();
        Ok(Err(CallFailure::Permanent { reason }))
    }

    /// Puts a page into the log of raw input, unless there is certainly nothing in it.
    async fn keep(&mut self, body: &[u8], repairs: bool) -> Result<()> {
        let (store, platform) = (self.context.store(), self.standing.platform);
        let route = &self.standing.route;
        let facts = catch_unwind(AssertUnwindSafe(|| {
            self.adapter.translate(self.app, Some(route), body)
        }));
        if let Ok(Ok(facts)) = facts
            && facts.iter().all(|fact| fact.kind == FactKind::Ignored)
        {
            return Ok(());
        }
        let sealed_at = Utc::now();
        let routes = std::slice::from_ref(route);
        let body = store
            .vault()
            .seal_raw(platform, routes, sealed_at, &STANDARD.encode(body))
            .await?;
        let answer =
            (!self.wishes.is_empty()).then(|| Key::of(&[b"page", Uuid::new_v4().as_bytes()]));
        self.pages.extend(answer);
        let command = NewCommand {
            shard: store.sharding().of_route(platform, route),
            command: Command::Page {
                platform,
                user: self.owner.user,
                account: self.owner.account,
                route: route.clone(),
                body,
                sealed_at,
                repairs,
                answer,
            },
            request: Some(format!("poll-{}-{}", self.owner.account, self.job.fence)),
        };
        store.accept(command).await?;
        self.kept += 1;
        metrics::counter!("hub_poll_pages_total", "platform" => platform.name()).increment(1);
        Ok(())
    }

    /// Whether webhooks should have brought what this poll finds: not what is older than the
    /// subscription, which a first poll finds and one that looks back on purpose.
    fn repairs(&self) -> bool {
        let goes_on = self.standing.cursor.is_some() && self.wishes.since().is_none();
        self.polling.kind == PollKind::Sweep && goes_on
    }

    async fn done(self, cursor: Value) -> Result<Outcome> {
        let store = self.store();
        let moved = self.standing.cursor.as_ref() != Some(&cursor);
        if moved && self.wishes.since().is_none() {
            let event = AccountPolled {
                user: self.owner.user,
                account: self.owner.account,
                cursor,
            };
            self.append(b"polled", event).await?;
        }
        let idle = match self.kept {
            0 => self.standing.idle.saturating_add(1),
            _ => 0,
        };
        let next = polling::spread(self.polling.interval(idle), entropy());
        self.ended(next, false, idle, None).await?;
        let shard = store.sharding().of_user(self.owner.user);
        let messages = wishes::brought(store, self.owner, &self.pages).await?;
        self.wishes
            .grant(store, shard, &PollAnswer::Polled { messages })
            .await?;
        Ok(Outcome::Done)
    }

    async fn failed(self, failure: CallFailure) -> Result<Outcome> {
        let platform = self.standing.platform;
        let idle = self.standing.idle;
        let (reason, retryable) = match &failure {
            CallFailure::RetryAfter { reason, .. } | CallFailure::Backoff { reason } => {
                (reason, true)
            }
            CallFailure::Reconnect { reason } | CallFailure::Permanent { reason } => {
                (reason, false)
            }
        };
        tracing::info!(%platform, account = %self.owner.account, reason, "a poll did not work");
        let mut answer = PollAnswer::Failed {
            message: format!("{platform} could not be asked: {reason}"),
            retryable,
            retry_after_s: None,
        };
        match &failure {
            CallFailure::RetryAfter { wait, reason } => {
                let wait = polling::asked(*wait);
                if let PollAnswer::Failed { retry_after_s, .. } = &mut answer {
                    *retry_after_s = Some(wait.as_secs().max(1));
                }
                self.ended(wait, true, idle, Some(reason)).await?;
            }
            CallFailure::Backoff { reason } => {
                let tried = self.job.attempts.unsigned_abs();
                if let Some(after) = polling::again_after(tried) {
                    // Whoever waits is told at once, and the tries go on without them.
                    self.answer(&answer).await?;
                    let reason = reason.clone();
                    return Ok(Outcome::Retry { after, reason });
                }
                let pause = self.polling.after_trouble(self.standing.failures);
                self.ended(polling::spread(pause, entropy()), false, idle, Some(reason))
                    .await?;
            }
            CallFailure::Reconnect { reason } => {
                // Whoever connected it again meanwhile has brought another token.
                if let Some(version) = self.version {
                    self.context.refuse(self.owner, version, reason).await?;
                }
                self.ended(self.polling.every, false, idle, Some(reason))
                    .await?;
            }
            CallFailure::Permanent { reason } => {
                let next = polling::spread(self.polling.interval(idle), entropy());
                self.ended(next, false, idle, Some(reason)).await?;
            }
        }
        self.answer(&answer).await?;
        Ok(Outcome::Done)
    }

    async fn answer(&self, answer: &PollAnswer) -> Result<()> {
        let shard = self.store().sharding().of_user(self.owner.user);
        self.wishes.grant(self.store(), shard, answer).await
    }

    async fn ended(
        &self,
        next: Duration,
        held: bool,
        idle: u32,
        error: Option<&str>,
    ) -> Result<()> {
        let ended = Ended {
            next,
            held,
            idle,
            error,
        };
        self.store().poll_ended(self.owner, &ended).await
    }

    /// Appends what this claim found out, once.
    async fn append(&self, what: &[u8], event: impl Into<hub_domain::event::Event>) -> Result<()> {
        let fence = self.job.fence.to_be_bytes();
        let key = Key::of(&[what, self.job.id.as_bytes(), &fence]);
        let shard = self.store().sharding().of_user(self.owner.user);
        let append = Append::one(shard, self.owner.account, event).once(key);
        self.store().append(append).await?;
        Ok(())
    }
}

impl Queue for Poll {
    const NAME: &'static str = QUEUE;

    /// A failure of ours parks nothing: the account would leave the schedule with it.
    async fn run(&self, job: &Job) -> Result<Outcome> {
        let Ok(payload) = serde_json::from_value::<Payload>(job.payload.clone()) else {
            return Ok(Outcome::Park {
                reason: "the payload is malformed".to_owned(),
            });
        };
        match self.turn(job, payload).await {
            Err(error) => {
                let reason = error.to_string();
                match polling::again_after(job.attempts.unsigned_abs()) {
                    Some(after) => Ok(Outcome::Retry { after, reason }),
                    None => {
                        tracing::warn!(account = job.key, reason, "a poll will be tried later");
                        Ok(Outcome::Again(polling::AFTER_TROUBLE))
                    }
                }
            }
            outcome => outcome,
        }
    }
}
