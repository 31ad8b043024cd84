//! A history that never changes: what every kind of event may do to rows, and in which order.

use chrono::{DateTime, Utc};
use hub_domain::envelope::Meta;
use hub_domain::event::{
    AccountConnected, AccountDisconnected, AccountForgotten, AccountNeedsReconnect, AccountPolled,
    Attached, ContactNamed, ConversationForgotten, ConversationImported, ConversationRead, Event,
    FailureClass, MediaLoss, MediaStored, MediaUnavailable, MessageDeleted, MessageEdited,
    MessageImported, MessageObserved, MessageQueued, MessageRead, MessageReceived, MessageSent,
    MessageType, PlatformMessage, ReactionChanged, Receipt, ReceiptReceived, Sealed, SendAttempted,
    SendDelayed, SendFailed, SendUncertain, Thread, UserErased,
};
use hub_domain::id::{
    AccountId, ConversationId, MessageId, StreamId, UserId, account_id, conversation_id,
    message_id, object_id,
};
use hub_domain::platform::Platform;
use hub_store::PgPool;
use uuid::Uuid;

use crate::random::Random;

/// Longer than two batches of a turn, so that rows are loaded as well as made.
const EVENTS: u32 = 1_400;

/// An event as it is stored.
pub struct Line {
    pub stream: StreamId,
    pub kind: String,
    pub schema: i16,
    payload: String,
    meta: Meta,
    recorded_at: DateTime<Utc>,
}

fn at(seconds: u32) -> DateTime<Utc> {
    DateTime::from_timestamp(1_750_000_000 + i64::from(seconds), 0).unwrap()
}

/// Who owns it: every account is another user's, so that erasing one leaves the others.
fn owner(n: u64) -> UserId {
    UserId(Uuid::from_u128(0x1000 + u128::from(n)))
}

fn account(n: u64) -> AccountId {
    account_id(owner(n), Platform::Facebook, &format!("page {n}"))
}

fn thread(n: u64, chat: u64) -> Thread {
    let name = format!("thread {chat}");
    Thread {
        user: owner(n),
        account: account(n),
        platform: Platform::Facebook,
        conversation: conversation_id(account(n), &name),
        thread: name,
    }
}

/// One event of the random part, and the stream it is in.
fn event(random: &mut Random, seconds: u32) -> (StreamId, Event) {
    let (n, chat, m) = (random.below(4), random.below(3), random.below(12));
    let at_thread = thread(n, chat);
    let (user, conversation) = (owner(n), at_thread.conversation);
    let platform_message_id = format!("p{m}");
    let own = MessageId(Uuid::from_u128(
        0xabc << 64 | u128::from(n << 16 | chat << 8 | m),
    ));
    let written = at(1_000 + m as u32 * 7);
    // The platform's clock runs its own way.
    let said = at(1_000 + random.below(400) as u32);
    let named = match random.percent(70) {
        true => message_id(conversation, &platform_message_id),
        false => own,
    };
    let message = PlatformMessage {
        at: at_thread.clone(),
        message: message_id(conversation, &platform_message_id),
        platform_message_id: platform_message_id.clone(),
        sender_id: format!("person {chat}"),
        sender_name: random
            .percent(80)
            .then(|| Sealed(format!("name {seconds}"))),
        thread_name: random
            .percent(20)
            .then(|| Sealed(format!("title {seconds}"))),
        message_type: if m % 4 == 0 {
            MessageType::Image
        } else {
            MessageType::Text
        },
        text: Sealed(format!("text {seconds}")),
        media: (m % 4 == 0).then(|| Sealed(format!("media {seconds}"))),
        detail: random
            .percent(30)
            .then(|| Sealed(format!("detail {seconds}"))),
        sent_at: written,
    };
    let of_account = (StreamId(account(n).0), account(n));
    let event = match random.below(40) {
        0..=8 if m % 3 == 1 => MessageObserved(message).into(),
        0..=8 => MessageReceived(message).into(),
        9 | 10 => MessageEdited {
            user,
            conversation,
            platform_message_id,
            text: Sealed(format!("edited {seconds}")),
            edited_at: said,
        }
        .into(),
        11 => MessageDeleted {
            user,
            conversation,
            platform_message_id,
            deleted_at: said,
        }
        .into(),
        12 | 13 => ReactionChanged {
            user,
            conversation,
            platform_message_id,
            sender_id: format!("person {}", random.below(3)),
            emoji: random.percent(70).then(|| format!("emoji {seconds}")),
            added: random.percent(70),
            at: said,
        }
        .into(),
        14 | 15 => ReceiptReceived {
            user,
            conversation,
            receipt: if random.percent(50) {
                Receipt::Read
            } else {
                Receipt::Delivered
            },
            watermark: random.percent(50).then_some(said),
            platform_message_ids: vec![platform_message_id],
            at: said,
        }
        .into(),
        16 => ContactNamed {
            user,
            conversation,
            name: Sealed(format!("asked {seconds}")),
        }
        .into(),
        17 => MediaStored {
            user,
            conversation,
            message: named,
            index: random.below(2) as u16,
            object: object_id(named, 0),
            content_type: "image/png".to_owned(),
            size: 7,
        }
        .into(),
        18 => MediaUnavailable {
            user,
            conversation,
            message: named,
            index: random.below(2) as u16,
            loss: MediaLoss::TooBig,
        }
        .into(),
        19..=21 => MessageQueued {
            at: at_thread,
            message: own,
            message_type: MessageType::Text,
            text: Sealed(format!("ours {seconds}")),
            attached: random.percent(30).then(|| Attached {
                object: object_id(own, 0),
                content_type: "image/png".to_owned(),
                size: 9,
                described: Sealed(format!("attached {seconds}")),
            }),
        }
        .into(),
        22 | 23 => SendAttempted {
            user,
            conversation,
            message: own,
            attempt: 1 + random.below(4) as u32,
        }
        .into(),
        24 | 25 => MessageSent {
            user,
            conversation,
            message: own,
            platform_message_id,
            sent_at: written,
        }
        .into(),
        26 => SendDelayed {
            user,
            conversation,
            message: own,
            attempt: 1,
            class: FailureClass::RateLimited,
            reason: "slow down".to_owned(),
            retry_at: said,
        }
        .into(),
        27 => SendFailed {
            user,
            conversation,
            message: own,
            class: if random.percent(30) {
                FailureClass::Undelivered
            } else {
                FailureClass::Permanent
            },
            reason: "no".to_owned(),
        }
        .into(),
        28 => SendUncertain {
            user,
            conversation,
            message: own,
            attempt: 1,
            reason: "silence".to_owned(),
            settle_by: said,
        }
        .into(),
        29 => ConversationImported {
            at: at_thread,
            participant_id: Some("there".to_owned()),
            participant_name: random.percent(50).then(|| Sealed("name there".to_owned())),
            participant_avatar: None,
            last_message_at: Some(said),
        }
        .into(),
        30 => MessageImported {
            message: PlatformMessage {
                message: own,
                ..message
            },
            outgoing: m % 3 == 1,
            is_read: random.percent(50),
            delivered_at: random.percent(30).then_some(said),
        }
        .into(),
        31 | 32 => MessageRead {
            user,
            conversation,
            message: named,
        }
        .into(),
        33 => ConversationRead { user, conversation }.into(),
        34 if random.percent(20) => ConversationForgotten {
            user,
            account: account(n),
            conversation,
        }
        .into(),
        35 | 36 => {
            let (stream, account) = of_account;
            return (
                stream,
                AccountPolled {
                    user,
                    account,
                    cursor: serde_json::json!({ "at": seconds }),
                }
                .into(),
            );
        }
        37 => {
            let (stream, account) = of_account;
            let event = match random.below(4) {
                0 => AccountDisconnected { user, account }.into(),
                1 => AccountNeedsReconnect {
                    user,
                    account,
                    reason: "expired".to_owned(),
                }
                .into(),
                2 => AccountForgotten { user, account }.into(),
                _ => connected(n, seconds),
            };
            return (stream, event);
        }
        _ => MessageReceived(message).into(),
    };
    (conversation.into(), event)
}

fn connected(n: u64, seconds: u32) -> Event {
    AccountConnected {
        user: owner(n),
        account: account(n),
        platform: Platform::Facebook,
        platform_user_id: format!("page {n}"),
        username: Sealed(format!("shop {seconds}")),
        route: format!("page {n}"),
    }
    .into()
}

/// All of it: shapes of earlier builds first, then every account, then anything in any order.
pub fn lines() -> Vec<Line> {
    let mut lines = Vec::new();
    for n in 0..6 {
        lines.push(line(StreamId(account(n).0), &connected(n, 0), lines.len()));
    }
    let old = [
        (
            "MessageQueued",
            include_str!("../../../../domain/tests/golden_events/MessageQueued.v1.json"),
        ),
        (
            "SendFailed",
            include_str!("../../../../domain/tests/golden_events/SendFailed.v1.json"),
        ),
    ];
    for (kind, payload) in old {
        lines.push(Line {
            stream: ConversationId(Uuid::from_u128(3)).into(),
            kind: kind.to_owned(),
            schema: 1,
            payload: payload.trim_end().to_owned(),
            meta: Meta::default(),
            recorded_at: at(lines.len() as u32),
        });
    }
    let mut random = Random::new(23);
    for seconds in 0..EVENTS {
        let (stream, event) = event(&mut random, seconds);
        lines.push(line(stream, &event, lines.len()));
    }
    let erased = UserErased { user: owner(3) };
    lines.push(line(StreamId(owner(3).0), &erased.into(), lines.len()));
    lines
}

fn line(stream: StreamId, event: &Event, index: usize) -> Line {
    let imported = event.kind().ends_with("Imported");
    Line {
        stream,
        kind: event.kind().to_owned(),
        schema: event.schema(),
        payload: event.payload(),
        meta: Meta {
            original_at: imported.then(|| at(500)),
            ..Meta::default()
        },
        recorded_at: at(2_000 + index as u32),
    }
}

/// Puts it into a shard of an empty log: times and places are those of the history.
pub async fn write(pool: &PgPool) {
    let mut versions = std::collections::HashMap::new();
    for (line, position) in lines().into_iter().zip(1_i64..) {
        let version = versions.entry(line.stream).or_insert(0_i64);
        *version += 1;
        sqlx::query(
            "INSERT INTO events (shard, position, stream, version, kind, schema, payload, meta, recorded_at) \
             VALUES (0, $1, $2, $3, $4, $5, $6::json, $7::json, $8)",
        )
        .bind(position)
        .bind(line.stream.0)
        .bind(*version)
        .bind(line.kind)
        .bind(line.schema)
        .bind(line.payload)
        .bind(serde_json::to_string(&line.meta).unwrap())
        .bind(line.recorded_at)
        .execute(pool)
        .await
        .unwrap();
    }
    sqlx::query(
        "UPDATE shards SET head = (SELECT max(position) FROM events) \
         WHERE shard = 0 AND log = 'events'",
    )
    .execute(pool)
    .await
    .unwrap();
}
