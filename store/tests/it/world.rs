//! A database per test, a store on it, and bounded waiting.

use std::time::{Duration, Instant};

use hub_cluster::{TestDatabase, shared_for_tests};
use hub_domain::id::{Place, Shard};
use hub_domain::secret::Secret;
use hub_store::{Options, PgPool, Store, read};

/// Few enough that tests collide in one, enough that batches span several.
pub const SHARDS: u16 = 4;

/// What wraps the data keys of these stores.
pub const ENCRYPTION_KEY: &str = "a key of tests, longer or shorter than thirty-two bytes";

/// How long anything may take that is expected to happen.
pub const SOON: Duration = Duration::from_secs(20);

/// What a prepared database depends on beyond the names of the migrations: while those are being
/// written, their content changes under the same name.
const SCHEMA: &[&str] = &[
    include_str!("../../../migrations/src/m0001_log.rs"),
    include_str!("../../../migrations/src/m0002_side_tables.rs"),
    include_str!("../../../migrations/src/m0003_read_models.rs"),
    include_str!("../../../migrations/src/m0004_jobs.rs"),
    include_str!("../../../migrations/src/m0005_seals.rs"),
    include_str!("../../../migrations/src/m0006_places.rs"),
    include_str!("../../../migrations/src/m0009_totals.rs"),
    include_str!("../../../migrations/src/m0011_polls.rs"),
    include_str!("../../../migrations/src/m0014_subscriptions.rs"),
    include_str!("../../../migrations/src/m0008_erasure.rs"),
    include_str!("../../../migrations/src/m0007_parked.rs"),
    include_str!("../../../migrations/src/m0012_renewals.rs"),
    include_str!("../../../migrations/src/m0013_usage.rs"),
    include_str!("../../../migrations/src/m0010_imported.rs"),
    include_str!("../../../migrations/src/m0015_telegram_sessions.rs"),
    include_str!("../../../migrations/src/m0016_media.rs"),
    include_str!("../../../migrations/src/m0023_folds.rs"),
    include_str!("../../src/schema.rs"),
];

/// A store on a database of the test's own. The database goes last.
pub struct World {
    pub store: Store,
    pub database: TestDatabase,
}

impl World {
    pub async fn new() -> Self {
        let database = database().await;
        Self {
            store: open(database.url()).await,
            database,
        }
    }

    /// Another store on the same database, as another process would have.
    pub async fn another_store(&self) -> Store {
        open(self.database.url()).await
    }

    pub fn pool(&self) -> &PgPool {
        self.store.pool()
    }
}

/// A prepared database.
pub async fn database() -> TestDatabase {
    let fingerprint = format!(
        "store {} {SHARDS} {}",
        hub_migrations::fingerprint(),
        SCHEMA.concat()
    );
    let shared = shared_for_tests().await.unwrap();
    let prepare = |url: String| async move {
        let pool = hub_store::connect(&Secret::new(url), 2).await?;
        hub_store::schema::prepare(&pool, SHARDS).await?;
        pool.close().await;
        Ok::<_, hub_store::Error>(())
    };
    shared.database(&fingerprint, prepare).await.unwrap()
}

pub async fn open(url: &str) -> Store {
    let options = Options {
        database_url: Secret::new(url),
        connections_max: 8,
        readers_max: 4,
        redis_url: None,
        encryption_key: Secret::new(ENCRYPTION_KEY),
    };
    Store::open(options).await.unwrap()
}

/// Asks until the answer is yes; fails with `what` when it is still no after [`SOON`].
pub async fn eventually<F: Future<Output = bool>>(what: &str, mut ask: impl FnMut() -> F) {
    let deadline = Instant::now() + SOON;
    while !ask().await {
        assert!(Instant::now() < deadline, "not within {SOON:?}: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// The beginning of a shard's log.
pub fn start_of(shard: Shard) -> Place {
    Place { shard, position: 0 }
}

/// Everything in a shard's event log, checked for holes by the reader itself.
pub async fn log_of(pool: &PgPool, shard: Shard) -> Vec<hub_domain::envelope::Recorded> {
    let events = read::after(pool, start_of(shard), 1_000_000).await.unwrap();
    assert_eq!(events.len() as i64, read::head(pool, shard).await.unwrap());
    events
}

/// Everything in all shards.
pub async fn whole_log(pool: &PgPool) -> Vec<hub_domain::envelope::Recorded> {
    let mut events = Vec::new();
    for shard in 0..SHARDS as i16 {
        events.extend(log_of(pool, Shard(shard)).await);
    }
    events
}
