//! What Meta's products share: the webhook handshake and signature, Graph URLs, and how Graph says
//! that a call failed.
//!
//! Graph answers most failures with HTTP 400 whatever the class, so the code decides first, then
//! the subcode, then the status. An answer with a Graph error means the call was not carried out; a
//! server error without one (a proxy's page) leaves that open.

pub mod sweep;

use std::time::Duration;

use chrono::DateTime;
use serde_json::Value;

use super::http::{HttpResponse, TransportError};
use super::{App, Handshake, Headers, Refused, SendOutcome, wire};
use crate::secret::Secret;
use crate::signature;

/// The longest wait taken from an answer. The platform's windows are a day at most.
const WAIT_S_MAX: u64 = 24 * 3600;

/// Answers the GET that verifies a webhook subscription.
pub fn handshake(app: &App, query: &[(String, String)]) -> Handshake {
    let value = |name: &str| {
        let found = query.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str())
    };
    let token = value("hub.verify_token");
    let known = signature::shared_secret(token, &app.verify_token, &Secret::default());
    match value("hub.challenge") {
        Some(challenge) if known && value("hub.mode") == Some("subscribe") => {
            Handshake::Answer(challenge.to_owned())
        }
        _ => Handshake::Refused,
    }
}

/// Checks the signature of a webhook. Meta's legacy SHA-1 header is never looked at.
pub fn verify(app: &App, headers: &Headers, raw: &[u8]) -> Result<(), Refused> {
    let header = wire::single_header(headers, "x-hub-signature-256");
    let authentic = signature::meta(header, raw, &app.client_secret, &app.client_secret_previous);
    authentic.then_some(()).ok_or(Refused::Signature)
}

/// A Graph URL with these query parameters.
pub fn url(app: &App, path: &str, query: &[(&str, &str)]) -> String {
    let query = url::form_urlencoded::Serializer::new(String::new())
        .extend_pairs(query)
        .finish();
    format!("{}/{}/{path}?{query}", app.api_base, app.api_version)
}

/// A Graph URL called with this token: with the token and its proof in the query.
pub fn url_as(app: &App, token: &Secret, path: &str, query: &[(&str, &str)]) -> String {
    let proof = proof(app, token);
    let mut query = query.to_vec();
    query.push(("access_token", token.expose()));
    query.push(("appsecret_proof", &proof));
    url(app, path, &query)
}

/// The `appsecret_proof` of this token.
pub fn proof(app: &App, token: &Secret) -> String {
    signature::appsecret_proof(app.client_secret.expose(), token.expose())
}

/// A failure in Graph's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GraphError {
    /// The class-giving number.
    pub code: i64,
    /// The refinement of the code, 0 when absent.
    pub subcode: i64,
    /// Graph says that trying again may help.
    pub transient: bool,
    /// For operators: numbers, message and trace id, without tokens.
    pub reason: String,
}

impl GraphError {
    /// Reads the error out of an answer, when there is one.
    pub fn read(answer: &HttpResponse) -> Option<Self> {
        let body = answer.json();
        let error = &body["error"];
        let code = wire::int(&error["code"])?;
        let subcode = wire::int(&error["error_subcode"]).unwrap_or_default();
        let message = wire::reason(error["message"].as_str().unwrap_or_default());
        let trace = error["fbtrace_id"].as_str().unwrap_or_default();
        Some(Self {
            code,
            subcode,
            transient: error["is_transient"] == Value::Bool(true),
            reason: format!(
                "Graph error {code}/{subcode}: {message} ({})",
                wire::reason(trace)
            ),
        })
    }

    /// True when either number is this one: some appear as both.
    pub fn is(&self, number: i64) -> bool {
        self.code == number || self.subcode == number
    }
}

/// What a Graph error means for the call that met it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Too many calls: wait as long as the usage headers say.
    Throttled,
    /// Temporary trouble.
    Backoff,
    /// The authorisation is gone.
    Reconnect,
    /// The reply window is closed.
    OutsideWindow,
    /// Will never work.
    Permanent,
}

/// The class by codes that mean the same everywhere at Meta, else by HTTP status.
pub fn class(error: &GraphError, status: u16) -> Class {
    match error.code {
        4 | 17 | 32 | 613 | 80_000..=80_099 => Class::Throttled,
        190 | 102 | 10 | 200 | 230 | 3 | 298 => Class::Reconnect,
        1 | 2 => Class::Backoff,
        _ if error.transient => Class::Backoff,
        100 => Class::Permanent,
        _ => match status {
            429 => Class::Throttled,
            401 => Class::Reconnect,
            500.. => Class::Backoff,
            _ => Class::Permanent,
        },
    }
}

/// How long Meta asks to stay away. `Retry-After` is exact and wins where there is one (normally
/// there is none); the usage header only knows whole minutes, of which the longest counts.
pub fn wait(answer: &HttpResponse) -> Option<Duration> {
    let usage: Value = answer
        .header("x-business-use-case-usage")
        .and_then(|usage| serde_json::from_str(usage).ok())
        .unwrap_or_default();
    let minutes = usage
        .as_object()
        .into_iter()
        .flat_map(|usage| usage.values())
        .flat_map(wire::items)
        .filter_map(|usage| wire::count(&usage["estimated_time_to_regain_access"]));
    let seconds = minutes.map(|minutes| minutes.saturating_mul(60));
    let asked = wire::retry_after_s(answer).or_else(|| seconds.max())?;
    (asked > 0).then(|| Duration::from_secs(asked.min(WAIT_S_MAX)))
}

/// A time in Graph's own format: the offset without a colon, which is not RFC 3339.
pub fn time_ms(value: &Value) -> Option<i64> {
    let time = DateTime::parse_from_str(value.as_str()?, "%Y-%m-%dT%H:%M:%S%z").ok()?;
    Some(time.timestamp_millis()).filter(wire::is_time_ms)
}

/// What the answer to a send means. `accepted` finds the message id in a success, `special` knows
/// the product's own codes and goes before [`class`].
pub fn send_outcome(
    answer: &Result<HttpResponse, TransportError>,
    accepted: fn(&Value) -> Option<String>,
    special: fn(&GraphError) -> Option<Class>,
) -> SendOutcome {
    let answer = match answer {
        Ok(answer) => answer,
        Err(TransportError::NotSent) => {
            return SendOutcome::Backoff {
                reason: "Graph could not be reached".into(),
            };
        }
        Err(TransportError::Unclear) => {
            return SendOutcome::Unclear {
                reason: "the connection broke before an answer".into(),
            };
        }
    };
    if let Some(error) = GraphError::read(answer) {
        let class = special(&error).unwrap_or_else(|| class(&error, answer.status));
        return outcome(class, answer, error.reason);
    }
    let reason = format!("HTTP {} without a Graph answer", answer.status);
    match answer.status {
        200..=299 => match accepted(&answer.json()) {
            Some(platform_message_id) => SendOutcome::Sent {
                platform_message_id,
            },
            None => SendOutcome::Unclear { reason },
        },
        429 => outcome(Class::Throttled, answer, reason),
        // 408 tells that somebody in between gave up waiting, not what happened behind.
        400..=499 if answer.status != 408 => SendOutcome::Backoff { reason },
        _ => SendOutcome::Unclear { reason },
    }
}

fn outcome(class: Class, answer: &HttpResponse, reason: String) -> SendOutcome {
    match class {
        Class::Throttled => match wait(answer) {
            Some(wait) => SendOutcome::RetryAfter { wait, reason },
            None => SendOutcome::Backoff { reason },
        },
        Class::Backoff => SendOutcome::Backoff { reason },
        Class::Reconnect => SendOutcome::Reconnect { reason },
        Class::OutsideWindow => SendOutcome::OutsideWindow { reason },
        Class::Permanent => SendOutcome::Permanent { reason },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(mode: &str, token: &str) -> Vec<(String, String)> {
        vec![
            ("hub.mode".into(), mode.into()),
            ("hub.challenge".into(), "1158201444".into()),
            ("hub.verify_token".into(), token.into()),
        ]
    }

    #[test]
    fn the_handshake_answers_the_challenge_to_whoever_knows_the_token() {
        let app = App {
            verify_token: "ours".into(),
            ..App::default()
        };
        let answer = Handshake::Answer("1158201444".into());
        assert_eq!(handshake(&app, &query("subscribe", "ours")), answer);
        assert_eq!(
            handshake(&app, &query("subscribe", "Ours")),
            Handshake::Refused
        );
        assert_eq!(
            handshake(&app, &query("unsubscribe", "ours")),
            Handshake::Refused
        );
        assert_eq!(
            handshake(&app, &query("subscribe", "ours")[2..]),
            Handshake::Refused
        );
        assert_eq!(
            handshake(&App::default(), &query("subscribe", "")),
            Handshake::Refused
        );
    }
}
