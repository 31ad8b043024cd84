//! What the recordings do not show and the platforms' documents allow: other ids, missing fields,
//! shapes of older and newer versions, and single resources instead of pages.

use hub_domain::platform::fact::{ContentKind, Direction, Fact, FactKind};
use hub_domain::platform::{App, Platform, adapter};
use serde_json::{Value, json};

use crate::{app, kinds};

fn read_as(app: &App, platform: Platform, account: Option<&str>, body: &Value) -> Vec<Fact> {
    let raw = body.to_string().into_bytes();
    let facts = adapter(platform).unwrap().translate(app, account, &raw);
    let facts = facts.unwrap();
    for fact in &facts {
        assert!(!fact.dedup.is_empty(), "{fact:?}");
    }
    facts
}

fn read(platform: Platform, body: &Value) -> Vec<Fact> {
    read_as(&app(), platform, None, body)
}

fn one(platform: Platform, body: &Value) -> Fact {
    let mut facts = read(platform, body);
    assert_eq!(facts.len(), 1, "{body}");
    facts.remove(0)
}

mod messenger {
    use super::*;

    fn item(more: Value) -> Value {
        let mut item = json!({"sender": {"id": "7214"}, "recipient": {"id": "1048"},
            "timestamp": 1_791_201_600_005_i64});
        for (key, value) in more.as_object().unwrap() {
            item[key] = value.clone();
        }
        json!({"object": "page", "entry": [{"id": "1048", "time": 1, "messaging": [item]}]})
    }

    #[test]
    fn a_guest_of_a_plugin_agrees() {
        let body = item(json!({"sender": null, "optin": {"ref": "R", "user_ref": "g1"}}));
        let fact = one(Platform::Facebook, &body);
        assert_eq!(fact.kind, FactKind::OptinChanged);
        assert_eq!(fact.thread.as_deref(), Some("user_ref:g1"));
    }

    #[test]
    fn roles_of_apps_are_about_no_thread() {
        let body = item(json!({"sender": null, "app_roles": {"845": ["primary_receiver"]}}));
        let fact = one(Platform::Facebook, &body);
        assert_eq!(fact.kind, FactKind::ConversationHandover);
        assert_eq!(fact.account.as_deref(), Some("1048"));
        assert_eq!(fact.thread, None);
    }
}
