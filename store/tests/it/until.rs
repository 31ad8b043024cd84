//! A generation folded up to a moment is what the live one was then.

use chrono::{DateTime, TimeDelta, Utc};
use hub_domain::event::{ConversationRead, MessageDeleted, MessageEdited, Sealed};
use hub_domain::id::Place;
use hub_store::generation::{
    End, Progress, Reconstruction, Until, Verdict, discard, rebuild, reconstruct,
};
use hub_store::project::{Projection, step};
use hub_store::{Error, PgPool, Store, checkpoint, read};

use crate::facts::{Chat, at, user};
use crate::random::Random;
use crate::world::World;

const INBOX: Projection = Projection::Inbox;

fn quiet(_: Progress) {}

async fn settle(pool: &PgPool) {
    for projection in Projection::ALL {
        let live = checkpoint::live_generation(pool, projection.name()).await;
        let reactor = projection.reactor(live.unwrap());
        for shard in checkpoint::behind(pool, reactor).await.unwrap() {
            let generation = reactor.generation;
            while step(pool, projection, generation, shard).await.unwrap() > 0 {}
        }
    }
}

/// Something happens to one of a few users; returns where.
async fn happen(store: &Store, random: &mut Random) -> Place {
    let owner = user(u128::from(random.below(5)));
    let chat = Chat::new(owner, ["a", "b"][random.below(2) as usize]);
    let (conversation, id) = (chat.at.conversation, format!("m{}", random.below(8)));
    let seconds = random.below(100) as i64;
    let event = match random.below(8) {
        0 => MessageEdited {
            user: owner,
            conversation,
            platform_message_id: id,
            text: Sealed("edited".to_owned()),
            edited_at: at(seconds),
        }
        .into(),
        1 => MessageDeleted {
            user: owner,
            conversation,
            platform_message_id: id,
            deleted_at: at(seconds),
        }
        .into(),
        2 => ConversationRead {
            user: owner,
            conversation,
        }
        .into(),
        _ => chat.received(&id, seconds),
    };
    let shard = store.sharding().of_user(owner);
    store
        .append(chat.append(shard, event))
        .await
        .unwrap()
        .place()
}

/// The rows of a generation of the inbox, without its number.
async fn rows(pool: &PgPool, generation: i16) -> Vec<String> {
    sqlx::query_scalar(
        "SELECT (to_jsonb(c) - 'generation')::text FROM read.conversations c \
             WHERE generation = $1 \
         UNION ALL SELECT (to_jsonb(t) - 'generation')::text FROM read.totals t \
             WHERE generation = $1 \
         UNION ALL SELECT (to_jsonb(m) - 'generation')::text FROM read.messages m \
             WHERE generation = $1 ORDER BY 1",
    )
    .bind(generation)
    .fetch_all(pool)
    .await
    .unwrap()
}

async fn until(pool: &PgPool, until: Until) -> Result<Reconstruction, Error> {
    reconstruct(pool, INBOX, until, &quiet).await
}

async fn clock(pool: &PgPool) -> DateTime<Utc> {
    let clock = sqlx::query_scalar("SELECT clock_timestamp()");
    clock.fetch_one(pool).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_generation_up_to_a_moment_is_the_live_one_of_then() {
    let mut random = Random::from_env();
    let world = World::new().await;
    let pool = world.pool();
    let mut moments = Vec::new();
    for _ in 0..6 {
        let mut last = None;
        for _ in 0..random.below(20) + 1 {
            last = Some(happen(&world.store, &mut random).await);
        }
        settle(pool).await;
        moments.push((last.unwrap(), clock(pool).await, rows(pool, 1).await));
    }
    for (nth, (place, time, then)) in moments.iter().enumerate() {
        let wanted = if random.percent(50) {
            Until::Place(*place)
        } else {
            Until::Time(*time)
        };
        let past = until(pool, wanted).await.unwrap();
        assert_eq!((past.live, past.generation), (1, 2));
        assert_eq!(past.resumed, nth > 0, "folds only go forward");
        assert_eq!(&rows(pool, 2).await, then, "{wanted:?}");
        let counted: i64 = past.tables.iter().map(|table| table.digest.rows).sum();
        assert_eq!(counted, then.len() as i64);
        let partition = &past.tables[1].partition;
        let by_name = format!("SELECT count(*) FROM {partition}");
        let by_name: i64 = sqlx::query_scalar(sqlx::AssertSqlSafe(by_name))
            .fetch_one(pool)
            .await
            .unwrap();
        assert_eq!(by_name, past.tables[1].digest.rows);
        let live = checkpoint::live_generation(pool, "inbox").await.unwrap();
        assert_eq!(live, 1, "never switched");
    }
    assert_eq!(
        rows(pool, 1).await,
        moments[5].2,
        "the live one is as it was"
    );

    // Folds do not go back.
    let back = until(pool, Until::Time(moments[2].1)).await;
    assert!(matches!(back, Err(Error::Refused(ref why)) if why.contains("--discard")));
    // A plain rebuild goes on from it and finds both equal.
    happen(&world.store, &mut random).await;
    settle(pool).await;
    let certificate = rebuild(pool, INBOX, End::Keep, &quiet).await.unwrap();
    assert!(certificate.resumed);
    assert_eq!(
        (certificate.verdict, certificate.folded),
        (Verdict::Equal, 1)
    );
    assert_eq!(discard(pool, INBOX).await.unwrap(), [2]);
    let again = until(pool, Until::Time(moments[2].1)).await.unwrap();
    assert!(!again.resumed);
    assert_eq!(rows(pool, 2).await, moments[2].2);
}

#[tokio::test]
async fn a_place_means_itself_and_what_was_recorded_by_then_elsewhere() {
    let mut random = Random::from_env();
    let world = World::new().await;
    let pool = world.pool();
    let mut places = Vec::new();
    for _ in 0..30 {
        places.push(happen(&world.store, &mut random).await);
    }
    settle(pool).await;
    let place = places[17];
    let past = until(pool, Until::Place(place)).await.unwrap();
    assert_eq!(past.reaches, 18, "one after the other: all up to it");
    assert!(past.places.contains(&place.to_string()));
    let head = read::head(pool, place.shard).await.unwrap();
    let beyond = Place {
        position: head + 1,
        ..place
    };
    let nothing = until(pool, Until::Place(beyond)).await;
    assert!(matches!(nothing, Err(Error::Refused(_))), "{nothing:?}");
}

#[tokio::test]
async fn a_moment_the_live_model_has_not_reached_is_not_built() {
    let world = World::new().await;
    happen(&world.store, &mut Random::new(1)).await;
    let early = until(world.pool(), Until::Time(Utc::now() + TimeDelta::days(1))).await;
    assert!(matches!(early, Err(Error::Refused(ref why)) if why.contains("worker")));
}

#[test]
fn moments_are_read_as_people_write_them() {
    let time = "2026-01-31T10:30:00+01:00".parse::<Until>().unwrap();
    assert_eq!(time, "2026-01-31T09:30:00Z".parse().unwrap());
    assert!(matches!("3-1042".parse(), Ok(Until::Place(_))));
    for odd in ["", "yesterday", "2026-01-31", "3"] {
        assert!(odd.parse::<Until>().is_err(), "{odd}");
    }
}
