//! Handing a medium over, which a direct message then names.
//!
//! Small pictures go in one call; everything else is announced, sent in pieces, finished, and worked
//! on for a while. Who connected before the hub asked for `media.write` is refused with 403: that is
//! said of the message and not of the account, whose texts go on.
//!
//! Documented at <https://docs.x.com/x-api/media/introduction>.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::{TEXT_MAX, send, url};
use crate::event::MessageType;
use crate::platform::http::{HttpRequest, HttpResponse, Part, TransportError};
use crate::platform::media::upload::{MB, Medium, OneCall, Takes, UploadFlow, UploadStep};
use crate::platform::{App, Credentials, SendOutcome, wire};
use crate::secret::Secret;

/// Largest file that goes in one call.
const ONE_CALL_BYTES_MAX: usize = 5_000_000;

/// How much of a larger one goes in each.
const PIECE_BYTES: usize = 4_000_000;

/// How long X is left alone when it does not say for how long it works.
const CHECK_AFTER: Duration = Duration::from_secs(2);

/// Longest pause between two looks.
const CHECK_AFTER_S_MAX: u64 = 15;

/// What a direct message may have with it.
pub(super) const MEDIA: [Takes; 3] = [
    Takes {
        kind: MessageType::Image,
        types: &["image/jpeg", "image/png", "image/webp"],
        bytes_max: 5 * MB,
        caption_max: TEXT_MAX,
    },
    Takes {
        kind: MessageType::Image,
        types: &["image/gif"],
        bytes_max: 15 * MB,
        caption_max: TEXT_MAX,
    },
    Takes {
        kind: MessageType::Video,
        types: &["video/mp4"],
        bytes_max: 100 * MB,
        caption_max: TEXT_MAX,
    },
];

/// Starts handing a medium over.
pub fn upload(app: &App, credentials: &Credentials, medium: &Medium) -> Box<dyn UploadFlow> {
    let category = match medium.content_type.as_str() {
        "image/gif" => "dm_gif",
        _ if medium.family() == "video" => "dm_video",
        _ => "dm_image",
    };
    let address = url(app, "media/upload");
    if category == "dm_image" && medium.bytes.len() <= ONE_CALL_BYTES_MAX {
        let file = Part {
            name: "media",
            file_name: Some(&medium.name),
            content_type: Some(&medium.content_type),
            bytes: &medium.bytes,
        };
        let parts = [Part::text("media_category", category), file];
        let call = HttpRequest::post_multipart(address, category, &parts)
            .bearer(credentials.access_token.expose());
        return Box::new(OneCall::new(call, read));
    }
    Box::new(Pieces {
        address,
        token: credentials.access_token.clone(),
        content_type: medium.content_type.clone(),
        category,
        bytes: Arc::clone(&medium.bytes),
        id: String::new(),
        at: At::Beginning,
    })
}

/// What an answer means; the id of the medium for that of a message.
fn read(answer: &Result<HttpResponse, TransportError>) -> SendOutcome {
    match answer {
        Ok(it) if it.is_success() => match wire::id(&it.json()["data"]["id"]) {
            Some(platform_message_id) => SendOutcome::Sent {
                platform_message_id,
            },
            None => SendOutcome::Backoff {
                reason: "X gave no id for an upload".into(),
            },
        },
        _ => refused(answer),
    }
}

fn refused(answer: &Result<HttpResponse, TransportError>) -> SendOutcome {
    match (send::interpret(answer), answer) {
        (SendOutcome::Reconnect { reason }, Ok(it)) if it.status == 403 => {
            SendOutcome::Permanent { reason }
        }
        (outcome, _) => outcome,
    }
}

/// Where an upload in pieces is.
#[derive(Clone, Copy)]
enum At {
    Beginning,
    Announced,
    /// This many pieces were sent.
    Piece(usize),
    Finishing,
    /// X works on it, or has just said that it does.
    Working,
}

/// An upload in pieces.
struct Pieces {
    address: String,
    token: Secret,
    content_type: String,
    category: &'static str,
    bytes: Arc<[u8]>,
    id: String,
    at: At,
}

impl Pieces {
    fn call(&self, request: HttpRequest) -> UploadStep {
        UploadStep::Call(request.bearer(self.token.expose()))
    }

    /// The next piece, or the end.
    fn send(&mut self, piece: usize) -> UploadStep {
        let (address, id) = (&self.address, &self.id);
        let Some(bytes) = self.bytes.chunks(PIECE_BYTES).nth(piece) else {
            let call = HttpRequest::post_json(format!("{address}/{id}/finalize"), &json!({}));
            self.at = At::Finishing;
            return self.call(call);
        };
        let index = piece.to_string();
        let part = Part {
            name: "media",
            file_name: Some("piece"),
            content_type: Some("application/octet-stream"),
            bytes,
        };
        let parts = [Part::text("segment_index", &index), part];
        let to = format!("{address}/{id}/append");
        let call = HttpRequest::post_multipart(to, &index, &parts);
        self.at = At::Piece(piece + 1);
        self.call(call)
    }

    /// What X says of its work on the medium.
    fn worked(&mut self, body: &Value) -> UploadStep {
        let work = &body["data"]["processing_info"];
        match work["state"].as_str() {
            None | Some("succeeded") => UploadStep::Done(self.id.clone()),
            Some("failed") => {
                let said = work["error"]["message"].as_str().unwrap_or_default();
                let reason = format!("X did not take the file: {}", wire::reason(said));
                UploadStep::Failed(SendOutcome::Permanent { reason })
            }
            Some(_) => {
                let asked = wire::count(&work["check_after_secs"]);
                let asked = asked.map(|it| Duration::from_secs(it.clamp(1, CHECK_AFTER_S_MAX)));
                self.at = At::Working;
                UploadStep::Wait(asked.unwrap_or(CHECK_AFTER))
            }
        }
    }
}

impl UploadFlow for Pieces {
    fn next(&mut self, answer: Option<Result<HttpResponse, TransportError>>) -> UploadStep {
        let body = match &answer {
            Some(Ok(it)) if it.is_success() => it.json(),
            None => Value::Null,
            Some(failed) => return UploadStep::Failed(refused(failed)),
        };
        match self.at {
            At::Beginning => {
                let asked = json!({
                    "media_type": self.content_type,
                    "total_bytes": self.bytes.len(),
                    "media_category": self.category,
                });
                self.at = At::Announced;
                self.call(HttpRequest::post_json(
                    format!("{}/initialize", self.address),
                    &asked,
                ))
            }
            At::Announced => match wire::id(&body["data"]["id"]) {
                Some(id) if id.bytes().all(|it| it.is_ascii_digit()) => {
                    self.id = id;
                    self.send(0)
                }
                _ => UploadStep::Failed(SendOutcome::Backoff {
                    reason: "X gave no id for an upload".into(),
                }),
            },
            At::Piece(sent) => self.send(sent),
            At::Working if answer.is_none() => {
                let query = format!("{}?command=STATUS&media_id={}", self.address, self.id);
                self.call(HttpRequest::get(query))
            }
            At::Finishing | At::Working => self.worked(&body),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(content_type: &str, size: usize) -> Box<dyn UploadFlow> {
        let app = App {
            api_base: "https://api.example".into(),
            api_version: "2".into(),
            ..App::default()
        };
        let credentials = Credentials {
            access_token: "token".into(),
            ..Credentials::default()
        };
        let medium = Medium {
            kind: MessageType::Image,
            content_type: content_type.into(),
            name: "tea.bin".into(),
            bytes: vec![b'~'; size].into(),
            address: String::new(),
            handle: None,
        };
        upload(&app, &credentials, &medium)
    }

    fn answer(status: u16, body: &Value) -> Option<Result<HttpResponse, TransportError>> {
        Some(Ok(HttpResponse {
            status,
            headers: Vec::new(),
            body: body.to_string().into_bytes(),
        }))
    }

    fn call(step: UploadStep) -> HttpRequest {
        match step {
            UploadStep::Call(call) => call,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_small_picture_goes_in_one_call() {
        let mut flow = flow("image/png", 5);
        let sent = call(flow.next(None));
        assert_eq!(sent.url, "https://api.example/2/media/upload");
        let body = String::from_utf8(sent.body).unwrap();
        assert!(
            body.contains("name=\"media_category\"\r\n\r\ndm_image\r\n"),
            "{body}"
        );
        let done = flow.next(answer(
            200,
            &json!({"data": {"id": "1840", "media_key": "3_1840"}}),
        ));
        assert!(matches!(done, UploadStep::Done(id) if id == "1840"));
    }

    #[test]
    fn a_film_goes_in_pieces_and_is_waited_for() {
        let mut flow = flow("video/mp4", PIECE_BYTES + 7);
        let begun = call(flow.next(None));
        assert_eq!(begun.url, "https://api.example/2/media/upload/initialize");
        let asked: Value = serde_json::from_slice(&begun.body).unwrap();
        assert_eq!(
            asked,
            json!({"media_type": "video/mp4", "total_bytes": PIECE_BYTES + 7,
                "media_category": "dm_video"})
        );
        let data = |more: Value| json!({"data": more});
        let mut sizes = Vec::new();
        let mut next = flow.next(answer(200, &data(json!({"id": "18"}))));
        for index in 0..2 {
            let piece = call(next);
            assert_eq!(piece.url, "https://api.example/2/media/upload/18/append");
            let index = format!("name=\"segment_index\"\r\n\r\n{index}\r\n");
            assert!(String::from_utf8_lossy(&piece.body).contains(&index));
            sizes.push(piece.body.iter().filter(|it| **it == b'~').count());
            next = flow.next(answer(200, &json!({})));
        }
        assert_eq!(sizes, [PIECE_BYTES, 7]);
        assert_eq!(
            call(next).url,
            "https://api.example/2/media/upload/18/finalize"
        );
        let working = json!({"processing_info": {"state": "pending", "check_after_secs": 5}});
        let wait = flow.next(answer(200, &data(working.clone())));
        assert!(matches!(wait, UploadStep::Wait(it) if it.as_secs() == 5));
        let look = call(flow.next(None));
        assert_eq!(
            look.url,
            "https://api.example/2/media/upload?command=STATUS&media_id=18"
        );
        let again = flow.next(answer(200, &data(working)));
        assert!(matches!(again, UploadStep::Wait(_)));
        call(flow.next(None));
        let done = json!({"processing_info": {"state": "succeeded"}});
        let done = flow.next(answer(200, &data(done)));
        assert!(matches!(done, UploadStep::Done(id) if id == "18"));
    }

    #[test]
    fn refusals() {
        let mut refused = flow("video/mp4", 5);
        call(refused.next(None));
        let scope =
            json!({"title": "Forbidden", "status": 403, "detail": "missing scope media.write"});
        let step = refused.next(answer(403, &scope));
        let permanent = matches!(step, UploadStep::Failed(SendOutcome::Permanent { .. }));
        assert!(permanent, "{step:?}");
        let mut gone = flow("image/png", 5);
        call(gone.next(None));
        let unauthorized = json!({"title": "Unauthorized", "status": 401});
        let step = gone.next(answer(401, &unauthorized));
        assert!(
            matches!(step, UploadStep::Failed(SendOutcome::Reconnect { .. })),
            "{step:?}"
        );
        let mut failed = flow("video/mp4", 5);
        call(failed.next(None));
        call(failed.next(answer(200, &json!({"data": {"id": 18}}))));
        call(failed.next(answer(200, &json!({}))));
        let work = json!({"data": {"processing_info": {"state": "failed",
            "error": {"message": "InvalidMedia"}}}});
        let step = failed.next(answer(200, &work));
        assert!(
            matches!(&step, UploadStep::Failed(SendOutcome::Permanent { reason })
                if reason.contains("InvalidMedia")),
            "{step:?}"
        );
    }
}
