//! Where a file is: `getFile` names a path, which is good for an hour.
//!
//! The path is joined to the Bot API's own address and cannot leave it. A Bot API server that runs
//! with `--local` names a path on its own disk instead, which nobody else can read.

use std::time::Duration;

use super::{method_url, send};
use crate::platform::call::CallFailure;
use crate::platform::fact::Media;
use crate::platform::http::{HttpRequest, HttpResponse, TransportError};
use crate::platform::media::{MediaFlow, MediaStep};
use crate::platform::{App, Credentials, wire};

/// When the platform asks to wait and does not say how long.
const WAIT: Duration = Duration::from_secs(30);

/// Asks for one file.
pub struct File {
    ask: Option<HttpRequest>,
    folder: String,
}

impl File {
    /// A file of this medium, asked for with the bot's token.
    pub fn new(app: &App, credentials: &Credentials, medium: &Media) -> Self {
        let token = send::token(app, credentials);
        let file_id = medium.file_id.as_ref();
        let ask = file_id.filter(|_| medium.available != Some(false));
        let body = |id| serde_json::json!({ "file_id": id });
        Self {
            ask: ask.map(|id| HttpRequest::post_json(method_url(app, token, "getFile"), &body(id))),
            folder: format!("{}/file/bot{}/", app.api_base, token.expose()),
        }
    }

    fn read(&self, answer: &HttpResponse) -> MediaStep {
        let body = answer.json();
        let said = body["description"].as_str().unwrap_or_default();
        let reason = || wire::reason(&format!("{} {said}", answer.status));
        let path = wire::filled(&body["result"]["file_path"]);
        match (answer.status, path) {
            (200, Some(path)) if is_inside(&path) => {
                MediaStep::Fetch(HttpRequest::get(format!("{}{path}", self.folder)).into())
            }
            // Too big, an id of another bot, a path on somebody's disk.
            (200 | 400 | 404, _) => MediaStep::Gone,
            (401 | 403, _) => MediaStep::Failed(CallFailure::Reconnect { reason: reason() }),
            (429, _) => MediaStep::Failed(CallFailure::RetryAfter {
                wait: wire::count(&body["parameters"]["retry_after"])
                    .or_else(|| wire::retry_after_s(answer))
                    .map_or(WAIT, Duration::from_secs),
                reason: reason(),
            }),
            _ => MediaStep::Failed(CallFailure::Backoff { reason: reason() }),
        }
    }
}

/// Whether a path stays below the folder it is joined to.
fn is_inside(path: &str) -> bool {
    let is_plain = |it: char| it.is_ascii_alphanumeric() || matches!(it, '/' | '.' | '_' | '-');
    !path.starts_with('/') && path.chars().all(is_plain) && !path.split('/').any(|it| it == "..")
}

impl MediaFlow for File {
    fn next(&mut self, answer: Option<Result<HttpResponse, TransportError>>) -> MediaStep {
        match (self.ask.take(), answer) {
            (Some(ask), _) => MediaStep::Call(ask),
            (None, None) => MediaStep::Gone,
            (None, Some(Ok(answer))) => self.read(&answer),
            (None, Some(Err(_))) => MediaStep::Failed(CallFailure::Backoff {
                reason: "Telegram could not be reached".to_owned(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(medium: &Media) -> File {
        let app = App {
            bot_token: "71:AA".into(),
            api_base: "https://telegram.example".into(),
            ..App::default()
        };
        File::new(&app, &Credentials::default(), medium)
    }

    fn step(status: u16, body: &str) -> MediaStep {
        let mut file = file(&Media {
            file_id: Some("F1".into()),
            ..Media::default()
        });
        let MediaStep::Call(ask) = file.next(None) else {
            panic!("nothing was asked");
        };
        assert_eq!(ask.url, "https://telegram.example/bot71:AA/getFile");
        assert_eq!(ask.body, br#"{"file_id":"F1"}"#);
        file.next(Some(Ok(HttpResponse {
            status,
            headers: Vec::new(),
            body: body.as_bytes().to_vec(),
        })))
    }

    #[test]
    fn a_path_becomes_an_address_of_the_platform_and_of_nobody_else() {
        let found = step(
            200,
            r#"{"ok":true,"result":{"file_path":"photos/file_7.jpg"}}"#,
        );
        let MediaStep::Fetch(download) = found else {
            panic!("{found:?}");
        };
        assert_eq!(
            download.request.url,
            "https://telegram.example/file/bot71:AA/photos/file_7.jpg"
        );
        for path in [
            "/var/lib/x",
            "../getMe",
            "a/../../x",
            "x?y",
            "a\\b",
            "@h/",
            "",
        ] {
            let body = serde_json::json!({ "ok": true, "result": { "file_path": path } });
            let step = step(200, &body.to_string());
            assert!(matches!(step, MediaStep::Gone), "{path}: {step:?}");
        }
    }

    #[test]
    fn every_refusal_has_its_class() {
        use CallFailure::{Backoff, Reconnect, RetryAfter};
        let too_big = r#"{"ok":false,"description":"Bad Request: file is too big"}"#;
        assert!(matches!(step(400, too_big), MediaStep::Gone));
        let step_401 = step(401, "{}");
        assert!(matches!(step_401, MediaStep::Failed(Reconnect { .. })));
        assert!(matches!(
            step(502, "<html>"),
            MediaStep::Failed(Backoff { .. })
        ));
        let slow = step(429, r#"{"ok":false,"parameters":{"retry_after":7}}"#);
        let MediaStep::Failed(RetryAfter { wait, .. }) = slow else {
            panic!("{slow:?}");
        };
        assert_eq!(wait, Duration::from_secs(7));
        let mut unavailable = file(&Media {
            file_id: Some("F1".into()),
            available: Some(false),
            ..Media::default()
        });
        assert!(matches!(unavailable.next(None), MediaStep::Gone));
    }
}
