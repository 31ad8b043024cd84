//! A log that contradicts itself is reported with its place, never skipped.

use hub_domain::id::{Place, Shard};
use hub_store::project::{self, Projection};
use hub_store::{Error, commands, read};

use crate::facts::{Chat, note, user};
use crate::world::{World, start_of};

async fn ten_events() -> World {
    let world = World::new().await;
    for n in 0..10 {
        world.store.append(note(0, n, "event")).await.unwrap();
    }
    world
}

async fn run(world: &World, statement: &'static str) {
    sqlx::raw_sql(statement)
        .execute(world.pool())
        .await
        .unwrap();
}

/// Follows the log in steps of this size until it ends or reports.
async fn follow(world: &World, limit: i64) -> Result<i64, Error> {
    let mut from = start_of(Shard(0));
    loop {
        let events = read::after(world.pool(), from, limit).await?;
        let Some(last) = events.last() else {
            return Ok(from.position);
        };
        from = last.place;
    }
}

fn place_of(outcome: Result<i64, Error>) -> Place {
    match outcome {
        Err(Error::Corrupt { place, .. }) => place,
        other => panic!("not reported: {other:?}"),
    }
}

#[tokio::test]
async fn a_hole_in_the_middle_is_reported_whatever_the_size_of_a_step() {
    let world = ten_events().await;
    assert_eq!(follow(&world, 3).await.unwrap(), 10);
    run(&world, "DELETE FROM events WHERE position IN (5, 6)").await;
    for limit in 1..=11 {
        let place = place_of(follow(&world, limit).await);
        assert_eq!(place.shard, Shard(0));
        assert!((5..=7).contains(&place.position), "step {limit}: {place}");
    }
}

#[tokio::test]
async fn a_log_cut_off_at_the_end_is_reported_and_not_waited_for() {
    let world = ten_events().await;
    run(&world, "DELETE FROM events WHERE position > 8").await;
    for limit in [1, 3, 4, 8, 100] {
        assert_eq!(
            place_of(follow(&world, limit).await).position,
            9,
            "step {limit}"
        );
    }
}

#[tokio::test]
async fn a_projection_stops_at_a_hole_instead_of_folding_around_it() {
    let world = World::new().await;
    let owner = user(5);
    let shard = world.store.sharding().of_user(owner);
    let chat = Chat::new(owner, "a");
    for n in 0..4 {
        let append = chat.append(shard, chat.received(&format!("m{n}"), n));
        world.store.append(append).await.unwrap();
    }
    run(&world, "DELETE FROM events WHERE position = 2").await;
    let stopped = project::step(world.pool(), Projection::Inbox, 1, shard).await;
    assert!(matches!(stopped, Err(Error::Corrupt { .. })), "{stopped:?}");
    let rows: i64 = sqlx::query_scalar("SELECT count(*) FROM read.messages")
        .fetch_one(world.pool())
        .await
        .unwrap();
    assert_eq!(rows, 0);
}

#[tokio::test]
async fn an_event_of_newer_code_stops_the_reader_and_names_the_place() {
    let world = ten_events().await;
    run(
        &world,
        "UPDATE events SET kind = 'MessageTeleported' WHERE position = 4",
    )
    .await;
    match read::after(world.pool(), start_of(Shard(0)), 10).await {
        Err(Error::Unreadable { place, .. }) => assert_eq!(place.to_string(), "0-4"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_hole_in_the_command_log_is_reported_too() {
    let world = World::new().await;
    run(
        &world,
        "INSERT INTO commands (shard, position, kind, payload) \
         SELECT 0, n, 'webhook', '{}' FROM generate_series(1, 5) n; \
         UPDATE shards SET head = 5 WHERE shard = 0 AND log = 'commands'; \
         DELETE FROM commands WHERE position = 3",
    )
    .await;
    for limit in [1, 10] {
        let from = Place {
            shard: Shard(0),
            position: 2,
        };
        let read = commands::after(world.pool(), from, limit).await;
        assert!(matches!(read, Err(Error::Corrupt { .. })), "{read:?}");
    }
}
