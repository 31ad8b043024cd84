//! Sending: checked like Graph checks, accepted, and told to whoever has subscribed.

use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::{Answer, Graph, GraphError, HANG, NAME, reply};
use crate::call::Call;
use crate::faults::{Fault, Op};
use crate::ledger::{Sent, now};
use crate::upload::{File, SentFile};

/// The largest message, markup included, in UTF-16.
const MESSAGE_BYTES_MAX: usize = 28 * 1024;
/// How long an accepted send stays without an answer before the connection is closed.
const SILENCE: Duration = Duration::from_secs(35);
/// From accepting to the notification; often sooner than the hub has handled the answer.
const TOLD_AFTER: Duration = Duration::from_millis(150);

/// A message that the platform would take.
struct Draft {
    person: String,
    chat: String,
    to: String,
    kind: &'static str,
    content: String,
    media: Option<SentFile>,
}

impl Graph {
    /// Posts a message to a chat.
    pub(super) async fn send(self: &Arc<Self>, call: &Call, chat: &str) -> Answer {
        let draft = self.draft(call, chat)?;
        match self.world.faults.hit(NAME, Op::Send) {
            Some(Fault::Status {
                status,
                retry_after_s,
            }) => Err(GraphError::told(status, retry_after_s)),
            Some(Fault::Hang) => Ok(call.leave_unanswered(HANG).await),
            Some(Fault::AcceptNoReply) => {
                self.accept(draft);
                Ok(call.leave_unanswered(SILENCE).await)
            }
            None => {
                let id = self.accept(draft);
                let message = self.find(chat, &id).ok_or_else(GraphError::not_found)?;
                Ok(reply(StatusCode::CREATED, &self.shown(chat, &message)))
            }
        }
    }

    fn draft(&self, call: &Call, chat: &str) -> Result<Draft, GraphError> {
        let token = self.bearer(call)?;
        let to = self.other(chat, &token.person)?;
        let body = call.value("body").unwrap_or_default();
        let content = body["content"]
            .as_str()
            .filter(|content| !content.is_empty())
            .ok_or_else(|| GraphError::bad("Missing body content"))?;
        let kind = match body["contentType"].as_str().unwrap_or("text") {
            "text" => "text",
            "html" => "html",
            _ => return Err(GraphError::bad("Invalid contentType")),
        };
        if content.encode_utf16().count() * 2 > MESSAGE_BYTES_MAX {
            return Err(GraphError::told(413, None));
        }
        let media = self.hosted_content(call, kind, content)?;
        Ok(Draft {
            media,
            person: token.person,
            chat: chat.to_owned(),
            to,
            kind,
            content: content.to_owned(),
        })
    }

    /// The picture that comes inside of a message. Whatever is given has to be shown.
    fn hosted_content(
        &self,
        call: &Call,
        kind: &str,
        content: &str,
    ) -> Result<Option<SentFile>, GraphError> {
        let hosted = call.value("hostedContents").unwrap_or_default();
        let Some(hosted) = hosted.get(0) else {
            return Ok(None);
        };
        let text = |name: &str| hosted[name].as_str().unwrap_or_default().to_owned();
        let place = format!(
            "../hostedContents/{}/$value",
            text("@microsoft.graph.temporaryId")
        );
        let bytes = STANDARD.decode(text("contentBytes"));
        let bytes = bytes.map_err(|_| GraphError::bad("Invalid contentBytes"))?;
        let file = File {
            field: String::new(),
            name: String::new(),
            mime: text("contentType"),
            bytes: bytes.into(),
        };
        if kind != "html" || !content.contains(&place) || file.looks_like() != file.mime {
            return Err(GraphError::bad("Invalid hostedContents"));
        }
        Ok(Some(self.world.shelve("image", &file)))
    }

    /// From here on the message exists. Both sides are told by themselves.
    fn accept(self: &Arc<Self>, draft: Draft) -> String {
        let id = self.add_message(&draft.chat, &draft.person, draft.kind, &draft.content);
        let told = [&draft.person, &draft.to]
            .map(|person| self.notification(person, &draft.chat, &id, "created"));
        self.world.ledger.accept(Sent {
            platform: NAME,
            account: draft.person,
            platform_message_id: id.clone(),
            to: draft.to,
            text: match draft.kind {
                "html" => plain(&draft.content),
                _ => draft.content,
            },
            metadata: None,
            media: draft.media,
            at: now(),
        });
        let world = Arc::clone(&self.world);
        tokio::spawn(async move {
            tokio::select! {
                () = tokio::time::sleep(TOLD_AFTER) => {}
                () = world.stop.cancelled() => return,
            }
            for webhook in told.into_iter().flatten() {
                world.deliver(webhook, 1).await;
            }
        });
        id
    }
}

/// The text of simple HTML, for whoever looks at what was sent.
fn plain(html: &str) -> String {
    let mut text = String::new();
    let mut inside = false;
    for letter in html.replace("<br>", "\n").chars() {
        match letter {
            '<' => inside = true,
            '>' if inside => inside = false,
            letter if !inside => text.push(letter),
            _ => {}
        }
    }
    text.replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&quot;", "\"")
        .replace("&amp;", "&")
}
