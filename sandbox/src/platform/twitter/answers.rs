//! How X answers: success, problem documents, and the words of its token endpoints.

use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use serde_json::{Value, json};

/// The length of most windows.
pub(super) const WINDOW_S: i64 = 15 * 60;

/// A refusal in the form of a problem document.
pub(super) struct Problem {
    status: u16,
    title: &'static str,
    kind: &'static str,
    detail: String,
    limits: Option<Limits>,
}

/// An answer, or the platform's refusal.
pub(super) type Answer = Result<Response, Problem>;

/// What is left of a window, as the headers of every answer tell.
#[derive(Clone, Copy)]
pub(super) struct Limits {
    pub(super) limit: u32,
    pub(super) remaining: u32,
    pub(super) reset_s: i64,
}

impl Problem {
    fn new(status: u16, title: &'static str, kind: &'static str, detail: &str) -> Self {
        Self {
            status,
            title,
            kind,
            detail: detail.to_owned(),
            limits: None,
        }
    }

    pub(super) fn unauthorized() -> Self {
        Self::new(401, "Unauthorized", "about:blank", "Unauthorized")
    }

    pub(super) fn not_found(what: &str) -> Self {
        let detail = format!("Could not find {what}.");
        Self::new(404, "Not Found Error", "resource-not-found", &detail)
    }

    pub(super) fn invalid(detail: &str) -> Self {
        Self::new(400, "Invalid Request", "invalid-request", detail)
    }

    pub(super) fn webhook(title: &'static str, detail: &str) -> Self {
        Self::new(400, title, "invalid-request", detail)
    }

    pub(super) fn too_many(limits: Limits) -> Self {
        Self {
            limits: Some(limits),
            ..Self::new(429, "Too Many Requests", "about:blank", "Too Many Requests")
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let kind = match self.kind {
            "about:blank" => self.kind.to_owned(),
            kind => format!("https://api.x.com/2/problems/{kind}"),
        };
        let body = json!({"title": self.title, "type": kind, "status": self.status,
            "detail": self.detail});
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::BAD_REQUEST);
        let mut answer = reply(status, &body);
        if let Some(limits) = self.limits {
            limits.put(&mut answer);
        }
        answer
    }
}

impl Limits {
    /// Puts the three headers on an answer.
    pub(super) fn put(self, answer: &mut Response) {
        let limit = self.limit.to_string();
        set(answer, "x-rate-limit-limit", &limit);
        set(
            answer,
            "x-rate-limit-remaining",
            &self.remaining.to_string(),
        );
        set(answer, "x-rate-limit-reset", &self.reset_s.to_string());
    }
}

/// Success.
pub(super) fn ok(body: &Value) -> Response {
    reply(StatusCode::OK, body)
}

/// An answer with this status.
pub(super) fn reply(status: StatusCode, body: &Value) -> Response {
    let kind = [(header::CONTENT_TYPE, "application/json; charset=utf-8")];
    (status, kind, body.to_string()).into_response()
}

/// A refusal of a token endpoint.
pub(super) fn oauth(status: u16, error: &str, description: &str) -> Response {
    let body = json!({"error": error, "error_description": description});
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST);
    reply(status, &body)
}

/// What the platform says when a fault makes it refuse with this status.
pub(super) fn refuse(status: u16, retry_after_s: Option<u64>) -> Response {
    let problem = match status {
        429 => {
            let wait = retry_after_s.and_then(|seconds| i64::try_from(seconds).ok());
            let reset_s = chrono::Utc::now().timestamp() + wait.unwrap_or(WINDOW_S);
            return Problem::too_many(Limits {
                limit: 15,
                remaining: 0,
                reset_s,
            })
            .into_response();
        }
        401 => Problem::unauthorized(),
        402 => Problem::new(
            402,
            "CreditsDepleted",
            "credits",
            "Your credits are depleted.",
        ),
        403 => {
            let detail = "You do not have permission to send messages to this user. \
                          You cannot send messages to this user.";
            Problem::new(403, "Forbidden", "about:blank", detail)
        }
        404 => Problem::not_found("user"),
        // The proxy in front answers, and it does not speak JSON.
        502 => {
            let page = "<html><head><title>502 Bad Gateway</title></head></html>";
            return (StatusCode::BAD_GATEWAY, Html(page)).into_response();
        }
        500.. => Problem::new(
            status,
            "Service Unavailable",
            "about:blank",
            "Over capacity",
        ),
        _ => Problem::new(
            status,
            "Invalid Request",
            "invalid-request",
            "Invalid request",
        ),
    };
    problem.into_response()
}

fn set(answer: &mut Response, name: &'static str, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        answer
            .headers_mut()
            .insert(HeaderName::from_static(name), value);
    }
}
