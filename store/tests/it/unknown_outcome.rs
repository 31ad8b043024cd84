//! Connections that break during a commit.

use std::collections::HashMap;

use hub_domain::id::Place;
use hub_store::{Error, PgPool, Store};

use crate::facts::{key, note, tag};
use crate::proxy::Proxy;
use crate::random::Random;
use crate::world::{SHARDS, World, open, whole_log};

/// Appends of each kind; a few hundred statements, of which the proxy cuts every fifth or so.
const APPENDS: u64 = 120;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_append_whose_answer_was_lost_is_there_once() {
    let mut random = Random::from_env();
    let world = World::new().await;
    let proxy = Proxy::start(world.database.url(), random.fork()).await;
    let store = open(&proxy.url(world.database.url())).await;
    proxy.arm(true);
    let keyed: Vec<_> = (0..4)
        .map(|worker| tokio::spawn(keyed(store.clone(), world.pool().clone(), worker)))
        .collect();
    let keyless: Vec<_> = (0..4)
        .map(|worker| tokio::spawn(keyless(store.clone(), worker)))
        .collect();
    let mut places = Vec::new();
    for task in keyed {
        places.extend(task.await.unwrap());
    }
    let mut fates = Vec::new();
    for task in keyless {
        fates.extend(task.await.unwrap());
    }
    proxy.arm(false);
    let (before, after) = proxy.cuts();
    eprintln!("cut {before} connections before a statement and {after} after one");
    assert!(before > 0 && after > 0, "the proxy was idle");

    let mut found: HashMap<String, Vec<Place>> = HashMap::new();
    for event in whole_log(world.pool()).await {
        let places = found.entry(tag(&event.event).to_owned()).or_default();
        places.push(event.place);
    }
    for (name, place) in places {
        assert_eq!(found.remove(&name), Some(vec![place]), "{name}");
    }
    let mut unknown = 0;
    for (name, fate) in fates {
        let count = found.remove(&name).map_or(0, |places| places.len());
        match fate {
            Fate::Acknowledged => assert_eq!(count, 1, "{name} was acknowledged"),
            Fate::DidNotHappen => assert_eq!(count, 0, "{name} was said not to have happened"),
            Fate::Unknown => {
                unknown += 1;
                assert!(count <= 1, "{name} is there {count} times");
            }
        }
    }
    assert!(unknown > 0, "no outcome was unknown: nothing was tested");
    assert!(found.is_empty(), "nobody wrote {found:?}");
}

/// Appends with keys, each until it is answered.
async fn keyed(store: Store, direct: PgPool, worker: u64) -> Vec<(String, Place)> {
    let mut places = Vec::new();
    for n in 0..APPENDS / 4 {
        let name = format!("keyed {worker} {n}");
        let shard = (n % u64::from(SHARDS)) as i16;
        let append = note(shard, u128::from(worker) + 1, &name).once(key(&name));
        let place = loop {
            match store.append(append.clone()).await {
                Ok(appended) => break appended.place(),
                Err(error @ (Error::Unavailable(_) | Error::Busy)) => {
                    let there: i64 = sqlx::query_scalar(
                        "SELECT count(*) FROM events WHERE payload ->> 'fact' = $1",
                    )
                    .bind(&name)
                    .fetch_one(&direct)
                    .await
                    .unwrap();
                    assert_eq!(there, 0, "{name} is there, in spite of: {error}");
                }
                Err(error) => assert!(error.is_temporary(), "{error}"),
            }
        };
        places.push((name, place));
    }
    places
}

enum Fate {
    Acknowledged,
    DidNotHappen,
    Unknown,
}

/// Appends without keys, each tried once.
async fn keyless(store: Store, worker: u64) -> Vec<(String, Fate)> {
    let mut fates = Vec::new();
    for n in 0..APPENDS / 4 {
        let name = format!("keyless {worker} {n}");
        let shard = (n % u64::from(SHARDS)) as i16;
        let append = note(shard, u128::from(worker) + 1, &name);
        let fate = match store.append(append).await {
            Ok(_) => Fate::Acknowledged,
            Err(Error::Unknown(_)) => Fate::Unknown,
            Err(error @ (Error::Unavailable(_) | Error::Busy)) => {
                eprintln!("{name}: {error}");
                Fate::DidNotHappen
            }
            Err(error) => panic!("{name}: {error}"),
        };
        fates.push((name, fate));
    }
    fates
}

/// The answer is lost and then the database is out of reach: "nothing happened" would be a lie.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_append_in_doubt_stays_in_doubt_while_nobody_can_look() {
    let world = World::new().await;
    let proxy = Proxy::start(world.database.url(), Random::from_env()).await;
    let store = open(&proxy.url(world.database.url())).await;
    // The writer's connection is made and its statement prepared.
    store.append(note(0, 1, "before")).await.unwrap();
    proxy.ambush();
    let append = note(0, 1, "in doubt").once(key("once"));
    let outcome = store.append(append.clone()).await;
    assert!(matches!(outcome, Err(Error::Unknown(_))), "{outcome:?}");
    proxy.open();
    let again = store.append(append).await.unwrap();
    assert!(!again.is_new(), "it had happened");
    assert_eq!(whole_log(world.pool()).await.len(), 2);
}
