//! Sending one message, and what the answer means.

use serde_json::{Value, json};

use crate::event::MessageType;
use crate::platform::http::{HttpRequest, HttpResponse, TransportError};
use crate::platform::media::upload::{MB, Takes};
use crate::platform::meta::{self, Class, GraphError, attachment};
use crate::platform::{App, Credentials, Outbound, SendOutcome, wire};

/// What may be sent (<https://developers.facebook.com/docs/messenger-platform/instagram/features/send-message>).
/// A text and an attachment exclude each other. Instagram loads what it is given the address of:
/// whether it takes uploads depends on the login and is not written down.
pub(super) const MEDIA: [Takes; 3] = [
    Takes {
        kind: MessageType::Image,
        types: &["image/jpeg", "image/png"],
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
        types: &["application/pdf", "audio/aac", "audio/mp4", "audio/wav"],
        bytes_max: 25 * MB,
        caption_max: 0,
    },
];

/// The call that sends a message inside the 24 hour window. `me` is the Page the token belongs to, or
/// with Instagram's own login the account itself.
pub fn request(app: &App, credentials: &Credentials, message: &Outbound) -> HttpRequest {
    let mut content = json!({ "metadata": message.client_ref });
    match &message.medium {
        None => content["text"] = message.text.as_str().into(),
        Some(medium) => {
            let payload = json!({ "url": medium.address });
            content["attachment"] =
                json!({ "type": attachment::name_of(medium), "payload": payload });
        }
    }
    let body = json!({ "recipient": {"id": message.thread}, "message": content });
    meta::post_json(app, credentials, "me/messages", &body)
}

/// What the answer to [`request`] means.
pub fn interpret(answer: &Result<HttpResponse, TransportError>) -> SendOutcome {
    meta::send_outcome(answer, |body: &Value| wire::id(&body["message_id"]), class)
}

/// The codes that mean something of their own for Instagram.
fn class(error: &GraphError) -> Option<Class> {
    match (error.code, error.subcode) {
        (10, 2_534_022 | 2_018_278) => Some(Class::OutsideWindow),
        // The link to the Page is broken, or two-factor authentication is missing.
        (100, 2_534_013) => Some(Class::Reconnect),
        // This recipient cannot be written to.
        (551, _) | (100, 2_534_014 | 2_018_001) => Some(Class::Permanent),
        // The business is blocked: only a person can end that.
        (368, _) | (100, 2_534_029) => Some(Class::Permanent),
        // Another app owns the thread for now.
        _ if error.is(2_534_037) || error.is(2_018_300) => Some(Class::Backoff),
        (36_103 | 9_000_001, _) => Some(Class::Permanent),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::media::upload::Medium;
    use crate::platform::meta::failure;
    use crate::platform::outcome::word;

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
                    (613, 0),
                    (613, 2_534_040),
                    (80_002, 0),
                    (80_006, 0),
                ],
            ),
            ("backoff", &[(1, 0), (2, 0)]),
            ("reconnect", &[(190, 0), (190, 463)]),
            ("outside window", &[(10, 2_534_022), (10, 2_018_278)]),
            ("reconnect", &[(10, 2_534_077), (100, 2_534_013)]),
            ("reconnect", &[(200, 2_534_041)]),
            ("reconnect", &[(10, 0), (200, 0), (230, 0), (3, 0)]),
            ("permanent", &[(100, 2_534_014), (551, 0), (100, 2_018_001)]),
            (
                "permanent",
                &[
                    (100, 2_534_015),
                    (100, 2_534_025),
                    (100, 2_018_008),
                    (100, 2_018_047),
                    (100, 0),
                ],
            ),
            ("permanent", &[(100, 2_534_029), (368, 0)]),
            ("backoff", &[(100, 2_534_037), (2_018_300, 0)]),
            ("permanent", &[(36_103, 0), (9_000_001, 0)]),
        ];
        for (expected, codes) in rows {
            for (code, subcode) in *codes {
                let outcome = interpret(&failure(400, *code, *subcode));
                assert_eq!(word(&outcome), *expected, "{code}/{subcode}: {outcome:?}");
            }
        }
        assert_eq!(word(&interpret(&failure(503, 12_345, 0))), "backoff");
    }

    #[test]
    fn the_request_and_its_success() {
        let app = App {
            client_secret: "a1b2c3d4e5f60718293a4b5c6d7e8f90".into(),
            api_base: "https://graph.example".into(),
            api_version: "v26.0".into(),
            ..App::default()
        };
        let credentials = Credentials {
            route: "17841478800123456".into(),
            access_token: "IGAAexampleUserToken".into(),
            ..Credentials::default()
        };
        let mut message = Outbound {
            thread: "1284736450912837".into(),
            text: "Hello".into(),
            client_ref: "hub:out-000123".into(),
            medium: None,
        };
        let call = request(&app, &credentials, &message);
        assert_eq!(
            call.url,
            "https://graph.example/v26.0/me/messages?appsecret_proof=\
             dd3f1292371ec5fc85401b0790e18318fcb33043af94edd68f09bfb0fd0ef7d1"
        );
        let body: Value = serde_json::from_slice(&call.body).unwrap();
        assert_eq!(
            body,
            json!({"recipient": {"id": "1284736450912837"},
                "message": {"text": "Hello", "metadata": "hub:out-000123"}})
        );
        message.text.clear();
        message.medium = Some(Medium {
            kind: MessageType::File,
            content_type: "audio/mp4".into(),
            name: "tea.m4a".into(),
            bytes: (*b"bytes").into(),
            address: "https://hub.example/api/media/1?x".into(),
            handle: None,
        });
        let call = request(&app, &credentials, &message);
        let body: Value = serde_json::from_slice(&call.body).unwrap();
        let payload = json!({"url": "https://hub.example/api/media/1?x"});
        assert_eq!(
            body["message"],
            json!({"metadata": "hub:out-000123",
                "attachment": {"type": "audio", "payload": payload}})
        );
        let accepted = HttpResponse {
            status: 200,
            headers: Vec::new(),
            body: br#"{"recipient_id":"1284","message_id":"aWdf1"}"#.to_vec(),
        };
        let sent = SendOutcome::Sent {
            platform_message_id: "aWdf1".into(),
        };
        assert_eq!(interpret(&Ok(accepted)), sent);
    }
}
