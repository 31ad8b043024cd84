//! LinkedIn's payloads, note by note.

use hub_domain::platform::fact::{ContentKind, Direction, Fact, FactKind};
use hub_domain::platform::{App, Handshake, Platform, Refused, adapter};
use serde_json::{Value, json};

use crate::{fixture, fixtures, kinds, section};

const MEMBER: &str = "urn:li:person:HubOwn3r_A";
const CONTACT: &str = "urn:li:person:Kontakt-B7";
const OTHER: &str = "urn:li:person:CyFan_c9";
const ORGANIZATION: &str = "urn:li:organization:90210042";
const POST: &str = "urn:li:activity:7250000000000000001";
const THREAD: &str = "urn:li:messagingThread:2-dGhyZWFkMQ==";
const HEADER: &str = "X-LI-Signature";

fn app() -> App {
    App {
        client_secret: "hubTestLinkedInSecret42".into(),
        ..App::default()
    }
}

fn facts(name: &str) -> Vec<Fact> {
    let raw = fixture(&format!("linkedin/{name}.json"));
    let linkedin = adapter(Platform::Linkedin).unwrap();
    let facts = linkedin.translate(&app(), None, &raw).unwrap();
    assert!(facts.iter().all(|fact| !fact.dedup.is_empty()), "{name}");
    facts
}

fn only(name: &str, kind: FactKind) -> Fact {
    let mut facts = facts(name);
    assert_eq!(kinds(&facts), [kind.name()], "{name}");
    facts.remove(0)
}

fn comment(number: u32) -> Option<String> {
    Some(format!("urn:li:comment:({POST},7250000000000000{number})"))
}

/// About the organization's post, through the member who administers it.
fn assert_public(fact: &Fact) {
    assert_eq!(fact.account.as_deref(), Some(ORGANIZATION));
    assert_eq!(fact.through.as_deref(), Some(MEMBER));
    assert_eq!(fact.conversation.as_deref(), Some(POST));
    assert_eq!(fact.thread, Some(format!("{ORGANIZATION}/{POST}")));
    let linkedin = adapter(Platform::Linkedin).unwrap();
    let thread = fact.thread.as_deref().unwrap();
    assert!(linkedin.sendable(thread, None).is_ok());
}

/// In the member's own messages.
fn assert_private(fact: &Fact, actor: &str) {
    assert_eq!(fact.account.as_deref(), Some(MEMBER));
    assert_eq!(fact.through, None);
    assert_eq!(fact.sender.as_deref(), Some(actor));
    assert_eq!(fact.conversation.as_deref(), Some(THREAD));
    assert_eq!(fact.thread.as_deref(), Some(THREAD));
    let direction = match actor {
        MEMBER => Direction::Outbound,
        _ => Direction::Inbound,
    };
    assert_eq!(fact.direction, Some(direction));
    let linkedin = adapter(Platform::Linkedin).unwrap();
    assert!(linkedin.sendable(THREAD, None).is_err());
    assert!(linkedin.sendable(THREAD, Some("w_messages")).is_ok());
}

fn verify(header: &str, raw: &[u8]) -> Result<(), Refused> {
    let headers = [("x-li-signature".to_owned(), header.to_owned())];
    let linkedin = adapter(Platform::Linkedin).unwrap();
    linkedin.verify(&app(), &headers, raw)
}

#[test]
fn every_signature_and_size_in_the_index() {
    let all = fixtures(Platform::Linkedin);
    assert_eq!(all.len(), 20);
    let mut signed = 0;
    for (path, raw) in all {
        let section = section(Platform::Linkedin, &path);
        let size = format!("{} bytes", raw.len());
        assert!(section.contains(&size), "{path}");
        let Some((_, rest)) = section.split_once(&format!("{HEADER}: ")) else {
            continue;
        };
        signed += 1;
        let (signature, _) = rest.split_once('`').unwrap();
        assert_eq!(verify(signature, &raw), Ok(()), "{path}");
        let named = format!("hmacsha256={signature}");
        assert_eq!(verify(&named, &raw), Ok(()), "{path}");
        let mut longer = raw.clone();
        longer.push(b'\n');
        assert_eq!(verify(signature, &longer), Err(Refused::Signature));
        let upper = signature.to_uppercase();
        assert_eq!(verify(&upper, &raw), Err(Refused::Signature));
    }
    assert_eq!(signed, 9);
}

#[test]
fn vectors() {
    let vectors: Value = serde_json::from_slice(&fixture("vectors/linkedin.json")).unwrap();
    let linkedin = adapter(Platform::Linkedin).unwrap();
    assert_eq!(vectors["client_secret"], app().client_secret.expose());
    for vector in vectors["challenge"].as_array().unwrap() {
        let code = vector["challengeCode"].as_str().unwrap();
        let query = [("challengeCode".to_owned(), code.to_owned())];
        let Some(Handshake::Json(answer)) = linkedin.handshake(&app(), &query) else {
            panic!("{vector}");
        };
        assert_eq!(serde_json::from_str::<Value>(&answer).unwrap(), *vector);
    }
    for vector in vectors["signatures"].as_array().unwrap() {
        let header = vector["x_li_signature"].as_str().unwrap();
        let body = vector["body"].as_str().unwrap().as_bytes();
        // The second body is authentic and still nothing LinkedIn sends.
        assert_ne!(verify(header, body), Err(Refused::Signature), "{vector}");
    }
    for vector in vectors["reject"].as_array().unwrap() {
        let header = vector["header"].as_str().unwrap();
        let body = vector["body"].as_str().unwrap().as_bytes();
        assert_eq!(verify(header, body), Err(Refused::Signature), "{vector}");
    }
    let first = vectors["signature_of_fixture_01"].as_str().unwrap();
    assert_eq!(
        verify(first, &fixture("linkedin/01_org_comment.json")),
        Ok(())
    );
}

#[test]
fn the_webhook_of_the_contract() {
    let raw = br#"{"eventType":"MESSAGE_EVENT","data":{"conversationId":"c9","messageId":"lm1","from":"urn:li:person:b","recipient":"urn:li:person:a","text":"hello","createdAt":1700000000000}}"#;
    let app = App {
        client_secret: "li-secret".into(),
        ..App::default()
    };
    let header = "a096a594bd2b205f813a8c2ef314e4d6e860b0f0727a2e3246b74dabaa03868c";
    let headers = [("x-li-signature".to_owned(), header.to_owned())];
    let linkedin = adapter(Platform::Linkedin).unwrap();
    assert_eq!(linkedin.verify(&app, &headers, raw), Ok(()));
    assert_eq!(linkedin.route(&app, raw), ["urn:li:person:a"]);
    let fact = linkedin.translate(&app, None, raw).unwrap().remove(0);
    assert_eq!(fact.kind, FactKind::MessageReceived);
    assert_eq!(fact.sender.as_deref(), Some("urn:li:person:b"));
    assert_eq!(fact.thread.as_deref(), Some("c9"));
    assert_eq!(fact.message_id.as_deref(), Some("lm1"));
    assert_eq!(fact.text.as_deref(), Some("hello"));
    assert_eq!(fact.ts_ms, Some(1_700_000_000_000));
    let other = br#"{"eventType":"PROFILE_EVENT","data":{}}"#;
    let fact = linkedin.translate(&app, None, other).unwrap().remove(0);
    assert_eq!(fact.kind, FactKind::Unknown);
}

#[test]
fn comments() {
    let fact = only("01_org_comment", FactKind::MessageReceived);
    assert_public(&fact);
    assert_eq!(fact.sender.as_deref(), Some(CONTACT));
    assert_eq!(fact.message_id, comment(101));
    assert_eq!(fact.ts_ms, Some(1_791_201_600_000));
    assert_eq!(fact.text.as_deref(), Some("Do you ship to Oslo?"));
    assert_eq!(fact.detail["post"], "Autumn teapots");
    assert!(fact.dedup.ends_with(":5600000001"));
    let linkedin = adapter(Platform::Linkedin).unwrap();
    let routes = linkedin.route(&app(), &fixture("linkedin/01_org_comment.json"));
    assert_eq!(routes, [MEMBER, ORGANIZATION]);

    let fact = only("02_org_comment_short_urn", FactKind::MessageReceived);
    assert_public(&fact);
    assert_eq!(fact.message_id, comment(102));
    assert_eq!(fact.text.as_deref(), Some("Grüße ☕ <3 & more"));

    let fact = only("03_org_comment_edit", FactKind::MessageEdited);
    assert_public(&fact);
    assert_eq!(
        (&fact.target, &fact.message_id),
        (&comment(101), &comment(101))
    );
    assert_eq!(fact.text.as_deref(), Some("Do you ship to Oslo or Bergen?"));

    let fact = only("04_org_comment_delete", FactKind::MessageDeleted);
    assert_public(&fact);
    assert_eq!(fact.target, comment(101));

    let fact = only("05_org_admin_comment", FactKind::MessageEchoed);
    assert_public(&fact);
    assert_eq!(fact.direction, Some(Direction::Outbound));
    assert_eq!(fact.sender.as_deref(), Some(ORGANIZATION));
    assert_eq!(fact.message_id, comment(105));
}

#[test]
fn likes_and_mentions() {
    let fact = only("06_org_like", FactKind::ReactionAdded);
    assert_public(&fact);
    assert_eq!(fact.sender.as_deref(), Some(CONTACT));
    assert_eq!(fact.target.as_deref(), Some(POST));
    assert_eq!(fact.text, None);

    let fact = only("07_org_share_mention", FactKind::MessageReceived);
    assert_eq!(fact.account.as_deref(), Some(ORGANIZATION));
    assert_eq!(fact.sender.as_deref(), Some(OTHER));
    let share = "urn:li:share:7250000000000000201";
    assert_eq!(fact.message_id.as_deref(), Some(share));
    assert_eq!(fact.conversation.as_deref(), Some(share));
    assert_eq!(fact.text.as_deref(), Some("Love the pots of Northwind"));
}

#[test]
fn a_batch() {
    let facts = facts("08_org_batch_mixed");
    let expected = ["message.received", "message.received", "unknown"];
    assert_eq!(kinds(&facts), expected);
    assert_eq!(facts[0].text.as_deref(), Some("one"));
    assert_eq!(facts[1].text.as_deref(), Some("two"));
    assert_eq!(facts[2].account.as_deref(), Some(ORGANIZATION));
    let fact = only("09_lead_action", FactKind::Ignored);
    assert_eq!(fact.account.as_deref(), Some(ORGANIZATION));
}

#[test]
fn messages() {
    let fact = only("10_changelog_inbound_text", FactKind::MessageReceived);
    assert_private(&fact, CONTACT);
    assert_eq!(fact.message_id.as_deref(), Some("2-bXNnMQ=="));
    assert_eq!(fact.ts_ms, Some(1_791_201_650_000));
    assert_eq!(fact.content, Some(ContentKind::Text));
    assert_eq!(fact.text.as_deref(), Some("Hello from LinkedIn"));

    let fact = only("11_changelog_outbound_attachment", FactKind::MessageEchoed);
    assert_private(&fact, MEMBER);
    assert_eq!(fact.text.as_deref(), Some("The catalogue"));
    assert_eq!(fact.media.len(), 1);
    let asset = "urn:li:digitalmediaAsset:C4D06AQfictional";
    assert_eq!(fact.media[0].file_id.as_deref(), Some(asset));
    assert_eq!(fact.media[0].mime, None);

    let fact = only("12_changelog_edit", FactKind::MessageEdited);
    assert_private(&fact, CONTACT);
    assert_eq!(fact.target.as_deref(), Some("2-bXNnMQ=="));
    assert_eq!(fact.text.as_deref(), Some("Hello again from LinkedIn"));
    assert_eq!(fact.ts_ms, Some(1_791_201_652_090));

    let fact = only("13_changelog_delete", FactKind::MessageDeleted);
    assert_private(&fact, CONTACT);
    assert_eq!(fact.target.as_deref(), Some("2-bXNnMQ=="));
}

#[test]
fn little_format_and_gifs() {
    let fact = only(
        "14_changelog_voice_little_format",
        FactKind::MessageReceived,
    );
    assert_private(&fact, CONTACT);
    assert_eq!(fact.content, Some(ContentKind::Audio));
    assert_eq!(fact.text, None);
    assert_eq!(fact.media.len(), 1);
    let asset = "urn:li:digitalmediaAsset:C4E20AQvoi_ce";
    assert_eq!(fact.media[0].file_id.as_deref(), Some(asset));

    let fact = only(
        "15_changelog_mention_little_format",
        FactKind::MessageReceived,
    );
    assert_eq!(fact.text.as_deref(), Some("ping @Dana Fox now"));
    assert_eq!(fact.content, Some(ContentKind::Text));
    assert!(fact.media.is_empty());

    let fact = only("16_changelog_gif", FactKind::MessageEchoed);
    assert_private(&fact, MEMBER);
    assert_eq!(
        (fact.content, &fact.text),
        (Some(ContentKind::Animation), &None)
    );
    assert_eq!(fact.media.len(), 1);
    let url = "https://snap.licdn.com/tr/images/x/tenor.gif";
    assert_eq!(fact.media[0].url.as_deref(), Some(url));
}

#[test]
fn a_mixed_page() {
    let facts = facts("17_changelog_mixed_page");
    let expected = [
        "message.received",
        "reaction.added",
        "ignored",
        "message.received",
    ];
    assert_eq!(kinds(&facts), expected);
    assert_eq!(facts[0].message_id.as_deref(), Some("2-cmVwbGF5"));
    assert_eq!(facts[1].target.as_deref(), Some(POST));
    assert_eq!(facts[3].message_id.as_deref(), Some("2-dGhpcmQ="));
    for fact in &facts {
        assert_eq!(fact.account.as_deref(), Some(MEMBER));
    }
    assert_eq!(self::facts("18_changelog_empty"), []);
}

#[test]
fn one_element_is_read_like_one_of_a_page() {
    let page: Value =
        serde_json::from_slice(&fixture("linkedin/10_changelog_inbound_text.json")).unwrap();
    let linkedin = adapter(Platform::Linkedin).unwrap();
    let raw = page["elements"][0].to_string();
    let read = linkedin.translate(&app(), Some(MEMBER), raw.as_bytes());
    assert_eq!(read.unwrap(), facts("10_changelog_inbound_text"));
    // Notifications that are fetched instead of pushed.
    let pushed: Value = serde_json::from_slice(&fixture("linkedin/01_org_comment.json")).unwrap();
    let page = json!({"elements": pushed["notifications"]}).to_string();
    let read = linkedin.translate(&app(), Some(MEMBER), page.as_bytes());
    assert_eq!(read.unwrap(), facts("01_org_comment"));
}

#[test]
fn what_is_no_event_is_kept() {
    for name in ["19_userinfo", "20_error_revoked"] {
        only(name, FactKind::Unknown);
    }
}
