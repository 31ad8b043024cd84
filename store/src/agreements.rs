//! Who connected an account, as the platform calls them, and what became of their wish to leave.
//!
//! Platforms name the person who agreed by an id of their own when that person takes the permission
//! back or wants what is known of them deleted. The hub keeps a digest of that id, made under a key
//! that follows from `ENCRYPTION_KEY`: whoever has only the database learns nothing, and equal ids
//! are still found. An account that was connected before there was such a digest is not found by it,
//! until somebody connects it again; so is everything after a change of `ENCRYPTION_KEY`.
//!
//! An agreement goes with the person's erasure and not with the account's disconnection: until then
//! the hub has what came through it.

use std::time::Duration;

use chrono::{DateTime, Utc};
use hub_domain::id::{AccountId, Key, Shard, UserId};
use hub_domain::platform::Platform;
use hub_domain::signature::same;
use sqlx::Row;
use uuid::Uuid;

use crate::Store;
use crate::account::Owner;
use crate::error::Result;

/// The part of a confirmation code that nobody else can make.
const PROOF_BYTES: usize = 8;

/// How far a wish to leave has got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Departed {
    /// Accounts that the person had connected.
    pub found: i32,
    /// The users whose erasure was begun.
    pub users: Vec<UserId>,
    /// When it was over.
    pub done_at: Option<DateTime<Utc>>,
}

/// An account whose access to data ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ending {
    /// Whose account.
    pub owner: Owner,
    /// When.
    pub until: DateTime<Utc>,
}

impl Store {
    /// What stands for a person whom a platform calls by this id.
    pub fn person(&self, platform: Platform, id: &str) -> Key {
        let parts: [&[u8]; 3] = [b"person", platform.name().as_bytes(), id.as_bytes()];
        self.vault().digest(&parts)
    }

    /// Where agreements of a person, and wishes to leave, are kept.
    pub fn shard_of_digest(&self, digest: Key) -> Shard {
        self.sharding().of_name(&hex::encode(digest.0))
    }

    /// What whoever asked to be deleted gets: hexadecimal digits that say what the request was, and
    /// that this installation has taken it.
    pub fn confirmation_code(&self, request: Key) -> String {
        let proof = self.vault().digest(&[b"confirmation", &request.0]);
        hex::encode(request.0) + &hex::encode(&proof.0[..PROOF_BYTES])
    }

    /// The request that a code stands for; `None` when it is none of this installation's.
    pub fn request_of(&self, code: &str) -> Option<Key> {
        let mut request = Key([0; 16]);
        hex::decode_to_slice(code.get(..32)?, &mut request.0).ok()?;
        let own = self.confirmation_code(request);
        same(own.as_bytes(), code.as_bytes()).then_some(request)
    }

    /// Keeps who has connected an account, in the place of whoever had before, and until when the
    /// platform tells about people. After [`Store::put_account_tokens`].
    pub async fn put_agreement(
        &self,
        owner: Owner,
        person: Key,
        data_access_until: Option<DateTime<Utc>>,
    ) -> Result<()> {
        let mut tx = crate::transaction::begin(self.pool()).await?;
        sqlx::query(
            "DELETE FROM agreements WHERE shard = ANY ($1) AND account = $2 AND person <> $3",
        )
        .bind((0..self.sharding().count).collect::<Vec<i16>>())
        .bind(owner.account.0)
        .bind(person.0.as_slice())
        .execute(&mut *tx)
        .await?;
        sqlx::query(
            "INSERT INTO agreements (shard, person, account, user_id) VALUES ($1, $2, $3, $4) \
             ON CONFLICT DO NOTHING",
        )
        .bind(self.shard_of_digest(person).0)
        .bind(person.0.as_slice())
        .bind(owner.account.0)
        .bind(owner.user.0)
        .execute(&mut *tx)
        .await?;
        sqlx::query(
            "UPDATE account_tokens SET data_access_until = $3 WHERE shard = $1 AND account = $2",
        )
        .bind(self.sharding().of_user(owner.user).0)
        .bind(owner.account.0)
        .bind(data_access_until)
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(())
    }

    /// The accounts that a person has connected, disconnected ones included.
    pub async fn agreed(&self, person: Key) -> Result<Vec<Owner>> {
        let rows: Vec<(Uuid, Uuid)> = sqlx::query_as(
            "SELECT user_id, account FROM agreements WHERE shard = $1 AND person = $2 \
             ORDER BY account",
        )
        .bind(self.shard_of_digest(person).0)
        .bind(person.0.as_slice())
        .fetch_all(self.pool())
        .await?;
        let owners = rows.into_iter().map(|(user, account)| Owner {
            user: UserId(user),
            account: AccountId(account),
        });
        Ok(owners.collect())
    }

    /// How far a wish to leave has got; `None` before anybody has attended to it.
    pub async fn departed(&self, request: Key) -> Result<Option<Departed>> {
        let row = sqlx::query(
            "SELECT found, users, done_at FROM departures WHERE shard = $1 AND request = $2",
        )
        .bind(self.shard_of_digest(request).0)
        .bind(request.0.as_slice())
        .fetch_optional(self.pool())
        .await?;
        let departed = row.map(|row| -> Result<Departed> {
            let users: Vec<Uuid> = row.try_get(1)?;
            Ok(Departed {
                found: row.try_get(0)?,
                users: users.into_iter().map(UserId).collect(),
                done_at: row.try_get(2)?,
            })
        });
        departed.transpose()
    }

    /// Writes down what a wish to leave is about, before anything is done about it. What was
    /// written first stays.
    pub async fn begin_departure(&self, request: Key, found: i32, users: &[UserId]) -> Result<()> {
        sqlx::query(
            "INSERT INTO departures (shard, request, found, users) VALUES ($1, $2, $3, $4) \
             ON CONFLICT DO NOTHING",
        )
        .bind(self.shard_of_digest(request).0)
        .bind(request.0.as_slice())
        .bind(found)
        .bind(users.iter().map(|user| user.0).collect::<Vec<_>>())
        .execute(self.pool())
        .await?;
        Ok(())
    }

    /// Writes down that a wish to leave is fulfilled.
    pub async fn end_departure(&self, request: Key) -> Result<()> {
        sqlx::query(
            "UPDATE departures SET done_at = coalesce(done_at, now()) \
             WHERE shard = $1 AND request = $2",
        )
        .bind(self.shard_of_digest(request).0)
        .bind(request.0.as_slice())
        .execute(self.pool())
        .await?;
        Ok(())
    }

    /// Active accounts about whose people the platform stops telling within this time, soonest first.
    pub async fn data_access_ending(&self, within: Duration, limit: i64) -> Result<Vec<Ending>> {
        let rows: Vec<(Uuid, Uuid, DateTime<Utc>)> = sqlx::query_as(
            "SELECT a.user_id, t.account, t.data_access_until FROM account_tokens t \
             JOIN generations g ON g.shard = t.shard AND g.projection = 'accounts' \
             JOIN read.accounts a \
             ON a.shard = t.shard AND a.generation = g.live AND a.id = t.account \
             WHERE t.shard = ANY ($1) \
             AND t.data_access_until BETWEEN now() AND now() + $2 * interval '1 second' \
             AND a.is_active AND a.needs_reconnect IS NULL \
             ORDER BY t.data_access_until LIMIT $3",
        )
        .bind((0..self.sharding().count).collect::<Vec<i16>>())
        .bind(within.as_secs_f64())
        .bind(limit)
        .fetch_all(self.pool())
        .await?;
        let ending = rows.into_iter().map(|(user, account, until)| Ending {
            owner: Owner {
                user: UserId(user),
                account: AccountId(account),
            },
            until,
        });
        Ok(ending.collect())
    }
}
