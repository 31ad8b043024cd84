//! What a body of Facebook's is: a webhook, or a page of message history.

use serde_json::Value;

use crate::platform::fact::Fact;
use crate::platform::meta::{history, messaging};
use crate::platform::wire;

/// Reads a webhook envelope, one entry of it, one item of an entry, or a page of Graph's message
/// history. `own_app` is our app id; empty when not configured.
pub fn read(own_app: &str, body: &Value) -> Vec<Fact> {
    messaging::read("page", own_app, body).unwrap_or_else(|| match history::messages(body) {
        Some(messages) => {
            let read = |raw| history::read(raw, is_person);
            messages.into_iter().map(read).collect()
        }
        None => messaging::read_item(own_app, body),
    })
}

/// Graph gives people an address at Facebook that starts with their id; Pages have none.
fn is_person(party: &Value) -> bool {
    let address = party["email"]
        .as_str()
        .and_then(|email| email.strip_suffix("@facebook.com"));
    address.is_some() && address == wire::id(&party["id"]).as_deref()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::platform::fact::{ContentKind, FactKind};

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
        let fact = read("", &list(person(), page())).remove(0);
        assert_eq!(fact.kind, FactKind::MessageReceived);
        assert_eq!(fact.conversation.as_deref(), Some("1048:7214"));
        assert_eq!(fact.sender_name.as_deref(), Some("Mira Q"));
        assert_eq!(fact.ts_ms, Some(1_791_201_600_000));
        assert_eq!(
            (fact.content, fact.text.as_deref()),
            (Some(ContentKind::Text), Some("Hi"))
        );
        let fact = read("", &list(page(), person())).remove(0);
        assert_eq!(fact.kind, FactKind::MessageEchoed);
        assert_eq!(fact.conversation.as_deref(), Some("1048:7214"));
        assert_eq!(fact.thread_name.as_deref(), Some("Mira Q"));
    }

    #[test]
    fn a_conversation_and_a_list_of_them() {
        let conversation = json!({"id": "t_1", "messages": list(person(), page())});
        assert_eq!(
            read("", &conversation)[0].message_id.as_deref(),
            Some("m_1")
        );
        let several = json!({"data": [conversation.clone(), conversation]});
        assert_eq!(read("", &several).len(), 2);
    }

    #[test]
    fn sides_nobody_can_tell_apart_stay_unknown() {
        for (from, to) in [(page(), page()), (person(), person()), (json!({}), page())] {
            assert_eq!(read("", &list(from, to))[0].kind, FactKind::Unknown);
        }
    }

    #[test]
    fn media() {
        let mut body = list(person(), page());
        body["data"][0]["message"] = "".into();
        body["data"][0]["attachments"] = json!({"data": [{"id": "9", "mime_type": "image/jpeg",
            "name": "a.jpg", "size": 123, "image_data": {"url": "https://a.example"}}]});
        let fact = read("", &body).remove(0);
        assert_eq!(
            (fact.content, &fact.text),
            (Some(ContentKind::Image), &None)
        );
        assert_eq!(fact.media[0].url.as_deref(), Some("https://a.example"));
        assert_eq!(fact.media[0].size, Some(123));
    }
}
