//! What a body of Facebook's is: a webhook, or a page of message history.

use serde_json::Value;

use crate::platform::fact::Fact;
use crate::platform::meta::{history, messaging};
use crate::platform::wire;

/// Reads a webhook envelope, one entry of it, one item of an entry, or a page or message of Graph's
/// message history, which was fetched for `account`. `own_app` is our app id; empty when not
/// configured.
pub fn read(own_app: &str, account: Option<&str>, body: &Value) -> Vec<Fact> {
    messaging::read("page", own_app, body)
        .or_else(|| history::read(account, body, is_person))
        .unwrap_or_else(|| messaging::read_item(own_app, body))
}

/// Graph gives people an address at Facebook that starts with their id; Pages need not have one.
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
        let fact = read("", None, &list(person(), page())).remove(0);
        assert_eq!(fact.kind, FactKind::MessageReceived);
        assert_eq!(fact.conversation.as_deref(), Some("1048:7214"));
        assert_eq!(fact.sender_name.as_deref(), Some("Mira Q"));
        assert_eq!(fact.ts_ms, Some(1_791_201_600_000));
        assert_eq!(
            (fact.content, fact.text.as_deref()),
            (Some(ContentKind::Text), Some("Hi"))
        );
        let fact = read("", None, &list(page(), person())).remove(0);
        assert_eq!(fact.kind, FactKind::MessageEchoed);
        assert_eq!(fact.conversation.as_deref(), Some("1048:7214"));
        assert_eq!(fact.thread_name.as_deref(), Some("Mira Q"));
    }

    #[test]
    fn a_conversation_and_a_list_of_them() {
        let conversation = json!({"id": "t_1", "messages": list(person(), page())});
        assert_eq!(
            read("", None, &conversation)[0].message_id.as_deref(),
            Some("m_1")
        );
        let several = json!({"data": [conversation.clone(), conversation]});
        assert_eq!(read("", None, &several).len(), 2);
    }

    #[test]
    fn sides_nobody_can_tell_apart_stay_unknown() {
        for (from, to) in [(page(), page()), (person(), person()), (json!({}), page())] {
            assert_eq!(read("", None, &list(from, to))[0].kind, FactKind::Unknown);
        }
    }

    #[test]
    fn a_page_fetched_for_an_account_needs_no_addresses() {
        let bare = |id: &str| json!({"name": "N", "id": id});
        for (person, page) in [
            (bare("7214"), bare("1048")),
            (person(), {
                json!({"name": "Teapots", "email": "1048@facebook.com", "id": "1048"})
            }),
        ] {
            let both = [
                (&person, &page, FactKind::MessageReceived),
                (&page, &person, FactKind::MessageEchoed),
            ];
            for (from, to, kind) in both {
                let body = list(from.clone(), to.clone());
                let fact = read("", Some("1048"), &body).remove(0);
                assert_eq!(fact.kind, kind, "{from}");
                assert_eq!(fact.conversation.as_deref(), Some("1048:7214"));
                assert_eq!(read("", None, &body)[0].kind, FactKind::Unknown);
            }
        }
    }

    #[test]
    fn single_resources() {
        let message = list(person(), page())["data"][0].clone();
        let fact = read("", None, &message).remove(0);
        assert_eq!(fact.kind, FactKind::MessageReceived);
        assert_eq!(fact.text.as_deref(), Some("Hi"));
        let mut partial = message.clone();
        partial["to"] = Value::Null;
        let thread = json!({"id": "t_1", "updated_time": "2026-10-05T12:00:00+0000",
            "participants": {"data": [person(), page()]}, "messages": {"data": [partial]}});
        assert_eq!(read("", None, &thread), [fact]);
        let bare = json!({"data": [{"id": "t_1", "updated_time": "2026-10-05T12:00:00+0000"}]});
        assert_eq!(read("", None, &bare)[0].kind, FactKind::Ignored);
    }

    #[test]
    fn times_of_every_form() {
        for time in [
            json!("2026-10-05T12:00:00+0000"),
            json!("2026-10-05T14:00:00+02:00"),
            json!("2026-10-05T12:00:00Z"),
            json!(1_791_201_600),
            json!("1791201600"),
        ] {
            let mut body = list(person(), page());
            body["data"][0]["created_time"] = time.clone();
            assert_eq!(
                read("", None, &body)[0].ts_ms,
                Some(1_791_201_600_000),
                "{time}"
            );
        }
    }

    #[test]
    fn media() {
        let mut body = list(person(), page());
        body["data"][0]["message"] = "".into();
        body["data"][0]["attachments"] = json!({"data": [{"id": "9", "mime_type": "image/jpeg",
            "name": "a.jpg", "size": 123, "image_data": {"url": "https://a.example"}}]});
        let fact = read("", None, &body).remove(0);
        assert_eq!(
            (fact.content, &fact.text),
            (Some(ContentKind::Image), &None)
        );
        assert_eq!(fact.media[0].url.as_deref(), Some("https://a.example"));
        assert_eq!(fact.media[0].size, Some(123));
    }
}
