//! Making the rebuilt generation the live one.

use hub_domain::id::Shard;
use hub_domain::limits::SWITCH_ROWS_MAX;
use sqlx::PgConnection;

use super::certificate::{Certificate, Fate, Verdict};
use super::{Pair, Run, compare};
use crate::error::{Error, Result};

/// Switches readers and the live fold over, in one transaction that changes one number. Until it
/// commits the live fold waits; readers never do.
pub(super) async fn switch(
    run: &Run<'_>,
    certificate: &mut Certificate,
    despite_differences: bool,
) -> Result<()> {
    // Comparing took a while: be close again before anybody has to wait.
    run.catch_up().await?;
    let mut tx = crate::transaction::begin(run.pool).await?;
    expect_live(&mut tx, run.pair).await?;
    let positions: Vec<(i16, i64)> = sqlx::query_as(
        "SELECT shard, position FROM checkpoints WHERE reactor = $1 AND generation = $2 \
         ORDER BY shard FOR UPDATE",
    )
    .bind(run.pair.projection.name())
    .bind(run.pair.live)
    .fetch_all(&mut *tx)
    .await?;
    for (shard, position) in &positions {
        run.fold_to(Shard(*shard), *position).await?;
    }
    compare_again(&mut tx, run.pair, &positions, certificate).await?;
    if certificate.verdict() == Verdict::Different && !despite_differences {
        tx.rollback().await?;
        return Ok(());
    }
    sqlx::query("UPDATE generations SET live = $2 WHERE projection = $1")
        .bind(run.pair.projection.name())
        .bind(run.pair.next)
        .execute(&mut *tx)
        .await?;
    tx.commit().await?;
    certificate.fate = Fate::Live;
    for (proof, (_, position)) in certificate.shards.iter_mut().zip(positions) {
        proof.switched_at = Some(position);
    }
    Ok(())
}

/// Fails when somebody else has switched meanwhile.
async fn expect_live(connection: &mut PgConnection, pair: Pair) -> Result<()> {
    let live: Vec<i16> = sqlx::query_scalar(
        "SELECT live FROM generations WHERE projection = $1 ORDER BY shard FOR UPDATE",
    )
    .bind(pair.projection.name())
    .fetch_all(connection)
    .await?;
    if live.iter().all(|live| *live == pair.live) {
        return Ok(());
    }
    Err(Error::Refused(format!(
        "somebody else has switched {} meanwhile",
        pair.projection.name()
    )))
}

/// Compares the shards that have moved since, where both generations stand still now, if that is a
/// matter of a moment.
async fn compare_again(
    connection: &mut PgConnection,
    pair: Pair,
    positions: &[(i16, i64)],
    certificate: &mut Certificate,
) -> Result<()> {
    let moved: Vec<(usize, i64)> = certificate
        .shards
        .iter()
        .zip(positions)
        .enumerate()
        .filter(|(_, (proof, (_, position)))| proof.compared_at != *position)
        .map(|(index, (_, (_, position)))| (index, *position))
        .collect();
    let rows: i64 = moved
        .iter()
        .map(|(index, _)| certificate.shards[*index].rows())
        .sum();
    if rows > SWITCH_ROWS_MAX {
        return Ok(());
    }
    for (index, position) in moved {
        let shard = Shard(certificate.shards[index].shard);
        let tables = compare::digests(connection, pair, shard).await?;
        // What differed before was named before.
        let mut before = certificate.shards[index].tables.iter();
        if before.all(|table| table.live == table.rebuilt) {
            compare::name_differences(connection, pair, shard, &tables, certificate).await?;
        }
        certificate.shards[index].parked = compare::parked(connection, pair, shard).await?;
        certificate.shards[index].compared_at = position;
        certificate.shards[index].tables = tables;
    }
    Ok(())
}
