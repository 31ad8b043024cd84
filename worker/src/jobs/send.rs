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

mod discard;
mod upload;

use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use hub_domain::envelope::Append;
use hub_domain::event::{
    Event, FailureClass, MessageSent, SendAttempted, SendDelayed, SendFailed, SendUncertain, Thread,
};
use hub_domain::id::{AccountId, ConversationId, Key, MessageId, Place, Shard, UserId};
use hub_domain::limits::SENDS_PER_TURN_MAX;
use hub_domain::platform::telegram_user;
use hub_domain::platform::{Adapter, App, Credentials, Outbound, Platform, Reconcile, SendOutcome};
use hub_domain::projection::inbox::State;
use hub_domain::retry;
use hub_store::account::Owner;
use hub_store::entity::{account, message};
use hub_store::jobs::{Job, NewJob, Outcome};
use hub_store::project::Projection;
use hub_store::signal::Topic;
use hub_store::usage::Call;
use hub_store::{Result, Store, parked, read};
use serde::{Deserialize, Serialize};

use super::{Queue, entropy};
use crate::Context;
use crate::renewal::{Access, Renewal};

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

fn attempt_key(message: MessageId, attempt: u32) -> Key {
    Key::of(&[b"attempt", message.0.as_bytes(), &attempt.to_be_bytes()])
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

    /// Waits until the read model shows everything the log has now. What is queued later raises
    /// the job's seq and is seen by the next run.
    async fn catch_up(&self, shard: Shard) -> Result<bool> {
        let position = read::head(self.store().pool(), shard).await?;
        let place = Place { shard, position };
        self.store()
            .wait_for_projection(Projection::Accounts, place, CATCH_UP_MAX)
            .await?;
        self.store()
            .wait_for_projection(Projection::Inbox, place, CATCH_UP_MAX)
            .await
    }

    async fn turn(&self, job: &Job, payload: &Payload) -> Result<Outcome> {
        let store = self.store();
        let (user, conversation) = (payload.user, payload.conversation);
        if !self.catch_up(job.shard).await? {
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
                Some(State::Sending) if self.is_repeatable(row) => {
                    self.attempt(account, row).await?
                }
                Some(State::Sending) => {
                    let attempt = row.attempts.unsigned_abs();
                    self.uncertain(row, attempt, "the worker stopped during the call")
                        .await?
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

    async fn attempt(&self, account: &account::Model, row: &message::Model) -> Result<Next> {
        let message = MessageId(row.id);
        if let Some(reason) = &account.needs_reconnect {
            let reason = reason.clone();
            return self
                .failed(message, 0, FailureClass::Reconnect, reason)
                .await;
        }
        let store = self.context.store();
        let Some(text) = self.text(row).await? else {
            let reason = "The text was erased before it was sent.".to_owned();
            return self
                .failed(message, 0, FailureClass::Permanent, reason)
                .await;
        };
        let held = match self.renewal().access().await? {
            Access::Granted(held) => held,
            Access::Wait { after, .. } => return Ok(Next::Pause(after)),
            Access::Refused { reason } => {
                return self
                    .failed(message, 0, FailureClass::Reconnect, reason)
                    .await;
            }
            Access::Gone => {
                let reason = NOT_CONNECTED.to_owned();
                return self
                    .failed(message, 0, FailureClass::Disconnected, reason)
                    .await;
            }
        };
        let medium = match self.medium(row, &held).await? {
            Ok(medium) => medium,
            Err(next) => return Ok(next),
        };
        let platform = self.adapter.platform();
        if let Some(not_now) = self.context.admit(platform, self.owner).await? {
            return Ok(Next::Pause(not_now.come_back()));
        }
        let outbound = Outbound {
            thread: self.thread.clone(),
            text,
            client_ref: self.context.references().make(self.conversation, message),
            medium,
        };
        let attempt = row.attempts.unsigned_abs() + 1;
        let began = SendAttempted {
            user: self.user,
            conversation: self.conversation,
            message,
            attempt,
        };
        let began =
            Append::one(self.shard, self.conversation, began).once(attempt_key(message, attempt));
        if !store.append(began).await?.is_new() {
            // Somebody began this very attempt and the read model does not show it yet.
            return Ok(Next::Pause(Duration::from_millis(100)));
        }
        let at = Utc::now();
        let outcome = if self.is_session {
            let sessions = self.context.telegram();
            sessions
                .send(self.owner.account, &self.thread, &outbound.text, message)
                .await
        } else {
            match self.call(message, &held.credentials, &outbound).await? {
                Some(outcome) => outcome,
                None => return Ok(Next::Message),
            }
        };
        count(platform, &outcome);
        let version = held.state.version;
        let SendOutcome::Reconnect { reason } = outcome else {
            return self.record(row, attempt, at, version, outcome).await;
        };
        let (version, outcome) = match self.renewal().after_refusal(version).await? {
            Some(Access::Granted(held)) => {
                let version = held.state.version;
                match self.again(message, &held.credentials, &outbound).await? {
                    Some(outcome) => (version, outcome),
                    None => return Ok(Next::Message),
                }
            }
            Some(Access::Wait { after, reason }) => (
                version,
                SendOutcome::RetryAfter {
                    wait: after,
                    reason,
                },
            ),
            Some(Access::Refused { reason }) => (version, SendOutcome::Reconnect { reason }),
            Some(Access::Gone) | None => (version, SendOutcome::Reconnect { reason }),
        };
        self.record(row, attempt, at, version, outcome).await
    }

    fn renewal(&self) -> Renewal {
        Renewal {
            context: self.context.clone(),
            adapter: self.adapter,
            app: self.app.clone(),
            owner: self.owner,
            route: self.route.clone(),
        }
    }

    /// Whether an attempt that nobody knows the end of may be repeated: the platform takes the same
    /// number once, as long as it remembers.
    fn is_repeatable(&self, row: &message::Model) -> bool {
        self.is_session && Utc::now() - row.created_at < REPEATABLE
    }

    /// What to send; `None` when it was erased.
    async fn text(&self, row: &message::Model) -> Result<Option<String>> {
        let Some(sealed) = row.body.as_deref() else {
            return Ok(Some(String::new()));
        };
        let vault = self.context.store().vault();
        let keys = vault.keyring(self.user, [sealed]).await?;
        Ok(keys.open(sealed)?.text())
    }

    /// Makes the call. `None` when the platform's echo settled the message meanwhile: then there
    /// is nothing left to learn from an answer that may never come.
    async fn call(
        &self,
        message: MessageId,
        credentials: &Credentials,
        outbound: &Outbound,
    ) -> Result<Option<SendOutcome>> {
        let request = self.adapter.send(self.app, credentials, outbound);
        let call = Call {
            platform: self.adapter.platform(),
            endpoint: "send",
            user: Some(self.user),
            account: Some(self.owner.account),
        };
        let mut answer = std::pin::pin!(self.context.call(call, request));
        let mut listener = self.context.store().signals().listen(Topic::Projected);
        loop {
            tokio::select! {
                answer = &mut answer => return Ok(Some(self.adapter.interpret(&answer))),
                () = listener.wait(Duration::from_secs(1)) => {
                    let row = self.context.store().message(self.user, message).await?;
                    if row.is_some_and(|(row, ..)| row.state == State::Sent.name()) {
                        return Ok(None);
                    }
                }
            }
        }
    }

    /// The second call of an attempt, with newer tokens. It is counted like the first.
    async fn again(
        &self,
        message: MessageId,
        credentials: &Credentials,
        outbound: &Outbound,
    ) -> Result<Option<SendOutcome>> {
        let platform = self.adapter.platform();
        if let Some(not_now) = self.context.admit(platform, self.owner).await? {
            return Ok(Some(SendOutcome::RetryAfter {
                wait: not_now.come_back(),
                reason: "The account's budget of calls is spent.".to_owned(),
            }));
        }
        let outcome = self.call(message, credentials, outbound).await?;
        if let Some(outcome) = &outcome {
            count(platform, outcome);
        }
        Ok(outcome)
    }

    async fn record(
        &self,
        row: &message::Model,
        attempt: u32,
        at: DateTime<Utc>,
        version: i64,
        outcome: SendOutcome,
    ) -> Result<Next> {
        let message = MessageId(row.id);
        let policy = self.context.settings().send_retry;
        let (class, delay, reason) = match outcome {
            SendOutcome::Sent {
                platform_message_id,
            } => {
                let event = MessageSent {
                    user: self.user,
                    conversation: self.conversation,
                    message,
                    platform_message_id,
                    sent_at: at,
                };
                self.append(event, sent_key(message)).await?;
                return Ok(Next::Message);
            }
            SendOutcome::Unclear { reason } => {
                return self.uncertain(row, attempt, &reason).await;
            }
            SendOutcome::Reconnect { reason } => {
                self.context.refuse(self.owner, version, &reason).await?;
                return self
                    .failed(message, attempt, FailureClass::Reconnect, reason)
                    .await;
            }
            SendOutcome::OutsideWindow { reason } => {
                return self
                    .failed(message, attempt, FailureClass::OutsideWindow, reason)
                    .await;
            }
            SendOutcome::Permanent { reason } => {
                return self
                    .failed(message, attempt, FailureClass::Permanent, reason)
                    .await;
            }
            SendOutcome::RetryAfter { wait, reason } => {
                // Whoever it was said to, it is about the account: its other conversations wait too.
                self.context.pause(self.owner, wait).await?;
                let delay = retry::delay_at_least(policy, attempt, wait, entropy());
                (FailureClass::RateLimited, delay, reason)
            }
            SendOutcome::Backoff { reason } => (
                FailureClass::Temporary,
                retry::delay(policy, attempt, entropy()),
                reason,
            ),
        };
        let Some(delay) = delay else {
            return self
                .failed(message, attempt, FailureClass::Exhausted, reason)
                .await;
        };
        let event = SendDelayed {
            user: self.user,
            conversation: self.conversation,
            message,
            attempt,
            class,
            reason,
            retry_at: Utc::now() + delay,
        };
        self.append(event, outcome_key(message, attempt)).await?;
        Ok(Next::Pause(delay))
    }

    async fn failed(
        &self,
        message: MessageId,
        attempt: u32,
        class: FailureClass,
        reason: String,
    ) -> Result<Next> {
        let event = SendFailed {
            user: self.user,
            conversation: self.conversation,
            message,
            class,
            reason,
        };
        self.append(event, outcome_key(message, attempt)).await?;
        Ok(Next::Message)
    }

    async fn uncertain(&self, row: &message::Model, attempt: u32, reason: &str) -> Result<Next> {
        let message = MessageId(row.id);
        // Where nothing will ever be heard of it, waiting only delays the others.
        let window = match self.adapter.capabilities().reconcile {
            Reconcile::Echo | Reconcile::Likeness => self.context.settings().reconcile_window,
            Reconcile::Never => Duration::ZERO,
        };
        let event = SendUncertain {
            user: self.user,
            conversation: self.conversation,
            message,
            attempt,
            reason: reason.to_owned(),
            settle_by: Utc::now() + window,
        };
        self.append(event, outcome_key(message, attempt)).await?;
        Ok(if window.is_zero() {
            Next::Message
        } else {
            Next::Pause(SETTLE_LOOK.min(window))
        })
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

    async fn append(&self, event: impl Into<Event>, key: Key) -> Result<()> {
        let append = Append::one(self.shard, self.conversation, event).once(key);
        self.context.store().append(append).await.map(|_| ())
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

fn count(platform: Platform, outcome: &SendOutcome) {
    let outcome = match outcome {
        SendOutcome::Sent { .. } => "sent",
        SendOutcome::RetryAfter { .. } => "retry_after",
        SendOutcome::Backoff { .. } => "backoff",
        SendOutcome::Reconnect { .. } => "reconnect",
        SendOutcome::OutsideWindow { .. } => "outside_window",
        SendOutcome::Permanent { .. } => "permanent",
        SendOutcome::Unclear { .. } => "unclear",
    };
    metrics::counter!("hub_sends_total", "platform" => platform.name(), "outcome" => outcome)
        .increment(1);
}
