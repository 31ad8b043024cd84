//! The inbox read model: loading and writing its rows.

use std::collections::HashSet;

use hub_domain::envelope::Recorded;
use hub_domain::event::{MessageType, Sealed};
use hub_domain::id::{AccountId, ConversationId, MessageId, Shard, UserId};
use hub_domain::projection::inbox::{ConversationRow, Inbox, MessageRow, State, TotalRow, Touch};
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row};
use uuid::Uuid;

use crate::error::{Error, Result};

/// Rows of one statement: its parameters are in memory twice while it is on its way.
const ROWS_AT_ONCE: usize = 5_000;

pub(super) async fn apply(
    connection: &mut PgConnection,
    shard: Shard,
    generation: i16,
    events: &[Recorded],
) -> Result<()> {
    let mut stretch = Stretch::default();
    stretch
        .fold(Some(&mut *connection), shard, generation, events)
        .await?;
    stretch.write(connection, shard, generation).await
}

/// The rows of a stretch of events, from the first load to the one write.
#[derive(Default)]
pub(super) struct Stretch {
    model: Inbox,
}

impl Stretch {
    /// Folds a batch. What it needs and is not here yet is loaded, unless there is nothing to load
    /// from: then the tables are known to be empty.
    pub(super) async fn fold(
        &mut self,
        load_from: Option<&mut PgConnection>,
        shard: Shard,
        generation: i16,
        events: &[Recorded],
    ) -> Result<()> {
        if let Some(connection) = load_from {
            let mut touch = Touch::default();
            let mut concerned = false;
            for recorded in events {
                concerned |= touch.add(&recorded.event);
            }
            if !concerned {
                return Ok(());
            }
            self.load(connection, shard, generation, &touch).await?;
        }
        for recorded in events {
            self.model.fold(recorded);
        }
        Ok(())
    }

    async fn load(
        &mut self,
        connection: &mut PgConnection,
        shard: Shard,
        generation: i16,
        touch: &Touch,
    ) -> Result<()> {
        let model = &mut self.model;
        let conversations: HashSet<Uuid> = touch
            .conversations
            .iter()
            .filter(|id| model.conversations.get(**id).is_none())
            .map(|id| id.0)
            .collect();
        let rows = sqlx::query(
            "SELECT c.id, c.user_id, c.account_id, c.platform, c.thread, c.participant_id, \
             c.participant_name, c.named_at, c.last_message_at, c.unread, c.messages, \
             c.read_through, c.delivered_until, c.seen_until, c.created_at, c.updated_at \
             FROM unnest($3::uuid[]) AS w (id) CROSS JOIN LATERAL (SELECT * FROM read.conversations \
                 WHERE shard = $1 AND generation = $2 AND id = w.id LIMIT 1) c",
        )
        .bind(shard.0)
        .bind(generation)
        .bind(conversations.into_iter().collect::<Vec<_>>())
        .fetch_all(&mut *connection)
        .await?;
        for row in rows {
            model.load_conversation(conversation(&row)?);
        }
        let born = touch.accounts.iter().copied();
        let accounts: HashSet<Uuid> = touch
            .conversations
            .iter()
            .filter_map(|id| model.conversations.get(*id))
            .map(|row| row.account)
            .chain(born)
            .filter(|id| model.totals.get(*id).is_none())
            .map(|id| id.0)
            .collect();
        let rows = sqlx::query(
            "SELECT t.id, t.user_id, t.conversations, t.unread \
             FROM unnest($3::uuid[]) AS w (id) CROSS JOIN LATERAL (SELECT * FROM read.totals \
                 WHERE shard = $1 AND generation = $2 AND id = w.id LIMIT 1) t",
        )
        .bind(shard.0)
        .bind(generation)
        .bind(accounts.into_iter().collect::<Vec<_>>())
        .fetch_all(&mut *connection)
        .await?;
        for row in rows {
            model.load_total(TotalRow {
                account: AccountId(row.try_get(0)?),
                user: UserId(row.try_get(1)?),
                conversations: row.try_get(2)?,
                unread: row.try_get(3)?,
            });
        }
        let messages: HashSet<Uuid> = touch
            .messages
            .iter()
            .filter(|id| !model.messages.knows(**id))
            .map(|id| id.0)
            .collect();
        let (of, platform_ids): (Vec<Uuid>, Vec<&str>) = touch
            .platform_ids
            .iter()
            .map(|(conversation, id)| (conversation.0, id.as_str()))
            .unzip();
        let rows = sqlx::query(include_str!("../../sql/load_messages.sql"))
            .bind(shard.0)
            .bind(generation)
            .bind(messages.into_iter().collect::<Vec<_>>())
            .bind(&of)
            .bind(&platform_ids)
            .fetch_all(connection)
            .await?;
        for row in rows {
            let row = message(&row)?;
            // What is here already may have changed since; what went away stays away.
            if !model.messages.knows(row.id) {
                model.load_message(row);
            }
        }
        Ok(())
    }

    /// Writes what changed.
    pub(super) async fn write(
        &self,
        connection: &mut PgConnection,
        shard: Shard,
        generation: i16,
    ) -> Result<()> {
        let model = &self.model;
        remove(connection, shard, generation, model.messages.removed()).await?;
        let conversations: Vec<&ConversationRow> = model.conversations.changed().collect();
        for part in conversations.chunks(ROWS_AT_ONCE) {
            write_conversations(connection, shard, generation, part).await?;
        }
        let totals: Vec<&TotalRow> = model.totals.changed().collect();
        write_totals(connection, shard, generation, &totals).await?;
        let messages: Vec<&MessageRow> = model.messages.changed().collect();
        for part in messages.chunks(ROWS_AT_ONCE) {
            write_messages(connection, shard, generation, part).await?;
        }
        Ok(())
    }
}

fn malformed(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::Statement(sqlx::Error::Decode(Box::new(error)))
}

fn unknown_word(word: &str) -> Error {
    Error::Statement(sqlx::Error::Decode(
        format!("unknown word {word:?} in a read model").into(),
    ))
}

fn conversation(row: &PgRow) -> Result<ConversationRow> {
    let platform: String = row.try_get("platform")?;
    Ok(ConversationRow {
        id: ConversationId(row.try_get("id")?),
        user: UserId(row.try_get("user_id")?),
        account: AccountId(row.try_get("account_id")?),
        platform: platform.parse().map_err(malformed)?,
        thread: row.try_get("thread")?,
        participant_id: row.try_get("participant_id")?,
        participant_name: row
            .try_get::<Option<String>, _>("participant_name")?
            .map(Sealed),
        named_at: row.try_get("named_at")?,
        last_message_at: row.try_get("last_message_at")?,
        unread: row.try_get("unread")?,
        messages: row.try_get("messages")?,
        read_through: row.try_get("read_through")?,
        delivered_until: row.try_get("delivered_until")?,
        seen_until: row.try_get("seen_until")?,
        created_at: row.try_get("created_at")?,
        updated_at: row.try_get("updated_at")?,
    })
}

fn message(row: &PgRow) -> Result<MessageRow> {
    let state: String = row.try_get("state")?;
    let message_type: String = row.try_get("message_type")?;
    let reactions: String = row.try_get("reactions")?;
    Ok(MessageRow {
        id: MessageId(row.try_get("id")?),
        conversation: ConversationId(row.try_get("conversation_id")?),
        platform_message_id: row.try_get("platform_message_id")?,
        state: State::from_name(&state).ok_or_else(|| unknown_word(&state))?,
        sender_id: row.try_get("sender_id")?,
        sender_name: row.try_get::<Option<String>, _>("sender_name")?.map(Sealed),
        text: row.try_get::<Option<String>, _>("body")?.map(Sealed),
        message_type: MessageType::from_name(&message_type)
            .ok_or_else(|| unknown_word(&message_type))?,
        media: row.try_get::<Option<String>, _>("media")?.map(Sealed),
        detail: row.try_get::<Option<String>, _>("detail")?.map(Sealed),
        outgoing: row.try_get("outgoing")?,
        is_read: row.try_get("is_read")?,
        sent_at: row.try_get("sent_at")?,
        delivered_at: row.try_get("delivered_at")?,
        seen_at: row.try_get("seen_at")?,
        edited_at: row.try_get("edited_at")?,
        deleted_at: row.try_get("deleted_at")?,
        reactions: serde_json::from_str(&reactions).map_err(malformed)?,
        attempts: row.try_get("attempts")?,
        retry_at: row.try_get("retry_at")?,
        failure: row.try_get("failure")?,
        failure_reason: row.try_get("failure_reason")?,
        position: row.try_get("position")?,
        created_at: row.try_get("created_at")?,
    })
}

async fn remove(
    connection: &mut PgConnection,
    shard: Shard,
    generation: i16,
    ids: impl Iterator<Item = MessageId>,
) -> Result<()> {
    let ids: Vec<Uuid> = ids.map(|id| id.0).collect();
    if ids.is_empty() {
        return Ok(());
    }
    sqlx::query("DELETE FROM read.messages WHERE shard = $1 AND generation = $2 AND id = ANY ($3)")
        .bind(shard.0)
        .bind(generation)
        .bind(ids)
        .execute(connection)
        .await?;
    Ok(())
}

async fn write_conversations(
    connection: &mut PgConnection,
    shard: Shard,
    generation: i16,
    rows: &[&ConversationRow],
) -> Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    sqlx::query(include_str!("../../sql/put_conversations.sql"))
        .bind(shard.0)
        .bind(generation)
        .bind(rows.iter().map(|row| row.id.0).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.user.0).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.account.0).collect::<Vec<_>>())
        .bind(
            rows.iter()
                .map(|row| row.platform.name())
                .collect::<Vec<_>>(),
        )
        .bind(
            rows.iter()
                .map(|row| row.thread.as_str())
                .collect::<Vec<_>>(),
        )
        .bind(
            rows.iter()
                .map(|row| row.participant_id.as_deref())
                .collect::<Vec<_>>(),
        )
        .bind(
            rows.iter()
                .map(|row| text(row.participant_name.as_ref()))
                .collect::<Vec<_>>(),
        )
        .bind(rows.iter().map(|row| row.named_at).collect::<Vec<_>>())
        .bind(
            rows.iter()
                .map(|row| row.last_message_at)
                .collect::<Vec<_>>(),
        )
        .bind(rows.iter().map(|row| row.unread).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.messages).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.read_through).collect::<Vec<_>>())
        .bind(
            rows.iter()
                .map(|row| row.delivered_until)
                .collect::<Vec<_>>(),
        )
        .bind(rows.iter().map(|row| row.seen_until).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.created_at).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.updated_at).collect::<Vec<_>>())
        .execute(connection)
        .await?;
    Ok(())
}

async fn write_totals(
    connection: &mut PgConnection,
    shard: Shard,
    generation: i16,
    rows: &[&TotalRow],
) -> Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "INSERT INTO read.totals (shard, generation, id, user_id, conversations, unread) \
         SELECT $1, $2, * FROM unnest($3::uuid[], $4::uuid[], $5::bigint[], $6::bigint[]) \
         ON CONFLICT (shard, generation, id) DO UPDATE SET \
         conversations = EXCLUDED.conversations, unread = EXCLUDED.unread",
    )
    .bind(shard.0)
    .bind(generation)
    .bind(rows.iter().map(|row| row.account.0).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.user.0).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.conversations).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.unread).collect::<Vec<_>>())
    .execute(connection)
    .await?;
    Ok(())
}

async fn write_messages(
    connection: &mut PgConnection,
    shard: Shard,
    generation: i16,
    rows: &[&MessageRow],
) -> Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    let reactions = rows
        .iter()
        .map(|row| serde_json::to_string(&row.reactions).map_err(malformed))
        .collect::<Result<Vec<_>>>()?;
    sqlx::query(include_str!("../../sql/put_messages.sql"))
        .bind(shard.0)
        .bind(generation)
        .bind(rows.iter().map(|row| row.id.0).collect::<Vec<_>>())
        .bind(
            rows.iter()
                .map(|row| row.conversation.0)
                .collect::<Vec<_>>(),
        )
        .bind(
            rows.iter()
                .map(|row| row.platform_message_id.as_deref())
                .collect::<Vec<_>>(),
        )
        .bind(rows.iter().map(|row| row.state.name()).collect::<Vec<_>>())
        .bind(
            rows.iter()
                .map(|row| row.sender_id.as_str())
                .collect::<Vec<_>>(),
        )
        .bind(
            rows.iter()
                .map(|row| text(row.sender_name.as_ref()))
                .collect::<Vec<_>>(),
        )
        .bind(
            rows.iter()
                .map(|row| text(row.text.as_ref()))
                .collect::<Vec<_>>(),
        )
        .bind(
            rows.iter()
                .map(|row| row.message_type.name())
                .collect::<Vec<_>>(),
        )
        .bind(
            rows.iter()
                .map(|row| text(row.media.as_ref()))
                .collect::<Vec<_>>(),
        )
        .bind(
            rows.iter()
                .map(|row| text(row.detail.as_ref()))
                .collect::<Vec<_>>(),
        )
        .bind(rows.iter().map(|row| row.outgoing).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.is_read).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.sent_at).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.delivered_at).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.seen_at).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.edited_at).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.deleted_at).collect::<Vec<_>>())
        .bind(reactions)
        .bind(rows.iter().map(|row| row.attempts).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.retry_at).collect::<Vec<_>>())
        .bind(
            rows.iter()
                .map(|row| row.failure.as_deref())
                .collect::<Vec<_>>(),
        )
        .bind(
            rows.iter()
                .map(|row| row.failure_reason.as_deref())
                .collect::<Vec<_>>(),
        )
        .bind(rows.iter().map(|row| row.position).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.created_at).collect::<Vec<_>>())
        .execute(connection)
        .await?;
    Ok(())
}

fn text(sealed: Option<&Sealed>) -> Option<&str> {
    sealed.map(|sealed| sealed.0.as_str())
}
