//! Where a medium is: its id names an address, which is good for five minutes and wants the token.
//!
//! The token goes to Graph and to the host that Meta keeps media on, and to nobody else: an answer
//! that names another host is followed without it. An address that is not good (any more) is asked
//! for once more. The digest is in hex in this answer and in base64 in the webhook.
//!
//! Documented at
//! <https://developers.facebook.com/docs/whatsapp/cloud-api/reference/media#download-media>.

use super::send;
use crate::platform::fact::Media;
use crate::platform::http::{HttpRequest, HttpResponse, TransportError};
use crate::platform::media::{Download, MediaFlow, MediaStep, is_same_origin, sha256};
use crate::platform::{App, Credentials, meta, wire};
use crate::secret::Secret;

/// Where Meta keeps what people sent.
const KEPT_AT: &str = "https://lookaside.fbsbx.com";

/// How often the address is asked for.
const ASKS: u8 = 2;

/// Asks for one medium.
pub struct Lookup {
    ask: Option<HttpRequest>,
    asks_left: u8,
    token: Secret,
    graph: String,
    /// As the webhook had it.
    sha256: Option<[u8; 32]>,
}

impl Lookup {
    /// The medium of this id, asked for in the name of the number it was sent to.
    pub fn new(app: &App, credentials: &Credentials, medium: &Media) -> Self {
        let token = &credentials.access_token;
        let ask = |id: &String| {
            let proof = meta::proof(app, token);
            let query = [
                ("phone_number_id", &*credentials.route),
                ("appsecret_proof", &*proof),
            ];
            HttpRequest::get(meta::url(app, id, &query)).bearer(token.expose())
        };
        let id = medium.file_id.as_ref().filter(|id| is_id(id));
        Self {
            ask: id.filter(|_| medium.available != Some(false)).map(ask),
            asks_left: ASKS,
            token: token.clone(),
            graph: app.api_base.clone(),
            sha256: medium.unique_id.as_deref().and_then(sha256),
        }
    }

    fn ask(&mut self) -> MediaStep {
        match (&self.ask, self.asks_left) {
            (None, _) | (_, 0) => MediaStep::Gone,
            (Some(ask), _) => {
                self.asks_left -= 1;
                MediaStep::Call(ask.clone())
            }
        }
    }

    fn read(&self, answer: &Result<HttpResponse, TransportError>) -> MediaStep {
        if let Some(failure) = meta::call_failure_of(answer, send::class) {
            return MediaStep::Failed(failure);
        }
        let body = answer.as_ref().map(HttpResponse::json).unwrap_or_default();
        let Some(url) = wire::filled(&body["url"]) else {
            return MediaStep::Gone;
        };
        let takes_token = is_same_origin(&url, &self.graph) || is_same_origin(&url, KEPT_AT);
        let request = HttpRequest::get(url);
        let told = body["sha256"].as_str().and_then(sha256);
        MediaStep::Fetch(Download {
            request: match takes_token {
                true => request.bearer(self.token.expose()),
                false => request,
            },
            sha256: told.or(self.sha256),
        })
    }
}

/// Whether this is an id and no other path.
fn is_id(id: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    !id.is_empty() && id.bytes().all(is_plain)
}

impl MediaFlow for Lookup {
    fn next(&mut self, answer: Option<Result<HttpResponse, TransportError>>) -> MediaStep {
        match answer {
            None => self.ask(),
            Some(answer) => self.read(&answer),
        }
    }

    fn refused(&mut self) -> MediaStep {
        self.ask()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::platform::call::CallFailure;

    /// Of the bytes `test`.
    const HEX: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
    const BASE64: &str = "n4bQgYhMfWWaL+qgxVrQFaO/TxsrC4Is0V1sFbDwCgg=";

    fn lookup(id: &str) -> Lookup {
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
        let medium = Media {
            file_id: Some(id.into()),
            unique_id: Some(BASE64.into()),
            ..Media::default()
        };
        Lookup::new(&app, &credentials, &medium)
    }

    fn answer(status: u16, body: &Value) -> Option<Result<HttpResponse, TransportError>> {
        Some(Ok(HttpResponse {
            status,
            headers: Vec::new(),
            body: body.to_string().into_bytes(),
        }))
    }

    fn found(body: &Value) -> Download {
        let mut flow = lookup("1479537139650973");
        flow.next(None);
        match flow.next(answer(200, body)) {
            MediaStep::Fetch(download) => download,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_documented_two_steps() {
        let mut flow = lookup("1479537139650973");
        let MediaStep::Call(ask) = flow.next(None) else {
            panic!("nothing was asked");
        };
        assert_eq!(
            ask.url,
            "https://graph.example/v26.0/1479537139650973?phone_number_id=205612348765432\
             &appsecret_proof=8af7163bdb7872f8af10e54f68253c90c78b247fb9306e8778659c6f6f1c6334"
        );
        let bearer = (
            "authorization".to_owned(),
            "Bearer EAAJBexampleBusinessToken".to_owned(),
        );
        assert_eq!(ask.headers, std::slice::from_ref(&bearer));
        let url = "https://lookaside.fbsbx.com/whatsapp_business/attachments/?mid=1479&ext=1";
        let body = json!({"messaging_product": "whatsapp", "url": url, "mime_type": "image/jpeg",
            "sha256": HEX, "file_size": "303833", "id": "1479537139650973"});
        let MediaStep::Fetch(download) = flow.next(answer(200, &body)) else {
            panic!("there is an address");
        };
        assert_eq!(download.request.url, url);
        assert_eq!(download.request.headers, [bearer]);
        assert_eq!(download.sha256, sha256(HEX));
        // An address that was no good is asked for once more.
        assert!(matches!(flow.refused(), MediaStep::Call(again) if again == ask));
        assert!(matches!(flow.refused(), MediaStep::Gone));
    }

    #[test]
    fn the_token_goes_to_meta_alone() {
        for (url, expected) in [
            ("https://lookaside.fbsbx.com/x", 1),
            ("https://graph.example/x", 1),
            ("https://lookaside.fbsbx.com.evil.example/x", 0),
            ("http://lookaside.fbsbx.com/x", 0),
            ("https://lookaside.fbsbx.com:8443/x", 0),
            ("https://evil.example/lookaside.fbsbx.com", 0),
        ] {
            let download = found(&json!({ "url": url }));
            assert_eq!(download.request.headers.len(), expected, "{url}");
            // The webhook told the digest as well.
            assert_eq!(download.sha256, sha256(HEX));
        }
    }

    #[test]
    fn an_id_is_no_path() {
        for id in ["", "../me", "1/messages", "1?x=1", "1#", "a b"] {
            assert!(matches!(lookup(id).next(None), MediaStep::Gone), "{id}");
        }
    }

    #[test]
    fn every_refusal_has_its_class() {
        use CallFailure::{Backoff, Permanent, Reconnect};
        let step = |status, code: i64| {
            let mut flow = lookup("1");
            flow.next(None);
            let error = json!({"error": {"message": "said", "code": code}});
            match flow.next(answer(status, &error)) {
                MediaStep::Failed(failure) => failure,
                other => panic!("{other:?}"),
            }
        };
        assert!(matches!(step(401, 190), Reconnect { .. }));
        // Unknown id, expired medium, one that could not be kept.
        for code in [100, 33, 131_052] {
            assert!(matches!(step(400, code), Permanent { .. }), "{code}");
        }
        assert!(matches!(step(400, 130_429), Backoff { .. }));
        assert!(matches!(step(500, 131_000), Backoff { .. }));
        let mut lost = lookup("1");
        lost.next(None);
        let lost = lost.next(Some(Err(TransportError::Unclear)));
        assert!(matches!(lost, MediaStep::Failed(Backoff { .. })));
        let mut empty = lookup("1");
        empty.next(None);
        assert!(matches!(
            empty.next(answer(200, &json!({}))),
            MediaStep::Gone
        ));
    }
}
