//! The inbox read model: loading and writing its rows.

use std::collections::{BTreeMap, HashSet};

use hub_domain::event::{MessageType, Sealed};
use hub_domain::id::{AccountId, ConversationId, MessageId, Shard, UserId};
use hub_domain::projection::inbox::{ConversationRow, Inbox, MessageRow, State, TotalRow, Touch};
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row};
use uuid::Uuid;

use crate::error::{Error, Result};
use crate::follow::Batch;

/// Rows of one statement: its parameters are in memory twice while it is on its way.
const ROWS_AT_ONCE: usize = 5_000;

pub(super) async fn apply(
    connection: &mut PgConnection,
    generation: i16,
    batches: &[Batch<'_>],
) -> Result<()> {
    let mut stretch = Stretch::default();
    stretch
        .fold(Some(&mut *connection), generation, batches)
        .await?;
    stretch.write(connection, generation).await
}

/// The rows of a stretch of events, from the first load to the one write.
#[derive(Default)]
pub(super) struct Stretch {
    models: BTreeMap<Shard, Inbox>,
}

impl Stretch {
    /// Folds a batch of each of some shards. What they need and is not here yet is loaded, unless
    /// there is nothing to load from: then the tables are known to be empty.
    pub(super) async fn fold(
        &mut self,
        load_from: Option<&mut PgConnection>,
        generation: i16,
        batches: &[Batch<'_>],
    ) -> Result<()> {
        if let Some(connection) = load_from {
            let mut touches = Vec::with_capacity(batches.len());
            for batch in batches {
                let mut touch = Touch::default();
                let mut concerned = false;
                for recorded in batch.events {
                    concerned |= touch.add(&recorded.event);
                }
                if concerned {
                    touches.push((batch.shard, touch));
                }
            }
            if touches.is_empty() {
                return Ok(());
            }
            self.load(connection, generation, &touches).await?;
        }
        for batch in batches {
            let model = self.models.entry(batch.shard).or_default();
            for recorded in batch.events {
                model.fold(recorded);
            }
        }
        Ok(())
    }

    async fn load(
        &mut self,
        connection: &mut PgConnection,
        generation: i16,
        touches: &[(Shard, Touch)],
    ) -> Result<()> {
        for (shard, _) in touches {
            self.models.entry(*shard).or_default();
        }
        self.load_conversations(connection, generation, touches)
            .await?;
        self.load_totals(connection, generation, touches).await?;
        self.load_unsent(connection, generation, touches).await?;
        self.load_messages(connection, generation, touches).await
    }

    async fn load_conversations(
        &mut self,
        connection: &mut PgConnection,
        generation: i16,
        touches: &[(Shard, Touch)],
    ) -> Result<()> {
        let (shards, ids) = self.missing(touches, |model, touch| {
            let ids = touch.conversations.iter();
            ids.filter(|id| model.conversations.get(**id).is_none())
                .map(|id| id.0)
                .collect()
        });
        if ids.is_empty() {
            return Ok(());
        }
        // With the totals of their accounts, which nearly every event changes.
        let rows = sqlx::query(include_str!("../../sql/load_conversations.sql"))
            .bind(generation)
            .bind(shards)
            .bind(ids)
            .fetch_all(connection)
            .await?;
        for row in rows {
            let model = self.model_of(&row)?;
            let conversation = conversation(&row)?;
            if let Some(conversations) = row.try_get("account_conversations")? {
                let total = TotalRow {
                    account: conversation.account,
                    user: conversation.user,
                    conversations,
                    unread: row.try_get("account_unread")?,
                };
                load_total(model, total);
            }
            model.load_conversation(conversation);
        }
        Ok(())
    }

    /// Totals of accounts in which conversations may be born.
    async fn load_totals(
        &mut self,
        connection: &mut PgConnection,
        generation: i16,
        touches: &[(Shard, Touch)],
    ) -> Result<()> {
        let (shards, ids) = self.missing(touches, |model, touch| {
            let ids = touch.accounts.iter();
            ids.filter(|id| model.totals.get(**id).is_none())
                .map(|id| id.0)
                .collect()
        });
        if ids.is_empty() {
            return Ok(());
        }
        let rows = sqlx::query(
            "SELECT w.shard, t.id, t.user_id, t.conversations, t.unread \
             FROM unnest($2::smallint[], $3::uuid[]) AS w (shard, id) \
             CROSS JOIN LATERAL (SELECT * FROM read.totals \
                 WHERE shard = w.shard AND generation = $1 AND id = w.id LIMIT 1) t",
        )
        .bind(generation)
        .bind(shards)
        .bind(ids)
        .fetch_all(connection)
        .await?;
        for row in rows {
            let total = TotalRow {
                account: AccountId(row.try_get("id")?),
                user: UserId(row.try_get("user_id")?),
                conversations: row.try_get("conversations")?,
                unread: row.try_get("unread")?,
            };
            load_total(self.model_of(&row)?, total);
        }
        Ok(())
    }

    /// What is to be sent of conversations that are forgotten: it stays.
    async fn load_unsent(
        &mut self,
        connection: &mut PgConnection,
        generation: i16,
        touches: &[(Shard, Touch)],
    ) -> Result<()> {
        let forgotten = touches.iter().flat_map(|(shard, touch)| {
            let ids = touch.forgotten.iter();
            ids.map(|id| (shard.0, id.0))
        });
        let (shards, ids): (Vec<i16>, Vec<Uuid>) = forgotten.unzip();
        if ids.is_empty() {
            return Ok(());
        }
        let rows = sqlx::query(include_str!("../../sql/load_unsent.sql"))
            .bind(generation)
            .bind(shards)
            .bind(ids)
            .fetch_all(connection)
            .await?;
        self.put_messages(rows)
    }

    async fn load_messages(
        &mut self,
        connection: &mut PgConnection,
        generation: i16,
        touches: &[(Shard, Touch)],
    ) -> Result<()> {
        let (shards, ids) = self.missing(touches, |model, touch| {
            let ids = touch.messages.iter();
            ids.filter(|id| !model.messages.knows(**id))
                .map(|id| id.0)
                .collect()
        });
        let platform_ids = touches.iter().flat_map(|(shard, touch)| {
            let ids = touch.platform_ids.iter();
            ids.map(|(conversation, id)| (shard.0, conversation.0, id.as_str()))
        });
        let (mut of_shards, mut of, mut names) = (Vec::new(), Vec::new(), Vec::new());
        for (shard, conversation, name) in platform_ids {
            of_shards.push(shard);
            of.push(conversation);
            names.push(name);
        }
        let rows = sqlx::query(include_str!("../../sql/load_messages.sql"))
            .bind(generation)
            .bind(shards)
            .bind(ids)
            .bind(of_shards)
            .bind(of)
            .bind(names)
            .fetch_all(connection)
            .await?;
        self.put_messages(rows)
    }

    fn put_messages(&mut self, rows: Vec<PgRow>) -> Result<()> {
        for row in rows {
            let model = self.model_of(&row)?;
            let row = message(&row)?;
            // What is here already may have changed since; what went away stays away.
            if !model.messages.knows(row.id) {
                model.load_message(row);
            }
        }
        Ok(())
    }

    /// What is touched and not here yet: shards and ids, each pair once.
    fn missing(
        &self,
        touches: &[(Shard, Touch)],
        of: impl Fn(&Inbox, &Touch) -> HashSet<Uuid>,
    ) -> (Vec<i16>, Vec<Uuid>) {
        let missing = touches.iter().flat_map(|(shard, touch)| {
            let ids = self.models.get(shard).map(|model| of(model, touch));
            ids.into_iter().flatten().map(|id| (shard.0, id))
        });
        missing.unzip()
    }

    /// The model of the shard that a row is from.
    fn model_of(&mut self, row: &PgRow) -> Result<&mut Inbox> {
        Ok(self.models.entry(Shard(row.try_get("shard")?)).or_default())
    }

    /// Writes what changed.
    pub(super) async fn write(&self, connection: &mut PgConnection, generation: i16) -> Result<()> {
        let removed = self.rows(|model| model.messages.removed());
        remove(connection, generation, &removed).await?;
        let forgotten = self.rows(|model| model.forgotten());
        forget(connection, generation, &forgotten).await?;
        let conversations = self.rows(|model| model.conversations.changed());
        for part in conversations.chunks(ROWS_AT_ONCE) {
            write_conversations(connection, generation, part).await?;
        }
        let totals = self.rows(|model| model.totals.changed());
        write_totals(connection, generation, &totals).await?;
        let messages = self.rows(|model| model.messages.changed());
        for part in messages.chunks(ROWS_AT_ONCE) {
            write_messages(connection, generation, part).await?;
        }
        Ok(())
    }

    fn rows<'a, T: 'a, I: Iterator<Item = T> + 'a>(
        &'a self,
        of: impl Fn(&'a Inbox) -> I,
    ) -> Vec<(Shard, T)> {
        let rows = self.models.iter();
        rows.flat_map(|(shard, model)| of(model).map(|row| (*shard, row)))
            .collect()
    }
}

/// Totals that are here already may have changed since they were stored.
fn load_total(model: &mut Inbox, total: TotalRow) {
    if model.totals.get(total.account).is_none() {
        model.load_total(total);
    }
}

fn shards<T>(rows: &[(Shard, T)]) -> Vec<i16> {
    rows.iter().map(|(shard, _)| shard.0).collect()
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
        forgotten: row.try_get("forgotten")?,
        created_at: row.try_get("created_at")?,
        updated_at: row.try_get("updated_at")?,
    })
}

fn message(row: &PgRow) -> Result<MessageRow> {
    let state: String = row.try_get("state")?;
    let message_type: String = row.try_get("message_type")?;
    let reactions: String = row.try_get("reactions")?;
    let files: String = row.try_get("files")?;
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
        files: serde_json::from_str(&files).map_err(malformed)?,
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
    generation: i16,
    rows: &[(Shard, MessageId)],
) -> Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "DELETE FROM read.messages m USING unnest($2::smallint[], $3::uuid[]) AS w (shard, id) \
         WHERE m.shard = w.shard AND m.generation = $1 AND m.id = w.id",
    )
    .bind(generation)
    .bind(shards(rows))
    .bind(rows.iter().map(|(_, id)| id.0).collect::<Vec<_>>())
    .execute(connection)
    .await?;
    Ok(())
}

/// Removes the messages of forgotten conversations. Those that are to be sent were loaded before
/// and are removed or written as the fold left them.
async fn forget(
    connection: &mut PgConnection,
    generation: i16,
    rows: &[(Shard, ConversationId)],
) -> Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "DELETE FROM read.messages m USING unnest($2::smallint[], $3::uuid[]) AS w (shard, id) \
         WHERE m.shard = w.shard AND m.generation = $1 AND m.conversation_id = w.id \
         AND m.state NOT IN ('queued', 'sending', 'delayed')",
    )
    .bind(generation)
    .bind(shards(rows))
    .bind(rows.iter().map(|(_, id)| id.0).collect::<Vec<_>>())
    .execute(connection)
    .await?;
    Ok(())
}

async fn write_conversations(
    connection: &mut PgConnection,
    generation: i16,
    rows: &[(Shard, &ConversationRow)],
) -> Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    sqlx::query(include_str!("../../sql/put_conversations.sql"))
        .bind(generation)
        .bind(shards(rows))
        .bind(column(rows, |row| row.id.0))
        .bind(column(rows, |row| row.user.0))
        .bind(column(rows, |row| row.account.0))
        .bind(column(rows, |row| row.platform.name()))
        .bind(column(rows, |row| row.thread.as_str()))
        .bind(column(rows, |row| row.participant_id.as_deref()))
        .bind(column(rows, |row| text(row.participant_name.as_ref())))
        .bind(column(rows, |row| row.named_at))
        .bind(column(rows, |row| row.last_message_at))
        .bind(column(rows, |row| row.unread))
        .bind(column(rows, |row| row.messages))
        .bind(column(rows, |row| row.read_through))
        .bind(column(rows, |row| row.delivered_until))
        .bind(column(rows, |row| row.seen_until))
        .bind(column(rows, |row| row.forgotten))
        .bind(column(rows, |row| row.created_at))
        .bind(column(rows, |row| row.updated_at))
        .execute(connection)
        .await?;
    Ok(())
}

async fn write_totals(
    connection: &mut PgConnection,
    generation: i16,
    rows: &[(Shard, &TotalRow)],
) -> Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "INSERT INTO read.totals (shard, generation, id, user_id, conversations, unread) \
         SELECT shard, $1, id, user_id, conversations, unread \
         FROM unnest($2::smallint[], $3::uuid[], $4::uuid[], $5::bigint[], $6::bigint[]) \
             AS t (shard, id, user_id, conversations, unread) \
         ON CONFLICT (shard, generation, id) DO UPDATE SET \
         conversations = EXCLUDED.conversations, unread = EXCLUDED.unread",
    )
    .bind(generation)
    .bind(shards(rows))
    .bind(column(rows, |row| row.account.0))
    .bind(column(rows, |row| row.user.0))
    .bind(column(rows, |row| row.conversations))
    .bind(column(rows, |row| row.unread))
    .execute(connection)
    .await?;
    Ok(())
}

async fn write_messages(
    connection: &mut PgConnection,
    generation: i16,
    rows: &[(Shard, &MessageRow)],
) -> Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    let reactions = rows
        .iter()
        .map(|(_, row)| serde_json::to_string(&row.reactions).map_err(malformed))
        .collect::<Result<Vec<_>>>()?;
    let files = rows
        .iter()
        .map(|(_, row)| serde_json::to_string(&row.files).map_err(malformed))
        .collect::<Result<Vec<_>>>()?;
    sqlx::query(include_str!("../../sql/put_messages.sql"))
        .bind(generation)
        .bind(shards(rows))
        .bind(column(rows, |row| row.id.0))
        .bind(column(rows, |row| row.conversation.0))
        .bind(column(rows, |row| row.platform_message_id.as_deref()))
        .bind(column(rows, |row| row.state.name()))
        .bind(column(rows, |row| row.sender_id.as_str()))
        .bind(column(rows, |row| text(row.sender_name.as_ref())))
        .bind(column(rows, |row| text(row.text.as_ref())))
        .bind(column(rows, |row| row.message_type.name()))
        .bind(column(rows, |row| text(row.media.as_ref())))
        .bind(column(rows, |row| text(row.detail.as_ref())))
        .bind(column(rows, |row| row.outgoing))
        .bind(column(rows, |row| row.is_read))
        .bind(column(rows, |row| row.sent_at))
        .bind(column(rows, |row| row.delivered_at))
        .bind(column(rows, |row| row.seen_at))
        .bind(column(rows, |row| row.edited_at))
        .bind(column(rows, |row| row.deleted_at))
        .bind(reactions)
        .bind(column(rows, |row| row.attempts))
        .bind(column(rows, |row| row.retry_at))
        .bind(column(rows, |row| row.failure.as_deref()))
        .bind(column(rows, |row| row.failure_reason.as_deref()))
        .bind(column(rows, |row| row.position))
        .bind(column(rows, |row| row.created_at))
        .bind(files)
        .execute(connection)
        .await?;
    Ok(())
}

/// A column of some rows, as a parameter.
fn column<'a, R, T>(rows: &[(Shard, &'a R)], of: impl Fn(&'a R) -> T) -> Vec<T> {
    rows.iter().map(|(_, row)| of(row)).collect()
}

fn text(sealed: Option<&Sealed>) -> Option<&str> {
    sealed.map(|sealed| sealed.0.as_str())
}
