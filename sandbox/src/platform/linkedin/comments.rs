//! Comments on an organization's post: by others and by the organization, and how it is told.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::http::{HeaderValue, StatusCode};
use serde_json::{Value, json};

use super::answers::{self, Answer, Refusal};
use super::login::Caller;
use super::{HANG, NAME, PATH, Site};
use crate::call::Call;
use crate::deliver::Webhook;
use crate::faults::{Fault, Op};
use crate::ledger::{Sent, now};
use crate::platform::{Incoming, Written};
use crate::sign::hmac_hex;
use crate::upload::SentFile;
use crate::world::now_ms;

/// The longest comment.
const TEXT_CHARS_MAX: usize = 1250;
/// How long an accepted comment stays without an answer before the connection is closed.
const SILENCE: Duration = Duration::from_secs(35);
/// From accepting to the notification.
const ECHO_AFTER: Duration = Duration::from_millis(150);

/// The one post an organization has.
fn post_of(organization: &str) -> String {
    let number = organization.rsplit(':').next().unwrap_or_default();
    format!("urn:li:activity:72{number:0>17}")
}

impl Site {
    fn new_comment(&self, post: &str) -> (String, String) {
        let id = format!("{}{:06}", now_ms(), {
            let mut memory = self.memory();
            memory.notifications += 1;
            memory.notifications % 1_000_000
        });
        let urn = format!("urn:li:comment:({post},{id})");
        (id, urn)
    }

    /// Somebody has commented on an organization's post.
    pub(super) fn commented(&self, organization: &str, incoming: &Incoming) -> Written {
        let post = post_of(organization);
        let (_, urn) = self.new_comment(&post);
        let from = &incoming.from_id;
        let owner = match from.starts_with("urn:li:") {
            true => from.clone(),
            false => format!("urn:li:person:{from}"),
        };
        let webhook = self.notification(organization, "COMMENT", &urn, &owner, &incoming.text);
        Written {
            message_id: urn,
            webhook,
        }
    }

    /// An organization comments through one of its administrators.
    pub(super) async fn comment(self: &Arc<Self>, call: &Call, post: &str) -> Answer {
        let caller = self.versioned(call)?;
        let actor = call.param("actor").unwrap_or_default();
        if call.param("object").as_deref() != Some(post) {
            return Err(Refusal::invalid("object does not match the path"));
        }
        if !self.may_speak_for(&caller, &actor) {
            return Err(Refusal::denied());
        }
        if post != post_of(&actor) {
            return Err(Refusal::not_found());
        }
        let message = call.value("message").unwrap_or_default();
        let text = message["text"].as_str().unwrap_or_default().to_owned();
        let is_empty = text.is_empty() && call.value("content").is_none();
        if is_empty || text.chars().count() > TEXT_CHARS_MAX {
            return Err(Refusal::invalid(
                "message.text must have 1 to 1250 characters",
            ));
        }
        let content = call.value("content").unwrap_or_default();
        let media = self.handed_over(&content[0]["entity"]["image"], &actor)?;
        match self.world.faults.hit(NAME, Op::Send) {
            Some(Fault::Status {
                status,
                retry_after_s,
            }) => return Ok(answers::refuse(status, retry_after_s)),
            Some(Fault::Hang) => return Ok(call.leave_unanswered(HANG).await),
            Some(Fault::AcceptNoReply) => {
                self.accept(&actor, post, &text, media);
                return Ok(call.leave_unanswered(SILENCE).await);
            }
            None => {}
        }
        let (id, urn) = self.accept(&actor, post, &text, media);
        let body = json!({"id": id, "$URN": urn, "commentUrn": urn, "actor": actor,
            "object": post, "message": {"text": text, "attributes": []},
            "created": {"actor": actor, "time": now_ms()}});
        let mut answer = answers::reply(StatusCode::CREATED, &body);
        if let Ok(id) = HeaderValue::from_str(&id) {
            answer.headers_mut().insert("x-restli-id", id);
        }
        Ok(answer)
    }

    /// From here on the comment exists. The notification follows by itself.
    fn accept(
        self: &Arc<Self>,
        organization: &str,
        post: &str,
        text: &str,
        media: Option<SentFile>,
    ) -> (String, String) {
        let (id, urn) = self.new_comment(post);
        self.world.ledger.accept(Sent {
            platform: NAME,
            account: organization.to_owned(),
            platform_message_id: urn.clone(),
            to: post.to_owned(),
            text: text.to_owned(),
            metadata: None,
            media,
            at: now(),
        });
        let echo = self.notification(organization, "ADMIN_COMMENT", &urn, organization, text);
        if let Some(echo) = echo {
            let world = Arc::clone(&self.world);
            tokio::spawn(async move {
                tokio::select! {
                    () = tokio::time::sleep(ECHO_AFTER) => {}
                    () = world.stop.cancelled() => return,
                }
                world.deliver(echo, 1).await;
            });
        }
        (id, urn)
    }

    /// Who administers an organization may speak for it, if they allowed the app to.
    pub(super) fn may_speak_for(&self, caller: &Caller, organization: &str) -> bool {
        let administers = self.member(&caller.member).organization.as_deref() == Some(organization);
        administers && caller.may("w_organization_social")
    }

    /// One notification for each administrator; `None` while nothing is delivered.
    fn notification(
        &self,
        organization: &str,
        action: &str,
        urn: &str,
        owner: &str,
        text: &str,
    ) -> Option<Webhook> {
        let post = post_of(organization);
        let mut memory = self.memory();
        let valid = memory.valid;
        let administers =
            |member: &super::Member| member.organization.as_deref() == Some(organization);
        let subscribers: Vec<String> = memory
            .members
            .iter()
            .filter(|(_, member)| administers(member))
            .map(|(id, _)| format!("urn:li:person:{id}"))
            .collect();
        let mut notifications = Vec::new();
        for subscriber in subscribers {
            memory.notifications += 1;
            notifications.push(json!({
                "notificationId": now_ms() * 1000 + i64::try_from(memory.notifications % 1000).unwrap_or_default(),
                "organizationalEntity": organization,
                "action": action,
                "sourcePost": post,
                "generatedActivity": urn,
                "lastModifiedAt": now_ms(),
                "subscriber": subscriber,
                "decoratedSourcePost": {"entity": post, "owner": organization,
                    "text": "Autumn teapots", "mediaCategory": "NONE"},
                "decoratedGeneratedActivity": {"comment": {"entity": urn, "owner": owner,
                    "object": post, "text": text}},
            }));
        }
        drop(memory);
        if let Some(first) = notifications.first() {
            self.note(organization, first);
        }
        if !valid {
            return None;
        }
        let body = json!({"type": "ORGANIZATION_SOCIAL_ACTION_NOTIFICATIONS",
            "notifications": notifications});
        Some(self.webhook(&body))
    }

    fn webhook(&self, body: &Value) -> Webhook {
        let body = body.to_string();
        let signed = format!("hmacsha256={body}");
        let signature = hmac_hex(self.app.client_secret.as_bytes(), signed.as_bytes());
        Webhook {
            platform: NAME,
            path: PATH,
            headers: vec![("x-li-signature", signature)],
            body: Bytes::from(body),
        }
    }
}
