//! Files through a session: out in parts and once, whoever dies; in piece by piece, from the place
//! where they are by then.

use std::time::Duration;

use chrono::Utc;
use hub_domain::envelope::Append;
use hub_domain::event::{Attached, MessageQueued, MessageType, Sealed, Thread};
use hub_domain::id::{ConversationId, MessageId, ObjectId, conversation_id, message_id, object_id};
use hub_domain::platform::Platform;
use hub_store::account::Owner;
use hub_store::entity::message;
use hub_store::objects::Found;
use hub_store::vault::Sealer;
use serde_json::json;
use uuid::Uuid;

use crate::telegram::{Sent, Telegram};
use crate::world::{World, eventually};

const PART: usize = 512 * 1024;

/// Three parts, no two of them alike.
fn document() -> Vec<u8> {
    let numbers = (0_u32..).flat_map(u32::to_be_bytes);
    let head = b"%PDF-1.7\n".iter().copied();
    head.chain(numbers).take(2 * PART + 10).collect()
}

/// The only chat.
const THREAD: &str = "1";

fn conversation(owner: Owner) -> ConversationId {
    conversation_id(owner.account, THREAD)
}

/// Queues a message with a file, as the API does.
async fn queue(world: &World, owner: Owner, text: &str) -> MessageId {
    let vault = world.store.vault();
    let content = vault.content(owner.user, Utc::now(), None).await.unwrap();
    let Sealer::Under(day) = &content else {
        panic!("today is kept");
    };
    let user = owner.user;
    let object = ObjectId(Uuid::new_v4());
    let put = world
        .objects
        .put(user, object, day, "application/pdf", document());
    let about = put.await.unwrap();
    let attached = Attached {
        object,
        content_type: about.content_type,
        size: about.size,
        described: day.seal(&json!([{ "name": "order 42.pdf" }]).to_string()),
    };
    queue_with(world, owner, content.seal(text), Some(attached)).await
}

async fn queue_text(world: &World, owner: Owner) -> MessageId {
    let vault = world.store.vault();
    let content = vault.content(owner.user, Utc::now(), None).await.unwrap();
    queue_with(world, owner, content.seal("hello"), None).await
}

async fn queue_with(
    world: &World,
    owner: Owner,
    text: Sealed,
    attached: Option<Attached>,
) -> MessageId {
    let (conversation, message) = (conversation(owner), MessageId(Uuid::now_v7()));
    let event = MessageQueued {
        at: Thread {
            user: owner.user,
            account: owner.account,
            platform: Platform::Telegram,
            conversation,
            thread: THREAD.to_owned(),
        },
        message,
        message_type: attached
            .as_ref()
            .map_or(MessageType::Text, |_| MessageType::File),
        text,
        attached,
    };
    let shard = world.store.sharding().of_user(owner.user);
    let append = Append::one(shard, conversation, event);
    world.store.append(append).await.unwrap();
    message
}

async fn row(world: &World, owner: Owner, message: MessageId) -> message::Model {
    let found = world.store.message(owner.user, message).await.unwrap();
    found.expect("the message is shown").0
}

/// The state a message comes to.
async fn becomes(world: &World, owner: Owner, message: MessageId, state: &str) -> message::Model {
    eventually(state, async || {
        let found = world.store.message(owner.user, message).await.unwrap();
        found.is_some_and(|(row, ..)| row.state == state)
    })
    .await;
    row(world, owner, message).await
}

/// A Telegram with one message, a connected account, and a worker that has looked at everything.
async fn begin() -> (Telegram, World, Owner) {
    let telegram = Telegram::start(1, 1).await;
    let world = World::new(Some(&telegram.base)).await;
    let owner = world.connect().await;
    (telegram, world, owner)
}

fn the_one(telegram: &Telegram, text: &str) -> Sent {
    let sent = telegram.desk().sent.clone();
    assert_eq!(sent.len(), 1, "{}", sent.len());
    assert_eq!(sent[0].text, text);
    let (_, bytes) = sent[0].file.as_ref().expect("its file");
    assert!(*bytes == document(), "byte for byte");
    sent[0].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_dies_a_file_is_sent_once() {
    let (telegram, world, owner) = begin().await;
    let worker = world.worker();
    let message = queue(&world, owner, "look").await;

    // In the middle of handing over: Telegram has a part and nobody knows.
    telegram.desk().silent = Some("save_part");
    eventually("a part is there", async || {
        !telegram.desk().called("save_part").is_empty()
    })
    .await;
    drop(worker);
    // In the middle of the send: Telegram has the message and nobody knows.
    telegram.desk().silent = Some("send");
    world.leases_end().await;
    let worker = world.worker();
    eventually("the message is there", async || {
        telegram.desk().sent.len() == 1
    })
    .await;
    drop(worker);
    let sent = the_one(&telegram, "look");
    let before = telegram.desk().called("save_part");

    // The next one asks for it again, while Telegram wants patience first.
    telegram.desk().silent = None;
    telegram
        .desk()
        .refusals
        .push_back(("send", 420, "FLOOD_WAIT", 1));
    world.leases_end().await;
    let _worker = world.worker();
    let row = becomes(&world, owner, message, "sent").await;
    assert_eq!(row.platform_message_id, Some(sent.id.to_string()));
    assert_eq!(the_one(&telegram, "look").random_id, sent.random_id);
    // Each process handed all of it over, under a number of its own.
    let parts = telegram.desk().called("save_part");
    assert_eq!(parts.len() - before.len(), 3, "{parts:?}");
    let file = |call: &String| call.split(' ').nth(1).map(str::to_owned);
    let last = parts.last().and_then(file);
    assert!(before.iter().all(|call| file(call) != last), "{parts:?}");
    // What may have been sent is never said to wait or to have failed.
    let delayed = "SELECT count(*) FROM events WHERE kind IN ('SendDelayed', 'SendFailed')";
    assert_eq!(world.count(delayed).await, 0);
    // Telegram tells of it too: that is the same message.
    world.translated().await;
    assert_eq!(world.seen(owner).await.0.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_telegram_may_have_forgotten_is_not_sent_again() {
    let (telegram, world, owner) = begin().await;
    let worker = world.worker();
    telegram.desk().silent = Some("send");
    let message = queue(&world, owner, "look").await;
    eventually("the message is there", async || {
        telegram.desk().sent.len() == 1
    })
    .await;
    becomes(&world, owner, message, "sending").await;
    drop(worker);
    // The next worker comes late, to a Telegram that knows nothing of the number any more.
    telegram.desk().sent[0].random_id = 0;
    telegram.desk().silent = None;
    let late = "UPDATE read.messages SET created_at = now() - interval '5 minutes' \
         WHERE state = 'sending'";
    sqlx::query(late).execute(world.pool()).await.unwrap();
    world.leases_end().await;
    let _worker = world.worker();
    becomes(&world, owner, message, "uncertain").await;
    assert_eq!(telegram.desk().sent.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_that_is_lost_has_all_of_them_handed_over_again() {
    let (telegram, world, owner) = begin().await;
    let _worker = world.worker();
    telegram.desk().refusals.extend([
        // Between two parts Telegram wants patience: only the part comes again.
        ("save_part", 420, "FLOOD_PREMIUM_WAIT", 1),
        ("send", 400, "FILE_PART_MISSING", 1),
    ]);
    let message = queue(&world, owner, "").await;
    becomes(&world, owner, message, "sent").await;
    the_one(&telegram, "");
    let parts = telegram.desk().called("save_part");
    assert_eq!(parts.len(), 1 + 3 + 3, "{parts:?}");
    // Both attempts are in the log, with how the first one ended.
    let attempts = "SELECT count(*) FROM events WHERE kind = 'SendAttempted'";
    assert_eq!(world.count(attempts).await, 2);

    // One that is refused for good is not tried again, and holds up nothing.
    let refusal = ("send", 400, "MEDIA_INVALID", 0);
    telegram.desk().refusals.push_back(refusal);
    let refused = queue(&world, owner, "").await;
    let row = becomes(&world, owner, refused, "failed").await;
    assert_eq!(row.failure.as_deref(), Some("permanent"));
    let reason = row.failure_reason.unwrap_or_default();
    assert!(reason.contains("MEDIA_INVALID"), "{reason}");
    let next = queue(&world, owner, "next").await;
    becomes(&world, owner, next, "sent").await;
}

/// The object of a message's file.
async fn object(world: &World, owner: Owner, message: i64) -> Option<Vec<u8>> {
    let message = message_id(conversation(owner), &message.to_string());
    let object = object_id(message, 0);
    let vault = world.store.vault();
    match world.objects.get(vault, owner.user, object).await.unwrap() {
        Found::File(_, bytes) => Some(bytes),
        Found::Erased | Found::Nothing => None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_read_from_where_it_is_by_then() {
    let (telegram, world, owner) = begin().await;
    {
        let mut desk = telegram.desk();
        desk.files.insert(1_001, document());
        desk.refusals.extend([
            ("locate", 420, "FLOOD_WAIT", 1),
            ("read 1001 0", 420, "FLOOD_WAIT", 2),
            ("read 1001 524288", 400, "FILE_REFERENCE_EXPIRED", 0),
        ]);
    }
    let _worker = world.worker();
    eventually("the first piece is asked for", async || {
        !telegram.desk().called("read").is_empty()
    })
    .await;
    // Messages do not wait behind files.
    let message = queue_text(&world, owner).await;
    becomes(&world, owner, message, "sent").await;
    assert_eq!(telegram.desk().called("read").len(), 1);
    eventually("the file is here", async || {
        object(&world, owner, 1_001).await.is_some()
    })
    .await;
    assert_eq!(object(&world, owner, 1_001).await, Some(document()));
    let desk = telegram.desk();
    let reads = ["0", "0", "524288", "524288", "1048576"].map(|at| format!("read 1001 {at}"));
    assert_eq!(desk.called("read"), reads);
    assert_eq!(desk.called("locate").len(), 3);
    // Telegram's pauses were kept: the calls after them are as much later.
    let of_files = desk.calls.iter().filter(|(it, _)| !it.starts_with("send"));
    let times: Vec<_> = of_files.map(|(_, at)| *at).collect();
    assert!(times[1] - times[0] >= Duration::from_secs(1), "{times:?}");
    assert!(times[3] - times[2] >= Duration::from_secs(2), "{times:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fades_is_left_alone_and_what_is_gone_is_lost() {
    let telegram = Telegram::start(1, 3).await;
    let world = World::new(Some(&telegram.base)).await;
    world.connect().await;
    {
        let mut desk = telegram.desk();
        for message in 1_001..=1_003 {
            desk.files.insert(message, document());
        }
        desk.fading.insert(1_001);
        desk.refusals
            .push_back(("read", 400, "LOCATION_INVALID", 0));
    }
    let _worker = world.worker();
    eventually("one is here, two are lost", async || {
        let lost = "SELECT count(*) FROM events WHERE kind = 'MediaUnavailable' \
             AND payload ->> 'loss' = 'gone'";
        let stored = "SELECT count(*) FROM events WHERE kind = 'MediaStored'";
        (world.count(lost).await, world.count(stored).await) == (2, 1)
    })
    .await;
    let desk = telegram.desk();
    assert!(!desk.called("locate").contains(&"locate 1001".to_owned()));
    assert_eq!(desk.called("locate").len(), 2);
}
