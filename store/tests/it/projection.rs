//! Folding in small steps through the database equals one fold of everything.

use std::collections::HashMap;

use hub_domain::event::{
    ConversationRead, Event, FailureClass, MessageDeleted, MessageEdited, MessageObserved,
    MessageQueued, MessageRead, MessageSent, MessageType, ReactionChanged, Receipt,
    ReceiptReceived, Sealed, SendAttempted, SendDelayed, SendFailed, SendUncertain,
};
use hub_domain::id::{MessageId, Shard, message_id};
use hub_domain::projection::inbox::{Inbox, MessageRow};
use hub_store::entity::{conversation, message};
use hub_store::project::{Projection, step};
use hub_store::{PgPool, Store};
use sea_orm::{ColumnTrait as _, EntityTrait as _, QueryFilter as _};
use uuid::Uuid;

use crate::facts::{Chat, at, user};
use crate::random::Random;
use crate::world::{World, log_of};

/// What may happen in a conversation, out of order where platforms deliver out of order. `n` names
/// a message, ours when it is odd.
fn any_event(random: &mut Random, chat: &Chat) -> Event {
    let (owner, conversation) = (chat.at.user, chat.at.conversation);
    let n = random.below(8);
    let seconds = random.below(10_000) as i64;
    let platform_message_id = format!("p{n}");
    let own = MessageId(Uuid::from_u128(
        u128::from(n) << 64 | chat.at.conversation.0.as_u128() >> 64,
    ));
    match random.below(15) {
        0 | 1 if n.is_multiple_of(2) => chat.received(&platform_message_id, seconds),
        0 | 1 => MessageObserved(chat.message(&platform_message_id, seconds)).into(),
        2 => MessageEdited {
            user: owner,
            conversation,
            platform_message_id,
            text: Sealed(format!("edited at {seconds}")),
            edited_at: at(seconds),
        }
        .into(),
        3 => MessageDeleted {
            user: owner,
            conversation,
            platform_message_id,
            deleted_at: at(seconds),
        }
        .into(),
        4 | 5 => ReactionChanged {
            user: owner,
            conversation,
            platform_message_id,
            sender_id: format!("person {}", random.below(3)),
            emoji: Some("👍".to_owned()),
            added: random.percent(70),
            at: at(seconds),
        }
        .into(),
        6 => ReceiptReceived {
            user: owner,
            conversation,
            receipt: if random.percent(50) {
                Receipt::Read
            } else {
                Receipt::Delivered
            },
            watermark: random.percent(50).then(|| at(seconds)),
            platform_message_ids: vec![platform_message_id],
            at: at(seconds),
        }
        .into(),
        7 | 8 => MessageQueued {
            at: chat.at.clone(),
            message: own,
            message_type: MessageType::Text,
            text: Sealed(format!("ours {n}")),
            attached: None,
        }
        .into(),
        9 => SendAttempted {
            user: owner,
            conversation,
            message: own,
            attempt: 2,
        }
        .into(),
        // Only ours are ever sent: an incoming message cannot become one of ours.
        10 => MessageSent {
            user: owner,
            conversation,
            message: MessageId(Uuid::from_u128(own.0.as_u128() | 1 << 64)),
            platform_message_id: format!("p{}", n | 1),
            sent_at: at(seconds),
        }
        .into(),
        11 => SendDelayed {
            user: owner,
            conversation,
            message: own,
            attempt: 1,
            class: FailureClass::RateLimited,
            reason: "slow down".to_owned(),
            retry_at: at(seconds),
        }
        .into(),
        12 if random.percent(50) => SendFailed {
            user: owner,
            conversation,
            message: own,
            class: FailureClass::Permanent,
            reason: "no".to_owned(),
        }
        .into(),
        12 => SendUncertain {
            user: owner,
            conversation,
            message: own,
            attempt: 1,
            reason: "silence".to_owned(),
            settle_by: at(seconds),
        }
        .into(),
        13 if random.percent(30) => ConversationRead {
            user: owner,
            conversation,
        }
        .into(),
        _ => MessageRead {
            user: owner,
            conversation,
            message: message_id(conversation, &platform_message_id),
        }
        .into(),
    }
}

/// Makes room for another generation of the inbox, as a rebuild does.
async fn add_generation(pool: &PgPool) {
    sqlx::raw_sql(
        "CREATE TABLE read.messages_2 PARTITION OF read.messages FOR VALUES IN (2); \
         CREATE TABLE read.conversations_2 PARTITION OF read.conversations FOR VALUES IN (2); \
         CREATE TABLE read.totals_2 PARTITION OF read.totals FOR VALUES IN (2); \
         INSERT INTO checkpoints (shard, reactor, generation, log) \
         SELECT shard, 'inbox', 2, 'events' FROM shards WHERE log = 'events'",
    )
    .execute(pool)
    .await
    .unwrap();
}

/// Every row of a read-model table in a generation, as JSON, in order.
async fn rows(pool: &PgPool, table: &str, generation: i16) -> Vec<String> {
    let statement = format!(
        "SELECT (to_jsonb(t) - 'generation')::text FROM read.{table} t \
         WHERE generation = $1 ORDER BY id"
    );
    sqlx::query_scalar(sqlx::AssertSqlSafe(statement))
        .bind(generation)
        .fetch_all(pool)
        .await
        .unwrap()
}

async fn fold_all(pool: &PgPool, generation: i16, shard: Shard) -> usize {
    let mut folded = 0;
    loop {
        match step(pool, Projection::Inbox, generation, shard)
            .await
            .unwrap()
        {
            0 => return folded,
            more => folded += more,
        }
    }
}

#[tokio::test]
async fn small_steps_equal_one_fold_from_zero_and_the_fold_of_the_domain() {
    let mut random = Random::from_env();
    let world = World::new().await;
    add_generation(world.pool()).await;
    let owner = user(5);
    let shard = world.store.sharding().of_user(owner);
    let chats = [
        Chat::new(owner, "a"),
        Chat::new(owner, "b"),
        Chat::new(owner, "c"),
    ];
    let mut written = 0;
    while written < 450 {
        let batch = random.below(7) + 1;
        for _ in 0..batch {
            let chat = &chats[random.below(3) as usize];
            let event = any_event(&mut random, chat);
            world.store.append(chat.append(shard, event)).await.unwrap();
        }
        assert_eq!(fold_all(world.pool(), 1, shard).await, batch as usize);
        written += batch;
    }
    assert_eq!(fold_all(world.pool(), 2, shard).await, written as usize);
    for table in ["conversations", "messages"] {
        let (steps, whole) = (
            rows(world.pool(), table, 1).await,
            rows(world.pool(), table, 2).await,
        );
        assert!(!steps.is_empty());
        assert_eq!(steps.len(), whole.len(), "{table}");
        for (step, whole) in steps.iter().zip(&whole) {
            assert_eq!(step, whole, "{table}");
        }
    }
    same_as_the_pure_fold(&world.store, shard).await;
}

/// The rows are what the domain says, column by column.
async fn same_as_the_pure_fold(store: &Store, shard: Shard) {
    let mut inbox = Inbox::default();
    for recorded in log_of(store.pool(), shard).await {
        inbox.fold(&recorded);
    }
    let stored = message::Entity::find()
        .filter(message::Column::Generation.eq(1))
        .all(store.orm())
        .await
        .unwrap();
    let stored: HashMap<Uuid, message::Model> =
        stored.into_iter().map(|row| (row.id, row)).collect();
    assert_eq!(inbox.messages.all().count(), stored.len());
    for row in inbox.messages.all() {
        assert_eq!(model(row, shard), stored[&row.id.0]);
    }
    let conversations = conversation::Entity::find()
        .filter(conversation::Column::Generation.eq(1))
        .all(store.orm())
        .await
        .unwrap();
    assert_eq!(inbox.conversations.all().count(), conversations.len());
    for row in inbox.conversations.all() {
        let stored = conversations.iter().find(|it| it.id == row.id.0).unwrap();
        let unread = inbox
            .messages
            .all()
            .filter(|it| it.conversation == row.id && it.is_unread(row.read_through))
            .count();
        assert_eq!((stored.unread, row.unread as usize), (row.unread, unread));
        assert_eq!(stored.read_through, row.read_through);
        assert_eq!(stored.last_message_at, row.last_message_at);
        assert_eq!(stored.messages, row.messages);
        assert_eq!(stored.delivered_until, row.delivered_until);
        assert_eq!(stored.seen_until, row.seen_until);
        assert_eq!(stored.named_at, row.named_at);
        assert_eq!(stored.participant_id, row.participant_id);
        let name = row.participant_name.as_ref().map(|name| name.0.clone());
        assert_eq!(stored.participant_name, name);
        assert_eq!(
            (stored.created_at, stored.updated_at),
            (row.created_at, row.updated_at)
        );
    }
}

fn model(row: &MessageRow, shard: Shard) -> message::Model {
    let open = |sealed: &Option<Sealed>| sealed.as_ref().map(|it| it.0.clone());
    message::Model {
        shard: shard.0,
        generation: 1,
        id: row.id.0,
        conversation_id: row.conversation.0,
        platform_message_id: row.platform_message_id.clone(),
        state: row.state.name().to_owned(),
        sender_id: row.sender_id.clone(),
        sender_name: open(&row.sender_name),
        body: open(&row.text),
        message_type: row.message_type.name().to_owned(),
        media: open(&row.media),
        detail: open(&row.detail),
        outgoing: row.outgoing,
        is_read: row.is_read,
        sent_at: row.sent_at,
        delivered_at: row.delivered_at,
        seen_at: row.seen_at,
        edited_at: row.edited_at,
        deleted_at: row.deleted_at,
        reactions: serde_json::to_value(&row.reactions).unwrap(),
        attempts: row.attempts,
        retry_at: row.retry_at,
        failure: row.failure.clone(),
        failure_reason: row.failure_reason.clone(),
        position: row.position,
        created_at: row.created_at,
        files: serde_json::to_value(&row.files).unwrap(),
    }
}

#[tokio::test]
async fn what_comes_before_its_message_waits_for_it() {
    let world = World::new().await;
    let owner = user(5);
    let shard = world.store.sharding().of_user(owner);
    let chat = Chat::new(owner, "a");
    let (conversation, platform_message_id) = (chat.at.conversation, "m1".to_owned());
    let events: [Event; 4] = [
        ReactionChanged {
            user: owner,
            conversation,
            platform_message_id: platform_message_id.clone(),
            sender_id: "person".to_owned(),
            emoji: Some("🎉".to_owned()),
            added: true,
            at: at(30),
        }
        .into(),
        ReceiptReceived {
            user: owner,
            conversation,
            receipt: Receipt::Read,
            watermark: None,
            platform_message_ids: vec![platform_message_id.clone()],
            at: at(40),
        }
        .into(),
        MessageEdited {
            user: owner,
            conversation,
            platform_message_id,
            text: Sealed("as it reads now".to_owned()),
            edited_at: at(20),
        }
        .into(),
        chat.received("m1", 10),
    ];
    for (n, event) in events.into_iter().enumerate() {
        world.store.append(chat.append(shard, event)).await.unwrap();
        // Each in a transaction of its own: the placeholder lives in the table.
        assert_eq!(fold_all(world.pool(), 1, shard).await, 1);
        let shown = world
            .store
            .thread(owner, conversation, 10, 0)
            .await
            .unwrap();
        assert_eq!(
            shown.len(),
            usize::from(n == 3),
            "a placeholder is not shown"
        );
    }
    let shown = world
        .store
        .thread(owner, conversation, 10, 0)
        .await
        .unwrap();
    let message = &shown[0];
    assert_eq!(message.state, "received");
    assert_eq!(message.body.as_deref(), Some("as it reads now"));
    assert_eq!(message.edited_at, Some(at(20)));
    assert_eq!(message.seen_at, Some(at(40)));
    assert_eq!(message.sent_at, Some(at(10)));
    assert_eq!(message.reactions[0]["emoji"], "🎉");
}
