//! PostgreSQL goes away and comes back.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hub_cluster::{Cluster, Options};
use hub_domain::secret::Secret;
use hub_store::Store;

use crate::facts::{key, note, tag};
use crate::world::{SHARDS, SOON, World, eventually, open, whole_log};

/// From the server's return to the first append that works again.
const RECOVERY_MAX: Duration = Duration::from_secs(5);

/// A folder that disappears with the test.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            eprintln!("{}: {error}", self.0.display());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_crashes_and_the_store_heals_by_itself() {
    let name = format!("hub-store-{}", uuid::Uuid::now_v7().simple());
    let folder = Folder(std::env::temp_dir().join(name));
    let mut cluster = Cluster::start(&folder.0, Options::default()).await.unwrap();
    cluster.create_database("hub").await.unwrap();
    let url = cluster.url("hub");
    let pool = hub_store::connect(&Secret::new(url.as_str()), 2)
        .await
        .unwrap();
    hub_store::schema::prepare(&pool, SHARDS).await.unwrap();
    let store = open(&url).await;

    let over = Arc::new(AtomicBool::new(false));
    let done = Arc::new(AtomicU64::new(0));
    let writers: Vec<_> = (0..4)
        .map(|writer| tokio::spawn(write(store.clone(), writer, over.clone(), done.clone())))
        .collect();
    for round in 0..4 {
        progress(&done, 20).await;
        if round % 2 == 0 {
            assert!(cluster.terminate_backends("hub").await.unwrap() > 0);
        } else {
            cluster.restart_immediate().await.unwrap();
        }
        let back = Instant::now();
        progress(&done, 1).await;
        let healed = back.elapsed();
        eprintln!("round {round}: working again after {healed:?}");
        assert!(healed < RECOVERY_MAX, "{healed:?}");
    }
    assert!(store.is_database_up().await);
    over.store(true, Ordering::SeqCst);

    let mut found: HashMap<String, usize> = HashMap::new();
    let mut acknowledged = Vec::new();
    for writer in writers {
        acknowledged.extend(writer.await.unwrap());
    }
    for event in whole_log(store.pool()).await {
        *found.entry(tag(&event.event).to_owned()).or_default() += 1;
    }
    assert!(!acknowledged.is_empty());
    for name in &acknowledged {
        assert_eq!(found.get(name), Some(&1), "{name} was acknowledged");
    }
    assert!(
        found.values().all(|count| *count == 1),
        "something is there twice"
    );
    pool.close().await;
    cluster.stop().await.unwrap();
}

async fn progress(done: &AtomicU64, by: u64) {
    let target = done.load(Ordering::SeqCst) + by;
    eventually("appends work", || async {
        done.load(Ordering::SeqCst) >= target
    })
    .await;
}

/// Appends until it is over, half of them with keys; returns the names of those acknowledged.
async fn write(
    store: Store,
    writer: u128,
    over: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
) -> Vec<String> {
    let mut acknowledged = Vec::new();
    for n in 0_u64.. {
        if over.load(Ordering::SeqCst) {
            break;
        }
        let name = format!("{writer}-{n}");
        let mut append = note((n % u64::from(SHARDS)) as i16, writer, &name);
        if n % 2 == 0 {
            append = append.once(key(&name));
        }
        match store.append(append).await {
            Ok(_) => {
                acknowledged.push(name);
                done.fetch_add(1, Ordering::SeqCst);
            }
            Err(error) => {
                assert!(error.is_temporary(), "{error}");
                // A refused caller does not come back in the same instant.
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
    acknowledged
}

/// A writer keeps its connection between batches; whoever closes the pool must not wait for it.
#[tokio::test]
async fn a_store_that_has_appended_closes() {
    let world = World::new().await;
    for shard in 0..SHARDS as i16 {
        world.store.append(note(shard, 1, "event")).await.unwrap();
    }
    tokio::time::timeout(SOON, world.store.close())
        .await
        .expect("the writers let go");
    let refused = world.store.append(note(0, 1, "too late")).await;
    assert!(refused.is_err_and(|error| error.is_temporary()));
}
