//! When accounts are polled, and who waits for it.
//!
//! Which accounts are polled and where their next poll begins is in the accounts read model, so
//! that it follows from the log. The tables here are a memory of when: without them everything is
//! due, and nothing is lost. One account has one job, so that it is never polled twice at once.

use std::time::Duration;

use chrono::{DateTime, Utc};
use hub_domain::id::{AccountId, Key, Shard, UserId};
use hub_domain::platform::Platform;
use serde_json::Value;
use sqlx::postgres::types::PgInterval;
use sqlx::{PgConnection, PgPool, Row};
use uuid::Uuid;

use crate::Store;
use crate::account::Owner;
use crate::error::{Error, Result};

/// The queue of polls in the jobs table.
pub const QUEUE: &str = "poll";

/// What a poll begins with.
#[derive(Clone, Debug)]
pub struct Standing {
    /// The platform.
    pub platform: Platform,
    /// The platform's id of the account.
    pub route: String,
    /// False once disconnected.
    pub is_active: bool,
    /// Somebody has to connect it again first.
    pub needs_reconnect: bool,
    /// Where the poll begins; `None` the first time.
    pub cursor: Option<Value>,
    /// Polls in a row that brought nothing.
    pub idle: u32,
    /// Polls in a row that failed.
    pub failures: u32,
    /// The platform wants to be left alone for this long.
    pub held: Option<Duration>,
}

/// How a poll ended.
#[derive(Clone, Debug)]
pub struct Ended<'a> {
    /// When the next one is due.
    pub next: Duration,
    /// Whether nobody may poll before that.
    pub held: bool,
    /// Polls in a row that brought nothing, this one included.
    pub idle: u32,
    /// Why it failed; `None` when it did not.
    pub error: Option<&'a str>,
}

/// An account that is due within the time that was asked about.
#[derive(Clone, Debug)]
pub struct Due {
    /// The shard of its owner.
    pub shard: Shard,
    /// Who owns it, and which it is.
    pub owner: Owner,
    /// Due after this.
    pub delay: Duration,
}

/// Somebody who waits for a poll.
#[derive(Clone, Debug)]
pub struct Wish {
    /// The name the outcome is kept under.
    pub answer: Key,
    /// Look back to here.
    pub since: Option<DateTime<Utc>>,
}

/// A user's polls in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Due and not begun.
    pub waiting: i64,
    /// Running.
    pub active: i64,
    /// Will be due.
    pub delayed: i64,
    /// Active accounts that are polled.
    pub accounts: i64,
    /// Polls that ended.
    pub polls: i64,
    /// Those that failed.
    pub failed: i64,
    /// When the last one ended well.
    pub last: Option<DateTime<Utc>>,
}

impl Store {
    /// What a poll of this account begins with; `None` when there is no such account.
    pub async fn poll_standing(&self, owner: Owner) -> Result<Option<Standing>> {
        let row = sqlx::query(
            "SELECT a.platform, a.route, a.is_active, a.needs_reconnect IS NOT NULL, \
                 a.poll_cursor, coalesce(p.idle, 0), coalesce(p.failures, 0), \
                 extract(epoch FROM p.held_until - now())::float8 \
             FROM read.accounts a LEFT JOIN polls p ON p.shard = a.shard AND p.account = a.id \
             WHERE a.shard = $1 AND a.id = $2 AND a.user_id = $3 AND a.generation = \
                 (SELECT live FROM generations WHERE shard = $1 AND projection = 'accounts')",
        )
        .bind(self.sharding().of_user(owner.user).0)
        .bind(owner.account.0)
        .bind(owner.user.0)
        .fetch_optional(self.pool())
        .await?;
        let Some(row) = row else { return Ok(None) };
        let platform: String = row.try_get(0)?;
        let cursor: Option<String> = row.try_get(4)?;
        let count = |column: usize| -> Result<u32> {
            Ok(u32::try_from(row.try_get::<i32, _>(column)?).unwrap_or_default())
        };
        let held: Option<f64> = row.try_get(7)?;
        Ok(Some(Standing {
            platform: platform
                .parse()
                .map_err(|error| Error::Statement(sqlx::Error::Decode(Box::new(error))))?,
            route: row.try_get(1)?,
            is_active: row.try_get(2)?,
            needs_reconnect: row.try_get(3)?,
            cursor: cursor.and_then(|text| serde_json::from_str(&text).ok()),
            idle: count(5)?,
            failures: count(6)?,
            held: held
                .filter(|seconds| *seconds > 0.0)
                .map(Duration::from_secs_f64),
        }))
    }

    /// Writes down how a poll ended and when the next one is due.
    pub async fn poll_ended(&self, owner: Owner, ended: &Ended<'_>) -> Result<()> {
        sqlx::query(
            "INSERT INTO polls AS p (shard, account, next_at, held_until, idle, failures, polls, \
                 failed, polled_at, last_error) \
             VALUES ($1, $2, now() + $3, CASE WHEN $4 THEN now() + $3 END, $5, \
                 CASE WHEN $6::text IS NULL THEN 0 ELSE 1 END, 1, \
                 CASE WHEN $6::text IS NULL THEN 0 ELSE 1 END, \
                 CASE WHEN $6::text IS NULL THEN now() END, $6) \
             ON CONFLICT (shard, account) DO UPDATE SET \
                 next_at = EXCLUDED.next_at, held_until = EXCLUDED.held_until, \
                 idle = EXCLUDED.idle, last_error = EXCLUDED.last_error, \
                 failures = CASE WHEN $6::text IS NULL THEN 0 ELSE p.failures + 1 END, \
                 polls = p.polls + 1, failed = p.failed + EXCLUDED.failed, \
                 polled_at = coalesce(EXCLUDED.polled_at, p.polled_at)",
        )
        .bind(self.sharding().of_user(owner.user).0)
        .bind(owner.account.0)
        .bind(interval(ended.next))
        .bind(ended.held)
        .bind(i32::try_from(ended.idle).unwrap_or(i32::MAX))
        .bind(ended.error)
        .execute(self.pool())
        .await?;
        Ok(())
    }

    /// Forgets when an account is due: nobody polls it any more.
    pub async fn forget_poll(&self, owner: Owner) -> Result<()> {
        sqlx::query("DELETE FROM polls WHERE shard = $1 AND account = $2")
            .bind(self.sharding().of_user(owner.user).0)
            .bind(owner.account.0)
            .execute(self.pool())
            .await?;
        Ok(())
    }

    /// Who waits for a poll of this account.
    pub async fn poll_wishes(&self, owner: Owner) -> Result<Vec<Wish>> {
        let rows: Vec<(Vec<u8>, Option<DateTime<Utc>>)> = sqlx::query_as(
            "SELECT answer, since FROM poll_wishes WHERE shard = $1 AND account = $2",
        )
        .bind(self.sharding().of_user(owner.user).0)
        .bind(owner.account.0)
        .fetch_all(self.pool())
        .await?;
        let wishes = rows.into_iter().filter_map(|(answer, since)| {
            let answer = Key(answer.try_into().ok()?);
            Some(Wish { answer, since })
        });
        Ok(wishes.collect())
    }

    /// Takes away wishes that were answered.
    pub async fn end_poll_wishes(&self, owner: Owner, wishes: &[Wish]) -> Result<()> {
        let answers: Vec<&[u8]> = wishes.iter().map(|it| it.answer.0.as_slice()).collect();
        sqlx::query(
            "DELETE FROM poll_wishes WHERE shard = $1 AND account = $2 AND answer = ANY ($3)",
        )
        .bind(self.sharding().of_user(owner.user).0)
        .bind(owner.account.0)
        .bind(answers)
        .execute(self.pool())
        .await?;
        Ok(())
    }

    /// A user's polls of accounts on these platforms.
    pub async fn poll_stats(&self, user: UserId, platforms: &[&str]) -> Result<Stats> {
        let row = sqlx::query(
            "SELECT count(*) FILTER (WHERE j.lease_owner IS NULL AND j.due_at <= now()), \
                 count(*) FILTER (WHERE j.lease_owner IS NOT NULL), \
                 count(*) FILTER (WHERE a.is_active AND j.lease_owner IS NULL \
                     AND (j.due_at > now() OR (j.id IS NULL AND p.next_at > now()))), \
                 count(*) FILTER (WHERE a.is_active), \
                 coalesce(sum(p.polls), 0)::bigint, coalesce(sum(p.failed), 0)::bigint, \
                 max(p.polled_at) \
             FROM read.accounts a LEFT JOIN polls p ON p.shard = a.shard AND p.account = a.id \
             LEFT JOIN jobs j ON j.shard = a.shard AND j.queue = $3 AND j.key = a.id::text \
                 AND j.parked_at IS NULL \
             WHERE a.shard = $1 AND a.user_id = $2 AND a.platform = ANY ($4) AND a.generation = \
                 (SELECT live FROM generations WHERE shard = $1 AND projection = 'accounts')",
        )
        .bind(self.sharding().of_user(user).0)
        .bind(user.0)
        .bind(QUEUE)
        .bind(platforms)
        .fetch_one(self.pool())
        .await?;
        Ok(Stats {
            waiting: row.try_get(0)?,
            active: row.try_get(1)?,
            delayed: row.try_get(2)?,
            accounts: row.try_get(3)?,
            polls: row.try_get(4)?,
            failed: row.try_get(5)?,
            last: row.try_get(6)?,
        })
    }
}

/// Accounts on these platforms that are due within this time and have no job yet, most overdue
/// first. An account that was never polled is due.
pub async fn due(
    pool: &PgPool,
    platforms: &[&str],
    within: Duration,
    limit: i64,
) -> Result<Vec<Due>> {
    let rows: Vec<(i16, Uuid, Uuid, f64)> = sqlx::query_as(
        "SELECT a.shard, a.user_id, a.id, \
             coalesce(greatest(extract(epoch FROM p.next_at - now()), 0), 0)::float8 \
         FROM read.accounts a JOIN generations g \
             ON g.shard = a.shard AND g.projection = 'accounts' AND g.live = a.generation \
         LEFT JOIN polls p ON p.shard = a.shard AND p.account = a.id \
         WHERE a.is_active AND a.needs_reconnect IS NULL AND a.platform = ANY ($1) \
             AND (p.next_at IS NULL OR p.next_at <= now() + $2) \
             AND NOT EXISTS (SELECT FROM jobs j WHERE j.shard = a.shard AND j.queue = $4 \
                 AND j.key = a.id::text) \
         ORDER BY p.next_at NULLS FIRST LIMIT $3",
    )
    .bind(platforms)
    .bind(interval(within))
    .bind(limit)
    .bind(QUEUE)
    .fetch_all(pool)
    .await?;
    let due = rows.into_iter().map(|(shard, user, account, delay)| Due {
        shard: Shard(shard),
        owner: Owner {
            user: UserId(user),
            account: AccountId(account),
        },
        delay: Duration::from_secs_f64(delay),
    });
    Ok(due.collect())
}

/// Notes that somebody waits for a poll, in the caller's transaction.
pub async fn wish(
    connection: &mut PgConnection,
    shard: Shard,
    account: AccountId,
    wish: &Wish,
) -> Result<()> {
    sqlx::query(
        "INSERT INTO poll_wishes (shard, account, answer, since) VALUES ($1, $2, $3, $4) \
         ON CONFLICT DO NOTHING",
    )
    .bind(shard.0)
    .bind(account.0)
    .bind(wish.answer.0.as_slice())
    .bind(wish.since)
    .execute(connection)
    .await?;
    Ok(())
}

fn interval(duration: Duration) -> PgInterval {
    PgInterval {
        months: 0,
        days: 0,
        microseconds: i64::try_from(duration.as_micros()).unwrap_or(i64::MAX),
    }
}
