//! All there is to know about a dead letter, without its content.

use serde_json::{Map, Value, json};
use sqlx::{PgPool, Row as _};
use uuid::Uuid;

use super::jobs::{DeadJob, row_id};
use super::{Parked, REACTORS};
use crate::error::Result;

/// Held events that are listed.
const HELD_MAX: i64 = 20;

/// What sealed texts begin with.
const SEALED: &str = "h1.";

/// A parked stream or command: its row, the event or command it is about with the shape of its
/// payload, and the events that wait behind it.
pub async fn detail(pool: &PgPool, it: &Parked) -> Result<Value> {
    let log = REACTORS.iter().find(|(name, _)| *name == it.reactor);
    let about = match log {
        Some((_, "commands")) => command(pool, it).await?,
        _ => event(pool, it).await?,
    };
    let held: Vec<(i64, String)> = sqlx::query_as(
        "SELECT position, kind FROM parked WHERE shard = $1 AND reactor = $2 AND generation = $3 \
         AND stream = $4 AND class = 'held' ORDER BY position LIMIT $5",
    )
    .bind(it.shard)
    .bind(&it.reactor)
    .bind(it.generation)
    .bind(it.stream)
    .bind(HELD_MAX)
    .fetch_all(pool)
    .await?;
    let held: Vec<String> = held
        .into_iter()
        .map(|(position, kind)| format!("{}-{position} {kind}", it.shard))
        .collect();
    Ok(json!({ "parked": it, "about": about, "held": held }))
}

async fn event(pool: &PgPool, it: &Parked) -> Result<Value> {
    let row = sqlx::query(
        "SELECT version, recorded_at::text, payload::text, meta::text FROM events \
         WHERE shard = $1 AND position = $2",
    )
    .bind(it.shard)
    .bind(it.position)
    .fetch_optional(pool)
    .await?;
    let Some(row) = row else {
        return Ok(Value::Null);
    };
    let meta: Value = serde_json::from_str(&row.try_get::<String, _>(3)?).unwrap_or_default();
    Ok(json!({
        "log": "events",
        "version": row.try_get::<i64, _>(0)?,
        "recorded_at": row.try_get::<String, _>(1)?,
        "payload": masked(&row.try_get::<String, _>(2)?),
        "causation": meta["causation"],
        "request": meta["request"],
    }))
}

async fn command(pool: &PgPool, it: &Parked) -> Result<Value> {
    let row = sqlx::query(
        "SELECT received_at::text, payload::text, request FROM commands \
         WHERE shard = $1 AND position = $2",
    )
    .bind(it.shard)
    .bind(it.position)
    .fetch_optional(pool)
    .await?;
    let Some(row) = row else {
        return Ok(json!({ "log": "commands", "forgotten": true }));
    };
    Ok(json!({
        "log": "commands",
        "received_at": row.try_get::<String, _>(0)?,
        "payload": masked(&row.try_get::<String, _>(1)?),
        "request": row.try_get::<Option<String>, _>(2)?,
    }))
}

/// A parked job with the shape of its payload.
pub async fn job_detail(pool: &PgPool, it: &DeadJob) -> Result<Value> {
    let (row, payload) = row_id(pool, it).await?.unzip();
    Ok(json!({
        "job": it,
        "row": row,
        "payload": payload.map(|text| masked(&text)),
    }))
}

/// The shape of a JSON text: names and ids as they are, and of every other text and number only
/// that it is there.
fn masked(text: &str) -> Value {
    match serde_json::from_str(text) {
        Ok(value) => mask(value),
        Err(_) => json!("<not JSON>"),
    }
}

fn mask(value: Value) -> Value {
    match value {
        Value::Null | Value::Bool(_) => value,
        Value::Number(_) => json!("<number>"),
        Value::String(text) if text.starts_with(SEALED) => json!("<sealed>"),
        Value::String(text) if text.parse::<Uuid>().is_ok() => json!(text),
        Value::String(text) => json!(format!("<text, {} characters>", text.chars().count())),
        Value::Array(values) => values.into_iter().map(mask).collect(),
        Value::Object(fields) => fields
            .into_iter()
            .map(|(name, value)| (name, mask(value)))
            .collect::<Map<_, _>>()
            .into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_of_a_payload_is_its_shape() {
        let id = "6f1d9c0e-52c4-5b7a-9a35-0d7c6e2b41f8";
        let text = format!(
            r#"{{"user":"{id}","text":"h1.abc","sender":"+49 170","n":[1,true,null],"at":{{}}}}"#
        );
        let shown = json!({
            "user": id, "text": "<sealed>", "sender": "<text, 7 characters>",
            "n": ["<number>", true, null], "at": {},
        });
        assert_eq!(masked(&text), shown);
        assert_eq!(masked("{"), json!("<not JSON>"));
    }
}
