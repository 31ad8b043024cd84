//! Webhook bodies of both generations.
//!
//! X publishes no example of some X Activity events. Those that carry the arrays of the older
//! generation are read, anything else is kept as unknown.

use serde_json::Value;

use super::{EVENTS, content, page, party};
use crate::platform::fact::{ContentKind, Direction, Fact, FactKind};
use crate::platform::wire;

/// Arrays of events that are no messages: what happens in public, and to followers.
const PUBLIC: [&str; 7] = [
    "tweet_create_events",
    "tweet_delete_events",
    "favorite_events",
    "follow_events",
    "unfollow_events",
    "block_events",
    "mute_events",
];

/// The same in X Activity, by how the names begin.
const PUBLIC_PREFIXES: [&str; 8] = [
    "post.", "like.", "follow.", "profile.", "news.", "spaces.", "trends.", "mute.",
];

/// Reads a webhook body, a fetched page, or a single event. `own_app` is our app's id, to tell our
/// own sends and our own permission from other apps'; empty when not configured.
pub fn read(own_app: &str, account: Option<&str>, body: &Value) -> Vec<Fact> {
    let data = &body["data"];
    if data["event_type"].is_string() && data.get("payload").is_some() {
        return activity(own_app, account, data);
    }
    let is_page = data.is_array() || data.is_object() || body["meta"].is_object();
    if is_page {
        return page::read(account, body);
    }
    let account = wire::id(&body["for_user_id"]).or_else(|| account.map(str::to_owned));
    let envelope = Envelope {
        own_app,
        account,
        body,
    };
    let facts = envelope.read();
    if facts.is_empty() && !envelope.has_events() {
        return vec![wire::unknown(envelope.account, body)];
    }
    facts
}

/// One event of X Activity.
fn activity(own_app: &str, account: Option<&str>, data: &Value) -> Vec<Fact> {
    let (kind, payload) = (
        data["event_type"].as_str().unwrap_or_default(),
        &data["payload"],
    );
    let account = wire::id(&data["filter"]["user_id"])
        .or_else(|| wire::id(&payload["for_user_id"]))
        .or_else(|| account.map(str::to_owned));
    let read = match kind {
        "chat.received" | "chat.sent" => chat(account.as_deref(), kind, payload),
        "oauth.revoke" => revoked(own_app, &payload["user_id"], &payload["app_id"], payload),
        _ if kind.starts_with("chat.") => chat_changed(account.as_deref(), kind, data),
        _ if PUBLIC_PREFIXES
            .iter()
            .any(|prefix| kind.starts_with(prefix)) =>
        {
            Some(wire::ignored(account.clone(), kind, data))
        }
        "dm.received" | "dm.sent" | "dm.read" | "dm.indicate_typing" => {
            let envelope = Envelope {
                own_app,
                account: account.clone(),
                body: payload,
            };
            let facts = envelope.read();
            if !facts.is_empty() {
                return facts;
            }
            None
        }
        _ => None,
    };
    vec![read.unwrap_or_else(|| wire::unknown(account, data))]
}

/// An encrypted message: that it was written, and the bytes for whoever may have the keys one day.
fn chat(account: Option<&str>, kind: &str, payload: &Value) -> Option<Fact> {
    let account = account?;
    let sender = wire::id(&payload["sender_id"])?;
    let outbound = sender == account || kind == "chat.sent";
    let mut fact = Fact::new(if outbound {
        FactKind::MessageEchoed
    } else {
        FactKind::MessageReceived
    });
    fact.account = Some(account.to_owned());
    party::converse(&mut fact, account, &wire::id(&payload["conversation_id"])?);
    fact.direction = Some(if outbound {
        Direction::Outbound
    } else {
        Direction::Inbound
    });
    fact.sender = Some(sender);
    fact.ts_ms = wire::time_ms(&payload["created_at_msec"]);
    fact.content = Some(ContentKind::Unsupported);
    fact.detail.insert("encrypted".into(), true.into());
    for field in ["encoded_event", "conversation_key_version"] {
        wire::keep_raw(&mut fact.detail, field, &payload[field]);
    }
    let id = wire::id(&payload["id"])?;
    fact.dedup.clone_from(&id);
    fact.message_id = Some(id);
    Some(fact)
}

/// The members, name or rules of an encrypted chat changed.
fn chat_changed(account: Option<&str>, kind: &str, data: &Value) -> Option<Fact> {
    let payload = &data["payload"];
    let mut fact = Fact::new(FactKind::ConversationUpdated);
    fact.account = Some(account?.to_owned());
    party::converse(&mut fact, account?, &wire::id(&payload["conversation_id"])?);
    fact.sender = wire::id(&payload["sender_id"]);
    fact.ts_ms = wire::time_ms(&payload["created_at_msec"]);
    // An older name of the same event.
    let kind = kind.replace("conversation_join", "conversation.join");
    fact.detail.insert("event".into(), kind.into());
    wire::keep_raw(&mut fact.detail, "change", payload);
    fact.dedup = wire::id(&payload["id"]).unwrap_or_else(|| wire::content_digest(payload));
    Some(fact)
}

/// Somebody took an app's permission back. It names its user itself; the body names no account.
fn revoked(own_app: &str, user: &Value, app: &Value, raw: &Value) -> Option<Fact> {
    let mut fact = Fact::new(FactKind::AccountStatusChanged);
    fact.account = Some(wire::id(user)?);
    fact.ts_ms = page::time_ms(&raw["date_time"]);
    fact.dedup = wire::content_digest(raw);
    let app = wire::id(app);
    if own_app.is_empty() || app.as_deref() == Some(own_app) {
        let reason = "the permission was taken back on X";
        fact.detail.insert("reconnect".into(), reason.into());
    }
    fact.detail.insert("status".into(), "revoked".into());
    wire::keep(&mut fact.detail, "app_id", app);
    Some(fact)
}

/// An Account Activity body, or the payload of X Activity that looks like one.
struct Envelope<'a> {
    own_app: &'a str,
    account: Option<String>,
    body: &'a Value,
}

impl Envelope<'_> {
    fn read(&self) -> Vec<Fact> {
        let mut facts = Vec::new();
        for (key, value) in self.body.as_object().into_iter().flatten() {
            match (key.as_str(), value) {
                ("user_event", event) => facts.push(self.user_event(event)),
                ("replay_job_status", _) => {
                    facts.push(wire::ignored(self.account.clone(), key, value));
                }
                (key, Value::Array(items)) if key.ends_with(EVENTS) => {
                    facts.extend(items.iter().map(|item| self.item(key, item)));
                }
                (key, _) if key.ends_with(EVENTS) => {
                    facts.push(wire::unknown(self.account.clone(), value));
                }
                _ => {}
            }
        }
        // An event outside of its array: what a single look at it returns.
        if facts.is_empty() && self.body["message_create"].is_object() {
            facts.push(self.item("direct_message_events", self.body));
        }
        facts
    }

    fn has_events(&self) -> bool {
        let keys = self.body.as_object().into_iter().flatten();
        keys.map(|(key, _)| key).any(|key| key.ends_with(EVENTS))
    }

    fn user_event(&self, event: &Value) -> Fact {
        let revoke = &event["revoke"];
        let (user, app) = (&revoke["source"]["user_id"], &revoke["target"]["app_id"]);
        revoked(self.own_app, user, app, revoke)
            .unwrap_or_else(|| wire::unknown(self.account.clone(), event))
    }

    fn item(&self, key: &str, item: &Value) -> Fact {
        let read = match key {
            "direct_message_events" => self.message(item),
            "direct_message_indicate_typing_events" => self.typing(item),
            "direct_message_mark_read_events" => self.read_receipt(item),
            _ if PUBLIC.contains(&key) => Some(wire::ignored(self.account.clone(), key, item)),
            _ => None,
        };
        read.unwrap_or_else(|| wire::unknown(self.account.clone(), item))
    }

    fn message(&self, item: &Value) -> Option<Fact> {
        if item["type"] != "message_create" {
            return None;
        }
        let message = &item["message_create"];
        let sender = wire::id(&message["sender_id"])?;
        let recipient = wire::id(&message["target"]["recipient_id"])?;
        let id = wire::id(&item["id"])?;
        let mut fact = self.between(FactKind::MessageReceived, &sender, &recipient, item);
        let names = |user: &str| party::name(&self.body["users"][user]);
        if fact.direction == Some(Direction::Outbound) {
            fact.kind = FactKind::MessageEchoed;
            fact.thread_name = names(&recipient);
            let app = wire::id(&message["source_app_id"]);
            if !self.own_app.is_empty() {
                let ours = app.as_deref() == Some(self.own_app);
                fact.detail.insert("own_app".into(), ours.into());
            }
            wire::keep(&mut fact.detail, "app_id", app);
        } else {
            fact.sender_name = names(&sender);
        }
        content::read(&message["message_data"], &mut fact);
        fact.dedup.clone_from(&id);
        fact.message_id = Some(id);
        Some(fact)
    }

    fn typing(&self, item: &Value) -> Option<Fact> {
        let sender = wire::id(&item["sender_id"])?;
        let recipient = wire::id(&item["target"]["recipient_id"])?;
        let mut fact = self.between(FactKind::TypingStarted, &sender, &recipient, item);
        fact.dedup = wire::content_digest(item);
        if fact.direction == Some(Direction::Outbound) {
            return Some(wire::ignored(fact.account, "typing", item));
        }
        Some(fact)
    }

    fn read_receipt(&self, item: &Value) -> Option<Fact> {
        let reader = wire::id(&item["sender_id"])?;
        let other = wire::id(&item["target"]["recipient_id"])?;
        let last = wire::id(&item["last_read_event_id"])?;
        let mut fact = self.between(FactKind::ReceiptRead, &reader, &other, item);
        if fact.direction == Some(Direction::Outbound) {
            // Somebody of our side has read in the app, which says nothing about our messages.
            return Some(wire::ignored(fact.account, "own read state", item));
        }
        fact.dedup = wire::digest(&[&reader, &last]);
        // Everything up to this id, which tells when it was made.
        fact.watermark_ms = party::made_ms(&last);
        fact.target = Some(last);
        Some(fact)
    }

    /// A fact about two parties. In X's own examples the account may be neither of them: then it
    /// is taken for the one who was written to.
    fn between(&self, kind: FactKind, sender: &str, recipient: &str, item: &Value) -> Fact {
        let account = self.account.as_deref().unwrap_or(recipient);
        let mut fact = Fact::new(kind);
        fact.account = Some(account.to_owned());
        party::between(&mut fact, account, sender, recipient);
        fact.sender = Some(sender.to_owned());
        fact.direction = Some(if sender == account {
            Direction::Outbound
        } else {
            Direction::Inbound
        });
        let made_ms = || party::made_ms(&wire::id(&item["id"])?);
        fact.ts_ms = wire::time_ms(&item["created_timestamp"]).or_else(made_ms);
        fact
    }
}
