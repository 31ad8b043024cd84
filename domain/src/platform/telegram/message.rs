//! Messages: new and edited, of people, channels and business accounts; and the service messages
//! that tell what happened to a chat.

use serde_json::{Map, Value, json};

use super::content;
use super::thread::Thread;
use super::update::{Update, display_name};
use crate::platform::fact::{ContentKind, Direction, Fact, FactKind};
use crate::platform::wire;

/// Service messages about the chat itself.
const CHAT_CHANGES: [&str; 21] = [
    "migrate_to_chat_id",
    "migrate_from_chat_id",
    "new_chat_members",
    "left_chat_member",
    "new_chat_title",
    "new_chat_photo",
    "delete_chat_photo",
    "group_chat_created",
    "supergroup_chat_created",
    "channel_chat_created",
    "pinned_message",
    "message_auto_delete_timer_changed",
    "chat_background_set",
    "forum_topic_created",
    "forum_topic_edited",
    "forum_topic_closed",
    "forum_topic_reopened",
    "general_forum_topic_hidden",
    "general_forum_topic_unhidden",
    "chat_owner_changed",
    "chat_owner_left",
];

/// Service messages that concern nobody who reads the conversation.
const UNINTERESTING: [&str; 10] = [
    "boost_added",
    "write_access_allowed",
    "connected_website",
    "passport_data",
    "proximity_alert_triggered",
    "paid_message_price_changed",
    "direct_message_price_changed",
    "successful_payment",
    "refunded_payment",
    "giveaway_prize",
];

/// The same, whole families of them.
const UNINTERESTING_FAMILIES: [&str; 4] = [
    "video_chat_",
    "voice_chat_",
    "suggested_post_",
    "checklist_tasks_",
];

/// Service messages that are a person's answer to a button of ours.
const ANSWERS: [&str; 3] = ["web_app_data", "users_shared", "chat_shared"];

/// Reads a message that came under this update key. `None` when it says no chat or no id.
pub fn read(update: &Update<'_>, key: &str, message: &Value) -> Option<Vec<Fact>> {
    let thread = Thread::of(message)?;
    let id = wire::id(&message["message_id"])?;
    let outbound = is_outbound(update, key, message);
    let edited = key.starts_with("edited_");
    let kind = match (edited, outbound) {
        (true, _) => FactKind::MessageEdited,
        (false, true) => FactKind::MessageEchoed,
        (false, false) => FactKind::MessageReceived,
    };
    let mut fact = update.fact(kind, Some(&thread));
    fact.direction = Some(if outbound {
        Direction::Outbound
    } else {
        Direction::Inbound
    });
    fact.message_id = Some(id.clone());
    fact.dedup = id.clone();
    fact.ts_ms = wire::seconds_ms(&message["date"]);
    set_sender(message, &mut fact);
    let chat = &message["chat"];
    fact.thread_name = wire::filled(&chat["title"]);
    if outbound {
        fact.thread_name = fact.thread_name.or_else(|| display_name(chat));
    }
    let known = content::read(message, &mut fact);
    if !known && let Some(fact) = service(message, &fact) {
        return Some(vec![fact]);
    }
    if !known {
        fact.content = Some(ContentKind::Unsupported);
    }
    context(message, &mut fact);
    if edited {
        finish_edit(message, &mut fact, id);
        return Some(vec![fact]);
    }
    Some(with_command(fact))
}

/// Written by our side: by the bot itself, or through a business account (in whose private chats
/// the chat's id is the other person's).
fn is_outbound(update: &Update<'_>, key: &str, message: &Value) -> bool {
    let from = wire::id(&message["from"]["id"]);
    let by_bot = from.is_some() && from.as_deref() == update.bot;
    let chat = &message["chat"];
    let by_owner = key.ends_with("business_message")
        && chat["type"] == "private"
        && from.is_some()
        && from != wire::id(&chat["id"]);
    by_bot || by_owner || message["sender_business_bot"].is_object()
}

/// Who speaks: a chat that speaks as itself (anonymous administrators, channels) before the person
/// or stand-in behind it.
fn set_sender(message: &Value, fact: &mut Fact) {
    let sides = ["sender_chat", "from", "chat"];
    let Some(side) = sides
        .iter()
        .find(|side| wire::id(&message[**side]["id"]).is_some())
    else {
        return;
    };
    fact.sender = wire::id(&message[*side]["id"]);
    fact.sender_name = display_name(&message[*side]);
}

/// What surrounds a message: what it answers, where it comes from, what it belongs to.
fn context(message: &Value, fact: &mut Fact) {
    let answered = &message["reply_to_message"];
    let answered_id = wire::id(&answered["message_id"]);
    // In a topic every message that answers nothing "answers" the message that opened it.
    let topic_root = message["is_topic_message"] == Value::Bool(true)
        && (!answered["forum_topic_created"].is_null()
            || answered_id == wire::id(&message["message_thread_id"]));
    fact.reply_to = answered_id.filter(|_| !topic_root);
    let detail = &mut fact.detail;
    if message["quote"].is_object() {
        let quote = &message["quote"];
        let kept = json!({ "text": quote["text"], "position": quote["position"] });
        detail.insert("quote".into(), kept);
    }
    wire::keep_raw(
        detail,
        "external_reply",
        &message["external_reply"]["origin"],
    );
    wire::keep(
        detail,
        "reply_to_story",
        wire::id(&message["reply_to_story"]["id"]),
    );
    if let Some(origin) = forward(message) {
        detail.insert("forwarded".into(), true.into());
        detail.insert("forward".into(), Value::Object(origin));
    }
    wire::keep(detail, "album", wire::id(&message["media_group_id"]));
    wire::keep(
        detail,
        "author_signature",
        wire::filled(&message["author_signature"]),
    );
    wire::keep(detail, "via_bot", wire::id(&message["via_bot"]["id"]));
    wire::keep(
        detail,
        "automatic_forward",
        message["is_automatic_forward"].as_bool(),
    );
    wire::keep(detail, "effect", wire::id(&message["effect_id"]));
    wire::keep(
        detail,
        "business_connection",
        wire::id(&message["business_connection_id"]),
    );
    if message["sender_business_bot"].is_object() {
        detail.insert("own_app".into(), true.into());
    }
}

/// The origin of a forwarded message; the older keys say the same and may stand alone.
fn forward(message: &Value) -> Option<Map<String, Value>> {
    let origin = &message["forward_origin"];
    let mut kept = Map::new();
    let parties = [
        ("user", &origin["sender_user"]),
        ("chat", &origin["sender_chat"]),
        ("channel", &origin["chat"]),
        ("user", &message["forward_from"]),
        ("chat", &message["forward_from_chat"]),
    ];
    let found = parties.into_iter().find(|(_, party)| party.is_object());
    let hidden = wire::filled(&origin["sender_user_name"])
        .or_else(|| wire::filled(&message["forward_sender_name"]));
    if found.is_none() && hidden.is_none() && !origin.is_object() {
        return None;
    }
    let kind = found.map_or("hidden_user", |(kind, _)| kind);
    kept.insert(
        "origin".into(),
        origin["type"].as_str().unwrap_or(kind).into(),
    );
    wire::keep(
        &mut kept,
        "id",
        found.and_then(|(_, party)| wire::id(&party["id"])),
    );
    wire::keep(
        &mut kept,
        "name",
        hidden.or_else(|| found.and_then(|(_, p)| display_name(p))),
    );
    let ts_ms =
        wire::seconds_ms(&origin["date"]).or_else(|| wire::seconds_ms(&message["forward_date"]));
    wire::keep(&mut kept, "ts_ms", ts_ms);
    Some(kept)
}

fn finish_edit(message: &Value, fact: &mut Fact, id: String) {
    let edited_ms = wire::seconds_ms(&message["edit_date"]);
    wire::keep(&mut fact.detail, "sent_ms", fact.ts_ms);
    fact.ts_ms = edited_ms.or(fact.ts_ms);
    let moved = message["location"].is_object() && message["venue"].is_null();
    if moved {
        fact.detail.insert("live".into(), true.into());
    }
    // Two edits may fall into one second.
    let content = json!([
        fact.text,
        fact.detail.get("location"),
        fact.detail.get("entities")
    ]);
    let edited_ms = edited_ms.unwrap_or_default();
    fact.dedup = format!("{id}:{edited_ms}:{}", wire::content_digest(&content));
    fact.target = Some(id);
}

/// The message, with the command it is; and for the deep link somebody came by, a referral.
fn with_command(mut message: Fact) -> Vec<Fact> {
    let text = message.text.clone().unwrap_or_default();
    let Some((command, payload)) = command(&text) else {
        return vec![message];
    };
    message.detail.insert("command".into(), command.into());
    if payload.is_empty() {
        return vec![message];
    }
    message.action = Some(payload.to_owned());
    if command != "start" {
        return vec![message];
    }
    let mut referral = Fact::new(FactKind::ConversationReferral);
    referral.account = message.account.clone();
    referral.conversation = message.conversation.clone();
    referral.thread = message.thread.clone();
    referral.sender = message.sender.clone();
    referral.sender_name = message.sender_name.clone();
    referral.direction = message.direction;
    referral.ts_ms = message.ts_ms;
    referral.dedup = message.dedup.clone();
    let deep_link = json!({ "ref": payload, "source": "deep_link" });
    referral.detail.insert("referral".into(), deep_link);
    vec![message, referral]
}

/// The command and its payload in `/command@bot payload`.
fn command(text: &str) -> Option<(&str, &str)> {
    let text = text.strip_prefix('/')?;
    let (word, payload) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    let name = word.split_once('@').map_or(word, |(name, _)| name);
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let is_name = (1..=32).contains(&name.len()) && name.bytes().all(allowed);
    is_name.then(|| (name, payload.trim()))
}

/// The fact of a service message; `None` when the message is none. `message` has been filled in
/// with who, where and when.
fn service(raw: &Value, message: &Fact) -> Option<Fact> {
    let has = |key: &&&str| !raw[**key].is_null();
    let mut fact = message.clone();
    if let Some(answer) = ANSWERS.iter().find(has) {
        fact.content = Some(ContentKind::Action);
        fact.text = wire::filled(&raw[*answer]["button_text"]);
        fact.action = wire::filled(&raw[*answer]["data"]);
        wire::keep_raw(&mut fact.detail, answer, &raw[*answer]);
        return Some(fact);
    }
    fact.direction = None;
    if let Some(change) = CHAT_CHANGES.iter().find(has) {
        fact.kind = FactKind::ConversationUpdated;
        fact.detail.insert("change".into(), (*change).into());
        describe_change(change, &raw[*change], &mut fact);
        return Some(fact);
    }
    let uninteresting = UNINTERESTING
        .iter()
        .find(has)
        .map(|key| (*key).to_owned())
        .or_else(|| {
            let of_family = |key: &&String| {
                UNINTERESTING_FAMILIES
                    .iter()
                    .any(|family| key.starts_with(family))
            };
            raw.as_object()?.keys().find(of_family).cloned()
        })?;
    fact.kind = FactKind::Ignored;
    fact.detail.insert("what".into(), uninteresting.into());
    fact.dedup = wire::content_digest(raw);
    Some(fact)
}

fn describe_change(change: &str, value: &Value, fact: &mut Fact) {
    let person = |user: &Value| json!({ "id": wire::id(&user["id"]), "name": display_name(user) });
    let detail = &mut fact.detail;
    match change {
        "migrate_to_chat_id" => wire::keep(detail, "migrated_to", wire::id(value)),
        "migrate_from_chat_id" => wire::keep(detail, "migrated_from", wire::id(value)),
        "new_chat_members" => {
            let joined: Vec<Value> = wire::items(value).iter().map(person).collect();
            detail.insert("joined".into(), joined.into());
        }
        "left_chat_member" => {
            detail.insert("left".into(), person(value));
        }
        "new_chat_title" => {
            fact.thread_name = wire::filled(value);
            wire::keep(detail, "title", wire::filled(value));
        }
        "pinned_message" => fact.target = wire::id(&value["message_id"]),
        "forum_topic_created" | "forum_topic_edited" => {
            wire::keep(detail, "topic", wire::filled(&value["name"]));
        }
        _ => {}
    }
}
