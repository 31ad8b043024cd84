//! Sending one message, and what the answer means.

use serde_json::json;

use super::party::GROUP;
use super::problem::{Asked, Problem};
use super::{problem, url};
use crate::platform::http::{HttpRequest, HttpResponse, TransportError};
use crate::platform::{App, Credentials, Outbound, SendOutcome, outcome, wire};

/// The call that sends a text to a user or into a group. The text goes as it is: X escapes it itself.
pub fn request(app: &App, credentials: &Credentials, message: &Outbound) -> HttpRequest {
    let path =
        |part: &str| url::form_urlencoded::byte_serialize(part.as_bytes()).collect::<String>();
    let to = match message.thread.strip_prefix(GROUP) {
        Some(group) => path(group),
        None => format!("with/{}", path(&message.thread)),
    };
    let mut body = json!({});
    if !message.text.is_empty() {
        body["text"] = message.text.as_str().into();
    }
    if let Some(medium) = &message.medium {
        body["attachments"] = json!([{ "media_id": medium.handle }]);
    }
    HttpRequest::post_json(url(app, &format!("dm_conversations/{to}/messages")), &body)
        .bearer(credentials.access_token.expose())
}

/// What the answer to [`request`] means.
pub fn interpret(answer: &Result<HttpResponse, TransportError>) -> SendOutcome {
    outcome::of("X", answer, |answer| {
        if let Some(problem) = Problem::read(answer) {
            let class = problem.class(Asked::Api, answer);
            return Some(class.of_send(problem.reason));
        }
        match answer.status {
            200..=299 => {
                let id = wire::id(&answer.json()["data"]["dm_event_id"]);
                id.map(|platform_message_id| SendOutcome::Sent {
                    platform_message_id,
                })
            }
            429 => Some(SendOutcome::RetryAfter {
                wait: problem::wait(answer),
                reason: "HTTP 429 without words of X".into(),
            }),
            _ => None,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn request_to(thread: &str) -> HttpRequest {
        let app = App {
            api_base: "https://api.example".into(),
            api_version: "2".into(),
            ..App::default()
        };
        let credentials = Credentials {
            access_token: "token".into(),
            ..Credentials::default()
        };
        let message = Outbound {
            thread: thread.into(),
            text: "1 < 2 & \"Grüße\"".into(),
            client_ref: "hub:x".into(),
            medium: None,
        };
        request(&app, &credentials, &message)
    }

    #[test]
    fn to_a_user_and_into_a_group() {
        let call = request_to("1700000000000000202");
        assert_eq!(
            call.url,
            "https://api.example/2/dm_conversations/with/1700000000000000202/messages"
        );
        let body: Value = serde_json::from_slice(&call.body).unwrap();
        assert_eq!(body, json!({"text": "1 < 2 & \"Grüße\""}));
        let bearer = ("authorization".to_owned(), "Bearer token".to_owned());
        assert!(call.headers.contains(&bearer));
        assert_eq!(
            request_to("group:1700000000000009999").url,
            "https://api.example/2/dm_conversations/1700000000000009999/messages"
        );
        let strange = request_to("../users/me?x").url;
        assert!(
            strange.ends_with("/with/..%2Fusers%2Fme%3Fx/messages"),
            "{strange}"
        );
    }

    fn outcome(status: u16, body: &str) -> SendOutcome {
        interpret(&Ok(HttpResponse {
            status,
            headers: Vec::new(),
            body: body.into(),
        }))
    }

    #[test]
    fn outcomes() {
        let accepted =
            r#"{"data":{"dm_conversation_id":"1-2","dm_event_id":"1840000000000000050"}}"#;
        let sent = SendOutcome::Sent {
            platform_message_id: "1840000000000000050".into(),
        };
        assert_eq!(outcome(201, accepted), sent);
        for unclear in [outcome(201, "{}"), outcome(502, "<html>"), outcome(408, "")] {
            assert!(
                matches!(unclear, SendOutcome::Unclear { .. }),
                "{unclear:?}"
            );
        }
        let problem = r#"{"title":"Forbidden","status":403,"detail":"You cannot send messages to this user."}"#;
        assert!(matches!(
            outcome(403, problem),
            SendOutcome::Permanent { .. }
        ));
        let gone = r#"{"title":"Unauthorized","status":401}"#;
        assert!(matches!(outcome(401, gone), SendOutcome::Reconnect { .. }));
        assert!(matches!(outcome(429, ""), SendOutcome::RetryAfter { .. }));
        assert!(matches!(
            outcome(404, "<html>"),
            SendOutcome::Backoff { .. }
        ));
        let never = interpret(&Err(TransportError::NotSent));
        assert!(matches!(never, SendOutcome::Backoff { .. }));
        let perhaps = interpret(&Err(TransportError::Unclear));
        assert!(matches!(perhaps, SendOutcome::Unclear { .. }));
    }
}
