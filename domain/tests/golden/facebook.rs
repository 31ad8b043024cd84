//! Facebook's payloads, note by note.

use hub_domain::platform::fact::{ContentKind, Direction, Fact, FactKind};
use hub_domain::platform::{Platform, adapter};
use serde_json::json;

use crate::{app, fixture, kinds};

const PAGE: &str = "104857600112233";
const PERSON: &str = "7214365098123401";
const CONVERSATION: &str = "104857600112233:7214365098123401";

fn facts(name: &str) -> Vec<Fact> {
    crate::facts(&format!("facebook/{name}.json"))
}

fn only(name: &str, kind: FactKind) -> Fact {
    crate::only(&format!("facebook/{name}.json"), kind)
}

fn received(name: &str) -> Fact {
    let fact = only(name, FactKind::MessageReceived);
    assert_inbound(&fact);
    fact
}

fn assert_inbound(fact: &Fact) {
    assert_eq!(fact.account.as_deref(), Some(PAGE));
    assert_eq!(fact.sender.as_deref(), Some(PERSON));
    assert_eq!(fact.thread.as_deref(), Some(PERSON));
    assert_eq!(fact.conversation.as_deref(), Some(CONVERSATION));
    assert_eq!(fact.direction, Some(Direction::Inbound));
    assert_eq!(fact.sender_name, None);
}

fn assert_outbound(fact: &Fact) {
    assert_eq!(fact.account.as_deref(), Some(PAGE));
    assert_eq!(fact.sender.as_deref(), Some(PAGE));
    assert_eq!(fact.thread.as_deref(), Some(PERSON));
    assert_eq!(fact.conversation.as_deref(), Some(CONVERSATION));
    assert_eq!(fact.direction, Some(Direction::Outbound));
}

fn mid(number: u32) -> Option<String> {
    Some(format!(
        "m_Zk3fQ0-pVhb7TnR2uYq8s1Lw5Xc9EoKd4GjMa6Bv{number:02}"
    ))
}

#[test]
fn every_signature_and_size_in_the_index() {
    crate::signatures(Platform::Facebook, &[app()]);
}

#[test]
fn text() {
    let fact = received("01_text");
    assert_eq!(fact.message_id, mid(1));
    assert_eq!(fact.ts_ms, Some(1_791_201_600_000));
    assert_eq!(fact.content, Some(ContentKind::Text));
    assert_eq!(
        fact.text.as_deref(),
        Some("Hi, is the blue teapot still in stock?")
    );
    assert!(fact.media.is_empty());
}

#[test]
fn text_unicode() {
    let expected = "Grüße aus Köln ☕️ — 50% off? <b>&</b> 日本語 👍🏽";
    assert_eq!(received("02_text_unicode").text.as_deref(), Some(expected));
}

#[test]
fn one_image() {
    let fact = received("03_image_single");
    assert_eq!(fact.content, Some(ContentKind::Image));
    assert_eq!(fact.text, None);
    assert_eq!(fact.media.len(), 1);
    let media = &fact.media[0];
    assert!(
        media
            .url
            .as_deref()
            .unwrap()
            .starts_with("https://scontent.xx.fbcdn.net/v/t1.")
    );
    assert_eq!(
        (&media.mime, media.size, &media.name, &media.file_id),
        (&None, None, &None, &None)
    );
}

#[test]
fn one_message_with_three_images() {
    let fact = received("04_images_album");
    let urls: Vec<&str> = fact
        .media
        .iter()
        .map(|media| media.url.as_deref().unwrap())
        .collect();
    assert_eq!(urls.len(), 3);
    for (url, name) in urls
        .iter()
        .zip(["441111_n.jpg", "441112_n.jpg", "441113_n.jpg"])
    {
        assert!(url.contains(name));
    }
}

#[test]
fn audio_video_and_file() {
    let facts = facts("05_audio_video_file");
    assert_eq!(kinds(&facts), ["message.received"; 3]);
    let contents = [ContentKind::Audio, ContentKind::Video, ContentKind::File];
    for ((fact, content), number) in facts.iter().zip(contents).zip(5..) {
        assert_inbound(fact);
        assert_eq!(fact.content, Some(content));
        assert_eq!(fact.message_id, mid(number));
        assert_eq!(fact.media.len(), 1);
        assert_eq!(fact.media[0].kind, Some(content));
    }
    assert_eq!(facts[2].media[0].name.as_deref(), Some("file.pdf"));
}

#[test]
fn stickers_in_both_shapes() {
    for name in ["06_sticker", "07_sticker_transition"] {
        let fact = received(name);
        assert_eq!(fact.content, Some(ContentKind::Sticker));
        assert_eq!(fact.detail["sticker_id"], "369239263222822");
        assert_eq!(fact.media.len(), 1);
        assert_eq!(fact.media[0].kind, Some(ContentKind::Sticker));
    }
}

#[test]
fn location() {
    let fact = received("08_location");
    assert_eq!(fact.content, Some(ContentKind::Location));
    assert_eq!(fact.detail["location"]["lat"], json!(52.520008));
    assert_eq!(fact.detail["location"]["lon"], json!(13.404954));
    assert!(fact.media.is_empty());
}

#[test]
fn a_link_preview_is_no_medium() {
    let fact = received("09_fallback_link");
    assert_eq!(fact.content, Some(ContentKind::Text));
    assert_eq!(
        fact.text.as_deref(),
        Some("this one: https://shop.example/teapot")
    );
    assert!(fact.media.is_empty());
    let link = json!({"url": "https://shop.example/teapot", "title": "Blue teapot | Shop Example"});
    assert_eq!(fact.detail["link"], link);
}

#[test]
fn shared_things() {
    let facts = facts("10_shared_post_and_reel");
    assert_eq!(kinds(&facts), ["message.received"; 3]);
    assert_eq!(facts[0].content, Some(ContentKind::Share));
    assert_eq!(facts[0].detail["share"]["id"], "122093456789012345");
    assert_eq!(facts[1].content, Some(ContentKind::Share));
    assert_eq!(facts[1].detail["share"]["type"], "ig_reel");
    assert_eq!(facts[1].detail["share"]["id"], "17991234567890123");
    assert_eq!(facts[2].content, Some(ContentKind::Unsupported));
    assert_eq!(facts[2].detail["share"]["type"], "fallback");
    assert_eq!(facts[2].message_id, mid(14));
    for fact in &facts {
        assert!(fact.media.is_empty() && fact.text.is_none());
    }
}

#[test]
fn quick_reply() {
    let fact = received("11_quick_reply");
    assert_eq!(fact.text.as_deref(), Some("Express"));
    assert_eq!(fact.action.as_deref(), Some("SHIP_EXPRESS"));
}

#[test]
fn reply() {
    let fact = received("12_reply_to");
    assert_eq!(fact.reply_to, mid(1));
    assert_eq!(fact.detail["reply_to_self"], true);
}

#[test]
fn postbacks() {
    let facts = facts("13_postbacks");
    let expected = [
        "message.received",
        "conversation.referral",
        "message.received",
    ];
    assert_eq!(kinds(&facts), expected);
    facts.iter().for_each(assert_inbound);
    assert_eq!(facts[0].content, Some(ContentKind::Action));
    assert_eq!(facts[0].message_id, mid(17));
    assert_eq!(facts[0].text.as_deref(), Some("Get Started"));
    assert_eq!(facts[0].action.as_deref(), Some("GET_STARTED"));
    assert_eq!(facts[1].detail["referral"]["ref"], "qr-counter_7");
    assert_eq!(facts[1].detail["referral"]["source"], "SHORTLINK");
    assert_eq!(facts[2].content, Some(ContentKind::Action));
    assert_eq!(facts[2].action.as_deref(), Some("TRACK"));
    assert!(
        facts[2]
            .message_id
            .as_deref()
            .is_some_and(|id| id.starts_with("hub-"))
    );
    assert_eq!(
        facts,
        self::facts("13_postbacks"),
        "the synthetic id is stable"
    );
    assert_ne!(facts[0].dedup, facts[2].dedup);
}

#[test]
fn referrals() {
    let facts = facts("14_referrals");
    assert_eq!(kinds(&facts), ["conversation.referral"; 2]);
    facts.iter().for_each(assert_inbound);
    assert_eq!(facts[0].ts_ms, Some(1_791_201_600_140));
    assert_eq!(facts[0].detail["referral"]["ref"], "newsletter=oct");
    assert_eq!(facts[0].message_id, None);
    assert_eq!(facts[1].ts_ms, Some(1_791_201_955_000));
    assert_eq!(facts[1].detail["referral"]["type"], "LEAD_COMPLETE");
    assert_eq!(facts[1].detail["lead"][0]["answer"], "Köln");
}

#[test]
fn advertisement() {
    let facts = facts("15_ctm_ad_message");
    assert_eq!(kinds(&facts), ["message.received", "conversation.referral"]);
    assert_eq!(facts[0].text.as_deref(), Some("Tell me more"));
    for fact in &facts {
        assert_inbound(fact);
        assert_eq!(fact.detail["referral"]["ad_id"], "120212345678901234");
        assert_eq!(fact.detail["referral"]["title"], "Autumn teapots");
        assert!(fact.media.is_empty());
    }
}

#[test]
fn echo_of_our_own_send() {
    let fact = only("16_echo_own_app", FactKind::MessageEchoed);
    assert_outbound(&fact);
    assert_eq!(fact.message_id, mid(19));
    assert_eq!(fact.client_ref.as_deref(), Some("hub:out-000123"));
    assert_eq!(fact.detail["app_id"], "845120034567890");
    assert_eq!(fact.detail["own_app"], true);
    assert_eq!(fact.text.as_deref(), Some("Yes, three left."));
}

#[test]
fn echoes_of_somebody_else() {
    let facts = facts("17_echo_human_inbox");
    assert_eq!(kinds(&facts), ["message.echoed"; 3]);
    for (fact, number) in facts.iter().zip(20..) {
        assert_outbound(fact);
        assert_eq!(fact.message_id, mid(number));
        assert_eq!(fact.detail["own_app"], false);
        assert_eq!(fact.client_ref, None);
    }
    assert_eq!(facts[0].text.as_deref(), Some("Reserved one for you."));
    assert_eq!(facts[1].content, Some(ContentKind::Image));
    assert_eq!(facts[1].media.len(), 1);
    assert_eq!(facts[2].content, Some(ContentKind::Template));
    assert!(facts[2].media.is_empty() && facts[2].detail.get("app_id").is_none());
    assert_eq!(facts[2].detail["template"]["template_type"], "button");
}

#[test]
fn deliveries() {
    let facts = facts("18_deliveries");
    assert_eq!(kinds(&facts), ["receipt.delivered"; 2]);
    facts.iter().for_each(assert_inbound);
    assert_eq!(facts[0].targets, [mid(19).unwrap(), mid(20).unwrap()]);
    assert_eq!(facts[0].watermark_ms, Some(1_791_201_600_178));
    assert_eq!(facts[0].ts_ms, Some(1_791_201_600_205));
    assert!(facts[1].targets.is_empty());
    assert_eq!(facts[1].watermark_ms, Some(1_791_201_600_178));
    assert_eq!(facts[1].ts_ms, Some(1_791_201_600_178));
}

#[test]
fn read() {
    let fact = only("19_read", FactKind::ReceiptRead);
    assert_inbound(&fact);
    assert_eq!(fact.watermark_ms, Some(1_791_201_600_178));
    assert_eq!(
        (&fact.message_id, &fact.target, fact.targets.len()),
        (&None, &None, 0)
    );
}

#[test]
fn reactions() {
    let facts = facts("20_reactions");
    assert_eq!(
        kinds(&facts),
        ["reaction.added", "reaction.added", "reaction.removed"]
    );
    for (fact, emoji) in facts.iter().zip([Some("❤️"), Some("🫖"), None]) {
        assert_inbound(fact);
        assert_eq!(fact.target, mid(20));
        assert_eq!(fact.emoji.as_deref(), emoji);
    }
}

#[test]
fn edit_and_deletion() {
    let facts = facts("21_edit_and_unsend");
    assert_eq!(kinds(&facts), ["message.edited", "message.deleted"]);
    facts.iter().for_each(assert_inbound);
    assert_eq!((&facts[0].message_id, &facts[0].target), (&mid(1), &mid(1)));
    let text = "Hi, is the blue teapot (large) still in stock?";
    assert_eq!(facts[0].text.as_deref(), Some(text));
    assert_eq!(facts[0].ts_ms, Some(1_791_201_600_300));
    assert_eq!(facts[0].detail["num_edit"], 1);
    assert!(facts[0].dedup.ends_with(":1"));
    assert_eq!(
        (&facts[1].message_id, &facts[1].target),
        (&mid(16), &mid(16))
    );
    assert_eq!((&facts[1].text, facts[1].media.len()), (&None, 0));
    let number = String::from_utf8(fixture("facebook/21_edit_and_unsend.json")).unwrap();
    let number = number.replace(r#""num_edit":"1""#, r#""num_edit":1"#);
    let messenger = adapter(Platform::Facebook).unwrap();
    assert_eq!(
        messenger
            .translate(&app(), None, number.as_bytes())
            .unwrap()[0],
        facts[0]
    );
}

#[test]
fn standby() {
    let facts = facts("22_standby");
    assert_eq!(kinds(&facts), ["message.received"; 2]);
    for (fact, number) in facts.iter().zip(23..) {
        assert_eq!(fact.detail["standby"], true);
        assert_eq!(fact.message_id, mid(number));
        assert_eq!(fact.direction, Some(Direction::Inbound));
        assert_eq!(
            fact.conversation.as_deref(),
            Some("104857600112233:7214365098123402")
        );
    }
    assert_eq!(facts[0].text.as_deref(), Some("hello?"));
    assert_eq!(facts[1].content, Some(ContentKind::Action));
    assert_eq!(
        (facts[1].text.as_deref(), &facts[1].action),
        (Some("Menu"), &None)
    );
}

#[test]
fn handovers() {
    let facts = facts("23_handovers");
    assert_eq!(kinds(&facts), ["conversation.handover"; 2]);
    facts.iter().for_each(assert_inbound);
    let control = |fact: &Fact| fact.detail["handover"].clone();
    assert_eq!(facts[0].detail["owned_by_us"], true);
    assert_eq!(control(&facts[0])["previous_owner_app_id"], json!(null));
    assert_eq!(control(&facts[0])["new_owner_app_id"], "845120034567890");
    assert_eq!(facts[1].detail["owned_by_us"], false);
    assert_eq!(
        control(&facts[1])["previous_owner_app_id"],
        "845120034567890"
    );
    assert_eq!(control(&facts[1])["new_owner_app_id"], "263902037430900");
}

#[test]
fn a_mixed_batch() {
    let facts = facts("24_batch_mixed");
    let expected = [
        "message.received",
        "receipt.read",
        "message.received",
        "ignored",
        "unknown",
    ];
    assert_eq!(kinds(&facts), expected);
    assert_eq!(facts[0].message_id, mid(25));
    assert_eq!(facts[2].message_id, mid(26));
    assert_eq!(facts[2].account.as_deref(), Some("104857600998877"));
    assert_eq!(
        facts[2].conversation.as_deref(),
        Some("104857600998877:8812004455667701")
    );
    assert_eq!(facts[3].detail["what"], "feed");
    assert_eq!(facts[4].detail["raw"]["something_new"], json!({"a": 1}));
    assert_eq!(facts[4].account.as_deref(), Some(PAGE));
    let messenger = adapter(Platform::Facebook).unwrap();
    let route = messenger.route(&app(), &fixture("facebook/24_batch_mixed.json"));
    assert_eq!(route, [PAGE, "104857600998877"]);
}

#[test]
fn the_dashboard_test_is_about_nobody() {
    let fact = only("25_dashboard_test", FactKind::Ignored);
    assert_eq!(
        (&fact.account, &fact.conversation, &fact.thread),
        (&None, &None, &None)
    );
    let messenger = adapter(Platform::Facebook).unwrap();
    assert!(
        messenger
            .route(&app(), &fixture("facebook/25_dashboard_test.json"))
            .is_empty()
    );
}
