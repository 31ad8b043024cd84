//! Sending: checked like the platform checks, accepted, and then followed by statuses.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::{Cloud, NAME, Person, now_s};
use crate::call::Call;
use crate::faults::{Fault, Op};
use crate::ledger::{Sent, now};
use crate::platform::graph::{self, Answer, GraphError, Product};
use crate::upload::SentFile;

/// Longest text in code points.
const TEXT_CHARS_MAX: usize = 4096;
/// Longest text beside a file, in code points.
const CAPTION_CHARS_MAX: usize = 1024;
/// Longest reference in bytes.
const REFERENCE_BYTES_MAX: usize = 512;
/// How long an accepted send stays without an answer before the connection is closed.
const SILENCE: Duration = Duration::from_secs(35);
/// From accepting to the first status; often sooner than the hub has handled the answer.
const STATUS_AFTER: Duration = Duration::from_millis(150);
/// The same when no answer is given.
const STATUS_AFTER_SILENCE: Duration = Duration::from_millis(300);
/// From one status to the next.
const NEXT_AFTER: Duration = Duration::from_millis(200);

/// A send that the platform would take.
struct Draft {
    number: String,
    person: Person,
    /// Whether it was addressed to the phone number.
    by_phone: bool,
    text: String,
    media: Option<SentFile>,
    reference: Option<String>,
}

impl Cloud {
    /// The messages edge.
    pub(super) async fn send(self: &Arc<Self>, call: &Call, number: &str) -> Answer {
        let token = self.token_for(call, number)?;
        if call
            .param("messaging_product")
            .is_none_or(|name| name != NAME)
        {
            let words = "(#100) The parameter messaging_product is required.";
            return Err(GraphError::new(100, words));
        }
        if call.param("status").is_some_and(|status| status == "read") {
            return Ok(graph::ok(number, &json!({"success": true})));
        }
        let draft = self.read_send(call, token.page)?;
        Ok(match self.world.faults.hit(NAME, Op::Send) {
            Some(Fault::Status {
                status,
                retry_after_s,
            }) => graph::refuse(Product::Whatsapp, &draft.number, status, retry_after_s),
            Some(Fault::Hang) => call.leave_unanswered(graph::HANG).await,
            Some(Fault::AcceptNoReply) => {
                self.accept(draft, STATUS_AFTER_SILENCE);
                call.leave_unanswered(SILENCE).await
            }
            None => {
                let contact = match (&draft.person.phone, draft.by_phone) {
                    (Some(phone), true) => json!({"input": format!("+{phone}"), "wa_id": phone}),
                    _ => json!({"input": draft.person.user, "user_id": draft.person.user}),
                };
                let number = draft.number.clone();
                let id = self.accept(draft, STATUS_AFTER);
                let body = json!({"messaging_product": NAME, "contacts": [contact],
                    "messages": [{"id": id}]});
                graph::ok(&number, &body)
            }
        })
    }

    fn read_send(&self, call: &Call, number: String) -> Result<Draft, GraphError> {
        let required = |name: &str| {
            GraphError::new(
                131_008,
                format!("(#131008) Required parameter is missing: {name}"),
            )
        };
        let to = call
            .param("to")
            .map(|to| to.trim_start_matches('+').to_owned());
        let by_phone = to.is_some();
        let to = to.or_else(|| call.param("recipient"));
        let to = to.ok_or_else(|| required("to"))?;
        let person = self
            .person(&to)
            .ok_or_else(|| GraphError::new(131_026, "(#131026) Message undeliverable"))?;
        let kind = call.param("type").unwrap_or_else(|| "text".to_owned());
        let (text, media) = if kind == "text" {
            let body = call.value("text").unwrap_or_default();
            let text = body["body"].as_str().filter(|text| !text.is_empty());
            (text.ok_or_else(|| required("text"))?.to_owned(), None)
        } else {
            let (caption, media) = self.read_media(call, &number, &kind)?;
            (caption, Some(media))
        };
        let reference = call.param("biz_opaque_callback_data");
        let long = reference
            .as_ref()
            .is_some_and(|it| it.len() > REFERENCE_BYTES_MAX);
        if long || text.chars().count() > TEXT_CHARS_MAX {
            let words = "(#100) Param text['body'] must be at most 4096 characters long.";
            return Err(GraphError::new(100, words));
        }
        Ok(Draft {
            number,
            person,
            by_phone,
            text,
            media,
            reference,
        })
    }

    /// The caption and the file of a message that has one.
    fn read_media(
        &self,
        call: &Call,
        number: &str,
        kind: &str,
    ) -> Result<(String, SentFile), GraphError> {
        if !["image", "video", "audio", "document"].contains(&kind) {
            let words = "(#131051) Unsupported message type";
            return Err(GraphError::new(131_051, words));
        }
        let object = call.value(kind).unwrap_or_default();
        let id = object["id"].as_str().unwrap_or_default();
        let wrong = || {
            let words = format!("(#131009) Parameter value is not valid: {kind}");
            GraphError::new(131_009, words)
        };
        let mut file = self.world.uploads.get(id, number).ok_or_else(wrong)?;
        let caption = object["caption"].as_str().unwrap_or_default();
        let fits = kind == "document" || file.kind == kind;
        if !fits || kind == "audio" && !caption.is_empty() {
            return Err(wrong());
        }
        if caption.chars().count() > CAPTION_CHARS_MAX {
            let words = "(#100) Param caption must be at most 1024 characters long.";
            return Err(GraphError::new(100, words));
        }
        if let Some(name) = object["filename"].as_str() {
            name.clone_into(&mut file.name);
        }
        kind.clone_into(&mut file.kind);
        Ok((caption.to_owned(), file))
    }

    /// From here on the message exists. Statuses follow by themselves.
    fn accept(self: &Arc<Self>, draft: Draft, first_after: Duration) -> String {
        let id = self.new_wamid();
        let Person { phone, user, .. } = &draft.person;
        self.world.ledger.accept(Sent {
            platform: NAME,
            account: draft.number.clone(),
            platform_message_id: id.clone(),
            to: phone.as_ref().unwrap_or(user).clone(),
            text: draft.text.clone(),
            metadata: draft.reference.clone(),
            media: draft.media.clone(),
            at: now(),
        });
        let failure = self.state().failures.pop_front();
        let (cloud, wamid) = (Arc::clone(self), id.clone());
        tokio::spawn(async move {
            let course: &[&str] = match failure {
                Some(_) => &["failed"],
                None => &["sent", "delivered", "read"],
            };
            let mut wait = first_after;
            for status in course {
                tokio::select! {
                    () = tokio::time::sleep(wait) => {}
                    () = cloud.world.stop.cancelled() => return,
                }
                let value = status_of(&draft, &wamid, status, failure);
                let webhook = cloud.webhook(&draft.number, value);
                cloud.world.deliver(webhook, 1).await;
                wait = NEXT_AFTER;
            }
        });
        id
    }
}

fn status_of(draft: &Draft, id: &str, status: &str, failure: Option<u32>) -> Value {
    let mut item = json!({"id": id, "status": status, "timestamp": now_s()});
    let person = &draft.person;
    match (&person.phone, draft.by_phone) {
        (Some(phone), true) => item["recipient_id"] = phone.as_str().into(),
        _ => item["recipient_user_id"] = person.user.as_str().into(),
    }
    if let Some(reference) = &draft.reference {
        item["biz_opaque_callback_data"] = reference.as_str().into();
    }
    if let Some(code) = failure {
        // A failure sent to a number names nobody but that number.
        item["errors"] = json!([{"code": code, "title": "Message failed to send",
            "message": "Message failed to send",
            "error_data": {"details": "The played platform was told to fail it."}}]);
        return json!({"statuses": [item]});
    }
    item["recipient_user_id"] = person.user.as_str().into();
    item["pricing"] = json!({"billable": false, "pricing_model": "PMP", "type": "free_customer_service",
        "category": "service"});
    let contact = json!({"profile": {"name": person.name}, "user_id": person.user});
    json!({"contacts": [contact], "statuses": [item]})
}
