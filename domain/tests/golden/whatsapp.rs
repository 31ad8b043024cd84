//! WhatsApp's payloads, note by note.

use hub_domain::platform::fact::{ContentKind, Direction, Fact, FactKind};
use hub_domain::platform::{App, Platform, adapter};
use serde_json::{Value, json};

use crate::{app, fixture, kinds};

const NUMBER: &str = "205612348765432";
const BUSINESS: &str = "102930475610293";
const PHONE: &str = "491701234567";
const USER: &str = "DE.4Kq9Zr71Lm20Xc83Vb";
const CONVERSATION: &str = "205612348765432:DE.4Kq9Zr71Lm20Xc83Vb";
const GROUP: &str = "Y2FwaV9ncm91cDoyMDU2MTIzNDg3NjU0MzI6MTIwMzYzNDA0Njk0MjMzODIw";

fn facts(name: &str) -> Vec<Fact> {
    crate::facts(&format!("whatsapp/{name}.json"))
}

fn only(name: &str, kind: FactKind) -> Fact {
    crate::only(&format!("whatsapp/{name}.json"), kind)
}

/// The id of a message a customer wrote.
fn theirs(number: u32) -> Option<String> {
    Some(format!(
        "wamid.HBgMNDkxNzAxMjM0NTY3FQIAEhgUM0E{number:04}RjQ5RkE3MkMwREI5QjUA"
    ))
}

/// The id of a message we wrote.
fn ours(number: u32) -> Option<String> {
    Some(format!(
        "wamid.HBgMNDkxNzAxMjM0NTY3FQIAERgSO{number:04}UxM0Y3RDlBQUYwMjFDAA=="
    ))
}

fn assert_inbound(fact: &Fact) {
    assert_eq!(fact.account.as_deref(), Some(NUMBER));
    assert_eq!(fact.sender.as_deref(), Some(PHONE));
    assert_eq!(fact.sender_name.as_deref(), Some("Mira Q"));
    assert_eq!(fact.thread.as_deref(), Some(USER));
    assert_eq!(fact.conversation.as_deref(), Some(CONVERSATION));
    assert_eq!(fact.direction, Some(Direction::Inbound));
}

#[test]
fn every_signature_and_size_in_the_index() {
    let app = App {
        client_secret: "7c4a8d09ca3762af61e59520943dc264".into(),
        ..App::default()
    };
    crate::signatures(Platform::Whatsapp, &[app]);
}

#[test]
fn text() {
    let fact = only("01_text", FactKind::MessageReceived);
    assert_inbound(&fact);
    assert_eq!(fact.message_id, theirs(1));
    assert_eq!(fact.ts_ms, Some(1_791_208_800_000));
    assert_eq!(fact.content, Some(ContentKind::Text));
    let text = "Guten Tag! Haben Sie die blaue Kanne? ☕";
    assert_eq!(fact.text.as_deref(), Some(text));
    assert_eq!(fact.aliases, [PHONE]);
}

#[test]
fn somebody_without_a_number_is_in_the_same_conversation() {
    let fact = only("02_text_username_only", FactKind::MessageReceived);
    assert_eq!(fact.conversation.as_deref(), Some(CONVERSATION));
    assert_eq!(fact.sender.as_deref(), Some(USER));
    assert_eq!(fact.sender_name.as_deref(), Some("Mira Q"));
    assert_eq!(fact.aliases, ["DE.ENT.77Hd02Kf93Ls"]);
}

#[test]
fn somebody_known_by_number_only() {
    let fact = only("03_text_legacy_no_bsuid", FactKind::MessageReceived);
    assert_eq!(fact.thread.as_deref(), Some(PHONE));
    assert_eq!(fact.sender.as_deref(), Some(PHONE));
    assert!(fact.aliases.is_empty());
}

#[test]
fn replies_and_forwards() {
    let facts = facts("04_reply_and_forwards");
    assert_eq!(kinds(&facts), ["message.received"; 4]);
    facts.iter().for_each(assert_inbound);
    let replies: Vec<_> = facts.iter().map(|fact| fact.reply_to.clone()).collect();
    assert_eq!(replies, [ours(1), None, None, ours(2)]);
    assert_eq!(facts[1].detail["forwarded"], true);
    assert_eq!(facts[2].detail["frequently_forwarded"], true);
    let product = &facts[3].detail["referred_product"]["product_retailer_id"];
    assert_eq!(product, "pot-blue-1");
}

#[test]
fn an_image_is_kept_by_its_id() {
    let fact = only("05_image_caption", FactKind::MessageReceived);
    assert_inbound(&fact);
    assert_eq!(fact.content, Some(ContentKind::Image));
    assert_eq!(fact.text.as_deref(), Some("like this?"));
    assert_eq!(fact.media.len(), 1);
    assert_eq!(fact.media[0].file_id.as_deref(), Some("1479537139650973"));
    assert_eq!(fact.media[0].mime.as_deref(), Some("image/jpeg"));
    assert_eq!(fact.media[0].url, None);
}

#[test]
fn media_of_all_kinds() {
    let facts = facts("06_media_kinds");
    assert_eq!(kinds(&facts), ["message.received"; 5]);
    let contents = [
        ContentKind::Voice,
        ContentKind::Audio,
        ContentKind::Video,
        ContentKind::File,
        ContentKind::Sticker,
    ];
    for (fact, content) in facts.iter().zip(contents) {
        assert_inbound(fact);
        assert_eq!(fact.content, Some(content));
        assert_eq!(fact.media.len(), 1);
        assert!(fact.media[0].file_id.is_some() && fact.media[0].unique_id.is_some());
    }
    let name = facts[3].media[0].name.as_deref();
    assert_eq!(name, Some("Rechnung Nr. 7 – Köln.pdf"));
    assert_eq!(facts[3].text.as_deref(), Some("Rechnung"));
    assert_eq!(facts[4].detail["animated"], true);
}

#[test]
fn locations() {
    let facts = facts("07_location");
    assert_eq!(kinds(&facts), ["message.received"; 2]);
    let place = |fact: &Fact| fact.detail["location"].clone();
    assert_eq!(place(&facts[0])["lat"], json!(50.941278));
    assert_eq!(place(&facts[0])["title"], "Kölner Dom");
    assert_eq!(place(&facts[1])["title"], Value::Null);
    assert_eq!(facts[1].content, Some(ContentKind::Location));
}

#[test]
fn contact_cards() {
    let facts = facts("08_contacts");
    let expected = [
        "message.received",
        "message.received",
        "contact.identity_changed",
    ];
    assert_eq!(kinds(&facts), expected);
    facts.iter().for_each(assert_inbound);
    assert_eq!(facts[0].content, Some(ContentKind::Contact));
    assert_eq!(facts[0].detail["contacts"].as_array().unwrap().len(), 2);
    assert_eq!(facts[2].detail["phone"], PHONE);
    assert_eq!(facts[2].detail["user_id"], USER);
}

#[test]
fn reactions() {
    let facts = facts("09_reactions");
    let expected = ["reaction.added", "reaction.removed", "reaction.removed"];
    assert_eq!(kinds(&facts), expected);
    for (fact, number) in facts.iter().zip(18..) {
        assert_inbound(fact);
        assert_eq!(fact.target, ours(1));
        assert_eq!(fact.message_id, theirs(number));
    }
    assert_eq!(facts[0].emoji.as_deref(), Some("❤️"));
    assert_eq!((&facts[1].emoji, &facts[2].emoji), (&None, &None));
}

#[test]
fn pressed_buttons() {
    let facts = facts("10_interactive_replies");
    assert_eq!(kinds(&facts), ["message.received"; 4]);
    let texts = ["Confirm", "Express", "Sent", "Stop promotions"];
    for (fact, text) in facts.iter().zip(texts) {
        assert_inbound(fact);
        assert_eq!(fact.content, Some(ContentKind::Action));
        assert_eq!(fact.text.as_deref(), Some(text));
    }
    assert_eq!(facts[0].action.as_deref(), Some("confirm-77"));
    assert_eq!(facts[0].reply_to, ours(3));
    assert_eq!(facts[1].action.as_deref(), Some("ship-express"));
    assert_eq!(facts[2].detail["form"]["notes"], "Great \"service\"");
    assert_eq!(facts[3].action.as_deref(), Some("STOP_PROMO"));
}

#[test]
fn order() {
    let fact = only("11_order", FactKind::MessageReceived);
    assert_inbound(&fact);
    assert_eq!(fact.content, Some(ContentKind::Order));
    assert_eq!(fact.text.as_deref(), Some("Please gift wrap"));
    let item = &fact.detail["order"]["product_items"][0];
    assert_eq!(item["product_retailer_id"], "pot-blue-1");
    assert_eq!(
        (&item["quantity"], &item["item_price"]),
        (&json!(2), &json!(34.5))
    );
}

#[test]
fn advertisement() {
    let facts = facts("12_ctwa_referral");
    assert_eq!(kinds(&facts), ["message.received", "conversation.referral"]);
    facts.iter().for_each(assert_inbound);
    assert_eq!(
        facts[1].detail["referral"]["source_id"],
        "120226305854810726"
    );
    assert_eq!(facts[1].detail["referral"]["ctwa_clid"], "Aff-n8ZTODi");
}

#[test]
fn what_cannot_be_shown_is_told() {
    let facts = facts("13_unsupported");
    assert_eq!(kinds(&facts), ["message.received"; 3]);
    facts.iter().for_each(assert_inbound);
    for (fact, code) in facts.iter().zip([131_051, 131_060, 131_052]) {
        assert_eq!(fact.detail["errors"][0]["code"], code);
    }
    assert_eq!(facts[0].content, Some(ContentKind::Unsupported));
    assert_eq!(facts[0].detail["raw"]["type"], "poll");
    assert_eq!(facts[1].content, Some(ContentKind::Unsupported));
    assert_eq!(facts[2].content, Some(ContentKind::Image));
    assert_eq!(facts[2].media[0].available, Some(false));
}

#[test]
fn changes_of_identity_are_no_messages() {
    let facts = facts("14_system");
    assert_eq!(kinds(&facts), ["contact.identity_changed"; 3]);
    assert!(
        facts
            .iter()
            .all(|fact| fact.account.as_deref() == Some(NUMBER))
    );
    assert_eq!(facts[0].detail["system"]["wa_id"], "491709999999");
    assert_eq!(facts[1].detail["system"]["user_id"], "DE.9Zz8Yy7Xx6");
    assert_eq!((&facts[1].thread, &facts[1].sender), (&None, &None));
    assert_eq!(facts[2].detail["identity"]["hash"], "DF2lS5v2W6x=");
    // Said by number, read by what another part of the body says about it.
    assert_eq!(facts[0].conversation.as_deref(), Some(CONVERSATION));
}

#[test]
fn edit_and_deletion() {
    let facts = facts("15_edit_and_revoke");
    assert_eq!(kinds(&facts), ["message.edited", "message.deleted"]);
    facts.iter().for_each(assert_inbound);
    assert_eq!(facts[0].target, theirs(1));
    assert_eq!(
        facts[0].text.as_deref(),
        Some("Haben Sie die GROSSE blaue Kanne?")
    );
    assert_ne!(facts[0].message_id, facts[0].target);
    assert_eq!(
        (&facts[1].message_id, &facts[1].target),
        (&theirs(34), &theirs(8))
    );
}

#[test]
fn statuses_in_any_order() {
    let facts = facts("16_statuses");
    let expected = [
        "receipt.read",
        "receipt.sent",
        "receipt.delivered",
        "receipt.played",
    ];
    assert_eq!(kinds(&facts), expected);
    facts.iter().for_each(assert_inbound);
    assert!(facts[..3].iter().all(|fact| fact.target == ours(1)));
    assert_eq!(facts[1].client_ref.as_deref(), Some("hub:out-000123"));
    assert_eq!(facts[1].detail["pricing"]["category"], "utility");
    assert_eq!(facts[3].target, ours(9));
    assert_eq!(facts[0].ts_ms, Some(1_791_208_970_000));
}

#[test]
fn a_send_that_failed_after_all() {
    let facts = facts("17_status_failed");
    assert_eq!(kinds(&facts), ["receipt.failed", "account.status_changed"]);
    assert_eq!(facts[0].target, ours(2));
    assert_eq!(facts[0].thread.as_deref(), Some(PHONE));
    assert_eq!(facts[0].detail["outside_window"], true);
    let reason = facts[0].detail["reason"].as_str().unwrap();
    assert!(
        reason.starts_with("WhatsApp error 131047: Message failed"),
        "{reason}"
    );
    assert_eq!(facts[1].account.as_deref(), Some(NUMBER));
    assert_eq!(facts[1].detail["errors"][0]["code"], 130_429);
    assert_eq!(facts[1].thread, None);
}

#[test]
fn a_status_of_somebody_without_a_number() {
    let fact = only("18_status_to_bsuid", FactKind::ReceiptDelivered);
    assert_eq!(fact.target, ours(3));
    assert_eq!(fact.conversation.as_deref(), Some(CONVERSATION));
    assert_eq!(fact.sender.as_deref(), Some(USER));
}

#[test]
fn a_group_is_the_conversation() {
    let facts = facts("19_group");
    assert_eq!(kinds(&facts), ["message.received", "receipt.read"]);
    for fact in &facts {
        assert_eq!(fact.thread.as_deref(), Some(GROUP));
        assert_eq!(
            fact.conversation.as_deref(),
            Some(&*format!("{NUMBER}:{GROUP}"))
        );
        assert_eq!(fact.sender.as_deref(), Some(PHONE));
    }
    assert_eq!(facts[1].detail["participant"], PHONE);
}

#[test]
fn what_was_typed_in_the_app() {
    let facts = facts("20_app_echoes");
    assert_eq!(
        kinds(&facts),
        ["message.echoed", "message.edited", "message.deleted"]
    );
    for fact in &facts {
        assert_eq!(fact.direction, Some(Direction::Outbound));
        assert_eq!(fact.conversation.as_deref(), Some(CONVERSATION));
        assert_eq!(fact.sender.as_deref(), Some(NUMBER));
    }
    assert_eq!(facts[0].message_id, theirs(36));
    assert_eq!(facts[0].text.as_deref(), Some("Typed on the phone"));
    assert_eq!(
        (&facts[1].target, &facts[2].target),
        (&theirs(36), &theirs(36))
    );
    assert_eq!(facts[1].text.as_deref(), Some("Typed on my phone"));
}

#[test]
fn history() {
    let facts = facts("21_history");
    let expected = ["message.received", "ignored", "message.echoed", "ignored"];
    assert_eq!(kinds(&facts), expected);
    for fact in [&facts[0], &facts[2]] {
        assert_eq!(fact.detail["history"], true);
        assert_eq!(fact.thread.as_deref(), Some(PHONE));
    }
    assert_eq!(facts[0].text.as_deref(), Some("last week"));
    assert_eq!(facts[2].message_id, theirs(41));
    assert_eq!(facts[2].content, Some(ContentKind::Image));
    assert_eq!(facts[2].text.as_deref(), Some("Menu"));
}

#[test]
fn templates() {
    let facts = facts("22_template_events");
    assert_eq!(kinds(&facts), ["template.status_changed"; 3]);
    let events = ["APPROVED", "REJECTED", "PAUSED"];
    for (fact, event) in facts.iter().zip(events) {
        assert_eq!(fact.account.as_deref(), Some(BUSINESS));
        assert_eq!(fact.thread, None);
        assert_eq!(fact.detail["template"]["event"], event);
    }
    let id = &facts[0].detail["template"]["message_template_id"];
    assert_eq!(id, "1689556908129832");
    assert_eq!(facts[2].detail["template"]["reason"], Value::Null);
}

#[test]
fn account_events() {
    let facts = facts("23_account_events");
    assert_eq!(kinds(&facts), ["account.status_changed"; 3]);
    let accounts: Vec<_> = facts
        .iter()
        .map(|it| it.account.as_deref().unwrap())
        .collect();
    assert_eq!(accounts, [BUSINESS, BUSINESS, "102930475619999"]);
    assert_eq!(facts[0].ts_ms, Some(1_791_209_050_000));
    assert_eq!(facts[0].detail["status"]["event"], "DISABLED_UPDATE");
    assert_eq!(
        facts[2].detail["status"]["event"],
        "PARTNER_APP_UNINSTALLED"
    );
}

#[test]
fn events_about_people() {
    let facts = facts("24_user_events");
    let expected = [
        "contact.identity_changed",
        "optin.changed",
        "conversation.handover",
        "message.received",
    ];
    assert_eq!(kinds(&facts), expected);
    for fact in &facts {
        assert_eq!(fact.account.as_deref(), Some(NUMBER));
        assert_eq!(fact.conversation.as_deref(), Some(CONVERSATION));
    }
    let change = &facts[0].detail["user_id_update"]["user_id"];
    assert_eq!(change["current"], "DE.9Zz8Yy7Xx6");
    assert_eq!(facts[1].ts_ms, Some(1_791_209_061_000));
    assert_eq!(facts[1].detail["user_preferences"]["value"], "stop");
    assert_eq!(facts[2].detail["event"], "control_passed");
    assert_eq!(facts[2].detail["handover"]["metadata"], "needs a person");
    assert_eq!(facts[3].detail["standby"], true);
    assert_eq!(facts[3].text.as_deref(), Some("to the AI agent"));
}

#[test]
fn a_mixed_batch() {
    let facts = facts("25_batch_mixed");
    let expected = [
        "message.received",
        "message.received",
        "receipt.delivered",
        "ignored",
        "message.received",
    ];
    assert_eq!(kinds(&facts), expected);
    assert_inbound(&facts[0]);
    assert_eq!(facts[1].sender_name.as_deref(), Some("Tom"));
    assert_eq!(facts[1].thread.as_deref(), Some("GB.55aa"));
    assert_eq!(facts[3].detail["what"], "some_future_field");
    assert_eq!(facts[4].account.as_deref(), Some("205612348761111"));
    assert_eq!(facts[4].content, Some(ContentKind::Unsupported));
    assert_eq!(facts[4].detail["raw"], json!({"a": 1}));
    assert_eq!(facts[4].detail["message_type"], "hologram");
    let raw = fixture("whatsapp/25_batch_mixed.json");
    let route = adapter(Platform::Whatsapp).unwrap().route(&app(), &raw);
    assert_eq!(route, [NUMBER, "205612348761111"]);
}
