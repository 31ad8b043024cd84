//! What the recordings do not show and the platforms' documents allow: other ids, missing fields,
//! shapes of older and newer versions, and single resources instead of pages.

use hub_domain::platform::fact::{ContentKind, Direction, Fact, FactKind};
use hub_domain::platform::{App, Platform, Receipts, adapter};
use serde_json::{Value, json};

use crate::app;

fn read_as(app: &App, platform: Platform, account: Option<&str>, body: &Value) -> Vec<Fact> {
    let raw = body.to_string().into_bytes();
    let facts = adapter(platform).unwrap().translate(app, account, &raw);
    let facts = facts.unwrap();
    for fact in &facts {
        assert!(!fact.dedup.is_empty(), "{fact:?}");
    }
    facts
}

fn read(platform: Platform, body: &Value) -> Vec<Fact> {
    read_as(&app(), platform, None, body)
}

fn one(platform: Platform, body: &Value) -> Fact {
    let mut facts = read(platform, body);
    assert_eq!(facts.len(), 1, "{body}");
    facts.remove(0)
}

mod messenger {
    use super::*;

    fn item(more: Value) -> Value {
        let mut item = json!({"sender": {"id": "7214"}, "recipient": {"id": "1048"},
            "timestamp": 1_791_201_600_005_i64});
        for (key, value) in more.as_object().unwrap() {
            item[key] = value.clone();
        }
        json!({"object": "page", "entry": [{"id": "1048", "time": 1, "messaging": [item]}]})
    }

    #[test]
    fn a_guest_of_a_plugin_agrees() {
        let body = item(json!({"sender": null, "optin": {"ref": "R", "user_ref": "g1"}}));
        let fact = one(Platform::Facebook, &body);
        assert_eq!(fact.kind, FactKind::OptinChanged);
        assert_eq!(fact.thread.as_deref(), Some("user_ref:g1"));
    }

    #[test]
    fn roles_of_apps_are_about_no_thread() {
        let body = item(json!({"sender": null, "app_roles": {"845": ["primary_receiver"]}}));
        let fact = one(Platform::Facebook, &body);
        assert_eq!(fact.kind, FactKind::ConversationHandover);
        assert_eq!(fact.account.as_deref(), Some("1048"));
        assert_eq!(fact.thread, None);
    }
}

mod twitter {
    use super::*;

    const US: &str = "1700000000000000101";
    const THEM: &str = "1700000000000000202";

    fn fetched() -> Value {
        json!({"id": "1840000000000000021", "event_type": "MessageCreate", "text": "a &amp; b",
            "sender_id": THEM, "dm_conversation_id": format!("{US}-{THEM}"),
            "created_at": "2026-10-05T12:06:40.000Z"})
    }

    #[test]
    fn a_page_that_nobody_says_whose_it_is() {
        for body in [
            json!({"data": [fetched()], "meta": {}}),
            json!({"data": fetched()}),
        ] {
            let fact = one(Platform::Twitter, &body);
            assert_eq!(fact.kind, FactKind::MessageReceived);
            assert_eq!(fact.text.as_deref(), Some("a & b"));
            let conversation = format!("{US}-{THEM}");
            assert_eq!(fact.conversation, Some(conversation));
            assert_eq!(
                (fact.direction, fact.thread, fact.account),
                (None, None, None)
            );
            for (account, kind) in [
                (US, FactKind::MessageReceived),
                (THEM, FactKind::MessageEchoed),
            ] {
                let known = read_as(&app(), Platform::Twitter, Some(account), &body);
                assert_eq!(known[0].kind, kind);
                assert!(known[0].thread.is_some() && known[0].direction.is_some());
            }
        }
    }

    #[test]
    fn a_message_without_its_time_has_that_of_its_id() {
        let message = json!({"type": "message_create", "id": 1_840_000_000_000_000_001_i64,
            "message_create": {"target": {"recipient_id": US}, "sender_id": THEM,
                "message_data": {"text": "hi"}}});
        let body = json!({"for_user_id": US, "direct_message_events": [message]});
        let fact = one(Platform::Twitter, &body);
        assert_eq!(fact.message_id.as_deref(), Some("1840000000000000001"));
        assert_eq!(fact.ts_ms, Some(1_727_525_160_203));
    }

    #[test]
    fn an_event_without_its_payload_is_somebodys() {
        let body = json!({"data": {"event_uuid": "1", "event_type": "brand.new",
            "filter": {"user_id": US}, "payload": null}});
        let fact = one(Platform::Twitter, &body);
        assert_eq!(fact.kind, FactKind::Unknown);
        assert_eq!(fact.account.as_deref(), Some(US));
    }
}

mod whatsapp {
    use super::*;

    fn value(more: Value) -> Value {
        let mut value = json!({"messaging_product": "whatsapp",
            "metadata": {"phone_number_id": "2056", "display_phone_number": "+49 30 555"}});
        for (key, part) in more.as_object().unwrap() {
            value[key] = part.clone();
        }
        value
    }

    #[test]
    fn a_phone_number_names_one_conversation_however_it_is_written() {
        let handover = json!({"value": {"recipient": {"phone_number_id": "2056"},
            "sender": {"phone_number": "+49 170 123-4567"}, "type": "control_taken",
            "timestamp": "1791208800", "control_taken": {}}, "field": "messaging_handovers"});
        let fact = one(Platform::Whatsapp, &handover);
        assert_eq!(fact.kind, FactKind::ConversationHandover);
        assert_eq!(fact.conversation.as_deref(), Some("2056:491701234567"));
        for (id, thread) in [("DE.4+1 (0)", "DE.4+1 (0)"), ("+()", "+()"), ("49", "49")] {
            let status = json!({"id": "w", "status": "read", "timestamp": 1_791_208_800,
                "recipient_id": id});
            let body = value(json!({"statuses": [status]}));
            let fact = one(Platform::Whatsapp, &body);
            assert_eq!(fact.thread.as_deref(), Some(thread), "{id}");
        }
    }

    #[test]
    fn what_a_change_says_is_read_without_its_name() {
        let message = json!({"from": "49170", "id": "wamid.1", "timestamp": "1791208800",
            "type": "text", "text": {"body": "hi"}});
        let body = value(json!({"messages": [message]}));
        let fact = one(Platform::Whatsapp, &body);
        assert_eq!(fact.kind, FactKind::MessageReceived);
        assert_eq!(fact.conversation.as_deref(), Some("2056:49170"));
    }
}

mod telegram {
    use super::*;

    fn message(from: i64) -> Value {
        json!({"message_id": 5, "from": {"id": from, "is_bot": from == 7_100_000_001,
            "first_name": "M"}, "chat": {"id": 5_501_000_001_i64, "type": "private"},
            "date": 1_791_201_600, "text": "hi"})
    }

    #[test]
    fn a_message_by_itself() {
        let ours = json!({"ok": true, "result": message(7_100_000_001)});
        let fact = one(Platform::Telegram, &ours);
        assert_eq!(fact.kind, FactKind::MessageEchoed);
        assert_eq!(fact.direction, Some(Direction::Outbound));
        let theirs = one(Platform::Telegram, &message(5_501_000_001));
        assert_eq!(theirs.kind, FactKind::MessageReceived);
        assert_eq!(theirs.message_id.as_deref(), Some("5"));
    }

    #[test]
    fn reactions_that_stay_as_they_are() {
        let body = json!({"update_id": 1, "message_reaction": {"chat": {"id": 1},
            "message_id": 5, "old_reaction": [], "new_reaction": []}});
        assert_eq!(one(Platform::Telegram, &body).kind, FactKind::Ignored);
    }
}

mod teams {
    use super::*;

    fn message(id: &str, more: Value) -> Value {
        let mut message = json!({"id": id, "messageType": "message", "chatId": "19:x@thread.v2",
            "createdDateTime": "2026-10-05T12:00:10", "from": {"user": {"id": "u1"}},
            "body": {"contentType": "text", "content": id}});
        for (key, value) in more.as_object().unwrap() {
            message[key] = value.clone();
        }
        message
    }

    #[test]
    fn replies_that_came_with_their_root() {
        let channel = json!({"chatId": null,
            "channelIdentity": {"teamId": "t", "channelId": "19:c@thread.tacv2"}});
        let mut root = message("1", channel.clone());
        let mut reply = message("2", channel);
        reply["replyToId"] = "1".into();
        root["replies"] = json!([reply]);
        let facts = read(Platform::Teams, &json!({"value": [root]}));
        let texts: Vec<_> = facts.iter().filter_map(|it| it.text.as_deref()).collect();
        assert_eq!(texts, ["1", "2"]);
        assert_eq!(facts[0].conversation, facts[1].conversation);
    }

    #[test]
    fn events_without_detail_are_events() {
        for kind in ["systemEventMessage", "chatEvent"] {
            let body = message("1", json!({"messageType": kind, "from": null}));
            let fact = one(Platform::Teams, &body);
            assert_eq!(fact.kind, FactKind::ConversationUpdated, "{kind}");
        }
        let future = message("1", json!({"messageType": "brandNew"}));
        assert_eq!(one(Platform::Teams, &future).kind, FactKind::Unknown);
    }

    #[test]
    fn resources_of_somebodys_chats() {
        for resource in [
            "users('u')/chats('19:x')/messages('7')",
            "me/chats/19:x/messages/7",
            "/chats('19:x')/messages('7')",
        ] {
            let item = json!({"subscriptionId": "s", "changeType": "Deleted",
                "clientState": app().webhook_secret.expose(), "resource": resource});
            let fact = one(Platform::Teams, &json!({"value": [item]}));
            assert_eq!(fact.kind, FactKind::MessageDeleted, "{resource}");
            assert_eq!(fact.message_id.as_deref(), Some("7"));
            assert_eq!(fact.thread.as_deref(), Some("19:x"));
        }
    }

    fn activity(kind: &str, more: Value) -> Value {
        let mut activity = json!({"type": kind, "id": "1", "from": {"id": "29:1"},
            "conversation": {"id": "a:1"}, "recipient": {"id": "28:b"},
            "timestamp": "2026-10-05T12:00:10Z"});
        for (key, value) in more.as_object().unwrap() {
            activity[key] = value.clone();
        }
        activity
    }

    #[test]
    fn what_else_a_bot_is_told() {
        let read = json!({"name": "application/vnd.microsoft.readReceipt",
            "value": {"lastReadMessageId": "1791201600111"}});
        let fact = one(Platform::Teams, &activity("event", read));
        assert_eq!(fact.kind, FactKind::ReceiptRead);
        assert_eq!(fact.target.as_deref(), Some("1791201600111"));
        assert_eq!(fact.watermark_ms, Some(1_791_201_600_111));
        let typing = one(Platform::Teams, &activity("typing", json!({})));
        assert_eq!(typing.kind, FactKind::TypingStarted);
        let files = json!({"text": "", "attachments": [
            {"contentType": "application/vnd.microsoft.teams.file.download.info", "name": "a.pdf",
                "content": {"downloadUrl": "https://d.example", "uniqueId": "u"}},
            {"contentType": "image/*", "contentUrl": "https://i.example"},
            {"contentType": "text/html", "content": "<p></p>"}]});
        let fact = one(Platform::Teams, &activity("message", files));
        assert_eq!(fact.content, Some(ContentKind::File));
        let urls: Vec<_> = fact
            .media
            .iter()
            .filter_map(|it| it.url.as_deref())
            .collect();
        assert_eq!(urls, ["https://d.example", "https://i.example"]);
        let odd = one(Platform::Teams, &activity("somethingNew", json!({})));
        assert_eq!(odd.kind, FactKind::Unknown);
    }
}

/// What a platform is said to tell is what its recorded payloads tell, no less and no more.
#[test]
fn what_the_platforms_tell_is_what_they_are_said_to_tell() {
    let teams = App {
        webhook_secret: "hub-client-state-4f9b".into(),
        ..app()
    };
    for platform in Platform::ALL {
        let adapter = adapter(platform).unwrap();
        let tells = adapter.capabilities().tells;
        let facts: Vec<Fact> = crate::fixtures(platform)
            .into_iter()
            // Nobody connects a bot, and bots are told more than people.
            .filter(|(path, _)| !path.contains("_bot_activity"))
            .flat_map(|(_, raw)| adapter.translate(&teams, Some("1"), &raw).unwrap())
            .collect();
        let told = |kinds: &[FactKind]| facts.iter().any(|fact| kinds.contains(&fact.kind));
        let receipts = match (
            told(&[FactKind::ReceiptDelivered]),
            told(&[FactKind::ReceiptRead]),
        ) {
            (true, true) => Receipts::DeliveredAndRead,
            (false, true) => Receipts::Read,
            (false, false) => Receipts::None,
            (true, false) => panic!("{platform}: delivered and never read"),
        };
        assert_eq!(tells.receipts, receipts, "{platform}");
        for (said, kinds) in [
            (tells.edits, &[FactKind::MessageEdited][..]),
            (tells.deletions, &[FactKind::MessageDeleted]),
            (
                tells.reactions,
                &[FactKind::ReactionAdded, FactKind::ReactionRemoved],
            ),
            (tells.typing, &[FactKind::TypingStarted]),
        ] {
            assert_eq!(said, told(kinds), "{platform} {kinds:?}");
        }
    }
}

#[test]
fn every_platform_can_be_heard_and_says_how_long_it_can_be_answered() {
    for platform in Platform::ALL {
        let adapter = adapter(platform).unwrap();
        let can = adapter.capabilities();
        assert!(
            can.tells.webhook || adapter.polling().is_some(),
            "{platform}"
        );
        let of_meta = matches!(
            platform,
            Platform::Facebook | Platform::Instagram | Platform::Whatsapp
        );
        let day = std::time::Duration::from_secs(24 * 3600);
        assert_eq!(can.reply_window, of_meta.then_some(day), "{platform}");
        assert!(can.text_max > 0 && can.budget.0 > 0, "{platform}");
    }
}

/// A person or group that has enough for now does not silence an account; a platform that has does.
#[test]
fn short_waits_of_chats_are_about_chats() {
    let about_thread = |platform: Platform, seconds: u64| {
        let wait = std::time::Duration::from_secs(seconds);
        adapter(platform).unwrap().is_about_thread(wait)
    };
    for platform in Platform::ALL {
        let of_chats = matches!(platform, Platform::Telegram | Platform::Whatsapp);
        assert_eq!(about_thread(platform, 6), of_chats, "{platform}");
        assert!(!about_thread(platform, 3600), "{platform}");
    }
}
