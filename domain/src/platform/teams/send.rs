//! Sending a message to a chat or a thread, and what the answer means.
//!
//! The text goes as `text`, which Graph takes literally: nothing in it can be markup. With a picture it
//! goes as HTML, in which nothing of the text can be markup either; the picture is in the same request.
//! Other files would have to lie in a drive that the scopes of connecting do not cover. There is no
//! idempotency key, and no field of ours comes back.
//!
//! Documented at <https://learn.microsoft.com/graph/api/chat-post-messages>.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::{TEXT_MAX, graph};
use crate::event::MessageType;
use crate::platform::http::{HttpRequest, HttpResponse, TransportError};
use crate::platform::media::upload::{Medium, Takes};
use crate::platform::{App, Credentials, Outbound, SendOutcome, wire};

/// Pictures inside of a message. A request has four million bytes at most, and base64 makes four of
/// three.
pub(super) const MEDIA: [Takes; 1] = [Takes {
    kind: MessageType::Image,
    types: &["image/jpeg", "image/png", "image/gif"],
    bytes_max: 2_900_000,
    caption_max: TEXT_MAX,
}];

/// The call that sends one message.
pub fn request(app: &App, credentials: &Credentials, message: &Outbound) -> HttpRequest {
    let body = match &message.medium {
        None => json!({ "body": { "contentType": "text", "content": message.text } }),
        Some(picture) => with_picture(&message.text, picture),
    };
    HttpRequest::post_json(graph::url(app, &path(&message.thread)), &body)
        .bearer(credentials.access_token.expose())
}

fn with_picture(text: &str, picture: &Medium) -> Value {
    let mut content = String::new();
    if !text.is_empty() {
        content = format!("<p>{}</p>", escaped(text));
    }
    content += r#"<img src="../hostedContents/1/$value">"#;
    let hosted = json!({
        "@microsoft.graph.temporaryId": "1",
        "contentBytes": STANDARD.encode(&picture.bytes),
        "contentType": picture.content_type,
    });
    json!({
        "body": { "contentType": "html", "content": content },
        "hostedContents": [hosted],
    })
}

/// A text as HTML.
fn escaped(text: &str) -> String {
    let mut html = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => html += "&amp;",
            '<' => html += "&lt;",
            '>' => html += "&gt;",
            '"' => html += "&quot;",
            '\n' => html += "<br>",
            other => html.push(other),
        }
    }
    html
}

/// Messages of a chat, or replies of a channel's thread, whose name is a path.
pub fn path(thread: &str) -> String {
    let words: Vec<&str> = thread.split('/').collect();
    match words[..] {
        ["teams", team, "channels", channel, "messages", root] => format!(
            "teams/{}/channels/{}/messages/{}/replies",
            graph::part(team),
            graph::part(channel),
            graph::part(root)
        ),
        _ => format!("chats/{}/messages", graph::part(thread)),
    }
}

/// What the answer to a send means.
pub fn interpret(answer: &Result<HttpResponse, TransportError>) -> SendOutcome {
    let answer = match answer {
        Ok(answer) => answer,
        Err(TransportError::NotSent) => {
            return SendOutcome::Backoff {
                reason: "Graph could not be reached".into(),
            };
        }
        Err(TransportError::Unclear) => {
            return SendOutcome::Unclear {
                reason: "the connection broke before an answer".into(),
            };
        }
    };
    let status = answer.status;
    let said = graph::said(answer);
    let of_graph = said.is_some();
    let reason = said.unwrap_or_else(|| format!("HTTP {status} without a Graph answer"));
    let later = |reason: String| match graph::wait(answer) {
        Some(wait) => SendOutcome::RetryAfter { wait, reason },
        None => SendOutcome::Backoff { reason },
    };
    match status {
        200..=299 => match wire::id(&answer.json()["id"]) {
            Some(platform_message_id) => SendOutcome::Sent {
                platform_message_id,
            },
            None => SendOutcome::Unclear { reason },
        },
        401 => SendOutcome::Reconnect { reason },
        403 if graph::is_about_the_chat(answer) => SendOutcome::Permanent { reason },
        403 if of_graph => SendOutcome::Reconnect { reason },
        400 | 404 | 405 | 410 | 413 | 415 if of_graph => SendOutcome::Permanent { reason },
        // Somebody gave up waiting for somebody; what happened behind is unknown.
        408 | 504 => SendOutcome::Unclear { reason },
        400..=499 => later(reason),
        500..=599 if of_graph => later(reason),
        _ => SendOutcome::Unclear { reason },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::outcome::word;
    use serde_json::Value;

    fn answer(status: u16, body: &str) -> Result<HttpResponse, TransportError> {
        Ok(HttpResponse {
            status,
            headers: Vec::new(),
            body: body.as_bytes().to_vec(),
        })
    }

    #[test]
    fn errors_by_class() {
        let error = |message: &str| {
            let inner = json!({"request-id": "0f0e", "date": "2026-10-05T12:00:00"});
            json!({"error": {"code": "X", "message": message, "innerError": inner}}).to_string()
        };
        for (status, message, expected) in [
            (400, "Invalid body", "permanent"),
            (401, "InvalidAuthenticationToken", "reconnect"),
            (403, "Missing scope permissions on the request", "reconnect"),
            (403, "The initiating user is not in roster", "permanent"),
            (404, "NotFound", "permanent"),
            (409, "Conflict", "backoff"),
            (412, "PreconditionFailed", "backoff"),
            (413, "Request Entity too large", "permanent"),
            (423, "Locked", "backoff"),
            (429, "Too many requests", "backoff"),
            (500, "Internal", "backoff"),
            (502, "Bad gateway", "backoff"),
            (503, "Unavailable", "backoff"),
            (504, "Gateway timeout", "unclear"),
        ] {
            let outcome = interpret(&answer(status, &error(message)));
            assert_eq!(word(&outcome), expected, "{status} {message}");
        }
        for (status, expected) in [
            (200, "unclear"),
            (302, "unclear"),
            (404, "backoff"),
            (408, "unclear"),
            (429, "backoff"),
            (500, "unclear"),
            (503, "unclear"),
        ] {
            assert_eq!(
                word(&interpret(&answer(status, "<html>"))),
                expected,
                "{status}"
            );
        }
        assert_eq!(word(&interpret(&Err(TransportError::NotSent))), "backoff");
        assert_eq!(word(&interpret(&Err(TransportError::Unclear))), "unclear");
    }

    #[test]
    fn the_wait_is_what_graph_asks_for() {
        let mut throttled = answer(429, "{}").unwrap();
        throttled.headers.push(("retry-after".into(), "17".into()));
        let outcome = interpret(&Ok(throttled));
        assert!(matches!(outcome, SendOutcome::RetryAfter { wait, .. } if wait.as_secs() == 17));
    }

    #[test]
    fn the_request() {
        let app = App {
            api_base: "https://graph.example".into(),
            api_version: "v1.0".into(),
            ..App::default()
        };
        let credentials = Credentials {
            access_token: "eyJ0".into(),
            ..Credentials::default()
        };
        let mut message = Outbound {
            thread: "19:a_b@unq.gbl.spaces".into(),
            text: "<b>5 & 6</b>\nline".into(),
            client_ref: "hub:1".into(),
            medium: None,
        };
        let call = request(&app, &credentials, &message);
        assert_eq!(
            call.url,
            "https://graph.example/v1.0/chats/19%3Aa_b%40unq.gbl.spaces/messages"
        );
        assert!(
            call.headers
                .contains(&("authorization".into(), "Bearer eyJ0".into()))
        );
        let body: Value = serde_json::from_slice(&call.body).unwrap();
        assert_eq!(
            body,
            json!({"body": {"contentType": "text", "content": "<b>5 & 6</b>\nline"}})
        );
        message.medium = Some(Medium {
            kind: MessageType::Image,
            content_type: "image/png".into(),
            name: "tea.png".into(),
            bytes: (*b"bytes").into(),
            address: String::new(),
            handle: None,
        });
        let call = request(&app, &credentials, &message);
        let body: Value = serde_json::from_slice(&call.body).unwrap();
        let content = "<p>&lt;b&gt;5 &amp; 6&lt;/b&gt;<br>line</p>\
             <img src=\"../hostedContents/1/$value\">";
        assert_eq!(
            body["body"],
            json!({"contentType": "html", "content": content})
        );
        let hosted = json!([{"@microsoft.graph.temporaryId": "1",
            "contentBytes": "Ynl0ZXM=", "contentType": "image/png"}]);
        assert_eq!(body["hostedContents"], hosted);
        // As it is read, when it is looked for after a lost answer.
        assert_eq!(super::super::html::read(content).text, message.text);
        message.thread = "teams/t1/channels/19:c@thread.tacv2/messages/179".into();
        assert_eq!(
            request(&app, &credentials, &message).url,
            "https://graph.example/v1.0/teams/t1/channels/19%3Ac%40thread.tacv2/messages/179/replies"
        );
        let created = r#"{"id":"1791201621000","etag":"1"}"#;
        assert_eq!(
            interpret(&answer(201, created)),
            SendOutcome::Sent {
                platform_message_id: "1791201621000".into()
            }
        );
    }
}
