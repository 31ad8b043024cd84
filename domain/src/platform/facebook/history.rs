//! From a page of Graph's message history to facts, to fill what webhooks missed.
//!
//! Graph's message ids are the webhooks' ids, so both give the same facts. A list does not say
//! which side is the Page; only people carry an address made of their page-scoped id, and where
//! that does not tell the sides apart the message stays unknown rather than turned around.

use serde_json::{Value, json};

use crate::platform::fact::{ContentKind, Direction, Fact, FactKind, Media};
use crate::platform::{meta, wire};

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

/// Reads one message.
pub fn read(raw: &Value) -> Fact {
    message(raw).unwrap_or_else(|| wire::unknown(None, raw))
}

fn message(raw: &Value) -> Option<Fact> {
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
    fact.ts_ms = meta::time_ms(&raw["created_time"]);
    fact.reply_to = wire::id(&raw["reply_to"]["mid"]).or_else(|| wire::id(&raw["reply_to"]["id"]));
    set_content(raw, &mut fact);
    Some(fact)
}

/// Graph gives people an address at Facebook that starts with their id.
fn is_person(party: &Value) -> bool {
    let address = party["email"]
        .as_str()
        .and_then(|email| email.strip_suffix("@facebook.com"));
    address.is_some() && address == wire::id(&party["id"]).as_deref()
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
    let text = fact.text.as_ref().map(|_| ContentKind::Text);
    let share = fact.detail.get("link").map(|_| ContentKind::Share);
    let first = fact.media.first().and_then(|media| media.kind);
    fact.content = first.or(text).or(share).or(Some(ContentKind::Unsupported));
}

fn medium(attachment: &Value) -> Media {
    let mime = wire::filled(&attachment["mime_type"]);
    let kind = match mime.as_deref().and_then(|mime| mime.split('/').next()) {
        Some("image") => ContentKind::Image,
        Some("video") => ContentKind::Video,
        Some("audio") => ContentKind::Audio,
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

#[cfg(test)]
mod tests {
    use super::super::webhook;
    use super::*;

    fn person() -> Value {
        json!({"name": "Mira Q", "email": "7214@facebook.com", "id": "7214"})
    }

    fn page() -> Value {
        json!({"name": "Teapots", "id": "1048"})
    }

    fn list(from: Value, to: Value) -> Value {
        json!({"data": [{"id": "m_1", "created_time": "2026-10-05T12:00:00+0000", "from": from,
            "to": {"data": [to]}, "message": "Hi"}], "paging": {}})
    }

    #[test]
    fn both_directions() {
        let fact = webhook::read("", &list(person(), page())).remove(0);
        assert_eq!(fact.kind, FactKind::MessageReceived);
        assert_eq!(fact.conversation.as_deref(), Some("1048:7214"));
        assert_eq!(fact.sender_name.as_deref(), Some("Mira Q"));
        assert_eq!(fact.ts_ms, Some(1_791_201_600_000));
        assert_eq!(
            (fact.content, fact.text.as_deref()),
            (Some(ContentKind::Text), Some("Hi"))
        );
        let fact = webhook::read("", &list(page(), person())).remove(0);
        assert_eq!(fact.kind, FactKind::MessageEchoed);
        assert_eq!(fact.conversation.as_deref(), Some("1048:7214"));
        assert_eq!(fact.thread_name.as_deref(), Some("Mira Q"));
    }

    #[test]
    fn a_conversation_and_a_list_of_them() {
        let conversation = json!({"id": "t_1", "messages": list(person(), page())});
        assert_eq!(
            webhook::read("", &conversation)[0].message_id.as_deref(),
            Some("m_1")
        );
        let several = json!({"data": [conversation.clone(), conversation]});
        assert_eq!(webhook::read("", &several).len(), 2);
    }

    #[test]
    fn sides_nobody_can_tell_apart_stay_unknown() {
        for (from, to) in [(page(), page()), (person(), person()), (json!({}), page())] {
            assert_eq!(
                webhook::read("", &list(from, to))[0].kind,
                FactKind::Unknown
            );
        }
    }

    #[test]
    fn media() {
        let mut body = list(person(), page());
        body["data"][0]["message"] = "".into();
        body["data"][0]["attachments"] = json!({"data": [{"id": "9", "mime_type": "image/jpeg",
            "name": "a.jpg", "size": 123, "image_data": {"url": "https://a.example"}}]});
        let fact = webhook::read("", &body).remove(0);
        assert_eq!(
            (fact.content, &fact.text),
            (Some(ContentKind::Image), &None)
        );
        assert_eq!(fact.media[0].url.as_deref(), Some("https://a.example"));
        assert_eq!(fact.media[0].size, Some(123));
    }
}
