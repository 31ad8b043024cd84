//! Teams' payloads, note by note, and the vectors of its document.

use chrono::{DateTime, Utc};
use hub_domain::jwt;
use hub_domain::platform::call::Fetch;
use hub_domain::platform::fact::{ContentKind, Direction, Fact, FactKind};
use hub_domain::platform::{Adapter, App, Credentials, Handshake, Platform, Refused, adapter};
use hub_domain::signature;
use serde_json::{Value, json};

use crate::{fixture, fixtures, kinds, section};

const US: &str = "a1a1a1a1-0000-4000-8000-000000000001";
const MIRA: &str = "b2b2b2b2-0000-4000-8000-000000000002";
const TOMAS: &str = "c3c3c3c3-0000-4000-8000-000000000003";
const SUBSCRIPTION: &str = "aaaa1111-0000-4000-8000-000000000010";
const CHAT: &str =
    "19:a1a1a1a1-0000-4000-8000-000000000001_b2b2b2b2-0000-4000-8000-000000000002@unq.gbl.spaces";
const GROUP: &str = "19:5d1fa0c0b1e24d6a8c0f0000feedbeef@thread.v2";
const CHANNEL: &str = "19:c0ffee00c0ffee00c0ffee00c0ffee00@thread.tacv2";
const TEAM: &str = "d4d4d4d4-0000-4000-8000-00000000f00d";

fn graph() -> &'static dyn Adapter {
    adapter(Platform::Teams).unwrap()
}

fn vectors() -> Value {
    serde_json::from_slice(&fixture("vectors/teams.json")).unwrap()
}

/// The installation the fixtures were made for.
pub fn app() -> App {
    let vectors = vectors();
    let encryption = &vectors["graph_encryption"];
    App {
        client_id: "0d9e7a52-1111-4222-8333-444455556666".into(),
        webhook_audience: "0d9e7a52-1111-4222-8333-444455556666".into(),
        webhook_secret: "hub-client-state-4f9b".into(),
        webhook_keys: vectors["jwks"].to_string(),
        encryption_key: encryption["encryption_private_key_pkcs8_der_base64"]
            .as_str()
            .unwrap()
            .into(),
        api_base: "https://graph.microsoft.com".into(),
        api_version: "v1.0".into(),
        ..App::default()
    }
}

fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(vectors()["now"].as_i64().unwrap(), 0).unwrap()
}

fn facts(name: &str) -> Vec<Fact> {
    facts_of(&fixture(&format!("teams/{name}.json")))
}

fn facts_of(raw: &[u8]) -> Vec<Fact> {
    let facts = graph().translate(&app(), Some(US), raw).unwrap();
    for fact in &facts {
        assert!(!fact.dedup.is_empty(), "{fact:?}");
    }
    facts
}

fn only(name: &str, kind: FactKind) -> Fact {
    let mut facts = facts(name);
    assert_eq!(kinds(&facts), [kind.name()], "{name}");
    facts.remove(0)
}

fn received(name: &str) -> Fact {
    let fact = only(name, FactKind::MessageReceived);
    assert_eq!(fact.account.as_deref(), Some(US));
    assert_eq!(fact.direction, Some(Direction::Inbound));
    assert_eq!(fact.conversation, fact.thread);
    fact
}

fn request(fact: &Fact) -> String {
    let credentials = Credentials::default();
    match graph().fetch(&app(), &credentials, &fact.detail["notice"], now()) {
        Some(Fetch::Call(call)) => call.url,
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_size_in_the_index() {
    let all = fixtures(Platform::Teams);
    assert_eq!(all.len(), 25);
    for (path, raw) in all {
        let section = section(Platform::Teams, &path);
        let (_, size) = section.split_once("- ").unwrap();
        let size: usize = size.split_once(" bytes").unwrap().0.parse().unwrap();
        assert_eq!(raw.len(), size, "{path}");
        assert!(graph().translate(&app(), Some(US), &raw).is_ok());
    }
}

#[test]
fn a_notice_names_a_message() {
    let fact = only("01_notify_chat_created", FactKind::ResourceChanged);
    assert_eq!(fact.account.as_deref(), Some(SUBSCRIPTION));
    assert_eq!(fact.thread.as_deref(), Some(CHAT));
    assert_eq!(fact.message_id.as_deref(), Some("1791201600111"));
    let escaped = CHAT.replace(':', "%3A").replace('@', "%40");
    assert_eq!(
        request(&fact),
        format!("https://graph.microsoft.com/v1.0/chats/{escaped}/messages/1791201600111")
    );
    let shown = serde_json::to_string(&fact).unwrap();
    assert!(
        !shown.contains("hub-client-state"),
        "our word stays with us"
    );
}

#[test]
fn a_notice_of_a_reply_knows_its_thread() {
    let fact = only("02_notify_channel_reply_created", FactKind::ResourceChanged);
    let root = "1791201602222";
    assert_eq!(
        fact.conversation.as_deref(),
        Some(&*format!("{CHANNEL};messageid={root}"))
    );
    assert_eq!(
        fact.thread.as_deref(),
        Some(&*format!("teams/{TEAM}/channels/{CHANNEL}/messages/{root}"))
    );
    assert_eq!(fact.message_id.as_deref(), Some("1791201605333"));
    let url = request(&fact).replace("%3A", ":").replace("%40", "@");
    assert_eq!(
        url,
        format!(
            "https://graph.microsoft.com/v1.0/teams/{TEAM}/channels/{CHANNEL}/messages/{root}\
             /replies/1791201605333"
        )
    );
}

#[test]
fn a_mixed_batch() {
    let raw = fixture("teams/03_notify_batch_mixed.json");
    assert_eq!(graph().verify(&app(), &[], &raw), Ok(()));
    let facts = facts("03_notify_batch_mixed");
    // The fourth repeats the first; the third has somebody else's word.
    assert_eq!(
        kinds(&facts),
        ["resource.changed", "resource.changed", "ignored"]
    );
    assert_eq!(facts[0].account.as_deref(), Some(SUBSCRIPTION));
    assert_eq!(
        facts[1].account.as_deref(),
        Some("aaaa1111-0000-4000-8000-000000000077")
    );
    assert_eq!(facts[2].detail["what"], "clientState");
    let routes = graph().route(&app(), &raw);
    assert_eq!(
        routes,
        [SUBSCRIPTION, "aaaa1111-0000-4000-8000-000000000077"]
    );
}

#[test]
fn an_update_is_fetched_and_a_deletion_is_told() {
    let created = only("01_notify_chat_created", FactKind::ResourceChanged);
    let updated = only("04_notify_updated", FactKind::ResourceChanged);
    assert_eq!(request(&created), request(&updated));
    assert_ne!(created.dedup, updated.dedup);
    let deleted = only("05_notify_deleted", FactKind::MessageDeleted);
    assert_eq!(deleted.target.as_deref(), Some("1791201600111"));
    assert_eq!(deleted.thread.as_deref(), Some(CHAT));
    assert_eq!(deleted.account.as_deref(), Some(SUBSCRIPTION));
}

fn opened(name: &str, at: DateTime<Utc>) -> Option<Vec<u8>> {
    let fact = only(name, FactKind::ResourceChanged);
    let credentials = Credentials::default();
    match graph().fetch(&app(), &credentials, &fact.detail["notice"], at) {
        Some(Fetch::Have(raw)) => Some(raw),
        Some(Fetch::Call(call)) => {
            assert!(call.url.ends_with("/messages/1791201609009"));
            None
        }
        None => panic!("nothing to fetch"),
    }
}

#[test]
fn a_rich_notice_has_the_message() {
    let raw = opened("06_notify_rich_encrypted", now()).expect("the message");
    let facts = facts_of(&raw);
    assert_eq!(kinds(&facts), ["message.received"]);
    assert_eq!(facts[0].text.as_deref(), Some("Encrypted hëllo & goodbye"));
    assert_eq!(facts[0].sender.as_deref(), Some(MIRA));
    assert_eq!(facts[0].message_id.as_deref(), Some("1791201609009"));
    // Its token ends; then the message is fetched like any other.
    let later = now() + chrono::TimeDelta::days(2);
    assert_eq!(opened("06_notify_rich_encrypted", later), None);
}

#[test]
fn a_rich_notice_with_a_bad_signature_is_fetched_instead() {
    assert_eq!(opened("07_notify_rich_bad_signature", now()), None);
}

#[test]
fn lifecycle() {
    let fact = only("08_lifecycle_reauthorize", FactKind::AccountStatusChanged);
    assert_eq!(fact.account.as_deref(), Some(SUBSCRIPTION));
    assert_eq!(fact.detail["lifecycle"], "reauthorizationRequired");
    let facts = facts("09_lifecycle_removed_and_missed");
    let said: Vec<_> = facts
        .iter()
        .map(|fact| (fact.kind, fact.detail["lifecycle"].as_str().unwrap()))
        .collect();
    assert_eq!(
        said,
        [
            (FactKind::AccountStatusChanged, "subscriptionRemoved"),
            (FactKind::AccountStatusChanged, "missed")
        ]
    );
    assert_eq!(
        facts[1].account.as_deref(),
        Some("aaaa1111-0000-4000-8000-000000000020")
    );
}

#[test]
fn html_with_a_mention() {
    let fact = received("10_message_html_mention");
    assert_eq!(
        fact.text.as_deref(),
        Some("Hi Nora Wind — 5 < 7 & café\nsecond line")
    );
    assert_eq!(fact.content, Some(ContentKind::Text));
    assert_eq!(fact.thread.as_deref(), Some(CHAT));
    assert_eq!(fact.sender.as_deref(), Some(MIRA));
    assert_eq!(fact.sender_name.as_deref(), Some("Mira Quist"));
    assert_eq!(fact.ts_ms, Some(1_791_201_610_000));
    assert_eq!(
        fact.detail["mentions"],
        json!([{"role": "user", "id": US, "us": true}])
    );
}

#[test]
fn plain_text_is_literal() {
    let fact = received("11_message_plain_text");
    assert_eq!(fact.text.as_deref(), Some("no <b>markup</b> here & raw"));
    assert_eq!(fact.thread.as_deref(), Some(GROUP));
    assert_eq!(fact.sender_name.as_deref(), Some("Tomás"));
}

#[test]
fn a_file() {
    let fact = received("12_message_file_attachment");
    assert_eq!(fact.text.as_deref(), Some("The order"));
    assert_eq!(fact.content, Some(ContentKind::File));
    assert_eq!(fact.media.len(), 1);
    let media = &fact.media[0];
    assert_eq!(media.kind, Some(ContentKind::File));
    assert_eq!(media.name.as_deref(), Some("order 42.pdf"));
    assert!(
        media
            .file_id
            .as_deref()
            .unwrap()
            .starts_with("u!aHR0cHM6Ly9ub3J0aHdpbmQ")
    );
    assert_eq!(
        media.url, None,
        "no token goes to an address somebody wrote"
    );
}

#[test]
fn a_picture_in_the_text() {
    let fact = received("13_message_inline_image");
    assert_eq!(fact.text.as_deref(), Some("see"));
    assert_eq!(fact.content, Some(ContentKind::Image));
    assert_eq!(fact.media.len(), 1);
    let url = fact.media[0].url.as_deref().unwrap();
    assert!(url.starts_with("https://graph.microsoft.com/v1.0/chats/") && url.ends_with("/$value"));
    assert_eq!(fact.media[0].available, None);
    let elsewhere = App {
        api_base: "https://graph.example".into(),
        ..app()
    };
    let raw = fixture("teams/13_message_inline_image.json");
    let facts = graph().translate(&elsewhere, Some(US), &raw).unwrap();
    assert_eq!(facts[0].media[0].available, Some(false));
}

#[test]
fn a_quoted_reply() {
    let fact = received("14_message_chat_quote_reply");
    assert_eq!(fact.text.as_deref(), Some("agreed"));
    assert_eq!(fact.reply_to.as_deref(), Some("1791201610000"));
    assert_eq!(fact.content, Some(ContentKind::Text));
    assert!(fact.media.is_empty());
}

#[test]
fn a_forwarded_message() {
    let fact = received("15_message_forwarded");
    assert_eq!(fact.text.as_deref(), Some("original words"));
    assert_eq!(fact.detail["forwarded"]["message"], "1791201595000");
    assert_eq!(fact.detail["forwarded"]["sender"], MIRA);
    assert!(fact.media.is_empty());
}

#[test]
fn reactions_are_no_edit() {
    let facts = facts("16_message_reactions_history");
    assert_eq!(
        kinds(&facts),
        [
            "message.received",
            "reaction.added",
            "reaction.added",
            "reaction.added"
        ]
    );
    // The message is the one that was read before: the same key, and nothing happens twice.
    let before = received("10_message_html_mention");
    assert_eq!(
        (&facts[0].dedup, &facts[0].thread, &facts[0].text),
        (&before.dedup, &before.thread, &before.text)
    );
    let told: Vec<_> = facts[1..]
        .iter()
        .map(|fact| {
            (
                fact.sender.as_deref().unwrap(),
                fact.emoji.as_deref().unwrap(),
            )
        })
        .collect();
    assert_eq!(told, [(TOMAS, "👍"), (US, "💌"), (TOMAS, "teapot")]);
    assert_eq!(facts[1].detail["reaction"], "like");
    assert_eq!(facts[2].direction, Some(Direction::Outbound));
    for fact in &facts[1..] {
        assert_eq!(fact.target.as_deref(), Some("1791201610000"));
    }
}

#[test]
fn a_reaction_that_was_taken_back_is_in_the_history() {
    let mut message: Value =
        serde_json::from_slice(&fixture("teams/16_message_reactions_history.json")).unwrap();
    message["reactions"] = json!([]);
    message["messageHistory"][0]["actions"] = "reactionRemoved".into();
    let facts = facts_of(message.to_string().as_bytes());
    assert_eq!(kinds(&facts), ["message.received", "reaction.removed"]);
    assert_eq!(facts[1].sender.as_deref(), Some(TOMAS));
    assert_eq!(facts[1].ts_ms, Some(1_791_201_650_000));
}

#[test]
fn an_edit() {
    let facts = facts("17_message_edited");
    assert_eq!(kinds(&facts), ["message.received", "message.edited"]);
    let edit = &facts[1];
    assert_eq!(edit.text.as_deref(), Some("Hi Nora, corrected"));
    assert_eq!(edit.ts_ms, Some(1_791_201_670_000));
    assert_eq!(edit.target.as_deref(), Some("1791201610000"));
    assert_eq!(facts[0].dedup, received("10_message_html_mention").dedup);
}

#[test]
fn a_deletion() {
    let fact = only("18_message_deleted", FactKind::MessageDeleted);
    assert_eq!(fact.target.as_deref(), Some("1791201610000"));
    assert_eq!(fact.ts_ms, Some(1_791_201_680_000));
    assert_eq!(fact.text, None);
    // A notification and a look at the message tell of the same deletion.
    let mut notice: Value =
        serde_json::from_slice(&fixture("teams/05_notify_deleted.json")).unwrap();
    notice["value"][0]["resource"] = format!("chats('{CHAT}')/messages('1791201610000')").into();
    let told = facts_of(notice.to_string().as_bytes());
    assert_eq!(
        (&told[0].dedup, &told[0].thread),
        (&fact.dedup, &fact.thread)
    );
}

#[test]
fn a_new_member_is_no_message() {
    let fact = only(
        "19_message_system_members_added",
        FactKind::ConversationUpdated,
    );
    assert_eq!(fact.detail["event"], "membersAdded");
    assert_eq!(fact.sender.as_deref(), Some(MIRA));
    assert_eq!(fact.thread.as_deref(), Some(GROUP));
    // As it reads without the Prefer header.
    let raw = fixture("teams/19_message_system_members_added.json");
    let raw = String::from_utf8(raw).unwrap();
    let raw = raw.replace("systemEventMessage\"", "unknownFutureValue\"");
    assert_eq!(facts_of(raw.as_bytes())[0], fact);
}

#[test]
fn a_card_of_a_bot() {
    let fact = received("20_message_from_bot_card");
    assert_eq!(fact.text.as_deref(), Some("Deploy finished"));
    assert_eq!(fact.content, Some(ContentKind::Template));
    assert_eq!(
        fact.sender.as_deref(),
        Some("e5e5e5e5-0000-4000-8000-0000000000b0")
    );
    assert_eq!(fact.sender_name.as_deref(), Some("Deploy bot"));
    assert_eq!(fact.detail["sender_kind"], "bot");
}

#[test]
fn a_page_of_messages() {
    let facts = facts("21_chat_messages_page");
    assert_eq!(
        kinds(&facts),
        [
            "message.echoed",
            "message.received",
            "message.edited",
            "message.received"
        ]
    );
    assert_eq!(facts[0].text.as_deref(), Some("Sent by us elsewhere"));
    assert_eq!(facts[0].direction, Some(Direction::Outbound));
    assert_eq!(facts[0].sender.as_deref(), Some(US));
    assert_eq!(facts[3].text.as_deref(), Some("old"));
    assert!(facts.iter().all(|fact| fact.account.as_deref() == Some(US)));
}

#[test]
fn a_page_of_a_channel() {
    let facts = facts("22_channel_delta_page");
    assert_eq!(kinds(&facts), ["message.received", "message.edited"]);
    assert_eq!(facts[0].text.as_deref(), Some("Channel root, edited"));
    assert_eq!(facts[0].detail["subject"], "Returns");
    // A root begins the thread that its replies belong to.
    let reply = only("02_notify_channel_reply_created", FactKind::ResourceChanged);
    assert_eq!(facts[0].thread, reply.thread);
    assert_eq!(facts[0].conversation, reply.conversation);
}

#[test]
fn activities_of_a_bot() {
    let fact = only("23_bot_activity_channel_message", FactKind::MessageReceived);
    assert_eq!(fact.text.as_deref(), Some("where is order 42?"));
    assert_eq!(
        fact.conversation.as_deref(),
        Some(&*format!("{CHANNEL};messageid=1791201602222"))
    );
    assert_eq!(
        fact.account.as_deref(),
        Some("28:0d9e7a52-1111-4222-8333-444455556666")
    );
    assert_eq!(fact.detail["person"], MIRA);
    assert!(fact.media.is_empty());
    let facts = facts("24_bot_activity_edit_and_reaction_pair");
    assert_eq!(
        kinds(&facts),
        ["message.edited", "reaction.added", "reaction.removed"]
    );
    assert_eq!(facts[0].target.as_deref(), Some("1791201623000"));
    assert_eq!(facts[0].text.as_deref(), Some("where is order 43?"));
    for (fact, emoji) in facts[1..].iter().zip(["like", "heart"]) {
        assert_eq!(fact.emoji.as_deref(), Some(emoji));
        assert_eq!(fact.target.as_deref(), Some("1791201600777"));
    }
    let fact = only("25_outgoing_webhook_message", FactKind::MessageReceived);
    assert_eq!(fact.text.as_deref(), Some("status 42"));
}

#[test]
fn a_delivery_needs_our_word() {
    let raw = fixture("teams/01_notify_chat_created.json");
    let verify =
        |app: &App, headers: &[(String, String)], raw: &[u8]| graph().verify(app, headers, raw);
    assert_eq!(verify(&app(), &[], &raw), Ok(()));
    let refused = Err(Refused::Signature);
    let other = String::from_utf8(raw.clone())
        .unwrap()
        .replace("-4f9b", "-4f9c");
    assert_eq!(verify(&app(), &[], other.as_bytes()), refused);
    let unset = App {
        webhook_secret: "".into(),
        ..app()
    };
    let empty = String::from_utf8(raw.clone()).unwrap();
    let empty = empty.replace("hub-client-state-4f9b", "");
    assert_eq!(verify(&unset, &[], empty.as_bytes()), refused);
    for odd in ["", "{}", "[]", r#"{"value":[]}"#, r#"{"value":[{}]}"#] {
        assert_eq!(verify(&app(), &[], odd.as_bytes()), refused, "{odd}");
    }
    // A bearer token need not be there; when it is, it must be for us.
    let tokens = vectors()["graph_validation_tokens"]["tokens"].clone();
    let bearer = |name: &str| {
        let all = tokens.as_array().unwrap();
        let token = all.iter().find(|token| token["name"] == name).unwrap();
        let value = format!("Bearer {}", token["jwt"].as_str().unwrap());
        [("authorization".to_owned(), value)]
    };
    assert_eq!(verify(&app(), &bearer("valid v1 token"), &raw), Ok(()));
    assert_eq!(verify(&app(), &bearer("wrong audience"), &raw), refused);
    for odd in ["Bearer x", "Bearer a.b.c", "Basic eA==", "Bearer"] {
        let header = [("authorization".to_owned(), odd.to_owned())];
        assert_eq!(verify(&app(), &header, &raw), refused, "{odd}");
    }
}

#[test]
fn the_address_proves_itself_by_the_token_decoded() {
    let vector = vectors()["subscription_validation"].clone();
    let query = vector["request_query"].as_str().unwrap();
    let query: Vec<(String, String)> = url::form_urlencoded::parse(query.as_bytes())
        .into_owned()
        .collect();
    let body = vector["response_body"].as_str().unwrap();
    let answer = |query: &[(String, String)], raw: &[u8]| {
        graph().handshake_by_post(&App::default(), query, raw)
    };
    let expected = Some(Handshake::Answer(body.into()));
    assert_eq!(answer(&query, b""), expected);
    let json = json!({ "validationToken": body }).to_string();
    assert_eq!(answer(&[], json.as_bytes()), expected);
    let form = vector["request_query"].as_str().unwrap();
    assert_eq!(answer(&[], form.as_bytes()), expected);
    // A delivery is no question, whatever else is in it.
    for (_, raw) in fixtures(Platform::Teams) {
        assert_eq!(answer(&[], &raw), None);
    }
    let both = r#"{"value":[],"validationToken":"x"}"#;
    assert_eq!(answer(&[], both.as_bytes()), None);
    let long = [("validationToken".to_owned(), "x".repeat(1025))];
    assert_eq!(answer(&long, b""), Some(Handshake::Refused));
}

#[test]
fn tokens_of_graph() {
    let vectors = vectors();
    let part = &vectors["graph_validation_tokens"];
    let content = vectors["graph_encryption"]["encryptedContent"].clone();
    let mut valid = 0;
    for token in part["tokens"].as_array().unwrap() {
        let notice = json!({
            "path": "chats/x/messages/1",
            "tenantId": part["notification_tenant"],
            "validationTokens": [token["jwt"]],
            "encryptedContent": content,
        });
        let fetch = graph().fetch(&app(), &Credentials::default(), &notice, now());
        let plain = match fetch {
            Some(Fetch::Have(plain)) => Some(plain),
            _ => None,
        };
        let expected = vectors["graph_encryption"]["plaintext"].as_str().unwrap();
        let expected = token["valid"]
            .as_bool()
            .unwrap()
            .then_some(expected.as_bytes());
        assert_eq!(plain.as_deref(), expected, "{}", token["name"]);
        valid += usize::from(plain.is_some());
    }
    assert_eq!(valid, 2);
}

#[test]
fn tokens_of_the_bot_framework() {
    let vectors = vectors();
    let keys = vectors["bot_jwks"].to_string();
    let part = &vectors["bot_framework_tokens"];
    let audience = part["expected_aud"].as_str().unwrap();
    for token in part["tokens"].as_array().unwrap() {
        let jwt = token["jwt"].as_str().unwrap();
        let checked = jwt::verified(&keys, jwt, audience, now().timestamp());
        let accepted = checked.is_some_and(|(claims, key)| {
            let endorsed = key["endorsements"].as_array().unwrap();
            claims["iss"] == "https://api.botframework.com"
                && claims["serviceurl"] == token["activity_serviceUrl"]
                && endorsed.contains(&token["channelId"])
        });
        assert_eq!(
            accepted,
            token["valid"].as_bool().unwrap(),
            "{}",
            token["name"]
        );
    }
}

#[test]
fn outgoing_webhooks() {
    let vector = vectors()["outgoing_webhook"].clone();
    let text = |name: &str| vector[name].as_str().unwrap().to_owned();
    let key = text("security_token");
    let check =
        |header: &str, raw: &[u8]| signature::teams_outgoing(Some(header), raw, &(*key).into());
    let body = text("body");
    assert!(check(&text("authorization"), body.as_bytes()));
    for rejected in vector["reject"].as_array().unwrap() {
        let header = rejected["authorization"].as_str().unwrap_or_default();
        assert!(!header.is_empty() && !check(header, body.as_bytes()));
    }
    let raw = fixture("teams/25_outgoing_webhook_message.json");
    assert!(check(&text("fixture_25_authorization"), &raw));
    assert!(!check(&text("fixture_25_authorization"), body.as_bytes()));
    assert!(!signature::teams_outgoing(None, &raw, &(*key).into()));
    assert!(!signature::teams_outgoing(Some("HMAC "), &raw, &"".into()));
}
