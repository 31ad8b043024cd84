//! Webhooks: registering one, the challenge, subscriptions, and the bodies of both generations.

use std::sync::Arc;

use axum::body::Bytes;
use axum::http::{Method, StatusCode};
use serde_json::{Value, json};

use super::answers::{self, Answer, Problem};
use super::messages::Message;
use super::{Envelope, Hook, NAME, X};
use crate::call::{Call, text};
use crate::deliver::Webhook;
use crate::ledger::now;
use crate::sign::hmac_base64;

/// Where the hub receives them.
const PATH: &str = "/api/webhooks/twitter";

impl X {
    /// Managing webhooks (with the app's token) and subscriptions (with a user's).
    pub(super) async fn webhooks(self: &Arc<Self>, call: &Call, path: &[&str]) -> Answer {
        let by_app = call.bearer().is_some_and(|token| {
            !self.app.bearer_token.is_empty() && token == self.app.bearer_token
        });
        match (&call.method, path) {
            (&Method::POST, ["activity", "subscriptions"]) => {
                let user = self.caller(call)?;
                self.subscribe(call, &user)
            }
            (&Method::GET, ["activity", "subscriptions"]) => {
                if !by_app {
                    self.caller(call)?;
                }
                Ok(answers::ok(&self.subscriptions()))
            }
            _ if !by_app => Err(Problem::unauthorized()),
            (&Method::GET, ["webhooks"]) => {
                let hooks: Vec<Value> = self.hook().into_iter().collect();
                let count = hooks.len();
                Ok(answers::ok(
                    &json!({"data": hooks, "meta": {"result_count": count}}),
                ))
            }
            (&Method::POST, ["webhooks"]) => self.register(call).await,
            (&Method::PUT, ["webhooks", id]) if self.is_hook(id) => {
                let valid = self.prove().await;
                Ok(answers::ok(&json!({"data": {"valid": valid}})))
            }
            (&Method::DELETE, ["webhooks", id]) if self.is_hook(id) => {
                self.memory().hook = None;
                Ok(answers::ok(&json!({"data": {"deleted": true}})))
            }
            _ => Err(Problem::not_found("webhook")),
        }
    }

    fn is_hook(&self, id: &str) -> bool {
        self.memory()
            .hook
            .as_ref()
            .is_some_and(|hook| hook.id == id)
    }

    fn hook(&self) -> Option<Value> {
        let memory = self.memory();
        let hook = memory.hook.as_ref()?;
        Some(json!({"id": hook.id, "url": hook.url, "valid": memory.valid, "created_at": now()}))
    }

    /// The address is only noted; the challenge goes where the sandbox's webhooks go, because X
    /// takes public HTTPS addresses and a hub in development has none.
    async fn register(self: &Arc<Self>, call: &Call) -> Answer {
        let url = call.param("url").unwrap_or_default();
        let web = url::Url::parse(&url).is_ok_and(|url| matches!(url.scheme(), "http" | "https"));
        if !web || url.len() > 200 {
            let words = "The url is not valid.";
            return Err(Problem::webhook("UrlValidationFailed", words));
        }
        let known = self.memory().hook.as_ref().map(|hook| hook.url.clone());
        match known {
            Some(known) if known == url => {
                let words = "This webhook is registered already.";
                return Err(Problem::webhook("DuplicateUrlFailed", words));
            }
            Some(_) => {
                let words = "There is a webhook already.";
                return Err(Problem::webhook("WebhookLimitExceeded", words));
            }
            None => {}
        }
        if !self.prove().await {
            let words = "The challenge was not answered with the right response_token.";
            return Err(Problem::webhook("CrcValidationFailed", words));
        }
        let id = self.new_id();
        self.memory().hook = Some(Hook { id, url });
        let hook = self.hook().unwrap_or_default();
        Ok(answers::ok(&json!({"data": hook})))
    }

    /// Challenges the hub. A wrong answer, or none, ends delivery until the next right one.
    pub(super) async fn prove(&self) -> bool {
        let token = uuid::Uuid::new_v4().simple().to_string();
        let nonce = uuid::Uuid::new_v4().simple().to_string();
        let path = format!("{PATH}?crc_token={token}&nonce={nonce}");
        let expected = hmac_base64(self.app.consumer_secret.as_bytes(), token.as_bytes());
        let expected = json!({"response_token": format!("sha256={expected}")});
        let answer = self.world.courier.ask(&path).await;
        let valid = answer.is_some_and(|(status, body)| {
            status == 200 && serde_json::from_str::<Value>(&body).ok() == Some(expected)
        });
        self.memory().valid = valid;
        valid
    }

    fn subscribe(&self, call: &Call, user: &str) -> Answer {
        let kind = call.param("event_type").unwrap_or_default();
        let whose = call.value("filter").unwrap_or_default();
        if !kind.starts_with("dm.") && !kind.starts_with("chat.") {
            return Err(Problem::invalid("The event_type is not valid."));
        }
        if text(&whose["user_id"]).as_deref() != Some(user) {
            return Err(Problem::invalid(
                "The filter must name the authenticated user.",
            ));
        }
        if !self.is_hook(&call.param("webhook_id").unwrap_or_default()) {
            return Err(Problem::invalid("The webhook_id is not valid."));
        }
        let id = self.new_id();
        let mut memory = self.memory();
        let key = (user.to_owned(), kind.clone());
        if memory.subscriptions.contains_key(&key) {
            return Err(Problem::invalid("DuplicateSubscriptionFailed"));
        }
        memory.subscriptions.insert(key, id.clone());
        let data = json!({"subscription": {"subscription_id": id, "event_type": kind}});
        Ok(answers::reply(StatusCode::CREATED, &json!({"data": data})))
    }

    fn subscriptions(&self) -> Value {
        let memory = self.memory();
        let all = memory.subscriptions.iter().map(|((user, kind), id)| {
            json!({"subscription_id": id, "event_type": kind, "filter": {"user_id": user}})
        });
        json!({"data": all.collect::<Vec<_>>()})
    }

    /// A message, told to one of its two sides; `None` while nothing is delivered.
    pub(super) fn message_webhook(&self, account: &str, message: &Message) -> Option<Webhook> {
        let mut create = json!({
            "target": {"recipient_id": message.to},
            "sender_id": message.from,
            "message_data": {"text": message.escaped(), "entities":
                {"hashtags": [], "symbols": [], "user_mentions": [], "urls": []}},
        });
        if let Some(medium) = &message.medium {
            let data = &mut create["message_data"];
            data["entities"]["urls"] = json!([medium.entity(&message.id)]);
            data["attachment"] = self.attachment(&message.id, medium);
        }
        if let Some(app) = &message.app {
            create["source_app_id"] = app.as_str().into();
        }
        let event = json!({"type": "message_create", "id": message.id,
            "created_timestamp": message.at_ms.to_string(), "message_create": create});
        let kind = if message.from == account {
            "dm.sent"
        } else {
            "dm.received"
        };
        let parties = [message.from.as_str(), message.to.as_str()];
        self.envelope(account, kind, "direct_message_events", event, &parties)
    }

    /// Somebody has read everything this account wrote to them.
    pub(super) fn read_webhook(&self, account: &str, reader: &str) -> Option<Webhook> {
        let last = {
            let memory = self.memory();
            let to_reader = |it: &&Message| it.from == account && it.to == reader;
            memory.messages.iter().rev().find(to_reader)?.id.clone()
        };
        let event = json!({
            "created_timestamp": crate::world::now_ms().to_string(),
            "sender_id": reader,
            "target": {"recipient_id": account},
            "last_read_event_id": last,
        });
        let name = "direct_message_mark_read_events";
        self.envelope(account, "dm.read", name, event, &[account, reader])
    }

    /// The app's permission is gone. This body names its user in a place of its own.
    pub(super) fn revoke_webhook(&self, user: &str) -> Option<Webhook> {
        let app = &self.app.app_id;
        let body = match self.generation()? {
            Envelope::Account => json!({"user_event": {"revoke": {"date_time": now(),
                "target": {"app_id": app}, "source": {"user_id": user}}}}),
            _ => json!({"data": {"event_uuid": self.new_id(), "filter": {},
                "event_type": "oauth.revoke",
                "payload": {"date_time": now(), "user_id": user, "app_id": app}}}),
        };
        Some(self.signed(&body))
    }

    /// Which generation of webhooks is delivered, if any is.
    fn generation(&self) -> Option<Envelope> {
        let memory = self.memory();
        let delivers = memory.valid && memory.envelope != Envelope::None;
        delivers.then_some(memory.envelope)
    }

    fn envelope(
        &self,
        account: &str,
        kind: &str,
        array: &str,
        event: Value,
        parties: &[&str],
    ) -> Option<Webhook> {
        let envelope = self.generation()?;
        let mut users = json!({});
        for party in parties {
            let user = self.user(party);
            users[*party] = match envelope {
                Envelope::Activity => json!({"data": user}),
                _ => json!({"id": party, "name": user["name"], "screen_name": user["username"],
                    "created_timestamp": "1500000000000"}),
            };
        }
        let mut payload = json!({ array: [event], "users": users });
        let body = match envelope {
            Envelope::Account => {
                payload["for_user_id"] = account.into();
                payload
            }
            _ => json!({"data": {
                // Per delivery, and sometimes negative, as on X.
                "event_uuid": format!("-{}", self.new_id()),
                "filter": {"user_id": account},
                "event_type": kind,
                "tag": "hub",
                "payload": payload,
            }}),
        };
        Some(self.signed(&body))
    }

    fn signed(&self, body: &Value) -> Webhook {
        // X escapes slashes and leaves letters as they are.
        let body = body.to_string().replace('/', "\\/");
        let signature = hmac_base64(self.app.consumer_secret.as_bytes(), body.as_bytes());
        Webhook {
            platform: NAME,
            path: PATH,
            headers: vec![(
                "x-twitter-webhooks-signature",
                format!("sha256={signature}"),
            )],
            body: Bytes::from(body),
        }
    }
}
