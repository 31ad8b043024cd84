//! The webhook bodies: a person's message, our own echo, the delivery receipt.

use serde_json::{Value, json};

use super::send::Draft;
use super::{Messenger, NAME};
use crate::deliver::Webhook;
use crate::platform::{Incoming, graph};
use crate::upload::SentFile;
use crate::world::now_ms;

/// Where the hub receives them.
const PATH: &str = "/api/webhooks/facebook";

impl Messenger {
    /// A message id no other message has, not even after a restart.
    pub(super) fn new_mid(&self) -> String {
        format!("m_{}", self.world.unique())
    }

    /// A person has written to a Page.
    pub(super) fn message_webhook(
        &self,
        page: &str,
        psid: &str,
        mid: &str,
        incoming: &Incoming,
    ) -> Webhook {
        let mut message = json!({"mid": mid});
        if !incoming.text.is_empty() {
            message["text"] = incoming.text.clone().into();
        }
        if let Some(media) = &incoming.media {
            message["attachments"] = json!([{"type": media.kind, "payload": {"url": media.url}}]);
        }
        let item = json!({
            "sender": {"id": psid},
            "recipient": {"id": page},
            "timestamp": now_ms(),
            "message": message,
        });
        self.envelope(page, item)
    }

    /// Where a file is that the Page has sent.
    pub(super) fn url_of(&self, media: &SentFile) -> String {
        self.world.url(&format!("/media/{NAME}/{}", media.file))
    }

    /// The Page has written, which is how a sender learns that its message exists.
    pub(super) fn echo_webhook(&self, draft: &Draft, mid: &str) -> Webhook {
        // A number when it is one, as Meta sends it, although it may not fit a double.
        let app_id = self
            .login
            .app_id
            .parse::<u64>()
            .map_or(json!(self.login.app_id), Value::from);
        let mut message = json!({"is_echo": true, "app_id": app_id, "mid": mid});
        if !draft.text.is_empty() {
            message["text"] = draft.text.clone().into();
        }
        if let Some(media) = &draft.media {
            let url = self.url_of(media);
            message["attachments"] = json!([{"type": media.kind, "payload": {"url": url}}]);
        }
        if let Some(metadata) = &draft.metadata {
            message["metadata"] = metadata.clone().into();
        }
        let item = json!({
            "sender": {"id": draft.page},
            "recipient": {"id": draft.psid},
            "timestamp": now_ms(),
            "message": message,
        });
        self.envelope(&draft.page, item)
    }

    /// The person's device has the message.
    pub(super) fn delivery_webhook(&self, draft: &Draft, mid: &str) -> Webhook {
        let now = now_ms();
        let item = json!({
            "sender": {"id": draft.psid},
            "recipient": {"id": draft.page},
            "timestamp": now,
            "delivery": {"mids": [mid], "watermark": now},
        });
        self.envelope(&draft.page, item)
    }

    fn envelope(&self, page: &str, item: Value) -> Webhook {
        let entry = json!({"id": page, "time": now_ms(), "messaging": [item]});
        let body = json!({"object": "page", "entry": [entry]});
        graph::webhook(NAME, PATH, &self.login.app_secret, &body)
    }
}
