//! From a page of Graph's message history to facts, to fill what webhooks missed: Messenger's and
//! Instagram's.
//!
//! Graph's message ids are the webhooks' ids, so both give the same facts. A list does not say
//! which side is ours: the product knows, and where it cannot tell the sides apart the message
//! stays unknown rather than turned around. User names are not taken for names: they change, and
//! who has none yet is asked for by the profile.

use serde_json::{Value, json};

use super::time_ms;
use crate::platform::fact::{ContentKind, Direction, Fact, FactKind, Media};
use crate::platform::wire;

/// The messages of a conversation, of several, or of a page of messages; `None` when the body is
/// nothing of the kind.
pub fn messages(body: &Value) -> Option<Vec<&Value>> {
    if let Some(messages) = body["messages"]["data"].as_array() {
        return Some(messages.iter().collect());
    }
    let list = body["data"].as_array()?;
    Some(
        list.iter()
            .flat_map(|item| messages(item).unwrap_or_else(|| vec![item]))
            .collect(),
    )
}

/// Reads one message. `is_person` tells the other side from ours.
pub fn read(raw: &Value, is_person: impl Fn(&Value) -> bool) -> Fact {
    message(raw, is_person).unwrap_or_else(|| wire::unknown(None, raw))
}

fn message(raw: &Value, is_person: impl Fn(&Value) -> bool) -> Option<Fact> {
    let mid = wire::id(&raw["id"])?;
    let (from, to) = (&raw["from"], &raw["to"]["data"][0]);
    let (from_id, to_id) = (wire::id(&from["id"])?, wire::id(&to["id"])?);
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
