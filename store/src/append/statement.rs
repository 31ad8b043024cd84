//! The one statement that appends, and what its errors mean.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use hub_domain::envelope::{Append, Expected};
use hub_domain::event::Event;
use sqlx::{PgConnection, Row};
use uuid::Uuid;

#[derive(Default)]
struct Columns {
    shard: Vec<i16>,
    nth: Vec<i64>,
    stream: Vec<Uuid>,
    nth_of_stream: Vec<i64>,
    kind: Vec<&'static str>,
    schema: Vec<i16>,
    payload: Vec<String>,
    meta: Vec<String>,
}

/// Appends these; returns the head each shard had before.
pub(super) async fn insert(
    connection: &mut PgConnection,
    batch: &[&Append],
) -> std::result::Result<HashMap<i16, i64>, sqlx::Error> {
    if let [append] = batch
        && let [event] = append.events.as_slice()
        && append.expected == Expected::Any
        && append.keys.len() <= 1
    {
        let base = insert_one(connection, append, event).await?;
        return Ok(HashMap::from([(append.shard.0, base)]));
    }
    // Sorted, so that two processes lock heads in the same order.
    let mut streams: BTreeMap<(i16, Uuid), (i64, i64)> = BTreeMap::new();
    let mut counts: BTreeMap<i16, i64> = BTreeMap::new();
    let mut columns = Columns::default();
    let mut keys: (Vec<i16>, Vec<Vec<u8>>, Vec<i64>) = Default::default();
    for append in batch {
        let expected = match append.expected {
            Expected::Any => -1,
            Expected::NoStream => 0,
            Expected::Version(version) => version,
        };
        let stream = streams
            .entry((append.shard.0, append.stream.0))
            .or_insert((0, expected));
        let count = counts.entry(append.shard.0).or_insert(0);
        let meta = serde_json::to_string(&append.meta).unwrap_or_else(|_| "{}".to_owned());
        // A caller may name the same key twice; it stands for the same thing.
        for key in append.keys.iter().collect::<BTreeSet<_>>() {
            keys.0.push(append.shard.0);
            keys.1.push(key.0.to_vec());
            keys.2.push(*count + 1);
        }
        for event in &append.events {
            *count += 1;
            stream.0 += 1;
            columns.shard.push(append.shard.0);
            columns.nth.push(*count);
            columns.stream.push(append.stream.0);
            columns.nth_of_stream.push(stream.0);
            columns.kind.push(event.kind());
            columns.schema.push(event.schema());
            columns.payload.push(event.payload());
            columns.meta.push(meta.clone());
        }
    }
    let rows = sqlx::query(include_str!("../../sql/append.sql"))
        .bind(streams.keys().map(|key| key.0).collect::<Vec<_>>())
        .bind(streams.keys().map(|key| key.1).collect::<Vec<_>>())
        .bind(streams.values().map(|it| it.0).collect::<Vec<_>>())
        .bind(streams.values().map(|it| it.1).collect::<Vec<_>>())
        .bind(counts.keys().copied().collect::<Vec<_>>())
        .bind(counts.values().copied().collect::<Vec<_>>())
        .bind(columns.shard)
        .bind(columns.nth)
        .bind(columns.stream)
        .bind(columns.nth_of_stream)
        .bind(columns.kind)
        .bind(columns.schema)
        .bind(columns.payload)
        .bind(columns.meta)
        .bind(keys.0)
        .bind(keys.1)
        .bind(keys.2)
        .fetch_all(connection)
        .await?;
    rows.iter()
        .map(|row| Ok((row.try_get::<i16, _>(0)?, row.try_get::<i64, _>(1)?)))
        .collect()
}

async fn insert_one(
    connection: &mut PgConnection,
    append: &Append,
    event: &Event,
) -> std::result::Result<i64, sqlx::Error> {
    sqlx::query_scalar(include_str!("../../sql/append_one.sql"))
        .bind(append.shard.0)
        .bind(append.stream.0)
        .bind(event.kind())
        .bind(event.schema())
        .bind(event.payload())
        .bind(serde_json::to_string(&append.meta).unwrap_or_else(|_| "{}".to_owned()))
        .bind(append.keys.first().map(|key| key.0.to_vec()))
        .fetch_one(connection)
        .await
}

/// Division by zero is how the statement says "not at the expected version".
pub(super) fn is_conflict(error: &sqlx::Error) -> bool {
    let Some(database) = error.as_database_error() else {
        return false;
    };
    match database.code().as_deref() {
        Some("22012") => true,
        Some("23505") => database.constraint() == Some("keys_pkey"),
        _ => false,
    }
}

/// Serialisation failures and deadlocks: the whole statement may simply be run again.
pub(super) fn is_retryable(error: &sqlx::Error) -> bool {
    matches!(
        error
            .as_database_error()
            .and_then(|database| database.code())
            .as_deref(),
        Some("40001" | "40P01")
    )
}
