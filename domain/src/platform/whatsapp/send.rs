//! Sending one message, and what the answer means.
//!
//! A success means that WhatsApp took the message; what became of it is told by statuses, in the
//! same codes. The code counts, not the HTTP status.

use std::time::Duration;

use serde_json::{Value, json};

use crate::event::MessageType;
use crate::platform::http::{HttpRequest, HttpResponse, Part, TransportError};
use crate::platform::media::upload::{MB, Medium, OneCall, Takes};
use crate::platform::meta::{self, Class, GraphError};
use crate::platform::{App, Credentials, Outbound, SendOutcome, wire};

/// A steady stream to one person may have a message every six seconds.
const PAIR_WAIT: Duration = Duration::from_secs(6);

/// Waits shorter than this are about one person: those of an account are whole minutes and hours.
pub const OF_ACCOUNT_MIN: Duration = Duration::from_secs(60);

/// The account is throttled for its quality: this takes hours.
const QUALITY_WAIT: Duration = Duration::from_secs(3600);

/// Longest text beside a medium.
const CAPTION_MAX: usize = 1024;

/// Sounds that are played where they are shown. Others go as documents.
const SOUNDS: [&str; 5] = [
    "audio/aac",
    "audio/amr",
    "audio/mpeg",
    "audio/mp4",
    "audio/ogg",
];

/// The largest sound.
const SOUND_BYTES_MAX: u64 = 16 * MB;

/// What may be uploaded (<https://developers.facebook.com/docs/whatsapp/cloud-api/reference/media>).
pub(super) const MEDIA: [Takes; 4] = [
    Takes {
        kind: MessageType::Image,
        types: &["image/jpeg", "image/png"],
        bytes_max: 5 * MB,
        caption_max: CAPTION_MAX,
    },
    Takes {
        kind: MessageType::Video,
        types: &["video/mp4"],
        bytes_max: 16 * MB,
        caption_max: CAPTION_MAX,
    },
    Takes {
        kind: MessageType::File,
        types: &SOUNDS,
        bytes_max: SOUND_BYTES_MAX,
        caption_max: 0,
    },
    Takes {
        kind: MessageType::File,
        types: &[],
        bytes_max: 100 * MB,
        caption_max: CAPTION_MAX,
    },
];

/// Hands a medium over. It is bound to the number that sends it.
pub fn upload(app: &App, credentials: &Credentials, medium: &Medium) -> OneCall {
    let path = format!("{}/media", credentials.route);
    let parts = [
        Part::text("messaging_product", "whatsapp"),
        Part::text("type", &medium.content_type),
        meta::file("file", medium),
    ];
    OneCall::new(
        meta::post_parts(app, credentials, &path, &parts),
        |answer| meta::send_outcome(answer, |body: &Value| wire::id(&body["id"]), class),
    )
}

/// What of a message says what is in it: its type, and the object of that name.
fn content(message: &Outbound) -> (&'static str, Value) {
    let Some(medium) = &message.medium else {
        return ("text", json!({"body": message.text, "preview_url": false}));
    };
    let is_sound = SOUNDS.contains(&&*medium.content_type)
        && medium.bytes.len() as u64 <= SOUND_BYTES_MAX
        && message.text.is_empty();
    let kind = match medium.kind {
        MessageType::Image => "image",
        MessageType::Video => "video",
        _ if is_sound => "audio",
        _ => "document",
    };
    let mut content = json!({ "id": medium.handle });
    if kind == "document" {
        content["filename"] = medium.name.as_str().into();
    }
    if !message.text.is_empty() {
        content["caption"] = message.text.as_str().into();
    }
    (kind, content)
}

/// The call that sends a message inside the 24 hour window, with our reference for its statuses.
pub fn request(app: &App, credentials: &Credentials, message: &Outbound) -> HttpRequest {
    let (kind, content) = content(message);
    let mut body = json!({
        "messaging_product": "whatsapp",
        "recipient_type": "individual",
        "type": kind,
        "biz_opaque_callback_data": message.client_ref,
    });
    body[kind] = content;
    match Address::of(&message.thread) {
        // Without the plus the country code of the business may be put before it.
        Address::Phone => body["to"] = format!("+{}", message.thread).into(),
        Address::User => body["recipient"] = message.thread.as_str().into(),
        Address::Group => {
            body["recipient_type"] = "group".into();
            body["to"] = message.thread.as_str().into();
        }
    }
    let path = format!("{}/messages", credentials.route);
    meta::post_json(app, credentials, &path, &body)
}

/// What kind of id a thread goes by.
enum Address {
    Phone,
    User,
    Group,
}

impl Address {
    /// Digits are a phone number; two capital letters and a dot begin a user id; a group's id is
    /// neither.
    fn of(thread: &str) -> Self {
        let is_phone = !thread.is_empty() && thread.bytes().all(|byte| byte.is_ascii_digit());
        let country = thread.split_once('.').map_or("", |(country, _)| country);
        if is_phone {
            Self::Phone
        } else if country.len() == 2 && country.bytes().all(|byte| byte.is_ascii_uppercase()) {
            Self::User
        } else {
            Self::Group
        }
    }
}

/// What the answer to [`request`] means.
pub fn interpret(answer: &Result<HttpResponse, TransportError>) -> SendOutcome {
    let id = |body: &Value| wire::id(&body["messages"][0]["id"]);
    meta::send_outcome(answer, id, class)
}

/// The codes that mean something of their own for WhatsApp.
pub fn class(error: &GraphError) -> Option<Class> {
    Some(match error.code {
        130_429 | 133_016 => Class::Throttled,
        131_056 => Class::Later(PAIR_WAIT),
        131_048 | 131_064 => Class::Later(QUALITY_WAIT),
        131_000 | 131_016 | 131_057 | 132_069 | 133_004 | 135_000 | 2_494_100 => Class::Backoff,
        0 | 131_005 | 200..=299 => Class::Reconnect,
        131_047 | 470 => Class::OutsideWindow,
        // The rest of WhatsApp's own is about this person, this message, or something that only an
        // operator can end; marketing that was held back is not to be tried for a day.
        33 | 368 | 130_000..=139_999 => Class::Permanent,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::media::upload::{UploadFlow as _, UploadStep};
    use crate::platform::outcome::word;

    fn failure(status: u16, code: i64) -> Result<HttpResponse, TransportError> {
        meta::failure(status, code, 0)
    }

    #[test]
    fn every_row_of_the_error_table() {
        let rows: &[(&str, &[i64])] = &[
            // Without a header that says how long, throttling is met with growing delay.
            ("backoff", &[4, 80_007, 80_008, 130_429, 133_016]),
            ("retry after", &[131_056, 131_048, 131_064]),
            (
                "backoff",
                &[
                    1, 2, 131_000, 131_016, 131_057, 133_004, 135_000, 2_494_100, 132_069,
                ],
            ),
            ("reconnect", &[0, 190]),
            ("reconnect", &[3, 10, 200, 230, 299, 131_005]),
            ("outside window", &[131_047, 470]),
            (
                "permanent",
                &[
                    131_026, 131_030, 131_021, 130_472, 131_050, 131_062, 130_497, 131_049,
                ],
            ),
            (
                "permanent",
                &[368, 131_031, 131_042, 131_045, 131_037, 133_010, 33],
            ),
            (
                "permanent",
                &[
                    131_008, 131_009, 100, 131_051, 131_052, 131_053, 132_000, 132_001, 132_005,
                    132_007, 132_008, 132_012, 132_015, 132_016, 132_018, 132_068, 131_063,
                    137_000,
                ],
            ),
        ];
        for (expected, codes) in rows {
            for code in *codes {
                let outcome = interpret(&failure(400, *code));
                assert_eq!(word(&outcome), *expected, "{code}: {outcome:?}");
            }
        }
        assert_eq!(word(&interpret(&failure(503, 12_345))), "backoff");
    }

    #[test]
    fn a_pair_that_is_throttled_waits_seconds_and_an_account_hours() {
        let wait = |code: i64, header: Option<&str>| {
            let mut answer = failure(400, code).unwrap();
            let header = header.map(|value| ("retry-after".to_owned(), value.to_owned()));
            answer.headers.extend(header);
            match interpret(&Ok(answer)) {
                SendOutcome::RetryAfter { wait, .. } => wait.as_secs(),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(wait(131_056, None), 6);
        assert_eq!(wait(131_056, Some("30")), 30);
        assert_eq!(wait(131_048, Some("30")), 3600);
        assert_eq!(wait(130_429, Some("30")), 30);
    }

    #[test]
    fn the_request_goes_to_a_phone_a_user_or_a_group() {
        let app = App {
            client_secret: "7c4a8d09ca3762af61e59520943dc264".into(),
            api_base: "https://graph.example".into(),
            api_version: "v26.0".into(),
            ..App::default()
        };
        let credentials = Credentials {
            route: "205612348765432".into(),
            access_token: "EAAJBexampleBusinessToken".into(),
            ..Credentials::default()
        };
        let body_to = |thread: &str| {
            let message = Outbound {
                thread: thread.into(),
                text: "Hello".into(),
                client_ref: "hub:out-000123".into(),
                medium: None,
            };
            let call = request(&app, &credentials, &message);
            assert_eq!(
                call.url,
                "https://graph.example/v26.0/205612348765432/messages?appsecret_proof=\
                 8af7163bdb7872f8af10e54f68253c90c78b247fb9306e8778659c6f6f1c6334"
            );
            serde_json::from_slice::<Value>(&call.body).unwrap()
        };
        assert_eq!(
            body_to("491701234567"),
            json!({"messaging_product": "whatsapp", "recipient_type": "individual",
                "to": "+491701234567", "type": "text",
                "text": {"body": "Hello", "preview_url": false},
                "biz_opaque_callback_data": "hub:out-000123"})
        );
        let user = body_to("DE.4Kq9Zr71Lm20Xc83Vb");
        assert_eq!(user["recipient"], "DE.4Kq9Zr71Lm20Xc83Vb");
        assert!(user.get("to").is_none());
        let group = body_to("Y2FwaV9ncm91cDoyMDU2MTIz");
        assert_eq!(group["recipient_type"], "group");
        assert_eq!(group["to"], "Y2FwaV9ncm91cDoyMDU2MTIz");
    }

    #[test]
    fn a_medium_is_handed_over_and_then_named() {
        let app = App {
            client_secret: "7c4a8d09ca3762af61e59520943dc264".into(),
            api_base: "https://graph.example".into(),
            api_version: "v26.0".into(),
            ..App::default()
        };
        let credentials = Credentials {
            route: "205612348765432".into(),
            access_token: "EAAJBexampleBusinessToken".into(),
            ..Credentials::default()
        };
        let medium = |kind, content_type: &str| Medium {
            kind,
            content_type: content_type.into(),
            name: "tea.bin".into(),
            bytes: (*b"bytes").into(),
            address: String::new(),
            handle: Some("1037".into()),
        };
        let body = |medium, text: &str| {
            let message = Outbound {
                thread: "491701234567".into(),
                text: text.into(),
                client_ref: "hub:out-000123".into(),
                medium: Some(medium),
            };
            let call = request(&app, &credentials, &message);
            serde_json::from_slice::<Value>(&call.body).unwrap()
        };
        let picture = || medium(MessageType::Image, "image/png");
        let said = body(picture(), "front");
        assert_eq!(said["type"], "image");
        assert_eq!(said["image"], json!({"id": "1037", "caption": "front"}));
        assert_eq!(said["biz_opaque_callback_data"], "hub:out-000123");
        assert_eq!(body(picture(), "")["image"], json!({"id": "1037"}));
        let pdf = body(medium(MessageType::File, "application/pdf"), "");
        let document = json!({"id": "1037", "filename": "tea.bin"});
        assert_eq!(
            (&pdf["type"], &pdf["document"]),
            (&json!("document"), &document)
        );
        let sound = || medium(MessageType::File, "audio/ogg");
        assert_eq!(body(sound(), "")["audio"], json!({"id": "1037"}));
        // A sound has no room for a text.
        assert_eq!(body(sound(), "listen")["document"]["caption"], "listen");

        let mut flow = upload(&app, &credentials, &picture());
        let UploadStep::Call(call) = flow.next(None) else {
            panic!("a call")
        };
        assert!(
            call.url
                .starts_with("https://graph.example/v26.0/205612348765432/media?")
        );
        let form = String::from_utf8(call.body).unwrap();
        for part in [
            "name=\"messaging_product\"\r\n\r\nwhatsapp\r\n",
            "name=\"type\"\r\n\r\nimage/png\r\n",
            "name=\"file\"; filename=\"tea.bin\"\r\ncontent-type: image/png\r\n\r\nbytes\r\n",
        ] {
            assert!(form.contains(part), "{form}");
        }
        let taken = HttpResponse {
            status: 200,
            headers: Vec::new(),
            body: br#"{"id":"1037543291543636"}"#.to_vec(),
        };
        let step = flow.next(Some(Ok(taken)));
        assert!(matches!(step, UploadStep::Done(id) if id == "1037543291543636"));
        let mut flow = upload(&app, &credentials, &picture());
        flow.next(None);
        let refused = flow.next(Some(failure(400, 131_053)));
        let permanent = matches!(refused, UploadStep::Failed(SendOutcome::Permanent { .. }));
        assert!(permanent, "{refused:?}");
    }

    #[test]
    fn a_success_has_an_id_and_anything_else_is_unclear() {
        let answer = |body: &str| {
            interpret(&Ok(HttpResponse {
                status: 200,
                headers: Vec::new(),
                body: body.into(),
            }))
        };
        let sent = SendOutcome::Sent {
            platform_message_id: "wamid.1".into(),
        };
        assert_eq!(
            answer(r#"{"contacts":[{"wa_id":"49"}],"messages":[{"id":"wamid.1"}]}"#),
            sent
        );
        assert_eq!(word(&answer(r#"{"messages":[]}"#)), "unclear");
        assert_eq!(word(&interpret(&Err(TransportError::Unclear))), "unclear");
    }
}
