//! Histories: what platforms may tell about a few conversations, and what we do in them.

use chrono::{DateTime, Utc};
use hub_domain::envelope::{Meta, Recorded};
use hub_domain::event::{
    Attached, ContactNamed, ConversationForgotten, ConversationImported, ConversationRead, Event,
    FailureClass, MediaLoss, MediaStored, MediaUnavailable, MediaUploaded, MessageDeleted,
    MessageEdited, MessageImported, MessageObserved, MessageQueued, MessageRead, MessageReceived,
    MessageSent, MessageType, PlatformMessage, ReactionChanged, Receipt, ReceiptReceived, Sealed,
    SendAttempted, SendDelayed, SendFailed, SendUncertain, Thread,
};
use hub_domain::id::{
    AccountId, ConversationId, MessageId, Place, Shard, UserId, conversation_id, message_id,
    object_id,
};
use hub_domain::platform::Platform;
use proptest::prelude::*;
use uuid::Uuid;

pub const USER: UserId = UserId(Uuid::from_u128(1));
const ACCOUNT: AccountId = AccountId(Uuid::from_u128(2));

/// A moment, seconds after the beginning of these histories.
pub fn at(seconds: u32) -> DateTime<Utc> {
    DateTime::from_timestamp(1_750_000_000 + i64::from(seconds), 0).unwrap()
}

pub fn thread(chat: u8) -> Thread {
    Thread {
        user: USER,
        account: ACCOUNT,
        platform: Platform::Facebook,
        conversation: conversation(chat),
        thread: format!("thread {chat}"),
    }
}

pub fn conversation(chat: u8) -> ConversationId {
    conversation_id(ACCOUNT, &format!("thread {chat}"))
}

/// The platform's id of the nth message of a conversation; the same number names another message
/// in another conversation.
pub fn platform_id(n: u8) -> String {
    format!("p{n}")
}

/// Messages from the other side, of our side elsewhere, and sent through the hub: what a number
/// names never changes.
pub fn is_own(n: u8) -> bool {
    n % 3 == 2
}

fn is_outgoing(n: u8) -> bool {
    n % 3 == 1
}

/// The hub's name of the nth message sent through it.
pub fn own(chat: u8, n: u8) -> MessageId {
    MessageId(Uuid::from_u128(
        0xabc << 64 | u128::from(chat) << 8 | u128::from(n),
    ))
}

fn platform_message(chat: u8, n: u8) -> PlatformMessage {
    // Every message of a conversation has a moment of its own; an echo has the one of its send.
    let sent_at = at(1000 + u32::from(n));
    PlatformMessage {
        at: thread(chat),
        message: message_id(conversation(chat), &platform_id(n)),
        platform_message_id: platform_id(n),
        sender_id: if is_outgoing(n) || is_own(n) {
            "us"
        } else {
            "them"
        }
        .to_owned(),
        sender_name: Some(Sealed(format!("name in message {n}"))),
        thread_name: None,
        message_type: MessageType::Image,
        text: Sealed(format!("text {n}")),
        media: Some(Sealed(format!("media {n}"))),
        detail: Some(Sealed(format!("detail {n}"))),
        sent_at,
    }
}

/// The message itself, as the platform tells it: received, or observed when it is of our side.
pub fn told(chat: u8, n: u8) -> Event {
    let message = platform_message(chat, n);
    if is_outgoing(n) || is_own(n) {
        MessageObserved(message).into()
    } else {
        MessageReceived(message).into()
    }
}

fn uploaded(chat: u8, n: u8) -> Attached {
    Attached {
        object: object_id(own(chat, n), 0),
        content_type: "image/png".to_owned(),
        size: 7,
        described: Sealed(format!("what we attached {n}")),
    }
}

pub fn queued(chat: u8, n: u8) -> Event {
    MessageQueued {
        at: thread(chat),
        message: own(chat, n),
        message_type: MessageType::Text,
        text: Sealed(format!("ours {n}")),
        attached: (n == 5).then(|| uploaded(chat, n)),
    }
    .into()
}

pub fn sent(chat: u8, n: u8) -> Event {
    MessageSent {
        user: USER,
        conversation: conversation(chat),
        message: own(chat, n),
        platform_message_id: platform_id(n),
        sent_at: at(1000 + u32::from(n)),
    }
    .into()
}

pub fn edited(chat: u8, n: u8, seconds: u32) -> Event {
    MessageEdited {
        user: USER,
        conversation: conversation(chat),
        platform_message_id: platform_id(n),
        // The text is told by its moment: two edits of one moment are one edit.
        text: Sealed(format!("as of {seconds}")),
        edited_at: at(2000 + seconds),
    }
    .into()
}

pub fn deleted(chat: u8, n: u8, seconds: u32) -> Event {
    MessageDeleted {
        user: USER,
        conversation: conversation(chat),
        platform_message_id: platform_id(n),
        deleted_at: at(2000 + seconds),
    }
    .into()
}

/// What the platform may say about the nth message, whether it is known yet or not.
pub fn about(chat: u8, n: u8) -> impl Strategy<Value = Event> {
    let conversation = conversation(chat);
    let named = move || platform_id(n);
    prop_oneof![
        4 => Just(told(chat, n)),
        2 => (0..50_u32).prop_map(move |seconds| edited(chat, n, seconds)),
        1 => (0..50_u32).prop_map(move |seconds| deleted(chat, n, seconds)),
        2 => (0..3_u8, 0..50_u32).prop_map(move |(person, seconds)| ReactionChanged {
            user: USER,
            conversation,
            platform_message_id: named(),
            sender_id: format!("person {person}"),
            emoji: (seconds % 5 != 0).then(|| format!("emoji {seconds}")),
            added: seconds % 3 != 0,
            at: at(2000 + seconds),
        }.into()),
        2 => (any::<bool>(), any::<bool>(), 0..50_u32).prop_map(
            move |(is_read, has_watermark, seconds)| ReceiptReceived {
                user: USER,
                conversation,
                receipt: if is_read { Receipt::Read } else { Receipt::Delivered },
                watermark: has_watermark.then(|| at(2000 + seconds)),
                platform_message_ids: vec![named()],
                at: at(2000 + seconds),
            }.into()
        ),
    ]
}

/// What a worker may write about the nth send, short of success.
pub fn attempt(chat: u8, n: u8) -> impl Strategy<Value = Event> {
    let (conversation, message) = (conversation(chat), own(chat, n));
    (0..4_u8, 1..5_u32).prop_map(move |(what, attempt)| match what {
        0 => SendAttempted {
            user: USER,
            conversation,
            message,
            attempt,
        }
        .into(),
        1 => SendDelayed {
            user: USER,
            conversation,
            message,
            attempt,
            class: FailureClass::RateLimited,
            reason: "slow down".to_owned(),
            retry_at: at(3000 + attempt),
        }
        .into(),
        2 => SendFailed {
            user: USER,
            conversation,
            message,
            class: FailureClass::Permanent,
            reason: "no".to_owned(),
        }
        .into(),
        _ => SendUncertain {
            user: USER,
            conversation,
            message,
            attempt,
            reason: "silence".to_owned(),
            settle_by: at(3000 + attempt),
        }
        .into(),
    })
}

/// What the user may do to be shown less as unread.
fn reading(chat: u8, n: u8) -> impl Strategy<Value = Event> {
    let conversation = conversation(chat);
    let message = message_id(conversation, &platform_id(n));
    prop_oneof![
        3 => Just(MessageRead { user: USER, conversation, message }.into()),
        1 => Just(ConversationRead { user: USER, conversation }.into()),
    ]
}

/// A name that was asked for.
fn named(chat: u8, n: u8) -> Event {
    ContactNamed {
        user: USER,
        conversation: conversation(chat),
        name: Sealed(format!("asked for {n}")),
    }
    .into()
}

/// A conversation or a message taken over from an earlier installation: the message under an id of
/// its own, whatever else is known of it.
fn imported(chat: u8, n: u8, is_read: bool) -> Event {
    let mut message = platform_message(chat, n);
    message.message = MessageId(Uuid::from_u128(
        0xdef << 64 | u128::from(chat) << 8 | u128::from(n),
    ));
    if n == 0 {
        return ConversationImported {
            at: thread(chat),
            participant_id: Some("them".to_owned()),
            participant_name: is_read.then(|| Sealed("name there".to_owned())),
            participant_avatar: None,
            last_message_at: Some(at(1000)),
        }
        .into();
    }
    MessageImported {
        message,
        outgoing: is_outgoing(n) || is_own(n),
        is_read,
        delivered_at: None,
    }
    .into()
}

/// The conversation is forgotten.
pub fn forgotten(chat: u8) -> Event {
    ConversationForgotten {
        user: USER,
        account: ACCOUNT,
        conversation: conversation(chat),
    }
    .into()
}

/// What became of a medium of the nth message.
fn filed(chat: u8, n: u8) -> impl Strategy<Value = Event> {
    let conversation = conversation(chat);
    let message = message_id(conversation, &platform_id(n));
    (0..2_u16, any::<bool>()).prop_map(move |(index, is_stored)| {
        if is_stored {
            MediaStored {
                user: USER,
                conversation,
                message,
                index,
                object: object_id(message, index),
                content_type: "image/png".to_owned(),
                size: 7,
            }
            .into()
        } else {
            MediaUnavailable {
                user: USER,
                conversation,
                message,
                index,
                loss: MediaLoss::TooBig,
            }
            .into()
        }
    })
}

/// What platforms tell, in no order, about messages that are not ours.
pub fn facts() -> impl Strategy<Value = Vec<Event>> {
    let fact = (0..3_u8, 0..6_u8).prop_flat_map(|(chat, n)| about(chat, n / 2 * 3 + n % 2));
    proptest::collection::vec(fact, 1..60)
}

/// Anything at all in any order.
pub fn anything() -> impl Strategy<Value = Vec<Event>> {
    let event = (0..3_u8, 0..9_u8).prop_flat_map(|(chat, n)| {
        let own = n / 3 * 3 + 2;
        prop_oneof![
            6 => about(chat, n),
            1 => Just(queued(chat, own)),
            1 => Just(Event::from(MediaUploaded { user: USER, file: uploaded(chat, own) })),
            1 => attempt(chat, own),
            1 => Just(sent(chat, own)),
            2 => reading(chat, n),
            1 => Just(named(chat, n)),
            2 => any::<bool>().prop_map(move |is_read| imported(chat, n, is_read)),
            1 => filed(chat, n),
            1 => Just(forgotten(chat)),
        ]
    });
    proptest::collection::vec(event, 1..80)
}

/// Puts events into the log, one after the other. Their time is the same, so that a fold that
/// depends on it shows.
pub fn recorded(events: &[Event]) -> Vec<Recorded> {
    let numbered = events.iter().zip(1..);
    let record = |(event, position): (&Event, i64)| Recorded {
        place: Place {
            shard: Shard(0),
            position,
        },
        stream: conversation(0).into(),
        version: position,
        event: event.clone(),
        meta: Meta::default(),
        recorded_at: at(0),
    };
    numbered.map(record).collect()
}
