//! Giving up on a conversation's sends: each message gets an end in the log.

use chrono::Utc;
use hub_domain::envelope::Append;
use hub_domain::event::{FailureClass, SendUncertain};
use hub_domain::id::{MessageId, Shard};
use hub_domain::projection::inbox::State;
use hub_store::Result;
use serde::Deserialize as _;
use serde_json::Value;

use super::{CATCH_UP_MAX, Payload, Send, outcome_key};

/// Messages given up on at a time.
const PAGE: u64 = 1_000;

/// What became of the messages of a conversation that was given up on.
pub(crate) enum GivenUp {
    /// The log has an end of each.
    Told,
    /// The read model does not show all of them: ask again.
    NotYet,
    /// The job does not say which conversation it is about.
    Malformed,
}

impl Send {
    /// An operator has given up on this conversation's sends: what waits will not be sent, and what
    /// was under way stays uncertain.
    pub(crate) async fn give_up_all(&self, shard: Shard, payload: &Value) -> Result<GivenUp> {
        let Ok(payload) = Payload::deserialize(payload) else {
            return Ok(GivenUp::Malformed);
        };
        let (user, conversation) = (payload.user, payload.conversation);
        let shown = self.store().wait_for_projections(shard, CATCH_UP_MAX);
        if !shown.await? || self.is_held(shard, conversation).await? {
            return Ok(GivenUp::NotYet);
        }
        let page = self.store().unsettled_messages(user, conversation, PAGE);
        let page = page.await?;
        let (under_way, unsent): (Vec<_>, Vec<_>) = page
            .into_iter()
            .filter(|row| row.state != State::Uncertain.name())
            .partition(|row| row.state == State::Sending.name());
        for row in under_way {
            let (message, attempt) = (MessageId(row.id), row.attempts.unsigned_abs());
            let event = SendUncertain {
                user,
                conversation,
                message,
                attempt,
                reason: "the worker stopped during the call".to_owned(),
                settle_by: Utc::now(),
            };
            let key = outcome_key(message, attempt);
            let append = Append::one(shard, conversation, event).once(key);
            self.store().append(append).await?;
        }
        let why = (FailureClass::Permanent, "An operator discarded it.");
        self.fail_all(shard, &payload, &unsent, why).await?;
        // A page may not have been all; these will have left it.
        Ok(if unsent.is_empty() {
            GivenUp::Told
        } else {
            GivenUp::NotYet
        })
    }
}
