//! What sessions of Telegram user accounts write down, item by item.
//!
//! `told.json` has the 22 updates of the index in the hub's own shape; that Telegram's bytes become
//! just these is held by a test of the worker. What they mean is written by hand, in `expect`.

use hub_domain::platform::fact::{Fact, FactKind};
use hub_domain::platform::telegram_user::Told;
use hub_domain::platform::{Platform, adapter};
use serde_json::{Value, json};

use crate::{app, fixture};

const SELF: &str = "5600000001";

fn facts(items: Vec<Value>) -> Vec<Fact> {
    let told = json!({ "mtproto": 1, "account": SELF, "items": items });
    let raw = serde_json::to_vec(&told).unwrap();
    let telegram = adapter(Platform::Telegram).unwrap();
    let facts = telegram.translate(&app(), None, &raw).unwrap();
    for fact in &facts {
        assert!(!fact.dedup.is_empty(), "{fact:?}");
        assert_eq!(fact.account.as_deref(), Some(SELF));
    }
    facts
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Null => None,
        other => Some(other.to_string()),
    }
}

#[test]
fn every_update_of_the_index_means_what_it_says() {
    let updates: Value = serde_json::from_slice(&fixture("telegram-user/updates.json")).unwrap();
    let updates = updates["updates"].as_array().unwrap();
    let told: Told = serde_json::from_slice(&fixture("telegram-user/told.json")).unwrap();
    assert_eq!((told.account.as_str(), told.items.len()), (SELF, 22));
    assert_eq!(updates.len(), 22);
    for (update, item) in updates.iter().zip(told.items) {
        let name = update["name"].as_str().unwrap();
        let expect = update["expect"].as_object().unwrap();
        let facts = facts(vec![item]);
        let fact = &facts[0];
        for (what, expected) in expect {
            let found = match what.as_str() {
                "event" => json!(fact.kind.name()),
                "conversation" => json!(fact.conversation),
                "message" if fact.message_id.is_some() => json!(fact.message_id),
                "message" | "watermark" => json!(fact.target),
                "messages" => {
                    let targets: Vec<_> = facts.iter().map(|fact| &fact.target).collect();
                    json!(targets)
                }
                "sender" => json!(fact.sender),
                // Telegram has an empty text where the index says that there is none.
                "text" if expected.is_null() => {
                    assert_eq!(fact.text.as_deref(), Some(""), "{name}");
                    continue;
                }
                "text" => json!(fact.text),
                "emoji" => json!(fact.emoji),
                "reply_to" => json!(fact.reply_to),
                "kind" => json!(fact.content),
                "edit_ts_s" => json!(fact.ts_ms.unwrap() / 1000),
                "own_read_up_to" => fact.detail["ownReadUpTo"].clone(),
                "unread" => fact.detail["unread"].clone(),
                "change" => {
                    let members = &fact.detail["members"];
                    json!(format!("member added {}", members[0].as_str().unwrap()))
                }
                "media" => {
                    let media = &fact.media[0];
                    let expected = &expected[0];
                    assert_eq!(json!(media.kind), expected["type"], "{name}");
                    for (field, found) in [
                        ("id", json!(media.file_id)),
                        ("mime", json!(media.mime)),
                        ("name", json!(media.name)),
                        ("size", json!(media.size)),
                        ("duration", json!(media.duration_s)),
                    ] {
                        if let Some(expected) = expected.get(field) {
                            assert_eq!(text(&found), text(expected), "{name}: {field}");
                        }
                    }
                    continue;
                }
                "note" => continue,
                other => panic!("{name}: nobody checks {other}"),
            };
            assert_eq!(text(&found), text(expected), "{name}: {what}");
        }
    }
}

#[test]
fn what_telegram_counts_as_read_is_read() {
    let message = json!({
        "is": "message", "chat": { "kind": "user", "id": 5_501_000_001_i64, "name": "Mira" },
        "id": 501, "out": false, "date": 1_791_201_600, "text": "hi", "is_read": true,
    });
    let read = facts(vec![message]);
    let kinds: Vec<FactKind> = read.iter().map(|fact| fact.kind).collect();
    assert_eq!(kinds, [FactKind::MessageReceived, FactKind::MessageRead]);
    assert_eq!(read[1].target.as_deref(), Some("501"));
    assert_eq!(read[0].sender_name.as_deref(), Some("Mira"));
    assert_eq!(read[0].thread.as_deref(), Some("5501000001"));

    let all = json!({
        "is": "read_here", "chat": { "kind": "channel", "id": 2_210_033_001_i64 },
        "max_id": 7, "unread": 0,
    });
    let all = facts(vec![all]);
    assert_eq!(all[1].kind, FactKind::MessageRead);
    assert_eq!(all[1].target, None);
    assert_eq!(all[1].thread.as_deref(), Some("-1002210033001"));
}

#[test]
fn what_nobody_knows_harms_no_neighbour() {
    let known = json!({
        "is": "message", "chat": { "kind": "user", "id": 1 }, "id": 1, "out": true, "date": 1,
        "text": "x",
    });
    let found = facts(vec![json!({ "is": "hologram" }), json!(7), known]);
    let kinds: Vec<FactKind> = found.iter().map(|fact| fact.kind).collect();
    let unknown = FactKind::Unknown;
    assert_eq!(kinds, [unknown, unknown, FactKind::MessageEchoed]);
    let telegram = adapter(Platform::Telegram).unwrap();
    for odd in [r#"{"mtproto":2}"#, r#"{"mtproto":1,"account":7}"#] {
        assert!(telegram.translate(&app(), None, odd.as_bytes()).is_err());
    }
    // Nobody but a session says such things: as a webhook it is refused.
    let headers = [(
        "x-telegram-bot-api-secret-token".to_owned(),
        "hub_Secret-Token_01".to_owned(),
    )];
    let forged = br#"{"mtproto":1,"account":"1","items":[],"update_id":1,"message":{}}"#;
    assert!(telegram.verify(&app(), &headers, forged).is_err());
}

#[test]
fn what_fades_or_has_faded_is_not_fetched() {
    let media = |attached: Value| {
        let message = json!({
            "is": "message", "chat": { "kind": "user", "id": 5_501_000_001_i64 }, "id": 501,
            "out": false, "date": 1_791_201_600, "text": "", "media": attached,
        });
        facts(vec![message]).remove(0).media.remove(0).available
    };
    let stays = json!({ "kind": "image", "id": "51" });
    assert_eq!(media(stays), None);
    let once = json!({ "kind": "image", "id": "51", "fades": true });
    assert_eq!(media(once), Some(false));
    assert_eq!(media(json!({ "kind": "image" })), Some(false), "it is gone");
}
