//! Who waits for something is told, and only they: signals of queues, and read models that show.

use std::time::{Duration, Instant};

use hub_domain::id::Shard;
use hub_domain::secret::Secret;
use hub_store::project::{Projection, step};
use hub_store::signal::{Signals, Topic};

use crate::facts::{Chat, user};
use crate::redis::Redis;
use crate::world::{SOON, World};

/// Long enough to look a few times.
const BRIEFLY: Duration = Duration::from_millis(120);

#[tokio::test]
async fn a_queue_is_woken_by_its_own_jobs_and_by_those_of_all() {
    let signals = Signals::new(None).await.unwrap();
    let (mut sends, mut polls) = (signals.listen_queue("send"), signals.listen_queue("poll"));
    signals.raise_queue("send");
    assert!(sends.take());
    assert!(!polls.take());
    signals.raise(Topic::Jobs);
    assert!(sends.take());
    assert!(polls.take());
    signals.raise(Topic::Events);
    assert!(!sends.take());
    // Nobody listens: nothing to do.
    signals.raise_queue("unheard of");
}

#[tokio::test]
async fn other_processes_hear_which_queue_it_is() {
    let Some(redis) = Redis::start() else {
        return;
    };
    let url = Secret::new(redis.url());
    let here = Signals::new(Some(&url)).await.unwrap();
    let there = Signals::new(Some(&url)).await.unwrap();
    let (mut sends, mut polls) = (there.listen_queue("send"), there.listen_queue("poll"));
    // Until the other one has subscribed, words are lost, as they may be.
    let deadline = Instant::now() + SOON;
    while !sends.take() {
        assert!(Instant::now() < deadline, "never heard");
        here.raise_queue("send");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(!polls.take());
    here.raise(Topic::Jobs);
    let began = Instant::now();
    polls.wait(SOON).await;
    assert!(began.elapsed() < SOON, "never heard");
}

async fn fold(world: &World, projection: Projection, shard: Shard) {
    while step(world.pool(), projection, 1, shard).await.unwrap() > 0 {}
    world.store.signals().raise(Topic::Projected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_is_told_when_every_read_model_shows_it_and_not_before() {
    let world = World::new().await;
    let owner = user(5);
    let shard = world.store.sharding().of_user(owner);
    let chat = Chat::new(owner, "a");
    let appended = chat.append(shard, chat.received("m1", 10));
    let place = world.store.append(appended).await.unwrap().place();
    let store = &world.store;
    let inbox = |within| store.wait_for_projection(Projection::Inbox, place, within);
    assert!(!store.wait_for_projections(shard, BRIEFLY).await.unwrap());
    assert!(!inbox(BRIEFLY).await.unwrap());

    let crowd = (0..50).map(|_| {
        let store = store.clone();
        tokio::spawn(async move { store.wait_for_projections(shard, SOON).await.unwrap() })
    });
    let crowd: Vec<_> = crowd.collect();
    fold(&world, Projection::Inbox, shard).await;
    assert!(inbox(SOON).await.unwrap());
    // One of the two does not show it yet.
    assert!(!store.wait_for_projections(shard, BRIEFLY).await.unwrap());
    assert!(crowd.iter().all(|it| !it.is_finished()));
    fold(&world, Projection::Accounts, shard).await;
    for told in crowd {
        assert!(told.await.unwrap());
    }
}

#[tokio::test]
async fn a_lost_signal_delays_and_loses_nothing() {
    let world = World::new().await;
    let owner = user(5);
    let shard = world.store.sharding().of_user(owner);
    let chat = Chat::new(owner, "a");
    let appended = chat.append(shard, chat.received("m1", 10));
    world.store.append(appended).await.unwrap();
    let waits = world.store.wait_for_projections(shard, SOON);
    let folds = async {
        tokio::time::sleep(BRIEFLY).await;
        for projection in Projection::ALL {
            while step(world.pool(), projection, 1, shard).await.unwrap() > 0 {}
        }
    };
    let (told, ()) = tokio::join!(waits, folds);
    assert!(
        told.unwrap(),
        "nobody raised a signal, and still it was seen"
    );
}
