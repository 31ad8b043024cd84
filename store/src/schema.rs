//! Preparing a database: migrations, shards, and the rows every reactor starts from.

use hub_domain::id::Sharding;
use sqlx::PgPool;

use crate::error::{Error, Result};

/// The projections and the generation they are born with.
pub const PROJECTIONS: [&str; 2] = ["accounts", "inbox"];

/// The generation of every projection in a new database.
pub const FIRST_GENERATION: i16 = 1;

/// Reactors without read models, with the log they tail.
pub const REACTORS: [(&str, &str); 5] = [
    ("translate", "commands"),
    ("dispatch", "events"),
    ("notify", "events"),
    ("seal", "events"),
    ("places", "events"),
];

/// Migrates and, when the database is new, divides it into `shards` shards. The number is fixed
/// from then on; asking again with another number changes nothing.
pub async fn prepare(pool: &PgPool, shards: u16) -> Result<()> {
    hub_migrations::run(pool)
        .await
        .map_err(|error| Error::NotInitialised(format!("migrating failed: {error}")))?;
    let mut tx = crate::transaction::begin(pool).await?;
    let existing: i64 = sqlx::query_scalar("SELECT count(*) FROM shards WHERE log = 'events'")
        .fetch_one(&mut *tx)
        .await?;
    let count = if existing > 0 {
        existing
    } else {
        i64::from(shards)
    };
    // Idempotent as a whole: two processes that prepare at once write the same rows.
    sqlx::query(
        "INSERT INTO shards (shard, log) SELECT n, log FROM generate_series(0, $1 - 1) n, \
         unnest(ARRAY['events', 'commands']) log ORDER BY n, log ON CONFLICT DO NOTHING",
    )
    .bind(count)
    .execute(&mut *tx)
    .await?;
    for projection in PROJECTIONS {
        sqlx::query(
            "INSERT INTO generations (shard, projection, live) \
             SELECT n, $2, $3 FROM generate_series(0, $1 - 1) n ON CONFLICT DO NOTHING",
        )
        .bind(count)
        .bind(projection)
        .bind(FIRST_GENERATION)
        .execute(&mut *tx)
        .await?;
    }
    // Of the live generation, whichever it is: in a database that was rebuilt and tidied up, the
    // first one is gone for good.
    sqlx::query(
        "INSERT INTO checkpoints (shard, reactor, generation, log) \
         SELECT shard, projection, live, 'events' FROM generations ORDER BY shard, projection \
         ON CONFLICT DO NOTHING",
    )
    .execute(&mut *tx)
    .await?;
    for (reactor, log) in REACTORS {
        checkpoints(&mut tx, count, reactor, log).await?;
    }
    tx.commit().await?;
    Ok(())
}

async fn checkpoints(
    tx: &mut sqlx::PgConnection,
    shards: i64,
    reactor: &str,
    log: &str,
) -> Result<()> {
    sqlx::query(
        "INSERT INTO checkpoints (shard, reactor, generation, log) \
         SELECT n, $2, 0, $3 FROM generate_series(0, $1 - 1) n ON CONFLICT DO NOTHING",
    )
    .bind(shards)
    .bind(reactor)
    .bind(log)
    .execute(tx)
    .await?;
    Ok(())
}

/// The number of shards this database was created with.
pub async fn sharding(pool: &PgPool) -> Result<Sharding> {
    let count: std::result::Result<i64, sqlx::Error> =
        sqlx::query_scalar("SELECT count(*) FROM shards WHERE log = 'events'")
            .fetch_one(pool)
            .await;
    match count {
        Ok(0) => Err(not_prepared()),
        Ok(count) => Ok(Sharding {
            count: i16::try_from(count).unwrap_or(i16::MAX),
        }),
        Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some("42P01") => {
            Err(not_prepared())
        }
        Err(error) => Err(error.into()),
    }
}

fn not_prepared() -> Error {
    Error::NotInitialised(
        "The database has no hub in it yet: run `hub migrate` against it first.".to_owned(),
    )
}
