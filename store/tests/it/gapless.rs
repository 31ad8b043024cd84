//! Readers that go by position lose nothing, whatever writers do meanwhile.

use std::collections::HashMap;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use chrono::{DateTime, Utc};
use hub_cluster::shared_for_tests;
use hub_domain::id::{Place, Shard, StreamId};
use hub_domain::secret::Secret;
use hub_store::{Store, read};
use tokio::process::Command;

use crate::facts::{key, note};
use crate::random::Random;
use crate::world::{SHARDS, World, database, eventually, open};

/// The failure that our log is built against, shown on the usual table.
///
/// An identity column hands out numbers when rows are inserted, and they become visible when their
/// transactions commit, in another order. A reader that remembers "the last one I saw" passes
/// numbers that are not visible yet, and never comes back for them. Keep this test: it is the
/// reason why an append takes its positions from a locked head row, last.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn identity_column_loses_events() {
    let mut random = Random::from_env();
    let shared = shared_for_tests().await.unwrap();
    let database = shared.empty_database().await.unwrap();
    let pool = hub_store::connect(&Secret::new(database.url()), 10)
        .await
        .unwrap();
    sqlx::raw_sql("CREATE TABLE log (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY)")
        .execute(&pool)
        .await
        .unwrap();
    let (writers, each) = (8, 40);
    let tasks: Vec<_> = (0..writers)
        .map(|_| {
            let (pool, mut random) = (pool.clone(), random.fork());
            tokio::spawn(async move {
                for _ in 0..each {
                    let mut tx = pool.begin().await.unwrap();
                    sqlx::query("INSERT INTO log DEFAULT VALUES")
                        .execute(&mut *tx)
                        .await
                        .unwrap();
                    // The transaction has other things to do.
                    tokio::time::sleep(random.millis_below(8)).await;
                    tx.commit().await.unwrap();
                }
            })
        })
        .collect();
    let (mut last, mut seen) = (0, 0);
    loop {
        let writers_ended = tasks.iter().all(|task| task.is_finished());
        let ids: Vec<i64> = sqlx::query_scalar("SELECT id FROM log WHERE id > $1 ORDER BY id")
            .bind(last)
            .fetch_all(&pool)
            .await
            .unwrap();
        seen += ids.len();
        last = ids.last().copied().unwrap_or(last);
        if writers_ended {
            break;
        }
    }
    let missed = writers * each - seen;
    eprintln!("missed {missed} of {}", writers * each);
    assert!(
        missed > 0,
        "the reader was lucky: give the writers more time"
    );
}

const URL: &str = "HUB_TEST_WRITER_URL";
const SEED: &str = "HUB_TEST_WRITER_SEED";
const STREAMS: u64 = 12;

/// Several processes, some sharing commits and some holding transactions open and taking some of
/// them back, against readers that go by position only.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_loses_nothing() {
    let mut random = Random::from_env();
    let world = World::new().await;
    let processes: Vec<_> = (0..3)
        .map(|_| {
            Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "gapless::writer_process", "--nocapture"])
                .env(URL, world.database.url())
                .env(SEED, random.next().to_string())
                .stdout(Stdio::piped())
                .kill_on_drop(true)
                .spawn()
                .unwrap()
        })
        .collect();
    let ended = Arc::new(AtomicBool::new(false));
    let readers: Vec<_> = (0..SHARDS as i16)
        .map(|shard| {
            let (store, ended, random) = (world.store.clone(), ended.clone(), random.fork());
            tokio::spawn(tail(store, Shard(shard), ended, random))
        })
        .collect();
    let mut acknowledged = 0;
    for process in processes {
        let output = process.wait_with_output().await.unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{text}");
        acknowledged += text
            .lines()
            .find_map(|line| line.strip_prefix("acknowledged "))
            .and_then(|count| count.parse::<i64>().ok())
            .unwrap_or_else(|| panic!("a writer did not report: {text}"));
    }
    ended.store(true, Ordering::SeqCst);
    let (mut read, mut while_writing) = (0, 0);
    for reader in readers {
        let (all, early) = reader.await.unwrap();
        read += all;
        while_writing += early;
    }
    eprintln!("{read} events, {while_writing} of them read while writers ran");
    assert_eq!(read, acknowledged);
    assert!(while_writing > 0, "nothing was read under load");
}

/// Follows a shard by position until the writers ended and its head is reached. Returns how many
/// events it read, and how many of them before the writers ended.
async fn tail(
    store: Store,
    shard: Shard,
    ended: Arc<AtomicBool>,
    mut random: Random,
) -> (i64, i64) {
    let mut position = 0;
    let mut early = 0;
    let mut versions: HashMap<StreamId, i64> = HashMap::new();
    let mut clock = DateTime::<Utc>::MIN_UTC;
    loop {
        let is_last_look = ended.load(Ordering::SeqCst);
        let limit = random.below(40) as i64 + 1;
        let from = Place { shard, position };
        let events = read::after(store.pool(), from, limit).await.unwrap();
        for event in &events {
            assert_eq!(event.place.shard, shard);
            assert_eq!(event.place.position, position + 1);
            position += 1;
            assert!(
                event.recorded_at >= clock,
                "time went back at {}",
                event.place
            );
            clock = event.recorded_at;
            let version = versions.entry(event.stream).or_default();
            assert_eq!(event.version, *version + 1, "of stream {:?}", event.stream);
            *version += 1;
        }
        if !is_last_look {
            early = position;
        }
        if is_last_look && events.is_empty() {
            assert_eq!(position, read::head(store.pool(), shard).await.unwrap());
            return (position, early);
        }
    }
}

/// The other process of [`the_log_loses_nothing`]; nothing to do when it is run by itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writer_process() {
    let (Ok(url), Ok(seed)) = (std::env::var(URL), std::env::var(SEED)) else {
        return;
    };
    let mut random = Random::new(seed.parse().unwrap());
    let store = open(&url).await;
    let mut tasks = Vec::new();
    for writer in 0..6 {
        let (store, random) = (store.clone(), random.fork());
        tasks.push(if writer < 4 {
            tokio::spawn(append_together(store, random, 50))
        } else {
            tokio::spawn(append_in_transactions(store, random, 25))
        });
    }
    let mut acknowledged = 0;
    for task in tasks {
        acknowledged += task.await.unwrap();
    }
    println!("\nacknowledged {acknowledged}");
}

/// Streams are shared by all processes; each lives in one shard.
fn random_place(random: &mut Random) -> (i16, u128) {
    let stream = random.below(STREAMS);
    ((stream % u64::from(SHARDS)) as i16, u128::from(stream) + 1)
}

async fn append_together(store: Store, mut random: Random, count: i64) -> i64 {
    let mut events = 0;
    for _ in 0..count {
        let (shard, stream) = random_place(&mut random);
        let mut append = note(shard, stream, "together");
        for _ in 0..random.below(3) {
            append.events.push(append.events[0].clone());
        }
        if random.percent(50) {
            append = append.once(key(&random.next().to_string()));
        }
        let len = append.events.len() as i64;
        assert!(store.append(append).await.unwrap().is_new());
        events += len;
    }
    events
}

async fn append_in_transactions(store: Store, mut random: Random, count: i64) -> i64 {
    let mut events = 0;
    for _ in 0..count {
        let (shard, stream) = random_place(&mut random);
        let mut tx = store.pool().begin().await.unwrap();
        store
            .append_in(&mut tx, &note(shard, stream, "in a transaction"))
            .await
            .unwrap();
        tokio::time::sleep(random.millis_below(6)).await;
        if random.percent(25) {
            tx.rollback().await.unwrap();
        } else {
            tx.commit().await.unwrap();
            store.appended();
            events += 1;
        }
    }
    events
}

/// Two processes that append to the same streams and shards take their locks in the same order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn appends_to_many_shards_do_not_deadlock() {
    let database = database().await;
    let stores = [open(database.url()).await, open(database.url()).await];
    let mut random = Random::from_env();
    let tasks: Vec<_> = (0..2)
        .flat_map(|_| stores.clone())
        .map(|store| {
            let mut random = random.fork();
            tokio::spawn(async move {
                for _ in 0..15 {
                    let batch = (0..30).map(|_| {
                        let (shard, stream) = random_place(&mut random);
                        store.append(note(shard, stream, "crowd"))
                    });
                    for done in futures::future::join_all(batch).await {
                        done.unwrap();
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    drop(stores);
    let pool = hub_store::connect(&Secret::new(database.url()), 1)
        .await
        .unwrap();
    // A backend publishes its counters when it ends.
    let others = "SELECT count(*) FROM pg_stat_activity \
                  WHERE datname = current_database() AND pid <> pg_backend_pid()";
    eventually("the stores' connections are closed", || async {
        let open: i64 = sqlx::query_scalar(others).fetch_one(&pool).await.unwrap();
        open == 0
    })
    .await;
    let deadlocks: i64 = sqlx::query_scalar(
        "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()",
    )
    .fetch_one(&pool)
    .await
    .unwrap();
    assert_eq!(deadlocks, 0);
}
