//! Instagram's payloads, note by note.

use hub_domain::platform::fact::{ContentKind, Direction, Fact, FactKind};
use hub_domain::platform::{App, Platform, adapter};
use serde_json::json;

use crate::{app, fixture, kinds};

const ACCOUNT: &str = "17841478800123456";
const PERSON: &str = "1284736450912837";
const CONVERSATION: &str = "17841478800123456:1284736450912837";
const SECRET: &str = "a1b2c3d4e5f60718293a4b5c6d7e8f90";

fn facts(name: &str) -> Vec<Fact> {
    crate::facts(&format!("instagram/{name}.json"))
}

fn only(name: &str, kind: FactKind) -> Fact {
    crate::only(&format!("instagram/{name}.json"), kind)
}

fn received(name: &str) -> Fact {
    let fact = only(name, FactKind::MessageReceived);
    assert_inbound(&fact);
    fact
}

fn assert_inbound(fact: &Fact) {
    assert_eq!(fact.account.as_deref(), Some(ACCOUNT));
    assert_eq!(fact.sender.as_deref(), Some(PERSON));
    assert_eq!(fact.thread.as_deref(), Some(PERSON));
    assert_eq!(fact.conversation.as_deref(), Some(CONVERSATION));
    assert_eq!(fact.direction, Some(Direction::Inbound));
    assert_eq!(fact.sender_name, None);
}

fn mid(number: u32) -> Option<String> {
    Some(format!(
        "aWdfZAG1faXRlbToxOklHTWVzc2FnZAUlEOjE3ODQxNDc4ODAwMTIzNDU2OjM0MDI4MjM2Njg0MTcxMDMwMTI0NDI1\
         OTAxMDAw{number:04}ZD"
    ))
}

#[test]
fn every_signature_and_size_in_the_index() {
    // Signed by the Instagram app; the Meta app's secret is the other candidate, in either place.
    let own = App {
        client_secret: SECRET.into(),
        ..App::default()
    };
    let other = App {
        client_secret: "meta".into(),
        client_secret_previous: SECRET.into(),
        ..App::default()
    };
    crate::signatures(Platform::Instagram, &[own, other]);
}

#[test]
fn text() {
    let fact = received("01_text");
    assert_eq!(fact.message_id, mid(1));
    assert_eq!(fact.ts_ms, Some(1_791_205_200_000));
    assert_eq!(fact.content, Some(ContentKind::Text));
    assert_eq!(fact.text.as_deref(), Some("Do you ship to Zürich? ✨"));
}

#[test]
fn a_message_to_oneself_makes_no_conversation() {
    let fact = only("02_text_self_test", FactKind::Ignored);
    assert_eq!(fact.account.as_deref(), Some(ACCOUNT));
    assert_eq!((&fact.thread, &fact.conversation), (&None, &None));
}

#[test]
fn image() {
    let fact = received("03_image");
    assert_eq!(
        (fact.content, &fact.text),
        (Some(ContentKind::Image), &None)
    );
    assert_eq!(fact.media.len(), 1);
    assert!(fact.media[0].url.is_some());
}

#[test]
fn album_and_voice() {
    let facts = facts("04_album_video_audio");
    assert_eq!(kinds(&facts), ["message.received"; 2]);
    facts.iter().for_each(assert_inbound);
    let of = |fact: &Fact| {
        fact.media
            .iter()
            .map(|it| it.kind.unwrap())
            .collect::<Vec<_>>()
    };
    assert_eq!(facts[0].message_id, mid(4));
    assert_eq!(of(&facts[0]), [ContentKind::Image, ContentKind::Video]);
    assert_eq!(facts[1].message_id, mid(5));
    assert_eq!(of(&facts[1]), [ContentKind::Audio]);
}

#[test]
fn file() {
    let fact = received("05_file_pdf");
    assert_eq!(fact.content, Some(ContentKind::File));
    assert_eq!(fact.media.len(), 1);
    assert_eq!(fact.media[0].mime, None);
}

#[test]
fn story_mention() {
    let fact = received("06_story_mention");
    assert_eq!(fact.content, Some(ContentKind::Share));
    assert_eq!(fact.detail["share"]["type"], "story_mention");
    assert_eq!(fact.media.len(), 1);
    assert!(fact.media[0].url.is_some());
}

#[test]
fn replies_to_a_story_and_to_a_message() {
    let story = received("07_story_reply");
    assert_eq!(story.text.as_deref(), Some("love this"));
    assert_eq!(story.detail["reply_to_story"]["id"], "18010000000000007");
    assert_eq!(story.reply_to, None);
    assert_eq!(received("08_inline_reply").reply_to, mid(1));
}

#[test]
fn shares() {
    let facts = facts("09_shares");
    assert_eq!(kinds(&facts), ["message.received"; 3]);
    for (fact, kind) in facts.iter().zip(["share", "ig_post", "ig_reel"]) {
        assert_inbound(fact);
        assert_eq!(fact.content, Some(ContentKind::Share));
        assert_eq!(fact.detail["share"]["type"], kind);
        assert!(fact.detail["share"]["url"].is_string());
        assert!(fact.media.is_empty());
    }
    assert!(facts[1].detail["share"]["id"].is_string());
    assert!(facts[2].detail["share"]["id"].is_string());
}

#[test]
fn a_heart_has_no_payload() {
    let fact = received("10_like_heart");
    assert_eq!(fact.content, Some(ContentKind::Sticker));
    assert!(fact.media.is_empty());
}

#[test]
fn what_cannot_be_shown_is_told() {
    let fact = received("11_ephemeral");
    assert_eq!(fact.content, Some(ContentKind::Unsupported));
    assert_eq!(fact.detail["attachment_type"], "ephemeral");
    let facts = facts("12_unsupported");
    assert_eq!(kinds(&facts), ["message.received"; 2]);
    for fact in &facts {
        assert_inbound(fact);
        assert_eq!(fact.content, Some(ContentKind::Unsupported));
        assert!(fact.media.is_empty());
    }
    let link = facts[1].detail["link"]["url"].as_str().unwrap();
    assert!(link.starts_with("https://lookaside.fbsbx.com/ig_messaging_cdn/"));
}

#[test]
fn a_deletion_reuses_the_id() {
    let fact = only("13_unsend", FactKind::MessageDeleted);
    assert_inbound(&fact);
    assert_eq!((&fact.message_id, &fact.target), (&mid(9), &mid(9)));
}

#[test]
fn echoes() {
    let facts = facts("14_echo");
    assert_eq!(kinds(&facts), ["message.echoed"; 2]);
    for fact in &facts {
        assert_eq!(fact.account.as_deref(), Some(ACCOUNT));
        assert_eq!(fact.sender.as_deref(), Some(ACCOUNT));
        assert_eq!(fact.thread.as_deref(), Some(PERSON));
        assert_eq!(fact.conversation.as_deref(), Some(CONVERSATION));
        assert_eq!(fact.direction, Some(Direction::Outbound));
        assert_eq!(fact.client_ref, None);
    }
    let body = json!({"object": "instagram", "entry": [{"id": ACCOUNT, "messaging": [{
        "sender": {"id": ACCOUNT}, "recipient": {"id": PERSON}, "timestamp": 1,
        "message": {"mid": "m", "text": "x", "is_echo": true, "metadata": "hub:out-000123"}}]}]});
    let facts =
        adapter(Platform::Instagram)
            .unwrap()
            .translate(&app(), None, body.to_string().as_bytes());
    let echo = facts.unwrap().remove(0);
    assert_eq!(echo.client_ref.as_deref(), Some("hub:out-000123"));
}

#[test]
fn reactions() {
    let facts = facts("15_reactions");
    assert_eq!(kinds(&facts), ["reaction.added", "reaction.removed"]);
    for (fact, emoji) in facts.iter().zip([Some("❤️"), None]) {
        assert_inbound(fact);
        assert_eq!(fact.target, mid(17));
        assert_eq!(fact.emoji.as_deref(), emoji);
    }
}

#[test]
fn seen_names_a_message() {
    let fact = only("16_seen", FactKind::ReceiptRead);
    assert_inbound(&fact);
    assert_eq!(fact.target, mid(18));
    assert_eq!((fact.watermark_ms, fact.targets.len()), (None, 0));
}

#[test]
fn buttons() {
    let icebreaker = received("17_postback_icebreaker");
    assert_eq!(icebreaker.content, Some(ContentKind::Action));
    assert_eq!(icebreaker.message_id, mid(19));
    assert_eq!(icebreaker.text.as_deref(), Some("Opening hours?"));
    assert_eq!(icebreaker.action.as_deref(), Some("FAQ_HOURS"));
    let reply = received("18_quick_reply");
    assert_eq!(reply.text.as_deref(), Some("Red"));
    assert_eq!(reply.action.as_deref(), Some("COLOR_RED"));
}

#[test]
fn referrals() {
    let link = only("19_referral_igme", FactKind::ConversationReferral);
    assert_inbound(&link);
    assert_eq!(link.message_id, None);
    let facts = facts("20_ctd_ad_message");
    assert_eq!(kinds(&facts), ["message.received", "conversation.referral"]);
    facts.iter().for_each(assert_inbound);
    assert!(facts[1].detail["referral"]["ad_id"].is_string());
}

#[test]
fn edits() {
    let facts = facts("21_message_edit");
    assert_eq!(kinds(&facts), ["message.edited"; 2]);
    for (fact, number) in facts.iter().zip([1, 2]) {
        assert_inbound(fact);
        assert_eq!(fact.target, mid(1));
        assert_eq!(fact.detail["num_edit"], number);
    }
    assert_eq!(facts[1].text.as_deref(), Some("Do you ship to Bern?"));
    assert_ne!(facts[0].dedup, facts[1].dedup);
}

#[test]
fn standby() {
    let fact = only("22_standby", FactKind::MessageReceived);
    assert_eq!(fact.detail["standby"], true);
    assert_eq!(fact.direction, Some(Direction::Inbound));
    assert_eq!(fact.thread.as_deref(), Some("1284736450919999"));
}

#[test]
fn comments_are_no_messages() {
    let facts = facts("23_comment_and_mention");
    assert_eq!(kinds(&facts), ["ignored"; 2]);
    for fact in &facts {
        assert_eq!(fact.detail["what"], "comments");
        assert_eq!(fact.conversation, None);
    }
}

#[test]
fn the_dashboard_test_is_about_nobody() {
    let fact = only("24_dashboard_test", FactKind::Ignored);
    assert_eq!((&fact.account, &fact.thread), (&None, &None));
    let raw = fixture("instagram/24_dashboard_test.json");
    assert!(
        adapter(Platform::Instagram)
            .unwrap()
            .route(&app(), &raw)
            .is_empty()
    );
}

#[test]
fn a_batch_about_two_accounts() {
    let facts = facts("25_batch_two_accounts");
    let expected = ["message.received", "message.received", "unknown", "ignored"];
    assert_eq!(kinds(&facts), expected);
    assert_eq!(facts[0].message_id, mid(23));
    assert_eq!(facts[1].account.as_deref(), Some("17841478800999888"));
    assert_eq!(facts[2].detail["raw"]["novelty"], json!({"x": 1}));
    let raw = fixture("instagram/25_batch_two_accounts.json");
    let route = adapter(Platform::Instagram).unwrap().route(&app(), &raw);
    assert_eq!(route, [ACCOUNT, "17841478800999888"]);
}
