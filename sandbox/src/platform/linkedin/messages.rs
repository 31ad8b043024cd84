//! Members' messages: written by the few apps that may, and what is attached to those that others
//! write.

use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::IntoResponse as _;
use serde_json::{Value, json};

use super::answers::{self, Answer, Refusal};
use super::uploads::ASSET;
use super::{HANG, NAME, Site};
use crate::call::Call;
use crate::faults::{Fault, Op};
use crate::ledger::{Sent, now};
use crate::platform::Attached;
use crate::sign::hmac_hex;

/// The longest message.
const BODY_CHARS_MAX: usize = 8000;
/// How long an accepted message stays without an answer before the connection is closed.
const SILENCE: Duration = Duration::from_secs(35);

/// What a GIF lies under.
const GIF: &str = "com.linkedin.messaging.plugin.content.ThirdPartyMedia";

impl Site {
    /// A member writes into a thread they are in.
    pub(super) async fn message(self: &Arc<Self>, call: &Call) -> Answer {
        let caller = self.caller(call)?;
        if !caller.may("w_messages") {
            return Err(Refusal::denied());
        }
        let thread = call.param("thread").unwrap_or_default();
        if thread.is_empty() == call.value("recipients").is_none() {
            return Err(Refusal::invalid("either recipients or thread is required"));
        }
        if call.param("messageType").as_deref() != Some("MEMBER_TO_MEMBER") {
            return Err(Refusal::invalid("messageType is required"));
        }
        let text = call.param("body").unwrap_or_default();
        let attachments = call.value("attachments").unwrap_or_default();
        let first = &attachments[0];
        if (text.is_empty() && first.is_null()) || text.chars().count() > BODY_CHARS_MAX {
            return Err(Refusal::invalid("body must have 1 to 8000 characters"));
        }
        if !self.is_in(&caller.member, &thread) {
            return Err(Refusal::denied());
        }
        let owner = format!("urn:li:person:{}", caller.member);
        let media = self.handed_over(first, &owner)?;
        let fault = self.world.faults.hit(NAME, Op::Send);
        match fault {
            Some(Fault::Status {
                status,
                retry_after_s,
            }) => return Ok(answers::refuse(status, retry_after_s)),
            Some(Fault::Hang) => return Ok(call.leave_unanswered(HANG).await),
            Some(Fault::AcceptNoReply) | None => {}
        }
        let mut activity = plain(&text);
        activity["attachments"] = attachments.clone();
        let id = self.log(&caller.member, &owner, &thread, activity);
        self.world.ledger.accept(Sent {
            platform: NAME,
            account: caller.member,
            platform_message_id: id.clone(),
            to: thread,
            text,
            metadata: None,
            media,
            at: now(),
        });
        if fault.is_some() {
            return Ok(call.leave_unanswered(SILENCE).await);
        }
        let mut answer = StatusCode::CREATED.into_response();
        if let Ok(id) = HeaderValue::from_str(&id) {
            answer.headers_mut().insert("x-restli-id", id);
        }
        Ok(answer)
    }

    fn is_in(&self, member: &str, thread: &str) -> bool {
        let memory = self.memory();
        let log = memory.changes.get(member);
        log.is_some_and(|log| log.iter().any(|it| it["activity"]["thread"] == thread))
    }

    /// A medium of a member's message, for who has the token: the API keeps no bytes, and says where
    /// they are.
    pub(super) fn download(&self, call: &Call, id: &str) -> Answer {
        let member = self.caller(call)?.member;
        let urn = format!("{ASSET}{id}");
        let memory = self.memory();
        let log = memory.changes.get(&member);
        let is_theirs = log.is_some_and(|log| log.iter().any(|it| it.to_string().contains(&urn)));
        drop(memory);
        let name = hex::decode(id)
            .ok()
            .and_then(|it| String::from_utf8(it).ok());
        if !is_theirs || name.is_none() {
            return Err(Refusal::not_found());
        }
        let place = format!("/dms/{id}?t={}", self.signature(id));
        let place = [(header::LOCATION, self.world.url(&place))];
        Ok((StatusCode::FOUND, place).into_response())
    }

    /// The bytes, for who has the signed address. It is of the same origin here, so a token says
    /// nothing.
    pub(super) async fn bytes(&self, call: &Call, id: &str) -> Answer {
        if call.param("t") != Some(self.signature(id)) {
            return Ok(StatusCode::FORBIDDEN.into_response());
        }
        let name = hex::decode(id)
            .ok()
            .and_then(|it| String::from_utf8(it).ok());
        let name = name.ok_or_else(Refusal::not_found)?;
        Ok(self.world.hand_out(NAME, call, &name).await)
    }

    fn signature(&self, id: &str) -> String {
        let secret = self.app.client_secret.as_bytes();
        hmac_hex(secret, format!("file {id}").as_bytes())
    }
}

/// The content of a message with this text.
pub(super) fn plain(text: &str) -> Value {
    json!({"attachments": [], "content": {"format": "TEXT", "formatVersion": 1, "fallback": text,
        "content": {"string": text}}})
}

/// The content of a message with something attached: a clip lies somewhere else on the internet, any
/// other file is an asset.
pub(super) fn attached(text: &str, media: &Attached) -> Value {
    let mut activity = plain(text);
    if media.name.ends_with(".gif") {
        let clip = json!({"id": "g1", "media": {"gif": {"url": media.url, "width": 200}}});
        activity["extensionContent"] = json!({"contentRecordMap": {"ThirdPartyMedia": {
            "contentRecord": {GIF: clip}}}});
    } else {
        let urn = format!("{ASSET}{}", hex::encode(&media.name));
        activity["attachments"] = json!([urn]);
    }
    activity
}
