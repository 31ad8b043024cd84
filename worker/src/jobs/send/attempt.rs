//! One attempt at one message: written down first, then called, and the answer kept.

use std::time::Duration;

use chrono::Utc;
use hub_domain::envelope::Append;
use hub_domain::event::{FailureClass, SendAttempted};
use hub_domain::id::{Key, MessageId};
use hub_domain::platform::telegram_user::Handed;
use hub_domain::platform::{Credentials, Outbound, SendOutcome};
use hub_domain::projection::inbox::State;
use hub_store::Result;
use hub_store::entity::{account, message};
use hub_store::signal::Topic;
use hub_store::usage::Call;

use super::outcome::count;
use super::upload::stored;
use super::{NOT_CONNECTED, Next, STOPPED, Turn, parts};
use crate::renewal::{Access, Renewal};
use crate::telegram_user::{Failure, outcome};

/// A call that is answered sooner is not asked about elsewhere: while it is under way, read models
/// move many times a second, and each time would be a query.
const ECHO_AFTER: Duration = Duration::from_millis(200);

pub(super) fn attempt_key(message: MessageId, attempt: u32) -> Key {
    Key::of(&[b"attempt", message.0.as_bytes(), &attempt.to_be_bytes()])
}

impl Turn<'_> {
    /// Makes the next attempt, unless it may not be made now.
    pub(super) async fn attempt(
        &self,
        account: &account::Model,
        row: &message::Model,
    ) -> Result<Next> {
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
        let handed = match self.is_session {
            true => self.handed_over(row, &held).await?.map(|it| (None, it)),
            false => self.medium(row, &held).await?.map(|it| (it, None)),
        };
        let (medium, file) = match handed {
            Ok(handed) => handed,
            Err(next) => return Ok(next),
        };
        // Handing the file over may have taken as long as Telegram remembers what was sent.
        let may_be_sent = parts::may_be_sent(row);
        if may_be_sent && !self.is_repeatable(row) {
            let attempt = row.attempts.unsigned_abs();
            return self.uncertain(row, attempt, STOPPED).await;
        }
        let platform = self.adapter.platform();
        let (context, paused) = (self.context, held.state.paused);
        if let Some(not_now) = context.admit_unless(paused, platform, self.owner).await {
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
            let told = (outbound.text.as_str(), file.as_ref());
            match self.by_session(row, told, may_be_sent).await {
                Ok(outcome) => outcome,
                Err(next) => return Ok(next),
            }
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

    /// Sends by the account's own session. [`Next`]: an attempt before this one may have sent the
    /// message, and this one did not find out.
    async fn by_session(
        &self,
        row: &message::Model,
        told: (&str, Option<&Handed>),
        may_be_sent: bool,
    ) -> std::result::Result<SendOutcome, Next> {
        let (sessions, account) = (self.context.telegram(), self.owner.account);
        let message = MessageId(row.id);
        let failure = match sessions.send(account, &self.thread, told, message).await {
            Ok(id) => {
                return Ok(SendOutcome::Sent {
                    platform_message_id: id.to_string(),
                });
            }
            Err(failure) => failure,
        };
        if let (Failure::Incomplete { .. }, Some(file)) = (&failure, stored(row)) {
            self.context.handles().forget(account, file.object);
        }
        match failure {
            failure if !may_be_sent => Ok(outcome(failure)),
            Failure::Wait { seconds, .. } => Err(Next::Pause(Duration::from_secs(seconds))),
            Failure::NotSent { .. } | Failure::Incomplete { .. } => Err(Next::Pause(parts::AGAIN)),
            // What is refused now says nothing about the attempt before.
            failure => Ok(SendOutcome::Unclear {
                reason: failure.reason().to_owned(),
            }),
        }
    }

    pub(super) fn renewal(&self) -> Renewal {
        Renewal {
            context: self.context.clone(),
            adapter: self.adapter,
            app: self.app.clone(),
            owner: self.owner,
            route: self.route.clone(),
        }
    }

    /// What to send; `None` when it was erased.
    pub(super) async fn text(&self, row: &message::Model) -> Result<Option<String>> {
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
        if let Ok(answer) = tokio::time::timeout(ECHO_AFTER, &mut answer).await {
            return Ok(Some(self.adapter.interpret(&answer)));
        }
        let mut listener = self.context.store().signals().listen(Topic::Projected);
        loop {
            let row = self.context.store().message(self.user, message).await?;
            if row.is_some_and(|(row, ..)| row.state == State::Sent.name()) {
                return Ok(None);
            }
            tokio::select! {
                answer = &mut answer => return Ok(Some(self.adapter.interpret(&answer))),
                () = listener.wait(Duration::from_secs(1)) => {}
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
}
