//! Which live changes an event causes: one rule for everybody who publishes.
//!
//! The order inside a change is the order clients see: a stored incoming message tells the message,
//! then the counts, then the conversation, once each (contract 3.3). A send never tells
//! `new_message`, because the sender's own client has drawn it already (contract 3.4).

use hub_domain::envelope::Recorded;
use hub_domain::event::{DATA_ACCESS_ENDS, Event, FailureClass, Receipt};
use hub_domain::id::{ConversationId, UserId};

use super::{Change, What};

/// What to tell whom about an event, or `None` when no client would show it.
///
/// Every event is matched without a wildcard, so a new kind stops the build here.
pub fn changes(recorded: &Recorded) -> Option<Change> {
    let about = |user: UserId, conversation: Option<ConversationId>, what: Vec<What>| {
        Some(Change {
            shard: recorded.place.shard,
            position: recorded.place.position,
            user,
            conversation,
            what,
        })
    };
    let within = |user, conversation, what| about(user, Some(conversation), what);
    match &recorded.event {
        Event::MessageReceived(it) => {
            let (at, message) = (&it.0.at, it.0.message);
            let what = vec![
                What::NewMessage { message },
                What::UnreadCounts,
                What::Conversation,
            ];
            within(at.user, at.conversation, what)
        }
        Event::MessageObserved(it) => {
            let (at, message) = (&it.0.at, it.0.message);
            let what = vec![What::NewMessage { message }, What::Conversation];
            within(at.user, at.conversation, what)
        }
        Event::MessageEdited(it) => within(it.user, it.conversation, vec![What::Conversation]),
        Event::MessageDeleted(it) => {
            let what = vec![What::UnreadCounts, What::Conversation];
            within(it.user, it.conversation, what)
        }
        Event::ReceiptReceived(it) => {
            let receipts = What::Receipts {
                platform_message_ids: it.platform_message_ids.clone(),
                watermark: it.watermark,
                status: status(it.receipt).to_owned(),
                at: it.at,
            };
            within(it.user, it.conversation, vec![receipts, What::Conversation])
        }
        // The contract has no event for a message that changed: clients load the thread again.
        Event::MediaStored(it) => within(it.user, it.conversation, vec![What::Conversation]),
        Event::MessageQueued(it) => {
            within(it.at.user, it.at.conversation, vec![What::Conversation])
        }
        Event::MessageSent(it) => within(it.user, it.conversation, vec![What::Conversation]),
        Event::SendDelayed(it) => within(it.user, it.conversation, vec![What::Conversation]),
        Event::SendUncertain(it) => within(it.user, it.conversation, vec![What::Conversation]),
        // Whoever disconnected the account knows, and may have had many messages waiting.
        Event::SendFailed(it) if it.class == FailureClass::Disconnected => {
            within(it.user, it.conversation, vec![What::Conversation])
        }
        // Told even when a request waits for the answer: it may have stopped waiting.
        Event::SendFailed(it) => {
            let error = failed("SEND_FAILED", "A message was not sent", &it.reason);
            within(it.user, it.conversation, vec![error, What::Conversation])
        }
        Event::MessageRead(it) => {
            let read = What::MessageStatus {
                message: it.message,
                status: status(Receipt::Read).to_owned(),
            };
            let what = vec![read, What::UnreadCounts, What::Conversation];
            within(it.user, it.conversation, what)
        }
        Event::ConversationRead(it) => {
            let what = vec![What::UnreadCounts, What::Conversation];
            within(it.user, it.conversation, what)
        }
        // Where something is still to be sent, it is shown with that.
        Event::ConversationForgotten(it) => {
            let what = vec![What::UnreadCounts, What::Conversation];
            within(it.user, it.conversation, what)
        }
        Event::AccountDisconnected(it) => about(it.user, None, vec![What::UnreadCounts]),
        Event::AccountNeedsReconnect(it) => {
            let text = "An account must be connected again";
            let error = failed("ACCOUNT_NEEDS_RECONNECT", text, &it.reason);
            about(it.user, None, vec![error])
        }
        // Nothing has ended yet, and only its owner can keep it from ending.
        Event::AccountNoted(it) if it.fact == DATA_ACCESS_ENDS => {
            let text = "An account must be connected again soon";
            let reason = "the platform is about to stop telling about people";
            let error = failed("ACCOUNT_DATA_ACCESS_ENDS", text, reason);
            about(it.user, None, vec![error])
        }
        Event::UserErased(it) => about(it.user, None, vec![What::Farewell]),
        Event::UserRegistered(_)
        | Event::SessionStarted(_)
        | Event::SessionRefreshed(_)
        | Event::SessionRevoked(_)
        | Event::AccountConnected(_)
        | Event::AccountPolled(_)
        | Event::ResetRequested(_)
        | Event::AccountForgotten(_)
        | Event::ConnectFailed(_)
        | Event::AccountNoted(_)
        // Told with the conversation's next change: the name follows the first message so closely
        // that clients would see the conversation come twice.
        | Event::ContactNamed(_)
        | Event::MediaAnnounced(_)
        | Event::MediaUploaded(_)
        // Clients show a message without a medium until there is one.
        | Event::MediaUnavailable(_)
        | Event::ConversationNoted(_)
        // History, and as much of it as there ever was: clients see it with their next look.
        | Event::ConversationImported(_)
        | Event::MessageImported(_)
        | Event::ReactionChanged(_)
        | Event::SendAttempted(_) => None,
    }
}

fn status(receipt: Receipt) -> &'static str {
    match receipt {
        Receipt::Delivered => "delivered",
        Receipt::Read => "read",
    }
}

fn failed(code: &str, text: &str, reason: &str) -> What {
    What::Error {
        text: format!("{text}: {reason}"),
        code: code.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use hub_domain::envelope::Meta;
    use hub_domain::event::{
        AccountNoted, ConversationRead, MessageRead, ReceiptReceived, Sealed, SendAttempted,
        SendFailed,
    };
    use hub_domain::id::{AccountId, MessageId, Place, Shard, StreamId};
    use uuid::Uuid;

    use super::*;

    const USER: UserId = UserId(Uuid::from_u128(1));
    const CONVERSATION: ConversationId = ConversationId(Uuid::from_u128(2));
    const MESSAGE: MessageId = MessageId(Uuid::from_u128(3));

    fn what(event: impl Into<Event>) -> Option<Vec<What>> {
        let recorded = Recorded {
            place: Place {
                shard: Shard(4),
                position: 5,
            },
            stream: StreamId(Uuid::nil()),
            version: 1,
            event: event.into(),
            meta: Meta::default(),
            recorded_at: DateTime::UNIX_EPOCH,
        };
        let change = changes(&recorded)?;
        assert_eq!((change.shard, change.position), (Shard(4), 5));
        assert_eq!(change.user, USER);
        Some(change.what)
    }

    #[test]
    fn reading_tells_the_status_then_the_counts_then_the_conversation() {
        let (user, conversation) = (USER, CONVERSATION);
        let read = MessageRead {
            user,
            conversation,
            message: MESSAGE,
        };
        let status = What::MessageStatus {
            message: MESSAGE,
            status: "read".to_owned(),
        };
        let counts_and_conversation = vec![What::UnreadCounts, What::Conversation];
        assert_eq!(
            what(read).unwrap(),
            [vec![status], counts_and_conversation.clone()].concat()
        );
        let all = ConversationRead { user, conversation };
        assert_eq!(what(all).unwrap(), counts_and_conversation);
    }

    #[test]
    fn of_what_is_noted_about_an_account_only_the_end_of_its_access_is_told() {
        let noted = |fact: &str| AccountNoted {
            user: USER,
            account: AccountId(Uuid::from_u128(9)),
            fact: fact.to_owned(),
            detail: Sealed("h1.x".to_owned()),
        };
        assert_eq!(what(noted("unknown")), None);
        let told = what(noted(DATA_ACCESS_ENDS)).unwrap();
        let [What::Error { code, .. }] = &told[..] else {
            panic!("{told:?}");
        };
        assert_eq!(code, "ACCOUNT_DATA_ACCESS_ENDS");
    }

    #[test]
    fn a_receipt_keeps_the_platforms_words() {
        let receipt = ReceiptReceived {
            user: USER,
            conversation: CONVERSATION,
            receipt: Receipt::Delivered,
            watermark: Some(DateTime::UNIX_EPOCH),
            platform_message_ids: vec!["m_1".to_owned()],
            at: DateTime::UNIX_EPOCH,
        };
        let expected = What::Receipts {
            platform_message_ids: vec!["m_1".to_owned()],
            watermark: Some(DateTime::UNIX_EPOCH),
            status: "delivered".to_owned(),
            at: DateTime::UNIX_EPOCH,
        };
        let what = what(receipt).unwrap();
        assert_eq!(what, [expected, What::Conversation]);
        // It survives the way through Redis.
        let text = serde_json::to_string(&what).unwrap();
        assert_eq!(serde_json::from_str::<Vec<What>>(&text).unwrap(), what);
    }

    #[test]
    fn an_attempt_tells_nothing_and_a_failure_tells_why() {
        let attempt = SendAttempted {
            user: USER,
            conversation: CONVERSATION,
            message: MESSAGE,
            attempt: 1,
        };
        assert_eq!(what(attempt), None);
        let failure = SendFailed {
            user: USER,
            conversation: CONVERSATION,
            message: MESSAGE,
            class: FailureClass::Exhausted,
            reason: "blocked by the recipient".to_owned(),
        };
        let expected = What::Error {
            text: "A message was not sent: blocked by the recipient".to_owned(),
            code: "SEND_FAILED".to_owned(),
        };
        assert_eq!(what(failure).unwrap(), [expected, What::Conversation]);
    }
}
