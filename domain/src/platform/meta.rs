//! What Meta's products share: the webhook handshake and signature, Graph URLs, and how Graph says
//! that a call failed. The webhooks of Messenger and Instagram are in `messaging.rs`, their
//! attachments in `attachment.rs`, connecting through a person's Pages in `pages.rs`.
//!
//! Graph answers most failures with HTTP 400 whatever the class, so the code decides first, then
//! the subcode, then the status. An answer with a Graph error means the call was not carried out; a
//! server error without one (a proxy's page) leaves that open.

pub mod attachment;
pub mod history;
pub mod messaging;
pub mod pages;
pub mod sweep;

use std::time::Duration;

use chrono::DateTime;
use serde_json::Value;

use super::call::{CallFailure, Tokens};
use super::http::{HttpRequest, HttpResponse, Part, TransportError};
use super::media::upload::Medium;
use super::{App, Credentials, Handshake, Headers, Refused, SendOutcome, outcome, wire};
use crate::secret::Secret;
use crate::signature::{self, SignedRequest, SignedRequestRefused};

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

/// What Meta posts when somebody leaves. Instagram's own login signs it with the Instagram app's
/// secret, or with the Meta app's: the second one is configured as the secret before.
pub fn signed_request(app: &App, value: &str) -> Result<SignedRequest, SignedRequestRefused> {
    signature::signed_request(value, &app.client_secret, &app.client_secret_previous)
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

/// Posts JSON in an account's name: the token as bearer, its proof in the query.
pub fn post_json(app: &App, credentials: &Credentials, path: &str, body: &Value) -> HttpRequest {
    let proof = proof(app, &credentials.access_token);
    HttpRequest::post_json(url(app, path, &[("appsecret_proof", &proof)]), body)
        .bearer(credentials.access_token.expose())
}

/// The same with a body of parts.
pub fn post_parts(
    app: &App,
    credentials: &Credentials,
    path: &str,
    parts: &[Part<'_>],
) -> HttpRequest {
    let proof = proof(app, &credentials.access_token);
    let url = url(app, path, &[("appsecret_proof", &proof)]);
    HttpRequest::post_multipart(url, &proof, parts).bearer(credentials.access_token.expose())
}

/// A medium as a part of such a body.
pub fn file<'a>(name: &'static str, medium: &'a Medium) -> Part<'a> {
    Part {
        name,
        file_name: Some(&medium.name),
        content_type: Some(&medium.content_type),
        bytes: &medium.bytes,
    }
}

/// Asks for these fields of a person's profile. Only a scoped id has one.
pub fn profile(
    app: &App,
    credentials: &Credentials,
    person: &str,
    fields: &str,
) -> Option<HttpRequest> {
    if person.is_empty() || !person.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let url = url_as(
        app,
        &credentials.access_token,
        person,
        &[("fields", fields)],
    );
    Some(HttpRequest::get(url))
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
    /// Too many calls of a kind the headers say nothing about: wait this long.
    Later(Duration),
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

/// Long-lived tokens live sixty days and can be exchanged for new ones once they are a day old; one
/// that has expired cannot. A week leaves time for somebody to notice that it does not work.
pub const RENEWAL_MARGIN: Duration = Duration::from_secs(7 * 24 * 3600);

/// How long after their last word a person can be answered freely, in all of Meta's products.
pub const REPLY_WINDOW: Duration = Duration::from_secs(24 * 3600);

/// The call that exchanges a token of a person for one that lives sixty days from now.
pub fn exchange(app: &App, token: &Secret) -> HttpRequest {
    let query = [
        ("grant_type", "fb_exchange_token"),
        ("fb_exchange_token", token.expose()),
        ("client_id", app.client_id.as_str()),
        ("client_secret", app.client_secret.expose()),
    ];
    HttpRequest::get(url(app, "oauth/access_token", &query))
}

/// The token in the answer to [`exchange`].
pub fn exchanged(answer: &Result<HttpResponse, TransportError>) -> Result<Tokens, CallFailure> {
    let backoff = |reason: String| Err(CallFailure::Backoff { reason });
    let Ok(answer) = answer else {
        return backoff("Graph did not answer".into());
    };
    let reason = format!("HTTP {} without a Graph answer", answer.status);
    if let Some(error) = GraphError::read(answer) {
        let (class, reason) = (class(&error, answer.status), error.reason);
        return Err(match (class, wait(answer)) {
            (Class::Later(wait), _) | (Class::Throttled, Some(wait)) => {
                CallFailure::RetryAfter { wait, reason }
            }
            (Class::Throttled | Class::Backoff, _) => CallFailure::Backoff { reason },
            // Whatever else Graph has against a token, only its person can get another.
            (Class::Reconnect | Class::OutsideWindow | Class::Permanent, _) => {
                CallFailure::Reconnect { reason }
            }
        });
    }
    let body = answer.json();
    match wire::filled(&body["access_token"]) {
        Some(token) if answer.is_success() => Ok(Tokens {
            access_token: Secret::new(token),
            refresh_token: None,
            expires_in_s: wire::count(&body["expires_in"]).filter(|seconds| *seconds > 0),
            granted: None,
        }),
        _ => backoff(reason),
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
    outcome::wait(wire::retry_after_s(answer).or_else(|| seconds.max()))
}

/// A time in Graph's own format: the offset without a colon, which is not RFC 3339. Some of its
/// documents have that too, or seconds since the epoch.
pub fn time_ms(value: &Value) -> Option<i64> {
    let read = |text| {
        DateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%#z")
            .or_else(|_| DateTime::parse_from_rfc3339(text))
    };
    match value.as_str().map(read) {
        Some(Ok(time)) => Some(time.timestamp_millis()).filter(wire::is_time_ms),
        _ => wire::time_ms(value),
    }
}

/// What the answer to a send means. `accepted` finds the message id in a success, `special` knows
/// the product's own codes and goes before [`class`].
pub fn send_outcome(
    answer: &Result<HttpResponse, TransportError>,
    accepted: fn(&Value) -> Option<String>,
    special: fn(&GraphError) -> Option<Class>,
) -> SendOutcome {
    outcome::of("Graph", answer, |answer| {
        if let Some(error) = GraphError::read(answer) {
            let class = special(&error).unwrap_or_else(|| class(&error, answer.status));
            return Some(refused(class, answer, error.reason));
        }
        match answer.status {
            200..=299 => accepted(&answer.json()).map(|platform_message_id| SendOutcome::Sent {
                platform_message_id,
            }),
            429 => {
                let reason = "HTTP 429 without a Graph answer".to_owned();
                Some(refused(Class::Throttled, answer, reason))
            }
            _ => None,
        }
    })
}

fn refused(class: Class, answer: &HttpResponse, reason: String) -> SendOutcome {
    match class {
        Class::Throttled => match wait(answer) {
            Some(wait) => SendOutcome::RetryAfter { wait, reason },
            None => SendOutcome::Backoff { reason },
        },
        Class::Later(least) => SendOutcome::RetryAfter {
            wait: wait(answer).map_or(least, |asked| asked.max(least)),
            reason,
        },
        Class::Backoff => SendOutcome::Backoff { reason },
        Class::Reconnect => SendOutcome::Reconnect { reason },
        Class::OutsideWindow => SendOutcome::OutsideWindow { reason },
        Class::Permanent => SendOutcome::Permanent { reason },
    }
}

/// How a call that is no send failed; `None` for a success.
pub fn call_failure(answer: &Result<HttpResponse, TransportError>) -> Option<CallFailure> {
    call_failure_of(answer, |_| None)
}

/// The same for a product with codes of its own, which go before [`class`].
pub fn call_failure_of(
    answer: &Result<HttpResponse, TransportError>,
    special: fn(&GraphError) -> Option<Class>,
) -> Option<CallFailure> {
    let answer = match answer {
        Ok(answer) => answer,
        Err(_) => {
            let reason = "Graph could not be reached".to_owned();
            return Some(CallFailure::Backoff { reason });
        }
    };
    let Some(error) = GraphError::read(answer) else {
        let reason = format!("HTTP {} without a Graph answer", answer.status);
        return (!answer.is_success()).then_some(CallFailure::Backoff { reason });
    };
    let reason = error.reason.clone();
    let class = special(&error).unwrap_or_else(|| class(&error, answer.status));
    Some(match class {
        Class::Throttled | Class::Later(_) => match wait(answer) {
            Some(wait) => CallFailure::RetryAfter { wait, reason },
            None => CallFailure::Backoff { reason },
        },
        Class::Backoff => CallFailure::Backoff { reason },
        Class::Reconnect => CallFailure::Reconnect { reason },
        Class::OutsideWindow | Class::Permanent => CallFailure::Permanent { reason },
    })
}

/// A refusal in Graph's words, for the tests of all its products.
#[cfg(test)]
pub fn failure(status: u16, code: i64, subcode: i64) -> Result<HttpResponse, TransportError> {
    let error = serde_json::json!({"message": "(#0) said", "type": "OAuthException", "code": code,
        "error_subcode": subcode, "is_transient": false, "error_data": "details",
        "fbtrace_id": "Abc"});
    Ok(HttpResponse {
        status,
        headers: Vec::new(),
        body: serde_json::json!({ "error": error })
            .to_string()
            .into_bytes(),
    })
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
    fn a_token_is_exchanged_for_a_longer_one() {
        let app = App {
            client_id: "8451".into(),
            client_secret: "sec".into(),
            api_base: "https://graph.example".into(),
            api_version: "v26.0".into(),
            ..App::default()
        };
        assert_eq!(
            exchange(&app, &"old".into()).url,
            "https://graph.example/v26.0/oauth/access_token?grant_type=fb_exchange_token\
             &fb_exchange_token=old&client_id=8451&client_secret=sec"
        );
        let answer = |status, body: &str| {
            exchanged(&Ok(HttpResponse {
                status,
                headers: Vec::new(),
                body: body.into(),
            }))
        };
        let new = answer(200, r#"{"access_token":"new","expires_in":5184000}"#).unwrap();
        assert_eq!(
            (new.access_token.expose(), new.expires_in_s),
            ("new", Some(5_184_000))
        );
        let endless = answer(200, r#"{"access_token":"new"}"#).unwrap();
        assert_eq!(endless.expires_in_s, None);
        for (status, body, expected) in [
            (400, r#"{"error":{"code":190,"error_subcode":463}}"#, "gone"),
            (400, r#"{"error":{"code":100}}"#, "gone"),
            (400, r#"{"error":{"code":4}}"#, "later"),
            (500, r#"{"error":{"code":2}}"#, "later"),
            (502, "<html>", "later"),
            (200, "{}", "later"),
        ] {
            let is_gone = match answer(status, body).unwrap_err() {
                CallFailure::Reconnect { .. } => "gone",
                CallFailure::Permanent { .. } => "the operator's",
                CallFailure::Backoff { .. } | CallFailure::RetryAfter { .. } => "later",
            };
            assert_eq!(is_gone, expected, "{status} {body}");
        }
        assert!(matches!(
            exchanged(&Err(TransportError::Unclear)),
            Err(CallFailure::Backoff { .. })
        ));
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
