//! Keys: what may happen once happens once.

use futures::future::join_all;
use hub_domain::envelope::Expected;
use hub_domain::id::{Place, Shard};
use hub_store::append::Appended;

use crate::facts::{key, note, tag};
use crate::world::{World, log_of, whole_log};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_deliveries_of_one_webhook_are_one_event() {
    let world = World::new().await;
    let other = world.another_store().await;
    for round in 0..4 {
        let name = format!("webhook {round}");
        let outcomes = join_all((0..50).map(|n| {
            // Every redelivery of a new contact's first message also believes to be the first.
            let mut append = note(1, 10 + round, &name).once(key(&name));
            if round % 2 == 0 {
                append = append.expecting(Expected::NoStream);
            }
            let store = if n % 2 == 0 { &world.store } else { &other };
            store.append(append)
        }))
        .await;
        let outcomes: Vec<Appended> = outcomes.into_iter().map(|it| it.unwrap()).collect();
        assert_eq!(outcomes.iter().filter(|it| it.is_new()).count(), 1);
        let place = outcomes[0].place();
        assert!(outcomes.iter().all(|it| it.place() == place));
        let events = log_of(world.pool(), Shard(1)).await;
        assert_eq!(events.len(), round as usize + 1);
        assert_eq!(events[round as usize].place, place);
    }
}

#[tokio::test]
async fn any_key_that_exists_makes_the_append_a_repetition() {
    let world = World::new().await;
    let first = world.store.append(note(0, 1, "first").once(key("a")));
    let first = first.await.unwrap();
    let both = note(0, 2, "both").once(key("b")).once(key("a"));
    let again = world.store.append(both).await.unwrap();
    assert_eq!(again, Appended::Repeated(first.place()));
    // The key that came with the refused append was not taken.
    let free = world.store.append(note(0, 3, "free").once(key("b")));
    assert!(free.await.unwrap().is_new());
    assert_eq!(log_of(world.pool(), Shard(0)).await.len(), 2);
}

#[tokio::test]
async fn a_key_stands_for_the_first_event_of_its_append() {
    let world = World::new().await;
    let several = |name: &str, stream| {
        let mut append = note(2, stream, name).once(key(name));
        append.events.push(append.events[0].clone());
        append
    };
    let batch = ["x", "y", "z"].into_iter().zip(1..);
    let batch = batch.map(|(name, n)| world.store.append(several(name, n)));
    let places: Vec<Place> = join_all(batch)
        .await
        .into_iter()
        .map(|it| it.unwrap().place())
        .collect();
    for (name, place) in ["x", "y", "z"].into_iter().zip(&places) {
        let again = world.store.append(several(name, 77)).await.unwrap();
        assert_eq!(again, Appended::Repeated(*place));
        let events = log_of(world.pool(), Shard(2)).await;
        assert_eq!(tag(&events[place.position as usize - 1].event), name);
    }
}

#[tokio::test]
async fn the_same_key_twice_in_one_batch_happens_once() {
    let world = World::new().await;
    let batch = (0..20).map(|n| {
        // Ten keys, each twice, and each time for another stream.
        let append = note(0, n, "twice").once(key(&format!("{}", n % 10)));
        world.store.append(append)
    });
    let outcomes: Vec<Appended> = join_all(batch)
        .await
        .into_iter()
        .map(|it| it.unwrap())
        .collect();
    for n in 0..10 {
        assert!(outcomes[n].is_new());
        assert_eq!(outcomes[n + 10], Appended::Repeated(outcomes[n].place()));
    }
    assert_eq!(log_of(world.pool(), Shard(0)).await.len(), 10);
}

#[tokio::test]
async fn the_same_key_twice_in_one_append_counts_once_and_hurts_nobody() {
    let world = World::new().await;
    let twice = note(0, 1, "twice").once(key("k")).once(key("k"));
    let (twice, bystander) = tokio::join!(
        world.store.append(twice),
        world.store.append(note(0, 2, "bystander"))
    );
    assert!(twice.unwrap().is_new());
    assert!(bystander.unwrap().is_new());
}

#[tokio::test]
async fn a_key_is_unique_within_its_shard_only() {
    let world = World::new().await;
    for shard in 0..4 {
        let append = note(shard, 1, "here").once(key("everywhere"));
        assert!(world.store.append(append).await.unwrap().is_new());
    }
    assert_eq!(whole_log(world.pool()).await.len(), 4);
}
