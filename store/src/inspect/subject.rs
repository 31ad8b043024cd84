//! The message that is asked about, and the events that are about it.

use chrono::{DateTime, Utc};
use hub_domain::id::{ConversationId, MessageId, Shard};
use hub_domain::limits::REBUILD_BATCH_MAX;
use serde_json::Value;
use sqlx::PgPool;
use uuid::Uuid;

use super::explain::MessageState;
use super::{Stored, of_stream, shards};
use crate::error::{Error, Result};
use crate::schema::sharding;

/// What a message is recognised by in the events of its conversation.
#[derive(Debug)]
pub(super) struct Subject {
    pub(super) shard: Shard,
    pub(super) conversation: ConversationId,
    id: MessageId,
    platform_message_id: Option<String>,
    outgoing: bool,
    sent_at: Option<DateTime<Utc>>,
    /// The event that brought it.
    position: i64,
}

impl Subject {
    /// The message by its row in the live inbox or, where that has none, by the event that brought
    /// it. Refuses what neither knows.
    pub(super) async fn find(
        pool: &PgPool,
        message: MessageId,
    ) -> Result<(Self, Option<MessageState>)> {
        if let Some(row) = row(pool, message).await? {
            let subject = Self {
                shard: Shard(row.shard),
                conversation: ConversationId(row.conversation_id),
                id: message,
                platform_message_id: row.platform_message_id.clone(),
                outgoing: row.outgoing,
                sent_at: row.sent_at,
                position: row.position,
            };
            return Ok((subject, Some(row)));
        }
        let shards = shards(sharding(pool).await?);
        match brought(pool, &shards, message.0).await? {
            Some(subject) => Ok((subject, None)),
            None => Err(Error::Refused(unknown(pool, message).await?)),
        }
    }
}

async fn row(pool: &PgPool, message: MessageId) -> Result<Option<MessageState>> {
    Ok(sqlx::query_as(
        "SELECT m.id, m.shard, m.conversation_id, c.user_id, c.account_id, c.platform, \
             m.generation, m.platform_message_id, m.state, m.outgoing, m.sent_at, \
             m.delivered_at, m.seen_at, m.attempts, m.retry_at, m.failure, m.failure_reason, \
             m.position, m.created_at \
         FROM read.messages m \
         JOIN generations g ON g.shard = m.shard AND g.projection = 'inbox' \
             AND g.live = m.generation \
         JOIN read.conversations c ON c.shard = m.shard AND c.generation = m.generation \
             AND c.id = m.conversation_id \
         WHERE m.shard = ANY ($1) AND m.id = $2",
    )
    .bind(shards(sharding(pool).await?))
    .bind(message.0)
    .fetch_optional(pool)
    .await?)
}

/// The message by the first event that names it. Nothing in the log is indexed by messages, so all of
/// it is looked through.
pub(super) async fn brought(
    pool: &PgPool,
    shards: &[i16],
    message: Uuid,
) -> Result<Option<Subject>> {
    type Row = (i16, i64, Uuid, String, String);
    let row: Option<Row> = sqlx::query_as(
        "SELECT shard, position, stream, kind, payload::text FROM events \
         WHERE shard = ANY ($1) AND payload::text LIKE '%' || $2 || '%' \
             AND $2 IN (payload ->> 'message', payload -> 'message' ->> 'message') \
         ORDER BY shard, position LIMIT 1",
    )
    .bind(shards)
    .bind(message.to_string())
    .fetch_optional(pool)
    .await?;
    let Some((shard, position, stream, kind, payload)) = row else {
        return Ok(None);
    };
    let payload: Value = serde_json::from_str(&payload).unwrap_or_default();
    // An imported message is inside of what else is known of it.
    let inner = payload.get("message").filter(|it| it.is_object());
    let told = inner.unwrap_or(&payload);
    let text = |field: &str| told.get(field).and_then(Value::as_str);
    Ok(Some(Subject {
        shard: Shard(shard),
        conversation: ConversationId(stream),
        id: MessageId(message),
        platform_message_id: text("platform_message_id").map(str::to_owned),
        outgoing: match payload.get("outgoing").and_then(Value::as_bool) {
            Some(outgoing) => outgoing,
            None => kind != "MessageReceived",
        },
        sent_at: text("sent_at").and_then(|at| at.parse().ok()),
        position,
    }))
}

/// Why nothing is known: it may still be raw input, which has no id of ours.
async fn unknown(pool: &PgPool, message: MessageId) -> Result<String> {
    let (waiting, parked): (i64, i64) = sqlx::query_as(
        "SELECT coalesce(sum(s.head - c.position), 0)::bigint, coalesce(sum(c.parked), 0)::bigint \
         FROM checkpoints c JOIN shards s ON s.shard = c.shard AND s.log = c.log \
         WHERE c.reactor = 'translate'",
    )
    .fetch_one(pool)
    .await?;
    let mut why = format!(
        "there is no message {message} in the inbox or the log: the id is another thing's, or what \
         brings it is still raw input"
    );
    if waiting > 0 {
        why.push_str(&format!("; {waiting} of that wait to be translated"));
    }
    if parked > 0 {
        why.push_str(&format!(
            "; {parked} could not be: see `hub dlq list --reactor translate`"
        ));
    }
    Ok(why)
}

/// The events of the conversation that are about the message.
pub(super) async fn about(pool: &PgPool, subject: &Subject) -> Result<Vec<Stored>> {
    let (shard, stream) = (subject.shard, subject.conversation.into());
    let (mut found, mut covered) = (Vec::new(), Vec::new());
    let mut version = 0;
    loop {
        let page = of_stream(pool, shard, stream, version, REBUILD_BATCH_MAX).await?;
        let Some(last) = page.last() else {
            return Ok(found);
        };
        version = last.version;
        for event in page {
            // Of those that cover many messages the first does it.
            if names(&event, subject) || covers(&event, subject) && !covered.contains(&mark(&event))
            {
                covered.push(mark(&event));
                found.push(event);
            }
        }
    }
}

/// True of an event that names the message.
fn names(event: &Stored, subject: &Subject) -> bool {
    let own = subject.id.to_string();
    let text = |field: &str| event.payload.get(field).and_then(Value::as_str);
    let inner = event.payload.pointer("/message/message");
    if text("message") == Some(own.as_str()) || inner.and_then(Value::as_str) == Some(&own) {
        return true;
    }
    let Some(platform_id) = subject.platform_message_id.as_deref() else {
        return false;
    };
    let several = event.payload.get("platform_message_ids");
    text("platform_message_id") == Some(platform_id)
        || several
            .and_then(Value::as_array)
            .is_some_and(|ids| ids.iter().any(|id| id == platform_id))
}

/// True of an event that covers the message without naming it.
fn covers(event: &Stored, subject: &Subject) -> bool {
    match event.kind.as_str() {
        "ConversationRead" => !subject.outgoing && event.place.position > subject.position,
        "ReceiptReceived" if subject.outgoing => {
            let until = event.payload.get("watermark").and_then(Value::as_str);
            let until = until.and_then(|text| text.parse::<DateTime<Utc>>().ok());
            until >= subject.sent_at && until.is_some() && event.place.position > subject.position
        }
        _ => false,
    }
}

/// What an event covers, to be said once.
fn mark(event: &Stored) -> (String, Option<String>) {
    let receipt = event.payload.get("receipt").and_then(Value::as_str);
    (event.kind.clone(), receipt.map(str::to_owned))
}
