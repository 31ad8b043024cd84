//! The schema, read back from the catalogue: it must run unchanged on engines that distribute by
//! shard, and migrations must work in both directions and from several processes.

use hub_domain::secret::Secret;
use hub_migrations::Migrator;
use hub_store::PgPool;
use sea_orm::SqlxPostgresConnector;
use sea_orm_migration::MigratorTrait as _;

use crate::world::{SHARDS, World};

async fn list(pool: &PgPool, query: &'static str) -> Vec<String> {
    sqlx::query_scalar(query).fetch_all(pool).await.unwrap()
}

async fn empty() -> (hub_cluster::TestDatabase, PgPool) {
    let shared = hub_cluster::shared_for_tests().await.unwrap();
    let database = shared.empty_database().await.unwrap();
    let pool = hub_store::connect(&Secret::new(database.url()), 8)
        .await
        .unwrap();
    (database, pool)
}

/// Tables, columns and indexes of the schema, one line each.
async fn schema(pool: &PgPool) -> Vec<String> {
    list(
        pool,
        "SELECT format('%s.%s.%s %s null:%s default:%s', table_schema, table_name, column_name, \
                data_type, is_nullable, column_default) AS line \
         FROM information_schema.columns \
         WHERE table_schema IN ('public', 'read') AND table_name <> 'seaql_migrations' \
         UNION ALL SELECT indexdef FROM pg_indexes \
         WHERE schemaname IN ('public', 'read') AND tablename <> 'seaql_migrations' \
         ORDER BY line",
    )
    .await
}

#[tokio::test]
async fn every_unique_index_begins_with_the_shard() {
    let world = World::new().await;
    let all = list(
        world.pool(),
        "SELECT indexrelid::regclass::text || ': ' || attname FROM pg_index \
         JOIN pg_class c ON c.oid = indrelid JOIN pg_namespace n ON n.oid = relnamespace \
         JOIN pg_attribute a ON a.attrelid = indrelid AND a.attnum = indkey[0] \
         WHERE indisunique AND nspname IN ('public', 'read') AND c.relname <> 'seaql_migrations'",
    )
    .await;
    assert!(all.len() > 20, "{all:?}");
    let others: Vec<_> = all
        .iter()
        .filter(|line| !line.ends_with(": shard"))
        .collect();
    assert!(others.is_empty(), "{others:?}");
}

#[tokio::test]
async fn every_table_has_a_primary_key_and_every_hot_index_the_shard() {
    let world = World::new().await;
    let without_key = list(
        world.pool(),
        "SELECT c.oid::regclass::text FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace \
         WHERE relkind IN ('r', 'p') AND nspname IN ('public', 'read') \
         AND NOT EXISTS (SELECT FROM pg_index WHERE indrelid = c.oid AND indisprimary)",
    )
    .await;
    assert!(without_key.is_empty(), "{without_key:?}");
    let without_shard = list(
        world.pool(),
        "SELECT indexrelid::regclass::text FROM pg_index \
         JOIN pg_class c ON c.oid = indrelid JOIN pg_namespace n ON n.oid = relnamespace \
         JOIN pg_attribute a ON a.attrelid = indrelid AND a.attnum = indkey[0] \
         WHERE nspname IN ('public', 'read') AND c.relname <> 'seaql_migrations' \
         AND attname <> 'shard'",
    )
    .await;
    assert!(without_shard.is_empty(), "{without_shard:?}");
}

#[tokio::test]
async fn the_database_has_no_machinery_that_other_engines_lack() {
    let world = World::new().await;
    let machinery = list(
        world.pool(),
        "SELECT 'extension ' || extname FROM pg_extension WHERE extname <> 'plpgsql' \
         UNION ALL SELECT 'trigger ' || tgname FROM pg_trigger WHERE NOT tgisinternal \
         UNION ALL SELECT 'function ' || proname FROM pg_proc p \
             JOIN pg_namespace n ON n.oid = pronamespace WHERE nspname IN ('public', 'read') \
         UNION ALL SELECT 'sequence ' || c.oid::regclass FROM pg_class c \
             JOIN pg_namespace n ON n.oid = relnamespace \
             WHERE relkind = 'S' AND nspname IN ('public', 'read') \
         UNION ALL SELECT 'identity ' || attrelid::regclass FROM pg_attribute \
             WHERE attidentity <> ''",
    )
    .await;
    assert!(machinery.is_empty(), "{machinery:?}");
}

#[tokio::test]
async fn migrations_go_up_and_down_and_up_again() {
    let (_database, pool) = empty().await;
    let orm = SqlxPostgresConnector::from_sqlx_postgres_pool(pool.clone());
    hub_migrations::run(&pool).await.unwrap();
    let first = schema(&pool).await;
    assert!(first.len() > 100);
    Migrator::down(&orm, None).await.unwrap();
    assert_eq!(schema(&pool).await, Vec::<String>::new());
    hub_migrations::run(&pool).await.unwrap();
    assert_eq!(schema(&pool).await, first);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_processes_may_prepare_the_same_empty_database() {
    let (_database, pool) = empty().await;
    let prepared = (0..4).map(|_| hub_store::schema::prepare(&pool, SHARDS));
    for outcome in futures::future::join_all(prepared).await {
        outcome.unwrap();
    }
    let sharding = hub_store::schema::sharding(&pool).await.unwrap();
    assert_eq!(sharding.count, SHARDS as i16);
    let rows: (i64, i64, i64) = sqlx::query_as(
        "SELECT (SELECT count(*) FROM shards), (SELECT count(*) FROM generations), \
         (SELECT count(*) FROM checkpoints)",
    )
    .fetch_one(&pool)
    .await
    .unwrap();
    let shards = i64::from(SHARDS);
    assert_eq!(rows, (2 * shards, 2 * shards, 7 * shards));
}

#[tokio::test]
async fn the_number_of_shards_is_fixed_at_birth() {
    let world = World::new().await;
    hub_store::schema::prepare(world.pool(), SHARDS * 4)
        .await
        .unwrap();
    let sharding = hub_store::schema::sharding(world.pool()).await.unwrap();
    assert_eq!(sharding.count, SHARDS as i16);
}

#[tokio::test]
async fn a_database_without_a_hub_says_what_to_do() {
    let (_database, pool) = empty().await;
    let error = hub_store::schema::sharding(&pool).await.unwrap_err();
    assert!(error.to_string().contains("hub migrate"), "{error}");
}
