//! Sending one message, and what the answer means.
//!
//! Descriptions are not a contract of Telegram's, so they only refine what the code says.

use std::time::Duration;

use serde_json::Value;

use super::thread::Thread;
use super::{bot_id, method_url};
use crate::event::MessageType;
use crate::platform::http::{HttpRequest, HttpResponse, Part, TransportError};
use crate::platform::media::upload::{MB, Medium, Takes};
use crate::platform::{App, Credentials, Outbound, SendOutcome, outcome, wire};
use crate::secret::Secret;

/// Waits up to this long are about one chat: a group takes twenty messages a minute.
pub(super) const OF_CHAT_MAX: Duration = Duration::from_secs(60);
/// Longest text beside a medium, in UTF-16 units.
const CAPTION_MAX: usize = 1024;

/// A picture that moves.
const GIF: &str = "image/gif";

/// What bots may upload (<https://core.telegram.org/bots/api#sending-files>).
pub(super) const MEDIA: [Takes; 4] = [
    Takes {
        kind: MessageType::Image,
        types: &["image/jpeg", "image/png", "image/webp"],
        bytes_max: 10 * MB,
        caption_max: CAPTION_MAX,
    },
    Takes {
        kind: MessageType::Image,
        types: &[GIF],
        bytes_max: 50 * MB,
        caption_max: CAPTION_MAX,
    },
    Takes {
        kind: MessageType::Video,
        types: &["video/mp4", "video/quicktime"],
        bytes_max: 50 * MB,
        caption_max: CAPTION_MAX,
    },
    Takes {
        kind: MessageType::File,
        types: &[],
        bytes_max: 50 * MB,
        caption_max: CAPTION_MAX,
    },
];

/// The token of the account's bot. The configured one goes first while it is the same bot's: after
/// it was replaced, the one stored with the account is dead.
pub(super) fn token<'a>(app: &'a App, credentials: &'a Credentials) -> &'a Secret {
    let configured = bot_id(&app.bot_token).is_some_and(|id| id == credentials.route);
    let stored = !configured && !credentials.access_token.is_empty();
    if stored {
        &credentials.access_token
    } else {
        &app.bot_token
    }
}

/// The call that sends a text as it is: without a parse mode nothing in it is markup. A medium goes
/// with the message itself: Telegram takes none before.
pub fn request(app: &App, credentials: &Credentials, message: &Outbound) -> HttpRequest {
    let token = token(app, credentials);
    let mut body = Thread::parse(&message.thread).address();
    let Some(medium) = &message.medium else {
        body["text"] = message.text.as_str().into();
        return HttpRequest::post_json(method_url(app, token, "sendMessage"), &body);
    };
    let (method, field) = form(medium);
    let mut fields: Vec<(&str, String)> = Vec::new();
    for (name, value) in body.as_object().into_iter().flatten() {
        let value = value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned);
        fields.push((name, value));
    }
    if !message.text.is_empty() {
        fields.push(("caption", message.text.clone()));
    }
    let texts = fields.iter().map(|(name, value)| Part::text(name, value));
    let file = Part {
        name: field,
        file_name: Some(&medium.name),
        content_type: Some(&medium.content_type),
        bytes: &medium.bytes,
    };
    let parts: Vec<Part<'_>> = texts.chain([file]).collect();
    HttpRequest::post_multipart(method_url(app, token, method), &message.client_ref, &parts)
}

/// The method that sends such a medium, and the field it is in.
fn form(medium: &Medium) -> (&'static str, &'static str) {
    match (medium.kind, medium.family()) {
        (MessageType::Image, _) if medium.content_type == GIF => ("sendAnimation", "animation"),
        (MessageType::Image, _) => ("sendPhoto", "photo"),
        (MessageType::Video, _) => ("sendVideo", "video"),
        (_, "audio") if ["audio/mpeg", "audio/mp4"].contains(&&*medium.content_type) => {
            ("sendAudio", "audio")
        }
        _ => ("sendDocument", "document"),
    }
}

/// What the answer to [`request`] means.
pub fn interpret(answer: &Result<HttpResponse, TransportError>) -> SendOutcome {
    outcome::of("Telegram", answer, |answer| {
        let body = answer.json();
        if body["ok"] == Value::Bool(false) {
            return Some(refused(answer, &body));
        }
        let sent = wire::id(&body["result"]["message_id"]).filter(|_| answer.is_success())?;
        Some(SendOutcome::Sent {
            platform_message_id: sent,
        })
    })
}

/// Telegram answered that it did not send.
fn refused(answer: &HttpResponse, body: &Value) -> SendOutcome {
    let code = wire::int(&body["error_code"]).unwrap_or(answer.status.into());
    let description = body["description"].as_str().unwrap_or_default();
    let reason = format!("Telegram error {code}: {}", wire::reason(description));
    let said = description.to_lowercase();
    let migrated = !body["parameters"]["migrate_to_chat_id"].is_null();
    match code {
        429 => {
            let asked = wire::count(&body["parameters"]["retry_after"]);
            let wait = asked
                .or_else(|| wire::retry_after_s(answer))
                .or_else(|| spoken_wait(&said));
            outcome::throttled(wait, reason)
        }
        401 => SendOutcome::Reconnect { reason },
        // Said of the token; anything more after it is about what was asked for.
        404 if said.trim_end_matches('.') == "not found" => SendOutcome::Reconnect { reason },
        409 | 500..=599 => SendOutcome::Backoff { reason },
        // The group lives on under another id. The service message about it moves the conversation;
        // until then this message waits.
        400 if migrated || said.contains("upgraded to a supergroup") => {
            let chat = wire::id(&body["parameters"]["migrate_to_chat_id"]).unwrap_or_default();
            SendOutcome::Backoff {
                reason: format!("{reason} (now {chat})"),
            }
        }
        400 if said.contains("temporarily unavailable") => SendOutcome::Backoff { reason },
        // Everything else is about this chat or this message. A lost business connection too: it
        // is one customer's, and calling the account lost would silence the bot for all others.
        _ => SendOutcome::Permanent { reason },
    }
}

/// The number in "too many requests: retry after 14".
fn spoken_wait(said: &str) -> Option<u64> {
    let (_, after) = said.split_once("retry after ")?;
    after.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::outcome::word;
    use serde_json::json;

    fn answer(status: u16, body: &str) -> Result<HttpResponse, TransportError> {
        Ok(HttpResponse {
            status,
            headers: Vec::new(),
            body: body.into(),
        })
    }

    fn failure(code: u16, description: &str) -> Result<HttpResponse, TransportError> {
        let body = json!({"ok": false, "error_code": code, "description": description});
        answer(code, &body.to_string())
    }

    #[test]
    fn every_row_of_the_error_table() {
        let rows: &[(&str, u16, &[&str])] = &[
            ("retry after", 429, &["Too Many Requests: retry after 14"]),
            ("backoff", 429, &["Too Many Requests"]),
            ("backoff", 500, &["Internal Server Error"]),
            ("backoff", 502, &["Bad Gateway"]),
            ("backoff", 503, &["Service Unavailable"]),
            ("backoff", 504, &["Gateway Timeout"]),
            ("reconnect", 401, &["Unauthorized"]),
            ("reconnect", 404, &["Not Found"]),
            ("permanent", 404, &["Not Found: something else"]),
            (
                "backoff",
                409,
                &["Conflict: terminated by other getUpdates request"],
            ),
            (
                "backoff",
                400,
                &["Bad Request: group chat was upgraded to a supergroup chat"],
            ),
            (
                "permanent",
                403,
                &[
                    "Forbidden: bot was blocked by the user",
                    "Forbidden: user is deactivated",
                    "Forbidden: bot can't initiate conversation with a user",
                    "Forbidden: bot was kicked from the group chat",
                    "Forbidden: bot is not a member of the channel chat",
                    "Forbidden: bot can't send messages to bots",
                    "Forbidden: something new",
                ],
            ),
            (
                "permanent",
                400,
                &[
                    "Bad Request: chat not found",
                    "Bad Request: PEER_ID_INVALID",
                    "Bad Request: user not found",
                    "Bad Request: not enough rights to send text messages to the chat",
                    "Bad Request: have no rights to send a message",
                    "Bad Request: CHAT_WRITE_FORBIDDEN",
                    "Bad Request: CHAT_ADMIN_REQUIRED",
                    "Bad Request: need administrator rights in the channel chat",
                    "Bad Request: TOPIC_CLOSED",
                    "Bad Request: TOPIC_DELETED",
                    "Bad Request: message thread not found",
                    "Bad Request: message is not modified",
                    "Bad Request: message to edit not found",
                    "Bad Request: message can't be edited",
                    "Bad Request: message to delete not found",
                    "Bad Request: message can't be deleted",
                    "Bad Request: message to be replied not found",
                    "Bad Request: message text is empty",
                    "Bad Request: message is too long",
                    "Bad Request: caption is too long",
                    "Bad Request: can't parse entities: Unsupported start tag",
                    "Bad Request: BUTTON_DATA_INVALID",
                    "Bad Request: REPLY_MARKUP_TOO_LONG",
                    "Bad Request: REACTION_INVALID",
                    "Bad Request: wrong file identifier/HTTP URL specified",
                    "Bad Request: failed to get HTTP URL content",
                    "Bad Request: wrong type of the web page content",
                    "Bad Request: PHOTO_INVALID_DIMENSIONS",
                    "Bad Request: IMAGE_PROCESS_FAILED",
                    "Bad Request: VOICE_MESSAGES_FORBIDDEN",
                    "Bad Request: file is too big",
                    "Bad Request: query is too old and response timeout expired",
                    "Bad Request: business_connection_invalid",
                    "Bad Request: BUSINESS_PEER_INVALID",
                    "Bad Request: something new",
                ],
            ),
            (
                "backoff",
                400,
                &["Bad Request: file_id of a file is temporarily unavailable"],
            ),
            ("permanent", 413, &["Request Entity Too Large"]),
        ];
        for (expected, code, descriptions) in rows {
            for description in *descriptions {
                let outcome = interpret(&failure(*code, description));
                assert_eq!(word(&outcome), *expected, "{description}: {outcome:?}");
            }
        }
    }

    #[test]
    fn a_wait_has_three_sources() {
        let wait = |parameter: Value, header: Option<&str>, said: &str| {
            let body = json!({"ok": false, "error_code": 429, "description": said,
                "parameters": {"retry_after": parameter}});
            let mut answer = answer(429, &body.to_string()).unwrap();
            answer
                .headers
                .extend(header.map(|s| ("retry-after".to_owned(), s.to_owned())));
            match interpret(&Ok(answer)) {
                SendOutcome::RetryAfter { wait, .. } => Some(wait.as_secs()),
                _ => None,
            }
        };
        assert_eq!(wait(json!(14), Some("15"), "retry after 16"), Some(14));
        assert_eq!(wait(json!(null), Some("15"), "retry after 16"), Some(15));
        assert_eq!(
            wait(
                json!(null),
                Some("soon"),
                "Too Many Requests: retry after 16"
            ),
            Some(16)
        );
        assert_eq!(wait(json!(u64::MAX), None, ""), None);
        assert_eq!(wait(json!(999_999_999), None, ""), Some(86_400));
        assert_eq!(wait(json!(-1), None, ""), None);
        let mut proxy = answer(429, "<html>").unwrap();
        proxy.headers.push(("retry-after".into(), "9".into()));
        assert_eq!(word(&interpret(&Ok(proxy))), "retry after");
    }

    #[test]
    fn only_certain_answers_are_certain() {
        let body = r#"{"ok":true,"result":{"message_id":12,"chat":{"id":5}}}"#;
        let sent = SendOutcome::Sent {
            platform_message_id: "12".into(),
        };
        assert_eq!(interpret(&answer(200, body)), sent);
        for (status, body) in [
            (200, ""),
            (200, "<html>"),
            (200, r#"{"ok":true,"result":true}"#),
            (500, body),
            (502, "<html>"),
            (302, ""),
            (408, ""),
        ] {
            assert_eq!(
                word(&interpret(&answer(status, body))),
                "unclear",
                "{status} {body}"
            );
        }
        assert_eq!(word(&interpret(&answer(403, "<html>"))), "backoff");
        assert_eq!(word(&interpret(&answer(413, "<html>"))), "permanent");
        assert_eq!(word(&interpret(&Err(TransportError::NotSent))), "backoff");
        assert_eq!(word(&interpret(&Err(TransportError::Unclear))), "unclear");
    }

    #[test]
    fn a_migration_names_the_new_chat() {
        let body = json!({"ok": false, "error_code": 400, "description": "Bad Request: group chat \
            was upgraded to a supergroup chat",
            "parameters": {"migrate_to_chat_id": -1_002_210_033_055_i64}});
        let outcome = interpret(&answer(400, &body.to_string()));
        let SendOutcome::Backoff { reason } = outcome else {
            panic!("{outcome:?}")
        };
        assert!(reason.contains("-1002210033055"));
    }

    #[test]
    fn the_request() {
        let app = App {
            bot_token: "7100000001:new".into(),
            api_base: "https://telegram.example".into(),
            ..App::default()
        };
        let mut credentials = Credentials {
            route: "7100000001".into(),
            access_token: "7100000001:old".into(),
            ..Credentials::default()
        };
        let message = Outbound {
            thread: "-1002210033002:500".into(),
            text: "a <b> & *c*".into(),
            client_ref: "r".into(),
            medium: None,
        };
        let call = request(&app, &credentials, &message);
        assert_eq!(
            call.url,
            "https://telegram.example/bot7100000001:new/sendMessage"
        );
        let body: Value = serde_json::from_slice(&call.body).unwrap();
        assert_eq!(
            body,
            json!({"chat_id": -1_002_210_033_002_i64, "message_thread_id": 500,
                "text": "a <b> & *c*"})
        );
        credentials.route = "42".into();
        credentials.access_token = "42:other".into();
        let call = request(&app, &credentials, &message);
        assert_eq!(call.url, "https://telegram.example/bot42:other/sendMessage");
    }

    #[test]
    fn a_medium_goes_with_its_message() {
        let app = App {
            bot_token: "7100000001:new".into(),
            api_base: "https://telegram.example".into(),
            ..App::default()
        };
        let credentials = Credentials {
            route: "7100000001".into(),
            ..Credentials::default()
        };
        let call = |kind, content_type: &str, text: &str| {
            let medium = Medium {
                kind,
                content_type: content_type.into(),
                name: "tea.bin".into(),
                bytes: (*b"bytes").into(),
                address: String::new(),
                handle: None,
            };
            let message = Outbound {
                thread: "-1002210033002:500".into(),
                text: text.into(),
                client_ref: "r".into(),
                medium: Some(medium),
            };
            let call = request(&app, &credentials, &message);
            let method = call.url.rsplit('/').next().unwrap().to_owned();
            (method, String::from_utf8(call.body).unwrap())
        };
        let (method, body) = call(MessageType::Image, "image/png", "a <b>");
        assert_eq!(method, "sendPhoto");
        for part in [
            "name=\"chat_id\"\r\n\r\n-1002210033002\r\n",
            "name=\"message_thread_id\"\r\n\r\n500\r\n",
            "name=\"caption\"\r\n\r\na <b>\r\n",
            "name=\"photo\"; filename=\"tea.bin\"\r\ncontent-type: image/png\r\n\r\nbytes\r\n",
        ] {
            assert!(body.contains(part), "{body}");
        }
        let (_, plain) = call(MessageType::Image, "image/png", "");
        assert!(!plain.contains("caption"), "{plain}");
        for (kind, content_type, expected) in [
            (MessageType::Image, "image/gif", "sendAnimation"),
            (MessageType::Video, "video/mp4", "sendVideo"),
            (MessageType::File, "audio/mpeg", "sendAudio"),
            (MessageType::File, "audio/ogg", "sendDocument"),
            (MessageType::File, "image/png", "sendDocument"),
        ] {
            assert_eq!(call(kind, content_type, "").0, expected, "{content_type}");
        }
    }
}
