//! Sending one message, and what the answer means.

use serde_json::{Value, json};

use crate::event::MessageType;
use crate::platform::http::{HttpRequest, HttpResponse, Part, TransportError};
use crate::platform::media::upload::{MB, Medium, OneCall, Takes};
use crate::platform::meta::messaging::GUEST;
use crate::platform::meta::{self, Class, GraphError, attachment};
use crate::platform::{App, Credentials, Outbound, SendOutcome, wire};

/// What may be uploaded (<https://developers.facebook.com/docs/messenger-platform/send-messages>). A
/// text and an attachment exclude each other: both would be two messages.
pub(super) const MEDIA: [Takes; 3] = [
    Takes {
        kind: MessageType::Image,
        types: &["image/jpeg", "image/png", "image/gif", "image/webp"],
        bytes_max: 8 * MB,
        caption_max: 0,
    },
    Takes {
        kind: MessageType::Video,
        types: &["video/mp4", "video/quicktime", "video/webm"],
        bytes_max: 25 * MB,
        caption_max: 0,
    },
    Takes {
        kind: MessageType::File,
        types: &[],
        bytes_max: 25 * MB,
        caption_max: 0,
    },
];

/// Hands a medium over. Only its Page can send it.
pub fn upload(app: &App, credentials: &Credentials, medium: &Medium) -> OneCall {
    let payload = json!({ "is_reusable": true });
    let attachment = json!({ "type": attachment::name_of(medium), "payload": payload });
    let message = json!({ "attachment": attachment }).to_string();
    let file = meta::file("filedata", medium);
    let path = format!("{}/message_attachments", credentials.route);
    let parts = [Part::text("message", &message), file];
    OneCall::new(
        meta::post_parts(app, credentials, &path, &parts),
        |answer| {
            meta::send_outcome(
                answer,
                |body: &Value| wire::id(&body["attachment_id"]),
                class,
            )
        },
    )
}

/// The call that sends a message inside the 24 hour window, with our reference as `metadata`.
pub fn request(app: &App, credentials: &Credentials, message: &Outbound) -> HttpRequest {
    let recipient = match message.thread.strip_prefix(GUEST) {
        Some(guest) => json!({ "user_ref": guest }),
        None => json!({ "id": message.thread }),
    };
    let mut content = json!({ "metadata": message.client_ref });
    match &message.medium {
        None => content["text"] = message.text.as_str().into(),
        Some(medium) => {
            let payload = json!({ "attachment_id": medium.handle });
            content["attachment"] =
                json!({ "type": attachment::name_of(medium), "payload": payload });
        }
    }
    let body = json!({
        "recipient": recipient,
        "messaging_type": "RESPONSE",
        "message": content,
    });
    let path = format!("{}/messages", credentials.route);
    meta::post_json(app, credentials, &path, &body)
}

/// What the answer to [`request`] means.
pub fn interpret(answer: &Result<HttpResponse, TransportError>) -> SendOutcome {
    meta::send_outcome(answer, |body: &Value| wire::id(&body["message_id"]), class)
}

/// The codes that mean something of their own for Messenger.
fn class(error: &GraphError) -> Option<Class> {
    match (error.code, error.subcode) {
        // The Page is restricted, spam was suspected: only a person can end that.
        (613, 2_018_338) | (10, 1_893_063) | (368 | 2022, _) => Some(Class::Permanent),
        (10, 2_018_278 | 2_534_022 | 2_018_065) => Some(Class::OutsideWindow),
        // This recipient cannot be written to.
        (551, _) | (100, 2_018_001) | (200, 1_545_041) | (10, 2_018_108) => Some(Class::Permanent),
        // Another app owns the thread for now.
        _ if error.is(2_018_300) || error.is(2_018_321) => Some(Class::Backoff),
        (2_018_218 | 2_018_247 | 9_000_001, _) => Some(Class::Permanent),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::media::upload::{UploadFlow as _, UploadStep};
    use crate::platform::meta::failure;
    use crate::platform::outcome::word;
    use std::time::Duration;

    fn answer(status: u16, body: &str) -> HttpResponse {
        HttpResponse {
            status,
            headers: Vec::new(),
            body: body.into(),
        }
    }

    #[test]
    fn every_row_of_the_error_table() {
        let rows: &[(&str, &[(i64, i64)])] = &[
            // Without a header that says how long, throttling is met with growing delay.
            (
                "backoff",
                &[
                    (4, 0),
                    (17, 0),
                    (32, 0),
                    (80_001, 0),
                    (80_006, 0),
                    (613, 2_534_040),
                    (613, 1996),
                ],
            ),
            (
                "permanent",
                &[(613, 2_018_338), (10, 1_893_063), (368, 0), (2022, 0)],
            ),
            ("backoff", &[(1, 0), (2, 0)]),
            (
                "reconnect",
                &[
                    (190, 0),
                    (102, 0),
                    (190, 463),
                    (190, 467),
                    (190, 460),
                    (190, 458),
                ],
            ),
            ("reconnect", &[(190, 459), (190, 464), (190, 492)]),
            (
                "reconnect",
                &[
                    (10, 0),
                    (200, 0),
                    (200, 2_018_028),
                    (200, 2_018_027),
                    (230, 0),
                ],
            ),
            ("reconnect", &[(3, 0), (298, 0)]),
            (
                "outside window",
                &[(10, 2_018_278), (10, 2_534_022), (10, 2_018_065)],
            ),
            (
                "permanent",
                &[
                    (100, 2_018_001),
                    (551, 0),
                    (551, 1_545_041),
                    (200, 1_545_041),
                    (10, 2_018_108),
                ],
            ),
            (
                "backoff",
                &[
                    (2_018_300, 0),
                    (2_018_321, 0),
                    (100, 2_018_300),
                    (10, 2_018_321),
                ],
            ),
            (
                "permanent",
                &[
                    (100, 0),
                    (100, 2_018_008),
                    (100, 2_018_047),
                    (100, 2_018_109),
                ],
            ),
            (
                "permanent",
                &[(100, 2_018_294), (100, 2_018_164), (100, 33)],
            ),
            (
                "permanent",
                &[(2_018_218, 0), (2_018_247, 0), (9_000_001, 0), (12_345, 0)],
            ),
        ];
        for (expected, codes) in rows {
            for (code, subcode) in *codes {
                let outcome = interpret(&failure(400, *code, *subcode));
                assert_eq!(word(&outcome), *expected, "{code}/{subcode}: {outcome:?}");
            }
        }
    }

    #[test]
    fn the_status_decides_when_the_code_does_not() {
        for (status, expected) in [
            (400, "permanent"),
            (401, "reconnect"),
            (429, "backoff"),
            (500, "backoff"),
        ] {
            assert_eq!(word(&interpret(&failure(status, 12_345, 0))), expected);
        }
        let transient = r#"{"error":{"message":"m","code":12345,"is_transient":true}}"#;
        assert_eq!(word(&interpret(&Ok(answer(400, transient)))), "backoff");
        assert_eq!(
            word(&interpret(&failure(200, 10, 2_018_278))),
            "outside window"
        );
    }

    #[test]
    fn the_wait_comes_from_the_usage_header_or_retry_after() {
        let wait = |headers: &[(&str, &str)]| {
            let mut answer = failure(400, 613, 0).unwrap();
            let header = |(name, value): &(&str, &str)| (name.to_string(), value.to_string());
            answer.headers = headers.iter().map(header).collect();
            match interpret(&Ok(answer)) {
                SendOutcome::RetryAfter { wait, .. } => Some(wait.as_secs()),
                SendOutcome::Backoff { .. } => None,
                other => panic!("{other:?}"),
            }
        };
        let usage = |minutes: &str| {
            format!(
                r#"{{"1":[{{"type":"messenger","estimated_time_to_regain_access":0}}],
                    "2":[{{"type":"messenger","estimated_time_to_regain_access":{minutes}}}]}}"#
            )
        };
        let header = "x-business-use-case-usage";
        assert_eq!(wait(&[(header, &usage("3"))]), Some(180));
        assert_eq!(wait(&[(header, &usage("0"))]), None);
        assert_eq!(wait(&[(header, &usage("99999999999999"))]), Some(86_400));
        assert_eq!(wait(&[("retry-after", "7")]), Some(7));
        assert_eq!(
            wait(&[(header, &usage("1")), ("retry-after", "7")]),
            Some(7)
        );
        assert_eq!(wait(&[(header, "[]"), ("retry-after", "soon")]), None);
        let mut proxy = answer(429, "<html>");
        proxy.headers.push(("retry-after".into(), "9".into()));
        let expected = Duration::from_secs(9);
        assert!(
            matches!(interpret(&Ok(proxy)), SendOutcome::RetryAfter { wait, .. } if wait == expected)
        );
    }

    #[test]
    fn only_certain_answers_are_certain() {
        let sent = SendOutcome::Sent {
            platform_message_id: "m_1".into(),
        };
        let body = r#"{"recipient_id":"7","message_id":"m_1"}"#;
        assert_eq!(interpret(&Ok(answer(200, body))), sent);
        for (status, body) in [
            (200, ""),
            (200, "<html>"),
            (200, r#"{"recipient_id":"7"}"#),
            (500, ""),
            (503, "<html>"),
        ] {
            assert_eq!(word(&interpret(&Ok(answer(status, body)))), "unclear");
        }
        let without_code = r#"{"error":{"message":"m"}}"#;
        assert_eq!(word(&interpret(&Ok(answer(500, without_code)))), "unclear");
        for (status, expected) in [
            (302, "unclear"),
            (408, "unclear"),
            (404, "backoff"),
            (429, "backoff"),
        ] {
            assert_eq!(word(&interpret(&Ok(answer(status, "<html>")))), expected);
        }
        assert_eq!(word(&interpret(&Err(TransportError::NotSent))), "backoff");
        assert_eq!(word(&interpret(&Err(TransportError::Unclear))), "unclear");
    }

    #[test]
    fn the_request() {
        let app = App {
            client_secret: "0f1e2d3c4b5a69788796a5b4c3d2e1f0".into(),
            api_base: "https://graph.example".into(),
            api_version: "v26.0".into(),
            ..App::default()
        };
        let credentials = Credentials {
            route: "104857600112233".into(),
            access_token: "EAAGm0PX4ZCpsBAexamplePageToken".into(),
            ..Credentials::default()
        };
        let mut message = Outbound {
            thread: "7214365098123401".into(),
            text: "Hello".into(),
            client_ref: "hub:out-000123".into(),
            medium: None,
        };
        let call = request(&app, &credentials, &message);
        assert_eq!(
            call.url,
            "https://graph.example/v26.0/104857600112233/messages?appsecret_proof=\
             f016abe7c11da2fda2f42d3cd3e59dca724ebb7328662aad0be4ff3f3272b5df"
        );
        let bearer = "Bearer EAAGm0PX4ZCpsBAexamplePageToken";
        assert!(
            call.headers
                .contains(&("authorization".into(), bearer.into()))
        );
        let body: Value = serde_json::from_slice(&call.body).unwrap();
        assert_eq!(
            body,
            json!({"recipient": {"id": "7214365098123401"}, "messaging_type": "RESPONSE",
                "message": {"text": "Hello", "metadata": "hub:out-000123"}})
        );
        message.thread = "user_ref:ab".into();
        let body: Value =
            serde_json::from_slice(&request(&app, &credentials, &message).body).unwrap();
        assert_eq!(body["recipient"], json!({"user_ref": "ab"}));
    }

    #[test]
    fn a_medium_is_handed_over_and_then_named() {
        let app = App {
            client_secret: "0f1e2d3c4b5a69788796a5b4c3d2e1f0".into(),
            api_base: "https://graph.example".into(),
            api_version: "v26.0".into(),
            ..App::default()
        };
        let credentials = Credentials {
            route: "104857600112233".into(),
            access_token: "token".into(),
            ..Credentials::default()
        };
        let medium = Medium {
            kind: MessageType::Image,
            content_type: "image/png".into(),
            name: "tea.png".into(),
            bytes: (*b"bytes").into(),
            address: String::new(),
            handle: Some("1857".into()),
        };
        let mut flow = upload(&app, &credentials, &medium);
        let UploadStep::Call(call) = flow.next(None) else {
            panic!("a call")
        };
        let to = "https://graph.example/v26.0/104857600112233/message_attachments?";
        assert!(call.url.starts_with(to), "{}", call.url);
        let form = String::from_utf8(call.body).unwrap();
        for part in [
            r#"{"attachment":{"payload":{"is_reusable":true},"type":"image"}}"#,
            "name=\"filedata\"; filename=\"tea.png\"\r\ncontent-type: image/png\r\n\r\nbytes\r\n",
        ] {
            assert!(form.contains(part), "{form}");
        }
        let step = flow.next(Some(Ok(answer(200, r#"{"attachment_id":"1857"}"#))));
        assert!(matches!(step, UploadStep::Done(id) if id == "1857"));

        let message = Outbound {
            thread: "7214365098123401".into(),
            text: String::new(),
            client_ref: "hub:out-000123".into(),
            medium: Some(medium),
        };
        let call = request(&app, &credentials, &message);
        let body: Value = serde_json::from_slice(&call.body).unwrap();
        assert_eq!(
            body["message"],
            json!({"metadata": "hub:out-000123", "attachment":
                {"type": "image", "payload": {"attachment_id": "1857"}}})
        );
    }
}
