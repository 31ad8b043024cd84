//! How an attempt ended, as an event, and what follows for the rest of the conversation.

use std::time::Duration;

use chrono::{DateTime, Utc};
use hub_domain::envelope::Append;
use hub_domain::event::{Event, FailureClass, MessageSent, SendDelayed, SendFailed, SendUncertain};
use hub_domain::id::{Key, MessageId};
use hub_domain::platform::{Platform, Reconcile, SendOutcome};
use hub_domain::retry;
use hub_store::Result;
use hub_store::entity::message;

use super::{Next, SETTLE_LOOK, Turn, outcome_key, sent_key};
use crate::jobs::entropy;

impl Turn<'_> {
    /// Writes down what the answer means.
    pub(super) async fn record(
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
                if self.is_session || !self.adapter.is_about_thread(wait) {
                    self.context.pause(self.owner, wait).await?;
                }
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

    /// The message will not be sent.
    pub(super) async fn failed(
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

    /// Nobody knows whether the platform has the message.
    pub(super) async fn uncertain(
        &self,
        row: &message::Model,
        attempt: u32,
        reason: &str,
    ) -> Result<Next> {
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

    pub(super) async fn append(&self, event: impl Into<Event>, key: Key) -> Result<()> {
        let append = Append::one(self.shard, self.conversation, event).once(key);
        self.context.store().append(append).await.map(|_| ())
    }
}

/// Counts a call by how it ended.
pub(super) fn count(platform: Platform, outcome: &SendOutcome) {
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
