//! Who used what: requests of users and calls to platforms that succeeded, and the daily report of
//! them (contract 5.5).
//!
//! Counting is a note in memory and never waits: what is counted of the same endpoint becomes one
//! row, and every few seconds the rows are written in one statement. It is not worth a request: when
//! the database is away, notes wait for it up to a bound and are dropped beyond it, counted in
//! `hub_usage_dropped_total`. A process that is killed loses some seconds of notes.
//!
//! Rows of a batch keep their ids, so that one whose outcome is unknown is written again and counts
//! once.

mod report;

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use hub_domain::id::{AccountId, Sharding, UserId};
use hub_domain::platform::Platform;
use sqlx::PgPool;
use uuid::Uuid;

pub use report::{Line, keep, prune, report};

use crate::error::Result;

/// Notes are written this often.
const WRITE_EVERY: Duration = Duration::from_secs(5);

/// Different things that are noted at a time; more are dropped.
const NOTES_MAX: usize = 10_000;

/// Rows of one statement.
const ROWS_MAX: usize = 1_000;

/// Where calls fall that are about nobody.
const NOBODY: &str = "api_usage_logs";

/// A call to a platform.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Call {
    /// The platform.
    pub platform: Platform,
    /// What it was for: a name of ours, because addresses have ids and tokens in them.
    pub endpoint: &'static str,
    /// Whom it was made for.
    pub user: Option<UserId>,
    /// Their account, when there is one already.
    pub account: Option<AccountId>,
}

/// What is counted together.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct What {
    user: Option<UserId>,
    account: Option<AccountId>,
    platform: Option<Platform>,
    endpoint: Cow<'static, str>,
    /// Days are told apart by the report, so notes that wait may not span two.
    day: i64,
}

struct Note {
    count: u64,
    since: DateTime<Utc>,
}

struct Row {
    id: Uuid,
    what: What,
    note: Note,
}

struct Shared {
    pool: PgPool,
    sharding: Sharding,
    notes: Mutex<HashMap<What, Note>>,
    /// Taken from the notes and not written yet; held by whoever writes.
    batch: tokio::sync::Mutex<Vec<Row>>,
    dropped: AtomicU64,
}

/// What this process counts. Clones share it.
#[derive(Clone)]
pub struct Usage {
    shared: Arc<Shared>,
}

impl Usage {
    /// Begins to write what will be counted; ends with the pool or with the last clone.
    pub(crate) fn start(pool: PgPool, sharding: Sharding) -> Self {
        let shared = Arc::new(Shared {
            pool,
            sharding,
            notes: Mutex::default(),
            batch: tokio::sync::Mutex::default(),
            dropped: AtomicU64::new(0),
        });
        let (pool, weak) = (shared.pool.clone(), Arc::downgrade(&shared));
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    () = pool.close_event() => return,
                    () = tokio::time::sleep(WRITE_EVERY) => {}
                }
                let Some(shared) = weak.upgrade() else {
                    return;
                };
                if let Err(error) = (Self { shared }).write().await {
                    tracing::warn!(%error, "usage was not written yet");
                }
            }
        });
        Self { shared }
    }

    /// Counts a request of a user that succeeded: method and route, as `GET /api/messages/{id}`.
    pub fn request(&self, user: UserId, endpoint: String) {
        self.note(Some(user), None, None, endpoint.into());
    }

    /// Counts a call to a platform that succeeded.
    pub fn call(&self, call: Call) {
        let platform = Some(call.platform);
        self.note(call.user, call.account, platform, call.endpoint.into());
    }

    fn note(
        &self,
        user: Option<UserId>,
        account: Option<AccountId>,
        platform: Option<Platform>,
        endpoint: Cow<'static, str>,
    ) {
        let since = Utc::now();
        let what = What {
            user,
            account,
            platform,
            endpoint,
            day: since.timestamp().div_euclid(86_400),
        };
        let notes = self.shared.notes.lock();
        let mut notes = notes.unwrap_or_else(PoisonError::into_inner);
        if let Some(note) = notes.get_mut(&what) {
            note.count += 1;
        } else if notes.len() < NOTES_MAX {
            notes.insert(what, Note { count: 1, since });
        } else {
            drop(notes);
            self.drop_notes(1);
        }
    }

    /// Writes everything that was counted until now. What cannot be written stays, and is tried
    /// again with the next call.
    pub async fn write(&self) -> Result<()> {
        let mut batch = self.shared.batch.lock().await;
        if batch.is_empty() {
            *batch = self.take();
        }
        while !batch.is_empty() {
            let rows = batch.len().min(ROWS_MAX);
            match self.insert(&batch[..rows]).await {
                Ok(()) => {}
                Err(error) if error.is_temporary() => return Err(error),
                // Trying again would end the same way, for ever.
                Err(error) => {
                    tracing::error!(%error, "usage was dropped");
                    self.drop_notes(batch[..rows].iter().map(|row| row.note.count).sum());
                }
            }
            batch.drain(..rows);
        }
        Ok(())
    }

    /// What was not counted so far, because too much waited or could not be written.
    pub fn dropped(&self) -> u64 {
        self.shared.dropped.load(Ordering::Relaxed)
    }

    fn drop_notes(&self, count: u64) {
        self.shared.dropped.fetch_add(count, Ordering::Relaxed);
        metrics::counter!("hub_usage_dropped_total").increment(count);
    }

    fn take(&self) -> Vec<Row> {
        let notes = self.shared.notes.lock();
        let notes = std::mem::take(&mut *notes.unwrap_or_else(PoisonError::into_inner));
        let rows = notes.into_iter().map(|(what, note)| Row {
            id: Uuid::now_v7(),
            what,
            note,
        });
        rows.collect()
    }

    async fn insert(&self, rows: &[Row]) -> Result<()> {
        fn column<T>(rows: &[Row], of: impl Fn(&Row) -> T) -> Vec<T> {
            rows.iter().map(of).collect()
        }
        let sharding = self.shared.sharding;
        let shards = column(rows, |row| match row.what.user {
            Some(user) => sharding.of_user(user).0,
            None => sharding.of_name(NOBODY).0,
        });
        let platforms = column(rows, |row| row.what.platform.map(Platform::name));
        let counts = column(rows, |row| {
            i64::try_from(row.note.count).unwrap_or(i64::MAX)
        });
        sqlx::query(
            "INSERT INTO api_usage_logs \
                 (shard, id, user_id, account_id, platform, endpoint, request_count, timestamp) \
             SELECT * FROM unnest($1::smallint[], $2::uuid[], $3::uuid[], $4::uuid[], $5::text[], \
                 $6::text[], $7::bigint[], $8::timestamptz[]) ON CONFLICT DO NOTHING",
        )
        .bind(shards)
        .bind(column(rows, |row| row.id))
        .bind(column(rows, |row| row.what.user.map(|user| user.0)))
        .bind(column(rows, |row| row.what.account.map(|it| it.0)))
        .bind(platforms)
        .bind(column(rows, |row| row.what.endpoint.to_string()))
        .bind(counts)
        .bind(column(rows, |row| row.note.since))
        .execute(&self.shared.pool)
        .await?;
        Ok(())
    }
}
