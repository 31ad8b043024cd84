//! A PostgreSQL and databases that exist only for a measurement.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use hub_cluster::{Cluster, Options as ClusterOptions};
use hub_domain::secret::Secret;
use hub_store::{Options, Store, peer, schema};
use uuid::Uuid;

/// Shards of a measured log: the default of a new installation.
const SHARDS: u16 = 32;

/// Files of 16 MB: as much as the server writes between two checkpoints.
const LOG_FILES: u32 = 120;

/// Connections that read, as many as a hub has that was not told otherwise.
const READERS: u32 = 8;

/// Wraps the data keys of a measurement.
pub const ENCRYPTION_KEY: &str = "the encryption key of a measurement";

/// The server.
pub struct Ground {
    cluster: Cluster,
    dir: PathBuf,
}

impl Ground {
    /// Starts it in a folder of its own.
    pub async fn new() -> Result<Self> {
        let dir = std::env::temp_dir().join(format!("hub-bench-{}", std::process::id()));
        std::fs::create_dir_all(&dir)
            .with_context(|| format!("the folder {} cannot be made", dir.display()))?;
        let cluster = Cluster::start(&dir, ClusterOptions::default()).await?;
        age(&cluster).await?;
        Ok(Self { cluster, dir })
    }

    /// Makes a database with a hub in it; returns its address.
    pub async fn database(&self) -> Result<String> {
        let name = format!("bench_{}", Uuid::now_v7().simple());
        self.cluster.create_database(&name).await?;
        let url = self.cluster.url(&name);
        let pool = hub_store::connect(&Secret::new(&url), 2).await?;
        schema::prepare(&pool, SHARDS).await?;
        pool.close().await;
        Ok(url)
    }

    /// Stops the server and removes everything.
    pub async fn clear(self) -> Result<()> {
        let data = self.cluster.data_dir();
        self.cluster.stop().await?;
        let _ = std::fs::remove_dir_all(&data);
        let _ = std::fs::remove_dir_all(&self.dir);
        Ok(())
    }
}

/// Makes the files of the log of a new server, as one has them that ran for a while: PostgreSQL fills
/// each new one with zeros while everybody who commits waits, and uses old ones again.
async fn age(cluster: &Cluster) -> Result<()> {
    cluster.create_database("age").await?;
    let pool = hub_store::connect(&Secret::new(cluster.url("age")), 1).await?;
    peer::make_log_files(&pool, LOG_FILES).await?;
    pool.close().await;
    Ok(())
}

/// Opens the store of a measured database.
pub async fn open(url: &str, connections: u32) -> Result<Store> {
    Ok(Store::open(Options {
        database_url: Secret::new(url),
        connections_max: connections,
        readers_max: READERS,
        redis_url: None,
        encryption_key: Secret::new(ENCRYPTION_KEY),
    })
    .await?)
}
