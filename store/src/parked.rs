//! The table of what reactors could not process: the rows, and nothing about how they come about.
//!
//! Promises: a parked stream has one head, its first row, which says why; later events of the
//! stream stand behind it as held, in order. Rows change only in a transaction that holds the
//! checkpoint of their reactor, generation and shard ([`crate::checkpoint::Turn`]), and the number
//! of heads stands beside the checkpoint's position. Reasons hold no content.

use std::collections::HashSet;

use hub_domain::id::{Place, Shard, StreamId};
use serde::{Deserialize, Serialize};
use sqlx::{PgConnection, Row as _};
use uuid::Uuid;

use crate::checkpoint::Reactor;
use crate::error::Result;

/// Why a row stands in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// Its content does not have the shape of its kind.
    Unreadable,
    /// Its kind or schema is newer than the build that met it: a newer build takes it up by itself.
    NeedsNewerCode,
    /// Processing it failed, and would fail again.
    Failed,
    /// It waits behind an earlier event of its stream.
    Held,
}

impl Class {
    /// The name in the database.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unreadable => "unreadable",
            Self::NeedsNewerCode => "needs_newer_code",
            Self::Failed => "failed",
            Self::Held => "held",
        }
    }
}

/// Something to be put aside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parking {
    /// Its position in the shard.
    pub position: i64,
    /// Its stream; a command has none and holds nobody back.
    pub stream: Option<StreamId>,
    /// The kind of event or command.
    pub kind: String,
    /// Its schema; 0 for a command.
    pub schema: i16,
    /// Why.
    pub class: Class,
    /// What went wrong, in words without content.
    pub reason: String,
}

/// The streams that are parked.
pub(crate) async fn streams(
    connection: &mut PgConnection,
    reactor: Reactor,
    shard: Shard,
) -> Result<Vec<StreamId>> {
    let streams: Vec<Uuid> = sqlx::query_scalar(
        "SELECT stream FROM parked WHERE shard = $1 AND reactor = $2 AND generation = $3 \
         AND class <> 'held' AND stream IS NOT NULL",
    )
    .bind(shard.0)
    .bind(reactor.name)
    .bind(reactor.generation)
    .fetch_all(connection)
    .await?;
    Ok(streams.into_iter().map(StreamId).collect())
}

/// Those of these positions that an operator has given up on.
pub(crate) async fn discarded(
    connection: &mut PgConnection,
    reactor: Reactor,
    shard: Shard,
    positions: &[i64],
) -> Result<HashSet<i64>> {
    let discarded: Vec<i64> = sqlx::query_scalar(
        "SELECT position FROM discarded WHERE shard = $1 AND reactor = $2 AND position = ANY ($3)",
    )
    .bind(shard.0)
    .bind(reactor.name)
    .bind(positions)
    .fetch_all(connection)
    .await?;
    Ok(discarded.into_iter().collect())
}

/// Puts things aside. What stands there already stays as it is.
pub(crate) async fn insert(
    connection: &mut PgConnection,
    reactor: Reactor,
    shard: Shard,
    parkings: &[Parking],
) -> Result<()> {
    sqlx::query(
        "INSERT INTO parked (shard, reactor, generation, position, stream, kind, schema, class, \
             reason) \
         SELECT $1, $2, $3, * FROM unnest($4::bigint[], $5::uuid[], $6::text[], $7::smallint[], \
             $8::text[], $9::text[]) \
         ON CONFLICT DO NOTHING",
    )
    .bind(shard.0)
    .bind(reactor.name)
    .bind(reactor.generation)
    .bind(parkings.iter().map(|it| it.position).collect::<Vec<_>>())
    .bind(
        parkings
            .iter()
            .map(|it| it.stream.map(|stream| stream.0))
            .collect::<Vec<_>>(),
    )
    .bind(
        parkings
            .iter()
            .map(|it| it.kind.as_str())
            .collect::<Vec<_>>(),
    )
    .bind(parkings.iter().map(|it| it.schema).collect::<Vec<_>>())
    .bind(
        parkings
            .iter()
            .map(|it| it.class.name())
            .collect::<Vec<_>>(),
    )
    .bind(
        parkings
            .iter()
            .map(|it| it.reason.as_str())
            .collect::<Vec<_>>(),
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Takes rows away that were processed or given up on.
pub(crate) async fn delete(
    connection: &mut PgConnection,
    reactor: Reactor,
    shard: Shard,
    positions: &[i64],
) -> Result<()> {
    sqlx::query(
        "DELETE FROM parked WHERE shard = $1 AND reactor = $2 AND generation = $3 \
         AND position = ANY ($4)",
    )
    .bind(shard.0)
    .bind(reactor.name)
    .bind(reactor.generation)
    .bind(positions)
    .execute(connection)
    .await?;
    Ok(())
}

/// Writes down that the head of a stream, or a command, was tried and failed again.
pub(crate) async fn tried(
    connection: &mut PgConnection,
    reactor: Reactor,
    shard: Shard,
    head: &Parking,
) -> Result<()> {
    sqlx::query(
        "UPDATE parked SET class = $5, reason = $6, tries = tries + 1, \
             tried_at = clock_timestamp() \
         WHERE shard = $1 AND reactor = $2 AND generation = $3 AND position = $4",
    )
    .bind(shard.0)
    .bind(reactor.name)
    .bind(reactor.generation)
    .bind(head.position)
    .bind(head.class.name())
    .bind(&head.reason)
    .execute(connection)
    .await?;
    Ok(())
}

/// Makes a held row the head of its stream.
pub(crate) async fn promote(
    connection: &mut PgConnection,
    reactor: Reactor,
    shard: Shard,
    position: i64,
    reason: &str,
) -> Result<()> {
    sqlx::query(
        "UPDATE parked SET class = 'failed', reason = $5 \
         WHERE shard = $1 AND reactor = $2 AND generation = $3 AND position = $4 \
         AND class = 'held'",
    )
    .bind(shard.0)
    .bind(reactor.name)
    .bind(reactor.generation)
    .bind(position)
    .bind(reason)
    .execute(connection)
    .await?;
    Ok(())
}

/// The positions of a stream that stand in the table, in order, at most `limit`.
pub(crate) async fn positions(
    connection: &mut PgConnection,
    reactor: Reactor,
    shard: Shard,
    stream: StreamId,
    limit: i64,
) -> Result<Vec<i64>> {
    Ok(sqlx::query_scalar(
        "SELECT position FROM parked WHERE shard = $1 AND reactor = $2 AND generation = $3 \
         AND stream = $4 ORDER BY position LIMIT $5",
    )
    .bind(shard.0)
    .bind(reactor.name)
    .bind(reactor.generation)
    .bind(stream.0)
    .bind(limit)
    .fetch_all(connection)
    .await?)
}

/// Events of these spans, each after a place up to and including a position, whose rows readers do
/// not see because a live read model has parked them.
pub async fn invisible(
    executor: impl sqlx::PgExecutor<'_>,
    spans: &[(Place, i64)],
) -> Result<HashSet<Place>> {
    let rows: Vec<(i16, i64)> = sqlx::query_as(
        "SELECT p.shard, p.position \
         FROM unnest($1::smallint[], $2::bigint[], $3::bigint[]) AS w (shard, after, upto) \
         JOIN generations g ON g.shard = w.shard \
         JOIN parked p ON p.shard = g.shard \
             AND p.reactor = g.projection AND p.generation = g.live \
         WHERE p.position > w.after AND p.position <= w.upto",
    )
    .bind(spans.iter().map(|it| it.0.shard.0).collect::<Vec<_>>())
    .bind(spans.iter().map(|it| it.0.position).collect::<Vec<_>>())
    .bind(spans.iter().map(|it| it.1).collect::<Vec<_>>())
    .fetch_all(executor)
    .await?;
    let places = rows.into_iter().map(|(shard, position)| Place {
        shard: Shard(shard),
        position,
    });
    Ok(places.collect())
}

/// True while a live read model holds events of this stream back: its rows do not show what the
/// log has, however far its checkpoint is.
pub async fn is_held(
    executor: impl sqlx::PgExecutor<'_>,
    projection: &str,
    shard: Shard,
    stream: StreamId,
) -> Result<bool> {
    let row = sqlx::query(
        "SELECT EXISTS (SELECT FROM generations g JOIN parked p ON p.shard = g.shard \
             AND p.reactor = g.projection AND p.generation = g.live AND p.class <> 'held' \
         WHERE g.shard = $1 AND g.projection = $2 AND p.stream = $3)",
    )
    .bind(shard.0)
    .bind(projection)
    .bind(stream.0)
    .fetch_one(executor)
    .await?;
    Ok(row.try_get(0)?)
}
