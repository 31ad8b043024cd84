//! Telegram's payloads, note by note.

use hub_domain::platform::fact::{ContentKind, Direction, Fact, FactKind};
use hub_domain::platform::{App, Platform, adapter};
use serde_json::json;

use crate::{app, fixture, fixtures, kinds, section};

const BOT: &str = "7100000001";
const MIRA: &str = "5501000001";
const TOMAS: &str = "7999888777";

fn facts(name: &str) -> Vec<Fact> {
    let facts = crate::facts(&format!("telegram/{name}.json"));
    assert!(
        facts
            .iter()
            .all(|fact| fact.account.as_deref() == Some(BOT))
    );
    facts
}

fn only(name: &str, kind: FactKind) -> Fact {
    crate::only(&format!("telegram/{name}.json"), kind)
}

/// The only fact: a message of this person in their private chat.
fn received(name: &str, person: &str) -> Fact {
    let fact = only(name, FactKind::MessageReceived);
    assert_private(&fact, person);
    fact
}

fn assert_private(fact: &Fact, person: &str) {
    assert_eq!(fact.sender.as_deref(), Some(person));
    assert_eq!(fact.conversation.as_deref(), Some(person));
    assert_eq!(fact.thread.as_deref(), Some(person));
    assert_eq!(fact.direction, Some(Direction::Inbound));
    let name = if person == MIRA { "miraq" } else { "Tomás" };
    assert_eq!(fact.sender_name.as_deref(), Some(name));
    assert_eq!(fact.thread_name, None);
}

#[test]
fn every_size_in_the_index_and_the_secret_of_all() {
    let bot = adapter(Platform::Telegram).unwrap();
    let headers = ["x-telegram-bot-api-secret-token", "hub_Secret-Token_01"];
    let headers = [(headers[0].to_owned(), headers[1].to_owned())];
    let all = fixtures(Platform::Telegram);
    assert_eq!(all.len(), 25);
    for (path, raw) in all {
        let section = section(Platform::Telegram, &path);
        assert!(
            section.contains(&format!("- {} bytes", raw.len())),
            "{path}"
        );
        // The answer of getUpdates is fetched, never delivered.
        let delivered = !path.contains("/05_");
        assert_eq!(
            bot.verify(&app(), &headers, &raw).is_ok(),
            delivered,
            "{path}"
        );
        assert!(bot.verify(&app(), &[], &raw).is_err());
        assert_eq!(bot.route(&app(), &raw), [BOT]);
    }
}

#[test]
fn without_a_token_the_account_is_not_known() {
    let bot = adapter(Platform::Telegram).unwrap();
    let facts = bot
        .translate(
            &App::default(),
            None,
            &fixture("telegram/01_text_private.json"),
        )
        .unwrap();
    assert_eq!(facts[0].account, None);
}

#[test]
fn text() {
    let fact = received("01_text_private", MIRA);
    assert_eq!(fact.message_id.as_deref(), Some("101"));
    assert_eq!(fact.ts_ms, Some(1_791_201_600_000));
    assert_eq!(fact.content, Some(ContentKind::Text));
    assert_eq!(
        fact.text.as_deref(),
        Some("Hi, is the blue teapot still in stock?")
    );
}

#[test]
fn entities_count_utf16_units() {
    let fact = received("02_text_entities_utf16", MIRA);
    let text = "👋🏽 Mira — see docs, ping @northwind_support or Tomás: café <b>&</b>";
    assert_eq!(fact.text.as_deref(), Some(text));
    let entities = fact.detail["entities"].as_array().unwrap();
    let parts: Vec<(&str, &str)> = entities
        .iter()
        .map(|entity| {
            (
                entity["type"].as_str().unwrap(),
                entity["text"].as_str().unwrap(),
            )
        })
        .collect();
    let expected = [
        ("bold", "Mira"),
        ("text_link", "docs"),
        ("mention", "@northwind_support"),
        ("text_mention", "Tomás"),
        ("italic", "café"),
    ];
    assert_eq!(parts, expected);
    assert_eq!(entities[0]["offset"], 5);
    assert_eq!(entities[3]["user_id"], TOMAS);
}

#[test]
fn deep_link() {
    let facts = facts("03_start_deeplink");
    assert_eq!(kinds(&facts), ["message.received", "conversation.referral"]);
    facts.iter().for_each(|fact| assert_private(fact, TOMAS));
    assert_eq!(facts[0].text.as_deref(), Some("/start ref_42-aB"));
    assert_eq!(facts[0].detail["command"], "start");
    assert_eq!(facts[0].action.as_deref(), Some("ref_42-aB"));
    assert_eq!(facts[1].detail["referral"]["ref"], "ref_42-aB");
}

#[test]
fn photo_with_caption() {
    let fact = received("04_photo_caption", MIRA);
    assert_eq!(fact.content, Some(ContentKind::Image));
    assert_eq!(fact.text.as_deref(), Some("chip on the lid"));
    assert_eq!(fact.media.len(), 1);
    assert_eq!(
        fact.media[0].file_id.as_deref(),
        Some("AgACAgIAAxkBAAphotoX")
    );
    assert_eq!(fact.media[0].unique_id.as_deref(), Some("AQADphotoX"));
    assert_eq!(fact.media[0].mime.as_deref(), Some("image/jpeg"));
    assert_eq!(fact.media[0].size, Some(148_220));
}

#[test]
fn an_album_and_an_unknown_kind_in_one_answer() {
    let facts = facts("05_getupdates_album_and_unknown");
    let expected = [
        "message.received",
        "message.received",
        "message.received",
        "unknown",
        "message.received",
    ];
    assert_eq!(kinds(&facts), expected);
    for (fact, id) in facts.iter().zip(["105", "106", "107"]) {
        assert_private(fact, MIRA);
        assert_eq!(fact.message_id.as_deref(), Some(id));
        assert_eq!(fact.detail["album"], "13900000000000007");
        assert_eq!(
            (fact.content, fact.media.len()),
            (Some(ContentKind::Image), 1)
        );
    }
    let texts: Vec<Option<&str>> = facts.iter().map(|fact| fact.text.as_deref()).collect();
    assert_eq!(
        texts,
        [Some("three views"), None, None, None, Some("that is all")]
    );
    assert_eq!(facts[3].detail["raw"]["quantum_message"]["id"], "q1");
    assert_eq!(facts[3].detail["raw"]["update_id"], 880_100_108);
}

#[test]
fn voice() {
    let fact = received("06_voice", MIRA);
    assert_eq!(fact.content, Some(ContentKind::Voice));
    assert_eq!((fact.media.len(), &fact.text), (1, &None));
    assert_eq!(fact.media[0].mime.as_deref(), Some("audio/ogg"));
    assert_eq!(fact.media[0].duration_s, Some(4));
}

#[test]
fn a_video_nobody_can_download() {
    let fact = received("07_video_too_big", MIRA);
    assert_eq!(fact.content, Some(ContentKind::Video));
    assert_eq!(fact.text.as_deref(), Some("long one"));
    assert_eq!(fact.media.len(), 1);
    assert_eq!(fact.media[0].file_id.as_deref(), Some("BAACAgIAAxkBvideo1"));
    assert_eq!(fact.media[0].size, Some(187_231_004));
    assert_eq!(fact.media[0].available, Some(false));
    assert_eq!(fact.media[0].name.as_deref(), Some("unboxing.mp4"));
}

#[test]
fn an_animation_is_not_also_a_document() {
    let fact = received("08_animation_with_document_twin", TOMAS);
    assert_eq!(fact.content, Some(ContentKind::Animation));
    assert_eq!(fact.media.len(), 1);
    assert_eq!(fact.media[0].unique_id.as_deref(), Some("AgADanim1"));
    assert_eq!(fact.media[0].mime.as_deref(), Some("video/mp4"));
}

#[test]
fn sticker() {
    let fact = received("09_sticker_video", TOMAS);
    assert_eq!(fact.content, Some(ContentKind::Sticker));
    assert_eq!(fact.detail["sticker"]["emoji"], "🦊");
    assert_eq!(fact.media.len(), 1);
    assert_eq!(fact.media[0].mime.as_deref(), Some("video/webm"));
}

#[test]
fn live_location() {
    let fact = received("10_location_live", MIRA);
    assert_eq!(fact.content, Some(ContentKind::Location));
    assert_eq!(fact.detail["location"]["lat"], json!(52.520008));
    assert_eq!(fact.detail["location"]["lon"], json!(13.404954));
    assert_eq!(fact.detail["location"]["live_s"], 900);
}

#[test]
fn a_moved_location_is_no_edited_text() {
    let fact = only("11_location_live_update", FactKind::MessageEdited);
    assert_private(&fact, MIRA);
    assert_eq!(
        (fact.message_id.as_deref(), fact.target.as_deref()),
        (Some("113"), Some("113"))
    );
    assert_eq!(fact.content, Some(ContentKind::Location));
    assert_eq!(fact.text, None);
    assert_eq!(fact.detail["live"], true);
    assert_eq!(fact.detail["location"]["lat"], json!(52.5211));
    assert_eq!(fact.ts_ms, Some(1_791_201_690_000));
}

#[test]
fn venue() {
    let fact = received("12_venue_with_location_twin", MIRA);
    assert_eq!(
        (fact.content, fact.media.len()),
        (Some(ContentKind::Location), 0)
    );
    let place = json!({"lat": 52.5163, "lon": 13.3777, "title": "Brandenburger Tor",
        "address": "Pariser Platz"});
    assert_eq!(fact.detail["location"], place);
}

#[test]
fn contact() {
    let fact = received("13_contact", MIRA);
    assert_eq!(fact.content, Some(ContentKind::Contact));
    assert_eq!(fact.detail["contact"]["phone"], "+4915700000000");
    assert_eq!(fact.detail["contact"]["user_id"], "5501000009");
}

#[test]
fn edited_text() {
    let fact = only("14_edited_text", FactKind::MessageEdited);
    assert_private(&fact, MIRA);
    assert_eq!(
        (fact.message_id.as_deref(), fact.target.as_deref()),
        (Some("101"), Some("101"))
    );
    assert_eq!(
        fact.text.as_deref(),
        Some("Hi, is the GREEN teapot still in stock?")
    );
    assert_eq!(fact.ts_ms, Some(1_791_201_720_000));
    assert_eq!(fact.detail["sent_ms"], 1_791_201_600_000_i64);
    assert!(fact.dedup.starts_with("101:1791201720000:"));
    assert!(fact.detail.get("live").is_none());
}

#[test]
fn reply_with_quote() {
    let fact = received("15_reply_with_quote", MIRA);
    assert_eq!(fact.text.as_deref(), Some("this one"));
    assert_eq!(fact.reply_to.as_deref(), Some("98"));
    assert_eq!(
        fact.detail["quote"],
        json!({"text": "green", "position": 14})
    );
}

#[test]
fn forward_of_somebody_hidden() {
    let fact = received("16_forward_hidden_user", TOMAS);
    assert_eq!(fact.detail["forwarded"], true);
    let origin =
        json!({"origin": "hidden_user", "name": "Someone", "ts_ms": 1_791_111_600_000_i64});
    assert_eq!(fact.detail["forward"], origin);
    let bot = adapter(Platform::Telegram).unwrap();
    let old = String::from_utf8(fixture("telegram/16_forward_hidden_user.json")).unwrap();
    let old = old.replace("forward_origin", "left_out");
    assert_eq!(
        bot.translate(&app(), None, old.as_bytes()).unwrap(),
        [fact],
        "legacy keys alone"
    );
}

#[test]
fn pressed_buttons() {
    let fact = received("17_callback_query", MIRA);
    assert_eq!(fact.content, Some(ContentKind::Action));
    assert_eq!(fact.action.as_deref(), Some("c:green"));
    assert_eq!(fact.reply_to.as_deref(), Some("120"));
    assert_eq!(
        fact.message_id.as_deref(),
        Some("callback-23626345678901234567")
    );
    assert_eq!(fact.detail["callback_query_id"], "23626345678901234567");
    assert_eq!(fact.detail["button"], "Green");
    let fact = received("18_callback_inaccessible_message", TOMAS);
    assert_eq!(fact.content, Some(ContentKind::Action));
    assert_eq!(fact.action.as_deref(), Some("old:1"));
    assert_eq!(fact.reply_to.as_deref(), Some("77"));
    assert_eq!(fact.ts_ms, None);
}

#[test]
fn reactions_are_the_difference_of_two_lists() {
    let facts = facts("19_message_reaction");
    assert_eq!(
        kinds(&facts),
        ["reaction.removed", "reaction.added", "reaction.added"]
    );
    for (fact, emoji) in facts.iter().zip(["👍", "❤", "5312536423851630001"]) {
        assert_eq!(fact.emoji.as_deref(), Some(emoji));
        assert_eq!(fact.sender.as_deref(), Some(TOMAS));
        assert_eq!(fact.conversation.as_deref(), Some("-1002210033001"));
        assert_eq!(fact.target.as_deref(), Some("9001"));
        assert_eq!(fact.thread_name.as_deref(), Some("Northwind Support"));
        assert_eq!(fact.ts_ms, Some(1_791_201_680_000));
    }
    assert_eq!(facts[2].detail["custom_emoji_id"], "5312536423851630001");
}

#[test]
fn anonymous_totals() {
    let fact = only("20_reaction_count_channel", FactKind::ReactionCounts);
    assert_eq!(fact.conversation.as_deref(), Some("-1002210033009"));
    assert_eq!((fact.target.as_deref(), &fact.sender), (Some("44"), &None));
    assert_eq!(fact.detail["counts"], json!({"🔥": 7, "paid": 2}));
}

#[test]
fn an_anonymous_administrator_in_a_topic() {
    let fact = only("21_forum_topic_anonymous_admin", FactKind::MessageReceived);
    assert_eq!(fact.conversation.as_deref(), Some("-1002210033002:500"));
    assert_eq!(fact.thread.as_deref(), Some("-1002210033002:500"));
    assert_eq!(fact.sender.as_deref(), Some("-1002210033002"));
    assert_eq!(fact.message_id.as_deref(), Some("511"));
    assert_eq!(fact.reply_to, None);
    assert_eq!(fact.thread_name.as_deref(), Some("Northwind Forum"));
    assert_eq!(
        fact.text.as_deref(),
        Some("Please post the order number here.")
    );
}

#[test]
fn channel_post() {
    let fact = only("22_channel_post", FactKind::MessageReceived);
    assert_eq!(fact.conversation.as_deref(), Some("-1002210033009"));
    assert_eq!(fact.sender.as_deref(), Some("-1002210033009"));
    assert_eq!(fact.sender_name.as_deref(), Some("Northwind News"));
    assert_eq!(fact.message_id.as_deref(), Some("45"));
    assert_eq!(fact.text.as_deref(), Some("New autumn teapots are here"));
}

#[test]
fn a_migrated_group() {
    let fact = only("23_group_migrated", FactKind::ConversationUpdated);
    assert_eq!(fact.conversation.as_deref(), Some("-5310022001"));
    assert_eq!(fact.detail["migrated_to"], "-1002210033055");
    assert_eq!(
        (fact.content, &fact.text, fact.direction),
        (None, &None, None)
    );
}

#[test]
fn a_blocked_bot() {
    let fact = only("24_bot_blocked", FactKind::OptinChanged);
    assert_eq!(fact.conversation.as_deref(), Some(MIRA));
    assert_eq!(fact.sender.as_deref(), Some(MIRA));
    assert_eq!(fact.detail["allowed"], false);
    assert_eq!(fact.detail["status"], "kicked");
    assert_eq!((fact.content, &fact.message_id), (None, &None));
}

#[test]
fn deletions() {
    let facts = facts("25_business_deleted");
    assert_eq!(kinds(&facts), ["message.deleted"; 2]);
    for (fact, id) in facts.iter().zip(["301", "302"]) {
        assert_eq!(
            (fact.message_id.as_deref(), fact.target.as_deref()),
            (Some(id), Some(id))
        );
        assert_eq!(
            fact.conversation.as_deref(),
            Some("5501000044@bizconn_AAx1")
        );
        assert_eq!(fact.detail["business_connection"], "bizconn_AAx1");
    }
}

#[test]
fn a_business_owner_who_writes_is_our_side() {
    let update = |from: i64| {
        json!({"update_id": 1, "business_message": {"message_id": 5, "date": 1_791_201_600,
            "business_connection_id": "biz", "from": {"id": from, "first_name": "Lena"},
            "chat": {"id": 44, "first_name": "Lena", "type": "private"}, "text": "x"}})
    };
    let bot = adapter(Platform::Telegram).unwrap();
    let read = |from| {
        bot.translate(&app(), None, update(from).to_string().as_bytes())
            .unwrap()
            .remove(0)
    };
    assert_eq!(
        (read(44).kind, read(7).kind),
        (FactKind::MessageReceived, FactKind::MessageEchoed)
    );
    assert_eq!(read(7).conversation, read(44).conversation);
    assert_eq!(read(7).thread_name.as_deref(), Some("Lena"));
}

#[test]
fn service_messages_are_no_messages() {
    let bot = adapter(Platform::Telegram).unwrap();
    let kind = |key: &str, value: serde_json::Value| {
        let mut message = json!({"message_id": 5, "date": 1_791_201_600,
            "from": {"id": 7}, "chat": {"id": -5, "title": "T", "type": "group"}});
        message[key] = value;
        let update = json!({"update_id": 1, "message": message});
        let facts = bot
            .translate(&app(), None, update.to_string().as_bytes())
            .unwrap();
        (kinds(&facts)[0], facts[0].content)
    };
    let changed = ("conversation.updated", None);
    assert_eq!(kind("new_chat_members", json!([{"id": 1}])), changed);
    assert_eq!(kind("new_chat_title", json!("N")), changed);
    assert_eq!(kind("delete_chat_photo", json!(true)), changed);
    assert_eq!(kind("pinned_message", json!({"message_id": 3})), changed);
    assert_eq!(kind("migrate_from_chat_id", json!(-5)), changed);
    assert_eq!(kind("video_chat_started", json!({})), ("ignored", None));
    assert_eq!(kind("boost_added", json!({})), ("ignored", None));
    let action = ("message.received", Some(ContentKind::Action));
    assert_eq!(
        kind("web_app_data", json!({"data": "d", "button_text": "b"})),
        action
    );
    let unsupported = ("message.received", Some(ContentKind::Unsupported));
    assert_eq!(kind("hologram", json!({})), unsupported);
}
