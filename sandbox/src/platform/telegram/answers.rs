//! How the Bot API answers: success, and every refusal in its own words.

use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use serde_json::{Value, json};

use crate::platform::graph::ascii;

/// The seconds a 429 asks for when the fault does not say.
const RETRY_AFTER_DEFAULT_S: u64 = 3;

/// Success.
pub(super) fn ok(result: &Value) -> Response {
    reply(StatusCode::OK, &json!({"ok": true, "result": result}))
}

/// Success with a remark.
pub(super) fn done(description: &str) -> Response {
    let body = json!({"ok": true, "result": true, "description": description});
    reply(StatusCode::OK, &body)
}

/// A refusal; the HTTP status equals the error code.
pub(super) fn problem(code: u16, description: &str) -> Response {
    let status = StatusCode::from_u16(code).unwrap_or(StatusCode::BAD_REQUEST);
    let body = json!({"ok": false, "error_code": code, "description": description});
    reply(status, &body)
}

/// A request the platform cannot follow.
pub(super) fn bad_request(what: &str) -> Response {
    problem(400, &format!("Bad Request: {what}"))
}

/// What the platform says when a fault makes it refuse with this status.
pub(super) fn refuse(status: u16, retry_after_s: Option<u64>) -> Response {
    match status {
        429 => too_many(retry_after_s.unwrap_or(RETRY_AFTER_DEFAULT_S)),
        400 => bad_request("chat not found"),
        401 => problem(401, "Unauthorized"),
        403 => problem(403, "Forbidden: bot was blocked by the user"),
        404 => problem(404, "Not Found"),
        409 => problem(409, "Conflict: terminated by other getUpdates request"),
        500 => problem(500, "Internal Server Error"),
        // The proxy in front answers, and it does not speak JSON.
        502 => {
            let page = "<html><head><title>502 Bad Gateway</title></head>\
                        <body><h1>502 Bad Gateway</h1></body></html>";
            (StatusCode::BAD_GATEWAY, Html(page)).into_response()
        }
        other => {
            let known = StatusCode::from_u16(other)
                .ok()
                .and_then(|it| it.canonical_reason());
            problem(other, known.unwrap_or("Error"))
        }
    }
}

fn too_many(seconds: u64) -> Response {
    let body = json!({
        "ok": false,
        "error_code": 429,
        "description": format!("Too Many Requests: retry after {seconds}"),
        "parameters": {"retry_after": seconds},
    });
    let mut answer = reply(StatusCode::TOO_MANY_REQUESTS, &body);
    answer
        .headers_mut()
        .insert(header::RETRY_AFTER, seconds.into());
    answer
}

fn reply(status: StatusCode, body: &Value) -> Response {
    let kind = [(header::CONTENT_TYPE, "application/json")];
    (status, kind, ascii(&body.to_string())).into_response()
}
