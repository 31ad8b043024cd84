//! Every table, index and constraint of the hub, in order, each with its reason.
//!
//! Rules that hold for all of them, so that the same schema runs behind a transaction pooler and on
//! distributed engines: every primary key and unique index begins with `shard`; no sequence, no
//! trigger, no stored procedure, no extension. A landed migration never changes; the next one does.

mod m0001_log;
mod m0002_side_tables;
mod m0003_read_models;
mod m0004_jobs;
mod m0005_seals;
mod m0006_places;
mod m0007_parked;
mod m0008_erasure;
mod m0009_totals;
mod m0010_imported;
mod m0011_polls;
mod m0012_renewals;
mod m0013_usage;
mod m0014_subscriptions;
mod m0015_telegram_sessions;
mod m0016_media;
mod m0019_forgetting;
mod m0021_granted;
mod m0022_agreements;
mod m0023_folds;
mod m0024_heads;

use sea_orm_migration::prelude::*;

/// The migrations in order.
pub struct Migrator;

#[async_trait::async_trait]
impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![
            Box::new(m0001_log::Migration),
            Box::new(m0002_side_tables::Migration),
            Box::new(m0003_read_models::Migration),
            Box::new(m0004_jobs::Migration),
            Box::new(m0005_seals::Migration),
            Box::new(m0006_places::Migration),
            Box::new(m0007_parked::Migration),
            Box::new(m0008_erasure::Migration),
            Box::new(m0009_totals::Migration),
            Box::new(m0010_imported::Migration),
            Box::new(m0011_polls::Migration),
            Box::new(m0012_renewals::Migration),
            Box::new(m0013_usage::Migration),
            Box::new(m0014_subscriptions::Migration),
            Box::new(m0015_telegram_sessions::Migration),
            Box::new(m0016_media::Migration),
            Box::new(m0019_forgetting::Migration),
            Box::new(m0021_granted::Migration),
            Box::new(m0022_agreements::Migration),
            Box::new(m0023_folds::Migration),
            Box::new(m0024_heads::Migration),
        ]
    }
}

/// Brings the schema of this database up to this build. Safe to call from many processes: whoever
/// loses the race finds everything done.
pub async fn run(pool: &sqlx::PgPool) -> Result<(), DbErr> {
    let connection =
        sea_orm_migration::sea_orm::SqlxPostgresConnector::from_sqlx_postgres_pool(pool.clone());
    let mut last = None;
    for _ in 0..Migrator::migrations().len() + 5 {
        match Migrator::up(&connection, None).await {
            Ok(()) => return Ok(()),
            // Another process is migrating: its tables or rows appear under us. Look again.
            Err(error) => last = Some(error),
        }
        if Migrator::get_pending_migrations(&connection)
            .await
            .is_ok_and(|pending| pending.is_empty())
        {
            return Ok(());
        }
    }
    Err(last.unwrap_or_else(|| DbErr::Custom("migrations did not run".to_owned())))
}

/// A digest of the migrations' names, to tell whether a prepared database is still current.
pub fn fingerprint() -> String {
    Migrator::migrations()
        .iter()
        .map(|migration| migration.name().to_owned())
        .collect::<Vec<_>>()
        .join(",")
}
