//! From a page of Graph's message history to facts, to fill what webhooks missed: Messenger's and
//! Instagram's.
//!
//! Graph's message ids are the webhooks' ids, so both give the same facts. A list does not say
//! which side is ours: it is the account that it was fetched for, and where nobody says whose it is,
//! the product may know by the looks of an id. Where sides cannot be told apart the message stays
//! unknown rather than turned around. User names are not taken for names: they change, and who has
//! none yet is asked for by the profile.

use serde_json::{Value, json};

use super::time_ms;
use crate::platform::fact::{ContentKind, Direction, Fact, FactKind, Media};
use crate::platform::wire;

/// Reads a page of messages or of conversations, one conversation, or one message; `None` when the
/// body is nothing of the kind. `account` is whom it was fetched for, `is_person` tells the other
/// side from ours where that is not said.
pub fn read(
    account: Option<&str>,
    body: &Value,
    is_person: impl Fn(&Value) -> bool,
) -> Option<Vec<Fact>> {
    let is_person = |party: &Value| match account {
        Some(account) => wire::id(&party["id"]).as_deref() != Some(account),
        None => is_person(party),
    };
    if let Some(list) = body["data"].as_array() {
        let read = |item| one(item, &is_person).unwrap_or_else(|| vec![wire::unknown(None, item)]);
        return Some(list.iter().flat_map(read).collect());
    }
    one(body, &is_person)
}

/// Reads a conversation with what it holds, or a message.
fn one(item: &Value, is_person: &impl Fn(&Value) -> bool) -> Option<Vec<Fact>> {
    let read =
        |raw, among| message(raw, among, is_person).unwrap_or_else(|| wire::unknown(None, raw));
    if let Some(messages) = item["messages"]["data"].as_array() {
        let among = wire::items(&item["participants"]["data"]);
        return Some(messages.iter().map(|raw| read(raw, among)).collect());
    }
    if item["created_time"].is_null() {
        // A thread by itself only says that something in it is new.
        let is_thread = !item["updated_time"].is_null();
        return is_thread.then(|| vec![wire::ignored(None, "thread", item)]);
    }
    Some(vec![read(item, &[])])
}

/// Reads one message. `among` are the members of its conversation, for messages that say who wrote
/// them but not to whom.
fn message(raw: &Value, among: &[Value], is_person: &impl Fn(&Value) -> bool) -> Option<Fact> {
    let mid = wire::id(&raw["id"])?;
    let from = &raw["from"];
    let from_id = wire::id(&from["id"])?;
    let other = |party: &&Value| wire::id(&party["id"]).is_some_and(|id| id != from_id);
    let to = match &raw["to"]["data"][0] {
        Value::Null => among.iter().find(other)?,
        to => to,
    };
    let to_id = wire::id(&to["id"])?;
    let inbound = match (is_person(from), is_person(to)) {
        (true, false) => true,
        (false, true) => false,
        _ => return None,
    };
    let (kind, direction) = match inbound {
        true => (FactKind::MessageReceived, Direction::Inbound),
        false => (FactKind::MessageEchoed, Direction::Outbound),
    };
    let mut fact = Fact::new(kind);
    let (page, person) = if inbound {
        (&to_id, &from_id)
    } else {
        (&from_id, &to_id)
    };
    fact.account = Some(page.clone());
    fact.thread = Some(person.clone());
    fact.conversation = Some(format!("{page}:{person}"));
    fact.thread_name = wire::filled(&to["name"]).filter(|_| !inbound);
    fact.sender = Some(from_id);
    fact.sender_name = wire::filled(&from["name"]);
    fact.direction = Some(direction);
    fact.dedup = mid.clone();
    fact.message_id = Some(mid);
    fact.ts_ms = time_ms(&raw["created_time"]);
    fact.reply_to = wire::id(&raw["reply_to"]["mid"]).or_else(|| wire::id(&raw["reply_to"]["id"]));
    set_content(raw, &mut fact);
    Some(fact)
}

fn set_content(raw: &Value, fact: &mut Fact) {
    fact.text = wire::filled(&raw["message"]);
    if let Some(url) = wire::filled(&raw["sticker"]) {
        let kind = Some(ContentKind::Sticker);
        fact.media.push(Media {
            kind,
            url: Some(url),
            ..Media::default()
        });
    }
    fact.media
        .extend(wire::items(&raw["attachments"]["data"]).iter().map(medium));
    if let Some(link) = wire::items(&raw["shares"]["data"]).first() {
        fact.detail.insert(
            "link".into(),
            json!({ "url": link["link"], "title": link["name"] }),
        );
    }
    set_story(&raw["story"], fact);
    let text = fact.text.as_ref().map(|_| ContentKind::Text);
    let share = fact.detail.get("link").map(|_| ContentKind::Share);
    let first = fact.media.first().and_then(|media| media.kind);
    fact.content = match raw["is_unsupported"] {
        Value::Bool(true) => Some(ContentKind::Unsupported),
        _ => first.or(text).or(share).or(Some(ContentKind::Unsupported)),
    };
}

/// The story that is answered, or that mentions us, in the words of the webhooks.
fn set_story(story: &Value, fact: &mut Fact) {
    let (reply, mention) = (&story["reply_to"], &story["mention"]);
    if reply.is_object() {
        let story = json!({ "id": reply["id"], "url": reply["link"] });
        fact.detail.insert("reply_to_story".into(), story);
    }
    if mention.is_object() {
        let share = json!({ "type": "story_mention", "id": mention["id"], "url": null,
            "title": null });
        fact.detail.insert("share".into(), share);
        fact.media.push(Media {
            kind: Some(ContentKind::Share),
            url: wire::filled(&mention["link"]),
            ..Media::default()
        });
    }
}

fn medium(attachment: &Value) -> Media {
    let mime = wire::filled(&attachment["mime_type"]);
    let kind = match mime.as_deref().and_then(|mime| mime.split('/').next()) {
        Some("image") => ContentKind::Image,
        Some("video") => ContentKind::Video,
        Some("audio") => ContentKind::Audio,
        // Instagram need not say the type.
        None if attachment["image_data"].is_object() => ContentKind::Image,
        None if attachment["video_data"].is_object() => ContentKind::Video,
        _ => ContentKind::File,
    };
    let urls = [
        &attachment["image_data"]["url"],
        &attachment["video_data"]["url"],
        &attachment["file_url"],
    ];
    Media {
        kind: Some(kind),
        url: urls.into_iter().find_map(wire::filled),
        file_id: wire::id(&attachment["id"]),
        mime,
        name: wire::filled(&attachment["name"]),
        size: wire::count(&attachment["size"]),
        ..Media::default()
    }
}
