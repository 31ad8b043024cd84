//! Updates: their ids, pushing them by webhook, fetching them by `getUpdates`.
//!
//! Ids rise with the clock and by at least one, so they stay unique when the sandbox restarts and
//! the hub does not.

use axum::body::Bytes;
use axum::response::Response;
use serde_json::{Value, json};

use super::answers::{bad_request, done, ok, problem};
use super::{Bot, Hook, NAME};
use crate::call::Call;
use crate::deliver::Webhook;
use crate::platform::graph::ascii;
use crate::world::now_ms;

/// Where the hub receives webhooks.
const PATH: &str = "/api/webhooks/telegram";
/// The start of 2025 in milliseconds: keeps ids small.
const EPOCH_MS: i64 = 1_735_689_600_000;
/// One message id for so many milliseconds: eight a second per chat, 32 bits until 2033.
const MESSAGE_ID_MS: i64 = 125;
/// Updates kept for `getUpdates`; Telegram forgets them after a day.
const WAITING_MAX: usize = 10_000;
/// The most updates one `getUpdates` returns.
const LIMIT_MAX: usize = 100;
/// The longest secret `setWebhook` takes.
const SECRET_CHARS_MAX: usize = 256;

impl Bot {
    /// The next message id of a chat.
    pub(super) fn next_message_id(&self, chat: &str) -> i64 {
        let clock = (now_ms() - EPOCH_MS) / MESSAGE_ID_MS;
        let mut memory = self.memory();
        let last = memory.message_ids.entry(chat.to_owned()).or_default();
        *last = (*last + 1).max(clock);
        *last
    }

    /// An update: as a webhook when one is set, else kept for `getUpdates`.
    pub(super) fn update(&self, kind: &str, content: Value) -> Option<Webhook> {
        let mut memory = self.memory();
        memory.update_id = (memory.update_id + 1).max(now_ms() - EPOCH_MS);
        let mut update = json!({"update_id": memory.update_id});
        update[kind] = content;
        match &memory.hook {
            Hook::Set { secret, .. } => Some(Webhook {
                platform: NAME,
                path: PATH,
                headers: vec![("x-telegram-bot-api-secret-token", secret.clone())],
                body: Bytes::from(ascii(&update.to_string())),
            }),
            Hook::Deleted => {
                memory.waiting.push_back(update);
                if memory.waiting.len() > WAITING_MAX {
                    memory.waiting.pop_front();
                }
                None
            }
        }
    }

    pub(super) fn set_webhook(&self, call: &Call) -> Response {
        let Some(url) = call.param("url") else {
            return self.delete_webhook(call);
        };
        let web = url::Url::parse(&url).is_ok_and(|url| matches!(url.scheme(), "http" | "https"));
        if !web {
            return bad_request("bad webhook: invalid webhook URL specified");
        }
        let secret = call.param("secret_token");
        if secret
            .as_ref()
            .is_some_and(|secret| !allowed_secret(secret))
        {
            return bad_request("secret token contains unallowed characters");
        }
        let said = json!({
            "max_connections": call.param("max_connections").and_then(|n| n.parse::<u32>().ok()),
            "allowed_updates": call.value("allowed_updates"),
        });
        let secret = secret.unwrap_or_else(|| self.secret.clone());
        self.memory().hook = Hook::Set { url, secret, said };
        done("Webhook was set")
    }

    pub(super) fn delete_webhook(&self, call: &Call) -> Response {
        let mut memory = self.memory();
        memory.hook = Hook::Deleted;
        if call
            .param("drop_pending_updates")
            .is_some_and(|drop| drop == "true")
        {
            memory.waiting.clear();
        }
        done("Webhook was deleted")
    }

    pub(super) fn webhook_info(&self) -> Response {
        let memory = self.memory();
        let mut info = json!({
            "url": "",
            "has_custom_certificate": false,
            "pending_update_count": memory.waiting.len(),
        });
        if let Hook::Set { url, said, .. } = &memory.hook {
            info["url"] = if url.is_empty() {
                format!("{}{PATH}", self.world.courier.base()).into()
            } else {
                url.clone().into()
            };
            info["max_connections"] = match &said["max_connections"] {
                Value::Null => 40.into(),
                chosen => chosen.clone(),
            };
            if said["allowed_updates"].is_array() {
                info["allowed_updates"] = said["allowed_updates"].clone();
            }
        }
        ok(&info)
    }

    /// Answers at once; the long poll's waiting is not played.
    pub(super) fn get_updates(&self, call: &Call) -> Response {
        let mut memory = self.memory();
        if matches!(memory.hook, Hook::Set { .. }) {
            return problem(
                409,
                "Conflict: can't use getUpdates method while webhook is active; use deleteWebhook \
                 to delete the webhook first",
            );
        }
        let number = |name: &str| call.param(name).and_then(|text| text.parse::<i64>().ok());
        if let Some(offset) = number("offset") {
            // A negative offset counts from the end; either way what comes before is forgotten.
            let waiting = i64::try_from(memory.waiting.len()).unwrap_or(i64::MAX);
            let from_end = usize::try_from((waiting + offset).max(0)).unwrap_or_default();
            if offset < 0 {
                memory.waiting.drain(..from_end);
            } else {
                memory
                    .waiting
                    .retain(|update| update["update_id"].as_i64() >= Some(offset));
            }
        }
        let limit = number("limit").and_then(|limit| usize::try_from(limit).ok());
        let limit = limit.unwrap_or(LIMIT_MAX).clamp(1, LIMIT_MAX);
        let updates: Vec<&Value> = memory.waiting.iter().take(limit).collect();
        ok(&json!(updates))
    }
}

fn allowed_secret(secret: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    secret.len() <= SECRET_CHARS_MAX && secret.bytes().all(allowed)
}
