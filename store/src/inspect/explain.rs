//! Everything that is known about one message, from raw input to socket frame.
//!
//! Promises: what is said is read from where the hub keeps it, never guessed; what is no longer kept
//! is missing, and said to be. A message that the inbox does not have, because its events are parked,
//! have not been folded yet or were forgotten, is found in the log.

use chrono::{DateTime, Utc};
use hub_domain::command::Command;
use hub_domain::id::{ConversationId, MessageId, Place, Shard};
use serde::Serialize;
use sqlx::PgPool;
use uuid::Uuid;

use super::subject::{Subject, about};
use super::{Opener, Stored, as_text, hide};
use crate::error::Result;
use crate::told::{self, Told};

/// A message explained.
#[derive(Clone, Debug, Serialize)]
pub struct Explained {
    /// The message.
    pub id: MessageId,
    /// Its shard.
    pub shard: Shard,
    /// Its conversation.
    pub conversation: ConversationId,
    /// The message as the live inbox has it; `None` when it has not.
    pub message: Option<MessageState>,
    /// Events about it that somebody has put aside.
    pub parked: Vec<ParkedEvent>,
    /// The raw input that its events name as their cause.
    pub inputs: Vec<Input>,
    /// The events about it, in order.
    pub events: Vec<Step>,
    /// Where everybody who follows the log is in its shard.
    pub checkpoints: Vec<Checkpoint>,
    /// Jobs of its conversation that are there now.
    pub asked: Vec<Asked>,
    /// Jobs of its conversation that ended; the history is kept for a day.
    pub ended: Vec<Ended>,
}

/// An event about the message that a reactor has put aside.
#[derive(Clone, Debug, Serialize, sqlx::FromRow)]
pub struct ParkedEvent {
    /// The reactor or projection.
    pub reactor: String,
    /// The generation it builds, 0 for none.
    pub generation: i16,
    /// Readers see this generation; `None` of a reactor without generations.
    pub is_live: Option<bool>,
    /// The position of the event.
    pub position: i64,
    /// Why, in a word; `held` when it stands behind another of its stream.
    pub class: String,
    /// Why, in words.
    pub reason: String,
    /// Since when.
    pub parked_at: DateTime<Utc>,
}

/// An event about the message.
#[derive(Clone, Debug, Serialize)]
pub struct Step {
    /// The event.
    #[serde(flatten)]
    pub event: Stored,
    /// The notifier's turn that told of it; `None` before that, and when it is forgotten.
    pub told: Option<Told>,
}

/// A row of the inbox, without what is personal.
#[derive(Clone, Debug, Serialize, sqlx::FromRow)]
#[allow(
    missing_docs,
    reason = "the columns are documented on the domain's row"
)]
pub struct MessageState {
    pub id: Uuid,
    pub shard: i16,
    pub conversation_id: Uuid,
    pub user_id: Uuid,
    pub account_id: Uuid,
    pub platform: String,
    /// The generation this row is in.
    pub generation: i16,
    pub platform_message_id: Option<String>,
    pub state: String,
    pub outgoing: bool,
    pub sent_at: Option<DateTime<Utc>>,
    pub delivered_at: Option<DateTime<Utc>>,
    pub seen_at: Option<DateTime<Utc>>,
    pub attempts: i32,
    pub retry_at: Option<DateTime<Utc>>,
    pub failure: Option<String>,
    pub failure_reason: Option<String>,
    pub position: i64,
    pub created_at: DateTime<Utc>,
}

/// A command of the raw input.
#[derive(Clone, Debug, Serialize)]
pub struct Input {
    /// Its place in the command log.
    #[serde(serialize_with = "as_text")]
    pub place: Place,
    /// What is known of it; `None` when it is no longer kept.
    pub kept: Option<KeptInput>,
}

/// A command that is still there.
#[derive(Clone, Debug, Serialize)]
pub struct KeptInput {
    /// When it was stored.
    pub received_at: DateTime<Utc>,
    /// `webhook` or `connect`.
    pub kind: String,
    /// Which platform sent it.
    pub platform: Option<String>,
    /// The request it came with.
    pub request: Option<String>,
    /// Its size as it is stored, sealed.
    pub stored_bytes: i64,
    /// The raw body, when it was asked for and can be opened.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
}

/// How far a reactor is in the message's shard.
#[derive(Clone, Debug, Serialize, sqlx::FromRow)]
pub struct Checkpoint {
    /// The reactor or projection.
    pub reactor: String,
    /// The generation it builds, 0 for none.
    pub generation: i16,
    /// Readers see this generation; `None` of a reactor without generations.
    pub is_live: Option<bool>,
    /// Everything up to here is done.
    pub position: i64,
    /// When it last moved.
    pub updated_at: DateTime<Utc>,
}

/// A job that is there.
#[derive(Clone, Debug, Serialize, sqlx::FromRow)]
pub struct Asked {
    /// Its queue.
    pub queue: String,
    /// When it was first asked for.
    pub created_at: DateTime<Utc>,
    /// When it may run, or until when its lease lasts.
    pub due_at: DateTime<Utc>,
    /// Claims since the last orderly end.
    pub attempts: i32,
    /// Who holds it.
    pub lease_owner: Option<String>,
    /// What went wrong last.
    pub last_error: Option<String>,
    /// When it was put aside.
    pub parked_at: Option<DateTime<Utc>>,
}

/// A job that ended.
#[derive(Clone, Debug, Serialize, sqlx::FromRow)]
pub struct Ended {
    /// Its queue.
    pub queue: String,
    /// When it was first asked for.
    pub created_at: DateTime<Utc>,
    /// When it ended.
    pub finished_at: DateTime<Utc>,
    /// Claims since the last orderly end.
    pub attempts: i32,
    /// Who ran it.
    pub lease_owner: Option<String>,
}

/// Explains a message. What is sealed is hidden unless there is an opener. One that the inbox does
/// not have is looked for through the whole log.
pub async fn explain(
    pool: &PgPool,
    message: MessageId,
    mut opener: Option<&mut Opener>,
) -> Result<Explained> {
    let (subject, row) = Subject::find(pool, message).await?;
    let (shard, conversation) = (subject.shard, subject.conversation);
    let mut events = Vec::new();
    for mut event in about(pool, &subject).await? {
        match &mut opener {
            Some(opener) => opener.event(&mut event).await?,
            None => hide(&mut event.payload),
        }
        let told = told::of(pool, event.place).await?;
        events.push(Step { event, told });
    }
    let mut inputs: Vec<Input> = Vec::new();
    for Step { event, .. } in &events {
        let Some(place) = cause(event) else { continue };
        if inputs.iter().all(|input| input.place != place) {
            let kept = input(pool, place, opener.as_deref()).await?;
            inputs.push(Input { place, kept });
        }
    }
    let checkpoints = sqlx::query_as(
        "SELECT c.reactor, c.generation, g.live = c.generation AS is_live, c.position, \
             c.updated_at \
         FROM checkpoints c \
         LEFT JOIN generations g ON g.shard = c.shard AND g.projection = c.reactor \
         WHERE c.shard = $1 AND c.log = 'events' ORDER BY c.reactor, c.generation",
    )
    .bind(shard.0)
    .fetch_all(pool)
    .await?;
    let asked = sqlx::query_as(
        "SELECT queue, created_at, due_at, attempts, lease_owner, last_error, parked_at \
         FROM jobs WHERE shard = $1 AND key = $2 ORDER BY created_at",
    )
    .bind(shard.0)
    .bind(conversation.to_string())
    .fetch_all(pool)
    .await?;
    let ended = sqlx::query_as(
        "SELECT queue, created_at, finished_at, attempts, lease_owner \
         FROM job_history WHERE shard = $1 AND key = $2 ORDER BY finished_at",
    )
    .bind(shard.0)
    .bind(conversation.to_string())
    .fetch_all(pool)
    .await?;
    Ok(Explained {
        id: message,
        shard,
        conversation,
        message: row,
        parked: parked(pool, shard, &events).await?,
        inputs,
        events,
        checkpoints,
        asked,
        ended,
    })
}

/// Who has put events about it aside.
async fn parked(pool: &PgPool, shard: Shard, events: &[Step]) -> Result<Vec<ParkedEvent>> {
    let positions: Vec<i64> = events.iter().map(|it| it.event.place.position).collect();
    Ok(sqlx::query_as(
        "SELECT p.reactor, p.generation, g.live = p.generation AS is_live, p.position, p.class, \
             p.reason, p.parked_at \
         FROM parked p LEFT JOIN generations g ON g.shard = p.shard AND g.projection = p.reactor \
         WHERE p.shard = $1 AND p.position = ANY ($2) AND p.stream IS NOT NULL \
         ORDER BY p.reactor, p.generation, p.position",
    )
    .bind(shard.0)
    .bind(positions)
    .fetch_all(pool)
    .await?)
}

/// The command an event follows from.
fn cause(event: &Stored) -> Option<Place> {
    let cause = event.meta.get("causation")?.as_str()?;
    cause.strip_prefix("c:")?.parse().ok()
}

async fn input(pool: &PgPool, place: Place, opener: Option<&Opener>) -> Result<Option<KeptInput>> {
    type Row = (DateTime<Utc>, String, Option<String>, String);
    let row: Option<Row> = sqlx::query_as(
        "SELECT received_at, kind, request, payload::text FROM commands \
         WHERE shard = $1 AND position = $2",
    )
    .bind(place.shard.0)
    .bind(place.position)
    .fetch_optional(pool)
    .await?;
    let Some((received_at, kind, request, payload)) = row else {
        return Ok(None);
    };
    let command: Option<Command> = serde_json::from_str(&payload).ok();
    let body = match (opener, &command) {
        (Some(opener), Some(command)) => opener.body(command).await?,
        _ => None,
    };
    let platform = command.and_then(|command| match command {
        Command::Webhook { platform, .. }
        | Command::Connect { platform, .. }
        | Command::Page { platform, .. }
        | Command::Renew { platform, .. }
        | Command::Departure { platform, .. } => Some(platform.name().to_owned()),
        Command::PollAccount { .. } => None,
    });
    Ok(Some(KeptInput {
        received_at,
        kind,
        platform,
        request,
        stored_bytes: i64::try_from(payload.len()).unwrap_or(i64::MAX),
        body,
    }))
}
