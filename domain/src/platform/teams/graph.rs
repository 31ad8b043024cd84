//! What all calls of Microsoft Graph share: addresses, times, and how Graph says that it failed.
//!
//! Graph's `error.code` is loosely typed and its message is for people, so the status decides and
//! the words only refine a 403. An answer with Graph's error object means that the call was not
//! carried out; one without it (a gateway's page) leaves that open.

use std::time::Duration;

use chrono::{DateTime, NaiveDateTime, Utc};
use serde_json::Value;

use crate::platform::call::CallFailure;
use crate::platform::http::{HttpRequest, HttpResponse, TransportError};
use crate::platform::media::is_same_origin;
use crate::platform::{App, Credentials, outcome, wire};

/// A Graph address. The path's variable parts must be escaped already.
pub fn url(app: &App, path: &str) -> String {
    format!("{}/{}/{path}", app.api_base, app.api_version)
}

/// An id as a part of a path: chat ids have colons and at signs in them.
pub fn part(id: &str) -> String {
    // Ids have no spaces, the only thing that forms escape in their own way.
    url::form_urlencoded::byte_serialize(id.as_bytes()).collect()
}

/// A GET with the account's token, of kinds of messages this code was not told about too.
pub fn get(credentials: &Credentials, url: String) -> HttpRequest {
    HttpRequest::get(url)
        .bearer(credentials.access_token.expose())
        .header("prefer", "include-unknown-enum-members")
}

/// True for an address that Graph gave out and that leads to Graph: only there may a token go.
pub fn is_ours(app: &App, link: &str) -> bool {
    is_same_origin(link, &app.api_base)
}

/// A time in ISO 8601 with up to nine digits of a second; some samples lack the zone, which is UTC.
pub fn time(value: &Value) -> Option<DateTime<Utc>> {
    let text = value.as_str()?;
    let time = DateTime::parse_from_rfc3339(text)
        .map(|time| time.to_utc())
        .or_else(|_| {
            NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%.f").map(|time| time.and_utc())
        });
    // The year 1 is how Graph says "from the beginning".
    time.ok()
        .filter(|time| wire::is_time_ms(&time.timestamp_millis()))
}

/// The same in milliseconds since the epoch.
pub fn time_ms(value: &Value) -> Option<i64> {
    time(value).map(|time| time.timestamp_millis())
}

/// What Graph's error object says, for operators.
pub fn said(answer: &HttpResponse) -> Option<String> {
    let body = answer.json();
    let error = &body["error"];
    if !error.is_object() {
        return None;
    }
    let code = wire::id(&error["code"]).unwrap_or_default();
    let message = wire::reason(error["message"].as_str().unwrap_or_default());
    let inner = &error["innerError"];
    let id = wire::id(&inner["request-id"]).unwrap_or_default();
    Some(format!(
        "Graph {} {}: {message} ({})",
        answer.status,
        wire::reason(&code),
        id.chars().take(36).collect::<String>()
    ))
}

/// How long Graph asks to stay away.
pub fn wait(answer: &HttpResponse) -> Option<Duration> {
    outcome::wait(wire::retry_after_s(answer))
}

/// What a 403 is about: the chat (somebody who is not in it), or the whole authorisation.
pub fn is_about_the_chat(answer: &HttpResponse) -> bool {
    let body = answer.json();
    let said = body["error"]["message"]
        .as_str()
        .unwrap_or_default()
        .to_lowercase();
    ["roster", "not a member", "member of the", "blocked"]
        .iter()
        .any(|word| said.contains(word))
}

/// The body of a successful call that changes nothing, or how it failed.
pub fn success(
    answer: &Result<HttpResponse, TransportError>,
) -> Result<&HttpResponse, CallFailure> {
    let answer = answer.as_ref().map_err(|_| CallFailure::Backoff {
        reason: "Graph did not answer".to_owned(),
    })?;
    if answer.is_success() {
        return Ok(answer);
    }
    let status = answer.status;
    let reason = said(answer).unwrap_or_else(|| format!("HTTP {status} without a Graph answer"));
    Err(match status {
        401 => CallFailure::Reconnect { reason },
        403 if is_about_the_chat(answer) => CallFailure::Permanent { reason },
        403 if said(answer).is_some() => CallFailure::Reconnect { reason },
        400 | 404 | 405 | 410 | 413 | 415 => CallFailure::Permanent { reason },
        _ => match wait(answer) {
            Some(wait) => CallFailure::RetryAfter { wait, reason },
            None => CallFailure::Backoff { reason },
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn times_of_every_length() {
        for text in [
            "2026-10-05T12:00:10Z",
            "2026-10-05T12:00:10.000Z",
            "2026-10-05T12:00:10.0000000Z",
            "2026-10-05T04:00:10.0000000-08:00",
            "2026-10-05T12:00:10",
            "2026-10-05T12:00:10.0000000",
        ] {
            assert_eq!(time_ms(&json!(text)), Some(1_791_201_610_000), "{text}");
        }
        for odd in [
            json!("0001-01-01T00:00:00Z"),
            json!("soon"),
            json!(null),
            json!(7),
        ] {
            assert_eq!(time_ms(&odd), None);
        }
    }

    #[test]
    fn a_token_goes_to_graph_alone() {
        let app = App {
            api_base: "https://graph.example".into(),
            ..App::default()
        };
        assert!(is_ours(&app, "https://graph.example/v1.0/x?$skiptoken=1"));
        for elsewhere in [
            "https://graph.example.evil.example/v1.0",
            "http://graph.example/v1.0",
            "https://graph.example:8443/v1.0",
            "https://x@evil.example/graph.example",
            "/v1.0/me",
            "",
        ] {
            assert!(!is_ours(&app, elsewhere), "{elsewhere}");
        }
        assert!(!is_ours(&App::default(), ""));
        assert_eq!(part("19:a_b@unq.gbl.spaces"), "19%3Aa_b%40unq.gbl.spaces");
    }

    #[test]
    fn failures_of_calls_that_change_nothing() {
        let failed = |status: u16, body: &str| {
            let answer = HttpResponse {
                status,
                headers: vec![("retry-after".into(), "7".into())],
                body: body.as_bytes().to_vec(),
            };
            success(&Ok(answer)).unwrap_err()
        };
        let error = |message: &str| json!({"error": {"code": "X", "message": message}}).to_string();
        assert!(matches!(
            failed(401, &error("token")),
            CallFailure::Reconnect { .. }
        ));
        assert!(matches!(
            failed(403, &error("Missing scope permissions")),
            CallFailure::Reconnect { .. }
        ));
        assert!(matches!(
            failed(403, &error("The user is not in roster")),
            CallFailure::Permanent { .. }
        ));
        assert!(matches!(failed(404, ""), CallFailure::Permanent { .. }));
        assert!(matches!(
            failed(429, ""),
            CallFailure::RetryAfter { wait, .. } if wait.as_secs() == 7
        ));
        assert!(matches!(failed(503, ""), CallFailure::RetryAfter { .. }));
        assert!(matches!(
            success(&Err(TransportError::Unclear)),
            Err(CallFailure::Backoff { .. })
        ));
    }
}
