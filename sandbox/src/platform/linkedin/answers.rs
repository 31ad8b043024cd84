//! How LinkedIn answers: success, numbered errors, and the words of its token endpoints.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use serde_json::{Value, json};

/// A refusal with LinkedIn's numbers.
pub(super) struct Refusal {
    status: u16,
    service_code: u32,
    code: &'static str,
    message: String,
}

/// An answer, or the platform's refusal.
pub(super) type Answer = Result<Response, Refusal>;

impl Refusal {
    fn new(status: u16, service_code: u32, code: &'static str, message: &str) -> Self {
        Self {
            status,
            service_code,
            code,
            message: message.to_owned(),
        }
    }

    pub(super) fn revoked() -> Self {
        let words = "The token used in the request has been revoked by the user";
        Self::new(401, 65_601, "REVOKED_ACCESS_TOKEN", words)
    }

    pub(super) fn expired() -> Self {
        let words = "The token used in the request has expired";
        Self::new(401, 65_602, "EXPIRED_ACCESS_TOKEN", words)
    }

    pub(super) fn unknown_token() -> Self {
        Self::new(401, 65_600, "INVALID_ACCESS_TOKEN", "Invalid access token")
    }

    pub(super) fn denied() -> Self {
        let words = "Not enough permissions to access this resource";
        Self::new(403, 100, "ACCESS_DENIED", words)
    }

    pub(super) fn not_found() -> Self {
        Self::new(404, 0, "NOT_FOUND", "Could not find entity")
    }

    pub(super) fn invalid(message: &str) -> Self {
        Self::new(400, 0, "ILLEGAL_ARGUMENT", message)
    }

    pub(super) fn version() -> Self {
        let words = "Requested version is not active";
        Self::new(426, 0, "NONEXISTENT_VERSION", words)
    }

    pub(super) fn throttled(whose: &str) -> Self {
        let words =
            format!("Resource level throttle {whose} limit for calls to this resource is reached.");
        Self::new(429, 101, "TOO_MANY_REQUESTS", &words)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut body = json!({"status": self.status, "code": self.code, "message": self.message});
        if self.service_code > 0 {
            body["serviceErrorCode"] = self.service_code.into();
        }
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::BAD_REQUEST);
        reply(status, &body)
    }
}

/// Success.
pub(super) fn ok(body: &Value) -> Response {
    reply(StatusCode::OK, body)
}

/// An answer with this status.
pub(super) fn reply(status: StatusCode, body: &Value) -> Response {
    let kind = [(header::CONTENT_TYPE, "application/json")];
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
    let refusal = match status {
        401 => Refusal::revoked(),
        403 => Refusal::denied(),
        404 => Refusal::not_found(),
        426 => Refusal::version(),
        429 => Refusal::throttled("MEMBER"),
        // The proxy in front answers, and it does not speak JSON.
        502 => {
            let page = "<html><head><title>502 Bad Gateway</title></head></html>";
            return (StatusCode::BAD_GATEWAY, Html(page)).into_response();
        }
        500.. => Refusal::new(status, 0, "INTERNAL_SERVER_ERROR", "Internal Server Error"),
        _ => Refusal::new(status, 0, "ILLEGAL_ARGUMENT", "Invalid request"),
    };
    let mut answer = refusal.into_response();
    // LinkedIn itself never says how long; a test that cannot wait for midnight does.
    if let Some(wait) =
        retry_after_s.and_then(|seconds| HeaderValue::from_str(&seconds.to_string()).ok())
    {
        answer.headers_mut().insert(header::RETRY_AFTER, wait);
    }
    answer
}
