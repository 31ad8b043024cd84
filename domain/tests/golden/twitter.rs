//! X's payloads, note by note.

use hub_domain::platform::fact::{ContentKind, Direction, Fact, FactKind};
use hub_domain::platform::http::HttpResponse;
use hub_domain::platform::{App, Handshake, Platform, Refused, adapter};
use hub_domain::signature;
use serde_json::{Value, json};

use crate::{fixture, fixtures, kinds, section};

const US: &str = "1700000000000000101";
const THEM: &str = "1700000000000000202";
const CONVERSATION: &str = "1700000000000000101-1700000000000000202";
const HEADER: &str = "x-twitter-webhooks-signature";

fn app() -> App {
    App {
        webhook_secret: "hubTestConsumerSecret0123456789abcdefghijklmnopqrstuv".into(),
        client_secret: "another secret".into(),
        app_id: "31000042".into(),
        ..App::default()
    }
}

fn fetched(name: &str, account: Option<&str>) -> Vec<Fact> {
    let raw = fixture(&format!("twitter/{name}.json"));
    let x = adapter(Platform::Twitter).unwrap();
    let facts = x.translate(&app(), account, &raw).unwrap();
    assert!(facts.iter().all(|fact| !fact.dedup.is_empty()), "{name}");
    facts
}

fn only(name: &str, kind: FactKind) -> Fact {
    let mut facts = fetched(name, None);
    assert_eq!(kinds(&facts), [kind.name()], "{name}");
    facts.remove(0)
}

fn received(name: &str) -> Fact {
    let fact = only(name, FactKind::MessageReceived);
    assert_inbound(&fact);
    fact
}

fn assert_inbound(fact: &Fact) {
    assert_eq!(fact.account.as_deref(), Some(US));
    assert_eq!(fact.sender.as_deref(), Some(THEM));
    assert_eq!(fact.thread.as_deref(), Some(THEM));
    assert_eq!(fact.conversation.as_deref(), Some(CONVERSATION));
    assert_eq!(fact.direction, Some(Direction::Inbound));
}

fn assert_outbound(fact: &Fact) {
    assert_eq!(fact.account.as_deref(), Some(US));
    assert_eq!(fact.sender.as_deref(), Some(US));
    assert_eq!(fact.thread.as_deref(), Some(THEM));
    assert_eq!(fact.conversation.as_deref(), Some(CONVERSATION));
    assert_eq!(fact.direction, Some(Direction::Outbound));
}

fn id(number: u32) -> Option<String> {
    Some(format!("18400000000000000{number:02}"))
}

fn verify(app: &App, header: &str, raw: &[u8]) -> Result<(), Refused> {
    let headers = [(HEADER.to_owned(), header.to_owned())];
    adapter(Platform::Twitter)
        .unwrap()
        .verify(app, &headers, raw)
}

#[test]
fn every_signature_and_size_in_the_index() {
    let all = fixtures(Platform::Twitter);
    assert_eq!(all.len(), 22);
    let mut signed = 0;
    for (path, raw) in all {
        let section = section(Platform::Twitter, &path);
        let size = format!("{} bytes", raw.len());
        assert!(section.contains(&size), "{path}");
        let Some((_, rest)) = section.split_once(&format!("{HEADER}: ")) else {
            continue;
        };
        signed += 1;
        let (signature, _) = rest.split_once('`').unwrap();
        assert_eq!(verify(&app(), signature, &raw), Ok(()), "{path}");
        let mut longer = raw.clone();
        longer.push(b'\n');
        assert_eq!(verify(&app(), signature, &longer), Err(Refused::Signature));
        let elsewhere = App {
            webhook_secret: app().client_secret,
            ..app()
        };
        assert_eq!(verify(&elsewhere, signature, &raw), Err(Refused::Signature));
        let rotated = App {
            webhook_secret: "newer".into(),
            webhook_secret_previous: app().webhook_secret,
            ..app()
        };
        assert_eq!(verify(&rotated, signature, &raw), Ok(()));
    }
    assert_eq!(signed, 20);
}

fn vectors() -> Value {
    serde_json::from_slice(&fixture("vectors/twitter.json")).unwrap()
}

#[test]
fn challenges() {
    let vectors = vectors();
    let x = adapter(Platform::Twitter).unwrap();
    assert_eq!(vectors["consumer_secret"], app().webhook_secret.expose());
    for vector in vectors["crc"].as_array().unwrap() {
        let query = vector["query"].as_str().unwrap();
        let query: Vec<_> = url::form_urlencoded::parse(query.as_bytes())
            .into_owned()
            .collect();
        assert_eq!(query[0].1, vector["crc_token"].as_str().unwrap());
        let Some(Handshake::Json(answer)) = x.handshake(&app(), &query) else {
            panic!("{vector}");
        };
        let answer: Value = serde_json::from_str(&answer).unwrap();
        assert_eq!(answer, json!({"response_token": vector["response_token"]}));
    }
}

#[test]
fn signatures_of_the_vectors() {
    let vectors = vectors();
    let secret = app().webhook_secret;
    let matches = |body: &Value, header: &Value| {
        let digest = header.as_str().unwrap().strip_prefix("sha256=");
        digest.is_some_and(|digest| {
            signature::base64_matches(&secret, body.as_str().unwrap().as_bytes(), digest)
        })
    };
    for vector in vectors["signatures"].as_array().unwrap() {
        assert!(matches(&vector["body"], &vector["signature"]), "{vector}");
    }
    for vector in vectors["reject"].as_array().unwrap() {
        assert!(!matches(&vector["body"], &vector["header"]), "{vector}");
        let header = vector["header"].as_str().unwrap();
        let body = vector["body"].as_str().unwrap().as_bytes();
        let refused = verify(&app(), header, body);
        assert_eq!(refused, Err(Refused::Signature), "{vector}");
    }
    let pkce = "hub-verifier-0123456789-abcdefghijklmnopqrstuvwxyz_~.";
    let challenge = "5EnJ12Bu-QXzFQ_Gqh9Bsy4tiAafI9DgrD6tM04i2bY";
    assert_eq!(signature::pkce_challenge(pkce), challenge);
}

#[test]
fn the_webhook_of_the_contract() {
    let raw = br#"{"for_user_id":"200","direct_message_events":[{"type":"message_create","id":"dm1","created_timestamp":"1700000000000","message_create":{"target":{"recipient_id":"200"},"sender_id":"100","message_data":{"text":"hello"}}}],"users":{"100":{"id":"100","screen_name":"bob"}}}"#;
    let app = App {
        webhook_secret: "tw-secret".into(),
        ..App::default()
    };
    let header = "sha256=HeEATEOOlvukZLWOO1UWl6nmSxKTvBsM98ORSZ2a5nE=";
    assert_eq!(verify(&app, header, raw), Ok(()));
    let x = adapter(Platform::Twitter).unwrap();
    assert_eq!(x.route(&app, raw), ["200"]);
    let fact = x.translate(&app, None, raw).unwrap().remove(0);
    assert_eq!(fact.kind, FactKind::MessageReceived);
    assert_eq!(fact.account.as_deref(), Some("200"));
    assert_eq!(fact.thread.as_deref(), Some("100"));
    assert_eq!(fact.conversation.as_deref(), Some("100-200"));
    assert_eq!(fact.message_id.as_deref(), Some("dm1"));
    assert_eq!(fact.sender_name.as_deref(), Some("bob"));
    assert_eq!(fact.text.as_deref(), Some("hello"));
    assert_eq!(fact.ts_ms, Some(1_700_000_000_000));
}

#[test]
fn text() {
    let fact = received("01_aaa_dm_received");
    assert_eq!(fact.message_id, id(1));
    assert_eq!(fact.ts_ms, Some(1_791_201_600_000));
    assert_eq!(fact.content, Some(ContentKind::Text));
    assert_eq!(fact.sender_name.as_deref(), Some("Mira Quist"));
    let raw: Value = serde_json::from_slice(&fixture("twitter/01_aaa_dm_received.json")).unwrap();
    let written = &raw["direct_message_events"][0]["message_create"]["message_data"]["text"];
    assert_eq!(fact.text.as_deref(), written.as_str());
    assert!(fact.media.is_empty());
}

#[test]
fn echo_of_our_own_send() {
    let fact = only("02_aaa_dm_sent_by_us", FactKind::MessageEchoed);
    assert_outbound(&fact);
    assert_eq!(fact.message_id, id(2));
    assert_eq!(fact.text.as_deref(), Some("Yes, three left."));
    assert_eq!(fact.detail["app_id"], "31000042");
    assert_eq!(fact.detail["own_app"], true);
    assert_eq!(fact.thread_name.as_deref(), Some("Mira Quist"));
    assert_eq!(fact.sender_name, None);
}

#[test]
fn media() {
    let fact = received("03_aaa_dm_photo");
    assert_eq!(fact.content, Some(ContentKind::Image));
    assert_eq!(fact.text.as_deref(), Some("a chip here:"));
    assert_eq!(fact.media.len(), 1);
    assert_eq!(
        fact.media[0].file_id.as_deref(),
        Some("1840000000000000777")
    );
    let url = fact.media[0].url.as_deref().unwrap();
    assert!(url.starts_with("https://ton.twitter.com/1.1/ton/data/dm/"));

    let fact = received("04_aaa_dm_gif_only");
    assert_eq!(fact.content, Some(ContentKind::Animation));
    assert_eq!(fact.text, None);
    assert_eq!(fact.media.len(), 1);
    assert!(fact.media[0].url.as_deref().unwrap().ends_with(".mp4"));
    assert!(
        fact.detail["preview"]
            .as_str()
            .unwrap()
            .starts_with("https://")
    );

    let fact = received("05_aaa_dm_video");
    assert_eq!(fact.content, Some(ContentKind::Video));
    assert_eq!(fact.text.as_deref(), Some("look"));
    let best = "https://video.twimg.com/dm_video/1840000000000000999/vid/1280/y.mp4";
    assert_eq!(fact.media[0].url.as_deref(), Some(best));
    assert_eq!(fact.media[0].mime.as_deref(), Some("video/mp4"));
    assert_eq!(fact.media[0].duration_s, Some(8));
}

#[test]
fn escapes_and_links() {
    let fact = received("06_aaa_dm_entities_escaped");
    let expected = "5 < 7 & 9 — Grüße 👍🏽 #tea https://shop.example/teapots?x=1&y=2";
    assert_eq!(fact.text.as_deref(), Some(expected));
}

#[test]
fn quick_reply() {
    let fact = received("07_aaa_dm_quick_reply");
    assert_eq!(fact.text.as_deref(), Some("Green"));
    assert_eq!(fact.action.as_deref(), Some("colour_green"));
}

#[test]
fn typing_and_reading() {
    let fact = only("08_aaa_typing", FactKind::TypingStarted);
    assert_inbound(&fact);
    assert_eq!(fact.message_id, None);
    let fact = only("09_aaa_mark_read", FactKind::ReceiptRead);
    assert_inbound(&fact);
    assert_eq!(fact.target, id(2));
    let fact = only("18_xaa_dm_read_assumed_shape", FactKind::ReceiptRead);
    assert_inbound(&fact);
    assert_eq!(fact.target, id(22));
}

#[test]
fn a_permission_taken_back() {
    for name in ["10_aaa_user_revoke", "17_xaa_oauth_revoke"] {
        let fact = only(name, FactKind::AccountStatusChanged);
        assert_eq!(fact.account.as_deref(), Some(US), "{name}");
        assert_eq!(fact.thread, None);
        assert_eq!(fact.detail["app_id"], "31000042");
        assert!(fact.detail["reconnect"].is_string());
    }
    // Another app's permission is not ours.
    let other = App {
        app_id: "1".into(),
        ..app()
    };
    let raw = fixture("twitter/10_aaa_user_revoke.json");
    let x = adapter(Platform::Twitter).unwrap();
    let fact = x.translate(&other, None, &raw).unwrap().remove(0);
    assert_eq!(fact.detail.get("reconnect"), None);
}

#[test]
fn what_happens_in_public_is_ignored() {
    only("11_aaa_tweet_mention", FactKind::Ignored);
    only("12_aaa_follow_and_block", FactKind::Ignored);
    only("20_replay_job_status", FactKind::Ignored);
}

#[test]
fn duplicates_are_dropped() {
    let facts = fetched("13_aaa_batch_duplicate", None);
    assert_eq!(kinds(&facts), ["message.received"; 2]);
    facts.iter().for_each(assert_inbound);
    assert_eq!(
        (&facts[0].message_id, &facts[1].message_id),
        (&id(13), &id(14))
    );
}

#[test]
fn the_newer_generation() {
    let fact = received("14_xaa_dm_received");
    assert_eq!(fact.message_id, id(21));
    assert!(fact.sender_name.is_some());
    let fact = only("15_xaa_dm_sent", FactKind::MessageEchoed);
    assert_outbound(&fact);
    assert_eq!(fact.message_id, id(22));
    assert_eq!(fact.detail["own_app"], false);
    assert_eq!(fact.detail.get("app_id"), None);
    assert_eq!(fact.text.as_deref(), Some("Typed in the X app"));
    let x = adapter(Platform::Twitter).unwrap();
    let raw = fixture("twitter/15_xaa_dm_sent.json");
    assert_eq!(x.route(&app(), &raw), [US]);
}

#[test]
fn encrypted_chat() {
    let fact = received("16_xaa_chat_received_encrypted");
    assert_eq!(fact.content, Some(ContentKind::Unsupported));
    assert_eq!(fact.text, None);
    assert_eq!(fact.detail["encrypted"], true);
    assert!(fact.detail["encoded_event"].is_string());
    let id = fact.message_id.unwrap();
    assert!(id.contains('-') && id.len() == 36, "{id}");
    assert!(fact.ts_ms.is_some());
}

#[test]
fn an_unknown_event_is_kept() {
    let fact = only("19_xaa_unknown_type", FactKind::Unknown);
    assert_eq!(fact.account.as_deref(), Some(US));
    assert_eq!(fact.detail["raw"]["event_type"], "dm.reaction.create");
}

#[test]
fn a_page_is_read_as_its_account() {
    let facts = fetched("21_rest_dm_events_page", Some(US));
    let expected = [
        "message.echoed",
        "message.received",
        "conversation.updated",
        "message.received",
    ];
    assert_eq!(kinds(&facts), expected);
    assert_outbound(&facts[0]);
    assert_eq!(facts[0].message_id, id(31));
    assert_inbound(&facts[1]);
    assert_eq!(facts[1].text.as_deref(), Some("photo"));
    assert_eq!(facts[1].content, Some(ContentKind::Image));
    assert_eq!(
        facts[1].media[0].file_id.as_deref(),
        Some("1840000000000001777")
    );
    let url = facts[1].media[0].url.as_deref().unwrap();
    assert!(url.starts_with("https://ton.twitter.com/"));
    assert_eq!(facts[1].sender_name.as_deref(), Some("Mira Quist"));
    assert_eq!(
        facts[2].conversation.as_deref(),
        Some("1700000000000009999")
    );
    assert_eq!(
        facts[2].thread.as_deref(),
        Some("group:1700000000000009999")
    );
    // The webhook and the page tell of the same message under the same names.
    let pushed = received("14_xaa_dm_received");
    assert_eq!(facts[3].message_id, pushed.message_id);
    assert_eq!(facts[3].dedup, pushed.dedup);
    assert_eq!(facts[3].thread, pushed.thread);
    // Where nobody says whose page it is, it is read as far as it goes; nobody guesses.
    let facts = fetched("21_rest_dm_events_page", None);
    let [received, updated] = ["message.received", "conversation.updated"];
    assert_eq!(kinds(&facts), [received, received, updated, received]);
    for fact in facts {
        let whose = (fact.account, fact.thread, fact.direction);
        assert_eq!(whose, (None, None, None));
    }
}

#[test]
fn missing_expansions_are_no_failure() {
    let facts = fetched("22_rest_partial_errors", Some(US));
    assert_eq!(kinds(&facts), ["message.received"]);
    assert_inbound(&facts[0]);
    assert_eq!(facts[0].text.as_deref(), Some("still here?"));
}

#[test]
fn a_single_event_is_read_like_one_of_a_page() {
    let page: Value =
        serde_json::from_slice(&fixture("twitter/21_rest_dm_events_page.json")).unwrap();
    let single = json!({"data": page["data"][1], "includes": page["includes"]});
    let x = adapter(Platform::Twitter).unwrap();
    let raw = single.to_string();
    let read = x.translate(&app(), Some(US), raw.as_bytes()).unwrap();
    assert_eq!(read, fetched("21_rest_dm_events_page", Some(US))[1..2]);
    let empty = br#"{"meta":{"result_count":0}}"#;
    assert_eq!(x.translate(&app(), Some(US), empty).unwrap(), []);
}

#[test]
fn names_of_contacts() {
    let x = adapter(Platform::Twitter).unwrap();
    let answer = |status, body: &str| HttpResponse {
        status,
        headers: Vec::new(),
        body: body.into(),
    };
    let body = r#"{"data":{"id":"1","name":"Mira Quist","username":"mira_q"}}"#;
    assert_eq!(
        x.contact_name(&answer(200, body)).as_deref(),
        Some("Mira Quist")
    );
    assert_eq!(x.contact_name(&answer(404, "{}")), None);
    let credentials = hub_domain::platform::Credentials::default();
    assert!(x.contact(&app(), &credentials, "../me").is_none());
    assert!(x.contact(&app(), &credentials, THEM).is_some());
}
