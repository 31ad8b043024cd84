//! Handing a file over before the comment or the message that shows it.
//!
//! Comments take pictures (Images API): LinkedIn is told whose it will be, answers with an address and a
//! URN, and takes the bytes there. Messages take attachments (Assets API), in the same three moves with
//! other words. LinkedIn then works on the file; it is looked at twice at most, because every look is
//! one of a hundred calls a day, and what is still worked on is sent all the same.
//!
//! Promises: the token goes to LinkedIn's own origins only, wherever the address leads; a refusal at
//! that address is the file's and never the account's.
//!
//! Documented at <https://learn.microsoft.com/linkedin/marketing/community-management/shares/images-api>
//! and <https://learn.microsoft.com/linkedin/shared/integrations/communications/messages>. Not in the
//! documents: whether the bytes of an attachment want the token (the ones of a picture do), and what is
//! refused with which status there.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::{send, urn, versioned};
use crate::platform::http::{HttpRequest, HttpResponse, TransportError};
use crate::platform::media::is_same_origin;
use crate::platform::media::upload::{Medium, UploadFlow, UploadStep};
use crate::platform::{App, Credentials, SendOutcome, wire};
use crate::secret::Secret;

/// Where the Assets API says how to upload.
const MECHANISM: &str = "com.linkedin.digitalmedia.uploading.MediaUploadHttpRequest";

/// How long LinkedIn is left alone with a file.
const LOOK_AFTER: Duration = Duration::from_secs(2);

/// Looks at what became of it.
const LOOKS_MAX: usize = 2;

/// Whose file it will be, and so which API takes it.
enum For {
    /// An organization that comments.
    Comment(String),
    /// A member who writes.
    Message(String),
}

enum At {
    Beginning,
    Announced,
    Sent,
    Working(usize),
}

/// The conversation, in the state between two calls.
pub struct Flow {
    app: App,
    token: Secret,
    whose: For,
    content_type: String,
    bytes: Arc<[u8]>,
    urn: String,
    at: At,
}

type Answer = Result<HttpResponse, TransportError>;

impl Flow {
    /// A flow that has not called anybody yet.
    pub fn new(app: &App, credentials: &Credentials, thread: &str, medium: &Medium) -> Self {
        let whose = match urn::of_post(thread) {
            Some((organization, _)) => For::Comment(organization.to_owned()),
            None => For::Message(credentials.route.clone()),
        };
        Self {
            app: app.clone(),
            token: credentials.access_token.clone(),
            whose,
            content_type: medium.content_type.clone(),
            bytes: Arc::clone(&medium.bytes),
            urn: String::new(),
            at: At::Beginning,
        }
    }

    fn announce(&mut self) -> UploadStep {
        self.at = At::Announced;
        let base = &self.app.api_base;
        let call = match &self.whose {
            For::Comment(owner) => {
                let body = json!({ "initializeUploadRequest": { "owner": owner } });
                let url = format!("{base}/rest/images?action=initializeUpload");
                self.as_image(HttpRequest::post_json(url, &body))
            }
            For::Message(owner) => {
                let relation = json!({ "relationshipType": "OWNER",
                    "identifier": "urn:li:userGeneratedContent" });
                let body = json!({ "registerUploadRequest": {
                    "owner": owner,
                    "recipes": ["urn:li:digitalmediaRecipe:messaging-attachment"],
                    "serviceRelationships": [relation],
                    "supportedUploadMechanism": ["SYNCHRONOUS_UPLOAD"],
                } });
                let url = format!("{base}/v2/assets?action=registerUpload");
                HttpRequest::post_json(url, &body).bearer(self.token.expose())
            }
        };
        UploadStep::Call(call)
    }

    fn as_image(&self, call: HttpRequest) -> HttpRequest {
        versioned(call, &self.app.api_version, &self.token)
    }

    /// The bytes, to where LinkedIn wants them.
    fn send(&mut self, announced: &Value) -> UploadStep {
        let value = &announced["value"];
        let (urn, mechanism) = match &self.whose {
            For::Comment(_) => (&value["image"], value),
            For::Message(_) => (&value["asset"], &value["uploadMechanism"][MECHANISM]),
        };
        let (Some(urn), Some(url)) = (urn::of(urn), wire::filled(&mechanism["uploadUrl"])) else {
            return again("LinkedIn did not say where a file goes");
        };
        let app = &self.app;
        let is_theirs = [&app.api_base, &app.dialog_base]
            .iter()
            .any(|base| is_same_origin(&url, base));
        let mut call = HttpRequest::put(url, &self.content_type, self.bytes.to_vec());
        if is_theirs {
            call = call.bearer(self.token.expose());
        }
        let extra = mechanism["headers"].as_object();
        for (name, value) in extra.into_iter().flatten() {
            let is_ours = ["authorization", "content-type", "host", "content-length"]
                .contains(&name.to_ascii_lowercase().as_str());
            if let (Some(value), false) = (value.as_str(), is_ours) {
                call = call.header(name, value);
            }
        }
        self.urn = urn;
        self.at = At::Sent;
        UploadStep::Call(call)
    }

    /// Asks what became of the file.
    fn look(&mut self, looks: usize) -> UploadStep {
        self.at = At::Working(looks + 1);
        let base = &self.app.api_base;
        let call = match &self.whose {
            For::Comment(_) => {
                let url = format!("{base}/rest/images/{}", urn::encoded(&self.urn));
                self.as_image(HttpRequest::get(url))
            }
            For::Message(_) => {
                let id = self.urn.rsplit(':').next().unwrap_or_default();
                let url = format!("{base}/v2/assets/{}", urn::encoded(id));
                HttpRequest::get(url).bearer(self.token.expose())
            }
        };
        UploadStep::Call(call)
    }

    /// A look that is refused says nothing of the file.
    fn worked(&mut self, looks: usize, answer: &Answer) -> UploadStep {
        let body = match answer {
            Ok(answer) if answer.is_success() => answer.json(),
            _ => Value::Null,
        };
        let status = match &self.whose {
            For::Comment(_) => &body["status"],
            For::Message(_) => &body["recipes"][0]["status"],
        };
        match status.as_str() {
            Some("PROCESSING_FAILED" | "CLIENT_ERROR" | "SERVER_ERROR" | "INCOMPLETE") => {
                UploadStep::Failed(SendOutcome::Permanent {
                    reason: "LinkedIn could not make anything of the file".into(),
                })
            }
            Some("PROCESSING" | "WAITING_UPLOAD" | "NEW" | "MUTATING") if looks < LOOKS_MAX => {
                UploadStep::Wait(LOOK_AFTER)
            }
            _ => UploadStep::Done(self.urn.clone()),
        }
    }
}

/// The file is handed over once more.
fn again(reason: &str) -> UploadStep {
    UploadStep::Failed(SendOutcome::Backoff {
        reason: reason.into(),
    })
}

/// What an answer at the address of an upload means, which is no answer of the API's.
fn not_taken(answer: &Answer) -> Option<UploadStep> {
    let answer = match answer {
        Ok(answer) if answer.is_success() => return None,
        Ok(answer) => answer,
        Err(_) => return Some(again("the file did not get through to LinkedIn")),
    };
    let reason = format!("HTTP {} where LinkedIn wants files", answer.status);
    Some(match answer.status {
        400 | 413 | 415 | 422 => UploadStep::Failed(SendOutcome::Permanent { reason }),
        _ => again(&reason),
    })
}

impl UploadFlow for Flow {
    fn next(&mut self, answer: Option<Answer>) -> UploadStep {
        match (&self.at, answer) {
            (At::Beginning, _) => self.announce(),
            (At::Announced, Some(answer)) => match &answer {
                Ok(it) if it.is_success() => self.send(&it.json()),
                _ => UploadStep::Failed(send::interpret(&answer)),
            },
            (At::Sent, Some(answer)) => not_taken(&answer).unwrap_or_else(|| self.look(0)),
            (At::Working(looks), Some(answer)) => self.worked(*looks, &answer),
            (At::Working(looks), None) => self.look(*looks),
            (At::Announced | At::Sent, None) => again("the upload had no answer"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::MessageType;
    use crate::platform::http::Method;

    const POST: &str = "urn:li:organization:1/urn:li:activity:2";
    const MEMBER: &str = "urn:li:messagingThread:2-x==";
    const ASSET: &str = "urn:li:digitalmediaAsset:C4D06AQ";

    fn flow(thread: &str) -> Flow {
        let app = App {
            api_base: "https://api.example".into(),
            dialog_base: "https://www.example".into(),
            api_version: "202610".into(),
            ..App::default()
        };
        let credentials = Credentials {
            route: "urn:li:person:A".into(),
            access_token: "token".into(),
            ..Credentials::default()
        };
        let medium = Medium {
            kind: MessageType::Image,
            content_type: "image/png".into(),
            name: "pot.png".into(),
            bytes: Arc::from(*b"png"),
            address: String::new(),
            handle: None,
        };
        Flow::new(&app, &credentials, thread, &medium)
    }

    fn call(step: UploadStep) -> HttpRequest {
        match step {
            UploadStep::Call(call) => call,
            other => panic!("{other:?}"),
        }
    }

    fn answer(status: u16, body: &Value) -> Option<Answer> {
        Some(Ok(HttpResponse {
            status,
            headers: Vec::new(),
            body: body.to_string().into_bytes(),
        }))
    }

    fn is_bearer(call: &HttpRequest) -> bool {
        let bearer = ("authorization".to_owned(), "Bearer token".to_owned());
        call.headers.contains(&bearer)
    }

    fn image(url: &str) -> Option<Answer> {
        let value = json!({ "uploadUrl": url, "image": "urn:li:image:C4" });
        answer(200, &json!({ "value": value }))
    }

    #[test]
    fn a_picture_of_a_comment_is_the_organizations() {
        let mut flow = flow(POST);
        let announced = call(flow.next(None));
        assert_eq!(
            announced.url,
            "https://api.example/rest/images?action=initializeUpload"
        );
        let body: Value = serde_json::from_slice(&announced.body).unwrap();
        let expected = json!({"initializeUploadRequest": {"owner": "urn:li:organization:1"}});
        assert_eq!(body, expected);
        let version = ("linkedin-version".to_owned(), "202610".to_owned());
        assert!(announced.headers.contains(&version));
        let sent = call(flow.next(image("https://www.example/dms-uploads/x?ca=1")));
        assert_eq!(
            (sent.method, sent.body.as_slice()),
            (Method::Put, b"png".as_slice())
        );
        assert_eq!(sent.url, "https://www.example/dms-uploads/x?ca=1");
        assert!(is_bearer(&sent));
        let look = call(flow.next(answer(201, &Value::Null)));
        assert_eq!(
            look.url,
            "https://api.example/rest/images/urn%3Ali%3Aimage%3AC4"
        );
        let wait = flow.next(answer(200, &json!({"status": "PROCESSING"})));
        assert!(matches!(wait, UploadStep::Wait(_)), "{wait:?}");
        call(flow.next(None));
        let done = flow.next(answer(200, &json!({"status": "PROCESSING"})));
        assert!(
            matches!(&done, UploadStep::Done(it) if it == "urn:li:image:C4"),
            "{done:?}"
        );
    }

    #[test]
    fn an_attachment_of_a_message_is_the_members() {
        let mut flow = flow(MEMBER);
        let announced = call(flow.next(None));
        assert_eq!(
            announced.url,
            "https://api.example/v2/assets?action=registerUpload"
        );
        let body: Value = serde_json::from_slice(&announced.body).unwrap();
        assert_eq!(body["registerUploadRequest"]["owner"], "urn:li:person:A");
        let value = json!({ "asset": ASSET, "uploadMechanism": { MECHANISM: {
            "uploadUrl": "https://www.example/dms-uploads/y",
            "headers": { "media-type-family": "STILLIMAGE", "Authorization": "Bearer other" } } } });
        let sent = call(flow.next(answer(200, &json!({ "value": value }))));
        let given = ("media-type-family".to_owned(), "STILLIMAGE".to_owned());
        assert!(
            sent.headers.contains(&given) && is_bearer(&sent),
            "{:?}",
            sent.headers
        );
        assert!(!sent.headers.iter().any(|(_, it)| it == "Bearer other"));
        let look = call(flow.next(answer(201, &Value::Null)));
        assert_eq!(look.url, "https://api.example/v2/assets/C4D06AQ");
        let body = json!({ "recipes": [{ "status": "AVAILABLE" }] });
        let done = flow.next(answer(200, &body));
        assert!(
            matches!(&done, UploadStep::Done(it) if it == ASSET),
            "{done:?}"
        );
    }

    #[test]
    fn the_token_does_not_follow_an_address_elsewhere() {
        for elsewhere in [
            "https://upload.evil.example/x",
            "http://www.example/dms-uploads/x",
            "https://www.example.evil.example/x",
        ] {
            let mut flow = flow(POST);
            flow.next(None);
            let sent = call(flow.next(image(elsewhere)));
            assert!(!is_bearer(&sent), "{elsewhere}");
        }
    }

    #[test]
    fn a_refused_file_is_no_refused_account() {
        let sent_with = |status: u16| {
            let mut flow = flow(POST);
            flow.next(None);
            flow.next(image("https://www.example/dms-uploads/x"));
            match flow.next(answer(status, &Value::Null)) {
                UploadStep::Failed(outcome) => outcome,
                other => panic!("{other:?}"),
            }
        };
        for (status, is_final) in [
            (401, false),
            (403, false),
            (413, true),
            (415, true),
            (503, false),
        ] {
            let outcome = sent_with(status);
            let permanent = matches!(outcome, SendOutcome::Permanent { .. });
            assert_eq!(permanent, is_final, "{status} {outcome:?}");
            assert!(
                !matches!(outcome, SendOutcome::Reconnect { .. }),
                "{status}"
            );
        }
        // The API's own refusals are what they are of a comment.
        let announced_with = |status: u16, body: Value| {
            let mut flow = flow(POST);
            flow.next(None);
            match flow.next(answer(status, &body)) {
                UploadStep::Failed(outcome) => outcome,
                other => panic!("{other:?}"),
            }
        };
        let revoked = json!({"serviceErrorCode": 65601, "code": "REVOKED_ACCESS_TOKEN"});
        let outcome = announced_with(401, revoked);
        assert!(
            matches!(outcome, SendOutcome::Reconnect { .. }),
            "{outcome:?}"
        );
        let denied = json!({"serviceErrorCode": 100, "code": "ACCESS_DENIED"});
        let outcome = announced_with(403, denied);
        assert!(
            matches!(outcome, SendOutcome::Permanent { .. }),
            "{outcome:?}"
        );
        let nothing = announced_with(200, json!({"value": {}}));
        assert!(
            matches!(nothing, SendOutcome::Backoff { .. }),
            "{nothing:?}"
        );
    }

    #[test]
    fn what_linkedin_cannot_read_is_refused_and_a_look_that_is_refused_is_not() {
        let looked_with = |status: u16, body: Value| {
            let mut flow = flow(POST);
            flow.next(None);
            flow.next(image("https://www.example/dms-uploads/x"));
            flow.next(answer(201, &Value::Null));
            flow.next(answer(status, &body))
        };
        let failed = looked_with(200, json!({"status": "PROCESSING_FAILED"}));
        assert!(
            matches!(failed, UploadStep::Failed(SendOutcome::Permanent { .. })),
            "{failed:?}"
        );
        let denied = looked_with(403, json!({"code": "ACCESS_DENIED"}));
        assert!(matches!(denied, UploadStep::Done(_)), "{denied:?}");
    }
}
