//! Sending: checked like the platform checks, accepted, echoed, and seen.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::{Direct, NAME};
use crate::call::{Call, text};
use crate::faults::{Fault, Op};
use crate::ledger::{Sent, now};
use crate::platform::graph::threads::Line;
use crate::platform::graph::{self, Answer, GraphError, Product};
use crate::upload::{File, SentFile};
use crate::world::now_ms;

/// Longest text in bytes of UTF-8.
const TEXT_BYTES_MAX: usize = 1000;
/// The largest picture, and the largest of anything else.
const IMAGE_BYTES_MAX: usize = 8 * 1024 * 1024;
const FILE_BYTES_MAX: usize = 25 * 1024 * 1024;
/// How long an accepted send stays without an answer before the connection is closed.
const SILENCE: Duration = Duration::from_secs(35);
/// From accepting to the echo; often sooner than the hub has handled the answer.
const ECHO_AFTER: Duration = Duration::from_millis(150);
/// The same when no answer is given.
const ECHO_AFTER_SILENCE: Duration = Duration::from_millis(300);
/// From the echo until the person looks.
const SEEN_AFTER: Duration = Duration::from_millis(300);
/// Actions that show something without being a message.
const SENDER_ACTIONS: [&str; 5] = ["typing_on", "typing_off", "mark_seen", "react", "unreact"];

/// A send that the platform would take.
struct Draft {
    account: String,
    person: String,
    text: String,
    metadata: Option<String>,
    media: Option<SentFile>,
}

impl Direct {
    /// The Send API.
    pub(super) async fn send(self: &Arc<Self>, call: &Call, node: &str) -> Answer {
        let token = self.account_token(call, node)?;
        let bad = |message: &str| GraphError::new(100, message);
        let recipient = call.value("recipient").unwrap_or_default();
        let person = text(&recipient["id"])
            .filter(|id| !id.is_empty())
            .ok_or_else(|| bad("(#100) param recipient must be non-empty."))?;
        if let Some(action) = call.param("sender_action") {
            return match SENDER_ACTIONS.contains(&action.as_str()) {
                true => Ok(graph::ok(&token.page, &json!({"recipient_id": person}))),
                false => Err(bad(
                    "(#100) Param sender_action must be one of the known actions",
                )),
            };
        }
        let message = call.value("message").unwrap_or_default();
        let media = self.load(&message["attachment"]).await.map_err(bad)?;
        let draft = Draft {
            media,
            text: read_text(&message).map_err(bad)?,
            metadata: message["metadata"].as_str().map(str::to_owned),
            account: token.page,
            person,
        };
        Ok(match self.world.faults.hit(NAME, Op::Send) {
            Some(Fault::Status {
                status,
                retry_after_s,
            }) => graph::refuse(Product::Instagram, &draft.account, status, retry_after_s),
            Some(Fault::Hang) => call.leave_unanswered(graph::HANG).await,
            Some(Fault::AcceptNoReply) => {
                self.accept(draft, ECHO_AFTER_SILENCE);
                call.leave_unanswered(SILENCE).await
            }
            None => {
                let (account, person) = (draft.account.clone(), draft.person.clone());
                let mid = self.accept(draft, ECHO_AFTER);
                graph::ok(
                    &account,
                    &json!({"recipient_id": person, "message_id": mid}),
                )
            }
        })
    }

    /// Loads what a message names the address of.
    async fn load(&self, attachment: &Value) -> Result<Option<SentFile>, &'static str> {
        let Some(url) = attachment["payload"]["url"].as_str() else {
            return Ok(None);
        };
        let kind = attachment["type"].as_str().unwrap_or_default();
        let refused = "(#100) Upload attachment failure.";
        let answer = reqwest::get(url).await.map_err(|_| refused)?;
        let mime = answer.headers().get("content-type");
        let mime = mime.and_then(|it| it.to_str().ok()).unwrap_or_default();
        let (mime, is_there) = (mime.to_owned(), answer.status().is_success());
        let file = File {
            field: String::new(),
            name: String::new(),
            mime,
            bytes: answer.bytes().await.map_err(|_| refused)?,
        };
        let most = if kind == "image" {
            IMAGE_BYTES_MAX
        } else {
            FILE_BYTES_MAX
        };
        let fits = match kind {
            "image" => matches!(file.looks_like(), "image/png" | "image/jpeg"),
            "video" | "audio" => file.mime.starts_with(kind),
            "file" => file.mime == "application/pdf",
            _ => false,
        };
        if !is_there || !fits || file.bytes.len() > most {
            return Err(refused);
        }
        Ok(Some(self.world.shelve(kind, &file)))
    }

    /// From here on the message exists. The echo and the receipt follow by themselves.
    fn accept(self: &Arc<Self>, draft: Draft, echo_after: Duration) -> String {
        let mid = self.new_mid();
        let mut line = Line::from_page(&mid, &draft.text);
        if let Some(media) = &draft.media {
            line = line.with(&media.kind, &self.url_of(media));
        }
        self.remember(&draft.account, &draft.person, line);
        self.world.ledger.accept(Sent {
            platform: NAME,
            account: draft.account.clone(),
            platform_message_id: mid.clone(),
            to: draft.person.clone(),
            text: draft.text.clone(),
            metadata: draft.metadata.clone(),
            media: draft.media.clone(),
            at: now(),
        });
        let (direct, id) = (Arc::clone(self), mid.clone());
        tokio::spawn(async move {
            for (wait, seen) in [(echo_after, false), (SEEN_AFTER, true)] {
                tokio::select! {
                    () = tokio::time::sleep(wait) => {}
                    () = direct.world.stop.cancelled() => return,
                }
                let item = match seen {
                    true => json!({
                        "sender": {"id": draft.person},
                        "recipient": {"id": draft.account},
                        "timestamp": now_ms(),
                        "read": {"mid": id},
                    }),
                    false => direct.echo(&draft, &id),
                };
                let webhook = direct.webhook(&draft.account, item);
                direct.world.deliver(webhook, 1).await;
            }
        });
        mid
    }

    fn url_of(&self, media: &SentFile) -> String {
        self.world.url(&format!("/control/media/{}", media.file))
    }

    fn echo(&self, draft: &Draft, mid: &str) -> Value {
        let mut message = json!({"mid": mid, "is_echo": true});
        match &draft.media {
            None => message["text"] = draft.text.clone().into(),
            Some(media) => {
                let url = self.url_of(media);
                message["attachments"] = json!([{"type": media.kind, "payload": {"url": url}}]);
            }
        }
        if let Some(metadata) = &draft.metadata
            && self.state().metadata
        {
            message["metadata"] = metadata.clone().into();
        }
        json!({
            "sender": {"id": draft.account},
            "recipient": {"id": draft.person},
            "timestamp": now_ms(),
            "message": message,
        })
    }
}

fn read_text(message: &Value) -> Result<String, &'static str> {
    match (message["text"].as_str(), &message["attachment"]) {
        (Some(""), _) => Err("(#100) The parameter message[text] is required"),
        (Some(text), _) if text.len() > TEXT_BYTES_MAX => {
            Err("(#100) Length of param message[text] must be less than or equal to 1000")
        }
        (Some(text), Value::Null) => Ok(text.to_owned()),
        (Some(_), _) => Err("(#100) Only one of the text and attachment params is allowed"),
        (None, Value::Object(_)) => Ok(String::new()),
        (None, _) => Err("(#100) param message must be non-empty."),
    }
}
