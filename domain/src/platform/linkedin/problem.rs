//! How LinkedIn says that a call failed, and what that means.
//!
//! The API answers `{"status","serviceErrorCode","code","message"}`, the OAuth endpoints
//! `{"error","error_description"}`. Throttling comes without a header: limits are counted by the
//! day, and the day is UTC's.

use std::time::Duration;

use chrono::{DateTime, Timelike as _};
use serde_json::Value;

use crate::platform::call::CallFailure;
use crate::platform::http::{HttpResponse, TransportError};
pub use crate::platform::outcome::Class;
use crate::platform::{oauth, outcome, wire};

/// The wait after a throttle that is not the day's.
const PAUSE: Duration = Duration::from_secs(5 * 60);

/// The wait after the day's limit when the answer does not tell the time.
const LONG_PAUSE: Duration = Duration::from_secs(3600);

const DAY_S: u32 = 24 * 3600;

/// What was asked: the same status means different things.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// A comment.
    Send,
    /// What happens to organizations: subscriptions and what was missed.
    Organization,
    /// The change log, which is not there before the member's consent has taken effect.
    Changelog,
    /// The token endpoint with a refresh token.
    Token,
}

/// A failure in LinkedIn's words.
#[derive(Debug, PartialEq, Eq)]
pub struct Problem {
    status: u16,
    service_code: i64,
    words: String,
    /// For operators: numbers and LinkedIn's words, without tokens.
    pub reason: String,
}

impl Problem {
    /// Reads the problem out of an answer, when there is one.
    pub fn read(answer: &HttpResponse) -> Option<Self> {
        if answer.is_success() {
            return None;
        }
        let body = answer.json();
        let fields = ["code", "message", "error", "error_description"];
        let words: Vec<&str> = fields
            .iter()
            .filter_map(|name| body[*name].as_str())
            .collect();
        let service_code = wire::int(&body["serviceErrorCode"]).unwrap_or_default();
        if words.is_empty() && service_code == 0 {
            return None;
        }
        let said = words.join(": ");
        Some(Self {
            status: answer.status,
            service_code,
            reason: format!(
                "LinkedIn error {}/{service_code}: {}",
                answer.status,
                wire::reason(&said)
            ),
            words: said,
        })
    }

    /// The class of a problem.
    pub fn class(&self, asked: Asked, answer: &HttpResponse) -> Class {
        if asked == Asked::Token && matches!(self.status, 400 | 401) {
            return oauth::refused(&self.words);
        }
        match (self.status, self.service_code) {
            (429, _) => Class::Wait(wait(&self.words, answer)),
            (401, _) | (_, 65_600..=65_604) => Class::Reconnect,
            (404, _) if asked == Asked::Changelog => Class::Backoff,
            (500.., _) => Class::Backoff,
            _ => Class::Permanent,
        }
    }
}

/// Until the day is over where the day's limit was met, else a short pause.
pub fn wait(words: &str, answer: &HttpResponse) -> Duration {
    if let Some(wait) = outcome::wait(wire::retry_after_s(answer)) {
        return wait;
    }
    if !words.to_lowercase().contains("day") {
        return PAUSE;
    }
    let now = answer
        .header("date")
        .and_then(|date| DateTime::parse_from_rfc2822(date).ok());
    now.map_or(LONG_PAUSE, |now| {
        let passed = now.to_utc().num_seconds_from_midnight();
        Duration::from_secs(u64::from(DAY_S - passed.min(DAY_S - 1)))
    })
}

/// The body of a call that changes nothing, or why there is none.
pub fn checked(
    answer: &Result<HttpResponse, TransportError>,
    asked: Asked,
) -> Result<Value, CallFailure> {
    let said = |answer: &HttpResponse| {
        let problem = Problem::read(answer)?;
        Some((problem.class(asked, answer), problem.reason))
    };
    outcome::checked("LinkedIn", answer, said, |answer| wait("", answer))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn answer(status: u16, headers: &[(&str, &str)], body: &Value) -> HttpResponse {
        HttpResponse {
            status,
            headers: headers
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
            body: body.to_string().into_bytes(),
        }
    }

    #[test]
    fn classes_of_the_document() {
        let body = |code: i64, name: &str| json!({"status": 0, "serviceErrorCode": code, "code": name, "message": "m"});
        for (asked, status, body, expected) in [
            (Asked::Send, 500, body(0, "INTERNAL"), Class::Backoff),
            (Asked::Send, 503, body(0, "BUSY"), Class::Backoff),
            (
                Asked::Send,
                401,
                body(65_600, "INVALID_ACCESS_TOKEN"),
                Class::Reconnect,
            ),
            (
                Asked::Send,
                401,
                body(65_601, "REVOKED_ACCESS_TOKEN"),
                Class::Reconnect,
            ),
            (
                Asked::Changelog,
                401,
                body(65_602, "EXPIRED_ACCESS_TOKEN"),
                Class::Reconnect,
            ),
            (
                Asked::Send,
                403,
                body(100, "ACCESS_DENIED"),
                Class::Permanent,
            ),
            (
                Asked::Send,
                400,
                body(0, "NONEXISTENT_VERSION"),
                Class::Permanent,
            ),
            (Asked::Send, 422, body(0, "FIELD"), Class::Permanent),
            (Asked::Send, 404, body(0, "NOT_FOUND"), Class::Permanent),
            (Asked::Changelog, 404, body(0, "NOT_FOUND"), Class::Backoff),
            (Asked::Send, 409, body(0, "DUPLICATE"), Class::Permanent),
            (Asked::Send, 426, body(0, "VERSION"), Class::Permanent),
            (
                Asked::Send,
                429,
                body(0, "TOO_MANY_REQUESTS"),
                Class::Wait(PAUSE),
            ),
        ] {
            let answer = answer(status, &[], &body);
            let problem = Problem::read(&answer).unwrap();
            assert_eq!(problem.class(asked, &answer), expected, "{status} {body}");
        }
        assert_eq!(Problem::read(&answer(502, &[], &json!("<html>"))), None);
    }

    #[test]
    fn the_limit_of_the_day_ends_at_midnight() {
        let words =
            "Resource level throttle APPLICATION DAY limit for calls to this resource is reached.";
        let evening = ("date", "Mon, 05 Oct 2026 23:00:00 GMT");
        let at = |headers: &[(&str, &str)]| wait(words, &answer(429, headers, &json!({})));
        assert_eq!(at(&[evening]), Duration::from_secs(3600));
        assert_eq!(
            at(&[("date", "Mon, 05 Oct 2026 00:00:00 GMT")]),
            Duration::from_secs(86_400)
        );
        assert_eq!(at(&[]), LONG_PAUSE);
        assert_eq!(at(&[evening, ("retry-after", "9")]), Duration::from_secs(9));
    }
}
