//! Beginning a transaction so that nobody inherits it by accident.
//!
//! sqlx 0.9 counts a transaction only once its BEGIN was answered. A future that is dropped while it
//! waits for that answer (a client that hangs up) gives the connection back to the pool with the
//! transaction open: the next caller's statements succeed on it and are never committed. So BEGIN
//! is waited for by a task of its own, which nobody drops; a transaction that nobody takes is
//! rolled back.

use sqlx::{PgPool, Postgres, Transaction};

use crate::error::{Error, Result};

/// Begins a transaction. May be dropped at any point.
pub async fn begin(pool: &PgPool) -> Result<Transaction<'static, Postgres>> {
    begin_with(pool, "BEGIN").await
}

/// [`begin`] with a statement of one's own.
pub(crate) async fn begin_with(
    pool: &PgPool,
    statement: &'static str,
) -> Result<Transaction<'static, Postgres>> {
    let pool = pool.clone();
    let begun = tokio::spawn(async move { pool.begin_with(statement).await });
    match begun.await {
        Ok(begun) => Ok(begun?),
        Err(_) => Err(Error::Unavailable(sqlx::Error::WorkerCrashed)),
    }
}
