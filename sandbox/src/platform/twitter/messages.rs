//! Messages: sending them, and the pages of what was exchanged.

use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use axum::response::IntoResponse;
use chrono::{DateTime, SecondsFormat};
use serde_json::{Value, json};

use super::answers::{self, Answer, Limits, Problem, WINDOW_S};
use super::attached::Medium;
use super::{HANG, NAME, X};
use crate::call::Call;
use crate::faults::{Fault, Op};
use crate::ledger::{Sent, now};
use crate::upload::SentFile;
use crate::world::now_ms;

/// The longest text.
const TEXT_CHARS_MAX: usize = 10_000;
/// Calls of either kind in a window, per user.
const CALLS: u32 = 15;
/// The most messages of one page.
const PAGE_MAX: usize = 100;
/// How long an accepted send stays without an answer before the connection is closed.
const SILENCE: Duration = Duration::from_secs(35);
/// From accepting to the echo.
const ECHO_AFTER: Duration = Duration::from_millis(150);

/// A message as X keeps it.
#[derive(Clone)]
pub(super) struct Message {
    pub(super) id: String,
    pub(super) at_ms: i64,
    pub(super) from: String,
    pub(super) to: String,
    pub(super) text: String,
    /// The app that sent it, when it was one.
    pub(super) app: Option<String>,
    pub(super) medium: Option<Medium>,
}

impl Message {
    /// A message written just now.
    pub(super) fn new(id: String, from: &str, to: &str, text: &str) -> Self {
        Self {
            id,
            at_ms: now_ms(),
            from: from.to_owned(),
            to: to.to_owned(),
            text: text.to_owned(),
            app: None,
            medium: None,
        }
    }

    /// The conversation: the smaller number first.
    pub(super) fn conversation(&self) -> String {
        let number = |id: &str| id.parse::<u128>().unwrap_or(u128::MAX);
        let (one, other) = (&self.from, &self.to);
        if number(one) <= number(other) {
            format!("{one}-{other}")
        } else {
            format!("{other}-{one}")
        }
    }

    /// The text as X hands it out: escaped once, with a link that stands for the medium.
    pub(super) fn escaped(&self) -> String {
        let text = self
            .text
            .replace('&', "&amp;")
            .replace('<', "&lt;")
            .replace('>', "&gt;");
        match &self.medium {
            Some(medium) => format!("{text} {}", medium.link()).trim().to_owned(),
            None => text,
        }
    }
}

impl X {
    /// Takes one call out of the window of this user, or refuses.
    fn limited(&self, user: &str, what: &'static str) -> Result<Limits, Problem> {
        let now_s = chrono::Utc::now().timestamp();
        let mut memory = self.memory();
        let window = memory.windows.entry((user.to_owned(), what));
        let (began_s, used) = window.or_insert((now_s, 0));
        if now_s >= *began_s + WINDOW_S {
            (*began_s, *used) = (now_s, 0);
        }
        let mut limits = Limits {
            limit: CALLS,
            remaining: CALLS.saturating_sub(*used),
            reset_s: *began_s + WINDOW_S,
        };
        if limits.remaining == 0 {
            return Err(Problem::too_many(limits));
        }
        *used += 1;
        limits.remaining -= 1;
        Ok(limits)
    }

    pub(super) async fn send(self: &Arc<Self>, call: &Call, to: &str) -> Answer {
        let user = self.caller(call)?;
        if to.is_empty() || !to.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(Problem::invalid("The participant_id is not a valid id."));
        }
        let written = call.param("text").unwrap_or_default();
        let attached = call.value("attachments").unwrap_or_default();
        let media = match attached.get(0) {
            None => None,
            Some(it) => {
                let id = it["media_id"].as_str().unwrap_or_default();
                let unknown = || Problem::invalid("The media id is invalid or has expired.");
                Some(self.world.uploads.get(id, &user).ok_or_else(unknown)?)
            }
        };
        if written.is_empty() && media.is_none() {
            return Err(Problem::invalid("One of text or attachments is required."));
        }
        if written.chars().count() > TEXT_CHARS_MAX {
            return Err(Problem::invalid("The text is too long."));
        }
        match self.world.faults.hit(NAME, Op::Send) {
            Some(Fault::Status {
                status,
                retry_after_s,
            }) => return Ok(answers::refuse(status, retry_after_s)),
            Some(Fault::Hang) => return Ok(call.leave_unanswered(HANG).await),
            Some(Fault::AcceptNoReply) => {
                self.accept(&user, to, &written, media);
                return Ok(call.leave_unanswered(SILENCE).await);
            }
            None => {}
        }
        let limits = self.limited(&user, "send")?;
        let message = self.accept(&user, to, &written, media);
        let data = json!({"dm_conversation_id": message.conversation(), "dm_event_id": message.id});
        let mut answer = answers::reply(StatusCode::CREATED, &json!({"data": data}));
        limits.put(&mut answer);
        Ok(answer)
    }

    /// From here on the message exists. The echo follows by itself.
    fn accept(
        self: &Arc<Self>,
        user: &str,
        to: &str,
        written: &str,
        media: Option<SentFile>,
    ) -> Message {
        let mut message = Message::new(self.new_id(), user, to, written);
        message.app = Some(self.app.app_id.clone()).filter(|app| !app.is_empty());
        self.memory().messages.push(message.clone());
        self.world.ledger.accept(Sent {
            platform: NAME,
            account: user.to_owned(),
            platform_message_id: message.id.clone(),
            to: to.to_owned(),
            text: written.to_owned(),
            metadata: None,
            media,
            at: now(),
        });
        if let Some(echo) = self.message_webhook(user, &message) {
            let world = Arc::clone(&self.world);
            tokio::spawn(async move {
                tokio::select! {
                    () = tokio::time::sleep(ECHO_AFTER) => {}
                    () = world.stop.cancelled() => return,
                }
                world.deliver(echo, 1).await;
            });
        }
        message
    }

    /// Newest first, in pages; with everybody or with one other user.
    pub(super) fn events(&self, call: &Call, other: Option<&str>) -> Answer {
        let user = self.caller(call)?;
        let limits = self.limited(&user, "fetch")?;
        let number = |name: &str| call.param(name).map(|text| text.parse::<usize>());
        let max = match number("max_results") {
            None => PAGE_MAX,
            Some(Ok(max)) if (1..=PAGE_MAX).contains(&max) => max,
            Some(_) => return Err(Problem::invalid("max_results must be between 1 and 100.")),
        };
        let before = match call.param("pagination_token") {
            None => None,
            Some(token) => Some(
                id_in(&token)
                    .ok_or_else(|| Problem::invalid("The pagination_token is not valid."))?,
            ),
        };
        let ours = |message: &&Message| {
            let parties = [message.from.as_str(), message.to.as_str()];
            parties.contains(&user.as_str()) && other.is_none_or(|other| parties.contains(&other))
        };
        let memory = self.memory();
        let found: Vec<Message> = memory
            .messages
            .iter()
            .rev()
            .filter(ours)
            .filter(|message| before.is_none_or(|id| message.id.parse().unwrap_or(0) < id))
            .take(max + 1)
            .cloned()
            .collect();
        drop(memory);
        let page = &found[..found.len().min(max)];
        let mut body = json!({"meta": {"result_count": page.len()}});
        if let (Some(last), true) = (page.last(), found.len() > max) {
            body["meta"]["next_token"] = format!("18LA{}", hex::encode(&last.id)).into();
        }
        if !page.is_empty() {
            body["data"] = page.iter().map(|message| shown(call, message)).collect();
            self.include(call, page, &mut body);
        }
        let mut answer = answers::ok(&body).into_response();
        limits.put(&mut answer);
        Ok(answer)
    }

    /// One message.
    pub(super) fn event(&self, call: &Call, id: &str) -> Answer {
        let user = self.caller(call)?;
        let found = self
            .memory()
            .messages
            .iter()
            .find(|it| it.id == id)
            .cloned();
        let message = found
            .filter(|message| [&message.from, &message.to].contains(&&user))
            .ok_or_else(|| Problem::not_found("dm_event"))?;
        let mut body = json!({"data": shown(call, &message)});
        self.include(call, &[message], &mut body);
        Ok(answers::ok(&body))
    }

    fn include(&self, call: &Call, page: &[Message], body: &mut Value) {
        if asks(call, "expansions", "sender_id") {
            let mut senders: Vec<&str> = page.iter().map(|message| message.from.as_str()).collect();
            senders.sort_unstable();
            senders.dedup();
            body["includes"]["users"] = senders.into_iter().map(|id| self.user(id)).collect();
        }
        let media: Vec<Value> = page
            .iter()
            .filter_map(|it| Some(self.included(&it.id, it.medium.as_ref()?)))
            .collect();
        if asks(call, "expansions", "attachments.media_keys") && !media.is_empty() {
            body["includes"]["media"] = media.into();
        }
    }
}

/// A message with the fields that were asked for; without asking there are three.
fn shown(call: &Call, message: &Message) -> Value {
    let at = DateTime::from_timestamp_millis(message.at_ms).unwrap_or_default();
    let mut event =
        json!({"id": message.id, "event_type": "MessageCreate", "text": message.escaped()});
    for (field, value) in [
        ("sender_id", message.from.clone()),
        ("dm_conversation_id", message.conversation()),
        (
            "created_at",
            at.to_rfc3339_opts(SecondsFormat::Millis, true),
        ),
    ] {
        if asks(call, "dm_event.fields", field) {
            event[field] = value.into();
        }
    }
    if let Some(medium) = &message.medium {
        if asks(call, "dm_event.fields", "attachments") {
            event["attachments"] = json!({"media_keys": [medium.key()]});
        }
        if asks(call, "dm_event.fields", "entities") {
            event["entities"] = json!({"urls": [medium.entity(&message.id)]});
        }
    }
    event
}

fn asks(call: &Call, param: &str, field: &str) -> bool {
    let list = call.param(param).unwrap_or_default();
    list.split(',').any(|asked| asked == field)
}

fn id_in(token: &str) -> Option<i64> {
    let id = hex::decode(token.strip_prefix("18LA")?).ok()?;
    String::from_utf8(id).ok()?.parse().ok()
}
