//! Sessions of Telegram user accounts: who holds one, half-open logins, and wishes that need one.
//!
//! Promises: at most one holder at any time, by the database's clock; a session is only written by
//! who holds it, over the one it was read as, so that neither a slow process nor one that lost its
//! lease brings an older state back. Sessions and wishes are sealed under the owner's key: a session
//! is full access to somebody's account.

use std::time::Duration;

use chrono::{DateTime, Utc};
use hub_domain::event::Sealed;
use hub_domain::id::{AccountId, ConversationId, Key, UserId};
use hub_domain::limits::OAUTH_STATE_TTL;
use hub_domain::platform::Platform;
use hub_domain::platform::telegram_user::{Answered, Wish};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use sqlx::Row as _;
use uuid::Uuid;

use crate::Store;
use crate::account::Owner;
use crate::error::{Error, Result};
use crate::jobs::{self, NewJob};

/// The queue of wishes.
pub const QUEUE: &str = "telegram";

/// A connected Telegram account, as somebody who looks for sessions to hold sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Whose it is.
    pub owner: Owner,
    /// Telegram's id of who the account is.
    pub route: String,
    /// Counts the credentials it has had.
    pub version: i64,
    /// Whether nobody holds it.
    pub is_free: bool,
}

/// A wish as a job carries it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Wished {
    /// Who wishes.
    pub user: UserId,
    /// For which account; none while signing in.
    pub account: Option<AccountId>,
    /// The wish as JSON.
    pub wish: Sealed,
    /// Where the answer goes.
    pub answer: Key,
    /// After this nobody waits for it any more.
    pub until: DateTime<Utc>,
}

impl Store {
    /// Every connected Telegram account with credentials.
    pub async fn telegram_accounts(&self) -> Result<Vec<Candidate>> {
        let rows: Vec<(Uuid, Uuid, String, i64, bool)> = sqlx::query_as(
            "SELECT d.user_id, d.account, d.route, t.version, \
                 coalesce(s.held_until < now(), true) \
             FROM directory d JOIN account_tokens t ON t.account = d.account \
             LEFT JOIN telegram_sessions s ON s.shard = t.shard AND s.account = t.account \
             WHERE d.platform = $1",
        )
        .bind(Platform::Telegram.name())
        .fetch_all(self.pool())
        .await?;
        let rows = rows
            .into_iter()
            .map(|(user, account, route, version, is_free)| Candidate {
                owner: Owner {
                    user: UserId(user),
                    account: AccountId(account),
                },
                route,
                version,
                is_free,
            });
        Ok(rows.collect())
    }

    /// Takes a session nobody holds, for this long. True when it is ours now.
    pub async fn take_telegram(&self, owner: Owner, holder: Uuid, lease: Duration) -> Result<bool> {
        let taken = sqlx::query(
            "INSERT INTO telegram_sessions AS s (shard, account, holder, held_until) \
             VALUES ($1, $2, $3, now() + $4 * interval '1 second') \
             ON CONFLICT (shard, account) DO UPDATE \
             SET holder = EXCLUDED.holder, held_until = EXCLUDED.held_until \
             WHERE s.held_until < now()",
        )
        .bind(self.sharding().of_user(owner.user).0)
        .bind(owner.account.0)
        .bind(holder)
        .bind(lease.as_secs_f64())
        .execute(self.pool())
        .await?;
        Ok(taken.rows_affected() == 1)
    }

    /// Keeps what we hold for this long from now. False when it is no longer ours, or its
    /// credentials are no longer those of this version.
    pub async fn renew_telegram(
        &self,
        owner: Owner,
        holder: Uuid,
        version: i64,
        lease: Duration,
    ) -> Result<bool> {
        let renewed = sqlx::query(
            "UPDATE telegram_sessions s SET held_until = now() + $4 * interval '1 second' \
             FROM account_tokens t WHERE s.shard = $1 AND s.account = $2 AND s.holder = $3 \
             AND s.held_until > now() \
             AND t.shard = s.shard AND t.account = s.account AND t.version = $5",
        )
        .bind(self.sharding().of_user(owner.user).0)
        .bind(owner.account.0)
        .bind(holder)
        .bind(lease.as_secs_f64())
        .bind(version)
        .execute(self.pool())
        .await?;
        Ok(renewed.rows_affected() == 1)
    }

    /// Writes a session's new state. False when it is not ours to write.
    pub async fn save_telegram(
        &self,
        owner: Owner,
        holder: Uuid,
        version: i64,
        session: &str,
    ) -> Result<bool> {
        let key = self.vault().user(owner.user).await?;
        let saved = sqlx::query(
            "UPDATE account_tokens t SET access_token = $4 FROM telegram_sessions s \
             WHERE t.shard = $1 AND t.account = $2 AND t.version = $5 \
             AND s.shard = t.shard AND s.account = t.account AND s.holder = $3 \
             AND s.held_until > now()",
        )
        .bind(self.sharding().of_user(owner.user).0)
        .bind(owner.account.0)
        .bind(holder)
        .bind(key.seal(session).0)
        .bind(version)
        .execute(self.pool())
        .await?;
        Ok(saved.rows_affected() == 1)
    }

    /// Lets go of a session, for others to take at once.
    pub async fn release_telegram(&self, owner: Owner, holder: Uuid) -> Result<()> {
        sqlx::query(
            "DELETE FROM telegram_sessions WHERE shard = $1 AND account = $2 AND holder = $3",
        )
        .bind(self.sharding().of_user(owner.user).0)
        .bind(owner.account.0)
        .bind(holder)
        .execute(self.pool())
        .await?;
        Ok(())
    }

    /// Keeps a half-open login under its user and number, for ten minutes; one per pair.
    pub async fn put_telegram_login(&self, user: UserId, phone: &str, state: &str) -> Result<()> {
        let (shard, hash) = self.login_name(user, phone);
        let sealed = self.vault().user(user).await?.seal(state).0;
        sqlx::query(
            "INSERT INTO oauth_states (shard, state_hash, user_id, platform, verifier, expires_at) \
             VALUES ($1, $2, $3, $4, $5, now() + $6 * interval '1 second') \
             ON CONFLICT (shard, state_hash) DO UPDATE \
             SET verifier = EXCLUDED.verifier, expires_at = EXCLUDED.expires_at",
        )
        .bind(shard)
        .bind(hash)
        .bind(user.0)
        .bind(Platform::Telegram.name())
        .bind(sealed)
        .bind(OAUTH_STATE_TTL.as_secs_f64())
        .execute(self.pool())
        .await?;
        Ok(())
    }

    /// The half-open login of a user and number, while it has not expired.
    pub async fn telegram_login(&self, user: UserId, phone: &str) -> Result<Option<String>> {
        let (shard, hash) = self.login_name(user, phone);
        let sealed: Option<Option<String>> = sqlx::query_scalar(
            "SELECT verifier FROM oauth_states \
             WHERE shard = $1 AND state_hash = $2 AND user_id = $3 AND expires_at > now()",
        )
        .bind(shard)
        .bind(hash)
        .bind(user.0)
        .fetch_optional(self.pool())
        .await?;
        match sealed.flatten() {
            Some(sealed) => {
                let key = self.vault().user(user).await?;
                Ok(Some(key.open(&Sealed(sealed))?))
            }
            None => Ok(None),
        }
    }

    /// Ends a half-open login.
    pub async fn end_telegram_login(&self, user: UserId, phone: &str) -> Result<()> {
        let (shard, hash) = self.login_name(user, phone);
        sqlx::query("DELETE FROM oauth_states WHERE shard = $1 AND state_hash = $2")
            .bind(shard)
            .bind(hash)
            .execute(self.pool())
            .await?;
        Ok(())
    }

    fn login_name(&self, user: UserId, phone: &str) -> (i16, Vec<u8>) {
        let name = format!("telegram login {user} {phone}");
        let hash = Sha256::digest(&name).to_vec();
        (self.sharding().of_name(&name).0, hash)
    }

    /// Hands a wish to whichever worker can fulfil it. Returns where the answer will be.
    pub async fn wish_of_telegram(
        &self,
        user: UserId,
        account: Option<AccountId>,
        wish: &Wish,
        within: Duration,
    ) -> Result<Key> {
        let answer = Key::of(&[b"telegram", Uuid::new_v4().as_bytes()]);
        let text =
            serde_json::to_string(wish).map_err(|_| Error::Sealed("a wish is plain data"))?;
        let wished = Wished {
            user,
            account,
            wish: self.vault().user(user).await?.seal(&text),
            answer,
            until: Utc::now() + within,
        };
        let job = NewJob {
            shard: self.sharding().of_user(user),
            queue: QUEUE,
            key: hex::encode(answer.0),
            payload: serde_json::json!(wished),
            delay: Duration::ZERO,
        };
        let mut tx = crate::transaction::begin(self.pool()).await?;
        jobs::enqueue(&mut tx, &job).await?;
        tx.commit().await?;
        self.signals().raise_queue(QUEUE);
        Ok(answer)
    }

    /// The wish inside a job.
    pub async fn open_wish(&self, wished: &Wished) -> Result<Wish> {
        let text = self.vault().user(wished.user).await?.open(&wished.wish)?;
        serde_json::from_str(&text).map_err(|_| Error::Sealed("the wish is malformed"))
    }

    /// Answers a wish.
    pub async fn answer_wish(&self, wished: &Wished, answered: &Answered) -> Result<()> {
        let text = serde_json::to_string(answered)
            .map_err(|_| Error::Sealed("an answer is plain data"))?;
        let sealed = self.vault().user(wished.user).await?.seal(&text);
        let shard = self.sharding().of_user(wished.user);
        self.put_answer(shard, wished.answer, &sealed).await
    }

    /// Waits for the answer to a wish, at most this long.
    pub async fn wait_for_wish(
        &self,
        user: UserId,
        answer: Key,
        at_most: Duration,
    ) -> Result<Option<Answered>> {
        let shard = self.sharding().of_user(user);
        let Some(sealed) = self
            .wait_for_answer::<Sealed>(shard, answer, at_most)
            .await?
        else {
            return Ok(None);
        };
        let text = self.vault().user(user).await?.open(&sealed)?;
        let answered = serde_json::from_str(&text);
        answered.map_or(Err(Error::Sealed("the answer is malformed")), |it| {
            Ok(Some(it))
        })
    }

    /// When a message was written that the hub knows under its platform id.
    pub async fn written_at(
        &self,
        user: UserId,
        conversation: ConversationId,
        platform_message_id: &str,
    ) -> Result<Option<DateTime<Utc>>> {
        let found: Option<Option<DateTime<Utc>>> = sqlx::query_scalar(
            "SELECT sent_at FROM read.messages WHERE shard = $1 AND generation = \
                 (SELECT live FROM generations WHERE shard = $1 AND projection = 'inbox') \
             AND conversation_id = $2 AND platform_message_id = $3 AND state <> 'placeholder'",
        )
        .bind(self.sharding().of_user(user).0)
        .bind(conversation.0)
        .bind(platform_message_id)
        .fetch_optional(self.pool())
        .await?;
        Ok(found.flatten())
    }

    /// In which threads of an account these messages are, outside of channels, whose numbers count
    /// by themselves. Telegram tells deletions without saying where.
    pub async fn threads_of_messages(
        &self,
        owner: Owner,
        platform_message_ids: &[String],
    ) -> Result<Vec<(String, String)>> {
        let rows = sqlx::query(
            "SELECT c.thread, m.platform_message_id FROM read.conversations c \
             JOIN LATERAL (SELECT platform_message_id FROM read.messages m \
                 WHERE m.shard = c.shard AND m.generation = c.generation \
                 AND m.conversation_id = c.id AND m.platform_message_id = ANY ($4)) m ON true \
             WHERE c.shard = $1 AND c.generation = \
                 (SELECT live FROM generations WHERE shard = $1 AND projection = 'inbox') \
             AND c.user_id = $2 AND c.account_id = $3 AND c.thread NOT LIKE '-100%'",
        )
        .bind(self.sharding().of_user(owner.user).0)
        .bind(owner.user.0)
        .bind(owner.account.0)
        .bind(platform_message_ids)
        .fetch_all(self.pool())
        .await?;
        let pair = |row: sqlx::postgres::PgRow| Ok((row.try_get(0)?, row.try_get(1)?));
        rows.into_iter().map(pair).collect()
    }
}
