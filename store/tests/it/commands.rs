//! The command log: raw input, each piece in its place.

use std::collections::HashSet;

use futures::future::join_all;
use hub_domain::command::{Command, NewCommand};
use hub_domain::event::Sealed;
use hub_domain::id::{Place, Shard};
use hub_domain::platform::Platform;
use hub_store::commands;

use crate::facts::at;
use crate::random::Random;
use crate::world::{SHARDS, World};

fn webhook(shard: i16, body: &str) -> NewCommand {
    NewCommand {
        shard: Shard(shard),
        command: Command::Webhook {
            platform: Platform::Telegram,
            body: Sealed(body.to_owned()),
            sealed_at: at(0),
            routes: Vec::new(),
        },
        request: Some(format!("request of {body}")),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_are_gapless_and_each_is_where_its_sender_was_told() {
    let mut random = Random::from_env();
    let world = World::new().await;
    let other = world.another_store().await;
    let bodies: Vec<(i16, String)> = (0..400)
        .map(|n| (random.below(u64::from(SHARDS)) as i16, format!("body {n}")))
        .collect();
    let accepted = join_all(bodies.iter().enumerate().map(|(n, (shard, body))| {
        let store = if n % 2 == 0 { &world.store } else { &other };
        store.accept(webhook(*shard, body))
    }));
    let places: Vec<Place> = accepted.await.into_iter().map(|it| it.unwrap()).collect();
    assert_eq!(places.iter().collect::<HashSet<_>>().len(), bodies.len());

    let mut read = 0;
    for shard in 0..SHARDS as i16 {
        let shard = Shard(shard);
        let mut position = 0;
        loop {
            let limit = random.below(30) as i64 + 1;
            let batch = commands::after(world.pool(), Place { shard, position }, limit);
            let batch = batch.await.unwrap();
            if batch.is_empty() {
                break;
            }
            for received in batch {
                position += 1;
                assert_eq!(received.place, Place { shard, position });
                let told = places.iter().position(|it| *it == received.place).unwrap();
                let expected = webhook(bodies[told].0, &bodies[told].1);
                assert_eq!(received.command, Ok(expected.command));
                assert_eq!(received.request, expected.request);
                read += 1;
            }
        }
    }
    assert_eq!(read, bodies.len());
}

#[tokio::test]
async fn a_command_of_the_future_is_told_apart_from_a_broken_log() {
    let world = World::new().await;
    let place = world.store.accept(webhook(0, "known")).await.unwrap();
    sqlx::query("UPDATE commands SET payload = '{\"kind\":\"teleport\"}'")
        .execute(world.pool())
        .await
        .unwrap();
    let start = Place {
        position: 0,
        ..place
    };
    let batch = commands::after(world.pool(), start, 10).await.unwrap();
    assert_eq!(batch[0].place, place);
    assert!(batch[0].command.is_err());
}
