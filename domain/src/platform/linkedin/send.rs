//! Answering under a post or in a member's messages, and what the answer means.
//!
//! A post is answered by a comment in the organization's name (Comments API), a member by a message in
//! the name of the one who is connected (Messages API, for partners). What goes with either was handed
//! over before ([`super::upload`]). Whether LinkedIn takes a picture or an attachment without a text is
//! not documented; it is sent with an empty one.

use serde_json::{Value, json};

use super::problem::{self, Asked, Problem};
use super::{urn, versioned};
use crate::platform::http::{HttpRequest, HttpResponse, TransportError};
use crate::platform::{App, Credentials, Outbound, SendOutcome, outcome, wire};

/// The call that sends one message. Threads of no kind are refused before anything is queued;
/// LinkedIn refuses what is left of them.
pub fn request(app: &App, credentials: &Credentials, message: &Outbound) -> HttpRequest {
    match urn::is_messages(&message.thread) {
        true => to_member(app, credentials, message),
        false => comment(app, credentials, message),
    }
}

/// What was handed over for a message.
fn handed_over(message: &Outbound) -> Option<&str> {
    message.medium.as_ref()?.handle.as_deref()
}

fn to_member(app: &App, credentials: &Credentials, message: &Outbound) -> HttpRequest {
    let mut body = json!({
        "thread": message.thread,
        "body": message.text,
        "messageType": "MEMBER_TO_MEMBER",
    });
    if let Some(asset) = handed_over(message) {
        body["attachments"] = json!([asset]);
    }
    let call = HttpRequest::post_json(format!("{}/v2/messages", app.api_base), &body);
    call.bearer(credentials.access_token.expose())
}

fn comment(app: &App, credentials: &Credentials, message: &Outbound) -> HttpRequest {
    let (organization, post) = urn::of_post(&message.thread).unwrap_or(("", &message.thread));
    let path = format!("rest/socialActions/{}/comments", urn::encoded(post));
    let mut body = json!({
        "actor": organization,
        "object": post,
        "message": { "text": message.text },
    });
    if let Some(image) = handed_over(message) {
        body["content"] = json!([{ "entity": { "image": image } }]);
    }
    let call = HttpRequest::post_json(format!("{}/{path}", app.api_base), &body);
    versioned(call, &app.api_version, &credentials.access_token)
}

/// What the answer to [`request`] means.
pub fn interpret(answer: &Result<HttpResponse, TransportError>) -> SendOutcome {
    outcome::of("LinkedIn", answer, |answer| {
        if let Some(problem) = Problem::read(answer) {
            let class = problem.class(Asked::Send, answer);
            return Some(class.of_send(problem.reason));
        }
        match answer.status {
            200..=299 => id(answer).map(|platform_message_id| SendOutcome::Sent {
                platform_message_id,
            }),
            429 => Some(SendOutcome::RetryAfter {
                wait: problem::wait("", answer),
                reason: "HTTP 429 without words of LinkedIn".into(),
            }),
            _ => None,
        }
    })
}

/// The name under which its echo will come. A comment's URN is given whole, or put together; a message
/// has its own in a header.
fn id(answer: &HttpResponse) -> Option<String> {
    let body = answer.json();
    let whole = |field: &Value| urn::of(field).filter(|urn| urn.starts_with("urn:li:comment:"));
    let header = || answer.header("x-restli-id").map(Value::from);
    let number = wire::id(&body["id"]).or_else(|| header().and_then(|id| wire::id(&id)));
    let composed = || {
        let post = urn::of(&body["object"])?;
        Some(urn::comment(&post, number.as_deref()?))
    };
    whole(&body["commentUrn"])
        .or_else(|| whole(&body["$URN"]))
        .or_else(composed)
        .or_else(|| number.clone())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::event::MessageType;
    use crate::platform::media::upload::Medium;

    const COMMENT: &str = "urn:li:comment:(urn:li:activity:2,3)";

    fn call(thread: &str, handle: Option<&str>) -> HttpRequest {
        let app = App {
            api_base: "https://api.example".into(),
            api_version: "202610".into(),
            ..App::default()
        };
        let credentials = Credentials {
            access_token: "token".into(),
            ..Credentials::default()
        };
        let message = Outbound {
            thread: thread.into(),
            text: "Yes, <since> Monday".into(),
            client_ref: "hub:x".into(),
            medium: handle.map(|handle| Medium {
                kind: MessageType::Image,
                content_type: "image/png".into(),
                name: "pot.png".into(),
                bytes: Arc::from(*b"png"),
                address: String::new(),
                handle: Some(handle.into()),
            }),
        };
        request(&app, &credentials, &message)
    }

    fn body(call: &HttpRequest) -> Value {
        serde_json::from_slice(&call.body).unwrap()
    }

    #[test]
    fn a_message_to_a_member() {
        let thread = "urn:li:messagingThread:2-x==";
        let plain = call(thread, None);
        assert_eq!(plain.url, "https://api.example/v2/messages");
        let expected = json!({"thread": thread, "body": "Yes, <since> Monday",
            "messageType": "MEMBER_TO_MEMBER"});
        assert_eq!(body(&plain), expected);
        let asset = "urn:li:digitalmediaAsset:C4";
        let attached = body(&call(thread, Some(asset)));
        assert_eq!(attached["attachments"], json!([asset]));
        let header = [("x-restli-id", "2-bXNnMQ==")];
        let sent = SendOutcome::Sent {
            platform_message_id: "2-bXNnMQ==".into(),
        };
        assert_eq!(outcome(201, &header, &Value::Null), sent);
    }

    #[test]
    fn a_comment_in_the_organizations_name() {
        let post = "urn:li:organization:1/urn:li:activity:2";
        let image = body(&call(post, Some("urn:li:image:C4")));
        let expected = json!([{"entity": {"image": "urn:li:image:C4"}}]);
        assert_eq!(image["content"], expected);
        let call = call(post, None);
        assert_eq!(
            call.url,
            "https://api.example/rest/socialActions/urn%3Ali%3Aactivity%3A2/comments"
        );
        let body = body(&call);
        let expected = json!({"actor": "urn:li:organization:1", "object": "urn:li:activity:2",
            "message": {"text": "Yes, <since> Monday"}});
        assert_eq!(body, expected);
        for header in [
            ("authorization", "Bearer token"),
            ("linkedin-version", "202610"),
            ("x-restli-protocol-version", "2.0.0"),
        ] {
            let header = (header.0.to_owned(), header.1.to_owned());
            assert!(call.headers.contains(&header), "{header:?}");
        }
    }

    fn outcome(status: u16, headers: &[(&str, &str)], body: &Value) -> SendOutcome {
        interpret(&Ok(HttpResponse {
            status,
            headers: headers
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
            body: body.to_string().into_bytes(),
        }))
    }

    #[test]
    fn an_accepted_comment_is_named_as_its_echo_will_be() {
        let sent = |id: &str| SendOutcome::Sent {
            platform_message_id: id.into(),
        };
        for body in [
            json!({"commentUrn": "urn:li:comment:(activity:2,3)"}),
            json!({"$URN": COMMENT, "id": "3"}),
            json!({"id": "3", "object": "urn:li:activity:2"}),
        ] {
            assert_eq!(outcome(201, &[], &body), sent(COMMENT), "{body}");
        }
        let header = [("x-restli-id", "3")];
        let object = json!({"object": "urn:li:activity:2"});
        assert_eq!(outcome(201, &header, &object), sent(COMMENT));
        assert_eq!(outcome(201, &header, &Value::Null), sent("3"));
        assert!(matches!(
            outcome(201, &[], &Value::Null),
            SendOutcome::Unclear { .. }
        ));
    }

    #[test]
    fn refusals() {
        let body =
            json!({"status": 403, "serviceErrorCode": 100, "message": "Not enough permissions"});
        assert!(matches!(
            outcome(403, &[], &body),
            SendOutcome::Permanent { .. }
        ));
        let body =
            json!({"status": 401, "serviceErrorCode": 65601, "code": "REVOKED_ACCESS_TOKEN"});
        assert!(matches!(
            outcome(401, &[], &body),
            SendOutcome::Reconnect { .. }
        ));
        let body = json!("<html>");
        assert!(matches!(
            outcome(502, &[], &body),
            SendOutcome::Unclear { .. }
        ));
        assert!(matches!(
            outcome(429, &[], &body),
            SendOutcome::RetryAfter { .. }
        ));
        let never = interpret(&Err(TransportError::NotSent));
        assert!(matches!(never, SendOutcome::Backoff { .. }));
    }
}
