//! Sending: one visible effect per command, in order, whatever dies in between.
//!
//! A job stands for a conversation, not for a message: whoever holds its lease sends what is
//! queued, oldest first. Before a call leaves, the attempt is in the log, under a key that exists
//! once; after it the outcome is. An attempt without an outcome (a crash, a time-out) is
//! *uncertain*: it is never repeated. The platform's echo settles it where there is one; until
//! then, for a bounded time, later messages of the conversation wait behind it. Where the platform
//! tells of our messages without a reference, the only one with the same text is it.
//!
//! A turn that may not call now (the account's budget is spent, it is paused, its token is being
//! renewed) ends before an attempt is written down: nothing counts against the message, and the
//! order stays. What a platform refused because of the token is sent once more within the same
//! attempt when there is a newer token: a refusal is certain.

mod attempt;
mod discard;
mod outcome;
mod parts;
mod upload;

use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use hub_config::WorkerSettings;
use hub_domain::envelope::Append;
use hub_domain::event::{FailureClass, MessageSent, SendFailed, Thread};
use hub_domain::id::{AccountId, ConversationId, Key, MessageId, Shard, UserId};
use hub_domain::limits::SENDS_PER_TURN_MAX;
use hub_domain::platform::telegram_user;
use hub_domain::platform::{Adapter, App, Platform, Reconcile};
use hub_domain::projection::inbox::State;
use hub_store::account::Owner;
use hub_store::entity::{account, message};
use hub_store::jobs::{Job, NewJob, Outcome};
use hub_store::project::Projection;
use hub_store::{Result, Store, parked};
use serde::{Deserialize, Serialize};

use super::Queue;
use crate::Context;

pub(crate) use discard::GivenUp;
pub(crate) use upload::Handles;

/// A turn ends after this long even if more is queued, so that others get theirs.
const TURN_MAX: Duration = Duration::from_secs(2);

/// How long a turn waits for the read model to show what the log already has.
const CATCH_UP_MAX: Duration = Duration::from_secs(2);

/// How soon to look again whether an uncertain send was settled.
const SETTLE_LOOK: Duration = Duration::from_secs(2);

/// By how much the platform's clock may be behind ours.
const CLOCKS_DIFFER: TimeDelta = TimeDelta::minutes(1);

/// Messages of ours looked at to recognise an uncertain one.
const OBSERVED_MAX: u64 = 50;

/// How soon to look again at a conversation whose events a read model holds back.
const HELD_LOOK: Duration = Duration::from_secs(5);

const NOT_CONNECTED: &str = "The account is no longer connected.";

/// Why nobody knows how an attempt ended whose worker is gone.
const STOPPED: &str = "the worker stopped during the call";

/// How soon a send that another process has to make is put before it again.
const ELSEWHERE: Duration = Duration::from_millis(100);

/// Telegram remembers for minutes under which number a message was sent.
const REPEATABLE: chrono::Duration = chrono::Duration::minutes(4);

/// The queue of sends.
#[derive(Clone)]
pub struct Send {
    context: Context,
}

#[derive(Serialize, Deserialize)]
struct Payload {
    user: UserId,
    conversation: ConversationId,
}

/// The job of a conversation's sends.
pub fn job(shard: Shard, at: &Thread) -> NewJob {
    NewJob {
        shard,
        queue: Send::NAME,
        key: at.conversation.to_string(),
        payload: serde_json::json!(Payload {
            user: at.user,
            conversation: at.conversation,
        }),
        delay: Duration::ZERO,
    }
}

/// A message is sent once, whoever reports it: the answer to the call or the platform's echo.
pub fn sent_key(message: MessageId) -> Key {
    Key::of(&[b"sent", message.0.as_bytes()])
}

fn outcome_key(message: MessageId, attempt: u32) -> Key {
    Key::of(&[b"outcome", message.0.as_bytes(), &attempt.to_be_bytes()])
}

/// What one conversation's turn works with.
struct Turn<'a> {
    context: &'a Context,
    /// A Telegram user account: its session sends, and a number makes it happen once.
    is_session: bool,
    adapter: &'static dyn Adapter,
    app: &'a App,
    owner: Owner,
    route: String,
    shard: Shard,
    user: UserId,
    conversation: ConversationId,
    thread: String,
}

/// What to do after one message.
enum Next {
    /// Go on with the next message.
    Message,
    /// Pause the conversation.
    Pause(Duration),
}

impl Send {
    /// The queue, worked by this process.
    pub fn new(context: Context) -> Self {
        Self { context }
    }

    fn store(&self) -> &Store {
        self.context.store()
    }

    async fn turn(&self, job: &Job, payload: &Payload) -> Result<Outcome> {
        let store = self.store();
        let (user, conversation) = (payload.user, payload.conversation);
        // What is queued later raises the job's seq and is seen by the next run.
        if !store.wait_for_projections(job.shard, CATCH_UP_MAX).await? {
            return Ok(Outcome::Again(Duration::from_millis(100)));
        }
        if self.is_held(job.shard, conversation).await? {
            return Ok(Outcome::Again(HELD_LOOK));
        }
        let pending = store
            .unsettled_messages(user, conversation, SENDS_PER_TURN_MAX as u64 * 2)
            .await?;
        if pending.is_empty() {
            return Ok(Outcome::Done);
        }
        let found = store.conversation(user, conversation).await?;
        let Some((row, account)) = found else {
            return self.give_up(job.shard, payload, &pending).await;
        };
        let owner = Owner {
            user,
            account: AccountId(account.id),
        };
        let platform: Platform = match account.platform.parse() {
            Ok(platform) => platform,
            Err(error) => return Ok(park(format!("{}: {error}", account.platform))),
        };
        let Some((adapter, app)) = self.context.platform(platform) else {
            return Ok(park(format!("no adapter for {platform}")));
        };
        let Some(credentials) = store.credentials(owner, &account.route).await? else {
            return self.give_up(job.shard, payload, &pending).await;
        };
        let is_session = telegram_user::is_session(credentials.access_token.expose());
        if is_session
            && account.needs_reconnect.is_none()
            && !self.context.telegram().holds(owner.account)
        {
            return Ok(Outcome::Again(ELSEWHERE));
        }
        let turn = Turn {
            is_session,
            context: &self.context,
            adapter,
            app,
            owner,
            route: account.route.clone(),
            shard: job.shard,
            user,
            conversation,
            thread: row.thread,
        };
        turn.run(&account, pending).await
    }

    /// The account is gone: what waits will not be sent.
    async fn give_up(
        &self,
        shard: Shard,
        payload: &Payload,
        pending: &[message::Model],
    ) -> Result<Outcome> {
        let reason = NOT_CONNECTED;
        let why = (FailureClass::Disconnected, reason);
        self.fail_all(shard, payload, pending, why).await?;
        Ok(Outcome::Done)
    }

    async fn fail_all(
        &self,
        shard: Shard,
        payload: &Payload,
        pending: &[message::Model],
        (class, reason): (FailureClass, &str),
    ) -> Result<()> {
        for row in pending
            .iter()
            .filter(|row| row.state != State::Uncertain.name())
        {
            let event = SendFailed {
                user: payload.user,
                conversation: payload.conversation,
                message: MessageId(row.id),
                class,
                reason: reason.to_owned(),
            };
            let key = Key::of(&[b"given up", row.id.as_bytes()]);
            self.store()
                .append(Append::one(shard, payload.conversation, event).once(key))
                .await?;
        }
        Ok(())
    }

    /// True while the read model holds events of the conversation back: what it shows as queued may
    /// be under way, and what is queued may not show.
    async fn is_held(&self, shard: Shard, conversation: ConversationId) -> Result<bool> {
        let inbox = Projection::Inbox.name();
        parked::is_held(self.store().pool(), inbox, shard, conversation.into()).await
    }
}

fn park(reason: String) -> Outcome {
    Outcome::Park { reason }
}

impl Queue for Send {
    const NAME: &'static str = "send";

    fn at_once(settings: &WorkerSettings) -> usize {
        settings.sends
    }

    async fn run(&self, job: &Job) -> Result<Outcome> {
        match serde_json::from_value::<Payload>(job.payload.clone()) {
            Ok(payload) => self.turn(job, &payload).await,
            Err(error) => Ok(park(error.to_string())),
        }
    }
}

impl Turn<'_> {
    async fn run(&self, account: &account::Model, pending: Vec<message::Model>) -> Result<Outcome> {
        let started = Instant::now();
        for (sent, row) in pending.iter().enumerate() {
            if sent >= SENDS_PER_TURN_MAX || started.elapsed() >= TURN_MAX {
                return Ok(Outcome::Again(Duration::ZERO));
            }
            let next = match State::from_name(&row.state) {
                Some(State::Queued) => self.attempt(account, row).await?,
                Some(State::Delayed) => match wait(row.retry_at) {
                    Some(wait) => Next::Pause(wait),
                    None => self.attempt(account, row).await?,
                },
                // We hold the lease, so whoever began this attempt is gone: nobody knows how it
                // ended.
                Some(State::Sending)
                    if self.is_repeatable(row) && account.needs_reconnect.is_none() =>
                {
                    self.attempt(account, row).await?
                }
                Some(State::Sending) => {
                    let attempt = row.attempts.unsigned_abs();
                    self.uncertain(row, attempt, STOPPED).await?
                }
                Some(State::Uncertain) => match wait(row.retry_at) {
                    Some(_) if self.recognised(row).await? => Next::Message,
                    Some(wait) => Next::Pause(wait.min(SETTLE_LOOK)),
                    None => Next::Message,
                },
                _ => Next::Message,
            };
            if let Next::Pause(after) = next {
                return Ok(Outcome::Again(after));
            }
        }
        // The newest state is in the log, not yet in these rows; a page may not have been all.
        let is_all = pending.len() < SENDS_PER_TURN_MAX * 2;
        Ok(if is_all {
            Outcome::Done
        } else {
            Outcome::Again(Duration::ZERO)
        })
    }

    /// Whether an attempt that nobody knows the end of may be repeated: the platform takes the same
    /// number once, as long as it remembers.
    fn is_repeatable(&self, row: &message::Model) -> bool {
        self.is_session && Utc::now() - row.created_at < REPEATABLE
    }

    /// Looks for an uncertain message among those of ours that the platform has told of since,
    /// where it gives no reference back. Two that read the same prove nothing.
    async fn recognised(&self, row: &message::Model) -> Result<bool> {
        if self.adapter.capabilities().reconcile != Reconcile::Likeness {
            return Ok(false);
        }
        let Some(text) = self.text(row).await? else {
            return Ok(false);
        };
        let store = self.context.store();
        let since = row.created_at - CLOCKS_DIFFER;
        let observed = store
            .observed_since(self.user, self.conversation, since, OBSERVED_MAX)
            .await?;
        let mut alike = Vec::new();
        for it in observed {
            if self
                .text(&it)
                .await?
                .is_some_and(|it| words(&it) == words(&text))
            {
                alike.push(it);
            }
        }
        let (Some(found), true) = (alike.pop(), alike.is_empty()) else {
            return Ok(false);
        };
        let Some(platform_message_id) = found.platform_message_id else {
            return Ok(false);
        };
        let message = MessageId(row.id);
        let event = MessageSent {
            user: self.user,
            conversation: self.conversation,
            message,
            platform_message_id,
            sent_at: found.sent_at.unwrap_or(found.created_at),
        };
        self.append(event, sent_key(message)).await?;
        Ok(true)
    }
}

/// A text by its words: platforms change the space between them.
fn words(text: &str) -> Vec<&str> {
    text.split_whitespace().collect()
}

/// Time left until then, `None` when it has passed.
fn wait(until: Option<DateTime<Utc>>) -> Option<Duration> {
    (until? - Utc::now())
        .to_std()
        .ok()
        .filter(|wait| !wait.is_zero())
}
