//! Expected versions: one winner, and nobody else pays.

use futures::future::join_all;
use hub_domain::envelope::{Append, Expected};
use hub_store::append::Appended;
use hub_store::{Error, Result};

use crate::facts::{note, stream, tag};
use crate::world::{World, log_of};
use hub_domain::id::Shard;

fn count(outcomes: &[Result<Appended>]) -> (usize, usize) {
    let won = outcomes
        .iter()
        .filter(|it| matches!(it, Ok(Appended::New(_))))
        .count();
    let lost = outcomes
        .iter()
        .filter(|it| matches!(it, Err(Error::Conflict { .. })))
        .count();
    (won, lost)
}

/// Racers for one stream and bystanders for others, handed in at the same moment: they share a
/// batch, because all of them go to one shard.
async fn race(world: &World, round: u32, expected: Expected) {
    let other = world.another_store().await;
    let racers: Vec<Append> = (0..40)
        .map(|n| note(0, 1, &format!("racer {round} {n}")).expecting(expected))
        .collect();
    let bystanders: Vec<Append> = (0..40)
        .map(|n| note(0, 100 + n, &format!("bystander {round} {n}")))
        .collect();
    let (raced, stood_by) = tokio::join!(
        join_all(
            racers
                .into_iter()
                .enumerate()
                .map(|(n, racer)| if n % 2 == 0 {
                    world.store.append(racer)
                } else {
                    other.append(racer)
                })
        ),
        join_all(bystanders.into_iter().map(|it| world.store.append(it))),
    );
    assert_eq!(count(&raced), (1, 39), "racers: {raced:?}");
    assert_eq!(count(&stood_by), (40, 0), "bystanders: {stood_by:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_many_racers_wins_and_bystanders_are_not_affected() {
    let world = World::new().await;
    race(&world, 0, Expected::NoStream).await;
    race(&world, 1, Expected::Version(1)).await;
    race(&world, 2, Expected::Version(2)).await;
    let events = log_of(world.pool(), Shard(0)).await;
    let of_racers: Vec<i64> = events
        .iter()
        .filter(|it| it.stream == stream(1))
        .map(|it| it.version)
        .collect();
    assert_eq!(of_racers, [1, 2, 3]);
    assert_eq!(events.len(), 3 + 3 * 40);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_of_late_comers_conflicts_at_once_without_hurting_others() {
    let world = World::new().await;
    world.store.append(note(0, 1, "first")).await.unwrap();
    race_lost(&world, Expected::NoStream).await;
    race_lost(&world, Expected::Version(7)).await;
}

/// Nobody can win here; the bystanders must not be told to come back later.
async fn race_lost(world: &World, expected: Expected) {
    let crowd = (0..60).map(|n| {
        let append = if n % 2 == 0 {
            note(0, 1, "late").expecting(expected)
        } else {
            note(0, 200 + n, "bystander")
        };
        world.store.append(append)
    });
    assert_eq!(count(&join_all(crowd).await), (30, 30));
}

#[tokio::test]
async fn writes_handed_in_one_after_the_other_build_on_each_other() {
    let world = World::new().await;
    world.store.append(note(0, 9, "taken")).await.unwrap();
    // One batch: a chain on stream 1, with a conflict of somebody else in the middle of it.
    let batch = [
        note(0, 1, "a").expecting(Expected::NoStream),
        note(0, 9, "refused").expecting(Expected::NoStream),
        note(0, 1, "b").expecting(Expected::Version(1)),
        note(0, 1, "c"),
        note(0, 1, "d").expecting(Expected::Version(3)),
    ];
    let outcomes = join_all(batch.into_iter().map(|it| world.store.append(it))).await;
    assert_eq!(count(&outcomes), (4, 1), "{outcomes:?}");
    let events = log_of(world.pool(), Shard(0)).await;
    let chain: Vec<&str> = events.iter().map(|it| tag(&it.event)).collect();
    assert_eq!(chain, ["taken", "a", "b", "c", "d"]);
}

#[tokio::test]
async fn an_append_in_a_transaction_conflicts_and_leaves_nothing() {
    let world = World::new().await;
    world.store.append(note(0, 1, "first")).await.unwrap();
    let mut tx = world.pool().begin().await.unwrap();
    let late = note(0, 1, "late").expecting(Expected::NoStream);
    let refused = world.store.append_in(&mut tx, &late).await;
    assert!(matches!(refused, Err(Error::Conflict { .. })));
    drop(tx);
    assert_eq!(log_of(world.pool(), Shard(0)).await.len(), 1);
}
