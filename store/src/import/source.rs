//! The database of an earlier installation, read as one snapshot.
//!
//! Its tables exist in several shapes: with and without time zones, with columns that others lack.
//! Every row is asked for as JSON, so one statement fits all shapes: a column that is not there is
//! NULL, and a time without zone is read in the zone of the session, one with a zone as it is.
//! Nothing is ever written.

use std::collections::HashMap;
use std::str::FromStr as _;

use chrono::{DateTime, Utc};
use futures::StreamExt as _;
use futures::stream::BoxStream;
use hub_domain::secret::Secret;
use serde::Serialize;
use sqlx::postgres::{PgConnectOptions, PgRow};
use sqlx::{Connection as _, PgConnection, Row as _};
use uuid::Uuid;

use crate::error::{Error, Result};

/// Users asked for at a time.
const USERS_AT_ONCE: i64 = 500;

/// Which servers wrote a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Generation {
    /// The first, as it was installed.
    #[serde(rename = "G1 base")]
    First,
    /// The first, after its migration.
    #[serde(rename = "G1 migrated")]
    FirstMigrated,
    /// The second.
    #[serde(rename = "G2")]
    Second,
}

/// A stored user.
pub(super) struct UserRow {
    pub(super) id: Uuid,
    pub(super) email: String,
    pub(super) password_hash: String,
    pub(super) created_at: Option<DateTime<Utc>>,
    pub(super) updated_at: Option<DateTime<Utc>>,
}

/// A stored refresh token.
pub(super) struct TokenRow {
    pub(super) id: Uuid,
    pub(super) user: Option<Uuid>,
    pub(super) token: String,
    pub(super) expires_at: DateTime<Utc>,
    pub(super) created_at: Option<DateTime<Utc>>,
    pub(super) is_revoked: bool,
}

/// A stored account.
pub(super) struct AccountRow {
    pub(super) id: Uuid,
    pub(super) platform: String,
    pub(super) platform_user_id: String,
    pub(super) username: Option<String>,
    pub(super) access_token: String,
    pub(super) refresh_token: Option<String>,
    pub(super) token_expires_at: Option<DateTime<Utc>>,
    pub(super) is_active: bool,
    pub(super) created_at: Option<DateTime<Utc>>,
}

/// A stored conversation.
pub(super) struct ConversationRow {
    pub(super) id: Uuid,
    pub(super) thread: String,
    pub(super) participant_name: Option<String>,
    pub(super) participant_id: Option<String>,
    pub(super) avatar: Option<String>,
    pub(super) last_message_at: Option<DateTime<Utc>>,
    pub(super) created_at: Option<DateTime<Utc>>,
}

/// A stored message.
pub(super) struct MessageRow {
    pub(super) id: Uuid,
    pub(super) conversation: Uuid,
    pub(super) platform_message_id: String,
    pub(super) sender_id: String,
    pub(super) sender_name: Option<String>,
    pub(super) content: String,
    pub(super) message_type: Option<String>,
    pub(super) media_url: Option<String>,
    pub(super) outgoing: bool,
    pub(super) is_read: bool,
    pub(super) sent_at: DateTime<Utc>,
    pub(super) delivered_at: Option<DateTime<Utc>>,
    pub(super) created_at: Option<DateTime<Utc>>,
}

/// How many rows its tables have.
#[derive(Clone, Copy, Debug, Default, sqlx::FromRow)]
pub(super) struct Counts {
    pub(super) users: i64,
    pub(super) tokens: i64,
    pub(super) accounts: i64,
    pub(super) conversations: i64,
    pub(super) messages: i64,
    /// Rows whose owner is NULL or not there, and rows of those.
    pub(super) lost_accounts: i64,
    pub(super) lost_conversations: i64,
    pub(super) lost_messages: i64,
}

/// An open snapshot.
pub(super) struct Source {
    connection: PgConnection,
    pub(super) generation: Generation,
    pub(super) usage_rows: i64,
}

impl Source {
    /// Connects and begins the snapshot. [`Error::Refused`] when there is no earlier installation, or
    /// no such time zone.
    pub(super) async fn open(url: &Secret, timezone: &str) -> Result<Self> {
        // PostgreSQL reads offsets with the sign turned round.
        let no_zone = || Error::Refused(format!("{timezone:?} is no name of a time zone"));
        if !timezone.starts_with(|it: char| it.is_ascii_alphabetic()) {
            return Err(no_zone());
        }
        let options = PgConnectOptions::from_str(url.expose()).map_err(Error::from)?;
        let options = options.application_name("hub import");
        let mut connection = PgConnection::connect_with(&options)
            .await
            .map_err(Error::Unavailable)?;
        sqlx::query("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            .execute(&mut connection)
            .await?;
        sqlx::query("SELECT set_config('TimeZone', $1, true)")
            .bind(timezone)
            .execute(&mut connection)
            .await
            .map_err(|_| no_zone())?;
        let missing: Vec<String> = sqlx::query_scalar(
            "SELECT name FROM unnest(ARRAY['users', 'refresh_tokens', 'connected_accounts', \
             'conversations', 'messages']) name WHERE to_regclass(name) IS NULL",
        )
        .fetch_all(&mut connection)
        .await?;
        if !missing.is_empty() {
            let names = missing.join(", ");
            let text = format!("there is no earlier installation in it: no table {names}");
            return Err(Error::Refused(text));
        }
        let (has_zones, has_revoked, has_usage): (bool, bool, bool) = sqlx::query_as(
            "SELECT EXISTS (SELECT FROM pg_attribute WHERE attrelid = to_regclass('messages') \
                 AND attname = 'sent_at' AND atttypid = 'timestamptz'::regtype), \
             EXISTS (SELECT FROM pg_attribute WHERE attrelid = to_regclass('refresh_tokens') \
                 AND attname = 'revoked_at' AND NOT attisdropped), \
             to_regclass('api_usage_logs') IS NOT NULL",
        )
        .fetch_one(&mut connection)
        .await?;
        let usage_rows = match has_usage {
            true => {
                sqlx::query_scalar("SELECT count(*) FROM api_usage_logs")
                    .fetch_one(&mut connection)
                    .await?
            }
            false => 0,
        };
        Ok(Self {
            connection,
            generation: match (has_zones, has_revoked) {
                (true, _) => Generation::Second,
                (false, true) => Generation::FirstMigrated,
                (false, false) => Generation::First,
            },
            usage_rows,
        })
    }

    /// How many rows there are.
    pub(super) async fn counts(&mut self) -> Result<Counts> {
        Ok(sqlx::query_as(
            "WITH a AS MATERIALIZED (SELECT a.id, u.id IS NULL AS lost FROM connected_accounts a \
                 LEFT JOIN users u ON u.id = a.user_id), \
             c AS MATERIALIZED (SELECT c.id, coalesce(a.lost, true) AS lost FROM conversations c \
                 LEFT JOIN a ON a.id = c.account_id), \
             m AS (SELECT count(*) AS messages, \
                 count(*) FILTER (WHERE coalesce(c.lost, true)) AS lost_messages \
                 FROM messages m LEFT JOIN c ON c.id = m.conversation_id) \
             SELECT (SELECT count(*) FROM users) AS users, \
                 (SELECT count(*) FROM refresh_tokens) AS tokens, \
                 (SELECT count(*) FROM a) AS accounts, \
                 (SELECT count(*) FROM a WHERE lost) AS lost_accounts, \
                 (SELECT count(*) FROM c) AS conversations, \
                 (SELECT count(*) FROM c WHERE lost) AS lost_conversations, \
                 m.messages, m.lost_messages FROM m",
        )
        .fetch_one(&mut self.connection)
        .await?)
    }

    /// Some values that may be encrypted, newest first.
    pub(super) async fn sample(&mut self) -> Result<Vec<String>> {
        Ok(sqlx::query_scalar(
            "(SELECT content FROM messages WHERE content <> '' ORDER BY sent_at DESC LIMIT 200) \
             UNION ALL (SELECT access_token FROM connected_accounts \
                 WHERE access_token <> '' LIMIT 200)",
        )
        .fetch_all(&mut self.connection)
        .await?)
    }

    /// Users after this one, in the order of their ids.
    pub(super) async fn users(&mut self, after: Option<Uuid>) -> Result<Vec<UserRow>> {
        let rows = sqlx::query(
            "SELECT (r ->> 'id')::uuid AS id, r ->> 'email' AS email, \
                 r ->> 'password_hash' AS password_hash, \
                 (r ->> 'created_at')::timestamptz AS created_at, \
                 (r ->> 'updated_at')::timestamptz AS updated_at \
             FROM (SELECT to_jsonb(u) AS r FROM users u WHERE $1 IS NULL OR id > $1 \
                   ORDER BY id LIMIT $2) u",
        )
        .bind(after)
        .bind(USERS_AT_ONCE)
        .fetch_all(&mut self.connection)
        .await?;
        let user = |row: &PgRow| {
            Ok(UserRow {
                id: row.try_get("id")?,
                email: row.try_get("email")?,
                password_hash: row.try_get("password_hash")?,
                created_at: row.try_get("created_at")?,
                updated_at: row.try_get("updated_at")?,
            })
        };
        rows.iter().map(user).collect()
    }

    /// All refresh tokens.
    pub(super) fn tokens(&mut self) -> BoxStream<'_, Result<TokenRow>> {
        let rows = sqlx::query(
            "SELECT (r ->> 'id')::uuid AS id, (r ->> 'user_id')::uuid AS user_id, \
                 r ->> 'token' AS token, (r ->> 'expires_at')::timestamptz AS expires_at, \
                 (r ->> 'created_at')::timestamptz AS created_at, \
                 (r ->> 'revoked_at') IS NOT NULL AS is_revoked \
             FROM (SELECT to_jsonb(t) AS r FROM refresh_tokens t ORDER BY id) t",
        )
        .fetch(&mut self.connection);
        let token = |row: PgRow| {
            Ok(TokenRow {
                id: row.try_get("id")?,
                user: row.try_get("user_id")?,
                token: row.try_get("token")?,
                expires_at: row.try_get("expires_at")?,
                created_at: row.try_get("created_at")?,
                is_revoked: row.try_get("is_revoked")?,
            })
        };
        Box::pin(rows.map(move |row| token(row?)))
    }

    /// How many accounts, conversations and messages a user has.
    pub(super) async fn below_user(&mut self, user: Uuid) -> Result<(u64, u64, u64)> {
        let (accounts, conversations, messages): (i64, i64, i64) = sqlx::query_as(
            "SELECT count(DISTINCT a.id), count(DISTINCT c.id), count(m.id) \
             FROM connected_accounts a LEFT JOIN conversations c ON c.account_id = a.id \
             LEFT JOIN messages m ON m.conversation_id = c.id WHERE a.user_id = $1",
        )
        .bind(user)
        .fetch_one(&mut self.connection)
        .await?;
        Ok((
            accounts.unsigned_abs(),
            conversations.unsigned_abs(),
            messages.unsigned_abs(),
        ))
    }

    /// How many messages each conversation of an account has, and the newest name in them.
    pub(super) async fn tallies(
        &mut self,
        account: Uuid,
    ) -> Result<HashMap<Uuid, (i64, Option<String>)>> {
        let rows: Vec<(Uuid, i64, Option<String>)> = sqlx::query_as(
            "SELECT c.id, count(m.id), \
                 CASE WHEN c.participant_name IS NULL THEN (SELECT n.sender_name FROM messages n \
                     WHERE n.conversation_id = c.id AND NOT coalesce(n.is_outgoing, false) \
                     AND n.sender_name IS NOT NULL ORDER BY n.sent_at DESC LIMIT 1) END \
             FROM conversations c LEFT JOIN messages m ON m.conversation_id = c.id \
             WHERE c.account_id = $1 GROUP BY c.id",
        )
        .bind(account)
        .fetch_all(&mut self.connection)
        .await?;
        let tallies = rows
            .into_iter()
            .map(|(id, count, name)| (id, (count, name)));
        Ok(tallies.collect())
    }

    /// The accounts of a user, oldest first.
    pub(super) async fn accounts(&mut self, user: Uuid) -> Result<Vec<AccountRow>> {
        let rows = sqlx::query(
            "SELECT (r ->> 'id')::uuid AS id, r ->> 'platform' AS platform, \
                 r ->> 'platform_user_id' AS platform_user_id, \
                 r ->> 'platform_username' AS username, r ->> 'access_token' AS access_token, \
                 r ->> 'refresh_token' AS refresh_token, \
                 (r ->> 'token_expires_at')::timestamptz AS token_expires_at, \
                 coalesce((r ->> 'is_active')::boolean, true) AS is_active, \
                 (r ->> 'created_at')::timestamptz AS created_at \
             FROM (SELECT to_jsonb(a) AS r FROM connected_accounts a WHERE user_id = $1 \
                   ORDER BY created_at, id) a",
        )
        .bind(user)
        .fetch_all(&mut self.connection)
        .await?;
        let account = |row: &PgRow| {
            Ok(AccountRow {
                id: row.try_get("id")?,
                platform: row.try_get("platform")?,
                platform_user_id: row.try_get("platform_user_id")?,
                username: row.try_get("username")?,
                access_token: row.try_get("access_token")?,
                refresh_token: row.try_get("refresh_token")?,
                token_expires_at: row.try_get("token_expires_at")?,
                is_active: row.try_get("is_active")?,
                created_at: row.try_get("created_at")?,
            })
        };
        rows.iter().map(account).collect()
    }

    /// The conversations of an account, newest first.
    pub(super) async fn conversations(&mut self, account: Uuid) -> Result<Vec<ConversationRow>> {
        let rows = sqlx::query(
            "SELECT (r ->> 'id')::uuid AS id, r ->> 'platform_conversation_id' AS thread, \
                 r ->> 'participant_name' AS participant_name, \
                 r ->> 'participant_id' AS participant_id, \
                 r ->> 'participant_avatar_url' AS avatar, \
                 (r ->> 'last_message_at')::timestamptz AS last_message_at, \
                 (r ->> 'created_at')::timestamptz AS created_at \
             FROM (SELECT to_jsonb(c) AS r FROM conversations c WHERE account_id = $1 \
                   ORDER BY last_message_at DESC NULLS LAST, id) c",
        )
        .bind(account)
        .fetch_all(&mut self.connection)
        .await?;
        let conversation = |row: &PgRow| {
            Ok(ConversationRow {
                id: row.try_get("id")?,
                thread: row.try_get("thread")?,
                participant_name: row.try_get("participant_name")?,
                participant_id: row.try_get("participant_id")?,
                avatar: row.try_get("avatar")?,
                last_message_at: row.try_get("last_message_at")?,
                created_at: row.try_get("created_at")?,
            })
        };
        rows.iter().map(conversation).collect()
    }

    /// Who wrote in a conversation from the other side, with the newest name of each, and whether
    /// anybody wrote from ours.
    pub(super) async fn writers(&mut self, conversation: Uuid) -> Result<Writers> {
        let others = sqlx::query_as(
            "SELECT DISTINCT ON (sender_id) sender_id, sender_name FROM messages \
             WHERE conversation_id = $1 AND NOT coalesce(is_outgoing, false) \
             ORDER BY sender_id, sender_name IS NULL, sent_at DESC",
        )
        .bind(conversation)
        .fetch_all(&mut self.connection)
        .await?;
        let ours = sqlx::query_scalar(
            "SELECT EXISTS (SELECT FROM messages WHERE conversation_id = $1 AND is_outgoing)",
        )
        .bind(conversation)
        .fetch_one(&mut self.connection)
        .await?;
        Ok(Writers { others, ours })
    }

    /// Messages of these conversations of an account that other conversations of it have as well.
    pub(super) async fn doubles(&mut self, account: Uuid, of: &[Uuid]) -> Result<Vec<Uuid>> {
        Ok(sqlx::query_scalar(
            "SELECT m.id FROM messages m WHERE m.conversation_id = ANY ($2) AND EXISTS \
             (SELECT FROM messages o JOIN conversations c ON c.id = o.conversation_id \
              WHERE c.account_id = $1 AND c.id <> m.conversation_id \
              AND (c.id <> ALL ($2) OR c.id < m.conversation_id) \
              AND o.platform_message_id = m.platform_message_id)",
        )
        .bind(account)
        .bind(of)
        .fetch_all(&mut self.connection)
        .await?)
    }

    /// The messages of an account, conversation by conversation, oldest first. `ours`: only those
    /// that may be of our side.
    pub(super) fn messages(
        &mut self,
        account: Uuid,
        ours: Option<&str>,
    ) -> BoxStream<'_, Result<MessageRow>> {
        let rows = sqlx::query(
            "SELECT (r ->> 'id')::uuid AS id, (r ->> 'conversation_id')::uuid AS conversation, \
                 r ->> 'platform_message_id' AS platform_message_id, \
                 r ->> 'sender_id' AS sender_id, r ->> 'sender_name' AS sender_name, \
                 r ->> 'content' AS content, r ->> 'message_type' AS message_type, \
                 r ->> 'media_url' AS media_url, \
                 coalesce((r ->> 'is_outgoing')::boolean, false) AS outgoing, \
                 coalesce((r ->> 'is_read')::boolean, false) AS is_read, \
                 (r ->> 'sent_at')::timestamptz AS sent_at, \
                 (r ->> 'delivered_at')::timestamptz AS delivered_at, \
                 (r ->> 'created_at')::timestamptz AS created_at \
             FROM (SELECT to_jsonb(m) AS r FROM messages m \
                   WHERE conversation_id IN (SELECT id FROM conversations WHERE account_id = $1) \
                   AND ($2::text IS NULL OR is_outgoing OR sender_id IN ('me', $2)) \
                   ORDER BY m.conversation_id, m.sent_at, m.id) m",
        )
        .bind(account)
        .bind(ours.map(str::to_owned))
        .fetch(&mut self.connection);
        let message = |row: PgRow| {
            Ok(MessageRow {
                id: row.try_get("id")?,
                conversation: row.try_get("conversation")?,
                platform_message_id: row.try_get("platform_message_id")?,
                sender_id: row.try_get("sender_id")?,
                sender_name: row.try_get("sender_name")?,
                content: row.try_get("content")?,
                message_type: row.try_get("message_type")?,
                media_url: row.try_get("media_url")?,
                outgoing: row.try_get("outgoing")?,
                is_read: row.try_get("is_read")?,
                sent_at: row.try_get("sent_at")?,
                delivered_at: row.try_get("delivered_at")?,
                created_at: row.try_get("created_at")?,
            })
        };
        Box::pin(rows.map(move |row| message(row?)))
    }
}

/// Who wrote in a conversation.
pub(super) struct Writers {
    pub(super) others: Vec<(String, Option<String>)>,
    pub(super) ours: bool,
}
