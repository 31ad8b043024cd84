//! A message is explained wherever it stands, also where the inbox does not have it.

use hub_domain::event::{ConversationForgotten, MessageImported};
use hub_domain::id::{MessageId, message_id};
use hub_store::inspect::{Explained, explain, find};
use hub_store::{Error, dlq};
use uuid::Uuid;

use crate::dlq::Chats;
use crate::facts::Chat;
use crate::generation::settle;

fn id(chat: &Chat, platform_id: &str) -> MessageId {
    message_id(chat.at.conversation, platform_id)
}

async fn ask(chats: &Chats, message: MessageId) -> Explained {
    explain(chats.pool(), message, None).await.unwrap()
}

fn kinds(it: &Explained) -> Vec<&str> {
    it.events
        .iter()
        .map(|step| step.event.kind.as_str())
        .collect()
}

#[tokio::test]
async fn one_that_is_stuck_before_the_inbox_is_found_in_the_log() {
    let chats = Chats::new().await;
    let (pool, owner) = (chats.pool(), chats.sick.at.user);
    chats.write(0..2).await;
    let first = id(&chats.sick, "m0");
    // Nobody has folded anything.
    let waiting = ask(&chats, first).await;
    assert!(waiting.message.is_none() && waiting.parked.is_empty());
    assert_eq!(waiting.conversation, chats.sick.at.conversation);
    assert_eq!(kinds(&waiting), ["MessageReceived"]);
    let inbox = waiting.checkpoints.iter().find(|it| it.reactor == "inbox");
    assert_eq!(inbox.map(|it| it.position), Some(0));
    let sharding = chats.world.store.sharding();
    let found = find(pool, sharding, &first.to_string()).await.unwrap();
    assert_eq!(found[0].what, "message");
    assert_eq!(found[0].stream, chats.stream());
    // The first of the stream cannot be read; the second stands behind it.
    chats
        .run(
            "UPDATE events SET payload = (payload::jsonb - 'sent_at')::json \
             WHERE payload ->> 'platform_message_id' = 'm0' AND position = 1",
        )
        .await;
    settle(pool).await;
    for (platform_id, class) in [("m0", "unreadable"), ("m1", "held")] {
        let stuck = ask(&chats, id(&chats.sick, platform_id)).await;
        assert!(stuck.message.is_none());
        assert_eq!(kinds(&stuck), ["MessageReceived"]);
        assert_eq!(stuck.parked.len(), 1, "{stuck:?}");
        assert_eq!(stuck.parked[0].class, class);
        assert_eq!(stuck.parked[0].is_live, Some(true));
        assert_eq!(
            stuck.parked[0].position,
            stuck.events[0].event.place.position
        );
    }
    // The neighbour is in the inbox as ever.
    let well = ask(&chats, id(&chats.well, "m1")).await;
    assert_eq!(well.message.unwrap().state, "received");
    assert!(well.parked.is_empty());
    // What is forgotten is told from the log; an imported one has its id further in.
    let forgotten = ConversationForgotten {
        user: owner,
        account: chats.well.at.account,
        conversation: chats.well.at.conversation,
    };
    chats.append(&chats.well, forgotten.into()).await;
    let own = MessageId(Uuid::from_u128(77));
    let mut message = chats.well.message("m9", 9);
    message.message = own;
    let imported = MessageImported {
        message,
        outgoing: false,
        is_read: true,
        delivered_at: None,
    };
    chats.append(&chats.well, imported.into()).await;
    let waiting = ask(&chats, own).await;
    assert!(waiting.message.is_none());
    assert_eq!(kinds(&waiting), ["MessageImported"]);
    settle(pool).await;
    let gone = ask(&chats, id(&chats.well, "m1")).await;
    assert!(gone.message.is_none());
    assert_eq!(kinds(&gone), ["MessageReceived"]);
    let here = ask(&chats, own).await;
    assert_eq!(here.message.as_ref().unwrap().state, "received");
    assert_eq!(kinds(&here), ["MessageImported"]);
}

#[tokio::test]
async fn a_message_nobody_knows_says_what_may_still_bring_it() {
    let chats = Chats::new().await;
    chats.write(0..1).await;
    // An id of something else that the log names is no message.
    for unknown in [
        Uuid::nil(),
        chats.sick.at.conversation.0,
        chats.sick.at.user.0,
    ] {
        let refused = explain(chats.pool(), MessageId(unknown), None).await;
        let Err(Error::Refused(why)) = refused else {
            panic!("{refused:?}")
        };
        assert!(
            why.contains("no message") && !why.contains("translated"),
            "{why}"
        );
    }
    chats
        .run(
            "UPDATE shards SET head = 3 WHERE log = 'commands' AND shard = 1; \
             UPDATE checkpoints SET parked = 2 WHERE reactor = 'translate' AND shard = 0",
        )
        .await;
    let refused = explain(chats.pool(), MessageId(Uuid::nil()), None).await;
    let Err(Error::Refused(why)) = refused else {
        panic!("{refused:?}")
    };
    assert!(
        why.contains("3 of that wait") && why.contains("2 could not be"),
        "{why}"
    );
}

#[tokio::test]
async fn a_misspelt_reactor_is_not_one_with_nothing_parked() {
    let chats = Chats::new().await;
    for (reactor, is_known) in [("inbox", true), ("translate", true), ("imbox", false)] {
        let filter = dlq::Filter {
            reactor: Some(reactor.to_owned()),
            ..dlq::Filter::default()
        };
        let outcome = dlq::parked(chats.pool(), &filter).await;
        match is_known {
            true => assert_eq!(outcome.unwrap(), []),
            false => assert!(matches!(outcome, Err(Error::Refused(_))), "{outcome:?}"),
        }
    }
}
