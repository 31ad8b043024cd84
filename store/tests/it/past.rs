//! A moment is a position, and a stream is read whole however far its index has come.

use chrono::{DateTime, TimeDelta, Utc};
use futures::future::join_all;
use hub_domain::envelope::Recorded;
use hub_domain::id::{Place, Shard, StreamId};
use hub_store::{Error, PgPool, Store, checkpoint, places, read, told};

use crate::facts::{note, stream};
use crate::random::Random;
use crate::world::{SHARDS, World, log_of};

const STREAMS: u64 = 7;

/// Appends to few streams from two stores, with pauses, so that times repeat and differ.
async fn crowd(stores: [&Store; 2], random: &mut Random) {
    for _ in 0..12 {
        let appends: Vec<_> = (0..random.below(40))
            .map(|n| {
                let stream = random.below(STREAMS);
                let append = note((stream % u64::from(SHARDS)) as i16, stream.into(), "crowd");
                stores[n as usize % 2].append(append)
            })
            .collect();
        for appended in join_all(appends).await {
            appended.unwrap();
        }
        tokio::time::sleep(random.millis_below(4)).await;
    }
}

fn naive(log: &[Recorded], time: DateTime<Utc>) -> i64 {
    log.iter().filter(|it| it.recorded_at <= time).count() as i64
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_time_is_the_last_position_that_was_recorded_by_then() {
    let mut random = Random::from_env();
    let world = World::new().await;
    let other = world.another_store().await;
    crowd([&world.store, &other], &mut random).await;
    let (pool, micro) = (world.pool(), TimeDelta::microseconds(1));
    for shard in (0..SHARDS as i16).map(Shard) {
        let log = log_of(pool, shard).await;
        let long_ago = DateTime::from_timestamp(0, 0).unwrap();
        assert_eq!(read::position_at(pool, shard, long_ago).await.unwrap(), 0);
        let future = Utc::now() + TimeDelta::days(400);
        let head = read::position_at(pool, shard, future).await.unwrap();
        assert_eq!(head, log.len() as i64);
        for event in &log {
            for time in [
                event.recorded_at - micro,
                event.recorded_at,
                event.recorded_at + micro,
            ] {
                let found = read::position_at(pool, shard, time).await.unwrap();
                assert_eq!(found, naive(&log, time), "{time} near {}", event.place);
            }
        }
    }
}

#[tokio::test]
async fn a_clock_that_goes_back_does_not_take_the_log_with_it() {
    let world = World::new().await;
    world.store.append(note(0, 1, "before")).await.unwrap();
    let ahead = "UPDATE shards SET stamped_at = now() + interval '1 hour' WHERE shard = 0";
    sqlx::query(ahead).execute(world.pool()).await.unwrap();
    for n in 0..3 {
        world.store.append(note(0, n, "after")).await.unwrap();
    }
    let log = log_of(world.pool(), Shard(0)).await;
    assert!(log[1].recorded_at > Utc::now() + TimeDelta::minutes(59));
    assert!(log.is_sorted_by_key(|it| it.recorded_at));
}

#[tokio::test]
async fn a_hole_is_not_taken_for_a_moment() {
    let world = World::new().await;
    for n in 0..9 {
        world.store.append(note(0, n, "event")).await.unwrap();
    }
    let hole = "DELETE FROM events WHERE shard = 0 AND position BETWEEN 3 AND 7";
    sqlx::query(hole).execute(world.pool()).await.unwrap();
    let found = read::position_at(world.pool(), Shard(0), Utc::now()).await;
    assert!(matches!(found, Err(Error::Corrupt { .. })), "{found:?}");
}

/// What a stream is, by reading the whole log.
fn of(log: &[Recorded], stream: StreamId, to: i64) -> Vec<Recorded> {
    let all = log.iter();
    all.filter(|it| it.stream == stream && it.place.position <= to)
        .cloned()
        .collect()
}

async fn read_in_pages(pool: &PgPool, shard: Shard, id: StreamId, to: i64) -> Vec<Recorded> {
    let mut events = Vec::new();
    loop {
        let page = read::stream(pool, shard, id, events.len() as i64, to, 3)
            .await
            .unwrap();
        if page.is_empty() {
            return events;
        }
        assert!(page.len() <= 3);
        events.extend(page);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_is_read_whole_wherever_its_index_is() {
    let mut random = Random::from_env();
    let world = World::new().await;
    let other = world.another_store().await;
    let (pool, shards) = (world.pool(), (0..SHARDS as i16).map(Shard));
    for _ in 0..4 {
        crowd([&world.store, &other], &mut random).await;
        for shard in shards.clone() {
            let log = log_of(pool, shard).await;
            let to = random.below(log.len() as u64 + 1) as i64;
            for n in 0..STREAMS {
                let id = stream(n.into());
                let expected = of(&log, id, to);
                assert_eq!(read_in_pages(pool, shard, id, to).await, expected);
                let count = read::count(pool, shard, &[id], to, 10_000).await.unwrap();
                let counted = count.get(&id).copied().unwrap_or(0);
                assert_eq!(counted, expected.len() as i64);
            }
            let all: Vec<StreamId> = (0..STREAMS).map(|n| stream(n.into())).collect();
            let together = read::streams(pool, shard, &all, (0, i64::MAX), to).await;
            assert_eq!(together.unwrap(), log[..to as usize]);
            // Some shards' index comes along, others' stays behind.
            if random.percent(50) {
                while places::step(pool, shard).await.unwrap() > 0 {}
                let indexed = checkpoint::position(pool, places::NAME, shard).await;
                assert_eq!(indexed.unwrap(), log.len() as i64);
            }
        }
    }
}

#[tokio::test]
async fn the_index_is_filled_again_from_nothing_and_does_not_pass_a_hole() {
    let world = World::new().await;
    for n in 0..9 {
        world.store.append(note(0, n % 2, "event")).await.unwrap();
    }
    let (pool, shard) = (world.pool(), Shard(0));
    assert_eq!(places::step(pool, shard).await.unwrap(), 9);
    assert_eq!(places::step(pool, shard).await.unwrap(), 0);
    let rows = "SELECT string_agg(places::text, ' ' ORDER BY position) FROM places";
    let before: String = sqlx::query_scalar(rows).fetch_one(pool).await.unwrap();
    // As docs/operations.md says.
    sqlx::raw_sql(
        "BEGIN; UPDATE checkpoints SET position = 0 WHERE reactor = 'places'; \
         DELETE FROM places; COMMIT",
    )
    .execute(pool)
    .await
    .unwrap();
    let whole = read::stream(pool, shard, stream(1), 0, 9, 100)
        .await
        .unwrap();
    assert_eq!(whole.len(), 4);
    assert_eq!(places::step(pool, shard).await.unwrap(), 9);
    let after: String = sqlx::query_scalar(rows).fetch_one(pool).await.unwrap();
    assert_eq!(before, after);

    let damage = "DELETE FROM places WHERE stream = $1 AND version = 2";
    let damage = sqlx::query(damage).bind(stream(1).0);
    damage.execute(pool).await.unwrap();
    let found = read::stream(pool, shard, stream(1), 0, 9, 100).await;
    assert!(matches!(found, Err(Error::Corrupt { .. })), "{found:?}");

    world.store.append(note(0, 0, "one more")).await.unwrap();
    let hole = "DELETE FROM events WHERE shard = 0 AND position = 10";
    sqlx::query(hole).execute(pool).await.unwrap();
    let stepped = places::step(pool, shard).await;
    assert!(matches!(stepped, Err(Error::Corrupt { .. })), "{stepped:?}");
}

#[tokio::test]
async fn what_was_told_is_found_by_its_events_until_it_is_forgotten() {
    let world = World::new().await;
    let (pool, shard) = (world.pool(), Shard(2));
    let place = |position| Place { shard, position };
    let mut connection = pool.acquire().await.unwrap();
    for (after, through) in [(0, 3), (3, 4), (4, 9)] {
        told::record(&mut connection, &[(place(after), through)])
            .await
            .unwrap();
    }
    let turn = async |position| {
        let turn = told::of(pool, place(position)).await.unwrap();
        turn.map(|turn| (turn.after, turn.through))
    };
    for (position, expected) in [(1, (0, 3)), (3, (0, 3)), (4, (3, 4)), (9, (4, 9))] {
        assert_eq!(turn(position).await, Some(expected));
    }
    assert_eq!(turn(10).await, None, "not told yet");
    let age = "UPDATE told SET at = at - interval '2 days' WHERE through < 9";
    sqlx::query(age).execute(pool).await.unwrap();
    let day = std::time::Duration::from_secs(86_400);
    assert_eq!(told::prune(pool, day).await.unwrap(), 2);
    assert_eq!(turn(4).await, None, "forgotten, and not in the next one");
    assert_eq!(turn(5).await, Some((4, 9)));
}
