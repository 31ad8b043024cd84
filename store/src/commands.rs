//! The command log: raw input, durable before it is acknowledged.
//!
//! Promises what the event log promises about positions. There are no keys: a webhook that is
//! delivered twice is two commands, and the events that follow from it are deduplicated.

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, Utc};
use hub_domain::command::{Command, NewCommand};
use hub_domain::event::shape;
use hub_domain::id::{Place, Shard};
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row};

use crate::Store;
use crate::error::{Error, Result};
use crate::group::Batch;
use crate::signal::{Signals, Topic};

/// A command with its place in the log.
#[derive(Clone, Debug)]
pub struct Received {
    /// Shard and position.
    pub place: Place,
    /// The stored kind.
    pub kind: String,
    /// What was asked; `Err` says why this build cannot read it, without its content.
    pub command: std::result::Result<Command, String>,
    /// The request id it came with.
    pub request: Option<String>,
    /// When it was stored, by the database's clock.
    pub received_at: DateTime<Utc>,
}

impl Store {
    /// Stores a command; it is on disk when this returns.
    pub async fn accept(&self, command: NewCommand) -> Result<Place> {
        self.commands.submit(command).await
    }
}

/// The command log as something that commits batches.
#[derive(Clone)]
pub struct CommandLog {
    signals: Signals,
}

impl CommandLog {
    pub(crate) fn new(signals: Signals) -> Self {
        Self { signals }
    }
}

impl Batch for CommandLog {
    type Item = NewCommand;
    type Done = Place;

    fn shard(item: &NewCommand) -> Shard {
        item.shard
    }

    async fn commit(
        &self,
        connection: &mut PgConnection,
        items: Vec<NewCommand>,
    ) -> Vec<Result<Place>> {
        match insert(connection, &items).await {
            Ok(places) => {
                self.signals.raise(Topic::Commands);
                places.into_iter().map(Ok).collect()
            }
            Err(error) => {
                let text = error.to_string();
                items
                    .iter()
                    .map(|_| Err(Error::Unavailable(sqlx::Error::Protocol(text.clone()))))
                    .collect()
            }
        }
    }
}

async fn insert(
    connection: &mut PgConnection,
    items: &[NewCommand],
) -> std::result::Result<Vec<Place>, sqlx::Error> {
    let mut counts: BTreeMap<i16, i64> = BTreeMap::new();
    let nth: Vec<i64> = items
        .iter()
        .map(|item| {
            let count = counts.entry(item.shard.0).or_insert(0);
            *count += 1;
            *count
        })
        .collect();
    let payloads: std::result::Result<Vec<String>, _> = items
        .iter()
        .map(|item| serde_json::to_string(&item.command))
        .collect();
    let payloads = payloads.map_err(|error| sqlx::Error::Encode(Box::new(error)))?;
    let rows = sqlx::query(include_str!("../sql/accept.sql"))
        .bind(counts.keys().copied().collect::<Vec<_>>())
        .bind(counts.values().copied().collect::<Vec<_>>())
        .bind(items.iter().map(|item| item.shard.0).collect::<Vec<_>>())
        .bind(&nth)
        .bind(
            items
                .iter()
                .map(|item| item.command.kind())
                .collect::<Vec<_>>(),
        )
        .bind(payloads)
        .bind(
            items
                .iter()
                .map(|item| item.request.clone())
                .collect::<Vec<_>>(),
        )
        .fetch_all(connection)
        .await?;
    let bases: HashMap<i16, i64> = rows
        .iter()
        .map(|row| Ok((row.try_get(0)?, row.try_get(1)?)))
        .collect::<std::result::Result<_, sqlx::Error>>()?;
    Ok(items
        .iter()
        .zip(nth)
        .map(|(item, nth)| Place {
            shard: item.shard,
            position: bases.get(&item.shard.0).copied().unwrap_or_default() + nth,
        })
        .collect())
}

/// Deletes commands that were received more than `days` days ago and that every reactor has passed,
/// together with the keys of those days: copies of them become unreadable too. Returns how many.
pub async fn forget(store: &Store, days: u16) -> Result<u64> {
    let deleted = sqlx::query(
        "DELETE FROM commands c WHERE c.received_at < now() - $1 * interval '1 day' \
         AND c.position <= (SELECT min(position) FROM checkpoints p \
             WHERE p.shard = c.shard AND p.log = 'commands')",
    )
    .bind(f64::from(days))
    .execute(store.pool())
    .await?
    .rows_affected();
    // What is still there may still be read, however old it is.
    let oldest: Option<DateTime<Utc>> = sqlx::query_scalar("SELECT min(received_at) FROM commands")
        .fetch_one(store.pool())
        .await?;
    let due = Utc::now() - chrono::Duration::days(i64::from(days));
    let kept_from = oldest.map_or(due, |oldest| oldest.min(due));
    // From the day before the day before: around midnight a row may be a day younger than its key.
    // A month further back covers a housekeeping that did not run for a while.
    for back in 2..=32 {
        let day = kept_from - chrono::Duration::days(back);
        store.vault().forget_raw_input(day).await?;
    }
    Ok(deleted)
}

/// The commands after a position, at most `limit`. A hole is corruption.
pub async fn after(
    executor: impl sqlx::PgExecutor<'_>,
    from: Place,
    limit: i64,
) -> Result<Vec<Received>> {
    let mut of_shards = after_all(executor, &[from], limit).await?;
    Ok(of_shards.pop().unwrap_or_default())
}

/// The commands of several shards, each after a place and at most `limit` of each shard, in the
/// order they are asked for. A hole is corruption.
pub async fn after_all(
    executor: impl sqlx::PgExecutor<'_>,
    from: &[Place],
    limit: i64,
) -> Result<Vec<Vec<Received>>> {
    let rows = sqlx::query(
        "SELECT c.position, c.payload::text, c.request, c.received_at, c.kind, w.nth, s.head \
         FROM unnest($1::smallint[], $2::bigint[]) WITH ORDINALITY AS w (shard, after, nth) \
         JOIN shards s ON s.shard = w.shard AND s.log = 'commands' \
         LEFT JOIN LATERAL (SELECT * FROM commands c WHERE c.shard = w.shard \
             AND c.position > w.after AND c.position <= w.after + $3) c ON true \
         ORDER BY w.nth, c.position",
    )
    .bind(from.iter().map(|it| it.shard.0).collect::<Vec<_>>())
    .bind(from.iter().map(|it| it.position).collect::<Vec<_>>())
    .bind(limit)
    .fetch_all(executor)
    .await?;
    let mut rows = rows.into_iter().peekable();
    let mut of_shards = Vec::with_capacity(from.len());
    for (nth, from) in (1_i64..).zip(from) {
        let mut commands = Vec::new();
        let mut head = from.position;
        while let Some(row) = rows.next_if(|row| row.try_get(5).is_ok_and(|it: i64| it == nth)) {
            head = row.try_get(6)?;
            let Some(position) = row.try_get(0)? else {
                continue;
            };
            let place = Place {
                shard: from.shard,
                position,
            };
            crate::read::expect_next(*from, commands.len(), place)?;
            commands.push(received(place, &row)?);
        }
        crate::read::expect_all(*from, commands.len(), head.min(from.position + limit))?;
        of_shards.push(commands);
    }
    Ok(of_shards)
}

/// The command at a place; `None` once raw input of its day was forgotten.
pub async fn at(executor: impl sqlx::PgExecutor<'_>, place: Place) -> Result<Option<Received>> {
    let row = sqlx::query(
        "SELECT position, payload::text, request, received_at, kind FROM commands \
         WHERE shard = $1 AND position = $2",
    )
    .bind(place.shard.0)
    .bind(place.position)
    .fetch_optional(executor)
    .await?;
    row.map(|row| received(place, &row)).transpose()
}

fn received(place: Place, row: &PgRow) -> Result<Received> {
    let payload: String = row.try_get(1)?;
    Ok(Received {
        place,
        kind: row.try_get(4)?,
        command: serde_json::from_str(&payload).map_err(|error| shape(&error)),
        request: row.try_get(2)?,
        received_at: row.try_get(3)?,
    })
}
