//! Nothing stuck, nothing skipped: what cannot be processed holds its stream back and nobody else.

use chrono::DateTime;
use futures::future::join_all;
use hub_domain::event::Event;
use hub_domain::id::{Shard, StreamId};
use hub_store::checkpoint::{self, Reactor};
use hub_store::dlq::{self, Filter, Outcome, Parked, Wish};
use hub_store::follow::{self, Batch, Handler};
use hub_store::generation::{Certificate, End, Verdict};
use hub_store::parked::Class;
use hub_store::project::{self, Projection, step};
use hub_store::{Connection, Error, PgPool, Result};

use crate::facts::{Chat, user};
use crate::generation::{fold_live, replay, settle};
use crate::random::Random;
use crate::world::World;

pub const INBOX: Projection = Projection::Inbox;

/// Two conversations of one user: the stream that gets into trouble, and its neighbour.
pub struct Chats {
    pub world: World,
    pub shard: Shard,
    pub sick: Chat,
    pub well: Chat,
}

impl Chats {
    pub async fn new() -> Self {
        let world = World::new().await;
        let owner = user(5);
        Self {
            shard: world.store.sharding().of_user(owner),
            sick: Chat::new(owner, "sick"),
            well: Chat::new(owner, "well"),
            world,
        }
    }

    pub fn pool(&self) -> &PgPool {
        self.world.pool()
    }

    pub async fn append(&self, chat: &Chat, event: Event) {
        let append = chat.append(self.shard, event);
        self.world.store.append(append).await.unwrap();
    }

    /// Messages in turn: the sick stream gets the odd positions.
    pub async fn write(&self, numbers: std::ops::Range<i64>) {
        for n in numbers {
            for chat in [&self.sick, &self.well] {
                self.append(chat, chat.received(&format!("m{n}"), n)).await;
            }
        }
    }

    pub fn stream(&self) -> StreamId {
        self.sick.at.conversation.into()
    }

    /// Messages of a conversation that readers see.
    pub async fn shown(&self, chat: &Chat) -> i64 {
        let (owner, conversation) = (chat.at.user, chat.at.conversation);
        let page = self.world.store.thread(owner, conversation, 10_000, 0);
        i64::try_from(page.await.unwrap().len()).unwrap()
    }

    pub async fn heads(&self) -> Vec<Parked> {
        dlq::parked(self.pool(), &Filter::default()).await.unwrap()
    }

    pub async fn head(&self, reactor: &str) -> Parked {
        let mut heads = self.heads().await;
        heads.retain(|it| it.reactor == reactor);
        assert_eq!(heads.len(), 1, "{heads:?}");
        heads.remove(0)
    }

    pub async fn position(&self) -> i64 {
        let position = checkpoint::live_position(self.pool(), "inbox", self.shard).await;
        position.unwrap()
    }

    pub async fn verify(&self) -> Certificate {
        replay(self.pool(), INBOX, End::Drop).await
    }

    /// What a worker does when it is asked to try the sick stream again.
    pub async fn retry(&self) -> Option<String> {
        retry(self.pool(), self.shard, self.stream()).await.unwrap()
    }

    pub async fn run(&self, statement: &'static str) {
        run(self.pool(), statement).await;
    }
}

pub async fn run(pool: &PgPool, statement: &'static str) {
    sqlx::raw_sql(statement).execute(pool).await.unwrap();
}

pub async fn retry(pool: &PgPool, shard: Shard, stream: StreamId) -> Result<Option<String>> {
    for generation in dlq::generations(pool, "inbox", shard, Some(stream), 0).await? {
        loop {
            let retried = project::retry(pool, INBOX, generation, shard, stream).await?;
            if retried.failed.is_some() {
                return Ok(retried.failed);
            }
            if !retried.more {
                break;
            }
        }
    }
    Ok(None)
}

/// Nothing is parked, and the rows are those of a clean fold.
pub fn sound(certificate: &Certificate) {
    assert_eq!(certificate.verdict, Verdict::Equal);
    assert_eq!(certificate.parked, Default::default());
}

pub const SPOIL: &str = "CREATE TABLE kept AS SELECT * FROM events WHERE position = 5; \
    UPDATE events SET payload = '{\"secret\": \"Bratwurst\"}' WHERE position = 5";
pub const MEND: &str = "UPDATE events e SET payload = k.payload, kind = k.kind FROM kept k \
    WHERE e.shard = k.shard AND e.position = k.position";

#[tokio::test]
async fn an_unreadable_event_holds_its_stream_and_nobody_else() {
    let chats = Chats::new().await;
    chats.write(0..10).await;
    chats.run(SPOIL).await;
    settle(chats.pool()).await;
    // The checkpoint has passed, because what was not processed stands in the table.
    assert_eq!(chats.position().await, 20);
    assert_eq!(chats.shown(&chats.well).await, 10);
    assert_eq!(chats.shown(&chats.sick).await, 2);
    let head = chats.head("inbox").await;
    assert_eq!(head.id, format!("inbox/{}-5", chats.shard));
    assert_eq!((head.class, head.held), (Class::Unreadable, 7));
    assert_eq!(head.stream, Some(chats.stream().0));
    assert!(!head.reason.contains("Bratwurst"), "{}", head.reason);
    assert!(head.reason.contains("missing"), "{}", head.reason);
    // Later events of the stream wait too, in order, also those of later turns.
    chats.write(10..15).await;
    settle(chats.pool()).await;
    assert_eq!(chats.shown(&chats.sick).await, 2);
    assert_eq!(chats.shown(&chats.well).await, 15);
    assert_eq!(chats.head("inbox").await.held, 12);
    let found = dlq::find(chats.pool(), &format!("inbox/{}-29", chats.shard)).await;
    assert_eq!(found.unwrap().unwrap().id, head.id);
    // A rebuild parks the same.
    let certificate = chats.verify().await;
    assert_eq!(certificate.verdict, Verdict::Equal);
    assert_eq!(
        (certificate.parked.live, certificate.parked.rebuilt),
        (1, 1)
    );
    let left = dlq::generations(chats.pool(), "inbox", chats.shard, None, 5).await;
    assert_eq!(
        left.unwrap(),
        [1],
        "a dropped generation takes its rows along"
    );

    // Still broken: nothing happens but the count.
    let since = dlq::now(chats.pool()).await.unwrap();
    assert_eq!(chats.retry().await, Some(head.reason.clone()));
    assert_eq!(chats.head("inbox").await.tries, 1);
    let outcome = dlq::outcome(chats.pool(), &head, since).await.unwrap();
    assert_eq!(outcome, Outcome::Failed(head.reason.clone()));

    chats.run(MEND).await;
    assert_eq!(chats.retry().await, None);
    assert_eq!(chats.shown(&chats.sick).await, 15);
    let outcome = dlq::outcome(chats.pool(), &head, since).await.unwrap();
    assert_eq!(outcome, Outcome::Processed);
    sound(&chats.verify().await);
    // And the stream is followed as ever.
    chats.write(15..20).await;
    settle(chats.pool()).await;
    assert_eq!(chats.shown(&chats.sick).await, 20);
    sound(&chats.verify().await);
}

#[tokio::test]
async fn what_postgresql_refuses_is_found_among_hundreds() {
    let chats = Chats::new().await;
    chats.write(0..100).await;
    // A text with a NUL: JSON may hold it, a text column may not.
    let mut message = chats.sick.message("n\0l", 100);
    message.sender_id = "Bratwurst\0".to_owned();
    let nul = hub_domain::event::MessageReceived(message);
    chats.append(&chats.sick, nul.into()).await;
    // A time before the calendar of PostgreSQL begins.
    let third = Chat::new(user(5), "third");
    let mut message = third.message("old", 0);
    message.sent_at = DateTime::from_timestamp(-8_000_000_000_000, 0).unwrap();
    let old = hub_domain::event::MessageReceived(message);
    chats.append(&third, old.into()).await;
    // An id that no index takes.
    let fourth = Chat::new(user(5), "fourth");
    let mut random = Random::from_env();
    let long: String = (0..20_000)
        .map(|_| char::from(b'a' + random.below(26) as u8))
        .collect();
    chats.append(&fourth, fourth.received(&long, 0)).await;
    chats.write(100..200).await;
    settle(chats.pool()).await;
    assert_eq!(chats.position().await, 403);
    assert_eq!(chats.shown(&chats.well).await, 200);
    assert_eq!(chats.shown(&chats.sick).await, 100);
    let heads = chats.heads().await;
    let found: Vec<_> = heads
        .iter()
        .map(|it| (it.reactor.as_str(), it.position, it.class, it.held))
        .collect();
    assert_eq!(
        found,
        [
            ("inbox", 201, Class::Failed, 100),
            ("inbox", 202, Class::Failed, 0),
            ("inbox", 203, Class::Failed, 0)
        ]
    );
    for head in &heads {
        assert!(!head.reason.contains("Bratwurst"), "{}", head.reason);
        assert!(head.reason.contains("SQLSTATE"), "{}", head.reason);
        let shown = dlq::detail(chats.pool(), head).await.unwrap().to_string();
        assert!(!shown.contains("Bratwurst"), "{shown}");
        assert!(shown.contains("MessageReceived"), "{shown}");
    }
    let certificate = chats.verify().await;
    assert_eq!(certificate.verdict, Verdict::Equal);
    assert_eq!(
        (certificate.parked.live, certificate.parked.rebuilt),
        (3, 3)
    );
}

/// Notes what it is given, and panics over one message.
struct Panics {
    over: &'static str,
}

impl Handler for Panics {
    fn reactor(&self) -> Reactor {
        Reactor {
            name: "dispatch",
            generation: 0,
        }
    }

    async fn apply(&self, connection: &mut Connection, batches: &[Batch<'_>]) -> Result<()> {
        for recorded in batches.iter().flat_map(|batch| batch.events) {
            let shard = recorded.place.shard;
            sqlx::query("INSERT INTO noted SELECT $1, $2, coalesce(max(nth), 0) + 1 FROM noted")
                .bind(shard.0)
                .bind(recorded.place.position)
                .execute(&mut *connection)
                .await?;
            if let Event::MessageReceived(it) = &recorded.event {
                assert_ne!(it.0.platform_message_id, self.over);
            }
        }
        Ok(())
    }
}

#[tokio::test]
async fn a_panic_is_taken_back_and_parks_its_stream() {
    let chats = Chats::new().await;
    chats
        .run("CREATE TABLE noted (shard smallint, position bigint, nth bigint)")
        .await;
    chats.write(0..10).await;
    let panics = Panics { over: "m3" };
    // Over the message of either conversation.
    let passed = follow::turn(chats.pool(), &panics, chats.shard).await;
    assert_eq!(passed.unwrap(), 20);
    let noted = "SELECT array_agg(position ORDER BY nth) FROM noted";
    let positions: Vec<i64> = sqlx::query_scalar(noted)
        .fetch_one(chats.pool())
        .await
        .unwrap();
    assert_eq!(positions, [1, 2, 3, 4, 5, 6], "each once, in order");
    let heads = chats.heads().await;
    let found: Vec<_> = heads.iter().map(|it| (it.position, it.held)).collect();
    assert_eq!(found, [(7, 6), (8, 6)]);
    let panics = Panics { over: "m8" };
    let stream = chats.stream();
    let retried = follow::retry(chats.pool(), &panics, chats.shard, stream).await;
    let retried = retried.unwrap();
    assert_eq!(retried.failed.as_deref(), Some("the handler panicked"));
    assert_eq!(retried.processed.len(), 5);
    let positions: Vec<i64> = sqlx::query_scalar(noted)
        .fetch_one(chats.pool())
        .await
        .unwrap();
    assert_eq!(positions[6..], [7, 9, 11, 13, 15]);
    // What failed now is the head.
    let heads = chats.heads().await;
    let found: Vec<_> = heads.iter().map(|it| (it.position, it.held)).collect();
    assert_eq!(found, [(8, 6), (17, 1)]);
}

#[tokio::test]
async fn what_was_discarded_stays_discarded_in_a_rebuild() {
    let chats = Chats::new().await;
    chats.write(0..10).await;
    chats.run(SPOIL).await;
    settle(chats.pool()).await;
    // A rebuilt generation is there as well.
    replay(chats.pool(), INBOX, End::Keep).await;
    let head = chats.head("inbox").await;
    let gone = dlq::discard(chats.pool(), &head, "spoilt by hand", "tester").await;
    assert!(gone.unwrap());
    assert!(
        !dlq::discard(chats.pool(), &head, "again", "tester")
            .await
            .unwrap()
    );
    // The stream waits for a worker, who was asked.
    let (reactor, stream) = ("inbox".to_owned(), Some(chats.stream()));
    let wish: String = sqlx::query_scalar("SELECT payload::text FROM jobs WHERE queue = 'dlq'")
        .fetch_one(chats.pool())
        .await
        .unwrap();
    let wish: Wish = serde_json::from_str(&wish).unwrap();
    let position = 5;
    assert_eq!(
        wish,
        Wish::Retry {
            reactor,
            stream,
            position
        }
    );
    assert_eq!(chats.head("inbox").await.position, 7);
    chats.write(10..12).await;
    settle(chats.pool()).await;
    assert_eq!(chats.shown(&chats.sick).await, 2);
    assert_eq!(chats.retry().await, None);
    assert_eq!(chats.shown(&chats.sick).await, 11);
    // The one that was begun before, and one from zero.
    for _ in 0..2 {
        sound(&replay(chats.pool(), INBOX, End::Keep).await);
        hub_store::generation::discard(chats.pool(), INBOX)
            .await
            .unwrap();
    }
    let why: (String, String, String) =
        sqlx::query_as("SELECT why, discarded_by, reason FROM discarded")
            .fetch_one(chats.pool())
            .await
            .unwrap();
    assert_eq!(
        (why.0.as_str(), why.1.as_str()),
        ("spoilt by hand", "tester")
    );
    assert_eq!(why.2, head.reason);
}

#[tokio::test]
async fn switching_takes_the_parked_streams_along() {
    let chats = Chats::new().await;
    chats.write(0..10).await;
    chats.run(SPOIL).await;
    settle(chats.pool()).await;
    let certificate = replay(chats.pool(), INBOX, End::Switch).await;
    assert_eq!(certificate.verdict, Verdict::Equal);
    assert_eq!(chats.head("inbox").await.generation, 2);
    chats.write(10..12).await;
    settle(chats.pool()).await;
    assert_eq!(chats.head("inbox").await.held, 9);
    chats.run(MEND).await;
    assert_eq!(chats.retry().await, None);
    sound(&chats.verify().await);
    assert_eq!(chats.shown(&chats.sick).await, 12);
}

#[tokio::test]
async fn newer_code_is_waited_for_and_taken_up() {
    let chats = Chats::new().await;
    chats.write(0..5).await;
    chats
        .run(
            "CREATE TABLE kept AS SELECT * FROM events WHERE position = 5; \
              UPDATE events SET kind = 'MessageTeleported', schema = 3 WHERE position = 5",
        )
        .await;
    settle(chats.pool()).await;
    let head = chats.head("inbox").await;
    assert_eq!(head.class, Class::NeedsNewerCode);
    assert_eq!((head.kind.as_str(), head.schema), ("MessageTeleported", 3));
    assert_eq!(dlq::readable_now(chats.pool()).await.unwrap(), []);
    // A build that knows the kind.
    chats
        .run(
            "UPDATE events e SET kind = k.kind, schema = k.schema FROM kept k \
                  WHERE e.shard = k.shard AND e.position = k.position; \
              UPDATE parked SET kind = 'MessageReceived', schema = 1 WHERE class <> 'held'",
        )
        .await;
    let readable = dlq::readable_now(chats.pool()).await.unwrap();
    let of_inbox = readable.iter().any(|(shard, wish)| {
        let Wish::Retry {
            reactor, stream, ..
        } = wish
        else {
            return false;
        };
        *shard == chats.shard && reactor == "inbox" && *stream == Some(chats.stream())
    });
    assert!(of_inbox, "{readable:?}");
    assert_eq!(chats.retry().await, None);
    sound(&chats.verify().await);
}

#[tokio::test]
async fn a_hole_is_never_parked() {
    let chats = Chats::new().await;
    chats.write(0..5).await;
    chats.run(SPOIL).await;
    chats.run("DELETE FROM events WHERE position = 8").await;
    let stopped = step(chats.pool(), INBOX, 1, chats.shard).await;
    assert!(matches!(stopped, Err(Error::Corrupt { .. })), "{stopped:?}");
    assert_eq!(chats.heads().await, []);
    assert_eq!(chats.position().await, 0);
}

#[tokio::test]
async fn many_held_events_are_taken_up_in_parts_and_in_order() {
    let chats = Chats::new().await;
    chats.write(0..3).await;
    chats.run(SPOIL).await;
    let (shard, sick) = (chats.shard, &chats.sick);
    let appends = (3..1_300).map(|n| {
        let append = sick.append(shard, sick.received(&format!("m{n}"), n));
        chats.world.store.append(append)
    });
    for appended in join_all(appends).await {
        appended.unwrap();
    }
    settle(chats.pool()).await;
    assert_eq!(chats.head("inbox").await.held, 1_297);
    chats.run(MEND).await;
    let stream = chats.stream();
    let first = project::retry(chats.pool(), INBOX, 1, shard, stream)
        .await
        .unwrap();
    assert!(first.more);
    assert_eq!(first.processed.len(), 500);
    let versions: Vec<i64> = first.processed.iter().map(|it| it.version).collect();
    assert_eq!(versions, (3..503).collect::<Vec<_>>());
    // What comes meanwhile goes to the end of the line.
    chats.append(sick, sick.received("last", 1)).await;
    fold_live(chats.pool()).await;
    assert_eq!(chats.head("inbox").await.held, 798);
    assert_eq!(chats.retry().await, None);
    assert_eq!(chats.shown(sick).await, 1_301);
    sound(&chats.verify().await);
}
