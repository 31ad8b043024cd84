//! Sending: checked like the platform checks, accepted, echoed, and receipted.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::{Messenger, NAME};
use crate::call::{Call, text};
use crate::faults::{Fault, Op};
use crate::ledger::{Sent, now};
use crate::platform::graph::{self, Answer, GraphError, Kind, Product};
use crate::upload::SentFile;

/// A text must be shorter than this many code points.
const TEXT_CHARS_END: usize = 2000;
/// Metadata must be shorter than this many code points.
const METADATA_CHARS_END: usize = 1000;
/// How long an accepted send stays without an answer before the connection is closed.
const SILENCE: Duration = Duration::from_secs(35);
/// From accepting to the echo; often sooner than the hub has handled the answer.
const ECHO_AFTER: Duration = Duration::from_millis(150);
/// The same when no answer is given.
const ECHO_AFTER_SILENCE: Duration = Duration::from_millis(300);
/// From the echo to the delivery receipt.
const RECEIPT_AFTER: Duration = Duration::from_millis(200);
/// Actions that show something without being a message.
const SENDER_ACTIONS: [&str; 5] = ["typing_on", "typing_off", "mark_seen", "react", "unreact"];
/// Attachments the platform knows.
const ATTACHMENTS: [&str; 5] = ["image", "video", "audio", "file", "template"];

/// A send that the platform would take.
pub(super) struct Draft {
    pub(super) page: String,
    pub(super) psid: String,
    /// Empty for pure media.
    pub(super) text: String,
    pub(super) metadata: Option<String>,
    pub(super) media: Option<SentFile>,
}

/// What a request to the Send API asks for.
enum Asked {
    Message(Draft),
    Action { psid: String },
}

impl Messenger {
    /// The Send API.
    pub(super) async fn send(self: &Arc<Self>, call: &Call, node: &str) -> Answer {
        let draft = match self.read_send(call, node)? {
            Asked::Message(draft) => draft,
            Asked::Action { psid } => {
                return Ok(graph::ok(
                    &self.login.app_id,
                    &json!({"recipient_id": psid}),
                ));
            }
        };
        Ok(match self.world.faults.hit(NAME, Op::Send) {
            Some(Fault::Status {
                status,
                retry_after_s,
            }) => graph::refuse(Product::Messenger, &draft.page, status, retry_after_s),
            Some(Fault::Hang) => call.leave_unanswered(graph::HANG).await,
            Some(Fault::AcceptNoReply) => {
                self.accept(draft, ECHO_AFTER_SILENCE);
                call.leave_unanswered(SILENCE).await
            }
            None => {
                let (page, psid) = (draft.page.clone(), draft.psid.clone());
                let mid = self.accept(draft, ECHO_AFTER);
                graph::ok(&page, &json!({"recipient_id": psid, "message_id": mid}))
            }
        })
    }

    fn read_send(&self, call: &Call, node: &str) -> Result<Asked, GraphError> {
        let token = self.bearer(call)?;
        if token.kind != Kind::Page || (node != "me" && node != token.page) {
            return Err(graph::not_found(node));
        }
        let bad = |message: &str| GraphError::new(100, message);
        let recipient = call.value("recipient").unwrap_or_default();
        let psid = text(&recipient["id"])
            .filter(|id| !id.is_empty())
            .ok_or_else(|| bad("(#100) param recipient must be non-empty."))?;
        if let Some(action) = call.param("sender_action") {
            return if SENDER_ACTIONS.contains(&action.as_str()) {
                Ok(Asked::Action { psid })
            } else {
                Err(bad(
                    "(#100) Param sender_action must be one of the known actions",
                ))
            };
        }
        check_type(call).map_err(|message| bad(&message))?;
        let message = call.value("message").unwrap_or_default();
        let (text, metadata) = read_message(&message).map_err(|message| bad(&message))?;
        let media = match &message["attachment"]["payload"]["attachment_id"] {
            Value::Null => None,
            id => {
                let id = crate::call::text(id).unwrap_or_default();
                let unknown = || {
                    let words = "(#100) The attachment id is not known or of another Page";
                    GraphError::new(100, words).sub(2_018_008)
                };
                let file = self.world.uploads.get(&id, &token.page);
                let kind = &message["attachment"]["type"];
                Some(file.filter(|file| *kind == file.kind).ok_or_else(unknown)?)
            }
        };
        Ok(Asked::Message(Draft {
            media,
            page: token.page,
            psid,
            text,
            metadata,
        }))
    }

    /// From here on the message exists. The echo and the receipt follow by themselves.
    fn accept(self: &Arc<Self>, draft: Draft, echo_after: Duration) -> String {
        let mid = self.new_mid();
        let mut line = graph::threads::Line::from_page(&mid, &draft.text);
        if let Some(media) = &draft.media {
            line = line.with(&media.kind, &self.url_of(media));
        }
        self.remember(&draft.page, &draft.psid, line);
        self.world.ledger.accept(Sent {
            platform: NAME,
            account: draft.page.clone(),
            platform_message_id: mid.clone(),
            to: draft.psid.clone(),
            text: draft.text.clone(),
            metadata: draft.metadata.clone(),
            media: draft.media.clone(),
            at: now(),
        });
        let echo = self.echo_webhook(&draft, &mid);
        let receipt = self.delivery_webhook(&draft, &mid);
        let world = Arc::clone(&self.world);
        tokio::spawn(async move {
            for (wait, webhook) in [(echo_after, echo), (RECEIPT_AFTER, receipt)] {
                tokio::select! {
                    () = tokio::time::sleep(wait) => {}
                    () = world.stop.cancelled() => return,
                }
                world.deliver(webhook, 1).await;
            }
        });
        mid
    }
}

fn check_type(call: &Call) -> Result<(), String> {
    let kind = call
        .param("messaging_type")
        .unwrap_or_else(|| "RESPONSE".to_owned());
    match kind.as_str() {
        "RESPONSE" | "UPDATE" | "UTILITY" => Ok(()),
        "MESSAGE_TAG" if call.param("tag").is_some_and(|tag| tag == "HUMAN_AGENT") => Ok(()),
        "MESSAGE_TAG" => {
            Err("(#100) The message tag is missing or no longer supported.".to_owned())
        }
        _ => Err(
            "(#100) Param messaging_type must be one of {RESPONSE, UPDATE, MESSAGE_TAG, \
                  UTILITY}"
                .to_owned(),
        ),
    }
}

fn read_message(message: &Value) -> Result<(String, Option<String>), String> {
    let metadata = message["metadata"].as_str().map(str::to_owned);
    let long = metadata
        .as_ref()
        .is_some_and(|data| data.chars().count() >= METADATA_CHARS_END);
    if long {
        return Err("(#100) Length of param message[metadata] must be less than 1000".to_owned());
    }
    match (message["text"].as_str(), &message["attachment"]) {
        (Some(text), Value::Null) => {
            if text.is_empty() {
                return Err("(#100) The parameter message[text] is required".to_owned());
            }
            if text.chars().count() >= TEXT_CHARS_END {
                return Err(
                    "(#100) Length of param message[text] must be less than 2000".to_owned(),
                );
            }
            Ok((text.to_owned(), metadata))
        }
        (Some(_), _) => {
            Err("(#100) Only one of the text and attachment params is allowed".to_owned())
        }
        (None, Value::Object(attachment)) => {
            let kind = attachment
                .get("type")
                .and_then(Value::as_str)
                .unwrap_or_default();
            if !ATTACHMENTS.contains(&kind) || !attachment.contains_key("payload") {
                return Err("(#100) Param message[attachment] is not valid".to_owned());
            }
            Ok((String::new(), metadata))
        }
        (None, _) => Err("(#100) param message must be non-empty.".to_owned()),
    }
}
