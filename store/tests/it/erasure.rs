//! Forgetting a person: what nobody can read afterwards, and what nobody else loses.

use std::time::Duration;

use chrono::Utc;
use futures::future::join_all;
use hub_domain::command::{Command, NewCommand};
use hub_domain::envelope::Meta;
use hub_domain::event::Sealed;
use hub_domain::id::{Place, StreamId, UserId, login_stream};
use hub_domain::platform::Platform;
use hub_store::erase::Erased;
use hub_store::generation::{End, Verdict, rebuild};
use hub_store::project::{Projection, step};
use hub_store::vault::Opened;
use hub_store::{Error, PgPool};

use crate::dump::Dump;
use crate::facts::user;
use crate::person::{Person, SHARED};
use crate::random::Random;
use crate::world::{SHARDS, World};

/// As if the translator had read all raw input there is.
async fn translate(pool: &PgPool) {
    sqlx::query(
        "UPDATE checkpoints c SET position = s.head FROM shards s \
         WHERE s.shard = c.shard AND s.log = c.log AND c.reactor = 'translate'",
    )
    .execute(pool)
    .await
    .unwrap();
}

async fn fold(pool: &PgPool) {
    for projection in Projection::ALL {
        for shard in 0..SHARDS as i16 {
            let shard = hub_domain::id::Shard(shard);
            while step(pool, projection, 1, shard).await.unwrap() > 0 {}
        }
    }
}

async fn verify(pool: &PgPool) {
    for projection in Projection::ALL {
        let certificate = rebuild(pool, projection, End::Drop, &|_| {}).await.unwrap();
        assert_eq!(certificate.verdict, Verdict::Equal, "{certificate:?}");
    }
}

/// Every event there is, as one number for each.
async fn events(pool: &PgPool) -> Vec<String> {
    let events = sqlx::query_scalar("SELECT md5(e::text) FROM events e ORDER BY shard, position");
    events.fetch_all(pool).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dump_says_nothing_of_an_erased_person_and_all_of_another() {
    let world = World::new().await;
    let store = &world.store;
    let (ada, bob) = (Person::new(5, "ada"), Person::new(6, "robert"));
    for person in [&ada, &bob] {
        person.live(store).await;
    }
    let at = Utc::now();
    let shared = [SHARED.to_owned()];
    let body = store
        .vault()
        .seal_raw(Platform::Telegram, &shared, at, "raw that is everybody's");
    let webhook = Command::Webhook {
        platform: Platform::Telegram,
        body: body.await.unwrap(),
        sealed_at: at,
        routes: shared.to_vec(),
    };
    let command = NewCommand {
        shard: store.sharding().of_route(Platform::Telegram, SHARED),
        command: webhook,
        request: None,
    };
    store.accept(command).await.unwrap();
    fold(world.pool()).await;

    let before = Dump::of(&world).await;
    for secret in ada.secrets().into_iter().chain(bob.secrets()) {
        assert!(!before.text.contains(&secret), "in the clear: {secret:?}");
        assert!(before.says(&secret), "the test cannot see {secret:?}");
    }
    let log = events(world.pool()).await;
    let estate = store.estate(ada.user).await.unwrap();
    assert_eq!((estate.accounts, estate.conversations), (2, 1));
    assert_eq!((estate.messages, estate.unsent), (5, 1));
    assert_eq!((estate.refresh_tokens, estate.keys), (2, 3));
    assert_eq!(estate.raw_keys, 1);

    let begun = store
        .begin_erasure(ada.user, Meta::default())
        .await
        .unwrap();
    translate(world.pool()).await;
    let erased = store.finish_erasure(ada.user, begun).await.unwrap();
    assert_eq!(
        erased,
        Erased {
            refresh_tokens: 2,
            oauth_states: 1,
            jobs: 1,
            directory: 2,
            account_tokens: 2,
            aliases: 0,
            keys: 3,
            raw_keys: 1,
            usage: 1,
            logins: 1,
            waiting: 0,
        }
    );
    fold(world.pool()).await;

    let after = Dump::of(&world).await;
    for secret in ada.secrets() {
        assert!(!after.says(&secret), "still there: {secret:?}");
    }
    for secret in bob.secrets() {
        assert!(after.says(&secret), "lost: {secret:?}");
    }
    assert!(after.says("raw that is everybody's"));
    let kept: Vec<String> = events(world.pool()).await;
    assert!(
        log.iter().all(|event| kept.contains(event)),
        "the log changed"
    );
    assert_eq!(kept.len(), log.len() + 1);
    verify(world.pool()).await;

    // What is shown in its place, and that nothing is shown as active.
    let accounts = store.accounts(ada.user, true).await.unwrap();
    assert_eq!(accounts.len(), 2);
    assert!(accounts.iter().all(|row| !row.is_active));
    assert_eq!(store.accounts(bob.user, false).await.unwrap().len(), 2);
    let thread = store.thread(ada.user, ada.chat.at.conversation, 10, 0);
    let texts: Vec<String> = thread
        .await
        .unwrap()
        .into_iter()
        .filter_map(|row| row.body)
        .collect();
    assert_eq!(texts.len(), 4, "a send that failed at once is not listed");
    let keys = store
        .vault()
        .keyring(ada.user, texts.iter().map(String::as_str));
    let keys = keys.await.unwrap();
    for text in &texts {
        assert_eq!(keys.open(text).unwrap(), Opened::Erased);
    }
    assert!(matches!(
        store.vault().user(ada.user).await,
        Err(Error::Erased)
    ));
    assert!(
        store
            .credentials(ada.account(), SHARED)
            .await
            .unwrap()
            .is_none()
    );
    assert!(
        store
            .credentials(bob.account(), SHARED)
            .await
            .unwrap()
            .is_some()
    );

    // Again it changes nothing, and is the same place.
    let again = store
        .begin_erasure(ada.user, Meta::default())
        .await
        .unwrap();
    assert_eq!(again, begun);
    let erased = store.finish_erasure(ada.user, begun).await.unwrap();
    assert_eq!(erased, Erased::default());
    assert_eq!(events(world.pool()).await, kept);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_erasure_that_was_cut_off_anywhere_is_finished_by_the_next() {
    let mut random = Random::from_env();
    let world = World::new().await;
    let people: Vec<Person> = (10..18_u128)
        .map(|n| {
            Person::new(
                n,
                [
                    "a", "be", "cee", "deee", "eeeee", "ffffff", "ggggggg", "hhhhhhhh",
                ][n as usize - 10],
            )
        })
        .collect();
    for person in &people {
        person.live(&world.store).await;
    }
    fold(world.pool()).await;
    translate(world.pool()).await;
    let mut unfinished = 0;
    for person in &people {
        let begun = world
            .store
            .begin_erasure(person.user, Meta::default())
            .await
            .unwrap();
        // Dropped between two statements, as a process that dies would.
        let most = Duration::from_micros(random.below(12_000));
        let cut = tokio::time::timeout(most, world.store.finish_erasure(person.user, begun));
        unfinished += u32::from(cut.await.is_err());
        if !person.left(world.pool()).await.is_empty() {
            // Whatever was left out, nobody logs in and the address is not given away twice.
            let stream = login_stream(&person.email());
            let taken = world
                .store
                .register(stream, user(99), "x@y.z", "$2b$", Meta::default());
            assert!(matches!(taken.await, Err(Error::Conflict { .. })));
        }
    }
    assert!(unfinished > 0, "none was cut off: the test tests nothing");
    let next = world.another_store().await;
    for person in &people {
        let begun = next
            .begin_erasure(person.user, Meta::default())
            .await
            .unwrap();
        next.finish_erasure(person.user, begun).await.unwrap();
        assert_eq!(person.left(world.pool()).await, []);
    }
    fold(world.pool()).await;
    verify(world.pool()).await;
    let dump = Dump::of(&world).await;
    for secret in people.iter().flat_map(Person::secrets) {
        assert!(!dump.says(&secret), "still there: {secret:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_key_is_made_beside_an_erasure_or_after_it() {
    let world = World::new().await;
    let others = [world.another_store().await, world.another_store().await];
    for n in 30..42 {
        let someone = user(n);
        world.store.vault().user(someone).await.unwrap();
        // Others seal content of many days while the person is erased.
        let sealing = others.iter().enumerate().map(|(nth, other)| async move {
            let mut sealed = Vec::new();
            for day in 0..40 {
                let at = Utc::now() - chrono::Duration::days(day * 2 + nth as i64);
                match other.vault().content(someone, at, None).await {
                    Ok(sealer) => sealed.push(sealer.seal("too late")),
                    Err(Error::Erased) => {}
                    Err(error) => panic!("{error}"),
                }
            }
            sealed
        });
        let erasing = async {
            tokio::time::sleep(Duration::from_millis(n as u64 % 7)).await;
            world.store.vault().erase_user(someone).await.unwrap()
        };
        let (sealed, erased) = tokio::join!(join_all(sealing), erasing);
        assert!(erased > 0);
        let left: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM data_keys WHERE owner = $1 AND wrapped IS NOT NULL",
        )
        .bind(someone.0)
        .fetch_one(world.pool())
        .await
        .unwrap();
        assert_eq!(left, 0, "a key of a day outlived its owner's");
        let later = world.another_store().await;
        let sealed: Vec<String> = sealed.into_iter().flatten().map(|it| it.0).collect();
        let keys = later
            .vault()
            .keyring(someone, sealed.iter().map(String::as_str));
        let keys = keys.await.unwrap();
        for text in &sealed {
            assert_eq!(keys.open(text).unwrap(), Opened::Erased);
        }
        assert!(matches!(
            later.vault().user(someone).await,
            Err(Error::Erased)
        ));
        let content = later.vault().content(someone, Utc::now(), None).await;
        assert!(matches!(content, Err(Error::Erased)));
    }
}

#[tokio::test]
async fn what_another_process_seals_with_a_key_in_memory_is_unreadable_all_the_same() {
    let world = World::new().await;
    let other = world.another_store().await;
    let someone = user(5);
    let now = Utc::now();
    let sealer = other.vault().content(someone, now, None).await.unwrap();
    let early = sealer.seal("before").0;
    world.store.vault().erase_user(someone).await.unwrap();
    // Nobody told it: it still has the keys, for a minute at most.
    let late = other.vault().content(someone, now, None).await.unwrap();
    let late = late.seal("after").0;
    for store in [&world.store, &world.another_store().await] {
        let keys = store
            .vault()
            .keyring(someone, [early.as_str(), late.as_str()]);
        let keys = keys.await.unwrap();
        assert_eq!(keys.open(&early).unwrap(), Opened::Erased);
        assert_eq!(keys.open(&late).unwrap(), Opened::Erased);
    }
    assert!(!world.store.vault().is_there(someone).await.unwrap());
    // The keys are in its memory, but whether the person is there it asks every second.
    tokio::time::sleep(Duration::from_millis(1_050)).await;
    assert!(!other.vault().is_there(someone).await.unwrap());
    assert!(!other.vault().is_there(user(6)).await.unwrap());
    other.vault().user(user(6)).await.unwrap();
    assert!(other.vault().is_there(user(6)).await.unwrap());
}

#[tokio::test]
async fn altered_content_is_an_error_and_not_an_erasure() {
    let world = World::new().await;
    let vault = world.store.vault();
    let sealer = vault.content(user(5), Utc::now(), None).await.unwrap();
    let sealed = sealer.seal("as it was").0;
    let middle = sealed.len() / 2 + 4;
    let other = if &sealed[middle..=middle] == "A" {
        "B"
    } else {
        "A"
    };
    let mut damaged = sealed.clone();
    damaged.replace_range(middle..=middle, other);
    let keys = vault.keyring(user(5), [sealed.as_str()]).await.unwrap();
    assert_eq!(
        keys.open(&sealed).unwrap(),
        Opened::Text("as it was".to_owned())
    );
    assert!(matches!(keys.open(&damaged), Err(Error::Sealed(_))));
    assert!(
        keys.open("h2.2001-01-01.AAAA").is_err(),
        "nobody asked for it"
    );
    // Sealed for somebody else: not theirs to read, and no mark either.
    let stranger = vault.keyring(user(6), [sealed.as_str()]).await.unwrap();
    assert_ne!(
        stranger.open(&sealed).ok(),
        Some(Opened::Text("as it was".to_owned()))
    );
}

#[tokio::test]
async fn an_address_is_free_again_and_its_new_owner_sees_nothing_of_the_old() {
    let world = World::new().await;
    let store = &world.store;
    let ada = Person::new(5, "ada");
    ada.live(store).await;
    fold(world.pool()).await;
    let email = ada.email();
    let stream = login_stream(&email);
    let taken = store.register(stream, user(7), &email, "$2b$other", Meta::default());
    assert!(matches!(taken.await, Err(Error::Conflict { .. })));
    let begun = store
        .begin_erasure(ada.user, Meta::default())
        .await
        .unwrap();
    store.finish_erasure(ada.user, begun).await.unwrap();
    assert!(store.login(stream).await.unwrap().is_none());

    // Two want it at the same time: one gets it.
    let wishes =
        [user(7), user(8)].map(|new| store.register(stream, new, &email, "$2b$", Meta::default()));
    let outcomes = join_all(wishes).await;
    let won: Vec<UserId> = outcomes.iter().flatten().map(|login| login.user).collect();
    assert_eq!(won.len(), 1, "{outcomes:?}");
    let lost = outcomes
        .iter()
        .filter(|it| matches!(it, Err(Error::Conflict { .. })));
    assert_eq!(lost.count(), 1, "{outcomes:?}");
    assert_eq!(store.login(stream).await.unwrap().unwrap().user, won[0]);
    fold(world.pool()).await;
    assert!(store.accounts(won[0], true).await.unwrap().is_empty());
    assert_eq!(
        store
            .conversations(won[0], None, 10, 0)
            .await
            .unwrap()
            .total,
        0
    );
    // And erasing that one works as well.
    let begun = store.begin_erasure(won[0], Meta::default()).await.unwrap();
    store.finish_erasure(won[0], begun).await.unwrap();
    assert!(store.login(stream).await.unwrap().is_none());
    verify(world.pool()).await;
}

#[tokio::test]
async fn an_account_that_was_being_connected_meanwhile_is_let_go_of() {
    let world = World::new().await;
    let store = &world.store;
    let ada = Person::new(5, "ada");
    let begun: Place = store
        .begin_erasure(ada.user, Meta::default())
        .await
        .unwrap();
    // With a key in memory, as a worker elsewhere may have it.
    ada.connect(store).await;
    fold(world.pool()).await;
    assert_eq!(store.accounts(ada.user, false).await.unwrap().len(), 2);
    for _ in 0..2 {
        store.finish_erasure(ada.user, begun).await.unwrap();
        fold(world.pool()).await;
        assert!(store.accounts(ada.user, false).await.unwrap().is_empty());
        assert_eq!(ada.left(world.pool()).await, []);
    }
    let stream: StreamId = ada.chat.at.account.into();
    let version: i64 = sqlx::query_scalar("SELECT version FROM streams WHERE stream = $1")
        .bind(stream.0)
        .fetch_one(world.pool())
        .await
        .unwrap();
    assert_eq!(version, 2, "connected, and disconnected once");
    verify(world.pool()).await;
}

#[tokio::test]
async fn raw_input_goes_by_day_and_by_account() {
    let world = World::new().await;
    let vault = world.store.vault();
    let (one, two) = (["1".to_owned()], ["2".to_owned()]);
    let both = ["1".to_owned(), "2".to_owned()];
    let now = Utc::now();
    let before = now - chrono::Duration::days(1);
    let seal = async |routes: &[String], at| {
        let sealed = vault.seal_raw(Platform::Facebook, routes, at, "body").await;
        (routes.to_vec(), at, sealed.unwrap())
    };
    let sealed = [
        seal(&one, now).await,
        seal(&two, now).await,
        seal(&both, now).await,
        seal(&[], now).await,
        seal(&one, before).await,
        seal(&[], before).await,
    ];
    let readable = async || {
        let mut readable = Vec::new();
        for (routes, at, body) in &sealed {
            let opened = vault.open_raw(Platform::Facebook, routes, *at, body).await;
            readable.push(opened.unwrap() == Opened::Text("body".to_owned()));
        }
        readable
    };
    assert_eq!(readable().await, [true; 6]);
    vault.forget_raw_input(before).await.unwrap();
    assert_eq!(readable().await, [true, true, true, true, false, false]);
    let deleted = vault
        .forget_raw_route(Platform::Facebook, "2")
        .await
        .unwrap();
    assert_eq!(deleted, 1);
    assert_eq!(readable().await, [true, false, false, true, false, false]);
    // Connected again, it has a key again; the old input stays lost.
    let (routes, at, body) = seal(&two, now).await;
    let opened = vault.open_raw(Platform::Facebook, &routes, at, &body).await;
    assert_eq!(opened.unwrap(), Opened::Text("body".to_owned()));
}

#[tokio::test]
async fn input_that_is_somebody_elses_as_well_is_translated_before_its_keys_go() {
    let world = World::new().await;
    let store = &world.store;
    let ada = Person::new(5, "ada");
    ada.live(store).await;
    fold(world.pool()).await;
    let begun = store
        .begin_erasure(ada.user, Meta::default())
        .await
        .unwrap();
    let routes = ["another page".to_owned(), ada.own()];
    let raw: String = sqlx::query_scalar(
        "SELECT payload ->> 'body' FROM commands WHERE json_array_length(payload -> 'routes') = 2",
    )
    .fetch_one(world.pool())
    .await
    .unwrap();
    let raw = Sealed(raw);
    let open = async || {
        let opened = store
            .vault()
            .open_raw(Platform::Facebook, &routes, Utc::now(), &raw);
        opened.await.unwrap()
    };
    let erased = store.finish_erasure(ada.user, begun).await.unwrap();
    assert_eq!((erased.waiting, erased.raw_keys), (1, 0));
    assert_eq!(open().await, Opened::Text(ada.thing("raw of both")));
    assert_eq!(ada.left(world.pool()).await, []);
    translate(world.pool()).await;
    let erased = store.finish_erasure(ada.user, begun).await.unwrap();
    assert_eq!((erased.waiting, erased.raw_keys), (0, 1));
    assert_eq!(open().await, Opened::Erased);
}
